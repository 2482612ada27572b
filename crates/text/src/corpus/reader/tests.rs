use super::*;
use std::io::Write;

fn read(path: &Path, unit: Unit) -> Result<Vec<String>> {
    Reader::new(files(path)?, unit, "text").map(|d| d.map(|d| d.text)).collect()
}

fn fails(path: &Path, part: &str) {
    let e = read(path, Unit::Line).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(e.contains(part) && e.contains(&path.display().to_string()), "{e}");
}

#[test]
fn formats() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let text = "\u{feff}one\r\ntwo words\n\n  \nthree\nfour".as_bytes();
    let plain = write("a.txt", text);
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gz.write_all(text).unwrap();
    let gz = write("b.txt.gz", &gz.finish().unwrap());
    let zst = write("c.txt.zst", &zstd::encode_all(text, 3).unwrap());
    for path in [&plain, &gz, &zst] {
        assert_eq!(read(path, Unit::Line).unwrap(), ["one", "two words", "three", "four"]);
        assert_eq!(read(path, Unit::Paragraph).unwrap(), ["one\r\ntwo words", "three\nfour"]);
        assert_eq!(read(path, Unit::File).unwrap(), ["one\r\ntwo words\n\n  \nthree\nfour"]);
    }
    let jsonl = write("d.jsonl", b"{\"text\": \"a\\nb\", \"n\": 1}\n\n{\"text\": \"c\"}\n");
    assert_eq!(read(&jsonl, Unit::Line).unwrap(), ["a\nb", "c"]);
    let table = write("e.csv", b"id,text\n1,\"x, y\nz\"\n2,w\n");
    assert_eq!(read(&table, Unit::Line).unwrap(), ["x, y\nz", "w"]);
    let table = write("f.tsv", b"text\tid\nx y\t1\n");
    assert_eq!(read(&table, Unit::Line).unwrap(), ["x y"]);
    // In TSV a quote is a character, unless all is quoted; in CSV one inside a cell is too.
    let table = write("g.tsv", b"text\tid\n\"a\t1\nb\"c\t2\n\"d\t3\n");
    assert_eq!(read(&table, Unit::Line).unwrap(), ["\"a", "b\"c", "\"d"]);
    let table = write("h.tsv", b"\"text\"\t\"id\"\n\"a\tb\nc\"\t\"1\"\n");
    assert_eq!(read(&table, Unit::Line).unwrap(), ["a\tb\nc"]);
    let table = write("i.csv", b"text;id\na 5\" disk;1\n\"b\"\"\";2\nc 6\" disk;3\n");
    assert_eq!(read(&table, Unit::Line).unwrap(), ["a 5\" disk", "b\"", "c 6\" disk"]);
    for table in ["g.tsv", "h.tsv", "i.csv"] {
        std::fs::remove_file(dir.path().join(table)).unwrap();
    }
    write("ignored.png", b"x");
    write(".hidden.txt", b"x");
    assert_eq!(read(dir.path(), Unit::Line).unwrap().len(), 12 + 2 + 2 + 1);
    let first = Reader::new(vec![plain.clone()], Unit::Paragraph, "text").nth(1).unwrap().unwrap();
    assert_eq!(first.id, format!("{}:5", plain.display()));
}

#[test]
fn bad_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    fails(&write("empty.txt", b""), "no text in this file");
    fails(&write("blank.txt", b" \n\n"), "no text in this file");
    fails(&write("latin.txt", b"good\nna\xefve\n"), "not UTF-8: byte 7 (0xef, line 2)");
    fails(&write("cut.txt", b"abc\xe2\x82"), "not UTF-8: byte 3");
    fails(
        &write("a.jsonl", b"{\"text\": \"a\"}\n{\"txt\": \"b\"}\n"),
        "line 2: no text under \"text\", the keys are txt",
    );
    fails(&write("b.jsonl", b"{\n"), "line 1: not JSON");
    fails(&write("a.csv", b"id,body\n1,2\n"), "no column \"text\", the columns are id, body");
    fails(&write("b.csv", b"id,text\n1\n"), "line 2: 1 cells");
    fails(&write("c.csv", b"id,text\n1,\"open\n"), "line 2: a quoted cell that does not end");
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gz.write_all("some words\n".repeat(1000).as_bytes()).unwrap();
    let gz = gz.finish().unwrap();
    fails(&write("cut.txt.gz", &gz[..gz.len() / 2]), "cut.txt.gz");
    let folder = dir.path().join("none");
    std::fs::create_dir(&folder).unwrap();
    fails(&folder, "no files of text");
    assert!(files(&dir.path().join("absent")).is_err());
    // The iterator ends after an error.
    let mut reader = Reader::new(vec![dir.path().join("latin.txt")], Unit::Line, "text");
    assert!(
        reader.next().is_some_and(|r| r.is_ok())
            && reader.next().is_some_and(|r| r.is_err())
            && reader.next().is_none()
    );
}

/// A line of 10 MB is one document; one of more than 64 MiB is refused with its number, without being
/// read whole.
#[test]
fn long_lines() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("long.txt");
    std::fs::write(&path, "word ".repeat(2_000_000)).unwrap();
    assert_eq!(read(&path, Unit::Line).unwrap()[0].len(), 10_000_000);
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(b"short\n").unwrap();
    (0..70).for_each(|_| gz.write_all(&vec![b'x'; 1 << 20]).unwrap());
    let path = dir.path().join("bomb.txt.gz");
    std::fs::write(&path, gz.finish().unwrap()).unwrap();
    fails(&path, "line 2 is longer than 64 MiB");
}

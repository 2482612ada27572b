use super::*;
use crate::folder::Folder;
use crate::recognise::SPEECH;
use crate::record::{Record, Records, Source};
use selfsup_core::Result;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn file(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

fn read(name: &str, text: &str) -> Result<LabelFile> {
    LabelFile::read(&file(name, text).1)
}

#[test]
fn formats_agree() {
    let csv =
        read("l.csv", "\u{feff}Path,label,patient_id,split,note\r\na.png,10,p1,train,\"x, \"\"y\"\"\nand z\"\r\n\r\nb.png,9,p2,val,\n")
            .unwrap();
    let tsv = read("l.tsv", "file\tclass\tgroup\tsubset\na.png\t10\tp1\ttrain\nb.png\t9\tp2\tdev\n").unwrap();
    let json = read(
        "l.jsonl",
        "{\"path\":\"a.png\",\"label\":10,\"source\":\"p1\",\"split\":\"train\"}\n{\"id\":\"b.png\",\"label\":\"9\",\"speaker\":\"p2\",\"split\":\"valid\"}",
    )
    .unwrap();
    let plain = |f: &LabelFile| f.rows().iter().map(|r| Row { line: 0, ..r.clone() }).collect::<Vec<_>>();
    assert_eq!(plain(&csv), plain(&tsv));
    assert_eq!(plain(&csv), plain(&json));
    assert_eq!(csv.classes(), ["9", "10"], "numbers are sorted as numbers");
    assert_eq!(csv.rows()[1].line, 5, "a quoted line break and a blank line count");
    assert_eq!(csv.rows()[1].split, Some(Split::Validation));
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    for (name, text, parts) in [
        ("l.csv", "path,label\na.png\n", &["line 2", "1 fields", "expected 2"][..]),
        ("l.csv", "name,label\na,b\n", &["line 1", "name, label", "path or text"]),
        ("l.csv", "path,label,class\na,b,c\n", &["two columns", "class"]),
        ("l.csv", "path,label\n\"a,b\n", &["line 2", "does not end"]),
        ("l.csv", "path,split\na,extra\n", &["line 2", "extra", "validation"]),
        ("l.csv", "path,label\n", &["no row"]),
        ("l.jsonl", "{\"path\":\"a\"}\n{oops\n", &["line 2", "not JSON"]),
        ("l.jsonl", "{\"label\":\"a\"}\n", &["line 1", "path"]),
        ("l.txt", "a", &[".csv"]),
    ] {
        let e = read(name, text).unwrap_err().to_string();
        assert!(parts.iter().all(|p| e.contains(p)), "{e}");
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("l.csv");
    std::fs::write(&path, b"path,label\na,b\n\xff,c\n").unwrap();
    assert!(LabelFile::read(&path).unwrap_err().to_string().contains("line 3 is not UTF-8"));
}

#[test]
fn rows_find_their_records() {
    let (dir, path) = file("l.csv", "path,label,speaker,transcript\nx/1.wav,cat,s1,hello\n2.wav,dog,s2,\n");
    for name in ["x/1.wav", "y/2.wav", "y/3.wav"] {
        let file = dir.path().join("data").join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, b"").unwrap();
    }
    let root = dir.path().join("data");
    let records: Arc<dyn Records> = Arc::new(Folder::open_kind(&root, &SPEECH).unwrap());
    let set = LabelFile::read(&path).unwrap().apply(records.clone(), &root).unwrap();
    assert_eq!(set.classes(), ["cat", "dog"]);
    assert_eq!((0..3).map(|i| set.label(i)).collect::<Vec<_>>(), [Some(0), Some(1), None]);
    assert_eq!(
        (set.group(1), set.transcript(0), set.transcript(1)),
        (Some("s2".into()), Some("hello".into()), None)
    );
    assert_eq!(set.get(1).unwrap().label, Some(1));
    let e = read("l.csv", "path,label\n9.wav,cat\n")
        .unwrap()
        .apply(records.clone(), &root)
        .err()
        .unwrap()
        .to_string();
    assert!(e.contains("line 2") && e.contains("9.wav") && e.contains("3 records"), "{e}");
    let e = read("l.csv", "path,label\n2.wav,cat\ny/2.wav,dog\n")
        .unwrap()
        .apply(records, &root)
        .err()
        .unwrap()
        .to_string();
    assert!(e.contains("line 3") && e.contains("line 2 already"), "{e}");
}

/// Three slices of each of two volumes.
struct Slices;

impl Records for Slices {
    fn len(&self) -> usize {
        6
    }
    fn get(&self, i: usize) -> Result<Record> {
        Ok(Record {
            id: format!("scans/v{}.nii axial {}", i / 3, i % 3),
            source: Source::Bytes(Arc::from([])),
            label: None,
            group: self.group(i),
        })
    }
    fn group(&self, i: usize) -> Option<String> {
        self.whole(i)
    }
    fn whole(&self, i: usize) -> Option<String> {
        Some(format!("scans/v{}.nii", i / 3))
    }
}

#[test]
fn a_row_speaks_of_all_parts_of_what_it_names() {
    let apply = |text: &str| read("l.csv", text).unwrap().apply(Arc::new(Slices), Path::new("scans"));
    let set = apply("path,label,patient\nv1.nii,ill,p7\nscans/v0.nii,well,\n").unwrap();
    assert_eq!((0..6).map(|i| set.label(i)).collect::<Vec<_>>(), [1, 1, 1, 0, 0, 0].map(Some));
    // Without a group of its own a part stays with its whole.
    assert_eq!((set.group(2).as_deref(), set.group(3).as_deref()), (Some("scans/v0.nii"), Some("p7")));
    let one = apply("path,label\nscans/v1.nii axial 2,ill\n").unwrap();
    assert_eq!((one.label(5), one.label(4)), (Some(0), None));
    let e = apply("path,label\nv1.nii,ill\nscans/v1.nii axial 2,well\n").err().unwrap().to_string();
    assert!(e.contains("line 3") && e.contains("line 2 already"), "{e}");
}

#[test]
fn a_table_of_texts_is_a_set() {
    let table = read("l.csv", "text,label\n\"good, really\",yes\nbad,no\n").unwrap();
    assert!(table.holds_texts());
    let set = table.texts().unwrap();
    assert_eq!(&*set.get(0).unwrap().source.content().unwrap(), b"good, really");
    assert_eq!((set.label(0), set.label(1), set.transcript(0)), (Some(1), Some(0), None));
}

use super::*;
use ::parquet::data_type::Int32Type;
use ::parquet::data_type::{ByteArrayType, Int64Type};
use ::parquet::file::metadata::KeyValue;
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::parser::parse_message_type;
use std::fs::File;

const SCHEMA: &str = "message m { optional group image { optional binary bytes; optional binary path (STRING); } optional int64 label; \
                      optional binary group (STRING); }";

/// Rows of (picture, label) in row groups of `size`; the group is the label as text.
fn write(path: &Path, rows: &[(Option<&[u8]>, Option<i64>)], size: usize, note: Option<&str>) {
    let file = File::create(path).unwrap();
    let mut w =
        SerializedFileWriter::new(file, Arc::new(parse_message_type(SCHEMA).unwrap()), Arc::default())
            .unwrap();
    for rows in rows.chunks(size) {
        let mut g = w.next_row_group().unwrap();
        let bytes: Vec<ByteArray> =
            rows.iter().filter_map(|r| r.0).map(|b| ByteArray::from(b.to_vec())).collect();
        let defs: Vec<i16> = rows.iter().map(|r| if r.0.is_some() { 2 } else { 1 }).collect();
        let mut c = g.next_column().unwrap().unwrap();
        c.typed::<ByteArrayType>().write_batch(&bytes, Some(&defs), None).unwrap();
        c.close().unwrap();
        let mut c = g.next_column().unwrap().unwrap();
        c.typed::<ByteArrayType>().write_batch(&[], Some(&vec![1; rows.len()]), None).unwrap();
        c.close().unwrap();
        let labels: Vec<i64> = rows.iter().filter_map(|r| r.1).collect();
        let defs: Vec<i16> = rows.iter().map(|r| i16::from(r.1.is_some())).collect();
        let mut c = g.next_column().unwrap().unwrap();
        c.typed::<Int64Type>().write_batch(&labels, Some(&defs), None).unwrap();
        c.close().unwrap();
        let texts: Vec<ByteArray> = labels.iter().map(|l| ByteArray::from(l.to_string().as_str())).collect();
        let mut c = g.next_column().unwrap().unwrap();
        c.typed::<ByteArrayType>().write_batch(&texts, Some(&defs), None).unwrap();
        c.close().unwrap();
        g.close().unwrap();
    }
    if let Some(note) = note {
        w.append_key_value_metadata(KeyValue::new("huggingface".to_string(), note.to_string()));
    }
    w.close().unwrap();
}

fn says(r: Result<Parquet>, parts: &[&str]) {
    let e = r.err().expect("an error").to_string();
    assert!(parts.iter().all(|p| e.contains(p)), "{e}");
}

#[test]
fn texts_with_labels() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("texts.parquet");
    let schema = "message m { optional binary text (STRING); required int64 label; }";
    let mut w = SerializedFileWriter::new(
        File::create(&path).unwrap(),
        Arc::new(parse_message_type(schema).unwrap()),
        Arc::default(),
    )
    .unwrap();
    for rows in [&[(Some("eins"), 0), (None, 1)][..], &[(Some("zwölf"), 1)]] {
        let mut g = w.next_row_group().unwrap();
        let texts: Vec<ByteArray> = rows.iter().filter_map(|r| r.0).map(ByteArray::from).collect();
        let defs: Vec<i16> = rows.iter().map(|r| i16::from(r.0.is_some())).collect();
        let mut c = g.next_column().unwrap().unwrap();
        c.typed::<ByteArrayType>().write_batch(&texts, Some(&defs), None).unwrap();
        c.close().unwrap();
        let mut c = g.next_column().unwrap().unwrap();
        c.typed::<Int64Type>()
            .write_batch(&rows.iter().map(|r| r.1).collect::<Vec<_>>(), None, None)
            .unwrap();
        c.close().unwrap();
        g.close().unwrap();
    }
    w.close().unwrap();
    let set = Parquet::open_texts(std::slice::from_ref(&path), "text").unwrap();
    let text = |i: usize| String::from_utf8(set.get(i).unwrap().source.content().unwrap().to_vec()).unwrap();
    assert_eq!((text(2), text(0), text(1)), ("zwölf".into(), "eins".into(), String::new()));
    assert_eq!((set.len(), set.label(2), set.classes().len()), (3, Some(1), 2));
    assert!(holds_texts(&path));
    says(
        Parquet::open_texts(std::slice::from_ref(&path), "body"),
        &["texts.parquet", "no column `body`", "text, label", "corpus.column"],
    );
    says(Parquet::open_texts(std::slice::from_ref(&path), "label"), &["no column `label` of text"]);
    says(Parquet::open(&[path]), &["no column of pictures"]);
}

#[test]
fn two_files_of_row_groups() {
    let dir = tempfile::tempdir().unwrap();
    let files = [dir.path().join("a.parquet"), dir.path().join("b.parquet")];
    let pictures: Vec<Vec<u8>> = (0..7u8).map(|i| vec![i; 100 + usize::from(i)]).collect();
    let row = |i: usize, label: Option<i64>| (Some(pictures[i].as_slice()), label);
    let note =
        r#"{"info": {"features": {"label": {"names": ["cat", "dog", "owl"], "_type": "ClassLabel"}}}}"#;
    write(
        &files[0],
        &[row(0, Some(2)), row(1, Some(0)), row(2, None), row(3, Some(-1)), row(4, Some(1))],
        2,
        Some(note),
    );
    write(&files[1], &[row(5, Some(0)), (None, Some(1)), row(6, Some(1))], 10, None);
    for cache in [0, 250, 1 << 20] {
        let set = Parquet::open(&files).unwrap().with_cache(cache);
        assert_eq!((set.len(), set.classes()), (8, ["cat", "dog", "owl"].map(String::from).as_slice()));
        let labels: Vec<_> = (0..8).map(|i| set.label(i)).collect();
        assert_eq!(labels, [Some(2), Some(0), None, None, Some(1), Some(0), Some(1), Some(1)]);
        // Out of order and twice, with a cache for none, some or all.
        for i in [4, 0, 5, 3, 3, 1, 2, 7, 0] {
            let record = set.get(i).unwrap();
            assert_eq!(
                record.source,
                Source::Bytes(Arc::from(pictures[if i == 7 { 6 } else { i }].as_slice()))
            );
            assert_eq!(record.label, set.label(i));
        }
        assert!(
            set.get(4).unwrap().id.ends_with("a.parquet[4]")
                && set.get(7).unwrap().id.ends_with("b.parquet[2]")
        );
        assert_eq!((set.group(0), set.group(2)), (Some("2".to_string()), None));
        let e = set.get(6).unwrap_err().to_string();
        assert!(e.contains("b.parquet[1]") && e.contains("null"), "{e}");
        assert!(set.get(8).is_err());
    }
}

#[test]
fn threads_share_the_cache() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    let pictures: Vec<Vec<u8>> = (0..60u8).map(|i| vec![i; 50]).collect();
    let rows: Vec<_> = pictures.iter().map(|p| (Some(p.as_slice()), Some(1))).collect();
    write(&path, &rows, 7, None);
    let set = Parquet::open(&[path]).unwrap().with_cache(900);
    std::thread::scope(|s| {
        for t in 0..4 {
            let (set, pictures) = (&set, &pictures);
            s.spawn(move || {
                for i in 0..200 {
                    let i = (i * 17 + t * 5) % 60;
                    assert_eq!(set.get(i).unwrap().source, Source::Bytes(Arc::from(pictures[i].as_slice())));
                }
            });
        }
    });
    assert!(set.cache.lock().unwrap().len() <= 3);
}

#[test]
fn bad_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    write(&path, &[(Some(&[1; 300]), Some(0)), (Some(&[2; 300]), Some(1))], 1, None);
    let whole = std::fs::read(&path).unwrap();
    for cut in [0, 3, 8, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..cut]).unwrap();
        says(Parquet::open(std::slice::from_ref(&path)), &["a.parquet", "not a whole"]);
    }
    // Any byte may be wrong: an error or a set, never a panic out of here.
    for at in (0..whole.len()).step_by(3) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        std::fs::write(&path, &bytes).unwrap();
        if let Ok(set) = Parquet::open(std::slice::from_ref(&path)) {
            (0..set.len().min(4)).for_each(|i| drop(set.get(i)));
        }
    }
    says(Parquet::open(&[dir.path().join("absent.parquet")]), &["absent.parquet"]);
    write(&path, &[], 1, None);
    says(Parquet::open(std::slice::from_ref(&path)), &["no rows"]);
    write(&path, &[(Some(&[1]), Some(-7))], 1, None);
    says(Parquet::open(std::slice::from_ref(&path)), &["row 0 has label -7"]);
    says(Parquet::open(&[]), &["no rows"]);
    let other = File::create(&path).unwrap();
    let schema = Arc::new(parse_message_type("message m { required int32 age; }").unwrap());
    let mut w = SerializedFileWriter::new(other, schema, Arc::default()).unwrap();
    let mut g = w.next_row_group().unwrap();
    let mut c = g.next_column().unwrap().unwrap();
    c.typed::<Int32Type>().write_batch(&[1], None, None).unwrap();
    c.close().unwrap();
    g.close().unwrap();
    w.close().unwrap();
    says(Parquet::open(std::slice::from_ref(&path)), &["no column of pictures", "found age", "`image`"]);
}

#[test]
fn embeddings_read_back() {
    let ids: Vec<String> = (0..5).map(|i| format!("{i}.jpg")).collect();
    let values: Vec<f32> = (0..15).map(|v| v as f32 / 2.0).collect();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("e.parquet");
    for labels in [None, Some([3u32, 1, 4, 1, 5].as_slice())] {
        let bytes = embeddings(&ids, labels, &values, 3).unwrap();
        assert_eq!(bytes, embeddings(&ids, labels, &values, 3).unwrap());
        std::fs::write(&path, bytes).unwrap();
        let rows: Vec<String> =
            reader(&path).unwrap().get_row_iter(None).unwrap().map(|r| r.unwrap().to_string()).collect();
        assert_eq!(rows.len(), 5);
        assert!(rows[1].contains("1.jpg") && rows[1].contains("[1.5, 2.0, 2.5]"), "{}", rows[1]);
        assert_eq!(rows[2].contains("label: 4"), labels.is_some(), "{}", rows[2]);
    }
    assert!(embeddings(&ids, None, &values, 4).is_err());
    assert!(embeddings(&ids, None, &[], 0).is_err());
    assert!(embeddings(&ids, Some(&[1]), &values, 3).unwrap_err().to_string().contains("1 labels"));
}

/// A table of tests/data/parquet, made by pyarrow (`make_pictures.py`).
fn pyarrow(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/parquet").join(format!("{name}.parquet"))
}

#[test]
fn pages_in_any_compression_and_booleans() {
    let all = ["gzip", "lz4", "brotli"].map(|name| {
        let set = Parquet::open(&[pyarrow(name)]).unwrap();
        assert_eq!(
            (set.len(), set.classes()),
            (12, ["false", "true"].map(String::from).as_slice()),
            "{name}"
        );
        assert_eq!((set.label(0), set.label(1)), (Some(1), Some(0)));
        (0..12).map(|i| set.get(i).unwrap().source.content().unwrap().to_vec()).collect::<Vec<_>>()
    });
    assert!(all[0].iter().all(|bytes| bytes.starts_with(b"\x89PNG")));
    assert!(all[0] == all[1] && all[0] == all[2] && all[0][0] != all[0][1]);
}

/// Rows 0 and 2 have no picture, row 1 has one, rows 3 to 8 have 3, 2, 3 ...; the second of row 3 is null.
#[test]
fn lists_of_pictures_are_samples_that_stay_together() {
    let set = Parquet::open(&[pyarrow("lists")]).unwrap();
    assert_eq!(set.len(), 1 + 3 + 2 + 3 + 2 + 3 + 2);
    let labels: Vec<_> = (0..6).map(|i| set.label(i)).collect();
    assert_eq!(labels, [Some(1), Some(1), Some(1), Some(1), None, None], "row 4 has no number");
    assert_eq!((set.group(1), set.group(3)), (set.group(2), set.group(2)));
    assert!(set.group(1) != set.group(0) && set.group(3) != set.group(4));
    let bytes = |i: usize| set.get(i).unwrap().source.content().unwrap().to_vec();
    let same = Parquet::open(&[pyarrow("gzip")]).unwrap();
    assert_eq!(bytes(0), same.get(0).unwrap().source.content().unwrap().to_vec(), "picture 0 of both tables");
    assert!(bytes(1) != bytes(3) && bytes(15).starts_with(b"\x89PNG"));
    let e = set.get(2).unwrap_err().to_string();
    assert!(e.contains("lists.parquet[2]") && e.contains("null"), "{e}");
    let notes = set.notes().join("; ");
    assert!(
        notes.contains("6 rows have several pictures") && notes.contains("2 rows have no picture"),
        "{notes}"
    );
    let bare = Parquet::open(&[pyarrow("bare_lists")]).unwrap();
    assert_eq!((bare.len(), bare.group(0) == bare.group(1)), (3, true));
    assert!(bare.get(2).is_ok() && !holds_texts(&pyarrow("lists")));
}

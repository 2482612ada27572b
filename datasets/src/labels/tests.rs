use super::*;
use crate::folder::Folder;
use crate::layout::Layout;
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
        "{\"path\":\"a.png\",\"label\":10,\"source\":\"p1\",\"split\":\"train\"}\n{\"path\":\"b.png\",\"label\":\"9\",\"source\":\"p2\",\"split\":\"valid\"}",
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
        (
            "l.csv",
            "name,label\na,b\n",
            &["line 1", "`name`, `label`", "path or text", "file_name", "data.columns.path"],
        ),
        ("l.csv", "path,label,class\na,b,c\n", &["`label` and `class`", "data.columns.label"]),
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
    let records: Arc<dyn Records> = Arc::new(Folder::open_kind(&root, &SPEECH, Layout::Auto).unwrap());
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

/// A case of tests/data/tables: images of two folders of six patients.
fn case(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/tables").join(name)
}

/// The folder that the cases name: `sub0/00.png`, `sub1/01.png` ... `sub1/23.png`.
fn pictures() -> (tempfile::TempDir, PathBuf, Arc<dyn Records>) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("imgs");
    for i in 0..24 {
        let file = root.join(format!("sub{}/{i:02}.png", i % 2));
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, b"").unwrap();
    }
    let records: Arc<dyn Records> = Arc::new(Folder::open(&root).unwrap());
    (dir, root, records)
}

#[test]
fn tables_as_people_write_them() {
    let (_dir, root, records) = pictures();
    for (name, rows, ignored) in [
        ("hf.csv", 24, None),
        ("filepath.csv", 24, None),
        ("imagepath.csv", 24, None),
        ("dot.csv", 24, None),
        ("noext.csv", 24, None),
        ("part.csv", 16, None),
        ("idandpath.csv", 24, Some("`id`")),
        ("leak.csv", 24, None),
    ] {
        let table = LabelFile::read(&case(name)).unwrap();
        let set = table.apply(records.clone(), &root).unwrap();
        let labelled = (0..24).filter(|&i| set.label(i).is_some()).count();
        assert_eq!(
            (labelled, set.classes()),
            (rows, &["benign".to_string(), "malignant".into()][..]),
            "{name}"
        );
        // Files of the two folders take turns in the table, and the two classes with them.
        for i in (0..24).filter(|&i| set.label(i).is_some()) {
            let benign = set.id(i).unwrap().contains("sub0");
            assert_eq!(set.label(i), Some(u32::from(!benign)), "{name}");
        }
        match ignored {
            Some(column) => {
                assert!(table.notes()[0].ends_with(&format!("not read: {column}")), "{:?}", table.notes())
            }
            None => assert!(!table.notes()[0].contains("not read"), "{:?}", table.notes()),
        }
    }
    // Absolute paths, a path from a folder above, and one that leads through `..`.
    let first = root.join("sub0/00.png").display().to_string();
    let absolute = format!("path,label\n{first},a\nimgs/sub1/01.png,b\nsub0/../sub0/02.png,a\n");
    let set = read("l.csv", &absolute).unwrap().apply(records.clone(), &root).unwrap();
    assert_eq!((0..24).filter(|&i| set.label(i).is_some()).count(), 3);
    // Two files that differ in their ending alone.
    std::fs::write(root.join("sub0/00.jpg"), b"").unwrap();
    let records: Arc<dyn Records> = Arc::new(Folder::open(&root).unwrap());
    let e = read("l.csv", "image_id,label\n00,a\n").unwrap().apply(records, &root).err().unwrap().to_string();
    assert!(e.contains("line 2") && e.contains("2 records"), "{e}");
}

#[test]
fn groups_leak_under_any_spelling() {
    let text = std::fs::read_to_string(case("leak.csv")).unwrap();
    for name in [
        "patient",
        "PatientID",
        "Patient ID",
        "patientId",
        "patient_id",
        "SubjectID",
        "subject-id",
        "Group",
        "case_id",
        "Lesion ID",
        "StudyInstanceUID",
        "speaker",
    ] {
        let table = read("l.csv", &text.replacen("patient", name, 1)).unwrap();
        assert_eq!(table.rows()[0].group.as_deref(), Some("p0"), "{name}");
        assert!(table.notes()[0].contains(&format!("group `{name}`")), "{:?}", table.notes());
    }
    // A site is named and not taken; `data.columns` takes any column, or none.
    let site = text.replacen("patient", "Scanner", 1);
    let table = read("l.csv", &site).unwrap();
    assert!(table.rows()[0].group.is_none());
    assert!(table.notes()[1].contains("data.columns.group = \"Scanner\""), "{:?}", table.notes());
    let named = |text: &str, group: &str| {
        let columns = Columns { group: Some(group.into()), ..Columns::default() };
        LabelFile::read_with(&file("l.csv", text).1, &columns).map(|t| t.rows()[0].group.clone())
    };
    assert_eq!(named(&site, "scanner").unwrap().as_deref(), Some("p0"));
    assert_eq!(named(&text, "").unwrap(), None);
    let e = named(&text, "centre").unwrap_err().to_string();
    assert!(e.contains("data.columns.group = \"centre\"") && e.contains("`patient`"), "{e}");
}

#[test]
fn of_several_groups_the_coarsest_is_taken_and_said() {
    let table = read(
        "l.csv",
        "image_id,lesion_id,PatientID,site,dx,age\na,l1,p1,x,mel,40\nb,l2,p1,y,nv,41\nc,l3,,y,nv,42\n",
    )
    .unwrap();
    let groups: Vec<_> = table.rows().iter().map(|r| r.group.as_deref()).collect();
    assert_eq!(groups, [Some("p1"), Some("p1"), None]);
    let notes = table.notes().join("\n");
    for part in [
        "path `image_id`, label `dx`, group `PatientID`",
        "not read: `lesion_id`, `site`, `age`",
        "the coarsest is taken, `PatientID`, not `lesion_id`",
        "1 of 3 rows have no `PatientID`",
    ] {
        assert!(notes.contains(part), "{part}: {notes}");
    }
    // Two names of one level: the one with fewer values.
    let table = read("l.csv", "path,subject,participant_id\na,s1,p1\nb,s2,p1\n").unwrap();
    assert_eq!(table.rows()[1].group.as_deref(), Some("p1"));
    // A column without a value divides nothing.
    let table = read("l.csv", "path,patient,case\na,,c1\nb,,c1\n").unwrap();
    assert_eq!(table.rows()[0].group.as_deref(), Some("c1"));
}

#[test]
fn columns_that_could_be_two_things() {
    for (text, parts) in [
        ("path,image\na,b\n", &["`path` and `image`", "data.columns.path = \"path\""][..]),
        ("path,label,dx\na,b,c\n", &["`label` and `dx`", "data.columns.label"]),
        ("path,text,sentence\na,b,c\n", &["`text` and `sentence`", "data.columns.text"]),
    ] {
        let e = read("l.csv", text).unwrap_err().to_string();
        assert!(parts.iter().all(|p| e.contains(p)), "{e}");
    }
    let columns = Columns { label: Some("dx".into()), path: Some("image".into()), ..Columns::default() };
    let table = LabelFile::read_with(&file("l.csv", "path,image,label,dx\nx,a,1,mel\n").1, &columns).unwrap();
    let row = &table.rows()[0];
    assert_eq!((row.path.as_deref(), row.label.as_deref()), (Some("a"), Some("mel")));
    // Of an identifier and a text the text is the sample; beside a path it is said in it.
    assert!(read("l.csv", "id,text,label\n1,good,x\n").unwrap().holds_texts());
    assert!(!read("l.csv", "path,text\na.wav,good\n").unwrap().holds_texts());
    let named = Columns { path: Some("id".into()), ..Columns::default() };
    assert!(!LabelFile::read_with(&file("l.csv", "id,text\n1,good\n").1, &named).unwrap().holds_texts());
}

#[test]
fn quotes_in_tsv_are_characters() {
    let raw = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/text/rawquote.tsv");
    let table = LabelFile::read(&raw).unwrap();
    assert_eq!((table.rows().len(), table.classes().len()), (100, 2));
    assert!(table.rows()[0].text.as_deref().unwrap().starts_with("\"the that which"));
    let quoted = read("l.tsv", "\"text\"\t\"label\"\n\"a\tb\"\t\"x\"\n").unwrap();
    assert_eq!(quoted.rows()[0].text.as_deref(), Some("a\tb"));
}

#[test]
fn json_in_its_forms() {
    let lines = "{\"path\": \"a\", \"meta\": {\"dx\": \"mel\", \"who\": 7}}\n{\"path\": \"b\", \"meta\": {\"dx\": \"nv\"}}\n";
    let array = format!("[{}]", lines.trim_end().replace('\n', ",\n"));
    let inside = format!("{{\n\"version\": 1,\n\"rows\": {array}\n}}");
    let one = inside.replace('\n', "");
    let columns =
        Columns { label: Some("meta.dx".into()), group: Some("meta.who".into()), ..Columns::default() };
    for (name, text) in
        [("l.jsonl", lines), ("l.json", lines), ("l.json", &array), ("l.json", &inside), ("l.json", &one)]
    {
        let table = LabelFile::read_with(&file(name, text).1, &columns).unwrap();
        let rows: Vec<_> =
            table.rows().iter().map(|r| (r.line, r.label.as_deref(), r.group.as_deref())).collect();
        assert_eq!(rows, [(1, Some("mel"), Some("7")), (2, Some("nv"), None)], "{text}");
    }
    for (text, part) in [
        ("[{\"path\": \"a\"}, 3]", "expected an object"),
        ("[{\"path\": \"a\"}\n{\"path\": \"b\"}]", "expected , or ]"),
        ("[{\"path\": \"a\"},\n{\"path\": [1]}]", "line 2: `path`: expected a text or a number"),
        ("[{\"path\": \"a\"}", "line 1"),
    ] {
        let e = read("l.json", text).unwrap_err().to_string();
        assert!(e.contains(part), "{e}");
    }
}

#[test]
fn a_second_table_has_the_classes_of_the_first() {
    let table = || read("test.csv", "text,label\ngood,b\n").unwrap();
    let known = ["a".to_string(), "b".into(), "c".into()];
    assert_eq!(table().among(&known).unwrap().texts().unwrap().label(0), Some(1));
    let e = table().among(&known[..1]).unwrap_err().to_string();
    assert!(e.contains("line 2") && e.contains("`b`"), "{e}");
}

use super::*;

/// A tar of these members; names are written as they are, for those that the writer would refuse.
fn shard(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut w = ::tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut h = ::tar::Header::new_gnu();
        h.set_size(bytes.len() as u64);
        h.set_mode(0o644);
        h.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        h.set_cksum();
        w.append(&h, *bytes).unwrap();
    }
    w.into_inner().unwrap()
}

fn open(bytes: &[u8]) -> Result<Tar> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shard-000.tar");
    std::fs::write(&path, bytes).unwrap();
    let set = Tar::open(&[path])?;
    // The file goes with the folder: read all now.
    (0..set.len()).try_for_each(|i| set.get(i).map(|_| ()))?;
    Ok(set)
}

fn says(bytes: &[u8], parts: &[&str]) {
    let e = open(bytes).err().expect("an error").to_string();
    assert!(e.contains("shard-000.tar") && parts.iter().all(|p| e.contains(p)), "{e}");
}

#[test]
fn two_shards_with_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let paths = [dir.path().join("0.tar"), dir.path().join("1.tar")];
    std::fs::write(
        &paths[0],
        shard(&[("./a.jpg", b"first"), ("./a.cls", b"2\n"), ("b.cls", b"0"), ("b.png", &[7; 1500])]),
    )
    .unwrap();
    std::fs::write(
        &paths[1],
        shard(&[
            ("d/c.left.png", b"x"),
            ("d/c.cls", b"1"),
            ("d/c.txt", b"?"),
            ("a.webp", b"y"),
            ("._a.jpg", b"mac"),
        ]),
    )
    .unwrap();
    let set = Tar::open(&paths).unwrap();
    assert_eq!((0..set.len()).map(|i| set.label(i)).collect::<Vec<_>>(), [Some(2), Some(0), Some(1), None]);
    assert_eq!(set.classes(), ["0", "1", "2"]);
    assert_eq!(set.get(0).unwrap().source, Source::Bytes(Arc::from(*b"first")));
    assert_eq!(set.get(1).unwrap().source, Source::Bytes(Arc::from([7; 1500])));
    assert!(set.get(2).unwrap().id.ends_with("1.tar:d/c.left.png"));
    assert!((0..4).all(|i| set.id(i).unwrap() == set.get(i).unwrap().id) && set.id(4).is_err());
    assert!(set.get(4).is_err());
}

#[test]
fn names_and_groups() {
    let set = open(&shard(&[
        ("1.jpg", b"x"),
        ("1.json", br#"{"label": "dog", "group": "p7", "caption": [1]}"#),
        ("2.jpg", b"x"),
        ("2.cls", b"cat"),
        ("3.jpg", b"x"),
        ("3.json", br#"{"cls": null, "group": 9}"#),
        ("4.jpg", b"x"),
        ("4.cls", b"-1"),
    ]))
    .unwrap();
    assert_eq!(set.classes(), ["cat", "dog"]);
    assert_eq!((0..4).map(|i| set.label(i)).collect::<Vec<_>>(), [Some(1), Some(0), None, None]);
    assert_eq!(
        (0..4).map(|i| set.group(i)).collect::<Vec<_>>(),
        [Some("p7".into()), None, Some("9".into()), None]
    );
}

#[test]
fn long_names_of_gnu_and_pax() {
    let mut w = ::tar::Builder::new(Vec::new());
    let long = format!("{}/{}", "d".repeat(120), "x.jpg");
    let mut h = ::tar::Header::new_gnu();
    h.set_size(3);
    w.append_data(&mut h, &long, &b"abc"[..]).unwrap();
    let bytes = w.into_inner().unwrap();
    assert_eq!(open(&bytes).unwrap().images[0].name, long);
}

#[test]
fn paths_that_lead_out_are_refused() {
    for name in ["../a.jpg", "x/../../a.jpg", "/etc/a.jpg", ".."] {
        says(&shard(&[("ok.jpg", b"x"), (name, b"x")]), &[name, "leads out"]);
    }
}

#[test]
fn cut_at_any_place() {
    let whole = shard(&[("a.jpg", &[1; 700]), ("a.cls", b"0"), ("b.jpg", &[2; 900])]);
    assert_eq!(open(&whole).unwrap().len(), 2);
    // 512 + 1024, 512 + 512, 512 + 1024, and two zero blocks.
    assert_eq!(whole.len(), 4096 + 1024);
    for cut in (1..4096).step_by(97).chain([512, 1536, 2048, 2560, 3072, 4096]) {
        says(&whole[..cut], &[]);
    }
    says(&whole[..3500], &["b.jpg", "cut short"]);
    says(&whole[..4096], &["b.jpg", "closing zero blocks"]);
}

#[test]
fn bad_members_are_named() {
    says(b"", &["closing zero blocks"]);
    says(&[b'x'; 2000], &["not a whole tar"]);
    says(&shard(&[("notes.txt", b"x")]), &["no images"]);
    says(&shard(&[("a.jpg", b"x"), ("a.cls", b"")]), &["a.cls", "empty"]);
    says(&shard(&[("a.jpg", b"x"), ("a.cls", &[0xff, 0xfe])]), &["a.cls", "not text"]);
    says(&shard(&[("a.jpg", b"x"), ("a.cls", b"1\n2")]), &["a.cls", "several lines"]);
    says(&shard(&[("a.jpg", b"x"), ("a.cls", b"99999999999")]), &["a.cls", "at most"]);
    says(&shard(&[("a.jpg", b"x"), ("a.json", b"{")]), &["a.json", "not JSON"]);
    says(&shard(&[("a.jpg", b"x"), ("a.json", br#"{"label": 1.5}"#)]), &["a.json", "1.5"]);
    says(&shard(&[("a.jpg", b"x"), ("a.json", &[b' '; (SMALL + 1) as usize])]), &["a.json", "at most"]);
    let mut w = ::tar::Builder::new(Vec::new());
    let mut h = ::tar::Header::new_gnu();
    h.set_entry_type(::tar::EntryType::Symlink);
    h.set_size(0);
    w.append_link(&mut h, "link.jpg", "/etc/passwd").unwrap();
    says(&w.into_inner().unwrap(), &["link.jpg", "plain file"]);
    // A size that lies.
    let mut bytes = shard(&[("a.jpg", b"x")]);
    bytes[124..135].copy_from_slice(b"77777777777");
    let sum: u32 = bytes[..512]
        .iter()
        .enumerate()
        .map(|(i, &b)| if (148..156).contains(&i) { 32 } else { u32::from(b) })
        .sum();
    bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    says(&bytes, &["a.jpg", "cut short"]);
}

proptest::proptest! {
    /// Any byte of a shard may be wrong: an error or a set whose members can be read, never a panic.
    #[test]
    fn damaged_shards(at in 0usize..3072, byte: u8) {
        let mut bytes = shard(&[("a.jpg", &[1; 700]), ("a.cls", b"0"), ("b.json", b"{}")]);
        bytes[at] = byte;
        let _ = open(&bytes);
    }
}

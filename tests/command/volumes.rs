//! Medical files of everyday, through the real command: hostile ones, and the cache of blocks.

#[cfg(target_os = "linux")]
use crate::common::bounded;
use crate::common::{Work, command, good, refused};
use selfsup::medical::grid::Grid;

#[cfg(target_os = "linux")]
#[test]
fn a_hostile_file_is_named_and_costs_nothing() {
    let w = Work::new();
    let data = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/medical/tests/data/hostile");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(data).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        // Each alone in a folder: a folder of several is refused at its first.
        w.write(&format!("{name}/{name}"), std::fs::read(&path).unwrap());
        names.push(name);
    }
    // A sequence in a sequence, 100,000 times, and no end.
    let mut deep = vec![0; 128];
    deep.extend(b"DICM");
    let open = b"\x29\0\x10\x10SQ\0\0\xFF\xFF\xFF\xFF\xFE\xFF\0\xE0\xFF\xFF\xFF\xFF";
    deep.extend(open.repeat(100_000));
    w.write("deep.dcm/deep.dcm", deep);
    names.push("deep.dcm".into());
    for name in names {
        let begun = std::time::Instant::now();
        let output = bounded(&["data", "inspect", &w.text(&name)]);
        // Of one the damage lies behind a frame that is whole.
        if name == "dcmj-3cdd2dbc.dcm" {
            good(&output);
            continue;
        }
        refused(&output, &[]);
        let said = [&output.stdout[..], &output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(said.contains(&format!("{name}/{name}")), "{said}");
        assert!(begun.elapsed().as_secs_f64() < 5.0, "{name}");
    }
}

/// Blocks lie where they are told to, are listed, kept below a size and cleared; a dry run leaves none.
#[test]
fn blocks_are_listed_and_cleared() {
    let w = Work::new();
    let grid = Grid::with_spacing([20, 20, 20], [1.0; 3]).unwrap();
    std::fs::create_dir(w.path("scans")).unwrap();
    for i in 0..3u16 {
        let values: Vec<f32> = (0..8000).map(|v| (v % 97) as f32 + f32::from(i)).collect();
        let path = w.path(&format!("scans/{i}.nii.gz"));
        selfsup::medical::write::values(&path, &grid, None, &values).unwrap();
    }
    let (data, out) = (w.text("scans"), w.text("run"));
    let args = [
        "pretrain",
        "--data",
        &data,
        "--no-probe",
        "--out",
        &out,
        "encoder.widths=[4, 8]",
        "augment.size=[8, 8, 8]",
        "volumes.patches=4",
        "volumes.memory_mb=0",
        "data.hold_out=0",
        "train.batch_size=4",
        "train.steps=2",
        "eval.online_knn=0",
    ];
    let cached = |args: &[&str]| {
        let output = command(args).env("SELFSUP_DATA", w.path("cache")).current_dir(w.path(".")).output();
        good(&output.unwrap())
    };
    cached(&[&args[..], &["--dry-run"]].concat());
    assert!(cached(&["cache", "list"]).contains("0 files of blocks"));
    cached(&args);
    let listed = cached(&["cache", "list"]);
    assert!(listed.contains("3 files of blocks"), "{listed}");
    #[cfg(unix)]
    for entry in std::fs::read_dir(w.path("cache/blocks")).unwrap() {
        use std::os::unix::fs::PermissionsExt;
        let mode = entry.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    assert!(cached(&["cache", "clear"]).contains("removed 3 files of blocks"));
    assert!(cached(&["cache", "list"]).contains("0 files of blocks"));
}

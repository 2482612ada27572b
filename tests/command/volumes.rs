//! Medical files of everyday, through the real command: hostile ones, bad ones among good ones, files of several
//! volumes, every scale of intensities, and the cache of blocks.

#[cfg(target_os = "linux")]
use crate::common::bounded;
use crate::common::{Work, command, good, refused};
use crate::slices::film;
use selfsup::medical::grid::Grid;
use selfsup::medical::{read, write};
use std::path::Path;
use std::process::Output;

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

/// A run of a small network on tiny patches.
const SMALL: [&str; 7] = [
    "encoder.widths=[4, 8]",
    "augment.size=[8, 8, 8]",
    "volumes.patches=2",
    "train.batch_size=4",
    "train.steps=2",
    "train.epochs=0",
    "data.hold_out=0",
];

/// The command with a cache of its own.
fn here(w: &Work, args: &[&str], more: &[&str]) -> Output {
    let mut command = command(&[args, more].concat());
    command.env("SELFSUP_DATA", w.path("cache")).current_dir(w.path(".")).output().unwrap()
}

/// Four volumes of 12 x 14 x 16 voxels with a bright ball and its mask, and tables of masks and of classes.
fn balls(w: &Work) {
    let grid = Grid::with_spacing([12, 14, 16], [2.0, 1.0, 1.0]).unwrap();
    let (mut masks, mut labels) = (String::from("path,mask\n"), String::from("path,label\n"));
    ["scans", "masks"].iter().for_each(|d| std::fs::create_dir(w.path(d)).unwrap());
    for n in 0..4usize {
        let inside = |i: usize| {
            let (z, y, x) = ((i / 224) as f64, (i / 16 % 14) as f64, (i % 16) as f64);
            (2.0 * z - 12.0).powi(2) + (y - 7.0).powi(2) + (x - 5.0 - n as f64).powi(2) < 20.0
        };
        let of = |f: &dyn Fn(usize) -> f32| (0..2688).map(f).collect::<Vec<f32>>();
        let values = of(&|i| (i * 7 % 53) as f32 + if inside(i) { 300.0 } else { 0.0 });
        write::values(w.path(&format!("scans/{n}.nii.gz")), &grid, None, &values).unwrap();
        let mask = of(&|i| if inside(i) { 7.0 } else { 0.0 });
        write::values(w.path(&format!("masks/{n}.nii.gz")), &grid, None, &mask).unwrap();
        masks.push_str(&format!("scans/{n}.nii.gz,masks/{n}.nii.gz\n"));
        labels.push_str(&format!("scans/{n}.nii.gz,{}\n", if n < 2 { "a" } else { "b" }));
    }
    w.write("masks.csv", masks);
    w.write("labels.csv", labels);
}

/// Whatever scales intensities, a run can be fine-tuned and used, and another scale can take its place.
#[test]
fn every_scale_goes_through_every_verb() {
    let w = Work::new();
    balls(&w);
    let scales = [
        ("none", "augment.scale={ kind = \"none\" }"),
        ("window", "augment.scale={ kind = \"window\", low = 0, high = 320 }"),
        ("z-score", "augment.scale={ kind = \"z-score\" }"),
        ("percentiles", "augment.scale={ kind = \"percentiles\", low = 1, high = 99 }"),
    ];
    for (kind, scale) in scales {
        let at = |what: &str| format!("{what}-{kind}");
        let (run, tuned, classes, masks) = (at("run"), at("tuned"), at("classes"), at("found"));
        good(&here(&w, &["pretrain", "--data", "scans", "--no-probe", "--out", &run, scale], &SMALL));
        let finetune = ["finetune", "--run", &run, "--data", "."];
        let segmentation = ["--labels", "masks.csv", "--out", &tuned, "task.kind=segmentation"];
        good(&here(&w, &[&finetune[..], &segmentation].concat(), &SMALL[2..]));
        let config = std::fs::read_to_string(w.path(&tuned).join("config.toml")).unwrap();
        assert!(config.contains(&format!("[augment.scale]\nkind = \"{kind}\"")), "{config}");
        good(&here(&w, &["segment", &tuned, "scans", "--out", &masks], &[]));
        let (_, labels) = read::labels(w.path(&masks).join("0.nii.gz"), &Default::default()).unwrap();
        assert!(labels.len() == 2688 && labels.iter().all(|l| [0, 7].contains(l)));
        good(&here(
            &w,
            &[&finetune[..], &["--labels", "labels.csv", "--out", &classes]].concat(),
            &SMALL[3..],
        ));
        assert_eq!(good(&here(&w, &["predict", &classes, "scans"], &[])).lines().count(), 5);
        good(&here(&w, &["embed", &run, "--out", &format!("{}.csv", at("e"))], &[]));
        // A key of another kind is refused by its name; another kind takes the place of the section.
        let other =
            ["embed", &run, "--out", "other.csv", "augment.scale.kind=window", "augment.scale.high=9"];
        refused(&here(&w, &other, &["augment.scale.low=x"]), &["augment.scale.low"]);
        good(&here(&w, &other, &["augment.scale.low=0"]));
    }
    let refuse = ["finetune", "--run", "run-none", "--labels", "masks.csv", "--data", ".", "--out", "x"];
    let share = ["task.kind=segmentation", "task.foreground=1.5"];
    refused(&here(&w, &refuse, &share), &["task.foreground = 1.5", "from 0 to 1"]);
    refused(&here(&w, &refuse, &["task.foreground=0.5"]), &["task.foreground", "classification"]);
}

/// Three patients of 10 slices of 24 x 20 pixels; one lacks a slice.
fn patients(w: &Work) {
    for patient in 0..3usize {
        for slice in (0..10usize).filter(|k| (patient, *k) != (1, 6)) {
            let path = w.path(&format!("ct/p{patient}/IM{slice:03}.dcm"));
            film(&path, "MONOCHROME2", Some(3.0 * slice as f64), |i| ((i * 7 + patient * slice) % 251) as u8);
        }
    }
}

#[test]
fn one_bad_series_does_not_end_it() {
    let w = Work::new();
    patients(&w);
    let missing = ["ct/p1", "1 slice is missing at 18.000 mm", "IM005.dcm", "IM007.dcm"];
    let pretrain = ["pretrain", "--data", "ct", "--out", "run"];
    refused(&here(&w, &pretrain, &SMALL), &missing);
    let lenient = ["train.max_bad_fraction=0.4"];
    let output = here(&w, &[&pretrain[..], &SMALL].concat(), &lenient);
    assert!(good(&output).contains("on 2 medical images"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(missing.iter().all(|part| said.contains(part)) && said.contains("1 of 3"), "{said}");
    // The share counts.
    refused(&here(&w, &[&pretrain[..], &SMALL].concat(), &["train.max_bad_fraction=0.2"]), &["1 of 3"]);

    refused(&here(&w, &["embed", "run", "--out", "e.csv"], &[]), &missing);
    let output = here(&w, &["embed", "run", "--out", "e.csv", "--skip-bad"], &[]);
    good(&output);
    assert!(String::from_utf8_lossy(&output.stderr).contains("1 of 3"));
    let rows = std::fs::read_to_string(w.path("e.csv")).unwrap();
    assert!(rows.lines().count() == 3 && !rows.contains("p1"), "{rows}");

    w.write("labels.csv", "path,label,split\np0,a,train\np1,a,train\np2,b,test\n");
    let probe = ["probe", "run", "--data", "ct", "--labels", "labels.csv"];
    refused(&here(&w, &probe, &["train.max_bad_fraction=0"]), &missing);
    let found = good(&here(&w, &probe, &["train.max_bad_fraction=0.5"]));
    assert!(found.contains("kNN"), "{found}");
    let finetune = ["finetune", "--run", "run", "--data", "ct", "--labels", "labels.csv", "--out", "tuned"];
    refused(&here(&w, &finetune, &SMALL[3..]), &missing);
    good(&here(&w, &[&finetune[..], &SMALL[3..6]].concat(), &["train.max_bad_fraction=0.5"]));
    refused(&here(&w, &["predict", "tuned", "ct"], &[]), &missing);
    assert_eq!(good(&here(&w, &["predict", "tuned", "ct", "--skip-bad"], &[])).lines().count(), 3);

    // Slices as pictures: what is bad is one picture.
    let pictures = ["pretrain", "--data", "ct", "--no-probe", "volumes.slices=axial"];
    let small = [
        "encoder.name=resnet",
        "encoder.widths=[4, 8]",
        "encoder.depths=[1, 1]",
        "encoder.channels=1",
        "augment.size=16",
        "method.hidden_dim=8",
        "method.out_dim=4",
        "train.batch_size=8",
        "train.epochs=1",
        "eval.online_knn=0",
        "data.hold_out=0",
    ];
    refused(&here(&w, &[&pictures[..], &small].concat(), &["--out", "strict"]), &missing);
    let output =
        here(&w, &[&pictures[..], &small].concat(), &["--out", "pictures", "train.max_bad_fraction=0.1"]);
    assert!(good(&output).contains("on 21 images"));

    // A slice that is torn in another patient: both are listed.
    let torn = w.path("ct/p2/IM004.dcm");
    let bytes = std::fs::read(&torn).unwrap();
    std::fs::write(&torn, &bytes[..200]).unwrap();
    let output = here(&w, &["data", "inspect", "ct"], &[]);
    refused(&output, &["2 of 3"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(missing.iter().all(|part| said.contains(part)), "{said}");
    assert!(said.contains("unreadable: 2") && said.contains("IM004.dcm"), "{said}");
    let output = here(&w, &["embed", "run", "--out", "e.csv", "--skip-bad"], &[]);
    good(&output);
    assert_eq!(std::fs::read_to_string(w.path("e.csv")).unwrap().lines().count(), 2);
}

/// A mask that is no mask is skipped with its volume.
#[test]
fn one_bad_mask_does_not_end_it() {
    let w = Work::new();
    balls(&w);
    good(&here(&w, &["pretrain", "--data", "scans", "--no-probe", "--out", "run"], &SMALL));
    w.write("masks/2.nii.gz", "no mask");
    let finetune = ["finetune", "--run", "run", "--data", ".", "--labels", "masks.csv", "--out", "tuned"];
    let finetune = [&finetune[..], &["task.kind=segmentation"], &SMALL[2..]].concat();
    refused(&here(&w, &finetune, &[]), &["masks/2.nii.gz"]);
    let output = here(&w, &finetune, &["train.max_bad_fraction=0.3"]);
    assert!(good(&output).contains("segmentation of 3 medical images"));
    assert!(String::from_utf8_lossy(&output.stderr).contains("masks/2.nii.gz"));
}

/// A file of several volumes: the key that the message names chooses one, for every verb.
#[test]
fn a_volume_of_several_is_chosen_by_a_key() {
    let w = Work::new();
    balls(&w);
    good(&here(&w, &["pretrain", "--data", "scans", "--no-probe", "--out", "run"], &SMALL));
    let grid = Grid::with_spacing([12, 14, 16], [2.0, 1.0, 1.0]).unwrap();
    let of = |n: usize| read::volume(w.path(&format!("scans/{n}.nii.gz")), &Default::default()).unwrap();
    let mut bytes = Vec::new();
    for n in 0..2 {
        let path = w.path("one.nii");
        write::values(&path, &grid, None, of(n).values()).unwrap();
        let one = std::fs::read(&path).unwrap();
        if n == 0 {
            bytes = one;
        } else {
            bytes.extend_from_slice(&one[352..]);
        }
    }
    // Four axes, two volumes.
    bytes[40] = 4;
    bytes[48] = 2;
    w.write("several/x.nii", bytes);
    let names = ["several/x.nii", "2 volumes", "volumes.read.frame = 0", "1 the last"];
    let inspected = here(&w, &["data", "inspect", "several"], &[]);
    refused(&inspected, &["1 of 1"]);
    let said = String::from_utf8_lossy(&inspected.stdout).into_owned();
    assert!(names.iter().all(|part| said.contains(part)), "{said}");
    good(&here(&w, &["data", "inspect", "several"], &["volumes.read.frame=1"]));
    let embed =
        |data: &str, more: &[&str]| here(&w, &["embed", "run", "--data", data, "--out", "e.csv"], more);
    refused(&embed("several", &[]), &names);
    refused(&embed("several", &["volumes.read.frame=2"]), &["below 2"]);
    refused(&embed("several", &["volumes.read.fame=2"]), &["volumes.read.fame", "frame"]);
    good(&embed("several", &["volumes.read.frame=1"]));
    let row = || {
        let text = std::fs::read_to_string(w.path("e.csv")).unwrap();
        text.lines().nth(1).unwrap().split_once(',').unwrap().1.to_string()
    };
    let second = row();
    good(&embed("scans/1.nii.gz", &[]));
    assert_eq!(second, row());

    // Masks lie in the folders of their sources; keys stand among the files.
    let finetune = ["finetune", "--run", "run", "--data", ".", "--labels", "masks.csv", "--out", "tuned"];
    good(&here(&w, &[&finetune[..], &["task.kind=segmentation"]].concat(), &SMALL[2..]));
    std::fs::create_dir(w.path("pats")).unwrap();
    for (patient, n) in [("pat1", 0), ("pat2", 1)] {
        std::fs::create_dir(w.path(&format!("pats/{patient}"))).unwrap();
        std::fs::copy(w.path(&format!("scans/{n}.nii.gz")), w.path(&format!("pats/{patient}/CT.nii.gz")))
            .unwrap();
    }
    good(&here(
        &w,
        &["segment", "tuned", "pats", "several/x.nii", "volumes.read.frame=0", "--out", "out"],
        &[],
    ));
    let there = |name: &str| Path::new(&w.path("out")).join(name).is_file();
    assert!(there("pats/pat1/CT.nii.gz") && there("pats/pat2/CT.nii.gz") && there("several/x.nii.gz"));
    refused(&here(&w, &["segment", "tuned", "volumes.read.frame=0", "--out", "none"], &[]), &["no files"]);
}

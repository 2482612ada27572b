//! A folder alone is enough: what nobody gave follows from the data, and says so.

use crate::common::{Work, ended, good, selfsup};
use std::process::Output;

/// `count` pictures in two classes.
fn pictures(w: &Work, count: u32, size: u32) -> String {
    for i in 0..count {
        let picture = image::RgbImage::from_fn(size, size, |x, y| {
            image::Rgb([(x * 7 + i * 31) as u8, (y * 11 + i * 17) as u8, ((x + y) * 5 + i * 3) as u8])
        });
        let mut out = std::io::Cursor::new(Vec::new());
        picture.write_to(&mut out, image::ImageFormat::Png).unwrap();
        w.write(&format!("photos/{}/{i:03}.png", i % 2), out.into_inner());
    }
    w.text("photos")
}

/// One step of a network that is as small as possible.
const SMALL: &[&str] = &[
    "encoder.name=resnet",
    "encoder.depths=[1]",
    "encoder.widths=[4]",
    "encoder.stem=4",
    "method.out_dim=4",
    "augment.size=16",
    "train.steps=1",
    "eval.online_knn=0",
    "data.hold_out=0",
    "--no-probe",
];

/// What is said on the standard error.
fn notes(output: &Output) -> String {
    good(output);
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_batch_that_nobody_gave_is_no_larger_than_the_data() {
    let w = Work::new();
    let data = pictures(&w, 6, 20);
    let run = w.text("run");
    let args = [&["pretrain", "--data", &data, "--out", &run][..], SMALL].concat();
    notes(&selfsup(&[&args[..], &["method.hidden_dim=8"]].concat()));
    assert!(std::fs::read_to_string(w.path("run/config.toml")).unwrap().contains("batch_size = 6\n"));
    // One that was given is refused, by a key that there is.
    let other = w.text("other");
    let args = [&["pretrain", "--data", &data, "--out", &other, "train.batch_size=7"][..], SMALL].concat();
    let refused = selfsup(&args);
    ended(&refused, 2, &["train.batch_size = 7", "6 samples"]);
    assert!(!String::from_utf8_lossy(&refused.stderr).contains("drop_last"));
    // A file that leaves it open likewise.
    let file = w.file("run.toml", &format!("[data]\npath = \"{data}\"\n[optim]\nlr = 1e-3\n"));
    let of_file = w.text("of-file");
    let args = [&["pretrain", &file, "--out", &of_file][..], SMALL].concat();
    assert!(notes(&selfsup(&args)).contains("train.batch_size = 6"));
}

#[test]
fn what_compares_samples_needs_two() {
    let w = Work::new();
    let data = pictures(&w, 1, 20);
    let args = [&["pretrain", "--data", &data][..], SMALL].concat();
    ended(&selfsup(&args), 2, &["simclr", "at least 2", "1 images"]);
}

#[test]
fn the_queue_of_moco_is_no_longer_than_the_data() {
    let w = Work::new();
    let data = pictures(&w, 6, 20);
    let run = |name: &str, more: &[&str]| {
        let out = w.text(name);
        let base = ["pretrain", "--data", &data, "--method", "moco", "--out", &out, "method.hidden_dim=8"];
        notes(&selfsup(&[&base, SMALL, more].concat()))
    };
    let said = run("run", &[]);
    assert!(said.contains("method.queue = 6,"), "{said}");
    assert!(std::fs::read_to_string(w.path("run/config.toml")).unwrap().contains("queue = 6\n"));
    let said = run("given", &["method.queue=20"]);
    assert!(said.contains("warning: method.queue = 20 is above the 6 samples"), "{said}");
    assert!(std::fs::read_to_string(w.path("given/config.toml")).unwrap().contains("queue = 20\n"));
}

#[test]
fn a_method_that_hides_patches_takes_a_transformer() {
    let w = Work::new();
    let data = pictures(&w, 4, 20);
    let out = w.text("run");
    let small = ["encoder.dim=16", "encoder.depth=1", "encoder.heads=2", "augment.size=16", "train.steps=1"];
    let args = ["pretrain", "--data", &data, "--method", "mae", "--out", &out, "--no-probe"];
    notes(&selfsup(&[&args[..], &small, &["method.decoder_dim=16", "method.decoder_heads=2"]].concat()));
    assert!(std::fs::read_to_string(w.path("run/config.toml")).unwrap().contains("name = \"vit_tiny\""));
}

/// Trains on a folder alone for some seconds; returns what is said.
fn trained(w: &Work, data: &str, name: &str) -> String {
    let started = std::time::Instant::now();
    let said = good(&selfsup(&["pretrain", "--data", data, "--budget", "6s", "--out", &w.text(name)]));
    // Machines that test are busy with other things too.
    assert!(started.elapsed().as_secs() < 60, "{said}");
    for part in ["plan for ", "takes about ", " of 6 s", "took ", "(planned "] {
        assert!(said.contains(part), "expected \"{part}\" in: {said}");
    }
    assert!(w.path(name).join("model/model.safetensors").exists(), "{said}");
    said
}

#[test]
fn pictures_alone() {
    let w = Work::new();
    let said = trained(&w, &pictures(&w, 3, 40), "run");
    let config = std::fs::read_to_string(w.path("run/config.toml")).unwrap();
    // No larger than the pictures, and a batch of all: of three none is held out.
    assert!(config.contains("size = 40\n") && config.contains("batch_size = 3\n"), "{said}\n{config}");
}

#[cfg(feature = "text")]
#[test]
fn texts_alone() {
    let w = Work::new();
    for i in 0..20 {
        let lines: Vec<String> = (0..12).map(|k| crate::common::line(i * 12 + k)).collect();
        w.write(&format!("notes/{i:02}.txt"), lines.join("\n"));
    }
    let said = trained(&w, &w.text("notes"), "run");
    assert!(said.contains("without labels: "), "{said}");
}

#[cfg(feature = "speech")]
#[test]
fn recordings_alone() {
    let w = Work::new();
    for i in 0..9usize {
        let wave: Vec<f32> = (0..24_000 + 800 * i)
            .map(|t| (t as f32 * (0.05 + 0.02 * i as f32)).sin() * 0.4 + ((t * 7919) % 101) as f32 * 5e-4)
            .collect();
        let path = w.write(&format!("waves/{i}.wav"), []);
        selfsup::speech::audio::write_wav(&path, &wave, 16_000).unwrap();
    }
    trained(&w, &w.text("waves"), "run");
    let config = std::fs::read_to_string(w.path("run/config.toml")).unwrap();
    let number = |key: &str| -> f64 {
        let line = config.lines().find_map(|l| l.strip_prefix(&format!("{key} = "))).unwrap();
        line.parse().unwrap()
    };
    // Not those of the paper's 400,000 steps of 15.6 s.
    assert!(number("gumbel_decay") < 0.9999 && number("crop_seconds") <= 2.0, "{config}");
}

#[cfg(feature = "medical")]
#[test]
fn a_scan_alone() {
    let w = Work::new();
    let grid = selfsup::medical::grid::Grid::with_spacing([30, 26, 28], [1.0; 3]).unwrap();
    let values: Vec<f32> = (0..30 * 26 * 28).map(|v| ((v * 7) % 97) as f32).collect();
    let path = w.write("scans/one.nii.gz", []);
    selfsup::medical::write::values(&path, &grid, None, &values).unwrap();
    let said = trained(&w, &w.text("scans"), "run");
    assert!(said.contains("patches of 24 x 24 x 24 voxels"), "{said}");
}

#[test]
fn a_plan_keeps_what_is_given_and_is_a_configuration() {
    let w = Work::new();
    let data = pictures(&w, 12, 40);
    let given = ["encoder.name=resnet34", "train.epochs=3", "optim.lr=0.002"];
    let said = good(&selfsup(&[&["plan", "--data", &data][..], &given].concat()));
    for part in ["# plan for 11 images", "name = \"resnet34\"", "epochs = 3\n", "lr = 0.002\n", "size = 40\n"]
    {
        assert!(said.contains(part), "expected \"{part}\" in: {said}");
    }
    let file = w.file("plan.toml", &said);
    let run = w.text("run");
    notes(&selfsup(&["pretrain", &file, "--out", &run, "train.steps=1", "eval.online_knn=0", "--no-probe"]));
    ended(&selfsup(&["plan", "--data", &data, "--budget", "soon"]), 2, &["--budget soon", "30m"]);
    ended(&selfsup(&["plan", "--data", &data, "train.epoch=3"]), 2, &["train.epochs"]);
}

/// An allocation that cannot succeed is an error before the first step.
#[cfg(target_os = "linux")]
#[test]
fn a_step_that_does_not_fit_is_refused() {
    let w = Work::new();
    let data = pictures(&w, 64, 20);
    let file = w.file("run.toml", &format!("[data]\npath = \"{data}\"\n[train]\nbatch_size = 57\n"));
    let run = w.text("run");
    let limited = std::process::Command::new("sh")
        .args([
            "-c",
            "ulimit -v 3000000; exec \"$@\"",
            "sh",
            env!("CARGO_BIN_EXE_selfsup"),
            "pretrain",
            &file,
        ])
        .args(["--out", &run, "data.hold_out=0", "train.workers=0"])
        .env("RAYON_NUM_THREADS", "2")
        .output()
        .unwrap();
    ended(&limited, 2, &["train.batch_size = 57", "train.micro_batch_size = "]);
    assert!(!w.path("run").exists());
}

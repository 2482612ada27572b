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
    let said = notes(&selfsup(&[&args[..], &["method.hidden_dim=8"]].concat()));
    assert!(said.contains("train.batch_size = 6"), "{said}");
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

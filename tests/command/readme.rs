//! The README's commands for one's own data run as they are written, one after the other in one folder. Nothing
//! but the length is changed: the trainings get two steps of eight small images, and `cargo install` is left
//! out, since the command under test is on the PATH.

use crate::common::Work;
use std::fmt::Write;
use std::process::Command;

/// What is added to a line that trains, in front of its comment.
fn shortened(line: &str) -> String {
    let add = match line.split_whitespace().nth(1) {
        Some("pretrain") => " train.steps=2 train.batch_size=8 augment.size=32 eval.few=[]",
        Some("finetune") => " train.steps=2 train.batch_size=8",
        _ => "",
    };
    match line.split_once('#') {
        Some((verb, comment)) => format!("{}{add} #{comment}", verb.trim_end()),
        None => format!("{line}{add}"),
    }
}

#[cfg(unix)]
#[test]
fn the_block_of_ones_own_data_runs() {
    let w = Work::new();
    std::fs::create_dir(w.path("bin")).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_selfsup"), w.path("bin/selfsup")).unwrap();
    let mut labels = "path,label,group\n".to_string();
    for i in 0..40u32 {
        let kind = ["cats", "dogs"][i as usize % 2];
        let picture = image::RgbImage::from_fn(40, 36, |x, y| {
            let stripe = if i % 2 == 0 { x } else { y };
            image::Rgb([(stripe * 6 + i) as u8, (x * y) as u8, (i * 5) as u8])
        });
        for folder in [format!("photos/{kind}"), "new".into()] {
            std::fs::create_dir_all(w.path(&folder)).unwrap();
            if folder != "new" || i < 3 {
                picture.save(w.path(&format!("{folder}/{i:02}.png"))).unwrap();
            }
        }
        writeln!(labels, "{kind}/{i:02}.png,{kind},g{}", i / 4).unwrap();
    }
    w.write("labels.csv", labels);
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let section = readme.split("## Your data").nth(1).unwrap().split("\n## ").next().unwrap();
    let lines: Vec<&str> = section.lines().filter(|l| l.starts_with("    ")).map(str::trim).collect();
    let path = format!("{}:{}", w.text("bin"), std::env::var("PATH").unwrap());
    let mut ran = 0;
    for line in lines.into_iter().filter(|l| l.starts_with("selfsup ")) {
        let output = Command::new("sh")
            .args(["-c", &shortened(line)])
            .current_dir(w.path("."))
            .env("PATH", &path)
            .env("RAYON_NUM_THREADS", "2")
            .output()
            .unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        ran += 1;
    }
    assert!(ran >= 10, "{ran} lines");
    for made in
        ["both.svg", "features.npy", "features.ids.csv", "resnet18/model.safetensors", "predictions.csv"]
    {
        assert!(w.path(made).is_file(), "{made}");
    }
    let predictions = std::fs::read_to_string(w.path("predictions.csv")).unwrap();
    assert_eq!(predictions.lines().count(), 4, "{predictions}");
}

//! What ends at any of its file operations gives, once it is started again, the model of one that was left alone.

use crate::common::{Work, line};
use crate::modalities::{SPEECH, TEXT, tones};
use selfsup::verbs::finetune::{Request, run};
use selfsup::{Result, verbs};
use selfsup_core::checkpoint::fault;
use std::fmt::Write;

#[test]
fn a_fine_tuning_survives_every_crash_point() {
    let w = Work::new();
    std::fs::create_dir(w.path("data")).unwrap();
    let mut table = "path,label\n".to_string();
    for i in 0..16u32 {
        let standing = i % 2 == 1;
        let picture = image::RgbImage::from_fn(8, 8, |x, y| {
            let along = if standing { x } else { y };
            image::Rgb([((along + i / 2) % 4 / 2 * 200 + i) as u8; 3])
        });
        picture.save(w.path(&format!("data/{i:02}.png"))).unwrap();
        writeln!(table, "{i:02}.png,{}", if standing { "standing" } else { "lying" }).unwrap();
    }
    w.write("labels.csv", table);
    let keys = [
        "task.scratch=true",
        "encoder.name=resnet",
        "encoder.depths=[1, 1]",
        "encoder.widths=[4, 8]",
        "encoder.stem=4",
        "augment.size=8",
        "data.hold_out=0.25",
        "train.epochs=3",
        "train.batch_size=6",
        "train.keep_last=1",
        "train.workers=0",
        "optim.lr=0.02",
    ];
    let tune = |out: &str, resume: bool| {
        run(&Request {
            args: keys.map(str::to_string).to_vec(),
            data: Some(w.text("data")),
            labels: Some(w.path("labels.csv")),
            out: Some(w.path(out)),
            resume,
            ..Request::default()
        })
    };
    tune("whole", false).unwrap();
    let model = |out: &str| {
        ["model/model.safetensors", "model/head.safetensors", "model/classes.json"]
            .map(|name| std::fs::read(w.path(out).join(name)).unwrap())
    };
    let (expected, result) = (model("whole"), w.json("whole/result.json"));
    let same = |out: &str| {
        assert!(model(out) == expected, "{out}: another model");
        let found = w.json(&format!("{out}/result.json"));
        for key in ["best_step", "validation"] {
            assert_eq!(found[key], result[key], "{out}");
        }
        assert_eq!(found["training"]["best"], result["training"]["best"], "{out}");
        assert_eq!(found["training"]["loss"], result["training"]["loss"], "{out}");
    };
    everywhere(1, 35, |out| tune(out, w.path(out).join("config.toml").exists()), same);
}

/// Ends `run` at the file operations 0, `stride`, 2 `stride` ... of it, each in a folder of its own, and runs
/// it again there: `same` looks at what is then in the folder. At least `fewest` operations there must be.
///
/// A stride above 1 keeps slow ones short; `SELFSUP_ALL_CRASH_POINTS=1` takes all.
fn everywhere(stride: u64, fewest: u64, run: impl Fn(&str) -> Result<()>, same: impl Fn(&str)) {
    let stride = if std::env::var_os("SELFSUP_ALL_CRASH_POINTS").is_some() { 1 } else { stride };
    for n in (0..).step_by(stride as usize) {
        let out = format!("at-{n}");
        fault::arm(n);
        let ended = run(&out);
        let failed = fault::disarm();
        assert_eq!(ended.is_err(), failed, "point {n}: {:?}", ended.err());
        if !failed {
            assert!(n > fewest, "{n} points are fewer than a run has");
            return;
        }
        run(&out).unwrap_or_else(|e| panic!("point {n}, again: {e}"));
        same(&out);
    }
}

/// What `selfsup pretrain` writes into `model/`.
fn weights(w: &Work, out: &str) -> Vec<u8> {
    std::fs::read(w.path(out).join("model/model.safetensors")).unwrap()
}

fn pretrain(w: &Work, data: &str, method: Option<&str>, out: &str, keys: &[&str]) -> Result<()> {
    verbs::pretrain::run(verbs::pretrain::Request {
        args: keys.iter().map(|k| (*k).to_string()).collect(),
        data: Some(w.text(data)),
        method: method.map(str::to_string),
        out: Some(w.path(out)),
        resume: w.path(out).join("config.toml").exists(),
        ..Default::default()
    })
}

/// The clusterings and trainings of HuBERT, each with files of its own.
#[test]
fn stages_of_hubert_survive_crash_points() {
    let w = Work::new();
    tones(&w, 6);
    let stages = "method.iterations=[{features=\"mfcc\", clusters=4, steps=2}, {features={layer=1}, clusters=4, steps=2}]";
    let keys =
        [SPEECH, &["method.code_dim=8", "data.hold_out=0", "train.workers=0", "train.log_every=1", stages]]
            .concat();
    let run = |out: &str| pretrain(&w, "waves", Some("hubert"), out, &keys);
    run("whole").unwrap();
    let (expected, result) = (weights(&w, "whole"), w.json("whole/result.json"));
    let same = |out: &str| {
        assert!(weights(&w, out) == expected, "{out}: another model");
        assert_eq!(
            w.json(&format!("{out}/result.json"))["training"]["loss"],
            result["training"]["loss"],
            "{out}"
        );
    };
    everywhere(9, 40, run, same);
}

/// A vocabulary, texts and tokens on the disk, and a run on them.
#[test]
fn caches_of_texts_survive_crash_points() {
    let w = Work::new();
    let text: Vec<String> = (0..90).map(line).collect();
    w.file("corpus/a.txt", &text.join("\n"));
    let run = |out: &str| {
        let cache = format!("corpus.cache={:?}", w.text(&format!("{out}-cache")));
        let own = ["corpus.in_memory=0", cache.as_str(), "train.workers=0", "data.hold_out=0"];
        pretrain(&w, "corpus", None, out, &[TEXT, &own].concat())
    };
    run("whole").unwrap();
    let expected = weights(&w, "whole");
    everywhere(3, 40, run, |out| assert!(weights(&w, out) == expected, "{out}: another model"));
}

/// An export that ends somewhere is written again with `--force`, and then is what it would have been.
#[test]
fn an_export_survives_every_crash_point() {
    let w = Work::new();
    std::fs::create_dir(w.path("data")).unwrap();
    for i in 0..8u8 {
        image::RgbImage::from_pixel(8, 8, image::Rgb([30 * i; 3]))
            .save(w.path(&format!("data/{i}.png")))
            .unwrap();
    }
    let keys = [
        "encoder.name=vit",
        "encoder.dim=16",
        "encoder.depth=1",
        "encoder.heads=2",
        "encoder.patch=4",
        "augment.size=8",
        "method.hidden_dim=8",
        "method.out_dim=4",
        "train.steps=1",
        "train.batch_size=4",
        "train.workers=0",
    ];
    pretrain(&w, "data", Some("simclr"), "run", &keys).unwrap();
    let export = |out: &str| verbs::export::run(&w.path("run"), Some(&w.path(out)), Some("hf"), true);
    let files = |out: &str| {
        let mut all: Vec<_> = std::fs::read_dir(w.path(out))
            .unwrap()
            .map(|e| e.unwrap())
            .map(|e| (e.file_name(), std::fs::read(e.path()).unwrap()))
            .collect();
        all.sort();
        all
    };
    export("whole").unwrap();
    let expected = files("whole");
    assert!(expected.len() >= 2, "weights and their description");
    everywhere(1, 4, export, |out| assert!(files(out) == expected, "{out}"));
}

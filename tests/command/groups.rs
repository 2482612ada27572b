//! `selfsup probe`: groups, calibration, samples from elsewhere, and what is refused.

use crate::common::{Work, good, refused, selfsup};
use selfsup::core::checkpoint::Checkpoint;
use std::fmt::Write;

const SMALL: &[&str] = &[
    "encoder.name=resnet",
    "encoder.depths=[1, 1]",
    "encoder.widths=[8, 16]",
    "encoder.stem=8",
    "method.hidden_dim=8",
    "method.out_dim=4",
    "augment.size=16",
    "augment.crop_scale=[0.8, 1.0]",
    "augment.flip=0",
    "train.steps=2",
    "train.batch_size=8",
    "eval.online_knn=0",
    "eval.few=[]",
];

impl Work {
    /// Dark and bright pictures with a table: of the group `b` one label in three is wrong; `c` has five test
    /// samples. Eighty to fit on.
    fn with_groups(&self) -> String {
        std::fs::create_dir(self.path("data")).unwrap();
        let mut table = "path,label,clinic,age,split\n".to_string();
        for i in 0..200u32 {
            let bright = i % 2 == 1;
            let picture = image::RgbImage::from_fn(16, 16, |x, y| {
                let light = if bright { 170 } else { 60 };
                image::Rgb([(light + (7 * x + 13 * y + 5 * i) % 23) as u8; 3])
            });
            picture.save(self.path(&format!("data/{i:03}.png"))).unwrap();
            let clinic = if i >= 195 { "c" } else { ["a", "b"][(i / 2 % 2) as usize] };
            let wrong = i >= 80 && clinic == "b" && i / 4 % 3 == 0;
            let label = if bright != wrong { "light" } else { "dark" };
            let split = if i < 80 { "train" } else { "test" };
            writeln!(table, "{i:03}.png,{label},{clinic},{},{split}", 20 + i % 40).unwrap();
        }
        self.file("labels.csv", &table)
    }

    fn run_of_clinics(&self, name: &str, more: &[&str]) -> String {
        let (data, run) = (self.text("data"), self.text(name));
        let args = [&["pretrain", "--data", &data, "--out", &run, "--no-probe"][..], SMALL, more];
        good(&selfsup(&args.concat()));
        run
    }
}

#[test]
fn groups_are_measured_and_compared() {
    let w = Work::new();
    let labels = w.with_groups();
    let (run, other) = (w.run_of_clinics("run", &[]), w.run_of_clinics("other", &["train.seed=1"]));
    let out = w.text("found.json");
    let args = ["probe", &run, "--labels", &labels, "--groups", "clinic", "--against", &other, "--out", &out];
    let before = w.listing("run");
    let said = good(&selfsup(&args));
    assert_eq!(w.listing("run"), before, "a probe leaves the run as it is");
    for part in ["groups by `clinic`", "too small: fewer than 30", "worst: b", "rates are those of `light`"] {
        assert!(said.contains(part), "{part} in: {said}");
    }
    let found = w.json("found.json");
    let by = &found["groups"]["by"];
    assert_eq!(by.as_object().unwrap().len(), 4, "trained, random, raw, the other run");
    let groups = by["raw"]["groups"].as_array().unwrap();
    let n: Vec<u64> = groups.iter().map(|g| g["n"].as_u64().unwrap()).collect();
    assert_eq!(n.iter().sum::<u64>(), 120, "{groups:?}");
    assert_eq!((n[2], &groups[2]["measures"]), (5, &serde_json::Value::Null));
    let accuracy = |g: usize| groups[g]["measures"]["accuracy"].as_f64().unwrap();
    assert!(accuracy(0) > 0.95 && accuracy(1) < 0.8, "a third of the labels of b are wrong: {groups:?}");
    let gap = &by["raw"]["gaps"][0];
    assert!(gap["interval"][0].as_f64().unwrap() > gap["chance"].as_f64().unwrap() * 0.5, "{gap}");
    assert_eq!(found["groups"]["against"].as_object().unwrap().len(), 3);

    // Calibration of all three.
    let calibration = &found["calibration"];
    assert!(said.contains("calibration error in % (scaled)"), "{said}");
    for set in ["trained", "random", "raw"] {
        let c = &calibration[set];
        assert!(c["ece"].as_f64().unwrap() >= 0.0 && c["temperature"].as_f64().unwrap() > 0.0, "{c}");
        assert!(c["selective"]["0.8"].as_f64().unwrap() <= 100.0, "{c}");
    }

    // A column of many numbers is cut into bands.
    let ages = good(&selfsup(&["probe", &run, "--labels", &labels, "--groups", "age"]));
    assert!(ages.contains("age 20 to "), "{ages}");

    let refuse = |more: &[&str], parts: &[&str]| {
        refused(&selfsup(&[&["probe", &run][..], more].concat()), parts);
    };
    refuse(
        &["--labels", &labels, "--groups", "sex"],
        &["--groups sex", "no such column", "`clinic`", "`age`"],
    );
    refuse(&["--groups", "clinic"], &["--groups", "no labels", "--labels FILE"]);
    refuse(&["--labels", &labels, "--against", &other], &["--against", "--groups"]);
    let twice: String = (0..20).map(|i| format!("{i:03}.png,same,a\n")).collect();
    let one = w.file("one.csv", &format!("path,label,clinic\n{twice}"));
    refuse(&["--labels", &one, "--groups", "clinic"], &["no labels of two classes"]);
}

/// A fine-tuned run is measured by its own head, and compared with one from scratch on the same samples.
#[test]
fn fine_tuned_runs_have_groups_too() {
    let w = Work::new();
    let labels = w.with_groups();
    let run = w.run_of_clinics("run", &[]);
    let tune = |name: &str, more: &[&str]| {
        let out = w.text(name);
        let keys = ["train.epochs=8", "train.batch_size=16", "optim.lr=0.02", "train.patience=0"];
        let args = ["finetune", "--run", &run, "--labels", &labels, "--out", &out];
        good(&selfsup(&[&args[..], &keys, more].concat()));
        out
    };
    let (tuned, scratch) = (tune("tuned", &[]), tune("scratch", &["task.scratch=true"]));
    let said = good(&selfsup(&["probe", &tuned, "--groups", "clinic", "--against", &scratch]));
    assert!(said.contains("gap of accuracy") && said.contains("worst: b"), "{said}");
    refused(&selfsup(&["probe", &tuned, "--groups", "clinic", "--against", &run]), &["pre-training run"]);
    refused(&selfsup(&["probe", &tuned]), &["fine-tuned"]);
    // The head of the fine-tuned run on the samples of the probe; and on others.
    let said =
        good(&selfsup(&["probe", &run, "--labels", &labels, "--groups", "clinic", "--against", &tuned]));
    assert!(said.contains("trained against"), "{said}");
    let text = std::fs::read_to_string(&labels).unwrap();
    let fewer: Vec<&str> = text.lines().take(180).collect();
    let fewer = w.file("fewer.csv", &fewer.join("\n"));
    let half = tune("half", &[&format!("data.labels={fewer}")]);
    refused(
        &selfsup(&["probe", &tuned, "--groups", "clinic", "--against", &half]),
        &["tested on other samples"],
    );
}

#[test]
fn samples_from_elsewhere_are_told() {
    let w = Work::new();
    let labels = w.with_groups();
    let run = w.run_of_clinics("run", &[]);
    std::fs::create_dir(w.path("noise")).unwrap();
    for i in 0..40u32 {
        let mut state = i.wrapping_mul(0x9e37_79b9) | 1;
        let picture = image::RgbImage::from_fn(16, 16, |_, _| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            image::Rgb([(state >> 24) as u8; 3])
        });
        picture.save(w.path(&format!("noise/{i}.png"))).unwrap();
    }
    let (out, noise) = (w.text("found.json"), w.text("noise"));
    let said = good(&selfsup(&["probe", &run, "--labels", &labels, "--ood", &noise, "--out", &out]));
    assert!(said.contains("samples from elsewhere") && said.contains("relative mahalanobis"), "{said}");
    let found = w.json("found.json");
    let far = &found["elsewhere"][0];
    assert_eq!(far["samples"], 40);
    assert!(far["found"]["raw"]["mahalanobis"]["auroc"].as_f64().unwrap() > 0.95, "{far}");
    // Without labels there is one Gaussian.
    let bare = good(&selfsup(&["probe", &run, "data.hold_out=0.3", "--ood", &noise]));
    assert!(bare.contains("mahalanobis") && !bare.contains("relative"), "{bare}");
    refused(&selfsup(&["probe", &run, "--labels", &labels, "--ood", &w.text("absent")]), &["absent"]);
}

/// Weights that are NaN give embeddings that are NaN: refused, not measured.
#[test]
fn nan_embeddings_are_refused() {
    let w = Work::new();
    let labels = w.with_groups();
    let run = w.run_of_clinics("run", &[]);
    let folder = w.path("run/checkpoints");
    let files = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path());
    for file in files.filter(|f| f.extension().is_some_and(|e| e == "safetensors")) {
        let mut checkpoint = Checkpoint::load(&file, &candle_core::Device::Cpu).unwrap();
        for (name, tensor) in &mut checkpoint.params {
            if name.starts_with("encoder.") && name.ends_with("weight") {
                *tensor = (&*tensor * f64::NAN).unwrap();
            }
        }
        checkpoint.save(&file).unwrap();
    }
    for args in [
        &["probe", &run, "--labels", &labels][..],
        &["curve", &run, "--labels", &labels, "--settings", "linear", "--fractions", "100"],
    ] {
        refused(&selfsup(args), &["NaN", "finite"]);
    }
}

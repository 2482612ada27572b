//! Labels, the leak guard, fine-tuning and prediction, through the real command.

use crate::common::{Work, good, refused, selfsup};
use std::fmt::Write;
use std::path::Path;

impl Work {
    /// A folder `data` of striped pictures, lying or standing, and `labels.csv` with four patients of each
    /// kind.
    fn with_pictures() -> Self {
        let w = Work::new();
        std::fs::create_dir(w.path("data")).unwrap();
        let mut table = "path,label,patient\n".to_string();
        for i in 0..40u32 {
            let standing = i % 2 == 1;
            let picture = image::RgbImage::from_fn(16, 16, |x, y| {
                let along = if standing { x } else { y };
                image::Rgb([((along + i / 2) % 4 / 2 * 200 + i) as u8; 3])
            });
            picture.save(w.path(&format!("data/{i:02}.png"))).unwrap();
            writeln!(table, "{i:02}.png,{},p{}", if standing { "standing" } else { "lying" }, i / 5).unwrap();
        }
        std::fs::write(w.path("labels.csv"), table).unwrap();
        w
    }

    /// A pre-training run of two steps in `run`.
    fn pretrained(&self) -> String {
        let (data, run) = (self.text("data"), self.text("run"));
        let args =
            [&["pretrain", "--data", &data, "--out", &run, "--no-probe", "data.hold_out=0"][..], SMALL]
                .concat();
        good(&selfsup(&args));
        run
    }
}

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
];

fn newest(run: &Path) -> Vec<u8> {
    let mut files: Vec<_> = std::fs::read_dir(run.join("checkpoints"))
        .unwrap()
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("step-")))
        .collect();
    files.sort();
    std::fs::read(files.last().unwrap()).unwrap()
}

#[test]
fn labels_are_learnt_and_predicted() {
    let w = Work::with_pictures();
    let (run, tuned, labels) = (w.pretrained(), w.text("tuned"), w.text("labels.csv"));
    let out = good(&selfsup(&[
        "finetune",
        "--run",
        &run,
        "--labels",
        &labels,
        "--out",
        &tuned,
        "train.epochs=30",
        "train.batch_size=16",
        "optim.lr=0.02",
        "task.class_weights=balanced",
        "task.label_smoothing=0.05",
    ]));
    assert!(out.contains("lying") || out.contains("2 classes"), "{out}");
    let found = w.json("tuned/result.json");
    let accuracy = found["validation"]["accuracy"].as_f64().unwrap();
    assert!(accuracy > 90.0, "stripes are told apart by their direction: {found}");
    assert!(found["training"]["steps"].as_u64().unwrap() < 30 * 3, "patience ended the run early: {found}");
    for file in ["model/model.safetensors", "model/head.safetensors", "model/classes.json", "config.toml"] {
        assert!(Path::new(&tuned).join(file).exists(), "{file}");
    }

    let predictions = w.text("p.csv");
    let (one, folder) = (w.text("data/07.png"), w.text("data"));
    good(&selfsup(&["predict", &tuned, &one, &folder, "--out", &predictions]));
    let text = std::fs::read_to_string(&predictions).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next().unwrap(), "path,label,confidence,p(lying),p(standing)");
    let rows: Vec<Vec<&str>> = lines.map(|l| l.split(',').collect()).collect();
    assert_eq!(rows.len(), 41);
    assert_eq!(rows[0], rows[8], "the single file is the eighth of the folder");
    let right = rows[1..].iter().enumerate().filter(|(i, r)| (r[1] == "standing") == (i % 2 == 1)).count();
    assert!(right >= 36, "{right} of 40");
    for row in &rows {
        let sum: f32 = row[3].parse::<f32>().unwrap() + row[4].parse::<f32>().unwrap();
        assert!((sum - 1.0).abs() < 1e-5);
    }
    let lines = w.text("p.jsonl");
    good(&selfsup(&["predict", &tuned, &one, "--out", &lines]));
    let value: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&lines).unwrap()).unwrap();
    assert_eq!(value["label"], rows[0][1]);

    refused(&selfsup(&["predict", &run, &one]), &["no head"]);
    refused(&selfsup(&["predict", &tuned, "absent.png"]), &["absent.png"]);
    refused(&selfsup(&["predict", &tuned]), &["no files"]);
    refused(&selfsup(&["probe", &tuned]), &["fine-tuned"]);
}

/// The head alone: no tensor of the encoder changes, running statistics included. The last block: what is
/// below it does not change.
#[test]
fn only_what_is_asked_for_is_trained() {
    let w = Work::with_pictures();
    let (run, labels) = (w.pretrained(), w.text("labels.csv"));
    let tensors = |run: &str| -> std::collections::BTreeMap<String, candle_core::Tensor> {
        let file = Path::new(run).join("model/model.safetensors");
        candle_core::safetensors::load(file, &candle_core::Device::Cpu).unwrap().into_iter().collect()
    };
    let before = tensors(&run);
    for (blocks, may_change) in [("0", &[][..]), ("1", &["layer2.", "bn"][..])] {
        let tuned = w.text(&format!("tuned{blocks}"));
        let blocks = format!("task.train_blocks={blocks}");
        good(&selfsup(&[
            "finetune",
            "--run",
            &run,
            "--labels",
            &labels,
            "--out",
            &tuned,
            &blocks,
            "train.steps=3",
            "train.batch_size=16",
        ]));
        let after = tensors(&tuned);
        let mut changed = 0;
        for (name, old) in &before {
            let same = old.dtype() != candle_core::DType::F32
                || old.flatten_all().unwrap().to_vec1::<f32>().unwrap()
                    == after[name].flatten_all().unwrap().to_vec1::<f32>().unwrap();
            changed += usize::from(!same);
            let allowed = may_change.iter().any(|p| name.contains(p));
            assert!(same || allowed, "{blocks}: {name} changed");
        }
        assert_eq!(changed == 0, may_change.is_empty());
    }
}

#[test]
fn a_stopped_fine_tuning_goes_on_to_the_same_bytes() {
    let w = Work::with_pictures();
    let (run, labels) = (w.pretrained(), w.text("labels.csv"));
    let tune = |out: &str, more: &[&str]| {
        let args = [
            "finetune",
            "--run",
            &run,
            "--labels",
            &labels,
            "--out",
            out,
            "task.dropout=0.2",
            "train.batch_size=8",
        ];
        good(&selfsup(&[&args[..], more].concat()))
    };
    let (whole, parts) = (w.text("whole"), w.text("parts"));
    tune(&whole, &["train.steps=12"]);
    tune(&parts, &["train.steps=12", "train.checkpoint_every=1", "train.keep_last=0"]);
    // As if it had been stopped after step 7.
    for step in 8..=12 {
        std::fs::remove_file(Path::new(&parts).join(format!("checkpoints/step-{step:09}.safetensors")))
            .unwrap();
    }
    let _ = std::fs::remove_file(Path::new(&parts).join("result.json"));
    tune(&parts, &["train.steps=12", "train.checkpoint_every=1", "train.keep_last=0", "--resume"]);
    let params = |run: &str| {
        let file = w.path("checkpoint");
        std::fs::write(&file, newest(Path::new(run))).unwrap();
        let all = candle_core::safetensors::load(&file, &candle_core::Device::Cpu).unwrap();
        let mut values: Vec<(String, Vec<f32>)> = all
            .into_iter()
            .filter(|(_, t)| t.dtype() == candle_core::DType::F32)
            .map(|(n, t)| (n, t.flatten_all().unwrap().to_vec1().unwrap()))
            .collect();
        values.sort_by(|a, b| a.0.cmp(&b.0));
        values
    };
    assert_eq!(params(&whole), params(&parts));
}

#[test]
fn a_leaking_group_is_refused() {
    let w = Work::with_pictures();
    let run = w.pretrained();
    let leak = w.file(
        "leak.csv",
        "path,label,patient,split\n00.png,lying,p1,train\n01.png,standing,p2,train\n02.png,lying,p3,test\n03.png,standing,p2,test\n",
    );
    let parts = ["p2", "training", "test", "01.png", "03.png", "1 group"];
    refused(&selfsup(&["finetune", "--run", &run, "--labels", &leak]), &parts);
    refused(&selfsup(&["probe", &run, "--labels", &leak]), &parts);
    let data = w.text("data");
    let labels = format!("data.labels={leak}");
    refused(
        &selfsup(&[&["pretrain", "--data", &data, "--out", &w.text("other"), &labels][..], SMALL].concat()),
        &parts,
    );
    // Held out by share: groups stay whole, so that there is nothing to refuse.
    let whole = w.text("labels.csv");
    good(&selfsup(&["finetune", "--run", &run, "--labels", &whole, "--out", &w.text("t"), "train.steps=1"]));
}

#[test]
fn too_few_samples_to_hold_some_out_are_a_warning() {
    let w = Work::with_pictures();
    for (share, warned) in [("0", false), ("0.0001", true)] {
        let share = format!("data.hold_out={share}");
        let (data, run) = (w.text("data"), w.text(&share));
        let args = [&["pretrain", "--data", &data, "--out", &run, "--no-probe", &share][..], SMALL].concat();
        let output = selfsup(&args);
        good(&output);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(said.contains("warning: nothing is held out"), warned, "{said}");
    }
}

#[test]
fn a_given_split_is_kept() {
    let w = Work::with_pictures();
    let run = w.pretrained();
    let mut table = "file\tclass\tsplit\n".to_string();
    for i in 0..30 {
        let split = if i < 20 {
            "train"
        } else if i < 26 {
            "val"
        } else {
            "test"
        };
        writeln!(table, "data/{i:02}.png\t{}\t{split}", i % 2).unwrap();
    }
    let labels = w.file("labels.tsv", &table);
    let tuned = w.text("tuned");
    let out =
        good(&selfsup(&["finetune", "--run", &run, "--labels", &labels, "--out", &tuned, "train.steps=2"]));
    assert!(out.contains("20 images into 2 classes, 6 held out"), "{out}");
    let found = w.json("tuned/result.json");
    assert!(found["test"]["accuracy"].is_number() && found["validation"]["accuracy"].is_number(), "{found}");
}

#[test]
fn what_cannot_be_is_refused() {
    let w = Work::with_pictures();
    let (run, labels) = (w.pretrained(), w.text("labels.csv"));
    let tune = |labels: &str, more: &[&str]| {
        selfsup(&[&["finetune", "--run", &run, "--labels", labels, "--out", &w.text("t")][..], more].concat())
    };
    refused(&selfsup(&["finetune"]), &["--run"]);
    refused(&selfsup(&["finetune", "--run", "no-such-run", "--labels", &labels]), &["no-such-run"]);
    refused(&selfsup(&["finetune", "--run", &run]), &["no labels"]);
    refused(&tune(&w.text("absent.csv"), &[]), &["absent.csv"]);
    refused(&tune(&w.file("a.csv", "path,label\n99.png,x\n"), &[]), &["a.csv", "line 2", "99.png"]);
    refused(
        &tune(&w.file("b.csv", "path,label\n01.png,x\n02.png,x\n"), &["data.hold_out=0"]),
        &["classes", "at least 2"],
    );
    refused(&tune(&labels, &["task.kind=poetry"]), &["poetry"]);
    refused(&tune(&labels, &["task.train_block=1"]), &["train_block", "train_blocks"]);
    refused(&tune(&labels, &["task.label_smoothing=2"]), &["label_smoothing"]);
    refused(&tune(&labels, &["encoder.widths=[4, 4]"]), &["encoder", "shape"]);
    refused(&tune(&labels, &["data.hold_out=1.5"]), &["hold_out"]);
}

#[test]
fn a_folder_of_two_kinds_of_data_is_refused() {
    let w = Work::with_pictures();
    std::fs::write(w.path("data/noise.wav"), b"RIFF").unwrap();
    refused(&selfsup(&["pretrain", "--data", &w.text("data")]), &["40 images", "1 recordings", "modality="]);
    refused(&selfsup(&["pretrain", "--data", &w.text("data"), "modality=smell"]), &["smell", "vision"]);
    // Said, it is taken at its word.
    good(&selfsup(
        &[
            &["pretrain", "--data", &w.text("data"), "--out", &w.text("r"), "--no-probe", "modality=vision"]
                [..],
            SMALL,
        ]
        .concat(),
    ));
}

#[test]
fn a_probe_reads_labels_from_a_table() {
    let w = Work::with_pictures();
    let (run, labels) = (w.pretrained(), w.text("labels.csv"));
    let out = w.text("probe.json");
    let args = ["--out", &out, "data.hold_out=0.3", "eval.few=[]", "eval.knn_k=3"];
    good(&selfsup(&[&["probe", &run, "--labels", &labels][..], &args].concat()));
    let found: serde_json::Value = serde_json::from_slice(&std::fs::read(&out).unwrap()).unwrap();
    assert!(!w.path("run/probe.json").exists(), "the run is left as it is");
    for part in ["knn", "linear"] {
        for set in ["trained", "random", "raw"] {
            assert!(found[part][set].is_number(), "{part} {set}: {found}");
        }
    }
}

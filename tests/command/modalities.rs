//! Text, speech and volumes through the real command: the modality is found, trained, resumed, probed,
//! embedded, exported and fine-tuned by the verbs that images use.

use crate::common::{Work, good, line, refused};
use candle_core::Device;
use selfsup::medical::grid::Grid;
use selfsup::speech::audio::write_wav;
use std::fmt::Write;
use std::path::Path;
use std::process::Output;

fn selfsup(args: &[&str], more: &[&str]) -> Output {
    crate::common::selfsup(&[args, more].concat())
}

/// Trains to step 4 at once, and to step 2 and on: both must end with the same checkpoint.
fn resumes(w: &Work, args: &[&str]) {
    let (whole, parts) = (w.text("whole"), w.text("parts"));
    let rest = ["--no-probe", "train.steps=4", "train.checkpoint_every=1", "train.keep_last=0"];
    good(&selfsup(args, &[&rest[..], &["--out", &whole]].concat()));
    good(&selfsup(args, &[&rest[..], &["--out", &parts]].concat()));
    for step in [3, 4] {
        std::fs::remove_file(w.path(&format!("parts/checkpoints/step-{step:09}.safetensors"))).unwrap();
    }
    let _ = std::fs::remove_file(w.path("parts/checkpoints/best.safetensors"));
    good(&selfsup(&["pretrain", "--out", &parts, "--resume", "--no-probe"], &[]));
    let last =
        |run: &str| std::fs::read(Path::new(run).join("checkpoints/step-000000004.safetensors")).unwrap();
    assert!(last(&whole) == last(&parts), "another checkpoint after resuming");
    // Once more: nothing is left to train, and the loss stays that of the last step.
    let said = good(&selfsup(&["pretrain", "--out", &parts, "--resume", "--no-probe"], &[]));
    assert!(said.contains("trained 4 steps") && said.contains("already complete"), "{said}");
    let training = &w.json("parts/result.json")["training"];
    let loss = &w.json("whole/result.json")["training"]["loss"];
    assert!(loss.is_number());
    assert_eq!((&training["steps"], &training["loss"]), (&4.into(), loss));
}

fn embeddings(w: &Work, run: &str) -> Vec<usize> {
    let out = w.text("e.safetensors");
    good(&selfsup(&["embed", run, "--out", &out], &[]));
    candle_core::safetensors::load(&out, &Device::Cpu).unwrap()["embeddings"].dims().to_vec()
}

pub const TEXT: &[&str] = &[
    "encoder.dim=16",
    "encoder.depth=1",
    "encoder.heads=2",
    "corpus.length=12",
    "tokenizer.vocab_size=120",
    "tokenizer.min_frequency=1",
    "train.batch_size=8",
    "train.steps=3",
    "eval.online_knn=0",
];

#[test]
fn text() {
    let w = Work::new();
    let all: Vec<String> = (0..120).map(line).collect();
    w.file("corpus/a.txt", &all.join("\n"));
    let data = w.text("corpus");
    let dry = good(&selfsup(&["pretrain", "--data", &data, "--dry-run"], TEXT));
    assert!(dry.contains("what it predicts:") && dry.contains("texts: "), "{dry}");
    let base = [&["pretrain", "--data", &data][..], TEXT].concat();
    resumes(&w, &base);
    let run = w.text("whole");
    assert_eq!(w.json("whole/result.json")["modality"], "text");
    assert_eq!(w.json("whole/result.json")["training"]["best"]["metric"], "-val_loss");
    assert_eq!(embeddings(&w, &run), [120, 16]);
    for file in
        ["model/model.safetensors", "model/config.json", "model/tokenizer.json", "tokenizer/tokenizer.json"]
    {
        assert!(Path::new(&run).join(file).exists(), "{file}");
    }
    let before = w.listing("whole");
    good(&selfsup(&["export", &run, "--out", &w.text("hf")], &[]));
    assert!(before == w.listing("whole"), "the run was written");

    let mut table = "text,label,source\n".to_string();
    for i in 0..80 {
        writeln!(table, "{},{},{}", line(i), if i % 2 == 0 { "weather" } else { "metal" }, i / 2).unwrap();
    }
    let labels = w.file("labels.csv", &table);
    let tuned = w.text("tuned");
    good(&selfsup(
        &["finetune", "--run", &run, "--labels", &labels, "--out", &tuned],
        &["train.epochs=20", "train.batch_size=16", "optim.lr=0.01", "optim.layer_decay=1.0"],
    ));
    let accuracy = w.json("tuned/result.json")["validation"]["accuracy"].as_f64().unwrap();
    assert!(accuracy > 90.0, "{accuracy}");
    let new = w.file("new.txt", "sun rain cloud\ntin zinc lead\n");
    let said = good(&selfsup(&["predict", &tuned, &new], &[]));
    let labels: Vec<&str> = said.lines().skip(1).map(|l| l.split(',').nth(1).unwrap()).collect();
    assert_eq!(labels, ["weather", "metal"], "{said}");
    let probe = good(&selfsup(
        &["probe", &run, "--labels", &w.text("labels.csv")],
        &["data.hold_out=0.3", "eval.few=[]", "eval.knn_k=3"],
    ));
    assert!(probe.contains("TF-IDF"), "{probe}");

    // The method alone says that it is text; the network goes with the method.
    good(
        &selfsup(
            &[
                &[
                    "pretrain",
                    "--data",
                    &data,
                    "--method",
                    "causal-lm",
                    "--out",
                    &w.text("gpt"),
                    "--no-probe",
                ][..],
                TEXT,
            ]
            .concat(),
            &[],
        ),
    );
    assert_eq!(w.json("gpt/result.json")["encoder"], "gpt2");

    // Going on from a folder: its vocabulary and shape count, and the new run stands without it.
    let start = format!("encoder.pretrained={}", w.text("hf"));
    let out = good(&selfsup(
        &["pretrain", "--data", &data, "--out", &w.text("on"), "--no-probe", &start],
        &["train.steps=2", "train.batch_size=8", "corpus.length=12", "eval.online_knn=0"],
    ));
    assert!(out.contains("pretrained weights:") && !out.contains("making a vocabulary"), "{out}");
    std::fs::remove_dir_all(w.path("hf")).unwrap();
    assert_eq!(embeddings(&w, &w.text("on")), [120, 16]);

    refused(&selfsup(&["pretrain", "--data", &w.file("empty.txt", "")], TEXT), &["empty.txt", "empty"]);
    std::fs::write(w.path("bad.txt"), b"good\nb\xffd\n").unwrap();
    refused(&selfsup(&["pretrain", "--data", &w.text("bad.txt")], TEXT), &["bad.txt"]);
    refused(&selfsup(&["transcribe", &tuned, &new], &[]), &["classification", "ctc"]);
}

#[test]
fn vocabularies() {
    let w = Work::new();
    let all: Vec<String> = (0..60).map(line).collect();
    let data = w.file("a.txt", &all.join("\n"));
    for (kind, more) in
        [("wordpiece", "vocab_size=80"), ("bpe", "vocab_size=300"), ("characters", "lowercase=false")]
    {
        let out = w.text(kind);
        good(&selfsup(&["tokenizer", "train", &data, "--out", &out], &[&format!("kind={kind}"), more]));
        assert!(w.path(kind).join("tokenizer.json").exists());
        let start = format!("tokenizer.path={out}");
        if kind == "wordpiece" {
            // Keys of a vocabulary that is made are refused where one is given.
            let e = ["`tokenizer.vocab_size` is read where a vocabulary is made"];
            refused(&selfsup(&["pretrain", "--data", &data, "--dry-run", &start], TEXT), &e);
            let given: Vec<&str> = TEXT.iter().copied().filter(|k| !k.starts_with("tokenizer.")).collect();
            let dry = good(&selfsup(&["pretrain", "--data", &data, "--dry-run", &start], &given));
            assert!(!dry.contains("making a vocabulary"), "{dry}");
        }
    }
    refused(&selfsup(&["tokenizer", "train", &data, "--out", &w.text("x"), "kind=runes"], &[]), &["runes"]);
}

/// Tones whose pitch spells the label.
/// Recordings `waves/NN.wav` of two kinds, with transcripts.
pub fn tones(w: &Work, count: usize) {
    for i in 0..count {
        let wave: Vec<f32> = (0..5200 + 160 * i)
            .map(|t| {
                (t as f32 * if i % 2 == 0 { 0.05 } else { 0.21 }).sin() * 0.4
                    + ((t * 7919 + i * 31) % 101) as f32 * 5e-4
            })
            .collect();
        let path = w.path(&format!("waves/{i:02}.wav"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        write_wav(&path, &wave, 16_000).unwrap();
        std::fs::write(path.with_extension("txt"), if i % 2 == 0 { "lo lo" } else { "hi" }).unwrap();
    }
}

pub const SPEECH: &[&str] = &[
    "encoder.dim=16",
    "encoder.depth=2",
    "encoder.heads=2",
    "encoder.front_dim=8",
    "encoder.position_kernel=8",
    "encoder.position_groups=2",
    "train.batch_size=4",
    "eval.online_knn=0",
];

#[test]
fn speech() {
    let w = Work::new();
    tones(&w, 12);
    let data = w.text("waves");
    let dry = good(&selfsup(&["pretrain", "--data", &data, "--dry-run"], SPEECH));
    assert!(dry.contains("waves: [4, "), "{dry}");
    resumes(&w, &[&["pretrain", "--data", &data][..], SPEECH].concat());
    let run = w.text("whole");
    assert_eq!(w.json("whole/result.json")["modality"], "speech");
    assert_eq!(embeddings(&w, &run), [12, 16]);
    assert!(w.path("whole/model/config.json").exists());

    let tuned = w.text("tuned");
    let out = good(&selfsup(
        &["finetune", "--run", &run, "--out", &tuned, "task.kind=ctc"],
        &["train.steps=3", "train.batch_size=4", "data.hold_out=0.3"],
    ));
    assert!(out.contains("tokens"), "{out}");
    let found = w.json("tuned/result.json");
    assert!(found["validation"]["cer"].is_number() && found["validation"]["wer"].is_number(), "{found}");
    let one = w.text("waves/03.wav");
    let said = good(&selfsup(&["transcribe", &tuned, &one], &[]));
    assert!(said.starts_with("path,transcript\n") && said.lines().count() == 2, "{said}");

    let mut table = "path,label,speaker\n".to_string();
    (0..12).for_each(|i| {
        writeln!(table, "{i:02}.wav,{},s{}", if i % 2 == 0 { "low" } else { "high" }, i / 2).unwrap()
    });
    let labels = w.file("labels.csv", &table);
    let probe = good(&selfsup(
        &["probe", &run, "--labels", &labels],
        &["data.hold_out=0.4", "eval.few=[]", "eval.knn_k=1", "eval.batch_size=4"],
    ));
    assert!(probe.contains("MFCC"), "{probe}");
    let read =
        ["data.hold_out=0.4", "eval.few=[]", "eval.knn_k=1", "eval.batch_size=4", "eval.read=statistics"];
    let all = good(&selfsup(&["probe", &run, "--labels", &labels], &read));
    assert!(all.contains("MFCC") && all != probe, "{all}");

    std::fs::write(w.path("waves/00.wav"), b"RIFF\0\0\0\0WAVE").unwrap();
    refused(&selfsup(&["pretrain", "--data", &data, "--out", &w.text("x")], SPEECH), &["00.wav"]);
}

#[test]
fn hubert_in_one_command() {
    let w = Work::new();
    tones(&w, 8);
    let data = w.text("waves");
    let run = w.text("run");
    let stages = "method.iterations=[{features=\"mfcc\", clusters=4, steps=2}, {features={layer=1}, clusters=5, steps=2}]";
    let args = [
        &[
            "pretrain",
            "--data",
            &data,
            "--method",
            "hubert",
            "--no-probe",
            "method.code_dim=8",
            "data.hold_out=0",
            stages,
        ][..],
        &["--out", &run],
    ]
    .concat();
    let said = good(&selfsup(&args, SPEECH));
    assert!(said.contains("4 stages: 4 clusters, 2 steps; 5 clusters, 2 steps"), "{said}");
    for file in [
        "stages/1-training/result.json",
        "stages/2-training/result.json",
        "model/model.safetensors",
        "curves.svg",
        "result.json",
    ] {
        assert!(w.path("run").join(file).exists(), "{file}");
    }
    // The run has the metrics of both trainings behind each other, and keeps them where it is complete.
    let steps = || -> Vec<u64> {
        let text = std::fs::read_to_string(w.path("run/metrics.jsonl")).unwrap();
        let line = |l| serde_json::from_str::<serde_json::Value>(l).unwrap();
        text.lines()
            .map(line)
            .filter(|v| v.get("loss").is_some())
            .map(|v| v["step"].as_u64().unwrap())
            .collect()
    };
    assert_eq!(steps(), [1, 2, 3, 4]);
    good(&selfsup(&[&args[..], &["--resume"]].concat(), SPEECH));
    assert_eq!(steps(), [1, 2, 3, 4]);
    assert_eq!(embeddings(&w, &w.text("run")), [8, 16]);
}

const VOLUMES: &[&str] = &[
    "encoder.widths=[4, 8]",
    "augment.size=[8, 8, 8]",
    "volumes.patches=4",
    "train.batch_size=4",
    "train.steps=2",
    "eval.online_knn=0",
];

#[test]
fn volumes() {
    let w = Work::new();
    for i in 0..6usize {
        let grid = Grid::with_spacing([14, 13, 12], [1.0; 3]).unwrap();
        let values: Vec<f32> = (0..14 * 13 * 12).map(|v| ((v * (7 + i % 2 * 6) + i) % 97) as f32).collect();
        let path = w.path(&format!("scans/{}/{i}.nii.gz", if i % 2 == 0 { "even" } else { "odd" }));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        selfsup::medical::write::values(&path, &grid, None, &values).unwrap();
    }
    let data = w.text("scans");
    // A dry run draws its picture where it is started: the volume and two views of four patches of 8 x 8,
    // enlarged twelvefold, with gaps of 4, and of 12 beside the volume.
    let dry = crate::common::command(&[&["pretrain", "--data", &data, "--dry-run"][..], VOLUMES].concat())
        .current_dir(w.path(""))
        .output();
    let dry = good(&dry.unwrap());
    assert!(dry.contains("view 1: [4, 1, 8, 8, 8]"), "{dry}");
    let picture = dry
        .lines()
        .find_map(|l| l.strip_prefix("middle slices, that of the whole volume on the left: "))
        .unwrap();
    assert_eq!(image::image_dimensions(w.path(picture)).unwrap(), (312, 404));
    resumes(&w, &[&["pretrain", "--data", &data, "data.hold_out=0"][..], VOLUMES].concat());
    let run = w.text("whole");
    assert_eq!(w.json("whole/result.json")["modality"], "medical");
    assert_eq!(embeddings(&w, &run), [6, 8]);

    // Read from blocks on the disk instead of memory; SimCLR is of two modalities, so the data decides.
    let blocks = format!("volumes.blocks={}", w.text("blocks"));
    good(&selfsup(
        &[
            "pretrain",
            "--data",
            &data,
            "--out",
            &w.text("blocked"),
            "--no-probe",
            "data.hold_out=0",
            "volumes.in_memory=100",
            &blocks,
        ],
        &[VOLUMES, &["--method", "simclr", "method.hidden_dim=8", "method.out_dim=4"]].concat(),
    ));
    assert!(w.path("blocks").read_dir().unwrap().count() >= 6);
    let tuned = w.text("tuned");
    good(&selfsup(
        &["finetune", "--run", &run, "--out", &tuned, "data.hold_out=0.4"],
        &["train.steps=2", "train.batch_size=2"],
    ));
    let said = good(&selfsup(&["predict", &tuned, &data], &[]));
    assert!(said.starts_with("path,label,confidence,p(even),p(odd)") && said.lines().count() == 7, "{said}");

    // Two classes that intensity tells apart, on the grid of the volumes.
    let mut table = "path,mask,patient\n".to_string();
    for i in 0..6usize {
        let labels: Vec<u16> =
            (0..14 * 13 * 12).map(|v| u16::from((v * (7 + i % 2 * 6) + i) % 97 > 48)).collect();
        let grid = Grid::with_spacing([14, 13, 12], [1.0; 3]).unwrap();
        let path = w.path(&format!("masks/{i}.nii.gz"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        selfsup::medical::write::labels(&path, &grid, None, &labels).unwrap();
        writeln!(table, "{}/{i}.nii.gz,masks/{i}.nii.gz,p{i}", if i % 2 == 0 { "even" } else { "odd" })
            .unwrap();
    }
    let labels = w.file("masks.csv", &table);
    // Plane by plane too, from slices that were told apart.
    let flat = w.text("flat");
    let planes = [
        "--method",
        "simclr",
        "method.hidden_dim=8",
        "method.out_dim=4",
        "encoder.name=unet2d",
        "augment.size=[1, 8, 8]",
    ];
    good(&selfsup(
        &["pretrain", "--data", &data, "--out", &flat, "--no-probe"],
        &[VOLUMES, &planes].concat(),
    ));
    for (run, tuned, epochs) in [(&flat, "planes", "train.epochs=40"), (&run, "segmenter", "train.epochs=12")]
    {
        good(&selfsup(
            &[
                "finetune",
                "--run",
                run,
                "--labels",
                &labels,
                "--out",
                &w.text(tuned),
                "task.kind=segmentation",
                "task.class_weights=balanced",
            ],
            &[
                "data.hold_out=0.4",
                epochs,
                "train.batch_size=4",
                "optim.lr=0.01",
                "augment.rotate=[0, 0, 0]",
                "augment.elastic=0",
                "augment.gamma_p=0",
            ],
        ));
        refused(
            &selfsup(&["finetune", "--run", run, "task.kind=segmentation", "task.dropout=0.1"], &[]),
            &["`task.dropout` is not read by segmentation"],
        );
        let found = w.json(&format!("{tuned}/result.json"));
        assert!(found["validation"]["dice"].as_f64().unwrap() > 70.0, "{tuned}: {found}");
        let out = format!("{tuned}-masks");
        let before = w.listing(tuned);
        good(&selfsup(&["segment", &w.text(tuned), &w.text("scans/odd"), "--out", &w.text(&out)], &[]));
        assert!(before == w.listing(tuned), "the run was written");
        let (grid, made) =
            selfsup::medical::read::labels(w.path(&format!("{out}/3.nii.gz")), &Default::default()).unwrap();
        assert_eq!(grid.shape(), [14, 13, 12]);
        assert!(made.contains(&0) && made.contains(&1));
    }
    // What labelled volumes are worth.
    let keys = ["task.kind=segmentation", "data.hold_out=0.4", "--fractions", "50,100", "--draws", "1"];
    let more = ["--seeds", "1", "--steps", "4", "--rates", "0.01", "--settings", "linear,scratch"];
    let said = good(&selfsup(&[&["curve", &run, "--labels", &labels], &keys[..]].concat(), &more));
    assert!(said.contains("dice in %") && said.contains("from scratch"), "{said}");
    assert_eq!(w.json("whole/curve/curve.json")["points"].as_array().unwrap().len(), 4);
    let tuned = w.text("segmenter");
    refused(&selfsup(&["predict", &tuned, &data], &[]), &["selfsup segment"]);
    let bad = w.file("bad.csv", "path,mask\neven/0.nii.gz,absent.nii.gz\n");
    refused(
        &selfsup(&["finetune", "--run", &run, "--labels", &bad, "task.kind=segmentation"], &[]),
        &["line 2", "absent.nii.gz"],
    );

    let cut = std::fs::read(w.path("scans/odd/1.nii.gz")).unwrap();
    std::fs::write(w.path("scans/odd/1.nii.gz"), &cut[..cut.len() / 2]).unwrap();
    let args = ["pretrain", "--data", &data, "--out", &w.text("x"), "data.hold_out=0"];
    refused(&selfsup(&args, VOLUMES), &["1.nii.gz"]);
}

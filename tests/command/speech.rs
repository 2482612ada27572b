//! Recordings through the real command: the probe of frames, testing in noise, bounds on lengths, and
//! transcripts.

use crate::common::{Work, ended, good, refused};
use selfsup::speech::audio::write_wav;
use std::fmt::Write;
use std::process::{Command, Output};

impl Work {
    /// `waves/NN.wav`, each a low tone (`lo`) and then a high one (`hi`) with transcripts, alignments in
    /// `phones`, and a run of two steps.
    fn with_waves() -> Self {
        let w = Work::new();
        for dir in ["waves", "phones", "noise"] {
            std::fs::create_dir(w.path(dir)).unwrap();
        }
        for i in 0..COUNT {
            let turn = 4000 + 160 * (i % 5);
            write_wav(&w.path(&format!("waves/{i:02}.wav")), &wave(i, turn), 16_000).unwrap();
            std::fs::write(w.path(&format!("waves/{i:02}.txt")), "L+o, hi!").unwrap();
            let (a, b) = (turn as f64 / 16_000.0, 0.5);
            let (name, text) = match i % 3 {
                0 => ("lab", format!("#\n{a} 125 lo\n{b} 125 hi\n")),
                1 => ("phn", format!("0 {turn} lo\n{turn} 8000 hi\n")),
                _ => ("tsv", format!("end\tphone\n{a}\tlo\n{b}\thi\n")),
            };
            std::fs::write(w.path(&format!("phones/{i:02}.{name}")), text).unwrap();
        }
        let hum: Vec<f32> = (0..30_000).map(|t| ((t * 7919) % 997) as f32 / 997.0 - 0.5).collect();
        write_wav(&w.path("noise/hum.wav"), &hum, 16_000).unwrap();
        w
    }

    fn pretrain(&self, run: &str, more: &[&str]) -> Output {
        let (data, out) = (self.text("waves"), self.text(run));
        selfsup(
            &["pretrain", "--data", &data, "--out", &out, "--no-probe", "train.steps=2", "data.hold_out=0"],
            &[SMALL, more].concat(),
        )
    }
}

fn selfsup(args: &[&str], more: &[&str]) -> Output {
    crate::common::selfsup(&[args, more].concat())
}

const COUNT: usize = 20;

fn wave(i: usize, turn: usize) -> Vec<f32> {
    let at = |t: usize| {
        (t as f32 * if t < turn { 0.08 } else { 0.9 }).sin() * 0.4 + ((t * 7919 + i * 31) % 101) as f32 * 2e-4
    };
    (0..8000).map(at).collect()
}

const SMALL: &[&str] = &[
    "encoder.dim=16",
    "encoder.depth=2",
    "encoder.heads=2",
    "encoder.front_dim=8",
    "encoder.position_kernel=8",
    "encoder.position_groups=2",
    "train.batch_size=4",
    "eval.online_knn=0",
];

/// Transcripts are counted in minutes.
#[test]
fn transcripts_have_a_curve() {
    let w = Work::with_waves();
    good(&w.pretrain("run", &[]));
    let run = w.text("run");
    let args = ["curve", &run, "task.kind=ctc", "data.hold_out=0.25", "train.workers=0", "--draws", "1"];
    let more = ["--seeds", "1", "--steps", "3", "--rates", "0.001", "--fractions", "100", "--minutes"];
    let said = good(&selfsup(&args, &[&more[..], &["0.05"]].concat()));
    assert!(said.contains("character accuracy in %") && said.contains("0.05 min"), "{said}");
    let found = w.json("run/curve/curve.json");
    assert_eq!((found["unit"].as_str(), found["points"].as_array().unwrap().len()), (Some("minutes"), 8));
    let whole = found["amounts"][1]["amount"].as_f64().unwrap();
    assert!((whole - found["train"].as_f64().unwrap() * 0.5 / 60.0).abs() < 1e-3, "{found}");
    refused(&selfsup(&args, &[&more[..], &["9"]].concat()), &["--minutes", "at most"]);
    refused(&selfsup(&args, &["--settings", "raw"]), &["--settings raw", "classification"]);
    refused(&selfsup(&args, &["--per-class", "1"]), &["--per-class", "no classes"]);
}

#[test]
fn frames_are_probed_by_alignments() {
    let w = Work::with_waves();
    good(&w.pretrain("run", &[]));
    let (run, phones, noise) = (w.text("run"), w.text("phones"), w.text("noise"));
    let out = good(&selfsup(
        &["probe", &run, "--frames", &phones, "--snr", "20,-20", "--noise", &noise, "data.hold_out=0.25"],
        &["train.workers=0", "--out", &w.text("frames.json")],
    ));
    assert!(
        out.contains("2 phones") && out.contains("random encoder, block") && out.contains("-20 dB"),
        "{out}"
    );
    let found = w.json("frames.json");
    assert_eq!(
        (found["phones"].as_u64(), found["step_ms"].as_f64(), found["left_out"].as_u64()),
        (Some(2), Some(20.0), Some(0))
    );
    // 24 frames in each half second.
    let recordings =
        found["recordings"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap()).collect::<Vec<_>>();
    assert_eq!(recordings.iter().sum::<u64>(), COUNT as u64);
    assert_eq!(found["train_frames"].as_u64().unwrap(), 24 * recordings[0]);
    assert_eq!(found["test_frames"].as_u64().unwrap(), 24 * recordings[1]);
    let features = found["features"].as_array().unwrap();
    let named =
        |name: &str| features.iter().find(|f| f["name"] == name).unwrap_or_else(|| panic!("{name}: {found}"));
    // Two tones: any sensible features tell them apart in clean sound, and few do at -20 dB.
    for name in ["MFCC + deltas", "log-mel"] {
        let (clean, loud) =
            (named(name)["test"].as_f64().unwrap(), named(name)["noisy"][1][1].as_f64().unwrap());
        assert!(clean > 95.0 && loud < clean - 10.0, "{name}: {clean} {loud}");
    }
    assert_eq!(named("log-mel, 5 frames of context")["dim"], 880);
    let blocks = named("trained")["blocks"].as_array().unwrap();
    assert_eq!(blocks.len(), 2);
    let chosen = named("trained")["block"].as_u64().unwrap() as usize;
    let best = blocks.iter().map(|b| b["chooses"].as_f64().unwrap()).fold(0.0, f64::max);
    assert_eq!(
        blocks[chosen - 1]["chooses"].as_f64().unwrap(),
        best,
        "the held-out training recordings chose: {found}"
    );
    assert!(named("trained")["test"].as_f64().unwrap() > 80.0, "{found}");
    let joined = named("trained, all 2 blocks");
    assert_eq!(joined["dim"].as_u64().unwrap(), 2 * named("trained")["dim"].as_u64().unwrap());
    assert!(joined["test"].as_f64().unwrap() > 80.0, "{found}");

    refused(
        &selfsup(&["probe", &run, "--frames", "data.hold_out=0.25"], &[]),
        &["data.hold_out=0.25", "no such folder"],
    );
    refused(
        &selfsup(&["probe", &run, "data.hold_out=0.25", "--frames"], &[]),
        &["none of", "alignment", ".tsv"],
    );
    refused(&selfsup(&["probe", &run, "--frames", &phones], &[]), &["held out", "--test"]);
    refused(
        &selfsup(
            &["probe", &run, "--frames", &phones, "data.hold_out=0.25", "--snr", "10", "--noise", "gone"],
            &[],
        ),
        &["--noise gone"],
    );
    std::fs::write(w.path("phones/01.phn"), "0 x lo\n").unwrap();
    refused(
        &selfsup(&["probe", &run, "--frames", &phones, "data.hold_out=0.25"], &[]),
        &["01.phn", "line 1"],
    );
}

#[test]
fn recordings_are_tested_in_noise() {
    let w = Work::with_waves();
    good(&w.pretrain("run", &[]));
    let (run, tuned) = (w.text("run"), w.text("tuned"));
    let out = good(&selfsup(
        &[
            "finetune",
            "--run",
            &run,
            "--out",
            &tuned,
            "task.kind=ctc",
            "train.steps=2",
            "train.batch_size=4",
            "data.hold_out=0.3",
        ],
        &[],
    ));
    // A key of other tasks.
    for key in ["task.label_smoothing=0.1", "task.class_weights=balanced"] {
        let (name, _) = key.split_once('=').unwrap();
        let args = ["finetune", "--run", &run, "--out", &w.text("other"), "task.kind=ctc", key];
        refused(&selfsup(&args, &[]), &[name, "is not read by ctc, which reads dropout"]);
    }
    // `L+o, hi!` is learnt as `lo hi`: blank, unknown, space and four letters.
    assert!(out.contains("into 6 tokens") || out.contains("into 7 tokens"), "{out}");
    let classes = w.json("tuned/model/classes.json");
    assert_eq!(classes.as_array().unwrap()[3..], ["h", "i", "l", "o"]);
    let waves = w.text("waves");
    let table = good(&selfsup(&["transcribe", &tuned, &waves, "--snr", "20,0"], &[]));
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines[0], "snr_db,character_accuracy,cer,wer");
    assert_eq!(
        lines[1..].iter().map(|l| l.split(',').next().unwrap()).collect::<Vec<_>>(),
        ["clean", "20.0", "0.0"]
    );
    let rows = w.text("rows.jsonl");
    good(&selfsup(
        &["transcribe", &tuned, &waves, "--snr", "-5", "--noise", &w.text("noise"), "--out", &rows],
        &[],
    ));
    let row: serde_json::Value =
        serde_json::from_str(std::fs::read_to_string(&rows).unwrap().lines().nth(1).unwrap()).unwrap();
    assert!(row["snr_db"] == -5.0 && row["cer"].is_number(), "{row}");
    std::fs::remove_file(w.path("waves/07.txt")).unwrap();
    refused(&selfsup(&["transcribe", &tuned, &waves, "--snr", "20"], &[]), &["07.wav", "no transcript"]);
    let mut said = "path,transcript\n".to_string();
    (0..COUNT).for_each(|i| writeln!(said, "{i:02}.wav,lo hi").unwrap());
    std::fs::write(w.path("said.csv"), said).unwrap();
    good(&selfsup(&["transcribe", &tuned, &waves, "--labels", &w.text("said.csv"), "--snr", "20"], &[]));

    let mut labels = "path,label\n".to_string();
    (0..COUNT).for_each(|i| writeln!(labels, "{i:02}.wav,{}", ["a", "b"][i % 2]).unwrap());
    std::fs::write(w.path("labels.csv"), labels).unwrap();
    let labels = w.text("labels.csv");
    let probe = [
        "probe",
        &run,
        "--labels",
        &labels,
        "--snr",
        "10,0",
        "data.hold_out=0.4",
        "eval.few=[]",
        "eval.knn_k=1",
    ];
    let out = good(&selfsup(&probe, &["eval.batch_size=4", "--out", &w.text("probe.json")]));
    assert!(out.contains("linear, 10 dB") && out.contains("kNN, 0 dB"), "{out}");
    assert_eq!(w.json("probe.json")["noisy"].as_array().unwrap().len(), 2);
    let told = w.text("told");
    good(&selfsup(
        &[
            "finetune",
            "--run",
            &run,
            "--labels",
            &labels,
            "--out",
            &told,
            "train.steps=2",
            "train.batch_size=4",
        ],
        &[],
    ));
    let table = good(&selfsup(&["predict", &told, &waves, "--labels", &labels, "--snr", "10"], &[]));
    assert!(table.starts_with("snr_db,accuracy,") && table.lines().count() == 3, "{table}");
    refused(&selfsup(&["predict", &told, &waves, "--snr", "10"], &[]), &["classes"]);
}

#[test]
fn lengths_have_bounds() {
    let w = Work::with_waves();
    let tone = |n: usize| (0..n).map(|t| (t as f32 * 0.1).sin() * 0.3).collect::<Vec<f32>>();
    write_wav(&w.path("waves/short.wav"), &tone(600), 16_000).unwrap();
    write_wav(&w.path("waves/long.wav"), &tone(40_000), 16_000).unwrap();
    let left_out = |output: &Output| {
        good(output);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        text.lines()
            .find(|l| l.contains("left out"))
            .map(|l| l.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap())
    };
    // By default what has no frames is left out.
    assert_eq!(left_out(&w.pretrain("a", &[])), Some(1));
    assert_eq!(left_out(&w.pretrain("b", &["input.min_seconds=0.2", "input.max_seconds=1"])), Some(2));
    assert_eq!(left_out(&w.pretrain("c", &["input.min_seconds=0.03"])), None);
    refused(&w.pretrain("d", &["input.min_seconds=3"]), &["input.min_seconds", "none of 22"]);
    refused(
        &w.pretrain("e", &["input.min_seconds=3", "input.max_seconds=2"]),
        &["min_seconds = 3", "max_seconds = 2"],
    );
    // HuBERT clusters and trains on the same recordings.
    let stages = "method.iterations=[{features=\"mfcc\", clusters=4, steps=2}]";
    let output = w.pretrain("f", &["--method", "hubert", "method.code_dim=8", "input.max_seconds=1", stages]);
    assert_eq!(left_out(&output), Some(2));
    // Fine-tuning trains within the bounds, and measures everything.
    let (run, tuned) = (w.text("b"), w.text("tuned"));
    for name in ["short", "long"] {
        std::fs::write(w.path(&format!("waves/{name}.txt")), "hi").unwrap();
    }
    let args = [
        "finetune",
        "--run",
        &run,
        "--out",
        &tuned,
        "task.kind=ctc",
        "train.steps=2",
        "train.batch_size=4",
        "data.hold_out=0",
    ];
    assert_eq!(left_out(&selfsup(&args, &[])), Some(2));
}

/// Six seconds whose first and last second tell the class and whose middle is the same in all: what is
/// measured is measured on all of a recording, not on its centre.
#[test]
fn recordings_are_measured_whole() {
    let w = Work::new();
    let mut table = "path,label\n".to_string();
    for i in 0..16 {
        let hz = if i % 2 == 0 { 300.0 } else { 2500.0 };
        let at = |t: usize| {
            let edge = !(16_000..80_000).contains(&t);
            let tone = (t as f32 / 16_000.0 * std::f32::consts::TAU * if edge { hz } else { 900.0 }).sin();
            // A little noise of its own at the edges: no two recordings are equal.
            let own = if edge { ((t * 7919 + i * 131) % 997) as f32 / 997.0 * 0.05 } else { 0.0 };
            0.3 * tone + own
        };
        let wave: Vec<f32> = (0..96_000).map(at).collect();
        write_wav(&w.write(&format!("long/{i:02}.wav"), ""), &wave, 16_000).unwrap();
        writeln!(table, "{i:02}.wav,{}", ["low", "high"][i % 2]).unwrap();
    }
    let (data, run, labels) = (w.text("long"), w.text("run"), w.file("labels.csv", &table));
    let crop = "input.crop_seconds=2";
    let args = ["pretrain", "--data", &data, "--out", &run, "--no-probe", "train.steps=2", "data.hold_out=0"];
    good(&selfsup(&[&args[..], SMALL].concat(), &[crop]));
    let rows = |windows: &str, read: &str| -> Vec<Vec<f32>> {
        // The run's own configuration says how it is read.
        let path = w.path("run/config.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        let mut config: toml::Table = text.parse().unwrap();
        for (section, key, value) in [("input", "window_seconds", windows), ("eval", "read", read)] {
            let value = value.parse::<f64>().map_or(toml::Value::from(value), toml::Value::from);
            config[section].as_table_mut().unwrap().insert(key.into(), value);
        }
        std::fs::write(&path, toml::to_string(&config).unwrap()).unwrap();
        let out = w.text("rows.safetensors");
        good(&selfsup(&["embed", &run, "--out", &out], &[]));
        let read = candle_core::safetensors::load(&out, &candle_core::Device::Cpu).unwrap();
        read["embeddings"].to_vec2().unwrap()
    };
    let apart = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    for read in ["pooled", "statistics"] {
        let whole = rows("30", read);
        let (other, same) = (apart(&whole[0], &whole[1]), apart(&whole[0], &whole[2]));
        assert!(other > 1e-3 && other > 3.0 * same, "{read}: {other} {same}");
        // In windows of 2 s the encoder's context ends at the windows; the classes stay apart.
        let windows = rows("2", read);
        let other = apart(&windows[0], &windows[1]);
        assert!(other > 1e-3 && other > 3.0 * apart(&windows[0], &windows[2]), "{read}: {other}");
        assert!(apart(&whole[0], &windows[0]) > 0.0, "{read}: the windows were not used");
    }
    let probe = ["probe", &run, "--labels", &labels, "data.hold_out=0.5", "eval.few=[]", "eval.knn_k=1"];
    for window in ["input.window_seconds=30", "input.window_seconds=2.5"] {
        let out = good(&selfsup(&[&probe[..], &[window]].concat(), &["--out", &w.text("probe.json")]));
        let found = w.json("probe.json");
        assert_eq!(found["knn"]["trained"].as_f64(), Some(100.0), "{window}: {found}\n{out}");
    }
    refused(&selfsup(&[&probe[..], &["input.window_seconds=0"]].concat(), &[]), &["window_seconds = 0"]);
    // A classifier of crops is measured and applied on whole recordings, a recogniser too.
    let tuned = w.text("tuned");
    let args = ["finetune", "--run", &run, "--labels", &labels, "--out", &tuned, "data.hold_out=0.5"];
    good(&selfsup(&args, &["train.steps=2", "train.batch_size=4", "input.window_seconds=2.5"]));
    let said = good(&selfsup(&["predict", &tuned, &data], &[]));
    let confidence = |i: usize| said.lines().nth(1 + i).unwrap().rsplit(',').next().unwrap().to_string();
    assert_ne!(confidence(0), confidence(1), "{said}");
    for i in 0..16 {
        std::fs::write(w.path(&format!("long/{i:02}.txt")), ["hi", "lo"][i % 2]).unwrap();
    }
    let spelt = w.text("spelt");
    let args = ["finetune", "--run", &run, "--out", &spelt, "task.kind=ctc", "data.hold_out=0.5"];
    good(&selfsup(&args, &["train.steps=2", "train.batch_size=4", "input.window_seconds=2.5"]));
    let heard = good(&selfsup(&["transcribe", &spelt, &data], &[]));
    assert_eq!(heard.lines().count(), 17, "{heard}");
}

/// Everyday folders: kinds that are not read, empty and short recordings, stereo whose channels cancel, and
/// transcripts that say nothing or do not fit. Each is counted and named before anything is trained, and
/// the run ends.
#[test]
fn what_cannot_be_used_is_counted_and_named() {
    let w = Work::with_waves();
    let labels: String = (0..COUNT).map(|i| format!("{i:02}.wav,{}\n", ["a", "b"][i % 2])).collect();
    let tone: Vec<f32> = (0..399).map(|t| (t as f32 * 0.1).sin() * 0.3).collect();
    write_wav(&w.path("waves/short.wav"), &tone, 16_000).unwrap();
    w.write("waves/empty.wav", "");
    w.write("waves/a.opus", "x");
    w.write("waves/deep/b.OPUS", "x");
    w.write("waves/c.webm", "x");
    let labels =
        w.file("labels.csv", &format!("path,label\nempty.wav,a\nshort.wav,b\nturned.wav,a\n{labels}"));
    let heard = |output: &Output| {
        good(output);
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    // Stereo, one channel the other turned round.
    let stereo: Vec<u8> = (0..8000)
        .flat_map(|t| {
            let v = ((t as f32 * 0.2).sin() * 9000.0) as i16;
            [v.to_le_bytes(), (-v).to_le_bytes()].concat()
        })
        .collect();
    let mut wav = b"RIFF".to_vec();
    wav.extend((stereo.len() as u32 + 36).to_le_bytes());
    wav.extend(b"WAVEfmt \x10\0\0\0\x01\0\x02\0");
    wav.extend(16_000u32.to_le_bytes());
    wav.extend(64_000u32.to_le_bytes());
    wav.extend(b"\x04\0\x10\0data");
    wav.extend((stereo.len() as u32).to_le_bytes());
    wav.extend(stereo);
    w.write("waves/turned.wav", wav);
    let (data, run) = (w.text("waves"), w.text("run"));
    // A look at them: what is known of each, and all that is wrong.
    let look = selfsup(&["data", "inspect", &data], &[]);
    ended(&look, 2, &["2 of 23 recordings cannot be read", "3 recordings of"]);
    let told = String::from_utf8_lossy(&look.stdout).into_owned();
    for part in [
        "duration: 10.52 seconds, each 0.02 to 0.50 s, the middle one 0.50 s",
        "format wave: 22",
        "rate 16000 Hz: 22",
        "channels 1: 21",
        "channels 2: 1",
        "transcripts: 20 of 23 recordings, 0 of them empty; 160 characters, 8 different",
        "unreadable: 2",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    for name in ["empty.wav", "short.wav", "turned.wav"] {
        assert!(told.lines().any(|l| l.starts_with("problem: ") && l.contains(name)), "{name}: {told}");
    }
    let args = ["pretrain", "--data", &data, "--out", &run, "train.steps=2"];
    let table = format!("data.labels={}", toml::Value::from(labels));
    let more = [table.as_str(), "data.hold_out=0.3", "eval.few=[]", "eval.knn_k=1"];
    let said = heard(&selfsup(&[&args[..], SMALL].concat(), &more));
    for part in ["3 recordings", "2 .opus", "1 .webm", "are left out, empty or shorter than the 400 samples"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(said.contains("empty.wav") || said.contains("short.wav"), "{said}");
    let alone = w.text("alone");
    let said = heard(&selfsup(
        &[
            &["pretrain", "--data", &data, "--out", &alone, "--no-probe", "train.steps=2", "data.hold_out=0"],
            SMALL,
        ]
        .concat(),
        &[],
    ));
    assert!(said.contains("cancel when they are averaged") && said.contains("turned.wav"), "{said}");
    assert!(said.contains("2 of 23 recordings are left out"), "{said}");

    // Transcripts: none, empty, punctuation only, not UTF-8; and one that is longer than its recording.
    w.write("waves/00.txt", "");
    w.write("waves/01.txt", "... !");
    w.write("waves/02.txt", [0xff, 0xfe, 0x41]);
    std::fs::remove_file(w.path("waves/03.txt")).unwrap();
    w.write("waves/04.txt", "hi lo ".repeat(50));
    let tuned = w.text("tuned");
    let args = ["finetune", "--run", &alone, "--out", &tuned, "task.kind=ctc", "data.hold_out=0"];
    let said = heard(&selfsup(&args, &["train.steps=2", "train.batch_size=4"]));
    assert!(said.contains("have no transcript") && said.contains("00.wav"), "{said}");
    assert!(
        said.contains("1 of 16 transcripts are left out") && said.contains("04.wav (299 in 24)"),
        "{said}"
    );
}

/// Silence is one cluster: predicted at once, and nothing is learned. The run says so right after the
/// clustering.
#[test]
fn clusters_of_silence_are_warned_of() {
    let w = Work::new();
    std::fs::create_dir(w.path("waves")).unwrap();
    for i in 0..8 {
        write_wav(&w.path(&format!("waves/{i:02}.wav")), &[0.0; 8000], 16_000).unwrap();
    }
    let iterations = "method.iterations=[{ features = \"mfcc\", clusters = 20 }]";
    let out = w.pretrain("silent", &["method.name=hubert", iterations]);
    good(&out);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(
        said.contains("warning: ")
            && said.contains("1 of 20 clusters have frames, with a perplexity of 1.00"),
        "{said}"
    );
}

/// Who works on recordings alone compiles no decoder of pictures and no other modality. (candle-core itself
/// brings tokenizers.)
#[test]
fn the_speech_crate_brings_no_other_modality() {
    let crates = |package: &str| {
        let args = ["tree", "--locked", "--offline", "-e", "normal,build", "--prefix", "none", "-p", package];
        let output =
            Command::new(env!("CARGO")).args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
        let names = good(&output)
            .lines()
            .filter_map(|l| l.split_whitespace().next().map(str::to_string))
            .collect::<Vec<_>>();
        assert!(names.iter().any(|n| n == package), "{names:?}");
        names
    };
    let other = |n: &String| {
        let pictures = ["image", "png", "jpeg-decoder", "fast_image_resize", "nifti", "openjp2"];
        let crates = ["selfsup-vision", "selfsup-text", "selfsup-medical"];
        pictures.contains(&n.as_str())
            || crates.contains(&n.as_str())
            || n.starts_with("zune-")
            || n.starts_with("dicom-")
    };
    let speech = crates("selfsup-speech");
    assert!(speech.iter().any(|n| n == "symphonia") && !speech.iter().any(other), "{speech:?}");
    assert!(crates("selfsup-vision").iter().any(|n| n == "image"), "the list of names would find them");
}

//! What somebody meets who tries the command for the first time: tables named by flags, one scan, a bad file
//! in an unlucky place, and what `-v` tells.

use crate::common::{SMALL_TEXT, Work, command, ended, good, line, refused, selfsup};
use std::process::Output;

/// What was said on the standard error by a command that did its work.
fn said(output: &Output) -> String {
    good(output);
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn picture(w: &Work, name: &str, seed: u32) {
    let picture = image::RgbImage::from_fn(18, 18, |x, y| {
        image::Rgb([(x * 7 + seed * 31) as u8, (y * 11 + seed * 17) as u8, ((x + y) * 5 + seed) as u8])
    });
    let path = w.path(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    picture.save(path).unwrap();
}

/// A run of pictures that is as small as possible.
const SMALL: &[&str] = &[
    "encoder.name=resnet",
    "encoder.depths=[1]",
    "encoder.widths=[4]",
    "encoder.stem=4",
    "method.hidden_dim=8",
    "method.out_dim=4",
    "augment.size=16",
    "train.steps=2",
    "train.batch_size=4",
    "eval.few=[]",
];

/// `--labels train.csv --test test.csv`, for every verb that reads labels; a table alone says where its
/// samples lie.
#[test]
fn tables_are_named_by_flags() {
    let w = Work::new();
    let row =
        |i: usize| format!("\"{}\",{}\n", line(i), if i.is_multiple_of(2) { "weather" } else { "metal" });
    let table = |from: usize, to: usize| (from..to).map(row).collect::<String>();
    let train = w.file("train.csv", &format!("text,label\n{}", table(0, 40)));
    let test = w.file("test.csv", &format!("text,label\n{}", table(40, 60)));
    let run = w.text("texts");
    let args = ["pretrain", "--labels", &train, "--test", &test, "--out", &run, "-v", "data.hold_out=0"];
    let told = said(&selfsup(&[&args[..], SMALL_TEXT, &["eval.few=[]"]].concat()));
    assert!(told.contains("40 texts to train on, 0 held out, 20 to test on"), "{told}");
    assert!(told.contains("2 classes: metal, weather"), "{told}");
    assert_eq!(w.json("texts/result.json")["probe"]["test"], 20);
    let probed = w.text("probed.json");
    good(&selfsup(&["probe", &run, "--labels", &train, "--test", &test, "--out", &probed]));
    assert_eq!(w.json("probed.json")["test"], 20);
    let tuned = w.text("tuned");
    let args = ["finetune", "--run", &run, "--labels", &train, "--test", &test, "--out", &tuned];
    good(&selfsup(&[&args[..], &["train.epochs=1"]].concat()));
    assert!(w.json("tuned/result.json")["test"]["accuracy"].is_number());

    // Images: the folder of the table, where --data names none.
    (0..12).for_each(|i| picture(&w, &format!("photos/{i:02}.png"), i));
    let rows: String = (0..12).map(|i| format!("{i:02}.png,{}\n", i % 2)).collect();
    let labels = w.file("photos/labels.csv", &format!("path,label\n{rows}"));
    let out = w.text("photos-run");
    let args = ["pretrain", "--labels", &labels, "--out", &out, "-v", "--no-probe", "eval.online_knn=0"];
    let told = said(&selfsup(&[&args[..], SMALL].concat()));
    assert!(told.contains("modality: vision (by the files)") && told.contains("2 classes: 0, 1"), "{told}");

    // An inspection reads the table too, and names a group in two parts.
    let split: String = (0..12)
        .map(|i| format!("{i:02}.png,k{},p{},{}\n", i % 3, i % 6, if i < 6 { "train" } else { "test" }))
        .collect();
    let leak = w.file("leak.csv", &format!("path,label,patient,split\n{split}"));
    let (photos, leaking) = (w.text("photos"), format!("data.labels={}", toml::Value::from(leak)));
    let inspected = selfsup(&["data", "inspect", &photos, &leaking]);
    refused(&inspected, &["group `p0`", "6 groups leak"]);
    let listed = String::from_utf8_lossy(&inspected.stdout).into_owned();
    assert!(listed.contains("class k2: 4") && listed.contains("groups: 6"), "{listed}");
}

/// What was read, recognised and chosen, and how long each part took.
#[test]
fn a_verbose_run_tells_what_it_does() {
    let w = Work::new();
    (0..12).for_each(|i| picture(&w, &format!("photos/{}/{i:02}.png", i % 2), i));
    let (photos, run) = (w.text("photos"), w.text("run"));
    let args = ["pretrain", "--data", &photos, "--out", &run, "-v", "data.hold_out=0.34"];
    let told = said(&selfsup(&[&args[..], SMALL].concat()));
    for part in [
        "modality: vision (by the files)",
        "8 images to train on, 4 held out",
        "2 classes: 0, 1",
        "values are trained",
        "opening the data: ",
        "preparing batches: ",
        "evaluating: ",
        "writing the weights: ",
        "[train]",
    ] {
        assert!(told.contains(part), "expected \"{part}\" in: {told}");
    }
    let told = said(&selfsup(&["plan", "--data", &photos, "--budget", "6s", "-v", "--seed", "3"]));
    assert!(told.contains("measured ") && told.contains("opened them in "), "{told}");
}

/// The vocabulary of a folder of texts is made once, by the plan, and the run takes it.
#[test]
fn a_plan_opens_the_data_once() {
    let w = Work::new();
    let lines: Vec<String> = (0..240).map(line).collect();
    lines.chunks(12).enumerate().for_each(|(i, part)| {
        w.write(&format!("notes/{i:02}.txt"), part.join("\n"));
    });
    let (notes, run) = (w.text("notes"), w.text("run"));
    let out = selfsup(&["pretrain", "--data", &notes, "--budget", "5s", "--out", &run, "--no-probe"]);
    let told = format!("{}{}", good(&out), said(&out));
    assert_eq!(told.matches("making a vocabulary").count(), 1, "{told}");
    // What is wrong with the data is said once, as the error.
    let rows = "00.txt,a,p,train\n01.txt,b,p,test\n";
    let leak = w.file("leak.csv", &format!("path,label,patient,split\n{rows}"));
    let out = selfsup(&["pretrain", "--data", &notes, "--labels", &leak, "--budget", "5s"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(!String::from_utf8_lossy(&out.stderr).contains("no step could be measured"));
}

/// One of two samples that are held out cannot be read: the validation leaves it out, as the training does.
#[test]
fn a_bad_sample_that_is_held_out_does_not_end_a_training() {
    let w = Work::new();
    (0..12).for_each(|i| picture(&w, &format!("photos/{i:02}.png"), i));
    let rows: String =
        (0..12).map(|i| format!("{i:02}.png,{}\n", if i < 3 { "val" } else { "train" })).collect();
    let table = w.file("parts.csv", &format!("path,split\n{rows}"));
    w.write("photos/01.png", b"\x89PNG\r\n\x1a\n");
    let (photos, run) = (w.text("photos"), w.text("run"));
    let args = ["pretrain", "--data", &photos, "--labels", &table, "--out", &run, "--no-probe"];
    let told = said(&selfsup(&[&args[..], SMALL, &["train.max_bad_fraction=0.5"]].concat()));
    assert!(told.contains("01.png") && told.contains("held-out data: 1 of 3 images"), "{told}");
    let strict = w.text("strict");
    let args = ["pretrain", "--data", &photos, "--labels", &table, "--out", &strict, "--no-probe"];
    ended(&selfsup(&[&args[..], SMALL].concat()), 2, &["01.png"]);
}

/// A scan alone is measured on its patches; what has no parts either is said.
#[test]
fn one_sample_has_a_verdict_by_its_parts() {
    let w = Work::new();
    let grid = selfsup::medical::grid::Grid::with_spacing([24, 24, 24], [1.0; 3]).unwrap();
    let values: Vec<f32> = (0..24 * 24 * 24).map(|v| ((v * 7) % 97) as f32 + (v % 24) as f32).collect();
    let path = w.write("scans/one.nii.gz", []);
    selfsup::medical::write::values(&path, &grid, None, &values).unwrap();
    let (scans, run) = (w.text("scans"), w.text("run"));
    let small = [
        "pretrain",
        "--data",
        &scans,
        "encoder.name=unet3d",
        "encoder.widths=[4, 8]",
        "augment.size=[8, 8, 8]",
        "train.batch_size=4",
        "train.steps=2",
    ];
    let told = good(&selfsup(&[&small[..], &["--out", &run]].concat()));
    assert!(told.contains("without labels: ") && told.contains("parts of the only sample"), "{told}");
    assert!(!told.contains("no verdict"), "{told}");
    let found = &w.json("run/result.json")["unlabelled"];
    assert!(found["parts"] == true && found["samples"].as_u64().unwrap() > 1, "{found}");
    assert!(found["trained"]["alignment"].is_null() && found["trained"]["uniformity"].is_number(), "{found}");
    let probed = good(&selfsup(&["probe", &run]));
    assert!(probed.contains("parts of the only sample"), "{probed}");
    // A dry run draws the volume beside its patches.
    let dry = command(&[&small[..], &["--dry-run"]].concat()).current_dir(w.path("")).output().unwrap();
    assert!(good(&dry).contains("that of the whole volume on the left"), "{}", said(&dry));
}

/// HuBERT's defaults fit any encoder and as many recordings as there are; GSM inside a wav is left out, and
/// named, before the training.
#[test]
fn hubert_alone_and_a_codec_that_is_not_read() {
    let w = Work::new();
    for i in 0..6usize {
        let wave: Vec<f32> = (0..16_000)
            .map(|t| (t as f32 * (0.05 + 0.02 * i as f32)).sin() * 0.4 + ((t * 7919) % 101) as f32 * 5e-4)
            .collect();
        let path = w.write(&format!("waves/{i}.wav"), []);
        selfsup::speech::audio::write_wav(&path, &wave, 16_000).unwrap();
    }
    let gsm = [
        &b"RIFF\x7d\0\0\0WAVEfmt \x14\0\0\0\x31\0\x01\0\x80\x3e\0\0\xb2\x0c\0\0\x41\0\0\0\x02\0\x40\x01"[..],
        b"fact\x04\0\0\0\x40\x01\0\0data\x41\0\0\0",
        &[0; 65],
    ];
    w.write("waves/gsm.wav", gsm.concat());
    let (waves, run) = (w.text("waves"), w.text("run"));
    let small = [
        "encoder.dim=16",
        "encoder.depth=2",
        "encoder.heads=2",
        "encoder.front_dim=8",
        "encoder.position_kernel=8",
        "encoder.position_groups=2",
    ];
    let args = [
        "pretrain",
        "--data",
        &waves,
        "--method",
        "hubert",
        "--out",
        &run,
        "data.hold_out=0",
        "--budget",
        "10s",
        "--no-probe",
    ];
    let told = said(&selfsup(&[&args[..], &small].concat()));
    assert!(told.contains("1 of 7 recordings are left out, in a codec that is not decoded"), "{told}");
    assert!(told.contains("gsm.wav") && !told.contains("no step could be measured"), "{told}");
    let config: toml::Table = std::fs::read_to_string(w.path("run/config.toml")).unwrap().parse().unwrap();
    let iterations = config["method"]["iterations"].as_array().unwrap();
    assert_eq!(iterations[1]["features"].as_str(), Some("middle"));
    assert!(iterations[1]["clusters"].as_integer().unwrap() <= 20, "{iterations:?}");
    // More clusters than frames, and a block that is not there, are refused before anything is trained.
    let more = |iterations: &str| {
        let out = w.text("refused");
        let args = ["pretrain", "--data", &waves, "--method", "hubert", "--out", &out, "--no-probe"];
        let steps = ["train.steps=1", "train.batch_size=2", iterations];
        selfsup(&[&args[..], &small, &steps].concat())
    };
    let mfcc = "{ features = \"mfcc\", clusters = 4 }";
    let many = format!("method.iterations=[{mfcc}, {{ features = \"middle\", clusters = 5000 }}]");
    ended(&more(&many), 2, &["method.iterations[1].clusters = 5000", "the frames of the recordings"]);
    let high = format!("method.iterations=[{mfcc}, {{ features = {{ layer = 6 }}, clusters = 4 }}]");
    ended(&more(&high), 2, &["layer 6", "1 to 2"]);
    assert!(!w.path("refused/stages/1-training").exists());
}

/// A task that one modality alone has says of which the data are, whatever their files are called.
#[test]
fn a_task_says_the_modality() {
    let w = Work::new();
    let words = ["the DT O", "sun NN B-STAR", "is VB O"].join("\n");
    let data = w.file("tags.conll", &format!("{words}\n\n").repeat(12));
    let (tokens, out) = (w.text("vocabulary"), w.text("tagged"));
    let texts = w.file("texts.txt", "the sun is warm\nthe sun is red\n");
    good(&selfsup(&["tokenizer", "train", &texts, "--out", &tokens, "min_frequency=1"]));
    let path = format!("tokenizer.path={}", toml::Value::from(tokens));
    let small = ["encoder.dim=16", "encoder.depth=1", "encoder.heads=2", "train.epochs=1"];
    let args = ["finetune", "--data", &data, "--out", &out, "task.kind=token-classification", &path];
    good(&selfsup(&[&args[..], &small].concat()));
    assert_eq!(w.json("tagged/result.json")["modality"], "text");
}

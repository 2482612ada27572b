//! `selfsup robustness`: corrupted samples, clean ones as in a probe, results that are kept.

use crate::common::{SMALL_TEXT, Work, ended, good, line, refused, selfsup};
use selfsup::speech::audio::write_wav;
use serde_json::Value;

const SMALL: &[&str] = &[
    "encoder.name=resnet",
    "encoder.depths=[1, 1]",
    "encoder.widths=[8, 16]",
    "encoder.stem=8",
    "method.hidden_dim=8",
    "method.out_dim=4",
    "augment.size=16",
    "train.steps=3",
    "train.batch_size=8",
    "data.hold_out=0.3",
    "eval.few=[]",
    "eval.knn_k=3",
    "eval.online_knn=0",
];

/// Folders of 24 striped pictures each.
fn stripes(w: &Work) -> String {
    for i in 0..48u32 {
        let standing = i % 2 == 1;
        let picture = image::RgbImage::from_fn(16, 16, |x, y| {
            let along = if standing { x } else { y };
            image::Rgb([((along + i / 2) % 4 / 2 * 180 + i) as u8, 90, (2 * i) as u8])
        });
        let folder = w.path(&format!("data/{}", if standing { "standing" } else { "lying" }));
        std::fs::create_dir_all(&folder).unwrap();
        picture.save(folder.join(format!("{i:02}.png"))).unwrap();
    }
    w.text("data")
}

fn number(value: &Value, path: &[&str]) -> f64 {
    let found = path.iter().fold(value, |v, name| &v[*name]);
    found.as_f64().unwrap_or_else(|| panic!("{path:?} in {value}"))
}

#[test]
fn pictures_are_corrupted_and_results_are_kept() {
    let w = Work::new();
    let (data, run) = (stripes(&w), w.text("run"));
    good(&selfsup(&[&["pretrain", "--data", &data, "--out", &run, "--no-probe"][..], SMALL].concat()));
    let robust = |more: &[&str]| selfsup(&[&["robustness", &run][..], more].concat());

    let said = good(&robust(&["--corruptions", "gaussian_noise,fog", "--severities", "5,1"]));
    assert!(said.contains("corrupted by") && said.contains("raw pixels") && said.contains("fog"), "{said}");
    let first = w.json("run/robustness/robustness.json");
    assert_eq!(
        (&first["format"], &first["measure"], &first["modality"]),
        (&1.into(), &"linear".into(), &"vision".into())
    );
    let kinds = first["kinds"].as_array().unwrap();
    assert_eq!(
        kinds.iter().map(|k| k["name"].as_str().unwrap()).collect::<Vec<_>>(),
        ["gaussian_noise", "fog"]
    );
    assert_eq!(kinds[1]["severities"].as_array().unwrap().len(), 2);
    // Clean is what a probe finds.
    let probe: Value = serde_json::from_str(&good(&selfsup(&["probe", &run, "--json"]))).unwrap();
    for set in ["trained", "random", "raw"] {
        for measure in ["linear", "knn"] {
            let clean = number(&first["clean"], &[set, measure]);
            assert!(
                (clean - number(&probe["found"], &[measure, set])).abs() < 1e-6,
                "{set} {measure}: {first}"
            );
        }
        // The mean is that of two kinds at two severities; the drop follows from it.
        let at = |k: usize, s: usize| number(&kinds[k]["severities"][s]["scores"], &[set, "linear"]);
        let mean = (at(0, 0) + at(0, 1) + at(1, 0) + at(1, 1)) / 4.0;
        assert!((number(&first["mean"], &[set, "linear"]) - mean).abs() < 1e-6);
        let clean = number(&first["clean"], &[set, "linear"]);
        let drop = 100.0 * (clean - mean) / clean;
        assert!((number(&first["relative_drop"], &[set, "linear"]) - drop).abs() < 1e-6);
    }
    assert!(std::fs::read_to_string(w.path("run/robustness/robustness.svg")).unwrap().contains("<svg"));

    // What is there is not measured again; what is measured again is the same on any number of threads.
    let output = robust(&["--corruptions", "fog,snow", "--severities", "1"]);
    assert!(good(&output).contains("1 of 2 results are there already"));
    let second = w.json("run/robustness/robustness.json");
    assert_eq!(second["kinds"].as_array().unwrap().len(), 3, "those that were there stay");
    assert_eq!(second["kinds"][2]["name"], "fog", "in the order of the paper");
    good(&robust(&[
        "--corruptions",
        "fog",
        "--severities",
        "1",
        "--fresh",
        "--out",
        &w.text("again"),
        "--threads",
        "1",
    ]));
    let again = w.json("again/robustness.json");
    assert_eq!(again["kinds"][0]["severities"][0]["scores"], first["kinds"][1]["severities"][0]["scores"]);

    // Another seed, or other samples, are other results.
    let output = robust(&["--corruptions", "fog", "--severities", "1", "--samples", "6"]);
    assert!(!good(&output).contains("there already"));
    assert_eq!(w.json("run/robustness/robustness.json")["test"], 6);

    let said = good(&robust(&["--preview", "--corruptions", "all", "--severities", "1,5"]));
    assert!(said.contains("spatter"), "{said}");
    let sheet = image::open(w.path("run/robustness/preview.png")).unwrap();
    // 19 kinds, clean and two severities, 16 pixels sixfold.
    assert_eq!((sheet.width(), sheet.height()), (3 * 100 + 4, 19 * 100 + 4));

    refused(&robust(&["--corruptions", "rain"]), &["rain", "fog", "jpeg_compression"]);
    refused(&robust(&["--severities", "6"]), &["--severities 6", "1 to 5"]);
    refused(&selfsup(&["robustness", &w.text("none")]), &["none"]);
    // Nothing to compare by.
    std::fs::create_dir(w.path("plain")).unwrap();
    for i in 0..8 {
        std::fs::copy(w.path(&format!("data/lying/{:02}.png", 2 * i)), w.path(&format!("plain/{i}.png")))
            .unwrap();
    }
    refused(&robust(&["--data", &w.text("plain")]), &["no labels"]);
}

#[test]
fn a_fine_tuned_run_is_tested_with_its_head() {
    let w = Work::new();
    let (data, run, tuned) = (stripes(&w), w.text("run"), w.text("tuned"));
    good(&selfsup(&[&["pretrain", "--data", &data, "--out", &run, "--no-probe"][..], SMALL].concat()));
    let keys = ["train.epochs=2", "train.batch_size=8", "data.hold_out=0.3"];
    good(&selfsup(&[&["finetune", "--run", &run, "--data", &data, "--out", &tuned][..], &keys].concat()));
    let said = good(&selfsup(&["robustness", &tuned, "--corruptions", "contrast", "--severities", "3"]));
    assert!(said.contains("accuracy in %") && said.contains("tuned"), "{said}");
    let found = w.json("tuned/robustness/robustness.json");
    let clean = number(&found["clean"], &["tuned", "accuracy"]);
    let validation = number(&w.json("tuned/result.json")["validation"], &["accuracy"]);
    assert!((clean - validation).abs() < 1e-6, "{clean}, {validation}");
    assert!(found["kinds"][0]["severities"][0]["scores"]["tuned"]["accuracy"].is_number());
}

#[test]
fn texts_are_corrupted() {
    let w = Work::new();
    let mut table = "text,label\n".to_string();
    for i in 0..60 {
        table += &format!("{},{}\n", line(i), if i % 2 == 0 { "weather" } else { "metal" });
    }
    let (labels, run) = (w.file("labels.csv", &table), w.text("run"));
    let all: Vec<String> = (0..60).map(line).collect();
    let data = w.file("corpus.txt", &all.join("\n"));
    let keys = [&["eval.few=[]", "eval.knn_k=3", "data.hold_out=0.3"][..], SMALL_TEXT].concat();
    good(&selfsup(&[&["pretrain", "--data", &data, "--out", &run, "--no-probe"][..], &keys].concat()));
    let robust = |more: &[&str]| selfsup(&[&["robustness", &run, "--labels", &labels][..], more].concat());
    let said = good(&robust(&["--corruptions", "casing,dropped_letters", "--severities", "5"]));
    assert!(said.contains("words (TF-IDF)"), "{said}");
    let found = w.json("run/robustness/robustness.json");
    // TF-IDF does not know capitals from small letters, and a word without a letter is another.
    let raw = |kind: usize| number(&found["kinds"][kind]["mean"], &["raw", "linear"]);
    let clean = number(&found["clean"], &["raw", "linear"]);
    assert_eq!(found["kinds"][1]["name"], "casing");
    assert!((raw(1) - clean).abs() < 1e-9 && raw(0) <= clean, "{found}");
    let said = good(&robust(&["--preview", "--severities", "5"]));
    assert!(said.contains("casing (10, 25") && w.path("run/robustness/preview.txt").exists(), "{said}");
    refused(&robust(&["--corruptions", "fog"]), &["fog", "keyboard"]);
}

#[test]
fn recordings_are_corrupted() {
    let w = Work::new();
    for i in 0..24usize {
        let hz = if i % 2 == 0 { 220.0 } else { 900.0 };
        let tone = |k: usize| {
            let t = k as f32 / 16_000.0;
            0.3 * (std::f32::consts::TAU * (hz + i as f32) * t).sin() * (3.0 * t).sin().abs()
        };
        let wave: Vec<f32> = (0..6_000 + 100 * i).map(tone).collect();
        let folder = w.path(&format!("data/{}", if i % 2 == 0 { "low" } else { "high" }));
        std::fs::create_dir_all(&folder).unwrap();
        write_wav(&folder.join(format!("{i:02}.wav")), &wave, 16_000).unwrap();
    }
    let (data, run) = (w.text("data"), w.text("run"));
    let keys = [
        "encoder.dim=16",
        "encoder.depth=2",
        "encoder.heads=2",
        "encoder.front_dim=8",
        "encoder.position_kernel=8",
        "encoder.position_groups=2",
        "train.steps=2",
        "train.batch_size=4",
        "data.hold_out=0.3",
        "eval.few=[]",
        "eval.knn_k=3",
        "eval.online_knn=0",
    ];
    good(&selfsup(&[&["pretrain", "--data", &data, "--out", &run, "--no-probe"][..], &keys].concat()));
    let kinds = "pink_noise,reverberation,fast,slow,mu_law";
    let said = good(&selfsup(&["robustness", &run, "--corruptions", kinds, "--severities", "5"]));
    assert!(said.contains("MFCC statistics"), "{said}");
    let found = w.json("run/robustness/robustness.json");
    assert_eq!(found["kinds"].as_array().unwrap().len(), 5);
    // Noise is that of a probe at the same ratio.
    let probe = good(&selfsup(&["probe", &run, "--snr", "0", "--json"]));
    let probe: Value = serde_json::from_str(&probe).unwrap();
    for set in ["trained", "random", "raw"] {
        let here = number(&found["kinds"][0]["severities"][0]["scores"], &[set, "linear"]);
        assert!(
            (here - number(&probe["found"]["noisy"][0], &["linear", set])).abs() < 1e-6,
            "{set}: {found}"
        );
    }
    good(&selfsup(&["robustness", &run, "--preview", "--corruptions", kinds]));
    assert!(image::open(w.path("run/robustness/preview.png")).is_ok());
    ended(&selfsup(&["robustness", &run, "--corruptions", "keyboard"]), 2, &["keyboard", "pink_noise"]);
}

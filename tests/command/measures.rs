//! What is measured during a training, and by `probe`: measures with their cost, encoders beside each other,
//! episodes, style.

use crate::common::{Work, ended, good, selfsup};
use serde_json::Value;

/// A run on pictures of two classes that differ in their stripes.
fn trained(w: &Work, name: &str, more: &[&str]) -> String {
    for i in 0..60u32 {
        let (class, picture) = (i % 2, w.path(&format!("pictures/{}/{i:02}.png", i % 2)));
        std::fs::create_dir_all(picture.parent().unwrap()).unwrap();
        let at = |x: u32, y: u32| {
            let stripe = if class == 0 { x } else { y };
            let noise = (x * 31 + y * 17 + i * 101).wrapping_mul(2_654_435_761) >> 26;
            image::Rgb([((stripe / 3 % 2) * 150) as u8 + noise as u8, noise as u8 * 2, 40])
        };
        image::RgbImage::from_fn(24, 24, at).save(picture).unwrap();
    }
    let (data, out) = (w.text("pictures"), w.text(name));
    let base =
        ["pretrain", "--data", &data, "--out", &out, "--no-probe", "data.hold_out=0.5", "eval.knn_k=3"];
    let small = [
        "encoder.name=resnet",
        "encoder.depths=[1]",
        "encoder.widths=[8]",
        "encoder.stem=8",
        "method.hidden_dim=16",
        "method.out_dim=8",
        "augment.size=16",
        "train.steps=20",
        "train.batch_size=8",
        "train.log_every=2",
    ];
    good(&selfsup(&[&base[..], &small, more].concat()));
    out
}

fn metrics(w: &Work, run: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(w.path(&format!("{run}/metrics.jsonl"))).unwrap();
    text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

#[test]
fn ten_points_with_their_cost() {
    let w = Work::new();
    trained(&w, "run", &["eval.measures=['rankme', 'twonn', 'alignment', 'spread']"]);
    let lines = metrics(&w, "run");
    for name in ["knn", "rankme", "twonn", "alignment", "feature_spread", "cost/encoding", "cost/alignment"] {
        let points = lines.iter().filter(|l| l[name].is_number()).count();
        assert!((10..=14).contains(&points), "{name}: {points} points");
    }
    assert!(lines.iter().all(|l| l["effective_rank"].is_null()), "not asked for");
    let picture = std::fs::read_to_string(w.path("run/curves.svg")).unwrap();
    assert!(picture.contains("rankme") && !picture.contains("cost/"));
    let cost = &w.json("run/result.json")["cost"];
    for name in ["seconds", "processor_seconds", "samples_per_second", "peak_memory_mb"] {
        assert!(cost[name].as_f64().is_some_and(|v| v > 0.0) || !cfg!(target_os = "linux"), "{name}: {cost}");
    }
    let listed = good(&selfsup(&["runs", &w.text("run")]));
    assert!(listed.contains(" MB") && listed.contains("/s"), "{listed}");
    let refused = selfsup(&["pretrain", "--out", &w.text("run"), "--resume", "eval.measures=['rank']"]);
    ended(&refused, 2, &["eval.measures", "rankme"]);
    // Without labels, of what is held out; and none where nothing is to be measured.
    trained(&w, "plain", &["eval.online_knn=0"]);
    let lines = metrics(&w, "plain");
    assert!(lines.iter().filter(|l| l["rankme"].is_number()).count() >= 10);
    assert!(lines.iter().all(|l| l["knn"].is_null()));
    trained(&w, "none", &["eval.online_knn=0", "eval.measures=[]"]);
    assert!(metrics(&w, "none").iter().all(|l| l["rankme"].is_null()));
}

#[test]
fn encoders_are_compared_and_looked_into() {
    let w = Work::new();
    let (a, b) = (trained(&w, "a", &[]), trained(&w, "b", &["train.seed=3"]));
    let file = w.text("found.json");
    let said = good(&selfsup(&["probe", &a, &b, &a, "--out", &file]));
    assert!(said.contains("CLID") && said.contains("on 30 samples"), "{said}");
    let found = w.json("found.json");
    let cka = |i: usize, j: usize| found["cka"][i][j].as_f64().unwrap();
    assert!((cka(0, 2) - 1.0).abs() < 1e-6 && cka(0, 1) < 0.9999, "{found}");
    assert_eq!(found["runs"][0]["clid"], found["runs"][2]["clid"]);
    // A checkpoint of it.
    let steps = w.path("a/checkpoints").read_dir().unwrap().map(|e| e.unwrap().path());
    let oldest = steps.filter(|p| !p.ends_with("best.safetensors")).min().unwrap();
    good(&selfsup(&["probe", oldest.to_str().unwrap(), &a]));
    ended(&selfsup(&["probe", &a, &w.text("pictures")]), 2, &["config.toml"]);

    let said = good(&selfsup(&["probe", &a, "--episodes", "--out", &file]));
    assert!(said.contains("2-way 1-shot, nearest mean") && said.contains("2-way 5-shot, logistic"), "{said}");
    let mean = |v: &Value| v["trained"]["nearest"]["mean"].as_f64().unwrap();
    let episodes = w.json("found.json")["episodes"].clone();
    assert!(mean(&episodes[0]) > 50.0 && mean(&episodes[1]) >= mean(&episodes[0]) - 3.0, "{episodes}");
    ended(&selfsup(&["probe", &a, "--episodes", "data.limit=6"]), 2, &["samples: expected 2 at least"]);

    let said = good(&selfsup(&["probe", &a, "--invariance", "--out", &file]));
    assert!(
        said.contains("crop across") && said.contains("mirrored") && said.contains("projector"),
        "{said}"
    );
    let factors = w.json("found.json")["factors"].as_array().unwrap().clone();
    let of = |name: &str| factors.iter().find(|f| f["name"] == name).unwrap().clone();
    assert_eq!(
        (of("blur")["measure"].as_str(), of("grey")["measure"].as_str()),
        (Some("R2"), Some("accuracy"))
    );
    assert!(of("grey")["encoder"].as_f64().unwrap() > 50.0 && of("grey")["projector"].is_number());
}

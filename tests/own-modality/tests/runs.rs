//! Pre-training, resumption and the probe of a modality that the workspace does not know.

use own_modality::Signals;
use selfsup::verbs::{pretrain, probe};
use std::fmt::Write;

/// Sines of two frequencies at random phases, and noise: raw values say little, the frequency is the class.
fn signals(rows: usize) -> String {
    let mut text = String::new();
    let mut rng = selfsup::core::Key::new(5).rng();
    for i in 0..rows {
        let (class, phase) = (i % 2, rng.range_f32(0.0, 6.28));
        let frequency = if class == 0 { 0.2 } else { 0.5 };
        let _ = write!(text, "{}", ["slow", "fast"][class]);
        for t in 0..64 {
            let _ = write!(text, ",{:.4}", (frequency * t as f32 + phase).sin() + 0.3 * rng.normal());
        }
        text.push('\n');
    }
    text
}

#[test]
fn a_modality_of_ones_own_is_pre_trained_and_probed() {
    let dir = tempfile::tempdir().expect("a folder");
    let data = dir.path().join("signals.csv");
    std::fs::write(&data, signals(200)).expect("written");
    let out = dir.path().join("run");
    let request = |method: &str, more: &[&str]| pretrain::Request {
        args: ["train.epochs=3", "train.batch_size=32", "data.hold_out=0.3", "train.workers=0"]
            .iter()
            .chain(more)
            .map(|s| (*s).to_string())
            .collect(),
        data: Some(data.display().to_string()),
        method: Some(method.into()),
        out: Some(out.clone()),
        probe: true,
        ..pretrain::Request::default()
    };
    let small = ["method.hidden_dim=32", "method.out_dim=16", "encoder.dim=24"];
    pretrain::run_as::<Signals>(request("simclr", &small)).expect("pre-training");
    let kept = dir.path().join("probe.json");
    let probed = probe::Request { run: out.clone(), out: Some(kept.clone()), ..probe::Request::default() };
    probe::run_as::<Signals>(&probed).expect("probe");
    let text = std::fs::read_to_string(&kept).expect("probe.json");
    let found: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    for set in ["trained", "random", "raw"] {
        assert!(found["knn"][set].as_f64().is_some_and(|v| (0.0..=100.0).contains(&v)), "{text}");
    }
    assert!(out.join("model/model.safetensors").is_file() && out.join("curves.svg").is_file());
    // A key of another modality, and a method that needs tokens.
    let error = |method: &str, more: &[&str]| {
        pretrain::run_as::<Signals>(request(method, more)).expect_err("refused").to_string()
    };
    assert!(error("simclr", &["encoder.patch=3"]).contains("encoder.patch"));
    assert!(error("mae", &[]).contains("hides patches"));
}

//! The golden cases under tests/golden/eval (made by PyTorch, scikit-learn, jiwer and others), to 1e-4.
#![allow(clippy::unwrap_used)]

use safetensors::{Dtype, SafeTensors};
use selfsup_eval::kmeans::{self, KMeansConfig};
use selfsup_eval::metrics::{self, Confusion};
use selfsup_eval::segmentation::{dice, surface_distance};
use selfsup_eval::{Features, Key, KnnConfig, knn, text};
use serde_json::Value;
use std::path::PathBuf;

struct Case {
    bytes: Vec<u8>,
    params: Value,
}

impl Case {
    fn open(name: &str) -> Self {
        let here = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden"));
        let root = std::env::var_os("SELFSUP_GOLDEN").map_or(here, PathBuf::from);
        let index: Value =
            serde_json::from_slice(&std::fs::read(root.join("index.json")).expect("index.json")).unwrap();
        let name = format!("eval/{name}");
        let params = index[&name]["params"].clone();
        Case { bytes: std::fs::read(root.join(format!("{name}.safetensors"))).expect(&name), params }
    }

    /// Values and shape of a tensor.
    fn get(&self, name: &str) -> (Vec<f64>, Vec<usize>) {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        let t = file.tensor(name).unwrap();
        let data = t.data();
        let values = match t.dtype() {
            Dtype::F32 => {
                data.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect()
            }
            Dtype::F64 => data.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect(),
            Dtype::I64 => {
                data.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f64).collect()
            }
            Dtype::I32 => {
                data.chunks_exact(4).map(|b| f64::from(i32::from_le_bytes(b.try_into().unwrap()))).collect()
            }
            Dtype::U8 | Dtype::BOOL => data.iter().map(|b| f64::from(*b)).collect(),
            other => panic!("{name}: {other:?}"),
        };
        (values, t.shape().to_vec())
    }

    fn f32s(&self, name: &str) -> Vec<f32> {
        self.get(name).0.into_iter().map(|v| v as f32).collect()
    }

    fn labels(&self, name: &str) -> Vec<u32> {
        self.get(name).0.into_iter().map(|v| v as u32).collect()
    }

    fn mask(&self, name: &str) -> Vec<bool> {
        self.get(name).0.into_iter().map(|v| v != 0.0).collect()
    }

    fn width(&self, name: &str) -> (usize, usize) {
        let shape = self.get(name).1;
        (shape[0], shape[1])
    }

    fn whole(&self, name: &str) -> usize {
        self.params[name].as_u64().unwrap() as usize
    }

    /// `max|a - b| / max(max|b|, 1e-6)` against the expectation.
    fn check(&self, name: &str, got: &[f64]) {
        self.within(name, got, 1e-4);
    }

    fn within(&self, name: &str, got: &[f64], tolerance: f64) {
        let want = self.get(&format!("expected.{name}")).0;
        assert_eq!(got.len(), want.len(), "{name}");
        let scale = want.iter().fold(1e-6f64, |m, v| m.max(v.abs()));
        let error = got.iter().zip(&want).fold(0f64, |m, (a, b)| m.max((a - b).abs())) / scale;
        assert!(error <= tolerance, "{name}: error {error:e}, {got:?} for {want:?}");
    }
}

macro_rules! features {
    ($case:ident, $name:literal, $values:ident) => {{
        let (n, d) = $case.width($name);
        $values = $case.f32s($name);
        Features::new(&$values, n, d).unwrap()
    }};
}

#[test]
fn knn() {
    let c = Case::open("knn");
    let (a, b);
    let train = features!(c, "input.train", a);
    let test = features!(c, "input.test", b);
    let config = KnnConfig { k: c.whole("k"), temperature: c.params["temperature"].as_f64().unwrap() };
    let votes =
        knn::classify(train, &c.labels("input.train_labels"), test, c.whole("classes"), &config).unwrap();
    c.check("votes", &votes.votes);
    assert_eq!(votes.predictions, c.labels("expected.pred"));
}

#[test]
fn rankme() {
    let c = Case::open("rankme");
    let z;
    c.check("rankme", &[metrics::rankme(features!(c, "input.z", z)).unwrap()]);
}

#[test]
fn alignment_uniformity() {
    let c = Case::open("alignment_uniformity");
    let (x, y);
    let (a, b) = (features!(c, "input.x", x), features!(c, "input.y", y));
    c.check("align", &[metrics::alignment(a, b).unwrap()]);
    c.check("uniform", &[metrics::uniformity(a).unwrap()]);
}

#[test]
fn linear_cka() {
    let c = Case::open("linear_cka");
    let (x, y);
    c.check("cka", &[metrics::linear_cka(features!(c, "input.x", x), features!(c, "input.y", y)).unwrap()]);
}

#[test]
fn binary() {
    let c = Case::open("binary");
    let (scores, positive) = (c.f32s("input.scores"), c.mask("input.labels"));
    c.check("auroc", &[metrics::auroc(&scores, &positive).unwrap()]);
    c.check("auprc", &[metrics::average_precision(&scores, &positive).unwrap()]);
}

#[test]
fn multiclass() {
    let c = Case::open("multiclass");
    let (probs, labels) = (c.f32s("input.probs"), c.labels("input.labels"));
    let classes = c.width("input.probs").1;
    let argmax = |row: &[f32]| {
        row.iter().enumerate().fold(0, |best, (i, v)| if *v > row[best] { i } else { best }) as u32
    };
    let predictions: Vec<u32> = probs.chunks_exact(classes).map(argmax).collect();
    c.check("macro_f1", &[Confusion::new(&predictions, &labels, classes).unwrap().macro_f1()]);
    c.check("macro_auroc_ovr", &[metrics::macro_auroc(&probs, &labels, classes).unwrap()]);
    c.check("ece15", &[metrics::expected_calibration_error(&probs, &labels, classes, 15).unwrap()]);
    c.check("nll", &[metrics::negative_log_likelihood(&probs, &labels, classes).unwrap()]);
}

#[test]
fn segmentation() {
    let c = Case::open("segmentation");
    c.check("dice", &[dice(&c.mask("input.pred"), &c.mask("input.target")).unwrap()]);
    let spacing: Vec<f64> =
        c.params["spacing"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
    let shape = c.get("input.box_a").1;
    let d =
        surface_distance(&c.mask("input.box_a"), &c.mask("input.box_b"), &shape, &spacing).unwrap().unwrap();
    c.check("hd95", &[d.hausdorff95]);
    c.check("hausdorff", &[d.hausdorff]);
}

#[test]
fn error_rates() {
    let c = Case::open("wer");
    let texts = |name: &str| -> Vec<String> {
        c.params[name].as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_string()).collect()
    };
    let (references, hypotheses) = (texts("references"), texts("hypotheses"));
    c.check("wer", &[text::wer(&references, &hypotheses).unwrap()]);
    c.check("cer", &[text::cer(&references, &hypotheses).unwrap()]);
}

#[test]
fn kmeans() {
    let c = Case::open("kmeans");
    let x;
    let m = kmeans::fit(
        features!(c, "input.x", x),
        &KMeansConfig { k: c.whole("k"), ..KMeansConfig::default() },
        Key::new(0),
    )
    .unwrap();
    c.within("inertia", &[m.inertia], 1e-4);
    let want = c.labels("expected.labels");
    assert_eq!(metrics::adjusted_rand_index(&m.labels, &want).unwrap(), 1.0, "labels up to permutation");
    assert!((metrics::normalized_mutual_information(&m.labels, &want).unwrap() - 1.0).abs() < 1e-9);
}

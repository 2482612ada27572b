//! Evaluation: kNN votes, representation metrics, classification and segmentation metrics, error rates,
//! k-means.

use super::case::{Case, Handler, Outputs, Result};
use candle_core::{DType, Device, Tensor};
use selfsup_core::Key;
use selfsup_eval::kmeans::{self, KMeansConfig};
use selfsup_eval::metrics::{self, Confusion};
use selfsup_eval::segmentation::{dice, surface_distance};
use selfsup_eval::{KnnConfig, Matrix, knn, text};
use serde_json::Value;

/// Who runs a case of evaluation.
pub fn handler(case: &Case) -> Option<Handler> {
    fn one(f: fn(&Case) -> Result<Outputs>, case: &Case) -> Result<Vec<(String, Outputs)>> {
        Ok(vec![(String::new(), f(case)?)])
    }
    Some(match case.short() {
        "knn" => |c| one(neighbours, c),
        "rankme" => |c| one(|c| outputs([("rankme", metrics::rankme(matrix(c, "z")?.view())?)]), c),
        "alignment_uniformity" => |c| {
            one(
                |c| {
                    let (x, y) = (matrix(c, "x")?, matrix(c, "y")?);
                    outputs([
                        ("align", metrics::alignment(x.view(), y.view())?),
                        ("uniform", metrics::uniformity(x.view())?),
                    ])
                },
                c,
            )
        },
        "linear_cka" => |c| {
            one(
                |c| outputs([("cka", metrics::linear_cka(matrix(c, "x")?.view(), matrix(c, "y")?.view())?)]),
                c,
            )
        },
        "binary" => |c| {
            one(
                |c| {
                    let (scores, positive) = (floats(&c.input("scores")?)?, mask(c, "labels")?);
                    outputs([
                        ("auroc", metrics::auroc(&scores, &positive)?),
                        ("auprc", metrics::average_precision(&scores, &positive)?),
                    ])
                },
                c,
            )
        },
        "auprc_rare" => |c| one(rare, c),
        "multiclass" => |c| one(multiclass, c),
        "segmentation" => |c| one(segmentation, c),
        "wer" => |c| {
            one(
                |c| {
                    let (r, h) = (texts(c, "references"), texts(c, "hypotheses"));
                    outputs([("wer", text::wer(&r, &h)?), ("cer", text::cer(&r, &h)?)])
                },
                c,
            )
        },
        "kmeans" => |c| one(clusters, c),
        _ => return None,
    })
}

fn outputs<const N: usize>(values: [(&str, f64); N]) -> Result<Outputs> {
    values.into_iter().map(|(n, v)| Ok((format!("expected.{n}"), Tensor::new(&[v], &Device::Cpu)?))).collect()
}

fn floats(t: &Tensor) -> Result<Vec<f32>> {
    Ok(t.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}

fn matrix(c: &Case, name: &str) -> Result<Matrix> {
    let t = c.input(name)?;
    let (n, d) = t.dims2()?;
    Ok(Matrix::new(floats(&t)?, n, d)?)
}

fn labels(c: &Case, name: &str) -> Result<Vec<u32>> {
    Ok(c.integers(name)?.into_iter().map(|v| v as u32).collect())
}

fn mask(c: &Case, name: &str) -> Result<Vec<bool>> {
    Ok(floats(&c.input(name)?)?.into_iter().map(|v| v != 0.0).collect())
}

fn texts(c: &Case, name: &str) -> Vec<String> {
    let list = c.params.get(name).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_string).collect()
}

fn rare(c: &Case) -> Result<Outputs> {
    let (scores, positive) = (floats(&c.input("scores")?)?, mask(c, "labels")?);
    let precision = metrics::average_precision(&scores, &positive)?;
    let negative: Vec<u32> = positive.iter().map(|&p| u32::from(!p)).collect();
    let prevalence = 1.0 - Confusion::new(&negative, &negative, 2)?.majority();
    let mut out = outputs([("average_precision", precision), ("prevalence", prevalence)])?;
    contrast(c, "trapezoid_area", precision, &mut out)?;
    Ok(out)
}

/// Another measure of the same curve, which the file holds for contrast: ours must differ from it.
fn contrast(c: &Case, name: &str, ours: f64, out: &mut Outputs) -> Result<()> {
    let name = format!("expected.{name}");
    let other = c.tensors.get(&name).ok_or("nothing to contrast with")?;
    let value = other.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
    if value.iter().any(|v| (ours - v).abs() <= 1e-4 * v.abs()) {
        return Err(format!("{ours} is {name}, which is another measure").into());
    }
    out.insert(name, other.clone());
    Ok(())
}

fn neighbours(c: &Case) -> Result<Outputs> {
    let (train, test, classes) = (matrix(c, "train")?, matrix(c, "test")?, c.whole("classes", 2));
    let config = KnnConfig { k: c.whole("k", 20), temperature: c.number("temperature", 0.1) };
    let votes = knn::classify(train.view(), &labels(c, "train_labels")?, test.view(), classes, &config)?;
    let pred: Vec<i64> = votes.predictions.iter().map(|p| i64::from(*p)).collect();
    Ok(Outputs::from([
        ("expected.votes".into(), Tensor::from_vec(votes.votes, (test.n(), classes), &Device::Cpu)?),
        ("expected.pred".into(), Tensor::from_vec(pred, test.n(), &Device::Cpu)?),
    ]))
}

fn multiclass(c: &Case) -> Result<Outputs> {
    let (probs, labels) = (floats(&c.input("probs")?)?, labels(c, "labels")?);
    let classes = c.input("probs")?.dim(1)?;
    let first_largest = |row: &[f32]| {
        row.iter().enumerate().fold(0, |best, (i, v)| if *v > row[best] { i } else { best }) as u32
    };
    let predictions: Vec<u32> = probs.chunks_exact(classes).map(first_largest).collect();
    outputs([
        ("macro_f1", Confusion::new(&predictions, &labels, classes)?.macro_f1()),
        ("macro_auroc_ovr", metrics::macro_auroc(&probs, &labels, classes)?),
        ("ece15", metrics::expected_calibration_error(&probs, &labels, classes, 15)?),
        ("nll", metrics::negative_log_likelihood(&probs, &labels, classes)?),
    ])
}

fn segmentation(c: &Case) -> Result<Outputs> {
    let spacing: Vec<f64> = c
        .params
        .get("spacing")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_f64)
        .collect();
    let shape = c.input("box_a")?.dims().to_vec();
    let d = surface_distance(&mask(c, "box_a")?, &mask(c, "box_b")?, &shape, &spacing)?
        .ok_or("an empty surface")?;
    outputs([
        ("dice", dice(&mask(c, "pred")?, &mask(c, "target")?)?),
        ("hd95", d.hausdorff95),
        ("hausdorff", d.hausdorff),
    ])
}

fn clusters(c: &Case) -> Result<Outputs> {
    let x = matrix(c, "x")?;
    let found =
        kmeans::fit(x.view(), &KMeansConfig { k: c.whole("k", 2), ..KMeansConfig::default() }, Key::new(0))?;
    // Labels are right up to a permutation: rename ours by where each first appears.
    let want: Vec<i64> =
        c.tensors.get("expected.labels").ok_or("no labels")?.to_dtype(DType::I64)?.to_vec1()?;
    let mut names = std::collections::BTreeMap::new();
    let renamed: Vec<i64> =
        found.labels.iter().zip(&want).map(|(l, w)| *names.entry(*l).or_insert(*w)).collect();
    let mut out = outputs([("inertia", found.inertia)])?;
    out.insert("expected.labels".into(), Tensor::from_vec(renamed, want.len(), &Device::Cpu)?);
    Ok(out)
}

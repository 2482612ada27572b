//! Evaluation: kNN votes, representation metrics, classification and segmentation metrics, error rates,
//! k-means.

use super::case::{Case, Handler, Outputs, Result};
use candle_core::{DType, Device, Tensor};
use selfsup_core::Key;
use selfsup_eval::detection::{Detection, Object, coco};
use selfsup_eval::kmeans::{self, KMeansConfig};
use selfsup_eval::knn::normalize_rows;
use selfsup_eval::metrics::{self, Confusion};
use selfsup_eval::segmentation::{dice, surface_distance};
use selfsup_eval::{KnnConfig, Matrix, episodes, knn, ood, text};
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
        "alpha_req" => |c| one(alpha_req, c),
        "lidar" => |c| one(lidar, c),
        "twonn" => |c| one(two_nn, c),
        "cka_debiased" => |c| one(debiased, c),
        "cluster_learnability" => |c| one(learnability, c),
        "calibration" => |c| one(calibration, c),
        "multilabel" => |c| one(several_labels, c),
        "ood" => |c| one(elsewhere, c),
        "episode" => |c| one(few_shot, c),
        "miou" => |c| one(overlaps, c),
        "events" => |c| one(events, c),
        "coco_ap" => |c| one(boxes, c),
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

/// A list of numbers as an output.
fn list(name: &str, values: &[f64]) -> Result<(String, Tensor)> {
    Ok((format!("expected.{name}"), Tensor::new(values, &Device::Cpu)?))
}

fn alpha_req(c: &Case) -> Result<Outputs> {
    let found = metrics::alpha_req(matrix(c, "z")?.view(), c.whole("first", 1), c.whole("last", 2))?;
    let mut out = outputs([("alpha", found.alpha), ("r2", found.r2)])?;
    out.extend([list("eigenvalues", &found.eigenvalues)?]);
    Ok(out)
}

fn lidar(c: &Case) -> Result<Outputs> {
    let z = c.input("z")?;
    let (samples, views, d) = z.dims3()?;
    let rows = Matrix::new(floats(&z)?, samples * views, d)?;
    outputs([("lidar", metrics::lidar(rows.view(), views, c.number("delta", 1e-4))?)])
}

fn two_nn(c: &Case) -> Result<Outputs> {
    let found = metrics::two_nn(matrix(c, "x")?.view(), c.number("discard", 0.1))?;
    outputs([("d_mle", found.likelihood), ("d_fit", found.fit), ("used", found.used as f64)])
}

fn debiased(c: &Case) -> Result<Outputs> {
    let (x, y) = (matrix(c, "x")?, matrix(c, "y")?);
    let batches = metrics::debiased_cka_in_batches(x.view(), y.view(), c.whole("batch", 10))?;
    outputs([("cka", metrics::debiased_cka(x.view(), y.view())?), ("cka_minibatch", batches)])
}

fn learnability(c: &Case) -> Result<Outputs> {
    let hits = metrics::prequential_hits(matrix(c, "x")?.view(), &labels(c, "clusters")?)?;
    let hits: Vec<f64> = hits.into_iter().map(|h| f64::from(u8::from(h))).collect();
    let mut out = outputs([("learnability", hits.iter().sum::<f64>() / hits.len() as f64)])?;
    out.extend([list("hits", &hits)?]);
    Ok(out)
}

fn calibration(c: &Case) -> Result<Outputs> {
    let (logits, labels) = (floats(&c.input("logits")?)?, labels(c, "labels")?);
    let (classes, bins) = (c.input("logits")?.dim(1)?, c.whole("bins", 15));
    let temperature = metrics::fit_temperature(&logits, &labels, classes)?;
    let mut out = outputs([("temperature", temperature)])?;
    for (end, t) in [("", 1.0), ("_scaled", temperature)] {
        let probs = metrics::softmax(&logits, classes, t)?;
        let of = [
            ("ece", metrics::expected_calibration_error(&probs, &labels, classes, bins)?),
            ("nll", metrics::negative_log_likelihood(&probs, &labels, classes)?),
            ("brier", metrics::brier(&probs, &labels, classes)?),
        ];
        for (name, value) in of {
            out.extend([list(&format!("{name}{end}"), &[value])?]);
        }
    }
    Ok(out)
}

fn several_labels(c: &Case) -> Result<Outputs> {
    let labels = c.input("labels")?.dim(1)?;
    let (scores, truth) = (floats(&c.input("scores")?)?, mask(c, "labels")?);
    let m = metrics::MultiLabel::new(&scores, &truth, labels, c.number("threshold", 0.5) as f32)?;
    let known = |v: Option<f64>| v.ok_or("nothing to average");
    let mut out = outputs([
        ("macro_auroc", known(m.macro_auroc)?),
        ("macro_ap", known(m.macro_average_precision)?),
        ("micro_auroc", known(m.micro_auroc)?),
        ("micro_ap", known(m.micro_average_precision)?),
        ("macro_f1", m.macro_f1),
        ("micro_f1", m.micro_f1),
        ("hamming_loss", m.hamming_loss),
        ("subset_accuracy", m.subset_accuracy),
        ("label_ranking_ap", m.label_ranking_average_precision),
    ])?;
    let areas: Vec<f64> = m.auroc.iter().map(|a| a.unwrap_or(-1.0)).collect();
    out.extend([list("auroc_per_label", &areas)?]);
    Ok(out)
}

fn elsewhere(c: &Case) -> Result<Outputs> {
    let (train, inside, outside) = (matrix(c, "train")?, matrix(c, "inside")?, matrix(c, "outside")?);
    let labels = labels(c, "labels")?;
    let classes = labels.iter().max().map_or(0, |l| *l as usize + 1);
    let gaussians = ood::Mahalanobis::fit(train.view(), &labels, classes, c.number("shrinkage", 0.1))?;
    let k = c.whole("k", 5);
    let knn = |x: &Matrix| ood::knn_scores(train.view(), x.view(), k);
    let scores = [
        ("mahalanobis", gaussians.scores(inside.view())?, gaussians.scores(outside.view())?),
        (
            "relative_mahalanobis",
            gaussians.relative_scores(inside.view())?,
            gaussians.relative_scores(outside.view())?,
        ),
        ("knn", knn(&inside)?, knn(&outside)?),
    ];
    let mut out = Outputs::new();
    for (name, inside, outside) in scores {
        let found = ood::detection(&inside, &outside)?;
        out.extend([
            list(name, &[inside, outside].concat())?,
            list(&format!("{name}_auroc"), &[found.auroc])?,
            list(&format!("{name}_fpr95"), &[found.fpr95])?,
        ]);
    }
    Ok(out)
}

fn few_shot(c: &Case) -> Result<Outputs> {
    let unit = |name: &str| -> Result<Matrix> {
        let x = matrix(c, name)?;
        Ok(Matrix::new(normalize_rows(x.view()), x.n(), x.d())?)
    };
    let (support, query) = (unit("support")?, unit("query")?);
    let told = episodes::told(support.view(), &labels(c, "labels")?, c.whole("ways", 5), query.view())?;
    let values = c.input("accuracies")?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
    let interval = episodes::Interval::of(&values);
    let classes = |of: Vec<u32>| Tensor::new(of.into_iter().map(i64::from).collect::<Vec<_>>(), &Device::Cpu);
    let mut out = outputs([("mean", interval.mean), ("half", interval.half)])?;
    out.insert("expected.nearest".into(), classes(told.nearest)?);
    out.insert("expected.logistic".into(), classes(told.logistic)?);
    Ok(out)
}

fn overlaps(c: &Case) -> Result<Outputs> {
    let classes = c.whole("classes", 2);
    let (pred, target) = (labels(c, "pred")?, labels(c, "target")?);
    let all = Confusion::without(c.whole("ignore", 255) as u32, &pred, &target, classes)?;
    let miou = all.mean_iou();
    let mut out = outputs([
        ("miou", miou),
        ("mean_accuracy", all.balanced_accuracy()),
        ("pixel_accuracy", all.accuracy()),
    ])?;
    let counts: Vec<i64> = all.counts().iter().map(|n| *n as i64).collect();
    out.insert("expected.confusion".into(), Tensor::from_vec(counts, (classes, classes), &Device::Cpu)?);
    let each: Vec<f64> = all.iou().into_iter().map(|v| v.unwrap_or(-1.0)).collect();
    out.extend([list("iou", &each)?]);
    contrast(c, "wrong_mean_of_images", miou, &mut out)?;
    Ok(out)
}

fn events(c: &Case) -> Result<Outputs> {
    let (scores, truth) = (floats(&c.input("score")?)?, mask(c, "label")?);
    let found = metrics::Events::new(&scores, &truth, c.number("threshold", 0.5) as f32)?;
    let mut out = outputs([
        ("detected", found.detected as f64),
        ("false_alarms", found.false_alarms as f64),
        ("precision", found.precision),
        ("recall", found.recall),
        ("f1", found.f1),
        ("point_precision", found.point_precision),
        ("point_recall", found.point_recall),
    ])?;
    for (name, runs) in [("true_events", &found.truth), ("predicted_events", &found.predicted)] {
        let ends: Vec<i64> = runs.iter().flat_map(|r| [r.start as i64, r.end as i64]).collect();
        let ends = Tensor::from_vec(ends, (runs.len(), 2), &Device::Cpu)?;
        out.insert(format!("expected.{name}"), ends);
    }
    contrast(c, "point_adjusted_f1", found.f1, &mut out)?;
    Ok(out)
}

fn boxes(c: &Case) -> Result<Outputs> {
    let wide = |name: &str| -> Result<Vec<f64>> {
        Ok(c.input(name)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
    };
    let bbox = |v: &[f64], i: usize| [v[4 * i], v[4 * i + 1], v[4 * i + 2], v[4 * i + 3]];
    let (image, category) = (labels(c, "gt_image")?, labels(c, "gt_category")?);
    let (at, area, crowd) = (wide("gt_boxes")?, wide("gt_area")?, mask(c, "gt_crowd")?);
    let object = |i: usize| {
        let (image, category) = (image[i] as usize, category[i] as usize);
        Object { image, category, bbox: bbox(&at, i), area: area[i], crowd: crowd[i] }
    };
    let objects: Vec<Object> = (0..area.len()).map(object).collect();
    let (image, category) = (labels(c, "dt_image")?, labels(c, "dt_category")?);
    let (at, score) = (wide("dt_boxes")?, wide("dt_score")?);
    let detection = |i: usize| {
        let (image, category) = (image[i] as usize, category[i] as usize);
        Detection { image, category, bbox: bbox(&at, i), score: score[i] }
    };
    let detections: Vec<Detection> = (0..score.len()).map(detection).collect();
    let found = coco(&objects, &detections, c.whole("images", 1), c.whole("categories", 1))?;
    let known = |all: &[Option<f64>]| all.iter().map(|v| v.unwrap_or(-1.0)).collect::<Vec<_>>();
    Ok(Outputs::from([
        list("summary", &known(&found.summary()))?,
        list("ap_per_category", &known(&found.ap_of_category))?,
        list("ap_per_iou", &known(&found.ap_of_overlap))?,
    ]))
}

//! `result.json` in words and tables.

use crate::verbs::report::metrics::short;
use crate::verbs::report::run::{Collected, Ill, Row};
use crate::verdict::{Figures, Other, Outcome, few_labels, judge};
use selfsup_core::run::time_text;
use serde_json::Value;
use std::path::Path;

const SETS: [&str; 3] = ["trained", "random", "raw"];

/// Fills in what `result.json` says; a run without one has no result yet.
pub(super) fn read(dir: &Path, into: &mut Collected) {
    let text = selfsup_core::file::read(dir.join("result.json")).unwrap_or_default();
    let result: Value = serde_json::from_slice(&text).unwrap_or_default();
    into.outcome = "unknown".into();
    if let Some(name) = result["encoder"].as_str() {
        into.encoder = name.into();
    }
    facts(&result, into);
    into.ill = result["training"]["unhealthy"].as_array().into_iter().flatten().filter_map(ill).collect();
    if result["probe"].is_object() {
        probe(&result["probe"], into);
    } else if result["unlabelled"].is_object() {
        unlabelled(&result["unlabelled"], into);
    } else if into.task {
        reached(&result, into);
    } else {
        into.verdict = match into.state.as_str() {
            "finished" => "No verdict: the run was not evaluated (`selfsup probe` does it).".into(),
            _ => "No verdict yet: a run is evaluated at its end.".into(),
        };
    }
    if !into.ill.is_empty() {
        let names: Vec<&str> = into.ill.iter().map(|i| i.gauge.as_str()).collect();
        into.more.push(format!("Not healthy at the end: {}.", names.join(", ")));
    }
}

fn three(v: &Value) -> [Option<f64>; 3] {
    SETS.map(|set| v[set].as_f64().map(short))
}

fn probe(probe: &Value, into: &mut Collected) {
    into.raw = probe["raw"].as_str().unwrap_or("raw features").into();
    let linear = three(&probe["linear"]);
    let test = probe["test"].as_u64().unwrap_or(0) as usize;
    let draws = probe["draws"].as_u64().unwrap_or(1);
    let knn = three(&probe["knn"]);
    let mut others = Vec::new();
    if let [Some(trained), Some(random), _] = knn {
        others.push(Other::knn(trained, random));
    }
    for (labels, few) in probe["linear_at"].as_object().into_iter().flatten() {
        let sd = three(&few["sd"]).map(Option::unwrap_or_default);
        if let [Some(trained), Some(random), _] = three(few) {
            others.push(Other::few(labels, [trained, random], [sd[0], sd[1]], draws));
        }
    }
    let (outcome, verdict) = judge(&Figures {
        collapsed: probe["collapse"]["verdict"] == "complete",
        trained: linear[0],
        random: linear[1],
        raw: linear[2],
        raw_name: &into.raw,
        test,
        others,
    });
    (into.outcome, into.verdict) = (name(outcome), verdict);
    if let ([Some(trained), Some(random), raw], true) = (linear, outcome != Outcome::Unknown) {
        let beside = |name: &str, v: f64| format!("{:+.1} points against {name}", trained - v);
        let raw = raw.map_or(String::new(), |v| format!(", {}", beside(&into.raw, v)));
        into.more.push(format!("With all labels: {}{raw}.", beside("random weights", random)));
    }
    into.accuracies.push(Row { name: "kNN".into(), values: knn, sd: None });
    into.accuracies.push(Row { name: "linear, all labels".into(), values: linear, sd: None });
    for (labels, few) in probe["linear_at"].as_object().into_iter().flatten() {
        // The means stand beside `sd`, by the names of the features.
        let (values, sd) = (three(few), three(&few["sd"]));
        into.more.extend(few_labels(labels, values, sd, draws, test, &into.raw));
        into.accuracies.push(Row { name: format!("linear, {labels} labels"), values, sd: Some(sd) });
    }
    if let Some(chance) = probe["majority"].as_f64() {
        into.facts.push(("Guessing the most frequent class".into(), format!("{chance:.1}%")));
    }
    for key in ["train", "test"] {
        if let Some(n) = probe[key].as_u64() {
            let what =
                if key == "train" { "Labelled samples to fit on" } else { "Labelled samples to test on" };
            into.facts.push((what.into(), n.to_string()));
        }
    }
    collapse(&probe["collapse"], into);
    let of = |key: &str| SETS.map(|set| probe["geometry"][set][key].as_f64().map(short));
    for (key, name) in GEOMETRY {
        push(into, name, of(key));
    }
}

const GEOMETRY: [(&str, &str); 3] = [
    ("alpha", "decay of variance (alpha-ReQ)"),
    ("intrinsic_dimension", "intrinsic dimension (TwoNN)"),
    ("learnability", "cluster learnability"),
];

fn push(into: &mut Collected, name: &str, values: [Option<f64>; 3]) {
    if values.iter().any(Option::is_some) {
        into.measures.push(Row { name: name.into(), values, sd: None });
    }
}

fn collapse(collapse: &Value, into: &mut Collected) {
    if let Some(sentence) = collapse["sentence"].as_str() {
        into.more.push(sentence.into());
    }
    for (key, name) in [("effective_rank", "effective rank"), ("spread", "spread")] {
        push(into, name, [collapse[key].as_f64().map(short), None, None]);
    }
}

/// Of a run without labels.
fn unlabelled(found: &Value, into: &mut Collected) {
    let trained = &found["trained"];
    let whole = trained["collapse"]["verdict"] == "healthy";
    let sentence = trained["collapse"]["sentence"].as_str().unwrap_or_default().to_string();
    let recall = [trained, &found["random"]].map(|m| m["view_recall"].as_f64());
    let differ = found["views_differ"] == true;
    (into.outcome, into.verdict) = match (whole, recall) {
        (true, [Some(a), Some(b)]) if differ => {
            let than = if a > b { "more often than" } else { "no more often than" };
            let said = format!(
                "No labels to judge by: a view finds its own sample in {a:.1}%, {than} with random weights \
                 ({b:.1}%)."
            );
            (if a > b { "helped" } else { "level" }.into(), said)
        }
        (true, _) => ("unknown".into(), "No labels to judge by.".into()),
        (false, _) => ("worse".into(), sentence.clone()),
    };
    if whole {
        into.more.push(sentence);
    }
    let of = |path: &[&str]| {
        let at = |set: &Value| path.iter().fold(set, |v, key| &v[*key]).as_f64().map(short);
        [at(trained), at(&found["random"]), None]
    };
    push(into, "effective rank", of(&["collapse", "effective_rank"]));
    push(into, "spread", of(&["collapse", "spread"]));
    push(into, "uniformity", of(&["uniformity"]));
    for (key, name) in GEOMETRY {
        push(into, name, of(&["geometry", key]));
    }
    if differ {
        push(into, "LiDAR", of(&["lidar"]));
        push(into, "alignment of two views", of(&["alignment"]));
        push(into, "view finds its sample, %", of(&["view_recall"]));
    }
    if let Some(n) = found["samples"].as_u64() {
        into.facts.push(("Samples measured without labels".into(), n.to_string()));
    }
}

/// Of a fine-tuned run the measures of its test, or else of its validation.
fn reached(result: &Value, into: &mut Collected) {
    for part in ["test", "validation"] {
        let numbers = result[part].as_object().into_iter().flatten();
        let named = numbers
            .filter_map(|(name, v)| Some((format!("{part}: {}", name.replace('_', " ")), v.as_f64()?)));
        into.reached.extend(named.map(|(name, v)| (name, short(v))));
    }
    into.verdict = match into.reached.first() {
        Some((name, value)) => {
            let (part, measure) = name.split_once(": ").unwrap_or(("", name));
            format!("Fine-tuned for {}: {measure} of {value:.4} on the {part} samples.", into.method)
        }
        None => "No verdict: nothing was measured.".into(),
    };
}

fn ill(v: &Value) -> Option<Ill> {
    let text = |key: &str| v[key].as_str().unwrap_or_default().to_string();
    let band = match (v["healthy_above"].as_f64(), v["healthy_below"].as_f64()) {
        (Some(low), Some(high)) => format!("{low} to {high}"),
        (Some(low), None) => format!("at least {low}"),
        (None, Some(high)) => format!("at most {high}"),
        (None, None) => String::new(),
    };
    Some(Ill {
        gauge: v["gauge"].as_str()?.into(),
        value: short(v["value"].as_f64().unwrap_or(f64::NAN)),
        band,
        since_step: v["since_step"].as_u64().unwrap_or(0),
        cause: text("cause"),
        remedy: text("remedy"),
    })
}

fn name(outcome: Outcome) -> String {
    serde_json::to_value(outcome).ok().and_then(|v| v.as_str().map(str::to_string)).unwrap_or_default()
}

/// What the run took.
fn facts(result: &Value, into: &mut Collected) {
    let training = &result["training"];
    let mut fact = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            into.facts.push((name.into(), value));
        }
    };
    let count = |v: &Value| v.as_u64().map(|n| n.to_string());
    let time = |v: &Value| v.as_f64().map(time_text);
    fact("Parameters of the encoder", result["parameters"].as_u64().map(millions));
    fact("Steps", count(&training["steps"]));
    fact("Epochs", count(&training["epochs"]));
    fact("Training", time(&training["seconds"]));
    fact("Samples a second", training["samples_per_second"].as_f64().map(|v| format!("{v:.0}")));
    fact("In all", time(&result["seconds"]));
    fact("Unreadable samples", training["bad_samples"].as_u64().filter(|n| *n > 0).map(|n| n.to_string()));
    fact("Skipped steps", training["skipped_steps"].as_u64().filter(|n| *n > 0).map(|n| n.to_string()));
    let cost = &result["cost"];
    let megabytes = |v: &Value| v.as_u64().map(|mb| format!("{mb} MB"));
    fact("Processor time", time(&cost["processor_seconds"]));
    fact("Peak memory", megabytes(&cost["peak_memory_mb"]));
    fact("Time that was planned", time(&cost["planned_seconds"]));
    fact("Memory that was planned", megabytes(&cost["planned_memory_mb"]));
}

fn millions(n: u64) -> String {
    if n >= 1_000_000 { format!("{:.2} M", n as f64 / 1e6) } else { format!("{:.1} k", n as f64 / 1e3) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(result: &str, task: bool) -> Collected {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("result.json"), result).unwrap();
        let mut found =
            Collected { task, method: "ctc".into(), state: "finished".into(), ..Collected::default() };
        read(dir.path(), &mut found);
        found
    }

    #[test]
    fn a_probe_in_words() {
        let found = of(
            r#"{"encoder": "resnet18", "parameters": 11200000, "seconds": 70.0,
                "cost": {"processor_seconds": 130.0, "peak_memory_mb": 812},
                "training": {"steps": 100, "seconds": 60.0, "unhealthy": [
                    {"gauge": "embedding_std", "value": 0.01, "healthy_above": 0.2, "since_step": 7}]},
                "probe": {"raw": "raw pixels", "test": 2000, "train": 4000, "draws": 10, "majority": 10.0,
                    "knn": {"trained": 80.0, "random": 70.0, "raw": 75.0},
                    "linear": {"trained": 84.0, "random": 77.2, "raw": 82.1},
                    "linear_at": {"100": {"trained": 70.0, "random": 60.0, "raw": 70.1,
                                          "sd": {"trained": 1.0, "random": 1.0, "raw": 1.0}}},
                    "collapse": {"verdict": "healthy", "sentence": "No sign of collapse.", "effective_rank": 12.5},
                    "geometry": {"trained": {"alpha": 1.1}, "random": {"alpha": 2.0}, "raw": {"alpha": null}}}}"#,
            false,
        );
        assert_eq!(found.outcome, "helped");
        assert!(
            found.verdict.starts_with("Pre-training helped: a linear probe reads 84.0%"),
            "{}",
            found.verdict
        );
        let more = found.more.join("\n");
        for part in [
            "With all labels: +6.8 points against random weights, +1.9 points against raw pixels.",
            "With 100 labels: 10.0 points above random weights, level with raw pixels.",
            "No sign of collapse.",
            "Not healthy at the end: embedding_std.",
        ] {
            assert!(more.contains(part), "{part} in {more}");
        }
        assert_eq!(found.accuracies.len(), 3);
        assert_eq!((found.ill[0].band.as_str(), found.ill[0].since_step), ("at least 0.2", 7));
        assert_eq!(found.measures.iter().find(|m| m.name.starts_with("decay")).unwrap().values[1], Some(2.0));
        assert!(found.facts.contains(&("Parameters of the encoder".into(), "11.20 M".into())));
        assert!(found.facts.contains(&("Peak memory".into(), "812 MB".into())));
    }

    #[test]
    fn other_results() {
        assert!(of("{}", false).verdict.contains("not evaluated"));
        assert!(of("nonsense", true).verdict.contains("nothing was measured"));
        let tuned = of(r#"{"test": {"char_error": 0.25}, "training": {}}"#, true);
        assert_eq!(tuned.verdict, "Fine-tuned for ctc: char error of 0.2500 on the test samples.");
        let blind = of(
            r#"{"unlabelled": {"samples": 20, "views_differ": true,
                "trained": {"view_recall": 90.0, "collapse": {"verdict": "healthy", "sentence": "Fine."}},
                "random": {"view_recall": 80.0}}}"#,
            false,
        );
        assert_eq!(blind.outcome, "helped");
        assert!(
            blind.verdict.contains("in 90.0%, more often than with random weights (80.0%)"),
            "{}",
            blind.verdict
        );
    }
}

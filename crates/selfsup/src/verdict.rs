//! Did pre-training help? The first sentence of a report, in words that follow from its numbers.

use crate::evaluate::Probed;
use selfsup_eval::collapse;

/// Standard errors beyond which a difference in the given direction comes by chance once in twenty times.
const ERRORS: f64 = 1.645;

/// Two accuracies in percent differ if they lie further apart than 1.645 standard errors of the difference of two
/// shares of `n` samples. The samples are the same, so this is on the careful side.
fn differ(a: f64, b: f64, n: usize) -> bool {
    let p = (a + b) / 200.0;
    (a - b).abs() > ERRORS * 100.0 * (2.0 * p * (1.0 - p) / n.max(1) as f64).sqrt()
}

/// Whether the trained encoder is ahead of the same one with random weights, and of features without an
/// encoder, by the linear probe on all labels.
pub fn verdict(found: &Probed) -> String {
    let r = &found.report;
    let of = |set: &str| r.linear.get(set).copied();
    if found.collapse.verdict == collapse::Verdict::Complete {
        return "Pre-training failed: the representation has collapsed.".into();
    }
    let (Some(trained), Some(random)) = (of("trained"), of("random")) else {
        return "No verdict: there is no linear probe to compare.".into();
    };
    let said = format!("a linear probe reads {trained:.1}%, {random:.1}% from random weights");
    if !differ(trained, random, r.test) {
        return format!(
            "Pre-training made no clear difference on {} test samples: {said}. Train longer, or on more data.",
            r.test
        );
    }
    if trained < random {
        return format!("Pre-training made the encoder worse than random weights: {said}. Train longer.");
    }
    match of("raw") {
        Some(raw) if trained < raw && differ(trained, raw, r.test) => format!(
            "Pre-training helped, but {} are ahead: {said}, {raw:.1}% from {}. Train longer, or on more data.",
            found.raw, found.raw
        ),
        _ => format!("Pre-training helped: {said}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::Key;
    use selfsup_eval::Matrix;
    use selfsup_eval::protocol::{EvalInput, FeatureSet, Named, evaluate};

    fn found(trained: f64, random: f64, raw: f64, test: usize) -> Probed {
        // Two blobs: a report to put the numbers into.
        let mut rng = Key::new(0).rng();
        let rows: Vec<f32> =
            (0..40).flat_map(|i| [(i % 2) as f32 * 4.0, 0.0].map(|m| m + rng.normal())).collect();
        let features = Matrix::new(rows, 40, 2).unwrap();
        let labels: Vec<u32> = (0..40).map(|i| i % 2).collect();
        let sets = [FeatureSet { name: "trained", train: features.view(), test: features.view() }];
        let mut report = evaluate(&EvalInput::new(&sets, &labels, &labels, 2)).unwrap();
        let named = [("trained", trained), ("random", random), ("raw", raw)];
        report.linear = Named(named.map(|(n, v)| (n.to_string(), v)).to_vec());
        report.test = test;
        let collapse = collapse::diagnose(features.view()).unwrap();
        Probed { report, collapse, geometry: Named(Vec::new()), raw: "raw pixels", noisy: Vec::new() }
    }

    #[test]
    fn sentences_follow_from_the_numbers() {
        let says = |trained, random, raw, test, part: &str| {
            let said = verdict(&found(trained, random, raw, test));
            assert!(said.starts_with(part), "{said}");
        };
        says(
            84.0,
            77.0,
            82.0,
            2000,
            "Pre-training helped: a linear probe reads 84.0%, 77.0% from random weights",
        );
        says(42.9, 67.9, 92.9, 28, "Pre-training made the encoder worse than random weights");
        says(70.0, 60.0, 90.0, 1000, "Pre-training helped, but raw pixels are ahead");
        says(62.0, 60.0, 90.0, 50, "Pre-training made no clear difference on 50 test samples");
        // Three of 15 samples more: chance.
        says(60.0, 40.0, 40.0, 15, "Pre-training made no clear difference on 15 test samples");
        let mut collapsed = found(84.0, 77.0, 82.0, 2000);
        collapsed.collapse.verdict = collapse::Verdict::Complete;
        assert!(verdict(&collapsed).contains("collapsed"));
    }
}

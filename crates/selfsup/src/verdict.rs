//! Did pre-training help? The first sentence of a report, in words that follow from its numbers.

use crate::evaluate::Probed;
use selfsup_eval::collapse;

/// Standard errors beyond which a difference in the given direction comes by chance once in twenty times.
const ERRORS: f64 = 1.645;

/// Two accuracies in percent differ if they lie further apart than 1.645 standard errors of the difference
/// of two shares of `n` samples. The samples are the same, so this is on the careful side.
fn differ(a: f64, b: f64, n: usize) -> bool {
    let p = (a + b) / 200.0;
    (a - b).abs() > ERRORS * 100.0 * (2.0 * p * (1.0 - p) / n.max(1) as f64).sqrt()
}

/// What a verdict is made of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures<'a> {
    /// Whether the trained encoder gives all samples nearly the same features.
    pub collapsed: bool,
    /// The linear probe on all labels, in percent: of the trained encoder,
    pub trained: Option<f64>,
    /// of the same one with random weights,
    pub random: Option<f64>,
    /// and of features without an encoder.
    pub raw: Option<f64>,
    /// What those features are.
    pub raw_name: &'a str,
    /// Test samples.
    pub test: usize,
    /// What else compares the trained encoder with random weights.
    pub others: Vec<Other>,
}

/// Another comparison of the trained encoder with random weights, in percent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Other {
    /// What it is, as in "kNN".
    pub name: String,
    /// Of the trained encoder.
    pub trained: f64,
    /// Of the same one with random weights.
    pub random: f64,
    /// Squared standard error of the difference by what was drawn besides the test samples: labels.
    pub drawn: f64,
}

impl Other {
    /// kNN on all labels.
    pub fn knn(trained: f64, random: f64) -> Self {
        Other { name: "kNN".into(), trained, random, drawn: 0.0 }
    }

    /// A probe on so many labels: means over `draws` with their standard deviations.
    pub fn few(labels: &str, [trained, random]: [f64; 2], sd: [f64; 2], draws: u64) -> Self {
        let drawn = sd.iter().map(|sd| sd * sd).sum::<f64>() / draws.max(1) as f64;
        Other { name: format!("a probe on {labels} labels"), trained, random, drawn }
    }

    /// 1 where training clearly helped, -1 where it clearly did not, 0 between.
    fn way(&self, test: usize) -> i8 {
        let share = (self.trained + self.random) / 200.0;
        let tested = 1e4 * 2.0 * share * (1.0 - share) / test.max(1) as f64;
        let apart = self.trained - self.random;
        match apart.abs() > ERRORS * (self.drawn + tested).max(0.0).sqrt() {
            true if apart > 0.0 => 1,
            true => -1,
            false => 0,
        }
    }
}

/// What a verdict comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Ahead of random weights, and not behind features without an encoder.
    Helped,
    /// Ahead of random weights, behind features without an encoder.
    Behind,
    /// No clear difference to random weights.
    Level,
    /// Behind random weights, or collapsed.
    Worse,
    /// Nothing to compare.
    Unknown,
}

/// Whether the trained encoder is ahead of the same one with random weights, and of features without an
/// encoder, by the linear probe on all labels. Where kNN or probes on few labels say otherwise, so does the
/// sentence.
pub fn verdict(found: &Probed) -> String {
    let r = &found.report;
    let of = |set: &str| r.linear.get(set).copied();
    let both = |of: &dyn Fn(&str) -> Option<f64>| Some([of("trained")?, of("random")?]);
    let knn = both(&|set| r.knn.get(set).copied()).map(|[trained, random]| Other::knn(trained, random));
    let few = r.linear_at.0.iter().filter_map(|(labels, few)| {
        let sd = both(&|set| few.sd.get(set).copied()).unwrap_or_default();
        Some(Other::few(labels, both(&|set| few.mean.get(set).copied())?, sd, r.draws as u64))
    });
    judge(&Figures {
        collapsed: found.collapse.verdict == collapse::Verdict::Complete,
        trained: of("trained"),
        random: of("random"),
        raw: of("raw"),
        raw_name: found.raw,
        test: r.test,
        others: knn.into_iter().chain(few).collect(),
    })
    .1
}

/// The same of figures that were read back, with what it comes to.
pub fn judge(figures: &Figures) -> (Outcome, String) {
    if figures.collapsed {
        return (Outcome::Worse, "Pre-training failed: the representation has collapsed.".into());
    }
    let (Some(trained), Some(random)) = (figures.trained, figures.random) else {
        return (Outcome::Unknown, "No verdict: there is no linear probe to compare.".into());
    };
    let (test, name) = (figures.test, figures.raw_name);
    let said = format!("a linear probe reads {trained:.1}%, {random:.1}% from random weights");
    let but = otherwise(figures, trained, random);
    if !differ(trained, random, test) {
        let said = format!(
            "Pre-training made no clear difference on {test} test samples: {said}{but}. Train longer, or on \
             more data."
        );
        return (Outcome::Level, said);
    }
    if trained < random {
        let said =
            format!("Pre-training made the encoder worse than random weights: {said}{but}. Train longer.");
        return (Outcome::Worse, said);
    }
    match figures.raw {
        Some(raw) if trained < raw && differ(trained, raw, test) => {
            let said = format!(
                "Pre-training helped, but {name} are ahead: {said}, {raw:.1}% from {name}{but}. Train longer, \
                 or on more data."
            );
            (Outcome::Behind, said)
        }
        _ => (Outcome::Helped, format!("Pre-training helped: {said}{but}.")),
    }
}

/// What says otherwise than the linear probe on all labels, for the same sentence. A comparison without a
/// clear difference beside a clear one says less, not otherwise.
fn otherwise(figures: &Figures, trained: f64, random: f64) -> String {
    let linear = Other { trained, random, ..Other::default() }.way(figures.test);
    let against = |o: &Other| {
        let way = o.way(figures.test);
        let said = || format!("{} {:.1}% against {:.1}%", o.name, o.trained, o.random);
        (way != 0 && way != linear).then(said)
    };
    let said: Vec<String> = figures.others.iter().filter_map(against).collect();
    if said.is_empty() { String::new() } else { format!("; but {}", said.join(", ")) }
}

/// How the trained encoder stands with few labels, in a sentence: the accuracies are means over `draws`, with
/// their standard deviations; in the order trained, random, raw.
pub fn few_labels(
    labels: &str,
    means: [Option<f64>; 3],
    sd: [Option<f64>; 3],
    draws: u64,
    test: usize,
    raw_name: &str,
) -> Option<String> {
    let trained = means[0]?;
    let against = |i: usize, name: &str| {
        let other = means[i]?;
        // What another draw of labels would change, and other test samples.
        let drawn = [0, i].iter().filter_map(|k| sd[*k]).map(|sd| sd * sd).sum::<f64>() / draws.max(1) as f64;
        let share = (trained + other) / 200.0;
        let tested = 1e4 * 2.0 * share * (1.0 - share) / test.max(1) as f64;
        let apart = trained - other;
        Some(match apart {
            a if a.abs() <= ERRORS * (drawn + tested).max(0.0).sqrt() => format!("level with {name}"),
            a if a > 0.0 => format!("{a:.1} points above {name}"),
            a => format!("{:.1} points below {name}", -a),
        })
    };
    let parts: Vec<String> =
        [against(1, "random weights"), against(2, raw_name)].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| format!("With {labels} labels: {}.", parts.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::Key;
    use selfsup_eval::Matrix;
    use selfsup_eval::protocol::{EvalInput, FeatureSet, FewLabels, Named, evaluate};

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
        let few = few_labels("50", [Some(60.0), Some(70.0), None], [Some(1.0); 3], 10, 1000, "raw pixels");
        assert_eq!(few.as_deref(), Some("With 50 labels: 10.0 points below random weights."));
        assert_eq!(few_labels("50", [None; 3], [None; 3], 10, 10, ""), None);
        // What disagrees is said in the same sentence; what merely sees no difference is not.
        let mut other = found(84.0, 77.0, 60.0, 2000);
        other.report.knn = Named(vec![("trained".into(), 60.0), ("random".into(), 70.0)]);
        let said = verdict(&other);
        assert!(
            said.starts_with("Pre-training helped:") && said.contains("but kNN 60.0% against 70.0%"),
            "{said}"
        );
        other.report.knn = Named(vec![("trained".into(), 70.5), ("random".into(), 70.0)]);
        assert!(!verdict(&other).contains("but"), "{}", verdict(&other));
        let few = |trained: f64, random: f64, sd: f64| FewLabels {
            mean: Named(vec![("trained".into(), trained), ("random".into(), random)]),
            sd: Named(vec![("trained".into(), sd), ("random".into(), sd)]),
            ..FewLabels::default()
        };
        other.report.linear_at = Named(vec![("100".into(), few(40.0, 55.0, 2.0))]);
        let said = verdict(&other);
        assert!(said.contains("but a probe on 100 labels 40.0% against 55.0%"), "{said}");
        // Draws that spread that far tell nothing.
        other.report.linear_at = Named(vec![("100".into(), few(40.0, 55.0, 60.0))]);
        assert!(!verdict(&other).contains("but"), "{}", verdict(&other));
        // Where the probe sees no difference, one that does is news.
        let mut same = found(70.0, 69.5, 60.0, 500);
        same.report.knn = Named(vec![("trained".into(), 80.0), ("random".into(), 60.0)]);
        assert!(verdict(&same).contains("; but kNN 80.0% against 60.0%"), "{}", verdict(&same));
        let mut collapsed = found(84.0, 77.0, 82.0, 2000);
        collapsed.collapse.verdict = collapse::Verdict::Complete;
        assert!(verdict(&collapsed).contains("collapsed"));
    }
}

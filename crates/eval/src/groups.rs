//! Whether a classifier serves all groups of people (or sites, or machines) alike: measures of each group,
//! the gaps between groups, and how certain these are.
//!
//! A gap is the largest measure of a group minus the smallest. It is above 0 also where groups do not differ,
//! since each is measured on some samples only; so beside its bootstrap interval (samples are drawn anew
//! within each group) stands the gap that chance alone reaches: its 95th percentile where the names of the
//! groups are shuffled.

use crate::metrics::{Confusion, expected_calibration_error, macro_auroc};
use rayon::prelude::*;
use selfsup_core::{Error, Key, Result};
use serde::{Deserialize, Serialize};

/// What a classifier said of samples.
#[derive(Clone, Copy, Debug)]
pub struct Scored<'a> {
    /// Probabilities, `(n, classes)`.
    pub probabilities: &'a [f32],
    /// Labels, `(n)`.
    pub labels: &'a [u32],
    /// Number of classes.
    pub classes: usize,
}

/// How groups are measured.
#[derive(Clone, Copy, Debug)]
pub struct GroupConfig {
    /// Groups of fewer samples are named and not measured.
    pub least: usize,
    /// Bootstrap samples, and shuffles.
    pub resamples: usize,
    /// Of what is drawn.
    pub key: Key,
}

impl Default for GroupConfig {
    /// Groups of 30 samples at least; 1,000 bootstrap samples.
    fn default() -> Self {
        GroupConfig { least: 30, resamples: 1000, key: Key::new(0).named("groups") }
    }
}

/// Names of the measures, in the order of [`Measures::values`].
pub const MEASURES: [&str; 5] = ["accuracy", "tpr", "fpr", "auroc", "ece"];

/// Measures of a group, as shares. With two classes the positive one is the second; with more, rates and
/// AUROC are means over the classes, one against the rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measures {
    /// Share that is right.
    pub accuracy: f64,
    /// True positive rate, where there are positive samples.
    pub tpr: Option<f64>,
    /// False positive rate, where there are negative samples.
    pub fpr: Option<f64>,
    /// Area under the ROC curve, where there are both.
    pub auroc: Option<f64>,
    /// Expected calibration error, 15 bins.
    pub ece: f64,
}

impl Measures {
    /// The values in the order of [`MEASURES`].
    pub fn values(&self) -> [Option<f64>; 5] {
        [Some(self.accuracy), self.tpr, self.fpr, self.auroc, Some(self.ece)]
    }

    /// Measures the samples `index`, which may repeat.
    fn of(scored: &Scored<'_>, index: &[usize]) -> Result<Self> {
        let c = scored.classes;
        let labels: Vec<u32> = index.iter().map(|i| scored.labels[*i]).collect();
        let probabilities: Vec<f32> =
            index.iter().flat_map(|i| scored.probabilities[i * c..(i + 1) * c].iter().copied()).collect();
        let best = |row: &[f32]| crate::math::argmax(row) as u32;
        let predicted: Vec<u32> = probabilities.chunks_exact(c).map(best).collect();
        let confusion = Confusion::new(&predicted, &labels, c)?;
        let counted = if c == 2 { 1..2 } else { 0..c };
        let of_class = |class: usize| -> (Option<f64>, Option<f64>) {
            let is = |y: &u32| *y as usize == class;
            let (mut tp, mut positive, mut fp) = (0usize, 0usize, 0usize);
            for (y, p) in labels.iter().zip(&predicted) {
                positive += usize::from(is(y));
                tp += usize::from(is(y) && is(p));
                fp += usize::from(!is(y) && is(p));
            }
            let share = |a: usize, b: usize| (b > 0).then(|| a as f64 / b as f64);
            (share(tp, positive), share(fp, labels.len() - positive))
        };
        let rates: Vec<(Option<f64>, Option<f64>)> = counted.map(of_class).collect();
        let auroc = if c == 2 {
            let scores: Vec<f32> = probabilities.chunks_exact(2).map(|row| row[1]).collect();
            let positive: Vec<bool> = labels.iter().map(|y| *y == 1).collect();
            crate::metrics::auroc(&scores, &positive).ok()
        } else {
            macro_auroc(&probabilities, &labels, c).ok()
        };
        Ok(Measures {
            accuracy: confusion.accuracy(),
            tpr: mean(rates.iter().filter_map(|r| r.0)),
            fpr: mean(rates.iter().filter_map(|r| r.1)),
            auroc,
            ece: expected_calibration_error(&probabilities, &labels, c, 15)?,
        })
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, n) = values.fold((0.0, 0usize), |(s, n), v| (s + v, n + 1));
    (n > 0).then(|| sum / n as f64)
}

/// A group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its samples.
    pub n: usize,
    /// Its measures; `None` where it is too small.
    pub measures: Option<Measures>,
}

/// The gap between groups in one measure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gap {
    /// The measure.
    pub measure: String,
    /// The largest value of a group minus the smallest.
    pub gap: f64,
    /// Ends of the 95% bootstrap interval (percentiles).
    pub interval: (f64, f64),
    /// The gap that chance alone stays below in 95 of 100 cases: that of shuffled groups.
    pub chance: f64,
}

/// All groups of one classifier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupReport {
    /// The groups by name.
    pub groups: Vec<Group>,
    /// Samples without a group.
    pub without: usize,
    /// The measured group of the lowest accuracy.
    pub worst: Option<String>,
    /// Gaps between the measured groups; none where fewer than two are measured.
    pub gaps: Vec<Gap>,
    /// Bootstrap samples.
    pub resamples: usize,
    /// Groups of fewer samples were not measured.
    pub least: usize,
}

/// The samples of each group that is measured.
fn members(groups: &[Option<u32>], count: usize) -> Vec<Vec<usize>> {
    let mut out = vec![Vec::new(); count];
    for (i, group) in groups.iter().enumerate() {
        if let Some(members) = group.and_then(|g| out.get_mut(g as usize)) {
            members.push(i);
        }
    }
    out
}

/// Largest minus smallest value of each measure over groups, where two groups have one.
fn spread(measures: &[Measures]) -> [Option<f64>; 5] {
    std::array::from_fn(|m| {
        let values: Vec<f64> = measures.iter().filter_map(|g| g.values()[m]).collect();
        let (low, high) =
            values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
        (values.len() >= 2).then_some(high - low)
    })
}

fn gaps_of(scored: &Scored<'_>, groups: &[Vec<usize>]) -> Result<[Option<f64>; 5]> {
    Ok(spread(&groups.iter().map(|index| Measures::of(scored, index)).collect::<Result<Vec<_>>>()?))
}

/// As many samples of each group, drawn with replacement.
fn again(groups: &[Vec<usize>], key: Key) -> Vec<Vec<usize>> {
    let mut rng = key.rng();
    groups.iter().map(|g| (0..g.len()).map(|_| g[rng.below(g.len())]).collect()).collect()
}

/// The samples dealt out anew to groups of the same sizes.
fn shuffled(groups: &[Vec<usize>], key: Key) -> Vec<Vec<usize>> {
    let mut all: Vec<usize> = groups.concat();
    key.rng().shuffle(&mut all);
    let mut rest = all.as_slice();
    groups
        .iter()
        .map(|g| {
            let (own, after) = rest.split_at(g.len());
            rest = after;
            own.to_vec()
        })
        .collect()
}

/// The value below which a share of the sorted values lies, between neighbours linearly.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let at = share * last as f64;
    let (low, part) = (at.floor() as usize, at.fract());
    sorted[low] + part * (sorted[(low + 1).min(last)] - sorted[low])
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut out: Vec<f64> = values.collect();
    out.sort_by(f64::total_cmp);
    out
}

fn check(scored: &Scored<'_>, groups: &[Option<u32>], names: &[String]) -> Result<()> {
    if groups.len() != scored.labels.len() {
        let problem = format!("{} for {} samples", groups.len(), scored.labels.len());
        return Err(Error::input("groups", problem));
    }
    match groups.iter().flatten().find(|g| **g as usize >= names.len()) {
        Some(g) => Err(Error::input("groups", format!("group {g}, expected one of {}", names.len()))),
        None => crate::metrics::brier(scored.probabilities, scored.labels, scored.classes).map(drop),
    }
}

/// Measures each group; `groups` has the number of each sample's group in `names`. The result does not depend
/// on the number of threads.
///
/// # Errors
/// If shapes do not fit, a label or group is out of range, or a value is NaN.
pub fn by_group(
    scored: &Scored<'_>,
    groups: &[Option<u32>],
    names: &[String],
    config: &GroupConfig,
) -> Result<GroupReport> {
    check(scored, groups, names)?;
    let all = members(groups, names.len());
    let mut out = Vec::new();
    for (name, index) in names.iter().zip(&all) {
        let measures =
            if index.len() < config.least.max(1) { None } else { Some(Measures::of(scored, index)?) };
        out.push(Group { name: name.clone(), n: index.len(), measures });
    }
    let kept: Vec<Vec<usize>> = all.into_iter().filter(|g| g.len() >= config.least.max(1)).collect();
    let worst = out
        .iter()
        .filter_map(|g| Some((g.measures?.accuracy, &g.name)))
        .min_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name.clone());
    let mut gaps = Vec::new();
    if kept.len() >= 2 {
        let seen = gaps_of(scored, &kept)?;
        let drawn = |how: &(dyn Fn(Key) -> Vec<Vec<usize>> + Sync), what: &str| {
            let key = config.key.named(what);
            (0..config.resamples as u64)
                .into_par_iter()
                .map(|i| gaps_of(scored, &how(key.fold(i))))
                .collect::<Result<Vec<_>>>()
        };
        let bootstrap = drawn(&|key| again(&kept, key), "bootstrap")?;
        let chance = drawn(&|key| shuffled(&kept, key), "shuffle")?;
        for (m, measure) in MEASURES.iter().enumerate() {
            let Some(gap) = seen[m] else { continue };
            let (boot, luck) =
                (sorted(bootstrap.iter().filter_map(|g| g[m])), sorted(chance.iter().filter_map(|g| g[m])));
            gaps.push(Gap {
                measure: (*measure).to_string(),
                gap,
                interval: (quantile(&boot, 0.025), quantile(&boot, 0.975)),
                chance: quantile(&luck, 0.95),
            });
        }
    }
    Ok(GroupReport {
        groups: out,
        without: groups.iter().filter(|g| g.is_none()).count(),
        worst,
        gaps,
        resamples: config.resamples,
        least: config.least,
    })
}

/// How the gaps of two classifiers differ on the same samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Narrowed {
    /// The measure.
    pub measure: String,
    /// The gap of the first minus that of the second: below 0 the first is fairer.
    pub difference: f64,
    /// Ends of the 95% bootstrap interval, of the same drawn samples for both.
    pub interval: (f64, f64),
    /// The lowest value of a group of the first minus that of the second (of `fpr` and `ece` the highest).
    pub worst: f64,
}

/// Compares the gaps of `first` with those of `second`, which scored the same samples.
///
/// # Errors
/// As [`by_group`]; if the samples have other labels.
pub fn narrowed(
    first: &Scored<'_>,
    second: &Scored<'_>,
    groups: &[Option<u32>],
    names: &[String],
    config: &GroupConfig,
) -> Result<Vec<Narrowed>> {
    check(first, groups, names)?;
    check(second, groups, names)?;
    if first.labels != second.labels || first.classes != second.classes {
        return Err(Error::input("groups", "two classifiers of other samples: expected the same of both"));
    }
    let kept: Vec<Vec<usize>> =
        members(groups, names.len()).into_iter().filter(|g| g.len() >= config.least.max(1)).collect();
    if kept.len() < 2 {
        return Ok(Vec::new());
    }
    let both = |groups: &[Vec<usize>]| -> Result<[Option<f64>; 5]> {
        let (a, b) = (gaps_of(first, groups)?, gaps_of(second, groups)?);
        Ok(std::array::from_fn(|m| Some(a[m]? - b[m]?)))
    };
    let worst = |scored: &Scored<'_>| -> Result<[Option<f64>; 5]> {
        let measures = kept.iter().map(|g| Measures::of(scored, g)).collect::<Result<Vec<_>>>()?;
        Ok(std::array::from_fn(|m| {
            let high = matches!(MEASURES[m], "fpr" | "ece");
            let values = measures.iter().filter_map(|g| g.values()[m]);
            if high { values.reduce(f64::max) } else { values.reduce(f64::min) }
        }))
    };
    let (seen, of_first, of_second) = (both(&kept)?, worst(first)?, worst(second)?);
    let key = config.key.named("narrowed");
    let drawn = (0..config.resamples as u64)
        .into_par_iter()
        .map(|i| both(&again(&kept, key.fold(i))))
        .collect::<Result<Vec<_>>>()?;
    let mut out = Vec::new();
    for (m, measure) in MEASURES.iter().enumerate() {
        let (Some(difference), Some(a), Some(b)) = (seen[m], of_first[m], of_second[m]) else { continue };
        let values = sorted(drawn.iter().filter_map(|d| d[m]));
        let interval = (quantile(&values, 0.025), quantile(&values, 0.975));
        out.push(Narrowed { measure: (*measure).to_string(), difference, interval, worst: a - b });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Binary scores: the classifier is right with probability `right[g]` in group `g`, which is sure by 0.8.
    fn scored(n: usize, right: [f32; 2], seed: u64) -> (Vec<f32>, Vec<u32>, Vec<Option<u32>>) {
        let mut r = Key::new(seed).rng();
        let (mut probabilities, mut labels, mut groups) = (Vec::new(), Vec::new(), Vec::new());
        for i in 0..n {
            let (g, y) = (i % 2, r.below(2) as u32);
            let says = if r.uniform() < right[g] { y } else { 1 - y };
            probabilities.extend(if says == 1 { [0.2, 0.8] } else { [0.8, 0.2] });
            labels.push(y);
            groups.push(Some(g as u32));
        }
        (probabilities, labels, groups)
    }

    fn names() -> Vec<String> {
        vec!["a".into(), "b".into(), "small".into()]
    }

    const QUICK: usize = 200;

    fn config() -> GroupConfig {
        GroupConfig { resamples: QUICK, ..GroupConfig::default() }
    }

    #[test]
    fn measures_of_a_known_table() {
        // Positive: two found of three, negative: one false alarm in two.
        let probabilities = [0.1, 0.9, 0.1, 0.9, 0.7, 0.3, 0.2, 0.8, 0.9, 0.1];
        let labels = [1, 1, 1, 0, 0];
        let s = Scored { probabilities: &probabilities, labels: &labels, classes: 2 };
        let m = Measures::of(&s, &[0, 1, 2, 3, 4]).unwrap();
        assert_eq!((m.accuracy, m.tpr, m.fpr), (0.6, Some(2.0 / 3.0), Some(0.5)));
        // Pairs (positive, negative): 0.9 > 0.8, 0.9 > 0.1 twice each, 0.3 < 0.8, 0.3 > 0.1.
        assert!((m.auroc.unwrap() - 5.0 / 6.0).abs() < 1e-12);
        let only = Measures::of(&s, &[0, 1]).unwrap();
        assert_eq!((only.tpr, only.fpr, only.auroc), (Some(1.0), None, None));
        // Three classes: means over the classes that have samples on the side that is asked for.
        let probabilities = [0.8, 0.1, 0.1, 0.8, 0.1, 0.1, 0.1, 0.1, 0.8];
        let s = Scored { probabilities: &probabilities, labels: &[0, 1, 2], classes: 3 };
        let m = Measures::of(&s, &[0, 1, 2]).unwrap();
        assert!((m.tpr.unwrap() - 2.0 / 3.0).abs() < 1e-12 && (m.fpr.unwrap() - 0.5 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn a_real_gap_is_told_from_chance() {
        let (p, y, mut groups) = scored(600, [0.95, 0.7], 1);
        groups[0] = None;
        groups[2] = Some(2);
        let s = Scored { probabilities: &p, labels: &y, classes: 2 };
        let found = by_group(&s, &groups, &names(), &config()).unwrap();
        assert_eq!((found.groups[2].n, found.groups[2].measures, found.without), (1, None, 1));
        assert_eq!(found.worst.as_deref(), Some("b"));
        let gap = &found.gaps[0];
        assert_eq!(gap.measure, "accuracy");
        assert!((gap.gap - 0.25).abs() < 0.08 && gap.interval.0 > gap.chance && gap.chance < 0.1, "{gap:?}");
        assert!(gap.interval.0 < gap.gap && gap.gap < gap.interval.1, "{gap:?}");
        assert_eq!(found.gaps.iter().map(|g| g.measure.as_str()).collect::<Vec<_>>(), MEASURES);
        let (p, y, groups) = scored(600, [0.8, 0.8], 2);
        let s = Scored { probabilities: &p, labels: &y, classes: 2 };
        let even = by_group(&s, &groups, &names(), &config()).unwrap();
        assert!(even.gaps[0].gap < even.gaps[0].chance * 1.3, "{:?}", even.gaps[0]);
        // One group alone has no gap.
        let one = by_group(&s, &vec![Some(0); 600], &names(), &config()).unwrap();
        assert!(one.gaps.is_empty() && one.worst.as_deref() == Some("a"));
        assert!(by_group(&s, &[Some(0)], &names(), &config()).is_err());
        assert!(by_group(&s, &vec![Some(3); 600], &names(), &config()).is_err());
    }

    #[test]
    fn a_fairer_classifier_is_told_on_the_same_samples() {
        let (unfair, y, groups) = scored(800, [0.95, 0.7], 3);
        let mut r = Key::new(9).rng();
        let fair: Vec<f32> = y
            .iter()
            .flat_map(|y| if (r.uniform() < 0.9) == (*y == 1) { [0.2, 0.8] } else { [0.8, 0.2] })
            .collect();
        let of = |p| Scored { probabilities: p, labels: &y, classes: 2 };
        let found = narrowed(&of(&fair), &of(&unfair), &groups, &names(), &config()).unwrap();
        assert!(found[0].difference < -0.1 && found[0].interval.1 < 0.0 && found[0].worst > 0.1, "{found:?}");
        let same = narrowed(&of(&fair), &of(&fair), &groups, &names(), &config()).unwrap();
        assert!(same.iter().all(|n| n.difference == 0.0 && n.interval == (0.0, 0.0)));
        let other = Scored { probabilities: &fair, labels: &vec![0; 800], classes: 2 };
        assert!(narrowed(&of(&fair), &other, &groups, &names(), &config()).is_err());
    }

    #[test]
    fn same_bits_for_any_number_of_threads() {
        let (p, y, groups) = scored(300, [0.9, 0.7], 4);
        let s = Scored { probabilities: &p, labels: &y, classes: 2 };
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| by_group(&s, &groups, &names(), &config()).unwrap())
        };
        assert_eq!(on(1), on(3));
    }

    #[test]
    fn quantiles() {
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0, 5.0], 0.5), 3.0);
        assert!((quantile(&[0.0, 1.0], 0.025) - 0.025).abs() < 1e-12);
        assert!(quantile(&[], 0.5).is_nan());
    }
}

//! What the cells of a curve say together: means with intervals, and the labels that are saved.

use super::draws::Amount;
use super::probe::Found;
use super::setting::Setting;
use serde::Serialize;
use std::fmt::Write;

/// One setting with one amount of labels.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    /// The setting.
    pub setting: Setting,
    /// The amount as it was asked for.
    pub size: String,
    /// The amount in the unit of the curve.
    pub amount: f64,
    /// Mean over all draws and seeds.
    pub mean: f64,
    /// Ends of the 95% interval of the mean: Student's t over the draws, each the mean of its seeds; over the
    /// seeds where there is one draw. `None` for a single value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<(f64, f64)>,
    /// Values, a row for each draw, in it one for each seed.
    pub values: Vec<Vec<f64>>,
    /// Share of the draws whose training was best at its last step: more steps might be better.
    #[serde(skip_serializing_if = "is_zero")]
    pub at_end: f64,
}

fn is_zero(share: &f64) -> bool {
    *share == 0.0
}

/// How the number of labels that another setting needs is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Known {
    /// By interpolation between two points of its curve.
    Interpolated,
    /// Its first point is as good already: so many or fewer.
    AtMost,
    /// It never gets there: more than so many.
    MoreThan,
}

/// The labels that a setting without pre-training needs to be as good as one with.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Saved {
    /// The setting with pre-training.
    pub setting: Setting,
    /// The setting without.
    pub against: Setting,
    /// Labels of the former.
    pub amount: f64,
    /// Its mean score.
    pub score: f64,
    /// Labels that the latter needs for the same.
    pub needs: f64,
    /// How that is known.
    pub known: Known,
    /// The one divided by the other.
    pub times: f64,
}

/// A label curve.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Curve {
    /// Version of this form.
    pub version: u32,
    /// The folder of the run.
    pub run: String,
    /// Steps of its checkpoint.
    pub step: u64,
    /// What was learnt.
    pub task: String,
    /// What is measured, in percent.
    pub metric: String,
    /// What labels are counted in: labels, minutes, volumes.
    pub unit: String,
    /// What features without an encoder are called.
    pub raw: String,
    /// Names of the classes, or other outputs of the head.
    pub classes: Vec<String>,
    /// Samples that labels were drawn from.
    pub train: usize,
    /// Test samples.
    pub test: usize,
    /// Draws of each amount but all.
    pub draws: u64,
    /// Seeds of what is random besides the draw.
    pub seeds: u64,
    /// Smaller draws are part of larger ones.
    pub nested: bool,
    /// The settings, in the order of the table.
    pub settings: Vec<Setting>,
    /// The amounts of labels.
    pub amounts: Vec<Amount>,
    /// A point for each setting and amount.
    pub points: Vec<Point>,
    /// Labels saved by pre-training.
    pub saved: Vec<Saved>,
    /// What was left out, and why.
    pub notes: Vec<String>,
    /// Seconds that the cells took, in this process or before.
    pub seconds: f64,
}

/// 97.5% quantile of Student's t with `df` degrees of freedom (tables; above 30 by Cornish and Fisher's
/// expansion of the normal quantile).
pub fn t_quantile(df: usize) -> f64 {
    const TABLE: [f64; 30] = [
        12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281, 2.2010, 2.1788,
        2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860, 2.0796, 2.0739, 2.0687, 2.0639,
        2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423,
    ];
    match df {
        0 => f64::INFINITY,
        1..=30 => TABLE[df - 1],
        _ => {
            let (z, n) = (1.959_963_985_f64, df as f64);
            z + (z.powi(3) + z) / (4.0 * n) + (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * n * n)
        }
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The 95% interval of the mean of `values`.
fn interval(values: &[f64]) -> Option<(f64, f64)> {
    let n = values.len();
    if n < 2 {
        return None;
    }
    let middle = mean(values);
    let square: f64 = values.iter().map(|v| (v - middle).powi(2)).sum();
    let half = t_quantile(n - 1) * (square / ((n - 1) * n) as f64).sqrt();
    Some((middle - half, middle + half))
}

impl Point {
    /// The point of the cells of one setting and amount: a row of cells for each draw, in it one for each
    /// seed.
    pub fn of(setting: Setting, amount: &Amount, metric: &str, cells: &[Vec<Found>]) -> Self {
        let score = |cell: &Found| score(&cell.values, metric);
        let values: Vec<Vec<f64>> = cells.iter().map(|draw| draw.iter().map(score).collect()).collect();
        let means: Vec<f64> = values.iter().map(|draw| mean(draw)).collect();
        let over = if means.len() == 1 { &values[0] } else { &means };
        let ends = cells.iter().filter(|draw| draw.iter().any(|cell| cell.chosen.at_end)).count();
        Point {
            setting,
            size: amount.size.clone(),
            amount: amount.amount,
            mean: mean(&means),
            interval: interval(over),
            at_end: ends as f64 / cells.len().max(1) as f64,
            values,
        }
    }
}

/// The value of `metric`; where that was not measured, the first.
pub fn score(values: &[(String, f64)], metric: &str) -> f64 {
    let found = values.iter().find(|(name, _)| name == metric).or_else(|| values.first());
    found.map_or(f64::NAN, |(_, v)| *v)
}

/// The labels that a curve of (labels, score), by rising labels, needs for `score`: the first crossing,
/// between two points linear in the logarithm of the labels.
pub fn needed(curve: &[(f64, f64)], score: f64) -> Option<(f64, Known)> {
    let at = curve.iter().position(|(_, s)| *s >= score);
    match at {
        None => curve.last().map(|(n, _)| (*n, Known::MoreThan)),
        Some(0) => Some((curve[0].0, Known::AtMost)),
        Some(i) => {
            let ((n0, s0), (n1, s1)) = (curve[i - 1], curve[i]);
            let share = (score - s0) / (s1 - s0);
            Some((n0 * (n1 / n0).powf(share), Known::Interpolated))
        }
    }
}

impl Curve {
    fn points_of(&self, setting: Setting) -> impl Iterator<Item = &Point> {
        self.points.iter().filter(move |p| p.setting == setting)
    }

    /// Fills in [`Curve::saved`] from the points: each setting with pre-training against each without.
    pub fn compare(&mut self) {
        let mut saved = Vec::new();
        for &setting in self.settings.iter().filter(|s| s.pretrained()) {
            for &against in self.settings.iter().filter(|s| !s.pretrained()) {
                let other: Vec<(f64, f64)> = self.points_of(against).map(|p| (p.amount, p.mean)).collect();
                for p in self.points_of(setting) {
                    let Some((needs, known)) = needed(&other, p.mean) else { continue };
                    let (amount, score) = (p.amount, p.mean);
                    saved.push(Saved {
                        setting,
                        against,
                        amount,
                        score,
                        needs,
                        known,
                        times: needs / amount,
                    });
                }
            }
        }
        self.saved = saved;
    }

    /// The curve as a table, and in words what pre-training saves.
    pub fn table(&self) -> String {
        let mut out = String::new();
        let over = match (self.draws, self.seeds) {
            (d, 1) => format!("{d} draws"),
            (d, s) => format!("{d} draws x {s} seeds"),
        };
        let _ = writeln!(
            out,
            "{} in % on {} test samples: mean ± half of the 95% interval over {over}",
            self.metric.replace('_', " "),
            self.test
        );
        let width = 17;
        let _ = write!(out, "{:<24}", self.unit);
        for setting in &self.settings {
            let _ = write!(out, "{:>width$}", setting.title(&self.raw));
        }
        out.push('\n');
        let mut marked = false;
        for amount in &self.amounts {
            let name = if amount.size.ends_with('%') || amount.size.ends_with("class") {
                format!("{} ({})", shown(amount.amount), amount.size)
            } else {
                amount.size.clone()
            };
            let _ = write!(out, "{name:<24}");
            for &setting in &self.settings {
                let point = self.points_of(setting).find(|p| p.size == amount.size);
                let cell = point.map_or("-".into(), |p| {
                    let more = if p.at_end >= 0.5 { " +" } else { "" };
                    marked |= !more.is_empty();
                    match p.interval {
                        Some((low, high)) => format!("{:.1} ± {:.1}{more}", p.mean, (high - low) / 2.0),
                        None => format!("{:.1}{more}", p.mean),
                    }
                });
                let _ = write!(out, "{cell:>width$}");
            }
            out.push('\n');
        }
        if marked {
            out.push_str(
                "+ most trainings were best at their last step: --steps with more might give more\n",
            );
        }
        out.push_str(&self.savings());
        for note in &self.notes {
            let _ = writeln!(out, "note: {note}");
        }
        out
    }

    /// What pre-training saves, a line for each comparison.
    fn savings(&self) -> String {
        let mut out = String::new();
        for &setting in self.settings.iter().filter(|s| s.pretrained()) {
            for &against in self.settings.iter().filter(|s| !s.pretrained()) {
                let of = |s: &&Saved| s.setting == setting && s.against == against;
                let parts: Vec<String> = self
                    .saved
                    .iter()
                    .filter(of)
                    .map(|s| {
                        // A part of a label is none, a part of a minute is.
                        let whole = |a: f64| if self.unit == "minutes" { a } else { a.round() };
                        let (n, needs) = (shown(s.amount), shown(whole(s.needs)));
                        match s.known {
                            Known::Interpolated => {
                                format!("{n} -> {needs} ({:.1} x)", s.times)
                            }
                            Known::AtMost => format!("{n} -> {needs} or fewer"),
                            Known::MoreThan => format!("{n} -> more than {needs}"),
                        }
                    })
                    .collect();
                if !parts.is_empty() {
                    let _ = writeln!(
                        out,
                        "{} that {} need as {} has: {}",
                        self.unit,
                        match against {
                            Setting::Scratch => "the same network from scratch would".into(),
                            other => format!("{} would", other.title(&self.raw)),
                        },
                        setting.title(&self.raw),
                        parts.join("; ")
                    );
                }
            }
        }
        out
    }
}

/// A number of labels, or minutes.
pub fn shown(amount: f64) -> String {
    match amount {
        a if a >= 100.0 || a.fract() == 0.0 => format!("{a:.0}"),
        a if a >= 10.0 => format!("{a:.1}"),
        a => format!("{a:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::probe::Chosen;
    use super::*;

    fn found(accuracy: f64) -> Found {
        let values = vec![("loss".to_string(), 0.1), ("accuracy".to_string(), accuracy)];
        Found { values, chosen: Chosen::default(), seconds: 1.0 }
    }

    fn amount(size: &str, amount: f64) -> Amount {
        Amount { size: size.into(), amount, whole: false }
    }

    #[test]
    fn intervals_are_over_draws() {
        // Draws of means 60, 62, 64: sd 2, half = 4.3027 * 2 / sqrt(3).
        let cells = [[58.0, 62.0], [61.0, 63.0], [64.0, 64.0]].map(|d| d.map(found).to_vec());
        let p = Point::of(Setting::Linear, &amount("1%", 10.0), "accuracy", &cells);
        assert_eq!((p.mean, p.values[0].as_slice()), (62.0, &[58.0, 62.0][..]));
        let (low, high) = p.interval.unwrap();
        let half = 4.3027 * 2.0 / 3f64.sqrt();
        assert!((low - 62.0 + half).abs() < 1e-9 && (high - 62.0 - half).abs() < 1e-9);
        let whole =
            Point::of(Setting::Linear, &amount("all", 10.0), "accuracy", &[vec![found(5.0), found(7.0)]]);
        let half = 12.7062 * 2f64.sqrt() / 2f64.sqrt();
        assert!((whole.interval.unwrap().1 - 6.0 - half).abs() < 1e-9, "over seeds where there is one draw");
        let one = Point::of(Setting::Raw, &amount("all", 10.0), "gone", &[vec![found(5.0)]]);
        assert_eq!((one.mean, one.interval), (0.1, None), "the first where the metric is not there");
        assert!((t_quantile(31) - 2.0395).abs() < 1e-4 && (t_quantile(1000) - 1.9623).abs() < 1e-4);
        assert!((t_quantile(30) - 2.0423).abs() < 1e-9);
    }

    #[test]
    fn labels_are_interpolated_in_their_logarithm() {
        let curve = [(10.0, 50.0), (100.0, 60.0), (1000.0, 58.0), (10_000.0, 70.0)];
        let (n, known) = needed(&curve, 55.0).unwrap();
        assert!((n - 10f64.powf(1.5)).abs() < 1e-9 && known == Known::Interpolated);
        assert_eq!(needed(&curve, 50.0), Some((10.0, Known::AtMost)));
        assert_eq!(needed(&curve, 71.0), Some((10_000.0, Known::MoreThan)));
        assert_eq!(needed(&curve, 60.0), Some((100.0, Known::Interpolated)), "the first crossing counts");
        assert_eq!(needed(&[], 60.0), None);
    }

    #[test]
    fn a_table_says_what_is_saved() {
        let amounts = vec![amount("1%", 100.0), amount("10%", 1000.0)];
        let point =
            |setting, i: usize, v: f64| Point::of(setting, &amounts[i], "accuracy", &[vec![found(v)]]);
        let mut curve = Curve {
            version: 1,
            run: "runs/a".into(),
            step: 1,
            task: "classification".into(),
            metric: "accuracy".into(),
            unit: "labels".into(),
            raw: "raw pixels".into(),
            classes: vec!["a".into(), "b".into()],
            train: 10_000,
            test: 500,
            draws: 1,
            seeds: 1,
            nested: true,
            settings: vec![Setting::Linear, Setting::Scratch],
            points: vec![
                point(Setting::Linear, 0, 70.0),
                point(Setting::Linear, 1, 80.0),
                point(Setting::Scratch, 0, 60.0),
                point(Setting::Scratch, 1, 80.0),
            ],
            amounts: amounts.clone(),
            saved: Vec::new(),
            notes: vec!["left out: x".into()],
            seconds: 1.0,
        };
        curve.compare();
        assert_eq!(curve.saved.len(), 2);
        assert!((curve.saved[0].times - 10f64.sqrt()).abs() < 1e-9, "{:?}", curve.saved);
        let text = curve.table();
        assert!(
            text.contains("100 (1%)") && text.contains("70.0") && text.contains("note: left out"),
            "{text}"
        );
        assert!(text.contains("100 -> 316 (3.2 x); 1000 -> 1000 (1.0 x)"), "{text}");
        assert_eq!([316.2, 5.0, 12.34, 0.5].map(shown), ["316", "5", "12.3", "0.50"]);
    }
}

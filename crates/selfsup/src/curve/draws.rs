//! How many labels there are at each point of a curve, and which samples have them.

use selfsup_core::{Error, Key, Result};
use selfsup_eval::protocol::balanced_draw;
use serde::Serialize;

/// An amount of labels as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Size {
    /// A share of the training samples in percent; of recordings with transcripts a share of their time.
    Percent(f64),
    /// So many labels of each class.
    PerClass(usize),
    /// So many minutes of recordings with transcripts.
    Minutes(f64),
}

impl Size {
    fn flag(self) -> &'static str {
        match self {
            Size::Percent(_) => "--fractions",
            Size::PerClass(_) => "--per-class",
            Size::Minutes(_) => "--minutes",
        }
    }

    fn text(self) -> String {
        match self {
            Size::Percent(p) => format!("{p}%"),
            Size::PerClass(k) => format!("{k} per class"),
            Size::Minutes(m) => format!("{m} min"),
        }
    }
}

/// Samples that labels are drawn from.
#[derive(Clone, Debug)]
pub enum Pool {
    /// The class of each sample, and the names of the classes.
    Classes(Vec<u32>, Vec<String>),
    /// Seconds of each sample.
    Seconds(Vec<f64>),
    /// So many samples, each of which counts the same.
    Samples(usize),
}

/// A point of a curve: an amount of labels that the pool has.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Amount {
    /// As it was asked for: `1%`, `5 per class`, `10 min`.
    pub size: String,
    /// How much it is, in the unit of the pool.
    pub amount: f64,
    /// Whether it is all that there is: every draw is the same then.
    pub whole: bool,
}

impl Pool {
    /// Number of samples.
    pub fn len(&self) -> usize {
        match self {
            Pool::Classes(labels, _) => labels.len(),
            Pool::Seconds(seconds) => seconds.len(),
            Pool::Samples(n) => *n,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of it, in its unit.
    fn total(&self) -> f64 {
        match self {
            Pool::Seconds(seconds) => seconds.iter().sum::<f64>() / 60.0,
            other => other.len() as f64,
        }
    }

    /// Numbers of samples by class.
    fn counts(labels: &[u32], classes: usize) -> Vec<usize> {
        let mut counts = vec![0; classes];
        labels.iter().for_each(|y| counts[*y as usize] += 1);
        counts
    }

    /// How much of the pool `size` is.
    fn resolve(&self, size: Size) -> std::result::Result<Amount, String> {
        let (all, name) = (self.total(), size.text());
        let amount = match (self, size) {
            (_, Size::Percent(p)) if !(p > 0.0 && p <= 100.0) => {
                return Err(format!("{p}: expected a percentage above 0, and 100 at most"));
            }
            (Pool::Classes(labels, classes), Size::Percent(p)) => {
                let n = (p / 100.0 * all).round();
                let least = Self::counts(labels, classes.len()).iter().filter(|n| **n > 0).count();
                if n < least as f64 {
                    return Err(format!(
                        "{p}% of {all} samples are {n} labels, fewer than the {least} classes: expected one \
                         of each at least"
                    ));
                }
                n
            }
            (Pool::Classes(labels, classes), Size::PerClass(k)) => {
                let counts = Self::counts(labels, classes.len());
                let short = counts.iter().zip(classes).filter(|(n, _)| **n > 0).find(|(n, _)| **n < k);
                if let Some((n, class)) = short {
                    return Err(format!("{k}: class `{class}` has {n} samples to train on"));
                }
                if k == 0 {
                    return Err("0: expected one label of each class at least".into());
                }
                (k * counts.iter().filter(|n| **n > 0).count()) as f64
            }
            (_, Size::PerClass(k)) => return Err(format!("{k}: the samples of this task have no classes")),
            (Pool::Seconds(_), Size::Percent(p)) => p / 100.0 * all,
            (Pool::Seconds(_), Size::Minutes(m)) => {
                if !(m > 0.0 && m <= all * (1.0 + 1e-9)) {
                    return Err(format!(
                        "{m}: expected more than 0, and at most the {all:.2} that there are"
                    ));
                }
                m
            }
            (_, Size::Minutes(m)) => {
                return Err(format!("{m}: only recordings with transcripts are counted in minutes"));
            }
            (Pool::Samples(n), Size::Percent(p)) => {
                let some = (p / 100.0 * all).round();
                if some < 1.0 {
                    return Err(format!("{p}% of {n} samples are none"));
                }
                some
            }
        };
        Ok(Amount { size: name, amount, whole: amount >= all * (1.0 - 1e-9) })
    }

    /// The points of a curve by rising amount; of sizes that come to the same the first is kept. What the
    /// pool does not have is an error if it was `given`, else it is left out and returned as a note.
    ///
    /// # Errors
    /// Naming the flag and what there is, also if nothing is left.
    pub fn amounts(&self, sizes: &[Size], given: bool) -> Result<(Vec<Amount>, Vec<String>)> {
        let (mut out, mut notes): (Vec<Amount>, Vec<String>) = (Vec::new(), Vec::new());
        for &size in sizes {
            match self.resolve(size) {
                Ok(found) if out.iter().all(|a| a.amount != found.amount) => out.push(found),
                Ok(_) => {}
                Err(problem) if given => return Err(Error::input(size.flag(), problem)),
                Err(problem) => notes.push(format!("left out: {} {problem}", size.flag())),
            }
        }
        if out.is_empty() {
            let why = notes.first().map_or("nothing was asked for", String::as_str);
            return Err(Error::input("label curve", format!("no number of labels is possible; {why}")));
        }
        out.sort_by(|a, b| a.amount.total_cmp(&b.amount));
        Ok((out, notes))
    }

    /// The samples of draw `draw` that have labels, sorted. The draws of a smaller amount are part of those
    /// of a larger one. Classes come as evenly as they can ([`balanced_draw`]); all that there is comes as it
    /// is.
    pub fn draw(&self, amount: &Amount, draw: u64) -> Vec<usize> {
        if amount.whole {
            return (0..self.len()).collect();
        }
        let key = Key::new(0).named("label curve").fold(draw);
        let mut order = match self {
            Pool::Classes(labels, classes) => {
                return balanced_draw(labels, classes.len(), amount.amount as usize, key);
            }
            Pool::Seconds(seconds) => {
                let (mut order, mut sum) = (key.rng().permutation(seconds.len()), 0.0);
                let enough = order.iter().position(|i| {
                    sum += seconds[*i] / 60.0;
                    sum >= amount.amount
                });
                order.truncate(enough.map_or(order.len(), |last| last + 1));
                order
            }
            Pool::Samples(n) => {
                let mut order = key.rng().permutation(*n);
                order.truncate(amount.amount as usize);
                order
            }
        };
        order.sort_unstable();
        order
    }
}

/// Of each class a fifth of the samples `0..labels.len()` (one at least where it has two), to choose by: what
/// is left to fit on, and those. `None` where a class has no two on average.
pub fn fifth(labels: &[u32], classes: usize, key: Key) -> Option<(Vec<usize>, Vec<usize>)> {
    if labels.len() < 2 * classes {
        return None;
    }
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); classes];
    labels.iter().enumerate().for_each(|(i, y)| members[*y as usize].push(i));
    let mut out = Vec::new();
    for (c, class) in members.iter_mut().enumerate() {
        key.fold(c as u64).rng().shuffle(class);
        let held = if class.len() < 2 { 0 } else { ((class.len() as f64) / 5.0).round().max(1.0) as usize };
        out.extend(class.iter().take(held));
    }
    out.sort_unstable();
    let kept = (0..labels.len()).filter(|i| out.binary_search(i).is_err()).collect();
    if out.is_empty() { None } else { Some((kept, out)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(counts: &[usize]) -> Pool {
        let labels = counts.iter().enumerate().flat_map(|(c, n)| vec![c as u32; *n]).collect();
        Pool::Classes(labels, (0..counts.len()).map(|c| format!("c{c}")).collect())
    }

    #[test]
    fn amounts_are_what_the_pool_has() {
        let p = pool(&[60, 40]);
        let sizes = [Size::Percent(100.0), Size::Percent(10.0), Size::PerClass(5), Size::Percent(1.0)];
        let (found, notes) = p.amounts(&sizes, false).unwrap();
        let shown: Vec<(&str, f64, bool)> =
            found.iter().map(|a| (a.size.as_str(), a.amount, a.whole)).collect();
        // Five of each class are ten, as 10% are; 1% is one label for two classes.
        assert_eq!(shown, [("10%", 10.0, false), ("100%", 100.0, true)]);
        assert!(notes.len() == 1 && notes[0].contains("1 labels, fewer than the 2 classes"), "{notes:?}");
        let refused = |size| p.amounts(&[size], true).unwrap_err().to_string();
        assert!(refused(Size::Percent(1.0)).contains("--fractions: 1% of 100 samples are 1 labels"));
        assert!(refused(Size::PerClass(41)).contains("class `c1` has 40 samples"));
        assert!(refused(Size::PerClass(0)).contains("--per-class"));
        assert!(refused(Size::Percent(f64::NAN)).contains("percentage"));
        assert!(refused(Size::Percent(101.0)).contains("percentage"));
        assert!(refused(Size::Minutes(1.0)).contains("--minutes"));
        assert!(p.amounts(&[Size::Percent(1.0)], false).unwrap_err().to_string().contains("fewer"));
        assert!(Pool::Samples(4).amounts(&[Size::Percent(10.0)], true).is_err());
        assert!(Pool::Seconds(vec![30.0; 4]).amounts(&[Size::Minutes(2.5)], true).is_err());
    }

    #[test]
    fn draws_are_nested_balanced_and_differ() {
        let p = pool(&[60, 40, 30]);
        let of = |n: f64, draw| p.draw(&Amount { size: String::new(), amount: n, whole: false }, draw);
        for draw in 0..4 {
            let (small, large) = (of(9.0, draw), of(50.0, draw));
            assert!(small.iter().all(|i| large.contains(i)), "{small:?} {large:?}");
            let Pool::Classes(labels, _) = &p else { unreachable!() };
            for c in 0..3 {
                assert_eq!(small.iter().filter(|i| labels[**i] == c).count(), 3);
            }
        }
        assert_ne!(of(9.0, 0), of(9.0, 1));
        let volumes = Pool::Samples(20);
        let of = |n: f64, draw| volumes.draw(&Amount { size: String::new(), amount: n, whole: false }, draw);
        assert_eq!(of(4.0, 1).len(), 4);
        assert!(of(4.0, 1).iter().all(|i| of(9.0, 1).contains(i)));
        assert_eq!(volumes.draw(&Amount { size: String::new(), amount: 20.0, whole: true }, 3).len(), 20);
    }

    #[test]
    fn minutes_are_filled() {
        let p = Pool::Seconds((0..30).map(|i| 5.0 + f64::from(i)).collect());
        let Pool::Seconds(seconds) = &p else { unreachable!() };
        let minutes = |m: f64| -> (Vec<usize>, f64) {
            let drawn = p.draw(&p.amounts(&[Size::Minutes(m)], true).unwrap().0[0], 2);
            let sum = drawn.iter().map(|i| seconds[*i]).sum::<f64>() / 60.0;
            (drawn, sum)
        };
        let ((two, a), (four, b)) = (minutes(2.0), minutes(4.0));
        assert!(two.iter().all(|i| four.contains(i)));
        assert!((2.0..2.6).contains(&a) && (4.0..4.6).contains(&b), "{a} {b}");
    }

    #[test]
    fn a_fifth_of_each_class_is_held_out() {
        let labels: Vec<u32> = (0..40).map(|i| u32::from(i >= 30)).collect();
        let (kept, held) = fifth(&labels, 2, Key::new(1)).unwrap();
        assert_eq!((kept.len(), held.len()), (32, 8));
        assert_eq!(held.iter().filter(|i| **i >= 30).count(), 2);
        assert!(fifth(&[0, 1, 2, 2, 2], 3, Key::new(1)).is_none());
        let (kept, held) = fifth(&[0, 1, 1, 1], 2, Key::new(1)).unwrap();
        assert!(kept.contains(&0) && held.len() == 1, "a class of one stays to fit on");
    }
}

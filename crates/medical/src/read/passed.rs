//! What lies beside volumes and is passed over: counted, so that one line can say it.

use std::collections::BTreeMap;
use std::fmt;

/// Counts of files that are no part of a volume, by what they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passed(BTreeMap<String, usize>);

impl Passed {
    /// One more of `what`, a noun in the singular.
    pub fn add(&mut self, what: &str) {
        *self.0.entry(what.to_string()).or_default() += 1;
    }

    /// All of `other` besides.
    pub fn join(&mut self, other: Passed) {
        for (what, n) in other.0 {
            *self.0.entry(what).or_default() += n;
        }
    }

    /// Whether nothing was passed over.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many of `what`.
    pub fn count(&self, what: &str) -> usize {
        self.0.get(what).copied().unwrap_or(0)
    }
}

impl fmt::Display for Passed {
    /// `2 structured reports, 1 DICOMDIR`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |what: &str, n: usize| match n {
            1 => format!("1 {what}"),
            n if what.ends_with("copy") => format!("{n} {}ies", what.trim_end_matches('y')),
            n => format!("{n} {what}s"),
        };
        let all: Vec<String> = self.0.iter().map(|(what, n)| plural(what, *n)).collect();
        f.write_str(&all.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_said() {
        let (mut passed, mut other) = (Passed::default(), Passed::default());
        ["PDF", "exact copy", "exact copy"].into_iter().for_each(|what| passed.add(what));
        other.add("PDF");
        passed.join(other);
        assert_eq!(passed.to_string(), "2 PDFs, 2 exact copies");
        assert_eq!((passed.count("PDF"), passed.count("x"), passed.is_empty()), (2, 0, false));
    }
}

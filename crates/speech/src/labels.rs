//! Which phone is said when: alignments, and the phones of a corpus by number.
//!
//! Read are `.lab` files of Festival and ESPS (`end  number  phone` a line after a line `#`, times in seconds) and `.phn` files of TIMIT
//! (`first  last  phone` a line, in samples of 16 kHz).

use selfsup_core::{Error, Result};
use std::collections::BTreeSet;
use std::path::Path;

/// Rate of TIMIT, whose alignments count samples.
const TIMIT: f64 = 16_000.0;

/// Phones in the order of time; each begins where the one before ends.
#[derive(Clone, Debug, PartialEq)]
pub struct Alignment {
    /// End of each in seconds, never falling.
    ends: Vec<f64>,
    phones: Vec<String>,
}

impl Alignment {
    /// Reads a `.lab` or `.phn` file.
    ///
    /// # Errors
    /// Naming the file and the line: not readable, no phone, a time that is no number or falls.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
        let text = std::str::from_utf8(&bytes).map_err(|_| Error::file(path, "is not UTF-8"))?;
        let samples = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("phn"));
        Self::parse(text, samples).map_err(|(line, problem)| Error::file(path, format!("line {line}: {problem}")))
    }

    fn parse(text: &str, samples: bool) -> Result<Self, (usize, String)> {
        let (mut ends, mut phones) = (Vec::new(), Vec::new());
        // What stands before a line `#` is a head.
        let head = if samples { 0 } else { text.lines().position(|l| l.trim() == "#").map_or(0, |i| i + 1) };
        for (i, line) in text.lines().enumerate().skip(head) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (time, phone) = match (fields.as_slice(), samples) {
                ([], _) => continue,
                ([_, end, phone], true) => (end, phone),
                ([end, _, phone], false) => (end, phone),
                // A silence without a name.
                ([end, _], false) => (end, &""),
                _ => return Err((i + 1, format!("{} fields, expected 3: times and a phone", fields.len()))),
            };
            let number: f64 = time.parse().map_err(|_| (i + 1, format!("`{time}` is no time")))?;
            let end = if samples { number / TIMIT } else { number };
            if !end.is_finite() || ends.last().is_some_and(|&last| end < last) {
                return Err((i + 1, format!("the end {end} is before {}", ends.last().copied().unwrap_or(0.0))));
            }
            ends.push(end);
            phones.push((*phone).to_string());
        }
        if ends.is_empty() { Err((text.lines().count(), "holds no phone".into())) } else { Ok(Alignment { ends, phones }) }
    }

    /// The phones in order.
    pub fn phones(&self) -> &[String] {
        &self.phones
    }

    /// End of the last phone in seconds.
    pub fn seconds(&self) -> f64 {
        self.ends.last().copied().unwrap_or(0.0)
    }

    /// The phone at an instant: the first that ends at or after it, else the last.
    pub fn at(&self, seconds: f64) -> &str {
        let i = self.ends.partition_point(|&e| e < seconds).min(self.phones.len().saturating_sub(1));
        self.phones.get(i).map_or("", String::as_str)
    }

    /// The phones at `n` instants from `first` on, every `step` seconds.
    pub fn at_frames(&self, first: f64, step: f64, n: usize) -> Vec<&str> {
        (0..n).map(|t| self.at(first + step * t as f64)).collect()
    }
}

/// Phones by number, in the order of their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phones(Vec<String>);

impl Phones {
    /// All phones of some alignments.
    pub fn of<'a>(alignments: impl IntoIterator<Item = &'a Alignment>) -> Self {
        let all: BTreeSet<&String> = alignments.into_iter().flat_map(|a| &a.phones).collect();
        Phones(all.into_iter().cloned().collect())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Their names by number.
    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// The number of a phone.
    pub fn id(&self, phone: &str) -> Option<u32> {
        self.0.binary_search_by(|p| p.as_str().cmp(phone)).ok().map(|i| i as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LAB: &str = "separator ;\nnfields 1\n#\n0.20000 125 pau\n0.25000 125 k\n0.40000 125 a \n";

    fn read(name: &str, text: &str) -> Result<Alignment> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        Alignment::read(&path)
    }

    #[test]
    fn lab_and_phn_say_the_same() {
        let lab = read("a.lab", LAB).unwrap();
        assert_eq!(lab, read("a.PHN", "0 3200 pau\n3200 4000 k\n4000 6400 a\n").unwrap());
        // Half open on the left: an end belongs to its phone.
        assert_eq!([0.0, 0.2, 0.2001, 0.25, 0.3, 9.0].map(|t| lab.at(t)), ["pau", "pau", "k", "k", "a", "a"]);
        assert_eq!(lab.at_frames(0.0125, 0.1, 4), ["pau", "pau", "k", "a"]);
        let phones = Phones::of([&lab, &lab]);
        assert_eq!(
            (phones.names(), phones.id("k"), phones.id("z"), lab.seconds()),
            (&["a", "k", "pau"].map(String::from)[..], Some(1), None, 0.4)
        );
    }

    #[test]
    fn wrong_lines_are_named() {
        for (name, text, part) in [
            ("a.lab", "#\n0.2 125 a\n0.1 125 b\n", "line 3: the end 0.1 is before 0.2"),
            ("a.lab", "#\nx 125 a\n", "line 2: `x` is no time"),
            ("a.lab", "#\n0.1 125 a b\n", "line 2: 4 fields"),
            ("a.lab", "#\n\n", "no phone"),
            ("a.phn", "0 10\n", "line 1: 2 fields"),
            ("a.phn", "0 inf a\n", "line 1: the end inf"),
        ] {
            let e = read(name, text).unwrap_err().to_string();
            assert!(e.contains(name) && e.contains(part), "{e}");
        }
    }

    proptest! {
        #[test]
        fn every_instant_lies_in_its_phone(steps in prop::collection::vec(0.01_f64..0.3, 1..20), t in 0.0_f64..6.0) {
            let mut end = 0.0;
            let lines: Vec<String> = steps.iter().enumerate().map(|(i, s)| { end += s; format!("{end} 125 p{i}") }).collect();
            let a = Alignment::parse(&format!("#\n{}\n", lines.join("\n")), false).unwrap();
            let i: usize = a.at(t)[1..].parse().unwrap();
            prop_assert!(t <= a.ends[i] || i + 1 == steps.len());
            prop_assert!(i == 0 || t > a.ends[i - 1]);
        }
    }
}

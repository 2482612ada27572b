//! Which phone is said when: alignments, and the phones of a corpus by number.
//!
//! Read are `.lab` files of Festival and ESPS (`end  number  phone` a line after a line `#`, times in
//! seconds), `.phn` files of TIMIT (`first  last  phone` a line, in samples of 16 kHz), and `.tsv` tables of
//! ends (`end<TAB>phone` a line, in seconds, with or without a line of column names), which any aligner's
//! output is easily turned into.

use selfsup_core::{Error, Result};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Endings of alignments, in the order in which they are looked for.
pub const ENDINGS: [&str; 4] = ["lab", "phn", "PHN", "tsv"];

/// Rate of TIMIT, whose alignments count samples.
const TIMIT: f64 = 16_000.0;

/// Phones in the order of time; each begins where the one before ends.
#[derive(Clone, Debug, PartialEq)]
pub struct Alignment {
    /// End of each in seconds, never falling.
    ends: Vec<f64>,
    phones: Vec<String>,
}

/// How a line is to be read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    /// `end number phone`, after a line `#` if there is one.
    Lab,
    /// `first last phone` in samples.
    Phn,
    /// `end<TAB>phone`.
    Tsv,
}

impl Alignment {
    /// Reads a `.lab`, `.phn` or `.tsv` file.
    ///
    /// # Errors
    /// Naming the file and the line: not readable, no phone, a time that is no number or falls.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = selfsup_core::file::read(path)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| Error::file(path, "is not UTF-8"))?;
        let format = match path.extension().map(|e| e.to_string_lossy().to_lowercase()).as_deref() {
            Some("phn") => Format::Phn,
            Some("tsv") => Format::Tsv,
            _ => Format::Lab,
        };
        Self::parse(text, format)
            .map_err(|(line, problem)| Error::file(path, format!("line {line}: {problem}")))
    }

    /// The alignment of the recording `id` in `folder`: a file of the same name and one of [`ENDINGS`].
    pub fn find(folder: &Path, id: &str) -> Option<PathBuf> {
        let name = id.rsplit(['/', '\\']).next().unwrap_or(id);
        let stem = Path::new(name).file_stem()?;
        ENDINGS.iter().map(|e| folder.join(format!("{}.{e}", stem.to_string_lossy()))).find(|p| p.is_file())
    }

    fn parse(text: &str, format: Format) -> Result<Self, (usize, String)> {
        let (mut ends, mut phones) = (Vec::new(), Vec::new());
        // What stands before a line `#` is a head.
        let head = if format == Format::Lab {
            text.lines().position(|l| l.trim() == "#").map_or(0, |i| i + 1)
        } else {
            0
        };
        for (i, line) in text.lines().enumerate().skip(head) {
            let wrong = |problem: String| (i + 1, problem);
            if line.trim().is_empty() {
                continue;
            }
            let (time, phone) = match format {
                // A phone may have a space in it, and a silence may be nothing.
                Format::Tsv => match line.trim_end_matches(['\r', '\n']).split_once('\t') {
                    Some((time, phone)) if !phone.contains('\t') => (time.trim(), phone.trim()),
                    Some(_) => {
                        return Err(wrong(
                            "more than 2 columns, expected an end in seconds and a phone".into(),
                        ));
                    }
                    None => {
                        return Err(wrong("no tab, expected an end in seconds, a tab and a phone".into()));
                    }
                },
                _ => match (line.split_whitespace().collect::<Vec<_>>().as_slice(), format) {
                    ([_, end, phone], Format::Phn) | ([end, _, phone], Format::Lab) => (*end, *phone),
                    // A silence without a name.
                    ([end, _], Format::Lab) => (*end, ""),
                    (fields, _) => {
                        return Err(wrong(format!("{} fields, expected 3: times and a phone", fields.len())));
                    }
                },
            };
            let Ok(number) = time.parse::<f64>() else {
                if format == Format::Tsv && i == 0 {
                    continue; // column names
                }
                return Err(wrong(format!("`{time}` is no time")));
            };
            let end = if format == Format::Phn { number / TIMIT } else { number };
            if !end.is_finite() || ends.last().is_some_and(|&last| end < last) {
                return Err(wrong(format!(
                    "the end {end} is before {}",
                    ends.last().copied().unwrap_or(0.0)
                )));
            }
            ends.push(end);
            phones.push(phone.to_string());
        }
        if ends.is_empty() {
            Err((text.lines().count(), "holds no phone".into()))
        } else {
            Ok(Alignment { ends, phones })
        }
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
        assert_eq!(lab, read("a.tsv", "end\tphone\r\n0.2\tpau\r\n0.25\tk\r\n0.4\ta\r\n").unwrap());
        assert_eq!(read("a.tsv", "0.2\t\n0.25\tclosure of k\n").unwrap().phones(), ["", "closure of k"]);
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
            ("a.tsv", "0.1 a\n", "line 1: no tab"),
            ("a.tsv", "0.1\ta\tb\n", "line 1: more than 2"),
            ("a.tsv", "end\tphone\nx\ta\n", "line 2: `x` is no time"),
            ("a.tsv", "end\tphone\n", "no phone"),
        ] {
            let e = read(name, text).unwrap_err().to_string();
            assert!(e.contains(name) && e.contains(part), "{e}");
        }
    }

    #[test]
    fn found_by_the_name_of_the_recording() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.tsv"), "0.1\ta\n").unwrap();
        assert_eq!(Alignment::find(dir.path(), "deep/folder/a.flac").unwrap(), dir.path().join("a.tsv"));
        assert_eq!(Alignment::find(dir.path(), "b.flac"), None);
        std::fs::write(dir.path().join("a.lab"), "#\n0.1 125 a\n").unwrap();
        assert_eq!(Alignment::find(dir.path(), "a.wav").unwrap(), dir.path().join("a.lab"));
    }

    proptest! {
        #[test]
        fn every_instant_lies_in_its_phone(steps in prop::collection::vec(0.01_f64..0.3, 1..20), t in 0.0_f64..6.0) {
            let mut end = 0.0;
            let lines: Vec<String> = steps.iter().enumerate().map(|(i, s)| { end += s; format!("{end} 125 p{i}") }).collect();
            let a = Alignment::parse(&format!("#\n{}\n", lines.join("\n")), Format::Lab).unwrap();
            let i: usize = a.at(t)[1..].parse().unwrap();
            prop_assert!(t <= a.ends[i] || i + 1 == steps.len());
            prop_assert!(i == 0 || t > a.ends[i - 1]);
        }
    }
}

//! GCIDE, the GNU version of the Collaborative International Dictionary of English: Webster's of 1913 with
//! its quotations.
//!
//! - what: definitions and quotations, one paragraph a record, without headwords, etymologies and marks of
//!   sources
//! - source: Debian package `dict-gcide` (14.8 MB), or its `gcide.dict.dz` in the folder `gcide` of the cache
//! - licence: GPL-2+ (never bundled)
//! - use: English prose to pre-train on
//! - leaks: the dictionary took over definitions of WordNet. Every paragraph tells its source, and those that
//!   name WordNet or nothing are left out: else a corpus of this and a test on WordNet's glosses would share
//!   texts.

use crate::card::Card;
use crate::fetch::{Client, Holds, Package, fetch};
use crate::kind::Kind;
use crate::prose::{Prose, squeezed};
use flate2::read::MultiGzDecoder;
use selfsup_core::{Error, Result};
use std::io::Read;

const PACKAGE: Package = Package {
    client: Client::Apt,
    name: "dict-gcide",
    version: "0.48.5+nmu2",
    sha256: "7b0af5cfde3cbdef5e9d6e78f92ec335ced7c2790f37a40f49bebc6f7347ac0f",
    holds: Holds { files: 1, bytes: 13_527_370 },
    keep: &["usr/share/dictd/gcide.dict.dz"],
};

/// The card of this data set.
pub const CARD: Card = Card {
    name: "gcide",
    kind: Kind::Text,
    about: "definitions and quotations of Webster's dictionary of 1913, one paragraph a text",
    licence: "GPL-2+",
    size: "14.8 MB",
    source: "apt-get download dict-gcide",
    open: || Ok(Box::new(open()?)),
};

/// The file has 40 MB; more than five times as much is another one.
const MOST: u64 = 200 << 20;

/// The paragraphs, fetched as a Debian package the first time.
///
/// # Errors
/// If the file is not in the cache and cannot be fetched, or is damaged.
pub fn open() -> Result<Prose> {
    let path = fetch("gcide", &PACKAGE)?.join("gcide.dict.dz");
    let file = selfsup_core::file::open(&path)?;
    let mut bytes = Vec::new();
    MultiGzDecoder::new(file).take(MOST).read_to_end(&mut bytes).map_err(|e| Error::io(&path, e))?;
    let texts = paragraphs(&String::from_utf8_lossy(&bytes));
    if texts.is_empty() {
        Err(Error::file(&path, "no paragraph of the dictionary in it"))
    } else {
        Ok(Prose::new(path, texts))
    }
}

/// Whether a line is the mark of a source, such as `[1913 Webster +PJC]`.
fn mark(line: &str) -> bool {
    line.starts_with('[')
        && line.ends_with(']')
        && ["Webster", "WordNet", "PJC"].iter().any(|s| line.contains(s))
}

/// Paragraphs whose source is the printed dictionary. An entry begins with a line that is not indented; a
/// source ends one or more paragraphs.
fn paragraphs(text: &str) -> Vec<Box<str>> {
    let (mut kept, mut open, mut current) = (Vec::new(), Vec::new(), String::new());
    // Opened less closed brackets of an entry's head, while the head goes on.
    let mut head: Option<i32> = None;
    let depth = |line: &str| {
        line.chars()
            .map(|c| i32::from(matches!(c, '[' | '(')) - i32::from(matches!(c, ']' | ')')))
            .sum::<i32>()
    };
    for line in text.lines() {
        let trimmed = line.trim();
        if !line.starts_with(' ') && !trimmed.is_empty() {
            // What had no source belongs to nobody.
            open.clear();
            current.clear();
            head = Some(depth(line)).filter(|d| *d > 0);
        } else if let Some(d) = head {
            head = Some(d + depth(line)).filter(|d| *d > 0 && !trimmed.is_empty());
        } else if mark(trimmed) {
            open.push(std::mem::take(&mut current));
            let printed = trimmed.contains("Webster") && !trimmed.contains("WordNet");
            kept.extend(open.drain(..).filter(|_| printed).filter_map(|p| cleaned(&p)));
        } else if trimmed.is_empty() {
            open.push(std::mem::take(&mut current));
        } else {
            current.push(' ');
            current.push_str(trimmed);
        }
    }
    kept
}

/// Without brackets and what is in them, braces around references, and the number in front; `None` for
/// scraps, and where letters are lost.
fn cleaned(paragraph: &str) -> Option<Box<str>> {
    let mut depth = 0usize;
    let plain: String = paragraph
        .chars()
        .filter(|c| {
            match c {
                '[' => depth += 1,
                ']' if depth > 0 => {
                    depth -= 1;
                    return false;
                }
                _ => {}
            }
            depth == 0 && !matches!(c, '{' | '}')
        })
        .collect();
    let plain = squeezed(&plain);
    let numbered =
        plain.split_once(". ").filter(|(n, _)| n.chars().all(|c| c.is_ascii_digit()) && !n.is_empty());
    let plain = numbered.map_or(plain.as_str(), |(_, rest)| rest);
    let lost = plain.contains("??") || plain.contains(char::REPLACEMENT_CHARACTER);
    (plain.split(' ').count() >= 4 && !lost).then(|| plain.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: &str = "\
Coagulum \\Co*ag\"u*lum\\, n.; pl. {Coagula}. [L. See {Coagulate},
   a.]
   1. The thick, curdy precipitate formed by the coagulation of
      albuminous matter; a clot [Obs.] of {blood}.
      [1913 Webster]

   2. Words of another dictionary stand here.
      [WordNet 1.5]

   They are followed by a note of their own.

   And by another one with the source.
   [1913 Webster + WordNet 1.5]

Coak \\Coak\\ (k[=o]k), n.
   See {Coke}, n.
   [1913 Webster]

   A paragraph whose source is not told.

Coal \\Coal\\, n.
   A thoroughly charred fragment of wood.

   Syn: Things that are burnt in grates.
        [1913 Webster]
";

    #[test]
    fn definitions_of_the_printed_dictionary_alone() {
        let found = paragraphs(ENTRY);
        let expected = [
            "The thick, curdy precipitate formed by the coagulation of albuminous matter; a clot of blood.",
            "A thoroughly charred fragment of wood.",
            "Syn: Things that are burnt in grates.",
        ];
        assert_eq!(found.iter().map(|t| &**t).collect::<Vec<_>>(), expected);
        assert!(paragraphs("").is_empty() && cleaned("of ??? in some dead language").is_none());
    }

    /// Fetches 14.8 MB: run with `--ignored` where there is apt-get and a network.
    #[test]
    #[ignore = "fetches a package"]
    fn the_package_is_read() {
        use crate::record::Records;
        let all = open().unwrap();
        assert!(all.len() > 100_000, "{}", all.len());
        assert!(std::str::from_utf8(&all.get(1000).unwrap().source.content().unwrap()).is_ok());
    }
}

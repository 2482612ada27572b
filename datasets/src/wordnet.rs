//! WordNet's glosses (Miller 1995, "WordNet: a lexical database for English", Communications of the ACM
//! 38(11)).
//!
//! - what: definitions with examples, one a synset, each labelled with the topic that a lexicographer filed
//!   it under (noun.person, noun.animal, verb.motion ...): 82,115 of nouns with 26 topics, 117,659 in all
//!   with 45
//! - bundled: all glosses of nouns with their topics (2.0 MB); every fifth is for testing (line number modulo
//!   5 is 4)
//! - in full: Debian package `wordnet-base` (6.5 MB), or its four files `data.*` in the folder
//!   `wordnet-glosses-full` of the cache
//! - licence: WordNet 3.0, which is like BSD
//! - use: a small corpus of clean English, and topics of short texts. The majority class has 14.1%; TF-IDF
//!   and logistic regression reach 30.9, 51.4, 71.7 and 82.5% of the test glosses of nouns with 100, 1,000,
//!   10,000 and all labels.
//! - groups: glosses that define the same in the same words are one group of the whole set. The published
//!   split into training and test lines divides some of them, so its two parts carry no groups

use crate::card::Card;
use crate::fetch::{Client, Holds, Package, cache, fetch};
use crate::kind::Kind;
use crate::record::{Record, Records, Source, Subset, missing};
use crate::samples;
use crate::shuffle::numpy_shuffle;
use selfsup_core::{Error, Result};
use std::io::Read;
use std::path::{Path, PathBuf};

/// The topics by the numbers of their lexicographers' files.
pub const TOPICS: [&str; 45] = [
    "adj.all",
    "adj.pert",
    "adv.all",
    "noun.Tops",
    "noun.act",
    "noun.animal",
    "noun.artifact",
    "noun.attribute",
    "noun.body",
    "noun.cognition",
    "noun.communication",
    "noun.event",
    "noun.feeling",
    "noun.food",
    "noun.group",
    "noun.location",
    "noun.motive",
    "noun.object",
    "noun.person",
    "noun.phenomenon",
    "noun.plant",
    "noun.possession",
    "noun.process",
    "noun.quantity",
    "noun.relation",
    "noun.shape",
    "noun.state",
    "noun.substance",
    "noun.time",
    "verb.body",
    "verb.change",
    "verb.cognition",
    "verb.communication",
    "verb.competition",
    "verb.consumption",
    "verb.contact",
    "verb.creation",
    "verb.emotion",
    "verb.motion",
    "verb.perception",
    "verb.possession",
    "verb.social",
    "verb.stative",
    "verb.weather",
    "adj.ppl",
];

/// The topics of nouns.
const NOUNS: std::ops::Range<usize> = 3..29;

const PACKAGE: Package = Package {
    client: Client::Apt,
    name: "wordnet-base",
    version: "1:3.0-37",
    sha256: "61060d960f9ada8fa120872312eccd3ecebfbab8c4579e4f5a74e1cf67620752",
    holds: Holds { files: 4, bytes: 21_744_920 },
    keep: &[
        "usr/share/wordnet/data.noun",
        "usr/share/wordnet/data.verb",
        "usr/share/wordnet/data.adj",
        "usr/share/wordnet/data.adv",
    ],
};

/// The cards of this data set.
pub const CARDS: [Card; 4] = [
    Card {
        name: "wordnet-glosses",
        kind: Kind::Text,
        about: "65,692 definitions of nouns for training, 26 topics",
        licence: "WordNet 3.0",
        size: "2.0 MB",
        source: "bundled",
        open: || Ok(Box::new(nouns(Part::Train)?)),
    },
    Card {
        name: "wordnet-glosses/test",
        kind: Kind::Text,
        about: "every fifth definition of a noun: 16,423 for testing",
        licence: "WordNet 3.0",
        size: "2.0 MB",
        source: "bundled",
        open: || Ok(Box::new(nouns(Part::Test)?)),
    },
    Card {
        name: "wordnet-glosses/all",
        kind: Kind::Text,
        about: "all 82,115 definitions of nouns in their order: a corpus, without labels",
        licence: "WordNet 3.0",
        size: "2.0 MB",
        source: "bundled",
        open: || Ok(Box::new(nouns(Part::All)?.without_labels())),
    },
    Card {
        name: "wordnet-glosses-full",
        kind: Kind::Text,
        about: "117,659 definitions of nouns, verbs, adjectives and adverbs, 45 topics",
        licence: "WordNet 3.0",
        size: "6.5 MB",
        source: "apt-get download wordnet-base",
        open: || Ok(Box::new(full()?)),
    },
];

/// Which of the glosses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All.
    All,
    /// All but every fifth.
    Train,
    /// Every fifth.
    Test,
}

/// Glosses in memory.
pub struct Glosses {
    /// File that they come from, for messages.
    path: PathBuf,
    classes: Vec<String>,
    /// Whether the records tell their groups.
    grouped: bool,
    /// `(line of the file, label, gloss)`.
    rows: Vec<(usize, u32, Box<str>)>,
}

/// The glosses of nouns: compiled in, from `SELFSUP_DATA/wordnet-glosses`, or from the whole set, which is
/// fetched if need be.
///
/// # Errors
/// If the files are not there and cannot be fetched, or are damaged.
pub fn nouns(part: Part) -> Result<Glosses> {
    const FILE: &str = "wordnet-glosses/nouns.tsv.gz";
    let beside = cache().ok().map(|c| c.join(FILE)).filter(|f| f.is_file());
    let (path, rows) = match (samples::bytes(FILE), beside) {
        (Some(bytes), _) => (PathBuf::from(FILE), table(bytes, Path::new(FILE))?),
        (None, Some(path)) => {
            let file = std::fs::File::open(&path).map_err(|e| Error::io(&path, e))?;
            (path.clone(), table(file, &path)?)
        }
        (None, None) => {
            let path = fetch("wordnet-glosses-full", &PACKAGE)?.join("data.noun");
            (path.clone(), database(&path)?)
        }
    };
    let wanted = |i: usize| match part {
        Part::All => true,
        Part::Train => i % 5 != 4,
        Part::Test => i % 5 == 4,
    };
    let rows =
        rows.into_iter().enumerate().filter(|(i, _)| wanted(*i)).map(|(i, (topic, gloss))| (i, topic, gloss));
    let mut set = Glosses::new(path, NOUNS, rows)?;
    set.grouped = part == Part::All;
    Ok(set)
}

/// The records of [`Part::Train`] that a budget of `labels` has: the first ones after numpy's
/// `RandomState(0)` has shuffled them. The figures at the top of this file are for these.
///
/// # Errors
/// As [`nouns`].
pub fn budget(labels: usize) -> Result<Subset<Glosses>> {
    let train = nouns(Part::Train)?;
    let order = numpy_shuffle(train.len(), 0).into_iter().take(labels).collect();
    Subset::new(train, order)
}

/// All glosses, fetched as a Debian package the first time.
///
/// # Errors
/// If the files are not in the cache and cannot be fetched, or are damaged.
pub fn full() -> Result<Glosses> {
    let folder = fetch("wordnet-glosses-full", &PACKAGE)?;
    let mut rows = Vec::new();
    for part in ["noun", "verb", "adj", "adv"] {
        rows.extend(database(&folder.join(format!("data.{part}")))?);
    }
    Glosses::new(
        folder,
        0..TOPICS.len(),
        rows.into_iter().enumerate().map(|(i, (topic, gloss))| (i, topic, gloss)),
    )
}

/// Lines of `topic, tab, gloss`, gzip; `path` names them in messages.
fn table(file: impl Read, path: &Path) -> Result<Vec<(usize, Box<str>)>> {
    let mut text = String::new();
    // 6.5 MB; more than ten times as much is another file.
    flate2::read::GzDecoder::new(file)
        .take(80 << 20)
        .read_to_string(&mut text)
        .map_err(|e| Error::io(path, e))?;
    let row = |(i, line): (usize, &str)| {
        let parts =
            line.split_once('\t').and_then(|(topic, gloss)| Some((topic.parse().ok()?, gloss.into())));
        parts.ok_or_else(|| {
            Error::file(
                path,
                format_args!("line {}: expected the number of a topic, a tab and a gloss", i + 1),
            )
        })
    };
    text.lines().enumerate().map(row).collect()
}

/// A file `data.*` of the database: the second column is the topic, the gloss stands behind ` | `.
fn database(path: &Path) -> Result<Vec<(usize, Box<str>)>> {
    let text = selfsup_core::file::text(path)?;
    // The licence in front is indented.
    let synsets = text.lines().enumerate().filter(|(_, line)| !line.starts_with(' '));
    let rows: Vec<(usize, Box<str>)> = synsets
        .map(|(i, line)| {
            let topic = line.split(' ').nth(1).and_then(|t| t.parse().ok());
            let gloss = line.split_once(" | ").map(|(_, gloss)| gloss.trim().into());
            topic.zip(gloss).ok_or_else(|| {
                Error::file(path, format_args!("line {}: no synset with a topic and a gloss", i + 1))
            })
        })
        .collect::<Result<_>>()?;
    if rows.is_empty() { Err(Error::file(path, "no synsets")) } else { Ok(rows) }
}

impl Glosses {
    fn new(
        path: PathBuf,
        topics: std::ops::Range<usize>,
        rows: impl Iterator<Item = (usize, usize, Box<str>)>,
    ) -> Result<Self> {
        let rows = rows
            .map(|(i, topic, gloss)| {
                if !topics.contains(&topic) {
                    return Err(Error::file(
                        &path,
                        format_args!("gloss {i} has topic {topic}, expected one in {topics:?}"),
                    ));
                }
                Ok((i, (topic - topics.start) as u32, gloss))
            })
            .collect::<Result<Vec<_>>>()?;
        let classes = TOPICS[topics].iter().map(|t| (*t).to_string()).collect();
        Ok(Glosses { path, classes, grouped: true, rows })
    }

    /// The same without topics.
    #[must_use]
    pub fn without_labels(mut self) -> Self {
        self.classes.clear();
        self
    }
}

impl Records for Glosses {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn get(&self, index: usize) -> Result<Record> {
        let (line, _, gloss) =
            self.rows.get(index).ok_or_else(|| missing(self.path.display(), index, self.rows.len()))?;
        Ok(Record {
            id: format!("{}:{}", self.path.display(), line + 1),
            source: Source::Bytes(gloss.as_bytes().into()),
            label: self.label(index),
            group: self.group(index),
        })
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.rows.get(index).filter(|_| !self.classes.is_empty()).map(|r| r.1)
    }

    /// The definition without its examples.
    fn group(&self, index: usize) -> Option<String> {
        let gloss = &self.rows.get(index).filter(|_| self.grouped)?.2;
        Some(gloss.split("; \"").next().unwrap_or(gloss).trim().to_string())
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(set: &Glosses, i: usize) -> String {
        String::from_utf8(set.get(i).unwrap().source.content().unwrap().to_vec()).unwrap()
    }

    /// The figures of `docs`: sizes and the majority class.
    #[test]
    fn bundled_glosses_are_there() {
        let (all, train, test) =
            (nouns(Part::All).unwrap(), nouns(Part::Train).unwrap(), nouns(Part::Test).unwrap());
        assert_eq!((all.len(), train.len(), test.len()), (82_115, 65_692, 16_423));
        assert_eq!(all.classes().len(), 26);
        assert!(
            text(&all, 0).starts_with(
                "that which is perceived or known or inferred to have its own distinct existence"
            )
        );
        assert_eq!((text(&all, 4), text(&all, 5)), (text(&test, 0), text(&train, 4)));
        let mut counts = [0usize; 26];
        (0..test.len()).for_each(|i| counts[test.label(i).unwrap() as usize] += 1);
        let majority = counts.iter().max().unwrap();
        assert!((*majority as f64 / test.len() as f64 - 0.141).abs() < 5e-4, "{majority}");
        let person = all.classes().iter().position(|c| c == "noun.person").unwrap();
        let physicist =
            (0..all.len()).find(|&i| text(&all, i).starts_with("a scientist trained in physics")).unwrap();
        assert_eq!(all.label(physicist), Some(person as u32));
        let plain = all.without_labels();
        assert_eq!(
            (plain.label(physicist), plain.get(physicist).unwrap().label, plain.classes().len()),
            (None, None, 0)
        );
    }

    /// Line 4,590 of the nouns is the first of the budgets: `numpy.random.RandomState(0).shuffle` of the
    /// training lines.
    #[test]
    fn budgets_are_those_of_the_baseline() {
        let (all, budget) = (nouns(Part::All).unwrap(), budget(100).unwrap());
        assert_eq!(budget.len(), 100);
        for (i, line) in [4590, 75053, 31466, 24771, 29158].into_iter().enumerate() {
            let (a, b) = (budget.get(i).unwrap(), all.get(line).unwrap());
            assert_eq!((a.source, a.label, a.group), (b.source, b.label, None));
        }
    }

    #[test]
    fn groups_are_definitions_without_examples() {
        let rows = [
            (0, 5, "a feline; \"the cat sat\"".into()),
            (1, 5, "a feline".into()),
            (2, 5, "a canine".into()),
        ];
        let set = Glosses::new("x".into(), NOUNS, rows.into_iter()).unwrap();
        assert_eq!(set.group(0), set.group(1));
        assert_ne!(set.group(0), set.group(2));
        assert_eq!((set.label(0), set.classes()[2].as_str()), (Some(2), "noun.animal"));
        assert!(Glosses::new("x".into(), NOUNS, [(0, 44, "y".into())].into_iter()).is_err());
    }

    #[test]
    fn the_database_is_read_and_damage_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data.noun");
        std::fs::write(
            &path,
            "  1 licence | text  \n00001740 03 n 01 entity 0 000 | that which exists; \"x | y\"  \n",
        )
        .unwrap();
        assert_eq!(database(&path).unwrap(), [(3, "that which exists; \"x | y\"".into())]);
        for (content, says) in
            [("", "no synsets"), ("00001740 xx n | y\n", "line 1"), ("00001740 03 n\n", "line 1")]
        {
            std::fs::write(&path, content).unwrap();
            assert!(database(&path).err().unwrap().to_string().contains(says));
        }
        let path = dir.path().join("nouns.tsv.gz");
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut gz, b"3\tfine\nno tab\n").unwrap();
        std::fs::write(&path, gz.finish().unwrap()).unwrap();
        assert!(
            table(std::fs::File::open(&path).unwrap(), &path).err().unwrap().to_string().contains("line 2")
        );
    }

    /// Fetches 6.5 MB: run with `--ignored` where there is apt-get and a network.
    #[test]
    #[ignore = "fetches a package"]
    fn the_bundled_glosses_are_those_of_the_package() {
        let all = full().unwrap();
        assert_eq!((all.len(), all.classes().len()), (117_659, 45));
        let nouns = nouns(Part::All).unwrap();
        assert!((0..nouns.len()).step_by(997).all(|i| text(&nouns, i) == text(&all, i)));
    }
}

//! Measures of text tasks: entity F1 and the two of SQuAD.

use std::collections::{BTreeMap, BTreeSet};

/// Precision, recall and their harmonic mean.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Scores {
    /// Share of what was found that is right.
    pub precision: f64,
    /// Share of what is there that was found.
    pub recall: f64,
    /// `2 p r / (p + r)`.
    pub f1: f64,
}

impl Scores {
    /// From counts; 0 where there is nothing to divide by.
    pub fn of(right: usize, found: usize, there: usize) -> Self {
        let share = |n: usize| if n == 0 { 0.0 } else { right as f64 / n as f64 };
        let (precision, recall) = (share(found), share(there));
        let f1 = if right == 0 { 0.0 } else { 2.0 * precision * recall / (precision + recall) };
        Scores { precision, recall, f1 }
    }
}

/// An entity: its type, first word and the word behind its last.
pub type Entity = (String, usize, usize);

/// The entities of B-I-O tags (`B-PER`, `I-PER`, `O`), as conlleval reads them: an `I` without a `B` of its
/// type before it starts one too (Tjong Kim Sang and De Meulder 2003, cs/0306050).
pub fn entities(tags: &[impl AsRef<str>]) -> BTreeSet<Entity> {
    let mut found = BTreeSet::new();
    let mut open: Option<(&str, usize)> = None;
    for (i, tag) in tags.iter().map(AsRef::as_ref).chain(std::iter::once("O")).enumerate() {
        let (kind, name) = tag.split_once('-').unwrap_or((tag, ""));
        let goes_on = kind == "I" && open.is_some_and(|(o, _)| o == name);
        if !goes_on {
            if let Some((name, start)) = open.take() {
                found.insert((name.to_string(), start, i));
            }
            if kind == "B" || kind == "I" {
                open = Some((name, i));
            }
        }
    }
    found
}

/// The entities of B-I-O tags in the strict reading: those that begin with a `B`. An `I` without a `B` of its
/// type before it belongs to none.
pub fn strict_entities(tags: &[impl AsRef<str>]) -> BTreeSet<Entity> {
    let begins = |e: &Entity| tags.get(e.1).is_some_and(|t| t.as_ref().split('-').next() == Some("B"));
    entities(tags).into_iter().filter(begins).collect()
}

/// Which tags make an entity; both readings are seqeval's (Nakayama 2018).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// An `I` without a `B` begins one too ([`entities`]), as conlleval reads: seqeval without a mode.
    Default,
    /// Each begins with a `B` ([`strict_entities`]): seqeval's `mode="strict", scheme=IOB2`.
    Strict,
}

/// Micro-averaged scores over all sentences, and those of each type of entity: an entity is right if its type
/// and both its ends are. `gold` and `found` are the tags of the same sentences.
pub fn entity_f1<T: AsRef<str>>(
    gold: &[Vec<T>],
    found: &[Vec<T>],
    reading: Reading,
) -> (Scores, BTreeMap<String, Scores>) {
    let read = |tags: &[T]| match reading {
        Reading::Default => entities(tags),
        Reading::Strict => strict_entities(tags),
    };
    let mut counts: BTreeMap<String, [usize; 3]> = BTreeMap::new();
    for (gold, found) in gold.iter().zip(found) {
        let (gold, found) = (read(gold), read(found));
        for e in &found {
            let c = counts.entry(e.0.clone()).or_default();
            c[0] += usize::from(gold.contains(e));
            c[1] += 1;
        }
        for e in &gold {
            counts.entry(e.0.clone()).or_default()[2] += 1;
        }
    }
    let all = counts.values().fold([0; 3], |a, c| [a[0] + c[0], a[1] + c[1], a[2] + c[2]]);
    let scores = |c: &[usize; 3]| Scores::of(c[0], c[1], c[2]);
    (scores(&all), counts.iter().map(|(k, c)| (k.clone(), scores(c))).collect())
}

/// An answer as SQuAD's script compares it: lower case, without punctuation and the words a, an, the, single
/// spaces.
pub fn normalise_answer(text: &str) -> String {
    let plain: String = text.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
    plain.split_whitespace().filter(|w| !matches!(*w, "a" | "an" | "the")).collect::<Vec<_>>().join(" ")
}

/// Whether `found` equals one of the answers `gold` (Rajpurkar et al. 2016, "SQuAD", arXiv 1606.05250). No
/// gold answer means that there is none: then the right answer is empty (SQuAD 2.0, arXiv 1806.03822).
pub fn exact_match(found: &str, gold: &[impl AsRef<str>]) -> bool {
    let found = normalise_answer(found);
    if gold.is_empty() {
        found.is_empty()
    } else {
        gold.iter().any(|g| normalise_answer(g.as_ref()) == found)
    }
}

/// The best F1 over the words that `found` shares with one of the answers `gold`; as [`exact_match`] where
/// one side is empty.
pub fn answer_f1(found: &str, gold: &[impl AsRef<str>]) -> f64 {
    let found = normalise_answer(found);
    let words: Vec<&str> = found.split_whitespace().collect();
    let against = |gold: &str| {
        let gold = normalise_answer(gold);
        if words.is_empty() || gold.is_empty() {
            return f64::from(u8::from(words.is_empty() && gold.is_empty()));
        }
        let mut left: BTreeMap<&str, usize> = BTreeMap::new();
        gold.split_whitespace().for_each(|w| *left.entry(w).or_default() += 1);
        let there = left.values().sum();
        let shared = words
            .iter()
            .filter(|w| {
                left.get_mut(**w).is_some_and(|n| {
                    let some = *n > 0;
                    *n -= usize::from(some);
                    some
                })
            })
            .count();
        Scores::of(shared, words.len(), there).f1
    };
    if gold.is_empty() { against("") } else { gold.iter().map(|g| against(g.as_ref())).fold(0.0, f64::max) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(text: &str) -> Vec<String> {
        text.split_whitespace().map(String::from).collect()
    }

    #[test]
    fn entities_of_tags() {
        let found = |text: &str| {
            entities(&tags(text)).into_iter().map(|(n, a, b)| format!("{n} {a} {b}")).collect::<Vec<_>>()
        };
        assert_eq!(found("B-PER I-PER O B-LOC"), ["LOC 3 4", "PER 0 2"]);
        assert_eq!(found("B-PER B-PER"), ["PER 0 1", "PER 1 2"], "neighbours");
        assert_eq!(
            found("I-PER I-LOC I-LOC O I-LOC"),
            ["LOC 1 3", "LOC 4 5", "PER 0 1"],
            "an I may start one"
        );
        assert!(found("O O").is_empty() && found("").is_empty());
    }

    /// Two of three found entities are right, of four that are there: precision 2/3, recall 1/2, F1 4/7.
    #[test]
    fn entity_scores() {
        let gold = [tags("B-PER I-PER O B-LOC"), tags("B-ORG O B-PER O")];
        let found = [tags("B-PER I-PER O B-LOC"), tags("B-ORG I-ORG O O")];
        let (all, each) = entity_f1(&gold, &found, Reading::Default);
        assert!(
            (all.precision - 2.0 / 3.0).abs() < 1e-12
                && (all.recall - 0.5).abs() < 1e-12
                && (all.f1 - 4.0 / 7.0).abs() < 1e-12
        );
        assert_eq!((each["ORG"].f1, each["LOC"].f1, each["PER"].recall), (0.0, 1.0, 0.5));
        assert_eq!(entity_f1::<String>(&[], &[], Reading::Strict).0, Scores::default());
    }

    /// Random tags, scored by seqeval (tests/golden/generate/seqeval_scores.py).
    #[test]
    fn scores_are_those_of_seqeval() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/tags/seqeval.json");
        let cases: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let sentences = |v: &serde_json::Value| -> Vec<Vec<String>> {
            v.as_array().unwrap().iter().map(|s| tags(s.as_str().unwrap())).collect()
        };
        let cases = cases.as_array().unwrap();
        for (i, case) in cases.iter().enumerate() {
            let (gold, found) = (sentences(&case["gold"]), sentences(&case["found"]));
            for (name, reading) in [("default", Reading::Default), ("strict", Reading::Strict)] {
                let (all, each) = entity_f1(&gold, &found, reading);
                for (k, ours) in [all.precision, all.recall, all.f1].into_iter().enumerate() {
                    let theirs = case[name]["micro"][k].as_f64().unwrap();
                    assert!((ours - theirs).abs() < 1e-12, "case {i}, {name} {k}: {ours}, expected {theirs}");
                }
                let types = case[name]["types"].as_object().unwrap();
                assert_eq!(
                    types.keys().collect::<Vec<_>>(),
                    each.keys().collect::<Vec<_>>(),
                    "case {i}, {name}"
                );
                for (kind, theirs) in types {
                    assert!(
                        (each[kind].f1 - theirs.as_f64().unwrap()).abs() < 1e-12,
                        "case {i}, {name} {kind}"
                    );
                }
            }
        }
        assert_eq!(cases.len(), 36);
    }

    #[test]
    fn answers() {
        assert_eq!(normalise_answer("  The quick, (brown)\tfox!"), "quick brown fox");
        assert!(exact_match("the Fox.", &["a fox"]) && !exact_match("foxes", &["fox"]));
        assert_eq!(answer_f1("the quick brown fox", &["brown fox jumps", "x"]), 2.0 / 3.0);
        assert_eq!(answer_f1("fox fox", &["fox"]), 2.0 / 3.0, "a word counts as often as it is there");
        let none: [&str; 0] = [];
        assert!(exact_match("", &none) && answer_f1("", &none) == 1.0 && answer_f1("x", &none) == 0.0);
        assert_eq!(answer_f1("", &["x"]), 0.0);
    }
}

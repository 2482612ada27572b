//! What is read: texts to pre-train on, glosses with topics, paragraphs of another kind of prose.

use anyhow::{Context, Result};
use selfsup::datasets::{Records, anarchism, gcide, wordnet};
use selfsup::text::batch::Example;
use selfsup::text::tokenizer::Tokenizer;
use std::collections::BTreeSet;

/// Most tokens of an example: 19 of 20 glosses are shorter.
pub const LONGEST: usize = 64;
/// Of the dictionary every twelfth paragraph is taken, so that glosses are three quarters of what is read.
const DICTIONARY: usize = 12;

/// Glosses of nouns with their topics: to learn from, in the order in which labels are spent, and to test on.
pub struct Glosses {
    /// Texts and topics of the glosses to learn from.
    pub train: Vec<(String, u32)>,
    /// Those of every fifth gloss.
    pub test: Vec<(String, u32)>,
    /// Number of topics.
    pub classes: usize,
}

impl Glosses {
    pub fn open() -> Result<Self> {
        let (train, test) = (wordnet::budget(usize::MAX)?, wordnet::nouns(wordnet::Part::Test)?);
        let classes = train.classes().len();
        Ok(Glosses { train: labelled(&train)?, test: labelled(&test)?, classes })
    }
}

fn labelled(set: &dyn Records) -> Result<Vec<(String, u32)>> {
    let topic = |i: usize| set.label(i).context("a gloss without a topic");
    texts(set)?.into_iter().enumerate().map(|(i, text)| Ok((text, topic(i)?))).collect()
}

/// The texts of a set.
fn texts(set: &dyn Records) -> Result<Vec<String>> {
    (0..set.len()).map(|i| Ok(std::str::from_utf8(&set.get(i)?.source.content()?)?.to_string())).collect()
}

/// Texts without labels: the glosses of nouns that are not tested on; with `all` also the glosses of verbs,
/// adjectives and adverbs and a part of a dictionary, both fetched. What defines something in the words of a
/// test gloss is left out.
pub fn unlabelled(glosses: &Glosses, all: bool) -> Result<Vec<String>> {
    let mut found: Vec<String> = glosses.train.iter().map(|g| g.0.clone()).collect();
    if all {
        let tested: BTreeSet<&str> = glosses.test.iter().map(|g| definition(&g.0)).collect();
        let full = wordnet::full()?;
        let nouns: BTreeSet<u32> =
            (0..).zip(full.classes()).filter(|(_, name)| name.starts_with("noun.")).map(|(i, _)| i).collect();
        let others = texts(&full)?
            .into_iter()
            .enumerate()
            .filter(|(i, _)| full.label(*i).is_some_and(|l| !nouns.contains(&l)));
        found.extend(others.map(|(_, text)| text).filter(|text| !tested.contains(definition(text))));
        found.extend(
            texts(&gcide::open()?)?
                .into_iter()
                .step_by(DICTIONARY)
                .filter(|text| !tested.contains(definition(text))),
        );
    }
    Ok(found)
}

/// A gloss without its examples.
fn definition(gloss: &str) -> &str {
    gloss.split("; \"").next().unwrap_or(gloss).trim()
}

/// Paragraphs of running prose that nothing was trained on, the first 2,000.
pub fn prose() -> Result<Vec<String>> {
    Ok(texts(&anarchism::open()?)?.into_iter().take(2000).collect())
}

/// Examples of at most [`LONGEST`] tokens.
pub fn encode<'a>(tokenizer: &Tokenizer, texts: impl IntoIterator<Item = &'a str>) -> Result<Vec<Example>> {
    texts.into_iter().map(|text| Ok(tokenizer.example(text, None, LONGEST)?)).collect()
}

//! A sentence, and where each of its words stands in its file.

use serde::{Deserialize, Serialize};

/// A sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sentence {
    /// File and line, for messages.
    pub id: String,
    /// Its words.
    pub words: Vec<String>,
    /// A tag for each word; empty where they are not known.
    pub tags: Vec<String>,
}

/// A sentence as it was found.
pub(super) struct Found {
    pub sentence: Sentence,
    pub places: Places,
}

/// Where the words of a sentence stand.
pub(super) enum Places {
    /// A line each.
    Lines(Vec<usize>),
    /// All in one place: `line 3`, `item 3`.
    One(String),
}

impl Found {
    /// The place of a word, for messages.
    pub fn place(&self, word: usize) -> String {
        match &self.places {
            Places::Lines(lines) => format!("line {}", lines.get(word).copied().unwrap_or_default()),
            Places::One(place) => format!("{place}: word {}", word + 1),
        }
    }
}

/// Sentences, and what to tell the user of how they were read; or what is wrong, and where.
pub(super) type Reading = Result<(Vec<Found>, Vec<String>), String>;

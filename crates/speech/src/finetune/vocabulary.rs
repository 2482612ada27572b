//! The characters (or phones) of transcripts, as transformers' `vocab.json` lists them.
//!
//! `<pad>` is CTC's blank and has id 0, `<unk>` 1, the space between words is written `|` and has id 2; the
//! rest follows in order.

use selfsup_core::{Error, Result};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Tokens and their ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    tokens: Vec<String>,
    ids: BTreeMap<String, u32>,
    units: Units,
}

/// What a transcript is cut into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Units {
    /// Characters; white space is one token `|`.
    #[default]
    Characters,
    /// What white space separates: phones.
    Words,
}

const PAD: &str = "<pad>";
const UNKNOWN: &str = "<unk>";
const DELIMITER: &str = "|";

impl Units {
    fn cut(self, text: &str) -> Vec<String> {
        match self {
            Units::Words => text.split_whitespace().map(str::to_string).collect(),
            Units::Characters => {
                let words: Vec<String> = text.split_whitespace().map(str::to_string).collect();
                words.join(DELIMITER).chars().map(String::from).collect()
            }
        }
    }
}

impl Vocabulary {
    /// The id of CTC's blank.
    pub const BLANK: u32 = 0;

    /// All units of the transcripts, in order.
    ///
    /// # Errors
    /// If they hold nothing.
    pub fn build<'a>(transcripts: impl IntoIterator<Item = &'a str>, units: Units) -> Result<Self> {
        let mut all: BTreeSet<String> = transcripts.into_iter().flat_map(|t| units.cut(t)).collect();
        for special in [PAD, UNKNOWN, DELIMITER] {
            all.remove(special);
        }
        if all.is_empty() {
            return Err(Error::input("transcripts", "empty: no character to build a vocabulary from"));
        }
        let fixed: &[&str] =
            if units == Units::Characters { &[PAD, UNKNOWN, DELIMITER] } else { &[PAD, UNKNOWN] };
        Self::from_tokens(fixed.iter().map(|s| (*s).to_string()).chain(all).collect(), units)
    }

    fn from_tokens(tokens: Vec<String>, units: Units) -> Result<Self> {
        let ids: BTreeMap<String, u32> =
            tokens.iter().enumerate().map(|(i, t)| (t.clone(), i as u32)).collect();
        if ids.len() != tokens.len() {
            return Err(Error::input("vocabulary", "a token stands twice"));
        }
        if tokens.first().map(String::as_str) != Some(PAD) {
            return Err(Error::input(
                "vocabulary",
                format!("id 0 is {:?}, expected {PAD}, the blank", tokens.first()),
            ));
        }
        Ok(Vocabulary { tokens, ids, units })
    }

    /// Reads `vocab.json`, an object of token and id.
    ///
    /// # Errors
    /// If it cannot be read, ids have gaps, or id 0 is not `<pad>`.
    pub fn read(path: &Path, units: Units) -> Result<Self> {
        let text = selfsup_core::file::read(path)?;
        let json: Value =
            serde_json::from_slice(&text).map_err(|e| Error::file(path, format!("not JSON: {e}")))?;
        let map = json.as_object().ok_or_else(|| Error::file(path, "expected an object of token and id"))?;
        let mut tokens = vec![None; map.len()];
        for (token, id) in map {
            let place = id.as_u64().and_then(|i| tokens.get_mut(i as usize));
            match place {
                Some(place @ None) => *place = Some(token.clone()),
                _ => {
                    return Err(Error::file(
                        path,
                        format!(
                            "{token}: id {id}, expected each of 0 to {} once",
                            map.len().saturating_sub(1)
                        ),
                    ));
                }
            }
        }
        Self::from_tokens(tokens.into_iter().flatten().collect(), units).map_err(|e| Error::file(path, e))
    }

    /// Number of tokens, the blank among them.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there are none; never.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// What a transcript is cut into.
    pub fn units(&self) -> Units {
        self.units
    }

    /// Tokens in the order of their ids.
    pub fn tokens(&self) -> &[String] {
        &self.tokens
    }

    /// `(token, id)`, for a folder.
    pub fn pairs(&self) -> Vec<(String, usize)> {
        self.tokens.iter().cloned().zip(0..).collect()
    }

    /// Ids of a transcript; what is not in the vocabulary becomes `<unk>`.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let unknown = self.ids.get(UNKNOWN).copied().unwrap_or(1);
        self.units.cut(text).iter().map(|t| self.ids.get(t).copied().unwrap_or(unknown)).collect()
    }

    /// The text of ids that hold neither repeats nor blanks any more (a decoder's result).
    pub fn decode(&self, ids: &[u32]) -> String {
        let tokens = ids.iter().filter(|&&i| i != Self::BLANK).filter_map(|&i| self.tokens.get(i as usize));
        match self.units {
            Units::Words => tokens.cloned().collect::<Vec<_>>().join(" "),
            Units::Characters => tokens.map(|t| if t == DELIMITER { " " } else { t.as_str() }).collect(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn characters_and_phones() {
        let v = Vocabulary::build(["ab a", "cб"], Units::Characters).unwrap();
        assert_eq!(v.tokens(), ["<pad>", "<unk>", "|", "a", "b", "c", "б"]);
        assert_eq!(v.encode("  a  b z"), [3, 2, 4, 2, 1]);
        assert_eq!(v.decode(&[3, 2, 4]), "a b");
        let v = Vocabulary::build(["AH0 B", "B T"], Units::Words).unwrap();
        assert_eq!(v.encode("T AH0"), [4, 2]);
        assert_eq!(v.decode(&[4, 2]), "T AH0");
        assert!(Vocabulary::build(["  ", ""], Units::Characters).unwrap_err().to_string().contains("empty"));
    }

    #[test]
    fn files_that_are_no_vocabulary() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vocab.json");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Vocabulary::read(&path, Units::Characters)
        };
        assert_eq!(read(r#"{"a": 1, "<pad>": 0}"#).unwrap().tokens(), ["<pad>", "a"]);
        for (text, says) in [
            (r#"{"a": 2, "<pad>": 0}"#, "a: id 2"),
            (r#"{"a": 0, "<pad>": 0}"#, "id 0"),
            (r#"{"a": 0, "<pad>": 1}"#, "the blank"),
            ("[]", "an object"),
            ("{", "not JSON"),
        ] {
            let e = read(text).unwrap_err().to_string();
            assert!(e.contains(says) && e.contains("vocab.json"), "{text}: {e}");
        }
    }

    proptest! {
        #[test]
        fn text_there_and_back(words in prop::collection::vec("[a-zéж]{1,6}", 1..6)) {
            let text = words.join(" ");
            let v = Vocabulary::build([text.as_str()], Units::Characters).unwrap();
            prop_assert_eq!(v.decode(&v.encode(&text)), text);
        }
    }
}

//! Texts with typing errors, capitals and missing words, to measure robustness.

use super::Text;
use super::records::corrupted;
use super::words::Words;
use crate::modality::{Corruptible, CorruptionKind, Looks, RawOf};
use crate::set::Set;
use selfsup_core::Result;
use selfsup_core::data::LoaderConfig;
use selfsup_eval::Matrix;
use selfsup_text::corrupt::{Corrupt, Corruption};

/// Characters of a text that are shown.
const SHOWN: usize = 300;

impl Corruptible<Text> for Text {
    fn kinds(&self) -> Vec<CorruptionKind> {
        let kind = |c: Corruption| {
            let group = match c {
                Corruption::Keyboard | Corruption::SwappedLetters | Corruption::DroppedLetters => "letters",
                _ => "words",
            };
            CorruptionKind { name: c.name(), group, about: c.about(), counts: true }
        };
        Corruption::ALL.into_iter().map(kind).collect()
    }

    fn corrupted(&self, kind: &str, severity: u8, seed: u64) -> Result<Text> {
        Ok(Text {
            keys: self.keys.clone(),
            tokenizer: self.tokenizer.clone(),
            architecture: self.architecture.clone(),
            divided: self.divided.clone(),
            reading: self.reading.clone(),
            corrupt: Some(Corrupt::new(Corruption::named(kind)?, severity, seed)?),
            made: None,
        })
    }

    fn raw_fitted<'a>(
        &'a self,
        train: &Set,
        rows: usize,
        _loader: &'a LoaderConfig,
    ) -> Result<(Matrix, RawOf<'a, Text>)> {
        let words = Words::of(train, rows)?;
        let fitted = words.matrix(train, None)?;
        Ok((fitted, Box::new(move |reader: &Text, set: &Set| words.matrix(set, reader.corrupt))))
    }

    fn looks(&self, set: &Set) -> Result<Looks> {
        let text = corrupted(set.records(), 0, self.corrupt)?;
        Ok(Looks::Text(text.chars().take(SHOWN).collect()))
    }
}

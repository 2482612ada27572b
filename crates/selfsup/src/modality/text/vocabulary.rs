//! Vocabularies that are made from the data, once for all configurations that would make the same.

use super::records::{documents, texts};
use crate::config::DataConfig;
use crate::say::hushed;
use crate::set::{Set, Sets};
use selfsup_core::Result;
use selfsup_core::run::Display;
use selfsup_datasets::Kind;
use selfsup_text::corpus::CorpusConfig;
use selfsup_text::recipe::MethodConfig;
use selfsup_text::tokenizer::{Tokenizer, TokenizerConfig, train};
use std::time::Duration;

/// Sentinels of T5, for a tokenizer without any.
const T5_SENTINELS: usize = 100;

/// A vocabulary, and what it was made from.
#[derive(Clone)]
pub(super) struct Made {
    data: DataConfig,
    corpus: CorpusConfig,
    config: TokenizerConfig,
    tokenizer: Tokenizer,
}

impl Made {
    /// Makes a vocabulary from the texts to train on; takes that of `before` where it is the same.
    ///
    /// # Errors
    /// If the texts cannot be read, or are too few.
    pub(super) fn of(
        data: &DataConfig,
        corpus: &CorpusConfig,
        config: &TokenizerConfig,
        before: Option<&Made>,
    ) -> Result<Self> {
        // The length of inputs changes no text.
        let corpus = CorpusConfig { length: None, ..corpus.clone() };
        let same = |m: &&Made| m.data == *data && m.corpus == corpus && m.config == *config;
        if let Some(made) = before.filter(same) {
            return Ok(made.clone());
        }
        let set = trained_on(data, &corpus)?;
        // Characters are counted, not asked for.
        Display::new(Duration::ZERO).note(&format!("making a vocabulary from {} texts ...", set.len()));
        // The texts as they will be tokenised: with what is set between them.
        let tokenizer = train(config, corpus.texts(texts(&set)))?;
        Ok(Made { data: data.clone(), corpus, config: config.clone(), tokenizer })
    }

    /// The tokenizer.
    pub(super) fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }
}

/// The texts that are trained on: a vocabulary must not know those that are held out, by a share, by folders
/// or by a table.
///
/// # Errors
/// If they cannot be read or divided.
pub(super) fn trained_on(data: &DataConfig, corpus: &CorpusConfig) -> Result<Set> {
    let mut data = data.clone();
    if data.labels.is_empty() {
        // Data of their own, which are not trained on.
        data.test = String::new();
    }
    let open = |what: &str| documents(what, corpus, data.layout);
    Ok(hushed(|| Sets::open(&data, Kind::Text, &open))?.train)
}

/// The tokenizer with what the method needs of it: span corruption has sentinels for the spans.
///
/// # Errors
/// If they cannot be added.
pub(super) fn for_method(tokenizer: Tokenizer, method: &MethodConfig) -> Result<Tokenizer> {
    let lacks = tokenizer.special().sentinels.is_empty();
    if !lacks || !matches!(method, MethodConfig::SpanCorruption(_)) {
        return Ok(tokenizer);
    }
    crate::say::note(format_args!(
        "the tokenizer has no sentinels for span-corruption: {T5_SENTINELS} are added behind its {} tokens, \
         <extra_id_0> last",
        tokenizer.size()
    ));
    tokenizer.with_sentinels(T5_SENTINELS)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use selfsup_text::tokenizer::TokenizerKind;

    #[test]
    fn a_vocabulary_is_made_once_and_knows_no_text_that_a_table_holds_out() {
        let dir = tempfile::tempdir().unwrap();
        let table = dir.path().join("t.csv");
        std::fs::write(&table, "text,label,split\nabc,1,train\nabd,2,train\nxyz,1,test\nxyz,2,test\n")
            .unwrap();
        let place = table.display().to_string();
        let data = DataConfig { path: place.clone(), labels: place, ..DataConfig::default() };
        let config = TokenizerConfig::of(TokenizerKind::Characters);
        let corpus = CorpusConfig::default();
        let made = Made::of(&data, &corpus, &config, None).unwrap();
        let knows = |c: &str| made.tokenizer().ids(c).is_ok();
        assert!(knows("a") && knows("d") && !knows("x"));
        // Nothing is read where nothing changed but the length of inputs.
        std::fs::remove_file(&table).unwrap();
        let longer = CorpusConfig { length: Some(7), ..corpus.clone() };
        assert!(Made::of(&data, &longer, &config, Some(&made)).is_ok());
        let other = TokenizerConfig { lowercase: !config.lowercase, ..config };
        assert!(Made::of(&data, &corpus, &other, Some(&made)).is_err());
    }
}

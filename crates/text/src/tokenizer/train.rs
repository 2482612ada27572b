//! Making a vocabulary from a corpus: WordPiece, byte-level BPE, Unigram, or the characters themselves.
//!
//! | kind | after | text is first | a text becomes |
//! |---|---|---|---|
//! | `wordpiece` | BERT (1810.04805) | cleaned, lower case, accents off, cut at spaces and punctuation | `[CLS] text [SEP]` |
//! | `bpe` | GPT-2 (Sennrich et al. 2015, arXiv 1508.07909, on bytes) | cut by GPT-2's pattern | `text`; with `roberta = true`: `<s> text </s>` |
//! | `unigram` | T5 (Kudo 2018, arXiv 1804.10959) | NFKC, one space between words, `▁` before each word | `text </s>` |
//! | `characters` | nanoGPT | as it is | `text` |

use super::Tokenizer;
use selfsup_core::{Error, Result};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::models::unigram::{Unigram, UnigramTrainer};
use tokenizers::models::wordlevel::WordLevel;
use tokenizers::models::wordpiece::{WordPiece, WordPieceTrainer};
use tokenizers::models::{ModelWrapper, TrainerWrapper};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, DecoderWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper};

/// Kind of vocabulary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenizerKind {
    /// BERT's.
    #[default]
    Wordpiece,
    /// GPT-2's and RoBERTa's: byte pairs merged by frequency.
    Bpe,
    /// T5's: the pieces that make the corpus most probable.
    Unigram,
    /// One token a character.
    Characters,
}

/// `[tokenizer]`: what a vocabulary is made like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenizerConfig {
    /// Kind of vocabulary.
    pub kind: TokenizerKind,
    /// Number of tokens, special ones included; not read for characters.
    pub vocab_size: usize,
    /// Pieces that occur less often are not merged; not read for Unigram and characters.
    pub min_frequency: u64,
    /// Lower case and, for WordPiece, no accents.
    pub lowercase: bool,
    /// BPE: the special tokens of RoBERTa instead of GPT-2's.
    pub roberta: bool,
    /// Unigram: how many sentinels stand at the end of the vocabulary (T5: 100).
    pub sentinels: usize,
}

impl Default for TokenizerConfig {
    fn default() -> Self {
        TokenizerConfig {
            kind: TokenizerKind::Wordpiece,
            vocab_size: 30_522,
            min_frequency: 2,
            lowercase: true,
            roberta: false,
            sentinels: 100,
        }
    }
}

impl TokenizerConfig {
    /// The usual choices of a kind: BERT's 30,522 in lower case, GPT-2's 50,257, T5's 32,100 with 100 sentinels.
    pub fn of(kind: TokenizerKind) -> Self {
        let (vocab_size, lowercase) = match kind {
            TokenizerKind::Wordpiece => (30_522, true),
            TokenizerKind::Bpe => (50_257, false),
            TokenizerKind::Unigram => (32_100, false),
            TokenizerKind::Characters => (0, false),
        };
        TokenizerConfig { kind, vocab_size, lowercase, ..TokenizerConfig::default() }
    }

    fn specials(&self) -> Vec<&'static str> {
        match (self.kind, self.roberta) {
            (TokenizerKind::Wordpiece, _) => vec!["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
            (TokenizerKind::Bpe, false) => vec!["<|endoftext|>"],
            (TokenizerKind::Bpe, true) => vec!["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
            (TokenizerKind::Unigram, _) => vec!["<pad>", "</s>", "<unk>"],
            (TokenizerKind::Characters, _) => vec![],
        }
    }

    fn normalizer(&self) -> Option<Value> {
        let lower = json!({"type": "Lowercase"});
        Some(match self.kind {
            TokenizerKind::Wordpiece => json!({
                "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                "strip_accents": self.lowercase, "lowercase": self.lowercase,
            }),
            TokenizerKind::Unigram => {
                let mut parts = vec![
                    json!({"type": "NFKC"}),
                    json!({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}),
                    json!({"type": "Strip", "strip_left": true, "strip_right": true}),
                ];
                if self.lowercase {
                    parts.push(lower);
                }
                json!({"type": "Sequence", "normalizers": parts})
            }
            TokenizerKind::Bpe | TokenizerKind::Characters if self.lowercase => lower,
            TokenizerKind::Bpe | TokenizerKind::Characters => return None,
        })
    }

    fn pre_tokenizer(&self) -> Value {
        match self.kind {
            TokenizerKind::Wordpiece => json!({"type": "BertPreTokenizer"}),
            TokenizerKind::Bpe => json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}),
            TokenizerKind::Unigram => json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true}),
            // Every character by itself, line ends too.
            TokenizerKind::Characters => {
                json!({"type": "Split", "pattern": {"Regex": "[\\s\\S]"}, "behavior": "Isolated", "invert": false})
            }
        }
    }

    fn decoder(&self) -> Value {
        match self.kind {
            TokenizerKind::Wordpiece => json!({"type": "WordPiece", "prefix": "##", "cleanup": true}),
            TokenizerKind::Bpe => json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}),
            TokenizerKind::Unigram => json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true}),
            TokenizerKind::Characters => json!({"type": "Fuse"}),
        }
    }

    /// The tokens around a text and a pair of texts.
    fn post_processor(&self, id: impl Fn(&str) -> u32) -> Option<Value> {
        let special = |t: &str| json!({"SpecialToken": {"id": t, "type_id": 0}});
        let text = |which: &str, kind: u32| json!({"Sequence": {"id": which, "type_id": kind}});
        let (a, b) = (text("A", 0), text("B", 1));
        let (single, pair, used) = match (self.kind, self.roberta) {
            (TokenizerKind::Wordpiece, _) => {
                let (cls, sep) = (special("[CLS]"), special("[SEP]"));
                let last = json!({"SpecialToken": {"id": "[SEP]", "type_id": 1}});
                (vec![cls.clone(), a.clone(), sep.clone()], vec![cls, a, sep, b, last], vec!["[CLS]", "[SEP]"])
            }
            (TokenizerKind::Bpe, true) => {
                let (s, e, b) = (special("<s>"), special("</s>"), text("B", 0));
                (vec![s.clone(), a.clone(), e.clone()], vec![s, a, e.clone(), e.clone(), b, e], vec!["<s>", "</s>"])
            }
            (TokenizerKind::Unigram, _) => {
                let (e, b) = (special("</s>"), text("B", 0));
                (vec![a.clone(), e.clone()], vec![a, e.clone(), b, e], vec!["</s>"])
            }
            (TokenizerKind::Bpe, false) | (TokenizerKind::Characters, _) => return None,
        };
        let tokens: serde_json::Map<String, Value> =
            used.iter().map(|t| ((*t).to_string(), json!({"id": t, "ids": [id(t)], "tokens": [t]}))).collect();
        Some(json!({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": tokens}))
    }
}

/// A part of a tokenizer from its JSON, as it stands in tokenizer.json.
fn part<T: DeserializeOwned>(json: Value) -> Result<T> {
    serde_json::from_value(json.clone()).map_err(|e| Error::Other(format!("tokenizer part {json}: {e}")))
}

fn failed(e: impl std::fmt::Display) -> Error {
    Error::Other(format!("training a tokenizer: {e}"))
}

/// Makes a tokenizer from `texts`.
///
/// # Errors
/// The first error of `texts`; a corpus without text; a vocabulary too small for the special tokens and the alphabet.
pub fn train(config: &TokenizerConfig, texts: impl Iterator<Item = Result<String>> + Send) -> Result<Tokenizer> {
    // The library takes texts, not results: the first error ends the corpus and is reported after it.
    let (mut error, mut seen) = (None, 0usize);
    let texts = texts.map_while(|t| match t {
        Ok(t) => {
            seen += usize::from(!t.trim().is_empty());
            Some(t)
        }
        Err(e) => {
            error = Some(e);
            None
        }
    });
    let specials: Vec<AddedToken> = config.specials().into_iter().map(|t| AddedToken::from(t, true)).collect();
    if config.kind != TokenizerKind::Characters && config.vocab_size <= specials.len() + config.sentinels_used() {
        return Err(Error::config(format!(
            "tokenizer.vocab_size = {}: expected more than the {} special tokens",
            config.vocab_size,
            specials.len() + config.sentinels_used()
        )));
    }
    let inner = match config.kind {
        TokenizerKind::Characters => {
            let all: BTreeSet<char> =
                texts.flat_map(|t| if config.lowercase { t.to_lowercase() } else { t }.chars().collect::<Vec<_>>()).collect();
            let vocabulary = all.into_iter().enumerate().map(|(i, c)| (c.to_string(), i as u32)).collect();
            let model = WordLevel::builder().vocab(vocabulary).unk_token("<unk>".into()).build().map_err(failed)?;
            around(config, tokenizers::Tokenizer::new(ModelWrapper::WordLevel(model)))?
        }
        kind => {
            let (model, mut trainer) = trainer(config, kind, specials)?;
            let mut inner = around(config, tokenizers::Tokenizer::new(model))?;
            inner.train(&mut trainer, texts).map_err(failed)?;
            inner
        }
    };
    if let Some(e) = error {
        return Err(e);
    }
    if seen == 0 {
        return Err(Error::input("corpus", "no text to make a vocabulary from"));
    }
    finish(config, inner)
}

impl TokenizerConfig {
    fn sentinels_used(&self) -> usize {
        if self.kind == TokenizerKind::Unigram { self.sentinels } else { 0 }
    }
}

fn trainer(config: &TokenizerConfig, kind: TokenizerKind, specials: Vec<AddedToken>) -> Result<(ModelWrapper, TrainerWrapper)> {
    let size = config.vocab_size - config.sentinels_used();
    Ok(match kind {
        TokenizerKind::Bpe => {
            // All 256 bytes, so that no text is unknown.
            let alphabet = ByteLevel::alphabet().into_iter().collect();
            let trainer = BpeTrainer::builder().vocab_size(size).min_frequency(config.min_frequency).show_progress(false);
            let trainer = trainer.special_tokens(specials).initial_alphabet(alphabet).build();
            (ModelWrapper::BPE(BPE::default()), TrainerWrapper::BpeTrainer(trainer))
        }
        TokenizerKind::Unigram => {
            let mut builder = UnigramTrainer::builder();
            builder.vocab_size(u32::try_from(size).map_err(failed)?).show_progress(false);
            builder.special_tokens(specials).unk_token(Some("<unk>".into()));
            (ModelWrapper::Unigram(Unigram::default()), TrainerWrapper::UnigramTrainer(builder.build().map_err(failed)?))
        }
        TokenizerKind::Wordpiece | TokenizerKind::Characters => {
            let model = WordPiece::builder().unk_token("[UNK]".into()).build().map_err(failed)?;
            let trainer = WordPieceTrainer::builder().vocab_size(size).min_frequency(config.min_frequency).show_progress(false);
            (ModelWrapper::WordPiece(model), TrainerWrapper::WordPieceTrainer(trainer.special_tokens(specials).build()))
        }
    })
}

/// What stands before and behind the model.
fn around(config: &TokenizerConfig, mut inner: tokenizers::Tokenizer) -> Result<tokenizers::Tokenizer> {
    let normalizer = config.normalizer().map(part::<NormalizerWrapper>).transpose()?;
    inner.with_normalizer(normalizer).map_err(failed)?;
    inner.with_pre_tokenizer(Some(part::<PreTokenizerWrapper>(config.pre_tokenizer())?));
    inner.with_decoder(Some(part::<DecoderWrapper>(config.decoder())?));
    Ok(inner)
}

/// Special tokens behind the vocabulary, and those around a text, whose ids are known only now.
fn finish(config: &TokenizerConfig, mut inner: tokenizers::Tokenizer) -> Result<Tokenizer> {
    // `<extra_id_0>` is the last, as in T5.
    let sentinels = (0..config.sentinels_used()).rev().map(|i| AddedToken::from(format!("<extra_id_{i}>"), true));
    inner.add_special_tokens(sentinels.collect::<Vec<_>>()).map_err(failed)?;
    let id = |t: &str| inner.token_to_id(t).unwrap_or(0);
    if let Some(json) = config.post_processor(id) {
        inner.with_post_processor(Some(part::<PostProcessorWrapper>(json)?));
    }
    Ok(Tokenizer::of(inner))
}

//! Making a vocabulary from a corpus: WordPiece, byte-level BPE, Unigram, the characters themselves, or whole
//! words between white space (codes of diagnoses, say).
//!
//! | kind | after | text is first | a text becomes |
//! |---|---|---|---|
//! | `wordpiece` | BERT (1810.04805) | cleaned, lower case, accents off, cut at spaces and punctuation | `[CLS] text [SEP]` |
//! | `bpe` | GPT-2 (Sennrich et al. 2015, arXiv 1508.07909, on bytes) | cut by GPT-2's pattern | `text`; with `roberta = true`: `<s> text </s>` |
//! | `unigram` | T5 (Kudo 2018, arXiv 1804.10959) | NFKC, one space between words, `▁` before each word | `text </s>` |
//! | `characters` | nanoGPT | as it is | `text` |
//! | `whitespace` | BEHRT (Li et al. 2020, arXiv 1907.09538) | cut at white space | `[CLS] text [SEP]` |

use super::Tokenizer;
use super::parts::{part, template};
use rayon::prelude::*;
use selfsup_core::config::Unread;
use selfsup_core::guard::guarded;
use selfsup_core::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use tokenizers::models::ModelWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::models::unigram::{Unigram, UnigramTrainer};
use tokenizers::models::wordlevel::WordLevel;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::tokenizer::{Normalizer, PreTokenizer, Trainer};
use tokenizers::{
    AddedToken, DecoderWrapper, NormalizedString, NormalizerWrapper, OffsetReferential, OffsetType,
    PreTokenizedString, PreTokenizerWrapper,
};

/// Kind of vocabulary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
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
    /// One token for each word between white space: sequences of codes.
    Whitespace,
}

/// `[tokenizer]`: what a vocabulary is made like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenizerConfig {
    /// Kind of vocabulary.
    pub kind: TokenizerKind,
    /// Number of tokens, special ones included; not read for characters. Of whitespace the most frequent
    /// words.
    pub vocab_size: usize,
    /// Pieces that occur less often are not merged, and words between white space are unknown (`[UNK]`); not
    /// read for Unigram and characters.
    pub min_frequency: u64,
    /// Lower case and, for WordPiece, no accents; not read for whitespace, whose codes stay as they are.
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
    /// Keys that a vocabulary of this kind is not made with.
    pub fn unread(&self) -> Vec<Unread> {
        use TokenizerKind::{Bpe, Characters, Unigram, Whitespace, Wordpiece};
        let of = |key: &str, kinds: &str| Unread::all("tokenizer", &[key], &format!("is read by {kinds}"));
        let mut unread = Vec::new();
        if self.kind == Characters {
            unread.extend(of("vocab_size", "wordpiece, bpe, unigram and whitespace"));
        }
        if !matches!(self.kind, Wordpiece | Bpe | Whitespace) {
            unread.extend(of("min_frequency", "wordpiece, bpe and whitespace"));
        }
        if self.kind == Whitespace {
            unread.extend(of("lowercase", "wordpiece, bpe, unigram and characters"));
        }
        if self.kind != Bpe {
            unread.extend(of("roberta", "bpe"));
        }
        if self.kind != Unigram {
            unread.extend(of("sentinels", "unigram"));
        }
        unread
    }

    /// The usual choices of a kind: BERT's 30,522 in lower case, GPT-2's 50,257, T5's 32,100 with 100
    /// sentinels.
    pub fn of(kind: TokenizerKind) -> Self {
        let (vocab_size, lowercase) = match kind {
            TokenizerKind::Wordpiece => (30_522, true),
            TokenizerKind::Bpe => (50_257, false),
            TokenizerKind::Unigram => (32_100, false),
            TokenizerKind::Characters => (0, false),
            TokenizerKind::Whitespace => (30_522, false),
        };
        TokenizerConfig { kind, vocab_size, lowercase, ..TokenizerConfig::default() }
    }

    fn specials(&self) -> Vec<&'static str> {
        match (self.kind, self.roberta) {
            (TokenizerKind::Wordpiece | TokenizerKind::Whitespace, _) => {
                vec!["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
            }
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
            TokenizerKind::Bpe | TokenizerKind::Characters | TokenizerKind::Whitespace => return None,
        })
    }

    fn pre_tokenizer(&self) -> Value {
        match self.kind {
            TokenizerKind::Wordpiece => json!({"type": "BertPreTokenizer"}),
            TokenizerKind::Bpe => {
                json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true})
            }
            TokenizerKind::Unigram => {
                json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true})
            }
            TokenizerKind::Whitespace => json!({"type": "WhitespaceSplit"}),
            // Every character by itself, line ends too.
            TokenizerKind::Characters => {
                json!({"type": "Split", "pattern": {"Regex": "[\\s\\S]"}, "behavior": "Isolated", "invert": false})
            }
        }
    }

    fn decoder(&self) -> Option<Value> {
        Some(match self.kind {
            TokenizerKind::Wordpiece => json!({"type": "WordPiece", "prefix": "##", "cleanup": true}),
            TokenizerKind::Bpe => {
                json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true})
            }
            TokenizerKind::Unigram => {
                json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true})
            }
            TokenizerKind::Characters => json!({"type": "Fuse"}),
            // With spaces between the tokens.
            TokenizerKind::Whitespace => return None,
        })
    }

    /// The tokens around a text and a pair of texts.
    fn around(&self) -> Option<(&'static str, &'static str)> {
        match (self.kind, self.roberta) {
            (TokenizerKind::Wordpiece | TokenizerKind::Whitespace, _) => {
                Some(("[CLS] A [SEP]", "[CLS] A [SEP] B:1 [SEP]:1"))
            }
            (TokenizerKind::Bpe, true) => Some(("<s> A </s>", "<s> A </s> </s> B </s>")),
            (TokenizerKind::Unigram, _) => Some(("A </s>", "A </s> B </s>")),
            (TokenizerKind::Bpe, false) | (TokenizerKind::Characters, _) => None,
        }
    }
}

fn failed(e: impl std::fmt::Display) -> Error {
    Error::Other(format!("training a tokenizer: {e}"))
}

/// Makes a tokenizer from `texts`.
///
/// # Errors
/// The first error of `texts`; a corpus without text; a vocabulary too small for the special tokens and the
/// alphabet.
pub fn train(
    config: &TokenizerConfig,
    texts: impl Iterator<Item = Result<String>> + Send,
) -> Result<Tokenizer> {
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
    let specials: Vec<AddedToken> =
        config.specials().into_iter().map(|t| AddedToken::from(t, true)).collect();
    if config.kind != TokenizerKind::Characters
        && config.vocab_size <= specials.len() + config.sentinels_used()
    {
        return Err(Error::config(format!(
            "tokenizer.vocab_size = {}: expected more than the {} special tokens",
            config.vocab_size,
            specials.len() + config.sentinels_used()
        )));
    }
    let inner = match config.kind {
        TokenizerKind::Characters => {
            let all: BTreeSet<char> = texts
                .flat_map(|t| if config.lowercase { t.to_lowercase() } else { t }.chars().collect::<Vec<_>>())
                .collect();
            let vocabulary = all.into_iter().enumerate().map(|(i, c)| (c.to_string(), i as u32)).collect();
            let model =
                WordLevel::builder().vocab(vocabulary).unk_token("<unk>".into()).build().map_err(failed)?;
            around(config, tokenizers::Tokenizer::new(ModelWrapper::WordLevel(model)))?
        }
        kind => {
            let mut inner = around(config, tokenizers::Tokenizer::new(ModelWrapper::BPE(BPE::default())))?;
            let words = count(&inner, texts)?;
            inner.with_model(pieces(config, kind, &specials, &words)?);
            inner.add_special_tokens(specials).map_err(failed)?;
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

/// How often each word occurs, in the order of the words.
fn count(
    inner: &tokenizers::Tokenizer,
    texts: impl Iterator<Item = String>,
) -> Result<BTreeMap<String, u64>> {
    let words = |text: &String| -> tokenizers::Result<Vec<String>> {
        let mut normal = NormalizedString::from(text.as_str());
        if let Some(n) = inner.get_normalizer() {
            n.normalize(&mut normal)?;
        }
        let mut split = PreTokenizedString::from(normal);
        if let Some(p) = inner.get_pre_tokenizer() {
            p.pre_tokenize(&mut split)?;
        }
        let parts = split.get_splits(OffsetReferential::Original, OffsetType::Byte);
        Ok(parts.into_iter().map(|(word, _, _)| word.to_string()).collect())
    };
    let (mut counts, mut texts) = (BTreeMap::new(), texts.fuse());
    loop {
        let batch: Vec<String> = texts.by_ref().take(1024).collect();
        if batch.is_empty() {
            return Ok(counts);
        }
        let split: Vec<Vec<String>> =
            batch.par_iter().map(words).collect::<tokenizers::Result<_>>().map_err(failed)?;
        split.into_iter().flatten().for_each(|w| *counts.entry(w).or_default() += 1);
    }
}

/// The vocabulary of pieces of words.
///
/// The library keeps words in hash maps whose order differs from run to run, and so would the ids. Here the
/// words come sorted, and for WordPiece the characters inside of words have their ids beforehand, which
/// leaves nothing to that order; for Unigram see [`in_order`].
fn pieces(
    config: &TokenizerConfig,
    kind: TokenizerKind,
    specials: &[AddedToken],
    words: &BTreeMap<String, u64>,
) -> Result<ModelWrapper> {
    if words.is_empty() {
        // Reported by the caller, behind an error of the texts.
        return Ok(ModelWrapper::BPE(BPE::default()));
    }
    let size = config.vocab_size - config.sentinels_used();
    if kind == TokenizerKind::Whitespace {
        return whole_words(config, specials, words);
    }
    if kind == TokenizerKind::Unigram {
        let mut builder = UnigramTrainer::builder();
        builder.vocab_size(u32::try_from(size).map_err(failed)?).show_progress(false);
        builder.special_tokens(specials.to_vec()).unk_token(Some("<unk>".into()));
        let sentences =
            words.iter().map(|(w, n)| (w.clone(), u32::try_from(*n).unwrap_or(u32::MAX))).collect();
        let (trainer, mut model) = (builder.build().map_err(failed)?, Unigram::default());
        // The library gives up on corpora of a few words by a panic.
        let done = guarded(|| trainer.do_train(sentences, &mut model));
        done.map_err(|_| failed("the corpus is too small for pieces of words"))?.map_err(failed)?;
        return Ok(ModelWrapper::Unigram(in_order(&model, specials.len())?));
    }
    let builder =
        BpeTrainer::builder().vocab_size(size).min_frequency(config.min_frequency).show_progress(false);
    let mut first = specials.to_vec();
    let mut trainer = if kind == TokenizerKind::Bpe {
        // All 256 bytes, so that no text is unknown.
        builder.initial_alphabet(ByteLevel::alphabet().into_iter().collect()).special_tokens(first).build()
    } else {
        let inside: BTreeSet<char> = words.keys().flat_map(|w| w.chars().skip(1)).collect();
        first.extend(inside.into_iter().map(|c| AddedToken::from(format!("##{c}"), false)));
        builder.continuing_subword_prefix("##".into()).special_tokens(first).build()
    };
    // A word as often as it occurs, in portions.
    const PORTION: u64 = 1 << 16;
    let portions = words
        .iter()
        .flat_map(|(word, n)| (0..n.div_ceil(PORTION)).map(move |i| (word, PORTION.min(n - i * PORTION))));
    let fed = portions.map(|(word, n)| format!("{n} {word}")).collect::<Vec<_>>();
    let repeat = |portion: &str| {
        let (n, word) = portion.split_once(' ').unwrap_or(("0", ""));
        Ok(vec![word.to_string(); n.parse().unwrap_or(0)])
    };
    trainer.feed(fed.into_iter(), repeat).map_err(failed)?;
    let mut bpe = BPE::default();
    trainer.train(&mut bpe).map_err(failed)?;
    if kind == TokenizerKind::Bpe {
        return Ok(ModelWrapper::BPE(bpe));
    }
    let mut model = WordPiece::from_bpe(&bpe);
    model.unk_token = "[UNK]".into();
    model.continuing_subword_prefix = "##".into();
    Ok(ModelWrapper::WordPiece(model))
}

/// The most frequent words behind the special tokens.
fn whole_words(
    config: &TokenizerConfig,
    specials: &[AddedToken],
    words: &BTreeMap<String, u64>,
) -> Result<ModelWrapper> {
    let special = |word: &str| specials.iter().any(|s| s.content == word);
    let mut kept: Vec<(&String, u64)> = words
        .iter()
        .filter(|(word, n)| **n >= config.min_frequency && !special(word))
        .map(|(word, n)| (word, *n))
        .collect();
    if kept.is_empty() {
        return Err(Error::config(format!(
            "tokenizer.min_frequency = {}: none of {} words occurs as often",
            config.min_frequency,
            words.len()
        )));
    }
    kept.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
    kept.truncate(config.vocab_size - specials.len());
    let all = specials.iter().map(|s| &s.content).chain(kept.into_iter().map(|(word, _)| word));
    let vocabulary = all.enumerate().map(|(i, word)| (word.clone(), i as u32)).collect();
    let model = WordLevel::builder().vocab(vocabulary).unk_token("[UNK]".into()).build().map_err(failed)?;
    Ok(ModelWrapper::WordLevel(model))
}

/// A Unigram model without the traces of a run. The library adds up probabilities in the order of its
/// threads, gives equally likely pieces the order of a hash map, and characters that it has no probability
/// for the lowest one plus steps of 1e-4, in that order too. Here scores are rounded to 1e-9, such characters
/// have the lowest score all, and equals stand in the order of the alphabet.
fn in_order(model: &Unigram, specials: usize) -> Result<Unigram> {
    const STEP: f64 = 1e-4;
    let mut all: Vec<(String, f64)> = model.iter().cloned().collect();
    let mut rest = all.split_off(specials.min(all.len()));
    let single = |piece: &str| piece.chars().count() == 1;
    let (lowest, singles) =
        (rest.iter().fold(f64::INFINITY, |m, p| m.min(p.1)), rest.iter().filter(|p| single(&p.0)).count());
    for (piece, score) in &mut rest {
        let steps = (*score - lowest) / STEP;
        if single(piece) && steps.round() < singles as f64 && (steps - steps.round()).abs() < 1e-3 {
            *score = lowest;
        }
        *score = (*score * 1e9).round() / 1e9;
    }
    rest.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let unknown = all.iter().position(|(piece, _)| piece == "<unk>");
    all.extend(rest);
    Unigram::from(all, unknown, model.byte_fallback()).map_err(failed)
}

/// What stands before and behind the model.
fn around(config: &TokenizerConfig, mut inner: tokenizers::Tokenizer) -> Result<tokenizers::Tokenizer> {
    let normalizer = config.normalizer().map(part::<NormalizerWrapper>).transpose()?;
    inner.with_normalizer(normalizer).map_err(failed)?;
    inner.with_pre_tokenizer(Some(part::<PreTokenizerWrapper>(config.pre_tokenizer())?));
    inner.with_decoder(config.decoder().map(part::<DecoderWrapper>).transpose()?);
    Ok(inner)
}

/// Special tokens behind the vocabulary, and those around a text, whose ids are known only now.
fn finish(config: &TokenizerConfig, mut inner: tokenizers::Tokenizer) -> Result<Tokenizer> {
    // `<extra_id_0>` is the last, as in T5.
    let sentinels =
        (0..config.sentinels_used()).rev().map(|i| AddedToken::from(format!("<extra_id_{i}>"), true));
    inner.add_special_tokens(sentinels.collect::<Vec<_>>()).map_err(failed)?;
    if let Some((single, pair)) = config.around() {
        let post = template(single, pair, |t| inner.token_to_id(t))?;
        inner.with_post_processor(Some(post));
    }
    let made = Tokenizer::of(inner);
    if config.kind != TokenizerKind::Characters && made.size() > config.vocab_size {
        return Err(Error::config(format!(
            "tokenizer.vocab_size = {}: expected at least {}, the special tokens and the characters of the corpus",
            config.vocab_size,
            made.size()
        )));
    }
    Ok(made)
}

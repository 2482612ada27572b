//! From text to token ids and back: any `tokenizer.json`, the vocabularies of released folders that have
//! none, and what a model has to know of them.

mod convert;
mod parts;
mod save;
mod special;
mod train;
mod windows;

pub use special::Specials;
pub use train::{TokenizerConfig, TokenizerKind, train};
pub use windows::Window;

use crate::batch::{Example, Vocabulary};
use selfsup_core::guard::guarded;
use selfsup_core::{Error, Result};
use std::path::{Path, PathBuf};
use tokenizers::AddedToken;
use tokenizers::models::ModelWrapper;

/// Largest `tokenizer.json` that is read.
const MAX_FILE: u64 = 512 << 20;
/// Ids above this are refused: a model has a row of its embedding for each.
const MAX_IDS: usize = 1 << 24;
/// Longer texts are tokenised in pieces, cut before white space: a tokeniser keeps some hundred bytes for
/// each token of a piece.
const PIECE: usize = 1 << 20;

/// A tokenizer with the roles of its special tokens.
#[derive(Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    special: Specials,
    /// Where it was read from, for messages.
    path: PathBuf,
    /// How it was converted.
    note: Option<String>,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("size", &self.size())
            .field("special", &self.special)
            .field("path", &self.path)
            .finish()
    }
}

impl Tokenizer {
    /// Whether `path` is a folder with a tokenizer, or a vocabulary that [`Tokenizer::load`] converts.
    pub fn is_at(path: impl AsRef<Path>) -> bool {
        let path = path.as_ref();
        path.join("tokenizer.json").is_file() || convert::Files::at(path).is_some()
    }

    /// Reads a `tokenizer.json`, or the one in a folder. Without one it converts `vocab.json` with
    /// `merges.txt` (byte-level BPE), `vocab.txt` (WordPiece) or a `.model` of sentencepiece;
    /// [`Tokenizer::note`] says so. The roles of special tokens come from `tokenizer_config.json` and
    /// `special_tokens_map.json` beside it, else from the usual names.
    ///
    /// # Errors
    /// If there is none, or it is not understood; the message names the file.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let file = if path.is_dir() { path.join("tokenizer.json") } else { path.to_path_buf() };
        let whole = path.is_dir() && file.is_file();
        if let Some(files) = convert::Files::at(path).filter(|_| !whole) {
            return Self::converted(&files);
        }
        if path.is_dir() && !file.is_file() {
            return Err(Error::file(
                path,
                "no tokenizer.json in this folder, nor vocab.json with merges.txt, vocab.txt or a .model",
            ));
        }
        let bytes = selfsup_core::file::read_up_to(&file, MAX_FILE)?;
        // The library gives up on some damaged files by a panic.
        let read = guarded(|| tokenizers::Tokenizer::from_bytes(&bytes));
        let mut inner = read
            .map_err(|_| Error::file(&file, "not a tokenizer.json: it is damaged or cut short"))?
            .map_err(|e| Error::file(&file, format!("not a tokenizer.json: {e}")))?;
        // Batches are padded and cut by this library, whatever the file was saved with.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| Error::file(&file, e))?;
        let special = Specials::read(&inner, file.parent().unwrap_or(Path::new(".")))?;
        Tokenizer { inner, special, path: file, note: None }.bounded()
    }

    fn converted(files: &convert::Files) -> Result<Self> {
        let (inner, note) = files.convert()?;
        let path = files.main().to_path_buf();
        let special = Specials::read(&inner, path.parent().unwrap_or(Path::new(".")))?;
        Tokenizer { inner, special, path, note: Some(note) }.bounded()
    }

    /// Ids decide how large embeddings become: a file of some bytes must not ask for all memory.
    fn bounded(self) -> Result<Self> {
        let size = self.size();
        if size > MAX_IDS {
            return Err(Error::file(
                &self.path,
                format!("a token has the id {}, expected ids below {MAX_IDS}", size - 1),
            ));
        }
        Ok(self)
    }

    /// A tokenizer that was made in memory; special tokens by their usual names.
    fn of(inner: tokenizers::Tokenizer) -> Self {
        let special = Specials::usual(&inner);
        Tokenizer { inner, special, path: PathBuf::from("tokenizer"), note: None }
    }

    /// From which files it was converted, where it was no `tokenizer.json`: for the user.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// With `count` sentinels `<extra_id_N>` behind the vocabulary, the first of them last as in T5, and with
    /// a token that ends a text (`</s>`) before them, where it has none.
    ///
    /// # Errors
    /// If the tokens cannot be added.
    pub fn with_sentinels(mut self, count: usize) -> Result<Self> {
        let end = self.special.end.is_none().then(|| "</s>".to_string());
        let names = (0..count).rev().map(|i| format!("<extra_id_{i}>"));
        let all: Vec<AddedToken> = end.into_iter().chain(names).map(|t| AddedToken::from(t, true)).collect();
        self.inner.add_special_tokens(all).map_err(|e| Error::input(self.path.display(), e))?;
        self.special.add_sentinels(&self.inner);
        Ok(self)
    }

    /// Ids are below this: the vocabulary with its added tokens.
    pub fn size(&self) -> usize {
        // Not the count: a vocabulary may have holes.
        self.inner.get_vocab(true).values().max().map_or(0, |v| *v as usize + 1)
    }

    /// The roles of its special tokens.
    pub fn special(&self) -> &Specials {
        &self.special
    }

    /// What a model and a mask have to know of it. Without a padding token, its end token or else token 0
    /// stands in for one.
    pub fn vocabulary(&self) -> Vocabulary {
        let s = &self.special;
        Vocabulary {
            size: self.size(),
            pad: s.pad.or(s.end).unwrap_or(0),
            mask: s.mask,
            special: s.all.clone(),
            end: s.end,
            sentinels: s.sentinels.clone(),
        }
    }

    /// Refuses a model with fewer embeddings than there are tokens.
    ///
    /// # Errors
    /// Naming both numbers.
    pub fn fits(&self, embeddings: usize) -> Result<()> {
        let size = self.size();
        if size <= embeddings {
            return Ok(());
        }
        let what = self.path.display();
        Err(Error::config(format!(
            "{what}: {size} tokens, but the model has {embeddings} embeddings: they belong to different models"
        )))
    }

    /// All that decides what it makes of a text, as JSON: the same for the same tokenizer.
    ///
    /// # Errors
    /// If it cannot be written as JSON.
    pub fn description(&self) -> Result<String> {
        self.inner.to_string(false).map_err(|e| Error::input(self.path.display(), e))
    }

    /// Special tokens that stand around a text.
    pub fn around(&self) -> usize {
        tokenizers::PostProcessor::added_tokens(&Around(&self.inner), false)
    }

    /// The token with this id.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The id of this token.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The ids of a text, without the tokens that a model wants around it.
    ///
    /// # Errors
    /// If a character is not in a vocabulary that has no token for the unknown.
    pub fn ids(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        for piece in pieces(text, PIECE) {
            let e = self.guarded(piece, |t| t.encode_fast(piece, false))?;
            ids.extend_from_slice(e.get_ids());
        }
        Ok(ids)
    }

    /// One text (or a pair) as a model wants it, with words and, for a pair, types; at most `longest` tokens,
    /// of which the special ones are kept. Of a pair the longer text is cut first.
    ///
    /// # Errors
    /// As [`Tokenizer::ids`]; and if the special tokens alone are more than `longest`.
    pub fn example(&self, text: &str, pair: Option<&str>, longest: usize) -> Result<Example> {
        // A token is at least a byte of most texts, so the first megabyte is enough for any model.
        let first = |text| pieces(text, PIECE).next().unwrap_or_default();
        let encode = |text: &str| self.guarded(text, |t| t.encode(text, false));
        let mut a = encode(first(text))?;
        let mut b = pair.map(|p| encode(first(p))).transpose()?;
        let around = tokenizers::PostProcessor::added_tokens(&Around(&self.inner), b.is_some());
        let Some(room) = longest.checked_sub(around) else {
            return Err(Error::config(format!("{longest} tokens are too few for the {around} special ones")));
        };
        let (la, lb) = (a.len(), b.as_ref().map_or(0, |b| b.len()));
        // The longer text is cut first; where both are longer than half, each gets half.
        let half = room / 2;
        let keep = if lb <= half { lb } else { (room - la.min(room - half)).min(lb) };
        let cut = |text: &mut tokenizers::Encoding, keep: usize| {
            text.truncate(keep, 0, tokenizers::TruncationDirection::Right);
            // What was cut off would be processed too.
            text.take_overflowing();
        };
        if la > room - keep {
            cut(&mut a, room - keep);
        }
        if let Some(b) = b.as_mut().filter(|b| b.len() > keep) {
            cut(b, keep);
        }
        let e = self.guarded(text, |t| t.post_process(a, b, true))?;
        // Words of the second text number on.
        let mut words = Vec::with_capacity(e.len());
        let offset = |id: u32| {
            e.get_word_ids()
                .iter()
                .zip(e.get_type_ids())
                .filter(|(_, t)| **t < id)
                .filter_map(|(w, _)| *w)
                .max()
        };
        let before = offset(1).map_or(0, |w| w + 1);
        for ((word, kind), special) in
            e.get_word_ids().iter().zip(e.get_type_ids()).zip(e.get_special_tokens_mask())
        {
            words.push(word.filter(|_| *special == 0).map(|w| if *kind > 0 { w + before } else { w }));
        }
        let types = if pair.is_some() { e.get_type_ids().to_vec() } else { Vec::new() };
        Ok(Example { types, words, ..Example::new(e.get_ids().to_vec()) })
    }

    /// The text of `ids`, without special tokens.
    ///
    /// # Errors
    /// If the decoder refuses them.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.decoded(ids, true)
    }

    /// The text of `ids` with its special tokens, such as the sentinels between the spans that a T5 writes.
    ///
    /// # Errors
    /// If the decoder refuses them.
    pub fn decode_whole(&self, ids: &[u32]) -> Result<String> {
        self.decoded(ids, false)
    }

    /// For each token, whether a word begins with it: what packed blocks, which keep ids alone, number words
    /// by. Pieces of a word are known by their marks (`##`, `Ġ`, `▁`); a tokenizer without marks has a word a
    /// token.
    pub fn word_starts(&self) -> Vec<bool> {
        let vocabulary = self.inner.get_vocab(true);
        let mut starts = vec![true; self.size()];
        let marked = |mark: char| {
            vocabulary.keys().filter(|t| t.starts_with(mark) && t.chars().count() > 1).count() * 50
                > vocabulary.len()
        };
        let wordpiece = matches!(self.inner.get_model(), ModelWrapper::WordPiece(_));
        let mark = ['Ġ', '▁'].into_iter().find(|m| marked(*m));
        // Sorted: the order of a hash map must not be seen, though it would not matter here.
        let sorted: std::collections::BTreeMap<_, _> = vocabulary.iter().collect();
        for (token, id) in sorted {
            starts[*id as usize] = match mark {
                _ if wordpiece => !token.starts_with("##"),
                // Punctuation has no mark and is a word all the same.
                Some(mark) => {
                    token.starts_with(mark) || !token.chars().next().is_some_and(char::is_alphanumeric)
                }
                None => true,
            };
        }
        starts
    }

    fn decoded(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        let text = guarded(|| self.inner.decode(ids, skip_special)).map_err(|_| {
            Error::input(self.path.display(), "its decoder gave up on the ids: is the file damaged?")
        })?;
        text.map_err(|e| Error::input(self.path.display(), e))
    }

    /// A call into the library, for `text`: it gives up on some damaged files by a panic.
    fn guarded<T>(
        &self,
        text: &str,
        call: impl FnOnce(&tokenizers::Tokenizer) -> tokenizers::Result<T>,
    ) -> Result<T> {
        guarded(|| call(&self.inner))
            .map_err(|_| self.failed(text, &"the tokenizer gave up on it: is the file damaged?"))?
            .map_err(|e| self.failed(text, &e))
    }

    fn failed(&self, text: &str, why: &dyn std::fmt::Display) -> Error {
        let start: String = text.chars().take(40).collect();
        let unknown = text.chars().find(|c| self.inner.token_to_id(c.encode_utf8(&mut [0; 4])).is_none());
        let hint = match (self.special.unknown, self.inner.get_model(), unknown) {
            (None, ModelWrapper::WordLevel(_), Some(c)) => {
                format!(" (the character {c:?} is not in the vocabulary, which has no unknown token)")
            }
            _ => String::new(),
        };
        Error::input(self.path.display(), format!("cannot tokenise {start:?}: {why}{hint}"))
    }
}

/// The post-processor of a tokenizer, or none.
struct Around<'a>(&'a tokenizers::Tokenizer);

impl tokenizers::PostProcessor for Around<'_> {
    fn added_tokens(&self, is_pair: bool) -> usize {
        self.0.get_post_processor().map_or(0, |p| p.added_tokens(is_pair))
    }
    fn process_encodings(
        &self,
        encodings: Vec<tokenizers::Encoding>,
        _add: bool,
    ) -> tokenizers::Result<Vec<tokenizers::Encoding>> {
        Ok(encodings)
    }
}

/// `text` in pieces of at most about `limit` bytes, cut before the last white space, or at a character where
/// there is none.
fn pieces(text: &str, limit: usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut end = rest.len();
        if end > limit {
            end = limit;
            while !rest.is_char_boundary(end) {
                end -= 1;
            }
            // White space at the start of the next piece, as byte-level tokenizers want it.
            if let Some(space) = rest[..end].rfind(char::is_whitespace).filter(|s| *s > 0) {
                end = space;
            }
        }
        let (piece, after) = rest.split_at(end);
        rest = after;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pieces_make_up_the_text(text in "[ a-zäß\n漢]{0,200}", limit in 4_usize..40) {
            let all: Vec<&str> = pieces(&text, limit).collect();
            prop_assert_eq!(all.concat(), text.as_str());
            prop_assert!(all.iter().all(|p| !p.is_empty() && p.len() <= limit));
        }
    }
}

//! What labelled tasks ask of a tokenizer: where tokens stand in a text that is longer than a model, and
//! which word they belong to.

use super::{Around, PIECE, Tokenizer, pieces};
use crate::batch::Example;
use selfsup_core::{Error, Result};
use tokenizers::{Encoding, PostProcessor, TruncationDirection};

/// A question and a part of a text, as a model wants them.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// The tokens of both.
    pub example: Example,
    /// For each token of the text its bytes there; `None` for tokens of the question and special ones.
    pub spans: Vec<Option<(usize, usize)>>,
}

impl Tokenizer {
    /// All of a text as examples of at most `longest` tokens each, with the special tokens around every one:
    /// one where it fits, else windows of like length that lie side by side.
    ///
    /// # Errors
    /// As [`Tokenizer::example`]; and if the special tokens leave no room for a token of a longer text.
    pub fn whole(&self, text: &str, longest: usize) -> Result<Vec<Example>> {
        let around = Around(&self.inner).added_tokens(false);
        let mut out = Vec::new();
        for piece in pieces(text, PIECE) {
            let mut e: Encoding = self.inner.encode(piece, false).map_err(|e| self.failed(piece, &e))?;
            let room = longest.saturating_sub(around);
            if e.len() <= room && piece.len() == text.len() {
                break;
            }
            if room == 0 {
                return Err(Error::config(format!(
                    "{longest} tokens are too few for the {around} special ones and one of a text"
                )));
            }
            let windows = e.len().div_ceil(room).max(1);
            e.truncate(e.len().div_ceil(windows), 0, TruncationDirection::Right);
            let mut parts = e.take_overflowing();
            parts.insert(0, e);
            for mut part in parts.into_iter().filter(|part| !part.is_empty()) {
                part.take_overflowing();
                let e = self.inner.post_process(part, None, true).map_err(|e| self.failed(piece, &e))?;
                out.push(Example::new(e.get_ids().to_vec()));
            }
        }
        if out.is_empty() { Ok(vec![self.example(text, None, longest)?]) } else { Ok(out) }
    }

    /// `question` with one part of `text` after the other, each window at most `longest` tokens; neighbours
    /// share `stride` tokens of the text (Devlin et al.'s sliding window), so that an answer on an edge
    /// stands whole in one of them.
    ///
    /// # Errors
    /// If a text is larger than a megabyte or cannot be tokenised, or the question leaves no room for more
    /// than `stride` tokens.
    pub fn windows(&self, question: &str, text: &str, longest: usize, stride: usize) -> Result<Vec<Window>> {
        if text.len() > PIECE {
            return Err(Error::input("text", format!("{} bytes, expected at most {PIECE}", text.len())));
        }
        let encode = |text: &str| self.inner.encode(text, false).map_err(|e| self.failed(text, &e));
        let (q, mut whole) = (encode(question)?, encode(text)?);
        let around = Around(&self.inner).added_tokens(true);
        let room = longest.saturating_sub(around + q.len());
        if room <= stride {
            return Err(Error::input(
                "question",
                format!(
                    "{} tokens and {around} special ones leave {room} of {longest} for the text, expected more than {stride}",
                    q.len()
                ),
            ));
        }
        whole.truncate(room, stride, TruncationDirection::Right);
        let mut parts = whole.take_overflowing();
        parts.insert(0, whole);
        parts
            .into_iter()
            .map(|mut part| {
                part.take_overflowing();
                let e = self
                    .inner
                    .post_process(q.clone(), Some(part), true)
                    .map_err(|e| self.failed(text, &e))?;
                let special = e.get_special_tokens_mask();
                let spans = e.get_sequence_ids().into_iter().zip(e.get_offsets()).zip(special);
                let spans = spans
                    .map(|((sequence, &at), &special)| (sequence == Some(1) && special == 0).then_some(at))
                    .collect();
                let example =
                    Example { types: e.get_type_ids().to_vec(), ..Example::new(e.get_ids().to_vec()) };
                Ok(Window { example, spans })
            })
            .collect()
    }

    /// A sentence that is cut into words already (named entities, parts of speech), with the special tokens
    /// around it: each token knows the number of its word. At most `longest` tokens: words behind that are
    /// left out.
    ///
    /// # Errors
    /// If a word cannot be tokenised, or the special tokens alone are more than `longest`.
    pub fn sentence(&self, words: &[impl AsRef<str>], longest: usize) -> Result<Example> {
        let around = Around(&self.inner).added_tokens(false);
        let room = longest.checked_sub(around);
        let room = room.ok_or_else(|| {
            Error::config(format!("{longest} tokens are too few for the {around} special ones"))
        })?;
        let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
        let mut e: Encoding =
            self.inner.encode(words.as_slice(), false).map_err(|e| self.failed(&words.join(" "), &e))?;
        if e.len() > room {
            e.truncate(room, 0, TruncationDirection::Right);
            e.take_overflowing();
        }
        let e = self.inner.post_process(e, None, true).map_err(|e| self.failed(&words.join(" "), &e))?;
        let numbers = e.get_word_ids().iter().zip(e.get_special_tokens_mask());
        let numbers = numbers.map(|(word, special)| word.filter(|_| *special == 0)).collect();
        Ok(Example { words: numbers, ..Example::new(e.get_ids().to_vec()) })
    }
}

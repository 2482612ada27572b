//! `[corpus]`: from documents to what a method is trained on.

use super::blocks::Around;
use super::shards::stale;
use super::{Blocks, Document, Documents, Reader, ShardWriter, Tokens, Unit, files};
use crate::batch::{Example, Pad, Vocabulary};
use crate::recipe::MethodConfig;
use crate::tokenizer::Tokenizer;
use rayon::prelude::*;
use selfsup_core::checkpoint::made_once;
use selfsup_core::config::Unread;
use selfsup_core::data::{Dataset, Loader, LoaderConfig, Transform};
use selfsup_core::run::Display;
use selfsup_core::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How documents become examples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Packing {
    /// Documents one behind the other, cut into blocks of one length: no padding.
    #[default]
    Blocks,
    /// One example a document, cut at the length and padded.
    Documents,
}

/// The keys of `[corpus]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CorpusConfig {
    /// What a document of a plain text file is: `line`, `paragraph` or `file`.
    pub unit: Unit,
    /// The key or column with the text in JSON lines and tables.
    pub column: String,
    /// `blocks` or `documents`.
    pub packing: Packing,
    /// Tokens of an input; by default as many as the network takes, and at most 512.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length: Option<usize>,
    /// Tokens from the start of a block to that of the next; by default blocks lie side by side. 1 gives
    /// every block there is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stride: Option<usize>,
    /// Text between two documents. By default nothing, and the tokenizer's end of a text is set behind each
    /// where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub separator: Option<String>,
    /// Read no more than this many characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_characters: Option<usize>,
    /// Share at the end of the corpus that is held out for the validation loss.
    pub validation: f64,
    /// Megabytes of files up to which a corpus is held in memory (compressed ones count four times). A larger
    /// one is written to the disk once, as texts and as tokens, and read by position from there.
    pub in_memory: u64,
    /// The folder for that; by default `corpora` in the cache of data sets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<String>,
}

impl CorpusConfig {
    /// Keys that nothing reads: of blocks where every document is an example, and of pre-training in a task.
    pub fn unread(&self, task: bool) -> Vec<Unread> {
        if task {
            let why = "is read in pre-training: a task takes its texts one by one";
            return Unread::all("corpus", &["packing", "stride", "validation"], why);
        }
        match self.packing {
            Packing::Blocks => Vec::new(),
            Packing::Documents => {
                Unread::all("corpus", &["stride"], "is read with corpus.packing = \"blocks\"")
            }
        }
    }
}

impl Default for CorpusConfig {
    fn default() -> Self {
        CorpusConfig {
            unit: Unit::Line,
            column: "text".into(),
            packing: Packing::Blocks,
            length: None,
            stride: None,
            separator: None,
            max_characters: None,
            validation: 0.0,
            in_memory: 256,
            cache: None,
        }
    }
}

/// Any data set of examples.
pub type Examples = Arc<dyn Dataset<Item = Example>>;
/// Reads examples, labels and pads them.
pub type TextLoader = Loader<dyn Dataset<Item = Example>, dyn Transform<Example, Out = Example>, Pad>;

/// A tokenised corpus, ready for a method.
#[derive(Clone)]
pub struct Prepared {
    /// What is trained on.
    pub train: Examples,
    /// What was held out.
    pub validation: Option<Examples>,
    /// What is known of the tokenizer.
    pub vocabulary: Vocabulary,
    /// All tokens.
    pub tokens: Tokens,
}

/// Documents that are tokenised at once.
const BATCH: usize = 512;
/// Tokens of a shard: 256 MiB at two bytes each.
const SHARD: u64 = 128 << 20;

impl CorpusConfig {
    /// Reads the documents of a file, or of the files of text below a folder.
    ///
    /// # Errors
    /// If there are none, or a folder cannot be read.
    pub fn documents(&self, path: impl AsRef<Path>) -> Result<Reader> {
        Ok(Reader::new(files(path.as_ref())?, self.unit, &self.column))
    }

    /// The number of tokens that an input has, for a network of `longest`.
    ///
    /// # Errors
    /// If it is more than the network takes.
    pub fn length(&self, longest: usize) -> Result<usize> {
        let length = self.length.unwrap_or(longest.min(512));
        if length == 0 || length > longest {
            return Err(Error::config(format!(
                "corpus.length = {length}: expected 1 to {longest}, the longest sequence of the encoder"
            )));
        }
        Ok(length)
    }

    /// The texts that are tokenised: with separators, and no more than wanted.
    pub fn texts<'a>(
        &'a self,
        documents: impl Iterator<Item = Result<Document>> + Send + 'a,
    ) -> impl Iterator<Item = Result<String>> + Send + 'a {
        let (mut first, mut left) = (true, self.max_characters.unwrap_or(usize::MAX));
        documents.map_while(move |document| {
            if left == 0 {
                return None;
            }
            Some(document.map(|d| {
                let mut text = match &self.separator {
                    Some(s) if !first => format!("{s}{}", d.text),
                    _ => d.text,
                };
                first = false;
                // A byte is at most a character.
                if left < text.len()
                    && let Some((end, _)) = text.char_indices().nth(left)
                {
                    text.truncate(end);
                }
                left -= text.chars().count().min(left);
                text
            }))
        })
    }

    /// Tokenises documents, in memory or into shards in a folder; `cache` is the folder and a description of
    /// what the tokens are made from. A folder that says the same is used as it is; one that is damaged is made
    /// again. Of several processes with the same cache one makes it, and the others wait for it.
    ///
    /// # Errors
    /// Those of the documents, and a corpus without text.
    pub fn tokenize(
        &self,
        documents: impl Iterator<Item = Result<Document>> + Send,
        tokenizer: &Tokenizer,
        cache: Option<(&Path, &str)>,
    ) -> Result<Tokens> {
        let size = tokenizer.size();
        // All that decides the tokens, beside the documents.
        let source = cache.map(|(_, s)| {
            format!(
                "{s}; unit {:?}, column {}, separator {:?}, limit {:?}",
                self.unit, self.column, self.separator, self.max_characters
            )
        });
        let (Some((folder, _)), Some(source)) = (cache, &source) else {
            return self.tokenize_into(None, documents, tokenizer);
        };
        let waiting = || {
            let note = format!("waiting for another process, which is making {} ...", folder.display());
            Display::new(Duration::ZERO).note(&note);
        };
        made_once(
            folder,
            stale,
            || Tokens::open_if(folder, size, source),
            waiting,
            || {
                let writer = ShardWriter::create(folder, size, source, SHARD)?;
                self.tokenize_into(Some(writer), documents, tokenizer)
            },
        )
    }

    /// The tokens of all documents, in memory or in the shards of `writer`.
    fn tokenize_into(
        &self,
        mut writer: Option<ShardWriter>,
        documents: impl Iterator<Item = Result<Document>> + Send,
        tokenizer: &Tokenizer,
    ) -> Result<Tokens> {
        let end = if self.separator.is_some() { None } else { tokenizer.special().end };
        let mut memory = Vec::new();
        let mut texts = self.texts(documents);
        loop {
            let batch = texts.by_ref().take(BATCH).collect::<Result<Vec<_>>>()?;
            if batch.is_empty() {
                break;
            }
            let made: Vec<Result<Vec<u32>>> = batch.par_iter().map(|text| tokenizer.ids(text)).collect();
            for ids in made {
                let mut ids = ids?;
                if ids.is_empty() {
                    continue;
                }
                ids.extend(end);
                match &mut writer {
                    Some(w) => w.push(&ids)?,
                    None => memory.push(ids),
                }
            }
        }
        match writer {
            Some(w) => w.finish(),
            None => Tokens::memory(memory),
        }
    }

    /// Cuts tokens into examples for `method` and a network of `longest`.
    ///
    /// # Errors
    /// If the sizes do not fit each other.
    pub fn examples(
        &self,
        tokens: Tokens,
        tokenizer: &Tokenizer,
        method: &MethodConfig,
        longest: usize,
    ) -> Result<Prepared> {
        if !(0.0..1.0).contains(&self.validation) {
            return Err(Error::config(format!(
                "corpus.validation = {}: expected a share from 0 to below 1",
                self.validation
            )));
        }
        let length = method.text_length(self.length(longest)?);
        let s = tokenizer.special();
        // Models that read both ways have a token in front and one behind; others only those of the text.
        let around = if method.both_ways() {
            Around {
                front: s.class.or(s.begin),
                back: s.separator.or(s.end),
                word_starts: Some(Arc::new(tokenizer.word_starts())),
            }
        } else {
            Around::default()
        };
        let part = |validation: bool| -> Result<Examples> {
            Ok(match self.packing {
                Packing::Blocks => {
                    // Blocks whose last token is the next one's first: each token but the corpus' first is
                    // predicted once.
                    let apart = if matches!(method, MethodConfig::CausalLm(_)) { length - 1 } else { length };
                    let stride = match (self.stride, validation) {
                        (Some(s), false) => s,
                        _ => apart.saturating_sub(
                            usize::from(around.front.is_some()) + usize::from(around.back.is_some()),
                        ),
                    };
                    Arc::new(Blocks::new(
                        tokens.clone(),
                        length,
                        stride,
                        around.clone(),
                        self.validation,
                        validation,
                    )?)
                }
                Packing::Documents => Arc::new(Documents::new(
                    tokens.clone(),
                    length,
                    around.clone(),
                    self.validation,
                    validation,
                )?),
            })
        };
        Ok(Prepared {
            train: part(false)?,
            validation: if self.validation > 0.0 { Some(part(true)?) } else { None },
            vocabulary: tokenizer.vocabulary(),
            tokens,
        })
    }
}

impl Prepared {
    /// A loader of `examples` ([`Prepared::train`] or [`Prepared::validation`]) for a method.
    ///
    /// # Errors
    /// If the vocabulary lacks a token that the method needs, or the loader's configuration is impossible.
    pub fn loader(
        &self,
        examples: &Examples,
        method: &MethodConfig,
        config: impl Into<LoaderConfig>,
    ) -> Result<TextLoader> {
        let prepare: Arc<dyn Transform<Example, Out = Example>> =
            Arc::from(method.prepare(&self.vocabulary)?);
        Loader::new(
            examples.clone(),
            prepare,
            Arc::new(Pad { pad: self.vocabulary.pad, length: None }),
            config.into(),
        )
    }
}

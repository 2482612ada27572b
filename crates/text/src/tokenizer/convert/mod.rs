//! Tokenizers of released folders without a `tokenizer.json`: a vocabulary, and rules that the family of the
//! model has. The ids are those of transformers (and of sentencepiece), which
//! `tests/golden/generate/small_tokenizers.py` has written down for small vocabularies.
//!
//! | files | kind |
//! |---|---|
//! | `vocab.json`, `merges.txt` | byte-level BPE: GPT-2, RoBERTa |
//! | `vocab.txt` | WordPiece: BERT, ELECTRA |
//! | `spiece.model`, `*.model` | sentencepiece, Unigram or BPE: T5, XLM-RoBERTa, `spm_train` |

mod bpe;
mod proto;
mod sentencepiece;
mod settings;
mod wordpiece;

use selfsup_core::Result;
use settings::Settings;
use std::path::{Path, PathBuf};

/// What a folder has instead of a `tokenizer.json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Files {
    /// `vocab.json` and `merges.txt`.
    Bpe(PathBuf, PathBuf),
    /// `vocab.txt`.
    WordPiece(PathBuf),
    /// A model of sentencepiece.
    SentencePiece(PathBuf),
}

/// The one file of a folder that ends in `.model`, whatever its name: `spm_train` takes any.
fn only_model(folder: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?;
    let mut models = entries
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| p.extension().is_some_and(|e| e == "model") && p.is_file());
    let model = models.next()?;
    models.next().is_none().then_some(model)
}

impl Files {
    /// The files at `path`: a folder, or one of them.
    pub fn at(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_string_lossy().into_owned();
        if path.is_dir() {
            return Self::of(path);
        }
        let beside = |name: &str| path.with_file_name(name);
        match name.as_str() {
            "vocab.txt" => Some(Files::WordPiece(path.to_path_buf())),
            "vocab.json" | "merges.txt" => Some(Files::Bpe(beside("vocab.json"), beside("merges.txt"))),
            _ if path.extension().is_some_and(|e| e == "model") => {
                Some(Files::SentencePiece(path.to_path_buf()))
            }
            _ => None,
        }
    }

    fn of(folder: &Path) -> Option<Self> {
        let has = |name: &str| Some(folder.join(name)).filter(|f| f.is_file());
        if let (Some(vocabulary), Some(merges)) = (has("vocab.json"), has("merges.txt")) {
            return Some(Files::Bpe(vocabulary, merges));
        }
        let usual = ["spiece.model", "sentencepiece.bpe.model", "tokenizer.model", "spm.model"];
        let model = usual.into_iter().find_map(has).map(Files::SentencePiece);
        model
            .or_else(|| has("vocab.txt").map(Files::WordPiece))
            .or_else(|| only_model(folder).map(Files::SentencePiece))
    }

    /// The file that errors name.
    pub fn main(&self) -> &Path {
        match self {
            Files::Bpe(file, _) | Files::WordPiece(file) | Files::SentencePiece(file) => file,
        }
    }

    /// The tokenizer, and a line on how it was made.
    ///
    /// # Errors
    /// Naming the file: it is damaged, or of a family whose ids do not follow from it alone.
    pub fn convert(&self) -> Result<(tokenizers::Tokenizer, String)> {
        let settings = Settings::read(self.main().parent().unwrap_or(Path::new(".")))?;
        let (inner, how) = match self {
            Files::Bpe(vocabulary, merges) => bpe::convert(vocabulary, merges, &settings)?,
            Files::WordPiece(file) => wordpiece::convert(file, &settings)?,
            Files::SentencePiece(file) => sentencepiece::convert(file, &settings)?,
        };
        let inner = settings.with_added(inner)?;
        Ok((inner, format!("{}: no tokenizer.json beside it, read as {how}", self.main().display())))
    }
}

//! Which token plays which part: padding, mask, class, separator, end, unknown, and T5's sentinels.

use selfsup_core::{Error, Result};
use serde_json::Value;
use std::path::Path;

/// The special tokens of a tokenizer by their part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Specials {
    /// Fills up short sequences.
    pub pad: Option<u32>,
    /// Stands for a hidden token.
    pub mask: Option<u32>,
    /// Stands in front of a text.
    pub class: Option<u32>,
    /// Stands behind a text.
    pub separator: Option<u32>,
    /// Starts a text.
    pub begin: Option<u32>,
    /// Ends a text.
    pub end: Option<u32>,
    /// Stands for what is not in the vocabulary.
    pub unknown: Option<u32>,
    /// Stand for spans that were taken out, `<extra_id_0>` first.
    pub sentinels: Vec<u32>,
    /// All tokens that are no text, in ascending order.
    pub all: Vec<u32>,
}

/// `(key in tokenizer_config.json, usual names)`.
const PARTS: [(&str, &[&str]); 7] = [
    ("pad_token", &["[PAD]", "<pad>"]),
    ("mask_token", &["[MASK]", "<mask>"]),
    ("cls_token", &["[CLS]"]),
    ("sep_token", &["[SEP]"]),
    ("bos_token", &["<s>", "<|endoftext|>"]),
    ("eos_token", &["</s>", "<|endoftext|>", "[SEP]"]),
    ("unk_token", &["[UNK]", "<unk>"]),
];

impl Specials {
    /// By the files beside a `tokenizer.json`, else by the usual names.
    pub(super) fn read(inner: &tokenizers::Tokenizer, folder: &Path) -> Result<Self> {
        let mut named: [Option<u32>; 7] = [None; 7];
        for file in ["special_tokens_map.json", "tokenizer_config.json"] {
            let path = folder.join(file);
            if !path.exists() {
                continue;
            }
            let bytes = selfsup_core::file::read(&path)?;
            let json: Value =
                serde_json::from_slice(&bytes).map_err(|e| Error::file(&path, format!("not JSON: {e}")))?;
            for ((key, _), slot) in PARTS.iter().zip(&mut named) {
                // A token is a text, or an object with its content.
                let token = json.get(key).and_then(|v| v.as_str().or_else(|| v.get("content")?.as_str()));
                if let Some(token) = token {
                    let id = inner.token_to_id(token);
                    *slot = Some(id.ok_or_else(|| {
                        Error::file(&path, format!("{key} is \"{token}\", which is not in the vocabulary"))
                    })?);
                }
            }
        }
        Ok(Self::with(inner, named))
    }

    /// By the usual names.
    pub(super) fn usual(inner: &tokenizers::Tokenizer) -> Self {
        Self::with(inner, [None; 7])
    }

    fn with(inner: &tokenizers::Tokenizer, named: [Option<u32>; 7]) -> Self {
        let mut found = named;
        for ((_, usual), slot) in PARTS.iter().zip(&mut found) {
            *slot = slot.or_else(|| usual.iter().find_map(|t| inner.token_to_id(t)));
        }
        let [pad, mask, class, separator, begin, end, unknown] = found;
        let sentinels = sentinels(inner);
        let mut all: Vec<u32> =
            inner.get_added_tokens_decoder().iter().filter(|(_, t)| t.special).map(|(id, _)| *id).collect();
        all.extend(found.into_iter().flatten());
        all.extend(&sentinels);
        all.sort_unstable();
        all.dedup();
        Specials { pad, mask, class, separator, begin, end, unknown, sentinels, all }
    }

    /// Takes up sentinels, and an end, that were added since.
    pub(super) fn add_sentinels(&mut self, inner: &tokenizers::Tokenizer) {
        self.end = self.end.or_else(|| inner.token_to_id("</s>"));
        self.sentinels = sentinels(inner);
        self.all.extend(self.sentinels.iter().copied().chain(self.end));
        self.all.sort_unstable();
        self.all.dedup();
    }

    /// The names under the keys of `tokenizer_config.json`.
    pub(super) fn keys(&self) -> [(&'static str, Option<u32>); 7] {
        let ids = [self.pad, self.mask, self.class, self.separator, self.begin, self.end, self.unknown];
        std::array::from_fn(|i| (PARTS[i].0, ids[i]))
    }
}

fn sentinels(inner: &tokenizers::Tokenizer) -> Vec<u32> {
    (0..).map_while(|i| inner.token_to_id(&format!("<extra_id_{i}>"))).collect()
}

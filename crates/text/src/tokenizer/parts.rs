//! Parts of tokenizers as they stand in a `tokenizer.json`.

use selfsup_core::{Error, Result};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tokenizers::PostProcessorWrapper;

/// A part of a tokenizer from its JSON.
pub(super) fn part<T: DeserializeOwned>(json: Value) -> Result<T> {
    serde_json::from_value(json.clone()).map_err(|e| Error::Other(format!("tokenizer part {json}: {e}")))
}

/// What stands around a text and around a pair: `[CLS] A [SEP] B:1 [SEP]:1`, where `A` and `B` are the texts
/// and the number is the type of a token (0 where there is none).
pub(super) fn template(
    single: &str,
    pair: &str,
    id: impl Fn(&str) -> Option<u32>,
) -> Result<PostProcessorWrapper> {
    let mut used = Map::new();
    let mut items = |text: &str| -> Result<Vec<Value>> {
        let item = |item: &str| {
            let (name, kind) = match item.strip_suffix(":1") {
                Some(name) => (name, 1),
                None => (item, 0),
            };
            if name == "A" || name == "B" {
                return Ok(json!({"Sequence": {"id": name, "type_id": kind}}));
            }
            let number = id(name).ok_or_else(|| {
                Error::Other(format!("the vocabulary has no {name}, which stands around a text"))
            })?;
            used.insert(name.into(), json!({"id": name, "ids": [number], "tokens": [name]}));
            Ok(json!({"SpecialToken": {"id": name, "type_id": kind}}))
        };
        text.split_whitespace().map(item).collect()
    };
    let (single, pair) = (items(single)?, items(pair)?);
    part(json!({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": used}))
}

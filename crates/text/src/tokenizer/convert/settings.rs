//! What the files beside a vocabulary say: `tokenizer_config.json`, `special_tokens_map.json`,
//! `added_tokens.json`, and the family in `config.json`.

use selfsup_core::file::read_up_to;
use selfsup_core::{Error, Result};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tokenizers::AddedToken;

/// The largest of these files that is read.
const MAX: u64 = 64 << 20;

/// The settings of a folder.
pub(super) struct Settings {
    folder: PathBuf,
    config: Map<String, Value>,
    roles: Map<String, Value>,
    added: Map<String, Value>,
    /// `bert`, `roberta`, `t5` ...: of `tokenizer_class`, else `model_type`; empty where neither says.
    pub family: String,
}

fn object(path: PathBuf) -> Result<Map<String, Value>> {
    if !path.is_file() {
        return Ok(Map::new());
    }
    match serde_json::from_slice(&read_up_to(&path, MAX)?) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(Error::file(&path, "expected a JSON object")),
        Err(e) => Err(Error::file(&path, format!("not JSON: {e}"))),
    }
}

/// The text of a token: itself, or in an object.
fn content(token: &Value) -> Option<&str> {
    token.as_str().or_else(|| token.get("content")?.as_str())
}

/// A token with the flags that its object has.
fn token(value: &Value, text: &str, special: bool) -> AddedToken {
    let flag = |key: &str, default: bool| value.get(key).and_then(Value::as_bool).unwrap_or(default);
    AddedToken::from(text, flag("special", special))
        .lstrip(flag("lstrip", false))
        .rstrip(flag("rstrip", false))
        .single_word(flag("single_word", false))
        .normalized(flag("normalized", false))
}

impl Settings {
    pub fn read(folder: &Path) -> Result<Self> {
        let config = object(folder.join("tokenizer_config.json"))?;
        let model = object(folder.join("config.json"))?;
        let class = config.get("tokenizer_class").or_else(|| model.get("tokenizer_class"));
        let class = class.and_then(Value::as_str).filter(|c| !c.starts_with("PreTrained"));
        let family = class.map(|c| c.trim_end_matches("Fast").trim_end_matches("Tokenizer"));
        let family = family.or_else(|| model.get("model_type")?.as_str()).unwrap_or_default();
        Ok(Settings {
            folder: folder.to_path_buf(),
            family: family.to_lowercase().replace(['-', '_'], ""),
            roles: object(folder.join("special_tokens_map.json"))?,
            added: object(folder.join("added_tokens.json"))?,
            config,
        })
    }

    /// A switch of `tokenizer_config.json`.
    pub fn flag(&self, key: &str) -> Option<bool> {
        self.config.get(key)?.as_bool()
    }

    /// A number of `tokenizer_config.json`.
    pub fn number(&self, key: &str) -> Option<u64> {
        self.config.get(key)?.as_u64()
    }

    fn role(&self, key: &str) -> Option<&Value> {
        self.config.get(key).or_else(|| self.roles.get(key)).filter(|v| content(v).is_some())
    }

    /// The token with a role (`mask_token`), else `usual`.
    pub fn named(&self, key: &str, usual: &str) -> String {
        self.role(key).and_then(content).unwrap_or(usual).to_string()
    }

    /// Registers the tokens with these roles (or their usual names) that the vocabulary has.
    pub fn with_roles(
        &self,
        mut inner: tokenizers::Tokenizer,
        usual: &[(&str, &str)],
    ) -> Result<tokenizers::Tokenizer> {
        let mut special = Vec::new();
        for (key, usual) in usual {
            let text = self.named(key, usual);
            // RoBERTa's mask takes the space before it, unless its object says otherwise.
            let mask = *key == "mask_token" && text == "<mask>";
            let token = token(self.role(key).unwrap_or(&Value::Null), &text, true);
            let stated = self.role(key).is_some_and(Value::is_object);
            let token = if mask && !stated { token.lstrip(true) } else { token };
            special.extend(inner.token_to_id(&text).is_some().then_some(token));
        }
        inner.add_special_tokens(special).map_err(|e| Error::file(&self.folder, e))?;
        Ok(inner)
    }

    /// Adds what `added_tokens_decoder` and `added_tokens.json` list, with the ids that they give.
    pub fn with_added(&self, mut inner: tokenizers::Tokenizer) -> Result<tokenizers::Tokenizer> {
        let wrong = |why: String| Error::file(&self.folder, why);
        let mut all: BTreeMap<u64, AddedToken> = BTreeMap::new();
        for (text, id) in &self.added {
            let id = id.as_u64().ok_or_else(|| wrong(format!("added_tokens.json: {text} has no id")))?;
            let special = self.roles.values().chain(self.config.values()).any(|v| content(v) == Some(text));
            all.insert(id, token(&Value::Null, text, special));
        }
        let decoder = self.config.get("added_tokens_decoder").and_then(Value::as_object);
        for (id, value) in decoder.into_iter().flatten() {
            let (Ok(id), Some(text)) = (id.parse(), content(value)) else {
                return Err(wrong(format!("tokenizer_config.json: added_tokens_decoder.{id} is no token")));
            };
            all.insert(id, token(value, text, false));
        }
        for (id, token) in all {
            let (text, special) = (token.content.clone(), token.special);
            let added = if special { inner.add_special_tokens([token]) } else { inner.add_tokens([token]) };
            added.map_err(|e| wrong(e.to_string()))?;
            let found = inner.token_to_id(&text);
            if found.map(u64::from) != Some(id) {
                let found = found.map_or("none".to_string(), |f| f.to_string());
                return Err(wrong(format!(
                    "the added token {text} has the id {id} there, and {found} behind the vocabulary: they \
                     belong to different models"
                )));
            }
        }
        Ok(inner)
    }
}

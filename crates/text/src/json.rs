//! Keys of a `config.json`, read with errors that name the file and the key, and written as transformers
//! does.

use selfsup_core::{Error, Result};
use selfsup_kernels::activation::Act;
use serde_json::Value;
use std::path::Path;

/// The largest `config.json` that is read.
const MAX_CONFIG: u64 = 1 << 20;

/// `config.json` of a folder.
///
/// # Errors
/// If it is absent, too large or not a JSON object.
pub fn read_config(folder: &Path) -> Result<Value> {
    let path = folder.join("config.json");
    let size = std::fs::metadata(&path).map_err(|e| Error::io(&path, e))?.len();
    if size > MAX_CONFIG {
        return Err(Error::file(&path, format!("{size} bytes, expected at most {MAX_CONFIG}")));
    }
    let bytes = selfsup_core::file::read(&path)?;
    let value: Value =
        serde_json::from_slice(&bytes).map_err(|e| Error::file(&path, format!("not JSON: {e}")))?;
    if value.is_object() { Ok(value) } else { Err(Error::file(&path, "expected a JSON object")) }
}

/// Keys of a configuration; errors name the file and the key.
pub(crate) struct Keys<'a> {
    /// The object.
    pub value: &'a Value,
    /// The file.
    pub path: &'a Path,
}

impl Keys<'_> {
    /// Refuses a configuration of another kind of model than `kind`.
    pub(crate) fn of_kind(&self, kind: &str) -> Result<()> {
        match self.text("model_type") {
            Some(found) if found == kind => Ok(()),
            found => Err(Error::file(
                self.path,
                format!("model_type {}: expected {kind}", found.unwrap_or("none")),
            )),
        }
    }

    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.value.get(key).and_then(Value::as_str)
    }

    pub(crate) fn whole(&self, key: &str, default: Option<usize>) -> Result<usize> {
        match (self.value.get(key), default) {
            (None | Some(Value::Null), Some(d)) => Ok(d),
            (Some(v), _) if v.as_u64().is_some_and(|v| v <= 1 << 32) => Ok(v.as_u64().unwrap_or(0) as usize),
            (other, _) => Err(Error::file(
                self.path,
                format!("{key} = {}: expected a whole number", other.unwrap_or(&Value::Null)),
            )),
        }
    }

    pub(crate) fn number(&self, key: &str, default: f64) -> Result<f64> {
        match self.value.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(v) => {
                v.as_f64().ok_or_else(|| Error::file(self.path, format!("{key} = {v}: expected a number")))
            }
        }
    }

    pub(crate) fn flag(&self, key: &str, default: bool) -> bool {
        self.value.get(key).and_then(Value::as_bool).unwrap_or(default)
    }

    pub(crate) fn act(&self, key: &str) -> Result<Act> {
        match self.text(key).unwrap_or("gelu") {
            "gelu" => Ok(Act::GeluErf),
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Ok(Act::GeluTanh),
            "relu" => Ok(Act::Relu),
            other => Err(Error::file(
                self.path,
                format!("{key} = \"{other}\": expected gelu, gelu_new, gelu_pytorch_tanh, gelu_fast or relu"),
            )),
        }
    }
}

/// transformers' name of an activation.
pub(crate) fn act_name(act: Act) -> &'static str {
    match act {
        Act::GeluTanh => "gelu_new",
        Act::Relu => "relu",
        Act::GeluErf | Act::None => "gelu",
    }
}

/// 0.1 and not 0.10000000149011612.
pub(crate) fn short(x: f32) -> f64 {
    x.to_string().parse().unwrap_or_else(|_| f64::from(x))
}

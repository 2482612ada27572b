//! `selfsup doctor`.

use crate::say::say;
use selfsup_core::device::describe;
use selfsup_core::{Error, Result};

/// Says what this build and this machine can do.
///
/// # Errors
/// If the description cannot be written.
pub fn run() -> Result<()> {
    let description = serde_json::to_value(describe()).map_err(|e| Error::Other(e.to_string()))?;
    if let Some(map) = description.as_object() {
        for (key, value) in map {
            let text = match value {
                serde_json::Value::String(s) => s.clone(),
                serde_json::Value::Array(a) => a
                    .iter()
                    .map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_string))
                    .collect::<Vec<_>>()
                    .join(", "),
                other => other.to_string(),
            };
            say!("{:<16}{}", key.replace('_', " "), if text.is_empty() { "none" } else { &text });
        }
    }
    crate::say::result(&description);
    match selfsup_core::device::Device::Auto.open() {
        Ok(device) => say!("{:<16}{:?}", "device", device.location()),
        Err(e) => say!("{:<16}{e}", "device"),
    }
    Ok(())
}

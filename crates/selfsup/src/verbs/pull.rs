//! `selfsup pull`.

use crate::say::say;
use selfsup_core::Result;
use selfsup_core::hub::{HubOptions, pull};
use std::path::PathBuf;

/// Brings `org/name[@revision]` into the cache and prints where it is.
///
/// # Errors
/// If it is neither in the cache nor can be downloaded.
pub fn run(name: &str) -> Result<()> {
    say!("{}", fetch(name)?.display());
    Ok(())
}

/// The folder of `org/name[@revision]`, from the cache or the Hub: configuration and weights.
///
/// # Errors
/// If it is neither in the cache nor can be downloaded.
pub fn fetch(name: &str) -> Result<PathBuf> {
    pull(
        name,
        &["config.json", "*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin"],
        &HubOptions::default(),
    )
}

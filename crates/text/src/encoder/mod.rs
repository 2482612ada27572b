//! Networks over tokens.

mod bert;
mod gpt2;
mod t5;

pub(crate) use bert::drop_out;
pub use bert::{Bert, BertConfig, BertEmbeddings, Family, Pool, PooledBert, mean_pool};
pub use gpt2::{Gpt2, Gpt2Config};
pub use t5::{RelativePositions, T5, T5Cache, T5Config, bucket};

/// Refuses a configuration of another kind of model than `kind`.
pub(crate) fn of_kind(keys: &crate::hf::Keys, kind: &str) -> selfsup_core::Result<()> {
    match keys.text("model_type") {
        Some(found) if found == kind => Ok(()),
        found => Err(selfsup_core::Error::file(
            keys.path,
            format!("model_type {}: expected {kind}", found.unwrap_or("none")),
        )),
    }
}

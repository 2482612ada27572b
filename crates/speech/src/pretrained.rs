//! Networks of released weights, built and filled in one call.

use crate::encoder::SpeechEncoder;
use crate::names::{load_pretrained, read_config};
use candle_core::Device;
use selfsup_core::{Params, Result, Scope};
use std::path::Path;

impl SpeechEncoder {
    /// The network that `config.json` in `folder` describes (wav2vec 2.0, HuBERT or data2vec of
    /// transformers), with the weights beside it.
    ///
    /// # Errors
    /// If a file cannot be read, or the two do not belong together.
    pub fn pretrained(folder: impl AsRef<Path>, device: &Device) -> Result<Self> {
        let folder = folder.as_ref();
        let params = Params::new();
        let scope = Scope::root(&params, 0, device).sub("encoder");
        let encoder = SpeechEncoder::new(&scope, read_config(folder)?)?;
        load_pretrained(&params, "encoder", folder)?;
        Ok(encoder)
    }
}

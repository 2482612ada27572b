//! Networks of released weights, built and filled in one call.

use crate::encoder::ViT;
use crate::names::{load_pretrained, read_config};
use candle_core::Device;
use selfsup_core::{Params, Result, Scope};
use std::path::Path;

/// A network that a folder of released weights describes.
pub trait FromReleased: Sized {
    /// The network that `config.json` in `folder` describes ([`read_config`]), with the weights beside it.
    ///
    /// # Errors
    /// If a file cannot be read, or the two do not belong together.
    fn pretrained(folder: impl AsRef<Path>, device: &Device) -> Result<Self>;
}

impl FromReleased for ViT {
    fn pretrained(folder: impl AsRef<Path>, device: &Device) -> Result<Self> {
        let folder = folder.as_ref();
        let params = Params::new();
        let vit = ViT::new(&Scope::root(&params, 0, device).sub("encoder"), read_config(folder)?)?;
        load_pretrained(&params, "encoder", folder)?;
        Ok(vit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::{Encoder, Pass, weights};

    /// The golden outputs of transformers, and refusals of relatives.
    #[test]
    fn released_folders_open() -> Result<()> {
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/models");
        for name in
            ["dinov2", "dinov2_layerscale", "dinov2_with_registers", "dinov2_swiglu", "dinov3_vit", "ijepa"]
        {
            let folder = models.join(name);
            let vit = ViT::pretrained(&folder, &Device::Cpu)?;
            let io = weights::read(folder.join("io.safetensors"))?;
            let y =
                vit.forward(&io["input.pixel_values"], None, &[selfsup_core::Layer::Tokens], &Pass::eval())?;
            let tokens = y.tokens.unwrap();
            let error =
                (&tokens - &io["expected.last_hidden_state"])?.abs()?.max_all()?.to_scalar::<f32>()?;
            assert!(error < 1e-4, "{name}: {error}");
        }
        for (name, key) in [("wavlm", "model_type"), ("hubert", "model_type")] {
            let problem = read_config(&models.join(name)).unwrap_err().to_string();
            assert!(problem.contains("config.json") && problem.contains(key), "{problem}");
        }
        Ok(())
    }
}

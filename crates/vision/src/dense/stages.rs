//! The maps of any encoder of images.

use crate::encoder::{Architecture, ConvNeXt, ResNet, Swin, ViT};
use candle_core::Tensor;
use selfsup_core::encoder::{MapEncoder, Scale};
use selfsup_core::{Params, Pass, Result, Role, Scope};

/// An encoder whose stages are maps: four of a ResNet, ConvNeXt or Swin, one of a vision transformer.
pub struct Stages {
    encoder: Box<dyn MapEncoder>,
    /// What of the encoder only its last features read.
    unused: Option<&'static str>,
    /// Maps that are no features: a vision transformer hands over the image itself.
    skipped: usize,
}

impl Stages {
    /// Builds the network in `scope`.
    ///
    /// # Errors
    /// If the configuration is not possible.
    pub fn new(scope: &Scope, architecture: &Architecture) -> Result<Self> {
        let skipped = usize::from(matches!(architecture, Architecture::ViT(_)));
        let encoder: Box<dyn MapEncoder> = match architecture {
            Architecture::ResNet(c) => Box::new(ResNet::new(scope, c.clone())?),
            Architecture::ConvNeXt(c) => Box::new(ConvNeXt::new(scope, c.clone())?),
            Architecture::Swin(c) => Box::new(Swin::new(scope, c.clone())?),
            Architecture::ViT(c) => Box::new(ViT::new(scope, c.clone())?),
        };
        let unused = match architecture {
            Architecture::ConvNeXt(_) => Some("head.norm"),
            Architecture::Swin(_) => Some("norm"),
            _ => None,
        };
        Ok(Stages { encoder, unused, skipped })
    }

    /// Freezes the final norm of the encoder at `prefix` where it has one that [`Stages::maps`] does not
    /// read: no gradient would ever reach it.
    pub fn freeze_unused(&self, params: &Params, prefix: &str) {
        if let Some(name) = self.unused {
            params.set_role(&format!("{prefix}.{name}"), Role::Trained, Role::Frozen);
        }
    }

    /// The encoder.
    pub fn encoder(&self) -> &dyn MapEncoder {
        self.encoder.as_ref()
    }

    /// Width and stride of each map, finest first.
    pub fn scales(&self) -> Vec<Scale> {
        self.encoder.scales().split_off(self.skipped)
    }

    /// The maps of `x (N, C, H, W)`, finest first: `(N, H_i, W_i, C_i)`. With `frozen` the encoder runs as in
    /// evaluation, and no gradient reaches it.
    ///
    /// # Errors
    /// If the shape does not fit.
    pub fn maps(&self, x: &Tensor, frozen: bool, pass: &Pass) -> Result<Vec<Tensor>> {
        if !frozen {
            return Ok(self.encoder.maps(x, pass)?.split_off(self.skipped));
        }
        let maps = self.encoder.maps(x, &Pass::eval())?.split_off(self.skipped);
        Ok(maps.iter().map(Tensor::detach).collect())
    }

    /// The last map as methods read it ([`selfsup_core::Encoder::map`]), after a final norm where there is
    /// one.
    ///
    /// # Errors
    /// If the shape does not fit.
    pub fn last(&self, x: &Tensor, frozen: bool, pass: &Pass) -> Result<Tensor> {
        if frozen { Ok(self.encoder.map(x, &Pass::eval())?.detach()) } else { self.encoder.map(x, pass) }
    }
}

//! Decoding token by token: keys and values of earlier tokens are kept, so a new token costs one row instead
//! of the whole sequence.
//!
//! Only for evaluation, and only for causal trunks: without causality an earlier token's output depends on
//! later ones, and nothing could be kept.

use super::transformer::{Block, Transformer};
use crate::error::{Error, Result};
use crate::pass::Pass;
use candle_core::Tensor;
use selfsup_kernels::Path;
use selfsup_kernels::attention::{AttentionOpts, attention};

/// Keys and values of the tokens so far, one entry a block: `(N, S, 2, H, D/H)`.
#[derive(Clone, Debug, Default)]
pub struct KvCache {
    blocks: Vec<Option<Tensor>>,
}

impl KvCache {
    /// An empty cache.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of tokens that it holds.
    pub fn len(&self) -> usize {
        self.blocks.first().and_then(|b| b.as_ref()).and_then(|b| b.dim(1).ok()).unwrap_or(0)
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends `kv (N, T, 2, H, D/H)` to block `i` and returns all of its keys and values.
    ///
    /// # Errors
    /// If the new ones belong to another batch or width.
    pub fn append(&mut self, i: usize, kv: &Tensor) -> Result<Tensor> {
        if self.blocks.len() <= i {
            self.blocks.resize(i + 1, None);
        }
        let all = match &self.blocks[i] {
            Some(old) => Tensor::cat(&[old, kv], 1)?,
            None => kv.contiguous()?,
        };
        self.blocks[i] = Some(all.clone());
        Ok(all)
    }
}

impl Block {
    fn decode(&self, x: &Tensor, index: usize, cache: &mut KvCache, pass: &Pass) -> Result<Tensor> {
        let (n, t, d) = x.dims3()?;
        let qkv = self.projected(&self.before(x, pass)?, pass)?;
        let kv = cache.append(index, &qkv.narrow(2, 1, 2)?)?;
        let opts = AttentionOpts { causal: true, ..AttentionOpts::default() };
        let y =
            attention(&qkv.narrow(2, 0, 1)?.squeeze(2)?, &kv, None, &opts, Path::Auto)?.reshape((n, t, d))?;
        self.after(x, self.proj.forward(&y, pass)?, pass)
    }
}

impl Transformer {
    /// The outputs for `x (N, T, D)`, tokens that follow those in `cache`; their keys and values are added to
    /// it. The same numbers as [`Transformer::forward`] gives at these positions of the whole sequence, in
    /// evaluation.
    ///
    /// # Errors
    /// If the trunk is not causal, or shapes do not fit.
    pub fn decode(&self, x: &Tensor, cache: &mut KvCache) -> Result<Tensor> {
        if self.blocks.iter().any(|b| !b.causal) {
            return Err(Error::input("transformer", "decoding token by token needs causal attention"));
        }
        let (mut x, pass) = (x.clone(), Pass::eval());
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.decode(&x, i, cache, &pass)?;
        }
        Ok(x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::Init;
    use crate::nn::TransformerConfig;
    use crate::params::Params;
    use crate::scope::Scope;
    use candle_core::Device;
    use selfsup_kernels::rng::Key;

    #[test]
    fn the_same_as_the_whole_sequence() -> Result<()> {
        for pre_norm in [true, false] {
            let params = Params::new();
            let config = TransformerConfig {
                causal: true,
                pre_norm,
                init: Init::Normal(0.3),
                ..TransformerConfig::vit(8, 3, 2, 16)
            };
            let trunk = Transformer::new(&Scope::root(&params, 1, &Device::Cpu), &config)?;
            let mut rng = Key::new(2).rng();
            let x = Tensor::from_vec(
                (0..2 * 7 * 8).map(|_| rng.normal()).collect::<Vec<f32>>(),
                (2, 7, 8),
                &Device::Cpu,
            )?;
            let (whole, _) = trunk.forward(&x, None, &[], &Pass::eval())?;
            let mut cache = KvCache::new();
            assert!(cache.is_empty());
            let mut at = 0;
            for t in [3, 1, 2, 1] {
                let y = trunk.decode(&x.narrow(1, at, t)?, &mut cache)?;
                let gap = (y - whole.narrow(1, at, t)?)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?;
                assert!(gap < 1e-5, "{gap}");
                at += t;
                assert_eq!(cache.len(), at);
            }
        }
        let params = Params::new();
        let open =
            Transformer::new(&Scope::root(&params, 1, &Device::Cpu), &TransformerConfig::vit(8, 1, 2, 16))?;
        let x = Tensor::zeros((1, 1, 8), candle_core::DType::F32, &Device::Cpu)?;
        assert!(open.decode(&x, &mut KvCache::new()).is_err());
        Ok(())
    }
}

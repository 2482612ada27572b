//! Filling in hidden tokens: a look at what a masked language model has learned.

use crate::batch::Sequences;
use crate::method::MaskedLm;
use candle_core::Tensor;
use selfsup_core::{Error, Pass, Result};
use selfsup_kernels::Path;
use selfsup_kernels::softmax::softmax;

/// A guess for one hidden place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guess {
    /// The token.
    pub id: u32,
    /// Its probability.
    pub probability: f32,
}

/// The `k` likeliest tokens for each place of `ids` that holds the token `mask`, from the likeliest on;
/// places in their order.
///
/// # Errors
/// If no place holds it, or the ids do not fit the model.
pub fn fill_mask(model: &MaskedLm, ids: &[u32], mask: u32, k: usize) -> Result<Vec<Vec<Guess>>> {
    let places: Vec<usize> = ids.iter().enumerate().filter(|(_, id)| **id == mask).map(|(i, _)| i).collect();
    if places.is_empty() {
        return Err(Error::input(
            "text",
            format!("no place holds the mask token {mask}: there is nothing to fill in"),
        ));
    }
    let device = model.bert().embeddings().table().value().device().clone();
    let ids = Tensor::from_vec(ids.to_vec(), (1, ids.len()), &device)?;
    let labels = ids.to_dtype(candle_core::DType::I64)?;
    let batch = Sequences::new(ids, None, labels, None, None)?;
    let rows =
        softmax(&model.logits(&batch, &Pass::eval())?.detach(), Path::Auto)?.squeeze(0)?.to_vec2::<f32>()?;
    Ok(places
        .into_iter()
        .map(|place| {
            let mut all: Vec<Guess> = rows[place]
                .iter()
                .enumerate()
                .map(|(id, &p)| Guess { id: id as u32, probability: p })
                .collect();
            all.sort_by(|a, b| b.probability.total_cmp(&a.probability).then(a.id.cmp(&b.id)));
            all.truncate(k);
            all
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoder::{BertConfig, Family};
    use crate::method::MaskedLmConfig;
    use candle_core::Device;
    use selfsup_core::{Params, Scope};

    #[test]
    fn guesses_are_ordered() -> Result<()> {
        let c = BertConfig {
            dim: 8,
            embedding_dim: 8,
            depth: 1,
            heads: 2,
            hidden: 16,
            ..BertConfig::base(Family::Bert, 20)
        };
        let model =
            MaskedLm::new(&Scope::root(&Params::new(), 0, &Device::Cpu), c, &MaskedLmConfig::default())?;
        let made = fill_mask(&model, &[2, 4, 7, 4], 4, 20)?;
        assert_eq!(made.len(), 2);
        for place in &made {
            assert!(place.windows(2).all(|w| w[0].probability >= w[1].probability));
            assert!((place.iter().map(|g| g.probability).sum::<f32>() - 1.0).abs() < 1e-5);
        }
        assert_eq!(fill_mask(&model, &[4], 4, 3)?[0].len(), 3);
        assert!(fill_mask(&model, &[2, 7], 4, 3).is_err());
        Ok(())
    }
}

//! Steps over token sequences.

use super::{Step, adamw, training};
use candle_core::{Device, Tensor};
use selfsup_core::{Key, Params, Scope};
use selfsup_text::batch::{IGNORED, Sequences};
use selfsup_text::encoder::{BertConfig, Family, Gpt2Config};
use selfsup_text::method::{CausalLm, MaskedLm, MaskedLmConfig};

/// Random tokens, of which each is predicted with a chance of 15%, as the peer draws them.
pub fn bert() -> (usize, Step) {
    const VOCABULARY: usize = 30522;
    let shape = BertConfig {
        dim: 256,
        embedding_dim: 256,
        depth: 4,
        heads: 4,
        hidden: 1024,
        ..BertConfig::base(Family::Bert, VOCABULARY)
    };
    let method =
        MaskedLm::new(&Scope::root(&Params::new(), 0, &Device::Cpu), shape, &MaskedLmConfig::default())
            .unwrap();
    let mut rng = Key::new(1).rng();
    let ids: Vec<u32> = (0..32 * 128).map(|_| rng.below(VOCABULARY) as u32).collect();
    let labels: Vec<i64> =
        ids.iter().map(|&id| if rng.chance(0.15) { i64::from(id) } else { IGNORED }).collect();
    let tensor = |v: Vec<u32>| Tensor::from_vec(v, (32, 128), &Device::Cpu).unwrap();
    let labels = Tensor::from_vec(labels, (32, 128), &Device::Cpu).unwrap();
    let batch = Sequences::new(tensor(ids), None, labels, None, None).unwrap();
    (32, training(method, batch, adamw(1e-3, 0.05)))
}

/// Random characters, each predicted from those before it: nanoGPT's CPU-sized model.
pub fn gpt2() -> (usize, Step) {
    let shape = Gpt2Config::new(65, 256, 128, 4, 4);
    let method = CausalLm::new(&Scope::root(&Params::new(), 0, &Device::Cpu), shape).unwrap();
    let mut rng = Key::new(1).rng();
    let ids: Vec<u32> = (0..12 * 256).map(|_| rng.below(65) as u32).collect();
    let labels: Vec<i64> =
        (0..ids.len()).map(|i| if i % 256 == 255 { IGNORED } else { i64::from(ids[i + 1]) }).collect();
    let ids = Tensor::from_vec(ids, (12, 256), &Device::Cpu).unwrap();
    let labels = Tensor::from_vec(labels, (12, 256), &Device::Cpu).unwrap();
    (12, training(method, Sequences::new(ids, None, labels, None, None).unwrap(), adamw(1e-3, 0.05)))
}

//! SimCLR on a folder of images (32 bundled ones by default) with a network of candle-nn.
//!
//! `cargo run -p selfsup-vision --example pretrain_candle_nn -- [FOLDER]`
#![allow(clippy::print_stdout)]

use candle_nn::{Activation, Conv2dConfig, conv2d, group_norm, linear, seq};
use selfsup_vision::prelude::*;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bundled = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/images");
    let images = ImageFolder::open(std::env::args().nth(1).unwrap_or(bundled.into()))?;
    let config = TrainConfig { epochs: 10, batch_size: 16, workers: 2, ..TrainConfig::default() };
    let augment = AugmentConfig { size: 32, ..AugmentConfig::default() };
    let batches = images.loader(augment.views(Wanted::Joint(2), 3, MAX_PIXELS)?, &config)?;

    // Layers of candle-nn over our parameters: `var_builder` names, draws, saves and resumes them. `stem`,
    // `block` and `top` say where they stand, for layer-wise rates in a later fine-tuning.
    let network = |s: &Scope| {
        let half = Conv2dConfig { stride: 2, padding: 1, ..Conv2dConfig::default() };
        Ok(seq()
            .add(conv2d(3, 16, 3, half, s.stem().sub("conv1").var_builder())?)
            .add(group_norm(4, 16, 1e-5, s.stem().sub("norm1").var_builder())?)
            .add(Activation::Gelu)
            .add(conv2d(16, 32, 3, half, s.block(0).sub("conv2").var_builder())?)
            .add(Activation::Gelu)
            .add_fn(|x| x.mean((2, 3))) // (N, 32, 8, 8) -> (N, 32)
            .add(linear(32, 64, s.top().sub("fc").var_builder())?))
    };
    let scope = Scope::root(&Params::new(), config.seed, &Device::Cpu);
    let heads = SimClrConfig { hidden_dim: 64, out_dim: 32, ..SimClrConfig::default() };
    let method = SimClr::new(&scope, &|s| Ok(Box::new(Foreign::new(s, 64, network)?)), heads)?;

    // The first step checks the network: a layer without a right gradient is refused by name.
    let summary = train(&method, &batches, &config, &OptimConfig::default(), "runs/candle-nn")?;
    println!("{} steps, {}", summary.steps, summary.shown_loss());
    Ok(())
}

//! Pre-trains SimCLR on a folder of images (32 bundled ones by default) and writes the encoder.
//!
//! `cargo run -p selfsup-vision --example pretrain_simclr -- [FOLDER]`
#![allow(clippy::print_stdout)]

use selfsup_vision::prelude::*;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bundled = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/images");
    let images = ImageFolder::open(std::env::args().nth(1).unwrap_or(bundled.into()))?;

    // Two views of each image, as in the paper but small: random crops, colours, blur.
    let config = TrainConfig { epochs: 10, batch_size: 16, workers: 2, ..TrainConfig::default() };
    let augment = AugmentConfig { size: 32, ..AugmentConfig::default() };
    let batches = images.loader(augment.views(Wanted::Joint(2), 3, MAX_PIXELS)?, &config)?;

    // A small ResNet, and a projection head on it. Their tensors live in `params`, named by their scope.
    let keys = ResNetKeys { depths: Some(vec![1, 1]), widths: Some(vec![16, 32]), ..ResNetKeys::default() };
    let network = EncoderConfig::from(keys);
    let params = Params::new();
    let scope = Scope::root(&params, config.seed, &Device::Cpu);
    let heads = SimClrConfig { hidden_dim: 64, out_dim: 32, ..SimClrConfig::default() };
    let method = SimClr::new(&scope, &|s| network.build(s, 32), heads)?;

    // Checkpoints, metrics and curves go into the folder; the same call goes on where a run was stopped.
    let summary = train(&method, &batches, &config, &OptimConfig::default(), "runs/simclr")?;
    println!("{} steps, {}", summary.steps, summary.shown_loss());

    // The encoder under torchvision's names; the head has done its work.
    let encoder: Vec<_> = weights::export(&params, "encoder").into_iter().collect();
    save_safetensors("runs/simclr/model.safetensors", &encoder)?;
    println!("runs/simclr/model.safetensors: {} tensors", encoder.len());
    Ok(())
}

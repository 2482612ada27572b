//! Features of images from released weights: a folder in transformers' layout (ViT, DINOv2, I-JEPA, ViT-MAE)
//! with `config.json` and `model.safetensors`, as the Hub's pages have it. By default a bundled DINOv2, as
//! small as a test.
//!
//! `cargo run -p selfsup-vision --example embed_image -- [MODEL [IMAGE OR FOLDER]]`
#![allow(clippy::print_stdout)]

use selfsup_vision::prelude::*;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bundled = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/models/dinov2");
    let model = std::env::args().nth(1).unwrap_or(bundled.into());
    let bundled = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/images/00.png");
    let images = ImageFolder::open(std::env::args().nth(2).unwrap_or(bundled.into()))?;

    let network = ViT::pretrained(&model, &Device::Cpu)?;
    println!("{model}: {} blocks of {}", network.config().trunk.depth, network.dim());

    // The shorter side to the size, the centre, ImageNet's statistics. Other sizes are fine: positions are
    // interpolated (DINOv2 was trained at 518, and is used at 224).
    let size = network.config().size[0].min(224);
    let view = AugmentConfig { size, ..AugmentConfig::default() }.evaluation(3, MAX_PIXELS)?;
    let batches = images.loader(view, LoaderConfig::in_order(16, 2))?;
    for batch in batches.epoch_from(0, 0)? {
        let views = batch?.batch; // one view (N, 3, H, W)
        let features = network.forward(&views.globals[0], None, &[], &Pass::eval())?.pooled;
        for (index, values) in views.indices.iter().zip(features.to_vec2::<f32>()?) {
            println!("{}: {:.3?} ...", images.files()[*index].display(), &values[..4]);
        }
    }
    Ok(())
}

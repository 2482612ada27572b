//! HuBERT features of a recording (wav, flac, mp3, ogg, m4a; any rate): a vector for each 20 ms, and their
//! mean. The model is a folder in transformers' layout, as the Hub's pages have it: `config.json` and
//! `model.safetensors`. By default a bundled HuBERT, as small as a test, and a bundled sentence.
//!
//! `cargo run -p selfsup-speech --example hubert_features -- [MODEL [RECORDING]]`
#![allow(clippy::print_stdout)]

use selfsup_speech::prelude::*;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bundled = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/models/hubert");
    let model = std::env::args().nth(1).unwrap_or(bundled.into());
    let bundled = concat!(env!("CARGO_MANIFEST_DIR"), "/../../datasets/samples/festvox-ru/wav/ru_0018.flac");
    let recording = std::env::args().nth(2).unwrap_or(bundled.into());

    let hubert = SpeechEncoder::pretrained(&model, &Device::Cpu)?;

    // One channel at 16 kHz, mean 0 and variance 1 (`do_normalize` of preprocessor_config.json).
    let mut wave = load(&Content::File((&recording).into()), &recording, None, &AudioConfig::default())?;
    normalize(&mut wave);
    let (samples, hop) = (wave.len(), hubert.config().hop());
    let x = Tensor::from_vec(wave, (1, samples), &Device::Cpu)?; // (N, T)

    // Clusters of HuBERT come from a block in the middle; `Layer::Tokens` is the output of the last.
    let middle = Layer::Hidden(hubert.config().depth / 2);
    let features = hubert.forward(&x, None, &[Layer::Tokens, middle], &Pass::eval())?;
    let tokens = features.tokens.ok_or("the frames were asked for")?;
    println!("{recording}: {samples} samples, a frame for each {hop}");
    println!("frames {:?}, of the middle {:?}", tokens.dims(), features.layers[0].dims());
    println!("mean {:.3?} ...", &features.pooled.get(0)?.to_vec1::<f32>()?[..4]);
    Ok(())
}

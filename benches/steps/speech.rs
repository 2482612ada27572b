//! Steps over waves: two seconds each, four in a batch.

use super::{Step, adamw, training};
use candle_core::Device;
use selfsup_core::{Key, Params, Scope};
use selfsup_speech::batch::{Target, Utterance, Waves};
use selfsup_speech::encoder::{Family, SpeechConfig};
use selfsup_speech::methods::{Hubert, HubertConfig, Wav2Vec2, Wav2Vec2Config};

const SAMPLES: usize = 4;
const LENGTH: usize = 32_000;

/// Noise, with the dropout of transformers' configurations and without their layer drop.
fn batch(target: impl Fn(usize) -> Target) -> Waves {
    let mut rng = Key::new(1).rng();
    let items = (0..SAMPLES).map(|i| Utterance {
        samples: (0..LENGTH).map(|_| rng.normal()).collect(),
        start: 0,
        target: target(i),
    });
    Waves::stack(items.collect(), &(0..SAMPLES).collect::<Vec<_>>()).unwrap()
}

fn encoder(family: Family) -> SpeechConfig {
    let small = SpeechConfig::named(family, "small").unwrap();
    SpeechConfig { dropout: 0.1, attention_dropout: 0.1, activation_dropout: 0.1, ..small }
}

/// 100 distractors, two codebooks of 320 entries.
pub fn wav2vec2() -> (usize, Step) {
    let scope = Scope::root(&Params::new(), 0, &Device::Cpu);
    let method = Wav2Vec2::new(&scope, encoder(Family::Wav2vec2), Wav2Vec2Config::default()).unwrap();
    (SAMPLES, training(method, batch(|_| Target::None), adamw(1e-3, 0.05)))
}

/// A linear layer over 100 clusters, on the hidden frames.
pub fn hubert() -> (usize, Step) {
    let scope = Scope::root(&Params::new(), 0, &Device::Cpu);
    let method = Hubert::new(
        &scope,
        encoder(Family::Hubert),
        HubertConfig { code_dim: 0, ..HubertConfig::default() },
        100,
    )
    .unwrap();
    let labels = |i: usize| {
        let mut rng = Key::new(2).fold(i as u64).rng();
        Target::Frames((0..99).map(|_| rng.below(100) as i64).collect())
    };
    (SAMPLES, training(method, batch(labels), adamw(1e-3, 0.05)))
}

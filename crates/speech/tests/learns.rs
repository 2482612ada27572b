//! Every method learns what there is to learn: waves of tones that follow each other in a fixed order, so that what is hidden can be told
//! from what is around it.

#![allow(clippy::unwrap_used)]

use candle_core::Device;
use selfsup_core::optim::{OptimConfig, Optimizer};
use selfsup_core::schedule::{LrSchedule, Span};
use selfsup_core::trainer::gradients;
use selfsup_core::{Key, Objective, Params, Pass, Progress, Scope, World};
use selfsup_speech::batch::{Target, Utterance, Waves};
use selfsup_speech::encoder::SpeechConfig;
use selfsup_speech::mask::SpanMask;
use selfsup_speech::recipe::{EncoderConfig, Method, MethodConfig};
use std::collections::BTreeMap;

/// Samples of a tone: four frames.
const TONE: usize = 1280;
const TONES: usize = 5;
const STEPS: u64 = 150;

/// Eight waves of seven tones; each frame's label is the tone at its middle.
fn batch(step: u64, encoder: &SpeechConfig) -> Waves {
    let items = (0..8).map(|i| {
        let mut rng = Key::new(4).fold(step).fold(i).rng();
        let (first, length) = (rng.below(TONES), 7 * TONE);
        let tone = |t: usize| (first + t / TONE) % TONES;
        let samples = (0..length).map(|t| (t as f32 * 0.06 * 1.6f32.powi(tone(t) as i32)).sin() + 0.1 * rng.normal()).collect();
        let labels = (0..encoder.frames(length)).map(|f| tone(f * encoder.hop() + encoder.receptive_field() / 2) as i64).collect();
        Utterance { samples, start: 0, target: Target::Frames(labels) }
    });
    Waves::stack(items.collect(), &(0..8).collect::<Vec<_>>()).unwrap()
}

/// Values of the loss and its parts, means over the first ten steps and over the last ten.
fn learn(name: &str) -> (BTreeMap<String, f64>, BTreeMap<String, f64>, Method) {
    let mut method = MethodConfig::named(name).unwrap();
    let spans = SpanMask { prob: 0.5, length: 4, min_spans: 2 };
    match &mut method {
        MethodConfig::Wav2vec2(c) => {
            (c.mask, c.codes, c.code_dim, c.out_dim, c.negatives) = (spans, 16, 32, 32, 10);
            c.gumbel_decay = 0.99;
        }
        MethodConfig::Hubert(c) => (c.mask, c.code_dim, c.iterations[0].clusters) = (spans, 32, TONES),
        MethodConfig::Data2vec(c) => (c.mask, c.top_layers, c.momentum, c.momentum_end) = (spans, 2, 0.98, 0.99),
    }
    let small = EncoderConfig {
        dim: Some(48),
        depth: Some(2),
        heads: Some(4),
        front_dim: Some(32),
        position_kernel: Some(if name == "data2vec" { 3 } else { 16 }),
        position_groups: Some(4),
        dropout: Some(0.0),
        attention_dropout: Some(0.0),
        ..EncoderConfig::default()
    };
    let config = small.resolve(method.family()).unwrap();
    let objective = method.build(&Scope::root(&Params::new(), 0, &Device::Cpu), &config).unwrap();
    let schedule = LrSchedule::warmup_cosine(Span::Ratio(0.1), 0.1);
    let mut optimizer = Optimizer::new(objective.params(), OptimConfig { lr: 3e-3, schedule, ..OptimConfig::default() }).unwrap();
    let mut seen = Vec::new();
    for step in 0..STEPS {
        let progress = Progress { step, total_steps: STEPS, epoch: 0 };
        let made = gradients(&objective, &batch(step, &config), 0, &Pass::train(0, progress)).unwrap();
        optimizer.step(&made.grads, step, STEPS).unwrap();
        objective.after_step(&made.embeddings, &progress, &World).unwrap();
        let mut values: BTreeMap<String, f64> = made.parts.iter().map(|(n, v)| ((*n).to_string(), *v)).collect();
        values.insert("loss".into(), made.loss);
        for vital in objective.vitals(&made.embeddings).unwrap() {
            values.insert(vital.name.to_string(), vital.value);
        }
        seen.push(values);
    }
    let mean = |rows: &[BTreeMap<String, f64>]| {
        rows[0].keys().map(|k| (k.clone(), rows.iter().map(|r| r[k]).sum::<f64>() / rows.len() as f64)).collect()
    };
    let (first, last): (BTreeMap<String, f64>, BTreeMap<String, f64>) = (mean(&seen[..10]), mean(&seen[seen.len() - 10..]));
    eprintln!("{name}\n  first {first:?}\n  last  {last:?}");
    (first, last, objective)
}

#[test]
fn hubert_tells_hidden_clusters() {
    let (first, last, _) = learn("hubert");
    assert!(first["masked_accuracy"] < 0.5 && last["masked_accuracy"] > 0.9, "chance is 0.2: {first:?} {last:?}");
}

#[test]
fn wav2vec2_tells_the_right_frame() {
    let (first, last, _) = learn("wav2vec2");
    assert!(last["contrastive"] < 0.8 * first["contrastive"], "{first:?} {last:?}");
    assert!(last["codes_used"] > 4.0, "the codebooks have collapsed: {last:?}");
}

#[test]
fn data2vec_regresses_the_teacher() {
    let (first, last, _) = learn("data2vec");
    assert!(last["loss"] < 0.6 * first["loss"], "{first:?} {last:?}");
    assert!(last["target_std"] > 0.2, "the targets have collapsed: {last:?}");
}

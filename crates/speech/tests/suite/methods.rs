//! What every method must satisfy: each parameter moves, resuming is exact, micro-batches compute the
//! gradient of the whole batch, padding changes nothing, and the result does not depend on the number of
//! threads. Tasks (CTC, classes) satisfy the same.

use candle_core::{Device, Tensor};
use selfsup_core::conformance::{Trial, bits};
use selfsup_core::objective::boxed;
use selfsup_core::{Encoder, Key, Layer, Params, Pass, Progress, Result, Role, Scope};
use selfsup_speech::batch::{Target, Utterance, Waves};
use selfsup_speech::encoder::{Family, FrontNorm, SpeechConfig, SpeechEncoder};
use selfsup_speech::finetune::{Classify, ClassifyConfig, Ctc, CtcConfig};
use selfsup_speech::mask::SpanMask;
use selfsup_speech::recipe::{EncoderConfig, Method, MethodConfig};

const BATCH: usize = 4;
const NAMES: [&str; 5] = ["wav2vec2", "hubert", "data2vec", "ctc", "classify"];

/// Tones of different pitch and length, with noise; each with the target that the objective wants.
fn tones(name: &str, epoch: u64, b: usize) -> Result<Waves> {
    let items = (0..BATCH)
        .map(|i| {
            let index = b * BATCH + i;
            let mut rng = Key::new(8).fold(epoch).fold(index as u64).rng();
            let (length, pitch) = (4000 + 700 * (index % 4), 0.02 * (1 + index % 5) as f32);
            let samples = (0..length).map(|t| (t as f32 * pitch).sin() + 0.3 * rng.normal()).collect();
            let target = match name {
                "hubert" => Target::Frames((0..40).map(|t| ((t + index) % 7) as i64).collect()),
                "ctc" => Target::Transcript(vec![1 + (index % 3) as u32, 2, 3]),
                "classify" => Target::Class((index % 3) as u32),
                _ => Target::None,
            };
            Utterance { samples, start: 0, target }
        })
        .collect();
    Waves::stack(items, &(b * BATCH..(b + 1) * BATCH).collect::<Vec<_>>())
}

fn encoder(family: Family, dropout: f32) -> SpeechConfig {
    let small = EncoderConfig {
        dim: Some(16),
        depth: Some(2),
        heads: Some(2),
        mlp_ratio: Some(2.0),
        front_dim: Some(8),
        position_kernel: Some(if family == Family::Data2vecAudio { 3 } else { 8 }),
        position_groups: Some(2),
        dropout: Some(dropout),
        attention_dropout: Some(dropout),
        activation_dropout: Some(dropout),
        projection_dropout: Some(dropout),
        ..EncoderConfig::default()
    };
    small.resolve(family).unwrap()
}

fn build(name: &str, seed: u64, dropout: f32) -> Method {
    let params = Params::new();
    let scope = Scope::root(&params, seed, &Device::Cpu);
    let spans = SpanMask { prob: 0.5, length: 2, min_spans: 2 };
    match name {
        "ctc" | "classify" => {
            let config = SpeechConfig {
                mask: spans,
                channel_mask: SpanMask { prob: 0.2, length: 2, min_spans: 0 },
                ..encoder(Family::Wav2vec2, dropout)
            };
            if name == "ctc" {
                boxed(
                    Ctc::new(&scope, config, CtcConfig { final_dropout: dropout, ..CtcConfig::default() }, 5)
                        .unwrap(),
                )
            } else {
                boxed(
                    Classify::new(
                        &scope,
                        config,
                        ClassifyConfig { projection_dim: 8, ..ClassifyConfig::default() },
                        3,
                    )
                    .unwrap(),
                )
            }
        }
        _ => {
            let mut method = MethodConfig::named(name).unwrap();
            match &mut method {
                MethodConfig::Wav2vec2(c) => {
                    (c.mask, c.codes, c.code_dim, c.out_dim, c.negatives) = (spans, 5, 8, 8, 4);
                    (c.feature_penalty, c.quantizer_dropout) = (10.0, dropout);
                }
                MethodConfig::Hubert(c) => (c.mask, c.code_dim, c.iterations[0].clusters) = (spans, 8, 7),
                MethodConfig::Data2vec(c) => (c.mask, c.top_layers, c.momentum) = (spans, 2, 0.9),
            }
            method.build(&scope, &encoder(method.family(), dropout)).unwrap()
        }
    }
}

fn trial(name: &'static str) -> Trial<'static, Waves> {
    Trial::new(name, move |epoch, b| tones(name, epoch, b))
}

#[test]
fn every_parameter_moves() {
    for name in NAMES {
        let method = build(name, 0, 0.1);
        let dir = tempfile::tempdir().unwrap();
        trial(name).every_parameter_moves(&*method, &dir.path().join("run")).unwrap();
        let frozen = method.params().with_role(Role::Frozen);
        let front = frozen.iter().filter(|p| p.name.starts_with("encoder.front")).count();
        assert_eq!(
            front > 0,
            matches!(name, "ctc" | "classify"),
            "{name}: fine-tuning freezes the front, pre-training does not"
        );
    }
}

#[test]
fn resuming_is_exact() {
    for name in NAMES {
        let dir = tempfile::tempdir().unwrap();
        trial(name).resuming_is_exact(|seed| Ok(build(name, seed, 0.1)), dir.path()).unwrap();
    }
}

#[test]
fn micro_batches_compute_the_same_gradient() {
    for name in NAMES {
        trial(name).parts_compute_the_gradient(&*build(name, 1, 0.2), &[1, 3], 1e-3).unwrap();
    }
}

#[test]
fn two_processes_compute_the_gradient_of_one() {
    for name in NAMES {
        trial(name).ranks_compute_the_gradient(|seed| Ok(build(name, seed, 0.1)), 2, 1e-3).unwrap();
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    for name in NAMES {
        let dir = tempfile::tempdir().unwrap();
        trial(name).threads_do_not_change_a_bit(|seed| Ok(build(name, seed, 0.1)), dir.path()).unwrap();
    }
}

#[test]
fn padding_changes_nothing() {
    // Not data2vec: as in transformers, the second of its positional convolutions sees what the first made of
    // the padding.
    for (family, norm) in [(Family::Wav2vec2, FrontNorm::Layer), (Family::Hubert, FrontNorm::Layer)] {
        let config = SpeechConfig { front_norm: norm, conv_bias: true, ..encoder(family, 0.0) };
        let net = SpeechEncoder::new(&Scope::root(&Params::new(), 2, &Device::Cpu), config).unwrap();
        let wave = |n: usize| (0..n).map(|t| (t as f32 * 0.03).sin()).collect::<Vec<f32>>();
        let utterance = |n| Utterance { samples: wave(n), ..Utterance::default() };
        let together = Waves::stack(vec![utterance(4000), utterance(2500)], &[0, 1]).unwrap();
        let alone = Waves::stack(vec![utterance(2500)], &[0]).unwrap();
        let want = [Layer::Tokens, Layer::Hidden(0)];
        let features =
            |w: &Waves| net.forward(&w.values, w.valid().unwrap().as_ref(), &want, &Pass::eval()).unwrap();
        let (a, b) = (features(&together), features(&alone));
        let n = net.config().frames(2500);
        let close = |a: &Tensor, b: &Tensor| {
            let gap = (a - b)
                .unwrap()
                .abs()
                .unwrap()
                .flatten_all()
                .unwrap()
                .max(0)
                .unwrap()
                .to_scalar::<f32>()
                .unwrap();
            assert!(gap < 1e-4, "{family:?}: {gap}");
        };
        let cut = |t: &Tensor| t.narrow(0, 1, 1).unwrap().narrow(1, 0, n).unwrap();
        close(&cut(a.tokens.as_ref().unwrap()), b.tokens.as_ref().unwrap());
        close(&cut(&a.layers[0]), &b.layers[0]);
        close(&a.pooled.narrow(0, 1, 1).unwrap(), &b.pooled);
    }
}

#[test]
fn layers_that_are_left_out_still_train() {
    // With a chance of 0.5 some steps leave blocks out; over a run all parameters move, and the same steps
    // leave out the same blocks.
    let mut seen = Vec::new();
    for _ in 0..2 {
        let params = Params::new();
        let method = MethodConfig::named("data2vec").unwrap();
        let config = SpeechConfig { layer_drop: 0.5, ..encoder(method.family(), 0.0) };
        let method = method.build(&Scope::root(&params, 0, &Device::Cpu), &config).unwrap();
        let before = bits(&params).unwrap();
        let dir = tempfile::tempdir().unwrap();
        trial("data2vec").train(&*method, &dir.path().join("run")).unwrap();
        let after = bits(&params).unwrap();
        assert!(before.iter().all(|(name, v)| after[name] != *v), "a parameter did not move in nine steps");
        seen.push(after);
    }
    assert_eq!(seen[0], seen[1]);
}

#[test]
fn the_front_takes_its_share_of_the_gradient() {
    // The same loss to the bit; gradients inside the front are scaled, all others are left alone.
    let gradients = |share: f64| {
        let params = Params::new();
        let config = SpeechConfig { front_gradient: share, ..encoder(Family::Wav2vec2, 0.0) };
        let mut method = MethodConfig::named("wav2vec2").unwrap();
        if let MethodConfig::Wav2vec2(c) = &mut method {
            (c.codes, c.code_dim, c.out_dim, c.negatives, c.feature_penalty) = (5, 8, 8, 4, 10.0);
        }
        let method = method.build(&Scope::root(&params, 0, &Device::Cpu), &config).unwrap();
        let pass = Pass::train(0, Progress::default());
        let loss = method
            .criterion(&method.embed(&tones("wav2vec2", 0, 0).unwrap(), &pass).unwrap(), &pass)
            .unwrap()
            .value;
        let grads = loss.backward().unwrap();
        let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let by_name = params.with_role(Role::Trained).into_iter().map(|p| {
            let g = grads.get(p.var.as_tensor()).map(&values);
            (p.name, g.unwrap_or_default())
        });
        (loss.to_scalar::<f32>().unwrap(), by_name.collect::<Vec<_>>())
    };
    let ((whole_loss, whole), (loss, scaled)) = (gradients(1.0), gradients(0.25));
    assert_eq!(whole_loss, loss);
    let (mut inside, mut outside) = (0, 0);
    for ((name, a), (_, b)) in whole.iter().zip(&scaled) {
        let front = name.starts_with("encoder.front");
        *(if front { &mut inside } else { &mut outside }) += a.len();
        let share = if front { 0.25 } else { 1.0 };
        let size = a.iter().fold(0f32, |m, v| m.max(v.abs()));
        for (a, b) in a.iter().zip(b) {
            assert!((a * share - b).abs() <= 1e-5 * size.max(1e-6), "{name}: {a} and {b}");
        }
    }
    assert!(inside > 0 && outside > 0, "{inside}, {outside}");
    let wrong = SpeechConfig { front_gradient: 0.0, ..encoder(Family::Wav2vec2, 0.0) };
    let refused =
        SpeechEncoder::new(&Scope::root(&Params::new(), 0, &Device::Cpu), wrong).err().unwrap().to_string();
    assert!(refused.contains("encoder.front_gradient = 0"), "{refused}");
}

#[test]
fn the_penalty_is_the_mean_square_of_the_front() {
    let part = |method: &Method, name: &str| {
        let pass = Pass::train(0, Progress::default());
        let loss = method
            .criterion(&method.embed(&tones("wav2vec2", 0, 0).unwrap(), &pass).unwrap(), &pass)
            .unwrap();
        let value = f64::from(loss.value.to_scalar::<f32>().unwrap());
        let part = |n: &str| {
            f64::from(loss.parts.iter().find(|(p, _)| *p == n).unwrap().1.to_scalar::<f32>().unwrap())
        };
        let rest = part("contrastive") + 0.1 * part("diversity");
        (value - rest, part(name))
    };
    let (penalty, energy) = part(&build("wav2vec2", 3, 0.0), "feature_energy");
    let front = SpeechEncoder::new(&Scope::root(&Params::new(), 3, &Device::Cpu).sub("encoder"), {
        let spans = SpanMask { prob: 0.5, length: 2, min_spans: 2 };
        SpeechConfig { mask: spans, ..encoder(Family::Wav2vec2, 0.0) }
    });
    let frames = front.unwrap().convolve(&tones("wav2vec2", 0, 0).unwrap().values, &Pass::eval()).unwrap();
    let values: Vec<f32> = frames.flatten_all().unwrap().to_vec1().unwrap();
    let expected = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / values.len() as f64;
    assert!(expected > 1e-3 && (energy - expected).abs() < 1e-5 * expected, "{energy}, {expected}");
    assert!((penalty - 10.0 * expected).abs() < 1e-4 * (10.0 * expected).max(1.0), "{penalty}, {expected}");
}

#[test]
fn the_encoder_is_frozen_for_the_first_steps() {
    let scope = Scope::root(&Params::new(), 0, &Device::Cpu);
    let task: Method =
        boxed(Ctc::new(&scope, encoder(Family::Wav2vec2, 0.0), CtcConfig::default(), 5).unwrap());
    let before = bits(task.params()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    trial("ctc").freeze_encoder(100).train(&*task, &dir.path().join("run")).unwrap();
    let after = bits(task.params()).unwrap();
    for (name, v) in &before {
        assert_eq!(after[name] != *v, name.starts_with("lm_head"), "{name}");
    }
}

#[test]
fn bad_batches_are_errors() {
    let message = |name: &str, change: &dyn Fn(&mut Waves)| {
        let method = build(name, 0, 0.0);
        let mut batch = tones(name, 0, 0).unwrap();
        change(&mut batch);
        let pass = Pass::train(0, Progress::default());
        method
            .embed(&batch, &pass)
            .and_then(|e| method.criterion(&e, &pass).map(|_| ()))
            .unwrap_err()
            .to_string()
    };
    // A wave of less than one frame.
    let short = |b: &mut Waves| b.lengths[1] = 399;
    for name in NAMES {
        let e = message(name, &short);
        assert!(e.contains("399 samples") && e.contains("400"), "{name}: {e}");
    }
    assert!(message("hubert", &|b| b.targets[0] = Target::None).contains("no frame labels"));
    assert!(
        message("hubert", &|b| b.targets[2] = Target::Frames(vec![7; 40])).contains("7, expected one of 7")
    );
    assert!(message("hubert", &|b| b.targets[2] = Target::Frames(vec![0; 2])).contains("2 frame labels"));
    assert!(message("ctc", &|b| b.targets[0] = Target::Transcript(vec![0])).contains("token 0"));
    assert!(message("ctc", &|b| b.targets[0] = Target::None).contains("no transcript"));
    assert!(message("classify", &|b| b.targets[0] = Target::Class(3)).contains("class 3"));
    // Transcripts that no alignment fits are counted; where none fits, there is nothing to learn.
    let long = Target::Transcript([1, 2].repeat(40));
    let (method, mut batch) = (build("ctc", 0, 0.0), tones("ctc", 0, 0).unwrap());
    let n = batch.targets.len();
    batch.targets.iter_mut().for_each(|t| *t = long.clone());
    let pass = Pass::train(0, Progress::default());
    let loss = method.criterion(&method.embed(&batch, &pass).unwrap(), &pass).unwrap();
    assert_eq!(loss.value.to_scalar::<f32>().unwrap(), 0.0);
    assert_eq!(loss.parts[0].1.to_scalar::<f32>().unwrap(), n as f32);
    let store = loss.value.backward().unwrap();
    for p in method.params().all() {
        if let Some(grad) = store.get(p.var.as_tensor()) {
            let largest = grad.abs().unwrap().flatten_all().unwrap().max(0).unwrap();
            assert_eq!(largest.to_scalar::<f32>().unwrap(), 0.0, "{}", p.name);
        }
    }
    let (method, mut batch) = (build("ctc", 0, 0.0), tones("ctc", 0, 0).unwrap());
    batch.targets[0] = long;
    let pass = Pass::train(0, Progress::default());
    let loss = method.criterion(&method.embed(&batch, &pass).unwrap(), &pass).unwrap();
    assert!(loss.value.to_scalar::<f32>().unwrap().is_finite());
    assert_eq!(loss.parts[0].1.to_scalar::<f32>().unwrap(), 1.0);
}

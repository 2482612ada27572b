//! Recordings that are read whole: windows that join, their level, and how much is read at a time.

use selfsup_core::data::Dataset;
use selfsup_core::{Encoder, Layer, Params, Pass, Scope};
use selfsup_speech::audio::{AudioConfig, Content, count, load};
use selfsup_speech::augment::{Noise, NoiseLevel};
use selfsup_speech::data::{Clip, Corpus, Cut, Prepare, PrepareConfig, Whole, normalize};
use selfsup_speech::encoder::{FrontNorm, SpeechConfig, SpeechEncoder};
use selfsup_speech::layers::Timing;
use std::path::Path;

const TIMING: Timing = Timing { window: 400, step: 320, rate: 16_000 };

fn wave(n: usize) -> Vec<f32> {
    // Louder and off zero towards the end: windows have other levels than the whole.
    (0..n)
        .map(|i| ((i * 7919) % 1009) as f32 / 1009.0 * (1.0 + i as f32 / n as f32) + i as f32 / n as f32)
        .collect()
}

fn corpus(lengths: &[usize]) -> Corpus {
    let clip = |(i, &n): (usize, &usize)| {
        Clip::new(format!("clip {i}"), Content::Wave { rate: 16_000, samples: wave(n).into() })
    };
    Corpus::new(lengths.iter().enumerate().map(clip).collect(), vec![]).unwrap()
}

fn whole(corpus: &Corpus, seconds: f64, context: f64, config: PrepareConfig) -> Whole {
    Whole::new(corpus, Prepare::new(config).unwrap(), &Cut { timing: TIMING, seconds, context }).unwrap()
}

#[test]
fn frames_of_windows_are_those_of_the_recording() {
    for n in [16_000, 16_001, 33_333, 100_000, 48_000] {
        let parts = whole(&corpus(&[n]), 1.0, 0.0, PrepareConfig::default());
        let mut all = wave(n);
        normalize(&mut all);
        let mut frames = 0;
        for i in 0..parts.len() {
            let part = parts.get(i).unwrap();
            assert!(part.samples.len() <= 16_000 + 320, "{n}: {}", part.samples.len());
            assert_eq!(part.start % 320, 0);
            if parts.len() > 1 {
                assert_eq!(part.start / 320, frames, "{n}: the windows join");
            }
            frames += TIMING.frames(part.samples.len());
            for (a, b) in part.samples.iter().zip(&all[part.start..]) {
                assert!((a - b).abs() < 1e-5, "{n}, part {i}: {a} {b}");
            }
        }
        assert_eq!(frames, TIMING.frames(n), "{n}");
        // The last one ends where the recording ends.
        let last = parts.get(parts.len() - 1).unwrap();
        assert_eq!(last.start + last.samples.len(), n);
    }
    // Short ones are one part, as they always were.
    let parts = whole(&corpus(&[8_000, 15_999]), 1.0, 0.0, PrepareConfig::default());
    assert_eq!((parts.len(), parts.parts()[1].section, parts.parts()[1].kept), (2, None, None));
}

/// Layer norms in the front, and no block: every frame depends on the 400 samples that it sees alone, but for
/// the positional convolution, whose weight is set to zero. Then the mean over the frames of all windows is
/// that of one pass over the recording.
#[test]
fn pooled_windows_are_the_whole_pass_where_frames_do_not_see_each_other() {
    let config = SpeechConfig {
        conv_dim: vec![8; 7],
        dim: 16,
        depth: 1,
        heads: 2,
        hidden: 16,
        front_norm: FrontNorm::Layer,
        stable_layer_norm: true,
        position_kernel: 4,
        position_groups: 2,
        ..SpeechConfig::default()
    };
    let params = Params::new();
    let cpu = candle_core::Device::Cpu;
    let encoder = SpeechEncoder::new(&Scope::root(&params, 3, &cpu), config.clone()).unwrap();
    for p in params.all() {
        if p.name.contains("attn.proj") || p.name.contains("positions.length") || p.name == "positions.bias" {
            params.set(&p.name, &p.var.as_tensor().zeros_like().unwrap()).unwrap();
        }
    }
    let features = |samples: &[f32]| -> (Vec<f32>, f64) {
        let x = candle_core::Tensor::from_slice(samples, (1, samples.len()), &cpu).unwrap();
        let made = encoder.forward(&x, None, &[Layer::Tokens], &Pass::eval()).unwrap();
        (made.pooled.squeeze(0).unwrap().to_vec1().unwrap(), made.tokens.unwrap().dim(1).unwrap() as f64)
    };
    let n = 50_000;
    let mut all = wave(n);
    normalize(&mut all);
    let (want, frames) = features(&all);
    let parts = whole(&corpus(&[n]), 1.0, 0.0, PrepareConfig::default());
    assert!(parts.len() > 3);
    let (mut sum, mut count) = (vec![0f64; 16], 0.0);
    for i in 0..parts.len() {
        let (row, frames) = features(&parts.get(i).unwrap().samples);
        sum.iter_mut().zip(row).for_each(|(s, v)| *s += frames * f64::from(v));
        count += frames;
    }
    assert_eq!(count, frames);
    for (s, w) in sum.iter().zip(&want) {
        assert!((s / count - f64::from(*w)).abs() < 1e-4, "{} {w}", s / count);
    }
    // The centre alone is something else.
    let centre = features(&all[17_000..33_000]).0;
    assert!(centre.iter().zip(&want).any(|(a, b)| (a - b).abs() > 1e-2), "{centre:?} {want:?}");
}

#[test]
fn windows_with_context_keep_each_frame_once() {
    let n = 100_000;
    let parts = whole(&corpus(&[n, 9_000]), 1.0, 0.25, PrepareConfig::default());
    let mut next = 0;
    for i in 0..parts.len() - 1 {
        let (part, got) = (parts.parts()[i], parts.get(i).unwrap());
        let (skip, count) = part.kept.unwrap();
        assert_eq!(got.start / 320 + skip, next);
        let frames = TIMING.frames(got.samples.len());
        let count = count.min(frames - skip);
        // A quarter of a second is 12 frames.
        assert_eq!(skip, if i == 0 { 0 } else { 12 });
        assert_eq!(frames - skip - count, if i == parts.len() - 2 { 0 } else { 12 });
        next += count;
    }
    assert_eq!(next, TIMING.frames(n));
    assert_eq!(parts.parts()[parts.len() - 1].kept, None);
}

#[test]
fn no_more_than_a_window_is_read_at_a_time() {
    // Ten minutes, above the longest section that may be decoded, in windows of 30 s.
    let long = corpus(&[600 * 16_000]);
    let audio = AudioConfig { max_seconds: 60.0, ..AudioConfig::default() };
    let config = PrepareConfig { normalize: false, audio: audio.clone(), ..PrepareConfig::default() };
    let parts = whole(&long, 30.0, 0.0, config);
    assert_eq!(parts.len(), 21);
    assert!(parts.longest() <= 31 * 16_000 + 400, "{}", parts.longest());
    for i in [0, 10, 20] {
        assert!(parts.get(i).unwrap().samples.len() <= 30 * 16_000);
    }
    assert!(load(&long.clips()[0].content, "long", None, &audio).is_err());
}

#[test]
fn noise_has_its_ratio_in_every_window() {
    let noise = Some(NoiseLevel { snr_db: 0.0, folder: None, kind: Noise::White, seed: 1 });
    let clean = PrepareConfig { normalize: false, ..PrepareConfig::default() };
    let noisy = PrepareConfig { noise, ..clean.clone() };
    let data = corpus(&[50_000]);
    let (clean, noisy) = (whole(&data, 1.0, 0.0, clean), whole(&data, 1.0, 0.0, noisy));
    let mut seen: Vec<Vec<f32>> = Vec::new();
    for i in 0..clean.len() {
        let (a, b) = (clean.get(i).unwrap().samples, noisy.get(i).unwrap().samples);
        assert!(selfsup_speech::augment::snr(&a, &b).abs() < 0.05);
        assert_eq!(b, noisy.get(i).unwrap().samples);
        let rest: Vec<f32> = b.iter().zip(&a).map(|(b, a)| b - a).collect();
        assert!(seen.iter().all(|s| s[..100] != rest[..100]), "noise of its own");
        seen.push(rest);
    }
}

/// Every format has as many samples as are decoded, also where its head only estimates.
#[test]
fn lengths_are_counted_exactly() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/audio");
    let mut formats = 0;
    for path in selfsup_speech::data::audio_files(&folder).unwrap() {
        let content = Content::File(path.clone());
        let Ok((rate, frames)) = count(&content, "x") else { continue };
        let audio = AudioConfig { rate, ..AudioConfig::default() };
        let Ok(wave) = load(&content, "x", None, &audio) else { continue };
        // What codecs of blocks leave at the end is less than a block.
        assert!(frames.abs_diff(wave.len() as u64) <= 2048, "{}: {frames} {}", path.display(), wave.len());
        formats += 1;
        // Windows of a file are its slices.
        let corpus = Corpus::new(vec![Clip::file(&path)], vec![]).unwrap();
        let config = PrepareConfig { normalize: false, ..PrepareConfig::default() };
        let parts = Whole::new(
            &corpus,
            Prepare::new(config).unwrap(),
            &Cut { timing: TIMING, seconds: 0.25, context: 0.0 },
        )
        .unwrap();
        let all = load(&content, "x", None, &AudioConfig::default()).unwrap();
        let mut end = 0;
        for i in 0..parts.len() {
            let part = parts.get(i).unwrap();
            for (a, b) in part.samples.iter().zip(&all[part.start..]) {
                assert!((a - b).abs() < 2e-3, "{}: {a} {b}", path.display());
            }
            end = part.start + part.samples.len();
        }
        assert!(end + 800 >= all.len(), "{}: {end} of {}", path.display(), all.len());
    }
    assert!(formats >= 5, "{formats}");
}

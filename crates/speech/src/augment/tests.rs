//! Properties of the transforms.

use super::*;
use crate::audio::write_wav;
use crate::features::Frames;
use proptest::prelude::*;
use selfsup_core::Key;

const RATE: u32 = 16_000;

fn tone(hz: f32, n: usize) -> Vec<f32> {
    (0..n).map(|i| 0.5 * (std::f32::consts::TAU * hz * i as f32 / RATE as f32).sin()).collect()
}

/// A voice-like wave: a pulse train through a decay, with pauses.
fn voice(n: usize, seed: u64) -> Vec<f32> {
    let mut r = Key::new(seed).rng();
    let period = 80 + r.below(80);
    (0..n)
        .map(|i| {
            if (i / 4000) % 3 == 2 {
                0.0
            } else {
                0.6 * (-((i % period) as f32) / 20.0).exp() + 0.01 * r.normal()
            }
        })
        .collect()
}

/// Power at a frequency, relative to that of the wave.
fn share(wave: &[f32], hz: f32) -> f64 {
    let (mut c, mut s) = (0f64, 0f64);
    for (i, v) in wave.iter().enumerate() {
        let a = std::f64::consts::TAU * f64::from(hz) * i as f64 / f64::from(RATE);
        c += f64::from(*v) * a.cos();
        s += f64::from(*v) * a.sin();
    }
    2.0 * (c * c + s * s) / (wave.len() as f64).powi(2) / power(wave).max(1e-30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn noise_has_the_ratio_that_was_asked_for(db in -20.0_f32..40.0, n in 200_usize..4000, m in 10_usize..6000, seed in 0_u64..100) {
        let clean = voice(n, seed);
        let sound = noise(Noise::Pink, m, &mut Key::new(seed).rng());
        let mut noisy = clean.clone();
        add_noise(&mut noisy, &sound, db);
        prop_assert!((snr(&clean, &noisy) - f64::from(db)).abs() < 0.05, "{} {}", snr(&clean, &noisy), db);
    }

    #[test]
    fn gain_is_decibels(db in -40.0_f32..40.0) {
        let mut wave = tone(440.0, 1600);
        let before = power(&wave);
        gain(&mut wave, db, false);
        prop_assert!((10.0 * (power(&wave) / before).log10() - f64::from(db)).abs() < 1e-3);
        gain(&mut wave, 60.0, true);
        prop_assert!(peak(&wave) <= 1.0);
    }

    #[test]
    fn convolution_is_the_sum(n in 1_usize..700, m in 1_usize..400, seed in 0_u64..50) {
        let mut r = Key::new(seed).rng();
        let (x, h): (Vec<f32>, Vec<f32>) = ((0..n).map(|_| r.normal()).collect(), (0..m).map(|_| r.normal()).collect());
        let y = convolve(&x, &h).unwrap();
        prop_assert_eq!(y.len(), n + m - 1);
        for k in [0, n / 2, n + m - 2] {
            let want: f64 = (0..m).filter(|&j| j <= k && k - j < n).map(|j| f64::from(h[j]) * f64::from(x[k - j])).sum();
            prop_assert!((f64::from(y[k]) - want).abs() < 1e-3 * (n.min(m) as f64).sqrt().max(1.0), "{} {}", y[k], want);
        }
    }

    #[test]
    fn reverb_keeps_length_power_and_onset(decay in 0.05_f32..1.0, seed in 0_u64..50) {
        let mut r = Key::new(seed).rng();
        let response = impulse(decay, RATE, &mut r);
        prop_assert!((0..response.len()).all(|i| response[i].abs() <= response[0]));
        let mut wave = vec![0.0; 3000];
        wave.extend(voice(8000, seed));
        let wet = reverberate(&wave, &response).unwrap();
        prop_assert_eq!(wet.len(), wave.len());
        prop_assert!((power(&wet) / power(&wave) - 1.0).abs() < 1e-3);
        prop_assert!(peak(&wet[..2990]) < 1e-3 * peak(&wet), "nothing is heard before it is said");
    }

    #[test]
    fn speed_changes_length_and_pitch(percent in 50_u32..200) {
        let factor = percent as f32 / 100.0;
        let fast = change_speed(&tone(500.0, 16_000), factor).unwrap();
        prop_assert_eq!(fast.len(), 1_600_000_usize.div_ceil(percent as usize));
        let middle = &fast[1000..fast.len() - 1000];
        prop_assert!(share(middle, 500.0 * factor) > 0.9, "{}", share(middle, 500.0 * factor));
    }

    #[test]
    fn pitch_moves_and_length_stays(semitones in -8.0_f32..8.0) {
        prop_assume!(semitones.abs() > 0.5);
        let wave = tone(300.0, 24_000);
        let moved = shift_pitch(&wave, semitones, RATE).unwrap();
        prop_assert_eq!(moved.len(), wave.len());
        let hz = 300.0 * 2f32.powf(semitones / 12.0);
        // The search gives the nearest fitting piece, so the tone stays pure within some hertz.
        let middle = &moved[4000..12_000];
        let best = (-12..=12).map(|k| share(middle, hz + k as f32)).fold(0.0, f64::max);
        prop_assert!(best > 0.5 && share(middle, 300.0) < 0.2, "{} at {} Hz, {} at 300 Hz", best, hz, share(middle, 300.0));
    }

    #[test]
    fn mu_law_is_near_and_has_few_levels(bits in 2_u32..=16, seed in 0_u64..50) {
        let wave: Vec<f32> = voice(3000, seed);
        let mut coded = wave.clone();
        mu_law(&mut coded, bits);
        let mut levels: Vec<u32> = coded.iter().map(|v| v.to_bits()).collect();
        levels.sort_unstable();
        levels.dedup();
        prop_assert!(levels.len() <= 1 << bits, "{} levels", levels.len());
        let mut again = coded.clone();
        mu_law(&mut again, bits);
        for (a, b) in again.iter().zip(&coded) {
            prop_assert!((a - b).abs() < 1e-4, "coding twice is coding once");
        }
        if bits >= 8 {
            prop_assert!(snr(&wave, &coded) > 25.0, "{}", snr(&wave, &coded));
        }
    }

    #[test]
    fn spec_augment_hides_whole_bands(n in 1_usize..300, d in 1_usize..90, seed in 0_u64..200) {
        let config = SpecAugmentConfig { value: Some(-9.0), ..SpecAugmentConfig::default() };
        let spec = SpecAugment::new(config).unwrap();
        let mut frames = Frames::new((0..n * d).map(|i| i as f32).collect(), d, 0.0, 0.01).unwrap();
        let before = frames.clone();
        spec.apply(&mut frames, &mut Key::new(seed).rng());
        let hidden = |t: usize, j: usize| frames.row(t)[j] == -9.0;
        let rows = (0..n).filter(|&t| (0..d).all(|j| hidden(t, j))).count();
        let columns: Vec<usize> = (0..d).filter(|&j| (0..n).all(|t| hidden(t, j))).collect();
        prop_assert!((rows == n || columns.len() <= 54) && (columns.len() == d || rows <= 200));
        for t in 0..n {
            let whole = (0..d).all(|j| hidden(t, j));
            for j in 0..d {
                prop_assert!(frames.row(t)[j] == before.row(t)[j] || whole || columns.contains(&j));
            }
        }
    }
}

#[test]
fn noises_have_their_slopes() {
    let band = |wave: &[f32], low, high| power(&band_pass(wave, low, high, RATE).unwrap());
    for (kind, octave) in [(Noise::White, 2.0), (Noise::Pink, 1.0), (Noise::Brown, 0.5)] {
        let wave = noise(kind, 200_000, &mut Key::new(1).rng());
        assert!((power(&wave) - 1.0).abs() < 1e-3);
        // From one octave to the next the power doubles, stays, halves.
        let ratio = band(&wave, 1600.0, 3200.0) / band(&wave, 800.0, 1600.0);
        assert!((ratio / octave - 1.0).abs() < 0.25, "{kind:?}: {ratio}");
    }
}

#[test]
fn silence_stays_silence() {
    let mut wave = vec![0.0; 100];
    add_noise(&mut wave, &[1.0; 10], 0.0);
    add_noise(&mut wave, &[], 0.0);
    assert_eq!(wave, vec![0.0; 100]);
    let mut wave = tone(100.0, 100);
    add_noise(&mut wave, &[0.0; 10], 0.0);
    assert_eq!(wave, tone(100.0, 100));
    assert_eq!(reverberate(&[0.0; 50], &[1.0, 0.5]).unwrap(), vec![0.0; 50]);
    assert_eq!(reverberate(&wave, &[0.0; 9]).unwrap(), wave);
}

#[test]
fn bands_keep_and_remove() {
    for (hz, kept) in [(100.0, false), (1000.0, true), (3000.0, true), (5000.0, false)] {
        let out = band_pass(&tone(hz, 8000), 300.0, 3400.0, RATE).unwrap();
        assert_eq!(out.len(), 8000);
        let level = peak(&out[1000..7000]) / 0.5;
        assert!(if kept { (level - 1.0).abs() < 0.02 } else { level < 0.02 }, "{hz} Hz: {level}");
    }
    // No delay: what is kept stays where it was.
    let (x, y) = (tone(1000.0, 8000), low_pass(&tone(1000.0, 8000), 3000.0, RATE).unwrap());
    assert!(x[500..7500].iter().zip(&y[500..7500]).all(|(a, b)| (a - b).abs() < 5e-3));
    assert!(band_pass(&x, 3000.0, 300.0, RATE).is_err() && band_pass(&x, 0.0, 9000.0, RATE).is_err());
}

#[test]
fn low_rates_lose_what_is_high() {
    let wave: Vec<f32> = tone(500.0, 16_000).iter().zip(tone(6000.0, 16_000)).map(|(a, b)| a + b).collect();
    let clean = low_rate(&wave, RATE, 8_000, false).unwrap();
    assert_eq!(clean.len(), wave.len());
    assert!(share(&clean[500..15_500], 500.0) > 0.95);
    let folded = low_rate(&wave, RATE, 8_000, true).unwrap();
    assert_eq!(folded.len(), wave.len());
    assert!(share(&folded, 2000.0) > 0.1, "6 kHz folds to 2 kHz: {}", share(&folded, 2000.0));
    assert!((0..wave.len()).all(|i| folded[i] == wave[i / 2 * 2]));
    assert!(low_rate(&wave, RATE, 0, false).is_err() && low_rate(&wave, RATE, 20_000, true).is_err());
}

#[test]
fn stretching_keeps_the_pitch() {
    for factor in [0.7, 1.5] {
        let long = stretch(&tone(250.0, 16_000), factor, RATE);
        assert_eq!(long.len(), (16_000.0 * factor) as usize);
        let middle = &long[2000..long.len() - 2000];
        assert!(share(middle, 250.0) > 0.7, "{factor}: {}", share(middle, 250.0));
    }
    assert_eq!(stretch(&[1.0, 1.0], 2.0, RATE).len(), 4);
    assert!(stretch(&[], 2.0, RATE).is_empty());
}

#[test]
fn pipelines_are_drawn_from_the_generator_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("deep")).unwrap();
    for (i, hz) in [200.0, 900.0, 2500.0].into_iter().enumerate() {
        write_wav(&dir.path().join(format!("deep/{i}.wav")), &tone(hz, 4000 + 40_000 * i), 8_000).unwrap();
    }
    let folder = Some(dir.path().to_path_buf());
    let ops = [
        Op::Noise { snr_db: [0.0, 20.0], folder: folder.clone(), kind: Noise::White, p: 0.7 },
        Op::Reverb { folder: None, decay: [0.1, 0.3], p: 0.5 },
        Op::Speed { factors: vec![0.9, 1.1], p: 0.5 },
        Op::Pitch { semitones: [-2.0, 2.0], p: 0.5 },
        Op::Band { low_hz: [0.0, 300.0], high_hz: [3000.0, 8000.0], p: 0.5 },
        Op::Gain { db: [-6.0, 6.0], clip: true, p: 0.5 },
        Op::MuLaw { bits: [6, 10], p: 0.5 },
        Op::LowRate { rates: vec![4000, 8000], alias: false, p: 0.5 },
    ];
    let audio = AudioConfig::default();
    let pipeline = Pipeline::new(&ops, &audio).unwrap();
    assert!(pipeline.changes_time() && !pipeline.is_empty());
    let run = |seed: u64| pipeline.apply(voice(9000, 1), &mut Key::new(seed).rng()).unwrap();
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4));
    for seed in 0..20 {
        assert!(run(seed).iter().all(|v| v.is_finite()));
    }
    assert!(pipeline.apply(vec![], &mut Key::new(0).rng()).unwrap().is_empty());
    // A step that is not applied changes nothing for those after it.
    let muted = |p| {
        let ops = [Op::Reverb { folder: None, decay: [0.1, 0.3], p }, Op::MuLaw { bits: [4, 12], p: 1.0 }];
        let mut r = Key::new(9).rng();
        Pipeline::new(&ops, &audio).unwrap().apply(vec![0.0; 64], &mut r).unwrap();
        r.next_u32()
    };
    assert_eq!(muted(0.0), muted(1.0));
    let text = serde_json::to_string(&ops).unwrap();
    assert_eq!(serde_json::from_str::<Vec<Op>>(&text).unwrap(), ops);
    assert!(serde_json::from_str::<Op>(r#"{"name": "gain", "db": [0, 1], "p": 1, "loud": true}"#).is_err());
}

#[test]
fn impossible_steps_are_refused() {
    let audio = AudioConfig::default();
    let dir = tempfile::tempdir().unwrap();
    let noise = |snr_db, p, folder| Op::Noise { snr_db, folder, kind: Noise::White, p };
    for (op, part) in [
        (noise([20.0, 0.0], 1.0, None), "snr_db"),
        (noise([f32::NAN, 0.0], 1.0, None), "snr_db"),
        (noise([0.0, 1.0], 1.5, None), "p = "),
        (noise([0.0, 1.0], 1.0, Some(dir.path().to_path_buf())), "no recordings"),
        (noise([0.0, 1.0], 1.0, Some(dir.path().join("absent"))), "absent"),
        (Op::Speed { factors: vec![], p: 1.0 }, "factors"),
        (Op::Speed { factors: vec![9.0], p: 1.0 }, "factors"),
        (Op::Band { low_hz: [0.0, 4000.0], high_hz: [3000.0, 5000.0], p: 1.0 }, "low_hz below high_hz"),
        (Op::MuLaw { bits: [1, 8], p: 1.0 }, "bits"),
        (Op::LowRate { rates: vec![32_000], alias: false, p: 1.0 }, "rates"),
        (Op::Pitch { semitones: [-30.0, 0.0], p: 1.0 }, "semitones"),
    ] {
        let e =
            Pipeline::new(std::slice::from_ref(&op), &audio).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(e.contains(part), "{op:?}: {e}");
    }
    assert!(SpecAugment::new(SpecAugmentConfig { time_share: 2.0, ..SpecAugmentConfig::default() }).is_err());
}

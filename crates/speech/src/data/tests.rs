//! Corpora, lengths, crops and batches.

use super::*;
use crate::audio::write_wav;
use crate::augment::Op;
use crate::batch::{Target, Waves};
use crate::labels::{Alignment, Phones};
use selfsup_core::data::{Loader, LoaderConfig, Transform};
use selfsup_core::{Key, Rng};
use std::io::{Seek, SeekFrom, Write};

fn ramp(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i % 20_000) as f32 / 32_768.0).collect()
}

fn tone(n: usize) -> Vec<f32> {
    (0..n).map(|i| 0.3 * (i as f32 * 0.05).sin()).collect()
}

/// Ten short recordings of 0.5 to 1.4 s in two languages, one of two hours.
fn folder(long: bool) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (i, class) in (0..10).map(|i| (i, ["en", "fr"][i % 2])) {
        let sub = dir.path().join(class).join("deep");
        std::fs::create_dir_all(&sub).unwrap();
        write_wav(&sub.join(format!("{i}.wav")), &tone(8_000 + 1_600 * i), 16_000).unwrap();
    }
    if long {
        let path = dir.path().join("en/long.wav");
        write_wav(&path, &[], 16_000).unwrap();
        let mut head = std::fs::read(&path).unwrap();
        let bytes = 2u32 * 3600 * 16_000 * 2;
        head[4..8].copy_from_slice(&(36 + bytes).to_le_bytes());
        head[40..44].copy_from_slice(&bytes.to_le_bytes());
        let mut f = std::fs::File::create(&path).unwrap();
        f.write_all(&head).unwrap();
        // Zeros that the disk need not hold, and a mark each quarter of an hour.
        f.set_len(44 + u64::from(bytes)).unwrap();
        for k in 0..8u64 {
            f.seek(SeekFrom::Start(44 + k * 900 * 32_000)).unwrap();
            f.write_all(&[0x20; 320]).unwrap();
        }
    }
    dir
}

fn prepare(crop: Option<f64>, random: bool) -> Prepare {
    Prepare::new(PrepareConfig {
        crop_seconds: crop,
        random_crop: random,
        normalize: false,
        ..PrepareConfig::default()
    })
    .unwrap()
}

#[test]
fn folders_give_labels_transcripts_and_alignments() {
    let dir = folder(false);
    std::fs::write(dir.path().join("fr/deep/1.txt"), "  Bonjour\n tout le monde\n").unwrap();
    std::fs::write(dir.path().join("fr/deep/3.lab"), "#\n0.2 125 pau\n").unwrap();
    std::fs::write(dir.path().join("fr/deep/.hidden.wav"), "").unwrap();
    let corpus = Corpus::folder(dir.path()).unwrap();
    assert_eq!((corpus.len(), corpus.classes()), (10, &["en".to_string(), "fr".to_string()][..]));
    let find = |name: &str| corpus.clips().iter().find(|c| c.id.ends_with(name)).unwrap();
    assert_eq!(find("1.wav").transcript.as_deref(), Some("Bonjour tout le monde"));
    assert!(find("3.wav").alignment.is_some() && find("5.wav").alignment.is_none());
    assert_eq!((find("0.wav").label, find("1.wav").label), (Some(0), Some(1)));
    let empty = tempfile::tempdir().unwrap();
    assert!(Corpus::folder(empty.path()).unwrap_err().to_string().contains("no recordings found"));
    assert!(Corpus::new(vec![Clip { label: Some(2), ..find("1.wav").clone() }], vec!["a".into()]).is_err());
}

#[test]
fn lengths_are_measured_and_filtered() {
    let dir = folder(true);
    std::fs::write(dir.path().join("fr/bad.wav"), "no sound").unwrap();
    let (corpus, bad) = Corpus::folder(dir.path()).unwrap().measure().unwrap();
    assert_eq!((corpus.len(), bad.len()), (11, 1));
    assert!(bad[0].0.ends_with("bad.wav") && bad[0].1.contains("bad.wav"), "{bad:?}");
    let filter = LengthFilter { min_seconds: 0.75, max_seconds: Some(60.0) };
    let (kept, out) = corpus.filter(&filter).unwrap();
    assert_eq!((kept.len(), out), (7, LeftOut { short: 3, long: 1 }));
    assert!(kept.clips().iter().all(|c| (0.75..=60.0).contains(&c.seconds.unwrap())));
    assert_eq!(corpus.lengths(Some(1.0)).iter().max(), Some(&1000));
    assert!(corpus.seconds() > 7200.0);
    let e = corpus.filter(&LengthFilter { min_seconds: 1e5, max_seconds: None }).unwrap_err().to_string();
    assert!(e.contains("11 are shorter"), "{e}");
    assert!(corpus.filter(&LengthFilter { min_seconds: 2.0, max_seconds: Some(1.0) }).is_err());
}

/// A two-hour recording in a batch of short ones is cropped, or refused by its name: it is never padded
/// around.
#[test]
fn a_two_hour_file_does_not_blow_up_a_batch() {
    let dir = folder(true);
    let (corpus, _) = Corpus::folder(dir.path()).unwrap().measure().unwrap();
    let config = LoaderConfig { batch_size: 11, workers: 2, drop_last: false, ..LoaderConfig::default() };
    let run = |prepare: Prepare, config: LoaderConfig| -> selfsup_core::Result<Waves> {
        let loader = Loader::new(Arc::new(corpus.clone()), Arc::new(prepare), Arc::new(Padded), config)?;
        Ok(loader.epoch_from(0, 0)?.next().unwrap()?.batch)
    };
    let start = std::time::Instant::now();
    let batch = run(prepare(Some(1.0), true), config.clone()).unwrap();
    assert_eq!(batch.values.dims(), [11, 16_000]);
    assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
    assert!(
        batch.starts.iter().any(|s| *s > 100_000),
        "the crop lies anywhere in the two hours: {:?}",
        batch.starts
    );
    let e = run(prepare(None, true), config.clone()).unwrap_err().to_string();
    assert!(e.contains("long.wav") && e.contains("7200.0 s") && e.contains("max_seconds"), "{e}");
    // As a bad sample it is left out, and the batch is as long as the longest short one.
    let batch = run(prepare(None, true), LoaderConfig { max_bad_fraction: 0.2, ..config }).unwrap();
    assert_eq!(batch.values.dims(), [10, 8_000 + 1_600 * 9]);
}

#[test]
fn crops_are_slices_and_come_from_the_generator() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.wav");
    write_wav(&path, &ramp(20_000), 16_000).unwrap();
    let whole = Clip::file(&path).load(None, &crate::audio::AudioConfig::default()).unwrap();
    let crop =
        |seed: u64, clip: Clip| prepare(Some(0.25), true).apply(clip, &mut Key::new(seed).rng()).unwrap();
    let mut starts = Vec::new();
    for seed in 0..40 {
        let u = crop(seed, Clip::file(&path));
        assert_eq!(u.samples, whole[u.start..u.start + 4_000]);
        assert_eq!(u, crop(seed, Clip { seconds: Some(1.25), ..Clip::file(&path) }));
        starts.push(u.start);
    }
    assert!(*starts.iter().min().unwrap() < 3_000 && *starts.iter().max().unwrap() > 13_000, "{starts:?}");
    let middle = prepare(Some(0.25), false).apply(Clip::file(&path), &mut Key::new(0).rng()).unwrap();
    assert_eq!(middle.start, 8_000);
    // A part of a recording is cropped within itself.
    let part = Clip { part: Some((0.5, 0.5)), ..Clip::file(&path) };
    assert_eq!(part.measure().unwrap(), Some(0.5));
    assert_eq!(part.load(None, &crate::audio::AudioConfig::default()).unwrap(), whole[8_000..16_000]);
    for seed in 0..20 {
        let u = crop(seed, part.clone());
        assert!(u.start <= 4_000);
        assert_eq!(u.samples, whole[8_000 + u.start..8_000 + u.start + 4_000]);
    }
    // Shorter than the crop: whole. Shorter than the least: refused by name.
    let short = Clip { part: Some((0.0, 0.2)), ..Clip::file(&path) };
    assert_eq!(crop(1, short).samples.len(), 3_200);
    let tiny = Clip { part: Some((0.0, 0.05)), ..Clip::file(&path) };
    let e = prepare(Some(0.25), true).apply(tiny, &mut Key::new(0).rng()).unwrap_err().to_string();
    assert!(e.contains("a.wav") && e.contains("800 samples"), "{e}");
}

#[test]
fn a_wrong_length_is_forgiven_to_mp3_alone() {
    let crop = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/audio").join(name);
        let clip = Clip { seconds: Some(100.0), ..Clip::file(path) };
        prepare(Some(0.5), false).apply(clip, &mut Key::new(0).rng())
    };
    let u = crop("chirp.mp3").unwrap();
    assert_eq!((u.samples.len(), u.start), (8_000, 0));
    let e = crop("chirp.flac").unwrap_err().to_string();
    assert!(e.contains("chirp.flac") && e.contains("2.00 s"), "{e}");
}

#[test]
fn batches_hold_clips_of_like_length_and_resume() {
    let clips: Vec<Clip> = (0..40)
        .map(|i| {
            let n = 2_000 + (i * 977) % 9_000;
            Clip {
                seconds: Some(n as f64 / 16_000.0),
                ..Clip::new(format!("{i}"), Content::Wave { rate: 16_000, samples: tone(n).into() })
            }
        })
        .collect();
    let corpus = Corpus::new(clips, vec![]).unwrap();
    let waste = |by_length: bool| {
        let config = LoaderConfig { batch_size: 4, workers: 0, drop_last: false, ..LoaderConfig::default() };
        let (data, prepare, collate) =
            (Arc::new(corpus.clone()), Arc::new(prepare(None, true)), Arc::new(Padded));
        let loader = if by_length {
            Loader::by_length(data, prepare, collate, config, corpus.lengths(None), 10).unwrap()
        } else {
            Loader::new(data, prepare, collate, config).unwrap()
        };
        let batches: Vec<_> = loader.epoch_from(3, 0).unwrap().map(|b| b.unwrap()).collect();
        let resumed: Vec<_> = loader.epoch_from(3, 6).unwrap().map(|b| b.unwrap().indices).collect();
        assert_eq!(resumed, batches[6..].iter().map(|b| b.indices.clone()).collect::<Vec<_>>());
        batches
            .iter()
            .map(|b| b.batch.values.elem_count() - b.batch.lengths.iter().sum::<usize>())
            .sum::<usize>()
    };
    assert!(waste(true) * 4 < waste(false), "{} {}", waste(true), waste(false));
}

#[test]
fn targets_follow_the_crop() {
    let dir = tempfile::tempdir().unwrap();
    let lab = dir.path().join("a.lab");
    std::fs::write(&lab, "#\n0.1 125 pau\n0.5 125 a\n1.0 125 b\n").unwrap();
    let content = Content::Wave { rate: 16_000, samples: tone(16_000).into() };
    let clip =
        Clip { alignment: Some(lab.clone()), label: Some(1), seconds: Some(1.0), ..Clip::new("x", content) };
    let phones = Phones::of([&Alignment::read(&lab).unwrap()]);
    let frames = PhoneFrames { phones, window: 400, step: 320, rate: 16_000 };
    let Target::Frames(ids) = frames.of(&clip, 0, 16_000).unwrap() else { panic!() };
    assert_eq!((ids.len(), ids[0], ids[10], ids[48]), (49, 2, 0, 1));
    // From 0.4 s on: frame 4 has its middle at 0.4925 s, frame 5 at 0.5125 s.
    let Target::Frames(ids) = frames.of(&clip, 6_400, 4_000).unwrap() else { panic!() };
    assert_eq!(ids, [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1]);
    assert_eq!(Classes.of(&clip, 0, 1).unwrap(), Target::Class(1));
    assert!(
        Classes
            .of(&Clip { label: None, ..clip.clone() }, 0, 1)
            .unwrap_err()
            .to_string()
            .contains("x: has no label")
    );
    assert!(frames.of(&Clip { alignment: None, ..clip }, 0, 1).is_err());
    // Labels of instants do not survive a change of speed.
    let speed = vec![Op::Speed { factors: vec![0.9], p: 1.0 }];
    let config = PrepareConfig { augment: speed, ..PrepareConfig::default() };
    assert!(
        Prepare::with_targets(config.clone(), Arc::new(frames)).err().unwrap().to_string().contains("speed")
    );
    assert!(Prepare::with_targets(config, Arc::new(Classes)).is_ok());
    struct Whole;
    impl Targets for Whole {
        fn of(&self, _: &Clip, _: u64, _: usize) -> selfsup_core::Result<Target> {
            Ok(Target::Transcript(vec![1]))
        }
        fn of_parts(&self) -> bool {
            false
        }
    }
    assert!(
        Prepare::with_targets(PrepareConfig::default(), Arc::new(Whole))
            .err()
            .unwrap()
            .to_string()
            .contains("crop_seconds")
    );
    assert!(Prepare::new(PrepareConfig { crop_seconds: Some(0.01), ..PrepareConfig::default() }).is_err());
    assert!(Prepare::new(PrepareConfig { min_seconds: f64::NAN, ..PrepareConfig::default() }).is_err());
}

#[test]
fn normalised_waves() {
    let clip = Clip::new(
        "x",
        Content::Wave { rate: 16_000, samples: tone(8_000).iter().map(|v| v * 0.1 + 0.2).collect() },
    );
    let u = Prepare::new(PrepareConfig::default()).unwrap().apply(clip, &mut Key::new(0).rng()).unwrap();
    let mean = u.samples.iter().sum::<f32>() / 8_000.0;
    let var = u.samples.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / 8_000.0;
    assert!(mean.abs() < 1e-4 && (var - 1.0).abs() < 1e-2, "{mean} {var}");
    let mut silence = vec![0.0; 10];
    normalize(&mut silence);
    assert_eq!(silence, vec![0.0; 10]);
    let mut r: Rng = Key::new(0).rng();
    let nan = Clip::new("nan", Content::Wave { rate: 16_000, samples: vec![f32::NAN; 8_000].into() });
    let e = prepare(None, true).apply(nan, &mut r).unwrap_err().to_string();
    assert!(e.contains("nan: sample 0"), "{e}");
}

//! Decoding: every format, sections, and files that are not as they should be.

use selfsup_core::Key;
use selfsup_core::data::Transform;
use selfsup_speech::audio::{AudioConfig, Content, Section, info, load, write_wav, write_wav_f32};
use selfsup_speech::data::{Clip, Prepare, PrepareConfig};
use std::path::{Path, PathBuf};

const FORMATS: [&str; 5] = ["chirp.aiff", "chirp.flac", "chirp.m4a", "chirp.mp3", "chirp.ogg"];

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/audio").join(name)
}

fn file(path: &Path) -> Content {
    Content::File(path.to_path_buf())
}

fn whole(path: &Path) -> selfsup_core::Result<Vec<f32>> {
    load(&file(path), &path.display().to_string(), None, &AudioConfig::default())
}

fn fails(path: &Path, parts: &[&str]) {
    let e = whole(path).unwrap_err().to_string();
    let name = path.file_name().unwrap().to_string_lossy();
    assert!(e.contains(&*name) && parts.iter().all(|p| e.contains(p)), "{e}");
}

/// The chirp of the samples: 0.75 of its left channel (the mean of a channel and its half).
fn chirp(n: usize) -> Vec<f32> {
    // The samples were made at 22,050 Hz from the running sum of the frequency.
    let made: Vec<f64> = {
        let mut phase = 0.0;
        (0..44_100)
            .map(|i| {
                let t = i as f64 / 22_050.0;
                phase += std::f64::consts::TAU * (200.0 + 300.0 * t) / 22_050.0;
                0.75 * (0.4 * phase.sin() * (0.6 + 0.4 * (std::f64::consts::TAU * 3.0 * t).sin())
                    + 0.1 * (2.7 * phase).sin())
            })
            .collect()
    };
    let at = |k: usize| {
        let x = k as f64 * 22_050.0 / 16_000.0;
        let i = x as usize;
        let (a, b) = (made[i.min(44_099)], made[(i + 1).min(44_099)]);
        (a + (b - a) * x.fract()) as f32
    };
    (0..n).map(at).collect()
}

#[test]
fn every_format_gives_the_same_wave() {
    let want = chirp(32_000);
    for name in FORMATS {
        let about = info(&file(&sample(name)), name).unwrap();
        assert!(about.rate == if name == "chirp.aiff" { 8_000 } else { 22_050 }, "{name}: {about:?}");
        let wave = whole(&sample(name)).unwrap();
        // The AAC decoder keeps the encoder's delay of one frame; the others begin where the sound began.
        let delay = if name == "chirp.m4a" { 16_000 * 1024 / 22_050 } else { 0 };
        assert!(wave.len().abs_diff(32_000) < 2_400, "{name}: {}", wave.len());
        let error = |shift: usize| {
            let (mut gap, mut size) = (0f64, 0f64);
            for i in 4_000..28_000 {
                gap += f64::from(wave[i + shift] - want[i]).powi(2);
                size += f64::from(want[i]).powi(2);
            }
            (gap / size).sqrt()
        };
        let best = (delay..delay + 3).map(error).fold(f64::MAX, f64::min);
        assert!(best < 0.1, "{name}: {best}");
    }
}

#[test]
fn a_section_is_the_slice_of_the_whole() {
    for name in FORMATS {
        for rate in [16_000, 22_050, 8_000] {
            let config = AudioConfig { rate, ..AudioConfig::default() };
            let all = load(&file(&sample(name)), name, None, &config).unwrap();
            for (start, len) in [
                (0, 4_000),
                (rate as usize, 4_000),
                (rate as usize * 3 / 2 + 13, 1_001),
                (all.len() - 900, 5_000),
            ] {
                let section = Section { start: start as u64, len: len as u64 };
                let part = load(&file(&sample(name)), name, Some(section), &config).unwrap();
                let want = &all[start..(start + len).min(all.len())];
                assert!(
                    part.len().abs_diff(want.len()) <= 1,
                    "{name} at {rate}: {} for {}",
                    part.len(),
                    want.len()
                );
                let gap = part.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(gap < 2e-3, "{name} at {rate}, {start}: differs by {gap}");
            }
        }
        let past = Section { start: 16_000 * 60, len: 100 };
        let e =
            load(&file(&sample(name)), name, Some(past), &AudioConfig::default()).unwrap_err().to_string();
        assert!(e.contains(name), "{e}");
    }
}

#[test]
fn content_decides_not_the_name() {
    let dir = tempfile::tempdir().unwrap();
    for name in FORMATS {
        let renamed = dir.path().join("renamed.wav");
        std::fs::copy(sample(name), &renamed).unwrap();
        assert_eq!(whole(&renamed).unwrap(), whole(&sample(name)).unwrap(), "{name}");
        let bytes = Content::Bytes(std::fs::read(sample(name)).unwrap().into());
        assert_eq!(
            load(&bytes, name, None, &AudioConfig::default()).unwrap(),
            whole(&sample(name)).unwrap(),
            "{name} in memory"
        );
    }
}

/// A wav file of interleaved 16-bit samples.
fn pcm(channels: u16, rate: u32, frames: usize, value: impl Fn(usize, u16) -> i16) -> Vec<u8> {
    let data: Vec<u8> = (0..frames)
        .flat_map(|i| (0..channels).map(move |c| (i, c)))
        .flat_map(|(i, c)| value(i, c).to_le_bytes())
        .collect();
    let mut out = Vec::new();
    out.extend_from_slice(b"RIFF");
    out.extend_from_slice(&(36 + data.len() as u32).to_le_bytes());
    out.extend_from_slice(b"WAVEfmt \x10\0\0\0\x01\0");
    out.extend_from_slice(&channels.to_le_bytes());
    out.extend_from_slice(&rate.to_le_bytes());
    out.extend_from_slice(&(rate * u32::from(channels) * 2).to_le_bytes());
    out.extend_from_slice(&(channels * 2).to_le_bytes());
    out.extend_from_slice(b"\x10\0data");
    out.extend_from_slice(&(data.len() as u32).to_le_bytes());
    out.extend_from_slice(&data);
    out
}

#[test]
fn seven_channels_are_mixed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("seven.wav");
    // Channel c holds 1000 (c + 1): the mean is 4000.
    std::fs::write(&path, pcm(7, 16_000, 5_000, |_, c| 1000 * (c as i16 + 1))).unwrap();
    assert_eq!(info(&file(&path), "seven").unwrap().channels, Some(7));
    let wave = whole(&path).unwrap();
    assert_eq!(wave.len(), 5_000);
    assert!(wave.iter().all(|v| (v - 4000.0 / 32768.0).abs() < 1e-6), "{:?}", &wave[..4]);
}

#[test]
fn ninety_six_kilohertz() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("high.wav");
    let tone = |hz: f64, i: usize| (8000.0 * (std::f64::consts::TAU * hz * i as f64 / 96_000.0).sin()) as i16;
    std::fs::write(&path, pcm(1, 96_000, 96_000, |i, _| tone(500.0, i) + tone(30_000.0, i))).unwrap();
    let wave = whole(&path).unwrap();
    assert_eq!(wave.len(), 16_000);
    // The 500 Hz tone alone: 30 kHz is above what 16 kHz can hold, and must not fold to 2 kHz.
    for (i, v) in wave.iter().enumerate().take(15_000).skip(1_000) {
        let want = 8000.0 / 32768.0 * (std::f64::consts::TAU * 500.0 * i as f64 / 16_000.0).sin();
        assert!((f64::from(*v) - want).abs() < 2e-3, "{i}: {v} {want}");
    }
}

#[test]
fn a_wav_without_samples() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("zero.wav");
    std::fs::write(&path, pcm(1, 16_000, 0, |_, _| 0)).unwrap();
    fails(&path, &["no samples"]);
}

#[test]
fn values_that_are_no_numbers() {
    let dir = tempfile::tempdir().unwrap();
    for (value, word) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
        let path = dir.path().join("nan.wav");
        let mut wave = vec![0.1; 16_000];
        wave[8_000] = value;
        write_wav_f32(&path, &wave, 16_000).unwrap();
        fails(&path, &["sample 8000", "0.500 s", word]);
        // Resampling would have spread it over its neighbours.
        write_wav_f32(&path, &wave, 48_000).unwrap();
        fails(&path, &["sample 8000", word]);
    }
}

#[test]
fn what_is_cut_short_says_so() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["chirp.flac", "chirp.aiff", "chirp.m4a"] {
        let path = dir.path().join(name);
        let bytes = std::fs::read(sample(name)).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let e = whole(&path).unwrap_err().to_string();
        assert!(e.contains(name), "{e}");
        if name != "chirp.m4a" {
            // MPEG-4 keeps its index at the end: without it nothing can be said about samples.
            assert!(e.contains("cut short") || e.contains("damaged"), "{e}");
        }
        // What comes before the cut can still be read.
        if name == "chirp.flac" {
            let part =
                load(&file(&path), name, Some(Section { start: 0, len: 8_000 }), &AudioConfig::default())
                    .unwrap();
            assert_eq!(part, whole(&sample(name)).unwrap()[..8_000]);
        }
    }
    let path = dir.path().join("cut.wav");
    let bytes = pcm(2, 16_000, 10_000, |i, _| (i % 100) as i16);
    std::fs::write(&path, &bytes[..20_000]).unwrap();
    fails(&path, &["cut short", "10000"]);
}

#[test]
fn what_is_no_sound_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let noise: Vec<u8> = (0..50_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for (name, bytes) in [
        ("empty.wav", vec![]),
        ("text.wav", b"this is not a recording\n".repeat(200)),
        ("head.wav", b"RIFF\x24\0\0\0WAVEfmt ".to_vec()),
        ("noise.mp3", noise),
        ("zeros.flac", vec![0; 4096]),
    ] {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        fails(&path, &[]);
        assert!(info(&file(&path), name).is_err() || name == "noise.mp3", "{name}");
    }
    fails(&dir.path().join("absent.wav"), &[]);
    fails(dir.path(), &[]);
    for rate in [0, 99, 4_000_000_000u32] {
        let path = dir.path().join("rate.wav");
        let mut bytes = pcm(1, 16_000, 100, |_, _| 7);
        bytes[24..28].copy_from_slice(&rate.to_le_bytes());
        std::fs::write(&path, bytes).unwrap();
        fails(&path, &[]);
    }
}

#[test]
fn damaged_bytes_never_panic() {
    let dir = tempfile::tempdir().unwrap();
    for name in FORMATS {
        let good = std::fs::read(sample(name)).unwrap();
        for seed in 0..12u64 {
            let mut bytes = good.clone();
            let mut r = selfsup_core::Key::new(seed).named(name).rng();
            for _ in 0..1 + seed * 4 {
                let at = r.below(bytes.len());
                bytes[at] = r.next_u32() as u8;
            }
            bytes.truncate(good.len() - r.below(good.len() / 3));
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            if let Err(e) = whole(&path) {
                assert!(e.to_string().contains(name), "{e}");
            }
        }
    }
}

#[test]
fn a_two_hour_file_costs_what_its_section_costs() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("long.wav");
    // Two hours at 8 kHz, 16 bits, on a disk that need not hold its zeros; a burst at one hour.
    let frames: u64 = 2 * 3600 * 8_000;
    let mut head = pcm(1, 8_000, 0, |_, _| 0);
    let bytes = (frames * 2) as u32;
    head[4..8].copy_from_slice(&(36 + bytes).to_le_bytes());
    head[40..44].copy_from_slice(&bytes.to_le_bytes());
    {
        use std::io::{Seek, SeekFrom, Write};
        let mut f = std::fs::File::create(&path).unwrap();
        f.write_all(&head).unwrap();
        f.set_len(44 + frames * 2).unwrap();
        f.seek(SeekFrom::Start(44 + 3600 * 8_000 * 2)).unwrap();
        f.write_all(&[0x10; 16_000]).unwrap();
    }
    assert_eq!(info(&file(&path), "long").unwrap().seconds(), Some(7200.0));
    let start = std::time::Instant::now();
    let part = load(
        &file(&path),
        "long",
        Some(Section { start: 3600 * 16_000 - 16_000, len: 32_000 }),
        &AudioConfig::default(),
    )
    .unwrap();
    assert!(start.elapsed().as_millis() < 2_000, "{:?}", start.elapsed());
    assert_eq!(part.len(), 32_000);
    assert!(
        part[..15_900].iter().all(|v| v.abs() < 1e-3) && (part[24_000] - 4112.0 / 32768.0).abs() < 1e-3,
        "{}",
        part[24_000]
    );
    // The whole of it is refused before memory is spent on it.
    fails(&path, &["7200.0 s", "audio.max_seconds = 600"]);
    let e = load(
        &file(&path),
        "long.wav",
        Some(Section { start: 0, len: 16_000 * 601 }),
        &AudioConfig::default(),
    )
    .unwrap_err();
    assert!(e.to_string().contains("max_seconds"), "{e}");
}

/// A program that writes a wav file to a pipe cannot go back to fill in its length.
#[test]
fn a_piped_wav_has_no_length_and_all_its_samples() {
    let dir = tempfile::tempdir().unwrap();
    // What ffmpeg and what sox write where the length is not known.
    for (name, riff, data) in
        [("ffmpeg.wav", u32::MAX, u32::MAX), ("sox.wav", 0x7FFF_F024_u32, 0x7FFF_F000_u32)]
    {
        let path = dir.path().join(name);
        let mut bytes = pcm(1, 16_000, 20_000, |i, _| (i % 1_000) as i16);
        bytes[4..8].copy_from_slice(&riff.to_le_bytes());
        bytes[40..44].copy_from_slice(&data.to_le_bytes());
        std::fs::write(&path, &bytes).unwrap();
        let about = info(&file(&path), name).unwrap();
        assert_eq!((about.frames, about.seconds(), about.rate), (None, None, 16_000), "{name}");
        let wave = whole(&path).unwrap();
        assert_eq!(wave.len(), 20_000, "{name}");
        assert!(
            wave.iter().enumerate().all(|(i, v)| (v - (i % 1_000) as f32 / 32_768.0).abs() < 1e-6),
            "{name}"
        );
        let section =
            load(&file(&path), name, Some(Section { start: 18_000, len: 9_000 }), &AudioConfig::default())
                .unwrap();
        assert_eq!(section, wave[18_000..], "{name}");
        // Crops of it lie anywhere, as in any other recording.
        let config = PrepareConfig { crop_seconds: Some(0.25), normalize: false, ..PrepareConfig::default() };
        let prepare = Prepare::new(config).unwrap();
        let crops: Vec<_> = (0..20)
            .map(|seed| prepare.apply(Clip::file(&path), &mut Key::new(seed).rng()).unwrap())
            .collect();
        assert!(crops.iter().all(|u| u.samples == wave[u.start..u.start + 4_000]), "{name}");
        assert!(crops.iter().any(|u| u.start > 10_000) && crops.iter().any(|u| u.start < 6_000), "{name}");
    }
}

/// Without a tag the length of an mp3 is the size of the file over that of its first frames; what follows the
/// sound makes it too long.
#[test]
fn a_crop_behind_the_end_of_an_mp3_begins_at_its_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("untagged.mp3");
    let tagged = std::fs::read(sample("chirp.mp3")).unwrap();
    // 44 bytes of ID3, then a frame of 182 bytes that holds the tag.
    assert!(tagged[44] == 0xFF && tagged[226] == 0xFF && tagged[65..69] == *b"Info", "another sample");
    let mut bytes = tagged[226..].to_vec();
    bytes.extend(vec![0; 40_000]);
    std::fs::write(&path, bytes).unwrap();
    let wave = whole(&path).unwrap();
    let real = wave.len() as f64 / 16_000.0;
    let told = info(&file(&path), "untagged.mp3").unwrap().seconds().unwrap();
    assert!(real < 2.3 && told > 3.0 * real, "lasts {real} s, says {told} s");
    let prepare =
        Prepare::new(PrepareConfig { crop_seconds: Some(0.5), normalize: false, ..PrepareConfig::default() })
            .unwrap();
    let crops: Vec<_> =
        (0..40).map(|seed| prepare.apply(Clip::file(&path), &mut Key::new(seed).rng()).unwrap()).collect();
    let (behind, within): (Vec<_>, Vec<_>) = crops.iter().partition(|u| u.start == 0);
    assert!(
        behind.len() > 20 && within.len() > 3,
        "{} crops at the start, {} elsewhere",
        behind.len(),
        within.len()
    );
    for u in &crops {
        // Also the crop within which the sound ends is a whole one.
        assert!(
            u.samples.len().abs_diff(8_000) <= 1 && u.start + u.samples.len() <= wave.len() + 1,
            "{}",
            u.samples.len()
        );
        let gap = u.samples.iter().zip(&wave[u.start..]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(gap < 2e-3, "the crop at {} differs by {gap}", u.start);
    }
}

#[test]
fn written_waves_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.wav");
    let wave: Vec<f32> = (0..4_000).map(|i| (i as f32 * 0.01).sin() * 0.9).collect();
    write_wav(&path, &wave, 16_000).unwrap();
    assert!(whole(&path).unwrap().iter().zip(&wave).all(|(a, b)| (a - b).abs() <= 1.0 / 32768.0));
    write_wav_f32(&path, &wave, 16_000).unwrap();
    assert_eq!(whole(&path).unwrap(), wave);
}

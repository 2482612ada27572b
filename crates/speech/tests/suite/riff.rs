//! Wav files with other heads, or with wrong ones: all are the same wave.

use selfsup_speech::audio::{AudioConfig, Content, Section, count, info, load};

const N: usize = 20_000;

fn samples() -> Vec<i16> {
    (0..N).map(|i| ((i * 7919) % 20_011) as i16 - 10_000).collect()
}

fn data() -> Vec<u8> {
    samples().iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// PCM, mono, 16 kHz, 16 bits.
fn format() -> Vec<u8> {
    let mut out = vec![1, 0, 1, 0];
    out.extend(16_000u32.to_le_bytes());
    out.extend(32_000u32.to_le_bytes());
    out.extend([2, 0, 16, 0]);
    out
}

/// A file of chunks of 32-bit sizes; `told` is the size in its head.
fn riff(magic: &[u8], told: u32, ds64: Option<u64>, size: u32) -> Vec<u8> {
    let mut out = magic.to_vec();
    out.extend(told.to_le_bytes());
    out.extend(b"WAVE");
    if let Some(data) = ds64 {
        out.extend(b"ds64");
        out.extend(28u32.to_le_bytes());
        out.extend(data.wrapping_add(72).to_le_bytes());
        out.extend(data.to_le_bytes());
        out.extend((data / 2).to_le_bytes());
        out.extend(0u32.to_le_bytes());
    }
    out.extend(b"fmt ");
    out.extend(16u32.to_le_bytes());
    out.extend(format());
    out.extend(b"data");
    out.extend(size.to_le_bytes());
    out.extend(data());
    out
}

fn wave64(size: Option<u64>) -> Vec<u8> {
    let rest = b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a";
    let mut out = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00".to_vec();
    out.extend((2 * N as u64 + 104).to_le_bytes());
    for (name, content) in [(b"wave", vec![]), (b"fmt ", format()), (b"data", data())] {
        out.extend(name);
        out.extend(rest);
        if name == b"wave" {
            continue;
        }
        let length = if name == b"data" { size } else { None };
        out.extend(length.unwrap_or(content.len() as u64 + 24).to_le_bytes());
        out.extend(content);
    }
    out
}

#[test]
fn heads_that_are_other_or_wrong() {
    let (all, whole) = (2 * N as u32, 2 * N as u32 + 36);
    let unknown = u32::MAX;
    let config = AudioConfig::default();
    let want: Vec<f32> = samples().iter().map(|v| f32::from(*v) / 32768.0).collect();
    for (name, bytes) in [
        ("plain", riff(b"RIFF", whole, None, all)),
        ("RF64", riff(b"RF64", unknown, Some(u64::from(all)), unknown)),
        ("RF64 of unknown length", riff(b"RF64", unknown, Some(0), unknown)),
        ("BW64", riff(b"BW64", unknown, Some(u64::from(all)), unknown)),
        ("Wave64", wave64(None)),
        ("Wave64 of unknown length", wave64(Some(0))),
        ("a size that is 8 short", riff(b"RIFF", whole - 8, None, all)),
        ("a size of 0", riff(b"RIFF", 0, None, all)),
        ("no size of the data", riff(b"RIFF", whole, None, 0)),
        ("no sizes", riff(b"RIFF", 0, None, 0)),
    ] {
        let content = Content::Bytes(bytes.into());
        assert_eq!(load(&content, name, None, &config).unwrap(), want, "{name}");
        let part = Some(Section { start: 12_345, len: 1_000 });
        assert_eq!(load(&content, name, part, &config).unwrap(), want[12_345..13_345], "{name}");
        assert_eq!(count(&content, name).unwrap(), (16_000, N as u64), "{name}");
        assert_eq!(info(&content, name).unwrap().format, "wave", "{name}");
    }
}

#[test]
fn damaged_heads_name_the_file() {
    let says = |bytes: Vec<u8>, part: &str| {
        let e = load(&Content::Bytes(bytes.into()), "x.wav", None, &AudioConfig::default());
        let e = e.unwrap_err().to_string();
        assert!(e.contains("x.wav") && e.contains(part), "{e}");
    };
    let all = 2 * N as u32;
    // What ends before its head says so stays refused, whichever head it is.
    let cut = |mut bytes: Vec<u8>| {
        bytes.truncate(10_000);
        bytes
    };
    says(cut(riff(b"RIFF", all + 36, None, all)), "cut short");
    says(cut(riff(b"RF64", u32::MAX, Some(u64::from(all)), u32::MAX)), "cut short");
    says(cut(wave64(None)), "cut short");
    says(riff(b"RF64", u32::MAX, None, u32::MAX)[..40].to_vec(), "RF64");
    says(wave64(None)[..60].to_vec(), "Wave64");
    // Sizes that lie lead nowhere.
    let mut lies = riff(b"RF64", u32::MAX, Some(u64::MAX), u32::MAX);
    lies.truncate(200);
    says(lies, "cut short");
}

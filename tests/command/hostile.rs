//! Files that are made to do harm, through the real command: each ends it with exit code 2 and its name, or
//! is read, within seconds and a bounded memory. Medical ones are in `volumes.rs`.

use crate::common::{Work, bounded, good, line, refused};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

fn bad(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/fuzz").join(name)
}

const SMALL: &[&str] = &[
    "--no-probe",
    "encoder.name=resnet",
    "encoder.depths=[1]",
    "encoder.widths=[4]",
    "encoder.stem=4",
    "method.hidden_dim=8",
    "method.out_dim=4",
    "augment.size=32",
    "train.steps=2",
    "train.batch_size=4",
    "eval.online_knn=0",
    "data.hold_out=0",
];

impl Work {
    /// A folder of small pictures, and a run over them.
    fn run_of_pictures(&self) -> (String, String) {
        for i in 0..8u32 {
            let picture = image::RgbImage::from_fn(20, 20, |x, y| image::Rgb([(x * 7 + y * 3 + i) as u8; 3]));
            std::fs::create_dir_all(self.path("pictures")).unwrap();
            picture.save(self.path(&format!("pictures/{i}.png"))).unwrap();
        }
        let (data, run) = (self.text("pictures"), self.text("run"));
        good(&bounded(&[&["pretrain", "--data", &data, "--out", &run], SMALL].concat()));
        (data, run)
    }
}

/// Strips as they were found, and longer ones: whole, the second would be resized to 45 GB.
#[test]
fn long_strips_are_read() {
    let w = Work::new();
    let (_, run) = w.run_of_pictures();
    for (i, (width, height)) in [(300_000, 1), (1, 300_000)].into_iter().enumerate() {
        image::GrayImage::new(width, height).save(w.path(&format!("pictures/long-{i}.png"))).unwrap();
    }
    for name in ["png/strip-50000x1.png", "webp/webp-b0d4f8dd.webp"] {
        std::fs::copy(bad(name), w.path("pictures").join(name.rsplit_once('/').unwrap().1)).unwrap();
    }
    let begun = Instant::now();
    good(&bounded(&["embed", &run, "--data", &w.text("pictures"), "--out", &w.text("x.csv")]));
    assert!(begun.elapsed().as_secs_f64() < 5.0);
    assert_eq!(std::fs::read_to_string(w.path("x.csv")).unwrap().lines().count(), 1 + 8 + 4);
}

/// A colour profile and a text that unpack to a gigabyte say nothing of the pixels.
#[test]
fn chunks_of_a_png_are_not_unpacked() {
    let w = Work::new();
    let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    let zeros = vec![0; 1 << 20];
    (0..1024).for_each(|_| packed.write_all(&zeros).unwrap());
    let packed = packed.finish().unwrap();
    let mut picture = std::io::Cursor::new(Vec::new());
    image::RgbImage::new(20, 20).write_to(&mut picture, image::ImageFormat::Png).unwrap();
    let picture = picture.into_inner();
    for i in 0..8 {
        let name: &[u8] = if i % 2 == 0 { b"iCCP" } else { b"zTXt" };
        let content = [name, b"name\0\0", &packed].concat();
        let chunk = [&(content.len() as u32 - 4).to_be_bytes()[..], &content, &crc32(&content).to_be_bytes()];
        // Behind the header.
        w.write(&format!("data/{i}.png"), [&picture[..33], &chunk.concat(), &picture[33..]].concat());
    }
    let begun = Instant::now();
    good(&bounded(&[&["pretrain", "--data", &w.text("data"), "--out", &w.text("run")], SMALL].concat()));
    assert!(begun.elapsed().as_secs_f64() < 5.0);
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut c = u32::MAX;
    for &b in bytes {
        c ^= u32::from(b);
        for _ in 0..8 {
            c = if c & 1 == 1 { (c >> 1) ^ 0xEDB8_8320 } else { c >> 1 };
        }
    }
    !c
}

/// `tokenizer.json` files over which the library panics.
#[test]
fn tokenizers_that_are_damaged() {
    let w = Work::new();
    let texts = (0..40).map(line).collect::<Vec<_>>().join("\n");
    let data = w.file("texts.txt", &texts);
    for name in ["tokenizer-min.json", "tokenizer-ba09e1aa.json"] {
        let key = format!("tokenizer.path={}", bad("tokenizer").join(name).display());
        refused(&bounded(&["pretrain", "--data", &data, "--out", &w.text("run"), &key]), &[name]);
    }
}

/// 20,000 tensors over one range of the file: 80 GB in memory.
#[test]
fn weights_that_overlap() {
    let w = Work::new();
    let (data, _) = w.run_of_pictures();
    let entry =
        |i: usize| format!("\"t{i}\":{{\"dtype\":\"F32\",\"shape\":[1048576],\"data_offsets\":[0,4194304]}}");
    let header = format!("{{{}}}", (0..20_000).map(entry).collect::<Vec<_>>().join(","));
    let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 4 << 20]].concat();
    w.write("over.safetensors", file);
    let key = format!("encoder.pretrained={}", w.text("over.safetensors"));
    let output = bounded(&[&["pretrain", "--data", &data, "--out", &w.text("other"), &key], SMALL].concat());
    refused(&output, &["over.safetensors", "overlaps"]);
}

/// A pipe that nobody writes to and a device without an end, wherever a file is expected.
#[test]
fn pipes_and_devices_are_refused() {
    let w = Work::new();
    let (pictures, run) = w.run_of_pictures();
    let texts = w.file("texts.txt", &(0..40).map(line).collect::<Vec<_>>().join("\n"));
    for ending in
        ["", ".csv", ".toml", ".safetensors", ".txt", ".wav", ".png", ".json", ".nii", ".parquet", ".tar"]
    {
        let made = std::process::Command::new("mkfifo").arg(w.path(&format!("pipe{ending}"))).status();
        assert!(made.unwrap().success());
        // A link is what it leads to.
        std::os::unix::fs::symlink("/dev/zero", w.path(&format!("zero{ending}"))).unwrap();
    }
    let out = w.text("out");
    for kind in ["pipe", "zero"] {
        let at = |ending: &str| w.text(&format!("{kind}{ending}"));
        let says = if kind == "pipe" { "is a named pipe" } else { "is a device" };
        let key = |key: &str, ending: &str| format!("{key}={}", at(ending));
        let (labels, pretrained) = (key("data.labels", ".csv"), key("encoder.pretrained", ".safetensors"));
        let (tokenizer, table) = (key("tokenizer.path", ".json"), at(".csv"));
        let of_texts = ["pretrain", "--data", &texts, "--out", &out];
        for (ending, args) in [
            (".toml", vec!["pretrain", &at(".toml")]),
            (".csv", vec!["pretrain", "--data", &pictures, "--out", &out, &labels]),
            (".csv", vec!["finetune", "--run", &run, "--labels", &table, "--out", &out]),
            (".csv", vec!["probe", &run, "--labels", &table]),
            (".safetensors", vec!["pretrain", "--data", &pictures, "--out", &out, &pretrained]),
            (".json", [&of_texts[..], &[&tokenizer]].concat()),
        ] {
            let begun = Instant::now();
            let output = bounded(&args);
            refused(&output, &[&format!("{kind}{ending}"), says]);
            assert!(begun.elapsed().as_secs_f64() < 10.0, "{args:?}");
        }
        // As the data themselves.
        for (ending, modality) in [
            (".txt", "text"),
            (".csv", "text"),
            (".wav", "speech"),
            (".png", "vision"),
            (".tar", "vision"),
            (".parquet", "vision"),
            (".nii", "medical"),
            ("", "text"),
        ] {
            let modality = format!("modality=\"{modality}\"");
            let (data, begun) = (at(ending), Instant::now());
            let output = bounded(&["pretrain", "--data", &data, "--out", &out, &modality]);
            refused(&output, &[&format!("{kind}{ending}")]);
            refused(&bounded(&["data", "inspect", &data]), &[&format!("{kind}{ending}")]);
            assert!(begun.elapsed().as_secs_f64() < 10.0, "{data}");
        }
    }
}

/// Texts of a few bytes in a small file become a hundred times as large in memory.
#[test]
fn short_lines_in_a_compressed_file() {
    let w = Work::new();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for i in 0..60_000 {
        writeln!(packed, "{}", ["sun", "rain", "cloud"][i % 3]).unwrap();
    }
    w.write("texts.txt.gz", packed.finish().unwrap());
    let (data, cache, out) = (w.text("texts.txt.gz"), w.text("cache"), w.text("run"));
    let keys = [format!("corpus.cache={cache}"), "corpus.in_memory=1".to_string()];
    let mut args = vec!["pretrain", "--data", &data, "--out", &out, &keys[0], &keys[1]];
    args.extend(crate::common::SMALL_TEXT);
    args.extend(["--dry-run", "data.hold_out=0"]);
    good(&bounded(&args));
    let written =
        std::fs::read_dir(w.path("cache")).unwrap().flatten().any(|e| e.path().join("texts").is_dir());
    assert!(written, "texts above corpus.in_memory lie on the disk");
}

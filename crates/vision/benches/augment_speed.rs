//! Milliseconds for two SimCLR views of 224 pixels of each of 64 images, over rayon: with the decoding of a
//! 500 x 375 JPEG, and without.
//!
//! `cargo bench -p selfsup-vision --bench augment_speed -- [REPEATS]`; RAYON_NUM_THREADS sets the threads.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use rayon::prelude::*;
use selfsup_core::{Key, Result};
use selfsup_vision::data::Planes;
use selfsup_vision::image::Image;
use selfsup_vision::transform::{Op, Pipeline};
use std::time::Instant;

const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const STD: [f32; 3] = [0.229, 0.224, 0.225];

fn jpeg() -> Vec<u8> {
    let mut rng = Key::new(0).rng();
    let small = image::RgbImage::from_fn(16, 12, |_, _| {
        image::Rgb([rng.next_u32() as u8, rng.next_u32() as u8, rng.next_u32() as u8])
    });
    let large = image::imageops::resize(&small, 500, 375, image::imageops::FilterType::CatmullRom);
    let mut bytes = Vec::new();
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 90).encode_image(&large).unwrap();
    bytes
}

/// Fastest and median of `repeats`, in milliseconds: the fastest is what a quiet machine would show.
fn time(repeats: usize, mut f: impl FnMut(u64)) -> (f64, f64) {
    f(0);
    let mut all: Vec<f64> = (0..repeats)
        .map(|i| {
            let start = Instant::now();
            f(i as u64 + 1);
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    all.sort_by(f64::total_cmp);
    (all[0], all[all.len() / 2])
}

fn main() -> Result<()> {
    let repeats = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(15usize).max(1);
    let bytes = jpeg();
    let decoded = Image::decode(&bytes, "jpeg", 1 << 30)?;
    let jitter = Op::ColorJitter { brightness: 0.8, contrast: 0.8, saturation: 0.8, hue: 0.2, p: 0.8 };
    let steps = vec![
        Op::RandomResizedCrop { size: 224, scale: [0.08, 1.0], ratio: [0.75, 4.0 / 3.0] },
        Op::HorizontalFlip { p: 0.5 },
        jitter.clone(),
        Op::Grayscale { p: 0.2 },
        Op::GaussianBlur { kernel: 23, sigma: [0.1, 2.0], p: 0.5 },
    ];
    let report = |name: &str, ops: Vec<Op>, decode: bool| {
        let pipeline = Pipeline::new(ops);
        let (best, median) = time(repeats, |epoch| {
            let made: Vec<Planes> = (0..128usize)
                .into_par_iter()
                .with_min_len(2)
                .map(|v| {
                    let mut rng = Key::new(1).fold(epoch).fold(v as u64).rng();
                    let fresh =
                        (decode && v % 2 == 0).then(|| Image::decode(&bytes, "jpeg", 1 << 30).unwrap());
                    let view = pipeline.apply(fresh.as_ref().unwrap_or(&decoded), &mut rng).unwrap();
                    Planes::normalized(&view, &MEAN, &STD).unwrap()
                })
                .collect();
            assert_eq!(made.len(), 128);
        });
        println!("{name:<34} {best:8.1} ms best {median:8.1} ms median");
    };
    report("two views, JPEG decoded", steps.clone(), true);
    report("two views", steps.clone(), false);
    report("crop, normalise", steps[..1].to_vec(), false);
    report(
        "crop, jitter always",
        vec![
            steps[0].clone(),
            Op::ColorJitter { brightness: 0.8, contrast: 0.8, saturation: 0.8, hue: 0.2, p: 1.0 },
        ],
        false,
    );
    report(
        "crop, blur always",
        vec![steps[0].clone(), Op::GaussianBlur { kernel: 23, sigma: [0.1, 2.0], p: 1.0 }],
        false,
    );
    Ok(())
}

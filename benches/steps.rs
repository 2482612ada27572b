//! The speed contract: whole training steps, the same sizes and hyper-parameters as the peer's.
//!
//! `cargo bench --bench steps -- [--steps N] [--precision f32|bf16] [--list] [CASE ...]`
//!
//! Each case runs in a process of its own, so that peak memory is its own. Two uncounted warm-ups, then the
//! median of N steps. Prints one JSON line a case: case, mode, samples, ms, samples_per_s, peak_rss_mb. A
//! figure counts only next to the peer's from the same machine and hour.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

#[path = "steps/medical.rs"]
mod medical;
#[path = "steps/speech.rs"]
mod speech;
#[path = "steps/text.rs"]
mod text;

use candle_core::{Device, Tensor};
use selfsup_core::device::candle_pool_setting;
use selfsup_core::objective::{
    Dino, DinoConfig, Mae, MaeConfig, MoCo, MoCoConfig, Objective, SimClr, SimClrConfig, Views, Wanted,
};
use selfsup_core::optim::{OptimConfig, OptimKind, Optimizer};
use selfsup_core::schedule::LrSchedule;
use selfsup_core::trainer::gradients;
use selfsup_core::{Encoder, Key, Params, Pass, Progress, Result, Scope, TokenEncoder};
use selfsup_vision::encoder::{ResNet, ResNetConfig, ViT, ViTConfig};
use std::process::{Command, ExitCode};
use std::time::Instant;

type Step = Box<dyn FnMut()>;
type Case = fn() -> (usize, Step);

const CASES: &[(&str, Case)] = &[
    ("simclr_resnet18_32px_b64", simclr),
    ("moco_resnet50_96px_b8", moco),
    ("mae_vit_small_224px_b16", mae),
    ("dino_vit_tiny_2x96_6x48_b8", dino),
    ("bert_mlm_l4_h256_t128_b32", text::bert),
    ("gpt2_l4_h128_t256_b12", text::gpt2),
    ("wav2vec2_l4_h384_2s_b4", speech::wav2vec2),
    ("hubert_l4_h384_2s_b4", speech::hubert),
    ("unet3d_restoration_48_b2", medical::unet3d),
    ("augment_simclr_two_views_224px", augment),
    ("knn_k20_10k_queries_50k_keys_d512", knn),
];

fn main() -> ExitCode {
    let (mut steps, mut child, mut names) = (7usize, false, Vec::new());
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--steps" => steps = args.next().and_then(|v| v.parse().ok()).unwrap_or(steps).max(1),
            "--precision" => {
                let precision = args.next().unwrap_or_default();
                if precision != "f32" {
                    eprintln!("precision {precision} is not available yet: expected f32");
                    return ExitCode::from(2);
                }
            }
            "--list" => {
                CASES.iter().for_each(|(name, _)| println!("{name}"));
                return ExitCode::SUCCESS;
            }
            "--child" => child = true,
            other if other.starts_with('-') => {} // cargo's own flags
            name => names.push(name.to_string()),
        }
    }
    if let Some(unknown) = names.iter().find(|n| !CASES.iter().any(|(c, _)| c == n)) {
        eprintln!("no case {unknown}; --list shows them");
        return ExitCode::from(2);
    }
    for (name, case) in CASES.iter().filter(|(c, _)| names.is_empty() || names.iter().any(|n| n == c)) {
        if child {
            measure(name, steps, *case);
        } else {
            let exe = std::env::current_exe().unwrap();
            let mut command = Command::new(exe);
            command.args(["--child", "--steps", &steps.to_string(), name]).envs(candle_pool_setting()); // as the command `selfsup` does
            let status = command.status().unwrap();
            if !status.success() {
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

fn measure(name: &str, steps: usize, case: Case) {
    let (samples, mut step) = case();
    let mut times: Vec<f64> = (0..steps + 2)
        .map(|_| {
            let start = Instant::now();
            step();
            start.elapsed().as_secs_f64() * 1e3
        })
        .skip(2)
        .collect();
    times.sort_by(f64::total_cmp);
    let ms = times[times.len() / 2];
    println!(
        "{{\"case\": \"{name}\", \"mode\": \"f32\", \"samples\": {samples}, \"ms\": {ms:.1}, \"samples_per_s\": {:.2}, \"peak_rss_mb\": {}}}",
        samples as f64 / ms * 1e3,
        peak_rss_mb()
    );
}

/// Peak resident memory of this process in MiB.
fn peak_rss_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|v| v.parse::<u64>().ok()).unwrap_or(0) / 1024
}

fn images(shape: &[usize], seed: u64) -> Tensor {
    let mut rng = Key::new(seed).rng();
    let n: usize = shape.iter().product();
    Tensor::from_vec((0..n).map(|_| rng.normal()).collect::<Vec<f32>>(), shape, &Device::Cpu).unwrap()
}

fn sgd(weight_decay: f64) -> OptimConfig {
    OptimConfig {
        kind: OptimKind::Sgd,
        lr: 0.06,
        momentum: 0.9,
        weight_decay,
        schedule: LrSchedule::Constant { warmup: Default::default() },
        ..OptimConfig::default()
    }
}

fn adamw(lr: f64, weight_decay: f64) -> OptimConfig {
    OptimConfig {
        kind: OptimKind::Adamw,
        lr,
        weight_decay,
        schedule: LrSchedule::Constant { warmup: Default::default() },
        ..OptimConfig::default()
    }
}

/// A whole step of the trainer, without its loader.
fn training<O: Objective<Batch: 'static> + 'static>(
    objective: O,
    batch: O::Batch,
    optim: OptimConfig,
) -> Step {
    selfsup_core::kernels::memory::keep_pages(); // as the trainer does
    let mut optimizer = Optimizer::new(objective.params(), optim).unwrap();
    let mut n = 0;
    let mut step = move || -> Result<()> {
        let progress = Progress { step: n, total_steps: 1000, epoch: 0 };
        let pass = Pass::train(0, progress);
        let made = gradients(&objective, &batch, 0, &pass)?;
        optimizer.step(&made.grads, n, 1000)?;
        pass.write_deferred(objective.params())?;
        objective.after_step(&made.embeddings, &progress, &pass.world)?;
        n += 1;
        Ok(())
    };
    Box::new(move || step().unwrap())
}

fn views(views: Vec<Tensor>) -> Views {
    let n = views[0].dim(0).unwrap();
    Views::of(views, (0..n).collect())
}

fn simclr() -> (usize, Step) {
    let params = Params::new();
    let scope = Scope::root(&params, 0, &Device::Cpu);
    let config = ResNetConfig { small: true, ..ResNetConfig::named("resnet18").unwrap() };
    let build = |s: &Scope| -> Result<Box<dyn Encoder>> { Ok(Box::new(ResNet::new(s, config.clone())?)) };
    let method =
        SimClr::new(&scope, &build, SimClrConfig { temperature: 0.5, hidden_dim: 512, out_dim: 128 })
            .unwrap();
    (64, training(method, views(vec![images(&[64, 3, 32, 32], 1), images(&[64, 3, 32, 32], 2)]), sgd(5e-4)))
}

fn moco() -> (usize, Step) {
    let params = Params::new();
    let scope = Scope::root(&params, 0, &Device::Cpu);
    let config = ResNetConfig::named("resnet50").unwrap();
    let build = |s: &Scope| -> Result<Box<dyn Encoder>> { Ok(Box::new(ResNet::new(s, config.clone())?)) };
    let settings = MoCoConfig {
        version: 2,
        temperature: 0.2,
        queue: 4096,
        hidden_dim: 2048,
        out_dim: 128,
        momentum: 0.99,
    };
    let method = MoCo::new(&scope, &build, settings).unwrap();
    (8, training(method, views(vec![images(&[8, 3, 96, 96], 1), images(&[8, 3, 96, 96], 2)]), sgd(1e-4)))
}

fn mae() -> (usize, Step) {
    let params = Params::new();
    let scope = Scope::root(&params, 0, &Device::Cpu);
    let config =
        ViTConfig { fixed_positions: true, ..ViTConfig::named("vit_small", [224; 2], [16; 2]).unwrap() };
    let build = |s: &Scope| -> Result<Box<dyn TokenEncoder>> { Ok(Box::new(ViT::new(s, config.clone())?)) };
    let settings = MaeConfig {
        decoder_dim: Some(256),
        decoder_depth: Some(4),
        decoder_heads: Some(8),
        ..MaeConfig::default()
    };
    let method = Mae::new(&scope, &build, settings).unwrap();
    (16, training(method, views(vec![images(&[16, 3, 224, 224], 1)]), adamw(1e-3, 0.05)))
}

/// The peer's head has a layer less.
fn dino() -> (usize, Step) {
    let params = Params::new();
    let scope = Scope::root(&params, 0, &Device::Cpu);
    let config = ViTConfig::named("vit_tiny", [96; 2], [16; 2]).unwrap();
    let build = |s: &Scope| -> Result<Box<dyn Encoder>> { Ok(Box::new(ViT::new(s, config.clone())?)) };
    let settings = DinoConfig {
        out_dim: 4096,
        hidden_dim: 512,
        bottleneck_dim: 128,
        norm_last_layer: false,
        momentum: 0.996,
        ..DinoConfig::default()
    };
    let method = Dino::new(&scope, &build, settings).unwrap();
    let full = (0..2).map(|i| images(&[8, 3, 96, 96], i)).collect();
    let locals = (2..8).map(|i| images(&[8, 3, 48, 48], i)).collect();
    (8, training(method, Views { locals, ..views(full) }, adamw(1e-3, 0.04)))
}

/// The peer decodes a JPEG of 500 x 375 pixels and makes two SimCLR views (lightly's defaults) of 224 pixels,
/// for 64 images.
fn augment() -> (usize, Step) {
    use rayon::prelude::*;
    use selfsup_core::data::{Collate, Transform};
    use selfsup_vision::augment::AugmentConfig;
    use selfsup_vision::data::{Collated, Content, Sample};
    let mut rng = Key::new(0).rng();
    let small = image::RgbImage::from_fn(16, 12, |_, _| {
        image::Rgb([rng.next_u32() as u8, rng.next_u32() as u8, rng.next_u32() as u8])
    });
    let large = image::imageops::resize(&small, 500, 375, image::imageops::FilterType::CatmullRom);
    let mut jpeg = Vec::new();
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, 90).encode_image(&large).unwrap();
    let jpeg: std::sync::Arc<[u8]> = jpeg.into();
    selfsup_core::kernels::memory::keep_pages(); // as the trainer does
    let config = AugmentConfig { blur_kernel: Some(23), ..AugmentConfig::default() };
    let transform = config.views(Wanted::Joint(2), 3, 1 << 30).unwrap();
    let mut epoch = 0u64;
    let step = move || {
        let items: Vec<_> = (0..64usize)
            .into_par_iter()
            .map(|i| {
                let sample = Sample { id: i.to_string(), content: Content::Bytes(jpeg.clone()) };
                transform.apply(sample, &mut Key::new(1).fold(epoch).fold(i as u64).rng()).unwrap()
            })
            .collect();
        epoch += 1;
        let batch = Collated.collate(items, &(0..64).collect::<Vec<_>>(), Key::new(2)).unwrap();
        assert_eq!(batch.globals.len(), 2);
    };
    (64, Box::new(step))
}

fn knn() -> (usize, Step) {
    use selfsup_eval::{Matrix, knn::KnnConfig, knn::classify};
    let random = |n: usize, seed: u64| {
        let mut rng = Key::new(seed).rng();
        Matrix::new((0..n * 512).map(|_| rng.normal()).collect(), n, 512).unwrap()
    };
    let (keys, queries) = (random(50_000, 1), random(10_000, 2));
    let mut rng = Key::new(3).rng();
    let labels: Vec<u32> = (0..50_000).map(|_| rng.below(10) as u32).collect();
    let config = KnnConfig { k: 20, temperature: 0.07 };
    (10_000, Box::new(move || drop(classify(keys.view(), &labels, queries.view(), 10, &config).unwrap())))
}

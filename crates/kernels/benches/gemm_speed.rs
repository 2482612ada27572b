//! Speed of linear layers and attention on this machine, in GFLOP/s: `cargo bench -p selfsup-kernels
//! --bench gemm_speed`.
//!
//! Shapes are those of a ViT-S on 224 x 224 images in batches of 16: 50 tokens where 3/4 are masked (MAE),
//! 197 where none is, and the decoder of MAE. Forward and backward are best times over some rounds; the
//! backward is forward + backward less the forward.
#![allow(clippy::print_stdout)]

use candle_core::{Device, Result, Tensor, Var};
use selfsup_kernels::Path;
use selfsup_kernels::activation::Act;
use selfsup_kernels::attention::{AttentionOpts, self_attention};
use selfsup_kernels::linear::linear_act;
use selfsup_kernels::rng::Key;
use std::time::Instant;

fn random(shape: &[usize], seed: u64) -> Result<Var> {
    let mut r = Key::new(seed).rng();
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| r.normal()).collect();
    Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu)?)
}

/// Best seconds of the forward, and of everything.
fn times(f: impl Fn() -> Result<Tensor>) -> Result<(f64, f64)> {
    let (mut forward, mut both) = (f64::MAX, f64::MAX);
    for _ in 0..20 {
        let start = Instant::now();
        let y = f()?;
        forward = forward.min(start.elapsed().as_secs_f64());
        // A scalar whose gradient is cheap: candle starts from a tensor of ones.
        let grads = y.backward()?;
        both = both.min(start.elapsed().as_secs_f64());
        drop(grads);
    }
    Ok((forward, both))
}

fn main() -> Result<()> {
    println!("{:44} {:>10} {:>10} {:>10}", "", "forward", "backward", "ms in all");
    let report = |name: String, gflop: f64, share: f64, (forward, both): (f64, f64)| {
        println!(
            "{name:44} {:10.0} {:10.0} {:10.2}",
            gflop / forward,
            gflop * share / (both - forward),
            both * 1e3
        );
    };
    for (tokens, inputs, outputs, act) in [
        (50, 384, 1152, Act::None),
        (50, 384, 1536, Act::GeluErf),
        (50, 1536, 384, Act::None),
        (197, 384, 1152, Act::None),
        (197, 384, 1536, Act::GeluErf),
        (197, 1536, 384, Act::None),
        (197, 512, 2048, Act::GeluErf),
    ] {
        let m = 16 * tokens;
        let (x, w, b) = (random(&[m, inputs], 1)?, random(&[outputs, inputs], 2)?, random(&[outputs], 3)?);
        let t = times(|| linear_act(&x, &w, Some(&b), act, Path::Auto))?;
        report(
            format!("linear {m} x {inputs} -> {outputs} {act:?}"),
            2e-9 * (m * inputs * outputs) as f64,
            2.0,
            t,
        );
    }
    for (n, l, h, d) in [(16, 50, 6, 64), (16, 197, 6, 64), (16, 197, 16, 32), (2, 1024, 12, 64)] {
        let qkv = random(&[n, l, 3, h, d], 1)?;
        let t = times(|| self_attention(&qkv, None, &AttentionOpts::default(), Path::Auto))?;
        // Two products forward; five backward.
        report(format!("attention {n} x {l}, {h} heads of {d}"), 4e-9 * (n * h * l * l * d) as f64, 2.5, t);
    }
    Ok(())
}

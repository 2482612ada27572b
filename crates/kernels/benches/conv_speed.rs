//! Speed of convolutions on this machine, in GFLOP/s: `cargo bench -p selfsup-kernels --bench conv_speed --
//! [WORD ...]`.
//!
//! Shapes are those of a ResNet-18 on 32 x 32 images in batches of 64 and of a ResNet-50 on 96 x 96 images in
//! batches of 16. Forward, backward (both gradients: twice the forward's operations) and the same of the
//! whole block with batch norm and ReLU; the words choose lines that hold one of them. Best of several
//! rounds; the backward is forward + backward less the forward.
#![allow(clippy::print_stdout)]

use candle_core::{Device, Result, Tensor, Var};
use selfsup_kernels::Path;
use selfsup_kernels::activation::Act;
use selfsup_kernels::conv::{ConvSpec, conv, conv_bn_act};
use selfsup_kernels::rng::Key;
use std::time::Instant;

fn random(shape: &[usize], seed: u64) -> Result<Var> {
    let mut r = Key::new(seed).rng();
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| r.normal()).collect();
    Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu)?)
}

/// Best seconds of the forward, and of the backward.
fn times(rounds: usize, f: impl Fn() -> Result<Tensor>) -> Result<(f64, f64)> {
    let (mut forward, mut backward) = (f64::MAX, f64::MAX);
    for _ in 0..rounds {
        let start = Instant::now();
        let y = f()?;
        forward = forward.min(start.elapsed().as_secs_f64());
        let start = Instant::now();
        let grads = y.backward()?;
        backward = backward.min(start.elapsed().as_secs_f64());
        drop(grads);
    }
    Ok((forward, backward))
}

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    println!(
        "{:40} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "", "forward", "backward", "ms", "ms", "block", "backward", "ms"
    );
    let (mut sum, mut work) = (0.0, 0.0);
    for (net, n, size, inputs, outputs, kernel, stride, groups) in [
        ("r18", 64, 32, 3, 64, 3, 1, 1),
        ("r18", 64, 32, 64, 64, 3, 1, 1),
        ("r18", 64, 32, 64, 128, 3, 2, 1),
        ("r18", 64, 32, 64, 128, 1, 2, 1),
        ("r18", 64, 16, 128, 128, 3, 1, 1),
        ("r18", 64, 16, 128, 256, 3, 2, 1),
        ("r18", 64, 16, 128, 256, 1, 2, 1),
        ("r18", 64, 8, 256, 256, 3, 1, 1),
        ("r18", 64, 8, 256, 512, 3, 2, 1),
        ("r18", 64, 8, 256, 512, 1, 2, 1),
        ("r18", 64, 4, 512, 512, 3, 1, 1),
        ("r50", 16, 96, 3, 64, 7, 2, 1),
        ("r50", 16, 24, 64, 64, 1, 1, 1),
        ("r50", 16, 24, 64, 64, 3, 1, 1),
        ("r50", 16, 24, 64, 256, 1, 1, 1),
        ("r50", 16, 24, 256, 64, 1, 1, 1),
        ("r50", 16, 24, 128, 128, 3, 2, 1),
        ("r50", 16, 12, 128, 512, 1, 1, 1),
        ("r50", 16, 12, 512, 128, 1, 1, 1),
        ("r50", 16, 12, 256, 256, 3, 2, 1),
        ("r50", 16, 6, 256, 256, 3, 1, 1),
        ("r50", 16, 6, 256, 1024, 1, 1, 1),
        ("r50", 16, 6, 1024, 256, 1, 1, 1),
        ("r50", 16, 6, 512, 512, 3, 2, 1),
        ("r50", 16, 3, 512, 512, 3, 1, 1),
        ("r50", 16, 3, 512, 2048, 1, 1, 1),
        ("r50", 16, 3, 2048, 512, 1, 1, 1),
        ("depthwise", 16, 24, 384, 384, 3, 1, 384),
        ("depthwise", 16, 24, 384, 384, 7, 1, 384),
        ("grouped", 16, 24, 128, 128, 3, 1, 32),
    ] {
        let name = format!(
            "{net} {n}x{size}x{size}x{inputs} -> {outputs} {kernel}x{kernel}/{stride}{}",
            if groups > 1 { " g" } else { "" }
        );
        if !words.is_empty() && !words.iter().any(|w| name.contains(w.as_str())) {
            continue;
        }
        let spec = ConvSpec::new().stride(stride).padding(kernel / 2).groups(groups);
        let (x, w) =
            (random(&[n, size, size, inputs], 1)?, random(&[outputs, inputs / groups, kernel, kernel], 2)?);
        let gb = random(&[2, outputs], 3)?;
        // The first layer's input has no gradient.
        let first = inputs == 3;
        let x = if first { x.as_tensor().detach() } else { x.as_tensor().clone() };
        let out = (size - 1) / stride + 1;
        let gflop = 2e-9 * (n * out * out * outputs * inputs / groups * kernel * kernel) as f64;
        let share = if first { 1.0 } else { 2.0 };
        let rounds = ((3.0 / gflop) as usize).clamp(10, 100);
        let (f, b) = times(rounds, || conv(&x, &w, None, &spec, Path::Auto))?;
        let (bf, bb) = times(rounds, || Ok(conv_bn_act(&x, &w, &gb, &spec, 1e-5, Act::Relu, Path::Auto)?.0))?;
        println!(
            "{name:40} {:8.0} {:8.0} {:8.2} {:8.2} {:8.0} {:8.0} {:8.2}",
            gflop / f,
            gflop * share / b,
            f * 1e3,
            b * 1e3,
            gflop / bf,
            gflop * share / bb,
            (bf + bb) * 1e3
        );
        sum += bf + bb;
        work += gflop * (1.0 + share);
    }
    println!("all blocks: {:.1} ms, {:.0} GFLOP/s", sum * 1e3, work / sum);
    Ok(())
}

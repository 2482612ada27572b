//! Where the time of a restoration step goes: `cargo bench -p selfsup-medical --bench restoration_speed`.
#![allow(clippy::print_stdout)]

use candle_core::{Device, Tensor, Var};
use selfsup_core::objective::{Objective, Views};
use selfsup_core::optim::{OptimConfig, Optimizer};
use selfsup_core::trainer::gradients;
use selfsup_core::{Key, Params, Pass, Progress, Result, Scope};
use selfsup_kernels::Path;
use selfsup_kernels::activation::Act;
use selfsup_kernels::conv::{ConvSpec, conv, conv_instance_act};
use selfsup_medical::encoder::UNetConfig;
use selfsup_medical::method::{Restoration, RestorationLoss};
use selfsup_medical::recipe::Architecture;
use std::time::Instant;

fn random(shape: &[usize], seed: u64) -> Result<Tensor> {
    let mut r = Key::new(seed).rng();
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| r.normal()).collect();
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

fn best(rounds: usize, mut f: impl FnMut() -> Result<Tensor>) -> Result<(f64, f64)> {
    let (mut forward, mut backward) = (f64::MAX, f64::MAX);
    for _ in 0..rounds {
        let start = Instant::now();
        let y = f()?;
        forward = forward.min(start.elapsed().as_secs_f64() * 1e3);
        let start = Instant::now();
        drop(y.backward()?);
        backward = backward.min(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok((forward, backward))
}

fn main() -> Result<()> {
    for (size, inputs, outputs) in [
        (48, 1, 16),
        (48, 16, 16),
        (48, 32, 16),
        (24, 16, 32),
        (24, 32, 32),
        (24, 64, 32),
        (12, 32, 64),
        (12, 64, 64),
    ] {
        let x = Var::from_tensor(&random(&[2, size, size, size, inputs], 1)?)?;
        let x = if inputs == 1 { x.as_tensor().detach() } else { x.as_tensor().clone() };
        let w = Var::from_tensor(&random(&[outputs, inputs, 3, 3, 3], 2)?)?;
        let gb = Var::from_tensor(&random(&[2, outputs], 3)?)?;
        let spec = ConvSpec::new().padding(1);
        let gflop = 2e-9 * (2 * size * size * size * outputs * inputs * 27) as f64;
        let (f, b) = best(5, || Ok(conv(&x, &w, None, &spec, Path::Auto)?))?;
        let (bf, bb) =
            best(5, || Ok(conv_instance_act(&x, &w, Some(&gb), &spec, 1e-5, Act::Relu, Path::Auto)?))?;
        println!(
            "{size}^3 {inputs} -> {outputs}: conv {f:.1} + {b:.1} ms ({:.0} and {:.0} GFLOP/s), block {bf:.1} + {bb:.1} ms",
            gflop / f * 1e3,
            2.0 * gflop / b * 1e3
        );
    }
    let scope = Scope::root(&Params::new(), 0, &Device::Cpu);
    let net = Architecture::UNet(UNetConfig::new(1, &[16, 32, 64])).dense(&scope, 1, false)?;
    let method = Restoration::new(&scope, net, RestorationLoss::Mse);
    let shape = [2, 1, 48, 48, 48];
    let batch =
        Views { targets: Some(random(&shape, 2)?), ..Views::of(vec![random(&shape, 1)?], vec![0, 1]) };
    let mut optimizer = Optimizer::new(method.params(), OptimConfig::default())?;
    let mut times = Vec::new();
    for step in 0..7 {
        let start = Instant::now();
        let pass = Pass::train(0, Progress { step, total_steps: 100, epoch: 0 });
        let made = gradients(&method, &batch, 0, &pass)?;
        optimizer.step(&made.grads, step, 100)?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let start = Instant::now();
    let y = method.embed(&batch, &Pass::eval())?;
    println!("steps {times:.0?} ms, forward {:.0} ms", start.elapsed().as_secs_f64() * 1e3);
    drop(y);
    Ok(())
}

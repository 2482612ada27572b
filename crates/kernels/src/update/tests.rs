use super::*;
use crate::linear::testing::{error, golden, random};
use candle_core::{DType, Device};

fn var(t: &Tensor) -> Var {
    Var::from_tensor(t).unwrap()
}

fn zeros(t: &Tensor) -> Var {
    Var::from_tensor(&t.zeros_like().unwrap()).unwrap()
}

/// Runs a golden case of five steps in f32 (in place) and in f64 (by candle's operators); `step(index, is
/// weight, var, grad, buffers)`.
fn five_steps(name: &str, step: impl Fn(usize, bool, &Var, &Tensor, &[Var])) {
    let case = golden(name);
    for dtype in [DType::F32, DType::F64] {
        for p in ["w", "b"] {
            let start = case[&format!("input.{p}")].to_dtype(dtype).unwrap();
            let (x, buffers) = (var(&start), [zeros(&start), zeros(&start)]);
            for i in 0..5 {
                step(i, p == "w", &x, &case[&format!("input.g{p}{i}")].to_dtype(dtype).unwrap(), &buffers);
                let want = &case[&format!("expected.{p}{i}")];
                assert!(error(&x, want) < 1e-4, "{name} {dtype:?} {p}{i}: {}", error(&x, want));
            }
        }
    }
}

#[test]
fn golden_adamw() {
    five_steps("optim/adamw", |i, weight, x, g, b| {
        let weight_decay = if weight { 0.05 } else { 0.0 };
        adamw(
            x,
            g,
            &b[0],
            &b[1],
            &AdamWArgs { lr: 0.1, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay, step: i as u64 + 1 },
        )
        .unwrap();
    });
}

#[test]
fn golden_sgd() {
    five_steps("optim/sgd_momentum", |i, _, x, g, b| {
        sgd(
            x,
            g,
            Some(&b[0]),
            &SgdArgs {
                lr: 0.1,
                momentum: 0.9,
                dampening: 0.0,
                weight_decay: 0.01,
                nesterov: false,
                first: i == 0,
            },
        )
        .unwrap();
    });
}

#[test]
fn golden_lars() {
    five_steps("optim/lars", |i, weight, x, g, b| {
        let weight_decay = if weight { 1e-3 } else { 0.0 };
        let args = LarsArgs {
            lr: 0.1,
            momentum: 0.9,
            dampening: 0.0,
            weight_decay,
            nesterov: false,
            trust: 1e-3,
            eps: 1e-8,
            first: i == 0,
        };
        lars(x, g, Some(&b[0]), &args).unwrap();
    });
}

/// Large, odd and tiny tensors; in place against candle's operators in f64; transposed gradients; the same
/// bits for any number of threads.
#[test]
fn both_ways_agree() {
    let shapes: [&[usize]; 4] = [&[200, 301], &[1], &[7, 3], &[40_000]];
    let args =
        SgdArgs { lr: 0.3, momentum: 0.9, dampening: 0.1, weight_decay: 0.02, nesterov: true, first: false };
    let adam = AdamWArgs { lr: 0.1, beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.1, step: 3 };
    let all = |dtype: DType, threads: usize| -> Vec<Tensor> {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
            let make = |seed: u64| -> Vec<Var> {
                shapes
                    .iter()
                    .enumerate()
                    .map(|(i, s)| var(&random(s, seed + i as u64).abs().unwrap().to_dtype(dtype).unwrap()))
                    .collect()
            };
            let (w, m, v, e) = (make(1), make(11), make(21), make(31));
            let g: Vec<Tensor> = shapes
                .iter()
                .enumerate()
                .map(|(i, s)| {
                    let back: Vec<usize> = s.iter().rev().copied().collect();
                    let g = random(&back, 41 + i as u64).to_dtype(dtype).unwrap();
                    if s.len() == 2 { g.t().unwrap() } else { g }
                })
                .collect();
            let n = shapes.len();
            adamw_all(
                &(0..n)
                    .map(|i| (w[i].clone(), g[i].clone(), m[i].clone(), v[i].clone(), adam))
                    .collect::<Vec<_>>(),
            )
            .unwrap();
            sgd_all(
                &(0..n).map(|i| (w[i].clone(), g[i].clone(), Some(m[i].clone()), args)).collect::<Vec<_>>(),
            )
            .unwrap();
            let plain = SgdArgs { momentum: 0.0, ..args };
            sgd_all(&(0..n).map(|i| (w[i].clone(), g[i].clone(), None, plain)).collect::<Vec<_>>()).unwrap();
            ema_all(&(0..n).map(|i| (e[i].clone(), w[i].as_detached_tensor())).collect::<Vec<_>>(), 0.9)
                .unwrap();
            let norm = Tensor::new(sq_norm(&g).unwrap(), &Device::Cpu).unwrap();
            let scaled = scale(&g, 0.25).unwrap();
            [w, m, v, e]
                .into_iter()
                .flatten()
                .map(|v| v.as_tensor().clone())
                .chain(scaled)
                .chain([norm])
                .collect()
        })
    };
    let one = all(DType::F32, 1);
    for (a, b) in one.iter().zip(all(DType::F64, 1)) {
        assert!(error(a, &b) < 1e-6, "{:?}: {}", a.dims(), error(a, &b));
    }
    for threads in [2, 5] {
        for (a, b) in one.iter().zip(all(DType::F32, threads)) {
            assert_eq!(error(a, &b), 0.0);
        }
    }
}

#[test]
fn first_step_forgets_the_buffer() {
    let (w, g) = (var(&random(&[5], 1)), random(&[5], 2));
    let b = var(&Tensor::full(f32::NAN, 5, &Device::Cpu).unwrap());
    sgd(
        &w,
        &g,
        Some(&b),
        &SgdArgs { lr: 0.1, momentum: 0.9, dampening: 0.5, weight_decay: 0.0, nesterov: false, first: true },
    )
    .unwrap();
    assert_eq!(b.to_vec1::<f32>().unwrap(), g.to_vec1::<f32>().unwrap());
}

#[test]
fn a_source_that_is_written_too() {
    let (a, b) = (var(&random(&[5], 1)), var(&random(&[5], 2)));
    let (x, y) = (a.copy().unwrap(), b.copy().unwrap());
    // a <- (a + b) / 2 and b <- (b + a) / 2, both from the old values; and onto itself.
    ema_all(&[(a.clone(), b.as_detached_tensor()), (b.clone(), a.as_detached_tensor())], 0.5).unwrap();
    let mean = ((x + y).unwrap() * 0.5).unwrap();
    assert!(error(&a, &mean) < 1e-6 && error(&b, &mean) < 1e-6);
    ema(&a, &a.as_detached_tensor(), 0.5).unwrap();
    assert!(error(&a, &mean) < 1e-6);
    assert!(
        adamw(
            &a,
            &mean,
            &b,
            &b,
            &AdamWArgs { lr: 0.1, beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.0, step: 1 }
        )
        .is_err()
    );
}

#[test]
fn scaling_in_place_and_errors() {
    let x = random(&[3, 4], 1);
    let want = (&x * 0.5).unwrap();
    scale_in_place(&x, 0.5).unwrap();
    assert_eq!(error(&x, &want), 0.0);
    assert!(scale_in_place(&x.t().unwrap(), 0.5).is_err());
    assert!(ema(&var(&x), &random(&[4, 3], 1), 0.5).is_err(), "shapes");
    let args =
        SgdArgs { lr: 0.1, momentum: 0.9, dampening: 0.0, weight_decay: 0.0, nesterov: false, first: true };
    assert!(sgd(&var(&x), &x, None, &args).is_err(), "no buffer");
    assert_eq!(sq_norm(&[]).unwrap(), 0.0);
    assert_eq!(
        sq_norm(&[
            Tensor::new(&[3f32, 4.0], &Device::Cpu).unwrap(),
            Tensor::new(2f32, &Device::Cpu).unwrap()
        ])
        .unwrap(),
        29.0
    );
}

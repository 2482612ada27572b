//! What the tests of several kernels share: both paths against each other, gradients against differences,
//! threads against threads.

use crate::Path;
use crate::rng::Key;
use candle_core::{DType, Device, Result, Shape, Tensor, Var};

/// Standard normal numbers.
pub(crate) fn random(shape: &[usize], seed: u64) -> Tensor {
    let mut r = Key::new(seed).rng();
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| r.normal()).collect();
    Tensor::from_vec(values, Shape::from(shape), &Device::Cpu).unwrap()
}

fn vars(inputs: &[Tensor], dtype: DType) -> Vec<Var> {
    inputs.iter().map(|t| Var::from_tensor(&t.to_dtype(dtype).unwrap()).unwrap()).collect()
}

/// The result and, for each input that has one, the gradient of its product with random numbers.
pub(crate) fn run(
    inputs: &[Tensor],
    dtype: DType,
    f: impl Fn(&[Tensor]) -> Result<Tensor>,
) -> (Tensor, Vec<Option<Tensor>>) {
    let vars = vars(inputs, dtype);
    let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let y = f(&tensors).unwrap();
    let cotangent = random(y.dims(), 77).to_dtype(dtype).unwrap();
    let grads = (&y * cotangent).unwrap().sum_all().unwrap().backward().unwrap();
    (y, vars.iter().map(|v| grads.get(v).cloned()).collect())
}

/// Largest difference relative to the largest value.
pub(crate) fn error(a: &Tensor, b: &Tensor) -> f64 {
    error_from(a, b, 1e-6)
}

/// The same, but with values of at least `floor`: some gradients are 0 by cancellation.
fn error_from(a: &Tensor, b: &Tensor, floor: f64) -> f64 {
    let list = |t: &Tensor| t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
    assert_eq!(a.dims(), b.dims());
    let (a, b) = (list(a), list(b));
    let size = b.iter().fold(floor, |m: f64, x| m.max(x.abs()));
    a.iter().zip(&b).fold(0.0, |m: f64, (a, b)| {
        let e = if a == b { 0.0 } else { (a - b).abs() };
        if e.is_nan() { f64::INFINITY } else { m.max(e) }
    }) / size
}

/// The fused path in f32 gives what the composed path gives in f64, and so do its gradients.
pub(crate) fn agree(inputs: &[Tensor], f: impl Fn(&[Tensor], Path) -> Result<Tensor>) {
    let (y, gs) = run(inputs, DType::F32, |t| f(t, Path::Fused));
    let (y2, gs2) = run(inputs, DType::F64, |t| f(t, Path::Composed));
    assert!(error(&y, &y2) < 2e-5, "result: {}", error(&y, &y2));
    for (i, (g, g2)) in gs.iter().zip(&gs2).enumerate() {
        match (g, g2) {
            (Some(g), Some(g2)) => {
                assert!(error_from(g, g2, 0.1) < 5e-5, "gradient {i}: {}", error_from(g, g2, 0.1))
            }
            (None, None) => (),
            _ => panic!("gradient {i} on one path only"),
        }
    }
}

/// Both paths agree, and the gradients are what central differences (in f64) say.
pub(crate) fn check_gradients(inputs: &[Tensor], f: impl Fn(&[Tensor], Path) -> Result<Tensor>) {
    agree(inputs, &f);
    let (_, gs) = run(inputs, DType::F64, |t| f(t, Path::Composed));
    let inputs: Vec<Tensor> = inputs.iter().map(|t| t.to_dtype(DType::F64).unwrap()).collect();
    let value = |t: &[Tensor]| {
        let y = f(t, Path::Composed).unwrap();
        let cotangent = random(y.dims(), 77).to_dtype(DType::F64).unwrap();
        (y * cotangent).unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap()
    };
    for (i, g) in gs.iter().enumerate() {
        let Some(g) = g else { continue };
        let values = inputs[i].flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let differences: Vec<f64> = (0..values.len())
            .map(|j| {
                let at = |h: f64| {
                    let mut values = values.clone();
                    values[j] += h;
                    let mut all = inputs.clone();
                    all[i] = Tensor::from_vec(values, inputs[i].shape(), &Device::Cpu).unwrap();
                    value(&all)
                };
                (at(1e-5) - at(-1e-5)) / 2e-5
            })
            .collect();
        let differences = Tensor::from_vec(differences, inputs[i].shape(), &Device::Cpu).unwrap();
        assert!(error(g, &differences) < 1e-6, "gradient {i}: {}", error(g, &differences));
    }
}

/// Result and gradients have the same bits for 1, 2 and 5 threads.
pub(crate) fn same_bits(inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor> + Sync) {
    let bits = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let (y, gs) = pool.install(|| run(inputs, DType::F32, &f));
        let all = [Some(y)].into_iter().chain(gs).flatten();
        all.map(|t| {
            t.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
        })
        .collect::<Vec<Vec<u32>>>()
    };
    let one = bits(1);
    assert!(one.iter().flatten().all(|b| f32::from_bits(*b).is_finite()), "not finite");
    for threads in [2, 5] {
        // Not assert_eq: thousands of numbers would say nothing.
        assert!(one == bits(threads), "other bits with {threads} threads than with one");
    }
}

/// The tensors of a golden case.
pub(crate) fn golden(name: &str) -> std::collections::HashMap<String, Tensor> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden")
        .join(format!("{name}.safetensors"));
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

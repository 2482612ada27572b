//! Checks that the tests of the kernels share.

use crate::Path;
use crate::rng::Key;
use candle_core::{DType, Device, Result, Tensor, Var};

/// Standard normal numbers.
pub(crate) fn normal(seed: u64, shape: &[usize]) -> Tensor {
    let mut rng = Key::new(seed).rng();
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.normal()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

pub(crate) fn values(t: &Tensor) -> Vec<f64> {
    t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// `max |a - b| / max(max |b|, floor)`.
pub(crate) fn error(a: &Tensor, b: &Tensor, floor: f64) -> f64 {
    assert_eq!(a.dims(), b.dims());
    let (a, b) = (values(a), values(b));
    let top = b.iter().fold(floor, |m, v| m.max(v.abs()));
    a.iter().zip(&b).fold(
        0.0,
        |m: f64, (a, b)| if a.is_nan() == b.is_nan() { m.max((a - b).abs()) } else { f64::INFINITY },
    ) / top
}

fn flip(t: &Tensor) -> Result<Tensor> {
    if t.rank() < 2 { Ok(t.clone()) } else { t.transpose(0, t.rank() - 1) }
}

/// Result and gradients of all inputs for the cotangent `g`. If `flipped`, inputs and cotangent reach `f` as
/// views that are not contiguous.
pub(crate) fn differentiate(
    inputs: &[Tensor],
    g: &Tensor,
    flipped: bool,
    f: impl Fn(&[Tensor]) -> Result<Tensor>,
) -> Result<Vec<Tensor>> {
    let turn = |t: &Tensor| if flipped { flip(t) } else { Ok(t.clone()) };
    let vars: Vec<Var> =
        inputs.iter().map(|t| Var::from_tensor(&turn(t)?.contiguous()?)).collect::<Result<_>>()?;
    let views: Vec<Tensor> = vars.iter().map(|v| turn(v.as_tensor())).collect::<Result<_>>()?;
    let y = f(&views)?;
    assert_eq!(y.dims(), g.dims());
    let grads = (turn(&y)? * turn(g)?.contiguous()?)?.sum_all()?.backward()?;
    let mut out = vec![y.detach()];
    for v in &vars {
        let d = grads.get(v.as_tensor()).expect("a gradient of every input");
        out.push(turn(d)?.contiguous()?);
    }
    Ok(out)
}

/// Holds the fused kernel to the composition in double precision, and the gradients of that to differences.
pub(crate) fn check(inputs: &[Tensor], f: impl Fn(&[Tensor], Path) -> Result<Tensor>) {
    let g = normal(99, f(inputs, Path::Fused).unwrap().dims());
    let (wide, wide_g): (Vec<Tensor>, Tensor) =
        (inputs.iter().map(|t| t.to_dtype(DType::F64).unwrap()).collect(), g.to_dtype(DType::F64).unwrap());
    let truth = differentiate(&wide, &wide_g, false, |x| f(x, Path::Composed)).unwrap();
    for (path, flipped) in [
        (Path::Fused, false),
        (Path::Fused, true),
        (Path::Auto, true),
        (Path::Composed, false),
        (Path::Composed, true),
    ] {
        let out = differentiate(inputs, &g, flipped, |x| f(x, path)).unwrap();
        for (i, (a, b)) in out.iter().zip(&truth).enumerate() {
            let e = error(a, b, 0.1);
            assert!(
                e < 1e-4,
                "{path:?}, flipped {flipped}, {} {i}: error {e:e}\n{a}\n{b}",
                if i == 0 { "result" } else { "gradient" }
            );
        }
    }
    let loss = |x: &[Tensor]| values(&(f(x, Path::Composed).unwrap() * &wide_g).unwrap()).iter().sum::<f64>();
    for (i, x) in wide.iter().enumerate() {
        let (grad, all) = (values(&truth[i + 1]), values(x));
        let top = grad.iter().fold(0.1f64, |m, v| m.max(v.abs()));
        for j in (0..all.len()).step_by((all.len() / 6).max(1)) {
            let at = |h: f64| {
                let mut moved = all.clone();
                moved[j] += h;
                let mut inputs = wide.clone();
                inputs[i] = Tensor::from_vec(moved, x.shape(), &Device::Cpu).unwrap();
                loss(&inputs)
            };
            let h = 1e-6;
            let slope = (at(h) - at(-h)) / (2.0 * h);
            assert!(
                (slope - grad[j]).abs() < 1e-4 * top,
                "input {i}, element {j}: difference {slope}, gradient {}",
                grad[j]
            );
        }
    }
}

/// The fused kernel gives the same bits with one, two and five threads.
pub(crate) fn same_bits(inputs: &[Tensor], f: impl Fn(&[Tensor], Path) -> Result<Tensor> + Sync) {
    let g = normal(98, f(inputs, Path::Fused).unwrap().dims());
    let run = |threads: usize| -> Vec<Vec<u32>> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let out = pool.install(|| differentiate(inputs, &g, false, |x| f(x, Path::Fused)).unwrap());
        out.iter()
            .map(|t| {
                t.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
            })
            .collect()
    };
    let one = run(1);
    assert!(one == run(2) && one == run(5), "the bits depend on the number of threads");
}

/// A case of tests/golden: all gradients, both paths. `names` are the inputs in the order in which `f` gets
/// them. Images come channels-first.
pub(crate) fn golden(name: &str, names: &[&str], f: impl Fn(&[Tensor], Path) -> Result<Tensor>) {
    let file = format!("{}/../../tests/golden/ops/{name}.safetensors", env!("CARGO_MANIFEST_DIR"));
    let tensors = candle_core::safetensors::load(file, &Device::Cpu).unwrap();
    let inputs: Vec<Tensor> = names.iter().map(|n| tensors[&format!("input.{n}")].clone()).collect();
    for path in [Path::Fused, Path::Composed] {
        let out = differentiate(&inputs, &tensors["input.grad_y"], false, |x| f(x, path)).unwrap();
        let expected =
            std::iter::once("expected.y".to_string()).chain(names.iter().map(|n| format!("grad.{n}")));
        for (a, key) in out.iter().zip(expected) {
            let e = error(a, &tensors[&key], 1e-6);
            assert!(e <= 1e-4, "{name}, {path:?}: error of {key} is {e:e}");
        }
    }
}

/// `f` in channels-last on a channels-first tensor, as a view that is not contiguous.
pub(crate) fn channels_last(x: &Tensor, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    let r = x.rank();
    let to_last: Vec<usize> = std::iter::once(0).chain(2..r).chain(std::iter::once(1)).collect();
    let to_first: Vec<usize> = [0, r - 1].into_iter().chain(1..r - 1).collect();
    f(&x.permute(to_last)?)?.permute(to_first)
}

/// The same `count` cases in every run.
pub(crate) fn cases(count: u32) -> proptest::prelude::ProptestConfig {
    proptest::prelude::ProptestConfig {
        cases: count,
        rng_seed: proptest::test_runner::RngSeed::Fixed(1),
        failure_persistence: None,
        ..Default::default()
    }
}

//! What the tests of the losses share: random inputs, golden cases, finite differences, and the comparison of
//! the two paths.

use crate::kernels::Path;
use crate::{Key, Result};
use candle_core::{DType, Device, Tensor, Var};
use std::collections::HashMap;

/// Standard normal numbers, f64.
pub(super) fn random(shape: &[usize], seed: u64) -> Tensor {
    let mut rng = Key::new(seed).rng();
    let v: Vec<f64> = (0..shape.iter().product()).map(|_| f64::from(rng.normal())).collect();
    Tensor::from_vec(v, shape, &Device::Cpu).unwrap()
}

/// A small f32 tensor.
pub(super) fn f32s(v: &[f32], shape: &[usize]) -> Tensor {
    Tensor::from_slice(v, shape, &Device::Cpu).unwrap()
}

/// The value of a scalar.
pub(super) fn value(x: &Tensor) -> f64 {
    assert_eq!(x.rank(), 0, "a loss is a scalar");
    x.to_dtype(DType::F64).unwrap().to_scalar().unwrap()
}

fn flat(x: &Tensor) -> Vec<f64> {
    x.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// `max|a - b| / max(max|b|, 1e-6)`, infinite where one is not a number.
pub(super) fn error(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.elem_count(), b.elem_count());
    let (a, b) = (flat(a), flat(b));
    let scale = b.iter().fold(1e-6f64, |m, v| m.max(v.abs()));
    a.iter().zip(&b).fold(0.0, |m, (a, b)| {
        if (a - b).is_finite() { f64::max(m, (a - b).abs() / scale) } else { f64::INFINITY }
    })
}

/// Value and gradients of `f` at `inputs`.
fn run(inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor>) -> (Tensor, Vec<Tensor>) {
    let vars: Vec<Var> = inputs.iter().map(|t| Var::from_tensor(t).unwrap()).collect();
    let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let loss = f(&tensors).unwrap();
    assert_eq!(loss.rank(), 0, "a loss is a scalar");
    let grads = loss.backward().unwrap();
    (loss, vars.iter().map(|v| grads.get(v).expect("every input has a gradient").clone()).collect())
}

/// Gradients against central differences, in f64.
pub(super) fn finite_differences(inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let (_, grads) = run(inputs, &f);
    let h = 1e-5;
    for (k, grad) in grads.iter().enumerate() {
        let x = flat(&inputs[k]);
        let numeric: Vec<f64> = (0..x.len())
            .map(|i| {
                let at = |d: f64| {
                    let mut x = x.clone();
                    x[i] += d;
                    let mut inputs = inputs.to_vec();
                    inputs[k] = Tensor::from_vec(x, inputs[k].shape(), &Device::Cpu).unwrap();
                    value(&f(&inputs).unwrap())
                };
                (at(h) - at(-h)) / (2.0 * h)
            })
            .collect();
        let numeric = Tensor::from_vec(numeric, grad.shape(), &Device::Cpu).unwrap();
        let e = error(grad, &numeric);
        assert!(e < 1e-6, "gradient {k}: {e:e}\n{grad}\n{numeric}");
    }
}

/// Both paths in f32 against the composition in f64: values and gradients.
pub(super) fn agree(inputs: &[Tensor], f: impl Fn(&[Tensor], Path) -> Result<Tensor>) {
    let (loss, grads) = run(inputs, |t| f(t, Path::Composed));
    let narrow: Vec<Tensor> = inputs.iter().map(|t| t.to_dtype(DType::F32).unwrap()).collect();
    for path in [Path::Fused, Path::Composed] {
        let (l, g) = run(&narrow, |t| f(t, path));
        let e = error(&l, &loss);
        assert!(e < 2e-5, "{path:?} loss: {e:e}: {l} for {loss}");
        for (k, (g, want)) in g.iter().zip(&grads).enumerate() {
            let e = error(g, want);
            assert!(e < 5e-5, "{path:?} gradient {k}: {e:e}");
        }
    }
}

/// One golden case: its tensors by name.
pub(super) struct Golden(HashMap<String, Tensor>, String);

impl Golden {
    /// The file `tests/golden/NAME.safetensors`, or that of the folder `SELFSUP_GOLDEN` names.
    pub fn open(name: &str) -> Self {
        let folder = std::env::var_os("SELFSUP_GOLDEN").map_or_else(
            || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden"),
            Into::into,
        );
        let path = folder.join(format!("{name}.safetensors"));
        Golden(candle_core::safetensors::load(path, &Device::Cpu).unwrap(), name.to_string())
    }

    /// The tensor `name`.
    pub fn get(&self, name: &str) -> Tensor {
        self.0.get(name).unwrap_or_else(|| panic!("{}: no {name}", self.1)).clone()
    }

    /// Checks the loss and the gradient of each of `names` within 1e-4; both are printed.
    pub fn check(&self, names: &[&str], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
        let inputs: Vec<Tensor> = names.iter().map(|n| self.get(&format!("input.{n}"))).collect();
        let (loss, grads) = run(&inputs, f);
        let mut worst = error(&loss, &self.get("expected.loss"));
        println!("{} loss {worst:.1e}", self.1);
        for (name, grad) in names.iter().zip(&grads) {
            let e = error(grad, &self.get(&format!("grad.{name}")));
            println!("{} grad.{name} {e:.1e}", self.1);
            worst = worst.max(e);
        }
        assert!(worst <= 1e-4, "{}: {worst:e}", self.1);
    }
}

//! A golden case: its tensors, its parameters, and the comparison with what came out.

use candle_core::{DType, Device, Tensor, Var};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Any error.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
/// Result with any error.
pub type Result<T, E = Error> = std::result::Result<T, E>;
/// Tensors by the names that the file uses (`expected.y`, `grad.x`).
pub type Outputs = BTreeMap<String, Tensor>;
/// Runs a case; one entry per path, with its label.
pub type Handler = fn(&Case) -> Result<Vec<(String, Outputs)>>;

/// How a case ended.
pub enum Outcome {
    /// Nobody runs it.
    NoHandler,
    /// It passed with this largest relative error.
    Worst(f64),
}

/// One case.
pub struct Case {
    /// Its name in the index (`ops/softmax`).
    pub name: String,
    /// Its parameters.
    pub params: Value,
    /// What `fixtures/NAME.safetensors` holds.
    pub tensors: BTreeMap<String, Tensor>,
    /// The folder that holds its file.
    pub folder: PathBuf,
}

/// All cases of a folder, in the order of their names.
pub fn index(root: &Path) -> Result<Vec<Case>> {
    let index: BTreeMap<String, Value> = serde_json::from_slice(&std::fs::read(root.join("index.json"))?)?;
    let mut cases = Vec::new();
    for (name, entry) in index {
        let file = root.join(format!("{name}.safetensors"));
        // A case that is a folder of foreign files (NIfTI, DICOM) has no tensors of its own.
        let tensors = if file.exists() {
            candle_core::safetensors::load(&file, &Device::Cpu)?.into_iter().collect()
        } else {
            BTreeMap::new()
        };
        let folder = file.parent().map_or_else(|| root.to_path_buf(), Path::to_path_buf);
        cases.push(Case {
            name,
            params: entry.get("params").cloned().unwrap_or(Value::Null),
            tensors,
            folder,
        });
    }
    Ok(cases)
}

impl Case {
    /// The last part of the name.
    pub fn short(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or(&self.name)
    }

    /// An input tensor.
    pub fn input(&self, name: &str) -> Result<Tensor> {
        self.tensors
            .get(&format!("input.{name}"))
            .cloned()
            .ok_or_else(|| format!("no input.{name} in the file").into())
    }

    /// An input tensor that may be absent.
    pub fn maybe(&self, name: &str) -> Option<Tensor> {
        self.tensors.get(&format!("input.{name}")).cloned()
    }

    /// A numeric parameter.
    pub fn number(&self, name: &str, default: f64) -> f64 {
        self.params.get(name).and_then(Value::as_f64).unwrap_or(default)
    }

    /// A whole parameter.
    pub fn whole(&self, name: &str, default: usize) -> usize {
        self.params.get(name).and_then(Value::as_u64).map_or(default, |v| v as usize)
    }

    /// The values of an integer input.
    pub fn integers(&self, name: &str) -> Result<Vec<i64>> {
        Ok(self.input(name)?.to_dtype(DType::I64)?.flatten_all()?.to_vec1()?)
    }

    /// `f` on variables of the named inputs (absent ones are skipped): `expected.OUT`, and the gradient of
    /// `sum(out * grad_y)` or of a scalar out, as `grad.NAME`.
    pub fn differentiate(
        &self,
        names: &[&str],
        out: &str,
        f: impl Fn(&dyn Fn(&str) -> Option<Tensor>) -> Result<Tensor>,
    ) -> Result<Outputs> {
        let mut vars: BTreeMap<String, Var> = BTreeMap::new();
        for name in names {
            if let Some(t) = self.maybe(name) {
                vars.insert((*name).to_string(), Var::from_tensor(&t)?);
            }
        }
        let y = f(&|name| vars.get(name).map(|v| v.as_tensor().clone()))?;
        let scalar = match self.maybe("grad_y") {
            Some(g) => (y.reshape(g.dims())? * &g)?.sum_all()?,
            None => y.sum_all()?,
        };
        let grads = scalar.backward()?;
        let mut outputs = Outputs::from([(format!("expected.{out}"), y.detach())]);
        for (name, var) in &vars {
            if let Some(g) = grads.get(var.as_tensor()) {
                outputs.insert(format!("grad.{name}"), g.clone());
            }
        }
        Ok(outputs)
    }
}

/// The largest error over everything that the case expects; an error names the tensor.
pub fn compare(case: &Case, outputs: &Outputs) -> Result<f64, String> {
    let norm = case
        .tensors
        .get("expected.grad_norm")
        .and_then(|t| t.flatten_all().ok()?.to_vec1::<f32>().ok()?.first().copied());
    let mut worst = 0f64;
    let mut checked = 0;
    for (name, expected) in &case.tensors {
        if !(name.starts_with("expected.") || name.starts_with("grad.")) {
            continue;
        }
        let got = outputs.get(name).ok_or_else(|| format!("{name}: nothing came out"))?;
        let floor = if name.starts_with("grad.") { norm.map_or(1e-6, |n| 1e-4 * f64::from(n)) } else { 1e-6 };
        let error = difference(got, expected, floor).map_err(|e| format!("{name}: {e}"))?;
        if error.is_nan() || error > 1e-4 {
            return Err(format!("{name}: error {error:.2e} above 1e-4"));
        }
        worst = worst.max(error);
        checked += 1;
    }
    if checked == 0 { Err("the case expects nothing".into()) } else { Ok(worst) }
}

/// `max|a - b| / max(max|b|, floor)`; integers must be equal.
pub fn difference(got: &Tensor, expected: &Tensor, floor: f64) -> Result<f64, String> {
    if got.elem_count() != expected.elem_count() {
        return Err(format!("shape {:?}, expected {:?}", got.dims(), expected.dims()));
    }
    if expected.elem_count() > 1 && got.dims() != expected.dims() {
        return Err(format!("shape {:?}, expected {:?}", got.dims(), expected.dims()));
    }
    let values =
        |t: &Tensor| -> candle_core::Result<Vec<f64>> { t.to_dtype(DType::F64)?.flatten_all()?.to_vec1() };
    let (a, b) = (values(got).map_err(|e| e.to_string())?, values(expected).map_err(|e| e.to_string())?);
    let whole = !expected.dtype().is_float();
    let (mut gap, mut size) = (0f64, floor);
    for (x, y) in a.iter().zip(&b) {
        if !x.is_finite() && x != y {
            return Ok(f64::NAN);
        }
        gap = gap.max((x - y).abs());
        size = size.max(y.abs());
    }
    Ok(if whole && gap > 0.0 { f64::INFINITY } else { gap / size })
}

//! Spellings that differ between versions of a library for one and the same tensor.

use crate::error::{Error, Result};
use candle_core::Tensor;
use std::collections::BTreeMap;

type Tensors = BTreeMap<String, Tensor>;

/// Prefixes that a wrapper puts in front of all names: `DataParallel`, `torch.compile`, Lightning.
const WRAPPERS: [&str; 3] = ["module.", "_orig_mod.", "model."];

/// Two spellings of weight normalisation: magnitude and direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WeightNorm {
    /// `weight_g`, `weight_v` (`torch.nn.utils.weight_norm`).
    GV,
    /// `parametrizations.weight.original0`, `.original1` (`torch.nn.utils.parametrizations.weight_norm`).
    Parametrizations,
}

/// Brings names to one spelling: drops the prefixes `module.`, `_orig_mod.` and `model.` where every name has
/// them, calls the `gamma` and `beta` of a layer norm `weight` and `bias` (only where a module has both: a
/// lone `gamma` is a layer scale), spells weight normalisation as `parametrizations`, and leaves out
/// `num_batches_tracked`, which PyTorch's batch norm only needs with `momentum=None`.
///
/// # Errors
/// If two names become one.
pub fn normalise(mut tensors: Tensors) -> Result<Tensors> {
    tensors.retain(|n, _| !(n == "num_batches_tracked" || n.ends_with(".num_batches_tracked")));
    while let Some(prefix) = WRAPPERS
        .iter()
        .find(|p| !tensors.is_empty() && tensors.keys().all(|n| n.len() > p.len() && n.starts_with(*p)))
    {
        tensors = tensors.into_iter().map(|(n, t)| (n[prefix.len()..].to_string(), t)).collect();
    }
    let pairs: Vec<String> = tensors
        .keys()
        .filter_map(|n| module_of(n, "gamma"))
        .filter(|m| tensors.contains_key(&format!("{m}beta")))
        .collect();
    for m in pairs {
        rename(&mut tensors, &format!("{m}gamma"), format!("{m}weight"))?;
        rename(&mut tensors, &format!("{m}beta"), format!("{m}bias"))?;
    }
    weight_norm_names(tensors, WeightNorm::Parametrizations)
}

/// Spells the two tensors of every weight-normalised module as `to` says.
///
/// # Errors
/// If a module has both spellings.
pub fn weight_norm_names(mut tensors: Tensors, to: WeightNorm) -> Result<Tensors> {
    let (g, v, p0, p1) =
        ("weight_g", "weight_v", "parametrizations.weight.original0", "parametrizations.weight.original1");
    let (from, to) = match to {
        WeightNorm::GV => ([p0, p1], [g, v]),
        WeightNorm::Parametrizations => ([g, v], [p0, p1]),
    };
    let modules: Vec<String> = tensors
        .keys()
        .filter_map(|n| module_of(n, from[0]))
        .filter(|m| tensors.contains_key(&format!("{m}{}", from[1])))
        .collect();
    for m in modules {
        for (a, b) in from.iter().zip(to) {
            rename(&mut tensors, &format!("{m}{a}"), format!("{m}{b}"))?;
        }
    }
    Ok(tensors)
}

/// `"a.b."` if `name` is `a.b.last`, `""` if it is `last`.
fn module_of(name: &str, last: &str) -> Option<String> {
    let m = name.strip_suffix(last)?;
    (m.is_empty() || m.ends_with('.')).then(|| m.to_string())
}

fn rename(tensors: &mut Tensors, from: &str, to: String) -> Result<()> {
    let Some(t) = tensors.remove(from) else { return Ok(()) };
    if tensors.contains_key(&to) {
        return Err(Error::input(from, format!("would be called {to}, but there is a tensor of that name")));
    }
    tensors.insert(to, t);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    fn named(names: &[&str]) -> Tensors {
        names.iter().map(|n| (n.to_string(), Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap())).collect()
    }

    fn after(names: &[&str]) -> Vec<String> {
        normalise(named(names)).unwrap().into_keys().collect()
    }

    #[test]
    fn spellings() {
        assert_eq!(after(&["module.model.a.w", "module.model.b"]), ["a.w", "b"]);
        assert_eq!(after(&["model.a", "head.b"]), ["head.b", "model.a"], "a part that is called model stays");
        assert_eq!(after(&["module.a", "module."]), ["module.", "module.a"]);
        assert_eq!(after(&["ln.gamma", "ln.beta", "ls.gamma"]), ["ln.bias", "ln.weight", "ls.gamma"]);
        let p =
            ["conv.bias", "conv.parametrizations.weight.original0", "conv.parametrizations.weight.original1"];
        assert_eq!(after(&["conv.weight_g", "conv.weight_v", "conv.bias"]), p);
        let back = weight_norm_names(named(&p), WeightNorm::GV).unwrap();
        assert_eq!(back.into_keys().collect::<Vec<_>>(), ["conv.bias", "conv.weight_g", "conv.weight_v"]);
        assert_eq!(after(&["bn.weight", "bn.num_batches_tracked"]), ["bn.weight"]);
        assert!(normalise(named(&["ln.gamma", "ln.beta", "ln.weight"])).is_err());
        assert!(after(&[]).is_empty());
    }
}

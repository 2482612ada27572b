//! Released weights into a network: every tensor of the file is used, or is one of a head that may stand
//! beside the network. A tensor that is dropped in silence is a part of the function that is lost.

use super::{Options, Report, compare, load_into};
use crate::error::{Error, Result};
use crate::params::Params;
use candle_core::Tensor;
use std::collections::BTreeMap;
use std::path::Path;

/// Tensors that are shown in a message.
const SHOWN: usize = 6;

/// What may differ between a file and a network.
pub struct Beside<'a> {
    /// Names, or paths of names, of heads that a file may have beside the network, or within it (a pooler).
    pub heads: &'a [&'a str],
    /// Whether a parameter (named relative to the prefix) may be absent from the file.
    pub may_lack: &'a dyn Fn(&str) -> bool,
}

impl Beside<'_> {
    fn is_head(&self, name: &str) -> bool {
        let below =
            |head: &str| name.strip_prefix(head).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        self.heads.iter().any(|head| below(head))
    }
}

/// Loads `tensors`, the whole of the file at `path` under our names, into the parameters below `prefix`; the
/// network's names begin with `prefix` and a dot. `theirs` gives the names of the file back for messages
/// ([`Rules::their_names`](super::Rules::their_names)). [`Report::unexpected`] lists the heads that were left
/// out.
///
/// # Errors
/// Naming the file and its tensors: what the network has no place for and is no head, what the network needs
/// and the file lacks, and what has another shape. Nothing is written then.
pub fn load_strict(
    params: &Params,
    prefix: &str,
    tensors: BTreeMap<String, Tensor>,
    theirs: &dyn Fn(&str, &Tensor) -> Vec<String>,
    beside: &Beside,
    path: &Path,
) -> Result<Report> {
    let dotted = if prefix.is_empty() { String::new() } else { format!("{prefix}.") };
    let relative = |name: &str| name.strip_prefix(&dotted).map(str::to_string);
    let inside: BTreeMap<String, Tensor> =
        tensors.iter().filter_map(|(name, t)| Some((relative(name)?, t.clone()))).collect();
    let report = compare(params, &inside, prefix);
    let outside = tensors.keys().filter(|name| relative(name).is_none()).cloned();
    let unexpected = report.unexpected.iter().map(|name| dotted.clone() + name).chain(outside);
    let (heads, strange): (Vec<String>, Vec<String>) =
        unexpected.partition(|name| beside.is_head(&relative(name).unwrap_or_else(|| name.clone())));
    let mut problems = Vec::new();
    if !strange.is_empty() {
        let names = strange.iter().filter_map(|name| Some(theirs(name, tensors.get(name)?)));
        let names: Vec<String> = names.flatten().collect();
        problems.push(format!(
            "{} that no parameter takes and that are no known head ({}), expected none but those of {}",
            counted(names.len()),
            shown(&names),
            beside.heads.join(", ")
        ));
    }
    let missing: Vec<String> =
        report.missing.iter().filter(|name| !(beside.may_lack)(name)).cloned().collect();
    if !missing.is_empty() {
        let wanted = report.loaded.len() + report.misshapen.len() + report.missing.len();
        let have: Vec<String> = inside.keys().cloned().collect();
        problems.push(format!(
            "{} of {wanted} missing: {} (the file has {})",
            missing.len(),
            shown(&missing),
            shown(&have)
        ));
    }
    if !report.misshapen.is_empty() {
        let each = report.misshapen.iter();
        let each: Vec<String> =
            each.map(|(name, found, want)| format!("{name} {found:?} (expected {want:?})")).collect();
        problems.push(format!("{} of another shape: {}", counted(each.len()), shown(&each)));
    }
    if !problems.is_empty() {
        return Err(Error::file(path, format!("weights of another network: {}", problems.join("; "))));
    }
    let options = Options { allow_missing: true, allow_unexpected: true };
    let report = load_into(params, &inside, prefix, &options).map_err(|e| Error::file(path, e))?;
    Ok(Report { unexpected: heads, ..report })
}

fn counted(n: usize) -> String {
    if n == 1 { "1 tensor".into() } else { format!("{n} tensors") }
}

/// At most six names, and how many more there are.
fn shown(names: &[String]) -> String {
    let more = names.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ") + &more
}

/// What the command says of weights that were loaded: how many tensors, and which heads were left out.
pub fn left_out(report: &Report) -> String {
    let heads = &report.unexpected;
    if heads.is_empty() {
        return format!("{} tensors", report.loaded.len());
    }
    format!("{} tensors, without the head ({})", report.loaded.len(), shown(heads))
}

#[cfg(test)]
mod tests {
    use super::super::{Rule, Rules};
    use super::*;
    use crate::init::Init;
    use crate::scope::Scope;
    use candle_core::{DType, Device};

    #[test]
    fn a_file_is_used_whole_or_refused() {
        let params = Params::new();
        let scope = Scope::root(&params, 1, &Device::Cpu).sub("encoder");
        let weight = scope.sub("fc").get("weight", 2, Init::Const(0.0)).unwrap();
        scope.get("token", 2, Init::Const(0.0)).unwrap();
        let rules = Rules::new(&[Rule::prefix("base", "encoder")]).unwrap();
        let load = |names: &[&str]| {
            let tensors = names
                .iter()
                .map(|n| (n.to_string(), Tensor::ones(2, DType::F32, &Device::Cpu).unwrap()))
                .collect();
            let beside = Beside { heads: &["lm_head", "pooler"], may_lack: &|name| name == "token" };
            let ours = rules.to_ours(tensors).unwrap();
            load_strict(
                &params,
                "encoder",
                ours,
                &|name, t| rules.their_names(name, t),
                &beside,
                Path::new("f.safetensors"),
            )
        };
        let sum = || weight.value().sum_all().unwrap().to_scalar::<f32>().unwrap();
        let e = load(&["base.fc.weight", "base.gamma", "lm_heads.bias"]).unwrap_err().to_string();
        assert!(
            e.contains("f.safetensors") && e.contains("(base.gamma, lm_heads.bias)") && sum() == 0.0,
            "{e}"
        );
        let e = load(&["base.token"]).unwrap_err().to_string();
        assert!(e.contains("1 of 2 missing: fc.weight (the file has token)") && sum() == 0.0, "{e}");
        let report = load(&["base.fc.weight", "base.pooler.bias", "lm_head.bias"]).unwrap();
        assert_eq!((report.loaded.len(), sum()), (1, 2.0));
        assert_eq!(left_out(&report), "1 tensors, without the head (encoder.pooler.bias, lm_head.bias)");
        assert_eq!(left_out(&load(&["base.fc.weight", "base.token"]).unwrap()), "2 tensors");
    }
}

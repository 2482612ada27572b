//! Released weights into a network: every tensor of the file is used, or is one of a head that may stand
//! beside the network. A tensor that is dropped in silence is a part of the function that is lost.

use super::{Options, Report, Rules, compare, load_into};
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
/// network's names begin with `prefix` and a dot. `rules` give the names of the file back for messages.
/// [`Report::unexpected`] lists the heads that were left out.
///
/// # Errors
/// Naming the file and its tensors: what the network has no place for and is no head, what the network needs
/// and the file lacks, and what has another shape. Nothing is written then.
pub fn load_strict(
    params: &Params,
    prefix: &str,
    tensors: BTreeMap<String, Tensor>,
    rules: &Rules,
    beside: &Beside,
    path: &Path,
) -> Result<Report> {
    let dotted = format!("{prefix}.");
    let (inside, outside): (BTreeMap<_, _>, BTreeMap<_, _>) =
        tensors.into_iter().partition(|(name, _)| name.starts_with(&dotted));
    let inside: BTreeMap<String, Tensor> =
        inside.into_iter().map(|(name, t)| (name[dotted.len()..].to_string(), t)).collect();
    let report = compare(params, &inside, prefix);
    let relative = |name: &str| name.strip_prefix(&dotted).unwrap_or(name).to_string();
    let (heads, strange): (Vec<String>, Vec<String>) = report
        .unexpected
        .iter()
        .map(|name| dotted.clone() + name)
        .chain(outside.keys().cloned())
        .partition(|name| beside.is_head(&relative(name)));
    let mut problems = Vec::new();
    if !strange.is_empty() {
        let theirs = |name: &String| {
            let tensor = inside.get(&relative(name)).or_else(|| outside.get(name));
            let one = BTreeMap::from([(name.clone(), tensor?.clone())]);
            rules.to_theirs(one).ok().filter(|back| !back.is_empty())
        };
        let names: Vec<String> = strange
            .iter()
            .flat_map(|name| theirs(name).map_or(vec![name.clone()], |back| back.into_keys().collect()))
            .collect();
        let of_head = "that no parameter takes and that are no known head";
        problems.push(format!("{} {} {of_head} ({})", names.len(), tensors_word(&names), shown(&names)));
    }
    let missing: Vec<String> =
        report.missing.iter().filter(|name| !(beside.may_lack)(name)).cloned().collect();
    if !missing.is_empty() {
        problems.push(format!("{} {} missing ({})", missing.len(), tensors_word(&missing), shown(&missing)));
    }
    if !problems.is_empty() {
        return Err(Error::file(path, format!("weights of another network: {}", problems.join("; "))));
    }
    let options = Options { allow_missing: true, allow_unexpected: true };
    let report = load_into(params, &inside, prefix, &options).map_err(|e| Error::file(path, e))?;
    Ok(Report { unexpected: heads, ..report })
}

fn tensors_word(names: &[String]) -> &'static str {
    if names.len() == 1 { "tensor" } else { "tensors" }
}

/// At most six names.
fn shown(names: &[String]) -> String {
    let more = if names.len() > SHOWN { " ..." } else { "" };
    names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ") + more
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
    use super::super::Rule;
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
            load_strict(&params, "encoder", ours, &rules, &beside, Path::new("f.safetensors"))
        };
        let sum = || weight.value().sum_all().unwrap().to_scalar::<f32>().unwrap();
        let e = load(&["base.fc.weight", "base.gamma", "lm_heads.bias"]).unwrap_err().to_string();
        assert!(
            e.contains("f.safetensors") && e.contains("(base.gamma, lm_heads.bias)") && sum() == 0.0,
            "{e}"
        );
        let e = load(&["base.token"]).unwrap_err().to_string();
        assert!(e.contains("1 tensor missing (fc.weight)") && sum() == 0.0, "{e}");
        let report = load(&["base.fc.weight", "base.pooler.bias", "lm_head.bias"]).unwrap();
        assert_eq!((report.loaded.len(), sum()), (1, 2.0));
        assert_eq!(left_out(&report), "1 tensors, without the head (encoder.pooler.bias, lm_head.bias)");
        assert_eq!(left_out(&load(&["base.fc.weight", "base.token"]).unwrap()), "2 tensors");
    }
}

//! Weights of other libraries: reading their files and telling their names from ours.
//!
//! A file goes through [`read`] (safetensors or PyTorch's own format, single or in shards), [`normalise`]
//! (prefixes and old spellings), an encoder's [`Rules`] (its names and layouts against ours) and
//! [`load_into`]. The same rules backwards give the names for saving and for comparing gradients. Nothing is
//! dropped in silence: what is missing, unexpected or misshapen is listed.

mod bytes;
mod names;
mod pattern;
mod pickle;
mod rules;
mod safetensors;
mod strict;
mod torch;
mod zip;

pub use names::{WeightNorm, normalise, weight_norm_names};
pub use pattern::Pattern;
pub use rules::{Rule, Rules};
pub use safetensors::SafeTensors;
pub use strict::{Beside, left_out, load_strict};
pub use torch::TorchFile;

use crate::error::{Error, Result};
use crate::params::{Params, under};
use candle_core::Tensor;
use std::collections::BTreeMap;
use std::path::Path;

/// In what order the files of a model's folder are looked for.
const FILES: [&str; 4] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];

/// Reads all tensors of a file, of the shards that an `*.index.json` lists, or of a model's folder
/// (`model.safetensors`, `pytorch_model.bin` or their indexes). Floating point becomes `f32`, signed integers
/// `i64`, bool and `u8` stay `u8`; all on the CPU.
///
/// # Errors
/// [`Error::Io`] if a file cannot be read, [`Error::Input`] naming the file and tensor for what is damaged or
/// not understood.
pub fn read(path: impl AsRef<Path>) -> Result<BTreeMap<String, Tensor>> {
    visit(path.as_ref(), &|file| match file {
        File::Safe(f) => f.all(),
        File::Torch(f) => f.all(),
    })
}

/// The shapes of all tensors of what [`read`] reads, without their values.
///
/// # Errors
/// As [`read`].
pub fn shapes(path: impl AsRef<Path>) -> Result<BTreeMap<String, Vec<usize>>> {
    fn of<'a>(
        names: impl Iterator<Item = &'a str>,
        shape: impl Fn(&str) -> Option<&'a [usize]>,
    ) -> BTreeMap<String, Vec<usize>> {
        names.filter_map(|n| Some((n.to_string(), shape(n)?.to_vec()))).collect()
    }
    visit(path.as_ref(), &|file| {
        Ok(match file {
            File::Safe(f) => of(f.names(), |n| f.shape(n)),
            File::Torch(f) => of(f.names(), |n| f.shape(n)),
        })
    })
}

/// An open file of weights.
enum File {
    Safe(SafeTensors),
    Torch(TorchFile),
}

/// What `take` gives for the tensors of a file, of shards or of a model's folder, by name.
fn visit<T>(path: &Path, take: &dyn Fn(&File) -> Result<BTreeMap<String, T>>) -> Result<BTreeMap<String, T>> {
    if path.is_dir() {
        let found = FILES.iter().map(|f| path.join(f)).find(|p| p.is_file());
        let found = found.ok_or_else(|| {
            Error::file(path, format!("no weights in this folder; expected one of {}", FILES.join(", ")))
        })?;
        return visit(&found, take);
    }
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    if name.ends_with(".index.json") {
        return visit_shards(path, take);
    }
    let head = bytes::Source::open(path)?;
    let start = head.read(0, head.len().min(16) as usize)?;
    if name.ends_with(".safetensors") || start.get(8) == Some(&b'{') {
        return take(&File::Safe(SafeTensors::open(path)?));
    }
    if start.starts_with(b"PK") || start.first() == Some(&0x80) {
        return take(&File::Torch(TorchFile::open(path)?));
    }
    Err(Error::file(path, "neither a safetensors file nor one written by torch.save"))
}

/// Visits the shards of an index file: `{"weight_map": {tensor: file in the same folder}}`.
fn visit_shards<T>(
    index: &Path,
    take: &dyn Fn(&File) -> Result<BTreeMap<String, T>>,
) -> Result<BTreeMap<String, T>> {
    let source = bytes::Source::open(index)?;
    if source.len() > bytes::MAX_HEADER {
        return Err(Error::file(
            index,
            format!("index of {} bytes, expected at most {}", source.len(), bytes::MAX_HEADER),
        ));
    }
    let text = source.read(0, source.len() as usize)?;
    let json: serde_json::Value =
        serde_json::from_slice(&text).map_err(|e| Error::file(index, format!("not JSON: {e}")))?;
    let map = json.get("weight_map").and_then(|m| m.as_object());
    let map = map.ok_or_else(|| Error::file(index, "expected an object `weight_map` of tensor: file"))?;
    let mut shards: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (tensor, file) in map {
        let file = file
            .as_str()
            .ok_or_else(|| Error::file(index, format!("{tensor}: expected the name of a file")))?;
        // An index from elsewhere must not lead out of its folder.
        if file.is_empty()
            || file == ".."
            || file.contains(['/', '\\', '\0'])
            || file.ends_with(".index.json")
        {
            return Err(Error::file(
                index,
                format!("{tensor}: `{file}` is not the name of a file in this folder"),
            ));
        }
        shards.entry(file).or_default().push(tensor);
    }
    let mut out = BTreeMap::new();
    for (file, tensors) in shards {
        let path = index.with_file_name(file);
        let mut have = visit(&path, take)?;
        for name in tensors {
            let t = have.remove(name).ok_or_else(|| {
                Error::file(&path, format!("no tensor {name}, which {} promises", index.display()))
            })?;
            out.insert(name.to_string(), t);
        }
    }
    Ok(out)
}

/// The differences that [`load_into`] accepts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Parameters that the file lacks keep their initial values (a new head on a pre-trained trunk).
    pub allow_missing: bool,
    /// Tensors of the file that no parameter takes are left out (a trunk out of a file with its pre-training
    /// head).
    pub allow_unexpected: bool,
}

/// Which tensors met which parameters; names are relative to the prefix, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Found on both sides with the same shape.
    pub loaded: Vec<String>,
    /// Parameters without a tensor.
    pub missing: Vec<String>,
    /// Tensors without a parameter.
    pub unexpected: Vec<String>,
    /// `(name, shape in the file, shape expected)`.
    pub misshapen: Vec<(String, Vec<usize>, Vec<usize>)>,
}

/// Compares `tensors` (named relative to `prefix`) with the parameters and buffers under `prefix`; writes
/// nothing.
pub fn compare(params: &Params, tensors: &BTreeMap<String, Tensor>, prefix: &str) -> Report {
    let mut report = Report::default();
    let mut wanted = std::collections::BTreeSet::new();
    for p in params.all().into_iter().filter(|p| under(&p.name, prefix)) {
        let name = relative(&p.name, prefix).to_string();
        match tensors.get(&name) {
            None => report.missing.push(name.clone()),
            Some(t) if t.dims() != p.var.dims() => {
                report.misshapen.push((name.clone(), t.dims().to_vec(), p.var.dims().to_vec()))
            }
            Some(_) => report.loaded.push(name.clone()),
        }
        wanted.insert(name);
    }
    report.unexpected = tensors.keys().filter(|k| !wanted.contains(*k)).cloned().collect();
    report
}

/// Writes `tensors` (named relative to `prefix`) into the parameters and buffers under `prefix`: all that is
/// to be written, or nothing.
///
/// # Errors
/// [`Error::Input`] listing every misshapen key, and the missing and unexpected ones unless `options` allow
/// them; if nothing fits at all.
pub fn load_into(
    params: &Params,
    tensors: &BTreeMap<String, Tensor>,
    prefix: &str,
    options: &Options,
) -> Result<Report> {
    let report = compare(params, tensors, prefix);
    let mut problems = Vec::new();
    if !report.misshapen.is_empty() {
        let items =
            report.misshapen.iter().map(|(n, found, want)| format!("{n} {found:?} (expected {want:?})"));
        problems.push(list("with another shape", items));
    }
    if !options.allow_missing && !report.missing.is_empty() {
        problems.push(list("missing", report.missing.iter().cloned()));
    }
    if !options.allow_unexpected && !report.unexpected.is_empty() {
        problems.push(list("unexpected", report.unexpected.iter().cloned()));
    }
    if report.loaded.is_empty() && problems.is_empty() {
        problems.push(format!("none of the {} tensors fits a parameter", tensors.len()));
    }
    if !problems.is_empty() {
        let what = if prefix.is_empty() { "weights".to_string() } else { format!("weights of {prefix}") };
        return Err(Error::input(what, problems.join("; ")));
    }
    for name in &report.loaded {
        if let Some(t) = tensors.get(name) {
            // A copy: what export() gave shares storage with the parameter, and candle refuses to write a
            // tensor onto itself.
            params.set(&join(prefix, name), &t.copy()?)?;
        }
    }
    Ok(report)
}

/// The parameters and buffers under `prefix`, named relative to it: what [`load_into`] takes. They share
/// storage with `params`.
pub fn export(params: &Params, prefix: &str) -> BTreeMap<String, Tensor> {
    let all = params.all().into_iter().filter(|p| under(&p.name, prefix));
    all.map(|p| (relative(&p.name, prefix).to_string(), p.var.as_tensor().detach())).collect()
}

fn relative<'a>(name: &'a str, prefix: &str) -> &'a str {
    name.strip_prefix(prefix).map_or(name, |n| n.strip_prefix('.').unwrap_or(n))
}

fn join(prefix: &str, name: &str) -> String {
    match (prefix, name) {
        ("", n) => n.to_string(),
        (p, "") => p.to_string(),
        (p, n) => format!("{p}.{n}"),
    }
}

/// `"3 missing: a, b, c"`, cut after 40.
fn list(kind: &str, items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    let more = if items.len() > 40 { format!(" and {} more", items.len() - 40) } else { String::new() };
    format!("{} {kind}: {}{more}", items.len(), items.iter().take(40).cloned().collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::Init;
    use crate::scope::Scope;
    use candle_core::{DType, Device};

    fn tensors(list: &[(&str, &[usize])]) -> BTreeMap<String, Tensor> {
        let one =
            |(n, s): &(&str, &[usize])| (n.to_string(), Tensor::ones(*s, DType::F32, &Device::Cpu).unwrap());
        list.iter().map(one).collect()
    }

    #[test]
    fn what_does_not_fit_is_listed_and_nothing_is_written() {
        let params = Params::new();
        let s = Scope::root(&params, 1, &Device::Cpu).sub("encoder");
        let w = s.sub("fc").get("weight", (2, 3), Init::Const(0.0)).unwrap();
        s.sub("fc").get("bias", 2, Init::Const(0.0)).unwrap();
        s.buffer("mean", 2, Init::Const(0.0)).unwrap();
        Scope::root(&params, 1, &Device::Cpu).sub("encoder2").get("x", 1, Init::Const(0.0)).unwrap();
        let sum = || w.value().sum_all().unwrap().to_scalar::<f32>().unwrap();

        let strict = Options::default();
        let t = tensors(&[("fc.weight", &[2, 3]), ("fc.bias", &[3]), ("head.weight", &[1])]);
        let e = load_into(&params, &t, "encoder", &strict).unwrap_err().to_string();
        assert!(e.contains("1 with another shape: fc.bias [3] (expected [2])"), "{e}");
        assert!(e.contains("1 missing: mean") && e.contains("1 unexpected: head.weight"), "{e}");
        let loose = Options { allow_missing: true, allow_unexpected: true };
        assert!(load_into(&params, &t, "encoder", &loose).is_err(), "shapes always count");
        assert_eq!(sum(), 0.0);

        let t = tensors(&[("fc.weight", &[2, 3]), ("head.weight", &[1])]);
        assert!(load_into(&params, &t, "encoder", &strict).is_err());
        let r = load_into(&params, &t, "encoder", &loose).unwrap();
        assert_eq!(
            (r.loaded, r.missing, r.unexpected),
            (vec!["fc.weight".into()], vec!["fc.bias".into(), "mean".into()], vec!["head.weight".into()])
        );
        assert_eq!(sum(), 6.0);
        let e = load_into(&params, &tensors(&[("y", &[1])]), "encoder", &loose).unwrap_err().to_string();
        assert!(e.contains("none of the 1 tensors"), "{e}");
        let out = export(&params, "encoder");
        assert_eq!(out.keys().collect::<Vec<_>>(), ["fc.bias", "fc.weight", "mean"]);
        load_into(&params, &out, "encoder", &strict).unwrap();
    }

    #[test]
    fn shards_and_folders() {
        let dir = tempfile::tempdir().unwrap();
        let save = |file: &str, names: &[&str]| {
            let t: Vec<(String, Tensor)> = names
                .iter()
                .map(|n| (n.to_string(), Tensor::ones(2, DType::F32, &Device::Cpu).unwrap()))
                .collect();
            candle_core::safetensors::save(
                &t.into_iter().collect::<std::collections::HashMap<_, _>>(),
                dir.path().join(file),
            )
            .unwrap();
        };
        save("a.safetensors", &["x", "spare"]);
        save("b.safetensors", &["y"]);
        let index = dir.path().join("model.safetensors.index.json");
        let write = |text: &str| std::fs::write(&index, text).unwrap();
        write(r#"{"metadata": {}, "weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}"#);
        assert_eq!(read(dir.path()).unwrap().keys().collect::<Vec<_>>(), ["x", "y"]);
        for (text, says) in [
            (r#"{"weight_map": {"z": "a.safetensors"}}"#, "no tensor z"),
            (r#"{"weight_map": {"x": "../a.safetensors"}}"#, "not the name of a file in this folder"),
            (r#"{"weight_map": {"x": "/etc/passwd"}}"#, "not the name of a file in this folder"),
            (r#"{"weight_map": {"x": "model.safetensors.index.json"}}"#, "not the name of a file"),
            (r#"{"weight_map": {"x": 3}}"#, "expected the name of a file"),
            (r#"{}"#, "weight_map"),
            (r#"{"weight_map": {"x": "c.safetensors"}}"#, "c.safetensors"),
            ("[[", "not JSON"),
        ] {
            write(text);
            let e = read(&index).unwrap_err().to_string();
            assert!(e.contains(says), "{text}: {e}");
        }
        std::fs::write(dir.path().join("x.bin"), b"hello").unwrap();
        assert!(read(dir.path().join("x.bin")).unwrap_err().to_string().contains("neither"));
        assert!(read(dir.path().join("nothing.bin")).is_err());
        std::fs::write(dir.path().join("e.bin"), b"").unwrap();
        assert!(read(dir.path().join("e.bin")).is_err());
    }
}

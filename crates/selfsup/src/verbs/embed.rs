//! `selfsup embed`: features as CSV, npy, safetensors or Parquet, each with the names of the samples.
//!
//! Row `i` belongs to sample `i` of the set: of a folder, the files in the order of their paths as texts
//! (Python's `sorted(glob)`); of a table that holds the samples, its rows. CSV and Parquet have a column `id`;
//! beside `NAME.npy` and `NAME.safetensors` lies `NAME.ids.csv` with a line for each row.

use crate::evaluate::encode;
use crate::modality::Modality;
use crate::registry::with_modality;
use crate::say::say;
use crate::screen::screened;
use crate::set::Set;
use crate::verbs::{field, kind_of_run, open_run};
use candle_core::{Device, Tensor};
use selfsup_core::checkpoint::{save_safetensors, write_atomic, write_text};
use selfsup_core::data::LoaderConfig;
use selfsup_core::{Error, Result};
use selfsup_eval::Matrix;
use serde_json::Value;
use std::io::Write;
use std::path::Path;

/// Writes the embeddings of the run's samples, or of `data`, to `out`, one row a sample in the order of the
/// data set; with `skip_bad` without those that cannot be read, which are named and counted. `keys` are
/// overrides `KEY=VALUE` of the run's configuration.
///
/// # Errors
/// If the run or a sample cannot be read, or the ending of `out` is unknown.
pub fn run(dir: &Path, out: &Path, data: Option<&str>, skip_bad: bool, keys: &[String]) -> Result<()> {
    with_modality!(kind_of_run(dir)?, M => run_as::<M>(dir, out, data, skip_bad, keys))
}

/// Writes the embeddings of a run of the modality `M`.
///
/// # Errors
/// As [`run`].
pub fn run_as<M: Modality>(
    dir: &Path,
    out: &Path,
    data: Option<&str>,
    skip_bad: bool,
    keys: &[String],
) -> Result<()> {
    let ending = out.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
    if !matches!(ending.as_str(), "csv" | "safetensors" | "npy" | "parquet") {
        return Err(Error::file(out, "unknown ending: expected .csv, .npy, .safetensors or .parquet"));
    }
    let (set, features) = embed::<M>(dir, data, skip_bad, keys)?;
    let sidecar = matches!(ending.as_str(), "safetensors" | "npy").then(|| out.with_extension("ids.csv"));
    if let Some(sidecar) = &sidecar {
        // First: where the matrix is, its names are.
        write_text(sidecar, &names(&set)?)?;
    }
    match ending.as_str() {
        "csv" => csv(out, &set, &features)?,
        "safetensors" => safetensors(out, &set, &features)?,
        "npy" => npy(out, &features)?,
        _ => parquet(out, &set, &features)?,
    }
    say!("{}: {} embeddings of {} values", out.display(), features.n(), features.d());
    if let Some(sidecar) = sidecar {
        say!("{}: the sample of each row", sidecar.display());
    }
    Ok(())
}

fn embed<M: Modality>(
    dir: &Path,
    data: Option<&str>,
    skip_bad: bool,
    keys: &[String],
) -> Result<(Set, Matrix)> {
    let opened = open_run::<M>(dir, keys)?;
    let what = data.unwrap_or(&opened.config.data.path);
    let mut set = opened.modality.open(what)?;
    set.records().notes().iter().for_each(crate::say::note);
    if skip_bad {
        set = screened(&opened.modality, set, 1.0, opened.config.train.workers, what)?;
    }
    let loader = LoaderConfig::in_order(opened.config.eval.batch_size, opened.config.train.workers);
    let features = encode(
        &opened.modality,
        opened.method.encoder(),
        &set,
        opened.config.eval.read,
        &loader,
        &opened.device,
    )?;
    Ok((set, features))
}

/// The class of a sample, for a table.
fn class(set: &Set, index: usize) -> Value {
    let class = set.records().label(index).and_then(|l| set.classes().get(l as usize));
    class.map_or(Value::Null, |name| Value::from(name.as_str()))
}

/// `id` and, where there are classes, `label` of each row, as CSV.
fn names(set: &Set) -> Result<String> {
    let mut text = String::from(if !set.classes().is_empty() { "id,label\n" } else { "id\n" });
    for i in 0..set.len() {
        text.push_str(&name(set, i)?);
        text.push('\n');
    }
    Ok(text)
}

/// `id`, or `id,label`, of a row.
fn name(set: &Set, index: usize) -> Result<String> {
    let id = field(&Value::from(set.records().id(index)?));
    Ok(if set.classes().is_empty() { id } else { format!("{id},{}", field(&class(set, index))) })
}

/// `id,f0,f1...`, with the shortest decimals that give the same single-precision values back; `label` behind
/// `id` where there are classes.
fn csv(out: &Path, set: &Set, features: &Matrix) -> Result<()> {
    let head = if set.classes().is_empty() { "id" } else { "id,label" };
    let columns: Vec<String> = (0..features.d()).map(|k| format!("f{k}")).collect();
    write_atomic(out, |file| {
        let mut file = std::io::BufWriter::new(file);
        let mut line = |text: std::fmt::Arguments| file.write_fmt(text).map_err(|e| Error::io(out, e));
        line(format_args!("{head},{}\n", columns.join(",")))?;
        for (i, row) in features.as_slice().chunks_exact(features.d().max(1)).enumerate() {
            let values: Vec<String> = row.iter().map(f32::to_string).collect();
            line(format_args!("{},{}\n", name(set, i)?, values.join(",")))?;
        }
        file.flush().map_err(|e| Error::io(out, e))
    })
}

fn safetensors(out: &Path, set: &Set, features: &Matrix) -> Result<()> {
    let mut tensors = vec![(
        "embeddings".to_string(),
        Tensor::from_slice(features.as_slice(), (features.n(), features.d()), &Device::Cpu)?,
    )];
    if let Some(labels) = set.labels() {
        let labels: Vec<i64> = labels.into_iter().map(i64::from).collect();
        let n = labels.len();
        tensors.push(("labels".to_string(), Tensor::from_vec(labels, n, &Device::Cpu)?));
    }
    save_safetensors(out, &tensors)
}

/// NumPy's format, version 1.0: little-endian f32, row-major.
fn npy(out: &Path, features: &Matrix) -> Result<()> {
    let mut head = format!(
        "{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}), }}",
        features.n(),
        features.d()
    );
    // Magic, version, length and header together are a multiple of 64 bytes, the last a line break.
    while (10 + head.len() + 1) % 64 != 0 {
        head.push(' ');
    }
    head.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((head.len() as u16).to_le_bytes());
    bytes.extend(head.as_bytes());
    bytes.extend(features.as_slice().iter().flat_map(|v| v.to_le_bytes()));
    write_atomic(out, |f| f.write_all(&bytes).map_err(|e| Error::io(out, e)))
}

#[cfg(feature = "parquet")]
fn parquet(out: &Path, set: &Set, features: &Matrix) -> Result<()> {
    let mut ids = Vec::with_capacity(features.n());
    for i in 0..features.n() {
        ids.push(set.records().id(i)?);
    }
    let bytes = selfsup_datasets::parquet::embeddings(
        &ids,
        set.labels().as_deref(),
        features.as_slice(),
        features.d(),
    )?;
    write_atomic(out, |f| f.write_all(&bytes).map_err(|e| Error::io(out, e)))
}

#[cfg(not(feature = "parquet"))]
fn parquet(out: &Path, _set: &Set, _features: &Matrix) -> Result<()> {
    Err(Error::file(
        out,
        "this build cannot write Parquet: build with --features parquet, or choose .npy or .safetensors",
    ))
}

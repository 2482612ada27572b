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
use crate::verbs::{Opened, field, kind_of_run, open_run};
use candle_core::{Device, Tensor};
use selfsup_core::checkpoint::{save_safetensors, write_atomic, write_text};
use selfsup_core::data::LoaderConfig;
use selfsup_core::{Error, Result};
use selfsup_eval::Matrix;
use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The run's folder.
    pub run: PathBuf,
    /// The file to write; its ending decides the format.
    pub out: PathBuf,
    /// Samples, instead of the run's own.
    pub data: Option<String>,
    /// Samples that cannot be read are named, counted and left out.
    pub skip_bad: bool,
    /// Overrides of the run's configuration.
    pub overrides: Vec<String>,
}

/// Writes the embeddings of samples, one row a sample in the order of the data set.
///
/// # Errors
/// If the run or a sample cannot be read, or the ending of `out` is unknown.
pub fn run(request: &Request) -> Result<()> {
    with_modality!(kind_of_run(&request.run)?, M => run_as::<M>(request))
}

/// Writes the embeddings of a run of the modality `M`.
///
/// # Errors
/// As [`run`].
pub fn run_as<M: Modality>(request: &Request) -> Result<()> {
    let out: &Path = &request.out;
    let ending = out.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
    if !matches!(ending.as_str(), "csv" | "safetensors" | "npy" | "parquet") {
        return Err(Error::file(out, "unknown ending: expected .csv, .npy, .safetensors or .parquet"));
    }
    let (set, features) = embed::<M>(request)?;
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
    if let Some(sidecar) = &sidecar {
        say!("{}: the sample of each row", sidecar.display());
    }
    crate::say::result(&serde_json::json!({
        "run": request.run, "out": out, "ids": sidecar, "rows": features.n(), "columns": features.d(),
    }));
    Ok(())
}

fn embed<M: Modality>(request: &Request) -> Result<(Set, Matrix)> {
    let opened = open_run::<M>(&request.run, &request.overrides)?;
    let what = request.data.as_ref().unwrap_or(&opened.config.data.path);
    embedded(&opened, what, request.skip_bad)
}

/// The samples of `what` and their features by the run's encoder, `(n, d)`; with `skip_bad` without those that
/// cannot be read.
pub(crate) fn embedded<M: Modality>(opened: &Opened<M>, what: &str, skip_bad: bool) -> Result<(Set, Matrix)> {
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
pub(crate) fn class(set: &Set, index: usize) -> Value {
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

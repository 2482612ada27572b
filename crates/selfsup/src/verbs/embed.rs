//! `selfsup embed`: features as safetensors, npy or Parquet.

use crate::evaluate::encode;
use crate::modality::Modality;
use crate::registry::with_modality;
use crate::say::say;
use crate::set::Set;
use crate::verbs::{kind_of_run, open_run};
use candle_core::{Device, Tensor};
use selfsup_core::checkpoint::{save_safetensors, write_atomic};
use selfsup_core::data::LoaderConfig;
use selfsup_core::{Error, Result};
use selfsup_eval::Matrix;
use std::io::Write;
use std::path::Path;

/// Writes the embeddings of the run's samples, or of `data`, to `out`, one row a sample in the order of the
/// data set.
///
/// # Errors
/// If the run or a sample cannot be read, or the ending of `out` is unknown.
pub fn run(dir: &Path, out: &Path, data: Option<&str>) -> Result<()> {
    with_modality!(kind_of_run(dir)?, M => run_as::<M>(dir, out, data))
}

/// Writes the embeddings of a run of the modality `M`.
///
/// # Errors
/// As [`run`].
pub fn run_as<M: Modality>(dir: &Path, out: &Path, data: Option<&str>) -> Result<()> {
    let ending = out.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
    if !matches!(ending.as_str(), "safetensors" | "npy" | "parquet") {
        return Err(Error::file(out, "unknown ending: expected .safetensors, .npy or .parquet"));
    }
    let (set, features) = embed::<M>(dir, data)?;
    match ending.as_str() {
        "safetensors" => safetensors(out, &set, &features)?,
        "npy" => npy(out, &features)?,
        _ => parquet(out, &set, &features)?,
    }
    say!("{}: {} embeddings of {} values", out.display(), features.n(), features.d());
    Ok(())
}

fn embed<M: Modality>(dir: &Path, data: Option<&str>) -> Result<(Set, Matrix)> {
    let opened = open_run::<M>(dir, &[])?;
    let set = opened.modality.open(data.unwrap_or(&opened.config.data.path))?;
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

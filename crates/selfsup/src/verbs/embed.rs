//! `selfsup embed`: features of images as safetensors, npy or Parquet.

use crate::images::Images;
use crate::verbs::{open_run, pretrain, probe};
use candle_core::{Device, Tensor};
use selfsup_core::checkpoint::{save_safetensors, write_atomic};
use selfsup_core::objective::Objective;
use selfsup_core::{Error, Result};
use selfsup_eval::Matrix;
use std::io::Write;
use std::path::Path;

/// Writes the embeddings of the run's images, or of `data`, to `out`, one row an image in the order of the data set.
///
/// # Errors
/// If the run or an image cannot be read, or the ending of `out` is unknown.
pub fn run(dir: &Path, out: &Path, data: Option<&str>) -> Result<()> {
    let ending = out.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
    if !matches!(ending.as_str(), "safetensors" | "npy" | "parquet") {
        return Err(Error::file(out, "unknown ending: expected .safetensors, .npy or .parquet"));
    }
    let opened = open_run(dir, &[])?;
    let images = probe::images(data.unwrap_or(&opened.config.data.path))?;
    let features = pretrain::inputs(&opened.config).encode(opened.built.method.encoder(), &images, &opened.device)?;
    match ending.as_str() {
        "safetensors" => safetensors(out, &images, &features)?,
        "npy" => npy(out, &features)?,
        _ => parquet(out, &images, &features)?,
    }
    println!("{}: {} embeddings of {} values", out.display(), features.n(), features.d());
    Ok(())
}

fn safetensors(out: &Path, images: &Images, features: &Matrix) -> Result<()> {
    let mut tensors =
        vec![("embeddings".to_string(), Tensor::from_slice(features.as_slice(), (features.n(), features.d()), &Device::Cpu)?)];
    if let Some(labels) = images.labels() {
        let labels: Vec<i64> = labels.into_iter().map(i64::from).collect();
        let n = labels.len();
        tensors.push(("labels".to_string(), Tensor::from_vec(labels, n, &Device::Cpu)?));
    }
    save_safetensors(out, &tensors)
}

/// NumPy's format, version 1.0: little-endian f32, row-major.
fn npy(out: &Path, features: &Matrix) -> Result<()> {
    let mut head = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}), }}", features.n(), features.d());
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
fn parquet(out: &Path, images: &Images, features: &Matrix) -> Result<()> {
    let mut ids = Vec::with_capacity(features.n());
    for i in 0..features.n() {
        ids.push(images.0.get(i)?.id);
    }
    let bytes = selfsup_datasets::parquet::embeddings(&ids, images.labels().as_deref(), features.as_slice(), features.d())?;
    write_atomic(out, |f| f.write_all(&bytes).map_err(|e| Error::io(out, e)))
}

#[cfg(not(feature = "parquet"))]
fn parquet(out: &Path, _images: &Images, _features: &Matrix) -> Result<()> {
    Err(Error::file(out, "this build cannot write Parquet: build with --features parquet, or choose .npy or .safetensors"))
}

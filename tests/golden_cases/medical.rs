//! Medical images and 3-D models.

use super::case::{Case, Handler, Outputs, Result};
use candle_core::{Device, Tensor};
use selfsup_medical::read::{self, ReadConfig};

/// Who runs a case, if anyone.
pub fn handler(case: &Case) -> Option<Handler> {
    if !case.name.starts_with("medical/") {
        return None;
    }
    if case.params.get("file").is_some() {
        return Some(canonical);
    }
    case.tensors.contains_key("expected.hu").then_some(series as Handler)
}

/// A file turned to RAS+.
fn canonical(case: &Case) -> Result<Vec<(String, Outputs)>> {
    let file = case.params["file"].as_str().ok_or("no file")?;
    let volume = read::volume(case.folder.join(file), &ReadConfig::default())?;
    let [d, h, w] = volume.shape();
    // (z, y, x) -> [x, y, z]
    let values =
        Tensor::from_slice(volume.values(), (d, h, w), &Device::Cpu)?.permute((2, 1, 0))?.contiguous()?;
    let affine: Vec<f64> = volume.grid().affine().iter().flatten().copied().collect();
    let [z, y, x] = volume.spacing();
    let outputs = Outputs::from([
        ("expected.canonical".to_string(), values),
        ("expected.affine".to_string(), Tensor::from_vec(affine, (4, 4), &Device::Cpu)?),
        ("expected.zooms".to_string(), Tensor::from_vec(vec![x, y, z], 3, &Device::Cpu)?),
    ]);
    Ok(vec![(String::new(), outputs)])
}

/// A series out of order, in its own axes; and one that lacks a slice, which must be refused.
fn series(case: &Case) -> Result<Vec<(String, Outputs)>> {
    let config = ReadConfig::default();
    let mut slices = read::open(&case.folder.join("ct_shuffled"), &config)?;
    let [i, j, k] = slices.stored().shape();
    let mut values = vec![0f32; i * j * k];
    slices.next(&mut values)?;
    let expected: Vec<f64> = case.params["spacing_zyx"]
        .as_array()
        .ok_or("no spacing")?
        .iter()
        .filter_map(|v| v.as_f64())
        .collect();
    let affine = slices.stored().affine();
    let spacing: Vec<f64> =
        [2, 1, 0].map(|c| (0..3).map(|r| affine[r][c].powi(2)).sum::<f64>().sqrt()).to_vec();
    if spacing.iter().zip(&expected).any(|(a, b)| (a - b).abs() > 1e-4 * b) {
        return Err(format!("spacing {spacing:?}, expected {expected:?}").into());
    }
    match read::open(&case.folder.join("ct_missing_slice"), &config) {
        Ok(_) => return Err("a series without its fourth slice was taken".into()),
        Err(e) if e.to_string().contains("1 slice is missing at 17.500 mm, between img004.dcm") => {}
        Err(e) => return Err(format!("the gap is not named: {e}").into()),
    }
    let hu = Tensor::from_vec(values, (k, j, i), &Device::Cpu)?;
    Ok(vec![(String::new(), Outputs::from([("expected.hu".to_string(), hu)]))])
}

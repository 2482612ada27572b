//! Corrupted images: kinds without chance, within one level of 256, for JPEG a mean of two.

use super::case::{Case, Handler, Outputs, Result};
use candle_core::{DType, Device, Tensor};
use selfsup_core::Key;
use selfsup_vision::corrupt::{Corruption, Table};
use selfsup_vision::image::{Image, Pixels};

/// Who runs a case of corruptions.
pub fn handler(case: &Case) -> Option<Handler> {
    match case.short() {
        "image32" => Some(|c| Ok(vec![(String::new(), corrupted(c, Table::Small)?)])),
        "image96" => Some(|c| Ok(vec![(String::new(), corrupted(c, Table::Large)?)])),
        _ => None,
    }
}

fn corrupted(c: &Case, table: Table) -> Result<Outputs> {
    let x = c.input("image")?;
    let (h, w, channels) = x.dims3()?;
    let values: Vec<u8> = x.to_dtype(DType::U8)?.flatten_all()?.to_vec1()?;
    let image = Image::new(w as u32, h as u32, channels as u8, Pixels::U8(values))?;
    if Table::of(&image) != table {
        return Err(format!("an image of {w} x {h} is taken for another size").into());
    }
    let mut out = Outputs::new();
    for (key, want) in &c.tensors {
        let Some((name, severity)) = key.strip_prefix("expected.").and_then(|k| k.rsplit_once('_')) else {
            continue;
        };
        let kind = Corruption::named(if name == "jpeg" { "jpeg_compression" } else { name })?;
        // Nothing is drawn: any key gives the same.
        let made = kind.apply(&image, severity.parse()?, &mut Key::new(0).rng())?;
        let Pixels::U8(v) = made.data else { return Err("not 8 bits".into()) };
        let got = Tensor::from_vec(v, (h, w, channels), &Device::Cpu)?;
        let gap = (got.to_dtype(DType::F32)? - want.to_dtype(DType::F32)?)?.abs()?.flatten_all()?;
        let (most, mean) = (gap.max(0)?.to_scalar::<f32>()?, gap.mean(0)?.to_scalar::<f32>()?);
        let (allowed, found) = if name == "jpeg" { (2.0, mean) } else { (1.0, most) };
        if found > allowed {
            return Err(
                format!("{name}, severity {severity}: {found} levels apart, {allowed} allowed").into()
            );
        }
        // Within what the case allows: the comparison then wants equality.
        out.insert(key.clone(), want.clone());
    }
    Ok(out)
}

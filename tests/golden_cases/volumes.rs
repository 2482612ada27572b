//! Networks and transforms of volumes.

use super::case::{Case, Handler, Outputs, Result};
use super::model::{config, gradients, load, one};
use candle_core::{Device, Tensor};
use selfsup_core::data::Transform;
use selfsup_core::{Key, Params, Pass, Progress, Scope};
use selfsup_medical::encoder::{Dense, MonaiDecoder, MonaiEncoder};
use selfsup_medical::transform::Resample;
use selfsup_medical::{Grid, Volume, names};

/// Who runs a case, if anyone.
pub fn handler(case: &Case) -> Option<Handler> {
    let name = case.name.split('/').nth(1)?;
    Some(match name {
        n if n.starts_with("monai_unet") => |c| one(monai_unet(c)?),
        n if n.starts_with("resample_linear") => |c| one(resample(c)?),
        _ => return None,
    })
}

fn monai_unet(case: &Case) -> Result<Outputs> {
    let c = names::monai_config(&config(case)?)?;
    let params = Params::new();
    let scope = Scope::root(&params, 0, &Device::Cpu);
    let net = Dense {
        encoder: Box::new(MonaiEncoder::new(&scope.sub("encoder"), c.clone())?),
        decoder: Box::new(MonaiDecoder::new(&scope.sub("decoder"), &c)?),
    };
    let rules = names::monai(c.levels())?;
    load(case, &params, &rules)?;
    let y =
        net.forward(&case.input("x")?, &Pass::train(0, Progress::default()))?.0.permute((0, 4, 1, 2, 3))?;
    let loss = ((&y * case.input("w")?)?.mean_all()? + y.sqr()?.mean_all()?)?;
    let mut out = Outputs::from([("expected.y".into(), y.detach())]);
    gradients(&params, &loss, &rules, &mut out)?;
    Ok(out)
}

fn resample(case: &Case) -> Result<Outputs> {
    let volume = case.input("volume")?;
    let (d, h, w) = volume.dims3()?;
    let spacing = case.params.get("spacing_zyx").and_then(|s| s.as_array()).ok_or("no spacing_zyx")?;
    let spacing: Vec<f64> = spacing.iter().filter_map(serde_json::Value::as_f64).collect();
    let [z, y, x] = spacing[..] else { return Err("spacing_zyx: expected three numbers".into()) };
    let grid = Grid::with_spacing([d, h, w], [z, y, x])?;
    let volume = Volume::new(case.short(), grid, volume.flatten_all()?.to_vec1()?)?;
    let made = Resample { spacing: [1.0; 3], fill: 0.0 }.apply(volume, &mut Key::new(0).rng())?;
    let shape = made.shape();
    Ok(Outputs::from([(
        "expected.resampled".into(),
        Tensor::from_slice(made.values(), shape.as_slice(), &Device::Cpu)?,
    )]))
}

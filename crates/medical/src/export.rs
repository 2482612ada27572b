//! A folder for other tools: `config.json`, `model.safetensors`, `preprocessing.json` and a README.
//!
//! A U-Net of MONAI's goes out under MONAI's names, whole where a decoder was trained, else its way down;
//! residual networks under torchvision's, transformers under timm's, our own U-Net under its own.

use crate::augment::AugmentConfig;
use crate::encoder::MonaiConfig;
use crate::names;
use crate::recipe::{Architecture, MethodConfig};
use candle_core::{Device, Tensor};
use selfsup_core::checkpoint::{save_safetensors, write_atomic};
use selfsup_core::weights;
use selfsup_core::{Error, Params, Result};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

/// Writes the network that `params` hold (the encoder at `encoder`, the decoder at `decoder` where the method
/// trained one) into `out`.
///
/// # Errors
/// If a file cannot be written.
pub fn write(
    architecture: &Architecture,
    method: &MethodConfig,
    augment: &AugmentConfig,
    params: &Params,
    out: &Path,
) -> Result<()> {
    std::fs::create_dir_all(out).map_err(|e| Error::io(out, e))?;
    let (config, tensors, how) = match architecture {
        Architecture::Monai(c) => monai(c, params, method.restores())?,
        Architecture::UNet(c) => (
            json!({"architecture": if c.planar { "unet2d" } else { "unet3d" }, "channels": c.channels, "widths": c.widths, "norm": c.norm, "act": c.act}),
            prefixed(params, if method.restores() { &["encoder", "decoder"] } else { &["encoder"] }),
            "encoder.pretrained = \"DIR\" of a configuration, or `safetensors.torch.load_file`: names are encoder.STAGE.{conv,norm}{1,2}.".to_string(),
        ),
        Architecture::ResNet(c, _) => (
            json!({"architecture": "resnet3d", "depths": c.depths, "widths": c.widths, "stem": c.stem, "bottleneck": c.bottleneck, "small": c.small,
                   "dilated": c.dilated, "shortcut": c.shortcut, "channels": c.channels}),
            counters(weights::export(params, "encoder"))?,
            "names are torchvision's and MedicalNet's (conv1, bn1, layer1.0.conv1 ...), without a classifier: load_state_dict(..., strict=False)".to_string(),
        ),
        Architecture::ViT(c, _) => (
            json!({"architecture": "vit3d", "size": c.size, "patch": c.patch, "channels": c.channels, "dim": c.trunk.dim, "depth": c.trunk.depth,
                   "heads": c.trunk.heads, "hidden": c.trunk.hidden, "fixed_positions": c.fixed_positions}),
            weights::export(params, "encoder"),
            "names are timm's (patch_embed.proj, blocks.0.attn.qkv ...); patch_embed.proj is a Conv3d, and there is no class token".to_string(),
        ),
    };
    save_safetensors(out.join("model.safetensors"), &tensors.into_iter().collect::<Vec<_>>())?;
    text(&out.join("config.json"), &pretty(&config)?)?;
    let preprocessing = json!({
        "orientation": "RAS+", "axes": "(z, y, x)", "spacing_zyx_mm": augment.spacing, "scale": augment.scale, "patch_zyx": augment.size,
    });
    text(&out.join("preprocessing.json"), &pretty(&preprocessing)?)?;
    text(
        &out.join("README.md"),
        &format!(
            "# Encoder of volumes pre-trained with {}\n\n{how}\n\nInput: (N, 1, z, y, x) of volumes in RAS+ order; preprocessing.json says how their intensities and voxel sizes were.\n",
            method.name()
        ),
    )
}

fn monai(
    c: &MonaiConfig,
    params: &Params,
    decoder: bool,
) -> Result<(Value, BTreeMap<String, Tensor>, String)> {
    let ours = prefixed(params, if decoder { &["encoder", "decoder"] } else { &["encoder"] });
    let tensors = counters(names::monai(c.levels())?.to_theirs(ours)?)?;
    let strict = if decoder { "" } else { ", strict=False" };
    let how = format!(
        "    import json; from monai.networks.nets import UNet; from safetensors.torch import load_file\n    \
         m = UNet(**json.load(open(\"DIR/config.json\")))\n    \
         m.load_state_dict(load_file(\"DIR/model.safetensors\"){strict})"
    );
    Ok((names::monai_json(c), tensors, how))
}

/// The tensors below each prefix, with it.
fn prefixed(params: &Params, prefixes: &[&str]) -> BTreeMap<String, Tensor> {
    let all = prefixes
        .iter()
        .map(|p| weights::export(params, p).into_iter().map(move |(k, t)| (format!("{p}.{k}"), t)));
    all.flatten().collect()
}

/// PyTorch's batch norm counts its batches: strict loading asks for the counter.
fn counters(mut tensors: BTreeMap<String, Tensor>) -> Result<BTreeMap<String, Tensor>> {
    let norms: Vec<String> =
        tensors.keys().filter_map(|k| k.strip_suffix("running_mean").map(str::to_string)).collect();
    for prefix in norms {
        tensors.insert(format!("{prefix}num_batches_tracked"), Tensor::new(0i64, &Device::Cpu)?);
    }
    Ok(tensors)
}

fn pretty(value: &Value) -> Result<String> {
    serde_json::to_string_pretty(value).map_err(|e| Error::Other(e.to_string()))
}

fn text(path: &Path, text: &str) -> Result<()> {
    write_atomic(path, |f| f.write_all(text.as_bytes()).map_err(|e| Error::io(path, e)))
}

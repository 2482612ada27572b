//! An image encoder as a folder that timm or transformers loads.

use candle_core::{Device, Tensor};
use selfsup_core::checkpoint::{pretty_json, save_safetensors, write_text};
use selfsup_core::nn::MlpForm;
use selfsup_core::{Error, Params, Result, weights};
use selfsup_vision::augment::AugmentConfig;
use selfsup_vision::encoder::{FinalNorm, Pool, Positioned};
use selfsup_vision::names::Layout;
use selfsup_vision::recipe::{Architecture, EncoderConfig};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

mod convnext;
#[cfg(test)]
mod tests;
mod transformer;

use transformer::{Family, TIMM_EPS, activation, hf, hf_note, timm_positions, timm_tensors};

/// An encoder of images, and how it was trained.
pub struct Exported<'a> {
    /// The network.
    pub architecture: &'a Architecture,
    /// `[encoder]`.
    pub encoder: &'a EncoderConfig,
    /// `[augment]`: the size and the normalisation of its images.
    pub augment: &'a AugmentConfig,
    /// The method that trained it.
    pub method: &'a str,
}

impl Exported<'_> {
    /// Writes `config.json`, `model.safetensors`, `preprocessor_config.json` and a README into `out`.
    ///
    /// # Errors
    /// If the layout cannot hold the encoder, or a file cannot be written.
    pub fn write(&self, params: &Params, out: &Path, layout: &str) -> Result<()> {
        let ours = weights::export(params, "encoder");
        let (description, tensors, how) = match (layout, self.architecture) {
            ("timm", Architecture::ResNet(_)) => {
                (timm(self)?, counters(Layout::Timm.rules().to_theirs(ours)?)?, timm_note(self))
            }
            ("timm", Architecture::ConvNeXt(_) | Architecture::Swin(_)) => {
                (timm(self)?, Layout::Timm.rules().to_theirs(ours)?, timm_note(self))
            }
            ("hf", Architecture::ConvNeXt(c)) => (
                convnext::hf(c, self.augment.size),
                Layout::ConvNext.rules().to_theirs(ours)?,
                convnext::NOTE.into(),
            ),
            ("timm", Architecture::ViT(c)) => (timm(self)?, timm_tensors(c, ours)?, timm_note(self)),
            ("hf", Architecture::ViT(c)) => {
                let family = Family::of(c)?;
                (hf(c, family), family.tensors(c, ours)?, hf_note(c, family))
            }
            ("hf", _) => {
                return Err(Error::config(
                    "layout hf holds vision transformers and ConvNeXt; export a ResNet or Swin with --layout timm",
                ));
            }
            (other, _) => return Err(Error::config(format!("layout {other}: expected timm or hf"))),
        };
        std::fs::create_dir_all(out).map_err(|e| Error::io(out, e))?;
        let tensors: Vec<(String, Tensor)> = tensors.into_iter().collect();
        save_safetensors(out.join("model.safetensors"), &tensors)?;
        let a = self.augment;
        let preprocessor = json!({
            "image_processor_type": "ViTImageProcessor",
            "do_resize": true, "size": {"height": a.size, "width": a.size}, "resample": 2,
            "do_rescale": true, "rescale_factor": 1.0 / 255.0,
            "do_normalize": true, "image_mean": a.mean, "image_std": a.std,
        });
        write_text(&out.join("config.json"), &pretty_json(&description)?)?;
        write_text(&out.join("preprocessor_config.json"), &pretty_json(&preprocessor)?)?;
        write_text(
            &out.join("README.md"),
            &format!(
                "# {} pre-trained with {}\n\nLoad it in Python:\n\n    {how}\n\nImages: {} x {} pixels, mean {:?}, sd {:?} of values in [0, 1].\n",
                self.encoder.name(),
                self.method,
                a.size,
                a.size,
                a.mean,
                a.std
            ),
        )
    }
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

fn timm(config: &Exported) -> Result<Value> {
    let (a, architecture) = (config.augment, config.architecture);
    let (name, features, arguments) = match architecture {
        Architecture::ResNet(c) => {
            let standard = if config.encoder.name() == "resnet" {
                if c.bottleneck { "resnet50" } else { "resnet18" }
            } else {
                config.encoder.name()
            };
            let features = c.widths.last().copied().unwrap_or(0) * if c.bottleneck { 4 } else { 1 };
            let mut arguments = serde_json::Map::new();
            if config.encoder.name() == "resnet" {
                arguments.insert("layers".into(), json!(c.depths));
                arguments.insert("channels".into(), json!(c.widths));
            }
            (standard.to_string(), features, arguments)
        }
        Architecture::ConvNeXt(c) => {
            let (name, arguments) = convnext::timm(c, config.encoder.name())?;
            (name, c.widths.last().copied().unwrap_or(0), arguments)
        }
        Architecture::Swin(c) => {
            let family = config.encoder.name().strip_prefix("swin_").unwrap_or("tiny");
            let arguments = json!({
                "img_size": c.size, "patch_size": c.patch, "window_size": c.window, "embed_dim": c.dim,
                "depths": c.depths, "num_heads": c.heads,
            });
            let width = c.dim << c.depths.len().saturating_sub(1);
            let name = format!("swin_{family}_patch4_window7_224");
            (name, width, arguments.as_object().cloned().unwrap_or_default())
        }
        Architecture::ViT(c) => {
            let name =
                format!("vit_{}_patch16_224", config.encoder.name().strip_prefix("vit_").unwrap_or("tiny"));
            if c.trunk.mlp == MlpForm::SwiGlu {
                return Err(Error::config("layout timm holds no encoder.act = \"swiglu\": use --layout hf"));
            }
            if c.rotary.is_some() || !c.trunk.key_bias {
                return Err(Error::config(
                    "layout timm holds no encoder.rotary and no encoder.key_bias = false: use --layout hf",
                ));
            }
            if c.norm_pre == c.patch_bias {
                return Err(Error::config(
                    "layout timm holds encoder.norm_pre = true with patch_bias = false, or neither",
                ));
            }
            let mut arguments = json!({
                "img_size": c.size[0], "patch_size": c.patch[0], "embed_dim": c.trunk.dim, "depth": c.trunk.depth,
                "num_heads": c.trunk.heads, "mlp_ratio": c.trunk.hidden as f64 / c.trunk.dim as f64,
            });
            // What differs from timm's defaults.
            let more = [
                ("global_pool", json!("avg"), c.pool == Pool::Mean),
                ("fc_norm", json!(c.final_norm == FinalNorm::Pooled), c.pool == Pool::Mean),
                ("class_token", json!(false), !c.class_token),
                ("reg_tokens", json!(c.registers), c.registers > 0),
                ("no_embed_class", json!(true), timm_positions(c) == Positioned::Patches),
                // 0 would mean none.
                (
                    "init_values",
                    json!(c.trunk.layer_scale.map(|v| v.max(1e-5))),
                    c.trunk.layer_scale.is_some(),
                ),
                ("pre_norm", json!(true), c.norm_pre),
                ("qkv_bias", json!(false), !c.trunk.qkv_bias),
                ("qk_norm", json!(true), c.trunk.qk_norm),
                ("act_layer", json!(activation(c)), activation(c) != "gelu"),
            ];
            for (key, value, _) in more.into_iter().filter(|(.., differs)| *differs) {
                arguments[key] = value;
            }
            (name, c.trunk.dim, arguments.as_object().cloned().unwrap_or_default())
        }
        _ => return Err(Error::config("layout timm holds ResNets, ConvNeXt, Swin and vision transformers")),
    };
    let mut out = json!({
        "architecture": name, "num_classes": 0, "num_features": features,
        "pretrained_cfg": {
            "input_size": [config.encoder.channels(), a.size, a.size], "num_classes": 0, "mean": a.mean, "std": a.std,
            "interpolation": "bilinear", "crop_pct": 1.0, "fixed_input_size": matches!(architecture, Architecture::ViT(_) | Architecture::Swin(_)),
        },
    });
    if !arguments.is_empty() {
        out["model_args"] = Value::Object(arguments);
    }
    if let Architecture::ViT(c) = architecture {
        out["global_pool"] = json!(if c.pool == Pool::Mean { "avg" } else { "token" });
        if c.trunk.eps != TIMM_EPS {
            out["norm_eps"] = json!(c.trunk.eps);
        }
    }
    Ok(out)
}

fn timm_note(config: &Exported) -> String {
    match config.architecture {
        Architecture::ResNet(c) if c.small => format!(
            "import timm, torch.nn as nn; from safetensors.torch import load_file\n    \
             m = timm.create_model(\"{}\", num_classes=0, in_chans={}{})\n    \
             m.conv1 = nn.Conv2d({}, {}, 3, 1, 1, bias=False); m.bn1 = nn.BatchNorm2d({}); m.maxpool = nn.Identity()\n    \
             m.load_state_dict(load_file(\"DIR/model.safetensors\"))",
            if config.encoder.name() == "resnet" {
                if c.bottleneck { "resnet50" } else { "resnet18" }
            } else {
                config.encoder.name()
            },
            config.encoder.channels(),
            if config.encoder.name() == "resnet" {
                format!(", layers={:?}, channels={:?}", c.depths, c.widths)
            } else {
                String::new()
            },
            config.encoder.channels(),
            c.stem,
            c.stem,
        ),
        Architecture::ViT(c) if c.trunk.eps != TIMM_EPS => format!(
            "import timm, torch.nn as nn; from functools import partial\n    \
             timm.create_model(\"local-dir:DIR\", pretrained=True, num_classes=0, in_chans={}, norm_layer=partial(nn.LayerNorm, eps={}))",
            config.encoder.channels(),
            c.trunk.eps
        ),
        _ => format!(
            "timm.create_model(\"local-dir:DIR\", pretrained=True, num_classes=0, in_chans={})",
            config.encoder.channels()
        ),
    }
}

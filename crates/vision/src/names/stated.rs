//! What `config.json` beside released weights states of their network: transformers' and timm's.

use crate::encoder::{FinalNorm, Pool};
use selfsup_core::nn::{Interpolation, MlpForm};
use selfsup_core::{Error, Result};
use selfsup_kernels::activation::Act;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// The models of transformers that are read.
const MODELS: [&str; 10] = [
    "vit",
    "vit_msn",
    "vit_mae",
    "ijepa",
    "dinov2",
    "dinov2_with_registers",
    "dinov3_vit",
    "clip_vision_model",
    "clip",
    "convnext",
];

/// What a `config.json` states; `None` is left to the shapes of the weights.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Stated {
    /// The file.
    pub file: PathBuf,
    /// `(key, value)` of sizes that the shapes have too: see `described.rs` for the names.
    pub sizes: Vec<(Size, String, usize)>,
    /// Attention heads.
    pub heads: Option<usize>,
    /// Epsilon of the layer norms.
    pub eps: Option<f64>,
    /// Activation and form of the MLPs.
    pub act: Option<(Act, MlpForm)>,
    /// How tokens become one vector.
    pub pool: Option<Pool>,
    /// How positions are brought to another grid.
    pub interpolation: Option<Interpolation>,
    /// Where the last norm stands.
    pub final_norm: Option<FinalNorm>,
    /// Whether positions are fixed sines and cosines.
    pub fixed_positions: bool,
    /// The base of rotary positions.
    pub rotary: Option<f64>,
    /// Blocks and widths of each stage, with their keys.
    pub stages: Vec<(String, Vec<usize>)>,
    /// timm's name of the network.
    pub architecture: Option<String>,
}

/// A size that both a configuration and the shapes of weights have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    /// Pixels of the image's side.
    Image,
    /// Pixels of a patch's side.
    Patch,
    /// Colours.
    Channels,
    /// Width of a token.
    Width,
    /// Number of blocks.
    Depth,
    /// Width inside the MLPs.
    Hidden,
    /// Patches along a side of a window.
    Window,
    /// Register tokens.
    Registers,
    /// Whether the MLP is gated, 0 or 1.
    Gated,
    /// Whether queries, keys and values have a bias, 0 or 1.
    QkvBias,
}

/// The folder whose files describe the weights at `path`: itself, or that of a file of a usual name.
pub(super) fn beside(path: &Path) -> Option<&Path> {
    if path.is_dir() {
        return Some(path);
    }
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let usual = name.starts_with("model.safetensors") || name.starts_with("pytorch_model.bin");
    usual.then(|| path.parent().unwrap_or(Path::new("")))
}

/// The object of `config.json` beside the weights at `path`: in the folder, or beside a file of a usual name.
pub(super) fn read(path: &Path) -> Result<Option<Stated>> {
    let Some(folder) = beside(path) else { return Ok(None) };
    let file = folder.join("config.json");
    if !file.is_file() {
        return Ok(None);
    }
    let text = selfsup_core::file::read(&file)?;
    let json: Value =
        serde_json::from_slice(&text).map_err(|e| Error::file(&file, format!("not JSON: {e}")))?;
    let object = json.as_object().ok_or_else(|| Error::file(&file, "expected an object"))?;
    let stated = if let Some(kind) = object.get("model_type") {
        let kind = kind.as_str().unwrap_or_default();
        if !MODELS.contains(&kind) {
            let known = MODELS.join(", ");
            return Err(Error::file(
                &file,
                format!("model_type: \"{kind}\", expected one of {known} (or a folder of timm)"),
            ));
        }
        let vision = object.get("vision_config").and_then(Value::as_object);
        if kind == "convnext" {
            convnext(&file, object)?
        } else {
            transformers(&file, kind, vision.unwrap_or(object))?
        }
    } else {
        timm(&file, object)?
    };
    Ok(Some(stated))
}

/// Reads keys of an object; errors name file and key.
struct Reader<'a> {
    file: &'a Path,
    object: &'a Map<String, Value>,
}

impl Reader<'_> {
    fn wrong(&self, key: &str, expected: &str) -> Error {
        let found = self.object.get(key).map_or("nothing".to_string(), Value::to_string);
        Error::file(self.file, format!("{key}: {found}, expected {expected}"))
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.object.get(key).filter(|v| !v.is_null())
    }

    /// A whole number, or a list of equal ones.
    fn whole(&self, key: &str) -> Result<Option<usize>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let value = match value.as_array().map(Vec::as_slice) {
            Some([first, rest @ ..]) if rest.iter().all(|v| v == first) => first,
            _ => value,
        };
        let value = value.as_u64().and_then(|v| usize::try_from(v).ok());
        value.map(Some).ok_or_else(|| self.wrong(key, "a whole number of at least 0"))
    }

    /// A list of whole numbers.
    fn list(&self, key: &str) -> Result<Option<Vec<usize>>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let items = value.as_array().map(|items| {
            items.iter().map(|v| v.as_u64().and_then(|v| usize::try_from(v).ok())).collect::<Option<Vec<_>>>()
        });
        items.flatten().map(Some).ok_or_else(|| self.wrong(key, "a list of whole numbers"))
    }

    /// Lists of sizes of stages, those that are there.
    fn stages(&self, keys: [&str; 2]) -> Result<Vec<(String, Vec<usize>)>> {
        let mut out = Vec::new();
        for key in keys {
            if let Some(list) = self.list(key)? {
                out.push((key.to_string(), list));
            }
        }
        Ok(out)
    }

    fn flag(&self, key: &str) -> Result<Option<bool>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| self.wrong(key, "true or false"))
    }

    fn number(&self, key: &str) -> Result<Option<f64>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let value = value.as_f64().filter(|v| v.is_finite() && *v >= 0.0);
        value.map(Some).ok_or_else(|| self.wrong(key, "a number of at least 0"))
    }

    fn act(&self, key: &str) -> Result<Option<(Act, MlpForm)>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        Ok(Some(match value.as_str().unwrap_or_default() {
            "gelu" => (Act::GeluErf, MlpForm::Plain),
            "quick_gelu" => (Act::GeluErf, MlpForm::QuickGelu),
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_tanh" => (Act::GeluTanh, MlpForm::Plain),
            "relu" => (Act::Relu, MlpForm::Plain),
            _ => return Err(self.wrong(key, "gelu, quick_gelu, gelu_pytorch_tanh or relu")),
        }))
    }

    fn sizes(&self, keys: &[(Size, &str)]) -> Result<Vec<(Size, String, usize)>> {
        let mut out = Vec::new();
        for (size, key) in keys {
            if let Some(value) = self.whole(key)? {
                out.push((*size, (*key).to_string(), value));
            }
        }
        Ok(out)
    }
}

/// transformers' ConvNeXt: its epsilon is that of the norm of the features.
fn convnext(file: &Path, object: &Map<String, Value>) -> Result<Stated> {
    let read = Reader { file, object };
    match read.act("hidden_act")? {
        None | Some((Act::GeluErf, MlpForm::Plain)) => {}
        _ => return Err(read.wrong("hidden_act", "gelu")),
    }
    Ok(Stated {
        file: file.to_path_buf(),
        sizes: read.sizes(&[(Size::Patch, "patch_size"), (Size::Channels, "num_channels")])?,
        stages: read.stages(["depths", "hidden_sizes"])?,
        eps: Some(read.number("layer_norm_eps")?.unwrap_or(1e-12)),
        ..Stated::default()
    })
}

fn transformers(file: &Path, kind: &str, object: &Map<String, Value>) -> Result<Stated> {
    let read = Reader { file, object };
    let (dinov2, clip) = (kind.starts_with("dinov2"), kind.starts_with("clip"));
    let dinov3 = kind.starts_with("dinov3");
    let mut sizes = read.sizes(&[
        (Size::Image, "image_size"),
        (Size::Patch, "patch_size"),
        (Size::Channels, "num_channels"),
        (Size::Width, "hidden_size"),
        (Size::Depth, "num_hidden_layers"),
    ])?;
    if dinov2 {
        let gated = read.flag("use_swiglu_ffn")?.unwrap_or(false);
        sizes.push((Size::Gated, "use_swiglu_ffn".into(), gated.into()));
        if let (Some(ratio), Some(width)) = (read.number("mlp_ratio")?, read.whole("hidden_size")?) {
            let plain = (width as f64 * ratio) as usize;
            // A gated MLP has two thirds of the width, in eights.
            let hidden =
                if gated { (plain.saturating_mul(2) / 3).div_ceil(8).saturating_mul(8) } else { plain };
            sizes.push((Size::Hidden, "mlp_ratio".into(), hidden));
        }
        sizes.extend(read.sizes(&[(Size::Registers, "num_register_tokens")])?);
    } else {
        sizes.extend(read.sizes(&[(Size::Hidden, "intermediate_size")])?);
    }
    if dinov3 {
        let gated = read.flag("use_gated_mlp")?.unwrap_or(false);
        sizes.push((Size::Gated, "use_gated_mlp".into(), gated.into()));
        sizes.extend(read.sizes(&[(Size::Registers, "num_register_tokens")])?);
        for key in ["query_bias", "value_bias"] {
            let bias = read.flag(key)?.unwrap_or(true);
            sizes.push((Size::QkvBias, key.into(), bias.into()));
        }
    }
    if let Some(bias) = read.flag("qkv_bias")? {
        sizes.push((Size::QkvBias, "qkv_bias".into(), bias.into()));
    }
    let antialiased = kind == "dinov2_with_registers";
    let usual = match kind {
        "dinov2" | "dinov2_with_registers" => 1e-6,
        "clip" | "clip_vision_model" | "dinov3_vit" => 1e-5,
        _ => 1e-12,
    };
    // DINOv3's gated MLP is one of silu, whose form the shapes show.
    let silu = dinov3 && read.get("hidden_act").and_then(Value::as_str) == Some("silu");
    if dinov3 && silu != (read.flag("use_gated_mlp")? == Some(true)) {
        return Err(read.wrong("hidden_act", "silu beside use_gated_mlp = true, and only there"));
    }
    let act = match if silu { None } else { read.act("hidden_act")? } {
        Some(act) => act,
        None if clip => (Act::GeluErf, MlpForm::QuickGelu),
        None => (Act::GeluErf, MlpForm::Plain),
    };
    let mean = kind == "ijepa" || read.flag("use_mean_pooling")?.unwrap_or(false);
    Ok(Stated {
        file: file.to_path_buf(),
        sizes,
        heads: read.whole("num_attention_heads")?,
        eps: Some(read.number("layer_norm_eps")?.unwrap_or(usual)),
        act: Some(act),
        pool: mean.then_some(Pool::Mean),
        interpolation: Some(if antialiased { Interpolation::Antialiased } else { Interpolation::Bicubic }),
        final_norm: clip.then_some(FinalNorm::Pooled),
        fixed_positions: kind == "vit_mae",
        rotary: if dinov3 { Some(read.number("rope_theta")?.unwrap_or(100.0)) } else { None },
        ..Stated::default()
    })
}

/// Attention heads of timm's sizes, which `config.json` names only.
fn heads_of(architecture: &str) -> Option<usize> {
    let rest = ["vit_", "deit_", "deit3_", "flexivit_"].iter().find_map(|p| architecture.strip_prefix(p))?;
    Some(match rest.split('_').next()? {
        "tiny" => 3,
        "little" => 5,
        "small" => 6,
        "medium" => 8,
        "betwixt" => 10,
        "base" => 12,
        "giant" if architecture.contains("dinov2") => 24,
        "huge" if architecture.contains("huge_plus") => 20,
        "large" | "huge" | "giant" | "gigantic" | "so400m" => 16,
        _ => return None,
    })
}

/// Arguments of timm's networks that change no number of theirs in evaluation.
const HARMLESS: [&str; 16] = [
    "attn_drop_rate",
    "checkpoint_path",
    "drop_path_rate",
    "drop_rate",
    "dynamic_img_pad",
    "dynamic_img_size",
    "fix_init",
    "head_init_scale",
    "layers",
    "channels",
    "num_classes",
    "patch_drop_rate",
    "pos_drop_rate",
    "proj_drop_rate",
    "strict_img_size",
    "weight_init",
];

/// Arguments that the shapes of the weights show by themselves.
const SHOWN: [&str; 12] = [
    "class_token",
    "conv_mlp",
    "final_norm",
    "global_pool",
    "fc_norm",
    "init_values",
    "ls_init_value",
    "no_embed_class",
    "pre_norm",
    "proj_bias",
    "qk_norm",
    "act_layer",
];

/// timm's Swin. Heads are those of the tables, the epsilon is always 1e-5.
fn swin(file: &Path, arguments: &Map<String, Value>, architecture: Option<String>) -> Result<Stated> {
    let read = Reader { file, object: arguments };
    let keys = [
        (Size::Image, "img_size"),
        (Size::Patch, "patch_size"),
        (Size::Channels, "in_chans"),
        (Size::Width, "embed_dim"),
        (Size::Window, "window_size"),
    ];
    for key in arguments.keys() {
        let known = keys.iter().any(|(_, k)| k == key)
            || ["depths", "num_heads", "proj_drop_rate"].contains(&key.as_str())
            || HARMLESS.contains(&key.as_str())
            || ["global_pool", "strict_img_size"].contains(&key.as_str());
        if !known {
            return Err(Error::file(
                file,
                format!("model_args.{key}: networks with this argument are not read"),
            ));
        }
    }
    let sizes = read.sizes(&keys)?;
    let stages = read.stages(["depths", "num_heads"])?;
    Ok(Stated { file: file.to_path_buf(), sizes, stages, architecture, ..Stated::default() })
}

fn timm(file: &Path, object: &Map<String, Value>) -> Result<Stated> {
    let architecture = object.get("architecture").and_then(Value::as_str).map(str::to_string);
    // Arguments alone, without a name, are a network's too.
    let arguments = object.get("model_args").and_then(Value::as_object);
    let arguments = match (arguments, &architecture) {
        (Some(arguments), _) => arguments.clone(),
        (None, Some(_)) => Map::new(),
        (None, None)
            if ["embed_dim", "layers", "dims", "window_size"].iter().any(|key| object.contains_key(*key)) =>
        {
            object.clone()
        }
        (None, None) => {
            return Err(Error::file(file, "expected model_type (transformers) or architecture (timm)"));
        }
    };
    let read = Reader { file, object: &arguments };
    let name = architecture.clone().unwrap_or_default();
    let keys = [
        (Size::Image, "img_size"),
        (Size::Patch, "patch_size"),
        (Size::Channels, "in_chans"),
        (Size::Width, "embed_dim"),
        (Size::Depth, "depth"),
        (Size::Registers, "reg_tokens"),
    ];
    let mut sizes = read.sizes(&keys)?;
    if let Some(bias) = read.flag("qkv_bias")? {
        sizes.push((Size::QkvBias, "qkv_bias".into(), bias.into()));
    }
    let resnet = name.contains("resnet") || arguments.contains_key("layers");
    if name.starts_with("swin_") || arguments.contains_key("window_size") {
        return swin(file, &arguments, architecture);
    }
    let convnext = name.starts_with("convnext") || arguments.contains_key("dims");
    for key in arguments.keys().filter(|_| !resnet) {
        let known = keys.iter().any(|(_, k)| k == key)
            || ["num_heads", "mlp_ratio", "qkv_bias"].contains(&key.as_str())
            || convnext && ["depths", "dims"].contains(&key.as_str())
            || HARMLESS.contains(&key.as_str())
            || SHOWN.contains(&key.as_str());
        if !known {
            return Err(Error::file(
                file,
                format!("model_args.{key}: networks with this argument are not read"),
            ));
        }
    }
    // The pooling of the folder may stand beside the arguments.
    let pool = arguments.get("global_pool").or_else(|| object.get("global_pool")).and_then(Value::as_str);
    let pool = match pool {
        Some("avg") => Some(Pool::Mean),
        None | Some("" | "token" | "fast") => None,
        Some(_) if resnet => None,
        Some(other) => {
            return Err(Error::file(file, format!("global_pool: \"{other}\", expected token or avg")));
        }
    };
    let clip = name.contains("_clip_");
    // timm takes it as an argument that JSON cannot hold; exports of selfsup state it beside the arguments.
    let eps = Reader { file, object }.number("norm_eps")?;
    let act = read.act("act_layer")?.unwrap_or(if name.contains("quickgelu") {
        (Act::GeluErf, MlpForm::QuickGelu)
    } else {
        (Act::GeluErf, MlpForm::Plain)
    });
    let dinov3 = name.contains("dinov3");
    Ok(Stated {
        file: file.to_path_buf(),
        sizes,
        heads: match read.whole("num_heads")? {
            Some(heads) => Some(heads),
            None => heads_of(&name),
        },
        eps: Some(eps.unwrap_or(if clip || dinov3 { 1e-5 } else { 1e-6 })),
        act: Some(act),
        pool,
        interpolation: Some(Interpolation::Antialiased),
        rotary: dinov3.then_some(100.0),
        stages: if convnext { read.stages(["depths", "dims"])? } else { Vec::new() },
        architecture,
        ..Stated::default()
    })
}

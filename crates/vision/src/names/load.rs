//! Reading released weights: strictly and completely. Every tensor of the file has a place in the network,
//! or belongs to a part that may be left (a classifier, a decoder), and is named.

use super::described::{Described, Shapes};
use super::layout::Layout;
use super::normalisation;
use super::place::{PARTS, Place, locate};
use super::stated::{self, Stated};
use crate::encoder::{Architecture, ViTConfig};
use candle_core::{DType, Device, Tensor};
use selfsup_core::nn::{Interpolation, interpolate_positions};
use selfsup_core::weights::{self, Beside, Report, load_strict};
use selfsup_core::{Error, Params, Result};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Names of tensors of either family, for messages.
const EXPECTED: [&str; 7] = [
    "conv1.weight",
    "layer1.0.conv1.weight",
    "patch_embed.proj.weight",
    "stages.0.blocks.0.conv_dw.weight",
    "layers.0.blocks.0.attn.relative_position_bias_table",
    "blocks.0.attn.qkv.weight",
    "embeddings.patch_embeddings.projection.weight",
];

/// The first five names, and how many more there are.
fn five<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> String {
    let names: Vec<S> = names.into_iter().collect();
    let shown: Vec<&str> = names.iter().take(5).map(AsRef::as_ref).collect();
    let more = names.len().saturating_sub(5);
    format!("{}{}", shown.join(", "), if more > 0 { format!(" and {more} more") } else { String::new() })
}

/// The name below `prefix`, which may be empty.
fn below<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    if prefix.is_empty() { Some(name) } else { name.strip_prefix(prefix)?.strip_prefix('.') }
}

/// The name of a tensor whose stage is counted one later, where it halves a map.
fn later(name: String) -> String {
    let parts = name.strip_prefix("layers.").and_then(|rest| rest.split_once(".downsample."));
    match parts.and_then(|(stage, rest)| Some((stage.parse::<usize>().ok()?, rest))) {
        Some((stage, rest)) => format!("layers.{}.downsample.{rest}", stage.saturating_add(1)),
        None => name,
    }
}

/// An encoder in released weights.
#[derive(Debug)]
pub struct Released {
    path: PathBuf,
    place: Place,
    /// The encoder's tensors under our names.
    ours: BTreeMap<String, Tensor>,
    /// How many tensors of the file they are.
    used: usize,
    /// Parts of the file besides the encoder, with the number of their tensors.
    left: BTreeMap<String, usize>,
    stated: Option<Stated>,
    pooled_norm: bool,
}

impl Released {
    /// Reads `path` (a file, or a folder with `model.safetensors` or `pytorch_model.bin`).
    ///
    /// # Errors
    /// If nothing can be read, no encoder of images is in the file, or a tensor belongs to no known part.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Released::of(path, weights::read(path)?)
    }

    /// The same without values, to ask for the network ([`Released::described`]).
    ///
    /// # Errors
    /// As [`Released::open`].
    pub fn outline(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let mut tensors = BTreeMap::new();
        let zero = Tensor::zeros((), DType::U8, &Device::Cpu)?;
        for (name, shape) in weights::shapes(path)? {
            // One byte, whatever the shape.
            tensors.insert(name, zero.broadcast_as(shape)?);
        }
        Released::of(path, tensors)
    }

    fn of(path: &Path, theirs: BTreeMap<String, Tensor>) -> Result<Self> {
        let stated = stated::read(path)?;
        let place = locate(&theirs.keys().map(String::as_str).collect()).ok_or_else(|| {
            Error::file(
                path,
                format!(
                    "no encoder of images: its tensors are {}; expected names like {}, whatever stands in front of them",
                    five(theirs.keys()),
                    EXPECTED.join(", ")
                ),
            )
        })?;
        let (mut kept, mut left, mut strange) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        for (name, t) in theirs {
            if let Some(part) = place.may_leave(&name) {
                *left.entry(part).or_insert(0) += 1;
            } else if let Some(inner) = place.within(&name) {
                kept.insert(place.respelt(inner), t);
            } else {
                strange.push(name);
            }
        }
        if !strange.is_empty() {
            return Err(Error::file(
                path,
                format!(
                    "{} tensors outside the encoder at {} are of no known part: {}; expected one of {}",
                    strange.len(),
                    place.prefix.trim_end_matches('.'),
                    five(&strange),
                    Place::leavable()
                ),
            ));
        }
        let used = kept.len();
        let mut ours = place.layout.rules().to_ours(kept).map_err(|e| Error::file(path, e))?;
        // Swin's authors count what halves a map to the stage before it, timm to the stage behind it.
        if ours.contains_key("layers.0.downsample.reduction.weight") {
            ours = ours.into_iter().map(|(name, t)| (later(name), t)).collect();
        }
        // timm's smaller ConvNeXt have convolutions of kernel 1 for linear layers.
        for (name, t) in &mut ours {
            if name.starts_with("stages.") && name.contains(".mlp.fc") && matches!(t.dims(), [_, _, 1, 1]) {
                *t = t.squeeze(3)?.squeeze(2)?;
            }
        }
        // timm names the norm of pooled features so, and has then no other.
        let pooled_norm = !ours.contains_key("norm.weight") && ours.contains_key("fc_norm.weight");
        if pooled_norm {
            for kind in ["weight", "bias"] {
                if let Some(t) = ours.remove(&format!("fc_norm.{kind}")) {
                    ours.insert(format!("norm.{kind}"), t);
                }
            }
        }
        Ok(Released { path: path.to_path_buf(), place, ours, used, left, stated, pooled_norm })
    }

    /// The file or folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The network that the weights are of.
    ///
    /// # Errors
    /// If shapes are not those of a network that is here, or `config.json` states others.
    pub fn described(&self) -> Result<Described> {
        let shapes = Shapes { path: &self.path, tensors: &self.ours };
        let found = if shapes.is_resnet() {
            shapes.resnet(self.stated.as_ref())
        } else if shapes.is_convnext() {
            shapes.convnext(self.stated.as_ref())
        } else if shapes.is_swin() {
            shapes.swin(self.stated.as_ref())
        } else {
            shapes.vit(self.place.layout, self.pooled_norm, self.stated.as_ref())
        };
        Ok(Described { normalisation: normalisation::read(&self.path)?, ..found? })
    }

    /// Writes the weights into the parameters below `prefix`. Position embeddings of another grid are
    /// interpolated.
    ///
    /// # Errors
    /// If a parameter is missing in the file, a tensor has no parameter, or shapes differ: nothing is written
    /// then, and tensors are named as the file names them.
    pub fn load(mut self, params: &Params, prefix: &str) -> Result<Pretrained> {
        let resized = self.resize_positions(params, prefix)?;
        self.cut_tables(params, prefix)?;
        let (rules, stripped) = (self.place.layout.rules(), &self.place.prefix);
        let theirs = |name: &str, t: &Tensor| -> Vec<String> {
            let names = rules.their_names(below(name, prefix).unwrap_or(name), t);
            names.into_iter().map(|name| format!("{stripped}{name}")).collect()
        };
        let beside = Beside { heads: &PARTS, may_lack: &|_| false };
        let dotted = if prefix.is_empty() { String::new() } else { format!("{prefix}.") };
        let ours = self.ours.into_iter().map(|(name, t)| (format!("{dotted}{name}"), t)).collect();
        let report = load_strict(params, prefix, ours, &theirs, &beside, &self.path)?;
        Ok(Pretrained {
            path: self.path,
            layout: self.place.layout,
            numbered: self.place.numbered.is_some(),
            stripped: self.place.prefix,
            used: self.used,
            left: self.left,
            resized,
            report,
        })
    }

    /// Cuts Swin's tables of offsets to those within the smaller windows of smaller images.
    fn cut_tables(&mut self, params: &Params, prefix: &str) -> Result<()> {
        for p in params.all() {
            let Some(name) = below(&p.name, prefix).filter(|n| n.ends_with(".relative_position_bias_table"))
            else {
                continue;
            };
            let (Some(have), &[rows, heads]) = (self.ours.get(name), p.var.dims()) else { continue };
            let &[old, theirs] = have.dims() else { continue };
            let (from, to) = (old.isqrt(), rows.isqrt());
            if theirs != heads || to >= from || from * from != old || to * to != rows {
                continue;
            }
            // Offsets are counted from the middle.
            let (start, table) = ((from - to) / 2, have.reshape((from, from, heads))?);
            let table = table.narrow(0, start, to)?.narrow(1, start, to)?.reshape((rows, heads))?;
            self.ours.insert(name.to_string(), table);
        }
        Ok(())
    }

    /// Brings the position embedding to the grid of the network below `prefix`, where that has another.
    fn resize_positions(&mut self, params: &Params, prefix: &str) -> Result<Option<Resized>> {
        let wanted = params.all().into_iter().find(|p| below(&p.name, prefix) == Some("pos_embed"));
        let wanted = wanted.map(|p| p.var.dims().to_vec());
        let (Some(&[1, wanted, dim]), Some(have)) = (wanted.as_deref(), self.ours.get("pos_embed")) else {
            return Ok(None);
        };
        if have.dims() == [1, wanted, dim] || have.dims().last() != Some(&dim) {
            return Ok(None);
        }
        let Architecture::ViT(config) = self.described()?.architecture else { return Ok(None) };
        let (rows, how) = (config.position_prefix(), config.interpolation);
        let (old, new) = (config.grid()[0], wanted.saturating_sub(rows).isqrt());
        if new * new + rows != wanted {
            return Ok(None);
        }
        let made = interpolate_positions(have, rows, &[old; 2], &[new; 2], how)?;
        self.ours.insert("pos_embed".into(), made);
        Ok(Some(Resized { old, new, how }))
    }
}

/// Position embeddings that were brought to another grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resized {
    /// Patches along a side in the file.
    pub old: usize,
    /// Patches along a side in the network.
    pub new: usize,
    /// How values between were found.
    pub how: Interpolation,
}

/// The result of [`load_pretrained`]. Its text says what was read and what was left.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Pretrained {
    /// The file or folder.
    pub path: PathBuf,
    /// The layout of the file.
    pub layout: Layout,
    /// Whether its stages were numbered as by `torch.nn.Sequential`.
    pub numbered: bool,
    /// What stood in front of the encoder's names; may be empty.
    pub stripped: String,
    /// Number of tensors of the file that went into the encoder.
    pub used: usize,
    /// Parts that were left, with the number of their tensors.
    pub left: BTreeMap<String, usize>,
    /// Whether the position embedding has another grid than in the file.
    pub resized: Option<Resized>,
    /// Which tensors matched; names are relative to the encoder.
    pub report: Report,
}

impl fmt::Display for Pretrained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tensors of {} ({}", self.used, self.path.display(), self.layout.described())?;
        if self.numbered {
            write!(f, ", stages by number")?;
        }
        write!(f, ")")?;
        if !self.stripped.is_empty() {
            write!(f, "; below `{}`", self.stripped)?;
        }
        if !self.left.is_empty() {
            let parts: Vec<String> = self.left.iter().map(|(part, n)| format!("{part} ({n})")).collect();
            write!(f, "; left: {}", parts.join(", "))?;
        }
        if let Some(Resized { old, new, how }) = self.resized {
            let how = match how {
                Interpolation::Bicubic => "bicubic",
                Interpolation::Antialiased => "bicubic, antialiased",
                Interpolation::Linear => "linear",
            };
            write!(f, "; position embeddings interpolated from {old} x {old} to {new} x {new} ({how})")?;
        }
        Ok(())
    }
}

/// Reads encoder weights from `path` (a file, or a folder with `model.safetensors` or `pytorch_model.bin`)
/// into the parameters below `prefix`: [`Released::open`] and [`Released::load`].
///
/// # Errors
/// As these.
pub fn load_pretrained(params: &Params, prefix: &str, path: &Path) -> Result<Pretrained> {
    Released::open(path)?.load(params, prefix)
}

/// The vision transformer that `config.json` and the weights in `folder` describe.
///
/// # Errors
/// If a file cannot be read, `config.json` asks for a network that is not here, or does not tell the
/// attention heads.
pub fn read_config(folder: &Path) -> Result<ViTConfig> {
    let Described { architecture, assumed, .. } = Released::outline(folder)?.described()?;
    let Architecture::ViT(config) = architecture else {
        return Err(Error::file(folder, "a network of convolutions, expected a vision transformer"));
    };
    if assumed.contains(&"heads") {
        return Err(Error::file(folder, "no config.json tells the number of attention heads"));
    }
    Ok(config)
}

//! `[encoder]` beside released weights: what the weights state stands below the given keys, and a key that
//! contradicts them is refused.

use super::encoder::{Activation, ConvNeXtKeys, EncoderConfig, ResNetKeys, SwinKeys, ViTKeys};
use crate::augment::AugmentConfig;
use crate::encoder::{Architecture, ConvNeXtConfig, ResNetConfig, SwinConfig, ViTConfig};
use crate::names::{Described, Normalisation, Released};
use selfsup_core::{Error, Result};
use std::fmt::Debug;
use toml::{Table, Value};

/// The name of a standard size, or of the family.
fn name_of(network: &Architecture) -> &'static str {
    let known = |names: &[&'static str], fits: &dyn Fn(&str) -> bool, family| {
        names.iter().find(|n| fits(n)).copied().unwrap_or(family)
    };
    match network {
        Architecture::ResNet(c) => {
            let fits = |name: &str| {
                ResNetConfig::named(name)
                    .is_some_and(|n| ResNetConfig { small: c.small, channels: c.channels, ..n } == *c)
            };
            known(EncoderConfig::NAMES, &fits, "resnet")
        }
        Architecture::ConvNeXt(c) => {
            let fits = |name: &str| {
                ConvNeXtConfig::named(name)
                    .is_some_and(|n| (n.depths, n.widths) == (c.depths.clone(), c.widths.clone()))
            };
            known(EncoderConfig::NAMES, &fits, "convnext")
        }
        Architecture::Swin(c) => {
            let fits = |name: &str| {
                SwinConfig::named(name, c.size)
                    .is_some_and(|n| (n.dim, &n.depths, &n.heads) == (c.dim, &c.depths, &c.heads))
            };
            known(EncoderConfig::NAMES, &fits, "swin")
        }
        Architecture::ViT(c) => {
            let fits =
                |name: &str| ViTConfig::named(name, c.size, c.patch).is_some_and(|n| size(&n) == size(c));
            known(EncoderConfig::NAMES, &fits, "vit")
        }
    }
}

fn size(c: &ViTConfig) -> (usize, usize, usize) {
    (c.trunk.dim, c.trunk.depth, c.trunk.heads)
}

/// The keys that give this network.
fn keys_of(name: &str, network: &Architecture) -> EncoderConfig {
    let name = name.to_string();
    match network.clone() {
        Architecture::ResNet(c) => {
            let mut keys = ResNetKeys {
                channels: c.channels,
                small_images: Some(c.small),
                name,
                ..ResNetKeys::default()
            };
            if keys.name == "resnet" {
                keys.depths = Some(c.depths);
                keys.widths = Some(c.widths);
                keys.stem = Some(c.stem);
                keys.bottleneck = Some(c.bottleneck);
            }
            keys.into()
        }
        Architecture::ConvNeXt(c) => {
            let own = name == "convnext";
            ConvNeXtKeys {
                channels: c.channels,
                patch: Some(c.patch),
                depths: own.then_some(c.depths),
                widths: own.then_some(c.widths),
                layer_scale: Some(c.layer_scale.unwrap_or(0.0)),
                drop_path: None,
                eps: Some(c.eps),
                pretrained: None,
                name,
            }
            .into()
        }
        Architecture::Swin(c) => {
            let own = name == "swin";
            SwinKeys {
                channels: c.channels,
                patch: Some(c.patch),
                window: Some(c.window),
                dim: own.then_some(c.dim),
                depths: own.then_some(c.depths),
                heads: own.then_some(c.heads),
                drop_path: None,
                pretrained: None,
                name,
            }
            .into()
        }
        Architecture::ViT(c) => {
            let standard = name != "vit";
            let sized = |value: usize| (!standard).then_some(value);
            ViTKeys {
                channels: c.channels,
                patch: Some(c.patch[0]),
                dim: sized(c.trunk.dim),
                depth: sized(c.trunk.depth),
                heads: sized(c.trunk.heads),
                mlp_ratio: Some(c.trunk.hidden as f64 / c.trunk.dim as f64),
                drop_path: None,
                eps: Some(c.trunk.eps),
                act: Some(Activation::of(c.trunk.act, c.trunk.mlp)),
                layer_scale: c.trunk.layer_scale,
                qkv_bias: Some(c.trunk.qkv_bias),
                key_bias: Some(c.trunk.key_bias),
                qk_norm: Some(c.trunk.qk_norm),
                patch_bias: Some(c.patch_bias),
                class_token: Some(c.class_token),
                registers: Some(c.registers),
                positions: Some(c.positions),
                rotary: c.rotary,
                interpolation: Some(c.interpolation),
                norm_pre: Some(c.norm_pre),
                final_norm: Some(c.final_norm),
                // A class token is taken where the method does not want the mean.
                pool: (c.pool == crate::encoder::Pool::Mean).then_some(c.pool),
                pretrained: None,
                name,
            }
            .into()
        }
    }
}

impl Described {
    /// `[encoder]` for this network, the size of its images and how they are normalised (`augment.size`,
    /// `augment.mean`, `augment.std`), as a layer below the given
    /// keys. `given` is the name of an encoder that is given: sizes that it states itself are left out.
    ///
    /// # Errors
    /// If the keys cannot be written.
    pub fn layer(&self, given: Option<&str>) -> Result<Table> {
        let own = name_of(&self.architecture);
        let name = given.filter(|name| EncoderConfig::alike(name, own)).unwrap_or(own);
        let Ok(mut keys) = Table::try_from(keys_of(name, &self.architecture)) else {
            return Err(Error::config("encoder: keys that cannot be written"));
        };
        self.needed.iter().for_each(|key| drop(keys.remove(*key)));
        let (mut layer, mut augment) = (Table::new(), Table::new());
        let size = match &self.architecture {
            Architecture::ViT(c) => Some(c.size[0]),
            Architecture::Swin(c) => Some(c.size),
            Architecture::ResNet(_) | Architecture::ConvNeXt(_) => None,
        };
        if let Some(size) = size {
            let size = Value::Integer(i64::try_from(size).unwrap_or(i64::MAX));
            augment.insert("size".into(), size);
        }
        if let Some(Normalisation { mean, std, .. }) = self.normalisation {
            // 0.485 and not 0.48500001430511475.
            let short = |v: f32| Value::Float(v.to_string().parse().unwrap_or_else(|_| f64::from(v)));
            for (key, values) in [("mean", mean), ("std", std)] {
                augment.insert(key.into(), Value::Array(values.map(short).to_vec()));
            }
        }
        if !augment.is_empty() {
            layer.insert("augment".into(), Value::Table(augment));
        }
        layer.insert("encoder".into(), Value::Table(keys));
        Ok(layer)
    }
}

/// `(key, ours, theirs)` where two networks differ.
#[derive(Default)]
struct Differences(Vec<(&'static str, String, String)>);

impl Differences {
    fn see<T: PartialEq + Debug>(&mut self, key: &'static str, ours: T, theirs: T) {
        if ours != theirs {
            self.0.push((key, format!("{ours:?}"), format!("{theirs:?}")));
        }
    }
}

fn resnets(ours: &ResNetConfig, theirs: &ResNetConfig) -> Differences {
    let mut d = Differences::default();
    d.see("channels", ours.channels, theirs.channels);
    d.see("bottleneck", ours.bottleneck, theirs.bottleneck);
    d.see("depths", &ours.depths, &theirs.depths);
    d.see("widths", &ours.widths, &theirs.widths);
    d.see("stem", ours.stem, theirs.stem);
    d.see("small_images", ours.small, theirs.small);
    let factor = |width: usize| format!("width factor {}", width / 64);
    d.see("name", factor(ours.base_width), factor(theirs.base_width));
    d
}

fn convnexts(ours: &ConvNeXtConfig, theirs: &ConvNeXtConfig) -> Differences {
    let mut d = Differences::default();
    d.see("channels", ours.channels, theirs.channels);
    d.see("patch", ours.patch, theirs.patch);
    d.see("depths", &ours.depths, &theirs.depths);
    d.see("widths", &ours.widths, &theirs.widths);
    d.see("layer_scale", ours.layer_scale.is_some(), theirs.layer_scale.is_some());
    d.see("eps", ours.eps, theirs.eps);
    d
}

fn swins(ours: &SwinConfig, theirs: &SwinConfig) -> Differences {
    let mut d = Differences::default();
    d.see("channels", ours.channels, theirs.channels);
    d.see("patch", ours.patch, theirs.patch);
    d.see("dim", ours.dim, theirs.dim);
    d.see("depths", &ours.depths, &theirs.depths);
    d.see("heads", &ours.heads, &theirs.heads);
    d.see("window", ours.window, theirs.window);
    d
}

fn vits(ours: &ViTConfig, theirs: &ViTConfig) -> Differences {
    let mut d = Differences::default();
    let (a, b) = (&ours.trunk, &theirs.trunk);
    d.see("channels", ours.channels, theirs.channels);
    d.see("patch", ours.patch[0], theirs.patch[0]);
    d.see("dim", a.dim, b.dim);
    d.see("depth", a.depth, b.depth);
    d.see("heads", a.heads, b.heads);
    d.see("mlp_ratio", a.hidden as f64 / a.dim as f64, b.hidden as f64 / b.dim as f64);
    d.see("eps", a.eps, b.eps);
    d.see("act", Activation::of(a.act, a.mlp), Activation::of(b.act, b.mlp));
    d.see("layer_scale", a.layer_scale.is_some(), b.layer_scale.is_some());
    d.see("qkv_bias", a.qkv_bias, b.qkv_bias);
    // Without any bias it has no meaning.
    d.see("key_bias", a.key_bias || !a.qkv_bias, b.key_bias || !b.qkv_bias);
    d.see("qk_norm", a.qk_norm, b.qk_norm);
    d.see("patch_bias", ours.patch_bias, theirs.patch_bias);
    d.see("class_token", ours.class_token, theirs.class_token);
    d.see("registers", ours.registers, theirs.registers);
    d.see("norm_pre", ours.norm_pre, theirs.norm_pre);
    d.see("final_norm", ours.final_norm, theirs.final_norm);
    d.see("rotary", ours.rotary, theirs.rotary);
    if theirs.rotary.is_none() {
        d.see("interpolation", ours.interpolation, theirs.interpolation);
    }
    // Without a class token and registers both mean the same.
    if ours.position_prefix() != theirs.position_prefix() {
        d.see("positions", ours.positions, theirs.positions);
    }
    d
}

impl AugmentConfig {
    /// Refuses means and deviations other than those that the files beside released weights state.
    ///
    /// # Errors
    /// Naming the keys, with both values.
    pub fn agree(&self, released: &Released) -> Result<()> {
        let ours = Normalisation { mean: self.mean, std: self.std };
        match released.described()?.normalisation {
            Some(theirs) if !theirs.is_like(&ours) => Err(Error::config(format!(
                "augment.mean = {:?} and augment.std = {:?}, but {} is normalised with {:?} and {:?}",
                ours.mean,
                ours.std,
                released.path().display(),
                theirs.mean,
                theirs.std
            ))),
            _ => Ok(()),
        }
    }
}

impl EncoderConfig {
    /// Refuses keys that contradict the weights which the encoder starts from; `architecture` is what the
    /// keys give.
    ///
    /// # Errors
    /// Naming the key, its value and that of the weights; or a key that the weights do not tell and that is
    /// not given.
    pub fn agree(&self, architecture: &Architecture, released: &Released) -> Result<()> {
        let described = released.described()?;
        let path = released.path().display();
        let found = match (architecture, &described.architecture) {
            (Architecture::ResNet(a), Architecture::ResNet(b)) => resnets(a, b),
            (Architecture::ConvNeXt(a), Architecture::ConvNeXt(b)) => convnexts(a, b),
            (Architecture::Swin(a), Architecture::Swin(b)) => swins(a, b),
            (Architecture::ViT(a), Architecture::ViT(b)) => vits(a, b),
            (_, theirs) => {
                return Err(Error::config(format!(
                    "encoder.name = \"{}\", but {path} holds a {}",
                    self.name(),
                    match theirs {
                        Architecture::ResNet(_) => format!("ResNet: expected \"{}\"", name_of(theirs)),
                        Architecture::ConvNeXt(_) => format!("ConvNeXt: expected \"{}\"", name_of(theirs)),
                        Architecture::Swin(_) => format!("Swin: expected \"{}\"", name_of(theirs)),
                        Architecture::ViT(_) =>
                            format!("vision transformer: expected \"{}\"", name_of(theirs)),
                    }
                )));
            }
        };
        if let EncoderConfig::ViT(keys) = self {
            let standard = keys.name != "vit";
            for (key, given) in [("heads", standard || keys.heads.is_some()), ("act", keys.act.is_some())] {
                if described.needed.contains(&key) && !given {
                    return Err(Error::config(format!(
                        "encoder.{key} is needed: neither the shapes of {path} nor a config.json beside it tell it"
                    )));
                }
            }
        }
        let contradiction = found.0.into_iter().find(|(key, ..)| !described.assumed.contains(key));
        let Some((key, ours, theirs)) = contradiction else { return Ok(()) };
        let by_name = matches!(key, "dim" | "depth" | "heads" | "depths" | "widths" | "stem" | "bottleneck");
        let name = match self.name() {
            "vit" | "resnet" | "convnext" | "swin" => String::new(),
            name if by_name => format!(" (encoder.name = \"{name}\")"),
            _ => String::new(),
        };
        Err(Error::config(format!(
            "encoder.{key} = {}{name}, but {path} has {}",
            ours.to_lowercase(),
            theirs.to_lowercase()
        )))
    }
}

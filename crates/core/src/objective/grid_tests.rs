//! The conformance checks of methods that need pixels, around a small residual network and a small vision
//! transformer over images of 16 pixels. The transformer drops values, attention weights and branches.

use super::{
    DinoV2Config, IBotConfig, IJepaConfig, InpaintingConfig, JigsawConfig, MaeConfig, Method, Needs,
    Networks, OverViews, RelativePositionConfig, RotationConfig, SimMimConfig, Views,
};
use crate::conformance::{Trial, building_twice_changes_nothing, every_parameter_has_a_place};
use crate::encoder::{Encoder, TokenEncoder};
use crate::error::{Error, Result};
use crate::network::{Pool, ResNet, ResNetConfig, ViT, ViTConfig};
use crate::nn::TransformerConfig;
use crate::params::Params;
use crate::pass::Pass;
use crate::scope::Scope;
use candle_core::{Device, Tensor};
use selfsup_kernels::rng::Key;

const SIZE: usize = 16;
const BATCH: usize = 6;

/// Two views and a small crop of smooth images that differ from each other, each with noise of its own.
fn blobs(epoch: u64, b: usize) -> Result<Views> {
    let view = |which: u64, size: usize| -> Result<Tensor> {
        let mut values = Vec::new();
        for i in b * BATCH..(b + 1) * BATCH {
            let mut place = Key::new(7).fold(i as u64).rng();
            let (fx, fy, phase) = (place.uniform() * 0.8, place.uniform() * 0.8, place.uniform() * 6.0);
            let mut noise = Key::new(8).fold(epoch).fold(i as u64).fold(which).rng();
            for p in 0..3 * size * size {
                let (c, y, x) = (p / (size * size), p / size % size, p % size);
                let wave = (fx * x as f32 + fy * y as f32 + phase + c as f32).sin();
                values.push(wave + 0.3 * noise.normal());
            }
        }
        Ok(Tensor::from_vec(values, (BATCH, 3, size, size), &Device::Cpu)?)
    };
    let indices = (b * BATCH..(b + 1) * BATCH).collect();
    let locals = vec![view(2, SIZE / 2)?];
    Ok(Views { locals, ..Views::of(vec![view(0, SIZE)?, view(1, SIZE)?], indices) })
}

/// A residual network, or a transformer for a method of these needs.
struct Small {
    vit: bool,
    needs: Needs,
}

impl Networks for Small {
    fn encoder(&self, scope: &Scope) -> Result<Box<dyn Encoder>> {
        if self.vit {
            return Ok(Box::new(self.transformer(scope)?));
        }
        let none = || Error::config("no resnet18");
        let mut c = ResNetConfig::<2>::named("resnet18").ok_or_else(none)?;
        (c.depths, c.widths, c.stem, c.small) = (vec![1, 1], vec![6, 8], 6, true);
        Ok(Box::new(ResNet::new(scope, c)?))
    }

    fn tokens(&self, scope: &Scope) -> Result<Box<dyn TokenEncoder>> {
        Ok(Box::new(self.transformer(scope)?))
    }

    fn channels(&self) -> usize {
        3
    }
}

impl Small {
    fn transformer(&self, scope: &Scope) -> Result<ViT<2>> {
        let none = || Error::config("no vit_tiny");
        let mut c = ViTConfig::<2>::named("vit_tiny", [SIZE; 2], [4; 2]).ok_or_else(none)?;
        c.trunk = TransformerConfig::vit(16, 2, 2, 32);
        let t = &mut c.trunk;
        (t.dropout, t.attention_dropout, t.activation_dropout, t.drop_path) = (0.1, 0.2, 0.1, 0.3);
        c.fixed_positions = self.needs.fixed_positions;
        c.pool = if self.needs.mean_pool { Pool::Mean } else { Pool::Class };
        ViT::new(scope, c)
    }
}

fn conforms(name: &str, config: &mut (dyn OverViews + Sync)) -> Result<()> {
    config.shrink();
    let (config, needs) = (&*config, config.needs());
    for vit in [false, true] {
        if needs.tokens && !vit {
            continue;
        }
        let build = |scope: &Scope| config.build(scope, &Small { vit, needs });
        let of =
            |seed: u64| -> Result<Method<Views>> { build(&Scope::root(&Params::new(), seed, &Device::Cpu)) };
        let dir = tempfile::tempdir().map_err(|e| Error::io("a temporary folder", e))?;
        let trial = Trial::new(format!("{name}, transformer: {vit}"), blobs);
        trial.every_parameter_moves(&*of(0)?, &dir.path().join("moves"))?;
        every_parameter_has_a_place(name, of(0)?.params())?;
        building_twice_changes_nothing(name, build)?;
        trial.resuming_is_exact(of, dir.path())?;
        trial.threads_do_not_change_a_bit(of, &dir.path().join("threads"))?;
        trial.ranks_compute_the_gradient(of, 2, 1e-3)?;
        if vit {
            // The residual network has batch norm.
            trial.parts_compute_the_gradient(&*of(1)?, &[1, 4], 2e-4)?;
        }
        let shown = of(0)?.pictures(&blobs(0, 0)?, &Pass::eval())?;
        assert_eq!(shown.is_empty(), ["i-jepa", "ibot", "dinov2"].contains(&name));
        assert!(shown.iter().all(|p| p.values.dims()[..2] == [BATCH, 3]), "{name}");
    }
    Ok(())
}

#[test]
fn masked_methods_conform() -> Result<()> {
    conforms("mae", &mut MaeConfig::default())?;
    conforms("simmim", &mut SimMimConfig::default())?;
    conforms("i-jepa", &mut IJepaConfig::default())
}

#[test]
fn self_distillation_conforms() -> Result<()> {
    conforms("ibot", &mut IBotConfig::default())?;
    conforms("dinov2", &mut DinoV2Config::default())
}

#[test]
fn pretext_tasks_conform() -> Result<()> {
    conforms("rotation", &mut RotationConfig::default())?;
    conforms("jigsaw", &mut JigsawConfig::default())?;
    conforms("relative-position", &mut RelativePositionConfig::default())?;
    conforms("inpainting", &mut InpaintingConfig::default())
}

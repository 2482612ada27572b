//! Exports are read back by the loader of released weights, where the exported `config.json` decides the
//! network, and by a transformer of plain loops that knows timm's names only.

use super::*;
use selfsup_core::nn::{Interpolation, TransformerConfig};
use selfsup_core::{Encoder, Layer, Pass, Scope};
use selfsup_vision::encoder::{ConvNeXtConfig, SwinConfig, ViT, ViTConfig};
use selfsup_vision::names::{Released, load_pretrained};
use selfsup_vision::recipe::{ConvNeXtKeys, SwinKeys, ViTKeys};

/// A network of 16 pixels in patches of 4, whose every parameter is away from its default.
fn random(change: impl Fn(&mut ViTConfig)) -> (Params, ViT) {
    let mut config = ViTConfig::named("vit_tiny", [16; 2], [4; 2]).unwrap();
    config.trunk = TransformerConfig::vit(8, 2, 2, 16);
    change(&mut config);
    let params = Params::new();
    let net = ViT::new(&Scope::root(&params, 0, &Device::Cpu).sub("encoder"), config).unwrap();
    fill(&params);
    (params, net)
}

/// Every parameter away from its default.
fn fill(params: &Params) {
    for (i, p) in params.all().into_iter().enumerate() {
        let count = p.var.elem_count();
        let value = |j: usize| 0.5 + 0.5 * ((1 + i * 31 + j * 7) as f32).sin();
        let t = Tensor::from_vec((0..count).map(value).collect::<Vec<_>>(), p.var.dims(), &Device::Cpu);
        params.set(&p.name, &t.unwrap()).unwrap();
    }
}

fn pictures() -> Tensor {
    let values: Vec<f32> = (0..2 * 3 * 16 * 16).map(|i| (i as f32 * 0.37).sin()).collect();
    Tensor::from_vec(values, (2, 3, 16, 16), &Device::Cpu).unwrap()
}

fn features(net: &ViT) -> Vec<f32> {
    let y = net.forward(&pictures(), None, &[], &Pass::eval()).unwrap().pooled;
    y.flatten_all().unwrap().to_vec1().unwrap()
}

fn export(net: &ViT, params: &Params, out: &Path, layout: &str) -> Result<()> {
    let architecture = Architecture::ViT(net.config().clone());
    let encoder = EncoderConfig::from(ViTKeys::default());
    let augment = AugmentConfig { size: 16, ..AugmentConfig::default() };
    let exported =
        Exported { architecture: &architecture, encoder: &encoder, augment: &augment, method: "mae" };
    exported.write(params, out, layout)
}

fn read_back(folder: &Path) -> ViT {
    let described = Released::outline(folder).unwrap().described().unwrap();
    assert!(described.assumed.is_empty(), "{:?}", described.assumed);
    let Architecture::ViT(config) = described.architecture else { panic!("a ResNet") };
    let params = Params::new();
    let net = ViT::new(&Scope::root(&params, 0, &Device::Cpu).sub("encoder"), config).unwrap();
    load_pretrained(&params, "encoder", folder).unwrap();
    net
}

fn alike(a: &[f32], b: &[f32]) -> f32 {
    let size = a.iter().fold(1e-6f32, |m, v| m.max(v.abs()));
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).fold(0f32, |m, (a, b)| m.max((a - b).abs())) / size
}

#[test]
fn every_network_that_a_layout_holds_comes_back() {
    type Change = fn(&mut ViTConfig);
    let kinds: [(&str, Change, bool, bool); 13] = [
        ("plain", |_| {}, true, true),
        ("mae", |c| c.pool = Pool::Mean, true, true),
        ("eps", |c| c.trunk.eps = 1e-2, true, true),
        ("layer scale", |c| c.trunk.layer_scale = Some(1.0), true, true),
        (
            "registers",
            |c| {
                (c.registers, c.trunk.layer_scale) = (2, Some(1.0));
                c.interpolation = Interpolation::Antialiased;
            },
            true,
            true,
        ),
        ("positions of patches", |c| (c.positions, c.pool) = (Positioned::Patches, Pool::Mean), true, true),
        ("no class token", |c| (c.class_token, c.pool) = (false, Pool::Mean), true, true),
        (
            "clip",
            |c| {
                (c.norm_pre, c.patch_bias, c.final_norm) = (true, false, FinalNorm::Pooled);
                c.trunk.mlp = MlpForm::QuickGelu;
            },
            true,
            true,
        ),
        ("norm of the mean", |c| (c.final_norm, c.pool) = (FinalNorm::Pooled, Pool::Mean), true, false),
        ("norms of keys", |c| (c.trunk.qk_norm, c.trunk.qkv_bias) = (true, false), true, false),
        (
            "rotary",
            |c| {
                (c.rotary, c.registers, c.trunk.key_bias) = (Some(100.0), 2, false);
                c.trunk.layer_scale = Some(1.0);
            },
            false,
            true,
        ),
        (
            "rotary and gated",
            |c| {
                (c.rotary, c.registers, c.trunk.key_bias) = (Some(50.0), 1, false);
                (c.trunk.layer_scale, c.trunk.mlp, c.pool) = (Some(1.0), MlpForm::SwiGlu, Pool::Mean);
            },
            false,
            true,
        ),
        ("swiglu", |c| (c.trunk.mlp, c.trunk.layer_scale) = (MlpForm::SwiGlu, Some(1.0)), false, true),
    ];
    for (name, change, timm, hf) in kinds {
        let (params, net) = random(change);
        let wanted = features(&net);
        for (layout, holds) in [("timm", timm), ("hf", hf)] {
            let dir = tempfile::tempdir().unwrap();
            let made = export(&net, &params, dir.path(), layout);
            assert_eq!(made.is_ok(), holds, "{name} as {layout}: {made:?}");
            if holds {
                let error = alike(&wanted, &features(&read_back(dir.path())));
                assert!(error < 1e-5, "{name} as {layout}: {error}");
            } else {
                let problem = made.unwrap_err().to_string();
                assert!(problem.contains("encoder.") && problem.contains("--layout"), "{problem}");
            }
        }
    }
}

/// Exports a network whose parameters are away from their defaults, reads it back and compares the features;
/// a refusal is returned.
fn there_and_back(architecture: &Architecture, encoder: EncoderConfig, layout: &str) -> Result<()> {
    let (params, other) = (Params::new(), Params::new());
    let net = architecture.build(&Scope::root(&params, 0, &Device::Cpu).sub("encoder"))?;
    fill(&params);
    let of = |net: &dyn Encoder| -> Vec<f32> {
        let y = net.forward(&pictures(), None, &[], &Pass::eval()).unwrap().pooled;
        y.flatten_all().unwrap().to_vec1().unwrap()
    };
    let augment = AugmentConfig { size: 16, ..AugmentConfig::default() };
    let exported = Exported { architecture, encoder: &encoder, augment: &augment, method: "byol" };
    let dir = tempfile::tempdir().unwrap();
    exported.write(&params, dir.path(), layout)?;
    let described = Released::outline(dir.path())?.described()?;
    assert!(described.assumed.is_empty(), "{:?}", described.assumed);
    let back = described.architecture.build(&Scope::root(&other, 1, &Device::Cpu).sub("encoder"))?;
    load_pretrained(&other, "encoder", dir.path())?;
    assert!(alike(&of(&*net), &of(&*back)) < 1e-5, "{layout}: {architecture:?}");
    Ok(())
}

#[test]
fn networks_of_maps_come_back() {
    let config = ConvNeXtConfig {
        depths: vec![1, 2],
        widths: vec![4, 6],
        patch: 2,
        ..ConvNeXtConfig::named("convnext_tiny").unwrap()
    };
    for (eps, timm) in [(1e-6, true), (1e-2, false)] {
        for layer_scale in [Some(1e-6), None] {
            let architecture = Architecture::ConvNeXt(ConvNeXtConfig { eps, layer_scale, ..config.clone() });
            let keys = ConvNeXtKeys { name: "convnext".into(), ..ConvNeXtKeys::default() };
            let made = there_and_back(&architecture, keys.clone().into(), "timm");
            assert_eq!(made.is_ok(), timm, "{eps}: {made:?}");
            there_and_back(&architecture, keys.into(), "hf").unwrap();
        }
    }
    // The map of the second stage is smaller than a window.
    let config = SwinConfig {
        patch: 2,
        window: 5,
        dim: 8,
        depths: vec![2, 2],
        heads: vec![2, 4],
        ..SwinConfig::named("swin_tiny", 16).unwrap()
    };
    let architecture = Architecture::Swin(config);
    let keys = SwinKeys { name: "swin".into(), ..SwinKeys::default() };
    there_and_back(&architecture, keys.clone().into(), "timm").unwrap();
    let problem = there_and_back(&architecture, keys.into(), "hf").unwrap_err().to_string();
    assert!(problem.contains("--layout timm"), "{problem}");
}

/// `x W^T + b` row by row.
fn linear(x: &[Vec<f64>], w: &[Vec<f64>], b: &[f64]) -> Vec<Vec<f64>> {
    let dot = |x: &[f64], w: &[f64]| x.iter().zip(w).map(|(x, w)| x * w).sum::<f64>();
    x.iter().map(|x| w.iter().zip(b).map(|(w, b)| dot(x, w) + b).collect()).collect()
}

fn layer_norm(x: &[Vec<f64>], w: &[f64], b: &[f64]) -> Vec<Vec<f64>> {
    let one = |x: &Vec<f64>| {
        let n = x.len() as f64;
        let mean = x.iter().sum::<f64>() / n;
        let variance = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
        x.iter().enumerate().map(|(i, v)| (v - mean) / (variance + 1e-6).sqrt() * w[i] + b[i]).collect()
    };
    x.iter().map(one).collect()
}

/// `x Phi(x)`, the error function summed up as a series.
fn gelu(x: f64) -> f64 {
    let z = x / 2f64.sqrt();
    if z.abs() > 4.5 {
        return 0.5 * x * (1.0 + z.signum());
    }
    let (mut term, mut erf) = (z, z);
    for n in 1..200 {
        term *= -z * z / n as f64;
        erf += term / (2 * n + 1) as f64;
    }
    0.5 * x * (1.0 + erf * 2.0 / std::f64::consts::PI.sqrt())
}

/// What `timm.create_model("local-dir:DIR")` computes for one image: the mean of the patches after the norm
/// where `global_pool` is `avg` and `fc_norm` is false, else the class token.
fn by_hand(folder: &Path, image: &[f32]) -> Vec<f64> {
    let tensors = weights::read(folder).unwrap();
    let flat = |n: &str| -> Vec<f64> {
        let t = tensors[n].flatten_all().unwrap().to_vec1::<f32>().unwrap();
        t.into_iter().map(f64::from).collect()
    };
    let rows = |n: &str| -> Vec<Vec<f64>> {
        let all = flat(n);
        all.chunks(all.len() / tensors[n].dims()[0]).map(<[f64]>::to_vec).collect()
    };
    let json: Value = serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
    let arguments = &json["model_args"];
    let heads = arguments["num_heads"].as_u64().unwrap() as usize;
    let depth = arguments["depth"].as_u64().unwrap() as usize;
    let mut patches = Vec::new();
    for p in 0..16 {
        let (top, left) = (p / 4 * 4, p % 4 * 4);
        let at = |i: usize| image[i / 16 * 256 + (top + i % 16 / 4) * 16 + left + i % 4] as f64;
        patches.push((0..48).map(at).collect::<Vec<f64>>());
    }
    let mut x = vec![flat("cls_token")];
    x.extend(linear(&patches, &rows("patch_embed.proj.weight"), &flat("patch_embed.proj.bias")));
    let dim = x[0].len();
    let add = |x: &mut Vec<Vec<f64>>, y: &[Vec<f64>]| {
        x.iter_mut().flatten().zip(y.iter().flatten()).for_each(|(x, y)| *x += y);
    };
    add(&mut x, &flat("pos_embed").chunks(dim).map(<[f64]>::to_vec).collect::<Vec<_>>());
    for i in 0..depth {
        let norm = |x: &[Vec<f64>], n: &str| {
            layer_norm(x, &flat(&format!("blocks.{i}.{n}.weight")), &flat(&format!("blocks.{i}.{n}.bias")))
        };
        let layer = |x: &[Vec<f64>], n: &str| {
            linear(x, &rows(&format!("blocks.{i}.{n}.weight")), &flat(&format!("blocks.{i}.{n}.bias")))
        };
        let qkv = layer(&norm(&x, "norm1"), "attn.qkv");
        let (size, mut attended) = (dim / heads, vec![vec![0.0; dim]; x.len()]);
        for h in 0..heads {
            let part = |row: &Vec<f64>, which: usize| row[which * dim + h * size..][..size].to_vec();
            for (q, out) in qkv.iter().zip(&mut attended) {
                let q = part(q, 0);
                let score = |k: &Vec<f64>| {
                    part(k, 1).iter().zip(&q).map(|(k, q)| k * q).sum::<f64>() / (size as f64).sqrt()
                };
                let scores: Vec<f64> = qkv.iter().map(score).collect();
                let top = scores.iter().fold(f64::MIN, |m, s| m.max(*s));
                let total: f64 = scores.iter().map(|s| (s - top).exp()).sum();
                for (v, s) in qkv.iter().zip(&scores) {
                    let weight = (s - top).exp() / total;
                    part(v, 2).iter().enumerate().for_each(|(j, v)| out[h * size + j] += weight * v);
                }
            }
        }
        add(&mut x, &layer(&attended, "attn.proj"));
        let inside = layer(&norm(&x, "norm2"), "mlp.fc1");
        let inside: Vec<Vec<f64>> = inside.iter().map(|r| r.iter().map(|v| gelu(*v)).collect()).collect();
        add(&mut x, &layer(&inside, "mlp.fc2"));
    }
    let x = layer_norm(&x, &flat("norm.weight"), &flat("norm.bias"));
    if arguments["global_pool"] != "avg" {
        return x[0].clone();
    }
    assert_eq!(arguments["fc_norm"], false);
    (0..dim).map(|j| x[1..].iter().map(|row| row[j]).sum::<f64>() / (x.len() - 1) as f64).collect()
}

#[test]
fn an_export_computes_what_embed_writes() {
    for pool in [Pool::Mean, Pool::Class] {
        let (params, net) = random(|c| c.pool = pool);
        let dir = tempfile::tempdir().unwrap();
        export(&net, &params, dir.path(), "timm").unwrap();
        let pixels: Vec<f32> = pictures().flatten_all().unwrap().to_vec1().unwrap();
        let made: Vec<f32> = pixels
            .chunks(3 * 16 * 16)
            .flat_map(|image| by_hand(dir.path(), image))
            .map(|v| v as f32)
            .collect();
        let error = alike(&features(&net), &made);
        assert!(error < 1e-4, "{pool:?}: {error}");
        // The two poolings differ, or this test would not see one in place of the other.
        let both = net.forward(&pictures(), None, &[Layer::Tokens], &Pass::eval()).unwrap().tokens.unwrap();
        let class = both.narrow(1, 0, 1).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(alike(&class, &made) < 1e-3, pool == Pool::Class);
    }
}

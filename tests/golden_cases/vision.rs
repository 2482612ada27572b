//! Vision models: load the folder as a user would, compare outputs, loss and gradients under the names of the
//! file.

use super::case::{Case, Handler, Outputs, Result};
use super::model::{config, gradients, list, load, one, whole};
use candle_core::{Device, Tensor};
use selfsup_core::objective::{Mae, MaeConfig, random_masking};
use selfsup_core::{Encoder, Layer, Objective, Params, Pass, Progress, Role, Scope, TokenEncoder};
use selfsup_vision::encoder::{Pool, ResNet, ResNetConfig, ViT, ViTConfig};
use selfsup_vision::names::Layout;
use serde_json::Value;

/// Who runs a model's case.
pub fn handler(case: &Case) -> Option<Handler> {
    let name = case.name.split('/').nth(1)?;
    Some(match name {
        n if n.starts_with("resnet") => |c| one(resnet(c)?),
        "vit_timm" => |c| one(vit(c, Layout::Timm)?),
        "dinov2" => |c| one(vit(c, Layout::Dinov2)?),
        "ijepa" => |c| one(vit(c, Layout::HfVit)?),
        "vit_mae" => |c| one(mae(c)?),
        _ => return None,
    })
}

fn resnet(case: &Case) -> Result<Outputs> {
    let c = config(case)?;
    let train = case.name.contains("train");
    let params = Params::new();
    let net = ResNet::new(
        &Scope::root(&params, 0, &Device::Cpu),
        ResNetConfig {
            depths: list(&c, "layers")?,
            widths: list(&c, "channels")?,
            stem: whole(&c, "stem_channels")?,
            bottleneck: c.get("block").and_then(Value::as_str) == Some("bottleneck"),
            base_width: 64,
            small_images: false,
            channels: 3,
        },
    )?;
    load(case, &params, &Layout::Timm.rules())?;
    let pass = if train { Pass::train(0, Progress::default()) } else { Pass::eval() };
    let y = net.forward(&case.input("x")?, None, &[], &pass)?.pooled;
    let mut out = Outputs::from([("expected.y".into(), y.detach())]);
    gradients(&params, &y.sqr()?.mean_all()?, &Layout::Timm.rules(), &mut out)?;
    pass.write_deferred(&params)?;
    for p in params.with_role(Role::Buffer) {
        out.insert(format!("expected.after.{}", p.name), p.var.as_tensor().clone());
    }
    Ok(out)
}

fn vit(case: &Case, layout: Layout) -> Result<Outputs> {
    let c = config(case)?;
    let mut config = ViTConfig::named("vit_tiny", 0, 1).ok_or("no vit_tiny")?;
    let timm = layout == Layout::Timm;
    let key = |timm_name, hf_name| if timm { timm_name } else { hf_name };
    config.image_size = whole(&c, key("img_size", "image_size"))?;
    config.patch = whole(&c, "patch_size")?;
    config.trunk.dim = whole(&c, key("embed_dim", "hidden_size"))?;
    config.trunk.depth = whole(&c, key("depth", "num_hidden_layers"))?;
    config.trunk.heads = whole(&c, key("num_heads", "num_attention_heads"))?;
    config.trunk.hidden = match whole(&c, "intermediate_size") {
        Ok(hidden) => hidden,
        Err(_) => {
            (config.trunk.dim as f64 * c.get("mlp_ratio").and_then(Value::as_f64).unwrap_or(4.0)) as usize
        }
    };
    config.trunk.eps = c.get("layer_norm_eps").and_then(Value::as_f64).unwrap_or(1e-6);
    config.trunk.layer_scale = (layout == Layout::Dinov2).then_some(1.0);
    config.class_token = case.name.split('/').nth(1) != Some("ijepa");
    config.pool = if config.class_token { Pool::Class } else { Pool::Mean };
    let params = Params::new();
    let net = ViT::new(&Scope::root(&params, 0, &Device::Cpu), config)?;
    load(case, &params, &layout.rules())?;
    let x = case.input(key("x", "pixel_values"))?;
    let want: &[Layer] = if timm { &[] } else { &[Layer::Tokens] };
    let features = net.forward(&x, None, want, &Pass::eval())?;
    let mut out = Outputs::new();
    let y = match features.tokens {
        Some(tokens) => {
            out.insert("expected.last_hidden_state".into(), tokens.detach());
            out.insert("expected.pooler_output".into(), features.pooled.detach());
            tokens
        }
        None => {
            out.insert("expected.y".into(), features.pooled.detach());
            features.pooled
        }
    };
    gradients(&params, &y.sqr()?.mean_all()?, &layout.rules(), &mut out)?;
    Ok(out)
}

fn mae(case: &Case) -> Result<Outputs> {
    let c = config(case)?;
    let eps = c.get("layer_norm_eps").and_then(Value::as_f64).unwrap_or(1e-12);
    let mut vit = ViTConfig::named("vit_tiny", whole(&c, "image_size")?, whole(&c, "patch_size")?)
        .ok_or("no vit_tiny")?;
    vit.trunk.dim = whole(&c, "hidden_size")?;
    vit.trunk.depth = whole(&c, "num_hidden_layers")?;
    vit.trunk.heads = whole(&c, "num_attention_heads")?;
    vit.trunk.hidden = whole(&c, "intermediate_size")?;
    vit.trunk.eps = eps;
    vit.fixed_positions = true;
    let decoder_dim = whole(&c, "decoder_hidden_size")?;
    let settings = MaeConfig {
        mask_ratio: c.get("mask_ratio").and_then(Value::as_f64).unwrap_or(0.75),
        norm_pix: c.get("norm_pix_loss").and_then(Value::as_bool).unwrap_or(false),
        decoder_dim,
        decoder_depth: whole(&c, "decoder_num_hidden_layers")?,
        decoder_heads: whole(&c, "decoder_num_attention_heads")?,
        decoder_mlp_ratio: whole(&c, "decoder_intermediate_size")? as f64 / decoder_dim as f64,
        decoder_eps: eps,
    };
    let params = Params::new();
    let build = |s: &Scope| -> selfsup_core::Result<Box<dyn TokenEncoder>> {
        Ok(Box::new(ViT::new(s, vit.clone())?))
    };
    let method = Mae::new(&Scope::root(&params, 0, &Device::Cpu), &build, settings.clone())?;
    load(case, &params, &Layout::VitMae.rules())?;
    let x = case.input("pixel_values")?;
    let noise: Vec<Vec<f32>> = case.input("noise")?.to_vec2()?;
    let masking = random_masking(&noise, settings.mask_ratio)?;
    let made = method.reconstruct(&x, &masking, &Pass::train(0, Progress::default()))?;
    let loss = method.loss_of(&x, &made)?;
    let restore: Vec<i64> = masking.restore.iter().flatten().map(|&r| r as i64).collect();
    let mut out = Outputs::from([
        ("expected.logits".into(), made.pixels.detach()),
        ("expected.mask".into(), made.mask.clone()),
        (
            "expected.ids_restore".into(),
            Tensor::from_vec(restore, (noise.len(), noise[0].len()), &Device::Cpu)?,
        ),
    ]);
    gradients(method.params(), &loss, &Layout::VitMae.rules(), &mut out)?;
    Ok(out)
}

//! Vision models: load the folder as a user would, compare outputs, loss and gradients under the names of the
//! file.

use super::case::{Case, Handler, Outputs, Result};
use super::model::{config, gradients, list, load, one, whole};
use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var};
use selfsup_core::nn::interpolate_positions;
use selfsup_core::objective::Needs;
use selfsup_core::objective::{Mae, MaeConfig, random_masking};
use selfsup_core::{Encoder, Layer, Objective, Params, Pass, Progress, Role, Scope, TokenEncoder, weights};
use selfsup_vision::encoder::{Architecture, ConvNeXt, ResNet, ResNetConfig, Swin, ViT, ViTConfig};
use selfsup_vision::names::{Layout, Pretrained, Released, load_pretrained};
use selfsup_vision::recipe::EncoderConfig;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Who runs a model's case.
pub fn handler(case: &Case) -> Option<Handler> {
    let name = case.name.split('/').nth(1)?;
    Some(match name {
        n if n.starts_with("resnet") => |c| one(resnet(c)?),
        "vit_timm" | "vit_timm_registers" | "vit_timm_resized" | "vit_resized" | "ijepa" => |c| one(vit(c)?),
        "dinov2" | "dinov2_layerscale" | "dinov2_with_registers" | "dinov2_swiglu" => |c| one(vit(c)?),
        "clip_vision" | "dinov3_vit" => |c| one(vit(c)?),
        "convnext_timm" | "convnext_hf" => |c| one(convnext(c)?),
        "swin_timm" => |c| one(swin(c)?),
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
            ..ResNetConfig::named("resnet18").ok_or("no resnet18")?
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

/// The network of a folder, by the steps that the command takes for `encoder.pretrained`: what the weights
/// state gives the keys, and these the network.
fn described(folder: &Path) -> Result<Architecture> {
    let layer = Released::outline(folder)?.described()?.layer(None)?;
    let keys: EncoderConfig = layer.get("encoder").cloned().ok_or("no [encoder]")?.try_into()?;
    // Networks of convolutions have no size of their own.
    let size = layer.get("augment").and_then(|a| a.get("size")?.as_integer()).unwrap_or(64);
    let architecture = keys.resolve(usize::try_from(size)?, Needs::default())?;
    keys.agree(&architecture, &Released::outline(folder)?)?;
    Ok(architecture)
}

/// The vision transformer of a folder, with its weights.
fn released(folder: &Path) -> Result<(Params, ViT, Pretrained)> {
    let Architecture::ViT(config) = described(folder)? else { return Err("no transformer".into()) };
    let params = Params::new();
    let net = ViT::new(&Scope::root(&params, 0, &Device::Cpu).sub("encoder"), config)?;
    let loaded = load_pretrained(&params, "encoder", folder)?;
    Ok((params, net, loaded))
}

/// Gradients of the encoder's parameters under the file's names; returns the sum of their squares.
fn named_gradients(
    params: &Params,
    loaded: &Pretrained,
    store: &GradStore,
    out: &mut Outputs,
) -> Result<f64> {
    let (mut grads, mut square) = (BTreeMap::new(), 0f64);
    for p in params.with_role(Role::Trained) {
        if let (Some(g), Some(name)) = (store.get(p.var.as_tensor()), p.name.strip_prefix("encoder.")) {
            square += f64::from(g.sqr()?.sum_all()?.to_scalar::<f32>()?);
            grads.insert(name.to_string(), g.clone());
        }
    }
    for (name, g) in loaded.layout.rules().gradients_to_theirs(grads)? {
        out.insert(format!("grad.{}{name}", loaded.stripped), g);
    }
    Ok(square)
}

fn convnext(case: &Case) -> Result<Outputs> {
    let Architecture::ConvNeXt(config) = described(&case.folder)? else { return Err("no ConvNeXt".into()) };
    let params = Params::new();
    let net = ConvNeXt::new(&Scope::root(&params, 0, &Device::Cpu).sub("encoder"), config)?;
    let loaded = load_pretrained(&params, "encoder", &case.folder)?;
    let name = if case.maybe("x").is_some() { "x" } else { "pixel_values" };
    let x = Var::from_tensor(&case.input(name)?)?;
    let pass = Pass::eval();
    let want: Vec<Layer> = (0..net.config().depths.len()).map(Layer::Hidden).chain([Layer::Tokens]).collect();
    let features = net.forward(&x, None, &want, &pass)?;
    let first = |t: &Tensor| t.permute((0, 3, 1, 2))?.detach().contiguous(); // (N, H, W, C) -> (N, C, H, W)
    let map = first(&features.tokens.ok_or("no map")?)?;
    let mut out = Outputs::from([
        ("expected.hidden_state.0".into(), first(&net.embeddings(&x, &pass)?)?),
        ("expected.last_hidden_state".into(), map.clone()),
        ("expected.features".into(), map),
        ("expected.pooler_output".into(), features.pooled.detach()),
        ("expected.y".into(), features.pooled.detach()),
    ]);
    for (i, hidden) in features.layers.iter().enumerate() {
        out.insert(format!("expected.hidden_state.{}", i + 1), first(hidden)?);
    }
    finish(&params, &loaded, &features.pooled, (name, &x), case, out)
}

fn swin(case: &Case) -> Result<Outputs> {
    let Architecture::Swin(config) = described(&case.folder)? else { return Err("no Swin".into()) };
    let params = Params::new();
    let net = Swin::new(&Scope::root(&params, 0, &Device::Cpu).sub("encoder"), config)?;
    let loaded = load_pretrained(&params, "encoder", &case.folder)?;
    let x = Var::from_tensor(&case.input("x")?)?;
    let features = net.forward(&x, None, &[Layer::Tokens], &Pass::eval())?;
    let out = Outputs::from([
        ("expected.features".into(), features.tokens.ok_or("no map")?.detach()),
        ("expected.y".into(), features.pooled.detach()),
    ]);
    finish(&params, &loaded, &features.pooled, ("x", &x), case, out)
}

/// Loss and gradients of a network whose features `y` are read out by the case.
fn finish(
    params: &Params,
    loaded: &Pretrained,
    y: &Tensor,
    (name, x): (&str, &Var),
    case: &Case,
    mut out: Outputs,
) -> Result<Outputs> {
    let loss = (y.sqr()?.mean_all()? + (y * case.input("w")?)?.mean_all()?)?;
    out.insert("expected.loss".into(), loss.detach());
    let store = loss.backward()?;
    let square = named_gradients(params, loaded, &store, &mut out)?;
    out.insert("expected.grad_norm".into(), Tensor::new(&[square.sqrt() as f32], &Device::Cpu)?);
    if let Some(g) = store.get(x) {
        out.insert(format!("grad.input.{name}"), g.clone());
    }
    Ok(out)
}

fn vit(case: &Case) -> Result<Outputs> {
    let (params, net, loaded) = released(&case.folder)?;
    let timm = case.maybe("x").is_some();
    let name = if timm { "x" } else { "pixel_values" };
    let x = Var::from_tensor(&case.input(name)?)?;
    let pass = Pass::eval();
    let want: Vec<Layer> = (0..net.config().trunk.depth).map(Layer::Hidden).chain([Layer::Tokens]).collect();
    let features = net.forward(&x, None, &want, &pass)?;
    let tokens = features.tokens.ok_or("no tokens")?;
    let mut out = Outputs::from([
        ("expected.hidden_state.0".into(), net.embeddings(&x, &pass)?.detach()),
        ("expected.last_hidden_state".into(), tokens.detach()),
        ("expected.features".into(), tokens.detach()),
        ("expected.pooler_output".into(), features.pooled.detach()),
        ("expected.y".into(), features.pooled.detach()),
    ]);
    for (i, hidden) in features.layers.iter().enumerate() {
        out.insert(format!("expected.hidden_state.{}", i + 1), hidden.detach());
    }
    let mut y = if timm { features.pooled.clone() } else { tokens };
    // Heads of the file, which the encoder leaves.
    let file = weights::read(case.folder.join("model.safetensors"))?;
    if let (Some(w), Some(b)) = (file.get("pooler.dense.weight"), file.get("pooler.dense.bias")) {
        let pooled = features.pooled.detach().matmul(&w.t()?)?.broadcast_add(b)?.tanh()?;
        out.insert("expected.pooler_output".into(), pooled);
    }
    let head = file.get("visual_projection.weight").map(Var::from_tensor).transpose()?;
    if let Some(head) = &head {
        y = features.pooled.matmul(&head.t()?)?;
        out.insert("expected.image_embeds".into(), y.detach());
    }
    if let Some(wanted) = case.tensors.get("expected.pos_embed") {
        let c = net.config();
        let (old, new) = (c.grid(), [(wanted.dim(1)? - c.position_prefix()).isqrt(); 2]);
        let table = params.all().into_iter().find(|p| p.name == "encoder.pos_embed").ok_or("no pos_embed")?;
        let table = table.var.as_tensor().detach();
        let resized = interpolate_positions(&table, c.position_prefix(), &old, &new, c.interpolation)?;
        out.insert("expected.pos_embed".into(), resized);
    }
    let mut loss = y.sqr()?.mean_all()?;
    if let Some(w) = case.maybe("w") {
        loss = (loss + (&y * w)?.mean_all()?)?;
    }
    out.insert("expected.loss".into(), loss.detach());
    let store = loss.backward()?;
    let mut square = named_gradients(&params, &loaded, &store, &mut out)?;
    if let Some(g) = head.as_ref().and_then(|head| store.get(head)) {
        square += f64::from(g.sqr()?.sum_all()?.to_scalar::<f32>()?);
        out.insert("grad.visual_projection.weight".into(), g.clone());
    }
    out.insert("expected.grad_norm".into(), Tensor::new(&[square.sqrt() as f32], &Device::Cpu)?);
    if let Some(g) = store.get(&x) {
        out.insert(format!("grad.input.{name}"), g.clone());
    }
    Ok(out)
}

fn mae(case: &Case) -> Result<Outputs> {
    let c = config(case)?;
    let eps = c.get("layer_norm_eps").and_then(Value::as_f64).unwrap_or(1e-12);
    let mut vit = ViTConfig::named("vit_tiny", [whole(&c, "image_size")?; 2], [whole(&c, "patch_size")?; 2])
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
        decoder_dim: Some(decoder_dim),
        decoder_depth: Some(whole(&c, "decoder_num_hidden_layers")?),
        decoder_heads: Some(whole(&c, "decoder_num_attention_heads")?),
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

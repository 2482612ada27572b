//! Released weights load strictly: what tools put in front of names is found, what may be left is named, and
//! whatever else the network has no place for is refused.

use candle_core::{Device, Tensor};
use selfsup_core::nn::TransformerConfig;
use selfsup_core::objective::Needs;
use selfsup_core::{Encoder, Layer, Params, Pass, Scope, weights};
use selfsup_vision::augment::AugmentConfig;
use selfsup_vision::encoder::{Architecture, ViT, ViTConfig};
use selfsup_vision::names::{Layout, Released, load_pretrained};
use selfsup_vision::recipe::{EncoderConfig, ResNetKeys, ViTKeys};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

type Tensors = BTreeMap<String, Tensor>;

fn resnet(depths: &[usize]) -> EncoderConfig {
    ResNetKeys {
        name: "resnet".into(),
        depths: Some(depths.to_vec()),
        widths: Some(vec![4, 6]),
        stem: Some(4),
        ..ResNetKeys::default()
    }
    .into()
}

fn vit(depth: usize) -> EncoderConfig {
    ViTKeys {
        name: "vit".into(),
        patch: Some(4),
        dim: Some(8),
        depth: Some(depth),
        heads: Some(2),
        ..ViTKeys::default()
    }
    .into()
}

/// An encoder for images of 16 pixels, and its parameters below `encoder`.
fn built(keys: &EncoderConfig, seed: u64) -> (Params, Architecture) {
    let params = Params::new();
    let architecture = keys.resolve(16, Needs::default()).unwrap();
    architecture.build(&Scope::root(&params, seed, &Device::Cpu).sub("encoder")).unwrap();
    (params, architecture)
}

fn tensors(keys: &EncoderConfig) -> Tensors {
    weights::export(&built(keys, 1).0, "encoder")
}

fn one() -> Tensor {
    Tensor::ones(2, candle_core::DType::F32, &Device::Cpu).unwrap()
}

fn save(dir: &Path, tensors: &Tensors) -> PathBuf {
    let path = dir.join("weights.safetensors");
    let all: HashMap<String, Tensor> = tensors.clone().into_iter().collect();
    candle_core::safetensors::save(&all, &path).unwrap();
    path
}

/// What loading `tensors` into an encoder of these keys says.
fn load(keys: &EncoderConfig, tensors: &Tensors) -> Result<String, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = save(dir.path(), tensors);
    let (params, architecture) = built(keys, 2);
    let outline = Released::outline(&path).map_err(|e| e.to_string())?;
    keys.agree(&architecture, &outline).map_err(|e| e.to_string())?;
    let loaded = load_pretrained(&params, "encoder", &path).map_err(|e| e.to_string())?;
    let (made, wanted) = (weights::export(&params, "encoder"), weights::export(&built(keys, 1).0, "encoder"));
    for (name, t) in &wanted {
        let gap = (t - &made[name]).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert_eq!(gap, 0.0, "{name}");
    }
    Ok(loaded.to_string())
}

fn prefixed(tensors: Tensors, prefix: &str) -> Tensors {
    tensors.into_iter().map(|(n, t)| (format!("{prefix}{n}"), t)).collect()
}

/// torchvision's stages by number, as `torch.nn.Sequential` names them.
fn numbered(tensors: Tensors) -> Tensors {
    let respell = |name: String| match name.split_once('.') {
        Some(("conv1", rest)) => format!("0.{rest}"),
        Some(("bn1", rest)) => format!("1.{rest}"),
        Some(("layer1", rest)) => format!("4.{rest}"),
        Some(("layer2", rest)) => format!("5.{rest}"),
        _ => name,
    };
    tensors.into_iter().map(|(n, t)| (respell(n), t)).collect()
}

#[test]
fn checkpoints_of_other_tools() {
    let keys = resnet(&[1, 1]);
    for (prefix, others, beside) in [
        ("", "", &["fc.weight", "bn1.num_batches_tracked"][..]),
        (
            "module.encoder_q.",
            "module.encoder_k.",
            &["module.encoder_q.fc.0.weight", "module.queue", "module.queue_ptr"],
        ),
        ("module.base_encoder.", "module.momentum_encoder.", &["module.predictor.0.weight"]),
        ("module.encoder.", "", &["module.encoder.fc.3.weight", "module.predictor.0.weight"]),
        ("module.backbone.", "", &["module.projector.0.weight", "module.bn.running_mean"]),
        (
            "teacher.backbone.",
            "student.module.backbone.",
            &["teacher.head.mlp.0.weight", "student.module.head.last_layer.weight", "dino_loss.center"],
        ),
        (
            "backbone.",
            "momentum_backbone.",
            &["projector.0.weight", "momentum_projector.0.weight", "classifier.bias"],
        ),
        ("backbone.", "", &["neck.fc0.weight", "head.fc.weight"]),
    ] {
        let mut file = prefixed(tensors(&keys), prefix);
        if !others.is_empty() {
            // Another encoder must not be taken: its values differ.
            let other = weights::export(&built(&keys, 7).0, "encoder");
            file.extend(prefixed(other, others));
        }
        file.extend(beside.iter().map(|n| ((*n).to_string(), one())));
        let said = load(&keys, &file).unwrap();
        if !prefix.is_empty() {
            assert!(said.contains(&format!("below `{prefix}`")), "{said}");
        }
        assert!(said.contains("left: "), "{said}");
        if !others.is_empty() {
            assert!(said.contains(&format!("another encoder at {}", others.trim_end_matches('.'))), "{said}");
        }
    }
    let said = load(&keys, &prefixed(numbered(tensors(&keys)), "backbone.")).unwrap();
    assert!(said.contains("stages by number"), "{said}");
    let keys = vit(2);
    let mm = Layout::Mm.rules().to_theirs(tensors(&keys)).unwrap();
    let said = load(&keys, &prefixed(mm, "backbone.")).unwrap();
    assert!(said.contains("mmpretrain"), "{said}");
}

#[test]
fn what_has_no_place_is_refused() {
    let with = |keys: &EncoderConfig, names: &[&str]| {
        let mut file = tensors(keys);
        file.extend(names.iter().map(|n| ((*n).to_string(), one())));
        file
    };
    let small = resnet(&[1, 1]);
    let problem = load(&small, &tensors(&resnet(&[2, 1]))).unwrap_err();
    assert!(problem.contains("encoder.depths = [1, 1]") && problem.contains("[2, 1]"), "{problem}");
    let problem = load(&vit(1), &tensors(&vit(2))).unwrap_err();
    assert!(problem.contains("encoder.depth = 1") && problem.ends_with("has 2"), "{problem}");
    for (keys, name) in [
        (&small, "layer1.0.se.fc1.weight"),
        (&small, "adapter.weight"),
        (&vit(1), "blocks.0.attn.gate"),
        (&vit(1), "dist_token"),
    ] {
        let problem = load(keys, &with(keys, &[name])).unwrap_err();
        assert!(problem.contains(name) && problem.contains("weights.safetensors"), "{problem}");
        assert!(problem.contains("expected"), "{problem}");
    }
    let mut file = tensors(&small);
    file.remove("layer2.0.bn2.running_var");
    let problem = load(&small, &file).unwrap_err();
    assert!(problem.contains("missing: layer2.0.bn2.running_var"), "{problem}");
    // Nothing fits: five names beside five expected ones.
    let strange: Tensors = (0..9).map(|i| (format!("features.{i}.weight"), one())).collect();
    let problem = load(&small, &strange).unwrap_err();
    assert!(problem.contains("features.4.weight and 4 more"), "{problem}");
    assert!(problem.contains("layer1.0.conv1.weight, patch_embed.proj.weight"), "{problem}");
    // Another kind of network, and heads that no file tells.
    let problem = load(&small, &tensors(&vit(1))).unwrap_err();
    assert!(problem.contains("vision transformer") && problem.contains("\"resnet\""), "{problem}");
    let EncoderConfig::ViT(keys) = vit(1) else { panic!() };
    let three = ViTKeys { dim: Some(12), heads: Some(3), ..keys };
    let file = tensors(&three.clone().into());
    let problem = load(&ViTKeys { heads: None, ..three }.into(), &file).unwrap_err();
    assert!(problem.contains("encoder.heads is needed"), "{problem}");
}

/// A parameter more than the keys say changes the function: each is refused by its key, and taken where the
/// keys come from the file.
#[test]
fn what_the_file_has_decides() {
    type Change = fn(&mut ViTKeys);
    let changes: [(&str, Change); 8] = [
        ("layer_scale", |k| k.layer_scale = Some(0.5)),
        ("registers", |k| k.registers = Some(3)),
        ("norm_pre", |k| k.norm_pre = Some(true)),
        ("qk_norm", |k| k.qk_norm = Some(true)),
        ("qkv_bias", |k| k.qkv_bias = Some(false)),
        ("patch_bias", |k| k.patch_bias = Some(false)),
        ("act", |k| k.act = Some(selfsup_vision::recipe::Activation::Swiglu)),
        ("dim", |k| k.dim = Some(16)),
    ];
    for (key, change) in changes {
        let EncoderConfig::ViT(mut keys) = vit(2) else { panic!() };
        change(&mut keys);
        let positions =
            if key == "registers" { Some(selfsup_vision::encoder::Positioned::All) } else { None };
        let file: EncoderConfig = ViTKeys { positions, ..keys }.into();
        let file = tensors(&file);
        let dir = tempfile::tempdir().unwrap();
        let path = save(dir.path(), &file);
        let problem = load(&vit(2), &file).unwrap_err();
        assert!(problem.contains(&format!("encoder.{key} = ")), "{key}: {problem}");
        let layer = Released::outline(&path).unwrap().described().unwrap().layer(Some("vit")).unwrap();
        let mut keys: ViTKeys = layer["encoder"].clone().try_into().unwrap();
        keys.heads = Some(2);
        let keys: EncoderConfig = keys.into();
        let (params, architecture) = built(&keys, 2);
        keys.agree(&architecture, &Released::outline(&path).unwrap()).unwrap();
        let loaded = load_pretrained(&params, "encoder", &path).unwrap();
        assert_eq!(loaded.used, file.len(), "{key}");
    }
}

#[test]
fn a_configuration_of_other_weights_is_refused() {
    let golden =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/models/dinov2_with_registers");
    let text = std::fs::read_to_string(golden.join("config.json")).unwrap();
    for (from, to, says) in [
        ("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3", "num_hidden_layers means 3"),
        ("\"num_register_tokens\": 4", "\"num_register_tokens\": 8", "num_register_tokens means 8"),
        ("\"hidden_size\": 32", "\"hidden_size\": 64", "hidden_size means 64"),
        ("\"use_swiglu_ffn\": false", "\"use_swiglu_ffn\": true", "use_swiglu_ffn means 1"),
        ("\"image_size\": 28", "\"image_size\": 56", "image_size means 56"),
        ("\"num_attention_heads\": 4", "\"num_attention_heads\": 5", "5 attention heads"),
        ("\"hidden_act\": \"gelu\"", "\"hidden_act\": \"mish\"", "hidden_act"),
        ("\"layer_norm_eps\": 1e-06", "\"layer_norm_eps\": \"small\"", "layer_norm_eps"),
        ("\"dinov2_with_registers\"", "\"swinv2\"", "model_type"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        assert!(text.contains(from), "{from}");
        std::fs::write(dir.path().join("config.json"), text.replace(from, to)).unwrap();
        std::fs::copy(golden.join("model.safetensors"), dir.path().join("model.safetensors")).unwrap();
        let made = Released::outline(dir.path()).and_then(|r| r.described());
        let problem = made.unwrap_err().to_string();
        assert!(problem.contains(says) && problem.contains("config.json"), "{problem}");
    }
}

/// How images are normalised comes from the files beside the weights, and other keys are refused.
#[test]
fn images_are_normalised_as_the_weights_were_trained() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/models/clip_vision");
    let dir = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(golden.join(name), dir.path().join(name)).unwrap();
    }
    let of = || Released::outline(dir.path()).unwrap();
    let without = of().described().unwrap();
    assert!(
        without.normalisation.is_none()
            && !without.layer(None).unwrap()["augment"].as_table().unwrap().contains_key("mean")
    );
    let text = r#"{"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}"#;
    std::fs::write(dir.path().join("preprocessor_config.json"), text).unwrap();
    let layer = of().described().unwrap().layer(None).unwrap();
    let augment: AugmentConfig = layer["augment"].clone().try_into().unwrap();
    assert_eq!((augment.mean[0], augment.std[1]), (0.481_454_66_f32, 0.261_302_6_f32));
    augment.agree(&of()).unwrap();
    let near = AugmentConfig { mean: [0.481, 0.458, 0.408], ..augment.clone() };
    near.agree(&of()).unwrap();
    let why = AugmentConfig::default().agree(&of()).unwrap_err().to_string();
    assert!(why.contains("augment.mean = [0.485") && why.contains("0.4814546"), "{why}");
}

/// Position embeddings that are interpolated once, on loading, give what transformers and timm compute.
#[test]
fn positions_are_interpolated_on_loading() {
    for (name, input, output) in
        [("vit_resized", "pixel_values", "last_hidden_state"), ("vit_timm_resized", "x", "features")]
    {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/models").join(name);
        let Architecture::ViT(config) = Released::outline(&folder).unwrap().described().unwrap().architecture
        else {
            panic!("{name}: a ResNet")
        };
        let params = Params::new();
        let config = ViTConfig { size: [48; 2], ..config };
        let net = ViT::new(&Scope::root(&params, 0, &Device::Cpu).sub("encoder"), config).unwrap();
        let said = load_pretrained(&params, "encoder", &folder).unwrap().to_string();
        assert!(said.contains("interpolated from 4 x 4 to 6 x 6"), "{said}");
        let io = weights::read(folder.join("io.safetensors")).unwrap();
        let x = &io[&format!("input.{input}")];
        let made = net.forward(x, None, &[Layer::Tokens], &Pass::eval()).unwrap().tokens.unwrap();
        let gap = (made - &io[&format!("expected.{output}")]).unwrap().abs().unwrap().max_all().unwrap();
        assert!(gap.to_scalar::<f32>().unwrap() < 1e-4, "{name}");
    }
}

/// The default network has a place for every parameter, with all that released weights may bring.
#[test]
fn a_transformer_with_everything_trains() {
    let mut config = ViTConfig::named("vit_tiny", [16; 2], [4; 2]).unwrap();
    config.trunk =
        TransformerConfig { qk_norm: true, layer_scale: Some(0.1), ..TransformerConfig::vit(8, 1, 2, 16) };
    (config.registers, config.norm_pre) = (2, true);
    let params = Params::new();
    let net = ViT::new(&Scope::root(&params, 0, &Device::Cpu), config).unwrap();
    let values: Vec<f32> = (0..2 * 3 * 16 * 16).map(|i| (i as f32 * 0.37).sin()).collect();
    let x = Tensor::from_vec(values, (2, 3, 16, 16), &Device::Cpu).unwrap();
    let y = net.forward(&x, None, &[Layer::Tokens], &Pass::eval()).unwrap().tokens.unwrap();
    assert_eq!(y.dims(), [2, 1 + 2 + 16, 8]);
    let grads = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
    for p in params.all() {
        assert!(grads.get(p.var.as_tensor()).is_some(), "{}", p.name);
    }
}

//! What every encoder of images must satisfy: a second build changes nothing, and each parameter says where
//! it stands, which fine-tuning goes by.

use candle_core::{DType, Device, Tensor};
use selfsup_core::candle_nn::{self, Activation, Conv2dConfig, Module};
use selfsup_core::conformance::{
    building_twice_changes_nothing, every_parameter_has_a_place, fine_tuning_rates,
};
use selfsup_core::nn::TransformerConfig;
use selfsup_core::{AsModule, Encoder, Foreign, Layer, Params, Pass, Result, Scope};
use selfsup_kernels::Path;
use selfsup_vision::encoder::{
    ConvNeXt, ConvNeXtConfig, ResNet, ResNetConfig, Swin, SwinConfig, ViT, ViTConfig,
};

fn resnet(scope: &Scope) -> Result<Box<dyn Encoder>> {
    let base = ResNetConfig::named("resnet18").unwrap();
    let config = ResNetConfig { depths: vec![1, 2], widths: vec![4, 6], stem: 4, ..base };
    Ok(Box::new(ResNet::new(scope, config)?))
}

fn convnext(scope: &Scope) -> Result<Box<dyn Encoder>> {
    let base = ConvNeXtConfig::named("convnext_tiny").unwrap();
    let config =
        ConvNeXtConfig { depths: vec![1, 2], widths: vec![4, 6], patch: 2, layer_scale: Some(0.5), ..base };
    Ok(Box::new(ConvNeXt::new(scope, config)?))
}

/// Two stages; the second block of the first one is shifted, and its map of 8 is padded to windows of 3.
fn swin(scope: &Scope) -> Result<Box<dyn Encoder>> {
    let base = SwinConfig::named("swin_tiny", 16).unwrap();
    let config = SwinConfig { patch: 2, window: 3, dim: 8, depths: vec![2, 1], heads: vec![2, 2], ..base };
    Ok(Box::new(Swin::new(scope, config)?))
}

/// The network of DINOv3.
fn rotary(scope: &Scope) -> Result<Box<dyn Encoder>> {
    let mut config = ViTConfig::named("vit_tiny", [16; 2], [4; 2]).unwrap();
    config.trunk =
        TransformerConfig { layer_scale: Some(0.1), key_bias: false, ..TransformerConfig::vit(16, 3, 2, 32) };
    (config.rotary, config.registers) = (Some(100.0), 2);
    Ok(Box::new(ViT::new(scope, config)?))
}

fn vit(scope: &Scope, fixed: bool) -> Result<Box<dyn Encoder>> {
    let mut config = ViTConfig::named("vit_tiny", [16; 2], [4; 2]).unwrap();
    config.trunk = TransformerConfig { layer_scale: Some(0.1), ..TransformerConfig::vit(16, 3, 2, 32) };
    config.fixed_positions = fixed;
    Ok(Box::new(ViT::new(scope, config)?))
}

/// A network of candle-nn.
fn foreign(scope: &Scope) -> Result<Box<dyn Encoder>> {
    let build = |s: &Scope| {
        let half = Conv2dConfig { stride: 2, padding: 1, ..Conv2dConfig::default() };
        Ok(candle_nn::seq()
            .add(candle_nn::conv2d(3, 4, 3, half, s.stem().sub("conv1").var_builder())?)
            .add_fn(|x| selfsup_kernels::activation::relu(x, Path::Auto))
            .add(candle_nn::conv2d(4, 6, 3, half, s.block(0).sub("conv2").var_builder())?)
            .add(Activation::Gelu)
            .add_fn(|x| x.mean((2, 3)))
            .add(candle_nn::linear(6, 5, s.top().sub("fc").var_builder())?))
    };
    Ok(Box::new(Foreign::new(scope, 5, build)?))
}

type Build = Box<dyn Fn(&Scope) -> Result<Box<dyn Encoder>>>;

fn all() -> Vec<(&'static str, Build)> {
    vec![
        ("resnet", Box::new(resnet)),
        ("convnext", Box::new(convnext)),
        ("swin", Box::new(swin)),
        ("vit with rotary positions", Box::new(rotary)),
        ("vit", Box::new(|s| vit(s, false))),
        ("vit with sines", Box::new(|s| vit(s, true))),
        ("candle-nn", Box::new(foreign)),
    ]
}

#[test]
fn a_second_build_changes_nothing() {
    for (name, build) in all() {
        building_twice_changes_nothing(name, build).unwrap();
    }
}

#[test]
fn every_parameter_stands_somewhere() {
    for (name, build) in all() {
        let params = Params::new();
        build(&Scope::root(&params, 0, &Device::Cpu)).unwrap();
        every_parameter_has_a_place(name, &params).unwrap();
    }
}

#[test]
fn fine_tuning_takes_blocks_from_the_top() {
    let rates = |build: &dyn Fn(&Scope) -> Result<Box<dyn Encoder>>, blocks| {
        fine_tuning_rates(build, blocks).unwrap()
    };
    let learned = |s: &Scope| vit(s, false);
    let whole = [
        "blocks.0 0.125",
        "blocks.1 0.25",
        "blocks.2 0.5",
        "cls_token 0.0625",
        "norm 1",
        "patch_embed 0.0625",
        "pos_embed 0.0625",
    ];
    assert_eq!(rates(&learned, None), whole);
    assert_eq!(rates(&learned, Some(3)), ["blocks.0 0.125", "blocks.1 0.25", "blocks.2 0.5", "norm 1"]);
    assert_eq!(rates(&learned, Some(1)), ["blocks.2 0.5", "norm 1"]);
    assert_eq!(rates(&learned, Some(0)), [""; 0]);
    let whole = ["bn1 0.125", "conv1 0.125", "layer1.0 0.25", "layer2.0 0.5", "layer2.1 0.5"];
    assert_eq!(rates(&resnet, None), whole);
    assert_eq!(rates(&resnet, Some(2)), ["layer1.0 0.25", "layer2.0 0.5", "layer2.1 0.5"]);
    assert_eq!(rates(&resnet, Some(1)), ["layer2.0 0.5", "layer2.1 0.5"]);
    let whole = ["head 1", "stages.0 0.25", "stages.1 0.5", "stem.0 0.125", "stem.1 0.125"];
    assert_eq!(rates(&convnext, None), whole);
    let swins = ["layers.0 0.25", "layers.1 0.5", "norm 1", "patch_embed 0.125"];
    assert_eq!(rates(&swin, None), swins);
    assert_eq!(rates(&convnext, Some(1)), ["head 1", "stages.1 0.5"]);
    assert_eq!(rates(&foreign, None), ["conv1 0.25", "conv2 0.5", "fc 1"]);
    assert_eq!(rates(&foreign, Some(1)), ["conv2 0.5", "fc 1"]);
}

/// Hidden layers come in the order of the request; one that the network has not is an error.
#[test]
fn layers_come_as_they_were_asked_for() {
    // A module of candle-nn hands out its output alone.
    for (name, build) in all().into_iter().filter(|(name, _)| *name != "candle-nn") {
        let net = build(&Scope::root(&Params::new(), 0, &Device::Cpu)).unwrap();
        let x = Tensor::ones((2, 3, 16, 16), DType::F32, &Device::Cpu).unwrap();
        let layers = |want: &[Layer]| net.forward(&x, None, want, &Pass::eval()).map(|f| f.layers);
        let sum = |t: &Tensor| t.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
        let forth = layers(&[Layer::Hidden(0), Layer::Tokens, Layer::Hidden(1)]).unwrap();
        let back = layers(&[Layer::Hidden(1), Layer::Hidden(0), Layer::Hidden(1)]).unwrap();
        let (forth, back): (Vec<f32>, Vec<f32>) =
            (forth.iter().map(sum).collect(), back.iter().map(sum).collect());
        assert_eq!(back, [forth[1], forth[0], forth[1]], "{name}");
        let error = layers(&[Layer::Hidden(9)]).unwrap_err().to_string();
        assert!(error.contains("Hidden(9)"), "{name}: {error}");
    }
}

/// Every encoder is a module of candle-nn: its evaluation pass.
#[test]
fn encoders_are_modules() {
    for (name, build) in all() {
        let net = build(&Scope::root(&Params::new(), 0, &Device::Cpu)).unwrap();
        let x = Tensor::ones((2, 3, 16, 16), DType::F32, &Device::Cpu).unwrap();
        let pooled = net.forward(&x, None, &[], &Pass::eval()).unwrap().pooled;
        let module = AsModule(net);
        assert_eq!(
            module.forward(&x).unwrap().to_vec2::<f32>().unwrap(),
            pooled.to_vec2::<f32>().unwrap(),
            "{name}"
        );
        assert!(module.forward(&x.narrow(1, 0, 2).unwrap()).is_err(), "{name}: two channels of three");
    }
}

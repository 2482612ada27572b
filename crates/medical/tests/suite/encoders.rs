//! What every network of volumes must satisfy: maps of the promised widths and strides, a decoder that comes
//! back to the input's grid, names that files of other libraries have.

use candle_core::{DType, Device, Tensor};
use proptest::prelude::*;
use selfsup_core::conformance::{
    building_twice_changes_nothing, every_parameter_has_a_place, fine_tuning_rates,
};
use selfsup_core::{Key, Params, Pass, Progress, Scope};
use selfsup_medical::encoder::{
    ActKind, MonaiConfig, NormKind, ResNet3dConfig, Shortcut, UNetConfig, ViT3dConfig,
};
use selfsup_medical::names;
use selfsup_medical::recipe::Architecture;

fn random(shape: &[usize], seed: u64) -> Tensor {
    let mut r = Key::new(seed).rng();
    Tensor::from_vec(
        (0..shape.iter().product()).map(|_| r.normal()).collect::<Vec<f32>>(),
        shape,
        &Device::Cpu,
    )
    .unwrap()
}

fn train() -> Pass {
    Pass::train(0, Progress::default())
}

/// Maps, pooled features and the decoder's result of a network on `x`.
fn check(a: &Architecture, x: &Tensor, outputs: usize) {
    let params = Params::new();
    let net = a.dense(&Scope::root(&params, 0, &Device::Cpu), outputs, false).unwrap();
    let (n, _, d, h, w) = x.dims5().unwrap();
    let maps = net.encoder.maps(x, &train()).unwrap();
    let planar = matches!(a, Architecture::UNet(c) if c.planar);
    assert_eq!(maps.len(), net.encoder.scales().len());
    for (map, scale) in maps.iter().zip(net.encoder.scales()) {
        let across = if planar { 1 } else { scale.stride };
        assert_eq!(map.dims(), [n, d / across, h / scale.stride, w / scale.stride, scale.width], "{a:?}");
    }
    assert_eq!(net.encoder.forward(x, None, &[], &train()).unwrap().pooled.dims(), [n, net.encoder.dim()]);
    let (y, _) = net.forward(x, &train()).unwrap();
    assert_eq!(y.dims(), [n, d, h, w, outputs], "{a:?}");
    // Every parameter has a part in it.
    let grads = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
    for p in params.with_role(selfsup_core::Role::Trained) {
        assert!(grads.get(p.var.as_tensor()).is_some(), "{}", p.name);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, rng_seed: proptest::test_runner::RngSeed::Fixed(5), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn monai_unets(levels in 2usize..4, stride in 1usize..3, units in 0usize..3, norm in 0usize..3, act in 0usize..3, kernel in 0usize..2, seed in 0u64..99) {
        let widths: Vec<usize> = (0..levels).map(|l| 3 + 2 * l).collect();
        let mut c = MonaiConfig::new(2, 3, &widths, &vec![stride; levels - 1]);
        c.num_res_units = units;
        c.kernel_size = [3, 5][kernel];
        c.norm = [NormKind::InstancePlain, NormKind::Instance, NormKind::Batch][norm];
        c.act = [ActKind::Prelu, ActKind::Relu, ActKind::LeakyRelu][act];
        check(&Architecture::Monai(c.clone()), &random(&[2, 2, 8, 4, 4], seed), 3);
        // Its names and arguments go out and come back.
        let params = Params::new();
        Architecture::Monai(c.clone()).dense(&Scope::root(&params, 1, &Device::Cpu), 3, false).unwrap();
        let rules = names::monai(levels).unwrap();
        let ours = selfsup_core::weights::export(&params, "");
        let theirs = rules.to_theirs(ours.clone()).unwrap();
        prop_assert!(theirs.keys().all(|k| k.starts_with("model.")), "{:?}", theirs.keys());
        let back = rules.to_ours(theirs).unwrap();
        prop_assert_eq!(back.keys().collect::<Vec<_>>(), ours.keys().collect::<Vec<_>>());
        prop_assert_eq!(names::monai_config(&names::monai_json(&c)).unwrap(), c);
    }

    #[test]
    fn unets(levels in 1usize..4, norm in 0usize..4, act in 0usize..4, planar in prop::bool::ANY, seed in 0u64..99) {
        let mut c = UNetConfig::new(1, &[4, 5, 6][..levels]);
        c.norm = [NormKind::InstancePlain, NormKind::Instance, NormKind::Batch, NormKind::None][norm];
        c.act = [ActKind::Prelu, ActKind::Relu, ActKind::LeakyRelu, ActKind::None][act];
        c.planar = planar;
        // Planes are not halved: any number of them will do.
        check(&Architecture::UNet(c), &random(&[2, 1, if planar { 3 } else { 4 }, 8, 4], seed), 2);
    }
}

/// A planar network is the one in three dimensions whose kernels are zero but in their middle plane; each
/// plane is taken by itself.
#[test]
fn planes_are_taken_by_themselves() {
    let c = UNetConfig { norm: NormKind::Batch, planar: true, ..UNetConfig::new(1, &[5]) };
    let (flat, deep) = (Params::new(), Params::new());
    let net = Architecture::UNet(c.clone()).dense(&Scope::root(&flat, 3, &Device::Cpu), 2, false).unwrap();
    let same = Architecture::UNet(UNetConfig { planar: false, ..c })
        .dense(&Scope::root(&deep, 4, &Device::Cpu), 2, false)
        .unwrap();
    for (name, theirs) in selfsup_core::weights::export(&flat, "") {
        let p = deep.get(&name).unwrap();
        let made = match theirs.dims() {
            &[o, i, h, w] => {
                let (plane, d) = (theirs.reshape((o, i, 1, h, w)).unwrap(), p.var.dims()[2]);
                plane.pad_with_zeros(2, d / 2, d / 2).unwrap()
            }
            _ => theirs,
        };
        p.var.set(&made).unwrap();
    }
    let x = random(&[2, 1, 3, 6, 5], 1);
    let run =
        |net: &selfsup_medical::encoder::Dense, x: &Tensor, pass: &Pass| net.forward(x, pass).unwrap().0;
    let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let near = |a: &Tensor, b: &Tensor| values(a).iter().zip(values(b)).all(|(a, b)| (a - b).abs() < 1e-4);
    assert!(near(&run(&net, &x, &train()), &run(&same, &x, &train())));
    let all = run(&net, &x, &Pass::eval());
    for plane in 0..3 {
        let alone = run(&net, &x.narrow(2, plane, 1).unwrap().contiguous().unwrap(), &Pass::eval());
        assert!(near(&alone, &all.narrow(1, plane, 1).unwrap()), "{plane}");
    }
    // Three planes are fine, a width that cannot be halved is not.
    let net = Architecture::UNet(UNetConfig { planar: true, ..UNetConfig::new(1, &[2, 2]) })
        .maps(&Scope::root(&Params::new(), 0, &Device::Cpu))
        .unwrap();
    assert!(
        net.maps(&random(&[1, 1, 3, 4, 5], 0), &Pass::eval())
            .unwrap_err()
            .to_string()
            .contains("multiples of 2")
    );
}

#[test]
fn residual_networks() {
    for (small, dilated, bottleneck, shortcut) in [
        (true, false, false, Shortcut::Convolution),
        (false, true, false, Shortcut::Zeros),
        (true, true, true, Shortcut::Convolution),
        (false, false, true, Shortcut::Zeros),
    ] {
        let c = ResNet3dConfig {
            depths: vec![1, 2, 1],
            widths: vec![4, 6, 8],
            stem: 4,
            bottleneck,
            small,
            dilated,
            shortcut,
            base_width: 64,
            channels: 1,
        };
        check(&Architecture::ResNet(c, NormKind::Batch), &random(&[2, 1, 16, 16, 16], 1), 2);
    }
    // MedicalNet's ResNet-10: 14.4 million parameters, the last map at an eighth of the resolution.
    let c = ResNet3dConfig { dilated: true, ..ResNet3dConfig::named("resnet3d10").unwrap() };
    let params = Params::new();
    let net =
        Architecture::ResNet(c, NormKind::Instance).maps(&Scope::root(&params, 0, &Device::Cpu)).unwrap();
    assert_eq!(params.count(selfsup_core::Role::Trained), 14_355_520);
    assert_eq!(net.scales().last().unwrap().stride, 8);
    assert!(params.get("layer4.0.downsample.0.weight").is_some() && params.get("bn1.running_mean").is_some());
}

#[test]
fn transformers() {
    let mut c = ViT3dConfig::named("vit3d_tiny", [8, 8, 16], [4, 4, 4]).unwrap();
    c.trunk = selfsup_core::nn::TransformerConfig::vit(16, 1, 2, 32);
    check(&Architecture::ViT(c.clone(), NormKind::Instance), &random(&[2, 1, 8, 8, 16], 1), 2);
    // A decoder doubles each axis alike, and by twos.
    for patch in [[4, 2, 4], [3, 3, 3]] {
        let odd = ViT3dConfig { size: [12; 3], patch, ..c.clone() };
        let made = Architecture::ViT(odd, NormKind::Instance).dense(
            &Scope::root(&Params::new(), 0, &Device::Cpu),
            2,
            false,
        );
        assert!(made.err().unwrap().to_string().contains("power"), "{patch:?}");
    }
}

#[test]
fn what_cannot_be_built_is_named() {
    let scope = || Scope::root(&Params::new(), 0, &Device::Cpu);
    let says = |a: Architecture, part: &str| {
        let e = a.dense(&scope(), 2, false).err().unwrap().to_string();
        assert!(e.contains(part), "{e}");
    };
    says(Architecture::UNet(UNetConfig::new(1, &[])), "widths");
    says(Architecture::UNet(UNetConfig::new(1, &[4, 0])), "widths");
    says(Architecture::Monai(MonaiConfig::new(1, 1, &[4, 8], &[2, 2])), "strides");
    says(Architecture::Monai(MonaiConfig { kernel_size: 2, ..MonaiConfig::new(1, 1, &[4, 8], &[2]) }), "odd");
    says(
        Architecture::ResNet(
            ResNet3dConfig { widths: vec![4], ..ResNet3dConfig::named("resnet3d18").unwrap() },
            NormKind::Instance,
        ),
        "depths",
    );
    let x = Tensor::zeros((1, 1, 6, 8, 8), DType::F32, &Device::Cpu).unwrap();
    let net = Architecture::UNet(UNetConfig::new(1, &[2, 2, 2])).maps(&scope()).unwrap();
    assert!(net.maps(&x, &Pass::eval()).unwrap_err().to_string().contains("multiples of 4"));
}

/// Small networks of each kind.
fn all() -> Vec<(&'static str, Architecture)> {
    let vit = |fixed| {
        let mut c = ViT3dConfig::named("vit3d_tiny", [8; 3], [4; 3]).unwrap();
        c.trunk = selfsup_core::nn::TransformerConfig::vit(24, 2, 2, 48);
        c.fixed_positions = fixed;
        Architecture::ViT(c, NormKind::Instance)
    };
    let resnet = ResNet3dConfig::named("resnet3d18").unwrap();
    let resnet = ResNet3dConfig { depths: vec![1, 1], widths: vec![4, 6], stem: 4, small: true, ..resnet };
    vec![
        ("unet3d", Architecture::UNet(UNetConfig::new(1, &[4, 5, 6]))),
        ("monai_unet", Architecture::Monai(MonaiConfig::new(1, 1, &[4, 5, 6], &[2, 2]))),
        ("resnet3d", Architecture::ResNet(resnet, NormKind::Instance)),
        ("vit3d", vit(false)),
        ("vit3d with sines", vit(true)),
    ]
}

#[test]
fn a_second_build_changes_nothing() {
    for (name, a) in all() {
        building_twice_changes_nothing(name, |s| a.build(s)).unwrap();
        building_twice_changes_nothing(name, |s| a.dense(s, 2, false)).unwrap();
    }
}

#[test]
fn every_parameter_stands_somewhere() {
    for (name, a) in all() {
        let params = Params::new();
        a.dense(&Scope::root(&params, 0, &Device::Cpu), 2, false).unwrap();
        every_parameter_has_a_place(name, &params).unwrap();
    }
}

#[test]
fn fine_tuning_takes_blocks_from_the_top() {
    let expected: [(Vec<&str>, Vec<&str>); 5] = [
        (vec!["0 0.125", "1 0.25", "2 0.5"], vec!["2 0.5"]),
        (vec!["0 0.125", "1 0.25", "2 0.5"], vec!["2 0.5"]),
        (vec!["bn1 0.125", "conv1 0.125", "layer1.0 0.25", "layer2.0 0.5"], vec!["layer2.0 0.5"]),
        (
            vec!["blocks.0 0.25", "blocks.1 0.5", "norm 1", "patch_embed 0.125", "pos_embed 0.125"],
            vec!["blocks.1 0.5", "norm 1"],
        ),
        (
            vec!["blocks.0 0.25", "blocks.1 0.5", "norm 1", "patch_embed 0.125"],
            vec!["blocks.1 0.5", "norm 1"],
        ),
    ];
    for ((name, a), (whole, last)) in all().into_iter().zip(expected) {
        assert_eq!(fine_tuning_rates(|s| a.build(s), None).unwrap(), whole, "{name}");
        assert_eq!(fine_tuning_rates(|s| a.build(s), Some(1)).unwrap(), last, "{name}");
    }
}

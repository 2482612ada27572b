//! What every method must satisfy: each parameter moves, resuming is exact, micro-batches compute the
//! gradient of the whole batch, and the result does not depend on the number of threads.

use candle_core::{Device, Tensor};
use selfsup_core::candle_nn::{self, Activation, Conv2dConfig};
use selfsup_core::conformance::Trial;
use selfsup_core::objective::{Erased, Objective, Pair, SimClr, SimClrConfig, Views, boxed};
use selfsup_core::{Error, Foreign, Key, Params, Pass, Progress, Result, Scope, weights};
use selfsup_vision::recipe::{
    Architecture, ConvNeXtKeys, EncoderConfig, Method, MethodConfig, ResNetKeys, SwinKeys, ViTKeys,
};

const SIZE: usize = 16;
const BATCH: usize = 8;

/// Smooth images that differ from each other; two noisy views of each.
fn blobs(epoch: u64, b: usize) -> Result<Views> {
    let view = |which: u64| -> Result<Tensor> {
        let mut values = Vec::new();
        for i in 0..BATCH {
            let mut place = Key::new(7).fold((b * BATCH + i) as u64).rng();
            let (fx, fy, phase) = (place.uniform() * 0.8, place.uniform() * 0.8, place.uniform() * 6.0);
            let mut noise = Key::new(8).fold(epoch).fold((b * BATCH + i) as u64).fold(which).rng();
            for c in 0..3 {
                for y in 0..SIZE {
                    for x in 0..SIZE {
                        values.push(
                            (fx * x as f32 + fy * y as f32 + phase + c as f32).sin() + 0.3 * noise.normal(),
                        );
                    }
                }
            }
        }
        Ok(Tensor::from_vec(values, (BATCH, 3, SIZE, SIZE), &Device::Cpu)?)
    };
    // The colours of the first view, for methods that see it in gray.
    let colours = view(0)?.affine(0.25, 0.5)?.clamp(0f32, 1f32)?;
    let indices = (b * BATCH..(b + 1) * BATCH).collect();
    Ok(Views { targets: Some(colours), ..Views::of(vec![view(0)?, view(1)?], indices) })
}

fn small(name: &str) -> MethodConfig {
    let mut method = MethodConfig::named(name).unwrap();
    method.over_views_mut().unwrap().shrink();
    method
}

fn build(name: &str, seed: u64, vit: bool) -> Method {
    let method = small(name);
    let resnet = ResNetKeys {
        name: "resnet".into(),
        depths: Some(vec![1, 1]),
        widths: Some(vec![8, 12]),
        stem: Some(8),
        ..ResNetKeys::default()
    };
    let transformer = ViTKeys {
        name: "vit".into(),
        dim: Some(16),
        depth: Some(2),
        heads: Some(2),
        mlp_ratio: Some(2.0),
        patch: Some(4),
        ..ViTKeys::default()
    };
    build_with(name, seed, if vit || method.needs().tokens { transformer.into() } else { resnet.into() })
}

/// A method around this encoder.
fn build_with(name: &str, seed: u64, encoder: EncoderConfig) -> Method {
    let method = small(name);
    let params = Params::new();
    let scope = Scope::root(&params, seed, &Device::Cpu);
    let mut architecture = encoder.resolve(SIZE, method.needs()).unwrap();
    if let Architecture::ViT(c) = &mut architecture {
        let t = &mut c.trunk;
        (t.dropout, t.attention_dropout, t.activation_dropout, t.drop_path) = (0.1, 0.2, 0.1, 0.3);
    }
    method.build(&scope, &architecture).unwrap()
}

/// With two small crops for methods that take them, and labels of some.
fn trial(name: &str) -> Trial<'static, Views> {
    let crops = small(name).wanted().crops();
    Trial::new(name, move |epoch, b| {
        let mut views = blobs(epoch, b)?;
        if crops {
            let corner = |v: &Tensor| v.narrow(2, 4, SIZE / 2)?.narrow(3, 4, SIZE / 2)?.contiguous();
            views.locals = views.globals.iter().map(corner).collect::<candle_core::Result<_>>()?;
        }
        views.labels = views.indices.iter().map(|&i| (i % 4 > 0).then_some(i as u32 % 3)).collect();
        Ok(views)
    })
}

/// SimCLR around a network of candle-nn.
fn simclr_of_candle_nn(seed: u64) -> Result<Method> {
    let network = |s: &Scope| {
        let half = Conv2dConfig { stride: 2, padding: 1, ..Conv2dConfig::default() };
        Ok(candle_nn::seq()
            .add(candle_nn::conv2d(3, 8, 3, half, s.stem().sub("conv").var_builder())?)
            .add(Activation::Gelu)
            .add_fn(|x| x.mean((2, 3)))
            .add(candle_nn::linear(8, 16, s.top().no_decay().sub("fc").var_builder())?))
    };
    let heads = SimClrConfig { hidden_dim: 16, out_dim: 8, ..SimClrConfig::default() };
    let scope = Scope::root(&Params::new(), seed, &Device::Cpu);
    Ok(boxed(SimClr::new(&scope, &|s| Ok(Box::new(Foreign::new(s, 16, network)?)), heads)?))
}

#[test]
fn a_network_of_candle_nn_trains() {
    let dir = tempfile::tempdir().unwrap();
    let trial = Trial::new("candle-nn", blobs).epochs(12);
    let method = simclr_of_candle_nn(0).unwrap();
    trial.every_parameter_moves(&*method, &dir.path().join("run")).unwrap();
    // The loss of the same batch, before and after the training.
    let loss = |method: &Method| {
        let pass = Pass::train(0, Progress::default());
        let embedded = method.embed(&blobs(0, 0).unwrap(), &pass).unwrap();
        method.criterion(&embedded, &pass).unwrap().value.to_scalar::<f32>().unwrap()
    };
    let (before, after) = (loss(&simclr_of_candle_nn(0).unwrap()), loss(&method));
    assert!(after < before - 0.1, "{before} {after}");
    // Exported by the names of its layers; decay as its scope says.
    let exported = weights::export(method.params(), "encoder");
    let names: Vec<&str> = exported.keys().map(String::as_str).collect();
    assert_eq!(names, ["conv.bias", "conv.weight", "fc.bias", "fc.weight"]);
    let decays = |name: &str| method.params().get(name).unwrap().decay;
    assert_eq!([decays("encoder.conv.weight"), decays("encoder.fc.weight")], [true, false]);

    let trial = Trial::new("candle-nn", blobs);
    trial.resuming_is_exact(simclr_of_candle_nn, &dir.path().join("resumed")).unwrap();
    trial.threads_do_not_change_a_bit(simclr_of_candle_nn, &dir.path().join("threads")).unwrap();
    trial.ranks_compute_the_gradient(simclr_of_candle_nn, 2, 1e-3).unwrap();
}

#[test]
fn every_parameter_moves() {
    for name in MethodConfig::NAMES {
        for vit in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            trial(name).every_parameter_moves(&*build(name, 0, vit), &dir.path().join("run")).unwrap();
        }
    }
}

#[test]
fn resuming_is_exact() {
    for name in MethodConfig::NAMES {
        let dir = tempfile::tempdir().unwrap();
        trial(name).resuming_is_exact(|seed| Ok(build(name, seed, false)), dir.path()).unwrap();
    }
}

/// Encoders besides the two above, with stochastic depth.
fn others() -> [EncoderConfig; 3] {
    let convnext = ConvNeXtKeys {
        name: "convnext".into(),
        depths: Some(vec![1, 1]),
        widths: Some(vec![8, 12]),
        layer_scale: Some(0.5),
        drop_path: Some(0.3),
        ..ConvNeXtKeys::default()
    };
    // The second block is shifted.
    let swin = SwinKeys {
        name: "swin".into(),
        dim: Some(8),
        depths: Some(vec![2, 1]),
        heads: Some(vec![2, 2]),
        window: Some(2),
        drop_path: Some(0.3),
        ..SwinKeys::default()
    };
    let rotary = ViTKeys {
        name: "vit".into(),
        dim: Some(16),
        depth: Some(2),
        heads: Some(2),
        patch: Some(4),
        rotary: Some(100.0),
        key_bias: Some(false),
        registers: Some(1),
        layer_scale: Some(0.5),
        ..ViTKeys::default()
    };
    [convnext.into(), swin.into(), rotary.into()]
}

#[test]
fn other_encoders() {
    for encoder in others() {
        let build = |seed| build_with("moco", seed, encoder.clone());
        let (trial, dir) = (trial("moco"), tempfile::tempdir().unwrap());
        trial.every_parameter_moves(&*build(0), &dir.path().join("run")).unwrap();
        trial.resuming_is_exact(|seed| Ok(build(seed)), &dir.path().join("resumed")).unwrap();
        trial.threads_do_not_change_a_bit(|seed| Ok(build(seed)), &dir.path().join("threads")).unwrap();
        trial.parts_compute_the_gradient(&*build(1), &[1, 3, 4], 2e-4).unwrap();
    }
}

#[test]
fn micro_batches_compute_the_same_gradient() {
    // Without batch norm anywhere the gradient of parts is that of the whole, dropout and stochastic depth
    // included: a transformer with heads that have none.
    let names = [
        "mae",
        "moco",
        "dino",
        "simmim",
        "i-jepa",
        "jigsaw",
        "relative-position",
        "inpainting",
        "colourisation",
    ];
    for name in names {
        trial(name).parts_compute_the_gradient(&*build(name, 1, true), &[1, 3, 4], 2e-4).unwrap();
    }
}

/// SimCLR couples samples; its projection has batch norm, so the encoder is checked under a head without.
#[test]
fn gradient_cache_is_exact() {
    struct Plain(Method);
    impl Objective for Plain {
        type Batch = Views;
        type Embeddings = Erased;
        fn params(&self) -> &Params {
            self.0.params()
        }
        fn encoder(&self) -> &dyn selfsup_core::Encoder {
            self.0.encoder()
        }
        fn embed(&self, batch: &Views, pass: &Pass) -> Result<Erased> {
            let f = |x| Ok::<_, Error>(self.0.encoder().forward(x, None, &[], pass)?.pooled);
            Ok(Erased::new(Pair { a: f(&batch.globals[0])?, b: f(&batch.globals[1])? }))
        }
        fn criterion(&self, e: &Erased, pass: &Pass) -> Result<selfsup_core::Loss> {
            self.0.criterion(e, pass)
        }
    }
    trial("simclr").parts_compute_the_gradient(&Plain(build("simclr", 1, true)), &[1, 3, 4], 2e-4).unwrap();
}

#[test]
fn two_processes_compute_the_gradient_of_one() {
    for name in MethodConfig::NAMES {
        for vit in [false, true] {
            trial(name).ranks_compute_the_gradient(|seed| Ok(build(name, seed, vit)), 2, 1e-3).unwrap();
        }
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    for name in ["simclr", "mae", "dino", "swav", "lejepa"] {
        let dir = tempfile::tempdir().unwrap();
        trial(name).threads_do_not_change_a_bit(|seed| Ok(build(name, seed, false)), dir.path()).unwrap();
    }
}

/// Methods that predict what can be looked at show it: pictures of all samples, the prediction next to what it
/// should be.
#[test]
fn predictions_can_be_looked_at() {
    let shown = [
        "mae",
        "simmim",
        "rotation",
        "jigsaw",
        "relative-position",
        "inpainting",
        "colourisation",
        "super-resolution",
    ];
    for name in MethodConfig::NAMES {
        let pictures = build(name, 0, false).pictures(&blobs(0, 0).unwrap(), &Pass::eval()).unwrap();
        let names: Vec<&str> = pictures.iter().map(|p| p.name).collect();
        assert_eq!(
            names.contains(&"prediction") && names.contains(&"target"),
            shown.contains(&name),
            "{name}"
        );
        for p in &pictures {
            let values = p.values.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert!(p.values.dim(0).unwrap() == BATCH && p.values.dim(1).unwrap() == 3, "{name} {}", p.name);
            assert!(values.iter().all(|v| v.is_finite() && (!p.unit || (0.0..=1.0).contains(v))), "{name}");
        }
    }
}

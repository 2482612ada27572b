//! What every method on signals must satisfy: each parameter moves, resuming is exact, micro-batches and two
//! processes compute the gradient of the whole batch, and the number of threads changes no bit.

use candle_core::{Device, Tensor};
use selfsup_core::conformance::{Trial, building_twice_changes_nothing, every_parameter_has_a_place};
use selfsup_core::data::{Collate, Transform};
use selfsup_core::objective::{Needs, Views, Wanted};
use selfsup_core::{Key, Params, Pass, Progress, Result, Scope};
use selfsup_signals::augment::AugmentConfig;
use selfsup_signals::data::Stacked;
use selfsup_signals::recipe::{Architecture, EncoderConfig, METHODS, Method, MethodConfig};
use selfsup_signals::window::Window;

const LENGTH: usize = 32;
const BATCH: usize = 6;

/// Two channels of a sine of a frequency and a phase of their own, and noise.
fn series(i: usize) -> Window {
    let mut rng = Key::new(7).fold(i as u64).rng();
    let channels: Vec<Vec<f32>> = (0..2)
        .map(|_| {
            let (speed, phase) = (rng.range_f32(0.2, 1.2), rng.range_f32(0.0, 6.0));
            (0..40).map(|t| (speed * t as f32 + phase).sin() + 0.1 * rng.normal()).collect()
        })
        .collect();
    Window::new(&channels, "series").unwrap()
}

fn views(method: &MethodConfig, epoch: u64, b: usize) -> Result<Views> {
    let augment =
        AugmentConfig { length: LENGTH, local_length: 16, local_views: 2, ..AugmentConfig::default() };
    let transform = augment.views(method.wanted(), None)?;
    let indices: Vec<usize> = (b * BATCH..(b + 1) * BATCH).collect();
    let items = indices
        .iter()
        .map(|&i| transform.apply(series(i), &mut Key::new(3).fold(epoch).fold(i as u64).rng()));
    let mut views = Stacked.collate(items.collect::<Result<_>>()?, &indices, Key::new(0))?;
    if method.over_views().is_some_and(|m| m.reads_labels()) {
        views.labels = indices.iter().map(|i| Some((i % 2) as u32)).collect();
    }
    Ok(views)
}

fn small(name: &str) -> MethodConfig {
    let mut method = MethodConfig::named(name).unwrap();
    if let Some(over_views) = method.over_views_mut() {
        over_views.shrink();
    }
    if let MethodConfig::Jigsaw(c) = &mut method {
        // Three tiles in a row have six orders.
        c.grid = 3;
    }
    method
}

fn architecture(network: &str, needs: Needs) -> Architecture {
    let mut encoder = EncoderConfig::named(network).unwrap();
    encoder.set_channels(2);
    match &mut encoder {
        EncoderConfig::Dilated(k) => (k.hidden, k.dim, k.depth, k.dropout) = (6, 8, 2, 0.1),
        EncoderConfig::ResNet(k) => (k.depths, k.widths) = (Some(vec![1, 1]), Some(vec![6, 8])),
        EncoderConfig::Patch(k) => {
            (k.patch, k.dim, k.depth, k.heads, k.mlp_ratio, k.dropout) = (4, 24, 2, 2, 2.0, 0.1);
        }
        EncoderConfig::PatchTst(k) => {
            (k.patch, k.dim, k.depth, k.heads, k.hidden, k.dropout) = (4, 12, 2, 2, 16, 0.1);
        }
    }
    encoder.resolve(LENGTH, needs).unwrap()
}

/// Networks that a method works with.
fn networks(method: &MethodConfig) -> &'static [&'static str] {
    match method {
        MethodConfig::Ts2Vec(_) => &["dilated"],
        MethodConfig::MaskedPatches(_) => &["patchtst"],
        m if m.needs().tokens => &["patch_transformer"],
        _ => &["dilated", "resnet1d18", "patch_transformer", "patchtst"],
    }
}

fn build_in(scope: &Scope, name: &str, network: &str) -> Result<Method> {
    let method = small(name);
    method.build(scope, &architecture(network, method.needs()))
}

fn build(name: &str, network: &str, seed: u64) -> Method {
    build_in(&Scope::root(&Params::new(), seed, &Device::Cpu), name, network).unwrap()
}

fn trial(name: &str) -> Trial<'static, Views> {
    let method = small(name);
    Trial::new(name, move |epoch, b| views(&method, epoch, b))
}

#[test]
fn every_parameter_moves() {
    for name in METHODS {
        for network in networks(&small(name)) {
            let dir = tempfile::tempdir().unwrap();
            let method = build(name, network, 0);
            trial(name).every_parameter_moves(&*method, &dir.path().join("run")).unwrap();
            every_parameter_has_a_place(name, method.params()).unwrap();
        }
    }
}

#[test]
fn building_twice() {
    for name in METHODS {
        for network in networks(&small(name)) {
            building_twice_changes_nothing(name, |scope| build_in(scope, name, network)).unwrap();
        }
    }
}

#[test]
fn resuming_is_exact() {
    for name in METHODS {
        let (dir, network) = (tempfile::tempdir().unwrap(), networks(&small(name))[0]);
        trial(name).resuming_is_exact(|seed| Ok(build(name, network, seed)), dir.path()).unwrap();
    }
}

/// The residual network has batch norm, whose statistics are those of a micro-batch; so have many heads.
#[test]
fn micro_batches_compute_the_same_gradient() {
    for (name, network) in [
        ("ts2vec", "dilated"),
        ("moco", "dilated"),
        ("dino", "patch_transformer"),
        ("mae", "patch_transformer"),
        ("simmim", "patch_transformer"),
        ("i-jepa", "patch_transformer"),
        ("jigsaw", "dilated"),
        ("relative-position", "dilated"),
        ("inpainting", "patch_transformer"),
    ] {
        trial(name).parts_compute_the_gradient(&*build(name, network, 1), &[1, 4], 1e-3).unwrap();
    }
}

/// On the residual network where there is a choice: a bias that batch norm takes out again has no gradient but
/// rounding.
#[test]
fn two_processes_compute_the_gradient_of_one() {
    for name in METHODS {
        let fitting = networks(&small(name));
        let network = *fitting.iter().find(|n| **n == "resnet1d18").unwrap_or(&fitting[0]);
        trial(name).ranks_compute_the_gradient(|seed| Ok(build(name, network, seed)), 2, 1e-3).unwrap();
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    for (name, network) in [
        ("ts2vec", "dilated"),
        ("masked-patches", "patchtst"),
        ("simclr", "resnet1d18"),
        ("vicreg", "dilated"),
        ("mae", "patch_transformer"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        trial(name)
            .epochs(2)
            .threads_do_not_change_a_bit(|seed| Ok(build(name, network, seed)), dir.path())
            .unwrap();
    }
}

#[test]
fn methods_that_do_not_fit_say_what_does() {
    let scope = || Scope::root(&Params::new(), 0, &Device::Cpu);
    let error = |name: &str, network: &str| build_in(&scope(), name, network).err().unwrap().to_string();
    assert!(error("ts2vec", "resnet1d18").contains("encoder.name = \"dilated\""));
    assert!(error("mae", "dilated").contains("patch_transformer"));
    assert!(error("rotation", "dilated").contains("turns planes"));
    assert!(MethodConfig::named("nothing").unwrap_err().to_string().contains("ts2vec"));
    // A series that is too short, and one of other channels.
    let method = build("ts2vec", "dilated", 0);
    let pass = Pass::train(0, Progress::default());
    for (shape, expected) in [([2, 2, 1], "at least 2"), ([2, 3, 8], "expected (N, 2")] {
        let x = Tensor::zeros(&shape, candle_core::DType::F32, &Device::Cpu).unwrap();
        let error = method.embed(&Views::of(vec![x], vec![0, 1]), &pass).err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert_eq!(small("ts2vec").wanted(), Wanted::Plain);
}

//! What every method on volumes must satisfy: each parameter moves, resuming is exact, micro-batches compute
//! the gradient of the whole batch, and the result does not depend on the number of threads. And that
//! segmentation learns, and starts from what was pre-trained.

use candle_core::{Device, Tensor};
use selfsup_core::conformance::{Trial, bits};
use selfsup_core::data::{Collate, Dataset, Loader, LoaderConfig, Source, Transform};
use selfsup_core::objective::{Batch, Classify, ClassifyConfig, Needs, Objective, Views};
use selfsup_core::optim::OptimConfig;
use selfsup_core::run::Run;
use selfsup_core::trainer::{TrainConfig, Trainer};
use selfsup_core::{Key, Params, Pass, Result, Rng, Scope};
use selfsup_medical::augment::AugmentConfig;
use selfsup_medical::data::{Collated, CollatedClasses, CollatedLabels};
use selfsup_medical::method::{Labelled, Segment, SegmentConfig};
use selfsup_medical::recipe::{Architecture, EncoderConfig, Method, MethodConfig, UNetKeys};
use selfsup_medical::sliding::SlidingWindow;
use selfsup_medical::{Grid, Volume};
use std::path::Path;
use std::sync::Arc;

const SIZE: usize = 8;
const BATCH: usize = 6;
const PER_EPOCH: usize = 3;

/// A volume with a ball in it, brighter than the rest and labelled.
fn ball(i: usize, size: usize) -> Volume {
    let mut r = Key::new(7).fold(i as u64).rng();
    let (centre, radius) =
        ([0, 1, 2].map(|_| r.range_f32(0.3, 0.7) * size as f32), r.range_f32(0.2, 0.35) * size as f32);
    let (mut values, mut labels) = (Vec::new(), Vec::new());
    for v in 0..size * size * size {
        let at = [v / (size * size), v / size % size, v % size];
        let gap = (0..3).map(|a| (at[a] as f32 - centre[a]).powi(2)).sum::<f32>().sqrt();
        labels.push(u16::from(gap < radius));
        values.push(if gap < radius { 0.8 } else { 0.3 } + 0.1 * r.normal() + 0.1 * (v as f32 * 0.3).sin());
    }
    let grid = Grid::with_spacing([size; 3], [1.0; 3]).unwrap();
    Volume::new(format!("ball {i}"), grid, values).unwrap().with_labels(labels).unwrap()
}

fn augment() -> AugmentConfig {
    AugmentConfig {
        size: [SIZE; 3],
        region: 1.2,
        rotate: [10.0, 0.0, 0.0],
        zoom: [1.0, 1.0],
        elastic: 0.1,
        elastic_nodes: 3,
        ..AugmentConfig::default()
    }
}

fn views(method: &MethodConfig, epoch: u64, b: usize) -> Result<Views> {
    let transform = method.views(&augment())?;
    let indices: Vec<usize> = (b * BATCH..(b + 1) * BATCH).collect();
    let items = indices
        .iter()
        .map(|&i| transform.apply(ball(i, 12), &mut Key::new(3).fold(epoch).fold(i as u64).rng()));
    let original = method.restores();
    Collated { original }.collate(items.collect::<Result<_>>()?, &indices, Key::new(0))
}

fn small(name: &str) -> MethodConfig {
    let mut method = MethodConfig::named(name).unwrap();
    if let Some(over_views) = method.over_views_mut() {
        over_views.shrink();
    }
    method
}

fn encoder(name: &str) -> EncoderConfig {
    let mut encoder = EncoderConfig::named(name).unwrap();
    match &mut encoder {
        EncoderConfig::ViT(c) => {
            (c.dim, c.depth, c.heads, c.mlp_ratio, c.patch) =
                (Some(24), Some(2), Some(2), Some(2.0), Some([4; 3]))
        }
        EncoderConfig::ResNet(c) => {
            (c.depths, c.widths, c.stem) = (Some(vec![1, 1]), Some(vec![6, 8]), Some(6))
        }
        EncoderConfig::UNet(c) => c.widths = Some(vec![6, 8]),
        EncoderConfig::Monai(c) => c.widths = Some(vec![6, 8]),
    }
    encoder
}

/// Transformers drop values, attention weights and branches.
fn architecture(name: &str, needs: Needs) -> Architecture {
    let mut architecture = encoder(name).resolve([SIZE; 3], needs).unwrap();
    if let Architecture::ViT(c, _) = &mut architecture {
        let t = &mut c.trunk;
        (t.dropout, t.attention_dropout, t.activation_dropout, t.drop_path) = (0.1, 0.2, 0.1, 0.3);
    }
    architecture
}

fn build(method: &str, network: &str, seed: u64) -> Method {
    let method = small(method);
    let network = if method.needs().tokens { "vit3d" } else { network };
    let scope = Scope::root(&Params::new(), seed, &Device::Cpu);
    method.build(&scope, &architecture(network, method.needs())).unwrap()
}

fn trial(name: &str) -> Trial<'static, Views> {
    let method = small(name);
    Trial::new(name, move |epoch, b| views(&method, epoch, b))
}

/// Trains from what a loader delivers.
fn train<O: Objective + ?Sized>(
    method: &O,
    dir: &Path,
    source: &dyn Source<O::Batch>,
    epochs: u64,
) -> Result<f64> {
    let mut run = Run::create(dir, "")?;
    let optim = OptimConfig { lr: 1e-2, ..OptimConfig::default() };
    let config =
        TrainConfig { epochs, batch_size: BATCH, log_every: 1, eval_every: 0, ..TrainConfig::default() };
    let summary =
        Trainer::new(method, config, &optim, source.batches() as u64, &Device::Cpu)?.fit(source, &mut run)?;
    Ok(summary.loss.expect("steps were taken"))
}

#[test]
fn every_parameter_moves() {
    for name in MethodConfig::NAMES {
        for network in ["unet3d", "unet2d", "monai_unet", "resnet3d", "vit3d"] {
            let dir = tempfile::tempdir().unwrap();
            trial(name).every_parameter_moves(&*build(name, network, 0), &dir.path().join("run")).unwrap();
        }
    }
}

#[test]
fn resuming_is_exact() {
    for name in MethodConfig::NAMES {
        let dir = tempfile::tempdir().unwrap();
        trial(name).resuming_is_exact(|seed| Ok(build(name, "unet3d", seed)), dir.path()).unwrap();
    }
}

#[test]
fn micro_batches_compute_the_same_gradient() {
    // Instance norm and layer norm look at one sample.
    for (name, network) in [
        ("genesis", "unet3d"),
        ("super-resolution", "monai_unet"),
        ("mae", "vit3d"),
        ("simmim", "vit3d"),
        ("i-jepa", "vit3d"),
        ("jigsaw", "unet3d"),
        ("relative-position", "vit3d"),
        ("inpainting", "unet3d"),
        ("moco", "unet3d"),
        ("moco", "vit3d"),
        ("dino", "unet3d"),
    ] {
        trial(name).parts_compute_the_gradient(&*build(name, network, 1), &[1, 4], 1e-3).unwrap();
    }
}

#[test]
fn two_processes_compute_the_gradient_of_one() {
    for name in MethodConfig::NAMES {
        for network in ["unet3d", "resnet3d"] {
            trial(name).ranks_compute_the_gradient(|seed| Ok(build(name, network, seed)), 2, 1e-3).unwrap();
        }
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    for (name, network) in
        [("genesis", "unet3d"), ("super-resolution", "monai_unet"), ("mae", "vit3d"), ("simclr", "resnet3d")]
    {
        let dir = tempfile::tempdir().unwrap();
        trial(name)
            .epochs(2)
            .threads_do_not_change_a_bit(|seed| Ok(build(name, network, seed)), dir.path())
            .unwrap();
    }
}

#[test]
fn masked_methods_refuse_networks_without_tokens() {
    let scope = Scope::root(&Params::new(), 0, &Device::Cpu);
    let error =
        small("mae").build(&scope, &architecture("unet3d", small("mae").needs())).err().unwrap().to_string();
    assert!(error.contains("vit3d"), "{error}");
    assert!(EncoderConfig::named("resnet2d").unwrap_err().to_string().contains("resnet3d10"));
    assert!(MethodConfig::named("nothing").unwrap_err().to_string().contains("genesis"));
}

/// Sizes that a network cannot halve, channels it has not, NaN.
#[test]
fn shapes_that_do_not_fit_are_named() {
    for network in ["unet3d", "monai_unet", "vit3d"] {
        let net = architecture(network, Needs::default())
            .build(&Scope::root(&Params::new(), 0, &Device::Cpu))
            .unwrap();
        for shape in [[1, 1, 7, 8, 8], [1, 2, 8, 8, 8]] {
            let x = Tensor::zeros(&shape, candle_core::DType::F32, &Device::Cpu).unwrap();
            let error = net.forward(&x, None, &[], &Pass::eval()).unwrap_err().to_string();
            assert!(error.contains("8") && error.len() > 20, "{network} {shape:?}: {error}");
        }
    }
    let mut bad = ball(0, 12);
    bad.values_mut()[5] = f32::NAN;
    let error = augment().prepare().unwrap().apply(bad, &mut Key::new(0).rng()).unwrap_err().to_string();
    assert!(error.contains("ball 0") && error.contains("NaN"), "{error}");
}

struct Set(usize);

impl Dataset for Set {
    type Item = Volume;
    fn len(&self) -> usize {
        self.0
    }
    fn get(&self, index: usize) -> Result<Volume> {
        Ok(ball(index, 12))
    }
}

fn labelled(plane: Option<usize>) -> impl Source<Labelled> {
    let transform = AugmentConfig { gamma_p: 0.0, bias_p: 0.0, ..augment() }.labelled().unwrap();
    let run = move |v: Volume, rng: &mut Rng| transform.apply(v, rng);
    let config = LoaderConfig { batch_size: BATCH, workers: 1, ..LoaderConfig::default() };
    Loader::new(Arc::new(Set(BATCH * PER_EPOCH)), Arc::new(run), Arc::new(CollatedLabels { plane }), config)
        .unwrap()
}

/// Dice of the ball over these planes of four volumes.
fn dice(net: &Segment, planes: std::ops::Range<usize>) -> f64 {
    let window = SlidingWindow { size: [SIZE; 3], ..SlidingWindow::default() };
    let mut all = 0.0;
    for i in 500..504 {
        let truth = ball(i, 12);
        let made = window.segment(&truth, &Device::Cpu, |x| net.probabilities(x)).unwrap();
        let inside = planes.start * 144..planes.end * 144;
        let (a, b) = (&made.labels().unwrap()[inside.clone()], &truth.labels().unwrap()[inside]);
        let both = a.iter().zip(b).filter(|(a, b)| **a == 1 && **b == 1).count();
        all += 2.0 * both as f64 / a.iter().chain(b).filter(|l| **l == 1).count().max(1) as f64 / 4.0;
    }
    all
}

/// From labels of all voxels, and from one plane a patch; every parameter moves; the parts of a batch add up
/// only without coupling.
#[test]
fn segmentation_learns() {
    for (network, plane) in
        [("unet3d", None), ("unet3d", Some(SIZE / 2)), ("unet2d", Some(SIZE / 2)), ("resnet3d", None)]
    {
        let scope = Scope::root(&Params::new(), 0, &Device::Cpu);
        let net =
            Segment::new(&scope, &architecture(network, Needs::default()), SegmentConfig::default()).unwrap();
        // Who was taught the middle of patches knows nothing of their ends.
        let planes = if plane.is_some() { 4..8 } else { 0..12 };
        let before = (bits(net.params()).unwrap(), dice(&net, planes.clone()));
        let dir = tempfile::tempdir().unwrap();
        let loss = train(&net, &dir.path().join("run"), &labelled(plane), 40).unwrap();
        let after = bits(net.params()).unwrap();
        assert!(before.0.iter().all(|(name, v)| after[name] != *v));
        let score = dice(&net, planes);
        // One plane of eight has labels: less is learnt from the same steps.
        let enough = if plane.is_some() { 0.65 } else { 0.8 };
        assert!(
            score > enough && score > before.1,
            "{network} {plane:?}: Dice {} before, {score} after, loss {loss}",
            before.1
        );
    }
    // Dice is taken per sample, so the mean over parts is the mean over the whole.
    let scope = Scope::root(&Params::new(), 0, &Device::Cpu);
    let net =
        Segment::new(&scope, &architecture("unet3d", Needs::default()), SegmentConfig::default()).unwrap();
    let batch = labelled(None).epoch_from(0, 0).unwrap().next().unwrap().unwrap().batch;
    assert_eq!(batch.narrow(1, 2).unwrap().samples(), 2);
    let batches = |_: u64, _: usize| Ok(labelled(None).epoch_from(0, 0)?.next().unwrap()?.batch);
    Trial::new("segmentation", batches).parts_compute_the_gradient(&net, &[1, 4], 1e-3).unwrap();
}

/// A pre-trained encoder, and decoder, arrive in the segmentation; a frozen one stays as it is; weights of
/// another network are refused.
#[test]
fn weights_are_transferred() {
    let pretrained = build("genesis", "unet3d", 5);
    let tensors = selfsup_core::weights::export(pretrained.params(), "");
    for frozen in [false, true] {
        let scope = Scope::root(&Params::new(), 0, &Device::Cpu);
        let net = Segment::new(
            &scope,
            &architecture("unet3d", Needs::default()),
            SegmentConfig { classes: 3, frozen, ..SegmentConfig::default() },
        )
        .unwrap();
        net.transfer(&tensors, true).unwrap();
        let (theirs, ours) = (bits(pretrained.params()).unwrap(), bits(net.params()).unwrap());
        for (name, v) in &ours {
            assert_eq!(theirs.get(name) == Some(v), !name.starts_with("decoder.head"), "{name}");
        }
        if frozen {
            let dir = tempfile::tempdir().unwrap();
            train(&net, &dir.path().join("run"), &labelled(None), 1).unwrap();
            let after = bits(net.params()).unwrap();
            assert!(ours.iter().all(|(name, v)| (after[name] == *v) == name.starts_with("encoder")));
        }
    }
    let scope = Scope::root(&Params::new(), 0, &Device::Cpu);
    let wider = EncoderConfig::from(UNetKeys { widths: Some(vec![6, 10]), ..UNetKeys::default() });
    let wider = wider.resolve([SIZE; 3], Needs::default()).unwrap();
    let net = Segment::new(&scope, &wider, SegmentConfig::default()).unwrap();
    assert!(net.transfer(&tensors, false).unwrap_err().to_string().contains("shape"));
}

/// Bright balls against dark ones: core's classification on an encoder of volumes.
#[test]
fn classification_learns() {
    struct Classes;
    impl Dataset for Classes {
        type Item = (Volume, u32);
        fn len(&self) -> usize {
            BATCH * PER_EPOCH
        }
        fn get(&self, index: usize) -> Result<(Volume, u32)> {
            let (mut v, dark) = (ball(index, SIZE), index % 2 == 1);
            if dark {
                v.values_mut().iter_mut().for_each(|x| *x = 1.0 - *x);
            }
            Ok((v, u32::from(dark)))
        }
    }
    let scope = Scope::root(&Params::new(), 0, &Device::Cpu);
    let a = architecture("resnet3d", Needs::default());
    let config = ClassifyConfig { classes: 2, ..ClassifyConfig::default() };
    let method = Classify::new(&scope, &|s: &Scope| a.build(s), config).unwrap();
    let run = |item: (Volume, u32), _: &mut Rng| Ok(item);
    let settings = LoaderConfig { batch_size: BATCH, workers: 0, ..LoaderConfig::default() };
    let loader = Loader::new(Arc::new(Classes), Arc::new(run), Arc::new(CollatedClasses), settings).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let loss = train(&method, &dir.path().join("run"), &loader, 10).unwrap();
    assert!(loss < 0.3, "{loss}");
}

/// What is exported comes back, under MONAI's names where the network is MONAI's.
#[test]
fn exports_load_again() {
    for (method, network) in [
        ("genesis", "monai_unet"),
        ("genesis", "unet3d"),
        ("simclr", "resnet3d"),
        ("mae", "vit3d"),
        ("simclr", "monai_unet"),
    ] {
        let made = build(method, network, 5);
        let a = architecture(network, small(method).needs());
        let dir = tempfile::tempdir().unwrap();
        selfsup_medical::export::write(&a, &small(method), &augment(), made.params(), dir.path()).unwrap();
        let fresh = Params::new();
        a.build(&Scope::root(&fresh, 9, &Device::Cpu).sub("encoder")).unwrap();
        selfsup_medical::names::load_pretrained(&fresh, "encoder", dir.path(), a.monai_levels()).unwrap();
        let (theirs, ours) = (bits(made.params()).unwrap(), bits(&fresh).unwrap());
        assert!(ours.iter().all(|(name, v)| theirs[name] == *v), "{method} {network}");
        if network == "monai_unet" {
            let keys = selfsup_core::weights::read(dir.path()).unwrap();
            assert!(
                keys.contains_key("model.0.conv.weight")
                    && keys.contains_key("model.2.conv.weight") == (method == "genesis")
            );
        }
    }
}

/// Predictions as pictures, in the layout of the patches.
#[test]
fn predictions_can_be_looked_at() {
    for name in ["genesis", "super-resolution", "mae", "simmim", "inpainting", "jigsaw", "relative-position"]
    {
        let method = small(name);
        let pictures =
            build(name, "unet3d", 0).pictures(&views(&method, 0, 0).unwrap(), &Pass::eval()).unwrap();
        assert!(pictures.iter().any(|p| p.name == "prediction"), "{name}");
        assert!(
            pictures.iter().all(|p| p.values.dims()[..2] == [BATCH, 1] && p.values.rank() == 5),
            "{name}"
        );
    }
}

use super::*;
use crate::recipe::{ConvNeXtKeys, EncoderConfig, ResNetKeys, SwinKeys, ViTKeys};
use selfsup_core::conformance::{Trial, every_parameter_has_a_place};
use selfsup_core::objective::Needs;
use selfsup_core::optim::{OptimConfig, Optimizer};
use selfsup_core::trainer::gradients;
use selfsup_core::{Key, Progress, Role};

/// Small networks of each family for views of 32 pixels.
fn networks() -> Vec<Architecture> {
    let (depths, widths) = (Some(vec![1, 1, 1]), Some(vec![8, 12, 16]));
    let all: [EncoderConfig; 4] = [
        ResNetKeys {
            name: "resnet".into(),
            depths: depths.clone(),
            widths: widths.clone(),
            ..Default::default()
        }
        .into(),
        ConvNeXtKeys { name: "convnext".into(), depths: depths.clone(), widths, ..Default::default() }.into(),
        SwinKeys {
            name: "swin".into(),
            dim: Some(8),
            depths,
            heads: Some(vec![1, 2, 2]),
            ..Default::default()
        }
        .into(),
        ViTKeys {
            name: "vit".into(),
            patch: Some(4),
            dim: Some(12),
            depth: Some(1),
            heads: Some(2),
            ..Default::default()
        }
        .into(),
    ];
    all.iter().map(|e| e.resolve(32, Needs::default()).unwrap()).collect()
}

/// Views of noise whose left half is bright and of class 1; the first rows do not count.
fn batch(n: usize) -> MaskBatch {
    let mut r = Key::new(3).rng();
    let x: Vec<f32> =
        (0..n * 3 * 32 * 32).map(|i| r.normal() * 0.3 + f32::from(u8::from(i % 32 < 16))).collect();
    let label = |i: usize| if i / 32 % 32 < 4 { IGNORED } else { i64::from(i % 32 < 16) };
    let labels: Vec<i64> = (0..n * 32 * 32).map(label).collect();
    MaskBatch {
        x: Tensor::from_vec(x, (n, 3, 32, 32), &Device::Cpu).unwrap(),
        labels: Tensor::from_vec(labels, (n, 32, 32), &Device::Cpu).unwrap(),
        counted: vec![28 * 32; n],
        indices: (0..n).collect(),
    }
}

fn build(architecture: &Architecture, config: SegmentConfig) -> Segment {
    Segment::new(&Scope::root(&Params::new(), 0, &Device::Cpu), architecture, config).unwrap()
}

#[test]
fn every_network_and_head_learns() {
    for architecture in networks() {
        for head in [HeadKind::Linear, HeadKind::Pyramid] {
            let segment = build(&architecture, SegmentConfig { head, width: 16, ..SegmentConfig::default() });
            let batch = batch(4);
            let optim = OptimConfig { lr: 1e-2, ..OptimConfig::default() };
            let mut optimizer = Optimizer::new(segment.params(), optim).unwrap();
            let mut losses = Vec::new();
            for step in 0..30 {
                let pass = Pass::train(0, Progress { step, total_steps: 30, epoch: 0 });
                let made = gradients(&segment, &batch, 0, &pass).unwrap();
                optimizer.step(&made.grads, step, 30).unwrap();
                pass.write_deferred(segment.params()).unwrap();
                losses.push(made.loss);
            }
            assert!(losses[29] < 0.5 * losses[0], "{architecture:?} {head:?}: {losses:?}");
        }
    }
}

#[test]
fn frozen_encoders_get_no_gradient_and_no_statistics() {
    for architecture in networks() {
        let segment = build(&architecture, SegmentConfig { frozen: true, ..SegmentConfig::default() });
        let pass = Pass::train(0, Default::default());
        let made = gradients(&segment, &batch(2), 0, &pass).unwrap();
        let params = segment.params();
        for p in params.with_role(Role::Trained) {
            assert_eq!(made.grads.contains(&p.name), p.name.starts_with("head."), "{}", p.name);
        }
    }
}

/// Resuming, threads, places of parameters, and parts of a batch (ViT has no batch statistics).
#[test]
fn conformance() {
    let make = |epoch: u64, b: usize| {
        let mut made = batch(4);
        made.x = (made.x + (epoch as f64 + b as f64 / 7.0) * 0.01)?;
        Ok(made)
    };
    for (architecture, head) in
        networks().iter().zip([HeadKind::Pyramid, HeadKind::Linear].into_iter().cycle())
    {
        let config = SegmentConfig { head, width: 8, ..SegmentConfig::default() };
        let built = |seed: u64| {
            let scope = Scope::root(&Params::new(), seed, &Device::Cpu);
            Ok(Box::new(Segment::new(&scope, architecture, config.clone())?))
        };
        let dir = tempfile::tempdir().unwrap();
        let trial = Trial::new(format!("segmentation {head:?}"), make);
        trial.every_parameter_moves(&*built(0).unwrap(), &dir.path().join("moves")).unwrap();
        trial.resuming_is_exact(built, &dir.path().join("resume")).unwrap();
        every_parameter_has_a_place("segmentation", built(0).unwrap().params()).unwrap();
    }
    let (vit, config) =
        (&networks()[3], SegmentConfig { head: HeadKind::Pyramid, width: 8, ..Default::default() });
    Trial::new("parts", make).parts_compute_the_gradient(&build(vit, config), &[1, 2, 3], 1e-4).unwrap();
}

#[test]
fn pixels_that_do_not_count() {
    let segment = build(&networks()[0], SegmentConfig::default());
    let pass = Pass::eval();
    let whole = batch(2);
    let e = segment.embed(&whole, &pass).unwrap();
    let loss = |labels: &Tensor| -> f32 {
        let e = Outputs { outputs: e.outputs.clone(), targets: labels.clone() };
        segment.criterion(&e, &pass).unwrap().value.to_scalar().unwrap()
    };
    // The loss is the mean over the others: that of the rows below alone.
    let below = segment
        .criterion(
            &Outputs {
                outputs: e.outputs.narrow(1, 4, 28).unwrap().contiguous().unwrap(),
                targets: whole.labels.narrow(1, 4, 28).unwrap().contiguous().unwrap(),
            },
            &pass,
        )
        .unwrap();
    let below: f32 = below.value.to_scalar().unwrap();
    assert!((loss(&whole.labels) - below).abs() < 1e-6);
    let nothing = Tensor::full(IGNORED, (2, 32, 32), &Device::Cpu).unwrap();
    assert_eq!(loss(&nothing), 0.0);
    assert_eq!((whole.weight(), whole.narrow(1, 1).unwrap().weight()), (1792.0, 896.0));
}

/// Classes come back on the pixels of an image of any size.
#[test]
fn classes_at_the_resolution_of_the_image() {
    let segment = build(&networks()[0], SegmentConfig { classes: 3, ..SegmentConfig::default() });
    let x = batch(1).x;
    let classes = segment.classes_of(&x, [32, 20], [77, 50]).unwrap();
    assert!(classes.len() == 77 * 50 && classes.iter().all(|c| *c < 3));
    let e = Segment::new(
        &Scope::root(&Params::new(), 0, &Device::Cpu),
        &networks()[0],
        SegmentConfig { classes: 1, ..SegmentConfig::default() },
    );
    assert!(e.err().unwrap().to_string().contains("at least 2 classes"));
}

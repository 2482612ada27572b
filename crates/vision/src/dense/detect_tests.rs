use super::*;
use crate::recipe::{ConvNeXtKeys, EncoderConfig, ResNetKeys, SwinKeys, ViTKeys};
use selfsup_core::conformance::{Trial, every_parameter_has_a_place};
use selfsup_core::objective::Needs;
use selfsup_core::optim::{OptimConfig, Optimizer};
use selfsup_core::trainer::gradients;
use selfsup_core::{Key, Progress, Role};

/// Small networks of each family for views of 64 pixels.
fn networks() -> Vec<Architecture> {
    let (depths, widths) = (Some(vec![1, 1, 1]), Some(vec![8, 12, 16]));
    let all: [EncoderConfig; 4] = [
        ResNetKeys {
            name: "resnet".into(),
            small_images: Some(false),
            depths: depths.clone(),
            widths: widths.clone(),
            ..Default::default()
        }
        .into(),
        ConvNeXtKeys {
            name: "convnext".into(),
            patch: Some(4),
            depths: depths.clone(),
            widths,
            layer_scale: Some(0.5),
            ..Default::default()
        }
        .into(),
        SwinKeys {
            name: "swin".into(),
            patch: Some(4),
            dim: Some(8),
            depths,
            heads: Some(vec![1, 2, 2]),
            ..Default::default()
        }
        .into(),
        ViTKeys {
            name: "vit".into(),
            patch: Some(8),
            dim: Some(12),
            depth: Some(1),
            heads: Some(2),
            ..Default::default()
        }
        .into(),
    ];
    all.iter().map(|e| e.resolve(64, Needs::default()).unwrap()).collect()
}

/// Views of noise with one bright or one dark square each, of class 0 and 1.
fn batch(n: usize, seed: u64) -> BoxBatch {
    let mut r = Key::new(seed).rng();
    let (mut x, mut truths) = (Vec::new(), Vec::new());
    for i in 0..n {
        let (left, top, side, class) = (r.below(36), r.below(36), 12 + r.below(16), i % 2);
        let inside = |p: usize| {
            let (px, py) = (p % 64, p / 64);
            (left..left + side).contains(&px) && (top..top + side).contains(&py)
        };
        let level = if class == 0 { 2.0 } else { -2.0 };
        for p in 0..3 * 64 * 64 {
            x.push(0.2 * r.normal() + if inside(p % 4096) { level } else { 0.0 });
        }
        let bbox = [left, top, left + side, top + side].map(|v| v as f32);
        truths.push(vec![Truth { class, bbox, crowd: false }]);
    }
    BoxBatch {
        x: Tensor::from_vec(x, (n, 3, 64, 64), &Device::Cpu).unwrap(),
        truths,
        indices: (0..n).collect(),
    }
}

fn config() -> DetectConfig {
    DetectConfig { classes: 2, width: 16, depth: 1, ..DetectConfig::default() }
}

fn build(architecture: &Architecture, config: DetectConfig) -> Detect {
    Detect::new(&Scope::root(&Params::new(), 0, &Device::Cpu), architecture, config).unwrap()
}

fn trained(detect: &Detect, steps: u64) -> Vec<f64> {
    let optim = OptimConfig { lr: 5e-3, ..OptimConfig::default() };
    let mut optimizer = Optimizer::new(detect.params(), optim).unwrap();
    (0..steps)
        .map(|step| {
            let pass = Pass::train(0, Progress { step, total_steps: steps, epoch: 0 });
            let made = gradients(detect, &batch(8, step), 0, &pass).unwrap();
            optimizer.step(&made.grads, step, steps).unwrap();
            pass.write_deferred(detect.params()).unwrap();
            made.loss
        })
        .collect()
}

/// Squares that it has not seen are found: the surest box of most views has the class of the square and
/// overlaps it by more than half.
#[test]
fn squares_are_found() {
    let detect = build(&networks()[0], config());
    let losses = trained(&detect, 120);
    assert!(losses[119] < 0.6 * losses[0], "{losses:?}");
    let test = batch(20, 1_000);
    let found = detect.find(&test.x).unwrap();
    let right = |(boxes, truths): (&Vec<Found>, &Vec<Truth>)| {
        boxes.first().is_some_and(|b| {
            b.class == truths[0].class && super::super::nms::overlap(&b.bbox, &truths[0].bbox) > 0.5
        })
    };
    let hits = found.iter().zip(&test.truths).filter(|pair| right(*pair)).count();
    assert!(hits >= 15, "{hits} of 20");
    for boxes in &found {
        assert!(boxes.len() <= 100 && boxes.windows(2).all(|w| w[0].score >= w[1].score));
        assert!(boxes.iter().all(|b| (0.0..=1.0).contains(&b.score)));
    }
}

#[test]
fn every_network_learns() {
    for architecture in &networks()[1..] {
        let detect = build(architecture, config());
        let losses = trained(&detect, 25);
        let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
        let (first, last) = (mean(&losses[..5]), mean(&losses[20..]));
        assert!(last < 0.95 * first, "{architecture:?}: {losses:?}");
    }
}

#[test]
fn conformance() {
    let make = |epoch: u64, b: usize| Ok(batch(4, 10 * epoch + b as u64));
    for architecture in networks() {
        let built = |seed: u64| {
            let scope = Scope::root(&Params::new(), seed, &Device::Cpu);
            Ok(Box::new(Detect::new(&scope, &architecture, config())?))
        };
        let dir = tempfile::tempdir().unwrap();
        let trial = Trial::new("detection", make);
        trial.every_parameter_moves(&*built(0).unwrap(), &dir.path().join("moves")).unwrap();
        trial.resuming_is_exact(built, &dir.path().join("resume")).unwrap();
        every_parameter_has_a_place("detection", built(0).unwrap().params()).unwrap();
    }
    // Batch statistics would differ: a transformer has none.
    let vit = &networks()[3];
    Trial::new("parts", make).parts_compute_the_gradient(&build(vit, config()), &[1, 2, 3], 1e-4).unwrap();
    let built = |seed: u64| {
        let scope = Scope::root(&Params::new(), seed, &Device::Cpu);
        Ok(Box::new(Detect::new(&scope, vit, config())?))
    };
    Trial::new("ranks", make).ranks_compute_the_gradient(built, 2, 1e-4).unwrap();
}

#[test]
fn a_batch_without_boxes_and_frozen_encoders() {
    let detect = build(&networks()[0], DetectConfig { frozen: true, ..config() });
    let mut empty = batch(2, 0);
    empty.truths = vec![Vec::new(); 2];
    let made = gradients(&detect, &empty, 0, &Pass::train(0, Progress::default())).unwrap();
    assert!(made.loss.is_finite() && made.loss > 0.0);
    for p in detect.params().with_role(Role::Trained) {
        assert_eq!(made.grads.contains(&p.name), !p.name.starts_with("encoder."), "{}", p.name);
    }
    let crowd = Truth { class: 0, bbox: [0.0, 0.0, 64.0, 64.0], crowd: true };
    empty.truths = vec![vec![crowd]; 2];
    let e = detect.embed(&empty, &Pass::eval()).unwrap();
    let loss: f32 = detect.criterion(&e, &Pass::eval()).unwrap().value.to_scalar().unwrap();
    assert_eq!(loss, 0.0);
    empty.truths = vec![vec![Truth { class: 2, ..crowd }]; 2];
    assert!(detect.embed(&empty, &Pass::eval()).unwrap_err().to_string().contains("below 2"));
    let e = Detect::new(
        &Scope::root(&Params::new(), 0, &Device::Cpu),
        &networks()[0],
        DetectConfig { classes: 0, ..config() },
    );
    assert!(e.err().unwrap().to_string().contains("at least one class"));
}

/// The loss of places whose scores are all 0: with `P` positive of `M` places and two classes, `focal = (P /
/// 4 + (2 M - P) * 3 / 4) / 4 ln 2`, centre-ness ln 2 a place, and boxes that are right cost nothing.
#[test]
fn the_loss_in_closed_form() {
    let detect = build(&networks()[0], config());
    let targets =
        Tensor::from_vec(vec![3f32, 4.0, 5.0, 6.0, 1.0, 1.0, 1.0, 1.0], (1, 2, 4), &Device::Cpu).unwrap();
    let zeros = |shape: &[usize]| Tensor::zeros(shape, candle_core::DType::F32, &Device::Cpu).unwrap();
    let e = Places {
        scores: zeros(&[1, 2, 2]),
        sides: targets.clone(),
        centre: zeros(&[1, 2]),
        classes: Tensor::new(&[[2i64, 0]], &Device::Cpu).unwrap(),
        targets,
    };
    let loss = detect.criterion(&e, &Pass::eval()).unwrap();
    let part = |name: &str| {
        let found = loss.parts.iter().find(|(n, _)| *n == name).unwrap();
        f64::from(found.1.to_scalar::<f32>().unwrap())
    };
    let ln2 = 2f64.ln();
    assert!((part("classes") - (0.25 + 3.0 * 0.75) / 4.0 * ln2).abs() < 1e-6);
    assert!(part("boxes").abs() < 1e-6 && (part("centreness") - ln2).abs() < 1e-6);
}

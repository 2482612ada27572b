//! Golden cases, groups, refusals.

use super::*;
use crate::init::Init;
use crate::schedule::LrSchedule;
use crate::scope::Scope;
use candle_core::Device;

fn golden(name: &str, config: OptimConfig) -> Result<()> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(format!("../../tests/golden/optim/{name}.safetensors"));
    let t = candle_core::safetensors::load(path, &Device::Cpu)?;
    let params = Params::new();
    let scope = Scope::root(&params, 0, &Device::Cpu);
    for key in ["w", "b"] {
        scope.get(key, t[&format!("input.{key}")].dims(), Init::Const(0.0))?;
        params.set(key, &t[&format!("input.{key}")])?;
    }
    let mut optimizer = Optimizer::new(&params, config.clone())?;
    for step in 0..5u64 {
        if step == 3 {
            // A saved and reloaded state goes on the same way.
            let state: Vec<(String, Tensor)> =
                optimizer.state().into_iter().map(|(n, t)| (n, t.copy().unwrap())).collect();
            optimizer = Optimizer::new(&params, config.clone())?;
            optimizer.load_state(&state)?;
        }
        let mut grads = Grads::default();
        for key in ["w", "b"] {
            grads.insert(key, t[&format!("input.g{key}{step}")].clone());
        }
        optimizer.step(&grads, step, 5)?;
        for key in ["w", "b"] {
            let want = &t[&format!("expected.{key}{step}")];
            let got = params.get(key).unwrap().var.as_detached_tensor();
            let gap = (got - want)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?;
            assert!(gap < 1e-5, "{name}: {key} at step {step} is off by {gap}");
        }
    }
    Ok(())
}

fn constant(kind: OptimKind) -> OptimConfig {
    OptimConfig { kind, lr: 0.1, schedule: LrSchedule::constant(), ..OptimConfig::default() }
}

#[test]
fn golden_adamw() -> Result<()> {
    golden("adamw", OptimConfig { betas: (0.9, 0.95), weight_decay: 0.05, ..constant(OptimKind::Adamw) })
}

#[test]
fn golden_sgd() -> Result<()> {
    golden("sgd_momentum", OptimConfig { weight_decay: 0.01, decay_all: true, ..constant(OptimKind::Sgd) })
}

#[test]
fn golden_lars() -> Result<()> {
    golden("lars", OptimConfig { weight_decay: 1e-3, ..constant(OptimKind::Lars) })
}

/// A tensor in a scope of its place.
fn placed(scope: &Scope, name: &str, shape: &[usize], place: Place) {
    let scope = match place {
        Place::Stem => scope.stem(),
        Place::Block(i) => scope.block(i),
        Place::Top => scope.top(),
    };
    scope.get(name, shape, Init::Const(0.0)).unwrap();
}

#[test]
fn a_tensor_without_a_place_has_no_layer_wise_rate() {
    let params = Params::new();
    Scope::root(&params, 0, &Device::Cpu).sub("blocks.0").get("w", (1, 1), Init::Const(0.0)).unwrap();
    let config = OptimConfig { layer_decay: Some(0.5), ..constant(OptimKind::Sgd) };
    let error = Optimizer::new(&params, config).err().unwrap().to_string();
    assert!(error.contains("blocks.0.w") && error.contains("place"), "{error}");
    assert!(train_last_blocks(&params, "blocks", 1).unwrap_err().to_string().contains("blocks.0.w"));
}

/// Each tensor by itself, and then all of them together.
#[test]
fn clipping_by_tensor_leaves_the_short_ones() -> Result<()> {
    let after = |clip_grad_norm: Option<f64>| -> Result<(StepInfo, Vec<f32>)> {
        let params = Params::new();
        let scope = Scope::root(&params, 0, &Device::Cpu);
        scope.get("w", 2, Init::Const(0.0))?;
        scope.get("v", 1, Init::Const(0.0))?;
        let config = OptimConfig {
            clip_grad_each: Some(1.0),
            clip_grad_norm,
            momentum: 0.0,
            weight_decay: 0.0,
            ..constant(OptimKind::Sgd)
        };
        let mut grads = Grads::default();
        grads.insert("w", Tensor::new(&[3f32, 4.0], &Device::Cpu)?);
        grads.insert("v", Tensor::new(&[0.75f32], &Device::Cpu)?);
        let info = Optimizer::new(&params, config)?.step(&grads, 0, 1)?;
        let of = |name: &str| params.get(name).unwrap().var.to_vec1::<f32>();
        Ok((info, [of("w")?, of("v")?].concat()))
    };
    let near = |got: &[f32], want: [f32; 3]| got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-6);
    let (info, got) = after(None)?;
    assert!(info.clipped && (info.grad_norm - (25f64 + 0.5625).sqrt()).abs() < 1e-6);
    assert!(near(&got, [-0.06, -0.08, -0.075]), "{got:?}");
    // Of length 1.25 once each is clipped.
    let (_, got) = after(Some(0.625))?;
    assert!(near(&got, [-0.03, -0.04, -0.0375]), "{got:?}");
    Ok(())
}

#[test]
fn clipping_scales_the_whole_gradient() -> Result<()> {
    let params = Params::new();
    Scope::root(&params, 0, &Device::Cpu).get("w", 2, Init::Const(0.0))?;
    let config = OptimConfig {
        clip_grad_norm: Some(1.0),
        momentum: 0.0,
        weight_decay: 0.0,
        ..constant(OptimKind::Sgd)
    };
    let mut grads = Grads::default();
    grads.insert("w", Tensor::new(&[3f32, 4.0], &Device::Cpu)?);
    let info = Optimizer::new(&params, config)?.step(&grads, 0, 1)?;
    assert!(info.clipped && (info.grad_norm - 5.0).abs() < 1e-9);
    let w = params.get("w").unwrap().var.to_vec1::<f32>()?;
    assert!((w[0] + 0.06).abs() < 1e-6 && (w[1] + 0.08).abs() < 1e-6);
    Ok(())
}

fn two_tensors() -> Params {
    let params = Params::new();
    let scope = Scope::root(&params, 5, &Device::Cpu);
    scope.get("a", (2, 3), Init::Normal(1.0)).unwrap();
    scope.get("b", 4, Init::Normal(1.0)).unwrap();
    scope.with_role(Role::Frozen).get("fixed", 4, Init::Normal(1.0)).unwrap();
    params
}

fn ones(dims: &[usize]) -> Tensor {
    Tensor::ones(dims, DType::F32, &Device::Cpu).unwrap()
}

fn values(tensors: Vec<(String, Tensor)>) -> Vec<(String, Vec<f32>)> {
    tensors
        .into_iter()
        .map(|(n, t)| (n, t.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()))
        .collect()
}

fn all(p: &Params) -> Vec<(String, Vec<f32>)> {
    values(p.all().into_iter().map(|p| (p.name.clone(), p.var.as_detached_tensor())).collect())
}

#[test]
fn without_a_gradient_nothing_moves() -> Result<()> {
    for kind in [OptimKind::Adamw, OptimKind::Sgd, OptimKind::Lars] {
        let params = two_tensors();
        let mut optimizer = Optimizer::new(&params, constant(kind))?;
        let mut grads = Grads::default();
        grads.insert("a", ones(&[2, 3]));
        grads.insert("b", ones(&[4]));
        optimizer.step(&grads, 0, 9)?;
        let (before, state) = (all(&params), values(optimizer.state()));
        grads.remove("b");
        optimizer.step(&grads, 1, 9)?;
        let (after, moved) = (all(&params), values(optimizer.state()));
        for (old, new) in before.iter().zip(&after).chain(state.iter().zip(&moved)) {
            assert_eq!(old.0, new.0);
            assert_eq!(old.1 == new.1, !old.0.starts_with('a'), "{kind:?} {}", old.0);
        }
    }
    Ok(())
}

#[test]
fn bad_gradients_are_named_and_change_nothing() -> Result<()> {
    let params = two_tensors();
    let mut optimizer = Optimizer::new(&params, constant(OptimKind::Adamw))?;
    let (before, state) = (all(&params), values(optimizer.state()));
    for (name, grad, message) in [
        ("b", ones(&[3]), "gradient of b: shape [3], expected [4]"),
        ("c", ones(&[3]), "gradient of c: no tensor"),
        ("fixed", ones(&[4]), "gradient of fixed: no tensor"),
        (
            "b",
            Tensor::new(&[1f32, f32::NAN, 0.0, 0.0], &Device::Cpu)?,
            "step 7: the gradient of b is not finite",
        ),
        (
            "b",
            Tensor::new(&[1f32, f32::INFINITY, 0.0, 0.0], &Device::Cpu)?,
            "step 7: the gradient of b is not finite",
        ),
    ] {
        let mut grads = Grads::default();
        grads.insert("a", ones(&[2, 3]));
        grads.insert(name, grad);
        let e = optimizer.step(&grads, 7, 9).unwrap_err().to_string();
        assert!(e.contains(message), "{e}");
    }
    assert_eq!((all(&params), values(optimizer.state())), (before, state));
    // The squares of these overflow f32, but the gradient is finite.
    let mut grads = Grads::default();
    grads.insert("a", (ones(&[2, 3]) * 1e30)?);
    assert!(grads.first_non_finite()?.is_none() && (grads.norm()? / (6f64.sqrt() * 1e30) - 1.0).abs() < 1e-6);
    Ok(())
}

/// The squares that are kept are those of the gradients as they are now.
#[test]
fn norms_follow_changes() -> Result<()> {
    let mut grads = Grads::default();
    grads.insert("a", ones(&[2, 3]));
    grads.insert("b", (ones(&[4]) * 2.0)?);
    let near = |grads: &Grads, square: f64| -> Result<()> {
        assert!((grads.norm()? - square.sqrt()).abs() < 1e-6, "{} for {square}", grads.norm()?);
        Ok(())
    };
    near(&grads, 22.0)?;
    let other = grads.clone();
    grads.insert("a", (ones(&[2, 3]) * 3.0)?);
    near(&grads, 70.0)?;
    grads.scale(0.5)?;
    near(&grads, 17.5)?;
    grads.add(&other)?;
    near(&grads, 6.0 * 6.25 + 4.0 * 9.0)?;
    grads.remove("b");
    near(&grads, 37.5)?;
    grads.insert("c", (ones(&[1]) * f64::NAN)?);
    assert_eq!(grads.first_non_finite()?.as_deref(), Some("c"));
    Ok(())
}

#[test]
fn another_state_is_refused_whole() -> Result<()> {
    let params = two_tensors();
    let mut optimizer = Optimizer::new(&params, constant(OptimKind::Adamw))?;
    let mut grads = Grads::default();
    grads.insert("a", ones(&[2, 3]));
    optimizer.step(&grads, 0, 9)?;
    let before = values(optimizer.state());
    let mut state = optimizer.state();
    state.retain(|(n, _)| n != "a/second");
    state.iter_mut().filter(|(n, _)| n == "b/first").for_each(|(_, t)| *t = ones(&[5]));
    state.push(("c/first".into(), ones(&[5])));
    let e = optimizer.load_state(&state).unwrap_err().to_string();
    for part in ["a/second is missing", "b/first has shape [5], expected [4]", "c/first is unexpected"] {
        assert!(e.contains(part), "{e}");
    }
    assert_eq!(values(optimizer.state()), before);
    let sgd = Optimizer::new(&params, constant(OptimKind::Sgd))?.state();
    assert!(optimizer.load_state(&sgd).is_err(), "state of another kind");
    Ok(())
}

#[test]
fn schedules_reach_the_update() -> Result<()> {
    let params = Params::new();
    Scope::root(&params, 0, &Device::Cpu).get("w", (1, 1), Init::Const(1.0))?;
    let one = LrSchedule::one_cycle();
    let config = OptimConfig {
        kind: OptimKind::Sgd,
        lr: 1.0,
        momentum: 0.0,
        weight_decay: 0.0,
        weight_decay_end: Some(0.2),
        schedule: one.clone(),
        ..OptimConfig::default()
    };
    let mut optimizer = Optimizer::new(&params, config)?;
    let (mut w, mut buf) = (1f64, 0f64);
    for step in 0..10 {
        let mut grads = Grads::default();
        grads.insert("w", ones(&[1, 1]));
        let info = optimizer.step(&grads, step, 10)?;
        let decay = 0.2 * (1.0 - (std::f64::consts::PI * step as f64 / 10.0).cos()) / 2.0;
        let g = 1.0 + decay * w;
        buf = if step == 0 { g } else { one.beta1(step, 10).unwrap() * buf + g };
        w -= one.lr(1.0, step, 10) * buf;
        assert!((info.lr - one.lr(1.0, step, 10)).abs() < 1e-12);
        let got = f64::from(params.get("w").unwrap().var.flatten_all()?.to_vec1::<f32>()?[0]);
        assert!((got - w).abs() < 1e-5 * w.abs().max(1.0), "step {step}: {got} {w}");
    }
    Ok(())
}

#[test]
fn layer_decay_scales_the_rate() -> Result<()> {
    let params = Params::new();
    let scope = Scope::root(&params, 0, &Device::Cpu);
    for (name, place) in [
        ("patch_embed.proj", Place::Stem),
        ("blocks.0.fc", Place::Block(0)),
        ("blocks.1.fc", Place::Block(1)),
        ("norm", Place::Top),
        ("head", Place::Top),
    ] {
        placed(&scope.sub(name), "weight", &[1, 1], place);
    }
    let config = OptimConfig { layer_decay: Some(0.5), momentum: 0.0, ..constant(OptimKind::Sgd) };
    let mut grads = Grads::default();
    params.all().iter().for_each(|p| grads.insert(p.name.clone(), ones(&[1, 1])));
    Optimizer::new(&params, config)?.step(&grads, 0, 1)?;
    let want = [
        ("blocks.0.fc.weight", 0.25),
        ("blocks.1.fc.weight", 0.5),
        ("head.weight", 1.0),
        ("norm.weight", 1.0),
        ("patch_embed.proj.weight", 0.125),
    ];
    for ((name, got), (expected, factor)) in all(&params).into_iter().zip(want) {
        assert_eq!(name, expected);
        assert!((got[0] + 0.1 * factor).abs() < 1e-6, "{name}: {got:?}");
    }
    Ok(())
}

#[test]
fn configuration_text() {
    let parse = |t: &str| toml::from_str::<OptimConfig>(t).map_err(|e| e.to_string());
    assert_eq!(parse("").unwrap(), OptimConfig::default());
    let sgd = parse("kind = \"sgd\"\nnesterov = true").unwrap();
    assert_eq!((sgd.lr, sgd.weight_decay, sgd.nesterov), (0.03, 1e-4, true));
    assert_eq!(parse("kind = \"lars\"\nlr = 1").unwrap().lr, 1.0);
    assert!(parse("learning_rate = 1").unwrap_err().contains("learning_rate"));
    for c in [
        OptimConfig::default(),
        OptimConfig {
            layer_decay: Some(0.75),
            weight_decay_end: Some(0.4),
            ..OptimConfig::of(OptimKind::Lars)
        },
    ] {
        assert_eq!(parse(&toml::to_string(&c).unwrap()).unwrap(), c);
    }
    for (text, key) in [
        ("lr = -1.0", "lr"),
        ("betas = [0.9, 1.0]", "betas"),
        ("clip_grad_norm = 0.0", "clip_grad_norm"),
        ("clip_grad_each = -1.0", "clip_grad_each"),
        ("layer_decay = 1.5", "layer_decay"),
        ("weight_decay_end = nan", "weight_decay_end"),
        ("eps = 0.0", "eps"),
        ("schedule = { kind = \"constant\", warmup = { epochs = 3 } }", "warmup.epochs"),
    ] {
        let e = Optimizer::new(&Params::new(), parse(text).unwrap()).err().unwrap().to_string();
        assert!(e.contains(key), "{text}: {e}");
    }
}

#[test]
fn the_last_blocks_stay_trained() {
    let names = [
        ("encoder.patch_embed.proj.weight", Place::Stem),
        ("encoder.blocks.0.w", Place::Block(0)),
        ("encoder.blocks.1.w", Place::Block(1)),
        ("encoder.blocks.2.w", Place::Block(2)),
        ("encoder.norm.weight", Place::Top),
    ];
    let left = |blocks: usize| {
        let params = Params::new();
        let scope = Scope::root(&params, 0, &Device::Cpu);
        for (name, place) in names.iter().chain(&[("head.weight", Place::Top)]) {
            placed(&scope, name, &[2], *place);
        }
        let count = train_last_blocks(&params, "encoder", blocks).unwrap();
        let trained: Vec<String> = params.with_role(Role::Trained).into_iter().map(|p| p.name).collect();
        assert_eq!(trained.len(), count + 1);
        trained
    };
    assert_eq!(left(0), ["head.weight"]);
    assert_eq!(left(1), ["encoder.blocks.2.w", "encoder.norm.weight", "head.weight"]);
    assert_eq!(left(2).len(), 4);
    assert_eq!(left(3).len(), 5, "the embedding is below the first block");
    assert_eq!(left(4).len(), 6);
}

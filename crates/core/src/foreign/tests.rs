//! A good network passes; each layer that cannot be trained is refused by name, with its replacement. Here,
//! and here alone, the layers that clippy.toml bans are built.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use super::*;
use crate::nn::LayerNorm;
use crate::params::{Params, Place, Role};
use crate::pass::{Pass, Progress};
use crate::scope::Scope;
use crate::{Encoder, Error, Layer, Result};
use candle_core::{DType, Device, Module, ModuleT, Tensor};
use candle_nn::init::{DEFAULT_KAIMING_NORMAL, DEFAULT_KAIMING_UNIFORM, Init};
use candle_nn::{Conv1dConfig, Conv2dConfig, VarBuilder, ops};
use selfsup_kernels::Path;
use selfsup_kernels::activation::{gelu_erf, relu};
use selfsup_kernels::rng::Key;

const STRIDE: Conv2dConfig =
    Conv2dConfig { stride: 2, padding: 1, dilation: 1, groups: 1, cudnn_fwd_algo: None };

fn root() -> Scope {
    Scope::root(&Params::new(), 3, &Device::Cpu).sub("encoder")
}

fn images() -> Tensor {
    random(&[3, 2, 8, 8])
}

fn random(shape: &[usize]) -> Tensor {
    let mut rng = Key::new(5).rng();
    let n = shape.iter().product();
    Tensor::from_vec((0..n).map(|_| rng.normal()).collect::<Vec<f32>>(), shape, &Device::Cpu).unwrap()
}

fn first_pass() -> Pass {
    Pass::train(0, Progress::default())
}

type Step = Box<dyn Fn(&Tensor) -> candle_core::Result<Tensor> + Send + Sync>;

/// Convolution, a step, global average, linear.
struct Net {
    conv: candle_nn::Conv2d,
    step: Step,
    fc: candle_nn::Linear,
}

impl Net {
    fn new(
        s: &Scope,
        step: impl Fn(&Tensor) -> candle_core::Result<Tensor> + Send + Sync + 'static,
    ) -> Result<Self> {
        Ok(Net {
            conv: candle_nn::conv2d(2, 6, 3, STRIDE, s.stem().sub("conv").var_builder())?,
            step: Box::new(step),
            fc: candle_nn::linear(6, 4, s.top().sub("fc").var_builder())?,
        })
    }
}

impl Module for Net {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let x = (self.step)(&self.conv.forward(x)?)?;
        self.fc.forward(&x.mean((2, 3))?)
    }
}

fn same(x: &Tensor) -> candle_core::Result<Tensor> {
    Ok(x.clone())
}

/// Over the channels of `(N, C, H, W)` as the last dimension.
fn over_channels(
    x: &Tensor,
    f: impl Fn(&Tensor) -> candle_core::Result<Tensor>,
) -> candle_core::Result<Tensor> {
    f(&x.permute((0, 2, 3, 1))?.contiguous()?)?.permute((0, 3, 1, 2))
}

fn refusal<M: ModuleT>(
    x: &Tensor,
    dim: usize,
    build: impl Fn(&Scope) -> Result<M> + Send + Sync + 'static,
) -> String {
    let network = Foreign::new(&root(), dim, build).unwrap();
    network.forward(x, None, &[], &Pass::eval()).expect("evaluation needs no gradient");
    let error = network.forward(x, None, &[], &first_pass()).expect_err("it cannot be trained");
    assert!(matches!(error, Error::Input { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("docs/adding-an-encoder.md"), "{text}");
    text
}

fn contains(text: &str, parts: &[&str]) {
    parts.iter().for_each(|part| assert!(text.contains(part), "{part}: {text}"));
}

#[test]
fn good_networks_pass() {
    type Plain = fn(&Tensor) -> candle_core::Result<Tensor>;
    let steps: [(&str, Plain); 5] = [
        ("relu", |x| relu(x, Path::Auto)),
        ("gelu", |x| gelu_erf(x, Path::Auto)),
        ("candle's gelu", |x| x.gelu_erf()),
        ("silu", ops::silu),
        ("softmax", |x| ops::softmax(x, 1)),
    ];
    for (name, step) in steps {
        let network = Foreign::new(&root(), 4, move |s: &Scope| Net::new(s, step)).unwrap();
        let pooled = network.forward(&images(), None, &[], &first_pass()).map(|f| f.pooled);
        assert_eq!(pooled.unwrap_or_else(|e| panic!("{name}: {e}")).dims(), [3, 4]);
    }
    // Our layers inside of theirs.
    let network = Foreign::new(&root(), 4, |s: &Scope| {
        let norm = LayerNorm::new(&s.top().sub("norm"), 6, 1e-5)?;
        Net::new(s, move |x| over_channels(x, |x| Ok(norm.forward(x, &Pass::eval())?)))
    });
    network.unwrap().forward(&images(), None, &[], &first_pass()).unwrap();
    let network = Foreign::new(&root(), 4, |s: &Scope| {
        let norm = candle_nn::group_norm(2, 6, 1e-5, s.top().sub("norm").var_builder())?;
        Net::new(s, move |x| norm.forward(x))
    });
    network.unwrap().forward(&images(), None, &[], &first_pass()).unwrap();
    // A transposed convolution, and samples that are all the same: black images hide nothing and fail nothing.
    let network = Foreign::new(&root(), 4, |s: &Scope| {
        let up = candle_nn::conv_transpose2d(6, 6, 2, Default::default(), s.top().sub("up").var_builder())?;
        Net::new(s, move |x| up.forward(x))
    });
    network.unwrap().forward(&images().zeros_like().unwrap(), None, &[], &first_pass()).unwrap();
    // Ids of tokens.
    let ids = Tensor::new(&[[1u32, 2, 3], [3, 0, 1]], &Device::Cpu).unwrap();
    let network = Foreign::new(&root(), 4, |s: &Scope| {
        Ok(candle_nn::seq()
            .add(candle_nn::embedding(5, 3, s.stem().sub("tokens").var_builder())?)
            .add(candle_nn::linear(3, 4, s.top().sub("fc").var_builder())?))
    });
    let features = network.unwrap().forward(&ids, None, &[Layer::Tokens], &first_pass()).unwrap();
    assert_eq!((features.pooled.dims(), features.tokens.unwrap().dims()), (&[2, 4][..], &[2, 3, 4][..]));
}

#[test]
fn hidden_state_is_refused() {
    let text = refusal(&images(), 4, |s| {
        let norm = candle_nn::batch_norm(6, 1e-5, s.sub("bn").var_builder())?;
        let net = Net::new(s, same)?;
        let net = candle_nn::func_t(move |x, train| {
            net.fc.forward(&net.conv.forward(x)?.apply_t(&norm, train)?.mean((2, 3))?)
        });
        Ok(net)
    });
    contains(&text, &["encoder.bn:", "candle_nn::BatchNorm", "candle_nn::group_norm", "core::nn::BatchNorm"]);
    let text = refusal(&images(), 4, |s| {
        let (net, dropout) = (Net::new(s, same)?, candle_nn::Dropout::new(0.5));
        Ok(candle_nn::func_t(move |x, train| dropout.forward(&net.forward(x)?, train)))
    });
    contains(&text, &["encoder:", "candle_nn::Dropout", "selfsup_kernels::dropout", "two training passes"]);
    let text = refusal(&images(), 4, |s| {
        let net = Net::new(s, same)?;
        Ok(candle_nn::func_t(move |x, train| if train { net.forward(x)? * 2.0 } else { net.forward(x) }))
    });
    contains(&text, &["differs from an evaluation pass"]);
}

#[test]
fn lost_gradients_are_refused() {
    let text = refusal(&images(), 4, |s| {
        let norm = candle_nn::layer_norm(6, 1e-5, s.sub("ln").var_builder())?;
        Net::new(s, move |x| over_channels(x, |x| norm.forward(x)))
    });
    contains(&text, &["encoder.conv, encoder.ln:", "encoder.ln looks like candle_nn::LayerNorm"]);
    contains(&text, &["selfsup_core::nn::LayerNorm", "selfsup_kernels::norm::layer_norm"]);
    let text = refusal(&images(), 4, |s| {
        let norm = candle_nn::rms_norm(6, 1e-5, s.sub("rms").var_builder())?;
        Net::new(s, move |x| over_channels(x, |x| norm.forward(x)))
    });
    contains(&text, &["encoder.rms looks like candle_nn::RmsNorm", "selfsup_core::nn::RmsNorm"]);
    let text = refusal(&images(), 4, |s| Net::new(s, |x| over_channels(x, ops::softmax_last_dim)));
    contains(
        &text,
        &["encoder.conv:", "candle_nn::ops::softmax_last_dim", "selfsup_kernels::softmax::softmax"],
    );
    assert!(!text.contains("encoder.fc"), "{text}");
}

#[test]
fn wrong_gradients_are_refused() {
    let text = refusal(&images(), 4, |s| Net::new(s, |x| x.max_pool2d(2)));
    contains(
        &text,
        &["encoder.conv:", "encoder.fc is right", "max_pool2d", "selfsup_kernels::pool::max_pool"],
    );
    let text = refusal(&images(), 4, |s| Net::new(s, |x| x.max_pool2d_with_stride(3, 1)));
    contains(&text, &["maxpool2d", "selfsup_kernels::pool::max_pool"]);
    let text = refusal(&random(&[3, 2, 20]), 4, |s| {
        let config = Conv1dConfig { stride: 2, ..Conv1dConfig::default() };
        let conv = candle_nn::conv1d(2, 4, 3, config, s.sub("front").var_builder())?;
        Ok(candle_nn::func(move |x| conv.forward(x)?.gelu_erf()?.mean(2)))
    });
    contains(&text, &["encoder.front looks like candle_nn::Conv1d", "selfsup_kernels::conv::conv"]);
    let text = refusal(&random(&[3, 2, 20]), 4, |s| {
        let up = candle_nn::conv_transpose1d(2, 4, 3, Default::default(), s.sub("up").var_builder())?;
        Ok(candle_nn::func(move |x| up.forward(x)?.mean(2)))
    });
    contains(&text, &["candle_nn::ConvTranspose1d", "selfsup_kernels::conv_transpose::conv_transpose"]);
}

#[test]
fn idle_parameters_are_named() {
    let network = Foreign::new(&root(), 4, |s: &Scope| {
        candle_nn::linear(3, 3, s.sub("idle").var_builder())?;
        Net::new(s, same)
    });
    let error = network.unwrap().forward(&images(), None, &[], &first_pass()).unwrap_err().to_string();
    contains(&error, &["encoder.idle:", "does not depend on it"]);
}

/// The check runs on a copy, before the first training pass alone, and not at all where nothing is trained.
#[test]
fn the_check_changes_nothing_and_skips_what_is_frozen() -> Result<()> {
    let scope = root();
    let network =
        Foreign::new(&scope, 4, |s: &Scope| Net::new(s, |x| over_channels(x, ops::softmax_last_dim)))?;
    scope.params().set_role("encoder", Role::Trained, Role::Frozen);
    let frozen = network.forward(&images(), None, &[], &first_pass())?.pooled;
    assert!(!frozen.track_op());
    scope.params().set_role("encoder.fc", Role::Frozen, Role::Trained);
    // Behind the softmax alone the gradient is right.
    let head = network.forward(&images(), None, &[], &first_pass())?.pooled;
    assert!(head.track_op(), "a pass sees the present roles");
    assert_eq!(frozen.to_vec2::<f32>()?, head.to_vec2::<f32>()?);
    let moved = scope.params().get("encoder.fc.bias").map(|p| p.role);
    assert_eq!(moved, Some(Role::Trained));
    Ok(())
}

#[test]
fn parameters_are_ours() -> Result<()> {
    let build = |scope: &Scope| Foreign::new(scope, 4, |s: &Scope| Net::new(s, same));
    let (a, b) = (root(), root());
    build(&a)?;
    b.var_builder().get_with_hints((5, 5), "other", DEFAULT_KAIMING_NORMAL)?; // changes nothing else
    let network = build(&b)?;
    let names: Vec<String> = a.params().all().into_iter().map(|p| p.name).collect();
    assert_eq!(names, ["encoder.conv.bias", "encoder.conv.weight", "encoder.fc.bias", "encoder.fc.weight"]);
    for p in a.params().all() {
        let other = b.params().get(&p.name).unwrap().var;
        let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(values(p.var.as_tensor()), values(other.as_tensor()), "{}", p.name);
        assert!(values(p.var.as_tensor()).iter().any(|v| *v != 0.0), "{}", p.name);
        let (stem, matrix) = (p.name.contains("conv"), p.name.ends_with("weight"));
        assert_eq!((p.place, p.decay), (Some(if stem { Place::Stem } else { Place::Top }), matrix));
    }
    // The module sees a value that is written later.
    let before = network.forward(&images(), None, &[], &Pass::eval())?.pooled;
    b.params().set("encoder.fc.bias", &Tensor::ones(4, DType::F32, &Device::Cpu)?)?;
    let after = network.forward(&images(), None, &[], &Pass::eval())?.pooled;
    assert!((after - before)?.abs()?.min_all()?.to_scalar::<f32>()? > 0.1);
    // A teacher starts as a copy and builds no graph.
    let teacher = b.sub("teacher").with_role(Role::Teacher).copying("encoder");
    build(&teacher)?;
    let copy = b.params().get("encoder.teacher.fc.bias").unwrap().var;
    assert_eq!(copy.as_tensor().to_vec1::<f32>()?, [1.0; 4]);
    assert!(!build(&teacher)?.forward(&images(), None, &[], &first_pass())?.pooled.track_op());
    Ok(())
}

#[test]
fn initial_values_are_drawn_as_described() -> Result<()> {
    let vb = root().var_builder();
    let moments = |name: &str, init: Init| -> Result<(f64, f64, f32)> {
        let v = vb.get_with_hints((50, 20, 3), name, init)?.flatten_all()?.to_vec1::<f32>()?;
        let mean = v.iter().map(|x| f64::from(*x)).sum::<f64>() / v.len() as f64;
        let var = v.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / v.len() as f64;
        Ok((mean, var.sqrt(), v.iter().fold(0.0, |m: f32, x| m.max(x.abs()))))
    };
    let close = |a: f64, b: f64| assert!((a - b).abs() < 0.05 * b.abs().max(0.3), "{a} {b}");
    let (mean, sd, _) = moments("a", Init::Randn { mean: 2.0, stdev: 0.5 })?;
    close(mean, 2.0);
    close(sd, 0.5);
    let (mean, sd, top) = moments("b", Init::Uniform { lo: -1.0, up: 3.0 })?;
    close(mean, 1.0);
    close(sd, 4.0 / 12f64.sqrt());
    assert!(top <= 3.0);
    let deviation = (2.0f64 / 60.0).sqrt(); // fan in 20 x 3, gain sqrt(2)
    close(moments("c", DEFAULT_KAIMING_NORMAL)?.1, deviation);
    let (_, sd, top) = moments("d", DEFAULT_KAIMING_UNIFORM)?;
    close(sd, deviation);
    assert!(f64::from(top) <= 3f64.sqrt() * deviation + 1e-6);
    assert_eq!(moments("e", Init::Const(0.25))?.0, 0.25);
    Ok(())
}

#[test]
fn what_does_not_fit_is_refused_by_name() -> Result<()> {
    let scope = root();
    let message = |r: candle_core::Result<Tensor>| r.unwrap_err().to_string();
    let vb = || -> VarBuilder<'static> { scope.sub("fc").var_builder() };
    contains(&message(vb().to_dtype(DType::BF16).get(3, "weight")), &["encoder.fc.weight", "BF16", "F32"]);
    contains(&message(vb().get_unchecked("weight")), &["encoder.fc.weight", "without a shape"]);
    vb().get(3, "weight")?;
    assert_eq!(vb().get_unchecked("weight")?.dims(), [3]);
    contains(&message(vb().get(4, "weight")), &["encoder.fc.weight", "[4]", "[3]"]);
    assert!(vb().contains_tensor("weight") && !vb().contains_tensor("bias"));
    let network = |dim| Foreign::new(&root(), dim, |s: &Scope| Net::new(s, same));
    let error = |dim, want: &[Layer], pass: &Pass| {
        network(dim).unwrap().forward(&images(), None, want, pass).unwrap_err().to_string()
    };
    contains(&error(7, &[], &Pass::eval()), &["encoder:", "width 4", "width 7"]);
    contains(&error(4, &[Layer::Tokens], &Pass::eval()), &["encoder:", "Tokens"]);
    contains(&error(4, &[Layer::Hidden(1)], &Pass::eval()), &["encoder:", "Hidden(1)"]);
    let mut half = Pass::eval();
    half.precision = DType::BF16;
    contains(&error(4, &[], &half), &["encoder:", "BF16"]);
    let padded = network(4)?.forward(&images(), Some(&images()), &[], &Pass::eval());
    contains(&padded.unwrap_err().to_string(), &["valid"]);
    Ok(())
}

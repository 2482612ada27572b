//! Operators: forward and all gradients, on the fused path and on the composed one.

use super::case::{Case, Handler, Outputs, Result};
use candle_core::{DType, Tensor};
use selfsup_kernels::Path;
use selfsup_kernels::activation::{Act, gelu_erf, gelu_tanh, prelu, relu};
use selfsup_kernels::attention::{AttentionOpts, attention};
use selfsup_kernels::conv::{ConvSpec, conv};
use selfsup_kernels::conv_transpose::conv_transpose;
use selfsup_kernels::loss::cross_entropy;
use selfsup_kernels::norm::{batch_norm, group_norm, instance_norm, layer_norm, rms_norm};
use selfsup_kernels::pool::{avg_pool, max_pool};
use selfsup_kernels::resize::{Resize, resize};
use selfsup_kernels::softmax::{log_softmax, softmax};
use selfsup_kernels::weight_norm::weight_norm;

type Op = fn(&Case, &dyn Fn(&str) -> Option<Tensor>, Path) -> Result<Tensor>;

/// The operator of a case, by the start of its name.
fn op(name: &str) -> Option<Op> {
    const OPS: &[(&str, Op)] = &[
        ("conv_transpose", conv_transpose_case),
        ("conv", conv_case),
        ("batch_norm", |c, t, p| {
            channels_last(t, |x| Ok(batch_norm(x, &packed(t)?, c.number("eps", 1e-5), Act::None, p)?.0))
        }),
        ("instance_norm", |c, t, p| {
            channels_last(t, |x| Ok(instance_norm(x, Some(&packed(t)?), c.number("eps", 1e-5), p)?))
        }),
        ("group_norm", |c, t, p| {
            channels_last(t, |x| {
                Ok(group_norm(x, Some(&packed(t)?), c.whole("groups", 1), c.number("eps", 1e-5), p)?)
            })
        }),
        ("layer_norm", |c, t, p| {
            let gb = if t("w").is_some() { Some(packed(t)?) } else { None };
            Ok(layer_norm(&x(t)?, gb.as_ref(), c.number("eps", 1e-5), p)?)
        }),
        ("rms_norm", |c, t, p| Ok(rms_norm(&x(t)?, &t("w").ok_or("no w")?, c.number("eps", 1e-6), p)?)),
        ("softmax", |_, t, p| Ok(softmax(&x(t)?, p)?)),
        ("log_softmax", |_, t, p| Ok(log_softmax(&x(t)?, p)?)),
        ("gelu_erf", |_, t, p| Ok(gelu_erf(&x(t)?, p)?)),
        ("gelu_tanh", |_, t, p| Ok(gelu_tanh(&x(t)?, p)?)),
        ("relu", |_, t, p| Ok(relu(&x(t)?, p)?)),
        ("prelu", |_, t, p| Ok(prelu(&x(t)?, &t("w").ok_or("no w")?, p)?)),
        ("weight_norm", weight_norm_case),
        ("max_pool", |c, t, p| channels_last(t, |x| pool(c, x, |k, s, q| Ok(max_pool(x, k, s, q, p)?)))),
        ("avg_pool", |c, t, p| channels_last(t, |x| pool(c, x, |k, s, q| Ok(avg_pool(x, k, s, q, p)?)))),
        ("attention", attention_case),
        ("cross_entropy", |c, t, p| {
            Ok(cross_entropy(&x(t)?, &c.input("y")?, c.number("label_smoothing", 0.0), p)?)
        }),
        ("upsample_nearest2d_used_twice", |c, t, p| {
            let y = resized(c, t, Resize::Nearest, p)?;
            Ok(y.broadcast_add(&x(t)?.sum_all()?)?)
        }),
        ("upsample_nearest", |c, t, p| resized(c, t, Resize::Nearest, p)),
        ("upsample", |c, t, p| resized(c, t, Resize::Linear, p)),
        ("resize_bicubic", |c, t, p| resized(c, t, Resize::Bicubic, p)),
    ];
    OPS.iter().find(|(start, _)| name.starts_with(start)).map(|(_, op)| *op)
}

/// Who runs an operator's case.
pub fn handler(case: &Case) -> Option<Handler> {
    op(case.short())?;
    Some(|case| {
        let op = op(case.short()).ok_or("no operator")?;
        let names = ["x", "w", "b", "v", "g", "q", "k", "bias"];
        let names: Vec<&str> =
            if case.short().starts_with("attention") { vec!["q", "k", "v", "bias"] } else { names.to_vec() };
        let run = |path| -> Result<Outputs> { case.differentiate(&names, "y", |t| op(case, t, path)) };
        Ok(vec![("fused".into(), run(Path::Fused)?), ("composed".into(), run(Path::Composed)?)])
    })
}

fn x(t: &dyn Fn(&str) -> Option<Tensor>) -> Result<Tensor> {
    t("x").ok_or_else(|| "no input.x".into())
}

/// Weight and bias stacked, `(2, C)`.
fn packed(t: &dyn Fn(&str) -> Option<Tensor>) -> Result<Tensor> {
    Ok(Tensor::stack(&[t("w").ok_or("no input.w")?, t("b").ok_or("no input.b")?], 0)?)
}

fn to_last(x: &Tensor) -> Result<Tensor> {
    let order: Vec<usize> = std::iter::once(0).chain(2..x.rank()).chain(std::iter::once(1)).collect();
    Ok(x.permute(order)?)
}

fn to_first(y: &Tensor) -> Result<Tensor> {
    let r = y.rank();
    let order: Vec<usize> = [0, r - 1].into_iter().chain(1..r - 1).collect();
    Ok(y.permute(order)?)
}

/// `f` in channels-last, on a view that is not contiguous.
fn channels_last(
    t: &dyn Fn(&str) -> Option<Tensor>,
    f: impl Fn(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    to_first(&f(&to_last(&x(t)?)?)?)
}

fn conv_case(c: &Case, t: &dyn Fn(&str) -> Option<Tensor>, p: Path) -> Result<Tensor> {
    let spec = ConvSpec::new()
        .stride(c.whole("stride", 1))
        .padding(c.whole("padding", 0))
        .dilation(c.whole("dilation", 1))
        .groups(c.whole("groups", 1));
    let (w, b) = (t("w").ok_or("no input.w")?, t("b"));
    channels_last(t, |x| Ok(conv(x, &w, b.as_ref(), &spec, p)?))
}

fn conv_transpose_case(c: &Case, t: &dyn Fn(&str) -> Option<Tensor>, p: Path) -> Result<Tensor> {
    let (w, b) = (t("w").ok_or("no input.w")?, t("b"));
    let whole = |name, default| c.whole(name, default);
    let (stride, padding, extra) = (whole("stride", 1), whole("padding", 0), whole("output_padding", 0));
    let (dilation, groups) = (whole("dilation", 1), whole("groups", 1));
    channels_last(t, |x| Ok(conv_transpose(x, &w, b.as_ref(), stride, padding, extra, dilation, groups, p)?))
}

fn weight_norm_case(c: &Case, t: &dyn Fn(&str) -> Option<Tensor>, p: Path) -> Result<Tensor> {
    let g = t("g").ok_or("no input.g")?;
    // The dimension that the gain varies over: the one that is not 1.
    let dim = c.input("g")?.dims().iter().position(|&d| d != 1).unwrap_or(0);
    Ok(weight_norm(&t("v").ok_or("no input.v")?, &g, dim, p)?)
}

fn pool(c: &Case, x: &Tensor, f: impl Fn(&[usize], &[usize], &[usize]) -> Result<Tensor>) -> Result<Tensor> {
    let axes = x.rank() - 2;
    let k = c.whole("kernel", 2);
    f(&vec![k; axes], &vec![c.whole("stride", k); axes], &vec![c.whole("padding", 0); axes])
}

fn attention_case(c: &Case, t: &dyn Fn(&str) -> Option<Tensor>, p: Path) -> Result<Tensor> {
    // (N, H, T, D) -> (N, T, H, D)
    let part = |name: &str| -> Result<Tensor> { Ok(t(name).ok_or("missing input")?.transpose(1, 2)?) };
    let kv = Tensor::stack(&[part("k")?, part("v")?], 2)?;
    let bias = t("bias").or_else(|| c.maybe("const_mask"));
    let opts = AttentionOpts {
        causal: c.short().contains("causal"),
        scale: c.params.get("scale").and_then(serde_json::Value::as_f64),
        dropout: None,
    };
    Ok(attention(&part("q")?, &kv, bias.as_ref(), &opts, p)?.transpose(1, 2)?)
}

fn resized(c: &Case, t: &dyn Fn(&str) -> Option<Tensor>, mode: Resize, p: Path) -> Result<Tensor> {
    let size = c.tensors.get("expected.y").ok_or("no expected.y")?.dims()[2..].to_vec();
    channels_last(t, |x| Ok(resize(&x.to_dtype(DType::F32)?, &size, mode, p)?))
}

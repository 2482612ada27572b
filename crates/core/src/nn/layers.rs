//! Linear, convolution, normalisation and embedding layers, and the small MLPs built from them.

use crate::error::{Error, Result};
use crate::init::Init;
use crate::params::Weight;
use crate::pass::{Deferred, Pass};
use crate::scope::{Buffer, Scope};
use candle_core::{D, Tensor};
use selfsup_kernels::Path;
use selfsup_kernels::activation::{Act, silu};
use selfsup_kernels::conv::{ConvSpec, conv, conv_bn_act};
use selfsup_kernels::dropout::Dropout;
use selfsup_kernels::linear::{linear, linear_act};
use selfsup_kernels::norm::{batch_norm, batch_norm_eval, layer_norm, rms_norm};

/// An optional weight for a pass.
fn on(weight: &Option<Weight>, pass: &Pass) -> Result<Option<Tensor>> {
    weight.as_ref().map(|w| w.on(pass)).transpose()
}

/// `y = x W^T + b` over the last dimension; weight `(out, in)`.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Weight,
    bias: Option<Weight>,
}

impl Linear {
    /// A layer with bias 0 and weights drawn from `init`.
    ///
    /// # Errors
    /// If the names are taken by tensors of other shapes.
    pub fn new(scope: &Scope, inputs: usize, outputs: usize, bias: bool, init: Init) -> Result<Self> {
        // PyTorch draws the bias of its default layer from ±1/sqrt(fan_in) too.
        let bias_init = if init == Init::TorchLinear {
            Init::Uniform(1.0 / (inputs.max(1) as f32).sqrt())
        } else {
            Init::Const(0.0)
        };
        let bias = if bias { Some(scope.get("bias", outputs, bias_init)?) } else { None };
        Ok(Linear { weight: scope.get("weight", (outputs, inputs), init)?, bias })
    }

    /// `(.., in)` to `(.., out)`.
    ///
    /// # Errors
    /// If the last dimension of `x` is not `in`.
    pub fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        Ok(linear(x, &self.weight.on(pass)?, on(&self.bias, pass)?.as_ref(), Path::Auto)?)
    }

    /// The layer with a bias `(out)` that is made elsewhere, in place of its own.
    pub(super) fn forward_biased(&self, x: &Tensor, bias: &Tensor, pass: &Pass) -> Result<Tensor> {
        Ok(linear(x, &self.weight.on(pass)?, Some(bias), Path::Auto)?)
    }

    /// The layer followed by `act`, as one node of the graph.
    ///
    /// # Errors
    /// If the last dimension of `x` is not `in`.
    pub fn forward_act(&self, x: &Tensor, act: Act, pass: &Pass) -> Result<Tensor> {
        Ok(linear_act(x, &self.weight.on(pass)?, on(&self.bias, pass)?.as_ref(), act, Path::Auto)?)
    }
}

/// Convolution over `(N, S.., C)`; weight `(out, in / groups, k..)`.
#[derive(Clone, Debug)]
pub struct Conv {
    weight: Weight,
    bias: Option<Weight>,
    spec: ConvSpec,
}

impl Conv {
    /// A convolution with kernel `kernel` (one entry per spatial axis).
    ///
    /// # Errors
    /// If the names are taken by tensors of other shapes.
    pub fn new(
        scope: &Scope,
        inputs: usize,
        outputs: usize,
        kernel: &[usize],
        spec: ConvSpec,
        bias: bool,
        init: Init,
    ) -> Result<Self> {
        let shape: Vec<usize> =
            [outputs, inputs / spec.groups.max(1)].iter().chain(kernel).copied().collect();
        let fan_in: usize = shape.iter().skip(1).product();
        let bias_init = if init == Init::TorchLinear {
            Init::Uniform(1.0 / (fan_in.max(1) as f32).sqrt())
        } else {
            Init::Const(0.0)
        };
        let bias = if bias { Some(scope.get("bias", outputs, bias_init)?) } else { None };
        Ok(Conv { weight: scope.get("weight", shape, init)?, bias, spec })
    }

    /// `(N, S.., in)` to `(N, S'.., out)`.
    ///
    /// # Errors
    /// If the shape of `x` does not fit.
    pub fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        Ok(conv(x, &self.weight.on(pass)?, on(&self.bias, pass)?.as_ref(), &self.spec, Path::Auto)?)
    }
}

/// Batch normalisation over all but the last dimension (Ioffe and Szegedy 2015, arXiv 1502.03167).
///
/// In training the statistics of the batch are used, and the running ones are handed to [`Pass::defer`].
#[derive(Clone, Debug)]
pub struct BatchNorm {
    scale: Option<(Weight, Weight)>,
    mean: Buffer,
    variance: Buffer,
    eps: f64,
    momentum: f64,
}

impl BatchNorm {
    /// With weight and bias if `affine`; `eps` 1e-5 and momentum 0.1, as PyTorch.
    ///
    /// # Errors
    /// If the names are taken by tensors of other shapes.
    pub fn new(scope: &Scope, channels: usize, affine: bool) -> Result<Self> {
        let scale = if affine {
            Some((
                scope.get("weight", channels, Init::Const(1.0))?,
                scope.get("bias", channels, Init::Const(0.0))?,
            ))
        } else {
            None
        };
        Ok(BatchNorm {
            scale,
            mean: scope.buffer("running_mean", channels, Init::Const(0.0))?,
            variance: scope.buffer("running_var", channels, Init::Const(1.0))?,
            eps: 1e-5,
            momentum: 0.1,
        })
    }

    /// `(2, C)`: weight and bias stacked, as the kernels take them.
    fn packed(&self, pass: &Pass) -> Result<Tensor> {
        Ok(match &self.scale {
            Some((w, b)) => Tensor::stack(&[w.on(pass)?, b.on(pass)?], 0)?,
            None => Tensor::stack(&[&self.mean.tensor.ones_like()?, &self.mean.tensor.zeros_like()?], 0)?,
        })
    }

    fn update(&self, mean: &Tensor, biased: &Tensor, count: usize, pass: &Pass) -> Result<()> {
        // PyTorch keeps the unbiased variance; a single value per channel has none.
        let unbiased =
            if count > 1 { (biased * (count as f64 / (count as f64 - 1.0)))? } else { biased.clone() };
        pass.defer(&self.mean.name, Deferred::Average { value: mean.clone(), momentum: self.momentum });
        pass.defer(&self.variance.name, Deferred::Average { value: unbiased, momentum: self.momentum });
        Ok(())
    }

    /// Normalises `(.., C)` and applies `act`.
    ///
    /// # Errors
    /// In training, if there is a single value per channel: its variance is 0 and it would vanish.
    pub fn forward(&self, x: &Tensor, act: Act, pass: &Pass) -> Result<Tensor> {
        let packed = self.packed(pass)?;
        if !pass.train {
            return Ok(batch_norm_eval(x, &packed, &self.mean.tensor, &self.variance.tensor, self.eps, act)?);
        }
        if !pass.world.alone() {
            return self.synchronised(x, &packed, act, pass);
        }
        let count = x.elem_count() / x.dim(D::Minus1)?.max(1);
        if count < 2 {
            return Err(Error::input(
                &self.mean.name,
                "batch normalisation in training needs more than one value per channel: use a larger batch",
            ));
        }
        let (y, mean, variance) = batch_norm(x, &packed, self.eps, act, Path::Auto)?;
        self.update(&mean, &variance, count, pass)?;
        Ok(y)
    }
}

impl BatchNorm {
    /// [`BatchNorm::forward`] in training, with the statistics of all processes.
    fn synchronised(&self, x: &Tensor, packed: &Tensor, act: Act, pass: &Pass) -> Result<Tensor> {
        let (shape, c) = (x.shape().clone(), x.dim(D::Minus1)?);
        let rows = x.contiguous()?.reshape(((), c))?;
        let count = pass.world.total(rows.dim(0)? as f64)?;
        let mean = (pass.world.all_reduce(&rows.sum(0)?)? / count)?;
        let centred = rows.broadcast_sub(&mean)?;
        let variance = (pass.world.all_reduce(&centred.sqr()?.sum(0)?)? / count)?;
        let y = centred.broadcast_div(&(&variance + self.eps)?.sqrt()?)?;
        let y = y.broadcast_mul(&packed.get(0)?)?.broadcast_add(&packed.get(1)?)?.reshape(shape)?;
        self.update(&mean.detach(), &variance.detach(), count as usize, pass)?;
        Ok(act.apply(&y, Path::Auto)?)
    }
}

/// Convolution without bias, batch normalisation and an optional activation: one node of the graph in
/// training on the CPU.
#[derive(Clone, Debug)]
pub struct ConvBn {
    conv: Conv,
    norm: BatchNorm,
}

impl ConvBn {
    /// The convolution lives at `conv_scope`, the normalisation at `norm_scope` (torchvision's `conv1` and
    /// `bn1`).
    ///
    /// # Errors
    /// If the names are taken by tensors of other shapes.
    pub fn new(
        conv_scope: &Scope,
        norm_scope: &Scope,
        inputs: usize,
        outputs: usize,
        kernel: &[usize],
        spec: ConvSpec,
    ) -> Result<Self> {
        Ok(ConvBn {
            conv: Conv::new(conv_scope, inputs, outputs, kernel, spec, false, Init::KaimingFanOut)?,
            norm: BatchNorm::new(norm_scope, outputs, true)?,
        })
    }

    /// `(N, S.., in)` to `(N, S'.., out)`.
    ///
    /// # Errors
    /// If the shape of `x` does not fit, or in training for a single value per channel.
    pub fn forward(&self, x: &Tensor, act: Act, pass: &Pass) -> Result<Tensor> {
        if !pass.train || !pass.world.alone() {
            return self.norm.forward(&self.conv.forward(x, pass)?, act, pass);
        }
        let (y, mean, variance) = conv_bn_act(
            x,
            &self.conv.weight.on(pass)?,
            &self.norm.packed(pass)?,
            &self.conv.spec,
            self.norm.eps,
            act,
            Path::Auto,
        )?;
        let count = y.elem_count() / y.dim(D::Minus1)?.max(1);
        if count < 2 {
            return Err(Error::input(
                &self.norm.mean.name,
                "batch normalisation in training needs more than one value per channel: use a larger batch or larger images",
            ));
        }
        self.norm.update(&mean, &variance, count, pass)?;
        Ok(y)
    }
}

/// Layer normalisation over the last dimension (Ba et al. 2016, arXiv 1607.06450).
#[derive(Clone, Debug)]
pub struct LayerNorm {
    weight: Weight,
    bias: Weight,
    eps: f64,
}

impl LayerNorm {
    /// Weight 1, bias 0.
    ///
    /// # Errors
    /// If the names are taken by tensors of other shapes.
    pub fn new(scope: &Scope, dim: usize, eps: f64) -> Result<Self> {
        Ok(LayerNorm {
            weight: scope.get("weight", dim, Init::Const(1.0))?,
            bias: scope.get("bias", dim, Init::Const(0.0))?,
            eps,
        })
    }

    /// `(.., C)` to `(.., C)`.
    ///
    /// # Errors
    /// If the last dimension of `x` is not `C`.
    pub fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let packed = Tensor::stack(&[self.weight.on(pass)?, self.bias.on(pass)?], 0)?;
        Ok(layer_norm(x, Some(&packed), self.eps, Path::Auto)?)
    }
}

/// Root-mean-square normalisation over the last dimension, without a mean and a bias (Zhang and Sennrich
/// 2019, arXiv 1910.07467): T5's.
#[derive(Clone, Debug)]
pub struct RmsNorm {
    weight: Weight,
    eps: f64,
}

impl RmsNorm {
    /// Weight 1.
    ///
    /// # Errors
    /// If the name is taken by a tensor of another shape.
    pub fn new(scope: &Scope, dim: usize, eps: f64) -> Result<Self> {
        Ok(RmsNorm { weight: scope.get("weight", dim, Init::Const(1.0))?, eps })
    }

    /// `(.., C)` to `(.., C)`.
    ///
    /// # Errors
    /// If the last dimension of `x` is not `C`.
    pub fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        Ok(rms_norm(x, &self.weight.on(pass)?, self.eps, Path::Auto)?)
    }
}

/// A look-up table `(vocabulary, dim)`.
#[derive(Clone, Debug)]
pub struct Embedding {
    weight: Weight,
}

impl Embedding {
    /// Rows drawn from `init`.
    ///
    /// # Errors
    /// If the name is taken by a tensor of another shape.
    pub fn new(scope: &Scope, vocabulary: usize, dim: usize, init: Init) -> Result<Self> {
        Ok(Embedding { weight: scope.get("weight", (vocabulary, dim), init)? })
    }

    /// The table, for a tied decoder.
    pub fn weight(&self) -> &Weight {
        &self.weight
    }

    /// `ids (..)`, integers below the vocabulary, to `(.., dim)`.
    ///
    /// # Errors
    /// If an id is out of range.
    pub fn forward(&self, ids: &Tensor, pass: &Pass) -> Result<Tensor> {
        let table = self.weight.on(pass)?;
        let mut shape = ids.dims().to_vec();
        shape.push(table.dim(1)?);
        Ok(table.index_select(&ids.flatten_all()?, 0)?.reshape(shape)?)
    }
}

/// What an [`Mlp`] computes between its two layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MlpForm {
    /// `act(fc1(x))`.
    #[default]
    Plain,
    /// `z sigmoid(1.702 z)` of `z = fc1(x)`, in place of the activation (Hendrycks and Gimpel 2016, arXiv
    /// 1606.08415): CLIP's.
    QuickGelu,
    /// `silu(a) b` of the halves `[a, b] = fc1(x)`, whose width is twice the hidden one (Shazeer 2020, arXiv
    /// 2002.05202): the largest DINOv2.
    SwiGlu,
}

/// The transformer's MLP `fc2(act(fc1(x)))` with timm's names.
#[derive(Clone, Debug)]
pub struct Mlp {
    fc1: Linear,
    fc2: Linear,
    act: Act,
    form: MlpForm,
}

impl Mlp {
    /// `dim` to `hidden` and back.
    ///
    /// # Errors
    /// If the names are taken by tensors of other shapes.
    pub fn new(scope: &Scope, dim: usize, hidden: usize, act: Act, init: Init) -> Result<Self> {
        Mlp::with_inits(scope, dim, hidden, (act, MlpForm::Plain), (init, init))
    }

    /// The same in another form, with initial values of their own for the two layers. The activation is that
    /// of [`MlpForm::Plain`].
    ///
    /// # Errors
    /// If the names are taken by tensors of other shapes.
    pub fn with_inits(
        scope: &Scope,
        dim: usize,
        hidden: usize,
        (act, form): (Act, MlpForm),
        inits: (Init, Init),
    ) -> Result<Self> {
        let inside = if form == MlpForm::SwiGlu { 2 * hidden } else { hidden };
        Ok(Mlp {
            fc1: Linear::new(&scope.sub("fc1"), dim, inside, true, inits.0)?,
            fc2: Linear::new(&scope.sub("fc2"), hidden, dim, true, inits.1)?,
            act,
            form,
        })
    }

    /// `(.., dim)` to `(.., dim)`.
    ///
    /// # Errors
    /// If the last dimension of `x` is not `dim`.
    pub fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        self.forward_dropout(x, None, pass)
    }

    /// The same with dropout after the activation.
    ///
    /// # Errors
    /// If the last dimension of `x` is not `dim`, or the share is not in `[0, 1)`.
    pub fn forward_dropout(&self, x: &Tensor, dropout: Option<Dropout>, pass: &Pass) -> Result<Tensor> {
        let mut y = match self.form {
            MlpForm::Plain => self.fc1.forward_act(x, self.act, pass)?,
            // z sigmoid(s z) = silu(s z) / s
            MlpForm::QuickGelu => (silu(&(self.fc1.forward(x, pass)? * 1.702)?, Path::Auto)? / 1.702)?,
            MlpForm::SwiGlu => {
                let both = self.fc1.forward(x, pass)?;
                let half = both.dim(D::Minus1)? / 2;
                let (a, b) = (both.narrow(D::Minus1, 0, half)?, both.narrow(D::Minus1, half, half)?);
                (silu(&a.contiguous()?, Path::Auto)? * b)?
            }
        };
        if let Some(drop) = dropout {
            y = selfsup_kernels::dropout::dropout(&y, &drop, Path::Auto)?;
        }
        self.fc2.forward(&y, pass)
    }
}

/// The normalisation after each linear layer of an [`MlpHead`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MlpHeadNorm {
    /// Nothing.
    None,
    /// Batch normalisation.
    Batch,
    /// Batch normalisation without weight and bias.
    BatchPlain,
}

/// The projection and prediction heads of joint-embedding methods: linear, batch norm, ReLU, ..., linear,
/// with lightly's names (`layers.0` linear, `layers.1` norm, `layers.2` ReLU, `layers.3` linear ...).
#[derive(Clone, Debug)]
pub struct MlpHead {
    stages: Vec<(Linear, Option<BatchNorm>, Act)>,
}

impl MlpHead {
    /// `dims` = input, hidden ..., output. All but the last layer have `hidden` normalisation and a ReLU; the
    /// last has `last` and none. A linear layer has a bias only where no normalisation follows.
    ///
    /// # Errors
    /// If the names are taken by tensors of other shapes.
    pub fn new(scope: &Scope, dims: &[usize], hidden: MlpHeadNorm, last: MlpHeadNorm) -> Result<Self> {
        let mut stages = Vec::new();
        let mut index = 0;
        for (i, pair) in dims.windows(2).enumerate() {
            let is_last = i + 2 == dims.len();
            let kind = if is_last { last } else { hidden };
            let fc = Linear::new(
                &scope.sub(format!("layers.{index}")),
                pair[0],
                pair[1],
                kind == MlpHeadNorm::None,
                Init::TorchLinear,
            )?;
            index += 1;
            let norm = match kind {
                MlpHeadNorm::None => None,
                MlpHeadNorm::Batch | MlpHeadNorm::BatchPlain => {
                    index += 1;
                    Some(BatchNorm::new(
                        &scope.sub(format!("layers.{}", index - 1)),
                        pair[1],
                        kind == MlpHeadNorm::Batch,
                    )?)
                }
            };
            if !is_last {
                index += 1; // the ReLU has a place in the sequence, and no tensors
            }
            stages.push((fc, norm, if is_last { Act::None } else { Act::Relu }));
        }
        Ok(MlpHead { stages })
    }

    /// `(N, in)` to `(N, out)`.
    ///
    /// # Errors
    /// If the last dimension of `x` is not `in`.
    pub fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let mut x = x.clone();
        for (fc, norm, act) in &self.stages {
            x = match norm {
                Some(norm) => norm.forward(&fc.forward(&x, pass)?, *act, pass)?,
                None => fc.forward_act(&x, *act, pass)?,
            };
        }
        Ok(x)
    }
}

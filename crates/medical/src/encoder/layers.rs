//! Convolution or transposed convolution, normalisation, activation: the block that all U-Nets are made of.

use candle_core::Tensor;
use selfsup_core::nn::BatchNorm;
use selfsup_core::{Init, Pass, Result, Scope, Weight};
use selfsup_kernels::Path;
use selfsup_kernels::activation::{Act, prelu};
use selfsup_kernels::conv::{ConvSpec, conv_act, conv_instance_act};
use selfsup_kernels::conv_transpose::conv_transpose;
use selfsup_kernels::norm::instance_norm_act;
use serde::{Deserialize, Serialize};

/// Epsilon of instance normalisation, PyTorch's.
const EPS: f64 = 1e-5;

/// The normalisation after a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum NormKind {
    /// Instance normalisation without weight and bias (MONAI's default).
    InstancePlain,
    /// Instance normalisation with weight and bias.
    Instance,
    /// Batch normalisation.
    Batch,
    /// Nothing.
    None,
}

/// The activation after the normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ActKind {
    /// `max(x, 0)`.
    Relu,
    /// One trained slope for negative values, at first 0.25 (MONAI's default).
    Prelu,
    /// Slope 0.01 for negative values (nnU-Net).
    LeakyRelu,
    /// The identity.
    None,
}

/// Size and kind of a [`ConvBlock`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct BlockSpec {
    /// Spatial axes: 3 for volumes, 2 for planes.
    pub rank: usize,
    pub inputs: usize,
    pub outputs: usize,
    pub kernel: usize,
    pub stride: usize,
    pub dilation: usize,
    /// Transposed, with the output `stride` times the input.
    pub transposed: bool,
    pub bias: bool,
    pub norm: NormKind,
    pub act: ActKind,
    pub init: Init,
}

impl BlockSpec {
    /// A 3x3x3 (3x3 in planes) convolution without bias, of stride 1.
    pub fn new(rank: usize, inputs: usize, outputs: usize, norm: NormKind, act: ActKind) -> Self {
        let init = Init::KaimingFanOut;
        BlockSpec {
            rank,
            inputs,
            outputs,
            kernel: 3,
            stride: 1,
            dilation: 1,
            transposed: false,
            bias: false,
            norm,
            act,
            init,
        }
    }
}

enum Norm {
    Plain,
    Affine(Weight, Weight),
    Batch(BatchNorm),
    None,
}

/// The slope of negative values.
enum Slope {
    Trained(Weight),
    Fixed(Tensor),
    None,
}

/// Convolution, normalisation, activation over `(N, D, H, W, C)`, of planes over `(N, H, W, C)`.
pub(crate) struct ConvBlock {
    spec: BlockSpec,
    weight: Weight,
    bias: Option<Weight>,
    norm: Norm,
    slope: Slope,
}

impl ConvBlock {
    /// Weights live at the three scopes. Padding is half the kernel.
    pub fn new(conv: &Scope, norm: &Scope, act: &Scope, spec: BlockSpec) -> Result<Self> {
        let (k, c) = (
            spec.kernel,
            if spec.transposed { (spec.inputs, spec.outputs) } else { (spec.outputs, spec.inputs) },
        );
        let shape: Vec<usize> = [c.0, c.1].into_iter().chain(std::iter::repeat_n(k, spec.rank)).collect();
        let fan_in: usize = shape.iter().skip(1).product();
        let weight = conv.get("weight", shape, spec.init)?;
        let bias_init = if spec.init == Init::TorchLinear {
            Init::Uniform(1.0 / (fan_in.max(1) as f32).sqrt())
        } else {
            Init::Const(0.0)
        };
        let bias = if spec.bias { Some(conv.get("bias", spec.outputs, bias_init)?) } else { None };
        let norm = match spec.norm {
            NormKind::None => Norm::None,
            NormKind::InstancePlain => Norm::Plain,
            NormKind::Instance => Norm::Affine(
                norm.get("weight", spec.outputs, Init::Const(1.0))?,
                norm.get("bias", spec.outputs, Init::Const(0.0))?,
            ),
            NormKind::Batch => Norm::Batch(BatchNorm::new(norm, spec.outputs, true)?),
        };
        let slope = match spec.act {
            ActKind::Prelu => Slope::Trained(act.get("weight", 1, Init::Const(0.25))?),
            ActKind::LeakyRelu => Slope::Fixed(Tensor::new(&[0.01f32], act.device())?),
            ActKind::Relu | ActKind::None => Slope::None,
        };
        Ok(ConvBlock { spec, weight, bias, norm, slope })
    }

    /// `(N, D, H, W, C_in)` to `(N, D', H', W', C_out)`; of planes likewise, without depth.
    pub fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let BlockSpec { kernel, stride, dilation, .. } = self.spec;
        let weight = self.weight.on(pass)?;
        let act = if self.spec.act == ActKind::Relu { Act::Relu } else { Act::None };
        let spec = ConvSpec::new().stride(stride).padding(dilation * (kernel / 2)).dilation(dilation);
        // Convolution, normalisation and activation as one node of the graph, where there is such a node.
        if !self.spec.transposed && self.bias.is_none() {
            let gb = match &self.norm {
                Norm::Plain => Some(None),
                Norm::Affine(w, b) => Some(Some(Tensor::stack(&[w.on(pass)?, b.on(pass)?], 0)?)),
                Norm::Batch(_) | Norm::None => None,
            };
            if let Some(gb) = gb {
                let y = conv_instance_act(x, &weight, gb.as_ref(), &spec, EPS, act, Path::Auto)?;
                return self.slope(y, pass);
            }
        }
        let bias = self.bias.as_ref().map(|b| b.on(pass)).transpose()?;
        let y = if self.spec.transposed {
            // The kernel reaches `kernel - stride` beyond a block; half of it is cut off on the left, so that
            // the output is `stride` times the input.
            let (padding, extra) =
                if kernel == stride { (0, 0) } else { (kernel / 2, stride + 2 * (kernel / 2) - kernel) };
            conv_transpose(x, &weight, bias.as_ref(), stride, padding, extra, 1, 1, Path::Auto)?
        } else {
            conv_act(x, &weight, bias.as_ref(), &spec, Act::None, Path::Auto)?
        };
        let y = match &self.norm {
            Norm::None => act.apply(&y, Path::Auto)?,
            Norm::Batch(norm) => norm.forward(&y, act, pass)?,
            Norm::Plain => instance_norm_act(&y, None, EPS, act, Path::Auto)?,
            Norm::Affine(w, b) => instance_norm_act(
                &y,
                Some(&Tensor::stack(&[w.on(pass)?, b.on(pass)?], 0)?),
                EPS,
                act,
                Path::Auto,
            )?,
        };
        self.slope(y, pass)
    }

    fn slope(&self, y: Tensor, pass: &Pass) -> Result<Tensor> {
        match &self.slope {
            Slope::Trained(slope) => Ok(prelu(&y, &slope.on(pass)?, Path::Auto)?),
            Slope::Fixed(slope) => Ok(prelu(&y, slope, Path::Auto)?),
            Slope::None => Ok(y),
        }
    }
}

/// Two 3x3x3 blocks, or 3x3 ones in planes: `conv1`, `norm1`, `conv2`, `norm2`.
pub(crate) struct DoubleConv(ConvBlock, ConvBlock);

impl DoubleConv {
    pub fn new(
        scope: &Scope,
        rank: usize,
        inputs: usize,
        outputs: usize,
        norm: NormKind,
        act: ActKind,
    ) -> Result<Self> {
        let block = |i: usize, inputs: usize| {
            let sub = |name: &str| scope.sub(format!("{name}{i}"));
            ConvBlock::new(
                &sub("conv"),
                &sub("norm"),
                &sub("act"),
                BlockSpec::new(rank, inputs, outputs, norm, act),
            )
        };
        Ok(DoubleConv(block(1, inputs)?, block(2, outputs)?))
    }

    pub fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        self.1.forward(&self.0.forward(x, pass)?, pass)
    }
}

//! From an encoder's map back to the grid of its input: a light decoder without skips, so that what it paints
//! has to be in the features.

use super::{Conv, LayerNorm};
use crate::encoder::Encoder;
use crate::error::{Error, Result};
use crate::init::Init;
use crate::pass::Pass;
use crate::scope::Scope;
use candle_core::Tensor;
use selfsup_kernels::Path;
use selfsup_kernels::activation::Act;
use selfsup_kernels::conv::ConvSpec;
use selfsup_kernels::resize::{Resize, resize};

/// Convolution, layer norm over the channels, GELU and linear interpolation to twice the size, as often as
/// the encoder has halved its input; then a convolution to the outputs. Widths are halved with every
/// doubling.
#[derive(Clone, Debug)]
pub struct PixelDecoder {
    steps: Vec<(Conv, LayerNorm)>,
    last: Conv,
    axes: usize,
}

impl PixelDecoder {
    /// For the maps of `encoder`, whose stride decides the number of steps (`scope.0`, `scope.1` ...;
    /// `scope.out`). The first step has `width` channels, no later one less than 16.
    ///
    /// # Errors
    /// If the encoder does not say its stride, or a width is 0.
    pub fn new(scope: &Scope, encoder: &dyn Encoder, width: usize, outputs: usize) -> Result<Self> {
        let stride = encoder.stride();
        let Some(&largest) = stride.iter().max() else {
            return Err(Error::config(
                "this method paints the input again: the encoder must say its stride (Encoder::stride)",
            ));
        };
        if width == 0 || outputs == 0 {
            return Err(Error::config(format!(
                "method.decoder_dim = {width}, {outputs} outputs: expected numbers above 0"
            )));
        }
        let kernel = vec![3; stride.len()];
        let conv = |s: &Scope, inputs: usize, outputs: usize| {
            Conv::new(s, inputs, outputs, &kernel, ConvSpec::new().padding(1), true, Init::TorchLinear)
        };
        // log2, rounded up: a patch of 14 pixels takes four steps.
        let doublings = largest.next_power_of_two().trailing_zeros() as usize;
        let (mut steps, mut inputs) = (Vec::new(), encoder.dim());
        for i in 0..doublings.max(1) {
            let outputs = (width >> i).max(16.min(width));
            let s = scope.sub(i);
            steps.push((
                conv(&s.sub("conv"), inputs, outputs)?,
                LayerNorm::new(&s.sub("norm"), outputs, 1e-6)?,
            ));
            inputs = outputs;
        }
        Ok(PixelDecoder { steps, last: conv(&scope.sub("out"), inputs, outputs)?, axes: stride.len() })
    }

    /// `map (N, s.., D)` to `(N, size.., outputs)`.
    ///
    /// # Errors
    /// If the number of axes differs.
    pub fn forward(&self, map: &Tensor, size: &[usize], pass: &Pass) -> Result<Tensor> {
        if map.rank() != self.axes + 2 || size.len() != self.axes {
            return Err(Error::input(
                "map",
                format!("shape {:?} for an input of {size:?}: expected {} axes", map.dims(), self.axes),
            ));
        }
        let mut y = map.contiguous()?;
        for (i, (conv, norm)) in self.steps.iter().enumerate() {
            y = Act::GeluErf.apply(&norm.forward(&conv.forward(&y, pass)?, pass)?, Path::Auto)?;
            // The size that is halved as often as steps are left, rounded up.
            let left = self.steps.len() - 1 - i;
            let next: Vec<usize> = size
                .iter()
                .zip(&y.dims()[1..])
                .map(|(s, now)| s.div_ceil(1 << left).max(*now).min(*s))
                .collect();
            y = resize(&y, &next, Resize::Linear, Path::Auto)?;
        }
        self.last.forward(&y, pass)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoder::{Features, Layer};
    use crate::params::Params;
    use candle_core::{DType, Device};

    struct Of(Vec<usize>);

    impl Encoder for Of {
        fn forward(&self, _: &Tensor, _: Option<&Tensor>, _: &[Layer], _: &Pass) -> Result<Features> {
            Err(Error::input("encoder", "has no forward pass"))
        }
        fn dim(&self) -> usize {
            6
        }
        fn stride(&self) -> Vec<usize> {
            self.0.clone()
        }
    }

    #[test]
    fn maps_of_any_stride_become_inputs() -> Result<()> {
        let scope = Scope::root(&Params::new(), 0, &Device::Cpu);
        type Case = (&'static [usize], &'static [usize], &'static [usize], usize);
        let cases: [Case; 5] = [
            (&[8, 8], &[4, 4], &[28, 28], 3),
            (&[1, 1], &[5, 7], &[5, 7], 1),
            (&[14, 14], &[2, 3], &[28, 42], 4),
            (&[4, 4, 4], &[2, 2, 2], &[8, 8, 8], 2),
            (&[1, 4, 4], &[3, 2, 2], &[3, 8, 8], 2),
        ];
        for (i, (stride, map, size, steps)) in cases.into_iter().enumerate() {
            let net = PixelDecoder::new(&scope.sub(i), &Of(stride.to_vec()), 24, 5)?;
            assert_eq!(net.steps.len(), steps);
            let shape: Vec<usize> = [&[2], map, &[6]].concat();
            let y = net.forward(&Tensor::ones(shape, DType::F32, &Device::Cpu)?, size, &Pass::eval())?;
            assert_eq!(y.dims(), [&[2], size, &[5]].concat());
        }
        let error = PixelDecoder::new(&scope.sub("x"), &Of(vec![]), 24, 5).unwrap_err().to_string();
        assert!(error.contains("stride"), "{error}");
        Ok(())
    }
}

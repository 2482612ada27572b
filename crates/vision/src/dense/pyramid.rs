//! A feature pyramid: maps of one width at several strides, each with what the coarser ones know (Lin et al.
//! 2016, arXiv 1612.03144). A vision transformer has a single map; its levels are that map at twice, once and
//! half its resolution (the simple pyramid of Li et al. 2022, arXiv 2203.16527).

use super::layers::conv3;
use candle_core::Tensor;
use selfsup_core::encoder::Scale;
use selfsup_core::nn::{Conv, LayerNorm};
use selfsup_core::{Error, Init, Pass, Result, Scope};
use selfsup_kernels::Path;
use selfsup_kernels::conv::ConvSpec;
use selfsup_kernels::pool::avg_pool;
use selfsup_kernels::resize::{Resize, resize};

/// How a level is made of a single map.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Change {
    Doubled,
    Same,
    Halved,
}

/// Norm, projection to the common width, and the convolution behind the sum.
struct Step {
    /// The map that it reads.
    from: usize,
    change: Change,
    norm: LayerNorm,
    lateral: Conv,
    output: Conv,
}

/// The pyramid.
pub struct Pyramid {
    steps: Vec<Step>,
    strides: Vec<usize>,
    /// Coarser levels are added to finer ones.
    down: bool,
}

impl Pyramid {
    /// Over the last `levels` of the maps with these `scales`, each `width` channels wide: `scope.0.norm`,
    /// `scope.0.lateral`, `scope.0.output` of the finest, and so on. Of a single map with an even stride
    /// there are three levels at most.
    ///
    /// # Errors
    /// If there is no map or no level.
    pub fn new(scope: &Scope, scales: &[Scale], levels: usize, width: usize) -> Result<Self> {
        if scales.is_empty() || levels == 0 || width == 0 {
            return Err(Error::config(format!(
                "a pyramid of {levels} levels of width {width} over {} maps: expected at least one each",
                scales.len()
            )));
        }
        let last = scales.len() - 1;
        let chosen: Vec<(usize, Change, usize)> = if last == 0 {
            let stride = scales[0].stride;
            let mut all = vec![(0, Change::Same, stride), (0, Change::Halved, 2 * stride)];
            if stride.is_multiple_of(2) {
                all.insert(0, (0, Change::Doubled, stride / 2));
            }
            all.truncate(levels);
            all
        } else {
            (scales.len().saturating_sub(levels)..scales.len())
                .map(|i| (i, Change::Same, scales[i].stride))
                .collect()
        };
        let (mut steps, mut strides) = (Vec::new(), Vec::new());
        for (at, (from, change, stride)) in chosen.into_iter().enumerate() {
            let s = scope.sub(at);
            let inputs = scales[from].width;
            steps.push(Step {
                from,
                change,
                norm: LayerNorm::new(&s.sub("norm"), inputs, 1e-6)?,
                lateral: Conv::new(
                    &s.sub("lateral"),
                    inputs,
                    width,
                    &[1; 2],
                    ConvSpec::new(),
                    true,
                    Init::XavierUniform,
                )?,
                output: conv3(&s.sub("output"), width, width, true, Init::XavierUniform)?,
            });
            strides.push(stride);
        }
        Ok(Pyramid { steps, strides, down: last > 0 })
    }

    /// Pixels between neighbouring places of each level, finest first.
    pub fn strides(&self) -> &[usize] {
        &self.strides
    }

    /// The levels of `maps` (all that the scales were of), finest first: `(N, H_i, W_i, width)`.
    ///
    /// # Errors
    /// If the maps are not those.
    pub fn forward(&self, maps: &[Tensor], pass: &Pass) -> Result<Vec<Tensor>> {
        let mut above: Option<Tensor> = None;
        let mut out = Vec::with_capacity(self.steps.len());
        for step in self.steps.iter().rev() {
            let map = maps.get(step.from).ok_or_else(|| {
                Error::input("maps", format!("{} maps, expected {} at least", maps.len(), step.from + 1))
            })?;
            let mut y = step.lateral.forward(&step.norm.forward(map, pass)?, pass)?;
            let (h, w) = (y.dim(1)?, y.dim(2)?);
            y = match step.change {
                Change::Same => y,
                Change::Doubled => resize(&y, &[2 * h, 2 * w], Resize::Linear, Path::Auto)?,
                // Of a map with a single place half is the same.
                Change::Halved if h < 2 || w < 2 => y,
                Change::Halved => avg_pool(&y, &[2; 2], &[2; 2], &[0; 2], Path::Auto)?,
            };
            if let Some(coarser) = above.filter(|_| self.down) {
                y = (y + resize(&coarser, &[h, w], Resize::Nearest, Path::Auto)?)?;
            }
            out.push(step.output.forward(&y, pass)?);
            above = Some(y);
        }
        out.reverse();
        Ok(out)
    }
}

//! Relative position (Doersch et al. 2015, "Unsupervised Visual Representation Learning by Context
//! Prediction", arXiv 1505.05192): of two tiles of a view, on which side of the first does the second lie?
//!
//! ```text
//! L = mean over samples of -log softmax(h(f(first), f(second)))_side
//! ```
//!
//! There are 8 sides in an image and 26 in a volume (Taleb et al. 2020, arXiv 2006.03829). Both tiles go
//! through the same encoder; the head sees their features side by side.
//!
//! Against shortcuts: a gap of half a tile between them and a jitter of their places (lines that go on), each
//! tile normalised by itself, and only one channel of each, the others noise (chromatic aberration, by which
//! a network tells where in the photograph a tile was). The head has one hidden layer, the paper's two.

use super::mae::view;
use super::{
    Band, BuildEncoder, Gauge, Loss, Method, Networks, Objective, OverViews, Picture, Views, Wanted, boxed,
    tiles,
};
use crate::encoder::Encoder;
use crate::error::{Error, Result};
use crate::loss::cross_entropy;
use crate::nn::{MlpHead, MlpHeadNorm};
use crate::params::Params;
use crate::pass::Pass;
use crate::scope::Scope;
use candle_core::{DType, Tensor};
use selfsup_kernels::rng::Rng;

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RelativePositionConfig {
    /// Distance between the tiles, as a share of their side: the paper's 48 of 96 pixels. Less where the view
    /// has less room, but at least one pixel; 0 for none.
    pub gap: f64,
    /// Largest shift of a tile, as a share of its side: the paper's 7 of 96 pixels. Less where the view has
    /// less room.
    pub jitter: f64,
    /// Leave one channel of each tile and put noise in place of the others.
    pub drop_channels: bool,
    /// Width of the head's hidden layer (the paper's 4096).
    pub hidden_dim: usize,
}

impl Default for RelativePositionConfig {
    fn default() -> Self {
        RelativePositionConfig { gap: 0.5, jitter: 7.0 / 96.0, drop_channels: true, hidden_dim: 4096 }
    }
}

impl RelativePositionConfig {
    fn check(&self) -> Result<()> {
        for (key, share) in [("gap", self.gap), ("jitter", self.jitter)] {
            if !(0.0..=4.0).contains(&share) {
                return Err(Error::config(format!(
                    "method.{key} = {share}: expected a share of the tile's side from 0 to 4"
                )));
            }
        }
        Ok(())
    }

    /// Tile, gap and largest shift along an axis of `size` values, for an encoder of this stride.
    fn layout(&self, size: usize, stride: usize) -> Result<Along> {
        let wanted = size as f64 / (2.0 + self.gap + self.jitter);
        let mut side = tiles::side(wanted, size / 2, stride);
        // A smaller tile rather than none of the gap.
        while self.gap > 0.0 && size <= 2 * side && side > stride {
            side -= stride;
        }
        let share = |of: f64| (of * side as f64).round() as usize;
        let Some(room) = size.checked_sub(2 * side) else {
            return Err(Error::input("batch", format!("views of {size}: no room for two tiles of {side}")));
        };
        let gap = share(self.gap).min(room);
        if gap == 0 && self.gap > 0.0 {
            return Err(Error::config(format!(
                "method.gap = {}: views of {size} have no room between two tiles of {side}; use larger views (augment.size), a smaller encoder.patch, or a gap of 0",
                self.gap
            )));
        }
        Ok(Along { size, side, gap, jitter: share(self.jitter).min(room - gap) })
    }
}

/// The layout along one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Along {
    size: usize,
    side: usize,
    gap: usize,
    jitter: usize,
}

impl Along {
    /// Where the first tile begins, and the second, `-1`, `0` or `1` steps away.
    fn place(self, steps: i64, rng: &mut Rng) -> (usize, usize) {
        let (side, far) = (self.side as i64, (self.size - self.side) as i64);
        let shift = rng.below(2 * self.jitter + 1) as i64 - self.jitter as i64;
        let distance = match steps {
            0 => shift.clamp(-far, far),
            // Never nearer than side by side.
            _ => steps * (side + self.gap as i64 + shift).clamp(side.min(far), far),
        };
        let (low, high) = ((-distance).max(0), far - distance.max(0));
        let first = low + rng.below((high - low).max(0) as usize + 1) as i64;
        (first as usize, (first + distance) as usize)
    }
}

/// The steps to each neighbour, in the order of the classes.
fn neighbours(axes: usize) -> Vec<Vec<i64>> {
    let all = (0..3usize.pow(axes as u32))
        .map(|c| (0..axes).rev().map(|a| (c / 3usize.pow(a as u32) % 3) as i64 - 1).collect::<Vec<_>>());
    all.filter(|steps| steps.iter().any(|s| *s != 0)).collect()
}

crate::embeddings! {
    /// What the head makes of the pairs of tiles.
    pub struct Sides {
        /// Scores `(N, K)` of the sides.
        graph scores: Tensor,
        /// The side on which the second tile lies, `(N)`.
        fixed classes: Tensor,
        /// Features of the first tiles, `(N, D)`.
        fixed features: Tensor,
    }
}

/// The method.
pub struct RelativePosition {
    config: RelativePositionConfig,
    params: Params,
    encoder: Box<dyn Encoder>,
    head: MlpHead,
    neighbours: Vec<Vec<i64>>,
}

impl RelativePosition {
    /// Builds the encoder at `encoder` and the classifier of sides at `head`.
    ///
    /// # Errors
    /// If the encoder cannot be built or does not say its stride, or the configuration is not possible.
    pub fn new(scope: &Scope, build: &BuildEncoder, config: RelativePositionConfig) -> Result<Self> {
        config.check()?;
        let encoder = build(&scope.sub("encoder"))?;
        let neighbours = neighbours(tiles::axes(encoder.as_ref())?);
        let dims = [2 * encoder.dim(), config.hidden_dim, neighbours.len()];
        let head = MlpHead::new(&scope.sub("head").top(), &dims, MlpHeadNorm::None, MlpHeadNorm::None)?;
        Ok(RelativePosition { config, params: scope.params().clone(), encoder, head, neighbours })
    }

    /// The pairs of tiles `(2 N, C, sides..)`, their layout along each axis, and the class of each pair.
    fn pairs(&self, x: &Tensor, pass: &Pass) -> Result<(Tensor, Vec<Along>, Vec<usize>)> {
        let (sizes, stride) = (&x.dims()[2..], self.encoder.stride());
        if sizes.len() != stride.len() {
            return Err(Error::input(
                "batch",
                format!("views of {sizes:?}: expected {} spatial axes", stride.len()),
            ));
        }
        let layout =
            sizes.iter().zip(&stride).map(|(s, t)| self.config.layout(*s, *t)).collect::<Result<Vec<_>>>()?;
        let (mut starts, mut classes, mut keys) = (Vec::new(), Vec::new(), Vec::new());
        for i in 0..x.dim(0)? {
            let key = pass.sample_key("relative position", i);
            let mut rng = key.rng();
            let class = rng.below(self.neighbours.len());
            let (first, second): (Vec<usize>, Vec<usize>) = layout
                .iter()
                .zip(&self.neighbours[class])
                .map(|(along, steps)| along.place(*steps, &mut rng))
                .unzip();
            starts.push(vec![first, second]);
            classes.push(class);
            keys.extend([key.named("first"), key.named("second")]);
        }
        let sides: Vec<usize> = layout.iter().map(|a| a.side).collect();
        let made = tiles::standardised(&tiles::cut(x, &starts, &sides)?)?;
        let made = if self.config.drop_channels { tiles::one_channel(&made, &keys)? } else { made };
        Ok((made, layout, classes))
    }

    /// Scores `(N, K)` and the features of the first tiles `(N, D)`.
    fn tell(&self, pairs: &Tensor, pass: &Pass) -> Result<(Tensor, Tensor)> {
        // Sample i stands at 2 i and 2 i + 1, whatever part of the step this is.
        let features = self.encoder.forward(pairs, None, &[], &pass.at(2 * pass.offset))?.pooled;
        let (rows, d) = features.dims2()?;
        let both = features.reshape((rows / 2, 2 * d))?;
        Ok((self.head.forward(&both, pass)?, both.detach().narrow(1, 0, d)?.contiguous()?))
    }
}

impl OverViews for RelativePositionConfig {
    fn wanted(&self) -> Wanted {
        Wanted::Plain
    }

    fn build(&self, scope: &Scope, networks: &dyn Networks) -> Result<Method<Views>> {
        Ok(boxed(RelativePosition::new(scope, &|s: &Scope| networks.encoder(s), self.clone())?))
    }

    /// Patches of eight voxels have no room for a gap.
    fn shrink(&mut self) {
        (self.gap, self.hidden_dim) = (0.0, 8);
    }
}

impl Objective for RelativePosition {
    type Batch = Views;
    type Embeddings = Sides;

    fn params(&self) -> &Params {
        &self.params
    }

    fn encoder(&self) -> &dyn Encoder {
        self.encoder.as_ref()
    }

    fn embed(&self, batch: &Views, pass: &Pass) -> Result<Sides> {
        let x = view(batch, "relative position")?;
        let (pairs, _, classes) = self.pairs(x, pass)?;
        let (scores, features) = self.tell(&pairs, pass)?;
        let classes: Vec<i64> = classes.into_iter().map(|c| c as i64).collect();
        let count = classes.len();
        Ok(Sides { scores, classes: Tensor::from_vec(classes, count, x.device())?, features })
    }

    fn criterion(&self, e: &Sides, _pass: &Pass) -> Result<Loss> {
        Ok(cross_entropy(&e.scores, &e.classes, 0.0)?.into())
    }

    fn couples_samples(&self) -> bool {
        false
    }

    /// Share of the sides that are told right, in percent (12.5 by chance in images, 3.8 in volumes), and the
    /// spread of the features.
    fn gauges(&self, e: &Sides, _pass: &Pass) -> Result<Vec<Gauge>> {
        let share = tiles::accuracy(&e.scores, &e.classes)?;
        // Above chance by a fifth.
        // What two patches show leaves doubt: nearly all right is a shortcut.
        let band = Band::within(120.0 / self.neighbours.len() as f64, 90.0);
        let told = Gauge::plain("position_accuracy", share).healthy(band);
        Ok(vec![told, super::embedding_std(&e.features)?])
    }

    /// The first tile in the middle, the second on the side where it lies, and where it is thought to lie.
    fn pictures(&self, batch: &Views, pass: &Pass) -> Result<Vec<Picture>> {
        let x = view(batch, "relative position")?;
        let (pairs, layout, classes) = self.pairs(x, pass)?;
        let (scores, _) = self.tell(&pairs, pass)?;
        let told = scores.argmax(1)?.to_dtype(DType::U32)?.to_vec1::<u32>()?;
        let (sides, sizes): (Vec<usize>, Vec<usize>) =
            layout.iter().map(|a| (a.side, 3 * a.side + 2 * a.gap)).unzip();
        let draw = |classes: &mut dyn Iterator<Item = usize>| -> Result<Tensor> {
            let at = |steps: &[i64]| -> Vec<usize> {
                layout.iter().zip(steps).map(|(a, s)| (1 + s) as usize * (a.side + a.gap)).collect()
            };
            let middle = at(&vec![0; layout.len()]);
            let starts: Vec<_> = classes.map(|c| vec![middle.clone(), at(&self.neighbours[c])]).collect();
            tiles::paste(&pairs, &starts, &sides, &sizes)
        };
        Ok(vec![
            Picture::new("target", &draw(&mut classes.into_iter())?),
            Picture::new("prediction", &draw(&mut told.into_iter().map(|c| c as usize))?),
        ])
    }

    fn may_skip(&self) -> Vec<String> {
        self.encoder.may_skip().into_iter().map(|name| format!("encoder.{name}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_kernels::rng::Key;

    #[test]
    fn neighbours_surround() {
        let square = neighbours(2);
        assert_eq!((square.len(), square[0].clone(), square[4].clone()), (8, vec![-1, -1], vec![0, 1]));
        assert_eq!((neighbours(3).len(), neighbours(1)), (26, vec![vec![-1], vec![1]]));
    }

    #[test]
    fn tiles_lie_on_their_side_and_never_overlap() -> Result<()> {
        let config = RelativePositionConfig::default();
        // 224 pixels, patches of 16; the clothes of 28, patches of 4: 12 + 4 + 12.
        let large = config.layout(224, 16)?;
        assert_eq!(large, Along { size: 224, side: 80, gap: 40, jitter: 6 });
        assert_eq!(config.layout(28, 4)?, Along { size: 28, side: 12, gap: 4, jitter: 0 });
        for along in [large, config.layout(28, 4)?, config.layout(96, 1)?] {
            for seed in 0..200 {
                for steps in [-1i64, 0, 1] {
                    let (a, b) = along.place(steps, &mut Key::new(seed).rng());
                    assert!(a.max(b) + along.side <= along.size);
                    let apart = b as i64 - a as i64;
                    match steps {
                        0 => assert!(apart.unsigned_abs() as usize <= along.jitter),
                        _ => {
                            assert_eq!(apart.signum(), steps);
                            let gap = apart.unsigned_abs() as usize - along.side;
                            assert!(gap.abs_diff(along.gap) <= along.jitter, "{along:?} {gap}");
                        }
                    }
                }
            }
        }
        assert_eq!(config.layout(32, 8)?, Along { size: 32, side: 8, gap: 4, jitter: 1 });
        assert!(config.layout(8, 4).unwrap_err().to_string().contains("method.gap"));
        let tight = RelativePositionConfig { gap: 0.0, ..config };
        assert_eq!(tight.layout(8, 4)?, Along { size: 8, side: 4, gap: 0, jitter: 0 });
        Ok(())
    }
}

//! Jigsaw puzzles (Noroozi and Favaro 2016, "Unsupervised Learning of Visual Representations by Solving
//! Jigsaw Puzzles", arXiv 1603.09246): the tiles of a view are shuffled; which of `P` known permutations was
//! it?
//!
//! ```text
//! L = mean over samples of -log softmax(h(f(tile_p(1)), .., f(tile_p(T))))_p
//! ```
//!
//! The view is cut into a grid of cells, 3 x 3 in the paper; a tile lies at a random place in its cell. The
//! encoder sees each tile by itself; only the head sees all. The permutations are chosen so that they differ
//! in as many places as possible.
//!
//! Against shortcuts: gaps between tiles (edges and lines that go on), each tile normalised by itself
//! (brightness), a share of the samples in gray (chromatic aberration). Volumes are cut along three axes
//! (Taleb et al. 2020, arXiv 2006.03829).

use super::mae::view;
use super::{
    Band, BuildEncoder, Gauge, Loss, Method, Networks, Objective, OverViews, Picture, Views, Wanted, boxed,
    tiles,
};
use crate::encoder::Encoder;
use crate::error::{Error, Result};
use crate::init::Init;
use crate::loss::cross_entropy;
use crate::nn::{Linear, MlpHead, MlpHeadNorm};
use crate::params::Params;
use crate::pass::Pass;
use crate::scope::Scope;
use candle_core::{DType, Tensor};
use selfsup_kernels::activation::Act;
use selfsup_kernels::rng::Key;

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JigsawConfig {
    /// Cells along each axis: the paper's 3.
    pub grid: usize,
    /// Side of a tile as a share of its cell: the paper's 64 of 75 pixels. Brought to the nearest multiple of
    /// the encoder's stride that fits.
    pub tile: f64,
    /// Permutations that are told apart (the paper: 100 to 1000).
    pub permutations: usize,
    /// Share of the samples that turn gray (the paper's 0.3).
    pub gray_p: f64,
    /// Width that the features of each tile are brought to (the paper's 512).
    pub tile_dim: usize,
    /// Width of the layer that sees all tiles (the paper's 4096).
    pub hidden_dim: usize,
}

impl Default for JigsawConfig {
    fn default() -> Self {
        JigsawConfig {
            grid: 3,
            tile: 64.0 / 75.0,
            permutations: 100,
            gray_p: 0.3,
            tile_dim: 512,
            hidden_dim: 4096,
        }
    }
}

impl JigsawConfig {
    fn check(&self) -> Result<()> {
        let bad = |key: &str, value: &dyn std::fmt::Display, expected: &str| {
            Err(Error::config(format!("method.{key} = {value}: expected {expected}")))
        };
        if !(2..=8).contains(&self.grid) {
            return bad("grid", &self.grid, "2 to 8 cells along each axis");
        }
        if !(self.tile > 0.0 && self.tile <= 1.0) {
            return bad("tile", &self.tile, "a share above 0 and at most 1");
        }
        if !(0.0..=1.0).contains(&self.gray_p) {
            return bad("gray_p", &self.gray_p, "a probability from 0 to 1");
        }
        if self.permutations < 2 {
            return bad("permutations", &self.permutations, "at least 2");
        }
        Ok(())
    }
}

/// Candidates that permutations of more than nine tiles are chosen from: 9! = 362,880 can be listed, 10! not.
const CANDIDATES: usize = 20_000;

/// `count` permutations of `tiles` places, chosen one after the other: each differs from those before it in
/// as many places as possible, first in the worst case, then on average. The first is the order itself. The
/// same for the same numbers, so a run that is resumed has the same classes. Up to nine tiles all
/// permutations are candidates, beyond a fixed random sample of them.
///
/// # Errors
/// If there are fewer permutations.
pub fn far_permutations(tiles: usize, count: usize) -> Result<Vec<Vec<usize>>> {
    let first: Vec<u8> = (0..tiles as u8).collect();
    // One after the other in one list.
    let mut candidates = first.clone();
    if tiles <= 9 {
        let mut last = first;
        while let Some(next) = following(&last) {
            candidates.extend_from_slice(&next);
            last = next;
        }
    } else {
        for i in 1..CANDIDATES as u64 {
            let mut order = first.clone();
            Key::new(0).named("jigsaw permutations").fold(i).rng().shuffle(&mut order);
            candidates.extend(order);
        }
    }
    let all = candidates.len() / tiles.max(1);
    if all < count {
        return Err(Error::config(format!(
            "method.permutations = {count}: {tiles} tiles have {all} permutations to choose from"
        )));
    }
    // Of each candidate the smallest distance to a chosen one, and their sum.
    let mut distances = vec![(u32::MAX, 0u32); all];
    let (mut chosen, mut newest) = (Vec::with_capacity(count), 0);
    while chosen.len() < count {
        let last = &candidates[newest * tiles..(newest + 1) * tiles];
        chosen.push(last.iter().map(|&t| t as usize).collect());
        let mut best = (0, 0);
        for (i, candidate) in candidates.chunks_exact(tiles).enumerate() {
            let gap = candidate.iter().zip(last).filter(|(a, b)| a != b).count() as u32;
            let (least, sum) = distances[i];
            distances[i] = (least.min(gap), sum + gap);
            // A chosen one has the distance 0 to itself and is not chosen again.
            if distances[i] > best {
                (best, newest) = (distances[i], i);
            }
        }
    }
    Ok(chosen)
}

/// The next permutation in the order of a dictionary.
fn following(p: &[u8]) -> Option<Vec<u8>> {
    let mut next = p.to_vec();
    let i = (1..next.len()).rev().find(|&i| next[i - 1] < next[i])?;
    let j = (i..next.len()).rev().find(|&j| next[j] > next[i - 1])?;
    next.swap(i - 1, j);
    next[i..].reverse();
    Some(next)
}

crate::embeddings! {
    /// What the head makes of the shuffled tiles.
    pub struct Puzzle {
        /// Scores `(N, P)` of the permutations.
        graph scores: Tensor,
        /// The permutation of each sample, `(N)`.
        fixed classes: Tensor,
        /// Mean of the features of the tiles, `(N, D)`.
        fixed features: Tensor,
    }
}

/// The method.
pub struct Jigsaw {
    config: JigsawConfig,
    params: Params,
    encoder: Box<dyn Encoder>,
    each: Linear,
    head: MlpHead,
    permutations: Vec<Vec<usize>>,
}

/// Where the tiles of a batch are, and how they are shuffled.
struct Cut {
    /// Where the tile of cell `t` of sample `i` begins.
    starts: Vec<Vec<Vec<usize>>>,
    sides: Vec<usize>,
    /// The permutation of each sample: in place `j` stands the tile of cell `p[j]`.
    classes: Vec<usize>,
}

impl Jigsaw {
    /// Builds the encoder at `encoder` and the classifier of permutations at `head`.
    ///
    /// # Errors
    /// If the encoder cannot be built or does not say its stride, or the configuration is not possible.
    pub fn new(scope: &Scope, build: &BuildEncoder, config: JigsawConfig) -> Result<Self> {
        config.check()?;
        let encoder = build(&scope.sub("encoder"))?;
        let cells = config.grid.pow(tiles::axes(encoder.as_ref())? as u32);
        let head = scope.sub("head").top();
        let dims = [config.tile_dim * cells, config.hidden_dim, config.permutations];
        Ok(Jigsaw {
            params: scope.params().clone(),
            each: Linear::new(&head.sub("tile"), encoder.dim(), config.tile_dim, true, Init::TorchLinear)?,
            head: MlpHead::new(&head.sub("puzzle"), &dims, MlpHeadNorm::None, MlpHeadNorm::None)?,
            permutations: far_permutations(cells, config.permutations)?,
            encoder,
            config,
        })
    }

    fn cut(&self, x: &Tensor, pass: &Pass) -> Result<Cut> {
        let (sizes, stride, grid) = (x.dims()[2..].to_vec(), self.encoder.stride(), self.config.grid);
        if sizes.len() != stride.len() || sizes.iter().any(|s| *s < grid) {
            return Err(Error::input(
                "batch",
                format!(
                    "views of {sizes:?}: cannot be cut into {grid} cells along each of {} axes",
                    stride.len()
                ),
            ));
        }
        let cells: Vec<usize> = sizes.iter().map(|s| s / grid).collect();
        let sides: Vec<usize> = cells
            .iter()
            .zip(&stride)
            .map(|(cell, stride)| tiles::side(*cell as f64 * self.config.tile, *cell, *stride))
            .collect();
        let (mut starts, mut classes) = (Vec::new(), Vec::new());
        for i in 0..x.dim(0)? {
            let mut rng = pass.sample_key("jigsaw", i).rng();
            classes.push(rng.below(self.permutations.len()));
            starts.push(
                (0..grid.pow(sizes.len() as u32))
                    .map(|cell| {
                        let mut rest = cell;
                        let mut start = vec![0; sizes.len()];
                        for a in (0..sizes.len()).rev() {
                            start[a] = rest % grid * cells[a] + rng.below(cells[a] - sides[a] + 1);
                            rest /= grid;
                        }
                        start
                    })
                    .collect(),
            );
        }
        Ok(Cut { starts, sides, classes })
    }

    /// The tiles as the encoder sees them, `(N T, C, sides..)`, and where they come from.
    fn puzzle(&self, x: &Tensor, pass: &Pass) -> Result<(Tensor, Cut)> {
        let cut = self.cut(x, pass)?;
        let gray: Vec<bool> = (0..x.dim(0)?)
            .map(|i| pass.sample_key("jigsaw gray", i).rng().chance(self.config.gray_p as f32))
            .collect();
        let shuffled: Vec<Vec<Vec<usize>>> = cut
            .starts
            .iter()
            .zip(&cut.classes)
            .map(|(starts, class)| self.permutations[*class].iter().map(|t| starts[*t].clone()).collect())
            .collect();
        let made = tiles::cut(&tiles::grayed(x, &gray)?, &shuffled, &cut.sides)?;
        Ok((tiles::standardised(&made)?, cut))
    }

    /// Scores `(N, P)` of the permutations and the mean features of the tiles `(N, D)`.
    fn solve(&self, made: &Tensor, n: usize, pass: &Pass) -> Result<(Tensor, Tensor)> {
        let count = made.dim(0)? / n.max(1);
        // The tiles of sample i stand at T i to T i + T - 1, whatever part of the step this is.
        let places = pass.at(count as u64 * pass.offset);
        let features = self.encoder.forward(made, None, &[], &places)?.pooled;
        let (narrow, d) = (self.each.forward_act(&features, Act::Relu, pass)?, features.dim(1)?);
        let scores = self.head.forward(&narrow.reshape((n, count * self.config.tile_dim))?, pass)?;
        Ok((scores, features.detach().reshape((n, count, d))?.mean(1)?))
    }
}

impl OverViews for JigsawConfig {
    fn wanted(&self) -> Wanted {
        Wanted::Plain
    }

    fn build(&self, scope: &Scope, networks: &dyn Networks) -> Result<Method<Views>> {
        Ok(boxed(Jigsaw::new(scope, &|s: &Scope| networks.encoder(s), self.clone())?))
    }

    fn shrink(&mut self) {
        (self.grid, self.permutations, self.tile_dim, self.hidden_dim) = (2, 6, 4, 8);
    }
}

impl Objective for Jigsaw {
    type Batch = Views;
    type Embeddings = Puzzle;

    fn params(&self) -> &Params {
        &self.params
    }

    fn encoder(&self) -> &dyn Encoder {
        self.encoder.as_ref()
    }

    fn embed(&self, batch: &Views, pass: &Pass) -> Result<Puzzle> {
        let x = view(batch, "the jigsaw puzzle")?;
        let (made, cut) = self.puzzle(x, pass)?;
        let (scores, features) = self.solve(&made, x.dim(0)?, pass)?;
        let classes: Vec<i64> = cut.classes.iter().map(|c| *c as i64).collect();
        let count = classes.len();
        Ok(Puzzle { scores, classes: Tensor::from_vec(classes, count, x.device())?, features })
    }

    fn criterion(&self, e: &Puzzle, _pass: &Pass) -> Result<Loss> {
        Ok(cross_entropy(&e.scores, &e.classes, 0.0)?.into())
    }

    fn couples_samples(&self) -> bool {
        false
    }

    /// Share of the permutations that are told right, in percent, and the spread of the features.
    fn gauges(&self, e: &Puzzle, _pass: &Pass) -> Result<Vec<Gauge>> {
        let share = tiles::accuracy(&e.scores, &e.classes)?;
        // Above chance by a fifth.
        let band = Band::within(120.0 / self.permutations.len() as f64, 99.7);
        let told = Gauge::plain("jigsaw_accuracy", share).healthy(band);
        Ok(vec![told, super::embedding_std(&e.features)?])
    }

    /// The tiles in their places, as they were shuffled, and as the prediction puts them back.
    fn pictures(&self, batch: &Views, pass: &Pass) -> Result<Vec<Picture>> {
        let x = view(batch, "the jigsaw puzzle")?;
        let (made, cut) = self.puzzle(x, pass)?;
        let (scores, _) = self.solve(&made, x.dim(0)?, pass)?;
        let told = scores.argmax(1)?.to_dtype(DType::U32)?.to_vec1::<u32>()?;
        let placed = |classes: &mut dyn Iterator<Item = usize>| -> Vec<Vec<Vec<usize>>> {
            let of = |(starts, class): (&Vec<Vec<usize>>, usize)| {
                self.permutations[class].iter().map(|t| starts[*t].clone()).collect()
            };
            cut.starts.iter().zip(classes).map(of).collect()
        };
        let draw = |starts: &[Vec<Vec<usize>>]| tiles::paste(&made, starts, &cut.sides, &x.dims()[2..]);
        Ok(vec![
            Picture::new("target", &draw(&placed(&mut cut.classes.iter().copied()))?),
            Picture::new("input", &draw(&cut.starts)?),
            Picture::new("prediction", &draw(&placed(&mut told.iter().map(|c| *c as usize)))?),
        ])
    }

    fn may_skip(&self) -> Vec<String> {
        self.encoder.may_skip().into_iter().map(|name| format!("encoder.{name}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distance(a: &[usize], b: &[usize]) -> usize {
        a.iter().zip(b).filter(|(a, b)| a != b).count()
    }

    /// Four tiles have 24 permutations: 4 can differ everywhere (a Latin square), 12 in three places.
    #[test]
    fn permutations_are_far_from_each_other() -> Result<()> {
        let least = |all: &[Vec<usize>]| {
            let pairs =
                all.iter().enumerate().flat_map(|(i, a)| all[..i].iter().map(move |b| distance(a, b)));
            pairs.min()
        };
        let four = far_permutations(4, 4)?;
        assert_eq!((least(&four), four[0].clone()), (Some(4), vec![0, 1, 2, 3]));
        assert_eq!(least(&far_permutations(4, 12)?), Some(3));
        let all = far_permutations(4, 24)?;
        assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), 24);
        assert!(far_permutations(3, 7).unwrap_err().to_string().contains("method.permutations"));
        for (tiles, count, apart) in [(9, 9, 9), (9, 50, 7), (27, 50, 23)] {
            let made = far_permutations(tiles, count)?;
            assert!(least(&made) >= Some(apart), "{tiles} {count}: {:?}", least(&made));
            for p in &made {
                let mut sorted = p.clone();
                sorted.sort_unstable();
                assert_eq!(sorted, (0..tiles).collect::<Vec<_>>());
            }
        }
        Ok(())
    }
}

//! Object detection without anchors: FCOS (Tian et al. 2019, arXiv 1904.01355) on any encoder with maps.
//!
//! Every place of three levels of a pyramid says how likely each class is, how far the sides of a box are,
//! and how near to the middle it is. With `N` positive places in the batch the loss is `(focal + (1 - GIoU) +
//! binary cross entropy of the centre-ness) / N`, the last two over positive places. Where we differ: GIoU in
//! place of IoU (as later versions of the paper), levels P3 to P5 alone, towers of two layers instead of
//! four, and distances in strides in place of a learnt factor for each level.

use super::assign::{Level, Target, Truth, assign, centreness};
use super::head::FcosHead;
use super::nms::{Found, suppress};
use super::pyramid::Pyramid;
use super::stages::Stages;
use crate::encoder::Architecture;
use candle_core::{Device, Tensor};
use selfsup_core::kernels::host::floats;
use selfsup_core::kernels::host::integers;
use selfsup_core::loss::{focal, giou, quality};
use selfsup_core::objective::{Batch, Gauge, Loss, Objective};
use selfsup_core::{Encoder, Error, Params, Pass, Result, Scope};
use serde::{Deserialize, Serialize};

/// Levels of the pyramid.
const LEVELS: usize = 3;
/// Balance and focus of the focal loss.
const FOCAL: (f64, f64) = (0.25, 2.0);
/// Boxes of each view before suppression, surest first.
const CANDIDATES: usize = 1000;

/// Views with the boxes in them.
#[derive(Clone, Debug)]
pub struct BoxBatch {
    /// `(N, C, H, W)`.
    pub x: Tensor,
    /// The boxes of each view.
    pub truths: Vec<Vec<Truth>>,
    /// Global index of each sample in the data set.
    pub indices: Vec<usize>,
}

impl Batch for BoxBatch {
    fn samples(&self) -> usize {
        self.truths.len()
    }

    fn narrow(&self, start: usize, len: usize) -> Result<Self> {
        Ok(BoxBatch {
            x: self.x.narrow(0, start, len)?,
            truths: self.truths.get(start..start + len).unwrap_or_default().to_vec(),
            indices: self.indices.get(start..start + len).unwrap_or_default().to_vec(),
        })
    }

    fn to_device(&self, device: &Device) -> Result<Self> {
        Ok(BoxBatch { x: self.x.to_device(device)?, ..self.clone() })
    }
}

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DetectConfig {
    /// Number of classes; the background is none of them.
    pub classes: usize,
    /// The encoder is not trained: it runs as in evaluation.
    pub frozen: bool,
    /// Channels of the pyramid and the towers.
    pub width: usize,
    /// Layers of each tower.
    pub depth: usize,
    /// Boxes below this score are left out.
    pub least_score: f32,
    /// Of two boxes of a class that overlap by more than this the surer one stays.
    pub overlap: f32,
    /// Boxes of a view, at most.
    pub most: usize,
}

impl Default for DetectConfig {
    /// FCOS' thresholds (0.05 and 0.6) and COCO's 100 boxes.
    fn default() -> Self {
        DetectConfig {
            classes: 1,
            frozen: false,
            width: 128,
            depth: 2,
            least_score: 0.05,
            overlap: 0.6,
            most: 100,
        }
    }
}

/// 0, with a gradient of zeros.
fn nothing(x: &Tensor) -> Result<Tensor> {
    let sum = x.sum_all()?;
    Ok(sum.mul(&sum.zeros_like()?)?)
}

selfsup_core::embeddings! {
    /// What is said of the `L` places of each view, and what they should learn.
    pub struct Places {
        /// Scores before the sigmoid, `(N, L, C)`.
        graph scores: Tensor,
        /// Distances to the sides in pixels, `(N, L, 4)`.
        graph sides: Tensor,
        /// Centre-ness before the sigmoid, `(N, L)`.
        graph centre: Tensor,
        /// `(N, L)`: the class from 1 on, 0 for nothing, -1 where nothing is learnt.
        fixed classes: Tensor,
        /// `(N, L, 4)`; 1 where there is no box.
        fixed targets: Tensor,
    }
}

/// The objective.
pub struct Detect {
    config: DetectConfig,
    params: Params,
    stages: Stages,
    pyramid: Pyramid,
    head: FcosHead,
}

impl Detect {
    /// Builds the encoder at `encoder`, the pyramid at `pyramid` and the head at `head`.
    ///
    /// # Errors
    /// If the configuration is not possible.
    pub fn new(scope: &Scope, architecture: &Architecture, config: DetectConfig) -> Result<Self> {
        let c = &config;
        if c.classes == 0
            || c.width == 0
            || !(0.0..=1.0).contains(&c.least_score)
            || !(0.0..=1.0).contains(&c.overlap)
        {
            return Err(Error::config(format!(
                "{} classes, width {}, least score {}, overlap {}: expected at least one class, a width \
                 above 0 and shares from 0 to 1",
                c.classes, c.width, c.least_score, c.overlap
            )));
        }
        let stages = Stages::new(&scope.sub("encoder"), architecture)?;
        stages.freeze_unused(scope.params(), "encoder");
        let pyramid = Pyramid::new(&scope.sub("pyramid").top(), &stages.scales(), LEVELS, c.width)?;
        let head = FcosHead::new(&scope.sub("head").top(), c.width, c.depth, c.classes)?;
        Ok(Detect { config, params: scope.params().clone(), stages, pyramid, head })
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.config.classes
    }

    /// What the head says of `x (N, C, H, W)`, and the levels that it says it of.
    fn said(&self, x: &Tensor, pass: &Pass) -> Result<(super::head::Said, Vec<Level>)> {
        let maps = self.stages.maps(x, self.config.frozen, pass)?;
        let levels = self.pyramid.forward(&maps, pass)?;
        let strides = self.pyramid.strides();
        let grid = |(t, stride): (&Tensor, &usize)| -> Result<Level> {
            Ok(Level { height: t.dim(1)?, width: t.dim(2)?, stride: *stride })
        };
        let grids = levels.iter().zip(strides).map(grid).collect::<Result<Vec<_>>>()?;
        Ok((self.head.forward(&levels, strides, pass)?, grids))
    }

    /// The boxes in each view of `x (N, C, H, W)`, surest first. The score of a box is the geometric mean of
    /// those of its class and its centre-ness.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn find(&self, x: &Tensor) -> Result<Vec<Vec<Found>>> {
        let (said, levels) = self.said(x, &Pass::eval())?;
        let list = |t: &Tensor| -> Result<Vec<f32>> { Ok(floats(&t.detach())?) };
        let (n, l, c) = said.scores.dims3()?;
        let (scores, sides, centre) = (list(&said.scores)?, list(&said.sides)?, list(&said.centre)?);
        let points: Vec<[f32; 2]> =
            levels.iter().flat_map(|level| (0..level.places()).map(|i| level.point(i))).collect();
        let sigmoid = |v: f32| 1.0 / (1.0 + (-v).exp());
        let mut out = Vec::with_capacity(n);
        for row in 0..n {
            let mut found = Vec::new();
            for (place, [x, y]) in points.iter().enumerate() {
                let at = row * l + place;
                let middle = sigmoid(centre[at]);
                for class in 0..c {
                    let of_class = sigmoid(scores[at * c + class]);
                    // The threshold is that of the class, as in the paper.
                    if of_class <= self.config.least_score {
                        continue;
                    }
                    let s = &sides[4 * at..4 * at + 4];
                    let bbox = [x - s[0], y - s[1], x + s[2], y + s[3]];
                    found.push(Found { class, score: (of_class * middle).sqrt(), bbox });
                }
            }
            found.sort_by(|a, b| b.score.total_cmp(&a.score));
            found.truncate(CANDIDATES);
            out.push(suppress(found, self.config.overlap, self.config.most));
        }
        Ok(out)
    }
}

impl Objective for Detect {
    type Batch = BoxBatch;
    type Embeddings = Places;

    fn params(&self) -> &Params {
        &self.params
    }

    fn encoder(&self) -> &dyn Encoder {
        self.stages.encoder()
    }

    fn embed(&self, batch: &BoxBatch, pass: &Pass) -> Result<Places> {
        let (said, levels) = self.said(&batch.x, pass)?;
        let (n, l, _) = said.scores.dims3()?;
        let (mut classes, mut targets) = (Vec::with_capacity(n * l), Vec::with_capacity(4 * n * l));
        for truths in &batch.truths {
            if let Some(unknown) = truths.iter().find(|t| t.class >= self.config.classes) {
                let problem = format!("{}: expected a class below {}", unknown.class, self.config.classes);
                return Err(Error::input("box", problem));
            }
            for target in assign(&levels, truths) {
                let (class, sides) = match target {
                    Target::Nothing => (0, [1.0; 4]),
                    Target::Ignored => (-1, [1.0; 4]),
                    Target::Box(class, sides) => (class as i64 + 1, sides),
                };
                classes.push(class);
                targets.extend(sides);
            }
        }
        if classes.len() != n * l {
            let problem = format!("boxes of {} views for {n}: expected as many", batch.truths.len());
            return Err(Error::input("batch", problem));
        }
        let device = said.scores.device();
        Ok(Places {
            classes: Tensor::from_vec(classes, (n, l), device)?,
            targets: Tensor::from_vec(targets, (n, l, 4), device)?,
            scores: said.scores,
            sides: said.sides,
            centre: said.centre,
        })
    }

    fn criterion(&self, e: &Places, _pass: &Pass) -> Result<Loss> {
        let (n, l, c) = e.scores.dims3()?;
        let classes: Vec<i64> = integers(&e.classes)?;
        let (mut wanted, mut counted) = (vec![0f32; n * l * c], vec![1f32; n * l * c]);
        let mut positive: Vec<u32> = Vec::new();
        for (i, &class) in classes.iter().enumerate() {
            match class {
                -1 => counted[i * c..(i + 1) * c].fill(0.0),
                0 => {}
                class => {
                    wanted[i * c + class as usize - 1] = 1.0;
                    positive.push(i as u32);
                }
            }
        }
        let device = e.scores.device();
        let dense = |v: Vec<f32>| Tensor::from_vec(v, (n, l, c), device);
        let of_classes = focal(&e.scores, &dense(wanted)?, &dense(counted)?, FOCAL.0, FOCAL.1)?;
        let m = positive.len();
        let per = 1.0 / m.max(1) as f64;
        let (boxes, centre) = if m == 0 {
            // No box in the batch: the branch keeps a gradient, of zeros.
            (nothing(&e.sides)?, nothing(&e.centre)?)
        } else {
            let places = Tensor::from_vec(positive, m, device)?;
            let pick = |t: &Tensor| -> Result<Tensor> { Ok(t.flatten(0, 1)?.index_select(&places, 0)?) };
            let targets = pick(&e.targets)?;
            let middle: Vec<f32> =
                targets.to_vec2::<f32>()?.iter().map(|t| centreness([t[0], t[1], t[2], t[3]])).collect();
            let middle = Tensor::from_vec(middle, m, device)?;
            (giou(&pick(&e.sides)?, &targets)?.sum_all()?, quality(&pick(&e.centre)?, &middle)?)
        };
        Loss::sum(vec![
            ("classes", (of_classes * per)?),
            ("boxes", (boxes * per)?),
            ("centreness", (centre * per)?),
        ])
    }

    /// Places with a box in a view, on average.
    fn gauges(&self, e: &Places, _pass: &Pass) -> Result<Vec<Gauge>> {
        let classes: Vec<i64> = integers(&e.classes)?;
        let positive = classes.iter().filter(|c| **c > 0).count();
        Ok(vec![Gauge::plain("positive_places", positive as f64 / e.classes.dim(0)?.max(1) as f64)])
    }

    fn may_skip(&self) -> Vec<String> {
        self.stages.encoder().may_skip().into_iter().map(|name| format!("encoder.{name}")).collect()
    }
}

#[cfg(test)]
#[path = "detect_tests.rs"]
mod tests;

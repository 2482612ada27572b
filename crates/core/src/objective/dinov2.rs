//! DINOv2 (Oquab et al. 2023, "DINOv2: Learning Robust Visual Features without Supervision", arXiv
//! 2304.07193):
//! [iBOT](super::IBotConfig) with a head for classes and another for patches, Sinkhorn-Knopp in place of the
//! centres (three rounds over the batch, for patches over those that were masked), and KoLeo on the class
//! features of the encoder, each full-size view by itself.
//!
//! What the paper adds to the network and the optimiser are keys of `[encoder]` and `[optim]`: LayerScale of
//! 1e-5, stochastic depth, a layer-wise decay of the learning rate. The authors deal shares of masked patches
//! over the images of a batch; here each view draws its own, so that it does not depend on its neighbours.
//! The authors have no experience with batches below some hundreds of images.

use super::dino_head::DinoHeadSizes;
use super::self_distillation::{Recipe, SelfDistillation};
use super::{BatchRate, Lowered, Method, Needs, Networks, OverViews, Views, Wanted, boxed};
use crate::error::Result;
use crate::scope::Scope;

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DinoV2Config {
    /// Number of outputs K of each head (the paper's 65,536 to 131,072; 4096 for tens of thousands of
    /// images).
    pub out_dim: usize,
    /// Width of the heads' two hidden layers.
    pub hidden_dim: usize,
    /// Width of the layer before the outputs, which is normalised.
    pub bottleneck_dim: usize,
    /// Epochs at the start in which the last layers are left alone, a tenth of the run at most.
    pub freeze_last_layer: u64,
    /// Temperature of the student.
    pub student_temperature: f64,
    /// Temperature of the teacher at the start.
    pub teacher_temperature: f64,
    /// Temperature of the teacher at the end of its warm-up.
    pub teacher_temperature_end: f64,
    /// Share of the run over which the teacher's temperature rises along a line.
    pub teacher_warmup: f64,
    /// Teacher momentum at the start, rising to 1 along a half cosine (the paper's 0.992).
    pub momentum: f64,
    /// Probability that a full-size view is masked.
    pub mask_p: f64,
    /// Smallest and largest share of the patches of a masked view that are masked.
    pub mask_ratio: [f64; 2],
    /// Weight of the loss of classes.
    pub class_weight: f64,
    /// Weight of the loss of masked patches.
    pub patch_weight: f64,
    /// Weight of KoLeo, which spreads the class features.
    pub koleo_weight: f64,
}

impl Default for DinoV2Config {
    fn default() -> Self {
        DinoV2Config {
            out_dim: 4096,
            hidden_dim: 2048,
            bottleneck_dim: 256,
            freeze_last_layer: 1,
            student_temperature: 0.1,
            teacher_temperature: 0.04,
            teacher_temperature_end: 0.07,
            teacher_warmup: 0.3,
            momentum: 0.992,
            mask_p: 0.5,
            mask_ratio: [0.1, 0.5],
            class_weight: 1.0,
            patch_weight: 1.0,
            koleo_weight: 0.1,
        }
    }
}

impl OverViews for DinoV2Config {
    fn wanted(&self) -> Wanted {
        Wanted::Multi(2)
    }

    fn needs(&self) -> Needs {
        Needs { tokens: true, ..Needs::default() }
    }

    fn build(&self, scope: &Scope, networks: &dyn Networks) -> Result<Method<Views>> {
        let recipe = Recipe {
            name: "DINOv2",
            sizes: DinoHeadSizes {
                hidden: self.hidden_dim,
                bottleneck: self.bottleneck_dim,
                outputs: self.out_dim,
                unit_rows: true,
            },
            shared_head: false,
            freeze_last_layer: self.freeze_last_layer,
            student_temperature: self.student_temperature,
            teacher_temperature: (self.teacher_temperature, self.teacher_temperature_end),
            teacher_warmup: self.teacher_warmup,
            momentum: self.momentum,
            center_momentum: None,
            mask_p: self.mask_p,
            mask_ratio: self.mask_ratio,
            class_weight: self.class_weight,
            patch_weight: self.patch_weight,
            koleo_weight: self.koleo_weight,
        };
        Ok(boxed(SelfDistillation::new(scope, &|s: &Scope| networks.tokens(s), recipe)?))
    }

    /// With the square root of the batch, as the paper's.
    fn rate(&self) -> BatchRate {
        BatchRate::Root
    }

    fn fit(&mut self, samples: usize) -> Option<Lowered> {
        let (from, to) = (self.out_dim, samples.max(2));
        if from <= to {
            return None;
        }
        self.out_dim = to;
        let why = "of more outputs than samples some are never used";
        Some(Lowered { key: "method.out_dim", from, to, why })
    }

    fn shrink(&mut self) {
        (self.hidden_dim, self.bottleneck_dim, self.out_dim, self.momentum) = (16, 8, 12, 0.9);
    }
}

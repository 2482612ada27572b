//! iBOT (Zhou et al. 2021, "Image BERT Pre-Training with Online Tokenizer", arXiv 2111.07832): DINO, and the
//! same for single patches, which the student does not see.
//!
//! ```text
//! L = class_weight * DINO(class tokens)
//!   + patch_weight * mean over full-size views of the mean over masked patches of H(p_teacher, p_student)
//! ```
//!
//! The student sees full-size views with blocks of patches masked, and small crops; the teacher, its moving
//! average, sees the full-size views whole. `p` is a softmax over the prototypes of a DINO head, by default
//! one for classes and patches; the teacher's is centred by two running means. A view is masked with
//! probability `mask_p`, each by a share of its own.

use super::dino_head::DinoHeadSizes;
use super::self_distillation::{Recipe, SelfDistillation};
use super::{Lowered, Method, Needs, Networks, OverViews, Views, Wanted, boxed};
use crate::error::Result;
use crate::scope::Scope;

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IBotConfig {
    /// Number of outputs K (the paper's 8192; 4096 for tens of thousands of images).
    pub out_dim: usize,
    /// Width of the head's two hidden layers.
    pub hidden_dim: usize,
    /// Width of the layer before the outputs, which is normalised.
    pub bottleneck_dim: usize,
    /// One head for classes and patches.
    pub shared_head: bool,
    /// Epochs at the start in which the last layer is left alone, a tenth of the run at most.
    pub freeze_last_layer: u64,
    /// Temperature of the student.
    pub student_temperature: f64,
    /// Temperature of the teacher at the start.
    pub teacher_temperature: f64,
    /// Temperature of the teacher at the end of its warm-up.
    pub teacher_temperature_end: f64,
    /// Share of the run over which the teacher's temperature rises along a line.
    pub teacher_warmup: f64,
    /// Teacher momentum at the start, rising to 1 along a half cosine (the paper's 0.996).
    pub momentum: f64,
    /// Momentum of the two centres.
    pub center_momentum: f64,
    /// Probability that a full-size view is masked.
    pub mask_p: f64,
    /// Smallest and largest share of the patches of a masked view that are masked (the paper's 0.3 +- 0.2).
    pub mask_ratio: [f64; 2],
    /// Weight of the loss of classes.
    pub class_weight: f64,
    /// Weight of the loss of masked patches.
    pub patch_weight: f64,
}

impl Default for IBotConfig {
    fn default() -> Self {
        IBotConfig {
            out_dim: 4096,
            hidden_dim: 2048,
            bottleneck_dim: 256,
            shared_head: true,
            freeze_last_layer: 1,
            student_temperature: 0.1,
            teacher_temperature: 0.04,
            teacher_temperature_end: 0.07,
            teacher_warmup: 0.3,
            momentum: 0.99,
            center_momentum: 0.9,
            mask_p: 0.5,
            mask_ratio: [0.1, 0.5],
            class_weight: 1.0,
            patch_weight: 1.0,
        }
    }
}

impl OverViews for IBotConfig {
    fn wanted(&self) -> Wanted {
        Wanted::Multi(2)
    }

    fn needs(&self) -> Needs {
        Needs { tokens: true, ..Needs::default() }
    }

    fn build(&self, scope: &Scope, networks: &dyn Networks) -> Result<Method<Views>> {
        let recipe = Recipe {
            name: "iBOT",
            sizes: DinoHeadSizes {
                hidden: self.hidden_dim,
                bottleneck: self.bottleneck_dim,
                outputs: self.out_dim,
                unit_rows: true,
            },
            shared_head: self.shared_head,
            freeze_last_layer: self.freeze_last_layer,
            student_temperature: self.student_temperature,
            teacher_temperature: (self.teacher_temperature, self.teacher_temperature_end),
            teacher_warmup: self.teacher_warmup,
            momentum: self.momentum,
            center_momentum: Some(self.center_momentum),
            mask_p: self.mask_p,
            mask_ratio: self.mask_ratio,
            class_weight: self.class_weight,
            patch_weight: self.patch_weight,
            koleo_weight: 0.0,
        };
        Ok(boxed(SelfDistillation::new(scope, &|s: &Scope| networks.tokens(s), recipe)?))
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

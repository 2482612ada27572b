//! Self-distillation with masked patches: what iBOT ([`IBotConfig`](super::IBotConfig)) and DINOv2
//! ([`DinoV2Config`](super::DinoV2Config)) share.
//!
//! ```text
//! L = class_weight * mean over pairs of views t != s of H(p_teacher(class_t), p_student(class_s))
//!   + patch_weight * mean over full-size views of the mean over masked patches of H(p_teacher, p_student)
//!   + koleo_weight * sum over full-size views of KoLeo(class features of the encoder)
//! ```
//!
//! The student sees full-size views with blocks of patches masked, and small crops; the teacher, its moving
//! average, sees the full-size views whole. `p` is a softmax over the prototypes of a DINO head.
//!
//! The prototypes belong to the criterion: what is kept of a patch is its bottleneck, padded to the largest
//! number of masked patches. So dimension 0 runs over the samples, and the criterion sees those of all
//! micro-batches and processes where it balances the batch; padding never enters it.

use super::dino_head::{Centre, DinoHead, DinoHeadSizes, TEACHER, centre_moves, teacher_gauges, warmed};
use super::simmim::with_mask_token;
use super::{Gauge, GaugeInfo, Loss, Objective, Views, joint, masks};
use crate::encoder::{Encoder, TokenEncoder};
use crate::error::{Error, Result};
use crate::init::Init;
use crate::loss::{centred, ibot_patch, koleo, sinkhorn, swav_with_codes};
use crate::optim::Grads;
use crate::params::{Params, Role, Weight};
use crate::pass::{Pass, Progress};
use crate::scope::Scope;
use crate::world::World;
use candle_core::{DType, Tensor};

/// What iBOT and DINOv2 set.
#[derive(Clone, Debug)]
pub(super) struct Recipe {
    pub(super) name: &'static str,
    pub(super) sizes: DinoHeadSizes,
    pub(super) shared_head: bool,
    pub(super) freeze_last_layer: u64,
    pub(super) student_temperature: f64,
    pub(super) teacher_temperature: (f64, f64),
    pub(super) teacher_warmup: f64,
    pub(super) momentum: f64,
    /// That of the centres; without one Sinkhorn-Knopp balances the batch.
    pub(super) center_momentum: Option<f64>,
    pub(super) mask_p: f64,
    pub(super) mask_ratio: [f64; 2],
    pub(super) class_weight: f64,
    pub(super) patch_weight: f64,
    pub(super) koleo_weight: f64,
}

impl Recipe {
    fn check(&self) -> Result<()> {
        let bad = |key: &str, value: f64, expected: &str| {
            Err(Error::config(format!("method.{key} = {value}: expected {expected}")))
        };
        for (key, t) in [
            ("student_temperature", self.student_temperature),
            ("teacher_temperature", self.teacher_temperature.0),
            ("teacher_temperature_end", self.teacher_temperature.1),
        ] {
            if !(t > 0.0 && t.is_finite()) {
                return bad(key, t, "above 0");
            }
        }
        for (key, share) in [
            ("teacher_warmup", self.teacher_warmup),
            ("momentum", self.momentum),
            ("center_momentum", self.center_momentum.unwrap_or(0.0)),
            ("mask_p", self.mask_p),
        ] {
            if !(0.0..=1.0).contains(&share) {
                return bad(key, share, "0 to 1");
            }
        }
        let [low, high] = self.mask_ratio;
        if !(low > 0.0 && low <= high && high < 1.0) {
            return Err(Error::config(format!(
                "method.mask_ratio = [{low}, {high}]: expected two shares above 0 and below 1, the smaller first"
            )));
        }
        for (key, weight) in [
            ("class_weight", self.class_weight),
            ("patch_weight", self.patch_weight),
            ("koleo_weight", self.koleo_weight),
        ] {
            if !(weight >= 0.0 && weight.is_finite()) {
                return bad(key, weight, "a number of at least 0");
            }
        }
        if self.mask_p == 0.0 || self.patch_weight == 0.0 || self.class_weight == 0.0 {
            return Err(Error::config(format!(
                "method.mask_p = {}, method.class_weight = {}, method.patch_weight = {}: expected all above 0; without masked patches this is DINO",
                self.mask_p, self.class_weight, self.patch_weight
            )));
        }
        Ok(())
    }
}

crate::embeddings! {
    /// What student and teacher make of the views of each sample. A bottleneck is what a head hands to its
    /// prototypes, of width `B`.
    pub struct Distilled {
        /// The student's bottlenecks of the class of each view, `(N, B)`; full-size views first.
        graph classes: Vec<Tensor>,
        /// Its bottlenecks of the masked patches of each full-size view, `(N, M, B)`, padded.
        graph patches: Vec<Tensor>,
        /// The encoder's class features of each full-size view, `(N, D)`.
        graph features: Vec<Tensor>,
        /// The teacher's bottlenecks of the class of each full-size view, `(N, B)`.
        fixed teacher_classes: Vec<Tensor>,
        /// Its bottlenecks of the patches that the student does not see, `(N, M, B)`, padded.
        fixed teacher_patches: Vec<Tensor>,
        /// Masked patches of each full-size view, `(N, V)`.
        fixed counts: Tensor,
    }
}

/// Encoder and heads of a student or a teacher.
struct Side {
    encoder: Box<dyn TokenEncoder>,
    class: DinoHead,
    /// That of the patches, where it is another.
    patch: Option<DinoHead>,
}

/// `(student, teacher)`: the second follows the first.
const PATHS: [(&str, &str); 3] = [
    ("encoder", "teacher.encoder"),
    ("projector", "teacher.projector"),
    ("patch_projector", "teacher.patch_projector"),
];

impl Side {
    fn new(
        scope: &Scope,
        build: &dyn Fn(&Scope) -> Result<Box<dyn TokenEncoder>>,
        recipe: &Recipe,
    ) -> Result<Self> {
        let encoder = build(&scope.sub("encoder"))?;
        let head = |name: &str| DinoHead::new(&scope.sub(name).top(), encoder.dim(), recipe.sizes);
        let patch = if recipe.shared_head { None } else { Some(head("patch_projector")?) };
        Ok(Side { class: head("projector")?, patch, encoder })
    }

    fn patch_head(&self) -> &DinoHead {
        self.patch.as_ref().unwrap_or(&self.class)
    }

    /// Class features `(N, D)` and patches `(N, L, D)` of `tokens`: the class token's, or the mean of the
    /// patches where there is none.
    fn features(&self, tokens: &Tensor, pass: &Pass) -> Result<(Tensor, Tensor)> {
        let (l, prefix) = (tokens.dim(1)?, self.encoder.prefix());
        let all = self.encoder.contextualize(tokens, None, pass)?;
        let patches = all.narrow(1, prefix, l)?.contiguous()?;
        let class =
            if prefix > 0 { all.narrow(1, 0, 1)?.squeeze(1)?.contiguous()? } else { patches.mean(1)? };
        Ok((class, patches))
    }
}

/// The masked patches of a view of each sample.
struct Masked {
    /// 1 where a patch is masked, `(N, L)`.
    mask: Tensor,
    /// Their places, filled up with place 0.
    places: Vec<Vec<usize>>,
    counts: Vec<usize>,
}

/// iBOT or DINOv2.
pub struct SelfDistillation {
    recipe: Recipe,
    params: Params,
    student: Side,
    teacher: Side,
    mask_token: Weight,
    /// Of classes and of patches.
    centres: Option<(Centre, Centre)>,
}

impl SelfDistillation {
    /// Builds student (`encoder`, `projector`, `patch_projector` where heads differ, `mask_token`), teacher
    /// (`teacher.*`), which starts as a copy, and the centres.
    ///
    /// # Errors
    /// If the encoder cannot be built, or a number of the configuration is not possible.
    pub(super) fn new(
        scope: &Scope,
        build: &dyn Fn(&Scope) -> Result<Box<dyn TokenEncoder>>,
        recipe: Recipe,
    ) -> Result<Self> {
        recipe.check()?;
        let student = Side::new(scope, build, &recipe)?;
        let slow = scope.sub("teacher").with_role(Role::Teacher).copying(scope.path());
        let teacher = Side::new(&slow, build, &recipe)?;
        let centre = |name: &str, m| Centre::new(&scope.top(), name, recipe.sizes.outputs, m);
        let centres = recipe
            .center_momentum
            .map(|m| Ok::<_, Error>((centre("center", m)?, centre("patch_center", m)?)));
        let shape = (1, 1, student.encoder.dim());
        Ok(SelfDistillation {
            params: scope.params().clone(),
            mask_token: scope.stem().no_decay().get("mask_token", shape, Init::TruncNormal(0.02))?,
            centres: centres.transpose()?,
            student,
            teacher,
            recipe,
        })
    }

    /// The largest number of masked patches of a view.
    fn most(&self) -> usize {
        let l = self.student.encoder.grid().iter().product::<usize>();
        ((l as f64 * self.recipe.mask_ratio[1]) as usize).max(1)
    }

    fn mask(&self, view: usize, x: &Tensor, pass: &Pass) -> Result<Masked> {
        let grid = self.student.encoder.grid();
        let (l, most) = (grid.iter().product::<usize>(), self.most());
        let [low, high] = self.recipe.mask_ratio;
        let (mut drawn, mut places, mut counts) = (Vec::new(), Vec::new(), Vec::new());
        for i in 0..x.dim(0)? {
            let mut rng = pass.sample_key("block mask", i).fold(view as u64).rng();
            let share = low + f64::from(rng.uniform()) * (high - low);
            let masked = rng.chance(self.recipe.mask_p as f32);
            let count = if masked { ((l as f64 * share) as usize).clamp(1, most) } else { 0 };
            let mask = masks::block_mask(&grid, count, 4, &mut rng);
            let mut at: Vec<usize> = (0..l).filter(|p| mask[*p]).collect();
            counts.push(at.len());
            at.resize(most, 0);
            places.push(at);
            drawn.push(mask);
        }
        Ok(Masked { mask: masks::tensor(&drawn, x)?, places, counts })
    }

    fn teacher_temperature(&self, progress: &Progress) -> f64 {
        warmed(self.recipe.teacher_temperature, self.recipe.teacher_warmup, progress)
    }

    /// The teacher's distributions of outputs `(R, K)`.
    fn targets(&self, outputs: &Tensor, centre: Option<&Centre>, progress: &Progress) -> Result<Tensor> {
        let t = self.teacher_temperature(progress);
        match centre {
            Some(centre) => centred(outputs, centre.value(), t),
            None => sinkhorn(&outputs.to_dtype(DType::F32)?, 3, t),
        }
    }

    /// The teacher's outputs of the classes of all full-size views, one view after the other, `(V N, K)`, and
    /// of the masked patches, `(R, K)` or nothing.
    fn teacher_outputs(&self, e: &Distilled, pass: &Pass) -> Result<(Tensor, Option<Tensor>)> {
        let classes = self.teacher.class.prototypes(&Tensor::cat(&e.teacher_classes, 0)?, pass)?;
        let rows = true_rows(&e.teacher_patches, &counts(&e.counts)?)?;
        let patches = rows.map(|rows| self.teacher.patch_head().prototypes(&rows, pass)).transpose()?;
        Ok((classes.detach(), patches.map(|p| p.detach())))
    }
}

/// Masked patches of each view, of each sample.
fn counts(tensor: &Tensor) -> Result<Vec<Vec<usize>>> {
    let views = tensor.t()?.to_dtype(DType::F32)?.to_vec2::<f32>()?;
    Ok(views.into_iter().map(|v| v.into_iter().map(|c| c as usize).collect()).collect())
}

/// The rows of `patches`, `(N, M, B)` of each view, that are no padding, those of the first view first: `(R,
/// B)`; nothing if there are none.
fn true_rows(patches: &[Tensor], counts: &[Vec<usize>]) -> Result<Option<Tensor>> {
    let mut all = Vec::new();
    for (view, counts) in patches.iter().zip(counts) {
        let (n, m, b) = view.dims3()?;
        let rows: Vec<u32> =
            counts.iter().enumerate().flat_map(|(i, c)| (0..*c).map(move |j| (i * m + j) as u32)).collect();
        if !rows.is_empty() {
            let count = rows.len();
            let rows = Tensor::from_vec(rows, count, view.device())?;
            all.push(view.reshape((n * m, b))?.index_select(&rows, 0)?);
        }
    }
    if all.is_empty() { Ok(None) } else { Ok(Some(Tensor::cat(&all, 0)?)) }
}

impl Objective for SelfDistillation {
    type Batch = Views;
    type Embeddings = Distilled;

    fn params(&self) -> &Params {
        &self.params
    }

    fn encoder(&self) -> &dyn Encoder {
        self.student.encoder.as_ref()
    }

    fn embed(&self, batch: &Views, pass: &Pass) -> Result<Distilled> {
        let (full, small) = joint::crops(batch, self.recipe.name)?;
        // The teacher is the whole network: nothing is dropped.
        let whole = pass.undropped();
        let (student, teacher) = (&self.student, &self.teacher);
        let (mut classes, mut patches, mut features) = (Vec::new(), Vec::new(), Vec::new());
        let (mut teacher_classes, mut teacher_patches, mut counts) = (Vec::new(), Vec::new(), Vec::new());
        for (v, x) in full.iter().enumerate() {
            let masked = self.mask(v, x, pass)?;
            let encoder = student.encoder.as_ref();
            let tokens = with_mask_token(encoder, x, &masked.mask, &self.mask_token, pass)?;
            let (class, all) = student.features(&tokens, pass)?;
            classes.push(student.class.bottleneck(&class, pass)?);
            let hidden = masks::pick(&all, &masked.places)?;
            patches.push(student.patch_head().bottleneck(&hidden, pass)?);
            features.push(class);

            let (class, all) = teacher.features(&teacher.encoder.embed(x, &whole)?, &whole)?;
            teacher_classes.push(teacher.class.bottleneck(&class, &whole)?.detach());
            let hidden = masks::pick(&all, &masked.places)?;
            teacher_patches.push(teacher.patch_head().bottleneck(&hidden, &whole)?.detach());
            let own: Vec<f32> = masked.counts.iter().map(|c| *c as f32).collect();
            let n = own.len();
            counts.push(Tensor::from_vec(own, n, x.device())?);
        }
        for x in small {
            let (class, _) = student.features(&student.encoder.embed(x, pass)?, pass)?;
            classes.push(student.class.bottleneck(&class, pass)?);
        }
        let counts = Tensor::stack(&counts, 1)?; // (N, V)
        Ok(Distilled { classes, patches, features, teacher_classes, teacher_patches, counts })
    }

    fn criterion(&self, e: &Distilled, pass: &Pass) -> Result<Loss> {
        let (r, views) = (&self.recipe, e.teacher_classes.len());
        let (class_centre, patch_centre) = match &self.centres {
            Some((class, patch)) => (Some(class), Some(patch)),
            None => (None, None),
        };
        let (classes, patches) = self.teacher_outputs(e, pass)?;
        let targets = self.targets(&classes, class_centre, &pass.progress)?.chunk(views, 0)?;
        let outputs =
            e.classes.iter().map(|z| self.student.class.prototypes(z, pass)).collect::<Result<Vec<_>>>()?;
        let (full, small) = outputs.split_at(views);
        let class = swav_with_codes(full, small, &targets, r.student_temperature)?;
        let counts = counts(&e.counts)?;
        let patch = match (true_rows(&e.patches, &counts)?, patches) {
            (Some(rows), Some(patches)) => {
                let outputs = self.student.patch_head().prototypes(&rows, pass)?;
                let targets = self.targets(&patches, patch_centre, &pass.progress)?;
                ibot_patch(&outputs, &targets, &counts.concat(), r.student_temperature)?
            }
            // No view of this part is masked.
            _ => class.zeros_like()?,
        };
        let mut terms = vec![("class", (class * r.class_weight)?), ("patch", (patch * r.patch_weight)?)];
        if r.koleo_weight > 0.0 {
            let each = e.features.iter().map(koleo).collect::<Result<Vec<_>>>()?;
            let sum = Tensor::stack(&each, 0)?.sum_all()?;
            terms.push(("koleo", (sum * r.koleo_weight)?));
        }
        Loss::sum(terms)
    }

    /// Sinkhorn-Knopp and KoLeo look at the batch; a centre is of earlier steps.
    fn couples_samples(&self) -> bool {
        self.centres.is_none() || self.recipe.koleo_weight > 0.0
    }

    /// The prototypes stand still at first.
    fn adjust_grads(&self, grads: &mut Grads, progress: &Progress) -> Result<()> {
        for path in ["projector", "patch_projector"] {
            DinoHead::hold_last_layer(grads, path, self.recipe.freeze_last_layer, progress);
        }
        Ok(())
    }

    /// Moves the centres towards the mean of the teacher's outputs of this step, and the teacher.
    fn after_step(&self, e: &Distilled, progress: &Progress, world: &World) -> Result<()> {
        if let Some((class, patch)) = &self.centres {
            let (classes, patches) = self.teacher_outputs(e, &Pass::eval())?;
            class.follow(&[classes], world)?;
            let none = || Ok::<_, Error>(patch.value().narrow(0, 0, 0)?);
            patch.follow(&[patches.map_or_else(none, Ok)?], world)?;
        }
        joint::ema(&self.params, &PATHS, joint::cosine_to_one(self.recipe.momentum, progress.fraction()))
    }

    fn settings(&self) -> Vec<Gauge> {
        self.recipe.center_momentum.map(centre_moves).into_iter().collect()
    }

    fn gauge_info(&self) -> &'static [GaugeInfo] {
        &TEACHER
    }

    /// The spread of the class features; and of the teacher's targets on the first view, in nats: how sharp
    /// they are, and how much they say about the sample, which is 0 in either collapse.
    fn gauges(&self, e: &Distilled, pass: &Pass) -> Result<Vec<Gauge>> {
        let mut gauges = Vec::new();
        if let (Some(features), Some(first)) = (e.features.first(), e.teacher_classes.first()) {
            gauges.push(joint::embedding_std(features)?);
            let outputs = self.teacher.class.prototypes(first, pass)?;
            let p = self.targets(&outputs, self.centres.as_ref().map(|c| &c.0), &pass.progress)?;
            gauges.extend(teacher_gauges(&p)?);
        }
        Ok(gauges)
    }

    /// In a step without a masked view the mask token and the patches' head have nothing to say.
    fn may_skip(&self) -> Vec<String> {
        let own = self.params.all().into_iter().map(|p| p.name);
        let own = own.filter(|name| name == "mask_token" || name.starts_with("patch_projector"));
        let encoder = self.student.encoder.may_skip();
        own.chain(encoder.into_iter().map(|name| format!("encoder.{name}"))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    /// Of two samples with 1 and 2 masked patches the padding stays out.
    #[test]
    fn padding_is_left_out() -> Result<()> {
        let view = Tensor::arange(0f32, 6.0, &Device::Cpu)?.reshape((2, 3, 1))?;
        let rows = true_rows(&[view.clone(), view.clone()], &[vec![1, 2], vec![0, 1]])?;
        let rows = rows.map(|r| r.flatten_all()?.to_vec1::<f32>()).transpose()?;
        assert_eq!(rows, Some(vec![0.0, 3.0, 4.0, 3.0]));
        assert!(true_rows(&[view], &[vec![0, 0]])?.is_none());
        let table = Tensor::new(&[[1f32, 0.0], [2.0, 3.0]], &Device::Cpu)?;
        assert_eq!(counts(&table)?, [[1, 2], [0, 3]]);
        Ok(())
    }
}

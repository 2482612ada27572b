//! The gradient of one step: in one go, over micro-batches, and over the processes that train together.
//!
//! Where the criterion treats samples one by one, losses are averaged by the weight of each part. Where it
//! couples them, averaging would compute another loss: a contrastive batch of 4 x 64 has not the negatives of
//! one of 256. There the embeddings of all parts are gathered first and the criterion sees the whole batch:
//! of all processes, through [`World::all_gather`](crate::World::all_gather), whose gradient flows back to
//! where an embedding came from; and of all micro-batches, which are embedded without graphs and then again,
//! with one, to carry their share back (GradCache, Gao et al. 2021, arXiv 2101.06983). So no method needs
//! code of its own for either. The result is exact for encoders without batch norm; with it, statistics are
//! those of each micro-batch over all processes.

use crate::error::{Error, Result};
use crate::objective::{Batch, Embedded, Objective};
use crate::optim::Grads;
use crate::params::{Param, Role};
use crate::pass::Pass;
use crate::world::World;
use candle_core::{Tensor, Var};
use selfsup_kernels::host::floats;

/// Loss, gradient and embeddings of a step.
pub struct Gradients<E> {
    /// The gradient of every trained tensor that has one.
    pub grads: Grads,
    /// The loss.
    pub loss: f64,
    /// Its named terms.
    pub parts: Vec<(&'static str, f64)>,
    /// The embeddings of the whole step, detached; of all processes where the criterion couples samples.
    pub embeddings: E,
}

/// Loss and gradient of `batch`, with at most `micro` samples in flight (0: all at once). `pass.offset` is
/// the index of its first sample within the step: 0, but for later processes.
///
/// # Errors
/// Those of the objective.
pub fn gradients<O: Objective + ?Sized>(
    objective: &O,
    batch: &O::Batch,
    micro: usize,
    pass: &Pass,
) -> Result<Gradients<O::Embeddings>> {
    let trained = objective.params().with_role(Role::Trained);
    let n = batch.samples();
    let spans = spans(n, micro, &pass.world)?;
    if spans.len() <= 1 && pass.world.alone() {
        let embeddings = objective.embed(batch, pass)?;
        return finish(objective, embeddings, pass, &trained, 1.0);
    }
    let mut made = match (objective.couples_samples(), spans.len()) {
        (false, _) => averaged(objective, batch, &spans, pass, &trained)?,
        (true, 0 | 1) => {
            let whole = gather(&objective.embed(batch, pass)?, pass)?;
            finish(objective, whole, &pass.at(0), &trained, 1.0 / pass.world.size() as f64)?
        }
        (true, _) => cached(objective, batch, &spans, pass, &trained)?,
    };
    made.grads.all_reduce(&pass.world, &trained)?;
    Ok(made)
}

/// The start and the length of each part of `n` samples, at most `micro` (0: all) in one. Ranks may have
/// different numbers of samples, and cut them into equally many parts: batch norm and the gathering of
/// embeddings make them meet in each.
fn spans(n: usize, micro: usize, world: &World) -> Result<Vec<(usize, usize)>> {
    if micro == 0 || world.alone() {
        let step = if micro == 0 { n } else { micro };
        return Ok((0..n).step_by(step.max(1)).map(|start| (start, step.min(n - start))).collect());
    }
    let ranks: Vec<usize> = world.numbers(&[n as f64])?.iter().map(|r| r[0] as usize).collect();
    let wanted = ranks.iter().map(|n| n.div_ceil(micro)).max().unwrap_or(1);
    let parts = wanted.min(ranks.iter().copied().min().unwrap_or(1)).max(1);
    Ok((0..parts).map(|i| (n * i / parts, n * (i + 1) / parts - n * i / parts)).collect())
}

/// The embeddings of all processes.
pub(super) fn gather<E: Embedded>(embeddings: &E, pass: &Pass) -> Result<E> {
    let world = &pass.world;
    embeddings.map_graph(&mut |t| world.all_gather(t))?.map_fixed(&mut |t| Ok(world.all_gather(t)?.detach()))
}

fn scalar(x: &Tensor) -> Result<f64> {
    let values = floats(x)?;
    Ok(f64::from(values.first().copied().unwrap_or(f32::NAN)))
}

/// The criterion and its gradient times `share`.
fn finish<O: Objective + ?Sized>(
    objective: &O,
    embeddings: O::Embeddings,
    pass: &Pass,
    trained: &[Param],
    share: f64,
) -> Result<Gradients<O::Embeddings>> {
    let loss = objective.criterion(&embeddings, pass)?;
    let value = scalar(&loss.value)?;
    let weighted = if share == 1.0 { loss.value.clone() } else { (&loss.value * share)? };
    let (_, grads) = Grads::backward(&weighted, trained)?;
    let parts = loss.parts.iter().map(|(name, t)| Ok((*name, scalar(t)?))).collect::<Result<_>>()?;
    Ok(Gradients { grads, loss: value, parts, embeddings: embeddings.detach()? })
}

fn averaged<O: Objective + ?Sized>(
    objective: &O,
    batch: &O::Batch,
    spans: &[(usize, usize)],
    pass: &Pass,
    trained: &[Param],
) -> Result<Gradients<O::Embeddings>> {
    let (mut sum, mut all): (Option<Gradients<O::Embeddings>>, f64) = (None, 0.0);
    let mut embeddings = Vec::new();
    for &(start, len) in spans {
        let batch = batch.narrow(start, len)?;
        let pass = pass.at(pass.offset + start as u64);
        let embedded = objective.embed(&batch, &pass)?;
        // The sum over the parts is divided by the weight of all at the end, since a method may know a part's
        // only when it is embedded.
        let weight = objective.weight(&batch, &embedded)?;
        all += weight;
        let mut part = finish(objective, embedded, &pass, trained, weight)?;
        embeddings.push(part.embeddings.clone());
        part.loss *= weight;
        part.parts.iter_mut().for_each(|(_, v)| *v *= weight);
        sum = Some(match sum {
            None => part,
            Some(mut sum) => {
                sum.grads.add(&part.grads)?;
                sum.loss += part.loss;
                for ((_, a), (_, b)) in sum.parts.iter_mut().zip(&part.parts) {
                    *a += b;
                }
                sum
            }
        });
    }
    let mut sum = sum.ok_or_else(|| Error::input("batch", "no samples"))?;
    if !pass.world.alone() {
        let own: Vec<f64> = [all, sum.loss].into_iter().chain(sum.parts.iter().map(|(_, v)| *v)).collect();
        let ranks = pass.world.numbers(&own)?;
        let total = |i: usize| ranks.iter().map(|r| r.get(i).copied().unwrap_or(0.0)).sum::<f64>();
        (all, sum.loss) = (total(0), total(1));
        sum.parts.iter_mut().enumerate().for_each(|(i, (_, v))| *v = total(i + 2));
    }
    // Without weight (no masked token anywhere) there is nothing to divide.
    let share = if all > 0.0 { 1.0 / all } else { 1.0 };
    sum.grads.scale(share)?;
    sum.loss *= share;
    sum.parts.iter_mut().for_each(|(_, v)| *v *= share);
    sum.embeddings = O::Embeddings::cat(&embeddings)?;
    Ok(sum)
}

fn cached<O: Objective + ?Sized>(
    objective: &O,
    batch: &O::Batch,
    spans: &[(usize, usize)],
    pass: &Pass,
    trained: &[Param],
) -> Result<Gradients<O::Embeddings>> {
    let mut first = Vec::new();
    for &(start, len) in spans {
        // Statistics of batch norm are handed over by the second pass alone.
        let pass = pass.at(pass.offset + start as u64).silent();
        first.push(objective.embed(&batch.narrow(start, len)?, &pass)?.detach()?);
    }
    let mut leaves = Vec::new();
    let tracked = O::Embeddings::cat(&first)?.map_graph(&mut |t| {
        let leaf = Var::from_tensor(&t.copy()?)?;
        leaves.push(leaf.clone());
        Ok(leaf.as_tensor().clone())
    })?;
    let whole = gather(&tracked, pass)?;
    let loss = objective.criterion(&whole, &pass.at(if pass.world.alone() { pass.offset } else { 0 }))?;
    let value = scalar(&loss.value)?;
    let mean =
        if pass.world.alone() { loss.value.clone() } else { (&loss.value / pass.world.size() as f64)? };
    // The parameters are those inside the criterion itself, if any.
    let (store, mut grads) = Grads::backward(&mean, trained)?;
    for &(start, len) in spans {
        let pass = pass.at(pass.offset + start as u64);
        let part = objective.embed(&batch.narrow(start, len)?, &pass)?;
        let (mut surrogate, mut next): (Option<Tensor>, _) = (None, leaves.iter());
        part.map_graph(&mut |embedding| {
            let leaf = next.next().ok_or_else(|| Error::input("embeddings", "more tensors than at first"))?;
            if let Some(g) = store.get(leaf.as_tensor()) {
                let term = (embedding * g.narrow(0, start, len)?)?.sum_all()?;
                surrogate = Some(match surrogate.take() {
                    None => term,
                    Some(sum) => (sum + term)?,
                });
            }
            Ok(embedding.clone())
        })?;
        if let Some(surrogate) = surrogate {
            grads.add(&Grads::backward(&surrogate, trained)?.1)?;
        }
    }
    let parts = loss.parts.iter().map(|(name, t)| Ok((*name, scalar(t)?))).collect::<Result<_>>()?;
    Ok(Gradients { grads, loss: value, parts, embeddings: whole.detach()? })
}

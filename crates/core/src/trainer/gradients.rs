//! The gradient of one step: in one go, or over micro-batches.
//!
//! Where the criterion treats samples one by one, the losses of micro-batches are averaged by their share of
//! the samples. Where it couples them, averaging would compute another loss: a contrastive batch of 4 x 64
//! has not the negatives of one of 256. There the embeddings of all micro-batches are computed first, without
//! keeping graphs; the criterion of the whole batch gives their gradients; and each micro-batch is embedded
//! again, with a graph, to carry its share back (GradCache, Gao et al. 2021, arXiv 2101.06983). The result is
//! exact for encoders without batch norm; with it, statistics are those of each micro-batch.

use crate::error::{Error, Result};
use crate::objective::{Batch, Embeddings, Objective};
use crate::optim::Grads;
use crate::params::{Param, Role};
use crate::pass::Pass;
use candle_core::{Tensor, Var};

/// What a step computed.
pub struct Gradients {
    /// The gradient of every trained tensor that has one.
    pub grads: Grads,
    /// The loss.
    pub loss: f64,
    /// Its named terms.
    pub parts: Vec<(&'static str, f64)>,
    /// The embeddings of the whole step, detached.
    pub embeddings: Embeddings,
}

/// Loss and gradient of `batch`, with at most `micro` samples in flight (0: all at once).
///
/// # Errors
/// Those of the objective.
pub fn gradients<O: Objective>(
    objective: &O,
    batch: &O::Batch,
    micro: usize,
    pass: &Pass,
) -> Result<Gradients> {
    let trained = objective.params().with_role(Role::Trained);
    let n = batch.samples();
    if micro == 0 || micro >= n {
        let embeddings = objective.embed(batch, pass)?;
        return finish(objective, &embeddings, pass, &trained, 1.0);
    }
    let spans: Vec<(usize, usize)> =
        (0..n).step_by(micro).map(|start| (start, micro.min(n - start))).collect();
    if objective.couples_samples() {
        cached(objective, batch, &spans, pass, &trained)
    } else {
        averaged(objective, batch, &spans, pass, &trained)
    }
}

fn scalar(x: &Tensor) -> Result<f64> {
    Ok(f64::from(
        x.to_dtype(candle_core::DType::F32)?
            .flatten_all()?
            .to_vec1::<f32>()?
            .first()
            .copied()
            .unwrap_or(f32::NAN),
    ))
}

fn finish<O: Objective>(
    objective: &O,
    embeddings: &Embeddings,
    pass: &Pass,
    trained: &[Param],
    share: f64,
) -> Result<Gradients> {
    let loss = objective.criterion(embeddings, pass)?;
    let value = scalar(&loss.value)?;
    let weighted = if share == 1.0 { loss.value.clone() } else { (&loss.value * share)? };
    let (_, grads) = Grads::backward(&weighted, trained)?;
    let parts = loss.parts.iter().map(|(name, t)| Ok((*name, scalar(t)?))).collect::<Result<_>>()?;
    Ok(Gradients { grads, loss: value, parts, embeddings: embeddings.detach() })
}

fn averaged<O: Objective>(
    objective: &O,
    batch: &O::Batch,
    spans: &[(usize, usize)],
    pass: &Pass,
    trained: &[Param],
) -> Result<Gradients> {
    let (mut sum, mut all): (Option<Gradients>, f64) = (None, 0.0);
    let mut embeddings = Vec::new();
    for &(start, len) in spans {
        let batch = batch.narrow(start, len)?;
        let pass = pass.at(pass.offset + start as u64);
        let embedded = objective.embed(&batch, &pass)?;
        // The sum over the parts is divided by the weight of all at the end, since a method may know a part's
        // only when it is embedded.
        let weight = objective.weight(&batch, &embedded)?;
        all += weight;
        let mut part = finish(objective, &embedded, &pass, trained, weight)?;
        embeddings.push(std::mem::take(&mut part.embeddings));
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
    // Without weight (no masked token anywhere) there is nothing to divide.
    let share = if all > 0.0 { 1.0 / all } else { 1.0 };
    sum.grads.scale(share)?;
    sum.loss *= share;
    sum.parts.iter_mut().for_each(|(_, v)| *v *= share);
    sum.embeddings = Embeddings::cat(&embeddings)?;
    Ok(sum)
}

fn cached<O: Objective>(
    objective: &O,
    batch: &O::Batch,
    spans: &[(usize, usize)],
    pass: &Pass,
    trained: &[Param],
) -> Result<Gradients> {
    let mut first = Vec::new();
    for &(start, len) in spans {
        // Statistics of batch norm are handed over by the second pass alone.
        let pass = pass.at(pass.offset + start as u64).silent();
        first.push(objective.embed(&batch.narrow(start, len)?, &pass)?.detach());
    }
    let whole = Embeddings::cat(&first)?;
    let leaves = whole.graph.iter().map(Var::from_tensor).collect::<candle_core::Result<Vec<_>>>()?;
    let tracked = Embeddings {
        graph: leaves.iter().map(|v| v.as_tensor().clone()).collect(),
        fixed: whole.fixed.clone(),
    };
    let loss = objective.criterion(&tracked, pass)?;
    let value = scalar(&loss.value)?;
    // The parameters are those inside the criterion itself, if any.
    let (store, mut grads) = Grads::backward(&loss.value, trained)?;
    for &(start, len) in spans {
        let pass = pass.at(pass.offset + start as u64);
        let part = objective.embed(&batch.narrow(start, len)?, &pass)?;
        let mut surrogate: Option<Tensor> = None;
        for (leaf, embedding) in leaves.iter().zip(&part.graph) {
            let Some(g) = store.get(leaf.as_tensor()) else { continue };
            let term = (embedding * g.narrow(0, start, len)?)?.sum_all()?;
            surrogate = Some(match surrogate {
                None => term,
                Some(sum) => (sum + term)?,
            });
        }
        if let Some(surrogate) = surrogate {
            grads.add(&Grads::backward(&surrogate, trained)?.1)?;
        }
    }
    let parts = loss.parts.iter().map(|(name, t)| Ok((*name, scalar(t)?))).collect::<Result<_>>()?;
    Ok(Gradients { grads, loss: value, parts, embeddings: whole })
}

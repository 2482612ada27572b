//! What the two methods that write text share (GPT, T5): states before each token that is written, its
//! scores, the loss over all of them.

use crate::head::{Predicted, accuracy, hidden_spread, learnt, mean_cross_entropy};
use candle_core::Tensor;
use selfsup_core::Result;
use selfsup_core::objective::{Gauge, Loss, Outputs};

/// The rows of `hidden (N, L, D)` whose labels `(N, L)` count, `(M, D)`, and as what is fixed those labels;
/// `counts` says how many count in each sample. Where all do, nothing is picked.
pub(super) fn states(hidden: &Tensor, labels: &Tensor, counts: &[usize]) -> Result<Outputs> {
    let (n, l, d) = hidden.dims3()?;
    if counts.iter().all(|c| *c == l) {
        return Ok(Outputs { outputs: hidden.reshape((n * l, d))?, targets: labels.flatten_all()? });
    }
    let predicted = Predicted::of(labels)?;
    Ok(Outputs { outputs: predicted.pick(hidden)?, targets: predicted.labels })
}

/// Mean cross entropy of the tokens; `scores` makes `(M, V)` of states `(M, D)`.
pub(super) fn loss(e: &Outputs, scores: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Loss> {
    Ok(mean_cross_entropy(&scores(&e.outputs)?, &e.targets, 0.0)?.into())
}

/// The share of the tokens whose score is the highest, called `name`.
pub(super) fn gauges(
    e: &Outputs,
    scores: impl Fn(&Tensor) -> Result<Tensor>,
    name: &'static str,
) -> Result<Vec<Gauge>> {
    let scores = scores(&e.outputs)?.detach();
    let learnt = learnt(name, accuracy(&scores, &e.targets)?, scores.dim(1)?);
    Ok(vec![learnt, hidden_spread(&e.outputs)?])
}

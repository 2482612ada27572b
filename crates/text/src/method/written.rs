//! What the two methods that write text share (GPT, T5): states before each token that is written, its
//! scores, the loss over all of them.

use crate::head::{Predicted, accuracy, mean_cross_entropy};
use candle_core::Tensor;
use selfsup_core::Result;
use selfsup_core::objective::{Embeddings, Loss, Vital};

/// The rows of `hidden (N, L, D)` whose labels `(N, L)` count, `(M, D)`, and as what is fixed those labels;
/// `counts` says how many count in each sample. Where all do, nothing is picked.
pub(super) fn states(hidden: &Tensor, labels: &Tensor, counts: &[usize]) -> Result<Embeddings> {
    let (n, l, d) = hidden.dims3()?;
    if counts.iter().all(|c| *c == l) {
        return Ok(Embeddings {
            graph: vec![hidden.reshape((n * l, d))?],
            fixed: vec![labels.flatten_all()?],
        });
    }
    let predicted = Predicted::of(labels)?;
    Ok(Embeddings { graph: vec![predicted.pick(hidden)?], fixed: vec![predicted.labels] })
}

/// Mean cross entropy of the tokens; `scores` makes `(M, V)` of states `(M, D)`.
pub(super) fn loss(e: &Embeddings, scores: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Loss> {
    Ok(mean_cross_entropy(&scores(&e.graph[0])?, &e.fixed[0], 0.0)?.into())
}

/// The share of the tokens whose score is the highest, called `name`.
pub(super) fn vitals(
    e: &Embeddings,
    scores: impl Fn(&Tensor) -> Result<Tensor>,
    name: &'static str,
) -> Result<Vec<Vital>> {
    let scores = scores(&e.graph[0])?.detach();
    Ok(vec![Vital { name, value: accuracy(&scores, &e.fixed[0])?, healthy_above: None }])
}

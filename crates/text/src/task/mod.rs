//! Supervised heads on a text encoder, one file each: what pre-training is for. They are objectives like the
//! methods, so the same loop trains them.

mod answer;
mod sequence;
mod tokens;

pub use answer::{AnswerConfig, AnswerFinder};
pub use sequence::{SequenceClassifier, SequenceConfig};
pub use tokens::{TokenClassifier, TokenConfig, align_labels};

use crate::encoder::{Bert, BertConfig, drop_out};
use candle_core::Tensor;
use selfsup_core::{Error, Params, Pass, Result, Role, Scope};
use serde::{Deserialize, Serialize};

/// Which parameters of the encoder a task changes; the head always learns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tune {
    /// All.
    #[default]
    All,
    /// None: a probe.
    Head,
    /// The last blocks, this many of them.
    Last(usize),
}

/// The encoder at `encoder` of `scope`, with the parameters that `tune` leaves out frozen.
fn encoder(scope: &Scope, config: &BertConfig, tune: Tune) -> Result<Bert> {
    let s = scope.sub("encoder");
    let bert = Bert::new(&s, config.clone())?;
    let keep = match tune {
        Tune::All => return Ok(bert),
        Tune::Head => 0,
        Tune::Last(k) => k,
    };
    if keep > config.depth {
        return Err(Error::config(format!("the last {keep} blocks of an encoder that has {}", config.depth)));
    }
    let params: &Params = scope.params();
    let freeze = |name: &str| params.set_role(&format!("{}.{name}", s.path()), Role::Trained, Role::Frozen);
    freeze("embeddings");
    freeze("project");
    (0..config.depth - keep).for_each(|i| freeze(&format!("blocks.{i}")));
    Ok(bert)
}

/// Dropout before a classifier, as in transformers.
fn before_head(x: Tensor, p: f32, pass: &Pass) -> Result<Tensor> {
    drop_out(x, p, "classifier", pass)
}

fn check(classes: usize, dropout: f32, smoothing: f64) -> Result<()> {
    if classes == 0 || !(0.0..1.0).contains(&dropout) || !(0.0..1.0).contains(&smoothing) {
        return Err(Error::config(format!(
            "task: {classes} classes, dropout {dropout} and label_smoothing {smoothing}, expected at least one class and shares in [0, 1)"
        )));
    }
    Ok(())
}

//! Self-supervised methods on text, one file each.

mod causal_lm;
mod electra;
mod masked_lm;
mod simcse;
mod span_corruption;
mod written;

pub use causal_lm::{CausalLm, CausalLmConfig, NextToken};
pub use electra::{Electra, ElectraConfig, detection_loss};
pub use masked_lm::{MaskedLm, MaskedLmConfig};
pub use simcse::{SimCse, SimCseConfig, sim_cse};
pub use span_corruption::{SpanCorruption, SpanCorruptionConfig, Spans};

use crate::encoder::{BertConfig, Pool};

/// The encoder without a pooler, for methods that would not train one.
fn unpooled(c: BertConfig) -> BertConfig {
    BertConfig { pool: if c.pool == Pool::Pooler { Pool::Mean } else { c.pool }, ..c }
}

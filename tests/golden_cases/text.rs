//! Text models and tokenizers.

use super::case::{Case, Handler};
use super::{text_bert, text_lm};

/// Who runs a case, if anyone.
pub fn handler(case: &Case) -> Option<Handler> {
    text_bert::handler(case).or_else(|| text_lm::handler(case))
}

//! The folder of a fine-tuned run: encoder and head under the names that transformers has for them.

use super::Text;
use crate::modality::Modality;
use crate::task::TaskKeys;
use candle_core::Device;
use selfsup_core::{Init, Params, Result, Scope, weights};
use selfsup_text::encoder::{Family, Pool};
use selfsup_text::export::export_task;
use selfsup_text::names::Head;
use selfsup_text::recipe::Architecture;
use std::path::Path;

impl Text {
    /// Whether classes are predicted by the head that transformers has for the family. With `encoder.pool`
    /// the features are pooled otherwise, and the head is a linear layer on them that transformers has no
    /// class for.
    pub(super) fn with_family_head(&self) -> bool {
        matches!(self.architecture, Architecture::Bert(_))
            && matches!(self.keys.encoder.pool(), None | Some(Pool::Pooler))
    }
}

/// Writes what was fine-tuned; without a class for it in transformers the encoder alone.
pub(super) fn export(text: &Text, params: &Params, task: &TaskKeys, out: &Path) -> Result<()> {
    let Architecture::Bert(bert) = &text.architecture else {
        return text.export(params, out, "hf");
    };
    let own = bert.family != Family::Bert;
    let (head, classes) = match task.kind.as_str() {
        "token-classification" => (Head::Tokens, task.classes.as_slice()),
        "question-answering" => (Head::Answer, &[][..]),
        _ if text.with_family_head() => (Head::Sequence, task.classes.as_slice()),
        _ => (Head::None, &[][..]),
    };
    let renamed = |name: &str| -> Option<String> {
        let sequence = head == Head::Sequence;
        if let Some(part) = name.strip_prefix("encoder.head.") {
            return sequence.then(|| format!("classifier.dense.{part}"));
        }
        if let Some(part) = name.strip_prefix("head.") {
            return sequence.then(|| format!("classifier.{}{part}", if own { "out_proj." } else { "" }));
        }
        (head != Head::None || name.starts_with("encoder.")).then(|| name.to_string())
    };
    let alone = Params::new();
    let scope = Scope::root(&alone, 0, &Device::Cpu);
    for (name, tensor) in weights::export(params, "") {
        if let Some(name) = renamed(&name) {
            scope.get(&name, tensor.shape(), Init::Const(0.0))?;
            alone.set(&name, &tensor)?;
        }
    }
    export_task(out, bert, head, &alone, classes, Some(&text.tokenizer))
}

//! What encoders of texts are fine-tuned for.

use super::Text;
use super::answers::Answering;
use super::tokens::Tagging;
use super::tuned;
use crate::task::classification::Classification;
use crate::task::{TaskKeys, Tasks, WithTask, unknown_task};
use selfsup_core::{Encoder, Params, Result, Scope};
use selfsup_text::encoder::PooledBert;
use selfsup_text::recipe::Architecture;
use std::path::Path;

impl Tasks for Text {
    const TASKS: &'static [&'static str] = &["classification", "token-classification", "question-answering"];
    const HEAD: &'static [&'static str] = &PooledBert::HEAD;

    fn with_task<W: WithTask<Self>>(kind: &str, work: W) -> Result<W::Out> {
        match kind {
            "classification" => work.run::<Classification>(),
            "token-classification" => work.run::<Tagging>(),
            "question-answering" => work.run::<Answering>(),
            other => Err(unknown_task::<Self>(other)),
        }
    }

    /// With the pooling of the family's classifier, unless `encoder.pool` asks for another.
    fn tuned_encoder(&self, scope: &Scope) -> Result<Box<dyn Encoder>> {
        match &self.architecture {
            Architecture::Bert(c) if self.with_family_head() => Ok(Box::new(PooledBert::new(scope, c)?)),
            other => other.build(scope),
        }
    }

    fn export_tuned(&self, params: &Params, task: &TaskKeys, out: &Path) -> Result<()> {
        tuned::export(self, params, task, out)
    }
}

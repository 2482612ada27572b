//! What encoders of signals are fine-tuned for.

use super::Signals;
use crate::task::classification::Classification;
use crate::task::{Tasks, WithTask, unknown_task};
use selfsup_core::Result;

impl Tasks for Signals {
    const TASKS: &'static [&'static str] = &["classification"];

    fn with_task<W: WithTask<Self>>(kind: &str, work: W) -> Result<W::Out> {
        match kind {
            "classification" => work.run::<Classification>(),
            other => Err(unknown_task::<Self>(other)),
        }
    }
}

//! What encoders of images are fine-tuned for.

use super::Vision;
use super::detection::Detection;
use super::segmentation::Segmentation;
use crate::task::classification::Classification;
use crate::task::{Tasks, WithTask, unknown_task};
use selfsup_core::Result;

impl Tasks for Vision {
    const TASKS: &'static [&'static str] = &["classification", "segmentation", "detection"];

    fn with_task<W: WithTask<Self>>(kind: &str, work: W) -> Result<W::Out> {
        match kind {
            "classification" => work.run::<Classification>(),
            "segmentation" => work.run::<Segmentation>(),
            "detection" => work.run::<Detection>(),
            other => Err(unknown_task::<Self>(other)),
        }
    }
}

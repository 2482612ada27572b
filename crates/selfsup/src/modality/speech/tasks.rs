//! What encoders of recordings are fine-tuned for.

use super::Speech;
use super::recognition::Recognition;
use super::transcripts::Simplified;
use crate::modality::Modality;
use crate::set::Set;
use crate::task::classification::Classification;
use crate::task::{TaskKeys, Tasks, WithTask, unknown_task};
use selfsup_core::{Encoder, Params, Result, Role, Scope};
use selfsup_speech::encoder::SpeechEncoder;
use selfsup_speech::names::{Head, save_folder};
use std::path::Path;

impl Tasks for Speech {
    const TASKS: &'static [&'static str] = &["classification", "ctc"];

    fn with_task<W: WithTask<Self>>(kind: &str, work: W) -> Result<W::Out> {
        match kind {
            "classification" => work.run::<Classification>(),
            "ctc" => work.run::<Recognition>(),
            other => Err(unknown_task::<Self>(other)),
        }
    }

    fn prepare(&self, set: Set) -> Set {
        Set::new(Simplified::new(set.records().clone(), self.keys.transcript.clone()))
    }

    /// The convolutional front stays as it is (wav2vec 2.0, arXiv 2006.11477, section 4.4).
    fn tuned_encoder(&self, scope: &Scope) -> Result<Box<dyn Encoder>> {
        Ok(Box::new(SpeechEncoder::with_front(scope, self.encoder.clone(), Role::Frozen)?))
    }

    /// With CTC the encoder and the layer over the characters, which `AutoModelForCTC` opens.
    fn export_tuned(&self, params: &Params, task: &TaskKeys, out: &Path) -> Result<()> {
        if task.kind != "ctc" {
            return self.export(params, out, "hf");
        }
        let tokens = task.classes.iter().cloned().enumerate().map(|(id, token)| (token, id)).collect();
        save_folder(out, params, "encoder", &self.encoder, &Head::Ctc(tokens), self.keys.input.normalize)
    }
}

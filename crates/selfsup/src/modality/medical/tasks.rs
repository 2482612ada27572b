//! What encoders of volumes are fine-tuned for.

use super::Medical;
use super::segmentation::Segmentation;
use crate::task::classification::Classification;
use crate::task::{TaskKeys, Tasks, WithTask, unknown_task};
use selfsup_core::checkpoint::{pretty_json, save_safetensors, write_text};
use selfsup_core::{Error, Params, Result, weights};
use std::path::Path;

impl Tasks for Medical {
    const TASKS: &'static [&'static str] = &["classification", "segmentation"];

    fn with_task<W: WithTask<Self>>(kind: &str, work: W) -> Result<W::Out> {
        match kind {
            "classification" => work.run::<Classification>(),
            "segmentation" => work.run::<Segmentation>(),
            other => Err(unknown_task::<Self>(other)),
        }
    }

    fn export_tuned(&self, params: &Params, _task: &TaskKeys, out: &Path) -> Result<()> {
        // Under our own names, which `encoder.pretrained` reads: a method's decoder is not there any more.
        let tensors: Vec<_> = weights::export(params, "encoder")
            .into_iter()
            .map(|(n, t)| (format!("encoder.{n}"), t))
            .collect();
        std::fs::create_dir_all(out).map_err(|e| Error::io(out, e))?;
        save_safetensors(out.join("model.safetensors"), &tensors)?;
        write_text(&out.join("config.json"), &pretty_json(&self.keys)?)
    }
}

//! Checkpoints: everything that a run needs to go on as if it had never stopped.
//!
//! `Params` + optimiser state + progress + a little JSON, in one sealed safetensors file. A file becomes
//! visible only when it is whole, and a damaged one is recognised by its checksum, so the newest whole one
//! can always be found.

pub mod fault;
mod file;
mod lock;
mod parts;
mod store;

pub use file::{pretty_json, save_safetensors, write_atomic, write_text};
pub use lock::FolderLock;
pub use parts::{Part, PartWriter, made_once, read_sealed_json, unique, write_sealed_json};
pub use store::{Latest, Store};

use crate::error::{Error, Result};
use crate::params::Params;
use crate::pass::Progress;
use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Version of the file format; others are refused.
const VERSION: u32 = 1;
const PARAMS: &str = "params/";
const OPTIMIZER: &str = "optim/";
const WATCH: &str = "watch/";

/// The best value of the metric by which checkpoints are chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Name of the metric.
    pub metric: String,
    /// Its value.
    pub value: f64,
    /// The step at which it was reached.
    pub step: u64,
}

/// The parts of a checkpoint besides tensors and progress.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Extra {
    /// The configuration as text.
    pub config: String,
    /// The stage of a training plan (empty where there is one stage).
    pub stage: String,
    /// The best metric so far.
    pub best: Option<Best>,
    /// Position in the data (epoch, batch, counts of skipped samples): the loader's to define.
    pub data: serde_json::Value,
    /// Anything else.
    pub other: serde_json::Map<String, serde_json::Value>,
}

#[derive(Serialize, Deserialize)]
struct Head {
    version: u32,
    progress: Progress,
    extra: Extra,
}

/// The state of a run.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Every tensor of the model by name: trained, frozen, teachers and buffers.
    pub params: Vec<(String, Tensor)>,
    /// State of the optimiser by name (see [`crate::optim::Optimizer::state`]).
    pub optimizer: Vec<(String, Tensor)>,
    /// What the trainer remembers beside them, to judge the health of the run.
    pub watch: Vec<(String, Tensor)>,
    /// How far the run is.
    pub progress: Progress,
    /// The rest.
    pub extra: Extra,
}

impl Checkpoint {
    /// Gathers the state of a run. Tensors are shared, not copied: save before the next step.
    pub fn new(params: &Params, optimizer: Vec<(String, Tensor)>, progress: Progress, extra: Extra) -> Self {
        let params = params.all().into_iter().map(|p| (p.name, p.var.as_tensor().detach())).collect();
        Checkpoint { params, optimizer, watch: Vec::new(), progress, extra }
    }

    /// The same with what the trainer remembers.
    #[must_use]
    pub fn with_watch(self, watch: Vec<(String, Tensor)>) -> Self {
        Checkpoint { watch, ..self }
    }

    /// Writes the checkpoint: aside, synced, renamed. Equal states give equal bytes.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file if it cannot be written (a full disk); what was there before stays.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let head = Head { version: VERSION, progress: self.progress, extra: self.extra.clone() };
        let head = serde_json::to_string(&head).map_err(|e| Error::file(path, e))?;
        let part = |prefix: &'static str, v: &[(String, Tensor)]| {
            v.iter().map(|(name, t)| (format!("{prefix}{name}"), t.clone())).collect::<Vec<_>>()
        };
        let mut tensors = part(PARAMS, &self.params);
        tensors.extend(part(OPTIMIZER, &self.optimizer));
        tensors.extend(part(WATCH, &self.watch));
        file::write_tensors(path, &[("selfsup", head)], &tensors, true)
    }

    /// Reads a checkpoint onto `device`.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read, [`Error::Input`] if it is damaged or not a checkpoint of
    /// this version.
    pub fn load(path: impl AsRef<Path>, device: &Device) -> Result<Self> {
        let path = path.as_ref();
        let contents = file::read_sealed(path, device)?;
        let text = contents.metadata.get("selfsup").and_then(|v| v.as_str()).unwrap_or_default();
        let version =
            serde_json::from_str::<serde_json::Value>(text).ok().and_then(|v| v.get("version")?.as_u64());
        if version != Some(u64::from(VERSION)) {
            let found = version.map_or("none".to_string(), |v| v.to_string());
            return Err(Error::file(path, format!("checkpoint of version {found}, expected {VERSION}")));
        }
        let head: Head = serde_json::from_str(text).map_err(|e| Error::file(path, e))?;
        let (mut params, mut optimizer, mut watch) = (Vec::new(), Vec::new(), Vec::new());
        for (name, t) in contents.tensors {
            if let Some(n) = name.strip_prefix(PARAMS) {
                params.push((n.to_string(), t));
            } else if let Some(n) = name.strip_prefix(OPTIMIZER) {
                optimizer.push((n.to_string(), t));
            } else if let Some(n) = name.strip_prefix(WATCH) {
                watch.push((n.to_string(), t));
            } else {
                return Err(Error::file(
                    path,
                    format!("tensor {name}: expected {PARAMS}..., {OPTIMIZER}... or {WATCH}..."),
                ));
            }
        }
        params.sort_by(|a, b| a.0.cmp(&b.0));
        optimizer.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(Checkpoint { params, optimizer, watch, progress: head.progress, extra: head.extra })
    }

    /// Writes the tensors into `params`, all or none.
    ///
    /// # Errors
    /// If a tensor is missing, unexpected or has another shape: every one of them is listed.
    pub fn restore(&self, params: &Params) -> Result<()> {
        let have: BTreeMap<&str, &Tensor> = self.params.iter().map(|(n, t)| (n.as_str(), t)).collect();
        let want = params.all();
        let mut shapes = Vec::new();
        let mut missing = Vec::new();
        for p in &want {
            match have.get(p.name.as_str()) {
                None => missing.push(p.name.clone()),
                Some(t) if t.dims() != p.var.dims() => {
                    shapes.push(format!("{} is {:?}, expected {:?}", p.name, t.dims(), p.var.dims()));
                }
                Some(_) => {}
            }
        }
        let extra: Vec<String> =
            have.keys().filter(|n| params.get(n).is_none()).map(|n| (*n).to_string()).collect();
        let problems: Vec<String> =
            [("missing", missing), ("unexpected", extra), ("of another shape", shapes)]
                .into_iter()
                .filter(|(_, names)| !names.is_empty())
                .map(|(what, names)| format!("{} {what}: {}", names.len(), names.join(", ")))
                .collect();
        if !problems.is_empty() {
            return Err(Error::input("checkpoint of another model", problems.join("; ")));
        }
        for p in &want {
            if let Some(t) = have.get(p.name.as_str()) {
                params.set(&p.name, t)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::init::Init;
    use crate::params::Role;
    use crate::scope::Scope;

    pub(crate) fn model(seed: u64) -> Params {
        let p = Params::new();
        let s = Scope::root(&p, seed, &Device::Cpu);
        s.sub("fc").get("weight", (4, 3), Init::Normal(1.0)).unwrap();
        s.sub("fc").get("bias", 4, Init::Normal(1.0)).unwrap();
        s.sub("teacher").with_role(Role::Teacher).get("weight", (4, 3), Init::Normal(1.0)).unwrap();
        s.buffer("queue", (5, 2), Init::Normal(1.0)).unwrap();
        p
    }

    pub(crate) fn checkpoint(seed: u64, step: u64) -> Checkpoint {
        let moments = vec![(
            "fc.weight.exp_avg".to_string(),
            Tensor::ones((4, 3), candle_core::DType::F32, &Device::Cpu).unwrap(),
        )];
        let extra = Extra {
            config: "seed = 1\n".into(),
            best: Some(Best { metric: "knn".into(), value: 0.5, step: 3 }),
            data: serde_json::json!({ "epoch": 2, "batch": 17 }),
            ..Extra::default()
        };
        Checkpoint::new(&model(seed), moments, Progress { step, total_steps: 100, epoch: 2 }, extra)
    }

    fn values(p: &Params) -> Vec<(String, Vec<f32>)> {
        p.all().into_iter().map(|p| (p.name, p.var.flatten_all().unwrap().to_vec1().unwrap())).collect()
    }

    #[test]
    fn round_trip() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.safetensors");
        let c = checkpoint(1, 7);
        c.save(&path).unwrap();
        let l = Checkpoint::load(&path, &Device::Cpu).unwrap();
        assert_eq!((l.progress, &l.extra), (c.progress, &c.extra));
        let other = model(2);
        assert_ne!(values(&other), values(&model(1)));
        l.restore(&other).unwrap();
        assert_eq!(values(&other), values(&model(1)));
        assert_eq!(l.optimizer[0].0, "fc.weight.exp_avg");
        let again = dir.path().join("b.safetensors");
        l.save(&again).unwrap();
        assert_eq!(
            std::fs::read(&path).unwrap(),
            std::fs::read(&again).unwrap(),
            "equal states give equal bytes"
        );
    }

    #[test]
    fn another_model_is_refused_and_untouched() {
        let other = Params::new();
        let s = Scope::root(&other, 3, &Device::Cpu);
        s.sub("fc").get("weight", (4, 2), Init::Normal(1.0)).unwrap();
        s.sub("head").get("bias", 2, Init::Normal(1.0)).unwrap();
        s.buffer("queue", (5, 2), Init::Normal(1.0)).unwrap();
        let before = values(&other);
        let e = checkpoint(1, 7).restore(&other).unwrap_err().to_string();
        for part in [
            "checkpoint of another model",
            "1 missing: head.bias",
            "2 unexpected: fc.bias, teacher.weight",
            "fc.weight is [4, 3], expected [4, 2]",
        ] {
            assert!(e.contains(part), "{e}");
        }
        assert_eq!(values(&other), before);
    }
}

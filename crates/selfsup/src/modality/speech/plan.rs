//! HuBERT in its stages: clusters, a training on them, better clusters, another training.

use super::{Speech, WINDOW};
use crate::modality::{Method, PlanRequest, TrainingPlan};
use selfsup_core::cluster::ClusterConfig;
use selfsup_core::data::Loader;
use selfsup_core::run::Display;
use selfsup_core::trainer::{Summary, TrainConfig};
use selfsup_core::{Error, Result};
use selfsup_speech::batch::Waves;
use selfsup_speech::data::Padded;
use selfsup_speech::features::{Extractor, FeatureConfig};
use selfsup_speech::hubert_plan::{HubertPlan, Recordings};
use selfsup_speech::methods::HubertConfig;
use selfsup_speech::recipe::MethodConfig;
use std::sync::Arc;
use std::time::Duration;

/// Frames that k-means sees at most: 50 minutes of MFCCs, 140 MB.
const FRAMES: usize = 300_000;

/// Refuses more clusters than there are frames before anything is trained.
fn check_clusters(method: &HubertConfig, frames: usize) -> Result<()> {
    match method.iterations.iter().position(|i| i.clusters > frames) {
        Some(at) => Err(Error::config(format!(
            "method.iterations[{at}].clusters = {}: expected at most {frames}, the frames of the recordings",
            method.iterations[at].clusters
        ))),
        None => Ok(()),
    }
}

impl TrainingPlan<Waves> for Speech {
    fn stages(&self, train: &TrainConfig, per_epoch: u64) -> String {
        let MethodConfig::Hubert(method) = &self.keys.method else { return "no stages".into() };
        let steps = HubertPlan::steps(method, train, per_epoch);
        let each = method.iterations.iter().zip(&steps);
        let each = each.map(|(i, steps)| format!("{} clusters, {steps} steps", i.clusters));
        format!("{} stages: {}", 2 * steps.len(), each.collect::<Vec<_>>().join("; "))
    }

    fn run(&self, request: &PlanRequest) -> Result<(Method<Waves>, Summary)> {
        let MethodConfig::Hubert(method) = &self.keys.method else {
            return Err(Error::config(format!("method {} has no stages", self.keys.method.name())));
        };
        let measured = self.measured(&self.within(request.set)?, request.loader.max_bad_fraction)?;
        let (prepare, whole) = (Arc::new(self.prepare(true)?), self.prepare(false)?);
        let lengths = measured.lengths(self.keys.input.crop_seconds);
        let source = Loader::by_length(
            Arc::new(measured.clone()),
            prepare,
            Arc::new(Padded),
            request.loader.clone(),
            lengths,
            WINDOW,
        )?;
        let clips = measured.clips();
        let load = |i: usize| {
            whole.whole(clips.get(i).ok_or_else(|| Error::input("recordings", format!("there is no {i}")))?)
        };
        let rate = self.keys.input.audio.rate;
        let known: Option<Vec<f64>> = clips.iter().map(|c| c.seconds).collect();
        if let Some(seconds) = known {
            let samples = seconds.iter().map(|s| (s * f64::from(rate)) as usize);
            check_clusters(method, samples.map(|n| self.encoder.frames(n)).sum())?;
        }
        let mfcc = Extractor::new(&FeatureConfig::default(), rate)?;
        let known = request.known;
        let data = Recordings { count: clips.len(), load: &load, source: &source, mfcc: &mfcc, rate, known };
        let plan = HubertPlan {
            method: method.clone(),
            encoder: self.encoder.clone(),
            train: request.train.clone(),
            optim: request.optim.clone(),
            clustering: ClusterConfig::default(),
            max_frames: FRAMES,
        };
        let display = || Display::new(Duration::from_secs(10));
        let (method, summary) = plan.run(
            &request.run.dir().join("stages"),
            Some(request.run),
            &data,
            request.device,
            &display,
            request.stop,
            &|_| Vec::new(),
        )?;
        Ok((selfsup_core::objective::boxed(method), summary))
    }
}

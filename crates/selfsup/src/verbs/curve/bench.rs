//! The bench of a label curve: computes the cells that are not there yet.

use super::request::Request;
use crate::config::{Keys, PretrainConfig};
use crate::curve::Setting;
use crate::curve::cells::{Cells, Key as CellKey};
use crate::curve::draws::{Amount, Pool};
use crate::curve::jobs::Job;
use crate::curve::probe::{Chosen, Features, Found};
use crate::curve::tune::{Tuning, rates};
use crate::draft::Draft;
use crate::evaluate::encode;
use crate::modality::{Modality, random_encoder};
use crate::set::Set;
use crate::task::{HEAD_RATE, Task, TaskConfig, Tasks};
use crate::verbs::Opened;
use candle_core::Device;
use selfsup_core::checkpoint::Checkpoint;
use selfsup_core::data::LoaderConfig;
use selfsup_core::signal::Stop;
use selfsup_core::{Error, Key, Result};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::time::Instant;

/// The task whose head is a linear classifier of features.
pub(super) const CLASSES: &str = "classification";

/// The configuration of a fine-tuning on top of the run, or of the same network from scratch. Its data are
/// those of the run's configuration.
pub(super) fn task_config<K: Keys>(
    base: &PretrainConfig<K>,
    request: &Request,
    overrides: &[String],
    scratch: bool,
) -> Result<TaskConfig<K>> {
    let draft = Draft::parse("", "command line")?.with(overrides)?;
    let mut config = TaskConfig::<K>::of(&draft, Some(base))?;
    config.keys.beside(&request.run);
    config.task.run = request.run.display().to_string();
    config.task.scratch |= scratch;
    config.data = base.data.clone();
    Ok(config)
}

/// The verb once the task is known.
pub(super) struct Work<'a, M: Modality> {
    pub(super) request: &'a Request,
    pub(super) of_task: Vec<String>,
    pub(super) opened: Opened<M>,
    pub(super) checkpoint: Checkpoint,
    /// A hash of the checkpoint.
    pub(super) weights: String,
}

/// What the cells of a curve are made of.
pub(super) struct Bench<'a, M: Tasks, T: Task<M>> {
    pub(super) work: &'a Work<'a, M>,
    pub(super) tuned: M,
    pub(super) config: TaskConfig<M::Keys>,
    pub(super) train: Set,
    pub(super) test: Set,
    pub(super) pool: Pool,
    pub(super) cells: Cells,
    pub(super) out: PathBuf,
    pub(super) stop: Stop,
    pub(super) device: Device,
    /// What every cell depends on.
    pub(super) common: Value,
    /// Features by setting and seed, as far as they were needed.
    pub(super) features: BTreeMap<(Setting, u64), Features>,
    pub(super) task: PhantomData<T>,
}

impl<M: Tasks, T: Task<M>> Bench<'_, M, T> {
    /// Whether the head is a linear classifier of features, so that probes stand for it.
    pub(super) fn probes(&self) -> bool {
        self.config.task.kind == CLASSES
    }

    /// Seeds of a setting: a probe of given features has nothing random but its folds.
    pub(super) fn seeds(&self, setting: Setting) -> u64 {
        let fixed = setting == Setting::Raw || setting == Setting::Linear && self.probes();
        if fixed { 1 } else { self.work.request.seeds }
    }

    /// What a cell costs beside others of its kind, roughly.
    pub(super) fn weight(&self, job: &Job, amounts: &[Amount]) -> f64 {
        let samples =
            amounts[job.amount].amount / amounts[amounts.len() - 1].amount * self.train.len() as f64;
        if self.trains(job.setting) {
            let train = &self.config.train;
            let per_epoch = (samples / train.batch_size as f64).ceil().max(1.0);
            let steps = (train.epochs as f64 * per_epoch).max(100.0).min(self.work.request.steps as f64);
            if job.seed == 0 { 4.0 * steps } else { steps }
        } else {
            samples
        }
    }

    fn trains(&self, setting: Setting) -> bool {
        !self.probes() || matches!(setting, Setting::Finetune | Setting::Scratch)
    }

    /// The cell of a job, and the seconds that it took where it was not there yet.
    pub(super) fn cell(&mut self, job: &Job, amount: &Amount) -> Result<(Found, Option<f64>)> {
        let drawn = self.pool.draw(amount, job.draw);
        let labelled = self.train.part(drawn.clone())?;
        if self.trains(job.setting) {
            return self.trained(job, amount, &labelled);
        }
        let seed = self.encoder_seed(job);
        let key =
            self.key(job, amount, &labelled, "", json!({ "encoder_seed": seed, "read": self.read() }))?;
        if let Some(found) = self.cells.get(&key) {
            return Ok((found, None));
        }
        self.interrupted()?;
        let started = Instant::now();
        let features = match self.features.remove(&(job.setting, seed)) {
            Some(features) => features,
            None => self.encoded(job.setting, seed)?,
        };
        let (Pool::Classes(labels, classes), Some(test_labels)) = (&self.pool, self.test.labels()) else {
            return Err(Error::input("test data", "a sample has no label"));
        };
        let folds = Key::new(0).named("label curve").fold(job.draw).named("folds");
        let found = features.probe(&drawn, labels, &test_labels, classes.len(), folds)?;
        self.features.insert((job.setting, seed), features);
        Ok((self.cells.put(&key, found)?, Some(started.elapsed().as_secs_f64())))
    }

    fn read(&self) -> Value {
        serde_json::to_value(self.work.opened.config.eval.read).unwrap_or_default()
    }

    fn encoder_seed(&self, job: &Job) -> u64 {
        if job.setting == Setting::Random { self.work.opened.config.train.seed + job.seed } else { 0 }
    }

    /// Features of both sides for a setting that needs no training.
    fn encoded(&self, setting: Setting, seed: u64) -> Result<Features> {
        let Opened { modality, method, config, device, .. } = &self.work.opened;
        let loader = LoaderConfig::in_order(config.eval.batch_size, config.train.workers);
        if setting == Setting::Raw {
            return Ok(Features::new(modality.raw(&self.train, &self.test, &loader)?));
        }
        let random;
        let encoder = if setting == Setting::Random {
            random = random_encoder(modality, seed, device)?;
            random.as_ref()
        } else {
            method.encoder()
        };
        let of = |set: &Set| encode(modality, encoder, set, config.eval.read, &loader, device);
        Ok(Features::new((of(&self.train)?, of(&self.test)?)))
    }

    /// The cell of a training. What is chosen inside the labelled samples is a cell too, for all seeds.
    fn trained(&self, job: &Job, amount: &Amount, labelled: &Set) -> Result<(Found, Option<f64>)> {
        let (request, opened) = (self.work.request, &self.work.opened);
        let scratch = matches!(job.setting, Setting::Scratch | Setting::Random);
        let mut config = task_config(&opened.config, request, &self.work.of_task, scratch)?;
        config.task.classes = self.config.task.classes.clone();
        if matches!(job.setting, Setting::Linear | Setting::Random) {
            config.task.train_blocks = Some(0);
            config.optim.lr = HEAD_RATE;
        }
        if scratch {
            // It is for weights that are to be kept.
            config.optim.layer_decay = None;
            if job.setting == Setting::Scratch {
                config.task.train_blocks = None;
            }
        }
        let tuning = Tuning::<M, T> {
            modality: &self.tuned,
            rates: rates(config.optim.lr, job.setting == Setting::Scratch, &request.rates),
            weights: (!scratch).then_some(&self.work.checkpoint),
            most: request.steps,
            device: &self.device,
            stop: &self.stop,
            out: self.out.clone(),
            config,
            task: PhantomData,
        };
        let c = &tuning.config;
        let how = json!({
            "rates": tuning.rates,
            "steps": tuning.steps(labelled.len()),
            "batch_size": c.train.batch_size,
            "optim": serde_json::to_value(&c.optim).map_err(|e| Error::config(e.to_string()))?,
            "train_blocks": c.task.train_blocks,
            "label_smoothing": c.task.label_smoothing,
            "class_weights": serde_json::to_value(c.task.class_weights).unwrap_or_default(),
            "dropout": c.task.dropout,
            "foreground": c.task.foreground,
        });
        // All seeds have one choice, that of the first.
        let first = opened.config.train.seed;
        let seed = first + job.seed;
        let with = |seed: u64| json!({ "how": how, "seed": seed, "chosen_with_seed": first });
        let key = self.key(job, amount, labelled, "", with(seed))?;
        if let Some(found) = self.cells.get(&key) {
            return Ok((found, None));
        }
        self.interrupted()?;
        let started = Instant::now();
        let shared = Job { seed: 0, ..*job };
        let choice = self.key(&shared, amount, labelled, "choice-", with(first))?;
        let chosen: Chosen = match self.cells.get(&choice) {
            Some(chosen) => chosen,
            None => {
                let classes = match &self.pool {
                    Pool::Classes(_, classes) => classes.len(),
                    _ => 1,
                };
                self.cells.put(&choice, tuning.choose(labelled, classes, first)?)?
            }
        };
        let found = tuning.cell(labelled, &chosen, seed, &self.test)?;
        Ok((self.cells.put(&key, found)?, Some(started.elapsed().as_secs_f64())))
    }

    /// What a cell depends on.
    fn key(&self, job: &Job, amount: &Amount, labelled: &Set, kind: &str, own: Value) -> Result<CellKey> {
        let mut depends_on = self.common.clone();
        depends_on["setting"] = job.setting.name().into();
        depends_on["labelled"] = labelled.description(M::Keys::KIND, true)?.into();
        depends_on["draw"] = job.draw.into();
        depends_on["own"] = own;
        if job.setting.pretrained() {
            depends_on["weights"] = self.work.weights.clone().into();
        }
        let size = amount.size.replace('%', "pc").replace(' ', "-");
        let name = format!("{kind}{}-{size}-d{}-s{}", job.setting.name(), job.draw, job.seed);
        CellKey::new(name, depends_on)
    }

    fn interrupted(&self) -> Result<()> {
        if !self.stop.requested() {
            return Ok(());
        }
        Err(Error::Interrupted { step: 0, checkpoint: self.out.clone() })
    }
}

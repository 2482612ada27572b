//! What a run says of labelled test samples: the linear probe of a pre-training run, the head of a fine-tuned
//! one.

use crate::config::{DataConfig, Keys};
use crate::evaluate::encode;
use crate::grouping::Grouping;
use crate::modality::Modality;
use crate::set::{Labelled, Set, Sets};
use crate::task::classification::{Classification, probabilities};
use crate::task::{Ready, Task, TaskConfig, Tasks, build, restore_best};
use crate::verbs::{open_run, point_at, read};
use selfsup_core::data::LoaderConfig;
use selfsup_core::run::Run;
use selfsup_core::{Error, Params, Result};
use selfsup_eval::linear::LogisticConfig;
use selfsup_eval::metrics::softmax;
use selfsup_eval::{LinearProbe, groups};
use std::collections::BTreeMap;
use std::path::Path;

/// Probabilities of test samples.
pub struct Scored {
    /// Whose they are.
    pub title: String,
    /// `(n, classes)`.
    pub probabilities: Vec<f32>,
    /// The labels of the samples.
    pub labels: Vec<u32>,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// Names of the samples.
    pub names: Vec<String>,
}

impl Scored {
    /// Probabilities of the samples of `set`.
    ///
    /// # Errors
    /// If a name cannot be read or a label is missing.
    pub fn new(title: impl Into<String>, probabilities: Vec<f32>, set: &Set) -> Result<Self> {
        let labels = set.labels().ok_or_else(|| Error::input("test data", "has no labels"))?;
        let names = (0..set.len()).map(|i| set.records().id(i)).collect::<Result<_>>()?;
        Ok(Scored { title: title.into(), probabilities, labels, classes: set.classes().to_vec(), names })
    }

    /// The same for the measures of groups.
    pub fn view(&self) -> groups::Scored<'_> {
        groups::Scored {
            probabilities: &self.probabilities,
            labels: &self.labels,
            classes: self.classes.len(),
        }
    }

    /// The same in the order of the samples of `other`.
    ///
    /// # Errors
    /// If the samples, labels or classes are others: gaps are compared on the same samples.
    pub fn in_order_of(self, other: &Scored) -> Result<Self> {
        if self.classes != other.classes {
            let problem =
                format!("classes {:?}, expected those of {}, {:?}", self.classes, other.title, other.classes);
            return Err(Error::input(&self.title, problem));
        }
        let places: BTreeMap<&str, usize> =
            self.names.iter().enumerate().map(|(i, name)| (name.as_str(), i)).collect();
        let order: Vec<Option<usize>> = other.names.iter().map(|n| places.get(n.as_str()).copied()).collect();
        let absent = order.iter().filter(|i| i.is_none()).count();
        if absent > 0 || self.names.len() != other.names.len() {
            let problem = format!(
                "was tested on other samples than {} ({} against {}, {absent} absent): name the same with \
                 --labels and a column `split`, or with --test",
                other.title,
                self.names.len(),
                other.names.len()
            );
            return Err(Error::input(&self.title, problem));
        }
        let (c, order): (usize, Vec<usize>) = (self.classes.len(), order.into_iter().flatten().collect());
        Ok(Scored {
            probabilities: order
                .iter()
                .flat_map(|i| self.probabilities[i * c..(i + 1) * c].to_vec())
                .collect(),
            labels: order.iter().map(|i| self.labels[*i]).collect(),
            names: other.names.clone(),
            ..self
        })
    }
}

/// The linear probe on all labels of the pre-training run in `dir`, on the data of another run.
///
/// # Errors
/// If the run or a sample cannot be read, or there are no labels.
pub fn of_run<M: Modality>(dir: &Path, data: &DataConfig) -> Result<Scored> {
    let opened = open_run::<M>(dir, &[])?;
    let open = |what: &str| opened.modality.open(what);
    let sets = Sets::open(data, M::Keys::KIND, &open)?.try_map(&|set| opened.modality.usable(set))?;
    let none = || Error::input(&data.path, "no labels to fit and test on");
    let Labelled { train, test } = sets.measurable()?.ok_or_else(none)?;
    let (eval, workers) = (&opened.config.eval, opened.config.train.workers);
    let loader = LoaderConfig::in_order(eval.batch_size, workers);
    let of = |set: &Set| {
        encode(&opened.modality, opened.method.encoder(), set, eval.read, &loader, &opened.device)
    };
    let labels = train.labels().ok_or_else(none)?;
    let config = LogisticConfig { c: eval.c, ..LogisticConfig::default() };
    let probe = LinearProbe::fit(of(&train)?.view(), &labels, train.classes().len(), &config)?;
    let logits = probe.logits(of(&test)?.view())?;
    let classes = test.classes().len();
    Scored::new(dir.display().to_string(), softmax(&logits, classes, 1.0)?, &test)
}

/// Labelled data that a verb was pointed at: to fit on, to test on, a table.
pub type Given<'a> = [Option<&'a str>; 3];

/// The head of the run in `dir`, which was fine-tuned for classification, on its own test samples (or those
/// that `given` names); with their groups by `column`.
///
/// # Errors
/// If the run or a sample cannot be read, it was fine-tuned for something else, or there are no test samples.
pub fn of_tuned<M: Tasks>(dir: &Path, given: Given, column: &str) -> Result<(Scored, Grouping)> {
    let path = dir.join("config.toml");
    let mut config = TaskConfig::<M::Keys>::load(&read(&path)?, &path.display().to_string(), &[], None)?;
    if config.task.kind != "classification" {
        let problem =
            format!("was fine-tuned for {}: groups are compared for classification", config.task.kind);
        return Err(Error::file(dir, problem));
    }
    config.keys.forget_pretrained(dir);
    config.keys.beside(dir);
    point_at(&mut config.data, given[0], given[1], given[2]);
    let device = config.device.open()?;
    let modality = M::new(&config.pretrain())?;
    let params = Params::new();
    let objective = build::<M, Classification>(&modality, &config, &[], &params, &device)?;
    restore_best(&Run::read(dir)?, &params)?;
    let open = |what: &str| modality.open(what);
    let sets = Sets::open(&config.data, M::Keys::KIND, &open)?
        .try_map(&|set| modality.usable(set))?
        .map(|set| modality.prepare(set));
    let (sets, classes) = <Classification as Task<M>>::targets(sets, &config.task)?;
    if classes != config.task.classes {
        let problem = format!("classes {:?}, expected those of the data, {classes:?}", config.task.classes);
        return Err(Error::file(dir, problem));
    }
    let test = sets.test.or(sets.held_out).ok_or_else(|| {
        Error::input(&config.data.path, "nothing is held out to test on: give --test, or a column `split`")
    })?;
    let ready =
        Ready::<M, Classification>::new(&modality, &config.task, &objective, config.train.workers, &device);
    let found = probabilities(&ready, &test)?.concat();
    let grouping = Grouping::of(&test, column, &config.data, M::Keys::KIND, &open)?;
    Ok((Scored::new(dir.display().to_string(), found, &test)?, grouping))
}

//! `selfsup curve`: what labels are worth on top of a run's encoder, and without it.

mod bench;
mod request;

pub use request::Request;

use crate::config::Keys;
use crate::curve::Setting;
use crate::curve::cells::Cells;
use crate::curve::draws::{Amount, Pool, Size};
use crate::curve::jobs::{Job, Left};
use crate::curve::picture::svg;
use crate::curve::probe::Found;
use crate::curve::summary::{Curve, Point, score, shown};
use crate::registry::with_modality;
use crate::say::{say, say_progress, say_text};
use crate::screen;
use crate::set::Sets;
use crate::task::{Task, Tasks, WithTask, unknown_task};
use crate::verbs::{kind_of_run, open_run, point_at};
use bench::{Bench, CLASSES, Work, task_config};
use selfsup_core::checkpoint::{pretty_json, write_text};
use selfsup_core::run::time_text;
use selfsup_core::signal::Stop;
use selfsup_core::{Error, Result, sha256};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;
use std::path::Path;

/// Computes the label curve of a run: the cells that are not there yet, the table, `curve.json` and
/// `curve.svg`.
///
/// # Errors
/// If the run or a sample cannot be read, there are no labels or but one class, or a number of labels that
/// was asked for does not exist.
pub fn run(request: &Request) -> Result<()> {
    with_modality!(kind_of_run(&request.run)?, M => run_as::<M>(request))
}

/// The curve of a run of the modality `M`.
///
/// # Errors
/// As [`run`].
pub fn run_as<M: Tasks>(request: &Request) -> Result<()> {
    for (flag, value) in [("--draws", request.draws), ("--seeds", request.seeds), ("--steps", request.steps)]
    {
        if value == 0 {
            return Err(Error::config(format!("{flag} 0: expected at least 1")));
        }
    }
    if let Some(rate) = request.rates.iter().find(|r| !(r.is_finite() && **r > 0.0)) {
        return Err(Error::config(format!("--rates {rate}: expected numbers above 0")));
    }
    let (of_run, of_task) = divided(&request.overrides);
    let mut opened = open_run::<M>(&request.run, &of_run)?;
    point_at(
        &mut opened.config.data,
        request.data.as_deref(),
        request.test.as_deref(),
        request.labels.as_deref(),
    );
    let kind = task_config(&opened.config, request, &of_task, false)?.task.kind;
    if !M::TASKS.contains(&kind.as_str()) {
        return Err(unknown_task::<M>(&kind));
    }
    let (path, checkpoint) = opened
        .run
        .checkpoints(0)
        .latest()?
        .found
        .ok_or_else(|| Error::file(&request.run, "the run has no checkpoint yet"))?;
    let file = selfsup_core::file::open(&path)?;
    let weights = sha256::of(file).map_err(|e| Error::io(&path, e))?;
    M::with_task(&kind, Work { request, of_task, opened, checkpoint, weights })
}

/// Overrides of the run's configuration, and those of the fine-tuning; `train` and the sections of the
/// modality are read by both.
fn divided(overrides: &[String]) -> (Vec<String>, Vec<String>) {
    let begins = |key: &String, names: &[&str]| names.iter().any(|n| key.trim_start().starts_with(n));
    let of_run = overrides.iter().filter(|k| !begins(k, &["task.", "optim."]));
    let of_task = overrides.iter().filter(|k| !begins(k, &["eval.", "data."]));
    (of_run.cloned().collect(), of_task.cloned().collect())
}

impl<M: Tasks> WithTask<M> for Work<'_, M> {
    type Out = ();

    fn run<T: Task<M>>(self) -> Result<()> {
        let Work { request, opened, .. } = &self;
        let mut config = task_config(&opened.config, request, &self.of_task, false)?;
        T::check(&config)?;
        let tuned = M::new(&config.pretrain())?;
        let sets = Sets::open(&config.data, M::Keys::KIND, &|what| T::open(&tuned, what, true))?
            .try_map(&|set| tuned.usable(set))?
            .map(|set| tuned.prepare(set));
        let (most, workers) = (config.train.max_bad_fraction, config.train.workers);
        let sets = screen::parts(&tuned, sets, most, workers, &|one| T::readable(&tuned, one))?;
        let (sets, classes) = T::targets(sets, &config.task)?;
        let test = sets.test.as_ref().or(sets.held_out.as_ref()).cloned().ok_or_else(|| {
            let why = "nothing is held out to test on: give --test, data.hold_out=0.2, or a column `split`";
            Error::input(&config.data.path, why)
        })?;
        let labels = sets.train.labels().filter(|_| config.task.kind == CLASSES);
        let pool = match (T::seconds(&tuned, &sets.train)?, labels) {
            (Some(seconds), _) => Pool::Seconds(seconds),
            (None, Some(labels)) => {
                let seen = labels.iter().collect::<BTreeSet<_>>().len();
                if seen < 2 {
                    let only = labels.first().and_then(|y| classes.get(*y as usize));
                    let only = only.map_or("none", String::as_str);
                    let why = format!(
                        "all {} samples are of the class `{only}`: expected two classes at least",
                        labels.len()
                    );
                    return Err(Error::input("training data", why));
                }
                Pool::Classes(labels, classes.clone())
            }
            (None, None) => Pool::Samples(sets.train.len()),
        };
        config.task.classes = classes;
        let out = request.out.clone().unwrap_or_else(|| request.run.join("curve"));
        refuse_another(&out, request)?;
        let stop = Stop::install()?;
        stop.clear();
        // What lies in the run's folder is of the run, wherever that is.
        let keys = serde_json::to_string(&config.keys).map_err(|e| Error::config(e.to_string()))?;
        let keys = keys.replace(&request.run.display().to_string(), "RUN");
        let common = json!({
            "version": 1,
            "task": config.task.kind,
            "classes": config.task.classes,
            "train": sets.train.description(M::Keys::KIND, true)?,
            "test": test.description(M::Keys::KIND, true)?,
            "network": keys,
        });
        let (train, device) = (sets.train, opened.device.clone());
        let bench = Bench::<M, T> {
            cells: Cells::open(&out)?,
            work: &self,
            tuned,
            config,
            train,
            test,
            pool,
            out,
            stop,
            device,
            common,
            features: BTreeMap::new(),
            task: PhantomData,
        };
        bench.curve()
    }
}

/// A folder that holds the curve of another run is left alone.
fn refuse_another(out: &Path, request: &Request) -> Result<()> {
    let path = out.join("curve.json");
    if request.out.is_none() || !path.is_file() {
        return Ok(());
    }
    let text = selfsup_core::file::text(&path)?;
    let held: Value = serde_json::from_str(&text).map_err(|e| Error::file(&path, e))?;
    let run = request.run.display().to_string();
    match held["run"].as_str() {
        Some(other) if other != run => Err(Error::file(
            out,
            format!("holds the curve of {other}: choose another folder for that of {run}"),
        )),
        _ => Ok(()),
    }
}

impl<M: Tasks, T: Task<M>> Bench<'_, M, T> {
    fn settings(&self) -> Result<Vec<Setting>> {
        let given = &self.work.request.settings;
        let mut out = Vec::new();
        for name in given {
            let setting = Setting::named(name)?;
            if setting == Setting::Raw && !self.probes() {
                return Err(Error::config(format!(
                    "--settings raw: features without an encoder are for classification, not for {}",
                    self.config.task.kind
                )));
            }
            if !out.contains(&setting) {
                out.push(setting);
            }
        }
        if given.is_empty() {
            out.extend(Setting::ALL.into_iter().filter(|s| *s != Setting::Raw || self.probes()));
        }
        out.sort();
        Ok(out)
    }

    fn sizes(&self) -> (Vec<Size>, bool) {
        let r = self.work.request;
        let given: Vec<Size> = r
            .fractions
            .iter()
            .map(|p| Size::Percent(*p))
            .chain(r.per_class.iter().map(|k| Size::PerClass(*k)))
            .chain(r.minutes.iter().map(|m| Size::Minutes(*m)))
            .collect();
        if given.is_empty() {
            ([1.0, 10.0, 20.0, 100.0].map(Size::Percent).to_vec(), false)
        } else {
            (given, true)
        }
    }

    fn unit(&self) -> &'static str {
        match &self.pool {
            Pool::Classes(..) => "labels",
            Pool::Seconds(_) => "minutes",
            Pool::Samples(_) => M::Keys::KIND.samples(),
        }
    }

    fn curve(mut self) -> Result<()> {
        let request = self.work.request;
        let (settings, (sizes, given)) = (self.settings()?, self.sizes());
        let (amounts, notes) = self.pool.amounts(&sizes, given)?;
        let draws = |amount: &Amount| if amount.whole { 1 } else { request.draws };
        let mut jobs = Vec::new();
        for (i, amount) in amounts.iter().enumerate() {
            for &setting in &settings {
                for draw in 0..draws(amount) {
                    jobs.extend((0..self.seeds(setting)).map(|seed| Job { amount: i, setting, draw, seed }));
                }
            }
        }
        say_progress!(
            "{} cells: {} settings, {} to {} {} of {} samples, tested on {}; folder: {}",
            jobs.len(),
            settings.len(),
            shown(amounts[0].amount),
            shown(amounts[amounts.len() - 1].amount),
            self.unit(),
            self.train.len(),
            self.test.len(),
            self.out.display()
        );
        let mut found: BTreeMap<(usize, Setting), Vec<Vec<Found>>> = BTreeMap::new();
        let mut left = Left::default();
        jobs.iter().for_each(|job| left.plan(job, self.weight(job, &amounts)));
        for (done, job) in jobs.iter().enumerate() {
            let (cell, seconds) = match self.cell(job, &amounts[job.amount]) {
                Err(Error::Interrupted { .. }) => {
                    crate::say::note(format_args!(
                        "{done} of {} cells are kept: the same command goes on with the others",
                        jobs.len()
                    ));
                    return Err(Error::Interrupted { step: done as u64, checkpoint: self.out.clone() });
                }
                other => other?,
            };
            left.done(job, self.weight(job, &amounts), seconds);
            if seconds.is_some() {
                say_progress!(
                    "[{}/{}] {}, {} {}, draw {}, seed {}: {:.1}  ({}{})",
                    done + 1,
                    jobs.len(),
                    job.setting.title(M::RAW),
                    shown(amounts[job.amount].amount),
                    self.unit(),
                    job.draw,
                    job.seed,
                    score(&cell.values, T::SCORE),
                    time_text(seconds.unwrap_or(0.0)),
                    left.text()
                );
            }
            let rows = found.entry((job.amount, job.setting)).or_default();
            if job.seed == 0 {
                rows.push(Vec::new());
            }
            if let Some(row) = rows.last_mut() {
                row.push(cell);
            }
        }
        let seconds = found.values().flatten().flatten().map(|cell| cell.seconds).sum();
        let points =
            found.iter().map(|((i, s), cells)| Point::of(*s, &amounts[*i], T::SCORE, cells)).collect();
        let mut curve = Curve {
            version: 1,
            run: request.run.display().to_string(),
            step: self.work.opened.step,
            task: self.config.task.kind.clone(),
            metric: T::SCORE.into(),
            unit: self.unit().into(),
            raw: M::RAW.into(),
            classes: self.config.task.classes.clone(),
            train: self.train.len(),
            test: self.test.len(),
            draws: request.draws,
            seeds: request.seeds,
            nested: true,
            settings,
            amounts,
            points,
            saved: Vec::new(),
            notes,
            seconds,
        };
        curve.compare();
        write_text(&self.out.join("curve.json"), &pretty_json(&curve)?)?;
        write_text(&self.out.join("curve.svg"), &svg(&curve)?)?;
        say_text!("{}", curve.table());
        say!("written: {} and curve.svg beside it", self.out.join("curve.json").display());
        crate::say::result(&serde_json::to_value(&curve).map_err(|e| Error::Other(e.to_string()))?);
        Ok(())
    }
}

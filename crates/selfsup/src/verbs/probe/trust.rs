//! Whom a probe can be trusted with: groups of samples, and samples from elsewhere.

use super::request::Request;
use crate::config::Keys;
use crate::evaluate::{Probe, SETS, Sides, encode};
use crate::grouping::{self, Grouping};
use crate::modality::Modality;
use crate::set::{Labelled, Set, Unlabelled as Plain};
use crate::uncertainty::{Calibration, Elsewhere, Labels, detect, left_out, temperature};
use crate::verbs::scored::{Given, Scored, of_run};
use crate::verbs::{Opened, is_task, read};
use selfsup_core::data::LoaderConfig;
use selfsup_core::{Error, Result};
use selfsup_datasets::{Concat, Records};
use selfsup_eval::groups::{GroupConfig, GroupReport, Narrowed, by_group, narrowed};
use selfsup_eval::metrics::softmax;
use selfsup_eval::protocol::Named;
use serde::Serialize;
use std::path::Path;

/// How a fine-tuned run is scored, where the modality has tasks.
pub(super) type Tuned = fn(&Path, Given, &str) -> Result<(Scored, Grouping)>;

/// Whether the folder holds a fine-tuned run.
pub(super) fn is_tuned(dir: &Path) -> Result<bool> {
    Ok(is_task(&read(&dir.join("config.toml"))?))
}

/// Calibration of the linear probe of each set of features, from the logits of the test samples.
pub(super) fn calibrated(
    data: &Labelled,
    sides: &Sides,
    logits: &Named<Vec<f32>>,
    c: f64,
) -> Result<Named<Calibration>> {
    let (train_labels, test_labels, classes) = data.labels()?;
    let mut out = Named::default();
    for ((name, logits), train) in logits.0.iter().zip(&sides.train) {
        let t = temperature(train.view(), &train_labels, classes, c)?;
        out.0.push((name.clone(), Calibration::of(logits, &test_labels, classes, t)?));
    }
    Ok(out)
}

/// What the linear probe of each set of features says of the groups.
pub(super) fn of_probes(
    groups: &Grouping,
    logits: &Named<Vec<f32>>,
    test: &Set,
    against: Option<Scored>,
) -> Result<Groups> {
    let classes = test.classes().len();
    let scored = SETS.iter().map(|name| {
        let logits = logits.get(name).map(Vec::as_slice).unwrap_or_default();
        Scored::new(*name, softmax(logits, classes, 1.0)?, test)
    });
    measured_groups(groups, scored.collect::<Result<Vec<_>>>()?, against)
}

/// Groups by who scored, and how their gaps compare.
#[derive(Serialize)]
pub(super) struct Groups {
    column: String,
    /// The class that rates are of, where there are two.
    #[serde(skip_serializing_if = "Option::is_none")]
    positive: Option<String>,
    by: Named<GroupReport>,
    /// Gaps of the first against those of the others.
    against: Named<Vec<Narrowed>>,
}

impl Groups {
    pub(super) fn shown(&self, raw: &str) -> String {
        let title = |name: &str| if name == "raw" { raw.to_string() } else { name.to_string() };
        let mut out = String::new();
        if let Some(positive) = &self.positive {
            out.push_str(&format!("rates are those of `{positive}`; "));
        }
        out.push_str(&format!("groups by `{}`, in %\n", self.column));
        for (name, report) in &self.by.0 {
            out.push_str(&grouping::table(&title(name), report));
        }
        let first = self.by.0.first().map_or("", |(name, _)| name);
        for (name, found) in &self.against.0 {
            out.push_str(&grouping::compared(&title(first), &title(name), found));
        }
        out
    }
}

/// Measures the groups by each of `scored`, and compares the first with the others and with `against`.
fn measured_groups(groups: &Grouping, scored: Vec<Scored>, against: Option<Scored>) -> Result<Groups> {
    let config = GroupConfig::default();
    let (names, of) = (&groups.names, &groups.of);
    let mut out = Groups {
        column: groups.column.clone(),
        positive: scored.first().filter(|s| s.classes.len() == 2).map(|s| s.classes[1].clone()),
        by: Named::default(),
        against: Named::default(),
    };
    let mut all = scored;
    if let (Some(other), Some(first)) = (against, all.first()) {
        let other = other.in_order_of(first)?;
        all.push(other);
    }
    for one in &all {
        out.by.0.push((one.title.clone(), by_group(&one.view(), of, names, &config)?));
    }
    if let Some((first, others)) = all.split_first() {
        for other in others {
            let found = narrowed(&first.view(), &other.view(), of, names, &config)?;
            out.against.0.push((other.title.clone(), found));
        }
    }
    Ok(out)
}

/// The groups of the test samples, where they are asked for.
pub(super) fn grouped<M: Modality>(
    request: &Request,
    opened: &Opened<M>,
    labelled: &Labelled,
) -> Result<Option<Grouping>> {
    let Some(column) = &request.groups else { return Ok(None) };
    let (data, open) = (&opened.config.data, &|what: &str| opened.modality.open(what));
    Grouping::of(&labelled.test, column, data, M::Keys::KIND, open).map(Some)
}

/// The other run of a comparison, on the samples of this one: by a probe, or by the head of a fine-tuned run.
pub(super) fn against<M: Modality>(
    request: &Request,
    opened: &Opened<M>,
    tuned: Option<Tuned>,
) -> Result<Option<Scored>> {
    let (Some(other), Some(column)) = (&request.against, &request.groups) else { return Ok(None) };
    match tuned {
        Some(scored) if is_tuned(other)? => Ok(Some(scored(other, request.given(), column)?.0)),
        _ => of_run::<M>(other, &opened.config.data).map(Some),
    }
}

/// Groups by the head of a fine-tuned run.
pub(super) fn of_head(request: &Request, column: &str, tuned: Tuned) -> Result<Groups> {
    let (own, groups) = tuned(&request.run, request.given(), column)?;
    let against = match &request.against {
        Some(other) if is_tuned(other)? => Some(tuned(other, request.given(), column)?.0),
        Some(other) => {
            let problem = "is a pre-training run: a fine-tuned run is compared with another fine-tuned run";
            return Err(Error::file(other, problem));
        }
        None => None,
    };
    measured_groups(&groups, vec![own], against)
}

/// The data from elsewhere, by name.
pub(super) fn others<M: Modality>(request: &Request, modality: &M) -> Result<Vec<(String, Set)>> {
    let open = |what: &String| -> Result<(String, Set)> {
        let set = modality.usable(modality.open(what)?)?;
        Ok((what.clone(), set.ok_or_else(|| Error::input(what, "no sample can be used"))?))
    };
    request.ood.iter().map(open).collect()
}

/// How well the features tell test samples from those from elsewhere.
pub(super) fn elsewhere<M: Modality>(
    probe: &Probe<M>,
    (train, test): (&Set, &Set),
    sides: &Sides,
    labels: Labels<'_>,
    others: &[(String, Set)],
) -> Result<Vec<Elsewhere>> {
    let loader = LoaderConfig::in_order(probe.eval.batch_size, probe.workers);
    let mut out = Vec::new();
    for (name, other) in others {
        let mut found = Named::default();
        for (i, encoder) in [probe.trained, probe.random].into_iter().enumerate() {
            let outside = encode(probe.modality, encoder, other, probe.eval.read, &loader, probe.device)?;
            let (fit, inside) = (sides.train[i].view(), sides.test[i].view());
            found.0.push((SETS[i].to_string(), detect(fit, labels, inside, outside.view())?));
        }
        // Both kinds at once: what features without an encoder are may follow from all samples that are seen.
        let both: Vec<Box<dyn Records>> = vec![Box::new(Plain(test.clone())), Box::new(Plain(other.clone()))];
        let (fit, all) = probe.modality.raw(train, &Set::new(Concat::new(both)?), &loader)?;
        let inside = all.view().select(&(0..test.len()).collect::<Vec<_>>())?;
        let outside = all.view().select(&(test.len()..all.n()).collect::<Vec<_>>())?;
        found.0.push((SETS[2].to_string(), detect(fit.view(), labels, inside.view(), outside.view())?));
        out.push(Elsewhere { data: name.clone(), samples: other.len(), found });
    }
    Ok(out)
}

/// The nearest kind of samples from elsewhere: classes that were left out of the fit.
pub(super) fn near(sides: &Sides, labels: (&[u32], &[u32]), classes: usize) -> Result<Option<Elsewhere>> {
    let mut found = Named::default();
    for ((name, train), test) in SETS.iter().zip(&sides.train).zip(&sides.test) {
        if let Some(one) = left_out((train.view(), labels.0), (test.view(), labels.1), classes)? {
            found.0.push(((*name).to_string(), one));
        }
    }
    let data = "a class of the same data, left out of the fit".to_string();
    Ok((!found.0.is_empty()).then_some(Elsewhere { data, samples: labels.1.len(), found }))
}

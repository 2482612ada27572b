//! `selfsup data`.

use crate::config::PretrainConfig;
use crate::draft::{Draft, folder_of_table};
use crate::modality::Modality;
use crate::registry::with_modality;
use crate::say::{hushed, say, say_text};
use crate::screen::unreadable;
use crate::set::{Set, Sets};
use selfsup_core::data::LoaderConfig;
use selfsup_core::{Error, Result};
use selfsup_datasets::Kind;
use selfsup_datasets::registry::CARDS;
use serde_json::json;
use std::collections::BTreeSet;
use std::path::Path;

/// Prints the data sets that have a name.
///
/// # Errors
/// Never.
pub fn list() -> Result<()> {
    let cards = CARDS.iter().map(|c| {
        json!({
            "name": c.name, "modality": c.kind, "about": c.about, "licence": c.licence, "size": c.size,
            "source": c.source,
        })
    });
    crate::say::result(&json!({ "data": cards.collect::<Vec<_>>() }));
    for card in CARDS {
        say!(
            "{:<24}{}: {}\n{:24}licence: {}; source: {}",
            card.name,
            card.kind,
            card.about,
            "",
            card.licence,
            card.source
        );
    }
    say!(
        "\nFolders of images, texts, recordings, medical images and signals, idx and CIFAR files, tar shards and Parquet files are given by path."
    );
    Ok(())
}

/// Fetches a data set into the cache.
///
/// # Errors
/// If there is no data set of that name, or it cannot be fetched.
pub fn fetch(name: &str) -> Result<()> {
    let Some(card) = CARDS.iter().find(|c| c.name == name) else {
        let known = CARDS.iter().map(|c| c.name).collect::<Vec<_>>().join(", ");
        return Err(Error::input(name, format!("no data set of that name (known: {known})")));
    };
    let records = selfsup_datasets::open(name)?;
    say!("{name}: {} records, {}", records.len(), card.source);
    crate::say::result(&json!({ "name": name, "records": records.len(), "source": card.source }));
    Ok(())
}

/// Looks through a data set: counts, classes, groups, and the samples that cannot be read. Images are
/// decoded, each one. `given` are keys of a configuration, `KEY=VALUE`: how the samples are read.
///
/// # Errors
/// If nothing can be opened; with unreadable samples after all have been looked at.
pub fn inspect(what: &str, given: &[String]) -> Result<()> {
    let draft = Draft::read(given, &[], None)?;
    let folder = folder_of_table(what, &draft.columns());
    let place = folder.as_ref().map_or_else(|| what.to_string(), |folder| folder.display().to_string());
    let kind = match draft.stated_kind()? {
        Some(kind) => kind,
        None => selfsup_datasets::kind_of(&place)?,
    };
    with_modality!(kind, M => look::<M>(kind, what, folder.as_deref(), given))
}

/// Looks through `what`, a table of files where their `folder` is named.
fn look<M: Modality>(kind: Kind, what: &str, folder: Option<&Path>, given: &[String]) -> Result<()> {
    let named = |key: &str, value: &str| format!("{key}={}", toml::Value::String(value.into()));
    let mut keys = match folder {
        Some(folder) => vec![named("data.path", &folder.display().to_string()), named("data.labels", what)],
        None => vec![named("data.path", what)],
    };
    keys.push("data.hold_out=0".into());
    if kind == Kind::Text {
        // The cheapest vocabulary: only that the texts can be read is asked.
        keys.push("tokenizer.kind=characters".into());
    }
    keys.extend_from_slice(given);
    let config = PretrainConfig::load("", "defaults", &keys)?;
    let modality = M::new(&config)?;
    let open = |what: &str| modality.open(what);
    let set = Sets::whole(&config.data, kind, &open)?;
    say!("modality: {kind}");
    // Formats and sizes by the first bytes of each.
    let mut found = (kind == Kind::Vision).then(|| selfsup_datasets::inspect(set.records()));
    let bad = unreadable(&modality, &set, LoaderConfig::default().workers)?;
    match &mut found {
        Some(found) => {
            // What decoding says: the first bytes tell less.
            (found.bad, found.problems) =
                (bad.len(), bad.iter().map(|(_, problem)| problem.clone()).collect());
            say_text!("{found}");
        }
        None => summary(kind, &set),
    }
    for line in modality.about(&set)? {
        say!("{line}");
    }
    say!("unreadable: {}", bad.len());
    if found.is_none() {
        bad.iter().for_each(|(_, problem)| say!("problem: {problem}"));
    }
    let problems: Vec<&String> = bad.iter().map(|(_, problem)| problem).collect();
    crate::say::result(&json!({
        "data": what, "modality": kind, "samples": set.len(), "classes": set.classes(), "problems": problems,
    }));
    if !config.data.labels.is_empty() || !config.data.test.is_empty() || set.has_splits() {
        // A group in two parts is an error here as in a training.
        let parts = hushed(|| Sets::open(&config.data, kind, &open))?;
        let of = |set: &Option<Set>| set.as_ref().map_or(0, Set::len);
        say!(
            "parts: {} to train on, {} for validation, {} to test on",
            parts.train.len(),
            of(&parts.held_out),
            of(&parts.test)
        );
    }
    match bad.len() {
        0 => Ok(()),
        bad => Err(Error::input(what, format!("{bad} of {} {} cannot be read", set.len(), kind.samples()))),
    }
}

/// Counts of samples, groups and classes.
fn summary(kind: Kind, set: &Set) {
    say!("{}: {}", kind.samples(), set.len());
    let groups: BTreeSet<String> = (0..set.len()).filter_map(|i| set.records().group(i)).collect();
    if !groups.is_empty() {
        say!("groups: {}", groups.len());
    }
    let mut counts = vec![0usize; set.classes().len()];
    for label in (0..set.len()).filter_map(|i| set.records().label(i)) {
        if let Some(count) = counts.get_mut(label as usize) {
            *count += 1;
        }
    }
    for (class, count) in set.classes().iter().zip(&counts) {
        say!("class {class}: {count}");
    }
}

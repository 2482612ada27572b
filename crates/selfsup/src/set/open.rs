//! Opening what `[data]` names: the samples, what a table says about them, and their parts.

use super::{Set, Sets};
use crate::config::DataConfig;
use selfsup_core::{Error, Result};
use selfsup_datasets::labels::{Labelled, is_table};
use selfsup_datasets::{Kind, LabelFile, Records, Split, check_leak};
use std::collections::BTreeSet;
use std::path::Path;

impl Sets {
    /// Opens what `[data]` names; `open` turns a name or a path into the records of the modality. How tables
    /// and folders were understood is said on the standard error.
    ///
    /// # Errors
    /// If something cannot be read, a table names other records, or a group stands in two parts.
    pub fn open(data: &DataConfig, kind: Kind, open: &dyn Fn(&str) -> Result<Set>) -> Result<Self> {
        let (all, test) = if data.labels.is_empty() {
            let all = open(&data.path)?;
            say(&all);
            (all, if data.test.is_empty() { None } else { Some(open(&data.test)?) })
        } else {
            with_table(data, kind, open)?
        };
        let sets = if all.has_splits() {
            divided(data, &all, test)?
        } else {
            let (train, held_out) = all.limit(data.limit)?.hold_out_and_say(data.hold_out, 0)?;
            Sets { train, held_out, test }
        };
        sets.guard(!data.labels.is_empty())?;
        Ok(sets)
    }

    /// All that `[data]` names but for data to test on by themselves, undivided, with what a table says of
    /// it.
    ///
    /// # Errors
    /// If something cannot be read, or a table names other records.
    pub fn whole(data: &DataConfig, kind: Kind, open: &dyn Fn(&str) -> Result<Set>) -> Result<Set> {
        if !data.labels.is_empty() {
            let data = DataConfig { test: String::new(), ..data.clone() };
            return Ok(with_table(&data, kind, open)?.0);
        }
        let all = open(&data.path)?;
        say(&all);
        Ok(all)
    }

    /// Refuses parts that share a group. Samples are compared by name only where a table divides them:
    /// elsewhere a name can cost the reading of its sample.
    fn guard(&self, table: bool) -> Result<()> {
        let grouped = |set: &Set| (0..set.len()).any(|i| set.records().group(i).is_some());
        let check = |a: Option<&Set>, b: Option<&Set>, names| match (a, b) {
            (Some(a), Some(b)) if table || grouped(a) && grouped(b) => {
                check_leak(a.records(), b.records(), names)
            }
            _ => Ok(()),
        };
        check(Some(&self.train), self.test.as_ref(), ("training", "test"))?;
        check(Some(&self.train), self.held_out.as_ref(), ("training", "validation"))?;
        check(self.held_out.as_ref(), self.test.as_ref(), ("validation", "test"))
    }
}

fn say(set: &Set) {
    set.records().notes().iter().for_each(crate::say::note);
}

/// The records of a table, and those to test on: named by a second table, or data by itself.
fn with_table(
    data: &DataConfig,
    kind: Kind,
    open: &dyn Fn(&str) -> Result<Set>,
) -> Result<(Set, Option<Set>)> {
    let table = LabelFile::read_with(Path::new(&data.labels), &data.columns)?;
    let second = !data.test.is_empty() && is_table(Path::new(&data.test)) && kind != Kind::Speech;
    if kind == Kind::Text && table.holds_texts() {
        let classes = table.classes();
        let all = Set::new(table.texts()?);
        say(&all);
        let test = match (data.test.is_empty(), second) {
            (true, _) => None,
            (_, false) => Some(open(&data.test)?),
            (_, true) => {
                let test = LabelFile::read_with(Path::new(&data.test), &data.columns)?;
                let test = if classes.is_empty() { test } else { test.among(&classes)? };
                Some(Set::new(test.texts()?))
            }
        };
        return Ok((all, test));
    }
    let records = open(&data.path)?.records().clone();
    let root = Path::new(&data.path);
    let classes = table.classes();
    let labelled = table.apply(records.clone(), root)?;
    if !second {
        let all = Set::new(labelled);
        say(&all);
        let test = if data.test.is_empty() { None } else { Some(open(&data.test)?) };
        return Ok((all, test));
    }
    let test = LabelFile::read_with(Path::new(&data.test), &data.columns)?;
    let test = if classes.is_empty() { test } else { test.among(&classes)? };
    let test = test.apply(records, root)?;
    let tested = named(&test);
    // What only the second table names is not trained on; what both name is a leak.
    let train = (0..labelled.len()).filter(|i| labelled.is_named(*i) || !tested.contains(i)).collect();
    let all = Set::new(labelled);
    say(&all);
    Ok((all.part(train)?, Some(Set::new(test).part(tested.into_iter().collect())?)))
}

fn named(labelled: &Labelled) -> BTreeSet<usize> {
    (0..labelled.len()).filter(|&i| labelled.is_named(i)).collect()
}

/// The parts of a set that folders or a table divide.
fn divided(data: &DataConfig, all: &Set, test: Option<Set>) -> Result<Sets> {
    let splits: Vec<Option<Split>> = (0..all.len()).map(|i| all.records().split(i)).collect();
    let of = |wanted: &[Option<Split>]| -> Result<Option<Set>> {
        let indices: Vec<usize> = (0..splits.len()).filter(|&i| wanted.contains(&splits[i])).collect();
        if indices.is_empty() { Ok(None) } else { Ok(Some(all.part(indices)?)) }
    };
    let train = of(&[Some(Split::Train), None])?.ok_or_else(|| {
        let what = if data.labels.is_empty() { &data.path } else { &data.labels };
        Error::file(what, "nothing is of split train: nothing is left to train on")
    })?;
    let test = match test {
        Some(test) => Some(test),
        None => of(&[Some(Split::Test)])?,
    };
    Ok(Sets { train: train.limit(data.limit)?, held_out: of(&[Some(Split::Validation)])?, test })
}

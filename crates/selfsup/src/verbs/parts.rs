//! Which samples of a run are shown: on a map, in pictures.

use crate::config::Keys;
use crate::modality::Modality;
use crate::set::{Labelled, Set, Sets};
use crate::verbs::Opened;
use selfsup_core::{Error, Result};

/// Training samples whose labels vote.
const VOTERS: usize = 10_000;

/// What there is to show of a run's data.
pub(crate) struct Parts {
    /// The samples to show.
    pub shown: Set,
    /// Labelled samples of the training part.
    pub voters: Option<Set>,
    /// Which part of the data is shown.
    pub part: &'static str,
    /// Samples trained on, held out and to test on.
    pub counts: [usize; 3],
}

/// The samples of a run that are worth showing: those to test on, or held out, or trained on; or those of
/// `data`.
///
/// # Errors
/// If they cannot be read.
pub(crate) fn parts<M: Modality>(opened: &Opened<M>, data: Option<&str>) -> Result<Parts> {
    let Opened { modality, config, .. } = opened;
    if let Some(what) = data {
        let set = modality.open(what)?;
        set.records().notes().iter().for_each(crate::say::note);
        let set = modality.usable(set)?.ok_or_else(|| Error::input(what, "no sample can be used"))?;
        let counts = [0, 0, set.len()];
        return Ok(Parts { shown: set, voters: None, part: "other data", counts });
    }
    let sets = crate::say::hushed(|| Sets::open(&config.data, M::Keys::KIND, &|what| modality.open(what)))?;
    let sets = sets.try_map(&|set| modality.usable(set))?;
    let len = |set: &Option<Set>| set.as_ref().map_or(0, Set::len);
    let counts = [sets.train.len(), len(&sets.held_out), len(&sets.test)];
    if let Some(Labelled { train, test }) = sets.labelled()?.filter(|found| found.test.len() >= 2) {
        let part = if sets.test.is_some() { "test" } else { "held out" };
        return Ok(Parts { shown: test, voters: Some(train.limit(VOTERS)?), part, counts });
    }
    let enough = |set: &Option<Set>| set.clone().filter(|set| set.len() >= 2);
    let (shown, part) = match (enough(&sets.test), enough(&sets.held_out)) {
        (Some(shown), _) => (shown, "test"),
        (None, Some(shown)) => (shown, "held out"),
        (None, None) => (sets.train, "training"),
    };
    Ok(Parts { shown, voters: None, part, counts })
}

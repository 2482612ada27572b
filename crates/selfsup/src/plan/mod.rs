//! From data and machine to a configuration: what is chosen where the user leaves it open.
//!
//! A modality looks at the data and names recipes, from the cheapest to the usual ([`crate::recipe`]). Small
//! real steps say what each costs (`measure`); the largest recipe for which the budget has enough steps is
//! taken, with a batch and micro-batches that fit into memory (`choose`), and rehearsed as the run will go.
//! What comes out is a layer of keys below all that the user gave.

mod budget;
mod choose;
mod fit;
mod found;
mod guard;
mod keys;
pub(crate) mod machine;
mod measure;
mod said;
mod search;

pub use fit::{batches, fit_keys};
pub use guard::{Ready, refuse_too_large};
pub use said::{Estimate, taken};

use crate::config::PretrainConfig;
use crate::draft::Draft;
use crate::modality::Modality;
use crate::recipe::Given;
use crate::say::{hushed, note};
use found::{Asked, Found};
use search::Search;
use selfsup_core::{Error, Result};
use std::time::Instant;

/// A configuration whose open keys were chosen.
pub struct Planned {
    /// What was given, over what was chosen.
    pub draft: Draft,
    /// What the run will take, where that was measured.
    pub estimate: Option<Estimate>,
    /// What was chosen and why.
    pub lines: Vec<String>,
}

/// Chooses what `draft` leaves open, for a run that lasts as long as `budget` says (an hour where nothing is
/// said). Without a budget, a run whose steps or epochs are given is as long as they say. With `trace` what is
/// read may leave blocks in the cache of volumes.
///
/// # Errors
/// Those of the configuration; [`Error::Config`] if not even the smallest step fits into memory. What cannot be
/// measured is said, and chosen without: the run names the cause.
pub fn plan<M: Modality>(draft: &Draft, budget: Option<&str>, trace: bool) -> Result<Planned> {
    let started = Instant::now();
    let config = PretrainConfig::<M::Keys>::of(draft)?;
    let given = Given::new(draft.layers().given());
    let timed = budget.is_some() || !(given.any("train.steps") || given.any("train.epochs"));
    let seconds = budget.map_or(Ok(budget::DEFAULT), budget::seconds)?;
    let seen = hushed(|| M::seen(&config, &given)).unwrap_or_default();
    let search = Search(Asked { draft, given: &given, seen: &seen, timed, seconds, started, trace });
    if timed || !given.any("train.batch_size") {
        match hushed(|| search.run::<M>()) {
            Ok(found) => return planned(&found, &search.0),
            Err(e @ Error::Config(_)) => return Err(e),
            Err(e) => note(format_args!("no step could be measured, the smallest recipe is taken: {e}")),
        }
        return Ok(Planned { draft: search.smallest::<M>(&config)?, estimate: None, lines: Vec::new() });
    }
    // Batch and length are given: nothing depends on what a step costs.
    Ok(Planned { draft: search.usual::<M>(&config)?, estimate: None, lines: Vec::new() })
}

/// The chosen keys below what was given, what they will take, and what to say of them.
fn planned<M: Modality>(found: &Found<M>, asked: &Asked) -> Result<Planned> {
    let draft = asked.draft.clone().above(keys::of_run(asked.given, found, asked.timed));
    let config = PretrainConfig::<M::Keys>::of(&draft)?;
    let estimate = Estimate::of(found, &config, asked.started);
    let lines = said::lines(found, &config, &estimate, asked);
    Ok(Planned { draft, estimate: Some(estimate), lines })
}

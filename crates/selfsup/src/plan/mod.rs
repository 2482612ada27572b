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
mod opened;
mod said;
mod search;

pub use fit::{batches, fit_keys};
pub use guard::{Ready, refuse_too_large};
pub use opened::Opened;
pub use said::{Estimate, taken};

use crate::config::PretrainConfig;
use crate::draft::Draft;
use crate::modality::Modality;
use crate::recipe::{Given, Recipe};
use crate::say::{detail, hushed, note};
use found::{Asked, Found};
use search::Search;
use selfsup_core::{Error, Result};
use std::time::Instant;

/// A configuration whose open keys were chosen.
pub struct Planned<M: Modality> {
    /// What was given, over what was chosen.
    pub draft: Draft,
    /// What the run will take, where that was measured.
    pub estimate: Option<Estimate>,
    /// What was chosen and why.
    pub lines: Vec<String>,
    /// The data, where steps were measured on them.
    pub opened: Option<Opened<M>>,
}

impl<M: Modality> Planned<M> {
    /// The configuration as it is.
    pub fn as_given(draft: Draft) -> Self {
        Planned { draft, estimate: None, lines: Vec::new(), opened: None }
    }
}

/// Chooses what `draft` leaves open, for a run that lasts as long as `budget` says (an hour where nothing is
/// said). Without a budget, a run whose steps or epochs are given is as long as they say. With `trace` what is
/// read may leave blocks in the cache of volumes.
///
/// # Errors
/// Those of the configuration, and what cannot be opened; [`Error::Config`] if not even the smallest step
/// fits into memory. What cannot be measured is said, and chosen without: the run names the cause.
pub fn plan<M: Modality>(draft: &Draft, budget: Option<&str>, trace: bool) -> Result<Planned<M>> {
    let started = Instant::now();
    let config = PretrainConfig::<M::Keys>::of(draft)?;
    let given = Given::new(draft.layers().given());
    let timed = budget.is_some() || !(given.any("train.steps") || given.any("train.epochs"));
    let seconds = budget.map_or(Ok(budget::DEFAULT), budget::seconds)?;
    let seen = hushed(|| M::seen(&config, &given)).unwrap_or_default();
    let asked = Asked { draft, given: &given, seen: &seen, timed, seconds, started, trace };
    if !timed && given.any("train.batch_size") {
        // Batch and length are given: nothing depends on what a step costs.
        return Ok(Planned::as_given(usual::<M>(&asked, &config)?));
    }
    let first = asked.recipes::<M>()?.into_iter().next().unwrap_or_default();
    let opened = Opened::<M>::new(asked.with::<M>(&first)?, trace)?;
    detail(format_args!("looked at the data and opened them in {:.1} s", started.elapsed().as_secs_f64()));
    let search = Search { asked, opened: &opened };
    let mut planned = match hushed(|| search.run()) {
        Ok(found) => planned(&found, &search.asked)?,
        Err(e @ Error::Config(_)) => return Err(e),
        Err(e) => {
            note(format_args!("no step could be measured, the smallest recipe is taken: {e}"));
            Planned::as_given(smallest(&search.asked, config.train.batch_size))
        }
    };
    planned.opened = Some(opened);
    Ok(planned)
}

/// The usual recipe where batch and length are given.
fn usual<M: Modality>(asked: &Asked, config: &PretrainConfig<M::Keys>) -> Result<Draft> {
    let batch = config.train.batch_size;
    let recipe = asked.seen.recipes.last().cloned().unwrap_or_else(|| Recipe::of(batch));
    let config = asked.with::<M>(&recipe)?;
    Ok(asked.draft.clone().above(keys::of_data(asked.given, &recipe, &config, config.train.batch_size)))
}

/// The recipe that costs least, where nothing was measured.
fn smallest(asked: &Asked, batch: usize) -> Draft {
    let recipe = asked.seen.recipes.first().cloned().unwrap_or_else(|| Recipe::of(batch));
    asked.draft.clone().above(recipe.keys)
}

/// The chosen keys below what was given, what they will take, and what to say of them.
fn planned<M: Modality>(found: &Found<M>, asked: &Asked) -> Result<Planned<M>> {
    let draft = asked.draft.clone().above(keys::of_run(asked.given, found, asked.timed));
    let config = PretrainConfig::<M::Keys>::of(&draft)?;
    let estimate = Estimate::of(found, &config, asked.started);
    let lines = said::lines(found, &config, &estimate, asked);
    Ok(Planned { draft, estimate: Some(estimate), lines, opened: None })
}

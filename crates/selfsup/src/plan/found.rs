//! What a search for a recipe is asked, and what it finds.

use super::choose::Choice;
use super::measure::{Cost, Rehearsal};
use crate::config::PretrainConfig;
use crate::draft::Draft;
use crate::modality::Modality;
use crate::recipe::{Given, Recipe, Seen};
use crate::set::Sets;
use selfsup_core::Result;
use std::time::Instant;

/// What is asked.
pub(super) struct Asked<'a> {
    pub draft: &'a Draft,
    pub given: &'a Given,
    pub seen: &'a Seen,
    /// Whether the run is as long as the budget, and not as its keys say.
    pub timed: bool,
    /// The budget.
    pub seconds: f64,
    pub started: Instant,
    /// Whether blocks of volumes may be left in the cache.
    pub trace: bool,
}

impl Asked<'_> {
    /// The configuration with a recipe below what was given.
    pub fn with<M: Modality>(&self, recipe: &Recipe) -> Result<PretrainConfig<M::Keys>> {
        PretrainConfig::of(&self.draft.clone().above(recipe.keys.clone()))
    }

    /// The recipes, from the one that costs least; one at least.
    pub fn recipes<M: Modality>(&self) -> Result<Vec<Recipe>> {
        let mut recipes = self.seen.recipes.clone();
        if recipes.is_empty() {
            recipes.push(Recipe::of(self.with::<M>(&Recipe::default())?.train.batch_size));
        }
        if !self.timed {
            // As long as the keys say: the usual recipe, if it fits into memory.
            recipes.reverse();
        }
        Ok(recipes)
    }
}

/// A recipe that was measured.
pub(super) struct Found<M: Modality> {
    pub recipe: Recipe,
    pub config: PretrainConfig<M::Keys>,
    pub modality: M,
    pub sets: Sets,
    pub cost: Cost,
    pub choice: Choice,
    pub rehearsal: Option<Rehearsal>,
    /// Seconds of an evaluation on the way, and of those at the end.
    pub looks: [f64; 2],
    /// Seconds between trainings.
    pub between: f64,
    /// Trainings in a row.
    pub trainings: f64,
    /// Bytes that the run may hold.
    pub limit: Option<f64>,
    /// What a larger recipe would take, in words.
    pub instead: Option<String>,
}

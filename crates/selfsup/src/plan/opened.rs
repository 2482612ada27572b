//! The data of a plan, opened once: each recipe is measured on them, and the run reads them on.

use crate::config::{Keys, PretrainConfig};
use crate::modality::Modality;
use crate::set::Sets;
use selfsup_core::Result;

/// Data that a search has opened, for the run that follows: the modality of a recipe, and the samples that
/// hold anything.
pub struct Opened<M: Modality> {
    /// The modality; one of other keys is made [`Modality::again`].
    pub modality: M,
    /// The samples.
    pub sets: Sets,
}

impl<M: Modality> Opened<M> {
    /// Opens what `config` names. What is to be said of the data is said.
    ///
    /// # Errors
    /// If something cannot be opened, or no sample can be used.
    pub(super) fn new(mut config: PretrainConfig<M::Keys>, trace: bool) -> Result<Self> {
        if !trace {
            config.keys.leave_nothing();
        }
        let modality = M::new(&config)?;
        let sets = Sets::open(&config.data, M::Keys::KIND, &|what| modality.open(what))?;
        let sets = sets.try_map(&|set| modality.usable(set))?;
        Ok(Opened { modality, sets })
    }
}

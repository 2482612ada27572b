//! Defaults that are larger than the data: lowered to what there is. What was given stays, and is refused where
//! no batch can be made.

use crate::config::{Keys, PretrainConfig};
use crate::draft::Draft;
use crate::modality::Modality;
use crate::recipe::Given;
use crate::say::{note, warning};
use crate::set::Set;
use selfsup_core::data::{LoaderConfig, Source};
use selfsup_core::{Error, Result};

const BATCH: &str = "train.batch_size";

/// Batches of `set` to train on. A `train.batch_size` that nobody gave is lowered to the number of samples that
/// there are (patches of volumes, blocks of texts), which a line says.
///
/// # Errors
/// If a batch size was given that is larger, naming the key; else those of [`Modality::batches`].
pub fn batches<M: Modality>(
    modality: &M,
    config: &mut PretrainConfig<M::Keys>,
    draft: &Draft,
    set: &Set,
) -> Result<Box<dyn Source<M::Batch>>> {
    let whole = LoaderConfig::from(&config.train);
    let problem = match modality.batches(set, whole.clone()) {
        Err(Error::TooFew { problem, .. }) => problem,
        // What names another key is not the batch's.
        Err(Error::Config(problem)) if !names_a_key(&problem) => {
            return Err(Error::config(format!("{BATCH}: {problem}")));
        }
        other => return other,
    };
    // In ones, there are as many batches as samples; where there are none, the data is too little whatever the
    // batch.
    let samples = modality.batches(set, LoaderConfig { batch_size: 1, ..whole.clone() })?.batches();
    if Given::new(draft.layers().given()).any(BATCH) {
        return Err(Error::config(format!("{BATCH} = {}: {problem}", whole.batch_size)));
    }
    note(format_args!("{BATCH} = {samples}, all there is to train on (the default is {})", whole.batch_size));
    config.train.batch_size = samples;
    modality.batches(set, LoaderConfig { batch_size: samples, ..whole })
}

/// Whether a problem begins with a key of the configuration: `method.masking.share = 0: ...`.
fn names_a_key(problem: &str) -> bool {
    problem.split([' ', ':']).next().is_some_and(|word| word.split('.').count() > 1)
}

/// Lowers keys of the method that cannot be larger than the `samples` that are trained on. Says so in a line;
/// of a key that was given this is a warning, and the key stays. Returns whether something changed.
pub fn fit_keys<K: Keys>(config: &mut PretrainConfig<K>, draft: &Draft, samples: usize) -> bool {
    let mut keys = config.keys.clone();
    let Some(lowered) = keys.fit(samples) else { return false };
    let (key, from, to, why) = (lowered.key, lowered.from, lowered.to, lowered.why);
    if Given::new(draft.layers().given()).any(key) {
        warning(format_args!("{key} = {from} is above the {to} samples to train on: {why}"));
        return false;
    }
    note(format_args!("{key} = {to}, the number of samples to train on (the default is {from}): {why}"));
    config.keys = keys;
    true
}

//! Samples that cannot be read: found before they end an evaluation or a prediction, named, counted, left
//! out.

use crate::config::Keys;
use crate::modality::Modality;
use crate::set::{Labelled, Set, Sets};
use selfsup_core::data::LoaderConfig;
use selfsup_core::run::Display;
use selfsup_core::{Error, Result};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A sample that cannot be read: its index and why.
pub type Bad = (usize, String);

/// What else is read of the only sample of a set: its target.
pub type Also<'a> = &'a (dyn Fn(&Set) -> Result<()> + Sync);

/// Reads every sample as an encoder's input, on `workers` threads and the present one; returns those that
/// cannot be, in order.
///
/// # Errors
/// Never for a sample: if the set cannot be cut into single samples.
pub fn unreadable<M: Modality>(modality: &M, set: &Set, workers: usize) -> Result<Vec<Bad>> {
    unreadable_with(modality, set, workers, &|_| Ok(()))
}

fn unreadable_with<M: Modality>(modality: &M, set: &Set, workers: usize, also: Also) -> Result<Vec<Bad>> {
    let next = AtomicUsize::new(0);
    let look = |mut shown: Option<Display>| -> Result<Vec<Bad>> {
        let mut bad = Vec::new();
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if let Some(display) = &mut shown {
                display.count(i.min(set.len()) as u64, set.len() as u64);
            }
            if i >= set.len() {
                return Ok(bad);
            }
            let one = set.part(vec![i])?;
            if let Err(e) = readable(modality, &one).and_then(|()| also(&one)) {
                bad.push((i, reason(&e)));
            }
        }
    };
    let mut bad = std::thread::scope(|scope| {
        let others: Vec<_> = (0..workers.min(set.len())).map(|_| scope.spawn(|| look(None))).collect();
        let display = Display::counting("reading: sample", Duration::from_secs(10));
        let mut bad = look(Some(display))?;
        for other in others {
            bad.extend(other.join().map_err(|_| Error::Other("a thread that reads samples ended".into()))??);
        }
        Ok::<_, Error>(bad)
    })?;
    bad.sort();
    Ok(bad)
}

/// Reads the only sample of `one`.
fn readable<M: Modality>(modality: &M, one: &Set) -> Result<()> {
    let source = modality.inputs(one, false, LoaderConfig::in_order(1, 0))?;
    match source.epoch_from(0, 0)?.next() {
        Some(batch) => batch.map(drop),
        None => Err(Error::input(one.records().id(0)?, "gives no input: too short or empty")),
    }
}

/// An error about the only sample of a set, without the place in that set.
fn reason(e: &Error) -> String {
    let text = e.to_string();
    let text = text.strip_prefix("sample 0: ").unwrap_or(&text);
    text.split(" (epoch 0, batch 0").next().unwrap_or(text).to_string()
}

/// The samples of `set` (called `what`) that can be read. Those that cannot be are warned of, one line each,
/// and counted.
///
/// # Errors
/// If more than the share `most` of them cannot be read, or none can.
pub fn screened<M: Modality>(modality: &M, set: Set, most: f64, workers: usize, what: &str) -> Result<Set> {
    let bad = unreadable(modality, &set, workers)?;
    without::<M>(set, &bad, most, what)
}

/// The samples of `set` that are not `bad`, as [`screened`] says.
fn without<M: Modality>(set: Set, bad: &[Bad], most: f64, what: &str) -> Result<Set> {
    if bad.is_empty() {
        return Ok(set);
    }
    for (_, why) in bad {
        crate::say::warning(format_args!("skipped: {why}"));
    }
    let samples = M::Keys::KIND.samples();
    let (n, first) = (set.len(), bad.first().map_or("", |(_, why)| why));
    if bad.len() == n || bad.len() as f64 > most * n as f64 {
        return Err(Error::input(
            what,
            format_args!(
                "{} of {n} {samples} cannot be read, more than may be skipped; one: {first}",
                bad.len()
            ),
        ));
    }
    crate::say::warning(format_args!(
        "{what}: {} of {n} {samples} cannot be read and are skipped",
        bad.len()
    ));
    let mut bad = bad.iter().map(|(i, _)| *i).peekable();
    set.part((0..n).filter(|i| bad.next_if_eq(i).is_none()).collect())
}

/// The samples to evaluate on that can be read, where `train.max_bad_fraction` lets some be skipped: with 0
/// all of them, unread.
///
/// # Errors
/// As [`screened`].
pub fn labelled<M: Modality>(modality: &M, data: Labelled, most: f64, workers: usize) -> Result<Labelled> {
    if most == 0.0 {
        return Ok(data);
    }
    Ok(Labelled {
        train: screened(modality, data.train, most, workers, "samples to fit on")?,
        test: screened(modality, data.test, most, workers, "samples to test on")?,
    })
}

/// The parts of a run whose samples are read one by one outside of a training's loader: those held out and to
/// test on; where samples are read before the training ([`Modality::EAGER`]) also those to train on. With 0
/// as `most` all of them, unread; `also` reads what else a sample needs.
///
/// # Errors
/// As [`screened`].
pub fn parts<M: Modality>(modality: &M, sets: Sets, most: f64, workers: usize, also: Also) -> Result<Sets> {
    if most == 0.0 {
        return Ok(sets);
    }
    let one = |set: Set, what: &str| {
        let bad = unreadable_with(modality, &set, workers, also)?;
        without::<M>(set, &bad, most, what)
    };
    let of = |set: Option<Set>, what: &str| set.map(|set| one(set, what)).transpose();
    let Sets { train, held_out, test } = sets;
    let train = if M::EAGER { one(train, "training data")? } else { train };
    Ok(Sets { train, held_out: of(held_out, "held-out data")?, test: of(test, "test data")? })
}

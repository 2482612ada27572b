//! What the ranks of a training agree on: where they start, who reads which samples, what is logged, when
//! they stop. Alone, each of these is what the one rank says, at no cost.

use crate::error::{Error, Result};
use crate::params::Params;
use crate::world::World;
use std::collections::BTreeMap;

/// A batch over all ranks.
pub(super) struct Joint {
    /// Samples of the ranks before this one: the place of its first sample in the whole batch.
    pub(super) offset: u64,
    /// Samples of all ranks.
    pub(super) samples: u64,
    /// Unreadable samples so far, of all ranks.
    pub(super) bad: u64,
    /// Samples so far, of all ranks.
    pub(super) seen: u64,
}

/// Puts the parts of a batch together: this rank has `samples`, and `(bad, seen)` so far.
pub(super) fn joint(world: &World, samples: usize, (bad, seen): (u64, u64)) -> Result<Joint> {
    // Counts are exact in a double up to 2^53.
    let ranks = world.numbers(&[samples as f64, bad as f64, seen as f64])?;
    let total = |i: usize| ranks.iter().map(|r| r.get(i).copied().unwrap_or(0.0) as u64).sum::<u64>();
    let offset = ranks.iter().take(world.rank()).map(|r| r.first().copied().unwrap_or(0.0) as u64).sum();
    Ok(Joint { offset, samples: total(0), bad: total(1), seen: total(2) })
}

/// This rank's part of counts that were added over all ranks; the parts add up.
pub(super) fn part(world: &World, counts: (u64, u64)) -> (u64, u64) {
    let (rank, size) = (world.rank() as u64, world.size() as u64);
    let of = |total: u64| total / size + u64::from(rank < total % size);
    (of(counts.0), of(counts.1))
}

/// Refuses ranks that differ in one of the named numbers.
pub(super) fn agree(world: &World, values: &[(&str, u64)]) -> Result<()> {
    let ranks = world.numbers(&values.iter().map(|(_, v)| *v as f64).collect::<Vec<_>>())?;
    for (i, (name, own)) in values.iter().enumerate() {
        let all: Vec<f64> = ranks.iter().map(|r| r.get(i).copied().unwrap_or(f64::NAN)).collect();
        if let Some(rank) = all.iter().position(|v| *v != *own as f64) {
            return Err(Error::input(
                format!("rank {} of {}", world.rank(), world.size()),
                format!("{name}: {own}, but rank {rank} has {}; all ranks must have the same", all[rank]),
            ));
        }
    }
    Ok(())
}

/// Gives all ranks the parameters of rank 0.
pub(super) fn start_alike(world: &World, params: &Params) -> Result<()> {
    if world.alone() {
        return Ok(());
    }
    let all = params.all();
    agree(world, &[("number of parameters", all.len() as u64)])?;
    for p in all {
        let first = world.broadcast(p.var.as_tensor(), 0)?;
        if world.rank() != 0 {
            params.set(&p.name, &first)?;
        }
    }
    Ok(())
}

/// Refuses ranks that read the same samples: a loader that was not told its rank would train every rank on
/// the whole data in silence.
pub(super) fn disjoint(world: &World, indices: &[usize]) -> Result<()> {
    if world.alone() {
        return Ok(());
    }
    let ranks = world.numbers(&indices.iter().map(|i| *i as f64).collect::<Vec<_>>())?;
    let mut readers = BTreeMap::new();
    for (rank, samples) in ranks.iter().enumerate() {
        for sample in samples.iter().map(|v| *v as u64) {
            if let Some(other) = readers.insert(sample, rank)
                && other != rank
            {
                return Err(Error::input(
                    "data",
                    format!(
                        "ranks {other} and {rank} both read sample {sample}: give each its part with Loader::in_world"
                    ),
                ));
            }
        }
    }
    Ok(())
}

/// The mean of each number over the ranks.
pub(super) fn mean(world: &World, own: &[f64]) -> Result<Vec<f64>> {
    if world.alone() {
        return Ok(own.to_vec());
    }
    let ranks = world.numbers(own)?;
    if let Some(rank) = ranks.iter().position(|r| r.len() != own.len()) {
        return Err(Error::input(
            "metrics",
            format!(
                "rank {} has {}, but rank {rank} has {}; all ranks must have the same observers",
                world.rank(),
                own.len(),
                ranks[rank].len()
            ),
        ));
    }
    let mean = |i: usize| ranks.iter().map(|r| r[i]).sum::<f64>() / ranks.len() as f64;
    Ok((0..own.len()).map(mean).collect())
}

/// Whether any rank says so.
pub(super) fn any(world: &World, own: bool) -> Result<bool> {
    Ok(world.total(f64::from(u8::from(own)))? > 0.0)
}

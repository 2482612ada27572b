//! Ranks on the threads of one process: for tests, and for machines with many cores.

use super::{Collective, World};
use crate::error::{Error, Result};
use candle_core::Tensor;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a rank waits for the others.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, Default)]
struct State {
    /// The tensor that each rank has handed over in this round.
    slots: Vec<Option<Tensor>>,
    /// The tensors of all ranks in the last round.
    done: Vec<Tensor>,
    round: u64,
    /// Ranks that have ended.
    gone: Vec<usize>,
}

#[derive(Debug)]
struct Meeting {
    state: Mutex<State>,
    changed: Condvar,
}

impl Meeting {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A rank on a thread.
#[derive(Debug)]
struct Rank {
    rank: usize,
    size: usize,
    meeting: Arc<Meeting>,
}

impl Collective for Rank {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn exchange(&self, x: &Tensor) -> Result<Vec<Tensor>> {
        let mut state = self.meeting.lock();
        let round = state.round;
        state.slots[self.rank] = Some(x.detach().contiguous()?);
        if state.slots.iter().all(Option::is_some) {
            state.done = state.slots.iter_mut().filter_map(Option::take).collect();
            state.round += 1;
            self.meeting.changed.notify_all();
            return Ok(state.done.clone());
        }
        while state.round == round {
            if let Some(other) = state.gone.first() {
                return Err(Error::Other(format!(
                    "rank {other} has ended while rank {} waits for it",
                    self.rank
                )));
            }
            let (next, waited) =
                self.meeting.changed.wait_timeout(state, PATIENCE).unwrap_or_else(PoisonError::into_inner);
            state = next;
            if waited.timed_out() && state.round == round {
                let seconds = PATIENCE.as_secs();
                return Err(Error::Other(format!(
                    "rank {}: no answer of the others in {seconds} s",
                    self.rank
                )));
            }
        }
        Ok(state.done.clone())
    }
}

impl Drop for Rank {
    /// Ranks that still wait for this one get an error.
    fn drop(&mut self) {
        self.meeting.lock().gone.push(self.rank);
        self.meeting.changed.notify_all();
    }
}

/// The handles of `size` ranks, one for each thread.
pub fn threads(size: usize) -> Vec<World> {
    let state = State { slots: vec![None; size], ..State::default() };
    let meeting = Arc::new(Meeting { state: Mutex::new(state), changed: Condvar::new() });
    (0..size).map(|rank| World::new(Rank { rank, size, meeting: meeting.clone() })).collect()
}

/// Runs `work` on `size` ranks, each on a thread of its own; returns their results in the order of the ranks.
///
/// # Errors
/// The first error by rank; a panic of a rank is one.
pub fn run_ranks<T: Send>(size: usize, work: impl Fn(World) -> Result<T> + Sync) -> Result<Vec<T>> {
    std::thread::scope(|scope| {
        let running: Vec<_> = threads(size).into_iter().map(|world| scope.spawn(|| work(world))).collect();
        let ended: Vec<Result<T>> = running
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err(Error::Other("a rank panicked".into()))))
            .collect();
        ended.into_iter().collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Var};

    fn own(world: &World, rows: usize) -> Result<Tensor> {
        Ok(Tensor::full(world.rank() as f32 + 1.0, (rows, 2), &Device::Cpu)?)
    }

    #[test]
    fn sums_and_parts_of_all_ranks() -> Result<()> {
        let out = run_ranks(3, |world| {
            let sum = world.all_reduce(&own(&world, 1)?)?.to_vec2::<f32>()?;
            // Ranks may have different numbers of rows.
            let all = world.all_gather(&own(&world, world.rank() + 1)?)?;
            let mine = world.reduce_scatter(&all, &[1, 2, 3])?;
            let root = world.broadcast(&own(&world, 1)?, 2)?.to_vec2::<f32>()?;
            world.barrier()?;
            Ok((sum, all.dim(0)?, mine.to_vec2::<f32>()?, root, world.total(1.5)?))
        })?;
        for (rank, (sum, rows, mine, root, total)) in out.into_iter().enumerate() {
            assert_eq!((sum, rows, root, total), (vec![vec![6.0, 6.0]], 6, vec![vec![3.0, 3.0]], 4.5));
            assert_eq!(mine, vec![vec![3.0 * (rank as f32 + 1.0); 2]; rank + 1]);
        }
        Ok(())
    }

    /// The mean over ranks of each rank's loss, by one process that has all of it and by ranks.
    #[test]
    fn gradients_are_those_of_one_process() -> Result<()> {
        let values = [1f32, -2.0, 0.5, 3.0];
        let loss = |z: &Tensor, scale: f64| -> Result<Tensor> {
            let centred = z.broadcast_sub(&z.mean_keepdim(0)?)?; // couples the rows
            Ok((centred.sqr()?.mul(z)?.sum_all()? * scale)?)
        };
        let whole = Var::new(&values, &Device::Cpu)?;
        let z = whole.as_tensor().reshape((4, 1))?;
        let mean = ((loss(&z, 1.0)? + loss(&z, 3.0)?)? / 2.0)?;
        let expected = mean.backward()?.get(whole.as_tensor()).unwrap().to_vec1::<f32>()?;
        let parts = run_ranks(2, |world| {
            let mine = Var::new(&values[2 * world.rank()..2 * world.rank() + 2], &Device::Cpu)?;
            let z = world.all_gather(&mine.as_tensor().reshape((2, 1))?)?;
            // Each rank has a loss of its own.
            let loss = (loss(&z, if world.rank() == 0 { 1.0 } else { 3.0 })? / 2.0)?;
            Ok(loss.backward()?.get(mine.as_tensor()).unwrap().to_vec1::<f32>()?)
        })?;
        for (got, want) in parts.concat().iter().zip(&expected) {
            assert!((got - want).abs() < 1e-4, "{parts:?} {expected:?}");
        }
        let reduced = run_ranks(2, |world| {
            let x = Var::new(&[world.rank() as f32 + 1.0], &Device::Cpu)?;
            let y = world.all_reduce(x.as_tensor())?.sqr()?.sum_all()?;
            Ok(y.backward()?.get(x.as_tensor()).unwrap().to_vec1::<f32>()?[0])
        })?;
        assert_eq!(reduced, [12.0, 12.0], "each rank's 2 (1 + 2), of two ranks");
        Ok(())
    }

    #[test]
    fn nobody_waits_for_a_rank_that_failed() {
        let ended = run_ranks(2, |world| {
            if world.rank() == 1 {
                return Err(Error::input("sample 7", "cannot be read"));
            }
            world.all_reduce(&Tensor::zeros(1, DType::F32, &Device::Cpu)?).map(|_| ())
        });
        let message = ended.unwrap_err().to_string();
        assert!(message.contains("rank 1 has ended") || message.contains("sample 7"), "{message}");
    }
}

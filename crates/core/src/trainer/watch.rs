//! What the trainer watches of every method: the effective rank of its embeddings, the size of its updates,
//! and whether its teacher follows.

use super::health::info_of;
use crate::error::Result;
use crate::linalg::{singular_values, spectrum_rank};
use crate::objective::gauge::{Band, EMBEDDING_RANK, TEACHER_GAP, TEACHER_MOVES, UPDATE_RATIO};
use crate::objective::{Gauge, GaugeInfo};
use crate::params::{Param, Params, Role};
use crate::world::World;
use candle_core::{DType, Device, Tensor};
use selfsup_kernels::Path;
use selfsup_kernels::host::floats;
use selfsup_kernels::norm::l2_normalize;
use selfsup_kernels::update::sq_norms;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Rows and batches that the effective rank is measured on: enough to see a collapse to few of many
/// dimensions, and at most eight logged steps old.
const ROWS: usize = 256;
const BATCHES: usize = 8;
/// With fewer possible directions the share of them says little.
const POSSIBLE: usize = 8;
/// Steps that a teacher is behind its student at least.
const LAG: f64 = 0.5;

/// The state between logged steps; a checkpoint holds it.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Normalised embeddings of the last logged steps about the mean of their batch, `(n, D)` each.
    recent: VecDeque<Tensor>,
    /// A digest of the teacher at the last logged step.
    teacher: Option<u64>,
}

/// What of the state is no tensor.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    /// Rows of each batch.
    batches: Vec<usize>,
    teacher: Option<u64>,
}

/// The trained tensors as they are, to see what a step changes.
pub(super) fn copies(params: &Params) -> Result<Vec<(Param, Tensor)>> {
    let copy = |p: Param| Ok((p.clone(), p.var.as_tensor().detach().copy()?));
    params.with_role(Role::Trained).into_iter().map(copy).collect()
}

impl Watch {
    /// The gauges after a step from `before`; `gauges` are the method's own, over all ranks of `world`, and
    /// `shared` says whether all ranks have the embeddings of all.
    pub fn look(
        &mut self,
        before: &[(Param, Tensor)],
        params: &Params,
        gauges: &[Gauge],
        infos: &'static [GaugeInfo],
        (world, shared): (&World, bool),
    ) -> Result<Vec<Gauge>> {
        let mut found = Vec::new();
        if let Some(rows) = gauges.iter().find_map(|g| g.rows.as_ref()) {
            self.push(rows, world, shared)?;
            if let Some((rank, possible)) = self.rank()? {
                let low = info_of(infos, EMBEDDING_RANK).and_then(|info| info.band.low).unwrap_or(0.0);
                // One direction and a half, whatever the share.
                let band = Band::above(low.max(1.5 / possible as f64));
                found.push(Gauge::plain(EMBEDDING_RANK, rank / possible as f64).healthy(band));
            }
        }
        let ratio = update_ratio(before)?;
        found.extend(ratio.map(|ratio| Gauge::plain(UPDATE_RATIO, ratio)));
        if let Some((gap, digest)) = teacher(params)? {
            // A teacher with a momentum of m lags m / (1 - m) steps behind: half a step is a copy, even where the
            // momentum rises from 0.
            let low = info_of(infos, TEACHER_GAP).and_then(|info| info.band.low).unwrap_or(0.0);
            let band = Band::above(low.max(LAG * ratio.unwrap_or(0.0)));
            found.push(Gauge::plain(TEACHER_GAP, gap).healthy(band));
            // Nothing to compare with at first: the teacher counts as moving.
            let moves = self.teacher.replace(digest) != Some(digest);
            found.push(Gauge::plain(TEACHER_MOVES, f64::from(u8::from(moves))));
        }
        Ok(found)
    }

    /// Takes embeddings `(n, D)` in, and lets go of the oldest ones.
    fn push(&mut self, rows: &Tensor, world: &World, shared: bool) -> Result<()> {
        let rows = if shared { rows.clone() } else { world.all_gather(rows)?.detach() };
        let (n, d) = rows.dims2()?;
        if n < 2 {
            return Ok(());
        }
        let rows = if n > ROWS {
            let at: Vec<u32> = (0..ROWS).map(|i| (i * n / ROWS) as u32).collect();
            rows.index_select(&Tensor::new(at, rows.device())?, 0)?
        } else {
            rows
        };
        let rows = rows.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.contiguous()?;
        let unit = l2_normalize(&rows, 1e-12, Path::Auto)?;
        if self.recent.front().is_some_and(|t| t.dims().get(1) != Some(&d)) {
            self.recent.clear();
        }
        // About the mean of its own batch: what moves between batches is the network, not the samples.
        self.recent.push_back(unit.broadcast_sub(&unit.mean_keepdim(0)?)?.detach());
        while self.recent.len() > BATCHES || (self.recent.len() > 1 && self.rows() > ROWS) {
            self.recent.pop_front();
        }
        Ok(())
    }

    fn rows(&self) -> usize {
        self.recent.iter().filter_map(|t| t.dims().first()).sum()
    }

    /// The effective rank, and the largest that it could be; nothing while there are too few rows to tell.
    fn rank(&self) -> Result<Option<(f64, usize)>> {
        let d = self.recent.front().and_then(|t| t.dims().get(1)).copied().unwrap_or(0);
        let possible = d.min(self.rows().saturating_sub(self.recent.len()));
        if possible < POSSIBLE {
            return Ok(None);
        }
        let mut rows = Vec::with_capacity(self.rows() * d);
        for batch in &self.recent {
            rows.extend(floats(batch)?.into_iter().map(f64::from));
        }
        if rows.iter().any(|v| !v.is_finite()) {
            return Ok(Some((f64::NAN, possible)));
        }
        // Rounding alone leaves a spectrum of its own: where nothing varies there is no direction.
        let largest = rows.iter().fold(0.0, |most: f64, v| most.max(v.abs()));
        if largest < 1e-6 {
            return Ok(Some((0.0, possible)));
        }
        Ok(Some((spectrum_rank(&singular_values(&rows, d)), possible)))
    }

    /// The state as a tensor, where there is one, and JSON.
    pub fn state(&self) -> Result<(Vec<(String, Tensor)>, serde_json::Value)> {
        let batches = self.recent.iter().filter_map(|t| t.dims().first().copied()).collect();
        let kept = serde_json::to_value(Kept { batches, teacher: self.teacher });
        let kept = kept.map_err(|e| crate::Error::Other(e.to_string()))?;
        let all: Vec<&Tensor> = self.recent.iter().collect();
        let tensors = match all[..] {
            [] => Vec::new(),
            _ => vec![("embeddings".to_string(), Tensor::cat(&all, 0)?)],
        };
        Ok((tensors, kept))
    }

    /// The state of a checkpoint; what does not fit together is forgotten.
    pub fn restored(tensors: &[(String, Tensor)], kept: &serde_json::Value) -> Result<Self> {
        let kept: Kept = serde_json::from_value(kept.clone()).unwrap_or_default();
        let mut watch = Watch { recent: VecDeque::new(), teacher: kept.teacher };
        let Some((_, all)) = tensors.iter().find(|(name, _)| name == "embeddings") else { return Ok(watch) };
        if all.dims2()?.0 == kept.batches.iter().sum::<usize>() {
            let mut start = 0;
            for n in kept.batches {
                watch.recent.push_back(all.narrow(0, start, n)?.to_device(&Device::Cpu)?.contiguous()?);
                start += n;
            }
        }
        Ok(watch)
    }
}

/// `|new - old| / |old|` over all trained tensors.
fn update_ratio(before: &[(Param, Tensor)]) -> Result<Option<f64>> {
    let (mut change, mut size) = (0.0, 0.0);
    for (param, old) in before {
        let gap = (param.var.as_tensor().detach() - old)?;
        let squares = sq_norms(&[gap, old.clone()])?;
        change += squares[0];
        size += squares[1];
    }
    Ok((size > 0.0).then(|| (change / size).sqrt()))
}

/// The relative distance of the teacher's tensors from the student's, and a digest of the former; nothing for
/// methods without a teacher. Teachers stand below `teacher`, each tensor under the name of the student's, or under
/// its name in the encoder.
fn teacher(params: &Params) -> Result<Option<(f64, u64)>> {
    let (mut gap, mut size, mut digest) = (0.0, 0.0, 0xcbf2_9ce4_8422_2325u64);
    for p in params.with_role(Role::Teacher) {
        let own: Vec<&str> = p.name.split('.').filter(|part| *part != "teacher").collect();
        // A teacher of a part of the encoder (data2vec's blocks) stands without `encoder` in its name.
        let names = [own.join("."), format!("encoder.{}", own.join("."))];
        let student = names.iter().find_map(|name| params.get(name).filter(|s| s.role == Role::Trained));
        let Some(student) = student else { continue };
        if student.var.dims() != p.var.dims() {
            continue;
        }
        let (teacher, student) = (p.var.as_tensor().detach(), student.var.as_tensor().detach());
        let squares = sq_norms(&[(&teacher - &student)?, student, teacher])?;
        gap += squares[0];
        size += squares[1];
        digest = (digest ^ squares[2].to_bits()).wrapping_mul(0x0100_0000_01b3);
    }
    Ok((size > 0.0).then(|| ((gap / size).sqrt(), digest)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::Init;
    use crate::scope::Scope;
    use selfsup_kernels::rng::Key;

    fn rows(n: usize, d: usize, kept: usize, seed: u64) -> Tensor {
        let mut r = Key::new(seed).rng();
        let values = (0..n * d).map(|i| if i % d < kept { r.normal() } else { 0.5 });
        Tensor::from_vec(values.collect::<Vec<f32>>(), (n, d), &Device::Cpu).unwrap()
    }

    fn rank_of(batches: &[Tensor]) -> Option<(f64, usize)> {
        let mut watch = Watch::default();
        batches.iter().for_each(|b| watch.push(b, &World::default(), true).unwrap());
        watch.rank().unwrap()
    }

    #[test]
    fn small_batches_are_put_together() {
        // 16 samples alone cannot tell 10 of 64 dimensions from all of them; eight such batches can.
        let of = |kept: usize, n: usize| {
            let batches: Vec<Tensor> = (0..12).map(|i| rows(n, 64, kept, i)).collect();
            let (rank, possible) = rank_of(&batches).unwrap();
            (rank / possible as f64, possible)
        };
        let (healthy, possible) = of(64, 16);
        assert_eq!(possible, 64, "of 8 * 15 degrees of freedom");
        assert!(healthy > 0.9, "{healthy}");
        let (confined, _) = of(4, 16);
        assert!((0.05..0.09).contains(&confined), "4 of 64: {confined}");
        assert_eq!(of(64, 300).1, 64);
        assert!(rank_of(&[rows(4, 64, 64, 0)]).is_none(), "three directions say nothing");
        assert_eq!(rank_of(&[rows(32, 16, 0, 0)]).unwrap().0, 0.0, "nothing varies");
        assert!(rank_of(&[(rows(32, 16, 9, 0) * f64::NAN).unwrap()]).unwrap().0.is_nan());
    }

    #[test]
    fn state_comes_back() {
        let mut watch = Watch { teacher: Some(u64::MAX - 1), ..Watch::default() };
        for i in 0..3 {
            watch.push(&rows(10 + i, 16, 16, i as u64), &World::default(), true).unwrap();
        }
        let (tensors, kept) = watch.state().unwrap();
        let again = Watch::restored(&tensors, &kept).unwrap();
        assert_eq!(again.rank().unwrap(), watch.rank().unwrap());
        assert_eq!((again.rows(), again.teacher), (33, Some(u64::MAX - 1)));
        assert_eq!(Watch::restored(&[], &serde_json::Value::Null).unwrap().rows(), 0);
    }

    #[test]
    fn teachers_and_updates() {
        let params = Params::new();
        let scope = Scope::root(&params, 1, &Device::Cpu);
        scope.sub("encoder").get("weight", (4, 3), Init::Normal(1.0)).unwrap();
        assert!(teacher(&params).unwrap().is_none());
        let copy = scope.sub("teacher").with_role(Role::Teacher).copying("");
        copy.sub("encoder").get("weight", (4, 3), Init::Normal(1.0)).unwrap();
        let (gap, first) = teacher(&params).unwrap().unwrap();
        assert_eq!(gap, 0.0, "a copy");
        let before = copies(&params).unwrap();
        let weight = params.get("encoder.weight").unwrap().var.as_tensor().detach();
        params.set("encoder.weight", &(weight * 1.5).unwrap()).unwrap();
        assert!((update_ratio(&before).unwrap().unwrap() - 0.5).abs() < 1e-6);
        let (gap, same) = teacher(&params).unwrap().unwrap();
        assert!((gap - 1.0 / 3.0).abs() < 1e-6 && same == first, "the teacher stood still");
        // A teacher of some blocks.
        let parts = Params::new();
        let scope = Scope::root(&parts, 1, &Device::Cpu);
        scope.sub("encoder").sub("blocks").get("weight", (4, 3), Init::Normal(1.0)).unwrap();
        let copy = scope.sub("teacher").with_role(Role::Teacher).copying("encoder");
        copy.sub("blocks").get("weight", (4, 3), Init::Normal(1.0)).unwrap();
        assert_eq!(teacher(&parts).unwrap().unwrap().0, 0.0);
        let mut watch = Watch::default();
        let moves = |watch: &mut Watch| {
            let world = World::default();
            let found = watch.look(&before, &params, &[], &[], (&world, true)).unwrap();
            found.iter().find(|g| g.name == TEACHER_MOVES).unwrap().value
        };
        assert_eq!((moves(&mut watch), moves(&mut watch)), (1.0, 0.0));
        // A third of the weights behind, after a step of half of them: less than half a step is a copy.
        let gap = |before: &[(Param, Tensor)]| {
            let found = Watch::default().look(before, &params, &[], &[], (&World::default(), true)).unwrap();
            found.into_iter().find(|g| g.name == TEACHER_GAP).unwrap()
        };
        assert!((gap(&before).band.low.unwrap() - 0.25).abs() < 1e-6);
        assert_eq!(gap(&copies(&params).unwrap()).band.low, Some(1e-6));
    }
}

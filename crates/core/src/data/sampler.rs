//! Which samples make up a batch: a random permutation that is computed element by element.
//!
//! A shuffled epoch is the image of `0, 1, 2 ...` under a keyed bijection of `0..n`, so batch `b` costs
//! O(batch) time and no memory: a run resumes in the middle of an epoch of a billion samples at once. The
//! bijection is a balanced Feistel network (Luby and Rackoff 1988) over the smallest `2^(2h) >= n` with
//! Philox as its round function; a value that falls outside `0..n` is sent through again until it falls
//! inside ("cycle walking", Black and Rogaway 2002), fewer than four times on average because `2^(2h) < 4 n`.
//! Networks over a handful of values reach few of the possible orders, so up to 1,024 samples are shuffled by
//! Fisher-Yates instead.
//!
//! Samples of different lengths waste less padding if batches hold samples of like length.
//! [`Sampler::by_length`] sorts within windows of some batches of the shuffled order and shuffles the batches
//! of each window, so a batch costs a sort of its window and resuming stays as cheap as before. Which samples
//! share a window is new each epoch.

use crate::error::{Error, Result};
use crate::world::World;
use selfsup_kernels::rng::{Key, philox};
use std::sync::Arc;

/// Up to here the order is a table: 8 KiB at most, and every order is possible.
const TABLE: usize = 1024;
/// Four rounds make a strong pseudo-random permutation of long halves; short halves want more.
const ROUNDS: u64 = 8;

/// A random permutation of `0..n` given by a key, evaluated element by element.
#[derive(Clone, Debug)]
pub struct Permutation {
    n: usize,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Identity,
    Table(Vec<usize>),
    Feistel { key: u64, half: u32 },
    Grouped(Arc<Grouped>),
}

/// An order that is sorted by length within windows.
#[derive(Debug)]
struct Grouped {
    order: Permutation,
    lengths: Arc<[u32]>,
    /// Samples in a batch.
    batch: usize,
    /// Batches in a window.
    window: usize,
    /// Decides the order of a window's batches; `None` leaves them sorted.
    key: Option<Key>,
}

impl Grouped {
    /// The samples of window `w`: its full batches, shortest samples in one, longest in another, in random
    /// order. What does not fill the epoch's last batch stays at its end, unsorted: which samples are left
    /// out by `drop_last` must not depend on their length.
    fn window(&self, w: usize) -> Vec<usize> {
        let full = self.order.len() / self.batch;
        let (first, last) = (w * self.window, ((w + 1) * self.window).min(full));
        if first >= full {
            return (full * self.batch..self.order.len()).filter_map(|i| self.order.at(i)).collect();
        }
        let mut samples: Vec<usize> =
            (first * self.batch..last * self.batch).filter_map(|i| self.order.at(i)).collect();
        // Stable: samples of equal length stay in their random order.
        samples.sort_by_key(|&i| self.lengths.get(i).copied().unwrap_or(0));
        let Some(key) = self.key else { return samples };
        let order = key.fold(w as u64).rng().permutation(last - first);
        order
            .into_iter()
            .flat_map(|b| samples[b * self.batch..(b + 1) * self.batch].iter().copied())
            .collect()
    }

    /// The window that place `i` lies in, and where it begins.
    fn window_at(&self, i: usize) -> (usize, usize) {
        let full = self.order.len() / self.batch;
        let b = i / self.batch;
        // The short last batch is a window of its own.
        if b >= full {
            (full.div_ceil(self.window), full * self.batch)
        } else {
            (b / self.window, b / self.window * self.window * self.batch)
        }
    }
}

impl Permutation {
    /// The permutation of `0..n` that `key` names.
    pub fn new(n: usize, key: Key) -> Self {
        let kind = if n <= TABLE {
            Kind::Table(key.rng().permutation(n))
        } else {
            let bits = usize::BITS - (n - 1).leading_zeros();
            Kind::Feistel { key: key.bits(), half: bits.div_ceil(2) }
        };
        Permutation { n, kind }
    }

    /// The identity of `0..n`.
    pub fn identity(n: usize) -> Self {
        Permutation { n, kind: Kind::Identity }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.n
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.n == 0
    }

    /// The image of `i`; `None` from `n` on.
    pub fn at(&self, i: usize) -> Option<usize> {
        if i >= self.n {
            return None;
        }
        match &self.kind {
            Kind::Identity => Some(i),
            Kind::Table(t) => t.get(i).copied(),
            Kind::Feistel { key, half } => {
                // Ends: the orbit of i under a bijection comes back to i < n at the latest.
                let mut x = feistel(*key, *half, i as u64);
                while x >= self.n as u64 {
                    x = feistel(*key, *half, x);
                }
                Some(x as usize)
            }
            Kind::Grouped(g) => {
                let (w, start) = g.window_at(i);
                g.window(w).get(i - start).copied()
            }
        }
    }

    /// The images of `from..to`, cut off at the end: what [`Permutation::at`] gives, at less cost where the
    /// order is by length.
    pub fn range(&self, from: usize, to: usize) -> Vec<usize> {
        let Kind::Grouped(g) = &self.kind else {
            return (from..to.min(self.n)).filter_map(|i| self.at(i)).collect();
        };
        let (mut out, mut i, to) = (Vec::with_capacity(to.saturating_sub(from)), from, to.min(self.n));
        while i < to {
            let (w, start) = g.window_at(i);
            let window = g.window(w);
            let end = (to - start).min(window.len());
            match window.get(i - start..end) {
                Some(part) if !part.is_empty() => out.extend_from_slice(part),
                _ => break,
            }
            i = start + end;
        }
        out
    }
}

fn feistel(key: u64, half: u32, x: u64) -> u64 {
    let mask = (1_u64 << half) - 1;
    let (mut left, mut right) = (x >> half, x & mask);
    for round in 0..ROUNDS {
        let b = philox(key, 0xFE15_7E10 + round, right);
        let f = (u64::from(b[0]) | (u64::from(b[1]) << 32)) & mask;
        (left, right) = (right, left ^ f);
    }
    (left << half) | right
}

/// The settings of a [`Sampler`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SamplerConfig {
    /// Samples in a batch, over all processes together.
    pub batch_size: usize,
    /// A new random order each epoch; else the data set's order.
    pub shuffle: bool,
    /// Leave out the last batch of an epoch if it is short.
    pub drop_last: bool,
    /// Decides the order.
    pub seed: u64,
    /// Index of this process.
    pub rank: usize,
    /// Number of processes that share each batch.
    pub world: usize,
}

impl Default for SamplerConfig {
    fn default() -> Self {
        SamplerConfig { batch_size: 256, shuffle: true, drop_last: true, seed: 0, rank: 0, world: 1 }
    }
}

/// Says which samples make up batch `b` of an epoch.
///
/// `batch_size` counts the samples of all processes: each takes a contiguous part of every batch, so the
/// sequence of batches, and with it the run, is the same for any number of processes.
#[derive(Clone, Debug)]
pub struct Sampler {
    len: usize,
    config: SamplerConfig,
    key: Key,
    /// Length of each sample, and batches in a window.
    lengths: Option<(Arc<[u32]>, usize)>,
}

impl Sampler {
    /// A sampler over `len` samples.
    ///
    /// # Errors
    /// [`Error::Config`] for no samples, a batch size of zero or below the number of processes, a rank
    /// outside the world; [`Error::TooFew`] for a batch larger than the data set with `drop_last` (no batch
    /// would ever come).
    pub fn new(len: usize, config: SamplerConfig) -> Result<Self> {
        let SamplerConfig { batch_size, drop_last, rank, world, .. } = config;
        if len == 0 {
            return Err(Error::config("the data set is empty"));
        }
        if batch_size == 0 {
            return Err(Error::config("batch_size is 0, expected at least 1"));
        }
        if rank >= world {
            return Err(Error::config(format!("rank {rank} of {world} processes: ranks count from 0")));
        }
        if batch_size < world {
            return Err(Error::config(format!(
                "batch_size {batch_size} is below the number of processes, {world}"
            )));
        }
        if drop_last && batch_size > len {
            return Err(Error::too_few(
                format!("batch size {batch_size}"),
                format!("there are {len} samples to make whole batches of: expected a batch of 1 to {len}"),
            ));
        }
        if !drop_last && len < world {
            return Err(Error::config(format!("{len} samples cannot be shared by {world} processes")));
        }
        let key = Key::new(config.seed).named("order");
        Ok(Sampler { len, config, key, lengths: None })
    }

    /// The same sampler with batches of samples of like length: each `window` batches of the (shuffled) order
    /// are sorted by length, and the batches of a window are shuffled. A wider window saves padding and ties
    /// samples of like length together; 16 to 64 is usual.
    ///
    /// # Errors
    /// [`Error::Config`] if there are not as many lengths as samples, or `window` is 0.
    pub fn by_length(self, lengths: impl Into<Arc<[u32]>>, window: usize) -> Result<Self> {
        let lengths = lengths.into();
        if lengths.len() != self.len || window == 0 {
            let found = lengths.len();
            return Err(Error::config(format!(
                "{found} lengths and a window of {window} batches, expected {} and at least 1",
                self.len
            )));
        }
        Ok(Sampler { lengths: Some((lengths, window)), ..self })
    }

    /// The same sampler for one rank of `world`: its part of every batch.
    ///
    /// # Errors
    /// [`Error::Config`] if there are fewer samples in a batch than ranks.
    pub fn in_world(self, world: &World) -> Result<Self> {
        let config = SamplerConfig { rank: world.rank(), world: world.size(), ..self.config };
        Ok(Sampler { lengths: self.lengths, ..Sampler::new(self.len, config)? })
    }

    /// The number of ranks that share each batch.
    pub fn ranks(&self) -> usize {
        self.config.world
    }

    /// Number of samples in the data set.
    pub fn samples(&self) -> usize {
        self.len
    }

    /// Batches in an epoch. A short last batch that cannot give each process a sample is left out.
    pub fn batches(&self) -> usize {
        let SamplerConfig { batch_size, drop_last, world, .. } = self.config;
        let rest = self.len % batch_size;
        self.len / batch_size + usize::from(!drop_last && rest >= world.max(1) && rest > 0)
    }

    /// The order of an epoch: a [`Permutation`] of the data set.
    pub fn order(&self, epoch: u64) -> Permutation {
        let key = self.key.fold(epoch);
        let order = if self.config.shuffle {
            Permutation::new(self.len, key)
        } else {
            Permutation::identity(self.len)
        };
        let Some((lengths, window)) = &self.lengths else { return order };
        let key = self.config.shuffle.then(|| key.named("windows"));
        let grouped =
            Grouped { order, lengths: lengths.clone(), batch: self.config.batch_size, window: *window, key };
        Permutation { n: self.len, kind: Kind::Grouped(Arc::new(grouped)) }
    }

    /// The part of batch `b` of `epoch` that this process takes, as numbers of samples; empty from
    /// [`Sampler::batches`] on.
    pub fn batch(&self, epoch: u64, b: usize) -> Vec<usize> {
        self.batch_of(&self.order(epoch), b)
    }

    /// [`Sampler::batch`] for an order that is at hand.
    pub fn batch_of(&self, order: &Permutation, b: usize) -> Vec<usize> {
        if b >= self.batches() {
            return Vec::new();
        }
        let first = b * self.config.batch_size;
        let (lo, hi) = self.share(self.config.batch_size.min(self.len - first));
        order.range(first + lo, first + hi)
    }

    /// Position of this process's first sample within batch `b` ([`crate::Pass::at`]).
    pub fn offset(&self, b: usize) -> usize {
        let first = b.saturating_mul(self.config.batch_size);
        self.share(self.config.batch_size.min(self.len.saturating_sub(first))).0
    }

    fn share(&self, size: usize) -> (usize, usize) {
        let SamplerConfig { rank, world, .. } = self.config;
        (size * rank / world, size * (rank + 1) / world)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn config(batch_size: usize, drop_last: bool) -> SamplerConfig {
        SamplerConfig { batch_size, drop_last, seed: 3, ..SamplerConfig::default() }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn is_a_permutation(n in 1_usize..6000, seed in 0_u64..1000) {
            let p = Permutation::new(n, Key::new(seed));
            let mut seen: Vec<usize> = (0..n).filter_map(|i| p.at(i)).collect();
            prop_assert!(p.at(n).is_none());
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..n).collect::<Vec<_>>());
        }

        #[test]
        fn by_length_is_a_permutation_of_like_lengths(n in 1_usize..700, batch in 1_usize..40, window in 1_usize..12, seed in 0_u64..50) {
            prop_assume!(batch <= n);
            let mut r = Key::new(seed).named("lengths").rng();
            let lengths: Vec<u32> = (0..n).map(|_| r.below(1000) as u32).collect();
            let s = Sampler::new(n, SamplerConfig { seed, ..config(batch, false) }).unwrap();
            let plain = s.order(2);
            let s = s.by_length(lengths.clone(), window).unwrap();
            let order = s.order(2);
            let batches: Vec<Vec<usize>> = (0..s.batches()).map(|b| s.batch_of(&order, b)).collect();
            let together: Vec<usize> = batches.concat();
            prop_assert_eq!(&together, &(0..n).filter_map(|i| order.at(i)).collect::<Vec<_>>());
            prop_assert_eq!(&order.range(n / 3, n + 7)[..], &together[n / 3..]);
            let mut sorted = together.clone();
            sorted.sort_unstable();
            prop_assert_eq!(sorted, (0..n).collect::<Vec<_>>());
            // Within a window no two batches overlap in length; what is left over is a random sample, not the
            // longest.
            let full = n / batch;
            for w in batches[..full].chunks(window) {
                let mut spans: Vec<(u32, u32)> = w
                    .iter()
                    .map(|b| b.iter().fold((u32::MAX, 0), |s, &i| (s.0.min(lengths[i]), s.1.max(lengths[i]))))
                    .collect();
                spans.sort_unstable();
                prop_assert!(spans.windows(2).all(|s| s[0].1 <= s[1].0), "{:?}", spans);
            }
            prop_assert_eq!(&together[full * batch..], &(full * batch..n).filter_map(|i| plain.at(i)).collect::<Vec<_>>()[..]);
        }

        #[test]
        fn shards_make_up_the_batch(n in 8_usize..500, batch in 4_usize..64, world in 1_usize..5, drop_last: bool) {
            prop_assume!(!drop_last || batch <= n);
            let whole = Sampler::new(n, config(batch, drop_last)).unwrap();
            let parts: Vec<Sampler> = (0..world)
                .map(|rank| Sampler::new(n, SamplerConfig { rank, world, ..config(batch, drop_last) }).unwrap())
                .collect();
            for b in 0..parts[0].batches() {
                let together: Vec<usize> = parts.iter().flat_map(|s| s.batch(5, b)).collect();
                prop_assert_eq!(&together, &whole.batch(5, b));
                prop_assert!(parts.iter().all(|s| !s.batch(5, b).is_empty()));
                let mut offset = 0;
                for s in &parts {
                    prop_assert_eq!(s.offset(b), offset);
                    offset += s.batch(5, b).len();
                }
            }
        }
    }

    #[test]
    fn an_epoch_visits_each_sample_once_and_epochs_differ() {
        let s = Sampler::new(5000, config(64, false)).unwrap();
        let epoch = |e| (0..s.batches()).flat_map(|b| s.batch(e, b)).collect::<Vec<_>>();
        let (a, b) = (epoch(0), epoch(1));
        assert_ne!(a, b);
        let mut sorted = a.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..5000).collect::<Vec<_>>());
        assert_eq!(s.batch(0, s.batches()), Vec::<usize>::new());
        let s = Sampler::new(5000, config(64, true)).unwrap();
        assert_eq!(s.batches(), 78);
        assert_eq!(s.batch(0, 77), a[77 * 64..78 * 64]);
        let s = Sampler::new(10, SamplerConfig { shuffle: false, ..config(4, false) }).unwrap();
        assert_eq!((s.batches(), s.batch(9, 2)), (3, vec![8, 9]));
    }

    #[test]
    fn by_length_differs_between_epochs_and_costs_a_window() {
        let lengths: Vec<u32> = (0..100_000_u32).map(|i| i * 7919 % 100_003).collect();
        let s = Sampler::new(lengths.len(), config(32, true)).unwrap().by_length(lengths, 16).unwrap();
        let (first, again, other) = (s.batch(0, 3000), s.batch(0, 3000), s.batch(1, 3000));
        assert_eq!(first, again);
        assert_ne!(first, other);
        let start = std::time::Instant::now();
        let order = s.order(7);
        (0..100).for_each(|b| assert_eq!(s.batch_of(&order, b * 31).len(), 32));
        assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
        let s = Sampler::new(6, SamplerConfig { shuffle: false, ..config(2, false) }).unwrap();
        let s = s.by_length(vec![5, 1, 4, 2, 3, 0], 2).unwrap();
        assert_eq!((0..3).flat_map(|b| s.batch(0, b)).collect::<Vec<_>>(), [1, 3, 2, 0, 5, 4]);
        let s = Sampler::new(6, config(2, false)).unwrap();
        assert!(s.clone().by_length(vec![1; 5], 2).unwrap_err().to_string().contains("5 lengths"));
        assert!(s.by_length(vec![1; 6], 0).is_err());
    }

    /// Where an element goes is uniform, and neighbours are torn apart: chi-square over keys with 15 degrees
    /// of freedom stays below 45.
    #[test]
    fn is_uniform() {
        let n = 1600;
        let (mut place, mut gap) = ([0_f64; 16], [0_f64; 16]);
        let trials = 20_000;
        for t in 0..trials {
            let p = Permutation::new(n, Key::new(t));
            let (x, y) = (p.at(3).unwrap(), p.at(4).unwrap());
            place[x * 16 / n] += 1.0;
            gap[((y + n - x) % n) * 16 / n] += 1.0;
        }
        let expected = trials as f64 / 16.0;
        for counts in [place, gap] {
            let chi: f64 = counts.iter().map(|c| (c - expected).powi(2) / expected).sum();
            assert!(chi < 45.0, "{chi}: {counts:?}");
        }
    }

    #[test]
    fn huge_data_sets_cost_nothing() {
        let s = Sampler::new(1 << 40, config(8, true)).unwrap();
        let b = s.batch(2, 77_000_000_000);
        assert_eq!(b.len(), 8);
        assert!(b.iter().all(|&i| i < 1 << 40));
    }

    #[test]
    fn what_cannot_be_used_is_refused() {
        let e = Sampler::new(10, config(16, true)).unwrap_err();
        assert!(matches!(e, Error::TooFew { .. }));
        assert!(e.to_string().contains("16") && e.to_string().contains("10"), "{e}");
        assert!(Sampler::new(0, config(1, false)).is_err());
        assert!(Sampler::new(10, config(0, true)).is_err());
        assert!(Sampler::new(10, SamplerConfig { rank: 2, world: 2, ..config(4, true) }).is_err());
        assert!(Sampler::new(10, SamplerConfig { rank: 0, world: 5, ..config(4, true) }).is_err());
    }
}

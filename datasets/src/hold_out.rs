//! Dividing a set in two for ever: by a hash of each record's group, or of its index where there are no
//! groups.
//!
//! The same records are held out in every run, on every machine: a group never stands on both sides. Where
//! the hash alone comes within a tenth of the share, as it does where records or groups are many, it decides,
//! and a record that joins the end of the set moves no other. Where it does not (few groups, or very large
//! ones), groups are taken in the order of their hashes as long as they bring the part nearer to the share.

use crate::record::Records;
use selfsup_core::{Error, Result};
use std::collections::BTreeMap;

/// The hash alone decides if the part that it holds out is within this much of the share.
const NEAR: f64 = 0.1;

/// A set divided in two.
#[derive(Clone, Debug, PartialEq)]
pub struct Division {
    /// Indices to train on, rising.
    pub kept: Vec<usize>,
    /// Indices held out, rising.
    pub out: Vec<usize>,
    /// Groups of which records are kept, and those held out; `None` where the set has no groups.
    pub groups: Option<[usize; 2]>,
}

impl Division {
    /// The share of the records that is held out.
    pub fn share(&self) -> f64 {
        self.out.len() as f64 / (self.kept.len() + self.out.len()).max(1) as f64
    }
}

/// Indices to train on and indices held out, each rising: those of [`divide`].
///
/// # Errors
/// As [`divide`].
pub fn hold_out(records: &dyn Records, share: f64, salt: u64) -> Result<(Vec<usize>, Vec<usize>)> {
    divide(records, share, salt).map(|d| (d.kept, d.out))
}

/// Divides the records: whole groups are held out, the part nearest to `share` of the records, and at least
/// one group where there are two. Records without a group are groups of their own. `salt` gives another
/// division of the same set.
///
/// # Errors
/// [`Error::TooFew`] if one side would be empty: a single group, or records without groups of which the share
/// is less than half of one; [`Error::Input`] if `share` is not between 0 and 1.
pub fn divide(records: &dyn Records, share: f64, salt: u64) -> Result<Division> {
    if !(share > 0.0 && share < 1.0) {
        return Err(Error::input(
            "hold_out",
            format_args!("share is {share}, expected a number between 0 and 1"),
        ));
    }
    let n = records.len();
    let (mut units, mut groups): (Vec<Unit>, BTreeMap<String, Vec<usize>>) = (Vec::new(), BTreeMap::new());
    for i in 0..n {
        match records.group(i) {
            Some(group) => groups.entry(group).or_default().push(i),
            None => {
                let hash = unit(salt, b'i', &(i as u64).to_le_bytes());
                units.push(Unit { hash, first: i, more: Vec::new() });
            }
        }
    }
    let grouped = !groups.is_empty();
    for (name, members) in groups {
        let [first, ref more @ ..] = members[..] else { continue };
        units.push(Unit { hash: unit(salt, b'g', name.as_bytes()), first, more: more.to_vec() });
    }
    // Equal hashes keep their order.
    units.sort_by(|a, b| a.hash.total_cmp(&b.hash));
    let target = share * n as f64;
    let hashed = units.partition_point(|u| u.hash < share);
    let held: usize = units[..hashed].iter().map(Unit::len).sum();
    let near = (held as f64 - target).abs() <= NEAR * target;
    let out: Vec<bool> = if near && hashed > 0 && hashed < units.len() {
        (0..units.len()).map(|k| k < hashed).collect()
    } else {
        nearest(&units, target, grouped)
    };
    let side = |wanted: bool| {
        let units = units.iter().zip(&out).filter(|(_, out)| **out == wanted).map(|(unit, _)| unit);
        let members = units.clone().flat_map(|u| std::iter::once(&u.first).chain(&u.more));
        let mut members: Vec<usize> = members.copied().collect();
        members.sort_unstable();
        (units.count(), members)
    };
    let ((groups_kept, kept), (groups_out, out)) = (side(false), side(true));
    if kept.is_empty() || out.is_empty() {
        let what = if grouped { "groups" } else { "records" };
        let problem = format_args!(
            "a share of {share} of {n} records ({} {what}) leaves {} to train on and {} held out, expected some \
             on each side: more {what}, or another share",
            units.len(),
            kept.len(),
            out.len()
        );
        return Err(Error::too_few("hold_out", problem));
    }
    Ok(Division { kept, out, groups: grouped.then_some([groups_kept, groups_out]) })
}

/// A group, or a record that has none.
struct Unit {
    hash: f64,
    first: usize,
    more: Vec<usize>,
}

impl Unit {
    fn len(&self) -> usize {
        1 + self.more.len()
    }
}

/// Takes units in their order as long as each brings the sum nearer to `target`, and leaves at least one;
/// with `one`, the unit nearest to the target is taken where none did.
fn nearest(units: &[Unit], target: f64, one: bool) -> Vec<bool> {
    let off = |sum: usize| (sum as f64 - target).abs();
    let (mut out, mut sum, mut left) = (vec![false; units.len()], 0, units.len());
    for (taken, unit) in out.iter_mut().zip(units) {
        if left > 1 && off(sum + unit.len()) < off(sum) {
            *taken = true;
            sum += unit.len();
            left -= 1;
        }
    }
    if one && sum == 0 && units.len() > 1 {
        let sizes = units.iter().map(Unit::len);
        let best = sizes.enumerate().min_by(|a, b| off(a.1).total_cmp(&off(b.1)));
        if let Some((k, _)) = best {
            out[k] = true;
        }
    }
    out
}

/// A number in `[0, 1)` from a hash. The kind keeps a group that is called like an index apart from that
/// index.
fn unit(salt: u64, kind: u8, bytes: &[u8]) -> f64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(&[kind]);
    hasher.update(bytes);
    let mut eight = [0; 8];
    eight.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    // 53 bits: every value is exact.
    (u64::from_le_bytes(eight) >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Record;

    /// `n` records in groups of `size`; 0: no groups.
    struct Groups(usize, usize);
    impl Records for Groups {
        fn len(&self) -> usize {
            self.0
        }
        fn get(&self, _: usize) -> Result<Record> {
            Err(Error::input("test", "contents are not read for a division"))
        }
        fn group(&self, i: usize) -> Option<String> {
            (self.1 > 0).then(|| (i / self.1).to_string())
        }
    }

    #[test]
    fn groups_stay_whole_and_the_share_is_met() {
        for size in [0, 1, 7] {
            let (kept, out) = hold_out(&Groups(21_000, size), 0.2, 0).unwrap();
            let share = out.len() as f64 / 21_000.0;
            assert!((share - 0.2).abs() < 0.03, "{share}");
            let mut all = [kept.clone(), out.clone()].concat();
            all.sort_unstable();
            assert_eq!(all, (0..21_000).collect::<Vec<_>>());
            if size > 0 {
                let kept: std::collections::BTreeSet<_> = kept.iter().map(|i| i / size).collect();
                assert!(out.iter().all(|i| !kept.contains(&(i / size))));
            }
        }
    }

    /// Groups of these sizes.
    struct Sizes(Vec<usize>);
    impl Records for Sizes {
        fn len(&self) -> usize {
            self.0.iter().sum()
        }
        fn get(&self, _: usize) -> Result<Record> {
            Err(Error::input("test", "contents are not read for a division"))
        }
        fn group(&self, i: usize) -> Option<String> {
            let mut end = 0;
            self.0
                .iter()
                .position(|n| {
                    end += n;
                    i < end
                })
                .map(|g| format!("p{g}"))
        }
    }

    #[test]
    fn few_groups_are_held_out_nearest_to_the_share() {
        for (sizes, share, groups, records) in [
            // 5 patients of 48 images, 20 of 12: exactly a fifth.
            (vec![48; 5], 0.2, [4, 1], 48),
            (vec![12; 20], 0.2, [16, 4], 48),
            // At least one of two, and never all.
            (vec![10; 2], 0.01, [1, 1], 10),
            (vec![10; 2], 0.99, [1, 1], 10),
            // The large one would be half of all: the small ones are taken.
            (vec![50, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5], 0.2, [7, 4], 20),
            (vec![90, 10], 0.3, [1, 1], 10),
        ] {
            for salt in 0..5 {
                let found = divide(&Sizes(sizes.clone()), share, salt).unwrap();
                assert_eq!((found.groups, found.out.len()), (Some(groups), records), "{sizes:?} {salt}");
                assert!((found.share() - records as f64 / sizes.iter().sum::<usize>() as f64).abs() < 1e-12);
            }
        }
        // Records by themselves: the nearest number, and none where that is 0.
        assert_eq!(divide(&Groups(10, 0), 0.1, 0).unwrap().out.len(), 1);
        assert!(matches!(divide(&Groups(3, 0), 0.1, 0), Err(Error::TooFew { .. })));
    }

    #[test]
    fn a_division_stays_as_the_set_grows() {
        let (_, small) = hold_out(&Groups(1000, 0), 0.1, 3).unwrap();
        let (_, large) = hold_out(&Groups(2000, 0), 0.1, 3).unwrap();
        assert_eq!(large[..small.len()], small);
        assert_ne!(hold_out(&Groups(1000, 0), 0.1, 4).unwrap().1, small);
        // For ever: these must not change from release to release.
        assert_eq!(small[..5], [0, 3, 10, 14, 38]);
    }

    #[test]
    fn wrong_shares_and_empty_sides() {
        for share in [0.0, 1.0, -0.1, f64::NAN] {
            assert!(hold_out(&Groups(10, 0), share, 0).unwrap_err().to_string().contains("share"));
        }
        assert!(hold_out(&Groups(100, 100), 0.5, 0).unwrap_err().to_string().contains("each side"));
        assert!(hold_out(&Groups(0, 0), 0.5, 0).is_err());
    }
}

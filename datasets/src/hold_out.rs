//! Dividing a set in two for ever: by a hash of each record's group, or of its index where there are no
//! groups.
//!
//! The same records are held out in every run, on every machine, and whatever else is in the set: a group
//! never stands on both sides, and a record that joins the end of the set moves no other.

use crate::record::Records;
use selfsup_core::{Error, Result};

/// Indices to train on and indices held out, each rising: about `share` of the groups (or records) are held
/// out. `salt` gives another division of the same set.
///
/// # Errors
/// [`Error::TooFew`] if one side would be empty (too few records or groups); [`Error::Input`] if `share` is
/// not between 0 and 1.
pub fn hold_out(records: &dyn Records, share: f64, salt: u64) -> Result<(Vec<usize>, Vec<usize>)> {
    if !(share > 0.0 && share < 1.0) {
        return Err(Error::input(
            "hold_out",
            format_args!("share is {share}, expected a number between 0 and 1"),
        ));
    }
    let (out, kept): (Vec<usize>, Vec<usize>) = (0..records.len()).partition(|&i| match records.group(i) {
        Some(group) => unit(salt, b'g', group.as_bytes()) < share,
        None => unit(salt, b'i', &(i as u64).to_le_bytes()) < share,
    });
    if kept.is_empty() || out.is_empty() {
        let problem = format_args!(
            "a share of {share} of {} records leaves {} to train on and {} held out, expected some on each side: more records or groups, or another share",
            records.len(),
            kept.len(),
            out.len()
        );
        return Err(Error::too_few("hold_out", problem));
    }
    Ok((kept, out))
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

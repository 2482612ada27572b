//! Whether the samples are copies of each other: the one collapse that no objective can prevent, and that shows
//! before the first step.

use crate::set::{Set, evenly};
use selfsup_core::objective::Gauge;
use selfsup_core::objective::gauge::COPIES;
use selfsup_core::{Result, sha256};
use selfsup_datasets::{Record, Source};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// Samples that are looked at, evenly over the set.
const LOOKED_AT: usize = 64;
/// The share of copies that is still healthy.
const MOST: f64 = 0.5;
/// Fewer say nothing.
const FEWEST: usize = 4;
/// Bytes that are compared at the start, in the middle and at the end of a content.
const PIECE: usize = 1 << 16;

/// The share of samples whose content, byte for byte, another one has too; of large contents three pieces are
/// compared. `None` for fewer than four samples, where that says nothing.
///
/// A sample that cannot be read counts as one of a kind: whoever reads it to train on it says why.
///
/// # Errors
/// Never: what cannot be read is left out.
pub fn copies(set: &Set) -> Result<Option<Gauge>> {
    let count = set.len().min(LOOKED_AT);
    if count < FEWEST {
        return Ok(None);
    }
    let mut sizes: BTreeMap<u64, Vec<Record>> = BTreeMap::new();
    for i in evenly(count, set.len()) {
        if let Ok(record) = set.records().get(i)
            && let Some(bytes) = size(&record.source)
        {
            sizes.entry(bytes).or_default().push(record);
        }
    }
    let mut twice = 0;
    for (bytes, records) in sizes.into_iter().filter(|(_, records)| records.len() > 1) {
        let mut digests: BTreeMap<String, usize> = BTreeMap::new();
        for record in records {
            if let Some(digest) = digest(&record.source, bytes) {
                *digests.entry(digest).or_default() += 1;
            }
        }
        twice += digests.values().filter(|n| **n > 1).sum::<usize>();
    }
    Ok(Some(Gauge::below(COPIES, twice as f64 / count as f64, MOST)))
}

/// The bytes of a content, where it is a file or at hand.
fn size(source: &Source) -> Option<u64> {
    match source {
        Source::File(path) => Some(selfsup_core::file::regular(path).ok()?.len()),
        Source::Bytes(data) | Source::Pixels { data, .. } => Some(data.len() as u64),
    }
}

fn digest(source: &Source, bytes: u64) -> Option<String> {
    let pieces = match source {
        Source::File(path) => of_file(path, bytes)?,
        Source::Bytes(data) | Source::Pixels { data, .. } => {
            starts(bytes).iter().flat_map(|&at| data.iter().skip(at as usize).take(PIECE)).copied().collect()
        }
    };
    sha256::of(pieces.as_slice()).ok()
}

/// Where the pieces of a content begin.
fn starts(bytes: u64) -> Vec<u64> {
    let piece = PIECE as u64;
    if bytes <= 3 * piece {
        (0..bytes.div_ceil(piece)).map(|i| i * piece).collect()
    } else {
        vec![0, bytes / 2, bytes - piece]
    }
}

fn of_file(path: &Path, bytes: u64) -> Option<Vec<u8>> {
    let mut file: File = selfsup_core::file::open(path).ok()?;
    let mut pieces = Vec::new();
    for at in starts(bytes) {
        file.seek(SeekFrom::Start(at)).ok()?;
        (&mut file).take(PIECE as u64).read_to_end(&mut pieces).ok()?;
    }
    Some(pieces)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use selfsup_datasets::Kind;

    fn share(contents: &[Vec<u8>]) -> Option<f64> {
        let dir = tempfile::tempdir().unwrap();
        for (i, content) in contents.iter().enumerate() {
            std::fs::write(dir.path().join(format!("{i:03}.png")), content).unwrap();
        }
        let what = dir.path().display().to_string();
        let reading = selfsup_datasets::Reading::default();
        let set = Set::new(selfsup_datasets::open_kind_with(&what, Kind::Vision, &reading).unwrap());
        copies(&set).unwrap().map(|g| g.value)
    }

    #[test]
    fn copies_are_counted_by_content() {
        let other = |i: u8| vec![i; 10];
        let all = |n: u8, f: &dyn Fn(u8) -> Vec<u8>| (0..n).map(f).collect::<Vec<_>>();
        assert_eq!(share(&all(16, &other)), Some(0.0));
        assert_eq!(share(&all(16, &|_| vec![7; 10])), Some(1.0));
        assert_eq!(share(&all(16, &|i| other(i / 8 * (i + 1)))), Some(0.5));
        assert_eq!(share(&all(3, &|_| vec![7; 10])), None);
    }

    #[test]
    fn large_files_differ_in_the_middle_and_at_the_end() {
        let at = |i: u8, place: usize| {
            let mut content = vec![0; 1 << 20];
            content[place] = i;
            content
        };
        let share_at = |place| share(&(0..8).map(|i| at(i, place)).collect::<Vec<_>>());
        assert_eq!([0, 1 << 19, (1 << 20) - 1].map(share_at), [Some(0.0); 3]);
        // Between the pieces nobody looks.
        assert_eq!(share_at(100_000), Some(1.0));
    }
}

//! Colin27: one man's head, the average of 27 scans (Holmes et al. 1998), with an atlas of its parts; and a
//! macaque's.
//!
//! - what: `colin27`, T1-weighted MR of 181 x 217 x 181 voxels of 1 mm, with the 116 regions of AAL
//!   (Tzourio-Mazoyer et al. 2002) merged into ten structures by the first digits of their codes; `inia19`,
//!   T1 of 168 x 206 x 128 voxels of 0.5 mm, the mean of 19 macaques, with the regions of NeuroMaps (Rohlfing
//!   et al. 2012)
//! - source: Debian package `mricron-data` (16 MB), or its files in the folder `colin27` of the cache
//! - licence: BSD-3-Clause (MRIcron)
//! - use: segmentation that intensity cannot solve (patches without coordinates, a slab held out); another
//!   subject and another species. Grids differ between files of the package: go through the affines.

use crate::card::Card;
use crate::fetch::{Client, Holds, Package, fetch};
use crate::kind::Kind;
use crate::volumes::{Volume, Volumes, byte_nifti, write_gzip};
use selfsup_core::{Error, Result};
use std::path::Path;

/// The structures, by label value.
pub const STRUCTURES: [&str; 11] = [
    "background",
    "frontal",
    "insula",
    "cingulum",
    "hippocampus and amygdala",
    "occipital",
    "parietal",
    "basal ganglia",
    "thalamus",
    "temporal",
    "cerebellum",
];

const VOXELS: usize = 181 * 217 * 181;

const PACKAGE: Package = Package {
    client: Client::Apt,
    name: "mricron-data",
    version: "1.2.20211006+dfsg-4",
    sha256: "d40aa0ed66cf89bf6cafa049ad3884703c9d975c2ee2737525b7196528df9d6f",
    holds: Holds { files: 6, bytes: 8_271_956 },
    keep: &[
        "usr/share/mricron/templates/ch2.nii.gz",
        "usr/share/mricron/templates/ch2bet.nii.gz",
        "usr/share/mricron/templates/aal.nii.gz",
        "usr/share/mricron/templates/aal.nii.txt",
        "usr/share/mricron/templates/inia19-t1-brain.nii.gz",
        "usr/share/mricron/templates/inia19-NeuroMaps.nii.gz",
    ],
};

/// The cards of this data set.
pub const CARDS: [Card; 2] = [
    Card {
        name: "colin27",
        kind: Kind::Medical,
        about: "T1 of one head at 1 mm, ten structures of the brain as labels",
        licence: "BSD-3-Clause",
        size: "16 MB",
        source: "apt-get download mricron-data",
        open: || Ok(Box::new(open(&fetch("colin27", &PACKAGE)?)?)),
    },
    Card {
        name: "inia19",
        kind: Kind::Medical,
        about: "T1 of the macaque's brain at 0.5 mm, its regions as labels",
        licence: "BSD-3-Clause",
        size: "16 MB",
        source: "apt-get download mricron-data",
        open: || Ok(Box::new(inia19(&fetch("colin27", &PACKAGE)?)?)),
    },
];

/// The head in a folder with the package's files; the structures are written there the first time.
///
/// # Errors
/// If a file is not there or damaged.
pub fn open(folder: &Path) -> Result<Volumes> {
    let mask = folder.join("structures.nii.gz");
    if !mask.is_file() {
        let (header, regions) = byte_nifti(&folder.join("aal.nii.gz"), VOXELS)?;
        let path = folder.join("aal.nii.txt");
        let table = merged(&path, &selfsup_core::file::text(&path)?)?;
        let structures: Vec<u8> = regions.iter().map(|r| table[usize::from(*r)]).collect();
        write_gzip(&mask, &[&header, &structures])?;
    }
    let volume =
        Volume { image: folder.join("ch2.nii.gz"), mask: Some(mask), subject: "colin27".to_string() };
    Volumes::new(vec![volume], &STRUCTURES)
}

/// The macaque's brain; its regions have numbers and no names here.
///
/// # Errors
/// If a file is not there.
pub fn inia19(folder: &Path) -> Result<Volumes> {
    let (image, mask) = (folder.join("inia19-t1-brain.nii.gz"), folder.join("inia19-NeuroMaps.nii.gz"));
    Volumes::new(vec![Volume { image, mask: Some(mask), subject: "inia19".to_string() }], &[])
}

/// For each value of AAL the structure, from lines `value name code`: codes 2xxx are frontal, 40xx the
/// cingulum ...
fn merged(path: &Path, text: &str) -> Result<[u8; 256]> {
    let mut table = [0; 256];
    for (number, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let bad =
            || Error::file(path, format_args!("line {} is `{line}`, expected `value name code`", number + 1));
        let [value, _, code] = line.split_whitespace().collect::<Vec<_>>()[..] else { return Err(bad()) };
        let (value, code): (u8, u16) = (value.parse().map_err(|_| bad())?, code.parse().map_err(|_| bad())?);
        table[usize::from(value)] = match code {
            2000..3000 => 1,
            3000..4000 => 2,
            4000..4100 => 3,
            4100..5000 => 4,
            5000..6000 => 5,
            6000..7000 => 6,
            7000..7100 => 7,
            7100..8000 => 8,
            8000..9000 => 9,
            9000..10000 => 10,
            _ => return Err(bad()),
        };
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Records;

    #[test]
    fn codes_become_structures() {
        let path = Path::new("aal.nii.txt");
        let table = merged(
            path,
            "1 Precentral_L 2001\r\n37 Hippocampus_L 4101\n78 Thalamus_R 7102\n116 Vermis_10 9170\n\n",
        )
        .unwrap();
        assert_eq!(
            [0, 1, 37, 78, 116].map(|v: usize| STRUCTURES[usize::from(table[v])]),
            ["background", "frontal", "hippocampus and amygdala", "thalamus", "cerebellum"]
        );
        for bad in ["1 x", "1 x 1000", "300 x 2001", "x y z"] {
            assert!(merged(path, bad).unwrap_err().to_string().contains("line 1"), "{bad}");
        }
        let dir = tempfile::tempdir().unwrap();
        assert!(open(dir.path()).err().unwrap().to_string().contains("aal.nii.gz"));
    }

    /// Fetches 16 MB: run with `--ignored` where there is apt-get and a network.
    #[test]
    #[ignore = "fetches a package"]
    fn fetched() {
        let set = (CARDS[0].open)().unwrap();
        let (_, structures) = byte_nifti(&set.mask(0).unwrap(), VOXELS).unwrap();
        let mut counts = [0usize; 11];
        structures.iter().for_each(|s| counts[usize::from(*s)] += 1);
        // Millilitres of 1 mm^3: each structure is there, the frontal lobe is the largest.
        assert!(counts.iter().all(|n| *n > 10_000), "{counts:?}");
        assert!(counts[2..].iter().all(|n| *n < counts[1]), "{counts:?}");
        assert_eq!((CARDS[1].open)().unwrap().group(0).as_deref(), Some("inia19"));
    }
}

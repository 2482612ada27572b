//! Ten structures of a brain, which intensity cannot tell apart: pre-training without labels, then a
//! segmentation from a few labelled slabs.
//!
//!     cargo run --release --example medical-anatomy -- T1 ATLAS NAMES FOLDER [--starts scratch,genesis] [--steps 400] [--tune 300] [--labels 1,2]
//!         [--extra FILE ...]
//!
//! `T1`, `ATLAS` and `NAMES` are Colin27 with the AAL atlas (`ch2bet.nii.gz`, `aal.nii.gz`, `aal.nii.txt` of
//! Debian's mricron-data); their grids differ, so the atlas goes through the affines. Patches carry no
//! coordinates. Labelled slabs lie in the left hemisphere, the tested one in the right, and nothing of it is
//! seen before.

#![allow(clippy::print_stdout)] // a report is what this program is

#[path = "../medical-tissue/study/mod.rs"]
mod study;

use anyhow::{Context, Result, bail};
use selfsup::medical::Volume;
use selfsup::medical::read::{self, ReadConfig};
use selfsup::medical::transform::resample_to;
use std::path::Path;
use study::{Options, Task, part, read_standardised, standardised};

/// The structures, and how the atlas' names of their regions begin.
const STRUCTURES: [(&str, &[&str]); 10] = [
    ("frontal", &["Frontal", "Precentral", "Rolandic", "Supp_Motor", "Olfactory", "Rectus"]),
    ("parietal", &["Parietal", "Postcentral", "SupraMarginal", "Angular", "Precuneus", "Paracentral"]),
    ("temporal", &["Temporal", "Heschl", "Fusiform"]),
    ("occipital", &["Occipital", "Calcarine", "Cuneus", "Lingual"]),
    ("insula", &["Insula"]),
    ("cingulum", &["Cingulum"]),
    ("hippocampus", &["Hippocampus", "ParaHippocampal", "Amygdala"]),
    ("striatum", &["Caudate", "Putamen", "Pallidum"]),
    ("thalamus", &["Thalamus"]),
    ("cerebellum", &["Cerebelum", "Vermis"]),
];

/// Sagittal planes of Colin27: 181 of 1 mm, the middle at 90. No more of the surroundings is seen than lies
/// between the hemispheres.
const TASK: Task = Task {
    patch: [48, 48, 32],
    classes: 11,
    slices: false,
    flip: [0.0, 0.0, 0.5],
    axis: 2,
    test: 108..148,
    around: 8,
};
/// Planes that pre-training sees.
const SEEN: usize = 100;

/// The structure of each of the atlas' numbers.
fn structures(names: &Path) -> Result<Vec<u16>> {
    let text = std::fs::read_to_string(names).with_context(|| names.display().to_string())?;
    let mut of = vec![0u16];
    for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let mut words = line.split_whitespace();
        let (Some(Ok(number)), Some(name)) = (words.next().map(str::parse::<usize>), words.next()) else {
            bail!("{}: line {}: expected a number and a name", names.display(), i + 1);
        };
        let Some(s) = STRUCTURES.iter().position(|(_, starts)| starts.iter().any(|s| name.starts_with(s)))
        else {
            bail!("{}: line {}: no structure for {name}", names.display(), i + 1);
        };
        if number > 10_000 {
            bail!("{}: line {}: {number} is no region of this atlas", names.display(), i + 1);
        }
        of.resize(of.len().max(number + 1), 0);
        of[number] = s as u16 + 1;
    }
    Ok(of)
}

fn main() -> Result<()> {
    let o = Options::read(4, "a T1, its atlas, the atlas' names and a folder for the runs", &[1, 2])?;
    // Not cropped: planes are counted.
    let t1 = standardised(read::volume(&o.paths[0], &ReadConfig::default())?)?;
    let of = structures(&o.paths[2])?;
    let atlas = read::volume(&o.paths[1], &ReadConfig::default())?;
    let regions = selfsup::medical::volume::whole(atlas.id(), atlas.values())?;
    let there = resample_to(&atlas.with_labels(regions)?, t1.grid(), 0.0)?;
    let labels = there
        .labels()
        .context("no labels")?
        .iter()
        .map(|&l| of.get(usize::from(l)).copied().unwrap_or(0))
        .collect();
    let scan = t1.with_labels(labels)?;
    if scan.shape()[2] < TASK.test.end + TASK.patch[2] {
        bail!("{} has {} sagittal planes, expected Colin27's 181", scan.id(), scan.shape()[2]);
    }
    let mut unlabelled = vec![part(&scan, 2, 0..SEEN)?];
    for file in &o.extra {
        unlabelled.push(read_standardised(file)?);
    }
    // Slabs as wide as a patch, evenly over the left hemisphere.
    let labelled = |n: usize, patch: [usize; 3]| -> Result<Vec<Volume>> {
        let width = patch[2];
        let room = 88 - width - 8;
        (0..n)
            .map(|i| {
                part(&scan, 2, 8 + (2 * i + 1) * room / (2 * n)..8 + (2 * i + 1) * room / (2 * n) + width)
            })
            .collect()
    };
    let names: Vec<&str> = STRUCTURES.iter().map(|(name, _)| *name).collect();
    TASK.run(&o, &scan, unlabelled, &names, labelled)
}

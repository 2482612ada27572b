//! Pre-training on volumes without labels, and what it is worth with a few labelled slices: grey matter,
//! white matter and the rest of a head in a poor scan.
//!
//!     cargo run --release --example medical-tissue -- DATA FOLDER [--starts scratch,genesis] [--steps 400] [--tune 300] [--seeds 1]
//!         [--labels 2,8,35] [--extra FILE ...]
//!
//! `DATA` holds the MNI template of nilearn (`*t1*`, `*gm*`, `*wm*` .nii.gz); `--extra` adds unlabelled
//! volumes. Slices from z 20 to 89 are labelled, z 100 to 149 is tested; nothing of the tested slab is seen
//! before.

#![allow(clippy::print_stdout)] // a report is what this program is

mod degrade;
mod study;

use anyhow::{Context, Result};
use selfsup::medical::Volume;
use selfsup::medical::read::{self, ReadConfig};
use std::path::{Path, PathBuf};
use study::{Options, Task, part, read_standardised, standardised};

/// Flat patches, since slices are labelled.
const TASK: Task = Task {
    patch: [4, 96, 96],
    classes: 4,
    slices: true,
    flip: [0.0, 0.0, 0.5],
    axis: 0,
    test: 100..150,
    around: 4,
};

fn find(folder: &Path, word: &str) -> Result<PathBuf> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut files: Vec<PathBuf> = entries.filter_map(|f| Some(f.ok()?.path())).collect();
    files.sort();
    let name = |p: &PathBuf| p.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let found = files.into_iter().find(|p| name(p).contains(word) && name(p).ends_with(".nii.gz"));
    found.with_context(|| format!("{}: no *{word}*.nii.gz", folder.display()))
}

/// The poor scan with its classes: 1 grey, 2 white, 3 other voxels with signal, 0 background.
fn template(folder: &Path) -> Result<Volume> {
    let read =
        |word: &str| -> Result<Volume> { Ok(read::volume(find(folder, word)?, &ReadConfig::default())?) };
    let (t1, grey, white) = (read("t1")?, read("gm")?, read("wm")?);
    let most = |v: &Volume| v.values().iter().copied().fold(f32::MIN_POSITIVE, f32::max);
    let (g, w) = (most(&grey), most(&white));
    let class = |((&t, &a), &b): ((&f32, &f32), &f32)| {
        if a / g > 0.5 {
            1
        } else if b / w > 0.5 {
            2
        } else {
            3 * u16::from(t > 0.0)
        }
    };
    let labels = t1.values().iter().zip(grey.values()).zip(white.values()).map(class).collect();
    // numpy's array is (i, j, k) with k fastest; ours is (z, y, x) of RAS+.
    let stored = t1.stored().context("the template was not read from a file")?.clone();
    let [i, j, k] = stored.shape();
    let [d, h, width] = t1.shape();
    let place = |v: usize| {
        let [a, b, c] = stored.index([v / (h * width), v / width % h, v % width]);
        (a * j + b) * k + c
    };
    let places: Vec<usize> = (0..d * h * width).map(place).collect();
    let mut array = vec![0f32; i * j * k];
    places.iter().zip(t1.values()).for_each(|(&at, &v)| array[at] = v);
    let poor = degrade::degrade(&array, [i, j, k]);
    let values = places.iter().map(|&at| poor[at]).collect();
    standardised(Volume::new("degraded template", t1.grid().clone(), values)?.with_labels(labels)?)
}

fn main() -> Result<()> {
    let o = Options::read(2, "the folder of the template and a folder for the runs", &[2, 8, 35])?;
    let scan = template(&o.paths[0])?;
    // Nothing of the tested slab.
    let mut unlabelled = vec![part(&scan, 0, 0..TASK.test.start)?];
    for file in &o.extra {
        unlabelled.push(read_standardised(file)?);
    }
    // A labelled slice with what the network may see around it: up to plane 92.
    let labelled = |n: usize, patch: [usize; 3]| -> Result<Vec<Volume>> {
        let beside = patch[0] - 1;
        let step = if n > 1 { 69.0 / (n - 1) as f64 } else { 0.0 };
        let slices = (0..n).map(|i| (20.0 + step * i as f64).round() as usize);
        slices.map(|z| part(&scan, 0, z - beside..z + beside + 1)).collect()
    };
    TASK.run(&o, &scan, unlabelled, &["grey", "white", "other"], labelled)
}

//! What the folders of a data set mean: splits (`train`, `val`), label images beside the images (`masks`,
//! `labelsTr`, `scan_seg.nii.gz`), classes.

mod beside;
mod names;
#[cfg(test)]
mod tests;
mod without_labels;

pub(crate) use beside::masks_of;

use crate::split::Split;
use names::{OFF, folders, lower_stem, plain, role_of};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use without_labels::without_labels;

/// How folders are understood: `data.layout`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// Folders of splits divide the set, and label images are no samples.
    #[default]
    Auto,
    /// Folders of the first level are classes, whatever they are called, and every file is a sample.
    Plain,
}

/// Files with what their folders say.
#[derive(Clone, Debug, Default)]
pub struct Arranged {
    /// The samples, in their order.
    pub files: Vec<PathBuf>,
    /// The part of each; all `None` where folders do not divide them.
    pub splits: Vec<Option<Split>>,
    /// The class of each by its folder; all `None` where folders say none.
    pub classes: Vec<Option<String>>,
    /// The subject of each by BIDS' folders `sub-...`; all `None` where there are none.
    pub groups: Vec<Option<String>>,
    /// What was recognised, and how to switch it off.
    pub notes: Vec<String>,
}

/// Folders of samples that nobody labelled, beside splits.
const UNLABELLED: [&str; 5] = ["unlabeled", "unlabelled", "unsup", "unsupervised", "extra"];

/// Finds out what the folders between `root` and `files` mean.
pub fn arrange(root: &Path, files: Vec<PathBuf>, layout: Layout) -> Arranged {
    if layout == Layout::Plain {
        let folders: Vec<Vec<String>> = files.iter().map(|f| folders(root, f)).collect();
        let classes = classes(&folders, 0);
        let nothing = vec![None; files.len()];
        return Arranged {
            splits: nothing,
            groups: vec![None; files.len()],
            classes,
            files,
            notes: Vec::new(),
        };
    }
    let (files, mut notes, wrapped) = without_labels(root, files);
    let folders: Vec<Vec<String>> = files.iter().map(|f| folders(root, f)).collect();
    let Some(level) = split_level(&folders) else {
        // `images/` is no class where label images lie beside it.
        let skip = usize::from(wrapped && folders.iter().all(|f| f.first() == folders[0].first()));
        let (classes, groups) = subjects(classes(&folders, skip), &mut notes);
        return Arranged { splits: vec![None; files.len()], classes, groups, files, notes };
    };
    let splits: Vec<Option<Split>> = folders.iter().map(|f| f.get(level).and_then(|n| split_of(n))).collect();
    let rest: Vec<Vec<String>> = folders
        .iter()
        .map(|f| f.iter().enumerate().filter(|(i, _)| *i != level).map(|(_, n)| n.clone()).collect())
        .collect();
    let labelled: Vec<Vec<String>> = folders
        .iter()
        .zip(&rest)
        .filter(|(f, _)| !is_unlabelled(&f[level]))
        .map(|(_, r)| r.clone())
        .collect();
    let varies =
        |level: usize| labelled.iter().filter_map(|f| f.get(level)).collect::<BTreeSet<_>>().len() > 1;
    let depth = labelled.iter().map(Vec::len).min().unwrap_or(0);
    let at = (0..depth).find(|&level| varies(level));
    let class = |(f, r): (&Vec<String>, &Vec<String>)| {
        if is_unlabelled(&f[level]) { None } else { r.get(at?).cloned() }
    };
    let classes: Vec<Option<String>> = folders.iter().zip(&rest).map(class).collect();
    let names: BTreeSet<&String> = folders.iter().filter_map(|f| f.get(level)).collect();
    let names: Vec<String> = names.into_iter().map(|n| format!("`{n}`")).collect();
    let names = names.join(", ");
    let count = |split| splits.iter().filter(|s| **s == Some(split)).count();
    let (train, validation, test) = (count(Split::Train), count(Split::Validation), count(Split::Test));
    let splits = if validation + test == 0 {
        notes.push(format!("folders {names} hold training data alone ({OFF} takes folders as classes)"));
        vec![None; splits.len()]
    } else {
        notes.push(format!(
            "folders {names} are splits: {train} samples to train on, {validation} for validation, {test} for testing ({OFF} takes folders as classes)"
        ));
        splits
    };
    let (classes, groups) = subjects(classes, &mut notes);
    Arranged { files, splits, classes, groups, notes }
}

/// Takes folders `sub-...` as subjects and not as classes.
fn subjects(
    classes: Vec<Option<String>>,
    notes: &mut Vec<String>,
) -> (Vec<Option<String>>, Vec<Option<String>>) {
    let nothing = vec![None; classes.len()];
    if classes.is_empty() || !classes.iter().all(|c| c.as_ref().is_some_and(|c| c.starts_with("sub-"))) {
        return (classes, nothing);
    }
    let count = classes.iter().collect::<BTreeSet<_>>().len();
    notes
        .push(format!("folders `sub-...` are {count} subjects, kept whole ({OFF} takes folders as classes)"));
    (nothing, classes)
}

/// The parts of files that hold many samples each (shards, tables): by their folders, or by the beginning of
/// their names (`train-00000-of-00002.parquet`, `val_003.tar`) where all have one.
pub(crate) fn parts_of_files(
    root: &Path,
    files: &[PathBuf],
    layout: Layout,
) -> (Vec<Option<Split>>, Vec<String>) {
    let nothing = (vec![None; files.len()], Vec::new());
    if layout == Layout::Plain {
        return nothing;
    }
    let folders: Vec<Vec<String>> = files.iter().map(|f| folders(root, f)).collect();
    let splits: Vec<Option<Split>> = match split_level(&folders) {
        Some(level) => folders.iter().map(|f| f.get(level).and_then(|n| split_of(n))).collect(),
        None => files.iter().map(|f| split_of(lower_stem(f).split(['-', '_', '.']).next()?)).collect(),
    };
    if !splits.iter().all(Option::is_some) || !splits.contains(&Some(Split::Train)) {
        return nothing;
    }
    let count = |split| splits.iter().filter(|s| **s == Some(split)).count();
    let note = format!(
        "files are divided by their names: {} to train on, {} for validation, {} for testing ({OFF} takes all of them together)",
        count(Split::Train),
        count(Split::Validation),
        count(Split::Test)
    );
    (splits, vec![note])
}

/// The folders of a level as classes, if every file lies in one of at least two.
fn classes(folders: &[Vec<String>], level: usize) -> Vec<Option<String>> {
    let named: Option<Vec<&String>> = folders.iter().map(|f| f.get(level)).collect();
    match named {
        // One folder says nothing about an image.
        Some(named) if named.iter().collect::<BTreeSet<_>>().len() > 1 => {
            named.into_iter().cloned().map(Some).collect()
        }
        _ => vec![None; folders.len()],
    }
}

/// The level of folders that are all called like splits, one of them for training.
fn split_level(folders: &[Vec<String>]) -> Option<usize> {
    let is = |level: usize| {
        let all: Option<BTreeSet<&String>> = folders.iter().map(|f| f.get(level)).collect();
        all.is_some_and(|names| {
            let known = |n: &&String| split_of(n).is_some();
            let train = names.iter().any(|n| split_of(n) == Some(Split::Train) && !is_unlabelled(n));
            train && names.iter().all(known)
        })
    };
    (0..4).find(|&level| is(level))
}

fn is_unlabelled(name: &str) -> bool {
    UNLABELLED.contains(&plain(name).as_str())
}

/// The part that a folder's name says: `val`, `train_images`, nnU-Net's `imagesTs`.
fn split_of(name: &str) -> Option<Split> {
    if is_unlabelled(name) {
        return Some(Split::Train);
    }
    let short = |rest: &str| match rest {
        "tr" => Some(Split::Train),
        "va" => Some(Split::Validation),
        "ts" => Some(Split::Test),
        _ => Split::named(rest),
    };
    Split::named(name).or_else(|| match role_of(name)? {
        (rest, false) => short(&rest),
        _ => None,
    })
}

//! Label images beside images: folders and files that are called so.

use super::names::{IMAGES, LABELS, OFF, folders, lower_stem, role_of};
use crate::recognise::MEDICAL;
use crate::split::Split;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Leaves label images out; says how many, and whether a folder of them lies beside one of images.
pub(super) fn without_labels(root: &Path, files: Vec<PathBuf>) -> (Vec<PathBuf>, Vec<String>, bool) {
    let mut children: BTreeMap<PathBuf, BTreeSet<String>> = BTreeMap::new();
    for file in &files {
        let mut at = root.to_path_buf();
        for name in folders(root, file) {
            children.entry(at.clone()).or_default().insert(name.clone());
            at.push(name);
        }
    }
    let mut dropped: BTreeSet<PathBuf> = BTreeSet::new();
    for (dir, names) in &children {
        let bids = names.iter().any(|n| n.starts_with("sub-"));
        let beside = |rest: &str| {
            names.iter().any(|n| {
                role_of(n).is_some_and(|(r, label)| !label && r == rest)
                    || rest.is_empty() && Split::named(n).is_some()
            })
        };
        let labels = |n: &&String| {
            bids && n.as_str() == "derivatives"
                || role_of(n).is_some_and(|(rest, label)| label && beside(&rest))
        };
        dropped.extend(names.iter().filter(labels).map(|n| dir.join(n)));
    }
    let below = |file: &Path| file.ancestors().skip(1).any(|a| dropped.contains(a));
    let in_folders = files.iter().filter(|f| below(f)).count();
    if in_folders == files.len() {
        return (files, Vec::new(), false);
    }
    let kept: Vec<PathBuf> = files.into_iter().filter(|f| in_folders == 0 || !below(f)).collect();
    let (kept, single) = without_label_files(kept);
    let mut notes = Vec::new();
    if in_folders > 0 {
        let names: Vec<String> = dropped
            .iter()
            .take(5)
            .map(|d| format!("`{}`", d.strip_prefix(root).unwrap_or(d).display()))
            .collect();
        notes.push(format!(
            "{in_folders} files in {}{} are labels, not samples ({OFF} takes them as samples)",
            names.join(", "),
            if dropped.len() > 5 { " ..." } else { "" }
        ));
    }
    if let Some(first) = single.first() {
        notes.push(format!(
            "{} files beside others are called like their labels (`{}`) and are no samples ({OFF} takes them as samples)",
            single.len(),
            first.file_name().unwrap_or_default().to_string_lossy()
        ));
    }
    (kept, notes, in_folders > 0)
}

/// Leaves files out that are called like labels of a file beside them: `a_seg.png` and `a.seg.png` beside
/// `a.png` (or `a_t1.nii`), `label07.nii` beside `img07.nii`, `mask.nii` beside any other volume.
fn without_label_files(files: Vec<PathBuf>) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let mut folders: BTreeMap<PathBuf, BTreeSet<String>> = BTreeMap::new();
    for file in &files {
        let dir = file.parent().unwrap_or(Path::new("")).to_path_buf();
        folders.entry(dir).or_default().insert(lower_stem(file));
    }
    files.into_iter().partition(|file| {
        let Some(beside) = folders.get(file.parent().unwrap_or(Path::new(""))) else { return true };
        let name = lower_stem(file);
        !is_label_file(&name, MEDICAL.holds(file), beside)
    })
}

/// Whether the file `name` (without ending) is called like the labels of one in `beside`.
fn is_label_file(name: &str, volume: bool, beside: &BTreeSet<String>) -> bool {
    const MARKS: [char; 3] = ['_', '-', '.'];
    let label_end = |n: &str| n.rsplit(MARKS).next().is_some_and(|end| LABELS.contains(&end));
    if LABELS.contains(&name) {
        return volume && beside.iter().any(|other| !label_end(other));
    }
    if let Some(at) = name.rfind(MARKS)
        && LABELS.contains(&&name[at + 1..])
    {
        let base = &name[..at];
        let belongs = |other: &&String| {
            other.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with(MARKS))
                && !label_end(other)
        };
        // All names that begin with the base are a stretch of the sorted set.
        return beside.range(base.to_string()..).take_while(|o| o.starts_with(base)).any(|o| belongs(&o));
    }
    let rest = |list: &[&str]| {
        let rests = list.iter().filter_map(|l| name.strip_prefix(l));
        let apart = rests.filter(|r| r.starts_with(MARKS) || r.starts_with(|c: char| c.is_ascii_digit()));
        apart.map(str::to_string).next()
    };
    rest(&LABELS).is_some_and(|rest| IMAGES.iter().any(|i| beside.contains(&format!("{i}{rest}"))))
}

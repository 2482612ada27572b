//! What folders and files of images and of label images are called.

use crate::labels::stem;
use crate::split::Split;
use std::path::Path;

/// Names of folders of images, without case, spaces, dashes and underscores.
pub(super) const IMAGES: [&str; 14] = [
    "images",
    "image",
    "imgs",
    "img",
    "jpegimages",
    "scans",
    "scan",
    "volumes",
    "photos",
    "pictures",
    "leftimg8bit",
    "inputs",
    "input",
    "imaging",
];

/// Names of folders of label images, and of the ends (or beginnings) of the names of their files.
pub(super) const LABELS: [&str; 22] = [
    "masks",
    "mask",
    "labels",
    "label",
    "segmentation",
    "segmentations",
    "seg",
    "segs",
    "segmentationclass",
    "segmentationobject",
    "segmentationmasks",
    "annotations",
    "annotation",
    "groundtruth",
    "gt",
    "gtfine",
    "gtcoarse",
    "labelmap",
    "labelmaps",
    "dseg",
    "probseg",
    "roi",
];

/// How a message says that nothing is to be recognised.
pub(super) const OFF: &str = "data.layout = \"plain\"";

/// Names of the folders between `root` and a file.
pub(super) fn folders(root: &Path, file: &Path) -> Vec<String> {
    let below = file.strip_prefix(root).unwrap_or(file);
    let mut parts: Vec<String> =
        below.components().map(|c| c.as_os_str().to_string_lossy().into_owned()).collect();
    parts.pop();
    parts
}

pub(super) fn plain(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, ' ' | '-' | '_')).collect::<String>().to_lowercase()
}

/// Whether a folder is called like one of images (`false`) or of label images (`true`), and what else its
/// name says (`tr` of `labelsTr`, `train` of `train_masks`).
pub(super) fn role_of(name: &str) -> Option<(String, bool)> {
    let name = plain(name);
    let of = |list: &[&str], label: bool| {
        let rests = list.iter().filter_map(|l| name.strip_prefix(l).or_else(|| name.strip_suffix(l)));
        let known = |rest: &&str| {
            rest.is_empty() || matches!(*rest, "tr" | "ts" | "va") || Split::named(rest).is_some()
        };
        rests.filter(known).map(|rest| (rest.to_string(), label)).next()
    };
    of(&LABELS, true).or_else(|| of(&IMAGES, false))
}

pub(super) fn lower_stem(file: &Path) -> String {
    stem(&file.file_name().unwrap_or_default().to_string_lossy()).to_lowercase()
}

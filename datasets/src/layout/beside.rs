//! The label image of each image, by the names of folders and files.

use super::names::{LABELS, plain, role_of};
use crate::split::Split;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The PNG file of the labels of each of `images` below `root`, where there is one: of the same name in a
/// folder of labels beside that of the images, with `_mask` or the like behind it there, or so beside the
/// image itself.
pub(crate) fn masks_of(root: &Path, images: &[Option<PathBuf>]) -> Vec<Option<PathBuf>> {
    let mut folders: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
    // The end that the last image's mask had: most have the same.
    let mut end = String::new();
    let marks = ["_", "-", "."];
    let ends: Vec<String> =
        marks.iter().flat_map(|m| LABELS.iter().map(move |l| format!("{m}{l}"))).collect();
    images
        .iter()
        .map(|image| {
            let image = image.as_ref()?;
            let (dir, stem) = (image.parent()?, image.file_stem()?.to_string_lossy().into_owned());
            let dirs = folders.entry(dir.to_path_buf()).or_insert_with(|| label_folders(root, dir));
            let with = |dir: &Path, end: &str| {
                let path = dir.join(format!("{stem}{end}.png"));
                (path != *image && path.is_file()).then_some(path)
            };
            let there = |end: &str| dirs.iter().find_map(|d| with(d, end));
            let beside = |end: &str| (!end.is_empty()).then(|| with(dir, end)).flatten();
            let last = there(&end).or_else(|| there("")).or_else(|| beside(&end));
            last.or_else(|| {
                let (path, found) = ends.iter().find_map(|e| Some((there(e).or_else(|| beside(e))?, e)))?;
                end.clone_from(found);
                Some(path)
            })
        })
        .collect()
}

/// Folders of labels for the images in `dir`: beside one of the folders that it lies in, and inside it.
fn label_folders(root: &Path, dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let labels = |parent: &Path| -> Vec<(PathBuf, String)> {
        let entries = std::fs::read_dir(parent).into_iter().flatten().flatten().map(|e| e.path());
        let mut all: Vec<(PathBuf, String)> = entries
            .filter(|p| p.is_dir())
            .filter_map(|p| {
                let role = role_of(&p.file_name()?.to_string_lossy())?;
                role.1.then_some((p, role.0))
            })
            .collect();
        all.sort();
        all
    };
    found.extend(labels(dir).into_iter().filter(|(_, rest)| rest.is_empty()).map(|(p, _)| p));
    for at in dir.ancestors().take_while(|a| a.starts_with(root) && *a != root) {
        let (Some(parent), Some(name)) = (at.parent(), at.file_name()) else { break };
        let name = name.to_string_lossy();
        let below = dir.strip_prefix(at).unwrap_or(Path::new(""));
        let images = role_of(&name).filter(|(_, label)| !label).map(|(rest, _)| rest);
        for (folder, rest) in labels(parent) {
            if images.as_ref() == Some(&rest) || plain(&name) == rest {
                found.push(folder.join(below));
            } else if rest.is_empty() && Split::named(&name).is_some() {
                found.push(folder.join(&*name).join(below));
            }
        }
    }
    found
}

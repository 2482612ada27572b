//! The DICOM files of a folder as people have it: slices beside reports, screenshots and what viewers leave.

use super::header::{Found, Header};
use super::parse::is_dicom;
use super::phase::{Part, parts};
use crate::read::passed::Passed;
use selfsup_core::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};

/// The volumes of a folder, in the order of their first files, and what was passed over.
pub(super) struct Listing {
    pub(super) volumes: Vec<Part>,
    pub(super) passed: Passed,
}

/// Whether a file's name is one of a volume of another format.
fn is_other_volume(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    [".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".hdr", ".img"].iter().any(|e| name.ends_with(e))
}

/// A name without its digits: `IM0001` and `IM0002` are of one kind.
fn kind_of_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    name.chars().filter(|c| !c.is_ascii_digit()).collect()
}

/// Whether a file that is no DICOM file should be one, by its ending.
fn has_ending(path: &Path) -> bool {
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    ["dcm", "dicom", "ima"].contains(&ending.as_str())
}

/// Looks through the files right in `folder`. A file that is no DICOM file although its name is that of a
/// slice is an error, since a damaged slice would be lost without a word. Reports, plans, presentation
/// states, documents, screenshots and files of other kinds are counted.
///
/// # Errors
/// If a file cannot be read or is a damaged slice.
pub(super) fn listing(folder: &Path) -> Result<Listing> {
    let (mut slices, mut strangers) = (Vec::new(), Vec::new());
    let mut passed = Passed::default();
    for path in files(folder)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
        if is_other_volume(&path) {
            continue;
        }
        if name == "DICOMDIR" {
            passed.add("DICOMDIR");
        } else if !is_dicom(&head(&path)?) {
            strangers.push(path);
        } else {
            match Header::find(&path)? {
                Found::Slice(header) => slices.push(*header),
                Found::Other(what) => passed.add(what),
            }
        }
    }
    let names: BTreeSet<String> = slices.iter().map(|h| kind_of_name(&h.path)).collect();
    for path in strangers {
        if has_ending(&path) || names.contains(&kind_of_name(&path)) {
            // Says what is wrong.
            Header::read(&path)?;
        }
        passed.add("other file");
    }
    // A picture of the screen has no place; where all have none, they are left for the reader to judge.
    if slices.iter().any(|h| !h.is_screenshot()) {
        slices.iter().filter(|h| h.is_screenshot()).for_each(|_| passed.add("screenshot"));
        slices.retain(|h| !h.is_screenshot());
    }
    let mut series: BTreeMap<u64, Vec<Header>> = BTreeMap::new();
    slices.into_iter().for_each(|h| series.entry(h.series).or_default().push(h));
    let mut volumes = Vec::new();
    for headers in series.into_values() {
        volumes.append(&mut parts(headers, &mut passed)?);
    }
    volumes.sort_by(|a, b| a.headers.first().map(|h| &h.path).cmp(&b.headers.first().map(|h| &h.path)));
    Ok(Listing { volumes, passed })
}

/// The files right in `folder` that are not hidden, by name.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|e| Error::io(folder, e))? {
        let path = entry.map_err(|e| Error::io(folder, e))?.path();
        let hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
        if path.is_file() && !hidden {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The first bytes of a file.
fn head(path: &Path) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    let file = selfsup_core::file::open(path)?;
    file.take(132).read_to_end(&mut head).map_err(|e| Error::io(path, e))?;
    Ok(head)
}

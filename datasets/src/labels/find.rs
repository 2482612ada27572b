//! Which record the row of a table means: by its path as it is written, below the data's folder or the
//! table's, by the end of its path, or by its name without ending.

use crate::record::Records;
use selfsup_core::Result;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

/// Endings that stand behind another one.
const COMPRESSED: [&str; 3] = ["gz", "zst", "bz2"];

/// Records by their names.
pub(super) struct Names<'a> {
    root: &'a Path,
    beside: &'a Path,
    /// Records by their whole names and by those of what they are parts of, as absolute paths.
    whole: BTreeMap<PathBuf, Vec<usize>>,
    /// Whole names by file name.
    files: BTreeMap<String, BTreeSet<PathBuf>>,
    /// Whole names by file name without ending.
    stems: BTreeMap<String, BTreeSet<PathBuf>>,
}

/// What a name in a table means.
pub(super) enum Meant<'a> {
    /// The record, or all parts of what it is called by.
    These(&'a [usize]),
    /// So many different ones.
    Several(usize),
    /// None.
    Nothing,
}

impl<'a> Names<'a> {
    /// The names of `records`, which were opened from `root`, for a table in the folder `beside`.
    ///
    /// # Errors
    /// If a record has no name.
    pub(super) fn of(records: &dyn Records, root: &'a Path, beside: &'a Path) -> Result<Self> {
        let mut names =
            Names { root, beside, whole: BTreeMap::new(), files: BTreeMap::new(), stems: BTreeMap::new() };
        for i in 0..records.len() {
            let whole = records.whole(i);
            for (part, id) in [(whole.is_some(), Some(records.id(i)?)), (false, whole)] {
                let Some(id) = id else { continue };
                let path = clean(Path::new(&id));
                let file = name_of(&path);
                // Without an ending a volume is called, not one of its slices.
                if !part {
                    names.stems.entry(stem(&file).to_string()).or_default().insert(path.clone());
                }
                names.files.entry(file).or_default().insert(path.clone());
                names.whole.entry(path).or_default().push(i);
            }
        }
        Ok(names)
    }

    /// The records that are called `written`.
    pub(super) fn find(&self, written: &str) -> Meant<'_> {
        let as_written = Path::new(written);
        let places = [self.root.join(as_written), as_written.to_path_buf(), self.beside.join(as_written)];
        if let Some(found) = places.iter().find_map(|p| self.whole.get(&clean(p))) {
            return Meant::These(found);
        }
        if let Some(found) = places.iter().find_map(|p| self.through_links(p)) {
            return Meant::These(found);
        }
        let relative = relative(as_written);
        let file = name_of(&relative);
        match self.ending_in(self.files.get(&file), &relative) {
            // A name without an ending, where a file without one is not there.
            Meant::Nothing => {
                let stems = self.stems.get(&file).into_iter().flatten();
                let fitting = stems.filter(|p| {
                    let stem = stem(&name_of(p)).to_string();
                    p.with_file_name(stem).ends_with(&relative)
                });
                self.only(fitting.collect())
            }
            found => found,
        }
    }

    /// The record that a path leads to through links.
    fn through_links(&self, path: &Path) -> Option<&Vec<usize>> {
        let (path, root) = (path.canonicalize().ok()?, self.root.canonicalize().ok()?);
        let below = path.strip_prefix(root).ok()?;
        self.whole.get(&clean(&self.root.join(below)))
    }

    /// Those of `candidates` whose path ends in `end`.
    fn ending_in(&self, candidates: Option<&BTreeSet<PathBuf>>, end: &Path) -> Meant<'_> {
        self.only(candidates.into_iter().flatten().filter(|p| p.ends_with(end)).collect())
    }

    fn only(&self, found: Vec<&PathBuf>) -> Meant<'_> {
        match found[..] {
            [] => Meant::Nothing,
            [one] => self.whole.get(one).map_or(Meant::Nothing, |r| Meant::These(r)),
            ref several => Meant::Several(several.len()),
        }
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// A file name without its ending: `scan.nii.gz` is `scan`, `a.b.png` is `a.b`.
pub(crate) fn stem(name: &str) -> &str {
    let cut = |name: &str| name.rfind('.').filter(|at| *at > 0).unwrap_or(name.len());
    let short = &name[..cut(name)];
    let packed =
        COMPRESSED.iter().any(|e| name[short.len()..].trim_start_matches('.').eq_ignore_ascii_case(e));
    if packed { &short[..cut(short)] } else { short }
}

/// An absolute path without `.` and `..`; links are not followed.
fn clean(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    normal(&path)
}

/// A path without `.` and, where a folder stands before it, `..`.
fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if matches!(out.components().next_back(), Some(Component::Normal(_))) => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}

/// A path as an end of others: without the root.
fn relative(path: &Path) -> PathBuf {
    let parts = normal(path);
    if path.is_absolute() {
        parts
    } else {
        parts.components().filter(|c| *c != Component::ParentDir).collect()
    }
}

//! A folder of samples (images, recordings, volumes), of any nesting. The folders of the first level are the
//! labels, if every sample lies in one; folders of splits and of label images are recognised ([`Layout`]).

use crate::layout::{Arranged, Layout, arrange};
use crate::recognise::{Recogniser, SPEECH, TEXT, VISION, is_bare_image};
use crate::record::{Record, Records, Source, missing};
use crate::split::Split;
use crate::walk::Walk;
use selfsup_core::{Error, Result};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The files of one kind below a folder, in the order of their paths as texts.
pub struct Folder {
    root: PathBuf,
    files: Vec<(PathBuf, Option<u32>)>,
    classes: Vec<String>,
    splits: Vec<Option<Split>>,
    groups: Vec<Option<String>>,
    notes: Vec<String>,
}

impl Folder {
    /// The images below `root`, see [`Folder::open_kind`].
    ///
    /// # Errors
    /// As there.
    pub fn open(root: &Path) -> Result<Self> {
        Self::open_kind(root, &VISION, Layout::Auto)
    }

    /// Looks through `root` for files whose names end like those of a modality; images without an ending are
    /// known by their first bytes. Hidden files and folders are
    /// left out, and so are links that lead back to a folder they lie in (its files are listed anyway). A
    /// link that leads nowhere but has such a name counts as a file: reading it gives an error that names it.
    ///
    /// # Errors
    /// If a folder cannot be read, there is no such file, or folders are nested deeper than 64.
    pub fn open_kind(root: &Path, of: &Recogniser, layout: Layout) -> Result<Self> {
        let others = RefCell::new(BTreeMap::new());
        let bare = Cell::new(0usize);
        let paths = Walk::files(root, |path| {
            let by_bytes = of.kind == VISION.kind && is_bare_image(path);
            bare.set(bare.get() + usize::from(by_bytes));
            let held = by_bytes || of.holds(path);
            if !held && let Some(ending) = other_ending(path) {
                *others.borrow_mut().entry(ending).or_insert(0usize) += 1;
            }
            held
        })?;
        if paths.is_empty() {
            return Err(Error::file(
                root,
                format_args!(
                    "no {} found: looked in all folders for files ending in {}",
                    of.kind.samples(),
                    of.endings.join(", ")
                ),
            ));
        }
        let mut notes =
            if of.kind == VISION.kind { said_of_others(&others.into_inner()) } else { Vec::new() };
        if bare.get() > 0 {
            notes.push(format!("{} files without an ending are images by their first bytes", bare.get()));
        }
        Ok(Self::of(root, paths, layout).with_notes(notes))
    }

    /// A set of these files (or folders) below `root`, in their order, without those that are labels of
    /// others; what the folders above them mean is found out as `layout` says.
    pub fn of(root: &Path, paths: Vec<PathBuf>, layout: Layout) -> Self {
        let Arranged { files, splits, classes: named, groups, notes } = arrange(root, paths, layout);
        let mut classes: Vec<String> = named.iter().flatten().cloned().collect();
        classes.sort();
        classes.dedup();
        let number = |name: Option<String>| classes.binary_search(&name?).ok().map(|c| c as u32);
        let files = files.into_iter().zip(named.into_iter().map(number)).collect();
        Folder { root: root.to_path_buf(), files, classes, splits, groups, notes }
    }

    /// The same set with further notes in front.
    #[must_use]
    pub fn with_notes(mut self, notes: Vec<String>) -> Self {
        self.notes.splice(0..0, notes);
        self
    }

    /// A set of one file, without a label.
    pub fn one(file: &Path) -> Self {
        let root = file.parent().unwrap_or(file).to_path_buf();
        Folder {
            root,
            files: vec![(file.to_path_buf(), None)],
            classes: Vec::new(),
            splits: vec![None],
            groups: vec![None],
            notes: Vec::new(),
        }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

/// The ending of a file that is neither a sample nor a text, a table or a note beside samples.
fn other_ending(path: &Path) -> Option<String> {
    const BESIDE: [&str; 12] =
        ["lab", "phn", "xml", "yaml", "yml", "toml", "html", "log", "ini", "db", "py", "pdf"];
    let ending = path.extension()?.to_string_lossy().to_lowercase();
    (!TEXT.holds(path) && !BESIDE.contains(&ending.as_str())).then_some(ending)
}

/// One line about files of other types.
fn said_of_others(others: &BTreeMap<String, usize>) -> Vec<String> {
    let list: Vec<String> = others.iter().take(12).map(|(ending, n)| format!("{n} .{ending}")).collect();
    match others.values().sum::<usize>() {
        0 => Vec::new(),
        n => vec![format!("{n} files of other types are not read: {}", list.join(", "))],
    }
}

/// The alignment `NAME.lab`, `NAME.phn` or `NAME.tsv` beside a recording.
pub(crate) fn alignment_beside(path: &Path) -> Option<PathBuf> {
    ["lab", "phn", "PHN", "tsv"].iter().map(|e| path.with_extension(e)).find(|p| p.is_file())
}

impl Records for Folder {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn get(&self, index: usize) -> Result<Record> {
        let (path, label) =
            self.files.get(index).ok_or_else(|| missing(self.root.display(), index, self.files.len()))?;
        Ok(Record {
            id: path.display().to_string(),
            source: Source::File(path.clone()),
            label: *label,
            group: self.group(index),
        })
    }

    fn group(&self, index: usize) -> Option<String> {
        self.groups.get(index)?.clone()
    }

    fn split(&self, index: usize) -> Option<Split> {
        *self.splits.get(index)?
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.files.get(index)?.1
    }

    /// What `NAME.txt` beside a recording says, on one line.
    fn transcript(&self, index: usize) -> Option<String> {
        let (path, _) = self.files.get(index)?;
        let beside = || selfsup_core::file::text(path.with_extension("txt")).ok();
        let text = SPEECH.holds(path).then(beside).flatten()?;
        Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
    }

    fn alignment(&self, index: usize) -> Option<PathBuf> {
        let (path, _) = self.files.get(index)?;
        if SPEECH.holds(path) { alignment_beside(path) } else { None }
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(root: &Path, names: &[&str]) {
        for f in names {
            let path = root.join(f);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"").unwrap();
        }
    }

    #[test]
    fn labels_are_the_first_level() {
        let dir = tempfile::tempdir().unwrap();
        touch(
            dir.path(),
            &["b/x/1.PNG", "a/2.jpg", "a/.hidden.jpg", "a/notes.txt", ".git/3.png", "b/4.Tiff"],
        );
        let folder = Folder::open(dir.path()).unwrap();
        assert_eq!(folder.classes(), ["a", "b"]);
        assert_eq!(
            (0..folder.len()).map(|i| folder.label(i)).collect::<Vec<_>>(),
            [Some(0), Some(1), Some(1)]
        );
        assert!(
            folder.get(0).unwrap().id.ends_with("2.jpg") && folder.get(1).unwrap().id.ends_with("4.Tiff")
        );
        assert!(folder.get(3).unwrap_err().to_string().contains("below 3"));
        // A picture beside the folders: labels would be wrong for it, so there are none.
        touch(dir.path(), &["3.jpg"]);
        let flat = Folder::open(dir.path()).unwrap();
        assert!(flat.classes().is_empty() && flat.label(0).is_none());
    }

    #[test]
    fn files_of_other_types_are_counted_in_one_line() {
        let dir = tempfile::tempdir().unwrap();
        touch(dir.path(), &["a/1.png", "a/2.heic", "b/3.HEIC", "b/4.svg", "b/labels.csv", "README", "c.txt"]);
        let notes = Folder::open(dir.path()).unwrap().notes();
        assert_eq!(notes, ["3 files of other types are not read: 2 .heic, 1 .svg"]);
    }

    #[test]
    fn images_without_an_ending_are_known_by_their_bytes() {
        let dir = tempfile::tempdir().unwrap();
        touch(dir.path(), &["a/1.png", "a/README", "b/notes"]);
        let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\0\0\0\0";
        std::fs::write(dir.path().join("b/0a1b2c"), png).unwrap();
        std::fs::write(dir.path().join("b/photo.old"), png).unwrap();
        std::fs::write(dir.path().join("b/BMX"), b"BMX bicycles are for races on sand.").unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        assert_eq!((folder.len(), folder.classes().len(), folder.label(1)), (2, 2, Some(1)));
        let notes = folder.notes();
        assert_eq!(notes[1], "1 files without an ending are images by their first bytes", "{notes:?}");
        let one = dir.path().join("b/0a1b2c").display().to_string();
        assert_eq!(crate::open_kind(&one, VISION.kind).unwrap().len(), 1);
    }

    #[test]
    fn transcripts_and_alignments_lie_beside_recordings() {
        let dir = tempfile::tempdir().unwrap();
        touch(dir.path(), &["a/1.wav", "a/2.flac", "a/2.lab", "a/3.jpg", "a/3.txt"]);
        std::fs::write(dir.path().join("a/1.txt"), " hello\n  world ").unwrap();
        let folder = Folder::open_kind(dir.path(), &SPEECH, Layout::Auto).unwrap();
        assert_eq!(folder.len(), 2);
        assert_eq!((folder.transcript(0).as_deref(), folder.transcript(1)), (Some("hello world"), None));
        assert!(folder.alignment(0).is_none() && folder.alignment(1).unwrap().ends_with("2.lab"));
        let images = Folder::open(dir.path()).unwrap();
        assert!(images.transcript(0).is_none() && images.alignment(0).is_none());
    }

    #[test]
    fn an_empty_folder_says_what_was_looked_for() {
        let dir = tempfile::tempdir().unwrap();
        touch(dir.path(), &["a/notes.txt"]);
        let e = Folder::open(dir.path()).err().unwrap().to_string();
        assert!(e.contains("no images") && e.contains("jpeg, png, webp"), "{e}");
        let e = Folder::open(&dir.path().join("absent")).err().unwrap().to_string();
        assert!(e.contains("absent"), "{e}");
    }

    #[cfg(unix)]
    #[test]
    fn links() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        touch(dir.path(), &["a/1.jpg", "b/2.jpg"]);
        // Three links back up from each folder: followed to any depth, they would be 3^64 paths.
        for i in 0..3 {
            symlink(dir.path(), dir.path().join(format!("a/up{i}"))).unwrap();
            symlink("..", dir.path().join(format!("b/up{i}"))).unwrap();
        }
        let folder = Folder::open(dir.path()).unwrap();
        assert_eq!((folder.len(), folder.classes().len()), (2, 2));
        // Links that lead nowhere or to themselves stay, by name.
        symlink("nowhere.jpg", dir.path().join("a/dangling.jpg")).unwrap();
        symlink("self.png", dir.path().join("a/self.png")).unwrap();
        symlink("nowhere", dir.path().join("a/nothing")).unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        assert_eq!(folder.len(), 4);
        let e = folder.get(1).unwrap().source.content().unwrap_err().to_string();
        assert!(e.contains("dangling.jpg"), "{e}");
        // A folder reached by a link is read like any other.
        let other = tempfile::tempdir().unwrap();
        touch(other.path(), &["x/3.jpg"]);
        symlink(other.path().join("x"), dir.path().join("linked")).unwrap();
        assert_eq!(Folder::open(dir.path()).unwrap().classes(), ["a", "b", "linked"]);
    }

    #[cfg(unix)]
    #[test]
    fn sockets_are_no_images() {
        let dir = tempfile::tempdir().unwrap();
        touch(dir.path(), &["1.jpg"]);
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("s.jpg")).unwrap();
        assert_eq!(Folder::open(dir.path()).unwrap().len(), 1);
    }

    #[test]
    fn too_deep() {
        let dir = tempfile::tempdir().unwrap();
        touch(dir.path(), &[&format!("{}1.jpg", "d/".repeat(80))]);
        assert!(Folder::open(dir.path()).err().unwrap().to_string().contains("deep"));
    }
}

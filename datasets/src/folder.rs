//! A folder of images, of any nesting. The folders of the first level are the labels, if every image lies in one.

use crate::record::{Record, Records, Source};
use selfsup_core::{Error, Result};
use std::path::{Path, PathBuf};

/// Endings that are taken for images, in lower case.
pub const ENDINGS: [&str; 9] = ["jpg", "jpeg", "png", "webp", "tif", "tiff", "bmp", "gif", "jfif"];

/// Folders nested deeper than this are refused: a loop of links.
const DEPTH: usize = 32;

/// Image files below a folder, in the order of their paths.
pub struct Folder {
    root: PathBuf,
    files: Vec<(PathBuf, Option<u32>)>,
    classes: Vec<String>,
}

impl Folder {
    /// Looks through `root`. Hidden files are left out. A link that leads nowhere counts as a file, so that reading it names it.
    ///
    /// # Errors
    /// If a folder cannot be read, there is no image, or folders are nested without end.
    pub fn open(root: &Path) -> Result<Self> {
        let mut paths = Vec::new();
        walk(root, 0, &mut paths)?;
        if paths.is_empty() {
            return Err(Error::file(root, format!("no images found: looked for files ending in {}", ENDINGS.join(", "))));
        }
        paths.sort();
        let class = |p: &PathBuf| -> Option<String> {
            let relative = p.strip_prefix(root).ok()?;
            let mut parts = relative.components();
            let first = parts.next()?.as_os_str().to_string_lossy().into_owned();
            parts.next().map(|_| first)
        };
        let named: Option<Vec<String>> = paths.iter().map(class).collect();
        let mut classes: Vec<String> = named.iter().flatten().cloned().collect();
        classes.sort();
        classes.dedup();
        if classes.len() < 2 {
            // One folder says nothing about an image.
            classes.clear();
        }
        let label = |i: usize| named.as_ref().and_then(|n| classes.binary_search(&n[i]).ok()).map(|c| c as u32);
        let files = (0..paths.len()).map(label).collect::<Vec<_>>();
        Ok(Folder { root: root.to_path_buf(), files: paths.into_iter().zip(files).collect(), classes })
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

fn walk(dir: &Path, depth: usize, out: &mut Vec<PathBuf>) -> Result<()> {
    if depth > DEPTH {
        return Err(Error::file(dir, format!("nested more than {DEPTH} folders deep: a link that leads back?")));
    }
    for entry in std::fs::read_dir(dir).map_err(|e| Error::io(dir, e))? {
        let path = entry.map_err(|e| Error::io(dir, e))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        if path.is_dir() {
            walk(&path, depth + 1, out)?;
        } else if path.extension().is_some_and(|e| ENDINGS.contains(&e.to_string_lossy().to_lowercase().as_str())) {
            out.push(path);
        }
    }
    Ok(())
}

impl Records for Folder {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn get(&self, index: usize) -> Result<Record> {
        let (path, label) =
            self.files.get(index).ok_or_else(|| Error::file(&self.root, format!("no image {index} of {}", self.files.len())))?;
        Ok(Record { id: path.display().to_string(), source: Source::File(path.clone()), label: *label, group: None })
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.files.get(index)?.1
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_the_first_level() {
        let dir = tempfile::tempdir().unwrap();
        for f in ["b/x/1.PNG", "a/2.jpg", "a/.hidden.jpg", "a/notes.txt"] {
            let path = dir.path().join(f);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"").unwrap();
        }
        let folder = Folder::open(dir.path()).unwrap();
        assert_eq!(folder.classes(), ["a", "b"]);
        assert_eq!((0..folder.len()).map(|i| folder.label(i)).collect::<Vec<_>>(), [Some(0), Some(1)]);
        // A picture beside the folders: labels would be wrong for it, so there are none.
        std::fs::write(dir.path().join("3.jpg"), b"").unwrap();
        assert!(Folder::open(dir.path()).unwrap().classes().is_empty());
    }

    #[test]
    fn empty_folders_and_loops() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Folder::open(dir.path()).err().unwrap().to_string().contains("no images"));
        assert!(Folder::open(&dir.path().join("absent")).is_err());
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(dir.path(), dir.path().join("again")).unwrap();
            assert!(Folder::open(dir.path()).is_err());
            std::fs::remove_file(dir.path().join("again")).unwrap();
            std::os::unix::fs::symlink("nowhere.jpg", dir.path().join("dangling.jpg")).unwrap();
            assert_eq!(Folder::open(dir.path()).unwrap().len(), 1);
        }
    }
}

//! The samples that are compiled into the program (`build.rs`): a command that was installed works after its
//! sources are gone. Builds of the published crate are without them.

use crate::fetch::cache;
use selfsup_core::checkpoint::{made_once, write_atomic};
use selfsup_core::{Error, Result};
use std::io::Write;
use std::path::{Path, PathBuf};

include!(concat!(env!("OUT_DIR"), "/samples.rs"));

/// The bytes of a bundled file, `fashion-mnist/LICENSE.txt`; nothing in a build without samples.
pub(crate) fn bytes(name: &str) -> Option<&'static [u8]> {
    FILES.iter().find(|(n, _)| *n == name).map(|(_, bytes)| *bytes)
}

/// A folder with the files of a sample, for readers that need paths: `bundled/NAME-HASH` in the cache, where
/// they are written the first time, and again where they differ. Nothing in a build without samples.
///
/// # Errors
/// If there is no cache, or it cannot be written.
pub(crate) fn folder(name: &str) -> Result<Option<PathBuf>> {
    folder_in(cache, name)
}

fn folder_in(cache: impl FnOnce() -> Result<PathBuf>, name: &str) -> Result<Option<PathBuf>> {
    let files: Vec<(&str, &[u8])> =
        FILES.iter().filter_map(|(n, b)| Some((n.strip_prefix(name)?.strip_prefix('/')?, *b))).collect();
    if files.is_empty() {
        return Ok(None);
    }
    let mut hash = blake3::Hasher::new();
    for (name, bytes) in &files {
        hash.update(name.as_bytes()).update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
    }
    let folder = cache()?.join("bundled").join(format!("{name}-{}", &hash.finalize().to_hex()[..16]));
    let whole = || files.iter().all(|(name, bytes)| same(&folder.join(name), bytes)).then_some(());
    made_once(
        &folder,
        |_| false,
        whole,
        || {},
        || files.iter().try_for_each(|(n, b)| put(&folder.join(n), b)),
    )?;
    Ok(Some(folder))
}

fn same(path: &Path, bytes: &[u8]) -> bool {
    path.metadata().is_ok_and(|m| m.len() == bytes.len() as u64)
        && selfsup_core::file::read(path).is_ok_and(|b| b == bytes)
}

fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
    write_atomic(path, |f| f.write_all(bytes).map_err(|e| Error::io(path, e)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_unpacked_once_and_mended() {
        let dir = tempfile::tempdir().unwrap();
        let unpack = || folder_in(|| Ok(dir.path().to_path_buf()), "mni152").unwrap().unwrap();
        let folder = unpack();
        let file = folder.join("labels_2mm.nii.gz");
        assert_eq!(std::fs::read(&file).unwrap(), bytes("mni152/labels_2mm.nii.gz").unwrap());
        let made = file.metadata().unwrap().modified().unwrap();
        assert_eq!((unpack(), file.metadata().unwrap().modified().unwrap()), (folder.clone(), made));
        std::fs::write(&file, "cut").unwrap();
        assert_eq!(unpack(), folder);
        assert!(same(&file, bytes("mni152/labels_2mm.nii.gz").unwrap()));
        assert!(
            folder_in(|| Ok(dir.path().to_path_buf()), "mni15").unwrap().is_none(),
            "no prefix of a name"
        );
    }

    /// No path of the machine that built it: every sample is in the program.
    #[test]
    fn all_samples_are_there() {
        let names = ["fashion-mnist", "festvox-ru", "mni152", "wordnet-glosses"];
        for name in names {
            assert!(bytes(&format!("{name}/LICENSE.txt")).is_some(), "{name}");
        }
        assert!(FILES.iter().all(|(n, _)| names.iter().any(|name| n.starts_with(&format!("{name}/")))));
    }
}

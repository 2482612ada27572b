//! A folder of one user: voxels of patients are nobody else's business, and what lies in a folder that others
//! can write is not to be believed.
//!
//! The folder is made for its owner alone (0700), files likewise (0600). A folder that is a link, belongs to
//! another user or can be written by others is refused, and so is a file in it that is a link or another
//! user's. Where files have no owners (Windows), nothing is checked.

use selfsup_core::{Error, Result};
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Makes `folder` if it is not there, and checks that it is one of this user alone.
///
/// # Errors
/// If it cannot be made, is a link or no folder, or others own it or can write it.
pub(super) fn folder(folder: &Path) -> Result<()> {
    let io = |e| Error::io(folder, e);
    if let Err(e) = std::fs::symlink_metadata(folder) {
        if e.kind() != std::io::ErrorKind::NotFound {
            return Err(io(e));
        }
        if let Some(above) = folder.parent() {
            std::fs::create_dir_all(above).map_err(io)?;
        }
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        match builder.create(folder) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(io(e)),
            _ => {}
        }
    }
    let meta = std::fs::symlink_metadata(folder).map_err(io)?;
    let wrong = |what: &str| {
        let problem =
            format!("{what}: blocks of volumes are kept in a folder of yours alone (volumes.blocks)");
        Err(Error::file(folder, problem))
    };
    if meta.is_symlink() {
        return wrong("is a link");
    }
    if !meta.is_dir() {
        return wrong("is no folder");
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        if meta.uid() != own(folder)? {
            return wrong("belongs to another user");
        }
        if meta.mode() & 0o022 != 0 {
            return wrong("can be written by others");
        }
    }
    Ok(())
}

/// Whether `path` is there, as a file of this user.
///
/// # Errors
/// If it is a link, no file, or another user's.
pub(super) fn is_there(path: &Path) -> Result<bool> {
    let meta = match std::fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(Error::io(path, e)),
    };
    if !meta.is_file() {
        return Err(Error::file(path, "is a link or no file, expected a file of blocks: remove it"));
    }
    #[cfg(unix)]
    if std::os::unix::fs::MetadataExt::uid(&meta) != own(path.parent().unwrap_or(Path::new(".")))? {
        return Err(Error::file(path, "belongs to another user, expected a file of yours: remove it"));
    }
    Ok(true)
}

/// Takes a file from all others.
pub(super) fn for_owner(path: &Path) -> Result<()> {
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(path, mode).map_err(|e| Error::io(path, e))?;
    }
    let _ = path;
    Ok(())
}

/// The user of this process: what it makes is his.
#[cfg(unix)]
fn own(folder: &Path) -> Result<u32> {
    use std::os::unix::fs::MetadataExt;
    static OWN: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
    if let Some(own) = OWN.get() {
        return Ok(*own);
    }
    let own = match std::fs::metadata("/proc/self") {
        Ok(meta) => meta.uid(),
        Err(_) => {
            let aside = Aside::new(&folder.join("owner"))?;
            aside.create()?.metadata().map_err(|e| Error::io(folder, e))?.uid()
        }
    };
    Ok(*OWN.get_or_init(|| own))
}

/// A file beside the one that it becomes, `.NAME.NUMBER.PID.tmp`; it goes with the value, if it is still
/// there.
pub(super) struct Aside(pub(super) PathBuf);

impl Aside {
    pub(super) fn new(path: &Path) -> Result<Aside> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = path.file_name().ok_or_else(|| Error::file(path, "is no file name"))?.to_string_lossy();
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Ok(Aside(folder.join(format!(".{name}.{number}.{}.tmp", std::process::id()))))
    }

    /// Makes the file, for its owner alone. What was left under its name is removed; a link is not followed.
    pub(super) fn create(&self) -> Result<File> {
        let _ = std::fs::remove_file(&self.0);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(&self.0).map_err(|e| Error::io(&self.0, e))
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Whether a process of this number runs; where that cannot be known, files of the last day count as in use.
pub(super) fn runs(process: u32, file: &Path) -> bool {
    if process == std::process::id() {
        return true;
    }
    if Path::new("/proc/self").exists() {
        return Path::new("/proc").join(process.to_string()).exists();
    }
    let age = std::fs::metadata(file).and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
    age.is_some_and(|age| age.as_secs() < 86_400)
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    #![allow(clippy::unwrap_used)] // tests
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn folders_are_of_one_user() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("deep/blocks");
        folder(&own).unwrap();
        folder(&own).unwrap();
        assert_eq!(mode(&own), 0o700);
        let says = |path: &Path, part: &str| {
            let e = folder(path).unwrap_err().to_string();
            assert!(e.contains(part) && e.contains(&path.display().to_string()), "{e}");
        };
        let link = dir.path().join("link");
        symlink(&own, &link).unwrap();
        says(&link, "is a link");
        std::fs::write(dir.path().join("file"), "").unwrap();
        says(&dir.path().join("file"), "is no folder");
        std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o777)).unwrap();
        says(&own, "can be written by others");
        // Whoever may give files away (the superuser) sees that another user's are refused.
        let other = dir.path().join("other");
        std::fs::create_dir(&other).unwrap();
        if std::os::unix::fs::chown(&other, Some(65_534), None).is_ok() {
            says(&other, "another user");
        }
    }

    #[test]
    fn files_are_of_one_user() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.blocks");
        assert!(!is_there(&path).unwrap());
        let aside = Aside::new(&path).unwrap();
        // A link that waits under the name is replaced, not followed.
        let target = dir.path().join("target");
        std::fs::write(&target, "mine").unwrap();
        symlink(&target, &aside.0).unwrap();
        drop(aside.create().unwrap());
        assert_eq!((mode(&aside.0), std::fs::read(&target).unwrap()), (0o600, b"mine".to_vec()));
        std::fs::rename(&aside.0, &path).unwrap();
        assert!(is_there(&path).unwrap());
        std::fs::remove_file(&path).unwrap();
        symlink(&target, &path).unwrap();
        assert!(is_there(&path).unwrap_err().to_string().contains("is a link"));
    }
}

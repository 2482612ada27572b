//! Opening the files that a user names.
//!
//! A named pipe waits for a writer that may never come, and a device such as `/dev/zero` has no end. Both are
//! refused by what the system says of them, before they are opened. Every reader of a user's path opens it
//! here; `tests/structure.rs` holds the crates to that.

use crate::error::{Error, Result};
use std::fs::{File, Metadata};
use std::io::Read;
use std::path::Path;

/// Most bytes that [`read`] and [`text`] take into memory.
pub const LIMIT: u64 = 2 << 30;

/// What the system says of a regular file, links followed: its length, its time.
///
/// # Errors
/// [`Error::Io`] if there is no such file, [`Error::Input`] for a folder, a named pipe, a device or a socket.
pub fn regular(path: impl AsRef<Path>) -> Result<Metadata> {
    let path = path.as_ref();
    let meta = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
    check(path, meta)
}

/// Opens a regular file for reading.
///
/// # Errors
/// As [`regular`], and if it may not be read.
pub fn open(path: impl AsRef<Path>) -> Result<File> {
    let path = path.as_ref();
    regular(path)?;
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    // Another one may have taken its place in between.
    check(path, file.metadata().map_err(|e| Error::io(path, e))?)?;
    Ok(file)
}

/// The content of a regular file of at most [`LIMIT`] bytes.
///
/// # Errors
/// As [`open`], and if it is larger.
pub fn read(path: impl AsRef<Path>) -> Result<Vec<u8>> {
    read_up_to(path, LIMIT)
}

/// As [`read`], of at most `limit` bytes.
///
/// # Errors
/// As [`open`], and if it is larger.
pub fn read_up_to(path: impl AsRef<Path>, limit: u64) -> Result<Vec<u8>> {
    let path = path.as_ref();
    let file = open(path)?;
    let length = file.metadata().map_err(|e| Error::io(path, e))?.len();
    let large = || Error::file(path, format!("is larger than {} MiB, expected a smaller file", limit >> 20));
    if length > limit {
        return Err(large());
    }
    let mut bytes = Vec::with_capacity(length as usize);
    // It may grow while it is read, and files of /proc have no length.
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(|e| Error::io(path, e))?;
    if bytes.len() as u64 > limit { Err(large()) } else { Ok(bytes) }
}

/// The first `n` bytes of a regular file, or all of a shorter one.
///
/// # Errors
/// As [`open`].
pub fn head(path: impl AsRef<Path>, n: u64) -> Result<Vec<u8>> {
    let path = path.as_ref();
    let mut bytes = Vec::new();
    open(path)?.take(n).read_to_end(&mut bytes).map_err(|e| Error::io(path, e))?;
    Ok(bytes)
}

/// The text of a regular file of at most [`LIMIT`] bytes.
///
/// # Errors
/// As [`read`], and naming the line that is not UTF-8.
pub fn text(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    String::from_utf8(read(path)?).map_err(|e| {
        let valid = &e.as_bytes()[..e.utf8_error().valid_up_to()];
        let line = 1 + valid.iter().filter(|b| **b == b'\n').count();
        Error::file(path, format!("line {line} is not UTF-8"))
    })
}

fn check(path: &Path, meta: Metadata) -> Result<Metadata> {
    if meta.is_file() {
        return Ok(meta);
    }
    let what = if meta.is_dir() { "a folder" } else { special(&meta) };
    Err(Error::file(path, format!("is {what}, expected a regular file")))
}

#[cfg(unix)]
fn special(meta: &Metadata) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    let kind = meta.file_type();
    if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

#[cfg(not(unix))]
fn special(_: &Metadata) -> &'static str {
    "no regular file"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_is_refused_before_it_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.txt");
        std::fs::write(&path, "one\ntwo").unwrap();
        assert_eq!(
            (text(&path).unwrap(), head(&path, 3).unwrap()),
            ("one\ntwo".to_string(), b"one".to_vec())
        );
        assert_eq!(regular(&path).unwrap().len(), 7);
        assert!(read_up_to(&path, 6).unwrap_err().to_string().contains("a.txt"));
        assert_eq!(read_up_to(&path, 7).unwrap(), b"one\ntwo");
        std::fs::write(&path, b"one\nt\xffo").unwrap();
        assert!(text(&path).unwrap_err().to_string().contains("line 2 is not UTF-8"));
        assert!(open(dir.path()).unwrap_err().to_string().contains("is a folder"));
        assert!(matches!(open(dir.path().join("absent")), Err(Error::Io { .. })));
    }

    /// Opening a pipe without a writer would wait for ever.
    #[cfg(unix)]
    #[test]
    fn pipes_and_devices() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for read in
            [|p: &Path| open(p).map(drop), |p: &Path| read(p).map(drop), |p: &Path| head(p, 1).map(drop)]
        {
            assert!(read(&pipe).unwrap_err().to_string().contains("pipe: is a named pipe"));
            assert!(read(Path::new("/dev/zero")).unwrap_err().to_string().contains("/dev/zero: is a device"));
        }
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/dev/zero", &link).unwrap();
        assert!(text(&link).unwrap_err().to_string().contains("link: is a device"));
    }

    /// A length is what the system says: a file of holes takes no memory.
    #[test]
    fn files_of_holes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("holes");
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("larger than 2048 MiB"));
    }
}

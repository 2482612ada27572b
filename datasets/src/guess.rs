//! Finds the modality of a path by looking at its files, never by their number alone.
//!
//! Files that merely accompany others (a README, a table of labels, the transcript `a.txt` beside `a.wav`) do
//! not count. What is left must be of one kind.

use crate::kind::{Kind, one_of};
use crate::recognise::{KNOWN, Recogniser, count, is_unread_recording, kind_of_file};
use crate::registry;
use crate::walk::Walk;
use selfsup_core::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Finds the modality of a data set's name, a file or a folder among those of this workspace.
///
/// # Errors
/// As [`kind_among`].
pub fn kind_of(what: &str) -> Result<Kind> {
    kind_among(what, KNOWN)
}

/// Finds the modality of a data set's name, a file or a folder among those of `table`.
///
/// # Errors
/// If nothing is there, nothing of it is known, or files of several kinds lie side by side: the error counts
/// them.
pub fn kind_among(what: &str, table: &[Recogniser]) -> Result<Kind> {
    if let Some(card) = registry::list().iter().find(|c| c.name == what) {
        return Ok(card.kind);
    }
    let path = Path::new(what);
    let meta = match std::fs::metadata(path) {
        Ok(meta) => meta,
        // The message about names that are not known.
        Err(_) => return registry::open(what).map(|_| Kind::Vision),
    };
    if meta.is_file() {
        return kind_of_file(path, table).ok_or_else(|| {
            let names: Vec<&str> = table.iter().map(|r| r.kind.name()).collect();
            let names = one_of(&names);
            Error::file(path, format_args!("not a kind of data that is known: say modality = {names}"))
        });
    }
    if !meta.is_dir() {
        // A pipe, a device: opening says what it is.
        return Err(selfsup_core::file::open(path)
            .err()
            .unwrap_or_else(|| Error::file(path, "neither a file nor a folder")));
    }
    let samples: Vec<&str> = table.iter().map(|r| r.kind.samples()).collect();
    let samples = one_of(&samples);
    let files = Walk::files(path, |_| true)?;
    if files.is_empty() {
        return Err(Error::file(path, format_args!("no {samples} found: the folder is empty")));
    }
    match count(&files, table)[..] {
        [(kind, _)] => Ok(kind),
        [] => Err(Error::file(
            path,
            format_args!(
                "no {samples} found among its {} files, by ending or by their first bytes{}",
                files.len(),
                unread(&files)
            ),
        )),
        ref several => {
            let list: Vec<String> =
                several.iter().map(|(kind, n)| format!("{n} {}", kind.samples())).collect();
            Err(Error::file(
                path,
                format_args!(
                    "holds more than one kind of data ({}): give a folder of one kind, or say which with modality=...",
                    list.join(", ")
                ),
            ))
        }
    }
}

/// What is said of recordings that nothing here decodes; nothing where there are none.
fn unread(files: &[PathBuf]) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for file in files.iter().filter(|f| is_unread_recording(f)) {
        let ending = file.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        *counts.entry(ending).or_default() += 1;
    }
    let kinds: Vec<String> = counts.iter().map(|(ending, n)| format!("{n} .{ending}")).collect();
    match kinds.is_empty() {
        true => String::new(),
        false => format!(
            "; recordings of a kind that is not read: {} (convert them, for example with \
             `ffmpeg -i IN OUT.flac`)",
            kinds.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, files: &[(&str, &[u8])]) {
        for (name, bytes) in files {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    }

    fn of(files: &[(&str, &[u8])]) -> Result<Kind> {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), files);
        kind_of(dir.path().to_str().unwrap())
    }

    #[test]
    fn endings_and_what_accompanies_them() {
        assert_eq!(of(&[("a/1.JPG", b""), ("labels.csv", b""), ("README.md", b"")]).unwrap(), Kind::Vision);
        assert_eq!(of(&[("1.wav", b""), ("1.txt", b"hello"), ("LICENSE.txt", b"")]).unwrap(), Kind::Speech);
        assert_eq!(
            of(&[("p1/t1.nii.gz", b""), ("p2/t1.nii", b""), ("participants.tsv", b"")]).unwrap(),
            Kind::Medical
        );
        assert_eq!(of(&[("a.txt", b""), ("b.jsonl", b""), ("c.txt.gz", b"")]).unwrap(), Kind::Text);
        assert_eq!(kind_of("fashion-mnist").unwrap(), Kind::Vision);
    }

    #[test]
    fn marks_of_files_without_an_ending() {
        let mut dicom = vec![0; 128];
        dicom.extend(b"DICM");
        assert_eq!(of(&[("IM0001", &dicom), ("IM0002", &dicom)]).unwrap(), Kind::Medical);
        assert_eq!(of(&[("x", b"RIFF\0\0\0\0WAVEfmt ")]).unwrap(), Kind::Speech);
        assert_eq!(
            of(&[("y", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x05\0\0\0\x05\x08\x02\0\0\0")]).unwrap(),
            Kind::Vision
        );
    }

    #[test]
    fn mixed_and_empty_folders_are_refused_with_numbers() {
        let e = of(&[("1.png", b""), ("2.png", b""), ("3.wav", b"")]).unwrap_err().to_string();
        assert!(e.contains("2 images") && e.contains("1 recordings"), "{e}");
        let e = of(&[("1.png", b""), ("diary.txt", b"dear")]).unwrap_err().to_string();
        assert!(e.contains("1 images") && e.contains("1 texts"), "{e}");
        let e = of(&[("program.xyz", b"\0\x01")]).unwrap_err().to_string();
        assert!(e.contains("1 files"), "{e}");
        // A table beside recordings that nothing decodes is no data of its own.
        let e = of(&[("a.opus", b""), ("b.OPUS", b""), ("c.au", b""), ("labels.csv", b"")])
            .unwrap_err()
            .to_string();
        assert!(e.contains("not read: 1 .au, 2 .opus") && e.contains("ffmpeg"), "{e}");
        assert!(kind_of("no-such-thing").unwrap_err().to_string().contains("no such file"));
        #[cfg(unix)]
        assert!(kind_of("/dev/zero").unwrap_err().to_string().contains("expected a regular file"));
    }
}

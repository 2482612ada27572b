//! Which modality a path holds: told by looking at its files, never by their number alone.
//!
//! A file counts by its ending, and where that says nothing by its first bytes. Files that merely accompany
//! others (a README, a table of labels, the transcript `a.txt` beside `a.wav`) do not count. What is left
//! must be of one kind.

use crate::folder::Walk;
use selfsup_core::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

/// A modality, by its data.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Images.
    #[default]
    Vision,
    /// Documents, lines and tables of text.
    Text,
    /// Recordings.
    Speech,
    /// Volumes, series and radiographs.
    Medical,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 4] = [Kind::Vision, Kind::Text, Kind::Speech, Kind::Medical];

    /// Its name in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Vision => "vision",
            Kind::Text => "text",
            Kind::Speech => "speech",
            Kind::Medical => "medical",
        }
    }

    /// The kind of that name.
    ///
    /// # Errors
    /// If there is none.
    pub fn named(name: &str) -> Result<Self> {
        let of = |k: &&Kind| k.name() == name;
        let known =
            || Error::config(format!("modality = \"{name}\": expected vision, text, speech or medical"));
        Kind::ALL.iter().find(of).copied().ok_or_else(known)
    }

    /// What its samples are called.
    pub fn samples(self) -> &'static str {
        match self {
            Kind::Vision => "images",
            Kind::Text => "texts",
            Kind::Speech => "recordings",
            Kind::Medical => "medical images",
        }
    }

    /// Endings of its files, in lower case and without the point. Compressed forms (`txt.gz`, `nii.gz`) are
    /// named whole.
    pub fn endings(self) -> &'static [&'static str] {
        match self {
            Kind::Vision => &crate::folder::ENDINGS,
            Kind::Text => &[
                "txt",
                "text",
                "md",
                "jsonl",
                "ndjson",
                "csv",
                "tsv",
                "txt.gz",
                "jsonl.gz",
                "txt.zst",
                "jsonl.zst",
            ],
            Kind::Speech => &["wav", "flac", "mp3", "ogg", "oga", "m4a", "aac", "aiff", "aif", "mp4"],
            Kind::Medical => &["dcm", "dicom", "ima", "nii", "nii.gz", "nrrd", "nhdr"],
        }
    }

    /// Whether a file's name ends like one of this kind, in any case.
    pub fn holds(self, path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        self.endings()
            .iter()
            .any(|e| name.strip_suffix(e).is_some_and(|stem| stem.len() > 1 && stem.ends_with('.')))
    }

    /// The kind of a file by its first bytes (at least 132 are looked at); text has no mark and is never
    /// found here.
    pub fn of_bytes(head: &[u8]) -> Option<Kind> {
        let at = |offset: usize, mark: &[u8]| head.get(offset..offset + mark.len()) == Some(mark);
        let medical = at(128, b"DICM") || at(0, b"NRRD0") || at(344, b"n+1\0") || at(344, b"ni1\0");
        let audio =
            [&b"fLaC"[..], b"OggS", b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf1"].iter().any(|m| at(0, m))
                || at(0, b"RIFF") && at(8, b"WAVE")
                || at(0, b"FORM") && (at(8, b"AIFF") || at(8, b"AIFC"))
                || at(4, b"ftypM4A");
        match () {
            () if medical => Some(Kind::Medical),
            () if audio => Some(Kind::Speech),
            () => crate::size::head(head).map(|_| Kind::Vision),
        }
    }

    /// The kind of a file, by its ending or its first bytes.
    fn of_file(path: &Path) -> Option<Kind> {
        // `.nii.gz` before `.gz`: the medical endings are looked at first.
        if let Some(kind) =
            [Kind::Medical, Kind::Speech, Kind::Vision, Kind::Text].into_iter().find(|k| k.holds(path))
        {
            return Some(kind);
        }
        let name = path.file_name()?.to_string_lossy().to_lowercase();
        #[cfg(feature = "parquet")]
        if name.ends_with(".parquet") && crate::parquet::holds_texts(path) {
            return Some(Kind::Text);
        }
        if ["tar", "parquet"].iter().any(|e| name.ends_with(&format!(".{e}")))
            || name.contains("ubyte")
            || name.ends_with("_batch.bin")
        {
            return Some(Kind::Vision);
        }
        let mut head = Vec::new();
        std::fs::File::open(path).ok()?.take(512).read_to_end(&mut head).ok()?;
        Kind::of_bytes(&head)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Finds the modality of a data set's name, a file or a folder.
///
/// # Errors
/// If nothing is there, nothing of it is known, or files of several kinds lie side by side: the error counts
/// them.
pub fn kind_of(what: &str) -> Result<Kind> {
    if let Some(card) = crate::registry::CARDS.iter().find(|c| c.name == what) {
        return Ok(card.kind);
    }
    let path = Path::new(what);
    let meta = match std::fs::metadata(path) {
        Ok(meta) => meta,
        // The message about names that are not known.
        Err(_) => return crate::registry::open(what).map(|_| Kind::Vision),
    };
    if meta.is_file() {
        return Kind::of_file(path).ok_or_else(|| {
            Error::file(
                path,
                "not a kind of data that is known: say modality = vision, text, speech or medical",
            )
        });
    }
    let files = Walk::files(path, |_| true)?;
    if files.is_empty() {
        return Err(Error::file(
            path,
            "no images, texts, recordings or medical images found: the folder is empty",
        ));
    }
    let found = count(&files);
    let list: Vec<String> = found.iter().map(|(kind, n)| format!("{n} {}", kind.samples())).collect();
    match found.len() {
        1 => Ok(found.keys().next().copied().unwrap_or_default()),
        0 => Err(Error::file(
            path,
            format_args!(
                "no images, texts, recordings or medical images found among its {} files, by ending or by their first bytes",
                files.len()
            ),
        )),
        _ => Err(Error::file(
            path,
            format_args!(
                "holds more than one kind of data ({}): give a folder of one kind, or say which with modality=...",
                list.join(", ")
            ),
        )),
    }
}

/// All files of one kind below a folder, told by their endings or first bytes, sorted.
///
/// # Errors
/// If a folder cannot be read or folders are nested deeper than 64.
pub fn files(root: &Path, kind: Kind) -> Result<Vec<PathBuf>> {
    Walk::files(root, |path| Kind::of_file(path) == Some(kind))
}

/// Files by kind, without those that accompany others.
fn count(files: &[PathBuf]) -> BTreeMap<Kind, usize> {
    let kinds: Vec<(&PathBuf, Kind)> = files.iter().filter_map(|f| Some((f, Kind::of_file(f)?))).collect();
    let stem = |path: &Path| path.with_extension("");
    let samples: BTreeSet<PathBuf> =
        kinds.iter().filter(|(_, k)| *k != Kind::Text).map(|(f, _)| stem(f)).collect();
    let mut found = BTreeMap::new();
    for (file, kind) in kinds {
        if kind == Kind::Text && !samples.is_empty() && (accompanies(file) || samples.contains(&stem(file))) {
            continue;
        }
        *found.entry(kind).or_default() += 1;
    }
    found
}

/// Tables and notes beside samples of another kind.
fn accompanies(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let note = [
        "readme",
        "license",
        "licence",
        "copying",
        "copyright",
        "labels",
        "classes",
        "transcripts",
        "changes",
        "about",
        "notes",
    ];
    !name.ends_with(".txt") && !name.ends_with(".text") || note.iter().any(|n| name.starts_with(n))
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
        assert!(kind_of("no-such-thing").unwrap_err().to_string().contains("no such file"));
        assert!(Kind::named("image").unwrap_err().to_string().contains("medical"));
    }
}

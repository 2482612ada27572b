//! How the files of each modality are recognised: by their endings, and where those say nothing by their
//! first bytes.
//!
//! A modality is a [`Recogniser`] in a table; [`KNOWN`] holds those of this workspace. A program with a
//! further modality hands over a table of its own.

use crate::kind::Kind;
use crate::size::{self, Head};
use crate::unpacked::is_packed;
use crate::walk::Walk;
use selfsup_core::Result;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// How many bytes [`Recogniser::bytes`] is shown at most.
const HEAD: u64 = 512;

/// How the files of one modality are recognised.
///
/// ```
/// use selfsup_datasets::Kind;
/// use selfsup_datasets::recognise::{KNOWN, Recogniser, kind_of_file};
/// use std::path::Path;
///
/// let series = Recogniser {
///     endings: &["series"],
///     bytes: |head| head.starts_with(b"SERIES"),
///     ..Recogniser::new(Kind::new("series", "series of numbers"))
/// };
/// let table = [&[series][..], KNOWN].concat();
/// assert_eq!(kind_of_file(Path::new("a.series"), &table), Some(series.kind));
/// assert_eq!(kind_of_file(Path::new("a.flac"), &table), Some(Kind::Speech));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Recogniser {
    /// The modality.
    pub kind: Kind,
    /// Endings of its files, in lower case and without the point. Compressed forms (`txt.gz`, `nii.gz`) are
    /// named whole: of two endings that fit, the longer one decides.
    pub endings: &'static [&'static str],
    /// Whether a file of which no ending is known holds many samples of the modality.
    pub container: fn(&Path) -> bool,
    /// Whether the first bytes of a file (512, or all of a shorter one) are the modality's.
    pub bytes: fn(&[u8]) -> bool,
    /// Whether a file of the modality merely accompanies samples of another one beside it (a README, a table
    /// of labels). Where this is given, a file named like a sample (`a.txt` beside `a.wav`) does so too.
    pub accompanies: Option<fn(&Path) -> bool>,
}

/// Those of this workspace.
pub const KNOWN: &[Recogniser] = &[VISION, TEXT, SPEECH, MEDICAL, SIGNALS];

/// Images: pictures by themselves, and tar shards, Parquet, idx and CIFAR's files.
pub const VISION: Recogniser = Recogniser {
    endings: &["jpg", "jpeg", "png", "webp", "tif", "tiff", "bmp", "gif", "jfif", "ppm", "pgm", "pbm", "pnm"],
    container: |path| {
        let name = lower_name(path);
        is_shard(path)
            || name.ends_with(".parquet") && !is_table_of_texts(path)
            || name.contains("ubyte")
            || name.ends_with("_batch.bin")
    },
    // DICOM may begin like a TIFF.
    bytes: |head| size::head(head).is_some() && !is_dicom(head),
    ..Recogniser::new(Kind::Vision)
};

/// Texts: documents, lines and tables.
pub const TEXT: Recogniser = Recogniser {
    endings: &[
        "txt",
        "text",
        "md",
        "jsonl",
        "ndjson",
        "json",
        "csv",
        "tsv",
        "txt.gz",
        "jsonl.gz",
        "txt.zst",
        "jsonl.zst",
    ],
    container: is_table_of_texts,
    accompanies: Some(is_note),
    ..Recogniser::new(Kind::Text)
};

/// Endings of recordings that nothing here decodes, in lower case.
pub const RECORDINGS_NOT_READ: [&str; 21] = [
    "opus", "au", "snd", "webm", "mka", "mkv", "wma", "amr", "gsm", "caf", "ape", "wv", "spx", "3gp", "ac3",
    "dts", "mov", "mp2", "mpc", "tta", "aifc",
];

/// Recordings.
pub const SPEECH: Recogniser = Recogniser {
    endings: &[
        "wav", "flac", "mp3", "ogg", "oga", "m4a", "aac", "aiff", "aif", "mp4", "wave", "w64", "rf64", "bwf",
    ],
    bytes: |head| {
        let marks = [&b"fLaC"[..], b"OggS", b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf1"];
        marks.iter().any(|mark| head.starts_with(mark))
            || (at(head, 0, b"RIFF") || at(head, 0, b"RF64") || at(head, 0, b"BW64")) && at(head, 8, b"WAVE")
            || at(head, 0, b"riff\x2e\x91\xcf\x11")
            || at(head, 0, b"FORM") && (at(head, 8, b"AIFF") || at(head, 8, b"AIFC"))
            || at(head, 4, b"ftypM4A")
    },
    ..Recogniser::new(Kind::Speech)
};

/// Volumes, series and radiographs.
pub const MEDICAL: Recogniser = Recogniser {
    endings: &["dcm", "dicom", "ima", "nii", "nii.gz", "nrrd", "nhdr", "mha", "mhd"],
    bytes: |head| {
        let nifti = at(head, 344, b"n+1\0") || at(head, 344, b"ni1\0");
        nifti || is_dicom(head) || at(head, 0, b"NRRD0")
    },
    ..Recogniser::new(Kind::Medical)
};

/// Signals: WFDB headers, EDF, series and arrays. Tables of numbers are texts by their ending; `modality =
/// "signals"` reads them as signals.
pub const SIGNALS: Recogniser = Recogniser {
    endings: &["hea", "edf", "ts", "npy"],
    // EDF: its version, and the points of its date.
    bytes: |head| at(head, 0, b"0       ") && at(head, 170, b".") && at(head, 173, b"."),
    ..Recogniser::new(Kind::Signals)
};

impl Recogniser {
    /// One that recognises nothing yet.
    pub const fn new(kind: Kind) -> Self {
        Recogniser { kind, endings: &[], container: |_| false, bytes: |_| false, accompanies: None }
    }

    /// The recogniser of a modality of this workspace.
    pub fn of(kind: Kind) -> Option<&'static Recogniser> {
        KNOWN.iter().find(|r| r.kind == kind)
    }

    /// Whether a file's name ends like one of the modality, in any case.
    pub fn holds(&self, path: &Path) -> bool {
        self.ending(&lower_name(path)) > 0
    }

    /// Length of the longest ending that `name` has; 0 for none.
    fn ending(&self, name: &str) -> usize {
        let has = |e: &&&str| name.strip_suffix(**e).is_some_and(|s| s.len() > 1 && s.ends_with('.'));
        self.endings.iter().filter(has).map(|e| e.len()).max().unwrap_or(0)
    }
}

/// Whether a file's name ends like an image's, in any case.
pub fn is_image(path: impl AsRef<Path>) -> bool {
    VISION.holds(path.as_ref())
}

/// Whether a file without an ending is an image by its first bytes.
pub(crate) fn is_bare_image(path: &Path) -> bool {
    if path.extension().is_some() || (VISION.container)(path) {
        return false;
    }
    let head = head_of(path);
    // A text may begin with BM: then what follows is no size.
    let likely = |n: u32| (1..1 << 20).contains(&n);
    match size::head(&head) {
        Some(Head { format: "bmp", size }) => size.is_some_and(|(w, h)| likely(w) && likely(h)),
        Some(_) => !is_dicom(&head),
        None => false,
    }
}

/// The first bytes of a file; none where it cannot be read.
fn head_of(path: &Path) -> Vec<u8> {
    selfsup_core::file::head(path, HEAD).unwrap_or_default()
}

/// The modality of a file by its ending or its first bytes; where several of `table` fit, the first.
pub fn kind_of_file(path: &Path, table: &[Recogniser]) -> Option<Kind> {
    let name = lower_name(path);
    let longest = table.iter().map(|r| r.ending(&name)).max().filter(|n| *n > 0);
    if let Some(found) = table.iter().find(|r| Some(r.ending(&name)) == longest) {
        return Some(found.kind);
    }
    if let Some(found) = table.iter().find(|r| (r.container)(path)) {
        return Some(found.kind);
    }
    let head = head_of(path);
    table.iter().find(|r| (r.bytes)(&head)).map(|r| r.kind)
}

/// Whether a file's name is that of a recording that nothing here decodes.
pub(crate) fn is_unread_recording(path: &Path) -> bool {
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    RECORDINGS_NOT_READ.contains(&ending.as_str())
}

/// All files of one modality below a folder, sorted.
///
/// # Errors
/// If a folder cannot be read or folders are nested deeper than 64.
pub fn files(root: &Path, kind: Kind, table: &[Recogniser]) -> Result<Vec<PathBuf>> {
    Walk::files(root, |path| kind_of_file(path, table) == Some(kind))
}

/// How many of `files` are of each modality of `table`, without those that accompany others; modalities
/// without a file are absent.
pub fn count(files: &[PathBuf], table: &[Recogniser]) -> Vec<(Kind, usize)> {
    let kinds: Vec<(&PathBuf, Kind)> =
        files.iter().filter_map(|f| Some((f, kind_of_file(f, table)?))).collect();
    let stem = |path: &Path| path.with_extension("");
    let of = |recogniser: &Recogniser| {
        let own = kinds.iter().filter(|(_, kind)| *kind == recogniser.kind).map(|(f, _)| *f);
        let Some(accompanies) = recogniser.accompanies else { return own.count() };
        let others = kinds.iter().filter(|(_, kind)| *kind != recogniser.kind);
        let unread = files.iter().filter(|f| is_unread_recording(f));
        let samples: BTreeSet<PathBuf> = others.map(|(f, _)| *f).chain(unread).map(|f| stem(f)).collect();
        own.filter(|f| samples.is_empty() || !accompanies(f) && !samples.contains(&stem(f))).count()
    };
    table.iter().map(|r| (r.kind, of(r))).filter(|(_, n)| *n > 0).collect()
}

/// Whether a file's name is that of a tar, as it is or in gzip.
pub(crate) fn is_shard(path: &Path) -> bool {
    lower_name(path).ends_with(".tar") || is_packed(path)
}

fn lower_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().to_lowercase()
}

/// DICOM with its preamble, or from the first element of file meta information or of a data set on.
fn is_dicom(head: &[u8]) -> bool {
    let first = || [0x05, 0x08, 0x16].iter().any(|element| at(head, 0, &[8, 0, *element, 0]));
    let short =
        || at(head, 6, &[0, 0]) && head.get(4).is_some_and(|n| (2..=64).contains(n)) && at(head, 5, &[0]);
    at(head, 128, b"DICM")
        || at(head, 0, b"\x02\0\0\0UL\x04\0")
        || first() && (at(head, 4, b"CS") || at(head, 4, b"UI") || short())
}

fn at(head: &[u8], offset: usize, mark: &[u8]) -> bool {
    head.get(offset..offset + mark.len()) == Some(mark)
}

#[cfg(feature = "parquet")]
fn is_table_of_texts(path: &Path) -> bool {
    lower_name(path).ends_with(".parquet") && crate::parquet::holds_texts(path)
}

#[cfg(not(feature = "parquet"))]
fn is_table_of_texts(_: &Path) -> bool {
    false
}

/// Tables and notes beside samples of another modality.
fn is_note(path: &Path) -> bool {
    const NOTES: [&str; 11] = [
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
    let name = lower_name(path);
    !name.ends_with(".txt") && !name.ends_with(".text") || NOTES.iter().any(|n| name.starts_with(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_in_any_case() {
        for (name, kind) in [
            ("a.JPG", Kind::Vision),
            ("a.nii.gz", Kind::Medical),
            ("a.txt.gz", Kind::Text),
            ("a.b.Wav", Kind::Speech),
            ("train-images-idx3-ubyte", Kind::Vision),
            ("shard.tar", Kind::Vision),
            ("shard.tar.gz", Kind::Vision),
            ("rec.hea", Kind::Signals),
            ("a.EDF", Kind::Signals),
            ("Coffee_TRAIN.ts", Kind::Signals),
        ] {
            assert_eq!(kind_of_file(Path::new(name), KNOWN), Some(kind), "{name}");
        }
        // An ending alone is a hidden file, and `xtxt` does not end in `.txt`.
        for name in [".txt", "xtxt", "a.gz", "txt"] {
            assert_eq!(kind_of_file(Path::new(name), KNOWN), None, "{name}");
        }
        assert!(is_image("x/1.JPEG") && !is_image("jpeg") && !is_image("1.txt"));
    }

    #[test]
    fn a_dicom_file_that_begins_like_a_tiff_is_medical() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("IM0001");
        let mut head = b"II*\0".to_vec();
        head.resize(128, 0);
        std::fs::write(&path, &head).unwrap();
        assert_eq!(kind_of_file(&path, KNOWN), Some(Kind::Vision));
        head.extend(b"DICM");
        std::fs::write(&path, &head).unwrap();
        assert_eq!(kind_of_file(&path, KNOWN), Some(Kind::Medical));
        // Without the preamble: file meta information, data sets of explicit and of implicit VR.
        for head in [&b"\x02\0\0\0UL\x04\0"[..], b"\x08\0\x08\0CS\x10\0", b"\x08\0\x05\0\x0A\0\0\0ISO_IR 100"]
        {
            std::fs::write(&path, head).unwrap();
            assert_eq!(kind_of_file(&path, KNOWN), Some(Kind::Medical));
        }
        std::fs::write(&path, b"\x08\0\x05\0\x0A\0\0\x07").unwrap();
        assert_eq!(kind_of_file(&path, KNOWN), None);
    }

    #[test]
    fn a_table_takes_further_modalities() {
        // Numbers in a CSV, with a header file that accompanies other samples.
        let numbers = Recogniser {
            endings: &["csv", "num.txt.gz"],
            accompanies: Some(|path| path.ends_with("channels.csv")),
            ..Recogniser::new(Kind::new("numbers", "tables of numbers"))
        };
        let first = [&[numbers][..], KNOWN].concat();
        let last = [KNOWN, &[numbers]].concat();
        let kind = |name: &str, table: &[Recogniser]| kind_of_file(Path::new(name), table);
        assert_eq!(kind("a.csv", &first), Some(numbers.kind));
        assert_eq!(kind("a.csv", &last), Some(Kind::Text), "of two with one ending, the first");
        assert_eq!(kind("a.num.txt.gz", &last), Some(numbers.kind), "the longer ending");
        let found = |names: &[&str]| count(&names.iter().map(PathBuf::from).collect::<Vec<_>>(), &first);
        assert_eq!(found(&["a.csv", "channels.csv"]), [(numbers.kind, 2)]);
        assert_eq!(found(&["a.wav", "a.csv", "channels.csv"]), [(Kind::Speech, 1)]);
        assert_eq!(found(&["a.wav", "b.csv"]), [(numbers.kind, 1), (Kind::Speech, 1)]);
    }
}

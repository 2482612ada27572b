//! A Russian reader (voice `msu_ru_nsh_clunits` of Festival, N. V. Shmyrev 2005).
//!
//! - what: 620 read sentences of one man, 99.5 minutes, 16 kHz; transcripts with some stress marks `+`;
//!   phones with their ends (51 kinds)
//! - bundled: 30 of the shorter sentences, 163 s, as FLAC (2.7 MB)
//! - in full: Debian package `festvox-ru` (179 MB), or its folders `wav` and `lab` and the file
//!   `txt.done.data` in the folder `festvox-ru-full` of the cache
//! - licence: BSD-like (Festvox), Nickolay V. Shmyrev; the bundled part is marked as modified in its licence
//!   text
//! - use: pre-training; CTC with character or word errors; the phone said in each frame. Every fifth sentence
//!   is for testing: the whole set is sorted by name, and sentence `i` with `i % 5 == 4` belongs to `/test`.
//!   There is one speaker, so there are no groups.

use crate::card::Card;
use crate::fetch::{Client, Holds, Package, cache, fetch};
use crate::kind::Kind;
use crate::record::{Record, Records, Source, Subset, missing};
use crate::samples;
use selfsup_core::{Error, Result};
use std::path::{Path, PathBuf};

const VOICE: Package = Package {
    client: Client::Apt,
    name: "festvox-ru",
    version: "0.5+dfsg-6",
    sha256: "21ef3f0f2978ecf2e2eddb367cb0ff4a72572196d28dc69feb84f4177af5e6c4",
    holds: Holds { files: 1241, bytes: 192_014_590 },
    keep: &[
        "usr/share/festival/voices/russian/msu_ru_nsh_clunits/wav",
        "usr/share/festival/voices/russian/msu_ru_nsh_clunits/lab",
        "usr/share/festival/voices/russian/msu_ru_nsh_clunits/etc/txt.done.data",
    ],
};

/// The bundled sentences, `ru_NNNN`.
const BUNDLED: [u16; 30] = [
    18, 40, 49, 56, 58, 73, 109, 120, 154, 239, 259, 262, 268, 302, 308, 325, 372, 466, 517, 518, 537, 552,
    559, 594, 683, 697, 712, 724, 773, 836,
];

const fn card(
    name: &'static str,
    about: &'static str,
    bundled: bool,
    open: fn() -> Result<Box<dyn Records>>,
) -> Card {
    let (size, source) =
        if bundled { ("2.7 MB", "bundled") } else { ("179 MB", "apt-get download festvox-ru") };
    Card { name, kind: Kind::Speech, about, licence: "BSD-like (Festvox)", size, source, open }
}

/// The cards of this data set.
pub const CARDS: [Card; 4] = [
    card(
        "festvox-ru",
        "24 Russian sentences of one reader with transcripts and phones, to train on",
        true,
        || part(bundled()?, false),
    ),
    card("festvox-ru/test", "the 6 bundled sentences for testing", true, || part(bundled()?, true)),
    card(
        "festvox-ru-full",
        "496 Russian sentences of one reader, 80 minutes, with transcripts and phones",
        false,
        || part(full()?, false),
    ),
    card("festvox-ru-full/test", "the 124 sentences for testing, 20 minutes", false, || part(full()?, true)),
];

/// Every fifth sentence, or the others.
fn part(voice: Voice, test: bool) -> Result<Box<dyn Records>> {
    let indices = (0..voice.len()).filter(|i| (i % 5 == 4) == test).collect();
    Ok(Box::new(Subset::new(voice, indices)?))
}

/// The bundled sentences: compiled in and unpacked into the cache, from `SELFSUP_DATA/festvox-ru`, or the same
/// ones of the whole set, which is fetched if need be.
///
/// # Errors
/// If the files are not there and cannot be fetched, or are damaged.
pub fn bundled() -> Result<Voice> {
    let beside = cache().ok().map(|c| c.join("festvox-ru")).filter(|f| f.is_dir());
    match samples::folder("festvox-ru")?.or(beside) {
        Some(folder) => Voice::open(&folder),
        None => Ok(full()?.only(&BUNDLED)),
    }
}

/// All sentences, fetched as a Debian package the first time.
///
/// # Errors
/// If the files are not in the cache and cannot be fetched, or are damaged.
pub fn full() -> Result<Voice> {
    Voice::open(&fetch("festvox-ru-full", &VOICE)?)
}

/// A voice of Festival: `txt.done.data`, `wav/NAME.wav` (or `.flac`) and `lab/NAME.lab`. Records are sorted
/// by name.
pub struct Voice {
    /// Name, recording, transcript.
    sentences: Vec<(PathBuf, String)>,
    folder: PathBuf,
}

impl Voice {
    /// Reads the list of `folder`.
    ///
    /// # Errors
    /// If `txt.done.data` cannot be read, a line is not `( NAME "TEXT" )`, or a recording is not there.
    pub fn open(folder: &Path) -> Result<Self> {
        let list = [folder.join("txt.done.data"), folder.join("etc/txt.done.data")]
            .into_iter()
            .find(|p| p.is_file());
        let list = list.unwrap_or_else(|| folder.join("txt.done.data"));
        let text = selfsup_core::file::text(&list)?;
        let mut found: Vec<(String, String)> = Vec::new();
        for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
            let parsed = line.trim().strip_prefix('(').and_then(|l| l.strip_suffix(')')).and_then(|l| {
                let (name, rest) = l.trim().split_once(char::is_whitespace)?;
                let said = rest.trim().strip_prefix('"')?.strip_suffix('"')?;
                (!name.contains(['/', '\\'])).then(|| (name.to_string(), said.replace("\\\"", "\"")))
            });
            found.push(parsed.ok_or_else(|| {
                Error::file(&list, format_args!("line {} is not `( NAME \"TEXT\" )`", i + 1))
            })?);
        }
        if found.is_empty() {
            return Err(Error::file(&list, "lists no sentence"));
        }
        found.sort();
        let mut sentences = Vec::with_capacity(found.len());
        for (name, said) in found {
            let path = ["wav", "flac"]
                .iter()
                .map(|e| folder.join("wav").join(format!("{name}.{e}")))
                .find(|p| p.is_file());
            let path = path.ok_or_else(|| {
                Error::file(&list, format_args!("names {name}, but wav/{name}.wav is not there"))
            })?;
            sentences.push((path, said));
        }
        Ok(Voice { sentences, folder: folder.to_path_buf() })
    }

    /// Of the sentences those of these numbers.
    fn only(mut self, numbers: &[u16]) -> Self {
        let names: Vec<String> = numbers.iter().map(|n| format!("ru_{n:04}")).collect();
        self.sentences
            .retain(|(path, _)| path.file_stem().is_some_and(|s| names.iter().any(|n| s == n.as_str())));
        self
    }
}

impl Records for Voice {
    fn len(&self) -> usize {
        self.sentences.len()
    }

    fn get(&self, index: usize) -> Result<Record> {
        let (path, _) = self.sentences.get(index).ok_or_else(|| missing("festvox-ru", index, self.len()))?;
        Ok(Record {
            id: path.display().to_string(),
            source: Source::File(path.clone()),
            label: None,
            group: None,
        })
    }

    fn transcript(&self, index: usize) -> Option<String> {
        Some(self.sentences.get(index)?.1.clone())
    }

    fn alignment(&self, index: usize) -> Option<PathBuf> {
        let name = self.sentences.get(index)?.0.file_stem()?;
        Some(self.folder.join("lab").join(name).with_extension("lab")).filter(|p| p.is_file())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bundled_sentences_are_whole() {
        let voice = bundled().unwrap();
        assert_eq!(voice.len(), 30);
        let mut bytes = 0;
        for i in 0..voice.len() {
            let content = voice.get(i).unwrap().source.content().unwrap();
            assert!(content.starts_with(b"fLaC"));
            bytes += content.len();
            assert!(voice.transcript(i).unwrap().chars().any(|c| ('а'..='я').contains(&c)));
            let lab = std::fs::read_to_string(voice.alignment(i).unwrap()).unwrap();
            assert!(lab.starts_with('#') && lab.contains("pau"));
        }
        assert!(bytes < 3_000_000);
        let licence = samples::bytes("festvox-ru/LICENSE.txt").unwrap();
        assert!(String::from_utf8_lossy(licence).contains("Shmyrev"));
        assert_eq!(
            bundled().unwrap().only(&BUNDLED).len(),
            30,
            "a published crate takes the same of the whole"
        );
        assert_eq!(bundled().unwrap().only(&BUNDLED[1..]).len(), 29);
        let (train, test) = ((CARDS[0].open)().unwrap(), (CARDS[1].open)().unwrap());
        assert_eq!((train.len(), test.len()), (24, 6));
        crate::check_leak(&*train, &*test, ("training", "test")).unwrap();
        assert_eq!(test.transcript(0), voice.transcript(4));
        assert_eq!(test.alignment(0), voice.alignment(4));
        assert!(voice.get(30).unwrap_err().to_string().contains("below 30"));
    }

    #[test]
    fn wrong_lists_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let open = |list: &str| {
            std::fs::write(dir.path().join("txt.done.data"), list).unwrap();
            Voice::open(dir.path()).err().unwrap().to_string()
        };
        for (list, part) in [
            ("", "lists no sentence"),
            ("( a \"x\" )\nb\n", "line 2"),
            ("( a x )", "line 1"),
            ("( ../a \"x\" )", "line 1"),
            ("( a \"x\" )", "wav/a.wav is not there"),
        ] {
            let e = open(list);
            assert!(e.contains("txt.done.data") && e.contains(part), "{e}");
        }
        assert!(Voice::open(&dir.path().join("absent")).err().unwrap().to_string().contains("txt.done.data"));
    }

    /// Fetches 179 MB: run with `--ignored` where there is apt and a network.
    #[test]
    #[ignore = "fetches a package"]
    fn fetched() {
        let voice = full().unwrap();
        assert_eq!((voice.len(), full().unwrap().only(&BUNDLED).len()), (620, 30));
        assert!((0..620).all(|i| voice.alignment(i).is_some()
            && voice.get(i).unwrap().source.content().unwrap().starts_with(b"RIFF")));
        assert_eq!(((CARDS[2].open)().unwrap().len(), (CARDS[3].open)().unwrap().len()), (496, 124));
    }
}

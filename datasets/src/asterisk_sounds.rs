//! Prompts of the telephone exchange Asterisk in four languages.
//!
//! - what: more than 2,100 spoken prompts with transcripts, 8 kHz: English (Allison), French (June), Spanish
//!   (Allison), Italian (Carlo); and 500 Italian ones of a second voice (Paola)
//! - source: Debian packages `asterisk-core-sounds-LANG-wav` and, for the transcripts,
//!   `asterisk-core-sounds-LANG` (79 MB in all), or what they hold in the folders `asterisk-LANG-wav` and
//!   `asterisk-LANG-text` of the cache; Paola's are `asterisk-prompt-it-menardi-wav` (19 MB)
//! - licence: CC-BY-SA-3.0 (never bundled)
//! - use: English CTC, resampling 8 to 16 kHz, a language probe. A language has one voice, and one woman
//!   speaks English and Spanish: a probe that tells English from French may have learnt the voice, and
//!   telling English from Spanish is the honest half. The group is the prompt's name, so that the same prompt
//!   in all languages stays on one side of a split.
//! - `asterisk-sounds/one-voice`: that half, for a probe of languages that no voice can tell apart.
//! - `asterisk-sounds/speakers`: which of the four voices speaks. Two of them share a language and one speaks
//!   two, so that a voice is not told by its language alone; each was recorded in a room of its own, and that
//!   a probe may have learnt.

use crate::card::Card;
use crate::fetch::{Client, Holds, Package, fetch};
use crate::kind::Kind;
use crate::record::{Record, Records, Source, missing};
use flate2::read::GzDecoder;
use selfsup_core::{Error, Result};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

/// A language: its code, its folder of recordings, who speaks, and its packages.
struct Language {
    code: &'static str,
    voice: &'static str,
    speaker: &'static str,
    folders: [&'static str; 2],
    packages: [Package; 2],
}

const fn package(
    name: &'static str,
    sha256: &'static str,
    holds: Holds,
    keep: &'static [&'static str],
) -> Package {
    Package { client: Client::Apt, name, version: "1.6.1-1", sha256, holds, keep }
}

const LANGUAGES: [Language; 4] = [
    Language {
        code: "en",
        voice: "en_US_f_Allison",
        speaker: "Allison",
        folders: ["asterisk-en-wav", "asterisk-en-text"],
        packages: [
            package(
                "asterisk-core-sounds-en-wav",
                "2be3ea287d83299d143815fa804f11179a75b7affd4a758b98b55f5afc18a35d",
                Holds { files: 568, bytes: 24_484_548 },
                &["usr/share/asterisk/sounds/en_US_f_Allison"],
            ),
            package(
                "asterisk-core-sounds-en",
                "973e797d28e37fa6ca3c0a9d6fa717e77cf1268ae916bf09fd3503113cdffa50",
                Holds { files: 1, bytes: 8_558 },
                &["usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz"],
            ),
        ],
    },
    Language {
        code: "es",
        voice: "es_MX_f_Allison",
        speaker: "Allison",
        folders: ["asterisk-es-wav", "asterisk-es-text"],
        packages: [
            package(
                "asterisk-core-sounds-es-wav",
                "9283a09a6d56fccdcc2bcfe86c48f0f844289cfbd46a3184d8785a6f7f569903",
                Holds { files: 527, bytes: 29_761_752 },
                &["usr/share/asterisk/sounds/es_MX_f_Allison"],
            ),
            package(
                "asterisk-core-sounds-es",
                "9afdab7f559f036649fb406e625899306ca1004df8ebe39c30bfbd5912d66f74",
                Holds { files: 1, bytes: 7_921 },
                &["usr/share/doc/asterisk-core-sounds-es/core-sounds-es.txt.gz"],
            ),
        ],
    },
    Language {
        code: "fr",
        voice: "fr_CA_f_June",
        speaker: "June",
        folders: ["asterisk-fr-wav", "asterisk-fr-text"],
        packages: [
            package(
                "asterisk-core-sounds-fr-wav",
                "8d4e1bc32ed5ba7fbda40841ca1825ed20cc6232724a473c90f8bb0e53e6073e",
                Holds { files: 561, bytes: 24_972_082 },
                &["usr/share/asterisk/sounds/fr_CA_f_June"],
            ),
            package(
                "asterisk-core-sounds-fr",
                "04c82c78c570c43a7136cbc5e2488d0c470b775468dff9fbce4a131b18cf1056",
                Holds { files: 1, bytes: 9_047 },
                &["usr/share/doc/asterisk-core-sounds-fr/core-sounds-fr.txt.gz"],
            ),
        ],
    },
    Language {
        code: "it",
        voice: "it_IT_m_Carlo",
        speaker: "Carlo",
        folders: ["asterisk-it-wav", "asterisk-it-text"],
        packages: [
            package(
                "asterisk-core-sounds-it-wav",
                "5a26638089e134b8ac39363fe249c5c93c50cd8bfdc9b2499ae61ec4a35e2fcb",
                Holds { files: 599, bytes: 22_894_492 },
                &["usr/share/asterisk/sounds/it_IT_m_Carlo"],
            ),
            package(
                "asterisk-core-sounds-it",
                "3884d9457e12f21caa018c18f0d587df5d53ebea14b673d8453a134c5941ab3b",
                Holds { files: 1, bytes: 9_894 },
                &["usr/share/doc/asterisk-core-sounds-it/core-sounds-it.txt.gz"],
            ),
        ],
    },
];

/// A second Italian voice: prompts of the same names in words of its own.
const PAOLA: Package = Package {
    client: Client::Apt,
    name: "asterisk-prompt-it-menardi-wav",
    version: "1:1.4.22+mm20110907-3.1",
    sha256: "3094530d98f8758ac275572d59624c41f60969fef883f34f4886d144f3dfeb21",
    holds: Holds { files: 555, bytes: 23_831_916 },
    keep: &["usr/share/asterisk/sounds/it_IT_f_Menardi"],
};

const fn card(
    name: &'static str,
    about: &'static str,
    size: &'static str,
    open: fn() -> Result<Box<dyn Records>>,
) -> Card {
    let source = "apt-get download asterisk-core-sounds-{en,es,fr,it}-wav asterisk-core-sounds-{en,es,fr,it}";
    Card { name, kind: Kind::Speech, about, licence: "CC-BY-SA-3.0", size, source, open }
}

/// The cards of this data set.
pub const CARDS: [Card; 4] = [
    card(
        "asterisk-sounds",
        "spoken prompts in English, Spanish, French and Italian, 8 kHz, with transcripts",
        "79 MB",
        || fetched(&LANGUAGES.each_ref()),
    ),
    card("asterisk-sounds/en", "the English prompts, one voice, 8 kHz, with transcripts", "18 MB", || {
        fetched(&[&LANGUAGES[0]])
    }),
    card(
        "asterisk-sounds/one-voice",
        "the English and the Spanish prompts, one voice for both, 8 kHz, with transcripts",
        "42 MB",
        || fetched(&[&LANGUAGES[0], &LANGUAGES[1]]),
    ),
    Card {
        source: "apt-get download asterisk-core-sounds-{en,es,fr,it}-wav asterisk-core-sounds-{en,es,fr,it} asterisk-prompt-it-menardi-wav",
        ..card(
            "asterisk-sounds/speakers",
            "the prompts by voice: four, of which two are Italian and one speaks two languages",
            "98 MB",
            speakers,
        )
    },
];

/// The recordings and the list of a language, fetched if need be.
fn parts(language: &Language) -> Result<(PathBuf, PathBuf)> {
    let recordings = fetch(language.folders[0], &language.packages[0])?.join(language.voice);
    Ok((
        recordings,
        fetch(language.folders[1], &language.packages[1])?
            .join(format!("core-sounds-{}.txt.gz", language.code)),
    ))
}

fn fetched(languages: &[&Language]) -> Result<Box<dyn Records>> {
    let mut all = Vec::new();
    for language in languages {
        let (folder, list) = parts(language)?;
        all.push(Spoken { class: language.code.to_string(), folder, list });
    }
    Ok(Box::new(Prompts::open(&all)?))
}

/// Without transcripts: Paola's package lists none. Her prompts have the names of the other Italian's, in
/// words of their own.
fn speakers() -> Result<Box<dyn Records>> {
    let mut all = Vec::new();
    for language in &LANGUAGES {
        let (folder, list) = parts(language)?;
        all.push(Spoken { class: language.speaker.to_string(), folder, list });
    }
    let folder = fetch("asterisk-it-menardi-wav", &PAOLA)?.join("it_IT_f_Menardi");
    let list = parts(&LANGUAGES[3])?.1;
    all.push(Spoken { class: "Paola".to_string(), folder, list });
    let mut prompts = Prompts::open(&all)?;
    prompts.prompts.iter_mut().for_each(|p| p.said = None);
    Ok(Box::new(prompts))
}

/// Recordings of a class.
#[derive(Clone, Debug)]
pub struct Spoken {
    /// Language or voice; several folders may be of one.
    pub class: String,
    /// The folder of recordings.
    pub folder: PathBuf,
    /// The list `NAME: what is said` (gzip).
    pub list: PathBuf,
}

/// One prompt.
struct Prompt {
    path: PathBuf,
    name: String,
    label: u32,
    said: Option<String>,
}

/// Prompts that have a recording and words: what is only a sound (`[beep]`), silence, or music is left out.
pub struct Prompts {
    prompts: Vec<Prompt>,
    classes: Vec<String>,
}

impl Prompts {
    /// What the folders hold, classes in the order in which they come.
    ///
    /// # Errors
    /// If a list cannot be read, is not UTF-8 or has a line without a colon, or a folder has no recording
    /// with words.
    pub fn open(all: &[Spoken]) -> Result<Self> {
        let (mut prompts, mut classes) = (Vec::new(), Vec::<String>::new());
        for Spoken { class, folder, list } in all {
            let label = classes.iter().position(|c| c == class).unwrap_or_else(|| {
                classes.push(class.clone());
                classes.len() - 1
            });
            let said = transcripts(list)?;
            let before = prompts.len();
            for (name, said) in said {
                let path = folder.join(format!("{name}.wav"));
                let words = said.chars().any(char::is_alphabetic) && !said.starts_with(['[', '(', '<']);
                if words && path.is_file() {
                    prompts.push(Prompt { path, name, label: label as u32, said: Some(said) });
                }
            }
            if prompts.len() == before {
                return Err(Error::file(
                    folder,
                    format_args!("holds no recording that {} lists for {class}", list.display()),
                ));
            }
        }
        Ok(Prompts { prompts, classes })
    }
}

fn transcripts(list: &Path) -> Result<BTreeMap<String, String>> {
    let packed = selfsup_core::file::open(list)?;
    let mut text = String::new();
    // The lists have some ten kilobytes: what unpacks to more is none.
    GzDecoder::new(packed).take(16 << 20).read_to_string(&mut text).map_err(|e| Error::io(list, e))?;
    let mut out = BTreeMap::new();
    for (i, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(';') {
            continue;
        }
        let (name, said) = line
            .split_once(':')
            .ok_or_else(|| Error::file(list, format_args!("line {}: no colon after the name", i + 1)))?;
        let name = name.trim();
        if name.split('/').any(|p| p == "..") || name.starts_with('/') {
            return Err(Error::file(
                list,
                format_args!("line {}: the name {name} leads out of the folder", i + 1),
            ));
        }
        out.insert(name.to_string(), said.trim().to_string());
    }
    Ok(out)
}

impl Records for Prompts {
    fn len(&self) -> usize {
        self.prompts.len()
    }

    fn get(&self, index: usize) -> Result<Record> {
        let p = self.prompts.get(index).ok_or_else(|| missing("asterisk-sounds", index, self.len()))?;
        let (id, source) = (p.path.display().to_string(), Source::File(p.path.clone()));
        Ok(Record { id, source, label: Some(p.label), group: Some(p.name.clone()) })
    }

    fn label(&self, index: usize) -> Option<u32> {
        Some(self.prompts.get(index)?.label)
    }

    fn group(&self, index: usize) -> Option<String> {
        Some(self.prompts.get(index)?.name.clone())
    }

    fn transcript(&self, index: usize) -> Option<String> {
        self.prompts.get(index)?.said.clone()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn list(dir: &Path, text: &str) -> PathBuf {
        let path = dir.join("list.txt.gz");
        let mut w =
            flate2::write::GzEncoder::new(std::fs::File::create(&path).unwrap(), flate2::Compression::fast());
        w.write_all(text.as_bytes()).unwrap();
        w.finish().unwrap();
        path
    }

    #[test]
    fn words_with_a_recording_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("digits")).unwrap();
        for name in ["hello", "beep", "digits/1", "unlisted"] {
            std::fs::write(dir.path().join(format!("{name}.wav")), "").unwrap();
        }
        let text = list(
            dir.path(),
            "\u{feff}; a list\n\nhello: Hello: you.\nbeep: [beep]\ndigits/1: one\nabsent: gone\n",
        );
        let spoken = |class: &str| Spoken {
            class: class.into(),
            folder: dir.path().to_path_buf(),
            list: text.clone(),
        };
        let languages = ["en", "fr"].map(spoken);
        let set = Prompts::open(&languages).unwrap();
        assert_eq!((set.len(), set.classes()), (4, &["en".to_string(), "fr".to_string()][..]));
        assert_eq!(
            (set.label(3), set.group(3).as_deref(), set.transcript(3).as_deref()),
            (Some(1), Some("hello"), Some("Hello: you."))
        );
        assert_eq!(set.group(0), set.group(2), "one prompt in two languages is one group");
        let one = Prompts::open(&["en", "fr", "en"].map(spoken)).unwrap();
        assert_eq!(
            (one.len(), one.classes().len(), one.label(2), one.label(4)),
            (6, 2, Some(1), Some(0)),
            "two folders of one class"
        );
        assert!(set.get(0).unwrap().id.ends_with("1.wav") && set.get(4).is_err());
    }

    #[test]
    fn wrong_lists_are_named() {
        let dir = tempfile::tempdir().unwrap();
        for (text, part) in [
            ("hello\n", "line 1: no colon"),
            ("../x: y\n", "line 1: the name ../x"),
            ("a: b\n", "holds no recording"),
        ] {
            let languages = [Spoken {
                class: "en".into(),
                folder: dir.path().to_path_buf(),
                list: list(dir.path(), text),
            }];
            let e = Prompts::open(&languages).err().unwrap().to_string();
            assert!(e.contains(part), "{e}");
        }
        let absent = [Spoken {
            class: "en".into(),
            folder: dir.path().to_path_buf(),
            list: dir.path().join("absent.gz"),
        }];
        assert!(Prompts::open(&absent).err().unwrap().to_string().contains("absent.gz"));
    }

    /// Fetches 79 MB: run with `--ignored` where there is apt and a network.
    #[test]
    #[ignore = "fetches packages"]
    fn all_languages() {
        let set = (CARDS[0].open)().unwrap();
        let mut counts = [0; 4];
        for i in 0..set.len() {
            counts[set.label(i).unwrap() as usize] += 1;
            assert!(set.get(i).unwrap().source.content().unwrap().starts_with(b"RIFF"));
        }
        assert!(counts.iter().all(|c| *c > 450), "{counts:?}");
    }

    /// Fetches 98 MB: run with `--ignored` where there is apt and a network.
    #[test]
    #[ignore = "fetches packages"]
    fn all_speakers() {
        let set = (CARDS[3].open)().unwrap();
        assert_eq!(set.classes(), ["Allison", "June", "Carlo", "Paola"]);
        let mut counts = [0; 4];
        (0..set.len()).for_each(|i| counts[set.label(i).unwrap() as usize] += 1);
        assert!(counts[0] > 900 && counts[1..].iter().all(|c| *c > 350), "{counts:?}");
        assert!((0..set.len()).all(|i| set.transcript(i).is_none()));
    }
}

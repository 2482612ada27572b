//! What volunteers say about the stamps of Tux Paint, in eight languages.
//!
//! - what: about 6,900 clips of one sentence each, 3 hours, Ogg Vorbis: Bulgarian, Belarusian, Catalan,
//!   Greek, Spanish, French, Romanian, Russian; transcripts; a handful of speakers a language
//! - source: Debian package `tuxpaint-stamps-default` (161 MB), or its folder `stamps` in the folder
//!   `tuxpaint-voices` of the cache
//! - licence: GPL-2+ (never bundled)
//! - use: pre-training without labels, a language probe. The group is the stamp: the same sentence in all
//!   languages stays on one side.

use crate::card::Card;
use crate::fetch::{Client, Holds, Package, fetch};
use crate::kind::Kind;
use crate::record::{Record, Records, Source, missing};
use crate::walk::Walk;
use selfsup_core::{Error, Result};
use std::path::{Path, PathBuf};

const PACKAGE: Package = Package {
    client: Client::Apt,
    name: "tuxpaint-stamps-default",
    version: "2022.06.04-1",
    sha256: "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
    holds: Holds { files: 10397, bytes: 217_271_716 },
    keep: &["usr/share/tuxpaint/stamps"],
};

/// Languages with some hundred clips each.
const LANGUAGES: [&str; 8] = ["be", "bg", "ca", "el", "es", "fr", "ro", "ru"];

/// The card of this data set.
pub const CARD: Card = Card {
    name: "tuxpaint-voices",
    kind: Kind::Speech,
    about: "about 6,900 sentences by volunteers in eight languages, with transcripts, grouped by what they describe",
    licence: "GPL-2+",
    size: "161 MB",
    source: "apt-get download tuxpaint-stamps-default",
    open: || Ok(Box::new(Voices::open(&fetch("tuxpaint-voices", &PACKAGE)?.join("stamps"))?)),
};

/// The clips of a folder: `STAMP_desc_LANG.ogg`, with the sentences of `STAMP.txt` beside.
pub struct Voices {
    root: PathBuf,
    /// Clip, its language, and the stamp that it is about.
    clips: Vec<(PathBuf, u32, PathBuf)>,
    classes: Vec<String>,
}

impl Voices {
    /// Lists `root`.
    ///
    /// # Errors
    /// If a folder cannot be read or there is no clip.
    pub fn open(root: &Path) -> Result<Self> {
        let parts = |path: &Path| -> Option<(u32, PathBuf)> {
            let name = path.file_name()?.to_str()?;
            let (stamp, language) = name.strip_suffix(".ogg")?.rsplit_once("_desc_")?;
            let label = LANGUAGES.iter().position(|l| *l == language)?;
            Some((label as u32, path.with_file_name(stamp)))
        };
        let files = Walk::files(root, |path| parts(path).is_some())?;
        let clips: Vec<_> =
            files.into_iter().filter_map(|p| parts(&p).map(|(label, stamp)| (p, label, stamp))).collect();
        if clips.is_empty() {
            return Err(Error::file(
                root,
                format_args!("holds no clip named STAMP_desc_LANG.ogg, LANG one of {}", LANGUAGES.join(", ")),
            ));
        }
        Ok(Voices { root: root.to_path_buf(), clips, classes: LANGUAGES.map(String::from).to_vec() })
    }
}

impl Records for Voices {
    fn len(&self) -> usize {
        self.clips.len()
    }

    fn get(&self, index: usize) -> Result<Record> {
        let (path, label, _) =
            self.clips.get(index).ok_or_else(|| missing("tuxpaint-voices", index, self.len()))?;
        Ok(Record {
            id: path.display().to_string(),
            source: Source::File(path.clone()),
            label: Some(*label),
            group: self.group(index),
        })
    }

    fn label(&self, index: usize) -> Option<u32> {
        Some(self.clips.get(index)?.1)
    }

    fn group(&self, index: usize) -> Option<String> {
        let stamp = &self.clips.get(index)?.2;
        Some(stamp.strip_prefix(&self.root).unwrap_or(stamp).display().to_string())
    }

    fn transcript(&self, index: usize) -> Option<String> {
        let (_, label, stamp) = self.clips.get(index)?;
        let mut file = stamp.clone().into_os_string();
        file.push(".txt");
        let text = selfsup_core::file::text(PathBuf::from(file)).ok()?;
        let key = format!("{}.utf8=", LANGUAGES.get(*label as usize)?);
        text.lines().find_map(|l| l.strip_prefix(&key)).map(|l| l.trim().to_string())
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clips_have_language_stamp_and_sentence() {
        let dir = tempfile::tempdir().unwrap();
        let sub = dir.path().join("food/fruit");
        std::fs::create_dir_all(&sub).unwrap();
        for name in
            ["apple_desc_fr.ogg", "apple_desc_ru.ogg", "apple_desc.ogg", "apple_desc_xx.ogg", "apple.ogg"]
        {
            std::fs::write(sub.join(name), "").unwrap();
        }
        std::fs::write(sub.join("apple.txt"), "An apple.\nfr.utf8=Une pomme. \nru.utf8=Яблоко.\n").unwrap();
        let set = Voices::open(dir.path()).unwrap();
        assert_eq!((set.len(), set.classes().len()), (2, 8));
        assert_eq!((set.label(0), set.label(1)), (Some(5), Some(7)));
        assert_eq!((set.group(0), set.transcript(1).as_deref()), (set.group(1), Some("Яблоко.")));
        assert!(set.group(0).unwrap().ends_with("apple"));
        assert_eq!(set.transcript(0).as_deref(), Some("Une pomme."));
        let empty = tempfile::tempdir().unwrap();
        assert!(Voices::open(empty.path()).err().unwrap().to_string().contains("STAMP_desc_LANG"));
    }

    /// Fetches 161 MB: run with `--ignored` where there is apt and a network.
    #[test]
    #[ignore = "fetches a package"]
    fn fetched() {
        let set = (CARD.open)().unwrap();
        assert!(set.len() > 6_500, "{}", set.len());
        let said = (0..set.len()).filter(|&i| set.transcript(i).is_some()).count();
        assert!(said * 10 > set.len() * 9, "{said} of {}", set.len());
    }
}

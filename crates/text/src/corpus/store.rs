//! Documents on disk, read by position: what a corpus that does not fit into memory is turned into once.
//!
//! A folder of three files: `part-*.texts` holds the texts as UTF-8, one behind the other; `part-*.places` for
//! each text where it ends and where it came from (two u64, little endian: the end, and the number of the file
//! above 40 bits of the line); `texts.json` names both with their hashes, names the files of the corpus, and
//! says what the folder was made from. It is written last, so a folder that was left half made is made again.

use super::Document;
use super::shards::read_at;
use selfsup_core::checkpoint::{Part, PartWriter, made_once, read_sealed_json, write_sealed_json};
use selfsup_core::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Meta {
    version: u32,
    count: u64,
    texts: Part,
    places: Part,
    files: Vec<String>,
    source: String,
}

const META: &str = "texts.json";
const VERSION: u32 = 2;
const PLACE: u64 = 16;
const LINE_BITS: u32 = 40;

/// Documents in a folder.
#[derive(Debug)]
pub struct TextStore {
    texts: (PathBuf, File),
    places: (PathBuf, File),
    files: Vec<String>,
    count: u64,
    source: String,
}

impl TextStore {
    /// Writes `documents` into `folder`, which is made; `source` says what they come from
    /// ([`TextStore::open_if`]).
    ///
    /// # Errors
    /// Those of the documents, one without any, and a folder that cannot be written.
    pub fn create(
        folder: &Path,
        source: &str,
        documents: impl Iterator<Item = Result<Document>>,
    ) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        let mut texts = PartWriter::create(folder, "texts")?;
        let mut places = PartWriter::create(folder, "places")?;
        let (mut count, mut bytes, mut files) = (0, 0u64, Vec::<String>::new());
        for document in documents {
            let Document { id, text } = document?;
            let (name, line) =
                id.rsplit_once(':').and_then(|(n, l)| Some((n, l.parse::<u64>().ok()?))).unwrap_or((&id, 0));
            if files.last().is_none_or(|f| f != name) {
                files.push(name.to_string());
            }
            let place = (files.len() as u64 - 1) << LINE_BITS | line.min((1 << LINE_BITS) - 1);
            bytes += text.len() as u64;
            count += 1;
            texts.write(text.as_bytes())?;
            places.write(&bytes.to_le_bytes())?;
            places.write(&place.to_le_bytes())?;
        }
        if count == 0 {
            return Err(Error::file(folder, "no text: the files are empty"));
        }
        let (texts, places) = (texts.finish()?, places.finish()?);
        let meta = Meta { version: VERSION, count, texts, places, files, source: source.to_string() };
        write_sealed_json(&folder.join(META), &meta)?;
        Self::open(folder)
    }

    /// The folder if it is whole and was made from `source`, else made of `documents`. Of several processes
    /// that want it one makes it, and the others call `waiting` and wait for it.
    ///
    /// # Errors
    /// As [`TextStore::create`].
    pub fn open_or_create<I: Iterator<Item = Result<Document>>>(
        folder: &Path,
        source: &str,
        waiting: impl FnOnce(),
        documents: impl FnOnce() -> I,
    ) -> Result<Self> {
        let stale = |name: &str| {
            let temporary = name.starts_with("texts.") && name.ends_with(".tmp");
            [META, "texts.bin", "places.bin"].contains(&name) || temporary
        };
        let open = || Self::open_if(folder, source);
        made_once(folder, stale, open, waiting, || Self::create(folder, source, documents()))
    }

    /// Opens the folder, whose files are read through once.
    ///
    /// # Errors
    /// If it is not whole, or damaged.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(META);
        let meta: Meta = read_sealed_json(&path)?;
        if meta.version != VERSION || meta.count.checked_mul(PLACE) != Some(meta.places.bytes) {
            return Err(Error::file(
                &path,
                format!(
                    "version {} with {} bytes of places for {} texts: expected version {VERSION}, {PLACE} a text",
                    meta.version, meta.places.bytes, meta.count
                ),
            ));
        }
        let (texts, places) = rayon::join(|| meta.texts.open(folder), || meta.places.open(folder));
        Ok(TextStore {
            texts: texts?,
            places: places?,
            files: meta.files,
            count: meta.count,
            source: meta.source,
        })
    }

    /// The folder if it is whole and was made from `source`.
    pub fn open_if(folder: &Path, source: &str) -> Option<Self> {
        Self::open(folder).ok().filter(|store| store.source == source)
    }

    /// Number of documents.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are none: never.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// `(start, end, place)` of a document.
    fn place(&self, index: usize) -> Result<(u64, u64, u64)> {
        let index = index as u64;
        if index >= self.count {
            return Err(Error::input("texts", format!("there is no text {index} of {}", self.count)));
        }
        // The end of the one before it is where a text starts.
        let before = u64::from(index > 0);
        let mut raw = [0u8; 2 * PLACE as usize];
        let wanted = &mut raw[..((before + 1) * PLACE) as usize];
        read_at(&self.places.1, &self.places.0, wanted, (index - before) * PLACE)?;
        let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|k| wanted[at + k]));
        let last = (before * PLACE) as usize;
        Ok((if before == 1 { number(0) } else { 0 }, number(last), number(last + 8)))
    }

    fn name(&self, place: u64) -> String {
        let file = self.files.get((place >> LINE_BITS) as usize).map_or("?", String::as_str);
        format!("{file}:{}", place & ((1 << LINE_BITS) - 1))
    }

    /// File and line of a document.
    ///
    /// # Errors
    /// If there is no such document, or the folder cannot be read.
    pub fn id(&self, index: usize) -> Result<String> {
        Ok(self.name(self.place(index)?.2))
    }

    /// A document.
    ///
    /// # Errors
    /// As [`TextStore::id`], and if the folder is damaged.
    pub fn get(&self, index: usize) -> Result<Document> {
        let (start, end, place) = self.place(index)?;
        let damaged = || {
            Error::file(
                &self.texts.0,
                format!("text {index} is damaged: remove the folder, it is made again"),
            )
        };
        let mut bytes = vec![0; end.checked_sub(start).ok_or_else(damaged)? as usize];
        read_at(&self.texts.1, &self.texts.0, &mut bytes, start)?;
        Ok(Document { id: self.name(place), text: String::from_utf8(bytes).map_err(|_| damaged())? })
    }
}

/// A name for a folder that is made from `source`: FNV-1a, which is the same everywhere.
pub fn folder_name(source: &str) -> String {
    let hash = source
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents() -> Vec<Document> {
        let text = |id: &str, text: &str| Document { id: id.into(), text: text.into() };
        vec![
            text("a.txt:1", "eins"),
            text("a.txt:3", "zwei Wörter"),
            text("b:c.txt:7", ""),
            text("b:c.txt:9", "漢字"),
        ]
    }

    #[test]
    fn documents_come_back_by_number() {
        let dir = tempfile::tempdir().unwrap();
        let store = TextStore::create(dir.path(), "s", documents().into_iter().map(Ok)).unwrap();
        assert_eq!(store.len(), 4);
        for (i, d) in documents().into_iter().enumerate().rev() {
            assert_eq!((store.get(i).unwrap(), store.id(i).unwrap()), (d.clone(), d.id));
        }
        assert!(store.get(4).is_err() && store.id(4).is_err());
        assert!(
            TextStore::open_if(dir.path(), "s").is_some() && TextStore::open_if(dir.path(), "t").is_none()
        );
        assert_eq!(folder_name("a"), "af63dc4c8601ec8c");
    }

    #[test]
    fn half_a_folder_is_none() {
        let dir = tempfile::tempdir().unwrap();
        assert!(TextStore::create(dir.path(), "s", std::iter::empty()).is_err());
        let failing = documents().into_iter().map(Ok).chain([Err(Error::input("x", "y"))]);
        assert!(TextStore::create(dir.path(), "s", failing).is_err());
        assert!(TextStore::open_if(dir.path(), "s").is_none(), "what failed is not there");
        TextStore::create(dir.path(), "s", documents().into_iter().map(Ok)).unwrap();
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let path = entry.unwrap().path();
            let whole = std::fs::read(&path).unwrap();
            let mut flipped = whole.clone();
            flipped[whole.len() / 2] ^= 1;
            for broken in [&flipped[..], &whole[..5]] {
                std::fs::write(&path, broken).unwrap();
                let e = TextStore::open(dir.path()).unwrap_err().to_string();
                assert!(e.contains(&path.display().to_string()), "{e}");
            }
            std::fs::write(&path, &whole).unwrap();
        }
        assert!(TextStore::open_if(dir.path(), "s").is_some());
    }

    /// Many at once on one folder: one makes it, all read the same. A damaged folder is made anew, and what a
    /// killed process left behind goes.
    #[test]
    fn made_once_and_repaired() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("part-left.texts"), "half").unwrap();
        let made = std::sync::atomic::AtomicUsize::new(0);
        let open = || {
            TextStore::open_or_create(
                dir.path(),
                "s",
                || (),
                || {
                    made.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    std::thread::sleep(std::time::Duration::from_millis(20));
                    documents().into_iter().map(Ok)
                },
            )
            .unwrap()
        };
        let all = |store: &TextStore| (0..4).map(|i| store.get(i).unwrap()).collect::<Vec<_>>();
        std::thread::scope(|s| {
            let threads: Vec<_> = (0..6).map(|_| s.spawn(|| all(&open()))).collect();
            threads.into_iter().for_each(|t| assert_eq!(t.join().unwrap(), documents()));
        });
        assert_eq!(made.load(std::sync::atomic::Ordering::SeqCst), 1);
        let texts = open().texts.0.clone();
        std::fs::write(&texts, std::fs::read_to_string(&texts).unwrap().replace("eins", "Eins")).unwrap();
        assert_eq!(all(&open()), documents());
        assert_eq!(made.load(std::sync::atomic::Ordering::SeqCst), 2);
        // The lock, the list and two parts.
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 4);
    }
}

//! Documents on disk, read by position: what a corpus that does not fit into memory is turned into once.
//!
//! A folder of three files: `texts.bin` holds the texts as UTF-8, one behind the other; `places.bin` for each
//! text where it ends and where it came from (two u64, little endian: the end, and the number of the file
//! above 40 bits of the line); `texts.json` names the files and says what the folder was made from. It is
//! written last, so a folder that was left half made is made again.

use super::Document;
use super::shards::read_at;
use selfsup_core::checkpoint::write_atomic;
use selfsup_core::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Meta {
    version: u32,
    count: u64,
    bytes: u64,
    files: Vec<String>,
    source: String,
}

const META: &str = "texts.json";
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
        let meta_path = folder.join(META);
        if meta_path.exists() {
            std::fs::remove_file(&meta_path).map_err(|e| Error::io(&meta_path, e))?;
        }
        let file = |name: &str| {
            let path = folder.join(name);
            File::create(&path).map(BufWriter::new).map_err(|e| Error::io(&path, e))
        };
        let (mut texts, mut places) = (file("texts.bin")?, file("places.bin")?);
        let mut meta = Meta { version: 1, count: 0, bytes: 0, files: Vec::new(), source: source.to_string() };
        let io = |e| Error::io(folder, e);
        for document in documents {
            let Document { id, text } = document?;
            let (name, line) =
                id.rsplit_once(':').and_then(|(n, l)| Some((n, l.parse::<u64>().ok()?))).unwrap_or((&id, 0));
            if meta.files.last().is_none_or(|f| f != name) {
                meta.files.push(name.to_string());
            }
            let place = (meta.files.len() as u64 - 1) << LINE_BITS | line.min((1 << LINE_BITS) - 1);
            meta.bytes += text.len() as u64;
            meta.count += 1;
            texts.write_all(text.as_bytes()).map_err(io)?;
            places.write_all(&meta.bytes.to_le_bytes()).map_err(io)?;
            places.write_all(&place.to_le_bytes()).map_err(io)?;
        }
        if meta.count == 0 {
            return Err(Error::file(folder, "no text: the files are empty"));
        }
        for file in [texts, places] {
            file.into_inner().map_err(|e| io(e.into_error()))?.sync_all().map_err(io)?;
        }
        let json = serde_json::to_vec_pretty(&meta).map_err(|e| Error::file(&meta_path, e))?;
        write_atomic(&meta_path, |f| f.write_all(&json).map_err(|e| Error::io(&meta_path, e)))?;
        Self::open(folder)
    }

    /// Opens the folder.
    ///
    /// # Errors
    /// If it is not whole.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(META);
        let bytes = std::fs::read(&path).map_err(|e| Error::io(&path, e))?;
        let meta: Meta = serde_json::from_slice(&bytes).map_err(|e| Error::file(&path, e))?;
        if meta.version != 1 {
            return Err(Error::file(&path, format!("version {}, expected 1", meta.version)));
        }
        let part = |name: &str, expected: Option<u64>| {
            let path = folder.join(name);
            let file = File::open(&path).map_err(|e| Error::io(&path, e))?;
            let found = file.metadata().map_err(|e| Error::io(&path, e))?.len();
            if Some(found) == expected {
                Ok((path, file))
            } else {
                Err(Error::file(
                    &path,
                    format!("{found} bytes, but {META} says {}", expected.unwrap_or(u64::MAX)),
                ))
            }
        };
        Ok(TextStore {
            texts: part("texts.bin", Some(meta.bytes))?,
            places: part("places.bin", meta.count.checked_mul(PLACE))?,
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
        std::fs::write(dir.path().join("texts.bin"), "short").unwrap();
        let e = TextStore::open(dir.path()).err().unwrap().to_string();
        assert!(e.contains("texts.bin") && e.contains("5 bytes"), "{e}");
    }
}

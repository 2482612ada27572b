//! Tokens of a corpus, in memory or in shards on disk, read by position.
//!
//! A shard is two files: `part-*.tokens` with ids as u16 (u32 for a vocabulary above 65,536), little endian,
//! one document after the other, and `part-*.ends` with the end of each document as u64. `tokens.json`, which
//! is written last, names them with their hashes and says what they were made with. Opening reads them
//! through once to compare the hashes; after that reading is one `pread` for each request, whatever the size
//! of the corpus.

use rayon::prelude::*;
use selfsup_core::checkpoint::{Part, PartWriter, read_sealed_json, write_sealed_json};
use selfsup_core::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What `tokens.json` holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Meta {
    /// Format of the folder.
    version: u32,
    /// Ids are below this.
    vocabulary: usize,
    /// Bytes of an id: 2 or 4.
    width: usize,
    /// Each shard.
    shards: Vec<ShardMeta>,
    /// What the tokens were made from, in the words of whoever made them: a folder that says otherwise is
    /// made again.
    source: String,
}

/// A shard in `tokens.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ShardMeta {
    tokens: u64,
    documents: u64,
    tokens_file: Part,
    ends_file: Part,
}

const META: &str = "tokens.json";
const VERSION: u32 = 2;

/// Whether a file of a folder of tokens may go when its tokens are made again: the list, and what earlier
/// versions wrote.
pub(super) fn stale(name: &str) -> bool {
    let numbered = |stem: &str| stem.len() == 5 && stem.bytes().all(|b| b.is_ascii_digit());
    let old = name.strip_suffix(".tokens").or_else(|| name.strip_suffix(".ends")).is_some_and(numbered);
    name == META || old || name.starts_with("tokens.") && name.ends_with(".tmp")
}

/// The shard that is being written.
struct Open {
    tokens: PartWriter,
    ends: PartWriter,
    counts: (u64, u64),
}

/// Writes shards, each into files of its own names, so that several writers of one folder do not meet. The
/// folder has the tokens of whoever finished last.
pub struct ShardWriter {
    folder: PathBuf,
    meta: Meta,
    limit: u64,
    open: Option<Open>,
    /// The list is there, so the files stay.
    listed: bool,
}

impl ShardWriter {
    /// Into `folder`, which is made; `source` says what the tokens are made from ([`Tokens::open_if`]). A
    /// shard takes up to `limit` tokens, and a document is not divided. What the folder has stays until
    /// [`ShardWriter::finish`].
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn create(folder: &Path, vocabulary: usize, source: &str, limit: u64) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        let width = if vocabulary <= 1 << 16 { 2 } else { 4 };
        let source = source.to_string();
        let meta = Meta { version: VERSION, vocabulary, width, shards: Vec::new(), source };
        Ok(ShardWriter { folder: folder.to_path_buf(), meta, limit: limit.max(1), open: None, listed: false })
    }

    /// Appends a document.
    ///
    /// # Errors
    /// If an id is not below the vocabulary, or a file cannot be written.
    pub fn push(&mut self, ids: &[u32]) -> Result<()> {
        if let Some(id) = ids.iter().find(|id| **id as usize >= self.meta.vocabulary) {
            return Err(Error::file(
                &self.folder,
                format!("token {id} of a vocabulary of {}", self.meta.vocabulary),
            ));
        }
        let n = ids.len() as u64;
        if self.open.as_ref().is_some_and(|s| s.counts.0 > 0 && s.counts.0 + n > self.limit) {
            self.finish_shard()?;
        }
        let shard = match &mut self.open {
            Some(shard) => shard,
            None => self.open.insert(Open {
                tokens: PartWriter::create(&self.folder, "tokens")?,
                ends: PartWriter::create(&self.folder, "ends")?,
                counts: (0, 0),
            }),
        };
        let mut bytes = Vec::with_capacity(ids.len() * self.meta.width);
        ids.iter().for_each(|id| bytes.extend_from_slice(&id.to_le_bytes()[..self.meta.width]));
        shard.tokens.write(&bytes)?;
        shard.counts.0 += n;
        shard.counts.1 += 1;
        shard.ends.write(&shard.counts.0.to_le_bytes())
    }

    fn finish_shard(&mut self) -> Result<()> {
        if let Some(Open { tokens, ends, counts }) = self.open.take() {
            let (tokens_file, ends_file) = (tokens.finish()?, ends.finish()?);
            let (tokens, documents) = counts;
            self.meta.shards.push(ShardMeta { tokens, documents, tokens_file, ends_file });
        }
        Ok(())
    }

    /// Ends the last shard and makes the folder visible to [`Tokens::open`].
    ///
    /// # Errors
    /// If no document was written, or a file cannot be.
    pub fn finish(mut self) -> Result<Tokens> {
        self.finish_shard()?;
        if self.meta.shards.iter().all(|s| s.tokens == 0) {
            return Err(Error::too_few(self.folder.display(), "no tokens: the corpus has no text"));
        }
        write_sealed_json(&self.folder.join(META), &self.meta)?;
        self.listed = true;
        Tokens::open(&self.folder)
    }
}

impl Drop for ShardWriter {
    fn drop(&mut self) {
        for shard in self.meta.shards.iter().filter(|_| !self.listed) {
            for part in [&shard.tokens_file, &shard.ends_file] {
                // A folder that cannot be tidied is tidied when the tokens are made again.
                let _ = std::fs::remove_file(self.folder.join(&part.name));
            }
        }
    }
}

#[derive(Debug)]
struct Shard {
    tokens: PathBuf,
    ends: PathBuf,
    files: (File, File),
}

#[derive(Debug)]
enum Store {
    Memory { ids: Vec<u32>, ends: Vec<u64> },
    Disk { width: usize, shards: Vec<Shard> },
}

/// The tokens of a corpus. Clones share them.
#[derive(Clone, Debug)]
pub struct Tokens {
    store: Arc<Store>,
    /// `(tokens, documents)` of each shard.
    sizes: Arc<Vec<(u64, u64)>>,
}

/// `buffer.len()` bytes from `offset`; several threads may read one file.
pub(super) fn read_at(file: &File, path: &Path, buffer: &mut [u8], offset: u64) -> Result<()> {
    #[cfg(unix)]
    let done = std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset);
    #[cfg(not(unix))]
    let done = {
        // No position of its own: open the file once more.
        let _ = file;
        let mut f = selfsup_core::file::open(path)?;
        std::io::Seek::seek(&mut f, std::io::SeekFrom::Start(offset))
            .and_then(|_| std::io::Read::read_exact(&mut f, buffer))
    };
    done.map_err(|e| Error::io(path, e))
}

impl Tokens {
    /// Documents in memory.
    ///
    /// # Errors
    /// If there are none, or no tokens in them.
    pub fn memory(documents: impl IntoIterator<Item = Vec<u32>>) -> Result<Self> {
        let (mut ids, mut ends) = (Vec::new(), Vec::new());
        for d in documents {
            ids.extend(d);
            ends.push(ids.len() as u64);
        }
        if ids.is_empty() {
            return Err(Error::too_few("corpus", "no tokens: the corpus has no text"));
        }
        let sizes = vec![(ids.len() as u64, ends.len() as u64)];
        Ok(Tokens { store: Arc::new(Store::Memory { ids, ends }), sizes: Arc::new(sizes) })
    }

    /// Shards in `folder`, whose files are read through once.
    ///
    /// # Errors
    /// If they are not there, or a file is not what `tokens.json` says: of another length, or damaged.
    pub fn open(folder: &Path) -> Result<Self> {
        let meta = Self::meta(folder)?;
        let open = |part: &Part, count: u64, width: u64| {
            if count.checked_mul(width) != Some(part.bytes) {
                return Err(Error::file(
                    folder.join(META),
                    format!("{} has {} bytes for {count} entries of {width}", part.name, part.bytes),
                ));
            }
            part.open(folder)
        };
        let shards = meta.shards.par_iter().map(|s| {
            let (tokens, a) = open(&s.tokens_file, s.tokens, meta.width as u64)?;
            let (ends, b) = open(&s.ends_file, s.documents, 8)?;
            Ok(Shard { tokens, ends, files: (a, b) })
        });
        let shards = shards.collect::<Vec<Result<Shard>>>().into_iter().collect::<Result<_>>()?;
        Ok(Tokens {
            store: Arc::new(Store::Disk { width: meta.width, shards }),
            sizes: Arc::new(meta.shards.iter().map(|s| (s.tokens, s.documents)).collect()),
        })
    }

    /// The shards in `folder` if they are whole and were made from `source`, with this vocabulary.
    pub fn open_if(folder: &Path, vocabulary: usize, source: &str) -> Option<Self> {
        let meta = Self::meta(folder).ok()?;
        if meta.source != source || meta.vocabulary != vocabulary {
            return None;
        }
        Self::open(folder).ok()
    }

    fn meta(folder: &Path) -> Result<Meta> {
        let path = folder.join(META);
        let meta: Meta = read_sealed_json(&path)?;
        if meta.version != VERSION || !matches!(meta.width, 2 | 4) {
            return Err(Error::file(
                &path,
                format!(
                    "version {} with ids of {} bytes: expected version {VERSION}, 2 or 4 bytes",
                    meta.version, meta.width
                ),
            ));
        }
        Ok(meta)
    }

    /// Number of shards; no block or document crosses from one into the next.
    pub fn shards(&self) -> usize {
        self.sizes.len()
    }

    /// `(tokens, documents)` of a shard.
    pub fn size(&self, shard: usize) -> (u64, u64) {
        self.sizes.get(shard).copied().unwrap_or_default()
    }

    /// Tokens in all.
    pub fn len(&self) -> u64 {
        self.sizes.iter().map(|s| s.0).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Documents in all.
    pub fn documents(&self) -> u64 {
        self.sizes.iter().map(|s| s.1).sum()
    }

    /// The tokens `range` of a shard.
    ///
    /// # Errors
    /// If they are not there, or cannot be read.
    pub fn read(&self, shard: usize, range: Range<u64>) -> Result<Vec<u32>> {
        if range.start > range.end || range.end > self.size(shard).0 {
            return Err(Error::input(
                "corpus",
                format!("tokens {range:?} of shard {shard}, which has {}", self.size(shard).0),
            ));
        }
        match &*self.store {
            Store::Memory { ids, .. } => Ok(ids[range.start as usize..range.end as usize].to_vec()),
            Store::Disk { width, shards } => {
                let s = &shards[shard];
                let mut bytes = vec![0; (range.end - range.start) as usize * width];
                read_at(&s.files.0, &s.tokens, &mut bytes, range.start * *width as u64)?;
                let id = |b: &[u8]| b.iter().rev().fold(0u32, |id, b| id << 8 | u32::from(*b));
                Ok(bytes.chunks_exact(*width).map(id).collect())
            }
        }
    }

    /// Where document `index` of a shard lies.
    ///
    /// # Errors
    /// If there is no such document, or its place is damaged.
    pub fn document(&self, shard: usize, index: u64) -> Result<Range<u64>> {
        let (tokens, documents) = self.size(shard);
        if index >= documents {
            return Err(Error::input(
                "corpus",
                format!("document {index} of shard {shard}, which has {documents}"),
            ));
        }
        let (start, end) = match &*self.store {
            Store::Memory { ends, .. } => {
                let i = index as usize;
                (if i == 0 { 0 } else { ends[i - 1] }, ends[i])
            }
            Store::Disk { shards, .. } => {
                let s = &shards[shard];
                let mut both = [0; 16];
                let from = usize::from(index == 0) * 8;
                read_at(&s.files.1, &s.ends, &mut both[from..], (index * 8).saturating_sub(8))?;
                let number = |b: &[u8]| b.iter().rev().fold(0u64, |n, b| n << 8 | u64::from(*b));
                let (start, end) = (number(&both[..8]), number(&both[8..]));
                if start > end || end > tokens {
                    return Err(Error::file(
                        &s.ends,
                        format!(
                            "document {index} lies at {start}..{end} of {tokens} tokens: the file is damaged"
                        ),
                    ));
                }
                (start, end)
            }
        };
        Ok(start..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn the_same_from_disk_and_memory(
            documents in proptest::collection::vec(proptest::collection::vec(0_u32..70_000, 0..9), 1..30),
            wide: bool, limit in 1_u64..40,
        ) {
            let documents: Vec<Vec<u32>> = documents.into_iter().map(|d| d.into_iter().map(|i| if wide { i } else { i % 65_536 }).collect()).collect();
            prop_assume!(documents.iter().any(|d| !d.is_empty()));
            let dir = tempfile::tempdir().unwrap();
            let mut writer = ShardWriter::create(dir.path(), if wide { 70_000 } else { 65_536 }, "x", limit).unwrap();
            documents.iter().for_each(|d| writer.push(d).unwrap());
            let disk = writer.finish().unwrap();
            let memory = Tokens::memory(documents.clone()).unwrap();
            prop_assert_eq!((disk.len(), disk.documents()), (memory.len(), memory.documents()));
            let all = |t: &Tokens| -> Vec<Vec<u32>> {
                (0..t.shards()).flat_map(|s| (0..t.size(s).1).map(move |d| (s, d))).map(|(s, d)| t.read(s, t.document(s, d).unwrap()).unwrap()).collect()
            };
            prop_assert_eq!(all(&disk), documents);
            let whole = |t: &Tokens| (0..t.shards()).flat_map(|s| t.read(s, 0..t.size(s).0).unwrap()).collect::<Vec<_>>();
            prop_assert_eq!(whole(&disk), whole(&memory));
            prop_assert!((0..disk.shards()).all(|s| disk.size(s).0 <= limit.max(8)));
        }
    }

    #[test]
    fn damage_and_other_sources_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        let write = || {
            let mut w = ShardWriter::create(dir.path(), 100, "a", 1000).unwrap();
            w.push(&[1, 2, 3]).unwrap();
            assert!(w.push(&[100]).err().unwrap().to_string().contains("token 100 of a vocabulary of 100"));
            // Not visible before it is whole.
            assert!(Tokens::open(dir.path()).is_err());
            w.finish().unwrap()
        };
        let tokens = write();
        assert!(
            tokens.read(0, 1..4).is_err() && tokens.document(0, 1).is_err() && tokens.read(1, 0..1).is_err()
        );
        assert!(Tokens::open_if(dir.path(), 100, "a").is_some());
        assert!(
            Tokens::open_if(dir.path(), 100, "b").is_none() && Tokens::open_if(dir.path(), 99, "a").is_none()
        );
        // A flipped bit or a cut in any of the three files.
        let names = || -> Vec<PathBuf> {
            std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path()).collect()
        };
        assert_eq!(names().len(), 3);
        for path in names() {
            let whole = std::fs::read(&path).unwrap();
            let mut flipped = whole.clone();
            flipped[whole.len() / 2] ^= 2;
            for broken in [&flipped[..], &whole[..whole.len() - 1]] {
                std::fs::write(&path, broken).unwrap();
                let e = Tokens::open(dir.path()).unwrap_err().to_string();
                assert!(e.contains(&path.display().to_string()), "{e}");
                assert!(Tokens::open_if(dir.path(), 100, "a").is_none());
            }
            std::fs::write(&path, &whole).unwrap();
            assert!(Tokens::open_if(dir.path(), 100, "a").is_some());
        }
        assert!(
            ShardWriter::create(dir.path(), 100, "a", 1000)
                .unwrap()
                .finish()
                .err()
                .unwrap()
                .to_string()
                .contains("no text")
        );
        assert!(Tokens::memory(Vec::new()).is_err());
    }
}

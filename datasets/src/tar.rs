//! Tar shards in WebDataset's layout: the members of one sample follow each other and share their path up to
//! the ending.
//!
//! ```text
//! 0001.jpg 0001.cls 0002.jpg 0002.cls ...     .cls: a class number or name
//! 0001.jpg 0001.json ...                      .json: {"label": 3 or "cat", "group": "patient 7"}
//! ```
//!
//! A shard is walked once, jumping over contents; afterwards members are read by position. A tar is not
//! unpacked to the disk; one in gzip (`.tar.gz`, `.tgz`) is unpacked as a whole into the cache, once. See
//! github.com/webdataset/webdataset (Aizman, Maltby and Breuel 2019, arXiv 2001.01858).

use crate::recognise::{VISION, is_image};
use crate::record::{Record, Records, Source, missing, read_at};
use crate::split::Split;
use crate::unpacked::{unpacked, unpacked_below};
use selfsup_core::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// Largest `.cls` or `.json`.
const SMALL: u64 = 1 << 20;

/// Class numbers above this are refused: they are identifiers, not classes.
const CLASSES: u64 = 1_000_000;

const BLOCK: u64 = 512;

/// The images of one or more tar files.
pub struct Tar {
    shards: Vec<PathBuf>,
    /// The tar of each shard: itself, or what was unpacked.
    tars: Vec<PathBuf>,
    images: Vec<Image>,
    labels: Vec<Option<u32>>,
    classes: Vec<String>,
    /// The part of each shard.
    splits: Vec<Option<Split>>,
    notes: Vec<String>,
}

struct Image {
    shard: usize,
    name: String,
    offset: u64,
    len: usize,
    group: Option<String>,
}

/// A label as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Label {
    Number(u64),
    Name(String),
}

/// What the members beside an image say about it.
#[derive(Clone, Debug, Default)]
struct About {
    label: Option<Label>,
    group: Option<String>,
}

impl Tar {
    /// Indexes the shards, in the given order.
    ///
    /// # Errors
    /// If a shard is no tar, is cut short, holds a path that leads out of it (`../`, absolute), an image that
    /// is no plain file, a label that cannot be read, or if there is no image in any.
    pub fn open(shards: &[PathBuf]) -> Result<Self> {
        Self::indexed(shards, &|shard| unpacked(shard))
    }

    /// The same; shards in gzip are unpacked below the folder `cache`.
    ///
    /// # Errors
    /// As [`Tar::open`].
    pub fn open_in(shards: &[PathBuf], cache: &Path) -> Result<Self> {
        Self::indexed(shards, &|shard| unpacked_below(cache, shard))
    }

    fn indexed(shards: &[PathBuf], unpacked: &dyn Fn(&Path) -> Result<PathBuf>) -> Result<Self> {
        let (mut images, mut written) = (Vec::new(), Vec::new());
        let tars: Vec<PathBuf> = shards.iter().map(|s| unpacked(s)).collect::<Result<_>>()?;
        for (shard, path) in shards.iter().enumerate() {
            let mut members =
                Shard { path, tar: &tars[shard], shard, images: Vec::new(), about: BTreeMap::new() };
            members.walk()?;
            for mut image in members.images {
                // The brief key first: `a.left.png` belongs to `a.left.cls` if there is one, else to `a.cls`.
                let stem = stem(&image.name);
                let short = short_key(&image.name);
                let about =
                    members.about.get(stem).or_else(|| members.about.get(short)).cloned().unwrap_or_default();
                image.group = about.group;
                written.push(about.label);
                images.push(image);
            }
        }
        if images.is_empty() {
            let names: Vec<String> = shards.iter().take(3).map(|p| p.display().to_string()).collect();
            return Err(Error::input(
                names.join(", "),
                format_args!("no images found: expected members ending in {}", VISION.endings.join(", ")),
            ));
        }
        let (labels, classes) = classes(written);
        let splits = vec![None; shards.len()];
        Ok(Tar { shards: shards.to_vec(), tars, images, labels, classes, splits, notes: Vec::new() })
    }

    /// The same with a part for each shard, and what is to be said of that.
    #[must_use]
    pub fn with_splits(mut self, splits: Vec<Option<Split>>, notes: Vec<String>) -> Self {
        (self.splits, self.notes) = (splits, notes);
        self
    }
}

/// Labels as indices into the names of classes: numbers count themselves, names are sorted.
fn classes(written: Vec<Option<Label>>) -> (Vec<Option<u32>>, Vec<String>) {
    let named = written.iter().flatten().any(|l| matches!(l, Label::Name(_)));
    if !named {
        let count = written
            .iter()
            .flatten()
            .map(|l| if let Label::Number(n) = l { n + 1 } else { 0 })
            .max()
            .unwrap_or(0);
        let labels = written
            .into_iter()
            .map(|l| l.and_then(|l| if let Label::Number(n) = l { Some(n as u32) } else { None }))
            .collect();
        return (labels, (0..count).map(|c| c.to_string()).collect());
    }
    let text = |l: Label| match l {
        Label::Number(n) => n.to_string(),
        Label::Name(name) => name,
    };
    let texts: Vec<Option<String>> = written.into_iter().map(|l| l.map(text)).collect();
    let mut names: Vec<String> = texts.iter().flatten().cloned().collect();
    names.sort();
    names.dedup();
    let labels = texts
        .iter()
        .map(|t| t.as_ref().and_then(|t| names.binary_search(t).ok()).map(|i| i as u32))
        .collect();
    (labels, names)
}

/// A member's path without its last ending.
fn stem(name: &str) -> &str {
    let base = name.rfind('/').map_or(0, |i| i + 1);
    name[base..].rfind('.').map_or(name, |dot| &name[..base + dot])
}

/// A member's path up to the first dot of its file name: WebDataset's key.
fn short_key(name: &str) -> &str {
    let base = name.rfind('/').map_or(0, |i| i + 1);
    name[base..].find('.').map_or(name, |dot| &name[..base + dot])
}

struct Shard<'a> {
    /// Its file, for messages, and the tar that is read.
    path: &'a Path,
    tar: &'a Path,
    shard: usize,
    images: Vec<Image>,
    about: BTreeMap<String, About>,
}

impl Shard<'_> {
    fn wrong(&self, member: &str, problem: impl std::fmt::Display) -> Error {
        Error::input(format_args!("{}: member `{member}`", self.path.display()), problem)
    }

    fn walk(&mut self) -> Result<()> {
        let io = |e| Error::io(self.path, e);
        let file = selfsup_core::file::open(self.tar)?;
        let total = file.metadata().map_err(io)?.len();
        let path = self.path.to_path_buf();
        let broken = |e: std::io::Error, after: &str| {
            let after = if after.is_empty() { String::new() } else { format!(" after member `{after}`") };
            Error::file(&path, format_args!("not a whole tar file{after}: {e}"))
        };
        let mut archive = ::tar::Archive::new(file);
        let (mut last, mut end) = (String::new(), 0);
        for entry in archive.entries_with_seek().map_err(|e| broken(e, ""))? {
            let entry = entry.map_err(|e| broken(e, &last))?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let (offset, len) = (entry.raw_file_position(), entry.size());
            // Jumping over a content does not notice that it is not there.
            if offset.checked_add(len).is_none_or(|end| end > total) {
                let there = total.saturating_sub(offset);
                return Err(self.wrong(&name, format_args!("is cut short: {there} of {len} bytes are there")));
            }
            if !Path::new(&name).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir)) {
                return Err(
                    self.wrong(&name, "leads out of the archive, expected a relative path without `..`")
                );
            }
            let kind = entry.header().entry_type();
            end = offset + len.next_multiple_of(BLOCK);
            if kind.is_file() || kind.is_contiguous() {
                self.member(&name, offset, len)?;
            } else if is_image(&name) {
                return Err(self.wrong(
                    &name,
                    format_args!(
                        "is of the kind {kind:?}, expected a plain file (write the tar with links followed)"
                    ),
                ));
            }
            last = name;
        }
        if total < end + BLOCK {
            // Writers end a tar with two blocks of zeros; one is enough to know that nothing is missing.
            return Err(Error::file(
                self.path,
                format_args!(
                    "ends after member `{last}` without the closing zero blocks of a tar: cut short?"
                ),
            ));
        }
        Ok(())
    }

    fn member(&mut self, name: &str, offset: u64, len: u64) -> Result<()> {
        let base = name.rsplit('/').next().unwrap_or(name);
        if base.starts_with('.') {
            return Ok(());
        }
        if is_image(name) {
            let len = usize::try_from(len)
                .map_err(|_| self.wrong(name, format_args!("has {len} bytes: too large")))?;
            self.images.push(Image { shard: self.shard, name: name.to_string(), offset, len, group: None });
            return Ok(());
        }
        let ending = base.rsplit_once('.').map(|(_, e)| e.to_ascii_lowercase());
        let json = match ending.as_deref() {
            Some("cls") => false,
            Some("json") => true,
            _ => return Ok(()),
        };
        if len > SMALL {
            return Err(
                self.wrong(name, format_args!("has {len} bytes, expected a label of at most {SMALL}"))
            );
        }
        let bytes = read_at(self.tar, offset, len as usize)?;
        let found = if json {
            self.json(name, &bytes)?
        } else {
            About { label: self.text(name, &bytes)?, group: None }
        };
        let about = self.about.entry(stem(name).to_string()).or_default();
        about.label = about.label.take().or(found.label);
        about.group = about.group.take().or(found.group);
        Ok(())
    }

    fn number(&self, name: &str, n: u64) -> Result<Label> {
        if n <= CLASSES {
            Ok(Label::Number(n))
        } else {
            Err(self.wrong(name, format_args!("has class {n}, expected at most {CLASSES}")))
        }
    }

    /// A `.cls`: a number (-1: unknown) or a name.
    fn text(&self, name: &str, bytes: &[u8]) -> Result<Option<Label>> {
        let text = std::str::from_utf8(bytes)
            .map(str::trim)
            .map_err(|_| self.wrong(name, "is not text, expected a class number or name"))?;
        match text {
            "" => Err(self.wrong(name, "is empty, expected a class number or name")),
            "-1" => Ok(None),
            _ => match text.parse::<u64>() {
                Ok(n) => Ok(Some(self.number(name, n)?)),
                Err(_) if text.contains('\n') => {
                    Err(self.wrong(name, "has several lines, expected a class number or name"))
                }
                Err(_) => Ok(Some(Label::Name(text.to_string()))),
            },
        }
    }

    /// A `.json`: `label`, `cls` or `class`, and `group`; anything else in it is passed over.
    fn json(&self, name: &str, bytes: &[u8]) -> Result<About> {
        use serde_json::Value;
        let value: Value =
            serde_json::from_slice(bytes).map_err(|e| self.wrong(name, format_args!("is not JSON: {e}")))?;
        let label = ["label", "cls", "class"].iter().find_map(|k| value.get(k)).filter(|v| !v.is_null());
        let label = match label {
            None => None,
            Some(Value::String(s)) => Some(Label::Name(s.clone())),
            Some(v) if v.as_i64() == Some(-1) => None,
            Some(v) => match v.as_u64() {
                Some(n) => Some(self.number(name, n)?),
                None => {
                    return Err(
                        self.wrong(name, format_args!("has the label {v}, expected a class number or name"))
                    );
                }
            },
        };
        let group = match value.get("group") {
            Some(Value::String(s)) => Some(s.clone()),
            Some(v @ Value::Number(_)) => Some(v.to_string()),
            _ => None,
        };
        Ok(About { label, group })
    }
}

impl Records for Tar {
    fn len(&self) -> usize {
        self.images.len()
    }

    fn get(&self, index: usize) -> Result<Record> {
        let image = self.images.get(index).ok_or_else(|| missing("tar shards", index, self.len()))?;
        let path = &self.shards[image.shard];
        let bytes = read_at(&self.tars[image.shard], image.offset, image.len)?;
        let id = format!("{}:{}", path.display(), image.name);
        Ok(Record {
            id,
            source: Source::Bytes(Arc::from(bytes)),
            label: self.label(index),
            group: image.group.clone(),
        })
    }

    fn id(&self, index: usize) -> Result<String> {
        let image = self.images.get(index).ok_or_else(|| missing("tar shards", index, self.len()))?;
        Ok(format!("{}:{}", self.shards[image.shard].display(), image.name))
    }

    fn label(&self, index: usize) -> Option<u32> {
        *self.labels.get(index)?
    }

    fn group(&self, index: usize) -> Option<String> {
        self.images.get(index)?.group.clone()
    }

    fn split(&self, index: usize) -> Option<Split> {
        *self.splits.get(self.images.get(index)?.shard)?
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }
}

#[cfg(test)]
#[path = "tar_tests.rs"]
mod tests;

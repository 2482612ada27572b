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
use crate::unpacked::unpacked;
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
mod tests {
    use super::*;

    /// A tar of these members; names are written as they are, for those that the writer would refuse.
    fn shard(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut w = ::tar::Builder::new(Vec::new());
        for (name, bytes) in members {
            let mut h = ::tar::Header::new_gnu();
            h.set_size(bytes.len() as u64);
            h.set_mode(0o644);
            h.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            h.set_cksum();
            w.append(&h, *bytes).unwrap();
        }
        w.into_inner().unwrap()
    }

    fn open(bytes: &[u8]) -> Result<Tar> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shard-000.tar");
        std::fs::write(&path, bytes).unwrap();
        let set = Tar::open(&[path])?;
        // The file goes with the folder: read all now.
        (0..set.len()).try_for_each(|i| set.get(i).map(|_| ()))?;
        Ok(set)
    }

    fn says(bytes: &[u8], parts: &[&str]) {
        let e = open(bytes).err().expect("an error").to_string();
        assert!(e.contains("shard-000.tar") && parts.iter().all(|p| e.contains(p)), "{e}");
    }

    #[test]
    fn two_shards_with_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let paths = [dir.path().join("0.tar"), dir.path().join("1.tar")];
        std::fs::write(
            &paths[0],
            shard(&[("./a.jpg", b"first"), ("./a.cls", b"2\n"), ("b.cls", b"0"), ("b.png", &[7; 1500])]),
        )
        .unwrap();
        std::fs::write(
            &paths[1],
            shard(&[
                ("d/c.left.png", b"x"),
                ("d/c.cls", b"1"),
                ("d/c.txt", b"?"),
                ("a.webp", b"y"),
                ("._a.jpg", b"mac"),
            ]),
        )
        .unwrap();
        let set = Tar::open(&paths).unwrap();
        assert_eq!(
            (0..set.len()).map(|i| set.label(i)).collect::<Vec<_>>(),
            [Some(2), Some(0), Some(1), None]
        );
        assert_eq!(set.classes(), ["0", "1", "2"]);
        assert_eq!(set.get(0).unwrap().source, Source::Bytes(Arc::from(*b"first")));
        assert_eq!(set.get(1).unwrap().source, Source::Bytes(Arc::from([7; 1500])));
        assert!(set.get(2).unwrap().id.ends_with("1.tar:d/c.left.png"));
        assert!(set.get(4).is_err());
    }

    #[test]
    fn names_and_groups() {
        let set = open(&shard(&[
            ("1.jpg", b"x"),
            ("1.json", br#"{"label": "dog", "group": "p7", "caption": [1]}"#),
            ("2.jpg", b"x"),
            ("2.cls", b"cat"),
            ("3.jpg", b"x"),
            ("3.json", br#"{"cls": null, "group": 9}"#),
            ("4.jpg", b"x"),
            ("4.cls", b"-1"),
        ]))
        .unwrap();
        assert_eq!(set.classes(), ["cat", "dog"]);
        assert_eq!((0..4).map(|i| set.label(i)).collect::<Vec<_>>(), [Some(1), Some(0), None, None]);
        assert_eq!(
            (0..4).map(|i| set.group(i)).collect::<Vec<_>>(),
            [Some("p7".into()), None, Some("9".into()), None]
        );
    }

    #[test]
    fn long_names_of_gnu_and_pax() {
        let mut w = ::tar::Builder::new(Vec::new());
        let long = format!("{}/{}", "d".repeat(120), "x.jpg");
        let mut h = ::tar::Header::new_gnu();
        h.set_size(3);
        w.append_data(&mut h, &long, &b"abc"[..]).unwrap();
        let bytes = w.into_inner().unwrap();
        assert_eq!(open(&bytes).unwrap().images[0].name, long);
    }

    #[test]
    fn paths_that_lead_out_are_refused() {
        for name in ["../a.jpg", "x/../../a.jpg", "/etc/a.jpg", ".."] {
            says(&shard(&[("ok.jpg", b"x"), (name, b"x")]), &[name, "leads out"]);
        }
    }

    #[test]
    fn cut_at_any_place() {
        let whole = shard(&[("a.jpg", &[1; 700]), ("a.cls", b"0"), ("b.jpg", &[2; 900])]);
        assert_eq!(open(&whole).unwrap().len(), 2);
        // 512 + 1024, 512 + 512, 512 + 1024, and two zero blocks.
        assert_eq!(whole.len(), 4096 + 1024);
        for cut in (1..4096).step_by(97).chain([512, 1536, 2048, 2560, 3072, 4096]) {
            says(&whole[..cut], &[]);
        }
        says(&whole[..3500], &["b.jpg", "cut short"]);
        says(&whole[..4096], &["b.jpg", "closing zero blocks"]);
    }

    #[test]
    fn bad_members_are_named() {
        says(b"", &["closing zero blocks"]);
        says(&[b'x'; 2000], &["not a whole tar"]);
        says(&shard(&[("notes.txt", b"x")]), &["no images"]);
        says(&shard(&[("a.jpg", b"x"), ("a.cls", b"")]), &["a.cls", "empty"]);
        says(&shard(&[("a.jpg", b"x"), ("a.cls", &[0xff, 0xfe])]), &["a.cls", "not text"]);
        says(&shard(&[("a.jpg", b"x"), ("a.cls", b"1\n2")]), &["a.cls", "several lines"]);
        says(&shard(&[("a.jpg", b"x"), ("a.cls", b"99999999999")]), &["a.cls", "at most"]);
        says(&shard(&[("a.jpg", b"x"), ("a.json", b"{")]), &["a.json", "not JSON"]);
        says(&shard(&[("a.jpg", b"x"), ("a.json", br#"{"label": 1.5}"#)]), &["a.json", "1.5"]);
        says(&shard(&[("a.jpg", b"x"), ("a.json", &[b' '; (SMALL + 1) as usize])]), &["a.json", "at most"]);
        let mut w = ::tar::Builder::new(Vec::new());
        let mut h = ::tar::Header::new_gnu();
        h.set_entry_type(::tar::EntryType::Symlink);
        h.set_size(0);
        w.append_link(&mut h, "link.jpg", "/etc/passwd").unwrap();
        says(&w.into_inner().unwrap(), &["link.jpg", "plain file"]);
        // A size that lies.
        let mut bytes = shard(&[("a.jpg", b"x")]);
        bytes[124..135].copy_from_slice(b"77777777777");
        let sum: u32 = bytes[..512]
            .iter()
            .enumerate()
            .map(|(i, &b)| if (148..156).contains(&i) { 32 } else { u32::from(b) })
            .sum();
        bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        says(&bytes, &["a.jpg", "cut short"]);
    }

    proptest::proptest! {
        /// Any byte of a shard may be wrong: an error or a set whose members can be read, never a panic.
        #[test]
        fn damaged_shards(at in 0usize..3072, byte: u8) {
            let mut bytes = shard(&[("a.jpg", &[1; 700]), ("a.cls", b"0"), ("b.json", b"{}")]);
            bytes[at] = byte;
            let _ = open(&bytes);
        }
    }
}

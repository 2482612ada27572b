//! The idx format of MNIST and its successors: a magic number, sizes, and bytes; plain or gzip.

use crate::record::{Record, Records, Source};
use selfsup_core::{Error, Result};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Largest file that is read into memory, unpacked.
const LIMIT: u64 = 4 << 30;

/// Images `(N, H, W)` of one byte a pixel, with labels if there are any.
pub struct Idx {
    path: PathBuf,
    size: (usize, usize),
    pixels: Vec<u8>,
    labels: Option<Vec<u8>>,
    classes: Vec<String>,
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let file = std::fs::File::open(path).map_err(|e| Error::io(path, e))?;
    let mut out = Vec::new();
    let zipped = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gz"));
    let done = if zipped {
        flate2::read::GzDecoder::new(file).take(LIMIT).read_to_end(&mut out)
    } else {
        file.take(LIMIT).read_to_end(&mut out)
    };
    done.map_err(|e| Error::file(path, format!("cannot be read as {}: {e}", if zipped { "gzip" } else { "idx" })))?;
    Ok(out)
}

/// Sizes and values of an idx file of unsigned bytes with `rank` dimensions.
fn parse(path: &Path, rank: usize) -> Result<(Vec<usize>, Vec<u8>)> {
    let bytes = read(path)?;
    let head = 4 + 4 * rank;
    if bytes.len() < head || bytes[..3] != [0, 0, 8] || usize::from(bytes[3]) != rank {
        return Err(Error::file(path, format!("not an idx file of bytes with {rank} dimensions (it should start with 00 00 08 0{rank})")));
    }
    let dims: Vec<usize> =
        bytes[4..head].chunks_exact(4).map(|c| c.iter().fold(0usize, |v, &b| (v << 8) | usize::from(b))).collect();
    let want = dims.iter().try_fold(1usize, |a, &d| a.checked_mul(d));
    if want != Some(bytes.len() - head) {
        return Err(Error::file(path, format!("holds {} values, its header promises {dims:?}", bytes.len() - head)));
    }
    Ok((dims, bytes[head..].to_vec()))
}

impl Idx {
    /// Reads images, and labels from a second file.
    ///
    /// # Errors
    /// If a file is not idx, is cut short, or the two do not hold the same number.
    pub fn open(images: &Path, labels: Option<&Path>) -> Result<Self> {
        let (dims, pixels) = parse(images, 3)?;
        if dims.contains(&0) {
            return Err(Error::file(images, format!("sizes {dims:?}: expected at least one image of at least one pixel")));
        }
        let labels = match labels {
            None => None,
            Some(path) => {
                let (n, labels) = parse(path, 1)?;
                if n[0] != dims[0] {
                    return Err(Error::file(path, format!("{} labels for {} images", n[0], dims[0])));
                }
                Some(labels)
            }
        };
        let count = labels.as_ref().and_then(|l| l.iter().max()).map_or(0, |&m| usize::from(m) + 1);
        let classes = (0..count).map(|c| c.to_string()).collect();
        Ok(Idx { path: images.to_path_buf(), size: (dims[1], dims[2]), pixels, labels, classes })
    }

    /// Names for the classes, by index.
    #[must_use]
    pub fn with_classes(mut self, names: &[&str]) -> Self {
        if names.len() >= self.classes.len() {
            self.classes = names.iter().map(|n| (*n).to_string()).collect();
        }
        self
    }

    /// The labels file that belongs to an images file by MNIST's naming, if it exists.
    pub fn labels_beside(images: &Path) -> Option<PathBuf> {
        let name = images.file_name()?.to_str()?;
        let labels = name.replace("images", "labels").replace("idx3", "idx1");
        let path = images.with_file_name(&labels);
        (labels != name && path.exists()).then_some(path)
    }
}

impl Records for Idx {
    fn len(&self) -> usize {
        self.pixels.len() / (self.size.0 * self.size.1)
    }

    fn get(&self, index: usize) -> Result<Record> {
        let n = self.size.0 * self.size.1;
        let id = format!("{}[{index}]", self.path.display());
        let data = self.pixels.get(index * n..(index + 1) * n).ok_or_else(|| Error::input(&id, "no such image"))?;
        let source = Source::Pixels { width: self.size.1 as u32, height: self.size.0 as u32, channels: 1, data: Arc::from(data) };
        Ok(Record { id, source, label: self.label(index), group: None })
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.labels.as_ref()?.get(index).map(|&l| u32::from(l))
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
        let path = dir.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    #[test]
    fn reads_and_refuses() {
        let dir = tempfile::tempdir().unwrap();
        let head = [0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3];
        let whole = file(dir.path(), "a-images-idx3-ubyte", &[&head[..], &[1, 2, 3, 4, 5, 6]].concat());
        file(dir.path(), "a-labels-idx1-ubyte", &[0, 0, 8, 1, 0, 0, 0, 2, 7, 1]);
        let idx = Idx::open(&whole, Idx::labels_beside(&whole).as_deref()).unwrap();
        assert_eq!((idx.len(), idx.classes().len(), idx.label(0)), (2, 8, Some(7)));
        let record = idx.get(1).unwrap();
        assert!(matches!(&record.source, Source::Pixels { width: 3, height: 1, channels: 1, data } if data[..] == [4, 5, 6]));
        assert!(idx.get(2).is_err());
        let cut = file(dir.path(), "cut", &[&head[..], &[1, 2]].concat());
        assert!(Idx::open(&cut, None).err().unwrap().to_string().contains("promises"));
        let huge = file(dir.path(), "huge", &[0, 0, 8, 3, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255]);
        assert!(Idx::open(&huge, None).is_err());
        let text = file(dir.path(), "text.gz", b"hello");
        assert!(Idx::open(&text, None).err().unwrap().to_string().contains("gzip"));
    }
}

//! The idx format of MNIST and its successors: a magic number, sizes, and bytes; plain or gzip.

use crate::record::{Record, Records, Source, missing};
use selfsup_core::{Error, Result, file};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Most values that are read into memory, of a plain file and of a compressed one: a few bytes of gzip may hold
/// a thousand times as many.
const LIMITS: [usize; 2] = [4 << 30, 1 << 30];

/// Images `(N, H, W)` of one byte a pixel, with labels if there are any.
pub struct Idx {
    path: PathBuf,
    size: (usize, usize),
    pixels: Vec<u8>,
    labels: Option<Vec<u8>>,
    classes: Vec<String>,
}

/// The file, unpacked if it starts as gzip does (whatever its name), and whether it does.
pub(crate) fn unpacked(path: &Path) -> Result<Unpacked<'static>> {
    let packed = file::head(path, 2)? == [0x1f, 0x8b];
    let file = BufReader::new(file::open(path)?);
    let reader: Box<dyn Read> =
        if packed { Box::new(flate2::read::MultiGzDecoder::new(file)) } else { Box::new(file) };
    Ok((reader, packed))
}

/// Whether a file is idx with `rank` dimensions of bytes.
pub(crate) fn is_idx(path: &Path, rank: u8) -> bool {
    let mut head = [0; 4];
    unpacked(path).is_ok_and(|(mut f, _)| f.read_exact(&mut head).is_ok()) && head == [0, 0, 8, rank]
}

/// What is read of a file, unpacked, and whether it was packed.
type Unpacked<'a> = (Box<dyn Read + 'a>, bool);

/// Sizes and values of an idx file of unsigned bytes with `rank` dimensions; `path` names it in messages.
fn parse((mut file, packed): Unpacked, path: &Path, rank: usize) -> Result<(Vec<usize>, Vec<u8>)> {
    let limit = LIMITS[usize::from(packed)];
    let broken = |e: std::io::Error| Error::file(path, format_args!("cannot be unpacked: {e}"));
    let mut head = Vec::new();
    file.by_ref().take(4 + 4 * rank as u64).read_to_end(&mut head).map_err(broken)?;
    if head.len() < 4 + 4 * rank || head[..3] != [0, 0, 8] || usize::from(head[3]) != rank {
        let problem = format_args!(
            "not an idx file of bytes with {rank} dimensions (expected it to start with 00 00 08 0{rank})"
        );
        return Err(Error::file(path, problem));
    }
    let dims: Vec<usize> =
        head[4..].chunks_exact(4).map(|c| c.iter().fold(0usize, |v, &b| (v << 8) | usize::from(b))).collect();
    let want = dims.iter().try_fold(1usize, |a, &d| a.checked_mul(d)).filter(|&w| w <= limit);
    let Some(want) = want else {
        return Err(Error::file(
            path,
            format_args!("sizes {dims:?} in the header, expected at most {limit} values in all"),
        ));
    };
    // One more than promised, to see that nothing follows. Grows with what is there: a header that lies does
    // not allocate.
    let mut values = Vec::new();
    file.take(want as u64 + 1).read_to_end(&mut values).map_err(broken)?;
    if values.len() != want {
        let found = if values.len() > want { format!("more than {want}") } else { values.len().to_string() };
        return Err(Error::file(
            path,
            format_args!("holds {found} values, its header promises {dims:?} = {want}"),
        ));
    }
    Ok((dims, values))
}

impl Idx {
    /// Reads images, and labels from a second file.
    ///
    /// # Errors
    /// If a file is not idx, is cut short, or the two do not hold the same number.
    pub fn open(images: &Path, labels: Option<&Path>) -> Result<Self> {
        let labels = match labels {
            Some(path) => Some((path, unpacked(path)?)),
            None => None,
        };
        Idx::read((images, unpacked(images)?), labels)
    }

    /// The same of files that are in memory, as gzip, each with its name.
    ///
    /// # Errors
    /// As [`Idx::open`].
    pub(crate) fn of_gzip(images: (&Path, &[u8]), labels: (&Path, &[u8])) -> Result<Self> {
        let unpacked = |bytes| -> Unpacked { (Box::new(flate2::read::MultiGzDecoder::new(bytes)), true) };
        Idx::read((images.0, unpacked(images.1)), Some((labels.0, unpacked(labels.1))))
    }

    fn read((images, file): (&Path, Unpacked), labels: Option<(&Path, Unpacked)>) -> Result<Self> {
        let (dims, pixels) = parse(file, images, 3)?;
        if dims.contains(&0) {
            return Err(Error::file(
                images,
                format_args!("sizes {dims:?}: expected at least one image of at least one pixel"),
            ));
        }
        let labels = match labels {
            None => None,
            Some((path, file)) => {
                let (n, labels) = parse(file, path, 1)?;
                if n[0] != dims[0] {
                    return Err(Error::file(
                        path,
                        format_args!("holds {} labels, expected {}: one for each image", n[0], dims[0]),
                    ));
                }
                Some(labels)
            }
        };
        let count = labels.as_ref().and_then(|l| l.iter().max()).map_or(0, |&m| usize::from(m) + 1);
        let classes = (0..count).map(|c| c.to_string()).collect();
        Ok(Idx { path: images.to_path_buf(), size: (dims[1], dims[2]), pixels, labels, classes })
    }

    /// Names for the classes, by index; kept as numbers if there are too few names.
    #[must_use]
    pub fn with_classes(mut self, names: &[&str]) -> Self {
        if names.len() >= self.classes.len() {
            self.classes = names.iter().map(|n| (*n).to_string()).collect();
        }
        self
    }

    /// The first `n` images, or all if there are fewer.
    #[must_use]
    pub fn truncate(mut self, n: usize) -> Self {
        self.pixels.truncate(n.saturating_mul(self.size.0 * self.size.1));
        if let Some(labels) = &mut self.labels {
            labels.truncate(n);
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
        let data = self
            .pixels
            .chunks_exact(n)
            .nth(index)
            .ok_or_else(|| missing(self.path.display(), index, self.len()))?;
        let source = Source::Pixels {
            width: self.size.1 as u32,
            height: self.size.0 as u32,
            channels: 1,
            data: Arc::from(data),
        };
        Ok(Record {
            id: format!("{}[{index}]", self.path.display()),
            source,
            label: self.label(index),
            group: None,
        })
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
    use std::io::Write;

    fn file(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
        let path = dir.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut w = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        w.write_all(bytes).unwrap();
        w.finish().unwrap()
    }

    const HEAD: [u8; 16] = [0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3];

    #[test]
    fn plain_and_gzip() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = [&HEAD[..], &[1, 2, 3, 4, 5, 6]].concat();
        file(dir.path(), "a-labels-idx1-ubyte", &[0, 0, 8, 1, 0, 0, 0, 2, 7, 1]);
        file(dir.path(), "a-labels-idx1-ubyte.gz", &gzip(&[0, 0, 8, 1, 0, 0, 0, 2, 7, 1]));
        for (name, bytes) in
            [("a-images-idx3-ubyte", bytes.clone()), ("a-images-idx3-ubyte.gz", gzip(&bytes))]
        {
            let images = file(dir.path(), name, &bytes);
            assert!(is_idx(&images, 3) && !is_idx(&images, 1));
            let idx = Idx::open(&images, Idx::labels_beside(&images).as_deref()).unwrap();
            assert_eq!((idx.len(), idx.classes().len(), idx.label(0), idx.label(2)), (2, 8, Some(7), None));
            let record = idx.get(1).unwrap();
            assert!(
                matches!(&record.source, Source::Pixels { width: 3, height: 1, channels: 1, data } if data[..] == [4, 5, 6])
            );
            assert!(idx.get(2).is_err() && idx.get(usize::MAX).is_err());
        }
    }

    #[test]
    fn bad_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let says = |name: &str, bytes: &[u8], part: &str| {
            let e = Idx::open(&file(dir.path(), name, bytes), None).err().unwrap().to_string();
            assert!(e.contains(name) && e.contains(part), "{e}");
        };
        says("cut", &[&HEAD[..], &[1, 2]].concat(), "holds 2 values, its header promises [2, 1, 3] = 6");
        says("long", &[&HEAD[..], &[0; 7]].concat(), "more than 6");
        says("head", &HEAD[..9], "00 00 08 03");
        says("empty", &[], "00 00 08 03");
        says("text.gz", b"hello, this is no idx file", "00 00 08 03");
        says("none", &[0, 0, 8, 3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1], "at least one image");
        says("floats", &[0, 0, 13, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0], "of bytes");
        says("huge", &[[0, 0, 8, 3].as_slice(), &[255; 12]].concat(), "at most");
        // A large promise within the limit: the memory of what is there, not of what is promised.
        says("liar", &[0, 0, 8, 3, 0, 0, 255, 255, 0, 0, 0, 255, 0, 0, 0, 255, 1], "holds 1 values");
        let zipped = gzip(&[&HEAD[..], &[1, 2, 3, 4, 5, 6]].concat());
        says("cut.gz", &zipped[..zipped.len() / 2], "cannot be unpacked");
        let images = file(dir.path(), "images", &[&HEAD[..], &[0; 6]].concat());
        let labels = file(dir.path(), "labels", &[0, 0, 8, 1, 0, 0, 0, 3, 7, 1, 2]);
        let e = Idx::open(&images, Some(&labels)).err().unwrap().to_string();
        assert!(e.contains("3 labels, expected 2"), "{e}");
        assert!(Idx::open(&dir.path().join("absent"), None).err().unwrap().to_string().contains("absent"));
    }
}

//! Volumes with label volumes on the same grid, as records: the file of each, and the subject as its group.

use crate::record::{Record, Records, Source, missing};
use flate2::Compression;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use selfsup_core::checkpoint::write_atomic;
use selfsup_core::{Error, Result};
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};

/// One volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its file, or the folder of its series.
    pub image: PathBuf,
    /// A volume of labels on the same grid.
    pub mask: Option<PathBuf>,
    /// Whose it is: all volumes of a subject stay on one side of a split.
    pub subject: String,
}

/// Volumes, and the names of their labels' values.
pub struct Volumes {
    volumes: Vec<Volume>,
    classes: Vec<String>,
}

impl Volumes {
    /// These volumes; `classes[v]` is the name of the label value `v`, 0 the background.
    ///
    /// # Errors
    /// If there are none, or a file is not there.
    pub fn new(volumes: Vec<Volume>, classes: &[&str]) -> Result<Self> {
        if volumes.is_empty() {
            return Err(Error::input("volumes", "none were given"));
        }
        for path in volumes.iter().flat_map(|v| std::iter::once(&v.image).chain(&v.mask)) {
            std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
        }
        Ok(Volumes { volumes, classes: classes.iter().map(|c| (*c).to_string()).collect() })
    }
}

impl Records for Volumes {
    fn len(&self) -> usize {
        self.volumes.len()
    }

    fn get(&self, index: usize) -> Result<Record> {
        let volume = self.volumes.get(index).ok_or_else(|| missing("volumes", index, self.len()))?;
        let (id, source) = (volume.image.display().to_string(), Source::File(volume.image.clone()));
        Ok(Record { id, source, label: None, group: self.group(index) })
    }

    fn group(&self, index: usize) -> Option<String> {
        Some(self.volumes.get(index)?.subject.clone())
    }

    fn mask(&self, index: usize) -> Option<PathBuf> {
        self.volumes.get(index)?.mask.clone()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }
}

/// Header and voxels of a `.nii.gz` of a fetched package: one byte a voxel, 352 bytes of header, `voxels` of
/// them.
///
/// # Errors
/// If it is another kind of file.
pub(crate) fn byte_nifti(path: &Path, voxels: usize) -> Result<(Vec<u8>, Vec<u8>)> {
    let file = selfsup_core::file::open(path)?;
    let mut header = Vec::new();
    let limit = (352 + voxels + 1) as u64;
    MultiGzDecoder::new(BufReader::new(file))
        .take(limit)
        .read_to_end(&mut header)
        .map_err(|e| Error::io(path, e))?;
    let dims =
        |at: usize| header.get(at..at + 2).map_or(0, |b| usize::from(u16::from_le_bytes([b[0], b[1]])));
    if header.len() != 352 + voxels || dims(42) * dims(44) * dims(46) != voxels || dims(70) != 2 {
        return Err(Error::file(path, format_args!("expected NIfTI of {voxels} voxels of one byte")));
    }
    let data = header.split_off(352);
    Ok((header, data))
}

/// Writes `parts` one after the other, compressed, at once or not at all. Equal parts give equal bytes.
///
/// # Errors
/// If the file cannot be written.
pub(crate) fn write_gzip(path: &Path, parts: &[&[u8]]) -> Result<()> {
    write_atomic(path, |file| {
        let mut out = GzEncoder::new(file, Compression::best());
        let written = parts.iter().try_for_each(|p| out.write_all(p)).and_then(|()| out.finish().map(drop));
        written.map_err(|e| Error::io(path, e))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_groups_and_files_must_be_there() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("a.nii"), "").unwrap();
        std::fs::write(at("b.nii"), "").unwrap();
        let volume = |mask: &str| Volume { image: at("a.nii"), mask: Some(at(mask)), subject: "s1".into() };
        let set = Volumes::new(vec![volume("b.nii")], &["background", "bone"]).unwrap();
        assert_eq!(
            (set.group(0).as_deref(), set.mask(0), set.label(0)),
            (Some("s1"), Some(at("b.nii")), None)
        );
        assert_eq!(
            (set.get(0).unwrap().source, set.classes()[1].as_str()),
            (Source::File(at("a.nii")), "bone")
        );
        assert!(set.get(1).is_err() && set.mask(1).is_none());
        assert!(Volumes::new(vec![volume("c.nii")], &[]).err().unwrap().to_string().contains("c.nii"));
        assert!(Volumes::new(vec![], &[]).is_err());
    }

    #[test]
    fn bytes_of_nifti() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.nii.gz");
        let mut header = vec![0u8; 352];
        [(42, 2), (44, 1), (46, 3), (70, 2)].iter().for_each(|(at, v)| header[*at] = *v);
        write_gzip(&path, &[&header, &[1, 2, 3, 4, 5, 6]]).unwrap();
        assert_eq!(byte_nifti(&path, 6).unwrap(), (header.clone(), vec![1, 2, 3, 4, 5, 6]));
        assert!(byte_nifti(&path, 5).unwrap_err().to_string().contains("5 voxels"));
        header[70] = 4;
        write_gzip(&path, &[&header, &[0; 6]]).unwrap();
        assert!(byte_nifti(&path, 6).is_err());
    }
}

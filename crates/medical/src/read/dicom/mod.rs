//! DICOM: a folder of one series, or one file, with one frame or many.
//!
//! The slices of a series are sorted by their position along the normal `row x column`; the series is refused
//! if one is missing, lies twice at one place, is turned, has another size, or lies beside the line of the
//! others. Values are rescaled (modality units, Hounsfield units for CT); MONOCHROME1 is turned round where
//! no unit is stated, so that brighter is always more.
//!
//! Transfer syntaxes: uncompressed (both byte orders, deflated), RLE, JPEG baseline, extended and lossless,
//! JPEG 2000; JPEG-LS with the feature `charls`, which needs a C++ compiler. Any other is refused by its
//! name.
//!
//! Messages are made of file names, tags and geometry; values of tags that tell of a patient are never read.
//!
//! DICOM PS3.3 C.7.6.2 (image plane), C.7.6.16 (functional groups), C.11.1 (modality LUT).

mod header;
mod image;
mod pixels;
mod series;
#[cfg(test)]
mod tests;

pub use image::{frames, image};

use super::slices::{ReadConfig, Slices, check_shape};
use crate::grid::Stored;
use header::Header;
use pixels::Pixels;
use selfsup_core::{Error, Result};
use series::Slice;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Whether these first bytes are those of a DICOM file.
pub(crate) fn is_dicom(head: &[u8]) -> bool {
    head.get(128..132) == Some(b"DICM")
}

/// One series of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series {
    /// Its files, by name.
    pub files: Vec<PathBuf>,
    /// `CT`, `MR` ...
    pub modality: String,
}

/// Names of files that lie beside DICOM files without being any.
fn is_other(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    // Volumes of other formats are no torn slices.
    let other =
        ["txt", "md", "json", "xml", "csv", "pdf", "html", "nii", "nrrd", "nhdr"].contains(&ending.as_str());
    let other = other || name.ends_with(".NII.GZ");
    name.starts_with('.')
        || name == "DICOMDIR"
        || name.starts_with("LICENSE")
        || name.starts_with("README")
        || other
}

/// Header of every DICOM file right in `folder`, sorted by name.
fn headers(folder: &Path) -> Result<Vec<Header>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|e| Error::io(folder, e))? {
        let path = entry.map_err(|e| Error::io(folder, e))?.path();
        if path.is_file() && !is_other(&path) {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(Error::file(folder, "holds no DICOM files, expected one series"));
    }
    files.iter().map(|f| Header::read(f)).collect()
}

/// The series of a folder, in the order of their first files. Other files than DICOM are an error, since a
/// damaged slice would be lost without a word; hidden files, DICOMDIR, NIfTI, NRRD, notes and licences are
/// left out.
///
/// # Errors
/// If a file cannot be read.
pub fn series(folder: &Path) -> Result<Vec<Series>> {
    let mut found: BTreeMap<_, Vec<Header>> = BTreeMap::new();
    for header in headers(folder)? {
        found.entry(header.series).or_default().push(header);
    }
    let modality = |hs: &[Header]| hs.first().map(|h| h.modality.clone()).unwrap_or_default();
    let mut all: Vec<Series> = found
        .into_values()
        .map(|hs| Series { modality: modality(&hs), files: hs.into_iter().map(|h| h.path).collect() })
        .collect();
    all.sort_by(|a, b| a.files.cmp(&b.files));
    Ok(all)
}

/// The slices of a folder that holds one series.
///
/// # Errors
/// If it holds several ([`series`] lists them), or they do not make a volume.
pub fn open_folder(folder: &Path, config: &ReadConfig) -> Result<Box<dyn Slices>> {
    let headers = headers(folder)?;
    let mut first_of: BTreeMap<_, (&Header, usize)> = BTreeMap::new();
    for h in &headers {
        first_of.entry(h.series).or_insert((h, 0)).1 += 1;
    }
    if first_of.len() > 1 {
        let list = first_of
            .values()
            .map(|(h, n)| format!("{} ({n} files, {})", h.name(), h.modality))
            .collect::<Vec<_>>()
            .join(", ");
        return Err(Error::file(
            folder,
            format!("holds {} series, expected one; they begin with {list}", first_of.len()),
        ));
    }
    Ok(Box::new(Stack::new(folder.display().to_string(), headers, config)?))
}

/// The slices of these files of one series.
///
/// # Errors
/// If they do not make a volume. `id` names it in messages.
pub fn open_files(id: &str, files: &[PathBuf], config: &ReadConfig) -> Result<Box<dyn Slices>> {
    let headers: Vec<Header> = files.iter().map(|f| Header::read(f)).collect::<Result<_>>()?;
    if let Some(other) = headers.iter().find(|h| h.series != headers[0].series) {
        return Err(Error::input(
            id,
            format!("{} belongs to another series than {}", other.name(), headers[0].name()),
        ));
    }
    Ok(Box::new(Stack::new(id.to_string(), headers, config)?))
}

/// The files of the series that `file` belongs to, itself among them, by name: those of its folder with its
/// SeriesInstanceUID (files without one are one series).
///
/// # Errors
/// If a file of the folder cannot be read.
pub fn series_of(file: &Path) -> Result<Vec<PathBuf>> {
    let own = Header::read(file)?;
    let folder = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // By name: `./a.dcm` and `a.dcm` are one file.
    let mut files: Vec<PathBuf> =
        headers(folder)?.into_iter().filter(|h| h.series == own.series).map(|h| h.path).collect();
    if !files.iter().any(|f| f.file_name() == file.file_name()) {
        files.push(own.path);
        files.sort();
    }
    Ok(files)
}

/// The slices of one file: those of an enhanced multi-frame file, or a single one.
///
/// # Errors
/// If it does not say where its slices lie.
pub fn open_file(path: &Path, config: &ReadConfig) -> Result<Box<dyn Slices>> {
    Ok(Box::new(Stack::new(path.display().to_string(), vec![Header::read(path)?], config)?))
}

/// Sorted slices, decoded one by one.
struct Stack {
    id: String,
    stored: Stored,
    headers: Vec<Header>,
    slices: Vec<Slice>,
    next: usize,
    /// The file that was opened last, since the frames of one follow each other.
    open: Option<(usize, Pixels)>,
    is_i16: bool,
}

impl Stack {
    fn new(id: String, headers: Vec<Header>, config: &ReadConfig) -> Result<Self> {
        for header in &headers {
            header.check_grey()?;
        }
        let (slices, stored) = series::arrange(&id, &headers)?;
        check_shape(&id, stored.shape(), config)?;
        let is_i16 = slices.iter().all(|s| headers[s.file].fits_i16(s.scale));
        Ok(Stack { id, stored, headers, slices, next: 0, open: None, is_i16 })
    }
}

impl Slices for Stack {
    fn id(&self) -> &str {
        &self.id
    }

    fn stored(&self) -> &Stored {
        &self.stored
    }

    fn is_i16(&self) -> bool {
        self.is_i16
    }

    /// Where all slices have the same.
    fn padding(&self) -> Option<[f32; 2]> {
        let of = |s: &Slice| self.headers[s.file].padding(s.scale);
        let first = of(self.slices.first()?)?;
        self.slices.iter().all(|s| of(s) == Some(first)).then_some(first)
    }

    fn next(&mut self, out: &mut [f32]) -> Result<()> {
        let [i, j, _] = self.stored.shape();
        for out in out.chunks_mut(i * j) {
            let Some(slice) = self.slices.get(self.next).filter(|_| out.len() == i * j) else {
                return Err(Error::input(&self.id, "no such slice is left"));
            };
            if self.open.as_ref().is_none_or(|(file, _)| *file != slice.file) {
                // The old one goes first: two files are never in memory.
                self.open = None;
                self.open = Some((slice.file, Pixels::open(&self.headers[slice.file])?));
            }
            if let Some((_, pixels)) = &self.open {
                pixels.frame(&self.headers[slice.file], slice.frame, slice.scale, out)?;
            }
            self.next += 1;
        }
        Ok(())
    }
}

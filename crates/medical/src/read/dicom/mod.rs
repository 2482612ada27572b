//! DICOM: a folder of one series, or one file, with one frame or many.
//!
//! The slices of a series are sorted by their position along the normal `row x column`; the series is refused
//! if one is missing, is turned, has another size, or lies beside the line of the others. Exact copies of a
//! slice are dropped; several acquisitions or phases in one series are a volume each. Values are rescaled (modality units, Hounsfield units for CT); MONOCHROME1 is turned round where
//! no unit is stated, so that brighter is always more.
//!
//! Transfer syntaxes: uncompressed (both byte orders, deflated), RLE, JPEG baseline, extended and lossless,
//! JPEG 2000; JPEG-LS with the feature `charls`, which needs a C++ compiler. Any other is refused by its
//! name.
//!
//! Messages are made of file names, tags and geometry; values of tags that tell of a patient are never read.
//!
//! DICOM PS3.3 C.7.6.2 (image plane), C.7.6.16 (functional groups), C.11.1 (modality LUT).

mod attributes;
mod folder;
mod header;
mod image;
mod jpeg;
mod others;
mod parse;
mod phase;
mod pixels;
mod series;
mod streams;
mod tags;
#[cfg(test)]
mod tests;
mod values;

pub use image::{frames, image};

use super::slices::{ReadConfig, Slices, check_shape};
use crate::grid::Stored;
use crate::read::passed::Passed;
use folder::listing;
use header::{Found, Header};
pub(crate) use parse::is_dicom;
use phase::Part;
use pixels::Pixels;
use selfsup_core::{Error, Result};
use series::Slice;
use std::path::{Path, PathBuf};

/// One volume of a folder: a series, or an acquisition or phase of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series {
    /// Its files, by name.
    pub files: Vec<PathBuf>,
    /// `CT`, `MR` ...
    pub modality: String,
    /// What tells it from the other volumes of its series: `AcquisitionNumber 2`.
    pub by: Option<String>,
}

impl Series {
    fn of(part: Part) -> Series {
        let modality = part.headers.first().map(|h| h.modality.clone()).unwrap_or_default();
        Series { modality, by: part.by, files: part.headers.into_iter().map(|h| h.path).collect() }
    }
}

/// The volumes of a folder, in the order of their first files, and what was passed over.
///
/// Objects without an image (reports, plans, presentation states, documents), screenshots, exact copies of
/// slices and files of other kinds are counted and left out. A file that has the name of a slice and is no
/// DICOM file is an error, since a damaged slice would be lost without a word.
///
/// # Errors
/// If a file cannot be read or is damaged.
pub fn series(folder: &Path) -> Result<(Vec<Series>, Passed)> {
    let found = listing(folder)?;
    Ok((found.volumes.into_iter().map(Series::of).collect(), found.passed))
}

/// What an object without an image is; none for an image.
///
/// # Errors
/// If the file cannot be read.
pub fn no_image(path: &Path) -> Result<Option<&'static str>> {
    Ok(match Header::find(path)? {
        Found::Slice(_) => None,
        Found::Other(what) => Some(what),
    })
}

/// The slices of a folder that holds one volume.
///
/// # Errors
/// If it holds several ([`series`] lists them), or they do not make a volume.
pub fn open_folder(folder: &Path, config: &ReadConfig) -> Result<Box<dyn Slices>> {
    let mut found = listing(folder)?;
    let (Some(last), rest) = (found.volumes.pop(), found.volumes) else {
        let beside = if found.passed.is_empty() { String::new() } else { format!(" (but {})", found.passed) };
        return Err(Error::file(
            folder,
            format!("holds no DICOM files of a volume{beside}, expected one series"),
        ));
    };
    if !rest.is_empty() {
        let said = |part: &Part| {
            let by = part.by.as_ref().map_or(String::new(), |by| format!(", {by}"));
            let first = part.headers.first().map(|h| (h.name(), h.modality.clone())).unwrap_or_default();
            format!("{} ({} files, {}{by})", first.0, part.headers.len(), first.1)
        };
        let list: Vec<String> = rest.iter().chain([&last]).map(said).collect();
        return Err(Error::file(
            folder,
            format!(
                "holds {} series or phases, expected one; they begin with {}",
                list.len(),
                list.join(", ")
            ),
        ));
    }
    Ok(Box::new(Stack::new(folder.display().to_string(), last.headers, config)?))
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

/// The files of the volume that `file` belongs to, itself among them, by name: those of its folder with its
/// SeriesInstanceUID (files without one are one series), and of its acquisition or phase where the series
/// has several.
///
/// # Errors
/// If a file of the folder cannot be read.
pub fn series_of(file: &Path) -> Result<Vec<PathBuf>> {
    let own = Header::read(file)?;
    let folder = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // By name: `./a.dcm` and `a.dcm` are one file.
    let holds = |s: &Series| s.files.iter().any(|f| f.file_name() == file.file_name());
    let volume = series(folder)?.0.into_iter().find(holds);
    // A hidden file, a screenshot, or a copy of another slice.
    Ok(volume.map_or_else(|| vec![own.path], |v| v.files))
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
        for header in &headers {
            header.check_there()?;
        }
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
            if let Some((_, pixels)) = &mut self.open {
                pixels.frame(&self.headers[slice.file], slice.frame, slice.scale, out)?;
            }
            self.next += 1;
        }
        Ok(())
    }
}

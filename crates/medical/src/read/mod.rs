//! Reading volumes: DICOM, NIfTI, NRRD and MetaImage come out alike, on a grid of RAS+.
//!
//! A reader gives the slices of a volume one after the other ([`Slices`]), in the order of its file, so that
//! a large volume can be turned into a cache of blocks (`crate::blocks`) without ever being in memory.
//! [`volume`] reads one whole.
//!
//! Geometry is never guessed: a file that does not say where its voxels are is refused, and the error says
//! what is missing. No error names a patient, an identifier or a date: messages are made of file names, tags,
//! shapes and geometry only.

pub mod dicom;
pub mod metaimage;
pub mod nifti;
pub mod nrrd;
mod passed;
mod raw;
mod slices;
#[cfg(test)]
mod tests;
mod upright;

pub use passed::Passed;
pub(crate) use slices::finite;
pub use slices::{NotFinite, ReadConfig, Resampling, Slices};

use crate::transform::upright;
use crate::volume::{Volume, whole};
use selfsup_core::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use upright::Upright;

/// Opens a folder of one DICOM series, or a file of DICOM, NIfTI, NRRD or MetaImage. The content decides, not
/// the name. Where `config` wants the volume on another grid, it is read whole now.
///
/// # Errors
/// If it is none of these, says nothing of its geometry, or announces more voxels than `config` takes.
pub fn open(path: &Path, config: &ReadConfig) -> Result<Box<dyn Slices>> {
    resampled(plain(path, config)?, config)
}

/// On the grid that `config` wants.
fn resampled(slices: Box<dyn Slices>, config: &ReadConfig) -> Result<Box<dyn Slices>> {
    match config.resample {
        None => Ok(slices),
        Some(Resampling::Upright) => Upright::of(slices, config),
    }
}

/// On the grid of the file.
fn plain(path: &Path, config: &ReadConfig) -> Result<Box<dyn Slices>> {
    let meta = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
    if meta.is_dir() {
        return dicom::open_folder(path, config);
    }
    if !meta.is_file() {
        return Err(Error::file(path, "is neither a file nor a folder"));
    }
    let head = selfsup_core::file::head(path, 352)?;
    if dicom::is_dicom(&head) {
        return dicom::open_file(path, config);
    }
    if head.starts_with(b"NRRD") {
        return nrrd::open(path, config);
    }
    if metaimage::is_header(&head) {
        return metaimage::open(path, config);
    }
    if head.starts_with(&[0x1f, 0x8b]) || nifti::is_header(&head) {
        return nifti::open(path, config);
    }
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    match ending.as_str() {
        "dcm" => Err(Error::file(
            path,
            "is no DICOM file: neither DICM at byte 128 nor a data set at its beginning; damaged or cut short?",
        )),
        "nii" | "hdr" | "img" | "gz" => nifti::open(path, config),
        "mha" | "mhd" => metaimage::open(path, config),
        _ => Err(Error::file(
            path,
            "not a volume that is known, expected DICOM, NIfTI (.nii, .nii.gz), NRRD (.nrrd, .nhdr) or MetaImage \
             (.mha, .mhd)",
        )),
    }
}

/// Opens the volume that `path` stands for: as [`open`], but a DICOM file stands for all slices of its series
/// in its folder, so that a folder of several series can be named series by series ([`volumes`]).
///
/// # Errors
/// As [`open`].
pub fn open_series(path: &Path, config: &ReadConfig) -> Result<Box<dyn Slices>> {
    if !path.is_dir() && dicom_file(path) {
        let files = dicom::series_of(path)?;
        if files.len() > 1 {
            return resampled(dicom::open_files(&path.display().to_string(), &files, config)?, config);
        }
    }
    open(path, config)
}

/// The files that the volume which `path` stands for is read from ([`open_series`]).
///
/// # Errors
/// If a folder cannot be listed or a DICOM file cannot be read.
pub fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if path.is_dir() {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(path).map_err(|e| Error::io(path, e))? {
            found.push(entry.map_err(|e| Error::io(path, e))?.path());
        }
        found.sort();
        return Ok(found);
    }
    let head = selfsup_core::file::head(path, 132)?;
    if dicom::is_dicom(&head) {
        return dicom::series_of(path);
    }
    // A header and its data. What is wrong with a header is said when it is read.
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    let data = match ending.as_str() {
        _ if head.starts_with(b"NRRD") => nrrd::data_of(path).ok().flatten(),
        _ if metaimage::is_header(&head) => metaimage::data_of(path).ok().flatten(),
        "hdr" => nifti::image_beside(path).ok(),
        _ => None,
    };
    Ok([Some(path.to_path_buf()), data.filter(|data| data.is_file())].into_iter().flatten().collect())
}

/// The volumes that were found among files, and what was not one.
#[derive(Clone, Debug, Default)]
pub struct Volumes {
    /// Each as the path that [`open_series`] takes, sorted.
    pub paths: Vec<PathBuf>,
    /// Files beside them that are no part of a volume.
    pub passed: Passed,
    /// A line for each folder whose series hold several volumes, which says what they differ by.
    pub divided: Vec<String>,
}

/// The volumes among `files`: a NIfTI, NRRD or MetaImage file is one; of the DICOM files of a folder each series is one
/// (each acquisition or phase, where a series has several), named by the folder if it is the only one there
/// and has several files, else by its first file. A folder with a damaged slice is one volume, so that reading
/// it says what is wrong.
///
/// # Errors
/// Never for what a file holds.
pub fn volumes(files: &[PathBuf]) -> Result<Volumes> {
    let alone = |p: &Path| {
        let name = p.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        [".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd"].iter().any(|e| name.ends_with(e))
    };
    let mut found = Volumes::default();
    let mut folders: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
    for file in files {
        match file.parent() {
            Some(folder) if !alone(file) => {
                folders.entry(folder.to_path_buf()).or_default().push(file.clone())
            }
            _ => found.paths.push(file.clone()),
        }
    }
    for (folder, files) in folders {
        if let [one] = &files[..] {
            // What cannot be read is a volume that reading names.
            match dicom::no_image(one) {
                Ok(Some(what)) => found.passed.add(what),
                _ => found.paths.push(one.clone()),
            }
            continue;
        }
        let Ok((series, passed)) = dicom::series(&folder) else {
            found.paths.push(folder);
            continue;
        };
        found.passed.join(passed);
        let mut by: Vec<&str> = series.iter().filter_map(|s| s.by.as_deref()).collect();
        let several = by.len();
        // Those whose values are not shown have the same name.
        by.dedup();
        if several > 0 {
            found.divided.push(format!(
                "{}: {several} volumes of one series, told apart by {}",
                folder.display(),
                by.join("; ")
            ));
        }
        match &series[..] {
            [one] if one.files.len() > 1 => found.paths.push(folder),
            _ => found.paths.extend(series.into_iter().filter_map(|s| s.files.into_iter().next())),
        }
    }
    found.paths.sort();
    Ok(found)
}

/// The files among `files` that are pictures: all but DICOM objects without an image, which are counted. What
/// cannot be read stays, for reading to name.
pub fn pictures(files: Vec<PathBuf>) -> (Vec<PathBuf>, Passed) {
    let mut passed = Passed::default();
    let mut is_picture = |path: &PathBuf| match dicom_file(path).then(|| dicom::no_image(path)) {
        Some(Ok(Some(what))) => {
            passed.add(what);
            false
        }
        _ => true,
    };
    let pictures = files.into_iter().filter(|f| is_picture(f)).collect();
    (pictures, passed)
}

/// Whether a file begins like a DICOM file.
fn dicom_file(path: &Path) -> bool {
    selfsup_core::file::head(path, 132).is_ok_and(|head| dicom::is_dicom(&head))
}

/// Reads a volume whole, turned to RAS+; a DICOM file stands for its series ([`open_series`]).
///
/// # Errors
/// As [`open`]; if the file ends early, is damaged, or holds values that are not finite and `config` does not
/// replace them.
pub fn volume(path: impl AsRef<Path>, config: &ReadConfig) -> Result<Volume> {
    whole_volume(open_series(path.as_ref(), config)?, config)
}

/// Reads what is left of `slices`, which must be at their beginning, turned to RAS+.
///
/// # Errors
/// As [`volume`].
pub fn whole_volume(mut slices: Box<dyn Slices>, config: &ReadConfig) -> Result<Volume> {
    let stored = slices.stored().clone();
    let mut values = vec![0f32; stored.shape().iter().product()];
    slices.next(&mut values)?;
    finite(slices.id(), &stored, 0, &mut values, config.not_finite)?;
    let mut volume = Volume::from_stored(slices.id().to_string(), stored, values)?;
    volume.set_padding(slices.padding());
    Ok(volume)
}

/// `config` without what would move voxels. A NaN is no label, whatever may stand in for it in an image.
fn of_labels(config: &ReadConfig) -> ReadConfig {
    ReadConfig { not_finite: NotFinite::Refuse, resample: None, ..config.clone() }
}

/// Reads a volume and the labels beside it.
///
/// # Errors
/// As [`volume`]; if the labels lie on another grid or are no whole numbers from 0 to 65535.
pub fn labelled(image: impl AsRef<Path>, labels: impl AsRef<Path>, config: &ReadConfig) -> Result<Volume> {
    let image = volume(image, &ReadConfig { resample: None, ..config.clone() })?;
    let both = image.labelled_by(&volume(labels, &of_labels(config))?)?;
    if config.resample.is_some() { upright(both) } else { Ok(both) }
}

/// Reads the labels of a file with the grid that they lie on.
///
/// # Errors
/// As [`volume`]; if a value is no whole number from 0 to 65535.
pub fn labels(path: impl AsRef<Path>, config: &ReadConfig) -> Result<(crate::grid::Grid, Vec<u16>)> {
    let volume = volume(path, &of_labels(config))?;
    let labels = whole(volume.id(), volume.values())?;
    if config.resample.is_none() {
        return Ok((volume.grid().clone(), labels));
    }
    let (grid, _, labels) = upright(volume.with_labels(labels)?)?.into_parts();
    Ok((grid, labels.unwrap_or_default()))
}

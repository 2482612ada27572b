//! `[volumes]`: how files become volumes that patches and slices are cut from. A volume that is small enough
//! is read and prepared once; of a larger one parts are read from a file of blocks.

use crate::say::note;
use crate::set::Set;
use selfsup_core::config::Unread;
use selfsup_core::data::Transform;
use selfsup_core::{Error, Key, Result};
use selfsup_datasets::folder::Folder;
use selfsup_datasets::layout::arrange;
use selfsup_datasets::recognise;
use selfsup_datasets::{Kind, Layout, Source as Place};
use selfsup_medical::blocks::{Recipe, Scan, Store, StoreConfig};
use selfsup_medical::read::{self, Passed, ReadConfig};
use selfsup_medical::transform::{Pipeline, Scale};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Which pictures are made of volumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cut {
    /// Slices across z.
    Axial,
    /// Slices across y.
    Coronal,
    /// Slices across x.
    Sagittal,
    /// The frames of DICOM files as they are, wherever they lie: radiographs, ultrasound, single slices.
    Stored,
}

/// `[volumes]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VolumeConfig {
    /// Patches of each volume in an epoch.
    pub patches: usize,
    /// Voxels of a volume that is read whole; of larger ones patches are read from blocks on the disk.
    pub in_memory: u64,
    /// Megabytes of all volumes together that are kept whole in memory; those above it go to blocks on the
    /// disk.
    pub memory_mb: u64,
    /// Where the blocks are kept: a folder of yours alone; by default `blocks` in the cache of data sets
    /// (`SELFSUP_DATA`, else `selfsup` in the user's cache folder).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocks: Option<String>,
    /// Gigabytes of blocks that are kept on the disk. Above it the least recently used are removed, but never
    /// those that a run reads.
    pub blocks_gb: f64,
    /// Megabytes of blocks that are kept in memory.
    pub cache_mb: usize,
    /// How files are read.
    pub read: ReadConfig,
    /// `axial`, `coronal`, `sagittal` or `stored`: samples are pictures for the encoders of images. Without
    /// it they are volumes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slices: Option<Cut>,
    /// Slices: the part of the axis that is taken, by default all of it. The ends of a scan are often empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<[f64; 2]>,
    /// Slices: how intensities become grey values, a window or percentiles. By default half a percent is cut
    /// at both ends; `stored` pictures go through the window that their file recommends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<Scale>,
    /// Blocks are kept nowhere: set for a dry run.
    #[serde(skip)]
    scratch: bool,
}

impl Default for VolumeConfig {
    fn default() -> Self {
        VolumeConfig {
            patches: 16,
            in_memory: 64 << 20,
            memory_mb: 2048,
            blocks: None,
            blocks_gb: 20.0,
            cache_mb: 512,
            read: ReadConfig::default(),
            slices: None,
            keep: None,
            scale: None,
            scratch: false,
        }
    }
}

const OF_SLICES: &str = "is read where volumes.slices makes pictures of volumes";

impl VolumeConfig {
    /// Keys that nothing reads: of pictures where volumes are trained on, and the reverse.
    pub fn unread(&self, pictures: Option<Cut>, task: Option<&str>) -> Vec<Unread> {
        let patches = Unread::all(
            "volumes",
            &["patches"],
            "is read where patches are cut from volumes: in pre-training and for segmentation",
        );
        match pictures {
            None if matches!(task, None | Some("segmentation")) => {
                Unread::all("volumes", &["keep", "scale"], OF_SLICES)
            }
            None => [patches, Unread::all("volumes", &["keep", "scale"], OF_SLICES)].concat(),
            Some(Cut::Stored) => {
                let whole = ["keep", "in_memory", "memory_mb", "blocks", "blocks_gb", "cache_mb"];
                [patches, Unread::all("volumes", &whole, "is read where slices are cut from volumes")]
                    .concat()
            }
            Some(_) => patches,
        }
    }

    /// Where volumes are kept.
    ///
    /// # Errors
    /// If a key cannot be carried out.
    pub fn store(&self) -> Result<Arc<Store>> {
        if !(self.blocks_gb >= 0.0 && self.blocks_gb.is_finite()) {
            let problem = format!("volumes.blocks_gb = {}: expected gigabytes, 0 or more", self.blocks_gb);
            return Err(Error::config(problem));
        }
        let folder = match (&self.blocks, self.scratch) {
            (_, true) => None,
            (Some(folder), _) => Some(PathBuf::from(folder)),
            // Without a cache blocks go with the run.
            (None, _) => block_folder().ok(),
        };
        Ok(Arc::new(Store::new(StoreConfig {
            folder,
            on_disk: (self.blocks_gb * 1e9) as u64,
            cached: self.cache_mb << 20,
            in_memory: self.memory_mb << 20,
        })))
    }

    /// Keeps blocks only as long as the run lasts.
    pub fn leave_nothing(&mut self) {
        self.scratch = true;
    }

    /// The volumes of a folder, a file or a data set: each series and each other file is one.
    ///
    /// # Errors
    /// If nothing is found, or a DICOM file cannot be read.
    pub fn open(&self, what: &str, layout: Layout) -> Result<Set> {
        let path = Path::new(what);
        if selfsup_datasets::list().iter().any(|c| c.name == what) || !path.is_dir() {
            return Ok(Set::new(selfsup_datasets::open_kind(what, Kind::Medical)?));
        }
        // Files of labels first: the files of a series become one folder.
        let arranged = arrange(path, found(path)?, layout);
        let found = read::volumes(&arranged.files)?;
        found.divided.iter().for_each(note);
        say_passed(path, &found.passed);
        if found.paths.is_empty() {
            return Err(Error::file(path, format!("holds no volumes, only {}", found.passed)));
        }
        Ok(Set::new(Folder::of(path, found.paths, layout).with_notes(labels_of(arranged.notes))))
    }

    /// Each medical file by itself, of a folder, a file or a data set.
    ///
    /// # Errors
    /// If nothing is found.
    pub fn files(&self, what: &str, layout: Layout) -> Result<Set> {
        let path = Path::new(what);
        if selfsup_datasets::list().iter().any(|c| c.name == what) || !path.is_dir() {
            return Ok(Set::new(selfsup_datasets::open_kind(what, Kind::Medical)?));
        }
        let (files, passed) = read::pictures(found(path)?);
        say_passed(path, &passed);
        if files.is_empty() {
            return Err(Error::file(path, format!("holds no pictures, only {passed}")));
        }
        Ok(Set::new(Folder::of(path, files, layout)))
    }

    /// The volume at `path`, prepared (its intensities put on `scale` among the rest) and whole, in memory or
    /// in blocks; or its parts, scaled as they are read from blocks, if it is too large to be read whole.
    /// `how` says what `prepare` does. `strict` are the keys of what it does besides and blocks cannot: then
    /// a volume that is too large is refused.
    ///
    /// # Errors
    /// If it cannot be read, or the blocks cannot be written.
    pub fn scan(
        &self,
        path: &Path,
        (prepare, how): (&Pipeline, &str),
        scale: &Scale,
        strict: Option<&str>,
        store: &Store,
    ) -> Result<Arc<dyn Scan>> {
        let slices = read::open_series(path, &self.read)?;
        let voxels = slices.stored().shape().iter().map(|n| *n as u64).product::<u64>();
        if voxels <= self.in_memory {
            let how = format!("{how} {}", self.reading()?);
            let recipe = Recipe { sources: &[path], how: &how, voxels, labelled: false };
            return store.keep(recipe, || {
                prepare.apply(read::whole_volume(slices, &self.read)?, &mut Key::new(0).rng())
            });
        }
        if let Some(keys) = strict {
            let problem = format!(
                "{voxels} voxels are read in blocks, which are neither resampled nor cropped: leave {keys} \
                 out, or raise volumes.in_memory"
            );
            return Err(Error::file(path, problem));
        }
        drop(slices);
        store.scaled(path, &self.read, scale)
    }

    /// How files are read, as a text.
    ///
    /// # Errors
    /// Never for settings that were read from a text.
    pub fn reading(&self) -> Result<String> {
        serde_json::to_string(&self.read).map_err(|e| Error::config(format!("volumes.read: {e}")))
    }
}

/// The folder of blocks where `volumes.blocks` names none.
///
/// # Errors
/// If the environment names no cache.
pub fn block_folder() -> Result<PathBuf> {
    Ok(selfsup_datasets::fetch::cache()?.join("blocks"))
}

/// Says in one line what of a folder is no part of a volume.
fn say_passed(root: &Path, passed: &Passed) {
    if !passed.is_empty() {
        note(format_args!("{}: passed over {passed}", root.display()));
    }
}

/// What was said about files of labels: splits and subjects are said of the volumes.
fn labels_of(notes: Vec<String>) -> Vec<String> {
    notes.into_iter().filter(|n| !n.starts_with("folders ")).collect()
}

/// The medical files below a folder.
fn found(root: &Path) -> Result<Vec<PathBuf>> {
    let files = recognise::files(root, Kind::Medical, recognise::KNOWN)?;
    if files.is_empty() {
        return Err(Error::file(
            root,
            "no medical images found: looked in all folders for DICOM, NIfTI (.nii, .nii.gz) and NRRD",
        ));
    }
    Ok(files)
}

/// The file (or folder) of a record.
///
/// # Errors
/// If it is none of a volume.
pub fn path_of(set: &Set, index: usize) -> Result<PathBuf> {
    let record = set.records().get(index)?;
    match record.source {
        Place::File(path) => Ok(path),
        _ => Err(Error::input(&record.id, "expected a file or a folder of a volume")),
    }
}

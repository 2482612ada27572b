//! `[volumes]`: how files become volumes that patches and slices are cut from. A volume that is small enough
//! is read and prepared once; of a larger one parts are read from a file of blocks.

use crate::set::Set;
use selfsup_core::config::Unread;
use selfsup_core::data::Transform;
use selfsup_core::{Error, Key, Result};
use selfsup_datasets::folder::Folder;
use selfsup_datasets::layout::arrange;
use selfsup_datasets::recognise;
use selfsup_datasets::{Kind, Layout, Source as Place};
use selfsup_medical::blocks::{BlockCache, Scaled, Scan, cached};
use selfsup_medical::read::{self, ReadConfig};
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
    /// Voxels of a volume that is kept in memory; of larger ones patches are read from blocks on the disk.
    pub in_memory: u64,
    /// Where the blocks are kept; by default a folder `selfsup-blocks` among the temporary files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocks: Option<String>,
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
}

impl Default for VolumeConfig {
    fn default() -> Self {
        VolumeConfig {
            patches: 16,
            in_memory: 64 << 20,
            blocks: None,
            cache_mb: 512,
            read: ReadConfig::default(),
            slices: None,
            keep: None,
            scale: None,
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
                let whole = ["keep", "in_memory", "blocks", "cache_mb"];
                [patches, Unread::all("volumes", &whole, "is read where slices are cut from volumes")]
                    .concat()
            }
            Some(_) => patches,
        }
    }

    /// The blocks that are kept in memory.
    pub fn cache(&self) -> Arc<BlockCache> {
        BlockCache::new(self.cache_mb << 20)
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
        let found = arrange(path, found(path)?, layout);
        Ok(Set::new(
            Folder::of(path, read::volumes(&found.files)?, layout).with_notes(labels_of(found.notes)),
        ))
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
        Ok(Set::new(Folder::of(path, found(path)?, layout)))
    }

    /// The volume at `path`, its intensities put on `scale`: prepared and in memory, or in blocks.
    /// `strict` are the keys of what `prepare` would do to a volume besides and blocks cannot: then a large
    /// volume is refused.
    ///
    /// # Errors
    /// If it cannot be read, or the blocks cannot be written.
    pub fn scan(
        &self,
        path: &Path,
        prepare: &Pipeline,
        scale: &Scale,
        strict: Option<&str>,
        cache: &Arc<BlockCache>,
    ) -> Result<Arc<dyn Scan>> {
        let slices = read::open_series(path, &self.read)?;
        let voxels = slices.stored().shape().iter().map(|n| *n as u64).product::<u64>();
        if voxels <= self.in_memory {
            let whole = read::whole_volume(slices, &self.read)?;
            return Ok(Arc::new(prepare.apply(whole, &mut Key::new(0).rng())?));
        }
        if let Some(keys) = strict {
            let problem = format!(
                "{voxels} voxels are read in blocks, which are neither resampled nor cropped: leave {keys} \
                 out, or raise volumes.in_memory"
            );
            return Err(Error::file(path, problem));
        }
        drop(slices);
        let folder =
            self.blocks.as_ref().map_or_else(|| std::env::temp_dir().join("selfsup-blocks"), PathBuf::from);
        Ok(Arc::new(Scaled::new(cached(path, None, &folder, &self.read, cache)?, scale)?))
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

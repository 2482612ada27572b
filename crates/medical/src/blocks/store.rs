//! Volumes of a run within bounds: those that fit in memory together are kept there, the others lie in blocks
//! on the disk, and all have the same values.

use super::cache::BlockCache;
use super::cached::{Wanted, fingerprint, opened};
use super::file::BlockVolume;
use super::patches::Scan;
use super::private;
use super::scaled::Scaled;
use super::shelf::trim;
use super::whole::{labels_of, values_of};
use crate::grid::{Grid, Stored};
use crate::read::{NotFinite, ReadConfig};
use crate::transform::Scale;
use crate::volume::Volume;
use selfsup_core::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Where volumes are kept, and how much of them.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// The folder of blocks; without one a folder that goes with the store.
    pub folder: Option<PathBuf>,
    /// Bytes of blocks in the folder: above it, those that are not in use go, the least recently used first.
    pub on_disk: u64,
    /// Bytes of blocks that are kept in memory.
    pub cached: usize,
    /// Bytes of all volumes that are whole in memory.
    pub in_memory: u64,
}

/// A volume that a store may keep.
#[derive(Clone, Copy, Debug)]
pub struct Recipe<'a> {
    /// The files that it depends on; the first one names it.
    pub sources: &'a [&'a Path],
    /// How it is read and prepared: of the same, blocks of an earlier run are taken.
    pub how: &'a str,
    /// About how many voxels it has.
    pub voxels: u64,
    /// Whether it has labels.
    pub labelled: bool,
}

/// The volumes of a run.
pub struct Store {
    folder: PathBuf,
    scratch: bool,
    on_disk: u64,
    cache: Arc<BlockCache>,
    memory: Arc<Memory>,
    /// What is open, by its fingerprint: a volume that is asked for again is not read again.
    open: Mutex<BTreeMap<String, Weak<dyn Scan>>>,
}

/// The bytes of volumes in memory.
struct Memory {
    most: u64,
    used: AtomicU64,
}

/// A volume in memory; its bytes are free again when it goes.
struct Kept {
    volume: Volume,
    bytes: u64,
    memory: Arc<Memory>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.memory.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Scan for Kept {
    fn id(&self) -> &str {
        self.volume.id()
    }
    fn grid(&self) -> &Grid {
        self.volume.grid()
    }
    fn stored(&self) -> Option<&Stored> {
        self.volume.stored()
    }
    fn part(&self, start: [isize; 3], shape: [usize; 3], pad: f32) -> Result<Volume> {
        self.volume.part(start, shape, pad)
    }
}

impl Memory {
    /// Whether `bytes` more are allowed; then they are taken.
    fn take(&self, bytes: u64) -> bool {
        let more = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.most);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn left(&self) -> u64 {
        self.most.saturating_sub(self.used.load(Ordering::Relaxed))
    }
}

impl Store {
    /// A store; nothing is written before a volume has to be.
    pub fn new(config: StoreConfig) -> Store {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let scratch = config.folder.is_none();
        let folder = config.folder.unwrap_or_else(|| {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            std::env::temp_dir().join(format!("selfsup-blocks-{}-{number}", std::process::id()))
        });
        Store {
            folder,
            scratch,
            on_disk: config.on_disk,
            cache: BlockCache::new(config.cached),
            memory: Arc::new(Memory { most: config.in_memory, used: AtomicU64::new(0) }),
            open: Mutex::default(),
        }
    }

    /// Bytes of volumes that are whole in memory now.
    pub fn in_memory(&self) -> u64 {
        self.memory.used.load(Ordering::Relaxed)
    }

    /// A volume that is read and prepared by `make` as a whole.
    ///
    /// # Errors
    /// If it cannot be made, or the blocks cannot be written.
    pub fn keep(&self, recipe: Recipe<'_>, make: impl FnOnce() -> Result<Volume>) -> Result<Arc<dyn Scan>> {
        let Recipe { sources, how, voxels, labelled } = recipe;
        let name = fingerprint(sources, how)?;
        if let Some(open) = self.find(&name) {
            return Ok(open);
        }
        let id = || sources.first().map(|s| s.display().to_string()).unwrap_or_default();
        let place = |kind: &str| self.folder.join(format!("{}{kind}.blocks", &name[..32]));
        let (values, labels) = (place(""), place("-labels"));
        let wanted = Wanted { name: &name, cache: &self.cache };
        // Blocks that are there are read where memory would not do.
        if self.memory.left() < voxels.saturating_mul(4) && self.folder.exists() {
            private::folder(&self.folder)?;
            let of_labels = if labelled { wanted.open(&labels)? } else { None };
            if of_labels.is_some() == labelled
                && let Some(found) = wanted.open(&values)?
            {
                return Ok(self.remember(name, Arc::new(BlockVolume::new(id(), found, of_labels)?)));
            }
        }
        let volume = make()?;
        let bytes = 4 * volume.values().len() as u64 + 2 * volume.labels().map_or(0, |l| l.len() as u64);
        if self.memory.take(bytes) {
            let kept = Kept { volume, bytes, memory: self.memory.clone() };
            return Ok(self.remember(name, Arc::new(kept)));
        }
        private::folder(&self.folder)?;
        let anything = ReadConfig { not_finite: NotFinite::Refuse, ..ReadConfig::default() };
        let of_labels = match labels_of(&volume)? {
            Some(slices) => Some(wanted.make(&labels, Box::new(slices), &anything)?),
            None => None,
        };
        let of_values = wanted.make(&values, Box::new(values_of(volume)?), &anything)?;
        self.trim()?;
        Ok(self.remember(name, Arc::new(BlockVolume::new(id(), of_values, of_labels)?)))
    }

    /// The volume of `source` in blocks as it is, its intensities put on `scale` as they are read: for volumes
    /// that are too large to be in memory once.
    ///
    /// # Errors
    /// If it cannot be read, or the blocks cannot be written.
    pub fn scaled(&self, source: &Path, config: &ReadConfig, scale: &Scale) -> Result<Arc<dyn Scan>> {
        let text = |e: serde_json::Error| Error::file(source, format!("its settings cannot be written: {e}"));
        let how = serde_json::to_string(&(config, "scaled", scale)).map_err(text)?;
        let name = fingerprint(&[source], &how)?;
        if let Some(open) = self.find(&name) {
            return Ok(open);
        }
        let file = opened(source, &self.folder, config, &self.cache)?;
        let volume = BlockVolume::new(source.display().to_string(), file, None)?;
        let scaled = Scaled::new(volume, scale)?;
        self.trim()?;
        Ok(self.remember(name, Arc::new(scaled)))
    }

    fn find(&self, name: &str) -> Option<Arc<dyn Scan>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).get(name)?.upgrade()
    }

    fn remember(&self, name: String, scan: Arc<dyn Scan>) -> Arc<dyn Scan> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, scan| scan.strong_count() > 0);
        open.insert(name, Arc::downgrade(&scan));
        scan
    }

    fn trim(&self) -> Result<()> {
        if self.scratch { Ok(()) } else { trim(&self.folder, self.on_disk).map(|_| ()) }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if self.scratch {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::Grid;

    fn config(folder: Option<PathBuf>, in_memory: u64) -> StoreConfig {
        StoreConfig { folder, on_disk: 1 << 30, cached: 1 << 20, in_memory }
    }

    /// A volume of 40 x 9 x 50 voxels, 72,000 bytes, and its labels, 36,000.
    fn made(number: usize, labelled: bool) -> Volume {
        let grid = Grid::with_spacing([40, 9, 50], [2.0, 1.0, 1.5]).unwrap();
        let values = (0..18_000).map(|i| ((i * 37 + number) % 1500) as f32 / 7.0).collect();
        let volume = Volume::new("v", grid, values).unwrap();
        if !labelled {
            return volume;
        }
        volume.with_labels((0..18_000u32).map(|i| (i % 70_000) as u16 % 300).collect()).unwrap()
    }

    /// Many volumes need no more memory than few: what is above the bound lies in blocks, with the same values.
    #[test]
    fn memory_is_bounded_over_all_volumes() {
        let dir = tempfile::tempdir().unwrap();
        let blocks = dir.path().join("blocks");
        let sources: Vec<PathBuf> = (0..6).map(|i| dir.path().join(format!("v{i}.nii"))).collect();
        sources.iter().for_each(|s| std::fs::write(s, "source").unwrap());
        let store = Store::new(config(Some(blocks.clone()), 250_000));
        let keep = |store: &Store, i: usize, made: &dyn Fn() -> Volume| {
            let source = sources[i].as_path();
            let recipe = Recipe { sources: &[source], how: "how", voxels: 18_000, labelled: true };
            store.keep(recipe, || Ok(made())).unwrap()
        };
        let scans: Vec<_> = (0..6).map(|i| keep(&store, i, &|| made(i, true))).collect();
        // Two of 108,000 bytes fit.
        assert_eq!(store.in_memory(), 216_000);
        assert_eq!(
            std::fs::read_dir(&blocks)
                .unwrap()
                .filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|e| e == "blocks"))
                .count(),
            8
        );
        for (i, scan) in scans.iter().enumerate() {
            for (start, shape) in [([0; 3], [40, 9, 50]), ([30, -1, 3], [20, 8, 20])] {
                let (a, b) =
                    (scan.part(start, shape, 0.5).unwrap(), made(i, true).part(start, shape, 0.5).unwrap());
                assert_eq!((a.values(), a.labels(), a.grid()), (b.values(), b.labels(), b.grid()));
            }
        }
        // Asked for again, they are not made again; nor by a later run, where they lie in blocks.
        let never = || -> Volume { panic!("made again") };
        assert!(Arc::ptr_eq(&keep(&store, 0, &never), &scans[0]));
        let later = Store::new(config(Some(blocks), 0));
        assert_eq!(
            keep(&later, 5, &never).part([0; 3], [1, 1, 2], 0.0).unwrap().values(),
            &made(5, true).values()[..2]
        );
        drop(scans);
        assert_eq!(store.in_memory(), 0);
    }

    #[test]
    fn a_store_without_a_folder_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("v.nii");
        std::fs::write(&source, "source").unwrap();
        let store = Store::new(config(None, 0));
        let recipe = Recipe { sources: &[&source], how: "", voxels: 18_000, labelled: false };
        let scan = store.keep(recipe, || Ok(made(0, false))).unwrap();
        assert!(store.folder.exists());
        assert_eq!(scan.part([0; 3], [1, 1, 1], 0.0).unwrap().values(), &made(0, false).values()[..1]);
        let folder = store.folder.clone();
        drop((scan, store));
        assert!(!folder.exists());
    }
}

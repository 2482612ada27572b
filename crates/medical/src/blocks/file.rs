//! An open file of blocks: any box is read from the blocks that it touches, each checked against its sum.

use super::cache::BlockCache;
use super::layout::{Header, Kind, MAGIC, MAX_HEADER, blocks_of, seal};
use super::shelf::InUse;
use crate::grid::{Grid, Stored, show};
use crate::volume::{SAME_PLACE, Volume};
use selfsup_core::{Error, Result};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One volume of numbers in blocks.
pub struct BlockFile {
    path: PathBuf,
    stored: Stored,
    grid: Grid,
    header: Header,
    /// Where the first block begins.
    start: u64,
    sums: Vec<u32>,
    cache: Arc<BlockCache>,
    number: u64,
    _in_use: InUse,
}

impl BlockFile {
    /// Opens a file of blocks, to be read through `cache`.
    ///
    /// # Errors
    /// If it is none, of another version, has not the length that its header says, or is damaged outside of its
    /// blocks.
    pub fn open(path: &Path, cache: Arc<BlockCache>) -> Result<Self> {
        let io = |e| Error::io(path, e);
        // Marked first: nobody removes it between here and there.
        let _in_use = InUse::of(path);
        let mut file = selfsup_core::file::open(path)?;
        let length = file.metadata().map_err(io)?.len();
        let mut head = [0u8; 16];
        let short = || Error::file(path, "is no file of blocks, or is cut short: remove it, it is made anew");
        file.read_exact(&mut head).map_err(|_| short())?;
        let size = u64::from_le_bytes(head[8..].try_into().unwrap_or_default());
        if &head[..8] != MAGIC || size > MAX_HEADER {
            return Err(short());
        }
        let mut text = vec![0; size as usize];
        file.read_exact(&mut text).map_err(|_| short())?;
        let header: Header = serde_json::from_slice(&text).map_err(|_| short())?;
        let stored = Stored::new(header.stored_shape, header.stored_affine).map_err(|_| short())?;
        let grid = stored.grid().map_err(|_| short())?;
        let counts = blocks_of(grid.shape(), header.edge.max(1));
        let count = counts.iter().try_fold(1usize, |n, c| n.checked_mul(*c)).ok_or_else(short)?;
        let start = 16 + size;
        let block = header
            .edge
            .checked_pow(3)
            .and_then(|n| n.checked_mul(header.kind.size()))
            .filter(|n| (1..1 << 30).contains(n));
        let data = block.and_then(|b| count.checked_mul(b)).ok_or_else(short)? as u64;
        // A sum for each block, and one for the rest.
        let sums = (count as u64).checked_mul(4).and_then(|n| n.checked_add(4)).ok_or_else(short)?;
        if Some(length) != start.checked_add(data).and_then(|n| n.checked_add(sums)) {
            return Err(short());
        }
        file.seek(SeekFrom::Start(start + data)).map_err(io)?;
        let mut sums = Vec::new();
        file.take(length).read_to_end(&mut sums).map_err(io)?;
        let sealed = sums.split_off(sums.len().saturating_sub(4));
        if sealed != seal(&text, &sums).to_le_bytes() {
            return Err(Error::file(
                path,
                "is damaged (its checksum differs): remove the file, it is made anew",
            ));
        }
        let sums = sums.as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
        let number = cache.register();
        Ok(BlockFile { path: path.to_path_buf(), stored, grid, header, start, sums, cache, number, _in_use })
    }

    /// The fingerprint of its source; empty where it was made without one.
    pub(super) fn source(&self) -> &str {
        &self.header.source
    }

    /// Where its voxels are.
    pub fn grid(&self) -> &Grid {
        &self.grid
    }

    /// How the file that it was made from stored it.
    pub fn stored(&self) -> &Stored {
        &self.stored
    }

    /// Block `index`, checked.
    fn block(&self, index: usize) -> Result<Arc<[u8]>> {
        self.cache.get((self.number, index as u64), || {
            let io = |e| Error::io(&self.path, e);
            let size = self.header.edge.pow(3) * self.header.kind.size();
            // Opened for each read: a thousand volumes must not hold a thousand descriptors.
            let mut file = selfsup_core::file::open(&self.path)?;
            file.seek(SeekFrom::Start(self.start + (index * size) as u64)).map_err(io)?;
            let mut bytes = vec![0; size];
            file.read_exact(&mut bytes).map_err(io)?;
            if self.sums.get(index) != Some(&crc32fast::hash(&bytes)) {
                return Err(Error::file(
                    &self.path,
                    format!(
                        "block {index} is damaged (its checksum differs): remove the file, it is made anew"
                    ),
                ));
            }
            Ok(bytes)
        })
    }

    /// The numbers of the part of `shape` at `start` (z, y, x); what lies outside is `pad`.
    ///
    /// # Errors
    /// If a block cannot be read or is damaged.
    pub fn read(&self, start: [isize; 3], shape: [usize; 3], pad: f32) -> Result<Vec<f32>> {
        let (edge, volume) = (self.header.edge, self.grid.shape());
        let counts = blocks_of(volume, edge);
        let mut out = vec![pad; shape.iter().product()];
        // Along an axis: what of the part lies inside the volume, and the blocks that it touches.
        let inside = [0, 1, 2].map(|a| {
            let low = start[a].clamp(0, volume[a] as isize) as usize;
            let high = start[a].saturating_add_unsigned(shape[a]).clamp(0, volume[a] as isize) as usize;
            (low, high.max(low))
        });
        if inside.iter().any(|(low, high)| low == high) {
            return Ok(out);
        }
        let touched = inside.map(|(low, high)| low / edge..(high - 1) / edge + 1);
        for bz in touched[0].clone() {
            for by in touched[1].clone() {
                for bx in touched[2].clone() {
                    let block = self.block((bz * counts[1] + by) * counts[2] + bx)?;
                    let at = [bz, by, bx];
                    // The box that the block and the part share.
                    let low = [0, 1, 2].map(|a| inside[a].0.max(at[a] * edge));
                    let high = [0, 1, 2].map(|a| inside[a].1.min((at[a] + 1) * edge));
                    for z in low[0]..high[0] {
                        for y in low[1]..high[1] {
                            let from = ((z - bz * edge) * edge + y - by * edge) * edge + low[2] - bx * edge;
                            let row = |v: usize, a: usize| (v as isize - start[a]) as usize;
                            let to = (row(z, 0) * shape[1] + row(y, 1)) * shape[2] + row(low[2], 2);
                            let n = high[2] - low[2];
                            self.numbers(&block, from, &mut out[to..to + n]);
                        }
                    }
                }
            }
        }
        Ok(out)
    }

    fn numbers(&self, block: &[u8], from: usize, out: &mut [f32]) {
        let size = self.header.kind.size();
        let bytes = &block[from * size..(from + out.len()) * size];
        match self.header.kind {
            Kind::I16 => {
                out.iter_mut().zip(bytes.as_chunks().0).for_each(|(o, b)| *o = i16::from_le_bytes(*b).into())
            }
            Kind::F32 => {
                out.iter_mut().zip(bytes.as_chunks().0).for_each(|(o, b)| *o = f32::from_le_bytes(*b))
            }
        }
    }
}

/// A volume in blocks, with its labels if there are any.
pub struct BlockVolume {
    id: String,
    values: BlockFile,
    labels: Option<BlockFile>,
}

impl BlockVolume {
    /// A volume of `values`, named `id` in messages, with `labels` on the same grid.
    ///
    /// # Errors
    /// If the labels lie on another grid.
    pub fn new(id: impl Into<String>, values: BlockFile, labels: Option<BlockFile>) -> Result<Self> {
        let id = id.into();
        if let Some(l) = labels.as_ref().filter(|l| !l.grid.is_close(&values.grid, SAME_PLACE)) {
            let problem = format!(
                "its labels lie on another grid: {} voxels of {:?} mm, expected {} of {:?}, in the same place",
                show(l.grid.shape()),
                l.grid.spacing(),
                show(values.grid.shape()),
                values.grid.spacing()
            );
            return Err(Error::input(&id, problem));
        }
        Ok(BlockVolume { id, values, labels })
    }

    /// Its name in messages.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where its voxels are.
    pub fn grid(&self) -> &Grid {
        self.values.grid()
    }

    /// How the file that it was made from stored it.
    pub fn stored(&self) -> &Stored {
        self.values.stored()
    }

    /// Lowest and highest value that stand for nothing.
    pub fn padding(&self) -> Option<[f32; 2]> {
        self.values.header.padding
    }

    /// The file of its values.
    pub(super) fn path(&self) -> &Path {
        &self.values.path
    }

    /// The part of `shape` from `start` (z, y, x), labels with it; what lies outside is `pad` (labels 0).
    ///
    /// # Errors
    /// If a block cannot be read, or labels are no whole numbers from 0 to 65535.
    pub fn part(&self, start: [isize; 3], shape: [usize; 3], pad: f32) -> Result<Volume> {
        let grid = self.grid().part(start, shape).map_err(|e| Error::input(&self.id, e))?;
        let mut part = Volume::new(self.id.clone(), grid, self.values.read(start, shape, pad)?)?;
        part.set_padding(self.values.header.padding);
        match &self.labels {
            Some(labels) => {
                part.with_labels(crate::volume::whole(&self.id, &labels.read(start, shape, 0.0)?)?)
            }
            None => Ok(part),
        }
    }
}

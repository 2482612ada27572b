//! The file of blocks.
//!
//! ```text
//! 8 bytes    magic and version
//! 8 bytes    length n of the header
//! n bytes    header, JSON: shape, affine, how the source stored it, kind of numbers, edge of a block
//! blocks     in the order (z, y, x), each edge^3 numbers, little-endian, what lies outside the volume 0
//! 4 bytes    CRC-32 of each block, in their order
//! ```
//!
//! Nothing in it tells where the volume came from. It is written aside, synced and renamed, so it is whole or not there; its length is
//! checked when it is opened, and a block's checksum when the block is read.

use super::cache::BlockCache;
use crate::grid::{Affine, Grid, Stored, show};
use crate::read::{ReadConfig, Slices, finite, open};
use crate::volume::Volume;
use selfsup_core::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MAGIC: &[u8; 8] = b"SSVOL\0\0\x01";
/// Edge of a block: 64 KiB in 16 bits, so that reading one costs as much as finding it.
const EDGE: usize = 32;
const MAX_HEADER: u64 = 1 << 16;

/// How numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    I16,
    F32,
}

impl Kind {
    fn size(self) -> usize {
        match self {
            Kind::I16 => 2,
            Kind::F32 => 4,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    /// Of the file that it was made from, `(i, j, k)`.
    stored_shape: [usize; 3],
    stored_affine: Affine,
    kind: Kind,
    edge: usize,
}

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
}

/// Blocks along each axis.
fn blocks_of(shape: [usize; 3], edge: usize) -> [usize; 3] {
    shape.map(|n| n.div_ceil(edge))
}

/// Writes the slices of a volume, which must be at their beginning, as blocks.
///
/// Memory: one layer of blocks, `32 * (the two other axes, rounded up to blocks)` numbers of 4 bytes and the slices of it.
///
/// # Errors
/// If the slices cannot be read, values are not finite and `config` does not replace them, or the file cannot be written; nothing is left.
pub fn convert(mut slices: Box<dyn Slices>, path: &Path, config: &ReadConfig) -> Result<()> {
    let stored = slices.stored().clone();
    let grid = stored.grid()?;
    let kind = if slices.is_i16() { Kind::I16 } else { Kind::F32 };
    let header = Header { stored_shape: stored.shape(), stored_affine: *stored.affine(), kind, edge: EDGE };
    let text = serde_json::to_vec(&header).map_err(|e| Error::file(path, format!("the header cannot be written: {e}")))?;
    let io = |e| Error::io(path, e);
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or_else(|| Error::file(path, "is no file name"))?.to_string_lossy();
    // Two processes may convert one volume at a time: each has its own file aside, and the last rename wins with the same content.
    let aside = Aside(folder.join(format!(".{name}.{}.tmp", std::process::id())));
    let mut file = File::create(&aside.0).map_err(io)?;
    file.write_all(MAGIC).map_err(io)?;
    file.write_all(&(text.len() as u64).to_le_bytes()).map_err(io)?;
    file.write_all(&text).map_err(io)?;
    let start = (16 + text.len()) as u64;

    let blocks = blocks_of(grid.shape(), EDGE);
    let mut sums = vec![0u32; blocks.iter().product()];
    let [ni, nj, nk] = stored.shape();
    // The axis of RAS+ (0 z, 1 y, 2 x) that the slices move along. A layer of blocks across it is filled at a time; against the axis, the
    // first layer is the last one, which may be thin.
    let axis = 2 - stored.axes()[2];
    let (mut k, mut layer) = (0, Layer::new(grid.shape(), axis));
    let mut values = Vec::new();
    while k < nk {
        let at = if stored.flipped()[2] { nk - 1 - k } else { k };
        let number = at / EDGE;
        let n = if stored.flipped()[2] { at % EDGE + 1 } else { EDGE.min(nk - k) };
        values.resize(n * ni * nj, 0f32);
        slices.next(&mut values)?;
        finite(slices.id(), &stored, k, &mut values, config.not_finite)?;
        layer.fill(&stored, k, &values);
        for (block, bytes) in layer.blocks(number, kind) {
            let index = (block[0] * blocks[1] + block[1]) * blocks[2] + block[2];
            sums[index] = crc32fast::hash(&bytes);
            file.seek(SeekFrom::Start(start + (index * bytes.len()) as u64)).map_err(io)?;
            file.write_all(&bytes).map_err(io)?;
        }
        k += n;
    }
    file.seek(SeekFrom::Start(start + (sums.len() * EDGE.pow(3) * kind.size()) as u64)).map_err(io)?;
    file.write_all(&sums.iter().flat_map(|s| s.to_le_bytes()).collect::<Vec<u8>>()).map_err(io)?;
    file.sync_all().map_err(io)?;
    drop(file);
    std::fs::rename(&aside.0, path).map_err(io)?;
    if cfg!(unix) {
        File::open(folder).and_then(|f| f.sync_all()).map_err(|e| Error::io(folder, e))?;
    }
    Ok(())
}

/// A file that goes with the value, if it is still there.
struct Aside(PathBuf);

impl Drop for Aside {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The blocks at one place along an axis, as one array `(z, y, x)` whose axes are rounded up to blocks; that axis has one.
struct Layer {
    axis: usize,
    /// Of the volume.
    volume: [usize; 3],
    shape: [usize; 3],
    values: Vec<f32>,
}

impl Layer {
    fn new(volume: [usize; 3], axis: usize) -> Layer {
        let mut shape = volume.map(|n| n.next_multiple_of(EDGE));
        shape[axis] = EDGE;
        Layer { axis, volume, shape, values: vec![0.0; shape.iter().product()] }
    }

    /// Puts slices, the first of them with number `first`, where they belong.
    fn fill(&mut self, stored: &Stored, first: usize, values: &[f32]) {
        let [ni, nj, _] = stored.shape();
        // What a thinner layer does not reach must not be left from the one before.
        self.values.fill(0.0);
        let strides = [self.shape[1] * self.shape[2], self.shape[2], 1];
        // Along i, j, k: the place of index 0 and the step.
        let walk = [0, 1, 2].map(|a| {
            let axis = 2 - stored.axes()[a];
            let (n, step) = (stored.shape()[a], strides[axis] as isize);
            if stored.flipped()[a] { ((n as isize - 1) * step, -step) } else { (0, step) }
        });
        for (s, slice) in values.chunks_exact(ni * nj).enumerate() {
            let k = first + s;
            let at = if stored.flipped()[2] { stored.shape()[2] - 1 - k } else { k };
            let along = at % EDGE;
            for (j, row) in slice.chunks_exact(ni).enumerate() {
                let begin = (along * strides[self.axis]) as isize + walk[1].0 + j as isize * walk[1].1 + walk[0].0;
                for (i, v) in row.iter().enumerate() {
                    self.values[(begin + i as isize * walk[0].1) as usize] = *v;
                }
            }
        }
    }

    /// Each block with its place (z, y, x) among the blocks; the layer has number `number` along its axis.
    fn blocks(&self, number: usize, kind: Kind) -> impl Iterator<Item = ([usize; 3], Vec<u8>)> + '_ {
        let mut counts = blocks_of(self.volume, EDGE);
        counts[self.axis] = 1;
        (0..counts.iter().product()).map(move |n: usize| {
            let inside = [n / (counts[1] * counts[2]), n / counts[2] % counts[1], n % counts[2]];
            let mut bytes = Vec::with_capacity(EDGE.pow(3) * kind.size());
            for z in 0..EDGE {
                for y in 0..EDGE {
                    let at = ((inside[0] * EDGE + z) * self.shape[1] + inside[1] * EDGE + y) * self.shape[2] + inside[2] * EDGE;
                    for v in &self.values[at..at + EDGE] {
                        match kind {
                            Kind::I16 => bytes.extend_from_slice(&(*v as i16).to_le_bytes()),
                            Kind::F32 => bytes.extend_from_slice(&v.to_le_bytes()),
                        }
                    }
                }
            }
            let mut place = inside;
            place[self.axis] = number;
            (place, bytes)
        })
    }
}

impl BlockFile {
    /// Opens a file of blocks, to be read through `cache`.
    ///
    /// # Errors
    /// If it is none, of another version, or has not the length that its header says.
    pub fn open(path: &Path, cache: Arc<BlockCache>) -> Result<Self> {
        let io = |e| Error::io(path, e);
        let mut file = File::open(path).map_err(io)?;
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
        let grid = stored.grid()?;
        let count: usize = blocks_of(grid.shape(), header.edge.max(1)).iter().product();
        let start = 16 + size;
        let block = header.edge.checked_pow(3).and_then(|n| n.checked_mul(header.kind.size())).filter(|n| (1..1 << 30).contains(n));
        let data = block.and_then(|b| count.checked_mul(b)).ok_or_else(short)? as u64;
        if Some(length) != start.checked_add(data).and_then(|n| n.checked_add(4 * count as u64)) {
            return Err(short());
        }
        file.seek(SeekFrom::Start(start + data)).map_err(io)?;
        let mut sums = Vec::new();
        file.read_to_end(&mut sums).map_err(io)?;
        let sums = sums.as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
        let number = cache.register();
        Ok(BlockFile { path: path.to_path_buf(), stored, grid, header, start, sums, cache, number })
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
            let mut file = File::open(&self.path).map_err(io)?;
            file.seek(SeekFrom::Start(self.start + (index * size) as u64)).map_err(io)?;
            let mut bytes = vec![0; size];
            file.read_exact(&mut bytes).map_err(io)?;
            if self.sums.get(index) != Some(&crc32fast::hash(&bytes)) {
                return Err(Error::file(
                    &self.path,
                    format!("block {index} is damaged (its checksum differs): remove the file, it is made anew"),
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
            Kind::I16 => out.iter_mut().zip(bytes.as_chunks().0).for_each(|(o, b)| *o = i16::from_le_bytes(*b).into()),
            Kind::F32 => out.iter_mut().zip(bytes.as_chunks().0).for_each(|(o, b)| *o = f32::from_le_bytes(*b)),
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
        if let Some(l) = labels.as_ref().filter(|l| !l.grid.is_close(&values.grid, 0.01)) {
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

    /// The part of `shape` from `start` (z, y, x), labels with it; what lies outside is `pad` (labels 0).
    ///
    /// # Errors
    /// If a block cannot be read, or labels are no whole numbers from 0 to 65535.
    pub fn part(&self, start: [isize; 3], shape: [usize; 3], pad: f32) -> Result<Volume> {
        let grid = self.grid().part(start, shape).map_err(|e| Error::input(&self.id, e))?;
        let part = Volume::new(self.id.clone(), grid, self.values.read(start, shape, pad)?)?;
        match &self.labels {
            Some(labels) => part.with_labels(crate::volume::whole(&self.id, &labels.read(start, shape, 0.0)?)?),
            None => Ok(part),
        }
    }
}

/// The blocks of a volume (and of its labels), from `folder`, or made there the first time. They are made anew when a source's size or time
/// of change differs, or the reading is configured otherwise.
///
/// # Errors
/// If a source cannot be read, or the folder cannot be written.
pub fn cached(image: &Path, labels: Option<&Path>, folder: &Path, config: &ReadConfig, cache: &Arc<BlockCache>) -> Result<BlockVolume> {
    let blocks = |source: &Path, config: &ReadConfig| -> Result<BlockFile> {
        let path = folder.join(format!("{}.blocks", fingerprint(source, config)?));
        if let Ok(found) = BlockFile::open(&path, cache.clone()) {
            return Ok(found);
        }
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        convert(open(source, config)?, &path, config)?;
        BlockFile::open(&path, cache.clone())
    };
    let strict = ReadConfig { not_finite: crate::read::NotFinite::Refuse, ..config.clone() };
    let labels = labels.map(|l| blocks(l, &strict)).transpose()?;
    BlockVolume::new(image.display().to_string(), blocks(image, config)?, labels)
}

/// A name for what `source` holds now, read with `config`: a hash of its path, sizes and times of change. It cannot be read back.
fn fingerprint(source: &Path, config: &ReadConfig) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let io = |e| Error::io(source, e);
    let whole = std::fs::canonicalize(source).map_err(io)?;
    let mut files = vec![whole.clone()];
    if whole.is_dir() {
        for entry in std::fs::read_dir(&whole).map_err(io)? {
            files.push(entry.map_err(io)?.path());
        }
    }
    files.sort();
    for file in files {
        let meta = std::fs::metadata(&file).map_err(|e| Error::io(&file, e))?;
        let changed = meta.modified().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok()).map_or(0, |d| d.as_nanos());
        hasher.update(file.as_os_str().as_encoded_bytes());
        hasher.update(&[0]);
        hasher.update(&if meta.is_file() { meta.len() } else { 0 }.to_le_bytes());
        hasher.update(&changed.to_le_bytes());
    }
    hasher.update(&serde_json::to_vec(config).map_err(|e| Error::file(source, format!("the configuration cannot be written: {e}")))?);
    hasher.update(MAGIC);
    Ok(hasher.finalize().to_hex()[..32].to_string())
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;

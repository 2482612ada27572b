//! From slices to a file of blocks, in one pass and with one layer of blocks in memory.

use super::layout::{EDGE, Header, Kind, MAGIC, blocks_of, seal};
use super::private::Aside;
use crate::grid::Stored;
use crate::read::{ReadConfig, Slices, finite};
use selfsup_core::{Error, Result};
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

/// Writes the slices of a volume, which must be at their beginning, as blocks.
///
/// Memory: one layer of blocks, `32 * (the two other axes, rounded up to blocks)` numbers of 4 bytes and the
/// slices of it.
///
/// # Errors
/// If the slices cannot be read, values are not finite and `config` does not replace them, or the file cannot
/// be written; nothing is left.
pub fn convert(slices: Box<dyn Slices>, path: &Path, config: &ReadConfig) -> Result<()> {
    convert_named(slices, path, config, "")
}

/// As [`convert`], with the fingerprint of the source in the header.
pub(super) fn convert_named(
    mut slices: Box<dyn Slices>,
    path: &Path,
    config: &ReadConfig,
    source: &str,
) -> Result<()> {
    let stored = slices.stored().clone();
    let grid = stored.grid()?;
    let kind = if slices.is_i16() { Kind::I16 } else { Kind::F32 };
    let header = Header {
        stored_shape: stored.shape(),
        stored_affine: *stored.affine(),
        kind,
        edge: EDGE,
        padding: slices.padding(),
        source: source.to_string(),
    };
    let text = serde_json::to_vec(&header)
        .map_err(|e| Error::file(path, format!("the header cannot be written: {e}")))?;
    let io = |e| Error::io(path, e);
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Two processes may convert one volume at a time: each has its own file aside, and the last rename wins
    // with the same content.
    let aside = Aside::new(path)?;
    let mut file = aside.create()?;
    file.write_all(MAGIC).map_err(io)?;
    file.write_all(&(text.len() as u64).to_le_bytes()).map_err(io)?;
    file.write_all(&text).map_err(io)?;
    let start = (16 + text.len()) as u64;

    let blocks = blocks_of(grid.shape(), EDGE);
    let mut sums = vec![0u32; blocks.iter().product()];
    let [ni, nj, nk] = stored.shape();
    // The axis of RAS+ (0 z, 1 y, 2 x) that the slices move along. A layer of blocks across it is filled at a
    // time; against the axis, the first layer is the last one, which may be thin.
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
    let sums: Vec<u8> = sums.iter().flat_map(|s| s.to_le_bytes()).collect();
    file.write_all(&sums).map_err(io)?;
    file.write_all(&seal(&text, &sums).to_le_bytes()).map_err(io)?;
    file.sync_all().map_err(io)?;
    drop(file);
    std::fs::rename(&aside.0, path).map_err(io)?;
    if cfg!(unix) {
        File::open(folder).and_then(|f| f.sync_all()).map_err(|e| Error::io(folder, e))?;
    }
    Ok(())
}

/// The blocks at one place along an axis, as one array `(z, y, x)` whose axes are rounded up to blocks; that
/// axis has one.
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
                let begin =
                    (along * strides[self.axis]) as isize + walk[1].0 + j as isize * walk[1].1 + walk[0].0;
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
                    let at = ((inside[0] * EDGE + z) * self.shape[1] + inside[1] * EDGE + y) * self.shape[2]
                        + inside[2] * EDGE;
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

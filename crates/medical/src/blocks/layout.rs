//! The file of blocks.
//!
//! ```text
//! 8 bytes    magic and version
//! 8 bytes    length n of the header
//! n bytes    header, JSON: shape, affine, how the source stored it, kind of numbers, edge of a block
//! blocks     in the order (z, y, x), each edge^3 numbers, little-endian, what lies outside the volume 0
//! 4 bytes    CRC-32 of each block, in their order
//! 4 bytes    CRC-32 of all but the blocks: from the magic to the header, and the sums of the blocks
//! ```
//!
//! Nothing in it tells where the volume came from, but a hash that cannot be read back. It is written aside,
//! synced and renamed, so it is whole or not there. Its length and the last checksum are checked when it is
//! opened, and a block's checksum when the block is read: a flipped bit is seen wherever it is.

use crate::grid::Affine;
use serde::{Deserialize, Serialize};

pub(super) const MAGIC: &[u8; 8] = b"SSVOL\0\0\x04";
/// Edge of a block: 64 KiB in 16 bits, so that reading one costs as much as finding it.
pub(super) const EDGE: usize = 32;
pub(super) const MAX_HEADER: u64 = 1 << 16;

/// How numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    I16,
    F32,
}

impl Kind {
    pub(super) fn size(self) -> usize {
        match self {
            Kind::I16 => 2,
            Kind::F32 => 4,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    /// Of the file that it was made from, `(i, j, k)`.
    pub(super) stored_shape: [usize; 3],
    pub(super) stored_affine: Affine,
    pub(super) kind: Kind,
    pub(super) edge: usize,
    /// Lowest and highest value that stand for nothing.
    pub(super) padding: Option<[f32; 2]>,
    /// A hash of what it was made from and how: a file under another's name is not taken for it.
    pub(super) source: String,
}

/// The sum of all but the blocks.
pub(super) fn seal(text: &[u8], sums: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    [MAGIC, &(text.len() as u64).to_le_bytes()[..], text, sums].iter().for_each(|part| hasher.update(part));
    hasher.finalize()
}

/// Blocks along each axis.
pub(super) fn blocks_of(shape: [usize; 3], edge: usize) -> [usize; 3] {
    shape.map(|n| n.div_ceil(edge))
}

//! Volumes larger than memory: a file of raw blocks, a bounded cache of blocks, and patches read from it.
//!
//! A compressed volume or a series can't be read in the middle. So it is turned once into a file of raw
//! blocks of 32^3 voxels in the order of RAS+ ([`convert`](fn@convert)): the slices pass by one after the
//! other, never more of them in memory than a layer of blocks is thick. Afterwards any box is read from the
//! few blocks that it touches ([`BlockVolume::part`]), through a [`BlockCache`] that all volumes share and
//! whose size is a number. A CT of 512^3 in 16 bits is 268 MB on the disk; a patch of 96^3 touches at most 64
//! blocks, 4 MiB.
//!
//! Intensities are scaled as blocks are read, by statistics of the whole volume ([`Scaled`]): a volume gives
//! the same numbers in blocks as in memory.
//!
//! Blocks lie in a folder of their user alone ([`cached`](fn@cached)), which is kept below a size ([`trim`]). A
//! [`Store`] keeps volumes that fit in memory together there, and the others in blocks.
//!
//! Files are read by position and not mapped: a file that is cut short under a mapping kills the process.

mod cache;
mod cached;
mod classes;
mod convert;
mod file;
mod layout;
mod patches;
mod private;
mod scaled;
mod shelf;
mod store;
#[cfg(test)]
mod tests;
mod whole;

pub use cache::BlockCache;
pub use cached::cached;
pub use classes::ClassVoxels;
pub use convert::convert;
pub use file::{BlockFile, BlockVolume};
pub use patches::{Foreground, PatchConfig, Patches, RandomPatch, Scan};
pub use scaled::Scaled;
pub use shelf::{Shelved, shelved, trim};
pub use store::{Recipe, Store, StoreConfig};

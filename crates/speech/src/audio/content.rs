//! Where a recording is.

use std::path::PathBuf;
use std::sync::Arc;

/// Where a recording is.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Content {
    /// A file, read by position.
    File(PathBuf),
    /// An encoded file in memory.
    Bytes(Arc<[u8]>),
    /// A mono wave.
    Wave {
        /// Samples a second.
        rate: u32,
        /// Its samples.
        samples: Arc<[f32]>,
    },
}

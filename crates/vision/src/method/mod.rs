//! Methods of images alone. Those that images share with volumes are in `selfsup-core`.

pub mod colour;
pub mod colours;
pub mod superres;

pub use colour::{Colourisation, ColourisationConfig};
pub use superres::{SuperResolution, SuperResolutionConfig};

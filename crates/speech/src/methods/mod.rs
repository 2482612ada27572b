//! Methods over waves, one file each.

mod contrast;
mod data2vec;
mod frames;
mod hubert;
mod masked;
mod quantizer;
pub(crate) mod usage;
mod wav2vec2;

pub use contrast::{contrastive, draw_negatives};
pub use data2vec::{Data2Vec, Data2VecConfig};
pub use frames::{Rows, Splice};
pub use hubert::{ClusterFeatures, Hubert, HubertConfig, Iteration, frame_labels};
pub use quantizer::Quantized;
pub use wav2vec2::{Wav2Vec2, Wav2Vec2Config};

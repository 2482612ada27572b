//! Networks over tokens.

mod bert;
mod gpt2;
mod t5;

pub(crate) use bert::drop_out;
pub use bert::{Bert, BertConfig, BertEmbeddings, Family, Pool, PooledBert, mean_pool};
pub use gpt2::{Gpt2, Gpt2Config};
pub use t5::{RelativePositions, T5, T5Cache, T5Config, bucket};

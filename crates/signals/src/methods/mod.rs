//! Methods of signals. Methods over views (SimCLR, VICReg, MAE ...) are those of the core.

mod ts2vec;

pub use ts2vec::{Crops, Ts2Vec, Ts2VecConfig};

//! Pictures of features in few dimensions: principal components, and t-SNE, which keeps neighbours together.

mod pca;
mod tsne;

pub use pca::{Pca, pca};
pub use tsne::{TsneConfig, tsne};

//! From data and machine to a configuration: what is chosen where the user leaves it open.

mod fit;

pub use fit::{batches, fit_keys};

//! Label curves: what labels are worth, with pre-training and without.
//!
//! The training samples of a run are taken for unlabelled but for a few, and what can be learnt from those
//! few is measured on the test samples, for growing numbers of labels and for each [`Setting`]: a linear
//! probe and fine-tuning of the trained encoder, the same network from scratch, and probes of random weights
//! and of features without an encoder.
//!
//! - All settings learn from the same draws. A draw is an order of the samples, and a number of labels its
//!   first so many, so smaller ones are part of larger ones ([`draws`]).
//! - Nothing is chosen by the test samples: `C` of a probe, learning rate and steps of a training are chosen
//!   inside the labelled samples ([`probe`], [`tune`]).
//! - Each cell (setting, labels, draw, seed) is a file whose name has a hash of all that it depends on,
//!   so none is computed twice ([`cells`]).
//! - The interval is that of Student's t over the draws ([`summary`]).

pub mod cells;
pub mod draws;
pub mod jobs;
pub mod picture;
pub mod probe;
pub mod setting;
pub mod summary;
pub mod tune;

pub use setting::Setting;

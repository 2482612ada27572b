//! Signals (vital signs, ECG, sensors): readers, filters, encoders and recipes of self-supervised pre-training, on
//! candle.
//!
//! - [`read`] opens WFDB, EDF and EDF+, `.ts`, tables and NumPy arrays as a [`Recording`]: channels with names, units
//!   and rates, missing samples as NaN. Names, ids and dates of persons that a file holds are not kept.
//! - [`prepare`] makes a [`window::Window`] of it: channels by name, [`gaps`], one rate ([`mod@resample`], with the
//!   numbers of scipy), one band ([`filter`]), one scale; [`stream`] makes windows while samples arrive; [`augment`] makes views.
//! - [`encoder`] has TS2Vec's dilated convolutions, a residual network and a patch transformer; [`methods`] TS2Vec;
//!   [`recipe`] the sections of a configuration, with all methods over views of the core.
//!
//! An ECG, band-passed and encoded:
//!
//! ```
//! use selfsup_signals::prelude::*;
//!
//! let recording = read("../../tests/golden/signal/files/rec16.hea", &ReadConfig::default())?;
//! let lead = &recording.channels[0];
//! println!("{} in {} at {:?} Hz", lead.name, lead.unit, lead.rate);
//! let config = SignalConfig { rate: Some(100.0), band: Some([0.5, 40.0]), ..SignalConfig::default() };
//! let window = config.prepare(&recording, "rec16")?;
//! let shape = DilatedConfig { channels: window.channels(), hidden: 8, dim: 16, depth: 3, dropout: 0.0 };
//! let encoder = Dilated::new(&Scope::root(&Params::new(), 0, &Device::Cpu), shape)?;
//! let x = selfsup_signals::data::stacked([&window])?; // (1, C, T)
//! assert_eq!(encoder.forward(&x, None, &[], &Pass::eval())?.pooled.dims(), [1, 16]);
//! # Ok::<(), Error>(())
//! ```

pub mod augment;
pub mod data;
pub mod encoder;
pub mod filter;
pub mod gaps;
pub mod loss;
pub mod methods;
pub mod prelude;
pub mod prepare;
pub mod read;
pub mod recipe;
pub mod recording;
pub mod resample;
pub mod stream;
pub mod window;

pub use recording::{Annotation, Channel, Recording};
pub use selfsup_core;

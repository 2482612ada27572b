//! Vital signs, ECG and sensors for self-supervised pre-training.
//!
//! For who has recordings of monitors, Holters or wearables: [`read::read`] opens WFDB records, EDF and EDF+ files with
//! their units, rates and annotations; [`read::ts`] opens the `.ts` archives of UCR and UEA. [`resample`] and
//! [`filter`] bring channels to one rate and one band, with the numbers that scipy gives. [`loss`] has the
//! hierarchical contrast of TS2Vec.
//!
//! ```no_run
//! use selfsup_signals::{filter::Butterworth, read, resample};
//! let recording = read::read("100.hea")?;
//! for channel in &recording.channels {
//!     let at_250 = resample::poly(&channel.samples, 360, 250)?;
//!     let band = Butterworth::band(3, 0.5, 40.0, 250.0)?;
//!     println!("{} ({}): {} samples", channel.name, channel.unit, band.zero_phase(&at_250)?.len());
//! }
//! # Ok::<(), selfsup_core::Error>(())
//! ```
//!
//! Names, ids and dates of persons that a file holds are not kept.

pub mod filter;
pub mod loss;
pub mod read;
pub mod recording;
pub mod resample;

pub use recording::{Annotation, Channel, Recording};

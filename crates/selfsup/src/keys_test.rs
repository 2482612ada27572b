//! No key is accepted and ignored: for every method and encoder of every modality, a key that the
//! configuration takes either changes what two steps of training leave behind, or is refused by name.
//!
//! The test knows neither methods nor keys: it takes methods from `Keys::METHODS`, encoders from the names
//! that serde lists, keys from what serde says is known, and other values from the type of the present one.
//! The sections of the loop (`[data]`, `[train]`, `[optim]`, `[eval]`) are read by the verbs for all methods
//! alike: `loop_keys_test.rs` walks them.

#[cfg(feature = "vision")]
mod images;
#[cfg(feature = "speech")]
mod recordings;
#[cfg(feature = "signals")]
mod signals;
#[cfg(feature = "vision")]
mod tasks;
#[cfg(feature = "text")]
mod texts;
#[cfg(feature = "medical")]
mod volumes;
pub(crate) mod walk;

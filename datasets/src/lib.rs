//! Data sets: records of a path or bytes, a label and a group, read by index and never decoded here.
//!
//! One file per format or data set; the file of a data set is also its card. [`open`] takes a name or a path.
//!
//! ```
//! use selfsup_datasets::{Records, hold_out, open};
//!
//! let set = open("fashion-mnist")?;
//! let record = set.get(0)?;
//! assert_eq!(set.classes()[record.label.unwrap_or(0) as usize], "ankle boot");
//! let (train, validation) = hold_out(&*set, 0.1, 0)?;
//! assert_eq!(train.len() + validation.len(), set.len());
//! # Ok::<(), selfsup_core::Error>(())
//! ```

pub mod anarchism;
pub mod asterisk_sounds;
pub mod card;
pub mod cbf;
pub mod cifar;
pub mod colin27;
pub mod dense;
pub mod emoji;
pub mod fashion_mnist;
pub mod festvox_ru;
pub mod fetch;
pub mod folder;
pub mod gcide;
pub mod guess;
pub mod head_ct;
pub mod idx;
pub mod inspect;
pub mod kind;
pub mod labels;
pub mod layout;
pub mod leak;
pub mod manifest;
pub mod minilm;
pub mod mni152;
pub mod objects;
#[cfg(feature = "parquet")]
pub mod parquet;
pub mod prose;
pub mod pydicom_data;
pub mod recognise;
pub mod record;
pub mod registry;
pub mod tar;
pub mod tuxpaint_voices;
pub mod ucr;
mod unpacked;
pub mod volumes;
pub mod wordnet;

mod hold_out;
mod samples;
mod shuffle;
mod size;
mod split;
mod walk;

pub use card::Card;
pub use dense::{open_masks, open_objects};
pub use guess::{kind_among, kind_of};
pub use hold_out::{Division, divide, hold_out};
pub use inspect::{Inspection, inspect};
pub use kind::Kind;
pub use labels::{Columns, LabelFile};
pub use layout::Layout;
pub use leak::check_leak;
pub use objects::{Boxed, Category, Objects};
pub use recognise::Recogniser;
pub use record::{Concat, Record, Records, Source, Subset};
pub use registry::{Reading, list, open, open_kind, open_kind_with, open_tables_of_text, tables};
pub use shuffle::numpy_shuffle;
pub use split::Split;

//! Labels, transcripts, groups and splits from a table beside the data: CSV, TSV or JSON lines.
//!
//! Columns, by name in any case and order; others are not read:
//!
//! | column | also called | holds |
//! |---|---|---|
//! | `path` | `file`, `filename`, `id`, `image`, `audio`, `volume` | which record: a path (as written, below the data's folder, or below the table's) or a file name |
//! | `label` | `class`, `category`, `target` | its class, any text |
//! | `mask` | `segmentation` | the file of its label volume, from the data's folder or the table's |
//! | `transcript` | `transcription`, `sentence` | what is said in it |
//! | `text` | | without `path`: the sample itself; beside a `path`: its transcript |
//! | `group` | `patient`, `speaker`, `subject`, `source`, and those with `_id` | what must not be divided between splits |
//! | `split` | `subset` | `train`, `validation` (`val`, `dev`) or `test` |

mod file;
mod labelled;
mod row;
mod table;
#[cfg(test)]
mod tests;

pub use file::LabelFile;
pub use labelled::Labelled;
pub use row::{Row, Split};

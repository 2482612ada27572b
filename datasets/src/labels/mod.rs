//! Labels, transcripts, groups and splits from a table beside the data: CSV, TSV or JSON lines.
//!
//! Columns are found by their names, without regard to case, spaces, dashes and underscores (`PatientID`,
//! `patient id`, `patient_id`), in any order. [`LabelFile::notes`] says what each was taken for and which were
//! not read.
//!
//! | column | also called | holds |
//! |---|---|---|
//! | `path` | `file`, `file_name`, `filepath`, `image`, `image_path`, `img`, `audio`, `wav`, `volume`, `scan`; where none of them is there `image_id`, `file_id` ..., `id` | which record: a path (as written, below the data's folder or the table's, or the end of it), a file name, or a name without its ending |
//! | `label` | `labels`, `class`, `category`, `target`, `diagnosis`, `dx`; then `label_id`, `class_id` ... | its class, any text |
//! | `text` | `transcript`, `transcription`, `sentence` | without a path: the sample itself; beside a path: its transcript |
//! | `mask` | `segmentation`, `mask_path` | the file of its label volume, from the data's folder or the table's |
//! | `group` | `patient`, `subject`, `participant`, `speaker`, `client`; `case`; `lesion`; `study`, `exam`; `series`, `session`; `source`; those with `_id`, `StudyInstanceUID` ... | what must not be divided between splits; of several the coarsest is taken, in the order given here |
//! | `split` | `subset`, `partition` | `train`, `validation` (`val`, `valid`, `dev`) or `test` |
//!
//! Sites and scanners are named as possible groups and never taken unasked. [`Columns`] names any column.

mod cells;
mod columns;
mod file;
mod find;
mod labelled;
mod names;
mod row;
mod table;
#[cfg(test)]
mod tests;

pub use crate::split::Split;
pub use columns::Columns;
pub use file::{LabelFile, is_table};
pub use labelled::Labelled;
pub use row::Row;

pub(crate) use find::stem;
#[cfg(feature = "parquet")]
pub(crate) use names::group_column;

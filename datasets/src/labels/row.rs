//! One line of a table of labels.

use crate::split::Split;

/// One line of the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Its line, from 1.
    pub line: usize,
    /// Which record.
    pub path: Option<String>,
    /// Its class.
    pub label: Option<String>,
    /// What is said in it, or the sample itself.
    pub text: Option<String>,
    /// The file of its label volume.
    pub mask: Option<String>,
    /// The group that stays on one side of a split.
    pub group: Option<String>,
    /// Its part.
    pub split: Option<Split>,
}

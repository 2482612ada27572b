//! The parts of a set, and what people call them.

/// Which part of a set a record belongs to, where a table or the folders say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Split {
    /// To train on.
    Train,
    /// To choose by: early stopping, settings.
    Validation,
    /// To test on.
    Test,
}

impl Split {
    /// The part that is called `name`, in any case.
    ///
    /// ```
    /// use selfsup_datasets::Split;
    ///
    /// assert_eq!(Split::named("Val"), Some(Split::Validation));
    /// assert_eq!(Split::named("cats"), None);
    /// ```
    pub fn named(name: &str) -> Option<Self> {
        Some(match name.trim().to_lowercase().as_str() {
            "train" | "training" => Split::Train,
            "validation" | "valid" | "val" | "dev" => Split::Validation,
            "test" | "testing" => Split::Test,
            _ => return None,
        })
    }
}

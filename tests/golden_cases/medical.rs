//! Medical images and 3-D models.

use super::case::{Case, Handler};

/// Who runs a case, if anyone.
pub fn handler(_case: &Case) -> Option<Handler> {
    None
}

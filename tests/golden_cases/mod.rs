//! Handlers of the golden cases, by folder.

pub mod case;
mod losses;
mod models;
mod ops;

use case::{Case, Handler};

/// Who runs a case, if anyone.
pub fn handler(case: &Case) -> Option<Handler> {
    match case.name.split('/').next()? {
        "ops" => ops::handler(case),
        "losses" => losses::handler(case),
        "models" => models::handler(case),
        _ => None,
    }
}

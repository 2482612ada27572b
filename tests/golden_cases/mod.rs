//! Handlers of the golden cases, by folder.

pub mod case;
mod eval;
mod losses;
mod models;
mod ops;
mod optim;
mod signal;

use case::{Case, Handler};

/// Who runs a case, if anyone.
pub fn handler(case: &Case) -> Option<Handler> {
    match case.name.split('/').next()? {
        "ops" => ops::handler(case),
        "losses" => losses::handler(case),
        "eval" => eval::handler(case),
        "optim" => optim::handler(case),
        "signal" => signal::handler(case),
        "models" => models::handler(case),
        _ => None,
    }
}

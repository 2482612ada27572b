//! Handlers of the golden cases, by folder.

pub mod case;
mod corrupt;
mod eval;
mod losses;
mod medical;
mod methods;
mod model;
mod ops;
mod optim;
mod signal;
mod signals;
mod speech;
mod text;
mod text_bert;
mod text_lm;
mod vision;
mod volumes;

use case::{Case, Handler};

/// Who runs a case, if anyone.
pub fn handler(case: &Case) -> Option<Handler> {
    match case.name.split('/').next()? {
        "ops" => ops::handler(case),
        "losses" => {
            methods::handler(case).or_else(|| losses::handler(case)).or_else(|| signals::handler(case))
        }
        "eval" => eval::handler(case),
        "corrupt" => corrupt::handler(case),
        "optim" => optim::handler(case),
        "signal" => {
            signal::handler(case).or_else(|| speech::handler(case)).or_else(|| signals::handler(case))
        }
        "models" | "real" => vision::handler(case)
            .or_else(|| text::handler(case))
            .or_else(|| speech::handler(case))
            .or_else(|| signals::handler(case))
            .or_else(|| volumes::handler(case)),
        "medical" => medical::handler(case).or_else(|| volumes::handler(case)),
        _ => None,
    }
}

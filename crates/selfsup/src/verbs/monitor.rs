//! `selfsup monitor`: how unlike the normal signal is each window of another one.
//!
//! A run's encoder makes features of windows of a signal that is normal. The later third of them calibrates: the
//! threshold is what a stated share of them exceeds. Each window of the monitored signal is then scored by its
//! distance from the others, and scores above the threshold are gathered into events. Scores need no label, and a
//! window is made of what came before its end alone: a file and a stream give the same ones.

mod detector;
mod event;
mod file;
mod live;
mod picture;
mod request;

use crate::modality::signals::Signals;
use crate::verbs::{kind_of_run, open_run};
use selfsup_core::{Error, Result};
use selfsup_datasets::Kind;

pub use request::{Request, Score};

/// Scores a file or a stream.
///
/// # Errors
/// If the run is not one of signals, there is too little normal signal, or the file cannot be read.
pub fn run(request: &Request) -> Result<()> {
    let kind = kind_of_run(&request.run)?;
    if kind != Kind::Signals {
        return Err(Error::file(
            &request.run,
            format!("is a run of {}: expected one of signals", kind.samples()),
        ));
    }
    if !(request.false_alarms > 0.0 && request.false_alarms < 1.0) {
        return Err(Error::config(format!(
            "--false-alarms {}: expected a share between 0 and 1",
            request.false_alarms
        )));
    }
    let opened = open_run::<Signals>(&request.run, &request.overrides)?;
    if request.file == "-" { live::run(&opened, request) } else { file::run(&opened, request) }
}

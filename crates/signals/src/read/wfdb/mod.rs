//! Records of WFDB (PhysioNet): a header `NAME.hea`, samples beside it, and annotations `NAME.atr`
//! (<https://physionet.org/physiotools/wag/header-5.htm>, `signal-5.htm`, `annot-5.htm`).

mod annotations;
mod header;
mod samples;

pub use annotations::annotations;
pub use header::{Format, Header, SignalHeader};

use crate::{Channel, Recording};
use selfsup_core::Result;
use std::collections::BTreeMap;
use std::path::Path;

/// Reads the record with the header `path`: physical values, `(digital - baseline) / gain`, and the annotations of
/// `NAME.atr` where that file lies beside it. The lowest code of a format is a missing sample.
///
/// # Errors
/// If the header, a file of samples or the annotations cannot be read or do not fit together; formats are 16, 61,
/// 80, 212, 24 and 32; records of several segments and skewed signals are refused.
pub fn read(path: &Path) -> Result<Recording> {
    let header = Header::read(path)?;
    let digital = by_signal(path, &header)?;
    let channels = header
        .signals
        .iter()
        .zip(digital)
        .map(|(signal, digital)| channel(signal, &digital, header.rate))
        .collect();
    let beside = path.with_extension("atr");
    let annotations = if beside.is_file() { annotations(&beside, header.rate)? } else { Vec::new() };
    Ok(Recording { channels, annotations })
}

/// The digital values of each signal of a record, in the order of the header, as the file holds them.
///
/// # Errors
/// As [`read`].
pub fn digital(path: &Path) -> Result<Vec<Vec<i32>>> {
    by_signal(path, &Header::read(path)?)
}

/// The digital values of each signal; a file that several share is read once.
fn by_signal(path: &Path, header: &Header) -> Result<Vec<Vec<i32>>> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut of_file: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (i, signal) in header.signals.iter().enumerate() {
        of_file.entry(&signal.file).or_default().push(i);
    }
    let mut out = vec![Vec::new(); header.signals.len()];
    for (file, indices) in of_file {
        let signals: Vec<&SignalHeader> = indices.iter().map(|i| &header.signals[*i]).collect();
        let read = samples::read(&folder.join(file), &signals, header.samples)?;
        indices.into_iter().zip(read).for_each(|(i, digital)| out[i] = digital);
    }
    Ok(out)
}

fn channel(signal: &SignalHeader, digital: &[i32], rate: f64) -> Channel {
    let invalid = signal.format.invalid();
    let physical = |v: i32| ((f64::from(v) - f64::from(signal.baseline)) / signal.gain) as f32;
    let samples = digital.iter().map(|v| if *v == invalid { f32::NAN } else { physical(*v) }).collect();
    Channel {
        name: signal.name.clone(),
        unit: signal.unit.clone(),
        rate: Some(rate * signal.per_frame as f64),
        samples,
    }
}

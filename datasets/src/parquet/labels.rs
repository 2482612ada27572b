//! Labels and groups from the values of their columns.

use ::parquet::data_type::ByteArray;
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use selfsup_core::{Error, Result};
use std::fs::File;
use std::path::Path;

/// Class numbers above this are refused: they are identifiers, not classes.
const CLASSES: i64 = 1_000_000;

/// The value of each row as often as the row has samples.
pub(super) fn spread<T: Clone>(values: Vec<T>, counts: Option<&[usize]>) -> Vec<T> {
    match counts {
        None => values,
        Some(counts) => {
            values.into_iter().zip(counts).flat_map(|(v, n)| std::iter::repeat_n(v, *n)).collect()
        }
    }
}

/// Names of the classes from the note that the `datasets` library leaves in a file.
pub(super) fn hub_names(reader: &SerializedFileReader<File>, label: &str) -> Option<Vec<String>> {
    let notes = reader.metadata().file_metadata().key_value_metadata()?;
    let note = notes.iter().find(|n| n.key == "huggingface")?.value.as_ref()?;
    let note: serde_json::Value = serde_json::from_str(note).ok()?;
    let names = note.get("info")?.get("features")?.get(label)?.get("names")?.as_array()?;
    names.iter().map(|n| n.as_str().map(String::from)).collect()
}

/// Most bytes of the labels or groups of a row group: a dictionary holds each once, memory once a row.
const NAMES: usize = 1 << 30;

pub(super) fn text(path: &Path, values: Vec<Option<ByteArray>>) -> Result<Vec<Option<String>>> {
    let bytes = values.iter().flatten().fold(0usize, |n, v| n.saturating_add(v.len()));
    if bytes > NAMES {
        return Err(Error::file(path, format_args!("has {bytes} bytes of labels or groups in a row group")));
    }
    let one = |v: ByteArray| {
        String::from_utf8(v.data().to_vec())
            .map_err(|_| Error::file(path, "has a label or group that is not UTF-8 text"))
    };
    values.into_iter().map(|v| v.map(one).transpose()).collect()
}

/// Labels from names: the classes are the names, sorted.
pub(super) fn named(texts: &[Option<String>]) -> (Vec<Option<u32>>, Vec<String>) {
    let mut classes: Vec<String> = texts.iter().flatten().cloned().collect();
    classes.sort();
    classes.dedup();
    let labels = texts
        .iter()
        .map(|t| t.as_ref().and_then(|t| classes.binary_search(t).ok()).map(|i| i as u32))
        .collect();
    (labels, classes)
}

/// Labels from numbers; -1 is the Hub's 'unknown'.
pub(super) fn numbered(
    what: &str,
    numbers: Vec<Option<i64>>,
    rows: usize,
    hub: Option<Vec<String>>,
) -> Result<(Vec<Option<u32>>, Vec<String>)> {
    if let Some((row, n)) = numbers
        .iter()
        .enumerate()
        .find_map(|(i, n)| n.filter(|n| !(-1..=CLASSES).contains(n)).map(|n| (i, n)))
    {
        return Err(Error::input(
            what,
            format_args!("row {row} has label {n}, expected a class from 0 to {CLASSES}, or -1"),
        ));
    }
    let mut labels: Vec<Option<u32>> =
        numbers.into_iter().map(|n| n.and_then(|n| u32::try_from(n).ok())).collect();
    labels.resize(rows, None);
    let count = labels.iter().flatten().max().map_or(0, |&m| m as usize + 1);
    let classes = hub
        .filter(|names| names.len() >= count)
        .unwrap_or_else(|| (0..count).map(|c| c.to_string()).collect());
    Ok((labels, classes))
}

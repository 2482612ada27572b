//! Records: the rows of a CSV, a label and numbers.

use selfsup::core::{Error, Result};
use selfsup::datasets::{Record, Records, Source};
use std::path::Path;
use std::sync::Arc;

/// The rows of a file.
pub struct Rows {
    file: String,
    rows: Vec<(u32, Arc<[u8]>)>,
    classes: Vec<String>,
}

impl Rows {
    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read, or a row has no label.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
        let mut classes: Vec<String> = Vec::new();
        let mut rows = Vec::new();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let (label, values) = line.split_once(',').ok_or_else(|| {
                Error::file(
                    path,
                    format!("line {}: expected a label and numbers, separated by commas", number + 1),
                )
            })?;
            let label = label.trim().to_string();
            let class = classes.iter().position(|c| *c == label).unwrap_or_else(|| {
                classes.push(label);
                classes.len() - 1
            });
            rows.push((class as u32, Arc::from(values.as_bytes())));
        }
        Ok(Rows { file: path.display().to_string(), rows, classes })
    }
}

impl Records for Rows {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn get(&self, index: usize) -> Result<Record> {
        let id = format!("{}:{}", self.file, index + 1);
        let (label, values) =
            self.rows.get(index).cloned().ok_or_else(|| Error::input(&id, "there is no such row"))?;
        Ok(Record { id, source: Source::Bytes(values), label: Some(label), group: None })
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.rows.get(index).map(|(label, _)| *label)
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }
}

/// The numbers of a row.
///
/// # Errors
/// Naming the row and what is no number.
pub fn values(record: &Record) -> Result<Vec<f32>> {
    let content = record.source.content()?;
    String::from_utf8_lossy(&content)
        .split(',')
        .map(|v| v.trim().parse().map_err(|_| Error::file(&record.id, format!("`{v}` is no number"))))
        .collect()
}

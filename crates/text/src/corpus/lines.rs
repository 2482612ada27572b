//! Lines of files that may be compressed, with errors that name the line and the byte.

use selfsup_core::{Error, Result};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// The longest line that is read: the whole of it is in memory.
const MAX_LINE: usize = 64 << 20;

/// Lines of a file, with their number and place.
pub(super) struct Lines {
    input: Box<dyn BufRead + Send>,
    /// Lines that have been read.
    pub(super) line: usize,
    bytes: u64,
}

impl Lines {
    /// Opens a file; its first bytes say whether it is compressed.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let mut file = BufReader::with_capacity(1 << 16, selfsup_core::file::open(path)?);
        let head = file.fill_buf().map_err(|e| Error::io(path, e))?;
        let input: Box<dyn BufRead + Send> = if head.starts_with(&[0x1f, 0x8b]) {
            Box::new(BufReader::new(flate2::bufread::MultiGzDecoder::new(file)))
        } else if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            Box::new(BufReader::new(
                zstd::stream::read::Decoder::with_buffer(file).map_err(|e| Error::io(path, e))?,
            ))
        } else {
            Box::new(file)
        };
        Ok(Lines { input, line: 0, bytes: 0 })
    }

    /// The next line with its end, or `None`.
    pub(super) fn next(&mut self, path: &Path) -> Result<Option<String>> {
        let mut raw = Vec::new();
        let n = (&mut self.input)
            .take(MAX_LINE as u64 + 1)
            .read_until(b'\n', &mut raw)
            .map_err(|e| Error::io(path, e))?;
        if n == 0 {
            return Ok(None);
        }
        self.line += 1;
        if n > MAX_LINE {
            return Err(Error::file(
                path,
                format!("line {} is longer than {} MiB", self.line, MAX_LINE >> 20),
            ));
        }
        let mut start = self.bytes;
        self.bytes += n as u64;
        // A byte order mark.
        if start == 0 && raw.starts_with(&[0xef, 0xbb, 0xbf]) {
            raw.drain(..3);
            start = 3;
        }
        match String::from_utf8(raw) {
            Ok(text) => Ok(Some(text)),
            Err(e) => {
                let at = start + e.utf8_error().valid_up_to() as u64;
                let byte = e.as_bytes().get(e.utf8_error().valid_up_to()).copied().unwrap_or(0);
                Err(Error::file(
                    path,
                    format!(
                        "not UTF-8: byte {at} (0x{byte:02x}, line {}); convert the file, with iconv for example",
                        self.line
                    ),
                ))
            }
        }
    }

    /// The next row of a table: a line, and where cells may be `quoted` (RFC 4180) the lines after it while a
    /// quoted cell is open. A quote inside a cell that does not begin with one is a character.
    pub(super) fn row(&mut self, path: &Path, separator: u8, quoted: bool) -> Result<Option<String>> {
        let Some(mut row) = self.next(path)? else { return Ok(None) };
        if quoted {
            self.rest_of_row(path, separator, &mut row)?;
        }
        Ok(Some(row))
    }

    /// Adds the lines after `row`, the last that was read, while a quoted cell of it is open.
    pub(super) fn rest_of_row(&mut self, path: &Path, separator: u8, row: &mut String) -> Result<()> {
        let first = self.line;
        let mut cell = Cell::Start.after(row.as_bytes(), separator);
        while cell == Cell::Quoted {
            match self.next(path)? {
                Some(more) if row.len() + more.len() <= MAX_LINE => {
                    cell = cell.after(more.as_bytes(), separator);
                    row.push_str(&more);
                }
                _ => return Err(Error::file(path, format!("line {first}: a quoted cell that does not end"))),
            }
        }
        Ok(())
    }
}

/// Where in a cell the reader is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cell {
    Start,
    Bare,
    Quoted,
    /// Behind a quote that ended it, unless another one follows.
    Closed,
}

impl Cell {
    /// After these bytes.
    fn after(self, bytes: &[u8], separator: u8) -> Self {
        bytes.iter().fold(self, |cell, &byte| match (cell, byte) {
            (Cell::Quoted, b'"') => Cell::Closed,
            (Cell::Start | Cell::Closed, b'"') => Cell::Quoted,
            (Cell::Quoted, _) => Cell::Quoted,
            (_, b) if b == separator => Cell::Start,
            _ => Cell::Bare,
        })
    }
}

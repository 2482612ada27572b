//! Annotations in MIT's format.

use crate::Annotation;
use selfsup_core::{Error, Result};
use std::path::Path;

/// Symbols by code; codes without one are no annotations of a beat or a rhythm.
const SYMBOLS: [&str; 42] = [
    "", "N", "L", "R", "a", "V", "F", "J", "A", "S", "E", "j", "/", "Q", "~", "", "|", "", "s", "T", "*",
    "D", "\"", "=", "p", "B", "^", "t", "+", "u", "?", "!", "[", "]", "e", "n", "@", "x", "f", "(", ")", "r",
];

const SKIP: u16 = 59;
const NUM: u16 = 60;
const SUB: u16 = 61;
const CHN: u16 = 62;
const AUX: u16 = 63;

/// Reads annotations of a record of `rate` samples a second.
///
/// # Errors
/// If the file ends in the middle of one, or times go back before the start.
pub fn annotations(path: &Path, rate: f64) -> Result<Vec<Annotation>> {
    let bytes = selfsup_core::file::read(path)?;
    let mut words = Words { path, bytes: &bytes, at: 0 };
    let mut out: Vec<Annotation> = Vec::new();
    let (mut time, mut channel) = (0i64, 0usize);
    while let Some(word) = words.next()? {
        let (code, low) = (word >> 10, word & 0x3ff);
        match code {
            0 if low == 0 => break,
            SKIP => {
                let (high, low) = (words.expected()?, words.expected()?);
                time += i64::from(i32::from(high as i16) << 16 | i32::from(low));
            }
            NUM => {}
            SUB => {
                if let Some(last) = out.last_mut() {
                    last.subtype = i32::from(low as u8 as i8);
                }
            }
            CHN => {
                channel = usize::from(low as u8);
                if let Some(last) = out.last_mut() {
                    last.channel = Some(channel);
                }
            }
            AUX => {
                let note = words.text(usize::from(low))?;
                if let Some(last) = out.last_mut() {
                    last.note = note;
                }
            }
            _ => {
                time += i64::from(low);
                if time < 0 {
                    return Err(Error::file(path, format_args!("an annotation at sample {time}")));
                }
                let symbol = SYMBOLS.get(usize::from(code)).copied().unwrap_or("");
                let label = if symbol.is_empty() { format!("code {code}") } else { symbol.into() };
                let onset = time as f64 / rate;
                out.push(Annotation { onset, label, channel: Some(channel), ..Annotation::default() });
            }
        }
    }
    Ok(out)
}

struct Words<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    at: usize,
}

impl Words<'_> {
    fn next(&mut self) -> Result<Option<u16>> {
        match self.bytes.get(self.at..).unwrap_or(&[]) {
            [] => Ok(None),
            [low, high, ..] => {
                self.at += 2;
                Ok(Some(u16::from_le_bytes([*low, *high])))
            }
            [_] => Err(self.short()),
        }
    }

    fn expected(&mut self) -> Result<u16> {
        self.next()?.ok_or_else(|| self.short())
    }

    /// `n` bytes of text, which fill an even number.
    fn text(&mut self, n: usize) -> Result<String> {
        let bytes = self.bytes.get(self.at..self.at + n).ok_or_else(|| self.short())?;
        let text = String::from_utf8_lossy(bytes).trim_end_matches('\0').to_string();
        self.at += n + n % 2;
        Ok(text)
    }

    fn short(&self) -> Error {
        Error::file(self.path, format_args!("annotations are cut short at byte {}", self.at))
    }
}

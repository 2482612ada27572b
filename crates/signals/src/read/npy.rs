//! NumPy arrays (`.npy`, format 1 to 3): `(T)` is one channel; of two axes the longer one is time.

use crate::recording::{Channel, Recording, checked_rate};
use selfsup_core::{Error, Result};

/// Reads a signal at `rate`, where known; `id` names it in messages.
///
/// # Errors
/// If it is no array of one or two axes of numbers, or shorter than its header states.
pub fn read(bytes: &[u8], id: &str, rate: Option<f64>) -> Result<Recording> {
    let rate = rate.map(|r| checked_rate(r, id)).transpose()?;
    let array = Array::parse(bytes, id)?;
    let (time, channels, along) = match *array.shape {
        [t] => (t, 1, true),
        // (C, T), and (T, C) where it is longer that way.
        [a, b] if a <= b => (b, a, false),
        [a, b] => (a, b, true),
        _ => {
            return Err(Error::input(
                id,
                format!("an array of shape {:?}: expected (T), (C, T) or (T, C)", array.shape),
            ));
        }
    };
    let channel = |c: usize| {
        let at = |t: usize| if along == array.fortran { c * time + t } else { t * channels + c };
        Channel {
            name: format!("{c}"),
            unit: String::new(),
            rate,
            samples: (0..time).map(|t| array.value(at(t))).collect(),
        }
    };
    Ok(Recording { channels: (0..channels).map(channel).collect(), annotations: Vec::new() })
}

/// An array that is not read yet.
struct Array<'a> {
    shape: Vec<usize>,
    fortran: bool,
    big: bool,
    kind: (u8, usize),
    data: &'a [u8],
}

impl<'a> Array<'a> {
    fn parse(bytes: &'a [u8], id: &str) -> Result<Self> {
        let fail = |problem: String| Error::input(id, problem);
        if !bytes.starts_with(b"\x93NUMPY") {
            return Err(fail("does not begin like a NumPy array".into()));
        }
        let truncated = || fail("is truncated in its header".into());
        let (start, width): (usize, usize) = if bytes.get(6) == Some(&1) { (10, 2) } else { (12, 4) };
        let length = bytes.get(8..8 + width).ok_or_else(truncated)?;
        let length = length.iter().rev().fold(0usize, |n, b| n << 8 | usize::from(*b));
        let header = start.checked_add(length).and_then(|end| bytes.get(start..end)).ok_or_else(truncated)?;
        let text = String::from_utf8_lossy(header);
        let after = |key: &str| text.split_once(key).map(|(_, rest)| rest.trim_start_matches([' ', ':']));
        let descr = after("'descr'").and_then(|r| r.strip_prefix('\'')).and_then(|r| r.split('\'').next());
        let descr = descr.ok_or_else(|| fail("its header names no type".into()))?;
        let order = descr.as_bytes().first().copied().unwrap_or(b' ');
        let rest = descr.trim_start_matches(['<', '>', '|', '=']);
        let kind = match rest {
            "f4" | "f8" | "i1" | "i2" | "i4" | "i8" | "u1" | "u2" | "u4" => {
                (rest.as_bytes()[0], usize::from(rest.as_bytes()[1] - b'0'))
            }
            _ => {
                return Err(fail(format!("values of type `{descr}`: expected f4, f8, i1 to i8 or u1 to u4")));
            }
        };
        let fortran = after("'fortran_order'").is_some_and(|r| r.starts_with("True"));
        let shape = after("'shape'")
            .and_then(|r| r.strip_prefix('('))
            .and_then(|r| r.split(')').next())
            .ok_or_else(|| fail("its header names no shape".into()))?;
        let sides = shape.split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::parse);
        let shape: Vec<usize> = sides
            .collect::<Result<_, _>>()
            .map_err(|_| fail(format!("shape `({shape})`: expected whole numbers")))?;
        let count = shape.iter().try_fold(1usize, |n, s| n.checked_mul(*s));
        let data = &bytes[start + length..];
        let needed = count.and_then(|n| n.checked_mul(kind.1));
        if needed.is_none_or(|n| n > data.len()) {
            return Err(fail(format!("is truncated: {} bytes for shape {shape:?} of `{descr}`", data.len())));
        }
        if count == Some(0) {
            return Err(fail(format!("shape {shape:?} has no values")));
        }
        Ok(Array { shape, fortran, big: order == b'>', kind, data })
    }

    fn value(&self, i: usize) -> f32 {
        let (letter, size) = self.kind;
        let mut word = [0u8; 8];
        word[..size].copy_from_slice(&self.data[i * size..(i + 1) * size]);
        if self.big {
            word[..size].reverse();
        }
        let bits = u64::from_le_bytes(word);
        // Moves the sign bit of a shorter number to the top, and back with copies of it.
        let signed = ((bits << (64 - 8 * size)) as i64) >> (64 - 8 * size);
        let value = match (letter, size) {
            (b'f', 4) => f32::from_bits(bits as u32),
            (b'f', _) => f64::from_bits(bits) as f32,
            (b'i', _) => signed as f32,
            _ => bits as f32,
        };
        if value.is_finite() { value } else { f32::NAN }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(descr: &str, fortran: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    fn values(bytes: &[u8]) -> Vec<Vec<f32>> {
        read(bytes, "a", Some(5.0)).unwrap().channels.into_iter().map(|c| c.samples).collect()
    }

    #[test]
    fn types_and_orders() {
        let six = [1i8, -2, 3, 4, 5, -6];
        let bytes: Vec<u8> = six.iter().flat_map(|v| i16::from(*v).to_be_bytes()).collect();
        let rows = [[1.0, -2.0, 3.0], [4.0, 5.0, -6.0]];
        assert_eq!(values(&file(">i2", "False", "(2, 3)", &bytes)), rows);
        let columns = [[1.0, 3.0, 5.0], [-2.0, 4.0, -6.0]];
        assert_eq!(values(&file(">i2", "False", "(3, 2)", &bytes)), columns);
        assert_eq!(values(&file(">i2", "True", "(2, 3)", &bytes)), columns);
        assert_eq!(values(&file(">i2", "True", "(3, 2)", &bytes)), rows);
        let floats: Vec<u8> = [0.5f64, f64::NAN].iter().flat_map(|v| v.to_le_bytes()).collect();
        let found = values(&file("<f8", "False", "(2,)", &floats));
        assert!(found[0][0] == 0.5 && found[0][1].is_nan());
        assert_eq!(values(&file("|u1", "False", "(2,)", &[255, 0])), [[255.0, 0.0]]);
    }

    #[test]
    fn damage_is_named() {
        for (bytes, problem) in [
            (b"PK".to_vec(), "does not begin"),
            (b"\x93NUMPY\x01\x00\xff\xff".to_vec(), "truncated in its header"),
            (file("<f4", "False", "(2,)", &[0; 4]), "is truncated: 4 bytes"),
            (file("<f4", "False", "(99999999999999999, 99999)", &[0; 4]), "is truncated"),
            (file("<f4", "False", "(1, 1, 1)", &[0; 4]), "expected (T)"),
            (file("<f4", "False", "(0, 3)", &[0; 4]), "no values"),
            (file("<f4", "False", "(x,)", &[0; 4]), "whole numbers"),
            (file("<c8", "False", "(1,)", &[0; 8]), "type `<c8`"),
        ] {
            let error = read(&bytes, "a.npy", None).unwrap_err().to_string();
            assert!(error.contains("a.npy") && error.contains(problem), "{error}");
        }
    }
}

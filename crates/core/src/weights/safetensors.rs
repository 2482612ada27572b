//! safetensors files: eight bytes of header length, a JSON header `{name: {dtype, shape, data_offsets}}`,
//! then the data.

use super::bytes::{Kind, MAX_HEADER, Source, elements, u64_at};
use crate::error::Result;
use candle_core::Tensor;
use std::collections::BTreeMap;
use std::path::Path;

/// An open safetensors file. Its header is checked when it is opened; data is read by position when it is
/// asked for.
#[derive(Debug)]
pub struct SafeTensors {
    source: Source,
    entries: BTreeMap<String, Entry>,
    metadata: BTreeMap<String, String>,
}

#[derive(Debug)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    start: u64,
    end: u64,
}

impl SafeTensors {
    /// Opens a file and checks its header: every tensor lies within the file, in as many bytes as its shape
    /// and type need, and the tensors follow each other without gaps.
    ///
    /// # Errors
    /// If the file cannot be read, is truncated, or its header is not what the format demands; the tensor is
    /// named.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let source = Source::open(path.as_ref())?;
        let header = u64_at(&source.read(0, 8)?, 0);
        if header > MAX_HEADER {
            return Err(source.error(format!(
                "header of {header} bytes, expected at most {MAX_HEADER}: not a safetensors file?"
            )));
        }
        let text = source.read(8, header as usize)?;
        let data = 8 + header;
        let json: serde_json::Value =
            serde_json::from_slice(&text).map_err(|e| source.error(format!("header is not JSON: {e}")))?;
        let fields = json.as_object().ok_or_else(|| source.error("header is not a JSON object"))?;
        let (mut entries, mut metadata) = (BTreeMap::new(), BTreeMap::new());
        for (name, v) in fields {
            if name == "__metadata__" {
                let pairs = v.as_object().into_iter().flatten();
                metadata = pairs.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_string()))).collect();
                continue;
            }
            let bad = |problem: String| source.error(format!("tensor {name}: {problem}"));
            let numbers = |key: &str| -> Option<Vec<u64>> {
                v.get(key)?.as_array()?.iter().map(serde_json::Value::as_u64).collect()
            };
            let dtype = v.get("dtype").and_then(|d| d.as_str()).ok_or_else(|| bad("no dtype".into()))?;
            let shape = numbers("shape")
                .and_then(|s| s.into_iter().map(|d| usize::try_from(d).ok()).collect::<Option<Vec<_>>>());
            let shape = shape.ok_or_else(|| bad("no shape".into()))?;
            let Some([start, end]) = numbers("data_offsets").and_then(|o| <[u64; 2]>::try_from(o).ok())
            else {
                return Err(bad("no data_offsets".into()));
            };
            let inside = start <= end && data.checked_add(end).is_some_and(|e| e <= source.len());
            if !inside {
                return Err(bad(format!(
                    "data at {start}..{end} is outside the file ({} bytes of data): truncated?",
                    source.len() - data
                )));
            }
            if let Some(kind) = kind(dtype) {
                let need = elements(&shape).and_then(|n| n.checked_mul(kind.size()));
                if need.map(|n| n as u64) != Some(end - start) {
                    return Err(bad(format!("{} bytes for {dtype} {shape:?}", end - start)));
                }
            }
            entries.insert(
                name.clone(),
                Entry { dtype: dtype.to_string(), shape, start: data + start, end: data + end },
            );
        }
        without_gaps(&source, &entries, data)?;
        Ok(SafeTensors { source, entries, metadata })
    }

    /// The names of the tensors, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The shape of a tensor.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.entries.get(name).map(|e| e.shape.as_slice())
    }

    /// The header's `__metadata__`.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// One tensor on the CPU; types as [`super::read`] says.
    ///
    /// # Errors
    /// If there is none of that name, its type is not supported, or the file cannot be read.
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        let e = self.entries.get(name).ok_or_else(|| self.source.error(format!("no tensor {name}")))?;
        let kind = kind(&e.dtype)
            .ok_or_else(|| self.source.error(format!("tensor {name}: type {} is not supported", e.dtype)))?;
        kind.tensor(&self.source.read(e.start, (e.end - e.start) as usize)?, &e.shape)
    }

    /// All tensors.
    ///
    /// # Errors
    /// As [`SafeTensors::tensor`].
    pub fn all(&self) -> Result<BTreeMap<String, Tensor>> {
        self.names().map(|n| Ok((n.to_string(), self.tensor(n)?))).collect()
    }
}

/// Tensors follow each other and fill the file, as the reference reader demands: a file of a few bytes cannot
/// hold many tensors over one range, and nothing hides between them.
fn without_gaps(source: &Source, entries: &BTreeMap<String, Entry>, data: u64) -> Result<()> {
    let mut order: Vec<(&String, &Entry)> = entries.iter().collect();
    order.sort_by_key(|(_, e)| (e.start, e.end));
    let mut at = data;
    for (name, e) in order {
        if e.start != at {
            let (start, end, at) = (e.start - data, e.end - data, at - data);
            let what = if start < at { "overlaps the tensor before it" } else { "leaves a gap before it" };
            let problem = format!("its data at {start}..{end} {what}, expected them to begin at {at}");
            return Err(source.error(format!("tensor {name}: {problem}")));
        }
        at = e.end;
    }
    if at != source.len() {
        let (held, have) = (at - data, source.len() - data);
        return Err(source.error(format!("its tensors hold {held} of {have} bytes of data, expected all")));
    }
    Ok(())
}

fn kind(dtype: &str) -> Option<Kind> {
    Some(match dtype {
        "F64" => Kind::F64,
        "F32" => Kind::F32,
        "F16" => Kind::F16,
        "BF16" => Kind::BF16,
        "I64" => Kind::I64,
        "I32" => Kind::I32,
        "I16" => Kind::I16,
        "I8" => Kind::I8,
        "U32" => Kind::U32,
        "U8" => Kind::U8,
        "BOOL" => Kind::Bool,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::DType;

    fn file(header: &str, data: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.safetensors");
        let mut b = (header.len() as u64).to_le_bytes().to_vec();
        b.extend(header.bytes());
        b.extend(data);
        std::fs::write(&path, b).unwrap();
        (dir, path)
    }

    #[test]
    fn types() {
        let mut data = Vec::new();
        data.extend(1.5_f64.to_le_bytes());
        data.extend(half::f16::from_f32(-2.0).to_le_bytes());
        data.extend(half::bf16::from_f32(3.0).to_le_bytes());
        data.extend((1_i64 << 40).to_le_bytes());
        data.extend([1, 0, 7, 8]);
        let header = r#"{"__metadata__":{"format":"pt"},"d":{"dtype":"F64","shape":[1],"data_offsets":[0,8]},
            "h":{"dtype":"F16","shape":[],"data_offsets":[8,10]},"b":{"dtype":"BF16","shape":[1,1],"data_offsets":[10,12]},
            "i":{"dtype":"I64","shape":[1],"data_offsets":[12,20]},"t":{"dtype":"BOOL","shape":[2],"data_offsets":[20,22]},
            "f8":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[22,24]},"e":{"dtype":"F32","shape":[0,3],"data_offsets":[22,22]}}"#;
        let (_dir, path) = file(header, &data);
        let f = SafeTensors::open(&path).unwrap();
        assert_eq!(f.metadata()["format"], "pt");
        assert_eq!(f.tensor("d").unwrap().to_vec1::<f32>().unwrap(), [1.5]);
        assert_eq!(f.tensor("h").unwrap().to_scalar::<f32>().unwrap(), -2.0);
        assert_eq!(f.tensor("b").unwrap().to_vec2::<f32>().unwrap(), [[3.0]]);
        assert_eq!(f.tensor("i").unwrap().to_vec1::<i64>().unwrap(), [1 << 40]);
        assert_eq!(f.tensor("t").unwrap().to_vec1::<u8>().unwrap(), [1, 0]);
        assert_eq!(
            (f.tensor("e").unwrap().dims(), f.tensor("e").unwrap().dtype()),
            (&[0, 3][..], DType::F32)
        );
        let e = f.tensor("f8").unwrap_err().to_string();
        assert!(e.contains("f8") && e.contains("F8_E4M3"), "{e}");
        assert!(f.all().is_err() && f.tensor("nope").is_err());
    }

    #[test]
    fn lies_and_truncation() {
        let one = |shape: &str, a: u64, b: u64| {
            format!(r#"{{"w":{{"dtype":"F32","shape":{shape},"data_offsets":[{a},{b}]}}}}"#)
        };
        let two = |a: [u64; 2], b: [u64; 2]| {
            let shape = |[from, to]: [u64; 2]| (to - from) / 4;
            format!(
                r#"{{"v":{{"dtype":"F32","shape":[{}],"data_offsets":{a:?}}},"w":{{"dtype":"F32","shape":[{}],"data_offsets":{b:?}}}}}"#,
                shape(a),
                shape(b)
            )
        };
        for (header, says) in [
            (two([0, 12], [0, 12]), "tensor w: its data at 0..12 overlaps the tensor before it"),
            (two([0, 8], [4, 12]), "tensor w: its data at 4..12 overlaps the tensor before it"),
            (two([0, 4], [8, 12]), "tensor w: its data at 8..12 leaves a gap before it"),
            (two([0, 4], [4, 8]), "hold 8 of 12 bytes"),
            (one("[2]", 4, 12), "tensor w: its data at 4..12 leaves a gap before it"),
            (one("[2]", 0, 12), "tensor w: 12 bytes for F32 [2]"),
            (one("[4]", 0, 16), "outside the file"),
            (one("[1]", 8, 4), "outside the file"),
            (one("[2]", 0, u64::MAX), "outside the file"),
            (one("[4294967296, 4294967296]", 0, 0), "0 bytes for F32"),
            (one("[0, 4294967296, 4294967296]", 0, 0), "0 bytes for F32"),
            (one("[-1]", 0, 4), "no shape"),
            (one("\"x\"", 0, 4), "no shape"),
            (r#"{"w":{"dtype":"F32","shape":[1]}}"#.into(), "no data_offsets"),
            (r#"{"w":3}"#.into(), "no dtype"),
            ("[]".into(), "not a JSON object"),
            ("{".into(), "not JSON"),
            ("[".repeat(100_000), "not JSON"),
        ] {
            let (_dir, path) = file(&header, &[0; 12]);
            let e = SafeTensors::open(&path).unwrap_err().to_string();
            assert!(e.contains(says), "{header:.60}: {e}");
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.safetensors");
        for bytes in [&[][..], &[1, 2, 3], &[255; 16], &[9, 0, 0, 0, 0, 0, 0, 0, b'{']] {
            std::fs::write(&path, bytes).unwrap();
            assert!(SafeTensors::open(&path).is_err());
        }
    }
}

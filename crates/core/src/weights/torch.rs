//! Files of `torch.save`: a ZIP archive (PyTorch 1.6 and later) or the older stream of pickles, read without
//! Python.
//!
//! The ZIP form holds `*/data.pkl` and one entry `*/data/KEY` per storage. The older form is five pickles (a
//! magic number, a version, facts about the machine, the object, the list of storage keys), then each storage
//! as a length and its bytes.

use super::bytes::{Kind, Source, u64_at};
use super::pickle::{Pickle, View};
use super::zip;
use crate::error::Result;
use candle_core::Tensor;
use std::collections::BTreeMap;
use std::path::Path;

const MAGIC: i128 = 0x1950_a86a_20f9_469c_fc6c;
const VERSION: i128 = 1001;
/// Longest pickle: a model of 10,000 tensors needs 1.5 MB.
const MAX_PICKLE: u64 = 64 << 20;
/// Under these keys training scripts keep the model beside optimiser and epoch.
const WRAPPERS: [&str; 7] =
    ["state_dict", "model_state_dict", "model_state", "model", "module", "net", "network"];

/// An open `.pt`, `.pth` or `.bin` file of `torch.save`. Nothing in it is executed; see [`TorchFile::open`].
#[derive(Debug)]
pub struct TorchFile {
    source: Source,
    tensors: BTreeMap<String, View>,
    /// Where a storage's bytes are, by key: position and length.
    storages: BTreeMap<String, (u64, u64)>,
}

impl TorchFile {
    /// Opens a file and finds its tensors. Those in nested containers have dotted paths
    /// (`optimizer.state.0.exp_avg`); where the model lies under one of the usual keys (`state_dict`,
    /// `model`, `model_state` ...) beside other things, only the model is taken.
    ///
    /// # Errors
    /// If the file is damaged, compressed, big-endian, or refers to anything but tensors in plain containers
    /// (the global is named); if a tensor cannot be read (it is named).
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_under(path, &WRAPPERS)
    }

    /// As [`TorchFile::open`], taking the part under the first of `keys` that is there (`teacher`);
    /// everything if `keys` is empty.
    ///
    /// # Errors
    /// As [`TorchFile::open`].
    pub fn open_under(path: impl AsRef<Path>, keys: &[&str]) -> Result<Self> {
        let source = Source::open(path.as_ref())?;
        let start = source.read(0, source.len().min(4) as usize)?;
        let (pickle, storages) =
            if start.starts_with(b"PK") { from_zip(&source)? } else { from_stream(&source, keys)? };
        let mut tensors = BTreeMap::new();
        for (name, view) in pickle.tensors(keys).map_err(|e| source.error(e))? {
            let size = view.kind.size() as u64;
            let have = storages.get(&view.key).map(|&(_, bytes)| bytes);
            let Some(have) = have else {
                return Err(source.error(format!("tensor {name}: its storage {} is missing", view.key)));
            };
            if view.numel.checked_mul(size).is_none_or(|need| need > have) {
                let claim = format!(
                    "its storage {} claims {} numbers of {size} bytes but has {have} bytes",
                    view.key, view.numel
                );
                return Err(source.error(format!("tensor {name}: {claim}")));
            }
            if tensors.insert(name.clone(), view.clone()).is_some() {
                return Err(source.error(format!("two tensors of the name {name}")));
            }
        }
        // Many views of one storage (tied weights) are usual, thousands are an attack on memory.
        let read: u128 =
            tensors.values().map(|v| u128::from(v.span.max(numel(v))) * v.kind.size() as u128).sum();
        if read > u128::from(source.len()) * 16 + (1 << 20) {
            return Err(source
                .error(format!("its tensors have {read} bytes, far more than the file's {}", source.len())));
        }
        Ok(TorchFile { source, tensors, storages })
    }

    /// The names of the tensors, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The shape of a tensor.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|v| v.shape.as_slice())
    }

    /// One tensor on the CPU, contiguous; types as [`super::read`] says.
    ///
    /// # Errors
    /// If there is none of that name or the file cannot be read.
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        let v = self.tensors.get(name).ok_or_else(|| self.source.error(format!("no tensor {name}")))?;
        let &(start, _) = self
            .storages
            .get(&v.key)
            .ok_or_else(|| self.source.error(format!("tensor {name}: no storage {}", v.key)))?;
        let size = v.kind.size();
        // open() checked offset + span against the storage's bytes, and those against the file.
        let bytes = self.source.read(start + v.offset * size as u64, v.span as usize * size)?;
        v.kind.tensor(&gather(&bytes, size, &v.shape, &v.strides), &v.shape)
    }

    /// All tensors.
    ///
    /// # Errors
    /// As [`TorchFile::tensor`].
    pub fn all(&self) -> Result<BTreeMap<String, Tensor>> {
        self.names().map(|n| Ok((n.to_string(), self.tensor(n)?))).collect()
    }
}

fn numel(v: &View) -> u64 {
    v.shape.iter().map(|&d| d as u64).product()
}

/// The elements of a strided view in row-major order.
fn gather(bytes: &[u8], size: usize, shape: &[usize], strides: &[u64]) -> Vec<u8> {
    let mut expected = 1;
    let contiguous = shape.iter().zip(strides).rev().all(|(&d, &s)| {
        let fits = d == 1 || s == expected;
        expected *= d.max(1) as u64;
        fits
    });
    let n: usize = shape.iter().product();
    if contiguous || n == 0 {
        return bytes[..(n * size).min(bytes.len())].to_vec();
    }
    let mut out = Vec::with_capacity(n * size);
    let mut index = vec![0; shape.len()];
    let mut at = 0_u64;
    for _ in 0..n {
        let a = at as usize * size;
        out.extend_from_slice(&bytes[a..a + size]);
        for d in (0..shape.len()).rev() {
            index[d] += 1;
            // Wrapping: a size of 1 may have any stride, which is taken back at once.
            at = at.wrapping_add(strides[d]);
            if index[d] < shape[d] {
                break;
            }
            at = at.wrapping_sub(strides[d].wrapping_mul(shape[d] as u64));
            index[d] = 0;
        }
    }
    out
}

type Opened = (Pickle, BTreeMap<String, (u64, u64)>);

fn from_zip(source: &Source) -> Result<Opened> {
    let entries = zip::entries(source)?;
    let pickles: Vec<&String> =
        entries.keys().filter(|n| n.as_str() == "data.pkl" || n.ends_with("/data.pkl")).collect();
    let [name] = pickles[..] else {
        return Err(source.error(format!(
            "a ZIP archive with {} entries */data.pkl, expected one as torch.save writes",
            pickles.len()
        )));
    };
    let root = name.strip_suffix("data.pkl").unwrap_or_default();
    if let Some(e) = entries.get(&format!("{root}byteorder")) {
        let order = source.read(e.start, e.size.min(16) as usize)?;
        if order != b"little" {
            return Err(source.error(format!("byte order `{}`, expected `little`", order.escape_ascii())));
        }
    }
    let e = entries[name];
    if e.size > MAX_PICKLE {
        return Err(source.error(format!("data.pkl of {} bytes, expected at most {MAX_PICKLE}", e.size)));
    }
    let pickle = Pickle::read(&source.read(e.start, e.size as usize)?).map_err(|e| source.error(e))?;
    let data = format!("{root}data/");
    let storages = entries
        .iter()
        .filter_map(|(n, e)| Some((n.strip_prefix(&data)?.to_string(), (e.start, e.size))))
        .collect();
    Ok((pickle, storages))
}

fn from_stream(source: &Source, wanted: &[&str]) -> Result<Opened> {
    let head = source.read(0, source.len().min(MAX_PICKLE) as usize)?;
    let mut at = 0;
    let mut next = || {
        let p = Pickle::read(&head[at..]).map_err(|e| source.error(format!("from byte {at} on: {e}")))?;
        at += p.len;
        Ok::<_, crate::error::Error>((p, at))
    };
    let (magic, _) = next()?;
    if magic.int() != Some(MAGIC) {
        return Err(source.error("a pickle, but not one of torch.save (its magic number is missing)"));
    }
    let (version, _) = next()?;
    if version.int() != Some(VERSION) {
        return Err(source.error(format!("format version {:?}, expected {VERSION}", version.int())));
    }
    let (machine, _) = next()?;
    if machine.flag("little_endian") != Some(true) {
        return Err(source.error("written on a big-endian machine"));
    }
    let (object, _) = next()?;
    // What is wrong with a tensor says more than what is wrong with the storages that follow.
    object.tensors(wanted).map_err(|e| source.error(e))?;
    let (keys, end) = next()?;
    let keys = keys.strings().ok_or_else(|| source.error("the list of storages is not a list of names"))?;
    let (mut storages, mut at) = (BTreeMap::new(), end as u64);
    for key in keys {
        let Some(kind) = object.storages.get(key) else {
            return Err(
                source.error(format!("storage {key:.80} belongs to no tensor: its length is unknown"))
            );
        };
        let size = kind
            .map(Kind::size)
            .ok_or_else(|| source.error(format!("storage {key:.80}: its type is not supported")))?;
        let n = u64_at(&source.read(at, 8)?, 0);
        let bytes = n
            .checked_mul(size as u64)
            .filter(|b| b.checked_add(8).and_then(|b| at.checked_add(b)).is_some_and(|e| e <= source.len()));
        let bytes = bytes.ok_or_else(|| {
            source.error(format!("truncated: storage {key:.80} has {n} numbers of {size} bytes at byte {at}"))
        })?;
        if storages.insert(key.to_string(), (at + 8, bytes)).is_some() {
            return Err(source.error(format!("two storages {key:.80}")));
        }
        at += 8 + bytes;
    }
    Ok((object, storages))
}

#[cfg(test)]
#[path = "torch_tests.rs"]
mod tests;

//! Files that are whole or absent: an atomic writer, and safetensors files with an optional seal.
//!
//! A safetensors file is `u64 n | n bytes of JSON header | data`. We write it ourselves, so that equal
//! content gives equal bytes (the reference writer keeps its metadata in a hash map) and tensors can be
//! streamed. A sealed file carries in its metadata the BLAKE3 hash of everything, computed with zeros in the
//! place of the hash: a file that was cut or flipped is recognised, and any safetensors reader still opens
//! it.

use super::fault;
use crate::error::{Error, Result};
use candle_core::{DType, Device, Tensor};
use selfsup_kernels::host::floats;
use serde_json::{Map, Value, json};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Where the 64 digits of the hash stand in a sealed file: the header's length, then this opening.
const OPENING: &[u8] = b"{\"__metadata__\":{\"blake3\":\"";
const DIGITS: usize = 64;
/// The reference reader's limit of the header.
const MAX_HEADER: u64 = 100_000_000;

/// Writes `path` so that it is either the old file or the whole new one, whatever happens: written aside,
/// synced, renamed, and the folder synced. The mode follows the umask.
///
/// # Errors
/// [`Error::Io`] naming `path`; the old file is untouched and nothing is left behind.
pub fn write_atomic(path: &Path, write: impl FnOnce(&mut File) -> Result<()>) -> Result<()> {
    write_atomic_aside(path, &aside(path)?, write)
}

/// As [`write_atomic`], with the name aside: one of its own where other processes may write `path` as well.
pub(crate) fn write_atomic_aside(
    path: &Path,
    aside: &Path,
    write: impl FnOnce(&mut File) -> Result<()>,
) -> Result<()> {
    let io = |e| Error::io(path, e);
    let done = (|| {
        fault::point(path)?;
        let mut file = File::create(aside).map_err(io)?;
        fault::point(path)?;
        write(&mut file)?;
        file.sync_all().map_err(io)?;
        drop(file);
        fault::point(path)?;
        std::fs::rename(aside, path).map_err(io)
    })();
    if done.is_err() && fault::point(aside).is_ok() {
        // The disk may be full: give the space back. If that fails too, the first error is the one to report.
        let _ = std::fs::remove_file(aside);
    }
    done?;
    sync_folder(path)
}

/// Writes a text file as [`write_atomic`] does.
///
/// # Errors
/// As [`write_atomic`].
pub fn write_text(path: &Path, text: &str) -> Result<()> {
    write_atomic(path, |f| f.write_all(text.as_bytes()).map_err(|e| Error::io(path, e)))
}

/// A value as JSON over several lines, without a line break at its end.
///
/// # Errors
/// If the value has no JSON form (a map whose keys are not strings).
pub fn pretty_json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string_pretty(value).map_err(|e| Error::Other(e.to_string()))
}

/// The name under which `path` is written before it is whole.
pub(crate) fn aside(path: &Path) -> Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| Error::file(path, "not a file name"))?;
    Ok(path.with_file_name(format!(".{}.tmp", name.to_string_lossy())))
}

/// Makes the entry of `path` in its folder durable.
pub(crate) fn sync_folder(path: &Path) -> Result<()> {
    if cfg!(unix) {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|f| f.sync_all()).map_err(|e| Error::io(folder, e))?;
    }
    Ok(())
}

fn dtype_name(dtype: DType) -> Option<&'static str> {
    Some(match dtype {
        DType::U8 => "U8",
        DType::U32 => "U32",
        DType::I16 => "I16",
        DType::I32 => "I32",
        DType::I64 => "I64",
        DType::BF16 => "BF16",
        DType::F16 => "F16",
        DType::F32 => "F32",
        DType::F64 => "F64",
        _ => return None,
    })
}

fn dtype_of(name: &str) -> Option<DType> {
    let all = [
        DType::U8,
        DType::U32,
        DType::I16,
        DType::I32,
        DType::I64,
        DType::BF16,
        DType::F16,
        DType::F32,
        DType::F64,
    ];
    all.into_iter().find(|d| dtype_name(*d) == Some(name))
}

/// The values of a tensor in file order.
fn bytes_of(t: &Tensor) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(t.elem_count() * t.dtype().size_in_bytes());
    if t.dtype() == DType::F32 {
        // Nearly everything is f32, and candle's writer goes value by value.
        for v in floats(t)? {
            out.extend_from_slice(&v.to_le_bytes());
        }
    } else {
        t.write_bytes(&mut out)?;
    }
    Ok(out)
}

/// Writes tensors as safetensors for PyTorch and transformers (metadata `format: pt`), atomically. Tensors
/// that are not contiguous are written as what they show. Equal content gives equal bytes, in any order of
/// `tensors`.
///
/// # Errors
/// If a name is given twice, a dtype is not one of safetensors', or the file cannot be written.
pub fn save_safetensors(path: impl AsRef<Path>, tensors: &[(String, Tensor)]) -> Result<()> {
    write_tensors(path.as_ref(), &[("format", "pt".to_string())], tensors, false)
}

/// Writes tensors with `metadata`, sealed or plain.
pub(crate) fn write_tensors(
    path: &Path,
    metadata: &[(&str, String)],
    tensors: &[(String, Tensor)],
    seal: bool,
) -> Result<()> {
    let mut order: Vec<&(String, Tensor)> = tensors.iter().collect();
    // Wide types first, so that every tensor is aligned to its own width.
    order.sort_by(|a, b| {
        b.1.dtype().size_in_bytes().cmp(&a.1.dtype().size_in_bytes()).then_with(|| a.0.cmp(&b.0))
    });
    let mut header = Map::new();
    let mut meta = Map::new();
    if seal {
        meta.insert("blake3".into(), "0".repeat(DIGITS).into());
    }
    for (k, v) in metadata {
        meta.insert((*k).into(), v.clone().into());
    }
    header.insert("__metadata__".into(), meta.into());
    let mut at = 0usize;
    for (name, t) in order.iter().copied() {
        let dtype = dtype_name(t.dtype())
            .ok_or_else(|| Error::input(name, format!("dtype {:?} has no safetensors name", t.dtype())))?;
        let end = at + t.elem_count() * t.dtype().size_in_bytes();
        let entry = json!({ "dtype": dtype, "shape": t.dims(), "data_offsets": [at, end] });
        if header.insert(name.clone(), entry).is_some() {
            return Err(Error::input(name, format!("given twice for {}", path.display())));
        }
        at = end;
    }
    let mut head = serde_json::to_vec(&header).map_err(|e| Error::file(path, e))?;
    head.resize(head.len().next_multiple_of(8), b' ');
    write_atomic(path, |file| {
        let io = |e| Error::io(path, e);
        let mut hash = blake3::Hasher::new();
        let mut put = |file: &mut File, bytes: &[u8]| {
            if seal {
                hash.update(bytes);
            }
            file.write_all(bytes).map_err(io)
        };
        put(file, &(head.len() as u64).to_le_bytes())?;
        put(file, &head)?;
        for (_, t) in order {
            put(file, &bytes_of(t)?)?;
        }
        if seal {
            file.seek(SeekFrom::Start(8 + OPENING.len() as u64)).map_err(io)?;
            file.write_all(hash.finalize().to_hex().as_bytes()).map_err(io)?;
        }
        Ok(())
    })
}

/// The contents of a safetensors file.
pub(crate) struct Contents {
    /// The metadata, without the hash.
    pub metadata: Map<String, Value>,
    /// Tensors in file order.
    pub tensors: Vec<(String, Tensor)>,
}

/// Reads a sealed file in one pass: tensors are hashed as they are read.
///
/// # Errors
/// [`Error::Io`] if the system refuses, [`Error::Input`] if the file is not a whole sealed file.
pub(crate) fn read_sealed(path: &Path, device: &Device) -> Result<Contents> {
    let io = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::UnexpectedEof => Error::file(path, "cut off"),
        _ => Error::io(path, e),
    };
    let bad = |problem: String| Error::file(path, problem);
    let file = crate::file::open(path)?;
    let len = file.metadata().map_err(io)?.len();
    let mut file = BufReader::with_capacity(1 << 20, file);
    let mut hash = blake3::Hasher::new();
    let mut head_len = [0u8; 8];
    file.read_exact(&mut head_len).map_err(io)?;
    hash.update(&head_len);
    let n = u64::from_le_bytes(head_len);
    if n > MAX_HEADER || n > len.saturating_sub(8) {
        return Err(bad(format!("header of {n} bytes in a file of {len}: damaged or not a checkpoint")));
    }
    let mut head = vec![0u8; n as usize];
    file.read_exact(&mut head).map_err(io)?;
    let digits = OPENING.len()..OPENING.len() + DIGITS;
    if !head.starts_with(OPENING) || head.len() < digits.end {
        return Err(bad("not a checkpoint of selfsup (no seal in the header)".into()));
    }
    let seal = String::from_utf8_lossy(&head[digits.clone()]).into_owned();
    head[digits].fill(b'0');
    hash.update(&head);
    let header: Map<String, Value> =
        serde_json::from_slice(&head).map_err(|e| bad(format!("header: {e}")))?;
    let mut metadata = Map::new();
    let mut tensors = Vec::new();
    let mut at = 0u64;
    for (name, entry) in header {
        if name == "__metadata__" {
            metadata = entry.as_object().cloned().unwrap_or_default();
            metadata.shift_remove("blake3");
            continue;
        }
        let (dtype, shape, range) = entry_of(&entry)
            .ok_or_else(|| bad(format!("tensor {name}: header entry {entry} not understood")))?;
        // We write tensors in header order without gaps, so anything else is damage.
        if range[0] != at || range[1] > len - 8 - n {
            return Err(bad(format!(
                "tensor {name}: bytes {range:?} do not follow on {at} in a file of {len}"
            )));
        }
        at = range[1];
        let mut bytes = vec![0u8; (range[1] - range[0]) as usize];
        file.read_exact(&mut bytes).map_err(io)?;
        hash.update(&bytes);
        tensors.push((name, Tensor::from_raw_buffer(&bytes, dtype, &shape, device)?));
    }
    if at != len - 8 - n {
        return Err(bad(format!("{} bytes of data, expected {at}", len - 8 - n)));
    }
    if hash.finalize().to_hex().as_str() != seal {
        return Err(bad("damaged: the checksum does not match".into()));
    }
    Ok(Contents { metadata, tensors })
}

/// Type, shape and byte range of a header entry, if they agree.
fn entry_of(entry: &Value) -> Option<(DType, Vec<usize>, [u64; 2])> {
    let dtype = dtype_of(entry.get("dtype")?.as_str()?)?;
    let shape = entry
        .get("shape")?
        .as_array()?
        .iter()
        .map(|d| d.as_u64().map(|d| d as usize))
        .collect::<Option<Vec<_>>>()?;
    let [a, b] = entry.get("data_offsets")?.as_array()?.as_slice() else { return None };
    let range = [a.as_u64()?, b.as_u64()?];
    let values = shape.iter().try_fold(dtype.size_in_bytes(), |n, d| n.checked_mul(*d))?;
    (range[1].checked_sub(range[0])? == values as u64).then_some((dtype, shape, range))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensors() -> Vec<(String, Tensor)> {
        let dev = Device::Cpu;
        let f = Tensor::arange(0f32, 6.0, &dev).unwrap().reshape((2, 3)).unwrap();
        vec![
            ("b.weight".into(), f.t().unwrap()),
            ("a.count".into(), Tensor::new(&[1i64, -2], &dev).unwrap()),
            ("half".into(), f.to_dtype(DType::BF16).unwrap()),
            ("mask".into(), Tensor::new(&[1u8, 0, 1], &dev).unwrap()),
            ("scalar".into(), Tensor::new(3.5f32, &dev).unwrap()),
            ("empty".into(), Tensor::zeros((0, 4), DType::F32, &dev).unwrap()),
        ]
    }

    #[test]
    fn plain_files_open_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        let mut t = tensors();
        save_safetensors(&path, &t).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let (_, meta) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        assert_eq!(meta.metadata().as_ref().unwrap()["format"], "pt");
        let loaded = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
        assert_eq!(loaded.len(), 6);
        assert_eq!(loaded["b.weight"].to_vec2::<f32>().unwrap(), [[0., 3.], [1., 4.], [2., 5.]]);
        assert_eq!(loaded["a.count"].to_vec1::<i64>().unwrap(), [1, -2]);
        t.reverse();
        save_safetensors(&path, &t).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "order does not matter");
        t.push(t[0].clone());
        assert!(save_safetensors(&path, &t).unwrap_err().to_string().contains("twice"));
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing left behind");
    }

    #[cfg(unix)]
    #[test]
    fn mode_follows_the_umask() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let (path, plain) = (dir.path().join("m.safetensors"), dir.path().join("plain"));
        save_safetensors(&path, &tensors()).unwrap();
        std::fs::write(&plain, "x").unwrap();
        let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode();
        assert_eq!(mode(&path), mode(&plain));
    }

    #[test]
    fn sealed_files_show_every_damage() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.safetensors");
        write_tensors(&path, &[("selfsup", "{\"a\": \"é\"}".into())], &tensors(), true).unwrap();
        let c = read_sealed(&path, &Device::Cpu).unwrap();
        assert_eq!(c.metadata["selfsup"], "{\"a\": \"é\"}");
        assert_eq!(c.tensors.len(), 6);
        assert_eq!(
            candle_core::safetensors::load(&path, &Device::Cpu).unwrap().len(),
            6,
            "still a safetensors file"
        );
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert!(matches!(read_sealed(&path, &Device::Cpu), Err(Error::Input { .. })), "cut at {cut}");
        }
        for at in 0..whole.len() {
            for bit in [0, 5, 7] {
                let mut broken = whole.clone();
                broken[at] ^= 1 << bit;
                std::fs::write(&path, &broken).unwrap();
                assert!(read_sealed(&path, &Device::Cpu).is_err(), "bit {bit} of byte {at}");
            }
        }
        let mut longer = whole;
        longer.push(0);
        std::fs::write(&path, &longer).unwrap();
        assert!(read_sealed(&path, &Device::Cpu).is_err());
        save_safetensors(&path, &tensors()).unwrap();
        assert!(read_sealed(&path, &Device::Cpu).err().unwrap().to_string().contains("not a checkpoint"));
    }

    /// A full disk: the file that is written aside is a link to `/dev/full`.
    #[cfg(target_os = "linux")]
    #[test]
    fn full_disk() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.safetensors");
        write_tensors(&path, &[], &tensors(), true).unwrap();
        std::os::unix::fs::symlink("/dev/full", aside(&path).unwrap()).unwrap();
        let e = write_tensors(&path, &[], &tensors(), true).unwrap_err();
        assert!(
            matches!(&e, Error::Io { path: p, source } if *p == path && source.kind() == std::io::ErrorKind::StorageFull),
            "{e}"
        );
        assert!(read_sealed(&path, &Device::Cpu).is_ok(), "the old file stays");
        assert!(std::fs::symlink_metadata(aside(&path).unwrap()).is_err(), "the aside file is gone");
    }
}

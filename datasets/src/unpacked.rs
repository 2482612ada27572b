//! Shards in gzip, unpacked once: samples are read by position, and gzip has none.
//!
//! The tar lies in `shards/` of the cache of data sets, in a folder that is named by the shard's path, size
//! and time of change, with a list that has its hash. Of processes that want it at once, one unpacks.

use crate::fetch::cache;
use flate2::read::MultiGzDecoder;
use selfsup_core::checkpoint::{Part, PartWriter, made_once, read_sealed_json, write_sealed_json};
use selfsup_core::{Error, Result};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Pictures are packed already: what becomes more than this many times larger is no shard of them.
const MOST_TIMES: u64 = 64;
/// Bytes that any shard may have.
const ALWAYS: u64 = 64 << 20;

/// Whether a file's name is that of a tar in gzip.
pub(crate) fn is_packed(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    name.ends_with(".tar.gz") || name.ends_with(".tgz")
}

/// The tar of a shard: itself, or unpacked into the cache.
///
/// # Errors
/// If it is damaged or becomes far too large, or the cache cannot be written.
pub(crate) fn unpacked(shard: &Path) -> Result<PathBuf> {
    if is_packed(shard) { unpacked_into(&cache()?.join("shards"), shard) } else { Ok(shard.to_path_buf()) }
}

/// As [`unpacked`], below the folder `root`.
pub(crate) fn unpacked_below(root: &Path, shard: &Path) -> Result<PathBuf> {
    if is_packed(shard) { unpacked_into(root, shard) } else { Ok(shard.to_path_buf()) }
}

/// The tar that a shard in gzip becomes.
fn unpacked_into(root: &Path, shard: &Path) -> Result<PathBuf> {
    let io = |e| Error::io(shard, e);
    let meta = std::fs::metadata(shard).map_err(io)?;
    let time = meta.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
    let place = shard.canonicalize().map_err(io)?;
    let source = format!("{} {} {:?}", place.display(), meta.len(), time);
    let folder = root.join(&blake3::hash(source.as_bytes()).to_hex()[..32]);
    let list = folder.join("shard.json");
    private(&folder)?;
    let open = || read_sealed_json::<Part>(&list).ok()?.open(&folder).ok().map(|(path, _)| path);
    made_once(
        &folder,
        |_| false,
        open,
        || {},
        || {
            let most = meta.len().saturating_mul(MOST_TIMES).saturating_add(ALWAYS);
            let part = unpack(shard, &folder, most)?;
            let path = folder.join(&part.name);
            write_sealed_json(&list, &part)?;
            Ok(path)
        },
    )
}

/// Makes a folder that only its owner reads: the samples may be patients'.
fn private(folder: &Path) -> Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(|e| Error::io(folder, e))
}

fn unpack(shard: &Path, folder: &Path, most: u64) -> Result<Part> {
    let file = selfsup_core::file::open(shard)?;
    let mut content = MultiGzDecoder::new(BufReader::new(file));
    let mut writer = PartWriter::create(folder, "tar")?;
    let (mut buffer, mut bytes) = (vec![0; 1 << 20], 0u64);
    loop {
        let read = content
            .read(&mut buffer)
            .map_err(|e| Error::file(shard, format_args!("cannot be unpacked after {bytes} bytes: {e}")))?;
        if read == 0 {
            return writer.finish();
        }
        bytes += read as u64;
        if bytes > most {
            return Err(Error::file(
                shard,
                format_args!(
                    "becomes more than {most} bytes, {MOST_TIMES} times its size: no shard of pictures"
                ),
            ));
        }
        writer.write(&buffer[..read])?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_shard_is_unpacked_once() {
        let dir = tempfile::tempdir().unwrap();
        let (root, shard) = (dir.path().join("cache"), dir.path().join("a.tar.gz"));
        let content: Vec<u8> = (0..3_000_000u64).map(|i| (i * i % 251) as u8).collect();
        std::fs::write(&shard, packed(&content)).unwrap();
        let first = unpacked_into(&root, &shard).unwrap();
        assert_eq!(std::fs::read(&first).unwrap(), content);
        assert_eq!(unpacked_into(&root, &shard).unwrap(), first, "the second time it is there");
        // Damaged in the cache, it is made again.
        std::fs::write(&first, b"x").unwrap();
        let again = unpacked_into(&root, &shard).unwrap();
        assert_eq!(std::fs::read(&again).unwrap(), content);
        // Another content under the same name is another shard.
        std::fs::write(&shard, packed(b"other")).unwrap();
        assert_eq!(std::fs::read(unpacked_into(&root, &shard).unwrap()).unwrap(), b"other");
        #[cfg(unix)]
        {
            let meta = std::fs::metadata(again.parent().unwrap()).unwrap();
            assert_eq!(std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o777, 0o700);
        }
        assert!(
            is_packed(Path::new("x/A.TAR.GZ"))
                && is_packed(Path::new("a.tgz"))
                && !is_packed(Path::new("a.gz"))
        );
    }

    #[test]
    fn damaged_and_endless_shards_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (root, shard) = (dir.path().join("cache"), dir.path().join("a.tgz"));
        let whole = packed(&[7; 100_000]);
        for bytes in [&whole[..whole.len() / 2], b"no gzip", b""] {
            std::fs::write(&shard, bytes).unwrap();
            let e = unpacked_into(&root, &shard).map(|p| std::fs::read(p).unwrap().len());
            assert!(bytes.is_empty() || e.unwrap_err().to_string().contains("a.tgz: cannot be unpacked"));
        }
        std::fs::write(&shard, &whole).unwrap();
        let folder = dir.path().join("b");
        std::fs::create_dir(&folder).unwrap();
        let e = unpack(&shard, &folder, 50_000).unwrap_err().to_string();
        assert!(e.contains("a.tgz") && e.contains("more than 50000 bytes"), "{e}");
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "nothing is left");
    }
}

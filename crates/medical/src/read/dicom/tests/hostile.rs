//! Small files that announce much: errors that name them, at once, and without asking for memory.

use super::*;
use std::time::Instant;

/// Bytes of a CT slice with `inserted` before its pixels.
fn with(inserted: &[u8]) -> Vec<u8> {
    let dir = folder(&[0.0], |_, _| {});
    let bytes = std::fs::read(dir.path().join("s0.dcm")).unwrap();
    let at = bytes.windows(4).position(|w| w == [0xE0, 0x7F, 0x10, 0x00]).unwrap();
    [&bytes[..at], inserted, &bytes[at..]].concat()
}

/// A private sequence of unknown length in an item of unknown length, `n` times; closed again or not.
fn nested(n: usize, closed: bool) -> Vec<u8> {
    let open =
        [0x29, 0, 0x10, 0x10, b'S', b'Q', 0, 0, 255, 255, 255, 255, 0xFE, 0xFF, 0, 0xE0, 255, 255, 255, 255];
    let close = [0xFE, 0xFF, 0x0D, 0xE0, 0, 0, 0, 0, 0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0];
    [open.repeat(n), close.repeat(if closed { n } else { 0 })].concat()
}

#[test]
fn sequences_may_be_nested_deeply() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep.dcm");
    // What nobody asks for is passed over, however deep it is.
    std::fs::write(&path, with(&nested(100_000, true))).unwrap();
    assert_eq!(volume(&path, &ReadConfig::default()).unwrap().shape(), [1, 3, 4]);
    std::fs::write(&path, with(&nested(100_000, false))).unwrap();
    refused(&path, &["deep.dcm"]);
    // Frames' groups in frames' groups.
    let groups: Vec<u8> = nested(50_000, true)
        .chunks(4)
        .map(|c| if c == [0x29, 0, 0x10, 0x10] { [0, 0x52, 0x30, 0x92] } else { [c[0], c[1], c[2], c[3]] })
        .collect::<Vec<_>>()
        .concat();
    std::fs::write(&path, with(&groups)).unwrap();
    assert_eq!(volume(&path, &ReadConfig::default()).unwrap().shape(), [1, 3, 4]);
}

#[test]
fn lengths_are_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("long.dcm");
    for length in [0xFFFF_FFFEu32, 0x7FFF_FFFE, 1 << 20] {
        let element = [&[0x29, 0, 0x10, 0x10, b'O', b'B', 0, 0][..], &length.to_le_bytes()].concat();
        std::fs::write(&path, with(&element)).unwrap();
        refused(&path, &["long.dcm", "(0029,1010)", &format!("announces {length} bytes")]);
    }
}

/// Files of 1.3 KB that asked for 4 to 115 GB, or made a decoder panic.
#[test]
fn small_files_that_announce_much() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/hostile");
    let mut seen = 0;
    for entry in std::fs::read_dir(data).unwrap() {
        // Each alone in a folder: a file stands for the slices beside it.
        let (dir, entry) = (tempfile::tempdir().unwrap(), entry.unwrap());
        let path = dir.path().join(entry.file_name());
        std::fs::copy(entry.path(), &path).unwrap();
        let begun = Instant::now();
        let config = ReadConfig::default();
        let errors = [volume(&path, &config).err(), image(&path, 0, &config).err()];
        // Of one the damage lies behind a frame that is whole.
        assert_eq!(errors.iter().all(Option::is_some), !path.ends_with("dcmj-3cdd2dbc.dcm"), "{path:?}");
        for error in errors.into_iter().flatten() {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            assert!(error.to_string().contains(&name), "{error}");
            assert_eq!(error.exit_code(), 2, "{error}");
        }
        assert!(begun.elapsed().as_secs_f64() < 5.0, "{}", path.display());
        seen += 1;
    }
    assert_eq!(seen, 11);
    let rle = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/hostile/dicom-rle-30000x30000.dcm");
    let e = image(&rle, 0, &ReadConfig::default()).unwrap_err().to_string();
    assert!(e.contains("announces 30000 x 30000 pixels"), "{e}");
}

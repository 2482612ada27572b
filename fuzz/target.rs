//! What every target does: the input becomes a file, the reader of that name reads it, and an error must name
//! the file and be one of bad input. libFuzzer itself sees panics, memory and time.

#[path = "../tests/fuzz/readers.rs"]
mod readers;

use std::path::PathBuf;

/// The file of this process.
fn path(ending: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("selfsup-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for the input");
    folder.join(format!("input.{ending}"))
}

/// Reads `data` by the reader `name`.
pub fn read(name: &str, data: &[u8]) {
    let reader = readers::of(name).expect("a reader of tests/fuzz/readers.rs");
    let path = path(reader.ending);
    std::fs::write(&path, data).expect("the input is written");
    if let Err(e) = (reader.read)(&path) {
        assert_eq!(e.exit_code(), 2, "{e}");
        assert!(e.to_string().contains("input"), "an error that does not name the file: {e}");
    }
}

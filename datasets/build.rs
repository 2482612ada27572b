//! Compiles the bundled samples in, where `samples/` is there: in a checkout. A published crate is without them
//! (crates.io takes 10 MiB), and fetches by name and hash what a checkout has.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let folder = |name: &str| env::var_os(name).map(PathBuf::from).ok_or(io::ErrorKind::NotFound);
    let (root, out) = (folder("CARGO_MANIFEST_DIR")?, folder("OUT_DIR")?);
    println!("cargo::rerun-if-changed=build.rs");
    let samples = root.join("samples");
    let mut files = Vec::new();
    if samples.is_dir() {
        println!("cargo::rerun-if-changed=samples");
        walk(&samples, &mut files)?;
        files.sort();
    }
    let mut list = String::from("const FILES: &[(&str, &[u8])] = &[\n");
    for path in files {
        let name = path.strip_prefix(&samples).map_err(io::Error::other)?;
        let name = name.to_string_lossy().replace('\\', "/");
        // The path is read by the compiler and is not in what it makes.
        writeln!(list, "    ({name:?}, include_bytes!({path:?})),").map_err(io::Error::other)?;
    }
    list.push_str("];\n");
    fs::write(out.join("samples.rs"), list)
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { walk(&path, files)? } else { files.push(path) }
    }
    Ok(())
}

//! `selfsup cache`: the blocks that large volumes were turned into.

use crate::modality::medical::volumes::block_folder;
use crate::say::say;
use selfsup_core::Result;
use selfsup_medical::blocks::{shelved, trim};
use serde_json::json;
use std::path::PathBuf;
use std::time::SystemTime;

/// The folder that is meant: a named one (`volumes.blocks`), or the default.
fn folder(named: Option<PathBuf>) -> Result<PathBuf> {
    named.map_or_else(block_folder, Ok)
}

/// Prints where blocks lie, how many there are, their size and last use. What processes that are gone have
/// left unfinished is removed.
///
/// # Errors
/// If the folder cannot be listed.
pub fn list(named: Option<PathBuf>) -> Result<()> {
    let folder = folder(named)?;
    let found = shelved(&folder)?;
    for file in &found {
        let name = file.path.file_name().unwrap_or_default().to_string_lossy();
        let days = SystemTime::now().duration_since(file.used).map_or(0, |d| d.as_secs() / 86_400);
        let used = if file.in_use { "in use".to_string() } else { format!("used {days} days ago") };
        say!("{name:<48}{:>10.1} MB  {used}", file.bytes as f64 / 1e6);
    }
    let bytes: u64 = found.iter().map(|f| f.bytes).sum();
    let files = found.iter().map(|f| json!({ "path": f.path, "bytes": f.bytes, "in_use": f.in_use }));
    crate::say::result(&json!({ "folder": folder, "bytes": bytes, "files": files.collect::<Vec<_>>() }));
    say!("{}: {} files of blocks, {:.2} GB", folder.display(), found.len(), bytes as f64 / 1e9);
    Ok(())
}

/// Removes all blocks that no process reads.
///
/// # Errors
/// If the folder cannot be listed or a file cannot be removed.
pub fn clear(named: Option<PathBuf>) -> Result<()> {
    let folder = folder(named)?;
    let (n, bytes) = trim(&folder, 0)?;
    let kept = shelved(&folder)?.len();
    crate::say::result(&json!({ "folder": folder, "removed": n, "bytes": bytes, "kept": kept }));
    let beside = if kept > 0 { format!(", {kept} in use are kept") } else { String::new() };
    say!("{}: removed {n} files of blocks, {:.2} GB{beside}", folder.display(), bytes as f64 / 1e9);
    Ok(())
}

//! `selfsup pull`.

use crate::say::say;
use selfsup_core::Result;
use selfsup_core::hub::fetch;

/// Brings `org/name[@revision]` into the cache and prints where it is.
///
/// # Errors
/// If it is neither in the cache nor can be downloaded.
pub fn run(name: &str) -> Result<()> {
    let path = fetch(name)?;
    say!("{}", path.display());
    crate::say::result(&serde_json::json!({ "name": name, "path": path }));
    Ok(())
}

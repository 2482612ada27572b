//! Golden cases: numbers made by PyTorch, lightly, timm, transformers and others, which ours must meet.
//!
//! Reads the folder that `SELFSUP_GOLDEN` names, else `tests/golden`, walks its `index.json` and runs each
//! case, on both paths where there are two. Prints one line a case and last `N passed, N failed, N pending`.
//! Arguments that do not start with `-` filter by name. Exits 1 on a failed case, on a case without a handler
//! that `pending.txt` does not name, and on a line of that file that is no longer true.

#![allow(clippy::print_stdout)] // a report is what this test is

#[path = "golden_cases/mod.rs"]
mod cases;

use cases::case::{Case, Outcome, compare};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> ExitCode {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let root = std::env::var_os("SELFSUP_GOLDEN").map_or_else(|| here.clone(), PathBuf::from);
    let filters: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let pending: BTreeSet<String> = std::fs::read_to_string(here.join("pending.txt"))
        .unwrap_or_default()
        .lines()
        .map(|l| l.split('#').next().unwrap_or("").trim().to_string())
        .filter(|l| !l.is_empty())
        .collect();
    let all = match cases::case::index(&root) {
        Ok(all) => all,
        Err(e) => {
            eprintln!("{}: {e}", root.display());
            return ExitCode::FAILURE;
        }
    };
    let (mut passed, mut failed, mut waiting) = (0, 0, 0);
    let mut stale: BTreeSet<&String> = pending.iter().collect();
    for case in &all {
        if !filters.is_empty() && !filters.iter().any(|f| case.name.contains(f.as_str())) {
            stale.remove(&case.name);
            continue;
        }
        match run(case) {
            Ok(Outcome::NoHandler) if pending.contains(&case.name) => {
                waiting += 1;
                stale.remove(&case.name);
                println!("pending  {}", case.name);
            }
            Ok(Outcome::NoHandler) => {
                failed += 1;
                println!("FAILED   {}: no handler, and pending.txt does not name it", case.name);
            }
            Ok(Outcome::Worst(worst)) => {
                passed += 1;
                println!("ok       {} (largest error {worst:.1e})", case.name);
            }
            Err(e) => {
                failed += 1;
                stale.remove(&case.name);
                println!("FAILED   {}: {e}", case.name);
            }
        }
    }
    for name in &stale {
        failed += 1;
        println!("FAILED   {name}: pending.txt names it, but it passes or is not in the index");
    }
    println!("{passed} passed, {failed} failed, {waiting} pending");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs a case; a panic of ours is a failure of that case alone.
fn run(case: &Case) -> Result<Outcome, String> {
    let Some(handler) = cases::handler(case) else { return Ok(Outcome::NoHandler) };
    let made = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| handler(case)))
        .map_err(|_| "panicked".to_string())?
        .map_err(|e| format!("{e}"))?;
    let mut worst = 0f64;
    for (label, outputs) in made {
        let error = compare(case, &outputs)
            .map_err(|e| if label.is_empty() { e } else { format!("{label}: {e}") })?;
        worst = worst.max(error);
    }
    Ok(Outcome::Worst(worst))
}

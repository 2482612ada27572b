//! The golden cases of speech, as the workspace's test `golden` runs them, for this crate alone.

#![allow(dead_code, clippy::unwrap_used, missing_docs)]

#[path = "../../../tests/golden_cases/case.rs"]
mod case;
#[path = "../../../tests/golden_cases/model.rs"]
mod model;
#[path = "../../../tests/golden_cases/speech.rs"]
mod speech;

use std::path::Path;

#[test]
fn speech_models_and_features() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    let root = std::env::var_os("SELFSUP_GOLDEN").map_or(here, Into::into);
    let mut failed = Vec::new();
    let mut ran = 0;
    for case in case::index(&root).unwrap() {
        let Some(handler) = speech::handler(&case) else { continue };
        ran += 1;
        let worst = handler(&case).map_err(|e| e.to_string()).and_then(|made| {
            made.iter().map(|(_, outputs)| case::compare(&case, outputs)).try_fold(0f64, |w, e| Ok(w.max(e?)))
        });
        match worst {
            Ok(worst) => eprintln!("ok       {} (largest error {worst:.1e})", case.name),
            Err(e) => failed.push(format!("{}: {e}", case.name)),
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(ran >= 7, "{ran} cases");
}

//! The configurations of `examples/`: each is read, its data opened, a batch made and a step taken; every
//! method has one.

use crate::common::{Work, command, good};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// What is not bundled: data sets whose names begin so.
const FETCHED: &[&str] = &["festvox-ru-full", "emoji", "ucr/"];

/// The configurations of pre-trainings, those of data that is fetched or the others.
fn configurations(fetched: bool) -> Vec<(PathBuf, toml::Table)> {
    let examples = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples");
    let list = |dir: &PathBuf| std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect::<Vec<_>>();
    let folders = list(&examples).into_iter().filter(|p| p.is_dir());
    let mut found = Vec::new();
    for folder in folders {
        assert!(folder.join("README.md").is_file(), "{} has no README.md", folder.display());
        for file in list(&folder).into_iter().filter(|p| p.extension().is_some_and(|e| e == "toml")) {
            let table: toml::Table = std::fs::read_to_string(&file).unwrap().parse().unwrap();
            let path = table["data"]["path"].as_str().unwrap();
            if table.contains_key("method") && FETCHED.iter().any(|f| path.starts_with(f)) == fetched {
                found.push((file, table));
            }
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

/// Few samples and small batches: whether a configuration holds, not what it learns.
fn steps(fetched: bool) {
    let w = Work::new();
    for (file, table) in configurations(fetched) {
        let batch = table["train"]["batch_size"].as_integer().unwrap().min(16);
        let (file, batch) = (file.display().to_string(), format!("train.batch_size={batch}"));
        let mut args = vec!["pretrain", &file, "--dry-run", &batch];
        if table.get("modality").is_none_or(|m| m.as_str() != Some("medical")) {
            args.push("data.limit=400");
        }
        // A picture of the augmentations is written where it runs.
        let said = good(&command(&args).current_dir(w.path("")).output().unwrap());
        let staged = table["method"]["name"].as_str() == Some("hubert");
        assert!(said.contains(if staged { "makes its targets first" } else { "one step" }), "{file}: {said}");
    }
}

#[test]
fn bundled_ones_take_a_step() {
    steps(false);
}

#[test]
#[ignore = "fetches 253 MB"]
fn fetched_ones_take_a_step() {
    steps(true);
}

#[test]
fn every_method_has_one() {
    let all = [configurations(false), configurations(true)].concat();
    let of = |begins: &str| -> BTreeSet<String> {
        let here = |file: &PathBuf| {
            file.parent().unwrap().file_name().unwrap().to_string_lossy().starts_with(begins)
        };
        all.iter()
            .filter(|(file, _)| here(file))
            .map(|(_, t)| t["method"]["name"].as_str().unwrap().to_string())
            .collect()
    };
    for name in selfsup::vision::recipe::MethodConfig::NAMES {
        assert!(of("vision-").contains(name), "no example of {name} on images");
    }
    for name in selfsup::text::recipe::MethodConfig::NAMES {
        assert!(of("text-").contains(name), "no example of {name} on texts");
    }
    for name in selfsup::speech::recipe::MethodConfig::NAMES {
        assert!(of("speech-").contains(name), "no example of {name} on recordings");
    }
    // Methods of signals alone; those over views are of images too.
    for name in ["ts2vec", "masked-patches"] {
        assert!(of("signals-").contains(name), "no example of {name} on signals");
    }
    // Of the joint methods of images, which volumes have too, three stand for all.
    for name in ["genesis", "super-resolution", "mae", "simclr", "moco", "byol"] {
        assert!(of("medical-").contains(name), "no example of {name} on volumes");
    }
}

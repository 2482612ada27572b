//! Models by name: `org/name[@revision]` in the Hugging Face cache, and from the Hub where the feature `hub`
//! is on.
//!
//! The cache is the one that Python's `huggingface_hub` keeps, so what one of them downloaded the other
//! finds:
//!
//! ```text
//! models--org--name/refs/main               the commit that a branch or tag was at
//! models--org--name/snapshots/COMMIT/FILE   usually a link into blobs/
//! ```
//!
//! Reading it needs no network and is always built. Downloading is the work of the crate `hf-hub` behind the
//! feature `hub`, which the command has by default. The environment means what it means to Python: `HF_HOME`,
//! `HF_HUB_CACHE`, `HF_HUB_OFFLINE`, `HF_ENDPOINT`, `HF_TOKEN`, `HF_TOKEN_PATH`, `HTTPS_PROXY`.

mod cache;
#[cfg(feature = "hub")]
mod download;
mod model;
mod options;
mod request;
#[cfg(all(test, feature = "hub", unix))]
mod server_tests;

pub use options::HubOptions;

use crate::error::Result;
use cache::{cache_folder, cached};
use model::{Model, Wanted};
use request::{Access, Request};
use std::path::PathBuf;

/// The folder with the `files` of a model, downloaded if need be.
///
/// `model` is `org/name` (or `name`, for the oldest models), followed by `@` and a branch, tag or commit if
/// not `main`. Each of `files` has to be there: a name (`config.json`), a pattern (`*` for any characters,
/// `?` for one), or alternatives of which the first that exists is taken
/// (`model*.safetensors|pytorch_model*.bin`). An empty list stands for all files.
///
/// With the feature `hub` and not offline, a branch or tag is looked up on the Hub each time; if the Hub does
/// not answer or is out of order, what the cache has is used. A commit whose files are all cached asks
/// nobody.
///
/// # Errors
/// [`Config`](crate::Error::Config) for a name that is none; [`Input`](crate::Error::Input) naming model and
/// file if it is neither cached nor to be had, with what to do about it.
pub fn pull(model: &str, files: &[&str], options: &HubOptions) -> Result<PathBuf> {
    pull_with(model, files, options, &|name| std::env::var(name).ok().filter(|v| !v.is_empty()))
}

/// Tokenizers and preprocessors of transformers, by the names of their files.
const BESIDE: [&str; 11] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "*.model",
    "preprocessor_config.json",
    "generation_config.json",
    "README.md",
];

/// The folder of `org/name[@revision]` with its configuration and weights: what pretrained encoders are
/// loaded from. Its tokenizer, preprocessor and README come along where it has them.
///
/// # Errors
/// As [`pull`].
pub fn fetch(model: &str) -> Result<PathBuf> {
    let options = HubOptions { also: BESIDE.map(String::from).to_vec(), ..HubOptions::default() };
    // With the second the index of split weights.
    pull(model, &["config.json", "*.safetensors*|pytorch_model*.bin*"], &options)
}

fn pull_with(
    model: &str,
    files: &[&str],
    options: &HubOptions,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<PathBuf> {
    let model = Model::parse(model)?;
    let wanted = files.iter().map(|f| Wanted::parse(f)).collect::<Result<Vec<_>>>()?;
    let cache = options.cache.clone().map_or_else(|| cache_folder(env), Ok)?;
    let offline = options.offline
        || env("HF_HUB_OFFLINE")
            .is_some_and(|v| matches!(v.to_lowercase().as_str(), "1" | "true" | "yes" | "on"));
    let cached = cached(&model, &wanted, &cache);
    // A folder is known to be complete only if files were asked for.
    if let Ok(folder) = &cached
        && model.is_commit()
        && !wanted.is_empty()
    {
        return Ok(folder.clone());
    }
    if offline {
        return cached
            .map_err(|why| model.error(format!("{why} (offline: HF_HUB_OFFLINE or the option is set)")));
    }
    let also = options.also.iter().map(|f| Wanted::parse(f)).collect::<Result<Vec<_>>>()?;
    let to = Request { model: &model, wanted: &wanted, also: &also, cache: &cache };
    to.bring(&Access::of(options, env, &cache)?, cached)
}

#[cfg(test)]
mod tests {
    use super::model::glob;
    use super::*;
    use crate::error::Error;
    use std::path::Path;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    /// A cache with one model as Python leaves it: links into blobs.
    fn filled() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("models--org--name");
        let snapshot = root.join("snapshots").join(COMMIT);
        std::fs::create_dir_all(snapshot.join("onnx")).unwrap();
        std::fs::create_dir_all(root.join("blobs")).unwrap();
        std::fs::create_dir_all(root.join("refs/refs/pr")).unwrap();
        std::fs::write(root.join("refs/main"), COMMIT).unwrap();
        std::fs::write(root.join("refs/refs/pr/1"), format!("{COMMIT}\n")).unwrap();
        std::fs::write(root.join("refs/evil"), "../../../etc").unwrap();
        std::fs::write(root.join("blobs/e1"), "{}").unwrap();
        std::fs::write(snapshot.join("onnx/model.onnx"), "x").unwrap();
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("../../blobs/e1", snapshot.join("config.json")).unwrap();
            std::os::unix::fs::symlink("../../blobs/gone", snapshot.join("model.safetensors")).unwrap();
        }
        #[cfg(not(unix))]
        std::fs::write(snapshot.join("config.json"), "{}").unwrap();
        dir
    }

    fn offline(cache: &Path) -> HubOptions {
        HubOptions { offline: true, cache: Some(cache.into()), ..HubOptions::default() }
    }

    #[test]
    fn names() {
        let ok = |t: &str| Model::parse(t).map(|m| (m.id, m.revision)).unwrap();
        assert_eq!(ok("org/name"), ("org/name".into(), "main".into()));
        assert_eq!(ok("gpt2@v1.0"), ("gpt2".into(), "v1.0".into()));
        assert_eq!(ok("a/b@refs/pr/1").1, "refs/pr/1");
        for bad in [
            "",
            "a/b/c",
            "../x",
            "a/..",
            "a//b",
            "/etc/passwd",
            "a b",
            "a/b@",
            "a/b@../x",
            "a/b@/x",
            "a@b@c",
            "a/b@x/../y",
        ] {
            assert!(matches!(Model::parse(bad), Err(Error::Config(_))), "{bad}");
        }
        for bad in ["", "../x", "/x", "a/./b", "a\\b", "[ab]", "x|"] {
            assert!(Wanted::parse(bad).is_err(), "{bad}");
        }
        assert!(
            glob(b"model*.safetensors", b"model-00001-of-00002.safetensors")
                && glob(b"*", b"a/b")
                && glob(b"a?c*", b"abc")
        );
        assert!(
            !glob(b"model*.bin", b"model.safetensors")
                && !glob(b"a", b"ab")
                && !glob(b"ab", b"a")
                && !glob(b"?", b"")
        );
        assert!(!glob(&b"*a".repeat(40), &b"a".repeat(39)), "no blow-up");
    }

    #[test]
    fn cache_folders() {
        let of = |vars: &[(&str, &str)]| {
            let vars: Vec<(String, String)> =
                vars.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
            cache_folder(&|n| vars.iter().find(|v| v.0 == n).map(|v| v.1.clone()))
                .map(|p| p.display().to_string())
                .ok()
        };
        assert_eq!(of(&[("HF_HUB_CACHE", "/c"), ("HF_HOME", "/h")]).as_deref(), Some("/c"));
        assert_eq!(of(&[("HF_HOME", "/h"), ("HOME", "/u")]).as_deref(), Some("/h/hub"));
        assert_eq!(of(&[("XDG_CACHE_HOME", "/x"), ("HOME", "/u")]).as_deref(), Some("/x/huggingface/hub"));
        assert_eq!(of(&[("HOME", "/u")]).as_deref(), Some("/u/.cache/huggingface/hub"));
        assert_eq!(of(&[]), None);
    }

    #[test]
    #[cfg(unix)]
    fn from_the_cache() {
        let dir = filled();
        let o = offline(dir.path());
        let snapshot = dir.path().join("models--org--name/snapshots").join(COMMIT);
        for model in ["org/name", "org/name@main", "org/name@refs/pr/1", &format!("org/name@{COMMIT}")] {
            assert_eq!(pull(model, &["config.json", "onnx/*|none"], &o).unwrap(), snapshot, "{model}");
        }
        assert_eq!(pull("org/name", &[], &o).unwrap(), snapshot);
        for (model, file, says) in [
            ("org/name", "model.safetensors", "model.safetensors is not in the cache"),
            ("org/name", "*.safetensors|*.bin", "*.safetensors or *.bin is not in the cache"),
            ("org/name@v2", "config.json", "does not know the revision v2"),
            ("org/name@evil", "config.json", "does not know the revision evil"),
            ("org/other", "config.json", "org/other: not in the cache"),
            ("org/name@ffffffffffffffffffffffffffffffffffffffff", "config.json", "commit fff"),
        ] {
            let e = pull(model, &[file], &o).unwrap_err().to_string();
            assert!(e.contains(says) && e.contains("offline"), "{model} {file}: {e}");
        }
        // By the environment as well, and it is the environment's cache.
        let cache = dir.path().display().to_string();
        let env = |n: &str| match n {
            "HF_HUB_OFFLINE" => Some("1".to_string()),
            "HF_HUB_CACHE" => Some(cache.clone()),
            _ => None,
        };
        assert_eq!(pull_with("org/name", &["config.json"], &HubOptions::default(), &env).unwrap(), snapshot);
        assert!(
            pull_with("org/none", &[], &HubOptions::default(), &env)
                .unwrap_err()
                .to_string()
                .contains("offline")
        );
        // A commit with all its files asks nobody, offline or not.
        let online = HubOptions { endpoint: Some("http://127.0.0.1:1".into()), offline: false, ..o };
        assert_eq!(pull(&format!("org/name@{COMMIT}"), &["config.json"], &online).unwrap(), snapshot);
    }

    #[test]
    fn the_token_is_not_shown() {
        let o = HubOptions { token: Some("hf_secret".into()), ..HubOptions::default() };
        assert!(!format!("{o:?}").contains("secret"));
    }

    #[test]
    #[cfg(not(feature = "hub"))]
    fn without_the_feature_the_error_says_how() {
        let dir = tempfile::tempdir().unwrap();
        let o = HubOptions { cache: Some(dir.path().into()), ..HubOptions::default() };
        let e = pull_with("org/name", &["config.json"], &o, &|_| None).unwrap_err().to_string();
        assert!(e.contains("org/name") && e.contains("the feature `hub`"), "{e}");
    }
}

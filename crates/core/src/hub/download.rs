//! From the Hub into the cache, by `hf-hub`.
//!
//! A branch or tag is resolved to its commit first, and the files of that commit are fetched: a snapshot is
//! never a mixture of two. What comes is checked: sizes as the Hub lists them, and the SHA-256 of large files.

use super::cache::complete;
use super::model::Model;
use super::request::{Access, Request};
use crate::error::Result;
use crate::sha256;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Another process may be downloading the same file: seconds to wait for it.
const PATIENCE: usize = 600;

/// What went wrong.
struct Failure {
    /// The Hub is out of order or out of reach, so what is cached is better than nothing.
    away: bool,
    problem: String,
}

impl Failure {
    fn here(problem: impl Into<String>) -> Self {
        Failure { away: false, problem: problem.into() }
    }
}

/// `/api/models/ID/revision/REVISION?blobs=true`.
#[derive(Deserialize)]
struct Info {
    sha: String,
    siblings: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    rfilename: String,
    size: Option<u64>,
    lfs: Option<Large>,
}

#[derive(Deserialize)]
struct Large {
    sha256: Option<String>,
}

impl Request<'_> {
    pub(super) fn bring(&self, access: &Access, cached: Result<PathBuf, String>) -> Result<PathBuf> {
        match self.download(access) {
            Ok(folder) => Ok(folder),
            // What was fetched before is better than nothing, if it is still whole.
            Err(Failure { away: true, problem }) => {
                cached.and_then(|folder| complete(folder, self.wanted)).map_err(|why| {
                    self.model.error(format!("the Hub does not answer as it should ({problem}), and {why}"))
                })
            }
            Err(Failure { problem, .. }) => Err(self.model.error(problem)),
        }
    }

    fn download(&self, access: &Access) -> Result<PathBuf, Failure> {
        let api = ApiBuilder::from_cache(Cache::new(self.cache.to_path_buf()))
            .with_endpoint(access.endpoint.clone())
            .with_token(access.token.clone())
            .with_user_agent("selfsup", env!("CARGO_PKG_VERSION"))
            .build()
            .map_err(explain)?;
        let info = list(&api, self.model)?;
        let mut chosen: Vec<&Listed> = Vec::new();
        let names: Vec<String> = info.siblings.iter().map(|f| f.rfilename.clone()).collect();
        for (wanted, needed) in
            self.wanted.iter().map(|w| (w, true)).chain(self.also.iter().map(|w| (w, false)))
        {
            let found = wanted.choose(&names);
            if found.is_empty() && needed {
                let some: Vec<&str> = names.iter().take(20).map(String::as_str).collect();
                return Err(Failure::here(format!(
                    "no file {wanted} in this model; it has {}",
                    some.join(", ")
                )));
            }
            chosen.extend(info.siblings.iter().filter(|f| found.contains(&&f.rfilename)));
        }
        if self.wanted.is_empty() {
            chosen = info.siblings.iter().collect();
        }
        let repo = api.repo(at(self.model, &info.sha));
        let folder = self.cache.join(self.model.folder()).join("snapshots").join(&info.sha);
        for file in chosen {
            let path = folder.join(&file.rfilename);
            if !path.is_file() {
                get(&api, &repo, file, &info.sha, &path)?;
            }
        }
        note(&self.cache.join(self.model.folder()), &self.model.revision, &info.sha).map_err(|e| {
            Failure::here(format!("the cache {} cannot be written: {e}", self.cache.display()))
        })?;
        Ok(folder)
    }
}

fn at(model: &Model, revision: &str) -> Repo {
    Repo::with_revision(model.id.clone(), RepoType::Model, revision.to_string())
}

/// The commit of a revision, and its files.
fn list(api: &Api, model: &Model) -> Result<Info, Failure> {
    let broken = |e: &dyn std::fmt::Display| Failure { away: true, problem: format!("its listing: {e}") };
    let answer = api.repo(at(model, &model.revision)).info_request().query("blobs", "true").call();
    let mut answer = answer.map_err(|e| explain(ApiError::from(Box::new(e))))?;
    let text = answer.body_mut().read_to_string().map_err(|e| broken(&e))?;
    let info: Info = serde_json::from_str(&text).map_err(|e| broken(&e))?;
    if info.sha.len() != 40 || !info.sha.chars().all(|c| c.is_ascii_hexdigit()) {
        return Err(broken(&format_args!("commit `{}`", info.sha)));
    }
    // The names become paths below the snapshot.
    let leads_out =
        |f: &str| f.contains(['\\', ':']) || f.split('/').any(|p| p.is_empty() || p == "." || p == "..");
    match info.siblings.iter().find(|f| leads_out(&f.rfilename)) {
        Some(bad) => Err(Failure::here(format!(
            "the Hub lists a file `{}`, which is not a path inside a model",
            bad.rfilename
        ))),
        None => Ok(info),
    }
}

/// Fetches one file to `path`, and removes it again if it is not what the Hub lists.
fn get(api: &Api, repo: &ApiRepo, file: &Listed, commit: &str, path: &Path) -> Result<(), Failure> {
    let name = &file.rfilename;
    let failed = |f: Failure| Failure { problem: format!("{name}: {}", f.problem), ..f };
    // An empty file has no range that could be asked for.
    if file.size == Some(0) {
        let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        return made
            .and_then(|()| std::fs::write(path, b""))
            .map_err(|e| Failure::here(format!("{}: {e}", path.display())));
    }
    // What the server calls a file becomes the name of a blob in the cache.
    let said = api.metadata(&repo.url(name)).map_err(|e| failed(explain(e)))?;
    let plain = |s: &str| !s.is_empty() && s.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    if !plain(said.etag()) || said.commit_hash() != commit {
        return Err(failed(Failure {
            away: true,
            problem: format!("the Hub sends tag `{}`, commit `{}`", said.etag(), said.commit_hash()),
        }));
    }
    let mut waited = 0;
    let delivered = loop {
        match repo.download(name) {
            Err(ApiError::LockAcquisition(_)) if waited < PATIENCE => {
                std::thread::sleep(Duration::from_secs(1));
                waited += 1;
            }
            other => break other.map_err(|e| failed(explain(e)))?,
        }
    };
    let fault = match (std::fs::metadata(&delivered).map(|m| m.len()), file.size) {
        (Err(e), _) => Some(format!("{}: {e}", delivered.display())),
        (Ok(came), Some(size)) if came != size => Some(format!("{came} bytes came, {size} bytes expected")),
        _ => file.lfs.as_ref().and_then(|l| l.sha256.as_ref()).and_then(|listed| {
            let sum = crate::file::open(&delivered).ok().and_then(|f| sha256::of(f).ok()).unwrap_or_default();
            (sum != *listed).then(|| format!("SHA-256 {sum} came, {listed} expected"))
        }),
    };
    let Some(fault) = fault else { return Ok(()) };
    if let Ok(blob) = delivered.canonicalize() {
        let _ = std::fs::remove_file(blob);
    }
    let _ = std::fs::remove_file(&delivered);
    Err(failed(Failure { away: true, problem: fault }))
}

/// Writes the commit that `revision` stands at, aside first.
fn note(root: &Path, revision: &str, commit: &str) -> std::io::Result<()> {
    if revision == commit {
        return Ok(());
    }
    let path = root.join("refs").join(revision);
    let folder = path.parent().unwrap_or(root);
    std::fs::create_dir_all(folder)?;
    let aside = folder.join(format!(".{commit}-{}", std::process::id()));
    std::fs::write(&aside, commit)?;
    std::fs::rename(&aside, &path)
}

/// Whether the Hub was out of order or out of reach, and what went wrong in words that say what to do.
fn explain(e: ApiError) -> Failure {
    let text = e.to_string();
    let status = text.rsplit_once("http status: ").and_then(|(_, code)| code.trim().parse::<u16>().ok());
    let hint = match status {
        Some(401 | 403) => "; set HF_TOKEN to a token that may read it, and accept its terms on its page",
        Some(404) => "; is there such a model and revision, and may HF_TOKEN read it?",
        _ => "",
    };
    let away = !matches!(status, Some(400..500)) && !matches!(e, ApiError::LockAcquisition(_));
    Failure { away, problem: format!("{text}{hint}") }
}

//! What is to be had, from where and with whose token.

use super::model::{Model, Wanted};
use super::options::HubOptions;
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// Address and token: the options, else the environment, else what `hf auth login` left beside the cache.
#[cfg_attr(not(feature = "hub"), allow(dead_code))]
pub(super) struct Access {
    pub(super) endpoint: String,
    pub(super) token: Option<String>,
}

impl Access {
    pub(super) fn of(
        options: &HubOptions,
        env: &dyn Fn(&str) -> Option<String>,
        cache: &Path,
    ) -> Result<Self> {
        let endpoint = options.endpoint.clone().or_else(|| env("HF_ENDPOINT"));
        let endpoint = endpoint.as_deref().unwrap_or("https://huggingface.co").trim_end_matches('/');
        let host = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
        if host.is_none_or(|h| h.is_empty() || h.contains(char::is_whitespace)) {
            return Err(Error::config(format!(
                "HF_ENDPOINT: `{endpoint}` is no address; expected https://HOST"
            )));
        }
        let left = || {
            let file = env("HF_TOKEN_PATH")
                .map(PathBuf::from)
                .or_else(|| cache.parent().map(|home| home.join("token")))?;
            crate::file::text(file).ok()
        };
        let token = options.token.clone().or_else(|| env("HF_TOKEN")).or_else(left);
        Ok(Access {
            endpoint: endpoint.into(),
            token: token.map(|t| t.trim().to_string()).filter(|t| !t.is_empty()),
        })
    }
}

/// What is to come into the cache.
#[cfg_attr(not(feature = "hub"), allow(dead_code))]
pub(super) struct Request<'a> {
    pub(super) model: &'a Model,
    pub(super) wanted: &'a [Wanted],
    pub(super) also: &'a [Wanted],
    pub(super) cache: &'a Path,
}

#[cfg(not(feature = "hub"))]
impl Request<'_> {
    pub(super) fn bring(&self, _: &Access, cached: Result<PathBuf, String>) -> Result<PathBuf> {
        let id = &self.model.id;
        cached.map_err(|why| {
            self.model.error(format!(
                "{why}; this build cannot download: build it with the feature `hub`, or fetch the files \
                 with `hf download {id}`"
            ))
        })
    }
}

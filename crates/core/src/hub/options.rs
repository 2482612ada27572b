//! Where models come from.

use std::path::PathBuf;

/// Where from, where to, and whether at all. What is not set here is taken from the environment.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct HubOptions {
    /// Never ask the network. `HF_HUB_OFFLINE=1` does the same.
    pub offline: bool,
    /// Address of the Hub; else `HF_ENDPOINT`, else `https://huggingface.co`.
    pub endpoint: Option<String>,
    /// For private and gated models; else `HF_TOKEN`, else the file that `hf auth login` writes.
    pub token: Option<String>,
    /// The cache folder; else `HF_HUB_CACHE`, `HF_HOME/hub`, `XDG_CACHE_HOME/huggingface/hub` or
    /// `~/.cache/huggingface/hub`.
    pub cache: Option<PathBuf>,
    /// Files and patterns that come along where the model has them: their absence is no error.
    pub also: Vec<String>,
}

impl std::fmt::Debug for HubOptions {
    /// Without the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let token = self.token.as_ref().map(|_| "(set)");
        let mut s = f.debug_struct("HubOptions");
        s.field("offline", &self.offline)
            .field("endpoint", &self.endpoint)
            .field("token", &token)
            .field("cache", &self.cache)
            .field("also", &self.also)
            .finish()
    }
}

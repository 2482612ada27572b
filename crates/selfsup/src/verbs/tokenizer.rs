//! `selfsup tokenizer train`: a vocabulary from texts.

use selfsup_core::Result;
use std::path::PathBuf;

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Texts: a folder, a file or the name of a data set.
    pub data: String,
    /// The folder to write.
    pub out: PathBuf,
    /// Keys of `[tokenizer]` and `[corpus]` as KEY=VALUE: `kind=bpe`, `vocab_size=8000`,
    /// `corpus.column=body`.
    pub keys: Vec<String>,
}

/// Makes the vocabulary and writes `tokenizer.json` with what transformers wants beside it.
///
/// # Errors
/// If the texts cannot be read, or a key is unknown.
#[cfg(feature = "text")]
pub fn run(request: &Request) -> Result<()> {
    use crate::config::{Keys, PretrainConfig};
    use crate::modality::Modality;
    use crate::modality::text::{Keys as TextKeys, Text};
    use crate::say::say;
    use selfsup_core::Error;
    let key = |k: &String| if k.starts_with("corpus.") { k.clone() } else { format!("tokenizer.{k}") };
    let mut overrides: Vec<String> = request.keys.iter().map(key).collect();
    overrides.push(format!("data.path={}", toml::Value::String(request.data.clone())));
    // All of the texts: nothing is held out here.
    overrides.push("data.hold_out=0".into());
    let mut config = PretrainConfig::<TextKeys>::load("", "command line", &overrides)?;
    config.keys.resolve();
    if config.keys.tokenizer.path.is_some() {
        return Err(Error::config(
            "tokenizer.path names a vocabulary that is there already: leave it out to make one",
        ));
    }
    let text = Text::new(&config)?;
    let tokenizer = text.tokenizer();
    std::fs::create_dir_all(&request.out).map_err(|e| Error::io(&request.out, e))?;
    tokenizer.save(&request.out, None)?;
    let out = request.out.join("tokenizer.json");
    say!("{}: {} tokens", out.display(), tokenizer.size());
    crate::say::result(&serde_json::json!({ "out": out, "tokens": tokenizer.size() }));
    Ok(())
}

/// Without text in the build.
///
/// # Errors
/// Always.
#[cfg(not(feature = "text"))]
pub fn run(_request: &Request) -> Result<()> {
    Err(crate::registry::absent(selfsup_datasets::Kind::Text))
}

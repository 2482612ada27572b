//! `selfsup generate` and `selfsup fill-mask`: a look at what a language model has learnt.

use selfsup_core::Result;
use std::path::PathBuf;

/// What is to be written.
#[derive(Clone, Debug)]
pub struct Request {
    /// A run of the method `causal-lm` or `span-corruption`.
    pub run: PathBuf,
    /// What is gone on with; for a T5 what is read, with `<extra_id_0>`, `<extra_id_1>` ... in the places
    /// that it fills.
    pub prompt: String,
    /// Texts that are written.
    pub samples: u64,
    /// Most tokens of each.
    pub tokens: usize,
    /// 0 for the likeliest token each time.
    pub temperature: f64,
    /// Only the best tokens, this many; 0 for all.
    pub top_k: usize,
    /// Only the fewest tokens whose probabilities reach this.
    pub top_p: f64,
    /// Whether keys and values of earlier tokens are kept: the same text, sooner.
    pub cache: bool,
    /// Another seed, another text.
    pub seed: u64,
    /// `KEY=VALUE` overrides of the run's configuration: `device=cuda:0`.
    pub overrides: Vec<String>,
}

/// Hidden words that are to be guessed.
#[derive(Clone, Debug)]
pub struct FillRequest {
    /// A run of the method `masked-lm`.
    pub run: PathBuf,
    /// A text with `[MASK]` in it, or the mask token of its tokenizer.
    pub text: String,
    /// Guesses for each place.
    pub top: usize,
    /// `KEY=VALUE` overrides of the run's configuration: `device=cuda:0`.
    pub overrides: Vec<String>,
}

#[cfg(feature = "text")]
mod with_text {
    use super::{FillRequest, Request};
    use crate::config::Keys;
    use crate::modality::text::Text;
    use crate::say::say;
    use crate::verbs::{Opened, kind_of_run, open_run};
    use selfsup_core::{Error, Key, Result, Scope};
    use selfsup_datasets::Kind;
    use selfsup_text::encoder::{Gpt2, T5};
    use selfsup_text::fill::fill_mask;
    use selfsup_text::generate::{GenerateConfig, answer, continue_text};
    use selfsup_text::method::MaskedLm;
    use selfsup_text::recipe::{Architecture, MethodConfig};
    use std::path::Path;

    /// A run of texts.
    fn open(dir: &Path, overrides: &[String]) -> Result<Opened<Text>> {
        match kind_of_run(dir)? {
            Kind::Text => open_run::<Text>(dir, overrides),
            other => Err(Error::file(
                dir,
                format!("is a run on {}, expected one on {}", other.samples(), Kind::Text.samples()),
            )),
        }
    }

    /// The trained tensors as a scope: modules that are built in it again get them.
    fn scope(opened: &Opened<Text>) -> Scope {
        Scope::root(opened.method.params(), 0, &opened.device)
    }

    pub fn run(request: &Request) -> Result<()> {
        let opened = open(&request.run, &request.overrides)?;
        let tokenizer = opened.modality.tokenizer();
        let config = GenerateConfig {
            tokens: request.tokens,
            temperature: request.temperature,
            top_k: request.top_k,
            top_p: request.top_p,
            cache: request.cache,
        };
        let end = tokenizer.special().end;
        let mut ids = tokenizer.ids(&request.prompt)?;
        let mut texts = Vec::new();
        for sample in 0..request.samples {
            let key = Key::new(request.seed).named("generate").fold(sample);
            match opened.modality.recipe() {
                (Architecture::Gpt2(shape), MethodConfig::CausalLm(_)) => {
                    let model = Gpt2::new(&scope(&opened).sub("encoder"), shape.clone())?;
                    if ids.is_empty() {
                        // A text begins behind the end of another one.
                        ids.push(end.ok_or_else(|| {
                            Error::input(
                                "prompt",
                                "is empty, and the tokenizer has no token that begins a text",
                            )
                        })?);
                    }
                    let made = continue_text(&model, &ids, end, &config, key)?;
                    texts.push(tokenizer.decode(&[&ids[..], &made].concat())?);
                }
                (Architecture::T5(shape), MethodConfig::SpanCorruption(_)) => {
                    let model = T5::new(&scope(&opened).sub("encoder"), shape.clone())?;
                    let ended = [ids.strip_suffix(&[shape.end]).unwrap_or(&ids), &[shape.end]].concat();
                    texts.push(tokenizer.decode_whole(&answer(&model, &ended, &config, key)?)?);
                }
                (_, method) => {
                    let problem = format!(
                        "was trained by {}, which writes no text: expected causal-lm or span-corruption",
                        method.name()
                    );
                    return Err(Error::file(&request.run, problem));
                }
            }
            if let Some(text) = texts.last() {
                say!("{text}");
            }
        }
        crate::say::result(&serde_json::json!({ "run": request.run, "texts": texts }));
        Ok(())
    }

    pub fn fill(request: &FillRequest) -> Result<()> {
        let opened = open(&request.run, &request.overrides)?;
        let tokenizer = opened.modality.tokenizer();
        let (Architecture::Bert(shape), MethodConfig::MaskedLm(config)) = opened.modality.recipe() else {
            let problem = format!("was trained by {}, expected masked-lm", opened.config.keys.method());
            return Err(Error::file(&request.run, problem));
        };
        let model = MaskedLm::new(&scope(&opened), shape.clone(), config)?;
        let mask = tokenizer
            .special()
            .mask
            .ok_or_else(|| Error::file(&request.run, "its tokenizer has no mask token"))?;
        let name = tokenizer.token(mask).unwrap_or_default();
        let text = request.text.replace("[MASK]", &name);
        if !text.contains(&name) {
            return Err(Error::input(
                "text",
                format!("no {name} in it: write one where words are to be guessed"),
            ));
        }
        let ids = tokenizer.example(&text, None, shape.longest())?.ids;
        let (written, left) = (text.matches(&name).count(), ids.iter().filter(|id| **id == mask).count());
        if left < written {
            return Err(Error::input(
                "text",
                format!(
                    "{} of {written} {name} stand behind the {} tokens that the model reads (of {}): cut the \
                     text in front of them",
                    written - left,
                    shape.longest(),
                    tokenizer.ids(&text)?.len() + tokenizer.around()
                ),
            ));
        }
        let mut places = Vec::new();
        for (place, guesses) in fill_mask(&model, &ids, mask, request.top)?.into_iter().enumerate() {
            let mut words = Vec::new();
            for guess in guesses {
                let word = tokenizer.decode(&[guess.id])?;
                say!("{}\t{:.4}\t{}", place + 1, guess.probability, word.trim());
                words.push(serde_json::json!({ "word": word.trim(), "probability": guess.probability }));
            }
            places.push(words);
        }
        crate::say::result(&serde_json::json!({ "run": request.run, "places": places }));
        Ok(())
    }
}

/// Writes text; each text is a paragraph of its own on the screen.
///
/// # Errors
/// If the run is not one of a model that writes, or the request is impossible.
#[cfg(feature = "text")]
pub fn run(request: &Request) -> Result<()> {
    with_text::run(request)
}

/// Guesses hidden words: a line a guess, the number of its place, its probability, the word.
///
/// # Errors
/// If the run is not one of masked language modelling, or nothing is hidden in the text.
#[cfg(feature = "text")]
pub fn fill(request: &FillRequest) -> Result<()> {
    with_text::fill(request)
}

/// Without text in the build.
///
/// # Errors
/// Always.
#[cfg(not(feature = "text"))]
pub fn run(_request: &Request) -> Result<()> {
    Err(crate::registry::absent(selfsup_datasets::Kind::Text))
}

/// Without text in the build.
///
/// # Errors
/// Always.
#[cfg(not(feature = "text"))]
pub fn fill(_request: &FillRequest) -> Result<()> {
    Err(crate::registry::absent(selfsup_datasets::Kind::Text))
}

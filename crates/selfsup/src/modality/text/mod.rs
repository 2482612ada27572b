//! Texts: `[method]`, `[encoder]`, `[corpus]` and `[tokenizer]` of `selfsup-text`; a vocabulary that is made
//! from the data where none is named; words weighed by TF-IDF as the baseline.

mod answers;
mod corrupt;
mod inputs;
mod packed;
mod pictures;
mod recipes;
mod records;
mod tasks;
mod tokens;
mod tuned;
mod vocabulary;
mod words;

use super::{Corruptible, Draws, Method, Modality, Shows};
use crate::config::{self, PretrainConfig, Read};
use crate::recipe::{Given, Seen};
use crate::set::{Set, Sets, evenly};
use candle_core::Tensor;
use inputs::{Stacked, Tokenised};
use records::{Large, documents, texts};
use selfsup_core::config::Unread;
use selfsup_core::data::{Loader, LoaderConfig, Source};
use selfsup_core::kernels::host::integers;
use selfsup_core::objective::{Batch, Inputs};
use selfsup_core::weights::left_out;
use selfsup_core::{Encoder, Error, Params, Result, Scope};
use selfsup_datasets::{Kind, Reading, Source as Place};
use selfsup_eval::Matrix;
use selfsup_text::batch::{Example, IGNORED, Pad, Sequences};
use selfsup_text::corpus::{CorpusConfig, Prepared, folder_name};
use selfsup_text::corrupt::Corrupt;
use selfsup_text::encoder::BertConfig;
use selfsup_text::export::export;
use selfsup_text::recipe::{Architecture, EncoderConfig, MethodConfig};
use selfsup_text::tokenizer::{Tokenizer, TokenizerConfig};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;
use vocabulary::{Made, for_method, trained_on};

/// `[tokenizer]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TokenizerKeys {
    /// A `tokenizer.json`, a `vocab.json` with `merges.txt`, a `vocab.txt`, a `.model` of sentencepiece, or a
    /// folder with one of them. Without it that of `encoder.pretrained` is taken, or one is made from the
    /// data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// How it is made.
    #[serde(flatten)]
    pub made: TokenizerConfig,
}

impl TokenizerKeys {
    /// The keys of a vocabulary that is made, where the key `instead` names one that is there.
    fn not_made(instead: &'static str) -> Vec<Unread> {
        let all = ["kind", "vocab_size", "min_frequency", "lowercase", "roberta", "sentinels"];
        let why = format!("is read where a vocabulary is made: {instead} names one");
        Unread::all_instead("tokenizer", &all, instead, &why)
    }
}

/// The sections of texts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Keys {
    /// The objective.
    pub method: MethodConfig,
    /// The network.
    pub encoder: EncoderConfig,
    /// From documents to examples.
    pub corpus: CorpusConfig,
    /// From text to tokens.
    pub tokenizer: TokenizerKeys,
}

impl config::Keys for Keys {
    const KIND: Kind = Kind::Text;
    const METHODS: &'static [&'static str] = &MethodConfig::NAMES;

    fn method(&self) -> &str {
        self.method.name()
    }

    fn encoder(&self) -> &str {
        self.encoder.name()
    }

    fn alike(a: &str, b: &str) -> bool {
        EncoderConfig::alike(a, b)
    }

    fn encoder_of(method: &str) -> Option<String> {
        let networks = MethodConfig::named(method).ok()?.network();
        networks.split([',', ' ']).next().map(str::to_string)
    }

    fn outline(&self) -> String {
        let length = self.corpus.length.map_or(String::new(), |n| format!(" on {n} tokens"));
        match self.encoder.shape() {
            (Some(dim), Some(depth)) => format!("{} of {depth} blocks of {dim}{length}", self.encoder.name()),
            _ => format!("{}{length}", self.encoder.name()),
        }
    }

    fn forget_pretrained(&mut self, run: &Path) {
        let pretrained = self.encoder.pretrained().map(str::to_string);
        self.encoder.set_pretrained(super::kept_shape(pretrained, run));
    }

    fn unread(&self, task: Option<&str>) -> Vec<Unread> {
        let mut unread = Vec::new();
        if let Some(folder) = self.encoder.pretrained() {
            let shape = ["dim", "depth", "heads", "mlp_ratio", "embedding_dim", "positions"];
            let why = "is read for a network of random weights: here encoder.pretrained gives the shape";
            unread.extend(Unread::all_instead("encoder", &shape, "encoder.pretrained", why));
            if self.tokenizer.path.is_none() && Tokenizer::is_at(folder) {
                unread.extend(TokenizerKeys::not_made("encoder.pretrained"));
            }
        }
        unread.extend(match &self.tokenizer.path {
            Some(_) => TokenizerKeys::not_made("tokenizer.path"),
            None => self.tokenizer.made.unread(),
        });
        unread.extend(self.corpus.unread(task.is_some()));
        unread
    }

    fn beside(&mut self, run: &Path) {
        let kept = run.join("tokenizer");
        if kept.join("tokenizer.json").is_file() {
            self.tokenizer.path = Some(kept.display().to_string());
        }
    }
}

/// Texts.
pub struct Text {
    keys: Keys,
    tokenizer: Tokenizer,
    architecture: Architecture,
    /// `data.path`, and how it is divided: what decides the tokens of a corpus that is not held in memory.
    divided: Option<(String, String)>,
    reading: Reading,
    /// How texts are corrupted that are measured.
    corrupt: Option<Corrupt>,
    /// The vocabulary that was made.
    made: Option<Made>,
}

impl Text {
    /// What the configuration names; a vocabulary is not made where the one `before` is the same.
    fn with(config: &PretrainConfig<Keys>, before: Option<&Made>) -> Result<Self> {
        let mut keys = config.keys.clone();
        if let Some(name) = keys.encoder.pretrained() {
            // A name on the Hub becomes the folder that it was fetched into.
            let folder = super::weights_path(name)?.display().to_string();
            keys.encoder.set_pretrained(Some(folder));
        }
        let start = keys.encoder.pretrained().map(Path::new);
        let mut made = None;
        let tokenizer = match (&keys.tokenizer.path, start) {
            (Some(path), _) => Tokenizer::load(path)?,
            (None, Some(folder)) if Tokenizer::is_at(folder) => Tokenizer::load(folder)?,
            (None, Some(folder)) => {
                return Err(Error::file(
                    folder,
                    "no tokenizer beside these weights (tokenizer.json, vocab.json with merges.txt, vocab.txt \
                     or a .model), and one made from the data would know other tokens: give tokenizer.path",
                ));
            }
            (None, None) => {
                let new = Made::of(&config.data, &keys.corpus, &keys.tokenizer.made, before)?;
                made.insert(new).tokenizer().clone()
            }
        };
        tokenizer.note().into_iter().for_each(crate::say::note);
        let tokenizer = for_method(tokenizer, &keys.method)?;
        let architecture = keys.encoder.resolve(&tokenizer.vocabulary())?;
        let data = &config.data;
        // A table that holds the texts is in memory whatever its size.
        let in_files = !data.path.is_empty() && data.labels.is_empty();
        let divided = in_files
            .then(|| (data.path.clone(), format!("hold_out {}, limit {}", data.hold_out, data.limit)));
        Ok(Text { keys, tokenizer, architecture, divided, reading: data.reading(), corrupt: None, made })
    }

    /// The tokenizer that was read or made.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    fn prepared(&self, set: &Set) -> Result<Prepared> {
        let corpus = &self.keys.corpus;
        let large = self.divided.as_ref().map(|(path, _)| Large::of(path, corpus)).transpose()?.flatten();
        let kept = match (&large, &self.divided) {
            (Some(large), Some((_, divided))) => {
                let last =
                    set.len().checked_sub(1).map(|i| set.records().id(i)).transpose()?.unwrap_or_default();
                let tokenizer = folder_name(&self.tokenizer.description()?);
                Some(
                    large.tokens(&format!(
                        "{divided}; {} texts up to {last}; tokenizer {tokenizer}",
                        set.len()
                    )),
                )
            }
            _ => None,
        };
        let kept = kept.as_ref().map(|(folder, source)| (folder.as_path(), source.as_str()));
        let tokens = corpus.tokenize(texts(set), &self.tokenizer, kept)?;
        corpus.examples(tokens, &self.tokenizer, &self.keys.method, self.architecture.longest())
    }

    fn longest(&self) -> Result<usize> {
        self.keys.corpus.length(self.architecture.longest())
    }

    /// The network and the method of the configuration.
    pub(crate) fn recipe(&self) -> (&Architecture, &MethodConfig) {
        (&self.architecture, &self.keys.method)
    }

    /// The shape of the encoder, for heads that read both ways.
    fn bert(&self) -> Result<&BertConfig> {
        match &self.architecture {
            Architecture::Bert(c) => Ok(c),
            _ => Err(Error::config(format!(
                "encoder {}: this task has a head for bert, roberta and electra alone",
                self.keys.encoder.name()
            ))),
        }
    }
}

impl Modality for Text {
    type Keys = Keys;
    type Batch = Sequences;

    const RAW: &'static str = "words (TF-IDF)";
    const LAYOUTS: &'static [&'static str] = &["hf"];

    fn new(config: &PretrainConfig<Keys>) -> Result<Self> {
        Text::with(config, None)
    }

    /// The vocabulary stays where it would be made from the same texts in the same way.
    fn again(&self, config: &PretrainConfig<Keys>) -> Result<Self> {
        Text::with(config, self.made.as_ref())
    }

    fn seen(config: &PretrainConfig<Keys>, given: &Given) -> Result<Seen> {
        let set = trained_on(&config.data, &config.keys.corpus)?;
        let looked: Vec<usize> = evenly(LOOKED.min(set.len()), set.len()).collect();
        let mut bytes = 0;
        for &i in &looked {
            if let Place::Bytes(text) = set.records().get(i)?.source {
                bytes += text.len() as u64;
            }
        }
        let bytes = bytes * set.len() as u64 / looked.len().max(1) as u64;
        let Keys { tokenizer, encoder, .. } = &config.keys;
        let released = encoder.pretrained().is_some_and(|p| Path::new(p).join("tokenizer.json").is_file());
        let made = tokenizer.path.is_none() && !released;
        let vocabulary = if made { tokenizer.made.vocab_size } else { 0 };
        let recipes = recipes::recipes(bytes, encoder.name(), vocabulary, given);
        Ok(Seen { data: format!("{:.1} KB", bytes as f64 / 1e3), recipes })
    }

    fn reading(&self) -> Reading {
        self.reading.clone()
    }

    fn keep(&self, run: &Path) -> Result<()> {
        super::keep_shape(self.keys.encoder.pretrained(), run)?;
        let folder = run.join("tokenizer");
        if folder.join("tokenizer.json").is_file() {
            return Ok(());
        }
        std::fs::create_dir_all(&folder).map_err(|e| Error::io(&folder, e))?;
        self.tokenizer.save(&folder, Some(self.architecture.longest().min(1 << 20)))
    }

    fn open(&self, what: &str) -> Result<Set> {
        documents(what, &self.keys.corpus, self.reading.layout)
    }

    fn batches(&self, set: &Set, loader: LoaderConfig) -> Result<Box<dyn Source<Sequences>>> {
        let prepared = self.prepared(set)?;
        Ok(Box::new(prepared.loader(&prepared.train, &self.keys.method, loader)?))
    }

    fn validation(&self, sets: &Sets, loader: LoaderConfig) -> Result<Option<Box<dyn Source<Sequences>>>> {
        // `corpus.validation` cuts the end of the corpus off; else whole documents are held out.
        let (prepared, examples) = if self.keys.corpus.validation > 0.0 {
            let prepared = self.prepared(&sets.train)?;
            let examples = prepared.validation.clone();
            (prepared, examples)
        } else {
            let Some(set) = &sets.held_out else { return Ok(None) };
            match self.prepared(set) {
                Ok(prepared) => {
                    let examples = Some(prepared.train.clone());
                    (prepared, examples)
                }
                // Too little text for one block is no reason to refuse the run.
                Err(e @ Error::TooFew { .. }) => {
                    crate::say::warning(format_args!("no validation loss, too little text is held out: {e}"));
                    return Ok(None);
                }
                Err(e) => return Err(e),
            }
        };
        let Some(examples) = examples.filter(|e| !e.is_empty()) else { return Ok(None) };
        let loader = LoaderConfig { batch_size: loader.batch_size.min(examples.len()), ..loader };
        Ok(Some(Box::new(prepared.loader(&examples, &self.keys.method, loader)?)))
    }

    fn inputs(&self, set: &Set, augment: bool, loader: LoaderConfig) -> Result<Box<dyn Source<Inputs>>> {
        let records = set.records().clone();
        let data = Tokenised {
            records: records.clone(),
            tokenizer: self.tokenizer.clone(),
            longest: self.longest()?,
            whole: !augment,
            corrupt: self.corrupt.filter(|_| !augment),
        };
        if augment {
            let (longer, looked) = data.longer()?;
            if longer > 0 {
                crate::say::warning(format_args!(
                    "{longer} of {looked} texts are longer than {} tokens (corpus.length): training reads \
                     their beginning, measuring and predicting all of them",
                    data.longest
                ));
            }
        }
        let same = Arc::new(|e: Vec<Example>, _: &mut selfsup_core::Rng| Ok(e));
        let pad = Pad { pad: self.tokenizer.vocabulary().pad, length: None };
        Ok(Box::new(Loader::new(Arc::new(data), same, Arc::new(Stacked { pad, records }), loader)?))
    }

    fn features(&self, encoder: &dyn Encoder, batch: &Inputs, _read: Read) -> Result<Tensor> {
        inputs::pooled(encoder, batch)
    }

    fn weights(&self, batch: &Inputs) -> Result<Vec<f64>> {
        inputs::tokens(batch)
    }

    fn method(&self, scope: &Scope) -> Result<Method<Sequences>> {
        self.keys.method.build(scope, &self.architecture)
    }

    fn encoder(&self, scope: &Scope) -> Result<Box<dyn Encoder>> {
        self.architecture.build(scope)
    }

    fn load_pretrained(&self, params: &Params) -> Result<Option<String>> {
        let Some(name) = self.keys.encoder.pretrained() else { return Ok(None) };
        let path = super::weights_path(name)?;
        let report = self.architecture.load(params, "encoder", &path)?;
        Ok(Some(format!("{} of {}", left_out(&report), path.display())))
    }

    fn raw(&self, train: &Set, test: &Set, _loader: &LoaderConfig) -> Result<(Matrix, Matrix)> {
        let words = words::Words::of(train, test.len())?;
        Ok((words.matrix(train, None)?, words.matrix(test, self.corrupt)?))
    }

    fn export(&self, params: &Params, out: &Path, _layout: &str) -> Result<()> {
        export(out, &self.keys.method, &self.architecture, params, Some(&self.tokenizer))
    }

    fn corruptible(&self) -> Option<&dyn Corruptible<Self>> {
        Some(self)
    }

    fn preview(&self, batch: &Sequences, _set: &Set) -> Result<Vec<String>> {
        let mut lines = vec![
            format!(
                "ids: {:?}, {} tokens to predict",
                batch.ids.dims(),
                batch.predicted().iter().sum::<usize>()
            ),
            format!("vocabulary: {} tokens", self.tokenizer.size()),
        ];
        let (seen, wanted) = (first(&batch.ids)?, first(&batch.labels)?);
        let name = |id: i64| {
            u32::try_from(id).ok().and_then(|id| self.tokenizer.token(id)).unwrap_or_else(|| id.to_string())
        };
        lines.push(format!(
            "what the method sees: {}",
            seen.iter().take(48).map(|&i| name(i)).collect::<Vec<_>>().join(" ")
        ));
        let wanted: Vec<String> = wanted.into_iter().filter(|&i| i != IGNORED).take(48).map(name).collect();
        lines.push(format!("what it predicts: {}", wanted.join(" ")));
        let _ = batch.samples();
        Ok(lines)
    }

    fn shows(&self) -> Option<&dyn Shows> {
        Some(self)
    }

    fn draws(&self) -> Option<&dyn Draws<Sequences>> {
        Some(self)
    }
}

/// Texts that are looked at for their lengths.
const LOOKED: usize = 1000;

/// The first row of a matrix of integers.
fn first(t: &Tensor) -> Result<Vec<i64>> {
    Ok(integers(&t.narrow(0, 0, 1)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_datasets::{Record, Records};

    /// Documents, or a failure where there is none.
    struct Held(Vec<Option<&'static str>>);

    impl Records for Held {
        fn len(&self) -> usize {
            self.0.len()
        }
        fn get(&self, index: usize) -> Result<Record> {
            let id = format!("held {index}");
            let text = self.0[index].ok_or_else(|| Error::input(&id, "cannot be read"))?;
            Ok(Record { id, source: Place::Bytes(Arc::from(text.as_bytes())), label: None, group: None })
        }
        fn label(&self, _: usize) -> Option<u32> {
            None
        }
        fn classes(&self) -> &[String] {
            &[]
        }
    }

    #[test]
    fn too_little_text_has_no_validation_loss_and_a_failure_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.txt");
        std::fs::write(&file, "one two three four five six seven\n".repeat(20)).unwrap();
        let keys = [
            format!("data.path={}", toml::Value::String(file.display().to_string())),
            "data.hold_out=0".into(),
            "method.name=causal-lm".into(),
            "tokenizer.kind=characters".into(),
            "encoder.dim=16".into(),
            "encoder.depth=1".into(),
            "encoder.heads=2".into(),
            "corpus.length=16".into(),
        ];
        let text = Text::new(&PretrainConfig::load("", "test", &keys).unwrap()).unwrap();
        let train = text.open(&file.display().to_string()).unwrap();
        let validation = |held_out: Vec<Option<&'static str>>| {
            let sets = Sets { train: train.clone(), held_out: Some(Set::new(Held(held_out))), test: None };
            text.validation(&sets, LoaderConfig { workers: 0, ..LoaderConfig::default() })
        };
        assert!(validation(vec![Some("one two three four five"); 3]).unwrap().is_some());
        assert!(validation(vec![Some("one")]).unwrap().is_none());
        let error = validation(vec![Some("one two three four five"), None]).err().unwrap().to_string();
        assert!(error.contains("held 1"), "{error}");
    }
}

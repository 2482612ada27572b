//! Texts: `[method]`, `[encoder]`, `[corpus]` and `[tokenizer]` of `selfsup-text`; a vocabulary that is made from the data where none is
//! named; words weighed by TF-IDF as the baseline.

use super::{Method, Modality};
use crate::config::{self, PretrainConfig};
use crate::set::{Set, Sets};
use candle_core::Tensor;
use selfsup_core::data::{Collate, Dataset, Loader, LoaderConfig, Source};
use selfsup_core::objective::{Batch, Inputs};
use selfsup_core::run::Display;
use selfsup_core::{Encoder, Error, Init, Key, Params, Result, Scope};
use selfsup_datasets::{Kind, Record, Records, Source as Place};
use selfsup_eval::Matrix;
use selfsup_text::batch::{Example, IGNORED, Pad, Sequences};
use selfsup_text::corpus::{CorpusConfig, Document, Prepared, Reader, files};
use selfsup_text::export::{export, export_task};
use selfsup_text::names::Head;
use selfsup_text::recipe::{Architecture, EncoderConfig, MethodConfig};
use selfsup_text::tokenizer::{Tokenizer, TokenizerConfig, train};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Most words of the baseline, and most values of its matrix: more words would not fit into memory.
const WORDS: usize = 4096;
const VALUES: usize = 1 << 26;

/// `[tokenizer]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TokenizerKeys {
    /// A `tokenizer.json` or a folder with one. Without it that of `encoder.pretrained` is taken, or one is made from the data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// How it is made.
    #[serde(flatten)]
    pub made: TokenizerConfig,
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
        &self.encoder.name
    }

    fn encoder_of(method: &str) -> Option<String> {
        let networks = MethodConfig::named(method).ok()?.network();
        networks.split([',', ' ']).next().map(str::to_string)
    }

    fn forget_pretrained(&mut self, run: &Path) {
        self.encoder.pretrained = super::kept_shape(self.encoder.pretrained.take(), run);
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
}

/// Documents of files, in memory.
struct Documents(Vec<Document>);

impl Records for Documents {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn get(&self, index: usize) -> Result<Record> {
        let d = self.0.get(index).ok_or_else(|| Error::input("texts", format!("there is no text {index} of {}", self.0.len())))?;
        Ok(Record { id: d.id.clone(), source: Place::Bytes(Arc::from(d.text.as_bytes())), label: None, group: None })
    }
    fn id(&self, index: usize) -> Result<String> {
        Ok(self.0.get(index).map(|d| d.id.clone()).unwrap_or_default())
    }
    fn label(&self, _: usize) -> Option<u32> {
        None
    }
    fn classes(&self) -> &[String] {
        &[]
    }
}

/// The text of a record.
fn text_of(records: &dyn Records, index: usize) -> Result<String> {
    let record = records.get(index)?;
    let bytes = record.source.content()?;
    let text = std::str::from_utf8(&bytes).map_err(|e| Error::input(&record.id, format!("is not UTF-8 at byte {}", e.valid_up_to())))?;
    Ok(text.to_string())
}

/// All texts of a set in order.
fn texts(set: &Set) -> impl Iterator<Item = Result<Document>> + Send + '_ {
    let records = set.records();
    (0..set.len()).map(move |i| Ok(Document { id: String::new(), text: text_of(records, i)? }))
}

fn documents(what: &str, corpus: &CorpusConfig) -> Result<Set> {
    let path = Path::new(what);
    if selfsup_datasets::list().iter().any(|c| c.name == what) || !path.exists() {
        return Ok(Set::new(selfsup_datasets::open_kind(what, Kind::Text)?));
    }
    let all: Vec<Document> = Reader::new(files(path)?, corpus.unit, &corpus.column).collect::<Result<_>>()?;
    if all.is_empty() {
        return Err(Error::file(path, "no text: the files are empty"));
    }
    Ok(Set::new(Documents(all)))
}

/// Tokenises the text of a record.
struct Tokenised {
    records: Arc<dyn Records>,
    tokenizer: Tokenizer,
    longest: usize,
}

impl Dataset for Tokenised {
    type Item = Example;

    fn len(&self) -> usize {
        self.records.len()
    }

    fn get(&self, index: usize) -> Result<Example> {
        let example = self.tokenizer.example(&text_of(&self.records, index)?, None, self.longest)?;
        if example.ids.is_empty() {
            return Err(Error::input(self.records.id(index)?, "a text of no tokens"));
        }
        Ok(example)
    }
}

/// Padded ids with the labels of their records.
struct Stacked {
    pad: Pad,
    records: Arc<dyn Records>,
}

impl Collate<Example> for Stacked {
    type Batch = Inputs;

    fn collate(&self, items: Vec<Example>, indices: &[usize], key: Key) -> Result<Inputs> {
        let batch = self.pad.collate(items, indices, key)?;
        let labels = indices.iter().filter_map(|&i| self.records.label(i)).collect();
        Ok(Inputs { x: batch.input()?, valid: batch.valid.clone(), labels, indices: indices.to_vec() })
    }
}

impl Text {
    /// The tokenizer that was read or made.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    fn prepared(&self, set: &Set) -> Result<Prepared> {
        let corpus = &self.keys.corpus;
        let tokens = corpus.tokenize(texts(set), &self.tokenizer, None)?;
        corpus.examples(tokens, &self.tokenizer, &self.keys.method, self.architecture.longest())
    }

    fn longest(&self) -> Result<usize> {
        self.keys.corpus.length(self.architecture.longest())
    }
}

impl Modality for Text {
    type Keys = Keys;
    type Batch = Sequences;

    const RAW: &'static str = "words (TF-IDF)";
    const LAYOUTS: &'static [&'static str] = &["hf"];

    fn new(config: &PretrainConfig<Keys>) -> Result<Self> {
        let keys = config.keys.clone();
        let start = keys.encoder.pretrained.as_deref().map(Path::new).filter(|p| p.join("tokenizer.json").is_file());
        let tokenizer = match (&keys.tokenizer.path, start) {
            (Some(path), _) => Tokenizer::load(path)?,
            (None, Some(folder)) => Tokenizer::load(folder)?,
            (None, None) => {
                let data = if config.data.path.is_empty() { &config.data.labels } else { &config.data.path };
                let set = documents(data, &keys.corpus)?.limit(config.data.limit)?;
                // Only what is trained on: the vocabulary must not know the samples that are held out.
                let (set, _) = set.hold_out(config.data.hold_out, 0)?;
                // Characters are counted, not asked for.
                Display::new(Duration::ZERO).note(&format!("making a vocabulary from {} texts ...", set.len()));
                // The texts as they will be tokenised: with what is set between them.
                train(&keys.tokenizer.made, keys.corpus.texts(texts(&set)))?
            }
        };
        let architecture = keys.encoder.resolve(&tokenizer.vocabulary())?;
        Ok(Text { keys, tokenizer, architecture })
    }

    fn keep(&self, run: &Path) -> Result<()> {
        super::keep_shape(self.keys.encoder.pretrained.as_deref(), run)?;
        let folder = run.join("tokenizer");
        if folder.join("tokenizer.json").is_file() {
            return Ok(());
        }
        std::fs::create_dir_all(&folder).map_err(|e| Error::io(&folder, e))?;
        self.tokenizer.save(&folder, Some(self.architecture.longest().min(1 << 20)))
    }

    fn open(&self, what: &str) -> Result<Set> {
        documents(what, &self.keys.corpus)
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
            // Too little text for one block is no reason to refuse the run.
            let Ok(prepared) = self.prepared(set) else { return Ok(None) };
            let examples = Some(prepared.train.clone());
            (prepared, examples)
        };
        let Some(examples) = examples.filter(|e| !e.is_empty()) else { return Ok(None) };
        let loader = LoaderConfig { batch_size: loader.batch_size.min(examples.len()), ..loader };
        Ok(Some(Box::new(prepared.loader(&examples, &self.keys.method, loader)?)))
    }

    fn inputs(&self, set: &Set, _augment: bool, loader: LoaderConfig) -> Result<Box<dyn Source<Inputs>>> {
        let records = set.records().clone();
        let data = Tokenised { records: records.clone(), tokenizer: self.tokenizer.clone(), longest: self.longest()? };
        let same = Arc::new(|e: Example, _: &mut selfsup_core::Rng| Ok(e));
        let pad = Pad { pad: self.tokenizer.vocabulary().pad, length: None };
        Ok(Box::new(Loader::new(Arc::new(data), same, Arc::new(Stacked { pad, records }), loader)?))
    }

    fn method(&self, scope: &Scope) -> Result<Method<Sequences>> {
        self.keys.method.build(scope, &self.architecture)
    }

    fn encoder(&self, scope: &Scope) -> Result<Box<dyn Encoder>> {
        self.architecture.build(scope)
    }

    fn load_pretrained(&self, params: &Params) -> Result<Option<String>> {
        let Some(name) = &self.keys.encoder.pretrained else { return Ok(None) };
        let path = super::weights_path(name)?;
        let report = self.architecture.load(params, "encoder", &path)?;
        Ok(Some(format!("{} tensors of {}", report.loaded.len(), path.display())))
    }

    fn raw(&self, train: &Set, test: &Set, _loader: &LoaderConfig) -> Result<(Matrix, Matrix)> {
        tf_idf(train, test)
    }

    fn export(&self, params: &Params, out: &Path, _layout: &str) -> Result<()> {
        export(out, &self.keys.method, &self.architecture, params, Some(&self.tokenizer))
    }

    fn export_encoder(&self, params: &Params, out: &Path) -> Result<()> {
        let Architecture::Bert(bert) = &self.architecture else {
            return self.export(params, out, "hf");
        };
        // The heads of a task are not those of the layout.
        let alone = Params::new();
        let scope = Scope::root(&alone, 0, &candle_core::Device::Cpu);
        for (name, tensor) in selfsup_core::weights::export(params, "encoder") {
            let name = format!("encoder.{name}");
            scope.get(&name, tensor.shape(), Init::Const(0.0))?;
            alone.set(&name, &tensor)?;
        }
        export_task(out, bert, Head::None, &alone, &[], Some(&self.tokenizer))
    }

    fn preview(&self, batch: &Sequences) -> Result<Vec<String>> {
        let mut lines = vec![
            format!("ids: {:?}, {} tokens to predict", batch.ids.dims(), batch.predicted().iter().sum::<usize>()),
            format!("vocabulary: {} tokens", self.tokenizer.size()),
        ];
        let (seen, wanted) = (first(&batch.ids)?, first(&batch.labels)?);
        let name = |id: i64| u32::try_from(id).ok().and_then(|id| self.tokenizer.token(id)).unwrap_or_else(|| id.to_string());
        lines.push(format!("what the method sees: {}", seen.iter().take(48).map(|&i| name(i)).collect::<Vec<_>>().join(" ")));
        let wanted: Vec<String> = wanted.into_iter().filter(|&i| i != IGNORED).take(48).map(name).collect();
        lines.push(format!("what it predicts: {}", wanted.join(" ")));
        let _ = batch.samples();
        Ok(lines)
    }
}

/// The first row of a matrix of integers.
fn first(t: &Tensor) -> Result<Vec<i64>> {
    Ok(t.narrow(0, 0, 1)?.flatten_all()?.to_dtype(candle_core::DType::I64)?.to_vec1()?)
}

/// Words in lower case.
fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).map(str::to_lowercase)
}

/// `(1 + log tf) log(n / df)` of the most frequent words of the training texts, rows of length 1 (Salton and Buckley 1988); frequencies are
/// those of the training texts. A column of ones keeps texts without a known word apart from nothing.
fn tf_idf(train: &Set, test: &Set) -> Result<(Matrix, Matrix)> {
    let counts = |set: &Set, i: usize| -> Result<BTreeMap<String, f32>> {
        let mut counts = BTreeMap::new();
        words(&text_of(set.records(), i)?).for_each(|w| *counts.entry(w).or_default() += 1.0);
        Ok(counts)
    };
    let mut frequency: BTreeMap<String, usize> = BTreeMap::new();
    for i in 0..train.len() {
        counts(train, i)?.into_keys().for_each(|w| *frequency.entry(w).or_default() += 1);
    }
    let mut frequent: Vec<(String, usize)> = frequency.into_iter().collect();
    frequent.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    frequent.truncate(WORDS.min(VALUES / (train.len() + test.len()).max(1)).max(64));
    let place: BTreeMap<&str, (usize, f32)> =
        frequent.iter().enumerate().map(|(k, (w, df))| (w.as_str(), (k, (train.len() as f32 / *df as f32).ln() + 1.0))).collect();
    let width = frequent.len() + 1;
    let matrix = |set: &Set| -> Result<Matrix> {
        let mut rows = vec![0f32; set.len() * width];
        for (i, row) in rows.chunks_exact_mut(width).enumerate() {
            for (word, tf) in counts(set, i)? {
                if let Some(&(k, idf)) = place.get(word.as_str()) {
                    row[k] = (1.0 + tf.ln()) * idf;
                }
            }
            let norm = row.iter().map(|v| v * v).sum::<f32>().sqrt().max(1e-6);
            row.iter_mut().for_each(|v| *v /= norm);
            row[width - 1] = 1.0;
        }
        Matrix::new(rows, set.len(), width)
    };
    Ok((matrix(train)?, matrix(test)?))
}

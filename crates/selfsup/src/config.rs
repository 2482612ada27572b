//! The configuration of a pre-training run: the keys of its TOML file. The sections that a modality has of
//! its own (`[method]`, `[encoder]`, `[augment]` ...) are its [`Keys`].

use selfsup_core::device::Device;
use selfsup_core::optim::OptimConfig;
use selfsup_core::trainer::TrainConfig;
use selfsup_core::{Error, Result};
use selfsup_datasets::Kind;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt::Debug;
use std::path::Path;

/// The sections of a modality.
pub trait Keys: Clone + Debug + Default + PartialEq + Serialize + DeserializeOwned + Send + Sync {
    /// The modality.
    const KIND: Kind;
    /// Names of the methods; the first is taken where none is named.
    const METHODS: &'static [&'static str];

    /// Name of the method.
    fn method(&self) -> &str;

    /// Name of the encoder.
    fn encoder(&self) -> &str;

    /// The encoder that goes with a method, where the modality's usual one does not.
    fn encoder_of(_method: &str) -> Option<String> {
        None
    }

    /// Fills in what depends on other keys, so that the written configuration says everything.
    fn resolve(&mut self) {}

    /// Forgets where the initial weights came from: a checkpoint of `run` has them. Where they also gave the
    /// network its shape, that is read from what the run kept ([`crate::modality::Modality::keep`]).
    fn forget_pretrained(&mut self, run: &Path);

    /// Points at the files that a run keeps in its folder (a tokenizer).
    fn beside(&mut self, _run: &Path) {}
}

/// A whole run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, bound = "K: Keys")]
pub struct PretrainConfig<K: Keys> {
    /// `vision`, `text`, `speech` or `medical`.
    #[serde(deserialize_with = "own_kind::<K, _>")]
    pub modality: Kind,
    /// `auto`, `cpu`, `cuda:N` or `metal`.
    pub device: Device,
    /// What is read.
    pub data: DataConfig,
    /// What the modality asks for.
    #[serde(flatten)]
    pub keys: K,
    /// The loop.
    pub train: TrainConfig,
    /// The optimiser and its schedule.
    pub optim: OptimConfig,
    /// What is measured.
    pub eval: EvalConfig,
}

/// Reads the modality of a configuration whose sections are `K`'s: it has no other.
///
/// # Errors
/// If the name is another's.
pub fn own_kind<'de, K: Keys, D: Deserializer<'de>>(deserializer: D) -> Result<Kind, D::Error> {
    Kind::among(&String::deserialize(deserializer)?, &[K::KIND]).map_err(serde::de::Error::custom)
}

/// `[data]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// A folder, a file, or the name of a data set.
    pub path: String,
    /// Labelled data to test on; where it is empty and labels exist, a share of `path` is held out.
    pub test: String,
    /// A table (CSV, TSV, JSON lines) of labels, groups and splits of the samples in `path`.
    pub labels: String,
    /// Share that is held out of training, whole groups at a time: for the validation loss, and for testing
    /// where there is no `test`.
    pub hold_out: f64,
    /// At most this many samples, evenly over the whole; 0 for all.
    pub limit: usize,
    /// Largest image that is decoded, in pixels.
    pub max_pixels: u64,
}

impl Default for DataConfig {
    fn default() -> Self {
        DataConfig {
            path: String::new(),
            test: String::new(),
            labels: String::new(),
            hold_out: 0.1,
            limit: 0,
            max_pixels: 100_000_000,
        }
    }
}

/// What is read off an encoder for each sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Read {
    /// Its own summary: the mean of the last frames, the class token.
    #[default]
    Pooled,
    /// Mean and standard deviation over time of every block, side by side; of recordings only. What is not
    /// about phones (the voice, the language, the room) is clearer in the first blocks (SUPERB, arXiv
    /// 2105.01051, reads all of them), and in how much they vary.
    Statistics,
}

/// `[eval]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvalConfig {
    /// Neighbours of the kNN vote.
    pub knn_k: usize,
    /// Temperature of its weights.
    pub knn_temperature: f64,
    /// Numbers of labels for which the linear probe is repeated.
    pub few: Vec<usize>,
    /// Class-balanced draws of each.
    pub draws: usize,
    /// Inverse strength of the L2 penalty of the linear probe on all labels.
    pub c: f64,
    /// Samples of each side for the kNN accuracy during training; 0 for none.
    pub online_knn: usize,
    /// Samples that are encoded at once.
    pub batch_size: usize,
    /// What is read off the encoder, for every number of this section and for `selfsup embed`.
    pub read: Read,
}

impl Default for EvalConfig {
    fn default() -> Self {
        EvalConfig {
            knn_k: 20,
            knn_temperature: 0.1,
            few: vec![100, 1000],
            draws: 10,
            c: 0.1,
            online_knn: 2000,
            batch_size: 256,
            read: Read::Pooled,
        }
    }
}

impl<K: Keys> PretrainConfig<K> {
    /// Reads a file's text with overrides.
    ///
    /// # Errors
    /// Naming the key that is unknown or has a wrong value.
    pub fn load(text: &str, file: &str, overrides: &[String]) -> Result<Self> {
        let mut all = vec![format!("modality={}", K::KIND)];
        // Keys of a method may be given without its name: then it is the modality's first.
        let method = named(text, overrides, "method");
        if method.is_none()
            && let Some(first) = K::METHODS.first()
        {
            all.push(format!("method.name=\"{first}\""));
        }
        if named(text, overrides, "encoder").is_none()
            && let Some(name) = method.and_then(|m| K::encoder_of(&m))
        {
            all.push(format!("encoder.name=\"{name}\""));
        }
        all.extend_from_slice(overrides);
        let other = of_another_method(text, overrides);
        let mut c: Self = selfsup_core::config::load(other.as_deref().unwrap_or(text), file, &all)?;
        c.keys.resolve();
        if c.eval.read != Read::Pooled && K::KIND != Kind::Speech {
            return Err(Error::config(format!(
                "eval.read = \"statistics\" is for recordings: expected \"pooled\" for {}",
                K::KIND.samples()
            )));
        }
        Ok(c)
    }
}

/// The text without its `[method]`, if the command line names another method: the keys of one mean nothing to
/// the other.
fn of_another_method(text: &str, overrides: &[String]) -> Option<String> {
    let stated = named(text, &[], "method")?;
    if named(text, overrides, "method")? == stated {
        return None;
    }
    let mut table = text.parse::<toml::Table>().ok()?;
    table.remove("method");
    toml::to_string(&table).ok()
}

/// The modality that a configuration states, if it does. Slices of volumes (`volumes.slices`) are images,
/// whatever it says besides.
///
/// # Errors
/// If it states one that does not exist.
pub fn stated_kind(text: &str, overrides: &[String]) -> Result<Option<Kind>> {
    let given = overrides.iter().rev().find_map(|o| o.strip_prefix("modality="));
    let table = text.parse::<toml::Table>().unwrap_or_default();
    let sliced = table.get("volumes").is_some_and(|v| v.get("slices").is_some());
    if sliced || overrides.iter().any(|o| o.starts_with("volumes.slices=")) {
        return Ok(Some(Kind::Vision));
    }
    let stated = given
        .map(|v| v.trim().trim_matches('"'))
        .or_else(|| table.get("modality").map(|v| v.as_str().unwrap_or("")));
    stated.map(Kind::named).transpose()
}

/// `name` of the section `part` (`method`, `encoder`), where a configuration gives it.
pub fn named(text: &str, overrides: &[String], part: &str) -> Option<String> {
    let key = format!("{part}.name=");
    if let Some(given) = overrides.iter().rev().find_map(|o| o.strip_prefix(&key)) {
        return Some(given.trim().trim_matches('"').to_string());
    }
    let table = text.parse::<toml::Table>().ok()?;
    Some(table.get(part)?.get("name")?.as_str().unwrap_or_default().to_string())
}

/// `KEY=VALUE` for every key of `defaults` that `given` does not set: defaults that stand behind a file.
/// Tables are descended into; `[method]` is taken or left whole, since its keys depend on its name.
pub fn behind(given: &toml::Table, defaults: &toml::Table) -> Vec<String> {
    fn walk(given: Option<&toml::Value>, default: &toml::Value, path: &str, out: &mut Vec<String>) {
        match (given, default) {
            (Some(toml::Value::Table(_)), toml::Value::Table(_)) if path == "method" => {}
            (None, toml::Value::Table(d)) => {
                for (key, value) in d {
                    walk(None, value, &format!("{path}.{key}"), out);
                }
            }
            (Some(toml::Value::Table(g)), toml::Value::Table(d)) => {
                for (key, value) in d {
                    walk(g.get(key), value, &format!("{path}.{key}"), out);
                }
            }
            (None, value) => out.push(format!("{path}={value}")),
            _ => {}
        }
    }
    let mut out = Vec::new();
    for (key, value) in defaults {
        walk(given.get(key), value, key, &mut out);
    }
    out
}

/// A text as a TOML table.
///
/// # Errors
/// If it is none; the message names `file`.
pub fn parse(text: &str, file: &str) -> Result<toml::Table> {
    text.parse().map_err(|e: toml::de::Error| Error::config(format!("{file}: {}", e.message().trim_end())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_stand_behind_what_is_given() {
        let table = |t: &str| t.parse::<toml::Table>().unwrap();
        let defaults = table(
            "a = 1\n[train]\nepochs = 5\nlist = [1, 2]\n[train.deep]\nx = \"y\"\n[method]\nname = \"m\"\nk = 1",
        );
        let given = table("a = 2\n[train]\nepochs = 7\n[method]\nname = \"other\"");
        assert_eq!(behind(&given, &defaults), ["train.list=[1, 2]", "train.deep.x=\"y\""]);
        assert_eq!(behind(&table(""), &defaults).len(), 6);
    }

    #[test]
    fn another_method_leaves_the_keys_of_the_first_behind() {
        let text = "[train]\nepochs = 3\n[method]\nname = \"simclr\"\ntemperature = 0.2\n";
        let other = of_another_method(text, &["method.name=byol".into()]).unwrap();
        assert!(other.contains("epochs = 3") && !other.contains("temperature"), "{other}");
        assert_eq!(
            of_another_method(text, &["method.name=\"simclr\"".into(), "method.temperature=0.1".into()]),
            None
        );
        assert_eq!(of_another_method("[train]\nepochs = 3", &["method.name=byol".into()]), None);
    }

    #[test]
    fn stated_modalities_and_methods() {
        assert_eq!(stated_kind("modality = \"text\"", &[]).unwrap(), Some(Kind::Text));
        assert_eq!(
            stated_kind("modality = \"text\"", &["modality=speech".into()]).unwrap(),
            Some(Kind::Speech)
        );
        assert_eq!(stated_kind("[train]", &[]).unwrap(), None);
        assert!(stated_kind("modality = \"smell\"", &[]).is_err());
        assert_eq!(
            stated_kind("modality = \"medical\"\n[volumes]\nslices = \"axial\"", &[]).unwrap(),
            Some(Kind::Vision)
        );
        assert_eq!(stated_kind("", &["volumes.slices=axial".into()]).unwrap(), Some(Kind::Vision));
        assert_eq!(named("[method]\nname = \"mae\"", &[], "method").as_deref(), Some("mae"));
        assert_eq!(named("", &["method.name=\"byol\"".into()], "method").as_deref(), Some("byol"));
    }
}

//! Writing what a user takes away: a folder that transformers opens, with `config.json`, `model.safetensors`
//! and the tokenizer's files.

use crate::encoder::{BertConfig, Family, Gpt2, T5};
use crate::folder;
use crate::method::ElectraConfig;
use crate::names::{Head, architecture, layout};
use crate::recipe::{Architecture, MethodConfig};
use crate::tokenizer::Tokenizer;
use candle_core::Tensor;
use selfsup_core::checkpoint::{save_safetensors, write_atomic};
use selfsup_core::weights;
use selfsup_core::{Error, Params, Result};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

type Tensors = BTreeMap<String, Tensor>;

/// Writes the model that `method` has trained in `params` into `folder`: with its head, so that training goes
/// on elsewhere too, and for ELECTRA the generator into the folder `generator` within.
///
/// # Errors
/// If a file cannot be written, or the parameters are not those of the method and the network.
pub fn export(
    folder: &Path,
    method: &MethodConfig,
    network: &Architecture,
    params: &Params,
    tokenizer: Option<&Tokenizer>,
) -> Result<()> {
    match (method, network) {
        (MethodConfig::MaskedLm(c), Architecture::Bert(e)) => save(
            folder,
            e,
            Head::MaskedLm,
            c.next_sentence,
            weights::export(params, ""),
            tokenizer,
            network.longest(),
        ),
        (MethodConfig::Electra(c), Architecture::Bert(e)) => electra(folder, e, c, params, tokenizer),
        (MethodConfig::Simcse(_), Architecture::Bert(e)) => {
            save(folder, e, Head::None, false, weights::export(params, ""), tokenizer, network.longest())
        }
        (MethodConfig::CausalLm(_), Architecture::Gpt2(c)) => {
            folder::save(params, "encoder", folder, &Gpt2::rules()?, "transformer", &c.to_hf())?;
            tokenizer.map_or(Ok(()), |t| t.save(folder, Some(c.positions)))
        }
        (MethodConfig::SpanCorruption(_), Architecture::T5(c)) => {
            folder::save(params, "encoder", folder, &T5::rules(c.tied)?, "", &c.to_hf())?;
            // Relative positions have no longest sequence.
            tokenizer.map_or(Ok(()), |t| t.save(folder, None))
        }
        _ => Err(Error::config(format!("method {} has not trained a network of this kind", method.name()))),
    }
}

/// Writes a task's model: [`SequenceClassifier`](crate::task::SequenceClassifier),
/// [`TokenClassifier`](crate::task::TokenClassifier) or [`AnswerFinder`](crate::task::AnswerFinder) as `head`
/// says, with the names of its classes where it has some.
///
/// # Errors
/// If a file cannot be written.
pub fn export_task(
    folder: &Path,
    bert: &BertConfig,
    head: Head,
    params: &Params,
    classes: &[String],
    tokenizer: Option<&Tokenizer>,
) -> Result<()> {
    let mut config = bert.to_hf(architecture(bert.family, head, false));
    if !classes.is_empty() {
        config["id2label"] = classes
            .iter()
            .enumerate()
            .map(|(i, c)| (i.to_string(), Value::from(c.as_str())))
            .collect::<serde_json::Map<_, _>>()
            .into();
        config["label2id"] = classes
            .iter()
            .enumerate()
            .map(|(i, c)| (c.clone(), Value::from(i)))
            .collect::<serde_json::Map<_, _>>()
            .into();
    }
    write(
        folder,
        &config,
        layout(bert.family, head).to_theirs(weights::export(params, ""))?,
        tokenizer,
        bert.longest(),
    )
}

fn electra(
    folder: &Path,
    bert: &BertConfig,
    c: &ElectraConfig,
    params: &Params,
    tokenizer: Option<&Tokenizer>,
) -> Result<()> {
    let bert = BertConfig { family: Family::Electra, ..bert.clone() };
    let (generator, discriminator): (Tensors, Tensors) =
        weights::export(params, "").into_iter().partition(|(name, _)| name.starts_with("generator."));
    // The generator's embeddings are the discriminator's.
    let shared = discriminator.iter().filter(|(name, _)| name.starts_with("encoder.embeddings."));
    let mut small: Tensors = shared.map(|(name, t)| (name.clone(), t.clone())).collect();
    for (name, t) in generator {
        let name = name.trim_start_matches("generator.");
        small.insert(if name.starts_with("head.") { name.to_string() } else { format!("encoder.{name}") }, t);
    }
    save(folder, &bert, Head::Discriminator, false, discriminator, tokenizer, bert.longest())?;
    let within = folder.join("generator");
    save(&within, &c.generator(&bert), Head::MaskedLm, false, small, tokenizer, bert.longest())
}

fn save(
    folder: &Path,
    bert: &BertConfig,
    head: Head,
    next: bool,
    mut tensors: Tensors,
    tokenizer: Option<&Tokenizer>,
    longest: usize,
) -> Result<()> {
    // A projection that training alone needs stays behind.
    tensors.retain(|name, _| !name.starts_with("projector."));
    let config = bert.to_hf(architecture(bert.family, head, next));
    write(folder, &config, layout(bert.family, head).to_theirs(tensors)?, tokenizer, longest)
}

fn write(
    folder: &Path,
    config: &Value,
    tensors: Tensors,
    tokenizer: Option<&Tokenizer>,
    longest: usize,
) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
    let tensors: Vec<(String, Tensor)> = tensors.into_iter().collect();
    save_safetensors(folder.join("model.safetensors"), &tensors)?;
    let text = serde_json::to_string_pretty(config).map_err(|e| Error::Other(e.to_string()))? + "\n";
    let path = folder.join("config.json");
    write_atomic(&path, |f| f.write_all(text.as_bytes()).map_err(|e| Error::io(&path, e)))?;
    match tokenizer {
        Some(tokenizer) => tokenizer.save(folder, Some(longest)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Vocabulary;
    use crate::hf;
    use crate::recipe::{BertKeys, EncoderConfig};
    use candle_core::Device;
    use selfsup_core::Scope;

    fn vocabulary() -> Vocabulary {
        Vocabulary {
            size: 30,
            mask: Some(4),
            special: vec![0, 1, 2, 3, 4],
            end: Some(3),
            sentinels: vec![28, 29],
            ..Vocabulary::default()
        }
    }

    /// What is written is read again: the encoder with all its values, by whoever starts from the folder.
    #[test]
    fn a_folder_is_a_start() -> Result<()> {
        let methods = [
            ("bert", "masked-lm"),
            ("roberta", "masked-lm"),
            ("electra", "electra"),
            ("bert", "simcse"),
            ("gpt2", "causal-lm"),
        ];
        for (name, method) in methods {
            let mut keys =
                serde_json::json!({"name": name, "dim": 16, "depth": 2, "heads": 4, "positions": 12});
            if name == "electra" {
                keys["embedding_dim"] = 8.into();
            }
            let shape: EncoderConfig =
                serde_json::from_value(keys).map_err(|e| Error::Other(e.to_string()))?;
            let (network, method) = (shape.resolve(&vocabulary())?, MethodConfig::named(method)?);
            let params = Params::new();
            method.build(&Scope::root(&params, 5, &Device::Cpu), &network)?;
            let dir = tempfile::tempdir().map_err(|e| Error::io("tempdir", e))?;
            export(dir.path(), &method, &network, &params, None)?;
            let mut start = EncoderConfig::default();
            start.set_pretrained(Some(dir.path().display().to_string()));
            let read = start.resolve(&vocabulary())?;
            let larger = start
                .resolve(&Vocabulary { size: 31, ..vocabulary() })
                .err()
                .map(|e| e.to_string())
                .unwrap_or_default();
            assert!(larger.contains("31 tokens") && larger.contains("of 30"), "{larger}");
            let other = Params::new();
            read.build(&Scope::root(&other, 6, &Device::Cpu).sub("encoder"))?;
            read.load(&other, "encoder", dir.path())?;
            for p in other.all() {
                let old = params.get(&p.name).ok_or_else(|| Error::input(&p.name, "was not there"))?;
                let gap = (p.var.as_tensor() - old.var.as_tensor())?.abs()?.sum_all()?.to_scalar::<f32>()?;
                assert_eq!(gap, 0.0, "{name}: {}", p.name);
            }
            if method.name() == "electra" {
                let value = hf::read_config(&dir.path().join("generator"))?;
                let small = BertConfig::from_hf(&value, dir.path())?;
                assert_eq!(
                    (small.dim, small.heads, small.embedding_dim, value["architectures"][0].as_str()),
                    (4, 1, 8, Some("ElectraForMaskedLM"))
                );
                let tensors =
                    hf::read_weights(&dir.path().join("generator"), Family::Electra, Head::MaskedLm)?;
                assert!(
                    tensors.contains_key("head.bias")
                        && tensors.contains_key("encoder.embeddings.word.weight")
                );
            }
        }
        Ok(())
    }

    #[test]
    fn a_network_of_another_kind_is_refused() -> Result<()> {
        let small = BertKeys { dim: Some(16), depth: Some(1), heads: Some(1), ..BertKeys::default() };
        let network = EncoderConfig::from(small).resolve(&vocabulary())?;
        let e =
            export(Path::new("nowhere"), &MethodConfig::named("causal-lm")?, &network, &Params::new(), None);
        assert!(e.err().map(|e| e.to_string()).unwrap_or_default().contains("causal-lm"));
        Ok(())
    }
}

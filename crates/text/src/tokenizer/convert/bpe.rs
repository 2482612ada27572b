//! `vocab.json` and `merges.txt`: byte-level BPE of GPT-2 and RoBERTa.

use super::super::parts::part;
use super::settings::Settings;
use selfsup_core::file::read_up_to;
use selfsup_core::{Error, Result};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use tokenizers::models::ModelWrapper;
use tokenizers::models::bpe::BPE;
use tokenizers::{DecoderWrapper, PostProcessorWrapper, PreTokenizerWrapper};

const MAX: u64 = 256 << 20;
/// Ids are below this: a model has an embedding for each.
const MAX_ID: u32 = 1 << 24;

/// The tokenizer, and what it is.
pub(super) fn convert(
    vocabulary: &Path,
    merges: &Path,
    settings: &Settings,
) -> Result<(tokenizers::Tokenizer, String)> {
    let bytes = read_up_to(vocabulary, MAX)?;
    let ids: BTreeMap<String, u32> = serde_json::from_slice(&bytes)
        .map_err(|e| Error::file(vocabulary, format!("expected an object of pieces and their ids: {e}")))?;
    if let Some((piece, id)) = ids.iter().find(|(_, id)| **id >= MAX_ID) {
        return Err(Error::file(vocabulary, format!("{piece} has the id {id}, expected less than {MAX_ID}")));
    }
    if !ids.contains_key("Ġ") || ids.keys().any(|t| t.ends_with("</w>")) {
        return Err(Error::file(
            vocabulary,
            "not byte-level BPE (GPT-2, RoBERTa): convert it once with transformers' \
             AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER), which writes tokenizer.json",
        ));
    }
    let pairs = pairs(merges)?;
    let roberta = match settings.family.as_str() {
        "gpt2" => false,
        family if ["roberta", "bart", "longformer"].iter().any(|f| family.contains(f)) => true,
        _ => ids.contains_key("<s>") && ids.contains_key("</s>"),
    };
    let model = BPE::builder()
        .vocab_and_merges(ids.into_iter().collect::<tokenizers::models::bpe::Vocab>(), pairs)
        .build()
        .map_err(|e| Error::file(merges, format!("does not belong to vocab.json: {e}")))?;
    let mut inner = tokenizers::Tokenizer::new(ModelWrapper::BPE(model));
    let space = settings.flag("add_prefix_space").unwrap_or(false);
    let level = |space: bool| json!({"type": "ByteLevel", "add_prefix_space": space, "trim_offsets": true, "use_regex": true});
    inner.with_pre_tokenizer(Some(part::<PreTokenizerWrapper>(level(space))?));
    inner.with_decoder(Some(part::<DecoderWrapper>(level(true))?));
    if !roberta {
        let usual =
            [("bos_token", "<|endoftext|>"), ("eos_token", "<|endoftext|>"), ("unk_token", "<|endoftext|>")];
        let more = [("pad_token", "<|endoftext|>"), ("mask_token", "<mask>")];
        let inner = settings.with_roles(inner, &[&usual[..], &more].concat())?;
        return Ok((inner, "GPT-2's byte-level BPE".into()));
    }
    let around = |key: &str, usual: &str| -> Result<(String, u32)> {
        let token = settings.named(key, usual);
        let id = inner.token_to_id(&token);
        let id = id.ok_or_else(|| Error::file(vocabulary, format!("has no {token} ({key})")))?;
        Ok((token, id))
    };
    let post: PostProcessorWrapper = part(json!({
        "type": "RobertaProcessing", "sep": around("sep_token", "</s>")?, "cls": around("cls_token", "<s>")?,
        "trim_offsets": true, "add_prefix_space": space,
    }))?;
    inner.with_post_processor(Some(post));
    let usual = [
        ("bos_token", "<s>"),
        ("cls_token", "<s>"),
        ("pad_token", "<pad>"),
        ("eos_token", "</s>"),
        ("sep_token", "</s>"),
        ("unk_token", "<unk>"),
        ("mask_token", "<mask>"),
    ];
    Ok((settings.with_roles(inner, &usual)?, "RoBERTa's byte-level BPE".into()))
}

/// The merges of a file: two pieces a line, behind a line with the version.
fn pairs(file: &Path) -> Result<Vec<(String, String)>> {
    let text = String::from_utf8(read_up_to(file, MAX)?).map_err(|_| Error::file(file, "not UTF-8"))?;
    let version = |i: usize, line: &str| i == 0 && line.starts_with("#version");
    let lines = text.lines().enumerate().filter(|(i, l)| !l.is_empty() && !version(*i, l));
    lines
        .map(|(i, line)| match line.split_once(' ') {
            Some((a, b)) if !a.is_empty() && !b.is_empty() && !b.contains(' ') => Ok((a.into(), b.into())),
            _ => Err(Error::file(
                file,
                format!("line {}: expected two pieces with a space between them", i + 1),
            )),
        })
        .collect()
}

//! `vocab.txt` of BERT and ELECTRA: a piece a line, its id the number of the line.

use super::super::parts::{part, template};
use super::settings::Settings;
use selfsup_core::file::read_up_to;
use selfsup_core::{Error, Result};
use serde_json::{Map, Value, json};
use std::path::Path;
use tokenizers::models::ModelWrapper;
use tokenizers::{DecoderWrapper, NormalizerWrapper, PreTokenizerWrapper};

const MAX: u64 = 256 << 20;

/// The tokenizer, and what it is.
pub(super) fn convert(file: &Path, settings: &Settings) -> Result<(tokenizers::Tokenizer, String)> {
    let text = String::from_utf8(read_up_to(file, MAX)?).map_err(|_| Error::file(file, "not UTF-8"))?;
    let lines: Vec<&str> = text.lines().collect();
    let unknown = settings.named("unk_token", "[UNK]");
    for needed in
        [unknown.clone(), settings.named("cls_token", "[CLS]"), settings.named("sep_token", "[SEP]")]
    {
        if !lines.contains(&needed.as_str()) {
            return Err(Error::file(
                file,
                format!("has no line {needed}: expected a vocabulary of BERT, a piece of a word a line"),
            ));
        }
    }
    // Capital letters in pieces tell a cased vocabulary, where nothing else does.
    let special = |t: &&&str| t.starts_with(['[', '<']);
    let capitals = lines
        .iter()
        .filter(|t| !special(t) && t.chars().any(|c| c.is_uppercase() && c.is_alphabetic()))
        .count();
    let lower = settings.flag("do_lower_case").unwrap_or(capitals * 100 < lines.len());
    // Of a line that stands twice the last counts, as in transformers.
    let vocabulary: Map<String, Value> =
        lines.iter().enumerate().map(|(i, t)| ((*t).to_string(), i.into())).collect();
    let model: ModelWrapper = part(json!({
        "type": "WordPiece", "unk_token": unknown, "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100, "vocab": vocabulary,
    }))?;
    let mut inner = tokenizers::Tokenizer::new(model);
    let normalizer: NormalizerWrapper = part(json!({
        "type": "BertNormalizer", "clean_text": true, "lowercase": lower,
        "handle_chinese_chars": settings.flag("tokenize_chinese_chars").unwrap_or(true),
        "strip_accents": settings.flag("strip_accents"),
    }))?;
    inner.with_normalizer(Some(normalizer)).map_err(|e| Error::file(file, e))?;
    inner.with_pre_tokenizer(Some(part::<PreTokenizerWrapper>(json!({"type": "BertPreTokenizer"}))?));
    let decoder = json!({"type": "WordPiece", "prefix": "##", "cleanup": true});
    inner.with_decoder(Some(part::<DecoderWrapper>(decoder)?));
    let (cls, sep) = (settings.named("cls_token", "[CLS]"), settings.named("sep_token", "[SEP]"));
    let around =
        template(&format!("{cls} A {sep}"), &format!("{cls} A {sep} B:1 {sep}:1"), |t| inner.token_to_id(t));
    inner.with_post_processor(Some(around?));
    let usual = [
        ("pad_token", "[PAD]"),
        ("unk_token", "[UNK]"),
        ("cls_token", "[CLS]"),
        ("sep_token", "[SEP]"),
        ("mask_token", "[MASK]"),
    ];
    let case = if lower { "lower case" } else { "cased" };
    Ok((settings.with_roles(inner, &usual)?, format!("BERT's WordPiece, {case}")))
}

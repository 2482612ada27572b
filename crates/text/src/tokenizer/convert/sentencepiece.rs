//! Models of sentencepiece (Kudo and Richardson 2018, arXiv 1808.06226): pieces with scores, the rules that
//! make a text regular, and the kind of model, in a protocol buffer (`sentencepiece_model.proto`).

use super::super::parts::{part, template};
use super::proto::{Fields, Value};
use super::settings::Settings;
use selfsup_core::file::read_up_to;
use selfsup_core::{Error, Result};
use serde_json::{Value as Json, json};
use std::collections::HashMap;
use std::path::Path;
use tokenizers::models::ModelWrapper;
use tokenizers::models::bpe::BPE;
use tokenizers::models::unigram::Unigram;
use tokenizers::normalizers::Precompiled;
use tokenizers::{AddedToken, DecoderWrapper, NormalizerWrapper, PreTokenizerWrapper};

const MAX: u64 = 64 << 20;
/// Longer pieces (sentencepiece makes some of 16 characters) are refused: BPE looks at all ways to cut them.
const LONGEST_PIECE: usize = 256;
/// What T5 adds behind its pieces, where no file says.
const T5_SENTINELS: u64 = 100;

/// Kinds of pieces, and of models.
const UNKNOWN: u64 = 2;
const CONTROL: u64 = 3;
const USER: u64 = 4;
const BYTE: u64 = 6;
const UNIGRAM: u64 = 1;
const MERGES: u64 = 2;

struct Piece {
    text: String,
    score: f64,
    kind: u64,
}

struct Model {
    pieces: Vec<Piece>,
    kind: u64,
    bytes: bool,
    within_words: bool,
    rules: Vec<u8>,
    prefix: bool,
    trim: bool,
}

/// The tokenizer, and what it is.
pub(super) fn convert(file: &Path, settings: &Settings) -> Result<(tokenizers::Tokenizer, String)> {
    let wrong = |why: String| Error::file(file, why);
    let fairseq = match settings.family.as_str() {
        "" | "t5" | "mt5" | "umt5" | "google/t5" => false,
        "xlmroberta" | "xlmrobertaxl" => true,
        other => {
            return Err(wrong(format!(
                "the ids of {other} do not follow from this file alone: convert it once with transformers' \
                 AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER), which writes tokenizer.json"
            )));
        }
    };
    let mut model = parse(&read_up_to(file, MAX)?)
        .map_err(|why| wrong(format!("not a model of sentencepiece: {why}")))?;
    if fairseq {
        // XLM-RoBERTa's own first pieces, in the place of sentencepiece's three.
        let own = ["<s>", "<pad>", "</s>", "<unk>"].map(|text| Piece {
            text: text.into(),
            score: 0.0,
            kind: if text == "<unk>" { UNKNOWN } else { CONTROL },
        });
        model.pieces.splice(..3.min(model.pieces.len()), own);
        model.pieces.push(Piece { text: "<mask>".into(), score: 0.0, kind: CONTROL });
    }
    let mut ids: HashMap<&str, u32> = HashMap::new();
    for (i, piece) in model.pieces.iter().enumerate() {
        if ids.insert(&piece.text, i as u32).is_some() {
            return Err(wrong(format!("the piece {} is there twice", piece.text)));
        }
    }
    let unknown: Vec<usize> = (0..model.pieces.len()).filter(|&i| model.pieces[i].kind == UNKNOWN).collect();
    let &[unknown] = unknown.as_slice() else {
        return Err(wrong(format!("{} pieces stand for the unknown, expected one", unknown.len())));
    };
    let bytes = model.bytes && (0..=255).all(|b| ids.contains_key(format!("<0x{b:02X}>").as_str()));
    let (wrapped, name) = match model.kind {
        UNIGRAM => {
            let pieces = model.pieces.iter().map(|p| (p.text.clone(), p.score)).collect();
            let unigram = Unigram::from(pieces, Some(unknown), bytes).map_err(|e| wrong(e.to_string()))?;
            (ModelWrapper::Unigram(unigram), "Unigram")
        }
        MERGES => {
            let merges = merges(&model.pieces, &ids);
            let vocabulary: tokenizers::models::bpe::Vocab =
                ids.iter().map(|(text, id)| ((*text).to_string(), *id)).collect();
            let bpe = BPE::builder()
                .vocab_and_merges(vocabulary, merges)
                .unk_token(model.pieces[unknown].text.clone())
                .fuse_unk(true)
                .byte_fallback(bytes);
            (ModelWrapper::BPE(bpe.build().map_err(|e| wrong(e.to_string()))?), "BPE")
        }
        other => {
            return Err(wrong(format!(
                "its kind is {other} (3: words, 4: characters), expected Unigram (1) or BPE (2)"
            )));
        }
    };
    let mut inner = around(&model, tokenizers::Tokenizer::new(wrapped), bytes)?;
    let of = |kind: u64, special: bool| -> Vec<AddedToken> {
        let all = model.pieces.iter().filter(|p| p.kind == kind);
        all.map(|p| AddedToken::from(p.text.clone(), special).normalized(false)).collect()
    };
    inner.add_special_tokens(of(CONTROL, true)).map_err(|e| wrong(e.to_string()))?;
    inner.add_tokens(of(USER, false)).map_err(|e| wrong(e.to_string()))?;
    let usual = [
        ("pad_token", "<pad>"),
        ("unk_token", model.pieces[unknown].text.as_str()),
        ("bos_token", "<s>"),
        ("eos_token", "</s>"),
        ("cls_token", "[CLS]"),
        ("sep_token", "[SEP]"),
        ("mask_token", if fairseq { "<mask>" } else { "[MASK]" }),
    ];
    let mut inner = settings.with_roles(inner, &usual)?;
    let default = if settings.family == "t5" { T5_SENTINELS } else { 0 };
    let sentinels = settings.number("extra_ids").unwrap_or(default).min(10_000);
    if inner.token_to_id("<extra_id_0>").is_none() {
        let names = (0..sentinels).rev().map(|i| AddedToken::from(format!("<extra_id_{i}>"), true));
        inner.add_special_tokens(names.collect::<Vec<_>>()).map_err(|e| wrong(e.to_string()))?;
    }
    let has = |t: &str| inner.token_to_id(t).is_some();
    let stand = match () {
        () if fairseq => Some(("<s> A </s>", "<s> A </s> </s> B </s>")),
        () if has("[CLS]") && has("[SEP]") => Some(("[CLS] A [SEP]", "[CLS] A [SEP] B:1 [SEP]:1")),
        () if has("</s>") => Some(("A </s>", "A </s> B </s>")),
        () => None,
    };
    if let Some((single, pair)) = stand {
        let post = template(single, pair, |t| inner.token_to_id(t))?;
        inner.with_post_processor(Some(post));
    }
    Ok((inner, format!("a {name} model of sentencepiece")))
}

/// What stands before and behind the model.
fn around(model: &Model, mut inner: tokenizers::Tokenizer, bytes: bool) -> Result<tokenizers::Tokenizer> {
    let mut steps: Vec<NormalizerWrapper> = Vec::new();
    if !model.rules.is_empty() {
        let rules = Precompiled::from(&model.rules).map_err(|e| Error::Other(e.to_string()))?;
        steps.push(NormalizerWrapper::Precompiled(rules));
    }
    if model.trim {
        steps.push(part(json!({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}))?);
        // Spaces alone: other white space stays, as in sentencepiece.
        steps.push(part(json!({"type": "Replace", "pattern": {"Regex": "\\A | \\z"}, "content": ""}))?);
    }
    let steps = Json::Array(
        steps
            .iter()
            .map(serde_json::to_value)
            .collect::<Result<_, _>>()
            .map_err(|e| Error::Other(e.to_string()))?,
    );
    let steps: NormalizerWrapper = part(json!({"type": "Sequence", "normalizers": steps}))?;
    inner.with_normalizer(Some(steps)).map_err(|e| Error::Other(e.to_string()))?;
    let scheme = if model.prefix { "always" } else { "never" };
    let space = json!({
        "type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": model.within_words,
    });
    inner.with_pre_tokenizer(Some(part::<PreTokenizerWrapper>(space.clone())?));
    let decoder = match bytes {
        true => json!({"type": "Sequence", "decoders": [{"type": "ByteFallback"}, space]}),
        false => space,
    };
    inner.with_decoder(Some(part::<DecoderWrapper>(decoder)?));
    Ok(inner)
}

/// The merges that lead to each piece, the likeliest piece first: sentencepiece merges the pair whose piece
/// has the highest score.
fn merges(pieces: &[Piece], ids: &HashMap<&str, u32>) -> Vec<(String, String)> {
    let mut all: Vec<(f64, u32, u32, &str, &str)> = Vec::new();
    for piece in pieces.iter().filter(|p| !matches!(p.kind, UNKNOWN | CONTROL | USER | BYTE)) {
        for (cut, _) in piece.text.char_indices().skip(1) {
            let (left, right) = piece.text.split_at(cut);
            if let (Some(&l), Some(&r)) = (ids.get(left), ids.get(right)) {
                all.push((piece.score, l, r, left, right));
            }
        }
    }
    all.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    all.into_iter().map(|(_, _, _, left, right)| (left.to_string(), right.to_string())).collect()
}

fn parse(bytes: &[u8]) -> Result<Model, String> {
    let mut model = Model {
        pieces: Vec::new(),
        kind: UNIGRAM,
        bytes: false,
        within_words: true,
        rules: Vec::new(),
        prefix: true,
        trim: true,
    };
    for field in Fields(bytes) {
        match field? {
            (1, Value::Bytes(bytes)) => {
                let piece = piece(bytes).map_err(|why| format!("piece {}: {why}", model.pieces.len()))?;
                model.pieces.push(piece);
            }
            (2, Value::Bytes(bytes)) => {
                for field in Fields(bytes) {
                    match field? {
                        (3, Value::Number(kind)) => model.kind = kind,
                        (22, Value::Number(v)) => model.within_words = v != 0,
                        (24, Value::Number(v)) if v != 0 => {
                            return Err("spaces stand behind words (treat_whitespace_as_suffix)".into());
                        }
                        (35, Value::Number(v)) => model.bytes = v != 0,
                        _ => {}
                    }
                }
            }
            (3, Value::Bytes(bytes)) => {
                for field in Fields(bytes) {
                    match field? {
                        (2, Value::Bytes(rules)) => model.rules = rules.to_vec(),
                        (3, Value::Number(v)) => model.prefix = v != 0,
                        (4, Value::Number(v)) => model.trim = v != 0,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    if model.pieces.is_empty() {
        return Err("it has no pieces".into());
    }
    if !model.rules.is_empty() && !sound(&model.rules) {
        return Err("its rules of normalisation are damaged".into());
    }
    Ok(model)
}

fn piece(bytes: &[u8]) -> Result<Piece, String> {
    let mut piece = Piece { text: String::new(), score: 0.0, kind: 1 };
    for field in Fields(bytes) {
        match field? {
            (1, Value::Bytes(text)) => {
                piece.text = std::str::from_utf8(text).map_err(|_| "not UTF-8")?.to_string();
            }
            (2, Value::Float(score)) => piece.score = f64::from(score),
            (3, Value::Number(kind)) => piece.kind = kind,
            _ => {}
        }
    }
    if piece.text.is_empty() || piece.text.len() > LONGEST_PIECE {
        return Err(format!("{} bytes, expected 1 to {LONGEST_PIECE}", piece.text.len()));
    }
    if !piece.score.is_finite() {
        return Err(format!("{} has the score {}", piece.text, piece.score));
    }
    Ok(piece)
}

/// Whether rules of normalisation stay inside of what they are: the size of a trie, its units (Darts: Yata
/// 2007), and the texts that they point to. The library looks them up unchecked.
fn sound(rules: &[u8]) -> bool {
    let Some((size, rest)) = rules.split_at_checked(4) else { return false };
    let size = size.iter().rev().fold(0_usize, |n, b| n << 8 | usize::from(*b));
    let Some((trie, texts)) = rest.split_at_checked(size) else { return false };
    let Ok(texts) = std::str::from_utf8(texts) else { return false };
    let units: Vec<usize> =
        trie.chunks_exact(4).map(|c| c.iter().rev().fold(0_usize, |n, b| n << 8 | usize::from(*b))).collect();
    // A unit with the highest bit is a value, which no byte of a text leads on from.
    let inside = |(i, unit): (usize, &usize)| {
        let base = i ^ ((unit >> 10) << ((unit & (1 << 9)) >> 6));
        let leads = base | 0xff < units.len();
        let value = || units.get(base).is_some_and(|v| texts.is_char_boundary(v & 0x7fff_ffff));
        unit >> 31 == 1 || (leads && (unit >> 8 & 1 == 0 || value()))
    };
    !units.is_empty() && units.iter().enumerate().all(inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_point_outside_are_damaged() {
        let rules = |units: &[u32], texts: &str| {
            let mut bytes = (units.len() as u32 * 4).to_le_bytes().to_vec();
            units.iter().for_each(|u| bytes.extend(u.to_le_bytes()));
            bytes.extend(texts.as_bytes());
            bytes
        };
        let mut units = [0_u32; 256];
        assert!(sound(&rules(&units, "a\0")));
        assert!(!sound(&rules(&units[..255], "a\0")), "a byte leads out of the trie");
        assert!(!sound(&rules(&[], "")) && !sound(&[0xff; 8]));
        units[7] = 1 << 8 | 1 << 10; // A leaf whose value is in unit 6.
        units[6] = 1 << 31 | 1;
        assert!(sound(&rules(&units, "a\0")));
        units[6] = 1 << 31 | 3;
        assert!(!sound(&rules(&units, "a\0")), "a value behind the texts");
        units[7] = 1 << 30;
        assert!(!sound(&rules(&units, "a\0")), "a unit that leads far out");
    }
}

//! Vocabularies without a `tokenizer.json`: the ids of transformers and sentencepiece
//! (`tests/golden/generate/small_tokenizers.py`), and what is said of damaged files.

use selfsup_text::tokenizer::Tokenizer;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// The folder that `SELFSUP_GOLDEN` names, or that of the tree.
fn golden() -> PathBuf {
    let here = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    std::env::var_os("SELFSUP_GOLDEN").map_or_else(here, PathBuf::from).join("tokenizers")
}

fn ids(list: &Value) -> Vec<u32> {
    list.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect()
}

#[test]
fn ids_are_those_of_the_libraries() {
    let expected: Value = serde_json::from_slice(&fs::read(golden().join("expected.json")).unwrap()).unwrap();
    let mut texts = 0;
    for (name, case) in expected.as_object().unwrap() {
        let tokenizer = Tokenizer::load(golden().join(name)).unwrap();
        assert!(tokenizer.note().unwrap().contains("no tokenizer.json"), "{name}");
        for (text, theirs) in case["texts"].as_object().unwrap() {
            let ours = tokenizer.example(text, None, 500).unwrap().ids;
            assert_eq!(ours, ids(theirs), "{name}: {text:?}");
            texts += 1;
        }
        if !case["pair"].is_null() {
            let pair = tokenizer.example("the jay", Some("hides nuts"), 500).unwrap();
            assert_eq!(pair.ids, ids(&case["pair"]), "{name}");
            assert!(case["types"].is_null() || pair.types == ids(&case["types"]), "{name}: {:?}", pair.types);
        }
        // Saved, it is a tokenizer.json that gives the same.
        let dir = tempfile::tempdir().unwrap();
        tokenizer.save(dir.path(), None).unwrap();
        let saved = Tokenizer::load(dir.path()).unwrap();
        assert!(saved.note().is_none() && saved.special() == tokenizer.special(), "{name}");
        for text in case["texts"].as_object().unwrap().keys() {
            let ids = |t: &Tokenizer| t.example(text, None, 500).unwrap().ids;
            assert_eq!(ids(&saved), ids(&tokenizer), "{name}, saved: {text:?}");
        }
    }
    assert!(texts > 90, "{texts}");
}

#[test]
fn special_tokens_have_their_parts() {
    let load = |name: &str| Tokenizer::load(golden().join(name)).unwrap();
    let names = |t: &Tokenizer| {
        let s = t.special();
        let name = |id: Option<u32>| id.and_then(|id| t.token(id)).unwrap_or_default();
        [name(s.pad), name(s.mask), name(s.class.or(s.begin)), name(s.end), name(s.unknown)].join(" ")
    };
    assert_eq!(names(&load("bert")), "[PAD] [MASK] [CLS] [SEP] [UNK]");
    assert_eq!(names(&load("roberta")), "<pad> <mask> <s> </s> <unk>");
    assert_eq!(names(&load("xlmr")), "<pad> <mask> <s> </s> <unk>");
    assert_eq!(names(&load("gpt2")).trim(), "<|endoftext|> <|endoftext|>");
    let t5 = load("t5");
    assert_eq!(names(&t5), "<pad>   </s> <unk>");
    assert_eq!((t5.special().sentinels.len(), t5.special().sentinels[0] as usize), (100, t5.size() - 1));
    let text = "the jay <extra_id_0> nuts";
    assert_eq!(
        t5.decode_whole(&t5.ids(text).unwrap()).unwrap().replace("> nuts", ">nuts"),
        "the jay<extra_id_0>nuts"
    );
}

/// A model of sentencepiece by itself has no sentinels: they are added, as far as asked for.
#[test]
fn sentinels_are_added() {
    let plain = Tokenizer::load(golden().join("bpe/tokenizer.model")).unwrap();
    let size = plain.size();
    assert!(plain.special().sentinels.is_empty());
    let more = plain.clone().with_sentinels(7).unwrap();
    assert_eq!((more.size(), more.special().sentinels.len()), (size + 7, 7));
    assert_eq!(more.id("<extra_id_0>"), Some(size as u32 + 6), "the first is the last");
    assert_eq!(more.ids("the jay").unwrap(), plain.ids("the jay").unwrap());
    let dir = tempfile::tempdir().unwrap();
    more.save(dir.path(), None).unwrap();
    assert_eq!(Tokenizer::load(dir.path()).unwrap().special(), more.special());
}

/// What stands beside the vocabulary: added tokens keep their ids, or are refused.
#[test]
fn added_tokens_have_the_ids_of_their_files() {
    let dir = tempfile::tempdir().unwrap();
    let copy = |name: &str| fs::copy(golden().join("bert").join(name), dir.path().join(name)).unwrap();
    copy("vocab.txt");
    let size = Tokenizer::load(dir.path()).unwrap().size();
    let added = |id: usize| {
        let json = format!(
            "{{\"added_tokens_decoder\": {{\"{id}\": {{\"content\": \"[DOC]\", \"special\": true}}}}}}"
        );
        fs::write(dir.path().join("tokenizer_config.json"), json).unwrap();
        Tokenizer::load(dir.path())
    };
    let tokenizer = added(size).unwrap();
    assert_eq!(tokenizer.ids("[DOC]").unwrap(), [size as u32]);
    let why = added(size + 5).unwrap_err().to_string();
    assert!(why.contains("[DOC]") && why.contains(&format!("id {}", size + 5)), "{why}");
}

#[test]
fn damaged_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let says = |files: &[(&str, &[u8])], parts: &[&str]| {
        fs::remove_dir_all(dir.path()).unwrap();
        fs::create_dir(dir.path()).unwrap();
        files.iter().for_each(|(name, bytes)| fs::write(dir.path().join(name), bytes).unwrap());
        let why = Tokenizer::load(dir.path()).unwrap_err().to_string();
        assert!(parts.iter().all(|p| why.contains(p)), "expected {parts:?} in {why}");
    };
    says(&[], &["no tokenizer.json"]);
    says(&[("vocab.txt", b"the 5\nof 3\n")], &["vocab.txt", "no line [UNK]"]);
    says(&[("vocab.txt", b"\xff")], &["vocab.txt", "UTF-8"]);
    let level = "{\"\u{120}\": 0, \"a\": 1}";
    says(&[("vocab.json", b"[1]"), ("merges.txt", b"")], &["vocab.json", "object of pieces"]);
    says(&[("vocab.json", b"{\"a</w>\": 0}"), ("merges.txt", b"")], &["not byte-level", "save_pretrained"]);
    says(
        &[("vocab.json", level.as_bytes()), ("merges.txt", b"#version: 0.2\na\n")],
        &["merges.txt", "line 2"],
    );
    says(&[("vocab.json", level.as_bytes()), ("merges.txt", b"a b\n")], &["merges.txt", "vocab.json"]);
    says(&[("vocab.json", "{\"\u{120}\": 4000000000}".as_bytes()), ("merges.txt", b"")], &["4000000000"]);
    says(&[("spiece.model", b"\x0a\xff\xff\xff\xff\x0f")], &["spiece.model", "damaged protocol buffer"]);
    says(&[("spiece.model", b"")], &["no pieces"]);
    says(&[("spiece.model", b"\x0a\x03\x0a\x01a")], &["0 pieces stand for the unknown"]);
    let model = fs::read(golden().join("t5/spiece.model")).unwrap();
    let camembert = b"{\"model_type\": \"camembert\"}";
    says(&[("spiece.model", &model), ("config.json", camembert)], &["camembert", "save_pretrained"]);
    // Cut or changed anywhere, a model is refused or read, and reads a text without a panic.
    for at in (0..model.len()).step_by(7) {
        let mut changed = model.clone();
        changed[at] ^= 0x55;
        for bytes in [&model[..at], &changed[..]] {
            let file = dir.path().join("m.model");
            fs::write(&file, bytes).unwrap();
            if let Ok(tokenizer) = Tokenizer::load(&file) {
                let _ = tokenizer.ids("The jay hides \u{ff21} nuts \u{fb01}.");
            }
        }
    }
}

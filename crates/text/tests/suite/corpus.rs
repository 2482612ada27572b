//! From files to batches: the same examples from memory and from shards, in the middle of an epoch as after a
//! resume.

use candle_core::{DType, Tensor};
use selfsup_core::data::{LoaderConfig, Source};
use selfsup_core::{Error, Result};
use selfsup_text::batch::{IGNORED, Sequences};
use selfsup_text::corpus::{CorpusConfig, Packing, Reader, Tokens, Unit, files};
use selfsup_text::recipe::MethodConfig;
use selfsup_text::tokenizer::{Tokenizer, TokenizerConfig, TokenizerKind, train};
use std::path::Path;

/// Two files of lines.
fn write(dir: &Path) -> String {
    let line = |i: usize| format!("line {i} says {} and {}", i * i, "again ".repeat(i % 4).trim());
    let all: Vec<String> = (0..200).map(line).collect();
    std::fs::write(dir.join("a.txt"), all[..120].join("\n")).unwrap();
    std::fs::write(dir.join("b.txt"), all[120..].join("\n")).unwrap();
    all.join("\n")
}

fn reader(dir: &Path) -> Reader {
    Reader::new(files(dir).unwrap(), Unit::Line, "text")
}

fn tokenizer(dir: &Path, kind: TokenizerKind) -> Tokenizer {
    let config =
        TokenizerConfig { vocab_size: 330, min_frequency: 2, sentinels: 20, ..TokenizerConfig::of(kind) };
    train(&config, reader(dir).map(|d| d.map(|d| d.text))).unwrap()
}

fn loader() -> LoaderConfig {
    LoaderConfig { batch_size: 4, workers: 2, drop_last: false, seed: 5, ..LoaderConfig::default() }
}

fn flat(t: &Tensor) -> Vec<i64> {
    t.to_dtype(DType::I64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn batches(source: &dyn Source<Sequences>, epoch: u64, first: usize) -> Vec<(Vec<i64>, Vec<i64>)> {
    source
        .epoch_from(epoch, first)
        .unwrap()
        .map(|b| b.unwrap().batch)
        .map(|b| (flat(&b.ids), flat(&b.labels)))
        .collect()
}

#[test]
fn every_method_gets_its_batches_and_resumes_anywhere() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    for (method, kind) in [
        ("masked-lm", TokenizerKind::Wordpiece),
        ("electra", TokenizerKind::Wordpiece),
        ("simcse", TokenizerKind::Wordpiece),
        ("causal-lm", TokenizerKind::Bpe),
        ("span-corruption", TokenizerKind::Unigram),
    ] {
        let (tokenizer, method) = (tokenizer(dir.path(), kind), MethodConfig::named(method).unwrap());
        for packing in [Packing::Blocks, Packing::Documents] {
            let config =
                CorpusConfig { packing, length: Some(24), validation: 0.2, ..CorpusConfig::default() };
            let shards = dir.path().join(format!(".tokens-{}", method.name()));
            let load = |cache| {
                let tokens = config.tokenize(reader(dir.path()), &tokenizer, cache).unwrap();
                config.examples(tokens, &tokenizer, &method, 512).unwrap()
            };
            let (memory, disk) = (load(None), load(Some((shards.as_path(), "lines"))));
            let source = |p: &selfsup_text::corpus::Prepared| p.loader(&p.train, &method, loader()).unwrap();
            let (a, b) = (source(&memory), source(&disk));
            let all = batches(&a, 3, 0);
            assert_eq!(all, batches(&b, 3, 0), "{} {packing:?}", method.name());
            // In the middle of an epoch: nothing before it is read.
            assert_eq!(batches(&b, 3, all.len() - 2), all[all.len() - 2..]);
            assert_ne!(all, batches(&b, 4, 0));
            let v = memory.validation.as_ref().unwrap();
            assert!(v.len() > 3 && v.len() < memory.train.len());
            if packing == Packing::Blocks && method.name() != "span-corruption" {
                let inputs = if method.name() == "causal-lm" { 25 } else { 24 };
                assert!(all.iter().all(|(ids, _)| ids.len() % inputs == 0));
            }
            // The input of span corruption is as long as asked for.
            if packing == Packing::Blocks && method.name() == "span-corruption" {
                assert!(all.iter().all(|(ids, labels)| ids.len() % 24 == 0 && !labels.contains(&IGNORED)));
            }
        }
    }
}

/// The characters of a corpus, joined by line ends, cut at a length: what nanoGPT reads.
#[test]
fn characters() {
    let dir = tempfile::tempdir().unwrap();
    let text = write(dir.path());
    let config = CorpusConfig {
        separator: Some("\n".into()),
        max_characters: Some(3000),
        length: Some(16),
        stride: Some(1),
        validation: 0.1,
        ..CorpusConfig::default()
    };
    let made = TokenizerConfig::of(TokenizerKind::Characters);
    let tokenizer = train(&made, config.texts(reader(dir.path()))).unwrap();
    let tokens = config.tokenize(reader(dir.path()), &tokenizer, None).unwrap();
    let ids: Vec<u32> =
        (0..tokens.shards()).flat_map(|s| tokens.read(s, 0..tokens.size(s).0).unwrap()).collect();
    assert_eq!(tokenizer.decode(&ids).unwrap(), text[..3000]);
    let distinct: std::collections::BTreeSet<char> = text[..3000].chars().collect();
    assert_eq!(tokenizer.size(), distinct.len());
    assert!(
        distinct.iter().enumerate().all(|(i, c)| tokenizer.id(&c.to_string()) == Some(i as u32)),
        "ids are in the order of the characters"
    );
    let method = MethodConfig::named("causal-lm").unwrap();
    let p = config.examples(tokens, &tokenizer, &method, 16).unwrap();
    // Every window of the first 2,700 characters; those of the rest side by side, sharing one character.
    assert_eq!((p.train.len(), p.validation.as_ref().unwrap().len()), (2700 - 16, (300 - 17) / 16 + 1));
    assert_eq!(p.train.get(7).unwrap().ids, ids[7..7 + 17]);
}

#[test]
fn shards_of_other_text_are_made_again() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    let (tokenizer, config, folder) =
        (tokenizer(dir.path(), TokenizerKind::Bpe), CorpusConfig::default(), dir.path().join(".shards"));
    let none = || -> Box<dyn Iterator<Item = Result<_>> + Send> {
        Box::new([Err(Error::config("read again"))].into_iter())
    };
    let first = config.tokenize(reader(dir.path()), &tokenizer, Some((folder.as_path(), "a"))).unwrap();
    assert_eq!(
        config.tokenize(none(), &tokenizer, Some((folder.as_path(), "a"))).unwrap().len(),
        first.len()
    );
    assert!(
        config
            .tokenize(none(), &tokenizer, Some((folder.as_path(), "b")))
            .err()
            .unwrap()
            .to_string()
            .contains("read again")
    );
    // The failed attempt has left nothing that passes for whole.
    assert!(config.tokenize(none(), &tokenizer, Some((folder.as_path(), "a"))).is_err());
}

/// Several runs that start at the same time with one cache: each gets the tokens of the corpus, and the folder
/// has no file of any other attempt. A flipped bit makes the tokens anew.
#[test]
fn runs_share_a_cache() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    let tokenizer = tokenizer(dir.path(), TokenizerKind::Bpe);
    let config = CorpusConfig::default();
    let folder = dir.path().join(".shards");
    let all =
        |t: &Tokens| (0..t.shards()).flat_map(|s| t.read(s, 0..t.size(s).0).unwrap()).collect::<Vec<_>>();
    let expected = all(&config.tokenize(reader(dir.path()), &tokenizer, None).unwrap());
    let cached = || config.tokenize(reader(dir.path()), &tokenizer, Some((folder.as_path(), "a"))).unwrap();
    for round in 0..4 {
        let _ = std::fs::remove_dir_all(&folder);
        let cached = &cached;
        std::thread::scope(|s| {
            let threads: Vec<_> = (0..6u64)
                .map(|i| {
                    s.spawn(move || {
                        std::thread::sleep(std::time::Duration::from_millis(i * round));
                        cached()
                    })
                })
                .collect();
            for t in threads {
                assert!(all(&t.join().unwrap()) == expected, "round {round}");
            }
        });
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 4, "the list, a shard's two files, the lock");
    }
    for i in 0..4 {
        // What was damaged is made again under new names.
        let mut paths: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
        paths.sort();
        assert_eq!(paths.len(), 4, "{paths:?}");
        let path = &paths[i];
        let mut bytes = std::fs::read(path).unwrap();
        if bytes.is_empty() {
            continue; // the lock
        }
        let at = bytes.len() / 3;
        bytes[at] ^= 1;
        std::fs::write(path, bytes).unwrap();
        assert!(all(&cached()) == expected, "damaged {}", path.display());
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    let tokenizer = tokenizer(dir.path(), TokenizerKind::Bpe);
    let tokens = CorpusConfig::default().tokenize(reader(dir.path()), &tokenizer, None).unwrap();
    let says = |config: CorpusConfig, method: &str, longest: usize, part: &str| {
        let made =
            config.examples(tokens.clone(), &tokenizer, &MethodConfig::named(method).unwrap(), longest);
        let made = made
            .and_then(|p| p.loader(&p.train, &MethodConfig::named(method).unwrap(), loader()).map(|_| ()));
        let e = made.err().map(|e| e.to_string()).unwrap_or_default();
        assert!(e.contains(part), "{e}");
    };
    let config = CorpusConfig::default();
    says(CorpusConfig { length: Some(65), ..config.clone() }, "causal-lm", 64, "corpus.length = 65");
    says(
        CorpusConfig { length: Some(500_000), ..config.clone() },
        "causal-lm",
        usize::MAX,
        "fewer than one block",
    );
    says(CorpusConfig { validation: 1.0, ..config.clone() }, "causal-lm", 64, "corpus.validation");
    says(config.clone(), "masked-lm", 64, "no mask token");
    says(config, "span-corruption", 64, "no sentinels");
}

//! Keys of texts.

use super::walk::{Walk, check};
use toml::Value;

#[test]
fn of_texts() {
    let dir = tempfile::tempdir().unwrap();
    let made = tempfile::tempdir().unwrap();
    let words = ["Sun", "rain", "cloud", "Tin", "zinc", "lead", "snow", "iron"];
    let line = |i: usize| (0..9).map(|j| words[(i * 5 + j * j) % 8]).collect::<Vec<_>>().join(" ");
    // More words than the vocabularies hold, in lines of several lengths.
    let word = |n: usize| format!("{}{}", words[n % 8], words[n / 8 % 8].to_lowercase());
    let compounds = |i: usize| (0..7 + i % 4).map(|j| word(i * 5 + j * j)).collect::<Vec<_>>().join(" ");
    let long = tempfile::tempdir().unwrap();
    std::fs::write(long.path().join("a.txt"), (0..60).map(compounds).collect::<Vec<_>>().join("\n")).unwrap();
    std::fs::write(dir.path().join("a.txt"), (0..60).map(line).collect::<Vec<_>>().join("\n")).unwrap();
    let data = dir.path().display().to_string();
    let vocabulary = |kind: &str, size: usize| {
        let out = made.path().join(kind);
        let keys = vec![format!("kind={kind}"), format!("vocab_size={size}")];
        crate::verbs::tokenizer::run(&crate::verbs::tokenizer::Request {
            data: data.clone(),
            out: out.clone(),
            keys,
        })
        .unwrap();
        format!("tokenizer.path={}", Value::String(out.display().to_string()))
    };
    let (wordpiece, bpe, unigram) =
        (vocabulary("wordpiece", 60), vocabulary("bpe", 300), vocabulary("unigram", 160));
    let long = long.path().display().to_string();
    let walk = Walk {
        made: false,
        data: &long,
        small: &["corpus.length=12", "encoder.dim=8", "encoder.depth=1", "encoder.heads=2"],
        networks: &[
            &["encoder.name=bert", &wordpiece],
            &["encoder.name=electra", &wordpiece],
            &["encoder.name=gpt2", &bpe],
            &["encoder.name=t5", &unigram],
        ],
        sizes: &[],
        sections: &["corpus"],
        values: &[
            ("corpus.separator", "' . '"),
            ("corpus.max_characters", "500"),
            ("corpus.length", "10"),
            ("corpus.validation", "0.5"),
            ("corpus.stride", "1"),
            ("method.masking.random", "0.9"),
            ("encoder.positions", "32"),
            ("tokenizer.vocab_size", "180"),
            ("tokenizer.min_frequency", "5000"),
        ],
        neutral: &[
            "encoder.pretrained",
            "tokenizer.path",
            "corpus.cache",
            "corpus.in_memory",
            // Of JSON lines and tables.
            "corpus.column",
        ],
    };
    check::<crate::modality::text::Text>(&walk);
    // Vocabularies of each kind.
    check::<crate::modality::text::Text>(&Walk {
        made: true,
        networks: &[
            &["encoder.name=bert", "tokenizer.vocab_size=60"],
            &["encoder.name=gpt2", "tokenizer.kind=bpe", "tokenizer.vocab_size=300"],
            &[
                "encoder.name=t5",
                "tokenizer.kind=unigram",
                "tokenizer.sentinels=8",
                "tokenizer.vocab_size=30",
            ],
        ],
        sections: &["tokenizer"],
        ..walk
    });
}

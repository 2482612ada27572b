//! Vocabularies made from a corpus: they give texts back, are the same from run to run, survive saving, and
//! know their special tokens.

use selfsup_core::{Error, Key, Result};
use selfsup_text::encoder::Gpt2Config;
use selfsup_text::recipe::EncoderConfig;
use selfsup_text::tokenizer::{Tokenizer, TokenizerConfig, TokenizerKind, train};

const WORDS: [&str; 24] = [
    "the",
    "running",
    "runner",
    "quickly",
    "water",
    "waters",
    "walked",
    "walking",
    "house",
    "houses",
    "unhappy",
    "happy",
    "happily",
    "light",
    "lighter",
    "Mountain",
    "river",
    "naïve",
    "café",
    "stones",
    "and",
    "under",
    "overflowing",
    "flow",
];

fn corpus() -> impl Iterator<Item = Result<String>> + Send {
    (0..400).map(|i| {
        let mut rng = Key::new(1).fold(i).rng();
        let words: Vec<&str> = (0..4 + rng.below(9)).map(|_| WORDS[rng.below(WORDS.len())]).collect();
        Ok(format!("{}{}", words.join(" "), [".", "!", ", and so on."][rng.below(3)]))
    })
}

fn config(kind: TokenizerKind, roberta: bool) -> TokenizerConfig {
    let vocab_size = if kind == TokenizerKind::Bpe { 340 } else { 120 };
    // Of whole words none may be unknown.
    let min_frequency = if kind == TokenizerKind::Whitespace { 1 } else { 2 };
    let of = TokenizerConfig::of(kind);
    TokenizerConfig { vocab_size, roberta, sentinels: 10, lowercase: false, min_frequency, ..of }
}

const KINDS: [(TokenizerKind, bool); 6] = [
    (TokenizerKind::Wordpiece, false),
    (TokenizerKind::Bpe, false),
    (TokenizerKind::Bpe, true),
    (TokenizerKind::Unigram, false),
    (TokenizerKind::Characters, false),
    (TokenizerKind::Whitespace, false),
];

#[test]
fn texts_come_back() {
    for (kind, roberta) in KINDS {
        let c = config(kind, roberta);
        let t = train(&c, corpus()).unwrap();
        for text in corpus().take(50).map(Result::unwrap) {
            let ids = t.ids(&text).unwrap();
            // WordPiece's decoder sets spaces by itself: accents and case are kept here, spaces before marks
            // are not.
            assert_eq!(t.decode(&ids).unwrap(), text, "{kind:?}");
            assert!(
                kind == TokenizerKind::Characters || ids.len() < text.chars().count() / 2,
                "{kind:?}: {} pieces of {text}",
                ids.len()
            );
        }
        let v = t.vocabulary();
        assert!(kind == TokenizerKind::Characters || v.size <= c.vocab_size, "{kind:?}: {}", v.size);
        assert!(v.special.windows(2).all(|w| w[0] < w[1]));
    }
}

/// Byte for byte, with any number of threads; letters that occur once have no probability of their own.
#[test]
fn training_is_repeatable() {
    for (kind, roberta) in KINDS {
        let made = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let texts = corpus().chain(["ψ ж ω ξ щ", "λάμδα ц"].map(|t| Ok(t.to_string())));
            pool.install(|| train(&config(kind, roberta), texts)).unwrap().description().unwrap()
        };
        let first = made(1);
        for threads in [1, 2, 3] {
            assert!(first == made(threads), "{kind:?}: trained twice, two vocabularies");
        }
    }
}

#[test]
fn special_tokens_have_their_parts() {
    let made = |kind, roberta| train(&config(kind, roberta), corpus()).unwrap();
    let names = |t: &Tokenizer, text: &str, pair| {
        let e = t.example(text, pair, 64).unwrap();
        (e.ids.iter().map(|id| t.token(*id).unwrap()).collect::<Vec<_>>(), e)
    };
    let bert = made(TokenizerKind::Wordpiece, false);
    let (tokens, e) = names(&bert, "the river and", Some("the house"));
    assert_eq!((tokens[0].as_str(), tokens.last().unwrap().as_str()), ("[CLS]", "[SEP]"));
    let first = tokens.iter().position(|t| t == "[SEP]").unwrap();
    assert!(e.types[..=first].iter().all(|t| *t == 0) && e.types[first + 1..].iter().all(|t| *t == 1));
    let words: Vec<u32> = e.words.iter().flatten().copied().collect();
    assert!(words.is_sorted() && words.first() == Some(&0) && words.last() == Some(&4), "{words:?}");
    assert_eq!(e.words.iter().filter(|w| w.is_none()).count(), 3);
    let v = bert.vocabulary();
    assert_eq!((v.pad, v.mask, v.special.len()), (0, Some(4), 5));

    let roberta = made(TokenizerKind::Bpe, true);
    assert_eq!(names(&roberta, "the", None).0.concat(), "<s>the</s>");
    assert_eq!(roberta.special().class.or(roberta.special().begin), Some(0));
    let gpt = made(TokenizerKind::Bpe, false);
    assert_eq!((names(&gpt, "the", None).0.concat().as_str(), gpt.vocabulary().end), ("the", Some(0)));
    let t5 = made(TokenizerKind::Unigram, false);
    assert_eq!(names(&t5, "the", None).0.last().unwrap(), "</s>");
    let v = t5.vocabulary();
    assert_eq!(
        (v.pad, v.end, v.sentinels.len(), v.sentinels[0] as usize),
        (0, Some(1), 10, v.size - 1),
        "<extra_id_0> is the last"
    );
    assert_eq!(t5.id("<extra_id_0>"), v.sentinels.first().copied());
}

#[test]
fn words_of_packed_text_are_told_apart() {
    for (kind, roberta) in &KINDS[..4] {
        let t = train(&config(*kind, *roberta), corpus()).unwrap();
        let (starts, text) = (t.word_starts(), "the overflowing waters, and houserunner");
        let ids = t.ids(text).unwrap();
        let words = 1 + ids.iter().skip(1).filter(|id| starts[**id as usize]).count();
        // Five words, and a comma that is one of its own or, in Unigram, part of a word.
        assert!((5..=6).contains(&words), "{kind:?}: {words}");
        assert!(ids.len() > words, "{kind:?}: the test needs words of several pieces");
    }
}

#[test]
fn saved_tokenizers_are_the_same() {
    for (kind, roberta) in KINDS {
        let t = train(&config(kind, roberta), corpus()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        t.save(dir.path(), Some(128)).unwrap();
        let back = Tokenizer::load(dir.path()).unwrap();
        assert_eq!(back.special(), t.special(), "{kind:?}");
        assert_eq!(back.size(), t.size());
        for text in corpus().take(20).map(Result::unwrap) {
            assert_eq!(back.example(&text, None, 64).unwrap(), t.example(&text, None, 64).unwrap());
        }
        let has = |name: &str| dir.path().join(name).is_file();
        assert!(has("tokenizer.json") && has("tokenizer_config.json"));
        assert_eq!(has("vocab.txt"), kind == TokenizerKind::Wordpiece);
        assert_eq!(has("merges.txt"), kind == TokenizerKind::Bpe);
        if kind == TokenizerKind::Wordpiece {
            let lines = std::fs::read_to_string(dir.path().join("vocab.txt")).unwrap();
            assert!(lines.lines().enumerate().all(|(i, token)| t.id(token) == Some(i as u32)));
        }
    }
}

/// Codes between white space: each a token, from the most frequent on; rare ones are unknown.
#[test]
fn codes_are_whole_tokens() {
    let texts = ["E11.9 I10 e11.9\tZ51-1", "I10  E11.9\nN18", "I10 Z51-1"];
    let made = |more: TokenizerConfig| {
        let config = TokenizerConfig { kind: TokenizerKind::Whitespace, ..more };
        train(&config, texts.into_iter().map(|t| Ok(t.to_string())))
    };
    let of = TokenizerConfig::of(TokenizerKind::Whitespace);
    let t = made(of.clone()).unwrap();
    assert_eq!(t.size(), 8, "five special tokens, and three codes that occur twice");
    let names = |text: &str| {
        let ids = t.example(text, None, 64).unwrap().ids;
        ids.into_iter().map(|id| t.token(id).unwrap()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names("E11.9\n N18 Z51-1 I10 e11.9"), "[CLS] E11.9 [UNK] Z51-1 I10 [UNK] [SEP]");
    assert_eq!(t.id("I10"), Some(5), "the most frequent first");
    assert_eq!(t.vocabulary().mask, Some(4));
    let all = made(TokenizerConfig { min_frequency: 1, ..of.clone() }).unwrap();
    assert_eq!(all.size(), 10);
    let few = made(TokenizerConfig { vocab_size: 6, ..of.clone() }).unwrap();
    assert_eq!((few.size(), few.id("I10")), (6, Some(5)));
    let why = made(TokenizerConfig { min_frequency: 9, ..of }).unwrap_err().to_string();
    assert!(why.contains("min_frequency = 9"), "{why}");
}

/// Texts longer than a megabyte are tokenised in pieces: the same tokens.
#[test]
fn long_texts() {
    let text = "walking under the water and the overflowing river ".repeat(30_000);
    assert!(text.len() > 1 << 20);
    let t = train(&config(TokenizerKind::Bpe, false), corpus()).unwrap();
    let ids = t.ids(&text).unwrap();
    assert_eq!(t.decode(&ids).unwrap(), text);
    let short = t.ids(&text[..50 * 40]).unwrap();
    assert_eq!(ids[..short.len() - 1], short[..short.len() - 1]);
    // One example out of a line of 10 MB.
    let e = t.example(&"x".repeat(10_000_000), None, 16).unwrap();
    assert_eq!(e.ids.len(), 16);
}

#[test]
fn examples_are_cut() {
    let t = train(&config(TokenizerKind::Wordpiece, false), corpus()).unwrap();
    let long = "the river ".repeat(20);
    for longest in [4, 5, 9, 10, 31] {
        assert_eq!(t.example(&long, None, longest).unwrap().ids.len(), longest);
        let e = t.example(&long, Some("the house and the river"), longest).unwrap();
        assert_eq!(e.ids.len(), longest);
        let seps: Vec<usize> = (0..longest).filter(|&i| Some(e.ids[i]) == t.special().separator).collect();
        assert_eq!((seps.len(), seps[1]), (2, longest - 1));
        // Neither text is crowded out.
        assert!(longest < 5 || (seps[0] > 1 && seps[1] > seps[0] + 1), "{longest}: {seps:?}");
    }
    assert!(t.example("the", None, 1).err().unwrap().to_string().contains("too few"));
}

#[test]
fn what_cannot_be_used_is_named() {
    let says = |e: Option<Error>, parts: &[&str]| {
        let e = e.map(|e| e.to_string()).unwrap_or_default();
        assert!(parts.iter().all(|p| e.contains(p)), "{e}");
    };
    let t = train(&config(TokenizerKind::Wordpiece, false), corpus()).unwrap();
    says(t.fits(10).err(), &[&t.size().to_string(), "10 embeddings"]);
    assert!(t.fits(t.size()).is_ok());
    // A model that was trained with another vocabulary.
    let dir = tempfile::tempdir().unwrap();
    let small = Gpt2Config::new(t.size() - 1, 8, 8, 1, 1);
    std::fs::write(dir.path().join("config.json"), small.to_hf().to_string()).unwrap();
    let mut encoder = EncoderConfig::default();
    encoder.set_pretrained(Some(dir.path().display().to_string()));
    says(
        encoder.resolve(&t.vocabulary()).err(),
        &[&t.size().to_string(), &small.vocabulary.to_string(), "different models"],
    );

    let characters = train(&config(TokenizerKind::Characters, false), corpus()).unwrap();
    says(characters.ids("the §").err(), &["'§'", "not in the vocabulary"]);
    says(
        train(&TokenizerConfig { vocab_size: 5, ..TokenizerConfig::default() }, corpus()).err(),
        &["vocab_size = 5"],
    );
    says(train(&TokenizerConfig::default(), std::iter::empty()).err(), &["no text"]);
    says(train(&TokenizerConfig::default(), [Err(Error::config("here"))].into_iter()).err(), &["here"]);
    says(Tokenizer::load(dir.path()).err(), &["no tokenizer.json"]);
    std::fs::write(dir.path().join("tokenizer.json"), "{}").unwrap();
    says(Tokenizer::load(dir.path()).err(), &["tokenizer.json", "not a tokenizer.json"]);
    t.save(dir.path(), None).unwrap();
    std::fs::write(dir.path().join("special_tokens_map.json"), r#"{"mask_token": {"content": "<nope>"}}"#)
        .unwrap();
    says(Tokenizer::load(dir.path()).err(), &["special_tokens_map.json", "<nope>"]);
}

/// All tokens of a text come, once and in order, in windows of like length with the special tokens around
/// each; a text that fits is one example, as it always was.
#[test]
fn windows_hold_all_of_a_text() {
    let config = TokenizerConfig { vocab_size: 120, ..TokenizerConfig::default() };
    let tokenizer = train(&config, corpus()).unwrap();
    let text = "the running runner quickly walked under the happy house and the overflowing river";
    let all = tokenizer.ids(text).unwrap();
    let around = tokenizer.around();
    assert!(around > 0 && all.len() > 12, "{around} {}", all.len());
    for longest in [around + 1, around + 5, around + all.len() - 1] {
        let windows = tokenizer.whole(text, longest).unwrap();
        assert_eq!(windows.len(), all.len().div_ceil(longest - around));
        let special = tokenizer.vocabulary().special;
        let inner: Vec<Vec<u32>> = windows
            .iter()
            .map(|w| w.ids.iter().copied().filter(|id| !special.contains(id)).collect())
            .collect();
        assert_eq!(inner.concat(), all);
        assert!(windows.iter().all(|w| w.ids.len() <= longest && w.ids.len() > around));
        // Like lengths: the last window may be shorter by as many tokens as there are windows.
        let lengths: Vec<usize> = inner.iter().map(Vec::len).collect();
        assert!(lengths.iter().all(|n| n + windows.len() > lengths[0]), "{lengths:?}");
    }
    let fits = tokenizer.whole(text, around + all.len()).unwrap();
    assert_eq!(fits, [tokenizer.example(text, None, around + all.len()).unwrap()]);
    assert!(tokenizer.whole(text, around).unwrap_err().to_string().contains("too few"));
    assert_eq!(tokenizer.whole("", 8).unwrap().len(), 1);
}

//! What every method and task on an encoder must satisfy: each parameter moves, resuming is exact,
//! micro-batches compute the gradient of the whole batch, and the result does not depend on the number of
//! threads.

use candle_core::Device;
use selfsup_core::conformance::{Trial, bits};
use selfsup_core::data::Collate;
use selfsup_core::objective::Objective;
use selfsup_core::objective::boxed;
use selfsup_core::optim::{OptimConfig, Optimizer};
use selfsup_core::trainer::gradients;
use selfsup_core::{Key, Params, Pass, Progress, Result, Role, Scope};
use selfsup_text::batch::{Example, IGNORED, Pad, Sequences, Vocabulary};
use selfsup_text::encoder::{BertConfig, Family};
use selfsup_text::method::{MaskedLm, MaskedLmConfig};
use selfsup_text::recipe::{EncoderConfig, Method, MethodConfig};
use selfsup_text::task::{
    AnswerConfig, AnswerFinder, SequenceClassifier, SequenceConfig, TokenClassifier, TokenConfig, Tune,
};

const BATCH: usize = 8;

fn vocabulary() -> Vocabulary {
    Vocabulary {
        size: 24,
        pad: 0,
        mask: Some(3),
        special: vec![0, 1, 2, 3],
        end: Some(2),
        sentinels: vec![23, 22, 21],
    }
}

/// Sentences of a tiny language, of 4 to 11 tokens: each word tells the next but one. Even samples have a
/// second text.
fn sentence(i: u64) -> Example {
    let length = 2 + Key::new(6).fold(i).rng().below(8);
    sentence_of(length, i)
}

/// The same with `length` words.
fn sentence_of(length: usize, i: u64) -> Example {
    let mut rng = Key::new(7).fold(i).rng();
    let (mut ids, start, step) = (vec![1u32], rng.below(20) as u32, 1 + rng.below(3) as u32);
    ids.extend((0..length as u32).map(|k| 4 + (start + k * step) % 20));
    ids.push(2);
    let types: Vec<u32> =
        (0..ids.len()).map(|k| u32::from(i.is_multiple_of(2) && 2 * k > ids.len())).collect();
    let answer = vec![1 + (start as i64) % (length as i64), length as i64];
    Example { types, targets: answer, ..Example::new(ids) }
}

/// What a name of this file needs in a batch.
fn labelled(name: &str, i: u64, epoch: u64) -> Example {
    prepared(name, sentence(i), i, epoch)
}

fn prepared(name: &str, mut e: Example, i: u64, epoch: u64) -> Example {
    match name {
        "answer" => e,
        "tokens" => Example {
            labels: e.ids.iter().map(|&id| if id < 4 { IGNORED } else { i64::from(id % 3) }).collect(),
            targets: vec![],
            ..e
        },
        "next-sentence" | "sequence" | "sequence-roberta" => {
            e.targets = vec![i64::from(e.ids[1] % 2)];
            let method = small("masked-lm").prepare(&vocabulary()).unwrap();
            if name == "next-sentence" {
                method.apply(e, &mut Key::new(3).fold(epoch).fold(i).rng()).unwrap()
            } else {
                e
            }
        }
        method => {
            e.targets = vec![];
            small(method)
                .prepare(&vocabulary())
                .unwrap()
                .apply(e, &mut Key::new(3).fold(epoch).fold(i).rng())
                .unwrap()
        }
    }
}

fn batch(name: &str, epoch: u64, b: usize) -> Result<Sequences> {
    let indices: Vec<usize> = (b * BATCH..(b + 1) * BATCH).collect();
    let items = indices.iter().map(|&i| labelled(name, i as u64, epoch)).collect();
    Pad { pad: 0, length: None }.collate(items, &indices, Key::new(0))
}

/// A batch whose sentences have the same length, and so the same number of hidden places.
fn level(name: &str, epoch: u64, b: usize) -> Result<Sequences> {
    let indices: Vec<usize> = (b * BATCH..(b + 1) * BATCH).collect();
    let items = indices.iter().map(|&i| prepared(name, sentence_of(8, i as u64), i as u64, epoch)).collect();
    Pad { pad: 0, length: None }.collate(items, &indices, Key::new(0))
}

fn small(name: &str) -> MethodConfig {
    MethodConfig::named(name).unwrap()
}

const NAMES: [&str; 10] = [
    "masked-lm",
    "electra",
    "simcse",
    "causal-lm",
    "span-corruption",
    "next-sentence",
    "sequence",
    "sequence-roberta",
    "tokens",
    "answer",
];

fn build(name: &str, seed: u64, dropout: f32) -> Method {
    let params = Params::new();
    let scope = Scope::root(&params, seed, &Device::Cpu);
    let network = match name {
        "electra" => "electra",
        "causal-lm" => "gpt2",
        "span-corruption" => "t5",
        _ => "bert",
    };
    let mut keys = serde_json::json!({
        "name": network, "dim": 16, "depth": 2, "heads": 4, "mlp_ratio": 2.0, "dropout": dropout,
    });
    if network != "t5" {
        keys["positions"] = 16.into();
    }
    if network == "electra" {
        keys["embedding_dim"] = 8.into();
    }
    let encoder: EncoderConfig = serde_json::from_value(keys).unwrap();
    let architecture = encoder.resolve(&vocabulary()).unwrap();
    let selfsup_text::recipe::Architecture::Bert(bert) = architecture else {
        return small(name).build(&scope, &architecture).unwrap();
    };
    let roberta = BertConfig { family: Family::Roberta, types: 2, positions: 20, ..bert.clone() };
    let next = MaskedLmConfig { next_sentence: true, ..MaskedLmConfig::default() };
    let classes = SequenceConfig { classes: 2, ..SequenceConfig::default() };
    match name {
        "next-sentence" => boxed(MaskedLm::new(&scope, bert, &next).unwrap()),
        "sequence" => boxed(SequenceClassifier::new(&scope, &bert, classes).unwrap()),
        "sequence-roberta" => boxed(SequenceClassifier::new(&scope, &roberta, classes).unwrap()),
        "tokens" => boxed(
            TokenClassifier::new(
                &scope,
                &bert,
                TokenConfig { classes: 3, dropout, ..TokenConfig::default() },
            )
            .unwrap(),
        ),
        "answer" => boxed(AnswerFinder::new(&scope, &bert, &AnswerConfig::default()).unwrap()),
        method => small(method).build(&scope, &encoder.resolve(&vocabulary()).unwrap()).unwrap(),
    }
}

fn trial(name: &'static str) -> Trial<'static, Sequences> {
    let optim = OptimConfig { lr: 1e-2, clip_grad_norm: Some(1.0), ..OptimConfig::default() };
    Trial::new(name, move |epoch, b| batch(name, epoch, b)).optim(optim)
}

#[test]
fn every_parameter_moves() {
    for name in NAMES {
        let dir = tempfile::tempdir().unwrap();
        trial(name).every_parameter_moves(&*build(name, 0, 0.1), &dir.path().join("run")).unwrap();
    }
}

#[test]
fn frozen_parts_stay() {
    for (tune, moves) in [(Tune::Head, 0), (Tune::Last(1), 1), (Tune::Last(2), 2)] {
        let params = Params::new();
        let bert = BertConfig {
            dim: 16,
            embedding_dim: 16,
            depth: 2,
            heads: 4,
            hidden: 32,
            positions: 16,
            ..BertConfig::base(Family::Bert, vocabulary().size)
        };
        let config = SequenceConfig { tune, ..SequenceConfig::default() };
        let task = SequenceClassifier::new(&Scope::root(&params, 0, &Device::Cpu), &bert, config).unwrap();
        let before = bits(&params).unwrap();
        let dir = tempfile::tempdir().unwrap();
        trial("sequence").epochs(1).train(&task, &dir.path().join("run")).unwrap();
        let after = bits(&params).unwrap();
        for (name, old) in &before {
            let block = |i: usize| name.starts_with(&format!("encoder.blocks.{i}."));
            let frozen = name.starts_with("encoder.embeddings.") || (0..2 - moves).any(block);
            assert_eq!(*old == after[name], frozen, "{tune:?}: {name}");
            assert_eq!(params.get(name).unwrap().role == Role::Frozen, frozen, "{tune:?}: {name}");
        }
    }
}

#[test]
fn resuming_is_exact() {
    for name in NAMES {
        let dir = tempfile::tempdir().unwrap();
        trial(name).resuming_is_exact(|seed| Ok(build(name, seed, 0.1)), dir.path()).unwrap();
    }
}

/// With dropout, whose masks belong to samples. The second terms of ELECTRA and of next-sentence prediction
/// are averaged by another count than their own: their sentences have the same length, and so the same share
/// of both counts.
#[test]
fn micro_batches_compute_the_same_gradient() {
    for name in NAMES {
        let two_terms = matches!(name, "electra" | "next-sentence");
        let trial = Trial::new(
            name,
            move |epoch, b| {
                if two_terms { level(name, epoch, b) } else { batch(name, epoch, b) }
            },
        );
        trial.parts_compute_the_gradient(&*build(name, 1, 0.2), &[1, 3, 4], 2e-4).unwrap();
    }
}

#[test]
fn two_processes_compute_the_gradient_of_one() {
    for name in NAMES {
        let two_terms = matches!(name, "electra" | "next-sentence");
        let trial = Trial::new(
            name,
            move |epoch, b| {
                if two_terms { level(name, epoch, b) } else { batch(name, epoch, b) }
            },
        );
        trial.ranks_compute_the_gradient(|seed| Ok(build(name, seed, 0.1)), 2, 1e-4).unwrap();
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    for name in
        ["masked-lm", "electra", "simcse", "causal-lm", "span-corruption", "sequence", "tokens", "answer"]
    {
        let dir = tempfile::tempdir().unwrap();
        trial(name)
            .epochs(2)
            .threads_do_not_change_a_bit(|seed| Ok(build(name, seed, 0.1)), dir.path())
            .unwrap();
    }
}

/// A language in which each word is the successor of the one before: a hidden word follows from its
/// neighbours. Untrained, the loss is that of 24 equal chances; without looking at neighbours it cannot fall
/// below that of 20 equal words.
#[test]
fn masked_words_are_learnt() {
    let params = Params::new();
    let bert = BertConfig {
        dim: 32,
        embedding_dim: 32,
        depth: 2,
        heads: 4,
        hidden: 64,
        positions: 16,
        dropout: 0.0,
        attention_dropout: 0.0,
        ..BertConfig::base(Family::Bert, vocabulary().size)
    };
    let method =
        MaskedLm::new(&Scope::root(&params, 0, &Device::Cpu), bert, &MaskedLmConfig::default()).unwrap();
    let prepare = small("masked-lm").prepare(&vocabulary()).unwrap();
    let batch = |step: u64| {
        let sentences = (0..64u64).map(|i| {
            let mut rng = Key::new(5).fold(step).fold(i).rng();
            let (start, length) = (rng.below(20), 8 + rng.below(5));
            let ids = std::iter::once(1).chain((0..length).map(|k| 4 + (start + k) as u32 % 20)).chain([2]);
            prepare.apply(Example::new(ids.collect()), &mut rng).unwrap()
        });
        Pad { pad: 0, length: None }
            .collate(sentences.collect(), &(0..64).collect::<Vec<_>>(), Key::new(0))
            .unwrap()
    };
    let look = || {
        let e = method.embed(&batch(1 << 40), &Pass::eval()).unwrap();
        f64::from(method.criterion(&e, &Pass::eval()).unwrap().value.to_scalar::<f32>().unwrap())
    };
    let before = look();
    assert!((before - 24f64.ln()).abs() < 0.2, "{before}");
    let steps = 400;
    let optim = OptimConfig { lr: 1e-2, clip_grad_norm: Some(1.0), ..OptimConfig::default() };
    let mut optimizer = Optimizer::new(&params, optim).unwrap();
    for step in 0..steps {
        let pass = Pass::train(0, Progress { step, total_steps: steps, epoch: 0 });
        optimizer.step(&gradients(&method, &batch(step), 0, &pass).unwrap().grads, step, steps).unwrap();
    }
    let after = look();
    assert!(after < 20f64.ln() - 1.0, "from {before} to {after}");
}

#[test]
fn a_batch_without_labels_costs_nothing() {
    let method = build("masked-lm", 0, 0.0);
    let e = Example::new(vec![1, 5, 6, 2]);
    let batch = Pad::default().collate(vec![e.clone(), e], &[0, 1], Key::new(0)).unwrap();
    let made = gradients(&*method, &batch, 0, &Pass::eval()).unwrap();
    assert_eq!(made.loss, 0.0);
    assert!(
        made.grads
            .iter()
            .all(|(_, g)| g.abs().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap() == 0.0)
    );
}

#[test]
fn wrong_batches_are_named() {
    let says = |name: &str, batch: Sequences, part: &str| {
        let e =
            build(name, 0, 0.1).embed(&batch, &Pass::eval()).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(e.contains(part), "{name}: {e}");
    };
    let plain = |e: Example| Pad::default().collate(vec![e.clone(), e], &[0, 1], Key::new(0)).unwrap();
    says("masked-lm", plain(Example::new(vec![1, 99, 2])), "place 1 holds the id 99");
    says("masked-lm", plain(Example::new(vec![5; 17])), "17 tokens, expected 1 to 16");
    says("masked-lm", plain(Example { labels: vec![1, 2], ..Example::new(vec![1, 5, 2]) }), "batch.labels");
    says(
        "next-sentence",
        plain(Example { labels: vec![1, 2, 3], ..Example::new(vec![1, 5, 2]) }),
        "pairs of texts",
    );
    says("sequence", plain(Example::new(vec![1, 5, 2])), "one class for each sequence");
    says(
        "answer",
        plain(Example { targets: vec![1], ..Example::new(vec![1, 5, 2]) }),
        "first and last token",
    );
}

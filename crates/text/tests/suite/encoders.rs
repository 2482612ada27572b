//! What every encoder of texts must satisfy: a second build changes nothing, and each parameter says where it
//! stands, which fine-tuning goes by.

use candle_core::Device;
use selfsup_core::conformance::{
    building_twice_changes_nothing, every_parameter_has_a_place, fine_tuning_rates,
};
use selfsup_core::{Encoder, Params, Result, Scope};
use selfsup_text::encoder::{Bert, BertConfig, Family, Gpt2, Gpt2Config, Pool, PooledBert, T5, T5Config};

fn bert(family: Family) -> BertConfig {
    let base = BertConfig::base(family, 20);
    BertConfig { dim: 8, embedding_dim: 6, depth: 2, heads: 2, hidden: 16, positions: 12, ..base }
}

type Build = Box<dyn Fn(&Scope) -> Result<Box<dyn Encoder>>>;

fn all() -> Vec<(&'static str, Build)> {
    vec![
        (
            "bert",
            Box::new(|s| {
                Ok(Box::new(Bert::new(s, BertConfig { pool: Pool::Pooler, ..bert(Family::Bert) })?))
            }),
        ),
        ("roberta", Box::new(|s| Ok(Box::new(PooledBert::new(s, &bert(Family::Roberta))?)))),
        ("gpt2", Box::new(|s| Ok(Box::new(Gpt2::new(s, Gpt2Config::new(20, 12, 8, 2, 2))?)))),
        (
            "t5",
            Box::new(|s| Ok(Box::new(T5::new(s, T5Config { tied: false, ..T5Config::new(20, 8, 2, 2) })?))),
        ),
    ]
}

#[test]
fn a_second_build_changes_nothing() {
    for (name, build) in all() {
        building_twice_changes_nothing(name, build).unwrap();
    }
}

#[test]
fn every_parameter_stands_somewhere() {
    for (name, build) in all() {
        let params = Params::new();
        build(&Scope::root(&params, 0, &Device::Cpu)).unwrap();
        every_parameter_has_a_place(name, &params).unwrap();
    }
}

#[test]
fn fine_tuning_takes_blocks_from_the_top() {
    let expected = [
        (
            vec!["blocks.0 0.25", "blocks.1 0.5", "embeddings 0.125", "pooler 1", "project 0.125"],
            vec!["blocks.1 0.5", "pooler 1"],
        ),
        (
            vec!["blocks.0 0.25", "blocks.1 0.5", "embeddings 0.125", "head 1", "project 0.125"],
            vec!["blocks.1 0.5", "head 1"],
        ),
        (
            vec!["blocks.0 0.25", "blocks.1 0.5", "norm 1", "wpe 0.125", "wte 0.125"],
            vec!["blocks.1 0.5", "norm 1"],
        ),
        (
            vec![
                "decoder 1",
                "encoder 0.25",
                "encoder 0.5",
                "encoder 1",
                "encoder 0.125",
                "head 1",
                "shared 0.125",
            ],
            vec!["decoder 1", "encoder 0.5", "encoder 1", "head 1"],
        ),
    ];
    for ((name, build), (whole, last)) in all().into_iter().zip(expected) {
        assert_eq!(fine_tuning_rates(&build, None).unwrap(), whole, "{name}");
        assert_eq!(fine_tuning_rates(&build, Some(1)).unwrap(), last, "{name}");
    }
}

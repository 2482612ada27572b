//! What every encoder of recordings must satisfy: a second build changes nothing, and each parameter says
//! where it stands, which fine-tuning goes by.

use candle_core::Device;
use selfsup_core::conformance::{
    building_twice_changes_nothing, every_parameter_has_a_place, fine_tuning_rates,
};
use selfsup_core::{Params, Result, Scope};
use selfsup_speech::encoder::{Family, SpeechConfig, SpeechEncoder};

fn build(family: Family, stable: bool) -> impl Fn(&Scope) -> Result<SpeechEncoder> {
    move |scope| {
        let config = SpeechConfig {
            dim: 8,
            depth: 2,
            heads: 2,
            hidden: 16,
            position_kernel: if family == Family::Data2vecAudio { 5 } else { 4 },
            position_groups: 2,
            conv_dim: vec![4; 7],
            stable_layer_norm: stable,
            ..SpeechConfig::named(family, "tiny").unwrap()
        };
        SpeechEncoder::new(scope, config)
    }
}

const ALL: [(Family, bool); 4] = [
    (Family::Wav2vec2, false),
    (Family::Wav2vec2, true),
    (Family::Hubert, false),
    (Family::Data2vecAudio, false),
];

#[test]
fn a_second_build_changes_nothing() {
    for (family, stable) in ALL {
        building_twice_changes_nothing(&format!("{family:?}"), build(family, stable)).unwrap();
    }
}

#[test]
fn every_parameter_stands_somewhere() {
    for (family, stable) in ALL {
        let params = Params::new();
        build(family, stable)(&Scope::root(&params, 0, &Device::Cpu)).unwrap();
        every_parameter_has_a_place(&format!("{family:?}"), &params).unwrap();
    }
}

#[test]
fn fine_tuning_takes_blocks_from_the_top() {
    for (family, stable) in ALL {
        let rates = |blocks| fine_tuning_rates(build(family, stable), blocks).unwrap();
        let whole = rates(None);
        for stem in ["front.0 0.125", "positions", "projection 0.125"] {
            assert!(
                whole.iter().any(|l| l.starts_with(stem) && l.ends_with(" 0.125")),
                "{family:?}: {whole:?}"
            );
        }
        assert!(
            whole.contains(&"blocks.0 0.25".into()) && whole.contains(&"blocks.1 0.5".into()),
            "{whole:?}"
        );
        // The norm stands in front of the first block, unless blocks normalise before each part.
        assert!(whole.contains(&format!("norm {}", if stable { 1.0 } else { 0.125 })), "{whole:?}");
        let last: &[&str] = if stable { &["blocks.1 0.5", "norm 1"] } else { &["blocks.1 0.5"] };
        assert_eq!(rates(Some(1)), last, "{family:?}");
        assert_eq!(rates(Some(0)), [""; 0]);
    }
}

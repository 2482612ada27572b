//! Folders of GPT-2 and T5: what is written is read back to the same model, under the names that transformers
//! uses.

use candle_core::{Device, Tensor};
use selfsup_core::weights;
use selfsup_core::{Encoder, Params, Pass, Result, Scope};
use selfsup_text::batch::Vocabulary;
use selfsup_text::export::export;
use selfsup_text::recipe::{Architecture, EncoderConfig, MethodConfig};
use std::path::Path;

fn vocabulary() -> Vocabulary {
    Vocabulary {
        size: 30,
        pad: 0,
        end: Some(1),
        sentinels: vec![29, 28],
        special: vec![0, 1, 28, 29],
        mask: None,
    }
}

fn features(encoder: &dyn Encoder) -> Vec<f32> {
    let ids = Tensor::from_vec(vec![5u32, 9, 3, 2, 7, 1, 4, 8], (2, 4), &Device::Cpu).unwrap();
    let pooled = encoder.forward(&ids, None, &[], &Pass::eval()).unwrap().pooled;
    pooled.flatten_all().unwrap().to_vec1().unwrap()
}

/// Trains nothing: writes, reads, compares; returns the keys of the file.
fn round_trip(method: &str, config: EncoderConfig, folder: &Path) -> Vec<String> {
    let (method, params) = (MethodConfig::named(method).unwrap(), Params::new());
    let network = config.resolve(&vocabulary()).unwrap();
    let built = method.build(&Scope::root(&params, 1, &Device::Cpu), &network).unwrap();
    export(folder, &method, &network, &params, None).unwrap();

    let mut again = EncoderConfig::default();
    again.set_pretrained(Some(folder.display().to_string()));
    let found = again.resolve(&vocabulary()).unwrap();
    assert_eq!(found.vocabulary(), 30);
    let other = Params::new();
    let scope = Scope::root(&other, 2, &Device::Cpu);
    let encoder = found.build(&scope.sub("encoder")).unwrap();
    assert_ne!(features(encoder.as_ref()), features(built.encoder()));
    let report = found.load(&other, "encoder", folder).unwrap();
    assert!(report.missing.is_empty() && report.unexpected.is_empty(), "{report:?}");
    assert_eq!(features(encoder.as_ref()), features(built.encoder()));
    weights::read(folder).unwrap().into_keys().collect()
}

fn small(name: &str) -> EncoderConfig {
    sized(name, 8, 2)
}

fn sized(name: &str, dim: usize, depth: usize) -> EncoderConfig {
    let mut keys = serde_json::json!({"name": name, "dim": dim, "depth": depth, "heads": 2});
    if name == "gpt2" {
        keys["positions"] = 6.into();
    }
    serde_json::from_value(keys).unwrap()
}

#[test]
fn gpt2() -> Result<()> {
    let dir = tempfile::tempdir().unwrap();
    let keys = round_trip("causal-lm", small("gpt2"), dir.path());
    let expected = [
        "transformer.h.0.attn.c_attn.weight",
        "transformer.ln_f.bias",
        "transformer.wpe.weight",
        "transformer.wte.weight",
    ];
    assert!(expected.iter().all(|k| keys.iter().any(|x| x == k)), "{keys:?}");
    // (in, out), as Conv1D has it.
    assert_eq!(weights::read(dir.path())?["transformer.h.1.mlp.c_fc.weight"].dims(), [8, 32]);
    // A file of the bare model has no `transformer.` in front.
    let mut network = small("gpt2");
    network.set_pretrained(Some(dir.path().display().to_string()));
    let network = network.resolve(&vocabulary())?;
    let bare: Vec<(String, Tensor)> = weights::read(dir.path())?
        .into_iter()
        .map(|(k, t)| (k.trim_start_matches("transformer.").to_string(), t))
        .collect();
    let file = dir.path().join("bare.safetensors");
    selfsup_core::checkpoint::save_safetensors(&file, &bare)?;
    let params = Params::new();
    network.build(&Scope::root(&params, 0, &Device::Cpu).sub("encoder"))?;
    assert!(network.load(&params, "encoder", &file)?.missing.is_empty());
    Ok(())
}

#[test]
fn t5() {
    for name in ["t5", "t5_1_1_small"] {
        let dir = tempfile::tempdir().unwrap();
        let keys = round_trip("span-corruption", small(name), dir.path());
        let gated = name != "t5";
        assert_eq!(keys.iter().any(|k| k == "lm_head.weight"), gated);
        assert_eq!(keys.iter().any(|k| k == "decoder.block.1.layer.2.DenseReluDense.wi_1.weight"), gated);
        assert!(
            keys.iter().any(|k| k == "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight")
        );
        assert!(keys.iter().any(|k| k == "decoder.block.1.layer.1.EncDecAttention.v.weight"));
    }
}

/// T5 1.1 as transformers 5 writes it (tied, with outputs that are not scaled, and a head in the file), and a
/// head of its own in a file whose configuration says that there is none.
#[test]
fn untied_t5() {
    let dir = tempfile::tempdir().unwrap();
    round_trip("span-corruption", small("t5_1_1_small"), dir.path());
    let path = dir.path().join("config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&config["tie_word_embeddings"], &config["scale_decoder_outputs"]),
        (&false.into(), &false.into())
    );
    let found = |config: &serde_json::Value| {
        std::fs::write(&path, config.to_string()).unwrap();
        let mut network = EncoderConfig::default();
        network.set_pretrained(Some(dir.path().display().to_string()));
        let network = network.resolve(&vocabulary()).unwrap();
        let params = Params::new();
        let encoder = network.build(&Scope::root(&params, 2, &Device::Cpu).sub("encoder")).unwrap();
        network.load(&params, "encoder", dir.path()).map(|_| features(encoder.as_ref()))
    };
    let plain = found(&config).unwrap();
    config["tie_word_embeddings"] = true.into();
    assert_eq!(found(&config).unwrap(), plain);
    config.as_object_mut().unwrap().remove("scale_decoder_outputs");
    let e = found(&config).unwrap_err().to_string();
    assert!(e.contains("lm_head.weight") && e.contains("tie_word_embeddings"), "{e}");
}

/// The head of a GPT-2 is its table of tokens. A file may hold it twice; one that differs is refused.
#[test]
fn a_head_of_its_own_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    round_trip("causal-lm", small("gpt2"), dir.path());
    let network = small("gpt2").resolve(&vocabulary()).unwrap();
    let file = dir.path().join("model.safetensors");
    let all = candle_core::safetensors::load(&file, &Device::Cpu).unwrap();
    let found = |head: candle_core::Tensor| {
        let with: Vec<_> = all.clone().into_iter().chain([("lm_head.weight".to_string(), head)]).collect();
        selfsup_core::checkpoint::save_safetensors(&file, &with).unwrap();
        let params = Params::new();
        network.build(&Scope::root(&params, 0, &Device::Cpu).sub("encoder")).unwrap();
        network.load(&params, "encoder", dir.path()).map(|_| ())
    };
    let table = all.iter().find(|(k, _)| k.ends_with("wte.weight")).unwrap().1.clone();
    found(table.clone()).unwrap();
    let why = found((table * 1.01).unwrap()).unwrap_err().to_string();
    assert!(why.contains("lm_head.weight differs from wte.weight"), "{why}");
}

#[test]
fn other_models_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    round_trip("causal-lm", small("gpt2"), dir.path());
    let says = |network: Architecture, part: &str| {
        let params = Params::new();
        network.build(&Scope::root(&params, 0, &Device::Cpu).sub("encoder")).unwrap();
        let e = network.load(&params, "encoder", dir.path()).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(e.contains(part), "{e}");
    };
    says(small("t5").resolve(&vocabulary()).unwrap(), "missing");
    says(sized("gpt2", 16, 2).resolve(&vocabulary()).unwrap(), "another shape");
    says(sized("gpt2", 8, 1).resolve(&vocabulary()).unwrap(), "blocks.1.attn.proj.bias");
    says(sized("gpt2", 8, 3).resolve(&vocabulary()).unwrap(), "blocks.2.attn.proj.bias");
    // A method for another network.
    let e = MethodConfig::named("masked-lm")
        .unwrap()
        .build(&Scope::root(&Params::new(), 0, &Device::Cpu), &small("gpt2").resolve(&vocabulary()).unwrap());
    assert!(e.err().unwrap().to_string().contains("set encoder.name to bert"));
    let e = EncoderConfig::named("gpt3");
    assert!(e.err().unwrap().to_string().contains("gpt2"));
}

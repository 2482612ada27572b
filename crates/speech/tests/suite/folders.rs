//! Folders in transformers' layout: written, read back, and the same numbers come out; what does not fit is
//! refused by name.

use candle_core::{DType, Device, Tensor};
use selfsup_core::{Encoder, Layer, Params, Pass, Scope, weights};
use selfsup_speech::encoder::{Family, FrontNorm, SpeechConfig, SpeechEncoder};
use selfsup_speech::finetune::{Ctc, CtcConfig, Units, Vocabulary};
use selfsup_speech::methods::{Wav2Vec2, Wav2Vec2Config};
use selfsup_speech::names::{Head, load_pretrained, read_config, rules, save_folder};
use std::path::Path;

fn config(family: Family) -> SpeechConfig {
    let base = SpeechConfig::named(family, "tiny").unwrap();
    SpeechConfig {
        dim: 16,
        depth: 2,
        heads: 2,
        hidden: 32,
        conv_dim: vec![8; 7],
        position_kernel: 6,
        position_groups: 2,
        ..base
    }
}

fn network(config: SpeechConfig, seed: u64) -> (Params, SpeechEncoder) {
    let params = Params::new();
    let net = SpeechEncoder::new(&Scope::root(&params, seed, &Device::Cpu).sub("encoder"), config).unwrap();
    (params, net)
}

fn tokens(net: &SpeechEncoder) -> Vec<f32> {
    let x: Vec<f32> = (0..3000).map(|t| (t as f32 * 0.05).sin()).collect();
    let x = Tensor::from_vec(x, (1, 3000), &Device::Cpu).unwrap();
    net.forward(&x, None, &[Layer::Tokens], &Pass::eval())
        .unwrap()
        .tokens
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap()
}

#[test]
fn written_and_read_back() {
    for family in [Family::Wav2vec2, Family::Hubert, Family::Data2vecAudio] {
        let dir = tempfile::tempdir().unwrap();
        let (params, net) = network(config(family), 1);
        save_folder(dir.path(), &params, "encoder", net.config(), &Head::None, true).unwrap();
        let read = read_config(dir.path()).unwrap();
        assert_eq!(&read, net.config());
        let (other, again) = network(read, 2);
        assert_ne!(tokens(&net), tokens(&again));
        load_pretrained(&other, "encoder", dir.path()).unwrap();
        assert_eq!(tokens(&net), tokens(&again));
        let names: Vec<String> = weights::read(dir.path()).unwrap().into_keys().collect();
        assert!(names.iter().any(|n| n == "encoder.layers.1.attention.q_proj.weight"), "{names:?}");
        assert!(names.iter().all(|n| !n.contains("blocks") && !n.contains("qkv")), "{names:?}");
    }
}

#[test]
fn old_names_and_missing_mask_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let (params, net) = network(config(Family::Wav2vec2), 1);
    save_folder(dir.path(), &params, "encoder", net.config(), &Head::None, true).unwrap();
    let old =
        weights::weight_norm_names(weights::read(dir.path()).unwrap(), weights::WeightNorm::GV).unwrap();
    assert!(old.contains_key("encoder.pos_conv_embed.conv.weight_g"));
    // As older files with a head have it: a prefix, and no mask token.
    let old =
        old.into_iter().filter(|(n, _)| n != "masked_spec_embed").map(|(n, t)| (format!("wav2vec2.{n}"), t));
    let mut old: std::collections::HashMap<String, Tensor> = old.collect();
    old.insert("lm_head.bias".into(), Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap());
    candle_core::safetensors::save(&old, dir.path().join("model.safetensors")).unwrap();
    let (other, again) = network(config(Family::Wav2vec2), 2);
    let report = load_pretrained(&other, "encoder", dir.path()).unwrap();
    assert_eq!(
        (report.missing, report.unexpected),
        (vec!["mask_token".to_string()], vec!["lm_head.bias".to_string()])
    );
    assert_eq!(tokens(&net), tokens(&again));
}

#[test]
fn recognition_with_its_vocabulary() {
    let dir = tempfile::tempdir().unwrap();
    let vocabulary = Vocabulary::build(["one two"], Units::Characters).unwrap();
    let params = Params::new();
    let scope = Scope::root(&params, 0, &Device::Cpu);
    let task = Ctc::new(&scope, config(Family::Hubert), CtcConfig::default(), vocabulary.len()).unwrap();
    save_folder(dir.path(), &params, "encoder", task.speech().config(), &Head::Ctc(vocabulary.pairs()), true)
        .unwrap();
    assert_eq!(Vocabulary::read(&dir.path().join("vocab.json"), Units::Characters).unwrap(), vocabulary);
    let names: Vec<String> = weights::read(dir.path()).unwrap().into_keys().collect();
    assert!(
        names.contains(&"lm_head.weight".to_string())
            && names.contains(&"hubert.masked_spec_embed".to_string()),
        "{names:?}"
    );
    let json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(dir.path().join("config.json")).unwrap()).unwrap();
    assert_eq!(
        (&json["architectures"][0], &json["vocab_size"]),
        (&"HubertForCTC".into(), &vocabulary.len().into())
    );
    assert_eq!(read_config(dir.path()).unwrap(), *task.speech().config());
}

#[test]
fn weights_of_another_network() {
    let dir = tempfile::tempdir().unwrap();
    let (params, net) = network(config(Family::Wav2vec2), 1);
    save_folder(dir.path(), &params, "encoder", net.config(), &Head::None, true).unwrap();
    let refused = |c: SpeechConfig| {
        let (other, _) = network(c, 2);
        load_pretrained(&other, "encoder", dir.path()).unwrap_err().to_string()
    };
    let deeper = refused(SpeechConfig { depth: 3, ..config(Family::Wav2vec2) });
    assert!(deeper.contains("another network") && deeper.contains("blocks.2."), "{deeper}");
    let wider = refused(SpeechConfig { hidden: 48, ..config(Family::Wav2vec2) });
    assert!(wider.contains("mlp.fc1") && wider.contains("[32, 16]"), "{wider}");
    let layered = refused(SpeechConfig { front_norm: FrontNorm::Layer, ..config(Family::Wav2vec2) });
    assert!(layered.contains("front.1.norm"), "{layered}");
    // What the file has and the network has not is as wrong as the reverse.
    let shallower = refused(SpeechConfig { depth: 1, ..config(Family::Wav2vec2) });
    assert!(
        shallower.contains("no parameter takes") && shallower.contains("encoder.layers.1."),
        "{shallower}"
    );
    let mut more: std::collections::HashMap<String, Tensor> =
        weights::read(dir.path()).unwrap().into_iter().collect();
    more.insert("encoder.layers.0.scale".into(), Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap());
    candle_core::safetensors::save(&more, dir.path().join("model.safetensors")).unwrap();
    let scaled = refused(config(Family::Wav2vec2));
    assert!(scaled.contains("encoder.layers.0.scale"), "{scaled}");
    std::fs::write(dir.path().join("config.json"), "{}").unwrap();
    let e = read_config(dir.path()).unwrap_err().to_string();
    assert!(e.contains("config.json") && e.contains("model_type"), "{e}");
    assert!(load_pretrained(&params, "encoder", Path::new("nowhere")).is_err());
}

/// Folders that transformers wrote: read by the encoder, written again, and every tensor of it stands under
/// the same name with the same values.
#[test]
fn folders_of_transformers_there_and_back() {
    for (name, prefix) in [
        ("hubert", ""),
        ("data2vec_audio", ""),
        ("wav2vec2_ctc", "wav2vec2"),
        ("wav2vec2_ctc_weight_g", "wav2vec2"),
    ] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/models").join(name);
        let config = read_config(&folder).unwrap();
        let (params, net) = network(config, 0);
        load_pretrained(&params, "encoder", &folder).unwrap();
        let dir = tempfile::tempdir().unwrap();
        save_folder(dir.path(), &params, "encoder", net.config(), &Head::None, false).unwrap();
        let theirs = weights::normalise(weights::read(&folder).unwrap()).unwrap();
        let mine = weights::read(dir.path()).unwrap();
        let bare =
            |n: &str| n.strip_prefix(&format!("{prefix}.")).map_or_else(|| n.to_string(), str::to_string);
        let wanted: Vec<String> =
            theirs.keys().filter(|n| prefix.is_empty() || n.starts_with(prefix)).map(|n| bare(n)).collect();
        assert_eq!(mine.keys().cloned().collect::<Vec<_>>(), wanted, "{name}");
        let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for (n, t) in &theirs {
            if let Some(m) = mine.get(&bare(n)) {
                assert_eq!((m.dims(), flat(m)), (t.dims(), flat(t)), "{name}: {n}");
            }
        }
    }
}

/// The whole of wav2vec 2.0 with its quantiser, as transformers' `Wav2Vec2ForPreTraining` has it.
#[test]
fn pre_training_there_and_back() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/models/wav2vec2_pretraining");
    let config = read_config(&folder).unwrap();
    let settings = Wav2Vec2Config {
        mask: config.mask,
        codes: 8,
        code_dim: 16,
        out_dim: 16,
        negatives: 5,
        ..Wav2Vec2Config::default()
    };
    let params = Params::new();
    let method = Wav2Vec2::new(&Scope::root(&params, 0, &Device::Cpu), config, settings.clone()).unwrap();
    let theirs = weights::normalise(weights::read(&folder).unwrap()).unwrap();
    let ours = rules("wav2vec2", "encoder").unwrap().to_ours(theirs.clone()).unwrap();
    weights::load_into(&params, &ours, "", &weights::Options::default()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    save_folder(dir.path(), &params, "encoder", method.speech().config(), &Head::Quantizer(settings), false)
        .unwrap();
    let mine = weights::read(dir.path()).unwrap();
    assert_eq!(mine.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert!(mine.iter().all(|(n, t)| flat(t) == flat(&theirs[n])));
    // Every key of theirs that describes the network says the same in ours.
    let json = |d: &Path| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(d.join("config.json")).unwrap()).unwrap()
    };
    let (mine, theirs) = (json(dir.path()), json(&folder));
    for (key, value) in mine.as_object().unwrap() {
        // Dropouts aside: ours writes the trunk's where transformers has one more key for the head.
        if !key.ends_with("dropout") {
            assert_eq!(Some(value), theirs.get(key), "{key}");
        }
    }
}

//! Speech models and features: load the folder as a user would, compare outputs, loss and gradients under the
//! names of the file.

use super::case::{Case, Handler, Outputs, Result};
use super::model::{config, gradients, one, whole};
use candle_core::{Device, Tensor, Var};
use selfsup_core::weights::{self, Options};
use selfsup_core::{Objective, Params, Pass, Scope};
use selfsup_speech::batch::{Target, Waves};
use selfsup_speech::encoder::{Hidden, SpeechConfig, SpeechEncoder};
use selfsup_speech::features::{Extractor, FeatureConfig};
use selfsup_speech::finetune::{Classify, ClassifyConfig, Ctc, CtcConfig, LayerSum};
use selfsup_speech::methods::{Rows, Splice, Wav2Vec2, Wav2Vec2Config};
use selfsup_speech::names::{load_pretrained, read_config, rules};
use serde_json::Value;

/// Who runs a case, if anyone.
pub fn handler(case: &Case) -> Option<Handler> {
    Some(match case.name.as_str() {
        "models/wav2vec2_pretraining/io" => |c| one(pretraining(c)?),
        "models/wav2vec2_ctc/io" | "models/wav2vec2_ctc_weight_g/io" => |c| one(recognition(c)?),
        "models/hubert_sequence_classification/io"
        | "models/hubert_layersum/io"
        | "models/wav2vec2_layersum/io" => |c| one(classification(c)?),
        "models/hubert/io" | "models/data2vec_audio/io" => |c| one(encoder(c)?),
        "signal/mfcc_kaldi" => |c| one(kaldi(c)?),
        _ => return None,
    })
}

/// MFCC and log-mel energies of a wave.
fn kaldi(case: &Case) -> Result<Outputs> {
    let wave: Vec<f32> = case.input("wav")?.to_vec1()?;
    let mut out = Outputs::new();
    for (name, config) in [
        ("mfcc", FeatureConfig { deltas: 0, ..FeatureConfig::default() }),
        ("fbank80", FeatureConfig::fbank()),
    ] {
        let frames = Extractor::new(&config, 16_000)?.compute(&wave)?;
        let shape = (frames.len(), frames.dim());
        out.insert(format!("expected.{name}"), Tensor::from_vec(frames.into_vec(), shape, &Device::Cpu)?);
    }
    Ok(out)
}

/// The case's waves, whose lengths are those of the attention mask.
fn waves(case: &Case, targets: Vec<Target>) -> Result<Waves> {
    let values = case.input("input_values")?;
    let (n, t) = values.dims2()?;
    let lengths = match case.maybe("attention_mask") {
        None => vec![t; n],
        Some(mask) => {
            let rows: Vec<Vec<f32>> = mask.to_dtype(candle_core::DType::F32)?.to_vec2()?;
            rows.iter().map(|row| row.iter().sum::<f32>() as usize).collect()
        }
    };
    Ok(Waves { values, lengths, starts: vec![0; n], targets, indices: (0..n).collect() })
}

/// Loads the encoder by the public function and everything beside it by name.
fn load(case: &Case, params: &Params, theirs: &str) -> Result<()> {
    load_pretrained(params, "encoder", &case.folder)?;
    let all = rules(theirs, "encoder")?.to_ours(weights::normalise(weights::read(&case.folder)?)?)?;
    weights::load_into(params, &all, "", &Options::default())?;
    Ok(())
}

fn number(config: &Value, key: &str) -> Result<f64> {
    config.get(key).and_then(Value::as_f64).ok_or_else(|| format!("config.json has no {key}").into())
}

fn encoder(case: &Case) -> Result<Outputs> {
    let params = Params::new();
    let net = SpeechEncoder::new(
        &Scope::root(&params, 0, &Device::Cpu).sub("encoder"),
        read_config(&case.folder)?,
    )?;
    load(case, &params, "")?;
    let batch = waves(case, vec![])?;
    let counts = net.frame_counts(&batch.lengths)?;
    let frames = net.frames(&batch.values, &Pass::eval())?;
    let valid = net.frame_mask(&counts, frames.dim(1)?, &Device::Cpu)?;
    let y = net.encode(&frames, &Hidden::default(), valid.as_ref(), &Pass::eval())?;
    let mut out = Outputs::from([("expected.last_hidden_state".into(), y.detach())]);
    gradients(&params, &y.sqr()?.mean_all()?, &rules("", "encoder")?, &mut out)?;
    Ok(out)
}

fn recognition(case: &Case) -> Result<Outputs> {
    let json = config(case)?;
    let params = Params::new();
    let settings = CtcConfig { freeze_front: false, ..CtcConfig::default() };
    let task = Ctc::new(
        &Scope::root(&params, 0, &Device::Cpu),
        read_config(&case.folder)?,
        settings,
        whole(&json, "vocab_size")?,
    )?;
    load(case, &params, "wav2vec2")?;
    let labels: Vec<Vec<i64>> = case.input("labels")?.to_dtype(candle_core::DType::I64)?.to_vec2()?;
    let target =
        |row: &Vec<i64>| Target::Transcript(row.iter().filter(|l| **l >= 0).map(|l| *l as u32).collect());
    let batch = waves(case, labels.iter().map(target).collect())?;
    let embeddings = task.embed(&batch, &Pass::eval())?;
    let mut out = Outputs::from([("expected.logits".into(), embeddings.outputs.detach())]);
    gradients(
        &params,
        &task.criterion(&embeddings, &Pass::eval())?.value,
        &rules("wav2vec2", "encoder")?,
        &mut out,
    )?;
    Ok(out)
}

fn classification(case: &Case) -> Result<Outputs> {
    let json = config(case)?;
    let params = Params::new();
    let encoder: SpeechConfig = read_config(&case.folder)?;
    let family = encoder.family.prefix();
    let summed = json.get("use_weighted_layer_sum").and_then(Value::as_bool) == Some(true);
    let classes = json.get("id2label").and_then(Value::as_object).map_or(2, serde_json::Map::len);
    let build = |layer_sum: Option<LayerSum>| -> Result<Classify> {
        let settings = ClassifyConfig {
            freeze_front: false,
            projection_dim: whole(&json, "classifier_proj_size")?,
            layer_sum,
            ..ClassifyConfig::default()
        };
        Ok(Classify::new(&Scope::root(&params, 0, &Device::Cpu), encoder.clone(), settings, classes)?)
    };
    let (task, pass) = (build(summed.then_some(LayerSum::States))?, Pass::eval());
    load(case, &params, family)?;
    let mut batch =
        waves(case, case.integers("labels")?.into_iter().map(|l| Target::Class(l as u32)).collect())?;
    let input = Var::from_tensor(&batch.values)?;
    batch.values = input.as_tensor().clone();
    let embeddings = task.embed(&batch, &pass)?;
    let loss = task.criterion(&embeddings, &pass)?.value;
    let mut out = Outputs::from([("expected.logits".into(), embeddings.outputs.detach())]);
    if let Some(grad) = loss.backward()?.get(input.as_tensor()) {
        out.insert("grad.input.input_values".into(), grad.clone());
    }
    gradients(&params, &loss, &rules(family, "encoder")?, &mut out)?;
    if summed {
        let e = task.speech();
        let counts = e.frame_counts(&batch.lengths)?;
        let frames = e.frames(&batch.values, &pass)?;
        let valid = e.frame_mask(&counts, frames.dim(1)?, &Device::Cpu)?;
        let (_, states) = e.states(&frames, &Hidden::default(), valid.as_ref(), &pass)?;
        for (i, state) in states.iter().enumerate() {
            out.insert(format!("expected.hidden_state.{i}"), state.detach());
        }
        let older = build(Some(LayerSum::LastNormed))?.logits(&batch, &pass)?;
        out.insert("expected.logits_last_normed".into(), older.detach());
    }
    Ok(out)
}

fn pretraining(case: &Case) -> Result<Outputs> {
    let json = config(case)?;
    let encoder: SpeechConfig = read_config(&case.folder)?;
    let settings = Wav2Vec2Config {
        mask: encoder.mask,
        groups: whole(&json, "num_codevector_groups")?,
        codes: whole(&json, "num_codevectors_per_group")?,
        code_dim: whole(&json, "codevector_dim")?,
        out_dim: whole(&json, "proj_codevector_dim")?,
        negatives: whole(&json, "num_negatives")?,
        temperature: number(&json, "contrastive_logits_temperature")?,
        diversity_weight: number(&json, "diversity_loss_weight")?,
        ..Wav2Vec2Config::default()
    };
    let all = (settings.groups * settings.codes) as f64;
    let params = Params::new();
    let method = Wav2Vec2::new(&Scope::root(&params, 0, &Device::Cpu), encoder, settings.clone())?;
    load(case, &params, "wav2vec2")?;
    let mask = case.input("mask_time_indices")?.to_dtype(candle_core::DType::U8)?;
    let pass = Pass::eval();
    let frames = method.speech().frames(&case.input("input_values")?, &pass)?;
    let hidden = Hidden { frames: Some(mask.clone()), channels: None };
    let context = method.speech().encode(&frames, &hidden, None, &pass)?;
    let (n, l, _) = context.dims3()?;
    // transformers projects and quantises every frame; ours only the hidden ones, which give the loss.
    let every = method.quantize(&frames.flatten_to(1)?, None, &pass)?;
    let (c, q) = method.project(&context.flatten_to(1)?, &every.values, &pass)?;
    let rows = Rows::of(&mask)?;
    let quantized = method.quantize(&rows.take(&frames)?, None, &pass)?;
    let (context, targets) = method.project(&rows.take(&context)?, &quantized.values, &pass)?;
    let place = |flat: usize| rows.flat().iter().position(|&r| r as usize == flat);
    let negatives: Vec<i64> = case.integers("sampled_negative_indices")?;
    let k = negatives.len() / (n * l);
    let mut sums = Vec::new();
    for Splice { start, len } in rows.splices() {
        let mut counts = vec![0f32; len * len];
        for i in 0..len {
            let frame = rows.flat()[start + i] as usize;
            for &j in &negatives[frame * k..(frame + 1) * k] {
                let j = place(j as usize)
                    .filter(|j| (start..start + len).contains(j))
                    .ok_or("a distractor that is not hidden, or of another wave")?;
                counts[i * len + j - start] += 1.0;
            }
        }
        let codes = &quantized.codes[start * settings.groups..(start + len) * settings.groups];
        sums.push(method.contrast(
            &context.narrow(0, start, len)?,
            &targets.narrow(0, start, len)?,
            &counts,
            codes,
        )?);
    }
    let contrastive = Tensor::stack(&sums, 0)?.sum_all()?;
    let diversity = (quantized.perplexity.affine(-1.0 / all, 1.0)? * rows.len() as f64)?;
    let loss = (&contrastive + (&diversity * settings.diversity_weight)?)?;
    let mut out = Outputs::from([
        ("expected.contrastive_loss".into(), contrastive.detach()),
        ("expected.diversity_loss".into(), diversity.detach()),
        ("expected.projected_states".into(), c.reshape((n, l, ()))?.detach()),
        ("expected.projected_quantized_states".into(), q.reshape((n, l, ()))?.detach()),
    ]);
    gradients(&params, &loss, &rules("wav2vec2", "encoder")?, &mut out)?;
    Ok(out)
}

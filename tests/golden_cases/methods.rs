//! Methods whose loss depends on what earlier steps left (a centre, a queue): the methods themselves, with the
//! case's state in their buffers and its tensors as embeddings.

use super::case::{Case, Handler, Outputs, Result};
use candle_core::{Device, Tensor};
use selfsup_core::nn::Linear;
use selfsup_core::objective::{
    Dino, DinoConfig, Negatives, Nnclr, NnclrConfig, Objective, Outcomes, Predicted, Projected, Swav,
    SwavConfig,
};
use selfsup_core::{Encoder, Features, Init, Layer, Params, Pass, Progress, Scope, World};

/// An encoder that no case asks for anything.
struct Map(Linear);

impl Encoder for Map {
    fn forward(
        &self,
        x: &Tensor,
        _: Option<&Tensor>,
        _: &[Layer],
        pass: &Pass,
    ) -> selfsup_core::Result<Features> {
        Ok(Features { pooled: self.0.forward(x, pass)?, tokens: None, layers: Vec::new() })
    }
    fn dim(&self) -> usize {
        2
    }
}

fn encoder(scope: &Scope) -> selfsup_core::Result<Box<dyn Encoder>> {
    Ok(Box::new(Map(Linear::new(&scope.top(), 2, 2, true, Init::TorchLinear)?)))
}

fn scope() -> Scope {
    Scope::root(&Params::new(), 0, &Device::Cpu)
}

/// A training pass in the middle of a run.
fn pass() -> Pass {
    Pass::train(0, Progress { step: 50, total_steps: 100, epoch: 20 })
}

/// The names `kind0`, `kind1` ... of the case's inputs.
fn numbered(case: &Case, kind: &str) -> Vec<String> {
    (0..).map(|i| format!("{kind}{i}")).take_while(|name| case.maybe(name).is_some()).collect()
}

fn inputs(case: &Case, kind: &str) -> Vec<Tensor> {
    numbered(case, kind).iter().filter_map(|name| case.maybe(name)).collect()
}

/// Loss and gradients of `embeddings` of the variables, by `method`.
fn differentiate<M: Objective>(
    case: &Case,
    names: &[String],
    method: &M,
    embeddings: impl Fn(&dyn Fn(&str) -> Option<Tensor>) -> Result<M::Embeddings>,
) -> Result<Outputs> {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    case.differentiate(&names, "loss", |var| Ok(method.criterion(&embeddings(var)?, &pass())?.value))
}

fn of(var: &dyn Fn(&str) -> Option<Tensor>, names: &[String]) -> Result<Vec<Tensor>> {
    names.iter().map(|name| var(name).ok_or_else(|| format!("no {name}").into())).collect()
}

fn dino_multicrop(case: &Case) -> Result<Outputs> {
    let teacher = inputs(case, "const_t");
    let first = teacher.first().ok_or("no teacher views")?;
    let temperature = case.number("teacher_temp", 0.04);
    let config = DinoConfig {
        out_dim: first.dim(1)?,
        hidden_dim: 2,
        bottleneck_dim: 2,
        student_temperature: case.number("student_temp", 0.1),
        teacher_temperature: temperature,
        teacher_temperature_end: temperature,
        center_momentum: case.number("center_momentum", 0.9),
        ..DinoConfig::default()
    };
    let method = Dino::new(&scope(), &encoder, config)?;
    method.params().set("center", &case.input("const_center")?)?;
    let names = numbered(case, "s");
    let outcomes =
        |student: Vec<Tensor>| Outcomes { student, teacher: teacher.clone(), features: first.clone() };
    let mut out = differentiate(case, &names, &method, |var| Ok(outcomes(of(var, &names)?)))?;
    method.after_step(&outcomes(inputs(case, "s")), &pass().progress, &World::default())?;
    let center = method.params().get("center").ok_or("no centre")?.var.as_detached_tensor();
    out.insert("expected.center_after".into(), center);
    Ok(out)
}

/// With the identity as prototypes, projections are scores.
fn swav_queue(case: &Case) -> Result<Outputs> {
    let queues = inputs(case, "const_q");
    let (length, k) = queues.first().ok_or("no queues")?.dims2()?;
    let config = SwavConfig {
        prototypes: k,
        out_dim: k,
        hidden_dim: 2,
        temperature: case.number("temperature", 0.1),
        epsilon: case.number("sinkhorn_epsilon", 0.05),
        sinkhorn_iterations: case.whole("sinkhorn_iterations", 3),
        queue: length,
        queue_from_epoch: 15,
        ..SwavConfig::default()
    };
    let method = Swav::new(&scope(), &encoder, config)?;
    let identity = Tensor::eye(k, candle_core::DType::F32, &Device::Cpu)?;
    method.params().set("prototypes.weight", &identity)?;
    for (i, queue) in queues.iter().enumerate() {
        method.params().set(&format!("queue.{i}"), queue)?;
        // Full.
        method.params().set(&format!("queue.{i}_pointer"), &Tensor::new(&[length as f32], &Device::Cpu)?)?;
    }
    let (full, small) = (numbered(case, "h"), numbered(case, "l"));
    differentiate(case, &[full.clone(), small.clone()].concat(), &method, |var| {
        Ok(Projected { full: of(var, &full)?, small: of(var, &small)? })
    })
}

fn nnclr(case: &Case) -> Result<Outputs> {
    let bank = case.input("const_bank")?;
    let (length, dim) = bank.dims2()?;
    let both = case.short().ends_with("ntxent");
    let config = NnclrConfig {
        temperature: case.number("temperature", 0.1),
        queue: length,
        negatives: if both { Negatives::Both } else { Negatives::Predictions },
        hidden_dim: 2,
        predictor_dim: 2,
        out_dim: dim,
    };
    let method = Nnclr::new(&scope(), &encoder, config)?;
    method.params().set("queue", &bank)?;
    let names = numbered(case, "p");
    let (target_a, target_b) = (case.input("const_z0")?, case.input("const_z1")?);
    differentiate(case, &names, &method, |var| {
        let p = of(var, &names)?;
        let (a, b) = (p[0].clone(), p[1].clone());
        Ok(Predicted { a, b, target_a: target_a.clone(), target_b: target_b.clone() })
    })
}

/// Who runs the case of a method.
pub fn handler(case: &Case) -> Option<Handler> {
    match case.short() {
        "dino_multicrop" => Some(|case| Ok(vec![(String::new(), dino_multicrop(case)?)])),
        "swav_queue" => Some(|case| Ok(vec![(String::new(), swav_queue(case)?)])),
        "nnclr" | "nnclr_ntxent" => Some(|case| Ok(vec![(String::new(), nnclr(case)?)])),
        _ => None,
    }
}

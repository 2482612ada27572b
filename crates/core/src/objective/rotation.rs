//! Rotation prediction (Gidaris et al. 2018, "RotNet", arXiv 1803.07728): by how many quarter turns was the
//! image turned? A network that answers has to know what is up in its objects.
//!
//! All four turns of every sample are in the batch, and `L = mean over samples and turns of
//! -log softmax(W f(turn_r(x)))_r`. The last two axes of a sample are turned, so volumes turn in their planes.
//!
//! Shortcuts: black corners of rotated scans, JPEG blocks and text tell the turn without the object. Round or
//! symmetric objects have none, and mirroring digits makes 6 and 9 of a kind.

use super::mae::view;
use super::{
    Band, BuildEncoder, Gauge, Loss, Method, Networks, Objective, OverViews, Picture, Views, Wanted, boxed,
};
use crate::encoder::Encoder;
use crate::error::{Error, Result};
use crate::init::Init;
use crate::loss::cross_entropy;
use crate::nn::Linear;
use crate::params::Params;
use crate::pass::Pass;
use crate::scope::Scope;
use candle_core::{D, DType, Tensor};

/// Quarter turns that are told apart.
const TURNS: usize = 4;

/// The method has no hyper-parameters.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RotationConfig {}

/// The method.
pub struct Rotation {
    params: Params,
    encoder: Box<dyn Encoder>,
    head: Linear,
}

impl Rotation {
    /// Builds the encoder at `encoder` and a linear classifier of turns at `head`.
    ///
    /// # Errors
    /// If the encoder cannot be built.
    pub fn new(scope: &Scope, build: &BuildEncoder, _config: RotationConfig) -> Result<Self> {
        let encoder = build(&scope.sub("encoder"))?;
        let head = Linear::new(&scope.sub("head").top(), encoder.dim(), TURNS, true, Init::TorchLinear)?;
        Ok(Rotation { params: scope.params().clone(), encoder, head })
    }
}

/// `x (N, .., S, S)` in all four turns, one after the other for each sample: `(4 N, .., S, S)`. Turn `r` is `r`
/// quarter turns against the clock, as `torch.rot90`.
///
/// # Errors
/// If the last two axes differ.
fn turned(x: &Tensor) -> Result<Tensor> {
    let (h, w) = (x.dim(D::Minus2)?, x.dim(D::Minus1)?);
    if h != w {
        return Err(Error::input(
            "batch",
            format!("views of {h} x {w}: rotation turns square planes, set augment.size to equal sides"),
        ));
    }
    let (rows, columns) = (x.rank() - 2, x.rank() - 1);
    let x = x.contiguous()?;
    let turned = x.transpose(rows, columns)?.contiguous()?;
    let turns = [x.clone(), turned.flip(&[rows])?, x.flip(&[rows, columns])?, turned.flip(&[columns])?];
    Ok(Tensor::stack(&turns, 1)?.flatten(0, 1)?.contiguous()?) // (N, 4, ..) -> (4 N, ..)
}

crate::embeddings! {
    /// What the classifier makes of the turns of each sample.
    pub struct Turns {
        /// Scores `(N, 4, 4)`: of each sample, of each turn, of each class.
        graph scores: Tensor,
        /// Features of the samples as they are, `(N, D)`.
        fixed features: Tensor,
    }
}

impl OverViews for RotationConfig {
    fn wanted(&self) -> Wanted {
        Wanted::Plain
    }

    fn build(&self, scope: &Scope, networks: &dyn Networks) -> Result<Method<Views>> {
        Ok(boxed(Rotation::new(scope, &|s: &Scope| networks.encoder(s), self.clone())?))
    }

    fn shrink(&mut self) {}
}

impl Objective for Rotation {
    type Batch = Views;
    type Embeddings = Turns;

    fn params(&self) -> &Params {
        &self.params
    }

    fn encoder(&self) -> &dyn Encoder {
        self.encoder.as_ref()
    }

    fn embed(&self, batch: &Views, pass: &Pass) -> Result<Turns> {
        let view = view(batch, "rotation")?;
        // Sample i stands at 4 i to 4 i + 3, whatever part of the step this is.
        let places = pass.at(TURNS as u64 * pass.offset);
        let features = self.encoder.forward(&turned(view)?, None, &[], &places)?.pooled;
        let (n, d) = (view.dim(0)?, features.dim(1)?);
        let scores = self.head.forward(&features, pass)?.reshape((n, TURNS, TURNS))?;
        Ok(Turns { scores, features: features.detach().reshape((n, TURNS, d))?.get_on_dim(1, 0)? })
    }

    fn criterion(&self, e: &Turns, _pass: &Pass) -> Result<Loss> {
        let (n, _, _) = e.scores.dims3()?;
        let classes = Tensor::arange(0i64, TURNS as i64, e.scores.device())?;
        let classes = classes.broadcast_as((n, TURNS))?.flatten_all()?;
        Ok(cross_entropy(&e.scores.reshape((n * TURNS, TURNS))?, &classes, 0.0)?.into())
    }

    fn couples_samples(&self) -> bool {
        false
    }

    /// Share of the turns that are told right, in percent (25 by chance), and the spread of the features.
    fn gauges(&self, e: &Turns, _pass: &Pass) -> Result<Vec<Gauge>> {
        let told = e.scores.detach().argmax(2)?.to_dtype(DType::U32)?.to_vec2::<u32>()?;
        let right = told.iter().flatten().zip((0..TURNS as u32).cycle()).filter(|(a, b)| **a == *b).count();
        let share = 100.0 * right as f64 / (told.len() * TURNS).max(1) as f64;
        let told = Gauge::plain("rotation_accuracy", share).healthy(Band::within(30.0, 99.7));
        Ok(vec![told, super::embedding_std(&e.features)?])
    }

    /// Each sample upright, in the turn that its generator draws, and turned back by what is said of it.
    fn pictures(&self, batch: &Views, pass: &Pass) -> Result<Vec<Picture>> {
        let view = view(batch, "rotation")?;
        let (all, n) = (turned(view)?, view.dim(0)?);
        let scores = self.embed(batch, pass)?.scores;
        let told = scores.argmax(2)?.to_dtype(DType::U32)?.to_vec2::<u32>()?;
        let of = |turn: &dyn Fn(usize, usize) -> usize| -> Result<Tensor> {
            let rows = (0..n).map(|i| {
                let drawn = pass.sample_key("rotation picture", i).rng().below(TURNS);
                (TURNS * i + turn(i, drawn)) as u32
            });
            Ok(all.index_select(&Tensor::from_vec(rows.collect::<Vec<_>>(), n, view.device())?, 0)?)
        };
        // Turned by r and back by what is told: by r - told.
        let back = |i: usize, drawn: usize| (drawn + TURNS - told[i][drawn] as usize) % TURNS;
        Ok(vec![
            Picture::new("target", view),
            Picture::new("input", &of(&|_, drawn| drawn)?),
            Picture::new("prediction", &of(&back)?),
        ])
    }

    fn may_skip(&self) -> Vec<String> {
        self.encoder.may_skip().into_iter().map(|name| format!("encoder.{name}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    /// Values of `torch.rot90(x, r, (-2, -1))`.
    #[test]
    fn turns_are_torchs() -> Result<()> {
        let x = Tensor::new(&[[[[1f32, 2.0], [3.0, 4.0]]]], &Device::Cpu)?;
        let all: Vec<Vec<f32>> =
            (0..4).map(|r| Ok(turned(&x)?.get(r)?.flatten_all()?.to_vec1()?)).collect::<Result<_>>()?;
        let expected =
            [[1.0, 2.0, 3.0, 4.0], [2.0, 4.0, 1.0, 3.0], [4.0, 3.0, 2.0, 1.0], [3.0, 1.0, 4.0, 2.0]];
        assert_eq!(all, expected);
        let flat = Tensor::zeros((1, 1, 2, 3), DType::F32, &Device::Cpu)?;
        assert!(turned(&flat).unwrap_err().to_string().contains("augment.size"));
        Ok(())
    }
}

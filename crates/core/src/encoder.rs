//! Encoders, which modalities plug in.

use crate::error::{Error, Result};
use crate::pass::Pass;
use candle_core::Tensor;

/// Features that an encoder can return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Layer {
    /// One vector per sample, `(N, D)`.
    Pooled,
    /// The final tokens, `(N, L, D)`, or the final feature map, `(N, S.., D)`.
    Tokens,
    /// The output of stage or block `i`, counted from 0.
    Hidden(usize),
}

/// The features of an encoder: always `pooled`, the rest where asked for.
#[derive(Clone, Debug)]
pub struct Features {
    /// One vector per sample, `(N, D)`.
    pub pooled: Tensor,
    /// Tokens `(N, L, D)` or map `(N, S.., D)` if [`Layer::Tokens`] was wanted.
    pub tokens: Option<Tensor>,
    /// The hidden layers, in the order of the request.
    pub layers: Vec<Tensor>,
}

/// Collects the outputs of blocks that [`Layer::Hidden`] asks for, and hands them out in the order of the
/// request.
pub struct HiddenLayers {
    asked: Vec<usize>,
    seen: Vec<Option<Tensor>>,
}

impl HiddenLayers {
    /// For the request `want` to a network of `depth` blocks or stages.
    ///
    /// # Errors
    /// If a block is asked for that the network has not.
    pub fn of(want: &[Layer], depth: usize) -> Result<Self> {
        let asked = want.iter().filter_map(|w| if let Layer::Hidden(i) = w { Some(*i) } else { None });
        HiddenLayers::numbered(&asked.collect::<Vec<_>>(), depth)
    }

    /// For the blocks `asked`, counted from 0.
    ///
    /// # Errors
    /// If a block is asked for that the network has not.
    pub fn numbered(asked: &[usize], depth: usize) -> Result<Self> {
        match asked.iter().find(|i| **i >= depth) {
            Some(i) => {
                Err(Error::input("layer", format!("Hidden({i}) of {depth}: expected a number below {depth}")))
            }
            None => Ok(HiddenLayers { asked: asked.to_vec(), seen: vec![None; depth] }),
        }
    }

    /// The blocks that were asked for, in the order of the request.
    pub fn asked(&self) -> &[usize] {
        &self.asked
    }

    /// Takes the output of block `i`, if it was asked for.
    pub fn see(&mut self, i: usize, output: &Tensor) {
        if self.asked.contains(&i) {
            self.seen[i] = Some(output.clone());
        }
    }

    /// The outputs in the order of the request.
    ///
    /// # Errors
    /// If a block that was asked for was not seen.
    pub fn layers(self) -> Result<Vec<Tensor>> {
        let missing = |i: &usize| Error::input("layer", format!("block {i} was left out of the pass"));
        self.asked.iter().map(|i| self.seen[*i].clone().ok_or_else(|| missing(i))).collect()
    }
}

/// Maps a batch to features.
pub trait Encoder: Send + Sync {
    /// Public layout: images `(N, C, H, W)`, volumes `(N, C, D, H, W)`, waves `(N, T)`, token ids `(N, L)`;
    /// the result is channels-last.
    ///
    /// `valid (N, T | L)` is 1 where a sequence has a value and 0 where it is padded; `pooled` averages (or
    /// picks) valid positions only. Encoders of images and volumes have no padding and refuse it
    /// ([`no_padding`]).
    ///
    /// # Errors
    /// If the shape does not fit; the error names what was expected.
    fn forward(&self, x: &Tensor, valid: Option<&Tensor>, want: &[Layer], pass: &Pass) -> Result<Features>;

    /// Width of the pooled features.
    fn dim(&self) -> usize;

    /// The final features at their places, `(N, S.., D)`: the feature map, or the tokens of the patches on
    /// their grid. For methods that predict something at every place.
    ///
    /// # Errors
    /// If the shape does not fit, or the encoder keeps no places.
    fn map(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        match self.forward(x, None, &[Layer::Tokens], pass)?.tokens {
            Some(map) if map.rank() == x.rank() => Ok(map),
            other => Err(Error::input(
                "encoder",
                format!(
                    "its features {:?} keep no places: expected a map (N, S.., D)",
                    other.map(|t| t.dims().to_vec()).unwrap_or_default()
                ),
            )),
        }
    }

    /// Input values between neighbouring places of [`Encoder::map`], one number for each spatial axis; empty
    /// where the encoder does not say.
    fn stride(&self) -> Vec<usize> {
        Vec::new()
    }

    /// Parameters that may stay without a gradient in a step, relative to the encoder (a mask token that a
    /// method does not use).
    fn may_skip(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Refuses padding, for encoders whose inputs all have one size.
///
/// # Errors
/// If `valid` is given.
pub fn no_padding(valid: Option<&Tensor>) -> Result<()> {
    match valid {
        None => Ok(()),
        Some(v) => Err(Error::input(
            "valid",
            format!("padding of shape {:?}, but this encoder takes inputs of one size", v.dims()),
        )),
    }
}

/// An encoder over tokens, of which a method may hide some.
pub trait TokenEncoder: Encoder {
    /// Input to tokens with their position embedding, `(N, L, D)`, without class token.
    ///
    /// # Errors
    /// If the shape does not fit.
    fn embed(&self, x: &Tensor, pass: &Pass) -> Result<Tensor>;

    /// Runs the trunk on tokens (all of them, or those that are visible), adding the class token if the
    /// encoder has one: `(N, V, D)` to `(N, P + V, D)` after the final norm, with `P` =
    /// [`TokenEncoder::prefix`].
    ///
    /// # Errors
    /// If the shape does not fit.
    fn contextualize(&self, tokens: &Tensor, valid: Option<&Tensor>, pass: &Pass) -> Result<Tensor>;

    /// The position embedding of the patches that [`TokenEncoder::embed`] adds, `(1, L, D)`, for the input
    /// size that the encoder was built for; none where it adds none, as with rotary positions. A method that
    /// puts a token of its own in the place of a patch gives it that position.
    ///
    /// # Errors
    /// If the encoder does not tell.
    fn positions(&self, _pass: &Pass) -> Result<Option<Tensor>> {
        Err(Error::input(
            "encoder",
            "does not tell the positions of its patches: expected a vision transformer",
        ))
    }

    /// Number of blocks.
    fn depth(&self) -> usize;

    /// Number of tokens in front of the patches (class token).
    fn prefix(&self) -> usize;

    /// Cuts the input into patches `(N, L, P)`: the target of masked reconstruction.
    ///
    /// # Errors
    /// If the shape does not fit.
    fn patchify(&self, x: &Tensor) -> Result<Tensor>;

    /// Number of values in a patch: its pixels times the channels.
    fn patch_dim(&self) -> usize;

    /// Number of patches along each axis for the input size that the encoder was built for.
    fn grid(&self) -> Vec<usize>;
}

/// One of the maps of a [`MapEncoder`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    /// Channels.
    pub width: usize,
    /// Positions of the input between neighbouring ones of the map, on each axis (of a planar network: within
    /// a plane); 0 where axes differ.
    pub stride: usize,
}

/// An encoder whose stages are maps, which a decoder brings back to the input's grid.
pub trait MapEncoder: Encoder {
    /// The maps of `x (N, C, S..)`, finest first: `(N, S_i.., C_i)`.
    ///
    /// # Errors
    /// If the shape does not fit.
    fn maps(&self, x: &Tensor, pass: &Pass) -> Result<Vec<Tensor>>;

    /// Width and stride of each map.
    fn scales(&self) -> Vec<Scale>;
}

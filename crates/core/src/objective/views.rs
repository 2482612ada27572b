//! Methods over views: what they are given, and how one declaration serves every modality of arrays.
//!
//! The configuration of such a method implements [`OverViews`]: which views it wants, what encoder it needs,
//! how it is built. A modality (images, volumes) provides [`Networks`] and the transforms that fulfil
//! [`Wanted`]. The list of the methods stands in [`methods_over_views!`](crate::methods_over_views).

use super::{Batch, Method};
use crate::encoder::{Encoder, TokenEncoder};
use crate::error::Result;
use crate::scope::Scope;
use candle_core::{Device, Tensor};

/// A batch of images, volumes or signals as a method over views sees them. A method names in
/// [`Wanted`] which of the fields it reads; the modality fills those and no others.
#[derive(Clone, Debug, Default)]
pub struct Views {
    /// Full-size views, each `(N, C, H, W)` or the layout of the modality.
    pub globals: Vec<Tensor>,
    /// Small crops (multi-crop).
    pub locals: Vec<Tensor>,
    /// What a view is compared with: the patch before it was corrupted, or a class `(N)` that was made with
    /// it.
    pub targets: Option<Tensor>,
    /// Global index of each sample in the data set.
    pub indices: Vec<usize>,
    /// The class of each sample, where it is known; empty for methods that read none
    /// ([`OverViews::reads_labels`]).
    pub labels: Vec<Option<u32>>,
}

impl Views {
    /// The views alone.
    pub fn of(globals: Vec<Tensor>, indices: Vec<usize>) -> Self {
        Views { globals, indices, ..Views::default() }
    }

    fn map(&self, f: impl Fn(&Tensor) -> candle_core::Result<Tensor>) -> Result<Self> {
        let each = |v: &[Tensor]| v.iter().map(&f).collect::<candle_core::Result<Vec<_>>>();
        Ok(Views {
            globals: each(&self.globals)?,
            locals: each(&self.locals)?,
            targets: self.targets.as_ref().map(&f).transpose()?,
            indices: self.indices.clone(),
            labels: self.labels.clone(),
        })
    }
}

impl Batch for Views {
    fn samples(&self) -> usize {
        self.globals.first().map_or(0, |v| v.dims().first().copied().unwrap_or(0))
    }

    fn narrow(&self, start: usize, len: usize) -> Result<Self> {
        let indices = self.indices.get(start..start + len).unwrap_or_default().to_vec();
        let labels = self.labels.get(start..start + len).unwrap_or_default().to_vec();
        Ok(Views { indices, labels, ..self.map(|v| v.narrow(0, start, len))? })
    }

    fn to_device(&self, device: &Device) -> Result<Self> {
        self.map(|v| v.to_device(device))
    }
}

/// Which views of each sample a method reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// So many full-size views, augmented each for itself.
    Joint(usize),
    /// So many full-size views, and as many small crops as the configuration asks for (multi-crop).
    Multi(usize),
    /// One view, cropped and mirrored, in its own colours.
    Plain,
}

impl Wanted {
    /// Full-size views.
    pub fn globals(&self) -> usize {
        match *self {
            Wanted::Joint(n) | Wanted::Multi(n) => n,
            Wanted::Plain => 1,
        }
    }

    /// Whether it reads small crops beside them.
    pub fn crops(&self) -> bool {
        matches!(self, Wanted::Multi(_))
    }

    /// Whether views are compared, so that each is augmented in its own way.
    pub fn compares(&self) -> bool {
        *self != Wanted::Plain
    }
}

/// A key that was lowered to what the data has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lowered {
    /// The key.
    pub key: &'static str,
    /// What it was.
    pub from: usize,
    /// What it is.
    pub to: usize,
    /// Why more does not help.
    pub why: &'static str,
}

/// How a learning rate follows the batch size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BatchRate {
    /// In proportion to it (Goyal et al. 2017, arXiv 1706.02677).
    #[default]
    Linear,
    /// With its square root: SimCLR's for small batches and short runs (arXiv 2002.05709, appendix B.1).
    Root,
    /// Not at all.
    Fixed,
}

impl BatchRate {
    /// The rate for a batch, given that for a batch of 256.
    pub fn at(self, of_256: f64, batch: usize) -> f64 {
        let share = batch as f64 / 256.0;
        match self {
            BatchRate::Linear => of_256 * share,
            BatchRate::Root => of_256 * share.sqrt(),
            BatchRate::Fixed => of_256,
        }
    }
}

/// What encoder a method needs, where it makes a difference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// An encoder of tokens, some of which the method hides ([`Networks::tokens`]).
    pub tokens: bool,
    /// Fixed sine and cosine positions where the encoder's are learned by default.
    pub fixed_positions: bool,
    /// The mean of the patch tokens as features: the class token is not trained towards anything.
    pub mean_pool: bool,
}

/// Builds the networks of a modality, as its configuration says.
pub trait Networks {
    /// The encoder in `scope`.
    ///
    /// # Errors
    /// If the configuration is not possible.
    fn encoder(&self, scope: &Scope) -> Result<Box<dyn Encoder>>;

    /// The encoder in `scope` for a method that hides tokens.
    ///
    /// # Errors
    /// If it is not an encoder of tokens; the message names those that are.
    fn tokens(&self, scope: &Scope) -> Result<Box<dyn TokenEncoder>>;

    /// Channels of a view, for methods that paint it: 1 where the modality does not say.
    fn channels(&self) -> usize {
        1
    }
}

/// The configuration of a method over views.
pub trait OverViews {
    /// Which views it reads.
    fn wanted(&self) -> Wanted;

    /// What encoder it needs.
    fn needs(&self) -> Needs {
        Needs::default()
    }

    /// Whether it reads the labels of samples, where there are some ([`Views::labels`]).
    fn reads_labels(&self) -> bool {
        false
    }

    /// Builds the method in `scope`.
    ///
    /// # Errors
    /// If the configuration is not possible.
    fn build(&self, scope: &Scope, networks: &dyn Networks) -> Result<Method<Views>>;

    /// Lowers a key that cannot be larger than the number of samples that are trained on; nothing where all fits.
    fn fit(&mut self, _samples: usize) -> Option<Lowered> {
        None
    }

    /// How the learning rate follows the batch, by the method's paper.
    fn rate(&self) -> BatchRate {
        BatchRate::Linear
    }

    /// Makes its sizes as small as they can be: the same method, for tests of all methods.
    fn shrink(&mut self);
}

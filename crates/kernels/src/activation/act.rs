//! Activations by name.

/// An activation that other kernels fuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Act {
    /// The identity.
    #[default]
    None,
    /// `max(x, 0)`, derivative 0 at 0.
    Relu,
    /// `x Phi(x)`, exact.
    GeluErf,
    /// The tanh approximation of GELU.
    GeluTanh,
}

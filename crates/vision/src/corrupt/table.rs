//! Which severities are meant: those of ImageNet-C or those of CIFAR-10-C.

use crate::image::Image;

/// Severities 1 to 5 are numbers of pixels and of noise that fit one size of image. Hendrycks and Dietterich
/// published two sets of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Table {
    /// Of ImageNet-C, for images of 224 px.
    Large,
    /// Of CIFAR-10-C, for images of 32 px.
    Small,
}

/// Shorter sides below this take the severities of 32 px: twice 32, and far from 224.
const LARGE: u32 = 64;

impl Table {
    /// The one for an image of this size: [`Table::Small`] where its shorter side is below 64 pixels.
    pub fn of(image: &Image) -> Self {
        if image.width.min(image.height) < LARGE { Table::Small } else { Table::Large }
    }

    /// The parameters of a severity, 1 to 5 (others are taken for the nearest).
    pub(super) fn pick<T: Copy>(self, severity: u8, large: &[T; 5], small: &[T; 5]) -> T {
        let of = match self {
            Table::Large => large,
            Table::Small => small,
        };
        of[usize::from(severity.clamp(1, 5)) - 1]
    }
}

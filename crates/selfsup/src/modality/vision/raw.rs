//! Raw pixels: what an encoder has to beat.

use selfsup_core::Result;
use selfsup_core::data::Source;
use selfsup_core::kernels::host::floats;
use selfsup_core::objective::Inputs;
use selfsup_core::run::counted;
use selfsup_eval::Matrix;
use selfsup_vision::augment::AugmentConfig;

/// Longest side of the pixels that are kept, so that large images do not cost a day.
const SIDE: usize = 28;

/// Rows of pixels, and whether all channels of all images are equal.
pub struct Pixels {
    rows: Vec<f32>,
    n: usize,
    width: usize,
    channels: usize,
    gray: bool,
}

/// Pixels in `[0, 1]` of all images, averaged down to at most 28 by 28.
pub fn pixels(images: &dyn Source<Inputs>, augment: &AugmentConfig, channels: usize) -> Result<Pixels> {
    let mut out = Pixels { rows: Vec::new(), n: 0, width: 0, channels, gray: true };
    for loaded in counted("pixels: batch", images)? {
        let batch = loaded?.batch;
        let (b, c, h, w) = batch.x.dims4()?;
        let mut x: Vec<f32> = floats(&batch.x)?;
        for (i, plane) in x.chunks_exact_mut(h * w).enumerate() {
            let (mean, std) = augment.channel(i % c, c);
            plane.iter_mut().for_each(|v| *v = *v * std + mean);
        }
        let step = h.max(w).div_ceil(SIDE).max(1);
        let (oh, ow) = (h / step, w / step);
        out.width = c * oh * ow;
        out.n += b;
        for image in x.chunks_exact(c * h * w) {
            let first = &image[..h * w];
            out.gray &=
                image.chunks_exact(h * w).all(|p| p.iter().zip(first).all(|(a, b)| (a - b).abs() < 1e-4));
            for plane in image.chunks_exact(h * w) {
                for y in 0..oh {
                    for x in 0..ow {
                        let square = (0..step).flat_map(|dy| (0..step).map(move |dx| (dy, dx)));
                        let sum: f32 =
                            square.map(|(dy, dx)| plane[(y * step + dy) * w + x * step + dx]).sum();
                        out.rows.push(sum / (step * step) as f32);
                    }
                }
            }
        }
    }
    Ok(out)
}

impl Pixels {
    /// Whether three channels are equal in all images.
    pub fn one_is_enough(&self) -> bool {
        self.gray && self.channels == 3
    }

    /// A row for each image: of all channels, or of `one`, which is the mean of three that differ.
    pub fn matrix(self, one: bool) -> Result<Matrix> {
        if !(one && self.channels == 3) {
            return Matrix::new(self.rows, self.n, self.width);
        }
        let width = self.width / 3;
        let gray = self.gray;
        let mean = |r: &[f32], i: usize| (r[i] + r[width + i] + r[2 * width + i]) / 3.0;
        let row = |r: &[f32]| -> Vec<f32> {
            if gray { r[..width].to_vec() } else { (0..width).map(|i| mean(r, i)).collect() }
        };
        let rows = self.rows.chunks_exact(self.width.max(1)).flat_map(row).collect();
        Matrix::new(rows, self.n, width)
    }
}

/// Both sides as matrices: one channel where all three are equal in all images.
pub fn alike(train: Pixels, test: Pixels) -> Result<(Matrix, Matrix)> {
    let one = train.one_is_enough() && test.one_is_enough();
    Ok((train.matrix(one)?, test.matrix(one)?))
}

//! Intensities: what an encoder has to beat.

use selfsup_core::Result;
use selfsup_core::data::Source;
use selfsup_core::kernels::host::floats;
use selfsup_core::objective::Inputs;
use selfsup_core::run::counted;
use selfsup_eval::Matrix;

/// Side of the intensities that are kept: 512 values.
const SIDE: usize = 8;

/// The patches of a source in its order, averaged down to at most 8 x 8 x 8.
pub fn boxes(patches: &dyn Source<Inputs>) -> Result<Matrix> {
    let (mut rows, mut n) = (Vec::new(), 0);
    for loaded in counted("intensities: batch", patches)? {
        let x = loaded?.batch.x;
        let (b, _, d, h, w) = x.dims5()?;
        let values: Vec<f32> = floats(&x)?;
        n += b;
        values.chunks_exact(d * h * w).for_each(|v| rows.extend(means(v, [d, h, w])));
    }
    let width = rows.len() / n.max(1);
    Matrix::new(rows, n, width)
}

/// Means of boxes, at most [`SIDE`] along each axis.
fn means(values: &[f32], shape: [usize; 3]) -> Vec<f32> {
    let n = shape.map(|s| s.min(SIDE));
    let edge = |a: usize, i: usize| i * shape[a] / n[a];
    let mut out = Vec::with_capacity(n.iter().product());
    for z in 0..n[0] {
        for y in 0..n[1] {
            for x in 0..n[2] {
                let (mut sum, mut count) = (0.0, 0);
                for k in edge(0, z)..edge(0, z + 1) {
                    for j in edge(1, y)..edge(1, y + 1) {
                        for i in edge(2, x)..edge(2, x + 1) {
                            sum += values[(k * shape[1] + j) * shape[2] + i];
                            count += 1;
                        }
                    }
                }
                out.push(sum / count.max(1) as f32);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_are_means() {
        assert_eq!(means(&[1.0, 2.0, 3.0], [1, 1, 3]), [1.0, 2.0, 3.0]);
        let ramp: Vec<f32> = (0..16).map(|v| v as f32).collect();
        assert_eq!(means(&ramp, [1, 1, 16]), (0..8).map(|i| 2.0 * i as f32 + 0.5).collect::<Vec<_>>());
    }
}

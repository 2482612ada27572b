//! Weights `(C_out, C_in / groups, taps)` as the panels of a matrix product, and back.

use super::Geometry;
use crate::linear::gemm::{Cut, packed_len};
use crate::memory::{Blank, copy, fill, unwritten};
use rayon::prelude::*;

/// The matrix `(taps * C_in, C_out)` of the forward of an ungrouped convolution. With `turned`, that of its
/// input gradient as a convolution, `(taps * C_out, C_in)`, the taps in reverse order. For small kernels:
/// large ones are packed without this step.
pub(super) fn matrix(g: &Geometry, w: &[f32], turned: bool) -> Vec<f32> {
    let (c, o, taps) = (g.inputs, g.outputs, g.taps());
    let mut out = unwritten(w.len());
    out.par_chunks_mut(o * c).enumerate().for_each(|(t, rows)| {
        if turned {
            for (k, row) in rows.chunks_exact_mut(c).enumerate() {
                row.iter_mut()
                    .enumerate()
                    .for_each(|(i, v)| _ = v.write(w[(k * c + i) * taps + (taps - 1 - t)]));
            }
        } else {
            for (i, row) in rows.chunks_exact_mut(o).enumerate() {
                row.iter_mut().enumerate().for_each(|(k, v)| _ = v.write(w[(k * c + i) * taps + t]));
            }
        }
    });
    // SAFETY: the rows of each tap are `o c` elements, each of which is written.
    unsafe { out.written() }
}

/// Steps of a panel that are packed by one task.
const STRIP: usize = 64;

/// The panels of a group's matrix `(taps * C_in, C_out)` of the forward: all of `out`.
pub(super) fn pack_forward(g: &Geometry, w: &[f32], group: usize, out: &mut [Blank]) {
    let (c, o, taps) = (g.inputs / g.groups, g.outputs / g.groups, g.taps());
    let w = &w[group * o * c * taps..(group + 1) * o * c * taps];
    let (depth, cut) = (c * taps, Cut::new(o));
    let step = 16 * cut.vectors;
    let panels = &mut out[..packed_len(depth, o)];
    panels.par_chunks_mut(step * depth).enumerate().for_each(|(p, panel)| {
        let width = 16 * cut.of(p);
        for j in (0..width).step_by(16) {
            let first = p * step + j;
            let count = 16.min(o.saturating_sub(first));
            // Sixteen rows of the file side by side: each is read from left to right, and a line of the panel
            // is written at once.
            let rows: [&[f32]; 16] =
                std::array::from_fn(|k| if k < count { &w[(first + k) * depth..][..depth] } else { &[][..] });
            let mut line = [0f32; 16];
            for q in 0..depth {
                for (v, row) in line.iter_mut().zip(&rows[..count]) {
                    *v = row[q];
                }
                // (i, t) -> (t, i)
                copy(&mut panel[(q % taps * c + q / taps) * width + j..][..16], &line);
            }
        }
    });
}

/// The panels of a group's matrix `(taps * C_out, C_in)` of the input gradient, for some taps of the kernel:
/// all of `out`.
pub(super) fn pack_backward(g: &Geometry, w: &[f32], group: usize, chosen: &[usize], out: &mut [Blank]) {
    let (c, o, taps) = (g.inputs / g.groups, g.outputs / g.groups, g.taps());
    let w = &w[group * o * c * taps..(group + 1) * o * c * taps];
    let (depth, cut) = (o * chosen.len(), Cut::new(c));
    let step = 16 * cut.vectors;
    out[..packed_len(depth, c)].par_chunks_mut(step * depth).enumerate().for_each(|(p, panel)| {
        let width = 16 * cut.of(p);
        let first = p * step;
        let count = width.min(c - first);
        for k0 in (0..o).step_by(STRIP) {
            for (t, &tap) in chosen.iter().enumerate() {
                for k in k0..(k0 + STRIP).min(o) {
                    let row = &w[(k * c + first) * taps..(k * c + first + count) * taps];
                    let line = &mut panel[(t * o + k) * width..][..width];
                    for (v, from) in line.iter_mut().zip(row.chunks_exact(taps)) {
                        v.write(from[tap]);
                    }
                    fill(&mut line[count..], 0.0);
                }
            }
        }
    });
}

/// The gradient `(taps * C_in, C_out)` of an ungrouped convolution in the order of the weights.
pub(super) fn unpack_transposed(g: &Geometry, sum: &[f32]) -> Vec<f32> {
    let (c, o, taps) = (g.inputs, g.outputs, g.taps());
    let mut dw = unwritten(o * c * taps);
    dw.par_chunks_mut(c * taps).enumerate().for_each(|(k, out)| {
        for i in 0..c {
            for t in 0..taps {
                out[i * taps + t].write(sum[(t * c + i) * o + k]);
            }
        }
    });
    // SAFETY: each of the `c taps` elements of an output is written.
    unsafe { dw.written() }
}

/// The gradient `(groups, C_out, taps * C_in)` in the order of the weights.
pub(super) fn unpack_gradient(g: &Geometry, sum: Vec<f32>) -> Vec<f32> {
    let (c, taps) = (g.inputs / g.groups, g.taps());
    if taps == 1 {
        return sum;
    }
    let mut dw = unwritten(sum.len());
    dw.par_chunks_mut(c * taps).zip(sum.par_chunks(c * taps)).for_each(|(out, sum)| {
        for (i, out) in out.chunks_exact_mut(taps).enumerate() {
            for (t, v) in out.iter_mut().enumerate() {
                v.write(sum[t * c + i]);
            }
        }
    });
    // SAFETY: each of the `c taps` elements of an output is written.
    unsafe { dw.written() }
}

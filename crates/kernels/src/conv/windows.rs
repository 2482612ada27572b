//! Windows: what a convolution reads for each output position, as rows of a matrix `(positions, taps *
//! channels)`.
//!
//! Both the forward and the input gradient are such a matrix times a matrix of weights. The forward reads tap
//! `k` of output `o` at `o * stride + k * dilation - padding`. The gradient of input position `stride * j +
//! p` (phase `p` of each axis) sums over the taps with `p + padding - k * dilation = stride * d` and reads
//! the output's gradient at `j + d`: again windows, of stride 1, with fewer taps. So no gradient is
//! scattered, and a stride costs nothing.

use super::Geometry;

/// For each output position of each sample: taps at fixed offsets from a corner.
pub(super) struct Windows {
    /// Samples.
    n: usize,
    /// Sizes of what is read.
    size: [usize; 3],
    /// Channels of what is read, of all groups.
    channels: usize,
    /// Channels of a group.
    width: usize,
    /// Output positions on each axis.
    pub out: [usize; 3],
    /// Distance between the corners of neighbouring positions.
    step: [usize; 3],
    /// Offsets of the taps on each axis, ascending.
    offsets: [Vec<isize>; 3],
    /// Whether taps along the last axis are neighbours in memory.
    run: bool,
}

/// One phase of the input gradient.
pub(super) struct Phase {
    /// Its windows over the output's gradient.
    pub windows: Windows,
    /// The taps that it uses, as indices into the kernel, in the order of the windows' columns.
    pub taps: Vec<usize>,
    /// The first input position on each axis; the next are a stride away.
    pub first: [usize; 3],
}

impl Windows {
    #[allow(clippy::too_many_arguments)]
    fn new(
        n: usize,
        size: [usize; 3],
        channels: usize,
        groups: usize,
        out: [usize; 3],
        step: [usize; 3],
        offsets: [Vec<isize>; 3],
    ) -> Self {
        let run = groups == 1 && offsets[2].windows(2).all(|o| o[1] == o[0] + 1);
        Windows { n, size, channels, width: channels / groups, out, step, offsets, run }
    }

    /// Those of the forward, over the input.
    pub fn forward(g: &Geometry) -> Self {
        let offsets = [0, 1, 2].map(|a| {
            (0..g.kernel[a]).map(|k| (k * g.dilation[a]) as isize - g.padding[a] as isize).collect()
        });
        Windows::new(g.n, g.size, g.inputs, g.groups, g.out, g.stride, offsets)
    }

    /// Those of the input gradient, over the output's gradient; phases without a tap (their gradient is 0)
    /// are left out.
    pub fn backward(g: &Geometry) -> Vec<Phase> {
        // Of each axis and phase: offsets with their taps.
        let axis = |a: usize, p: usize| -> Vec<(isize, usize)> {
            let stride = g.stride[a] as isize;
            let mut taps: Vec<(isize, usize)> = (0..g.kernel[a])
                .map(|k| ((p + g.padding[a]) as isize - (k * g.dilation[a]) as isize, k))
                .filter(|(d, _)| d.rem_euclid(stride) == 0)
                .map(|(d, k)| (d.div_euclid(stride), k))
                .collect();
            taps.sort_unstable();
            taps
        };
        let mut phases = Vec::new();
        let [dz, dy, dx] = [0, 1, 2].map(|a| g.stride[a].min(g.size[a]));
        for first in (0..dz).flat_map(|z| (0..dy).flat_map(move |y| (0..dx).map(move |x| [z, y, x]))) {
            let axes = [0, 1, 2].map(|a| axis(a, first[a]));
            let mut taps = Vec::new();
            for (_, z) in &axes[0] {
                for (_, y) in &axes[1] {
                    taps.extend(axes[2].iter().map(|(_, x)| (z * g.kernel[1] + y) * g.kernel[2] + x));
                }
            }
            if taps.is_empty() {
                continue;
            }
            let out = [0, 1, 2].map(|a| (g.size[a] - first[a]).div_ceil(g.stride[a]));
            let offsets = axes.map(|axis| axis.into_iter().map(|(d, _)| d).collect());
            phases.push(Phase {
                windows: Windows::new(g.n, g.out, g.outputs, g.groups, out, [1; 3], offsets),
                taps,
                first,
            });
        }
        phases
    }

    fn taps(&self) -> usize {
        self.offsets.iter().map(Vec::len).product()
    }

    /// Columns of the matrix.
    pub fn depth(&self) -> usize {
        self.taps() * self.width
    }

    /// Rows of the matrix of a sample.
    pub fn positions(&self) -> usize {
        self.out.iter().product()
    }

    /// Rows of the matrix.
    pub fn rows(&self) -> usize {
        self.n * self.positions()
    }

    /// Whether the matrix is what is read, as it lies in memory.
    pub fn plain(&self) -> bool {
        self.size == self.out
            && self.channels == self.width
            && self.step == [1; 3]
            && self.offsets.iter().all(|o| o[..] == [0])
    }

    /// Sample and corner of row `p`.
    fn corner(&self, p: usize) -> (usize, [isize; 3]) {
        let [_, oh, ow] = self.out;
        let (n, q) = (p / self.positions(), p % self.positions());
        (
            n,
            [q / (oh * ow) * self.step[0], q / ow % oh * self.step[1], q % ow * self.step[2]]
                .map(|v| v as isize),
        )
    }

    /// Position `at` of axis `a` where it is inside.
    fn inside(&self, a: usize, at: isize) -> Option<usize> {
        usize::try_from(at).ok().filter(|&v| v < self.size[a])
    }

    /// Rows `first ..` and columns `columns` of the matrix of `group` into the rows of `out`, `ld` apart.
    pub fn gather(
        &self,
        x: &[f32],
        group: usize,
        first: usize,
        columns: std::ops::Range<usize>,
        out: &mut [f32],
        ld: usize,
    ) {
        let [_, h, w] = self.size;
        let (c, kw, kh) = (self.width, self.offsets[2].len(), self.offsets[1].len());
        let sample = self.size.iter().product::<usize>() * self.channels;
        let line = kw * c;
        let wide = columns.end - columns.start;
        for (r, row) in out.chunks_mut(ld).enumerate() {
            let (n, [z, y, x0]) = self.corner(first + r);
            let data = &x[n * sample..(n + 1) * sample];
            let left = x0 + self.offsets[2][0];
            let whole = self.run && left >= 0 && left as usize + kw <= w;
            for l in columns.start / line..columns.end.div_ceil(line) {
                let (a, b) = (columns.start.max(l * line), columns.end.min((l + 1) * line));
                let to = &mut row[..wide][a - columns.start..b - columns.start];
                let (sz, sy) = (
                    self.inside(0, z + self.offsets[0][l / kh]),
                    self.inside(1, y + self.offsets[1][l % kh]),
                );
                let (Some(sz), Some(sy)) = (sz, sy) else {
                    to.fill(0.0);
                    continue;
                };
                let base = (sz * h + sy) * w;
                if whole {
                    let from = (base + left as usize) * c + a - l * line;
                    to.copy_from_slice(&data[from..from + (b - a)]);
                    continue;
                }
                let (mut a, mut to) = (a, to);
                while a < b {
                    let (tap, channel) = ((a - l * line) / c, (a - l * line) % c);
                    let len = (c - channel).min(b - a);
                    let (part, rest) = to.split_at_mut(len);
                    match self.inside(2, x0 + self.offsets[2][tap]) {
                        Some(sx) => {
                            let from = (base + sx) * self.channels + group * c + channel;
                            part.copy_from_slice(&data[from..from + len]);
                        }
                        None => part.fill(0.0),
                    }
                    (a, to) = (a + len, rest);
                }
            }
        }
    }

    /// `count` rows from `first` and the columns `columns` of the matrix of `group`, in panels of `vectors *
    /// 16` columns: panel after panel, each holding its columns of all rows. Both ends of `columns` and the
    /// channels of a group are multiples of 16.
    #[allow(clippy::too_many_arguments)]
    pub fn gather_panels(
        &self,
        x: &[f32],
        group: usize,
        first: usize,
        count: usize,
        columns: std::ops::Range<usize>,
        vectors: usize,
        scratch: &mut Vec<usize>,
        out: &mut [f32],
    ) {
        let [_, h, w] = self.size;
        let [kd, kh, kw] = [0, 1, 2].map(|a| self.offsets[a].len());
        let c = self.width;
        let sample = self.size.iter().product::<usize>() * self.channels;
        let all = (columns.end - columns.start) / 16;
        scratch.resize(kd * kh * kw, 0);
        for r in 0..count {
            let (n, [z, y, x0]) = self.corner(first + r);
            // Where each tap is read; usize::MAX outside.
            let mut tap = 0;
            for oz in &self.offsets[0] {
                for oy in &self.offsets[1] {
                    let row = self
                        .inside(0, z + oz)
                        .zip(self.inside(1, y + oy))
                        .map(|(z, y)| n * sample + (z * h + y) * w * self.channels);
                    for ox in &self.offsets[2] {
                        let at = row
                            .zip(self.inside(2, x0 + ox))
                            .map(|(row, sx)| row + sx * self.channels + group * c);
                        scratch[tap] = at.unwrap_or(usize::MAX);
                        tap += 1;
                    }
                }
            }
            let (mut tap, mut channel) = (columns.start / c, columns.start % c);
            for p in (0..all).step_by(vectors) {
                let wide = vectors.min(all - p) * 16;
                let to = &mut out[p * 16 * count + r * wide..][..wide];
                for to in to.chunks_exact_mut(16) {
                    match scratch[tap] {
                        usize::MAX => to.fill(0.0),
                        from => to.copy_from_slice(&x[from + channel..][..16]),
                    }
                    channel += 16;
                    if channel == c {
                        (tap, channel) = (tap + 1, 0);
                    }
                }
            }
        }
    }

    /// Input position (over all samples) of row `p` of a phase of the input gradient of `g`.
    pub fn place(&self, p: usize, first: [usize; 3], g: &Geometry) -> usize {
        let (n, [z, y, x]) = self.corner(p);
        let at = |a: usize, v: isize| first[a] + v as usize * g.stride[a];
        ((n * g.size[0] + at(0, z)) * g.size[1] + at(1, y)) * g.size[2] + at(2, x)
    }
}

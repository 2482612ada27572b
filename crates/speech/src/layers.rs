//! The frames of an encoder's layers for a whole recording: what HuBERT clusters, and what frames are probed
//! by.

use crate::encoder::SpeechConfig;
use crate::features::Frames;
use candle_core::{Device, Tensor};
use selfsup_core::kernels::host::floats;
use selfsup_core::{Encoder, Error, Layer, Pass, Result};

/// Samples of a recording that go through an encoder at once, about: 20 s at 16 kHz. Attention grows with the
/// square of it.
const PIECE: usize = 320_000;

/// Which samples a frame of an encoder sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Samples that it sees: 400 for wav2vec 2.0 and HuBERT.
    pub window: usize,
    /// Samples from one frame to the next: 320.
    pub step: usize,
    /// Samples a second: 16,000.
    pub rate: u32,
}

impl Timing {
    /// That of a network at a rate.
    pub fn of(config: &SpeechConfig, rate: u32) -> Self {
        Timing { window: config.receptive_field(), step: config.hop(), rate }
    }

    /// Middle of the first frame in seconds.
    pub fn centre(&self) -> f64 {
        self.window as f64 / 2.0 / f64::from(self.rate)
    }

    /// Seconds from one frame to the next.
    pub fn seconds(&self) -> f64 {
        self.step as f64 / f64::from(self.rate)
    }

    /// Frames of a wave; 0 if it is too short for one.
    pub fn frames(&self, samples: usize) -> usize {
        if samples < self.window { 0 } else { 1 + (samples - self.window) / self.step }
    }
}

/// The frames of some layers, each as [`Frames`], in the order of `layers`: [`Layer::Tokens`] for the last
/// hidden state, [`Layer::Hidden`] for a block, counted from 0. A long wave goes through the encoder in
/// pieces of about 20 s whose frames join without a gap; its context then ends at the pieces.
///
/// # Errors
/// If the wave is too short for a frame, or the encoder has no such layer.
pub fn layer_frames(
    encoder: &dyn Encoder,
    layers: &[Layer],
    wave: &[f32],
    timing: Timing,
    device: &Device,
) -> Result<Vec<Frames>> {
    let Timing { window, step, .. } = timing;
    let total = timing.frames(wave.len());
    if total == 0 {
        return Err(Error::input("wave", format!("{} samples, expected at least {window}", wave.len())));
    }
    let absent = |layer: &Layer| Error::input("encoder", format!("gives no frames for {layer:?}"));
    let per = (PIECE / step.max(1)).max(1);
    let (mut values, mut dims) = (vec![Vec::new(); layers.len()], vec![1; layers.len()]);
    for first in (0..total).step_by(per) {
        let count = per.min(total - first);
        let part = &wave[first * step..first * step + (count - 1) * step + window];
        let x = Tensor::from_slice(part, (1, part.len()), &Device::Cpu)?.to_device(device)?;
        let out = encoder.forward(&x, None, layers, &Pass::eval())?;
        let mut hidden = out.layers.iter();
        for ((layer, values), dim) in layers.iter().zip(&mut values).zip(&mut dims) {
            let frames = match layer {
                Layer::Hidden(_) => hidden.next(),
                Layer::Tokens => out.tokens.as_ref(),
                _ => None,
            };
            let frames = frames.ok_or_else(|| absent(layer))?;
            let (_, n, d) = frames.dims3()?; // (1, L, D)
            if n != count {
                return Err(Error::input(
                    "encoder",
                    format!("{n} frames of {} samples, expected {count}", part.len()),
                ));
            }
            *dim = d;
            values.extend(floats(&frames.detach())?);
        }
    }
    values
        .into_iter()
        .zip(dims)
        .map(|(v, dim)| Frames::new(v, dim, timing.centre(), timing.seconds()))
        .collect()
}

/// Mean and standard deviation of each value over the first `counts` frames of layers `(N, L, D)`, layer by
/// layer: `(N, layers x 2 D)` on the CPU, without graph.
///
/// # Errors
/// If a layer has another shape, or a wave no frame.
pub fn statistics(layers: &[Tensor], counts: &[usize]) -> Result<Tensor> {
    let (n, mut values) = (counts.len(), Vec::new());
    for (i, &count) in counts.iter().enumerate() {
        for layer in layers {
            let (of, l, d) = layer.dims3()?;
            if of != n || count == 0 || count > l {
                return Err(Error::input(
                    "layers",
                    format!("({of}, {l}, D), wave {i} of {n} has {count} frames: expected 1 to {l}"),
                ));
            }
            let frames = floats(&layer.detach().narrow(0, i, 1)?.narrow(1, 0, count)?)?;
            values.extend(Frames::new(frames, d, 0.0, 1.0)?.pooled());
        }
    }
    let width = values.len() / n.max(1);
    Ok(Tensor::from_vec(values, (n, width), &Device::Cpu)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use selfsup_core::Features;

    /// Means of blocks of 320 samples, and twice that as a layer.
    struct Blocks;

    impl Encoder for Blocks {
        fn forward(&self, x: &Tensor, _: Option<&Tensor>, want: &[Layer], _: &Pass) -> Result<Features> {
            let (n, t) = x.dims2()?;
            let tokens = x.narrow(1, 0, t / 320 * 320)?.reshape((n, t / 320, 320))?.mean_keepdim(2)?;
            let layers = want
                .iter()
                .filter(|l| **l == Layer::Hidden(0))
                .map(|_| tokens.affine(2.0, 0.0))
                .collect::<Result<_, _>>()?;
            Ok(Features {
                pooled: tokens.mean(1)?,
                tokens: want.contains(&Layer::Tokens).then_some(tokens),
                layers,
            })
        }
        fn dim(&self) -> usize {
            1
        }
    }

    const TIMING: Timing = Timing { window: 320, step: 320, rate: 16_000 };

    #[test]
    fn layers_at_their_instants() {
        let wave: Vec<f32> = (0..1000).map(|i| (i / 320) as f32).collect();
        let found =
            layer_frames(&Blocks, &[Layer::Hidden(0), Layer::Tokens], &wave, TIMING, &Device::Cpu).unwrap();
        assert_eq!(found[0].as_slice(), [0.0, 2.0, 4.0]);
        assert_eq!(found[1].as_slice(), [0.0, 1.0, 2.0]);
        assert!(found.iter().all(|f| (f.len(), f.dim(), f.centre, f.step) == (3, 1, 0.01, 0.02)));
        assert!(layer_frames(&Blocks, &[Layer::Pooled], &wave, TIMING, &Device::Cpu).is_err());
        assert!(
            layer_frames(&Blocks, &[Layer::Hidden(1)], &wave, TIMING, &Device::Cpu)
                .unwrap_err()
                .to_string()
                .contains("Hidden(1)")
        );
        let short = layer_frames(&Blocks, &[Layer::Tokens], &wave[..300], TIMING, &Device::Cpu)
            .unwrap_err()
            .to_string();
        assert!(short.contains("300 samples") && short.contains("320"), "{short}");
    }

    #[test]
    fn statistics_of_the_frames_that_are_there() {
        let first = Tensor::new(
            &[[[1f32, 10.0], [3.0, 10.0], [90.0, 90.0]], [[5.0, 0.0], [5.0, 6.0], [8.0, 6.0]]],
            &Device::Cpu,
        )
        .unwrap();
        let second = first.affine(-2.0, 1.0).unwrap();
        let rows: Vec<Vec<f32>> = statistics(&[first.clone(), second], &[2, 3]).unwrap().to_vec2().unwrap();
        let (a, b) = (2f32.sqrt(), 8f32.sqrt());
        let want =
            [[2.0, 10.0, 1.0, 0.0, -3.0, -19.0, 2.0, 0.0], [6.0, 4.0, a, b, -11.0, -7.0, 2.0 * a, 2.0 * b]];
        assert!(
            rows.iter().flatten().zip(want.iter().flatten()).all(|(a, b)| (a - b).abs() < 1e-5),
            "{rows:?}"
        );
        for counts in [&[2, 0][..], &[2, 4], &[2]] {
            assert!(statistics(std::slice::from_ref(&first), counts).is_err());
        }
    }

    #[test]
    fn long_waves_are_read_in_pieces_that_join() {
        let wave: Vec<f32> = (0..PIECE * 2 + 5_000).map(|i| (i / 320) as f32).collect();
        let found = layer_frames(&Blocks, &[Layer::Tokens], &wave, TIMING, &Device::Cpu).unwrap();
        let want: Vec<f32> = (0..wave.len() / 320).map(|i| i as f32).collect();
        assert_eq!(found[0].as_slice(), want);
    }
}

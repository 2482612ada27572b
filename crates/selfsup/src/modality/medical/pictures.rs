//! What a method has learnt of volumes: what it restores, on middle slices of patches.

use super::Medical;
use crate::modality::{Content, Drawing, Drawn, Draws, Modality};
use candle_core::Tensor;
use selfsup_core::data::LoaderConfig;
use selfsup_core::kernels::host::floats;
use selfsup_core::objective::{Batch, Mae, Objective, Views};
use selfsup_core::{Error, Pass, Result};
use selfsup_medical::method::restoration::Restored;
use selfsup_medical::recipe::Architecture;
use selfsup_vision::image::Image;
use selfsup_vision::maps::{grey, sheet};
use selfsup_vision::thumbnail::png;

/// What MAE paints.
type Painted = <Mae as Objective>::Embeddings;

impl Draws<Views> for Medical {
    fn draw(&self, drawing: &Drawing<'_, Views>) -> Result<Vec<Drawn>> {
        let name = self.keys.method.name();
        if !self.keys.method.restores() && name != "mae" {
            return Ok(Vec::new());
        }
        let loader = LoaderConfig { shuffle: false, ..LoaderConfig::in_order(drawing.set.len().max(1), 0) };
        let batch = match self.batches(drawing.set, loader)?.epoch_from(0, 0)?.next() {
            Some(batch) => batch?.batch.to_device(drawing.device)?,
            None => return Err(Error::input("data", "no patch to draw")),
        };
        let made = drawing.method.embed(&batch, &Pass::eval())?;
        // Maps are (N, D, H, W, C).
        let (original, seen, restored, caption) = if name == "mae" {
            let Architecture::ViT(config, _) = &self.architecture else {
                return Err(Error::config("method mae: expected a vision transformer"));
            };
            let (seen, painted, target) = painted(made.get::<Painted>()?, config.size, config.patch)?;
            (
                target,
                seen,
                painted,
                "A patch of each volume, the boxes that the encoder saw, and the others as the decoder \
                 paints them, with the brightness of the original.",
            )
        } else {
            let made = made.get::<Restored>()?;
            (
                made.target.detach(),
                made.input.detach(),
                made.made.detach(),
                "A patch of each volume, what was left of it, and what the network restores.",
            )
        };
        let rows = (0..original.dim(0)?)
            .map(|i| {
                let middle = middle_slice(&original, i)?;
                // One scale for the three: that of the original.
                let (low, high) = middle
                    .0
                    .iter()
                    .fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
                let image = |(values, h, w): (Vec<f32>, usize, usize)| grey(&values, [low, high], h, w);
                Ok(vec![image(middle)?, image(middle_slice(&seen, i)?)?, image(middle_slice(&restored, i)?)?])
            })
            .collect::<Result<Vec<Vec<Image>>>>()?;
        Ok(vec![Drawn {
            name: "reconstructions",
            title: "Reconstructions".into(),
            caption: format!("{caption} Middle slices."),
            content: Content::Png(png(&sheet(&rows)?)?),
        }])
    }
}

/// The first channel of the middle slice of sample `i` of `(N, D, H, W, C)`.
fn middle_slice(map: &Tensor, i: usize) -> Result<(Vec<f32>, usize, usize)> {
    let (_, d, h, w, _) = map.dims5()?;
    let slice = map.narrow(0, i, 1)?.narrow(1, d / 2, 1)?.narrow(4, 0, 1)?;
    Ok((floats(&slice)?, h, w))
}

/// What the encoder saw, what the decoder painted, and the original, as maps.
fn painted(made: &Painted, size: [usize; 3], patch: [usize; 3]) -> Result<(Tensor, Tensor, Tensor)> {
    let target = made.target.detach();
    let (n, _, width) = target.dims3()?;
    let channels = width / patch.iter().product::<usize>().max(1);
    let mean = target.mean_keepdim(2)?;
    let deviation = (target.broadcast_sub(&mean)?.sqr()?.mean_keepdim(2)? + 1e-6)?.sqrt()?;
    let hidden = made.mask.unsqueeze(2)?;
    let pixels = made.pixels.detach().broadcast_mul(&deviation)?.broadcast_add(&mean)?;
    let seen = target.broadcast_mul(&(1.0 - &hidden)?)?;
    let painted = (&seen + pixels.broadcast_mul(&hidden)?)?;
    let [g, p] = [[0, 1, 2].map(|a| size[a] / patch[a].max(1)), patch];
    // (N, L, pd ph pw C) -> (N, gd, pd, gh, ph, gw, pw, C) -> (N, D, H, W, C)
    let joined = |t: &Tensor| -> Result<Tensor> {
        let split = t.reshape(vec![n, g[0], g[1], g[2], p[0], p[1], p[2], channels])?;
        let order = split.permute(vec![0, 1, 4, 2, 5, 3, 6, 7])?.contiguous()?;
        Ok(order.reshape((n, size[0], size[1], size[2], channels))?)
    };
    Ok((joined(&seen)?, joined(&painted)?, joined(&target)?))
}

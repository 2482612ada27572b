//! What a method has learnt of images: reconstructions of MAE, attention, and components of the patches.

use super::Vision;
use crate::modality::{Content, Drawing, Drawn, Draws, Modality};
use candle_core::Tensor;
use selfsup_core::data::LoaderConfig;
use selfsup_core::kernels::host::floats;
use selfsup_core::objective::{Batch, Mae, Method, Objective, Picture, Views};
use selfsup_core::{Error, Layer, Pass, Result};
use selfsup_eval::Matrix;
use selfsup_eval::projection::pca;
use selfsup_vision::augment::AugmentConfig;
use selfsup_vision::encoder::last_attention;
use selfsup_vision::image::Image;
use selfsup_vision::maps::{components, heat, of_view, sheet};
use selfsup_vision::recipe::Architecture;
use selfsup_vision::thumbnail::png;

/// What MAE paints.
type Painted = <Mae as Objective>::Embeddings;

impl Draws<Views> for Vision {
    fn draw(&self, drawing: &Drawing<'_, Views>) -> Result<Vec<Drawn>> {
        let x = self.whole(drawing)?;
        let method = drawing.method;
        let mut out = Vec::new();
        if self.keys.method.name() == "mae" {
            out.push(self.painted(method, &x)?);
        } else {
            out.extend(self.predicted(drawing)?);
        }
        out.extend(self.looked(method, &x)?);
        Ok(out)
    }
}

fn drawn(name: &'static str, title: &str, caption: &str, rows: &[Vec<Image>]) -> Result<Drawn> {
    let content = Content::Png(png(&sheet(rows)?)?);
    Ok(Drawn { name, title: title.into(), caption: caption.into(), content })
}

impl Vision {
    /// The samples as they are measured, `(N, C, H, W)`.
    fn whole(&self, drawing: &Drawing<'_, Views>) -> Result<Tensor> {
        let set = drawing.set;
        let inputs = self.inputs(set, false, LoaderConfig::in_order(set.len().max(1), 0))?;
        let batch = match inputs.epoch_from(0, 0)?.next() {
            Some(batch) => batch?.batch.to_device(drawing.device)?,
            None => return Err(Error::input("data", "no image to draw")),
        };
        Ok(batch.x)
    }

    fn image(&self, x: &Tensor, row: usize) -> Result<Image> {
        of_view(x, row, &self.keys.augment)
    }

    /// What a method predicts that can be looked at, beside what it was made from and what it should be.
    fn predicted(&self, drawing: &Drawing<'_, Views>) -> Result<Option<Drawn>> {
        let set = drawing.set;
        let batches = self.batches(set, LoaderConfig::in_order(set.len().max(1), 0))?;
        let Some(batch) = batches.epoch_from(0, 0)?.next() else { return Ok(None) };
        let batch = batch?.batch.to_device(drawing.device)?;
        let pictures = drawing.method.pictures(&batch, &Pass::eval())?;
        if pictures.is_empty() {
            return Ok(None);
        }
        let unit = AugmentConfig { mean: [0.0; 3], std: [1.0; 3], ..self.keys.augment.clone() };
        let of = |p: &Picture, i| of_view(&p.values, i, if p.unit { &unit } else { &self.keys.augment });
        let rows = (0..batch.samples())
            .map(|i| pictures.iter().map(|p| of(p, i)).collect::<Result<Vec<_>>>())
            .collect::<Result<Vec<_>>>()?;
        let names: Vec<&str> = pictures.iter().map(|p| p.name).collect();
        let caption = format!("Each sample: {}.", names.join(", "));
        drawn("predictions", "Predictions", &caption, &rows).map(Some)
    }

    /// Original, what the encoder saw, what the decoder painted.
    fn painted(&self, method: &Method<Views>, x: &Tensor) -> Result<Drawn> {
        let Architecture::ViT(config) = &self.architecture else {
            return Err(Error::config("method mae: expected a vision transformer"));
        };
        let (n, c, h, w) = x.dims4()?;
        let views = Views::of(vec![x.clone()], (0..n).collect());
        let made = method.embed(&views, &Pass::eval())?;
        let made = made.get::<Painted>()?;
        let [p, q] = config.patch;
        // (N, L, p q C) -> (N, C, H, W)
        let joined = |t: &Tensor| -> Result<Tensor> {
            let t = t.detach().reshape(vec![n, h / p, w / q, p, q, c])?.permute(vec![0, 5, 1, 3, 2, 4])?;
            Ok(t.contiguous()?.reshape((n, c, h, w))?)
        };
        let mut pixels = made.pixels.detach();
        if self.normalises() {
            // Painted patches have no brightness of their own: they get that of the original, as in the
            // paper's pictures.
            let target = made.target.detach();
            let mean = target.mean_keepdim(2)?;
            let deviation = (target.broadcast_sub(&mean)?.sqr()?.mean_keepdim(2)? + 1e-6)?.sqrt()?;
            pixels = pixels.broadcast_mul(&deviation)?.broadcast_add(&mean)?;
        }
        let hidden = made.mask.unsqueeze(2)?;
        let seen = made.target.detach().broadcast_mul(&(1.0 - &hidden)?)?;
        let painted = (&seen + pixels.broadcast_mul(&hidden)?)?;
        let (seen, painted) = (joined(&seen)?, joined(&painted)?);
        let rows = (0..n)
            .map(|i| Ok(vec![self.image(x, i)?, self.image(&seen, i)?, self.image(&painted, i)?]))
            .collect::<Result<Vec<_>>>()?;
        let mut caption =
            "Each image, the patches that the encoder saw, and the others as the decoder paints them."
                .to_string();
        if self.normalises() {
            caption += " Painted patches have the brightness and contrast of the original: the method does \
                not learn them.";
        }
        drawn("reconstructions", "Reconstructions", &caption, &rows)
    }

    /// Whether MAE's targets are normalised patch by patch.
    fn normalises(&self) -> bool {
        let keys = serde_json::to_value(&self.keys.method).unwrap_or_default();
        keys["norm_pix"].as_bool().unwrap_or(false)
    }

    /// Each image beside the three main components of its patches, and where a transformer looks.
    fn looked(&self, method: &Method<Views>, x: &Tensor) -> Result<Option<Drawn>> {
        let n = x.dim(0)?;
        let features = method.encoder().forward(x, None, &[Layer::Tokens], &Pass::eval())?;
        let Some(tokens) = features.tokens else { return Ok(None) };
        let (tokens, [rows, columns]) = match (&self.architecture, tokens.dims()) {
            (_, &[_, h, w, d]) => (tokens.reshape((n, h * w, d))?, [h, w]),
            (Architecture::ViT(config), &[_, l, _]) => {
                let prefix = config.prefix();
                (tokens.narrow(1, prefix, l - prefix)?, config.grid())
            }
            _ => return Ok(None),
        };
        let (_, l, d) = tokens.dims3()?;
        if l != rows * columns || l < 4 {
            return Ok(None);
        }
        let values: Vec<f32> = floats(&tokens.detach())?;
        let found = pca(Matrix::new(values, n * l, d)?.view(), 3)?;
        if found.k < 3 {
            return Ok(None);
        }
        let coloured = components(&found.scores, rows, columns)?;
        let attention = match &self.architecture {
            Architecture::ViT(config) => {
                last_attention(config, method.encoder(), method.params(), x).ok().map(|t| t.to_vec2::<f32>())
            }
            _ => None,
        }
        .transpose()?;
        let mut pictures = Vec::new();
        for (i, colours) in coloured.into_iter().enumerate() {
            let mut row = vec![self.image(x, i)?, colours];
            if let Some(shares) = &attention {
                row.push(heat(&shares[i], rows, columns)?);
            }
            pictures.push(row);
        }
        let share = 100.0 * found.explained.iter().sum::<f64>();
        let mut caption = format!(
            "Each image beside the first three principal components of its {} as red, green and blue, in one \
             scale for all images ({share:.0}% of the variance): alike colours are alike features.",
            if attention.is_some() { "patches" } else { "places" }
        );
        if attention.is_some() {
            caption +=
                " On the right how much each patch is looked at in the last block, from dark to bright.";
        }
        drawn("patches", "What the patches hold", &caption, &pictures).map(Some)
    }
}

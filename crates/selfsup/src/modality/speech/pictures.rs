//! What a method has learnt of recordings: its frames in colours, and the units of HuBERT, below a
//! spectrogram.

use super::{Speech, corpus};
use crate::modality::{Content, Drawing, Drawn, Draws};
use candle_core::Tensor;
use selfsup_core::kernels::host::floats;
use selfsup_core::{Error, Layer, Pass, Result, Scope};
use selfsup_eval::Matrix;
use selfsup_eval::projection::pca;
use selfsup_speech::batch::Waves;
use selfsup_speech::data::normalize;
use selfsup_speech::features::{Extractor, FeatureConfig};
use selfsup_speech::methods::Hubert;
use selfsup_speech::recipe::MethodConfig;
use selfsup_vision::image::{Image, Pixels};
use selfsup_vision::maps::heat;
use selfsup_vision::thumbnail::png;

/// Seconds of a recording that are drawn, and recordings.
const SECONDS: f64 = 4.0;
const MOST: usize = 6;
/// Pixels of a frame of the encoder across, of a strip down, and between bands.
const FRAME: usize = 4;
const STRIP: usize = 18;
const GAP: usize = 4;
/// Pixels of a mel bin.
const BIN: usize = 1;

/// A recording as it is drawn.
struct Part {
    wave: Vec<f32>,
    /// `(L, D)`.
    frames: Tensor,
}

impl Draws<Waves> for Speech {
    fn draw(&self, drawing: &Drawing<'_, Waves>) -> Result<Vec<Drawn>> {
        let (pass, rate) = (Pass::eval(), self.keys.input.audio.rate);
        let mut parts = Vec::new();
        for clip in corpus(drawing.set)?.clips().iter().take(MOST) {
            let length = clip.samples(rate)?.min((SECONDS * f64::from(rate)) as u64);
            let wave = clip.load(Some((0, length)), &self.keys.input.audio)?;
            let mut read = wave.clone();
            if self.keys.input.normalize {
                normalize(&mut read);
            }
            let x = Tensor::from_vec(read, (1, wave.len()), drawing.device)?;
            let found = drawing.method.encoder().forward(&x, None, &[Layer::Tokens], &pass)?;
            let frames = found.tokens.ok_or_else(|| Error::input("encoder", "gives no frames"))?;
            parts.push(Part { wave, frames: frames.detach().squeeze(0)?.contiguous()? });
        }
        if parts.is_empty() {
            return Err(Error::input("data", "no recording to draw"));
        }
        let all: Vec<Tensor> = parts.iter().map(|p| p.frames.clone()).collect();
        let all = Tensor::cat(&all, 0)?;
        let (n, d) = all.dims2()?;
        let scores = pca(Matrix::new(floats(&all)?, n, d)?.view(), 3)?;
        let units = match &self.keys.method {
            MethodConfig::Hubert(c) => {
                let clusters = c.iterations.last().map_or(0, |i| i.clusters);
                // Over the tensors that are there: nothing is drawn at random.
                let scope = Scope::root(drawing.method.params(), 0, drawing.device);
                let hubert = Hubert::new(&scope, self.encoder.clone(), c.clone(), clusters)?;
                Some(hubert.units(&all.unsqueeze(0)?, &pass)?.concat())
            }
            _ => None,
        };
        let spectra = Extractor::new(&FeatureConfig::fbank(), rate)?;
        let (mut at, mut bands) = (0, Vec::new());
        for part in &parts {
            let frames = part.frames.dim(0)?;
            let width = frames * FRAME;
            bands.push(spectrogram(&spectra, &part.wave, width)?);
            let range = at..at + frames;
            if scores.k == 3 {
                bands.push(strip(width, range.clone().map(|i| shade(&scores.scores, i)))?);
            }
            if let Some(units) = &units {
                bands.push(strip(width, units[range.clone()].iter().map(|unit| hue(*unit)))?);
            }
            at += frames;
        }
        let mut used: Vec<u32> = units.iter().flatten().copied().collect();
        used.sort_unstable();
        used.dedup();
        let mut caption = format!(
            "The first {SECONDS:.0} seconds of {} recordings: log-mel spectrogram (low frequencies at the \
             bottom), and below it the first three principal components of each frame as red, green and \
             blue.",
            parts.len()
        );
        if units.is_some() {
            caption += &format!(
                " The last strip has a colour for each unit, the likeliest cluster of a frame: {} of them \
                 occur here.",
                used.len()
            );
        }
        let picture = stacked(&bands, if units.is_some() { 3 } else { 2 })?;
        Ok(vec![Drawn {
            name: "frames",
            title: if units.is_some() { "Units over spectrograms" } else { "Frames over spectrograms" }
                .into(),
            caption,
            content: Content::Png(png(&picture)?),
        }])
    }
}

/// Log-mel energies, low frequencies at the bottom, `width` pixels across.
fn spectrogram(spectra: &Extractor, wave: &[f32], width: usize) -> Result<Image> {
    let found = spectra.compute(wave)?;
    let (frames, bins) = (found.len(), found.dim());
    let values: Vec<f32> = (0..bins * BIN)
        .flat_map(|y| {
            let bin = bins - 1 - y / BIN;
            let found = &found;
            (0..width).map(move |x| found.row(x * frames / width)[bin])
        })
        .collect();
    heat(&values, bins * BIN, width)
}

/// A strip of colours, one a frame.
fn strip(width: usize, colours: impl Iterator<Item = [u8; 3]>) -> Result<Image> {
    let row: Vec<u8> = colours.flat_map(|c| c.repeat(FRAME)).take(width * 3).collect();
    Image::new(width as u32, STRIP as u32, 3, Pixels::U8(row.repeat(STRIP)))
}

/// Three components of frame `i` as a colour: those of all frames have their extremes at 2.5 standard
/// deviations.
fn shade(scores: &[f64], i: usize) -> [u8; 3] {
    let n = (scores.len() / 3).max(1) as f64;
    [0, 1, 2].map(|c| {
        let sd = (scores.iter().skip(c).step_by(3).map(|v| v * v).sum::<f64>() / n).sqrt();
        let share = scores[3 * i + c] / (5.0 * sd.max(f64::MIN_POSITIVE)) + 0.5;
        (share * 255.0).round().clamp(0.0, 255.0) as u8
    })
}

/// A colour for a unit: hues by the golden ratio, in three brightnesses.
fn hue(unit: u32) -> [u8; 3] {
    let turn = (f64::from(unit) * 0.618_033_988_749_895).fract() * 6.0;
    let light = [0.55, 0.75, 0.95][unit as usize % 3];
    [0.0, 4.0, 2.0].map(|offset| {
        // A hue wheel of flat tops.
        let at = (turn + offset) % 6.0;
        let share = (2.0 - (at - 3.0).abs()).clamp(0.0, 1.0);
        (255.0 * light * (0.25 + 0.75 * (1.0 - share))).round() as u8
    })
}

/// Bands below one another on white, `each` of them a group.
fn stacked(bands: &[Image], each: usize) -> Result<Image> {
    let across = bands.iter().map(|b| b.width as usize).max().unwrap_or(1) + 2 * GAP;
    let (mut data, mut rows) = (vec![255u8; across * GAP * 3], GAP);
    for (i, band) in bands.iter().enumerate() {
        let Pixels::U8(from) = &band.data else { return Err(Error::input("band", "expected 8 bits")) };
        for row in from.chunks_exact(band.width as usize * 3) {
            data.extend_from_slice(&[255].repeat(GAP * 3));
            data.extend_from_slice(row);
            data.resize(data.len() + (across - GAP - band.width as usize) * 3, 255);
        }
        let gap = if (i + 1) % each == 0 { 4 * GAP } else { GAP / 2 };
        data.resize(data.len() + across * gap * 3, 255);
        rows += band.height as usize + gap;
    }
    Image::new(across as u32, rows as u32, 3, Pixels::U8(data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_stand_below_one_another() {
        let band = strip(8, [[1, 2, 3], [4, 5, 6]].into_iter()).unwrap();
        let Pixels::U8(data) = &band.data else { panic!("16 bits") };
        assert_eq!((&data[..3], &data[12..15]), (&[1, 2, 3][..], &[4, 5, 6][..]));
        let made = stacked(&[band.clone(), band], 2).unwrap();
        assert_eq!((made.width, made.height), (16, (GAP + STRIP + GAP / 2 + STRIP + 4 * GAP) as u32));
        let all: Vec<[u8; 3]> = (0..64).map(hue).collect();
        assert!(all.iter().enumerate().all(|(i, a)| all[..i].iter().all(|b| a != b)));
    }
}

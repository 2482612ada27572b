//! Pictures of numbers: maps in colours, components as red, green and blue, and sheets of them.

use crate::augment::AugmentConfig;
use crate::image::{Image, Pixels};
use candle_core::Tensor;
use selfsup_core::kernels::host::floats;
use selfsup_core::{Error, Result};

/// Pixels of the longer side of a cell on a sheet, at least.
const SIDE: u32 = 96;
/// Pixels between cells.
const GAP: usize = 6;
/// Colours from low to high: dark blue, violet, orange, yellow. Brightness rises all the way.
const HEAT: [[f32; 3]; 5] =
    [[4.0, 8.0, 40.0], [78.0, 18.0, 112.0], [184.0, 52.0, 96.0], [244.0, 130.0, 60.0], [252.0, 240.0, 150.0]];

/// Sample `row` of a view `(N, C, H, W)` in its own colours.
///
/// # Errors
/// If the view has another shape.
pub fn of_view(view: &Tensor, row: usize, augment: &AugmentConfig) -> Result<Image> {
    let (_, channels, height, width) = view.dims4()?;
    let values: Vec<f32> = floats(&view.narrow(0, row, 1)?)?;
    let mut data = vec![0; width * height * 3];
    for k in 0..3 {
        let channel = k.min(channels - 1);
        let (mean, std) = augment.channel(channel, channels);
        for (i, value) in values[channel * height * width..][..height * width].iter().enumerate() {
            data[3 * i + k] = byte((value * std + mean) * 255.0);
        }
    }
    Image::new(width as u32, height as u32, 3, Pixels::U8(data))
}

fn byte(v: f32) -> u8 {
    v.round().clamp(0.0, 255.0) as u8
}

/// The range of finite values; `(0, 1)` where there is none.
fn range(values: impl Iterator<Item = f32>) -> (f32, f32) {
    let finite = values.filter(|v| v.is_finite());
    let (low, high) = finite.fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    if low <= high { (low, high) } else { (0.0, 1.0) }
}

/// `height * width` values from dark (the lowest) to bright (the highest).
///
/// # Errors
/// If the numbers of values and pixels differ.
pub fn heat(values: &[f32], height: usize, width: usize) -> Result<Image> {
    let (low, high) = range(values.iter().copied());
    let scale = (HEAT.len() - 1) as f32 / (high - low).max(f32::MIN_POSITIVE);
    let colour = |v: &f32| {
        let at = if v.is_finite() { (v - low) * scale } else { 0.0 };
        let below = (at as usize).min(HEAT.len() - 2);
        let share = at - below as f32;
        [0, 1, 2].map(|c| byte(HEAT[below][c] + (HEAT[below + 1][c] - HEAT[below][c]) * share))
    };
    Image::new(width as u32, height as u32, 3, Pixels::U8(values.iter().flat_map(colour).collect()))
}

/// Three components a pixel, `(n, 3)` for several pictures of `height * width` pixels after one another, as
/// red, green and blue. All pictures share one scale: from the 1st to the 99th percentile of each component.
///
/// # Errors
/// If the numbers of values and pixels differ.
pub fn components(scores: &[f64], height: usize, width: usize) -> Result<Vec<Image>> {
    let pixels = height * width;
    if pixels == 0 || !scores.len().is_multiple_of(3 * pixels) {
        return Err(Error::input(
            "components",
            format!("{} values for pictures of {pixels} pixels", scores.len()),
        ));
    }
    let ends = [0, 1, 2].map(|c| {
        let mut sorted: Vec<f64> = scores.iter().skip(c).step_by(3).copied().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| sorted[((sorted.len() - 1) as f64 * share).round() as usize];
        (at(0.01), at(0.99))
    });
    scores
        .chunks_exact(3 * pixels)
        .map(|part| {
            let shade = |(i, v): (usize, &f64)| {
                let (low, high) = ends[i % 3];
                byte(((v - low) / (high - low).max(f64::MIN_POSITIVE) * 255.0) as f32)
            };
            Image::new(
                width as u32,
                height as u32,
                3,
                Pixels::U8(part.iter().enumerate().map(shade).collect()),
            )
        })
        .collect()
}

/// Grey values from black (`low`) to white (`high`).
///
/// # Errors
/// If the numbers of values and pixels differ.
pub fn grey(values: &[f32], [low, high]: [f32; 2], height: usize, width: usize) -> Result<Image> {
    let scale = 255.0 / (high - low).max(f32::MIN_POSITIVE);
    let data = values.iter().map(|v| byte((v - low) * scale)).collect();
    Image::new(width as u32, height as u32, 1, Pixels::U8(data))
}

/// Pictures in rows and columns on white. Each is enlarged by a whole factor, pixel by pixel, so that small
/// maps are as large as the pictures beside them.
///
/// # Errors
/// If there is none.
pub fn sheet(rows: &[Vec<Image>]) -> Result<Image> {
    let longest = |image: &Image| image.width.max(image.height);
    let largest =
        rows.iter().flatten().map(longest).max().ok_or_else(|| Error::input("sheet", "no pictures"))?;
    let side = largest * SIDE.div_ceil(largest).max(1);
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let (cell, across) = (side as usize + GAP, columns * (side as usize + GAP) + GAP);
    let down = rows.len() * cell + GAP;
    let mut data = vec![255u8; across * down * 3];
    for (r, row) in rows.iter().enumerate() {
        for (c, image) in row.iter().enumerate() {
            let zoom = (side / longest(image)).max(1) as usize;
            let image = image.clone().to_rgb()?;
            let Pixels::U8(from) = &image.data else { return Err(Error::input("sheet", "expected 8 bits")) };
            let (width, height) = (image.width as usize * zoom, image.height as usize * zoom);
            for y in 0..height.min(side as usize) {
                for x in 0..width.min(side as usize) {
                    let source = (y / zoom * image.width as usize + x / zoom) * 3;
                    let at = ((GAP + r * cell + y) * across + GAP + c * cell + x) * 3;
                    data[at..at + 3].copy_from_slice(&from[source..source + 3]);
                }
            }
        }
    }
    Image::new(across as u32, down as u32, 3, Pixels::U8(data))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pixel(image: &Image, x: usize, y: usize) -> [u8; 3] {
        let Pixels::U8(data) = &image.data else { panic!("16 bits") };
        let at = (y * image.width as usize + x) * 3;
        [data[at], data[at + 1], data[at + 2]]
    }

    #[test]
    fn brightness_rises_with_the_values() {
        let values: Vec<f32> = (0..9).map(|v| v as f32).collect();
        let made = heat(&values, 1, 9).unwrap();
        let bright = |x| pixel(&made, x, 0).map(u32::from).iter().sum::<u32>();
        assert!((1..9).all(|x| bright(x) > bright(x - 1)));
        assert_eq!(pixel(&heat(&[f32::NAN, 1.0], 1, 2).unwrap(), 0, 0), [4, 8, 40]);
        assert!(heat(&values, 2, 2).is_err());
    }

    #[test]
    fn components_share_a_scale() {
        let scores: Vec<f64> = (0..24).map(|i| if i % 3 == 0 { f64::from(i) } else { 0.0 }).collect();
        let made = components(&scores, 2, 2).unwrap();
        assert_eq!((pixel(&made[0], 0, 0), pixel(&made[1], 1, 1)), ([0, 0, 0], [255, 0, 0]));
        assert!(components(&scores, 5, 1).is_err());
    }

    #[test]
    fn small_maps_are_as_large_as_pictures() {
        let flat = |side: u32, v: u8| {
            Image::new(side, side, 1, Pixels::U8(vec![v; (side * side) as usize])).unwrap()
        };
        let made = sheet(&[vec![flat(28, 10), flat(7, 20)], vec![flat(28, 30)]]).unwrap();
        // 28 pixels are enlarged fourfold.
        assert_eq!((made.width, made.height), (2 * 118 + 6, 2 * 118 + 6));
        assert_eq!((pixel(&made, 6, 6), pixel(&made, 117, 117)), ([10; 3], [10; 3]));
        assert_eq!((pixel(&made, 124, 6), pixel(&made, 235, 117)), ([20; 3], [20; 3]));
        assert_eq!((pixel(&made, 6, 124), pixel(&made, 130, 130)), ([30; 3], [255; 3]));
        assert!(sheet(&[]).is_err());
    }
}

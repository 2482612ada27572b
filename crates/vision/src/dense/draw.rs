//! Pictures of what was found: masks in colours over an image, boxes around objects.

use super::mask::Mask;
use crate::image::{Image, Pixels};
use selfsup_core::{Error, Result};

/// Share of a mask's colour in an overlay.
const COVER: f32 = 0.5;

/// A colour of a class: bright, and far from that of its neighbours. Class 0 of a mask is the background, and
/// stays as it is.
pub fn colour(class: usize) -> [u8; 3] {
    // Hues a golden angle apart never come close for a few dozen classes.
    let hue = (class as f32 * 0.618_034).fract() * 6.0;
    let ramp = |shift: f32| {
        let at = (hue + shift).rem_euclid(6.0);
        (2.0 - (at - 3.0).abs()).clamp(0.0, 1.0)
    };
    // Red is full around 0, green around 2, blue around 4.
    [3.0, 1.0, -1.0].map(|shift| (55.0 + 200.0 * ramp(shift)) as u8)
}

fn bytes(image: &Image) -> Result<Vec<u8>> {
    Ok(match image.clone().to_rgb()?.data {
        Pixels::U8(v) => v,
        Pixels::U16(v) => v.into_iter().map(|x| (x >> 8) as u8).collect(),
    })
}

/// `image` with the pixels of the classes above 0 in their colours, half as strong. `classes` has a class for
/// each pixel.
///
/// # Errors
/// If the sizes differ.
pub fn overlay(image: &Image, classes: &Mask) -> Result<Image> {
    if (image.width, image.height) != (classes.width, classes.height) {
        return Err(Error::input(
            "overlay",
            format!("{} x {} pixels over {} x {}", classes.width, classes.height, image.width, image.height),
        ));
    }
    let mut data = bytes(image)?;
    for (pixel, class) in data.chunks_exact_mut(3).zip(&classes.values) {
        if *class > 0 {
            for (v, c) in pixel.iter_mut().zip(colour(usize::from(*class))) {
                *v = (f32::from(*v) * (1.0 - COVER) + f32::from(c) * COVER).round() as u8;
            }
        }
    }
    Image::new(image.width, image.height, 3, Pixels::U8(data))
}

/// `image` with a frame in the colour of its class around each box (left, top, width, height in pixels).
/// Frames are as thick as the picture is large: a pixel of each 200.
///
/// # Errors
/// Never for an image that decoding made.
pub fn draw_boxes(image: &Image, boxes: &[(usize, [f64; 4])]) -> Result<Image> {
    let (w, h) = (image.width as usize, image.height as usize);
    let thick = w.max(h).div_ceil(200);
    let mut data = bytes(image)?;
    // The surest come first, and are to be seen on top.
    for (class, bbox) in boxes.iter().rev() {
        let shade = colour(*class);
        let low = |v: f64, most: usize| (v.max(0.0) as usize).min(most - 1);
        let (left, top) = (low(bbox[0], w), low(bbox[1], h));
        let (right, bottom) = (low(bbox[0] + bbox[2] - 1.0, w), low(bbox[1] + bbox[3] - 1.0, h));
        for y in top..=bottom.max(top) {
            for x in left..=right.max(left) {
                let edge = (x - left).min(right.max(left) - x).min(y - top).min(bottom.max(top) - y);
                if edge < thick {
                    data[(y * w + x) * 3..][..3].copy_from_slice(&shade);
                }
            }
        }
    }
    Image::new(image.width, image.height, 3, Pixels::U8(data))
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
    fn colours_differ() {
        assert_eq!(colour(0), [255, 55, 55]);
        for a in 0..20 {
            for b in 0..a {
                let far: u32 = colour(a).iter().zip(colour(b)).map(|(a, b)| u32::from(a.abs_diff(b))).sum();
                assert!(far > 30, "{a} {b}: {:?} {:?}", colour(a), colour(b));
            }
        }
    }

    #[test]
    fn masks_and_frames() {
        let grey = Image::new(6, 4, 1, Pixels::U8(vec![100; 24])).unwrap();
        let mut values = vec![0; 24];
        values[7] = 3;
        let over = overlay(&grey, &Mask::new(6, 4, values).unwrap()).unwrap();
        let mixed = colour(3).map(|c| ((100.0 + f32::from(c)) / 2.0).round() as u8);
        assert_eq!((pixel(&over, 0, 0), pixel(&over, 1, 1)), ([100; 3], mixed));
        assert!(overlay(&grey, &Mask::new(4, 6, vec![0; 24]).unwrap()).is_err());
        let framed = draw_boxes(&grey, &[(1, [1.0, 0.0, 4.0, 3.0])]).unwrap();
        let shade = colour(1);
        let corners = [(1, 0), (4, 0), (1, 2), (4, 2), (2, 0)].map(|(x, y)| pixel(&framed, x, y));
        assert_eq!(corners, [shade; 5]);
        assert!([(0, 0), (5, 0), (2, 1), (1, 3)].iter().all(|(x, y)| pixel(&framed, *x, *y) == [100; 3]));
        // Outside and empty boxes draw what is inside.
        draw_boxes(&grey, &[(0, [-9.0, -9.0, 3.0, 3.0]), (0, [9.0, 9.0, 0.0, 0.0])]).unwrap();
    }
}

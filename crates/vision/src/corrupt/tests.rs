use super::*;
use crate::image::Pixels;
use selfsup_core::Key;

/// A smooth picture with a bright square, a dark disc and stripes, so that every kind finds what it changes.
fn picture(side: u32, channels: u8, deep: bool) -> Image {
    let c = usize::from(channels);
    let value = |i: usize| {
        let (y, x, k) = (i / c / side as usize, i / c % side as usize, i % c);
        let (fy, fx) = (y as f64 / f64::from(side), x as f64 / f64::from(side));
        let disc = (fy - 0.7).powi(2) + (fx - 0.3).powi(2) < 0.04;
        let base = 0.25 + 0.3 * fy + 0.2 * (fx * 3.0 + k as f64).sin().abs();
        let v = if disc { 0.1 + 0.1 * k as f64 } else { base };
        let square = (0.1..0.4).contains(&fy) && (0.5..0.9).contains(&fx);
        if square { 0.6 + 0.25 * ((x / 2 + y / 3) % 2) as f64 - 0.1 * k as f64 } else { v }
    };
    let n = (side * side) as usize * c;
    let data = match deep {
        false => Pixels::U8((0..n).map(|i| (value(i) * 255.0) as u8).collect()),
        true => Pixels::U16((0..n).map(|i| (value(i) * 65_535.0) as u16).collect()),
    };
    Image::new(side, side, channels, data).unwrap()
}

fn values(image: &Image) -> Vec<f64> {
    match &image.data {
        Pixels::U8(v) => v.iter().map(|x| f64::from(*x) / 255.0).collect(),
        Pixels::U16(v) => v.iter().map(|x| f64::from(*x) / 65_535.0).collect(),
    }
}

/// Root mean square of the change, over some draws.
fn distance(kind: Corruption, image: &Image, severity: u8) -> f64 {
    let clean = values(image);
    let draws = 8;
    let of = |draw: u64| {
        let made = kind.apply(image, severity, &mut Key::new(1).fold(draw).rng()).unwrap();
        assert_eq!((made.width, made.height, made.channels), (image.width, image.height, image.channels));
        let square: f64 = values(&made).iter().zip(&clean).map(|(a, b)| (a - b).powi(2)).sum();
        (square / clean.len() as f64).sqrt()
    };
    (0..draws).map(of).sum::<f64>() / draws as f64
}

#[test]
fn every_kind_changes_the_image_and_most_change_it_more_with_severity() {
    for side in [32, 96] {
        let image = picture(side, 3, false);
        for kind in Corruption::ALL {
            let name = kind.name();
            let distances: Vec<f64> = (1..=5).map(|s| distance(kind, &image, s)).collect();
            assert!(distances.iter().all(|d| *d > 0.0005), "{name}, {side} px: {distances:?}");
            // The published severities do not all grow in distance: saturate goes down, then up; elastic goes
            // from large maps to small waves.
            let other = matches!(kind, Saturate | ElasticTransform);
            assert!(distances[4] > distances[0] || other, "{name}, {side} px: {distances:?}");
            // Glass counts rounds at times, frost keeps less of the picture, spatter goes from water to mud, and
            // large pixels meet the stripes of this one as they fall.
            let uneven = other || matches!(kind, GlassBlur | Frost | Spatter | Pixelate);
            let rises = distances.windows(2).filter(|d| d[1] > d[0]).count();
            assert!(rises >= 3 || uneven, "{name}, {side} px: {distances:?}");
        }
    }
}

#[test]
fn severity_0_is_the_image_and_6_is_none() {
    for image in [picture(32, 3, false), picture(40, 1, true)] {
        for kind in Corruption::ALL {
            assert_eq!(kind.apply(&image, 0, &mut Key::new(1).rng()).unwrap(), image);
            let error = kind.apply(&image, 6, &mut Key::new(1).rng()).unwrap_err().to_string();
            assert!(error.contains("severity 6") && error.contains("0 (none) to 5"), "{error}");
        }
    }
}

#[test]
fn a_key_says_what_comes_out() {
    let image = picture(32, 3, false);
    let random = [GaussianNoise, ShotNoise, ImpulseNoise, SpeckleNoise, GlassBlur, MotionBlur];
    let random = [&random[..], &[Snow, Frost, Fog, ElasticTransform, Spatter]].concat();
    for kind in Corruption::ALL {
        let made = |seed: u64| kind.apply(&image, 3, &mut Key::new(seed).rng()).unwrap();
        assert_eq!(made(1), made(1), "{}", kind.name());
        assert_eq!(made(1) != made(2), random.contains(&kind), "{}", kind.name());
    }
}

#[test]
fn any_size_and_depth_goes_through() {
    for kind in Corruption::ALL {
        for (w, h) in [(1, 1), (2, 3), (1, 40), (7, 5), (300, 9)] {
            for (channels, deep) in [(1, false), (3, false), (1, true), (3, true)] {
                let n = (w * h) as usize * usize::from(channels);
                let data = match deep {
                    false => Pixels::U8((0..n).map(|i| (i * 89 % 256) as u8).collect()),
                    true => Pixels::U16((0..n).map(|i| (i * 9973 % 65_536) as u16).collect()),
                };
                let image = Image::new(w, h, channels, data).unwrap();
                for severity in [1, 4, 5] {
                    for table in [Table::Small, Table::Large] {
                        let rng = &mut Key::new(5).rng();
                        let made = kind.apply_as(&image, severity, table, rng).unwrap();
                        assert_eq!((made.width, made.height), (w, h), "{}", kind.name());
                    }
                }
            }
        }
    }
}

/// 16 bits hold the same picture as 8: what comes out is the same within a few levels of 256.
#[test]
fn depth_does_not_matter() {
    let (shallow, deep) = (picture(64, 3, false), picture(64, 3, true));
    // Shot noise draws as often as its values ask for: another value, and all that follow are others.
    for kind in Corruption::ALL.into_iter().filter(|k| *k != ShotNoise) {
        let rng = || Key::new(2).rng();
        let a = values(&kind.apply(&shallow, 2, &mut rng()).unwrap());
        let b = values(&kind.apply(&deep, 2, &mut rng()).unwrap());
        let mean = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).sum::<f64>() / a.len() as f64;
        assert!(mean < 0.01, "{}: {mean}", kind.name());
    }
}

#[test]
fn names_are_read_back_and_a_wrong_one_lists_them() {
    for kind in Corruption::ALL {
        assert_eq!(Corruption::named(kind.name()).unwrap(), kind);
    }
    assert_eq!(Corruption::benchmark().len(), 15);
    let error = Corruption::named("rain").unwrap_err().to_string();
    assert!(
        error.contains("rain") && error.contains("snow") && error.contains("jpeg_compression"),
        "{error}"
    );
}

#[test]
fn fog_keeps_the_brightness_and_snow_whitens() {
    let image = picture(96, 3, false);
    let mean = |kind: Corruption, severity: u8| {
        let v = values(&kind.apply(&image, severity, &mut Key::new(3).rng()).unwrap());
        v.iter().sum::<f64>() / v.len() as f64
    };
    let clean = values(&image).iter().sum::<f64>() / values(&image).len() as f64;
    assert!(mean(Snow, 5) > clean + 0.1 && mean(Frost, 5) > clean);
    // Nothing becomes brighter than the brightest pixel was.
    let most = |image: &Image| values(image).into_iter().fold(0.0, f64::max);
    let foggy = Fog.apply(&image, 5, &mut Key::new(3).rng()).unwrap();
    assert!(most(&foggy) <= most(&image) + 1e-9);
}

/// Through the evaluation of samples: severity 0 is the clean view bit for bit, whatever the channels; names
/// decide what is drawn; and a grey picture stays grey.
#[test]
fn samples_are_corrupted_by_their_names() {
    use crate::augment::AugmentConfig;
    use crate::data::{Content, Planes, Sample};
    use selfsup_core::data::Transform;
    let views = |channels: u8, wanted: usize, kind: Corruption, severity: Option<u8>, seed: u64, id: &str| {
        let Pixels::U8(data) = picture(40, channels, false).data else { panic!("8 bits") };
        let content = Content::Pixels { width: 40, height: 40, channels, data: data.into() };
        let augment =
            AugmentConfig { size: 24, ..AugmentConfig::default() }.evaluation(wanted, 1 << 20).unwrap();
        let augment = match severity {
            None => augment,
            Some(s) => augment.corrupted(Corrupt::new(kind, s, seed).unwrap()),
        };
        let sample = Sample { id: id.into(), content };
        augment.apply(sample, &mut Key::new(0).rng()).unwrap().remove(0)
    };
    let equal_planes = |p: &Planes| {
        let n = p.shape[1] * p.shape[2];
        // Back from the statistics of each channel.
        let level =
            |i: usize, k: usize| p.values[k * n + i] * [0.229, 0.224, 0.225][k] + [0.485, 0.456, 0.406][k];
        (0..n).all(|i| (level(i, 0) - level(i, 1)).abs() < 1e-5 && (level(i, 0) - level(i, 2)).abs() < 1e-5)
    };
    for kind in Corruption::ALL {
        for (channels, wanted) in [(1, 1), (1, 3), (3, 1), (3, 3)] {
            let clean = views(channels, wanted, kind, None, 0, "a");
            assert_eq!(views(channels, wanted, kind, Some(0), 0, "a"), clean);
            let made = views(channels, wanted, kind, Some(5), 0, "a");
            assert_eq!(made, views(channels, wanted, kind, Some(5), 0, "a"));
            assert!(
                made != clean || (kind == Saturate && channels.min(wanted as u8) == 1),
                "{}",
                kind.name()
            );
            if (channels, wanted) == (1, 3) {
                assert!(equal_planes(&made), "{}", kind.name());
            }
        }
    }
    let noise = |seed: u64, id: &str| views(3, 3, GaussianNoise, Some(2), seed, id);
    assert!(noise(0, "a") != noise(0, "b") && noise(0, "a") != noise(1, "a"));
    assert!(Corrupt::new(Fog, 6, 0).unwrap_err().to_string().contains("severity 6"));
}

use super::*;
use crate::data::Content;
use selfsup_core::Key;
use std::sync::Arc;

/// `width x height` pixels: red is the column, green the row.
fn sample(width: u32, height: u32) -> Sample {
    let data: Arc<[u8]> =
        (0..width * height).flat_map(|i| [(i % width) as u8, (i / width) as u8, 0]).collect();
    Sample { id: "x".into(), content: Content::Pixels { width, height, channels: 3, data } }
}

fn placed(size: usize, flip: f64) -> Placed {
    let (mean, std) = ([0.0; 3], [1.0 / 255.0; 3]);
    let config = AugmentConfig { size, flip, mean, std, ..AugmentConfig::default() };
    Placed::new(&config, 3, 1 << 20).unwrap()
}

/// Colours that name their place tell where a view lies: labels and boxes must say the same.
#[test]
fn labels_follow_the_pixels() {
    let (w, h) = (200u32, 120u32);
    let classes: Vec<i64> = (0..w * h).map(|i| i64::from(i % w)).collect();
    for flip in [0.0, 1.0] {
        for seed in 0..20 {
            let view = placed(64, flip).part(sample(w, h), &mut Key::new(seed).rng()).unwrap();
            assert_eq!(view.place.mirrored, flip == 1.0);
            let labels = view.place.labels(&classes).unwrap();
            let scale = view.place.rect.width / 64.0;
            for (label, red) in labels.iter().zip(&view.planes.values[..64 * 64]) {
                // A filter reaches a pixel of the view to each side, and is cut at the edge of the crop.
                assert!(
                    (*label as f64 - f64::from(*red)).abs() <= 1.5 * scale.max(1.0),
                    "{label} {red} {scale}"
                );
            }
        }
    }
}

#[test]
fn the_whole_fits_and_the_rest_does_not_count() {
    let view = placed(50, 0.0).whole(sample(100, 60)).unwrap();
    assert_eq!((view.place.shown, view.place.source), ([50, 30], [100, 60]));
    assert!(view.planes.values[30 * 50..50 * 50].iter().all(|v| *v == 0.0));
    let labels = view.place.labels(&vec![3; 6000]).unwrap();
    assert!(labels[..1500].iter().all(|l| *l == 3) && labels[1500..].iter().all(|l| *l == IGNORED));
    assert!(view.place.labels(&[3; 7]).is_err());
    // There and back.
    let bbox = view.place.to_view([10.0, 20.0, 40.0, 30.0]).unwrap();
    assert_eq!(bbox, [5.0, 10.0, 25.0, 25.0]);
    assert_eq!(view.place.to_source(bbox), [10.0, 20.0, 40.0, 30.0]);
    assert_eq!(view.place.to_source([-5.0, 0.0, 60.0, 99.0]), [0.0, 0.0, 100.0, 60.0]);
    // A strip keeps a pixel.
    assert_eq!(placed(50, 0.0).whole(sample(200, 1)).unwrap().place.shown, [50, 1]);
}

#[test]
fn boxes_are_cut_and_mirrored() {
    let rect = Rect { left: 20.0, top: 10.0, width: 40.0, height: 40.0 };
    let place = Place { source: [100, 60], rect, shown: [80, 80], size: 80, mirrored: true };
    // Columns 30 to 40 of the image are 20 to 40 of the view, mirrored 40 to 60.
    assert_eq!(place.to_view([30.0, 15.0, 10.0, 5.0]), Some([40.0, 10.0, 60.0, 20.0]));
    // Half is seen, then a fifth, then nothing.
    assert_eq!(place.to_view([10.0, 10.0, 20.0, 40.0]), Some([60.0, 0.0, 80.0, 80.0]));
    assert_eq!(place.to_view([12.0, 10.0, 10.0, 40.0]), None);
    assert_eq!(place.to_view([0.0, 0.0, 10.0, 5.0]), None);
}

#[test]
fn what_masks_cannot_follow_is_refused() {
    let turned = AugmentConfig { rotation: 10.0, ..AugmentConfig::default() };
    let e = Placed::new(&turned, 3, 1).unwrap_err().to_string();
    assert!(e.contains("augment.rotation = 10"), "{e}");
    let policy = AugmentConfig { policy: Policy::Rand, ..AugmentConfig::default() };
    assert!(Placed::new(&policy, 3, 1).unwrap_err().to_string().contains("augment.policy"));
}

#[test]
fn a_mask_must_fit() {
    let mask = Mask::new(2, 1, vec![0, 255]).unwrap();
    let path = std::path::Path::new("m.png");
    let class = |v: u16| if v == 255 { Some(IGNORED) } else { Some(i64::from(v)).filter(|v| *v < 1) };
    assert_eq!(classes_of(&mask, path, [2, 1], &class).unwrap(), [0, IGNORED]);
    let e = classes_of(&mask, path, [1, 2], &class).unwrap_err().to_string();
    assert!(e.contains("m.png") && e.contains("2 x 1") && e.contains("1 x 2"), "{e}");
    let e = classes_of(&Mask::new(1, 1, vec![9]).unwrap(), path, [1, 1], &class).unwrap_err().to_string();
    assert!(e.contains("m.png") && e.contains("the value 9"), "{e}");
}

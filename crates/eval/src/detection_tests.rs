use super::*;
use proptest::prelude::*;

fn object(image: usize, bbox: [f64; 4]) -> Object {
    Object { image, category: 0, bbox, area: bbox[2] * bbox[3], crowd: false }
}

fn detection(image: usize, bbox: [f64; 4], score: f64) -> Detection {
    Detection { image, category: 0, bbox, score }
}

fn near(a: Option<f64>, b: f64) {
    assert!(a.is_some_and(|a| (a - b).abs() < 1e-12), "{a:?} for {b}");
}

/// 40 x 40 against itself moved by 10: 30 * 40 of 1600 + 400 remain.
#[test]
fn overlaps() {
    let (a, b) = ([0.0, 0.0, 40.0, 40.0], [10.0, 0.0, 40.0, 40.0]);
    assert_eq!((box_iou(&a, &b, false), box_iou(&a, &b, true)), (0.6, 0.75));
    assert_eq!(box_iou(&a, &a, false), 1.0);
    // Touching and empty boxes.
    assert_eq!(box_iou(&a, &[40.0, 0.0, 5.0, 5.0], false), 0.0);
    assert_eq!(box_iou(&[1.0, 1.0, 0.0, 0.0], &[1.0, 1.0, 0.0, 0.0], false), 0.0);
}

/// One of two objects is found, with a wrong detection in front: precision 1/2 up to a recall of 1/2, which
/// is read at 51 of 101 recalls.
#[test]
fn half_is_found_behind_a_mistake() {
    let objects = [object(0, [0.0, 0.0, 40.0, 40.0]), object(1, [0.0, 0.0, 40.0, 40.0])];
    let found = [detection(1, [200.0, 0.0, 40.0, 40.0], 0.9), detection(0, [0.0, 0.0, 40.0, 40.0], 0.8)];
    let m = coco(&objects, &found, 2, 1).unwrap();
    near(m.ap, 0.5 * 51.0 / 101.0);
    near(m.ar[2], 0.5);
    // 1600 square pixels are of the middle size: nothing is small or large.
    near(m.ap_of_area[1], 0.5 * 51.0 / 101.0);
    assert_eq!((m.ap_of_area[0], m.ap_of_area[2], m.ar_of_area[0]), (None, None, None));
}

/// An overlap of 0.6 counts at 0.50, 0.55 and 0.60, three of ten thresholds.
#[test]
fn thresholds() {
    let m = coco(&[object(0, [0.0, 0.0, 40.0, 40.0])], &[detection(0, [10.0, 0.0, 40.0, 40.0], 1.0)], 1, 1)
        .unwrap();
    near(m.ap, 0.3);
    near(m.ap50, 1.0);
    near(m.ap75, 0.0);
    let each: Vec<f64> = m.ap_of_overlap.iter().map(|v| v.unwrap()).collect();
    assert_eq!(each, [1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
}

/// Two detections inside a crowd are neither right nor wrong; a second one of an object is wrong.
#[test]
fn crowds_and_doubles() {
    let crowd = Object { crowd: true, ..object(0, [100.0, 100.0, 200.0, 200.0]) };
    let objects = [object(0, [0.0, 0.0, 40.0, 40.0]), crowd];
    let inside = |x: f64, score| detection(0, [x, 150.0, 40.0, 40.0], score);
    let right = detection(0, [0.0, 0.0, 40.0, 40.0], 0.5);
    near(coco(&objects, &[inside(120.0, 0.9), inside(200.0, 0.8), right], 1, 1).unwrap().ap, 1.0);
    let twice = detection(0, [0.0, 0.0, 40.0, 40.0], 0.6);
    let m = coco(&objects, &[twice, right], 1, 1).unwrap();
    // The mistake comes behind the only object: precision at every recall is 1.
    near(m.ap, 1.0);
    let two = [objects[0], object(0, [50.0, 0.0, 40.0, 40.0])];
    let third = detection(0, [50.0, 0.0, 40.0, 40.0], 0.4);
    // Right, wrong, right: 51 recalls at 1, 50 at 2/3.
    near(coco(&two, &[twice, right, third], 1, 1).unwrap().ap, (51.0 + 50.0 * 2.0 / 3.0) / 101.0);
    // Nothing but a crowd: nothing is measured.
    assert_eq!(coco(&objects[1..], &[right], 1, 1).unwrap().ap, None);
}

/// With one detection an image and category, one of two objects can be found.
#[test]
fn recall_by_number() {
    let objects = [object(0, [0.0, 0.0, 40.0, 40.0]), object(0, [50.0, 0.0, 40.0, 40.0])];
    let found = objects.map(|o| detection(0, o.bbox, 0.5));
    let m = coco(&objects, &found, 1, 1).unwrap();
    near(m.ar[0], 0.5);
    near(m.ar[1], 1.0);
    // Of 101 detections the least sure is not looked at.
    let mut many: Vec<Detection> = (0..100).map(|_| detection(0, [300.0, 300.0, 9.0, 9.0], 0.9)).collect();
    many.push(found[0]);
    near(coco(&objects, &many, 1, 1).unwrap().ar[2], 0.0);
}

#[test]
fn boxes_that_cannot_be() {
    let sound = object(0, [0.0, 0.0, 4.0, 4.0]);
    for (bad, part) in [
        (Object { image: 1, ..sound }, "image below 1"),
        (Object { category: 2, ..sound }, "category below 1"),
        (object(0, [0.0, 0.0, -4.0, 4.0]), "width"),
        (object(0, [f64::NAN, 0.0, 4.0, 4.0]), "finite"),
    ] {
        let e = coco(&[sound, bad], &[], 1, 1).unwrap_err().to_string();
        assert!(e.contains("object 1") && e.contains(part), "{e}");
    }
    let e = coco(&[], &[detection(0, [0.0; 4], f64::INFINITY)], 1, 1).unwrap_err().to_string();
    assert!(e.contains("detection 0"), "{e}");
    let nothing = coco(&[], &[], 0, 0).unwrap();
    assert_eq!((nothing.ap, nothing.ar[2]), (None, None));
}

/// The twelve numbers of pycocotools, and those by category and overlap.
#[test]
fn golden() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/eval/coco_ap.safetensors");
    let tensors = candle_core::safetensors::load(path, &candle_core::Device::Cpu).unwrap();
    let list = |name: &str| -> Vec<f64> {
        let t = tensors.get(name).unwrap_or_else(|| panic!("no {name}"));
        t.to_dtype(candle_core::DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    };
    let whole = |name: &str| list(name).into_iter().map(|v| v as usize).collect::<Vec<_>>();
    let bbox = |v: &[f64], i: usize| [v[4 * i], v[4 * i + 1], v[4 * i + 2], v[4 * i + 3]];
    let (boxes, area, crowd) = (list("input.gt_boxes"), list("input.gt_area"), list("input.gt_crowd"));
    let (image, category) = (whole("input.gt_image"), whole("input.gt_category"));
    let objects: Vec<Object> = (0..area.len())
        .map(|i| Object {
            image: image[i],
            category: category[i],
            bbox: bbox(&boxes, i),
            area: area[i],
            crowd: crowd[i] != 0.0,
        })
        .collect();
    let (boxes, score) = (list("input.dt_boxes"), list("input.dt_score"));
    let (image, category) = (whole("input.dt_image"), whole("input.dt_category"));
    let detections: Vec<Detection> = (0..score.len())
        .map(|i| Detection { image: image[i], category: category[i], bbox: bbox(&boxes, i), score: score[i] })
        .collect();
    let m = coco(&objects, &detections, 12, 3).unwrap();
    let check = |name: &str, got: &[Option<f64>]| {
        let want = list(name);
        assert_eq!(got.len(), want.len(), "{name}");
        for (a, b) in got.iter().zip(&want) {
            assert!((a.unwrap_or(-1.0) - b).abs() < 1e-4, "{name}: {got:?} for {want:?}");
        }
    };
    check("expected.summary", &m.summary());
    check("expected.ap_per_category", &m.ap_of_category);
    check("expected.ap_per_iou", &m.ap_of_overlap);
}

proptest! {
    /// Objects found as they are give 1 whatever they are; moved boxes or turned scores never give more.
    #[test]
    fn bounds(seed in 0u64..5000, images in 1usize..4, categories in 1usize..4) {
        let mut r = selfsup_core::Key::new(seed).rng();
        let objects: Vec<Object> = (0..1 + r.below(12)).map(|_| {
            let ends = [(0.0, 300.0), (0.0, 300.0), (1.0, 200.0), (1.0, 200.0)];
            let bbox = ends.map(|(low, high)| f64::from(r.range_f32(low, high)));
            Object { category: r.below(categories), ..object(r.below(images), bbox) }
        }).collect();
        let found: Vec<Detection> = objects.iter().map(|o| Detection {
            image: o.image, category: o.category, bbox: o.bbox, score: f64::from(r.uniform()),
        }).collect();
        let m = coco(&objects, &found, images, categories).unwrap();
        prop_assert!((m.ap.unwrap() - 1.0).abs() < 1e-12 && (m.ar[2].unwrap() - 1.0).abs() < 1e-12);
        let moved: Vec<Detection> = found.iter().map(|d| {
            let shift = f64::from(r.range_f32(0.0, 60.0));
            Detection { bbox: [d.bbox[0] + shift, d.bbox[1], d.bbox[2], d.bbox[3]], ..*d }
        }).collect();
        let m = coco(&objects, &moved, images, categories).unwrap();
        for v in m.summary().into_iter().flatten() {
            prop_assert!((0.0..=1.0).contains(&v));
        }
        prop_assert!(m.ap50 >= m.ap75);
    }
}

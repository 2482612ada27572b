use super::*;
use crate::activation::testing::{check, normal, same_bits, values};
use candle_core::Device;
use proptest::prelude::*;

fn drop(share: f32, key: Key) -> Dropout {
    Dropout { share, key, first: 0 }
}

proptest! {
    #![proptest_config(crate::activation::testing::cases(24))]
    #[test]
    fn both_paths_draw_the_same_mask(n in 1usize..20, width in 1usize..200, p in 0f32..0.95, seed in 0u64..1000) {
        let (x, drop) = (normal(seed, &[n, width]), Dropout { share: p, key: Key::new(seed), first: seed });
        let [a, b] = [Path::Fused, Path::Composed].map(|path| values(&dropout(&x, &drop, path).unwrap()));
        prop_assert_eq!(a, b);
        check(&[x], |t, path| dropout(&t[0], &drop, path));
    }
}

/// The parts of a batch draw what the whole batch draws; the mask is that of the scalar generator.
#[test]
fn masks_belong_to_samples() {
    let whole = Dropout { share: 0.3, key: Key::new(4), first: 11 };
    for width in [1, 7, 1000, CHUNK + 70] {
        let x = Tensor::ones((5, width), candle_core::DType::F32, &Device::Cpu).unwrap();
        let part = |from: usize, len: usize| {
            let drop = Dropout { first: whole.first + from as u64, ..whole };
            let x = x.narrow(0, from, len).unwrap();
            [Path::Fused, Path::Composed]
                .map(|path| values(&dropout(&x, &drop, path).unwrap()))
                .into_iter()
                .chain([values(&drop_path(&x, &drop).unwrap())])
                .collect::<Vec<_>>()
        };
        let (all, first, last) = (part(0, 5), part(0, 2), part(2, 3));
        for ((all, first), last) in all.iter().zip(&first).zip(&last) {
            assert!(*all == [first.as_slice(), last].concat(), "{width}");
        }
        for i in (0..5 * width).step_by(13) {
            let draw = whole.key.fold(11 + (i / width) as u64).uniform_at((i % width) as u64);
            assert_eq!(all[0][i] == 0.0, draw < 0.3, "{width}: {i}");
        }
    }
}

#[test]
fn the_share_is_right() {
    let ones = Tensor::ones((100, 1003), candle_core::DType::F32, &Device::Cpu).unwrap();
    for p in [0.0f32, 0.1, 0.5, 0.9] {
        let key = Key::new(7).named("dropout");
        let y = values(&dropout(&ones, &drop(p, key), Path::Auto).unwrap());
        let dropped = y.iter().filter(|&&v| v == 0.0).count() as f64 / y.len() as f64;
        assert!((dropped - f64::from(p)).abs() < 0.01, "{p}: {dropped}");
        assert!(y.iter().all(|&v| v == 0.0 || (v - 1.0 / (1.0 - f64::from(p))).abs() < 1e-6));
        assert_ne!(p > 0.0, y == values(&dropout(&ones, &drop(p, key.fold(1)), Path::Auto).unwrap()));
    }
    for p in [-0.1, 1.0, f32::NAN] {
        let drop = drop(p, Key::new(1));
        assert!(dropout(&ones, &drop, Path::Auto).is_err() && drop_path(&ones, &drop).is_err());
    }
}

#[test]
fn drop_path_drops_whole_samples() {
    let y = drop_path(
        &Tensor::ones((4000, 3, 5), candle_core::DType::F32, &Device::Cpu).unwrap(),
        &drop(0.25, Key::new(5)),
    )
    .unwrap();
    let rows: Vec<Vec<f32>> = y.flatten_from(1).unwrap().to_vec2().unwrap();
    assert!(
        rows.iter().all(|r| r.iter().all(|&v| v == r[0]) && (r[0] == 0.0 || (r[0] - 4.0 / 3.0).abs() < 1e-6))
    );
    let dropped = rows.iter().filter(|r| r[0] == 0.0).count();
    assert!((900..1100).contains(&dropped), "{dropped}");
    // Double precision takes the composed path.
    check(&[normal(1, &[5, 3, 2])], |t, _| drop_path(&t[0], &drop(0.5, Key::new(2))));
    check(&[normal(1, &[7])], |t, _| drop_path(&t[0], &drop(0.5, Key::new(3))));
    let (scalar, drop) = (Tensor::new(1f32, &Device::Cpu).unwrap(), drop(0.5, Key::new(1)));
    assert!(drop_path(&scalar, &drop).is_err() && dropout(&scalar, &drop, Path::Auto).is_err());
}

#[test]
fn bits_do_not_depend_on_threads() {
    let x = normal(3, &[41, 1777]);
    same_bits(std::slice::from_ref(&x), |t, p| dropout(&t[0], &drop(0.3, Key::new(1)), p));
    same_bits(&[x], |t, _| drop_path(&t[0], &drop(0.3, Key::new(1))));
}

#[test]
fn lanes_are_the_scalar_generator() {
    for (key, first) in [(0, 0), (0x0123_4567_89ab_cdef, 7), (u64::MAX, (1 << 32) - 5)] {
        let words = philox_lanes(key, first);
        for j in 0..LANES {
            assert_eq!(words.map(|w| w[j]), crate::rng::philox(key, 1, first + j as u64));
        }
    }
}

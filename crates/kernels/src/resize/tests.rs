use super::*;
use crate::activation::testing::{channels_last, check, golden, normal, same_bits};
use proptest::prelude::*;

#[test]
fn golden_cases() {
    golden("upsample_bilinear2d", &["x"], |t, p| {
        channels_last(&t[0], |x| resize(x, &[13, 10], Resize::Linear, p))
    });
    golden("upsample_trilinear3d", &["x"], |t, p| {
        channels_last(&t[0], |x| resize(x, &[6, 8, 10], Resize::Linear, p))
    });
    golden("upsample_nearest2d", &["x"], |t, p| {
        channels_last(&t[0], |x| resize(x, &[8, 10], Resize::Nearest, p))
    });
    golden("upsample_nearest2d_used_twice", &["x"], |t, p| {
        channels_last(&t[0], |x| resize(x, &[6, 6], Resize::Nearest, p))?.broadcast_add(&t[0].sum_all()?)
    });
    golden("resize_bicubic_pos_embed", &["x"], |t, p| {
        channels_last(&t[0], |x| resize(x, &[6, 9], Resize::Bicubic, p))
    });
}

proptest! {
    #![proptest_config(crate::activation::testing::cases(24))]
    #[test]
    fn gradients(axes in prop::collection::vec((1usize..6, 1usize..9), 1..4), n in 1usize..3, c in 1usize..4, mode in 0usize..4, seed in 0u64..1000) {
        let shape: Vec<usize> = std::iter::once(n).chain(axes.iter().map(|a| a.0)).chain(std::iter::once(c)).collect();
        let size: Vec<usize> = axes.iter().map(|a| a.1).collect();
        let mode = [Resize::Nearest, Resize::Linear, Resize::Bicubic, Resize::BicubicAntialias][mode];
        check(&[normal(seed, &shape)], |t, p| resize(&t[0], &size, mode, p));
    }
}

#[test]
fn constants_stay_constant_and_bad_sizes_are_errors() {
    let x = normal(1, &[1, 3, 4, 2]).ones_like().unwrap();
    for mode in [Resize::Nearest, Resize::Linear, Resize::Bicubic, Resize::BicubicAntialias] {
        let y =
            resize(&x, &[7, 2], mode, Path::Auto).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(y.iter().all(|v| (v - 1.0).abs() < 1e-6), "{y:?}");
        assert!(
            resize(&x, &[7], mode, Path::Auto).is_err() && resize(&x, &[7, 0], mode, Path::Auto).is_err()
        );
        assert!(resize(&x.narrow(1, 0, 0).unwrap(), &[7, 2], mode, Path::Auto).is_err());
    }
}

#[test]
fn bits_do_not_depend_on_threads() {
    let x = normal(1, &[2, 33, 47, 17]);
    for mode in [Resize::Nearest, Resize::Linear, Resize::Bicubic, Resize::BicubicAntialias] {
        same_bits(std::slice::from_ref(&x), |t, p| resize(&t[0], &[66, 31], mode, p));
    }
}

use super::*;
use crate::activation::testing::{channels_last, check, differentiate, golden, normal, same_bits};
use candle_core::Device;
use proptest::prelude::*;

#[test]
fn golden_cases() {
    golden("max_pool2d_k3s2p1", &["x"], |t, p| {
        channels_last(&t[0], |x| max_pool(x, &[3; 2], &[2; 2], &[1; 2], p))
    });
    golden("max_pool3d_k2s2", &["x"], |t, p| {
        channels_last(&t[0], |x| max_pool(x, &[2; 3], &[2; 3], &[0; 3], p))
    });
    golden("avg_pool2d_k3s2p1", &["x"], |t, p| {
        channels_last(&t[0], |x| avg_pool(x, &[3; 2], &[2; 2], &[1; 2], p))
    });
}

proptest! {
    #![proptest_config(crate::activation::testing::cases(32))]
    #[test]
    fn gradients(axes in prop::collection::vec((1usize..8, 1usize..5, 1usize..4, 0usize..3), 1..4), n in 1usize..3, c in 1usize..5, seed in 0u64..1000) {
        let mut shape = vec![n];
        let (mut kernel, mut stride, mut padding) = (Vec::new(), Vec::new(), Vec::new());
        for (size, k, s, p) in axes {
            let p = p.min(k / 2);
            shape.push(size.max(k.saturating_sub(2 * p)));
            kernel.push(k);
            stride.push(s);
            padding.push(p);
        }
        shape.push(c);
        let x = normal(seed, &shape);
        check(std::slice::from_ref(&x), |t, p| max_pool(&t[0], &kernel, &stride, &padding, p));
        check(std::slice::from_ref(&x), |t, p| avg_pool(&t[0], &kernel, &stride, &padding, p));
        // Double precision takes the composed path.
        check(&[x], |t, _| global_avg_pool(&t[0]));
    }
}

#[test]
fn ties_go_to_the_first_and_nan_wins() {
    let x = Tensor::new(
        &[1f32, 1.0, 0.0, 1.0, f32::NEG_INFINITY, f32::NEG_INFINITY, 2.0, f32::NAN],
        &Device::Cpu,
    )
    .unwrap()
    .reshape((1, 8, 1))
    .unwrap();
    let g = Tensor::new(&[1f32, 2.0, 3.0, 4.0], &Device::Cpu).unwrap().reshape((1, 4, 1)).unwrap();
    for path in [Path::Fused, Path::Composed] {
        let out =
            differentiate(std::slice::from_ref(&x), &g, false, |t| max_pool(&t[0], &[2], &[2], &[0], path))
                .unwrap();
        let y = out[0].flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(y[..3] == [1.0, 1.0, f32::NEG_INFINITY] && y[3].is_nan(), "{y:?}");
        assert_eq!(
            out[1].flatten_all().unwrap().to_vec1::<f32>().unwrap(),
            [1.0, 0.0, 0.0, 2.0, 3.0, 0.0, 0.0, 4.0]
        );
    }
}

#[test]
fn bad_shapes_are_errors() {
    let x = normal(1, &[2, 5, 5, 3]);
    for (k, s, p) in [(0, 1, 0), (2, 0, 0), (2, 1, 2), (6, 1, 0), (3, 1, usize::MAX)] {
        assert!(
            max_pool(&x, &[k; 2], &[s; 2], &[p; 2], Path::Auto).is_err()
                && avg_pool(&x, &[k; 2], &[s; 2], &[p; 2], Path::Auto).is_err()
        );
    }
    assert!(
        max_pool(&x, &[2], &[2], &[0], Path::Auto).is_err()
            && max_pool(&x, &[2; 2], &[2], &[0; 2], Path::Auto).is_err()
    );
    assert!(max_pool(&x.narrow(0, 0, 0).unwrap(), &[2; 2], &[2; 2], &[0; 2], Path::Auto).is_err());
    assert!(global_avg_pool(&x.narrow(1, 0, 0).unwrap()).is_err());
}

#[test]
fn bits_do_not_depend_on_threads() {
    let x = normal(1, &[3, 40, 37, 19]);
    same_bits(std::slice::from_ref(&x), |t, p| max_pool(&t[0], &[3; 2], &[2; 2], &[1; 2], p));
    same_bits(std::slice::from_ref(&x), |t, p| avg_pool(&t[0], &[3; 2], &[2; 2], &[1; 2], p));
    same_bits(&[x], |t, _| global_avg_pool(&t[0]));
}

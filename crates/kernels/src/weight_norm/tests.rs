use super::*;
use crate::activation::testing::{check, golden, normal, same_bits, values};
use proptest::prelude::*;

#[test]
fn golden_case() {
    golden("weight_norm_dim2", &["v", "g"], |t, p| weight_norm(&t[0], &t[1], 2, p));
}

proptest! {
    #![proptest_config(crate::activation::testing::cases(24))]
    #[test]
    fn gradients(shape in prop::collection::vec(1usize..7, 1..5), dim in 0usize..4, seed in 0u64..1000, flat in any::<bool>()) {
        let dim = dim % shape.len();
        let mut kept = vec![1; shape.len()];
        kept[dim] = shape[dim];
        if flat {
            kept = vec![shape[dim]];
        }
        check(&[normal(seed, &shape), normal(seed + 1, &kept)], |t, p| weight_norm(&t[0], &t[1], dim, p));
    }
}

#[test]
fn bits_do_not_depend_on_threads() {
    for dim in 0..3 {
        let shape = [70, 31, 40];
        let mut kept = [1; 3];
        kept[dim] = shape[dim];
        same_bits(&[normal(1, &shape), normal(2, &kept)], |t, p| weight_norm(&t[0], &t[1], dim, p));
    }
}

#[test]
fn zero_weights_stay_finite() {
    let (v, g) = (normal(1, &[3, 4]).zeros_like().unwrap(), normal(2, &[3, 1]));
    for path in [Path::Fused, Path::Composed] {
        let out = crate::activation::testing::differentiate(
            &[v.clone(), g.clone()],
            &normal(3, &[3, 4]),
            false,
            |t| weight_norm(&t[0], &t[1], 0, path),
        );
        assert!(out.unwrap().iter().all(|t| values(t).iter().all(|&x| x == 0.0)));
    }
    assert!(weight_norm(&v, &g, 2, Path::Auto).is_err() && weight_norm(&v, &g, 1, Path::Auto).is_err());
}

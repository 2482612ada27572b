use super::*;
use crate::linear::testing::{check_gradients, random, same_bits};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, rng_seed: proptest::test_runner::RngSeed::Fixed(7), failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn both_paths_and_differences(a in 2usize..6, b in 2usize..5, c in 2usize..5, dim in 0usize..3, seed in 0u64..1000) {
        let shape = [a, b, c];
        let mut g = [1; 3];
        g[dim] = shape[dim];
        // Away from 0: the norm has no derivative there.
        let v = (random(&shape, seed) + 3.0).unwrap();
        check_gradients(&[v, random(&g, seed + 1)], |t, p| weight_norm(&t[0], &t[1], dim, p));
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    same_bits(&[random(&[64, 16, 32], 1), random(&[1, 1, 32], 2)], |t| weight_norm(&t[0], &t[1], 2, Path::Fused));
}

use super::*;
use crate::linear::testing::{agree, check_gradients, random, same_bits};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, rng_seed: proptest::test_runner::RngSeed::Fixed(7), failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn both_paths_and_differences(n in 1usize..3, h in 3usize..9, w in 3usize..8, c in 1usize..6, k in 1usize..4, s in 1usize..4, seed in 0u64..1000) {
        let x = random(&[n, h, w, c], seed);
        let pad = k / 2;
        agree(std::slice::from_ref(&x), |t, p| max_pool(&t[0], &[k, k], &[s, s], &[pad, pad], p));
        check_gradients(std::slice::from_ref(&x), |t, p| avg_pool(&t[0], &[k, k], &[s, s], &[pad, pad], p));
        check_gradients(&[x], |t, _| global_avg_pool(&t[0]));
        agree(&[random(&[n, 3, h, w, c], seed)], |t, p| max_pool(&t[0], &[2, 2, 2], &[1, 2, 2], &[0, 0, 0], p));
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    same_bits(&[random(&[3, 17, 19, 8], 1)], |t| max_pool(&t[0], &[3, 3], &[2, 2], &[1, 1], Path::Fused));
    same_bits(&[random(&[3, 17, 19, 8], 1)], |t| avg_pool(&t[0], &[3, 3], &[2, 2], &[1, 1], Path::Fused));
}

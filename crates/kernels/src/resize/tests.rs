use super::*;
use crate::linear::testing::{check_gradients, random, same_bits};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, rng_seed: proptest::test_runner::RngSeed::Fixed(7), failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn both_paths_and_differences(h in 1usize..7, w in 1usize..7, nh in 1usize..9, nw in 1usize..9, c in 1usize..4, seed in 0u64..1000) {
        for mode in [Resize::Nearest, Resize::Linear, Resize::Bicubic] {
            check_gradients(&[random(&[2, h, w, c], seed)], |t, p| resize(&t[0], &[nh, nw], mode, p));
        }
        check_gradients(&[random(&[1, 2, h, w, c], seed)], |t, p| resize(&t[0], &[3, nh, nw], Resize::Linear, p));
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    same_bits(&[random(&[2, 9, 11, 5], 1)], |t| resize(&t[0], &[20, 7], Resize::Bicubic, Path::Fused));
}

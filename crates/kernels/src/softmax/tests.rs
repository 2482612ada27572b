use super::*;
use crate::linear::testing::{check_gradients, random, same_bits};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, rng_seed: proptest::test_runner::RngSeed::Fixed(7), failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn both_paths_and_differences(n in 1usize..6, c in 1usize..40, seed in 0u64..1000) {
        let x = (random(&[n, c], seed) * 3.0).unwrap();
        check_gradients(std::slice::from_ref(&x), |t, p| softmax(&t[0], p));
        check_gradients(&[x], |t, p| log_softmax(&t[0], p));
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    same_bits(&[random(&[50, 333], 1)], |t| softmax(&t[0], Path::Fused));
    same_bits(&[random(&[50, 333], 1)], |t| log_softmax(&t[0], Path::Fused));
}

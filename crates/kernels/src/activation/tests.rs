use super::*;
use crate::linear::testing::{check_gradients, random, same_bits};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, rng_seed: proptest::test_runner::RngSeed::Fixed(7), failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn both_paths_and_differences(n in 1usize..6, c in 8usize..40, seed in 0u64..1000) {
        let x = random(&[n, c], seed);
        check_gradients(std::slice::from_ref(&x), |t, p| gelu_erf(&t[0], p));
        check_gradients(std::slice::from_ref(&x), |t, p| gelu_tanh(&t[0], p));
        check_gradients(std::slice::from_ref(&x), |t, p| silu(&t[0], p));
        // A view that is not contiguous.
        check_gradients(&[x], |t, p| gelu_erf(&t[0].t()?, p));
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    same_bits(&[random(&[70, 1000], 1)], |t| gelu_erf(&t[0], Path::Fused));
    same_bits(&[random(&[70, 1000], 1), random(&[1], 2)], |t| prelu(&t[0], &t[1], Path::Fused));
}

use super::*;
use crate::linear::testing::{check_gradients, random, same_bits};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, rng_seed: proptest::test_runner::RngSeed::Fixed(7), failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn both_paths_and_differences(n in 3usize..6, s in 3usize..7, c in 3usize..20, seed in 0u64..1000) {
        let (x, gb) = (random(&[n, s, c], seed), random(&[2, c], seed + 1));
        check_gradients(&[x.clone(), gb.clone()], |t, p| layer_norm(&t[0], Some(&t[1]), 0.1, p));
        check_gradients(std::slice::from_ref(&x), |t, p| layer_norm(&t[0], None, 0.1, p));
        check_gradients(&[x.clone(), random(&[c], seed)], |t, p| rms_norm(&t[0], &t[1], 0.1, p));
        check_gradients(&[x.clone(), gb.clone()], |t, p| Ok(batch_norm(&t[0], &t[1], 0.1, Act::None, p)?.0));
        check_gradients(std::slice::from_ref(&x), |t, p| l2_normalize(&t[0], 1e-12, p));
        check_gradients(&[random(&[n, s, 3, 2 * c], seed), random(&[2, 2 * c], seed)], |t, p| group_norm(&t[0], Some(&t[1]), 2, 0.1, p));
        // A view that is not contiguous.
        check_gradients(&[x, random(&[2, s], seed)], |t, p| layer_norm(&t[0].transpose(1, 2)?, Some(&t[1]).filter(|_| s > 1), 0.1, p));
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let (x, gb) = (random(&[9, 31, 48], 1), random(&[2, 48], 2));
    same_bits(&[x.clone(), gb.clone()], |t| layer_norm(&t[0], Some(&t[1]), 1e-5, Path::Fused));
    same_bits(&[x.clone(), gb.clone()], |t| Ok(batch_norm(&t[0], &t[1], 1e-5, Act::Relu, Path::Fused)?.0));
    same_bits(&[x.clone(), gb], |t| group_norm(&t[0], Some(&t[1]), 4, 1e-5, Path::Fused));
    same_bits(&[x.clone(), x], |t| add_relu(&t[0], &t[1], Path::Fused));
}

use super::*;
use crate::linear::testing::{agree, check_gradients, random, same_bits};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, rng_seed: proptest::test_runner::RngSeed::Fixed(7), failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn images(n in 1usize..3, h in 1usize..8, w in 1usize..9, g in 1usize..3, i in 1usize..4, o in 1usize..4, k in 1usize..4,
              stride in 1usize..3, dilation in 1usize..3, seed in 0u64..1000) {
        let spec = ConvSpec::new().stride(stride).padding(dilation * (k - 1)).dilation(dilation).groups(g);
        let (x, weight) = (random(&[n, h, w, g * i], seed), random(&[g * o, i, k, k], seed + 1));
        check_gradients(&[x.clone(), weight.clone(), random(&[g * o], seed + 2)], |t, p| conv(&t[0], &t[1], Some(&t[2]), &spec, p));
        // Views that are not contiguous, the kernel among them.
        check_gradients(&[x, weight], |t, p| conv(&t[0].transpose(1, 2)?, &t[1].transpose(2, 3)?, None, &spec, p));
    }

    #[test]
    fn sequences_and_volumes(n in 1usize..3, l in 1usize..12, c in 1usize..4, o in 1usize..5, k in 1usize..4, stride in 1usize..4, seed in 0u64..1000) {
        let spec = ConvSpec::new().stride(stride).padding(k / 2);
        if l + 2 * (k / 2) >= k {
            check_gradients(&[random(&[n, l, c], seed), random(&[o, c, k], seed + 1)], |t, p| conv(&t[0], &t[1], None, &spec, p));
        }
        check_gradients(&[random(&[n, 3, 4, 5, c], seed), random(&[o, c, k, k, k], seed + 1)], |t, p| conv(&t[0], &t[1], None, &spec, p));
    }
}

#[test]
fn block_with_batch_norm() {
    for (act, stride) in [(Act::None, 1), (Act::Relu, 1), (Act::Relu, 2)] {
        let spec = ConvSpec::new().stride(stride).padding(1);
        let inputs = [random(&[3, 6, 7, 4], 1), random(&[5, 4, 3, 3], 2), random(&[2, 5], 3)];
        agree(&inputs, |t, p| Ok(conv_bn_act(&t[0], &t[1], &t[2], &spec, 1e-3, act, p)?.0));
        let one = conv_bn_act(&inputs[0], &inputs[1], &inputs[2], &spec, 1e-3, act, Path::Fused).unwrap();
        let other = conv_bn_act(&inputs[0], &inputs[1], &inputs[2], &spec, 1e-3, act, Path::Composed).unwrap();
        for (a, b) in [(one.1, other.1), (one.2, other.2)] {
            assert!(crate::linear::testing::error(&a, &b) < 1e-5);
        }
        same_bits(&inputs, |t| Ok(conv_bn_act(&t[0], &t[1], &t[2], &spec, 1e-3, act, Path::Fused)?.0));
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    for stride in [1, 2] {
        let spec = ConvSpec::new().stride(stride).padding(1);
        same_bits(&[random(&[9, 15, 17, 24], 1), random(&[40, 24, 3, 3], 2)], |t| conv(&t[0], &t[1], None, &spec, Path::Fused));
    }
}

#[test]
fn shapes_that_do_not_fit() {
    let spec = ConvSpec::new();
    for (x, w) in
        [(&[2, 5, 5, 3][..], &[4, 2, 3, 3][..]), (&[2, 5, 3], &[4, 3, 3, 3]), (&[2, 2, 2, 3], &[4, 3, 3, 3]), (&[2, 5, 5, 3], &[4])]
    {
        for path in [Path::Fused, Path::Composed] {
            assert!(conv(&random(x, 1), &random(w, 2), None, &spec, path).is_err());
        }
    }
}

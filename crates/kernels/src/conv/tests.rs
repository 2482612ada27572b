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
        let other =
            conv_bn_act(&inputs[0], &inputs[1], &inputs[2], &spec, 1e-3, act, Path::Composed).unwrap();
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
        same_bits(&[random(&[9, 15, 17, 24], 1), random(&[40, 24, 3, 3], 2)], |t| {
            conv(&t[0], &t[1], None, &spec, Path::Fused)
        });
    }
}

#[test]
fn shapes_that_do_not_fit() {
    let spec = ConvSpec::new();
    for (x, w) in [
        (&[2, 5, 5, 3][..], &[4, 2, 3, 3][..]),
        (&[2, 5, 3], &[4, 3, 3, 3]),
        (&[2, 2, 2, 3], &[4, 3, 3, 3]),
        (&[2, 5, 5, 3], &[4]),
    ] {
        for path in [Path::Fused, Path::Composed] {
            assert!(conv(&random(x, 1), &random(w, 2), None, &spec, path).is_err());
        }
    }
}

#[test]
fn block_with_instance_norm() {
    for (act, stride, dims) in [
        (Act::None, 1, [2, 3, 4, 5, 9]),
        (Act::Relu, 1, [3, 5, 3, 4, 8]),
        (Act::Relu, 2, [2, 4, 5, 6, 3]),
        (Act::GeluErf, 1, [1, 2, 2, 3, 2]),
    ] {
        let spec = ConvSpec::new().stride(stride).padding(1);
        let inputs = [random(&dims, 1), random(&[5, dims[4], 3, 3, 3], 2), random(&[2, 5], 3)];
        agree(&inputs, |t, p| conv_instance_act(&t[0], &t[1], Some(&t[2]), &spec, 1e-2, act, p));
        agree(&inputs[..2], |t, p| conv_instance_act(&t[0], &t[1], None, &spec, 1e-2, act, p));
        same_bits(&inputs, |t| conv_instance_act(&t[0], &t[1], Some(&t[2]), &spec, 1e-2, act, Path::Fused));
    }
    assert!(
        conv_instance_act(
            &random(&[1, 3, 3, 3, 2], 1),
            &random(&[4, 2, 3, 3, 3], 2),
            Some(&random(&[2, 3], 3)),
            &ConvSpec::new(),
            1e-5,
            Act::None,
            Path::Auto
        )
        .is_err()
    );
}

/// Volumes of which the size is kept, without gathering: channels enough for that path, sizes and kernels
/// that are not alike.
#[test]
fn volumes_that_keep_their_size() {
    for (dims, outputs, kernel) in [
        ([2, 3, 4, 5, 8], 5, [3, 3, 3]),
        ([1, 6, 2, 17, 16], 16, [3, 1, 3]),
        ([1, 2, 3, 1, 30], 70, [3, 3, 1]),
        ([2, 1, 4, 9, 12], 20, [3, 3, 5]),
        // Several bands of several rows.
        ([1, 8, 10, 3, 9], 6, [5, 3, 3]),
    ] {
        let mut spec = ConvSpec::new();
        spec.padding = kernel.map(|k| k / 2);
        let inputs = [random(&dims, 1), random(&[outputs, dims[4], kernel[0], kernel[1], kernel[2]], 2)];
        agree(&inputs, |t, p| conv(&t[0], &t[1], None, &spec, p));
        same_bits(&inputs, |t| conv(&t[0], &t[1], None, &spec, Path::Fused));
    }
}

/// A kernel for each channel: more channels than are summed at a time, kernels that reach over the border,
/// strides, dilation and all ranks.
#[test]
fn depthwise() {
    for (dims, kernel, stride, padding, dilation) in [
        (vec![2, 9, 8, 37], vec![7, 7], 1, 3, 1),
        (vec![2, 9, 7, 6], vec![3, 3], 2, 1, 1),
        (vec![1, 8, 9, 3], vec![3, 2], 1, 2, 2),
        (vec![1, 7, 7, 4], vec![1, 1], 3, 0, 1),
        (vec![3, 13, 33], vec![5], 1, 4, 1),
        (vec![1, 4, 5, 3, 5], vec![3, 3, 3], 1, 1, 1),
    ] {
        let c = dims[dims.len() - 1];
        let spec = ConvSpec::new().stride(stride).padding(padding).dilation(dilation).groups(c);
        let inputs = [random(&dims, 1), random(&[&[c, 1], &kernel[..]].concat(), 2), random(&[c], 3)];
        agree(&inputs, |t, p| conv(&t[0], &t[1], Some(&t[2]), &spec, p));
        if inputs[0].elem_count() < 500 {
            check_gradients(&inputs, |t, p| conv(&t[0], &t[1], Some(&t[2]), &spec, p));
        }
        same_bits(&inputs[..2], |t| conv(&t[0], &t[1], None, &spec, Path::Fused));
    }
}

/// Strided volumes: input gradients in slabs.
#[test]
fn strided_volumes() {
    for (depth, stride, kernel) in [(19, 2, 3), (9, 3, 2), (24, 2, 2), (12, 1, 4)] {
        let spec = ConvSpec::new().stride(stride).padding(kernel / 2);
        let inputs = [random(&[2, depth, 4, 5, 3], 1), random(&[4, 3, kernel, kernel, kernel], 2)];
        agree(&inputs, |t, p| conv(&t[0], &t[1], None, &spec, p));
        same_bits(&inputs, |t| conv(&t[0], &t[1], None, &spec, Path::Fused));
    }
}

#[test]
fn bias_and_activation() {
    for act in [Act::None, Act::Relu, Act::GeluErf, Act::GeluTanh] {
        for (groups, stride, padding) in [(1, 3, 0), (2, 1, 4), (4, 1, 2)] {
            let spec = ConvSpec::new().stride(stride).padding(padding).groups(groups);
            let inputs = [random(&[2, 23, 8], 1), random(&[12, 8 / groups, 8], 2), random(&[12], 3)];
            agree(&inputs, |t, p| conv_act(&t[0], &t[1], Some(&t[2]), &spec, act, p));
            agree(&inputs[..2], |t, p| conv_act(&t[0], &t[1], None, &spec, act, p));
            same_bits(&inputs, |t| conv_act(&t[0], &t[1], Some(&t[2]), &spec, act, Path::Fused));
        }
    }
    assert!(
        conv_act(
            &random(&[2, 5, 3], 1),
            &random(&[4, 3, 2], 2),
            Some(&random(&[3], 3)),
            &ConvSpec::new(),
            Act::None,
            Path::Auto
        )
        .is_err()
    );
}

use super::*;
use crate::linear::testing::{agree, check_gradients, random, same_bits};
use proptest::prelude::*;

const ACTS: [Act; 4] = [Act::None, Act::Relu, Act::GeluErf, Act::GeluTanh];

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, rng_seed: proptest::test_runner::RngSeed::Fixed(7), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_paths_agree(m in 1usize..20, k in 1usize..40, o in 1usize..70, act in 0usize..4, bias: bool, seed: u64) {
        let all = [random(&[2, m, k], seed), random(&[o, k], seed ^ 1), random(&[o], seed ^ 2)];
        agree(&all, |t, path| linear_act(&t[0], &t[1], bias.then_some(&t[2]), ACTS[act], path));
        // Not contiguous: the transposed input and weight.
        let all = [random(&[k, m], seed), random(&[k, o], seed ^ 1), random(&[o], seed ^ 2)];
        agree(&all, |t, path| linear_act(&t[0].t()?, &t[1].t()?, bias.then_some(&t[2]), ACTS[act], path));
    }
}

#[test]
fn gradients() {
    for act in ACTS {
        check_gradients(&[random(&[3, 5], 1), random(&[4, 5], 2), random(&[4], 3)], |t, path| {
            linear_act(&t[0], &t[1], Some(&t[2]), act, path)
        });
    }
}

#[test]
fn large_shapes_agree_and_threads_do_not_matter() {
    let all = [random(&[300, 130], 1), random(&[200, 130], 2), random(&[200], 3)];
    agree(&all, |t, path| linear_act(&t[0], &t[1], Some(&t[2]), Act::GeluErf, path));
    let all = [random(&[1100, 600], 1), random(&[100, 600], 2), random(&[100], 3)];
    agree(&all, |t, path| linear_act(&t[0], &t[1], Some(&t[2]), Act::Relu, path));
    same_bits(&all, |t| linear_act(&t[0], &t[1], Some(&t[2]), Act::GeluTanh, Path::Auto));
}

#[test]
fn untracked_arguments_get_no_gradient() {
    let (x, w) = (random(&[3, 5], 1), candle_core::Var::from_tensor(&random(&[4, 5], 2)).unwrap());
    let grads = linear(&x, &w, None, Path::Auto).unwrap().sum_all().unwrap().backward().unwrap();
    assert!(grads.get(&x).is_none() && grads.get(&w).is_some());
}

#[test]
fn wrong_shapes_are_errors() {
    let (x, w, b) = (random(&[3, 5], 1), random(&[4, 5], 2), random(&[4], 2));
    assert!(linear(&x, &w.t().unwrap(), None, Path::Auto).is_err());
    assert!(linear(&x, &w, Some(&random(&[5], 1)), Path::Auto).is_err());
    assert!(linear(&x, &b, None, Path::Auto).is_err());
    let empty = linear(&random(&[0, 5], 1), &w, Some(&b), Path::Auto).unwrap();
    assert_eq!(empty.dims(), [0, 4]);
    assert!(linear(&x.to_dtype(candle_core::DType::F64).unwrap(), &w, None, Path::Fused).is_err());
}

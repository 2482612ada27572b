use super::*;
use crate::activation::testing::{
    channels_last, check, differentiate, error, golden, normal, same_bits, values,
};
use candle_core::{DType, Device};
use proptest::prelude::*;

fn pack(w: &Tensor, b: &Tensor) -> Result<Tensor> {
    Tensor::stack(&[w, b], 0)
}

#[test]
fn golden_cases() {
    for d in 1..=3 {
        golden(&format!("batch_norm{d}d_train"), &["x", "w", "b"], |t, p| {
            channels_last(&t[0], |x| Ok(batch_norm(x, &pack(&t[1], &t[2])?, 1e-5, Act::None, p)?.0))
        });
        golden(&format!("instance_norm{d}d"), &["x", "w", "b"], |t, p| {
            channels_last(&t[0], |x| instance_norm(x, Some(&pack(&t[1], &t[2])?), 1e-5, p))
        });
    }
    golden("group_norm", &["x", "w", "b"], |t, p| {
        channels_last(&t[0], |x| group_norm(x, Some(&pack(&t[1], &t[2])?), 2, 1e-5, p))
    });
    golden("layer_norm", &["x", "w", "b"], |t, p| layer_norm(&t[0], Some(&pack(&t[1], &t[2])?), 1e-6, p));
    golden("layer_norm_non_affine", &["x"], |t, p| layer_norm(&t[0], None, 1e-5, p));
    golden("rms_norm", &["x", "w"], |t, p| rms_norm(&t[0], &t[1], 1e-6, p));
}

const ACTS: [Act; 4] = [Act::None, Act::Relu, Act::GeluErf, Act::GeluTanh];

proptest! {
    #![proptest_config(crate::activation::testing::cases(24))]

    #[test]
    fn rows(mut shape in prop::collection::vec(1usize..5, 0..3), c in 1usize..40, seed in 0u64..1000) {
        shape.push(c);
        let x = normal(seed, &shape);
        check(&[x.clone(), normal(seed + 1, &[2, c])], |t, p| layer_norm(&t[0], Some(&t[1]), 1e-2, p));
        check(std::slice::from_ref(&x), |t, p| layer_norm(&t[0], None, 1e-2, p));
        check(&[x.clone(), normal(seed + 1, &[c])], |t, p| rms_norm(&t[0], &t[1], 1e-2, p));
        check(std::slice::from_ref(&x), |t, p| l2_normalize(&t[0], 0.1, p));
        check(&[x, normal(seed + 2, &shape)], |t, p| add_relu(&t[0], &t[1], p));
    }

    #[test]
    fn over_positions(space in prop::collection::vec(1usize..6, 0..4), n in 1usize..4, groups in 1usize..4, width in 1usize..4, act in 0usize..4, seed in 0u64..1000) {
        let c = groups * width;
        let shape: Vec<usize> = std::iter::once(n).chain(space).chain(std::iter::once(c)).collect();
        let (x, gb, act) = (normal(seed, &shape), normal(seed + 1, &[2, c]), ACTS[act]);
        check(&[x.clone(), gb.clone()], |t, p| Ok(batch_norm(&t[0], &t[1], 1e-2, act, p)?.0));
        check(&[x.clone(), gb.clone()], |t, p| group_norm(&t[0], Some(&t[1]), groups, 1e-2, p));
        check(&[x.clone(), gb.clone()], |t, p| instance_norm(&t[0], Some(&t[1]), 1e-2, p));
        check(std::slice::from_ref(&x), |t, p| group_norm(&t[0], None, groups, 1e-2, p));
        // Double precision takes the composed path.
        let (mean, var) = (normal(seed + 2, &[c]), normal(seed + 3, &[c]).sqr().unwrap());
        check(&[x, gb], |t, _| {
            let (mean, var) = (mean.to_dtype(t[0].dtype())?, var.to_dtype(t[0].dtype())?);
            batch_norm_eval(&t[0], &t[1], &mean, &var, 1e-2, act)
        });
    }
}

#[test]
fn statistics_are_precise_beside_a_large_mean() {
    // 5,000 positions in blocks, mean 1,000, deviation 1.
    let x = (normal(1, &[5000, 7]) + 1000.0).unwrap();
    let gb = contiguous_or_plain(None, 7).unwrap();
    let wide = x.to_dtype(DType::F64).unwrap();
    let truth =
        batch_norm(&wide, &gb.to_dtype(DType::F64).unwrap(), 1e-5, Act::None, Path::Composed).unwrap();
    let (y, mean, var) = batch_norm(&x, &gb, 1e-5, Act::None, Path::Fused).unwrap();
    assert!(
        error(&mean, &truth.1, 0.0) < 1e-6
            && error(&var, &truth.2, 0.0) < 1e-4
            && error(&y, &truth.0, 0.0) < 1e-4
    );
    assert!(!mean.track_op() && !var.track_op() && mean.dims() == [7] && var.dims() == [7]);
}

#[test]
fn short_rows_and_empty_inputs() {
    let zeros = Tensor::zeros((2, 5), DType::F32, &Device::Cpu).unwrap();
    for path in [Path::Fused, Path::Composed] {
        let out = differentiate(std::slice::from_ref(&zeros), &zeros.ones_like().unwrap(), false, |t| {
            l2_normalize(&t[0], 0.5, path)
        })
        .unwrap();
        assert!(values(&out[0]).iter().all(|&v| v == 0.0) && values(&out[1]).iter().all(|&v| v == 2.0));
        let none = zeros.narrow(0, 0, 0).unwrap();
        assert_eq!(layer_norm(&none, None, 1e-5, path).unwrap().dims(), [0, 5]);
        assert!(batch_norm(&none, &contiguous_or_plain(None, 5).unwrap(), 1e-5, Act::None, path).is_err());
        assert!(instance_norm(&none, None, 1e-5, path).is_err());
        assert!(
            group_norm(&zeros, None, 2, 1e-5, path).is_err()
                && group_norm(&zeros, None, 0, 1e-5, path).is_err()
        );
        assert!(
            layer_norm(&zeros, Some(&zeros), 1e-5, path).is_ok()
                && layer_norm(&zeros, Some(&zeros.t().unwrap()), 1e-5, path).is_err()
        );
        assert!(rms_norm(&zeros, &zeros, 1e-5, path).is_err() && add_relu(&zeros, &none, path).is_err());
    }
}

#[test]
fn bits_do_not_depend_on_threads() {
    let (x, gb) = (normal(1, &[3, 41, 43, 24]), normal(2, &[2, 24]));
    same_bits(&[x.clone(), gb.clone()], |t, p| Ok(batch_norm(&t[0], &t[1], 1e-5, Act::Relu, p)?.0));
    same_bits(&[x.clone(), gb.clone()], |t, p| group_norm(&t[0], Some(&t[1]), 4, 1e-5, p));
    same_bits(&[x.clone(), gb.clone()], |t, p| layer_norm(&t[0], Some(&t[1]), 1e-5, p));
    same_bits(&[x.clone(), gb.get(0).unwrap()], |t, p| rms_norm(&t[0], &t[1], 1e-5, p));
    same_bits(std::slice::from_ref(&x), |t, p| l2_normalize(&t[0], 1e-5, p));
    same_bits(&[x.clone(), normal(3, x.dims())], |t, p| add_relu(&t[0], &t[1], p));
}

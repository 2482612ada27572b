use super::*;
use crate::activation::testing::{check, golden, normal, same_bits};
use candle_core::Device;
use proptest::prelude::*;

#[test]
fn golden_cases() {
    golden("softmax", &["x"], |t, p| softmax(&t[0], p));
    golden("log_softmax", &["x"], |t, p| log_softmax(&t[0], p));
}

proptest! {
    #![proptest_config(crate::activation::testing::cases(16))]
    #[test]
    fn gradients(mut shape in prop::collection::vec(1usize..5, 0..3), width in 1usize..50, seed in 0u64..1000) {
        shape.push(width);
        let x = (normal(seed, &shape) * 3.0).unwrap();
        check(std::slice::from_ref(&x), |t, p| softmax(&t[0], p));
        check(&[x], |t, p| log_softmax(&t[0], p));
    }
}

#[test]
fn bits_do_not_depend_on_threads() {
    let x = normal(3, &[301, 333]);
    same_bits(std::slice::from_ref(&x), |t, p| softmax(&t[0], p));
    same_bits(&[x], |t, p| log_softmax(&t[0], p));
}

#[test]
fn extremes() {
    let x = Tensor::new(&[[1e30f32, -1e30, 1e30], [f32::NEG_INFINITY, 0.0, 0.0]], &Device::Cpu).unwrap();
    for path in [Path::Fused, Path::Composed] {
        assert_eq!(softmax(&x, path).unwrap().to_vec2::<f32>().unwrap(), [[0.5, 0.0, 0.5], [0.0, 0.5, 0.5]]);
        let y = log_softmax(&x, path).unwrap().to_vec2::<f32>().unwrap();
        assert!(y[1][0] == f32::NEG_INFINITY && (y[1][1] + std::f32::consts::LN_2).abs() < 1e-6, "{y:?}");
        assert!(softmax(&Tensor::new(1f32, &Device::Cpu).unwrap(), path).is_err());
    }
    let empty = Tensor::zeros((0, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
    assert_eq!(softmax(&empty, Path::Auto).unwrap().dims(), [0, 3]);
}

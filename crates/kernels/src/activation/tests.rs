use super::math::{erf, exp, exp_fused, largest, sigmoid};
use super::testing::{check, golden, normal, same_bits};
use super::*;
use candle_core::{DType, Device};
use proptest::prelude::*;

type Function = fn(&Tensor, Path) -> Result<Tensor>;
const ALL: [Function; 4] = [relu, gelu_erf, gelu_tanh, silu];

#[test]
fn golden_cases() {
    golden("relu_at_zero", &["x"], |t, p| relu(&t[0], p));
    golden("gelu_erf", &["x"], |t, p| gelu_erf(&t[0], p));
    golden("gelu_tanh", &["x"], |t, p| gelu_tanh(&t[0], p));
    golden("prelu", &["x", "w"], |t, p| prelu(&t[0], &t[1], p));
}

proptest! {
    #![proptest_config(crate::activation::testing::cases(16))]
    #[test]
    fn gradients(shape in prop::collection::vec(1usize..8, 1..4), seed in 0u64..1000) {
        let x = normal(seed, &shape);
        for f in ALL {
            check(std::slice::from_ref(&x), |t, p| f(&t[0], p));
        }
        check(&[x, normal(seed + 1, &[1])], |t, p| prelu(&t[0], &t[1], p));
    }
}

#[test]
fn bits_do_not_depend_on_threads() {
    let x = normal(3, &[7, 9001]);
    for f in ALL {
        same_bits(std::slice::from_ref(&x), |t, p| f(&t[0], p));
    }
    same_bits(&[x, normal(4, &[1])], |t, p| prelu(&t[0], &t[1], p));
}

#[test]
fn approximations() {
    let mut worst = [0f64; 3];
    for i in -200_000..=200_000 {
        let x = i as f32 * 4e-4; // -80 .. 80
        let truth = f64::from(x).exp();
        for made in [exp(x), exp_fused(x)] {
            worst[0] = worst[0].max((f64::from(made) / truth - 1.0).abs());
        }
        let truth = 1.0 / (1.0 + (-f64::from(x)).exp());
        worst[1] = worst[1].max((f64::from(sigmoid(x)) / truth - 1.0).abs());
    }
    // The error function by its series, which converges well below 3, and by its bounds beyond.
    for i in 1..=3000 {
        let x = i as f32 * 1e-3;
        let z = f64::from(x);
        let (mut term, mut sum) = (z, z);
        for k in 1..80 {
            term *= -z * z / f64::from(k);
            sum += term / f64::from(2 * k + 1);
        }
        let truth = sum * 2.0 / std::f64::consts::PI.sqrt();
        worst[2] = worst[2].max((f64::from(erf(x)) / truth - 1.0).abs());
        assert_eq!(erf(-x), -erf(x));
    }
    assert!(worst[0] < 3e-7 && worst[1] < 4e-7 && worst[2] < 6e-7, "{worst:?}");
    assert!((erf(3.5) - 1.0).abs() < 1e-6 && (erf(50.0) - 1.0).abs() < 1e-6 && erf(0.0) == 0.0);
    assert_eq!(
        [exp(f32::NEG_INFINITY), exp(-1e30), exp(0.0), exp(f32::INFINITY), exp(89.0)],
        [0.0, 0.0, 1.0, f32::INFINITY, f32::INFINITY]
    );
    assert!((exp(88.7) / 88.7f32.exp() - 1.0).abs() < 1e-6);
    assert!(exp(f32::NAN).is_nan() && erf(f32::NAN).is_nan() && sigmoid(f32::NAN).is_nan());
    assert_eq!([f32::NEG_INFINITY, -1e30, 0.0].map(exp_fused), [0.0, 0.0, 1.0]);
    assert!(exp_fused(f32::NAN).is_nan());
    assert_eq!([sigmoid(-1e9), sigmoid(1e9)], [0.0, 1.0]);
    assert!(largest(&[1.0, f32::NAN, 3.0]).is_nan());
    assert_eq!([largest(&[]), largest(&[-3.0, -2.0])], [f32::NEG_INFINITY, -2.0]);
}

#[test]
fn extremes() {
    let x = Tensor::new(&[-0.0f32, 0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e-30], &Device::Cpu)
        .unwrap();
    for path in [Path::Fused, Path::Composed] {
        let y: Vec<f32> = relu(&x, path).unwrap().to_vec1().unwrap();
        assert!(y[..4] == [0.0, 0.0, f32::INFINITY, 0.0] && y[4].is_nan() && y[5] == 1e-30, "{y:?}");
    }
    let empty = Tensor::zeros((0, 3), DType::F32, &Device::Cpu).unwrap();
    assert_eq!(relu(&empty, Path::Auto).unwrap().dims(), [0, 3]);
    assert!(prelu(&x, &x, Path::Auto).is_err());
    assert!(relu(&x.to_dtype(DType::F64).unwrap(), Path::Fused).is_err());
    assert_eq!(Act::None.apply(&x, Path::Auto).unwrap().dims(), [6]);
}

#[test]
fn helpers_for_other_kernels_agree() {
    for act in [Act::None, Act::Relu, Act::GeluErf, Act::GeluTanh] {
        check(&[normal(5, &[6, 5])], |t, p| act.apply(&t[0], p));
        let z: Vec<f32> = normal(6, &[37]).to_vec1().unwrap();
        let (mut y, mut g) = (z.clone(), vec![1.0; 37]);
        act_forward(act, &mut y);
        act_backward(act, &z, &mut g);
        let t = Tensor::new(z, &Device::Cpu).unwrap();
        let out =
            super::testing::differentiate(std::slice::from_ref(&t), &t.ones_like().unwrap(), false, |x| {
                act.apply(&x[0], Path::Fused)
            })
            .unwrap();
        assert_eq!(out[0].to_vec1::<f32>().unwrap(), y);
        assert_eq!(out[1].to_vec1::<f32>().unwrap(), g);
    }
}

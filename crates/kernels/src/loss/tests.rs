use super::*;
use crate::Path;
use crate::linear::testing::{agree, check_gradients, error, golden, random, same_bits};
use candle_core::{DType, Device, Tensor, Var};
use proptest::prelude::*;

fn targets(classes: &[i64]) -> Tensor {
    Tensor::from_slice(classes, classes.len(), &Device::Cpu).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, rng_seed: proptest::test_runner::RngSeed::Fixed(7), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn cross_entropy_paths_agree(classes in prop::collection::vec(0i64..40, 1..20), c in 40usize..60, smoothing in 0.0..1.0, seed: u64) {
        let mut some = classes.clone();
        if some.len() > 1 {
            some[1] = -100;
        }
        let (t, m) = (targets(&some), some.len());
        for smoothing in [0.0, smoothing] {
            agree(&[random(&[m, c], seed)], |x, path| cross_entropy(&x[0], &t, smoothing, path));
            agree(&[random(&[m, c], seed)], |x, path| cross_entropy_sum(&x[0], &t.clone(), smoothing, path));
            agree(&[random(&[c, m], seed)], |x, path| cross_entropy(&x[0].t()?, &t, smoothing, path));
        }
    }
}

#[test]
fn cross_entropy_gradients_and_threads() {
    let t = targets(&[1, -100, 0, 4]);
    for smoothing in [0.0, 0.1] {
        check_gradients(&[random(&[4, 5], 1)], |x, path| cross_entropy(&x[0], &t, smoothing, path));
    }
    let t = targets(&(0..777).map(|i| i % 50).collect::<Vec<_>>());
    same_bits(&[random(&[777, 50], 1)], |x| cross_entropy(&x[0], &t, 0.1, Path::Auto));
}

#[test]
fn cross_entropy_of_known_values() {
    let uniform = Tensor::zeros((3, 8), DType::F32, &Device::Cpu).unwrap();
    let y = cross_entropy(&uniform, &targets(&[1, -100, 7]).to_dtype(DType::I64).unwrap(), 0.0, Path::Auto)
        .unwrap();
    assert!((y.to_scalar::<f32>().unwrap() - 8f32.ln()).abs() < 1e-6);
    let y = cross_entropy_sum(&uniform, &targets(&[1, 2, 7]).to_dtype(DType::U32).unwrap(), 0.3, Path::Auto)
        .unwrap();
    assert!((y.to_scalar::<f32>().unwrap() - 3.0 * 8f32.ln()).abs() < 1e-5);
    assert_eq!(
        cross_entropy_sum(&uniform, &targets(&[-100; 3]), 0.0, Path::Auto)
            .unwrap()
            .to_scalar::<f32>()
            .unwrap(),
        0.0
    );
    for path in [Path::Auto, Path::Composed] {
        assert!(cross_entropy(&uniform, &targets(&[-100; 3]), 0.0, path).is_err(), "no row counts");
        assert!(cross_entropy(&uniform, &targets(&[0, 8, 1]), 0.0, path).is_err(), "no such class");
        assert!(cross_entropy(&uniform, &targets(&[0, 1]), 0.0, path).is_err(), "too few targets");
        assert!(cross_entropy(&uniform, &targets(&[0, 1, 2]), 1.5, path).is_err(), "smoothing");
    }
    // Logits far from 0 do not overflow.
    let x = Tensor::new(&[[1e4f32, -1e4, 0.0]], &Device::Cpu).unwrap();
    assert_eq!(cross_entropy(&x, &targets(&[1]), 0.0, Path::Auto).unwrap().to_scalar::<f32>().unwrap(), 2e4);
}

#[test]
fn cross_entropy_golden() {
    let case = golden("ops/cross_entropy_ignore");
    for path in [Path::Fused, Path::Composed] {
        let x = Var::from_tensor(&case["input.x"]).unwrap();
        let y = cross_entropy(&x, &case["input.y"].to_dtype(DType::I64).unwrap(), 0.1, path).unwrap();
        assert!(error(&y.reshape(1).unwrap(), &case["expected.y"]) < 1e-4);
        let grads = (y * case["input.grad_y"].reshape(()).unwrap()).unwrap().backward().unwrap();
        assert!(error(grads.get(&x).unwrap(), &case["grad.x"]) < 1e-4);
    }
}

/// The sum over all label sequences of `frames` frames that collapse to `target`.
fn brute_force(x: &Tensor, target: &[usize], blank: usize) -> f64 {
    let rows = x.to_vec2::<f32>().unwrap();
    let c = rows[0].len();
    let p: Vec<Vec<f64>> = rows
        .iter()
        .map(|r| {
            let e: Vec<f64> = r.iter().map(|v| f64::from(*v).exp()).collect();
            let sum: f64 = e.iter().sum();
            e.into_iter().map(|v| v / sum).collect()
        })
        .collect();
    let mut total = 0.0;
    for code in 0..c.pow(rows.len() as u32) {
        let path: Vec<usize> = (0..rows.len()).map(|t| code / c.pow(t as u32) % c).collect();
        let mut merged = path.clone();
        merged.dedup();
        merged.retain(|&l| l != blank);
        if merged == target {
            total += path.iter().enumerate().map(|(t, &l)| p[t][l]).product::<f64>();
        }
    }
    -total.ln()
}

#[test]
fn ctc_sums_over_all_alignments() {
    for (i, (frames, target, blank)) in [
        (4, vec![1, 2], 0),
        (5, vec![1, 1], 0),
        (5, vec![], 0),
        (3, vec![0, 2, 0], 1),
        (1, vec![2], 0),
        (5, vec![0, 0], 2),
    ]
    .into_iter()
    .enumerate()
    {
        let x = random(&[1, frames, 3], i as u64);
        let mut padded: Vec<i64> = target.iter().map(|&l| l as i64).collect();
        padded.resize(4, -1);
        let t = Tensor::from_vec(padded, (1, 4), &Device::Cpu).unwrap();
        let y = ctc(&x, &t, &[frames], &[target.len()], blank).unwrap().to_vec1::<f32>().unwrap()[0];
        let want = brute_force(&x.squeeze(0).unwrap(), &target, blank);
        assert!((f64::from(y) - want).abs() < 1e-5 * want.abs().max(1.0), "{target:?}: {y} {want}");
    }
}

#[test]
fn ctc_gradient_by_differences() {
    let t = Tensor::new(&[[1i64, 1, 2], [2, 0, 0]], &Device::Cpu).unwrap();
    let x = random(&[2, 6, 4], 5);
    let f = |x: &Tensor| ctc(x, &t, &[6, 4], &[3, 1], 0)?.sum_all();
    let var = Var::from_tensor(&x).unwrap();
    let grads = f(&var).unwrap().backward().unwrap();
    let g = grads.get(&var).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let values = x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    for j in 0..values.len() {
        let at = |h: f32| {
            let mut v = values.clone();
            v[j] += h;
            f64::from(
                f(&Tensor::from_vec(v, (2, 6, 4), &Device::Cpu).unwrap())
                    .unwrap()
                    .to_scalar::<f32>()
                    .unwrap(),
            )
        };
        let d = (at(1e-2) - at(-1e-2)) / 2e-2;
        assert!((d - f64::from(g[j])).abs() < 1e-3, "{j}: {d} {}", g[j]);
    }
    same_bits(&[random(&[5, 9, 4], 1)], |x| {
        ctc(&x[0], &Tensor::ones((5, 3), DType::I64, &Device::Cpu)?, &[9; 5], &[3, 2, 1, 0, 3], 0)
    });
}

#[test]
fn ctc_golden() {
    let case = golden("losses/ctc");
    let x = Var::from_tensor(&case["input.logits"]).unwrap();
    let lengths = |n: &str| -> Vec<usize> {
        let t = case[n].to_dtype(DType::I64).unwrap().to_vec1::<i64>().unwrap();
        t.into_iter().map(|v| v as usize).collect()
    };
    let (frames, labels) = (lengths("input.input_lengths"), lengths("input.target_lengths"));
    let per_sample =
        ctc(&x, &case["input.targets"].to_dtype(DType::I64).unwrap(), &frames, &labels, 0).unwrap();
    let by: Vec<f32> = labels.iter().map(|&l| l.max(1) as f32).collect();
    let loss = (per_sample / Tensor::new(by, &Device::Cpu).unwrap()).unwrap().mean_all().unwrap();
    assert!(error(&loss.reshape(1).unwrap(), &case["expected.loss"]) < 1e-4);
    let grads = loss.backward().unwrap();
    assert!(error(grads.get(&x).unwrap(), &case["grad.logits"]) < 1e-4);
}

#[test]
fn ctc_of_impossible_and_wrong_targets() {
    // Two equal labels need a blank between them: three frames.
    let t = Tensor::new(&[[1i64, 1], [1, 2]], &Device::Cpu).unwrap();
    let x = Var::from_tensor(&random(&[2, 2, 3], 1)).unwrap();
    let y = ctc(&x, &t, &[2, 2], &[2, 2], 0).unwrap();
    let v = y.to_vec1::<f32>().unwrap();
    assert!(v[0] == f32::INFINITY && v[1].is_finite());
    let grads = y.sum_all().unwrap().backward().unwrap();
    let g = grads.get(&x).unwrap().to_vec3::<f32>().unwrap();
    assert!(
        g[0].iter().flatten().all(|g| *g == 0.0) && g[1].iter().flatten().all(|g| g.is_finite() && *g != 0.0)
    );
    assert!(ctc(&x, &t, &[3, 2], &[2, 2], 0).is_err(), "too many frames");
    assert!(ctc(&x, &t, &[2, 2], &[2, 3], 0).is_err(), "too many labels");
    assert!(ctc(&x, &t, &[2, 2], &[2, 2], 1).is_err(), "a blank among the labels");
    assert!(ctc(&x, &t, &[2, 2], &[2, 2], 3).is_err(), "no such blank");
    assert!(ctc(&x, &(t * 5.0).unwrap(), &[2, 2], &[2, 2], 0).is_err(), "no such class");
    let empty = Tensor::zeros((0, 4, 3), DType::F32, &Device::Cpu).unwrap();
    assert_eq!(
        ctc(&empty, &Tensor::zeros((0, 2), DType::I64, &Device::Cpu).unwrap(), &[], &[], 0).unwrap().dims(),
        [0]
    );
}

/// Positive, and summing to no one.
fn soft_targets(shape: &[usize]) -> Tensor {
    random(shape, 3).abs().unwrap()
}

#[test]
fn row_losses_agree_and_threads_do_not_matter() {
    for (r, c, skip) in
        [(1, 2, vec![]), (7, 7, vec![0]), (12, 12, vec![0, 6]), (3, 70, vec![]), (9, 4, vec![1, 3])]
    {
        agree(&[(random(&[r, c], 1) * 5.0).unwrap()], |x, path| log_sum_exp(&x[0], &skip, path));
    }
    check_gradients(&[random(&[3, 4], 2)], |x, path| log_sum_exp(&x[0], &[0, 2], path));
    same_bits(&[random(&[300, 300], 4)], |x| log_sum_exp(&x[0], &[0, 150], Path::Fused));
    assert!(log_sum_exp(&random(&[2, 1], 1), &[0], Path::Auto).is_err());

    let q = soft_targets(&[5, 33]);
    agree(&[random(&[5, 33], 4)], |x, path| soft_cross_entropy(&x[0], &q.to_dtype(x[0].dtype())?, 0.1, path));
    let q = soft_targets(&[777, 50]);
    same_bits(&[random(&[777, 50], 4)], |x| soft_cross_entropy(&x[0], &q, 0.1, Path::Fused));
    assert!(soft_cross_entropy(&q, &q, 0.0, Path::Auto).is_err());
    assert!(soft_cross_entropy(&q, &soft_targets(&[777, 49]), 1.0, Path::Auto).is_err());
}

#[test]
fn masked_pixels_agree_and_threads_do_not_matter() {
    let mask = |n: usize, l: usize| {
        let m: Vec<f32> = (0..n * l).map(|i| f32::from(u8::from(i % 3 != 0))).collect();
        Tensor::from_vec(m, (n, l), &Device::Cpu).unwrap()
    };
    for normalize in [false, true] {
        let loss = |x: &[Tensor], t: &Tensor, m: &Tensor, path| {
            let (t, m) = (t.to_dtype(x[0].dtype())?, m.to_dtype(x[0].dtype())?);
            masked_pixels(&x[0], &t, &m, normalize, path)
        };
        let (t, m) = (random(&[2, 5, 19], 1), mask(2, 5));
        agree(&[random(&[2, 5, 19], 2)], |x, path| loss(x, &t, &m, path));
        let (t, m) = (random(&[1, 2, 3], 1), mask(1, 2));
        check_gradients(&[random(&[1, 2, 3], 2)], |x, path| loss(x, &t, &m, path));
        let (t, m) = (random(&[9, 70, 97], 1), mask(9, 70));
        same_bits(&[random(&[9, 70, 97], 2)], |x| loss(x, &t, &m, Path::Fused));
    }
    assert!(
        masked_pixels(&random(&[1, 2, 1], 1), &random(&[1, 2, 1], 2), &mask(1, 2), true, Path::Auto).is_err()
    );
}

#[test]
fn dice_agrees_and_threads_do_not_matter() {
    let labels = |n: usize, v: usize, c: usize| {
        let t: Vec<i64> = (0..n * v).map(|i| (i * i / 3 % c) as i64).collect();
        Tensor::from_vec(t, (n, v), &Device::Cpu).unwrap()
    };
    for (n, v, c) in [(2, 35, 3), (1, 1, 2), (3, 16, 17)] {
        let (t, w) = (labels(n, v, c), (1..=c).map(|i| i as f32 / 3.0).collect::<Vec<_>>());
        agree(&[random(&[n, v, c], 1)], |x, path| dice_cross_entropy(&x[0], &t, &w, path));
    }
    let t = labels(2, 3, 3);
    check_gradients(&[random(&[2, 3, 3], 2)], |x, path| {
        dice_cross_entropy(&x[0], &t, &[0.5, 2.0, 4.0], path)
    });
    let t = labels(2, 9001, 4);
    same_bits(&[random(&[2, 9001, 4], 3)], |x| dice_cross_entropy(&x[0], &t, &[1.0; 4], Path::Fused));
    let wrong = dice_cross_entropy(&random(&[2, 9001, 3], 3), &t, &[1.0; 3], Path::Fused);
    assert!(wrong.unwrap_err().to_string().contains("class 3"));
}

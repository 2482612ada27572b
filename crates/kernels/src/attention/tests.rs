use super::*;
use crate::dropout::Dropout;
use crate::linear::testing::{agree, check_gradients, error, golden, random, same_bits};
use candle_core::{DType, Device, Var};
use proptest::prelude::*;

fn drop_share(share: f32, seed: u64) -> Dropout {
    Dropout { share, key: crate::rng::Key::new(seed), first: 0 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, rng_seed: proptest::test_runner::RngSeed::Fixed(7), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_paths_agree(
        n in 1usize..4, t in 1usize..20, s in 1usize..40, h in 1usize..4, d in 1usize..20,
        causal: bool, form in 0usize..9, drop: bool, seed: u64,
    ) {
        let dropout = drop.then(|| drop_share(0.3, seed));
        let opts = AttentionOpts { causal, dropout, ..Default::default() };
        let bias = [if form & 1 == 0 { 1 } else { n }, if form & 2 == 0 { 1 } else { h }, if form & 4 == 0 { 1 } else { t }, s];
        let all = [random(&[n, t, h, d], seed), random(&[n, s, 2, h, d], seed ^ 1), random(&bias, seed ^ 2)];
        let with_bias = form < 8;
        agree(&all, |x, path| attention(&x[0], &x[1], with_bias.then_some(&x[2]), &opts, path));
        let bias = [bias[0], bias[1], bias[2], t];
        let all = [random(&[n, t, 3, h, d], seed), random(&bias, seed ^ 2)];
        agree(&all, |x, path| self_attention(&x[0], with_bias.then_some(&x[1]), &opts, path));
    }
}

#[test]
fn gradients() {
    for (causal, scale) in [(false, None), (true, Some(1.0))] {
        let opts = AttentionOpts { causal, scale, dropout: None };
        let all = [random(&[2, 3, 2, 3], 1), random(&[2, 4, 2, 2, 3], 2), random(&[1, 2, 3, 4], 3)];
        check_gradients(&all, |x, path| attention(&x[0], &x[1], Some(&x[2]), &opts, path));
        check_gradients(&[random(&[2, 4, 3, 1, 3], 1)], |x, path| self_attention(&x[0], None, &opts, path));
    }
}

#[test]
fn several_blocks_of_queries() {
    let opts = AttentionOpts { causal: true, ..Default::default() };
    let all = [random(&[2, 300, 3, 2, 20], 1), random(&[1, 2, 300, 300], 2)];
    agree(&all, |x, path| self_attention(&x[0], Some(&x[1]), &opts, path));
    let all = [random(&[1, 40, 1, 64], 1), random(&[1, 1100, 2, 1, 64], 2)];
    agree(&all, |x, path| attention(&x[0], &x[1], None, &AttentionOpts::default(), path));
}

#[test]
fn threads_do_not_matter() {
    let opts = AttentionOpts { dropout: Some(drop_share(0.1, 3)), ..Default::default() };
    same_bits(&[random(&[7, 50, 3, 2, 16], 1), random(&[1, 2, 50, 50], 2)], |x| {
        self_attention(&x[0], Some(&x[1]), &opts, Path::Auto)
    });
    same_bits(&[random(&[7, 20, 2, 16], 1), random(&[7, 30, 2, 2, 16], 2), random(&[1, 1, 1, 30], 2)], |x| {
        attention(&x[0], &x[1], Some(&x[2]), &opts, Path::Auto)
    });
}

#[test]
fn not_contiguous() {
    let all = [random(&[2, 3, 5, 4], 1), random(&[2, 6, 2, 4, 3], 2)];
    agree(&all, |x, path| {
        attention(
            &x[0].permute((0, 2, 3, 1))?.contiguous()?.transpose(1, 2)?.transpose(1, 2)?,
            &x[1],
            None,
            &AttentionOpts::default(),
            path,
        )
    });
    agree(&[random(&[2, 5, 3, 4, 3], 1)], |x, path| {
        self_attention(&x[0].transpose(0, 1)?, None, &AttentionOpts::default(), path)
    });
}

/// Queries that see nothing: by a bias of minus infinity, and by causality with fewer keys than queries.
#[test]
fn rows_without_keys_are_zero() {
    let mut mask = vec![0f32; 3 * 4];
    mask[4..8].fill(f32::NEG_INFINITY);
    mask[1] = f32::NEG_INFINITY;
    let mask = Tensor::from_vec(mask, (1, 1, 3, 4), &Device::Cpu).unwrap();
    let all = [random(&[2, 3, 2, 5], 1), random(&[2, 4, 2, 2, 5], 2)];
    let masked = |x: &[Tensor], path| {
        attention(&x[0], &x[1], Some(&mask.to_dtype(x[0].dtype())?), &AttentionOpts::default(), path)
    };
    agree(&all, masked);
    for path in [Path::Fused, Path::Composed] {
        let y = masked(&all, path).unwrap().narrow(1, 1, 1).unwrap().abs().unwrap().sum_all().unwrap();
        assert_eq!(y.to_scalar::<f32>().unwrap(), 0.0);
    }
    let all = [random(&[2, 5, 2, 3], 1), random(&[2, 3, 2, 2, 3], 2)];
    let opts = AttentionOpts { causal: true, ..Default::default() };
    agree(&all, |x, path| attention(&x[0], &x[1], None, &opts, path));
    let y = attention(&all[0], &all[1], None, &opts, Path::Auto)
        .unwrap()
        .narrow(1, 0, 2)
        .unwrap()
        .abs()
        .unwrap()
        .sum_all()
        .unwrap();
    assert_eq!(y.to_scalar::<f32>().unwrap(), 0.0);
    // Padding of -3e38 everywhere is uniform, not empty.
    let all = [
        random(&[1, 2, 1, 3], 1),
        random(&[1, 4, 2, 1, 3], 2),
        Tensor::full(-3e38f32, (1, 1, 1, 4), &Device::Cpu).unwrap(),
    ];
    let y = attention(&all[0], &all[1], Some(&all[2]), &AttentionOpts::default(), Path::Auto).unwrap();
    let mean = all[1].narrow(2, 1, 1).unwrap().squeeze(2).unwrap().mean_keepdim(1).unwrap();
    assert!(error(&y, &mean.broadcast_as(y.shape()).unwrap()) < 1e-5);
}

#[test]
fn dropout_keeps_the_mean() {
    let v = Tensor::ones((1, 64, 2, 1, 1), DType::F32, &Device::Cpu).unwrap();
    let q = Tensor::zeros((1, 512, 1, 1), DType::F32, &Device::Cpu).unwrap();
    let opts = AttentionOpts { dropout: Some(drop_share(0.25, 1)), ..Default::default() };
    let y =
        attention(&q, &v, None, &opts, Path::Auto).unwrap().mean_all().unwrap().to_scalar::<f32>().unwrap();
    assert!((y - 1.0).abs() < 0.02, "{y}");
}

/// The parts of a batch draw what the whole batch draws, on both paths.
#[test]
fn dropout_belongs_to_samples() {
    let (q, kv) = (random(&[5, 20, 2, 8], 1), random(&[5, 30, 2, 2, 8], 2));
    for path in [Path::Fused, Path::Composed] {
        let attend = |from: usize, len: usize| {
            let dropout = Some(Dropout { first: 7 + from as u64, ..drop_share(0.3, 4) });
            let (q, kv) = (q.narrow(0, from, len).unwrap(), kv.narrow(0, from, len).unwrap());
            attention(&q, &kv, None, &AttentionOpts { dropout, ..Default::default() }, path).unwrap()
        };
        let whole = attend(0, 5);
        let parts = Tensor::cat(&[attend(0, 2), attend(2, 3)], 0).unwrap();
        assert!(error(&parts, &whole) < 1e-6, "{path:?}");
        // And samples draw apart: a batch that begins elsewhere differs.
        let dropout = Some(Dropout { first: 8, ..drop_share(0.3, 4) });
        let other = attention(&q, &kv, None, &AttentionOpts { dropout, ..Default::default() }, path).unwrap();
        assert!(error(&other, &whole) > 0.01, "{path:?}");
    }
}

#[test]
fn golden_cases() {
    for (name, causal, scale, bias_name) in [
        ("ops/attention_masked", false, None, Some("const_mask")),
        ("ops/attention_causal", true, None, None),
        ("ops/attention_learned_bias", false, Some(1.0), Some("bias")),
    ] {
        let case = golden(name);
        let var = |n: &str| Var::from_tensor(&case[&format!("input.{n}")]).unwrap();
        let (q, k, v) = (var("q"), var("k"), var("v"));
        let bias = bias_name.map(var);
        let opts = AttentionOpts { causal, scale, dropout: None };
        for path in [Path::Fused, Path::Composed] {
            let tokens = |x: &Var| x.transpose(1, 2).unwrap(); // (N, H, L, D) -> (N, L, H, D)
            let kv = Tensor::stack(&[tokens(&k), tokens(&v)], 2).unwrap();
            let y = attention(&tokens(&q), &kv, bias.as_ref().map(|b| b.as_tensor()), &opts, path)
                .unwrap()
                .transpose(1, 2)
                .unwrap();
            assert!(error(&y, &case["expected.y"]) < 1e-4, "{name} {path:?}");
            let grads = (&y * &case["input.grad_y"]).unwrap().sum_all().unwrap().backward().unwrap();
            for (n, x) in
                [("q", &q), ("k", &k), ("v", &v)].into_iter().chain(bias.as_ref().map(|b| ("bias", b)))
            {
                if let Some(want) = case.get(&format!("grad.{n}")) {
                    let e = error(grads.get(x).unwrap(), want);
                    assert!(e < 1e-4, "{name} {path:?} {n}: {e}");
                }
            }
        }
    }
}

#[test]
fn wrong_shapes_are_errors() {
    let (q, kv) = (random(&[2, 3, 2, 4], 1), random(&[2, 5, 2, 2, 4], 2));
    let opts = AttentionOpts::default();
    assert!(attention(&q, &random(&[2, 5, 2, 3, 4], 1), None, &opts, Path::Auto).is_err());
    assert!(attention(&q, &q, None, &opts, Path::Auto).is_err());
    assert!(attention(&q, &kv, Some(&random(&[1, 2, 5, 3], 1)), &opts, Path::Auto).is_err());
    assert!(
        attention(&q, &kv, None, &AttentionOpts { dropout: Some(drop_share(1.0, 1)), ..opts }, Path::Auto)
            .is_err()
    );
    assert!(self_attention(&kv, None, &opts, Path::Auto).is_err());
    assert!(self_attention(&random(&[0, 5, 3, 2, 4], 1), None, &opts, Path::Auto).is_err());
}

use super::solver::{Preconditioner, Problem, Span, gram, solve};
use super::*;
use proptest::prelude::*;

/// Classes with correlated features around their means.
pub(crate) fn blobs(n: usize, d: usize, classes: usize, spread: f32, seed: u64) -> (Matrix, Vec<u32>) {
    let key = Key::new(seed);
    let mut mix = key.named("mix").rng();
    let basis: Vec<f32> = (0..d * d).map(|i| mix.normal() / (1.0 + (i / d) as f32)).collect();
    let means: Vec<f32> = (0..classes * d).map(|_| mix.normal()).collect();
    let (mut data, mut labels) = (Vec::new(), Vec::new());
    for i in 0..n {
        let mut r = key.named("row").fold(i as u64).rng();
        let y = r.below(classes);
        let z: Vec<f32> = (0..d).map(|j| spread * r.normal() + 0.3 * means[y * d + j]).collect();
        data.extend((0..d).map(|j| (0..d).map(|l| z[l] * basis[l * d + j]).sum::<f32>()));
        labels.push(y as u32);
    }
    (Matrix::new(data, n, d).unwrap(), labels)
}

#[test]
fn gradient_is_the_difference_quotient() {
    let (x, y) = blobs(40, 5, 3, 1.0, 1);
    let p = Problem { x: x.as_slice(), d: 5, labels: &y, classes: 3, c: 0.7 };
    let mut r = Key::new(2).rng();
    let w: Vec<f64> = (0..18).map(|_| f64::from(r.normal())).collect();
    let (_, g) = p.evaluate(&w).unwrap();
    for i in 0..18 {
        let at = |h: f64| {
            let mut w = w.clone();
            w[i] += h;
            p.evaluate(&w).unwrap().0
        };
        let numeric = (at(1e-2) - at(-1e-2)) / 2e-2;
        assert!((numeric - g[i]).abs() < 1e-3, "{i}: {numeric} {}", g[i]);
    }
}

/// One sample a class at -1 and +1: by symmetry W = (-w, w), b = 0, and `w` solves `w (1 + ...)`: d/dw [2 C
/// ln(1 + e^-2w) + w^2] = 0.
#[test]
fn two_points_have_a_closed_form() {
    let x = Matrix::new(vec![-1.0, 1.0], 2, 1).unwrap();
    for c in [0.01, 1.0, 30.0] {
        let config = LogisticConfig { c, tolerance: 1e-7, ..LogisticConfig::default() };
        let probe = LinearProbe::fit(x.view(), &[0, 1], 2, &config).unwrap();
        // Bisection of w = 2 C / (1 + e^{2w}).
        let (mut lo, mut hi) = (0.0f64, 2.0 * c);
        for _ in 0..200 {
            let mid = 0.5 * (lo + hi);
            if mid < 2.0 * c / (1.0 + (2.0 * mid).exp()) { lo = mid } else { hi = mid }
        }
        assert!(
            (probe.weight[1] - lo).abs() < 1e-5 * lo.max(1.0)
                && (probe.weight[0] + lo).abs() < 1e-5 * lo.max(1.0),
            "{c}: {:?}, {lo}",
            probe
        );
        assert!(probe.bias.iter().all(|b| b.abs() < 1e-4), "{:?}", probe.bias);
        assert!(probe.report.converged);
        let want = c * 2.0 * (1.0 + (-2.0 * lo).exp()).ln() + lo * lo;
        assert!((probe.report.objective - want).abs() < 1e-6 * want, "{} {want}", probe.report.objective);
    }
}

/// Features that say nothing: the intercepts are the log shares of the classes, since they are not penalised.
#[test]
fn constant_features_leave_the_class_shares() {
    let x = Matrix::new(vec![3.0; 20], 10, 2).unwrap();
    let y = [0, 0, 0, 0, 0, 0, 1, 1, 1, 2];
    let probe =
        LinearProbe::fit(x.view(), &y, 3, &LogisticConfig { tolerance: 1e-8, ..LogisticConfig::default() })
            .unwrap();
    let z = probe.logits(x.view()).unwrap();
    let sum: f32 = z[..3].iter().map(|v| v.exp()).sum();
    for (v, share) in z.iter().zip([0.6f32, 0.3, 0.1]) {
        assert!((v.exp() / sum - share).abs() < 1e-4, "{z:?}");
    }
    assert!(probe.weight.iter().all(|w| w.abs() < 1e-6));
}

#[test]
fn preconditioning_and_the_span_reach_the_same_optimum() {
    for (n, d) in [(60, 120), (400, 40)] {
        let (x, y) = blobs(n, d, 4, 1.0, 3);
        let x = Standardizer::fit(x.view()).apply(x.view()).unwrap();
        for c in [1e-3, 1.0, 10.0] {
            let p = Problem { x: x.as_slice(), d, labels: &y, classes: 4, c };
            let plain = Preconditioner::new(None, d, n, 4, c).unwrap();
            let slow = solve(&p, &plain, vec![0.0; (d + 1) * 4], 1e-7, 5000).unwrap();
            let g = gram(x.as_slice(), d).unwrap();
            let quick = solve(
                &p,
                &Preconditioner::new(g.as_deref(), d, n, 4, c).unwrap(),
                vec![0.0; (d + 1) * 4],
                1e-7,
                5000,
            )
            .unwrap();
            assert!(slow.gradient <= 1e-7 && quick.gradient <= 1e-7, "{} {}", slow.gradient, quick.gradient);
            assert!(
                (slow.value - quick.value).abs() < 1e-7 * slow.value.abs().max(1.0),
                "{} {}",
                slow.value,
                quick.value
            );
            println!(
                "n {n} d {d} C {c}: {} iterations plain, {} preconditioned",
                slow.iterations, quick.iterations
            );
            let span = Span::new(x.as_slice(), d).unwrap();
            assert_eq!(span.is_some(), n < d);
            if let Some(span) = span {
                let p = Problem { x: &span.z, d: span.rank, ..p };
                let start = vec![0.0; (span.rank + 1) * 4];
                let g = gram(&span.z, span.rank).unwrap();
                let small = solve(
                    &p,
                    &Preconditioner::new(g.as_deref(), span.rank, n, 4, c).unwrap(),
                    start,
                    1e-7,
                    5000,
                )
                .unwrap();
                assert!(
                    (slow.value - small.value).abs() < 1e-6 * slow.value.abs().max(1.0),
                    "{} {}",
                    slow.value,
                    small.value
                );
                let w = span.lift(&small.w, x.as_slice(), d, 4).unwrap();
                let worst = w.iter().zip(&slow.w).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                let scale = slow.w.iter().fold(0f64, |m, v| m.max(v.abs()));
                assert!(worst < 2e-3 * scale, "{worst} of {scale}");
            }
        }
    }
}

#[test]
fn few_labels_choose_a_useful_c_and_folds_are_stratified() {
    let (x, y) = blobs(700, 30, 3, 0.4, 5);
    let train: Vec<usize> = (0..60).collect();
    let test: Vec<usize> = (60..700).collect();
    let (few, rest) = (x.view().select(&train).unwrap(), x.view().select(&test).unwrap());
    let (probe, report) =
        LinearProbe::fit_few(few.view(), &y[..60], 3, &CvConfig::default(), None, Key::new(1)).unwrap();
    assert_eq!(report.tried.len(), 7);
    assert!(report.tried.iter().all(|t| t.1 <= report.tried.iter().find(|b| b.0 == report.c).unwrap().1));
    let right = probe.predict(rest.view()).unwrap().iter().zip(&y[60..]).filter(|(a, b)| a == b).count();
    assert!(right as f64 / 640.0 > 0.5, "{right} of 640 right at C {}", report.c);
    let labels: Vec<u32> = (0..100).map(|i| u32::from(i % 4 == 0)).collect();
    let fold = cv::folds(&labels, 2, 5, Key::new(0));
    for f in 0..5 {
        assert_eq!((0..100).filter(|&i| fold[i] == f && labels[i] == 1).count(), 5);
        assert_eq!((0..100).filter(|&i| fold[i] == f).count(), 20);
    }
}

#[test]
fn sgd_comes_near_the_optimum() {
    let (x, y) = blobs(600, 10, 3, 1.0, 7);
    let best =
        LinearProbe::fit(x.view(), &y, 3, &LogisticConfig { c: 1e3, ..LogisticConfig::default() }).unwrap();
    let sgd = LinearProbe::fit_sgd(
        x.view(),
        &y,
        3,
        &SgdConfig { epochs: 500, ..SgdConfig::default() },
        Key::new(1),
    )
    .unwrap();
    let right = |p: &LinearProbe| {
        p.predict(x.view()).unwrap().iter().zip(&y).filter(|(a, b)| a == b).count() as f64 / 600.0
    };
    assert!(right(&sgd) > right(&best) - 0.02, "{} {}", right(&sgd), right(&best));
    assert!(
        sgd.report.objective < best.report.objective / 1e3 / 600.0 + 0.02,
        "{:?} {:?}",
        sgd.report,
        best.report
    );
}

#[test]
fn same_bits_for_any_number_of_threads() {
    let (x, y) = blobs(2500, 12, 3, 1.0, 9);
    let run = |threads: usize| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
            let full = LinearProbe::fit(x.view(), &y, 3, &LogisticConfig::default()).unwrap();
            let few = LinearProbe::fit_few(
                x.view().select(&(0..50).collect::<Vec<_>>()).unwrap().view(),
                &y[..50],
                3,
                &CvConfig::default(),
                None,
                Key::new(3),
            );
            let sgd = LinearProbe::fit_sgd(
                x.view(),
                &y,
                3,
                &SgdConfig { epochs: 2, ..SgdConfig::default() },
                Key::new(3),
            )
            .unwrap();
            (full, few.unwrap(), sgd)
        })
    };
    let one = run(1);
    assert_eq!(one, run(2));
    assert_eq!(one, run(5));
}

#[test]
fn refuses_bad_input() {
    let (x, y) = blobs(10, 3, 2, 1.0, 1);
    let c = LogisticConfig::default();
    assert!(LinearProbe::fit(x.view(), &y[..9], 2, &c).is_err());
    assert!(LinearProbe::fit(x.view(), &[7; 10], 2, &c).is_err());
    assert!(LinearProbe::fit(x.view(), &y, 2, &LogisticConfig { c: 0.0, ..c.clone() }).is_err());
    assert!(LinearProbe::fit(x.view(), &y, 2, &LogisticConfig { tolerance: f64::NAN, ..c.clone() }).is_err());
    assert!(
        LinearProbe::fit_few(
            x.view(),
            &y,
            2,
            &CvConfig { folds: 11, ..CvConfig::default() },
            None,
            Key::new(0)
        )
        .is_err()
    );
    assert!(
        LinearProbe::fit_few(
            x.view(),
            &y,
            2,
            &CvConfig { grid: vec![], ..CvConfig::default() },
            None,
            Key::new(0)
        )
        .is_err()
    );
    assert!(
        LinearProbe::fit_sgd(x.view(), &y, 2, &SgdConfig { batch: 0, ..SgdConfig::default() }, Key::new(0))
            .is_err()
    );
    let probe = LinearProbe::fit(x.view(), &y, 2, &c).unwrap();
    assert!(probe.predict(Matrix::new(vec![0.0; 4], 2, 2).unwrap().view()).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever the data: the fit converges, and shifting or scaling a column changes nothing.
    #[test]
    fn fits_converge_and_do_not_see_units(seed in 0u64..1000, n in 6usize..60, d in 1usize..20, classes in 2usize..5, log_c in -4i32..3) {
        let (x, y) = blobs(n, d, classes, 1.0, seed);
        let config = LogisticConfig { c: 10f64.powi(log_c), ..LogisticConfig::default() };
        let a = LinearProbe::fit(x.view(), &y, classes, &config).unwrap();
        prop_assert!(a.report.converged, "{:?}", a.report);
        let moved: Vec<f32> = x.as_slice().iter().enumerate().map(|(i, v)| v * (1 << (i % d % 5)) as f32 + (i % d) as f32).collect();
        let b = LinearProbe::fit(Matrix::new(moved, n, d).unwrap().view(), &y, classes, &config).unwrap();
        prop_assert!((a.report.objective - b.report.objective).abs() < 1e-3 * a.report.objective.max(1.0), "{:?} {:?}", a.report, b.report);
    }
}

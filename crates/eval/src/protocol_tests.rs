use super::*;
use crate::Matrix;
use proptest::prelude::*;

fn data(n: usize, d: usize, noise: f32, seed: u64) -> (Matrix, Vec<u32>) {
    let key = Key::new(seed);
    let mut means = Key::new(99).rng();
    let means: Vec<f32> = (0..4 * d).map(|_| means.normal()).collect();
    let mut r = key.rng();
    let labels: Vec<u32> = (0..n).map(|_| r.below(4) as u32).collect();
    let rows = labels
        .iter()
        .flat_map(|&y| (0..d).map(|j| means[y as usize * d + j] + noise * r.normal()).collect::<Vec<_>>())
        .collect();
    (Matrix::new(rows, n, d).unwrap(), labels)
}

fn report(threads: usize) -> ProbeReport {
    let (train, y) = data(400, 12, 1.0, 1);
    let (test, z) = data(300, 12, 1.0, 2);
    let blur = |x: &Matrix, y: &[u32]| {
        let mut r = Key::new(y.len() as u64).rng();
        Matrix::new(x.as_slice().iter().map(|v| v + 3.0 * r.normal()).collect(), x.n(), x.d()).unwrap()
    };
    let (bad_train, bad_test) = (blur(&train, &y), blur(&test, &z));
    let sets = [
        FeatureSet { name: "trained", train: train.view(), test: test.view() },
        FeatureSet { name: "random", train: bad_train.view(), test: bad_test.view() },
    ];
    let input = EvalInput { few: &[20, 100, 5000], draws: 3, ..EvalInput::new(&sets, &y, &z, 4) };
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .unwrap()
        .install(|| evaluate(&input).unwrap())
}

#[test]
fn report_ranks_features_and_round_trips() {
    let r = report(2);
    for better in
        [&r.knn, &r.linear, &r.linear_at.get("100").unwrap().mean, &r.linear_at.get("20").unwrap().mean]
    {
        assert!(better.get("trained").unwrap() > better.get("random").unwrap(), "{r}");
    }
    assert!(*r.linear.get("trained").unwrap() > 85.0 && r.majority < 40.0, "{r}");
    let json = serde_json::to_value(&r).unwrap();
    assert!(json["linear_at"]["20"]["sd"]["trained"].as_f64().unwrap() > 0.0);
    assert_eq!(json["knn"]["trained"].as_f64(), r.knn.get("trained").copied());
    assert_eq!(
        json["linear_at"]["100"]["random"].as_f64(),
        r.linear_at.get("100").unwrap().mean.get("random").copied()
    );
    let back: ProbeReport = serde_json::from_str(&serde_json::to_string(&r).unwrap()).unwrap();
    let text = r.to_string();
    // serde_json's numbers may come back one bit off.
    assert_eq!((back.to_string(), &back.notes, back.linear_at.0.len()), (text.clone(), &r.notes, 2));
    assert!(
        text.contains("trained") && text.contains("±") && text.contains("note: 5000 labels: left out"),
        "{text}"
    );
    println!("{text}");
}

#[test]
fn same_bits_for_any_number_of_threads() {
    let one = report(1);
    assert_eq!(one, report(2));
    assert_eq!(one, report(5));
}

#[test]
fn refuses_what_does_not_fit() {
    let (a, y) = data(30, 3, 1.0, 1);
    let (b, z) = data(20, 4, 1.0, 1);
    let sets = [FeatureSet { name: "trained", train: a.view(), test: b.view() }];
    assert!(evaluate(&EvalInput::new(&sets, &y, &z, 4)).is_err());
    assert!(evaluate(&EvalInput::new(&[], &y, &z, 4)).is_err());
    let good = FeatureSet { name: "trained", train: a.view(), test: a.view() };
    let few: &[usize] = &[];
    let base = EvalInput { few, ..EvalInput::new(&[], &y, &y, 4) };
    assert!(evaluate(&EvalInput { features: &[good, good], ..base.clone() }).is_err());
    assert!(evaluate(&EvalInput { features: &[FeatureSet { name: "sd", ..good }], ..base.clone() }).is_err());
    assert!(evaluate(&EvalInput { features: &[good], classes: 2, ..base.clone() }).is_err());
    assert!(evaluate(&EvalInput { features: &[good], few: &[10], draws: 0, ..base.clone() }).is_err());
    let r = evaluate(&EvalInput {
        features: &[good],
        knn: KnnConfig { k: 1000, ..KnnConfig::default() },
        ..base
    })
    .unwrap();
    assert_eq!((r.knn_k, r.notes.len()), (30, 1));
    assert_eq!(grouped(1_234_567), "1,234,567");
}

proptest! {
    #[test]
    fn draws_are_balanced(labels in proptest::collection::vec(0u32..5, 5..120), size in 1usize..100, seed in 0u64..50) {
        let chosen = balanced_draw(&labels, 5, size, Key::new(seed));
        prop_assert_eq!(chosen.len(), size.min(labels.len()));
        prop_assert!(chosen.windows(2).all(|w| w[0] < w[1]));
        let count = |set: &mut dyn Iterator<Item = u32>| set.fold([0usize; 5], |mut n, y| { n[y as usize] += 1; n });
        let (all, got) = (count(&mut labels.iter().copied()), count(&mut chosen.iter().map(|&i| labels[i])));
        let most = got.iter().max().copied().unwrap_or(0);
        prop_assert!((0..5).all(|c| got[c] + 1 >= most || got[c] == all[c]), "{:?} of {:?}", got, all);
    }
}

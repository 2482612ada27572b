use super::*;
use proptest::prelude::*;

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-12 * b.abs().max(1e-9)
}

#[test]
fn warmup_cosine_closed_form() {
    let s = LrSchedule::warmup_cosine(Span::Steps(10), 0.1);
    assert_eq!(s.lr(2.0, 0, 110), 0.0);
    assert!(close(s.lr(2.0, 5, 110), 1.0));
    assert!(close(s.lr(2.0, 10, 110), 2.0));
    assert!(close(s.lr(2.0, 60, 110), 1.1), "halfway down, the mean of start and end");
    assert!(close(s.lr(2.0, 35, 110), 0.2 + 1.8 * (1.0 + (0.25 * PI).cos()) / 2.0));
    assert!(close(s.lr(2.0, 110, 110), 0.2) && close(s.lr(2.0, 5000, 110), 0.2));
    let l = LrSchedule::WarmupLinear { warmup: Span::Ratio(0.1), end_factor: 0.0 };
    assert!(
        close(l.lr(1.0, 10, 100), 1.0) && close(l.lr(1.0, 55, 100), 0.5) && close(l.lr(1.0, 5, 100), 0.5)
    );
}

#[test]
fn milestones() {
    let s = LrSchedule::Step {
        warmup: Span::default(),
        milestones: vec![Span::Epochs(120.0), Span::Ratio(0.8)],
        gamma: 0.1,
    };
    assert!(s.check(true).is_err() && s.check(false).is_ok());
    let s = s.resolve(7.0);
    assert!(s.check(true).is_ok());
    let total = 1400;
    for (step, want) in [(0, 0.03), (839, 0.03), (840, 0.003), (1119, 0.003), (1120, 0.0003), (1400, 0.0003)]
    {
        assert!(close(s.lr(0.03, step, total), want), "{step}");
    }
}

/// `OneCycleLR(optimizer, max_lr=1.0, total_steps=10)` by PyTorch's algorithm, run in Python: its phases
/// end at steps 2 and 9.
#[test]
fn one_cycle_like_pytorch() {
    let s = LrSchedule::one_cycle();
    let want_lr =
        [0.04, 0.52, 1.0, 0.950484632, 0.811745654, 0.611262022, 0.388741978, 0.188258346, 0.049519368, 4e-6];
    let want_beta =
        [0.95, 0.9, 0.85, 0.854951557, 0.868825510, 0.888873953, 0.911126047, 0.931174490, 0.945048443, 0.95];
    for (i, (lr, beta)) in want_lr.iter().zip(want_beta).enumerate() {
        assert!((s.lr(1.0, i as u64, 10) - lr).abs() < 1e-8, "step {i}: {} {lr}", s.lr(1.0, i as u64, 10));
        let b = s.beta1(i as u64, 10).unwrap();
        assert!((b - beta).abs() < 1e-8, "step {i}: {b} {beta}");
    }
    assert_eq!(LrSchedule::constant().beta1(3, 10), None);
    // total * pct_start = 1: the first phase has no length.
    let s = LrSchedule::OneCycle {
        pct_start: 0.1,
        div: 25.0,
        final_div: 1e4,
        cycle_momentum: false,
        base_momentum: 0.85,
        max_momentum: 0.95,
    };
    assert!(close(s.lr(1.0, 0, 10), 1.0) && s.beta1(0, 10).is_none());
}

#[test]
fn ema_closed_form() {
    let e = EmaSchedule::default();
    for (k, total) in [(0, 100), (37, 100), (100, 100)] {
        let want = 1.0 - (1.0 - 0.996) * ((PI * k as f64 / total as f64).cos() + 1.0) / 2.0;
        assert!((e.value(k, total) - want).abs() < 1e-15);
    }
    assert_eq!(EmaSchedule::Constant { momentum: 0.99 }.value(3, 4), 0.99);
    assert!(EmaSchedule::Constant { momentum: 1.01 }.check().is_err() && e.check().is_ok());
}

#[test]
fn configuration_text() {
    #[derive(Deserialize)]
    struct C {
        schedule: LrSchedule,
    }
    let parse = |t: &str| toml::from_str::<C>(t).map(|c| c.schedule).map_err(|e| e.to_string());
    let s = parse("[schedule]\nkind = \"warmup_cosine\"\nwarmup = { epochs = 10 }").unwrap();
    assert_eq!(s, LrSchedule::warmup_cosine(Span::Epochs(10.0), 0.0));
    assert_eq!(parse("schedule = { kind = \"one_cycle\" }").unwrap(), LrSchedule::one_cycle());
    assert_eq!(parse("schedule = { kind = \"constant\" }").unwrap(), LrSchedule::constant());
    assert!(parse("schedule = { kind = \"constant\", gama = 3 }").unwrap_err().contains("gama"));
    assert!(parse("schedule = { kind = \"one_cycle\", pct = 3 }").unwrap_err().contains("pct"));
    assert!(
        parse("schedule = { kind = \"constant\", warmup = { epoch = 3 } }").unwrap_err().contains("epoch")
    );
    let text = toml::to_string(&LrSchedule::warmup_cosine(Span::Steps(3), 0.5)).unwrap();
    assert_eq!(toml::from_str::<LrSchedule>(&text).unwrap(), LrSchedule::warmup_cosine(Span::Steps(3), 0.5));
    assert!(LrSchedule::warmup_cosine(Span::Ratio(1.5), 0.0).check(true).is_err());
    assert!(LrSchedule::warmup_cosine(Span::Steps(1), f64::NAN).check(true).is_err());
}

proptest! {
    #[test]
    fn rates_stay_between_zero_and_base(total in 1u64..3000, step in 0u64..4000, warm in 0.0f64..1.0, end in 0.0f64..1.0, pct in 0.0f64..1.0) {
        let one = LrSchedule::OneCycle { pct_start: pct, div: 25.0, final_div: 1e4, cycle_momentum: true, base_momentum: 0.85, max_momentum: 0.95 };
        let all = [
            LrSchedule::Constant { warmup: Span::Ratio(warm) },
            LrSchedule::warmup_cosine(Span::Ratio(warm), end),
            LrSchedule::WarmupLinear { warmup: Span::Ratio(warm), end_factor: end },
            LrSchedule::Step { warmup: Span::default(), milestones: vec![Span::Ratio(warm), Span::Ratio(end)], gamma: 0.5 },
            one.clone(),
        ];
        for s in &all {
            let lr = s.lr(0.7, step, total);
            prop_assert!((0.0..=0.7 + 1e-12).contains(&lr), "{s:?} {lr}");
        }
        let b = one.beta1(step, total).unwrap();
        prop_assert!((0.85 - 1e-12..=0.95 + 1e-12).contains(&b), "{b}");
        let e = EmaSchedule::default();
        prop_assert!(e.value(step, total) <= 1.0 && e.value(step + 1, total) >= e.value(step, total));
    }

    #[test]
    fn cosine_and_linear_never_rise_after_warmup(total in 2u64..2000, warm in 0.0f64..1.0, end in 0.0f64..1.0) {
        for s in [LrSchedule::warmup_cosine(Span::Ratio(warm), end), LrSchedule::WarmupLinear { warmup: Span::Ratio(warm), end_factor: end }] {
            let from = Span::Ratio(warm).steps(total) as u64;
            for k in from..total {
                prop_assert!(s.lr(1.0, k + 1, total) <= s.lr(1.0, k, total) + 1e-12);
            }
        }
    }
}

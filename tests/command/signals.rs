//! Signals: what is recognised and said of them, pre-training, and `monitor` of a file and of a stream.

use crate::common::{Work, command, good, refused, selfsup};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

/// A pulse of 50 samples a beat at 100 Hz, and noise; upside down from `from` to `to`.
fn pulse(samples: usize, from: usize, to: usize) -> Vec<f64> {
    let mut state = 1u32;
    (0..samples)
        .map(|t| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noise = f64::from(state >> 16) / 65536.0 - 0.5;
            let phase = (t % 50) as f64 / 50.0;
            let beat = (-(phase - 0.3).powi(2) / 0.005).exp() + 0.3 * (-(phase - 0.6).powi(2) / 0.01).exp();
            let value = 80.0 + 40.0 * beat + 2.0 * noise;
            if (from..to).contains(&t) { 160.0 - value } else { value }
        })
        .collect()
}

fn table(values: &[f64], truth: Option<(usize, usize)>) -> String {
    let mut text = String::from("time (ms),ABP [mmHg]");
    text.push_str(if truth.is_some() { ",anomaly\n" } else { "\n" });
    for (t, v) in values.iter().enumerate() {
        let _ = write!(text, "{},{v:.3}", 10 * t);
        if let Some((from, to)) = truth {
            let _ = write!(text, ",{}", u8::from((from..to).contains(&t)));
        }
        text.push('\n');
    }
    text
}

/// A small encoder, trained for a moment.
fn trained(dir: &Work) -> String {
    dir.file("normal/a.csv", &table(&pulse(6000, 0, 0), None));
    let run = dir.text("run");
    good(&selfsup(&[
        "pretrain",
        "--data",
        &dir.text("normal"),
        "--out",
        &run,
        "modality=signals",
        "augment.length=100",
        "encoder.hidden=8",
        "encoder.dim=16",
        "encoder.depth=3",
        "train.steps=20",
        "eval.online_knn=0",
    ]));
    run
}

#[test]
fn files_of_monitors_are_recognised() {
    let dir = Work::new();
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/signal/files");
    for name in ["rec16.hea", "rec16.dat", "rec16.atr", "edf.edf"] {
        dir.write(&format!("d/{name}"), std::fs::read(files.join(name)).unwrap());
    }
    let said = good(&selfsup(&["data", "inspect", &dir.text("d")]));
    for part in
        ["modality: signals", "signals: 2", "rate 360 Hz", "annotation N", "unreadable: 0", "length: "]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    // Rates differ, and so do channels.
    let alone = dir.text("e");
    dir.write("e/a.edf", std::fs::read(files.join("edf.edf")).unwrap());
    let said = good(&selfsup(&["pretrain", "--data", &alone, "--dry-run"]));
    assert!(said.contains("no run was made"), "{said}");
    dir.write("d/broken.edf", b"0       nothing");
    refused(&selfsup(&["data", "inspect", &dir.text("d")]), &["1 of 3 signals cannot be read"]);
}

#[test]
fn an_event_is_found_and_a_stream_gives_the_same_scores() {
    let dir = Work::new();
    let run = trained(&dir);
    let values = pulse(3000, 1500, 1600);
    let test = dir.file("test.csv", &table(&values, Some((1500, 1600))));
    let out = dir.text("out");
    let said = good(&selfsup(&["monitor", &run, &test, "--truth", "anomaly", "--out", &out]));
    assert!(
        said.contains("1 of 1") && said.contains("random encoder") && said.contains("raw samples"),
        "{said}"
    );
    let report = dir.json("out/monitor.json");
    assert_eq!(report["found"][0]["detected"], 1, "{report}");
    assert_eq!((report["window"].as_u64(), report["stride"].as_u64()), (Some(100), Some(25)));
    let delay = report["found"][0]["delays"][0].as_f64().unwrap();
    assert!(delay > 0.0 && delay <= 1.25, "{delay}");
    let events = std::fs::read_to_string(dir.path("out/events.csv")).unwrap();
    assert!(events.lines().skip(1).any(|l| l.contains("anomaly")), "{events}");
    assert!(std::fs::read_to_string(dir.path("out/monitor.svg")).unwrap().contains("seconds"));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(dir.path("out")).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0);
    }
    // The same values, line by line.
    let mut child = command(&["monitor", &run, "-", "signal.source_rate=100"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let lines: String = values.iter().map(|v| format!("{v:.3}\n")).collect();
    let writer = std::thread::spawn(move || input.write_all(format!("ABP\n{lines}").as_bytes()).unwrap());
    let live = good(&child.wait_with_output().unwrap());
    writer.join().unwrap();
    let whole = std::fs::read_to_string(dir.path("out/scores.csv")).unwrap();
    assert_eq!(live.lines().count(), 1 + (3000 - 100) / 25 + 1);
    for (a, b) in live.lines().zip(whole.lines()).skip(1) {
        let of = |line: &str| -> Vec<f64> { line.split(',').map(|f| f.parse().unwrap()).collect() };
        let (a, b) = (of(a), of(b));
        assert!(a[0] == b[0] && (a[2] - b[2]).abs() < 1e-4 && a[3] == b[3], "{a:?} {b:?}");
    }
}

#[test]
fn what_cannot_be_monitored_is_named() {
    let dir = Work::new();
    let run = trained(&dir);
    let test = dir.file("test.csv", &table(&pulse(300, 0, 0), None));
    refused(&selfsup(&["monitor", &run, &test, "--truth", "bleeding"]), &["test.csv", "`bleeding`", "ABP"]);
    refused(&selfsup(&["monitor", &run, &test, "--false-alarms", "2"]), &["--false-alarms 2"]);
    refused(&selfsup(&["monitor", &run, &test, "--score", "magic"]), &["mahalanobis or knn"]);
    let short = dir.file("short.csv", &table(&pulse(50, 0, 0), None));
    refused(&selfsup(&["monitor", &run, &short]), &["short.csv", "100 samples"]);
    refused(&selfsup(&["monitor", &run, &test, "--normal", &short]), &["short.csv", "--normal"]);
    refused(&selfsup(&["monitor", &dir.text("nothing"), &test]), &["holds no run"]);
    let mut child = command(&["monitor", &run, "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"1,2\n").unwrap();
    refused(&child.wait_with_output().unwrap(), &["2 columns", "1 channels"]);
}

//! A run that is killed at random moments ends with the same bytes as one that is left alone.

use selfsup_core::Key;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ARGS: &[&str] = &[
    "pretrain",
    "--data",
    "fashion-mnist",
    "--no-probe",
    "data.limit=256",
    "data.hold_out=0",
    "encoder.name=resnet",
    "encoder.depths=[1, 1]",
    "encoder.widths=[8, 16]",
    "encoder.stem=8",
    "method.name=moco",
    "method.queue=100",
    "method.hidden_dim=16",
    "method.out_dim=8",
    "augment.size=16",
    "train.epochs=40",
    "train.batch_size=32",
    "train.checkpoint_every=1",
    "eval.online_knn=0",
];

fn start(out: &Path, resume: bool) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_selfsup"));
    command.args(ARGS).arg("--out").arg(out).stdout(Stdio::null()).stderr(Stdio::piped());
    if resume {
        command.arg("--resume");
    }
    command.spawn().unwrap()
}

fn finish(child: Child) {
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

fn newest(run: &Path) -> Option<Vec<u8>> {
    let mut files: Vec<_> = std::fs::read_dir(run.join("checkpoints"))
        .ok()?
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("step-")))
        .collect();
    files.sort();
    std::fs::read(files.last()?).ok()
}

/// An interrupt while a complete run is evaluated ends it at once: weights are there, and so is an earlier
/// evaluation.
#[test]
#[allow(unsafe_code)]
fn interrupted_evaluation() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let result = || -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(run.join("result.json")).unwrap()).unwrap()
    };
    let interrupt = |resume: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_selfsup"));
        let args = ARGS.iter().filter(|a| !matches!(**a, "--no-probe" | "data.limit=256"));
        command
            .args(args)
            .args(["train.steps=2", "data.test=fashion-mnist/test", "--out"])
            .arg(&run)
            .args(resume);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(said.any(|line| line.unwrap().starts_with("evaluating on")));
        // SAFETY: the process is ours and has not been waited for, so its number is its own.
        assert_eq!(unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGINT) }, 0);
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGINT));
    };
    interrupt(&[]);
    assert!(run.join("model/model.safetensors").is_file());
    assert_eq!((&result()["training"]["steps"], result().get("probe")), (&2.into(), None));
    let mut judged = result();
    judged["probe"] = "earlier".into();
    std::fs::write(run.join("result.json"), judged.to_string()).unwrap();
    interrupt(&["--resume"]);
    assert_eq!(result()["probe"], "earlier");
}

#[test]
fn killed_thirty_times() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    let began = Instant::now();
    finish(start(&whole, false));
    // Moments spread over a little more than the start of a process and a few steps, so that the run advances
    // between kills.
    let span = (began.elapsed() / 40).max(Duration::from_millis(120));
    let parts = dir.path().join("parts");
    let mut rng = Key::new(2026).rng();
    let mut kills = 0;
    while kills < 30 {
        let exists = parts.join("config.toml").exists();
        let mut child = start(&parts, exists);
        std::thread::sleep(span.mul_f32(0.1 + rng.uniform()));
        if child.try_wait().unwrap().is_none() {
            child.kill().unwrap(); // SIGKILL
        }
        let out = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&out.stderr);
        assert!(
            !text.contains("panicked") && !text.contains("damaged") && !text.contains("skipped:"),
            "{text}"
        );
        if out.status.success() {
            // It came through before it could be killed: further kills would prove nothing.
            panic!("the run was complete after {kills} kills: make it longer");
        }
        kills += 1;
    }
    finish(start(&parts, parts.join("config.toml").exists()));
    assert_eq!(
        newest(&whole).unwrap(),
        newest(&parts).unwrap(),
        "after {kills} kills the run ended with other bytes"
    );
}

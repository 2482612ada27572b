//! What every verb shares: a run that is read stays as it is, `--quiet`, `--json`, `--seed`, `--device`,
//! `--threads`, the states of runs and what is cleaned away.

use crate::common::{Work, command, ended, good, refused, selfsup};
use serde_json::Value;
use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

const SMALL: &[&str] = &[
    "encoder.name=resnet",
    "encoder.depths=[1, 1]",
    "encoder.widths=[8, 16]",
    "encoder.stem=8",
    "method.hidden_dim=8",
    "method.out_dim=4",
    "augment.size=16",
    "train.steps=3",
    "train.batch_size=8",
    "eval.few=[]",
    "eval.knn_k=3",
    "eval.online_knn=0",
];

impl Work {
    /// Folders `data/lying` and `data/standing` of 16 striped pictures each.
    fn with_stripes(&self) -> String {
        for i in 0..32u32 {
            let standing = i % 2 == 1;
            let picture = image::RgbImage::from_fn(16, 16, |x, y| {
                let along = if standing { x } else { y };
                image::Rgb([((along + i / 2) % 4 / 2 * 200 + i) as u8; 3])
            });
            let folder = self.path(&format!("data/{}", if standing { "standing" } else { "lying" }));
            std::fs::create_dir_all(&folder).unwrap();
            picture.save(folder.join(format!("{i:02}.png"))).unwrap();
        }
        self.text("data")
    }

    fn simclr(&self, out: &str, more: &[&str]) -> Output {
        let (data, out) = (self.text("data"), self.text(out));
        selfsup(&[&["pretrain", "--data", &data, "--out", &out][..], SMALL, more].concat())
    }
}

/// The one JSON object on the standard output.
fn object(output: &Output) -> Value {
    let text = good(output);
    let value: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    assert!(value.is_object(), "{text}");
    value
}

#[test]
fn a_run_that_is_read_stays_as_it_is() {
    let w = Work::new();
    let data = w.with_stripes();
    good(&w.simclr("run", &[]));
    let (run, tuned) = (w.text("run"), w.text("tuned"));
    good(&selfsup(&["finetune", "--run", &run, "--out", &tuned, "train.steps=2"]));
    let before = (w.listing("run"), w.listing("tuned"));
    assert!(before.0.len() > 8 && before.0.iter().any(|f| f.contains("tensorboard")), "{before:?}");
    let out = |name: &str| w.text(name);
    let (csv, npy, svg) = (out("e.csv"), out("e.npy"), out("c.svg"));
    let verbs: &[&[&str]] = &[
        &["probe", &run],
        &["probe", &run, "--data", &data, "--out", &out("probe.json")],
        &["embed", &run, "--out", &csv],
        &["embed", &run, "--data", &data, "--out", &npy],
        &["search", &run, &w.text("data/lying/00.png"), "--top", "2"],
        &["export", &run, "--out", &out("timm")],
        &["curves", &run, &tuned, "--out", &svg],
        &["predict", &tuned, &data],
        &["search", &run, &data, "--out", &out("near.csv")],
        &["runs", &out("")],
        &["runs", "compare", &run, &tuned],
    ];
    for verb in verbs {
        good(&selfsup(verb));
        assert!(before == (w.listing("run"), w.listing("tuned")), "{verb:?} wrote into the run");
    }
}

#[test]
fn results_as_json() {
    let w = Work::new();
    let data = w.with_stripes();
    let found = object(&w.simclr("run", &["--json"]));
    let run = w.text("run");
    assert_eq!((&found["run"], &found["training"]["steps"]), (&Value::from(run.clone()), &3.into()));
    assert!(found["probe"]["linear"]["trained"].is_number(), "{found}");
    let probed = object(&selfsup(&["--json", "probe", &run]));
    assert_eq!(probed["found"]["knn"]["trained"], found["probe"]["knn"]["trained"], "the same evaluation");
    let out = w.text("e.csv");
    let embedded = object(&selfsup(&["embed", &run, "--out", &out, "--json"]));
    assert_eq!((embedded["rows"].as_u64(), embedded["columns"].as_u64()), (Some(32), Some(16)));
    let tuned = w.text("tuned");
    let found = object(&selfsup(&["finetune", "--run", &run, "--out", &tuned, "train.steps=2", "--json"]));
    assert!(found["validation"]["accuracy"].is_number() && found["run"] == tuned.as_str(), "{found}");
    let predicted = object(&selfsup(&["predict", &tuned, &data, "--json"]));
    assert_eq!((predicted["rows"].as_array().unwrap().len(), predicted["count"].as_u64()), (32, Some(32)));
    assert!(predicted["rows"][0]["label"].is_string(), "{}", predicted["rows"][0]);
    let listed = object(&selfsup(&["runs", &w.text(""), "--json"]));
    assert_eq!(listed["runs"].as_array().unwrap().len(), 2);
    assert_eq!((&listed["runs"][0]["state"], &listed["runs"][0]["steps"]), (&"finished".into(), &3.into()));
    let dry = object(
        &command(&["pretrain", "--data", &data, "--dry-run", "--json"])
            .args(SMALL)
            .current_dir(w.path("data"))
            .output()
            .unwrap(),
    );
    assert!(dry["steps"] == 3 && dry["seconds_per_step"].as_f64().unwrap() > 0.0, "{dry}");
    for verb in [&["data", "inspect", &data][..], &["data", "list"], &["doctor"], &["config", "train.epochs"]]
    {
        object(&selfsup(&[verb, &["--json"]].concat()));
    }
    // An error is an object too.
    let failed = selfsup(&["probe", &w.text("absent"), "--json"]);
    ended(&failed, 2, &["absent"]);
    let failed: Value = serde_json::from_slice(&failed.stdout).unwrap();
    assert_eq!(failed["code"], 2);
}

#[test]
fn flags_of_every_verb() {
    let w = Work::new();
    let data = w.with_stripes();
    let loud = w.simclr("loud", &["--no-probe", "-v"]);
    let said = |o: &Output| (good(o), String::from_utf8_lossy(&o.stderr).into_owned());
    let (out, err) = said(&loud);
    assert!(out.contains("run folder:") && err.contains("[train]"), "{out}{err}");
    let (out, err) = said(&w.simclr("quiet", &["--no-probe", "--quiet", "--seed", "3", "--threads", "1"]));
    assert!(out.starts_with("trained 3 steps") && err.is_empty(), "{out}{err}");
    let seed = |run: &str| -> toml::Table {
        std::fs::read_to_string(w.path(&format!("{run}/config.toml"))).unwrap().parse().unwrap()
    };
    assert_eq!(seed("quiet")["train"]["seed"].as_integer(), Some(3));
    assert_eq!(seed("loud")["train"]["seed"].as_integer(), Some(0));
    let doctor = object(&selfsup(&["doctor", "--threads", "3", "--json"]));
    assert_eq!(doctor["threads"], 3);
    let (run, out) = (w.text("quiet"), w.text("e.csv"));
    good(&selfsup(&["embed", &run, "--out", &out, "--device", "cpu", "-q"]));
    refused(&selfsup(&["embed", &run, "--out", &out, "--device", "tpu"]), &["device", "tpu"]);
    refused(&selfsup(&["embed", &run, "--out", &out, "--seed", "1"]), &["--seed is not read"]);
    refused(&selfsup(&["curves", &run, "--device", "cpu"]), &["--device is not read"]);
    assert_eq!(selfsup(&["-q", "-v", "doctor"]).status.code(), Some(2));
    assert_eq!(selfsup(&["doctor", "--threads", "0"]).status.code(), Some(2));
    good(&selfsup(&["data", "inspect", &data, "-q"]));
}

#[test]
fn exports_are_not_written_over() {
    let w = Work::new();
    w.with_stripes();
    good(&w.simclr("run", &["--no-probe"]));
    let (run, out) = (w.text("run"), w.text("out"));
    good(&selfsup(&["export", &run, "--out", &out]));
    let weights = |folder: &str| std::fs::read(w.path(folder).join("model.safetensors")).unwrap();
    std::fs::write(w.path("out/model.safetensors"), "mine").unwrap();
    refused(&selfsup(&["export", &run, "--out", &out]), &["out", "not empty", "--force"]);
    refused(&selfsup(&["export", &run]), &["model", "not empty"]);
    assert_eq!(weights("out"), b"mine");
    good(&selfsup(&["export", &run, "--out", &out, "--force"]));
    assert_eq!(weights("out"), weights("run/model"));
}

fn states(w: &Work) -> Vec<(String, String)> {
    let listed = object(&selfsup(&["runs", &w.text("runs"), "--json"]));
    let name = |run: &Value| {
        Path::new(run["run"].as_str().unwrap()).file_name().unwrap().to_string_lossy().into_owned()
    };
    let runs = listed["runs"].as_array().unwrap();
    runs.iter().map(|run| (name(run), run["state"].as_str().unwrap().to_string())).collect()
}

#[cfg(unix)]
#[test]
#[allow(unsafe_code)]
fn states_of_runs() {
    let w = Work::new();
    let data = w.with_stripes();
    good(&w.simclr("runs/good", &["--no-probe", "train.checkpoint_every=1", "train.keep_last=0"]));
    ended(
        &w.simclr("runs/blown", &["--no-probe", "optim.kind=sgd", "optim.lr=1e30", "train.steps=50"]),
        1,
        &[],
    );
    // One that is killed, and one that is interrupted.
    let long = |name: &str| {
        let out = w.text(name);
        let args = ["--no-probe", "train.steps=100000", "train.checkpoint_every=1", "-q"];
        let child = command(&[&["pretrain", "--data", &data, "--out", &out][..], SMALL, &args].concat())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let began = Instant::now();
        while std::fs::read_dir(w.path(name).join("checkpoints")).map_or(0, Iterator::count) < 2 {
            assert!(began.elapsed() < Duration::from_secs(120), "no checkpoint of {name}");
            std::thread::sleep(Duration::from_millis(20));
        }
        child
    };
    let (mut killed, mut stopped) = (long("runs/killed"), long("runs/stopped"));
    let of = |state: &str| -> Vec<String> {
        states(&w).into_iter().filter(|(_, s)| s == state).map(|(name, _)| name).collect()
    };
    assert_eq!(
        (of("running"), of("failed")),
        (vec!["killed".to_string(), "stopped".into()], vec!["blown".into()])
    );
    killed.kill().unwrap();
    killed.wait().unwrap();
    // SAFETY: the process is ours and has not been waited for, so its number is its own.
    assert_eq!(unsafe { libc::kill(stopped.id() as libc::pid_t, libc::SIGINT) }, 0);
    assert_eq!(stopped.wait().unwrap().code(), Some(3));
    assert_eq!((of("finished"), of("stopped")), (vec!["good".to_string()], vec!["stopped".into()]));
    assert_eq!(of("failed"), ["blown", "killed"]);
    let said = good(&selfsup(&["runs", &w.text("runs")]));
    assert!(said.contains("without a word") && said.contains("simclr") && said.contains("resnet"), "{said}");
    let compared = good(&selfsup(&["runs", "compare", &w.text("runs/good"), &w.text("runs/blown")]));
    assert!(compared.contains("optim.lr") && compared.contains("1e30"), "{compared}");

    // Nobody is there to be asked.
    let folder = w.text("runs");
    let clean = ["runs", "clean", &folder];
    refused(&selfsup(&clean), &["nothing was removed", "--yes"]);
    assert!(w.path("runs/blown").exists());
    good(&selfsup(&[&clean[..], &["--yes"]].concat()));
    let names = |w: &Work| states(w).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(&w), ["good", "killed", "stopped"], "what can go on stays");
    let checkpoints = |name: &str| {
        let files = std::fs::read_dir(w.path(name).join("checkpoints")).unwrap();
        files.filter(|f| f.as_ref().unwrap().file_name().to_string_lossy().starts_with("step-")).count()
    };
    assert_eq!(checkpoints("runs/good"), 1);
    let out = w.text("e.csv");
    good(&selfsup(&["embed", &w.text("runs/good"), "--out", &out]));
    good(&selfsup(&[&clean[..], &["--failed", "--yes"]].concat()));
    assert_eq!(names(&w), ["good", "stopped"]);
    // The word of an earlier end goes when the run goes on.
    good(&w.simclr("runs/stopped", &["--no-probe", "--resume", "--allow-config-change", "train.steps=1"]));
    assert_eq!(states(&w)[1], ("stopped".to_string(), "finished".to_string()));
}

/// The command runs without the clone that it was built from: bundled data is inside.
#[test]
fn samples_travel_with_the_command() {
    let w = Work::new();
    let program = std::fs::read(env!("CARGO_BIN_EXE_selfsup")).unwrap();
    let there = |text: &[u8]| program.windows(text.len()).any(|w| w == text);
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/datasets/samples");
    assert!(!there(folder.as_bytes()), "the command looks for {folder}");
    let sample = std::fs::read(Path::new(folder).join("fashion-mnist/t10k-labels-idx1-ubyte.gz")).unwrap();
    assert!(there(&sample), "the sample is not in the command");
    // Elsewhere, with an empty cache.
    for name in ["fashion-mnist", "wordnet-glosses/test", "mni152", "festvox-ru"] {
        let inspect = command(&["data", "fetch", name])
            .env("SELFSUP_DATA", w.path("cache"))
            .current_dir(w.path("."))
            .output()
            .unwrap();
        assert!(good(&inspect).contains("bundled"), "{name}");
    }
    let unpacked = std::fs::read_dir(w.path("cache/bundled")).unwrap().count();
    assert_eq!(unpacked, 2, "only what needs paths is unpacked");
}

#[test]
fn keys_are_explained() {
    let said = good(&selfsup(&["config", "train.epochs"]));
    assert!(
        said.contains("`[train]`") && said.contains("Passes over the data") && said.contains("100"),
        "{said}"
    );
    let mae = good(&selfsup(&["config", "mae"]));
    assert!(mae.contains("mask_ratio") && mae.contains("images") && !mae.contains("momentum"), "{mae}");
    assert!(good(&selfsup(&["config"])).lines().count() > 300);
    refused(&selfsup(&["config", "trian"]), &["trian", "train"]);
}

//! Two processes at once, on one cache of a corpus and on one run; and what `--resume` refuses.

use crate::common::{SMALL_TEXT, Work, command, ended, line, refused, selfsup};
use std::process::Stdio;
use std::time::Duration;

/// Pairs of runs that start shortly after each other and share a cache end with the weights of a run that has
/// its own.
#[test]
fn runs_that_share_a_cache_get_the_same_weights() {
    let w = Work::new();
    let text = |n: usize| (0..n).map(line).collect::<Vec<_>>().join("\n");
    w.write("data/a.txt", text(6000));
    w.write("data/b.txt", text(3000));
    let data = w.text("data");
    let start = |out: &str, cache: &str| {
        let cache = format!("corpus.cache={:?}", w.text(cache));
        let (out, own) = (w.text(out), ["corpus.in_memory=0", cache.as_str(), "train.steps=2"]);
        let args =
            [&["pretrain", "--data", &data, "--out", &out, "--no-probe"][..], SMALL_TEXT, &own].concat();
        command(&args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let weights = |out: &str| std::fs::read(w.path(out).join("model/model.safetensors")).unwrap();
    ended(&start("alone", "cache").wait_with_output().unwrap(), 0, &[]);
    let alone = weights("alone");
    for (i, apart) in [0, 10, 40, 120, 250, 400].into_iter().enumerate() {
        let (cache, a, b) = (format!("cache-{i}"), format!("a-{i}"), format!("b-{i}"));
        let first = start(&a, &cache);
        std::thread::sleep(Duration::from_millis(apart));
        let second = start(&b, &cache);
        for (run, child) in [(a, first), (b, second)] {
            ended(&child.wait_with_output().unwrap(), 0, &[]);
            assert!(weights(&run) == alone, "{run}, {apart} ms apart, has other weights");
        }
    }
}

/// A run that is being written is refused to a second `--resume`, which names the folder.
#[test]
fn a_run_has_one_writer() {
    let w = Work::new();
    w.write("data/a.txt", (0..400).map(line).collect::<Vec<_>>().join("\n"));
    let (data, out) = (w.text("data"), w.text("run"));
    let args = [&["pretrain", "--data", &data, "--out", &out, "--no-probe"][..], SMALL_TEXT].concat();
    ended(&selfsup(&args), 0, &[]);
    let lock = selfsup_core::checkpoint::FolderLock::try_new(&w.path("run")).unwrap();
    assert!(lock.is_some(), "the first run has given it back");
    let again = [&args[..], &["--resume"]].concat();
    refused(&selfsup(&again), &[out.as_str(), "another process is writing this run"]);
    drop(lock);
    ended(&selfsup(&again), 0, &[]);
}

/// `--resume` needs a run, and goes on with the configuration and the samples that its checkpoint was made of.
#[test]
fn resume_goes_on_with_the_same_run_alone() {
    let w = Work::new();
    let lines = |n: usize| (0..n).map(line).collect::<Vec<_>>().join("\n");
    w.write("data/a.txt", lines(400));
    let (data, out) = (w.text("data"), w.text("run"));
    let args = [&["pretrain", "--data", &data, "--no-probe", "data.hold_out=0"][..], SMALL_TEXT].concat();
    refused(&selfsup(&[&args[..], &["--resume"]].concat()), &["--resume", "give its folder", "--out"]);
    let to = |more: &[&str]| selfsup(&[&args[..], &["--out", &out], more].concat());
    // In a folder without a run it starts one: the same command starts and goes on.
    ended(&to(&["--resume"]), 0, &[]);
    let loss = |w: &Work| w.json("run/result.json")["training"]["loss"].clone();
    let first = loss(&w);
    ended(&to(&["--resume"]), 0, &[]);
    assert!(first.is_f64() && loss(&w) == first, "a complete run keeps its loss");

    let config = std::fs::read_to_string(w.path("run/config.toml")).unwrap();
    let edited = config.replace("lr = 0.002", "lr = 0.02");
    assert_ne!(edited, config);
    w.write("run/config.toml", &edited);
    let alone =
        |more: &[&str]| selfsup(&[&["pretrain", "--no-probe", "--out", &out, "--resume"][..], more].concat());
    refused(&alone(&[]), &["config.toml", "optim.lr: 0.002 -> 0.02", "--allow-config-change"]);
    ended(&alone(&["--allow-config-change"]), 0, &[]);
    w.write("run/config.toml", &config);
    ended(&alone(&[]), 0, &[]);

    w.write("data/a.txt", lines(390));
    refused(&alone(&[]), &["trained on 400", "finds 390", &out, "--allow-config-change"]);
    w.write("data/a.txt", lines(400));
    ended(&alone(&[]), 0, &[]);
}

//! Two processes at once: on one cache of a corpus, and on one run.

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

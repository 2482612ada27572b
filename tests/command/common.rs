//! What the tests of the command share: a folder to work in, the command, and how it must end.
#![allow(clippy::unwrap_used)]
#![allow(dead_code)] // each test uses a part

use std::path::PathBuf;
use std::process::{Command, Output};

/// A folder that goes with the test.
pub struct Work(tempfile::TempDir);

impl Work {
    pub fn new() -> Self {
        Work(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The path as an argument.
    pub fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Writes a file, with the folders that it needs.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// As [`Work::write`], for the path as an argument.
    pub fn file(&self, name: &str, content: &str) -> String {
        self.write(name, content);
        self.text(name)
    }

    /// All files below a folder with their sizes and times: the same before and after what only reads.
    pub fn listing(&self, name: &str) -> Vec<String> {
        fn look(path: &std::path::Path, out: &mut Vec<String>) {
            for entry in std::fs::read_dir(path).unwrap() {
                let path = entry.unwrap().path();
                let meta = path.symlink_metadata().unwrap();
                let size = if meta.is_dir() { 0 } else { meta.len() };
                out.push(format!("{} {size} {:?}", path.display(), meta.modified().unwrap()));
                if meta.is_dir() {
                    look(&path, out);
                }
            }
        }
        let mut out = Vec::new();
        look(&self.path(name), &mut out);
        out.sort();
        out
    }

    pub fn json(&self, name: &str) -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(self.path(name)).unwrap()).unwrap()
    }
}

/// The command, on two threads.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_selfsup"));
    command.args(args).env("RAYON_NUM_THREADS", "2");
    command
}

pub fn selfsup(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

/// The command with at most 6 GB of address space; it is ended after a minute.
#[cfg(target_os = "linux")]
pub fn bounded(args: &[&str]) -> Output {
    let mut shell = Command::new("sh");
    let limits = "ulimit -v 6000000; exec timeout 60 \"$0\" \"$@\"";
    shell.args(["-c", limits, env!("CARGO_BIN_EXE_selfsup")]).args(args);
    shell.env("RAYON_NUM_THREADS", "2").output().unwrap()
}

/// What was said by a command that did its work.
pub fn good(output: &Output) -> String {
    ended(output, 0, &[]);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Bad input: exit code 2, no panic, a message with all of `parts`.
pub fn refused(output: &Output, parts: &[&str]) {
    ended(output, 2, parts);
}

/// Ended with this exit code, no panic, and a message with all of `parts`.
pub fn ended(output: &Output, code: i32, parts: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    for part in parts {
        assert!(text.contains(part), "expected \"{part}\" in: {text}");
    }
}

/// A text encoder that is trained in a moment on [`line`]s.
pub const SMALL_TEXT: &[&str] = &[
    "encoder.dim=32",
    "encoder.depth=1",
    "encoder.heads=2",
    "corpus.length=32",
    "tokenizer.vocab_size=150",
    "tokenizer.min_frequency=1",
    "train.batch_size=8",
    "train.steps=10",
    "optim.lr=2e-3",
    "eval.online_knn=0",
];

pub const WORDS: [&str; 12] =
    ["sun", "rain", "cloud", "wind", "snow", "storm", "iron", "gold", "tin", "lead", "zinc", "copper"];

/// Lines about the weather (even) and lines about metals (odd).
pub fn line(i: usize) -> String {
    let from = if i.is_multiple_of(2) { 0 } else { 6 };
    (0..8).map(|k| WORDS[from + (i * 5 + k * k * (1 + i % 3)) % 6]).collect::<Vec<_>>().join(" ")
}

//! Every reader of files, against damaged ones: flipped bits, numbers that lie, cuts, pieces of other files.
//!
//! A reader gives an error that names the file and has exit code 2, or it reads. It does not panic, does not
//! abort, takes no more than half a gigabyte and no more than ten seconds. `SELFSUP_FUZZ_SECONDS` says how
//! long each is tried (one second without it), `SELFSUP_FUZZ_SEED` which damage is done (0 without it).
//! Arguments that do not start with `-` filter by name; the path of a file behind a name reads that file
//! alone.
//!
//! Each reader runs in a process of its own, so that one which ends it names the input: it stays under
//! `target/tmp/fuzz`, and belongs into `tests/data/fuzz/READER/` once the fault is gone (docs/testing.md).

#![allow(clippy::print_stdout, clippy::unwrap_used)] // a report is what this test is

#[path = "fuzz/bound.rs"]
mod bound;
#[path = "fuzz/mutate.rs"]
mod mutate;
#[path = "fuzz/readers.rs"]
mod readers;
#[path = "fuzz/seal.rs"]
mod seal;
#[path = "fuzz/seeds.rs"]
mod seeds;

use mutate::{Rng, damaged};
use readers::{READERS, Reader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

#[global_allocator]
static MEMORY: bound::Counting = bound::Counting;

/// Bytes that reading one file may take.
const MOST: i64 = 512 << 20;
/// Time that it may take, on a machine that does other things too.
const LONGEST: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("--child") => {
            let seed = args[2].parse().unwrap();
            child(readers::of(&args[1]).unwrap(), seed, Duration::from_secs_f64(args[3].parse().unwrap()));
            return ExitCode::SUCCESS;
        }
        Some(name) if args.len() == 2 && Path::new(&args[1]).is_file() => {
            let Some(reader) = readers::of(name) else {
                println!("there is no reader {name}");
                return ExitCode::FAILURE;
            };
            bound::watch(Instant::now(), LONGEST);
            println!("{:?}", bound::bounded(MOST, Instant::now(), || (reader.read)(Path::new(&args[1]))));
            return ExitCode::SUCCESS;
        }
        // Nothing here is ignored, so there is nothing to run.
        _ if args.iter().any(|a| a == "--ignored" || a == "--list") => return ExitCode::SUCCESS,
        _ => {}
    }
    let number = |name: &str, without: f64| {
        std::env::var(name)
            .map_or(without, |v| v.parse().unwrap_or_else(|_| panic!("{name} = {v}: expected a number")))
    };
    let (seconds, seed) = (number("SELFSUP_FUZZ_SECONDS", 1.0), number("SELFSUP_FUZZ_SEED", 0.0) as u64);
    let filters: Vec<&String> = args.iter().filter(|a| !a.starts_with('-')).collect();
    let mut failed = 0;
    for reader in READERS {
        if filters.is_empty() || filters.iter().any(|f| reader.name.contains(f.as_str())) {
            failed += usize::from(!tried(reader, seed, seconds));
            let _ = std::fs::remove_dir_all(folder(reader));
        }
    }
    if let Some(root) = READERS.first().and_then(|r| folder(r).parent().map(Path::to_path_buf)) {
        let _ = std::fs::remove_dir_all(root);
    }
    println!("{failed} readers failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The folder where what a reader failed over stays.
fn finds(reader: &Reader) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz").join(reader.name)
}

/// The folder of a reader's inputs: in memory where the system has such a folder, since a disk takes longer to
/// write a file than a reader to read it.
fn folder(reader: &Reader) -> PathBuf {
    let memory = Path::new("/dev/shm");
    let root = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
    // Of the process that tries all readers.
    let number = std::env::var("SELFSUP_FUZZ_PARENT").unwrap_or_else(|_| std::process::id().to_string());
    root.join(format!("selfsup-fuzz-{number}")).join(reader.name)
}

/// Whether a process of its own ends well; it is begun again after a find, with other damage.
fn tried(reader: &Reader, seed: u64, seconds: f64) -> bool {
    let (start, finds) = (Instant::now(), finds(reader));
    let _ = std::fs::remove_dir_all(&finds);
    std::fs::create_dir_all(&finds).unwrap();
    let mut found = 0;
    loop {
        let left = (seconds - start.elapsed().as_secs_f64()).max(0.01);
        let ended = Command::new(std::env::current_exe().unwrap())
            .args(["--child", reader.name, &(seed + found).to_string(), &left.to_string()])
            .env_remove("RUST_BACKTRACE")
            .env("SELFSUP_FUZZ_PARENT", std::process::id().to_string())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ended.stdout);
        if ended.status.success() {
            println!("{}  {:16} {}", if found == 0 { "ok    " } else { "FAILED" }, reader.name, said.trim());
            return found == 0;
        }
        found += 1;
        let (input, kept) = (input(reader), finds.join(format!("find-{found}.{}", reader.ending)));
        std::fs::copy(&input, &kept).unwrap();
        let why = String::from_utf8_lossy(&ended.stderr);
        let why: Vec<&str> = said.lines().chain(why.lines()).filter(|l| !l.trim().is_empty()).collect();
        // The frames that say where: those of the allocator and of the runtime do not.
        let shown = why.iter().filter(|l| !l.contains("/rustc/") && !l.contains("fuzz/bound.rs")).take(40);
        println!("FAILED  {}: {} ({})", reader.name, kept.display(), ended.status);
        shown.for_each(|line| println!("    {line}"));
        if found == 10 || start.elapsed().as_secs_f64() > seconds {
            return false;
        }
    }
}

fn input(reader: &Reader) -> PathBuf {
    folder(reader).join("input").join(format!("input.{}", reader.ending))
}

/// Reads damaged files for `time`; ends the process over the first that is not read as it should be.
fn child(reader: &Reader, seed: u64, time: Duration) {
    let (work, path) = (folder(reader).join("seeds"), input(reader));
    std::fs::create_dir_all(&work).unwrap();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let (mut files, sealed) = seeds::of(reader.name, &work);
    let bad: Vec<Vec<u8>> = seeds::bad(reader.name).iter().map(|p| std::fs::read(p).unwrap()).collect();
    assert!(!files.is_empty() || !bad.is_empty(), "{} has no seeds", reader.name);
    let start = Instant::now();
    bound::watch(start, LONGEST);
    let mut rng = Rng(seed);
    // As they are: the seeds, without damage, and what was found before.
    let mut first: Vec<Vec<u8>> = files.iter().chain(&bad).cloned().collect();
    first.reverse();
    files.extend(bad);
    let (mut inputs, mut refused) = (0u64, 0u64);
    while !first.is_empty() || start.elapsed() < time {
        let content = first.pop().unwrap_or_else(|| {
            let chosen = rng.below(files.len());
            let mut content = damaged(&mut rng, &files[chosen], &files);
            if let Some(seal) = sealed.filter(|_| rng.below(8) > 0) {
                seal(&mut content);
            }
            content
        });
        std::fs::write(&path, content).unwrap();
        let read = bound::bounded(MOST, start, || {
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (reader.read)(&path)))
        });
        inputs += 1;
        match read {
            Ok(Ok(())) => {}
            Ok(Err(e)) => {
                refused += 1;
                let text = e.to_string();
                assert!(e.exit_code() == 2, "an error of exit code {}: {text}", e.exit_code());
                assert!(text.contains("input"), "an error that does not name the file: {text}");
            }
            Err(_) => std::process::exit(1),
        }
    }
    assert!(inputs > refused, "no file is read: the seeds are no good ones");
    println!("{inputs} inputs, {refused} refused");
}

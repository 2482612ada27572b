//! Which file of a crate takes which names from which other, and the circles in that.

use super::source::{Module, Use, modules};
use std::collections::{BTreeMap, BTreeSet};

/// Files by their path, `/` between folders.
pub type Files = BTreeMap<String, String>;

/// The names that each file takes from each other.
pub type Arrows = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// A module with the file that it stands in.
struct Placed {
    file: String,
    module: Module,
}

/// A crate's modules by their path from its root.
struct Crate(BTreeMap<Vec<String>, Placed>);

/// What a path leads to.
enum Found {
    Module(Vec<String>),
    /// Something that this file defines.
    Item(String),
}

/// The arrows of the crate whose root is the file `root`.
///
/// `mod x;` and `pub use` make no arrow. A name that is re-exported counts for the file that defines it, and a
/// module that is named counts for nothing until something is taken from it.
pub fn arrows(files: &Files, root: &str) -> Arrows {
    let mut all = Crate(BTreeMap::new());
    let folder = root.rsplit_once('/').map_or("", |(folder, _)| folder);
    all.place(files, root, folder, Vec::new());
    let mut arrows = Arrows::new();
    for (here, placed) in &all.0 {
        let mut take = |path: &[String], name: &str| {
            for found in all.find(here, path, &mut Vec::new()) {
                if let Found::Item(file) = found
                    && file != placed.file
                {
                    let names = arrows.entry(placed.file.clone()).or_default();
                    names.entry(file).or_default().insert(name.to_string());
                }
            }
        };
        for import in &placed.module.uses {
            match &import.name {
                // What a file hands on it takes only where it uses it itself.
                Some(name) if import.exported && !placed.module.words.contains(name) => {}
                None if import.exported => {}
                Some(_) => take(&import.path, import.path.last().map_or("", |n| n)),
                None => take(&[&import.path[..], &["*".to_string()]].concat(), "*"),
            }
        }
        for path in &placed.module.paths {
            let known = all.find(here, &path[..1], &mut Vec::new());
            let keyword = matches!(path[0].as_str(), "crate" | "self" | "super");
            // The `use` line of a type speaks for the paths through it.
            if keyword || known.iter().any(|f| matches!(f, Found::Module(_))) {
                take(path, path.last().map_or("", |n| n));
            }
        }
    }
    arrows
}

/// Groups of files that reach each other, each with the arrows inside it.
pub fn circles(arrows: &Arrows) -> Vec<Arrows> {
    let reach = |from: &str| {
        let mut seen = BTreeSet::new();
        let mut next = vec![from];
        while let Some(file) = next.pop() {
            for to in arrows.get(file).into_iter().flat_map(BTreeMap::keys) {
                if seen.insert(to.as_str()) {
                    next.push(to);
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&str, BTreeSet<&str>> = arrows.keys().map(|f| (f.as_str(), reach(f))).collect();
    let mut groups = BTreeSet::new();
    for (file, ahead) in &reached {
        let group: BTreeSet<&str> = ahead
            .iter()
            .copied()
            .filter(|f| reached.get(f).is_some_and(|back| back.contains(file)))
            .collect();
        if !group.is_empty() {
            groups.insert(group);
        }
    }
    let inside = |group: BTreeSet<&str>| -> Arrows {
        let mut kept = arrows.clone();
        kept.retain(|from, _| group.contains(from.as_str()));
        kept.values_mut().for_each(|to| to.retain(|to, _| group.contains(to.as_str())));
        kept
    };
    groups.into_iter().map(inside).collect()
}

impl Crate {
    /// Adds the file `file` as the module `path`, and the files of its modules, which lie in `folder`.
    fn place(&mut self, files: &Files, file: &str, folder: &str, path: Vec<String>) {
        let Some(text) = files.get(file) else { return };
        for module in modules(text) {
            let path = [&path[..], &module.inside[..]].concat();
            let folder = [&[folder.to_string()][..], &module.inside[..]].concat().join("/");
            for (name, _) in module.children.iter().filter(|(_, file)| *file) {
                let below = format!("{folder}/{name}");
                let path = [&path[..], std::slice::from_ref(name)].concat();
                for file in [format!("{below}.rs"), format!("{below}/mod.rs")] {
                    self.place(files, &file, &below, path.clone());
                }
            }
            self.0.insert(path, Placed { file: file.to_string(), module });
        }
    }

    /// What `path`, written in the module `here`, leads to; nothing where another crate has it. A name may be
    /// a module and a function at once.
    fn find<'a>(&'a self, here: &[String], path: &[String], asked: &mut Vec<&'a Use>) -> Vec<Found> {
        let Some(placed) = self.0.get(here) else { return Vec::new() };
        let Some((first, rest)) = path.split_first() else { return vec![Found::Module(here.to_vec())] };
        match first.as_str() {
            "crate" => return self.inside(&[], rest, asked),
            "self" => return self.inside(here, rest, asked),
            "super" if here.is_empty() => return Vec::new(),
            "super" => return self.inside(&here[..here.len() - 1], rest, asked),
            "*" => return vec![Found::Item(placed.file.clone())],
            _ => {}
        }
        let mut found = Vec::new();
        let child = [here, std::slice::from_ref(first)].concat();
        if self.0.contains_key(&child) {
            found.extend(self.inside(&child, rest, asked));
        }
        if placed.module.items.contains(first) && (rest.is_empty() || found.is_empty()) {
            found.push(Found::Item(placed.file.clone()));
        }
        let by_name = placed.module.uses.iter().filter(|u| u.name.as_ref() == Some(first));
        let globs = placed.module.uses.iter().filter(|u| u.name.is_none());
        for import in by_name.chain(globs) {
            // `use x::x` explains `x` by another crate, not by itself.
            if asked.iter().any(|a| std::ptr::eq(*a, import)) || import.name.is_none() && !found.is_empty() {
                continue;
            }
            asked.push(import);
            if import.name.is_some() {
                found.extend(self.find(here, &[&import.path[..], rest].concat(), asked));
            } else {
                for through in self.find(here, &import.path, asked) {
                    if let Found::Module(module) = through {
                        found.extend(self.find(&module, path, asked));
                    }
                }
            }
            asked.pop();
        }
        found
    }

    /// As [`Crate::find`], for a path behind `crate`, `self`, `super` or a module: a name that no line
    /// explains is the module's own.
    fn inside<'a>(&'a self, here: &[String], path: &[String], asked: &mut Vec<&'a Use>) -> Vec<Found> {
        if path.first().is_some_and(|s| s == "super") {
            return self.find(here, path, asked);
        }
        let found = self.find(here, path, asked);
        let Some(placed) = self.0.get(here).filter(|_| found.is_empty()) else { return found };
        // Exported macros are named from the root.
        let of_macro = |p: &&Placed| here.is_empty() && path.len() == 1 && p.module.macros.contains(&path[0]);
        let placed = self.0.values().find(of_macro).unwrap_or(placed);
        vec![Found::Item(placed.file.clone())]
    }
}

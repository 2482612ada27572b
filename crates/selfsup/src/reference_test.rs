//! docs/configuration.md is made here: every key with its type, its default and what its doc comment says.
//! The tests hold the page to the program: it is what the sources say now, every key that serde accepts
//! stands on it, and serde accepts every key that stands on it.

mod page;
mod source;

use crate::config::{Keys, PretrainConfig};
use crate::modality::Modality;
use crate::registry::{MODALITIES, with_modality};
use crate::task::TaskConfig;
use page::{Entry, Finder, Section, over_views, section, sentence, shown};
use selfsup_core::optim::{OptimConfig, OptimKind};
use selfsup_datasets::Kind;
use source::{Body, Item, Sources};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use toml::Value;

/// How the page is made again.
const COMMAND: &str = "SELFSUP_REFERENCE=write cargo test --lib the_page_of_all_keys";

const HEAD: &str = "\
# Configuration: all keys

A configuration is a TOML file of sections and keys; `KEY=VALUE` on the command line sets one key over it, as in
`selfsup pretrain run.toml train.epochs=20 method.temperature=0.1`. `selfsup config SECTION` prints a section of
this page, `selfsup config KEY` a key. A key that is not known, or that nothing reads, is an error.

A key without a default is absent unless it is given: its text says what happens then. *Fine-tuning* means
`selfsup finetune`, whose sections stand below those of the run that it starts from.

";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Sources {
    let mut folders: Vec<PathBuf> = ["core", "vision", "text", "speech", "medical", "signals", "selfsup"]
        .map(|c| root().join("crates").join(c).join("src"))
        .into();
    folders.push(root().join("datasets/src"));
    Sources::read(&folders)
}

/// A configuration with all its defaults.
fn defaults<K: Keys>(overrides: &[String]) -> Value {
    Value::try_from(PretrainConfig::<K>::load("", "defaults", overrides).unwrap()).unwrap()
}

/// The page's sections.
struct Made<'a> {
    finder: Finder<'a>,
    root: Item,
    sections: Vec<Section>,
}

impl Made<'_> {
    fn push(&mut self, title: String, kind: Option<Kind>, doc: String, entries: Vec<Entry>) {
        let modality = kind.map(|k| k.samples());
        let same = |s: &&mut Section| {
            s.title == title && s.entries == entries && s.doc == doc && !s.modalities.is_empty()
        };
        if let (Some(modality), Some(found)) = (modality, self.sections.iter_mut().find(same)) {
            found.modalities.push(modality);
            return;
        }
        let modalities = modality.into_iter().collect();
        self.sections.push(Section { title, modalities, doc, entries });
    }

    /// A section that is a struct of its own.
    fn plain(&mut self, name: &str, of: &Item, kind: Option<Kind>, all: &Value, below: Option<&Value>) {
        let Body::Fields(fields) = &of.body else { panic!() };
        let field = fields.iter().find(|f| f.name == name).unwrap();
        let item = self.finder.sources.find(&field.of, &of.file).unwrap().clone();
        let mut entries = Vec::new();
        // A section that is absent while it is the default.
        self.finder.entries(&item, name, all.get(name).or(below), &mut entries);
        self.push(format!("`[{name}]`"), kind, sentence(&field.doc), entries);
    }

    /// The sections of a modality.
    fn of_modality<M: Modality>(&mut self, medical: &Value) {
        let kind = M::Keys::KIND;
        let file = root().join(format!("crates/selfsup/src/modality/{kind}/mod.rs"));
        let keys = self.finder.sources.find("Keys", &file).unwrap().clone();
        let Body::Fields(fields) = &keys.body else { panic!() };
        for field in fields {
            let item = self.finder.sources.find(&field.of, &file).unwrap().clone();
            let Body::Variants(_) = &item.body else {
                let all = defaults::<M::Keys>(&[]);
                self.plain(&field.name, &keys, Some(kind), &all, medical.get(&field.name));
                continue;
            };
            let mut variants = self.finder.named(&item);
            if field.name == "method" {
                let shared = over_views(self.finder.sources, root());
                variants.extend(shared.into_iter().filter(|v| M::Keys::METHODS.contains(&&*v.0[0])));
                assert_eq!(variants.len(), M::Keys::METHODS.len());
            }
            for (names, doc, item) in variants {
                let first = vec![format!("{}.name={}", field.name, names[0])];
                let all = defaults::<M::Keys>(&first);
                let mut entries = Vec::new();
                self.finder.entries(&item, &field.name, all.get(&field.name), &mut entries);
                entries.retain(|e| e.key != "encoder.name");
                let names = names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
                self.push(format!("`[{}]` {names}", field.name), Some(kind), doc, entries);
            }
        }
    }
}

/// Adds where a default of fine-tuning, or of another optimiser, differs.
fn differing(sections: &mut [Section], common: &Value) {
    let task = Value::try_from(TaskConfig::<crate::modality::vision::Keys>::default()).unwrap();
    let at = |v: &Value, key: &str| key.split('.').try_fold(v.clone(), |v, p| v.get(p).cloned());
    let optim = |kind| Value::try_from(OptimConfig::of(kind)).unwrap();
    let others = [("sgd", optim(OptimKind::Sgd)), ("lars", optim(OptimKind::Lars))];
    let own = optim(OptimKind::Adamw);
    for e in sections.iter_mut().filter(|s| s.modalities.is_empty()).flat_map(|s| &mut s.entries) {
        let mut more = Vec::new();
        if let Some(other) =
            at(&task, &e.key).filter(|v| at(common, &e.key).as_ref() != Some(v) && !v.is_table())
        {
            more.push(format!("fine-tuning `{}`", shown(&other)));
        }
        if let Some(key) = e.key.strip_prefix("optim.").filter(|k| *k != "kind") {
            for (name, of) in &others {
                let other = at(of, key).filter(|v| at(&own, key).as_ref() != Some(v));
                more.extend(other.map(|v| format!("{name} `{}`", shown(&v))));
            }
        }
        if !e.key.starts_with("task") {
            e.others = more;
        }
    }
}

/// The sections, and the page.
fn made() -> (Vec<Section>, String) {
    let sources = sources();
    let config =
        sources.find("PretrainConfig", &root().join("crates/selfsup/src/config.rs")).unwrap().clone();
    let finder = Finder { sources: &sources, forms: BTreeMap::new() };
    let mut made = Made { finder, root: config, sections: Vec::new() };
    let common = defaults::<crate::modality::vision::Keys>(&[]);
    let root = made.root.clone();
    let Body::Fields(fields) = &root.body else { panic!() };
    let mut top = Item { body: root.body.clone(), ..root.clone() };
    top.body = Body::Fields(fields.iter().filter(|f| matches!(&*f.of, "Kind" | "Device")).cloned().collect());
    let mut entries = Vec::new();
    made.finder.entries(&top, "", Some(&common), &mut entries);
    // Which is found by looking at the data.
    entries.iter_mut().filter(|e| e.key == "modality").for_each(|e| e.default = None);
    made.push("Outside of sections".into(), None, String::new(), entries);
    for name in ["data", "train", "optim", "eval"] {
        made.plain(name, &root, None, &common, None);
    }
    let task =
        sources.find("TaskConfig", &self::root().join("crates/selfsup/src/task/config.rs")).unwrap().clone();
    let of_task = Value::try_from(TaskConfig::<crate::modality::vision::Keys>::default()).unwrap();
    made.plain("task", &task, None, &of_task, None);
    differing(&mut made.sections, &common);
    let medical = defaults::<crate::modality::medical::Keys>(&[]);
    for entry in MODALITIES {
        let found: selfsup_core::Result<()> = with_modality!(entry.kind, M => {
            made.of_modality::<M>(&medical);
            Ok(())
        });
        found.unwrap();
    }
    let mut text = HEAD.to_string();
    let own = made.sections.iter().position(|s| !s.modalities.is_empty()).unwrap();
    for (title, part) in [("Every modality", &made.sections[..own]), ("By modality", &made.sections[own..])] {
        text += &format!("## {title}\n\n");
        part.iter().for_each(|s| text += &section(s));
    }
    text += "## Tables as values\n\nForms that the keys above name.\n\n";
    text += &made.finder.shown_forms();
    (made.sections, text.trim_end().to_string() + "\n")
}

#[test]
fn the_page_of_all_keys_is_fresh() {
    let path = root().join("docs/configuration.md");
    let (_, page) = made();
    if std::env::var("SELFSUP_REFERENCE").is_ok_and(|v| v == "write") {
        std::fs::write(&path, &page).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    let line = page.lines().zip(there.lines().chain(std::iter::repeat(""))).find(|(a, b)| a != b);
    assert!(page == there, "{} is out of date, first at {line:?}: run `{COMMAND}`", path.display());
}

#[test]
fn every_key_has_a_text() {
    let (sections, page) = made();
    let silent: Vec<&str> =
        sections.iter().flat_map(|s| &s.entries).filter(|e| e.doc.is_empty()).map(|e| &*e.key).collect();
    assert!(silent.is_empty(), "no doc comment: {silent:?}");
    let bare: Vec<&str> =
        page.lines().filter(|l| l.trim_start().starts_with("- `") && l.ends_with("):")).collect();
    assert!(bare.iter().all(|l| l.len() > 90), "no doc comment: {bare:?}");
}

/// Every key that a configuration writes or that serde lists as expected stands in a section of the page,
/// and every key of a section is one that serde knows there.
#[test]
fn the_page_and_serde_know_the_same_keys() {
    let (sections, _) = made();
    for entry in MODALITIES {
        let found: selfsup_core::Result<()> = with_modality!(entry.kind, M => {
            same_keys::<M>(&sections);
            Ok(())
        });
        found.unwrap();
    }
    let task = sections.iter().find(|s| s.title == "`[task]`").unwrap();
    let odd =
        TaskConfig::<crate::modality::vision::Keys>::load("[task]\nzz = 1", "t", &[], None).unwrap_err();
    let keys: BTreeSet<String> = expected(&odd.to_string()).iter().map(|k| format!("task.{k}")).collect();
    assert_eq!(keys, task.entries.iter().map(|e| e.key.clone()).collect());
}

/// What serde lists as expected.
fn expected(e: &str) -> Vec<String> {
    let listed = e.split("expected one of ").nth(1).unwrap_or_default();
    listed.split('`').skip(1).step_by(2).map(str::to_string).collect()
}

fn same_keys<M: Modality>(sections: &[Section]) {
    let samples = M::Keys::KIND.samples();
    let here = |s: &&Section| s.modalities.is_empty() || s.modalities.contains(&samples);
    let mut names: Vec<(String, Vec<String>)> = Vec::new();
    for s in sections.iter().filter(here).filter(|s| !s.title.starts_with("`[task]")) {
        let parts: Vec<&str> =
            s.title.split('`').filter(|p| !p.trim_matches([' ', ',']).is_empty()).collect();
        let table = parts[0].trim_matches(['[', ']']);
        let set: Vec<String> = parts.get(1).map(|n| format!("{table}.name={n}")).into_iter().collect();
        let load =
            |more: Vec<String>| PretrainConfig::<M::Keys>::load("", "c", &[set.clone(), more].concat());
        // Known to serde: with a value that nothing takes it is refused for its value, not as unknown.
        for e in &s.entries {
            let problem =
                load(vec![format!("{}=1979-05-27", e.key)]).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(
                !problem.contains("unknown key") && !problem.contains("is a key of"),
                "{}: {problem}",
                e.key
            );
        }
        names.push((table.to_string(), set.clone()));
        // On the page: what is written, and what serde lists in each table.
        let all = Value::try_from(load(Vec::new()).unwrap()).unwrap();
        let keys: BTreeSet<&str> = s.entries.iter().map(|e| &*e.key).collect();
        let opaque: Vec<String> =
            s.entries.iter().filter(|e| e.of != "table" && e.table).map(|e| e.key.clone()).collect();
        let mut tables = vec![table.to_string()];
        tables.extend(s.entries.iter().filter(|e| e.of == "table").map(|e| e.key.clone()));
        let mut missing = BTreeSet::new();
        if table != "Outside of sections" {
            let mut written = BTreeSet::new();
            leaves(all.get(table), table, &mut written);
            for t in &tables {
                let odd = load(vec![format!("{t}.zz=1")]).unwrap_err().to_string();
                written.extend(expected(&odd).iter().map(|k| format!("{t}.{k}")));
            }
            missing.extend(written.into_iter().filter(|k| {
                let tag = set.first().is_some_and(|s| s.starts_with(&format!("{k}=")));
                let inside = opaque.iter().any(|o| k.starts_with(&format!("{o}.")));
                !tag && !inside && !keys.contains(&**k)
            }));
        }
        assert!(missing.is_empty(), "{samples}, {}: not on the page: {missing:?}", s.title);
    }
    // No section is left out.
    let tables: BTreeSet<&str> = names.iter().map(|n| &*n.0).collect();
    let all = PretrainConfig::<M::Keys>::load("zz = 1", "c", &[]).unwrap_err().to_string();
    let written = defaults::<M::Keys>(&[]);
    for (key, v) in written.as_table().unwrap() {
        assert!(!v.is_table() || tables.contains(&**key), "{samples}: [{key}] is not on the page ({all})");
    }
    for method in M::Keys::METHODS {
        let set = format!("method.name={method}");
        assert!(names.iter().any(|n| n.1.contains(&set)), "{samples}: {method} is not on the page");
    }
}

fn leaves(v: Option<&Value>, path: &str, out: &mut BTreeSet<String>) {
    match v {
        Some(Value::Table(t)) => t.iter().for_each(|(k, v)| leaves(Some(v), &format!("{path}.{k}"), out)),
        Some(_) => drop(out.insert(path.to_string())),
        None => {}
    }
}

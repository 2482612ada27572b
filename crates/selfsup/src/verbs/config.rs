//! `selfsup config`: the reference of all configuration keys, which is made from the doc comments of the
//! structs that are read (docs/configuration.md).

use crate::say::{say, say_text};
use selfsup_core::{Error, Result};

/// The page.
const PAGE: &str = include_str!("../../../../docs/configuration.md");

/// Prints the whole page, the sections of a name (`train`, `method`, `method.mae`, `mae`, a form of a table),
/// or a key (`train.epochs`).
///
/// # Errors
/// If there is no section and no key of that name.
pub fn run(what: Option<&str>) -> Result<()> {
    let Some(what) = what else {
        say_text!("{PAGE}");
        crate::say::result(&serde_json::json!({ "text": PAGE }));
        return Ok(());
    };
    let what = what.trim_matches(['[', ']', '`']);
    let found = found(PAGE, what);
    if found.is_empty() {
        return Err(Error::input(
            what,
            format!("no such section or key: expected one of {}", sections(PAGE).join(", ")),
        ));
    }
    say!("{}", found.join("\n\n"));
    crate::say::result(&serde_json::json!({ "name": what, "parts": found }));
    Ok(())
}

/// The parts of the page from a heading of the third level to the next one.
fn parts(page: &str) -> impl Iterator<Item = (&str, &str)> {
    page.split("\n### ").skip(1).map(|part| {
        let part = part.split("\n## ").next().unwrap_or(part);
        part.split_once('\n').unwrap_or((part, ""))
    })
}

/// The name of a section and of what it belongs to: `method` and `["simclr"]`.
fn names(title: &str) -> (&str, Vec<&str>) {
    let mut quoted = title.split('`').skip(1).step_by(2);
    match quoted.next() {
        Some(section) => (section.trim_matches(['[', ']']), quoted.collect()),
        None => (title.split(" (").next().unwrap_or(title), Vec::new()),
    }
}

/// The names of the sections, each once.
fn sections(page: &str) -> Vec<&str> {
    let mut out: Vec<&str> = Vec::new();
    for (section, _) in parts(page).map(|(title, _)| names(title)) {
        if !out.contains(&section) {
            out.push(section);
        }
    }
    out
}

/// Whole sections of a name, else the keys of that name, below the heading of their section.
fn found(page: &str, what: &str) -> Vec<String> {
    let (table, name) = what.split_once('.').unwrap_or((what, ""));
    let mut whole = Vec::new();
    let mut single = Vec::new();
    for (title, body) in parts(page) {
        let (section, own) = names(title);
        if section == what || own.contains(&what) || section == table && own.contains(&name) {
            whole.push(format!("{title}\n{}", body.trim_end()));
        }
        // The key, and those of the table that it is.
        let keys: Vec<&str> = body
            .split("\n- ")
            .skip(1)
            .filter(|item| {
                let key = item.split('`').nth(1).unwrap_or_default();
                key == what || key.strip_prefix(what).is_some_and(|rest| rest.starts_with('.'))
            })
            .collect();
        if !keys.is_empty() {
            let keys: Vec<String> = keys.iter().map(|k| format!("- {}", k.trim_end())).collect();
            single.push(format!("{title}\n\n{}", keys.join("\n")));
        }
    }
    if whole.is_empty() { single } else { whole }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOME: &str = "# All\n\n## Every\n\n### `[train]`\n\nThe loop.\n\n- `train.epochs` (whole number): Passes.\n  More.\n- `train.steps` (whole number): Steps.\n\n## By modality\n\n### `[method]` `simclr`: images, volumes\n\n- `method.temperature` (number): T.\n- `method.mask.prob` (number): P.\n\n### `[method]` `byol`: images\n\n- `method.momentum` (number): M.\n\n## Tables\n\n### Span\n\n- `{ ratio = ... }` (number): Share.\n";

    #[test]
    fn sections_keys_and_forms() {
        assert_eq!(sections(SOME), ["train", "method", "Span"]);
        assert_eq!(found(SOME, "train").len(), 1);
        assert!(found(SOME, "train")[0].ends_with("Steps."));
        assert_eq!(found(SOME, "method").len(), 2);
        for one in ["simclr", "method.simclr"] {
            assert_eq!(
                (found(SOME, one).len(), found(SOME, one)[0].contains("`[method]` `simclr`: images")),
                (1, true)
            );
        }
        assert_eq!(
            found(SOME, "train.epochs"),
            ["`[train]`\n\n- `train.epochs` (whole number): Passes.\n  More."]
        );
        assert_eq!(
            found(SOME, "method.mask"),
            ["`[method]` `simclr`: images, volumes\n\n- `method.mask.prob` (number): P."]
        );
        assert!(found(SOME, "Span")[0].contains("Share"));
        assert!(found(SOME, "train.epoch").is_empty() && found(SOME, "").is_empty());
    }
}

//! Which column of a table holds what: by its name, or as [`Columns`] says.

use super::names::{ROLES, Role, SITES, plain};
use selfsup_core::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Names of columns for a table whose own names say nothing, or too much: `data.columns` of a configuration.
///
/// A name is that of a column, or the path of a key in nested JSON (`meta.patient`). An empty name means that
/// no column is taken. What is left out is found by the usual names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Columns {
    /// The file of a record, or its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Its class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The sample itself, or the transcript of a recording.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The file of its label volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask: Option<String>,
    /// What stays on one side of a split.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Its part: train, validation or test.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
}

impl Columns {
    /// Whether every column is found by its name.
    pub fn is_default(&self) -> bool {
        *self == Columns::default()
    }

    fn named(&self, role: Role) -> Option<&str> {
        match role {
            Role::Path => self.path.as_deref(),
            Role::Label => self.label.as_deref(),
            Role::Text => self.text.as_deref(),
            Role::Mask => self.mask.as_deref(),
            Role::Group => self.group.as_deref(),
            Role::Split => self.split.as_deref(),
        }
    }
}

/// How often the values of a column differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Spread {
    /// Values that are not empty.
    pub(super) filled: usize,
    /// Different ones of them.
    pub(super) distinct: usize,
}

/// The columns of a table by what they hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Chosen {
    roles: Vec<Option<Role>>,
    /// Whether the records are named by identifiers that were not asked for.
    pub(super) weak_path: bool,
    /// What was taken and what was not, for the one who reads along.
    pub(super) notes: Vec<String>,
}

impl Chosen {
    /// What column `index` holds.
    pub(super) fn role(&self, index: usize) -> Option<Role> {
        *self.roles.get(index)?
    }

    /// The column that holds `role`.
    pub(super) fn column(&self, role: Role) -> Option<usize> {
        self.roles.iter().position(|r| *r == Some(role))
    }
}

/// Finds out what each column of the table at `path` holds. `spread` looks at the values of a column.
///
/// # Errors
/// If a named column is absent, two could be the same, or no column names records or holds texts.
pub(super) fn choose(
    path: &Path,
    head: &[String],
    columns: &Columns,
    spread: &dyn Fn(usize) -> Spread,
) -> Result<Chosen> {
    let names: Vec<String> = head.iter().map(|h| plain(h)).collect();
    let mut roles: Vec<Option<Role>> = vec![None; head.len()];
    for role in ROLES {
        let Some(name) = columns.named(role).filter(|n| !n.is_empty()) else { continue };
        let exact = head.iter().position(|h| h.trim() == name);
        let index = exact.or_else(|| names.iter().position(|n| *n == plain(name))).ok_or_else(|| {
            let problem = format_args!(
                "data.columns.{} = \"{name}\": no such column; the columns are {}",
                role.key(),
                list(head)
            );
            Error::file(path, problem)
        })?;
        if let Some(other) = roles[index] {
            let problem =
                format_args!("column `{name}` is named by data.columns.{} and .{}", other.key(), role.key());
            return Err(Error::file(path, problem));
        }
        roles[index] = Some(role);
    }
    let (mut weak_path, mut notes) = (false, Vec::new());
    for role in ROLES {
        if columns.named(role).is_some() {
            continue;
        }
        let tier = |i: usize| if roles[i].is_some() { None } else { role.tier(&names[i]) };
        let mut found: Vec<(usize, usize)> = (0..head.len()).filter_map(|i| Some((tier(i)?, i))).collect();
        if role == Role::Group {
            // A column without values divides nothing.
            found.retain(|&(_, i)| spread(i).filled > 0);
            // The coarsest: by its name, then by its values.
            found.sort_by_key(|&(tier, i)| (tier, spread(i).distinct, i));
            if let [(_, first), rest @ ..] = &found[..]
                && !rest.is_empty()
            {
                let rest: Vec<String> = rest.iter().map(|&(_, i)| head[i].clone()).collect();
                notes.push(format!(
                    "groups: {} columns could be, and the coarsest is taken, `{}`, not {}; another one with \
                     data.columns.group",
                    rest.len() + 1,
                    head[*first].trim(),
                    list(&rest)
                ));
            }
        }
        let best = found.iter().map(|&(tier, _)| tier).min();
        found.retain(|&(tier, _)| Some(tier) == best);
        match found[..] {
            [] => {}
            [(_, first), (_, second), ..] if role != Role::Group => {
                let key = role.key();
                let problem = format_args!(
                    "line 1: columns `{}` and `{}` could both be the {key}: name one, \
                     data.columns.{key} = \"{}\"",
                    head[first].trim(),
                    head[second].trim(),
                    head[first].trim()
                );
                return Err(Error::file(path, problem));
            }
            [(tier, first), ..] => {
                roles[first] = Some(role);
                weak_path |= role == Role::Path && tier > 0;
            }
        }
    }
    let chosen = Chosen { roles, weak_path, notes };
    if chosen.column(Role::Path).or(chosen.column(Role::Text)).is_none() {
        let problem = format_args!(
            "line 1: columns {}: expected one called path or text (names that are known: {}; {}); another one \
             is named by data.columns.path or data.columns.text",
            list(head),
            Role::Path.synonyms(),
            Role::Text.synonyms()
        );
        return Err(Error::file(path, problem));
    }
    Ok(describe(chosen, path, head, &names, spread))
}

/// Adds notes on what was taken, what was not, and what might have been.
fn describe(
    mut chosen: Chosen,
    path: &Path,
    head: &[String],
    names: &[String],
    spread: &dyn Fn(usize) -> Spread,
) -> Chosen {
    let taken: Vec<String> = ROLES
        .iter()
        .filter_map(|&r| Some(format!("{} `{}`", r.key(), head[chosen.column(r)?].trim())))
        .collect();
    let ignored: Vec<usize> = (0..head.len()).filter(|&i| chosen.roles[i].is_none()).collect();
    let mut line = format!("{}: read as {}", path.display(), taken.join(", "));
    if !ignored.is_empty() {
        let ignored: Vec<String> = ignored.iter().map(|&i| head[i].clone()).collect();
        line.push_str(&format!("; not read: {}", list(&ignored)));
    }
    if chosen.column(Role::Label).is_none() && chosen.column(Role::Path).is_some() {
        line.push_str(&format!(
            "; no label (names that are known: {}; another one: data.columns.label)",
            Role::Label.synonyms()
        ));
    }
    chosen.notes.insert(0, line);
    match chosen.column(Role::Group) {
        Some(group) => {
            let rows = (0..head.len()).map(|i| spread(i).filled).max().unwrap_or(0);
            let filled = spread(group).filled;
            if filled < rows {
                chosen.notes.push(format!(
                    "warning: {} of {rows} rows have no `{}`: each of them is a group of its own",
                    rows - filled,
                    head[group].trim()
                ));
            }
        }
        None => {
            // What repeats and is called an identifier, or a place or machine.
            let may = |&&i: &&usize| {
                let name = &names[i];
                let called = SITES.contains(&name.as_str()) || name.ends_with("id") || name.ends_with("uid");
                let Spread { filled, distinct } = if called { spread(i) } else { Spread::default() };
                distinct > 1 && distinct < filled
            };
            let may: Vec<String> = ignored.iter().filter(may).map(|&i| head[i].clone()).collect();
            if let Some(first) = may.first() {
                chosen.notes.push(format!(
                    "no groups are known, and {} could be some: data.columns.group = \"{}\" keeps each on one \
                     side of a split",
                    list(&may),
                    first.trim()
                ));
            }
        }
    }
    if let (Some(_), sites @ [_, ..]) = (
        chosen.column(Role::Group),
        &*ignored
            .iter()
            .filter(|&&i| SITES.contains(&names[i].as_str()))
            .map(|&i| head[i].clone())
            .collect::<Vec<_>>(),
    ) {
        chosen.notes.push(format!(
            "{} could be groups too, and are not taken unasked (data.columns.group)",
            list(sites)
        ));
    }
    chosen
}

/// Names in backquotes, the first fifty.
fn list(names: &[String]) -> String {
    let mut out: Vec<String> = names.iter().take(50).map(|n| format!("`{}`", n.trim())).collect();
    if names.len() > 50 {
        out.push(format!("and {} more", names.len() - 50));
    }
    out.join(", ")
}

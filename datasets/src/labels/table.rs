//! The text of a table of labels as rows.

use super::cells::{Cell, Cells};
use super::columns::{Chosen, Columns, choose};
use super::names::Role;
use super::row::Row;
use crate::split::Split;
use selfsup_core::{Error, Result};
use std::path::Path;

/// The rows of a table, and what its columns were taken for.
pub(super) fn rows(path: &Path, cells: Cells, columns: &Columns) -> Result<(Vec<Row>, Chosen)> {
    if cells.head.is_empty() {
        return Ok((Vec::new(), Chosen::default()));
    }
    let chosen = choose(path, &cells.head, columns, &|column| cells.spread(column))?;
    let mut rows = Vec::with_capacity(cells.lines.len());
    for (line, values) in cells.lines {
        let mut row = Row { line, ..Row::default() };
        for (column, cell) in values {
            let Some(role) = chosen.role(column) else { continue };
            match cell {
                Cell::Text(value) => put(path, &mut row, role, &value)?,
                Cell::List => {
                    let problem =
                        format_args!("line {line}: `{}`: expected a text or a number", cells.head[column]);
                    return Err(Error::file(path, problem));
                }
            }
        }
        if row.path.is_none() && row.text.is_none() && (row.label.is_some() || row.group.is_some()) {
            let key = if chosen.column(Role::Path).is_some() { "path" } else { "text" };
            return Err(Error::file(path, format_args!("line {line} has no {key}")));
        }
        rows.push(row);
    }
    Ok((rows, chosen))
}

/// Puts a value into a row.
fn put(path: &Path, row: &mut Row, role: Role, value: &str) -> Result<()> {
    let value = value.trim();
    if value.is_empty() {
        return Ok(());
    }
    let text = Some(value.to_string());
    match role {
        Role::Path => row.path = text,
        Role::Label => row.label = text,
        Role::Text => row.text = text,
        Role::Mask => row.mask = text,
        Role::Group => row.group = text,
        Role::Split => {
            row.split = Some(Split::named(value).ok_or_else(|| {
                let problem =
                    format_args!("line {}: split `{value}`: expected train, validation or test", row.line);
                Error::file(path, problem)
            })?);
        }
    }
    Ok(())
}

//! TOML texts: what a text says, and at which line.

use crate::error::{Error, Result};
use std::collections::BTreeMap;
use toml::Table;

pub(super) fn parse(text: &str, file: &str) -> Result<Table> {
    text.parse::<Table>().map_err(|e| {
        let line = e.span().map_or_else(String::new, |s| format!(":{}", line_of(text, s.start)));
        Error::config(format!("{file}{line}: {}", e.message().trim_end()))
    })
}

fn line_of(text: &str, byte: usize) -> usize {
    1 + text.bytes().take(byte).filter(|&b| b == b'\n').count()
}

/// `file:line` of every key, by dotted path.
pub(super) fn lines(text: &str, file: &str) -> BTreeMap<String, String> {
    use toml::de::{DeTable, DeValue};
    fn walk(t: &DeTable<'_>, path: &str, out: &mut impl FnMut(String, usize)) {
        for (k, v) in t {
            let key =
                if path.is_empty() { k.get_ref().to_string() } else { format!("{path}.{}", k.get_ref()) };
            out(key.clone(), k.span().start);
            match v.get_ref() {
                DeValue::Table(t) => walk(t, &key, out),
                DeValue::Array(a) => {
                    for (i, e) in a.iter().enumerate() {
                        out(format!("{key}.{i}"), e.span().start);
                        if let DeValue::Table(t) = e.get_ref() {
                            walk(t, &format!("{key}.{i}"), out);
                        }
                    }
                }
                _ => {}
            }
        }
    }
    let mut out = BTreeMap::new();
    if let Ok(t) = DeTable::parse(text) {
        walk(t.get_ref(), "", &mut |key, byte| {
            out.insert(key, format!("{file}:{}", line_of(text, byte)));
        });
    }
    out
}

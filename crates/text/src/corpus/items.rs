//! Texts of JSON: the value under a key, and the items of a file that is read whole.

use super::lines::Lines;
use selfsup_core::{Error, Result};
use serde_json::Value;
use std::collections::VecDeque;
use std::path::Path;

/// The largest JSON file that is read whole; above it JSON lines are read one by one.
const MAX_JSON: usize = 1 << 30;

/// The text under `key`: one of the object's keys, or the path to one in nested objects (`meta.text`).
///
/// # Errors
/// Naming the file, the line and the keys, if there is none.
pub(super) fn text_of(path: &Path, line: usize, json: &Value, key: &str) -> Result<String> {
    let nested = || key.split('.').try_fold(json, |value, name| value.get(name));
    json.get(key).or_else(nested).and_then(Value::as_str).map(str::to_string).ok_or_else(|| {
        let mut keys = Vec::new();
        list_keys(json, String::new(), 4, &mut keys);
        keys.truncate(30);
        Error::file(path, format!("line {line}: no text under \"{key}\", the keys are {}", keys.join(", ")))
    })
}

fn list_keys(json: &Value, above: String, depth: usize, keys: &mut Vec<String>) {
    let Some(object) = json.as_object() else { return };
    for (name, value) in object {
        let key = if above.is_empty() { name.clone() } else { format!("{above}.{name}") };
        if value.is_object() && depth > 0 {
            list_keys(value, key, depth - 1, keys);
        } else {
            keys.push(key);
        }
    }
}

/// The texts of a `.json` file with their lines: those of an array of objects (or of texts), of the one array
/// that an object holds, of one object, or of an object a line. Items of an array inside of an object are
/// counted instead of lines.
///
/// # Errors
/// If the file is larger than 1 GiB, is none of these, or an item has no text under `key`.
pub(super) fn items(lines: &mut Lines, path: &Path, key: &str) -> Result<VecDeque<(usize, String)>> {
    let mut text = String::new();
    while let Some(line) = lines.next(path)? {
        if text.len() + line.len() > MAX_JSON {
            return Err(Error::file(path, "is larger than 1 GiB: write an object a line into a .jsonl file"));
        }
        text.push_str(&line);
    }
    let take = |(line, value): (usize, Value)| match value {
        Value::String(text) => Ok((line, text)),
        value => Ok((line, text_of(path, line, &value, key)?)),
    };
    if text.trim().is_empty() {
        return Ok(VecDeque::new());
    }
    if text.trim_start().starts_with('[') {
        return array(path, &text)?.into_iter().map(take).collect();
    }
    let wrong = |line: usize, e: serde_json::Error| Error::file(path, format!("line {line}: not JSON: {e}"));
    let mut written = text.lines().filter(|l| !l.trim().is_empty());
    let first = written.next().unwrap_or_default();
    if written.next().is_some() && serde_json::from_str::<Value>(first).is_ok() {
        let lines = text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty());
        return lines
            .map(|(i, l)| take((i + 1, serde_json::from_str(l).map_err(|e| wrong(i + 1, e))?)))
            .collect();
    }
    let whole: Value = serde_json::from_str(&text).map_err(|e| wrong(e.line(), e))?;
    let lists: Vec<&Vec<Value>> =
        whole.as_object().into_iter().flatten().filter_map(|(_, v)| v.as_array()).collect();
    match (text_of(path, 1, &whole, key), &lists[..]) {
        (Ok(text), _) => Ok([(1, text)].into()),
        (Err(_), [list]) => list.iter().enumerate().map(|(i, v)| take((i + 1, v.clone()))).collect(),
        (Err(e), _) => Err(e),
    }
}

/// The items of an array with the lines that they begin in.
fn array(path: &Path, text: &str) -> Result<Vec<(usize, Value)>> {
    let (mut items, mut line, mut rest) = (Vec::new(), 1, text);
    let mut at = text.find('[').map_or(text.len(), |i| i + 1);
    loop {
        line += rest[..at].matches('\n').count();
        rest = &rest[at..];
        let blank = rest.len() - rest.trim_start().len();
        line += rest[..blank].matches('\n').count();
        rest = &rest[blank..];
        if let Some(end) = rest.strip_prefix(']') {
            return match end.trim() {
                "" => Ok(items),
                _ => Err(Error::file(path, format!("line {line}: text after the end of the array"))),
            };
        }
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        match values.next() {
            Some(Ok(value)) => items.push((line, value)),
            Some(Err(e)) => return Err(Error::file(path, format!("line {line}: not JSON: {e}"))),
            None => return Err(Error::file(path, format!("line {line}: the array does not end"))),
        }
        at = values.byte_offset();
        let after = rest[at..].trim_start();
        match after.strip_prefix(',') {
            Some(next) => at = rest.len() - next.len(),
            None if after.starts_with(']') => {}
            None => {
                return Err(Error::file(path, format!("line {line}: expected , or ] after this item")));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, key: &str) -> Result<Vec<(usize, String)>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        std::fs::write(&path, text).unwrap();
        Ok(items(&mut Lines::open(&path)?, &path, key)?.into())
    }

    #[test]
    fn arrays_lines_and_nested_keys() {
        let two = [(2, "a".to_string()), (4, "b".to_string())];
        assert_eq!(read("[\n{\"text\": \"a\"},\n\n{\"text\":\n\"b\"}\n]\n", "text").unwrap(), two);
        assert_eq!(read("\n{\"m\":{\"t\":\"a\"}}\n\n{\"m\":{\"t\":\"b\"}}", "m.t").unwrap(), two);
        let counted = [(1, "a".to_string()), (2, "b".to_string())];
        assert_eq!(read("{\n\"data\": [{\"text\": \"a\"}, {\"text\": \"b\"}]}", "text").unwrap(), counted);
        let one = "{\"data\": [{\"text\": \"a\"}, {\"text\": \"b\"}]}";
        assert_eq!(read(one, "text").unwrap(), counted);
        assert_eq!(read("[\"a\",\n\"b\"]", "text").unwrap(), counted);
        assert_eq!(read("{\n \"text\": \"a\"\n}", "text").unwrap(), counted[..1]);
        assert!(read(" \n", "text").unwrap().is_empty() && read("[]", "text").unwrap().is_empty());
    }

    #[test]
    fn what_is_wrong_has_its_line_and_the_keys() {
        for (text, parts) in [
            ("[{\"text\": \"a\"},\n{\"body\": {\"x\": \"b\"}}]", &["line 2", "\"text\"", "body.x"][..]),
            ("[{\"text\": \"a\"}\n{\"text\": \"b\"}]", &["line 1", "expected ,"]),
            ("[{\"text\": \"a\"},\n", &["line 2", "does not end"]),
            ("[1 2]", &["line 1"]),
            ("[] x", &["after the end"]),
            ("{oops", &["line 1", "not JSON"]),
        ] {
            let e = read(text, "text").unwrap_err().to_string();
            assert!(parts.iter().all(|p| e.contains(p)), "{e}");
        }
    }
}

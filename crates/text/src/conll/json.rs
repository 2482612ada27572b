//! Sentences in JSON: an object for each, `{"tokens": [..], "tags": [..]}`, on lines or in an array.

use super::sentence::{Found, Places, Reading, Sentence};
use serde_json::Value;
use std::path::Path;

/// Keys of words and of tags.
const WORDS: [&str; 2] = ["tokens", "words"];
const TAGS: [&str; 4] = ["tags", "ner_tags", "labels", "pos_tags"];

/// Sentences of a text.
pub(super) fn read(path: &Path, text: &str, tagged: bool) -> Reading {
    let mut found = Vec::new();
    let mut take = |number: usize, place: String, json: &Value| -> Result<(), String> {
        let (words, tags) = sentence(json, tagged).map_err(|why| format!("{place}: {why}"))?;
        let id = format!("{}:{number}", path.display());
        found.push(Found { sentence: Sentence { id, words, tags }, places: Places::One(place) });
        Ok(())
    };
    if text.trim_start().starts_with('[') {
        let all: Vec<Value> = serde_json::from_str(text).map_err(|e| format!("not JSON: {e}"))?;
        for (i, json) in all.iter().enumerate() {
            take(i + 1, format!("item {}", i + 1), json)?;
        }
    } else {
        for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
            let json = serde_json::from_str(line).map_err(|e| format!("line {}: not JSON: {e}", i + 1))?;
            take(i + 1, format!("line {}", i + 1), &json)?;
        }
    }
    Ok((found, Vec::new()))
}

fn sentence(json: &Value, tagged: bool) -> Result<(Vec<String>, Vec<String>), String> {
    let words = list(json, &WORDS)?.ok_or_else(|| format!("no list `{}`", WORDS.join("` or `")))?;
    let tags = match tagged {
        true => list(json, &TAGS)?.ok_or_else(|| format!("no list `{}`", TAGS.join("`, `")))?,
        false => Vec::new(),
    };
    if words.is_empty() || words.iter().any(|w| w.trim().is_empty()) {
        return Err("no words, or an empty one".into());
    }
    if tagged && tags.len() != words.len() {
        return Err(format!("{} words and {} tags, expected as many", words.len(), tags.len()));
    }
    Ok((words, tags))
}

/// The list of the first of `keys` that is there.
fn list(json: &Value, keys: &[&str]) -> Result<Option<Vec<String>>, String> {
    let Some((key, value)) = keys.iter().find_map(|k| Some((*k, json.get(*k)?))) else {
        return Ok(None);
    };
    let Some(items) = value.as_array() else { return Err(format!("`{key}` is not a list of texts")) };
    if !items.is_empty() && items.iter().all(Value::is_number) {
        return Err(format!(
            "`{key}` holds numbers, expected names such as B-PER: write the names that the numbers stand for \
             (data sets of the Hub keep them in features[\"{key}\"].feature.names)"
        ));
    }
    let texts = items.iter().map(|v| v.as_str().map(str::to_string)).collect::<Option<Vec<_>>>();
    texts.map(Some).ok_or_else(|| format!("`{key}` is not a list of texts"))
}

//! Sentences of words with a tag each: the columns of CoNLL's shared tasks (Tjong Kim Sang and De Meulder
//! 2003, cs/0306050), and JSON lines.
//!
//! ```text
//! The     DT  O
//! river   NN  O            {"tokens": ["The", "river", "Avon"], "tags": ["O", "O", "B-LOC"]}
//! Avon    NP  B-LOC
//! ```
//!
//! In columns the word stands first and its tag last, a blank line ends a sentence, `-DOCSTART-` a document.
//! Tags are B-I-O: what begins with `B-` begins an entity, `I-` goes on with one of the same type, `O` is
//! outside; tags without such marks (parts of speech) are classes like any.

use selfsup_core::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;

/// A sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sentence {
    /// File and line, for messages.
    pub id: String,
    /// Its words.
    pub words: Vec<String>,
    /// A tag for each word; empty where they are not known.
    pub tags: Vec<String>,
}

/// Keys of words and of tags in JSON lines.
const WORDS: [&str; 2] = ["tokens", "words"];
const TAGS: [&str; 4] = ["tags", "ner_tags", "labels", "pos_tags"];

/// Reads a file: JSON lines if its name ends in `.jsonl`, else columns. With `tagged` false, words may stand
/// alone, and of columns the first is read.
///
/// # Errors
/// Naming the file and the line: not UTF-8, columns that do not fit those before, tags without words, an
/// entity that begins with `I-`, and no sentence at all.
pub fn read(path: &Path, tagged: bool) -> Result<Vec<Sentence>> {
    let bytes = selfsup_core::file::read(path)?;
    let text = std::str::from_utf8(&bytes).map_err(|e| {
        let line = 1 + bytes[..e.valid_up_to()].iter().filter(|b| **b == b'\n').count();
        Error::file(path, format!("line {line} is not UTF-8"))
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let json =
        path.extension().is_some_and(|e| e.eq_ignore_ascii_case("jsonl") || e.eq_ignore_ascii_case("ndjson"));
    let found = if json { json_lines(path, text, tagged)? } else { columns(path, text, tagged)? };
    if found.is_empty() { Err(Error::file(path, "no sentence in this file")) } else { Ok(found) }
}

fn columns(path: &Path, text: &str, tagged: bool) -> Result<Vec<Sentence>> {
    let (mut found, mut width) = (Vec::new(), None);
    let mut open = Sentence { id: String::new(), words: Vec::new(), tags: Vec::new() };
    // A last blank line ends the last sentence.
    for (i, line) in text.lines().chain([""]).enumerate() {
        let at = i + 1;
        let cells: Vec<&str> = line.split_whitespace().collect();
        let Some((&word, rest)) = cells.split_first().filter(|(w, _)| **w != "-DOCSTART-") else {
            if !open.words.is_empty() {
                let empty = Sentence { id: String::new(), words: Vec::new(), tags: Vec::new() };
                found.push(std::mem::replace(&mut open, empty));
            }
            continue;
        };
        let expected = *width.get_or_insert(cells.len());
        if cells.len() != expected {
            return Err(Error::file(
                path,
                format!("line {at}: {} columns, expected {expected} as in the lines before", cells.len()),
            ));
        }
        if open.words.is_empty() {
            open.id = format!("{}:{at}", path.display());
        }
        if let Some(tag) = rest.last().filter(|_| tagged) {
            follows(open.tags.last().map(String::as_str), tag)
                .map_err(|why| Error::file(path, format!("line {at}: {why}")))?;
            open.tags.push((*tag).to_string());
        } else if tagged {
            return Err(Error::file(
                path,
                format!("line {at}: a word without a tag, expected both, with white space between them"),
            ));
        }
        open.words.push(word.to_string());
    }
    Ok(found)
}

fn json_lines(path: &Path, text: &str, tagged: bool) -> Result<Vec<Sentence>> {
    let mut found = Vec::new();
    for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let wrong = |why: String| Error::file(path, format!("line {}: {why}", i + 1));
        let json: Value = serde_json::from_str(line).map_err(|e| wrong(format!("not JSON: {e}")))?;
        let list = |keys: &[&str]| -> Result<Option<Vec<String>>> {
            let Some((key, value)) = keys.iter().find_map(|k| Some((*k, json.get(*k)?))) else {
                return Ok(None);
            };
            let items = value
                .as_array()
                .map(|a| a.iter().map(|v| v.as_str().map(str::to_string)).collect::<Option<Vec<_>>>());
            items.flatten().map(Some).ok_or_else(|| wrong(format!("`{key}` is not a list of texts")))
        };
        let words = list(&WORDS)?.ok_or_else(|| wrong(format!("no list `{}`", WORDS.join("` or `"))))?;
        let tags = if tagged {
            list(&TAGS)?.ok_or_else(|| wrong(format!("no list `{}`", TAGS.join("`, `"))))?
        } else {
            Vec::new()
        };
        if words.is_empty() || words.iter().any(|w| w.trim().is_empty()) {
            return Err(wrong("no words, or an empty one".into()));
        }
        if tagged && tags.len() != words.len() {
            return Err(wrong(format!("{} words and {} tags, expected as many", words.len(), tags.len())));
        }
        for (k, tag) in tags.iter().enumerate() {
            let before = k.checked_sub(1).map(|b| tags[b].as_str());
            follows(before, tag).map_err(|why| wrong(format!("word {}: {why}", k + 1)))?;
        }
        found.push(Sentence { id: format!("{}:{}", path.display(), i + 1), words, tags });
    }
    Ok(found)
}

/// Whether `tag` can stand behind `before`: an `I-` goes on with an entity of its type.
fn follows(before: Option<&str>, tag: &str) -> std::result::Result<(), String> {
    let Some(kind) = tag.strip_prefix("I-") else { return Ok(()) };
    match before.and_then(|b| b.split_once('-')) {
        Some(("B" | "I", same)) if same == kind => Ok(()),
        _ => Err(format!("{tag} goes on with no {kind}: in B-I-O tags an entity begins with B-{kind}")),
    }
}

/// The tags of sentences as classes: `O` first, the others sorted; and for each `B-X` an `I-X`, which a model
/// may need where it was not seen.
pub fn classes<'a>(sentences: impl IntoIterator<Item = &'a Sentence>) -> Vec<String> {
    let mut all: std::collections::BTreeSet<String> =
        sentences.into_iter().flat_map(|s| s.tags.iter().cloned()).collect();
    let inner: Vec<String> =
        all.iter().filter_map(|t| Some(format!("I-{}", t.strip_prefix("B-")?))).collect();
    all.extend(inner);
    let outside = all.take("O");
    outside.into_iter().chain(all).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, text: &str, tagged: bool) -> Result<Vec<Sentence>> {
        let dir = tempfile::tempdir().map_err(|e| Error::io("tempdir", e))?;
        let path = dir.path().join(name);
        std::fs::write(&path, text).map_err(|e| Error::io(&path, e))?;
        read(&path, tagged)
    }

    fn says(name: &str, text: &str, part: &str) {
        let e = file(name, text, true).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(e.contains(part) && e.contains(name), "{e}");
    }

    #[test]
    fn both_formats_hold_the_same() -> Result<()> {
        let text = "-DOCSTART- -X- O\n\nThe DT O\nAvon NP B-LOC\n\n\nHe PRP O\nmet VB O\nIsaac NP B-PER\nNewton NP I-PER\n";
        let json = "{\"tokens\": [\"The\", \"Avon\"], \"tags\": [\"O\", \"B-LOC\"]}\n\n{\"words\": [\"He\", \"met\", \"Isaac\", \"Newton\"], \"ner_tags\": [\"O\", \"O\", \"B-PER\", \"I-PER\"]}\n";
        let (a, b) = (file("a.conll", text, true)?, file("b.jsonl", json, true)?);
        let plain = |s: &[Sentence]| s.iter().map(|s| (s.words.clone(), s.tags.clone())).collect::<Vec<_>>();
        assert_eq!(plain(&a), plain(&b));
        assert!(a[1].id.ends_with("a.conll:7") && b[1].id.ends_with("b.jsonl:3"), "{} {}", a[1].id, b[1].id);
        assert_eq!(classes(&a), ["O", "B-LOC", "B-PER", "I-LOC", "I-PER"]);
        let bare = file("c.txt", "one two\nthree four\n", false)?;
        assert_eq!((bare[0].words.join(" "), bare[0].tags.len()), ("one three".to_string(), 0));
        Ok(())
    }

    #[test]
    fn what_does_not_fit_is_named() {
        says("a.conll", "The O\nAvon NP B-LOC\n", "line 2: 3 columns, expected 2");
        says("b.conll", "The O\nNewton I-PER\n", "line 2: I-PER goes on with no PER");
        says("c.conll", "A B-LOC\nB I-PER\n", "begins with B-PER");
        says("d.conll", "A B-PER\n\nB I-PER\n", "line 3: I-PER");
        says("e.conll", "word\n", "line 1: a word without a tag");
        says("f.conll", "\n\n", "no sentence");
        says("g.jsonl", "{\"tokens\": [\"a\", \"b\"], \"tags\": [\"O\"]}", "line 1: 2 words and 1 tags");
        says("h.jsonl", "{\"tokens\": [\"a\"], \"tags\": [3]}", "not a list of texts");
        says("i.jsonl", "{\"tokens\": [\"a\"], \"tags\": [\"I-X\"]}", "word 1: I-X");
        says("j.jsonl", "{\"tags\": []}", "no list `tokens` or `words`");
        says("k.jsonl", "{", "not JSON");
    }
}

//! Sentences of words with a tag each: the columns of CoNLL's shared tasks (Tjong Kim Sang and De Meulder
//! 2003, cs/0306050), CoNLL-U, and JSON.
//!
//! ```text
//! The     DT  O
//! river   NN  O            {"tokens": ["The", "river", "Avon"], "tags": ["O", "O", "B-LOC"]}
//! Avon    NP  B-LOC
//! ```
//!
//! In columns the word stands first and its tag last, a blank line ends a sentence, `-DOCSTART-` a document.
//!
//! Tags are read as B-I-O, also called IOB2: what begins with `B-` begins an entity, `I-` goes on with one of
//! the same type, `O` is outside. Conversion takes what other files have (IOB1, BIOES, `B_ORG`); tags
//! without such marks (parts of speech) are classes like any.

mod columns;
mod json;
mod scheme;
mod sentence;

pub use sentence::Sentence;

use selfsup_core::{Error, Result};
use std::path::Path;

/// The content of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tagged {
    /// Its sentences; the tags of entities are B-I-O.
    pub sentences: Vec<Sentence>,
    /// What was converted, or taken for words and tags, where that is not plain from the file: for the user.
    pub notes: Vec<String>,
}

/// Reads a file: JSON if its name ends in `.jsonl`, `.ndjson` or `.json` (an array, or a line for each
/// sentence), else columns. With `tagged` false, words may stand alone, and of columns the words are read.
///
/// # Errors
/// Naming the file and the line: not UTF-8, columns that do not fit those before, tags without words, tags
/// of entities in no scheme (IOB2, IOB1, BIOES), and no sentence at all.
pub fn read(path: &Path, tagged: bool) -> Result<Tagged> {
    let bytes = selfsup_core::file::read(path)?;
    let text = std::str::from_utf8(&bytes).map_err(|e| {
        let line = 1 + bytes[..e.valid_up_to()].iter().filter(|b| **b == b'\n').count();
        Error::file(path, format!("line {line} is not UTF-8"))
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
    let read = match ending.as_str() {
        "jsonl" | "ndjson" | "json" => json::read(path, text, tagged),
        ending => columns::read(path, text, tagged, ending == "conllu"),
    };
    let (mut found, mut notes) = read.map_err(|why| Error::file(path, why))?;
    if found.is_empty() {
        return Err(Error::file(path, "no sentence in this file"));
    }
    notes.extend(scheme::convert(&mut found).map_err(|why| Error::file(path, why))?);
    let notes = notes.into_iter().map(|note| format!("{}: {note}", path.display())).collect();
    Ok(Tagged { sentences: found.into_iter().map(|f| f.sentence).collect(), notes })
}

/// Whether these classes are tags of entities, so that whole entities can be counted.
pub fn of_entities(classes: &[String]) -> bool {
    classes.iter().any(|c| c == "B" || c.starts_with("B-"))
}

/// The tags of sentences as classes: `O` first, the others sorted; and for each `B-X` an `I-X`, which a model
/// may need where it was not seen.
pub fn classes<'a>(sentences: impl IntoIterator<Item = &'a Sentence>) -> Vec<String> {
    let mut all: std::collections::BTreeSet<String> =
        sentences.into_iter().flat_map(|s| s.tags.iter().cloned()).collect();
    let inner = |t: &String| (t == "B" || t.starts_with("B-")).then(|| format!("I{}", &t[1..]));
    let inner: Vec<String> = all.iter().filter_map(inner).collect();
    all.extend(inner);
    let outside = all.take("O");
    outside.into_iter().chain(all).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, text: &str, tagged: bool) -> Result<Tagged> {
        let dir = tempfile::tempdir().map_err(|e| Error::io("tempdir", e))?;
        let path = dir.path().join(name);
        std::fs::write(&path, text).map_err(|e| Error::io(&path, e))?;
        read(&path, tagged)
    }

    fn says(name: &str, text: &str, part: &str) {
        let e = file(name, text, true).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(e.contains(part) && e.contains(name), "expected {part} in {e}");
    }

    fn plain(read: &Tagged) -> Vec<(String, String)> {
        read.sentences.iter().map(|s| (s.words.join(" "), s.tags.join(" "))).collect()
    }

    #[test]
    fn all_formats_hold_the_same() -> Result<()> {
        let text = "-DOCSTART- -X- O\n\nThe DT O\nAvon NP B-LOC\n\n\nHe PRP O\nmet VB O\nIsaac NP B-PER\nNewton NP I-PER\n";
        let json = "{\"tokens\": [\"The\", \"Avon\"], \"tags\": [\"O\", \"B-LOC\"]}\n\n{\"words\": [\"He\", \"met\", \"Isaac\", \"Newton\"], \"ner_tags\": [\"O\", \"O\", \"B-PER\", \"I-PER\"]}\n";
        let array = format!("[{}]", json.trim().replace("\n\n", ",\n"));
        let (a, b) = (file("a.conll", text, true)?, file("b.jsonl", json, true)?);
        assert_eq!(plain(&a), plain(&b));
        assert_eq!(plain(&a), plain(&file("c.json", &array, true)?));
        assert_eq!(plain(&a), plain(&file("c.json", json, true)?), "a .json of lines");
        let ids = |r: &Tagged| r.sentences[1].id.clone();
        assert!(ids(&a).ends_with("a.conll:7") && ids(&b).ends_with("b.jsonl:3"), "{} {}", ids(&a), ids(&b));
        assert_eq!(classes(&a.sentences), ["O", "B-LOC", "B-PER", "I-LOC", "I-PER"]);
        assert!(a.notes.is_empty() && b.notes.is_empty());
        let bare = file("c.txt", "one two\nthree four\n", false)?;
        assert_eq!(plain(&bare), [("one three".to_string(), String::new())]);
        Ok(())
    }

    /// Comments, ranges and empty nodes of CoNLL-U are no words.
    #[test]
    fn universal_columns() -> Result<()> {
        let row = |id: &str, word: &str, upos: &str, misc: &str| {
            format!("{id}\t{word}\tx\t{upos}\t_\t_\t0\troot\t_\t{misc}\n")
        };
        let text = |a: &str, b: &str| {
            let mut text = "# text = Avon rises\n".to_string() + &row("1-2", "vom", "_", "_");
            text +=
                &(row("1", "Avon", "PROPN", a) + &row("1.1", "e", "X", "_") + &row("2", "rises", "VERB", b));
            text + "\n"
        };
        let names = file("a.conllu", &text("B-LOC", "O"), true)?;
        assert_eq!(plain(&names), [("Avon rises".to_string(), "B-LOC O".to_string())]);
        assert!(names.notes[0].contains("last column"), "{:?}", names.notes);
        let misc = file("a.conllu", &text("SpaceAfter=No|NER=B-LOC", "_"), true)?;
        assert_eq!(plain(&misc), plain(&names));
        let parts = file("b.txt", &text("_", "SpaceAfter=No"), true)?;
        assert_eq!(plain(&parts), [("Avon rises".to_string(), "PROPN VERB".to_string())]);
        assert!(parts.notes[0].contains("UPOS"), "{:?}", parts.notes);
        Ok(())
    }

    #[test]
    fn numbers_of_words_and_comments_are_no_words() -> Result<()> {
        let read =
            file("a.tsv", "#\thttp://a b [1]\n1\tThe\tO\n2\tAvon\tB-LOC\n\n#\tb\n1\t#\tO\n2\tHe\tO\n", true)?;
        assert_eq!(plain(&read)[0], ("The Avon".to_string(), "O B-LOC".to_string()));
        assert_eq!(plain(&read)[1].0, "# He");
        assert!(read.notes[0].contains("second column"), "{:?}", read.notes);
        // Numbers that do not count the words of each sentence are words.
        let read = file("b.conll", "1 CD O\n2 CD O\n\n7 CD O\n", true)?;
        assert_eq!(plain(&read)[0].0, "1 2");
        Ok(())
    }

    #[test]
    fn what_does_not_fit_is_named() {
        says("a.conll", "The O\nAvon NP B-LOC\n", "line 2: 3 columns, expected 2");
        says("b.conll", "The B-ORG\nAvon O\nNewton I-PER\n", "line 3: I-PER goes on with no PER");
        says("c.conll", "A B-LOC\nB I-PER\n", "begins with B-PER");
        says("d.conll", "A B-PER\n\nB I-PER\n", "line 3: I-PER");
        says("e.conll", "word\n", "line 1: a word without a tag");
        says("f.conll", "\n\n", "no sentence");
        says("g.jsonl", "{\"tokens\": [\"a\", \"b\"], \"tags\": [\"O\"]}", "line 1: 2 words and 1 tags");
        says("h.jsonl", "{\"tokens\": [\"a\"], \"tags\": [3]}", "`tags` holds numbers, expected names");
        says("i.jsonl", "{\"tokens\": [\"a\", \"b\"], \"tags\": [\"B-Y\", \"I-X\"]}", "line 1: word 2: I-X");
        says("j.jsonl", "{\"tags\": []}", "no list `tokens` or `words`");
        says("k.jsonl", "{", "not JSON");
        says("l.json", "[{\"tokens\": [\"a\"], \"tags\": [\"O\"]}, {\"tokens\": []}]", "item 2: no");
    }
}

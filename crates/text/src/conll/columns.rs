//! Sentences in columns: a word a line, a blank line behind each sentence. CoNLL-U
//! (universaldependencies.org/format.html) has ten columns with tabs between, comments, and lines that are
//! no words: ranges of contracted words (`1-2`) and empty nodes (`1.1`).

use super::scheme::is_mark;
use super::sentence::{Found, Places, Reading, Sentence};
use std::path::Path;

/// Columns of CoNLL-U: its number of columns, the word, its part of speech, and the column of other things.
const UNIVERSAL: usize = 10;
const FORM: usize = 1;
const UPOS: usize = 3;
const MISC: usize = 9;

/// A line with a word: its number and its cells.
type Row<'a> = (usize, Vec<&'a str>);

/// Sentences of a text; `universal` if the file's name says CoNLL-U.
pub(super) fn read(path: &Path, text: &str, tagged: bool, universal: bool) -> Reading {
    let (rows, width) = rows(text)?;
    let counted = |cells: &[&str]| cells[0].split(['-', '.']).all(|n| n.parse::<u32>().is_ok());
    let universal = width == UNIVERSAL && (universal || rows.iter().flatten().all(|(_, c)| counted(c)));
    let mut notes = Vec::new();
    let mut word_at = 0;
    if universal {
        word_at = FORM;
    } else if numbered(&rows) && width > 1 + usize::from(tagged) {
        word_at = 1;
        notes.push("the first column counts the words: they are read from the second column".to_string());
    }
    let mut named = false;
    if universal && tagged {
        named = rows.iter().flatten().any(|(_, c)| misc(c[MISC]).is_some_and(|t| t != "O"));
        notes.push(match named {
            true => "CoNLL-U: tags are those of entities in the last column".into(),
            false => "CoNLL-U: tags are the parts of speech (UPOS, the fourth column)".to_string(),
        });
    }
    let mut found = Vec::new();
    for rows in rows {
        let mut sentence = Sentence { id: String::new(), words: Vec::new(), tags: Vec::new() };
        let mut lines = Vec::new();
        for (at, cells) in rows {
            if universal && cells[0].contains(['-', '.']) {
                continue;
            }
            if lines.is_empty() {
                sentence.id = format!("{}:{at}", path.display());
            }
            lines.push(at);
            sentence.words.push(cells[word_at].to_string());
            if tagged {
                sentence.tags.push(match (universal, named) {
                    (true, true) => misc(cells[MISC])
                        .map(str::to_string)
                        .ok_or_else(|| format!("line {at}: {}, expected a tag of an entity", cells[MISC]))?,
                    (true, false) => cells[UPOS].to_string(),
                    (false, _) if cells.len() > 1 + word_at => cells[cells.len() - 1].to_string(),
                    (false, _) => {
                        return Err(format!(
                            "line {at}: a word without a tag, expected both, with white space between them"
                        ));
                    }
                });
            }
        }
        if !lines.is_empty() {
            found.push(Found { sentence, places: Places::Lines(lines) });
        }
    }
    Ok((found, notes))
}

/// The lines of each sentence in cells, and how many cells each has. What begins with `#` in front of a
/// sentence and has another number of cells is a comment.
fn rows(text: &str) -> Result<(Vec<Vec<Row<'_>>>, usize), String> {
    let mut found: Vec<Vec<Row<'_>>> = Vec::new();
    let mut open: Vec<Row<'_>> = Vec::new();
    let tabs = text.lines().find(|l| !l.trim().is_empty() && !l.starts_with('#'));
    let universal = tabs.is_some_and(|l| l.split('\t').count() == UNIVERSAL);
    let document = |line: &str| line.split_whitespace().next() == Some("-DOCSTART-");
    let first = text.lines().find(|l| !l.trim().is_empty() && !l.starts_with('#') && !document(l));
    let width = first
        .or_else(|| text.lines().find(|l| !l.trim().is_empty()))
        .map_or(0, |l| cells(l, universal).len());
    // A last blank line ends the last sentence.
    for (i, line) in text.lines().chain([""]).enumerate() {
        let at = i + 1;
        if line.trim().is_empty() || document(line) {
            found.extend((!open.is_empty()).then(|| std::mem::take(&mut open)));
            continue;
        }
        let cells = cells(line, universal);
        if cells.len() != width {
            if line.starts_with('#') && open.is_empty() {
                continue;
            }
            return Err(format!(
                "line {at}: {} columns, expected {width} as in the lines before",
                cells.len()
            ));
        }
        if cells.iter().any(|c| c.is_empty()) {
            return Err(format!("line {at}: an empty column"));
        }
        open.push((at, cells));
    }
    Ok((found, width))
}

/// The cells of a line. Words of CoNLL-U may hold spaces.
fn cells(line: &str, universal: bool) -> Vec<&str> {
    match universal {
        true => line.trim_end_matches('\r').split('\t').map(str::trim).collect(),
        false => line.split_whitespace().collect(),
    }
}

/// Whether the first cells of every sentence are 1, 2, 3 ...
fn numbered(rows: &[Vec<Row<'_>>]) -> bool {
    let counts = |rows: &Vec<Row<'_>>| rows.iter().enumerate().all(|(i, (_, c))| c[0] == (i + 1).to_string());
    rows.iter().any(|r| r.len() > 1) && rows.iter().all(counts)
}

/// The tag of an entity in CoNLL-U's last column: the cell itself, or behind a key (`NER=B-LOC`); none says
/// that the word is outside.
fn misc(cell: &str) -> Option<&str> {
    if is_mark(cell) {
        return Some(cell);
    }
    let pairs: Option<Vec<(&str, &str)>> = cell.split('|').map(|p| p.split_once('=')).collect();
    match pairs {
        _ if cell == "_" => Some("O"),
        Some(pairs) => {
            let tag = pairs.iter().find(|(k, v)| k.eq_ignore_ascii_case("ner") && is_mark(v));
            Some(tag.map_or("O", |(_, v)| v))
        }
        None => None,
    }
}

//! Question answering over texts: files in the format of SQuAD (Rajpurkar et al. 2016, arXiv 1606.05250; 2.0:
//! 2018, arXiv 1806.03822), windows with the place of the answer, and the best answer out of the scores of
//! all windows.

use crate::batch::Example;
use crate::metrics::{answer_f1, exact_match};
use crate::tokenizer::{Tokenizer, Window};
use selfsup_core::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// A question on a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Its name in the file.
    pub id: String,
    /// The question.
    pub question: String,
    /// The text.
    pub context: String,
    /// Answers and the byte of the text at which each starts. None: the text does not answer the question.
    pub answers: Vec<(String, usize)>,
}

/// Reads a SQuAD file of either version.
///
/// # Errors
/// If it cannot be read or is not in the format, or an answer is not where the file says; the message names
/// the question.
pub fn read(path: &Path) -> Result<Vec<Question>> {
    parse(path, true)
}

/// Reads questions to be answered: a file of the same format in which `answers` may be left out.
///
/// # Errors
/// As [`read`].
pub fn read_unanswered(path: &Path) -> Result<Vec<Question>> {
    parse(path, false)
}

fn parse(path: &Path, answered: bool) -> Result<Vec<Question>> {
    let bytes = selfsup_core::file::read(path)?;
    let json: Value =
        serde_json::from_slice(&bytes).map_err(|e| Error::file(path, format!("not JSON: {e}")))?;
    let list = |v: &Value, key: &str, at: &str| -> Result<Vec<Value>> {
        let found = v.get(key).and_then(Value::as_array).cloned();
        found.ok_or_else(|| Error::file(path, format!("{at} has no list `{key}`")))
    };
    let text = |v: &Value, key: &str, at: &str| -> Result<String> {
        let found = v.get(key).and_then(Value::as_str).map(str::to_string);
        found.ok_or_else(|| Error::file(path, format!("{at} has no text `{key}`")))
    };
    let mut questions = Vec::new();
    for (a, article) in list(&json, "data", "the file")?.iter().enumerate() {
        for (p, paragraph) in list(article, "paragraphs", &format!("article {a}"))?.iter().enumerate() {
            let at = format!("paragraph {p} of article {a}");
            let context = text(paragraph, "context", &at)?;
            for qa in &list(paragraph, "qas", &at)? {
                let id = text(qa, "id", &at)?;
                let at = format!("question {id}");
                let impossible = qa.get("is_impossible").and_then(Value::as_bool).unwrap_or(false);
                let mut answers = Vec::new();
                for answer in if impossible || !answered && qa.get("answers").is_none() {
                    Vec::new()
                } else {
                    list(qa, "answers", &at)?
                } {
                    let words = text(&answer, "text", &at)?;
                    // Counted in characters, not in bytes.
                    let chars = answer.get("answer_start").and_then(Value::as_u64);
                    let start = chars.and_then(|c| context.char_indices().map(|(b, _)| b).nth(c as usize));
                    match start.filter(|&b| context[b..].starts_with(&words)) {
                        Some(b) => answers.push((words, b)),
                        None => {
                            return Err(Error::file(
                                path,
                                format!(
                                    "{at}: the answer {words:?} does not stand at `answer_start` of its text"
                                ),
                            ));
                        }
                    }
                }
                questions.push(Question {
                    question: text(qa, "question", &at)?,
                    id,
                    context: context.clone(),
                    answers,
                });
            }
        }
    }
    Ok(questions)
}

/// The windows of a question, each with the first and last token of its first answer; a window that does not
/// hold the whole answer points at its first token.
///
/// # Errors
/// As [`Tokenizer::windows`].
pub fn windows(tokenizer: &Tokenizer, q: &Question, longest: usize, stride: usize) -> Result<Vec<Window>> {
    let mut windows = tokenizer.windows(&q.question, &q.context, longest, stride)?;
    for w in &mut windows {
        let answer =
            q.answers.first().and_then(|(text, start)| tokens_of(&w.spans, *start, start + text.len()));
        let (first, last) = answer.unwrap_or((0, 0));
        w.example = Example { targets: vec![first as i64, last as i64], ..w.example.clone() };
    }
    Ok(windows)
}

/// First and last token of the bytes `start..end`, if they stand whole in the window.
fn tokens_of(spans: &[Option<(usize, usize)>], start: usize, end: usize) -> Option<(usize, usize)> {
    let place = |byte: usize| spans.iter().position(|s| s.is_some_and(|(a, b)| a <= byte && byte < b));
    let (first, last) = (place(start)?, place(end.checked_sub(1)?)?);
    (first <= last).then_some((first, last))
}

/// An answer found in a text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// Its bytes in the text; `None` if "no answer" scored best.
    pub span: Option<(usize, usize)>,
    /// Sum of the scores of its two ends.
    pub score: f32,
}

/// The best answer over all windows of a text: the two ends within one window, in order, at most `most`
/// tokens apart. `scores` are those of [`AnswerFinder::logits`](crate::task::AnswerFinder::logits) for each
/// window. With `may_be_none`, the first token stands for "no answer", and it must be the best in every
/// window to win.
pub fn best(windows: &[Window], scores: &[(Vec<f32>, Vec<f32>)], most: usize, may_be_none: bool) -> Found {
    let mut best = Found { span: None, score: f32::NEG_INFINITY };
    let mut none = f32::INFINITY;
    for (w, (start, end)) in windows.iter().zip(scores) {
        none = none.min(start.first().copied().unwrap_or(0.0) + end.first().copied().unwrap_or(0.0));
        let spans = w.spans.iter().enumerate().filter_map(|(i, s)| Some((i, (*s)?)));
        let tokens: Vec<(usize, (usize, usize))> =
            spans.filter(|(i, _)| *i < start.len().min(end.len())).collect();
        for (k, &(i, (from, _))) in tokens.iter().enumerate() {
            for &(j, (_, to)) in tokens[k..].iter().take(most.max(1)) {
                let score = start[i] + end[j];
                if score > best.score {
                    best = Found { span: Some((from, to)), score };
                }
            }
        }
    }
    if may_be_none && none >= best.score { Found { span: None, score: none } } else { best }
}

/// Share of questions answered exactly, and mean F1, both in per cent as the benchmark's script gives them. A
/// question without an entry in `found` counts as answered by nothing.
pub fn evaluate(questions: &[Question], found: &BTreeMap<String, String>) -> (f64, f64) {
    let (mut exact, mut f1) = (0.0, 0.0);
    for q in questions {
        let gold: Vec<&str> = q.answers.iter().map(|(a, _)| a.as_str()).collect();
        let answer = found.get(&q.id).map_or("", String::as_str);
        exact += f64::from(u8::from(exact_match(answer, &gold)));
        f1 += answer_f1(answer, &gold);
    }
    let n = questions.len().max(1) as f64;
    (100.0 * exact / n, 100.0 * f1 / n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::{TokenizerConfig, TokenizerKind, train};

    const TEXT: &str = "Äpfel wachsen an Bäumen. The river flows through the old town, and the bridge was built in 1732 by monks.";

    fn tokenizer() -> Result<Tokenizer> {
        let config = TokenizerConfig { vocab_size: 120, ..TokenizerConfig::of(TokenizerKind::Wordpiece) };
        train(&config, std::iter::repeat_n(TEXT, 4).map(|t| Ok(t.to_string())))
    }

    fn question(answer: &str) -> Question {
        let answers = TEXT.find(answer).map(|b| (answer.to_string(), b)).into_iter().collect();
        Question {
            id: "q".into(),
            question: "When was the bridge built?".into(),
            context: TEXT.into(),
            answers,
        }
    }

    /// Whatever the length, each window fits, the windows cover the text, and the targets spell the answer
    /// where it stands whole.
    #[test]
    fn windows_hold_the_answer() -> Result<()> {
        let t = tokenizer()?;
        for answer in ["1732", "old town", "Äpfel", "monks"] {
            let q = question(answer);
            for longest in [60, 70, 90, 400] {
                let all = windows(&t, &q, longest, 8)?;
                let mut right = 0;
                let mut covered = vec![false; TEXT.len()];
                for w in &all {
                    assert!(w.example.ids.len() <= longest && w.spans.len() == w.example.ids.len());
                    w.spans.iter().flatten().for_each(|&(a, b)| covered[a..b].fill(true));
                    let (first, last) = (w.example.targets[0] as usize, w.example.targets[1] as usize);
                    if let (Some((a, _)), Some((_, b))) = (w.spans[first], w.spans[last]) {
                        assert_eq!(&TEXT[a..b], answer);
                        right += 1;
                    } else {
                        assert_eq!((first, last), (0, 0));
                    }
                }
                assert!(right >= 1, "{answer} in windows of {longest}");
                let spaces = |i: usize| TEXT.as_bytes()[i].is_ascii_whitespace();
                assert!(covered.iter().enumerate().all(|(i, c)| *c || spaces(i)), "every letter is seen");
            }
        }
        assert!(windows(&t, &question("1732"), 10, 8).is_err());
        Ok(())
    }

    #[test]
    fn the_best_answer_is_in_order_and_short() -> Result<()> {
        let t = tokenizer()?;
        let all = windows(&t, &question("1732"), 400, 8)?;
        let w = &all[0];
        let (first, last) = (w.example.targets[0] as usize, w.example.targets[1] as usize);
        let mut start = vec![0f32; w.spans.len()];
        let mut end = start.clone();
        (start[first], end[last]) = (5.0, 4.0);
        // A better end before the start, or in the question, or too far behind does not count.
        (end[first - 1], end[1]) = (8.0, 9.0);
        let found = best(&all, &[(start.clone(), end.clone())], 8, true);
        assert_eq!(found.span.map(|(a, b)| &TEXT[a..b]), Some("1732"));
        assert_eq!(found.score, 9.0);
        (start[0], end[0]) = (6.0, 6.0);
        assert_eq!(best(&all, &[(start.clone(), end.clone())], 8, true).span, None);
        assert!(best(&all, &[(start, end)], 8, false).span.is_some());
        Ok(())
    }

    #[test]
    fn files_are_read_and_wrong_ones_named() -> Result<()> {
        let dir = tempfile::tempdir().map_err(|e| Error::io("tempdir", e))?;
        let path = dir.path().join("x.json");
        let file = |answer: &str, start: i64| -> Result<Vec<Question>> {
            let qas = serde_json::json!([
                {"id": "a", "question": "Was?", "answers": [{"text": answer, "answer_start": start}]},
                {"id": "b", "question": "Wer?", "is_impossible": true, "answers": [], "plausible_answers": []},
            ]);
            let json =
                serde_json::json!({"data": [{"title": "t", "paragraphs": [{"context": TEXT, "qas": qas}]}]});
            std::fs::write(&path, json.to_string()).map_err(|e| Error::io(&path, e))?;
            read(&path)
        };
        let q = file("wachsen", 6)?;
        assert_eq!((q.len(), q[0].answers[0].1, q[1].answers.len()), (2, 7, 0), "bytes, not characters");
        let found = BTreeMap::from([("a".to_string(), "Wachsen!".to_string())]);
        assert_eq!(evaluate(&q, &found), (100.0, 100.0));
        assert_eq!(evaluate(&q, &BTreeMap::new()), (50.0, 50.0));
        for (answer, start) in [("wachsen", 7), ("wachsen", -1), ("wachsen", 100_000)] {
            let e = file(answer, start).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(e.contains("question a") && e.contains("answer_start"), "{e}");
        }
        std::fs::write(&path, "{\"data\": [{}]}").map_err(|e| Error::io(&path, e))?;
        assert!(
            read(&path)
                .err()
                .map(|e| e.to_string())
                .unwrap_or_default()
                .contains("article 0 has no list `paragraphs`")
        );
        let asked = serde_json::json!({"context": TEXT, "qas": [{"id": "a", "question": "Was?"}]});
        std::fs::write(&path, serde_json::json!({"data": [{"paragraphs": [asked]}]}).to_string())
            .map_err(|e| Error::io(&path, e))?;
        assert!(read_unanswered(&path)?[0].answers.is_empty());
        assert!(
            read(&path)
                .err()
                .map(|e| e.to_string())
                .unwrap_or_default()
                .contains("question a has no list `answers`")
        );
        Ok(())
    }
}

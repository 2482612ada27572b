//! Schemes of tags that mark the ends of entities, converted to IOB2 (here: B-I-O).
//!
//! | scheme | one word | two words | an entity beside one of its type |
//! |---|---|---|---|
//! | IOB2 | `B-X` | `B-X I-X` | `B-X B-X` |
//! | IOB1 (CoNLL-2003 as released) | `I-X` | `I-X I-X` | `I-X B-X` |
//! | BIOES, BILOU, BMES | `S-X`, `U-X` | `B-X E-X`, `B-X L-X` | `S-X S-X` |
//!
//! Marks may also be spelt `B_X`, `b-X`, or stand behind the type (`X-B`). A file is of one scheme; the first
//! tag that fits none is an error.

use super::sentence::Found;

/// A place in an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Outside,
    Begin,
    Inside,
    End,
    Single,
}

/// A tag in its parts; no type for a mark that stands alone.
type Parts<'a> = (Mark, &'a str);

fn mark(letter: &str) -> Option<Mark> {
    Some(match letter {
        "B" | "b" => Mark::Begin,
        "I" | "i" | "M" | "m" => Mark::Inside,
        "E" | "e" | "L" | "l" => Mark::End,
        "S" | "s" | "U" | "u" => Mark::Single,
        _ => return None,
    })
}

/// The mark in front of a type: `B-X`, `B_X`, or alone.
fn in_front(tag: &str) -> Option<Parts<'_>> {
    if tag == "O" || tag == "o" {
        return Some((Mark::Outside, ""));
    }
    match tag.split_once(['-', '_']) {
        Some((letter, kind)) if !kind.is_empty() => Some((mark(letter)?, kind)),
        Some(_) => None,
        None => Some((mark(tag).filter(|_| tag.chars().all(char::is_uppercase))?, "")),
    }
}

/// The mark behind a type: `X-B`.
fn behind(tag: &str) -> Option<Parts<'_>> {
    if tag == "O" || tag == "o" {
        return Some((Mark::Outside, ""));
    }
    let (kind, letter) = tag.rsplit_once(['-', '_'])?;
    if kind.is_empty() { None } else { Some((mark(letter)?, kind)) }
}

/// Whether a text is a tag of an entity or `O`.
pub(super) fn is_mark(tag: &str) -> bool {
    tag == "O" || tag.split_once('-').is_some_and(|(m, kind)| mark(m).is_some() && !kind.is_empty())
}

/// Makes B-I-O of the tags of a file, if they mark entities. Returns what was converted.
///
/// # Errors
/// With the place of the first tag that fits no scheme.
pub(super) fn convert(found: &mut [Found]) -> Result<Vec<String>, String> {
    let tags = || found.iter().flat_map(|f| f.sentence.tags.iter());
    let parts: fn(&str) -> Option<Parts<'_>> = if tags().all(|t| in_front(t).is_some()) {
        // Single letters that begin nothing are other classes: subject and object, say.
        if tags().all(|t| matches!(t.as_str(), "O" | "S" | "E" | "L" | "U" | "M")) {
            return Ok(Vec::new());
        }
        in_front
    } else if tags().all(|t| behind(t).is_some()) {
        behind
    } else {
        return unmarked(found).map_or(Ok(Vec::new()), Err);
    };
    let ends = |t: &String| matches!(parts(t), Some((Mark::End | Mark::Single, _)));
    let middle = |t: &String| t.starts_with(['M', 'm']) && matches!(parts(t), Some((Mark::Inside, _)));
    let mut notes = Vec::new();
    let wide = tags().any(|t| ends(t) || middle(t));
    let narrow: Option<String> = if wide {
        check_ends(found, parts)?;
        let example = tags().find(|t| ends(t)).cloned().unwrap_or_default();
        Some(format!("tags with marks of the end ({example}; BIOES, BILOU or BMES) are read as B-I-O"))
    } else if check_begins(found, parts)? {
        Some("IOB1 tags (an entity begins with I-) are read as B-I-O: it begins with B-".into())
    } else {
        None
    };
    let mut spelt = None;
    for f in found.iter_mut() {
        let mut before = (Mark::Outside, String::new());
        for tag in &mut f.sentence.tags {
            let Some((mark, kind)) = parts(tag).map(|(m, k)| (m, k.to_string())) else { continue };
            let goes_on = before.0 != Mark::Outside && before.1 == kind;
            let begins = match mark {
                Mark::Begin | Mark::Single => true,
                Mark::Inside => !goes_on,
                Mark::End | Mark::Outside => false,
            };
            let dash = if kind.is_empty() { "" } else { "-" };
            let plain = match mark {
                Mark::Outside => "O".to_string(),
                _ => format!("{}{dash}{kind}", if begins { "B" } else { "I" }),
            };
            if plain.get(1..) != tag.get(1..) || (tag.starts_with(char::is_lowercase)) {
                spelt.get_or_insert_with(|| format!("{tag} is read as {plain}"));
            }
            *tag = plain;
            before = (mark, kind);
        }
    }
    notes.extend(narrow);
    notes.extend(spelt);
    Ok(notes)
}

/// What is wrong with tags of which only some mark entities; nothing where none does.
fn unmarked(found: &[Found]) -> Option<String> {
    let begins = |t: &str| t.starts_with("B-") || t.starts_with("B_");
    let example = found.iter().flat_map(|f| &f.sentence.tags).find(|t| begins(t))?;
    found.iter().find_map(|f| {
        let k = f.sentence.tags.iter().position(|t| in_front(t).is_none())?;
        let (place, tag) = (f.place(k), &f.sentence.tags[k]);
        Some(format!("{place}: {tag} stands beside {example}: expected O, or a mark and a type, as B-TYPE"))
    })
}

/// Whether the tags are IOB1: an entity begins with `I`, and with `B` only behind one of its type. If not,
/// they are IOB2.
fn check_begins(found: &[Found], parts: fn(&str) -> Option<Parts<'_>>) -> Result<bool, String> {
    let (mut orphan, mut fresh) = (None, None);
    for f in found {
        let mut before = (Mark::Outside, "");
        for (k, tag) in f.sentence.tags.iter().enumerate() {
            let Some((mark, kind)) = parts(tag) else { continue };
            let goes_on = before.0 != Mark::Outside && before.1 == kind;
            if !goes_on && mark == Mark::Inside {
                orphan.get_or_insert_with(|| (f.place(k), tag, kind));
            } else if !goes_on && mark == Mark::Begin {
                fresh.get_or_insert_with(|| (f.place(k), tag));
            }
            before = (mark, kind);
        }
    }
    match (orphan, fresh) {
        (None, _) => Ok(false),
        (Some(_), None) => Ok(true),
        (Some((place, tag, kind)), Some((other, first))) => Err(format!(
            "{place}: {tag} goes on with no {kind}: in B-I-O tags an entity begins with B-{kind} (nor is \
             this IOB1, since {first} at {other} follows no entity of its type)"
        )),
    }
}

/// Refuses tags whose entities do not begin, go on and end as BIOES has it.
fn check_ends(found: &[Found], parts: fn(&str) -> Option<Parts<'_>>) -> Result<(), String> {
    for f in found {
        let mut open: Option<(&str, &str)> = None;
        for (k, tag) in f.sentence.tags.iter().enumerate() {
            let Some((mark, kind)) = parts(tag) else { continue };
            let goes_on = matches!(mark, Mark::Inside | Mark::End);
            match open {
                Some((opened, of)) if !goes_on || of != kind => {
                    return Err(format!(
                        "{}: {tag} behind {opened}, whose entity has no end: in tags with marks of the end \
                         an entity is B-, I- and E-, of one word S- (or B-, I-, L-, U-)",
                        f.place(k)
                    ));
                }
                None if goes_on => {
                    return Err(format!(
                        "{}: {tag} without B-{kind} before it: in tags with marks of the end an entity is \
                         B-, I- and E-, of one word S- (or B-, I-, L-, U-)",
                        f.place(k)
                    ));
                }
                _ => {}
            }
            open = matches!(mark, Mark::Begin | Mark::Inside).then_some((tag.as_str(), kind));
        }
        if let (Some((opened, _)), Some(last)) = (open, f.sentence.tags.len().checked_sub(1)) {
            return Err(format!("{}: {opened} ends the sentence: its entity has no end", f.place(last)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::sentence::{Places, Sentence};
    use super::*;

    /// The tags of sentences (`|` between them) as converted, and the notes.
    fn read(text: &str) -> Result<(String, Vec<String>), String> {
        let mut line = 0;
        let mut found: Vec<Found> = text
            .split('|')
            .map(|s| {
                let tags: Vec<String> = s.split_whitespace().map(String::from).collect();
                let lines = tags.iter().map(|_| (line += 1, line).1).collect();
                let sentence = Sentence { id: String::new(), words: tags.clone(), tags };
                Found { sentence, places: Places::Lines(lines) }
            })
            .collect();
        let notes = convert(&mut found)?;
        let all: Vec<String> = found.iter().map(|f| f.sentence.tags.join(" ")).collect();
        Ok((all.join(" | "), notes))
    }

    fn becomes(text: &str, plain: &str, note: &str) {
        let (found, notes) = read(text).unwrap_or_else(|why| panic!("{text}: {why}"));
        assert_eq!(found, plain, "{text}");
        assert_eq!(notes.is_empty(), note.is_empty(), "{notes:?}");
        assert!(notes.join("; ").contains(note), "{notes:?}");
    }

    fn refused(text: &str, part: &str) {
        let why = read(text).expect_err(text);
        assert!(why.contains(part), "{why}");
    }

    #[test]
    fn schemes_become_one() {
        becomes("O B-X I-X B-X | B-Y", "O B-X I-X B-X | B-Y", "");
        becomes("I-X I-X B-X I-X O I-Y | I-X I-Y", "B-X I-X B-X I-X O B-Y | B-X B-Y", "IOB1");
        becomes("S-X O B-Y E-Y | B-X I-X E-X S-X", "B-X O B-Y I-Y | B-X I-X I-X B-X", "S-X");
        becomes("U-X O B-Y L-Y | B-X I-X L-X", "B-X O B-Y I-Y | B-X I-X I-X", "BILOU");
        becomes("B-X M-X E-X", "B-X I-X I-X", "BMES");
        becomes("B M E S O", "B I I B O", "BMES");
        becomes("O B I O", "O B I O", "");
        becomes("B_ORG I_ORG O", "B-ORG I-ORG O", "B_ORG is read as B-ORG");
        becomes("b-ORG i-ORG o", "B-ORG I-ORG O", "b-ORG is read as B-ORG");
        becomes("ORG-B ORG-I O", "B-ORG I-ORG O", "ORG-B is read as B-ORG");
        becomes("S_A-B O", "B-A-B O", "S_A-B");
    }

    #[test]
    fn other_classes_stay() {
        becomes("NN VB . O", "NN VB . O", "");
        becomes("S O S", "S O S", "");
        becomes("O O", "O O", "");
        becomes("", "", "");
    }

    #[test]
    fn what_fits_no_scheme_is_refused() {
        refused("O B-X O | I-Y", "line 4: I-Y goes on with no Y");
        refused("O B-X O | I-Y", "B-X at line 2");
        refused("S-X | B-X O", "line 3: O behind B-X");
        refused("S-X | B-X I-X", "line 3: I-X ends the sentence");
        refused("S-X | O E-X", "line 3: E-X without B-X");
        refused("B-X E-Y", "line 2: E-Y behind B-X");
        refused("O B-X PER", "line 3: PER stands beside B-X");
    }
}

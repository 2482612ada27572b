//! Corrupted texts, to measure how a representation stands up to a shift: typing errors, casing, and words
//! that are missing or out of order, each at five severities.
//!
//! | kind | severities 1 to 5 |
//! |---|---|
//! | `keyboard` | 1, 2, 4, 8, 16% of the letters are that of a key beside them (QWERTY, for Cyrillic ЙЦУКЕН) |
//! | `swapped_letters` | as many change places with the next letter of their word |
//! | `dropped_letters` | as many are missing |
//! | `casing` | 10, 25, 50, 75, 100% of the words are in capitals |
//! | `dropped_words` | 5, 10, 20, 30, 50% of the words are missing; one stays |
//! | `shuffled_words` | 10, 20, 30, 40, 50% of the words change places with the next |
//!
//! Typing errors after Belinkov and Bisk 2018 ("Synthetic and natural noise both break neural machine
//! translation", arXiv 1711.02173). What is drawn depends on the seed and on the name of a text alone, and a
//! severity has the errors of the one below and more. White space stays, but for that behind a dropped word.

use selfsup_core::{Error, Key, Result, Rng};

/// How often severities go up.
pub const SEVERITIES: u8 = 5;

/// Letters by their rows; a row begins half a key further right than the one above.
const KEYBOARDS: [[&str; 3]; 2] =
    [["qwertyuiop", "asdfghjkl", "zxcvbnm"], ["йцукенгшщзхъ", "фывапролджэ", "ячсмитьбю"]];

/// A kind of corruption.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Corruption {
    /// Letters of keys beside the right one.
    Keyboard,
    /// Letters that change places.
    SwappedLetters,
    /// Letters that are missing.
    DroppedLetters,
    /// Words in capitals.
    Casing,
    /// Words that are missing.
    DroppedWords,
    /// Words that change places.
    ShuffledWords,
}

use Corruption::*;

impl Corruption {
    /// All kinds.
    pub const ALL: [Corruption; 6] =
        [Keyboard, SwappedLetters, DroppedLetters, Casing, DroppedWords, ShuffledWords];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Keyboard => "keyboard",
            SwappedLetters => "swapped_letters",
            DroppedLetters => "dropped_letters",
            Casing => "casing",
            DroppedWords => "dropped_words",
            ShuffledWords => "shuffled_words",
        }
    }

    /// What the severities are.
    pub fn about(self) -> &'static str {
        match self {
            Keyboard => "1, 2, 4, 8, 16% of the letters are that of a key beside them",
            SwappedLetters => "1, 2, 4, 8, 16% of the letters change places with the next",
            DroppedLetters => "1, 2, 4, 8, 16% of the letters are missing",
            Casing => "10, 25, 50, 75, 100% of the words are in capitals",
            DroppedWords => "5, 10, 20, 30, 50% of the words are missing",
            ShuffledWords => "10, 20, 30, 40, 50% of the words change places with the next",
        }
    }

    /// The kind of this name.
    ///
    /// # Errors
    /// If there is none; the message lists all.
    pub fn named(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
            let all = Self::ALL.map(Corruption::name).join(", ");
            Error::config(format!("no corruption of texts is called \"{name}\": expected one of {all}"))
        })
    }

    /// The share of letters or words at a severity.
    fn share(self, severity: u8) -> f32 {
        let of = match self {
            Keyboard | SwappedLetters | DroppedLetters => [0.01, 0.02, 0.04, 0.08, 0.16],
            Casing => [0.1, 0.25, 0.5, 0.75, 1.0],
            DroppedWords => [0.05, 0.1, 0.2, 0.3, 0.5],
            ShuffledWords => [0.1, 0.2, 0.3, 0.4, 0.5],
        };
        of[usize::from(severity.clamp(1, SEVERITIES)) - 1]
    }
}

/// A kind of corruption at one severity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Corrupt {
    kind: Corruption,
    severity: u8,
    seed: u64,
}

impl Corrupt {
    /// Another seed is other errors. Severity 0 leaves texts as they are.
    ///
    /// # Errors
    /// If the severity is above 5.
    pub fn new(kind: Corruption, severity: u8, seed: u64) -> Result<Self> {
        if severity > SEVERITIES {
            return Err(Error::config(format!("severity {severity}: expected 0 (none) to {SEVERITIES}")));
        }
        Ok(Corrupt { kind, severity, seed })
    }

    /// The text that is called `id`.
    pub fn apply(&self, text: &str, id: &str) -> String {
        if self.severity == 0 {
            return text.to_string();
        }
        let share = self.kind.share(self.severity);
        let mut rng = Key::new(self.seed).named(self.kind.name()).named(id).rng();
        match self.kind {
            Keyboard => keyboard(text, share, &mut rng),
            SwappedLetters => swapped(text, share, &mut rng),
            DroppedLetters => text.chars().filter(|c| !(c.is_alphabetic() && rng.chance(share))).collect(),
            Casing => words(text).map(|(word, space)| capitals(word, rng.chance(share)) + space).collect(),
            DroppedWords => dropped(text, share, &mut rng),
            ShuffledWords => shuffled(text, share, &mut rng),
        }
    }
}

/// The words of a text, each with the white space behind it; white space at the beginning has an empty word.
fn words(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let (word, behind) = rest.split_at(end);
        let next = behind.find(|c: char| !c.is_whitespace()).unwrap_or(behind.len());
        let (space, after) = behind.split_at(next);
        rest = after;
        Some((word, space))
    })
}

fn capitals(word: &str, large: bool) -> String {
    if large { word.to_uppercase() } else { word.to_string() }
}

/// The letters of the keys around that of `c`, in its case; none for what is on no key.
fn beside(c: char) -> Vec<char> {
    let small = c.to_lowercase().next().unwrap_or(c);
    for rows in KEYBOARDS {
        // Twice the distance from the left edge: rows are shifted by half a key.
        let keys = || {
            rows.iter()
                .enumerate()
                .flat_map(|(row, keys)| keys.chars().enumerate().map(move |(i, key)| (key, row, 2 * i + row)))
        };
        let Some((_, row, at)) = keys().find(|(key, ..)| *key == small) else { continue };
        let near = |r: usize, x: usize| match row.abs_diff(r) {
            0 => x.abs_diff(at) == 2,
            1 => x.abs_diff(at) == 1,
            _ => false,
        };
        let large = c.is_uppercase();
        let cased = |key: char| if large { key.to_uppercase().next().unwrap_or(key) } else { key };
        return keys().filter(|(_, r, x)| near(*r, *x)).map(|(key, ..)| cased(key)).collect();
    }
    Vec::new()
}

fn keyboard(text: &str, share: f32, rng: &mut Rng) -> String {
    text.chars()
        .map(|c| {
            let near = beside(c);
            if near.is_empty() {
                return c;
            }
            // Drawn whether it is hit or not: a higher severity then has the same errors and more.
            let (hit, which) = (rng.chance(share), rng.below(near.len()));
            if hit { near[which] } else { c }
        })
        .collect()
}

fn swapped(text: &str, share: f32, rng: &mut Rng) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    let mut moved = false;
    for i in 1..chars.len() {
        if !(chars[i - 1].is_alphabetic() && chars[i].is_alphabetic()) {
            moved = false;
            continue;
        }
        // A letter that has just come from behind stays.
        let hit = rng.chance(share);
        if hit && !moved {
            chars.swap(i - 1, i);
        }
        moved = hit && !moved;
    }
    chars.into_iter().collect()
}

fn dropped(text: &str, share: f32, rng: &mut Rng) -> String {
    let all: Vec<(&str, &str)> = words(text).collect();
    let draws: Vec<f32> = all.iter().map(|_| rng.uniform()).collect();
    let real = |i: &usize| !all[*i].0.is_empty();
    // The word that would go last stays in any case.
    let last = (0..all.len()).filter(real).max_by(|&a, &b| draws[a].total_cmp(&draws[b]));
    let kept = |i: usize| !real(&i) || draws[i] >= share || Some(i) == last;
    all.iter()
        .enumerate()
        .filter(|(i, _)| kept(*i))
        .map(|(_, (word, space))| [*word, *space].concat())
        .collect()
}

fn shuffled(text: &str, share: f32, rng: &mut Rng) -> String {
    let all: Vec<(&str, &str)> = words(text).collect();
    let mut order: Vec<&str> = all.iter().map(|(word, _)| *word).collect();
    for i in 1..order.len() {
        if rng.chance(share) && !order[i - 1].is_empty() && !order[i].is_empty() {
            order.swap(i - 1, i);
        }
    }
    // The white space stays where it is.
    order.into_iter().zip(&all).map(|(word, (_, space))| [word, *space].concat()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str =
        "  The quick brown fox jumps over the lazy dog,\nwhile Зоя пишет письмо to 42 friends. ";

    fn made(kind: Corruption, severity: u8, seed: u64) -> String {
        Corrupt::new(kind, severity, seed).unwrap().apply(TEXT, "a")
    }

    /// Letters or words that differ, over many texts.
    fn distance(kind: Corruption, severity: u8) -> usize {
        let by_words = matches!(kind, Casing | DroppedWords | ShuffledWords);
        let of = |seed: u64| {
            let made = made(kind, severity, seed);
            if by_words {
                let (a, b): (Vec<&str>, Vec<&str>) =
                    (TEXT.split_whitespace().collect(), made.split_whitespace().collect());
                a.len() - b.len() + a.iter().zip(&b).filter(|(a, b)| a != b).count()
            } else {
                let (a, b) = (TEXT.chars().count(), made.chars().count());
                a - b + TEXT.chars().zip(made.chars()).filter(|(a, b)| a != b).count()
            }
        };
        (0..200).map(of).sum()
    }

    #[test]
    fn severity_0_is_the_text_and_more_is_further_from_it() {
        for kind in Corruption::ALL {
            assert_eq!(made(kind, 0, 1), TEXT);
            let distances: Vec<usize> = (1..=5).map(|s| distance(kind, s)).collect();
            assert!(distances[0] > 0, "{}: {distances:?}", kind.name());
            assert!(distances.windows(2).all(|d| d[1] > d[0]), "{}: {distances:?}", kind.name());
            assert_eq!(made(kind, 4, 7), made(kind, 4, 7));
            let other = Corrupt::new(kind, 4, 7).unwrap().apply(TEXT, "b");
            assert!(kind == Casing || made(kind, 4, 7) != other, "a text by itself: {}", kind.name());
        }
    }

    #[test]
    fn closed_forms() {
        let sorted = |c: char| {
            let mut near = beside(c);
            near.sort_unstable();
            near.into_iter().collect::<String>()
        };
        assert_eq!(
            [sorted('g'), sorted('q'), sorted('M'), sorted('ж')],
            ["bfhtyv", "aw", "JKN", "дэюзх"].map(|s| {
                let mut s: Vec<char> = s.chars().collect();
                s.sort_unstable();
                s.into_iter().collect::<String>()
            })
        );
        assert!(beside('7').is_empty() && beside(' ').is_empty() && beside('é').is_empty());
        assert_eq!(made(Casing, 5, 0), TEXT.to_uppercase());
        let mut rng = Key::new(0).rng();
        assert_eq!(swapped("abcd ef", 1.0, &mut rng), "badc fe");
        assert_eq!(shuffled("a b\tc d", 1.0, &mut rng), "b c\td a");
        assert_eq!(dropped("one  two three", 1.0, &mut rng).split_whitespace().count(), 1);
        assert_eq!(words(" a  b").collect::<Vec<_>>(), [("", " "), ("a", "  "), ("b", "")]);
        // The shares are those that are stated: of 1000 words 300 are missing, within four deviations.
        let long = "word ".repeat(1000);
        let left = Corrupt::new(DroppedWords, 4, 0).unwrap().apply(&long, "x").split_whitespace().count();
        assert!((640..760).contains(&left), "{left}");
    }

    #[test]
    fn wrong_names_and_severities() {
        for kind in Corruption::ALL {
            assert_eq!(Corruption::named(kind.name()).unwrap(), kind);
            assert!(!kind.about().is_empty());
        }
        let error = Corruption::named("fog").unwrap_err().to_string();
        assert!(error.contains("fog") && error.contains("keyboard, swapped_letters"), "{error}");
        assert!(Corrupt::new(Casing, 6, 0).unwrap_err().to_string().contains("severity 6"));
    }

    proptest! {
        /// Any text goes through; a text with words keeps one.
        #[test]
        fn any_text(text in "\\PC{0,60}", severity in 1u8..6, seed in 0u64..9) {
            for kind in Corruption::ALL {
                let made = Corrupt::new(kind, severity, seed).unwrap().apply(&text, "x");
                if matches!(kind, DroppedWords | ShuffledWords | Casing) {
                    prop_assert_eq!(made.split_whitespace().next().is_some(), text.split_whitespace().next().is_some());
                }
            }
        }
    }
}

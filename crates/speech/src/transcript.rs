//! Transcripts as they are to be recognised: without marks of writing that nobody hears.

use serde::{Deserialize, Serialize};
use unicode_normalization_alignments::UnicodeNormalization;

/// How transcripts are simplified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TranscriptConfig {
    /// Small letters only. Default true.
    pub lowercase: bool,
    /// What is not a letter, a digit or white space becomes white space, but for the characters of `keep`;
    /// accents that tell the stress of Cyrillic letters vanish. Default true.
    pub strip: bool,
    /// Characters that `strip` leaves within words. Default `'`.
    pub keep: String,
    /// Characters that vanish without dividing a word, such as the stress mark `+` of Festival's texts.
    /// Default `+`.
    pub drop: String,
}

impl Default for TranscriptConfig {
    fn default() -> Self {
        TranscriptConfig { lowercase: true, strip: true, keep: "'".into(), drop: "+".into() }
    }
}

impl TranscriptConfig {
    /// The transcript simplified; words are separated by one space.
    pub fn apply(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut before = ' ';
        // One spelling of what Unicode can write in two ways: a letter with its accent is one character.
        let left = text.chars().filter(|c| !self.drop.contains(*c));
        for (c, _) in left.nfc() {
            // An accent that is left over a Cyrillic letter tells its stress.
            if self.strip && is_stress(c) && is_cyrillic(before) {
                continue;
            }
            before = c;
            let c = match c {
                // Typographic apostrophes are the same sound.
                '\u{2019}' | '\u{02bc}' => '\'',
                c => c,
            };
            if self.strip && !c.is_alphanumeric() && !self.keep.contains(c) && !is_mark(c) {
                out.push(' ');
            } else if self.lowercase {
                out.extend(c.to_lowercase());
            } else {
                out.push(c);
            }
        }
        let words: Vec<&str> =
            out.split_whitespace().map(|w| w.trim_matches(|c| self.strip && self.keep.contains(c))).collect();
        let words: Vec<&str> = words.into_iter().filter(|w| !w.is_empty()).collect();
        // A small letter may compose where the capital did not.
        words.join(" ").nfc().map(|(c, _)| c).collect()
    }
}

/// Acute and grave.
fn is_stress(c: char) -> bool {
    matches!(c, '\u{0300}' | '\u{0301}')
}

fn is_cyrillic(c: char) -> bool {
    matches!(c, '\u{0400}'..='\u{052f}')
}

/// Accents that follow their letter.
fn is_mark(c: char) -> bool {
    matches!(c, '\u{0300}'..='\u{036f}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_heard_stays() {
        let t = TranscriptConfig::default();
        assert_eq!(
            t.apply("Она завела, прядь вол+ос за ухо, - и пошла..."),
            "она завела прядь волос за ухо и пошла"
        );
        assert_eq!(t.apply("Don\u{2019}t — 'quote' it, l'été!"), "don't quote it l'été");
        assert_eq!(t.apply(" [beep] \t\n"), "beep");
        assert_eq!(t.apply("..."), "");
        // Composed and decomposed letters are one; stress marks go, letters with marks of their own stay.
        assert_eq!(t.apply("e\u{301}te\u{301}"), "été");
        assert_eq!(t.apply("за\u{301}мок \u{438}\u{306} ё"), "замок й ё");
        let plain =
            TranscriptConfig { lowercase: false, strip: false, keep: String::new(), drop: String::new() };
        assert_eq!(plain.apply("  A+b,  C "), "A+b, C");
    }

    proptest! {
        #[test]
        fn twice_is_once(text in "\\PC{0,40}") {
            let t = TranscriptConfig::default();
            let once = t.apply(&text);
            prop_assert_eq!(t.apply(&once), once);
        }
    }
}

//! Samples on a page: small pictures, beginnings of texts and recordings, in a budget of bytes.

use crate::modality::{Shown, Shows};
use crate::set::Set;
use serde::Serialize;

/// Bytes that all samples of a page take in it.
const BUDGET: usize = 9_500_000;
/// Samples that cannot be read in a row, after which no more are tried.
const FAILURES: usize = 50;

/// The samples of a map, or of several whose samples are the same.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Gallery {
    /// What says that the samples are the same: not on the page, since it holds a hash of names.
    #[serde(skip)]
    key: String,
    /// `image`, `text` or `audio`.
    kind: &'static str,
    /// How many of the samples are here.
    pub shown: usize,
    /// A data URI or a text for each sample; `null` for those that are not here.
    items: Vec<Option<String>>,
}

/// All samples of a page.
#[derive(Debug, Default)]
pub(super) struct Galleries {
    all: Vec<Gallery>,
    used: usize,
    /// What says that samples are the same, of all maps so far.
    keys: Vec<String>,
}

impl Galleries {
    /// The galleries in their order.
    pub fn all(&self) -> &[Gallery] {
        &self.all
    }

    /// The number of these samples among all that were asked for: the same for the same samples.
    pub fn number(&mut self, key: &str) -> usize {
        let found = self.keys.iter().position(|k| k == key);
        found.unwrap_or_else(|| {
            self.keys.push(key.into());
            self.keys.len() - 1
        })
    }

    /// The number of the gallery of `set`, which is filled if it is new: with samples spread over the whole,
    /// as many as the budget allows. `None` where nothing can be shown.
    pub fn of(&mut self, key: String, shows: &dyn Shows, set: &Set) -> Option<usize> {
        if let Some(found) = self.all.iter().position(|g| g.key == key) {
            return Some(found);
        }
        let mut gallery = Gallery { key, kind: "image", shown: 0, items: vec![None; set.len()] };
        let mut failures = 0;
        for i in spread(set.len()) {
            let Ok(shown) = shows.show(set, i) else {
                // What cannot be shown is no reason to write no page.
                failures += 1;
                if failures > FAILURES && gallery.shown == 0 { break } else { continue }
            };
            let (kind, item) = item(shown);
            if self.used + item.len() > BUDGET {
                break;
            }
            self.used += item.len();
            gallery.kind = kind;
            gallery.shown += 1;
            gallery.items[i] = Some(item);
        }
        if gallery.shown == 0 {
            return None;
        }
        self.all.push(gallery);
        Some(self.all.len() - 1)
    }
}

fn item(shown: Shown) -> (&'static str, String) {
    match shown {
        Shown::Picture { mime, bytes } => ("image", data_uri(mime, &bytes)),
        Shown::Sound(bytes) => ("audio", data_uri("audio/wav", &bytes)),
        Shown::Text(text) => ("text", text),
    }
}

/// A file as an address that holds it.
pub(super) fn data_uri(mime: &str, bytes: &[u8]) -> String {
    format!("data:{mime};base64,{}", base64(bytes))
}

/// Base64 (RFC 4648).
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for part in bytes.chunks(3) {
        let at = |i: usize| u32::from(part.get(i).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for k in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * k) & 63) as usize];
            out.push(if k <= part.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

/// All of `0..n`, such that any beginning of it is spread over the whole: steps of the golden ratio.
fn spread(n: usize) -> Vec<usize> {
    let mut step = (n as f64 * 0.618_033_988_749_895).round().max(1.0) as usize;
    while step > 1 && gcd(step, n) != 1 {
        step -= 1;
    }
    (0..n).map(|i| i * step % n.max(1)).collect()
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::{Error, Result};
    use selfsup_datasets::{Record, Records};

    #[test]
    fn base64_of_rfc_4648() {
        let of = |text: &str| base64(text.as_bytes());
        assert_eq!(
            ["", "f", "fo", "foo", "foob", "fooba", "foobar"].map(of),
            ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"]
        );
        assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
    }

    #[test]
    fn a_beginning_is_spread_over_the_whole() {
        for n in [1, 2, 3, 10, 97, 1000] {
            let order = spread(n);
            let mut all = order.clone();
            all.sort_unstable();
            assert_eq!(all, (0..n).collect::<Vec<_>>());
        }
        let first = &spread(1000)[..10];
        assert!((0..4).all(|part| first.iter().any(|i| i / 250 == part)), "{first:?}");
    }

    struct Numbers(usize);

    impl Records for Numbers {
        fn len(&self) -> usize {
            self.0
        }
        fn get(&self, index: usize) -> Result<Record> {
            Err(Error::input(index, "is not read"))
        }
    }

    /// Texts of a megabyte each; the third cannot be read.
    struct Large;

    impl Shows for Large {
        fn show(&self, _: &Set, index: usize) -> Result<Shown> {
            if index == 3 {
                return Err(Error::input(index, "cannot be read"));
            }
            Ok(Shown::Text("x".repeat(1_000_000)))
        }
    }

    #[test]
    fn the_budget_holds_and_samples_of_two_runs_are_kept_once() {
        let mut galleries = Galleries::default();
        let set = Set::new(Numbers(20));
        assert_eq!(galleries.of("a".into(), &Large, &set), Some(0));
        assert_eq!(galleries.of("a".into(), &Large, &set), Some(0));
        let gallery = &galleries.all()[0];
        assert_eq!((gallery.shown, gallery.items.len(), gallery.kind), (9, 20, "text"));
        assert!(gallery.items[3].is_none());
        assert_eq!(galleries.of("b".into(), &Large, &set), None, "nothing is left");
        assert_eq!(["x", "y", "x"].map(|key| galleries.number(key)), [0, 1, 0]);
    }
}

//! Cylinder, bell, funnel: synthetic series of three shapes (Saito 1994, "Local feature extraction and its
//! applications using a library of bases"), made when they are opened.
//!
//! - what: 360 series of 128 samples, 3 classes in turn; the first 60 are the training part, the rest the test
//!   part
//! - source: the formulas below, drawn with a fixed seed
//! - licence: none is needed: numbers of a formula
//! - use: a smoke run of minutes. A figure on these says that a method works, not how well.
//!
//! With `a` uniform in 16 to 32, `b - a` in 32 to 96, `eta` and each `eps(t)` standard normal: a cylinder is
//! `(6 + eta) X(t) + eps(t)`, where `X` is 1 from `a` to `b` and 0 elsewhere; a bell rises over it as `(t - a) / (b -
//! a)`, a funnel falls as `(b - t) / (b - a)`.

use crate::card::Card;
use crate::kind::Kind;
use crate::record::{Record, Records, Source, missing};
use crate::split::Split;
use selfsup_core::{Key, Result};
use std::fmt::Write;
use std::sync::Arc;

/// The card of this data set.
pub const CARD: Card = Card {
    name: "cylinder-bell-funnel",
    kind: Kind::Signals,
    about: "360 synthetic series of 128 samples, 3 shapes; 60 to train on",
    licence: "none needed",
    size: "made when opened",
    source: "bundled",
    open: || Ok(Box::new(Shapes::new())),
};

const CLASSES: [&str; 3] = ["cylinder", "bell", "funnel"];
const LENGTH: usize = 128;
const TRAIN: usize = 60;
const ALL: usize = 360;

/// The series.
struct Shapes {
    classes: Vec<String>,
}

impl Shapes {
    fn new() -> Self {
        Shapes { classes: CLASSES.map(String::from).to_vec() }
    }
}

/// Series `index`.
fn values(index: usize) -> Vec<f32> {
    let mut rng = Key::new(1994).named("cylinder bell funnel").fold(index as u64).rng();
    let a = rng.range_f32(16.0, 32.0);
    let b = a + rng.range_f32(32.0, 96.0);
    let height = 6.0 + rng.normal();
    let value = |t: usize| {
        let t = t as f32;
        let shape = match index % CLASSES.len() {
            _ if t < a || t > b => 0.0,
            0 => 1.0,
            1 => (t - a) / (b - a),
            _ => (b - t) / (b - a),
        };
        height * shape + rng.normal()
    };
    (0..LENGTH).map(value).collect()
}

impl Records for Shapes {
    fn len(&self) -> usize {
        ALL
    }

    fn get(&self, index: usize) -> Result<Record> {
        if index >= ALL {
            return Err(missing(CARD.name, index, ALL));
        }
        let mut text = "@data\n".to_string();
        for (t, v) in values(index).iter().enumerate() {
            // Writing into a text cannot fail.
            let _ = write!(text, "{}{v}", if t > 0 { "," } else { "" });
        }
        text.push('\n');
        Ok(Record {
            id: format!("{}:{}", CARD.name, index + 1),
            source: Source::Bytes(Arc::from(text.into_bytes())),
            label: self.label(index),
            group: None,
        })
    }

    fn label(&self, index: usize) -> Option<u32> {
        (index < ALL).then_some((index % CLASSES.len()) as u32)
    }

    fn split(&self, index: usize) -> Option<Split> {
        Some(if index < TRAIN { Split::Train } else { Split::Test })
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Levels inside and outside of the shapes: noise of deviation 1 around 0 and 6.
    #[test]
    fn shapes_are_those_of_the_formulas() {
        let mean = |v: &[f32]| v.iter().sum::<f32>() / v.len() as f32;
        let of = |class: usize, range: std::ops::Range<usize>| {
            let all: Vec<f32> = (0..100).map(|i| mean(&values(3 * i + class)[range.clone()])).collect();
            mean(&all)
        };
        for class in 0..3 {
            assert!(of(class, 0..16).abs() < 0.2);
        }
        // All shapes reach from sample 32 to 48 at least.
        assert!((of(0, 32..48) - 6.0).abs() < 0.4);
        assert!(of(1, 32..36) < 2.5 && of(2, 32..36) > 4.0);
        assert_eq!(values(5), values(5));
        assert_ne!(values(5), values(8));
        let set = Shapes::new();
        let record = set.get(359).unwrap();
        assert_eq!((record.label, record.id.as_str()), (Some(2), "cylinder-bell-funnel:360"));
        assert!(set.get(360).is_err());
        assert_eq!((set.split(59), set.split(60)), (Some(Split::Train), Some(Split::Test)));
    }
}

//! Ways to learn from labels that a curve compares.

use selfsup_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// A way to learn from labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Setting {
    /// A linear probe of the trained encoder; for tasks whose head is no linear classifier of features that
    /// head alone, trained on the frozen encoder.
    Linear,
    /// The trained encoder and a head, trained together.
    Finetune,
    /// The same network, trained from random weights.
    Scratch,
    /// As [`Setting::Linear`] on the encoder with random weights.
    Random,
    /// A linear probe of features that need no encoder: pixels, words, spectra.
    Raw,
}

impl Setting {
    /// All of them.
    pub const ALL: [Setting; 5] =
        [Setting::Linear, Setting::Finetune, Setting::Scratch, Setting::Random, Setting::Raw];

    /// Its name on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Setting::Linear => "linear",
            Setting::Finetune => "finetune",
            Setting::Scratch => "scratch",
            Setting::Random => "random",
            Setting::Raw => "raw",
        }
    }

    /// The setting of this name.
    ///
    /// # Errors
    /// If there is none.
    pub fn named(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|s| s.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Setting::name).join(", ");
            Error::config(format!("--settings {name}: expected some of {names}"))
        })
    }

    /// What it is called in a table; `raw` is what features without an encoder are called.
    pub fn title(self, raw: &str) -> String {
        match self {
            Setting::Linear => "linear probe".into(),
            Setting::Finetune => "fine-tuned".into(),
            Setting::Scratch => "from scratch".into(),
            Setting::Random => "random encoder".into(),
            Setting::Raw => raw.into(),
        }
    }

    /// Whether it uses what pre-training has learnt.
    pub fn pretrained(self) -> bool {
        matches!(self, Setting::Linear | Setting::Finetune)
    }
}

//! What a modality would train on data of a kind and size: recipes, from the one that costs least to the one
//! that a long run takes. Which of them is taken is decided by what a step costs ([`crate::plan`]).

use toml::{Table, Value};

/// What the data is, and what could be trained on it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// The data in a few words: "640 x 480 pixels, 8 bit, colour".
    pub data: String,
    /// From the recipe that costs least to the one that a long run takes; there is one at least.
    pub recipes: Vec<Recipe>,
}

/// Keys of a run that follow from its data.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recipe {
    /// The keys, by section: a layer below everything that is given.
    pub keys: Table,
    /// The largest batch that helps.
    pub batch: usize,
    /// AdamW's learning rate for a batch of 256; by default that of the optimiser.
    pub rate: Option<f64>,
}

impl Recipe {
    /// A recipe of this batch without keys.
    pub fn of(batch: usize) -> Self {
        Recipe { batch, ..Recipe::default() }
    }

    /// The same with a key, by its dotted path.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        set(&mut self.keys, key, value);
        self
    }

    /// The same with a learning rate for a batch of 256.
    #[must_use]
    pub fn at_rate(self, rate: f64) -> Self {
        Recipe { rate: Some(rate), ..self }
    }
}

/// Sets a key of a table by its dotted path, with the sections that it needs.
pub fn set(table: &mut Table, key: &str, value: impl Into<Value>) {
    let Some((section, rest)) = key.split_once('.') else {
        table.insert(key.to_string(), value.into());
        return;
    };
    let inner = table.entry(section.to_string()).or_insert_with(|| Value::Table(Table::new()));
    if let Value::Table(inner) = inner {
        set(inner, rest, value);
    }
}

/// Which keys the user gave.
#[derive(Clone, Debug, Default)]
pub struct Given(Vec<String>);

impl Given {
    /// These dotted paths.
    pub fn new(keys: Vec<String>) -> Self {
        Given(keys)
    }

    /// Whether the key, or one of the section's keys, was given.
    pub fn any(&self, key: &str) -> bool {
        let below =
            |k: &String| k.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        self.0.iter().any(below)
    }
}

/// The middle of some numbers, without those that are not there; 0 of none.
pub fn median(mut values: Vec<usize>) -> usize {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// "28", or "28 to 64".
pub fn span(values: &[usize]) -> String {
    match (values.iter().min(), values.iter().max()) {
        (Some(low), Some(high)) if low != high => format!("{low} to {high}"),
        (Some(low), _) => low.to_string(),
        _ => "unknown".into(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_into_their_sections() {
        let recipe =
            Recipe::of(4).with("augment.size", 64).with("encoder.name", "resnet").with("device", "cpu");
        let text = toml::to_string(&recipe.keys).unwrap();
        for part in ["[augment]\nsize = 64", "[encoder]\nname = \"resnet\"", "device = \"cpu\""] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn a_key_is_given_with_its_section() {
        let given = Given::new(vec!["encoder.dim".into(), "train".into()]);
        for (key, is) in
            [("encoder", true), ("encoder.dim", true), ("encoder.di", false), ("train.steps", false)]
        {
            assert_eq!(given.any(key), is, "{key}");
        }
    }

    #[test]
    fn numbers_in_words() {
        assert_eq!(
            (span(&[28, 28]), span(&[64, 28, 30]), span(&[])),
            ("28".into(), "28 to 64".into(), "unknown".into())
        );
        assert_eq!((median(vec![9, 1, 4]), median(vec![])), (4, 0));
    }
}

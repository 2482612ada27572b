//! What is trained on so much text: a vocabulary, a length of inputs and a network that go with it.

use crate::recipe::{Given, Recipe};

/// Width, blocks, learning rate for a batch of 256, and bytes of text from which a network is worth it. The
/// rates are those of BERT's base model (arXiv 1810.04805) and of ELECTRA's small one (2003.10555, 256 wide);
/// narrower ones take higher rates.
const NETWORKS: [(usize, usize, f64, u64); 4] =
    [(128, 2, 1e-3, 0), (256, 4, 5e-4, 0), (512, 8, 3e-4, 10_000_000), (768, 12, 1e-4, 100_000_000)];
/// The batch of BERT.
const BATCH: usize = 256;
/// Bytes of text for each piece of a vocabulary: so many occur often enough to be learned.
const PIECE: u64 = 64;
/// Bytes of a token of a small vocabulary.
const TOKEN: u64 = 4;

/// Recipes for `bytes` of text and a network called `name`. A vocabulary has up to `vocabulary` pieces; 0 where
/// none is made.
pub(super) fn recipes(bytes: u64, name: &str, vocabulary: usize, given: &Given) -> Vec<Recipe> {
    let mut base = Recipe::of(BATCH);
    if vocabulary > 0 && !given.any("tokenizer.vocab_size") {
        let pieces = (bytes / PIECE).clamp(256, vocabulary as u64);
        base = base.with("tokenizer.vocab_size", pieces as i64);
    }
    if !given.any("corpus.length") {
        // 64 inputs at least, where that leaves them long enough to have a context.
        let inputs = (bytes / TOKEN / 64).clamp(16, 128);
        let length = 1_i64 << inputs.ilog2();
        base = base.with("corpus.length", length);
    }
    if given.any("encoder.dim") {
        return vec![base];
    }
    if given.any("encoder") {
        // A network by its name is as large as published.
        return vec![base.at_rate(1e-4)];
    }
    let worth = NETWORKS.iter().filter(|n| bytes >= n.3);
    worth
        .map(|&(dim, depth, rate, _)| {
            base.clone()
                .with("encoder.name", name)
                .with("encoder.dim", dim as i64)
                .with("encoder.depth", depth as i64)
                .with("encoder.heads", (dim / 64) as i64)
                .at_rate(rate)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_text_makes_small_networks_and_short_inputs() {
        let of = |bytes: u64, given: &[&str]| {
            let given = Given::new(given.iter().map(|g| (*g).to_string()).collect());
            let all = recipes(bytes, "bert", 30_522, &given);
            let last = all[all.len() - 1].keys.clone();
            let number = |section: &str, key: &str| {
                last.get(section).and_then(|s| s.get(key)).and_then(toml::Value::as_integer).unwrap_or(0)
            };
            (
                all.len(),
                number("encoder", "dim"),
                number("tokenizer", "vocab_size"),
                number("corpus", "length"),
            )
        };
        assert_eq!(of(20_000, &[]), (2, 256, 312, 64));
        assert_eq!(of(1_000, &[]), (2, 256, 256, 16));
        assert_eq!(of(1 << 30, &[]), (4, 768, 30_522, 128));
        assert_eq!(of(20_000, &["encoder.dim", "corpus.length"]), (1, 0, 312, 0));
        assert_eq!(of(20_000, &["tokenizer.vocab_size"]), (2, 256, 0, 64));
    }
}

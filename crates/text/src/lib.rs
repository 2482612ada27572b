//! Text encoders, tokenizers and recipes.

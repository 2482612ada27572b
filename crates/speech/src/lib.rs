//! Speech encoders, audio decoding and recipes.

//! From files of text to examples: reading, tokenising once, and cutting into blocks that are read by
//! position.
//!
//! ```text
//! files (txt, jsonl, json, csv; plain, gz, zst) -> documents, in memory or on disk -> tokens, in memory or in shards -> blocks or one example a document
//! ```
//!
//! Shards are files of token ids; a block is a place in one, so a corpus larger than memory streams, and a
//! run resumes at any batch at once.

mod blocks;
mod config;
mod items;
mod lines;
mod reader;
mod shards;
mod store;

pub use blocks::{Around, Blocks, Documents};
pub use config::{CorpusConfig, Examples, Packing, Prepared, TextLoader};
pub use reader::{Document, Reader, Unit, files, weight};
pub use shards::{ShardWriter, Tokens};
pub use store::{TextStore, folder_name};

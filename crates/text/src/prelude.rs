//! What most programs take from here, with the core's prelude: `use selfsup_text::prelude::*;`.

pub use crate::batch::{Example, Pad, Sequences, Vocabulary};
pub use crate::corpus::{CorpusConfig, Document, Packing, Prepared, TextLoader, Unit};
pub use crate::encoder::{Bert, BertConfig, Family, Gpt2, Gpt2Config, Pool, T5, T5Config};
pub use crate::export::export;
pub use crate::method::{MaskedLm, MaskedLmConfig};
pub use crate::recipe::{
    Architecture, BertKeys, ElectraKeys, EncoderConfig, Gpt2Keys, Method, MethodConfig, T5Keys,
};
pub use crate::tokenizer::{self, Tokenizer, TokenizerConfig, TokenizerKind};
pub use selfsup_core::prelude::*;

//! What most programs take from here, with the core's prelude: `use selfsup_speech::prelude::*;`.

pub use crate::audio::{AudioConfig, Content, Section, load};
pub use crate::batch::{Target, Utterance, Waves};
pub use crate::data::{Padded, Prepare, PrepareConfig, normalize};
pub use crate::encoder::{Family, SpeechConfig, SpeechEncoder};
pub use crate::methods::{Data2Vec, Data2VecConfig, Hubert, HubertConfig, Wav2Vec2, Wav2Vec2Config};
pub use crate::names::{load_pretrained, read_config, save_folder};
pub use selfsup_core::prelude::*;

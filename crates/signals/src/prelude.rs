//! What most programs take from here and from the core: `use selfsup_signals::prelude::*;`.

pub use crate::augment::{Augment, AugmentConfig};
pub use crate::data::{Evenly, Stacked};
pub use crate::encoder::{Dilated, DilatedConfig, PatchTransformer, PatchTst, PatchTstConfig, ResNet1d};
pub use crate::methods::{MaskedPatches, MaskedPatchesConfig, Ts2Vec, Ts2VecConfig};
pub use crate::prepare::SignalConfig;
pub use crate::read::{ReadConfig, read};
pub use crate::recording::{Annotation, Channel, Recording};
pub use crate::stream::{Due, Steps, Stream};
pub use crate::window::Window;
pub use selfsup_core::prelude::*;

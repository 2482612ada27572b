//! The modalities of this build: a new one is a line of the table.

use crate::config::{Keys, PretrainConfig};
use crate::modality::Modality;
use crate::task::{TaskConfig, Tasks};
use selfsup_core::Error;
use selfsup_datasets::Kind;

/// What is known of a modality before a configuration is read.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its name.
    pub kind: Kind,
    /// Names of its methods; the first is taken where none is named.
    pub methods: &'static [&'static str],
}

const fn entry<M: Modality>() -> Entry {
    Entry { kind: M::Keys::KIND, methods: M::Keys::METHODS }
}

/// From a list of types: the table [`MODALITIES`], and the macro `with_modality!(kind, M => code)`, which
/// runs code with `M` the type of a modality.
macro_rules! modalities {
    ($d:tt $($(#[$built:meta])* $modality:path,)*) => {
        /// All of them.
        pub const MODALITIES: &[Entry] = &[$($(#[$built])* entry::<$modality>(),)*];

        /// Runs code, which returns a result, with `$m` the type of the modality `$kind`.
        macro_rules! with_modality {
            ($d kind:expr, $d m:ident => $d body:expr) => {
                'found: {
                    let kind: selfsup_datasets::Kind = $d kind;
                    $($(#[$built])*
                    if kind == <<$modality as $d crate::modality::Modality>::Keys as $d crate::config::Keys>::KIND {
                        type $d m = $modality;
                        break 'found ($d body);
                    })*
                    Err($d crate::registry::absent(kind))
                }
            };
        }
    };
}

modalities! { $
    #[cfg(feature = "vision")]
    crate::modality::vision::Vision,
    #[cfg(feature = "text")]
    crate::modality::text::Text,
    #[cfg(feature = "speech")]
    crate::modality::speech::Speech,
    #[cfg(feature = "medical")]
    crate::modality::medical::Medical,
    #[cfg(feature = "signals")]
    crate::modality::signals::Signals,
}
pub(crate) use with_modality;

/// The error for a modality that this build is without.
pub fn absent(kind: Kind) -> Error {
    Error::config(format!("modality {kind} is not in this build: build with --features {kind}"))
}

/// The modalities whose methods include `name`.
pub fn with_method(name: &str) -> Vec<Kind> {
    MODALITIES.iter().filter(|m| m.methods.contains(&name)).map(|m| m.kind).collect()
}

/// The modalities whose encoders are fine-tuned for `task`.
pub fn with_task(task: &str) -> Vec<Kind> {
    let has = |kind| -> selfsup_core::Result<bool> {
        with_modality!(kind, M => Ok(<M as Tasks>::TASKS.contains(&task)))
    };
    MODALITIES.iter().map(|m| m.kind).filter(|kind| has(*kind).unwrap_or(false)).collect()
}

/// Who has a key that is unknown where it was given: other modalities, or the other verb.
pub fn owner(key: &str) -> Option<String> {
    use selfsup_core::config::knows;
    let mut kinds: Vec<Kind> = Vec::new();
    let (mut pretrain, mut finetune) = (false, false);
    for kind in MODALITIES.iter().map(|m| m.kind) {
        let found: selfsup_core::Result<(bool, bool, bool)> = with_modality!(kind, M => {
            type Keys = <M as Modality>::Keys;
            Ok((knows::<Keys>(key), knows::<PretrainConfig<Keys>>(key), knows::<TaskConfig<Keys>>(key)))
        });
        let Ok((own, of_pretrain, of_finetune)) = found else { continue };
        if own {
            kinds.push(kind);
        }
        pretrain |= of_pretrain;
        finetune |= of_finetune;
    }
    let names: Vec<String> = kinds.iter().map(ToString::to_string).collect();
    match (names.split_last(), pretrain, finetune) {
        (Some((last, [])), ..) => Some(last.clone()),
        (Some((last, first)), ..) => Some(format!("{} and {last}", first.join(", "))),
        (None, true, false) => Some("`selfsup pretrain`".into()),
        (None, false, true) => Some("`selfsup finetune`".into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_modality_is_found_by_its_name() {
        for entry in MODALITIES {
            let found = with_modality!(entry.kind, M => Ok(<M as Modality>::Keys::KIND));
            assert_eq!(found.unwrap(), entry.kind);
            assert!(!entry.methods.is_empty());
        }
        assert!(with_method("no-such-method").is_empty());
        assert_eq!(with_task("classification").len(), MODALITIES.len());
        assert!(with_task("no-such-task").is_empty());
    }
}

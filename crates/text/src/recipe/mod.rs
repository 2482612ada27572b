//! From configuration to objects: which encoder, which method. The structs here are both the keys of a file
//! and the Rust interface.
//!
//! A network is a name in [`EncoderConfig::resolve`] and a variant of [`Architecture`]; a method is a variant
//! of [`MethodConfig`], which says how an example gets its labels ([`MethodConfig::prepare`]) and what is
//! trained on them ([`MethodConfig::build`]).

mod encoder;
mod method;

pub use encoder::{Architecture, BertKeys, ElectraKeys, EncoderConfig, Gpt2Keys, T5Keys};
pub use method::{Method, MethodConfig, Prepare};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Vocabulary;
    use candle_core::Device;
    use selfsup_core::{Error, Params, Result, Scope};

    fn vocabulary() -> Vocabulary {
        Vocabulary {
            size: 30,
            pad: 1,
            mask: Some(4),
            special: vec![0, 1, 2, 3, 4],
            end: Some(2),
            sentinels: vec![29, 28],
        }
    }

    #[test]
    fn names_and_defaults() -> Result<()> {
        for name in MethodConfig::NAMES {
            let method = MethodConfig::named(name)?;
            assert_eq!(method.name(), name);
            method.prepare(&vocabulary())?;
            let network = method.network().split([',', ' ']).next().unwrap_or_default();
            let keys = serde_json::json!({"name": network, "dim": 64, "depth": 1});
            let small: EncoderConfig =
                serde_json::from_value(keys).map_err(|e| Error::Other(e.to_string()))?;
            let built = method
                .build(&Scope::root(&Params::new(), 0, &Device::Cpu), &small.resolve(&vocabulary())?)?;
            assert_eq!(built.encoder().dim(), 64);
        }
        assert!(MethodConfig::named("bert").is_err());
        assert!(EncoderConfig::named("bart").is_err());
        for name in EncoderConfig::NAMES {
            assert_eq!(EncoderConfig::named(name)?.name(), *name);
            EncoderConfig::named(name)?.resolve(&vocabulary())?;
        }
        Ok(())
    }

    #[test]
    fn positions_and_heads_follow_the_width() -> Result<()> {
        let c =
            BertKeys { name: "roberta".into(), dim: Some(256), positions: Some(128), ..BertKeys::default() };
        let a = EncoderConfig::from(c).resolve(&vocabulary())?;
        let Architecture::Bert(b) = &a else { return Err(Error::config("no BERT")) };
        assert_eq!((b.heads, b.hidden, b.positions, b.pad, a.longest()), (4, 1024, 130, 1, 128));
        Ok(())
    }
}

//! `[method]`: which objective.

use super::encoder::Architecture;
use crate::methods::{MaskedPatches, MaskedPatchesConfig, Ts2Vec, Ts2VecConfig};
use selfsup_core::objective::{self, Needs, Views, Wanted, boxed};
use selfsup_core::{Error, Result, Scope};

selfsup_core::methods_over_views! {
    /// `[method]`: `name` and the method's own keys. Methods over views are those of images.
    pub enum MethodConfig {
        /// TS2Vec.
        Ts2Vec(Ts2VecConfig) = "ts2vec",
        /// Masked patches, PatchTST's.
        MaskedPatches(MaskedPatchesConfig) = "masked-patches",
    }
}

/// Methods over views that turn planes, which signals have none of.
const PLANES: [&str; 1] = ["rotation"];

/// Names of the methods that signals can be trained with; the first is the default.
pub const METHODS: &[&str] = &{
    // All names but those of PLANES, which are one: checked by a test.
    let mut names = [""; MethodConfig::NAMES.len() - PLANES.len()];
    let (mut from, mut to) = (0, 0);
    while from < MethodConfig::NAMES.len() {
        if !same(MethodConfig::NAMES[from], PLANES[0]) {
            names[to] = MethodConfig::NAMES[from];
            to += 1;
        }
        from += 1;
    }
    names
};

/// Whether two names are the same, at compile time.
const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}

/// Any method of signals.
pub type Method = objective::Method<Views>;

impl MethodConfig {
    /// What encoder the method needs.
    pub fn needs(&self) -> Needs {
        self.over_views().map_or_else(Needs::default, |m| m.needs())
    }

    /// Which views the method reads: TS2Vec cuts its crops itself.
    pub fn wanted(&self) -> Wanted {
        self.over_views().map_or(Wanted::Plain, |m| m.wanted())
    }

    /// Builds the method around the encoder in `scope`.
    ///
    /// # Errors
    /// If the configuration is not possible, or the network is not one that the method works with.
    pub fn build(&self, scope: &Scope, architecture: &Architecture) -> Result<Method> {
        if PLANES.contains(&self.name()) {
            return Err(Error::config(format!(
                "method.name = \"{}\" turns planes, and signals have none: expected one of {}",
                self.name(),
                METHODS.join(", ")
            )));
        }
        match self {
            MethodConfig::Ts2Vec(c) => {
                let encoder = architecture.dilated(&scope.sub("encoder"))?;
                Ok(boxed(Ts2Vec::new(scope, encoder, c.clone())?))
            }
            MethodConfig::MaskedPatches(c) => {
                let encoder = architecture.patchtst(&scope.sub("encoder"))?;
                Ok(boxed(MaskedPatches::new(scope, encoder, c.clone())?))
            }
            other => match other.over_views() {
                Some(method) => method.build(scope, architecture),
                None => Err(Error::config(format!("method {}: cannot be built from views", self.name()))),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_names_but_those_of_planes() {
        let expected: Vec<&str> = MethodConfig::NAMES.into_iter().filter(|n| !PLANES.contains(n)).collect();
        assert_eq!(METHODS, expected);
        assert_eq!(METHODS[0], MethodConfig::default().name());
    }
}

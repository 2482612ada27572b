//! Rules that tell the names and layouts of another library's files from ours, in both directions.
//!
//! A rule turns the whole set of named tensors into another; [`Rules::to_ours`] applies a list of them in
//! order, [`Rules::to_theirs`] applies their inverses in reverse. All of them are linear (they move numbers
//! and add constants), so gradients go the same way as values. `from` is their side, `to` ours.
//!
//! Each rule sees the names that the one before it left, so general renames come first and what joins or
//! splits tensors comes after, in the new names: then the inverses, in reverse, split before the general
//! rename takes hold of the result.

use super::pattern::Pattern;
use crate::error::{Error, Result};
use candle_core::{D, Tensor};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

type Tensors = BTreeMap<String, Tensor>;

/// One difference between a foreign file and ours. Names are [`Pattern`]s, with as many wildcards on either
/// side.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Rule {
    /// Another name for the same tensor. Backwards, everything that matches `to` is renamed.
    Rename {
        /// Their name.
        from: String,
        /// Our name.
        to: String,
    },
    /// Names below the dotted path `from` move to `to`; either may be empty for "all names".
    Prefix {
        /// Their path.
        from: String,
        /// Our path.
        to: String,
    },
    /// The last two dimensions are swapped (GPT-2's `Conv1D` keeps linear weights as (in, out)). The name is
    /// that at this point.
    Transpose(String),
    /// Theirs has an axis of size 1 at `dim` that ours lacks: position embeddings (1, L, D) against (L, D).
    Squeeze {
        /// The tensors.
        name: String,
        /// The axis.
        dim: usize,
    },
    /// Ours has an axis of size 1 at `dim` that theirs lacks: CLIP's class embedding (D) against (1, 1, D).
    Unsqueeze {
        /// The tensors.
        name: String,
        /// The axis.
        dim: usize,
    },
    /// Several of their tensors, one after the other along `dim`, are one of ours: query, key and value as
    /// `qkv`.
    Concat {
        /// Their names, in order.
        from: Vec<String>,
        /// Our name.
        to: String,
        /// The axis.
        dim: usize,
        /// Relative sizes of the parts; empty for equal ones. Needed on the way back.
        shares: Vec<usize>,
    },
    /// One of their tensors is several of ours.
    Split {
        /// Their name.
        from: String,
        /// Our names, in order.
        to: Vec<String>,
        /// The axis.
        dim: usize,
        /// Relative sizes of the parts; empty for equal ones.
        shares: Vec<usize>,
    },
    /// They have no such tensor; ours is constant, with the shape of `like` (a key projection without bias).
    Fill {
        /// The tensor to add where it is absent.
        name: String,
        /// The tensor whose shape it takes.
        like: String,
        /// The constant.
        value: f64,
    },
    /// Their tensor has no counterpart. It does not come back in [`Rules::to_theirs`].
    Drop(String),
}

impl Rule {
    /// [`Rule::Rename`].
    pub fn rename(from: &str, to: &str) -> Self {
        Rule::Rename { from: from.into(), to: to.into() }
    }

    /// [`Rule::Prefix`].
    pub fn prefix(from: &str, to: &str) -> Self {
        Rule::Prefix { from: from.into(), to: to.into() }
    }

    /// [`Rule::Transpose`].
    pub fn transpose(name: &str) -> Self {
        Rule::Transpose(name.into())
    }

    /// [`Rule::Squeeze`].
    pub fn squeeze(name: &str, dim: usize) -> Self {
        Rule::Squeeze { name: name.into(), dim }
    }

    /// [`Rule::Unsqueeze`].
    pub fn unsqueeze(name: &str, dim: usize) -> Self {
        Rule::Unsqueeze { name: name.into(), dim }
    }

    /// [`Rule::Concat`] of equal parts that `from` lists in braces: `layer.*.{query,key,value}.weight`.
    pub fn concat(from: &str, to: &str, dim: usize) -> Self {
        Rule::Concat { from: Pattern::expand_braces(from), to: to.into(), dim, shares: vec![] }
    }

    /// [`Rule::Split`] into equal parts that `to` lists in braces.
    pub fn split(from: &str, to: &str, dim: usize) -> Self {
        Rule::Split { from: from.into(), to: Pattern::expand_braces(to), dim, shares: vec![] }
    }

    /// [`Rule::Fill`].
    pub fn fill(name: &str, like: &str, value: f64) -> Self {
        Rule::Fill { name: name.into(), like: like.into(), value }
    }

    /// [`Rule::Drop`].
    pub fn drop(name: &str) -> Self {
        Rule::Drop(name.into())
    }
}

/// A rule with its patterns read.
#[derive(Clone, Debug)]
enum Ready {
    Rename(Pattern, Pattern),
    Prefix(String, String),
    Transpose(Pattern),
    Squeeze(Pattern, usize),
    Unsqueeze(Pattern, usize),
    /// Parts, whole, axis, shares; `true` if the parts are theirs.
    Join(Vec<Pattern>, Pattern, usize, Vec<usize>, bool),
    Fill(Pattern, Pattern, f64),
    Drop(Pattern),
}

/// An ordered list of rules for one kind of file.
#[derive(Clone, Debug, Default)]
pub struct Rules(Vec<Ready>);

impl Rules {
    /// Reads the patterns of `rules`.
    ///
    /// # Errors
    /// [`Error::Config`] naming the rule whose two sides have different wildcards, or whose shares don't fit
    /// its parts.
    pub fn new(rules: &[Rule]) -> Result<Self> {
        rules.iter().map(ready).collect::<Result<_>>().map(Rules)
    }

    /// Our names and layouts for tensors of a foreign file. Tensors that no rule mentions keep their names.
    ///
    /// # Errors
    /// If two tensors come to the same name, only some parts of a whole are there, or shapes do not fit; the
    /// tensor is named.
    pub fn to_ours(&self, tensors: Tensors) -> Result<Tensors> {
        self.0.iter().try_fold(tensors, |t, rule| rule.apply(t, true, false))
    }

    /// Foreign names and layouts for our tensors: for saving.
    ///
    /// # Errors
    /// As [`Rules::to_ours`]; and if a tensor that they have as a constant ([`Rule::Fill`]) has been trained
    /// away from it.
    pub fn to_theirs(&self, tensors: Tensors) -> Result<Tensors> {
        self.0.iter().rev().try_fold(tensors, |t, rule| rule.apply(t, false, true))
    }

    /// Foreign names and layouts for gradients (or anything else named like parameters, such as moments).
    /// Those of constants are left out.
    ///
    /// # Errors
    /// As [`Rules::to_ours`].
    pub fn gradients_to_theirs(&self, tensors: Tensors) -> Result<Tensors> {
        self.0.iter().rev().try_fold(tensors, |t, rule| rule.apply(t, false, false))
    }

    /// The names in a file of the tensor that is `name` here, for messages; `name` itself where no rule tells.
    pub fn their_names(&self, name: &str, tensor: &Tensor) -> Vec<String> {
        let one = Tensors::from([(name.to_string(), tensor.clone())]);
        let back = self.gradients_to_theirs(one).ok().filter(|back| !back.is_empty());
        back.map_or_else(|| vec![name.to_string()], |back| back.into_keys().collect())
    }
}

fn ready(rule: &Rule) -> Result<Ready> {
    let wrong = |why: &str| Error::config(format!("weight rule {rule:?}: {why}"));
    let pair = |a: &str, b: &str| {
        let (a, b) = (Pattern::new(a)?, Pattern::new(b)?);
        if a.kinds() == b.kinds() { Ok((a, b)) } else { Err(wrong("its sides have different wildcards")) }
    };
    let parts = |parts: &[String], whole: &str, dim: usize, shares: &[usize], theirs: bool| {
        if parts.is_empty() {
            return Err(wrong("no parts"));
        }
        if !(shares.is_empty() || shares.len() == parts.len() && !shares.contains(&0)) {
            return Err(wrong("shares must be as many as the parts, each at least 1"));
        }
        let shares = if shares.is_empty() { vec![1; parts.len()] } else { shares.to_vec() };
        let all = parts.iter().map(|p| Ok(pair(p, whole)?.0)).collect::<Result<Vec<_>>>()?;
        Ok(Ready::Join(all, Pattern::new(whole)?, dim, shares, theirs))
    };
    Ok(match rule {
        Rule::Rename { from, to } => {
            let (a, b) = pair(from, to)?;
            Ready::Rename(a, b)
        }
        Rule::Prefix { from, to } => {
            Ready::Prefix(from.trim_end_matches('.').into(), to.trim_end_matches('.').into())
        }
        Rule::Transpose(name) => Ready::Transpose(Pattern::new(name)?),
        Rule::Squeeze { name, dim } => Ready::Squeeze(Pattern::new(name)?, *dim),
        Rule::Unsqueeze { name, dim } => Ready::Unsqueeze(Pattern::new(name)?, *dim),
        Rule::Concat { from, to, dim, shares } => parts(from, to, *dim, shares, true)?,
        Rule::Split { from, to, dim, shares } => parts(to, from, *dim, shares, false)?,
        Rule::Fill { name, like, value } => {
            let (name, like) = pair(name, like)?;
            Ready::Fill(name, like, *value)
        }
        Rule::Drop(name) => Ready::Drop(Pattern::new(name)?),
    })
}

/// Adds a tensor; an error if the name is taken.
fn put(out: &mut Tensors, from: &str, name: String, t: Tensor) -> Result<()> {
    if out.contains_key(&name) {
        let as_what = if from == name { String::new() } else { format!(" (from {from})") };
        return Err(Error::input(name, format!("two tensors come to this name{as_what}")));
    }
    out.insert(name, t);
    Ok(())
}

/// Renames by `f`; `None` keeps a name.
fn rename(tensors: Tensors, f: impl Fn(&str) -> Option<String>) -> Result<Tensors> {
    let mut out = Tensors::new();
    for (name, t) in tensors {
        put(&mut out, &name, f(&name).unwrap_or_else(|| name.clone()), t)?;
    }
    Ok(out)
}

/// Changes the tensors whose names match.
fn each(
    mut tensors: Tensors,
    name: &Pattern,
    f: impl Fn(&str, &Tensor) -> Result<Tensor>,
) -> Result<Tensors> {
    for (n, t) in &mut tensors {
        if name.captures(n).is_some() {
            *t = f(n, t)?;
        }
    }
    Ok(tensors)
}

fn squeeze(name: &str, t: &Tensor, dim: usize) -> Result<Tensor> {
    if t.dims().get(dim) != Some(&1) {
        return Err(Error::input(name, format!("shape {:?}, expected size 1 in dimension {dim}", t.dims())));
    }
    Ok(t.squeeze(dim)?)
}

fn unsqueeze(name: &str, t: &Tensor, dim: usize) -> Result<Tensor> {
    if dim > t.rank() {
        return Err(Error::input(name, format!("shape {:?} has no room for dimension {dim}", t.dims())));
    }
    Ok(t.unsqueeze(dim)?)
}

/// All parts of a whole become that whole, for each value of the wildcards.
fn concat(mut tensors: Tensors, parts: &[Pattern], whole: &Pattern, dim: usize) -> Result<Tensors> {
    let mut sets: Vec<Vec<String>> =
        parts.iter().flat_map(|p| tensors.keys().filter_map(|n| p.captures(n))).collect();
    sets.sort_unstable();
    sets.dedup();
    for captures in sets {
        let names: Vec<String> = parts.iter().map(|p| p.fill(&captures)).collect();
        let to = whole.fill(&captures);
        let mut list = Vec::new();
        for n in &names {
            let t = tensors
                .remove(n)
                .ok_or_else(|| Error::input(n, format!("missing; {to} is made of {}", names.join(", "))))?;
            list.push(t);
        }
        let shape = |t: &Tensor| {
            t.dims().iter().enumerate().filter(|(i, _)| *i != dim).map(|(_, d)| *d).collect::<Vec<_>>()
        };
        for (n, t) in names.iter().zip(&list) {
            if dim >= t.rank() || t.rank() != list[0].rank() || shape(t) != shape(&list[0]) {
                let first = list[0].dims();
                return Err(Error::input(
                    n,
                    format!(
                        "shape {:?} does not go with {first:?} along dimension {dim} into {to}",
                        t.dims()
                    ),
                ));
            }
        }
        let t = Tensor::cat(&list, dim)?;
        put(&mut tensors, &names[0], to, t)?;
    }
    Ok(tensors)
}

/// The inverse of [`concat`].
fn split(
    mut tensors: Tensors,
    whole: &Pattern,
    parts: &[Pattern],
    dim: usize,
    shares: &[usize],
) -> Result<Tensors> {
    let wholes: Vec<(String, Vec<String>)> =
        tensors.keys().filter_map(|n| Some((n.clone(), whole.captures(n)?))).collect();
    let total: usize = shares.iter().sum();
    for (name, captures) in wholes {
        let Some(t) = tensors.remove(&name) else { continue };
        let size = t.dims().get(dim).copied().filter(|s| s % total == 0);
        let size = size.ok_or_else(|| {
            Error::input(
                &name,
                format!(
                    "shape {:?} cannot be split along dimension {dim} in the proportion {shares:?}",
                    t.dims()
                ),
            )
        })?;
        let mut at = 0;
        for (p, share) in parts.iter().zip(shares) {
            let n = size / total * share;
            put(&mut tensors, &name, p.fill(&captures), t.narrow(dim, at, n)?.contiguous()?)?;
            at += n;
        }
    }
    Ok(tensors)
}

impl Ready {
    fn apply(&self, mut tensors: Tensors, to_ours: bool, strict: bool) -> Result<Tensors> {
        match self {
            Ready::Rename(theirs, ours) => {
                let (a, b) = if to_ours { (theirs, ours) } else { (ours, theirs) };
                rename(tensors, |n| a.captures(n).map(|c| b.fill(&c)))
            }
            Ready::Prefix(theirs, ours) => {
                let (a, b) = if to_ours { (theirs, ours) } else { (ours, theirs) };
                rename(tensors, |n| crate::params::under(n, a).then(|| super::join(b, super::relative(n, a))))
            }
            Ready::Transpose(name) => each(tensors, name, |n, t| {
                if t.rank() < 2 {
                    return Err(Error::input(
                        n,
                        format!("shape {:?}, expected two dimensions to transpose", t.dims()),
                    ));
                }
                Ok(t.transpose(D::Minus1, D::Minus2)?.contiguous()?)
            }),
            Ready::Squeeze(name, dim) if to_ours => each(tensors, name, |n, t| squeeze(n, t, *dim)),
            Ready::Squeeze(name, dim) => each(tensors, name, |n, t| unsqueeze(n, t, *dim)),
            Ready::Unsqueeze(name, dim) if to_ours => each(tensors, name, |n, t| unsqueeze(n, t, *dim)),
            Ready::Unsqueeze(name, dim) => each(tensors, name, |n, t| squeeze(n, t, *dim)),
            Ready::Join(parts, whole, dim, shares, theirs) => {
                if *theirs == to_ours {
                    concat(tensors, parts, whole, *dim)
                } else {
                    split(tensors, whole, parts, *dim, shares)
                }
            }
            Ready::Fill(name, like, value) if to_ours => {
                let new: Vec<(String, Tensor)> = tensors
                    .iter()
                    .filter_map(|(n, t)| Some((name.fill(&like.captures(n)?), t.clone())))
                    .collect();
                for (n, t) in new {
                    if let Entry::Vacant(e) = tensors.entry(n) {
                        e.insert(t.zeros_like()?.affine(1.0, *value)?);
                    }
                }
                Ok(tensors)
            }
            Ready::Fill(name, like, value) => {
                let names: Vec<String> =
                    tensors.keys().filter_map(|n| Some(name.fill(&like.captures(n)?))).collect();
                for n in names {
                    let Some(t) = tensors.remove(&n) else { continue };
                    let off = if strict && t.elem_count() > 0 {
                        let t = t.to_dtype(candle_core::DType::F32)?;
                        t.affine(1.0, -*value)?.abs()?.max_all()?.to_scalar::<f32>()?
                    } else {
                        0.0
                    };
                    if off > 0.0 {
                        return Err(Error::input(
                            n,
                            format!(
                                "differs from {value} by up to {off}, but the other format has no place for it"
                            ),
                        ));
                    }
                }
                Ok(tensors)
            }
            Ready::Drop(name) => {
                if to_ours {
                    tensors.retain(|n, _| name.captures(n).is_none());
                }
                Ok(tensors)
            }
        }
    }
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;

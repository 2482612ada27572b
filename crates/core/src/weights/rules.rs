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
mod tests {
    use super::*;
    use candle_core::Device;

    fn t(from: f32, shape: &[usize]) -> Tensor {
        let n: usize = shape.iter().product();
        Tensor::from_vec((0..n).map(|i| from + i as f32).collect::<Vec<_>>(), shape, &Device::Cpu).unwrap()
    }

    fn set(list: &[(&str, Tensor)]) -> Tensors {
        list.iter().map(|(n, t)| (n.to_string(), t.clone())).collect()
    }

    fn same(a: &Tensors, b: &Tensors) {
        assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
        for (n, x) in a {
            let (x, y) = (x, &b[n]);
            assert_eq!(x.dims(), y.dims(), "{n}");
            let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(flat(x), flat(y), "{n}");
        }
    }

    #[test]
    fn a_vision_transformer_there_and_back() {
        let rules = Rules::new(&[
            Rule::prefix("vit", "encoder"),
            Rule::drop("classifier.**"),
            Rule::rename("encoder.layer.*.**", "encoder.blocks.*.**"),
            Rule::fill("encoder.blocks.*.attn.key.bias", "encoder.blocks.*.attn.query.bias", 0.0),
            Rule::concat("encoder.blocks.*.attn.{query,key,value}.*", "encoder.blocks.*.attn.qkv.*", 0),
            Rule::transpose("encoder.blocks.*.fc.weight"),
            Rule::squeeze("encoder.pos", 0),
            Rule::unsqueeze("encoder.class", 0),
            Rule::split("encoder.pair", "encoder.{a,b}", 1),
        ])
        .unwrap();
        let mut theirs = vec![
            ("vit.pos", t(0.0, &[1, 3, 2])),
            ("vit.pair", t(5.0, &[2, 4])),
            ("vit.class", t(3.0, &[4])),
            ("classifier.w", t(0.0, &[1])),
        ];
        let blocks = ["0", "10"];
        let names: Vec<[String; 6]> = blocks
            .iter()
            .map(|b| {
                ["query.weight", "query.bias", "key.weight", "value.weight", "value.bias"]
                    .map(|x| format!("vit.layer.{b}.attn.{x}"))
            })
            .zip(blocks)
            .map(|(n, b)| {
                let [a, c, d, e, f] = n;
                [a, c, d, e, f, format!("vit.layer.{b}.fc.weight")]
            })
            .collect();
        for n in &names {
            for (i, n) in n.iter().enumerate() {
                theirs.push((n, t(100.0 * i as f32, if n.ends_with("bias") { &[2] } else { &[2, 2] })));
            }
        }
        let mut theirs = set(&theirs);
        let ours = rules.to_ours(theirs.clone()).unwrap();
        let expected = ["a", "b", "blocks.0.attn.qkv.bias", "blocks.0.attn.qkv.weight", "blocks.0.fc.weight"];
        assert_eq!(
            ours.keys().take(5).cloned().collect::<Vec<_>>(),
            expected.map(|n| format!("encoder.{n}"))
        );
        assert_eq!(
            ours["encoder.blocks.10.attn.qkv.bias"].to_vec1::<f32>().unwrap(),
            [100.0, 101.0, 0.0, 0.0, 400.0, 401.0]
        );
        assert_eq!(ours["encoder.blocks.0.attn.qkv.weight"].dims(), [6, 2]);
        assert_eq!(
            ours["encoder.blocks.0.fc.weight"].to_vec2::<f32>().unwrap(),
            [[500.0, 502.0], [501.0, 503.0]]
        );
        assert_eq!(ours["encoder.pos"].dims(), [3, 2]);
        assert_eq!(ours["encoder.class"].dims(), [1, 4]);
        assert_eq!(ours["encoder.b"].to_vec2::<f32>().unwrap(), [[7.0, 8.0], [11.0, 12.0]]);

        theirs.remove("classifier.w");
        same(&rules.to_theirs(ours.clone()).unwrap(), &theirs);
        // A trained key bias has no place in their file, its gradient is left out of a comparison.
        let mut trained = ours;
        trained.insert("encoder.blocks.0.attn.qkv.bias".into(), t(1.0, &[6]));
        let e = rules.to_theirs(trained.clone()).unwrap_err().to_string();
        assert!(e.contains("blocks.0.attn.key.bias") && e.contains("by up to 4"), "{e}");
        assert_eq!(rules.gradients_to_theirs(trained).unwrap().len(), theirs.len());
    }

    #[test]
    fn uneven_parts() {
        let rule = |from: &[&str]| Rule::Concat {
            from: from.iter().map(|s| s.to_string()).collect(),
            to: "qkv".into(),
            dim: 0,
            shares: vec![2, 1, 1],
        };
        let rules = Rules::new(&[rule(&["q", "k", "v"])]).unwrap();
        let theirs = set(&[("q", t(0.0, &[4])), ("k", t(10.0, &[2])), ("v", t(20.0, &[2]))]);
        let ours = rules.to_ours(theirs.clone()).unwrap();
        same(&rules.to_theirs(ours).unwrap(), &theirs);
        assert!(
            rules
                .to_theirs(set(&[("qkv", t(0.0, &[6]))]))
                .unwrap_err()
                .to_string()
                .contains("qkv: shape [6]")
        );
        assert!(Rules::new(&[rule(&["q", "k"])]).is_err());
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let qkv = Rules::new(&[Rule::concat("l.*.{q,k,v}", "l.*.qkv", 0)]).unwrap();
        let e =
            qkv.to_ours(set(&[("l.1.q", t(0.0, &[2])), ("l.1.v", t(0.0, &[2]))])).unwrap_err().to_string();
        assert!(e.starts_with("l.1.k: missing; l.1.qkv is made of"), "{e}");
        let e = qkv.to_ours(set(&[
            ("l.1.q", t(0.0, &[2, 2])),
            ("l.1.k", t(0.0, &[2, 3])),
            ("l.1.v", t(0.0, &[2, 2])),
        ]));
        assert!(e.unwrap_err().to_string().starts_with("l.1.k: shape [2, 3]"));
        let e = qkv.to_ours(set(&[("l.1.q", t(0.0, &[])), ("l.1.k", t(0.0, &[])), ("l.1.v", t(0.0, &[]))]));
        assert!(e.is_err());
        let e = Rules::new(&[Rule::rename("a.**", "b.**")])
            .unwrap()
            .to_ours(set(&[("a.x", t(0.0, &[1])), ("b.x", t(0.0, &[1]))]));
        assert!(e.unwrap_err().to_string().contains("b.x: two tensors"));
        let one =
            |r: Rule, t: Tensor| Rules::new(&[r]).unwrap().to_ours(set(&[("x", t)])).unwrap_err().to_string();
        assert!(one(Rule::transpose("x"), t(0.0, &[3])).starts_with("x: shape [3]"));
        assert!(one(Rule::squeeze("x", 1), t(0.0, &[3])).starts_with("x: shape [3]"));
        assert!(
            Rules::new(&[Rule::rename("a.*", "b")]).unwrap_err().to_string().contains("different wildcards")
        );
        assert!(Rules::new(&[Rule::rename("a.*", "b.**")]).is_err());
        let p = Rules::new(&[Rule::prefix("", "encoder")]).unwrap();
        let ours = p.to_ours(set(&[("a.b", t(0.0, &[1]))])).unwrap();
        assert_eq!(ours.keys().collect::<Vec<_>>(), ["encoder.a.b"]);
        assert_eq!(p.to_theirs(ours).unwrap().keys().collect::<Vec<_>>(), ["a.b"]);
    }
}

//! The values that a pickle is made of, and what a file of weights asks of them.

use crate::weights::bytes::Kind;
use std::collections::BTreeMap;

/// Values and memo entries; a model of 10,000 tensors needs 400,000.
pub(super) const MAX_NODES: usize = 1 << 20;
pub(super) const MAX_OPCODES: usize = 8 << 20;
/// Nesting of containers and of open marks.
pub(super) const MAX_DEPTH: usize = 64;
/// Longest name of a tensor and of a global.
pub(super) const MAX_NAME: usize = 1024;
pub(super) const MAX_RANK: usize = 8;
/// Longest key of a storage; torch writes numbers.
pub(super) const MAX_KEY: usize = 64;

pub(super) type Id = u32;

/// What the pickle may name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(&'static str, Option<Kind>),
}

pub(super) fn global(module: &str, name: &str) -> Option<Global> {
    Some(match (module, name) {
        ("collections", "OrderedDict") => Global::OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2") => Global::RebuildTensor,
        ("torch._utils", "_rebuild_parameter") => Global::RebuildParameter,
        ("torch", "FloatStorage") => Global::Storage("float32", Some(Kind::F32)),
        ("torch", "DoubleStorage") => Global::Storage("float64", Some(Kind::F64)),
        ("torch", "HalfStorage") => Global::Storage("float16", Some(Kind::F16)),
        ("torch", "BFloat16Storage") => Global::Storage("bfloat16", Some(Kind::BF16)),
        ("torch", "LongStorage") => Global::Storage("int64", Some(Kind::I64)),
        ("torch", "IntStorage") => Global::Storage("int32", Some(Kind::I32)),
        ("torch", "ShortStorage") => Global::Storage("int16", Some(Kind::I16)),
        ("torch", "CharStorage") => Global::Storage("int8", Some(Kind::I8)),
        ("torch", "ByteStorage") => Global::Storage("uint8", Some(Kind::U8)),
        ("torch", "BoolStorage") => Global::Storage("bool", Some(Kind::Bool)),
        ("torch", "ComplexFloatStorage") => Global::Storage("complex64", None),
        ("torch", "ComplexDoubleStorage") => Global::Storage("complex128", None),
        ("torch", "QInt8Storage" | "QUInt8Storage" | "QInt32Storage") => Global::Storage("quantised", None),
        _ => return None,
    })
}

/// A storage as the pickle describes it: the file has to bear it out.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::weights) struct Storage {
    pub(in crate::weights) dtype: &'static str,
    pub(in crate::weights) kind: Option<Kind>,
    pub(in crate::weights) key: String,
    pub(in crate::weights) numel: u64,
    /// The old format's view of another storage.
    pub(super) view: bool,
}

/// A tensor: a strided view of a storage, in elements. Within the storage's claimed length, which is still to
/// be held against the file.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::weights) struct View {
    pub(in crate::weights) kind: Kind,
    pub(in crate::weights) key: String,
    pub(in crate::weights) numel: u64,
    pub(in crate::weights) offset: u64,
    pub(in crate::weights) shape: Vec<usize>,
    pub(in crate::weights) strides: Vec<u64>,
    /// Elements from the first to the last one that the tensor uses.
    pub(in crate::weights) span: u64,
}

#[derive(Clone, Debug)]
pub(super) enum Node {
    None,
    Bool(bool),
    Int(i128),
    Float,
    Str(String),
    Bytes,
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Storage(Storage),
    /// A tensor, or why it cannot be read: reported with its name where it is used.
    Tensor(Result<View, String>),
}

/// The values of one pickle.
#[derive(Debug)]
pub(in crate::weights) struct Pickle {
    pub(super) nodes: Vec<Node>,
    pub(super) top: Id,
    /// Types of the storages that it mentions.
    pub(in crate::weights) storages: BTreeMap<String, Option<Kind>>,
    /// Bytes that the pickle takes.
    pub(in crate::weights) len: usize,
}

pub(super) type R<T> = Result<T, String>;

impl Pickle {
    fn node(&self, id: Id) -> &Node {
        self.nodes.get(id as usize).unwrap_or(&Node::None)
    }

    /// The value as a whole number.
    pub(in crate::weights) fn int(&self) -> Option<i128> {
        if let Node::Int(i) = self.node(self.top) { Some(*i) } else { None }
    }

    /// The value as a list of strings.
    pub(in crate::weights) fn strings(&self) -> Option<Vec<&str>> {
        let Node::List(ids) = self.node(self.top) else { return None };
        ids.iter().map(|&i| self.str(i)).collect()
    }

    fn str(&self, id: Id) -> Option<&str> {
        if let Node::Str(s) = self.node(id) { Some(s) } else { None }
    }

    fn get(&self, dict: Id, key: &str) -> Option<Id> {
        let Node::Dict(pairs) = self.node(dict) else { return None };
        // As in Python, the last of several equal keys counts.
        pairs.iter().rev().find(|(k, _)| self.str(*k) == Some(key)).map(|(_, v)| *v)
    }

    /// The boolean under `key`.
    pub(in crate::weights) fn flag(&self, key: &str) -> Option<bool> {
        if let Node::Bool(b) = self.node(self.get(self.top, key)?) { Some(*b) } else { None }
    }

    /// All tensors by dotted path. Where the file is a dictionary without tensors of its own that holds one
    /// of `wrappers`, only that part is taken, and paths start inside it.
    ///
    /// # Errors
    /// Naming a tensor that cannot be read; for nesting beyond 64 levels, and for values that refer to each
    /// other too often.
    pub(in crate::weights) fn tensors(&self, wrappers: &[&str]) -> R<Vec<(String, &View)>> {
        let (mut out, mut visits) = (Vec::new(), 0);
        self.walk(self.chosen(wrappers), "", 0, &mut visits, &mut out)?;
        Ok(out)
    }

    /// Where [`Pickle::tensors`] starts.
    fn chosen(&self, wrappers: &[&str]) -> Id {
        let Node::Dict(pairs) = self.node(self.top) else { return self.top };
        if pairs.iter().any(|(_, v)| matches!(self.node(*v), Node::Tensor(_))) {
            return self.top;
        }
        let dict = |key: &&str| self.get(self.top, key).filter(|&v| matches!(self.node(v), Node::Dict(_)));
        wrappers.iter().find_map(dict).unwrap_or(self.top)
    }

    fn walk<'a>(
        &'a self,
        id: Id,
        path: &str,
        depth: usize,
        visits: &mut usize,
        out: &mut Vec<(String, &'a View)>,
    ) -> R<()> {
        *visits += 1;
        let here = || if path.is_empty() { "the top".to_string() } else { format!("`{path:.80}`") };
        if depth > MAX_DEPTH || *visits > MAX_NODES || path.len() > MAX_NAME {
            let what =
                if depth > MAX_DEPTH { "nested more than 64 deep" } else { "too many or too long names" };
            return Err(format!("{what}, at {}", here()));
        }
        let join = |k: &str| if path.is_empty() { k.to_string() } else { format!("{path}.{k}") };
        match self.node(id) {
            Node::Tensor(Ok(view)) => out.push((path.to_string(), view)),
            Node::Tensor(Err(why)) => return Err(format!("tensor {}: {why}", here())),
            Node::Tuple(ids) | Node::List(ids) => {
                for (i, &v) in ids.iter().enumerate() {
                    self.walk(v, &join(&i.to_string()), depth + 1, visits, out)?;
                }
            }
            Node::Dict(pairs) => {
                for &(k, v) in pairs {
                    let key = match self.node(k) {
                        Node::Str(s) if s.len() <= MAX_NAME => join(s),
                        Node::Int(i) => join(&i.to_string()),
                        Node::Bool(b) => join(&b.to_string()),
                        Node::None => join("None"),
                        _ => return Err(format!("a key under {} is neither a name nor a number", here())),
                    };
                    self.walk(v, &key, depth + 1, visits, out)?;
                }
            }
            Node::None
            | Node::Bool(_)
            | Node::Int(_)
            | Node::Float
            | Node::Str(_)
            | Node::Bytes
            | Node::Global(_)
            | Node::Storage(_) => {}
        }
        Ok(())
    }
}

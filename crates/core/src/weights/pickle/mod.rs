//! A reader for the pickles that `torch.save` writes, and for nothing else.
//!
//! Pickle is a program for a stack machine that may call any Python function. Here it can build numbers,
//! strings, lists, tuples and dictionaries, and "call" three things that are known by name and carried out by
//! this file: an `OrderedDict`, a tensor that views a storage, and a parameter made of a tensor. Any other
//! name is an error that gives the name; nothing is ever executed.
//!
//! Values live in one array and refer to each other by index, so neither deep nesting nor a list that
//! contains itself can overflow the stack or leak. The opcodes are those of Python's pickletools, protocols 2
//! to 4.

mod machine;

use super::bytes::Kind;
use std::collections::BTreeMap;

/// Values and memo entries; a model of 10,000 tensors needs 400,000.
const MAX_NODES: usize = 1 << 20;
const MAX_OPCODES: usize = 8 << 20;
/// Nesting of containers and of open marks.
const MAX_DEPTH: usize = 64;
/// Longest name of a tensor and of a global.
const MAX_NAME: usize = 1024;
const MAX_RANK: usize = 8;
/// Longest key of a storage; torch writes numbers.
const MAX_KEY: usize = 64;

type Id = u32;

/// What the pickle may name.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(&'static str, Option<Kind>),
}

fn global(module: &str, name: &str) -> Option<Global> {
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
pub(super) struct Storage {
    pub(super) dtype: &'static str,
    pub(super) kind: Option<Kind>,
    pub(super) key: String,
    pub(super) numel: u64,
    /// The old format's view of another storage.
    view: bool,
}

/// A tensor: a strided view of a storage, in elements. Within the storage's claimed length, which is still to
/// be held against the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct View {
    pub(super) kind: Kind,
    pub(super) key: String,
    pub(super) numel: u64,
    pub(super) offset: u64,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<u64>,
    /// Elements from the first to the last one that the tensor uses.
    pub(super) span: u64,
}

#[derive(Clone, Debug)]
enum Node {
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
pub(super) struct Pickle {
    nodes: Vec<Node>,
    top: Id,
    /// Types of the storages that it mentions.
    pub(super) storages: BTreeMap<String, Option<Kind>>,
    /// Bytes that the pickle takes.
    pub(super) len: usize,
}

type R<T> = Result<T, String>;

impl Pickle {
    /// Reads the pickle at the beginning of `bytes`.
    ///
    /// # Errors
    /// A text that gives the position and what is wrong.
    pub(super) fn read(bytes: &[u8]) -> R<Pickle> {
        machine::run(bytes)
    }

    fn node(&self, id: Id) -> &Node {
        self.nodes.get(id as usize).unwrap_or(&Node::None)
    }

    /// The value as a whole number.
    pub(super) fn int(&self) -> Option<i128> {
        if let Node::Int(i) = self.node(self.top) { Some(*i) } else { None }
    }

    /// The value as a list of strings.
    pub(super) fn strings(&self) -> Option<Vec<&str>> {
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
    pub(super) fn flag(&self, key: &str) -> Option<bool> {
        if let Node::Bool(b) = self.node(self.get(self.top, key)?) { Some(*b) } else { None }
    }

    /// All tensors by dotted path. Where the file is a dictionary without tensors of its own that holds one
    /// of `wrappers`, only that part is taken, and paths start inside it.
    ///
    /// # Errors
    /// Naming a tensor that cannot be read; for nesting beyond 64 levels, and for values that refer to each
    /// other too often.
    pub(super) fn tensors(&self, wrappers: &[&str]) -> R<Vec<(String, &View)>> {
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

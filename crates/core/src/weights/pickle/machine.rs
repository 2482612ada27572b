//! The stack machine: one opcode after the other, each checked before it is carried out.

use super::value::*;
use crate::weights::bytes::{Kind, elements, u32_at, u64_at};
use std::collections::BTreeMap;

/// Where it stands.
struct Machine<'a> {
    b: &'a [u8],
    p: usize,
    nodes: Vec<Node>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: BTreeMap<u32, Id>,
    storages: BTreeMap<String, Option<Kind>>,
    /// Items that calls copied: the one place where a short pickle could make much.
    copied: usize,
}

/// Carries out the pickle at the beginning of `bytes`.
///
/// # Errors
/// A text that gives the position and what is wrong.
pub(super) fn run(bytes: &[u8]) -> R<Pickle> {
    let mut m = Machine {
        b: bytes,
        p: 0,
        nodes: vec![],
        stack: vec![],
        marks: vec![],
        memo: BTreeMap::new(),
        storages: BTreeMap::new(),
        copied: 0,
    };
    for _ in 0..MAX_OPCODES {
        let at = m.p;
        if m.step().map_err(|e| format!("pickle, byte {at}: {e}"))? {
            let top = m.pop().map_err(|e| format!("pickle, byte {at}: {e}"))?;
            return Ok(Pickle { nodes: m.nodes, top, storages: m.storages, len: m.p });
        }
    }
    Err(format!("pickle of more than {MAX_OPCODES} operations"))
}

impl<'a> Machine<'a> {
    fn take(&mut self, n: usize) -> R<&'a [u8]> {
        let end = self.p.checked_add(n).filter(|&e| e <= self.b.len());
        let out = end
            .and_then(|e| self.b.get(self.p..e))
            .ok_or_else(|| format!("truncated: {n} more bytes expected"))?;
        self.p += n;
        Ok(out)
    }

    fn byte(&mut self) -> R<u8> {
        Ok(self.take(1)?[0])
    }

    fn line(&mut self) -> R<&'a str> {
        let rest = &self.b[self.p.min(self.b.len())..];
        let n = rest.iter().take(MAX_NAME).position(|&c| c == b'\n').ok_or("a line without an end")?;
        let line = self.take(n + 1)?;
        std::str::from_utf8(&line[..n]).map_err(|_| "a name that is not UTF-8".to_string())
    }

    fn text(&mut self, n: u64) -> R<String> {
        let n = usize::try_from(n).map_err(|_| "a string of impossible length")?;
        String::from_utf8(self.take(n)?.to_vec()).map_err(|_| "a string that is not UTF-8".to_string())
    }

    fn push(&mut self, node: Node) -> R<()> {
        if self.nodes.len() >= MAX_NODES || self.stack.len() >= MAX_NODES {
            return Err(format!("more than {MAX_NODES} values"));
        }
        self.stack.push(self.nodes.len() as Id);
        self.nodes.push(node);
        Ok(())
    }

    fn pop(&mut self) -> R<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err("a value is missing on the stack".into());
        }
        self.stack.pop().ok_or_else(|| "a value is missing on the stack".into())
    }

    fn pop_mark(&mut self) -> R<Vec<Id>> {
        let at = self.marks.pop().ok_or("no mark on the stack")?;
        Ok(self.stack.split_off(at.min(self.stack.len())))
    }

    fn top(&self) -> R<Id> {
        self.stack.last().copied().ok_or_else(|| "the stack is empty".into())
    }

    fn remember(&mut self, slot: u32) -> R<()> {
        if self.memo.len() >= MAX_NODES {
            return Err(format!("more than {MAX_NODES} memo entries"));
        }
        let top = self.top()?;
        self.memo.insert(slot, top);
        Ok(())
    }

    fn recall(&mut self, slot: u32) -> R<()> {
        let id = *self.memo.get(&slot).ok_or_else(|| format!("memo entry {slot} was never written"))?;
        if self.stack.len() >= MAX_NODES {
            return Err(format!("more than {MAX_NODES} values"));
        }
        self.stack.push(id);
        Ok(())
    }

    fn node(&self, id: Id) -> &Node {
        self.nodes.get(id as usize).unwrap_or(&Node::None)
    }

    fn append(&mut self, items: &[Id]) -> R<()> {
        let list = self.top()?;
        match self.nodes.get_mut(list as usize) {
            Some(Node::List(l)) => l.extend(items),
            _ => return Err("items for something that is not a list".into()),
        }
        Ok(())
    }

    fn insert(&mut self, items: &[Id]) -> R<()> {
        if !items.len().is_multiple_of(2) {
            return Err("a dictionary key without a value".into());
        }
        let dict = self.top()?;
        match self.nodes.get_mut(dict as usize) {
            Some(Node::Dict(d)) => d.extend(items.chunks_exact(2).map(|c| (c[0], c[1]))),
            _ => return Err("entries for something that is not a dictionary".into()),
        }
        Ok(())
    }

    /// Carries out one opcode; `true` at the end.
    fn step(&mut self) -> R<bool> {
        let op = self.byte()?;
        match op {
            0x80 => {
                let protocol = self.byte()?;
                if !(1..=5).contains(&protocol) {
                    return Err(format!("protocol {protocol}, expected 1 to 5"));
                }
            }
            0x95 => {
                self.take(8)?; // FRAME: lengths of the opcodes themselves are checked
            }
            b'.' => return Ok(true),
            b'(' => {
                if self.marks.len() >= MAX_DEPTH {
                    return Err("nested more than 64 deep".into());
                }
                self.marks.push(self.stack.len());
            }
            b'0' => {
                self.pop()?;
            }
            b'1' => {
                self.pop_mark()?;
            }
            b'2' => {
                let id = self.top()?;
                if self.stack.len() >= MAX_NODES {
                    return Err(format!("more than {MAX_NODES} values"));
                }
                self.stack.push(id);
            }
            b'N' => self.push(Node::None)?,
            0x88 | 0x89 => self.push(Node::Bool(op == 0x88))?,
            b'J' => {
                let v = u32_at(self.take(4)?, 0).cast_signed();
                self.push(Node::Int(v.into()))?;
            }
            b'K' => {
                let v = self.byte()?;
                self.push(Node::Int(v.into()))?;
            }
            b'M' => {
                let b = self.take(2)?;
                self.push(Node::Int(u16::from_le_bytes([b[0], b[1]]).into()))?;
            }
            0x8a => {
                let n = usize::from(self.byte()?);
                let b = self.take(n)?;
                if n > 16 {
                    return Err(format!("a number of {n} bytes"));
                }
                // Two's complement, little-endian, of any length.
                let mut v = if b.last().is_some_and(|x| x & 0x80 != 0) { -1_i128 } else { 0 };
                for &x in b.iter().rev() {
                    v = (v << 8) | i128::from(x);
                }
                self.push(Node::Int(v))?;
            }
            b'G' => {
                self.take(8)?;
                self.push(Node::Float)?;
            }
            b'X' | 0x8c | 0x8d | b'T' | b'U' => {
                let n = match op {
                    b'X' | b'T' => u32_at(self.take(4)?, 0).into(),
                    0x8d => u64_at(self.take(8)?, 0),
                    _ => self.byte()?.into(),
                };
                let s = self.text(n)?;
                self.push(Node::Str(s))?;
            }
            b'B' | b'C' | 0x8e => {
                let n = match op {
                    b'B' => u32_at(self.take(4)?, 0).into(),
                    0x8e => u64_at(self.take(8)?, 0),
                    _ => self.byte()?.into(),
                };
                self.take(usize::try_from(n).map_err(|_| "bytes of impossible length")?)?;
                self.push(Node::Bytes)?;
            }
            b']' => self.push(Node::List(vec![]))?,
            b'}' => self.push(Node::Dict(vec![]))?,
            b')' => self.push(Node::Tuple(vec![]))?,
            b'l' | b't' => {
                let items = self.pop_mark()?;
                self.push(if op == b'l' { Node::List(items) } else { Node::Tuple(items) })?;
            }
            b'd' => {
                let items = self.pop_mark()?;
                self.push(Node::Dict(vec![]))?;
                self.insert(&items)?;
            }
            0x85..=0x87 => {
                let mut items = Vec::new();
                for _ in 0..op - 0x84 {
                    items.push(self.pop()?);
                }
                items.reverse();
                self.push(Node::Tuple(items))?;
            }
            b'a' => {
                let item = self.pop()?;
                self.append(&[item])?;
            }
            b'e' => {
                let items = self.pop_mark()?;
                self.append(&items)?;
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.insert(&[key, value])?;
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.insert(&items)?;
            }
            b'q' => {
                let slot = self.byte()?.into();
                self.remember(slot)?;
            }
            b'r' => {
                let slot = u32_at(self.take(4)?, 0);
                self.remember(slot)?;
            }
            0x94 => {
                let slot = self.memo.len() as u32;
                self.remember(slot)?;
            }
            b'h' => {
                let slot = self.byte()?.into();
                self.recall(slot)?;
            }
            b'j' => {
                let slot = u32_at(self.take(4)?, 0);
                self.recall(slot)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(module, name)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Node::Str(m), Node::Str(n)) = (self.node(module), self.node(name)) else {
                    return Err("a global whose name is not a string".into());
                };
                let (m, n) = (m.clone(), n.clone());
                self.global(&m, &n)?;
            }
            b'R' => self.call()?,
            b'b' => {
                // What torch.save attaches to a state dict: `_metadata` with version numbers.
                let (_state, object) = (self.pop()?, self.top()?);
                if !matches!(self.node(object), Node::Dict(_)) {
                    return Err("attributes for something that is not a dictionary".into());
                }
            }
            b'Q' => self.storage()?,
            b'i' | b'o' | 0x81 | 0x92 => return Err("builds an object of a class, which is refused".into()),
            _ => return Err(format!("operation {op:#04x} is not one that torch.save writes")),
        }
        Ok(false)
    }

    fn global(&mut self, module: &str, name: &str) -> R<()> {
        let g = global(module, name).ok_or_else(|| {
            let shown: String = format!("{module}.{name}").chars().take(200).collect();
            format!(
                "refers to `{}`, which is refused: only tensors in plain containers are read",
                shown.escape_debug()
            )
        })?;
        self.push(Node::Global(g))
    }

    fn call(&mut self) -> R<()> {
        let (args, function) = (self.pop()?, self.pop()?);
        let Node::Tuple(args) = self.node(args) else { return Err("arguments that are not a tuple".into()) };
        let args: Vec<Id> = args.iter().take(8).copied().collect();
        match self.node(function) {
            Node::Global(Global::OrderedDict) => {
                // Python 2 hands over a list of pairs.
                let mut items = Vec::new();
                if let Some(&pairs) = args.first() {
                    let Node::List(pairs) = self.node(pairs) else {
                        return Err("OrderedDict of something that is not a list".into());
                    };
                    if self.copied + pairs.len() > MAX_NODES {
                        return Err(format!("more than {MAX_NODES} values"));
                    }
                    for &p in pairs {
                        match self.node(p) {
                            Node::Tuple(kv) | Node::List(kv) if kv.len() == 2 => items.extend(kv),
                            _ => return Err("OrderedDict with an item that is not a pair".into()),
                        }
                    }
                }
                self.copied += items.len();
                self.push(Node::Dict(vec![]))?;
                self.insert(&items)
            }
            Node::Global(Global::RebuildTensor) => {
                let view = self.view(&args);
                self.push(Node::Tensor(view))
            }
            Node::Global(Global::RebuildParameter) => match args.first().map(|&a| self.node(a).clone()) {
                Some(t @ Node::Tensor(_)) => self.push(t),
                _ => self.push(Node::Tensor(Err("a parameter that is not made of a tensor".into()))),
            },
            Node::Global(g) => Err(format!("calls {g:?}, which is not a function")),
            _ => Err("calls something that is not a function".into()),
        }
    }

    /// `('storage', type, key, location, numel[, view])`.
    fn storage(&mut self) -> R<()> {
        let id = self.pop()?;
        let Node::Tuple(items) = self.node(id) else {
            return Err("a persistent id that is not a tuple".into());
        };
        let (Some(&tag), Some(&ty), Some(&key), Some(&numel)) =
            (items.first(), items.get(1), items.get(2), items.get(4))
        else {
            return Err(format!("a persistent id of {} items, expected 5", items.len()));
        };
        let (Node::Str(tag), Node::Global(Global::Storage(dtype, kind)), Node::Str(key), Node::Int(numel)) =
            (self.node(tag), self.node(ty), self.node(key), self.node(numel))
        else {
            return Err("a persistent id other than ('storage', type, key, location, length)".into());
        };
        if tag != "storage" {
            return Err(format!("a persistent id `{tag:.40}`, expected `storage`"));
        }
        if key.len() > MAX_KEY {
            return Err(format!("a storage key of {} bytes, expected at most {MAX_KEY}", key.len()));
        }
        let numel = u64::try_from(*numel).map_err(|_| format!("a storage of {numel} numbers"))?;
        let view = items.get(5).is_some_and(|&v| !matches!(self.node(v), Node::None));
        let s = Storage { dtype, kind: *kind, key: key.clone(), numel, view };
        if self.storages.insert(s.key.clone(), s.kind).is_some_and(|k| k != s.kind) {
            return Err(format!("storage {} of two types", s.key));
        }
        self.push(Node::Storage(s))
    }

    /// `(storage, offset, size, stride, requires_grad, hooks)`.
    fn view(&self, args: &[Id]) -> R<View> {
        let [storage, offset, size, stride, ..] = args else {
            return Err(format!("{} arguments, expected storage, offset, size and stride", args.len()));
        };
        let Node::Storage(s) = self.node(*storage) else { return Err("its storage is not a storage".into()) };
        if s.view {
            return Err(
                "its storage is a view of another storage, which only PyTorch before 0.4 wrote".into()
            );
        }
        let kind = s.kind.ok_or_else(|| format!("its type {} is not supported", s.dtype))?;
        let number = |id: Id, what: &str| match self.node(id) {
            Node::Int(i) => u64::try_from(*i).map_err(|_| format!("{what} {i}")),
            _ => Err(format!("{what} is not a number")),
        };
        let numbers = |id: Id, what: &str| match self.node(id) {
            Node::Tuple(ids) | Node::List(ids) if ids.len() <= MAX_RANK => {
                ids.iter().map(|&i| number(i, what)).collect::<R<Vec<u64>>>()
            }
            _ => Err(format!("{what} is not a tuple of at most {MAX_RANK} numbers")),
        };
        let (offset, sizes, strides) =
            (number(*offset, "offset")?, numbers(*size, "size")?, numbers(*stride, "stride")?);
        if sizes.len() != strides.len() {
            return Err(format!("{} sizes and {} strides", sizes.len(), strides.len()));
        }
        let shape = sizes.iter().map(|&d| usize::try_from(d).ok()).collect::<Option<Vec<_>>>();
        let outside = || {
            format!(
                "size {sizes:?} with stride {strides:?} from {offset} on is outside its storage of {} numbers",
                s.numel
            )
        };
        let shape = shape.ok_or_else(outside)?;
        let count = elements(&shape).ok_or_else(outside)? as u64;
        let last = sizes
            .iter()
            .zip(&strides)
            .try_fold(0_u64, |a, (&n, &st)| a.checked_add(n.saturating_sub(1).checked_mul(st)?));
        let span = if count == 0 { Some(0) } else { last.and_then(|l| l.checked_add(1)) };
        let span =
            span.filter(|x| offset.checked_add(*x).is_some_and(|end| end <= s.numel)).ok_or_else(outside)?;
        // Strides of 0 could make a petabyte out of one number.
        if count > s.numel {
            return Err(format!("size {sizes:?} repeats the {} numbers of its storage", s.numel));
        }
        Ok(View { kind, key: s.key.clone(), numel: s.numel, offset, shape, strides, span })
    }
}

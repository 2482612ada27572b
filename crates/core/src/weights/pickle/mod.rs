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
mod value;

pub(super) use value::{Pickle, View};

impl Pickle {
    /// Reads the pickle at the beginning of `bytes`.
    ///
    /// # Errors
    /// A text that gives the position and what is wrong.
    pub(super) fn read(bytes: &[u8]) -> Result<Pickle, String> {
        machine::run(bytes)
    }
}

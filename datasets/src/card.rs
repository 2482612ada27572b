//! The card of a named data set: what is known about it, and how it is opened.

use crate::kind::Kind;
use crate::record::Records;
use selfsup_core::Result;

/// The facts about a named data set, and how to open it.
#[derive(Clone, Copy, Debug)]
pub struct Card {
    /// Its name.
    pub name: &'static str,
    /// Its modality.
    pub kind: Kind,
    /// Its contents.
    pub about: &'static str,
    /// Its licence.
    pub licence: &'static str,
    /// The size of what is fetched, or lies on the disk.
    pub size: &'static str,
    /// Where it comes from: `bundled`, or the command that delivers it.
    pub source: &'static str,
    /// Opens it, fetching it if need be.
    pub open: fn() -> Result<Box<dyn Records>>,
}

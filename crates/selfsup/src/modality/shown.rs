//! What a page can show of a modality: its samples, and what a method has learnt of them.

use crate::set::Set;
use candle_core::Device;
use selfsup_core::Result;
use selfsup_core::objective::Method;

/// A modality whose samples a page can show.
pub trait Shows {
    /// Sample `index` of a set.
    ///
    /// # Errors
    /// If it cannot be read.
    fn show(&self, set: &Set, index: usize) -> Result<Shown>;
}

/// A sample as a page shows it.
#[derive(Clone, Debug, PartialEq)]
pub enum Shown {
    /// A small picture.
    Picture {
        /// `image/png` or `image/jpeg`.
        mime: &'static str,
        /// The file.
        bytes: Vec<u8>,
    },
    /// The beginning of a text.
    Text(String),
    /// The beginning of a recording.
    Sound(Vec<u8>),
}

/// A modality whose methods leave something to see.
pub trait Draws<B> {
    /// Draws what `method` makes of some samples; nothing where it leaves nothing to see.
    ///
    /// # Errors
    /// If a sample cannot be read.
    fn draw(&self, drawing: &Drawing<'_, B>) -> Result<Vec<Drawn>>;
}

/// What is drawn.
pub struct Drawing<'a, B> {
    /// The trained method.
    pub method: &'a Method<B>,
    /// The samples.
    pub set: &'a Set,
    /// Where the method lives.
    pub device: &'a Device,
}

/// A picture of what was learnt.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawn {
    /// Its name as a file, without an ending.
    pub name: &'static str,
    /// Its heading.
    pub title: String,
    /// What is to be seen, column by column.
    pub caption: String,
    /// The picture itself.
    pub content: Content,
}

/// A picture or a table.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// A PNG.
    Png(Vec<u8>),
    /// Rows of a table; the first names the columns.
    Table(Vec<Vec<String>>),
}

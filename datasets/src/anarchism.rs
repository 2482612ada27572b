//! An Anarchist FAQ: a long book of modern running prose.
//!
//! - what: its paragraphs, in the order of the files, without headings, lists of links and marks of emphasis
//! - source: Debian package `anarchism` (6.9 MB), or its folder `markdown` in the folder `anarchism` of the
//!   cache
//! - licence: GPL-2 (never bundled)
//! - use: perplexity of a language model on prose that is unlike dictionaries

use crate::card::Card;
use crate::fetch::{Client, Holds, Package, fetch};
use crate::kind::Kind;
use crate::prose::{Prose, squeezed};
use flate2::read::GzDecoder;
use selfsup_core::{Error, Result};
use std::io::Read;

const PACKAGE: Package = Package {
    client: Client::Apt,
    name: "anarchism",
    version: "15.3-3",
    sha256: "cf21c10948b00e923c62eb31c39a3390413fa26c5ee0e3b925feb0ec7fe42948",
    holds: Holds { files: 143, bytes: 4_214_234 },
    keep: &["usr/share/doc/anarchism/markdown"],
};

/// The card of this data set.
pub const CARD: Card = Card {
    name: "anarchism",
    kind: Kind::Text,
    about: "paragraphs of An Anarchist FAQ, modern running prose",
    licence: "GPL-2",
    size: "6.9 MB",
    source: "apt-get download anarchism",
    open: || Ok(Box::new(open()?)),
};

/// The largest file has 0.5 MB; more than a hundred times as much is another one.
const MOST: u64 = 50 << 20;

/// The paragraphs, fetched as a Debian package the first time.
///
/// # Errors
/// If the files are not in the cache and cannot be fetched, or are damaged.
pub fn open() -> Result<Prose> {
    let folder = fetch("anarchism", &PACKAGE)?.join("markdown");
    let entries = std::fs::read_dir(&folder).map_err(|e| Error::io(&folder, e))?;
    let mut files =
        entries.map(|e| Ok(e.map_err(|e| Error::io(&folder, e))?.path())).collect::<Result<Vec<_>>>()?;
    files.sort();
    let mut texts = Vec::new();
    for path in files {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let file = selfsup_core::file::open(&path)?;
        let mut text = String::new();
        let read = match name.as_str() {
            n if n.ends_with(".md.gz") => GzDecoder::new(file).take(MOST).read_to_string(&mut text),
            n if n.ends_with(".md") => file.take(MOST).read_to_string(&mut text),
            _ => continue,
        };
        read.map_err(|e| Error::io(&path, e))?;
        texts.extend(paragraphs(&text));
    }
    if texts.is_empty() {
        Err(Error::file(&folder, "no paragraphs: expected files *.md.gz"))
    } else {
        Ok(Prose::new(folder, texts))
    }
}

/// Paragraphs of at least 20 words between blank lines, but for headings, lists and quoted code.
fn paragraphs(text: &str) -> impl Iterator<Item = Box<str>> + '_ {
    text.split("\n\n").filter(|p| !p.trim_start().starts_with(['#', '|', '`'])).filter_map(|p| {
        let plain = squeezed(&unmarked(p));
        (plain.split(' ').count() >= 20).then(|| plain.into())
    })
}

/// Without the marks of emphasis, quotes and lists, and with the words of a link alone.
fn unmarked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['*', '_', '\\', '>', '[', ']']) {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        // `](address)` is left out whole.
        rest = match after
            .strip_prefix('(')
            .filter(|_| rest.as_bytes()[at] == b']')
            .and_then(|a| a.split_once(')'))
        {
            Some((_, behind)) => behind,
            None => after,
        };
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_lose_their_marks() {
        let words = "and some more words so that the paragraph is long enough to be kept by the rule";
        let text = format!(
            "# A heading with {words}\n\nKropotkin's _\"Mutual\nAid\"_ (see [section](secA.html)) {words}.\n\nshort\n"
        );
        let found: Vec<_> = paragraphs(&text).collect();
        assert_eq!(found.len(), 1);
        assert_eq!(&*found[0], format!("Kropotkin's \"Mutual Aid\" (see section) {words}."));
        assert_eq!(unmarked("[open"), "open");
    }

    /// Fetches 6.9 MB: run with `--ignored` where there is apt-get and a network.
    #[test]
    #[ignore = "fetches a package"]
    fn the_package_is_read() {
        use crate::record::Records;
        assert!(open().unwrap().len() > 5_000);
    }
}

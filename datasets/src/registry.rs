//! Data sets by name, and data by path.

use crate::card::Card;
use crate::cifar::{self, Cifar};
use crate::folder::Folder;
use crate::idx::{Idx, is_idx};
use crate::kind::Kind;
use crate::labels::Columns;
use crate::layout::{Layout, parts_of_files};
use crate::manifest::Manifest;
use crate::recognise::{Recogniser, VISION, is_bare_image, is_image, is_shard};
use crate::record::Records;
use crate::tar::Tar;
use crate::unpacked::is_packed;
use crate::walk::Walk;
use crate::{
    anarchism, asterisk_sounds, cbf, colin27, emoji, fashion_mnist, festvox_ru, gcide, head_ct, mni152,
    pydicom_data, tuxpaint_voices, ucr, wordnet,
};
use selfsup_core::{Error, Result};
use std::io::Read;
use std::path::{Path, PathBuf};

/// All data sets with a name. To add one: its file, its `mod` line, and a line here.
pub const CARDS: &[Card] = &[
    fashion_mnist::CARDS[0],
    fashion_mnist::CARDS[1],
    fashion_mnist::CARDS[2],
    fashion_mnist::CARDS[3],
    emoji::CARD,
    wordnet::CARDS[0],
    wordnet::CARDS[1],
    wordnet::CARDS[2],
    wordnet::CARDS[3],
    gcide::CARD,
    anarchism::CARD,
    festvox_ru::CARDS[0],
    festvox_ru::CARDS[1],
    festvox_ru::CARDS[2],
    festvox_ru::CARDS[3],
    asterisk_sounds::CARDS[0],
    asterisk_sounds::CARDS[1],
    asterisk_sounds::CARDS[2],
    asterisk_sounds::CARDS[3],
    tuxpaint_voices::CARD,
    mni152::CARDS[0],
    mni152::CARDS[1],
    colin27::CARDS[0],
    colin27::CARDS[1],
    head_ct::CARD,
    pydicom_data::CARD,
    cbf::CARD,
    ucr::CARDS[0],
    ucr::CARDS[1],
    ucr::CARDS[2],
    ucr::CARDS[3],
    ucr::CARDS[4],
    ucr::CARDS[5],
    ucr::CARDS[6],
    ucr::CARDS[7],
    ucr::CARDS[8],
];

/// All data sets with a name.
pub fn list() -> &'static [Card] {
    CARDS
}

/// How data is read, beside what its files say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Columns of tables: `data.columns`.
    pub columns: Columns,
    /// What folders mean: `data.layout`.
    pub layout: Layout,
    /// Where the target of each image lies, a pair of patterns: `data.targets`; empty for the usual places.
    pub targets: String,
}

/// Opens a data set by name, or whatever a path leads to.
///
/// - a folder of CIFAR's binary files, of tar shards, of Parquet files (or with them in `data/`), of MNIST's
///   four files, or of images
/// - a file: a tar shard, Parquet, idx (labels are looked for beside), one file of CIFAR
///
/// The content of a file decides. A folder of both parts of CIFAR or MNIST gives the training part: name a
/// file for the other.
///
/// # Errors
/// If there is nothing of that name, or it is none of these, or it cannot be read.
pub fn open(what: &str) -> Result<Box<dyn Records>> {
    open_as(what, &Reading::default())
}

fn open_as(what: &str, reading: &Reading) -> Result<Box<dyn Records>> {
    if let Some(card) = CARDS.iter().find(|c| c.name == what) {
        return (card.open)();
    }
    let path = Path::new(what);
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_dir() => folder(path, reading.layout),
        Ok(meta) if meta.is_file() => file(path),
        Ok(_) => Err(Error::file(path, "is neither a file nor a folder")),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let names = CARDS.iter().map(|c| c.name).collect::<Vec<_>>().join(", ");
            Err(Error::input(
                what,
                format_args!("no such file or folder, and no data set of that name (known: {names})"),
            ))
        }
        Err(e) => Err(Error::io(path, e)),
    }
}

/// Opens a data set of a modality of this workspace by name, or the files of that modality that a path leads
/// to: a folder of them, one file, or for speech a table that names files ([`Manifest`]).
///
/// # Errors
/// As [`open`], and if the named data set is of another modality, or the modality is not of this workspace:
/// that opens a folder of its files by [`Folder::open_kind`].
pub fn open_kind(what: &str, kind: Kind) -> Result<Box<dyn Records>> {
    open_kind_with(what, kind, &Reading::default())
}

/// As [`open_kind`], with columns and folders taken as `reading` says.
///
/// # Errors
/// As [`open_kind`].
pub fn open_kind_with(what: &str, kind: Kind, reading: &Reading) -> Result<Box<dyn Records>> {
    let of = Recogniser::of(kind).ok_or_else(|| {
        Error::input(what, format_args!("modality {kind} opens its data itself, with its own recogniser"))
    })?;
    match CARDS.iter().find(|c| c.name == what) {
        Some(card) if card.kind == kind => return (card.open)(),
        Some(card) => {
            return Err(Error::input(
                what,
                format_args!("is a data set of {}, expected {}", card.kind.samples(), kind.samples()),
            ));
        }
        None => {}
    }
    let path = Path::new(what);
    match std::fs::metadata(path) {
        Ok(meta) if kind != Kind::Vision && meta.is_dir() => {
            Ok(Box::new(Folder::open_kind(path, of, reading.layout)?))
        }
        Ok(meta) if kind == Kind::Speech && meta.is_file() && Manifest::is_table(path) => {
            Ok(Box::new(Manifest::open(path, &reading.columns)?))
        }
        Ok(meta) if meta.is_file() && (kind != Kind::Vision || is_image(path) || is_bare_image(path)) => {
            Ok(Box::new(Folder::one(path)))
        }
        _ => open_as(what, reading),
    }
}

/// Files right in `dir` that are `wanted`, sorted.
fn files_in(dir: &Path, wanted: impl Fn(&Path) -> bool) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|e| Error::io(dir, e))? {
        let path = entry.map_err(|e| Error::io(dir, e))?.path();
        let hidden = path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"."));
        if !hidden && wanted(&path) && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn is_table(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("parquet"))
}

/// Shards without those in gzip whose tar lies beside them: it is the same.
fn once(shards: Vec<PathBuf>) -> Vec<PathBuf> {
    let beside = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let stem = name.rfind(".tar").or_else(|| name.rfind('.')).map_or(name.as_str(), |end| &name[..end]);
        path.with_file_name(format!("{stem}.tar"))
    };
    shards.iter().filter(|s| !is_packed(s) || !shards.contains(&beside(s))).cloned().collect()
}

fn folder(path: &Path, layout: Layout) -> Result<Box<dyn Records>> {
    for dir in [path.to_path_buf(), path.join("cifar-10-batches-bin"), path.join("cifar-100-binary")] {
        for train in [true, false] {
            if let Some((files, kind)) = cifar::files(&dir, train) {
                return Ok(Box::new(Cifar::files(&files, kind)?));
            }
        }
    }
    let shards = once(files_in(path, is_shard)?);
    if !shards.is_empty() {
        return tar(path, &shards, layout);
    }
    let tables = tables(path)?;
    if !tables.is_empty() {
        return parquet(path, &tables, layout);
    }
    if let Some((images, labels)) = [true, false].iter().find_map(|&train| fashion_mnist::files(path, train))
    {
        return Ok(Box::new(Idx::open(&images, Some(&labels))?));
    }
    let images = Folder::open_kind(path, &VISION, layout);
    if images.is_err() {
        // Neither shards right in the folder nor images: shards further below.
        let (shards, tables) = (once(Walk::files(path, is_shard)?), Walk::files(path, is_table)?);
        match (shards.is_empty(), tables.is_empty()) {
            (false, _) => return tar(path, &shards, layout),
            (true, false) => return parquet(path, &tables, layout),
            (true, true) => {}
        }
    }
    Ok(Box::new(images?))
}

/// Shards below `root`, divided where their names say so.
fn tar(root: &Path, shards: &[PathBuf], layout: Layout) -> Result<Box<dyn Records>> {
    let (splits, notes) = parts_of_files(root, shards, layout);
    Ok(Box::new(Tar::open(shards)?.with_splits(splits, notes)))
}

fn file(path: &Path) -> Result<Box<dyn Records>> {
    let mut head = Vec::new();
    let opened = selfsup_core::file::open(path)?;
    opened.take(512).read_to_end(&mut head).map_err(|e| Error::io(path, e))?;
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    if head.starts_with(b"PAR1") || ending == "parquet" {
        return parquet(path, &[path.to_path_buf()], Layout::Plain);
    }
    if head.get(257..262) == Some(b"ustar") || is_shard(path) {
        return Ok(Box::new(Tar::open(&[path.to_path_buf()])?));
    }
    if is_idx(path, 3) {
        return Ok(Box::new(Idx::open(path, Idx::labels_beside(path).as_deref())?));
    }
    if let Some(kind) = cifar::Kind::of(path) {
        return Ok(Box::new(Cifar::files(&[path.to_path_buf()], kind)?));
    }
    let kinds = "expected a folder of images, a tar shard, Parquet, idx images, or a file of CIFAR";
    let hint = if head.starts_with(b"PK\x03\x04") || head.starts_with(&[0x1f, 0x8b]) || ending == "zst" {
        "; archives are unpacked first, so that samples can be read by position"
    } else if is_idx(path, 1) {
        "; these are idx labels: give the images"
    } else if is_image(path) {
        "; this is one image"
    } else {
        ""
    };
    Err(Error::file(path, format_args!("not a kind of data that is known: {kinds}{hint}")))
}

/// The texts in the column `column` of a Parquet file, or of those in a folder (or in `data/` of it); `None`
/// where there is no such file.
///
/// # Errors
/// If one cannot be read or has no such column, or this build is without Parquet.
pub fn open_tables_of_text(path: &Path, column: &str, layout: Layout) -> Result<Option<Box<dyn Records>>> {
    let tables = tables(path)?;
    if tables.is_empty() { Ok(None) } else { texts_of(path, &tables, column, layout).map(Some) }
}

/// Parquet files at `path`: itself, or those in the folder, or in `data/` of it.
///
/// # Errors
/// If a folder cannot be read.
pub fn tables(path: &Path) -> Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(if is_table(path) { vec![path.to_path_buf()] } else { Vec::new() });
    }
    for dir in [path.to_path_buf(), path.join("data")] {
        let found = if dir.is_dir() { files_in(&dir, is_table)? } else { Vec::new() };
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Ok(Vec::new())
}

#[cfg(feature = "parquet")]
fn texts_of(root: &Path, files: &[PathBuf], column: &str, layout: Layout) -> Result<Box<dyn Records>> {
    let (splits, notes) = parts_of_files(root, files, layout);
    Ok(Box::new(crate::parquet::Parquet::open_texts(files, column)?.with_splits(splits, notes)))
}

#[cfg(not(feature = "parquet"))]
fn texts_of(root: &Path, files: &[PathBuf], _column: &str, layout: Layout) -> Result<Box<dyn Records>> {
    parquet(root, files, layout)
}

#[cfg(feature = "parquet")]
fn parquet(root: &Path, files: &[PathBuf], layout: Layout) -> Result<Box<dyn Records>> {
    let (splits, notes) = parts_of_files(root, files, layout);
    Ok(Box::new(crate::parquet::Parquet::open(files)?.with_splits(splits, notes)))
}

#[cfg(not(feature = "parquet"))]
fn parquet(_root: &Path, files: &[PathBuf], _layout: Layout) -> Result<Box<dyn Records>> {
    let first = files.first().map(|p| p.display().to_string()).unwrap_or_default();
    Err(Error::input(first, "this build cannot read Parquet: build with --features parquet"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(dir: &Path, name: &str) -> String {
        dir.join(name).to_str().unwrap().to_string()
    }

    #[test]
    fn names() {
        assert_eq!(open("fashion-mnist").unwrap().len(), 10_000);
        assert_eq!(open("fashion-mnist/test").unwrap().classes().len(), 10);
        let e = open("fashion-mnits").err().unwrap().to_string();
        assert!(e.contains("no such file") && e.contains("fashion-mnist/test, fashion-mnist-full"), "{e}");
        let mut names: Vec<_> = list().iter().map(|c| c.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CARDS.len());
    }

    #[test]
    fn paths_by_their_content() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        };
        let fails = |name: &str, part: &str| {
            let e = open(&at(dir.path(), name)).err().unwrap().to_string();
            assert!(e.contains(name) && e.contains(part), "{e}");
        };
        write("images/a/1.png", b"");
        write("images/b/2.png", b"");
        assert_eq!(open(&at(dir.path(), "images")).unwrap().classes(), ["a", "b"]);
        fails("images/a/1.png", "one image");

        let mut w = ::tar::Builder::new(Vec::new());
        let mut h = ::tar::Header::new_gnu();
        h.set_size(1);
        w.append_data(&mut h, "x.jpg", &b"x"[..]).unwrap();
        let shard = w.into_inner().unwrap();
        write("shards/0.tar", &shard);
        write("shards/1.TAR", &shard);
        write("shards/.2.tar", b"");
        write("odd-name", &shard);
        write("nested/train/0.tar", &shard);
        write("nested/val/0.tar", &shard);
        let nested = open(&at(dir.path(), "nested")).unwrap();
        assert_eq!((nested.len(), nested.split(1)), (2, Some(crate::split::Split::Validation)));
        assert_eq!(open(&at(dir.path(), "shards")).unwrap().len(), 2);
        assert_eq!(open(&at(dir.path(), "odd-name")).unwrap().len(), 1);

        write("idx/train-images-idx3-ubyte", &[0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 9]);
        write("idx/train-labels-idx1-ubyte", &[0, 0, 8, 1, 0, 0, 0, 1, 4]);
        assert_eq!(open(&at(dir.path(), "idx")).unwrap().label(0), Some(4));
        assert_eq!(open(&at(dir.path(), "idx/train-images-idx3-ubyte")).unwrap().label(0), Some(4));
        fails("idx/train-labels-idx1-ubyte", "give the images");

        write("c/cifar-10-batches-bin/test_batch.bin", &[7; 3073]);
        assert_eq!(open(&at(dir.path(), "c")).unwrap().label(0), Some(7));
        assert_eq!(open(&at(dir.path(), "c/cifar-10-batches-bin")).unwrap().len(), 1);
        assert_eq!(open(&at(dir.path(), "c/cifar-10-batches-bin/test_batch.bin")).unwrap().len(), 1);

        write("a.zip", b"PK\x03\x04");
        fails("a.zip", "unpacked first");
        write("notes.txt", b"hello");
        fails("notes.txt", "not a kind of data");
        std::fs::create_dir(dir.path().join("empty")).unwrap();
        fails("empty", "no images");
        write("hub/data/train-0.parquet", b"PAR1PAR1");
        let e = open(&at(dir.path(), "hub")).err().unwrap().to_string();
        assert!(
            e.contains("train-0.parquet")
                && (e.contains("--features parquet") || e.contains("not a whole Parquet")),
            "{e}"
        );
        #[cfg(unix)]
        fails("/dev/null", "neither a file nor a folder");
    }
}

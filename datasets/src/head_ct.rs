//! A head CT with its bone, the example of InVesalius.
//!
//! - what: 108 slices of 256 x 256 pixels in Hounsfield units, 0.957 x 0.957 x 1.5 mm; label 1 is bone (from
//!   226 HU on, as its project file has it)
//! - source: Debian package `invesalius-examples` (19 MB), or its `Cranium.inv3` in the folder `head-ct` of
//!   the cache
//! - licence: GPL-2 (CTI Renato Archer): never bundled
//! - use: pre-train on CT, windows. The project keeps no orientation: that rows run to the front and slices
//!   to the head is seen in the image; that columns run to the left, as DICOM's do, is taken on trust, so do
//!   not tell left from right by it.

use crate::card::Card;
use crate::fetch::{Client, Holds, Package, fetch};
use crate::kind::Kind;
use crate::volumes::{Volume, Volumes};
use flate2::read::GzDecoder;
use selfsup_core::checkpoint::write_atomic;
use selfsup_core::{Error, Result};
use std::io::{BufReader, Read, Write};
use std::path::Path;

/// The classes, by label value.
pub const CLASSES: [&str; 2] = ["background", "bone"];

/// Columns, rows, slices.
const SHAPE: [usize; 3] = [256, 256, 108];

const PACKAGE: Package = Package {
    client: Client::Apt,
    name: "invesalius-examples",
    version: "3.1.99998-4",
    sha256: "f2f14bdfef6dc3812eafc5013d133c6c18370aaab5666b78d54af2e7db432f97",
    holds: Holds { files: 1, bytes: 18_719_455 },
    keep: &["usr/share/doc/invesalius-examples/examples/Cranium.inv3"],
};

/// The card of this data set.
pub const CARD: Card = Card {
    name: "head-ct",
    kind: Kind::Medical,
    about: "CT of a head, 108 slices in Hounsfield units, bone as label",
    licence: "GPL-2",
    size: "19 MB",
    source: "apt-get download invesalius-examples",
    open: || Ok(Box::new(open(&fetch("head-ct", &PACKAGE)?)?)),
};

/// The head in a folder with `Cranium.inv3`; it is written there as NRRD the first time.
///
/// # Errors
/// If the project is not there or damaged.
pub fn open(folder: &Path) -> Result<Volumes> {
    let (image, mask) = (folder.join("head.nrrd"), folder.join("bone.nrrd"));
    if !(image.is_file() && mask.is_file()) {
        let project = folder.join("Cranium.inv3");
        let [w, h, d] = SHAPE;
        let voxels = member(&project, "matrix.dat", 2 * w * h * d)?;
        // A mask has one more slice, row and column in front, which hold marks of the editor.
        let edited = member(&project, "mask_0.dat", (w + 1) * (h + 1) * (d + 1))?;
        let slices = edited.chunks_exact((w + 1) * (h + 1)).skip(1);
        let rows = slices.flat_map(|s| s.chunks_exact(w + 1).skip(1));
        let bone: Vec<u8> = rows.flat_map(|r| r.iter().skip(1).map(|v| u8::from(*v > 127))).collect();
        write(&image, "int16", &voxels)?;
        write(&mask, "uint8", &bone)?;
    }
    Volumes::new(vec![Volume { image, mask: Some(mask), subject: "head-ct".to_string() }], &CLASSES)
}

/// The content of the project's file that ends in `name`.
fn member(project: &Path, name: &str, length: usize) -> Result<Vec<u8>> {
    let io = |e| Error::io(project, e);
    let file = selfsup_core::file::open(project)?;
    let mut archive = ::tar::Archive::new(GzDecoder::new(BufReader::new(file)));
    for entry in archive.entries().map_err(io)? {
        let entry = entry.map_err(io)?;
        if !entry.path().map_err(io)?.ends_with(name) {
            continue;
        }
        let mut content = Vec::new();
        entry.take(length as u64 + 1).read_to_end(&mut content).map_err(io)?;
        if content.len() == length {
            return Ok(content);
        }
        return Err(Error::file(project, format_args!("its {name} has not {length} bytes")));
    }
    Err(Error::file(project, format_args!("has no {name}")))
}

fn write(path: &Path, kind: &str, voxels: &[u8]) -> Result<()> {
    let [w, h, d] = SHAPE;
    let header = format!(
        "NRRD0004\ntype: {kind}\ndimension: 3\nspace: left-anterior-superior\nsizes: {w} {h} {d}\n\
         space directions: (0.9570312,0,0) (0,0.9570312,0) (0,0,1.5)\nspace origin: (0,0,0)\nendian: little\nencoding: raw\n\n"
    );
    write_atomic(path, |file| {
        file.write_all(header.as_bytes())
            .and_then(|()| file.write_all(voxels))
            .map_err(|e| Error::io(path, e))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Records;

    #[test]
    fn damaged_projects_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let says = |part: &str| {
            let e = open(dir.path()).err().unwrap().to_string();
            assert!(e.contains("Cranium.inv3") && e.contains(part), "{e}");
        };
        says("");
        let project = |name: &str| {
            let mut w =
                ::tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
            let mut h = ::tar::Header::new_gnu();
            h.set_size(2);
            w.append_data(&mut h, name, &b"hi"[..]).unwrap();
            std::fs::write(dir.path().join("Cranium.inv3"), w.into_inner().unwrap().finish().unwrap())
                .unwrap();
        };
        project("x/other");
        says("no matrix.dat");
        project("x/matrix.dat");
        says("14155776 bytes");
    }

    /// Fetches 19 MB: run with `--ignored` where there is apt-get and a network.
    #[test]
    #[ignore = "fetches a package"]
    fn fetched() {
        let set = (CARD.open)().unwrap();
        let voxels = |path: std::path::PathBuf| {
            let bytes = std::fs::read(path).unwrap();
            let end = bytes.windows(2).position(|w| w == b"\n\n").unwrap() + 2;
            bytes[end..].to_vec()
        };
        let crate::Source::File(image) = set.get(0).unwrap().source else { panic!("no file") };
        let (hu, bone) = (voxels(image), voxels(set.mask(0).unwrap()));
        // Bone is what the project says it is.
        assert_eq!(bone.len() * 2, hu.len());
        assert!(
            hu.chunks_exact(2)
                .zip(&bone)
                .all(|(v, b)| (226..=3071).contains(&i16::from_le_bytes([v[0], v[1]])) == (*b == 1))
        );
        assert_eq!(bone.iter().filter(|b| **b == 1).count(), 475_759);
    }
}

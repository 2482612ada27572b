//! NIfTI and NRRD, good and bad.

use super::*;
use crate::grid::{Grid, affine_of_spacing};
use crate::volume::Volume;
use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use std::io::Write;
use std::path::PathBuf;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut w = GzEncoder::new(Vec::new(), Compression::default());
    w.write_all(bytes).unwrap();
    w.finish().unwrap()
}

/// A file in a folder of its own.
struct At(tempfile::TempDir, PathBuf);

fn at(name: &str, bytes: &[u8]) -> At {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    At(dir, path)
}

fn refused(name: &str, bytes: &[u8], config: &ReadConfig, parts: &[&str]) {
    let file = at(name, bytes);
    let e = volume(&file.1, config).expect_err("was taken").to_string();
    assert!(e.contains(name) && parts.iter().all(|p| e.contains(p)), "{e}");
}

/// A NIfTI file of 2 x 3 x 4 floats 0, 1, 2 ...
fn nifti() -> Vec<u8> {
    let grid = Grid::with_spacing([4, 3, 2], [3.0, 2.0, 1.0]).unwrap();
    let v = Volume::new("v", grid, (0..24).map(|v| v as f32).collect()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    crate::write::volume(dir.path().join("v.nii"), &v).unwrap();
    std::fs::read(dir.path().join("v.nii")).unwrap()
}

fn with(changes: &[(usize, &[u8])]) -> Vec<u8> {
    let mut bytes = nifti();
    changes.iter().for_each(|(at, b)| bytes[*at..*at + b.len()].copy_from_slice(b));
    bytes
}

#[test]
fn bad_nifti_is_named() {
    let config = ReadConfig::default();
    let check = |changes: &[(usize, &[u8])], parts: &[&str]| {
        let bytes = with(changes);
        refused("v.nii", &bytes, &config, parts);
        refused("v.nii.gz", &gzip(&bytes), &config, parts);
    };
    let zero = 0f32.to_le_bytes();
    check(&[(84, &zero)], &["zero spacing", "pixdim along j is 0"]);
    check(&[(280, &zero), (296, &zero), (312, &zero)], &["zero spacing"]);
    check(&[(80, &f32::NAN.to_le_bytes())], &["pixdim along i"]);
    check(&[(280, &f32::NAN.to_le_bytes())], &["not finite"]);
    check(&[(252, &[0, 0]), (254, &[0, 0])], &["neither sform nor qform", "not guessed"]);
    check(&[(254, &[0, 0]), (256, &2f32.to_le_bytes())], &["qform is no rotation"]);
    check(
        &[(40, &4i16.to_le_bytes()), (48, &5i16.to_le_bytes())],
        &["4-D file of 5 volumes", "volumes.read.frame = 0 takes the first, 4 the last"],
    );
    check(&[(42, &0i16.to_le_bytes())], &["axis 1 has 0 voxels"]);
    check(&[(42, &(-3i16).to_le_bytes())], &["axis 1 has -3 voxels"]);
    check(&[(40, &9i16.to_le_bytes())], &["9 axes"]);
    check(&[(70, &128i16.to_le_bytes())], &["colours (datatype 128)"]);
    check(&[(70, &32i16.to_le_bytes())], &["complex numbers"]);
    check(&[(344, b"\0\0\0\0")], &["Analyze 7.5"]);
    check(&[(108, &12f32.to_le_bytes())], &["begin at byte 12"]);
    check(&[(116, &f32::INFINITY.to_le_bytes())], &["scl_inter"]);
    check(&[(352 + 4 * 17, &f32::NAN.to_le_bytes())], &["voxel [1, 2, 2] is NaN", "not_finite"]);
    // A header that lies is seen before memory is asked for.
    let huge = [1000i16, 1000, 1000].map(i16::to_le_bytes).concat();
    refused(
        "v.nii",
        &with(&[(42, &huge)]),
        &config,
        &["announces 4000000000 bytes", "in 96 bytes", "cut short"],
    );
    refused(
        "v.nii.gz",
        &gzip(&with(&[(42, &huge)])),
        &config,
        &["announces 4000000352 bytes", "compressed bytes"],
    );
    let vast = [30000i16, 30000, 30000].map(i16::to_le_bytes).concat();
    check(&[(42, &vast)], &["30000 x 30000 x 30000", "max_voxels"]);
    // The pair without its other half, and what is no volume.
    refused("v.hdr", &with(&[(344, b"ni1\0")]), &config, &["expected", "v.img"]);
    refused("v.nii", b"no header at all", &config, &["no NIfTI file"]);
    refused("v.nii.gz", &gzip(b"short"), &config, &["no NIfTI file"]);
    refused("v.tiff", &[7; 400], &config, &["expected DICOM, NIfTI"]);
    refused("v.dcm", &[0; 400], &config, &["no DICOM file"]);
    assert!(volume("/nonexistent/v.nii", &config).unwrap_err().to_string().contains("/nonexistent/v.nii"));
}

#[test]
fn cut_and_flipped_files_are_errors() {
    let bytes = nifti();
    for cut in [3, 347, 351, 352, 400, bytes.len() - 1] {
        refused("v.nii", &bytes[..cut], &ReadConfig::default(), &[]);
    }
    let packed = gzip(&bytes);
    for cut in (0..packed.len()).step_by(5) {
        refused("v.nii.gz", &packed[..cut], &ReadConfig::default(), &[]);
    }
    // The checksum of the stream is looked at, though every voxel came out.
    let mut wrong = packed.clone();
    let n = wrong.len();
    wrong[n - 6] ^= 1;
    refused("v.nii.gz", &wrong, &ReadConfig::default(), &["damaged"]);
    proptest!(ProptestConfig::with_cases(300), |(changes in prop::collection::vec((0usize..348, any::<u8>()), 1..5))| {
        let mut bytes = bytes.clone();
        changes.iter().for_each(|(at, b)| bytes[*at] = *b);
        let file = at("v.nii", &bytes);
        if let Err(e) = volume(&file.1, &ReadConfig { max_voxels: 1 << 20, ..Default::default() }) {
            prop_assert!(e.to_string().contains("v.nii"), "{}", e);
        }
    });
}

#[test]
fn a_bomb_stops_at_the_limit() {
    // 200 million voxels of zeros in 200 kB, honestly announced: the limit is what refuses them.
    let mut header =
        with(&[(42, &[600i16, 600, 600].map(i16::to_le_bytes).concat()), (70, &2i16.to_le_bytes())]);
    header.truncate(352);
    let mut w = GzEncoder::new(Vec::new(), Compression::default());
    w.write_all(&header).unwrap();
    (0..216).for_each(|_| w.write_all(&vec![0; 1_000_000]).unwrap());
    let bomb = w.finish().unwrap();
    assert!(bomb.len() < 300_000);
    refused("v.nii.gz", &bomb, &ReadConfig { max_voxels: 1 << 24, ..Default::default() }, &["max_voxels"]);
}

#[test]
fn configured_frames_and_values() {
    let four = with(&[(40, &4i16.to_le_bytes()), (42, &[2i16, 3, 2, 2].map(i16::to_le_bytes).concat())]);
    for (name, bytes) in [("v.nii", four.clone()), ("v.nii.gz", gzip(&four))] {
        let file = at(name, &bytes);
        let read = |frame| volume(&file.1, &ReadConfig { frame: Some(frame), ..Default::default() });
        assert_eq!(read(0).unwrap().values()[..2], [0.0, 1.0]);
        assert_eq!(read(1).unwrap().values()[..2], [12.0, 13.0]);
        assert!(read(2).unwrap_err().to_string().contains("no volume 2"));
        // A mask has one volume, whichever is chosen of its image.
        let mask = at("mask.nii", &with(&[]));
        let config = ReadConfig { frame: Some(1), ..Default::default() };
        let both = labelled(&file.1, &mask.1, &config).unwrap();
        assert_eq!((both.values()[1], both.labels().unwrap()[1]), (13.0, 1));
    }
    let holed = at("v.nii", &with(&[(352 + 4 * 17, &f32::NAN.to_le_bytes())]));
    let config = ReadConfig { not_finite: NotFinite::Replace(-1.0), ..Default::default() };
    assert_eq!(volume(&holed.1, &config).unwrap().values()[17], -1.0);
    // As labels a NaN is refused whatever replaces it elsewhere.
    assert!(labels(&holed.1, &config).is_err());
    assert!(labelled(&holed.1, &holed.1, &config).is_err());
}

#[test]
fn labels_must_lie_on_the_image() {
    let image = at("v.nii", &nifti());
    let good = labelled(&image.1, &image.1, &ReadConfig::default()).unwrap();
    assert_eq!(good.labels().unwrap()[23], 23);
    let moved = at("labels.nii", &with(&[(280 + 12, &0.5f32.to_le_bytes())]));
    let e = labelled(&image.1, &moved.1, &ReadConfig::default()).unwrap_err().to_string();
    assert!(e.contains("labels.nii") && e.contains("another grid") && e.contains("v.nii"), "{e}");
}

#[test]
fn kinds_units_scale_and_byte_order() {
    // Big-endian 16 bits with a scale, lengths in metres.
    let mut big = vec![0u8; 352];
    let mut put = |at: usize, b: &[u8]| big[at..at + b.len()].copy_from_slice(b);
    put(0, &348i32.to_be_bytes());
    for (i, n) in [3i16, 2, 1, 1, 1, 1, 1, 1].iter().enumerate() {
        put(40 + 2 * i, &n.to_be_bytes());
    }
    put(70, &4i16.to_be_bytes());
    (0..4).for_each(|i| put(76 + 4 * i, &0.002f32.to_be_bytes()));
    put(108, &352f32.to_be_bytes());
    put(112, &0.5f32.to_be_bytes());
    put(116, &(-3f32).to_be_bytes());
    put(123, &[1]);
    put(254, &1i16.to_be_bytes());
    (0..3).for_each(|r| put(280 + 20 * r, &0.002f32.to_be_bytes()));
    put(344, b"n+1\0");
    big.extend(100i16.to_be_bytes());
    big.extend((-4i16).to_be_bytes());
    let v = volume(&at("v.nii", &big).1, &ReadConfig::default()).unwrap();
    assert_eq!(v.values(), [47.0, -5.0]);
    assert!(v.spacing().iter().all(|s| (s - 2.0).abs() < 1e-6));
    // The same as a pair of files.
    let dir = tempfile::tempdir().unwrap();
    let mut header = big[..352].to_vec();
    header[344..348].copy_from_slice(b"ni1\0");
    header[108..112].copy_from_slice(&0f32.to_be_bytes());
    std::fs::write(dir.path().join("p.hdr"), &header).unwrap();
    std::fs::write(dir.path().join("p.img"), &big[352..]).unwrap();
    assert_eq!(volume(dir.path().join("p.hdr"), &ReadConfig::default()).unwrap().values(), [47.0, -5.0]);
    // NIfTI-2, 64-bit floats.
    let mut two = vec![0u8; 544];
    let mut put = |at: usize, b: &[u8]| two[at..at + b.len()].copy_from_slice(b);
    put(0, &540i32.to_le_bytes());
    put(4, b"n+2\0\r\n\x1a\n");
    put(12, &64i16.to_le_bytes());
    (0..8).for_each(|i| put(16 + 8 * i, &[3i64, 1, 1, 2, 1, 1, 1, 1][i].to_le_bytes()));
    (0..4).for_each(|i| put(104 + 8 * i, &1.5f64.to_le_bytes()));
    put(168, &544i64.to_le_bytes());
    put(348, &2i32.to_le_bytes());
    (0..3).for_each(|r| put(400 + 40 * r, &(-1.5f64).to_le_bytes()));
    two.extend(2.5f64.to_le_bytes());
    two.extend(7f64.to_le_bytes());
    let v = volume(&at("v.nii", &two).1, &ReadConfig::default()).unwrap();
    assert_eq!(
        (v.values(), v.stored().unwrap().letters().as_str(), v.spacing()),
        (&[7.0, 2.5][..], "LPI", [1.5; 3])
    );
}

const NRRD: &str = "NRRD0004\n# a note\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 2 1 3\n\
    space directions: (0.5,0,0) (0,2,0) (0,0,-3)\nkinds: domain domain domain\nendian: little\nencoding: raw\n\
    space origin: (1,2,3)\nname:=somebody\n";

fn nrrd(changes: &[(&str, &str)], data: &[u8]) -> Vec<u8> {
    let header = changes.iter().fold(NRRD.to_string(), |h, (from, to)| {
        assert!(h.contains(from), "{from}");
        h.replace(from, to)
    });
    [header.as_bytes(), b"\n", data].concat()
}

#[test]
fn nrrd_attached_and_detached() {
    let data: Vec<u8> = (1i16..=6).flat_map(i16::to_le_bytes).collect();
    let check = |path: &Path| {
        let v = volume(path, &ReadConfig::default()).unwrap();
        assert_eq!(
            (v.shape(), v.spacing(), v.stored().unwrap().letters().as_str()),
            ([3, 1, 2], [3.0, 2.0, 0.5], "LPI")
        );
        // Stored slice 2 is the lowest; x is turned.
        assert_eq!(v.values(), [6.0, 5.0, 4.0, 3.0, 2.0, 1.0]);
        assert_eq!(v.grid().world([2.0, 0.0, 1.0]), [-1.0, -2.0, 3.0]);
    };
    check(&at("v.nrrd", &nrrd(&[], &data)).1);
    check(&at("v.nrrd", &nrrd(&[("encoding: raw", "encoding: gzip")], &gzip(&data))).1);
    // `bzip2` of the same.
    let bzip2 = b"BZh91AY&SY1y,\x0b\x00\x00\x03@\x00\x7f\x00 \x00\x22\x1acP\x86\x00\xe7(f\xf8\xbb\x92)\xc2\x84\x81\x8b\xc9`X";
    check(&at("v.nrrd", &nrrd(&[("encoding: raw", "encoding: bzip2")], bzip2)).1);
    check(
        &at(
            "v.nrrd",
            &nrrd(&[("encoding: raw", "encoding: raw\nbyte skip: -1")], &[b"junk", &data[..]].concat()),
        )
        .1,
    );
    let big: Vec<u8> = (1i16..=6).flat_map(i16::to_be_bytes).collect();
    check(&at("v.nrrd", &nrrd(&[("little", "big"), ("sizes: 2 1 3", "sizes: 2 1 3\r")], &big)).1);
    let header =
        at("v.nhdr", &nrrd(&[("encoding: raw", "encoding: raw\ndata file: ./v.raw\nbyte skip: 3")], b""));
    std::fs::write(header.0.path().join("v.raw"), [b"xyz", &data[..]].concat()).unwrap();
    check(&header.1);
    let four = [
        ("dimension: 3", "dimension: 4"),
        ("sizes: 2", "sizes: 1 2"),
        ("directions: (", "directions: none ("),
        ("kinds: ", "kinds: list "),
    ];
    check(&at("v.nrrd", &nrrd(&four, &data)).1);
}

#[test]
fn bad_nrrd_is_named() {
    let data = [0u8; 12];
    let config = ReadConfig::default();
    let check =
        |changes: &[(&str, &str)], parts: &[&str]| refused("v.nrrd", &nrrd(changes, &data), &config, parts);
    check(&[("space: left-posterior-superior\n", "")], &["lacks `space`", "not guessed"]);
    check(&[("space directions: (0.5,0,0) (0,2,0) (0,0,-3)\n", "")], &["lacks `space directions`"]);
    check(&[("space origin: (1,2,3)\n", "")], &["lacks `space origin`"]);
    check(&[("left-posterior-superior", "scanner-xyz")], &["scanner-xyz", "RAS, LAS or LPS"]);
    check(&[("(0,2,0)", "(0,0,0)")], &["zero spacing"]);
    check(&[("(0,2,0)", "(0,x,0)")], &["expected vectors"]);
    check(&[("sizes: 2 1 3", "sizes: 2 0 3")], &["2 x 0 x 3"]);
    check(&[("sizes: 2 1 3", "sizes: 2 1 x")], &["whole numbers"]);
    check(&[("sizes: 2 1 3", "sizes: 2 1")], &["2 numbers"]);
    check(&[("sizes: 2 1 3", "sizes: 20 10 30")], &["cut short"]);
    check(&[("sizes: 2 1 3", "sizes: 99999999999 9999999999 9999999999")], &["max_voxels"]);
    check(&[("short", "block")], &["type is `block`"]);
    check(&[("raw", "bzip2")], &["damaged", "header"]);
    check(&[("raw", "zstd")], &["encoding is `zstd`"]);
    check(&[("raw", "ascii")], &["`ascii`"]);
    check(&[("endian: little\n", "")], &["`endian` is missing"]);
    check(
        &[("encoding: raw", "encoding: raw\ndata file: ../../secret.raw")],
        &["../../secret.raw", "beside the header"],
    );
    check(&[("encoding: raw", "encoding: raw\ndata file: slice%03d.raw 1 9 1")], &["many files"]);
    check(&[("encoding: raw", "encoding: raw\nline skip: 2")], &["line skip"]);
    check(&[("space origin", "space units: \"m\" \"m\" \"m\"\nspace origin")], &["expected mm"]);
    let colours = [
        ("dimension: 3", "dimension: 4"),
        ("sizes: 2", "sizes: 3 2"),
        ("directions: (", "directions: none ("),
    ];
    check(&colours, &["[3, 2, 1, 3]", "expected a 3-D volume"]);
    check(&[("# a note", "nonsense")], &["line 2"]);
    refused("v.nrrd", b"NRRD9\n", &config, &["NRRD0001"]);
    refused("v.nrrd", &nrrd(&[("encoding: raw", "encoding: gzip")], &gzip(&data)[..15]), &config, &[]);
    let endless = [b"NRRD0004\n".to_vec(), b"#\n".repeat(600_000)].concat();
    refused("v.nrrd", &endless, &config, &["1 MiB"]);
}

#[test]
fn plain_grids_are_themselves() {
    let v = volume(&at("v.nii", &nifti()).1, &ReadConfig::default()).unwrap();
    assert_eq!(v.grid().affine(), &affine_of_spacing([3.0, 2.0, 1.0]));
    assert_eq!((v.id().ends_with("v.nii"), v.at([3, 2, 1]), v.at([4, 0, 0])), (true, Some(23.0), None));
}

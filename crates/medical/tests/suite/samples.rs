//! Real volumes: the bundled head, and the packages that are fetched (run with `--ignored` where there are
//! their clients and a network).

use selfsup_core::data::{Dataset, Transform};
use selfsup_core::{Key, Result};
use selfsup_datasets::{Records, Source, open};
use selfsup_medical::blocks::{cached, convert};
use selfsup_medical::image::slice;
use selfsup_medical::read::{self, ReadConfig, dicom};
use selfsup_medical::{
    BlockCache, Foreground, PatchConfig, Patches, Plane, RandomPatch, Scan, Volume, Window, write,
};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

fn file(set: &dyn Records, index: usize) -> PathBuf {
    match set.get(index).unwrap().source {
        Source::File(path) => path,
        other => panic!("{other:?} is no file"),
    }
}

fn labelled(set: &dyn Records, index: usize) -> Volume {
    read::labelled(file(set, index), set.mask(index).unwrap(), &ReadConfig::default()).unwrap()
}

#[test]
fn the_bundled_head_through_blocks_patches_and_back() {
    let set = open("mni152").unwrap();
    let head = labelled(&*set, 0);
    assert_eq!((head.shape(), head.spacing()), ([94, 116, 98], [2.0; 3]));
    // The front commissure, the origin of the atlas, lies in the brain: on labelled tissue.
    let at = head.grid().index([0.0, 0.0, 0.0]).map(|v| v.round() as usize);
    assert!(head.at(at).unwrap() > 0.0);
    // Left and right halves are alike in a symmetric atlas.
    let [d, h, w] = head.shape();
    let differing = (0..d * h * w).filter(|i| {
        let (row, x) = (i / w, i % w);
        head.labels().unwrap()[*i] != head.labels().unwrap()[row * w + (w - 1 - x)]
    });
    assert!(differing.count() < d * h * w / 20);

    let folder = tempfile::tempdir().unwrap();
    let cache = BlockCache::new(1 << 20);
    let scan: Arc<dyn Scan> = Arc::new(
        cached(&file(&*set, 0), set.mask(0).as_deref(), folder.path(), &ReadConfig::default(), &cache)
            .unwrap(),
    );
    let patches = Patches::new(vec![scan], 20).unwrap();
    let config = PatchConfig {
        shape: [32; 3],
        foreground: Some(Foreground::Labelled),
        share: 0.5,
        ..Default::default()
    };
    let transform = RandomPatch::new(config).unwrap();
    for i in 0..patches.len() {
        let patch = transform.apply(patches.get(i).unwrap(), &mut Key::new(3).fold(i as u64).rng()).unwrap();
        let start = head.grid().index(patch.grid().world([0.0; 3])).map(|v| v.round() as isize);
        let expected = head.part(start, [32; 3], 0.0).unwrap();
        assert_eq!((patch.values(), patch.labels()), (expected.values(), expected.labels()));
        assert!(patch.labels().unwrap().iter().filter(|l| **l != 0).count() * 2 >= 32 * 32 * 32);
        assert!(cache.bytes() <= 1 << 20);
    }
    let mask = folder.path().join("mask.nii.gz");
    write::labels(&mask, head.grid(), head.stored(), head.labels().unwrap()).unwrap();
    assert_eq!(read::labelled(file(&*set, 0), &mask, &ReadConfig::default()).unwrap(), head);
}

/// A file's name, and its frames.
type Decoded = (String, Vec<Vec<f32>>);

/// What came of one file: its frames, or why not.
fn frames(path: &std::path::Path) -> Result<Vec<Vec<f32>>> {
    let config = ReadConfig::default();
    let first = dicom::image(path, 0, &config)?;
    let mut all = vec![first.values];
    loop {
        match dicom::image(path, all.len(), &config) {
            Ok(next) => all.push(next.values),
            Err(e) if e.to_string().contains("has no frame") => return Ok(all),
            Err(e) => return Err(e),
        }
    }
}

/// Fetches 34 MB.
#[test]
#[ignore = "fetches a package"]
fn recodings_decode_alike_or_are_refused_by_name() {
    let set = open("pydicom-data").unwrap();
    assert_eq!(set.len(), 68);
    let mut groups: BTreeMap<String, Vec<Decoded>> = BTreeMap::new();
    let mut refused = 0;
    for i in 0..set.len() {
        let path = file(&*set, i);
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        match frames(&path) {
            Ok(frames) => {
                println!("{name}: {} frames of {} pixels", frames.len(), frames[0].len());
                // I is made of the image after a loss (which the decoder may round by one), R of the image
                // itself.
                let group =
                    format!("{} {}", set.group(i).unwrap(), if name.ends_with("I.dcm") { "I" } else { "" });
                groups.entry(group).or_default().push((name, frames));
            }
            Err(e) => {
                let e = e.to_string();
                println!("{name}: refused: {}", e.split(": ").skip(1).collect::<Vec<_>>().join(": "));
                let reasons = [
                    "is no image",
                    "colour image",
                    "JPEG-LS",
                    "modality LUT",
                    "bits a pixel",
                    "cannot be decoded",
                    "damaged",
                    "cut short",
                ];
                assert!(e.contains(&name) && reasons.iter().any(|r| e.contains(r)), "{e}");
                refused += 1;
            }
        }
    }
    println!("{} decoded, {refused} refused", set.len() - refused);
    // JPEG-LS is one of the recodings of this image where it is built in, and what is refused otherwise.
    let enhanced: Vec<&str> = groups["emri_small "].iter().map(|(name, _)| name.as_str()).collect();
    assert!(enhanced.len() >= 4, "{enhanced:?}");
    assert_eq!(
        enhanced.contains(&"emri_small_jpeg_ls_lossless.dcm"),
        cfg!(feature = "charls"),
        "{enhanced:?}"
    );
    let (mut compared, mut wrong) = (0, Vec::new());
    for files in groups.values() {
        let (first_name, first) = &files[0];
        for (name, frames) in &files[1..] {
            // Files of two frames repeat their image: the first frames are compared where the numbers differ.
            let same = first.iter().zip(frames);
            let gap =
                same.flat_map(|(a, b)| a.iter().zip(b)).map(|(x, y)| (x - y).abs()).fold(0f32, f32::max);
            println!("{first_name} and {name}: largest difference {gap}");
            compared += 1;
            if gap > if name.contains("_J2KI") || name.contains("_UNCI") { 1.0 } else { 0.0 }
                || first[0].len() != frames[0].len()
            {
                wrong.push(format!("{first_name} and {name} differ by {gap}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(compared >= 10, "only {compared} recodings could be compared");
}

/// Fetches 12 MB, 16 MB and 19 MB.
#[test]
#[ignore = "fetches packages"]
fn fetched_volumes_and_their_labels() {
    for (name, shape) in [
        ("mni152-full", [189, 233, 197]),
        ("colin27", [181, 217, 181]),
        ("inia19", [128, 206, 168]),
        ("head-ct", [108, 256, 256]),
    ] {
        let set = open(name).unwrap();
        let volume = labelled(&*set, 0);
        assert_eq!(volume.shape(), shape, "{name}");
        let labels = volume.labels().unwrap();
        assert!(labels.iter().any(|l| *l != 0), "{name}");
        if !set.classes().is_empty() {
            assert!(labels.iter().all(|l| usize::from(*l) < set.classes().len()), "{name}");
        }
        println!(
            "{name}: {shape:?}, spacing {:?}, {} label values",
            volume.spacing(),
            labels.iter().max().unwrap()
        );
    }
    // The head CT through the window of bone: bone is bright, air is black.
    let set = open("head-ct").unwrap();
    let volume = labelled(&*set, 0);
    let cut = slice(&volume, Plane::Axial, 54).unwrap();
    let grey = cut.to_u8(Window::named("bone"));
    let mean = |wanted: bool| {
        let of: Vec<f64> = grey
            .iter()
            .zip(cut.labels.as_ref().unwrap())
            .filter(|(_, l)| (**l == 1) == wanted)
            .map(|(g, _)| f64::from(*g))
            .collect();
        of.iter().sum::<f64>() / of.len() as f64
    };
    assert!(mean(true) > 2.0 * mean(false));
    // Sixteen bits suffice for Hounsfield units: the blocks take two bytes a voxel.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ct.blocks");
    convert(read::open(&file(&*set, 0), &ReadConfig::default()).unwrap(), &path, &ReadConfig::default())
        .unwrap();
    let blocks = (108usize.div_ceil(32) * 32) * 256 * 256 * 2;
    assert!(std::fs::metadata(path).unwrap().len() < blocks as u64 + 4096);
}

//! What is no grey image, cut files, and nobody's name.

use super::*;
use dicom_core::value::DataSetSequence;
use proptest::prelude::*;

#[test]
fn files_that_are_no_grey_image() {
    let without = |tag: (u16, u16)| {
        move |o: &mut Object| {
            o.remove_element(Tag(tag.0, tag.1));
        }
    };
    let says = |f: &dyn Fn(&mut Object), parts: &[&str]| {
        let dir = folder(&[0.0], |_, o| f(o));
        refused(&dir.path().join("s0.dcm"), parts)
    };
    let colour = |o: &mut Object| {
        put(o, (0x0028, 0x0002), VR::US, 3u16);
        put(o, (0x0028, 0x0004), VR::CS, "RGB");
    };
    says(&colour, &["s0.dcm", "colour image (3 samples a pixel, RGB)", "expected grey"]);
    says(&|o| put(o, (0x0028, 0x0004), VR::CS, "PALETTE COLOR"), &["colour image", "PALETTE COLOR"]);
    says(&|o| put(o, (0x0028, 0x0010), VR::US, 0u16), &["0 rows"]);
    says(&without((0x0028, 0x0011)), &["lacks Columns"]);
    says(&|o| put(o, (0x0028, 0x0101), VR::US, 17u16), &["17 bits"]);
    says(&|o| put(o, (0x0028, 0x1053), VR::DS, "0"), &["rescale slope"]);
    says(&without((0x0018, 0x0050)), &["one slice without SliceThickness"]);
    says(&without((0x7FE0, 0x0010)), &["no pixels"]);
    says(&|o| put(o, (0x0028, 0x0010), VR::US, 30u16), &["24 bytes of pixels, expected 240", "cut short"]);
    says(&|o| put(o, (0x0028, 0x0008), VR::IS, "3"), &["lie at the same place"]);
    let lut = |o: &mut Object| {
        let item = Object::new_empty();
        o.put(DataElement::new(Tag(0x0028, 0x3000), VR::SQ, DataSetSequence::from(vec![item])));
    };
    says(&lut, &["modality LUT"]);
    let config = ReadConfig { max_voxels: 11, ..Default::default() };
    let dir = folder(&[0.0], |_, _| {});
    assert!(volume(dir.path(), &config).unwrap_err().to_string().contains("max_voxels"));
    // One slice that says how thick it is, is a volume.
    assert_eq!(
        volume(dir.path().join("s0.dcm"), &ReadConfig::default()).unwrap().spacing(),
        [2.5, 0.5, 0.75]
    );
}

#[test]
fn cut_and_flipped_files_are_errors_without_names() {
    let dir = folder(&[2.5], |_, _| {});
    let path = dir.path().join("s0.dcm");
    let whole = std::fs::read(&path).unwrap();
    for cut in (0..whole.len()).step_by(7).chain([whole.len() - 1]) {
        std::fs::write(&path, &whole[..cut]).unwrap();
        refused(&path, &["s0.dcm"]);
    }
    proptest!(ProptestConfig::with_cases(150), |(changes in prop::collection::vec((132usize..whole.len(), any::<u8>()), 1..6))| {
        let mut bytes = whole.clone();
        changes.iter().for_each(|(at, b)| bytes[*at] = *b);
        std::fs::write(&path, &bytes).unwrap();
        // The secrets' own bytes may be what was changed: then the message must not hold them either.
        if let Err(e) = volume(&path, &ReadConfig { max_voxels: 1 << 24, ..Default::default() }) {
            let e = e.to_string();
            prop_assert!(SECRETS.iter().all(|s| !e.contains(s)), "{}", e);
        }
    });
}

#[test]
fn what_is_made_of_a_series_names_nobody() {
    let dir = folder(&[0.0, 2.5, 5.0], |_, _| {});
    let out = tempfile::tempdir().unwrap();
    let v = volume(dir.path(), &ReadConfig::default()).unwrap();
    crate::write::volume(out.path().join("v.nii"), &v).unwrap();
    crate::write::labels(out.path().join("m.nii"), v.grid(), v.stored(), &[1; 36]).unwrap();
    crate::blocks::cached(
        dir.path(),
        None,
        &out.path().join("blocks"),
        &ReadConfig::default(),
        &crate::blocks::BlockCache::new(1 << 20),
    )
    .unwrap();
    let mut seen = 0;
    for folder in [out.path().to_path_buf(), out.path().join("blocks")] {
        for file in std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_file()) {
            let bytes = std::fs::read(&file).unwrap();
            let holds = |s: &str| {
                bytes.windows(s.len()).any(|w| w == s.as_bytes()) || file.to_string_lossy().contains(s)
            };
            assert!(!SECRETS.iter().any(|s| holds(s)), "{}", file.display());
            seen += 1;
        }
    }
    assert_eq!(seen, 3);
    // What can be printed of a volume, an image and a series neither.
    let shown = format!(
        "{v:?} {:?} {:?}",
        image(dir.path().join("s0.dcm"), 0, &ReadConfig::default()).unwrap(),
        series(dir.path()).unwrap()
    );
    assert!(SECRETS.iter().all(|s| !shown.contains(s)));
}

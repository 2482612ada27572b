use super::*;
use crate::read::{NotFinite, volume};
use dicom_core::value::{DataSetSequence, PixelFragmentSequence};
use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject, Tag};
use proptest::prelude::*;

/// What no message and no file of ours may hold.
const SECRETS: [&str; 6] = ["DOE^JANE", "ID-4711", "19610203", "20240506", "1.2.999.4711", "Doktor"];

type Object = InMemDicomObject;

fn put(o: &mut Object, tag: (u16, u16), vr: VR, value: impl Into<PrimitiveValue>) {
    o.put(DataElement::new(Tag(tag.0, tag.1), vr, value.into()));
}

fn text(values: &[f64]) -> String {
    values.iter().map(|v| format!("{v}")).collect::<Vec<_>>().join("\\")
}

/// A CT slice of 4 columns and 3 rows at `z`: stored value 100 z + 10 row + column, 16 bits.
fn ct(z: f64) -> Object {
    let mut o = Object::new_empty();
    put(&mut o, (0x0008, 0x0016), VR::UI, "1.2.840.10008.5.1.4.1.1.2");
    put(&mut o, (0x0008, 0x0018), VR::UI, "1.2.999.4711.1");
    put(&mut o, (0x0008, 0x0020), VR::DA, "20240506");
    put(&mut o, (0x0008, 0x0060), VR::CS, "CT");
    put(&mut o, (0x0008, 0x0090), VR::PN, "Doktor^X");
    put(&mut o, (0x0010, 0x0010), VR::PN, "DOE^JANE");
    put(&mut o, (0x0010, 0x0020), VR::LO, "ID-4711");
    put(&mut o, (0x0010, 0x0030), VR::DA, "19610203");
    put(&mut o, (0x0018, 0x0050), VR::DS, "2.5");
    put(&mut o, (0x0020, 0x000E), VR::UI, "1.2.999.4711.2");
    put(&mut o, (0x0020, 0x0032), VR::DS, text(&[-10.0, 20.0, z]));
    put(&mut o, (0x0020, 0x0037), VR::DS, text(&[1.0, 0.0, 0.0, 0.0, 1.0, 0.0]));
    put(&mut o, (0x0028, 0x0002), VR::US, 1u16);
    put(&mut o, (0x0028, 0x0004), VR::CS, "MONOCHROME2");
    put(&mut o, (0x0028, 0x0010), VR::US, 3u16);
    put(&mut o, (0x0028, 0x0011), VR::US, 4u16);
    put(&mut o, (0x0028, 0x0030), VR::DS, text(&[0.5, 0.75]));
    put(&mut o, (0x0028, 0x0100), VR::US, 16u16);
    put(&mut o, (0x0028, 0x0101), VR::US, 12u16);
    put(&mut o, (0x0028, 0x0102), VR::US, 11u16);
    put(&mut o, (0x0028, 0x0103), VR::US, 0u16);
    put(&mut o, (0x0028, 0x1052), VR::DS, "-1024");
    put(&mut o, (0x0028, 0x1053), VR::DS, "2");
    let pixels: Vec<u16> = (0..12).map(|i| (100.0 * z) as u16 + 10 * (i / 4) + i % 4).collect();
    put(&mut o, (0x7FE0, 0x0010), VR::OW, PrimitiveValue::U16(pixels.into()));
    o
}

fn save(o: Object, path: &Path) {
    save_as(o, path, "1.2.840.10008.1.2.1");
}

fn save_as(o: Object, path: &Path, syntax: &str) {
    let meta = FileMetaTableBuilder::new().transfer_syntax(syntax).media_storage_sop_class_uid("1.2.840.10008.5.1.4.1.1.2");
    o.with_meta(meta.media_storage_sop_instance_uid("1.2.999.4711.1")).unwrap().write_to_file(path).unwrap();
}

/// A folder of slices, each changed by `f(number, slice)`.
fn folder(zs: &[f64], mut f: impl FnMut(usize, &mut Object)) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (i, z) in zs.iter().enumerate() {
        let mut o = ct(*z);
        f(i, &mut o);
        save(o, &dir.path().join(format!("s{i}.dcm")));
    }
    dir
}

/// The error of reading, which must hold `parts` and no secret.
fn refused(path: &Path, parts: &[&str]) -> String {
    let e = volume(path, &ReadConfig::default()).expect_err("was taken").to_string();
    assert!(parts.iter().all(|p| e.contains(p)), "{e}");
    assert!(SECRETS.iter().all(|s| !e.contains(s)), "{e}");
    e
}

#[test]
fn a_series_in_any_order() {
    let dir = folder(&[5.0, 0.0, 2.5], |_, _| {});
    std::fs::write(dir.path().join("README.txt"), "not a slice").unwrap();
    let mut slices = open_folder(dir.path(), &ReadConfig::default()).unwrap();
    assert_eq!((slices.stored().shape(), slices.stored().letters().as_str()), ([4, 3, 3], "LPS"));
    let mut raw = vec![0f32; 36];
    slices.next(&mut raw).unwrap();
    assert_eq!((raw[0], raw[1], raw[4], raw[12]), (-1024.0, -1022.0, -1004.0, -1024.0 + 500.0));
    assert!(slices.is_i16());
    assert!(slices.next(&mut raw[..12]).is_err());
    let v = volume(dir.path(), &ReadConfig::default()).unwrap();
    assert_eq!((v.shape(), v.spacing()), ([3, 3, 4], [2.5, 0.5, 0.75]));
    // x and y are turned: LPS (-10, 20) is RAS (10, -20), the first stored pixel, now the last of its slice.
    assert_eq!((v.at([0, 2, 3]), v.grid().world([0.0, 2.0, 3.0])), (Some(-1024.0), [10.0, -20.0, 0.0]));
    assert_eq!(series(dir.path()).unwrap()[0].files.len(), 3);
    assert_eq!(open_files("three", &series(dir.path()).unwrap()[0].files, &ReadConfig::default()).unwrap().id(), "three");
}

#[test]
fn volumes_that_share_a_folder_stay_apart() {
    use crate::read::{files, open_series, volumes};
    // Two series, file by file in turns, and two NIfTI files.
    let dir = folder(&[0.0, 10.0, 2.5, 15.0, 5.0], |i, o| {
        if i % 2 == 1 {
            put(o, (0x0020, 0x000E), VR::UI, "1.2.999.4711.3");
        }
    });
    let grid = crate::grid::Grid::with_spacing([2, 3, 4], [1.0; 3]).unwrap();
    let names = ["a.nii.gz", "b.nii"];
    for (i, name) in names.iter().enumerate() {
        let v = crate::Volume::new("v", grid.clone(), vec![i as f32; 24]).unwrap();
        crate::write::volume(dir.path().join(name), &v).unwrap();
    }
    let at = |name: &str| dir.path().join(name);
    let all: Vec<PathBuf> = ["a.nii.gz", "b.nii", "s0.dcm", "s1.dcm", "s2.dcm", "s3.dcm", "s4.dcm"].map(at).to_vec();
    let found = volumes(&all).unwrap();
    assert_eq!(found, ["a.nii.gz", "b.nii", "s0.dcm", "s1.dcm"].map(at));
    let shape = |path: &Path| open_series(path, &ReadConfig::default()).unwrap().stored().shape();
    assert_eq!(found.iter().map(|p| shape(p)).collect::<Vec<_>>(), [[4, 3, 2], [4, 3, 2], [4, 3, 3], [4, 3, 2]]);
    // Any file of a series stands for it, and its own slices alone come out.
    let mut values = vec![0f32; 24];
    open_series(&at("s3.dcm"), &ReadConfig::default()).unwrap().next(&mut values).unwrap();
    assert_eq!((values[0], values[12]), (2.0 * 1000.0 - 1024.0, 2.0 * 1500.0 - 1024.0));
    assert_eq!(files(&at("s4.dcm")).unwrap(), ["s0.dcm", "s2.dcm", "s4.dcm"].map(at));
    assert_eq!(files(&at("b.nii")).unwrap(), [at("b.nii")]);
    // A folder of one series is named as such; a file alone by itself.
    let one = folder(&[0.0, 2.5], |_, _| {});
    let inside = ["s0.dcm", "s1.dcm"].map(|n| one.path().join(n));
    assert_eq!(volumes(&inside).unwrap(), [one.path()]);
    assert_eq!(shape(one.path()), [4, 3, 2]);
    let single = folder(&[0.0], |_, _| {});
    assert_eq!(volumes(&[single.path().join("s0.dcm")]).unwrap(), [single.path().join("s0.dcm")]);
    // Several files that are each a series (frames, or single slices of scouts).
    let scouts = folder(&[0.0, 2.5], |i, o| put(o, (0x0020, 0x000E), VR::UI, format!("1.2.999.4711.{}", 5 + i)));
    let inside = ["s0.dcm", "s1.dcm"].map(|n| scouts.path().join(n));
    assert_eq!(volumes(&inside).unwrap(), inside);
}

#[test]
fn series_that_are_no_volume() {
    let zs = [0.0, 2.5, 5.0, 7.5, 10.0];
    let says = |dir: tempfile::TempDir, parts: &[&str]| refused(dir.path(), parts);
    says(folder(&[0.0, 2.5, 7.5, 10.0], |_, _| {}), &["1 slice is missing between s1.dcm and s2.dcm", "5.000 mm", "expected 2.500"]);
    says(folder(&[0.0, 2.5, 5.0, 12.5, 15.0], |_, _| {}), &["2 slices are missing between s2.dcm and s3.dcm"]);
    says(folder(&[0.0, 2.5, 5.0, 8.1, 10.6], |_, _| {}), &["the distances differ between s2.dcm and s3.dcm"]);
    says(folder(&[0.0, 2.5, 2.5, 5.0], |_, _| {}), &["s1.dcm and s2.dcm lie at the same place"]);
    let tilt = |i: usize, o: &mut Object| {
        if i == 3 {
            put(o, (0x0020, 0x0037), VR::DS, text(&[1.0, 0.0, 0.0, 0.0, 0.8, 0.6]));
        }
    };
    says(folder(&zs, tilt), &["mixed orientations", "s3.dcm", "s0.dcm"]);
    let rows = |i: usize, o: &mut Object| {
        if i == 2 {
            put(o, (0x0028, 0x0010), VR::US, 2u16);
        }
    };
    says(folder(&zs, rows), &["mixed sizes: s2.dcm has 2 x 4", "3 x 4"]);
    let spacing = |i: usize, o: &mut Object| {
        if i == 4 {
            put(o, (0x0028, 0x0030), VR::DS, text(&[0.5, 0.8]));
        }
    };
    says(folder(&zs, spacing), &["mixed spacings: s4.dcm"]);
    let gantry = |i: usize, o: &mut Object| put(o, (0x0020, 0x0032), VR::DS, text(&[0.0, i as f64, zs[i]]));
    says(folder(&zs, gantry), &["beside the normal", "gantry"]);
    let two = |i: usize, o: &mut Object| {
        if i > 2 {
            put(o, (0x0020, 0x000E), VR::UI, "1.2.999.4711.3");
        }
    };
    says(folder(&zs, two), &["holds 2 series", "s0.dcm (3 files, CT)", "s3.dcm (2 files, CT)"]);
    for (tag, name) in [((0x0020, 0x0032), "ImagePosition"), ((0x0020, 0x0037), "ImageOrientation"), ((0x0028, 0x0030), "PixelSpacing")] {
        let without = |i: usize, o: &mut Object| {
            if i == 1 {
                o.remove_element(Tag(tag.0, tag.1));
            }
        };
        says(folder(&zs, without), &["s1.dcm lacks", name, "not guessed"]);
    }
    let skew = |_: usize, o: &mut Object| put(o, (0x0020, 0x0037), VR::DS, text(&[1.0, 0.0, 0.0, 0.5, 0.5, 0.0]));
    says(folder(&zs, skew), &["not at right angles"]);
    says(folder(&zs, |_, o| put(o, (0x0028, 0x0030), VR::DS, text(&[0.5, 0.0]))), &["pixel spacing", "positive"]);
    says(folder(&[], |_, _| {}), &["holds no DICOM files"]);
    // A file that is no slice is not passed over: it may be a slice that was damaged.
    let dir = folder(&zs, |_, _| {});
    std::fs::write(dir.path().join("s9.dcm"), b"torn").unwrap();
    refused(dir.path(), &["s9.dcm"]);
}

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
    assert_eq!(volume(dir.path().join("s0.dcm"), &ReadConfig::default()).unwrap().spacing(), [2.5, 0.5, 0.75]);
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
    crate::blocks::cached(dir.path(), None, &out.path().join("blocks"), &ReadConfig::default(), &crate::blocks::BlockCache::new(1 << 20))
        .unwrap();
    let mut seen = 0;
    for folder in [out.path().to_path_buf(), out.path().join("blocks")] {
        for file in std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_file()) {
            let bytes = std::fs::read(&file).unwrap();
            let holds = |s: &str| bytes.windows(s.len()).any(|w| w == s.as_bytes()) || file.to_string_lossy().contains(s);
            assert!(!SECRETS.iter().any(|s| holds(s)), "{}", file.display());
            seen += 1;
        }
    }
    assert_eq!(seen, 3);
    // What can be printed of a volume, an image and a series neither.
    let shown =
        format!("{v:?} {:?} {:?}", image(dir.path().join("s0.dcm"), 0, &ReadConfig::default()).unwrap(), series(dir.path()).unwrap());
    assert!(SECRETS.iter().all(|s| !shown.contains(s)));
}

#[test]
fn brighter_is_more() {
    let one = |f: &dyn Fn(&mut Object)| {
        let dir = folder(&[0.0], |_, o| f(o));
        image(dir.path().join("s0.dcm"), 0, &ReadConfig::default()).unwrap()
    };
    let radiograph = |o: &mut Object| {
        put(o, (0x0008, 0x0060), VR::CS, "DX");
        put(o, (0x0028, 0x0004), VR::CS, "MONOCHROME1");
        put(o, (0x0018, 0x1164), VR::DS, text(&[0.2, 0.1]));
        o.remove_element(Tag(0x0028, 0x0030));
        o.remove_element(Tag(0x0028, 0x1052));
        o.remove_element(Tag(0x0028, 0x1053));
    };
    let picture = one(&radiograph);
    assert_eq!((picture.values[0], picture.values[1], picture.spacing), (4095.0, 4094.0, Some([0.2, 0.1])));
    // Hounsfield units are what they are.
    assert_eq!(one(&|o| put(o, (0x0028, 0x0004), VR::CS, "MONOCHROME1")).values[1], -1022.0);
    let windowed = one(&|o| {
        put(o, (0x0028, 0x1050), VR::DS, text(&[-1012.5, 40.0]));
        put(o, (0x0028, 0x1051), VR::DS, text(&[23.0, 80.0]));
    });
    assert_eq!(windowed.windows, [crate::Window { center: -1012.5, width: 23.0 }, crate::Window { center: 40.0, width: 80.0 }]);
    assert_eq!((windowed.to_u8(None)[0], windowed.to_u8(None)[8]), (0, 255));
    let dir = folder(&[0.0], |_, _| {});
    let e = image(dir.path().join("s0.dcm"), 1, &ReadConfig::default()).unwrap_err().to_string();
    assert!(e.contains("no frame 1"), "{e}");
    let large = folder(&[0.0], |_, o| put(o, (0x0028, 0x1053), VR::DS, "1e300"));
    let path = large.path().join("s0.dcm");
    assert!(image(&path, 0, &ReadConfig::default()).unwrap_err().to_string().contains("not finite"));
    assert!(volume(&path, &ReadConfig::default()).unwrap_err().to_string().contains("voxel"));
    let config = ReadConfig { not_finite: NotFinite::Replace(0.0), ..Default::default() };
    assert!(volume(&path, &config).unwrap().values().iter().all(|v| v.is_finite()));
}

#[test]
fn bits_of_every_width() {
    let first = |f: &dyn Fn(&mut Object)| {
        let dir = folder(&[0.0], |_, o| {
            put(o, (0x0028, 0x1053), VR::DS, "1");
            put(o, (0x0028, 0x1052), VR::DS, "0");
            f(o);
        });
        image(dir.path().join("s0.dcm"), 0, &ReadConfig::default()).unwrap().values[..3].to_vec()
    };
    let words = |o: &mut Object, w: [u16; 3]| {
        let pixels: Vec<u16> = w.into_iter().chain([0; 9]).collect();
        put(o, (0x7FE0, 0x0010), VR::OW, PrimitiveValue::U16(pixels.into()));
    };
    // Twelve bits with a sign; the four above hold an old overlay.
    let signed = first(&|o| {
        put(o, (0x0028, 0x0103), VR::US, 1u16);
        words(o, [0xF7FF, 0x0800, 0x1FFF]);
    });
    assert_eq!(signed, [2047.0, -2048.0, -1.0]);
    // Twelve bits at the top of sixteen.
    let top = first(&|o| {
        put(o, (0x0028, 0x0102), VR::US, 15u16);
        words(o, [0xFFFF, 0x0010, 0x000F]);
    });
    assert_eq!(top, [4095.0, 1.0, 0.0]);
    let bytes = first(&|o| {
        (0x0100..=0x0102).for_each(|t| put(o, (0x0028, t), VR::US, if t == 0x0102 { 7u16 } else { 8 }));
        put(o, (0x7FE0, 0x0010), VR::OB, PrimitiveValue::U8((0..12).map(|i| 250 - i).collect()));
    });
    assert_eq!(bytes, [250.0, 249.0, 248.0]);
    let long = first(&|o| {
        (0x0100..=0x0102).for_each(|t| put(o, (0x0028, t), VR::US, if t == 0x0102 { 31u16 } else { 32 }));
        let pixels: Vec<u16> = [1, 0, 0, 1, 5, 0].into_iter().chain([0; 18]).collect();
        put(o, (0x7FE0, 0x0010), VR::OW, PrimitiveValue::U16(pixels.into()));
    });
    assert_eq!(long, [1.0, 65536.0, 5.0]);
}

/// An enhanced file: geometry that all frames share, and a place for each.
fn enhanced(zs: &[f64]) -> Object {
    let mut o = ct(0.0);
    for tag in [(0x0020, 0x0032), (0x0020, 0x0037), (0x0028, 0x0030), (0x0018, 0x0050), (0x0028, 0x1052), (0x0028, 0x1053)] {
        o.remove_element(Tag(tag.0, tag.1));
    }
    let group = |sequence: (u16, u16), f: &dyn Fn(&mut Object)| {
        let mut item = Object::new_empty();
        f(&mut item);
        DataElement::new(Tag(sequence.0, sequence.1), VR::SQ, DataSetSequence::from(vec![item]))
    };
    let mut shared = Object::new_empty();
    shared.put(group((0x0028, 0x9110), &|i| put(i, (0x0028, 0x0030), VR::DS, text(&[0.5, 0.75]))));
    shared.put(group((0x0020, 0x9116), &|i| put(i, (0x0020, 0x0037), VR::DS, text(&[1.0, 0.0, 0.0, 0.0, 0.0, -1.0]))));
    shared.put(group((0x0028, 0x9145), &|i| {
        put(i, (0x0028, 0x1052), VR::DS, "-7");
        put(i, (0x0028, 0x1053), VR::DS, "0.5");
    }));
    let frames: Vec<Object> = zs
        .iter()
        .map(|z| {
            let mut frame = Object::new_empty();
            frame.put(group((0x0020, 0x9113), &|i| put(i, (0x0020, 0x0032), VR::DS, text(&[0.0, *z, 0.0]))));
            frame
        })
        .collect();
    o.put(DataElement::new(Tag(0x5200, 0x9229), VR::SQ, DataSetSequence::from(vec![shared])));
    o.put(DataElement::new(Tag(0x5200, 0x9230), VR::SQ, DataSetSequence::from(frames)));
    put(&mut o, (0x0028, 0x0008), VR::IS, zs.len().to_string());
    let pixels: Vec<u16> = zs.iter().flat_map(|z| (0..12).map(move |i| (100.0 * z) as u16 + i)).collect();
    put(&mut o, (0x7FE0, 0x0010), VR::OW, PrimitiveValue::U16(pixels.into()));
    o
}

#[test]
fn frames_of_an_enhanced_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("e.dcm");
    save(enhanced(&[6.0, 2.0, 4.0]), &path);
    let mut slices = open_file(&path, &ReadConfig::default()).unwrap();
    // Rows run to the left, columns to the feet, so the normal (row x column) points to the back: coronal.
    assert_eq!((slices.stored().letters().as_str(), slices.stored().shape()), ("LIP", [4, 3, 3]));
    let mut raw = vec![0f32; 36];
    slices.next(&mut raw).unwrap();
    assert_eq!((raw[0], raw[12], raw[24], raw[25]), (93.0, 193.0, 293.0, 293.5));
    assert!(!slices.is_i16());
    assert_eq!(volume(&path, &ReadConfig::default()).unwrap().spacing(), [0.5, 2.0, 0.75]);
    save(enhanced(&[0.0, 2.0, 4.0, 8.0]), &path);
    refused(&path, &["1 slice is missing between e.dcm frame 2 and e.dcm frame 3"]);
    let mut few = enhanced(&[0.0, 2.0]);
    put(&mut few, (0x0028, 0x0008), VR::IS, "5");
    save(few, &path);
    refused(&path, &["5 frames and 2 groups"]);
    let mut many = ct(0.0);
    put(&mut many, (0x0028, 0x0008), VR::IS, "2000000000");
    save(many, &path);
    refused(&path, &["2000000000 frames"]);
}

/// One frame of RLE: the high bytes and the low bytes, each as literal runs of 12.
fn rle(pixels: &[u16]) -> Vec<u8> {
    let mut bytes = vec![0u8; 64];
    bytes[..4].copy_from_slice(&2u32.to_le_bytes());
    for (segment, shift) in [(0, 8), (1, 0)] {
        let at = bytes.len() as u32;
        bytes[4 + 4 * segment..8 + 4 * segment].copy_from_slice(&at.to_le_bytes());
        bytes.push(11);
        bytes.extend(pixels.iter().map(|p| (p >> shift) as u8));
        bytes.push(0x80);
    }
    bytes
}

#[test]
fn compressed_pixels() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.dcm");
    let with = |fragments: Vec<Vec<u8>>| {
        let mut o = ct(0.0);
        let frames = PixelFragmentSequence::new(Vec::<u32>::new(), fragments);
        o.put(DataElement::new(Tag(0x7FE0, 0x0010), VR::OB, frames));
        o
    };
    let pixels: Vec<u16> = (0..12).map(|i| 300 * i).collect();
    save_as(with(vec![rle(&pixels)]), &path, "1.2.840.10008.1.2.5");
    let values = image(&path, 0, &ReadConfig::default()).unwrap().values;
    assert!(values.iter().zip(&pixels).all(|(v, p)| *v == 2.0 * f32::from(*p) - 1024.0), "{values:?}");
    save_as(with(vec![rle(&pixels)[..70].to_vec()]), &path, "1.2.840.10008.1.2.5");
    refused(&path, &["c.dcm"]);
    // A stream without its end is seen before a decoder makes up the rest.
    let mut streams = vec![("4.50", "JPEG baseline"), ("4.70", "JPEG lossless"), ("4.90", "JPEG 2000 lossless")];
    if cfg!(feature = "charls") {
        streams.push(("4.80", "JPEG-LS lossless"));
    }
    for (syntax, name) in streams {
        let syntax = format!("1.2.840.10008.1.2.{syntax}");
        save_as(with(vec![vec![0xFF, 0xD8, 1, 2, 3, 4, 5, 6]]), &path, &syntax);
        refused(&path, &["c.dcm", name, "cut short"]);
        save_as(with(vec![vec![0xFF, 0xD8, 1, 2, 3, 4, 0xFF, 0xD9]]), &path, &syntax);
        refused(&path, &["c.dcm", "cannot be decoded"]);
    }
    if cfg!(not(feature = "charls")) {
        save_as(with(vec![vec![0xFF, 0xD8, 0xFF, 0xD9]]), &path, "1.2.840.10008.1.2.4.80");
        refused(&path, &["JPEG-LS lossless (1.2.840.10008.1.2.4.80)", "--features charls"]);
    }
    save_as(with(vec![vec![0; 8]]), &path, "1.2.840.10008.1.2.4.102");
    refused(&path, &["c.dcm"]);
}

//! Slices in any order and of several series; what is no volume.

use super::*;

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
    assert_eq!(
        open_files("three", &series(dir.path()).unwrap()[0].files, &ReadConfig::default()).unwrap().id(),
        "three"
    );
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
    let all: Vec<PathBuf> =
        ["a.nii.gz", "b.nii", "s0.dcm", "s1.dcm", "s2.dcm", "s3.dcm", "s4.dcm"].map(at).to_vec();
    let found = volumes(&all).unwrap();
    assert_eq!(found, ["a.nii.gz", "b.nii", "s0.dcm", "s1.dcm"].map(at));
    let shape = |path: &Path| open_series(path, &ReadConfig::default()).unwrap().stored().shape();
    assert_eq!(
        found.iter().map(|p| shape(p)).collect::<Vec<_>>(),
        [[4, 3, 2], [4, 3, 2], [4, 3, 3], [4, 3, 2]]
    );
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
    let scouts =
        folder(&[0.0, 2.5], |i, o| put(o, (0x0020, 0x000E), VR::UI, format!("1.2.999.4711.{}", 5 + i)));
    let inside = ["s0.dcm", "s1.dcm"].map(|n| scouts.path().join(n));
    assert_eq!(volumes(&inside).unwrap(), inside);
}

#[test]
fn series_that_are_no_volume() {
    let zs = [0.0, 2.5, 5.0, 7.5, 10.0];
    let says = |dir: tempfile::TempDir, parts: &[&str]| refused(dir.path(), parts);
    says(
        folder(&[0.0, 2.5, 7.5, 10.0], |_, _| {}),
        &["1 slice is missing between s1.dcm and s2.dcm", "5.000 mm", "expected 2.500"],
    );
    says(
        folder(&[0.0, 2.5, 5.0, 12.5, 15.0], |_, _| {}),
        &["2 slices are missing between s2.dcm and s3.dcm"],
    );
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
    for (tag, name) in [
        ((0x0020, 0x0032), "ImagePosition"),
        ((0x0020, 0x0037), "ImageOrientation"),
        ((0x0028, 0x0030), "PixelSpacing"),
    ] {
        let without = |i: usize, o: &mut Object| {
            if i == 1 {
                o.remove_element(Tag(tag.0, tag.1));
            }
        };
        says(folder(&zs, without), &["s1.dcm lacks", name, "not guessed"]);
    }
    let skew =
        |_: usize, o: &mut Object| put(o, (0x0020, 0x0037), VR::DS, text(&[1.0, 0.0, 0.0, 0.5, 0.5, 0.0]));
    says(folder(&zs, skew), &["not at right angles"]);
    says(
        folder(&zs, |_, o| put(o, (0x0028, 0x0030), VR::DS, text(&[0.5, 0.0]))),
        &["pixel spacing", "positive"],
    );
    says(folder(&[], |_, _| {}), &["holds no DICOM files"]);
    // A file that is no slice is not passed over: it may be a slice that was damaged.
    let dir = folder(&zs, |_, _| {});
    std::fs::write(dir.path().join("s9.dcm"), b"torn").unwrap();
    refused(dir.path(), &["s9.dcm"]);
}

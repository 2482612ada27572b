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
    assert_eq!(series(dir.path()).unwrap().0[0].files.len(), 3);
    assert_eq!(
        open_files("three", &series(dir.path()).unwrap().0[0].files, &ReadConfig::default()).unwrap().id(),
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
    let found = volumes(&all).unwrap().paths;
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
    assert_eq!(volumes(&inside).unwrap().paths, [one.path()]);
    assert_eq!(shape(one.path()), [4, 3, 2]);
    let single = folder(&[0.0], |_, _| {});
    assert_eq!(volumes(&[single.path().join("s0.dcm")]).unwrap().paths, [single.path().join("s0.dcm")]);
    // Several files that are each a series (frames, or single slices of scouts).
    let scouts =
        folder(&[0.0, 2.5], |i, o| put(o, (0x0020, 0x000E), VR::UI, format!("1.2.999.4711.{}", 5 + i)));
    let inside = ["s0.dcm", "s1.dcm"].map(|n| scouts.path().join(n));
    assert_eq!(volumes(&inside).unwrap().paths, inside);
}

#[test]
fn series_that_are_no_volume() {
    let zs = [0.0, 2.5, 5.0, 7.5, 10.0];
    let says = |dir: tempfile::TempDir, parts: &[&str]| refused(dir.path(), parts);
    says(
        folder(&[0.0, 2.5, 7.5, 10.0], |_, _| {}),
        &[
            "1 slice is missing at 5.000 mm, between s1.dcm (at 2.500 mm along the normal) and s2.dcm (at 7.500 mm)",
            "a gap of 5.000 mm, expected 2.500",
        ],
    );
    says(
        folder(&[0.0, 2.5, 5.0, 12.5, 15.0], |_, _| {}),
        &["2 slices are missing at 7.500, 10.000 mm, between s2.dcm", "s3.dcm"],
    );
    says(
        folder(&[0.0, 2.5, 5.0, 8.1, 10.6], |_, _| {}),
        &["the distances differ, 3.100 mm between s2.dcm", "s3.dcm", "2.500 mm elsewhere"],
    );
    // 5 mm, then 10 mm: chosen so, not missing.
    says(
        folder(&[0.0, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0], |_, _| {}),
        &["variable spacing", "10.000 mm between s4.dcm (at 20.000 mm", "2 further gaps"],
    );
    says(
        folder(&[0.0, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0], |_, _| {}),
        &["variable spacing", "10.000 mm between s4.dcm (at 20.000 mm", "1 further gap differs"],
    );
    let other = |i: usize, o: &mut Object| {
        if i == 2 {
            put(o, (0x7FE0, 0x0010), VR::OW, PrimitiveValue::U16((0..12).collect()));
        }
    };
    says(folder(&[0.0, 2.5, 2.5, 5.0], other), &["s1.dcm and s2.dcm lie at the same place"]);
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
    let beside = |i: usize, o: &mut Object| {
        put(o, (0x0020, 0x0032), VR::DS, text(&[0.0, (i % 2) as f64, zs[i]]));
    };
    says(folder(&zs, beside), &["slice 1 (s1.dcm) lies 1.000 mm beside the line from s0.dcm to s4.dcm"]);
    let steep = |i: usize, o: &mut Object| {
        put(o, (0x0020, 0x0032), VR::DS, text(&[0.0, 3.0 * i as f64, zs[i]]));
    };
    says(folder(&zs, steep), &["shifted by 3.000 mm", "2.500 mm", "gantry"]);
    let two = |i: usize, o: &mut Object| {
        if i > 2 {
            put(o, (0x0020, 0x000E), VR::UI, "1.2.999.4711.3");
        }
    };
    says(folder(&zs, two), &["holds 2 series or phases", "s0.dcm (3 files, CT)", "s3.dcm (2 files, CT)"]);
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

/// A gantry that is tilted shifts each slice against the one before: the affine is sheared, the values stay.
#[test]
fn a_tilted_gantry_is_a_sheared_affine() {
    let tilted = folder(&[0.0, 2.5, 5.0], |i, o| {
        put(o, (0x0020, 0x0032), VR::DS, text(&[-10.0, 20.0 + 0.5 * i as f64, 2.5 * i as f64]));
    });
    let straight = folder(&[0.0, 2.5, 5.0], |_, _| {});
    let read = |dir: &tempfile::TempDir| volume(dir.path(), &ReadConfig::default()).unwrap();
    let (tilted, straight) = (read(&tilted), read(&straight));
    assert_eq!(tilted.values(), straight.values());
    // RAS: y falls by half a millimetre from slice to slice.
    let world = |z: f64| tilted.grid().world([z, 2.0, 3.0]);
    assert_eq!((world(0.0), world(2.0)), ([10.0, -20.0, 0.0], [10.0, -21.0, 5.0]));
}

/// Positions that are written with one or two digits: the even distance that they were rounded from.
#[test]
fn rounded_positions_are_even() {
    let rounded = |step: f64, digits: usize| {
        let dir = folder(&[0.0; 24], |i, o| {
            let z = format!("{:.digits$}", step * i as f64);
            put(o, (0x0020, 0x0032), VR::DS, format!("-10\\20\\{z}"));
        });
        let read = volume(dir.path(), &ReadConfig::default());
        read.map(|v| v.spacing()[0])
    };
    for (step, digits) in [(0.333_333, 2), (0.625, 1), (1.25, 1)] {
        let spacing = rounded(step, digits).unwrap();
        assert!((spacing - step).abs() < 10f64.powi(-(digits as i32)) / 23.0, "{spacing}");
    }
    // Whole millimetres of 1.5 mm: too coarse to tell from missing slices.
    assert!(rounded(1.5, 0).is_err());
    // Rounded to whole millimetres, a slice that is missing is still seen.
    let gap = folder(&[0.0, 1.0, 2.0, 3.0, 5.0, 6.0], |_, _| {});
    refused(gap.path(), &["1 slice is missing at 4.000 mm"]);
}

/// What lies beside a CT in folders of everyday.
#[test]
fn what_is_no_slice_is_passed_over_and_counted() {
    let class = |o: &mut Object, uid: &str| put(o, (0x0008, 0x0016), VR::UI, uid);
    let without = |o: &mut Object, tags: &[(u16, u16)]| {
        for t in tags {
            o.remove_element(Tag(t.0, t.1));
        }
    };
    let pixels = [(0x0028, 0x0010), (0x0028, 0x0011), (0x7FE0, 0x0010)];
    let dir = folder(&[0.0, 2.5, 5.0, 0.0, 0.0, 0.0, 0.0, 2.5], |i, o| match i {
        3 => {
            without(o, &pixels);
            class(o, "1.2.840.10008.5.1.4.1.1.88.67");
        }
        4 => {
            without(o, &pixels);
            class(o, "1.2.840.10008.5.1.4.1.1.481.3");
        }
        5 => {
            without(o, &[(0x0020, 0x0032), (0x0020, 0x0037)]);
            class(o, "1.2.840.10008.5.1.4.1.1.7");
            put(o, (0x0028, 0x0010), VR::US, 1u16);
        }
        6 => {
            without(o, &pixels);
            class(o, "1.3.12.2.1107.5.9.1");
        }
        // Slice 1 again, under another name.
        _ => {}
    });
    for name in ["DICOMDIR", "VERSION", "viewer.exe", "thumb.jpg"] {
        std::fs::write(dir.path().join(name), "no slice").unwrap();
    }
    let (found, passed) = series(dir.path()).unwrap();
    let names: Vec<_> = found[0].files.iter().map(|f| f.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!((found.len(), names), (1, vec!["s0.dcm", "s1.dcm", "s2.dcm"]));
    assert_eq!(
        passed.to_string(),
        "1 DICOMDIR, 1 RT structure set, 1 exact copy, 1 object without pixels, 3 other files, 1 screenshot, \
         1 structured report"
    );
    assert_eq!(volume(dir.path(), &ReadConfig::default()).unwrap().shape(), [3, 3, 4]);
    refused(&dir.path().join("s3.dcm"), &["s3.dcm", "is no image", "structured report"]);
    // A file with the name of a slice that is no DICOM file may be one that was damaged.
    std::fs::write(dir.path().join("s9.dcm"), "torn").unwrap();
    refused(dir.path(), &["s9.dcm", "is no DICOM file"]);
}

/// Two acquisitions of one series are two volumes, named by what differs.
#[test]
fn phases_of_one_series_are_volumes() {
    use crate::read::{files, volumes};
    let dir = folder(&[0.0, 0.0, 2.5, 2.5, 5.0, 5.0], |i, o| {
        put(o, (0x0020, 0x0012), VR::IS, format!("{}", 1 + i % 2));
        // Not what divides them: each slice has its own.
        put(o, (0x0018, 0x1060), VR::DS, format!("{i}"));
        if i % 2 == 1 {
            put(o, (0x7FE0, 0x0010), VR::OW, PrimitiveValue::U16((0..12).collect()));
        }
    });
    let at = |name: &str| dir.path().join(name);
    let all: Vec<PathBuf> = (0..6).map(|i| at(&format!("s{i}.dcm"))).collect();
    let found = volumes(&all).unwrap();
    assert_eq!(found.paths, [at("s0.dcm"), at("s1.dcm")]);
    assert!(found.divided[0].contains("2 volumes of one series"), "{}", found.divided[0]);
    assert!(found.divided[0].ends_with("AcquisitionNumber 1; AcquisitionNumber 2"), "{}", found.divided[0]);
    assert_eq!(files(&at("s3.dcm")).unwrap(), ["s1.dcm", "s3.dcm", "s5.dcm"].map(at));
    let e = refused(dir.path(), &["holds 2 series or phases", "s1.dcm (3 files, CT, AcquisitionNumber 2)"]);
    assert!(e.contains("AcquisitionNumber 1"), "{e}");
}

/// Files without preamble, without file meta information, and with neither.
#[test]
fn files_without_preamble() {
    let dir = folder(&[0.0, 2.5], |_, _| {});
    let expected = volume(dir.path(), &ReadConfig::default()).unwrap();
    for name in ["s0.dcm", "s1.dcm"] {
        let path = dir.path().join(name);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[132..]).unwrap();
    }
    assert_eq!(volume(dir.path(), &ReadConfig::default()).unwrap().values(), expected.values());
    for syntax in ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1"] {
        for (i, z) in [0.0, 2.5].into_iter().enumerate() {
            let path = dir.path().join(format!("s{i}.dcm"));
            save_as(ct(z), &path, syntax);
            let bytes = std::fs::read(&path).unwrap();
            // (0002,0000) says how long file meta information is.
            let length = u32::from_le_bytes(bytes[140..144].try_into().unwrap()) as usize;
            std::fs::write(&path, &bytes[144 + length..]).unwrap();
        }
        assert_eq!(volume(dir.path(), &ReadConfig::default()).unwrap().values(), expected.values());
    }
}

//! Bits, frames, compressed streams.

use super::*;
use crate::read::NotFinite;
use dicom_core::value::{DataSetSequence, PixelFragmentSequence};

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
    assert_eq!(
        windowed.windows,
        [crate::Window { center: -1012.5, width: 23.0 }, crate::Window { center: 40.0, width: 80.0 }]
    );
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
    for tag in [
        (0x0020, 0x0032),
        (0x0020, 0x0037),
        (0x0028, 0x0030),
        (0x0018, 0x0050),
        (0x0028, 0x1052),
        (0x0028, 0x1053),
    ] {
        o.remove_element(Tag(tag.0, tag.1));
    }
    let group = |sequence: (u16, u16), f: &dyn Fn(&mut Object)| {
        let mut item = Object::new_empty();
        f(&mut item);
        DataElement::new(Tag(sequence.0, sequence.1), VR::SQ, DataSetSequence::from(vec![item]))
    };
    let mut shared = Object::new_empty();
    shared.put(group((0x0028, 0x9110), &|i| put(i, (0x0028, 0x0030), VR::DS, text(&[0.5, 0.75]))));
    shared.put(group((0x0020, 0x9116), &|i| {
        put(i, (0x0020, 0x0037), VR::DS, text(&[1.0, 0.0, 0.0, 0.0, 0.0, -1.0]))
    }));
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
    refused(&path, &["1 slice is missing at 6.000 mm, between e.dcm frame 2", "e.dcm frame 3"]);
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
    let mut streams =
        vec![("4.50", "JPEG baseline"), ("4.70", "JPEG lossless"), ("4.90", "JPEG 2000 lossless")];
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

/// Padding is known in the units of the values, however its number is written; statistics leave it out.
#[test]
fn jpeg_of_twelve_bits() {
    let mut o = ct(0.0);
    put(&mut o, (0x0028, 0x0010), VR::US, 21u16);
    put(&mut o, (0x0028, 0x0011), VR::US, 27u16);
    let stream = include_bytes!("../../../../tests/data/twelve.jpg").to_vec();
    let frames = PixelFragmentSequence::new(Vec::<u32>::new(), vec![stream]);
    o.put(DataElement::new(Tag(0x7FE0, 0x0010), VR::OB, frames));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("twelve.dcm");
    save_as(o.clone(), &path, "1.2.840.10008.1.2.4.51");
    let found = volume(&path, &ReadConfig::default()).unwrap();
    // What libjpeg-turbo makes of it, 2 v - 1024; its integer transform may differ by one.
    let right = include_bytes!("../../../../tests/data/twelve.raw").as_chunks::<2>().0;
    let (found, stored) = (found.values(), found.stored().unwrap());
    let right =
        stored.to_ras(right.iter().map(|b| 2.0 * f32::from(u16::from_le_bytes(*b)) - 1024.0).collect());
    assert_eq!(found.len(), 567);
    assert!(found.iter().zip(&right).all(|(a, b)| (a - b).abs() <= 2.0));
    put(&mut o, (0x0028, 0x0100), VR::US, 8u16);
    put(&mut o, (0x0028, 0x0101), VR::US, 8u16);
    put(&mut o, (0x0028, 0x0102), VR::US, 7u16);
    save_as(o, &path, "1.2.840.10008.1.2.4.51");
    refused(&path, &["twelve.dcm", "12 bits"]);
}

#[test]
fn padding_is_known_in_the_units_of_values() {
    use crate::transform::Scale;
    use selfsup_core::data::Transform;
    let padded = |value: PrimitiveValue, limit: Option<u16>, signed: bool| {
        let dir = folder(&[0.0, 2.5], |_, o| {
            put(o, (0x0028, 0x0101), VR::US, 16u16);
            put(o, (0x0028, 0x0102), VR::US, 15u16);
            put(o, (0x0028, 0x0103), VR::US, u16::from(signed));
            put(o, (0x0028, 0x0120), VR::US, value.clone());
            if let Some(limit) = limit {
                put(o, (0x0028, 0x0121), VR::US, limit);
            }
            // -2000 in the corner, then 0, 100, ... 1000.
            let pixels: Vec<u16> = (0..12u16).map(|i| if i == 0 { 63536 } else { 100 * (i - 1) }).collect();
            put(o, (0x7FE0, 0x0010), VR::OW, PrimitiveValue::U16(pixels.into()));
        });
        crate::read::volume(dir.path(), &ReadConfig::default()).unwrap()
    };
    // Slope 2, intercept -1024.
    let low = 2.0 * -2000.0 - 1024.0;
    for value in [PrimitiveValue::from(63536u16), PrimitiveValue::from(-2000i16)] {
        assert_eq!(padded(value, None, true).padding(), Some([low, low]));
    }
    let volume = padded(PrimitiveValue::from(63536u16), Some(63540), true);
    assert_eq!(volume.padding(), Some([low, low + 8.0]));
    let all = Scale::Percentiles { low: 0.0, high: 100.0, foreground: false };
    let scaled = all.apply(volume.clone(), &mut selfsup_core::Key::new(0).rng()).unwrap();
    let measured = |v: f32| (v + 1024.0) / 2000.0;
    for (before, after) in volume.values().iter().zip(scaled.values()) {
        let expected = if *before == low { 0.0 } else { measured(*before) };
        assert!((after - expected).abs() < 1e-6, "{before}: {after}");
    }
    let high = 2.0 * 63536.0 - 1024.0;
    assert_eq!(padded(PrimitiveValue::from(63536u16), None, false).padding(), Some([high, high]));
}

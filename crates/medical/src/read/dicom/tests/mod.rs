//! DICOM files made here: what the tests have in common.

mod hostile;
mod pixels;
mod refusals;
mod series;

use super::*;
use crate::read::volume;
use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject, Tag};

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
    let meta = FileMetaTableBuilder::new()
        .transfer_syntax(syntax)
        .media_storage_sop_class_uid("1.2.840.10008.5.1.4.1.1.2");
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

//! MetaImage, the format of ITK, elastix and many challenges: one file (`.mha`) or a header and its data
//! (`.mhd` beside `.raw` or `.zraw`), raw or zlib.
//!
//! A header of lines `Key = value`, of which `ElementDataFile` is the last. Row `a` of `TransformMatrix` is the
//! direction of axis `a`, `Offset` the place of the first voxel; both in LPS, as ITK writes and reads them.
//! `AnatomicalOrientation` names where the axes come from (`RAI`: from the right, the front and below, which
//! is the identity in LPS); it decides where there is no matrix. A file without either says nothing of its
//! orientation and is refused, as are ASCII, several channels and data in many files.
//!
//! itk.org/Wiki/ITK/MetaIO/Documentation.

use super::raw::{Layout, Number, Packing, Raw, data_beside};
use super::slices::{ReadConfig, Slices, check_shape, frame_of};
use crate::grid::Stored;
use selfsup_core::{Error, Result};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// Longest header: a real one has a few hundred bytes.
const MAX_HEADER: u64 = 1 << 20;

/// Whether these first bytes are a header.
pub(super) fn is_header(head: &[u8]) -> bool {
    let key = |name: &[u8]| {
        let rest = head.strip_prefix(name).map(<[u8]>::trim_ascii_start);
        rest.is_some_and(|rest| rest.starts_with(b"="))
    };
    key(b"ObjectType") || key(b"NDims") || key(b"Comment")
}

/// The keys of a header, and where it ends.
struct Header {
    keys: BTreeMap<String, String>,
    end: u64,
}

impl Header {
    fn read(path: &Path) -> Result<Header> {
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        let mut input = BufReader::new(file.take(MAX_HEADER));
        let (mut keys, mut end) = (BTreeMap::new(), 0);
        for number in 1.. {
            let mut line = Vec::new();
            end += input.read_until(b'\n', &mut line).map_err(|e| Error::io(path, e))? as u64;
            if line.is_empty() {
                break;
            }
            let line = String::from_utf8_lossy(&line);
            if line.trim().is_empty() {
                continue;
            }
            let Some((key, value)) = line.split_once('=') else {
                return Err(Error::file(path, format!("line {number} is no `Key = value`: damaged?")));
            };
            keys.insert(key.trim().to_string(), value.trim().to_string());
            if key.trim() == "ElementDataFile" {
                return Ok(Header { keys, end });
            }
        }
        Err(Error::file(path, "its header does not end with ElementDataFile; cut short?"))
    }

    fn get(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|n| self.keys.get(*n)).map(String::as_str)
    }

    fn need(&self, path: &Path, name: &str) -> Result<&str> {
        self.get(&[name]).ok_or_else(|| Error::file(path, format!("the header lacks `{name}`")))
    }

    /// The `n` numbers of the first of `names` that is there.
    fn numbers(&self, path: &Path, names: &[&str], n: usize) -> Result<Option<Vec<f64>>> {
        let Some(text) = self.get(names) else { return Ok(None) };
        let numbers: Option<Vec<f64>> =
            text.split_whitespace().map(|v| v.parse().ok().filter(|v: &f64| v.is_finite())).collect();
        match numbers {
            Some(numbers) if numbers.len() == n => Ok(Some(numbers)),
            _ => Err(Error::file(path, format!("`{}` is `{text}`, expected {n} numbers", names[0]))),
        }
    }

    /// Whether one of `names` is True.
    fn is(&self, path: &Path, names: &[&str]) -> Result<bool> {
        match self.get(names).map(str::to_lowercase).as_deref() {
            None | Some("false" | "0" | "f") => Ok(false),
            Some("true" | "1" | "t") => Ok(true),
            Some(other) => {
                Err(Error::file(path, format!("`{}` is `{other}`, expected True or False", names[0])))
            }
        }
    }

    /// The file of the data, where it is another than that of the header.
    fn data(&self, path: &Path) -> Result<Option<PathBuf>> {
        let name = self.need(path, "ElementDataFile")?;
        let local = name.eq_ignore_ascii_case("local");
        if local { Ok(None) } else { data_beside(path, name).map(Some) }
    }

    /// The directions of the three axes of space, in LPS.
    fn directions(&self, path: &Path, axes: usize) -> Result<[[f64; 3]; 3]> {
        let names = ["TransformMatrix", "Rotation", "Orientation"];
        if let Some(matrix) = self.numbers(path, &names, axes * axes)? {
            let of = |a: usize, r: usize| matrix[a * axes + r];
            // Time may not be mixed with space.
            if axes == 4 && (0..3).any(|a| of(a, 3) != 0.0 || of(3, a) != 0.0) {
                return Err(Error::file(path, "its `TransformMatrix` turns time into space"));
            }
            return Ok([0, 1, 2].map(|a| [0, 1, 2].map(|r| of(a, r))));
        }
        let letters = self.get(&["AnatomicalOrientation"]).unwrap_or_default();
        let direction = |letter: char| {
            Some(match letter.to_ascii_uppercase() {
                'R' => [1.0, 0.0, 0.0],
                'L' => [-1.0, 0.0, 0.0],
                'A' => [0.0, 1.0, 0.0],
                'P' => [0.0, -1.0, 0.0],
                'I' => [0.0, 0.0, 1.0],
                'S' => [0.0, 0.0, -1.0],
                _ => return None,
            })
        };
        let found: Option<Vec<[f64; 3]>> = letters.chars().take(3).map(direction).collect();
        found.and_then(|found| found.try_into().ok()).ok_or_else(|| {
            Error::file(
                path,
                "lacks `TransformMatrix` and `AnatomicalOrientation`: nothing says where its axes point, and \
                 that is not guessed",
            )
        })
    }
}

fn number_of(name: &str) -> Option<Number> {
    Some(match name {
        "MET_CHAR" | "MET_ASCII_CHAR" => Number::I8,
        "MET_UCHAR" => Number::U8,
        "MET_SHORT" => Number::I16,
        "MET_USHORT" => Number::U16,
        // MetaIO's long has 4 bytes on every machine.
        "MET_INT" | "MET_LONG" => Number::I32,
        "MET_UINT" | "MET_ULONG" => Number::U32,
        "MET_LONG_LONG" => Number::I64,
        "MET_ULONG_LONG" => Number::U64,
        "MET_FLOAT" => Number::F32,
        "MET_DOUBLE" => Number::F64,
        _ => return None,
    })
}

/// The file that holds the data of a header (`.mhd`), if it is another one.
pub(super) fn data_of(path: &Path) -> Result<Option<PathBuf>> {
    Header::read(path)?.data(path)
}

/// Opens a MetaImage.
///
/// # Errors
/// If it is damaged, has no orientation or spacing, holds several volumes of which `config` names none, or
/// what is not read: channels, ASCII, many files.
pub fn open(path: &Path, config: &ReadConfig) -> Result<Box<dyn Slices>> {
    let id = path.display().to_string();
    let header = Header::read(path)?;
    if header.get(&["ObjectType"]).is_some_and(|kind| !kind.eq_ignore_ascii_case("image")) {
        return Err(Error::file(path, "is a MetaIO object that is no image, expected ObjectType = Image"));
    }
    let axes = match header.need(path, "NDims")? {
        "3" => 3,
        "4" => 4,
        other => return Err(Error::file(path, format!("has {other} axes, expected 3, or 4 with volumes"))),
    };
    let sizes = header.need(path, "DimSize")?;
    let sizes: Vec<usize> = sizes
        .split_whitespace()
        .map(|v| v.parse().ok().filter(|n| *n > 0))
        .collect::<Option<Vec<usize>>>()
        .filter(|s| s.len() == axes)
        .ok_or_else(|| Error::file(path, format!("`DimSize` is `{sizes}`, expected {axes} whole numbers")))?;
    let shape = [sizes[0], sizes[1], sizes[2]];
    check_shape(&id, shape, config)?;
    let frame = frame_of(&id, sizes.get(3).copied().unwrap_or(1), config)?;
    if header.get(&["ElementNumberOfChannels"]).is_some_and(|n| n != "1") {
        return Err(Error::file(path, "has several numbers a voxel (channels), expected one"));
    }
    let kind = header.need(path, "ElementType")?;
    let number = number_of(kind).ok_or_else(|| {
        Error::file(path, format!("its type is `{kind}`, expected whole numbers or floats (MET_SHORT ...)"))
    })?;
    if header.get(&["BinaryData"]).is_some() && !header.is(path, &["BinaryData"])? {
        return Err(Error::file(path, "its data are ASCII, expected BinaryData = True"));
    }
    let directions = header.directions(path, axes)?;
    let need = |names: &[&str]| -> Result<Vec<f64>> {
        header.numbers(path, names, axes)?.ok_or_else(|| {
            Error::file(path, format!("lacks `{}`: where its voxels lie is not guessed", names[0]))
        })
    };
    let (spacing, origin) =
        (need(&["ElementSpacing", "ElementSize"])?, need(&["Offset", "Position", "Origin"])?);
    if spacing[..3].iter().any(|s| *s <= 0.0) {
        return Err(Error::file(path, format!("its spacing is {spacing:?}, expected millimetres above 0")));
    }
    // LPS to RAS: the first two rows change their sign.
    let mut affine = [[0.0; 4], [0.0; 4], [0.0; 4], [0.0, 0.0, 0.0, 1.0]];
    for r in 0..3 {
        let sign = if r < 2 { -1.0 } else { 1.0 };
        (0..3).for_each(|a| affine[r][a] = sign * directions[a][r] * spacing[a]);
        affine[r][3] = sign * origin[r];
    }
    let stored = Stored::new(shape, affine).map_err(|e| Error::file(path, e))?;
    let packing = if header.is(path, &["CompressedData"])? { Packing::Zlib } else { Packing::None };
    let (data, start) = match header.data(path)? {
        Some(data) => (data, 0),
        None => (path.to_path_buf(), header.end),
    };
    let bytes = (shape.iter().product::<usize>() as u64).saturating_mul(number.size() as u64);
    let before = bytes.saturating_mul(frame as u64);
    let all = bytes.saturating_mul(sizes.get(3).copied().unwrap_or(1) as u64);
    let head = match header.get(&["HeaderSize"]).map(str::parse::<i64>) {
        None => 0,
        // -1: the data are the end of the file.
        Some(Ok(-1)) if packing == Packing::None => {
            let length = std::fs::metadata(&data).map_err(|e| Error::io(&data, e))?.len();
            length.saturating_sub(all).max(start) - start
        }
        Some(Ok(n @ 0..)) => n as u64,
        _ => {
            return Err(Error::file(path, "its `HeaderSize` is no number of bytes, nor -1 with raw data"));
        }
    };
    let start = start.saturating_add(head);
    // A plain file is read from the place itself; in a compressed one what lies before is read over.
    let (start, skip) =
        if packing == Packing::None { (start.saturating_add(before), 0) } else { (start, before) };
    let big_endian = header.is(path, &["BinaryDataByteOrderMSB", "ElementByteOrderMSB"])?;
    let layout = Layout { number, big_endian, slope: 1.0, inter: 0.0, skip, packing, start };
    Ok(Box::new(Raw::open(id, &data, stored, layout, config)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::volume;
    use flate2::{Compression, write::ZlibEncoder};
    use std::io::Write;

    const HEAD: &str = "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n\
                        CompressedData = False\nTransformMatrix = 0 1 0 -1 0 0 0 0 1\nOffset = 10 20 30\n\
                        CenterOfRotation = 0 0 0\nAnatomicalOrientation = ARI\nElementSpacing = 1 2 3\n\
                        DimSize = 2 3 2\nElementType = MET_SHORT\nElementDataFile = LOCAL\n";

    fn bytes() -> Vec<u8> {
        (0..12i16).flat_map(|v| (v - 5).to_le_bytes()).collect()
    }

    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut packed = ZlibEncoder::new(Vec::new(), Compression::default());
        packed.write_all(bytes).unwrap();
        packed.finish().unwrap()
    }

    fn stored(head: &str, data: &[u8]) -> Result<(Stored, Vec<f32>)> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.mha");
        std::fs::write(&path, [head.as_bytes(), data].concat()).unwrap();
        let mut slices = open(&path, &ReadConfig::default())?;
        let mut values = vec![0.0; slices.stored().shape().iter().product()];
        slices.next(&mut values)?;
        Ok((slices.stored().clone(), values))
    }

    #[test]
    fn directions_are_rows_and_the_world_is_lps() {
        let (found, values) = stored(HEAD, &bytes()).unwrap();
        assert_eq!(values, (-5..7).map(|v| v as f32).collect::<Vec<_>>());
        // Axis i runs along P in steps of 1 mm, j along R (-L) in steps of 2, k along S in steps of 3.
        assert_eq!(
            found.affine()[..3],
            [[0.0, 2.0, 0.0, -10.0], [-1.0, 0.0, 0.0, -20.0], [0.0, 0.0, 3.0, 30.0]]
        );
        // Without a matrix the letters decide: from the front, the left and below.
        let letters = HEAD.replace("TransformMatrix = 0 1 0 -1 0 0 0 0 1\n", "").replace("ARI", "ALI");
        assert_eq!(stored(&letters, &bytes()).unwrap().0.affine(), found.affine());
        assert_eq!(found.letters(), "PRS");
    }

    #[test]
    fn all_packings_and_orders_hold_the_same() {
        let right = stored(HEAD, &bytes()).unwrap();
        let packed = HEAD.replace("CompressedData = False", "CompressedData = True\nCompressedDataSize = 30");
        assert_eq!(stored(&packed, &zlib(&bytes())).unwrap(), right);
        let big: Vec<u8> = (0..12i16).flat_map(|v| (v - 5).to_be_bytes()).collect();
        assert_eq!(stored(&HEAD.replace("MSB = False", "MSB = True"), &big).unwrap(), right);
        let order = HEAD.replace("BinaryDataByteOrderMSB = False", "ElementByteOrderMSB = True");
        assert_eq!(stored(&order, &big).unwrap(), right);
        let floats: Vec<u8> = (0..12).flat_map(|v| f64::from(v - 5).to_le_bytes()).collect();
        assert_eq!(stored(&HEAD.replace("MET_SHORT", "MET_DOUBLE"), &floats).unwrap(), right);
        let ints: Vec<u8> = (0..12i32).flat_map(|v| (v - 5).to_le_bytes()).collect();
        for kind in ["MET_INT", "MET_LONG"] {
            assert_eq!(stored(&HEAD.replace("MET_SHORT", kind), &ints).unwrap(), right);
        }
        // Data beside the header, behind bytes that are passed over.
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.mhd");
        for (size, before) in [("HeaderSize = 7\n", 7), ("HeaderSize = -1\n", 9), ("", 0)] {
            std::fs::write(
                &path,
                HEAD.replace("ElementDataFile = LOCAL", &format!("{size}ElementDataFile = a.raw")),
            )
            .unwrap();
            std::fs::write(dir.path().join("a.raw"), [vec![1; before], bytes()].concat()).unwrap();
            let found = volume(&path, &ReadConfig::default()).unwrap();
            assert_eq!(found.values(), right.0.to_ras(right.1.clone()), "{size}");
        }
        // Both are what a volume depends on.
        assert_eq!(crate::read::files(&path).unwrap(), [path, dir.path().join("a.raw")]);
    }

    #[test]
    fn one_volume_of_several() {
        let head = HEAD
            .replace("NDims = 3", "NDims = 4")
            .replace("0 1 0 -1 0 0 0 0 1", "0 1 0 0 -1 0 0 0 0 0 1 0 0 0 0 1")
            .replace("10 20 30", "10 20 30 0")
            .replace("1 2 3", "1 2 3 1")
            .replace("2 3 2", "2 3 1 2");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.mha");
        for packed in [false, true] {
            let (head, data) = match packed {
                true => (head.replace("CompressedData = False", "CompressedData = True"), zlib(&bytes())),
                false => (head.clone(), bytes()),
            };
            std::fs::write(&path, [head.as_bytes(), &data].concat()).unwrap();
            let error = volume(&path, &ReadConfig::default()).unwrap_err().to_string();
            assert!(error.contains("volumes.read.frame = 0"), "{error}");
            let of = |frame| ReadConfig { frame: Some(frame), ..ReadConfig::default() };
            let second = volume(&path, &of(1)).unwrap();
            let mut values = second.values().to_vec();
            values.sort_by(f32::total_cmp);
            assert_eq!(values, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "{packed}");
            assert!(volume(&path, &of(2)).unwrap_err().to_string().contains("below 2"));
        }
    }

    #[test]
    fn what_is_missing_or_not_read_is_named() {
        let says = |from: &str, to: &str, part: &str| {
            let error = stored(&HEAD.replace(from, to), &bytes()).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("a.mha"), "{error}");
        };
        says("Offset = 10 20 30\n", "", "lacks `Offset`");
        says("ElementSpacing = 1 2 3\n", "", "lacks `ElementSpacing`");
        says("ElementSpacing = 1 2 3", "ElementSpacing = 1 0 3", "above 0");
        says("DimSize = 2 3 2", "DimSize = 2 3", "expected 3 whole numbers");
        says("DimSize = 2 3 2", "DimSize = 2 3 4000", "cut short?");
        says("DimSize = 2 3 2", "DimSize = 9000 9000 9000", "max_voxels");
        says("MET_SHORT", "MET_SHORT_ARRAY", "MET_SHORT_ARRAY");
        says("BinaryData = True", "BinaryData = False", "ASCII");
        says("LOCAL", "LIST", "many files");
        says("LOCAL", "../a.raw", "beside the header");
        says("Image", "Tube", "no image");
        says("NDims = 3", "NDims = 2", "2 axes");
        says("ElementType", "ElementNumberOfChannels = 3\nElementType", "channels");
        says("0 1 0 -1 0 0 0 0 1", "0 0 0 0 0 0 0 0 0", "spacing");
        says("ElementDataFile = LOCAL\n", "", "ElementDataFile");
        let bare = HEAD.replace("TransformMatrix = 0 1 0 -1 0 0 0 0 1\nOffset", "Offset");
        let error = stored(&bare.replace("ARI", "???"), &bytes()).unwrap_err().to_string();
        assert!(error.contains("not guessed"), "{error}");
        let packed = HEAD.replace("CompressedData = False", "CompressedData = True");
        let error = stored(&packed, &zlib(&bytes())[..8]).unwrap_err().to_string();
        assert!(error.contains("damaged") || error.contains("cut short"), "{error}");
    }
}

//! NRRD: one file (`.nrrd`) or a header and its data (`.nhdr`), raw, gzip or bzip2.
//!
//! A header of lines, an empty line, then the data; `space` names the world's axes, `space directions` and
//! `space origin` are the affine. A file without them says nothing of its orientation and is refused, as are
//! ASCII, vectors, blocks and data in many files.
//!
//! teem.sourceforge.net/nrrd/format.html.

use super::raw::{Layout, Number, Packing, Raw, data_beside};
use super::slices::{ReadConfig, Slices, check_shape};
use crate::grid::Stored;
use selfsup_core::{Error, Result};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// Longest header: a real one has a few hundred bytes, key-value pairs a few thousand.
const MAX_HEADER: u64 = 1 << 20;

/// The fields of a header, and where the data begin.
struct Header {
    fields: BTreeMap<String, String>,
    end: u64,
}

impl Header {
    fn read(path: &Path) -> Result<Header> {
        let file = selfsup_core::file::open(path)?;
        let mut input = BufReader::new(file.take(MAX_HEADER));
        let mut fields = BTreeMap::new();
        let mut end = 0;
        for number in 1.. {
            let mut line = Vec::new();
            let n = input.read_until(b'\n', &mut line).map_err(|e| Error::io(path, e))?;
            end += n as u64;
            if n == 0 {
                if end >= MAX_HEADER {
                    return Err(Error::file(path, "the header is longer than 1 MiB: damaged?"));
                }
                break;
            }
            // Key-value pairs may hold anything; fields are ASCII.
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\r', '\n']);
            if number == 1 {
                if !(line.starts_with("NRRD000") && line.len() == 8) {
                    return Err(Error::file(path, "line 1 is not NRRD0001 to NRRD0005"));
                }
            } else if line.is_empty() {
                break;
            } else if line.starts_with('#') {
                continue;
            } else if let Some((field, value)) = line.split_once(':') {
                // `key:=value` is a note of the user's.
                if value.starts_with('=') {
                    continue;
                }
                fields.insert(field.trim().to_lowercase(), value.trim().to_string());
            } else {
                return Err(Error::file(path, format!("line {number} is no `field: value`")));
            }
        }
        Ok(Header { fields, end })
    }

    fn get(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|n| self.fields.get(*n)).map(String::as_str)
    }

    /// The file of the data, where it is another than that of the header.
    fn data(&self, path: &Path) -> Result<Option<PathBuf>> {
        self.get(&["data file", "datafile"]).map(|name| data_beside(path, name)).transpose()
    }

    fn need(&self, path: &Path, name: &str) -> Result<&str> {
        self.get(&[name]).ok_or_else(|| Error::file(path, format!("the header lacks `{name}`")))
    }
}

fn number_of(name: &str) -> Option<Number> {
    Some(match name.to_lowercase().as_str() {
        "signed char" | "int8" | "int8_t" => Number::I8,
        "uchar" | "unsigned char" | "uint8" | "uint8_t" => Number::U8,
        "short" | "short int" | "signed short" | "signed short int" | "int16" | "int16_t" => Number::I16,
        "ushort" | "unsigned short" | "unsigned short int" | "uint16" | "uint16_t" => Number::U16,
        "int" | "signed int" | "int32" | "int32_t" => Number::I32,
        "uint" | "unsigned int" | "uint32" | "uint32_t" => Number::U32,
        "longlong"
        | "long long"
        | "long long int"
        | "signed long long"
        | "signed long long int"
        | "int64"
        | "int64_t" => Number::I64,
        "ulonglong" | "unsigned long long" | "unsigned long long int" | "uint64" | "uint64_t" => Number::U64,
        "float" => Number::F32,
        "double" => Number::F64,
        _ => return None,
    })
}

/// `(1,0,0) none (0,1,0)` as vectors.
fn vectors(path: &Path, field: &str, text: &str) -> Result<Vec<Option<[f64; 3]>>> {
    let bad = || Error::file(path, format!("`{field}` is `{text}`, expected vectors such as (1,0,0)"));
    let mut found = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("none") {
            found.push(None);
            rest = after.trim_start();
            continue;
        }
        let (inside, after) = rest.strip_prefix('(').and_then(|r| r.split_once(')')).ok_or_else(bad)?;
        let numbers: Vec<f64> =
            inside.split(',').map(|v| v.trim().parse()).collect::<Result<_, _>>().map_err(|_| bad())?;
        found.push(Some(numbers.try_into().map_err(|_| bad())?));
        rest = after.trim_start();
    }
    Ok(found)
}

/// The signs that turn the world of `space` to RAS+.
fn signs(path: &Path, space: &str) -> Result<[f64; 3]> {
    Ok(match space.to_lowercase().as_str() {
        "right-anterior-superior" | "ras" => [1.0, 1.0, 1.0],
        "left-anterior-superior" | "las" => [-1.0, 1.0, 1.0],
        "left-posterior-superior" | "lps" => [-1.0, -1.0, 1.0],
        _ => {
            return Err(Error::file(
                path,
                format!("its space is `{space}`, expected RAS, LAS or LPS: the patient's axes"),
            ));
        }
    })
}

/// The file that holds the data of a header (`.nhdr`), if it is another one.
pub(super) fn data_of(path: &Path) -> Result<Option<PathBuf>> {
    Header::read(path)?.data(path)
}

/// Opens an NRRD file or header.
///
/// # Errors
/// If it is damaged, has no orientation or zero spacing, or holds what is not read: vectors, ASCII, many
/// files.
pub fn open(path: &Path, config: &ReadConfig) -> Result<Box<dyn Slices>> {
    let id = path.display().to_string();
    let header = Header::read(path)?;
    let sizes = header.need(path, "sizes")?;
    let sizes: Vec<usize> = sizes
        .split_whitespace()
        .map(str::parse)
        .collect::<Result<_, _>>()
        .map_err(|_| Error::file(path, format!("`sizes` is `{sizes}`, expected whole numbers")))?;
    let dimension = header.need(path, "dimension")?;
    if dimension.parse() != Ok(sizes.len()) {
        return Err(Error::file(
            path,
            format!("`dimension` is {dimension} and `sizes` has {} numbers", sizes.len()),
        ));
    }
    let type_name = header.need(path, "type")?;
    let number = number_of(type_name).ok_or_else(|| {
        Error::file(path, format!("its type is `{type_name}`, expected whole numbers or floats"))
    })?;
    let missing =
        |what: &str| format!("lacks `{what}`: nothing says where its axes point, and that is not guessed");
    let space = header.get(&["space"]).ok_or_else(|| Error::file(path, missing("space")))?;
    let signs = signs(path, space)?;
    let directions =
        header.get(&["space directions"]).ok_or_else(|| Error::file(path, missing("space directions")))?;
    let directions = vectors(path, "space directions", directions)?;
    let origin = header.get(&["space origin"]).ok_or_else(|| Error::file(path, missing("space origin")))?;
    let [Some(origin)] = vectors(path, "space origin", origin)?[..] else {
        return Err(Error::file(path, "`space origin` is not one vector"));
    };
    if let Some(units) =
        header.get(&["space units"]).filter(|u| u.split_whitespace().any(|u| u.trim_matches('"') != "mm"))
    {
        return Err(Error::file(path, format!("its space units are {units}, expected mm")));
    }
    if directions.len() != sizes.len() {
        return Err(Error::file(
            path,
            format!("`space directions` has {} entries for {} axes", directions.len(), sizes.len()),
        ));
    }
    // Axes without a direction (of vectors, or time) are read over only where they are of length 1.
    let axes: Vec<(usize, [f64; 3])> =
        sizes.iter().zip(&directions).filter_map(|(n, d)| d.map(|d| (*n, d))).collect();
    let others: Vec<usize> =
        sizes.iter().zip(&directions).filter(|(_, d)| d.is_none()).map(|(n, _)| *n).collect();
    if others.iter().any(|n| *n != 1) || axes.len() != 3 {
        return Err(Error::file(
            path,
            format!(
                "has sizes {sizes:?} of which {} are axes of space, expected a 3-D volume: vectors or 4-D?",
                axes.len()
            ),
        ));
    }
    let shape = [axes[0].0, axes[1].0, axes[2].0];
    check_shape(&id, shape, config)?;
    let mut affine = [[0.0; 4], [0.0; 4], [0.0; 4], [0.0, 0.0, 0.0, 1.0]];
    for r in 0..3 {
        (0..3).for_each(|a| affine[r][a] = signs[r] * axes[a].1[r]);
        affine[r][3] = signs[r] * origin[r];
    }
    let stored = Stored::new(shape, affine).map_err(|e| Error::file(path, e))?;
    let encoding = header.need(path, "encoding")?;
    let packing = match encoding.to_lowercase().as_str() {
        "raw" => Packing::None,
        "gz" | "gzip" => Packing::Gzip,
        "bz2" | "bzip2" => Packing::Bzip2,
        _ => {
            return Err(Error::file(
                path,
                format!("its encoding is `{encoding}`, expected raw, gzip or bzip2"),
            ));
        }
    };
    let big_endian = match header.get(&["endian"]).map(str::to_lowercase).as_deref() {
        Some("little") => false,
        Some("big") => true,
        None if number.size() == 1 => false,
        other => {
            return Err(Error::file(
                path,
                format!("`endian` is {}, expected little or big", other.unwrap_or("missing")),
            ));
        }
    };
    let (data, start) = match header.data(path)? {
        Some(data) => (data, 0),
        None => (path.to_path_buf(), header.end),
    };
    if header.get(&["line skip", "lineskip"]).is_some_and(|v| v != "0") {
        return Err(Error::file(path, "`line skip` is not read, expected `byte skip`"));
    }
    let skip: i64 = match header.get(&["byte skip", "byteskip"]) {
        Some(text) => text
            .parse()
            .map_err(|_| Error::file(path, format!("`byte skip` is `{text}`, expected a whole number")))?,
        None => 0,
    };
    let bytes = (shape.iter().product::<usize>() * number.size()) as u64;
    let (start, skip) = match (skip, packing != Packing::None) {
        // -1: the data are the end of the file.
        (-1, false) => (
            std::fs::metadata(&data).map_err(|e| Error::io(&data, e))?.len().saturating_sub(bytes).max(start),
            0,
        ),
        (0.., false) => (start.saturating_add(skip as u64), 0),
        (0.., true) => (start, skip as u64),
        _ => {
            return Err(Error::file(
                path,
                format!("`byte skip` is {skip}, expected 0 or more, or -1 with raw data"),
            ));
        }
    };
    let layout = Layout { number, big_endian, slope: 1.0, inter: 0.0, skip, packing, start };
    Ok(Box::new(Raw::open(id, &data, stored, layout, config)?))
}

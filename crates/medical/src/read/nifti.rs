//! NIfTI-1 and NIfTI-2: `.nii`, `.nii.gz`, and pairs of `.hdr` and `.img`.
//!
//! The affine is the sform if its code is above 0, else the qform if its code is (the standard's method 3,
//! then 2); a file with neither says nothing of its orientation and is refused. Values are `scl_slope * v +
//! scl_inter` where the slope is not 0. One volume is read: the further axes must have length 1, or `frame`
//! says which.
//!
//! Cox et al. 2004, "A (sort of) new image data format standard: NIfTI-1"; nifti.nimh.nih.gov.

use super::raw::{Layout, Number, Packing, Raw, damaged};
use super::slices::{ReadConfig, Slices, check_shape, frame_of};
use crate::grid::{Affine, Stored, norm};
use flate2::read::MultiGzDecoder;
use selfsup_core::{Error, Result};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Whether these first bytes are a header of NIfTI, in either byte order.
pub(crate) fn is_header(head: &[u8]) -> bool {
    head.len() >= 4 && version(head).is_some()
}

/// The version (1 or 2), and whether numbers are big-endian.
fn version(head: &[u8]) -> Option<(u8, bool)> {
    let size: [u8; 4] = head.get(..4)?.try_into().ok()?;
    match (u32::from_le_bytes(size), u32::from_be_bytes(size)) {
        (348, _) => Some((1, false)),
        (540, _) => Some((2, false)),
        (_, 348) => Some((1, true)),
        (_, 540) => Some((2, true)),
        _ => None,
    }
}

/// Numbers of the header by place.
struct Fields<'a> {
    bytes: &'a [u8],
    big: bool,
}

impl Fields<'_> {
    fn at<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut b: [u8; N] = self.bytes.get(at..at + N).and_then(|b| b.try_into().ok()).unwrap_or([0; N]);
        if self.big {
            b.reverse();
        }
        b
    }
    fn i16(&self, at: usize) -> i64 {
        i16::from_le_bytes(self.at(at)).into()
    }
    fn i32(&self, at: usize) -> i64 {
        i32::from_le_bytes(self.at(at)).into()
    }
    fn i64(&self, at: usize) -> i64 {
        i64::from_le_bytes(self.at(at))
    }
    fn f32(&self, at: usize) -> f64 {
        f32::from_le_bytes(self.at(at)).into()
    }
    fn f64(&self, at: usize) -> f64 {
        f64::from_le_bytes(self.at(at))
    }
}

/// What the two versions say alike.
struct Header {
    dim: [i64; 8],
    datatype: i64,
    pixdim: [f64; 8],
    offset: f64,
    slope: f64,
    inter: f64,
    qform: i64,
    sform: i64,
    quatern: [f64; 3],
    qoffset: [f64; 3],
    srow: [[f64; 4]; 3],
    units: u8,
    magic: [u8; 4],
}

impl Header {
    fn parse(bytes: &[u8], version: u8, big: bool) -> Header {
        let f = Fields { bytes, big };
        let units = |at: usize| bytes.get(at).copied().unwrap_or(0) & 7;
        let magic = |at: usize| bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).unwrap_or([0; 4]);
        if version == 1 {
            Header {
                dim: std::array::from_fn(|i| f.i16(40 + 2 * i)),
                datatype: f.i16(70),
                pixdim: std::array::from_fn(|i| f.f32(76 + 4 * i)),
                offset: f.f32(108),
                slope: f.f32(112),
                inter: f.f32(116),
                qform: f.i16(252),
                sform: f.i16(254),
                quatern: std::array::from_fn(|i| f.f32(256 + 4 * i)),
                qoffset: std::array::from_fn(|i| f.f32(268 + 4 * i)),
                srow: std::array::from_fn(|r| std::array::from_fn(|c| f.f32(280 + 16 * r + 4 * c))),
                units: units(123),
                magic: magic(344),
            }
        } else {
            let order = |at: usize| if big { bytes.get(at + 3).copied() } else { bytes.get(at).copied() };
            Header {
                dim: std::array::from_fn(|i| f.i64(16 + 8 * i)),
                datatype: f.i16(12),
                pixdim: std::array::from_fn(|i| f.f64(104 + 8 * i)),
                offset: f.i64(168) as f64,
                slope: f.f64(176),
                inter: f.f64(184),
                qform: f.i32(344),
                sform: f.i32(348),
                quatern: std::array::from_fn(|i| f.f64(352 + 8 * i)),
                qoffset: std::array::from_fn(|i| f.f64(376 + 8 * i)),
                srow: std::array::from_fn(|r| std::array::from_fn(|c| f.f64(400 + 32 * r + 8 * c))),
                units: order(500).unwrap_or(0) & 7,
                magic: magic(4),
            }
        }
    }

    /// `(i, j, k)` and the number of volumes.
    fn shape(&self, path: &Path) -> Result<([usize; 3], usize)> {
        let axes = self.dim[0];
        if !(1..=7).contains(&axes) {
            return Err(Error::file(path, format!("announces {axes} axes, expected 1 to 7: damaged?")));
        }
        let mut lengths = [1usize; 7];
        for (i, length) in lengths.iter_mut().enumerate().take(axes as usize) {
            *length = usize::try_from(self.dim[i + 1]).ok().filter(|n| *n > 0).ok_or_else(|| {
                Error::file(
                    path,
                    format!("axis {} has {} voxels, expected at least 1", i + 1, self.dim[i + 1]),
                )
            })?;
        }
        let volumes = lengths[3..].iter().try_fold(1usize, |n, l| n.checked_mul(*l));
        let volumes = volumes
            .ok_or_else(|| Error::file(path, "announces more volumes than can be counted: damaged?"))?;
        Ok(([lengths[0], lengths[1], lengths[2]], volumes))
    }

    fn number(&self, path: &Path) -> Result<Number> {
        Ok(match self.datatype {
            2 => Number::U8,
            4 => Number::I16,
            8 => Number::I32,
            16 => Number::F32,
            64 => Number::F64,
            256 => Number::I8,
            512 => Number::U16,
            768 => Number::U32,
            1024 => Number::I64,
            1280 => Number::U64,
            other => {
                let name = match other {
                    1 => "single bits",
                    32 | 1792 | 2048 => "complex numbers",
                    128 | 2304 => "colours",
                    1536 => "128-bit floats",
                    _ => "of an unknown kind",
                };
                return Err(Error::file(
                    path,
                    format!("its voxels are {name} (datatype {other}), expected one number a voxel"),
                ));
            }
        })
    }

    fn affine(&self, path: &Path) -> Result<Affine> {
        for (i, axis) in ["i", "j", "k"].iter().enumerate().take(self.dim[0].clamp(1, 3) as usize) {
            let d = self.pixdim[i + 1];
            if !d.is_finite() || d == 0.0 {
                return Err(Error::file(
                    path,
                    format!("has zero spacing: pixdim along {axis} is {d}, expected millimetres"),
                ));
            }
        }
        let mut affine = [[0.0; 4], [0.0; 4], [0.0; 4], [0.0, 0.0, 0.0, 1.0]];
        if self.sform > 0 {
            affine[..3].copy_from_slice(&self.srow);
        } else if self.qform > 0 {
            let [b, c, d] = self.quatern;
            let rest = 1.0 - (b * b + c * c + d * d);
            if rest.is_nan() || rest < -1e-3 {
                return Err(Error::file(
                    path,
                    format!("its qform is no rotation: quaternion ({b}, {c}, {d}) is longer than 1"),
                ));
            }
            let a = rest.max(0.0).sqrt();
            let turn = [
                [a * a + b * b - c * c - d * d, 2.0 * (b * c - a * d), 2.0 * (b * d + a * c)],
                [2.0 * (b * c + a * d), a * a + c * c - b * b - d * d, 2.0 * (c * d - a * b)],
                [2.0 * (b * d - a * c), 2.0 * (c * d + a * b), a * a + d * d - b * b - c * c],
            ];
            // pixdim[0] is the handedness of the third axis.
            let third = if self.pixdim[0] < 0.0 { -1.0 } else { 1.0 };
            let steps = [self.pixdim[1].abs(), self.pixdim[2].abs(), self.pixdim[3].abs() * third];
            for r in 0..3 {
                (0..3).for_each(|k| affine[r][k] = turn[r][k] * steps[k]);
                affine[r][3] = self.qoffset[r];
            }
        } else {
            return Err(Error::file(
                path,
                "has neither sform nor qform: nothing says where its axes point, and that is not guessed",
            ));
        }
        // Metres and micrometres; 2 is millimetres, and 0 is what writers put who mean them.
        let unit = match self.units {
            1 => 1000.0,
            3 => 0.001,
            _ => 1.0,
        };
        affine.iter_mut().take(3).flatten().for_each(|v| *v *= unit);
        if let Some(axis) = (0..3).find(|&a| norm([affine[0][a], affine[1][a], affine[2][a]]) == 0.0) {
            return Err(Error::file(
                path,
                format!("has zero spacing: the affine of axis {} is zero", ["i", "j", "k"][axis]),
            ));
        }
        Ok(affine)
    }
}

/// The file of the voxels of a `.hdr`.
pub(super) fn image_beside(path: &Path) -> Result<PathBuf> {
    let text = path.to_string_lossy();
    let stem = text.strip_suffix(".gz").unwrap_or(&text);
    let stem = stem.strip_suffix(".hdr").unwrap_or(stem);
    let found = [format!("{stem}.img"), format!("{stem}.img.gz")]
        .into_iter()
        .map(PathBuf::from)
        .find(|p| p.is_file());
    found.ok_or_else(|| {
        Error::file(path, format!("is a header whose voxels lie in another file: expected {stem}.img"))
    })
}

/// Whether a file is compressed by gzip.
fn is_gzip(path: &Path) -> Result<bool> {
    Ok(selfsup_core::file::head(path, 2)? == [0x1f, 0x8b])
}

/// Opens a NIfTI file.
///
/// # Errors
/// If it is no NIfTI file or damaged, has no orientation, zero spacing, colours, or several volumes of which
/// `config` names none.
pub fn open(path: &Path, config: &ReadConfig) -> Result<Box<dyn Slices>> {
    let id = path.display().to_string();
    let gzip = is_gzip(path)?;
    let file = selfsup_core::file::open(path)?;
    let mut head = Vec::new();
    let mut input: Box<dyn Read> = if gzip { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    input.by_ref().take(544).read_to_end(&mut head).map_err(|e| damaged(&id, e))?;
    let (version, big) = version(&head)
        .ok_or_else(|| Error::file(path, "is no NIfTI file: its header has another size than 348 or 540"))?;
    let length = if version == 1 { 348 } else { 540 };
    if head.len() < length {
        return Err(Error::file(
            path,
            format!("ends within its header, {} of {length} bytes; cut short?", head.len()),
        ));
    }
    let header = Header::parse(&head, version, big);
    let single = match &header.magic {
        b"n+1\0" | b"n+2\0" => true,
        b"ni1\0" | b"ni2\0" => false,
        _ if version == 1 => {
            return Err(Error::file(
                path,
                "is Analyze 7.5, which has no orientation; expected NIfTI (magic n+1 or ni1)",
            ));
        }
        _ => return Err(Error::file(path, "has no magic of NIfTI, expected n+2 or ni2: damaged?")),
    };
    let (shape, volumes) = header.shape(path)?;
    check_shape(&id, shape, config)?;
    let frame = frame_of(&id, volumes, config)?;
    let number = header.number(path)?;
    let stored = Stored::new(shape, header.affine(path)?).map_err(|e| Error::file(path, e))?;
    let (slope, inter) = if header.slope == 0.0 || !header.slope.is_finite() {
        (1.0, 0.0)
    } else {
        (header.slope, header.inter)
    };
    if !inter.is_finite() {
        return Err(Error::file(path, format!("scl_inter is {inter}, expected a finite number")));
    }
    let offset = header.offset;
    if !offset.is_finite() || offset < 0.0 || (single && offset < length as f64) || offset > u32::MAX as f64 {
        return Err(Error::file(
            path,
            format!("its voxels begin at byte {offset}, expected one behind the header"),
        ));
    }
    let data = if single { path.to_path_buf() } else { image_beside(path)? };
    let gzip = if single { gzip } else { is_gzip(&data)? };
    let voxels = shape.iter().product::<usize>() as u64;
    let skip = (offset as u64)
        .saturating_add(voxels.saturating_mul(number.size() as u64).saturating_mul(frame as u64));
    // A plain file is read from the place itself; in a compressed one what lies before is read over.
    let (start, skip) = if gzip { (0, skip) } else { (skip, 0) };
    let packing = if gzip { Packing::Gzip } else { Packing::None };
    let layout = Layout { number, big_endian: big, slope, inter, skip, packing, start };
    Ok(Box::new(Raw::open(id, &data, stored, layout, config)?))
}

//! What is read of a DICOM file before its pixels: size, kind of pixels, geometry, scale. Nothing that tells
//! of a patient.

use dicom_object::{DefaultDicomObject, InMemDicomObject, OpenFileOptions, Tag};
use selfsup_core::{Error, Result};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

const MODALITY: Tag = Tag(0x0008, 0x0060);
const SLICE_THICKNESS: Tag = Tag(0x0018, 0x0050);
const SPACING_BETWEEN_SLICES: Tag = Tag(0x0018, 0x0088);
const IMAGER_PIXEL_SPACING: Tag = Tag(0x0018, 0x1164);
const SERIES_INSTANCE_UID: Tag = Tag(0x0020, 0x000E);
const IMAGE_POSITION: Tag = Tag(0x0020, 0x0032);
const IMAGE_ORIENTATION: Tag = Tag(0x0020, 0x0037);
const PLANE_POSITION_SEQUENCE: Tag = Tag(0x0020, 0x9113);
const PLANE_ORIENTATION_SEQUENCE: Tag = Tag(0x0020, 0x9116);
const SAMPLES_PER_PIXEL: Tag = Tag(0x0028, 0x0002);
const PHOTOMETRIC: Tag = Tag(0x0028, 0x0004);
const NUMBER_OF_FRAMES: Tag = Tag(0x0028, 0x0008);
const ROWS: Tag = Tag(0x0028, 0x0010);
const COLUMNS: Tag = Tag(0x0028, 0x0011);
const PIXEL_SPACING: Tag = Tag(0x0028, 0x0030);
const BITS_ALLOCATED: Tag = Tag(0x0028, 0x0100);
const BITS_STORED: Tag = Tag(0x0028, 0x0101);
const HIGH_BIT: Tag = Tag(0x0028, 0x0102);
const PIXEL_REPRESENTATION: Tag = Tag(0x0028, 0x0103);
const WINDOW_CENTER: Tag = Tag(0x0028, 0x1050);
const PIXEL_PADDING_VALUE: Tag = Tag(0x0028, 0x0120);
const PIXEL_PADDING_LIMIT: Tag = Tag(0x0028, 0x0121);
const WINDOW_WIDTH: Tag = Tag(0x0028, 0x1051);
const RESCALE_INTERCEPT: Tag = Tag(0x0028, 0x1052);
const RESCALE_SLOPE: Tag = Tag(0x0028, 0x1053);
const RESCALE_TYPE: Tag = Tag(0x0028, 0x1054);
const MODALITY_LUT_SEQUENCE: Tag = Tag(0x0028, 0x3000);
const PIXEL_MEASURES_SEQUENCE: Tag = Tag(0x0028, 0x9110);
const VOI_LUT_SEQUENCE: Tag = Tag(0x0028, 0x9132);
const PIXEL_VALUE_SEQUENCE: Tag = Tag(0x0028, 0x9145);
const SHARED_GROUPS: Tag = Tag(0x5200, 0x9229);
const FRAME_GROUPS: Tag = Tag(0x5200, 0x9230);
pub(super) const PIXEL_DATA: Tag = Tag(0x7FE0, 0x0010);

/// Where a frame lies, in the patient's LPS millimetres, and its scale.
#[derive(Clone, Debug)]
pub(super) struct Plane {
    /// Of the centre of the first pixel.
    pub(super) position: Option<[f64; 3]>,
    /// Directions of a row (along increasing columns) and of a column.
    pub(super) orientation: Option<[f64; 6]>,
    /// Distance of rows, distance of columns.
    pub(super) spacing: Option<[f64; 2]>,
    /// Slope and intercept.
    pub(super) scale: (f64, f64),
    /// Of the slice, where it is stated.
    pub(super) thickness: Option<f64>,
}

/// A file without its pixels.
pub(super) struct Header {
    pub(super) path: PathBuf,
    /// A hash of what tells series apart: an identifier, which must not be shown.
    pub(super) series: u64,
    pub(super) modality: String,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) samples: usize,
    pub(super) photometric: String,
    pub(super) bits_allocated: u32,
    pub(super) bits_stored: u32,
    pub(super) high_bit: u32,
    pub(super) signed: bool,
    /// MONOCHROME1 without a unit: brighter must become more.
    pub(super) inverted: bool,
    /// First and last stored number that stand for "not measured", as their bits.
    padding: Option<(i32, i32)>,
    /// Centre and width of the file's own windows.
    pub(super) windows: Vec<(f64, f64)>,
    /// The spacing of a projection's detector, where there is no other.
    pub(super) detector_spacing: Option<[f64; 2]>,
    /// One a frame.
    pub(super) planes: Vec<Plane>,
}

/// Reads a file, up to the pixels or with them. What the library says of values is not passed on: they may be
/// a patient's.
pub(super) fn open(path: &Path, with_pixels: bool) -> Result<DefaultDicomObject> {
    let mut options = OpenFileOptions::new();
    if !with_pixels {
        options = options.read_until(PIXEL_DATA);
    }
    let read = catch_unwind(AssertUnwindSafe(|| options.open_file(path)));
    let problem = match read {
        Ok(Ok(object)) => return Ok(object),
        Ok(Err(e)) => match e {
            dicom_object::ReadError::OpenFile { .. } => "cannot be opened",
            dicom_object::ReadError::ReadFile { .. } | dicom_object::ReadError::PrematureEnd { .. } => {
                "ends early; cut short?"
            }
            dicom_object::ReadError::ParseMetaDataSet { .. } => {
                "has no file meta information that can be read; is it DICOM, or cut short?"
            }
            dicom_object::ReadError::ReadUnrecognizedTransferSyntax { .. } => {
                "has a transfer syntax that is unknown"
            }
            dicom_object::ReadError::ReadUnsupportedTransferSyntax { .. }
            | dicom_object::ReadError::ReadUnsupportedTransferSyntaxWithSuggestion { .. } => {
                "has a transfer syntax that is not read"
            }
            _ => "holds a data set that cannot be read; damaged or cut short?",
        },
        Err(_) => "holds a data set that the reader cannot cope with; damaged?",
    };
    Err(Error::file(path, problem))
}

fn numbers(object: &InMemDicomObject, tag: Tag) -> Option<Vec<f64>> {
    let values = object.element_opt(tag).ok()??.to_multi_float64().ok()?;
    (!values.is_empty() && values.iter().all(|v| v.is_finite())).then_some(values)
}

fn array<const N: usize>(object: &InMemDicomObject, tag: Tag) -> Option<[f64; N]> {
    numbers(object, tag)?.try_into().ok()
}

fn number(object: &InMemDicomObject, tag: Tag) -> Option<f64> {
    numbers(object, tag)?.first().copied()
}

fn text(object: &InMemDicomObject, tag: Tag) -> Option<String> {
    let text = object.element_opt(tag).ok()??.to_str().ok()?.trim_matches(['\0', ' ']).to_string();
    (!text.is_empty()).then_some(text)
}

fn first_item(object: &InMemDicomObject, tag: Tag) -> Option<&InMemDicomObject> {
    object.element_opt(tag).ok()??.items()?.first()
}

impl Header {
    pub(super) fn read(path: &Path) -> Result<Header> {
        let object = open(path, false)?;
        let lacks =
            |tag: Tag, name: &str| Error::file(path, format!("lacks {name} {tag}, or it cannot be read"));
        let whole = |tag: Tag, name: &str| {
            let value = object.element_opt(tag).ok().flatten().and_then(|e| e.to_int::<u32>().ok());
            value.ok_or_else(|| lacks(tag, name))
        };
        let (rows, columns) = (whole(ROWS, "Rows")? as usize, whole(COLUMNS, "Columns")? as usize);
        let bits_allocated = whole(BITS_ALLOCATED, "BitsAllocated")?;
        let bits_stored = whole(BITS_STORED, "BitsStored").unwrap_or(bits_allocated);
        let high_bit = whole(HIGH_BIT, "HighBit").unwrap_or(bits_stored.saturating_sub(1));
        let frames = if object.element_opt(NUMBER_OF_FRAMES).ok().flatten().is_some() {
            whole(NUMBER_OF_FRAMES, "NumberOfFrames")?.max(1) as usize
        } else {
            1
        };
        if rows == 0 || columns == 0 {
            return Err(Error::file(
                path,
                format!("has {rows} rows and {columns} columns, expected at least one of each"),
            ));
        }
        if !(bits_stored >= 1
            && bits_stored <= bits_allocated
            && high_bit < bits_allocated
            && high_bit + 1 >= bits_stored)
        {
            return Err(Error::file(
                path,
                format!("stores {bits_stored} bits up to bit {high_bit} of {bits_allocated}: damaged?"),
            ));
        }
        if object.element_opt(MODALITY_LUT_SEQUENCE).ok().flatten().is_some() {
            return Err(Error::file(
                path,
                format!(
                    "has a modality LUT {MODALITY_LUT_SEQUENCE}, which is not read, expected a rescale slope"
                ),
            ));
        }
        // A file of 100,000 frames has 100,000 groups: what the header announces is not believed beyond them.
        let groups: &[InMemDicomObject] =
            object.element_opt(FRAME_GROUPS).ok().flatten().and_then(|e| e.items()).unwrap_or(&[]);
        if !groups.is_empty() && groups.len() != frames {
            return Err(Error::file(
                path,
                format!("has {frames} frames and {} groups of frames {FRAME_GROUPS}", groups.len()),
            ));
        }
        if groups.is_empty() && frames > 1 << 20 {
            return Err(Error::file(path, format!("announces {frames} frames: damaged?")));
        }
        let shared = first_item(&object, SHARED_GROUPS);
        let planes =
            (0..frames).map(|f| plane(path, &object, shared, groups.get(f))).collect::<Result<Vec<_>>>()?;
        let modality = text(&object, MODALITY).unwrap_or_default();
        let modality = if modality.len() <= 16 && modality.chars().all(|c| c.is_ascii_alphanumeric()) {
            modality
        } else {
            String::new()
        };
        let photometric =
            text(&object, PHOTOMETRIC).ok_or_else(|| lacks(PHOTOMETRIC, "PhotometricInterpretation"))?;
        let unit = text(&object, RESCALE_TYPE).is_some_and(|t| t != "US")
            || ["CT", "PT"].contains(&modality.as_str());
        let mut hasher = DefaultHasher::new();
        text(&object, SERIES_INSTANCE_UID).hash(&mut hasher);
        let voi = shared.and_then(|s| first_item(s, VOI_LUT_SEQUENCE)).unwrap_or(&object);
        let windows = numbers(voi, WINDOW_CENTER)
            .unwrap_or_default()
            .into_iter()
            .zip(numbers(voi, WINDOW_WIDTH).unwrap_or_default());
        Ok(Header {
            path: path.to_path_buf(),
            series: hasher.finish(),
            rows,
            columns,
            samples: whole(SAMPLES_PER_PIXEL, "SamplesPerPixel").unwrap_or(1) as usize,
            inverted: photometric == "MONOCHROME1" && !unit,
            photometric,
            modality,
            bits_allocated,
            bits_stored,
            high_bit,
            signed: whole(PIXEL_REPRESENTATION, "PixelRepresentation").unwrap_or(0) == 1,
            padding: number(&object, PIXEL_PADDING_VALUE).map(|first| {
                // Written with a sign or without it: the bits count.
                let first = first as i64 as i32;
                (first, number(&object, PIXEL_PADDING_LIMIT).map_or(first, |last| last as i64 as i32))
            }),
            windows: windows.collect(),
            detector_spacing: array(&object, IMAGER_PIXEL_SPACING),
            planes,
        })
    }

    /// The name of its file, for messages about a series.
    pub(super) fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Refuses what is not one number a pixel of 8, 16 or 32 bits.
    pub(super) fn check_grey(&self) -> Result<()> {
        if self.samples != 1 || !["MONOCHROME1", "MONOCHROME2"].contains(&self.photometric.as_str()) {
            let kind: String = self
                .photometric
                .chars()
                .filter(|c| c.is_ascii_alphanumeric() || [' ', '_'].contains(c))
                .take(16)
                .collect();
            return Err(Error::file(
                &self.path,
                format!(
                    "is a colour image ({} samples a pixel, {kind}), expected grey: one sample, MONOCHROME1 or MONOCHROME2",
                    self.samples
                ),
            ));
        }
        if ![8, 16, 32].contains(&self.bits_allocated) {
            return Err(Error::file(
                &self.path,
                format!("has {} bits a pixel, expected 8, 16 or 32", self.bits_allocated),
            ));
        }
        Ok(())
    }

    /// Smallest and largest stored value.
    pub(super) fn range(&self) -> (f64, f64) {
        let n = 2f64.powi(self.bits_stored as i32);
        if self.signed { (-n / 2.0, n / 2.0 - 1.0) } else { (0.0, n - 1.0) }
    }

    /// From the bits of a pixel to its value, with the scale of its plane.
    pub(super) fn decode(&self, scale: (f64, f64)) -> Decode {
        let (low, high) = self.range();
        let (slope, inter) = if self.inverted { (-scale.0, scale.0 * (low + high) + scale.1) } else { scale };
        Decode {
            shift: self.high_bit + 1 - self.bits_stored,
            above: 32 - self.bits_stored,
            signed: self.signed,
            slope,
            inter,
        }
    }

    /// Lowest and highest value, with this scale, of pixels that were not measured.
    pub(super) fn padding(&self, scale: (f64, f64)) -> Option<[f32; 2]> {
        let decode = self.decode(scale);
        let (one, other) = self.padding?;
        let (a, b) = (decode.value(one as u32), decode.value(other as u32));
        Some([a.min(b), a.max(b)])
    }

    /// Whether every value with this scale is whole and within 16 bits with a sign.
    pub(super) fn fits_i16(&self, (slope, inter): (f64, f64)) -> bool {
        let (low, high) = self.range();
        let inside = |v: f64| (-32768.0..=32767.0).contains(&(slope * v + inter));
        slope.fract() == 0.0 && inter.fract() == 0.0 && inside(low) && inside(high)
    }
}

/// From the bits of a pixel to its value.
pub(super) struct Decode {
    shift: u32,
    above: u32,
    signed: bool,
    slope: f64,
    inter: f64,
}

impl Decode {
    /// Bits above and below the stored ones (old overlays) are cut off; the sign is that of the highest
    /// stored bit.
    pub(super) fn value(&self, bits: u32) -> f32 {
        let raw = bits >> self.shift << self.above;
        let v = if self.signed { f64::from(raw as i32 >> self.above) } else { f64::from(raw >> self.above) };
        (self.slope * v + self.inter) as f32
    }
}

/// The plane of one frame: of its own group, else of the group that all share, else of the file itself.
fn plane(
    path: &Path,
    object: &InMemDicomObject,
    shared: Option<&InMemDicomObject>,
    own: Option<&InMemDicomObject>,
) -> Result<Plane> {
    let of = |sequence: Tag| {
        own.and_then(|g| first_item(g, sequence))
            .or_else(|| shared.and_then(|g| first_item(g, sequence)))
            .unwrap_or(object)
    };
    let (measures, values) = (of(PIXEL_MEASURES_SEQUENCE), of(PIXEL_VALUE_SEQUENCE));
    let scale =
        (number(values, RESCALE_SLOPE).unwrap_or(1.0), number(values, RESCALE_INTERCEPT).unwrap_or(0.0));
    if scale.0 == 0.0 {
        return Err(Error::file(
            path,
            format!("its rescale slope {RESCALE_SLOPE} is 0, expected another number"),
        ));
    }
    let positive = |tag| number(measures, tag).map(f64::abs).filter(|v| *v > 0.0);
    Ok(Plane {
        position: array(of(PLANE_POSITION_SEQUENCE), IMAGE_POSITION),
        orientation: array(of(PLANE_ORIENTATION_SEQUENCE), IMAGE_ORIENTATION),
        spacing: array(measures, PIXEL_SPACING),
        scale,
        thickness: positive(SPACING_BETWEEN_SLICES).or_else(|| positive(SLICE_THICKNESS)),
    })
}

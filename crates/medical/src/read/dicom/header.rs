//! What is read of a DICOM file before its pixels: size, kind of pixels, geometry, scale. Nothing that tells
//! of a patient.

use super::attributes::Phase;
use super::others;
use super::parse::{self, Place};
use super::streams;
use super::tags::*;
use super::values::{array, first_item, number, numbers, text};
use dicom_core::Tag;
use dicom_object::InMemDicomObject;
use selfsup_core::{Error, Result};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

/// Where a frame lies, in the patient's LPS millimetres, and its scale.
#[derive(Clone, Debug)]
pub(super) struct Plane {
    /// Of the centre of the first pixel.
    pub(super) position: Option<[f64; 3]>,
    /// Digits after the point that the position is given with.
    pub(super) digits: i32,
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
    /// Whether it is a secondary capture: a screenshot, unless it says where it lies.
    captured: bool,
    /// What tells acquisitions and phases apart that share a series.
    pub(super) phase: Phase,
    /// Where the pixels lie.
    place: Option<Place>,
    /// The UID of the transfer syntax.
    syntax: String,
    /// Bytes of the file, inflated if it is deflated.
    length: u64,
}

/// What a DICOM file is.
pub(super) enum Found {
    /// An image, without its pixels.
    Slice(Box<Header>),
    /// None: a report, a plan ...
    Other(&'static str),
}

impl Header {
    pub(super) fn read(path: &Path) -> Result<Header> {
        match Header::find(path)? {
            Found::Slice(header) => Ok(*header),
            Found::Other(what) => {
                Err(Error::file(path, format!("is no image but of another kind ({what}), expected an image")))
            }
        }
    }

    /// Reads a file that may be no image.
    pub(super) fn find(path: &Path) -> Result<Found> {
        let parse::Parsed { object, syntax, place, input } = parse::parse(path)?;
        let class = text(&object, SOP_CLASS).unwrap_or_default();
        if let Some(what) = others::kind_of(&class) {
            return Ok(Found::Other(what));
        }
        let has = |tag| object.element_opt(tag).ok().flatten().is_some();
        // Classes of makers; one of the standard's images that lacks them is damaged.
        let standard = class.starts_with("1.2.840.10008.5.1.4.1.1.");
        if !standard && place.is_none() && !has(ROWS) && !has(COLUMNS) && has(SOP_CLASS) {
            return Ok(Found::Other("object without pixels"));
        }
        Ok(Found::Slice(Box::new(Header::of(path, &object, syntax, place, input.length())?)))
    }

    /// Whether it is a picture of a screen or of paper, which has no place in the patient.
    pub(super) fn is_screenshot(&self) -> bool {
        self.captured && self.planes.iter().all(|p| p.position.is_none())
    }

    fn of(
        path: &Path,
        object: &InMemDicomObject,
        syntax: String,
        place: Option<Place>,
        length: u64,
    ) -> Result<Header> {
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
        if frames as u64 > length {
            return Err(Error::file(path, format!("announces {frames} frames: damaged?")));
        }
        let shared = first_item(object, SHARED_GROUPS);
        let planes =
            (0..frames).map(|f| plane(path, object, shared, groups.get(f))).collect::<Result<Vec<_>>>()?;
        let modality = text(object, MODALITY).unwrap_or_default();
        let modality = if modality.len() <= 16 && modality.chars().all(|c| c.is_ascii_alphanumeric()) {
            modality
        } else {
            String::new()
        };
        let photometric =
            text(object, PHOTOMETRIC).ok_or_else(|| lacks(PHOTOMETRIC, "PhotometricInterpretation"))?;
        let unit = text(object, RESCALE_TYPE).is_some_and(|t| t != "US")
            || ["CT", "PT"].contains(&modality.as_str());
        let mut hasher = DefaultHasher::new();
        text(object, SERIES_INSTANCE_UID).hash(&mut hasher);
        let voi = shared.and_then(|s| first_item(s, VOI_LUT_SEQUENCE)).unwrap_or(object);
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
            padding: number(object, PIXEL_PADDING_VALUE).map(|first| {
                // Written with a sign or without it: the bits count.
                let first = first as i64 as i32;
                (first, number(object, PIXEL_PADDING_LIMIT).map_or(first, |last| last as i64 as i32))
            }),
            windows: windows.collect(),
            detector_spacing: array(object, IMAGER_PIXEL_SPACING),
            planes,
            captured: text(object, SOP_CLASS).is_some_and(|c| others::is_secondary_capture(&c)),
            phase: Phase::of(object),
            place,
            syntax,
            length,
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

    /// Refuses pixels that cannot be there, before memory is asked for them.
    pub(super) fn check_there(&self) -> Result<()> {
        let Some(place) = self.place else {
            return Err(Error::file(&self.path, format!("has no pixels {PIXEL_DATA}; cut short?")));
        };
        let bytes = |n: usize| (n as u64).saturating_mul(u64::from(self.bits_allocated / 8));
        let pixels = self.rows.saturating_mul(self.columns);
        let left = self.length.saturating_sub(place.start);
        if let Some(length) = place.length {
            let (there, expected) = (length.min(left), bytes(pixels.saturating_mul(self.planes.len())));
            if there < expected {
                let problem =
                    format!("has {there} bytes of pixels, expected {expected} for its frames; cut short?");
                return Err(Error::file(&self.path, problem));
            }
            if length > left {
                let problem = format!("announces {length} bytes of pixels, and {left} are there; cut short?");
                return Err(Error::file(&self.path, problem));
            }
            return Ok(());
        }
        let (all, most) =
            (pixels.saturating_mul(self.planes.len()) as u64, streams::most_pixels(&self.syntax, left));
        if all > most {
            let problem = format!(
                "announces {} x {} pixels, {} times, in {left} compressed bytes, which hold at most {most}; damaged?",
                self.rows,
                self.columns,
                self.planes.len()
            );
            return Err(Error::file(&self.path, problem));
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
    let places = of(PLANE_POSITION_SEQUENCE);
    let positive = |tag| number(measures, tag).map(f64::abs).filter(|v| *v > 0.0);
    Ok(Plane {
        position: array(places, IMAGE_POSITION),
        digits: digits(places),
        orientation: array(of(PLANE_ORIENTATION_SEQUENCE), IMAGE_ORIENTATION),
        spacing: array(measures, PIXEL_SPACING),
        scale,
        thickness: positive(SPACING_BETWEEN_SLICES).or_else(|| positive(SLICE_THICKNESS)),
    })
}

/// Digits after the point of a position; many for one that is written as a power of ten.
fn digits(object: &InMemDicomObject) -> i32 {
    const MANY: i32 = 9;
    let Some(position) = text(object, IMAGE_POSITION) else { return MANY };
    let of = |part: &str| match part.trim() {
        part if part.contains(['e', 'E']) => MANY,
        part => part.split_once('.').map_or(0, |(_, after)| after.len() as i32),
    };
    position.split('\\').map(of).max().unwrap_or(MANY)
}

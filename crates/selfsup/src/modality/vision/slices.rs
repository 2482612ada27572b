//! `[volumes] slices`: slices of volumes, and radiographs, as grey pictures for the encoders and methods of
//! images.
//!
//! A picture has 8 bits: what a window or two percentiles of the volume leave, as on a screen. The slices of
//! one volume are one group, so that a split never divides them, and a label of the volume is one of each
//! slice.

use crate::modality::medical::volumes::{Cut, VolumeConfig, path_of};
use crate::set::Set;
use selfsup_core::{Error, Result};
use selfsup_datasets::{Layout, Record, Records, Source, Split};
use selfsup_medical::Window;
use selfsup_medical::blocks::{Scan, Store};
use selfsup_medical::image::{Plane, slice};
use selfsup_medical::read::{ReadConfig, dicom};
use selfsup_medical::transform::{Pipeline, Scale};
use std::path::PathBuf;
use std::sync::Arc;

/// Where pictures come from.
enum Whole {
    /// A volume that is cut.
    Volume(Arc<dyn Scan>),
    /// A DICOM file whose frames are taken as they are.
    File(PathBuf),
    /// What cannot be read, and why: one picture that cannot be read either.
    Bad(String),
}

/// Pictures of volumes.
pub struct Pictures {
    set: Set,
    wholes: Vec<Whole>,
    names: Vec<String>,
    /// Which record of `set`, and which slice or frame of it.
    places: Vec<(usize, usize)>,
    cut: Cut,
    scale: Option<Scale>,
    read: ReadConfig,
    /// Blocks that go with it are there as long as the pictures are.
    _store: Arc<Store>,
}

fn plane(cut: Cut) -> Option<Plane> {
    match cut {
        Cut::Axial => Some(Plane::Axial),
        Cut::Coronal => Some(Plane::Coronal),
        Cut::Sagittal => Some(Plane::Sagittal),
        Cut::Stored => None,
    }
}

impl Pictures {
    /// The pictures of `what`, cut as `config` says.
    ///
    /// # Errors
    /// If a volume cannot be read, no slice is left, or a key cannot be carried out.
    pub fn open(what: &str, config: &VolumeConfig, layout: Layout, store: &Arc<Store>) -> Result<Self> {
        let cut = config.slices.ok_or_else(|| {
            Error::config("volumes.slices is missing: expected axial, coronal, sagittal or stored")
        })?;
        if let Some(Scale::None | Scale::ZScore { .. }) = config.scale {
            return Err(Error::config("volumes.scale: grey values need a window or percentiles"));
        }
        let [low, high] = config.keep.unwrap_or([0.0, 1.0]);
        if !(0.0 <= low && low < high && high <= 1.0) {
            return Err(Error::config(format!(
                "volumes.keep = [{low}, {high}]: expected two shares of the axis, the smaller first"
            )));
        }
        let set = if cut == Cut::Stored { config.files(what, layout)? } else { config.open(what, layout)? };
        let scale = config.scale.unwrap_or_default();
        scale.check()?;
        let prepare = Pipeline::new(vec![Box::new(scale)]);
        let how = serde_json::to_string(&scale).map_err(|e| Error::config(format!("volumes.scale: {e}")))?;
        let (mut wholes, mut names, mut places) = (Vec::new(), Vec::new(), Vec::new());
        for i in 0..set.len() {
            let path = path_of(&set, i)?;
            names.push(path.display().to_string());
            let found = match plane(cut) {
                None => dicom::frames(&path).map(|n| (Whole::File(path), 0..n)),
                Some(plane) => config.scan(&path, (&prepare, &how), &scale, None, store).map(|scan| {
                    let n = scan.grid().shape()[plane.axis()];
                    let at = |share: f64| (share * n as f64).round() as usize;
                    (Whole::Volume(scan), at(low)..at(high).min(n))
                }),
            };
            let (whole, numbers) = match found {
                Ok(found) => found,
                Err(e @ Error::Config(_)) => return Err(e),
                // Whether it may be skipped is for whoever reads the pictures to say.
                Err(e) => {
                    let why = e.to_string();
                    let name = format!("{}: ", names[i]);
                    (Whole::Bad(why.strip_prefix(&name).unwrap_or(&why).to_string()), 0..1)
                }
            };
            places.extend(numbers.map(|k| (i, k)));
            wholes.push(whole);
        }
        if wholes.iter().all(|w| matches!(w, Whole::Bad(_)))
            && let (Some(Whole::Bad(why)), Some(name)) = (wholes.first(), names.first())
        {
            return Err(Error::input(name, why));
        }
        if places.is_empty() {
            return Err(Error::config(format!(
                "volumes.keep = [{low}, {high}]: no slice of {} volumes is left",
                set.len()
            )));
        }
        let (scale, read, _store) = (config.scale, config.read.clone(), store.clone());
        Ok(Pictures { set, wholes, names, places, cut, scale, read, _store })
    }

    fn place(&self, index: usize) -> Result<(usize, usize)> {
        let missing = || {
            Error::input(
                "slices",
                format!("there is no picture {index}, expected one below {}", self.places.len()),
            )
        };
        self.places.get(index).copied().ok_or_else(missing)
    }

    /// Rows, columns and grey values.
    fn grey(&self, whole: usize, number: usize) -> Result<([usize; 2], Vec<u8>)> {
        let window = |w: Scale| {
            if let Scale::Window { low, high } = w { Some(Window::of_range(&[low, high])) } else { None }
        };
        match (&self.wholes[whole], plane(self.cut)) {
            (Whole::Volume(scan), Some(plane)) => {
                let image = slice(&**scan, plane, number)?;
                // Scaled to [0, 1].
                Ok((
                    image.shape,
                    image.values.iter().map(|v| (v.clamp(0.0, 1.0) * 255.0).round() as u8).collect(),
                ))
            }
            (Whole::File(path), _) => {
                let image = dicom::image(path, number, &self.read)?;
                let grey = match self.scale {
                    None => image.to_u8(None),
                    Some(Scale::Percentiles { low, high, .. }) => {
                        image.to_u8(Some(Window::of_percentiles(&image.values, low, high)))
                    }
                    Some(scale) => image.to_u8(window(scale)),
                };
                Ok((image.shape, grey))
            }
            (Whole::Bad(why), _) => Err(Error::input(&self.names[whole], why)),
            (Whole::Volume(_), None) => Err(Error::input("slices", "a volume without a plane")),
        }
    }
}

impl Records for Pictures {
    fn len(&self) -> usize {
        self.places.len()
    }

    fn get(&self, index: usize) -> Result<Record> {
        let (whole, number) = self.place(index)?;
        let ([height, width], data) = self.grey(whole, number)?;
        let source =
            Source::Pixels { width: width as u32, height: height as u32, channels: 1, data: Arc::from(data) };
        Ok(Record { id: self.id(index)?, source, label: self.label(index), group: self.group(index) })
    }

    fn id(&self, index: usize) -> Result<String> {
        let (whole, number) = self.place(index)?;
        let what = match self.cut {
            Cut::Axial => "axial",
            Cut::Coronal => "coronal",
            Cut::Sagittal => "sagittal",
            Cut::Stored => "frame",
        };
        Ok(format!("{} {what} {number}", self.names[whole]))
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.set.records().label(self.places.get(index)?.0)
    }

    fn group(&self, index: usize) -> Option<String> {
        let whole = self.places.get(index)?.0;
        // Files by themselves are whole pictures: nothing has to stay together unless they say so.
        let alone = self.cut == Cut::Stored;
        self.set.records().group(whole).or_else(|| if alone { None } else { self.names.get(whole).cloned() })
    }

    fn whole(&self, index: usize) -> Option<String> {
        self.names.get(self.places.get(index)?.0).cloned()
    }

    fn split(&self, index: usize) -> Option<Split> {
        self.set.records().split(self.places.get(index)?.0)
    }

    fn notes(&self) -> Vec<String> {
        self.set.records().notes()
    }

    fn classes(&self) -> &[String] {
        self.set.classes()
    }
}

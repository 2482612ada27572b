//! Two-dimensional pictures for encoders of images: radiographs, and slices of volumes.
//!
//! A slice is turned as it is looked at: the head or the front is on top. Columns follow the grid, so the
//! patient's left is on the left of axial and coronal slices (the neurological way), and the back is on the
//! left of sagittal ones.

use crate::blocks::Scan;
use crate::window::Window;
use selfsup_core::data::Dataset;
use selfsup_core::{Error, Result};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;

/// A grey picture of `(H, W)` values; brighter is more.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// Its name in messages: a path, and for a slice its number.
    pub id: String,
    /// Rows, columns.
    pub shape: [usize; 2],
    /// `(H, W)`, in the units of the volume or of the modality.
    pub values: Vec<f32>,
    /// `(H, W)` classes, where the volume has labels.
    pub labels: Option<Vec<u16>>,
    /// Distance of rows and columns in mm: of the patient, else of the detector, else unknown.
    pub spacing: Option<[f64; 2]>,
    /// The windows that a DICOM file recommends.
    pub windows: Vec<Window>,
}

impl Image {
    /// The values as 8 bits: through `window`, else the file's first window, else from the least to the
    /// greatest value.
    pub fn to_u8(&self, window: Option<Window>) -> Vec<u8> {
        let window = window
            .or_else(|| self.windows.first().copied())
            .unwrap_or_else(|| Window::of_range(&self.values));
        window.to_u8(&self.values)
    }
}

/// Which way a volume is cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Plane {
    /// Across z, seen with the front on top.
    #[default]
    Axial,
    /// Across y, seen with the head on top.
    Coronal,
    /// Across x, seen with the head on top.
    Sagittal,
}

impl Plane {
    /// The axis of (z, y, x) that it lies across.
    pub fn axis(self) -> usize {
        match self {
            Plane::Axial => 0,
            Plane::Coronal => 1,
            Plane::Sagittal => 2,
        }
    }

    /// The axes of (z, y, x) that rows and columns run along.
    fn rows_and_columns(self) -> [usize; 2] {
        match self {
            Plane::Axial => [1, 2],
            Plane::Coronal => [0, 2],
            Plane::Sagittal => [0, 1],
        }
    }
}

/// Slice `index` of a volume, turned as it is looked at.
///
/// # Errors
/// If there is no such slice, or it cannot be read.
pub fn slice(scan: &dyn Scan, plane: Plane, index: usize) -> Result<Image> {
    let shape = scan.grid().shape();
    let axis = plane.axis();
    if index >= shape[axis] {
        return Err(Error::input(
            scan.id(),
            format!("has no {plane:?} slice {index}, expected one below {}", shape[axis]),
        ));
    }
    let (mut start, mut part) = ([0isize; 3], shape);
    (start[axis], part[axis]) = (index as isize, 1);
    let slab = scan.part(start, part, 0.0)?;
    let [rows, columns] = plane.rows_and_columns().map(|a| shape[a]);
    let spacing = slab.spacing();
    let (_, values, labels) = slab.into_parts();
    // Both axes grow upwards in the grid and downwards in a picture.
    let turned = |from: Vec<f32>| from.chunks_exact(columns).rev().flatten().copied().collect();
    Ok(Image {
        id: format!("{} {plane:?} {index}", scan.id()),
        shape: [rows, columns],
        values: turned(values),
        labels: labels.map(|l| l.chunks_exact(columns).rev().flatten().copied().collect()),
        spacing: Some(plane.rows_and_columns().map(|a| spacing[a])),
        windows: Vec::new(),
    })
}

/// Puts a picture's labels back where [`slice`](fn@slice) took the picture from: `(H, W)` into the `(D, H,
/// W)` labels of the volume.
///
/// # Errors
/// If the numbers of labels do not fit the volume's shape.
pub fn put_back(
    labels: &[u16],
    volume: &mut [u16],
    shape: [usize; 3],
    plane: Plane,
    index: usize,
) -> Result<()> {
    let [r, c] = plane.rows_and_columns();
    let strides = [shape[1] * shape[2], shape[2], 1];
    if labels.len() != shape[r] * shape[c]
        || volume.len() != shape.iter().product::<usize>()
        || index >= shape[plane.axis()]
    {
        let problem =
            format!("{} labels do not fit {plane:?} slice {index} of {shape:?} voxels", labels.len());
        return Err(Error::input("slice", problem));
    }
    for (row, labels) in labels.chunks_exact(shape[c]).rev().enumerate() {
        for (column, label) in labels.iter().enumerate() {
            volume[index * strides[plane.axis()] + row * strides[r] + column * strides[c]] = *label;
        }
    }
    Ok(())
}

/// The slices of volumes as a data set of pictures.
pub struct SliceImages {
    scans: Vec<Arc<dyn Scan>>,
    plane: Plane,
    /// For each volume: the number of its first slice here, and which slice of the volume that is.
    starts: Vec<(usize, usize)>,
    len: usize,
}

impl SliceImages {
    /// Every slice whose place along the axis lies in `keep`, a part of 0..1: the ends of a scan are often
    /// empty.
    ///
    /// # Errors
    /// If nothing is kept.
    pub fn new(scans: Vec<Arc<dyn Scan>>, plane: Plane, keep: Range<f64>) -> Result<Self> {
        let mut starts = Vec::with_capacity(scans.len());
        let mut len = 0;
        for scan in &scans {
            let n = scan.grid().shape()[plane.axis()];
            let at = |share: f64| ((share.clamp(0.0, 1.0) * n as f64).round() as usize).min(n);
            let (low, high) = (at(keep.start), at(keep.end));
            starts.push((len, low));
            len += high.saturating_sub(low);
        }
        if len == 0 {
            return Err(Error::config(format!(
                "no slice of {} volumes lies in {keep:?} of their axis",
                scans.len()
            )));
        }
        Ok(SliceImages { scans, plane, starts, len })
    }

    /// The volume and the slice of picture `index`: what must stay together in a split is the volume.
    pub fn place(&self, index: usize) -> Option<(usize, usize)> {
        if index >= self.len {
            return None;
        }
        let scan = self.starts.partition_point(|(start, _)| *start <= index).checked_sub(1)?;
        let (start, low) = self.starts[scan];
        Some((scan, low + index - start))
    }
}

impl Dataset for SliceImages {
    type Item = Image;

    fn len(&self) -> usize {
        self.len
    }

    fn get(&self, index: usize) -> Result<Image> {
        let missing =
            || Error::input("slices", format!("there is no slice {index}, expected one below {}", self.len));
        let (scan, number) = self.place(index).ok_or_else(missing)?;
        slice(&*self.scans[scan], self.plane, number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::Grid;
    use crate::volume::Volume;

    fn scan() -> Volume {
        let grid = Grid::with_spacing([2, 3, 4], [5.0, 2.0, 1.0]).unwrap();
        let volume = Volume::new("v", grid, (0..24).map(|v| v as f32).collect()).unwrap();
        volume.with_labels((0..24).collect()).unwrap()
    }

    #[test]
    fn the_front_and_the_head_are_on_top() {
        let v = scan();
        let axial = slice(&v, Plane::Axial, 1).unwrap();
        assert_eq!((axial.shape, axial.spacing), ([3, 4], Some([2.0, 1.0])));
        assert_eq!(axial.values, [20.0, 21.0, 22.0, 23.0, 16.0, 17.0, 18.0, 19.0, 12.0, 13.0, 14.0, 15.0]);
        let coronal = slice(&v, Plane::Coronal, 2).unwrap();
        assert_eq!(
            (coronal.values.as_slice(), coronal.spacing),
            (&[20.0, 21.0, 22.0, 23.0, 8.0, 9.0, 10.0, 11.0][..], Some([5.0, 1.0]))
        );
        let sagittal = slice(&v, Plane::Sagittal, 0).unwrap();
        assert_eq!(
            (sagittal.values.as_slice(), sagittal.shape),
            (&[12.0, 16.0, 20.0, 0.0, 4.0, 8.0][..], [2, 3])
        );
        assert_eq!(sagittal.to_u8(None)[..3], [(255.0f32 * 12.0 / 20.0).round() as u8, 204, 255]);
        assert!(slice(&v, Plane::Axial, 2).unwrap_err().to_string().contains("below 2"));
    }

    #[test]
    fn labels_go_back_where_they_came_from() {
        let v = scan();
        for plane in [Plane::Axial, Plane::Coronal, Plane::Sagittal] {
            let mut back = vec![99; 24];
            for i in 0..v.shape()[plane.axis()] {
                let image = slice(&v, plane, i).unwrap();
                put_back(image.labels.as_deref().unwrap(), &mut back, v.shape(), plane, i).unwrap();
            }
            assert_eq!(back, v.labels().unwrap());
        }
        assert!(put_back(&[1], &mut [0; 24], [2, 3, 4], Plane::Axial, 0).is_err());
    }

    #[test]
    fn the_data_set_knows_the_volume() {
        let set =
            SliceImages::new(vec![Arc::new(scan()), Arc::new(scan())], Plane::Sagittal, 0.25..0.75).unwrap();
        assert_eq!(set.len(), 4);
        assert_eq!(
            (0..5).map(|i| set.place(i)).collect::<Vec<_>>(),
            [Some((0, 1)), Some((0, 2)), Some((1, 1)), Some((1, 2)), None]
        );
        assert_eq!(set.get(2).unwrap().values[0], 13.0);
        assert!(set.get(4).is_err());
        assert!(SliceImages::new(vec![Arc::new(scan())], Plane::Axial, 0.9..0.1).is_err());
    }
}

//! A volume in memory: values, and labels if there are any, on a grid of RAS+.

use crate::grid::{Grid, Stored, show};
use selfsup_core::{Error, Result};

/// Values of `(D, H, W) = (z, y, x)` voxels of a RAS+ grid, with a label for each if there are any.
///
/// Labels are classes, 0 the background. The grid moves with the voxels: who crops or resamples gives a new
/// one.
#[derive(Clone, Debug, PartialEq)]
pub struct Volume {
    id: String,
    grid: Grid,
    stored: Option<Stored>,
    values: Vec<f32>,
    labels: Option<Vec<u16>>,
    padding: Option<[f32; 2]>,
}

impl Volume {
    /// Values of the voxels of `grid`. `id` names the volume in messages: a path, never a patient.
    ///
    /// # Errors
    /// If the number of values is not that of the voxels.
    pub fn new(id: impl Into<String>, grid: Grid, values: Vec<f32>) -> Result<Self> {
        let id = id.into();
        if values.len() != grid.voxels() {
            return Err(Error::input(
                &id,
                format!("{} values for {} voxels", values.len(), show(grid.shape())),
            ));
        }
        Ok(Volume { id, grid, stored: None, values, labels: None, padding: None })
    }

    /// The volume whose `values` are in the order of a file.
    ///
    /// # Errors
    /// If the number of values is not that of the voxels.
    pub fn from_stored(id: impl Into<String>, stored: Stored, values: Vec<f32>) -> Result<Self> {
        let grid = stored.grid()?;
        let mut volume = Volume::new(id, grid, values)?;
        volume.values = stored.to_ras(std::mem::take(&mut volume.values));
        volume.stored = Some(stored);
        Ok(volume)
    }

    /// The same with labels on the same grid.
    ///
    /// # Errors
    /// If the number of labels is not that of the voxels.
    pub fn with_labels(mut self, labels: Vec<u16>) -> Result<Self> {
        if labels.len() != self.values.len() {
            return Err(Error::input(
                &self.id,
                format!("{} labels for {} voxels", labels.len(), show(self.grid.shape())),
            ));
        }
        self.labels = Some(labels);
        Ok(self)
    }

    /// The same with the labels of a volume that must lie on the same grid (corners within a tenth of a
    /// voxel: tools round origins).
    ///
    /// # Errors
    /// If it lies on another grid, or a value is not a whole number from 0 to 65535.
    pub fn labelled_by(self, labels: &Volume) -> Result<Self> {
        if !self.grid.is_close(&labels.grid, SAME_PLACE) {
            let place = |g: &Grid| {
                format!("{} voxels of {:?} mm from {:?}", show(g.shape()), g.spacing(), g.world([0.0; 3]))
            };
            return Err(Error::input(
                &labels.id,
                format!(
                    "labels lie on another grid ({}) than {} ({}): resample them first",
                    place(&labels.grid),
                    self.id,
                    place(&self.grid)
                ),
            ));
        }
        let labels = whole(&labels.id, &labels.values)?;
        self.with_labels(labels)
    }

    /// Its name in messages.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where its voxels are.
    pub fn grid(&self) -> &Grid {
        &self.grid
    }

    /// `(D, H, W)`.
    pub fn shape(&self) -> [usize; 3] {
        self.grid.shape()
    }

    /// Distance of voxels in mm, as (z, y, x).
    pub fn spacing(&self) -> [f64; 3] {
        self.grid.spacing()
    }

    /// How the file stored it, while the grid is still that of the file.
    pub fn stored(&self) -> Option<&Stored> {
        self.stored.as_ref()
    }

    /// Lowest and highest value that stand for "nothing was measured here" (DICOM's pixel padding).
    pub fn padding(&self) -> Option<[f32; 2]> {
        self.padding
    }

    /// Says which values stand for nothing.
    pub fn set_padding(&mut self, padding: Option<[f32; 2]>) {
        self.padding = padding;
    }

    /// The values, `(D, H, W)`.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The values, to be changed in place.
    pub fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// The labels, `(D, H, W)`.
    pub fn labels(&self) -> Option<&[u16]> {
        self.labels.as_deref()
    }

    /// Grid, values and labels.
    pub fn into_parts(self) -> (Grid, Vec<f32>, Option<Vec<u16>>) {
        (self.grid, self.values, self.labels)
    }

    /// The value at (z, y, x).
    pub fn at(&self, [z, y, x]: [usize; 3]) -> Option<f32> {
        let [d, h, w] = self.shape();
        if z < d && y < h && x < w { self.values.get((z * h + y) * w + x).copied() } else { None }
    }

    /// The part of `shape` from `start` (z, y, x), labels with it; what lies outside is `pad` (labels 0).
    ///
    /// # Errors
    /// If `shape` is empty.
    pub fn part(&self, start: [isize; 3], shape: [usize; 3], pad: f32) -> Result<Volume> {
        let grid = self.grid.part(start, shape).map_err(|e| Error::input(&self.id, e))?;
        let mut values = vec![pad; grid.voxels()];
        copy_part(&self.values, self.shape(), start, &mut values, shape);
        let mut part = Volume::new(self.id.clone(), grid, values)?;
        part.padding = self.padding;
        if let Some(labels) = &self.labels {
            let mut out = vec![0; part.values.len()];
            copy_part(labels, self.shape(), start, &mut out, shape);
            part.labels = Some(out);
        }
        Ok(part)
    }
}

/// Share of a voxel by which the corners of labels may lie beside those of their image.
pub(crate) const SAME_PLACE: f64 = 0.1;

/// Values as labels: whole numbers, of which floating point may have left a thousandth.
///
/// # Errors
/// If one is not a whole number from 0 to 65535.
pub fn whole(id: &str, values: &[f32]) -> Result<Vec<u16>> {
    let label = |v: &f32| {
        let near = v.round();
        ((v - near).abs() <= 1e-3 && (0.0..=65535.0).contains(&near)).then_some(near as u16)
    };
    values
        .iter()
        .map(|v| {
            label(v).ok_or_else(|| {
                Error::input(id, format!("the value {v} is no label, expected whole numbers from 0 to 65535"))
            })
        })
        .collect()
}

/// Copies what of `from` lies in the part of `shape` at `start`; the rest of `into` stays.
pub(crate) fn copy_part<T: Copy>(
    from: &[T],
    [d, h, w]: [usize; 3],
    start: [isize; 3],
    into: &mut [T],
    shape: [usize; 3],
) {
    // Along an axis: the first index of the part that lies inside, how many do, and the first one's index in
    // `from`.
    let range = |n: usize, s: isize, m: usize| {
        let low = (-s).clamp(0, m as isize) as usize;
        let high = (n as isize - s).clamp(0, m as isize) as usize;
        (low, high.saturating_sub(low), (s + low as isize).max(0) as usize)
    };
    let [(z0, zn, zs), (y0, yn, ys), (x0, xn, xs)] =
        [range(d, start[0], shape[0]), range(h, start[1], shape[1]), range(w, start[2], shape[2])];
    for z in 0..zn {
        for y in 0..yn {
            let to = ((z0 + z) * shape[1] + y0 + y) * shape[2] + x0;
            let at = ((zs + z) * h + ys + y) * w + xs;
            if let (Some(to), Some(at)) = (into.get_mut(to..to + xn), from.get(at..at + xn)) {
                to.copy_from_slice(at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(shape: [usize; 3]) -> Volume {
        let grid = Grid::with_spacing(shape, [3.0, 2.0, 1.0]).unwrap();
        Volume::new("v", grid, (0..shape.iter().product()).map(|v: usize| v as f32).collect()).unwrap()
    }

    #[test]
    fn parts_are_padded_outside() {
        let v = volume([2, 3, 4]).with_labels((0..24).collect()).unwrap();
        let part = v.part([1, -1, 2], [2, 3, 3], -7.0).unwrap();
        let p = -7.0;
        assert_eq!(part.values(), [p, p, p, 14.0, 15.0, p, 18.0, 19.0, p, p, p, p, p, p, p, p, p, p]);
        assert_eq!(part.labels().unwrap()[3..8], [14, 15, 0, 18, 19]);
        assert_eq!(part.grid().world([0.0, 1.0, 0.0]), v.grid().world([1.0, 0.0, 2.0]));
        assert_eq!(v.part([0; 3], [2, 3, 4], 0.0).unwrap().values(), v.values());
        assert!(
            v.part([9, 9, 9], [1, 1, 1], 5.0).unwrap().values() == [5.0]
                && v.part([-9, 0, 0], [1, 1, 1], 5.0).unwrap().at([0; 3]) == Some(5.0)
        );
        assert!(v.part([0; 3], [0, 1, 1], 0.0).is_err());
    }

    #[test]
    fn labels_on_another_grid_are_refused() {
        let v = volume([2, 3, 4]);
        assert_eq!(v.clone().labelled_by(&v).unwrap().labels().unwrap()[23], 23);
        let moved =
            Volume::new("moved", v.grid().part([0, 0, 1], v.shape()).unwrap(), v.values().to_vec()).unwrap();
        let e = v.clone().labelled_by(&moved).unwrap_err().to_string();
        assert!(e.contains("moved") && e.contains("another grid") && e.contains("than v"), "{e}");
        assert!(v.clone().labelled_by(&volume([2, 3, 5])).unwrap_err().to_string().contains("2 x 3 x 5"));
        for bad in [0.5, -1.0, 70000.0, f32::NAN] {
            let mut odd = v.clone();
            odd.values_mut()[5] = bad;
            assert!(v.clone().labelled_by(&odd).unwrap_err().to_string().contains("no label"));
        }
        assert!(v.with_labels(vec![0; 3]).unwrap_err().to_string().contains("3 labels"));
    }

    #[test]
    fn labels_may_be_a_little_off() {
        let v = volume([1, 1, 3]);
        let mut near = v.clone();
        near.values_mut().copy_from_slice(&[0.999_999_94, -1e-7, 2.000_5]);
        assert_eq!(v.clone().labelled_by(&near).unwrap().labels().unwrap(), [1, 0, 2]);
        near.values_mut()[0] = 0.998;
        assert!(v.labelled_by(&near).unwrap_err().to_string().contains("0.998 is no label"));
    }

    #[test]
    fn values_must_fit() {
        let grid = Grid::with_spacing([1, 1, 2], [1.0; 3]).unwrap();
        assert!(
            Volume::new("short", grid, vec![0.0])
                .unwrap_err()
                .to_string()
                .contains("short: 1 values for 1 x 1 x 2")
        );
    }
}

//! A volume on a grid along the axes of the world, as slices.

use super::slices::{ReadConfig, Slices, check_shape, finite};
use crate::grid::Stored;
use crate::transform::{upright, upright_grid};
use crate::volume::Volume;
use selfsup_core::{Error, Result};

/// The slices of a resampled volume, which is in memory.
pub(super) struct Upright {
    volume: Volume,
    stored: Stored,
    next: usize,
}

impl Upright {
    /// Reads what is left of `slices`, which must be at their beginning, and resamples it; a volume that
    /// stands upright already stays as it is.
    ///
    /// # Errors
    /// If they cannot be read, or the new grid has more voxels than `config` takes.
    pub(super) fn of(mut slices: Box<dyn Slices>, config: &ReadConfig) -> Result<Box<dyn Slices>> {
        let stored = slices.stored().clone();
        let Some(grid) = upright_grid(&stored.grid()?)? else { return Ok(slices) };
        let [d, h, w] = grid.shape();
        check_shape(slices.id(), [w, h, d], config)?;
        let mut values = vec![0f32; stored.shape().iter().product()];
        slices.next(&mut values)?;
        finite(slices.id(), &stored, 0, &mut values, config.not_finite)?;
        let mut volume = Volume::from_stored(slices.id().to_string(), stored, values)?;
        volume.set_padding(slices.padding());
        let volume = upright(volume)?;
        let stored = Stored::new([w, h, d], *volume.grid().affine())?;
        Ok(Box::new(Upright { volume, stored, next: 0 }))
    }
}

impl Slices for Upright {
    fn id(&self) -> &str {
        self.volume.id()
    }

    fn stored(&self) -> &Stored {
        &self.stored
    }

    fn is_i16(&self) -> bool {
        false
    }

    fn padding(&self) -> Option<[f32; 2]> {
        self.volume.padding()
    }

    fn next(&mut self, out: &mut [f32]) -> Result<()> {
        let values = self.volume.values().get(self.next..self.next + out.len());
        let short = || Error::input(self.volume.id(), "no such slice is left");
        out.copy_from_slice(values.ok_or_else(short)?);
        self.next += out.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::read::{ReadConfig, Resampling, labelled, volume};
    use crate::{Grid, Volume, write};

    /// A CT of a gantry that is tilted by 20 degrees about x: slices advance along z, and lie across the
    /// tilted axes.
    fn tilted(dir: &std::path::Path) -> (std::path::PathBuf, std::path::PathBuf) {
        let (sin, cos) = (20f64.to_radians().sin(), 20f64.to_radians().cos());
        let affine = [
            [0.5, 0.0, 0.0, -3.0],
            [0.0, 0.5 * cos, 0.0, 4.0],
            [0.0, -0.5 * sin, 2.0, 7.0],
            [0.0, 0.0, 0.0, 1.0],
        ];
        let grid = Grid::new([9, 30, 8], affine).unwrap();
        let of = |f: &dyn Fn([f64; 3]) -> f32| -> Vec<f32> {
            (0..9 * 30 * 8)
                .map(|i| f(grid.world([(i / 240) as f64, (i / 8 % 30) as f64, (i % 8) as f64])))
                .collect()
        };
        let (image, mask) = (dir.join("tilted.nii"), dir.join("mask.nii"));
        write::values(&image, &grid, None, &of(&|[x, y, z]| (10.0 * x - 3.0 * y + 2.0 * z) as f32)).unwrap();
        write::values(&mask, &grid, None, &of(&|[x, _, _]| if x < -1.0 { 1.0 } else { 0.0 })).unwrap();
        (image, mask)
    }

    #[test]
    fn a_tilted_gantry_stands_upright_on_request() {
        let dir = tempfile::tempdir().unwrap();
        let (image, mask) = tilted(dir.path());
        let config = ReadConfig { resample: Some(Resampling::Upright), ..ReadConfig::default() };
        let sheared = volume(&image, &ReadConfig::default()).unwrap();
        assert_eq!(sheared.shape(), [9, 30, 8]);
        let straight: Volume = volume(&image, &config).unwrap();
        // Spacing as before; 16 mm and 14.5 sin 20 = 4.96 mm deep, 14.5 cos 20 = 13.63 mm wide.
        assert_eq!(straight.shape(), [12, 29, 8]);
        let spacing = straight.spacing();
        assert!([2.0, 0.5, 0.5].iter().zip(spacing).all(|(a, b)| (a - b).abs() < 1e-6), "{spacing:?}");
        let affine = straight.grid().affine();
        assert!((0..3).all(|r| (0..3).all(|c| r == c || affine[r][c] == 0.0)));
        let [low, high] = straight.padding().unwrap();
        assert!(low == high && sheared.values().iter().all(|v| *v > high));
        let mut inside = 0;
        for (i, v) in straight.values().iter().enumerate() {
            let place = [(i / 232) as f64, (i / 8 % 29) as f64, (i % 8) as f64];
            let [x, y, z] = straight.grid().world(place);
            if *v == low {
                continue;
            }
            let index = sheared.grid().index([x, y, z]);
            let within = |a: usize| (0.0..=(sheared.shape()[a] - 1) as f64).contains(&index[a]);
            if (0..3).all(within) {
                inside += 1;
                let expected = (10.0 * x - 3.0 * y + 2.0 * z) as f32;
                assert!((v - expected).abs() < 1e-3, "{v} {expected}");
            }
        }
        assert!(inside > 1200, "{inside}");
        // Labels go along, whole.
        let both = labelled(&image, &mask, &config).unwrap();
        assert_eq!(both.values(), straight.values());
        for (i, l) in both.labels().unwrap().iter().enumerate() {
            let x = both.grid().world([0.0, 0.0, (i % 8) as f64])[0];
            assert_eq!(*l, u16::from(x < -1.0 && both.values()[i] != low), "{i}");
        }
        // One that stands upright stays as it is, bit for bit.
        let grid = Grid::with_spacing([3, 4, 5], [2.0, 1.0, 1.0]).unwrap();
        let path = dir.path().join("upright.nii");
        write::values(&path, &grid, None, &[1.5; 60]).unwrap();
        assert_eq!(volume(&path, &config).unwrap(), volume(&path, &ReadConfig::default()).unwrap());
        let few = ReadConfig { max_voxels: 2500, ..config };
        assert!(volume(&image, &few).unwrap_err().to_string().contains("max_voxels"));
    }
}

//! Writing NIfTI-1: volumes, and predicted masks on the grid of the file that they were predicted for.
//!
//! With a [`Stored`] the axes are turned back to the order of the source file, so that a mask lies on it
//! voxel by voxel. The file holds numbers and geometry, nothing else: the fields for names, descriptions and
//! dates are empty. `.gz` at the end of the name compresses; equal content gives equal bytes. A file becomes
//! visible only when whole.

use crate::grid::{Affine, Grid, Stored, column, cross, dot, norm, show};
use crate::volume::Volume;
use flate2::Compression;
use flate2::write::GzEncoder;
use selfsup_core::checkpoint::write_atomic;
use selfsup_core::{Error, Result};
use std::io::{BufWriter, Write};
use std::path::Path;

/// Writes the values of a volume as 32-bit floats, in the order of its file where that is known.
///
/// # Errors
/// If the name does not end in `.nii` or `.nii.gz`, or the file cannot be written.
pub fn volume(path: impl AsRef<Path>, volume: &Volume) -> Result<()> {
    values(path, volume.grid(), volume.stored(), volume.values())
}

/// Writes `(D, H, W)` values on `grid` as 32-bit floats, turned back to `stored` if it is given.
///
/// # Errors
/// If their number is not that of the voxels, `stored` is of another grid, or the file cannot be written.
pub fn values(path: impl AsRef<Path>, grid: &Grid, stored: Option<&Stored>, values: &[f32]) -> Result<()> {
    write(path.as_ref(), grid, stored, values, 16, f32::to_le_bytes)
}

/// Writes `(D, H, W)` labels on `grid`, turned back to `stored` if it is given: 8 bits where they suffice,
/// else 16.
///
/// # Errors
/// As [`values`].
pub fn labels(path: impl AsRef<Path>, grid: &Grid, stored: Option<&Stored>, labels: &[u16]) -> Result<()> {
    if labels.iter().all(|l| *l < 256) {
        write(path.as_ref(), grid, stored, labels, 2, |l| [l as u8])
    } else {
        write(path.as_ref(), grid, stored, labels, 512, u16::to_le_bytes)
    }
}

fn write<T: Copy + Default, const N: usize>(
    path: &Path,
    grid: &Grid,
    stored: Option<&Stored>,
    values: &[T],
    datatype: i16,
    bytes: impl Fn(T) -> [u8; N],
) -> Result<()> {
    let name = path.to_string_lossy();
    if !(name.ends_with(".nii") || name.ends_with(".nii.gz")) {
        return Err(Error::file(path, "expected a name that ends in .nii or .nii.gz"));
    }
    if values.len() != grid.voxels() {
        return Err(Error::file(path, format!("{} values for {} voxels", values.len(), show(grid.shape()))));
    }
    let [d, h, w] = grid.shape();
    let (shape, affine) = match stored {
        None => ([w, h, d], *grid.affine()),
        Some(s) if s.grid()?.is_close(grid, 1e-3) => (s.shape(), *s.affine()),
        Some(s) => {
            let problem = format!(
                "the source has {} voxels elsewhere, expected the grid of {}",
                show(s.shape()),
                show(grid.shape())
            );
            return Err(Error::file(path, format!("{problem}: resample to the source first")));
        }
    };
    let header = header(path, shape, &affine, datatype, 8 * N as i16)?;
    let turned = stored.map(|s| s.from_ras(values));
    let values = turned.as_deref().unwrap_or(values);
    write_atomic(path, |file| {
        let io = |e| Error::io(path, e);
        let put = |out: &mut dyn Write| -> std::io::Result<()> {
            out.write_all(&header)?;
            let mut buffer = Vec::with_capacity(N << 14);
            for part in values.chunks(1 << 14) {
                buffer.clear();
                part.iter().for_each(|v| buffer.extend_from_slice(&bytes(*v)));
                out.write_all(&buffer)?;
            }
            Ok(())
        };
        if name.ends_with(".gz") {
            let mut out = GzEncoder::new(BufWriter::new(file), Compression::default());
            put(&mut out).map_err(io)?;
            out.finish().and_then(|mut b| b.flush()).map_err(io)
        } else {
            let mut out = BufWriter::new(file);
            put(&mut out).and_then(|()| out.flush()).map_err(io)
        }
    })
}

/// The 348 bytes of a header and the 4 that say that no extension follows.
fn header(path: &Path, shape: [usize; 3], affine: &Affine, datatype: i16, bits: i16) -> Result<Vec<u8>> {
    let mut h = vec![0u8; 352];
    let mut put = |at: usize, bytes: &[u8]| h[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &348i32.to_le_bytes());
    put(38, b"r");
    put(40, &3i16.to_le_bytes());
    for (i, n) in shape.iter().chain([&1; 4]).enumerate() {
        let n = i16::try_from(*n).map_err(|_| {
            Error::file(path, format!("{n} voxels along an axis, NIfTI-1 holds at most 32767"))
        })?;
        put(42 + 2 * i, &n.to_le_bytes());
    }
    put(70, &datatype.to_le_bytes());
    put(72, &bits.to_le_bytes());
    let spacing = [0, 1, 2].map(|a| norm(column(affine, a)));
    let q = quaternion(affine);
    put(76, &(q.map_or(1.0, |(_, handed)| handed) as f32).to_le_bytes());
    for (i, s) in spacing.iter().enumerate() {
        put(80 + 4 * i, &(*s as f32).to_le_bytes());
    }
    put(108, &352f32.to_le_bytes());
    put(112, &1f32.to_le_bytes());
    // Millimetres.
    put(123, &[2]);
    if let Some((q, _)) = q {
        put(252, &1i16.to_le_bytes());
        for i in 0..3 {
            put(256 + 4 * i, &(q[i] as f32).to_le_bytes());
            put(268 + 4 * i, &(affine[i][3] as f32).to_le_bytes());
        }
    }
    put(254, &1i16.to_le_bytes());
    for (r, row) in affine.iter().enumerate().take(3) {
        for (c, v) in row.iter().enumerate() {
            put(280 + 16 * r + 4 * c, &(*v as f32).to_le_bytes());
        }
    }
    put(344, b"n+1\0");
    Ok(h)
}

/// The vector part of the unit quaternion of the affine's rotation, and the handedness of its third axis;
/// none if it is sheared.
fn quaternion(affine: &Affine) -> Option<([f64; 3], f64)> {
    let unit = |c: usize| {
        let v = column(affine, c);
        v.map(|x| x / norm(v))
    };
    let (x, y, mut z) = (unit(0), unit(1), unit(2));
    if dot(x, y).abs() > 1e-5 || dot(y, z).abs() > 1e-5 || dot(z, x).abs() > 1e-5 {
        return None;
    }
    let handed = if dot(cross(x, y), z) < 0.0 { -1.0 } else { 1.0 };
    z = z.map(|v| v * handed);
    // Of the four squares 4 a^2, 4 b^2 ... the greatest is at least 1: divide by its root only (Shepperd
    // 1978).
    let (xx, yy, zz) = (x[0], y[1], z[2]);
    let squares = [1.0 + xx + yy + zz, 1.0 + xx - yy - zz, 1.0 - xx + yy - zz, 1.0 - xx - yy + zz];
    let best = (0..4).fold(0, |b, i| if squares[i] > squares[b] { i } else { b });
    let r = 2.0 * squares[best].sqrt();
    let (zy, xz, yx) = (y[2] - z[1], z[0] - x[2], x[1] - y[0]);
    let (sxy, sxz, syz) = (x[1] + y[0], x[2] + z[0], y[2] + z[1]);
    let [a, b, c, d] = match best {
        0 => [r / 4.0, zy / r, xz / r, yx / r],
        1 => [zy / r, r / 4.0, sxy / r, sxz / r],
        2 => [xz / r, sxy / r, r / 4.0, syz / r],
        _ => [yx / r, sxz / r, syz / r, r / 4.0],
    };
    let sign = if a < 0.0 { -1.0 } else { 1.0 };
    Some(([b * sign, c * sign, d * sign], handed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::{affine_of_spacing, multiply};
    use crate::read::{self, ReadConfig};
    use proptest::prelude::*;

    fn turn(angles: [f64; 3]) -> Affine {
        let mut affine = affine_of_spacing([1.0; 3]);
        for (axis, angle) in angles.into_iter().enumerate() {
            let (a, b) = ([1, 2, 0][axis], [2, 0, 1][axis]);
            let mut turn = affine_of_spacing([1.0; 3]);
            (turn[a][a], turn[a][b], turn[b][a], turn[b][b]) =
                (angle.cos(), -angle.sin(), angle.sin(), angle.cos());
            affine = multiply(&turn, &affine);
        }
        affine
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        /// What is written is read again: values, grid and order, through the sform and through the qform
        /// alike.
        #[test]
        fn written_is_read(angles in prop::array::uniform3(-3.2f64..3.2), mirror in any::<bool>(), shape in prop::array::uniform3(1usize..6), gzip in any::<bool>()) {
            let mut affine = multiply(&turn(angles), &affine_of_spacing([3.0, 1.25, 0.5]));
            if mirror {
                (0..3).for_each(|r| affine[r][0] *= -1.0);
            }
            affine[0][3] = -91.5;
            let stored = Stored::new(shape, affine).unwrap();
            let n = shape.iter().product::<usize>();
            let v = Volume::from_stored("v", stored, (0..n).map(|i| i as f32 - 7.25).collect()).unwrap();
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(if gzip { "a.nii.gz" } else { "a.nii" });
            volume(&path, &v).unwrap();
            let read = read::volume(&path, &ReadConfig::default()).unwrap();
            prop_assert_eq!(read.values(), v.values());
            prop_assert!(read.grid().is_close(v.grid(), 1e-4));
            prop_assert_eq!(read.stored().unwrap().axes(), v.stored().unwrap().axes());
            if !gzip {
                let mut bytes = std::fs::read(&path).unwrap();
                bytes[254] = 0;
                std::fs::write(&path, bytes).unwrap();
                let by_qform = read::volume(&path, &ReadConfig::default()).unwrap();
                // The header holds three of a quaternion's four numbers in single precision. Where the fourth
                // is near 0 it is known to sqrt(2^-23) = 3.5e-4 only, so the turn to 7e-4: up to 0.02 of the
                // smallest voxel over these 12 mm.
                prop_assert!(by_qform.grid().is_close(v.grid(), 0.03), "{:?} {:?}", by_qform.grid(), v.grid());
            }
        }
    }

    #[test]
    fn masks_go_back_on_the_source() {
        let dir = tempfile::tempdir().unwrap();
        let affine =
            [[0.0, 0.0, -2.0, 5.0], [-1.0, 0.0, 0.0, 6.0], [0.0, 3.0, 0.0, 7.0], [0.0, 0.0, 0.0, 1.0]];
        let source = Volume::from_stored(
            "s",
            Stored::new([2, 3, 4], affine).unwrap(),
            (0..24).map(|v| v as f32).collect(),
        )
        .unwrap();
        let mask: Vec<u16> = source.values().iter().map(|v| *v as u16 % 7).collect();
        let path = dir.path().join("mask.nii.gz");
        labels(&path, source.grid(), source.stored(), &mask).unwrap();
        // In the order of the file the mask is the source's values modulo 7 again.
        let mut slices = read::open(&path, &ReadConfig::default()).unwrap();
        let mut raw = vec![0f32; 24];
        slices.next(&mut raw).unwrap();
        assert!(raw.iter().enumerate().all(|(i, v)| *v == (i % 7) as f32));
        assert!(slices.stored().affine() == &affine && slices.is_i16());
        let labelled =
            source.clone().labelled_by(&read::volume(&path, &ReadConfig::default()).unwrap()).unwrap();
        assert_eq!(labelled.labels().unwrap(), mask);
        // 16 bits where 8 do not suffice.
        let wide: Vec<u16> = (0..24).map(|v| 300 + v).collect();
        labels(&path, source.grid(), None, &wide).unwrap();
        assert_eq!(read::labels(&path, &ReadConfig::default()).unwrap().1, wide);
    }

    #[test]
    fn equal_bytes_and_no_words() {
        let dir = tempfile::tempdir().unwrap();
        let grid = Grid::with_spacing([2, 2, 2], [1.0; 3]).unwrap();
        let v = Volume::new("/home/NAME^PATIENT/scan.nii", grid.clone(), vec![1.0; 8]).unwrap();
        let (a, b) = (dir.path().join("a.nii"), dir.path().join("b.nii"));
        volume(&a, &v).unwrap();
        volume(&b, &v).unwrap();
        let bytes = std::fs::read(&a).unwrap();
        assert_eq!(bytes, std::fs::read(&b).unwrap());
        // No letters but the magic and the mark of byte 38.
        let letters: Vec<u8> =
            bytes[..352].iter().copied().filter(u8::is_ascii_alphabetic).filter(|b| *b != b'\\').collect();
        assert!(!String::from_utf8_lossy(&letters).contains("NAME"));
        assert!(
            bytes[148..252].iter().all(|b| *b == 0)
                && bytes[4..38].iter().all(|b| *b == 0)
                && bytes[328..344].iter().all(|b| *b == 0)
        );
        assert!(volume(dir.path().join("a.mha"), &v).unwrap_err().to_string().contains(".nii.gz"));
        assert!(values(&a, &grid, None, &[0.0]).unwrap_err().to_string().contains("1 values"));
        let other = Stored::new([2, 2, 3], affine_of_spacing([1.0; 3])).unwrap();
        assert!(values(&a, &grid, Some(&other), &[0.0; 8]).unwrap_err().to_string().contains("resample"));
    }
}

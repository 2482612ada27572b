//! Single pictures: radiographs, ultrasound, and any slice by itself, wherever it lies.

use super::header::Header;
use super::pixels::Pixels;
use crate::image::Image;
use crate::read::slices::{NotFinite, ReadConfig, check_shape};
use crate::window::Window;
use selfsup_core::{Error, Result};
use std::path::Path;

/// Number of frames of a grey DICOM file.
///
/// # Errors
/// If it cannot be read or is a colour image.
pub fn frames(path: impl AsRef<Path>) -> Result<usize> {
    let header = Header::read(path.as_ref())?;
    header.check_grey()?;
    Ok(header.planes.len())
}

/// Reads frame `frame` of a grey DICOM file, without asking where it lies.
///
/// # Errors
/// If it is a colour image, has no such frame, or cannot be decoded.
pub fn image(path: impl AsRef<Path>, frame: usize, config: &ReadConfig) -> Result<Image> {
    let path = path.as_ref();
    let header = Header::read(path)?;
    header.check_grey()?;
    let plane = header.planes.get(frame).ok_or_else(|| {
        Error::file(path, format!("has no frame {frame}, expected one below {}", header.planes.len()))
    })?;
    let id = path.display().to_string();
    check_shape(&id, [1, header.rows, header.columns], config)?;
    header.check_there()?;
    let mut values = vec![0f32; header.rows * header.columns];
    Pixels::open(&header)?.frame(&header, frame as u32, plane.scale, &mut values)?;
    if let NotFinite::Replace(with) = config.not_finite {
        values.iter_mut().filter(|v| !v.is_finite()).for_each(|v| *v = with);
    } else if values.iter().any(|v| !v.is_finite()) {
        return Err(Error::file(path, "its rescaled values are not finite"));
    }
    // A window speaks of values before they are turned round.
    let windows = if header.inverted {
        Vec::new()
    } else {
        header.windows.iter().filter_map(|&(c, w)| Window::new(c, w).ok()).collect()
    };
    let positive = |s: &[f64; 2]| s.iter().all(|v| *v > 0.0);
    let spacing = plane.spacing.filter(positive).or(header.detector_spacing.filter(positive));
    Ok(Image { id, shape: [header.rows, header.columns], values, labels: None, spacing, windows })
}

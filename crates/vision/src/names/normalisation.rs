//! How images are normalised for released weights: `preprocessor_config.json` of transformers, and
//! `pretrained_cfg` in the `config.json` of timm.

use super::stated::beside;
use selfsup_core::{Error, Result};
use serde_json::{Map, Value};
use std::path::Path;

/// The largest file that is read.
const MAX: u64 = 1 << 20;

/// Means and standard deviations of values in `[0, 1]`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Normalisation {
    /// Mean of each channel.
    pub mean: [f32; 3],
    /// Standard deviation of each channel.
    pub std: [f32; 3],
}

impl Normalisation {
    /// Whether two say the same, as far as people write digits.
    pub fn is_like(&self, other: &Normalisation) -> bool {
        let near = |a: [f32; 3], b: [f32; 3]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 2e-3);
        near(self.mean, other.mean) && near(self.std, other.std)
    }
}

/// What the files beside the weights at `path` state, if anything.
///
/// # Errors
/// Naming file and key: no numbers, values that are scaled otherwise, and two files that contradict each
/// other.
pub(super) fn read(path: &Path) -> Result<Option<Normalisation>> {
    let Some(folder) = beside(path) else { return Ok(None) };
    let file = folder.join("preprocessor_config.json");
    let theirs = object(&file)?.map(|o| transformers(&file, &o)).transpose()?.flatten();
    let config = folder.join("config.json");
    let timm = object(&config)?.map(|o| timm(&config, &o)).transpose()?.flatten();
    match (theirs, timm) {
        (Some(a), Some(b)) if !a.is_like(&b) => Err(Error::file(
            &file,
            format!(
                "image_mean and image_std are {:?} and {:?}, but config.json has {:?} and {:?}",
                a.mean, a.std, b.mean, b.std
            ),
        )),
        (theirs, timm) => Ok(theirs.or(timm)),
    }
}

fn object(file: &Path) -> Result<Option<Map<String, Value>>> {
    if !file.is_file() {
        return Ok(None);
    }
    let size = std::fs::metadata(file).map_err(|e| Error::io(file, e))?.len();
    if size > MAX {
        return Err(Error::file(file, format!("{size} bytes, expected at most {MAX}")));
    }
    let text = std::fs::read(file).map_err(|e| Error::io(file, e))?;
    let json: Value =
        serde_json::from_slice(&text).map_err(|e| Error::file(file, format!("not JSON: {e}")))?;
    match json {
        Value::Object(object) => Ok(Some(object)),
        _ => Err(Error::file(file, "expected an object")),
    }
}

/// One number for all channels, or three.
fn three(file: &Path, object: &Map<String, Value>, key: &str) -> Result<Option<[f32; 3]>> {
    let Some(value) = object.get(key).filter(|v| !v.is_null()) else { return Ok(None) };
    let list = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
    let numbers: Option<Vec<f32>> = list.iter().map(|v| v.as_f64().map(|v| v as f32)).collect();
    match numbers.as_deref() {
        Some(&[one]) => Ok(Some([one; 3])),
        Some(&[r, g, b]) => Ok(Some([r, g, b])),
        _ => Err(Error::file(file, format!("{key}: {value}, expected a number or three"))),
    }
}

fn both(file: &Path, object: &Map<String, Value>, keys: [&str; 2]) -> Result<Option<Normalisation>> {
    let (mean, std) = (three(file, object, keys[0])?, three(file, object, keys[1])?);
    match (mean, std) {
        (None, None) => Ok(None),
        (Some(mean), Some(std)) if std.iter().all(|s| *s > 0.0) && mean.iter().all(|m| m.is_finite()) => {
            Ok(Some(Normalisation { mean, std }))
        }
        _ => {
            Err(Error::file(file, format!("{} and {}: expected both, deviations above 0", keys[0], keys[1])))
        }
    }
}

fn transformers(file: &Path, object: &Map<String, Value>) -> Result<Option<Normalisation>> {
    let flag = |key: &str| object.get(key).and_then(Value::as_bool).unwrap_or(true);
    let factor = object.get("rescale_factor").and_then(Value::as_f64).unwrap_or(1.0 / 255.0);
    let values = if flag("do_rescale") { factor * 255.0 } else { 255.0 };
    if (values - 1.0).abs() > 1e-3 {
        return Err(Error::file(
            file,
            format!(
                "do_rescale and rescale_factor make values of 0 to {values}, expected 0 to 1 \
                 (rescale_factor 1/255)"
            ),
        ));
    }
    if !flag("do_normalize") {
        return Ok(Some(Normalisation { mean: [0.0; 3], std: [1.0; 3] }));
    }
    both(file, object, ["image_mean", "image_std"])
}

fn timm(file: &Path, object: &Map<String, Value>) -> Result<Option<Normalisation>> {
    match object.get("pretrained_cfg").and_then(Value::as_object) {
        Some(inner) => both(file, inner, ["mean", "std"]),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(files: &[(&str, &str)]) -> Result<Option<Normalisation>> {
        let dir = tempfile::tempdir().unwrap();
        files.iter().for_each(|(name, text)| std::fs::write(dir.path().join(name), text).unwrap());
        read(dir.path())
    }

    #[test]
    fn files_of_transformers_and_timm() {
        let clip = r#"{"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711], "do_normalize": true}"#;
        let found = of(&[("preprocessor_config.json", clip)]).unwrap().unwrap();
        assert_eq!((found.mean[0], found.std[2]), (0.481_454_66, 0.275_777_1));
        let half = r#"{"image_mean": 0.5, "image_std": [0.5], "rescale_factor": 0.00392156862745098}"#;
        assert_eq!(of(&[("preprocessor_config.json", half)]).unwrap().unwrap().mean, [0.5; 3]);
        let none = r#"{"do_normalize": false, "image_mean": [0.1, 0.1, 0.1]}"#;
        assert_eq!(of(&[("preprocessor_config.json", none)]).unwrap().unwrap().std, [1.0; 3]);
        let timm = r#"{"architecture": "resnet18", "pretrained_cfg": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}}"#;
        assert_eq!(of(&[("config.json", timm)]).unwrap().unwrap().std, [0.229, 0.224, 0.225]);
        assert!(of(&[("config.json", "{}"), ("preprocessor_config.json", "{}")]).unwrap().is_none());
        assert!(of(&[]).unwrap().is_none());
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let says = |files: &[(&str, &str)], part: &str| {
            let why = of(files).unwrap_err().to_string();
            assert!(why.contains(part) && why.contains(".json"), "{why}");
        };
        says(&[("preprocessor_config.json", "[1]")], "expected an object");
        says(&[("preprocessor_config.json", r#"{"image_mean": [0.5, 0.5]}"#)], "a number or three");
        says(&[("preprocessor_config.json", r#"{"image_mean": 0.5}"#)], "expected both");
        says(&[("preprocessor_config.json", r#"{"image_mean": 0.5, "image_std": 0}"#)], "above 0");
        says(&[("preprocessor_config.json", r#"{"rescale_factor": 0.00784313725490196}"#)], "rescale_factor");
        let timm =
            ("config.json", r#"{"pretrained_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}}"#);
        let other = ("preprocessor_config.json", r#"{"image_mean": 0.4, "image_std": 0.5}"#);
        says(&[timm, other], "but config.json has");
    }
}

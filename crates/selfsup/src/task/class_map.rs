//! Values of masks as classes 0, 1, 2, ..., and back.
//!
//! Masks need not count without gaps: 0, 2, 41, 2035 are four classes, 0 and 255 are two.

use selfsup_core::{Error, Result};
use std::path::Path;

/// The value of each class.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassMap(Vec<u16>);

impl ClassMap {
    /// Of the names of the classes: each is its value, or the classes of a data set with other names are the
    /// values 0, 1, 2, ....
    pub fn new(names: &[String]) -> Self {
        let values: Option<Vec<u16>> = names.iter().map(|name| name.parse().ok()).collect();
        ClassMap(values.unwrap_or_else(|| (0..names.len()).map(|i| i as u16).collect()))
    }

    /// The classes of the voxels of `mask`.
    ///
    /// # Errors
    /// Naming `mask` and the first value that is no class.
    pub fn classes(&self, mask: &Path, values: &[u16]) -> Result<Vec<u16>> {
        let mut of = vec![None; usize::from(u16::MAX) + 1];
        self.0.iter().enumerate().for_each(|(class, value)| of[usize::from(*value)] = Some(class as u16));
        let class = |v: &u16| {
            of[usize::from(*v)].ok_or_else(|| {
                let known: Vec<String> = self.0.iter().take(12).map(u16::to_string).collect();
                let more = if self.0.len() > 12 { ", ..." } else { "" };
                Error::file(
                    mask,
                    format!("the value {v} is none of the classes; expected {}{more}", known.join(", ")),
                )
            })
        };
        values.iter().map(class).collect()
    }

    /// The class of a value, if it is one.
    pub fn class(&self, value: u16) -> Option<u16> {
        self.0.iter().position(|v| *v == value).map(|class| class as u16)
    }

    /// The values of classes.
    pub fn values(&self, classes: &[u16]) -> Vec<u16> {
        classes.iter().map(|c| self.0.get(usize::from(*c)).copied().unwrap_or_default()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_and_back() {
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_string()).collect::<Vec<_>>();
        let map = ClassMap::new(&names(&["0", "2", "41", "2035"]));
        let mask = Path::new("mask.nii");
        let classes = map.classes(mask, &[0, 2035, 41, 2]).unwrap();
        assert_eq!(classes, [0, 3, 2, 1]);
        assert_eq!(map.values(&classes), [0, 2035, 41, 2]);
        let e = map.classes(mask, &[0, 3]).unwrap_err().to_string();
        assert!(e.contains("mask.nii") && e.contains("the value 3") && e.contains("0, 2, 41, 2035"), "{e}");
        let named = ClassMap::new(&names(&["background", "liver"]));
        assert_eq!(named.classes(mask, &[1, 0]).unwrap(), [1, 0]);
        assert!(named.classes(mask, &[2]).is_err());
    }
}

//! Keys that take one number for all axes, or one for each: `size = 48` is `size = [48, 48, 48]`.

use serde::{Deserialize, Deserializer};

#[derive(Deserialize)]
#[serde(untagged, expecting = "one number, or three (z, y, x)")]
enum PerAxis<T> {
    All(T),
    Each([T; 3]),
}

impl<T: Copy> PerAxis<T> {
    fn each(self) -> [T; 3] {
        match self {
            PerAxis::All(v) => [v; 3],
            PerAxis::Each(v) => v,
        }
    }
}

/// Reads a key of this kind.
///
/// # Errors
/// If it is neither one number nor three.
pub(crate) fn three<'de, D: Deserializer<'de>, T: Copy + Deserialize<'de>>(
    from: D,
) -> Result<[T; 3], D::Error> {
    PerAxis::deserialize(from).map(PerAxis::each)
}

/// Reads a key of this kind that may be absent.
///
/// # Errors
/// As [`three`].
pub(crate) fn three_or_none<'de, D: Deserializer<'de>, T: Copy + Deserialize<'de>>(
    from: D,
) -> Result<Option<[T; 3]>, D::Error> {
    Ok(Option::<PerAxis<T>>::deserialize(from)?.map(PerAxis::each))
}

#[cfg(test)]
mod tests {
    use crate::augment::AugmentConfig;

    #[test]
    fn one_number_stands_for_three() {
        let read = |text: &str| serde_json::from_str::<AugmentConfig>(text);
        let config = read(r#"{"size": 16, "spacing": 1}"#).unwrap();
        assert_eq!((config.size, config.spacing), ([16; 3], Some([1.0; 3])));
        let config = read(r#"{"size": [1, 8, 9], "spacing": [2.0, 1, 0.5]}"#).unwrap();
        assert_eq!((config.size, config.spacing), ([1, 8, 9], Some([2.0, 1.0, 0.5])));
        for wrong in [r#"{"size": [16, 16]}"#, r#"{"size": "large"}"#, r#"{"size": -4}"#] {
            let e = read(wrong).unwrap_err().to_string();
            assert!(e.contains("one number, or three"), "{wrong}: {e}");
        }
    }
}

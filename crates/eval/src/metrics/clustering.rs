//! Agreement of two labellings, up to renaming.

use selfsup_core::{Error, Result};
use std::collections::BTreeMap;

/// Counts of pairs of labels, and of the labels of each side.
type Table = (BTreeMap<(u32, u32), f64>, BTreeMap<u32, f64>, BTreeMap<u32, f64>);

fn table(a: &[u32], b: &[u32]) -> Result<Table> {
    if a.is_empty() || a.len() != b.len() {
        return Err(Error::input(
            "clusters",
            format!("{} and {} labels, expected as many and at least one", a.len(), b.len()),
        ));
    }
    let mut out = Table::default();
    for (&x, &y) in a.iter().zip(b) {
        *out.0.entry((x, y)).or_default() += 1.0;
        *out.1.entry(x).or_default() += 1.0;
        *out.2.entry(y).or_default() += 1.0;
    }
    Ok(out)
}

/// Mutual information over the arithmetic mean of the entropies (scikit-learn's default); 1 if both are a
/// single cluster.
///
/// # Errors
/// If there are no labels, or the lengths differ.
pub fn normalized_mutual_information(a: &[u32], b: &[u32]) -> Result<f64> {
    let (joint, left, right) = table(a, b)?;
    let n = a.len() as f64;
    let entropy = |side: &BTreeMap<u32, f64>| -side.values().map(|c| c / n * (c / n).ln()).sum::<f64>();
    let mutual: f64 = joint.iter().map(|((x, y), c)| c / n * (c * n / (left[x] * right[y])).ln()).sum();
    let mean = 0.5 * (entropy(&left) + entropy(&right));
    Ok(if mean <= 0.0 { 1.0 } else { (mutual / mean).clamp(0.0, 1.0) })
}

/// Adjusted Rand index (Hubert and Arabie 1985): 1 for equal partitions, about 0 for unrelated ones.
///
/// # Errors
/// If there are no labels, or the lengths differ.
pub fn adjusted_rand_index(a: &[u32], b: &[u32]) -> Result<f64> {
    let (joint, left, right) = table(a, b)?;
    let pairs = |c: f64| 0.5 * c * (c - 1.0);
    let both: f64 = joint.values().map(|&c| pairs(c)).sum();
    let (x, y): (f64, f64) =
        (left.values().map(|&c| pairs(c)).sum(), right.values().map(|&c| pairs(c)).sum());
    let all = pairs(a.len() as f64);
    let expected = if all > 0.0 { x * y / all } else { 0.0 };
    let most = 0.5 * (x + y);
    Ok(if most == expected { 1.0 } else { (both - expected) / (most - expected) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn closed_forms() {
        let a = [0, 0, 1, 1];
        assert_eq!(adjusted_rand_index(&a, &[5, 5, 2, 2]).unwrap(), 1.0);
        assert!((normalized_mutual_information(&a, &[5, 5, 2, 2]).unwrap() - 1.0).abs() < 1e-12);
        assert!((adjusted_rand_index(&a, &[0, 1, 0, 1]).unwrap() + 0.5).abs() < 1e-12);
        assert!(normalized_mutual_information(&a, &[0, 1, 0, 1]).unwrap().abs() < 1e-12);
        // scikit-learn's documentation: 0.57...
        assert!((adjusted_rand_index(&[0, 0, 1, 2], &[0, 0, 1, 1]).unwrap() - 4.0 / 7.0).abs() < 1e-12);
        assert_eq!(adjusted_rand_index(&[1], &[2]).unwrap(), 1.0);
        assert!(adjusted_rand_index(&[], &[]).is_err() && normalized_mutual_information(&a, &[1]).is_err());
    }

    proptest! {
        #[test]
        fn symmetric_and_blind_to_names(pairs in proptest::collection::vec((0u32..5, 0u32..4), 1..60)) {
            let a: Vec<u32> = pairs.iter().map(|p| p.0).collect();
            let b: Vec<u32> = pairs.iter().map(|p| p.1).collect();
            let renamed: Vec<u32> = a.iter().map(|x| 9 - x).collect();
            for f in [adjusted_rand_index, normalized_mutual_information] {
                let v = f(&a, &b).unwrap();
                prop_assert!((v - f(&b, &a).unwrap()).abs() < 1e-9 && (v - f(&renamed, &b).unwrap()).abs() < 1e-9);
                prop_assert!((f(&a, &renamed).unwrap() - 1.0).abs() < 1e-9);
            }
        }
    }
}

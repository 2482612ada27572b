//! Feature matrices, borrowed and owned, and the checks that every entry point shares.

use selfsup_core::{Error, Result};

/// A borrowed row-major matrix of features, `(n, d)`: finite, one sample a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Features<'a> {
    rows: &'a [f32],
    n: usize,
    d: usize,
}

impl<'a> Features<'a> {
    /// `rows` read as `(n, d)`.
    ///
    /// # Errors
    /// If a size is zero, the length is not `n * d`, or a value is NaN or infinite (named by row and column).
    pub fn new(rows: &'a [f32], n: usize, d: usize) -> Result<Self> {
        if n == 0 || d == 0 {
            return Err(Error::input(
                "features",
                format!("shape ({n}, {d}), expected at least one row and one column"),
            ));
        }
        if n.checked_mul(d) != Some(rows.len()) {
            return Err(Error::input("features", format!("{} values, expected {n} x {d}", rows.len())));
        }
        if let Some(i) = rows.iter().position(|v| !v.is_finite()) {
            return Err(Error::input(
                "features",
                format!("row {}, column {} is {}, expected a finite number", i / d, i % d, rows[i]),
            ));
        }
        Ok(Features { rows, n, d })
    }

    /// Number of samples.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Number of dimensions.
    pub fn d(&self) -> usize {
        self.d
    }

    /// All values, row after row.
    pub fn as_slice(&self) -> &'a [f32] {
        self.rows
    }

    /// Sample `i`; empty if there is none.
    pub fn row(&self, i: usize) -> &'a [f32] {
        self.rows.get(i * self.d..(i + 1) * self.d).unwrap_or(&[])
    }

    /// The samples of `index`, in that order.
    ///
    /// # Errors
    /// If `index` is empty or names a sample that does not exist.
    pub fn select(&self, index: &[usize]) -> Result<Matrix> {
        let mut data = Vec::with_capacity(index.len() * self.d);
        for &i in index {
            if i >= self.n {
                return Err(Error::input(
                    "features",
                    format!("sample {i} asked for, but there are {}", self.n),
                ));
            }
            data.extend_from_slice(self.row(i));
        }
        Matrix::new(data, index.len(), self.d)
    }
}

/// An owned row-major matrix of features, `(n, d)`: finite, one sample a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    data: Vec<f32>,
    n: usize,
    d: usize,
}

impl Matrix {
    /// `data` read as `(n, d)`.
    ///
    /// # Errors
    /// As [`Features::new`].
    pub fn new(data: Vec<f32>, n: usize, d: usize) -> Result<Self> {
        Features::new(&data, n, d)?;
        Ok(Matrix { data, n, d })
    }

    /// The same matrix, borrowed.
    pub fn view(&self) -> Features<'_> {
        Features { rows: &self.data, n: self.n, d: self.d }
    }

    /// Number of samples.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Number of dimensions.
    pub fn d(&self) -> usize {
        self.d
    }

    /// All values, row after row.
    pub fn as_slice(&self) -> &[f32] {
        &self.data
    }

    /// The values, row after row.
    pub fn into_vec(self) -> Vec<f32> {
        self.data
    }
}

/// Means of rows by sample, where a sample has several: patches of a volume, windows of a recording.
#[derive(Clone, Debug)]
pub struct Means {
    sums: Vec<f64>,
    counts: Vec<usize>,
    width: usize,
}

impl Means {
    /// Of `n` samples, rows of `width` values.
    pub fn new(n: usize, width: usize) -> Self {
        Means { sums: vec![0.0; n * width], counts: vec![0; n], width }
    }

    /// Values of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Adds a row of sample `index`.
    ///
    /// # Errors
    /// If there is no such sample, or the row has another width.
    pub fn add(&mut self, index: usize, row: &[f32]) -> Result<()> {
        let sum =
            self.sums.get_mut(index * self.width..(index + 1) * self.width).filter(|s| s.len() == row.len());
        let (Some(sum), Some(count)) = (sum, self.counts.get_mut(index)) else {
            return Err(Error::input(
                "features",
                format!("{} values of sample {index}: expected {}", row.len(), self.width),
            ));
        };
        sum.iter_mut().zip(row).for_each(|(s, v)| *s += f64::from(*v));
        *count += 1;
        Ok(())
    }

    /// The mean of each sample, one row after the other. The only row of a sample comes out as it went in.
    ///
    /// # Errors
    /// If a sample has none.
    pub fn rows(&self) -> Result<Vec<f32>> {
        if let Some(i) = self.counts.iter().position(|n| *n == 0) {
            return Err(Error::input("features", format!("sample {i} gave no input")));
        }
        Ok(self
            .sums
            .chunks_exact(self.width.max(1))
            .zip(&self.counts)
            .flat_map(|(s, n)| s.iter().map(|v| (v / *n as f64) as f32))
            .collect())
    }
}

/// `labels` has `n` entries below `classes`, and `classes` is not 0.
pub(crate) fn check_labels(what: &str, labels: &[u32], n: usize, classes: usize) -> Result<()> {
    if classes == 0 {
        return Err(Error::input(what, "0 classes, expected at least 1"));
    }
    if labels.len() != n {
        return Err(Error::input(what, format!("{} labels for {n} samples", labels.len())));
    }
    match labels.iter().position(|&y| y as usize >= classes) {
        Some(i) => Err(Error::input(what, format!("label {i} is {}, expected below {classes}", labels[i]))),
        None => Ok(()),
    }
}

/// Two feature sets have the same number of columns.
pub(crate) fn check_width(what: &str, a: Features<'_>, b: Features<'_>) -> Result<()> {
    if a.d() == b.d() {
        Ok(())
    } else {
        Err(Error::input(what, format!("{} columns, expected {}", b.d(), a.d())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_is_not_a_matrix() {
        assert!(Features::new(&[], 0, 3).is_err());
        assert!(Features::new(&[1.0; 5], 2, 3).is_err());
        assert!(Features::new(&[1.0; 4], usize::MAX, 2).is_err());
        let e = Features::new(&[0.0, 0.0, 0.0, f32::NAN], 2, 2).unwrap_err().to_string();
        assert!(e.contains("row 1, column 1"), "{e}");
        let m = Matrix::new(vec![1.0, 2.0, 3.0, 4.0], 2, 2).unwrap();
        assert_eq!(m.view().select(&[1, 0]).unwrap().as_slice(), [3.0, 4.0, 1.0, 2.0]);
        assert!(m.view().select(&[2]).is_err() && m.view().select(&[]).is_err());
        assert!(m.view().row(7).is_empty());
        assert!(check_labels("labels", &[0, 3], 2, 3).unwrap_err().to_string().contains("label 1 is 3"));
    }

    #[test]
    fn rows_of_a_sample_are_averaged() {
        let mut means = Means::new(2, 2);
        means.add(1, &[0.1, -3.0]).unwrap();
        assert!(means.rows().unwrap_err().to_string().contains("sample 0"));
        for row in [[1.0, 2.0], [3.0, 6.0]] {
            means.add(0, &row).unwrap();
        }
        assert_eq!(means.rows().unwrap(), [2.0, 4.0, 0.1, -3.0]);
        assert!(means.add(2, &[0.0; 2]).is_err() && means.add(0, &[0.0; 3]).is_err());
    }
}

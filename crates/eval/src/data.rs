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

/// Means of rows by sample, where a sample has several: patches of a volume, windows of a recording. A row
/// may weigh more than another, as a window does that has more frames.
#[derive(Clone, Debug)]
pub struct Means {
    /// The mean of the rows so far; in columns of deviations the sum of squares around it.
    rows: Vec<f64>,
    weights: Vec<f64>,
    width: usize,
    block: Option<usize>,
}

impl Means {
    /// Of `n` samples, rows of `width` values.
    pub fn new(n: usize, width: usize) -> Self {
        Means { rows: vec![0.0; n * width], weights: vec![0.0; n], width, block: None }
    }

    /// Of rows that are `block` means and `block` standard deviations (of the population), again and again.
    /// Those of parts become those of the whole, when parts weigh as much as they have frames (Chan et al.
    /// 1983, doi:10.1080/00031305.1983.10483115).
    pub fn of_statistics(n: usize, width: usize, block: usize) -> Self {
        Means { block: Some(block.max(1)), ..Self::new(n, width) }
    }

    /// Values of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Adds a row of sample `index`, which weighs 1.
    ///
    /// # Errors
    /// As [`Means::weigh`].
    pub fn add(&mut self, index: usize, row: &[f32]) -> Result<()> {
        self.weigh(index, row, 1.0)
    }

    /// Adds a row of sample `index` with a weight.
    ///
    /// # Errors
    /// If there is no such sample, the row has another width, or the weight is not above 0.
    pub fn weigh(&mut self, index: usize, row: &[f32], weight: f64) -> Result<()> {
        let all = self.width * index..self.width * (index + 1);
        let sum = self.rows.get_mut(all).filter(|s| s.len() == row.len());
        let (Some(sum), Some(before)) = (sum, self.weights.get_mut(index)) else {
            return Err(Error::input(
                "features",
                format!("{} values of sample {index}: expected {}", row.len(), self.width),
            ));
        };
        if !(weight > 0.0 && weight.is_finite()) {
            return Err(Error::input(
                "features",
                format!("weight {weight} of sample {index}: expected above 0"),
            ));
        }
        let after = *before + weight;
        // The first row has share 1 of a mean of 0, and comes out as it went in.
        let share = weight / after;
        let block = self.block.unwrap_or(self.width).max(1);
        let step = if self.block.is_some() { 2 * block } else { block };
        for (sum, row) in sum.chunks_mut(step).zip(row.chunks(step)) {
            let (means, squares) = sum.split_at_mut(block.min(row.len()));
            let (values, deviations) = row.split_at(means.len());
            for (k, (mean, value)) in means.iter_mut().zip(values).enumerate() {
                let gap = f64::from(*value) - *mean;
                if let (Some(square), Some(deviation)) = (squares.get_mut(k), deviations.get(k)) {
                    *square += f64::from(*deviation).powi(2) * weight + gap * gap * *before * share;
                }
                *mean += gap * share;
            }
        }
        *before = after;
        Ok(())
    }

    /// The mean of each sample, one row after the other. The only row of a sample comes out as it went in.
    ///
    /// # Errors
    /// If a sample has none.
    pub fn rows(&self) -> Result<Vec<f32>> {
        if let Some(i) = self.weights.iter().position(|n| *n == 0.0) {
            return Err(Error::input("features", format!("sample {i} gave no input")));
        }
        let deviation = |k: usize| self.block.is_some_and(|block| (k / block) % 2 == 1);
        let width = self.width.max(1);
        let value = |(at, v): (usize, &f64)| match deviation(at % width) {
            true => (v / self.weights[at / width]).max(0.0).sqrt() as f32,
            false => *v as f32,
        };
        Ok(self.rows.iter().enumerate().map(value).collect())
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
        assert!(means.weigh(0, &[0.0; 2], 0.0).is_err() && means.weigh(0, &[0.0; 2], f64::NAN).is_err());
        means.weigh(1, &[0.4, 1.0], 2.0).unwrap();
        let rows = means.rows().unwrap();
        assert!((rows[2] - 0.3).abs() < 1e-6 && (rows[3] + 1.0 / 3.0).abs() < 1e-6, "{rows:?}");
    }

    #[test]
    fn statistics_of_parts_become_those_of_the_whole() {
        let series: Vec<f64> = (0..40).map(|i| ((i * 37) % 11) as f64 + 1000.0).collect();
        let of = |part: &[f64]| {
            let mean = part.iter().sum::<f64>() / part.len() as f64;
            let square = part.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / part.len() as f64;
            [mean as f32, square.sqrt() as f32]
        };
        // Two columns of means and two of deviations, twice; the second column is the first reversed.
        let row = |part: &[f64]| {
            let ([m, s], back) = (of(part), part.iter().map(|v| -v).collect::<Vec<_>>());
            let [n, t] = of(&back);
            [m, n, s, t, n, m, t, s]
        };
        let mut means = Means::of_statistics(1, 8, 2);
        for part in [&series[..7], &series[7..8], &series[8..]] {
            means.weigh(0, &row(part), part.len() as f64).unwrap();
        }
        let (found, want) = (means.rows().unwrap(), row(&series));
        assert!(found.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-4), "{found:?} {want:?}");
        let mut one = Means::of_statistics(1, 8, 2);
        one.weigh(0, &row(&series), 40.0).unwrap();
        assert_eq!(one.rows().unwrap(), want);
    }
}

//! Cross entropy of logits against class indices: `-sum_c y_c log softmax(x)_c` with `y = (1 - e) onehot + e / C` for label smoothing `e`
//! (Szegedy et al. 2015, arXiv 1512.00567).
//!
//! One node of the graph on the CPU: a row's log-sum-exp is all that is kept, so vocabulary-sized logits are stored once.

use crate::Path;
use candle_core::{D, DType, Result, Tensor, bail};

/// Targets that do not count.
const IGNORE: i64 = -100;

/// Mean over the counted rows: `logits (M, C)`, `targets (M)` of class indices (i64 or u32), where -100 is not counted, to a scalar.
///
/// # Errors
/// If the shapes do not fit, `label_smoothing` is not in `[0, 1]`, or, for targets on the CPU, if a target is neither a class nor -100 or no
/// row counts. On other devices nothing is copied to the host to look: no counted row gives NaN.
pub fn cross_entropy(logits: &Tensor, targets: &Tensor, label_smoothing: f64, path: Path) -> Result<Tensor> {
    loss(logits, targets, label_smoothing, true, path)
}

/// As [`cross_entropy`], but the sum over the counted rows (0 if there is none).
///
/// # Errors
/// If the shapes do not fit, `label_smoothing` is not in `[0, 1]`, or, for targets on the CPU, if a target is neither a class nor -100.
pub fn cross_entropy_sum(logits: &Tensor, targets: &Tensor, label_smoothing: f64, path: Path) -> Result<Tensor> {
    loss(logits, targets, label_smoothing, false, path)
}

fn loss(logits: &Tensor, targets: &Tensor, smoothing: f64, mean: bool, path: Path) -> Result<Tensor> {
    let &[m, c] = logits.dims() else { bail!("cross_entropy: logits of shape {:?}, expected (rows, classes)", logits.dims()) };
    if targets.dims() != [m] || !matches!(targets.dtype(), DType::I64 | DType::U32) {
        bail!("cross_entropy: targets {:?} of {:?}, expected ({m}) of i64 or u32", targets.dims(), targets.dtype())
    }
    if c == 0 || !(0.0..=1.0).contains(&smoothing) {
        bail!("cross_entropy: {c} classes, label smoothing {smoothing}, expected at least one class and a share in [0, 1]")
    }
    if targets.device().is_cpu() {
        let classes = targets.to_dtype(DType::I64)?.to_vec1::<i64>()?;
        if let Some((row, target)) = classes.iter().enumerate().find(|(_, t)| **t != IGNORE && !(0..c as i64).contains(*t)) {
            bail!("cross_entropy: row {row} has target {target}, expected a class in 0..{c} or {IGNORE}")
        }
        let count = classes.iter().filter(|t| **t != IGNORE).count();
        if mean && count == 0 {
            bail!("cross_entropy: none of the {m} rows counts, expected at least one target other than {IGNORE}")
        }
    }
    let _ = path;
    composed(logits, &targets.to_dtype(DType::I64)?, smoothing, mean)
}

fn composed(logits: &Tensor, targets: &Tensor, smoothing: f64, mean: bool) -> Result<Tensor> {
    let x = logits.broadcast_sub(&logits.detach().max_keepdim(1)?)?;
    let log_sum = x.exp()?.sum_keepdim(1)?.log()?;
    let classes = targets.maximum(0i64)?.unsqueeze(1)?.contiguous()?;
    let counted = targets.ne(IGNORE)?.to_dtype(logits.dtype())?;
    // -log p_c = log_sum - x_c, and with smoothing a share of it is the mean over all classes.
    let rows = (&log_sum - (x.gather(&classes, 1)? * (1.0 - smoothing))?)?;
    let rows = if smoothing > 0.0 { (rows - (x.sum_keepdim(1)? * (smoothing / logits.dim(D::Minus1)? as f64))?)? } else { rows };
    let sum = (rows.squeeze(1)? * &counted)?.sum_all()?;
    if mean { sum / counted.sum_all()? } else { Ok(sum) }
}

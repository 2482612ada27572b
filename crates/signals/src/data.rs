//! Batches: views stacked for methods, and the windows that an encoder reads of a signal.

use crate::augment::Made;
use crate::window::Window;
use candle_core::{Device, Tensor};
use selfsup_core::data::{Collate, Transform};
use selfsup_core::objective::Views;
use selfsup_core::{Error, Key, Result, Rng};

/// Windows of one shape as `(N, C, T)`.
///
/// # Errors
/// If there are none, or their shapes differ.
pub fn stacked<'a>(windows: impl IntoIterator<Item = &'a Window>) -> Result<Tensor> {
    let (mut values, mut count, mut shape) = (Vec::new(), 0, None);
    for window in windows {
        let own = (window.channels(), window.len());
        let expected = *shape.get_or_insert(own);
        if own != expected {
            return Err(Error::input(
                "batch",
                format!(
                    "signals of {} and of {} channels, {} and {} samples: expected one shape; name the channels \
                     in signal.channels",
                    expected.0, own.0, expected.1, own.1
                ),
            ));
        }
        values.extend_from_slice(window.values());
        count += 1;
    }
    let (channels, length) = shape.ok_or_else(|| Error::input("batch", "no signals"))?;
    Ok(Tensor::from_vec(values, (count, channels, length), &Device::Cpu)?)
}

/// Stacks the views of samples.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stacked;

impl Collate<Made> for Stacked {
    type Batch = Views;

    fn collate(&self, items: Vec<Made>, indices: &[usize], _key: Key) -> Result<Views> {
        let first = items.first().ok_or_else(|| Error::input("batch", "no signals"))?;
        let (globals, locals) = (first.globals.len(), first.locals.len());
        if items.iter().any(|i| (i.globals.len(), i.locals.len()) != (globals, locals)) {
            return Err(Error::input("batch", "samples with different numbers of views"));
        }
        let each = |count: usize, view: &dyn Fn(&Made, usize) -> &Window| -> Result<Vec<Tensor>> {
            (0..count).map(|v| stacked(items.iter().map(|item| view(item, v)))).collect()
        };
        let mut views = Views::of(each(globals, &|i, v| &i.globals[v])?, indices.to_vec());
        views.locals = each(locals, &|i, v| &i.locals[v])?;
        Ok(views)
    }
}

/// One of several windows of a signal that lie evenly over it, as an encoder takes it: no randomness.
#[derive(Clone, Copy, Debug)]
pub struct Evenly {
    /// Samples of a window.
    pub length: usize,
    /// Windows of a signal; a single one is its middle.
    pub windows: usize,
}

impl Evenly {
    /// Window `k` of a signal; a signal that is shorter lies in the middle of all of them.
    pub fn window(&self, signal: &Window, k: usize) -> Window {
        let room = signal.len().saturating_sub(self.length);
        if self.windows < 2 || room == 0 {
            return signal.middle(self.length);
        }
        signal.cut((room * k.min(self.windows - 1) / (self.windows - 1)) as isize, self.length)
    }
}

impl Transform<(Window, usize)> for Evenly {
    type Out = Made;

    fn apply(&self, (signal, k): (Window, usize), _rng: &mut Rng) -> Result<Made> {
        Ok(Made { globals: vec![self.window(&signal, k)], locals: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(length: usize) -> Window {
        Window::new(&[(0..length).map(|t| t as f32).collect()], "w").unwrap()
    }

    #[test]
    fn windows_lie_evenly() {
        let even = Evenly { length: 4, windows: 3 };
        let first = |k| even.window(&ramp(10), k).values()[0];
        assert_eq!([0, 1, 2, 9].map(first), [0.0, 3.0, 6.0, 6.0]);
        assert_eq!(even.window(&ramp(2), 2), ramp(2).middle(4));
        assert_eq!(Evenly { length: 4, windows: 1 }.window(&ramp(10), 0).values(), [3.0, 4.0, 5.0, 6.0]);
    }

    #[test]
    fn shapes_that_differ_are_refused() {
        assert_eq!(stacked([&ramp(3), &ramp(3)]).unwrap().dims(), [2, 1, 3]);
        assert!(stacked([&ramp(3), &ramp(4)]).unwrap_err().to_string().contains("3 and 4 samples"));
        assert!(stacked([]).is_err());
        let one = Made { globals: vec![ramp(3)], locals: vec![] };
        let two = Made { globals: vec![ramp(3); 2], locals: vec![] };
        assert!(Stacked.collate(vec![one, two], &[0, 1], Key::new(0)).is_err());
    }
}

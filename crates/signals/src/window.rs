//! A piece of signal as a network takes it: channels of one length at one rate, without missing values.

use selfsup_core::{Error, Result};

/// Values `(C, T)`, channel by channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    channels: usize,
    values: Vec<f32>,
}

impl Window {
    /// From the values of each channel.
    ///
    /// # Errors
    /// If there are none, or the channels have different lengths; `id` names the signal.
    pub fn new(channels: &[Vec<f32>], id: &str) -> Result<Self> {
        let length = channels.first().map_or(0, Vec::len);
        if length == 0 || channels.iter().any(|c| c.len() != length) {
            let lengths: Vec<usize> = channels.iter().map(Vec::len).collect();
            return Err(Error::input(
                id,
                format!("channels of {lengths:?} samples: expected one length above 0"),
            ));
        }
        Ok(Window { channels: channels.len(), values: channels.concat() })
    }

    /// Number of channels.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Number of samples of each channel.
    pub fn len(&self) -> usize {
        self.values.len() / self.channels
    }

    /// Never: a window has samples.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The values, channel by channel.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The values of each channel.
    pub fn each(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.len())
    }

    /// The same, to be changed.
    pub fn each_mut(&mut self) -> impl Iterator<Item = &mut [f32]> {
        let length = self.len();
        self.values.chunks_exact_mut(length)
    }

    /// Samples `start..start + length`, with 0 where the window has none.
    #[must_use]
    pub fn cut(&self, start: isize, length: usize) -> Self {
        let length = length.max(1);
        let mut values = vec![0.0; self.channels * length];
        // The part of the cut that lies inside.
        let skipped = start.min(0).unsigned_abs().min(length);
        let from = start.max(0).unsigned_abs().min(self.len());
        let count = (self.len() - from).min(length - skipped);
        for (to, channel) in values.chunks_exact_mut(length).zip(self.each()) {
            to[skipped..skipped + count].copy_from_slice(&channel[from..from + count]);
        }
        Window { channels: self.channels, values }
    }

    /// The middle of the window, or all of it between zeros.
    #[must_use]
    pub fn middle(&self, length: usize) -> Self {
        self.cut((self.len() as isize - length as isize).div_euclid(2), length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_inside_and_beyond() {
        let w = Window::new(&[vec![1.0, 2.0, 3.0], vec![4.0, 5.0, 6.0]], "a").unwrap();
        assert_eq!(w.cut(1, 2).values(), [2.0, 3.0, 5.0, 6.0]);
        assert_eq!(w.cut(-1, 3).values(), [0.0, 1.0, 2.0, 0.0, 4.0, 5.0]);
        assert_eq!(w.cut(2, 2).values(), [3.0, 0.0, 6.0, 0.0]);
        assert_eq!(w.cut(9, 1).values(), [0.0, 0.0]);
        assert_eq!(w.cut(-9, 1).values(), [0.0, 0.0]);
        assert_eq!(w.middle(1).values(), [2.0, 5.0]);
        assert_eq!(w.middle(5).values(), [0.0, 1.0, 2.0, 3.0, 0.0, 0.0, 4.0, 5.0, 6.0, 0.0]);
        assert_eq!((w.channels(), w.len(), w.each().count()), (2, 3, 2));
        assert!(Window::new(&[vec![1.0], vec![]], "a.edf").unwrap_err().to_string().contains("a.edf"));
        assert!(Window::new(&[], "a").is_err());
    }
}

//! `[augment]`: what makes a view of a signal.

use super::spectrum::mask_frequencies;
use super::time::{permute, warp};
use super::values::{drop_channels, hum, jitter, scale, wander};
use crate::window::Window;
use selfsup_core::config::Unread;
use selfsup_core::data::Transform;
use selfsup_core::objective::Wanted;
use selfsup_core::{Error, Result, Rng};
use serde::{Deserialize, Serialize};

/// `[augment]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AugmentConfig {
    /// Samples of a view: a random part of a longer signal, a shorter one between zeros.
    pub length: usize,
    /// Small crops of methods of multi-crop.
    pub local_views: usize,
    /// Samples of a small crop.
    pub local_length: usize,
    /// Chance of each of the changes below in a view.
    pub p: f32,
    /// Deviation of the noise that is added.
    pub jitter: f32,
    /// Deviation of the logarithm of the factor of each channel.
    pub scale: f32,
    /// Deviation of the logarithm of the speed of time.
    pub warp: f32,
    /// Segments that are put into another order; 0 or 1 for none.
    pub permute: usize,
    /// Chance that a channel is set to 0; never all of them.
    pub drop_channel: f32,
    /// Largest amplitude of the wander of the baseline.
    pub wander: f32,
    /// Largest amplitude of the hum of the mains.
    pub hum: f32,
    /// Its frequency in Hz; needs `signal.rate`.
    pub hum_hz: f32,
    /// Largest share of the spectrum that is taken out.
    pub frequency_mask: f32,
}

impl Default for AugmentConfig {
    fn default() -> Self {
        AugmentConfig {
            length: 256,
            local_views: 6,
            local_length: 96,
            p: 0.5,
            jitter: 0.1,
            scale: 0.2,
            warp: 0.2,
            permute: 0,
            drop_channel: 0.0,
            wander: 0.2,
            hum: 0.0,
            hum_hz: 50.0,
            frequency_mask: 0.2,
        }
    }
}

impl AugmentConfig {
    /// Refuses what cannot be carried out for a method that wants these views; `rate` is that of all signals, where
    /// there is one.
    ///
    /// # Errors
    /// Naming the key.
    pub fn check(&self, wanted: Wanted, rate: Option<f64>) -> Result<()> {
        let crops = !wanted.crops() || (1..=self.length).contains(&self.local_length);
        if self.length == 0 || !crops {
            return Err(Error::config(format!(
                "augment.length = {}, augment.local_length = {}: expected lengths above 0, the second at most the first",
                self.length, self.local_length
            )));
        }
        let shares =
            [("p", self.p), ("drop_channel", self.drop_channel), ("frequency_mask", self.frequency_mask)];
        if let Some((key, value)) = shares.into_iter().find(|(_, v)| !(0.0..=1.0).contains(v)) {
            return Err(Error::config(format!("augment.{key} = {value}: expected a share from 0 to 1")));
        }
        let sizes = [
            ("jitter", self.jitter),
            ("scale", self.scale),
            ("warp", self.warp),
            ("wander", self.wander),
            ("hum", self.hum),
        ];
        if let Some((key, value)) = sizes.into_iter().find(|(_, v)| !(*v >= 0.0 && *v < 1e3)) {
            return Err(Error::config(format!("augment.{key} = {value}: expected a number from 0 to 1000")));
        }
        if self.hum > 0.0 && rate.is_none() {
            return Err(Error::config("augment.hum needs signal.rate: the mains have a frequency in Hz"));
        }
        Ok(())
    }

    /// Keys that a method which wants these views does not read; `who` is its name.
    pub fn unread(wanted: Wanted, who: &str) -> Vec<Unread> {
        let mut unread = Vec::new();
        if !wanted.compares() {
            let keys = [
                "p",
                "jitter",
                "scale",
                "warp",
                "permute",
                "drop_channel",
                "wander",
                "hum",
                "hum_hz",
                "frequency_mask",
            ];
            let why =
                format!("is read by methods that compare views: {who} sees a part of each signal as it is");
            unread.extend(Unread::all("augment", &keys, &why));
        }
        if !wanted.crops() {
            let why =
                format!("is read by methods of small crops beside the views (multi-crop): {who} takes none");
            unread.extend(Unread::all("augment", &["local_views", "local_length"], &why));
        }
        unread
    }

    /// What makes the views that a method wants; `rate` as in [`AugmentConfig::check`].
    ///
    /// # Errors
    /// As [`AugmentConfig::check`].
    pub fn views(&self, wanted: Wanted, rate: Option<f64>) -> Result<Augment> {
        self.check(wanted, rate)?;
        Ok(Augment { config: self.clone(), wanted, rate })
    }

    fn change(&self, view: &mut Window, rate: Option<f64>, rng: &mut Rng) -> Result<()> {
        let on = |size: f32, rng: &mut Rng| rng.chance(self.p) && size > 0.0;
        // Time first: noise is not stretched.
        if on(self.warp, rng) {
            warp(view, self.warp, rng);
        }
        if on((self.permute.saturating_sub(1)) as f32, rng) {
            permute(view, self.permute, rng);
        }
        if on(self.frequency_mask, rng) {
            mask_frequencies(view, self.frequency_mask, rng)?;
        }
        if on(self.scale, rng) {
            scale(view, self.scale, rng);
        }
        if on(self.wander, rng) {
            wander(view, self.wander, 4.0, rng);
        }
        if let (true, Some(rate)) = (on(self.hum, rng), rate) {
            hum(view, self.hum, self.hum_hz, rate as f32, rng);
        }
        if on(self.jitter, rng) {
            jitter(view, self.jitter, rng);
        }
        if on(self.drop_channel, rng) {
            drop_channels(view, self.drop_channel, rng);
        }
        Ok(())
    }
}

/// Views of one signal.
#[derive(Clone, Debug, PartialEq)]
pub struct Made {
    /// Of full length.
    pub globals: Vec<Window>,
    /// Small crops.
    pub locals: Vec<Window>,
}

/// Makes views of a signal: random parts, each changed in its own way where they are compared.
#[derive(Clone, Debug)]
pub struct Augment {
    config: AugmentConfig,
    wanted: Wanted,
    rate: Option<f64>,
}

impl Augment {
    fn view(&self, signal: &Window, length: usize, rng: &mut Rng) -> Result<Window> {
        let (own, place) = (signal.len(), rng.uniform());
        let mut view = if own > length {
            let start = ((own - length + 1) as f32 * place) as usize;
            signal.cut(start.min(own - length) as isize, length)
        } else {
            signal.middle(length)
        };
        if self.wanted.compares() {
            self.config.change(&mut view, self.rate, rng)?;
        }
        Ok(view)
    }
}

impl Transform<Window> for Augment {
    type Out = Made;

    fn apply(&self, signal: Window, rng: &mut Rng) -> Result<Made> {
        let mut of = |count: usize, length: usize| -> Result<Vec<Window>> {
            (0..count).map(|_| self.view(&signal, length, rng)).collect()
        };
        let globals = of(self.wanted.globals(), self.config.length)?;
        let small = if self.wanted.crops() { self.config.local_views } else { 0 };
        Ok(Made { globals, locals: of(small, self.config.local_length)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::Key;

    fn signal(length: usize) -> Window {
        Window::new(&[(0..length).map(|t| (t as f32 * 0.3).sin()).collect()], "w").unwrap()
    }

    #[test]
    fn views_have_their_lengths() {
        let config =
            AugmentConfig { length: 40, local_length: 16, local_views: 3, ..AugmentConfig::default() };
        for own in [10, 40, 100] {
            let make = |wanted, seed| {
                config.views(wanted, None).unwrap().apply(signal(own), &mut Key::new(seed).rng()).unwrap()
            };
            let made = make(Wanted::Multi(2), 1);
            assert!(made.globals.iter().all(|w| w.len() == 40) && made.globals.len() == 2);
            assert!(made.locals.iter().all(|w| w.len() == 16) && made.locals.len() == 3);
            assert_eq!(made, make(Wanted::Multi(2), 1));
            assert_ne!(made.globals[0], made.globals[1]);
            let plain = make(Wanted::Plain, 2);
            assert!(plain.locals.is_empty());
            if own > 40 {
                // A part of the signal as it is.
                let found = (0..=own - 40).any(|s| signal(own).cut(s as isize, 40) == plain.globals[0]);
                assert!(found);
            }
        }
    }

    #[test]
    fn small_crops_bind_methods_that_take_some() {
        let short = AugmentConfig { length: 24, ..AugmentConfig::default() };
        assert!(short.check(Wanted::Plain, None).is_ok() && short.check(Wanted::Multi(2), None).is_err());
    }

    #[test]
    fn keys_out_of_range_are_named() {
        let base = AugmentConfig::default;
        for (config, key) in [
            (AugmentConfig { length: 0, ..base() }, "augment.length"),
            (AugmentConfig { local_length: 300, ..base() }, "augment.local_length"),
            (AugmentConfig { p: 2.0, ..base() }, "augment.p"),
            (AugmentConfig { jitter: -1.0, ..base() }, "augment.jitter"),
            (AugmentConfig { warp: f32::NAN, ..base() }, "augment.warp"),
            (AugmentConfig { hum: 0.1, ..base() }, "signal.rate"),
        ] {
            assert!(config.check(Wanted::Multi(2), None).unwrap_err().to_string().contains(key), "{key}");
        }
    }
}

//! Changes of time: warping and permutation of segments. All channels change alike.

use crate::window::Window;
use selfsup_core::Rng;

/// Knots of a warp between the ends.
const KNOTS: usize = 4;

/// Warps time: the speed at each of a few knots is `exp(strength normal)`, linear in between, and scaled so that
/// the window ends where it did. Values are linear between samples.
pub fn warp(window: &mut Window, strength: f32, rng: &mut Rng) {
    let length = window.len();
    if length < 3 {
        return;
    }
    let speeds: Vec<f64> = (0..KNOTS + 2).map(|_| f64::from((strength * rng.normal()).exp())).collect();
    let speed = |t: usize| {
        let at = t as f64 / (length - 1) as f64 * (KNOTS + 1) as f64;
        let i = (at.floor() as usize).min(KNOTS);
        speeds[i] + (at - i as f64) * (speeds[i + 1] - speeds[i])
    };
    // The place of each sample is the sum of the speeds before it.
    let mut places = Vec::with_capacity(length);
    let mut sum = 0.0;
    for t in 0..length {
        places.push(sum);
        sum += (speed(t) + speed((t + 1).min(length - 1))) / 2.0;
    }
    let last = (length - 1) as f64;
    let factor = last / places[length - 1];
    for channel in window.each_mut() {
        let old = channel.to_vec();
        for (v, place) in channel.iter_mut().zip(&places) {
            let place = (place * factor).clamp(0.0, last);
            let i = (place.floor() as usize).min(length - 2);
            let share = (place - i as f64) as f32;
            *v = (1.0 - share) * old[i] + share * old[i + 1];
        }
    }
}

/// Cuts the window into `segments` parts at random places and puts them together in a random order.
pub fn permute(window: &mut Window, segments: usize, rng: &mut Rng) {
    let length = window.len();
    let parts = segments.clamp(1, length);
    let mut cuts: Vec<usize> =
        rng.permutation(length - 1).into_iter().take(parts - 1).map(|c| c + 1).collect();
    cuts.extend([0, length]);
    cuts.sort_unstable();
    let order = rng.permutation(cuts.len() - 1);
    for channel in window.each_mut() {
        let old = channel.to_vec();
        let mut at = 0;
        for part in &order {
            let part = &old[cuts[*part]..cuts[part + 1]];
            channel[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::Key;

    fn ramp(length: usize) -> Window {
        let values: Vec<f32> = (0..length).map(|t| t as f32).collect();
        Window::new(&[values.clone(), values], "w").unwrap()
    }

    #[test]
    fn a_warped_ramp_still_rises_from_end_to_end() {
        for seed in 0..50 {
            let mut w = ramp(101);
            warp(&mut w, 0.5, &mut Key::new(seed).rng());
            let (a, b) = w.values().split_at(101);
            assert_eq!(a, b);
            assert!(a.windows(2).all(|p| p[1] > p[0]) && a[0] == 0.0 && (a[100] - 100.0).abs() < 1e-3);
            assert!(a.iter().enumerate().any(|(t, v)| (t as f32 - v).abs() > 1.0), "{seed}");
        }
        let mut short = ramp(2);
        warp(&mut short, 0.5, &mut Key::new(0).rng());
        assert_eq!(short, ramp(2));
        let mut still = ramp(50);
        warp(&mut still, 0.0, &mut Key::new(0).rng());
        assert!(still.values().iter().zip(ramp(50).values()).all(|(a, b)| (a - b).abs() < 1e-3));
    }

    #[test]
    fn segments_keep_all_values() {
        let mut moved = 0;
        for seed in 0..50 {
            let mut w = ramp(30);
            permute(&mut w, 4, &mut Key::new(seed).rng());
            let mut sorted = w.values()[..30].to_vec();
            let breaks = sorted.windows(2).filter(|p| p[1] != p[0] + 1.0).count();
            assert!(breaks <= 3, "{breaks}");
            moved += breaks;
            sorted.sort_by(f32::total_cmp);
            assert_eq!(sorted, ramp(30).values()[..30]);
        }
        assert!(moved > 50);
        let mut one = ramp(1);
        permute(&mut one, 9, &mut Key::new(1).rng());
        assert_eq!(one, ramp(1));
    }
}

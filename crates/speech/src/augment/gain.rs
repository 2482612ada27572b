//! Loudness: a factor of `10^(dB / 20)`.

/// Multiplies by a gain in decibels; with `clip` to `[-1, 1]` as a converter does.
pub fn gain(wave: &mut [f32], db: f32, clip: bool) {
    let factor = 10f32.powf(db / 20.0);
    for v in wave {
        *v *= factor;
        if clip {
            *v = v.clamp(-1.0, 1.0);
        }
    }
}

/// The largest absolute value.
pub fn peak(wave: &[f32]) -> f32 {
    wave.iter().fold(0.0, |m, v| m.max(v.abs()))
}

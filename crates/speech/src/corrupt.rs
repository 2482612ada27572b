//! Corrupted recordings, to measure how a representation stands up to a shift: noise, rooms, narrow bands,
//! other speeds and bad codecs, each at five severities.
//!
//! | kind | severities 1 to 5 |
//! |---|---|
//! | `pink_noise`, `white_noise` | 20, 15, 10, 5, 0 dB of signal over noise |
//! | `reverberation` | 60 dB in 0.2, 0.4, 0.6, 0.9, 1.3 s, a tail of -6, -3, 0, 3, 6 dB over the direct sound |
//! | `band_limit` | nothing above 4, 3, 2, 1.5, 1 kHz |
//! | `fast`, `slow` | 1.1, 1.2, 1.3, 1.4, 1.5 and 0.9, 0.8, 0.7, 0.6, 0.5 times as fast, pitch and all |
//! | `mu_law` | 7, 6, 5, 4, 3 bits of logarithmic quantisation |
//! | `low_rate` | samples held at 8, 6, 4, 3, 2 kHz, without a filter |
//! | `clipping` | 6, 12, 18, 24, 30 dB above full scale |
//!
//! The ratios of noise are those of the robustness tests of speech recognition (Hirsch and Pearce 2000,
//! Aurora); the response of a room is the model of Polack (1988): noise that decays exponentially behind the
//! direct sound. What is drawn depends on the seed and on the name of a recording alone, so a severity is the
//! same noise, louder. Noise is that of [`NoiseLevel`], drawn as for a ratio by itself.

use crate::audio::AudioConfig;
use crate::augment::{Noise, NoiseLevel, Noisy, low_pass, low_rate, mu_law, peak, reverberate, room};
use selfsup_core::{Error, Key, Result};

/// How often severities go up.
pub const SEVERITIES: u8 = 5;

/// A kind of corruption.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Corruption {
    /// Noise whose power falls by 3 dB an octave.
    PinkNoise,
    /// Noise of equal power in each Hz.
    WhiteNoise,
    /// The sound of a room.
    Reverberation,
    /// High frequencies are lost.
    BandLimit,
    /// Played faster.
    Fast,
    /// Played slower.
    Slow,
    /// Logarithmic quantisation of few bits.
    MuLaw,
    /// A low sampling rate with aliases.
    LowRate,
    /// Louder than the converter takes.
    Clipping,
}

use Corruption::*;

impl Corruption {
    /// All kinds.
    pub const ALL: [Corruption; 9] =
        [PinkNoise, WhiteNoise, Reverberation, BandLimit, Fast, Slow, MuLaw, LowRate, Clipping];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            PinkNoise => "pink_noise",
            WhiteNoise => "white_noise",
            Reverberation => "reverberation",
            BandLimit => "band_limit",
            Fast => "fast",
            Slow => "slow",
            MuLaw => "mu_law",
            LowRate => "low_rate",
            Clipping => "clipping",
        }
    }

    /// What the severities are.
    pub fn about(self) -> &'static str {
        match self {
            PinkNoise | WhiteNoise => "20, 15, 10, 5, 0 dB of signal over noise",
            Reverberation => "60 dB in 0.2, 0.4, 0.6, 0.9, 1.3 s",
            BandLimit => "nothing above 4, 3, 2, 1.5, 1 kHz",
            Fast => "1.1 to 1.5 times the speed",
            Slow => "0.9 to 0.5 times the speed",
            MuLaw => "7, 6, 5, 4, 3 bits",
            LowRate => "held at 8, 6, 4, 3, 2 kHz",
            Clipping => "6, 12, 18, 24, 30 dB above full scale",
        }
    }

    /// The kind of this name.
    ///
    /// # Errors
    /// If there is none; the message lists all.
    pub fn named(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
            let all = Self::ALL.map(Corruption::name).join(", ");
            Error::config(format!("no corruption of recordings is called \"{name}\": expected one of {all}"))
        })
    }
}

/// A kind of corruption at one severity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Corrupt {
    kind: Corruption,
    severity: u8,
    seed: u64,
}

impl Corrupt {
    /// Another seed is other noise. Severity 0 leaves recordings as they are.
    ///
    /// # Errors
    /// If the severity is above 5.
    pub fn new(kind: Corruption, severity: u8, seed: u64) -> Result<Self> {
        if severity > SEVERITIES {
            return Err(Error::config(format!("severity {severity}: expected 0 (none) to {SEVERITIES}")));
        }
        Ok(Corrupt { kind, severity, seed })
    }

    fn pick<T: Copy>(&self, of: &[T; 5]) -> T {
        of[usize::from(self.severity.clamp(1, SEVERITIES)) - 1]
    }

    /// How many times as fast a recording is played.
    pub fn speed(&self) -> f64 {
        match self.kind {
            Fast if self.severity > 0 => self.pick(&[1.1, 1.2, 1.3, 1.4, 1.5]),
            Slow if self.severity > 0 => self.pick(&[0.9, 0.8, 0.7, 0.6, 0.5]),
            _ => 1.0,
        }
    }

    /// The rate at which a recording is read whose samples are then taken for ones at `rate`: that is what
    /// another speed is. Lengths and windows follow of themselves.
    pub fn reading_rate(&self, rate: u32) -> u32 {
        (f64::from(rate) / self.speed()).round() as u32
    }

    /// Corrupts the wave of the recording `id`, which was read at [`Corrupt::reading_rate`]. A window of a
    /// long one is corrupted by itself: `start`, its first sample, gives it noise of its own; it hears no
    /// echo of the window before.
    ///
    /// # Errors
    /// Never for a wave of finite values; those of the filters are passed on.
    pub fn apply(&self, wave: &mut Vec<f32>, rate: u32, id: &str, start: Option<u64>) -> Result<()> {
        if self.severity == 0 || wave.is_empty() {
            return Ok(());
        }
        let name = id.rsplit(['/', '\\']).next().unwrap_or(id);
        let audio = AudioConfig { rate, ..AudioConfig::default() };
        let noise = |kind: Noise, wave: &mut Vec<f32>| {
            let snr_db = self.pick(&[20.0, 15.0, 10.0, 5.0, 0.0]);
            let level = NoiseLevel { snr_db, folder: None, kind, seed: self.seed };
            let part = start.map_or_else(|| name.to_string(), |s| format!("{name}:{s}"));
            Noisy::new(&level, &audio)?.add(wave, &part)
        };
        match self.kind {
            PinkNoise => noise(Noise::Pink, wave)?,
            WhiteNoise => noise(Noise::White, wave)?,
            Reverberation => {
                let (decay, tail_db) =
                    self.pick(&[(0.2, -6.0), (0.4, -3.0), (0.6, 0.0), (0.9, 3.0), (1.3, 6.0)]);
                let mut rng = Key::new(self.seed).named("reverberation").named(name).rng();
                // The first echo comes from a wall that is 0.7 to 4 m off.
                let gap = rng.range_f32(0.002, 0.012);
                *wave = reverberate(wave, &room(decay, gap, tail_db, rate, &mut rng))?;
            }
            BandLimit => {
                let edge = self.pick(&[4000.0, 3000.0, 2000.0, 1500.0, 1000.0f32]);
                *wave = low_pass(wave, edge.min(rate as f32 / 2.0), rate)?;
            }
            Fast | Slow => {}
            MuLaw => mu_law(wave, self.pick(&[7, 6, 5, 4, 3])),
            LowRate => {
                *wave = low_rate(wave, rate, self.pick(&[8000, 6000, 4000, 3000, 2000]).min(rate), true)?
            }
            Clipping => {
                let most = peak(wave) / 10f32.powf(self.pick(&[6.0, 12.0, 18.0, 24.0, 30.0]) / 20.0);
                wave.iter_mut().for_each(|v| *v = v.clamp(-most, most));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::snr;

    /// A second of tones that grow and fade.
    fn speech() -> Vec<f32> {
        let tone = |i: usize, hz: f32| (std::f32::consts::TAU * hz * i as f32 / 16_000.0).sin();
        let value = |i: usize| {
            let swell = (i as f32 / 3000.0).sin().abs();
            let tones = [180.0, 900.0, 1200.0, 1750.0, 2500.0, 3500.0, 5500.0];
            swell * tones.iter().map(|hz| tone(i, *hz)).sum::<f32>() / 12.0
        };
        (0..16_000).map(value).collect()
    }

    fn corrupted(kind: Corruption, severity: u8, seed: u64, id: &str) -> Vec<f32> {
        let mut wave = speech();
        Corrupt::new(kind, severity, seed).unwrap().apply(&mut wave, 16_000, id, None).unwrap();
        wave
    }

    #[test]
    fn severity_0_is_the_recording_and_more_is_further_from_it() {
        for kind in Corruption::ALL {
            assert_eq!(corrupted(kind, 0, 1, "a.wav"), speech());
            let corrupt = |severity| Corrupt::new(kind, severity, 1).unwrap();
            assert_eq!(corrupt(0).reading_rate(16_000), 16_000);
            if matches!(kind, Fast | Slow) {
                let away: Vec<f64> = (1..=5).map(|s| (corrupt(s).speed() - 1.0).abs()).collect();
                assert!(away.windows(2).all(|w| w[1] > w[0]) && away[0] > 0.05, "{away:?}");
                continue;
            }
            // Over some recordings: a room is drawn for each.
            let ratio = |severity: u8| -> f64 {
                let of = |i: u64| snr(&speech(), &corrupted(kind, severity, i, "a.wav"));
                (0..6).map(of).sum::<f64>() / 6.0
            };
            let ratios: Vec<f64> = (1..=5).map(ratio).collect();
            assert!(ratios.windows(2).all(|w| w[1] < w[0]), "{}: {ratios:?}", kind.name());
        }
    }

    #[test]
    fn noise_has_its_ratio_and_a_room_its_decay() {
        for (severity, db) in [(1, 20.0), (3, 10.0), (5, 0.0)] {
            for kind in [PinkNoise, WhiteNoise] {
                let found = snr(&speech(), &corrupted(kind, severity, 0, "x/a.wav"));
                assert!((found - db).abs() < 0.05, "{found}, {db}");
            }
        }
        // Schroeder's backward integral of the tail falls by 60 dB in the stated time: by 30 dB in half of it.
        let response = room(0.6, 0.005, 0.0, 16_000, &mut Key::new(1).rng());
        let rest = |from: usize| response[from..].iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
        let tail = 1 + 80;
        let fall = 10.0 * (rest(tail) / rest(tail + 4800)).log10();
        assert!((fall - 30.0).abs() < 2.0, "{fall}");
        // And its energy over that of the direct sound is the stated one.
        assert!((10.0 * rest(1).log10()).abs() < 0.3, "{}", rest(1));
    }

    #[test]
    fn speed_is_another_rate_of_reading() {
        let fast = Corrupt::new(Fast, 5, 0).unwrap();
        assert_eq!((fast.speed(), fast.reading_rate(16_000)), (1.5, 10_667));
        assert_eq!(Corrupt::new(Slow, 5, 0).unwrap().reading_rate(16_000), 32_000);
        assert_eq!(Corrupt::new(MuLaw, 5, 0).unwrap().reading_rate(16_000), 16_000);
    }

    #[test]
    fn what_is_drawn_depends_on_seed_and_name() {
        for kind in [PinkNoise, WhiteNoise, Reverberation] {
            let one = corrupted(kind, 3, 1, "a/x.wav");
            assert_eq!(one, corrupted(kind, 3, 1, "b/x.wav"), "the folder does not matter");
            assert_ne!(one, corrupted(kind, 3, 1, "a/y.wav"));
            assert_ne!(one, corrupted(kind, 3, 2, "a/x.wav"));
        }
        // Windows have noise of their own, in the same room.
        let window = |kind, start| {
            let mut wave = speech();
            Corrupt::new(kind, 3, 1).unwrap().apply(&mut wave, 16_000, "x.wav", Some(start)).unwrap();
            wave
        };
        assert_ne!(window(PinkNoise, 0), window(PinkNoise, 16_000));
        assert_eq!(window(Reverberation, 0), window(Reverberation, 16_000));
    }

    #[test]
    fn wrong_names_and_severities() {
        for kind in Corruption::ALL {
            assert_eq!(Corruption::named(kind.name()).unwrap(), kind);
            assert!(!kind.about().is_empty());
        }
        let error = Corruption::named("rain").unwrap_err().to_string();
        assert!(error.contains("rain") && error.contains("reverberation, band_limit"), "{error}");
        let error = Corrupt::new(Fast, 6, 0).unwrap_err().to_string();
        assert!(error.contains("severity 6") && error.contains("0 (none) to 5"), "{error}");
        // Silence and nothing stay what they are.
        for kind in Corruption::ALL {
            for wave in [vec![], vec![0.0; 500]] {
                let mut made = wave.clone();
                Corrupt::new(kind, 4, 0).unwrap().apply(&mut made, 16_000, "a", None).unwrap();
                assert_eq!(made, wave, "{}", kind.name());
            }
        }
    }
}

//! Keys of recordings.

use super::walk::{Walk, check, noise};

#[test]
fn of_recordings() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..6 {
        let mut hiss = noise(i + 1);
        // One is longer than the shortest window.
        let wave: Vec<f32> = (0..if i == 0 { 20_000 } else { 12_000 + 400 * i })
            .map(|t| 0.3 * ((t as f32) * 0.02 * (1.0 + i as f32)).sin() + 0.1 * (hiss() - 0.5))
            .collect();
        let path = dir.path().join(format!("{i}.wav"));
        selfsup_speech::audio::write_wav(&path, &wave, 16_000).unwrap();
    }
    check::<crate::modality::speech::Speech>(&Walk {
        made: false,
        data: &dir.path().display().to_string(),
        small: &[
            "input.crop_seconds=0.6",
            "encoder.dim=8",
            "encoder.depth=2",
            "encoder.heads=2",
            "encoder.front_dim=8",
            "encoder.position_kernel=8",
            "encoder.position_groups=2",
        ],
        networks: &[&[]],
        sizes: &["method.iterations=[{features='mfcc', clusters=4, steps=2}]", "method.mask.length=2"],
        sections: &["input", "transcript"],
        values: &[
            ("encoder.mask", "{ prob = 0.3 }"),
            ("encoder.channel_mask", "{ prob = 0.3 }"),
            ("encoder.front_gradient", "0.5"),
            ("input.noise", "{ snr_db = 3.0 }"),
            ("input.augment", "[{ name = 'gain', db = [-6.0, -3.0], p = 1.0 }]"),
            ("input.crop_seconds", "0.4"),
            ("input.min_seconds", "9.0"),
            ("input.max_seconds", "0.1"),
            ("input.audio.max_seconds", "0.1"),
            ("input.audio.rate", "8000"),
            ("method.gumbel_end", "2.0"),
            ("method.mask.min_spans", "14"),
            ("method.top_layers", "1"),
            ("encoder.layer_drop", "0.9"),
            ("encoder.stable_layer_norm", "true"),
            ("encoder.front_norm", "'group'"),
            ("transcript.drop", "'x'"),
            ("transcript.keep", "'x'"),
            ("method.iterations", "[{features='mfcc', clusters=3, steps=2}]"),
        ],
        neutral: &["encoder.pretrained"],
    });
}

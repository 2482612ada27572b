//! Keys of signals.

use super::walk::{Walk, check, noise};
use std::fmt::Write;

#[test]
fn of_signals() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..6u32 {
        let mut hiss = noise(i + 1);
        let mut text = String::from("time,ABP [mmHg],SpO2 [%]\n");
        for t in 0..240 {
            let beat = (0.3 * t as f32 * (1.0 + 0.1 * i as f32)).sin();
            // A short gap, a long one, and a flat line.
            let gone = matches!(t, 20..23 | 60..80);
            let pulse = if gone { String::new() } else { format!("{}", 80.0 + 20.0 * beat + hiss()) };
            let oxygen = if (150..170).contains(&t) { 97.0 } else { 95.0 + 3.0 * hiss() + beat };
            writeln!(text, "{:.2},{pulse},{oxygen}", 0.01 * t as f32).unwrap();
        }
        std::fs::write(dir.path().join(format!("{i}.csv")), text).unwrap();
    }
    check::<crate::modality::signals::Signals>(&Walk {
        made: false,
        data: &dir.path().display().to_string(),
        small: &["modality=signals", "augment.length=128", "signal.rate=80.0", "signal.gap_seconds=0.05"],
        networks: &[
            &[
                "encoder.name=dilated",
                "encoder.channels=2",
                "encoder.hidden=6",
                "encoder.dim=8",
                "encoder.depth=2",
            ],
            &[
                "encoder.name=resnet1d18",
                "encoder.channels=2",
                "encoder.depths=[1, 1]",
                "encoder.widths=[4, 6]",
            ],
            &[
                "encoder.name=patchtst",
                "encoder.channels=2",
                "encoder.patch=8",
                "encoder.dim=12",
                "encoder.depth=2",
                "encoder.heads=2",
                "encoder.hidden=16",
            ],
            &[
                "encoder.name=patch_transformer",
                "encoder.channels=2",
                "encoder.patch=8",
                "encoder.dim=12",
                "encoder.depth=2",
                "encoder.heads=2",
            ],
        ],
        sizes: &["method.mask_unit=1", "method.gap=0.0"],
        sections: &["augment", "signal"],
        values: &[
            ("method.freeze_last_layer", "0"),
            ("method.freeze_prototypes", "0"),
            ("method.queue_from_epoch", "0"),
            ("method.min_context", "0"),
            ("encoder.channels", "3"),
            ("augment.p", "1.0"),
            ("augment.hum", "0.5"),
            ("augment.hum_hz", "20.0"),
            ("augment.permute", "4"),
            ("augment.drop_channel", "0.9"),
            ("signal.channels", "['SpO2']"),
            ("signal.band", "[1.0, 20.0]"),
            ("signal.order", "2"),
            ("signal.rate", "60.0"),
            ("signal.gaps", "refuse"),
            ("signal.gap_seconds", "0.5"),
            ("signal.flat_seconds", "0.1"),
            ("signal.max_missing", "0.01"),
        ],
        // Of files that state no rate.
        neutral: &["encoder.pretrained", "signal.source_rate"],
    });
}

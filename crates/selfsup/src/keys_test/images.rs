//! Keys of images.

use super::walk::{Walk, check, noise};

#[test]
fn of_images() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..8 {
        let mut noise = noise(i + 1);
        let picture =
            image::RgbImage::from_fn(20, 20, |_, _| image::Rgb([0; 3].map(|_: u8| (noise() * 255.0) as u8)));
        picture.save(dir.path().join(format!("{i}.png"))).unwrap();
    }
    let vit = ["encoder.name=vit", "encoder.dim=8", "encoder.depth=2", "encoder.heads=2", "encoder.patch=8"];
    check::<crate::modality::vision::Vision>(&Walk {
        made: false,
        data: &dir.path().display().to_string(),
        small: &["augment.size=32"],
        networks: &[
            &["encoder.name=resnet", "encoder.depths=[1, 1]", "encoder.widths=[4, 6]", "encoder.stem=4"],
            &["encoder.name=convnext", "encoder.depths=[1, 1]", "encoder.widths=[4, 6]"],
            &[
                "encoder.name=swin",
                "encoder.dim=8",
                "encoder.depths=[2, 1]",
                "encoder.heads=[1, 2]",
                "encoder.window=2",
            ],
            &vit,
        ],
        sizes: &[],
        sections: &["augment", "volumes"],
        values: &[
            // What begins with an epoch begins with the first.
            ("method.freeze_last_layer", "0"),
            ("method.freeze_prototypes", "0"),
            ("method.queue_from_epoch", "0"),
            ("encoder.channels", "1"),
            ("encoder.bottleneck", "true"),
            ("encoder.small_images", "false"),
            ("encoder.act", "quick_gelu"),
            ("encoder.registers", "2"),
            ("encoder.positions", "patches"),
            // Pooling by the class token wants one.
            ("encoder.class_token", "false"),
            // A grid of 16 patches has contexts of a few.
            ("method.min_context", "0"),
            ("method.target_ratio", "[0.1, 0.2]"),
        ],
        // The interpolation of positions shows with crops of several sizes only; the norm of a class token is
        // the same before and after pooling; only values of 16 bits are stretched.
        neutral: &[
            "encoder.pretrained",
            "encoder.interpolation",
            "encoder.final_norm",
            "augment.stretch",
            "volumes",
        ],
    });
}

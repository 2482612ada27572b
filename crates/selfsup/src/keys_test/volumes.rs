//! Keys of volumes.

use super::walk::{Walk, check, noise};

#[test]
fn of_volumes() {
    use selfsup_medical::{Volume, grid::Grid, write};
    let dir = tempfile::tempdir().unwrap();
    for i in 0..4u32 {
        let mut noise = noise(i + 1);
        // Dark outside of a box.
        let inside = |i: usize| [i / 400, i / 20 % 20, i % 20].iter().all(|x| (4..15).contains(x));
        let values = (0..8000).map(|i| noise() * if inside(i) { 1.0 } else { 0.2 }).collect();
        let grid = Grid::with_spacing([20; 3], [1.0; 3]).unwrap();
        let volume = Volume::new("noise", grid, values).unwrap();
        write::volume(dir.path().join(format!("{i}.nii")), &volume).unwrap();
    }
    check::<crate::modality::medical::Medical>(&Walk {
        made: false,
        data: &dir.path().display().to_string(),
        small: &["augment.size=[8, 8, 8]", "volumes.patches=2"],
        networks: &[
            &["encoder.name=unet3d", "encoder.widths=[4, 6]"],
            &["encoder.name=monai_unet", "encoder.widths=[4, 6]"],
            &[
                "encoder.name=resnet3d",
                "encoder.depths=[1, 1, 1]",
                "encoder.widths=[4, 6, 8]",
                "encoder.stem=4",
            ],
            &[
                "encoder.name=vit3d",
                "encoder.dim=12",
                "encoder.depth=2",
                "encoder.heads=2",
                "encoder.patch=[4, 4, 4]",
            ],
        ],
        // Volumes of eight voxels have no room for more.
        sizes: &["method.mask_unit=1", "method.gap=0.0"],
        sections: &["augment", "volumes"],
        values: &[
            ("method.freeze_last_layer", "0"),
            ("method.freeze_prototypes", "0"),
            ("method.queue_from_epoch", "0"),
            ("method.shuffle_boxes", "100000"),
            ("method.outer_boxes", "1"),
            ("method.min_context", "0"),
            ("method.target_ratio", "[0.1, 0.2]"),
            ("encoder.small", "false"),
            ("augment.foreground", "0.5"),
            ("augment.spacing", "[2.0, 2.0, 2.0]"),
            ("volumes.keep", "[0.1, 0.9]"),
            ("volumes.scale", "{ kind = 'percentiles', low = 1.0, high = 99.0 }"),
        ],
        neutral: &[
            "encoder.pretrained",
            "volumes.in_memory",
            "volumes.memory_mb",
            "volumes.cache_mb",
            "volumes.memory_mb",
            "volumes.blocks_gb",
            "volumes.blocks",
            "volumes.blocks_gb",
            // Of volumes with one channel.
            "method.gray_p",
            "method.drop_channels",
            // Files of several volumes, values that are not finite.
            "volumes.read",
            // Makes images of volumes: another modality.
            "volumes.slices",
        ],
    });
}

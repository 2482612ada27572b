//! Slices of volumes and radiographs as images, through the real command.

use crate::common::{command, good, refused};
use candle_core::Device;
use selfsup::medical::grid::Grid;
use std::path::Path;
use std::process::Output;

fn selfsup(args: &[&str], more: &[&str]) -> Output {
    // A dry run draws pictures where it is started.
    let here = tempfile::tempdir().unwrap();
    command(&[args, more].concat()).current_dir(here.path()).output().unwrap()
}

fn embeddings(run: &Path, data: &[&str], out: &Path) -> Vec<usize> {
    good(&selfsup(&["embed", &run.display().to_string(), "--out", &out.display().to_string()], data));
    candle_core::safetensors::load(out, &Device::Cpu).unwrap()["embeddings"].dims().to_vec()
}

const SMALL: &[&str] = &[
    "encoder.name=resnet",
    "encoder.widths=[4, 8]",
    "encoder.depths=[1, 1]",
    "encoder.channels=1",
    "augment.size=16",
    "method.hidden_dim=8",
    "method.out_dim=4",
    "train.batch_size=4",
    "train.steps=2",
    "eval.online_knn=0",
];

/// Four volumes of 10 x 14 x 12 voxels: bright ones and dark ones, with a bright edge so that their range is
/// the same.
fn scans(root: &Path) {
    for i in 0..4usize {
        let grid = Grid::with_spacing([10, 14, 12], [1.0; 3]).unwrap();
        let values: Vec<f32> = (0..10 * 14 * 12)
            .map(|v| match v % 12 {
                0 => 1000.0,
                11 => 0.0,
                _ if i < 2 => 700.0 + (v * 7 % 97) as f32,
                _ => 200.0 + (v * 11 % 97) as f32,
            })
            .collect();
        std::fs::create_dir_all(root).unwrap();
        selfsup::medical::write::values(root.join(format!("{i}.nii.gz")), &grid, None, &values).unwrap();
    }
}

#[test]
fn slices_are_images() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    scans(&dir.path().join("scans"));
    let (data, run) = (at("scans"), at("run"));
    let dry = good(&selfsup(
        &["pretrain", "--data", &data, "--dry-run", "volumes.slices=axial", "data.hold_out=0.4"],
        SMALL,
    ));
    assert!(dry.contains("view 1: [4, 1, 16, 16]"), "{dry}");
    // Whole volumes of 10 slices are held out.
    let counts = dry.lines().find_map(|l| l.strip_prefix("images: ")).unwrap();
    let counts: Vec<usize> = counts.split(' ').filter_map(|w| w.parse().ok()).collect();
    assert!(counts[0] + counts[1] == 40 && counts.iter().all(|n| n % 10 == 0), "{dry}");
    good(&selfsup(
        &["pretrain", "--data", &data, "--no-probe", "--out", &run, "volumes.slices=axial"],
        SMALL,
    ));
    let config = std::fs::read_to_string(dir.path().join("run/config.toml")).unwrap();
    assert!(config.contains("modality = \"vision\"") && config.contains("slices = \"axial\""), "{config}");
    let made = |more: &[&str]| embeddings(&dir.path().join("run"), more, &dir.path().join("e.safetensors"));
    assert_eq!(made(&[]), [40, 8]);
    assert!(dir.path().join("run/model/config.json").exists());

    // The middle half of coronal slices, from blocks on the disk, by MoCo and BYOL, whose objectives are
    // those of images.
    for method in ["moco", "byol"] {
        let out = at(method);
        let blocks = format!("volumes.blocks={}", at("blocks"));
        let method = ["--method", method, "method.hidden_dim=8", "method.out_dim=4"];
        let rest: Vec<&str> = SMALL.iter().copied().filter(|s| !s.starts_with("method.")).collect();
        good(&selfsup(
            &[
                "pretrain",
                "--data",
                &data,
                "--no-probe",
                "--out",
                &out,
                "volumes.slices=coronal",
                "volumes.keep=[0.25, 0.75]",
            ],
            &[&method[..], &rest, &["volumes.in_memory=100", &blocks, "data.hold_out=0"]].concat(),
        ));
    }
    // Blocks, and the statistics of each volume beside them.
    let ending = |ending: &str| {
        let names = std::fs::read_dir(dir.path().join("blocks")).unwrap().map(|e| e.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().ends_with(ending)).count()
    };
    assert_eq!([".blocks", ".scale.json"].map(ending), [4, 4]);
    // Rounded: slices 4 to 10 of 14.
    assert_eq!(embeddings(&dir.path().join("moco"), &[], &dir.path().join("m.safetensors")), [28, 8]);

    // A table speaks of volumes; a volume's slices are never divided, and its patient's neither.
    let table = dir.path().join("labels.csv");
    std::fs::write(
        &table,
        "path,label,patient,split\n0.nii.gz,bright,a,train\n1.nii.gz,bright,b,test\n2.nii.gz,dark,c,train\n3.nii.gz,dark,d,test\n",
    )
    .unwrap();
    let (labels, tuned) = (table.display().to_string(), at("tuned"));
    good(&selfsup(
        &["finetune", "--run", &run, "--labels", &labels, "--out", &tuned],
        &["train.epochs=10", "train.steps=0", "train.batch_size=8", "optim.lr=0.01", "optim.layer_decay=1.0"],
    ));
    let found: serde_json::Value =
        serde_json::from_slice(&std::fs::read(dir.path().join("tuned/result.json")).unwrap()).unwrap();
    assert_eq!((found["train"].as_u64(), found["classes"].as_u64()), (Some(20), Some(2)));
    assert!(found["test"]["accuracy"].as_f64().unwrap() > 90.0, "{found}");
    std::fs::write(
        &table,
        "path,label,patient,split\n0.nii.gz,bright,a,train\n1.nii.gz,bright,a,test\n2.nii.gz,dark,c,train\n",
    )
    .unwrap();
    refused(
        &selfsup(&["finetune", "--run", &run, "--labels", &labels, "--out", &at("leak")], &[]),
        &["group `a`", "training data", "leak"],
    );

    refused(&selfsup(&["pretrain", "--data", &data, "volumes.slices=oblique"], SMALL), &["oblique", "axial"]);
    refused(
        &selfsup(&["pretrain", "--data", &data, "volumes.slices=axial", "volumes.keep=[0.9, 0.2]"], SMALL),
        &["volumes.keep"],
    );
    refused(&selfsup(&["pretrain", "--data", &data, "volumes.slices=stored"], SMALL), &["0.nii.gz"]);
    refused(
        &selfsup(
            &["pretrain", "--data", &data, "volumes.slices=axial", "volumes.scale={ kind = \"z-score\" }"],
            SMALL,
        ),
        &["volumes.scale"],
    );
}

/// A radiograph as explicit little endian DICOM: 20 rows, 24 columns, 8 bits, no place in space.
fn radiograph(path: &Path, photometric: &str, value: impl Fn(usize) -> u8) {
    film(path, photometric, None, value);
}

/// The same, or a slice of pixels of 1 mm at height `z` of a series.
pub fn film(path: &Path, photometric: &str, z: Option<f64>, value: impl Fn(usize) -> u8) {
    let element = |tag: (u16, u16), vr: &str, mut value: Vec<u8>| {
        if value.len() % 2 == 1 {
            value.push(if vr == "UI" { 0 } else { b' ' });
        }
        let mut out = [tag.0.to_le_bytes(), tag.1.to_le_bytes()].concat();
        out.extend(vr.as_bytes());
        if vr == "OB" {
            out.extend([0, 0]);
            out.extend((value.len() as u32).to_le_bytes());
        } else {
            out.extend((value.len() as u16).to_le_bytes());
        }
        out.extend(value);
        out
    };
    let text = |tag, vr, value: &str| element(tag, vr, value.as_bytes().to_vec());
    let number = |tag, value: u16| element(tag, "US", value.to_le_bytes().to_vec());
    let version = [&[2, 0, 1, 0][..], b"OB", &[0, 0, 2, 0, 0, 0, 0, 1]].concat();
    let meta = [
        version,
        text((2, 2), "UI", "1.2.840.10008.5.1.4.1.1.7"),
        text((2, 3), "UI", "1.2.3"),
        text((2, 0x10), "UI", "1.2.840.10008.1.2.1"),
        text((2, 0x12), "UI", "1.2.3.4"),
    ]
    .concat();
    let mut out = vec![0; 128];
    out.extend(b"DICM");
    out.extend(element((2, 0), "UL", (meta.len() as u32).to_le_bytes().to_vec()));
    out.extend(meta);
    out.extend(text((8, 0x60), "CS", if z.is_some() { "MR" } else { "DX" }));
    if let Some(z) = z {
        out.extend(text((0x20, 0xE), "UI", "1.2.3.5"));
        out.extend(text((0x20, 0x32), "DS", &format!("0\\0\\{z}")));
        out.extend(text((0x20, 0x37), "DS", "1\\0\\0\\0\\1\\0"));
    }
    out.extend(number((0x28, 2), 1));
    out.extend(text((0x28, 4), "CS", photometric));
    (0x10..0x12).for_each(|tag| out.extend(number((0x28, tag), 20 + 4 * (tag - 0x10))));
    if z.is_some() {
        out.extend(text((0x28, 0x30), "DS", "1\\1"));
    }
    for (tag, value) in [(0x100, 8), (0x101, 8), (0x102, 7), (0x103, 0)] {
        out.extend(number((0x28, tag), value));
    }
    out.extend(element((0x7FE0, 0x10), "OB", (0..20 * 24).map(value).collect()));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, out).unwrap();
}

#[test]
fn radiographs_are_images() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..6usize {
        let kind = if i % 2 == 0 { "MONOCHROME1" } else { "MONOCHROME2" };
        radiograph(
            &dir.path().join(format!("films/{}/{i}.dcm", if i < 3 { "left" } else { "right" })),
            kind,
            |p| ((p * 31 + i) % 251) as u8,
        );
    }
    let (data, run) = (dir.path().join("films").display().to_string(), dir.path().join("run"));
    let out = run.display().to_string();
    // They have no place in space, so they are no volumes.
    refused(&selfsup(&["pretrain", "--data", &data], &["augment.size=[8, 8, 8]"]), &[".dcm", "not guessed"]);
    let said = good(&selfsup(
        &[
            "pretrain",
            "--data",
            &data,
            "--no-probe",
            "--out",
            &out,
            "volumes.slices=stored",
            "data.hold_out=0",
        ],
        SMALL,
    ));
    assert!(said.contains("on 6 images"), "{said}");
    assert_eq!(embeddings(&run, &[], &dir.path().join("e.safetensors")), [6, 8]);
}

//! Data with a fault: copies of one sample, and light or stripes that give the answer away.

use image::{Rgb, RgbImage};
use selfsup::medical::Grid;
use selfsup_core::{Error, Key, Result};
use selfsup_speech::audio::write_wav;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Side of a picture.
const SIDE: u32 = 28;

/// Makes the data below `root`, where it is not there yet; returns each folder by its name.
pub fn make(root: &Path) -> Result<BTreeMap<&'static str, PathBuf>> {
    type Make = fn(&Path) -> Result<()>;
    let made: [(&str, Make); 6] = [
        ("same-images", |at| pictures(at, |_, x, y| blob(x, y))),
        ("lit-images", |at| pictures(at, |i, x, y| noise(i, x, y) / 2 + 4 * y as u8)),
        ("striped-images", |at| pictures(at, |i, x, y| stripe(x, y) / 2 + noise(i, x, y) / 4)),
        ("same-texts", texts),
        ("same-recordings", recordings),
        ("same-volumes", volumes),
    ];
    let mut out = BTreeMap::new();
    for (name, make) in made {
        let folder = root.join("data").join(name);
        if !folder.exists() {
            std::fs::create_dir_all(&folder).map_err(|e| Error::io(&folder, e))?;
            make(&folder)?;
        }
        out.insert(name, folder);
    }
    Ok(out)
}

/// A shape in the middle of nothing.
fn blob(x: u32, y: u32) -> u8 {
    let (dx, dy) = (f64::from(x) - 12.0, f64::from(y) - 15.0);
    (255.0 * (-(dx * dx / 40.0 + dy * dy / 20.0)).exp()) as u8
}

/// Stripes that grow finer to the right and steeper downwards: every tile has its own.
fn stripe(x: u32, y: u32) -> u8 {
    let (x, y) = (f64::from(x), f64::from(y));
    let phase = x * (0.4 + x / 28.0) + y * y / 20.0;
    (127.5 * (1.0 + phase.sin())) as u8
}

fn noise(i: u32, x: u32, y: u32) -> u8 {
    (Key::new(u64::from(i)).fold(u64::from(y * SIDE + x)).rng().uniform() * 255.0) as u8
}

/// 400 pictures of one channel.
fn pictures(folder: &Path, pixel: impl Fn(u32, u32, u32) -> u8) -> Result<()> {
    for i in 0..400 {
        let picture = RgbImage::from_fn(SIDE, SIDE, |x, y| Rgb([pixel(i, x, y); 3]));
        let path = folder.join(format!("{i:03}.png"));
        picture.save(&path).map_err(|e| Error::file(&path, e))?;
    }
    Ok(())
}

/// A corpus of one sentence.
fn texts(folder: &Path) -> Result<()> {
    let line = "a small bird of the woods that feeds on the seeds of tall grass and sings at dawn\n";
    let path = folder.join("corpus.txt");
    std::fs::write(&path, line.repeat(1500)).map_err(|e| Error::io(&path, e))
}

/// 24 copies of a tone that rises and falls.
fn recordings(folder: &Path) -> Result<()> {
    let wave: Vec<f32> = (0..48_000)
        .map(|t| {
            let t = t as f32 / 16_000.0;
            0.3 * (std::f32::consts::TAU * (220.0 * t + 40.0 * (3.0 * t).sin())).sin()
        })
        .collect();
    (0..24).try_for_each(|i| write_wav(&folder.join(format!("{i:02}.wav")), &wave, 16_000))
}

/// Volumes of one value: every patch is the same.
fn volumes(folder: &Path) -> Result<()> {
    let grid = Grid::with_spacing([24, 24, 24], [1.0; 3])?;
    let values = vec![100.0; 24 * 24 * 24];
    (0..4).try_for_each(|i| {
        selfsup::medical::write::values(folder.join(format!("{i}.nii.gz")), &grid, None, &values)
    })
}

//! Boxes read from blocks are the volume's, whatever its axes; damage is seen; nothing is left of a failure.

use super::layout::EDGE;
use super::*;
use crate::grid::{Affine, Grid, Stored, affine_of_spacing};
use crate::read::{ReadConfig, Slices};
use crate::transform::Scale;
use crate::volume::Volume;
use proptest::prelude::*;
use selfsup_core::data::Transform;
use selfsup_core::{Key, Result};
use std::sync::{Arc, Mutex};

/// Slices made of a function of their voxels' numbers, and how many were asked for at a time.
struct Made {
    stored: Stored,
    next: usize,
    whole: bool,
    most: Arc<Mutex<usize>>,
    value: fn(usize) -> f32,
}

impl Slices for Made {
    fn id(&self) -> &str {
        "made"
    }
    fn stored(&self) -> &Stored {
        &self.stored
    }
    fn is_i16(&self) -> bool {
        self.whole
    }
    fn next(&mut self, out: &mut [f32]) -> Result<()> {
        let mut most = self.most.lock().unwrap();
        *most = out.len().max(*most);
        for v in out {
            *v = (self.value)(self.next);
            self.next += 1;
        }
        Ok(())
    }
}

fn made(stored: &Stored, whole: bool, value: fn(usize) -> f32) -> Box<Made> {
    Box::new(Made { stored: stored.clone(), next: 0, whole, most: Arc::default(), value })
}

fn value(at: usize) -> f32 {
    (at * 7919 % 65536) as f32 - 32768.0
}

/// An affine whose stored axes are a permutation with signs.
fn turned(order: [usize; 3], signs: [bool; 3]) -> Affine {
    let mut affine = [[0.0; 4], [0.0; 4], [0.0; 4], [0.0, 0.0, 0.0, 1.0]];
    for a in 0..3 {
        affine[order[a]][a] = (1.0 + a as f64) * if signs[a] { -1.0 } else { 1.0 };
    }
    affine
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Any box of any turned volume is the same from blocks as from memory.
    #[test]
    fn blocks_are_the_volume(
        order in Just([0usize, 1, 2]).prop_shuffle(),
        signs in prop::array::uniform3(any::<bool>()),
        shape in prop::array::uniform3(1usize..70),
        start in prop::array::uniform3(-9isize..70),
        part in prop::array::uniform3(1usize..50),
        whole in any::<bool>(),
    ) {
        let stored = Stored::new(shape, turned(order, signs)).unwrap();
        let n = shape.iter().product();
        let volume = Volume::from_stored("v", stored.clone(), (0..n).map(value).collect()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v.blocks");
        let source = made(&stored, whole, value);
        let most = source.most.clone();
        convert(source, &path, &ReadConfig::default()).unwrap();
        // Never more slices at a time than a block is thick.
        prop_assert!(*most.lock().unwrap() <= EDGE * shape[0] * shape[1]);
        prop_assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        let cache = BlockCache::new(1 << 18);
        let blocks = BlockVolume::new("v", BlockFile::open(&path, cache.clone()).unwrap(), None).unwrap();
        prop_assert_eq!(blocks.grid(), volume.grid());
        prop_assert_eq!(blocks.stored(), &stored);
        for (start, part) in [(start, part), ([0; 3], volume.shape())] {
            prop_assert_eq!(blocks.part(start, part, 5.0).unwrap(), {
                let (grid, values, _) = volume.part(start, part, 5.0).unwrap().into_parts();
                Volume::new("v", grid, values).unwrap()
            });
        }
        prop_assert!(cache.bytes() <= 1 << 18);
    }
}

#[test]
fn a_large_volume_needs_its_patches_and_the_cache() {
    // 24 blocks of 64 KiB, a cache of 4: reading everything twice keeps to it.
    let stored = Stored::new([60, 90, 120], affine_of_spacing([1.0; 3])).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("v.blocks");
    convert(made(&stored, true, value), &path, &ReadConfig::default()).unwrap();
    let cache = BlockCache::new(4 << 16);
    let file = BlockFile::open(&path, cache.clone()).unwrap();
    let all = file.read([0; 3], [120, 90, 60], 0.0).unwrap();
    assert!(all.iter().enumerate().all(|(i, v)| *v == value(i)));
    assert_eq!((cache.reads(), cache.bytes()), (24, 4 << 16));
    // A patch inside one block reads one.
    file.read([1; 3], [4; 3], 0.0).unwrap();
    assert_eq!(cache.reads(), 25);
    file.read([2; 3], [4; 3], 0.0).unwrap();
    assert_eq!(cache.reads(), 25);
}

#[test]
fn damage_is_seen() {
    let stored = Stored::new([40, 3, 3], affine_of_spacing([1.0; 3])).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("v.blocks");
    convert(made(&stored, false, value), &path, &ReadConfig::default()).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let open = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        BlockFile::open(&path, BlockCache::new(1 << 20))
    };
    for cut in [0, 7, 30, whole.len() / 2, whole.len() - 1] {
        assert!(open(&whole[..cut]).err().unwrap().to_string().contains("cut short"), "{cut}");
    }
    let mut flipped = whole.clone();
    let at = flipped.len() - 104;
    flipped[at] ^= 1;
    let file = open(&flipped).unwrap();
    assert!(file.read([0; 3], [1, 1, 1], 0.0).is_ok());
    let e = file.read([0, 0, 35], [1, 1, 1], 0.0).unwrap_err().to_string();
    assert!(e.contains("block 1 is damaged") && e.contains("v.blocks"), "{e}");
    // A bit anywhere: an error, or the numbers as they are.
    let expected = open(&whole).unwrap().read([0; 3], [3, 3, 40], 0.0).unwrap();
    let header = 16 + u64::from_le_bytes(whole[8..16].try_into().unwrap()) as usize;
    let end = whole.len();
    let blocks = (header..end - 12).step_by(4099);
    for at in (0..header).chain(blocks).chain(end - 12..end) {
        for bit in 0..8 {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << bit;
            let read = open(&flipped).and_then(|file| file.read([0; 3], [3, 3, 40], 0.0));
            assert!(
                read.as_ref().err().is_some_and(|e| e.to_string().contains("v.blocks")),
                "bit {bit} of {at}"
            );
        }
    }
    assert_eq!(open(&whole).unwrap().read([0; 3], [3, 3, 40], 0.0).unwrap(), expected);
    let mut lying = whole;
    let text = String::from_utf8_lossy(&lying[16..200]).into_owned();
    let at = 16 + text.find("32").unwrap();
    lying[at..at + 2].copy_from_slice(b"99");
    assert!(open(&lying).is_err());
}

#[test]
fn a_failed_conversion_leaves_nothing() {
    let stored = Stored::new([3, 3, 40], affine_of_spacing([1.0; 3])).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("v.blocks");
    let holed = |at: usize| if at == 9 * 35 + 4 { f32::NAN } else { 1.0 };
    let e = convert(made(&stored, false, holed), &path, &ReadConfig::default()).unwrap_err().to_string();
    assert!(e.contains("made") && e.contains("[1, 1, 35]"), "{e}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    let config = ReadConfig { not_finite: crate::read::NotFinite::Replace(-2.0), ..Default::default() };
    convert(made(&stored, false, holed), &path, &config).unwrap();
    let file = BlockFile::open(&path, BlockCache::new(1 << 20)).unwrap();
    assert_eq!(file.read([35, 1, 0], [1, 1, 3], 0.0).unwrap(), [1.0, -2.0, 1.0]);
}

#[test]
fn converted_once_and_again_when_the_source_changes() {
    let dir = tempfile::tempdir().unwrap();
    let (source, labels) = (dir.path().join("image.nii.gz"), dir.path().join("labels.nii.gz"));
    let folder = dir.path().join("cache/deep");
    let grid = Grid::with_spacing([5, 6, 7], [2.0, 1.0, 1.0]).unwrap();
    let write = |first: f32| {
        let mut values: Vec<f32> = (0..210).map(|v| v as f32).collect();
        values[0] = first;
        crate::write::volume(&source, &Volume::new("v", grid.clone(), values).unwrap()).unwrap();
    };
    write(3.5);
    let classes: Vec<u16> = (0..210).map(|v| v % 5).collect();
    crate::write::labels(&labels, &grid, None, &classes).unwrap();
    let cache = BlockCache::new(1 << 20);
    let read = || cached(&source, Some(&labels), &folder, &ReadConfig::default(), &cache).unwrap();
    let part = read().part([0; 3], [1, 1, 3], 0.0).unwrap();
    assert_eq!((part.values(), part.labels().unwrap()), (&[3.5, 1.0, 2.0][..], &[0, 1, 2][..]));
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 2);
    read();
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 2);
    write(-88.25);
    assert_eq!(read().part([0; 3], [1, 1, 1], 0.0).unwrap().values(), [-88.25]);
    // A damaged cache is made anew, not trusted.
    for entry in std::fs::read_dir(&folder).unwrap() {
        std::fs::write(entry.unwrap().path(), b"SSVOL").unwrap();
    }
    assert_eq!(read().part([0; 3], [1, 1, 1], 0.0).unwrap().values(), [-88.25]);
    // Nothing in the cache tells where it came from.
    for entry in std::fs::read_dir(&folder).unwrap() {
        let entry = entry.unwrap();
        assert!(!String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap()).contains("image.nii"));
        assert!(!entry.file_name().to_string_lossy().contains("image"));
    }
    let other = dir.path().join("other.nii");
    crate::write::labels(&other, &Grid::with_spacing([5, 6, 8], [2.0, 1.0, 1.0]).unwrap(), None, &[0; 240])
        .unwrap();
    let e = cached(&source, Some(&other), &folder, &ReadConfig::default(), &cache).err().unwrap().to_string();
    assert!(e.contains("another grid") && e.contains("5 x 6 x 8"), "{e}");
}

/// In memory or in blocks, a patch has the same values.
#[test]
fn scaled_as_the_whole_volume() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("image.nii.gz");
    let grid = Grid::with_spacing([40, 9, 50], [2.0, 1.0, 1.0]).unwrap();
    // Two thirds are air, and a few voxels are very bright: percentiles of a patch are not those of the volume.
    let values: Vec<f32> =
        (0..18_000).map(|i| if i < 12_000 { -1000.0 } else { (i * 37 % 1500) as f32 }).collect();
    let whole = Volume::new("v", grid, values).unwrap();
    crate::write::volume(&source, &whole).unwrap();
    let cache = BlockCache::new(1 << 20);
    let blocks = || cached(&source, None, dir.path(), &ReadConfig::default(), &cache).unwrap();
    for scale in [
        Scale::default(),
        Scale::Percentiles { low: 10.0, high: 90.0, foreground: true },
        Scale::ZScore { foreground: true },
        Scale::Window { low: -160.0, high: 240.0 },
    ] {
        let expected = scale.apply(whole.clone(), &mut Key::new(0).rng()).unwrap();
        // The second time from the file beside the blocks; a damaged one is not trusted.
        for round in 0..3 {
            let scaled = Scaled::new(blocks(), &scale).unwrap();
            for (start, shape) in [([30, 1, 3], [8, 8, 20]), ([-2, 0, 40], [6, 9, 16])] {
                let (a, b) =
                    (scaled.part(start, shape, 0.25).unwrap(), expected.part(start, shape, 0.25).unwrap());
                assert_eq!(a.values(), b.values(), "{scale:?} {round}");
            }
            let kept: Vec<_> = std::fs::read_dir(dir.path())
                .unwrap()
                .map(|e| e.unwrap().path())
                .filter(|p| p.to_string_lossy().ends_with(".scale.json"))
                .collect();
            if round == 1 {
                let text = std::fs::read_to_string(&kept[0]).unwrap();
                kept.iter().for_each(|p| std::fs::write(p, text.replace("[[", "[[1")).unwrap());
            }
        }
    }
}

//! A CT of 512^3 never needs more memory than its patches and a bounded cache.
//!
//! The peak of a process holds for all that it ever did, so the volume is written here and read by a child:
//! this very test, told by a variable.

use selfsup_core::Key;
use selfsup_core::data::{Dataset, Transform};
use selfsup_medical::blocks::cached;
use selfsup_medical::{BlockCache, Grid, PatchConfig, Patches, RandomPatch, ReadConfig, Volume, write};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// Voxels of a side: 256 MiB in 16 bits, 512 as the floats that patches are.
const SIDE: usize = 512;
const CACHE: usize = 16 << 20;
/// The bound on the whole process, in MiB. What is needed: a layer of 32 slices as floats and its blocks
/// while the file is converted, 32 MiB each, the cache, 16, patches of 96^3, 3.4 each, and the program.
const BOUND: usize = 192;
const TOLD: &str = "SELFSUP_MEMORY_TEST";

/// Peak of the resident memory of this process, in MiB.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() / 1024
}

/// The value of a voxel: smooth with a little noise, as a CT is.
fn value(x: usize, y: usize, z: usize) -> i16 {
    ((x * x + y * y) / 256 + 3 * z) as i16 - 1024 + ((x * 7 + y * 13 + z * 31) % 17) as i16
}

/// The volume as NIfTI of 16 bits, slice by slice.
fn source(path: &Path) {
    let small = path.with_file_name("small.nii");
    let grid = Grid::with_spacing([1, 1, 1], [0.7; 3]).unwrap();
    write::volume(&small, &Volume::new("v", grid, vec![0.0]).unwrap()).unwrap();
    let mut header = std::fs::read(small).unwrap()[..352].to_vec();
    for at in [42, 44, 46] {
        header[at..at + 2].copy_from_slice(&(SIDE as i16).to_le_bytes());
    }
    header[70..74].copy_from_slice(&[4, 0, 16, 0]);
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path).unwrap());
    out.write_all(&header).unwrap();
    for z in 0..SIDE {
        let slice: Vec<u8> =
            (0..SIDE * SIDE).flat_map(|i| value(i % SIDE, i / SIDE, z).to_le_bytes()).collect();
        out.write_all(&slice).unwrap();
    }
    out.flush().unwrap();
}

/// Turns the volume into blocks and reads patches from all over it.
fn read(path: &Path) {
    let cache = BlockCache::new(CACHE);
    let scan = cached(path, None, &path.with_file_name("blocks"), &ReadConfig::default(), &cache).unwrap();
    let patches = Patches::new(vec![Arc::new(scan)], 100).unwrap();
    let transform = RandomPatch::new(PatchConfig { shape: [96; 3], ..Default::default() }).unwrap();
    for i in 0..patches.len() {
        let patch = transform.apply(patches.get(i).unwrap(), &mut Key::new(0).fold(i as u64).rng()).unwrap();
        let [x, y, z] = patch.grid().world([0.0; 3]).map(|v| (v / 0.7).round() as usize);
        for corner in 0..8 {
            let at = [0, 1, 2].map(|a| if corner >> a & 1 == 1 { 95 } else { 0 });
            assert_eq!(patch.at(at), Some(f32::from(value(x + at[2], y + at[1], z + at[0]))));
        }
        assert!(cache.bytes() <= CACHE);
    }
    // Patches of all places do not fit the cache: blocks were read again and again.
    assert!(cache.reads() as usize > 2 * CACHE / (32 * 32 * 32 * 2), "{} blocks", cache.reads());
    assert!(peak() < BOUND, "{} MiB at the peak, expected less than {BOUND}", peak());
    println!("peak {} MiB", peak());
}

#[test]
fn a_cube_of_512_stays_within_its_bound() {
    if let Some(path) = std::env::var_os(TOLD) {
        return read(&PathBuf::from(path));
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ct.nii");
    source(&path);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 352 + 2 * SIDE.pow(3) as u64);
    let program = std::env::current_exe().unwrap();
    let child = Command::new(program)
        .args(["--exact", "memory::a_cube_of_512_stays_within_its_bound", "--nocapture"])
        .env(TOLD, &path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout).into_owned();
    assert!(
        child.status.success() && said.contains("peak "),
        "{said}{}",
        String::from_utf8_lossy(&child.stderr)
    );
    print!("{said}");
}

//! Damaged files end with an error that names them, never with a panic, and what they claim is not allocated.

use selfsup_core::Key;
use selfsup_signals::Recording;
use selfsup_signals::read::{self, ReadConfig, ts};
use std::path::{Path, PathBuf};

const CHANGES: u64 = 1500;

fn seeds() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/signal/files")
}

fn read(path: &Path) -> selfsup_core::Result<Recording> {
    read::read(path, &ReadConfig::default())
}

/// An intact file: of the golden cases, or made here.
fn intact(name: &str) -> Vec<u8> {
    match name {
        "table.csv" => b"time (ms),ABP [mmHg],SpO2\n0,80.5,97\n10,81.25,\n20,82,95\n50,85,94\n".to_vec(),
        "array.npy" => {
            let mut bytes =
                b"\x93NUMPY\x01\x00\x46\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"
                    .to_vec();
            bytes.resize(10 + 0x46, b' ');
            bytes.extend([0u8; 24]);
            bytes
        }
        name => std::fs::read(seeds().join(name)).unwrap(),
    }
}

/// One to four changes of bytes, or a cut.
fn damaged(bytes: &[u8], key: Key) -> Vec<u8> {
    let mut rng = key.rng();
    let mut out = bytes.to_vec();
    for _ in 0..=rng.below(4) {
        if out.is_empty() {
            break;
        }
        let at = rng.below(out.len());
        match rng.below(6) {
            0 => out.truncate(at),
            1 => out[at] = b'9',
            2 => out[at] = b' ',
            3 => out.insert(at, b'-'),
            _ => out[at] = rng.below(256) as u8,
        }
    }
    out
}

fn try_all(name: &str, others: &[&str], open: impl Fn(&Path) -> selfsup_core::Result<()>) {
    let dir = tempfile::tempdir().unwrap();
    for other in others {
        std::fs::copy(seeds().join(other), dir.path().join(other)).unwrap();
    }
    let whole = intact(name);
    let target = dir.path().join(name);
    let main = others.iter().find(|o| o.ends_with(".hea")).map_or(target.clone(), |o| dir.path().join(o));
    std::fs::write(&target, &whole).unwrap();
    open(&main).unwrap();
    let mut refused = 0;
    for i in 0..CHANGES {
        std::fs::write(&target, damaged(&whole, Key::new(7).named(name).fold(i))).unwrap();
        if let Err(e) = open(&main) {
            refused += 1;
            let said = e.to_string();
            assert!(said.contains(dir.path().to_str().unwrap()), "{name}: {said}");
        }
    }
    assert!(refused > 0, "{name}: nothing was refused");
}

#[test]
fn records_of_wfdb() {
    let open = |p: &Path| read(p).map(|_| ());
    try_all("rec212.hea", &["rec212.dat", "rec212.atr"], open);
    try_all("rec212.dat", &["rec212.hea", "rec212.atr"], open);
    try_all("rec16.atr", &["rec16.hea", "rec16.dat"], open);
}

#[test]
fn european_data_format() {
    for name in ["edf.edf", "edf_plus.edf"] {
        try_all(name, &[], |p| read(p).map(|_| ()));
    }
}

#[test]
fn tables_and_arrays() {
    for name in ["table.csv", "array.npy"] {
        try_all(name, &[], |p| read(p).map(|_| ()));
    }
}

#[test]
fn archives() {
    for name in ["ts_univariate.ts", "ts_multivariate.ts"] {
        try_all(name, &[], |p| ts::read(p).map(|_| ()));
    }
}

#[test]
fn contradictions_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let says = |header: &str, part: &str| {
        let path = dir.path().join("r.hea");
        std::fs::write(&path, header).unwrap();
        std::fs::write(dir.path().join("r.dat"), [0u8; 12]).unwrap();
        let e = read(&path).unwrap_err().to_string();
        assert!(e.contains(part), "{header}: {e}");
    };
    says("r 1 0 6\nr.dat 16 200\n", "sampling rate");
    says("r 1 250 6\nr.dat 310 200\n", "format 310");
    says("r 1 250 7\nr.dat 16 200\n", "cut short");
    says("r 2 250 3\nr.dat 16 200\n", "describes 1 signals of 2");
    says("r/2 1 250 3\nr.dat 16 200\n", "several segments");
    says("r 1 250 6\nr.dat 16 loud\n", "the gain");
    says("r 1 250 6\n../r.dat 16 200\n", "beside the header");
    says("r 2 250 3\nr.dat 16 200\nr.dat 80 200\n", "two formats");
    says("r 1 250 6\nr.dat 16:3 200\n", "no skew");
}

//! Looking through a data set before training on it: counts, classes, groups, formats, sizes, and the first
//! problems.
//!
//! Images are not decoded: formats and sizes come from the first bytes of each. That a picture decodes whole,
//! only decoding can tell.

use crate::record::{Record, Records, Source};
use crate::size::{ENOUGH, head};
use selfsup_core::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

/// Problems that are kept with their words; the others are counted.
const PROBLEMS: usize = 10;

/// The result of [`inspect`].
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Inspection {
    /// Records looked at.
    pub records: usize,
    /// Those that cannot be read or are no image of a known format.
    pub bad: usize,
    /// Why, for the first ten.
    pub problems: Vec<String>,
    /// Names of the classes and their counts, in the order of the classes.
    pub classes: Vec<(String, usize)>,
    /// Records without a label.
    pub unlabelled: usize,
    /// Different groups.
    pub groups: usize,
    /// Records by format (`pixels`: not encoded).
    pub formats: BTreeMap<String, usize>,
    /// Smallest and largest `(width, height)`, each on its own.
    pub sizes: Option<[(u32, u32); 2]>,
    /// Records by their shorter side: the key is the upper end of a range that begins above half of it (64:
    /// 33 to 64 pixels).
    pub shorter_side: BTreeMap<u64, usize>,
}

impl std::fmt::Display for Inspection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "records: {}, bad: {}", self.records, self.bad)?;
        if self.groups > 0 {
            writeln!(f, "groups: {}", self.groups)?;
        }
        for (format, count) in &self.formats {
            writeln!(f, "format {format}: {count}")?;
        }
        if let Some([(w0, h0), (w1, h1)]) = self.sizes {
            writeln!(f, "sizes: width {w0} to {w1}, height {h0} to {h1}")?;
        }
        for (end, count) in &self.shorter_side {
            writeln!(f, "shorter side {} to {end}: {count}", end / 2 + 1)?;
        }
        for (class, count) in &self.classes {
            writeln!(f, "class {class}: {count}")?;
        }
        if self.unlabelled > 0 && !self.classes.is_empty() {
            writeln!(f, "without a label: {}", self.unlabelled)?;
        }
        for problem in &self.problems {
            writeln!(f, "problem: {problem}")?;
        }
        if self.bad > self.problems.len() {
            writeln!(f, "and {} problems more", self.bad - self.problems.len())?;
        }
        Ok(())
    }
}

/// Looks at every record of a set.
pub fn inspect(records: &dyn Records) -> Inspection {
    let names = records.classes();
    let mut counts = vec![0usize; names.len()];
    let mut groups = BTreeSet::new();
    let mut found = Inspection { records: records.len(), ..Inspection::default() };
    for i in 0..records.len() {
        match records.label(i).map(|l| counts.get_mut(l as usize)) {
            Some(Some(count)) => *count += 1,
            _ => found.unlabelled += 1,
        }
        groups.extend(records.group(i));
        match records.get(i).and_then(|record| look(&record)) {
            Ok((format, size)) => {
                *found.formats.entry(format.to_string()).or_default() += 1;
                if let Some((w, h)) = size {
                    let [low, high] = found.sizes.unwrap_or([(w, h); 2]);
                    found.sizes = Some([(low.0.min(w), low.1.min(h)), (high.0.max(w), high.1.max(h))]);
                    *found.shorter_side.entry(u64::from(w.min(h)).next_power_of_two()).or_default() += 1;
                }
            }
            Err(e) => {
                found.bad += 1;
                if found.problems.len() < PROBLEMS {
                    found.problems.push(e.to_string());
                }
            }
        }
    }
    found.groups = groups.len();
    found.classes = names.iter().cloned().zip(counts).collect();
    found
}

/// Format and size of one record.
fn look(record: &Record) -> Result<(&'static str, Option<(u32, u32)>)> {
    let mut read = Vec::new();
    let bytes: &[u8] = match &record.source {
        Source::Pixels { width, height, channels, data } => {
            let want = u64::from(*width) * u64::from(*height) * u64::from(*channels);
            return if want > 0 && want == data.len() as u64 {
                Ok(("pixels", Some((*width, *height))))
            } else {
                Err(Error::input(
                    &record.id,
                    format_args!("has {} values for {width} x {height} x {channels}", data.len()),
                ))
            };
        }
        Source::Bytes(bytes) => bytes,
        Source::File(path) => {
            let file = selfsup_core::file::open(path)?;
            file.take(ENOUGH as u64).read_to_end(&mut read).map_err(|e| Error::io(path, e))?;
            &read
        }
    };
    if bytes.is_empty() {
        return Err(Error::input(&record.id, "is empty"));
    }
    match head(bytes) {
        Some(head) if head.size.is_some_and(|(w, h)| w == 0 || h == 0) => {
            Err(Error::input(&record.id, format_args!("is a {} without pixels", head.format)))
        }
        Some(head) => Ok((head.format, head.size)),
        None => Err(Error::input(&record.id, "is no image, expected JPEG, PNG, WebP, TIFF, BMP, GIF or PNM")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::Folder;

    #[test]
    fn a_folder_with_every_problem() {
        let dir = tempfile::tempdir().unwrap();
        let png =
            |w: u8, h: u8| [&b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0"[..], &[w], b"\0\0\0", &[h]].concat();
        for (name, bytes) in [
            ("a/1.png", png(33, 40)),
            ("a/2.png", png(64, 200)),
            ("a/3.gif", b"GIF89a\x05\0\x06\x01".to_vec()),
            ("b/4.png", png(0, 9)),
            ("b/5.jpg", Vec::new()),
            ("b/6.jpg", b"<html>".to_vec()),
        ] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        #[cfg(unix)]
        std::os::unix::fs::symlink("nowhere", dir.path().join("b/7.jpg")).unwrap();
        let found = inspect(&Folder::open(dir.path()).unwrap());
        let links = usize::from(cfg!(unix));
        assert_eq!((found.records, found.bad, found.unlabelled, found.groups), (6 + links, 3 + links, 0, 0));
        assert_eq!(found.classes, [("a".to_string(), 3), ("b".to_string(), 3 + links)]);
        assert_eq!(found.formats, [("gif".to_string(), 1), ("png".to_string(), 2)].into());
        assert_eq!(found.shorter_side, [(8, 1), (64, 2)].into());
        assert_eq!(found.sizes, Some([(5, 40), (64, 262)]));
        for (problem, parts) in found.problems.iter().zip([
            ["4.png", "without pixels"],
            ["5.jpg", "empty"],
            ["6.jpg", "no image"],
            ["7.jpg", ""],
        ]) {
            assert!(parts.iter().all(|p| problem.contains(p)), "{problem}");
        }
        let text = found.to_string();
        assert!(text.contains("shorter side 33 to 64: 2") && text.contains("class b"), "{text}");
    }

    #[test]
    fn bundled_pixels() {
        let found = inspect(&crate::fashion_mnist::bundled(false).unwrap());
        assert_eq!((found.records, found.bad, found.classes.len()), (10_000, 0, 10));
        assert_eq!((found.sizes, found.shorter_side[&32]), (Some([(28, 28); 2]), 10_000));
    }
}

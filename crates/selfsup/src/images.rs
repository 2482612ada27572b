//! Between data sets and vision: records become samples that the transforms decode.

use selfsup_core::data::Dataset;
use selfsup_core::{Key, Result};
use selfsup_datasets::{Record, Records, Source, Subset};
use selfsup_vision::data::{Content, Sample};
use std::sync::Arc;

/// Records as a [`Dataset`] of encoded images.
#[derive(Clone)]
pub struct Images(pub Arc<dyn Records>);

impl Dataset for Images {
    type Item = Sample;

    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, index: usize) -> Result<Sample> {
        let Record { id, source, .. } = self.0.get(index)?;
        let content = match source {
            Source::File(path) => Content::File(path),
            Source::Bytes(bytes) => Content::Bytes(bytes),
            Source::Pixels { width, height, channels, data } => Content::Pixels { width, height, channels, data },
        };
        Ok(Sample { id, content })
    }
}

impl Images {
    /// The labels, if every record has one.
    pub fn labels(&self) -> Option<Vec<u32>> {
        if self.0.classes().is_empty() {
            return None;
        }
        (0..self.0.len()).map(|i| self.0.label(i)).collect()
    }

    /// The first `limit` records (0: all).
    ///
    /// # Errors
    /// Never for a limit within the set.
    pub fn limit(self, limit: usize) -> Result<Self> {
        if limit == 0 || limit >= self.0.len() {
            return Ok(self);
        }
        Ok(Images(Arc::new(Subset::new(self.0, (0..limit).collect())?)))
    }

    /// Divides the records into those to train on and a share that is held out, by a hash of their group or their index: the same for
    /// every run.
    ///
    /// # Errors
    /// If a record cannot be read.
    pub fn hold_out(self, share: f64) -> Result<(Self, Option<Self>)> {
        if share <= 0.0 || self.0.len() < 2 {
            return Ok((self, None));
        }
        let key = Key::new(0).named("hold-out");
        let (mut kept, mut out) = (Vec::new(), Vec::new());
        for i in 0..self.0.len() {
            let record = key.fold(i as u64);
            if f64::from(record.uniform_at(0)) < share { out.push(i) } else { kept.push(i) }
        }
        if kept.is_empty() || out.is_empty() {
            return Ok((self, None));
        }
        let part = |indices| -> Result<Self> { Ok(Images(Arc::new(Subset::new(self.0.clone(), indices)?))) };
        Ok((part(kept)?, Some(part(out)?)))
    }
}

/// What [`inspect`] found.
#[derive(Clone, Debug, Default)]
pub struct Inspection {
    /// Images.
    pub images: usize,
    /// Those that cannot be read.
    pub bad: usize,
    /// Why, for the first few.
    pub problems: Vec<String>,
    /// Names of the classes and their counts.
    pub classes: Vec<(String, usize)>,
    /// Smallest and largest width and height.
    pub sizes: Option<[(u32, u32); 2]>,
    /// Images by number of channels.
    pub channels: std::collections::BTreeMap<u8, usize>,
}

impl std::fmt::Display for Inspection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "images: {}, unreadable: {}", self.images, self.bad)?;
        if let Some([(w0, h0), (w1, h1)]) = self.sizes {
            writeln!(f, "sizes: width {w0} to {w1}, height {h0} to {h1}")?;
        }
        for (channels, count) in &self.channels {
            writeln!(f, "channels {channels}: {count}")?;
        }
        for (class, count) in &self.classes {
            writeln!(f, "class {class}: {count}")?;
        }
        for problem in &self.problems {
            writeln!(f, "problem: {problem}")?;
        }
        Ok(())
    }
}

/// Decodes every image.
///
/// # Errors
/// Never for a single image: those are counted.
pub fn inspect(images: &Images) -> Result<Inspection> {
    let mut found = Inspection { images: images.0.len(), ..Inspection::default() };
    let names = images.0.classes();
    let mut counts = vec![0; names.len()];
    for i in 0..images.0.len() {
        if let Some(count) = images.0.label(i).and_then(|l| counts.get_mut(l as usize)) {
            *count += 1;
        }
        match images.get(i).and_then(|s| s.decode(100_000_000)) {
            Ok(image) => {
                *found.channels.entry(image.channels).or_default() += 1;
                let [low, high] = found.sizes.unwrap_or([(image.width, image.height); 2]);
                found.sizes =
                    Some([(low.0.min(image.width), low.1.min(image.height)), (high.0.max(image.width), high.1.max(image.height))]);
            }
            Err(e) => {
                found.bad += 1;
                if found.problems.len() < 10 {
                    found.problems.push(e.to_string());
                }
            }
        }
    }
    found.classes = names.iter().cloned().zip(counts).collect();
    Ok(found)
}

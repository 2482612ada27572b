//! Samples as the command handles them: records of any modality with their labels, groups and parts.

mod open;

use selfsup_core::{Error, Result};
use selfsup_datasets::{Concat, Division, Kind, Objects, Record, Records, Subset, divide};
use std::sync::Arc;

/// The positions of `count` things taken evenly from `of`, in their order. `count` is at most `of`.
pub fn evenly(count: usize, of: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |i| i * of / count)
}

/// Records of a modality.
#[derive(Clone)]
pub struct Set(Arc<dyn Records>);

impl Set {
    /// A set of these records.
    pub fn new(records: impl Records + 'static) -> Self {
        Set(Arc::new(records))
    }

    /// The records.
    pub fn records(&self) -> &Arc<dyn Records> {
        &self.0
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names of the classes.
    pub fn classes(&self) -> &[String] {
        self.0.classes()
    }

    /// The labels, if every record has one.
    pub fn labels(&self) -> Option<Vec<u32>> {
        if self.0.classes().is_empty() {
            return None;
        }
        (0..self.0.len()).map(|i| self.0.label(i)).collect()
    }

    /// The class of all records, if all have a label and it is the same.
    pub fn only_class(&self) -> Option<&str> {
        let labels = self.labels()?;
        let first = *labels.first()?;
        let alike = labels.iter().all(|y| *y == first);
        self.classes().get(first as usize).filter(|_| alike).map(String::as_str)
    }

    /// The records that have a label; `None` where there are none.
    ///
    /// # Errors
    /// Never: the indices exist.
    pub fn labelled(&self) -> Result<Option<Self>> {
        if self.classes().is_empty() {
            return Ok(None);
        }
        let with: Vec<usize> = (0..self.len()).filter(|&i| self.0.label(i).is_some()).collect();
        match with.len() {
            0 => Ok(None),
            n if n == self.len() => Ok(Some(self.clone())),
            _ => Ok(Some(self.part(with)?)),
        }
    }

    /// The number of samples and a hash of their names, of their labels too where `labels` count: two sets with
    /// the same description are taken for the same. Of more than 10,000 samples as many, evenly over the
    /// whole, are asked for their names.
    ///
    /// # Errors
    /// If a name cannot be read.
    pub fn description(&self, kind: Kind, labels: bool) -> Result<String> {
        const NAMED: usize = 10_000;
        let mut text = self.len().to_string();
        for i in evenly(self.len().min(NAMED), self.len()) {
            let label = self.0.label(i).filter(|_| labels).map_or(String::new(), |l| l.to_string());
            text.push_str(&format!("\n{}\t{label}", self.0.id(i)?));
        }
        let hash = selfsup_core::sha256::of(text.as_bytes()).map_err(|e| Error::io("names", e))?;
        Ok(format!("{} {} (hash of their names {})", self.len(), kind.samples(), &hash[..12.min(hash.len())]))
    }

    /// Some of the records.
    ///
    /// # Errors
    /// If an index does not exist.
    pub fn part(&self, indices: Vec<usize>) -> Result<Self> {
        Ok(Set::new(Subset::new(self.0.clone(), indices)?))
    }

    /// So many records, evenly over the whole (0: all): those of a folder of classes, or of a table in its
    /// order, are then of all kinds.
    ///
    /// # Errors
    /// Never for a limit within the set.
    pub fn limit(self, limit: usize) -> Result<Self> {
        if limit == 0 || limit >= self.len() {
            return Ok(self);
        }
        self.part(evenly(limit, self.len()).collect())
    }

    /// Divides the records into those to train on and a share that is held out, whole groups at a time and
    /// the same ones for every run ([`divide`]). Nothing is held out for a share of 0, or where the records or
    /// groups are too few to divide: see [`Set::hold_out_and_say`].
    ///
    /// # Errors
    /// If the share is not from 0 to below 1, or the records cannot be divided for another reason than their
    /// number.
    pub fn hold_out(self, share: f64, salt: u64) -> Result<(Self, Option<Self>)> {
        let Some(division) = self.divided(share, salt)? else { return Ok((self, None)) };
        Ok((self.part(division.kept)?, Some(self.part(division.out)?)))
    }

    fn divided(&self, share: f64, salt: u64) -> Result<Option<Division>> {
        if !(0.0..1.0).contains(&share) {
            return Err(Error::config(format!(
                "data.hold_out = {share}: expected a share of at least 0 and below 1"
            )));
        }
        if share == 0.0 {
            return Ok(None);
        }
        match divide(&self.0, share, salt) {
            Ok(division) => Ok(Some(division)),
            Err(Error::TooFew { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// As [`Set::hold_out`]; says how many groups and samples are held out, and warns where the share that was
    /// asked for cannot be met.
    ///
    /// # Errors
    /// As [`Set::hold_out`].
    pub fn hold_out_and_say(self, share: f64, salt: u64) -> Result<(Self, Option<Self>)> {
        let division = self.divided(share, salt)?;
        say_division(division.as_ref(), share, self.len());
        let Some(division) = division else { return Ok((self, None)) };
        Ok((self.part(division.kept)?, Some(self.part(division.out)?)))
    }

    /// Whether the set is divided by its folders or a table.
    pub fn has_splits(&self) -> bool {
        (0..self.len()).any(|i| self.0.split(i).is_some())
    }
}

/// The share may be missed by this much of it without a warning.
const TOLERATED: f64 = 0.25;

fn say_division(division: Option<&Division>, share: f64, samples: usize) {
    let Some(division) = division else {
        if share > 0.0 {
            crate::say::warning(format_args!(
                "nothing is held out: a share of {share} of {samples} samples (or of their groups) leaves one \
                 side empty"
            ));
        }
        return;
    };
    let found = division.share();
    let groups =
        division.groups.map_or(String::new(), |[kept, out]| format!("{out} of {} groups, ", kept + out));
    let held = format!("{groups}{} of {samples} samples ({:.1}%)", division.out.len(), 100.0 * found);
    if (found - share).abs() > TOLERATED * share {
        crate::say::warning(format_args!(
            "held out: {held}, not the share of {:.1}% that data.hold_out asks for: there are too few groups or \
             samples, or some are too large",
            100.0 * share
        ));
    } else if division.groups.is_some() {
        crate::say::note(format_args!("held out: {held}"));
    }
}

/// What a run reads.
#[derive(Clone)]
pub struct Sets {
    /// Samples to train on.
    pub train: Set,
    /// Samples of the same kind that are not trained on.
    pub held_out: Option<Set>,
    /// Samples to test on.
    pub test: Option<Set>,
}

impl Sets {
    /// The same with each part replaced, or taken away.
    ///
    /// # Errors
    /// Those of `f`, and if nothing is left to train on.
    pub fn try_map(self, f: &dyn Fn(Set) -> Result<Option<Set>>) -> Result<Self> {
        let part = |set: Option<Set>| -> Result<Option<Set>> { set.map_or(Ok(None), f) };
        let train = f(self.train)?.ok_or_else(|| Error::input("training data", "no sample can be used"))?;
        Ok(Sets { train, held_out: part(self.held_out)?, test: part(self.test)? })
    }

    /// Each part changed by `f`.
    pub fn map(self, f: impl Fn(Set) -> Set) -> Self {
        Sets { train: f(self.train), held_out: self.held_out.map(&f), test: self.test.map(&f) }
    }

    /// Samples to fit and test a probe on, if there are labels.
    ///
    /// # Errors
    /// Never: only records that exist are taken.
    pub fn labelled(&self) -> Result<Option<Labelled>> {
        let Some(test) = self.test.as_ref().or(self.held_out.as_ref()) else { return Ok(None) };
        Ok(match (self.train.labelled()?, test.labelled()?) {
            (Some(train), Some(test)) => Some(Labelled { train, test }),
            _ => None,
        })
    }

    /// As [`Sets::labelled`] where there is something to compare: two samples to test on, and two classes.
    ///
    /// # Errors
    /// Never: only records that exist are taken.
    pub fn measurable(&self) -> Result<Option<Labelled>> {
        let found = self.labelled()?;
        if found.as_ref().is_some_and(|found| found.test.len() < 2) {
            crate::say::warning(
                "nothing is measured by labels: 1 labelled sample is held out, expected 2 at least",
            );
            return Ok(None);
        }
        if let Some(only) = found.as_ref().and_then(|found| found.train.only_class()) {
            crate::say::warning(format_args!(
                "nothing is measured by labels: all samples are of the class `{only}`, expected two classes at least"
            ));
            return Ok(None);
        }
        Ok(found)
    }
}

/// Labelled samples to fit on and to test on.
#[derive(Clone)]
pub struct Labelled {
    /// To fit on.
    pub train: Set,
    /// To test on.
    pub test: Set,
}

impl Labelled {
    /// Labels of both sides and the number of classes.
    ///
    /// # Errors
    /// If the classes differ or a label is missing.
    pub fn labels(&self) -> Result<(Vec<u32>, Vec<u32>, usize)> {
        let of = |set: &Set, what: &str| {
            set.labels().ok_or_else(|| Error::input(what, "has no labels: nothing to evaluate on"))
        };
        if self.train.classes() != self.test.classes() {
            return Err(Error::input(
                "test data",
                format!(
                    "classes {:?}, expected those of the training data {:?}",
                    self.test.classes(),
                    self.train.classes()
                ),
            ));
        }
        Ok((of(&self.train, "training data")?, of(&self.test, "test data")?, self.train.classes().len()))
    }
}

/// The samples of several files, folders or data sets, without labels.
///
/// # Errors
/// If one of them cannot be opened.
pub fn gather(names: &[String], open: &dyn Fn(&str) -> Result<Set>) -> Result<Set> {
    let open = |name: &String| {
        let set = open(name)?;
        set.0.notes().iter().for_each(crate::say::note);
        Ok(Box::new(Unlabelled(set)) as Box<dyn Records>)
    };
    let parts = names.iter().map(open).collect::<Result<Vec<_>>>()?;
    Ok(Set::new(Concat::new(parts)?))
}

/// Samples whose labels and groups are not asked for: folders that are named together need not have the same
/// classes.
pub(crate) struct Unlabelled(pub(crate) Set);

impl Records for Unlabelled {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn get(&self, index: usize) -> Result<Record> {
        self.0.records().get(index)
    }
    fn id(&self, index: usize) -> Result<String> {
        self.0.records().id(index)
    }
    fn label(&self, _: usize) -> Option<u32> {
        None
    }
    fn objects(&self, index: usize) -> Result<Option<Objects>> {
        self.0.records().objects(index)
    }
    fn classes(&self) -> &[String] {
        &[]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many records without groups.
    struct Plain(usize);

    impl Records for Plain {
        fn len(&self) -> usize {
            self.0
        }
        fn get(&self, index: usize) -> Result<Record> {
            Err(Error::input(index, "is not read for a division"))
        }
        fn label(&self, _: usize) -> Option<u32> {
            None
        }
        fn classes(&self) -> &[String] {
            &[]
        }
    }

    #[test]
    fn too_few_samples_are_not_divided_and_a_wrong_share_is_an_error() {
        let sizes = |n: usize, share: f64| {
            let (train, held_out) = Set::new(Plain(n)).hold_out(share, 0).unwrap();
            (train.len(), held_out.map(|s| s.len()))
        };
        assert_eq!(sizes(100, 0.0), (100, None));
        assert_eq!(sizes(1, 0.5), (1, None));
        let (train, held_out) = sizes(100, 0.3);
        assert_eq!(train + held_out.unwrap(), 100);
        for share in [-0.1, 1.0, f64::NAN] {
            let error = Set::new(Plain(4)).hold_out(share, 0).err().unwrap().to_string();
            assert!(error.contains("data.hold_out"), "{error}");
        }
    }

    #[test]
    fn evenly_takes_from_the_whole() {
        assert_eq!(evenly(3, 9).collect::<Vec<_>>(), [0, 3, 6]);
        assert_eq!(evenly(4, 7).collect::<Vec<_>>(), [0, 1, 3, 5]);
        assert_eq!(evenly(5, 5).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert_eq!(evenly(0, 5).count(), 0);
    }
}

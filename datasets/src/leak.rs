//! The leak guard: a group (patient, speaker, source) that stands in two parts of a set makes the test
//! measure memory.

use crate::record::Records;
use selfsup_core::{Error, Result};
use std::collections::BTreeMap;

/// Refuses two parts of which a group is in both. `names` are what the parts are called in the message.
///
/// Records without a group are compared by their names (paths): the same sample must not be trained and
/// tested on either.
///
/// # Errors
/// Naming a group, a record of it in each part, and how many groups leak.
pub fn check_leak(a: &dyn Records, b: &dyn Records, names: (&str, &str)) -> Result<()> {
    let keys = |records: &dyn Records| -> Result<BTreeMap<(bool, String), usize>> {
        let mut keys = BTreeMap::new();
        for i in 0..records.len() {
            let key = match records.group(i) {
                Some(group) => (true, group),
                None => (false, records.id(i)?),
            };
            keys.entry(key).or_insert(i);
        }
        Ok(keys)
    };
    let (first, second) = (keys(a)?, keys(b)?);
    let leaks: Vec<_> = first.iter().filter_map(|(key, i)| Some((key, *i, *second.get(key)?))).collect();
    let Some(((grouped, name), i, j)) = leaks.first() else { return Ok(()) };
    let what = if *grouped { "group" } else { "sample" };
    Err(Error::input(
        format_args!("{what} `{name}`"),
        format_args!(
            "is in the {} data ({}) and in the {} data ({}): {} {what}s leak; keep each {what} whole in one part",
            names.0,
            a.id(*i)?,
            names.1,
            b.id(*j)?,
            leaks.len()
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::LabelFile;
    use std::path::Path;

    fn set(dir: &Path, text: &str) -> impl Records {
        let path = dir.join("t.csv");
        std::fs::write(&path, text).unwrap();
        LabelFile::read(&path).unwrap().texts().unwrap()
    }

    #[test]
    fn a_group_on_both_sides_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let a = set(dir.path(), "text,label,patient\none,x,p1\ntwo,y,p2\n");
        let b = set(dir.path(), "text,label,patient\nthree,x,p3\nfour,y,p2\nfive,y,p1\n");
        let e = check_leak(&a, &b, ("training", "test")).unwrap_err().to_string();
        assert!(
            e.contains("group `p1`")
                && e.contains("2 groups leak")
                && e.contains("line 2")
                && e.contains("line 4"),
            "{e}"
        );
        let c = set(dir.path(), "text,label,patient\nthree,x,p3\n");
        check_leak(&a, &c, ("training", "test")).unwrap();
    }

    #[test]
    fn without_groups_the_same_sample_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let a = set(dir.path(), "text,label\none,x\ntwo,y\n");
        let e = check_leak(&a, &a, ("training", "test")).unwrap_err().to_string();
        assert!(e.contains("sample `") && e.contains("2 samples leak"), "{e}");
    }
}

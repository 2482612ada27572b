//! Names of files that answer for others.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

/// The file that answers for each of `paths`: in the folders that these lie in below the one that is common
/// to all, called as `stem` says, with `ending`. Files of one folder whose names differ by their endings
/// alone keep them.
pub fn file_names(paths: &[PathBuf], stem: &dyn Fn(&Path) -> String, ending: &str) -> Vec<String> {
    let folders = |path: &PathBuf| -> Vec<String> {
        let above = path.parent().into_iter().flat_map(Path::components);
        let named = above.filter(|c| matches!(c, Component::Normal(_)));
        named.map(|c| c.as_os_str().to_string_lossy().into_owned()).collect()
    };
    let all: Vec<Vec<String>> = paths.iter().map(folders).collect();
    let common = all.iter().skip(1).fold(all.first().cloned().unwrap_or_default(), |mut common, folders| {
        common.truncate(common.iter().zip(folders).take_while(|(a, b)| a == b).count());
        common
    });
    let name = |folders: &[String], name: &str| {
        let inner = folders.iter().skip(common.len()).map(String::as_str);
        inner.chain([format!("{name}{ending}").as_str()]).collect::<Vec<_>>().join("/")
    };
    let mut count = BTreeMap::new();
    let short: Vec<String> =
        paths.iter().zip(&all).map(|(path, folders)| name(folders, &stem(path))).collect();
    short.iter().for_each(|s| *count.entry(s.clone()).or_insert(0) += 1);
    let whole = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    paths
        .iter()
        .zip(&all)
        .zip(short)
        .map(|((path, folders), short)| if count[&short] > 1 { name(folders, &whole(path)) } else { short })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_lie_in_the_folders_of_their_files() {
        let stem = |p: &Path| p.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let names = |paths: &[&str]| {
            let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
            file_names(&paths, &stem, ".nii.gz")
        };
        assert_eq!(names(&["/in/pat1/CT", "/in/pat2/CT"]), ["pat1/CT.nii.gz", "pat2/CT.nii.gz"]);
        assert_eq!(names(&["in/a.nii", "in/b.nrrd"]), ["a.nii.gz", "b.nii.gz"]);
        assert_eq!(names(&["in/a.nii", "in/a.nrrd"]), ["a.nii.nii.gz", "a.nrrd.nii.gz"]);
        assert_eq!(names(&["/one/a.nii"]), ["a.nii.gz"]);
        assert_eq!(names(&["../x/a.nii", "/y/a.nii"]), ["x/a.nii.gz", "y/a.nii.gz"]);
    }
}

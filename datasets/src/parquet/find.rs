//! Which leaves of a table hold pictures.

use ::parquet::basic::Type as Physical;

const IMAGES: [&str; 6] = ["image", "img", "jpg", "jpeg", "png", "webp"];
/// Columns whose rows are lists of pictures.
const LISTS: [&str; 4] = ["images", "imgs", "pictures", "photos"];

/// The leaf with one encoded picture a row.
pub(super) fn find_images(leaves: &[(Vec<String>, Physical)]) -> Option<usize> {
    let bytes = |i: &usize| leaves[*i].1 == Physical::BYTE_ARRAY;
    let at = |path: &[&str]| (0..leaves.len()).filter(bytes).find(|&i| leaves[i].0.iter().eq(path.iter()));
    let nested = IMAGES.iter().find_map(|name| at(&[name, "bytes"]));
    let any =
        || (0..leaves.len()).filter(bytes).find(|&i| leaves[i].0.len() == 2 && leaves[i].0[1] == "bytes");
    nested.or_else(|| IMAGES.iter().find_map(|name| at(&[name]))).or_else(any)
}

/// The leaf with the bytes of lists of pictures: `images.list.element.bytes`, or `images.list.element`.
pub(super) fn find_lists(leaves: &[(Vec<String>, Physical)]) -> Option<usize> {
    leaves.iter().position(|(path, kind)| {
        let first = path.first().map(String::as_str).unwrap_or_default();
        let bytes = path.len() == 3 || path.len() == 4 && path[3] == "bytes";
        *kind == Physical::BYTE_ARRAY && (LISTS.contains(&first) || IMAGES.contains(&first)) && bytes
    })
}

/// The leaf by which lists are counted: the names beside the bytes, which are short, or the bytes.
pub(super) fn find_counts(leaves: &[(Vec<String>, Physical)], content: usize) -> usize {
    let beside = |(path, kind): &(Vec<String>, Physical)| {
        let (last, above) = (path.last().map(String::as_str), path.len().saturating_sub(1));
        *kind == Physical::BYTE_ARRAY
            && last == Some("path")
            && leaves[content].0.len() == path.len()
            && leaves[content].0[..above] == path[..above]
    };
    leaves.iter().position(beside).unwrap_or(content)
}

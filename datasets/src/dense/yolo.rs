//! YOLO's texts: a file beside each image, `CLASS X Y WIDTH HEIGHT` on each line, the middle and the sides of
//! a box as shares of the image. A line of more numbers is a polygon, and its extent the box.

use crate::objects::{Boxed, Category, Objects, Unit};
use selfsup_core::{Error, Result, file};
use std::path::Path;
use std::sync::Arc;

/// Reads the objects of one image. Without `classes` any class is taken, and `most` becomes the largest.
///
/// # Errors
/// Naming the file and the line that is not of five numbers (or of a polygon), or whose class is not known.
pub(super) fn read(path: &Path, categories: &Arc<Vec<Category>>) -> Result<Objects> {
    let mut boxes = Vec::new();
    for (i, line) in file::text(path)?.lines().enumerate() {
        let wrong = |problem: String| Error::file(path, format_args!("line {}: `{line}`: {problem}", i + 1));
        let cells: Vec<&str> = line.split_whitespace().collect();
        let Some((class, rest)) = cells.split_first() else { continue };
        let category: u32 =
            class.parse().map_err(|_| wrong("expected the number of a class in front".into()))?;
        if category as usize >= categories.len() {
            return Err(wrong(format!("class {category}, expected one below {}", categories.len())));
        }
        let numbers: Vec<f64> = rest
            .iter()
            .map(|c| c.parse().map_err(|_| wrong(format!("`{c}` is no number"))))
            .collect::<Result<_>>()?;
        let bbox = match numbers[..] {
            [x, y, w, h] => [x - w / 2.0, y - h / 2.0, w, h],
            _ if numbers.len() >= 6 && numbers.len().is_multiple_of(2) => extent(&numbers),
            _ => {
                let n = numbers.len();
                return Err(wrong(format!("{n} numbers behind the class, expected x, y, width, height")));
            }
        };
        boxes.push(Boxed { category, bbox, area: None, crowd: false, place: i as i64 + 1 });
    }
    Ok(Objects {
        file: Arc::new(path.to_path_buf()),
        place: "line",
        size: None,
        unit: Unit::Shares,
        boxes,
        image_id: None,
        categories: categories.clone(),
    })
}

/// The box about the points `x, y, x, y ...`.
fn extent(points: &[f64]) -> [f64; 4] {
    let of = |from: usize| {
        let values = points.iter().skip(from).step_by(2);
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)))
    };
    let ((left, right), (top, bottom)) = (of(0), of(1));
    [left, top, right - left, bottom - top]
}

/// The largest class of a file, where its lines can be read.
pub(super) fn largest_class(path: &Path) -> Option<u32> {
    let text = file::text(path).ok()?;
    text.lines().filter_map(|l| l.split_whitespace().next()?.parse().ok()).max()
}

/// The names of the classes that a file beside the images or above them lists: `classes.txt`, `obj.names`, or
/// `names` of `data.yaml`.
///
/// # Errors
/// If such a file cannot be read.
pub(super) fn names(root: &Path) -> Result<Option<Vec<String>>> {
    for dir in [Some(root), root.parent()].into_iter().flatten() {
        for name in ["classes.txt", "obj.names", "labels/classes.txt"] {
            let path = dir.join(name);
            if path.is_file() {
                let text = file::text(&path)?;
                return Ok(Some(
                    text.lines().map(|l| l.trim().to_string()).filter(|l| !l.is_empty()).collect(),
                ));
            }
        }
        for name in ["data.yaml", "data.yml", "dataset.yaml"] {
            let path = dir.join(name);
            if path.is_file() {
                let found = of_yaml(&file::text(&path)?);
                let none = || Error::file(&path, "`names` is neither a list nor a table of names");
                return found.ok_or_else(none).map(Some);
            }
        }
    }
    Ok(None)
}

/// `names` of YOLO's YAML: `[a, b]`, `- a` on lines of their own, or `0: a`.
fn of_yaml(text: &str) -> Option<Vec<String>> {
    let plain = |s: &str| s.trim().trim_matches(['"', '\'']).to_string();
    let mut lines =
        text.lines().map(|l| l.split(" #").next().unwrap_or(l)).skip_while(|l| !l.starts_with("names:"));
    let first = lines.next()?.trim_start_matches("names:").trim();
    if first.starts_with('[') {
        let mut all = first.to_string();
        while !all.contains(']') {
            all.push_str(lines.next()?);
        }
        let inner = all.trim_start_matches('[').split(']').next()?;
        return Some(inner.split(',').map(plain).filter(|n| !n.is_empty()).collect());
    }
    let mut out = Vec::new();
    for line in lines {
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        if let Some(name) = line.trim_start().strip_prefix("- ") {
            out.push(plain(name));
        } else if line.starts_with([' ', '\t']) {
            let (number, name) = line.split_once(':')?;
            if number.trim().parse() != Ok(out.len()) {
                return None;
            }
            out.push(plain(name));
        } else {
            break;
        }
    }
    (!out.is_empty()).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Arc<Vec<Category>> {
        let of = |id, name: &str| Category { id, name: name.into() };
        Arc::new(vec![of(0, "cat"), of(1, "dog")])
    }

    #[test]
    fn boxes_and_polygons() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.txt");
        std::fs::write(&path, "1 0.5 0.25 0.5 0.5\n\n0 0.1 0.2 0.3 0.2 0.3 0.6\n").unwrap();
        let made = read(&path, &two()).unwrap();
        assert_eq!((made.boxes[0].category, made.boxes[0].bbox), (1, [0.25, 0.0, 0.5, 0.5]));
        let at: Vec<i64> = made.boxes[1].bbox.iter().map(|v| (v * 1e6).round() as i64).collect();
        assert_eq!((at, made.boxes[1].place), (vec![100_000, 200_000, 200_000, 400_000], 3));
        for (text, part) in [
            ("2 0 0 1 1", "below 2"),
            ("cat 0 0 1 1", "number of a class"),
            ("1 0 0 1", "3 numbers"),
            ("1 0 0 1 x", "`x` is no number"),
        ] {
            std::fs::write(&path, format!("0 0.5 0.5 1 1\n{text}\n")).unwrap();
            let e = read(&path, &two()).unwrap_err().to_string();
            assert!(e.contains("a.txt") && e.contains("line 2") && e.contains(part), "{e}");
        }
    }

    #[test]
    fn names_of_yaml() {
        let want = Some(vec!["cat".to_string(), "big dog".to_string()]);
        for text in [
            "nc: 2\nnames: ['cat', \"big dog\"]\n",
            "names: [cat,\n  big dog]\ntrain: x",
            "train: images\nnames:\n  - cat # of the house\n  - big dog\nnc: 2",
            "names:\n  0: cat\n  1: big dog\n",
        ] {
            assert_eq!(of_yaml(text), want, "{text}");
        }
        assert_eq!(of_yaml("nc: 2"), None);
        assert_eq!(of_yaml("names:\n  1: cat\n"), None);
    }
}

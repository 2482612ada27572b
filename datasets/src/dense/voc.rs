//! Pascal VOC's XML (Everingham et al. 2010): a file for each image, `object`s with a `name` and a `bndbox`
//! whose first pixel is 1. Difficult objects count as crowds: finding them is neither right nor wrong.

use super::xml::{Element, parse};
use crate::objects::{Boxed, Category, Objects, Unit};
use selfsup_core::{Error, Result, file};
use std::path::Path;
use std::sync::Arc;

/// Reads the objects of one image.
///
/// # Errors
/// Naming the file and the object whose name is unknown or whose box is not of four numbers.
pub(super) fn read(path: &Path, categories: &Arc<Vec<Category>>) -> Result<Objects> {
    let root = root(path)?;
    let mut boxes = Vec::new();
    for (i, object) in objects(&root).enumerate() {
        let wrong = |problem: String| Error::file(path, format_args!("object {}: {problem}", i + 1));
        let name = object.text_of("name").unwrap_or_default();
        let category = categories.iter().position(|c| c.name == name).ok_or_else(|| {
            let known: Vec<&str> = categories.iter().map(|c| c.name.as_str()).collect();
            wrong(format!("name `{name}`, expected one of {}", known.join(", ")))
        })?;
        let bndbox = object.child("bndbox").ok_or_else(|| wrong("bndbox is missing".into()))?;
        let side = |key: &str| -> Result<f64> {
            let text = bndbox.text_of(key).ok_or_else(|| wrong(format!("bndbox.{key} is missing")))?;
            text.parse().map_err(|_| wrong(format!("bndbox.{key} = `{text}`, expected a number")))
        };
        let (left, top, right, bottom) = (side("xmin")?, side("ymin")?, side("xmax")?, side("ymax")?);
        let bbox = [left - 1.0, top - 1.0, right - left + 1.0, bottom - top + 1.0];
        let crowd = object.text_of("difficult") == Some("1");
        boxes.push(Boxed { category: category as u32, bbox, area: None, crowd, place: i as i64 + 1 });
    }
    let side = |key: &str| root.child("size")?.text_of(key)?.parse::<u32>().ok().filter(|n| *n > 0);
    Ok(Objects {
        file: Arc::new(path.to_path_buf()),
        place: "object",
        size: side("width").zip(side("height")).map(|(w, h)| [w, h]),
        unit: Unit::Pixels,
        boxes,
        image_id: None,
        categories: categories.clone(),
    })
}

fn root(path: &Path) -> Result<Element> {
    let root = parse(&file::text(path)?).map_err(|e| Error::file(path, e))?;
    match root.name.as_str() {
        "annotation" => Ok(root),
        other => Err(Error::file(path, format_args!("<{other}> around all, expected <annotation>"))),
    }
}

fn objects(root: &Element) -> impl Iterator<Item = &Element> {
    root.children.iter().filter(|c| c.name == "object")
}

/// The names of the objects in a file; none where it cannot be read.
pub(super) fn names(path: &Path) -> Vec<String> {
    let found = |root: Element| objects(&root).filter_map(|o| Some(o.text_of("name")?.to_string())).collect();
    root(path).map(found).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "<annotation><size><width>60</width><height>40</height></size>
        <object><name>dog</name><difficult>1</difficult>
        <bndbox><xmin>1</xmin><ymin>11</ymin><xmax>20</xmax><ymax>40</ymax></bndbox></object></annotation>";

    #[test]
    fn the_first_pixel_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.xml");
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        write(FILE);
        assert_eq!(names(&path), ["dog"]);
        let categories = Arc::new(vec![Category { id: 1, name: "dog".into() }]);
        let made = read(&path, &categories).unwrap();
        assert_eq!((made.size, made.boxes[0].crowd), (Some([60, 40]), true));
        assert_eq!(made.boxes[0].bbox, [0.0, 10.0, 20.0, 30.0]);
        for (from, to, part) in [
            ("dog", "cat", "`cat`, expected one of dog"),
            ("<xmin>1</xmin>", "", "bndbox.xmin is missing"),
            (">20<", ">wide<", "bndbox.xmax = `wide`"),
            ("bndbox", "box", "bndbox is missing"),
        ] {
            write(&FILE.replace(from, to));
            let e = read(&path, &categories).unwrap_err().to_string();
            assert!(e.contains("a.xml") && e.contains("object 1") && e.contains(part), "{e}");
        }
        write("<html></html>");
        assert!(read(&path, &categories).unwrap_err().to_string().contains("expected <annotation>"));
    }
}

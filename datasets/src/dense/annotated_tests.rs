use super::*;
use crate::objects::Boxed;

fn write(root: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

fn open(path: &Path) -> Result<Box<dyn Records>> {
    open_objects(path.to_str().unwrap(), &Reading::default())
}

const COCO: &str = r#"{"images": [{"id": 9, "file_name": "a.jpg", "width": 60, "height": 40},
    {"id": 4, "file_name": "b.jpg"}],
    "annotations": [{"id": 1, "image_id": 9, "category_id": 18, "bbox": [1, 2, 3, 4], "area": 5.5,
    "iscrowd": 1},
    {"id": 2, "image_id": 4, "category_id": 3, "bbox": [1, 2, 3, 4], "segmentation": [[1, 2]]}],
    "categories": [{"id": 18, "name": "dog"}, {"id": 3, "name": "car"}]}"#;

#[test]
fn coco_beside_and_above() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[("annotations/instances_val2017.json", COCO), ("val2017/b.jpg", "")]);
    let set = open(dir.path()).unwrap();
    assert_eq!((set.len(), set.classes()), (2, &["car".to_string(), "dog".into()][..]));
    assert!(set.id(1).unwrap().ends_with("val2017/b.jpg") && set.label(0).is_none());
    let first = set.objects(0).unwrap().unwrap();
    let only = Boxed { category: 1, bbox: [1.0, 2.0, 3.0, 4.0], area: Some(5.5), crowd: true, place: 1 };
    assert_eq!((first.boxes.as_slice(), first.size, first.image_id), (&[only][..], Some([60, 40]), Some(9)));
    assert_eq!(first.categories.iter().map(|c| c.id).collect::<Vec<_>>(), [3, 18]);
    write(dir.path(), &[("annotations/more.json", COCO)]);
    let e = open(dir.path()).err().unwrap().to_string();
    assert!(e.contains("name one") && e.contains("more.json"), "{e}");
}

#[test]
fn coco_that_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("boxes.json");
    let with = |from: &str, to: &str| {
        write(dir.path(), &[("boxes.json", &COCO.replace(from, to)), ("a.jpg", "")]);
        open(&path)
    };
    for (from, to, part) in [
        ("\"image_id\": 4", "\"image_id\": 5", "annotation 2: image 5 is not among"),
        ("\"id\": 4", "\"id\": 9", "image 9 twice"),
        ("{\"id\": 3", "{\"id\": 18", "category 18"),
        ("a.jpg", "c.jpg", "are in none of"),
        ("[1, 2, 3, 4], \"area\"", "\"x\", \"area\"", "line 3"),
    ] {
        let e = with(from, to).err().unwrap().to_string();
        assert!(e.contains("boxes.json") && e.contains(part), "{e}");
    }
    // What is wrong with one image leaves the others.
    for (from, to, part) in [
        ("\"category_id\": 3", "\"category_id\": 7", "annotation 2: category 7"),
        ("[1, 2, 3, 4], \"seg", "[1, 2, 3], \"seg", "annotation 2: bbox of 3 numbers"),
    ] {
        let set = with(from, to).unwrap();
        assert!(set.objects(0).is_ok());
        let e = set.objects(1).err().unwrap().to_string();
        assert!(e.contains("boxes.json") && e.contains(part), "{e}");
    }
}

#[test]
fn yolo_in_folders() {
    let dir = tempfile::tempdir().unwrap();
    let files = [
        ("images/train/a.jpg", ""),
        ("images/train/b.png", ""),
        ("images/val/c.jpg", ""),
        ("labels/train/a.txt", "1 0.5 0.5 0.5 0.5"),
        ("labels/val/c.txt", "0 0.5 0.5 2 x"),
        ("data.yaml", "names: [cat, dog, hen]"),
    ];
    write(dir.path(), &files);
    let set = open(dir.path()).unwrap();
    assert_eq!((set.len(), set.classes().len(), set.split(2)), (3, 3, Some(Split::Validation)));
    assert_eq!(set.objects(0).unwrap().unwrap().boxes[0].bbox, [0.25, 0.25, 0.5, 0.5]);
    assert!(set.objects(1).unwrap().unwrap().boxes.is_empty());
    assert!(set.objects(2).unwrap_err().to_string().contains("c.txt: line 1"));
    assert!(
        set.notes().iter().any(|n| n.contains("1 of 3 images have no file of boxes")),
        "{:?}",
        set.notes()
    );
    std::fs::remove_file(dir.path().join("data.yaml")).unwrap();
    assert_eq!(open(dir.path()).unwrap().classes(), ["0", "1"]);
}

#[test]
fn voc_and_patterns() {
    let dir = tempfile::tempdir().unwrap();
    let tree = |name: &str| {
        format!(
            "<annotation><object><name>{name}</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>4</xmax>\
             <ymax>4</ymax></bndbox></object></annotation>"
        )
    };
    let (hen, cat) = (tree("hen"), tree("cat"));
    let files = [
        ("JPEGImages/a.jpg", ""),
        ("JPEGImages/b.jpg", ""),
        ("JPEGImages/c.jpg", ""),
        ("Annotations/a.xml", &hen[..]),
        ("Annotations/c.xml", &cat),
    ];
    write(dir.path(), &files);
    let set = open(dir.path()).unwrap();
    assert_eq!((set.len(), set.classes()), (2, &["cat".to_string(), "hen".into()][..]));
    assert_eq!(set.objects(0).unwrap().unwrap().boxes[0].category, 1);
    assert!(set.notes().iter().any(|n| n.contains("1 of 3 images")), "{:?}", set.notes());
    write(dir.path(), &[("other/b-boxes.xml", &cat)]);
    let targets = "JPEGImages/*.jpg -> other/*-boxes.xml".to_string();
    let reading = Reading { targets, ..Reading::default() };
    let set = open_objects(dir.path().to_str().unwrap(), &reading).unwrap();
    assert_eq!((set.len(), set.classes().len()), (1, 1));
    assert!(set.id(0).unwrap().ends_with("b.jpg"));
}

#[test]
fn nothing_is_an_error_that_says_what_may_be() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[("a.jpg", "")]);
    let e = open(dir.path()).err().unwrap().to_string();
    assert!(e.contains("no boxes") && e.contains("data.targets"), "{e}");
}

//! Segmentation and detection of images through the real command: folders of masks, COCO, YOLO and VOC, what
//! is written, and what is refused.

use crate::common::{Work, good, refused, selfsup};
use serde_json::json;

/// A network that is trained in a moment: its finest map has a place for each 4 pixels.
const SMALL: &[&str] = &[
    "encoder.name=resnet",
    "encoder.depths=[1, 1, 1]",
    "encoder.widths=[8, 16, 16]",
    "encoder.stem=8",
    "encoder.small_images=false",
    "augment.size=64",
    "augment.crop_scale=[0.6, 1.0]",
    "train.batch_size=8",
    "train.workers=1",
    "optim.lr=1e-2",
    "optim.layer_decay=1.0",
];

/// A square in each picture: left, top, side, and whether it is red (or green).
fn square(i: u32) -> (u32, u32, u32, bool) {
    (2 + i * 7 % 17, 2 + i * 5 % 13, 10 + i % 6, i.is_multiple_of(2))
}

impl Work {
    /// `n` pictures of 40 x 32 pixels in `NAME/images`, with masks of 0, 3 and 7, and 255 in the first row.
    fn with_squares(&self, name: &str, n: u32) -> String {
        for folder in ["images", "masks"] {
            std::fs::create_dir_all(self.path(&format!("{name}/{folder}"))).unwrap();
        }
        for i in 0..n {
            let (left, top, side, red) = square(i);
            let inside = |x: u32, y: u32| (left..left + side).contains(&x) && (top..top + side).contains(&y);
            let picture = image::RgbImage::from_fn(40, 32, |x, y| {
                let noise = ((x * 31 + y * 17 + i * 13) % 29) as u8;
                match (inside(x, y), red) {
                    (true, true) => image::Rgb([220, noise, noise]),
                    (true, false) => image::Rgb([noise, 220, noise]),
                    _ => image::Rgb([90 + noise; 3]),
                }
            });
            picture.save(self.path(&format!("{name}/images/{i:02}.png"))).unwrap();
            let mask = image::GrayImage::from_fn(40, 32, |x, y| {
                let value = if inside(x, y) { if red { 3 } else { 7 } } else { 0 };
                image::Luma([if y == 0 { 255 } else { value }])
            });
            mask.save(self.path(&format!("{name}/masks/{i:02}.png"))).unwrap();
        }
        self.text(name)
    }

    /// COCO's annotations of the same pictures, with ids that leave gaps.
    fn with_coco(&self, name: &str, n: u32) -> String {
        self.with_squares(name, n);
        let picture = |i: u32| {
            let name = format!("images/{i:02}.png");
            json!({ "id": 100 + i, "file_name": name, "width": 40, "height": 32 })
        };
        let annotation = |i: u32| {
            let (left, top, side, red) = square(i);
            json!({ "id": i + 1, "image_id": 100 + i, "category_id": if red { 5 } else { 90 },
                "bbox": [left, top, side, side], "area": side * side, "iscrowd": 0 })
        };
        let all = json!({
            "images": (0..n).map(picture).collect::<Vec<_>>(),
            "annotations": (0..n).map(annotation).collect::<Vec<_>>(),
            "categories": [{ "id": 90, "name": "green" }, { "id": 5, "name": "red" }],
        });
        std::fs::remove_dir_all(self.path(&format!("{name}/masks"))).unwrap();
        self.file(&format!("{name}/boxes.json"), &all.to_string())
    }
}

fn finetune<'a>(task: &'a str, data: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["finetune", "modality=vision", task, "--data", data, "--out", out][..], SMALL, more].concat()
}

#[test]
fn masks_are_learnt_measured_and_written() {
    let w = Work::new();
    let (data, test, out) = (w.with_squares("data", 24), w.with_squares("test", 6), w.text("run"));
    let more = ["--test", &test, "data.hold_out=0.2", "train.steps=60", "train.eval_every=30"];
    let said = good(&selfsup(&finetune("task.kind=segmentation", &data, &out, &more)));
    assert!(said.contains("miou"), "{said}");
    let result = w.json("run/result.json");
    let score = |key: &str| result["test"][key].as_f64().unwrap();
    assert!(score("miou") > 70.0, "{result}");
    assert!(score("iou_3") > 40.0 && score("iou_7") > 40.0 && score("pixel_accuracy") > 85.0, "{result}");
    // The values of the masks are kept, without the one that does not count.
    assert_eq!(w.json("run/model/classes.json"), json!(["0", "3", "7"]));

    let masks = w.text("out");
    good(&selfsup(&["segment", &out, &w.text("test/images"), "--out", &masks]));
    let mask = image::open(w.path("out/00.png")).unwrap().to_luma8();
    assert_eq!(mask.dimensions(), (40, 32));
    assert!(mask.pixels().all(|p| [0, 3, 7].contains(&p.0[0])));
    let (left, top, side, _) = square(0);
    assert_eq!(mask.get_pixel(left + side / 2, top + side / 2).0, [3]);
    let (overlay, picture) = (
        image::open(w.path("out/00-overlay.png")).unwrap(),
        image::open(w.path("test/images/00.png")).unwrap(),
    );
    assert_eq!((overlay.width(), overlay.height()), (40, 32));
    assert_ne!(overlay.to_rgb8(), picture.to_rgb8());
    refused(&selfsup(&["predict", &out, &test]), &["selfsup segment"]);

    // A linear layer on frozen maps, masks named by a pattern and by a table.
    std::fs::rename(w.path("data/masks"), w.path("data/truth")).unwrap();
    let frozen = w.text("frozen");
    let pattern = "data.targets=images/*.png -> truth/*.png";
    let more = [pattern, "task.train_blocks=0", "task.head=linear", "train.steps=10", "data.hold_out=0.2"];
    good(&selfsup(&finetune("task.kind=segmentation", &data, &frozen, &more)));
    assert!(w.json("frozen/result.json")["validation"]["miou"].as_f64().unwrap() > 0.0);
    let rows: String = (0..24).map(|i| format!("images/{i:02}.png,truth/{i:02}.png\n")).collect();
    let table = w.file("data/table.csv", &format!("path,mask\n{rows}"));
    let tabled = w.text("tabled");
    let more = ["--labels", &table, "train.steps=2", "data.hold_out=0.2", "data.layout=plain"];
    let output = selfsup(&finetune("task.kind=segmentation", &w.text("data"), &tabled, &more));
    good(&output);
    assert_eq!(w.json("tabled/model/classes.json"), json!(["0", "3", "7"]));
}

#[test]
fn masks_that_do_not_fit() {
    let w = Work::new();
    let data = w.with_squares("data", 8);
    let run = |more: &[&str]| {
        let more = [&["train.steps=4", "data.hold_out=0", "train.max_bad_fraction=0"][..], more].concat();
        let _ = std::fs::remove_dir_all(w.path("run"));
        selfsup(&finetune("task.kind=segmentation", &data, &w.text("run"), &more))
    };
    image::GrayImage::new(8, 8).save(w.path("data/masks/03.png")).unwrap();
    refused(&run(&[]), &["masks/03.png", "8 x 8", "40 x 32"]);
    image::RgbImage::new(40, 32).save(w.path("data/masks/03.png")).unwrap();
    refused(&run(&[]), &["masks/03.png", "palette"]);
    // With a share of bad samples the others are learnt.
    good(&run(&["train.max_bad_fraction=0.5"]));
    std::fs::remove_file(w.path("data/masks/03.png")).unwrap();
    good(&run(&[]));
    refused(&run(&["task.head=unet"]), &["task.head", "linear or pyramid"]);
    refused(&run(&["task.ignore=-2"]), &["task.ignore"]);
    refused(&run(&["augment.rotation=5"]), &["augment.rotation"]);
    refused(&run(&["task.dropout=0.1"]), &["`task.dropout` is not read by segmentation"]);
    refused(&run(&["data.targets=images/*.png"]), &["data.targets", "two patterns"]);
    std::fs::remove_dir_all(w.path("data/masks")).unwrap();
    refused(&run(&[]), &["no masks", "data.targets"]);
}

#[test]
fn boxes_are_learnt_measured_and_written() {
    let w = Work::new();
    let (data, test, out) = (w.with_coco("data", 32), w.with_coco("test", 8), w.text("run"));
    let more = ["--test", &test, "data.hold_out=0.2", "train.steps=150", "train.eval_every=75"];
    let said = good(&selfsup(&finetune("task.kind=detection", &data, &out, &more)));
    assert!(said.contains("ap50"), "{said}");
    let result = w.json("run/result.json");
    assert!(result["test"]["ap50"].as_f64().unwrap() > 50.0, "{result}");
    assert_eq!(w.json("run/model/classes.json"), json!(["red", "green"]));

    // Rows of a table, and pictures with COCO's results beside them.
    let table = w.text("boxes.csv");
    good(&selfsup(&["predict", &out, &w.text("test/images"), "--out", &table]));
    let text = std::fs::read_to_string(&table).unwrap();
    assert!(text.starts_with("path,label,score,x,y,width,height,image_id,category_id\n"), "{text}");
    good(&selfsup(&["predict", &out, &test, "--out", &w.text("drawn")]));
    let results = w.json("drawn/results.json");
    let first = &results[0];
    assert_eq!((first["image_id"].as_i64(), first["bbox"].as_array().unwrap().len()), (Some(100), 4));
    assert!([5, 90].contains(&first["category_id"].as_i64().unwrap()));
    let drawn = image::open(w.path("drawn/00.png")).unwrap().to_rgb8();
    assert_ne!(drawn, image::open(w.path("test/images/00.png")).unwrap().to_rgb8());
}

#[test]
fn boxes_of_every_format() {
    let w = Work::new();
    w.with_squares("yolo", 8);
    w.with_squares("voc", 8);
    for i in 0..8 {
        let (left, top, side, red) = square(i);
        let share = |v: u32, of: f64| f64::from(v) / of + f64::from(side) / 2.0 / of;
        let (x, y) = (share(left, 40.0), share(top, 32.0));
        let (width, height) = (f64::from(side) / 40.0, f64::from(side) / 32.0);
        w.write(&format!("yolo/labels/{i:02}.txt"), format!("{} {x} {y} {width} {height}\n", u32::from(red)));
        w.write(
            &format!("voc/Annotations/{i:02}.xml"),
            format!(
                "<annotation><size><width>40</width><height>32</height></size><object><name>{}</name><bndbox>\
                 <xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object></annotation>",
                if red { "red" } else { "green" },
                left + 1,
                top + 1,
                left + side,
                top + side
            ),
        );
    }
    w.write("yolo/classes.txt", "green\nred\n");
    for set in ["yolo", "voc"] {
        std::fs::remove_dir_all(w.path(&format!("{set}/masks"))).unwrap();
        let (data, out) = (w.text(set), w.text(&format!("run-{set}")));
        let more = ["train.steps=2", "data.hold_out=0.25"];
        good(&selfsup(&finetune("task.kind=detection", &data, &out, &more)));
        assert_eq!(w.json(&format!("run-{set}/model/classes.json")), json!(["green", "red"]));
    }
    // What is wrong names the file and the place.
    let run = |set: &str| {
        let _ = std::fs::remove_dir_all(w.path("bad"));
        let more = ["train.steps=4", "data.hold_out=0", "train.max_bad_fraction=0"];
        selfsup(&finetune("task.kind=detection", &w.text(set), &w.text("bad"), &more))
    };
    w.write("yolo/labels/05.txt", "1 0.9 0.5 0.5 0.5\n");
    refused(&run("yolo"), &["labels/05.txt", "line 1", "outside the image of 40 x 32"]);
    w.write("yolo/labels/05.txt", "2 0.5 0.5 0.5 0.5\n");
    refused(&run("yolo"), &["labels/05.txt", "line 1", "below 2"]);
    let size = "<annotation><size><width>41</width><height>32</height></size></annotation>";
    w.write("voc/Annotations/02.xml", size);
    refused(&run("voc"), &["Annotations/02.xml", "41 x 32", "40 x 32"]);
    w.write("voc/Annotations/02.xml", "<annotation><object></annotation>");
    refused(&run("voc"), &["Annotations/02.xml", "</annotation>"]);
}

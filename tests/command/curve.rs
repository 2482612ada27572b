//! `selfsup curve`: label curves, resumed ones, and what is refused.

use crate::common::{Work, good, refused, selfsup};
use serde_json::Value;
use std::path::PathBuf;

const SMALL: &[&str] = &[
    "encoder.name=resnet",
    "encoder.depths=[1, 1]",
    "encoder.widths=[8, 16]",
    "encoder.stem=8",
    "method.hidden_dim=8",
    "method.out_dim=4",
    "augment.size=16",
    "augment.crop_scale=[0.8, 1.0]",
    "augment.flip=0",
    "train.steps=2",
    "train.batch_size=8",
    "eval.online_knn=0",
];

impl Work {
    /// A folder `name` of striped pictures, lying and standing in folders of their own, and a run of two
    /// steps on them.
    fn striped(&self, name: &str, classes: &[&str]) -> String {
        for (c, class) in classes.iter().enumerate() {
            std::fs::create_dir_all(self.path(&format!("{name}/{class}"))).unwrap();
            for i in 0..30u32 {
                let picture = image::RgbImage::from_fn(16, 16, |x, y| {
                    let along = if c == 1 { x } else { y };
                    image::Rgb([((along + i / 2) % 4 / 2 * 200 + i) as u8; 3])
                });
                picture.save(self.path(&format!("{name}/{class}/{i:02}.png"))).unwrap();
            }
        }
        let (data, run) = (self.text(name), self.text(&format!("{name}-run")));
        let args =
            [&["pretrain", "--data", &data, "--out", &run, "--no-probe", "data.hold_out=0.3"][..], SMALL];
        good(&selfsup(&args.concat()));
        run
    }

    fn cells(&self, curve: &str) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.path(curve).join("cells")).unwrap();
        let mut files: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
        files.retain(|f| f.extension().is_some_and(|e| e == "json"));
        files.sort();
        files
    }

    /// What was found, without the time that it took.
    fn curve(&self, curve: &str) -> Value {
        let mut found = self.json(&format!("{curve}/curve.json"));
        assert!(found.as_object_mut().unwrap().remove("seconds").unwrap().as_f64().unwrap() > 0.0);
        found
    }
}

#[test]
fn labels_have_a_worth_and_no_cell_is_computed_twice() {
    let w = Work::new();
    let run = w.striped("data", &["lying", "standing"]);
    let sizes =
        ["--fractions", "50,100", "--per-class", "1", "--draws", "2", "--seeds", "2", "--steps", "80"];
    let args = [&["curve", &run][..], &sizes, &["optim.lr=1e-2"]].concat();
    let said = good(&selfsup(&args));
    for part in
        ["linear probe", "fine-tuned", "from scratch", "random encoder", "raw pixels", "2 (1 per class)"]
    {
        assert!(said.contains(part), "{part} in: {said}");
    }
    assert!(said.contains("the same network from scratch would need as fine-tuned has"), "{said}");
    let found = w.curve("data-run/curve");
    assert_eq!((found["unit"].as_str(), found["nested"].as_bool()), (Some("labels"), Some(true)));
    let amounts: Vec<f64> =
        found["amounts"].as_array().unwrap().iter().map(|a| a["amount"].as_f64().unwrap()).collect();
    assert_eq!(amounts.len(), 3, "{found}");
    assert_eq!(amounts[0], 2.0);
    let points = found["points"].as_array().unwrap();
    assert_eq!(points.len(), 15);
    let point = |setting: &str, size: &str| {
        points.iter().find(|p| p["setting"] == setting && p["size"] == size).unwrap()
    };
    let tuned = point("finetune", "100%");
    assert!(tuned["mean"].as_f64().unwrap() > 75.0, "stripes are told apart by their direction: {tuned}");
    assert_eq!(tuned["values"].as_array().unwrap().len(), 1, "all labels are one draw");
    let half = point("scratch", "50%");
    let seeds: Vec<usize> =
        half["values"].as_array().unwrap().iter().map(|d| d.as_array().unwrap().len()).collect();
    assert_eq!(seeds, [2, 2], "two draws of two seeds");
    assert_eq!(
        point("raw", "50%")["values"][0].as_array().unwrap().len(),
        1,
        "nothing but the draw is random"
    );
    assert!(half["interval"][0].as_f64().unwrap() <= half["mean"].as_f64().unwrap());
    // Six pairs of settings at three amounts.
    assert_eq!(found["saved"].as_array().unwrap().len(), 18);
    assert!(std::fs::read_to_string(w.path("data-run/curve/curve.svg")).unwrap().starts_with("<svg"));

    // Nothing is left to compute; then a part is, as after a stop.
    let before = w.listing("data-run/curve/cells");
    good(&selfsup(&args));
    assert_eq!(w.listing("data-run/curve/cells"), before);
    let cells = w.cells("data-run/curve");
    cells.iter().step_by(2).for_each(|f| std::fs::remove_file(f).unwrap());
    std::fs::write(&cells[1], "{").unwrap();
    std::fs::remove_file(w.path("data-run/curve/curve.json")).unwrap();
    good(&selfsup(&args));
    assert_eq!(w.cells("data-run/curve"), cells);
    assert_eq!(w.curve("data-run/curve"), found, "a resumed curve is an unbroken one");

    // More draws take the cells that are there.
    let more = [&args[..], &["--settings", "linear,raw", "--json", "-q"]].concat();
    let more: Vec<&str> = more.iter().map(|a| if *a == "2" { "3" } else { a }).collect();
    let result: Value = serde_json::from_str(&good(&selfsup(&more))).unwrap();
    assert_eq!(result["points"].as_array().unwrap().len(), 6);
    // A third draw of two amounts for two settings.
    assert_eq!(w.cells("data-run/curve").len(), cells.len() + 4);
}

#[test]
fn what_cannot_be_drawn_is_refused() {
    let w = Work::new();
    let run = w.striped("data", &["lying", "standing"]);
    let refuse = |more: &[&str], parts: &[&str]| {
        refused(&selfsup(&[&["curve", &run][..], more].concat()), parts);
    };
    refuse(&["--fractions", "2"], &["--fractions", "fewer than the 2 classes"]);
    refuse(&["--fractions", "0"], &["--fractions", "percentage"]);
    refuse(&["--per-class", "500"], &["--per-class", "class `", "samples to train on"]);
    refuse(&["--minutes", "1"], &["--minutes", "recordings"]);
    refuse(&["--settings", "magic"], &["--settings magic", "linear, finetune"]);
    refuse(&["--draws", "0"], &["--draws 0"]);
    refuse(&["--rates=-1"], &["--rates -1"]);
    refuse(&["task.kind=ctc"], &["task.kind", "classification"]);
    refuse(&["optim.lrr=1"], &["optim.lrr"]);
    refuse(&["--data", &w.text("absent")], &["absent"]);

    // Nothing is held out, no labels, one class.
    refuse(&["data.hold_out=0"], &["nothing is held out", "data.hold_out=0.2"]);
    std::fs::create_dir(w.path("flat")).unwrap();
    for i in 0..8 {
        std::fs::copy(w.path(&format!("data/lying/{i:02}.png")), w.path(&format!("flat/{i}.png"))).unwrap();
    }
    refuse(&["--data", &w.text("flat")], &["no labels", "--labels"]);
    let table: String = (0..8).map(|i| format!("{i}.png,same\n")).collect();
    let table = w.file("one.csv", &format!("path,label\n{table}"));
    refuse(&["--data", &w.text("flat"), "--labels", &table], &["`same`", "two classes"]);

    // A folder with the curve of another run.
    let other = w.striped("other", &["lying", "standing"]);
    let (out, quick) = (w.text("shared"), ["--settings", "raw", "--fractions", "100"]);
    good(&selfsup(&[&["curve", &run, "--out", &out][..], &quick].concat()));
    refused(
        &selfsup(&[&["curve", &other, "--out", &out][..], &quick].concat()),
        &["holds the curve of", "data-run", "another folder"],
    );
    refused(&selfsup(&["curve", &w.text("data")]), &["holds no run"]);
}

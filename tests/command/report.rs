//! `selfsup report`: a page that holds what it should, and nothing that it should not.

use crate::common::{Work, good, refused, selfsup};
use serde_json::Value;

const SMALL: &[&str] = &[
    "encoder.name=resnet",
    "encoder.depths=[1, 1]",
    "encoder.widths=[8, 16]",
    "encoder.stem=8",
    "method.hidden_dim=8",
    "method.out_dim=4",
    "augment.size=16",
    "train.steps=2",
    "train.batch_size=8",
    "train.log_every=1",
    "eval.few=[8]",
    "eval.draws=2",
    "eval.knn_k=3",
    "data.hold_out=0.5",
];

/// What the page holds.
fn data(page: &str) -> Value {
    let (_, rest) = page.split_once("<script type=\"application/json\" id=\"data\">").unwrap();
    serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
}

fn array(v: &Value) -> &Vec<Value> {
    v.as_array().unwrap()
}

/// A label that would end the script and mark up the page stays text; samples are there where they are asked
/// for, and their names never; the page is the same again.
#[test]
fn a_page_about_images() {
    let w = Work::new();
    std::fs::create_dir(w.path("secret-data")).unwrap();
    let mut table = String::from("path,label,group\n");
    for i in 0..40u32 {
        let picture = image::RgbImage::from_fn(16, 16, |x, y| {
            let on = if i % 2 == 0 { x * (1 + i / 9) % 8 < 4 } else { y * (1 + i / 9) % 8 < 4 };
            image::Rgb([if on { 200 } else { 20 + i as u8 }; 3])
        });
        picture.save(w.path(&format!("secret-data/ann-{i:02}.png"))).unwrap();
        let label = if i % 2 == 0 { "</script><b>" } else { "stripes" };
        table += &format!("ann-{i:02}.png,{label},patient-{}\n", i / 2);
    }
    let labels = w.file("labels.csv", &table);
    let (run, page) = (w.text("run-a"), w.text("page.html"));
    let args = ["pretrain", "--data", &w.text("secret-data"), "--out", &run];
    let key = format!("data.labels={labels}");
    good(&selfsup(&[&args[..], SMALL, &[&key]].concat()));

    good(&selfsup(&["report", &run, "--out", &page, "--samples"]));
    let text = std::fs::read_to_string(&page).unwrap();
    assert!(!text.contains("</script><b>"));
    for name in ["ann-", "patient-", "secret-data/", w.path("").to_str().unwrap()] {
        assert!(!text.contains(name), "{name}");
    }
    let found = data(&text);
    let report = &found["runs"][0];
    let result = w.json("run-a/result.json");
    assert_eq!(report["name"], "run-a");
    assert_eq!(report["accuracies"][1]["values"][0], result["probe"]["linear"]["trained"]);
    assert!(report["verdict"].as_str().unwrap().starts_with("Pre-training"));
    assert_eq!(array(&report["curves"]["loss"]["x"]).len(), 2);
    let map = &report["map"];
    let n = map["n"].as_u64().unwrap() as usize;
    assert_eq!(n as u64, result["probe"]["test"].as_u64().unwrap());
    assert_eq!((array(&map["label"]).len(), array(&map["near"]).len()), (n, n * 6));
    assert!(array(&map["classes"]).iter().any(|c| c == "</script><b>"));
    assert!(map["group"].is_array() && array(&map["layouts"]).len() == 2);
    let votes: u64 = array(&map["guessed"]["confusion"]).iter().map(|v| v.as_u64().unwrap()).sum();
    assert_eq!(votes as usize, n);
    assert_eq!(
        map["guessed"]["accuracy"], result["probe"]["knn"]["trained"],
        "the votes are those of the probe"
    );
    let items = array(&found["galleries"][0]["items"]);
    assert_eq!(items.len(), n);
    assert!(items.iter().all(|i| i.as_str().unwrap().starts_with("data:image/")));

    let again = w.text("again.html");
    good(&selfsup(&["report", &run, "--out", &again, "--samples"]));
    assert!(std::fs::read_to_string(&again).unwrap() == text, "another page of the same run");

    // Two runs, the second without a map of samples; samples are not on a page that was not asked for them.
    good(&selfsup(&["report", &run, &run, "--out", &page, "--points", "9"]));
    let found = data(&std::fs::read_to_string(&page).unwrap());
    assert_eq!((array(&found["runs"]).len(), array(&found["galleries"]).len()), (2, 0));
    assert_eq!(found["runs"][1]["map"]["n"], 9);
    good(&selfsup(&["report", &run, "--out", &page, "--points", "0"]));
    let found = data(&std::fs::read_to_string(&page).unwrap());
    assert!(found["runs"][0]["map"].is_null() && found["runs"][0]["map_note"].is_string());

    let said = good(&selfsup(&["report", &run, "--text"]));
    let verdict = report["verdict"].as_str().unwrap();
    assert!(said.contains(verdict) && said.contains("linear, all labels") && said.contains("loss"), "{said}");
    let json: Value = serde_json::from_str(&good(&selfsup(&["report", &run, "--text", "--json"]))).unwrap();
    assert_eq!(json["runs"][0]["verdict"], verdict);

    refused(&selfsup(&["report", &w.text("absent")]), &["absent", "no run"]);
    refused(&selfsup(&["report", &run, "--points", "99999"]), &["--points"]);
    refused(&selfsup(&["report", "train.steps=2"]), &["no run"]);
    refused(&selfsup(&["report", &run, "train.stepz=2", "--out", &page]), &["stepz"]);
    refused(&selfsup(&["report", &run, "--data", &w.text("gone"), "--out", &page]), &["gone"]);
    // Samples that have gone leave a page without a map.
    std::fs::remove_dir_all(w.path("secret-data")).unwrap();
    good(&selfsup(&["report", &run, "--out", &page]));
    let found = data(&std::fs::read_to_string(&page).unwrap());
    assert!(found["runs"][0]["map"].is_null() && found["runs"][0]["accuracies"].is_array());
}

/// Of people's scans a page holds numbers alone; with `--samples` slices, and still no names.
#[cfg(feature = "medical")]
#[test]
fn a_page_about_scans() {
    use selfsup::medical::grid::Grid;
    let w = Work::new();
    let grid = Grid::with_spacing([14, 13, 12], [1.0; 3]).unwrap();
    std::fs::create_dir(w.path("smith")).unwrap();
    for i in 0..6u16 {
        let values: Vec<f32> = (0..14 * 13 * 12).map(|v| ((v * usize::from(i + 1)) % 97) as f32).collect();
        let path = w.path(&format!("smith/MRN7731-1970-01-0{i}.nii.gz"));
        selfsup::medical::write::values(&path, &grid, None, &values).unwrap();
    }
    let (run, page) = (w.text("scans"), w.text("page.html"));
    good(&selfsup(&[
        "pretrain",
        "--data",
        &w.text("smith"),
        "--out",
        &run,
        "encoder.widths=[4, 8]",
        "augment.size=[8, 8, 8]",
        "volumes.patches=2",
        "data.hold_out=0.5",
        "train.batch_size=2",
        "train.steps=2",
        "train.log_every=1",
        "eval.online_knn=0",
    ]));
    for samples in [false, true] {
        let more: &[&str] = if samples { &["--samples"] } else { &[] };
        good(&selfsup(&[&["report", &run, "--out", &page], more].concat()));
        let text = std::fs::read_to_string(&page).unwrap();
        for name in ["smith", "MRN7731", "1970", ".nii", w.path("").to_str().unwrap()] {
            assert!(!text.contains(name), "{name}");
        }
        let found = data(&text);
        let report = &found["runs"][0];
        assert_eq!(report["private"], true);
        let shown = array(&report["config"]).iter().find(|line| line[0] == "data.path").unwrap();
        assert_eq!(shown[1], "(left out)");
        assert!(report["map"]["n"].as_u64().unwrap() >= 2, "{}", report["map_note"]);
        assert_eq!(array(&found["galleries"]).len(), usize::from(samples));
        assert_eq!(text.contains("data:image/png;base64"), samples);
    }
}

/// MAE leaves reconstructions and maps of its patches, which a report with samples shows; other methods
/// say what they leave.
#[test]
fn pictures_of_what_was_learnt() {
    let w = Work::new();
    std::fs::create_dir(w.path("data")).unwrap();
    for i in 0..12u32 {
        let picture = image::RgbImage::from_fn(16, 16, |x, y| image::Rgb([(x * i) as u8, (y * 9) as u8, 90]));
        picture.save(w.path(&format!("data/{i:02}.png"))).unwrap();
    }
    let (run, page) = (w.text("mae"), w.text("page.html"));
    let keys = [
        "encoder.name=vit",
        "encoder.dim=16",
        "encoder.depth=2",
        "encoder.heads=2",
        "encoder.patch=4",
        "method.decoder_dim=16",
        "method.decoder_depth=1",
        "method.decoder_heads=2",
        "augment.size=16",
        "train.steps=2",
        "train.batch_size=4",
    ];
    let args = ["pretrain", "--data", &w.text("data"), "--method", "mae", "--out", &run, "--no-probe"];
    good(&selfsup(&[&args[..], &keys].concat()));
    refused(&selfsup(&["pictures", &run, "--count", "0"]), &["--count"]);
    good(&selfsup(&["pictures", &run, "--count", "3", "--data", &w.text("data")]));
    // Three samples of 16 pixels, enlarged sixfold: with gaps three columns of 96.
    for name in ["reconstructions", "patches"] {
        let size = image::image_dimensions(w.path(&format!("mae/pictures/{name}.png"))).unwrap();
        assert_eq!(size, (3 * 102 + 6, 3 * 102 + 6), "{name}");
    }
    let list = w.json("mae/pictures/pictures.json");
    assert_eq!(array(&list).len(), 2);
    assert!(list[1]["caption"].as_str().unwrap().contains("last block"));
    let shown = |more: &[&str]| {
        good(&selfsup(&[&["report", &run, "--out", &page, "--points", "0"], more].concat()));
        data(&std::fs::read_to_string(&page).unwrap())["runs"][0]["pictures"].clone()
    };
    assert!(shown(&[]).is_null());
    let pictures = shown(&["--samples"]);
    assert!(
        array(&pictures).iter().all(|p| p["src"].as_str().unwrap().starts_with("data:image/png;base64,"))
    );
}

/// A table of guesses for hidden words; a language model that writes leaves nothing to draw.
#[cfg(feature = "text")]
#[test]
fn guesses_for_hidden_words() {
    use crate::common::{SMALL_TEXT, line};
    let w = Work::new();
    let lines: Vec<String> = (0..60).map(line).collect();
    let data = w.file("lines.txt", &lines.join("\n"));
    for method in ["masked-lm", "causal-lm"] {
        let run = w.text(method);
        let args = ["pretrain", "--data", &data, "--method", method, "--out", &run, "--no-probe"];
        good(&selfsup(&[&args[..], SMALL_TEXT].concat()));
    }
    let said = good(&selfsup(&["pictures", &w.text("masked-lm"), "--count", "5"]));
    assert!(said.contains("text\thidden\tguesses"), "{said}");
    let list = w.json("masked-lm/pictures/pictures.json");
    let rows = array(&list[0]["rows"]);
    assert_eq!(rows.len(), 6);
    assert!(rows[1][0].as_str().unwrap().contains('▁') && rows[1][2].as_str().unwrap().contains('%'));
    refused(&selfsup(&["pictures", &w.text("causal-lm")]), &["causal-lm", "nothing to draw"]);
}

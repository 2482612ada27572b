//! `selfsup search`: neighbours, near-duplicates, outliers.

use crate::common::{Work, good, refused, selfsup};

#[test]
fn finds_copies_neighbours_and_strangers() {
    let w = Work::new();
    std::fs::create_dir(w.path("data")).unwrap();
    for i in 0..24u32 {
        let picture = image::RgbImage::from_fn(16, 16, |x, y| {
            let on = (x * (1 + i % 5) + y * (1 + i / 5)) % 8 < 4;
            image::Rgb([if on { 200 } else { 20 + i as u8 }; 3])
        });
        picture.save(w.path(&format!("data/{i:02}.png"))).unwrap();
    }
    std::fs::copy(w.path("data/03.png"), w.path("data/copy.png")).unwrap();
    let (data, run) = (w.text("data"), w.text("run"));
    let keys = [
        "encoder.name=resnet",
        "encoder.depths=[1, 1]",
        "encoder.widths=[8, 16]",
        "encoder.stem=8",
        "method.hidden_dim=8",
        "method.out_dim=4",
        "augment.size=16",
        "train.steps=2",
        "train.batch_size=8",
    ];
    good(&selfsup(&[&["pretrain", "--data", &data, "--out", &run, "--no-probe"][..], &keys].concat()));
    let said = good(&selfsup(&["search", &run, "--duplicates=0.99999"]));
    let rows: Vec<&str> = said.lines().collect();
    assert_eq!(rows[0], "group,id,similarity");
    let group: Vec<&&str> =
        rows.iter().filter(|r| r.contains("03.png,1.0") || r.contains("copy.png,1.0")).collect();
    assert_eq!(group.len(), 2, "{said}");
    assert_eq!(group[0].split(',').next(), group[1].split(',').next(), "one group: {said}");

    let out = w.text("near.csv");
    let query = w.text("data/03.png");
    good(&selfsup(&["search", &run, &query, "--top", "3", "--out", &out]));
    let table = std::fs::read_to_string(&out).unwrap();
    let rows: Vec<Vec<&str>> = table.lines().map(|l| l.split(',').collect()).collect();
    assert_eq!((rows.len(), rows[0].as_slice()), (4, &["query", "rank", "id", "similarity"][..]));
    assert!(rows[1][2].ends_with("03.png") && rows[2][2].ends_with("copy.png"), "{table}");
    assert_eq!((rows[1][3], rows[2][1]), ("1.0", "2"));

    let json = good(&selfsup(&["search", &run, "--outliers", "--top", "2", "--json"]));
    let found: serde_json::Value = serde_json::from_str(&json).unwrap();
    let far: Vec<f64> =
        found["found"].as_array().unwrap().iter().map(|r| r["distance"].as_f64().unwrap()).collect();
    assert!(far.len() == 2 && far[0] >= far[1] && far[0] > 0.0, "{json}");

    refused(&selfsup(&["search", &run]), &["no queries", "--duplicates"]);
    refused(&selfsup(&["search", &run, "--duplicates=2"]), &["threshold 2"]);
    refused(&selfsup(&["search", &run, &w.text("absent.png")]), &["absent.png"]);
}

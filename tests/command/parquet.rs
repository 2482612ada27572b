//! Tables of texts as other programs write them, through the real command (`tests/data/parquet/make.py`).

use crate::common::{SMALL_TEXT as SMALL, Work, good, refused, selfsup};

fn table(name: &str) -> String {
    format!("{}/tests/data/parquet/{name}.parquet", env!("CARGO_MANIFEST_DIR"))
}

/// The modality is seen in the columns; the labels serve the evaluation, a task and the features that are
/// written.
#[test]
fn texts_of_pyarrow() {
    let w = Work::new();
    let (data, run) = (table("pyarrow"), w.text("run"));
    let said = good(&selfsup(
        &[&["pretrain", "--data", &data, "--out", &run, "data.hold_out=0.2", "--method=masked-lm"], SMALL]
            .concat(),
    ));
    assert!(said.contains("linear, all labels"), "no labels were read: {said}");

    let tuned = w.text("tuned");
    let args = [
        "finetune",
        "--run",
        &run,
        "--out",
        &tuned,
        "train.epochs=25",
        "train.batch_size=8",
        "optim.lr=0.01",
        "train.patience=0",
    ];
    good(&selfsup(&args));
    let accuracy = w.json("tuned/result.json")["validation"]["accuracy"].as_f64().unwrap();
    assert!(accuracy > 90.0, "{accuracy}");

    // Features as a table, and a prediction for every row.
    let features = w.text("features.parquet");
    good(&selfsup(&["embed", &run, "--data", &data, "--out", &features]));
    assert_eq!(&std::fs::read(&features).unwrap()[..4], b"PAR1");
    let said = good(&selfsup(&["predict", &tuned, &data]));
    let found: Vec<&str> = said.lines().skip(1).filter_map(|l| l.rsplit(',').nth(1)).collect();
    assert_eq!(found.len(), 120, "{said}");
}

/// Another column, in the long strings and the compression of polars; a column that is not there is named
/// with those that are.
#[test]
fn texts_of_polars() {
    let w = Work::new();
    let (data, run) = (table("polars"), w.text("run"));
    let all = [
        &["pretrain", "--data", &data, "--out", &run, "modality=text", "--method=masked-lm", "--no-probe"],
        SMALL,
    ]
    .concat();
    refused(&selfsup(&all), &["polars.parquet", "no column `text`", "body"]);
    good(&selfsup(&[&all[..], &["corpus.column=body"]].concat()));
    assert!(w.path("run/model/model.safetensors").is_file());
}

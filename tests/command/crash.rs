//! A fine-tuning that ends at any of its file operations exports, once it is resumed, the model of one that
//! was left alone.

use crate::common::Work;
use selfsup::verbs::finetune::{Request, run};
use selfsup_core::checkpoint::fault;
use std::fmt::Write;

#[test]
fn a_fine_tuning_survives_every_crash_point() {
    let w = Work::new();
    std::fs::create_dir(w.path("data")).unwrap();
    let mut table = "path,label\n".to_string();
    for i in 0..16u32 {
        let standing = i % 2 == 1;
        let picture = image::RgbImage::from_fn(8, 8, |x, y| {
            let along = if standing { x } else { y };
            image::Rgb([((along + i / 2) % 4 / 2 * 200 + i) as u8; 3])
        });
        picture.save(w.path(&format!("data/{i:02}.png"))).unwrap();
        writeln!(table, "{i:02}.png,{}", if standing { "standing" } else { "lying" }).unwrap();
    }
    w.write("labels.csv", table);
    let keys = [
        "task.scratch=true",
        "encoder.name=resnet",
        "encoder.depths=[1, 1]",
        "encoder.widths=[4, 8]",
        "encoder.stem=4",
        "augment.size=8",
        "data.hold_out=0.25",
        "train.epochs=3",
        "train.batch_size=6",
        "train.keep_last=1",
        "train.workers=0",
        "optim.lr=0.02",
    ];
    let tune = |out: &str, resume: bool| {
        run(&Request {
            args: keys.map(str::to_string).to_vec(),
            data: Some(w.text("data")),
            labels: Some(w.path("labels.csv")),
            out: Some(w.path(out)),
            resume,
            ..Request::default()
        })
    };
    tune("whole", false).unwrap();
    let model = |out: &str| {
        ["model/model.safetensors", "model/head.safetensors", "model/classes.json"]
            .map(|name| std::fs::read(w.path(out).join(name)).unwrap())
    };
    let (expected, result) = (model("whole"), w.json("whole/result.json"));
    for n in 0.. {
        let out = format!("at-{n}");
        fault::arm(n);
        let ended = tune(&out, false);
        let failed = fault::disarm();
        assert_eq!(ended.is_err(), failed, "point {n}: {:?}", ended.err());
        if !failed {
            assert!(n > 35, "{n} points are fewer than a run has");
            break;
        }
        tune(&out, w.path(&out).join("config.toml").exists()).unwrap();
        assert!(model(&out) == expected, "point {n}: another model");
        let found = w.json(&format!("{out}/result.json"));
        for key in ["best_step", "validation"] {
            assert_eq!(found[key], result[key], "point {n}");
        }
        assert_eq!(found["training"]["best"], result["training"]["best"], "point {n}");
        assert_eq!(found["training"]["loss"], result["training"]["loss"], "point {n}");
    }
}

//! No key of the sections that the verbs read for all modalities (`[data]`, `[train]`, `[optim]`, `[eval]`) is
//! accepted and ignored: another value changes what a run leaves behind, or is refused. The test takes the keys
//! from serde and fails for one that it has no value for; [`crate::keys_test`] walks the other sections.

use crate::config::PretrainConfig;
use crate::keys_test::walk::leaves;
use crate::modality::vision::{Keys, Vision};
use crate::verbs::pretrain::{Request, run_as};
use serde_json::Value as Json;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use toml::{Table, Value};

/// Another value of each key than the bases have.
const VALUES: &[(&str, &str)] = &[
    ("data.test", "TEST"),
    ("data.labels", ""),
    ("data.columns.path", "'other'"),
    ("data.columns.label", "'who'"),
    ("data.columns.group", "'file'"),
    ("data.columns.split", "''"),
    ("data.layout", "plain"),
    ("data.targets", "'*.png -> *.txt'"),
    ("data.hold_out", "0.5"),
    ("data.limit", "6"),
    ("data.max_pixels", "100"),
    ("train.epochs", "2"),
    ("train.steps", "3"),
    ("train.batch_size", "6"),
    ("train.micro_batch_size", "2"),
    ("train.seed", "7"),
    ("train.max_bad_fraction", "0.0"),
    ("train.log_every", "2"),
    ("train.checkpoint_every", "1"),
    ("train.keep_last", "1"),
    ("train.eval_every", "2"),
    ("train.patience", "1"),
    ("train.freeze_encoder_steps", "2"),
    ("train.non_finite", "error"),
    ("train.max_skipped_fraction", "0.0"),
    ("train.precision", "bf16"),
    ("train.activation_checkpointing", "true"),
    ("optim.kind", "sgd"),
    ("optim.lr", "0.02"),
    ("optim.weight_decay", "0.3"),
    ("optim.weight_decay_end", "0.9"),
    ("optim.decay_all", "true"),
    ("optim.betas", "[0.5, 0.6]"),
    ("optim.eps", "0.1"),
    ("optim.momentum", "0.2"),
    ("optim.nesterov", "true"),
    ("optim.trust_coefficient", "0.1"),
    ("optim.layer_decay", "0.3"),
    ("optim.clip_grad_norm", "0.01"),
    ("optim.clip_grad_each", "0.001"),
    ("optim.schedule", "{ kind = 'constant' }"),
    ("eval.knn_k", "1"),
    ("eval.knn_temperature", "9.0"),
    ("eval.few", "[]"),
    ("eval.draws", "2"),
    ("eval.c", "1e-5"),
    ("eval.online_knn", "0"),
    ("eval.measures", "['twonn']"),
    ("eval.measure_every", "3"),
    ("eval.read", "statistics"),
];

/// Keys that change no number, or none of images.
const NEUTRAL: &[&str] = &[
    // The data itself.
    "data.path",
    // Of texts, recordings and volumes.
    "data.columns.text",
    "data.columns.mask",
    // Of runs that collapse.
    "train.on_collapse",
    // Threads and memory: the numbers are the same bits for all values.
    "train.workers",
    "train.prefetch",
    "eval.batch_size",
];

/// After a step at this rate nothing is finite.
const BLOWN: &str = "optim.lr=1e30";

const SMALL: &[&str] = &[
    "encoder.name=resnet",
    "encoder.depths=[1, 1]",
    "encoder.widths=[4, 6]",
    "encoder.stem=4",
    "method.hidden_dim=8",
    "method.out_dim=4",
    "augment.size=16",
    "train.epochs=4",
    "train.batch_size=4",
    "train.workers=0",
    "train.log_every=1",
    "train.max_bad_fraction=0.3",
    "eval.few=[6]",
    "eval.draws=3",
    "eval.knn_k=3",
    "device=cpu",
];

/// What a run leaves but for times, and but for its configuration: numbers, weights, names of checkpoints.
fn digest(overrides: &[String]) -> Result<u64, String> {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let args = SMALL.iter().map(|s| (*s).to_string()).chain(overrides.iter().cloned()).collect();
    // Features of weights that blew up cannot be measured.
    let probe = !overrides.iter().any(|o| o == BLOWN);
    run_as::<Vision>(Request { args, out: Some(out.clone()), probe, ..Request::default() })
        .map_err(|e| e.to_string())?;
    let mut hasher = DefaultHasher::new();
    std::fs::read(out.join("model/model.safetensors")).unwrap().hash(&mut hasher);
    let mut names: Vec<_> =
        std::fs::read_dir(out.join("checkpoints")).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    names.hash(&mut hasher);
    let read = |file: &str| std::fs::read_to_string(out.join(file)).unwrap();
    for text in read("metrics.jsonl").lines().chain([&*read("result.json")]) {
        let mut values: Json = serde_json::from_str(text).unwrap();
        timeless(&mut values);
        values.to_string().hash(&mut hasher);
    }
    Ok(hasher.finish())
}

fn timeless(v: &mut Json) {
    if let Json::Object(map) = v {
        for key in ["seconds", "samples_per_second", "time", "cost"] {
            map.remove(key);
        }
        map.retain(|key, _| !key.starts_with("cost/"));
        map.values_mut().for_each(timeless);
    }
}

/// Noise with a bar whose place tells the class.
fn picture(path: &Path, seed: u32, class: u32) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let picture = image::RgbImage::from_fn(20, 20, |x, y| {
        let noise = (x * 31 + y * 17 + seed * 101).wrapping_mul(2_654_435_761) >> 25;
        image::Rgb([if (x / 10) == class { 250 } else { noise as u8 }, noise as u8, (noise / 2) as u8])
    });
    picture.save(path).unwrap();
}

/// Folders to read: pictures with a table, and the same in folders of splits.
fn data(dir: &Path) -> (Vec<String>, Vec<String>, String) {
    let mut table = String::from("file,other,kind,who,fold\n");
    for i in 0..24u32 {
        let class = i % 2;
        picture(&dir.join(format!("flat/{i:02}.png")), i, class);
        let fold = if i < 18 { "train" } else { "test" };
        writeln!(table, "{i:02}.png,{:02}.png,k{class},w{},{fold}", 23 - i, i / 3).unwrap();
        let part = if i < 18 { "train" } else { "val" };
        picture(&dir.join(format!("split/{part}/c{class}/{i:02}.png")), i, class);
        picture(&dir.join(format!("test/c{class}/{i:02}.png")), i + 100, class);
    }
    std::fs::write(dir.join("flat/bad.png"), "no picture").unwrap();
    table += "bad.png,bad.png,k0,w9,train\n";
    std::fs::write(dir.join("table.csv"), table).unwrap();
    let text = |name: &str| Value::String(dir.join(name).display().to_string()).to_string();
    let flat = vec![
        format!("data.path={}", text("flat")),
        format!("data.labels={}", text("table.csv")),
        "data.columns={ path = 'file', label = 'kind', group = 'who', split = 'fold' }".into(),
    ];
    (flat, vec![format!("data.path={}", text("split")), "data.hold_out=0.2".into()], text("test"))
}

/// The keys of a section that serde writes, and those that it knows.
fn keys(section: &str) -> BTreeSet<String> {
    let load = |more: &[String]| PretrainConfig::<Keys>::load("", "defaults", more);
    let all = Value::try_from(load(&[]).unwrap()).unwrap();
    let mut out = BTreeSet::new();
    leaves(all.get(section).unwrap_or(&Value::Table(Table::new())), section, &mut out);
    let columns = (section == "data").then(|| "data.columns".to_string());
    for table in [section.to_string()].into_iter().chain(columns) {
        let e = load(&[format!("{table}.zz=1")]).unwrap_err().to_string();
        let listed = e.split("expected one of ").nth(1).unwrap_or_default();
        out.extend(listed.split('`').skip(1).step_by(2).map(|k| format!("{table}.{k}")));
    }
    // A section or a form of its own is one key.
    out.into_iter().filter(|k| k != "data.columns" && !k.starts_with("optim.schedule.")).collect()
}

#[test]
fn sections_of_the_loop() {
    let dir = tempfile::tempdir().unwrap();
    let (flat, split, test) = data(dir.path());
    let with = |base: &[String], more: &[&str]| -> Vec<String> {
        base.iter().cloned().chain(more.iter().map(|s| (*s).to_string())).collect()
    };
    let bases = [
        flat.clone(),
        // Nothing says what is held out.
        with(&flat, &["data.columns.split=''"]),
        split.clone(),
        with(&split, &["optim.kind=sgd"]),
        with(&split, &["optim.kind=lars"]),
        with(
            &split,
            &[
                "optim.kind=sgd",
                BLOWN,
                "train.non_finite=skip",
                "train.max_skipped_fraction=1",
                "eval.online_knn=0",
                "data.hold_out=0",
            ],
        ),
    ];
    let before: Vec<u64> = bases
        .iter()
        .map(|base| {
            let first = digest(base).unwrap();
            assert_eq!(first, digest(base).unwrap(), "{base:?}: two runs differ");
            first
        })
        .collect();
    let mut ignored = Vec::new();
    for section in ["data", "train", "optim", "eval"] {
        let keys = keys(section);
        assert!(keys.len() > 6, "{section}: {keys:?}");
        for key in keys.iter().filter(|k| !NEUTRAL.contains(&k.as_str())) {
            let Some((_, value)) = VALUES.iter().find(|(k, _)| k == key) else {
                ignored.push(format!("{key}: the test has no value for it"));
                continue;
            };
            let value = value.replace("TEST", &test);
            // A key that is refused for one base is to be read for another one.
            let (mut read, mut same) = (false, false);
            for (base, before) in bases.iter().zip(&before) {
                match digest(&with(base, &[&format!("{key}={value}")])) {
                    Ok(after) => {
                        read |= after != *before;
                        same |= after == *before;
                    }
                    Err(e) if e.contains("is read by") => {}
                    Err(_) => read = true,
                }
            }
            if same && !read {
                ignored.push(format!("{key} = {value} changes nothing"));
            }
        }
    }
    assert!(ignored.is_empty(), "accepted and ignored:\n{}", ignored.join("\n"));
}

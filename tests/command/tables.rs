//! Tables, folders and names as people have them, through the real command: leaks under any spelling, few
//! groups, splits by folders, names of embeddings, unreadable samples.

use crate::common::{Work, command, ended, good, refused, selfsup};
use std::path::Path;
use std::process::Output;

/// A run that is as small as possible.
const SMALL: &[&str] = &[
    "encoder.name=resnet",
    "encoder.depths=[1]",
    "encoder.widths=[4]",
    "encoder.stem=4",
    "method.hidden_dim=8",
    "method.out_dim=4",
    "augment.size=16",
    "train.steps=2",
    "train.batch_size=4",
    "eval.few=[]",
];

impl Work {
    /// A picture that no other one equals.
    fn picture(&self, name: &str, seed: u32) {
        let picture = image::RgbImage::from_fn(18, 18, |x, y| {
            image::Rgb([(x * 7 + seed * 31) as u8, (y * 11 + seed * 17) as u8, ((x + y) * 5 + seed) as u8])
        });
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        picture.save(path).unwrap();
    }

    /// The pictures that the tables of tests/data/tables name.
    fn group_pictures(&self) -> String {
        (0..24).for_each(|i| self.picture(&format!("imgs/sub{}/{i:02}.png", i % 2), i));
        self.text("imgs")
    }

    fn pretrain_small(&self, data: &str, more: &[&str]) -> Output {
        let run = self.text("run");
        let _ = std::fs::remove_dir_all(&run);
        let args = [&["pretrain", "--data", data, "--out", &run], SMALL, more].concat();
        // A dry run draws into the current folder.
        command(&args).current_dir(self.path("")).output().unwrap()
    }
}

fn data(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name).display().to_string()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_leak_is_refused_under_any_spelling() {
    let w = Work::new();
    let pictures = w.group_pictures();
    let text = std::fs::read_to_string(data("tables/leak.csv")).unwrap();
    for name in
        ["patient", "PatientID", "Patient ID", "subject-id", "case_id", "lesion_id", "StudyInstanceUID"]
    {
        let table = w.file("leak.csv", &text.replacen("patient", name, 1));
        let out = w.pretrain_small(&pictures, &[&format!("data.labels={table}"), "--no-probe"]);
        refused(&out, &["group `p", "leak", "training", "test"]);
    }
    // A scanner is named, not taken; asked for, it leaks as well.
    let table = format!("data.labels={}", w.file("leak.csv", &text.replacen("patient", "scanner", 1)));
    let out = w.pretrain_small(&pictures, &[&table, "--no-probe", "eval.online_knn=0"]);
    good(&out);
    assert!(said(&out).contains("data.columns.group = \"scanner\""), "{}", said(&out));
    refused(&w.pretrain_small(&pictures, &[&table, "data.columns.group=scanner"]), &["group `p"]);
    refused(
        &w.pretrain_small(&pictures, &[&table, "data.columns={ label = \"dx\" }"]),
        &["data.columns.label = \"dx\"", "`scanner`"],
    );
}

#[test]
fn of_five_patients_one_is_held_out_and_said() {
    let w = Work::new();
    let pictures = w.group_pictures();
    let mut table = "file_name,dx,PatientID\n".to_string();
    for i in 0..24 {
        table.push_str(&format!("sub{}/{i:02}.png,{},p{}\n", i % 2, i % 2, i % 6));
    }
    let table = format!("data.labels={}", w.file("t.csv", &table));
    let out = w.pretrain_small(&pictures, &[&table, "data.hold_out=0.2"]);
    let text = good(&out);
    assert!(said(&out).contains("held out: 1 of 6 groups, 4 of 24 samples (16.7%)"), "{}", said(&out));
    assert!(text.contains("evaluating on 20 + 4 labelled images"), "{text}");
    let out = w.pretrain_small(&pictures, &[&table, "data.hold_out=0.05", "--no-probe"]);
    good(&out);
    assert!(said(&out).contains("warning: held out: 1 of 6 groups") && said(&out).contains("5.0%"));
}

#[test]
fn folders_of_splits_divide() {
    let w = Work::new();
    for (i, name) in ["train/cat/1", "train/cat/2", "train/dog/3", "train/dog/4", "test/cat/5", "test/dog/6"]
        .iter()
        .enumerate()
    {
        w.picture(&format!("pets/{name}.png"), i as u32);
        w.picture(&format!("pets/masks/{i}.png"), 99);
    }
    let out = w.pretrain_small(&w.text("pets"), &["--dry-run"]);
    let text = good(&out);
    assert!(
        text.contains("4 to train on, 0 held out, 2 to test on") && text.contains("classes: cat, dog"),
        "{text}"
    );
    assert!(said(&out).contains("are splits") && said(&out).contains("data.layout"), "{}", said(&out));
    let text =
        good(&w.pretrain_small(&w.text("pets"), &["--dry-run", "data.layout=plain", "data.hold_out=0"]));
    assert!(text.contains("12 to train on") && text.contains("classes: masks, test, train"), "{text}");
}

#[test]
fn embeddings_have_names_in_every_format() {
    let w = Work::new();
    // `a-b` stands before `a/` in the order of texts.
    ["p/a/1.png", "p/a-b/2.png", "p/a/10.png", "p/b/4.png"]
        .iter()
        .enumerate()
        .for_each(|(i, n)| w.picture(n, i as u32));
    let pictures = w.text("p");
    good(&w.pretrain_small(&pictures, &["data.hold_out=0", "--no-probe"]));
    let run = w.text("run");
    for ending in ["csv", "npy", "safetensors"] {
        good(&selfsup(&["embed", &run, "--out", &w.text(&format!("f.{ending}"))]));
    }
    let read = |name: &str| std::fs::read_to_string(w.path(name)).unwrap();
    let ids: Vec<String> = ["a-b/2.png,a-b", "a/1.png,a", "a/10.png,a", "b/4.png,b"]
        .iter()
        .map(|n| format!("{pictures}/{n}"))
        .collect();
    assert_eq!(read("f.ids.csv"), format!("id,label\n{}\n", ids.join("\n")));
    let csv = read("f.csv");
    let mut lines = csv.lines();
    assert_eq!(lines.next(), Some("id,label,f0,f1,f2,f3"));
    let npy = std::fs::read(w.path("f.npy")).unwrap();
    let values: Vec<f32> = npy[npy.len() - 4 * 16..]
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
        .collect();
    for (line, (id, row)) in lines.zip(ids.iter().zip(values.chunks_exact(4))) {
        let rest = line.strip_prefix(id.as_str()).unwrap().strip_prefix(',').unwrap();
        assert_eq!(
            rest.split(',').map(|v| v.parse::<f32>().unwrap()).collect::<Vec<_>>(),
            row,
            "the same bits"
        );
    }
    assert_eq!(csv.lines().count(), 5);
}

#[test]
fn bad_samples_are_listed_skipped_and_counted() {
    let w = Work::new();
    for i in 0..8 {
        for class in ["a", "b"] {
            w.write(
                &format!("bad/{class}/{i}.jpg"),
                std::fs::read(data(&format!("bad/{i:02}.jpg"))).unwrap(),
            );
        }
    }
    for name in ["trunc.jpg", "truncpng.png", "html.jpg", "zero.jpg", "crc.png"] {
        w.write(&format!("bad/a/{name}"), std::fs::read(data(&format!("bad/{name}"))).unwrap());
    }
    let folder = w.text("bad");
    let out = selfsup(&["data", "inspect", &folder]);
    ended(&out, 2, &["5 of 21"]);
    let listed = String::from_utf8_lossy(&out.stdout).into_owned();
    for name in ["trunc.jpg", "truncpng.png", "html.jpg", "zero.jpg", "crc.png"] {
        assert_eq!(listed.matches(name).count(), 1, "{name}: {listed}");
    }
    // The kNN accuracy during training, and the probe after it, leave out what the training does.
    let out =
        w.pretrain_small(&folder, &["train.max_bad_fraction=0.5", "data.hold_out=0.3", "train.batch_size=8"]);
    good(&out);
    assert!(said(&out).contains("cannot be read and are skipped"), "{}", said(&out));
    refused(
        &w.pretrain_small(&folder, &["train.max_bad_fraction=0.01", "data.hold_out=0.3"]),
        &["cannot be read"],
    );
    good(
        &w.pretrain_small(&folder, &["train.max_bad_fraction=0.5", "data.hold_out=0", "train.batch_size=8"]),
    );
    let (run, out) = (w.text("run"), w.text("f.csv"));
    refused(&selfsup(&["embed", &run, "--out", &out]), &["bad/a/"]);
    let skipped = selfsup(&["embed", &run, "--out", &out, "--skip-bad"]);
    good(&skipped);
    assert_eq!(said(&skipped).matches("warning: skipped: ").count(), 5, "{}", said(&skipped));
    assert!(said(&skipped).contains("5 of 21 images"));
    assert_eq!(std::fs::read_to_string(&out).unwrap().lines().count(), 17);
}

/// A shard in gzip is unpacked into the cache once; damaged there, it is unpacked again.
#[test]
fn shards_in_gzip() {
    let w = Work::new();
    w.write("shards/train-0.tar.gz", std::fs::read(data("shards/pictures.tar.gz")).unwrap());
    w.write("shards/test-0.tgz", std::fs::read(data("shards/pictures.tar.gz")).unwrap());
    let cache = w.text("cache");
    let inspect = || {
        let mut command = command(&["data", "inspect", &w.text("shards")]);
        command.env("SELFSUP_DATA", &cache).output().unwrap()
    };
    let text = good(&inspect());
    assert!(text.contains("records: 16, bad: 0") && text.contains("class 1: 8"), "{text}");
    let (shards, run) = (w.text("shards"), w.text("run"));
    let args = [&["pretrain", "--data", &shards, "--out", &run, "--dry-run"], SMALL].concat();
    let dry = command(&args).current_dir(w.path("")).env("SELFSUP_DATA", &cache).output().unwrap();
    let text = good(&dry);
    assert!(text.contains("8 to train on, 0 held out, 8 to test on"), "{text}");
    let tars: Vec<_> = std::fs::read_dir(w.path("cache/shards"))
        .unwrap()
        .flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap())
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "tar"))
        .collect();
    assert_eq!(tars.len(), 2);
    std::fs::write(&tars[0], b"damaged").unwrap();
    assert_eq!(good(&inspect()).matches("records: 16, bad: 0").count(), 1);
}

/// What pyarrow writes: compressions, booleans, lists, and a null that is a bad sample like any other.
#[cfg(feature = "parquet")]
#[test]
fn tables_of_pictures() {
    let w = Work::new();
    for name in ["gzip", "lz4", "brotli"] {
        let text = good(&selfsup(&["data", "inspect", &data(&format!("parquet/{name}.parquet"))]));
        assert!(text.contains("records: 12, bad: 0") && text.contains("class true: 6"), "{name}: {text}");
    }
    let lists = selfsup(&["data", "inspect", &data("parquet/lists.parquet")]);
    ended(&lists, 2, &["1 of 16 images cannot be read", "6 rows have several pictures"]);
    let nulls = data("parquet/nulls.parquet");
    let listed = selfsup(&["data", "inspect", &nulls]);
    ended(&listed, 2, &["2 of 12 images cannot be read"]);
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(text.contains("nulls.parquet[3]") && text.contains("nulls.parquet[7]"), "{text}");
    refused(&w.pretrain_small(&nulls, &["data.hold_out=0", "--no-probe"]), &["null"]);
    good(&w.pretrain_small(&nulls, &["data.hold_out=0.3", "train.max_bad_fraction=0.5"]));
    let (run, out) = (w.text("run"), w.text("f.csv"));
    let skipped = selfsup(&["embed", &run, "--data", &nulls, "--out", &out, "--skip-bad"]);
    good(&skipped);
    assert!(said(&skipped).contains("2 of 12 images"), "{}", said(&skipped));
    // As the Hub lays a data set out: its parts by the names of files in data/.
    for part in ["train-00000-of-00002", "train-00001-of-00002", "validation-00000-of-00001"] {
        w.write(&format!("hub/data/{part}.parquet"), std::fs::read(data("parquet/gzip.parquet")).unwrap());
    }
    let out = w.pretrain_small(&w.text("hub"), &["--dry-run"]);
    assert!(good(&out).contains("24 to train on, 12 held out"), "{}", String::from_utf8_lossy(&out.stdout));
}

/// Values of 12 bits in 16 are next to black for an encoder of colours, which the dry run says; for one of a
/// single channel they are stretched.
#[test]
fn twelve_bits_in_sixteen() {
    let w = Work::new();
    std::fs::create_dir_all(w.path("xray")).unwrap();
    for i in 0..8u32 {
        let picture = image::ImageBuffer::from_fn(20, 20, |x, y| {
            image::Luma([((x * 9 + y * 7 + i * 31) % 256) as u16 * 16])
        });
        image::DynamicImage::ImageLuma16(picture).save(w.path(&format!("xray/{i}.png"))).unwrap();
    }
    let brightest = |more: &[&str]| {
        let text = good(&w.pretrain_small(
            &w.text("xray"),
            &[&["--dry-run", "data.hold_out=0", "augment.jitter_p=0"], more].concat(),
        ));
        let sheet = std::fs::read_dir(w.path("")).unwrap().map(|f| f.unwrap().path());
        let sheet =
            sheet.into_iter().find(|p| p.display().to_string().ends_with("-augmentations.png")).unwrap();
        let values = image::open(sheet).unwrap().to_luma8().into_raw();
        (values.iter().filter(|v| (64..255).contains(*v)).count() > 200, text)
    };
    let (bright, text) = brightest(&[]);
    assert!(!bright && text.contains("almost black") && text.contains("augment.stretch"), "{text}");
    for more in [&["encoder.channels=1"][..], &["augment.stretch=always"]] {
        let (bright, text) = brightest(more);
        assert!(bright && !text.contains("almost black"), "{more:?}: {text}");
    }
    assert!(!brightest(&["encoder.channels=1", "augment.stretch=never"]).0);
}

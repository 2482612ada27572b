//! Everything that users get wrong: each ends with exit code 2, a message that names the file, key or tensor,
//! and no panic.

use crate::common::{Work, command, ended, selfsup};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

impl Work {
    /// A folder of small pictures that differ.
    fn pictures(&self, name: &str, count: usize, size: u32) -> PathBuf {
        for i in 0..count {
            self.write(&format!("{name}/{}/{i:03}.png", i % 2), png(size, size, i as u32));
        }
        self.path(name)
    }
}

fn png(width: u32, height: u32, seed: u32) -> Vec<u8> {
    let picture = image::RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([(x * 7 + seed * 31) as u8, (y * 11 + seed * 17) as u8, ((x + y) * 5 + seed * 3) as u8])
    });
    let mut out = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut out, image::ImageFormat::Png).unwrap();
    out.into_inner()
}

fn jpeg() -> Vec<u8> {
    let picture = image::RgbImage::from_fn(40, 30, |x, y| image::Rgb([x as u8 * 6, y as u8 * 8, 90]));
    let mut out = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut out, image::ImageFormat::Jpeg).unwrap();
    out.into_inner()
}

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
    "eval.online_knn=0",
    "data.hold_out=0",
];

fn pretrain(data: &Path, out: &Path, more: &[&str]) -> Output {
    let mut args =
        vec!["pretrain", "--data", data.to_str().unwrap(), "--out", out.to_str().unwrap(), "--no-probe"];
    args.extend(SMALL);
    args.extend(more);
    selfsup(&args)
}

#[test]
fn a_good_run_is_good() {
    let w = Work::new();
    let out = pretrain(&w.pictures("data", 8, 20), &w.path("run"), &[]);
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
    for file in
        ["config.toml", "metrics.jsonl", "result.json", "model/model.safetensors", "model/config.json"]
    {
        assert!(w.path("run").join(file).exists(), "{file} is missing");
    }
    // A second run into the same folder would overwrite the first.
    ended(&pretrain(&w.path("data"), &w.path("run"), &[]), 2, &["run"]);
}

#[test]
fn data_that_is_not_there() {
    let w = Work::new();
    std::fs::create_dir(w.path("empty")).unwrap();
    ended(&pretrain(&w.path("empty"), &w.path("run"), &[]), 2, &["empty", "no images"]);
    ended(&pretrain(&w.path("absent"), &w.path("run"), &[]), 2, &["absent"]);
    ended(&selfsup(&["pretrain"]), 2, &["data.path"]);
}

#[test]
fn files_that_are_not_images() {
    let whole = jpeg();
    let mut bomb = png(2, 2, 0);
    bomb[16..24].copy_from_slice(&[0, 0, 0x75, 0x30, 0, 0, 0x75, 0x30]);
    let crc = crc32(&bomb[12..29]);
    bomb[29..33].copy_from_slice(&crc.to_be_bytes());
    for (name, bytes, part) in [
        ("text.jpg", &b"dear diary"[..], "not an image"),
        ("cut.jpg", &whole[..whole.len() - 3], "truncated"),
        ("empty.png", &b""[..], "empty"),
        ("bomb.png", &bomb[..], "30000"),
    ] {
        let w = Work::new();
        let data = w.pictures("data", 7, 20);
        w.write(&format!("data/0/{name}"), bytes);
        ended(&pretrain(&data, &w.path("run"), &["train.batch_size=8"]), 2, &[name, part]);
        // Where the configuration allows it the sample is skipped and counted, and the run ends.
        let skipped = pretrain(&data, &w.path("skip"), &["train.batch_size=8", "train.max_bad_fraction=0.5"]);
        assert_eq!(skipped.status.code(), Some(0), "{}", String::from_utf8_lossy(&skipped.stderr));
        let result = std::fs::read_to_string(w.path("skip/result.json")).unwrap();
        assert!(result.contains("\"bad_samples\": 2"), "{result}");
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut c = u32::MAX;
    for &b in bytes {
        c ^= u32::from(b);
        for _ in 0..8 {
            c = if c & 1 == 1 { (c >> 1) ^ 0xEDB8_8320 } else { c >> 1 };
        }
    }
    !c
}

#[cfg(unix)]
#[test]
fn a_dangling_link_is_named() {
    let w = Work::new();
    let data = w.pictures("data", 7, 20);
    std::os::unix::fs::symlink("nowhere", data.join("0/dangling.png")).unwrap();
    ended(&pretrain(&data, &w.path("run"), &["train.batch_size=8"]), 2, &["dangling.png"]);
}

#[test]
fn images_of_one_pixel_train() {
    let w = Work::new();
    let out = pretrain(&w.pictures("data", 8, 1), &w.path("run"), &[]);
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
}

/// Pictures without anything in them: all embeddings are the same, which the run says, and only then.
#[test]
fn a_collapse_is_said() {
    let w = Work::new();
    let mut blank = std::io::Cursor::new(Vec::new());
    image::RgbImage::new(20, 20).write_to(&mut blank, image::ImageFormat::Png).unwrap();
    (0..8).for_each(|i| drop(w.write(&format!("blank/{i}.png"), blank.get_ref())));
    let told = ["train.steps=12", "train.log_every=1"];
    let (good_out, bad_out) = (w.path("good"), w.path("bad"));
    let said = crate::common::good(&pretrain(&w.pictures("data", 8, 20), &good_out, &told));
    assert!(!said.contains("warning"), "{said}");
    assert_eq!(w.json("good/result.json")["training"].get("unhealthy"), None);
    let said = crate::common::good(&pretrain(&w.path("blank"), &bad_out, &told));
    for part in ["embedding_std", "0.2 and above", "since step 1", "Likely cause: all samples get", "Try: "] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    let training = &w.json("bad/result.json")["training"];
    let unhealthy = training["unhealthy"].as_array().unwrap();
    let spread = unhealthy.iter().find(|b| b["gauge"] == "embedding_std").unwrap();
    assert_eq!(spread["since_step"], 1, "{unhealthy:?}");
    assert_eq!(training["bands"]["embedding_std"]["low"], 0.2);
    // Asked to stop, it stops: a checkpoint, exit code 4, and a run that is marked so.
    let stopped = w.path("stopped");
    let stop = [&told[..], &["train.on_collapse=stop"]].concat();
    ended(&pretrain(&w.path("blank"), &stopped, &stop), 4, &["collapsed at step 1", "copies"]);
    assert_eq!(w.json("stopped/state.json")["state"], "collapsed");
    assert!(stopped.join("checkpoints").read_dir().unwrap().count() > 0);
    let listed = crate::common::good(&selfsup(&["runs", w.path("").to_str().unwrap()]));
    assert!(listed.contains("collapsed"), "{listed}");
    for run in ["good", "bad"] {
        let bound = w.json(&format!("{run}/bounds.json"))["embedding_std"].as_f64().unwrap();
        assert_eq!(bound, spread["healthy_above"].as_f64().unwrap());
        assert!(
            std::fs::read_to_string(w.path(&format!("{run}/curves.svg"))).unwrap().contains("#5A5A5A"),
            "no dashed line"
        );
    }
}

#[test]
fn configurations_that_cannot_be() {
    let w = Work::new();
    let data = w.pictures("data", 8, 20);
    for (key, parts) in [
        ("train.epoch=3", &["train.epoch", "epochs"][..]),
        ("method.temprature=0.1", &["temprature", "temperature"]),
        ("train.batch_size=100", &["batch_size", "100", "8"]),
        ("train.batch_size=0", &["batch_size"]),
        ("method.name=simclear", &["simclear"]),
        ("encoder.name=resnet19", &["resnet19"]),
        ("train.precision=bf16", &["bf16"]),
        ("augment.crop_scale=[0.0, 2.0]", &["crop_scale"]),
        ("optim.lr=-1.0", &["optim.lr"]),
        ("optim.lr=\"fast\"", &["optim.lr"]),
        ("encoder.pretrained=/no/such/folder", &["/no/such/folder"]),
        ("device=cuda", &["cuda"]),
        ("eval.read=statistics", &["eval.read", "pooled"]),
        ("nonsense", &["nonsense"]),
    ] {
        ended(&pretrain(&data, &w.path("run"), &[key]), 2, parts);
    }
    ended(&selfsup(&["pretrain", "no-such-file.toml"]), 2, &["no-such-file.toml"]);
    let toml = w.write("broken.toml", b"[train\nepochs = 3");
    ended(&selfsup(&["pretrain", toml.to_str().unwrap()]), 2, &["broken.toml"]);
}

/// A key that is given is read, or refused by name with who would read it.
#[test]
fn keys_that_nothing_reads() {
    let w = Work::new();
    let data = w.pictures("data", 8, 20);
    for (key, parts) in [
        ("augment.local_views=6", &["`augment.local_views`", "method simclr takes none"][..]),
        ("encoder.patch=4", &["`encoder.patch` is a key of convnext, swin and vit, not of resnet"]),
        ("method.queue = 64", &["`method.queue` is a key of moco, nnclr and swav, not of simclr"]),
        ("input.crop_seconds=2", &["`input.crop_seconds` is a key of speech"]),
        ("task.kind=ctc", &["`task.kind` is a key of `selfsup finetune`"]),
        ("optim.momentum=0.5", &["`optim.momentum` is read by sgd and lars, this is adamw"]),
    ] {
        ended(&pretrain(&data, &w.path("run"), &[key]), 2, parts);
        assert!(!w.path("run").exists(), "{key}");
    }
    // A run's own list of all keys is a configuration to start from.
    assert_eq!(pretrain(&data, &w.path("run"), &["optim.momentum=0.9"]).status.code(), Some(0));
    let file = w.path("run/config.toml");
    // A picture of the augmentations is written where it runs.
    let args = ["pretrain", file.to_str().unwrap(), "--dry-run", "method.name = byol"];
    let again = command(&args).current_dir(w.path("")).output().unwrap();
    assert_eq!(again.status.code(), Some(0), "{}", String::from_utf8_lossy(&again.stderr));
}

/// What spaces and quotes around values must not change.
#[test]
fn overrides_with_spaces() {
    let said = |args: &[&str]| {
        let out = selfsup(&[&["pretrain", "--dry-run", "no-such-file.toml"][..], args].concat());
        String::from_utf8_lossy(&out.stderr).into_owned()
    };
    assert!(said(&["data.path = x"]).contains("no-such-file.toml"));
    for data in ["data.path = festvox-ru", "data.path=\"festvox-ru\"", "data.path = 'festvox-ru'"] {
        let out =
            selfsup(&["pretrain", "--dry-run", data, "train.batch_size = 4", "input.crop_seconds = 0.5"]);
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(text.contains("recordings: "), "{text}{}", String::from_utf8_lossy(&out.stderr));
    }
}

#[test]
fn checkpoints_that_are_damaged_or_of_another_model() {
    let w = Work::new();
    let data = w.pictures("data", 8, 20);
    let run = w.path("run");
    assert_eq!(
        pretrain(&data, &run, &["train.checkpoint_every=1", "train.keep_last=1"]).status.code(),
        Some(0)
    );
    let checkpoints: Vec<PathBuf> = std::fs::read_dir(run.join("checkpoints"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.file_name().unwrap().to_string_lossy().starts_with("step-"))
        .collect();
    let whole = std::fs::read(&checkpoints[0]).unwrap();
    // Another network: refused by the changed configuration, and by the tensors where that is allowed.
    let other = ["--resume", "encoder.widths=[6]", "train.steps=4"];
    ended(&pretrain(&data, &run, &other), 2, &["encoder.widths"]);
    ended(&pretrain(&data, &run, &[&other[..], &["--allow-config-change"]].concat()), 2, &["conv1.weight"]);
    // Cut in half: the only one there is.
    std::fs::write(&checkpoints[0], &whole[..whole.len() / 2]).unwrap();
    let text = std::fs::read_to_string(run.join("config.toml")).unwrap();
    assert!(text.contains("widths"));
    ended(
        &selfsup(&["embed", run.to_str().unwrap(), "--out", w.path("x.npy").to_str().unwrap()]),
        2,
        &["checkpoint"],
    );
}

/// `.pth` files with code in them are refused by the name of what they would call.
#[test]
fn weights_with_code_in_them() {
    let w = Work::new();
    let data = w.pictures("data", 8, 20);
    // protocol 2, GLOBAL os system, the argument, REDUCE, STOP
    let evil = w.write("evil.pth", b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R.");
    ended(
        &pretrain(&data, &w.path("run"), &[&format!("encoder.pretrained={}", evil.display())]),
        2,
        &["evil.pth"],
    );
    let deep = w.write("deep.pth", [&b"\x80\x02"[..], &vec![b'('; 1_000_000], b"."].concat());
    ended(
        &pretrain(&data, &w.path("run2"), &[&format!("encoder.pretrained={}", deep.display())]),
        2,
        &["deep.pth"],
    );
    let mut bomb = b"\x80\x02]q\x00".to_vec();
    for _ in 0..200_000 {
        bomb.extend(b"(h\x00h\x00e");
    }
    bomb.push(b'.');
    let bomb = w.write("bomb.pth", &bomb);
    ended(
        &pretrain(&data, &w.path("run3"), &[&format!("encoder.pretrained={}", bomb.display())]),
        2,
        &["bomb.pth"],
    );
}

/// The network of released weights is decided by their folder: what contradicts it is refused, and nothing
/// that changes the function is left.
#[test]
fn released_weights_and_keys() {
    let w = Work::new();
    let data = w.pictures("data", 12, 20);
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/models");
    let run = |name: &str, more: &[&str]| {
        let start = format!("encoder.pretrained={}", models.join(name).display());
        let mut args = vec!["pretrain", "--data", data.to_str().unwrap(), "--dry-run", &start];
        args.extend(["method.hidden_dim=8", "method.out_dim=4", "train.batch_size=4", "eval.online_knn=0"]);
        args.extend(more);
        let mut command = command(&args);
        command.current_dir(w.path(""));
        command.output().unwrap()
    };
    for (name, parts) in [
        ("dinov2_layerscale", &["42 tensors of", "DINOv2", "left: mask_token (1)"][..]),
        ("dinov2_with_registers", &["43 tensors of"]),
        ("dinov2_swiglu", &["42 tensors of"]),
        ("clip_vision", &["CLIP", "left: visual_projection (1)"]),
        ("vit_timm_registers", &["timm"]),
        ("vit_resized", &["left: pooler (2)"]),
    ] {
        let out = run(name, &[]);
        let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success() && parts.iter().all(|p| said.contains(p)), "{name}: {said}");
    }
    let out = run("vit_resized", &["augment.size=48"]);
    let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert!(said.contains("interpolated from 4 x 4 to 6 x 6 (bicubic)"), "{said}");
    for (key, parts) in [
        ("encoder.depth=1", &["encoder.depth = 1", "has 2"][..]),
        ("encoder.heads=2", &["encoder.heads = 2", "has 4"]),
        ("encoder.eps=1e-3", &["encoder.eps = 0.001", "has 1e-6"]),
        ("encoder.registers=4", &["encoder.registers = 4", "has 0"]),
        ("encoder.name=resnet18", &["resnet18", "vision transformer"]),
        ("encoder.name=vit_small", &["vit_small", "has 32"]),
        ("encoder.channels=1", &["encoder.channels = 1", "has 3"]),
    ] {
        ended(&run("dinov2_layerscale", &[key]), 2, parts);
    }
}

/// A full disk: the run ends with an error that names the file, and what was written stays readable.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk() {
    use std::os::unix::process::CommandExt;
    let w = Work::new();
    let data = w.pictures("data", 8, 20);
    let mut command = Command::new(env!("CARGO_BIN_EXE_selfsup"));
    command
        .args([
            "pretrain",
            "--data",
            data.to_str().unwrap(),
            "--out",
            w.path("run").to_str().unwrap(),
            "--no-probe",
        ])
        .args(SMALL);
    #[allow(unsafe_code)]
    // SAFETY: both calls are async-signal-safe, and nothing is allocated between fork and exec.
    unsafe {
        command.pre_exec(|| {
            let limit = libc::rlimit { rlim_cur: 6_000, rlim_max: 6_000 };
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            if libc::setrlimit(libc::RLIMIT_FSIZE, &limit) == 0 {
                Ok(())
            } else {
                Err(std::io::Error::last_os_error())
            }
        });
    }
    ended(&command.output().unwrap(), 2, &["step-"]);
    assert!(w.path("run/config.toml").exists());
}

#[cfg(target_os = "linux")]
#[test]
fn a_reader_that_goes_away_and_a_full_output() {
    let list = |out: std::process::Stdio| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_selfsup"));
        child.args(["data", "list"]).stdout(out).stderr(std::process::Stdio::piped());
        child
    };
    // As in `selfsup data list | head -1`: the reader is gone before anything is written.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    ended(&list(writer.into()).output().unwrap(), 0, &[]);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    ended(&list(full.into()).output().unwrap(), 1, &["standard output cannot be written"]);
}

#[test]
fn curves_of_runs() {
    let w = Work::new();
    let run = w.path("run");
    assert_eq!(pretrain(&w.pictures("data", 8, 20), &run, &["train.log_every=1"]).status.code(), Some(0));
    let drawn = std::fs::read_to_string(run.join("curves.svg")).unwrap();
    assert!(drawn.starts_with("<svg") && drawn.contains("loss"));
    let (folder, both) = (run.to_str().unwrap(), w.path("both.svg"));
    ended(&selfsup(&["curves", folder, folder, "--out", both.to_str().unwrap()]), 0, &[]);
    assert!(both.is_file());
    // Without a file, into the present folder.
    let here = std::process::Command::new(env!("CARGO_BIN_EXE_selfsup"))
        .args(["curves", folder, folder])
        .current_dir(w.path("data"))
        .output()
        .unwrap();
    ended(&here, 0, &[]);
    assert!(w.path("data/curves.svg").is_file());
    ended(&selfsup(&["curves", w.path("nothing").to_str().unwrap()]), 2, &["metrics.jsonl"]);
}

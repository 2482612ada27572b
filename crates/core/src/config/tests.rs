use super::diagnose::*;
use super::*;
use serde::Deserialize;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Run {
    epochs: u64,
    learning_rate: f64,
    betas: [f64; 2],
    out: Option<String>,
    method: Method,
    data: Data,
    stages: Vec<Stage>,
}
impl Default for Run {
    fn default() -> Self {
        Run {
            epochs: 100,
            learning_rate: 1e-3,
            betas: [0.9, 0.999],
            out: None,
            method: Method::Simclr { temperature: 0.5, symmetric: true },
            data: Data { batch_size: 256, path: String::new(), cache: 0 },
            stages: vec![],
        }
    }
}
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "lowercase", deny_unknown_fields)]
enum Method {
    Simclr {
        temperature: f64,
        #[serde(default)]
        symmetric: bool,
    },
    Byol(Byol),
}
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Byol {
    momentum: f64,
    layers: usize,
}
impl Default for Byol {
    fn default() -> Self {
        Byol { momentum: 0.996, layers: 2 }
    }
}
/// Ignores unknown keys as far as serde goes, and doesn't write one of its keys.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Data {
    batch_size: usize,
    path: String,
    #[serde(skip_serializing)]
    cache: u32,
}
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Stage {
    name: String,
    steps: u64,
}

fn ok(text: &str, overrides: &[&str]) -> Run {
    load(text, "c.toml", overrides).unwrap()
}
fn err(text: &str, overrides: &[&str]) -> String {
    load::<Run>(text, "c.toml", overrides).unwrap_err().to_string()
}

#[test]
fn files_and_overrides() {
    assert_eq!(ok("", &[]), Run::default());
    let r = ok(
        "epochs = 3\n[method]\nname = \"simclr\"\ntemperature = 0.2\n[data]\ncache = 7",
        &[
            "learning_rate=1",
            "out=runs/a b",
            "data.batch_size = 8",
            "betas=[0.5, 0.6]",
            "data.path=2x",
            "betas.1=0.7",
        ],
    );
    assert_eq!(
        (r.epochs, r.learning_rate, r.betas, r.out.as_deref()),
        (3, 1.0, [0.5, 0.7], Some("runs/a b"))
    );
    assert_eq!(r.method, Method::Simclr { temperature: 0.2, symmetric: false });
    assert_eq!(r.data, Data { batch_size: 8, path: "2x".into(), cache: 7 });
    assert_eq!(
        ok("", &["method.name=byol", "method.layers=3"]).method,
        Method::Byol(Byol { layers: 3, ..Byol::default() })
    );
    assert_eq!(ok("", &["method={name='byol'}"]).method, Method::Byol(Byol::default()));
    assert_eq!(ok("", &["out=1\nepochs=2"]).out.as_deref(), Some("1\nepochs=2"), "one value, not two keys");
    assert_eq!(ok("", &["out="]).out.as_deref(), Some(""));
    assert_eq!(ok(&to_toml(&r).unwrap(), &["data.cache=7"]), r);
}

#[test]
fn unknown_keys() {
    assert_eq!(err("\nepoch = 1", &[]), "config: c.toml:2: unknown key `epoch`; did you mean `epochs`?");
    assert_eq!(
        err("", &["learning-rate=1"]),
        "config: override `learning-rate=1`: unknown key `learning-rate`; did you mean `learning_rate`?"
    );
    let e = err("[method]\nname = \"simclr\"\ntemperature = 0.5\ntemprature = 1.0", &[]);
    assert_eq!(e, "config: c.toml:4: unknown key `method.temprature`; did you mean `method.temperature`?");
    let e = err("[method]\nname = \"byol\"\nmomentun = 1.0", &[]);
    assert_eq!(e, "config: c.toml:3: unknown key `method.momentun`; did you mean `method.momentum`?");
    // Ignored by serde, refused here; a key that is read but not written is known.
    assert_eq!(
        err("[data]\nbatchsize = 1", &[]),
        "config: c.toml:2: unknown key `data.batchsize`; did you mean `data.batch_size`?"
    );
    let e = err("[[stages]]\nname = \"a\"\nsteps = 1\nlr = 2", &[]);
    assert_eq!(e, "config: c.toml:4: unknown key `stages.0.lr`; expected one of `name`, `steps`");
    // The right name in the wrong place.
    assert_eq!(
        err("temperature = 1", &[]),
        "config: c.toml:1: unknown key `temperature`; did you mean `method.temperature`?"
    );
    assert_eq!(
        err("batch_size = 1", &[]),
        "config: c.toml:1: unknown key `batch_size`; did you mean `data.batch_size`?"
    );
}

#[test]
fn wrong_values() {
    assert_eq!(
        err("epochs = \"many\"", &[]),
        "config: c.toml:1: `epochs`: invalid type: string \"many\", expected a whole number from 0"
    );
    assert_eq!(
        err("", &["epochs=-1"]),
        "config: override `epochs=-1`: `epochs`: invalid value: integer `-1`, expected a whole number from 0"
    );
    let e = err("[method]\nname = \"simclr\"\nsymmetric = true\ntemperature = \"hot\"", &[]);
    assert_eq!(e, "config: c.toml:4: `method.temperature`: invalid type: string \"hot\", expected a number");
    let e = err("[method]\nname = \"byol\"\nmomentum = 0.9\nlayers = 1.5", &[]);
    assert!(e.starts_with("config: c.toml:4: `method.layers`: invalid type: floating point `1.5`"), "{e}");
    let e = err("[method]\nname = \"simclrr\"\ntemperature = 1.0", &[]);
    assert!(e.starts_with("config: c.toml:2: `method.name`: unknown variant `simclrr`"), "{e}");
    assert!(e.ends_with("did you mean `simclr`?"), "{e}");
    let e = err("epochs = { a = 1 }", &[]);
    assert_eq!(e, "config: c.toml:1: `epochs`: invalid type: map, expected a whole number from 0");
    assert!(err("betas = [1.0]", &[]).starts_with("config: c.toml:1: `betas`: invalid length 1"));
    assert!(
        err("betas = [1.0, \"x\"]", &[]).contains("`betas.1`: invalid type: string \"x\", expected a number")
    );
    assert!(err("data = 3", &[]).contains("`data`: invalid type: integer `3`"), "{}", err("data = 3", &[]));
    let e = err("epochs = 3\n[method]\nname = \"simclr\"", &[]);
    assert_eq!(e, "config: c.toml:2: `method.temperature` is missing");
    let e = err("[[stages]]\nname = \"a\"", &[]);
    assert_eq!(e, "config: c.toml:1: `stages.0.steps` is missing");
    assert!(err("[method]\ntemperature = 1.0", &[]).contains("`method.name` is missing"));
}

#[test]
fn not_toml_and_not_an_override() {
    assert!(err("epochs = 1\nx == 2", &[]).starts_with("config: c.toml:2: "));
    assert!(err("a = 1\na = 2", &[]).contains("c.toml:2: duplicate key"));
    assert!(err("", &["epochs"]).contains("override `epochs`: expected key=value"));
    assert!(err("", &[".x=1"]).contains("dotted key"));
    assert!(err("epochs = 1", &["epochs.x=1"]).contains("`epochs` is a value of type integer"));
    assert!(err("", &["betas=[1.0,2.0]", "betas.2=1"]).contains("array of 2"));
    assert!(err(&"[".repeat(100_000), &[]).starts_with("config: c.toml"));
    assert!(err(&format!("a = {}", "[".repeat(100_000)), &[]).starts_with("config: c.toml"));
}

#[test]
fn differences() {
    let d =
        diff("a = 1\n[m]\nname = \"x\"\nt = [1, 2]", "m.name = \"y\"\nm.t = [1,2] # same\nb = true\na = 1")
            .unwrap();
    let s = |x: &str| x.to_string();
    assert_eq!(d, [(s("b"), s("(not set)"), s("true")), (s("m.name"), s("\"x\""), s("\"y\""))]);
    assert!(diff("a = 1", "a").is_err());
    let r = Run::default();
    assert_eq!(
        diff(&to_toml(&r).unwrap(), &to_toml(&Run { epochs: 7, ..r }).unwrap()).unwrap(),
        [(s("epochs"), s("100"), s("7"))]
    );
}

#[test]
fn distances() {
    for (a, b, d) in [
        ("", "ab", 2),
        ("epochs", "epoch", 1),
        ("lr", "rl", 1),
        ("batch-size", "batch_size", 0),
        ("abc", "xyz", 3),
    ] {
        assert_eq!(distance(a, b), d, "{a} {b}");
    }
}

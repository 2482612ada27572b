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
    Plain {},
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
    // A method without keys: those of the default method are not its own.
    let e = err("[method]\nname = \"plain\"\nwobble = 1.0", &[]);
    assert_eq!(e, "config: c.toml:3: unknown key `method.wobble`; no keys are known here");
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
    assert!(err("", &["method={temperature=1.0}"]).contains("`method.name` is missing"));
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

/// Defaults, a run's configuration, a file and overrides.
fn layered(below: &str, text: &str, overrides: &[&str]) -> Result<Run> {
    let mut draft = Draft::parse(text, "c.toml")?;
    draft.below(below.parse().unwrap(), "the run");
    overrides.iter().try_for_each(|o| draft.set(o))?;
    draft.load()
}

#[test]
fn another_tag_replaces_its_section() {
    let simclr = "epochs = 3\n[method]\nname = \"simclr\"\ntemperature = 0.2\n";
    let byol = Method::Byol(Byol::default());
    // Spaces around the `=`, quotes around the value.
    for o in ["method.name=byol", "method.name = byol", "method.name = \"byol\"", "method.name='byol'"] {
        let r = ok(simclr, &[o]);
        assert_eq!((r.epochs, &r.method), (3, &byol), "{o}");
    }
    // The order of overrides does not count, and the same tag keeps what stands below.
    let momentum = Method::Byol(Byol { momentum: 0.5, ..Byol::default() });
    assert_eq!(ok(simclr, &["method.momentum=0.5", "method.name=byol"]).method, momentum);
    let hot = Method::Simclr { temperature: 0.2, symmetric: true };
    assert_eq!(ok(simclr, &["method.name = simclr", "method.symmetric = true"]).method, hot);
    // A file that names none has the default's keys.
    assert_eq!(ok("[method]\ntemperature = 0.2", &["method.name=byol"]).method, byol);
    let r = ok("[method]\ntemperature = 0.2", &[]);
    assert_eq!(r.method, hot, "keys of a section whose tag is the default's");
    // A file over a run's configuration.
    let run = "epochs = 9\n[method]\nname = \"simclr\"\ntemperature = 0.3\n[data]\nbatch_size = 7";
    let r = layered(run, "[method]\nname = \"byol\"\n[data]\npath = \"x\"", &[]).unwrap();
    assert_eq!((r.epochs, r.method, r.data.batch_size), (9, byol, 7));
    let r = layered(run, "[method]\nsymmetric = true", &[]).unwrap();
    assert_eq!(r.method, Method::Simclr { temperature: 0.3, symmetric: true });
    // What only looks like a tag replaces nothing.
    let stage = "[[stages]]\nname = \"a\"\nsteps = 1";
    assert_eq!(ok(stage, &["stages.0.name=b"]).stages[0], Stage { name: "b".into(), steps: 1 });
    // A text that holds an equals sign, an element of a default.
    assert_eq!(ok("", &["data.path = a=b"]).data.path, "a=b");
    assert_eq!(ok("", &["betas.1=0.5"]).betas, [0.9, 0.5]);
}

#[test]
fn a_draft_is_asked_before_its_type_is_known() {
    let mut d = Draft::parse("[data]\npath = \"a\"\n[method]\nname = \"m\"", "c.toml").unwrap();
    d.set("data.path = festvox-ru").unwrap();
    d.set("data.limit = 7").unwrap();
    d.set_text("task.run", "1979-05-27");
    assert_eq!((d.text("data.path"), d.text("method.name")), (Some("festvox-ru"), Some("m")));
    assert_eq!(d.text("task.run"), Some("1979-05-27"), "a text, whatever it looks like");
    assert_eq!((d.get("data.limit").and_then(Value::as_integer), d.get("data.test")), (Some(7), None));
    assert_eq!((d.overridden("method.name"), d.has_file()), (None, true));
    d.set("method={name='x'}").unwrap();
    assert_eq!(d.text("method.name"), Some("x"));
    assert_eq!(d.given(), ["data.path", "method.name", "data.path", "data.limit", "task.run", "method.name"]);
}

#[test]
fn keys_of_others_are_named_as_such() {
    let e = err("[method]\nname = \"simclr\"\ntemperature = 0.5\nlayers = 2", &[]);
    assert_eq!(e, "config: c.toml:4: `method.layers` is a key of byol, not of simclr");
    assert_eq!(
        err("", &["method.layers=2"]),
        "config: override `method.layers=2`: `method.layers` is a key of byol, not of simclr"
    );
    let mut d = Draft::parse("[input]\ncrop_seconds = 2", "c.toml").unwrap();
    d.set_owner(|key| (key == "input.crop_seconds").then(|| "speech".to_string()));
    let e = d.load::<Run>().unwrap_err().to_string();
    assert_eq!(e, "config: c.toml:1: `input.crop_seconds` is a key of speech");
    assert!(knows::<Run>("method.layers") && knows::<Run>("method.temperature") && knows::<Run>("epochs"));
    assert!(!knows::<Run>("method.layer") && !knows::<Run>("input.x") && !knows::<Run>("betas.name"));
}

#[test]
fn no_key_is_proposed_instead_of_itself() {
    // The same names one table further up or down.
    for text in ["temperature = 1", "[data]\ntemperature = 1", "[method.method]\nlayers = 1", "layers = 1"] {
        let e = err(text, &[]);
        let quoted: Vec<&str> = e.split('`').skip(1).step_by(2).collect();
        assert!(quoted.len() < 2 || quoted[0] != quoted[1], "{e}");
    }
}

#[test]
fn unread_keys_are_refused() {
    let check = |text: &str, overrides: &[&str]| {
        let mut d = Draft::parse(text, "c.toml").unwrap();
        overrides.iter().for_each(|o| d.set(o).unwrap());
        let config: Run = d.load().unwrap();
        let unread = Unread::all("data", &["cache", "batch_size"], "is read by nobody");
        d.refuse_unread(&unread, &config, &|d| d.load()).err().map(|e| e.to_string())
    };
    assert_eq!(check("epochs = 3\n[data]\npath = \"x\"", &["learning_rate=1"]), None);
    // The default, written out, changes nothing.
    assert_eq!(check("[data]\nbatch_size = 256", &["data.cache=0"]), None);
    assert_eq!(
        check("\n[data]\nbatch_size = 8", &[]).as_deref(),
        Some("config: c.toml:3: `data.batch_size` is read by nobody")
    );
    assert_eq!(
        check("[data]\nbatch_size = 256", &["data.cache = 3"]).as_deref(),
        Some("config: override `data.cache = 3`: `data.cache` is read by nobody")
    );
    let mut d = Draft::parse("[data]\nbatch_size = 8", "c.toml").unwrap();
    let unread = Unread::all_instead("data", &["batch_size"], "data.path", "is read without data.path");
    let check_of = |d: &Draft| d.refuse_unread(&unread, &d.load::<Run>().unwrap(), &|d| d.load()).is_err();
    assert!(check_of(&d));
    d.set("data.path=x").unwrap();
    assert!(!check_of(&d), "an override in place of a file's key");
    d.set("data.batch_size=9").unwrap();
    assert!(check_of(&d));
    assert!(check("", &["data={batch_size=3}"]).unwrap().contains("`data.batch_size` is read by nobody"));
}

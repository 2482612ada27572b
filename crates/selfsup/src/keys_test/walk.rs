//! The walk over the keys of a modality.

use crate::config::{Keys, PretrainConfig, Read};
use crate::draft::Draft;
use crate::modality::{Modality, PlanRequest, Training};
use candle_core::Device;
use selfsup_core::data::LoaderConfig;
use selfsup_core::run::Run;
use selfsup_core::signal::Stop;
use selfsup_core::trainer::Trainer;
use selfsup_core::{Encoder, Error, Params, Result, Scope};
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use toml::{Table, Value};

/// What is walked of a modality.
pub(super) struct Walk<'a> {
    pub(super) data: &'a str,
    /// Overrides that make everything small, for all methods.
    pub(super) small: &'a [&'a str],
    /// Walks the sections below alone, without `[method]` and `[encoder]`.
    pub(super) made: bool,
    /// One encoder of each network, with what makes it small.
    pub(super) networks: &'a [&'a [&'a str]],
    /// Keys of methods that the test cannot make small by itself.
    pub(super) sizes: &'a [&'a str],
    /// Sections besides `[method]` and `[encoder]`.
    pub(super) sections: &'a [&'a str],
    /// Values for keys whose type does not suggest one.
    pub(super) values: &'a [(&'a str, &'a str)],
    /// Keys that change no number, or none of this data: where something is kept, how much memory it may
    /// take, how files are read that the data does not have.
    pub(super) neutral: &'a [&'a str],
}

/// What training two steps leaves: a digest of all parameters and of the loss.
fn trace<M: Modality>(config: &PretrainConfig<M::Keys>) -> Result<u64> {
    let dir = tempfile::tempdir().map_err(|e| Error::io("tempdir", e))?;
    let modality = M::new(config)?;
    let set = modality.open(&config.data.path)?;
    let t = &config.train;
    let loader = LoaderConfig {
        batch_size: t.batch_size,
        workers: 0,
        prefetch: 0,
        drop_last: true,
        shuffle: true,
        seed: t.seed,
        max_bad_fraction: 0.0,
    };
    let params = Params::new();
    let method = modality.method(&Scope::root(&params, t.seed, &Device::Cpu))?;
    let batches = modality.batches(&set, loader.clone())?;
    let mut trainer =
        Trainer::new(&*method, t.clone(), &config.optim, batches.batches() as u64, &Device::Cpu)?;
    let summary;
    let mut staged = None;
    if let Training::Plan(plan) = modality.training() {
        drop(trainer);
        let request = PlanRequest {
            set: &set,
            loader: loader.clone(),
            train: t,
            optim: &config.optim,
            run: &Run::create(dir.path().join("run"), "")?,
            device: &Device::Cpu,
            stop: &Stop::manual(),
            known: &[],
        };
        let (method, found) = plan.run(&request)?;
        summary = found;
        staged = Some(method);
    } else {
        let mut run = Run::create(dir.path().join("run"), "")?;
        summary = trainer.fit(&batches, &mut run)?;
    }
    let params = staged.as_ref().map_or(&params, |method| method.params());
    let mut digest = DefaultHasher::new();
    summary.loss.map(f64::to_bits).hash(&mut digest);
    // What is read off the encoder afterwards.
    let encoder: &dyn Encoder = match &staged {
        Some(staged) => staged.encoder(),
        None => method.encoder(),
    };
    if let Some(first) =
        modality.inputs(&set, false, LoaderConfig { shuffle: false, ..loader })?.epoch_from(0, 0)?.next()
    {
        let features =
            modality.features(encoder, &first?.batch, Read::Pooled)?.flatten_all()?.to_vec1::<f32>()?;
        features.iter().for_each(|v| v.to_bits().hash(&mut digest));
    }
    for p in params.all() {
        p.name.hash(&mut digest);
        let values = p.var.flatten_all()?.to_dtype(candle_core::DType::F32)?.to_vec1::<f32>()?;
        values.iter().for_each(|v| v.to_bits().hash(&mut digest));
    }
    Ok(digest.finish())
}

impl Walk<'_> {
    fn draft(&self, more: &[String]) -> Result<Draft> {
        let train = ["train.steps=2", "train.batch_size=4", "optim.kind=sgd", "optim.lr=0.05"];
        let data = format!("data.path={}", Value::String(self.data.into()));
        let all = train.iter().chain(self.small).map(|s| (*s).to_string()).chain([data]);
        Draft::parse("", "test")?.with(&all.chain(more.iter().cloned()).collect::<Vec<_>>())
    }

    /// Walks all methods and encoders; returns what is accepted and ignored.
    fn ignored<M: Modality>(&self) -> Vec<String> {
        let mut out = Vec::new();
        for method in M::Keys::METHODS {
            let mut whole = true;
            for network in self.networks {
                let mut base = vec![format!("method.name={method}")];
                base.extend(network.iter().map(|s| (*s).to_string()));
                // A method refuses networks that it cannot train.
                let Some((base, trace)) = self.shrunk::<M>(base) else { continue };
                let mut sections = vec!["encoder"];
                if self.made {
                    sections.clear();
                }
                if std::mem::take(&mut whole) {
                    sections.extend((!self.made).then_some("method"));
                    sections.extend(self.sections);
                }
                for section in sections {
                    out.extend(self.ignored_in::<M>(section, &base, trace));
                }
            }
            assert!(!whole, "{method} trains no network of the list");
        }
        out
    }

    /// Adds overrides that make a method's own sizes small, as far as it can be built with them.
    fn shrunk<M: Modality>(&self, mut base: Vec<String>) -> Option<(Vec<String>, u64)> {
        let config = PretrainConfig::<M::Keys>::of(&self.draft(&base).unwrap()).unwrap();
        for size in self.sizes {
            let sized = [&base[..], &[(*size).to_string()]].concat();
            if PretrainConfig::<M::Keys>::of(&self.draft(&sized).unwrap()).is_ok() {
                base = sized;
            }
        }
        let build = |overrides: &[String]| -> Result<()> {
            let config = PretrainConfig::<M::Keys>::of(&self.draft(overrides)?)?;
            M::new(&config)?.method(&Scope::root(&Params::new(), 0, &Device::Cpu)).map(drop)
        };
        let all = Value::try_from(&config).unwrap();
        let sizes = all["method"].as_table().unwrap().iter();
        for (key, value) in sizes.filter_map(|(k, v)| Some((k, v.as_integer()?))) {
            let fits = [8, 16, 2].into_iter().filter(|small| *small < value).find(|small| {
                let one = format!("method.{key}={small}");
                build(&[&base[..], &[one]].concat()).is_ok()
            });
            base.extend(fits.map(|small| format!("method.{key}={small}")));
        }
        let config = PretrainConfig::<M::Keys>::of(&self.draft(&base).unwrap()).unwrap();
        match trace::<M>(&config) {
            Ok(trace) => Some((base, trace)),
            Err(e) => {
                assert!(
                    e.to_string().contains("encoder") || e.to_string().contains("network"),
                    "{base:?}: {e}"
                );
                None
            }
        }
    }

    fn ignored_in<M: Modality>(&self, section: &str, base: &[String], trace: u64) -> Vec<String> {
        let config = PretrainConfig::<M::Keys>::of(&self.draft(base).unwrap()).unwrap();
        let all = Value::try_from(&config).unwrap();
        let mut keys = BTreeSet::new();
        leaves(all.get(section).unwrap_or(&Value::Table(Table::new())), section, &mut keys);
        keys.extend(self.known::<M>(section, base));
        let mut out = Vec::new();
        for key in keys {
            let tag = key.ends_with(".name") || key.ends_with(".kind");
            if tag
                || at(&all, &key).is_some_and(Value::is_table)
                || self.neutral.iter().any(|n| key == *n || key.starts_with(&format!("{n}.")))
            {
                continue;
            }
            match self.fate::<M>(&key, at(&all, &key), base, trace) {
                Fate::Ignored(tried) => out.push(format!("{key} of {base:?}: no change with {tried:?}")),
                Fate::NoValue => out.push(format!("{key} of {base:?}: no value was found to try")),
                Fate::Read | Fate::Refused => {}
            }
        }
        out
    }

    /// The keys that serde knows in a section, absent ones included.
    fn known<M: Modality>(&self, section: &str, base: &[String]) -> Vec<String> {
        let odd = [base, &[format!("{section}.zz=1")]].concat();
        let e = PretrainConfig::<M::Keys>::of(&self.draft(&odd).unwrap()).unwrap_err().to_string();
        let listed = e.split("expected one of ").nth(1).unwrap_or_default();
        listed.split('`').skip(1).step_by(2).map(|k| format!("{section}.{k}")).collect()
    }

    fn fate<M: Modality>(&self, key: &str, now: Option<&Value>, base: &[String], before: u64) -> Fate {
        let given = self.values.iter().filter(|(k, _)| *k == key).map(|(_, v)| (*v).to_string());
        let mut tried = Vec::new();
        let given: Vec<String> = given.collect();
        let chosen = given.len();
        for (i, value) in given.into_iter().chain(self.others::<M>(key, now, base)).enumerate() {
            let draft = self.draft(&[base, &[format!("{key}={value}")]].concat()).unwrap();
            let config = match PretrainConfig::<M::Keys>::of(&draft) {
                Ok(config) => config,
                Err(e) if e.to_string().contains(&format!("`{key}` is a key of ")) => return Fate::Refused,
                // Of another type.
                Err(_) => continue,
            };
            if Value::try_from(&config).is_ok_and(|all| at(&all, key) == now) {
                continue;
            }
            match config.refuse_unread(&draft) {
                Err(e) if e.to_string().contains(&format!("`{key}")) => return Fate::Refused,
                Err(e) => panic!("{key}={value}: {e}"),
                Ok(()) => {}
            }
            match trace::<M>(&config) {
                // A value that is chosen to be refused.
                Err(_) if i < chosen => return Fate::Read,
                // Somebody has read it and does not like it.
                Err(_) => tried.push(format!("{value} (refused)")),
                Ok(after) if after != before => return Fate::Read,
                Ok(_) => tried.push(value),
            }
        }
        match tried.iter().all(|t| t.ends_with("(refused)")) {
            true if tried.is_empty() => Fate::NoValue,
            true => Fate::Read,
            false => Fate::Ignored(tried),
        }
    }

    /// Values that a key may have besides the present one.
    fn others<M: Modality>(&self, key: &str, now: Option<&Value>, base: &[String]) -> Vec<String> {
        let texts = || {
            let odd = [base, &[format!("{key}='zz'")]].concat();
            let e = PretrainConfig::<M::Keys>::of(&self.draft(&odd).unwrap()).err();
            let e = e.map(|e| e.to_string()).unwrap_or_default();
            let listed = e.split("expected").nth(1).unwrap_or_default().to_string();
            listed.split('`').skip(1).step_by(2).map(str::to_string).collect::<Vec<_>>()
        };
        match now {
            Some(Value::Boolean(b)) => vec![(!b).to_string()],
            Some(Value::Integer(i)) => [1, 2, 4].iter().map(|by| (i + by).to_string()).collect(),
            Some(Value::Float(x)) => {
                [1.0, x * 0.5, x + 0.1, x * 2.0, 10.0].iter().map(|v| format!("{v:?}")).collect()
            }
            Some(Value::String(_)) => texts(),
            Some(Value::Array(a)) => scaled(a),
            _ => {
                let plain =
                    ["true", "false", "1", "2", "3", "8", "0.3", "[3]", "[2, 2]", "[0.2, 0.3]", "[2, 2, 2]"];
                plain.into_iter().map(str::to_string).chain(texts()).collect()
            }
        }
    }
}

enum Fate {
    Read,
    Refused,
    Ignored(Vec<String>),
    NoValue,
}

/// An array with its numbers made smaller, or each one larger.
fn scaled(a: &[Value]) -> Vec<String> {
    let of = |change: &dyn Fn(&Value) -> Value| Value::Array(a.iter().map(change).collect()).to_string();
    let halved = of(&|v| match v {
        Value::Integer(i) => Value::Integer((i / 2).max(1)),
        Value::Float(x) => Value::Float(x * 0.5),
        other => other.clone(),
    });
    let raised = of(&|v| match v {
        Value::Integer(i) => Value::Integer(i + 1),
        Value::Float(x) => Value::Float(x + 0.25),
        other => other.clone(),
    });
    vec![halved, raised]
}

/// The dotted paths of all values below `path`.
pub(crate) fn leaves(v: &Value, path: &str, out: &mut BTreeSet<String>) {
    match v {
        Value::Table(t) if !t.is_empty() => {
            t.iter().for_each(|(k, v)| leaves(v, &format!("{path}.{k}"), out))
        }
        Value::Table(_) => {}
        _ => {
            out.insert(path.to_string());
        }
    }
}

fn at<'a>(v: &'a Value, key: &str) -> Option<&'a Value> {
    key.split('.').try_fold(v, |v, part| v.get(part))
}

/// Fails with the keys that are accepted and ignored.
pub(super) fn check<M: Modality>(walk: &Walk) {
    let ignored = walk.ignored::<M>();
    assert!(ignored.is_empty(), "accepted and ignored:\n{}", ignored.join("\n"));
}

/// Numbers from 0 to 1.
pub(super) fn noise(seed: u32) -> impl FnMut() -> f32 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32
    }
}

//! No key is accepted and ignored: for every method and encoder of every modality, a key that the
//! configuration takes either changes what two steps of training leave behind, or is refused by name.
//!
//! The test knows neither methods nor keys: it takes methods from [`Keys::METHODS`], encoders from the names
//! that serde lists, keys from what serde says is known, and other values from the type of the present one.
//! The sections of the loop (`[data]`, `[train]`, `[optim]`, `[eval]`) are read by the verbs for all methods
//! alike: `loop_keys_test.rs` walks them.

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
struct Walk<'a> {
    data: &'a str,
    /// Overrides that make everything small, for all methods.
    small: &'a [&'a str],
    /// Walks the sections below alone, without `[method]` and `[encoder]`.
    made: bool,
    /// One encoder of each network, with what makes it small.
    networks: &'a [&'a [&'a str]],
    /// Keys of methods that the test cannot make small by itself.
    sizes: &'a [&'a str],
    /// Sections besides `[method]` and `[encoder]`.
    sections: &'a [&'a str],
    /// Values for keys whose type does not suggest one.
    values: &'a [(&'a str, &'a str)],
    /// Keys that change no number, or none of this data: where something is kept, how much memory it may
    /// take, how files are read that the data does not have.
    neutral: &'a [&'a str],
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

#[cfg(feature = "vision")]
#[test]
fn a_task_changes_the_method_of_its_run() {
    use crate::modality::vision::Keys;
    use crate::task::{TaskConfig, TaskKeys};
    let run = "[method]\nname = \"simclr\"\ntemperature = 0.1\n[encoder]\nname = \"vit_small\"\npatch = 4\n[augment]\nsize = 32";
    let run = PretrainConfig::<Keys>::load(run, "run", &[]).unwrap();
    let of = |text: &str| {
        let draft = Draft::parse(text, "t.toml").unwrap();
        let config = TaskConfig::<Keys>::of(&draft, Some(&run)).unwrap();
        let refused =
            config.refuse_unread(&draft, Some(&run), &TaskKeys::CHOICES).err().map(|e| e.to_string());
        (config, refused)
    };
    let (config, refused) = of("[method]\nname = \"byol\"\n[encoder]\nname = \"vit_tiny\"");
    let encoder = toml::Value::try_from(&config.keys.encoder).unwrap();
    assert_eq!((config.keys.method(), config.keys.encoder()), ("byol", "vit_tiny"));
    assert_eq!(
        (encoder["patch"].as_integer(), config.keys.augment.size),
        (Some(4), 32),
        "of the same network"
    );
    assert_eq!((config.optim.lr, config.train.epochs, refused), (3e-4, 30, None));
    let (config, _) = of("[encoder]\nname = \"resnet18\"\n[task]\ntrain_blocks = 0");
    assert_eq!((config.keys.encoder(), config.optim.lr), ("resnet18", 1e-2));
    let (config, _) = of("[optim]\nkind = \"sgd\"\nnesterov = true");
    assert_eq!((config.optim.lr, config.optim.layer_decay), (0.03, None), "the defaults of its kind");
    let refused = of("[method]\ntemperature = 0.7").1.unwrap_or_default();
    assert!(refused.contains("t.toml:2: `method.temperature` is read in pre-training"), "{refused}");
    let refused = of("[augment]\njitter_p = 0.5").1.unwrap_or_default();
    assert!(refused.contains("`augment.jitter_p` is read by methods that compare views"), "{refused}");
}

#[cfg(feature = "medical")]
#[test]
fn a_key_of_a_default_section_can_be_given_alone() {
    use crate::modality::medical::Keys;
    let of = |text: &str, overrides: &[&str]| {
        let overrides: Vec<String> = overrides.iter().map(|o| (*o).to_string()).collect();
        PretrainConfig::<Keys>::load(text, "c.toml", &overrides)
    };
    let scale = |text: &str, overrides: &[&str]| {
        toml::Value::try_from(of(text, overrides).unwrap().keys.augment.scale).unwrap()
    };
    assert_eq!(scale("", &["augment.scale.foreground=true"])["foreground"].as_bool(), Some(true));
    let window = "[augment]\nscale = { kind = \"window\", low = 0.0, high = 80.0 }";
    assert_eq!(
        scale(window, &["augment.scale.kind = z-score"]).as_table().unwrap()["kind"].as_str(),
        Some("z-score")
    );
    let e = of(window, &["augment.scale.foreground=true"]).unwrap_err().to_string();
    assert!(
        e.contains("`augment.scale.foreground` is a key of percentiles and z-score, not of window"),
        "{e}"
    );
    let e = of("[encoder]\nname = \"unet3d\"\nheads = 3", &[]).unwrap_err().to_string();
    assert_eq!(e, "config: c.toml:3: `encoder.heads` is a key of vit3d, not of unet3d");
    let e = of("", &["encoder.dilated=true"]).unwrap_err().to_string();
    assert!(e.contains("`encoder.dilated` is a key of resnet3d, not of unet3d"), "{e}");
}

fn check<M: Modality>(walk: &Walk) {
    let ignored = walk.ignored::<M>();
    assert!(ignored.is_empty(), "accepted and ignored:\n{}", ignored.join("\n"));
}

/// Numbers from 0 to 1.
fn noise(seed: u32) -> impl FnMut() -> f32 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32
    }
}

#[cfg(feature = "vision")]
#[test]
fn of_images() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..8 {
        let mut noise = noise(i + 1);
        let picture =
            image::RgbImage::from_fn(20, 20, |_, _| image::Rgb([0; 3].map(|_: u8| (noise() * 255.0) as u8)));
        picture.save(dir.path().join(format!("{i}.png"))).unwrap();
    }
    let vit = ["encoder.name=vit", "encoder.dim=8", "encoder.depth=2", "encoder.heads=2", "encoder.patch=8"];
    check::<crate::modality::vision::Vision>(&Walk {
        made: false,
        data: &dir.path().display().to_string(),
        small: &["augment.size=32"],
        networks: &[
            &["encoder.name=resnet", "encoder.depths=[1, 1]", "encoder.widths=[4, 6]", "encoder.stem=4"],
            &["encoder.name=convnext", "encoder.depths=[1, 1]", "encoder.widths=[4, 6]"],
            &[
                "encoder.name=swin",
                "encoder.dim=8",
                "encoder.depths=[2, 1]",
                "encoder.heads=[1, 2]",
                "encoder.window=2",
            ],
            &vit,
        ],
        sizes: &[],
        sections: &["augment", "volumes"],
        values: &[
            // What begins with an epoch begins with the first.
            ("method.freeze_last_layer", "0"),
            ("method.freeze_prototypes", "0"),
            ("method.queue_from_epoch", "0"),
            ("encoder.channels", "1"),
            ("encoder.bottleneck", "true"),
            ("encoder.small_images", "false"),
            ("encoder.act", "quick_gelu"),
            ("encoder.registers", "2"),
            ("encoder.positions", "patches"),
            // Pooling by the class token wants one.
            ("encoder.class_token", "false"),
            // A grid of 16 patches has contexts of a few.
            ("method.min_context", "0"),
            ("method.target_ratio", "[0.1, 0.2]"),
        ],
        // The interpolation of positions shows with crops of several sizes only; the norm of a class token is
        // the same before and after pooling; only values of 16 bits are stretched.
        neutral: &[
            "encoder.pretrained",
            "encoder.interpolation",
            "encoder.final_norm",
            "augment.stretch",
            "volumes",
        ],
    });
}

#[cfg(feature = "text")]
#[test]
fn of_texts() {
    let dir = tempfile::tempdir().unwrap();
    let made = tempfile::tempdir().unwrap();
    let words = ["Sun", "rain", "cloud", "Tin", "zinc", "lead", "snow", "iron"];
    let line = |i: usize| (0..9).map(|j| words[(i * 5 + j * j) % 8]).collect::<Vec<_>>().join(" ");
    // More words than the vocabularies hold, in lines of several lengths.
    let word = |n: usize| format!("{}{}", words[n % 8], words[n / 8 % 8].to_lowercase());
    let compounds = |i: usize| (0..7 + i % 4).map(|j| word(i * 5 + j * j)).collect::<Vec<_>>().join(" ");
    let long = tempfile::tempdir().unwrap();
    std::fs::write(long.path().join("a.txt"), (0..60).map(compounds).collect::<Vec<_>>().join("\n")).unwrap();
    std::fs::write(dir.path().join("a.txt"), (0..60).map(line).collect::<Vec<_>>().join("\n")).unwrap();
    let data = dir.path().display().to_string();
    let vocabulary = |kind: &str, size: usize| {
        let out = made.path().join(kind);
        let keys = vec![format!("kind={kind}"), format!("vocab_size={size}")];
        crate::verbs::tokenizer::run(&crate::verbs::tokenizer::Request {
            data: data.clone(),
            out: out.clone(),
            keys,
        })
        .unwrap();
        format!("tokenizer.path={}", Value::String(out.display().to_string()))
    };
    let (wordpiece, bpe, unigram) =
        (vocabulary("wordpiece", 60), vocabulary("bpe", 300), vocabulary("unigram", 160));
    let long = long.path().display().to_string();
    let walk = Walk {
        made: false,
        data: &long,
        small: &["corpus.length=12", "encoder.dim=8", "encoder.depth=1", "encoder.heads=2"],
        networks: &[
            &["encoder.name=bert", &wordpiece],
            &["encoder.name=electra", &wordpiece],
            &["encoder.name=gpt2", &bpe],
            &["encoder.name=t5", &unigram],
        ],
        sizes: &[],
        sections: &["corpus"],
        values: &[
            ("corpus.separator", "' . '"),
            ("corpus.max_characters", "500"),
            ("corpus.length", "10"),
            ("corpus.validation", "0.5"),
            ("corpus.stride", "1"),
            ("method.masking.random", "0.9"),
            ("encoder.positions", "32"),
            ("tokenizer.vocab_size", "180"),
            ("tokenizer.min_frequency", "5000"),
        ],
        neutral: &[
            "encoder.pretrained",
            "tokenizer.path",
            "corpus.cache",
            "corpus.in_memory",
            // Of JSON lines and tables.
            "corpus.column",
        ],
    };
    check::<crate::modality::text::Text>(&walk);
    // Vocabularies of each kind.
    check::<crate::modality::text::Text>(&Walk {
        made: true,
        networks: &[
            &["encoder.name=bert", "tokenizer.vocab_size=60"],
            &["encoder.name=gpt2", "tokenizer.kind=bpe", "tokenizer.vocab_size=300"],
            &[
                "encoder.name=t5",
                "tokenizer.kind=unigram",
                "tokenizer.sentinels=8",
                "tokenizer.vocab_size=30",
            ],
        ],
        sections: &["tokenizer"],
        ..walk
    });
}

#[cfg(feature = "speech")]
#[test]
fn of_recordings() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..6 {
        let mut hiss = noise(i + 1);
        // One is longer than the shortest window.
        let wave: Vec<f32> = (0..if i == 0 { 20_000 } else { 12_000 + 400 * i })
            .map(|t| 0.3 * ((t as f32) * 0.02 * (1.0 + i as f32)).sin() + 0.1 * (hiss() - 0.5))
            .collect();
        let path = dir.path().join(format!("{i}.wav"));
        selfsup_speech::audio::write_wav(&path, &wave, 16_000).unwrap();
    }
    check::<crate::modality::speech::Speech>(&Walk {
        made: false,
        data: &dir.path().display().to_string(),
        small: &[
            "input.crop_seconds=0.6",
            "encoder.dim=8",
            "encoder.depth=2",
            "encoder.heads=2",
            "encoder.front_dim=8",
            "encoder.position_kernel=8",
            "encoder.position_groups=2",
        ],
        networks: &[&[]],
        sizes: &["method.iterations=[{features='mfcc', clusters=4, steps=2}]", "method.mask.length=2"],
        sections: &["input", "transcript"],
        values: &[
            ("encoder.mask", "{ prob = 0.3 }"),
            ("encoder.channel_mask", "{ prob = 0.3 }"),
            ("encoder.front_gradient", "0.5"),
            ("input.noise", "{ snr_db = 3.0 }"),
            ("input.augment", "[{ name = 'gain', db = [-6.0, -3.0], p = 1.0 }]"),
            ("input.crop_seconds", "0.4"),
            ("input.min_seconds", "9.0"),
            ("input.max_seconds", "0.1"),
            ("input.audio.max_seconds", "0.1"),
            ("input.audio.rate", "8000"),
            ("method.gumbel_end", "2.0"),
            ("method.mask.min_spans", "14"),
            ("method.top_layers", "1"),
            ("encoder.layer_drop", "0.9"),
            ("encoder.stable_layer_norm", "true"),
            ("encoder.front_norm", "'group'"),
            ("transcript.drop", "'x'"),
            ("transcript.keep", "'x'"),
            ("method.iterations", "[{features='mfcc', clusters=3, steps=2}]"),
        ],
        neutral: &["encoder.pretrained"],
    });
}

#[cfg(feature = "medical")]
#[test]
fn of_volumes() {
    use selfsup_medical::{Volume, grid::Grid, write};
    let dir = tempfile::tempdir().unwrap();
    for i in 0..4u32 {
        let mut noise = noise(i + 1);
        // Dark outside of a box.
        let inside = |i: usize| [i / 400, i / 20 % 20, i % 20].iter().all(|x| (4..15).contains(x));
        let values = (0..8000).map(|i| noise() * if inside(i) { 1.0 } else { 0.2 }).collect();
        let grid = Grid::with_spacing([20; 3], [1.0; 3]).unwrap();
        let volume = Volume::new("noise", grid, values).unwrap();
        write::volume(dir.path().join(format!("{i}.nii")), &volume).unwrap();
    }
    check::<crate::modality::medical::Medical>(&Walk {
        made: false,
        data: &dir.path().display().to_string(),
        small: &["augment.size=[8, 8, 8]", "volumes.patches=2"],
        networks: &[
            &["encoder.name=unet3d", "encoder.widths=[4, 6]"],
            &["encoder.name=monai_unet", "encoder.widths=[4, 6]"],
            &[
                "encoder.name=resnet3d",
                "encoder.depths=[1, 1, 1]",
                "encoder.widths=[4, 6, 8]",
                "encoder.stem=4",
            ],
            &[
                "encoder.name=vit3d",
                "encoder.dim=12",
                "encoder.depth=2",
                "encoder.heads=2",
                "encoder.patch=[4, 4, 4]",
            ],
        ],
        // Volumes of eight voxels have no room for more.
        sizes: &["method.mask_unit=1", "method.gap=0.0"],
        sections: &["augment", "volumes"],
        values: &[
            ("method.freeze_last_layer", "0"),
            ("method.freeze_prototypes", "0"),
            ("method.queue_from_epoch", "0"),
            ("method.shuffle_boxes", "100000"),
            ("method.outer_boxes", "1"),
            ("method.min_context", "0"),
            ("method.target_ratio", "[0.1, 0.2]"),
            ("encoder.small", "false"),
            ("augment.foreground", "0.5"),
            ("augment.spacing", "[2.0, 2.0, 2.0]"),
            ("volumes.keep", "[0.1, 0.9]"),
            ("volumes.scale", "{ kind = 'percentiles', low = 1.0, high = 99.0 }"),
        ],
        neutral: &[
            "encoder.pretrained",
            "volumes.in_memory",
            "volumes.memory_mb",
            "volumes.cache_mb",
            "volumes.memory_mb",
            "volumes.blocks_gb",
            "volumes.blocks",
            "volumes.blocks_gb",
            // Of volumes with one channel.
            "method.gray_p",
            "method.drop_channels",
            // Files of several volumes, values that are not finite.
            "volumes.read",
            // Makes images of volumes: another modality.
            "volumes.slices",
        ],
    });
}

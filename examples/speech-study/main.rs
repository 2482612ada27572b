//! What pre-training on the 80 minutes of a Russian reader is worth: phones in frames, languages, speakers,
//! and recognition from few labels.
//!
//!     cargo run --release --example speech-study -- runs/study                       all cells that are not there yet
//!     cargo run --release --example speech-study -- runs/study phones-hubert ...     some of them
//!     cargo run --release --example speech-study -- runs/study --list
//!
//! Every cell leaves its result in the folder; a cell whose result is there is not run again, and a training
//! that was stopped goes on. The cells are those of the command (`selfsup pretrain`, `probe --frames`,
//! `finetune`, `transcribe --snr`); this program only names them.

#![allow(clippy::print_stdout)] // what it does is told

use selfsup::set::evenly;
use selfsup::verbs::{finetune, predict, pretrain, probe};
use selfsup_core::{Error, Result};
use selfsup_datasets::{Kind, Source, registry::open_kind};
use selfsup_speech::data::Clip;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The reader's sentences: every fifth is for testing.
const DATA: &str = "festvox-ru-full";
const TEST: &str = "festvox-ru-full/test";
/// Signal over noise in decibels.
const SNR: [f32; 3] = [20.0, 10.0, 0.0];
/// That of the recognisers, whose decoding takes as long as their training.
const HEARD: [f32; 1] = [10.0];
/// Minutes of transcribed speech, and steps of fine-tuning on them.
const LABELS: [(u32, u64); 3] = [(10, 250), (30, 300), (60, 350)];
const METHODS: [&str; 2] = ["hubert", "wav2vec2"];
/// Those that are probed; recognisers start from the first two.
const PROBED: [&str; 3] = ["hubert", "wav2vec2", "data2vec"];

/// What recognisers have in common.
const COMMON: &[&str] = &[
    "task.kind=\"ctc\"",
    "data.hold_out=0",
    "train.batch_size=4",
    "train.patience=0",
    "train.log_every=20",
    "train.checkpoint_every=100",
    "optim.kind=\"adamw\"",
    "optim.clip_grad_norm=5",
    "optim.schedule={ kind = \"warmup_linear\", warmup = { ratio = 0.1 } }",
];
/// All but the front is trained: the layer over the characters first, then the blocks, the lower the slower.
const ALL: &[&str] = &[
    "task.dropout=0.1",
    "encoder.dropout=0.1",
    "train.freeze_encoder_steps=60",
    "optim.lr=3e-3",
    "optim.layer_decay=0.5",
    "optim.weight_decay=0.01",
];
/// From random weights there is nothing to spare: all is trained from the first step, the front too.
const SCRATCH: &[&str] =
    &["task.dropout=0.1", "encoder.dropout=0.1", "optim.lr=1e-3", "optim.weight_decay=0.01"];
/// A layer over the characters alone.
const HEAD: &[&str] = &[
    "task.train_blocks=0",
    "task.dropout=0",
    "encoder.dropout=0",
    "encoder.attention_dropout=0",
    "optim.lr=1e-2",
    "optim.weight_decay=0",
];

/// One result.
enum Cell {
    Pretrain(&'static str),
    Phones(&'static str),
    Languages(&'static str),
    Speakers(&'static str),
    /// Minutes, steps, and the run that is started from; without one from random weights.
    Ctc(u32, u64, Option<&'static str>),
    /// The same with the encoder left as it is: a layer over the characters alone.
    Head(u32, u64, Option<&'static str>),
}

impl Cell {
    /// In the order of what is worth most.
    fn all() -> Vec<Cell> {
        let mut cells: Vec<Cell> =
            PROBED.map(Cell::Pretrain).into_iter().chain(PROBED.map(Cell::Phones)).collect();
        cells.extend(PROBED.map(Cell::Languages));
        cells.extend(PROBED.map(Cell::Speakers));
        for (minutes, steps) in LABELS {
            cells.extend(
                [Some("hubert"), None, Some("wav2vec2")].map(|start| Cell::Head(minutes, steps, start)),
            );
        }
        for (minutes, steps) in LABELS {
            cells.extend(
                [Some("hubert"), None, Some("wav2vec2")].map(|start| Cell::Ctc(minutes, steps, start)),
            );
        }
        cells
    }

    fn name(&self) -> String {
        match self {
            Cell::Pretrain(method) => (*method).to_string(),
            Cell::Phones(method) => format!("phones-{method}"),
            Cell::Languages(method) => format!("languages-{method}"),
            Cell::Speakers(method) => format!("speakers-{method}"),
            Cell::Ctc(minutes, _, start) => format!("ctc-{minutes}-{}", start.unwrap_or("scratch")),
            Cell::Head(minutes, _, start) => format!("head-{minutes}-{}", start.unwrap_or("random")),
        }
    }

    /// The file that says that it is done.
    fn result(&self, root: &Path) -> PathBuf {
        match self {
            Cell::Pretrain(method) => root.join(method).join("result.json"),
            Cell::Phones(method) => root.join(method).join("frames.json"),
            Cell::Languages(method) => root.join(method).join("probe.json"),
            Cell::Speakers(method) => root.join(method).join("speakers.json"),
            Cell::Ctc(..) | Cell::Head(..) => root.join(self.name()).join("noise.csv"),
        }
    }

    fn run(&self, root: &Path) -> Result<()> {
        match self {
            Cell::Pretrain(method) => {
                let out = root.join(method);
                let file = Path::new(env!("CARGO_MANIFEST_DIR"))
                    .join(format!("examples/speech-study/{method}.toml"));
                let resume = out.join("config.toml").is_file();
                pretrain::run(pretrain::Request {
                    args: vec![file.display().to_string()],
                    out: Some(out),
                    resume,
                    probe: false,
                    ..pretrain::Request::default()
                })
            }
            Cell::Phones(method) => probe::run(&probe::Request {
                run: root.join(method),
                overrides: vec![format!("data.test=\"{TEST}\"")],
                frames: Some(PathBuf::new()),
                snr: SNR.to_vec(),
                out: Some(self.result(root)),
                ..probe::Request::default()
            }),
            // The same prompt in two languages, or by two voices, stays together.
            Cell::Languages(method) => self.utterances(root, method, "asterisk-sounds"),
            Cell::Speakers(method) => self.utterances(root, method, "asterisk-sounds/speakers"),
            Cell::Ctc(minutes, steps, start) => {
                self.recognise(root, *minutes, *steps, *start, if start.is_some() { ALL } else { SCRATCH })
            }
            Cell::Head(minutes, steps, start) => self.recognise(root, *minutes, *steps, *start, HEAD),
        }
    }

    /// Probes whole recordings of `data`, of which a fifth is tested.
    fn utterances(&self, root: &Path, method: &str, data: &str) -> Result<()> {
        probe::run(&probe::Request {
            run: root.join(method),
            data: Some(data.into()),
            overrides: ["data.hold_out=0.2", "eval.few=[100]", "eval.batch_size=8"]
                .map(String::from)
                .to_vec(),
            snr: SNR.to_vec(),
            out: Some(self.result(root)),
            ..probe::Request::default()
        })
    }

    /// Fine-tunes on some sentences and measures on all test sentences. The schedule is fixed beforehand:
    /// nothing is chosen by the test.
    fn recognise(
        &self,
        root: &Path,
        minutes: u32,
        steps: u64,
        start: Option<&str>,
        what: &[&str],
    ) -> Result<()> {
        let out = root.join(self.name());
        // From scratch the shape comes from the same run.
        let run = root.join(start.unwrap_or(METHODS[0]));
        let (sentences, seconds) = budget(minutes)?;
        println!("{sentences} sentences, {:.1} minutes", seconds / 60.0);
        if !out.join("result.json").is_file() {
            let mut args: Vec<String> = COMMON.iter().chain(what).map(|s| (*s).to_string()).collect();
            args.push(format!("data.limit={sentences}"));
            args.push(format!("train.steps={steps}"));
            args.push(format!("task.scratch={}", start.is_none()));
            finetune::run(&finetune::Request {
                args,
                run: Some(run),
                data: Some(DATA.into()),
                resume: out.join("config.toml").is_file(),
                out: Some(out.clone()),
                ..finetune::Request::default()
            })?;
        }
        predict::run(&predict::Request {
            run: out.clone(),
            files: vec![TEST.into()],
            out: Some(out.join("noise.csv")),
            task: Some("ctc".into()),
            snr: HEARD.to_vec(),
            ..predict::Request::default()
        })
    }
}

/// How many training sentences, taken evenly over all as `data.limit` takes them, last at most `minutes`; and
/// how long they last in seconds.
fn budget(minutes: u32) -> Result<(usize, f64)> {
    let records = open_kind(DATA, Kind::Speech)?;
    let lasts = (0..records.len()).map(|i| {
        let record = records.get(i)?;
        let Source::File(path) = record.source else { return Err(Error::input(&record.id, "is no file")) };
        Clip::file(path).measure()?.ok_or_else(|| Error::input(&record.id, "has no known length"))
    });
    let lasts: Vec<f64> = lasts.collect::<Result<_>>()?;
    let long = |sentences: usize| evenly(sentences, lasts.len()).map(|i| lasts[i]).sum::<f64>();
    let sentences = (1..=lasts.len()).rev().find(|&n| long(n) <= f64::from(minutes) * 60.0).unwrap_or(1);
    Ok((sentences, long(sentences)))
}

fn study(root: &Path, chosen: &[String]) -> Result<()> {
    let cells = Cell::all();
    if let Some(unknown) = chosen.iter().find(|c| cells.iter().all(|cell| cell.name() != **c)) {
        let names: Vec<String> = cells.iter().map(Cell::name).collect();
        return Err(Error::config(format!("{unknown}: expected one of {}", names.join(", "))));
    }
    for cell in cells.iter().filter(|c| chosen.is_empty() || chosen.contains(&c.name())) {
        let result = cell.result(root);
        if result.is_file() {
            println!("{}: {} is there", cell.name(), result.display());
            continue;
        }
        println!("== {}", cell.name());
        cell.run(root)?;
    }
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|a| a == "--list") {
        Cell::all().iter().for_each(|cell| println!("{}", cell.name()));
        return ExitCode::SUCCESS;
    }
    let Some((root, chosen)) = arguments.split_first() else {
        eprintln!(
            "expected a folder for the results, then cells if only some are wanted (--list names them)"
        );
        return ExitCode::from(2);
    };
    match study(Path::new(root), chosen) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::from(e.exit_code())
        }
    }
}

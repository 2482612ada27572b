//! The `selfsup` command.

use clap::{Args, CommandFactory, Parser, Subcommand};
use selfsup::Error;
use selfsup::verbs;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Self-supervised pre-training: learn a representation from unlabelled data, see whether it is any good, take it away.
#[derive(Parser)]
#[command(name = "selfsup", version, arg_required_else_help = true, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

const AFTER_HELP: &str = "\
Start here:
  selfsup pretrain examples/vision-simclr/fashion-mnist.toml     pre-train on the bundled images and evaluate
  selfsup pretrain --data photos/ --method simclr                pre-train on a folder of your images
  selfsup probe runs/NAME                                        evaluate a run again
  selfsup finetune --run runs/NAME --labels labels.csv           learn a task from labels
  selfsup export runs/NAME --out DIR                             weights for timm or transformers

Exit codes: 0 done, 1 failed, 2 bad input or configuration, 3 interrupted after writing a checkpoint.";

#[derive(Subcommand)]
enum Verb {
    /// Pre-train an encoder without labels, and evaluate it where labels exist.
    Pretrain(Pretrain),
    /// Evaluate a run's encoder: kNN and linear probe against a random encoder and raw features (pixels, words, spectra).
    Probe(Probe),
    /// Learn a task from labels on top of a run's encoder.
    Finetune(Finetune),
    /// Apply a fine-tuned run to files.
    Predict(Predict),
    /// Write down what is said in recordings, by a run that was fine-tuned with `task.kind=ctc`.
    Transcribe(Predict),
    /// Write a mask for each volume, by a run that was fine-tuned with `task.kind=segmentation`.
    Segment(Segment),
    /// Write text by a run of causal-lm (it goes on with the prompt) or span-corruption (it fills <extra_id_0> ... in it).
    Generate(Generate),
    /// Guess the words behind [MASK], by a run of masked-lm.
    FillMask(FillMask),
    /// Make a vocabulary.
    #[command(subcommand)]
    Tokenizer(Tokenizer),
    /// Draw the metrics of runs into one picture, to compare them.
    Curves {
        /// Folders of runs.
        #[arg(required = true)]
        runs: Vec<PathBuf>,
        /// The SVG file; by default curves.svg in the folder of the run.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Write the embeddings of samples.
    Embed(Embed),
    /// List, fetch and inspect data sets.
    #[command(subcommand)]
    Data(Data),
    /// Write a run's encoder as a folder that other tools load (timm, transformers).
    Export(Export),
    /// Download a model from the Hugging Face Hub into the cache.
    Pull(Pull),
    /// Say what this build and this machine can do.
    Doctor,
    /// Print a shell completion script.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Args)]
struct Pretrain {
    /// A configuration (TOML), then KEY=VALUE overrides, e.g. `train.epochs=20 method.temperature=0.1`.
    #[arg(value_name = "FILE.toml | KEY=VALUE")]
    args: Vec<String>,
    /// Data: a folder (any nesting) of images, texts, recordings or medical images, a file, or the name of a data set. Its modality is found
    /// by looking at the files, unless `modality=` says it.
    #[arg(long)]
    data: Option<String>,
    /// Method, for example simclr, moco, byol, mae.
    #[arg(long)]
    method: Option<String>,
    /// Encoder, for example resnet18, vit_small.
    #[arg(long)]
    encoder: Option<String>,
    /// The run's folder; by default a new one below runs/.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Go on from the newest checkpoint of the run in --out.
    #[arg(long)]
    resume: bool,
    /// With --resume: go on although the configuration changed.
    #[arg(long, requires = "resume")]
    allow_config_change: bool,
    /// Only show what would run: one batch, shapes, parameters, memory, and what the method sees of the samples.
    #[arg(long)]
    dry_run: bool,
    /// Do not evaluate at the end.
    #[arg(long)]
    no_probe: bool,
}

#[derive(Args)]
struct Probe {
    /// The run's folder.
    run: PathBuf,
    /// KEY=VALUE overrides of the run's configuration, e.g. `eval.knn_k=10`.
    overrides: Vec<String>,
    /// Labelled data to fit on, instead of the run's own.
    #[arg(long)]
    data: Option<String>,
    /// Labelled data to test on.
    #[arg(long)]
    test: Option<String>,
    /// A table of labels (CSV, TSV, JSON lines) with the columns path and label, and if wanted group and split.
    #[arg(long)]
    labels: Option<String>,
    /// Recordings: probe which phone is said in each frame, by the alignments NAME.lab, .phn or .tsv in DIR (by default where the data has them).
    #[arg(long, value_name = "DIR")]
    frames: Option<Option<PathBuf>>,
    #[command(flatten)]
    noise: Noise,
}

/// Recordings: test again in noise.
#[derive(Args)]
struct Noise {
    /// Recordings: measure also in noise, at these ratios of signal to noise in decibels, for example 20,10,5.
    #[arg(long, value_name = "DB", value_delimiter = ',', allow_hyphen_values = true)]
    snr: Vec<f32>,
    /// The noise: a folder of recordings, or white, pink or brown.
    #[arg(long, value_name = "DIR", requires = "snr", default_value = "pink")]
    noise: String,
}

#[derive(Args)]
struct Finetune {
    /// A configuration (TOML) with [task] and [data], then KEY=VALUE overrides, e.g. `task.train_blocks=0 train.epochs=10`.
    #[arg(value_name = "TASK.toml | KEY=VALUE")]
    args: Vec<String>,
    /// The pre-training run whose encoder is taken.
    #[arg(long)]
    run: Option<PathBuf>,
    /// A table of labels (CSV, TSV, JSON lines) with the columns path and label (or transcript), and if wanted group and split.
    #[arg(long)]
    labels: Option<PathBuf>,
    /// The samples, where they are not those of the run; sub-folders are labels where there is no table.
    #[arg(long)]
    data: Option<String>,
    /// Labelled samples to test on.
    #[arg(long)]
    test: Option<String>,
    /// The new run's folder; by default a new one below runs/.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Go on from the newest checkpoint of the run in --out.
    #[arg(long)]
    resume: bool,
    /// With --resume: go on although the configuration changed.
    #[arg(long, requires = "resume")]
    allow_config_change: bool,
}

#[derive(Args)]
struct Predict {
    /// The fine-tuned run's folder.
    run: PathBuf,
    /// Files, folders or names of data sets.
    files: Vec<String>,
    /// Where to write; the ending decides the format: .csv or .jsonl. To the screen as CSV without.
    #[arg(long)]
    out: Option<PathBuf>,
    #[command(flatten)]
    noise: Noise,
    /// With --snr: a table of the files' labels or transcripts, where these do not come with them.
    #[arg(long, requires = "snr")]
    labels: Option<PathBuf>,
}

impl Predict {
    fn of(self, task: Option<&str>) -> verbs::predict::Request {
        let (run, files, out, labels) = (self.run, self.files, self.out, self.labels);
        let Noise { snr, noise } = self.noise;
        verbs::predict::Request { run, files, out, task: task.map(str::to_string), folder: false, snr, noise, labels }
    }
}

#[derive(Args)]
struct Segment {
    /// The fine-tuned run's folder.
    run: PathBuf,
    /// Volumes: files, folders of DICOM series, folders of volumes.
    files: Vec<String>,
    /// The folder to write NAME.nii.gz into, on the grid of each file.
    #[arg(long)]
    out: PathBuf,
}

#[derive(Args)]
struct Generate {
    /// The run's folder.
    run: PathBuf,
    /// The text to go on with, or to fill.
    #[arg(default_value = "")]
    prompt: String,
    /// Texts to write.
    #[arg(long, default_value_t = 1)]
    samples: u64,
    /// Most tokens of each.
    #[arg(long, default_value_t = 100)]
    tokens: usize,
    /// 0 takes the likeliest token each time; above 1 the choice is levelled.
    #[arg(long, default_value_t = 1.0)]
    temperature: f64,
    /// Choose among the best tokens, this many; 0 for all.
    #[arg(long, default_value_t = 0)]
    top_k: usize,
    /// Choose among the fewest tokens whose probabilities reach this.
    #[arg(long, default_value_t = 1.0)]
    top_p: f64,
    /// Compute every step anew instead of keeping keys and values: the same text, later.
    #[arg(long)]
    no_cache: bool,
    /// Another seed, another text.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

#[derive(Args)]
struct FillMask {
    /// The run's folder.
    run: PathBuf,
    /// A text with [MASK] where words are to be guessed.
    text: String,
    /// Guesses for each place.
    #[arg(long, default_value_t = 5)]
    top: usize,
}

#[derive(Subcommand)]
enum Tokenizer {
    /// Make one from texts.
    Train {
        /// Texts: a folder, a file or the name of a data set.
        data: String,
        /// The folder to write tokenizer.json into.
        #[arg(long)]
        out: PathBuf,
        /// Keys of [tokenizer] as KEY=VALUE: kind=wordpiece, bpe, unigram or characters; vocab_size=8000; lowercase=false; also corpus.unit=...
        keys: Vec<String>,
    },
}

#[derive(Args)]
struct Embed {
    /// The run's folder.
    run: PathBuf,
    /// Where to write; the ending decides the format: .safetensors, .npy or .parquet.
    #[arg(long)]
    out: PathBuf,
    /// Samples, instead of the run's own.
    #[arg(long)]
    data: Option<String>,
}

#[derive(Subcommand)]
enum Data {
    /// The data sets that are known by name, with licence and source.
    List,
    /// Fetch a data set by name into the cache.
    Fetch {
        /// Its name.
        name: String,
    },
    /// Look through a data set: counts, classes, sizes, unreadable files.
    Inspect {
        /// A name or a path.
        data: String,
    },
}

#[derive(Args)]
struct Export {
    /// The run's folder.
    run: PathBuf,
    /// The folder to write; by default model/ in the run.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Layout, by default the first that the modality has. Images: timm, or hf (transformers' ViT; vision transformers only).
    #[arg(long)]
    layout: Option<String>,
}

#[derive(Args)]
struct Pull {
    /// org/name, optionally with @revision.
    name: String,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.verb {
        Verb::Pretrain(a) => verbs::pretrain::run(verbs::pretrain::Request {
            args: a.args,
            data: a.data,
            method: a.method,
            encoder: a.encoder,
            out: a.out,
            resume: a.resume,
            allow_config_change: a.allow_config_change,
            dry_run: a.dry_run,
            probe: !a.no_probe,
        }),
        Verb::Probe(a) => verbs::probe::run(&verbs::probe::Request {
            run: a.run,
            overrides: a.overrides,
            data: a.data,
            test: a.test,
            labels: a.labels,
            frames: a.frames.map(Option::unwrap_or_default),
            snr: a.noise.snr,
            noise: a.noise.noise,
        }),
        Verb::Finetune(a) => verbs::finetune::run(&verbs::finetune::Request {
            args: a.args,
            run: a.run,
            labels: a.labels,
            data: a.data,
            test: a.test,
            out: a.out,
            resume: a.resume,
            allow_config_change: a.allow_config_change,
        }),
        Verb::Predict(a) => verbs::predict::run(&a.of(None)),
        Verb::Transcribe(a) => verbs::predict::run(&a.of(Some("ctc"))),
        Verb::Segment(a) => {
            let task = Some("segmentation".into());
            verbs::predict::run(&verbs::predict::Request { run: a.run, files: a.files, out: Some(a.out), task, folder: true, ..Default::default() })
        }
        Verb::Generate(a) => verbs::generate::run(&verbs::generate::Request {
            run: a.run,
            prompt: a.prompt,
            samples: a.samples,
            tokens: a.tokens,
            temperature: a.temperature,
            top_k: a.top_k,
            top_p: a.top_p,
            cache: !a.no_cache,
            seed: a.seed,
        }),
        Verb::FillMask(a) => verbs::generate::fill(&verbs::generate::FillRequest { run: a.run, text: a.text, top: a.top }),
        Verb::Tokenizer(Tokenizer::Train { data, out, keys }) => verbs::tokenizer::run(&verbs::tokenizer::Request { data, out, keys }),
        Verb::Curves { runs, out } => verbs::curves::run(&runs, out.as_deref()),
        Verb::Embed(a) => verbs::embed::run(&a.run, &a.out, a.data.as_deref()),
        Verb::Data(Data::List) => verbs::data::list(),
        Verb::Data(Data::Fetch { name }) => verbs::data::fetch(&name),
        Verb::Data(Data::Inspect { data }) => verbs::data::inspect(&data),
        Verb::Export(a) => verbs::export::run(&a.run, a.out.as_deref(), a.layout.as_deref()),
        Verb::Pull(a) => verbs::pull::run(&a.name),
        Verb::Doctor => verbs::doctor::run(),
        Verb::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "selfsup", &mut script);
            selfsup::say::text(format_args!("{}", String::from_utf8_lossy(&script)));
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::from(u8::from(selfsup::say::failed())),
        Err(e) => {
            let kind = if matches!(e, Error::Interrupted { .. }) { "stopped:" } else { "error:" };
            // Where the standard error is closed, the exit code alone tells.
            let _ = writeln!(std::io::stderr(), "{kind} {e}");
            ExitCode::from(e.exit_code())
        }
    }
}

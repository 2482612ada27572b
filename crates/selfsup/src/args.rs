//! What can be written on the command line.

use clap::{Args, Parser, Subcommand};
use selfsup::verbs;
use std::path::PathBuf;

/// Self-supervised pre-training: learn a representation from unlabelled data, see whether it is any good,
/// take it away.
#[derive(Parser)]
#[command(name = "selfsup", version, arg_required_else_help = true, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,
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
pub(crate) enum Verb {
    /// Pre-train an encoder without labels, and evaluate it where labels exist.
    Pretrain(Pretrain),
    /// Say what `pretrain` would choose for this data, this machine and this time, and print the configuration.
    Plan(Plan),
    /// Evaluate a run's encoder: kNN and linear probe against a random encoder and raw features (pixels,
    /// words, spectra).
    Probe(Probe),
    /// Learn a task from labels on top of a run's encoder.
    Finetune(Finetune),
    /// Apply a fine-tuned run to files.
    Predict(Predict),
    /// Write down what is said in recordings, by a run that was fine-tuned with `task.kind=ctc`.
    Transcribe(Predict),
    /// Write a mask for each volume, by a run that was fine-tuned with `task.kind=segmentation`.
    Segment(Segment),
    /// Write text by a run of causal-lm (it goes on with the prompt) or span-corruption (it fills
    /// <extra_id_0> ... in it).
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
    /// List and clear the blocks that large volumes were turned into.
    #[cfg(feature = "medical")]
    #[command(subcommand)]
    Cache(Cache),
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
pub(crate) struct Plan {
    /// A configuration (TOML), then KEY=VALUE: what stays as it is.
    #[arg(value_name = "FILE.toml | KEY=VALUE")]
    pub(crate) args: Vec<String>,
    /// Data: a folder, a file, or the name of a data set.
    #[arg(long)]
    pub(crate) data: Option<String>,
    /// Method, for example simclr, moco, byol, mae.
    #[arg(long)]
    pub(crate) method: Option<String>,
    /// Encoder, for example resnet18, vit_small.
    #[arg(long)]
    pub(crate) encoder: Option<String>,
    #[command(flatten)]
    pub(crate) budget: Budget,
}

/// How long a run may take.
#[derive(Args)]
pub(crate) struct Budget {
    /// How long the run may take, for example 90s, 30m, 2h: keys that are not given are chosen so that it does
    /// (without a configuration file: an hour, unless train.epochs or train.steps is given).
    #[arg(long, value_name = "TIME")]
    pub(crate) budget: Option<String>,
}

#[derive(Args)]
pub(crate) struct Pretrain {
    /// A configuration (TOML), then KEY=VALUE overrides, e.g. `train.epochs=20 method.temperature=0.1`.
    #[arg(value_name = "FILE.toml | KEY=VALUE")]
    pub(crate) args: Vec<String>,
    /// Data: a folder (any nesting) of images, texts, recordings or medical images, a file, or the name of a
    /// data set. Its modality is found by looking at the files, unless `modality=` says it.
    #[arg(long)]
    pub(crate) data: Option<String>,
    /// Method, for example simclr, moco, byol, mae.
    #[arg(long)]
    pub(crate) method: Option<String>,
    /// Encoder, for example resnet18, vit_small.
    #[arg(long)]
    pub(crate) encoder: Option<String>,
    #[command(flatten)]
    pub(crate) folder: RunFolder,
    #[command(flatten)]
    pub(crate) budget: Budget,
    /// Only show what would run: one batch, shapes, parameters, memory, and what the method sees of the
    /// samples.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not evaluate at the end.
    #[arg(long)]
    pub(crate) no_probe: bool,
}

/// Where a training writes, and whether it goes on.
#[derive(Args)]
pub(crate) struct RunFolder {
    /// The run's folder; by default a new one below runs/.
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
    /// Go on from the newest checkpoint of the run in --out.
    #[arg(long)]
    pub(crate) resume: bool,
    /// With --resume: go on although the configuration or the samples changed.
    #[arg(long, requires = "resume")]
    pub(crate) allow_config_change: bool,
}

#[derive(Args)]
pub(crate) struct Probe {
    /// The run's folder.
    pub(crate) run: PathBuf,
    /// KEY=VALUE overrides of the run's configuration, e.g. `eval.knn_k=10`.
    pub(crate) overrides: Vec<String>,
    /// Labelled data to fit on, instead of the run's own.
    #[arg(long)]
    pub(crate) data: Option<String>,
    /// Labelled data to test on.
    #[arg(long)]
    pub(crate) test: Option<String>,
    /// A table of labels (CSV, TSV, JSON lines) with the columns path and label, and if wanted group and
    /// split.
    #[arg(long)]
    pub(crate) labels: Option<String>,
    /// Recordings: probe which phone is said in each frame, by the alignments NAME.lab, .phn or .tsv in DIR
    /// (by default where the data has them).
    #[arg(long, value_name = "DIR")]
    pub(crate) frames: Option<Option<PathBuf>>,
    /// Where to write what was found; by default probe.json (with --frames frames.json) in the run's folder.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) noise: Noise,
}

/// Recordings: test again in noise.
#[derive(Args)]
pub(crate) struct Noise {
    /// Recordings: measure also in noise, at these ratios of signal to noise in decibels, for example
    /// 20,10,5.
    #[arg(long, value_name = "DB", value_delimiter = ',', allow_hyphen_values = true)]
    pub(crate) snr: Vec<f32>,
    /// The noise: a folder of recordings, or white, pink or brown.
    #[arg(long, value_name = "DIR", requires = "snr", default_value = "pink")]
    pub(crate) noise: String,
}

#[derive(Args)]
pub(crate) struct Finetune {
    /// A configuration (TOML) with [task] and [data], then KEY=VALUE overrides, e.g. `task.train_blocks=0
    /// train.epochs=10`.
    #[arg(value_name = "TASK.toml | KEY=VALUE")]
    pub(crate) args: Vec<String>,
    /// The pre-training run whose encoder is taken.
    #[arg(long)]
    pub(crate) run: Option<PathBuf>,
    /// A table of labels (CSV, TSV, JSON lines) with the columns path and label (or transcript), and if
    /// wanted group and split.
    #[arg(long)]
    pub(crate) labels: Option<PathBuf>,
    /// The samples, where they are not those of the run; sub-folders are labels where there is no table.
    #[arg(long)]
    pub(crate) data: Option<String>,
    /// Labelled samples to test on.
    #[arg(long)]
    pub(crate) test: Option<String>,
    #[command(flatten)]
    pub(crate) folder: RunFolder,
}

/// What happens to samples that cannot be read.
#[derive(Args)]
pub(crate) struct Bad {
    /// Leave out what cannot be read, with a line for each, instead of ending at the first.
    #[arg(long)]
    pub(crate) skip_bad: bool,
}

#[derive(Args)]
pub(crate) struct Predict {
    /// The fine-tuned run's folder.
    pub(crate) run: PathBuf,
    /// Files, folders or names of data sets.
    pub(crate) files: Vec<String>,
    /// Where to write; the ending decides the format: .csv or .jsonl. To the screen as CSV without.
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) noise: Noise,
    #[command(flatten)]
    pub(crate) bad: Bad,
    /// With --snr: a table of the files' labels or transcripts, where these do not come with them.
    #[arg(long, requires = "snr")]
    pub(crate) labels: Option<PathBuf>,
}

impl Predict {
    pub(crate) fn of(self, task: Option<&str>) -> verbs::predict::Request {
        let (run, files, out, labels) = (self.run, self.files, self.out, self.labels);
        let Noise { snr, noise } = self.noise;
        verbs::predict::Request {
            run,
            files,
            out,
            task: task.map(str::to_string),
            folder: false,
            snr,
            noise,
            labels,
            skip_bad: self.bad.skip_bad,
        }
    }
}

#[derive(Args)]
pub(crate) struct Segment {
    /// The fine-tuned run's folder.
    pub(crate) run: PathBuf,
    /// Volumes: files, folders of DICOM series, folders of volumes.
    pub(crate) files: Vec<String>,
    /// The folder to write NAME.nii.gz into, on the grid of each file.
    #[arg(long)]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) bad: Bad,
}

#[derive(Args)]
pub(crate) struct Generate {
    /// The run's folder.
    pub(crate) run: PathBuf,
    /// The text to go on with, or to fill.
    #[arg(default_value = "")]
    pub(crate) prompt: String,
    /// Texts to write.
    #[arg(long, default_value_t = 1)]
    pub(crate) samples: u64,
    /// Most tokens of each.
    #[arg(long, default_value_t = 100)]
    pub(crate) tokens: usize,
    /// 0 takes the likeliest token each time; above 1 the choice is levelled.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) temperature: f64,
    /// Choose among the best tokens, this many; 0 for all.
    #[arg(long, default_value_t = 0)]
    pub(crate) top_k: usize,
    /// Choose among the fewest tokens whose probabilities reach this.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) top_p: f64,
    /// Compute every step anew instead of keeping keys and values: the same text, later.
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Another seed, another text.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
}

#[derive(Args)]
pub(crate) struct FillMask {
    /// The run's folder.
    pub(crate) run: PathBuf,
    /// A text with [MASK] where words are to be guessed.
    pub(crate) text: String,
    /// Guesses for each place.
    #[arg(long, default_value_t = 5)]
    pub(crate) top: usize,
}

#[derive(Subcommand)]
pub(crate) enum Tokenizer {
    /// Make one from texts.
    Train {
        /// Texts: a folder, a file or the name of a data set.
        data: String,
        /// The folder to write tokenizer.json into.
        #[arg(long)]
        out: PathBuf,
        /// Keys of [tokenizer] as KEY=VALUE: kind=wordpiece, bpe, unigram or characters; vocab_size=8000;
        /// lowercase=false; also corpus.unit=...
        keys: Vec<String>,
    },
}

#[derive(Args)]
pub(crate) struct Embed {
    /// The run's folder.
    pub(crate) run: PathBuf,
    /// Where to write; the ending decides the format: .csv (id,f0,f1...), .npy or .safetensors (with the
    /// names of the rows beside them, in NAME.ids.csv), .parquet.
    #[arg(long)]
    pub(crate) out: PathBuf,
    /// Samples, instead of the run's own.
    #[arg(long)]
    pub(crate) data: Option<String>,
    #[command(flatten)]
    pub(crate) bad: Bad,
}

#[derive(Subcommand)]
pub(crate) enum Data {
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

#[cfg(feature = "medical")]
#[derive(Subcommand)]
pub(crate) enum Cache {
    /// Say how many there are, how large, and when they were used last.
    List(Folder),
    /// Remove all that no run reads.
    Clear(Folder),
}

#[cfg(feature = "medical")]
#[derive(Args)]
pub(crate) struct Folder {
    /// The folder of blocks; by default that of the user's cache (see `volumes.blocks`).
    pub(crate) folder: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Export {
    /// The run's folder.
    pub(crate) run: PathBuf,
    /// The folder to write; by default model/ in the run.
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
    /// Layout, by default the first that the modality has. Images: timm, or hf (transformers' ViT; vision
    /// transformers only).
    #[arg(long)]
    pub(crate) layout: Option<String>,
}

#[derive(Args)]
pub(crate) struct Pull {
    /// org/name, optionally with @revision.
    pub(crate) name: String,
}

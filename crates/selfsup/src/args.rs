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
    #[command(flatten)]
    pub(crate) common: Common,
}

/// What every verb takes, in front of it or behind it.
#[derive(Args)]
#[command(next_help_heading = "Common options")]
pub(crate) struct Common {
    /// Print the result, warnings and errors only: no progress, no notes.
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Print also what was read and recognised, what was chosen, the configuration, weights and devices, and
    /// how long each part took.
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    pub(crate) verbose: bool,
    /// Print the result as one JSON object on the standard output, everything else on the standard error.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Threads that compute; by default one for each core.
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) threads: Option<u16>,
    /// cpu, cuda:N, metal or auto, where an encoder runs.
    #[arg(long, global = true)]
    pub(crate) device: Option<String>,
    /// Of what is drawn: weights, order and augmentation of a training, the random encoder of a probe, a text.
    #[arg(long, global = true, value_name = "N")]
    pub(crate) seed: Option<u64>,
}

impl Common {
    /// Overrides of a configuration by `--device` and `--seed`, which only some verbs read.
    pub(crate) fn overrides(&self, verb: &Verb) -> selfsup::Result<Vec<String>> {
        let reads: &[&str] = match verb {
            Verb::Pretrain(_)
            | Verb::Plan(_)
            | Verb::Finetune(_)
            | Verb::Probe(_)
            | Verb::Robustness(_)
            | Verb::Curve(_) => &["--device", "--seed"],
            Verb::Predict(_)
            | Verb::Transcribe(_)
            | Verb::Segment(_)
            | Verb::Embed(_)
            | Verb::Search(_)
            | Verb::Pictures(_)
            | Verb::Report(_) => &["--device"],
            Verb::Generate(_) => &["--seed"],
            _ => &[],
        };
        let given = [
            ("--device", "device", self.device.as_ref().map(|d| format!("'{d}'"))),
            ("--seed", "train.seed", self.seed.map(|s| s.to_string())),
        ];
        let mut out = Vec::new();
        for (flag, key, value) in given {
            match value {
                Some(value) if reads.contains(&flag) => out.push(format!("{key}={value}")),
                Some(_) => {
                    return Err(selfsup::Error::config(format!(
                        "{flag} is not read by this verb: see `selfsup VERB --help`"
                    )));
                }
                None => {}
            }
        }
        Ok(out)
    }
}

const AFTER_HELP: &str = "\
Start here:
  selfsup pretrain examples/vision-simclr/fashion-mnist.toml     pre-train on the bundled images and evaluate
  selfsup pretrain --data photos/ --method simclr                pre-train on a folder of your images
  selfsup probe runs/NAME                                        evaluate a run again
  selfsup curve runs/NAME                                        what labels are worth with it, and without
  selfsup finetune --run runs/NAME --labels labels.csv           learn a task from labels
  selfsup export runs/NAME --out DIR                             weights for timm or transformers
  selfsup report runs/NAME --samples                             a page about a run, to open in a browser
  selfsup runs                                                   all runs: state, steps, result, size
  selfsup config train                                           what the keys of a section mean

Exit codes: 0 done, 1 failed, 2 bad input or configuration, 3 interrupted after writing a checkpoint, 4 stopped
after a collapse (train.on_collapse).";

#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Pre-train an encoder without labels, and evaluate it where labels exist.
    Pretrain(Pretrain),
    /// Say what `pretrain` would choose for this data, this machine and this time, and print the configuration.
    Plan(Plan),
    /// Evaluate a run's encoder: kNN and linear probe against a random encoder and raw features (pixels,
    /// words, spectra).
    Probe(Probe),
    /// Test a run on corrupted samples (noise, blur, weather, bad codecs, typing errors ...), against a random
    /// encoder and raw features.
    Robustness(Robustness),
    /// Say what labels are worth: probes and fine-tuning on few and many labels, against training from scratch.
    Curve(Curve),
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
        /// The SVG file; by default curves.svg in the present folder.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Draw what a run has learnt: reconstructions, attention, components of patches and frames, guesses for
    /// hidden words.
    Pictures(Pictures),
    /// Write a page about runs: verdict, curves, a map of the samples, what neighbours say; nothing is
    /// fetched when it is opened.
    Report(Report),
    /// List runs with their state and result, compare them, remove what nobody needs.
    Runs(Runs),
    /// Print what configuration keys mean, with their types, defaults, and what they belong to.
    Config {
        /// A section (`train`, `method`), a method or an encoder (`mae`, `resnet18`), or a key
        /// (`train.epochs`); everything without.
        section: Option<String>,
    },
    /// Write the embeddings of samples.
    Embed(Embed),
    /// Find the samples most like others, near-duplicates, or outliers.
    Search(Search),
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
    /// A table of labels (CSV, TSV, JSON lines) with the columns path and label, and if wanted group and
    /// split: for the evaluation, or for texts the samples themselves.
    #[arg(long)]
    pub(crate) labels: Option<String>,
    /// Labelled data to test on: data like --data, or a table like --labels.
    #[arg(long)]
    pub(crate) test: Option<String>,
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
    /// A table of labels (CSV, TSV, JSON lines) with the columns path and label, and if wanted group and
    /// split: for the evaluation, or for texts the samples themselves.
    #[arg(long)]
    pub(crate) labels: Option<String>,
    /// Labelled data to test on: data like --data, or a table like --labels.
    #[arg(long)]
    pub(crate) test: Option<String>,
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
    /// The run's folder, or a checkpoint in it.
    pub(crate) run: PathBuf,
    /// KEY=VALUE overrides of the run's configuration, e.g. `eval.knn_k=10`; further runs or checkpoints, to
    /// compare them on the same samples (CKA, CLID).
    pub(crate) overrides: Vec<String>,
    /// Labelled data to fit on, instead of the run's own.
    #[arg(long)]
    pub(crate) data: Option<String>,
    /// Labelled data to test on: data like --data, or a table like --labels.
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
    /// Where to write what was found as JSON; the run itself is left as it is.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Measure also what needs no labels but views of the samples: alignment, uniformity, LiDAR, and whether a
    /// view finds its own sample.
    #[arg(long)]
    pub(crate) measures: bool,
    /// Few-shot episodes instead: 600 of five classes with one and with five samples each, by nearest mean and
    /// logistic regression, with 95% intervals.
    #[arg(long, conflicts_with_all = ["frames", "measures"])]
    pub(crate) episodes: bool,
    /// Content and style instead: how well each draw of the augmentation (place of the crop, flip, colours, blur)
    /// can be read off the representation, before and after the projector; of images.
    #[arg(long, conflicts_with_all = ["frames", "measures", "episodes"])]
    pub(crate) invariance: bool,
    #[command(flatten)]
    pub(crate) noise: Noise,
    /// Measure also each group of the test samples, by this column of the table of labels (`sex`, `site`):
    /// accuracy, rates, AUROC, calibration, gaps with intervals. A fine-tuned RUN is measured by its own head.
    #[arg(long, value_name = "COLUMN")]
    pub(crate) groups: Option<String>,
    /// With --groups: compare the gaps between groups with those of this run.
    #[arg(long, value_name = "RUN")]
    pub(crate) against: Option<PathBuf>,
    /// Data from elsewhere (a folder, a file, a data set), which the features are to tell from the test samples;
    /// may be given several times.
    #[arg(long, value_name = "DATA")]
    pub(crate) ood: Vec<String>,
}

#[derive(Args)]
pub(crate) struct Curve {
    /// The run's folder.
    pub(crate) run: PathBuf,
    /// KEY=VALUE overrides: of the run (`data.limit=0`, `eval.read=statistics`) and of the fine-tuning
    /// (`task.kind=ctc`, `train.batch_size=16`, `optim.lr=1e-4`).
    pub(crate) overrides: Vec<String>,
    /// Labelled data, instead of the run's own.
    #[arg(long)]
    pub(crate) data: Option<String>,
    /// Labelled data to test on.
    #[arg(long)]
    pub(crate) test: Option<String>,
    /// A table of labels (CSV, TSV, JSON lines) with the columns path and label, and if wanted group and
    /// split.
    #[arg(long)]
    pub(crate) labels: Option<String>,
    /// Shares of the labels in percent (by default 1,10,20,100, as far as they exist); of recordings with
    /// transcripts shares of their time.
    #[arg(long, value_name = "PERCENT", value_delimiter = ',', allow_hyphen_values = true)]
    pub(crate) fractions: Vec<f64>,
    /// Numbers of labels of each class, for example 1,5,10.
    #[arg(long, value_name = "N", value_delimiter = ',')]
    pub(crate) per_class: Vec<usize>,
    /// With task.kind=ctc: minutes of recordings, for example 1,10,60.
    #[arg(long, value_name = "MINUTES", value_delimiter = ',', allow_hyphen_values = true)]
    pub(crate) minutes: Vec<f64>,
    /// What is compared, some of linear,finetune,scratch,random,raw; all by default.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) settings: Vec<String>,
    /// Draws of each number of labels, the same for all settings.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) draws: u64,
    /// Seeds of initial weights and order.
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) seeds: u64,
    /// Most steps of one training.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub(crate) steps: u64,
    /// Learning rates that are tried; by default three about `optim.lr`, of training from scratch higher ones.
    #[arg(long, value_name = "RATES", value_delimiter = ',', allow_hyphen_values = true)]
    pub(crate) rates: Vec<f64>,
    /// The folder of the curve: curve.json, curve.svg and a file for each cell; by default curve/ in the run.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

impl Curve {
    pub(crate) fn of(self, overrides: Vec<String>) -> verbs::curve::Request {
        verbs::curve::Request {
            run: self.run,
            overrides: [self.overrides, overrides].concat(),
            data: self.data,
            test: self.test,
            labels: self.labels,
            fractions: self.fractions,
            per_class: self.per_class,
            minutes: self.minutes,
            settings: self.settings,
            draws: self.draws,
            seeds: self.seeds,
            steps: self.steps,
            rates: self.rates,
            out: self.out,
        }
    }
}

#[derive(Args)]
pub(crate) struct Robustness {
    /// The run's folder: of `selfsup pretrain`, or of `selfsup finetune`, which is tested with its own head.
    pub(crate) run: PathBuf,
    /// KEY=VALUE overrides of the run's configuration, e.g. `eval.knn_k=10`.
    pub(crate) overrides: Vec<String>,
    /// Labelled data to fit and test on, instead of the run's own.
    #[arg(long)]
    pub(crate) data: Option<String>,
    /// Labelled data to test on.
    #[arg(long)]
    pub(crate) test: Option<String>,
    /// A table of labels (CSV, TSV, JSON lines) with the columns path and label, and if wanted group and
    /// split.
    #[arg(long)]
    pub(crate) labels: Option<String>,
    /// Kinds of corruption, or all; by default those that count for the mean. A wrong name lists them.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) corruptions: Vec<String>,
    /// Severities from 1 to 5.
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1,2,3,4,5")]
    pub(crate) severities: Vec<u8>,
    /// Test on so many samples, evenly over all of them.
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(crate) samples: usize,
    /// Only write one sample under every corruption: robustness/preview.png or .txt in the run.
    #[arg(long)]
    pub(crate) preview: bool,
    /// Measure again what was measured before.
    #[arg(long)]
    pub(crate) fresh: bool,
    /// The folder to write into; by default robustness/ in the run.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
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
    /// Labelled samples to test on: data like --data, or a table like --labels.
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
    /// Files, folders or names of data sets, and KEY=VALUE overrides of the run's configuration.
    #[arg(value_name = "FILES | KEY=VALUE")]
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
    pub(crate) fn of(self, task: Option<&str>, overrides: Vec<String>) -> verbs::predict::Request {
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
            overrides,
        }
    }
}

#[derive(Args)]
pub(crate) struct Segment {
    /// The fine-tuned run's folder.
    pub(crate) run: PathBuf,
    /// Volumes: files, folders of DICOM series, folders of volumes; and KEY=VALUE overrides of the run's
    /// configuration, e.g. `volumes.read.frame=0`.
    #[arg(value_name = "FILES | KEY=VALUE")]
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
        /// Keys of [tokenizer] as KEY=VALUE: kind=wordpiece, bpe, unigram, characters or
        /// whitespace; vocab_size=8000; lowercase=false; also corpus.unit=...
        keys: Vec<String>,
    },
}

#[derive(Args)]
pub(crate) struct Embed {
    /// The run's folder.
    pub(crate) run: PathBuf,
    /// KEY=VALUE overrides of the run's configuration, e.g. `volumes.read.frame=0`.
    pub(crate) overrides: Vec<String>,
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

#[derive(Args)]
pub(crate) struct Search {
    /// The run's folder.
    pub(crate) run: PathBuf,
    /// Samples to look for: files or folders.
    pub(crate) queries: Vec<String>,
    /// The samples that are searched, instead of the run's own.
    #[arg(long)]
    pub(crate) data: Option<String>,
    /// Neighbours of each query, or outliers.
    #[arg(long, default_value_t = 10)]
    pub(crate) top: usize,
    /// Groups of samples that are alike instead: those of at least this cosine similarity (0.98).
    #[arg(long, value_name = "SIMILARITY", num_args = 0..=1, default_missing_value = "0.98",
        require_equals = true, conflicts_with_all = ["outliers", "queries"])]
    pub(crate) duplicates: Option<f32>,
    /// The samples that are furthest from their nearest neighbours instead.
    #[arg(long, conflicts_with = "queries")]
    pub(crate) outliers: bool,
    /// Where to write a table (CSV); to the screen without.
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) bad: Bad,
}

impl Search {
    pub(crate) fn of(self, overrides: Vec<String>) -> verbs::search::Request {
        use verbs::search::What;
        let what = match (self.duplicates, self.outliers) {
            (Some(similarity), _) => What::Duplicates(similarity),
            (None, true) => What::Outliers(self.top),
            (None, false) => What::Nearest(self.queries, self.top),
        };
        let (run, data, out, skip_bad) = (self.run, self.data, self.out, self.bad.skip_bad);
        verbs::search::Request { run, what, data, out, skip_bad, overrides }
    }
}

#[derive(Args)]
pub(crate) struct Pictures {
    /// The run's folder, which gets a folder `pictures`.
    pub(crate) run: PathBuf,
    /// KEY=VALUE overrides of the run's configuration, e.g. `volumes.read.frame=0`.
    pub(crate) overrides: Vec<String>,
    /// Samples, instead of those that the run was tested on.
    #[arg(long)]
    pub(crate) data: Option<String>,
    /// How many samples, evenly over the whole.
    #[arg(long, default_value_t = 8, value_name = "N")]
    pub(crate) count: usize,
}

#[derive(Args)]
pub(crate) struct Report {
    /// Folders of runs, and KEY=VALUE overrides of their configurations.
    #[arg(required = true, value_name = "RUN | KEY=VALUE")]
    pub(crate) runs: Vec<String>,
    /// The HTML file; by default report.html in the present folder.
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
    /// Print the report instead of a page (with --out both).
    #[arg(long)]
    pub(crate) text: bool,
    /// Put samples on the page, and pictures of what was learnt; never their names.
    #[arg(long)]
    pub(crate) samples: bool,
    /// Samples on the map, evenly over the whole part; 0 for no map.
    #[arg(long, default_value_t = 2000, value_name = "N")]
    pub(crate) points: usize,
    /// Samples of the map, instead of those that the run was tested on.
    #[arg(long)]
    pub(crate) data: Option<String>,
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
        /// How it is read, as KEY=VALUE, e.g. `volumes.read.frame=0`.
        keys: Vec<String>,
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
    /// Write over a folder that is not empty.
    #[arg(long)]
    pub(crate) force: bool,
    /// Layout, by default the first that the modality has. Images: timm, or hf (transformers' ViT; vision
    /// transformers only).
    #[arg(long)]
    pub(crate) layout: Option<String>,
}

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Runs {
    #[command(subcommand)]
    pub(crate) what: Option<RunsVerb>,
    /// The folder whose runs are listed.
    #[arg(default_value = "runs")]
    pub(crate) dir: PathBuf,
}

#[derive(Subcommand)]
pub(crate) enum RunsVerb {
    /// Show the keys in which runs differ, and their results side by side.
    Compare {
        /// Folders of runs, two or more.
        #[arg(required = true)]
        runs: Vec<PathBuf>,
    },
    /// Remove failed runs without a checkpoint, and checkpoints of finished runs that are neither the newest nor
    /// the best, after asking.
    Clean {
        /// The folder of the runs.
        #[arg(default_value = "runs")]
        dir: PathBuf,
        /// Remove also failed runs that have a checkpoint, and could go on.
        #[arg(long)]
        failed: bool,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Args)]
pub(crate) struct Pull {
    /// org/name, optionally with @revision.
    pub(crate) name: String,
}

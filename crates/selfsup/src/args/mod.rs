//! What can be written on the command line.

mod apply;
mod measure;
mod show;
mod train;

#[cfg(feature = "signals")]
use apply::Monitor;
use apply::{Embed, FillMask, Generate, Predict, Search, Segment};
use clap::{Args, Parser, Subcommand};
use measure::{Curve, Probe, Robustness};
#[cfg(feature = "medical")]
pub(crate) use show::Cache;
pub(crate) use show::{Data, RunsVerb, Tokenizer};
use show::{Export, Pictures, Pull, Report, Runs};
use std::path::PathBuf;
use train::{Finetune, Plan, Pretrain};

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
            | Verb::FillMask(_)
            | Verb::Embed(_)
            | Verb::Search(_)
            | Verb::Pictures(_)
            | Verb::Report(_) => &["--device"],
            #[cfg(feature = "signals")]
            Verb::Monitor(_) => &["--device"],
            Verb::Generate(_) => &["--device", "--seed"],
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
    /// Score how unlike the normal signal each window of a recording is, and gather events.
    #[cfg(feature = "signals")]
    Monitor(Monitor),
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

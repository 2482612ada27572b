//! Arguments of the verbs that show, list, fetch and export.

use clap::{Args, Subcommand};
use std::path::PathBuf;

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

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Runs {
    #[command(subcommand)]
    pub(crate) what: Option<RunsVerb>,
    /// The folder whose runs are listed.
    #[arg(default_value = "runs")]
    pub(crate) dir: PathBuf,
    /// What they are listed by: name, knn, linear, loss, time, size, newest.
    #[arg(long, value_name = "ORDER", default_value = "name")]
    pub(crate) sort: String,
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
pub(crate) struct Pull {
    /// org/name, optionally with @revision.
    pub(crate) name: String,
}

//! Arguments of the verbs that train, and of `plan`.

use clap::Args;
use selfsup::verbs::pretrain::Request;
use std::path::PathBuf;

/// What is trained, and on what.
#[derive(Args)]
pub(crate) struct What {
    /// A configuration (TOML), then KEY=VALUE overrides, e.g. `train.epochs=20 method.temperature=0.1`.
    #[arg(value_name = "FILE.toml | KEY=VALUE")]
    pub(crate) args: Vec<String>,
    /// Data: a folder (any nesting) of images, texts, recordings, medical images or signals, a file, or the name of a
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
}

impl What {
    /// What is asked for, with the `overrides` of the flags that all verbs share.
    pub(crate) fn of(self, budget: Budget, overrides: Vec<String>) -> Request {
        Request {
            args: [self.args, overrides].concat(),
            data: self.data,
            labels: self.labels,
            test: self.test,
            method: self.method,
            encoder: self.encoder,
            budget: budget.budget,
            ..Request::default()
        }
    }
}

#[derive(Args)]
pub(crate) struct Plan {
    #[command(flatten)]
    pub(crate) what: What,
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
    #[command(flatten)]
    pub(crate) what: What,
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

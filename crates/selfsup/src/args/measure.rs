//! Arguments of the verbs that measure a run.

use clap::Args;
use selfsup::verbs;
use std::path::PathBuf;

/// What a run is measured on.
#[derive(Args)]
pub(crate) struct Labelled {
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
}

#[derive(Args)]
pub(crate) struct Probe {
    /// The run's folder, or a checkpoint in it.
    pub(crate) run: PathBuf,
    /// KEY=VALUE overrides of the run's configuration, e.g. `eval.knn_k=10`; further runs or checkpoints, to
    /// compare them on the same samples (CKA, CLID).
    pub(crate) overrides: Vec<String>,
    #[command(flatten)]
    pub(crate) on: Labelled,
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
    #[command(flatten)]
    pub(crate) on: Labelled,
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
            data: self.on.data,
            test: self.on.test,
            labels: self.on.labels,
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
    #[command(flatten)]
    pub(crate) on: Labelled,
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

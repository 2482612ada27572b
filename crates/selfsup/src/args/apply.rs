//! Arguments of the verbs that apply a run to samples.

use super::measure::Noise;
use clap::Args;
use selfsup::verbs;
use std::path::PathBuf;

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
    /// Where to write; the ending decides the format: .csv or .jsonl. To the screen as CSV without. Of a
    /// detection also a folder: pictures with boxes, and results.json as COCO's tools read it.
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
    /// Images or folders of them. Volumes: files, folders of DICOM series, folders of volumes. And KEY=VALUE
    /// overrides of the run's configuration, e.g. `volumes.read.frame=0`.
    #[arg(value_name = "FILES | KEY=VALUE")]
    pub(crate) files: Vec<String>,
    /// The folder to write into: NAME.png and NAME-overlay.png of an image, NAME.nii.gz of a volume, on the
    /// grid of each file.
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

#[cfg(feature = "signals")]
#[derive(Args)]
pub(crate) struct Monitor {
    /// The run's folder: one of signals.
    pub(crate) run: PathBuf,
    /// A recording, or - for lines of values on the standard input: then a line of the score is written for each
    /// window.
    #[arg(value_name = "FILE | -")]
    pub(crate) file: String,
    /// KEY=VALUE overrides of the run's configuration, e.g. `signal.source_rate=500`.
    #[arg(value_name = "KEY=VALUE")]
    pub(crate) keys: Vec<String>,
    /// Signals that are normal: a file, a folder or the name of a data set. The run's own data without.
    #[arg(long)]
    pub(crate) normal: Option<String>,
    /// The folder to write; without runs/monitor, or the first runs/monitor-N that is not there.
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
    /// knn or mahalanobis: how the distance from the normal windows is measured.
    #[arg(long, default_value = "knn")]
    pub(crate) score: verbs::monitor::Score,
    /// Share of normal windows that may raise an alarm.
    #[arg(long, default_value_t = 0.01, value_name = "SHARE")]
    pub(crate) false_alarms: f64,
    /// Samples from window to window, at the run's rate; a quarter of a window without.
    #[arg(long, value_name = "N")]
    pub(crate) stride: Option<usize>,
    /// A channel of the file that is above 0.5 where the signal is known not to be normal: says how many events
    /// were found, beside a random encoder and raw samples.
    #[arg(long, value_name = "CHANNEL")]
    pub(crate) truth: Option<String>,
}

#[cfg(feature = "signals")]
impl Monitor {
    pub(crate) fn of(self, mut overrides: Vec<String>) -> verbs::monitor::Request {
        overrides.extend(self.keys);
        verbs::monitor::Request {
            run: self.run,
            file: self.file,
            normal: self.normal,
            out: self.out,
            score: self.score,
            false_alarms: self.false_alarms,
            stride: self.stride,
            truth: self.truth,
            overrides,
        }
    }
}

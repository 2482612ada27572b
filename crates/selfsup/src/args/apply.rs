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

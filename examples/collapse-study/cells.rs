//! Which runs there are: each method as it should be, and broken.

use crate::broken::Left;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Seeds of healthy runs.
const SEEDS: u64 = 5;

/// What is wrong with a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// Nothing.
    Healthy,
    /// Keys.
    Keys(&'static [&'static str]),
    /// The data of this name.
    Data(&'static str),
    /// A learning rate a hundred times too high.
    Rate,
    /// A part of the method is missing.
    Built(Left),
}

/// A run.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    /// The method.
    pub method: &'static str,
    /// Its modality.
    kind: &'static str,
    /// What is broken, in words.
    pub what: &'static str,
    /// The same.
    pub broken: Break,
    seed: u64,
}

/// `method` of a modality, with what breaks it beside a learning rate.
struct Method(&'static str, &'static str, &'static [(&'static str, Break)]);

use Break::{Built, Data, Keys};

const COLD: (&str, Break) = ("temperature 1e-4", Keys(&["method.temperature=1e-4"]));
const COPY: (&str, Break) = ("momentum 0", Keys(&["method.momentum=0.0"]));
const STILL: (&str, Break) = ("momentum 1", Keys(&["method.momentum=1.0"]));
const NO_CENTRE: (&str, Break) = ("a centre that stands still", Keys(&["method.center_momentum=1.0"]));
const NO_SHARPENING: (&str, Break) = (
    "targets are not sharpened",
    Keys(&["method.teacher_temperature=1.0", "method.teacher_temperature_end=1.0"]),
);
const EVEN_TARGETS: (&str, Break) = ("targets are even", Keys(&["method.epsilon=100.0"]));
const PLACE: (&str, Break) = ("stripes tell the place", Data("striped-images"));
const SAME_IMAGES: (&str, Break) = ("identical samples", Data("same-images"));
const SAME_TEXTS: (&str, Break) = ("identical samples", Data("same-texts"));
const SAME_RECORDINGS: (&str, Break) = ("identical samples", Data("same-recordings"));
const SAME_VOLUMES: (&str, Break) = ("identical samples", Data("same-volumes"));
const NO_PREDICTOR: (&str, Break) = ("no predictor", Built(Left { predictor: false, stop_gradient: true }));
const NO_STOP: (&str, Break) = ("no stop-gradient", Built(Left { predictor: true, stop_gradient: false }));
const NEITHER: (&str, Break) =
    ("no predictor, no stop-gradient", Built(Left { predictor: false, stop_gradient: false }));

const METHODS: &[Method] = &[
    Method("simclr", "vision", &[COLD, SAME_IMAGES]),
    Method("moco", "vision", &[COLD, COPY, STILL, SAME_IMAGES]),
    Method("moco-v3", "vision", &[COLD, COPY, STILL, SAME_IMAGES]),
    Method("byol", "vision", &[COPY, STILL, SAME_IMAGES]),
    Method("simsiam", "vision", &[NO_STOP, NO_PREDICTOR, NEITHER, SAME_IMAGES]),
    Method("barlow-twins", "vision", &[("lambda 0", Keys(&["method.lambda=0.0"])), SAME_IMAGES]),
    Method(
        "vicreg",
        "vision",
        &[
            ("no variance term", Keys(&["method.mu=0.0"])),
            ("no covariance term", Keys(&["method.nu=0.0"])),
            SAME_IMAGES,
        ],
    ),
    Method(
        "mae",
        "vision",
        &[
            ("mask ratio 0", Keys(&["method.mask_ratio=0.0"])),
            ("mask ratio 0.01", Keys(&["method.mask_ratio=0.01"])),
            SAME_IMAGES,
        ],
    ),
    Method("simmim", "vision", &[("mask ratio 0", Keys(&["method.mask_ratio=0.0"])), SAME_IMAGES]),
    Method("i-jepa", "vision", &[COPY, STILL, SAME_IMAGES]),
    Method("dcl", "vision", &[COLD, SAME_IMAGES]),
    Method("nnclr", "vision", &[COLD, SAME_IMAGES]),
    Method("supcon", "vision", &[COLD, SAME_IMAGES]),
    Method("triplet", "vision", &[("margin 0", Keys(&["method.margin=0.0"])), SAME_IMAGES]),
    Method("swav", "vision", &[COLD, EVEN_TARGETS, SAME_IMAGES]),
    Method(
        "lejepa",
        "vision",
        &[
            ("no SIGReg", Keys(&["method.lambda=0.0"])),
            ("no prediction term", Keys(&["method.lambda=1.0"])),
            SAME_IMAGES,
        ],
    ),
    Method("dino", "vision", &[COPY, STILL, NO_CENTRE, NO_SHARPENING, SAME_IMAGES]),
    Method("ibot", "vision", &[COPY, STILL, NO_CENTRE, NO_SHARPENING, SAME_IMAGES]),
    Method("dinov2", "vision", &[COPY, STILL, NO_SHARPENING, SAME_IMAGES]),
    Method("rotation", "vision", &[("light from below tells the turn", Data("lit-images")), SAME_IMAGES]),
    Method("jigsaw", "vision", &[PLACE, SAME_IMAGES]),
    Method("relative-position", "vision", &[PLACE, SAME_IMAGES]),
    Method("inpainting", "vision", &[SAME_IMAGES]),
    Method("colourisation", "vision", &[("grey images", Data("same-images"))]),
    Method(
        "super-resolution",
        "vision",
        &[("nothing is lost", Keys(&["method.factor=[1, 1]"])), SAME_IMAGES],
    ),
    Method(
        "masked-lm",
        "text",
        &[
            ("mask share 0", Keys(&["method.masking.share=0.0"])),
            ("masked tokens stay readable", Keys(&["method.masking.mask=0.0", "method.masking.random=0.0"])),
            SAME_TEXTS,
        ],
    ),
    Method("causal-lm", "text", &[SAME_TEXTS]),
    Method("span-corruption", "text", &[SAME_TEXTS]),
    Method("electra", "text", &[SAME_TEXTS]),
    Method("simcse", "text", &[COLD, ("no dropout", Keys(&["encoder.dropout=0.0"])), SAME_TEXTS]),
    Method(
        "wav2vec2",
        "speech",
        &[("codebook without diversity", Keys(&["method.diversity_weight=0.0"])), COLD, SAME_RECORDINGS],
    ),
    Method("hubert", "speech", &[SAME_RECORDINGS]),
    Method(
        "data2vec",
        "speech",
        &[
            ("momentum 0", Keys(&["method.momentum=0.0", "method.momentum_end=0.0"])),
            ("momentum 1", Keys(&["method.momentum=1.0", "method.momentum_end=1.0"])),
            SAME_RECORDINGS,
        ],
    ),
    Method(
        "genesis",
        "medical",
        &[
            (
                "nothing is corrupted",
                Keys(&["method.intensity_p=0.0", "method.shuffle_p=0.0", "method.paint_p=0.0"]),
            ),
            SAME_VOLUMES,
        ],
    ),
    Method("super-resolution", "medical", &[SAME_VOLUMES]),
];

/// All runs: the broken ones of each method, then the healthy ones.
pub fn all() -> Vec<Cell> {
    let mut out = Vec::new();
    for &Method(method, kind, breaks) in METHODS {
        let cell = |what, broken, seed| Cell { method, kind, what, broken, seed };
        out.extend(breaks.iter().map(|(what, broken)| cell(*what, *broken, 0)));
        out.push(cell("learning rate 100 times too high", Break::Rate, 0));
    }
    for &Method(method, kind, _) in METHODS {
        out.extend((0..SEEDS).map(|seed| Cell { method, kind, what: "", broken: Break::Healthy, seed }));
    }
    out
}

const VISION: &str = r#"
data = { path = "DATA", limit = 2000, hold_out = 0.0 }
encoder = { name = "resnet", depths = [1, 1, 1], widths = [16, 32, 64], stem = 16, small_images = true }
[augment]
size = 20
crop_scale = [0.3, 1.0]
VIEWS
mean = [0.286, 0.286, 0.286]
std = [0.353, 0.353, 0.353]
[train]
steps = 150
batch_size = 64
log_every = 2
[optim]
kind = "adamw"
weight_decay = 1e-4
schedule = { kind = "one_cycle" }
"#;

const TEXT: &str = r#"
modality = "text"
data = { path = "DATA", limit = 4000, hold_out = 0.0 }
tokenizer = { kind = "wordpiece", vocab_size = 1000 }
[corpus]
length = 32
[train]
steps = 200
batch_size = 32
log_every = 2
[optim]
kind = "adamw"
weight_decay = 0.01
clip_grad_norm = 1.0
schedule = { kind = "warmup_linear", warmup = { ratio = 0.1 } }
"#;

const SPEECH: &str = r#"
modality = "speech"
data = { path = "DATA", hold_out = 0.0 }
[input]
crop_seconds = 1.5
[train]
steps = 120
batch_size = 6
log_every = 2
[optim]
kind = "adamw"
weight_decay = 0.01
betas = [0.9, 0.98]
clip_grad_norm = 5.0
schedule = { kind = "warmup_linear", warmup = { ratio = 0.1 } }
"#;

const MEDICAL: &str = r#"
modality = "medical"
data = { path = "DATA", hold_out = 0.0 }
encoder = { name = "unet3d", widths = [8, 16, 32], norm = "batch" }
volumes = { patches = 64 }
[augment]
size = [16, 16, 16]
foreground = 0.05
scale = { kind = "percentiles", low = 0.5, high = 99.5 }
[train]
steps = 150
batch_size = 8
log_every = 2
[optim]
kind = "adamw"
weight_decay = 1e-4
schedule = { kind = "one_cycle" }
"#;

/// Methods that see one view of an image, cropped and flipped alone.
const ONE_VIEW: [&str; 9] = [
    "mae",
    "simmim",
    "i-jepa",
    "rotation",
    "jigsaw",
    "relative-position",
    "inpainting",
    "colourisation",
    "super-resolution",
];

const SMALL_VIT: &str = "encoder={ name = \"vit\", patch = 4, dim = 48, depth = 3, heads = 3 }";

/// Keys of the method and of its encoder, where the modality's are not right.
fn of_method(kind: &str, method: &str) -> &'static [&'static str] {
    if (kind, method) == ("vision", "super-resolution") {
        return &["method.decoder_dim=32"];
    }
    match method {
        "dcl" | "supcon" => &["method.temperature=0.2", "method.hidden_dim=128", "method.out_dim=64"],
        "nnclr" => &[
            "method.temperature=0.2",
            "method.queue=1024",
            "method.hidden_dim=128",
            "method.predictor_dim=128",
            "method.out_dim=64",
        ],
        "triplet" => &["method.margin=0.5", "method.hidden_dim=128", "method.out_dim=64"],
        "swav" => &["method.prototypes=64", "method.hidden_dim=128", "method.out_dim=64"],
        "lejepa" => &["method.slices=128", "method.hidden_dim=128", "method.out_dim=32"],
        "dino" => &[
            "method.out_dim=256",
            "method.hidden_dim=128",
            "method.bottleneck_dim=64",
            "method.momentum=0.99",
            "augment.local_views=2",
            "augment.local_size=12",
            "augment.local_scale=[0.1, 0.4]",
        ],
        "ibot" | "dinov2" => &[
            SMALL_VIT,
            "method.out_dim=256",
            "method.hidden_dim=128",
            "method.bottleneck_dim=64",
            "method.momentum=0.99",
        ],
        "simmim" => &[SMALL_VIT, "method.mask_unit=1"],
        "i-jepa" => &[SMALL_VIT, "method.momentum=0.98", "augment.size=28"],
        "jigsaw" => {
            &["method.permutations=32", "method.tile_dim=32", "method.hidden_dim=128", "augment.size=24"]
        }
        "relative-position" => &["method.hidden_dim=128", "augment.size=24"],
        "inpainting" => &["method.decoder_dim=32"],
        "colourisation" => {
            &["augment.mean=[0.5, 0.5, 0.5]", "augment.std=[0.25, 0.25, 0.25]", "method.decoder_dim=32"]
        }
        "simclr" => &["method.temperature=0.2", "method.hidden_dim=128", "method.out_dim=64"],
        "moco" => {
            &["method.queue=1024", "method.momentum=0.99", "method.hidden_dim=128", "method.out_dim=64"]
        }
        "moco-v3" | "byol" => &["method.momentum=0.99", "method.hidden_dim=128", "method.out_dim=64"],
        // As in its paper, where the collapses are.
        "simsiam" => {
            &["method.predictor_dim=32", "method.out_dim=64", "optim.kind=sgd", "optim.momentum=0.9"]
        }
        "barlow-twins" | "vicreg" => &["method.hidden_dim=128", "method.out_dim=128"],
        "mae" => &[SMALL_VIT, "method.decoder_dim=48", "method.decoder_depth=1", "method.decoder_heads=3"],
        "masked-lm" | "simcse" => {
            &["encoder={ name = \"bert\", dim = 64, depth = 2, heads = 2, positions = 32, dropout = 0.1 }"]
        }
        "electra" => &[
            "encoder={ name = \"electra\", dim = 64, depth = 2, heads = 2, embedding_dim = 64, positions = 32 }",
            "method.generator_share=0.5",
        ],
        "causal-lm" => &["encoder={ name = \"gpt2\", dim = 64, depth = 2, heads = 2, positions = 32 }"],
        "span-corruption" => &[
            "encoder={ name = \"t5\", dim = 64, depth = 2, heads = 2 }",
            "tokenizer={ kind = \"unigram\", vocab_size = 1000, sentinels = 20 }",
        ],
        "wav2vec2" => &[
            "encoder={ name = \"wav2vec2_tiny\", dim = 64, depth = 2, front_dim = 32, position_kernel = 16, position_groups = 4 }",
            "method.groups=2",
            "method.codes=32",
            "method.code_dim=32",
            "method.out_dim=32",
            "method.negatives=30",
            "method.gumbel_decay=0.99",
        ],
        "hubert" => &[
            "encoder={ name = \"hubert_tiny\", dim = 64, depth = 2, front_dim = 32, position_kernel = 16, position_groups = 4 }",
            "method.code_dim=32",
            "method.iterations=[{ features = \"mfcc\", clusters = 20, steps = 120 }]",
        ],
        "data2vec" => &[
            "encoder={ name = \"data2vec_tiny\", dim = 64, depth = 2, front_dim = 32, position_groups = 4 }",
            "method.top_layers=2",
            "method.momentum=0.99",
            "method.momentum_end=0.999",
        ],
        _ => &[],
    }
}

/// A learning rate at which the method learns.
fn rate(method: &str) -> f64 {
    match method {
        "simsiam" => 0.1,
        "byol" | "moco-v3" | "mae" | "simmim" | "i-jepa" | "dino" | "ibot" | "dinov2" => 1e-3,
        "simcse" => 3e-4,
        "wav2vec2" | "data2vec" => 5e-4,
        _ => 2e-3,
    }
}

impl Cell {
    /// A name for its files.
    pub fn name(&self) -> String {
        let what = if self.what.is_empty() { format!("healthy-{}", self.seed) } else { self.what.into() };
        let what = what.replace([' ', ','], "-").replace('.', "_");
        format!("{}-{}-{what}", self.kind, self.method)
    }

    /// The method, with its data where two modalities have one of this name.
    pub fn shown(&self) -> String {
        let twice = METHODS.iter().filter(|m| m.0 == self.method).count() > 1;
        if twice { format!("{} ({})", self.method, self.kind) } else { self.method.into() }
    }

    /// Its configuration.
    pub fn text(&self, made: &BTreeMap<&'static str, PathBuf>) -> String {
        let (text, data) = match self.kind {
            "text" => (TEXT, "wordnet-glosses"),
            "speech" => (SPEECH, "festvox-ru"),
            "medical" => (MEDICAL, "mni152"),
            _ if self.method == "colourisation" => (VISION, "emoji"),
            _ => (VISION, "fashion-mnist"),
        };
        let folder = match self.broken {
            Break::Data(name) => made.get(name).map(|p| p.display().to_string()),
            _ => None,
        };
        let views =
            if ONE_VIEW.contains(&self.method) { "" } else { "jitter = [0.4, 0.4, 0.0, 0.0]\ngray_p = 0.0" };
        text.replace("DATA", folder.as_deref().unwrap_or(data)).replace("VIEWS", views)
    }

    /// Keys beside it.
    pub fn overrides(&self) -> Vec<String> {
        let times = if self.broken == Break::Rate { 100.0 } else { 1.0 };
        let mut keys = vec![format!("method.name={}", self.method), format!("train.seed={}", self.seed)];
        keys.extend(of_method(self.kind, self.method).iter().map(|k| (*k).to_string()));
        keys.push(format!("optim.lr={:e}", times * rate(self.method)));
        if let Break::Keys(more) = self.broken {
            keys.extend(more.iter().map(|k| (*k).to_string()));
        }
        keys
    }

    /// Whether an error speaks of a key that breaks it: a refusal is what should come.
    pub fn expects(&self, error: &str) -> bool {
        let Break::Keys(keys) = self.broken else { return false };
        keys.iter().filter_map(|k| k.split('=').next()).any(|key| error.contains(key))
    }

    /// Steps of the run.
    pub fn steps(&self) -> u64 {
        match self.kind {
            "text" => 200,
            "speech" => 120,
            _ => 150,
        }
    }
}

//! What candle's layers get wrong, and what to use instead.

/// A layer or operation that must not be trained, and its replacement.
pub(super) struct Fault {
    pub(super) layer: &'static str,
    pub(super) instead: &'static str,
}

pub(super) const BATCH_NORM: Fault = Fault {
    layer: "candle_nn::BatchNorm",
    instead: "candle_nn::group_norm, which has no state, or selfsup_core::nn::BatchNorm in an Encoder",
};
pub(super) const DROPOUT: Fault = Fault {
    layer: "candle_nn::Dropout",
    instead: "Pass::dropout with selfsup_kernels::dropout in an Encoder",
};
pub(super) const LAYER_NORM: Fault = Fault {
    layer: "candle_nn::LayerNorm",
    instead: "selfsup_core::nn::LayerNorm or selfsup_kernels::norm::layer_norm",
};
pub(super) const RMS_NORM: Fault = Fault {
    layer: "candle_nn::RmsNorm",
    instead: "selfsup_core::nn::RmsNorm or selfsup_kernels::norm::rms_norm",
};
pub(super) const CONV1D: Fault = Fault {
    layer: "candle_nn::Conv1d",
    instead: "selfsup_core::nn::Conv or selfsup_kernels::conv::conv, over (N, L, C)",
};
pub(super) const CONV_TRANSPOSE1D: Fault = Fault {
    layer: "candle_nn::ConvTranspose1d",
    instead: "selfsup_kernels::conv_transpose::conv_transpose, over (N, L, C)",
};
/// Operations without parameters whose gradient is cut off.
pub(super) const CUT: &[Fault] = &[
    Fault { layer: "candle_nn::ops::softmax_last_dim", instead: "selfsup_kernels::softmax::softmax" },
    Fault { layer: "candle_nn::ops::layer_norm", instead: "selfsup_kernels::norm::layer_norm" },
    Fault { layer: "candle_nn::ops::rms_norm", instead: "selfsup_kernels::norm::rms_norm" },
    Fault { layer: "candle_nn::rotary_emb::rope", instead: "candle_nn::rotary_emb::rope_slow" },
];
/// Operations without parameters whose gradient is wrong.
pub(super) const WRONG: &[Fault] = &[
    Fault { layer: "Tensor::max_pool2d", instead: "selfsup_kernels::pool::max_pool, over (N, H, W, C)" },
    Fault { layer: "Tensor::avg_pool2d", instead: "selfsup_kernels::pool::avg_pool, over (N, H, W, C)" },
    Fault { layer: "Tensor::upsample_nearest2d", instead: "selfsup_kernels::resize::resize" },
    Fault { layer: "Tensor::conv1d", instead: "selfsup_kernels::conv::conv, over (N, L, C)" },
];
/// What candle's own message of a backward that it refuses contains, and the operation.
pub(super) const REFUSED: &[(&str, &Fault)] = &[
    ("maxpool2d", &WRONG[0]),
    ("avgpool2d", &WRONG[1]),
    ("upsample", &WRONG[2]),
    ("conv-transpose1d", &CONV_TRANSPOSE1D),
];

impl Fault {
    /// The layer, and what to use instead of it.
    pub(super) fn described(&self) -> String {
        format!("{}: use {}", self.layer, self.instead)
    }

    /// The layer and its replacement in words.
    pub(super) fn words(&self) -> String {
        format!("instead of {} use {}", self.layer, self.instead)
    }
}

/// The layers in words, one after the other.
pub(super) fn words(faults: &[Fault]) -> String {
    faults.iter().map(Fault::words).collect::<Vec<_>>().join("; ")
}

/// The faulty layer that has parameters of these names and shapes, if it is one. Norms cut the gradient off
/// (`cut`), and never have a wrong one.
pub(super) fn recognise(tensors: &[(String, Vec<usize>)], cut: bool) -> Option<&'static Fault> {
    let rank = |name: &str| tensors.iter().find(|(n, _)| n == name).map(|(_, dims)| dims.len());
    match (rank("weight"), rank("bias")) {
        (Some(1), Some(_)) if cut => Some(&LAYER_NORM),
        (Some(1), None) if cut => Some(&RMS_NORM),
        (Some(3), _) => Some(&CONV1D),
        _ => None,
    }
}

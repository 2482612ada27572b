//! Where in a file of weights the encoder stands: below which prefix, in whose names, and what stands beside
//! it.
//!
//! Other tools wrap their encoders (`module.encoder_q.` of MoCo, `module.base_encoder.` of MoCo v3,
//! `teacher.backbone.` of DINO, `backbone.0.` of lightly). The prefix is found by the names below it: each
//! network has one tensor that no other has.

use super::layout::Layout;
use std::collections::{BTreeMap, BTreeSet};

/// A tensor that only encoders in a layout have.
const ANCHORS: [(&str, Layout); 9] = [
    ("embeddings.patch_embeddings.projection.weight", Layout::HfVit),
    ("embeddings.patch_embedding.weight", Layout::Clip),
    ("patch_embed.projection.weight", Layout::Mm),
    ("patch_embed.proj.weight", Layout::Timm),
    ("layer1.0.conv1.weight", Layout::Timm),
    ("stages.0.blocks.0.conv_dw.weight", Layout::Timm),
    ("layers.0.blocks.0.attn.relative_position_bias_table", Layout::Timm),
    ("encoder.stages.0.layers.0.dwconv.weight", Layout::ConvNext),
    ("layer.0.attention.k_proj.weight", Layout::Dinov3),
];

/// Parts of a model besides its encoder, by a word of their names: what loading may leave.
pub(super) const PARTS: [&str; 35] = [
    "bn",
    "classifier",
    "decoder",
    "dino_head",
    "dino_loss",
    "fc",
    "fp16_scaler",
    "head",
    "heads",
    "ibot_head",
    "linear_head",
    "lm_head",
    "logit_bias",
    "logit_scale",
    "mask_token",
    "masked_embed",
    "mlp_head",
    "neck",
    "optimizer",
    "pooler",
    "position_ids",
    "prediction_head",
    "prediction_mlp",
    "predictor",
    "proj_head",
    "projection_head",
    "projection_mlp",
    "projector",
    "prototypes",
    "queue",
    "queue_ptr",
    "scheduler",
    "text_model",
    "text_projection",
    "visual_projection",
];

/// What says whose part it is: the head of a teacher is a head.
const OWNERS: [&str; 6] = ["key_", "momentum_", "online_", "student_", "target_", "teacher_"];

/// Where an encoder stands in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Whose names it has.
    pub layout: Layout,
    /// What stands in front of them, with its dot; may be empty.
    pub prefix: String,
    /// The number of the first stage, where a ResNet is numbered as by `torch.nn.Sequential`.
    pub numbered: Option<usize>,
    /// Prefixes of other encoders in the file: the student beside the teacher, the key's beside the query's.
    others: Vec<String>,
    /// Whether it is a ConvNeXt in timm's names.
    convnext: bool,
}

/// A lower rank is taken: the weights that a method's authors evaluate.
fn rank(prefix: &str) -> (usize, usize, String) {
    let has = |words: &[&str]| prefix.split('.').any(|part| words.iter().any(|w| part.contains(w)));
    let copied = has(&["momentum", "encoder_k", "target", "key_"]);
    let rank = if copied { 2 } else { usize::from(has(&["student"])) };
    (rank, prefix.len(), prefix.to_string())
}

/// `(prefix, number)` of `prefix + NUMBER.0.conv1.weight`: a stage of a numbered ResNet.
fn stage(name: &str) -> Option<(&str, usize)> {
    let rest = name.strip_suffix(".0.conv1.weight")?;
    let start = rest.rfind('.').map_or(0, |i| i + 1);
    Some((&rest[..start], rest[start..].parse().ok()?))
}

/// Finds the encoder by the names of all tensors; `None` if there is none.
pub(super) fn locate(names: &BTreeSet<&str>) -> Option<Place> {
    let mut found: BTreeMap<String, (Layout, Option<usize>)> = BTreeMap::new();
    for name in names {
        for (anchor, layout) in ANCHORS {
            if let Some(prefix) = name.strip_suffix(anchor)
                && (prefix.is_empty() || prefix.ends_with('.'))
            {
                found.entry(prefix.to_string()).or_insert((layout, None));
            }
        }
        if let Some((prefix, number)) = stage(name)
            && names.contains(format!("{prefix}0.weight").as_str())
            && names.contains(format!("{prefix}1.running_mean").as_str())
        {
            let entry = found.entry(prefix.to_string()).or_insert((Layout::Timm, Some(number)));
            entry.1 = entry.1.map(|first| first.min(number));
        }
    }
    let prefix = found.keys().min_by_key(|p| rank(p))?.clone();
    let (mut layout, numbered) = found.remove(&prefix)?;
    let has = |part: &str| names.iter().any(|n| n.starts_with(&prefix) && n.contains(part));
    layout = match layout {
        Layout::HfVit if has(".mlp.weights_in.") => Layout::Dinov2SwiGlu,
        Layout::HfVit if has(".layer_scale1.lambda1") => Layout::Dinov2,
        Layout::Dinov3 if has(".mlp.gate_proj.") => Layout::Dinov3Gated,
        Layout::Timm if has(".gamma_1") && !has("pos_embed") => Layout::TimmDinov3,
        Layout::Timm if has(".mlp.w12.") || has("register_tokens") => Layout::Dinov2Authors,
        other => other,
    };
    let convnext = layout == Layout::Timm && has("stages.0.blocks.0.conv_dw.weight");
    Some(Place { layout, prefix, numbered, others: found.into_keys().collect(), convnext })
}

/// The part of a model that a word of a name stands for.
fn part(word: &str) -> Option<&'static str> {
    let word = OWNERS.iter().find_map(|o| word.strip_prefix(o)).unwrap_or(word);
    let word = word.strip_suffix("_momentum").unwrap_or(word);
    if word.starts_with("decoder_") {
        return Some("decoder");
    }
    PARTS.iter().find(|p| **p == word).copied()
}

impl Place {
    /// The name of a tensor within the encoder; `None` for tensors outside its prefix.
    pub fn within<'a>(&self, name: &'a str) -> Option<&'a str> {
        name.strip_prefix(&self.prefix)
    }

    /// The part of the model that this tensor belongs to, if it is one that loading may leave.
    pub fn may_leave(&self, name: &str) -> Option<String> {
        if name.ends_with("num_batches_tracked") {
            return Some("num_batches_tracked".into());
        }
        // Swin's authors keep what follows from the sizes.
        for constant in ["relative_position_index", "attn_mask"] {
            if name.ends_with(constant) {
                return Some(constant.into());
            }
        }
        if let Some(rest) = self.within(name) {
            // The norm of ConvNeXt's features stands where others have a classifier.
            if self.convnext && rest.starts_with("head.norm.") {
                return None;
            }
            let rest = rest.strip_prefix("embeddings.").unwrap_or(rest);
            if let Some(part) = rest.split('.').next().and_then(part) {
                return Some(part.into());
            }
            if !self.prefix.is_empty() {
                return None;
            }
        }
        let other = self.others.iter().filter(|o| !o.is_empty() && name.starts_with(*o));
        if let Some(other) = other.max_by_key(|o| o.len()).filter(|o| !self.prefix.starts_with(*o)) {
            return Some(format!("another encoder at {}", other.trim_end_matches('.')));
        }
        if self.prefix.is_empty() {
            return None;
        }
        // Outside the encoder: behind at most two words of wrapping (`module.student.head`).
        name.split('.').take(3).find_map(part).map(str::to_string)
    }

    /// torchvision's name for one of a numbered ResNet; others keep theirs.
    pub fn respelt(&self, name: &str) -> String {
        let Some(first) = self.numbered else { return name.to_string() };
        let (number, rest) = name.split_once('.').unwrap_or((name, ""));
        match number.parse::<usize>() {
            Ok(0) => format!("conv1.{rest}"),
            Ok(1) => format!("bn1.{rest}"),
            Ok(n) if n >= first => format!("layer{}.{rest}", n - first + 1),
            _ => name.to_string(),
        }
    }

    /// What may be left, in words.
    pub fn leavable() -> String {
        PARTS.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(names: &[&str]) -> Option<Place> {
        locate(&names.iter().copied().collect())
    }

    #[test]
    fn prefixes_of_other_tools() {
        let resnet = |prefix: &str| format!("{prefix}layer1.0.conv1.weight");
        for (prefix, beside) in [
            ("", ""),
            ("module.encoder_q.", "module.encoder_k."),
            ("module.base_encoder.", "module.momentum_encoder."),
            ("module.encoder.", ""),
            ("module.backbone.", ""),
            ("teacher.backbone.", "student.module.backbone."),
            ("backbone.", "momentum_backbone."),
            ("encoder.", "teacher.encoder."),
        ] {
            let (a, b) = (resnet(prefix), resnet(beside));
            let found = at(&[&a, if beside.is_empty() { &a } else { &b }]).unwrap();
            assert_eq!((found.prefix.as_str(), found.layout), (prefix, Layout::Timm));
            assert_eq!(found.others, if beside.is_empty() { vec![] } else { vec![beside.to_string()] });
        }
        assert_eq!(at(&["conv1.weight", "xlayer1.0.conv1.weight", "features.0.weight"]), None);
    }

    #[test]
    fn numbered_stages() {
        let names = ["backbone.0.weight", "backbone.1.running_mean", "backbone.5.0.conv1.weight"];
        let found = at(&[&names[..], &["backbone.4.0.conv1.weight"]].concat()).unwrap();
        assert_eq!((found.prefix.as_str(), found.numbered), ("backbone.", Some(4)));
        let respelt: Vec<String> =
            ["0.weight", "1.bias", "4.0.conv1.weight", "7.1.bn2.bias"].map(|n| found.respelt(n)).into();
        assert_eq!(respelt, ["conv1.weight", "bn1.bias", "layer1.0.conv1.weight", "layer4.1.bn2.bias"]);
    }

    #[test]
    fn what_may_be_left() {
        let left = |prefix: &str, others: &[&str], name: &str| {
            let others = others.iter().map(|o| (*o).to_string()).collect();
            Place { layout: Layout::Timm, prefix: prefix.into(), numbered: None, others, convnext: false }
                .may_leave(name)
        };
        for (prefix, name, part) in [
            ("", "fc.weight", "fc"),
            ("", "bn1.num_batches_tracked", "num_batches_tracked"),
            ("", "decoder_blocks.0.norm1.weight", "decoder"),
            ("", "decoder_pos_embed", "decoder"),
            ("", "embeddings.mask_token", "mask_token"),
            ("vit.", "vit.pooler.dense.weight", "pooler"),
            ("vit.", "classifier.bias", "classifier"),
            ("module.encoder_q.", "module.encoder_q.fc.0.weight", "fc"),
            ("module.encoder_q.", "module.queue_ptr", "queue_ptr"),
            ("teacher.backbone.", "student.module.head.mlp.0.weight", "head"),
            ("teacher.backbone.", "optimizer.state.0.exp_avg", "optimizer"),
        ] {
            assert_eq!(left(prefix, &[], name).as_deref(), Some(part), "{name}");
        }
        for (prefix, name) in [
            ("", "layer1.2.conv1.weight"),
            ("", "blocks.0.ls1.gamma"),
            ("", "reg_token"),
            ("vit.", "vit.encoder.layer.2.output.dense.weight"),
            ("vit.", "adapter.weight"),
            ("encoder.", "encoder.blocks.0.head.weight"),
        ] {
            assert_eq!(left(prefix, &[], name), None, "{name}");
        }
        let convnext = Place {
            layout: Layout::Timm,
            prefix: String::new(),
            numbered: None,
            others: Vec::new(),
            convnext: true,
        };
        assert_eq!(convnext.may_leave("head.norm.weight"), None);
        assert_eq!(convnext.may_leave("head.fc.weight").as_deref(), Some("head"));
        let other = left("a.encoder_q.", &["a.encoder_k."], "a.encoder_k.layer1.0.conv1.weight");
        assert_eq!(other.as_deref(), Some("another encoder at a.encoder_k"));
    }
}

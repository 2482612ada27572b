//! The names of the same weights in timm, torchvision, transformers and the repositories of methods.
//!
//! Ours are torchvision's for ResNets and timm's for vision transformers and ConvNeXt.

use selfsup_core::weights::{Rule, Rules};

/// Who wrote a file of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Layout {
    /// timm and torchvision: our own names, with counters and classifiers that we have not.
    Timm,
    /// transformers' ViT, ViT-MSN and I-JEPA, and the encoder of its ViT-MAE.
    HfVit,
    /// transformers' DINOv2, with and without registers.
    Dinov2,
    /// The same with the gated MLP of the largest size.
    Dinov2SwiGlu,
    /// DINOv2 as its authors publish it: timm's names but for registers and the gated MLP.
    Dinov2Authors,
    /// transformers' DINOv3.
    Dinov3,
    /// The same with the gated MLP of its larger sizes.
    Dinov3Gated,
    /// timm's DINOv3, whose LayerScale has other names.
    TimmDinov3,
    /// transformers' ConvNeXt.
    ConvNext,
    /// transformers' CLIP, its image tower.
    Clip,
    /// transformers' ViTMAEForPreTraining, with its decoder.
    VitMae,
    /// Vision transformers of mmpretrain and mmselfsup.
    Mm,
}

/// `rest` below the dotted path `side`, which may be empty.
fn below(side: &str, rest: &str) -> String {
    if side.is_empty() { rest.to_string() } else { format!("{side}.{rest}") }
}

/// Renames `from` to `to` with either ending, weight and bias.
fn both(from: &str, to: &str) -> [Rule; 2] {
    ["weight", "bias"].map(|kind| Rule::rename(&format!("{from}.{kind}"), &format!("{to}.{kind}")))
}

/// transformers' attention below `from` as ours below `to`.
fn attention(from: &str, to: &str) -> Vec<Rule> {
    let mut rules = Vec::new();
    for kind in ["weight", "bias"] {
        rules.push(Rule::concat(
            &below(from, &format!("*.attention.attention.{{query,key,value}}.{kind}")),
            &below(to, &format!("*.attn.qkv.{kind}")),
            0,
        ));
    }
    rules.extend(both(&below(from, "*.attention.output.dense"), &below(to, "*.attn.proj")));
    rules
}

/// transformers' blocks of a ViT below `from` as ours below `to`.
fn blocks(from: &str, to: &str) -> Vec<Rule> {
    let mut rules = attention(from, to);
    for (theirs, ours) in [
        ("*.layernorm_before", "*.norm1"),
        ("*.layernorm_after", "*.norm2"),
        ("*.intermediate.dense", "*.mlp.fc1"),
        ("*.output.dense", "*.mlp.fc2"),
    ] {
        rules.extend(both(&below(from, theirs), &below(to, ours)));
    }
    rules
}

/// transformers' blocks of DINOv2, whose MLP has layers of these names.
fn dinov2(mlp: [&str; 2]) -> Vec<Rule> {
    let (from, to) = ("encoder.layer", "blocks");
    let mut rules = embeddings("", "");
    rules.push(Rule::rename("embeddings.register_tokens", "reg_token"));
    rules.extend(attention(from, to));
    for (theirs, ours) in [("norm1", "norm1"), ("norm2", "norm2"), (mlp[0], "mlp.fc1"), (mlp[1], "mlp.fc2")] {
        rules.extend(both(&below(from, &format!("*.{theirs}")), &below(to, &format!("*.{ours}"))));
    }
    for i in [1, 2] {
        rules.push(Rule::rename(
            &below(from, &format!("*.layer_scale{i}.lambda1")),
            &below(to, &format!("*.ls{i}.gamma")),
        ));
    }
    rules
}

/// What stands around the blocks of transformers' vision models, below `from`, as ours below `to`.
fn embeddings(from: &str, to: &str) -> Vec<Rule> {
    let mut rules = vec![
        Rule::rename(&below(from, "embeddings.cls_token"), &below(to, "cls_token")),
        Rule::rename(&below(from, "embeddings.position_embeddings"), &below(to, "pos_embed")),
    ];
    let projection = below(from, "embeddings.patch_embeddings.projection");
    rules.extend(both(&projection, &below(to, "patch_embed.proj")));
    rules.extend(both(&below(from, "layernorm"), &below(to, "norm")));
    rules
}

/// transformers' DINOv3, whose keys have no bias.
fn dinov3(gated: bool) -> Vec<Rule> {
    let mut rules = vec![
        Rule::rename("embeddings.cls_token", "cls_token"),
        Rule::rename("embeddings.register_tokens", "reg_token"),
        Rule::concat("layer.*.attention.{q_proj,k_proj,v_proj}.weight", "blocks.*.attn.qkv.weight", 0),
        Rule::rename("layer.*.attention.q_proj.bias", "blocks.*.attn.q_bias"),
        Rule::rename("layer.*.attention.v_proj.bias", "blocks.*.attn.v_bias"),
        Rule::rename("layer.*.layer_scale1.lambda1", "blocks.*.ls1.gamma"),
        Rule::rename("layer.*.layer_scale2.lambda1", "blocks.*.ls2.gamma"),
    ];
    for (theirs, ours) in [
        ("embeddings.patch_embeddings", "patch_embed.proj"),
        ("layer.*.norm1", "blocks.*.norm1"),
        ("layer.*.norm2", "blocks.*.norm2"),
        ("layer.*.attention.o_proj", "blocks.*.attn.proj"),
        ("layer.*.mlp.down_proj", "blocks.*.mlp.fc2"),
    ] {
        rules.extend(both(theirs, ours));
    }
    for kind in ["weight", "bias"] {
        let ours = format!("blocks.*.mlp.fc1.{kind}");
        rules.push(if gated {
            Rule::concat(&format!("layer.*.mlp.{{gate_proj,up_proj}}.{kind}"), &ours, 0)
        } else {
            Rule::rename(&format!("layer.*.mlp.up_proj.{kind}"), &ours)
        });
    }
    rules
}

/// transformers' ConvNeXt.
fn convnext() -> Vec<Rule> {
    let mut rules = Vec::new();
    // The norm at the top before those of the blocks, which have the same last name.
    for (theirs, ours) in [
        ("layernorm", "head.norm"),
        ("embeddings.patch_embeddings", "stem.0"),
        ("embeddings.layernorm", "stem.1"),
        ("encoder.stages.*.downsampling_layer.0", "stages.*.downsample.0"),
        ("encoder.stages.*.downsampling_layer.1", "stages.*.downsample.1"),
        ("encoder.stages.*.layers.*.dwconv", "stages.*.blocks.*.conv_dw"),
        ("encoder.stages.*.layers.*.layernorm", "stages.*.blocks.*.norm"),
        ("encoder.stages.*.layers.*.pwconv1", "stages.*.blocks.*.mlp.fc1"),
        ("encoder.stages.*.layers.*.pwconv2", "stages.*.blocks.*.mlp.fc2"),
    ] {
        rules.extend(both(theirs, ours));
    }
    let (theirs, ours) = ("encoder.stages.*.layers.*.layer_scale_parameter", "stages.*.blocks.*.gamma");
    rules.push(Rule::rename(theirs, ours));
    rules
}

fn clip() -> Vec<Rule> {
    let mut rules = vec![
        Rule::rename("embeddings.class_embedding", "cls_token"),
        Rule::unsqueeze("cls_token", 0),
        Rule::unsqueeze("cls_token", 0),
        Rule::rename("embeddings.position_embedding.weight", "pos_embed"),
        Rule::unsqueeze("pos_embed", 0),
    ];
    for (theirs, ours) in [
        ("embeddings.patch_embedding", "patch_embed.proj"),
        ("pre_layrnorm", "norm_pre"),
        ("post_layernorm", "norm"),
        ("encoder.layers.*.layer_norm1", "blocks.*.norm1"),
        ("encoder.layers.*.layer_norm2", "blocks.*.norm2"),
        ("encoder.layers.*.self_attn.out_proj", "blocks.*.attn.proj"),
        ("encoder.layers.*.mlp.fc1", "blocks.*.mlp.fc1"),
        ("encoder.layers.*.mlp.fc2", "blocks.*.mlp.fc2"),
    ] {
        rules.extend(both(theirs, ours));
    }
    for kind in ["weight", "bias"] {
        let parts = format!("encoder.layers.*.self_attn.{{q_proj,k_proj,v_proj}}.{kind}");
        rules.push(Rule::concat(&parts, &format!("blocks.*.attn.qkv.{kind}"), 0));
    }
    rules
}

fn mm() -> Vec<Rule> {
    let mut rules = Vec::new();
    for (theirs, ours) in [
        ("patch_embed.projection", "patch_embed.proj"),
        ("ln1", "norm"),
        ("layers.*.ln1", "blocks.*.norm1"),
        ("layers.*.ln2", "blocks.*.norm2"),
        ("layers.*.attn.qkv", "blocks.*.attn.qkv"),
        ("layers.*.attn.proj", "blocks.*.attn.proj"),
        ("layers.*.ffn.layers.0.0", "blocks.*.mlp.fc1"),
        ("layers.*.ffn.layers.1", "blocks.*.mlp.fc2"),
    ] {
        rules.extend(both(theirs, ours));
    }
    rules
}

fn vit_mae() -> Vec<Rule> {
    let mut rules = embeddings("vit", "encoder");
    rules.extend(blocks("vit.encoder.layer", "encoder.blocks"));
    rules.extend(blocks("decoder.decoder_layers", "decoder.blocks"));
    rules.push(Rule::rename("decoder.decoder_pos_embed", "decoder.pos_embed"));
    for part in ["embed", "norm", "pred"] {
        rules.extend(both(&format!("decoder.decoder_{part}"), &format!("decoder.{part}")));
    }
    rules
}

impl Layout {
    /// How its names become ours and back. Names are those of the encoder, without what stands in front of
    /// them in models with a head; [`Layout::VitMae`] has the whole model's.
    ///
    /// # Panics
    /// Never: the rules are constants, which a test reads.
    #[allow(clippy::expect_used)]
    pub fn rules(self) -> Rules {
        let rules = match self {
            Layout::Timm => vec![Rule::drop("**.num_batches_tracked")],
            Layout::HfVit => [embeddings("", ""), blocks("encoder.layer", "blocks")].concat(),
            Layout::Dinov2 => dinov2(["mlp.fc1", "mlp.fc2"]),
            Layout::Dinov2SwiGlu => dinov2(["mlp.weights_in", "mlp.weights_out"]),
            Layout::Dinov2Authors => {
                let mut rules = vec![Rule::rename("register_tokens", "reg_token")];
                rules.extend(both("blocks.*.mlp.w12", "blocks.*.mlp.fc1"));
                rules.extend(both("blocks.*.mlp.w3", "blocks.*.mlp.fc2"));
                rules
            }
            Layout::Dinov3 => dinov3(false),
            Layout::Dinov3Gated => dinov3(true),
            Layout::TimmDinov3 => vec![
                Rule::drop("rope.periods"),
                Rule::drop("blocks.*.attn.k_bias"),
                Rule::rename("blocks.*.gamma_1", "blocks.*.ls1.gamma"),
                Rule::rename("blocks.*.gamma_2", "blocks.*.ls2.gamma"),
            ],
            Layout::ConvNext => convnext(),
            Layout::Clip => clip(),
            Layout::VitMae => vit_mae(),
            Layout::Mm => mm(),
        };
        Rules::new(&rules).expect("constant rules are well formed")
    }

    /// In words.
    pub fn described(self) -> &'static str {
        match self {
            Layout::Timm => "timm's and torchvision's names",
            Layout::HfVit | Layout::VitMae => "transformers' ViT",
            Layout::Dinov2 | Layout::Dinov2SwiGlu => "transformers' DINOv2",
            Layout::Dinov2Authors => "DINOv2 of its authors",
            Layout::Dinov3 | Layout::Dinov3Gated => "transformers' DINOv3",
            Layout::TimmDinov3 => "timm's DINOv3",
            Layout::ConvNext => "transformers' ConvNeXt",
            Layout::Clip => "transformers' CLIP",
            Layout::Mm => "mmpretrain",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_well_formed() {
        for layout in [
            Layout::Timm,
            Layout::HfVit,
            Layout::Dinov2,
            Layout::Dinov2SwiGlu,
            Layout::Dinov2Authors,
            Layout::Dinov3,
            Layout::Dinov3Gated,
            Layout::TimmDinov3,
            Layout::ConvNext,
            Layout::Clip,
            Layout::VitMae,
            Layout::Mm,
        ] {
            let _ = layout.rules();
        }
    }
}

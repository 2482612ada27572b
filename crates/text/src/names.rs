//! The names of the same weights in transformers' BERT, RoBERTa and ELECTRA.
//!
//! Ours: the encoder at `encoder` (`embeddings.word`, `blocks.0.attn.qkv` ..., `project`, `pooler`), the head
//! of a method or task at `head`, the next-sentence classifier at `next`, the classifiers of tasks at
//! `classifier` and `answer`.

use crate::encoder::Family;
use selfsup_core::weights::{Rule, Rules};

/// What stands on the encoder in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Head {
    /// Nothing, or something that is left out.
    #[default]
    None,
    /// The masked language model, with BERT's next-sentence classifier where there is one.
    MaskedLm,
    /// ELECTRA's discriminator.
    Discriminator,
    /// A classifier of sequences.
    Sequence,
    /// A classifier of tokens.
    Tokens,
    /// Start and end of an answer.
    Answer,
}

/// transformers' class for a family with a head; `next` if the next-sentence classifier is there too.
pub fn architecture(family: Family, head: Head, next: bool) -> &'static str {
    match (family, head) {
        (Family::Bert, Head::MaskedLm) if next => "BertForPreTraining",
        (Family::Bert, Head::MaskedLm) => "BertForMaskedLM",
        (Family::Roberta, Head::MaskedLm) => "RobertaForMaskedLM",
        (Family::Electra, Head::MaskedLm) => "ElectraForMaskedLM",
        (_, Head::Discriminator) => "ElectraForPreTraining",
        (Family::Bert, Head::Sequence) => "BertForSequenceClassification",
        (Family::Roberta, Head::Sequence) => "RobertaForSequenceClassification",
        (Family::Electra, Head::Sequence) => "ElectraForSequenceClassification",
        (Family::Bert, Head::Tokens) => "BertForTokenClassification",
        (Family::Roberta, Head::Tokens) => "RobertaForTokenClassification",
        (Family::Electra, Head::Tokens) => "ElectraForTokenClassification",
        (Family::Bert, Head::Answer) => "BertForQuestionAnswering",
        (Family::Roberta, Head::Answer) => "RobertaForQuestionAnswering",
        (Family::Electra, Head::Answer) => "ElectraForQuestionAnswering",
        (Family::Bert, Head::None) => "BertModel",
        (Family::Roberta, Head::None) => "RobertaModel",
        (Family::Electra, Head::None) => "ElectraModel",
    }
}

/// transformers' blocks and embeddings below `from` as ours below `to`.
fn encoder(from: &str, to: &str) -> Vec<Rule> {
    let mut rules = vec![Rule::drop(&format!("{from}.embeddings.position_ids"))];
    for (theirs, ours) in
        [("word_embeddings", "word"), ("position_embeddings", "position"), ("token_type_embeddings", "type")]
    {
        rules.push(Rule::rename(
            &format!("{from}.embeddings.{theirs}.weight"),
            &format!("{to}.embeddings.{ours}.weight"),
        ));
    }
    for kind in ["weight", "bias"] {
        let mut rename = |theirs: &str, ours: &str| {
            rules.push(Rule::rename(&format!("{from}.{theirs}.{kind}"), &format!("{to}.{ours}.{kind}")))
        };
        rename("embeddings.LayerNorm", "embeddings.norm");
        rename("embeddings_project", "project");
        rename("pooler.dense", "pooler");
        rename("encoder.layer.*.attention.output.dense", "blocks.*.attn.proj");
        rename("encoder.layer.*.attention.output.LayerNorm", "blocks.*.norm1");
        rename("encoder.layer.*.intermediate.dense", "blocks.*.mlp.fc1");
        rename("encoder.layer.*.output.dense", "blocks.*.mlp.fc2");
        rename("encoder.layer.*.output.LayerNorm", "blocks.*.norm2");
        let parts = format!("{from}.encoder.layer.*.attention.self.{{query,key,value}}.{kind}");
        rules.push(Rule::concat(&parts, &format!("{to}.blocks.*.attn.qkv.{kind}"), 0));
    }
    rules
}

/// The rules of a file of `family` with `head`.
///
/// # Panics
/// Never: the rules are constants, which a test reads.
#[allow(clippy::expect_used)]
pub fn layout(family: Family, head: Head) -> Rules {
    let mut rules = encoder(family.model_type(), "encoder");
    let mut both = |theirs: &str, ours: &str| {
        for kind in ["weight", "bias"] {
            rules.push(Rule::rename(&format!("{theirs}.{kind}"), &format!("{ours}.{kind}")));
        }
    };
    match (head, family) {
        // A classifier has the same names here and there.
        (Head::None | Head::Sequence | Head::Tokens, _) => {}
        (Head::MaskedLm, Family::Bert) => {
            both("cls.predictions.transform.dense", "head.dense");
            both("cls.predictions.transform.LayerNorm", "head.norm");
            both("cls.seq_relationship", "next");
            rules.push(Rule::rename("cls.predictions.bias", "head.bias"));
            // The decoder is the word table, its bias a second name of `cls.predictions.bias`.
            rules.push(Rule::drop("cls.predictions.decoder.weight"));
            rules.push(Rule::drop("cls.predictions.decoder.bias"));
        }
        (Head::MaskedLm, Family::Roberta) => {
            both("lm_head.dense", "head.dense");
            both("lm_head.layer_norm", "head.norm");
            rules.push(Rule::rename("lm_head.bias", "head.bias"));
            rules.push(Rule::drop("lm_head.decoder.weight"));
            rules.push(Rule::drop("lm_head.decoder.bias"));
        }
        (Head::MaskedLm, Family::Electra) => {
            both("generator_predictions.dense", "head.dense");
            both("generator_predictions.LayerNorm", "head.norm");
            rules.push(Rule::rename("generator_lm_head.bias", "head.bias"));
            rules.push(Rule::drop("generator_lm_head.weight"));
        }
        (Head::Discriminator, _) => {
            both("discriminator_predictions.dense", "head.dense");
            both("discriminator_predictions.dense_prediction", "head.out");
        }
        (Head::Answer, _) => both("qa_outputs", "answer"),
    }
    Rules::new(&rules).expect("well-formed rules")
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Tensor};
    use std::collections::BTreeMap;

    #[test]
    fn all_layouts_are_well_formed() {
        for family in [Family::Bert, Family::Roberta, Family::Electra] {
            for head in
                [Head::None, Head::MaskedLm, Head::Discriminator, Head::Sequence, Head::Tokens, Head::Answer]
            {
                let _ = layout(family, head);
                assert!(!architecture(family, head, false).is_empty());
            }
        }
    }

    #[test]
    fn names_go_both_ways() -> selfsup_core::Result<()> {
        let one = |k: &str| {
            Ok::<_, candle_core::Error>((k.to_string(), Tensor::ones((2, 2), DType::F32, &Device::Cpu)?))
        };
        let names = [
            "roberta.embeddings.word_embeddings.weight",
            "roberta.encoder.layer.3.attention.self.query.weight",
            "roberta.encoder.layer.3.attention.self.key.weight",
            "roberta.encoder.layer.3.attention.self.value.weight",
            "roberta.encoder.layer.3.output.LayerNorm.bias",
            "lm_head.layer_norm.weight",
            "lm_head.bias",
        ];
        let theirs: BTreeMap<String, Tensor> = names.iter().map(|k| one(k)).collect::<Result<_, _>>()?;
        let rules = layout(Family::Roberta, Head::MaskedLm);
        let ours = rules.to_ours(theirs.clone())?;
        assert_eq!(
            ours.keys().collect::<Vec<_>>(),
            [
                "encoder.blocks.3.attn.qkv.weight",
                "encoder.blocks.3.norm2.bias",
                "encoder.embeddings.word.weight",
                "head.bias",
                "head.norm.weight"
            ]
        );
        assert_eq!(rules.to_theirs(ours)?.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
        Ok(())
    }
}

//! `[method]`: how an example gets its labels, and what is trained on them.

use super::Architecture;
use crate::batch::{Example, Sequences, Vocabulary};
use crate::mask::Masking;
use crate::method::{
    CausalLm, CausalLmConfig, Electra, ElectraConfig, MaskedLm, MaskedLmConfig, NextToken, SimCse,
    SimCseConfig, SpanCorruption, SpanCorruptionConfig, Spans,
};
use selfsup_core::data::Transform;
use selfsup_core::objective::boxed;
use selfsup_core::{Error, Result, Scope};

selfsup_core::method_config! {
    /// `[method]`: `name` and the method's own keys.
    pub enum MethodConfig {
        /// Masked language modelling: BERT, RoBERTa.
        MaskedLm(MaskedLmConfig) = "masked-lm",
        /// ELECTRA.
        Electra(ElectraConfig) = "electra",
        /// SimCSE.
        Simcse(SimCseConfig) = "simcse",
        /// Causal language modelling: GPT.
        CausalLm(CausalLmConfig) = "causal-lm",
        /// Span corruption: T5.
        SpanCorruption(SpanCorruptionConfig) = "span-corruption",
    }
}

impl MethodConfig {
    /// The networks that it trains: values of `encoder.name`, the usual one first.
    pub fn network(&self) -> &'static str {
        match self {
            MethodConfig::MaskedLm(_) | MethodConfig::Electra(_) | MethodConfig::Simcse(_) => {
                "bert, roberta or electra"
            }
            MethodConfig::CausalLm(_) => "gpt2",
            MethodConfig::SpanCorruption(_) => "t5",
        }
    }

    /// Whether its network reads in both directions, and wants a token in front of a text and one behind it.
    pub fn both_ways(&self) -> bool {
        matches!(self, MethodConfig::MaskedLm(_) | MethodConfig::Electra(_) | MethodConfig::Simcse(_))
    }

    /// How many tokens of text make an input of `length` tokens: one more where the next token is predicted,
    /// and more where spans are taken out.
    pub fn text_length(&self, length: usize) -> usize {
        match self {
            MethodConfig::CausalLm(_) => length + 1,
            MethodConfig::SpanCorruption(c) => c.text_length(length),
            MethodConfig::MaskedLm(_) | MethodConfig::Electra(_) | MethodConfig::Simcse(_) => length,
        }
    }

    /// What writes an example's labels when it is read: masks, spans, the next token.
    ///
    /// # Errors
    /// If the method needs a token that the vocabulary has not.
    pub fn prepare(&self, vocabulary: &Vocabulary) -> Result<Prepare> {
        Ok(match self {
            MethodConfig::MaskedLm(c) => Box::new(Masking::new(c.masking.clone(), vocabulary)?),
            MethodConfig::Electra(c) => Box::new(Masking::new(c.masking.clone(), vocabulary)?),
            MethodConfig::Simcse(_) => Box::new(|e: Example, _: &mut selfsup_core::Rng| Ok(e)),
            MethodConfig::CausalLm(_) => Box::new(NextToken),
            MethodConfig::SpanCorruption(c) => Box::new(Spans::new(c.clone(), vocabulary)?),
        })
    }

    /// Builds the method around the network in `scope`.
    ///
    /// # Errors
    /// If the configuration is not possible, or the method needs another kind of network.
    pub fn build(&self, scope: &Scope, architecture: &Architecture) -> Result<Method> {
        Ok(match (self, architecture) {
            (MethodConfig::MaskedLm(c), Architecture::Bert(e)) => boxed(MaskedLm::new(scope, e.clone(), c)?),
            (MethodConfig::Electra(c), Architecture::Bert(e)) => {
                boxed(Electra::new(scope, e.clone(), c.clone())?)
            }
            (MethodConfig::Simcse(c), Architecture::Bert(e)) => {
                boxed(SimCse::new(scope, e.clone(), c.clone())?)
            }
            (MethodConfig::CausalLm(_), Architecture::Gpt2(e)) => boxed(CausalLm::new(scope, e.clone())?),
            (MethodConfig::SpanCorruption(_), Architecture::T5(e)) => {
                boxed(SpanCorruption::new(scope, e.clone())?)
            }
            (method, _) => {
                return Err(Error::config(format!(
                    "method {} needs another network: set encoder.name to {}",
                    method.name(),
                    method.network()
                )));
            }
        })
    }
}

/// What turns an example into one with labels.
pub type Prepare = Box<dyn Transform<Example, Out = Example>>;

/// Any method over token sequences.
pub type Method = selfsup_core::objective::Method<Sequences>;

//! Training data of text methods: a tokenised [`Example`] for each sample, [`Sequences`] for a batch.
//!
//! A data set yields examples, a transform of the method (masking, span corruption) writes their labels, and
//! [`Pad`] puts them together: `labels` say what is to be predicted where, [`IGNORED`] means nothing. All
//! random choices are made before a batch exists, from the generator of the sample, so a batch only has to be
//! read.

use candle_core::{DType, Device, Tensor};
use selfsup_core::data::Collate;
pub use selfsup_core::loss::IGNORED;
use selfsup_core::objective::Batch;
use selfsup_core::{Error, Key, Result};

/// The facts of a tokenizer that a model and a mask need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vocabulary {
    /// Ids are below this: the tokenizer's vocabulary with its added tokens.
    pub size: usize,
    /// The padding token.
    pub pad: u32,
    /// The token that stands for a hidden one, if the tokenizer has one.
    pub mask: Option<u32>,
    /// Tokens that are no text (padding, class, separator, mask ...): never hidden and never drawn. In
    /// ascending order.
    pub special: Vec<u32>,
    /// The token that ends a text, if the tokenizer has one.
    pub end: Option<u32>,
    /// Tokens that stand for spans which were taken out (T5's `<extra_id_0>` ...), in the order of their use.
    pub sentinels: Vec<u32>,
}

/// One sequence of tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Example {
    /// Token ids, special tokens included; at least one.
    pub ids: Vec<u32>,
    /// Number of the text that a token belongs to (0, and 1 for the second of a pair); empty if there is one
    /// text.
    pub types: Vec<u32>,
    /// Number of the word that a token belongs to, `None` for special tokens. Neighbours with the same number
    /// are one word, so texts that are packed into one example number their words on. Empty if words are not
    /// known: then every token is a word.
    pub words: Vec<Option<u32>>,
    /// What is to be predicted, [`IGNORED`] for nothing: one entry a token, or the decoder's tokens; empty if
    /// nothing is.
    pub labels: Vec<i64>,
    /// What is known of the whole sequence: its class or whether the second text follows the first (one
    /// entry), or the first and last token of an answer (two). Empty if nothing is.
    pub targets: Vec<i64>,
}

impl Example {
    /// An example of nothing but tokens.
    pub fn new(ids: Vec<u32>) -> Self {
        Example { ids, ..Example::default() }
    }
}

/// A batch of token sequences.
#[derive(Clone, Debug)]
pub struct Sequences {
    /// Token ids `(N, L)`, u32; padded places hold the padding token.
    pub ids: Tensor,
    /// `(N, L)`, f32: 1 for tokens and 0 for padding. `None` if no place is padded.
    pub valid: Option<Tensor>,
    /// `(N, L)`, or `(N, T)` for an encoder-decoder, i64: what is to be predicted, [`IGNORED`] for nothing.
    pub labels: Tensor,
    /// `(N, L)`, u32: which text of a pair a token belongs to.
    pub types: Option<Tensor>,
    /// `(N)`, i64: one class a sequence; or `(N, 2)`: first and last token of an answer.
    pub targets: Option<Tensor>,
    /// Number of each sample in the data set.
    pub indices: Vec<usize>,
    /// How many labels of each sample count.
    predicted: Vec<usize>,
}

impl Sequences {
    /// A batch of tensors; the labels are read once, to count them.
    ///
    /// # Errors
    /// If a shape does not fit `ids (N, L)`, or there is no sample.
    pub fn new(
        ids: Tensor,
        valid: Option<Tensor>,
        labels: Tensor,
        types: Option<Tensor>,
        targets: Option<Tensor>,
    ) -> Result<Self> {
        let (n, _) = ids.dims2()?;
        if n == 0 {
            return Err(Error::input("batch", "no samples"));
        }
        for (what, t) in [("valid", &valid), ("types", &types)] {
            if let Some(t) = t
                && t.dims() != ids.dims()
            {
                return Err(Error::input(
                    format!("batch.{what}"),
                    format!("shape {:?}, expected {:?}", t.dims(), ids.dims()),
                ));
            }
        }
        let (rows, _) = labels.dims2()?;
        let others = targets.as_ref().map_or(n, |t| t.dims().first().copied().unwrap_or(0));
        if rows != n || others != n {
            return Err(Error::input(
                "batch",
                format!("labels of {rows} and targets of {others} samples, expected {n}"),
            ));
        }
        let counts = labels.ne(IGNORED)?.to_dtype(DType::U32)?.sum(1)?.to_vec1::<u32>()?;
        Ok(Sequences {
            ids,
            valid,
            labels,
            types,
            targets,
            indices: (0..n).collect(),
            predicted: counts.into_iter().map(|c| c as usize).collect(),
        })
    }

    /// The labels, where there is one for each token: `(N, L)`.
    ///
    /// # Errors
    /// If they have another shape than the tokens.
    pub fn token_labels(&self) -> Result<&Tensor> {
        if self.labels.dims() != self.ids.dims() {
            return Err(Error::input(
                "batch.labels",
                format!("shape {:?}, expected {:?}", self.labels.dims(), self.ids.dims()),
            ));
        }
        Ok(&self.labels)
    }

    /// The encoder's input: ids `(N, L)`, or `(N, 2, L)` with the types behind them.
    ///
    /// # Errors
    /// If the two cannot be stacked.
    pub fn input(&self) -> Result<Tensor> {
        match &self.types {
            None => Ok(self.ids.clone()),
            Some(types) => Ok(Tensor::stack(&[&self.ids, types], 1)?),
        }
    }

    /// Number of labels that count in each sample.
    pub fn predicted(&self) -> &[usize] {
        &self.predicted
    }
}

impl Batch for Sequences {
    fn samples(&self) -> usize {
        self.indices.len()
    }

    /// The number of predicted tokens; that of samples where no token is predicted (a class or an answer is).
    fn weight(&self) -> f64 {
        match self.predicted.iter().sum::<usize>() {
            0 if self.targets.is_some() => self.samples() as f64,
            n => n as f64,
        }
    }

    fn narrow(&self, start: usize, len: usize) -> Result<Self> {
        let cut = |t: &Option<Tensor>| t.as_ref().map(|t| t.narrow(0, start, len)).transpose();
        Ok(Sequences {
            ids: self.ids.narrow(0, start, len)?,
            valid: cut(&self.valid)?,
            labels: self.labels.narrow(0, start, len)?,
            types: cut(&self.types)?,
            targets: cut(&self.targets)?,
            indices: self.indices.get(start..start + len).unwrap_or_default().to_vec(),
            predicted: self.predicted.get(start..start + len).unwrap_or_default().to_vec(),
        })
    }

    fn to_device(&self, device: &Device) -> Result<Self> {
        let to = |t: &Option<Tensor>| t.as_ref().map(|t| t.to_device(device)).transpose();
        Ok(Sequences {
            ids: self.ids.to_device(device)?,
            valid: to(&self.valid)?,
            labels: self.labels.to_device(device)?,
            types: to(&self.types)?,
            targets: to(&self.targets)?,
            indices: self.indices.clone(),
            predicted: self.predicted.clone(),
        })
    }
}

/// Puts examples together, padded to the longest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pad {
    /// The padding token.
    pub pad: u32,
    /// Pad to this length even if no example is that long; longer examples are refused. `None`: to the
    /// longest of the batch.
    pub length: Option<usize>,
}

/// Rows of one length `width`, each filled up with `fill`.
fn rows<T: Copy + candle_core::WithDType>(all: &[&[T]], width: usize, fill: T) -> Result<Tensor> {
    let mut flat = Vec::with_capacity(all.len() * width);
    for row in all {
        flat.extend_from_slice(row);
        flat.resize(flat.len() + width - row.len(), fill);
    }
    Ok(Tensor::from_vec(flat, (all.len(), width), &Device::Cpu)?)
}

impl Collate<Example> for Pad {
    type Batch = Sequences;

    fn collate(&self, items: Vec<Example>, indices: &[usize], _key: Key) -> Result<Sequences> {
        let longest = items.iter().map(|e| e.ids.len()).max().unwrap_or(0);
        let width = self.length.unwrap_or(longest);
        let name = |i: usize| format!("sample {}", indices.get(i).copied().unwrap_or(i));
        for (i, e) in items.iter().enumerate() {
            if e.ids.is_empty() || e.ids.len() > width {
                return Err(Error::input(name(i), format!("{} tokens, expected 1 to {width}", e.ids.len())));
            }
            if !(e.types.is_empty() || e.types.len() == e.ids.len()) {
                return Err(Error::input(
                    name(i),
                    format!("{} types for {} tokens", e.types.len(), e.ids.len()),
                ));
            }
            if e.targets.len() != items[0].targets.len() {
                return Err(Error::input(
                    name(i),
                    format!("{} targets, expected {} as before", e.targets.len(), items[0].targets.len()),
                ));
            }
        }
        let collect = |f: fn(&Example) -> &[u32]| items.iter().map(f).collect::<Vec<_>>();
        let ids = rows(&collect(|e| &e.ids), width, self.pad)?;
        let valid = if items.iter().all(|e| e.ids.len() == width) {
            None
        } else {
            let ones: Vec<Vec<f32>> = items.iter().map(|e| vec![1.0; e.ids.len()]).collect();
            Some(rows(&ones.iter().map(Vec::as_slice).collect::<Vec<_>>(), width, 0.0)?)
        };
        // A batch with types for some is one with types for all: 0 is the first text.
        let types = if items.iter().all(|e| e.types.is_empty()) {
            None
        } else {
            Some(rows(&collect(|e| &e.types), width, 0)?)
        };
        let labels: Vec<&[i64]> = items.iter().map(|e| e.labels.as_slice()).collect();
        // Labels of an encoder-decoder may be longer or shorter than its input; those of all others are as
        // long.
        let as_long = items.iter().all(|e| e.labels.is_empty() || e.labels.len() == e.ids.len());
        let label_width = if as_long { width } else { labels.iter().map(|l| l.len()).max().unwrap_or(0) };
        let labels = rows(&labels, label_width, IGNORED)?;
        let targets = match items.first().map_or(0, |e| e.targets.len()) {
            0 => None,
            1 => Some(Tensor::from_vec(
                items.iter().map(|e| e.targets[0]).collect::<Vec<_>>(),
                items.len(),
                &Device::Cpu,
            )?),
            k => Some(rows(&items.iter().map(|e| e.targets.as_slice()).collect::<Vec<_>>(), k, IGNORED)?),
        };
        let batch = Sequences::new(ids, valid, labels, types, targets)?;
        Ok(Sequences { indices: indices.to_vec(), ..batch })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pad(items: Vec<Example>) -> Result<Sequences> {
        let indices: Vec<usize> = (10..10 + items.len()).collect();
        Pad { pad: 9, length: None }.collate(items, &indices, Key::new(0))
    }

    #[test]
    fn pads_and_counts() -> Result<()> {
        let a = Example { labels: vec![IGNORED, 7, IGNORED], ..Example::new(vec![1, 2, 3]) };
        let b = Example { types: vec![0, 1], ..Example::new(vec![4, 5]) };
        let batch = pad(vec![a.clone(), b])?;
        assert_eq!(batch.ids.to_vec2::<u32>()?, [[1, 2, 3], [4, 5, 9]]);
        assert_eq!(
            batch.valid.as_ref().map(|v| v.to_vec2::<f32>()).transpose()?,
            Some(vec![vec![1.0; 3], vec![1.0, 1.0, 0.0]])
        );
        assert_eq!(
            batch.types.as_ref().map(|v| v.to_vec2::<u32>()).transpose()?,
            Some(vec![vec![0; 3], vec![0, 1, 0]])
        );
        assert_eq!(batch.labels.to_vec2::<i64>()?, [[IGNORED, 7, IGNORED], [IGNORED; 3]]);
        assert_eq!((batch.weight(), batch.samples(), batch.input()?.dims()), (1.0, 2, &[2, 2, 3][..]));
        let second = batch.narrow(1, 1)?;
        assert_eq!(
            (second.weight(), second.indices.as_slice(), second.ids.to_vec2::<u32>()?),
            (0.0, &[11][..], vec![vec![4, 5, 9]])
        );
        assert!(pad(vec![a])?.valid.is_none());
        Ok(())
    }

    #[test]
    fn labels_of_a_decoder_have_their_own_length() -> Result<()> {
        let a = Example { labels: vec![1, 2, 3, 4], ..Example::new(vec![1]) };
        let b = Example { labels: vec![5], ..Example::new(vec![1, 2]) };
        let batch = pad(vec![a, b])?;
        assert_eq!((batch.ids.dims(), batch.labels.dims(), batch.weight()), (&[2, 2][..], &[2, 4][..], 5.0));
        Ok(())
    }

    #[test]
    fn a_class_or_an_answer_weighs_one() -> Result<()> {
        let one = |targets: Vec<i64>| Example { targets, ..Example::new(vec![1, 2]) };
        let batch = pad(vec![one(vec![3]), one(vec![0])])?;
        assert_eq!(
            (batch.weight(), batch.targets.as_ref().map(|t| t.to_vec1::<i64>()).transpose()?),
            (2.0, Some(vec![3, 0]))
        );
        let batch = pad(vec![one(vec![3, 4]), one(vec![0, 1])])?;
        assert_eq!(
            batch.targets.as_ref().map(|t| t.to_vec2::<i64>()).transpose()?,
            Some(vec![vec![3, 4], vec![0, 1]])
        );
        Ok(())
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let says = |items: Vec<Example>, part: &str| {
            let e = pad(items).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(e.contains(part), "{e}");
        };
        says(vec![Example::new(vec![1]), Example::new(vec![])], "sample 11: 0 tokens");
        says(vec![Example { types: vec![0; 3], ..Example::new(vec![1]) }], "3 types for 1 tokens");
        says(vec![Example::new(vec![1]), Example { targets: vec![1], ..Example::new(vec![1]) }], "1 targets");
        assert!(pad(vec![]).is_err());
        let long = Pad { pad: 0, length: Some(1) }.collate(vec![Example::new(vec![1, 2])], &[5], Key::new(0));
        assert!(
            long.err()
                .map(|e| e.to_string())
                .unwrap_or_default()
                .contains("sample 5: 2 tokens, expected 1 to 1")
        );
    }
}

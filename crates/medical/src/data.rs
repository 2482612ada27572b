//! From patches to batches.

use crate::Volume;
use crate::method::Labelled;
use candle_core::{Device, Tensor};
use selfsup_core::data::Collate;
use selfsup_core::objective::Inputs;
pub use selfsup_core::objective::Views;
use selfsup_core::{Error, Key, Result};

/// Stacks volumes of one shape into `(N, 1, D, H, W)`.
fn stack<'a>(volumes: impl ExactSizeIterator<Item = &'a Volume>) -> Result<Tensor> {
    let n = volumes.len();
    let (mut values, mut shape) = (Vec::new(), None);
    for v in volumes {
        let first = *shape.get_or_insert(v.shape());
        if v.shape() != first {
            return Err(Error::input(
                v.id(),
                format!("a patch of {:?} voxels, expected {first:?}", v.shape()),
            ));
        }
        values.extend_from_slice(v.values());
    }
    let [d, h, w] = shape.ok_or_else(|| Error::input("batch", "no samples"))?;
    Ok(Tensor::from_vec(values, (n, 1, d, h, w), &Device::Cpu)?)
}

/// Stacks the views of samples into [`Views`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Collated {
    /// The last volume of each sample is the patch that the others were made from: the target of restoration.
    pub original: bool,
}

impl Collate<Vec<Volume>> for Collated {
    type Batch = Views;

    fn collate(&self, items: Vec<Vec<Volume>>, indices: &[usize], _key: Key) -> Result<Views> {
        let views = items.first().map_or(0, Vec::len);
        if views == 0 || items.iter().any(|i| i.len() != views) {
            return Err(Error::input("batch", "samples without views, or with different numbers of them"));
        }
        let mut views: Vec<Tensor> = (0..views)
            .map(|v| stack(items.iter().map(|i| &i[v]).collect::<Vec<_>>().into_iter()))
            .collect::<Result<_>>()?;
        let targets = if self.original { views.pop() } else { None };
        Ok(Views { targets, ..Views::of(views, indices.to_vec()) })
    }
}

/// Stacks labelled patches into [`Labelled`]. With `plane` only that plane of each patch (the middle one,
/// say) has labels that count.
#[derive(Clone, Copy, Debug, Default)]
pub struct CollatedLabels {
    /// The labelled plane, counted along z; all of them if there is none.
    pub plane: Option<usize>,
}

impl Collate<Volume> for CollatedLabels {
    type Batch = Labelled;

    fn collate(&self, items: Vec<Volume>, indices: &[usize], _key: Key) -> Result<Labelled> {
        let x = stack(items.iter())?;
        let (n, _, d, h, w) = x.dims5()?;
        let (from, planes) = match self.plane {
            Some(plane) if plane < d => (plane, 1),
            Some(plane) => return Err(Error::config(format!("labelled plane {plane}: a patch has {d}"))),
            None => (0, d),
        };
        let mut labels = Vec::with_capacity(n * planes * h * w);
        for v in &items {
            let all = v.labels().ok_or_else(|| Error::input(v.id(), "has no labels"))?;
            labels.extend(all[from * h * w..(from + planes) * h * w].iter().map(|&l| u32::from(l)));
        }
        Ok(Labelled {
            x,
            labels: Tensor::from_vec(labels, (n, planes, h, w), &Device::Cpu)?,
            from,
            indices: indices.to_vec(),
        })
    }
}

/// Stacks patches whose middle plane alone is labelled, as annotators leave them who draw single slices. A
/// patch has `2 depth - 1` planes; each batch draws which `depth` of them the network sees, so that the
/// labelled one lies anywhere in its input. Were it always in the same place, the weights of an upsampling
/// would be fitted there, and the planes beside it guessed.
#[derive(Clone, Copy, Debug)]
pub struct CollatedSlices {
    /// Planes that the network sees.
    pub depth: usize,
}

impl Collate<Volume> for CollatedSlices {
    type Batch = Labelled;

    fn collate(&self, items: Vec<Volume>, indices: &[usize], key: Key) -> Result<Labelled> {
        let planes = (2 * self.depth).saturating_sub(1);
        if let Some(other) = items.iter().find(|v| v.shape()[0] != planes || planes == 0) {
            let problem = format!(
                "{} planes, expected {planes}, the middle one labelled, of which {} are seen",
                other.shape()[0],
                self.depth
            );
            return Err(Error::input(other.id(), problem));
        }
        let from = key.rng().below(self.depth);
        let seen = |v: Volume| v.part([from as isize, 0, 0], [self.depth, v.shape()[1], v.shape()[2]], 0.0);
        let items = items.into_iter().map(seen).collect::<Result<Vec<_>>>()?;
        CollatedLabels { plane: Some(self.depth - 1 - from) }.collate(items, indices, key)
    }
}

/// Stacks patches with a class each into what core's classification takes.
#[derive(Clone, Copy, Debug, Default)]
pub struct CollatedClasses;

impl Collate<(Volume, u32)> for CollatedClasses {
    type Batch = Inputs;

    fn collate(&self, items: Vec<(Volume, u32)>, indices: &[usize], _key: Key) -> Result<Inputs> {
        let x = stack(items.iter().map(|(v, _)| v))?;
        Ok(Inputs {
            x,
            valid: None,
            labels: items.iter().map(|(_, l)| *l).collect(),
            indices: indices.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::testing::volume;

    #[test]
    fn a_labelled_slice_lies_anywhere() {
        let v = volume([5, 2, 3], 1);
        let mut seen = std::collections::BTreeSet::new();
        for batch in 0..40 {
            let made = CollatedSlices { depth: 3 }
                .collate(vec![v.clone(), v.clone()], &[0, 1], Key::new(0).fold(batch))
                .unwrap();
            assert_eq!(
                (made.x.dims(), made.labels.dims()),
                ([2, 1, 3, 2, 3].as_slice(), [2, 1, 2, 3].as_slice())
            );
            // Always the labels of the middle plane, and the values of that plane where the batch says it
            // lies.
            assert_eq!(
                made.labels.flatten_all().unwrap().to_vec1::<u32>().unwrap()[..6],
                [12, 13, 14, 15, 16, 17]
            );
            let plane =
                made.x.narrow(2, made.from, 1).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(plane[..6], v.values()[12..18]);
            seen.insert(made.from);
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 1, 2]);
        let e = CollatedSlices { depth: 2 }.collate(vec![v], &[0], Key::new(0)).unwrap_err().to_string();
        assert!(e.contains("5 planes, expected 3"), "{e}");
    }

    #[test]
    fn planes_and_views() {
        let (a, b) = (volume([2, 3, 4], 1), volume([2, 3, 4], 2));
        let views = Collated::default()
            .collate(vec![vec![a.clone(), b.clone()], vec![b.clone(), a.clone()]], &[5, 9], Key::new(0))
            .unwrap();
        assert_eq!(
            (views.globals.len(), views.globals[1].dims(), views.indices.as_slice()),
            (2, [2, 1, 2, 3, 4].as_slice(), [5, 9].as_slice())
        );
        assert_eq!(views.globals[1].flatten_all().unwrap().to_vec1::<f32>().unwrap()[..24], *b.values());
        let made = CollatedLabels { plane: Some(1) }.collate(vec![a.clone()], &[0], Key::new(0)).unwrap();
        assert_eq!((made.from, made.labels.dims()), (1, [1, 1, 3, 4].as_slice()));
        assert_eq!(
            made.labels.flatten_all().unwrap().to_vec1::<u32>().unwrap(),
            (12..24).collect::<Vec<u32>>()
        );
        assert!(CollatedLabels { plane: Some(2) }.collate(vec![a.clone()], &[0], Key::new(0)).is_err());
        assert!(
            Collated::default()
                .collate(vec![vec![a.clone()], vec![a.clone(), b]], &[0, 1], Key::new(0))
                .is_err()
        );
        assert!(
            Collated::default()
                .collate(vec![vec![a], vec![volume([1, 3, 4], 1)]], &[0, 1], Key::new(0))
                .unwrap_err()
                .to_string()
                .contains("[2, 3, 4]")
        );
    }
}

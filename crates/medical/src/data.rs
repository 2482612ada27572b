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
            return Err(Error::input(v.id(), format!("a patch of {:?} voxels, expected {first:?}", v.shape())));
        }
        values.extend_from_slice(v.values());
    }
    let [d, h, w] = shape.ok_or_else(|| Error::input("batch", "no samples"))?;
    Ok(Tensor::from_vec(values, (n, 1, d, h, w), &Device::Cpu)?)
}

/// Stacks the views of samples into [`Views`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Collated;

impl Collate<Vec<Volume>> for Collated {
    type Batch = Views;

    fn collate(&self, items: Vec<Vec<Volume>>, indices: &[usize], _key: Key) -> Result<Views> {
        let views = items.first().map_or(0, Vec::len);
        if views == 0 || items.iter().any(|i| i.len() != views) {
            return Err(Error::input("batch", "samples without views, or with different numbers of them"));
        }
        let views: Vec<Tensor> =
            (0..views).map(|v| stack(items.iter().map(|i| &i[v]).collect::<Vec<_>>().into_iter())).collect::<Result<_>>()?;
        Ok(Views { globals: views.len(), views, indices: indices.to_vec() })
    }
}

/// Stacks labelled patches into [`Labelled`]. With `plane` only that plane of each patch (the middle one, say) has labels that count.
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
        Ok(Labelled { x, labels: Tensor::from_vec(labels, (n, planes, h, w), &Device::Cpu)?, from, indices: indices.to_vec() })
    }
}

/// Stacks patches with a class each into what core's classification takes.
#[derive(Clone, Copy, Debug, Default)]
pub struct CollatedClasses;

impl Collate<(Volume, u32)> for CollatedClasses {
    type Batch = Inputs;

    fn collate(&self, items: Vec<(Volume, u32)>, indices: &[usize], _key: Key) -> Result<Inputs> {
        let x = stack(items.iter().map(|(v, _)| v))?;
        Ok(Inputs { x, valid: None, labels: items.iter().map(|(_, l)| *l).collect(), indices: indices.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::testing::volume;

    #[test]
    fn planes_and_views() {
        let (a, b) = (volume([2, 3, 4], 1), volume([2, 3, 4], 2));
        let views = Collated.collate(vec![vec![a.clone(), b.clone()], vec![b.clone(), a.clone()]], &[5, 9], Key::new(0)).unwrap();
        assert_eq!(
            (views.views.len(), views.views[1].dims(), views.indices.as_slice()),
            (2, [2, 1, 2, 3, 4].as_slice(), [5, 9].as_slice())
        );
        assert_eq!(views.views[1].flatten_all().unwrap().to_vec1::<f32>().unwrap()[..24], *b.values());
        let made = CollatedLabels { plane: Some(1) }.collate(vec![a.clone()], &[0], Key::new(0)).unwrap();
        assert_eq!((made.from, made.labels.dims()), (1, [1, 1, 3, 4].as_slice()));
        assert_eq!(made.labels.flatten_all().unwrap().to_vec1::<u32>().unwrap(), (12..24).collect::<Vec<u32>>());
        assert!(CollatedLabels { plane: Some(2) }.collate(vec![a.clone()], &[0], Key::new(0)).is_err());
        assert!(Collated.collate(vec![vec![a.clone()], vec![a.clone(), b]], &[0, 1], Key::new(0)).is_err());
        assert!(
            Collated
                .collate(vec![vec![a], vec![volume([1, 3, 4], 1)]], &[0, 1], Key::new(0))
                .unwrap_err()
                .to_string()
                .contains("[2, 3, 4]")
        );
    }
}

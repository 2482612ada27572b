//! Embeddings: a struct per method whose fields have names, declared with [`embeddings!`].
//!
//! A field is `graph` (the criterion's gradient flows into it), `fixed` (teacher outputs, targets, masks on
//! the device) or `host` (counts and labels that the criterion reads on the host). Dimension 0 runs over
//! rows: the samples of the batch for methods that couple them, otherwise the items that the mean loss
//! averages over (a language model's masked tokens). Micro-batches and processes are joined along it.

use crate::error::{Error, Result};
use candle_core::Tensor;
use std::any::Any;

/// A change of a tensor.
pub type Change<'a> = dyn FnMut(&Tensor) -> Result<Tensor> + 'a;

/// The embeddings of a batch.
pub trait Embedded: Clone + Send + Sync + Sized + 'static {
    /// The same with every `graph` tensor changed by `f`, in the order of the fields.
    ///
    /// # Errors
    /// Those of `f`.
    fn map_graph(&self, f: &mut Change) -> Result<Self>;

    /// The same with every `fixed` tensor changed by `f`, in the order of the fields.
    ///
    /// # Errors
    /// Those of `f`.
    fn map_fixed(&self, f: &mut Change) -> Result<Self>;

    /// The rows of `parts`, one after the other.
    ///
    /// # Errors
    /// If there is no part, or shapes differ beyond dimension 0.
    fn cat(parts: &[Self]) -> Result<Self>;

    /// The same values without a graph.
    ///
    /// # Errors
    /// Never for tensors.
    fn detach(&self) -> Result<Self> {
        let mut detach = |t: &Tensor| Ok(t.detach());
        self.map_graph(&mut detach)?.map_fixed(&mut detach)
    }
}

/// A tensor field: one tensor, one that may be absent, or a list.
pub trait Field: Clone + Send + Sync + Sized {
    /// The same with every tensor changed by `f`.
    ///
    /// # Errors
    /// Those of `f`.
    fn map(&self, f: &mut Change) -> Result<Self>;

    /// The rows of all, one after the other.
    ///
    /// # Errors
    /// If shapes or lengths differ.
    fn cat(parts: &[&Self]) -> Result<Self>;
}

fn unlike<T>() -> Result<T> {
    Err(Error::input(
        "embeddings",
        "parts of a batch have different fields: expected the same in all of them",
    ))
}

impl Field for Tensor {
    fn map(&self, f: &mut Change) -> Result<Self> {
        f(self)
    }

    fn cat(parts: &[&Self]) -> Result<Self> {
        match parts {
            [one] => Ok((*one).clone()),
            _ => Ok(Tensor::cat(parts, 0)?),
        }
    }
}

impl<F: Field> Field for Option<F> {
    fn map(&self, f: &mut Change) -> Result<Self> {
        self.as_ref().map(|v| v.map(f)).transpose()
    }

    fn cat(parts: &[&Self]) -> Result<Self> {
        let some: Vec<&F> = parts.iter().filter_map(|p| p.as_ref()).collect();
        match some.len() {
            0 => Ok(None),
            n if n == parts.len() => F::cat(&some).map(Some),
            _ => unlike(),
        }
    }
}

impl<F: Field> Field for Vec<F> {
    fn map(&self, f: &mut Change) -> Result<Self> {
        self.iter().map(|v| v.map(f)).collect()
    }

    fn cat(parts: &[&Self]) -> Result<Self> {
        let length = parts.first().map_or(0, |p| p.len());
        if parts.iter().any(|p| p.len() != length) {
            return unlike();
        }
        (0..length).map(|i| F::cat(&parts.iter().map(|p| &p[i]).collect::<Vec<_>>())).collect()
    }
}

/// Declares the embeddings of a method. Fields of kind `graph` and `fixed` are a tensor, an `Option` or a
/// `Vec` of them; those of kind `host` are a `Vec`.
///
/// ```
/// selfsup_core::embeddings! {
///     /// A query and its key, `(N, D)` each.
///     pub struct Pair {
///         /// With a graph.
///         graph query: candle_core::Tensor,
///         /// Without.
///         fixed key: candle_core::Tensor,
///         /// How often each sample was seen.
///         host seen: Vec<u32>,
///     }
/// }
/// use candle_core::{Device, Tensor};
/// use selfsup_core::objective::Embedded;
/// let t = Tensor::new(&[[1f32, 2.0]], &Device::Cpu)?;
/// let part = Pair { query: t.clone(), key: t, seen: vec![3] };
/// let whole = Pair::cat(&[part.clone(), part])?;
/// assert_eq!((whole.query.dims(), whole.seen), (&[2, 2][..], vec![3, 3]));
/// # Ok::<(), selfsup_core::Error>(())
/// ```
#[macro_export]
macro_rules! embeddings {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident { $($(#[$doc:meta])* $kind:ident $field:ident: $type:ty,)* }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug)]
        $vis struct $name { $($(#[$doc])* pub $field: $type,)* }

        impl $crate::objective::Embedded for $name {
            fn map_graph(&self, _f: &mut $crate::objective::Change) -> $crate::Result<Self> {
                Ok($name { $($field: $crate::embeddings!(@graph $kind self.$field, _f),)* })
            }
            fn map_fixed(&self, _f: &mut $crate::objective::Change) -> $crate::Result<Self> {
                Ok($name { $($field: $crate::embeddings!(@fixed $kind self.$field, _f),)* })
            }
            fn cat(parts: &[Self]) -> $crate::Result<Self> {
                Ok($name { $($field: $crate::embeddings!(@cat $kind parts, $field),)* })
            }
        }
    };
    (@graph graph $value:expr, $f:expr) => { $crate::objective::Field::map(&$value, $f)? };
    (@graph $other:ident $value:expr, $f:expr) => { $value.clone() };
    (@fixed fixed $value:expr, $f:expr) => { $crate::objective::Field::map(&$value, $f)? };
    (@fixed $other:ident $value:expr, $f:expr) => { $value.clone() };
    (@cat host $parts:expr, $field:ident) => {
        $parts.iter().flat_map(|p| p.$field.iter().cloned()).collect()
    };
    (@cat $other:ident $parts:expr, $field:ident) => {
        $crate::objective::Field::cat(&$parts.iter().map(|p| &p.$field).collect::<Vec<_>>())?
    };
}

embeddings! {
    /// The embeddings of a method without a structure of its own, such as a supervised one: one tensor.
    pub struct Outputs {
        /// `(N, ..)`, with a graph.
        graph outputs: Tensor,
        /// Targets of the rows.
        fixed targets: Tensor,
    }
}

/// The embeddings of a method that is chosen at run time.
pub struct Erased(Box<dyn AnyEmbeddings>);

trait AnyEmbeddings: Send + Sync {
    fn copy(&self) -> Box<dyn AnyEmbeddings>;
    fn erased_graph(&self, f: &mut Change) -> Result<Box<dyn AnyEmbeddings>>;
    fn erased_fixed(&self, f: &mut Change) -> Result<Box<dyn AnyEmbeddings>>;
    /// The rows of `parts`, all of this type.
    fn erased_cat(&self, parts: &[Erased]) -> Result<Box<dyn AnyEmbeddings>>;
    fn any(&self) -> &dyn Any;
}

impl<E: Embedded> AnyEmbeddings for E {
    fn copy(&self) -> Box<dyn AnyEmbeddings> {
        Box::new(self.clone())
    }
    fn erased_graph(&self, f: &mut Change) -> Result<Box<dyn AnyEmbeddings>> {
        Ok(Box::new(Embedded::map_graph(self, f)?))
    }
    fn erased_fixed(&self, f: &mut Change) -> Result<Box<dyn AnyEmbeddings>> {
        Ok(Box::new(Embedded::map_fixed(self, f)?))
    }
    fn erased_cat(&self, parts: &[Erased]) -> Result<Box<dyn AnyEmbeddings>> {
        let all = parts.iter().map(|p| p.get::<E>().cloned()).collect::<Result<Vec<E>>>()?;
        Ok(Box::new(E::cat(&all)?))
    }
    fn any(&self) -> &dyn Any {
        self
    }
}

impl Erased {
    /// Hides the type of a method's embeddings.
    pub fn new(embeddings: impl Embedded) -> Self {
        Erased(Box::new(embeddings))
    }

    /// The embeddings as those of the method that made them.
    ///
    /// # Errors
    /// If another method made them.
    pub fn get<E: Embedded>(&self) -> Result<&E> {
        self.0.any().downcast_ref().ok_or_else(|| Error::input("embeddings", "are those of another method"))
    }
}

impl Clone for Erased {
    fn clone(&self) -> Self {
        Erased(self.0.copy())
    }
}

impl Embedded for Erased {
    fn map_graph(&self, f: &mut Change) -> Result<Self> {
        Ok(Erased(self.0.erased_graph(f)?))
    }

    fn map_fixed(&self, f: &mut Change) -> Result<Self> {
        Ok(Erased(self.0.erased_fixed(f)?))
    }

    fn cat(parts: &[Self]) -> Result<Self> {
        match parts.first() {
            Some(first) => Ok(Erased(first.0.erased_cat(parts)?)),
            None => Err(Error::input("embeddings", "no parts")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    embeddings! {
        struct Mixed {
            graph views: Vec<Tensor>,
            graph next: Option<Tensor>,
            fixed mask: Tensor,
            host labels: Vec<u32>,
        }
    }

    fn part(at: f32, next: bool) -> Mixed {
        let t = |v: f32| Tensor::new(&[[v]], &Device::Cpu).unwrap();
        Mixed {
            views: vec![t(at), t(at + 0.5)],
            next: next.then(|| t(-at)),
            mask: t(0.0),
            labels: vec![at as u32],
        }
    }

    fn first(t: &Tensor) -> Vec<f32> {
        t.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn parts_are_joined_field_by_field() {
        let whole = Mixed::cat(&[part(1.0, true), part(2.0, true)]).unwrap();
        assert_eq!(first(&whole.views[1]), [1.5, 2.5]);
        assert_eq!(whole.next.as_ref().map(first), Some(vec![-1.0, -2.0]));
        assert_eq!(whole.labels, [1, 2]);
        assert!(Mixed::cat(&[part(1.0, true), part(2.0, false)]).is_err());
    }

    #[test]
    fn kinds_are_changed_apart_and_erasing_changes_nothing() {
        let erased = Erased::new(part(3.0, false));
        let doubled = Embedded::map_graph(&erased, &mut |t| Ok((t * 2.0)?)).unwrap();
        let doubled = <Erased as Embedded>::cat(&[doubled.clone(), erased]).unwrap();
        let mixed = doubled.get::<Mixed>().unwrap();
        assert_eq!((first(&mixed.views[0]), first(&mixed.mask)), (vec![6.0, 3.0], vec![0.0, 0.0]));
        assert!(doubled.get::<Outputs>().unwrap_err().to_string().contains("another method"));
    }
}

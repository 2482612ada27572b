//! From volumes to the batches of a method.

use super::MethodConfig;
use crate::augment::{Augment, AugmentConfig};
use crate::blocks::{PatchConfig, Patches, RandomPatch, Scan};
use crate::data::Collated;
use crate::volume::Volume;
use selfsup_core::data::{Loader, LoaderConfig, Transform};
use selfsup_core::{Key, Result, Rng};
use std::sync::Arc;

/// Draws patches of volumes and makes the views of a method of them.
pub type PatchLoader = Loader<Patches, PatchViews, Collated>;

/// A random part of a volume, and its views.
pub struct PatchViews {
    patch: RandomPatch,
    views: Augment,
}

impl Transform<Arc<dyn Scan>> for PatchViews {
    type Out = Vec<Volume>;

    fn apply(&self, scan: Arc<dyn Scan>, rng: &mut Rng) -> Result<Vec<Volume>> {
        self.views.apply(self.patch.apply(scan, rng)?, rng)
    }
}

impl MethodConfig {
    /// A loader of volumes in memory: prepares each once (spacing, foreground, intensities) and draws
    /// `per_volume` patches of it an epoch, with the views that the method wants.
    /// [`BlockCache`](crate::blocks::BlockCache) serves volumes that are larger than memory.
    ///
    /// # Errors
    /// If there are no volumes, one is smaller than a patch with its margin, or a configuration is
    /// impossible.
    pub fn loader(
        &self,
        volumes: Vec<Volume>,
        per_volume: usize,
        augment: &AugmentConfig,
        config: impl Into<LoaderConfig>,
    ) -> Result<PatchLoader> {
        let (prepare, mut rng) = (augment.prepare()?, Key::new(0).rng());
        let prepared =
            volumes.into_iter().map(|v| Ok(Arc::new(prepare.apply(v, &mut rng)?) as Arc<dyn Scan>));
        let patches = Patches::new(prepared.collect::<Result<_>>()?, per_volume)?;
        let views = self.views(augment)?;
        let patch = RandomPatch::new(PatchConfig { shape: views.region(), ..PatchConfig::default() })?;
        let views = PatchViews { patch, views };
        let collated = Collated { original: self.restores() };
        Loader::new(Arc::new(patches), Arc::new(views), Arc::new(collated), config.into())
    }
}

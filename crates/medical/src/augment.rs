//! `[augment]`: from a volume to what a method sees. One set of keys serves all methods.
//!
//! A volume is prepared once ([`AugmentConfig::prepare`]: voxel size, foreground, intensities). Of a prepared
//! volume, or of a part of it of [`Augment::region`] voxels, [`Augment`] makes the views: for contrastive
//! methods several patches that overlap, each turned, bent and recoloured in its own way; for masked
//! autoencoding the patch; for restoration the corrupted patch and the patch.

use crate::Volume;
use crate::per_axis::{three, three_or_none};
use crate::transform::{
    BiasField, CropCenter, CropForeground, CropRandom, Elastic, Flip, Gamma, Noise, Pipeline, Resample,
    Rotate, Scale, Step, check_range, check_share,
};
use selfsup_core::data::Transform;
use selfsup_core::{Error, Result, Rng};
use serde::{Deserialize, Serialize};

/// What is done to a volume. Probabilities are 0 to 1; a step of probability or strength 0 is left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AugmentConfig {
    /// Depth, height and width of a patch in voxels; a depth of 1 makes patches of slices, which are turned
    /// in their plane only. One number stands for all three.
    #[serde(deserialize_with = "three")]
    pub size: [usize; 3],
    /// Voxel size in mm (z, y, x) to which volumes are resampled; as they are if absent. One number stands for
    /// all three.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "three_or_none")]
    pub spacing: Option<[f64; 3]>,
    /// Crop to the voxels above this share of the way from the lowest to the highest value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub foreground: Option<f32>,
    /// How intensities are scaled.
    pub scale: Scale,
    /// Probability of mirroring along z, y and x.
    pub flip: [f32; 3],
    /// Contrastive views: side of the region that both views come from, as a multiple of the patch's.
    pub region: f32,
    /// Largest angle about z, y and x in degrees.
    pub rotate: [f32; 3],
    /// Smallest and largest scale.
    pub zoom: [f32; 2],
    /// Elastic deformation: largest displacement of a node as a share of the distance between nodes, below
    /// 0.5.
    pub elastic: f32,
    /// Nodes of the deformation along each axis.
    pub elastic_nodes: usize,
    /// Smallest and largest exponent of the gamma curve.
    pub gamma: [f32; 2],
    /// Its probability.
    pub gamma_p: f32,
    /// Smallest and largest standard deviation of noise.
    pub noise: [f32; 2],
    /// Its probability.
    pub noise_p: f32,
    /// Smallest and largest strength of the bias field.
    pub bias: [f32; 2],
    /// Its probability.
    pub bias_p: f32,
}

impl Default for AugmentConfig {
    /// nnU-Net's ranges (arXiv 1809.10486) where it has them, in milder form; mirroring along x only, which a
    /// head survives.
    fn default() -> Self {
        AugmentConfig {
            size: [48; 3],
            spacing: None,
            foreground: None,
            scale: Scale::default(),
            flip: [0.0, 0.0, 0.5],
            region: 1.5,
            rotate: [15.0; 3],
            zoom: [0.85, 1.2],
            elastic: 0.2,
            elastic_nodes: 5,
            gamma: [0.7, 1.5],
            gamma_p: 0.5,
            noise: [0.0, 0.1],
            noise_p: 0.5,
            bias: [0.0, 0.2],
            bias_p: 0.5,
        }
    }
}

/// What a method asks of [`AugmentConfig::views`].
#[non_exhaustive]
pub enum Wanted {
    /// So many views, augmented each for itself.
    Joint(usize),
    /// The patch alone.
    Plain,
    /// The patch as this step corrupts it, and the patch.
    Corrupted(Step),
}

/// Makes the views of a prepared volume, or of a part of it.
pub struct Augment {
    region: [usize; 3],
    patch: CropRandom,
    /// On a view: crops the region, augments, cuts the margin.
    view: Pipeline,
    views: usize,
    corrupt: Option<Step>,
}

impl AugmentConfig {
    /// Refuses what cannot be carried out.
    ///
    /// # Errors
    /// Naming the key.
    pub fn check(&self) -> Result<()> {
        if self.size.iter().any(|s| !(1..=1024).contains(s)) {
            return Err(Error::config(format!("augment.size = {:?}: expected 1 to 1024 voxels", self.size)));
        }
        if let Some(spacing) = self.spacing
            && spacing.iter().any(|s| !(s.is_finite() && *s > 0.0))
        {
            return Err(Error::config(format!(
                "augment.spacing = {spacing:?}: expected millimetres above 0"
            )));
        }
        if let Some(share) = self.foreground
            && !(0.0..1.0).contains(&share)
        {
            return Err(Error::config(format!(
                "augment.foreground = {share}: expected a share from 0 to below 1"
            )));
        }
        if !(1.0..=4.0).contains(&self.region) {
            return Err(Error::config(format!(
                "augment.region = {}: expected a multiple of the patch from 1 to 4",
                self.region
            )));
        }
        self.scale.check()?;
        self.flip.iter().try_for_each(|&p| check_share("flip", p))?;
        Rotate { degrees: self.rotate, scale: self.zoom }.check()?;
        Elastic { nodes: self.elastic_nodes, strength: self.elastic }.check()?;
        check_range("gamma", self.gamma, 0.01, 100.0)?;
        check_range("noise", self.noise, 0.0, 1e6)?;
        check_range("bias", self.bias, 0.0, 5.0)?;
        [("gamma_p", self.gamma_p), ("noise_p", self.noise_p), ("bias_p", self.bias_p)]
            .iter()
            .try_for_each(|(k, p)| check_share(k, *p))
    }

    /// What is done once to a whole volume: resampling, the foreground's box, intensities.
    ///
    /// # Errors
    /// Naming the key that cannot be carried out.
    pub fn prepare(&self) -> Result<Pipeline> {
        self.check()?;
        let mut steps: Vec<Step> = Vec::new();
        // Scaled first: it refuses what is not a number, and percentiles are those of the scan.
        steps.push(Box::new(self.scale));
        if let Some(spacing) = self.spacing {
            steps.push(Box::new(Resample { spacing, fill: 0.0 }));
        }
        if let Some(threshold) = self.foreground {
            steps.push(Box::new(CropForeground { threshold, margin: 2 }));
        }
        Ok(Pipeline::new(steps))
    }

    /// Largest angles. A single plane stays in its plane: turned out of it, it would be a line.
    fn degrees(&self) -> [f32; 3] {
        let thick = self.size.map(|s| s > 1);
        let [z, y, x] = self.rotate;
        [(z, thick[1] && thick[2]), (y, thick[0] && thick[2]), (x, thick[0] && thick[1])]
            .map(|(angle, free)| if free { angle } else { 0.0 })
    }

    /// Turning, bending, mirroring, on a patch with a margin that is cut afterwards; labels move along.
    fn spatial(&self, steps: &mut Vec<Step>) {
        let degrees = self.degrees();
        if degrees != [0.0; 3] || self.zoom != [1.0; 2] {
            steps.push(Box::new(Rotate { degrees, scale: self.zoom }));
        }
        if self.elastic > 0.0 {
            steps.push(Box::new(Elastic { nodes: self.elastic_nodes, strength: self.elastic }));
        }
        steps.push(Box::new(CropCenter { size: self.size }));
        if self.flip != [0.0; 3] {
            steps.push(Box::new(Flip(self.flip)));
        }
    }

    fn intensity(&self, steps: &mut Vec<Step>) {
        if self.gamma_p > 0.0 {
            steps.push(Box::new(Gamma { range: self.gamma, invert_p: 0.5, p: self.gamma_p }));
        }
        if self.bias_p > 0.0 {
            steps.push(Box::new(BiasField { strength: self.bias, p: self.bias_p }));
        }
        if self.noise_p > 0.0 {
            steps.push(Box::new(Noise { sd: self.noise, rician: false, p: self.noise_p }));
        }
    }

    /// Sides of the patch with the margin that turning needs.
    fn with_margin(&self) -> [usize; 3] {
        let turned = self.degrees() != [0.0; 3] || self.zoom != [1.0; 2] || self.elastic > 0.0;
        // A quarter covers turns of 15 degrees and scales down to 0.85: 1 / 0.85 * (cos 15 + sin 15) = 1.44
        // at the corners, 1.2 on average.
        self.size.map(|s| if turned && s > 1 { s + s.div_ceil(4) } else { s })
    }

    /// The views that a method wants, of a volume whose intensities are scaled
    /// ([`AugmentConfig::prepare`], or [`Scaled`](crate::blocks::Scaled) where it lies in blocks).
    ///
    /// # Errors
    /// Naming the key that cannot be carried out.
    pub fn views(&self, wanted: Wanted) -> Result<Augment> {
        self.check()?;
        let mut steps: Vec<Step> = Vec::new();
        Ok(match wanted {
            Wanted::Joint(views) => {
                let margin = self.with_margin();
                steps.push(Box::new(CropRandom { size: margin }));
                self.spatial(&mut steps);
                self.intensity(&mut steps);
                // The views of a slice are of that slice.
                let wide = |s: usize| if s == 1 { 1 } else { (s as f32 * self.region).round() as usize };
                let region = [0, 1, 2].map(|a| margin[a].max(wide(self.size[a])));
                Augment {
                    region,
                    patch: CropRandom { size: region },
                    view: Pipeline::new(steps),
                    views,
                    corrupt: None,
                }
            }
            other => {
                if self.flip != [0.0; 3] {
                    steps.push(Box::new(Flip(self.flip)));
                }
                let corrupt = if let Wanted::Corrupted(step) = other { Some(step) } else { None };
                let patch = CropRandom { size: self.size };
                Augment { region: self.size, patch, view: Pipeline::new(steps), views: 1, corrupt }
            }
        })
    }

    /// Labelled patches for training a segmentation, of a whole volume: everything that is done to contrastive
    /// views, labels along.
    ///
    /// # Errors
    /// Naming the key that cannot be carried out.
    pub fn labelled(&self) -> Result<Pipeline> {
        let (size, steps) = self.labelled_part()?;
        Ok(Pipeline::new(vec![Box::new(CropRandom { size }), Box::new(steps)]))
    }

    /// The sides (z, y, x) of the part of a volume that a labelled patch comes from, and what is done to it.
    ///
    /// # Errors
    /// Naming the key that cannot be carried out.
    pub fn labelled_part(&self) -> Result<([usize; 3], Pipeline)> {
        self.check()?;
        let mut steps: Vec<Step> = Vec::new();
        self.spatial(&mut steps);
        self.intensity(&mut steps);
        Ok((self.with_margin(), Pipeline::new(steps)))
    }
}

impl Augment {
    /// Sides of the part of a volume that the views of one sample come from: what has to be read.
    pub fn region(&self) -> [usize; 3] {
        self.region
    }
}

impl Transform<Volume> for Augment {
    type Out = Vec<Volume>;

    fn apply(&self, volume: Volume, rng: &mut Rng) -> Result<Vec<Volume>> {
        let region = self.patch.apply(volume, rng)?;
        let Some(corrupt) = &self.corrupt else {
            return (0..self.views).map(|_| self.view.apply(region.clone(), rng)).collect();
        };
        let original = self.view.apply(region, rng)?;
        Ok(vec![corrupt.apply(original.clone(), rng)?, original])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::testing::{rng, volume};
    use crate::transform::{InPaint, LowResolution};

    fn config() -> AugmentConfig {
        AugmentConfig { size: [8, 6, 4], ..AugmentConfig::default() }
    }

    #[test]
    fn views_have_the_size_and_depend_on_the_generator_alone() {
        let v = config().prepare().unwrap().apply(volume([20, 18, 16], 1), &mut rng(0)).unwrap();
        assert!(v.values().iter().all(|x| (0.0..=1.0).contains(x)));
        let joint = config().views(Wanted::Joint(2)).unwrap();
        let made = joint.apply(v.clone(), &mut rng(1)).unwrap();
        assert!(
            made.len() == 2
                && made.iter().all(|m| m.shape() == [8, 6, 4])
                && made[0].values() != made[1].values()
        );
        assert_eq!(made, joint.apply(v.clone(), &mut rng(1)).unwrap());
        assert_ne!(made, joint.apply(v.clone(), &mut rng(2)).unwrap());
        assert_eq!(config().views(Wanted::Plain).unwrap().apply(v.clone(), &mut rng(1)).unwrap().len(), 1);
        let corrupt: Step = Box::new(InPaint { boxes: 2, p: 1.0 });
        let made = config().views(Wanted::Corrupted(corrupt)).unwrap().apply(v.clone(), &mut rng(1)).unwrap();
        let same = made[0].values().iter().zip(made[1].values()).filter(|(a, b)| a == b).count();
        assert!(same < 192 && same > 90, "{same}");
        // A volume that is smaller than a patch is padded.
        let corrupt: Step = Box::new(LowResolution { factor: [2, 2], isotropic: true });
        let small = config()
            .views(Wanted::Corrupted(corrupt))
            .unwrap()
            .apply(volume([3, 3, 3], 1), &mut rng(1))
            .unwrap();
        assert_eq!(small[0].shape(), [8, 6, 4]);
        let labelled = config().labelled().unwrap().apply(v, &mut rng(3)).unwrap();
        assert!(labelled.shape() == [8, 6, 4] && labelled.labels().is_some());
    }

    #[test]
    fn slices_stay_in_their_plane() {
        // Every plane of the volume has a value of its own, so a patch tells where it comes from.
        let mut v = volume([6, 20, 16], 1);
        v.values_mut().iter_mut().enumerate().for_each(|(i, x)| *x = 0.1 * (i / 320) as f32 + 0.2);
        let c = AugmentConfig {
            size: [1, 8, 8],
            gamma_p: 0.0,
            noise_p: 0.0,
            bias_p: 0.0,
            zoom: [1.0, 1.0],
            ..AugmentConfig::default()
        };
        let joint = c.views(Wanted::Joint(2)).unwrap();
        assert_eq!(joint.region()[0], 1);
        let mut planes = std::collections::BTreeSet::new();
        for seed in 0..20 {
            let made = joint.apply(v.clone(), &mut rng(seed)).unwrap();
            let level = made[0].values()[27];
            assert!(made.iter().all(|m| m.shape() == [1, 8, 8]), "{:?}", made[0].shape());
            // Turned in the plane: the middle is all of that plane, and so is that of the other view.
            assert!((level - made[1].values()[27]).abs() < 1e-5 && level >= 0.2 - 1e-5, "{level}");
            planes.insert((level * 10.0).round() as i32);
        }
        assert!(planes.len() > 2, "{planes:?}");
    }

    #[test]
    fn keys_are_named() {
        let says = |change: &dyn Fn(&mut AugmentConfig), key: &str| {
            let mut c = config();
            change(&mut c);
            let e = c.prepare().err().map(|e| e.to_string()).unwrap_or_default();
            assert!(e.contains(key), "{e}");
        };
        says(&|c| c.size[1] = 0, "augment.size");
        says(&|c| c.spacing = Some([1.0, f64::NAN, 1.0]), "augment.spacing");
        says(&|c| c.foreground = Some(1.0), "augment.foreground");
        says(&|c| c.flip[0] = -0.1, "augment.flip");
        says(&|c| c.zoom = [2.0, 1.0], "augment.zoom");
        says(&|c| c.elastic = 0.7, "augment.elastic");
        says(&|c| c.region = 0.5, "augment.region");
        says(&|c| c.gamma_p = 2.0, "augment.gamma_p");
        says(&|c| c.rotate[2] = 360.0, "augment.rotate");
    }
}

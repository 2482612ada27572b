//! Steps on volumes.

use super::{Step, adamw, images, training, views};
use candle_core::Device;
use selfsup_core::{Params, Scope};
use selfsup_medical::encoder::UNetConfig;
use selfsup_medical::method::{Restoration, RestorationLoss};
use selfsup_medical::recipe::Architecture;

/// Models Genesis' restoration: a U-Net of 16, 32 and 64 channels on patches of 48^3 voxels.
pub fn unet3d() -> (usize, Step) {
    let scope = Scope::root(&Params::new(), 0, &Device::Cpu);
    let net = Architecture::UNet(UNetConfig::new(1, &[16, 32, 64])).dense(&scope, 1, false).unwrap();
    let shape = [2, 1, 48, 48, 48];
    (
        2,
        training(
            Restoration::new(&scope, net, RestorationLoss::Mse),
            views(vec![images(&shape, 1), images(&shape, 2)]),
            adamw(1e-3, 0.05),
        ),
    )
}

//! Pre-trains a U-Net on a volume: Models Genesis (arXiv 1908.06912) corrupts patches, the U-Net restores
//! them. NIfTI, NRRD and DICOM are read alike; by default the bundled MNI152 head.
//!
//! `cargo run -p selfsup-medical --example unet_nifti -- [VOLUME]`
#![allow(clippy::print_stdout)]

use selfsup_medical::prelude::*;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bundled = concat!(env!("CARGO_MANIFEST_DIR"), "/../../datasets/samples/mni152/t1_2mm.nii.gz");
    let path = std::env::args().nth(1).unwrap_or(bundled.into());
    let volume = read::volume(&path, &ReadConfig::default())?; // (z, y, x) in RAS+
    println!("{path}: {:?} voxels of {:?} mm", volume.shape(), volume.spacing());

    // Eight patches of 32 x 32 x 32 voxels an epoch; intensities between percentiles become [0, 1].
    let config = TrainConfig { epochs: 2, batch_size: 4, workers: 2, ..TrainConfig::default() };
    let augment = AugmentConfig { size: [32; 3], ..AugmentConfig::default() };
    let genesis = MethodConfig::named("genesis")?;
    let batches = genesis.loader(vec![volume], 8, &augment, &config)?;

    // A U-Net of three levels: the encoder, which a task takes away, and the decoder.
    let unet = UNetKeys { widths: Some(vec![8, 16, 32]), ..UNetKeys::default() };
    let unet = EncoderConfig::from(unet).resolve(augment.size, genesis.needs())?;
    let scope = Scope::root(&Params::new(), config.seed, &Device::Cpu);
    let method = genesis.build(&scope, &unet)?;
    let summary = train(&*method, &batches, &config, &OptimConfig::default(), "runs/genesis")?;
    println!("{} steps, {}", summary.steps, summary.shown_loss());

    // Features of a patch: the mean of the coarsest map.
    let batch = batches.epoch_from(0, 0)?.next().ok_or("no batch")??.batch;
    let features = method.encoder().forward(&batch.globals[0], None, &[], &Pass::eval())?.pooled;
    println!("{:?} patches to features {:?}", batch.globals[0].dims(), features.dims());
    Ok(())
}

//! What every network of signals must satisfy.

use candle_core::{DType, Device, Tensor};
use selfsup_core::conformance::{
    building_twice_changes_nothing, every_parameter_has_a_place, fine_tuning_rates,
};
use selfsup_core::objective::Needs;
use selfsup_core::{Encoder, Key, Layer, Params, Pass, Scope};
use selfsup_signals::encoder::{Dilated, DilatedConfig};
use selfsup_signals::recipe::EncoderConfig;

fn random(shape: &[usize], seed: u64) -> Tensor {
    let mut rng = Key::new(seed).rng();
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.normal()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn dilated() -> DilatedConfig {
    DilatedConfig { channels: 2, hidden: 6, dim: 8, depth: 2, dropout: 0.0 }
}

#[test]
fn shapes_places_and_second_builds() {
    for name in EncoderConfig::NAMES {
        let mut config = EncoderConfig::named(name).unwrap();
        config.set_channels(2);
        match &mut config {
            EncoderConfig::Dilated(k) => (k.hidden, k.dim, k.depth) = (6, 8, 2),
            EncoderConfig::ResNet(k) => k.widths = Some(vec![4, 4, 8, 8]),
            EncoderConfig::Patch(k) => (k.dim, k.heads) = (24, 2),
            EncoderConfig::PatchTst(k) => (k.dim, k.heads, k.hidden, k.patch) = (24, 2, 32, 16),
        }
        for length in [64, 256] {
            let network = config.resolve(length, Needs::default()).unwrap();
            let params = Params::new();
            let net = network.build(&Scope::root(&params, 0, &Device::Cpu)).unwrap();
            every_parameter_has_a_place(name, &params).unwrap();
            building_twice_changes_nothing(name, |scope| network.build(scope)).unwrap();
            let x = random(&[3, 2, length], 1);
            let made = net.forward(&x, None, &[Layer::Tokens, Layer::Hidden(0)], &Pass::eval()).unwrap();
            assert_eq!(made.pooled.dims(), [3, net.dim()], "{name}");
            let tokens = made.tokens.unwrap();
            assert_eq!(tokens.dims(), [3, length / net.stride()[0], net.dim()], "{name}");
            assert_eq!(made.layers.len(), 1);
            assert_eq!(net.map(&x, &Pass::eval()).unwrap().dims(), tokens.dims());
            let y = net.forward(&random(&[1, 3, length], 1), None, &[], &Pass::eval());
            assert!(y.is_err_and(|e| e.to_string().contains("(N, 2")), "{name}");
        }
    }
    let rates = fine_tuning_rates(|s| Dilated::new(s, dilated()), None).unwrap();
    assert_eq!(rates.len(), 4, "{rates:?}");
}

/// A step's representation sees the steps that dilated kernels reach, and no further.
#[test]
fn the_receptive_field_of_dilated_convolutions() {
    let net = Dilated::new(&Scope::root(&Params::new(), 1, &Device::Cpu), dilated()).unwrap();
    // Two convolutions a block, dilations 1, 2 and 4.
    let reach = 2 * (1 + 2 + 4);
    let (length, middle) = (41, 20);
    let values: Vec<f32> = random(&[2 * length], 3).to_vec1().unwrap();
    let at = |values: &[f32]| -> Vec<Vec<f32>> {
        let x = Tensor::from_slice(values, (1, 2, length), &Device::Cpu).unwrap();
        net.steps(&x, None, &Pass::eval()).unwrap().squeeze(0).unwrap().to_vec2().unwrap()
    };
    let mut moved = values.clone();
    moved[middle] += 1.0;
    let (before, after) = (at(&values), at(&moved));
    let changed: Vec<usize> = (0..length).filter(|t| before[*t] != after[*t]).collect();
    assert_eq!(changed, (middle - reach..=middle + reach).collect::<Vec<_>>());
}

/// Hidden steps are all alike: what stands there does not matter.
#[test]
fn hidden_steps_are_not_read() {
    let net = Dilated::new(&Scope::root(&Params::new(), 1, &Device::Cpu), dilated()).unwrap();
    let keep = Tensor::new(&[[1f32, 0.0, 1.0, 0.0, 0.0]], &Device::Cpu).unwrap();
    let of = |values: &[f32; 5]| -> Vec<f32> {
        let x = Tensor::new(values, &Device::Cpu).unwrap().reshape((1, 1, 5)).unwrap();
        let x = Tensor::cat(&[&x, &x], 1).unwrap();
        net.steps(&x, Some(&keep), &Pass::eval()).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    };
    assert_eq!(of(&[1.0, 2.0, 3.0, 4.0, 5.0]), of(&[1.0, -9.0, 3.0, 0.0, 7.0]));
    assert_ne!(of(&[1.0, 2.0, 3.0, 4.0, 5.0]), of(&[1.5, 2.0, 3.0, 4.0, 5.0]));
}

#[test]
fn sizes_that_do_not_fit_are_refused() {
    let scope = Scope::root(&Params::new(), 0, &Device::Cpu);
    for config in [
        DilatedConfig { channels: 0, ..dilated() },
        DilatedConfig { hidden: 0, ..dilated() },
        DilatedConfig { depth: 99, ..dilated() },
    ] {
        assert!(Dilated::new(&scope, config).err().unwrap().to_string().contains("encoder"));
    }
    let mut patch = EncoderConfig::named("patch_transformer").unwrap();
    if let EncoderConfig::Patch(k) = &mut patch {
        k.heads = 3;
    }
    assert!(patch.resolve(64, Needs::default()).unwrap_err().to_string().contains("encoder.heads"));
    let odd = EncoderConfig::named("patch_transformer").unwrap().resolve(65, Needs::default()).unwrap();
    let error = odd.build(&scope).err().unwrap().to_string();
    assert!(error.contains("65") && error.contains("encoder.patch"), "{error}");
    let net = Dilated::new(&scope, dilated()).unwrap();
    let padded = net.forward(
        &random(&[1, 2, 8], 1),
        Some(&Tensor::ones((1, 8), DType::F32, &Device::Cpu).unwrap()),
        &[],
        &Pass::eval(),
    );
    assert!(padded.is_err());
}

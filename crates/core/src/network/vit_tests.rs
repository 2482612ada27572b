use super::*;
use crate::params::Params;
use crate::pass::Progress;
use candle_core::{DType, Device};

fn config<const A: usize>(name: &str, size: [usize; A], patch: [usize; A], fixed: bool) -> ViTConfig<A> {
    let mut config = ViTConfig::named(name, size, patch).unwrap();
    config.trunk = TransformerConfig::vit(24, 1, 2, 48);
    config.fixed_positions = fixed;
    config
}

fn build<const A: usize>(config: ViTConfig<A>) -> Result<(Params, ViT<A>)> {
    let params = Params::new();
    let net = ViT::new(&Scope::root(&params, 0, &Device::Cpu), config)?;
    Ok((params, net))
}

fn waves(shape: &[usize]) -> Tensor {
    let count = shape.iter().product::<usize>() as i64;
    let values: Vec<f32> = (0..count).map(|i| (i as f32 * 0.37).sin()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

#[test]
fn boxes_become_tokens_and_a_map() -> Result<()> {
    let (_, net) = build(config("vit3d_tiny", [8, 8, 16], [4, 4, 4], true))?;
    let x = waves(&[2, 1, 8, 8, 16]);
    let features = net.forward(&x, None, &[Layer::Tokens], &Pass::eval())?;
    assert_eq!(features.pooled.dims(), [2, 24]);
    assert_eq!(features.tokens.as_ref().map(|t| t.dims().to_vec()), Some(vec![2, 16, 24]));
    assert_eq!(net.maps(&x, &Pass::eval())?[1].dims(), [2, 2, 2, 4, 24]);
    assert_eq!((net.patchify(&x)?.dims(), net.patch_dim()), ([2, 16, 64].as_slice(), 64));
    Ok(())
}

#[test]
fn maps_are_the_tokens_of_patches() -> Result<()> {
    let (_, net) = build(config("vit_tiny", [16, 16], [4, 4], false))?;
    let x = waves(&[2, 3, 16, 8]);
    let tokens = net.forward(&x, None, &[Layer::Tokens], &Pass::eval())?.tokens.unwrap();
    let map = net.maps(&x, &Pass::eval())?.remove(1);
    assert_eq!((tokens.dims(), map.dims()), ([2, 9, 24].as_slice(), [2, 4, 2, 24].as_slice()));
    let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(values(&map.flatten(1, 2)?), values(&tokens.narrow(1, 1, 8)?));
    Ok(())
}

/// Every grid goes through the whole network, and the learned table that it is made from gets a gradient;
/// what tokens of a smaller input see is what the table says near them.
#[test]
fn other_sizes_get_positions_of_their_own() -> Result<()> {
    fn case<const A: usize>(name: &str, shape: &[usize], fixed: bool) -> Result<()> {
        let (params, net) = build(config(name, [16; A], [4; A], fixed))?;
        let pass = Pass::train(0, Progress::default());
        let y = net.forward(&waves(shape), None, &[], &pass)?.pooled;
        assert_eq!(y.dims(), [shape[0], 24], "{name}");
        // Tokens that a method hides part of have the same positions.
        let tokens = net.embed(&waves(shape), &pass)?;
        let whole = net.contextualize(&tokens, None, &pass)?;
        let all = net.forward(&waves(shape), None, &[Layer::Tokens], &pass)?.tokens.unwrap();
        let apart = (whole - all)?.abs()?.max_all()?.to_scalar::<f32>()?;
        assert!(apart < 1e-6, "{name}: {apart}");
        let table = params.get("pos_embed").unwrap();
        let grads = y.sqr()?.sum_all()?.backward()?;
        let moved = grads.get(&table.var).map(|g| g.abs().unwrap().max_all().unwrap());
        let moved = moved.map(|t| t.to_scalar::<f32>().unwrap());
        assert_eq!(moved.is_some_and(|m| m > 0.0), !fixed, "{name}: {moved:?}");
        Ok(())
    }
    for fixed in [false, true] {
        case::<2>("vit_tiny", &[2, 3, 8, 12], fixed)?;
        case::<3>("vit3d_tiny", &[2, 1, 8, 12, 16], fixed)?;
    }
    let (_, net) = build(config("vit3d_tiny", [8; 3], [4; 3], true))?;
    let odd = Tensor::zeros((1, 1, 9, 8, 8), DType::F32, &Device::Cpu)?;
    assert!(net.forward(&odd, None, &[], &Pass::eval()).is_err());
    Ok(())
}

/// A table that is linear in the place stays so on another grid, away from the borders.
#[test]
fn positions_of_volumes_are_interpolated_linearly() -> Result<()> {
    let (params, net) = build(config("vit3d_tiny", [8; 3], [1; 3], false))?;
    let place: Vec<f32> = (0..8 * 8 * 8).flat_map(|i| [(i / 64) as f32; 24]).collect();
    let place = Tensor::from_vec(place, (1, 512, 24), &Device::Cpu)?;
    params.set("pos_embed", &place)?;
    let half = net.positions_for(&[4, 8, 8], &Pass::eval())?.unwrap();
    let depths: Vec<f32> =
        half.narrow(2, 0, 1)?.flatten_all()?.to_vec1::<f32>()?.into_iter().step_by(64).collect();
    assert_eq!(depths, [0.5, 2.5, 4.5, 6.5]);
    Ok(())
}

/// Rotary positions: no table, any grid, and a patch's place counts.
#[test]
fn rotary_positions() -> Result<()> {
    let mut c = config("vit_tiny", [16, 16], [4, 4], false);
    (c.rotary, c.registers, c.trunk.key_bias) = (Some(100.0), 2, false);
    // Far from the small initial weights, with which attention is uniform and no place counts.
    c.trunk.init = Init::Normal(0.5);
    let (params, net) = build(c.clone())?;
    assert!(params.get("pos_embed").is_none() && params.get("blocks.0.attn.q_bias").is_some());
    assert!(params.get("blocks.0.attn.qkv.bias").is_none());
    let x = waves(&[1, 3, 16, 8]);
    let pooled = |x: &Tensor| -> Result<Vec<f32>> {
        Ok(net.forward(x, None, &[], &Pass::eval())?.pooled.flatten_all()?.to_vec1()?)
    };
    // The two columns of patches in the other order: the same set of patches in other places.
    let swapped = Tensor::cat(&[x.narrow(3, 4, 4)?, x.narrow(3, 0, 4)?], 3)?;
    let gap = pooled(&x)?.iter().zip(pooled(&swapped)?).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
    assert!(gap > 1e-4, "{gap}");
    let tokens = net.embed(&waves(&[1, 3, 16, 16]), &Pass::eval())?;
    let whole = net.contextualize(&tokens, None, &Pass::eval())?;
    let features = net.forward(&waves(&[1, 3, 16, 16]), None, &[Layer::Tokens], &Pass::eval())?;
    let apart = (whole - features.tokens.unwrap())?.abs()?.max_all()?.to_scalar::<f32>()?;
    assert!(apart < 1e-6, "{apart}");
    let some = net.contextualize(&tokens.narrow(1, 0, 5)?, None, &Pass::eval());
    assert!(some.err().is_some_and(|e| e.to_string().contains("encoder.rotary")));
    c.fixed_positions = true;
    assert!(build(c).err().is_some_and(|e| e.to_string().contains("encoder.rotary")));
    Ok(())
}

#[test]
fn what_cannot_be_built_is_named() {
    let says = |error: Option<Error>, part: &str| {
        let error = error.map(|e| e.to_string()).unwrap_or_default();
        assert!(error.contains(part), "{error}");
    };
    says(build(config("vit_tiny", [10, 10], [4, 4], false)).err(), "does not divide the image size 10");
    says(build(config("vit3d_tiny", [8, 8, 9], [4; 3], false)).err(), "volumes of [8, 8, 9]");
    let mut c = config("vit_tiny", [8, 8], [4, 4], false);
    c.class_token = false;
    says(build(c).err(), "needs a class token");
    let mut c = config("vit3d_tiny", [8; 3], [4; 3], false);
    c.channels = 0;
    says(build(c).err(), "encoder.channels");
}

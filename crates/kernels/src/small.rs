//! Every operator on the smallest shapes that reach its loops, forward and backward, both paths against each
//! other: what Miri runs (see the crate's README). Shapes cover a remainder of each blocked loop, and nothing
//! else.

use crate::activation::{Act, gelu_tanh, prelu, relu, silu};
use crate::attention::{AttentionOpts, attention, self_attention};
use crate::conv::{ConvSpec, conv, conv_act, conv_bn_act, conv_instance_act};
use crate::dropout::{Dropout, drop_path, dropout};
use crate::linear::testing::{agree, random};
use crate::rng::Key;
use candle_core::{Device, Tensor, Var};

#[test]
fn elementwise() {
    let x = [random(&[3, 7], 1), random(&[1], 2)];
    agree(&x[..1], |t, path| relu(&t[0], path));
    agree(&x[..1], |t, path| gelu_tanh(&t[0], path));
    agree(&x[..1], |t, path| silu(&t[0], path));
    agree(&x, |t, path| prelu(&t[0], &t[1], path));
    let drop = Dropout { share: 0.4, key: Key::new(1), first: 3 };
    agree(&x[..1], |t, path| dropout(&t[0], &drop, path));
    agree(&x[..1], |t, _| drop_path(&t[0], &drop));
    agree(&[random(&[2, 3], 1), random(&[2, 3], 2)], |t, path| crate::norm::add_relu(&t[0], &t[1], path));
    agree(&[random(&[2, 3], 1), random(&[2, 2], 2)], |t, path| {
        crate::join::join_channels(&t[0], &t[1], path)
    });
}

#[test]
fn products() {
    for (m, k, o) in [(2, 3, 5), (9, 2, 17), (1, 1, 49)] {
        let all = [random(&[m, k], 1), random(&[o, k], 2), random(&[o], 3)];
        for act in [Act::None, Act::Relu, Act::GeluErf] {
            agree(&all, |t, path| crate::linear::linear_act(&t[0], &t[1], Some(&t[2]), act, path));
        }
    }
    let ids = Tensor::new(&[1u32, 0, 1], &Device::Cpu).unwrap();
    agree(&[random(&[3, 2], 1)], |t, path| crate::embedding::embedding(&t[0], &ids, Some(2), path));
    agree(&[random(&[3, 2], 1), random(&[3], 2)], |t, path| {
        crate::weight_norm::weight_norm(&t[0], &t[1], 0, path)
    });
}

#[test]
fn attentions() {
    let dropout = Some(Dropout { share: 0.3, key: Key::new(1), first: 1 });
    let opts = AttentionOpts { causal: true, dropout, ..Default::default() };
    agree(&[random(&[2, 3, 3, 1, 2], 1), random(&[1, 1, 3, 3], 2)], |t, path| {
        self_attention(&t[0], Some(&t[1]), &opts, path)
    });
    agree(&[random(&[1, 2, 2, 2], 1), random(&[1, 3, 2, 2, 2], 2)], |t, path| {
        attention(&t[0], &t[1], None, &AttentionOpts::default(), path)
    });
}

#[test]
fn norms() {
    let (x, gb, w) = (random(&[2, 3, 4], 1), random(&[2, 4], 2), random(&[4], 3));
    agree(&[x.clone(), gb.clone()], |t, path| crate::norm::layer_norm(&t[0], Some(&t[1]), 1e-3, path));
    agree(&[x.clone(), w], |t, path| crate::norm::rms_norm(&t[0], &t[1], 1e-3, path));
    agree(std::slice::from_ref(&x), |t, path| crate::norm::l2_normalize(&t[0], 1e-3, path));
    agree(&[x.clone(), gb.clone()], |t, path| crate::norm::group_norm(&t[0], Some(&t[1]), 2, 1e-3, path));
    agree(&[x.clone(), gb.clone()], |t, path| {
        crate::norm::instance_norm_act(&t[0], Some(&t[1]), 1e-3, Act::GeluErf, path)
    });
    agree(&[x.clone(), gb], |t, path| Ok(crate::norm::batch_norm(&t[0], &t[1], 1e-3, Act::Relu, path)?.0));
    agree(std::slice::from_ref(&x), |t, path| crate::softmax::softmax(&t[0], path));
    agree(&[x], |t, path| crate::softmax::log_softmax(&t[0], path));
}

#[test]
fn convolutions() {
    let spec = ConvSpec::new().padding(1);
    let (x, w) = (random(&[1, 4, 3, 2], 1), random(&[3, 2, 3, 3], 2));
    agree(&[x.clone(), w.clone(), random(&[3], 3)], |t, path| conv(&t[0], &t[1], Some(&t[2]), &spec, path));
    agree(&[x.clone(), w.clone()], |t, path| conv(&t[0], &t[1], None, &spec.stride(2), path));
    // A stride beyond the kernel: some positions are in no window.
    agree(&[random(&[1, 7, 2], 1), random(&[2, 2, 1], 2)], |t, path| {
        conv(&t[0], &t[1], None, &ConvSpec::new().stride(3), path)
    });
    agree(&[random(&[1, 5, 4], 1), random(&[2, 2, 3], 2)], |t, path| {
        conv_act(&t[0], &t[1], None, &spec.groups(2), Act::GeluErf, path)
    });
    agree(&[x.clone(), w.clone(), random(&[2, 3], 3)], |t, path| {
        Ok(conv_bn_act(&t[0], &t[1], &t[2], &spec, 1e-3, Act::Relu, path)?.0)
    });
    // Volumes kept at their size.
    agree(&[random(&[1, 2, 3, 2, 8], 1), random(&[3, 8, 3, 3, 3], 2), random(&[2, 3], 3)], |t, path| {
        conv_instance_act(&t[0], &t[1], Some(&t[2]), &spec, 1e-3, Act::Relu, path)
    });
    agree(&[x, random(&[2, 3, 2, 2], 2)], |t, path| {
        crate::conv_transpose::conv_transpose(&t[0], &t[1], None, 2, 0, 0, 1, 1, path)
    });
}

#[test]
fn pools_and_sizes() {
    let x = [random(&[1, 5, 4, 2], 1)];
    agree(&x, |t, path| crate::pool::max_pool(&t[0], &[3, 3], &[2, 2], &[1, 1], path));
    agree(&x, |t, path| crate::pool::avg_pool(&t[0], &[2, 2], &[2, 2], &[0, 0], path));
    agree(&x, |t, _| crate::pool::global_avg_pool(&t[0]));
    agree(&x, |t, path| crate::resize::resize(&t[0], &[3, 7], crate::resize::Resize::Linear, path));
}

#[test]
fn losses() {
    let targets = Tensor::new(&[2i64, -100, 0], &Device::Cpu).unwrap();
    agree(&[random(&[3, 5], 1)], |t, path| crate::loss::cross_entropy(&t[0], &targets, 0.1, path));
}

#[test]
fn updates() {
    let args =
        crate::update::AdamWArgs { lr: 0.1, beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.1, step: 1 };
    let [w, m, v] = [1, 2, 3].map(|seed| Var::from_tensor(&random(&[5], seed).abs().unwrap()).unwrap());
    crate::update::adamw(&w, &random(&[5], 4), &m, &v, &args).unwrap();
    crate::update::ema(&w, &random(&[5], 5), 0.5).unwrap();
    assert!(w.to_vec1::<f32>().unwrap().iter().all(|v| v.is_finite()));
    assert!(crate::update::sq_norm(&[random(&[5], 1)]).unwrap() > 0.0);
}

//! Losses: value and gradients.

use super::case::{Case, Handler, Outputs, Result};
use candle_core::{DType, Tensor};
use selfsup_core::loss;

type LossOf = fn(&Case, &dyn Fn(&str) -> Result<Tensor>) -> Result<Tensor>;

fn loss_of(name: &str) -> Option<(&'static [&'static str], LossOf)> {
    Some(match name {
        "ntxent" => {
            (&["z0", "z1"], |c, t| Ok(loss::nt_xent(&t("z0")?, &t("z1")?, c.number("temperature", 0.5))?))
        }
        "infonce_queue" => (&["q"], |c, t| {
            Ok(loss::info_nce_queue(
                &t("q")?,
                &t("const_k")?,
                &t("const_queue")?,
                c.number("temperature", 0.07),
            )?)
        }),
        "mocov3" => (&["q1", "q2"], |c, t| {
            Ok(loss::moco_v3(
                &t("q1")?,
                &t("q2")?,
                &t("const_k1")?,
                &t("const_k2")?,
                c.number("temperature", 0.2),
            )?)
        }),
        "byol" => {
            (&["p0", "p1"], |_, t| Ok(loss::byol(&t("p0")?, &t("p1")?, &t("const_z0")?, &t("const_z1")?)?))
        }
        "simsiam" => (&["p0", "p1"], |_, t| {
            Ok(loss::sim_siam(&t("p0")?, &t("p1")?, &t("const_z0")?, &t("const_z1")?)?)
        }),
        "barlow_twins" => (&["z0", "z1"], |c, t| {
            Ok(loss::barlow_twins(&t("z0")?, &t("z1")?, c.number("lambda_param", 5e-3))?)
        }),
        "vicreg" => (&["z0", "z1"], |c, t| {
            let (l, m, n) =
                (c.number("lambda_param", 25.0), c.number("mu_param", 25.0), c.number("nu_param", 1.0));
            Ok(loss::vicreg(&t("z0")?, &t("z1")?, l, m, n)?)
        }),
        "dcl" => (&["z0", "z1"], |c, t| Ok(loss::dcl(&t("z0")?, &t("z1")?, c.number("temperature", 0.1))?)),
        "swav" => (&["h0", "h1", "h2", "l0", "l1", "l2", "l3", "l4", "l5"], |c, t| {
            let views = |kind: &str| (0..6).map_while(|i| t(&format!("{kind}{i}")).ok()).collect::<Vec<_>>();
            let (temperature, eps) = (c.number("temperature", 0.1), c.number("sinkhorn_epsilon", 0.05));
            Ok(loss::swav(&views("h"), &views("l"), temperature, c.whole("sinkhorn_iterations", 3), eps)?)
        }),
        "mse" => (&["pred"], |_, t| Ok(loss::mse(&t("pred")?, &t("const_target")?)?)),
        "smooth_l1" => {
            (&["pred"], |c, t| Ok(loss::smooth_l1(&t("pred")?, &t("const_target")?, c.number("beta", 1.0))?))
        }
        "huber" => {
            (&["pred"], |c, t| Ok(loss::huber(&t("pred")?, &t("const_target")?, c.number("delta", 1.0))?))
        }
        "dino" => (&["s0", "s1", "s2", "s3", "s4", "s5"], |c, t| {
            let views = |kind: &str| (0..6).map_while(|i| t(&format!("{kind}{i}")).ok()).collect::<Vec<_>>();
            let (student, teacher) = (c.number("student_temp", 0.1), c.number("teacher_temp", 0.04));
            Ok(loss::dino(&views("s"), &views("const_t"), &t("const_center")?, student, teacher)?)
        }),
        "sigreg" => (&["z"], |c, t| Ok(loss::sigreg(&views(&t("z")?)?, &t("const_directions")?, knots(c))?)),
        "lejepa" => (&["global_views", "local_views"], |c, t| {
            let (full, small) = (views(&t("global_views")?)?, views(&t("local_views")?)?);
            let lambda = c.number("lambda_param", 0.05);
            Ok(loss::lejepa(&full, &small, &t("const_directions")?, lambda, knots(c))?)
        }),
        "koleo" => (&["z"], |_, t| Ok(loss::koleo(&t("z")?)?)),
        "triplet" => (&["a", "p", "q"], |c, t| {
            Ok(loss::triplet(&t("a")?, &t("p")?, &t("q")?, c.number("margin", 1.0))?)
        }),
        "supcon" => {
            (&["z"], |c, t| Ok(loss::sup_con(&t("z")?, &t("labels")?, c.number("temperature", 0.1))?))
        }
        "mae_normpix" => (&["pred"], |_, t| {
            Ok(loss::mae_normalized_pixels(
                &t("pred")?,
                &t("const_target")?,
                &t("mask")?.to_dtype(DType::F32)?,
                true,
            )?)
        }),
        "simmim_l1" => (&["pred"], |c, t| {
            // Pixels (N, C, H, W) to patches of the mask's grid.
            let patches = |x: Tensor| -> Result<Tensor> {
                let side = c.whole("patch_size", 4);
                Ok(selfsup_core::nn::patchify(&x.permute((0, 2, 3, 1))?.contiguous()?, &[side, side])?)
            };
            let mask = t("mask")?.flatten_from(1)?;
            Ok(loss::masked_l1(&patches(t("pred")?)?, &patches(t("const_image")?)?, &mask)?)
        }),
        "ijepa_smooth_l1" => (&["pred"], |c, t| {
            // (blocks, N, K, D) and (blocks, N, K): ours has the samples first.
            let masks = t("masks")?.to_dtype(DType::I64)?.transpose(0, 1)?.to_vec3::<i64>()?;
            let places: Vec<Vec<Vec<usize>>> = masks
                .into_iter()
                .map(|s| s.into_iter().map(|b| b.into_iter().map(|p| p as usize).collect()).collect())
                .collect();
            let targets = selfsup_core::objective::ijepa_targets(&t("const_target")?, &places)?;
            let pred = t("pred")?.transpose(0, 1)?.contiguous()?;
            Ok(loss::smooth_l1(&pred, &targets, c.number("beta", 1.0))?)
        }),
        "ctc" => (&["logits"], |c, t| {
            let lengths = |name: &str| -> Result<Vec<usize>> {
                Ok(c.integers(name)?.into_iter().map(|v| v as usize).collect())
            };
            let targets = t("targets")?.to_dtype(DType::I64)?;
            Ok(loss::ctc_mean(
                &t("logits")?,
                &targets,
                &lengths("input_lengths")?,
                &lengths("target_lengths")?,
                0,
            )?)
        }),
        "dice_ce" => (&["logits"], |_, t| {
            // (N, C, S..) -> (N, S.., C); the target has a channel of its own in MONAI.
            let logits = t("logits")?;
            let order: Vec<usize> =
                std::iter::once(0).chain(2..logits.rank()).chain(std::iter::once(1)).collect();
            Ok(loss::dice_ce(&logits.permute(order)?, &t("target")?.squeeze(1)?, &[])?)
        }),
        _ => return None,
    })
}

/// The views of a stack `(V, N, D)`.
fn views(stack: &Tensor) -> Result<Vec<Tensor>> {
    Ok((0..stack.dim(0)?).map(|v| stack.get(v)).collect::<candle_core::Result<_>>()?)
}

fn knots(c: &Case) -> loss::Knots {
    loss::Knots { number: c.whole("knots", 17), end: c.number("t_max", 3.0) }
}

/// iBOT's patch loss, and the centre after the step: the mean over all rows of the teacher has its share.
fn ibot_patch(case: &Case) -> Result<Vec<(String, Outputs)>> {
    let (teacher, center) = (case.input("const_teacher")?, case.input("const_center")?);
    let masks = case.input("mask")?.flatten_from(1)?.to_dtype(DType::U32)?.to_vec2::<u32>()?;
    let counts: Vec<usize> = masks.iter().map(|m| m.iter().filter(|v| **v != 0).count()).collect();
    let targets = loss::centred(&teacher, &center, case.number("teacher_temp", 0.04))?;
    let mut out = case.differentiate(&["student"], "loss", |var| {
        let student = var("student").ok_or("no student")?;
        Ok(loss::ibot_patch(&student, &targets, &counts, case.number("student_temp", 0.1))?)
    })?;
    let m = case.number("center_momentum", 0.9);
    let moved = ((center * m)? + (teacher.mean_keepdim(0)? * (1.0 - m))?)?;
    out.insert("expected.center_after".into(), moved);
    Ok(vec![(String::new(), out)])
}

/// Who runs a loss's case.
pub fn handler(case: &Case) -> Option<Handler> {
    if case.short() == "ibot_patch" {
        return Some(ibot_patch);
    }
    loss_of(case.short())?;
    Some(|case| {
        let (names, f) = loss_of(case.short()).ok_or("no loss")?;
        let out = case.differentiate(names, "loss", |var| {
            f(case, &|name| match var(name) {
                Some(t) => Ok(t),
                None => case.input(name),
            })
        })?;
        Ok(vec![(String::new(), out)])
    })
}

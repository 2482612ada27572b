//! The fused attention as nodes of candle's graph: with queries apart or packed, with and without a bias.

use super::fused::{Bias, Inputs, Out, Part};
use super::opts::{AttentionOpts, Dims};
use crate::activation::slices::{Floats, floats, output, tensor};
use crate::linear::gemm::Shared;
use crate::memory::unwritten;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};
use std::sync::OnceLock;

/// `q (N, T, H, D)`, `kv (N, S, 2, H, D)`, `bias (1 | N, 1 | H, 1 | T, S)`
pub(super) fn attention(
    q: &Tensor,
    kv: &Tensor,
    bias: Option<&Tensor>,
    opts: &AttentionOpts,
    dims: Dims,
) -> Result<Tensor> {
    let (q, kv, op) = (q.contiguous()?, kv.contiguous()?, Node::new(opts, dims));
    match bias {
        Some(bias) => q.apply_op3(&kv, &bias.contiguous()?, Cross(op)),
        None => q.apply_op2(&kv, Cross(op)),
    }
}

/// `qkv (N, L, 3, H, D)`
pub(super) fn self_attention(
    qkv: &Tensor,
    bias: Option<&Tensor>,
    opts: &AttentionOpts,
    dims: Dims,
) -> Result<Tensor> {
    let (qkv, op) = (qkv.contiguous()?, Node::new(opts, dims));
    match bias {
        Some(bias) => qkv.apply_op2(&bias.contiguous()?, Own(op)),
        None => qkv.apply_op1(Own(op)),
    }
}

struct Node {
    opts: AttentionOpts,
    dims: Dims,
    /// Logarithms of the sums of exponentials.
    log_sums: OnceLock<Vec<f32>>,
}

/// Queries apart from keys and values.
struct Cross(Node);

/// All in one tensor.
struct Own(Node);

fn bias_of<'a>(data: &'a [f32], shape: &Shape) -> Result<Bias<'a>> {
    let (a, b, c, d) = shape.dims4()?;
    Ok(Bias { data, dims: [a, b, c, d] })
}

impl Node {
    fn new(opts: &AttentionOpts, dims: Dims) -> Self {
        Node { opts: *opts, dims, log_sums: OnceLock::new() }
    }

    fn cross<'a>(&self, q: &'a [f32], kv: &'a [f32], bias: Option<Bias<'a>>) -> Inputs<'a> {
        let w = self.dims.h * self.dims.d;
        Inputs {
            q: Part { data: q, first: 0, row: w },
            k: Part { data: kv, first: 0, row: 2 * w },
            v: Part { data: kv, first: w, row: 2 * w },
            bias,
            dims: self.dims,
            opts: self.opts,
        }
    }

    fn own<'a>(&self, qkv: &'a [f32], bias: Option<Bias<'a>>) -> Inputs<'a> {
        let w = self.dims.h * self.dims.d;
        let part = |i: usize| Part { data: qkv, first: i * w, row: 3 * w };
        Inputs { q: part(0), k: part(1), v: part(2), bias, dims: self.dims, opts: self.opts }
    }

    fn forward(&self, inputs: &Inputs<'_>) -> (CpuStorage, Shape) {
        let (y, log_sums) = inputs.forward();
        // A node runs forward once.
        let _ = self.log_sums.set(log_sums);
        let Dims { n, t, h, d, .. } = self.dims;
        output(y, (n, t, h, d))
    }

    fn log_sums(&self) -> Result<&[f32]> {
        match self.log_sums.get() {
            Some(l) => Ok(l),
            None => bail!("attention: backward before forward"),
        }
    }

    fn cross_backward(
        &self,
        q: &Tensor,
        kv: &Tensor,
        bias: Option<&Tensor>,
        y: &Tensor,
        grad: &Tensor,
    ) -> Result<[Option<Tensor>; 3]> {
        let w = self.dims.h * self.dims.d;
        let grad = grad.contiguous()?;
        let (qs, kvs, ys, gs) = (Floats::new(q)?, Floats::new(kv)?, Floats::new(y)?, Floats::new(&grad)?);
        let bs = bias.map(Floats::new).transpose()?;
        let b = bs.as_deref().zip(bias).map(|(b, t)| bias_of(b, t.shape())).transpose()?;
        let mut dq = unwritten(if q.track_op() { qs.len() } else { 0 });
        let mut dkv = unwritten(if kv.track_op() { kvs.len() } else { 0 });
        let to_q = (!dq.is_empty()).then(|| Out { data: Shared::blank(&mut dq), first: 0, row: w });
        let to_kv = (!dkv.is_empty()).then(|| {
            let data = Shared::blank(&mut dkv);
            (Out { data, first: 0, row: 2 * w }, Out { data, first: w, row: 2 * w })
        });
        let want = bias.is_some_and(Tensor::track_op);
        let db = self.cross(&qs, &kvs, b).backward(&ys, &gs, self.log_sums()?, to_q, to_kv, want);
        let db = db.zip(bias).map(|(db, t)| tensor(db, t.shape())).transpose()?;
        // SAFETY: the backward writes the gradients of all heads of all queries, keys and values; what nobody
        // asked for is empty.
        let (dq, dkv) = unsafe { (dq.written(), dkv.written()) };
        let dq = q.track_op().then(|| tensor(dq, q.shape())).transpose()?;
        let dkv = kv.track_op().then(|| tensor(dkv, kv.shape())).transpose()?;
        Ok([dq, dkv, db])
    }

    fn own_backward(
        &self,
        qkv: &Tensor,
        bias: Option<&Tensor>,
        y: &Tensor,
        grad: &Tensor,
    ) -> Result<[Option<Tensor>; 2]> {
        let w = self.dims.h * self.dims.d;
        let grad = grad.contiguous()?;
        let (xs, ys, gs) = (Floats::new(qkv)?, Floats::new(y)?, Floats::new(&grad)?);
        let bs = bias.map(Floats::new).transpose()?;
        let b = bs.as_deref().zip(bias).map(|(b, t)| bias_of(b, t.shape())).transpose()?;
        let mut dx = unwritten(if qkv.track_op() { xs.len() } else { 0 });
        let outs = (!dx.is_empty()).then(|| {
            let data = Shared::blank(&mut dx);
            [0, 1, 2].map(|i| Out { data, first: i * w, row: 3 * w })
        });
        let want = bias.is_some_and(Tensor::track_op);
        let db = self.own(&xs, b).backward(
            &ys,
            &gs,
            self.log_sums()?,
            outs.map(|o| o[0]),
            outs.map(|o| (o[1], o[2])),
            want,
        );
        let db = db.zip(bias).map(|(db, t)| tensor(db, t.shape())).transpose()?;
        // SAFETY: as above; queries, keys and values are all of `dx`.
        let dx = unsafe { dx.written() };
        let dx = qkv.track_op().then(|| tensor(dx, qkv.shape())).transpose()?;
        Ok([dx, db])
    }
}

impl CustomOp1 for Own {
    fn name(&self) -> &'static str {
        "self-attention"
    }

    fn cpu_fwd(&self, x: &CpuStorage, xl: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok(self.0.forward(&self.0.own(floats(x, xl)?, None)))
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let [dx, _] = self.0.own_backward(x, None, y, grad)?;
        Ok(dx)
    }
}

impl CustomOp2 for Own {
    fn name(&self) -> &'static str {
        "self-attention"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        b: &CpuStorage,
        bl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Ok(self.0.forward(&self.0.own(floats(x, xl)?, Some(bias_of(floats(b, bl)?, bl.shape())?))))
    }

    fn bwd(
        &self,
        x: &Tensor,
        b: &Tensor,
        y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [dx, db] = self.0.own_backward(x, Some(b), y, grad)?;
        Ok((dx, db))
    }
}

impl CustomOp2 for Cross {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        ql: &Layout,
        kv: &CpuStorage,
        kvl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Ok(self.0.forward(&self.0.cross(floats(q, ql)?, floats(kv, kvl)?, None)))
    }

    fn bwd(
        &self,
        q: &Tensor,
        kv: &Tensor,
        y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [dq, dkv, _] = self.0.cross_backward(q, kv, None, y, grad)?;
        Ok((dq, dkv))
    }
}

impl CustomOp3 for Cross {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        ql: &Layout,
        kv: &CpuStorage,
        kvl: &Layout,
        b: &CpuStorage,
        bl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let bias = bias_of(floats(b, bl)?, bl.shape())?;
        Ok(self.0.forward(&self.0.cross(floats(q, ql)?, floats(kv, kvl)?, Some(bias))))
    }

    fn bwd(
        &self,
        q: &Tensor,
        kv: &Tensor,
        b: &Tensor,
        y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [dq, dkv, db] = self.0.cross_backward(q, kv, Some(b), y, grad)?;
        Ok((dq, dkv, db))
    }
}

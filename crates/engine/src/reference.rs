//! The fused operations composed of Burn's primitives: slow, and what the kernels must agree with.
//!
//! Written for reading, next to the formulas of [`Ops`](crate::Ops). Under autodiff Burn derives
//! their gradients, which is what the hand-written backward passes are checked against.

use burn::tensor::{Bool, ElementConversion, Int, Tensor, activation, backend::Backend};

use crate::{Gelu, QueryRows, optim::AdamWStep};

/// See [`crate::Ops::embed`].
pub fn embed<B: Backend>(table: Tensor<B, 2>, tokens: Tensor<B, 2, Int>) -> Tensor<B, 3> {
    let [batch, seq_len] = tokens.dims();
    let [_, d] = table.dims();
    table.select(0, tokens.reshape([batch * seq_len])).reshape([batch, seq_len, d])
}

/// See [`crate::Ops::linear`].
pub fn linear<B: Backend>(
    x: Tensor<B, 2>,
    weight: Tensor<B, 2>,
    bias: Option<Tensor<B, 1>>,
) -> Tensor<B, 2> {
    let y = x.matmul(weight);
    match bias {
        Some(bias) => y + bias.unsqueeze::<2>(),
        None => y,
    }
}

/// See [`crate::Ops::layer_norm`].
pub fn layer_norm<B: Backend>(
    x: Tensor<B, 2>,
    gain: Tensor<B, 1>,
    bias: Tensor<B, 1>,
    epsilon: f64,
) -> Tensor<B, 2> {
    let centered = x.clone() - x.mean_dim(1);
    let variance = centered.clone().powi_scalar(2).mean_dim(1);
    let normal = centered / (variance + epsilon).sqrt();
    normal * gain.unsqueeze::<2>() + bias.unsqueeze::<2>()
}

/// See [`crate::Ops::gelu`].
pub fn gelu<B: Backend>(x: Tensor<B, 2>, form: Gelu) -> Tensor<B, 2> {
    let gate = match form {
        Gelu::Erf => (x.clone() * std::f64::consts::FRAC_1_SQRT_2).erf(),
        Gelu::Tanh => {
            let cubic = x.clone() + x.clone().powi_scalar(3) * 0.044_715;
            (cubic * (2.0 / std::f64::consts::PI).sqrt()).tanh()
        }
    };
    x * 0.5 * (gate + 1.0)
}

/// See [`crate::Ops::causal_attention`].
pub fn causal_attention<B: Backend>(qkv: Tensor<B, 3>, n_heads: usize) -> Tensor<B, 3> {
    let [batch, seq_len, d3] = qkv.dims();
    let d = d3 / 3;
    let heads = |part: usize| {
        let part = qkv.clone().slice([0..batch, 0..seq_len, part * d..(part + 1) * d]);
        part.reshape([batch, seq_len, n_heads, d / n_heads]).swap_dims(1, 2)
    };
    let pos = Tensor::<B, 1, Int>::arange(0..seq_len as i64, &qkv.device());
    let query = pos.clone().reshape([1, 1, seq_len, 1]).expand([batch, n_heads, seq_len, seq_len]);
    let key = pos.reshape([1, 1, 1, seq_len]).expand([batch, n_heads, seq_len, seq_len]);
    let y = attend(heads(0), heads(1), heads(2), key.greater(query));
    y.swap_dims(1, 2).reshape([batch, seq_len, d])
}

/// Attention of `[batch, head, query, d_head]` on `[batch, head, key, d_head]` but for `masked`.
fn attend<B: Backend>(
    q: Tensor<B, 4>,
    k: Tensor<B, 4>,
    v: Tensor<B, 4>,
    masked: Tensor<B, 4, Bool>,
) -> Tensor<B, 4> {
    let [_, _, _, d_head] = q.dims();
    let attn_scores = q.matmul(k.swap_dims(2, 3)) / (d_head as f64).sqrt();
    let attn_pattern = activation::softmax(attn_scores.mask_fill(masked, f32::NEG_INFINITY), 3);
    attn_pattern.matmul(v)
}

/// See [`crate::Ops::causal_attention_at`].
///
/// Queries are laid out as `[batch, most queries of an example]`; the places that are left over
/// repeat the first query, at pos 0, and are dropped again.
pub fn causal_attention_at<B: Backend>(
    q: Tensor<B, 2>,
    kv: Tensor<B, 3>,
    rows: &QueryRows,
    n_heads: usize,
) -> Tensor<B, 2> {
    let [batch, seq_len, d2] = kv.dims();
    let (d, device) = (d2 / 2, kv.device());
    if rows.is_empty() {
        return q;
    }
    let by_example = rows.by_example(batch);
    let n_most = by_example.iter().map(std::ops::Range::len).max().unwrap_or(0);
    let mut source = vec![0_i64; batch * n_most];
    let mut query_pos = vec![0_i64; batch * n_most];
    let mut target = Vec::with_capacity(rows.len());
    for (example, range) in by_example.into_iter().enumerate() {
        for (i, query_idx) in range.enumerate() {
            let place = example * n_most + i;
            source[place] = query_idx as i64;
            query_pos[place] = i64::from(rows.place(query_idx).1);
            target.push(place as i64);
        }
    }
    let ints = |ints: &[i64]| Tensor::<B, 1, Int>::from_data(ints, &device);
    let shape = [batch, n_heads, n_most, seq_len];
    let query = ints(&query_pos).reshape([batch, 1, n_most, 1]).expand(shape);
    let key = Tensor::<B, 1, Int>::arange(0..seq_len as i64, &device)
        .reshape([1, 1, 1, seq_len])
        .expand(shape);
    let d_head = d / n_heads;
    let q = q.select(0, ints(&source)).reshape([batch, n_most, n_heads, d_head]).swap_dims(1, 2);
    let heads = |part: usize| {
        let part = kv.clone().slice([0..batch, 0..seq_len, part * d..(part + 1) * d]);
        part.reshape([batch, seq_len, n_heads, d_head]).swap_dims(1, 2)
    };
    let y = attend(q, heads(0), heads(1), key.greater(query));
    y.swap_dims(1, 2).reshape([batch * n_most, d]).select(0, ints(&target))
}

/// See [`crate::Ops::lstm`].
pub fn lstm<B: Backend>(gates_in: Tensor<B, 3>, w_hh: Tensor<B, 2>) -> Tensor<B, 3> {
    let [batch, seq_len, d4] = gates_in.dims();
    let d = d4 / 4;
    let mut h = Tensor::<B, 2>::zeros([batch, d], &gates_in.device());
    let mut c = h.clone();
    let mut all = Vec::with_capacity(seq_len);
    for pos in 0..seq_len {
        let here = gates_in.clone().slice([0..batch, pos..pos + 1, 0..d4]).reshape([batch, d4]);
        let gates = here + h.matmul(w_hh.clone());
        let gate = |gate: usize| gates.clone().slice([0..batch, gate * d..(gate + 1) * d]);
        let (i, f) = (activation::sigmoid(gate(0)), activation::sigmoid(gate(1)));
        let (g, o) = (gate(2).tanh(), activation::sigmoid(gate(3)));
        c = f * c + i * g;
        h = o * c.clone().tanh();
        all.push(h.clone());
    }
    Tensor::stack(all, 1)
}

/// See [`crate::Ops::cross_entropy`].
pub fn cross_entropy<B: Backend>(logits: Tensor<B, 2>, targets: Tensor<B, 1, Int>) -> Tensor<B, 1> {
    let [n_rows, _] = logits.dims();
    let log_probs = activation::log_softmax(logits, 1);
    -log_probs.gather(1, targets.reshape([n_rows, 1])).mean()
}

/// See [`crate::optim::adamw_step`].
pub fn adamw<B: Backend, const D: usize>(
    param: Tensor<B, D>,
    grad: Tensor<B, D>,
    m: Tensor<B, D>,
    v: Tensor<B, D>,
    step: &AdamWStep,
) -> (Tensor<B, D>, Tensor<B, D>, Tensor<B, D>) {
    let m = m * step.beta1 + grad.clone() * (1.0 - step.beta1);
    let v = v * step.beta2 + grad.clone() * grad * (1.0 - step.beta2);
    let (correction1, correction2) = step.corrections();
    let update = m.clone() / ((v.clone() / correction2).sqrt() + step.epsilon);
    let decayed = param * (1.0 - step.lr * step.weight_decay);
    (decayed - update * (step.lr / correction1), m, v)
}

/// See [`crate::optim::sum_squares`].
pub fn sum_squares<B: Backend, const D: usize>(x: Tensor<B, D>) -> f64 {
    (x.clone() * x).sum().into_scalar().elem()
}

//! Causal self-attention: everywhere, or for the asked queries only.
//!
//! The fused operations never form an attention pattern. It is computed beside them when a hook
//! reads it, and instead of them when a hook replaces it.

use burn::module::Module;
use burn::tensor::activation::softmax;
use burn::tensor::backend::Backend;
use burn::tensor::{Bool, Int, Tensor, TensorData};
use mnemoscope_engine::{Attend, Ops, QueryRows};

use super::{Linear, from_rows, select_rows, to_rows};
use crate::hook::Site;
use crate::params::Source;

#[derive(Module, Debug)]
pub(crate) struct Attention<B: Backend> {
    qkv: Linear<B>,
    out: Linear<B>,
}

impl<B: Backend> Attention<B> {
    pub(crate) fn from_source(source: &mut Source<'_, B>, name: &str) -> Self {
        Self {
            qkv: Linear::from_source(source, &format!("{name}.qkv")),
            out: Linear::from_source(source, &format!("{name}.out")),
        }
    }
}

impl<B: Ops> Attention<B> {
    /// Every place attends: `x: [batch, pos, d_model]` -> `[batch * pos, d_model]`
    pub(crate) fn forward(
        &self,
        x: Tensor<B, 3>,
        n_heads: usize,
        site: &mut Site<'_, B>,
    ) -> Tensor<B, 2> {
        let [_, n_pos, d] = x.dims();
        let qkv = from_rows(self.qkv.apply(to_rows(x)), n_pos);
        let part = |which: usize| split_heads(qkv.clone().narrow(2, which * d, d), n_heads);
        site.read("q.hook_out", || part(0));
        site.read("k.hook_out", || part(1));
        site.read("v.hook_out", || part(2));
        let replaced =
            pattern_if_watched(site, || scores_everywhere(part(0), part(1), scale(d / n_heads)));
        let z = match replaced {
            // [batch, head, query, key] x [batch, head, key, d_head] -> [batch, query, head, d_head]
            Some(pattern) => join_heads(pattern.matmul(part(2).swap_dims(1, 2)).swap_dims(1, 2)),
            None => <B as Ops>::causal_attention(qkv, None, &Attend::plain(n_heads)),
        };
        site.read("hook_z", || split_heads(z.clone(), n_heads));
        self.out.apply(to_rows(z))
    }

    /// Only the queries attend: `x: [batch, pos, d_model]` -> `[n_queries, d_model]`
    pub(crate) fn forward_at(
        &self,
        x: Tensor<B, 3>,
        queries: &QueryRows,
        n_heads: usize,
        site: &mut Site<'_, B>,
    ) -> Tensor<B, 2> {
        let [_, n_pos, d] = x.dims();
        let d_head = d / n_heads;
        let n_queries = queries.len();
        let (w_q, b_q) = self.qkv.columns(0..d);
        let (w_kv, b_kv) = self.qkv.columns(d..3 * d);
        let q = <B as Ops>::linear(select_rows(x.clone(), queries), w_q, b_q);
        let kv = from_rows(<B as Ops>::linear(to_rows(x), w_kv, b_kv), n_pos);
        let heads = |rows: Tensor<B, 2>| rows.reshape([n_queries, n_heads, d_head]);
        let part = |which: usize| split_heads(kv.clone().narrow(2, which * d, d), n_heads);
        site.read("q.hook_out", || heads(q.clone()));
        site.read("k.hook_out", || part(0));
        site.read("v.hook_out", || part(1));
        let replaced = pattern_if_watched(site, || {
            scores_at(heads(q.clone()), part(0), queries, scale(d_head))
        });
        let z = match replaced {
            Some(pattern) => mix_at(pattern, part(1), queries),
            None => <B as Ops>::causal_attention_at(q, kv, None, queries, &Attend::plain(n_heads)),
        };
        site.read("hook_z", || heads(z.clone()));
        self.out.apply(z)
    }
}

/// `pattern: [n_queries, head, key]` over `values: [batch, pos, head, d_head]` -> `[n_queries, d]`
pub(crate) fn mix_at<B: Backend>(
    pattern: Tensor<B, 3>,
    values: Tensor<B, 4>,
    queries: &QueryRows,
) -> Tensor<B, 2> {
    let [_, _, n_heads, d_head] = values.dims();
    // Each query's own example: [n_queries, head, key, d_head].
    let values = of_examples(values, queries).swap_dims(1, 2);
    let mixed = pattern.unsqueeze_dim::<4>(2).matmul(values);
    mixed.reshape([queries.len(), n_heads * d_head])
}

/// Lets the hooks see scores and pattern; the pattern comes back if a hook replaces it.
pub(crate) fn pattern_if_watched<B: Backend, const D: usize>(
    site: &mut Site<'_, B>,
    scores: impl FnOnce() -> Tensor<B, D>,
) -> Option<Tensor<B, D>> {
    let replaces = site.replaces("hook_pattern");
    if !(replaces || site.wants("hook_pattern") || site.wants("hook_attn_scores")) {
        return None;
    }
    let scores = scores();
    site.read("hook_attn_scores", || scores.clone());
    let pattern = site.pass("hook_pattern", softmax(scores, D - 1));
    replaces.then_some(pattern)
}

/// `q, k: [batch, pos, head, d_head]` -> `factor` times their products, `[batch, head, query, key]`,
/// -inf above the diagonal.
pub(crate) fn scores_everywhere<B: Backend>(
    q: Tensor<B, 4>,
    k: Tensor<B, 4>,
    factor: f64,
) -> Tensor<B, 4> {
    let [batch, n_pos, n_heads, _] = q.dims();
    let device = q.device();
    let future: Vec<bool> = (0..n_pos * n_pos).map(|place| place % n_pos > place / n_pos).collect();
    let future = Tensor::<B, 2, Bool>::from_data(TensorData::new(future, [n_pos, n_pos]), &device);
    let future = future.unsqueeze::<4>().expand([batch, n_heads, n_pos, n_pos]);
    // [batch, head, query, d_head] x [batch, head, d_head, key]
    let products = q.swap_dims(1, 2).matmul(k.swap_dims(1, 2).swap_dims(2, 3));
    products.mul_scalar(factor).mask_fill(future, f32::NEG_INFINITY)
}

/// `q: [n_queries, head, d_head]`, `k: [batch, pos, head, d_head]` -> `factor` times their products,
/// `[n_queries, head, key]`, -inf after the query.
pub(crate) fn scores_at<B: Backend>(
    q: Tensor<B, 3>,
    k: Tensor<B, 4>,
    queries: &QueryRows,
    factor: f64,
) -> Tensor<B, 3> {
    let [n_queries, n_heads, _] = q.dims();
    let n_pos = queries.seq_len();
    let device = q.device();
    let future: Vec<bool> = queries
        .places()
        .flat_map(|(_, query_pos)| (0..n_pos).map(move |key_pos| key_pos > query_pos as usize))
        .collect();
    let future = TensorData::new(future, [n_queries, 1, n_pos]);
    let future = Tensor::<B, 3, Bool>::from_data(future, &device);
    let future = future.expand([n_queries, n_heads, n_pos]);
    // [n_queries, head, 1, d_head] x [n_queries, head, d_head, key]
    let keys = of_examples(k, queries).swap_dims(1, 2).swap_dims(2, 3);
    let products = q.unsqueeze_dim::<4>(2).matmul(keys).reshape([n_queries, n_heads, n_pos]);
    products.mul_scalar(factor).mask_fill(future, f32::NEG_INFINITY)
}

/// Each query's example: `[batch, ..]` -> `[n_queries, ..]`
fn of_examples<B: Backend>(x: Tensor<B, 4>, queries: &QueryRows) -> Tensor<B, 4> {
    let device = x.device();
    let examples: Vec<i64> = queries.places().map(|(example, _)| i64::from(example)).collect();
    let n_queries = examples.len();
    let examples = TensorData::new(examples, [n_queries]);
    x.select(0, Tensor::<B, 1, Int>::from_data(examples, &device))
}

fn scale(d_head: usize) -> f64 {
    (d_head as f64).sqrt().recip()
}

/// `[batch, pos, d]` -> `[batch, pos, head, d_head]`
fn split_heads<B: Backend>(x: Tensor<B, 3>, n_heads: usize) -> Tensor<B, 4> {
    let [batch, n_pos, d] = x.dims();
    x.reshape([batch, n_pos, n_heads, d / n_heads])
}

/// `[batch, pos, head, d_head]` -> `[batch, pos, d]`
fn join_heads<B: Backend>(x: Tensor<B, 4>) -> Tensor<B, 3> {
    let [batch, n_pos, n_heads, d_head] = x.dims();
    x.reshape([batch, n_pos, n_heads * d_head])
}

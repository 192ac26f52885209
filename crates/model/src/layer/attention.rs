//! Causal self-attention: everywhere, or for the asked queries only.
//!
//! The fused operations never form an attention pattern. It is computed beside them when a hook
//! reads it, and instead of them when a hook replaces it.

use burn::module::Module;
use burn::tensor::activation::softmax;
use burn::tensor::backend::Backend;
use burn::tensor::{Bool, Int, Tensor, TensorData};
use mnemoscope_engine::{Attend, Ops, QueryRows, RowStats};

use super::{Distances, Linear, factor_if, from_rows, select_rows, to_rows};
use crate::hook::Site;
use crate::params::Source;

#[derive(Module, Debug)]
pub(crate) struct Attention<B: Backend> {
    qkv: Option<Linear<B>>,
    /// Of a block whose values have a map of their own, or none.
    qk: Option<Linear<B>>,
    v: Option<Linear<B>>,
    out: Option<Linear<B>>,
}

impl<B: Backend> Attention<B> {
    pub(crate) fn from_source(source: &mut Source<'_, B>, name: &str) -> Self {
        let mut map = |part: &str| Linear::optional(source, &format!("{name}.{part}"));
        Self { qkv: map("qkv"), qk: map("qk"), v: map("v"), out: map("out") }
    }
}

impl<B: Ops> Attention<B> {
    /// Queries, keys and values of rows, from the part of them that begins at column `from`:
    /// `x: [rows, d]` -> `[rows, 3 d - from]`, `from` at most `d`
    fn project(&self, x: Tensor<B, 2>, from: usize) -> Tensor<B, 2> {
        let d = x.dims()[1];
        if let Some(qkv) = &self.qkv {
            if from == 0 {
                return qkv.apply(x);
            }
            let (weight, bias) = qkv.columns(from..3 * d);
            return <B as Ops>::linear(x, weight, bias);
        }
        let qk = self.qk.as_ref().expect("the layout lists qkv or qk");
        let (weight, bias) = qk.columns(from..2 * d);
        match &self.v {
            Some(v) => {
                let (v_weight, v_bias) = v.columns(0..d);
                let bias = bias.zip(v_bias).map(|(qk, v)| {
                    let (n_members, n) = (v.dims()[0] / d, qk.dims()[0] + v.dims()[0]);
                    let of = |bias: Tensor<B, 1>, width| bias.reshape([n_members, width]);
                    let of_qk = of(qk, 2 * d - from);
                    Tensor::cat(vec![of_qk, of(v, d)], 1).reshape([n])
                });
                <B as Ops>::linear(x, Tensor::cat(vec![weight, v_weight], 1), bias)
            }
            None => Tensor::cat(vec![<B as Ops>::linear(x.clone(), weight, bias), x], 1),
        }
    }

    /// Whether all that becomes of rows here are products: a block whose values are the rows themselves keeps them.
    pub(crate) fn only_multiplies(&self) -> bool {
        self.qkv.is_some() || self.v.is_some()
    }

    /// Whether all that becomes of what [`project`](Self::project) gives are products: nobody reads it, and nothing turns it.
    fn projects_factors(&self, heads: &Heads<'_, B>, site: &Site<'_, B>) -> bool {
        const POINTS: [&str; 5] =
            ["q.hook_out", "k.hook_out", "v.hook_out", "hook_pattern", "hook_attn_scores"];
        self.only_multiplies() && !heads.distances.turns() && site.ignores(&POINTS)
    }

    /// What the fused operation is asked for, of projections that are only `factors` or not.
    fn attend(&self, heads: &Heads<'_, B>, factors: bool) -> Attend {
        let maps = [&self.qkv, &self.qk, &self.v];
        let has_bias = maps.into_iter().flatten().any(|map| map.bias.is_some());
        Attend { factor_grad: factors && !has_bias, ..heads.attend.clone() }
    }

    /// Queries of rows: `[rows, d]`, and the same.
    fn queries(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let d = x.dims()[1];
        let map = self.qkv.as_ref().or(self.qk.as_ref()).expect("the layout lists qkv or qk");
        let (weight, bias) = map.columns(0..d);
        <B as Ops>::linear(x, weight, bias)
    }

    /// What the heads mixed, through the output map if there is one: `[rows, d]`, and the same.
    fn output(&self, z: Tensor<B, 2>) -> Tensor<B, 2> {
        match &self.out {
            Some(out) => out.apply(z),
            None => z,
        }
    }
}

/// How the heads of a block attend in one pass.
pub(crate) struct Heads<'p, B: Backend> {
    /// What the fused operations are asked for. A hook sees the pattern before dropout.
    pub(crate) attend: Attend,
    pub(crate) distances: &'p Distances<B>,
}

impl<B: Ops> Heads<'_, B> {
    /// What products of queries and keys are multiplied by.
    fn factor(&self, d_head: usize) -> f64 {
        ((d_head as f64).sqrt() * self.attend.temperature).recip()
    }
}

impl<B: Ops> Attention<B> {
    /// Every place attends: `x: [batch, pos, d_model]` -> `[batch * pos, d_model]`, and the statistics
    /// of all rows if the heads are asked for them.
    pub(crate) fn forward(
        &self,
        x: Tensor<B, 3>,
        heads: &Heads<'_, B>,
        site: &mut Site<'_, B>,
    ) -> (Tensor<B, 2>, Option<RowStats<B, 3>>) {
        let [batch, n_pos, d] = x.dims();
        let n_heads = heads.attend.n_heads;
        let split = |qkv: &Tensor<B, 2>, which: usize| {
            let part = from_rows(qkv.clone(), n_pos).narrow(2, which * d, d);
            split_heads(part, n_heads)
        };
        let factors = self.projects_factors(heads, site);
        let qkv = factor_if(factors, || self.project(to_rows(x), 0));
        site.read("q.hook_out", || split(&qkv, 0));
        site.read("k.hook_out", || split(&qkv, 1));
        site.read("v.hook_out", || split(&qkv, 2));
        let qkv = heads.distances.place(qkv, 2 * n_heads, || QueryRows::all(batch, n_pos));
        let bias = heads.distances.bias();
        let replaced = pattern_if_watched(site, || {
            let factor = heads.factor(d / n_heads);
            scores_everywhere(split(&qkv, 0), split(&qkv, 1), bias.clone(), factor)
        });
        let (z, stats) = match replaced {
            // [batch, head, query, key] x [batch, head, key, d_head] -> [batch, query, head, d_head]
            Some(pattern) => {
                let values = split(&qkv, 2).swap_dims(1, 2);
                (join_heads(B::matrices(pattern, values).swap_dims(1, 2)), None)
            }
            None => {
                let qkv = from_rows(qkv, n_pos);
                let factor = self.out.is_some() && site.ignores(&["hook_z"]);
                let attend = self.attend(heads, factors);
                attend.split(factor_if(factor, || <B as Ops>::causal_attention(qkv, bias, &attend)))
            }
        };
        site.read("hook_z", || split_heads(z.clone(), n_heads));
        (self.output(to_rows(z)), stats)
    }

    /// Only the queries attend: `x: [batch, pos, d_model]` -> `[n_queries, d_model]`, and the statistics of
    /// their rows if the heads are asked for them.
    pub(crate) fn forward_at(
        &self,
        x: Tensor<B, 3>,
        queries: &QueryRows,
        heads: &Heads<'_, B>,
        site: &mut Site<'_, B>,
    ) -> (Tensor<B, 2>, Option<RowStats<B, 2>>) {
        let [batch, n_pos, d] = x.dims();
        let n_heads = heads.attend.n_heads;
        let d_head = d / n_heads;
        let n_queries = queries.len();
        let q = self.queries(select_rows(x.clone(), queries));
        let factors = self.projects_factors(heads, site);
        let kv = factor_if(factors, || self.project(to_rows(x), d));
        let split = |rows: &Tensor<B, 2>| rows.clone().reshape([n_queries, n_heads, d_head]);
        let part = |kv: &Tensor<B, 2>, which: usize| {
            split_heads(from_rows(kv.clone(), n_pos).narrow(2, which * d, d), n_heads)
        };
        site.read("q.hook_out", || split(&q));
        site.read("k.hook_out", || part(&kv, 0));
        site.read("v.hook_out", || part(&kv, 1));
        let q = heads.distances.place(q, n_heads, || queries.clone());
        let kv = heads.distances.place(kv, n_heads, || QueryRows::all(batch, n_pos));
        let bias = heads.distances.bias();
        let replaced = pattern_if_watched(site, || {
            scores_at(split(&q), part(&kv, 0), bias.clone(), queries, heads.factor(d_head))
        });
        let (z, stats) = match replaced {
            Some(pattern) => (mix_at(pattern, part(&kv, 1), queries), None),
            None => {
                let kv = from_rows(kv, n_pos);
                let attend = self.attend(heads, factors);
                attend.split(<B as Ops>::causal_attention_at(q, kv, bias, queries, &attend))
            }
        };
        site.read("hook_z", || split(&z));
        (self.output(z), stats)
    }
}

impl<B: Ops> Attention<B> {
    /// [`forward_at`](Self::forward_at) in training, which no hook watches, and the statistics of every
    /// row, asked or not.
    ///
    /// A row is measured without what it mixes. Of a row that is not asked only the scores are computed,
    /// forward and backward: its values and its output are not.
    pub(crate) fn measured_at(
        &self,
        x: Tensor<B, 3>,
        queries: &QueryRows,
        heads: &Heads<'_, B>,
    ) -> (Tensor<B, 2>, Option<RowStats<B, 3>>) {
        let [batch, n_pos, d] = x.dims();
        let (n_heads, device) = (heads.attend.n_heads, x.device());
        let everywhere = || QueryRows::all(batch, n_pos);
        // What is projected goes more than one way.
        let attend = Attend { factor_grad: false, ..heads.attend.clone() };
        if let Some(bias) = heads.distances.bias() {
            // The operation on operands of their own knows no bias: the rows are mixed, and dropped.
            let qkv = from_rows(self.project(to_rows(x), 0), n_pos);
            let mixed = <B as Ops>::causal_attention(qkv, Some(bias), &attend);
            let (z, stats) = attend.split(mixed);
            return (self.output(select_rows(z, queries)), stats);
        }
        let rows = to_rows(x);
        let q = heads.distances.place(self.queries(rows.clone()), n_heads, everywhere);
        let kv = heads.distances.place(self.project(rows, d), n_heads, everywhere);
        let (q, kv) = (from_rows(q, n_pos), from_rows(kv, n_pos));
        let measured = Attend { dropout: None, ..attend.clone() };
        let nothing = Tensor::zeros([batch, n_pos, n_heads], &device);
        let keys = kv.clone().narrow(2, 0, d);
        let rows = <B as Ops>::causal_attention_of(q.clone(), keys, nothing, &measured);
        let (_, stats) = measured.split(rows);
        let asked = Attend { stats: false, ..attend };
        let q = select_rows(q, queries);
        let z = <B as Ops>::causal_attention_at(q, kv, None, queries, &asked);
        (self.output(z), stats)
    }
}

/// `pattern: [n_queries, head, key]` over `values: [batch, pos, head, d_head]` -> `[n_queries, d]`
pub(crate) fn mix_at<B: Ops>(
    pattern: Tensor<B, 3>,
    values: Tensor<B, 4>,
    queries: &QueryRows,
) -> Tensor<B, 2> {
    let [_, _, n_heads, d_head] = values.dims();
    // Each query's own example: [n_queries, head, key, d_head].
    let values = of_examples(values, queries).swap_dims(1, 2);
    let mixed = B::matrices(pattern.unsqueeze_dim::<4>(2), values);
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

/// `q, k: [batch, pos, head, d_head]` -> `factor` times their products plus `bias: [head, pos]` by
/// distance, `[batch, head, query, key]`, -inf above the diagonal.
pub(crate) fn scores_everywhere<B: Ops>(
    q: Tensor<B, 4>,
    k: Tensor<B, 4>,
    bias: Option<Tensor<B, 2>>,
    factor: f64,
) -> Tensor<B, 4> {
    let [batch, n_pos, n_heads, _] = q.dims();
    let device = q.device();
    let future: Vec<bool> = (0..n_pos * n_pos).map(|place| place % n_pos > place / n_pos).collect();
    let future = Tensor::<B, 2, Bool>::from_data(TensorData::new(future, [n_pos, n_pos]), &device);
    let future = future.unsqueeze::<4>().expand([batch, n_heads, n_pos, n_pos]);
    // [batch, head, query, d_head] x [batch, head, d_head, key]
    let products = B::matrices(q.swap_dims(1, 2), k.swap_dims(1, 2).swap_dims(2, 3));
    let mut scores = products.mul_scalar(factor);
    if let Some(bias) = bias {
        let bias = by_distance(bias, 0..n_pos).reshape([1, n_heads, n_pos, n_pos]);
        scores = scores + bias;
    }
    scores.mask_fill(future, f32::NEG_INFINITY)
}

/// `q: [n_queries, head, d_head]`, `k: [batch, pos, head, d_head]` -> `factor` times their products
/// plus `bias: [head, pos]` by distance, `[n_queries, head, key]`, -inf after the query.
pub(crate) fn scores_at<B: Ops>(
    q: Tensor<B, 3>,
    k: Tensor<B, 4>,
    bias: Option<Tensor<B, 2>>,
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
    let products = B::matrices(q.unsqueeze_dim::<4>(2), keys);
    let products = products.reshape([n_queries, n_heads, n_pos]);
    let mut scores = products.mul_scalar(factor);
    if let Some(bias) = bias {
        let query_pos = queries.places().map(|(_, query_pos)| query_pos as usize);
        scores = scores + by_distance(bias, query_pos).swap_dims(0, 1);
    }
    scores.mask_fill(future, f32::NEG_INFINITY)
}

/// `bias: [head, pos]`, by how far a key lies before a query at `query_pos` -> `[head, query, key]`;
/// keys after the query get any.
fn by_distance<B: Backend>(
    bias: Tensor<B, 2>,
    query_pos: impl Iterator<Item = usize>,
) -> Tensor<B, 3> {
    let [n_heads, n_pos] = bias.dims();
    let distances: Vec<i64> = query_pos
        .flat_map(|query| (0..n_pos).map(move |key| query.saturating_sub(key) as i64))
        .collect();
    let n = distances.len();
    let distances = TensorData::new(distances, [n]);
    let distances = Tensor::<B, 1, Int>::from_data(distances, &bias.device());
    bias.select(1, distances).reshape([n_heads, n / n_pos, n_pos])
}

/// Each query's example: `[batch, ..]` -> `[n_queries, ..]`
fn of_examples<B: Backend>(x: Tensor<B, 4>, queries: &QueryRows) -> Tensor<B, 4> {
    let device = x.device();
    let examples: Vec<i64> = queries.places().map(|(example, _)| i64::from(example)).collect();
    let n_queries = examples.len();
    let examples = TensorData::new(examples, [n_queries]);
    x.select(0, Tensor::<B, 1, Int>::from_data(examples, &device))
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

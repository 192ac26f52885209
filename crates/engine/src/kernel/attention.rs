//! Causal attention in strips of query rows; the whole score matrix is never stored.
//!
//! One task per example walks the heads. Keys and values of a head are packed once; then up to
//! [`STRIP`] query rows at a time meet the keys at or before the last of them. The backward pass
//! computes the probabilities again from the saved log-sum-exp of each row.
//!
//! Queries may stand at any ascending positions, so attention of all places and attention of chosen
//! places are the same code: a row has the same bits in both.
//!
//! # Source
//!
//! The recomputation is that of Dao et al., "FlashAttention", NeurIPS 2022, without its tiling over
//! keys: a strip of scores fits the cache of a CPU.

use rayon::prelude::*;

use super::gemm::{Lhs, PANEL, Packed, Start, matmul};
use super::math::exp;
use super::simd::{fma, fold, multiversion, sum_of_two};

/// Query rows that are computed together.
const STRIP: usize = 64;

/// A matrix inside a larger one: row `i` is `data[i * stride + offset..]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) stride: usize,
    pub(crate) offset: usize,
}

impl<'a> Part<'a> {
    /// From row `row` on, at columns from `col` on.
    fn at(self, row: usize, col: usize) -> &'a [f32] {
        &self.data[row * self.stride + self.offset + col..]
    }
}

/// The queries, keys and values of one example.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Example<'a> {
    pub(crate) q: Part<'a>,
    pub(crate) k: Part<'a>,
    pub(crate) v: Part<'a>,
    /// The pos of each query, ascending.
    pub(crate) query_pos: &'a [u32],
    pub(crate) n_heads: usize,
    pub(crate) d_head: usize,
}

impl Example<'_> {
    /// Keys that any query sees.
    fn n_keys(&self) -> usize {
        self.query_pos.last().map_or(0, |&pos| pos as usize + 1)
    }

    fn scale(&self) -> f32 {
        (self.d_head as f32).sqrt().recip()
    }

    /// The strips of query rows: first row, rows, keys seen by the last.
    fn strips(&self) -> impl Iterator<Item = (usize, usize, usize)> + '_ {
        (0..self.query_pos.len()).step_by(STRIP).map(|first| {
            let n_rows = STRIP.min(self.query_pos.len() - first);
            (first, n_rows, self.query_pos[first + n_rows - 1] as usize + 1)
        })
    }

    /// Numbers between the rows of a strip. Not a power of two, which would fall on few cache sets.
    fn strip_stride(&self) -> usize {
        self.n_keys().next_multiple_of(PANEL) + PANEL
    }

    /// A strip of `q k^T`, unscaled.
    fn scores(&self, head: usize, strip: (usize, usize, usize), k_t: &Packed<'_>, out: &mut [f32]) {
        let (first, n_rows, n_keys) = strip;
        let q = Lhs::rows(self.q.at(first, head * self.d_head), self.q.stride);
        matmul(q, n_rows, &k_t.first(self.d_head, n_keys), Start::Zero, out, self.strip_stride());
    }
}

/// `y: [queries, d]` of one example, and `lse: [head, queries]` where it is wanted.
pub(crate) fn forward(example: Example<'_>, y: &mut [f32], mut lse: Option<&mut [f32]>) {
    let Example { n_heads, d_head, query_pos, .. } = example;
    let (d, n_keys, stride) = (n_heads * d_head, example.n_keys(), example.strip_stride());
    let mut strip = vec![0.0; STRIP.min(query_pos.len()) * stride];
    for head in 0..n_heads {
        let col = head * d_head;
        let k_t = Packed::transposed(example.k.at(0, col), example.k.stride, d_head, n_keys);
        let v = Packed::rows(example.v.at(0, col), example.v.stride, n_keys, d_head);
        for (first, n_rows, n_seen) in example.strips() {
            example.scores(head, (first, n_rows, n_seen), &k_t, &mut strip);
            let mut sums = [0.0; STRIP];
            for (row, scores) in strip.chunks_mut(stride).take(n_rows).enumerate() {
                let n_own = query_pos[first + row] as usize + 1;
                let (max, sum) = softmax(&mut scores[..n_seen], n_own, example.scale());
                sums[row] = sum;
                if let Some(lse) = &mut lse {
                    lse[head * query_pos.len() + first + row] = max * example.scale() + sum.ln();
                }
            }
            let out = &mut y[first * d + col..];
            let p = Lhs::rows(&strip, stride);
            matmul(p, n_rows, &v.first(n_seen, d_head), Start::Zero, out, d);
            for (row, sum) in sums.iter().enumerate().take(n_rows) {
                let scale = sum.recip();
                out[row * d..][..d_head].iter_mut().for_each(|y| *y *= scale);
            }
        }
    }
}

/// What the forward pass computed for the queries of one example.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trace<'a> {
    pub(crate) y: &'a [f32],
    pub(crate) lse: &'a [f32],
}

/// Where the gradients of one example go; like [`Part`], row `i` begins at `i * stride + offset`.
#[derive(Debug)]
pub(crate) struct Grads<'a> {
    pub(crate) q: PartMut<'a>,
    /// Keys and values, which share their rows; `None` if they share them with the queries too.
    pub(crate) kv: Option<&'a mut [f32]>,
    pub(crate) kv_stride: usize,
    pub(crate) k_offset: usize,
    pub(crate) v_offset: usize,
}

/// A matrix inside a larger one, to be written.
#[derive(Debug)]
pub(crate) struct PartMut<'a> {
    pub(crate) data: &'a mut [f32],
    pub(crate) stride: usize,
}

/// The gradients of one example, added to `grads` from `d_y: [queries, d]`.
pub(crate) fn backward(example: Example<'_>, trace: Trace<'_>, d_y: &[f32], grads: Grads<'_>) {
    let Example { n_heads, d_head, query_pos, .. } = example;
    let (d, n_queries, n_keys) = (n_heads * d_head, query_pos.len(), example.n_keys());
    let stride = example.strip_stride();
    let mut p = vec![0.0; STRIP.min(n_queries) * stride];
    let mut d_s = p.clone();
    // The gradients of one head, dense; they are copied to their places at its end.
    let mut d_q = vec![0.0; n_queries * d_head];
    let (mut d_k, mut d_v) = (vec![0.0; n_keys * d_head], vec![0.0; n_keys * d_head]);
    let mut grads = grads;
    for head in 0..n_heads {
        let col = head * d_head;
        let (k_rows, v_rows) = (example.k.at(0, col), example.v.at(0, col));
        let k_t = Packed::transposed(k_rows, example.k.stride, d_head, n_keys);
        let k = Packed::rows(k_rows, example.k.stride, n_keys, d_head);
        let v_t = Packed::transposed(v_rows, example.v.stride, d_head, n_keys);
        d_k.fill(0.0);
        d_v.fill(0.0);
        for (first, n_rows, n_seen) in example.strips() {
            example.scores(head, (first, n_rows, n_seen), &k_t, &mut p);
            let d_y_rows = &d_y[first * d + col..];
            let v_t = v_t.first(d_head, n_seen);
            matmul(Lhs::rows(d_y_rows, d), n_rows, &v_t, Start::Zero, &mut d_s, stride);
            for row in 0..n_rows {
                let here = (first + row) * d + col;
                let row_grad = RowGrad {
                    n_own: query_pos[first + row] as usize + 1,
                    scale: example.scale(),
                    lse: trace.lse[head * n_queries + first + row],
                    // sum over keys of p * d_p, which is y . d_y
                    mean: dot(&trace.y[here..here + d_head], &d_y[here..here + d_head]),
                };
                let span = row * stride..row * stride + n_seen;
                softmax_backward(&mut p[span.clone()], &mut d_s[span], row_grad);
            }
            let keys = k.first(n_seen, d_head);
            let d_q = &mut d_q[first * d_head..];
            matmul(Lhs::rows(&d_s, stride), n_rows, &keys, Start::Zero, d_q, d_head);
            let q_rows = example.q.at(first, col);
            let q_packed = Packed::rows(q_rows, example.q.stride, n_rows, d_head);
            let d_s_t = Lhs::transposed(&d_s, stride);
            matmul(d_s_t, n_seen, &q_packed, Start::Keep, &mut d_k, d_head);
            let d_y_packed = Packed::rows(d_y_rows, d, n_rows, d_head);
            matmul(Lhs::transposed(&p, stride), n_seen, &d_y_packed, Start::Keep, &mut d_v, d_head);
        }
        grads.place(col, d_head, [&d_q, &d_k, &d_v]);
    }
}

impl Grads<'_> {
    /// Copies the dense gradients of one head to their places.
    fn place(&mut self, col: usize, d_head: usize, [d_q, d_k, d_v]: [&[f32]; 3]) {
        copy_rows(d_q, d_head, &mut self.q.data[col..], self.q.stride);
        let kv = self.kv.as_deref_mut().unwrap_or(self.q.data);
        copy_rows(d_k, d_head, &mut kv[self.k_offset + col..], self.kv_stride);
        copy_rows(d_v, d_head, &mut kv[self.v_offset + col..], self.kv_stride);
    }
}

fn copy_rows(from: &[f32], d: usize, to: &mut [f32], stride: usize) {
    for (from, to) in from.chunks_exact(d).zip(to.chunks_mut(stride)) {
        to[..d].copy_from_slice(from);
    }
}

multiversion! {
    /// `exp(scale * (score - max))` of the first `n_own` scores, 0 for the rest; `(max, sum)`.
    fn softmax(scores: &mut [f32], n_own: usize, scale: f32) -> (f32, f32) = softmax_body;
}

#[inline(always)]
fn softmax_body<const FMA: bool>(scores: &mut [f32], n_own: usize, scale: f32) -> (f32, f32) {
    let (own, rest) = scores.split_at_mut(n_own);
    rest.fill(0.0);
    let mut lanes = [f32::NEG_INFINITY; 16];
    let (blocks, tail) = own.as_chunks::<16>();
    for block in blocks {
        for (max, &score) in lanes.iter_mut().zip(block) {
            *max = if score > *max { score } else { *max };
        }
    }
    for (max, &score) in lanes.iter_mut().zip(tail) {
        *max = if score > *max { score } else { *max };
    }
    let max = lanes.into_iter().fold(f32::NEG_INFINITY, f32::max);
    let mut sums = [0.0; 16];
    let (blocks, tail) = own.as_chunks_mut::<16>();
    for block in blocks {
        for (sum, score) in sums.iter_mut().zip(block) {
            *score = exp::<FMA>((*score - max) * scale);
            *sum += *score;
        }
    }
    for (sum, score) in sums.iter_mut().zip(tail) {
        *score = exp::<FMA>((*score - max) * scale);
        *sum += *score;
    }
    (max, fold(sums))
}

/// What a row of the backward pass needs besides its scores.
#[derive(Clone, Copy)]
struct RowGrad {
    n_own: usize,
    scale: f32,
    lse: f32,
    mean: f32,
}

multiversion! {
    /// `p` from scores to probabilities, `d_s` from their gradient to that of the scores.
    fn softmax_backward(p: &mut [f32], d_s: &mut [f32], row: RowGrad) = softmax_backward_body;
}

#[inline(always)]
fn softmax_backward_body<const FMA: bool>(p: &mut [f32], d_s: &mut [f32], row: RowGrad) {
    let (p, rest) = p.split_at_mut(row.n_own);
    rest.fill(0.0);
    let (d_s, rest) = d_s.split_at_mut(row.n_own);
    rest.fill(0.0);
    for (p, d_s) in p.iter_mut().zip(d_s) {
        *p = exp::<FMA>(fma::<FMA>(*p, row.scale, -row.lse));
        *d_s = *p * (*d_s - row.mean) * row.scale;
    }
}

multiversion! {
    fn dot(a: &[f32], b: &[f32]) -> f32 = dot_body;
}

#[inline(always)]
fn dot_body<const FMA: bool>(a: &[f32], b: &[f32]) -> f32 {
    sum_of_two(a, b, |a, b| a * b)
}

/// `[batch, pos, width]` of the operands of attention over all places.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dims {
    pub(crate) seq_len: usize,
    pub(crate) n_heads: usize,
    pub(crate) d_head: usize,
}

impl Dims {
    fn d(self) -> usize {
        self.n_heads * self.d_head
    }
}

/// Example `idx` of `[batch, pos, 3 d]`.
fn whole<'a>(qkv: &'a [f32], idx: usize, dims: Dims, all_pos: &'a [u32]) -> Example<'a> {
    let (d, Dims { seq_len, n_heads, d_head }) = (dims.d(), dims);
    let data = &qkv[idx * seq_len * 3 * d..][..seq_len * 3 * d];
    let [q, k, v] = [0, d, 2 * d].map(|offset| Part { data, stride: 3 * d, offset });
    Example { q, k, v, query_pos: all_pos, n_heads, d_head }
}

/// `y: [batch, pos, d]` of all places; `lse: [batch, head, pos]` if `save`, else empty.
pub(crate) fn forward_all(qkv: &[f32], dims: Dims, save: bool) -> (Vec<f32>, Vec<f32>) {
    let (d, Dims { seq_len, n_heads, .. }) = (dims.d(), dims);
    let all_pos: Vec<u32> = (0..seq_len as u32).collect();
    let n_places = qkv.len() / (3 * d).max(1);
    let mut y = vec![0.0; n_places * d];
    let mut lse = vec![0.0; if save { n_places * n_heads } else { 0 }];
    let y_examples = y.par_chunks_mut((seq_len * d).max(1)).enumerate();
    if save {
        let lse_examples = lse.par_chunks_mut(n_heads * seq_len);
        y_examples.zip(lse_examples).for_each(|((idx, y), lse)| {
            forward(whole(qkv, idx, dims, &all_pos), y, Some(lse));
        });
    } else {
        y_examples.for_each(|(idx, y)| forward(whole(qkv, idx, dims, &all_pos), y, None));
    }
    (y, lse)
}

/// The gradient of `qkv` of all places.
pub(crate) fn backward_all(qkv: &[f32], dims: Dims, trace: Trace<'_>, d_y: &[f32]) -> Vec<f32> {
    let (d, Dims { seq_len, n_heads, .. }) = (dims.d(), dims);
    let all_pos: Vec<u32> = (0..seq_len as u32).collect();
    let mut d_qkv = vec![0.0; qkv.len()];
    d_qkv.par_chunks_mut((seq_len * 3 * d).max(1)).enumerate().for_each(|(idx, d_qkv)| {
        let rows = idx * seq_len * d..(idx + 1) * seq_len * d;
        let lse = &trace.lse[idx * n_heads * seq_len..][..n_heads * seq_len];
        let grads = Grads {
            q: PartMut { data: d_qkv, stride: 3 * d },
            kv: None,
            kv_stride: 3 * d,
            k_offset: d,
            v_offset: 2 * d,
        };
        let trace = Trace { y: &trace.y[rows.clone()], lse };
        backward(whole(qkv, idx, dims, &all_pos), trace, &d_y[rows], grads);
    });
    d_qkv
}

/// Chosen queries: `q: [queries, d]`, `kv: [batch, pos, 2 d]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chosen<'a> {
    pub(crate) q: &'a [f32],
    pub(crate) kv: &'a [f32],
    /// The pos of every query.
    pub(crate) query_pos: &'a [u32],
    /// The queries of every example.
    pub(crate) ranges: &'a [std::ops::Range<usize>],
    pub(crate) dims: Dims,
}

impl Chosen<'_> {
    fn example(&self, idx: usize) -> Example<'_> {
        let (d, Dims { seq_len, n_heads, d_head }) = (self.dims.d(), self.dims);
        let range = self.ranges[idx].clone();
        let data = &self.kv[idx * seq_len * 2 * d..][..seq_len * 2 * d];
        Example {
            q: Part { data: &self.q[range.start * d..range.end * d], stride: d, offset: 0 },
            k: Part { data, stride: 2 * d, offset: 0 },
            v: Part { data, stride: 2 * d, offset: d },
            query_pos: &self.query_pos[range],
            n_heads,
            d_head,
        }
    }

    /// `y: [queries, d]`; `lse`, `[head, queries]` of each example behind each other.
    pub(crate) fn forward(&self) -> (Vec<f32>, Vec<f32>) {
        let (d, n_heads) = (self.dims.d(), self.dims.n_heads);
        let mut y = vec![0.0; self.q.len()];
        let mut lse = vec![0.0; self.query_pos.len() * n_heads];
        let tasks: Vec<_> = cut(&mut y, self.ranges, d)
            .into_iter()
            .zip(cut(&mut lse, self.ranges, n_heads))
            .enumerate()
            .filter(|(idx, _)| !self.ranges[*idx].is_empty())
            .collect();
        tasks.into_par_iter().for_each(|(idx, (y, lse))| forward(self.example(idx), y, Some(lse)));
        (y, lse)
    }

    /// The gradients of `q` and `kv`.
    pub(crate) fn backward(&self, trace: Trace<'_>, d_y: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let (d, Dims { seq_len, n_heads, .. }) = (self.dims.d(), self.dims);
        let mut d_q = vec![0.0; self.q.len()];
        let mut d_kv = vec![0.0; self.kv.len()];
        let tasks: Vec<_> = cut(&mut d_q, self.ranges, d)
            .into_iter()
            .zip(d_kv.chunks_mut((seq_len * 2 * d).max(1)))
            .enumerate()
            .filter(|(idx, _)| !self.ranges[*idx].is_empty())
            .collect();
        tasks.into_par_iter().for_each(|(idx, (d_q, d_kv))| {
            let range = self.ranges[idx].clone();
            let grads = Grads {
                q: PartMut { data: d_q, stride: d },
                kv: Some(d_kv),
                kv_stride: 2 * d,
                k_offset: 0,
                v_offset: d,
            };
            let lse = &trace.lse[range.start * n_heads..range.end * n_heads];
            let rows = range.start * d..range.end * d;
            let trace = Trace { y: &trace.y[rows.clone()], lse };
            backward(self.example(idx), trace, &d_y[rows], grads);
        });
        (d_q, d_kv)
    }
}

/// The rows of every range, `width` numbers each, side by side.
fn cut<'a>(
    mut data: &'a mut [f32],
    ranges: &[std::ops::Range<usize>],
    width: usize,
) -> Vec<&'a mut [f32]> {
    ranges
        .iter()
        .map(|range| {
            let (head, tail) = std::mem::take(&mut data).split_at_mut(range.len() * width);
            data = tail;
            head
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_close, check_grad, check_same_bits, numbers};

    /// One head of one example by its formulas, in `f64`: `q`, `k`, `v` of `n` places behind each
    /// other, `[n, d]` each.
    fn scalar(qkv: &[f64], n: usize, d: usize) -> (Vec<f64>, Vec<Vec<f64>>) {
        let row = |part: usize, i: usize| &qkv[(part * n + i) * d..][..d];
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let (mut y, mut pattern) = (vec![0.0; n * d], Vec::new());
        for i in 0..n {
            let scores = (0..=i).map(|j| dot(row(0, i), row(1, j)) / (d as f64).sqrt());
            let exps: Vec<f64> = scores.map(f64::exp).collect();
            let sum: f64 = exps.iter().sum();
            let p: Vec<f64> = exps.iter().map(|e| e / sum).collect();
            for (j, p) in p.iter().enumerate() {
                (0..d).for_each(|c| y[i * d + c] += p * row(2, j)[c]);
            }
            pattern.push(p);
        }
        (y, pattern)
    }

    fn scalar_backward(qkv: &[f64], d_y: &[f64], n: usize, d: usize) -> Vec<f64> {
        let (_, pattern) = scalar(qkv, n, d);
        let mut grad = vec![0.0; qkv.len()];
        for i in 0..n {
            let d_p: Vec<f64> = (0..=i)
                .map(|j| (0..d).map(|c| d_y[i * d + c] * qkv[(2 * n + j) * d + c]).sum())
                .collect();
            let mean: f64 = d_p.iter().zip(&pattern[i]).map(|(d_p, p)| d_p * p).sum();
            for j in 0..=i {
                let p = pattern[i][j];
                let d_s = p * (d_p[j] - mean) / (d as f64).sqrt();
                for c in 0..d {
                    grad[(2 * n + j) * d + c] += p * d_y[i * d + c];
                    grad[i * d + c] += d_s * qkv[(n + j) * d + c];
                    grad[(n + j) * d + c] += d_s * qkv[i * d + c];
                }
            }
        }
        grad
    }

    #[test]
    fn the_scalar_gradient_agrees_with_central_differences() {
        let (n, d) = (5, 3);
        let x: Vec<f64> = numbers(1, 3 * n * d).iter().map(|&x| f64::from(x)).collect();
        check_grad(&x, |x| scalar(x, n, d).0, |x, d_y| scalar_backward(x, d_y, n, d));
    }

    /// From `[3, n, d]` to `[n, 3 d]`.
    fn interleave(x: &[f64], n: usize, d: usize) -> Vec<f32> {
        (0..x.len()).map(|at| x[(at / d % 3 * n + at / (3 * d)) * d + at % d] as f32).collect()
    }

    #[test]
    fn kernel_and_scalar_agree_on_odd_shapes() {
        for (n, d) in [(1, 16), (65, 24), (511, 16), (130, 64), (20, 5)] {
            let x: Vec<f64> = numbers(1, 3 * n * d).iter().map(|&x| f64::from(x) * 2.0).collect();
            let d_y = numbers(2, n * d);
            let d_y_wide: Vec<f64> = d_y.iter().map(|&x| f64::from(x)).collect();
            let qkv = interleave(&x, n, d);
            let dims = Dims { seq_len: n, n_heads: 1, d_head: d };
            let (y, lse) = forward_all(&qkv, dims, true);
            let expected: Vec<f32> = scalar(&x, n, d).0.iter().map(|&y| y as f32).collect();
            check_close("y", &y, &expected, 2e-6);
            let got = backward_all(&qkv, dims, Trace { y: &y, lse: &lse }, &d_y);
            let expected = interleave(&scalar_backward(&x, &d_y_wide, n, d), n, d);
            check_close("d_qkv", &got, &expected, 5e-6);
        }
    }

    #[test]
    fn a_chosen_query_has_the_bits_it_has_among_all() {
        let dims = Dims { seq_len: 150, n_heads: 2, d_head: 24 };
        let d = dims.d();
        let qkv = numbers(1, 150 * 3 * d);
        let (all, _) = forward_all(&qkv, dims, false);
        let query_pos = [0_u32, 3, 64, 65, 149];
        let part = |row: usize, cols: std::ops::Range<usize>| {
            qkv[row * 3 * d + cols.start..row * 3 * d + cols.end].to_vec()
        };
        let q: Vec<f32> = query_pos.iter().flat_map(|&pos| part(pos as usize, 0..d)).collect();
        let kv: Vec<f32> = (0..150).flat_map(|pos| part(pos, d..3 * d)).collect();
        let ranges = vec![std::ops::Range { start: 0, end: query_pos.len() }];
        let chosen = Chosen { q: &q, kv: &kv, query_pos: &query_pos, ranges: &ranges, dims };
        let (some, _) = chosen.forward();
        for (i, pos) in query_pos.into_iter().enumerate() {
            let expected = &all[pos as usize * d..][..d];
            check_same_bits("y", &some[i * d..][..d], expected);
        }
    }
}

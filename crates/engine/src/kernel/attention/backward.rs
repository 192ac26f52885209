//! The gradients of one example.

use std::ops::{Deref, DerefMut};

use super::row::RowGrad;
use super::{Dims, Example, STRIP, Scores, Strip, Trace};
use crate::kernel::gemm::{Lhs, Start, matmul};
use crate::kernel::packed::Packed;
use crate::kernel::scratch::Scratch;
use crate::kernel::simd::{multiversion, sum_of_two};

/// Where the gradients of one example go. Rows lie behind each other.
#[derive(Debug)]
pub(super) enum Grads<'a> {
    /// Of a place: query, key, value.
    Together(&'a mut [f32]),
    /// Of a query, and of a place: key, value.
    Chosen { q: &'a mut [f32], kv: &'a mut [f32] },
    /// Of queries, keys and values, each by itself where it is wanted.
    Apart([Option<&'a mut [f32]>; 3]),
    /// Of a table of scores, to be added to, and of values, each where it is wanted.
    LookedUp { table: Option<&'a mut [f32]>, v: Option<&'a mut [f32]> },
}

/// The gradients of one example, written to `grads` from `d_y: [queries, width]`.
///
/// # Returns
///
/// The gradient of the reversed table of biases; empty without one.
pub(super) fn backward(
    example: Example<'_>,
    trace: Trace<'_>,
    d_y: &[f32],
    grads: Grads<'_>,
) -> Vec<f32> {
    example.form.precision.within(|| backward_heads(example, trace, d_y, grads))
}

fn backward_heads(
    example: Example<'_>,
    trace: Trace<'_>,
    d_y: &[f32],
    mut grads: Grads<'_>,
) -> Vec<f32> {
    let (form, n_queries, n_keys) = (example.form, example.query_pos.len(), example.n_keys());
    let (Dims { n_heads, d_head, d_value, seq_len }, width) = (form.dims, form.width());
    let stride = example.strip_stride();
    let n_strip = STRIP.min(n_queries) * stride;
    let (mut p, mut d_s) = (Scratch::new(n_strip), Scratch::new(n_strip));
    let (mut factors, mut d_bias) = (example.factors(), vec![0.0; form.n_bias()]);
    let [q_wanted, k_wanted, v_wanted] = grads.wanted();
    // The gradients of one head, dense; of one among many they are copied to their places at its end.
    let [d_q, d_k, d_v] = grads.take_dense(n_heads);
    let mut d_q = Room::new(d_q, q_wanted, n_queries * d_head);
    let mut d_k = Room::new(d_k, k_wanted, n_keys * d_head);
    let mut d_v = Room::new(d_v, v_wanted, n_keys * d_value);
    for head in 0..n_heads {
        let (v_col, scores) = (head * d_value, example.scores(head));
        let v_t = Packed::transposed(example.v.at(0, v_col), example.v.stride, d_value, n_keys);
        let k_rows = match &scores {
            Scores::Products { k, .. } if q_wanted => {
                Some(Packed::rows_once(k.at(0, 0), k.stride, n_keys, d_head))
            }
            _ => None,
        };
        d_k.clear();
        d_v.clear();
        for strip in example.strips() {
            let (first, n_rows) = (strip.first, strip.n_rows());
            let d_y_rows = &d_y[first * width + v_col..];
            example.strip_scores(strip, &scores, &mut p);
            example.products(strip, Lhs::rows(d_y_rows, width), &v_t, &mut d_s);
            for row in 0..n_rows {
                let span = row * stride..row * stride + strip.width(row);
                let (row, grad) = example.row_grad(head, first + row, trace, d_y);
                let d_bias = match form.bias {
                    Some(_) => &mut d_bias[(head + 1) * seq_len - row.n_own..][..row.n_own],
                    None => &mut [],
                };
                let strips = (&mut p[span.clone()], &mut d_s[span]);
                row.backward(strips, grad, &mut factors, d_bias);
            }
            if let Some(k_rows) = &k_rows {
                example.mix(strip, &d_s, k_rows, (&mut d_q[first * d_head..], d_head));
            }
            match (&scores, &mut grads) {
                (Scores::Products { q, .. }, _) if k_wanted => {
                    let q = Packed::rows_once(q.at(first, 0), q.stride, n_rows, d_head);
                    add_to_keys(strip, (&d_s, stride), &q, &mut d_k);
                }
                (Scores::LookedUp(symbols), Grads::LookedUp { table: Some(table), .. }) => {
                    symbols.add_to_table(strip, (&d_s, stride), table);
                }
                _ => {}
            }
            if v_wanted {
                let d_y = Packed::rows_once(d_y_rows, width, n_rows, d_value);
                add_to_keys(strip, (&p, stride), &d_y, &mut d_v);
            }
        }
        grads.place(form.dims, head, [&d_q, &d_k, &d_v]);
    }
    d_bias
}

/// Adds to every key, or value, the rows that see it, each times its entry of the strip.
fn add_to_keys(
    strip: Strip<'_>,
    (entries, stride): (&[f32], usize),
    rows: &Packed<'_>,
    d_keys: &mut [f32],
) {
    let d = rows.n_cols();
    for (keys, first_row) in strip.key_blocks() {
        let entries = Lhs::transposed(&entries[first_row * stride + keys.start..], stride);
        let d_keys = &mut d_keys[keys.start * d..];
        matmul(entries, keys.len(), &rows.skip_rows(first_row), Start::Keep, d_keys, d);
    }
}

impl<'a> Example<'a> {
    /// One query, and what its backward pass takes from the forward pass and from `d_y`.
    fn row_grad(
        &self,
        head: usize,
        query_idx: usize,
        trace: Trace<'_>,
        d_y: &[f32],
    ) -> (super::Row<'a>, RowGrad) {
        let (form, n_queries) = (self.form, self.query_pos.len());
        let here = query_idx * form.width();
        let (y, d_y) = (&trace.y[here..], &d_y[here..]);
        let own = head * form.dims.d_value..(head + 1) * form.dims.d_value;
        let stat = |stat: usize| {
            let col = form.stat_col(stat, head);
            (y[col], d_y[col])
        };
        let grad = RowGrad {
            lse: trace.lse[head * n_queries + query_idx],
            mean: dot(&y[own.clone()], &d_y[own]),
            stats: form.stats.then(|| [stat(0), stat(1), stat(2)]),
        };
        (self.row(head, query_idx), grad)
    }
}

/// Where the gradients of one head are added up.
enum Room<'a> {
    Own(Scratch),
    /// Their place, which holds zeros.
    Given(&'a mut [f32]),
}

impl<'a> Room<'a> {
    fn new(given: Option<&'a mut [f32]>, wanted: bool, len: usize) -> Self {
        given.map_or_else(|| Self::Own(Scratch::new(if wanted { len } else { 0 })), Self::Given)
    }

    fn clear(&mut self) {
        if let Self::Own(scratch) = self {
            scratch.fill(0.0);
        }
    }
}

impl Deref for Room<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match self {
            Self::Own(scratch) => scratch,
            Self::Given(place) => place,
        }
    }
}

impl DerefMut for Room<'_> {
    fn deref_mut(&mut self) -> &mut [f32] {
        match self {
            Self::Own(scratch) => scratch,
            Self::Given(place) => place,
        }
    }
}

impl<'a> Grads<'a> {
    /// The places of an only head, where its gradients lie as densely as they are added up.
    fn take_dense(&mut self, n_heads: usize) -> [Option<&'a mut [f32]>; 3] {
        match self {
            Self::Apart(each) if n_heads == 1 => each.each_mut().map(Option::take),
            Self::LookedUp { v, .. } if n_heads == 1 => [None, None, v.take()],
            _ => [None, None, None],
        }
    }

    /// Whether the gradients of queries, keys and values are wanted.
    fn wanted(&self) -> [bool; 3] {
        match self {
            Self::Together(_) | Self::Chosen { .. } => [true; 3],
            Self::Apart(each) => each.each_ref().map(Option::is_some),
            Self::LookedUp { v, .. } => [false, false, v.is_some()],
        }
    }

    /// Copies the dense gradients of one head to their places.
    fn place(&mut self, dims: Dims, head: usize, dense: [&[f32]; 3]) {
        let (d, d_head) = (dims.d(), dims.d_head);
        let col = head * d_head;
        let [d_q, d_k, d_v] = dense;
        match self {
            Self::Together(qkv) => {
                for (part, dense) in dense.into_iter().enumerate() {
                    copy_rows(dense, d_head, &mut qkv[part * d + col..], 3 * d);
                }
            }
            Self::Chosen { q, kv } => {
                copy_rows(d_q, d_head, &mut q[col..], d);
                copy_rows(d_k, d_head, &mut kv[col..], 2 * d);
                copy_rows(d_v, d_head, &mut kv[d + col..], 2 * d);
            }
            Self::LookedUp { v, .. } => {
                if let Some(v) = v {
                    copy_rows(d_v, dims.d_value, v, dims.d_value);
                }
            }
            Self::Apart(each) => {
                let widths = [d_head, d_head, dims.d_value];
                for ((dense, to), width) in dense.into_iter().zip(each).zip(widths) {
                    if let Some(to) = to {
                        copy_rows(dense, width, &mut to[head * width..], dims.n_heads * width);
                    }
                }
            }
        }
    }
}

fn copy_rows(from: &[f32], d: usize, to: &mut [f32], stride: usize) {
    for (from, to) in from.chunks_exact(d).zip(to.chunks_mut(stride)) {
        to[..d].copy_from_slice(from);
    }
}

multiversion! {
    fn dot(a: &[f32], b: &[f32]) -> f32 = dot_body;
}

#[inline(always)]
fn dot_body<const FMA: bool>(a: &[f32], b: &[f32]) -> f32 {
    sum_of_two(a, b, |a, b| a * b)
}

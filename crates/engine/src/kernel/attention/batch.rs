//! Attention of a batch: one task an example.

use std::ops::Range;

use rayon::prelude::*;

use super::backward::{Grads, backward};
use super::{Dims, Example, Form, Part, Source, Trace, forward, n_seen, reversed};
use crate::QueryRows;
use crate::kernel::fresh::{Chunk, Fresh};
use crate::kernel::rows::in_order;

/// Example `idx` of `[batch, pos, 3 d]`.
fn whole<'a>(qkv: &'a [f32], idx: usize, form: Form<'a>, all_pos: &'a [u32]) -> Example<'a> {
    let (d, seq_len) = (form.dims.d(), form.dims.seq_len);
    let data = &qkv[idx * seq_len * 3 * d..][..seq_len * 3 * d];
    let [q, k, v] = [0, d, 2 * d].map(|offset| Part { data, stride: 3 * d, offset });
    Example { idx, source: Source::Products { q, k, kept: None }, v, query_pos: all_pos, form }
}

/// The gradient of a table of biases from those of the examples that have one, first to last.
fn sum_of_bias(parts: &[Vec<f32>], form: Form<'_>) -> Option<Vec<f32>> {
    form.bias.map(|_| reversed(&in_order(parts, form.n_bias()), form.dims.seq_len))
}

/// `y: [batch, pos, width]` of all places; `lse: [batch, head, pos]` if `save`, else empty.
pub(crate) fn forward_all(qkv: &[f32], form: Form<'_>, save: bool) -> (Vec<f32>, Vec<f32>) {
    let (d, Dims { seq_len, n_heads, .. }) = (form.dims.d(), form.dims);
    let all_pos: Vec<u32> = (0..seq_len as u32).collect();
    let n_places = qkv.len() / (3 * d).max(1);
    let mut y = Fresh::new(n_places * form.width());
    let mut lse = vec![0.0; if save { n_places * n_heads } else { 0 }];
    let y_examples = y.par_chunks_mut(seq_len * form.width()).enumerate();
    if save {
        let lse_examples = lse.par_chunks_mut(n_heads * seq_len);
        y_examples.zip(lse_examples).for_each(|((idx, y), lse)| {
            forward(whole(qkv, idx, form, &all_pos), y, Some(lse), None);
        });
    } else {
        y_examples.for_each(|(idx, y)| forward(whole(qkv, idx, form, &all_pos), y, None, None));
    }
    (y.finish(), lse)
}

/// The gradients of `qkv` of all places, and of the bias if there is one.
pub(crate) fn backward_all(
    qkv: &[f32],
    form: Form<'_>,
    trace: Trace<'_>,
    d_y: &[f32],
) -> (Vec<f32>, Option<Vec<f32>>) {
    let (d, Dims { seq_len, n_heads, .. }) = (form.dims.d(), form.dims);
    let all_pos: Vec<u32> = (0..seq_len as u32).collect();
    let mut d_qkv = Fresh::new(qkv.len());
    let d_examples = d_qkv.par_chunks_mut(seq_len * 3 * d).enumerate();
    let d_bias: Vec<Vec<f32>> = d_examples
        .map(|(idx, d_qkv)| {
            let width = form.width();
            let rows = idx * seq_len * width..(idx + 1) * seq_len * width;
            let lse = &trace.lse[idx * n_heads * seq_len..][..n_heads * seq_len];
            let trace = Trace { y: &trace.y[rows.clone()], lse };
            let grads = Grads::Together(d_qkv);
            backward(whole(qkv, idx, form, &all_pos), trace, &d_y[rows], grads)
        })
        .collect();
    (d_qkv.finish(), sum_of_bias(&d_bias, form))
}

/// Where the queries of a batch stand.
#[derive(Debug)]
pub(crate) struct Places {
    /// The pos of every query.
    query_pos: Vec<u32>,
    /// The queries of every example.
    ranges: Vec<Range<usize>>,
}

impl Places {
    /// Every place of `batch` examples.
    pub(crate) fn all(batch: usize, seq_len: usize) -> Self {
        Self {
            query_pos: (0..batch).flat_map(|_| 0..seq_len as u32).collect(),
            ranges: (0..batch).map(|idx| idx * seq_len..(idx + 1) * seq_len).collect(),
        }
    }

    /// These places of `batch` examples.
    #[track_caller]
    pub(crate) fn of(rows: &QueryRows, batch: usize) -> Self {
        let query_pos = rows.places().map(|(_, pos)| pos).collect();
        Self { query_pos, ranges: rows.by_example(batch) }
    }
}

/// Queries, keys and values by themselves: `q: [queries, d]`, `k: [batch, pos, d]`, and of their own
/// width the values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Apart<'a> {
    pub(crate) qkv: [&'a [f32]; 3],
    pub(crate) places: &'a Places,
    pub(crate) form: Form<'a>,
}

impl<'a> Apart<'a> {
    /// Numbers of a place.
    fn widths(&self) -> [usize; 3] {
        let dims = self.form.dims;
        [dims.d(), dims.d(), dims.d_values()]
    }

    /// Whether the forward pass keeps the products of queries and keys for the backward pass: where those of
    /// a query are no more numbers, on average, than the query itself, to read them again costs less than to
    /// form them again, and takes no more memory than any other operand. Of several heads it keeps none.
    fn keeps_products(&self) -> bool {
        let Dims { seq_len, n_heads, d_head, .. } = self.form.dims;
        n_heads == 1 && seq_len <= 2 * d_head
    }

    /// How many products of queries and keys every example has.
    fn n_products(&self) -> impl Iterator<Item = usize> + use<'a> {
        let places = self.places;
        places.ranges.iter().map(|range| n_seen(&places.query_pos[range.clone()]))
    }

    fn example(&self, idx: usize, kept: Option<&'a [f32]>) -> Example<'a> {
        let (range, seq_len) = (self.places.ranges[idx].clone(), self.form.dims.seq_len);
        let part = |data: &'a [f32], stride: usize, first_row: usize| Part {
            // To the end of all: what is read where it lies may begin to read the next row.
            data: &data[first_row * stride..],
            stride,
            offset: 0,
        };
        let ([q, k, v], [d, _, d_values]) = (self.qkv, self.widths());
        let first_key = idx * seq_len;
        let (q, k) = (part(q, d, range.start), part(k, d, first_key));
        Example {
            idx,
            source: Source::Products { q, k, kept },
            v: part(v, d_values, first_key),
            query_pos: &self.places.query_pos[range],
            form: self.form,
        }
    }

    /// `y: [queries, width]`; `lse`, `[head, queries]` of each example behind each other; and what the backward
    /// pass need not form again, if `keep` and if that pays.
    pub(crate) fn forward(&self, keep: bool) -> (Vec<f32>, Vec<f32>, Option<Vec<f32>>) {
        let (width, n_heads) = (self.form.width(), self.form.dims.n_heads);
        let Places { query_pos, ranges } = self.places;
        let mut y = Fresh::new(query_pos.len() * width);
        let mut lse = vec![0.0; query_pos.len() * n_heads];
        let mut kept = (keep && self.keeps_products()).then(|| Fresh::new(self.n_products().sum()));
        let y_examples = y.cut(ranges.iter().map(|range| range.len() * width));
        let mut kept_examples = kept.as_mut().map(|kept| kept.cut(self.n_products()));
        let tasks: Vec<_> = y_examples
            .zip(cut(&mut lse, ranges, n_heads))
            .map(|(y, lse)| (y, lse, next(&mut kept_examples)))
            .enumerate()
            .collect();
        drop(kept_examples);
        tasks.into_par_iter().for_each(|(idx, (y, lse, kept))| {
            let kept = kept.map(Chunk::writer);
            forward(self.example(idx, None), y.cleared(), Some(lse), kept);
        });
        (y.finish(), lse, kept.map(Fresh::finish))
    }

    /// The gradients of queries, keys and values that are wanted.
    ///
    /// # Arguments
    ///
    /// - `kept`: what the forward pass kept.
    pub(crate) fn backward(
        &self,
        trace: Trace<'_>,
        kept: Option<&[f32]>,
        d_y: &[f32],
        wanted: [bool; 3],
    ) -> [Option<Vec<f32>>; 3] {
        let (Dims { seq_len, n_heads, .. }, width) = (self.form.dims, self.form.width());
        let (ranges, [d, _, d_values]) = (&self.places.ranges, self.widths());
        let mut d_qkv = [0, 1, 2].map(|i| wanted[i].then(|| Fresh::new(self.qkv[i].len())));
        // The gradients of an example, where they are wanted.
        let [d_q, d_k, d_v] = d_qkv.each_mut().map(Option::as_mut);
        let mut d_q = d_q.map(|d_q| d_q.cut(ranges.iter().map(|range| range.len() * d)));
        let mut d_k = d_k.map(|d_k| d_k.cut(ranges.iter().map(|_| seq_len * d)));
        let mut d_v = d_v.map(|d_v| d_v.cut(ranges.iter().map(|_| seq_len * d_values)));
        let mut rest = kept;
        let mut kept_of = |n: usize| rest.as_mut().map(|rest| rest.split_off(..n).expect("kept"));
        let tasks: Vec<_> = self
            .n_products()
            .map(|n| ([next(&mut d_q), next(&mut d_k), next(&mut d_v)], kept_of(n)))
            .collect();
        drop((d_q, d_k, d_v));
        tasks.into_par_iter().enumerate().for_each(|(idx, (grads, kept))| {
            let range = ranges[idx].clone();
            let rows = range.start * width..range.end * width;
            let lse = &trace.lse[range.start * n_heads..range.end * n_heads];
            let trace = Trace { y: &trace.y[rows.clone()], lse };
            let d_y = &d_y[rows.start..];
            let grads = Grads::Apart(grads.map(|grad| grad.map(Chunk::cleared)));
            if range.is_empty() {
                return;
            }
            backward(self.example(idx, kept), trace, d_y, grads);
        });
        d_qkv.map(|part| part.map(Fresh::finish))
    }
}

/// The next of some chunks, if there are any.
fn next<'a>(chunks: &mut Option<impl Iterator<Item = Chunk<'a>>>) -> Option<Chunk<'a>> {
    chunks.as_mut().and_then(Iterator::next)
}

/// Chosen queries: `q: [queries, d]`, `kv: [batch, pos, 2 d]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chosen<'a> {
    pub(crate) q: &'a [f32],
    pub(crate) kv: &'a [f32],
    pub(crate) places: &'a Places,
    pub(crate) form: Form<'a>,
}

impl Chosen<'_> {
    fn example(&self, idx: usize) -> Example<'_> {
        let (d, seq_len) = (self.form.dims.d(), self.form.dims.seq_len);
        let range = self.places.ranges[idx].clone();
        let data = &self.kv[idx * seq_len * 2 * d..][..seq_len * 2 * d];
        let q = Part { data: &self.q[range.start * d..range.end * d], stride: d, offset: 0 };
        let k = Part { data, stride: 2 * d, offset: 0 };
        Example {
            idx,
            source: Source::Products { q, k, kept: None },
            v: Part { data, stride: 2 * d, offset: d },
            query_pos: &self.places.query_pos[range],
            form: self.form,
        }
    }

    /// `y: [queries, width]`; `lse`, `[head, queries]` of each example behind each other.
    pub(crate) fn forward(&self) -> (Vec<f32>, Vec<f32>) {
        let (width, n_heads) = (self.form.width(), self.form.dims.n_heads);
        let mut y = vec![0.0; self.places.query_pos.len() * width];
        let mut lse = vec![0.0; self.places.query_pos.len() * n_heads];
        let tasks: Vec<_> = cut(&mut y, &self.places.ranges, width)
            .into_iter()
            .zip(cut(&mut lse, &self.places.ranges, n_heads))
            .enumerate()
            .filter(|(idx, _)| !self.places.ranges[*idx].is_empty())
            .collect();
        tasks
            .into_par_iter()
            .for_each(|(idx, (y, lse))| forward(self.example(idx), y, Some(lse), None));
        (y, lse)
    }

    /// The gradients of `q`, `kv`, and the bias if there is one.
    pub(crate) fn backward(
        &self,
        trace: Trace<'_>,
        d_y: &[f32],
    ) -> (Vec<f32>, Vec<f32>, Option<Vec<f32>>) {
        let (d, Dims { seq_len, n_heads, .. }) = (self.form.dims.d(), self.form.dims);
        let mut d_q = vec![0.0; self.q.len()];
        let mut d_kv = vec![0.0; self.kv.len()];
        let tasks: Vec<_> = cut(&mut d_q, &self.places.ranges, d)
            .into_iter()
            .zip(d_kv.chunks_mut((seq_len * 2 * d).max(1)))
            .enumerate()
            .filter(|(idx, _)| !self.places.ranges[*idx].is_empty())
            .collect();
        let task = |(idx, (d_q, d_kv)): (usize, (_, _))| {
            let range = self.places.ranges[idx].clone();
            let grads = Grads::Chosen { q: d_q, kv: d_kv };
            let lse = &trace.lse[range.start * n_heads..range.end * n_heads];
            let rows = range.start * self.form.width()..range.end * self.form.width();
            let trace = Trace { y: &trace.y[rows.clone()], lse };
            backward(self.example(idx), trace, &d_y[rows], grads)
        };
        let d_bias: Vec<Vec<f32>> = tasks.into_par_iter().map(task).collect();
        (d_q, d_kv, sum_of_bias(&d_bias, self.form))
    }
}

/// The rows of every range, `width` numbers each, side by side.
fn cut<'a>(mut data: &'a mut [f32], ranges: &[Range<usize>], width: usize) -> Vec<&'a mut [f32]> {
    ranges
        .iter()
        .map(|range| {
            let (head, tail) = std::mem::take(&mut data).split_at_mut(range.len() * width);
            data = tail;
            head
        })
        .collect()
}

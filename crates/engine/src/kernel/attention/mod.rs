//! Causal attention in strips of query rows; the whole score matrix is never stored.
//!
//! One task per example walks the heads. Keys and values of a head are packed once; then up to
//! [`STRIP`] query rows at a time meet the keys at or before the last of them. The backward pass
//! computes the probabilities again from the saved log-sum-exp of each row.
//!
//! Queries may stand at any ascending positions, so attention of all places and attention of chosen
//! places are the same code: a row has the same bits in both.
//!
//! A bias, dropout and statistics are passes over one row of a strip while it is in the cache
//! ([`row`]); a row that needs none of them does not meet them.
//!
//! # Source
//!
//! The recomputation is that of Dao et al., "FlashAttention", NeurIPS 2022, without its tiling over
//! keys: a strip of scores fits the cache of a CPU.

mod backward;
mod batch;
mod looked_up;
mod row;

use std::ops::Range;

use super::fresh::Writer;
use super::gemm::{CHAIN, Lhs, Start, matmul};
use super::packed::{PANEL, Packed};
use super::scratch::Scratch;
use crate::device::Precision;
use crate::{Attend, Dropout};
use looked_up::Symbols;
use row::Row;

pub(crate) use looked_up::{LookedUp, Table};

pub(crate) use batch::{Apart, Chosen, Places, backward_all, forward_all};

/// Query rows that are computed together.
const STRIP: usize = 64;

/// Query rows that meet the same keys, and keys that meet the same query rows: what lies further from
/// the diagonal is not computed.
const BLOCK: usize = PANEL;

/// `[batch, pos, width]` of the operands of attention over all places.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dims {
    pub(crate) seq_len: usize,
    pub(crate) n_heads: usize,
    /// Numbers of a query and of a key of one head.
    pub(crate) d_head: usize,
    /// Numbers of a value of one head.
    pub(crate) d_value: usize,
}

impl Dims {
    fn d(self) -> usize {
        self.n_heads * self.d_head
    }

    /// Numbers of the values of all heads.
    fn d_values(self) -> usize {
        self.n_heads * self.d_value
    }
}

/// The sizes of attention and what is asked of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form<'a> {
    pub(crate) dims: Dims,
    scale: f32,
    dropout: Option<&'a Dropout>,
    stats: bool,
    /// `[head, seq_len]`, the largest distance first: a row then reads it in the order of its keys.
    bias: Option<&'a [f32]>,
    /// Of the thread that asks, for the threads that do it.
    precision: Precision,
}

impl<'a> Form<'a> {
    /// # Arguments
    ///
    /// - `bias`: `[head, distance]`, [`reversed`].
    pub(crate) fn new(dims: Dims, attend: &'a Attend, bias: Option<&'a [f32]>) -> Self {
        let (dropout, stats) = (attend.dropout.as_ref(), attend.stats);
        let precision = Precision::here();
        Self { dims, scale: attend.scale(dims.d_head), dropout, stats, bias, precision }
    }

    /// Numbers of a row of the result: the values, then the statistics of its heads.
    fn width(&self) -> usize {
        self.dims.d_values() + if self.stats { Attend::N_STATS * self.dims.n_heads } else { 0 }
    }

    /// Where a statistic of a head stands in a row of the result.
    fn stat_col(&self, stat: usize, head: usize) -> usize {
        self.dims.d_values() + stat * self.dims.n_heads + head
    }

    /// Numbers of a table of biases.
    fn n_bias(&self) -> usize {
        if self.bias.is_some() { self.dims.n_heads * self.dims.seq_len } else { 0 }
    }
}

/// Each row of `[head, distance]` from its end to its beginning.
pub(crate) fn reversed(bias: &[f32], seq_len: usize) -> Vec<f32> {
    bias.chunks_exact(seq_len.max(1)).flat_map(|row| row.iter().rev().copied()).collect()
}

/// A matrix inside a larger one: row `i` is `data[i * stride + offset..]`.
#[derive(Clone, Copy, Debug)]
struct Part<'a> {
    data: &'a [f32],
    stride: usize,
    offset: usize,
}

impl<'a> Part<'a> {
    /// The columns from `col` on.
    fn skip(self, col: usize) -> Self {
        Self { offset: self.offset + col, ..self }
    }

    /// From row `row` on, at columns from `col` on.
    fn at(self, row: usize, col: usize) -> &'a [f32] {
        &self.data[row * self.stride + self.offset + col..]
    }
}

/// Where the scores of an example come from.
#[derive(Clone, Copy, Debug)]
enum Source<'a> {
    /// Queries and keys, and their products where the forward pass of an only head kept them: of each
    /// query with the keys it sees, behind each other.
    Products { q: Part<'a>, k: Part<'a>, kept: Option<&'a [f32]> },
    /// A table of tokens and places, for one head.
    LookedUp(Symbols<'a>),
}

/// The scores of one head, before any strip of them is known.
enum Scores<'a> {
    /// Of queries and keys of the head.
    Products {
        q: Part<'a>,
        k: Part<'a>,
        products: Products<'a>,
    },
    LookedUp(Symbols<'a>),
}

/// Products of queries and keys.
enum Products<'a> {
    /// To be formed, with the keys as their right side.
    With(Packed<'a>),
    Kept(&'a [f32]),
}

/// The queries, keys and values of one example.
#[derive(Clone, Copy, Debug)]
struct Example<'a> {
    /// Its index in the batch.
    idx: usize,
    source: Source<'a>,
    v: Part<'a>,
    /// The pos of each query, ascending.
    query_pos: &'a [u32],
    form: Form<'a>,
}

impl<'a> Example<'a> {
    /// Keys that any query sees.
    fn n_keys(&self) -> usize {
        self.query_pos.last().map_or(0, |&pos| pos as usize + 1)
    }

    fn strips(&self) -> impl Iterator<Item = Strip<'a>> + use<'a> {
        let query_pos = self.query_pos;
        (0..query_pos.len()).step_by(STRIP).map(move |first| {
            let n_rows = STRIP.min(query_pos.len() - first);
            Strip { first, query_pos: &query_pos[first..first + n_rows] }
        })
    }

    /// Numbers between the rows of a strip. Not a power of two, which would fall on few cache sets.
    fn strip_stride(&self) -> usize {
        self.n_keys().next_multiple_of(PANEL) + PANEL
    }

    /// The scores of a head.
    fn scores(&self, head: usize) -> Scores<'a> {
        let (n_keys, d_head) = (self.n_keys(), self.form.dims.d_head);
        match self.source {
            Source::Products { q, k, kept } => {
                let [q, k] = [q, k].map(|part| part.skip(head * d_head));
                let products = match kept {
                    Some(kept) => Products::Kept(kept),
                    None => {
                        Products::With(Packed::transposed(k.at(0, 0), k.stride, d_head, n_keys))
                    }
                };
                Scores::Products { q, k, products }
            }
            Source::LookedUp(symbols) => Scores::LookedUp(symbols),
        }
    }

    /// A strip of scores, unscaled; only what the rows see is written.
    fn strip_scores(&self, strip: Strip<'_>, scores: &Scores<'_>, out: &mut [f32]) {
        match scores {
            Scores::Products { q, products: Products::With(k_t), .. } => {
                self.products(strip, Lhs::rows(q.at(strip.first, 0), q.stride), k_t, out);
            }
            Scores::Products { products: Products::Kept(kept), .. } => {
                let mut kept = &kept[n_seen(&self.query_pos[..strip.first])..];
                for (&pos, out) in strip.query_pos.iter().zip(out.chunks_mut(self.strip_stride())) {
                    let (own, rest) = kept.split_at(pos as usize + 1);
                    out[..own.len()].copy_from_slice(own);
                    kept = rest;
                }
            }
            Scores::LookedUp(symbols) => symbols.scores(strip, out, self.strip_stride()),
        }
    }

    /// A strip of products of rows with keys or values, unscaled; only what the rows see is written.
    ///
    /// # Arguments
    ///
    /// - `rows`: from the first row of the strip on, at the columns of the head.
    /// - `keys`: `[d_head, n_keys]`, or values likewise
    fn products(&self, strip: Strip<'_>, rows: Lhs<'_>, keys: &Packed<'_>, out: &mut [f32]) {
        let stride = self.strip_stride();
        for part in strip.parts(PANEL) {
            let keys = keys.first(keys.n_rows(), part.keys.end);
            let (rows, first) = (rows.skip(part.first), part.first * stride + part.keys.start);
            let keys = keys.skip_cols(part.keys.start);
            matmul(rows, part.n_rows, &keys, Start::Zero, &mut out[first..], stride);
        }
    }

    /// For each row of a strip the sum of keys or values, each times its entry of the strip.
    ///
    /// # Arguments
    ///
    /// - `keys`: `[n_keys, d_head]`, or values likewise
    /// - `out`: from the first row of the strip on, at the columns of the head.
    fn mix(
        &self,
        strip: Strip<'_>,
        entries: &[f32],
        keys: &Packed<'_>,
        (out, out_stride): (&mut [f32], usize),
    ) {
        let stride = self.strip_stride();
        // Parts begin where a chain begins, so that a row has the same bits in any strip.
        for part in strip.parts(CHAIN) {
            let start = if part.keys.start == 0 { Start::Zero } else { Start::Keep };
            let entries = Lhs::rows(&entries[part.first * stride + part.keys.start..], stride);
            let keys = keys.first(part.keys.end, keys.n_cols());
            let (keys, out) =
                (keys.skip_rows(part.keys.start), &mut out[part.first * out_stride..]);
            matmul(entries, part.n_rows, &keys, start, out, out_stride);
        }
    }

    /// What one query does with its scores.
    fn row(&self, head: usize, query_idx: usize) -> Row<'a> {
        let Form { dims, scale, dropout, stats, bias, .. } = self.form;
        let query_pos = self.query_pos[query_idx];
        let n_own = query_pos as usize + 1;
        Row {
            n_own,
            scale,
            stats,
            bias: bias.map(|bias| &bias[(head + 1) * dims.seq_len - n_own..][..n_own]),
            dropout: dropout.map(|dropout| dropout.row(self.idx as u32, head as u32, query_pos)),
        }
    }

    /// Room for the factors of dropout of one row.
    fn factors(&self) -> Vec<f32> {
        vec![0.0; if self.form.dropout.is_some() { self.n_keys() } else { 0 }]
    }
}

/// Query rows that are computed together.
#[derive(Clone, Copy, Debug)]
struct Strip<'a> {
    /// The first of them among the queries of the example.
    first: usize,
    query_pos: &'a [u32],
}

/// Rows of a strip and keys that meet.
#[derive(Clone, Debug)]
struct Meeting {
    /// The first of the rows in the strip.
    first: usize,
    n_rows: usize,
    keys: Range<usize>,
}

impl<'a> Strip<'a> {
    fn n_rows(self) -> usize {
        self.query_pos.len()
    }

    /// Keys that a row of the strip sees.
    fn n_keys(self) -> usize {
        self.query_pos[self.query_pos.len() - 1] as usize + 1
    }

    /// Keys that every row of the strip sees, rounded down to a multiple of `align`.
    fn n_common(self, align: usize) -> usize {
        (self.query_pos[0] as usize + 1) / align * align
    }

    /// How much of a row is written: up to a whole block, so that a block of keys can be read.
    fn width(self, row: usize) -> usize {
        let last = (row / BLOCK * BLOCK + BLOCK).min(self.n_rows()) - 1;
        (self.query_pos[last] as usize + 1).next_multiple_of(BLOCK)
    }

    /// All rows with the keys that each of them sees, then blocks of rows with those that the last of
    /// the block sees.
    fn parts(self, align: usize) -> impl Iterator<Item = Meeting> + use<'a> {
        let n_common = self.n_common(align);
        let all = Meeting { first: 0, n_rows: self.n_rows(), keys: 0..n_common };
        let blocks = self.query_pos.chunks(BLOCK).enumerate().map(move |(i, pos)| {
            let n_keys = pos[pos.len() - 1] as usize + 1;
            Meeting { first: i * BLOCK, n_rows: pos.len(), keys: n_common..n_keys }
        });
        std::iter::once(all).chain(blocks).filter(|part| !part.keys.is_empty())
    }

    /// Blocks of keys, and for each the first row that sees one of them. The first block holds the
    /// keys that every row sees.
    fn key_blocks(self) -> impl Iterator<Item = (Range<usize>, usize)> + use<'a> {
        let (query_pos, n_keys, n_common) = (self.query_pos, self.n_keys(), self.n_common(BLOCK));
        let near = (n_common..n_keys).step_by(BLOCK).map(move |key| {
            let first_row = query_pos.partition_point(|&pos| (pos as usize) < key);
            (key..n_keys.min(key + BLOCK), first_row)
        });
        std::iter::once((0..n_common, 0)).filter(|(keys, _)| !keys.is_empty()).chain(near)
    }
}

/// Pairs of these queries and the keys that they see.
fn n_seen(query_pos: &[u32]) -> usize {
    query_pos.iter().map(|&pos| pos as usize + 1).sum()
}

/// `y: [queries, width]` of one example, and `lse: [head, queries]` where it is wanted.
///
/// # Arguments
///
/// - `kept`: for the products of queries and keys, as [`Source::Products`] has them.
fn forward(example: Example<'_>, y: &mut [f32], lse: Option<&mut [f32]>, kept: Option<Writer<'_>>) {
    example.form.precision.within(|| forward_heads(example, y, lse, kept));
}

fn forward_heads(
    example: Example<'_>,
    y: &mut [f32],
    mut lse: Option<&mut [f32]>,
    mut kept: Option<Writer<'_>>,
) {
    let Example { form, query_pos, .. } = example;
    let (Dims { n_heads, d_value, .. }, width) = (form.dims, form.width());
    let (n_keys, stride) = (example.n_keys(), example.strip_stride());
    let mut strip = Scratch::new(STRIP.min(query_pos.len()) * stride);
    let mut factors = example.factors();
    for head in 0..n_heads {
        let (v_col, scores_of) = (head * d_value, example.scores(head));
        let v = Packed::rows_once(example.v.at(0, v_col), example.v.stride, n_keys, d_value);
        for strip_of in example.strips() {
            let first = strip_of.first;
            example.strip_scores(strip_of, &scores_of, &mut strip);
            let y = &mut y[first * width..];
            let mut sums = [0.0; STRIP];
            for (row, scores) in strip.chunks_mut(stride).take(strip_of.n_rows()).enumerate() {
                let query_idx = first + row;
                let scores = &mut scores[..strip_of.width(row)];
                if let Some(kept) = &mut kept {
                    kept.push(&scores[..query_pos[query_idx] as usize + 1]);
                }
                let result = example.row(head, query_idx).forward(scores, &mut factors);
                sums[row] = result.sum;
                if let Some(lse) = &mut lse {
                    lse[head * query_pos.len() + query_idx] = result.lse;
                }
                for (stat, value) in result.stats.into_iter().flatten().enumerate() {
                    y[row * width + form.stat_col(stat, head)] = value;
                }
            }
            example.mix(strip_of, &strip, &v, (&mut y[v_col..], width));
            for (y, sum) in y.chunks_mut(width).zip(sums).take(strip_of.n_rows()) {
                let scale = sum.recip();
                y[v_col..v_col + d_value].iter_mut().for_each(|y| *y *= scale);
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

#[cfg(test)]
mod tests;

//! Attention of the GPU: products of matrices, and the kernels between them.

use burn::tensor::DType;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};

use super::kernel::attention::{self as kernel, Rule, Shape};
use super::kernel::heads::{self, Part};
use super::kernel::places::Dropped;
use super::kernel::{ints, room};
use super::product::{Causal, causal_product, operand_type, result_type, shaped, transposed};
use crate::{Attend, Dropout, QueryRows};

/// Heads have so many rows or a multiple of it, so that kernels may read and write several numbers at once.
const ROWS: usize = 8;
/// Chosen queries of an example; more, because how many there are differs from batch to batch, and a device compiles some
/// kernels anew for each kind of shape.
const CHOSEN: usize = 32;

/// Where queries stand, and how chosen ones are laid out: `[example, query]`, as many as the example that has most.
///
/// Queries and keys are filled up to a multiple of [`ROWS`] with zeros, chosen queries to one of [`CHOSEN`]. No query sees a key that is not there, because it
/// would come after it; what a query that is not there gives is not looked at, and its gradient is 0.
pub(super) struct Layout<R: CubeRuntime> {
    batch: usize,
    /// Filled up.
    n_queries: usize,
    /// Filled up.
    n_keys: usize,
    /// Places of an example.
    seq_len: usize,
    /// Where chosen queries stand: `[batch, query]`.
    query_pos: Option<CubeTensor<R>>,
    /// Of chosen queries the row each place gets (-1: none), and the place of each row.
    chosen: Option<[CubeTensor<R>; 2]>,
    n_rows: usize,
}

impl<R: CubeRuntime> Layout<R> {
    /// Every place of every example.
    pub(super) fn all(batch: usize, seq_len: usize) -> Self {
        let n_keys = seq_len.next_multiple_of(ROWS);
        let n_rows = batch * seq_len;
        let (query_pos, chosen) = (None, None);
        Self { batch, n_queries: n_keys, n_keys, seq_len, query_pos, chosen, n_rows }
    }

    /// Keys of an example, filled up.
    pub(super) fn n_keys(&self) -> usize {
        self.n_keys
    }

    /// What is spared where every place asks; chosen queries stand anywhere.
    fn causal(&self, causal: Causal) -> Causal {
        if self.chosen.is_none() { causal } else { Causal::All }
    }

    /// Chosen places.
    pub(super) fn of(rows: &QueryRows, batch: usize, like: &CubeTensor<R>) -> Self {
        let by_example = rows.by_example(batch);
        let most = by_example.iter().map(std::ops::Range::len).max().unwrap_or(0);
        let n_queries = most.next_multiple_of(CHOSEN).max(CHOSEN);
        let mut source = vec![-1_i32; batch * n_queries];
        let mut query_pos = vec![0_i32; batch * n_queries];
        let mut target = Vec::with_capacity(rows.len());
        for (example, range) in by_example.into_iter().enumerate() {
            for (i, query_idx) in range.enumerate() {
                let place = example * n_queries + i;
                source[place] = query_idx as i32;
                query_pos[place] = rows.place(query_idx).1 as i32;
                target.push(place as i32);
            }
        }
        let chosen = Some([ints(&source, like), ints(&target, like)]);
        let (query_pos, n_rows) = (Some(ints(&query_pos, like)), rows.len());
        let seq_len = rows.seq_len();
        let n_keys = seq_len.next_multiple_of(ROWS);
        Self { batch, n_queries, n_keys, seq_len, query_pos, chosen, n_rows }
    }

    fn shape(&self, n_heads: usize) -> Shape {
        Shape { batch: self.batch, n_heads, n_queries: self.n_queries, n_keys: self.n_keys }
    }

    fn rule<'a>(
        &'a self,
        attend: &Attend,
        bias: Option<&'a CubeTensor<R>>,
        scale: f32,
        like: &CubeTensor<R>,
    ) -> Rule<'a, R> {
        let dropped = attend.dropout.as_ref().map(|dropout| dropped(dropout, like));
        let (shape, counted) = (self.shape(attend.n_heads), attend.stats);
        Rule { shape, query_pos: self.query_pos.as_ref(), bias, scale, dropped, counted }
    }
}

/// Dropout as kernels know it, on the device of `like`.
pub(super) fn dropped<R: CubeRuntime>(dropout: &Dropout, like: &CubeTensor<R>) -> Dropped<R> {
    let ((halves, n_each), (bound, kept)) = (dropout.halves(), dropout.bounds());
    Dropped { keys: ints(&halves, like), n_each, bound, kept, version: Dropout::VERSION }
}

/// An operand of attention: rows, and the part of them that it is.
pub(super) struct Operand<'a, R: CubeRuntime> {
    pub(super) rows: &'a CubeTensor<R>,
    pub(super) part: Part,
}

/// A part of each row by heads, `[batch * head, row, d_head]`, as products want it; an example has `n_there` rows, filled
/// up to `n_rows`.
fn heads_of<R: CubeRuntime>(
    Operand { rows, part }: Operand<'_, R>,
    index: Option<&CubeTensor<R>>,
    [batch, n_there, n_rows]: [usize; 3],
) -> CubeTensor<R> {
    let shape = [batch * part.n_heads, n_rows, part.d_head];
    if index.is_none() && part.is_whole() && n_there == n_rows {
        return shaped(rows.clone(), shape);
    }
    shaped(heads::split(rows, index, [batch, n_there, n_rows], part, operand_type()), shape)
}

/// The inverse: `[n_written, width]`, as numbers of `dtype`. The only head of a part that is the whole of its rows needs no
/// copy, and stays of single precision.
fn rows_of<R: CubeRuntime>(
    heads: CubeTensor<R>,
    index: Option<&CubeTensor<R>>,
    [batch, n_there, n_rows, n_written]: [usize; 4],
    part: Part,
    dtype: DType,
) -> CubeTensor<R> {
    if index.is_none() && part.is_whole() && n_there == n_rows {
        return shaped(heads, [n_written, part.width]);
    }
    let rows = room(&heads, [n_written, part.width], dtype);
    let heads = shaped(heads, [batch, part.n_heads, n_rows, part.d_head]);
    heads::join(heads, index, &rows, [n_there, n_written], part);
    rows
}

/// What a forward pass keeps: queries, keys and values by heads, the pattern, what dropout left of it, statistics,
/// places of queries, and a bias if there was one.
pub(super) struct Kept<R: CubeRuntime> {
    /// `None` where scores came out of a table.
    pub(super) qk: Option<[CubeTensor<R>; 2]>,
    pub(super) v: CubeTensor<R>,
    pub(super) pattern: CubeTensor<R>,
    pub(super) kept: CubeTensor<R>,
    pub(super) stats: CubeTensor<R>,
    pub(super) bias: Option<CubeTensor<R>>,
}

impl<R: CubeRuntime> Kept<R> {
    /// Width of all heads of the keys together.
    pub(super) fn width_of_keys(&self, n_heads: usize) -> usize {
        let [_, k] = self.qk.as_ref().expect("queries and keys were kept");
        n_heads * k.meta.shape()[2]
    }

    /// As a list, and back.
    pub(super) fn into_list(self) -> Vec<CubeTensor<R>> {
        let mut list = vec![self.v, self.pattern, self.kept, self.stats];
        list.extend(self.qk.into_iter().flatten());
        list.extend(self.bias);
        list
    }

    pub(super) fn from_list(mut list: Vec<CubeTensor<R>>, has_qk: bool) -> Self {
        let bias = (list.len() == if has_qk { 7 } else { 5 }).then(|| list.pop()).flatten();
        let qk = has_qk.then(|| {
            let mut qk = list.split_off(4).into_iter();
            [(); 2].map(|()| qk.next().expect("queries and keys were kept"))
        });
        let [v, pattern, kept, stats] =
            <[_; 4]>::try_from(list).unwrap_or_else(|_list| panic!("attention keeps other things"));
        Self { qk, v, pattern, kept, stats, bias }
    }
}

/// Rows of queries by heads: `[batch * head, query, d_head]`.
pub(super) fn queries<R: CubeRuntime>(q: Operand<'_, R>, layout: &Layout<R>) -> CubeTensor<R> {
    let source = layout.chosen.as_ref().map(|[source, _]| source);
    heads_of(q, source, [layout.batch, layout.seq_len, layout.n_queries])
}

/// Rows of keys, or of values, by heads: `[batch * head, key, d_head]`.
pub(super) fn keys<R: CubeRuntime>(k: Operand<'_, R>, layout: &Layout<R>) -> CubeTensor<R> {
    heads_of(k, None, [layout.batch, layout.seq_len, layout.n_keys])
}

/// [`keys`] of each of the parts that rows of every place consist of.
pub(super) fn unpacked<R: CubeRuntime, const N: usize>(
    rows: &CubeTensor<R>,
    Part { n_heads, d_head, .. }: Part,
    layout: &Layout<R>,
) -> [CubeTensor<R>; N] {
    let sizes = [layout.batch, n_heads, layout.seq_len, layout.n_keys, d_head];
    heads::unpack(rows, sizes, operand_type())
}

/// Attention of queries, keys and values by heads: rows `[n_rows, d_v]` and, if asked for, statistics behind each.
pub(super) fn forward<R: CubeRuntime>(
    [q, k, v]: [CubeTensor<R>; 3],
    bias: Option<CubeTensor<R>>,
    layout: &Layout<R>,
    attend: &Attend,
) -> (CubeTensor<R>, Kept<R>) {
    let scale = attend.scale(q.meta.shape()[2]);
    let scores =
        causal_product(q.clone(), transposed(k.clone()), layout.causal(Causal::ToDiagonal));
    let (y, mut kept) = mix(scores, scale, v, bias, layout, attend);
    kept.qk = Some([q, k]);
    (y, kept)
}

/// Attention from its scores `[batch * head, query, key]`, not scaled yet, and its values by heads.
pub(super) fn mix<R: CubeRuntime>(
    scores: CubeTensor<R>,
    scale: f32,
    v: CubeTensor<R>,
    bias: Option<CubeTensor<R>>,
    layout: &Layout<R>,
    attend: &Attend,
) -> (CubeTensor<R>, Kept<R>) {
    let (batch, n_heads, d_value) = (layout.batch, attend.n_heads, v.meta.shape()[2]);
    let rule = layout.rule(attend, bias.as_ref(), scale, &v);
    let made = kernel::pattern(scores, &rule, operand_type());
    let by_heads = [batch * n_heads, layout.n_queries, layout.n_keys];
    let lower = layout.causal(Causal::LeftIsLower);
    let mixed = causal_product(shaped(made.kept.clone(), by_heads), v.clone(), lower);
    let d = n_heads * d_value;
    let width = d + attend.n_stats();
    let target = layout.chosen.as_ref().map(|[_, target]| target);
    let part = Part { width, offset: 0, n_heads, d_head: d_value };
    let sizes = [batch, layout.seq_len, layout.n_queries, layout.n_rows];
    let dtype = if attend.stats { DType::F32 } else { result_type() };
    let y = rows_of(mixed, target, sizes, part, dtype);
    if attend.stats {
        let written = [layout.n_rows, width];
        let (there, shape) = (layout.seq_len, layout.shape(n_heads));
        kernel::stats_into(&made.stats, target, &y, written, there, shape);
    }
    let kernel::Pattern { pattern, kept, stats } = made;
    (y, Kept { qk: None, v, pattern, kept, stats, bias })
}

/// Gradients of attention, each by heads.
pub(super) struct Grads<R: CubeRuntime> {
    /// By the scores before they were scaled: `[batch * head, query, key]`.
    pub(super) scores: Option<CubeTensor<R>>,
    pub(super) v: Option<CubeTensor<R>>,
    pub(super) bias: Option<CubeTensor<R>>,
}

/// The gradients of [`mix`] that are wanted, by scores (and bias) and by values.
pub(super) fn mix_backward<R: CubeRuntime>(
    kept: &Kept<R>,
    scale: f32,
    layout: &Layout<R>,
    attend: &Attend,
    [by_scores, by_v]: [bool; 2],
    d_y: &CubeTensor<R>,
) -> Grads<R> {
    let (batch, n_heads) = (layout.batch, attend.n_heads);
    let d_value = kept.v.meta.shape()[2];
    let (d, n_queries) = (n_heads * d_value, layout.n_queries);
    let width = d + attend.n_stats();
    let source = layout.chosen.as_ref().map(|[source, _]| source);
    let part = Part { width, offset: 0, n_heads, d_head: d_value };
    let queries = [batch, layout.seq_len, n_queries];
    let d_mixed = heads_of(Operand { rows: d_y, part }, source, queries);
    let by_heads = [batch * n_heads, n_queries, layout.n_keys];
    let v = by_v.then(|| {
        let pattern = shaped(kept.kept.clone(), by_heads);
        causal_product(transposed(pattern), d_mixed.clone(), layout.causal(Causal::LeftIsUpper))
    });
    if !by_scores {
        return Grads { scores: None, v, bias: None };
    }
    let d_kept =
        causal_product(d_mixed, transposed(kept.v.clone()), layout.causal(Causal::ToDiagonal));
    let d_stats = attend.stats.then(|| {
        let part = Part { width, offset: d, n_heads: Attend::N_STATS, d_head: n_heads };
        heads::split(d_y, source, queries, part, DType::F32)
    });
    let rule = layout.rule(attend, kept.bias.as_ref(), scale, &kept.v);
    let scores = kernel::pattern_backward(&kept.pattern, d_kept, &kept.stats, d_stats, &rule);
    let bias = kept.bias.as_ref().map(|bias| kernel::bias_backward(&scores, bias, &rule));
    Grads { scores: Some(shaped(scores, by_heads)), v, bias }
}

/// Gradients of [`forward`] by rows of queries, keys and values.
pub(super) struct RowGrads<R: CubeRuntime> {
    pub(super) q: Option<CubeTensor<R>>,
    pub(super) k: Option<CubeTensor<R>>,
    pub(super) v: Option<CubeTensor<R>>,
}

/// The gradients of [`forward`] that are `wanted`.
pub(super) fn backward<R: CubeRuntime>(
    kept: &Kept<R>,
    layout: &Layout<R>,
    attend: &Attend,
    wanted: [bool; 3],
    d_y: &CubeTensor<R>,
) -> RowGrads<R> {
    let [q, k] = kept.qk.as_ref().expect("queries and keys were kept");
    let (d_head, d_value) = (q.meta.shape()[2], kept.v.meta.shape()[2]);
    let asked = [wanted[0] || wanted[1], wanted[2]];
    let grads = mix_backward(kept, attend.scale(d_head), layout, attend, asked, d_y);
    let (batch, n_heads) = (layout.batch, attend.n_heads);
    let of = |d_head| Part { width: n_heads * d_head, offset: 0, n_heads, d_head };
    let keys = [batch, layout.seq_len, layout.n_keys, batch * layout.seq_len];
    let by_q = grads.scores.clone().filter(|_| wanted[0]).map(|d_scores| {
        let target = layout.chosen.as_ref().map(|[_, target]| target);
        let d_q = causal_product(d_scores, k.clone(), layout.causal(Causal::LeftIsLower));
        let sizes = [batch, layout.seq_len, layout.n_queries, layout.n_rows];
        rows_of(d_q, target, sizes, of(d_head), DType::F32)
    });
    let by_k = grads.scores.filter(|_| wanted[1]).map(|d_scores| {
        let upper = layout.causal(Causal::LeftIsUpper);
        let d_k = causal_product(transposed(d_scores), q.clone(), upper);
        rows_of(d_k, None, keys, of(d_head), DType::F32)
    });
    let by_v = grads.v.map(|d_v| rows_of(d_v, None, keys, of(d_value), DType::F32));
    RowGrads { q: by_q, k: by_k, v: by_v }
}

/// The gradients of [`forward`] by packed rows, and by the bias: queries (if they are `packed` as well), keys and values
/// behind each other in rows of one tensor.
pub(super) fn backward_packed<R: CubeRuntime>(
    kept: &Kept<R>,
    layout: &Layout<R>,
    attend: &Attend,
    packed: bool,
    d_y: &CubeTensor<R>,
) -> (Option<CubeTensor<R>>, CubeTensor<R>, Option<CubeTensor<R>>) {
    let [q, k] = kept.qk.as_ref().expect("queries and keys were kept");
    let (d_head, n_heads, batch) = (q.meta.shape()[2], attend.n_heads, layout.batch);
    let grads = mix_backward(kept, attend.scale(d_head), layout, attend, [true; 2], d_y);
    let (d_scores, d_v) = (grads.scores.expect("wanted"), grads.v.expect("wanted"));
    let d_q = causal_product(d_scores.clone(), k.clone(), layout.causal(Causal::LeftIsLower));
    let upper = layout.causal(Causal::LeftIsUpper);
    let d_k = causal_product(transposed(d_scores), q.clone(), upper);
    let sizes = [batch, n_heads, layout.seq_len, layout.n_keys, d_head];
    let dtype = if attend.factor_grad { operand_type() } else { DType::F32 };
    if packed {
        return (None, heads::pack(&[d_q, d_k, d_v], sizes, dtype), grads.bias);
    }
    let target = layout.chosen.as_ref().map(|[_, target]| target);
    let part = Part { width: n_heads * d_head, offset: 0, n_heads, d_head };
    let of_queries = [batch, layout.seq_len, layout.n_queries, layout.n_rows];
    let d_q = rows_of(d_q, target, of_queries, part, DType::F32);
    (Some(d_q), heads::pack(&[d_k, d_v], sizes, dtype), grads.bias)
}

//! Attention whose scores are looked up in a table of tokens and places.
//!
//! `score(t, s) = S[z_t, z_s] + S[z_t, V + s] + S[V + t, z_s] + S[V + t, V + s]`, with tokens `z`,
//! `V = d_vocab`, and `S: [V + n_ctx, V + n_ctx]`. The two rows of a query are added once; what is left
//! to do for a key is one addition and one lookup among `V` numbers. Values are mixed as ever.
//!
//! In the backward pass the gradient of a row of scores goes to the two rows of its query: by place as
//! it stands, by token as sums over equal tokens. For those, sixteen rows stand side by side, so that the
//! token of a key chooses a whole vector to add to. Groups of examples add to tables of their own, which
//! are then added in order.

#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "a lookup among numbers in vector registers")
)]

use rayon::prelude::*;

use super::backward::{Grads, backward};
use super::{BLOCK, Dims, Example, Form, Part, Source, Strip, Trace, forward};
use crate::kernel::fresh::{Chunk, Fresh};
use crate::kernel::packed::{PANEL, Packed};
use crate::kernel::rows::in_order;
use crate::kernel::simd::multiversion;
#[cfg(target_arch = "x86_64")]
use crate::kernel::simd::{Level, level};

/// Tables of gradients that are added at the end, at most: so many tasks there are.
const MAX_GROUPS: usize = 32;

/// Scores of tokens and places with each other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Table<'a> {
    /// `[d_vocab + n_ctx, d_vocab + n_ctx]`
    pub(crate) scores: &'a [f32],
    pub(crate) d_vocab: usize,
    pub(crate) n_ctx: usize,
}

impl<'a> Table<'a> {
    fn n_rows(self) -> usize {
        self.d_vocab + self.n_ctx
    }

    /// The rows of the token and of the place of a query.
    fn rows(self, token: u32, pos: u32) -> [usize; 2] {
        [token as usize, self.d_vocab + pos as usize]
    }
}

/// The tokens of one example, and where their scores stand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Symbols<'a> {
    table: Table<'a>,
    tokens: &'a [u32],
}

impl Symbols<'_> {
    /// The scores of a strip, unscaled; only what the rows see is written.
    pub(super) fn scores(&self, strip: Strip<'_>, out: &mut [f32], stride: usize) {
        let Table { scores, d_vocab, .. } = self.table;
        let mut of_symbols = vec![0.0; d_vocab];
        for (&pos, out) in strip.query_pos.iter().zip(out.chunks_mut(stride)) {
            let keys = &self.tokens[..=pos as usize];
            let n_rows = self.table.n_rows();
            let [of_token, of_place] = self
                .table
                .rows(self.tokens[pos as usize], pos)
                .map(|row| &scores[row * n_rows..][..d_vocab + keys.len()]);
            look_up([of_token, of_place], keys, &mut of_symbols, &mut out[..keys.len()]);
        }
    }

    /// Adds the gradients of a strip of scores to those of the table.
    ///
    /// # Arguments
    ///
    /// - `d_s`: rows `stride` apart, 0 from a row's own keys to the end of its block.
    pub(super) fn add_to_table(
        &self,
        strip: Strip<'_>,
        (d_s, stride): (&[f32], usize),
        d_scores: &mut [f32],
    ) {
        let (d_vocab, n_rows) = (self.table.d_vocab, self.table.n_rows());
        let mut by_symbol = vec![Line([0.0; PANEL]); d_vocab];
        for (block, d_s) in strip.query_pos.chunks(BLOCK).zip(d_s.chunks(BLOCK * stride)) {
            let n_keys = block[block.len() - 1] as usize + 1;
            let by_key = Packed::transposed_as_it_is(d_s, stride, n_keys, block.len());
            by_symbol.fill(Line([0.0; PANEL]));
            add_by_symbol(by_key.panel(0), &self.tokens[..n_keys], &mut by_symbol);
            let flat: Vec<f32> = by_symbol.iter().flat_map(|line| line.0).collect();
            let by_row = Packed::transposed_as_it_is(&flat, PANEL, PANEL, d_vocab);
            for (row, &pos) in block.iter().enumerate() {
                let d_row = &d_s[row * stride..][..=pos as usize];
                for table_row in self.table.rows(self.tokens[pos as usize], pos) {
                    let d_scores = &mut d_scores[table_row * n_rows..][..n_rows];
                    add_row(d_scores, d_vocab, (&by_row, row), d_row);
                }
            }
        }
    }
}

/// What a symbol gets from sixteen rows.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line([f32; PANEL]);

multiversion! {
    /// Adds what each key gets from sixteen rows to what its token gets.
    fn add_by_symbol(by_key: &[f32], tokens: &[u32], by_symbol: &mut [Line]) = add_by_symbol_body;
}

#[inline(always)]
fn add_by_symbol_body<const FMA: bool>(by_key: &[f32], tokens: &[u32], by_symbol: &mut [Line]) {
    for (lanes, &token) in by_key.as_chunks::<PANEL>().0.iter().zip(tokens) {
        let line = &mut by_symbol[token as usize];
        line.0.iter_mut().zip(lanes).for_each(|(sum, x)| *sum += x);
    }
}

multiversion! {
    /// Adds the gradients of one row of scores, by symbol and by place, to a row of those of the table.
    fn add_row(
        d_scores: &mut [f32],
        d_vocab: usize,
        by_symbol: (&Packed<'_>, usize),
        by_place: &[f32],
    ) = add_row_body;
}

#[inline(always)]
fn add_row_body<const FMA: bool>(
    d_scores: &mut [f32],
    d_vocab: usize,
    (by_symbol, row): (&Packed<'_>, usize),
    by_place: &[f32],
) {
    let (symbols, places) = d_scores.split_at_mut(d_vocab);
    for (panel_idx, sums) in symbols.chunks_mut(PANEL).enumerate() {
        let part = &by_symbol.panel(panel_idx)[row * PANEL..][..PANEL];
        sums.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
    }
    places.iter_mut().zip(by_place).for_each(|(sum, x)| *sum += x);
}

/// The scores of one query with each of its keys.
///
/// # Arguments
///
/// - `rows`: of its token and of its place: first the scores with tokens, then those with places.
/// - `of_symbols`: room for `d_vocab` numbers.
fn look_up(rows: [&[f32]; 2], tokens: &[u32], of_symbols: &mut [f32], out: &mut [f32]) {
    add_rows(rows, of_symbols, out);
    #[cfg(target_arch = "x86_64")]
    if level() == Level::Avx512 && of_symbols.len() <= REGISTERS * PANEL {
        // SAFETY: the CPU was asked by `level`.
        return unsafe { add_symbols_avx512(of_symbols, tokens, out) };
    }
    add_symbols(of_symbols, tokens, out);
}

multiversion! {
    /// The sum of both rows: first `of_symbols`, then by place.
    fn add_rows(rows: [&[f32]; 2], of_symbols: &mut [f32], by_place: &mut [f32]) = add_rows_body;
}

#[inline(always)]
fn add_rows_body<const FMA: bool>(
    [x, y]: [&[f32]; 2],
    of_symbols: &mut [f32],
    by_place: &mut [f32],
) {
    let (x, x_places) = x.split_at(of_symbols.len());
    let (y, y_places) = y.split_at(of_symbols.len());
    for (sum, (x, y)) in of_symbols.iter_mut().zip(x.iter().zip(y)) {
        *sum = x + y;
    }
    for (sum, (x, y)) in by_place.iter_mut().zip(x_places.iter().zip(y_places)) {
        *sum = x + y;
    }
}

/// Adds to each score what the token of its key has.
fn add_symbols(of_symbols: &[f32], tokens: &[u32], scores: &mut [f32]) {
    for (score, &token) in scores.iter_mut().zip(tokens) {
        *score += of_symbols[token as usize];
    }
}

/// Registers among which an instruction or two look up.
#[cfg(target_arch = "x86_64")]
const REGISTERS: usize = 8;

/// [`add_symbols`] of up to 128 symbols, which stay in registers.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn add_symbols_avx512(of_symbols: &[f32], tokens: &[u32], scores: &mut [f32]) {
    use std::arch::x86_64::{
        _mm512_add_ps, _mm512_loadu_epi32, _mm512_loadu_ps, _mm512_mask_blend_ps,
        _mm512_permutex2var_ps, _mm512_set1_epi32, _mm512_storeu_ps, _mm512_test_epi32_mask,
    };
    let mut padded = [[0.0_f32; PANEL]; REGISTERS];
    padded.as_flattened_mut()[..of_symbols.len()].copy_from_slice(of_symbols);
    // SAFETY: these are sixteen numbers each.
    let symbols = padded.map(|lanes| unsafe { _mm512_loadu_ps(lanes.as_ptr()) });
    let (second, third) = (_mm512_set1_epi32(32), _mm512_set1_epi32(64));
    let wide = of_symbols.len() > 64;
    let (scores, scores_rest) = scores.as_chunks_mut::<PANEL>();
    let (tokens, tokens_rest) = tokens.as_chunks::<PANEL>();
    for (scores, tokens) in scores.iter_mut().zip(tokens) {
        // SAFETY: these are sixteen numbers.
        let tokens = unsafe { _mm512_loadu_epi32(tokens.as_ptr().cast()) };
        let of_32 = |i: usize| _mm512_permutex2var_ps(symbols[2 * i], tokens, symbols[2 * i + 1]);
        let is_odd = _mm512_test_epi32_mask(tokens, second);
        let mut found = _mm512_mask_blend_ps(is_odd, of_32(0), of_32(1));
        if wide {
            let of_rest = _mm512_mask_blend_ps(is_odd, of_32(2), of_32(3));
            let is_wide = _mm512_test_epi32_mask(tokens, third);
            found = _mm512_mask_blend_ps(is_wide, found, of_rest);
        }
        // SAFETY: these are sixteen numbers.
        unsafe {
            let sum = _mm512_add_ps(_mm512_loadu_ps(scores.as_ptr()), found);
            _mm512_storeu_ps(scores.as_mut_ptr(), sum);
        }
    }
    add_symbols(of_symbols, tokens_rest, scores_rest);
}

/// All places, with scores that are looked up: `tokens: [batch, pos]`, `v: [batch, pos, d_value]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LookedUp<'a> {
    pub(crate) tokens: &'a [u32],
    pub(crate) table: Table<'a>,
    pub(crate) v: &'a [f32],
    pub(crate) form: Form<'a>,
}

impl<'a> LookedUp<'a> {
    fn example(&self, idx: usize, all_pos: &'a [u32]) -> Example<'a> {
        let Dims { seq_len, d_value, .. } = self.form.dims;
        let tokens = &self.tokens[idx * seq_len..][..seq_len];
        let v = &self.v[idx * seq_len * d_value..][..seq_len * d_value];
        Example {
            idx,
            source: Source::LookedUp(Symbols { table: self.table, tokens }),
            v: Part { data: v, stride: d_value, offset: 0 },
            query_pos: all_pos,
            form: self.form,
        }
    }

    fn all_pos(&self) -> Vec<u32> {
        (0..self.form.dims.seq_len as u32).collect()
    }

    /// `y: [batch, pos, width]`; `lse: [batch, pos]`.
    pub(crate) fn forward(&self) -> (Vec<f32>, Vec<f32>) {
        let (seq_len, width) = (self.form.dims.seq_len, self.form.width());
        let all_pos = self.all_pos();
        let mut y = Fresh::new(self.tokens.len() * width);
        let mut lse = vec![0.0; self.tokens.len()];
        y.par_chunks_mut(seq_len * width)
            .zip(lse.par_chunks_mut(seq_len))
            .enumerate()
            .for_each(|(idx, (y, lse))| forward(self.example(idx, &all_pos), y, Some(lse), None));
        (y.finish(), lse)
    }

    /// The gradients of the table and of the values that are wanted.
    pub(crate) fn backward(
        &self,
        trace: Trace<'_>,
        d_y: &[f32],
        wanted: [bool; 2],
    ) -> [Option<Vec<f32>>; 2] {
        let (Dims { seq_len, d_value, .. }, width) = (self.form.dims, self.form.width());
        let n_examples = self.tokens.len() / seq_len;
        // The grouping must not depend on the threads: it orders the sum.
        let n_in_group = n_examples.div_ceil(MAX_GROUPS).max(1);
        let n_groups = n_examples.div_ceil(n_in_group);
        let group = |group: usize| group * n_in_group..n_examples.min((group + 1) * n_in_group);
        let (all_pos, n_table) =
            (self.all_pos(), if wanted[0] { self.table.scores.len() } else { 0 });
        let mut d_v = wanted[1].then(|| Fresh::new(self.v.len()));
        let lens = (0..n_groups).map(|i| group(i).len() * seq_len * d_value);
        let mut chunks = d_v.as_mut().map(|d_v| d_v.cut(lens));
        let tasks: Vec<Option<Chunk<'_>>> =
            (0..n_groups).map(|_| chunks.as_mut().and_then(Iterator::next)).collect();
        drop(chunks);
        let task = |(i, d_v): (usize, Option<Chunk<'_>>)| {
            let mut d_scores = vec![0.0; n_table];
            let mut d_v = d_v.map(|d_v| d_v.cleared().chunks_mut(seq_len * d_value));
            for idx in group(i) {
                let places = idx * seq_len..(idx + 1) * seq_len;
                let rows = places.start * width..places.end * width;
                let trace = Trace { y: &trace.y[rows.clone()], lse: &trace.lse[places] };
                let table = wanted[0].then_some(&mut d_scores[..]);
                let v = d_v.as_mut().and_then(Iterator::next);
                let grads = Grads::LookedUp { table, v };
                backward(self.example(idx, &all_pos), trace, &d_y[rows], grads);
            }
            d_scores
        };
        let parts: Vec<Vec<f32>> = tasks.into_par_iter().enumerate().map(task).collect();
        [wanted[0].then(|| in_order(&parts, n_table)), d_v.map(Fresh::finish)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Attend;
    use crate::kernel::simd::{Level, at_level};
    use crate::testing::{check_close, check_grad, check_same_bits, numbers};

    /// Attention by its formula, in `f64`; inputs are the table, then `v: [batch, pos, d_value]`.
    struct Scalar {
        tokens: Vec<u32>,
        d_vocab: usize,
        n_ctx: usize,
        seq_len: usize,
        d_value: usize,
        temperature: f64,
    }

    impl Scalar {
        fn new([batch, seq_len, d_value]: [usize; 3], d_vocab: usize, n_ctx: usize) -> Self {
            let symbol = |x: &f32| ((x * 0.5 + 0.5) * d_vocab as f32) as u32;
            let tokens = numbers(7, batch * seq_len).iter().map(symbol).collect();
            Self { tokens, d_vocab, n_ctx, seq_len, d_value, temperature: 1.5 }
        }

        fn n_table(&self) -> usize {
            (self.d_vocab + self.n_ctx).pow(2)
        }

        fn n_inputs(&self) -> usize {
            self.n_table() + self.tokens.len() * self.d_value
        }

        /// Where in the table the four parts of a score stand; `query` and `key` count all places.
        fn parts(&self, query: usize, key: usize) -> [usize; 4] {
            let of =
                |place: usize| [self.tokens[place] as usize, self.d_vocab + place % self.seq_len];
            let ([z_t, t], [z_s, s]) = (of(query), of(key));
            let n_rows = self.d_vocab + self.n_ctx;
            [[z_t, z_s], [z_t, s], [t, z_s], [t, s]].map(|[row, col]| row * n_rows + col)
        }

        /// The keys of a query, and its row of the pattern.
        fn pattern(&self, x: &[f64], query: usize) -> (std::ops::RangeInclusive<usize>, Vec<f64>) {
            let keys = query / self.seq_len * self.seq_len..=query;
            let score = |key: usize| self.parts(query, key).iter().map(|&at| x[at]).sum::<f64>();
            let exps: Vec<f64> =
                keys.clone().map(|key| (score(key) / self.temperature).exp()).collect();
            let sum: f64 = exps.iter().sum();
            (keys, exps.iter().map(|e| e / sum).collect())
        }

        fn forward(&self, x: &[f64]) -> Vec<f64> {
            let v = &x[self.n_table()..];
            let row = |query: usize| {
                let (keys, p) = self.pattern(x, query);
                let d = self.d_value;
                let y = move |c: usize| {
                    keys.clone().zip(&p).map(|(key, p)| p * v[key * d + c]).sum::<f64>()
                };
                (0..d).map(y).collect::<Vec<f64>>()
            };
            (0..self.tokens.len()).flat_map(row).collect()
        }

        fn backward(&self, x: &[f64], d_y: &[f64]) -> Vec<f64> {
            let (n_table, d) = (self.n_table(), self.d_value);
            let mut grad = vec![0.0; x.len()];
            for (query, d_y) in d_y.chunks_exact(d).enumerate() {
                let (keys, p) = self.pattern(x, query);
                let d_p: Vec<f64> = keys
                    .clone()
                    .map(|key| (0..d).map(|c| d_y[c] * x[n_table + key * d + c]).sum())
                    .collect();
                let mean: f64 = d_p.iter().zip(&p).map(|(d_p, p)| d_p * p).sum();
                for (i, key) in keys.enumerate() {
                    let d_score = p[i] * (d_p[i] - mean) / self.temperature;
                    self.parts(query, key).into_iter().for_each(|at| grad[at] += d_score);
                    (0..d).for_each(|c| grad[n_table + key * d + c] += p[i] * d_y[c]);
                }
            }
            grad
        }

        /// The kernel's `y`, and its gradients of the table and of the values.
        fn run(&self, x: &[f32], d_y: &[f32], wanted: [bool; 2]) -> [Option<Vec<f32>>; 3] {
            let attend = Attend { temperature: self.temperature, ..Attend::plain(1) };
            let &Self { d_vocab, n_ctx, seq_len, d_value, .. } = self;
            let (scores, v) = x.split_at(self.n_table());
            let form = Form::new(Dims { seq_len, n_heads: 1, d_head: 1, d_value }, &attend, None);
            let table = Table { scores, d_vocab, n_ctx };
            let looked_up = LookedUp { tokens: &self.tokens, table, v, form };
            let (y, lse) = looked_up.forward();
            let [d_scores, d_v] = looked_up.backward(Trace { y: &y, lse: &lse }, d_y, wanted);
            [Some(y), d_scores, d_v]
        }
    }

    #[test]
    fn the_scalar_gradient_agrees_with_central_differences() {
        for scalar in [Scalar::new([2, 4, 3], 2, 5), Scalar::new([1, 5, 1], 4, 5)] {
            let x: Vec<f64> = numbers(1, scalar.n_inputs()).iter().map(|&x| f64::from(x)).collect();
            check_grad(&x, |x| scalar.forward(x), |x, d_y| scalar.backward(x, d_y));
        }
    }

    #[test]
    fn kernel_and_scalar_agree_on_odd_shapes() {
        let narrow = |x: &[f64]| x.iter().map(|&x| x as f32).collect::<Vec<f32>>();
        for (shape, d_vocab, n_ctx) in [
            ([1, 1, 1], 1, 1),
            ([3, 65, 24], 5, 65),
            ([40, 33, 7], 32, 40),
            ([2, 130, 16], 33, 131),
            ([2, 130, 16], 65, 130),
            ([1, 257, 3], 128, 300),
            ([2, 70, 5], 129, 70),
        ] {
            let scalar = Scalar::new(shape, d_vocab, n_ctx);
            let x = numbers(1, scalar.n_inputs());
            let d_y = numbers(2, shape.iter().product());
            let wide = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
            let expected = scalar.backward(&wide(&x), &wide(&d_y));
            let (d_scores, d_v) = expected.split_at(scalar.n_table());
            let [y, got_scores, got_v] = scalar.run(&x, &d_y, [true; 2]).map(Option::unwrap);
            check_close("y", &y, &narrow(&scalar.forward(&wide(&x))), 2e-6);
            check_close("d_scores", &got_scores, &narrow(d_scores), 1e-5);
            check_close("d_v", &got_v, &narrow(d_v), 5e-6);
            for wanted in [[true, false], [false, true], [false, false]] {
                let [_, scores, v] = scalar.run(&x, &d_y, wanted);
                assert_eq!([scores.is_some(), v.is_some()], wanted);
                scores.inspect(|scores| check_same_bits("d_scores", scores, &got_scores));
                v.inspect(|v| check_same_bits("d_v", v, &got_v));
            }
        }
    }

    #[test]
    fn the_vectors_do_not_change_the_bits() {
        // The level is one of this thread alone.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread();
        let pool = pool.build().unwrap();
        for d_vocab in [3, 32, 33, 64, 65, 128, 129] {
            let scalar = Scalar::new([2, 67, 9], d_vocab, 70);
            let x = numbers(1, scalar.n_inputs());
            let row = |row: usize| &x[row * (d_vocab + 70)..][..d_vocab + 67];
            let scores = || {
                let (mut of_symbols, mut out) = (vec![0.0; d_vocab], vec![0.0; 67]);
                look_up([row(1), row(2)], &scalar.tokens[..67], &mut of_symbols, &mut out);
                out
            };
            let expected: Vec<f32> = (0..67)
                .map(|key| {
                    let (place, token) = (d_vocab + key, scalar.tokens[key] as usize);
                    (row(1)[place] + row(2)[place]) + (row(1)[token] + row(2)[token])
                })
                .collect();
            for level in [Level::Portable, Level::Avx2, Level::Avx512] {
                if let Some(scores) = at_level(level, scores) {
                    check_same_bits("scores", &scores, &expected);
                }
            }
            pool.install(|| {
                let grads = || scalar.run(&x, &x[..2 * 67 * 9], [true; 2]).map(Option::unwrap);
                let best = grads().concat();
                if let Some(avx2) = at_level(Level::Avx2, grads) {
                    check_same_bits("avx2", &avx2.concat(), &best);
                }
            });
        }
    }
}

//! Matrix products in which a row's bits depend on that row alone.
//!
//! Every entry of a product is a chain of multiply-adds over the inner index in ascending order,
//! cut every [`CHAIN`] terms; the pieces are then added in order. Nothing else about the shape
//! enters: not the number of rows, not where a row stands in a tile, not the width of the vectors,
//! not the number of threads. (General libraries choose other kernels for a single row and other
//! cuts for other cache sizes, which is why this one exists.)
//!
//! The right operand is packed into panels of [`PANEL`] columns, `[panel][k][PANEL]`, so that a step
//! of the inner loop loads whole vectors that lie behind each other; one that is read only a few times is read
//! where it lies. A tile is up to six rows by
//! four panels with AVX-512, six by one with AVX2 and two by one elsewhere: as many accumulators as
//! the registers hold.

#![expect(unsafe_code, reason = "the inner loop reads packed panels without bounds checks")]

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::fresh::{Chunk, Fresh};
use super::packed::{PANEL, Packed};
use super::simd::{Four, Vector};
#[cfg(target_arch = "x86_64")]
use super::simd::{Level, level};
use super::tiles;
use crate::device::Precision;

/// Terms of one uninterrupted chain of multiply-adds.
pub(crate) const CHAIN: usize = 128;

/// A left operand: entry `(row, k)` is `data[row * row_stride + k * col_stride]`.
#[derive(Clone, Copy)]
pub(crate) struct Lhs<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) row_stride: usize,
    pub(crate) col_stride: usize,
}

impl<'a> Lhs<'a> {
    /// Rows that lie `row_stride` apart.
    pub(crate) fn rows(data: &'a [f32], row_stride: usize) -> Self {
        Self { data, row_stride, col_stride: 1 }
    }

    /// The transpose of a matrix whose rows lie `row_stride` apart.
    pub(crate) fn transposed(data: &'a [f32], row_stride: usize) -> Self {
        Self { data, row_stride: 1, col_stride: row_stride }
    }

    /// Without its first `n_rows` rows.
    pub(crate) fn skip(self, n_rows: usize) -> Self {
        Self { data: &self.data[n_rows * self.row_stride..], ..self }
    }
}

/// What a product is added to.
#[derive(Clone, Copy)]
pub(crate) enum Start<'a> {
    /// Nothing: the output is overwritten.
    Zero,
    /// What the output holds.
    Keep,
    /// This row, for every row of the output.
    Bias(&'a [f32]),
}

/// `out = start + lhs rhs` for `n_rows` rows that lie `out_stride` apart, on this thread.
#[track_caller]
pub(crate) fn matmul(
    lhs: Lhs<'_>,
    n_rows: usize,
    rhs: &Packed<'_>,
    start: Start<'_>,
    out: &mut [f32],
    out_stride: usize,
) {
    let (k, n) = (rhs.k, rhs.n);
    if n_rows == 0 || n == 0 {
        return;
    }
    if k == 0 {
        return begin(start, n_rows, n, out, out_stride);
    }
    if let Some(right) = rhs.rounded() {
        return tiles::matmul(lhs, n_rows, right, start, out, out_stride);
    }
    let out = std::ptr::from_mut(out) as *mut [MaybeUninit<f32>];
    // SAFETY: the numbers of `out` are there, and stay numbers.
    unsafe { multiply(lhs, n_rows, rhs, start, &mut *out, out_stride) }
}

/// [`matmul`] with an inner index, in single precision.
///
/// # Safety
///
/// To [keep](Start::Keep) what `out` holds it must hold numbers. Otherwise all of its rows are written before they
/// are read.
#[track_caller]
unsafe fn multiply(
    lhs: Lhs<'_>,
    n_rows: usize,
    rhs: &Packed<'_>,
    start: Start<'_>,
    out: &mut [MaybeUninit<f32>],
    out_stride: usize,
) {
    let (k, n) = (rhs.k, rhs.n);
    // The inner loop goes by pointers: everything it may touch is checked here.
    let last = |rows: usize, stride: usize| (rows - 1) * stride;
    assert!(lhs.data.len() > last(n_rows, lhs.row_stride) + last(k, lhs.col_stride));
    assert!(out.len() >= last(n_rows, out_stride) + n && (n_rows == 1 || out_stride >= n));
    let last_panel = last(n.div_ceil(PANEL), rhs.panel_stride);
    assert!(rhs.data.len() >= last_panel + last(k, rhs.row_stride) + PANEL);
    if let Start::Bias(bias) = start {
        assert!(bias.len() >= n);
    }
    let job = Job {
        lhs: lhs.data.as_ptr(),
        row_stride: lhs.row_stride,
        col_stride: lhs.col_stride,
        rhs: rhs.data.as_ptr(),
        panel_stride: rhs.panel_stride,
        rhs_stride: rhs.row_stride,
        out: out.as_mut_ptr().cast(),
        out_stride,
        n_rows,
        k,
        n,
    };
    #[cfg(target_arch = "x86_64")]
    match level() {
        // SAFETY: the bounds were checked above and the CPU by `level`.
        Level::Avx512 => return unsafe { run_avx512(&job, start) },
        // SAFETY: the bounds were checked above and the CPU by `level`.
        Level::Avx2 => return unsafe { run_avx2(&job, start) },
        Level::Portable => {}
    }
    // SAFETY: the bounds were checked above, and `Four` needs nothing of the CPU.
    unsafe { run::<Four, 4>(&job, start, 2, 1) }
}

/// A product without an inner index: what it is added to.
fn begin(start: Start<'_>, n_rows: usize, n: usize, out: &mut [f32], out_stride: usize) {
    for row in out.chunks_mut(out_stride).take(n_rows) {
        match start {
            Start::Zero => row[..n].fill(0.0),
            Start::Keep => {}
            Start::Bias(bias) => row[..n].copy_from_slice(&bias[..n]),
        }
    }
}

/// Rows of one task: a multiple of the tile, and so few that both sides stay in the cache.
pub(crate) const ROWS: usize = 96;

/// [`matmul`] over all threads of the pool, for rows that lie densely behind each other.
#[track_caller]
pub(crate) fn matmul_rows(
    lhs: &[f32],
    row_stride: usize,
    rhs: &Packed<'_>,
    bias: Option<&[f32]>,
    n_rows: usize,
) -> Vec<f32> {
    let mut out = Fresh::new(n_rows * rhs.n);
    out.par_chunks(ROWS * rhs.n).enumerate().for_each(|(chunk_idx, out)| {
        matmul_chunk(lhs, row_stride, chunk_idx, rhs, bias, out);
    });
    out.finish()
}

/// The chunk of [`ROWS`] rows of [`matmul_rows`] with this index, on this thread.
#[track_caller]
pub(crate) fn matmul_chunk<'a>(
    lhs: &[f32],
    row_stride: usize,
    chunk_idx: usize,
    rhs: &Packed<'_>,
    bias: Option<&[f32]>,
    out: Chunk<'a>,
) -> &'a mut [f32] {
    if rhs.k == 0 || rhs.rounded().is_some() {
        let out = out.cleared();
        matmul_chunk_over(lhs, row_stride, chunk_idx, rhs, bias, out);
        return out;
    }
    let lhs = Lhs::rows(&lhs[chunk_idx * ROWS * row_stride..], row_stride);
    let start = bias.map_or(Start::Zero, Start::Bias);
    let n_rows = out.len() / rhs.n;
    assert_eq!(out.len(), n_rows * rhs.n, "the chunk is no whole rows");
    // SAFETY: nothing is kept, and the rows are all of the chunk.
    unsafe { out.written(|out| multiply(lhs, n_rows, rhs, start, out, rhs.n)) }
}

/// [`matmul_chunk`] over numbers that are there.
#[track_caller]
pub(crate) fn matmul_chunk_over(
    lhs: &[f32],
    row_stride: usize,
    chunk_idx: usize,
    rhs: &Packed<'_>,
    bias: Option<&[f32]>,
    out: &mut [f32],
) {
    let lhs = Lhs::rows(&lhs[chunk_idx * ROWS * row_stride..], row_stride);
    let start = bias.map_or(Start::Zero, Start::Bias);
    matmul(lhs, out.len() / rhs.n, rhs, start, out, rhs.n);
}

/// A product with its bounds checked.
struct Job {
    lhs: *const f32,
    row_stride: usize,
    col_stride: usize,
    rhs: *const f32,
    panel_stride: usize,
    rhs_stride: usize,
    out: *mut f32,
    out_stride: usize,
    n_rows: usize,
    k: usize,
    n: usize,
}

/// # Safety
///
/// The operands of `job` must lie within their slices, and the CPU must have the features named.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
unsafe fn run_avx512(job: &Job, start: Start<'_>) {
    // SAFETY: as the caller promises.
    unsafe { run::<std::arch::x86_64::__m512, 1>(job, start, 6, 4) }
}

/// # Safety
///
/// The operands of `job` must lie within their slices, and the CPU must have the features named.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn run_avx2(job: &Job, start: Start<'_>) {
    // SAFETY: as the caller promises.
    unsafe { run::<std::arch::x86_64::__m256, 2>(job, start, 6, 1) }
}

/// Walks the output in tiles: chains outermost, then blocks of panels, then rows.
///
/// # Safety
///
/// The operands of `job` must lie within their slices, and the CPU must have `V`'s instructions.
#[inline(always)]
unsafe fn run<V: Vector, const NV: usize>(
    job: &Job,
    start: Start<'_>,
    max_rows: usize,
    max_panels: usize,
) {
    let n_panels = job.n.div_ceil(PANEL);
    let mut k_first = 0;
    loop {
        let k_len = CHAIN.min(job.k - k_first);
        for panel_idx in (0..n_panels).step_by(max_panels) {
            let width = max_panels.min(n_panels - panel_idx);
            let col = panel_idx * PANEL;
            // SAFETY: row, column and inner index stay below the sizes of the job.
            let tile = |row: usize| unsafe {
                Tile {
                    lhs: job.lhs.add(row * job.row_stride + k_first * job.col_stride),
                    rhs: job.rhs.add(panel_idx * job.panel_stride + k_first * job.rhs_stride),
                    out: job.out.add(row * job.out_stride + col),
                    start: match start {
                        _ if k_first > 0 => From::Out,
                        Start::Zero => From::Zero,
                        Start::Keep => From::Out,
                        Start::Bias(bias) => From::Row(bias.as_ptr().add(col)),
                    },
                    n_cols: (job.n - col).min(width * PANEL),
                    k_len,
                    job,
                }
            };
            let mut first = 0;
            if job.row_stride == 1 && job.n - col <= MAX_NARROW {
                while first + V::LANES <= job.n_rows {
                    // SAFETY: a vector of rows lies within the operands.
                    unsafe { tile(first).narrow::<V>() };
                    first += V::LANES;
                }
            }
            // Tiles of equal height: eight rows are two tiles of four, not one of six and one of two.
            let n_rows = job.n_rows - first;
            let n_tiles = n_rows.div_ceil(max_rows);
            for tile_idx in 0..n_tiles {
                let row = tile_idx * n_rows / n_tiles;
                let height = (tile_idx + 1) * n_rows / n_tiles - row;
                // SAFETY: these rows lie within the operands.
                unsafe { tile(first + row).of_height::<V, NV>(height, width) };
            }
        }
        k_first += k_len;
        if k_first == job.k {
            return;
        }
    }
}

/// As many columns at the end of a product cost less one by one, if the rows of the left side lie behind each
/// other: then it is rows that fill a vector.
const MAX_NARROW: usize = 4;

/// What a tile adds its chain to.
#[derive(Clone, Copy)]
enum From {
    Zero,
    Out,
    Row(*const f32),
}

/// A few rows by a few panels of the output, and one chain.
struct Tile<'a> {
    lhs: *const f32,
    rhs: *const f32,
    out: *mut f32,
    start: From,
    n_cols: usize,
    k_len: usize,
    job: &'a Job,
}

impl Tile<'_> {
    #[inline(always)]
    unsafe fn of_height<V: Vector, const NV: usize>(&self, height: usize, width: usize) {
        // SAFETY: passed on from the caller.
        unsafe {
            match height {
                1 => self.of_width::<V, NV, 1>(width),
                2 => self.of_width::<V, NV, 2>(width),
                3 => self.of_width::<V, NV, 3>(width),
                4 => self.of_width::<V, NV, 4>(width),
                5 => self.of_width::<V, NV, 5>(width),
                _ => self.of_width::<V, NV, 6>(width),
            }
        }
    }

    #[inline(always)]
    unsafe fn of_width<V: Vector, const NV: usize, const MR: usize>(&self, width: usize) {
        // SAFETY: passed on from the caller. Only 512-bit vectors are ever asked for more than one
        // panel; the others would not fit the registers.
        unsafe {
            if V::LANES < PANEL {
                return self.compute::<V, NV, MR, 1>();
            }
            match width {
                1 => self.compute::<V, NV, MR, 1>(),
                2 => self.compute::<V, NV, MR, 2>(),
                3 => self.compute::<V, NV, MR, 3>(),
                _ => self.compute::<V, NV, MR, 4>(),
            }
        }
    }

    /// # Safety
    ///
    /// `MR` rows and `NP` panels must lie within the operands, which have an inner index, and
    /// `NV * V::LANES` be [`PANEL`].
    #[inline(always)]
    unsafe fn compute<V: Vector, const NV: usize, const MR: usize, const NP: usize>(&self) {
        let (row_stride, col_stride) = (self.job.row_stride, self.job.col_stride);
        let (panel_stride, rhs_stride) = (self.job.panel_stride, self.job.rhs_stride);
        // SAFETY: the caller promises that rows, panels and chain lie within the operands.
        unsafe {
            let (mut lhs, mut rhs) = (self.lhs, self.rhs);
            // The first step makes the sums. From an array of zeros the compiler would make a call
            // that clears memory for every tile.
            let mut first = [[[const { MaybeUninit::<V>::uninit() }; NV]; NP]; MR];
            let b = Self::columns::<V, NV, NP>(rhs, panel_stride);
            for (r, acc) in first.iter_mut().enumerate() {
                let a = V::splat(*lhs.add(r * row_stride));
                for (acc, b) in acc.iter_mut().zip(&b) {
                    for (acc, &b) in acc.iter_mut().zip(b) {
                        acc.write(a.fma(b, V::splat(0.0)));
                    }
                }
            }
            let mut acc = (&raw const first).cast::<[[[V; NV]; NP]; MR]>().read();
            for _ in 1..self.k_len {
                lhs = lhs.wrapping_add(col_stride);
                rhs = rhs.wrapping_add(rhs_stride);
                let b = Self::columns::<V, NV, NP>(rhs, panel_stride);
                for (r, acc) in acc.iter_mut().enumerate() {
                    let a = V::splat(*lhs.add(r * row_stride));
                    for (acc, b) in acc.iter_mut().zip(&b) {
                        for (acc, &b) in acc.iter_mut().zip(b) {
                            *acc = a.fma(b, *acc);
                        }
                    }
                }
            }
            for (r, acc) in acc.iter().enumerate() {
                let out = self.out.add(r * self.job.out_stride);
                for (p, acc) in acc.iter().enumerate() {
                    let n_cols = self.n_cols - p * PANEL;
                    if n_cols >= PANEL {
                        self.store_whole(p * PANEL, out, acc);
                    } else {
                        self.store_part(p * PANEL, n_cols, out, acc);
                    }
                }
            }
        }
    }

    /// As many rows as a vector holds, for each of the few columns by itself.
    ///
    /// # Safety
    ///
    /// The rows must lie behind each other and, with the columns, within the operands.
    #[inline(always)]
    unsafe fn narrow<V: Vector>(&self) {
        for col in 0..self.n_cols {
            let mut lanes = [0.0_f32; PANEL];
            // SAFETY: as the caller promises; a vector is not longer than a panel.
            unsafe {
                let (mut lhs, mut rhs) = (self.lhs, self.rhs.add(col));
                let mut acc = V::load(lhs).fma(V::splat(*rhs), V::splat(0.0));
                for _ in 1..self.k_len {
                    lhs = lhs.wrapping_add(self.job.col_stride);
                    rhs = rhs.wrapping_add(self.job.rhs_stride);
                    acc = V::load(lhs).fma(V::splat(*rhs), acc);
                }
                acc.store(lanes.as_mut_ptr());
                for (r, &acc) in lanes.iter().enumerate().take(V::LANES) {
                    let out = self.out.add(r * self.job.out_stride + col);
                    *out = match self.start {
                        From::Zero => acc,
                        From::Out => *out + acc,
                        From::Row(row) => *row.add(col) + acc,
                    };
                }
            }
        }
    }

    /// One row of the panels.
    ///
    /// # Safety
    ///
    /// `NP` panels must lie `panel_stride` apart from `rhs` on.
    #[inline(always)]
    unsafe fn columns<V: Vector, const NV: usize, const NP: usize>(
        rhs: *const f32,
        panel_stride: usize,
    ) -> [[V; NV]; NP] {
        // SAFETY: as the caller promises.
        unsafe {
            let mut b = [[V::splat(0.0); NV]; NP];
            for (p, b) in b.iter_mut().enumerate() {
                for (v, b) in b.iter_mut().enumerate() {
                    *b = V::load(rhs.add(p * panel_stride + v * V::LANES));
                }
            }
            b
        }
    }

    #[inline(always)]
    unsafe fn store_whole<V: Vector, const NV: usize>(
        &self,
        col: usize,
        out: *mut f32,
        acc: &[V; NV],
    ) {
        for (v, &acc) in acc.iter().enumerate() {
            let at = col + v * V::LANES;
            // SAFETY: the caller has a whole panel of columns at `col`, in the output and the bias.
            unsafe {
                let sum = match self.start {
                    From::Zero => acc,
                    From::Out => V::load(out.add(at)).add(acc),
                    From::Row(row) => V::load(row.add(at)).add(acc),
                };
                sum.store(out.add(at));
            }
        }
    }

    #[inline(always)]
    unsafe fn store_part<V: Vector, const NV: usize>(
        &self,
        col: usize,
        n_cols: usize,
        out: *mut f32,
        acc: &[V; NV],
    ) {
        let mut panel = [0.0_f32; PANEL];
        // SAFETY: `NV` vectors fill a panel; of the output and the bias only `n_cols` are touched.
        unsafe {
            for (v, &acc) in acc.iter().enumerate() {
                acc.store(panel.as_mut_ptr().add(v * V::LANES));
            }
            for (j, &acc) in panel.iter().enumerate().take(n_cols) {
                let out = out.add(col + j);
                *out = match self.start {
                    From::Zero => acc,
                    From::Out => *out + acc,
                    From::Row(row) => *row.add(col + j) + acc,
                };
            }
        }
    }
}

/// Rows of two matrices that are multiplied with each other, `x^T y`.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    pub(crate) x_row: usize,
    pub(crate) y_row: usize,
    pub(crate) n_rows: usize,
}

/// `sum over spans of x^T y`: the gradient of a weight.
///
/// `x: [.., d_x]` and `y: [.., d_y]` give `[d_x, d_y]`. Each group of spans is summed on its own, in
/// order, and the groups' sums are added in order: the grouping is the caller's and must depend on
/// shapes only. Groups run in parallel.
pub(crate) fn weight_grad(
    x: &[f32],
    d_x: usize,
    y: &[f32],
    d_y: usize,
    groups: &[Vec<Span>],
) -> Vec<f32> {
    /// Columns of one task; the left side is packed once for them.
    const COLS: usize = 256;
    let (n_blocks, precision) = (d_y.div_ceil(COLS), Precision::here());
    let parts: Vec<Vec<f32>> = (0..groups.len() * n_blocks)
        .into_par_iter()
        .map(|task| {
            let first = task % n_blocks * COLS;
            let cols = first..d_y.min(first + COLS);
            precision.within(|| span_products(x, d_x, y, d_y, &groups[task / n_blocks], cols))
        })
        .collect();
    let mut total = vec![0.0; d_x * d_y];
    for (task, part) in parts.iter().enumerate() {
        let first = task % n_blocks * COLS;
        let n_cols = COLS.min(d_y - first);
        for (to, from) in total.chunks_exact_mut(d_y).zip(part.chunks_exact(n_cols)) {
            for (to, from) in to[first..first + n_cols].iter_mut().zip(from) {
                *to += from;
            }
        }
    }
    total
}

/// The products of some spans, for some columns of `y`, on this thread.
fn span_products(
    x: &[f32],
    d_x: usize,
    y: &[f32],
    d_y: usize,
    spans: &[Span],
    cols: std::ops::Range<usize>,
) -> Vec<f32> {
    let n_cols = cols.len();
    let mut sum = vec![0.0; d_x * n_cols];
    for span in spans {
        for first in (0..span.n_rows).step_by(CHAIN) {
            let n_rows = CHAIN.min(span.n_rows - first);
            let y = &y[(span.y_row + first) * d_y + cols.start..];
            let rhs = Packed::rows_once(y, d_y, n_rows, n_cols);
            let x = &x[(span.x_row + first) * d_x..];
            let lhs = Lhs::transposed(x, d_x);
            matmul(lhs, d_x, &rhs, Start::Keep, &mut sum, n_cols);
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::simd::at_level;
    use crate::testing::{check_close, check_same_bits, numbers};

    /// The product by its definition, in `f64`.
    fn product(x: &[f32], w: &[f32], m: usize, k: usize, n: usize) -> Vec<f32> {
        let entry = |i: usize, j: usize| -> f64 {
            (0..k).map(|l| f64::from(x[i * k + l]) * f64::from(w[l * n + j])).sum()
        };
        (0..m * n).map(|at| entry(at / n, at % n) as f32).collect()
    }

    fn transpose(x: &[f32], n_rows: usize, n_cols: usize) -> Vec<f32> {
        (0..x.len()).map(|at| x[at % n_rows * n_cols + at / n_rows]).collect()
    }

    #[test]
    fn products_of_odd_shapes_agree_with_the_definition() {
        for (m, k, n) in [
            (1, 1, 1),
            (3, 0, 2),
            (5, 3, 17),
            (6, 128, 64),
            (7, 129, 65),
            (13, 300, 5),
            (37, 130, 66),
        ] {
            let (x, w) = (numbers(1, m * k), numbers(2, k * n));
            let expected = product(&x, &w, m, k, n);
            let mut out = vec![f32::NAN; m * n];
            let packed = Packed::rows(&w, n, k, n);
            matmul(Lhs::rows(&x, k), m, &packed, Start::Zero, &mut out, n);
            check_close("rows", &out, &expected, 1e-6);
            let packed = Packed::transposed(&transpose(&w, k, n), k, k, n);
            let x_t = transpose(&x, m, k);
            let mut again = vec![f32::NAN; m * n];
            matmul(Lhs::transposed(&x_t, m), m, &packed, Start::Zero, &mut again, n);
            check_same_bits("transposed", &again, &out);
            matmul(Lhs::rows(&x, k), m, &packed, Start::Keep, &mut again, n);
            let twice: Vec<f32> = expected.iter().map(|x| 2.0 * x).collect();
            check_close("kept", &again, &twice, 1e-6);
        }
    }

    #[test]
    fn a_row_has_the_same_bits_whatever_the_other_rows_the_threads_and_the_vectors() {
        let (m, k, n) = (211, 200, 70);
        let (x, w, bias) = (numbers(1, m * k), numbers(2, k * n), numbers(3, n));
        let packed = Packed::rows(&w, n, k, n);
        let all = matmul_rows(&x, k, &packed, Some(&bias), m);
        for n_threads in [1, 2, 4] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
            let again = pool.install(|| matmul_rows(&x, k, &packed, Some(&bias), m));
            check_same_bits("threads", &again, &all);
        }
        for n_rows in [1, 2, 7, 64] {
            let some = matmul_rows(&x[3 * k..], k, &packed, Some(&bias), n_rows);
            check_same_bits("rows", &some, &all[3 * n..(3 + n_rows) * n]);
        }
        let avx2 = at_level(Level::Avx2, || {
            let mut out = vec![0.0; m * n];
            matmul(Lhs::rows(&x, k), m, &packed, Start::Bias(&bias), &mut out, n);
            out
        });
        if let Some(avx2) = avx2 {
            check_same_bits("avx2", &avx2, &all);
        }
        let portable = at_level(Level::Portable, || {
            let mut out = vec![0.0; m * n];
            matmul(Lhs::rows(&x, k), m, &packed, Start::Bias(&bias), &mut out, n);
            out
        });
        check_close("portable", &portable.unwrap(), &all, 1e-5);
    }

    #[test]
    fn a_corner_of_a_packed_matrix_is_the_product_with_that_corner() {
        let (m, k, n) = (4, 40, 50);
        let (x, w) = (numbers(1, m * k), numbers(2, k * n));
        let packed = Packed::rows(&w, n, k, n);
        let mut corner = vec![0.0; m * 33];
        matmul(Lhs::rows(&x, k), m, &packed.first(21, 33), Start::Zero, &mut corner, 33);
        let w: Vec<f32> = (0..21).flat_map(|i| w[i * n..i * n + 33].to_vec()).collect();
        let x: Vec<f32> = (0..m).flat_map(|i| x[i * k..i * k + 21].to_vec()).collect();
        check_close("corner", &corner, &product(&x, &w, m, 21, 33), 1e-6);
    }

    #[test]
    fn the_gradient_of_a_weight_is_the_sum_over_all_rows() {
        let (n_rows, d_x, d_y) = (300, 9, 270);
        let (x, y) = (numbers(1, n_rows * d_x), numbers(2, n_rows * d_y));
        let span = |row: usize, n_rows: usize| Span { x_row: row, y_row: row, n_rows };
        let groups = [vec![span(0, 150), span(150, 50)], vec![span(200, 100)]];
        let got = weight_grad(&x, d_x, &y, d_y, &groups);
        check_close(
            "d_weight",
            &got,
            &product(&transpose(&x, n_rows, d_x), &y, d_x, n_rows, d_y),
            1e-5,
        );
    }
}

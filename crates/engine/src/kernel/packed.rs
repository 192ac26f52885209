//! The right operand of a product, in the order in which its inner loop reads it.

#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "squares are transposed in vector registers")
)]

use std::ops::Deref;

use super::scratch::Scratch;
#[cfg(target_arch = "x86_64")]
use super::simd::{Level, level};
use super::tiles::{BLOCK_LEN, Blocks, DEPTH, Pieces, Right, Side};

/// Columns of a packed panel.
pub(crate) const PANEL: usize = 16;

/// A right operand in panels, or the first `k` rows and `n` columns of one.
///
/// Number `j` of row `i` of a panel is `data[panel * panel_stride + i * row_stride + j]`; of a rounded one a panel is a
/// place of [`Blocks`].
pub(crate) struct Packed<'a> {
    pub(super) data: Data<'a>,
    pub(super) panel_stride: usize,
    pub(super) row_stride: usize,
    pub(super) k: usize,
    pub(super) n: usize,
    rounded: Option<Rounded>,
}

/// How the numbers of an operand were rounded, and how many rows lie before its first in its first blocks.
#[derive(Clone, Copy)]
struct Rounded {
    pieces: Pieces,
    lead: usize,
}

/// Numbers of ours, or of another.
pub(super) enum Data<'a> {
    Own(Scratch),
    Blocks(Blocks),
    Other(&'a [f32]),
}

impl Deref for Data<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match self {
            Self::Own(scratch) => scratch,
            Self::Blocks(blocks) => blocks,
            Self::Other(data) => data,
        }
    }
}

/// Constructors that round, where the precision of this thread says so.
impl<'a> Packed<'a> {
    /// `[k, n]` with entry `(i, j)` at `data[i * row_stride + j]`, read where it lies if its rows lie densely
    /// behind each other, else packed.
    ///
    /// To pack pays where a product reads its right side often, or from rows far apart. A panel that is not
    /// full ends in numbers of the next row; those of the last row must be there, or it is packed too.
    pub(crate) fn rows_once(data: &'a [f32], row_stride: usize, k: usize, n: usize) -> Self {
        let end = k.saturating_sub(1) * row_stride + n.next_multiple_of(PANEL);
        if row_stride == n && data.len() >= end && Pieces::here().is_none() {
            let data = Data::Other(data);
            return Self { data, panel_stride: PANEL, row_stride, k, n, rounded: None };
        }
        Self::rows(data, row_stride, k, n)
    }

    /// Packs `[k, n]` with entry `(i, j)` at `data[i * row_stride + j]`.
    pub(crate) fn rows(data: &[f32], row_stride: usize, k: usize, n: usize) -> Self {
        if let Some(pieces) = Pieces::here() {
            let side = Side { data, line_stride: 1, k_stride: row_stride, n_lines: n, k };
            return Self::in_blocks(side, pieces);
        }
        let mut packed = Scratch::new(n.div_ceil(PANEL) * PANEL * k);
        for (panel_idx, panel) in packed.chunks_exact_mut((k * PANEL).max(1)).enumerate() {
            let first = panel_idx * PANEL;
            let width = PANEL.min(n - first);
            for (i, row) in panel.chunks_exact_mut(PANEL).enumerate() {
                let from = &data[i * row_stride + first..][..width];
                if width == PANEL {
                    row.copy_from_slice(&from[..PANEL]);
                } else {
                    row[..width].copy_from_slice(from);
                    row[width..].fill(0.0);
                }
            }
        }
        Self::in_panels(packed, k, n)
    }

    /// Packs the transpose of a matrix: entry `(i, j)` of `[k, n]` is `data[j * row_stride + i]`.
    pub(crate) fn transposed(data: &[f32], row_stride: usize, k: usize, n: usize) -> Self {
        if let Some(pieces) = Pieces::here() {
            let side = Side { data, line_stride: row_stride, k_stride: 1, n_lines: n, k };
            return Self::in_blocks(side, pieces);
        }
        Self::transposed_as_it_is(data, row_stride, k, n)
    }

    fn in_blocks(side: Side<'_>, pieces: Pieces) -> Self {
        let blocks = Blocks::new(side, 0, true, pieces);
        let panel_stride = blocks.place_stride();
        let (row_stride, rounded) = (0, Some(Rounded { pieces, lead: 0 }));
        let data = Data::Blocks(blocks);
        Self { data, panel_stride, row_stride, k: side.k, n: side.n_lines, rounded }
    }
}

impl<'a> Packed<'a> {
    /// [`Self::transposed`], never rounded: for others than products.
    pub(crate) fn transposed_as_it_is(data: &[f32], row_stride: usize, k: usize, n: usize) -> Self {
        let mut packed = Scratch::new(n.div_ceil(PANEL) * PANEL * k);
        for (panel_idx, panel) in packed.chunks_exact_mut((k * PANEL).max(1)).enumerate() {
            let first = panel_idx * PANEL;
            let from = &data[first * row_stride..];
            pack_transposed(from, row_stride, PANEL.min(n - first), panel);
        }
        Self::in_panels(packed, k, n)
    }

    fn in_panels(packed: Scratch, k: usize, n: usize) -> Self {
        let (data, panel_stride) = (Data::Own(packed), k * PANEL);
        Self { data, panel_stride, row_stride: PANEL, k, n, rounded: None }
    }

    /// The operand of a rounded product.
    pub(super) fn rounded(&self) -> Option<Right<'_>> {
        self.rounded.map(|Rounded { pieces, lead }| Right {
            blocks: &self.data,
            place_stride: self.panel_stride,
            lead,
            pieces,
            k: self.k,
            n: self.n,
        })
    }

    /// The first `k` rows of the first `n` columns, without copying.
    #[track_caller]
    pub(crate) fn first(&self, k: usize, n: usize) -> Packed<'_> {
        assert!(k <= self.k && n <= self.n, "[{k}, {n}] of a packed [{}, {}]", self.k, self.n);
        self.part(0, k, n)
    }

    /// All columns of the rows from `row` on, without copying.
    #[track_caller]
    pub(crate) fn skip_rows(&self, row: usize) -> Packed<'_> {
        assert!(row <= self.k, "from row {row} of a packed [{}, {}]", self.k, self.n);
        let Some(Rounded { pieces, lead }) = self.rounded else {
            return self.part(row * self.row_stride, self.k - row, self.n);
        };
        let (step, lead) = ((lead + row) / DEPTH, (lead + row) % DEPTH);
        let part = self.part(step * pieces.n() * BLOCK_LEN, self.k - row, self.n);
        Packed { rounded: Some(Rounded { pieces, lead }), ..part }
    }

    /// All rows of the columns from `col` on, a multiple of [`PANEL`], without copying.
    #[track_caller]
    pub(crate) fn skip_cols(&self, col: usize) -> Packed<'_> {
        assert!(col <= self.n && col.is_multiple_of(PANEL), "from column {col} of {}", self.n);
        self.part(col / PANEL * self.panel_stride, self.k, self.n - col)
    }

    /// What begins `at` numbers behind the first.
    fn part(&self, at: usize, k: usize, n: usize) -> Packed<'_> {
        let data = Data::Other(&self.data[at..]);
        let Self { panel_stride, row_stride, rounded, .. } = *self;
        Packed { data, panel_stride, row_stride, k, n, rounded }
    }

    /// The columns from `panel_idx * PANEL` on, `[k, PANEL]`; 0 behind the last.
    ///
    /// # Panics
    ///
    /// If it is not packed.
    #[track_caller]
    pub(crate) fn panel(&self, panel_idx: usize) -> &[f32] {
        assert_eq!(self.row_stride, PANEL, "the rows of a panel do not lie behind each other");
        &self.data[panel_idx * self.panel_stride..][..self.k * PANEL]
    }

    /// Rows, which are the inner index of a product.
    pub(crate) fn n_rows(&self) -> usize {
        self.k
    }

    /// Columns.
    pub(crate) fn n_cols(&self) -> usize {
        self.n
    }
}

/// One panel of a transpose: entry `(i, j)` of `[k, PANEL]` is `data[j * row_stride + i]`.
fn pack_transposed(data: &[f32], row_stride: usize, width: usize, panel: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if level() == Level::Avx512 {
        // SAFETY: the CPU was asked by `level`.
        return unsafe { pack_transposed_avx512(data, row_stride, width, panel) };
    }
    // Squares at a time, so that both sides are touched by whole lines.
    for (block, panel) in panel.chunks_mut(PANEL * PANEL).enumerate() {
        let panel = panel.as_chunks_mut::<PANEL>().0;
        let mut square = [[0.0; PANEL]; PANEL];
        for (j, row) in square.iter_mut().enumerate().take(width) {
            let from = &data[j * row_stride + block * PANEL..][..panel.len()];
            row[..from.len()].copy_from_slice(from);
        }
        for (i, to) in panel.iter_mut().enumerate() {
            *to = std::array::from_fn(|j| square[j][i]);
        }
    }
}

/// Transposes a square in registers: quadrants of 8, 4, 2 and 1 change places across the diagonal.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn exchange(rows: &mut [std::arch::x86_64::__m512; PANEL]) {
    use std::arch::x86_64::{_mm512_loadu_epi32, _mm512_permutex2var_ps};
    for (half, pair) in [8, 4, 2, 1].into_iter().zip(&EXCHANGES) {
        // SAFETY: these are sixteen numbers each.
        let [left, right] =
            pair.each_ref().map(|lanes| unsafe { _mm512_loadu_epi32(lanes.as_ptr()) });
        for i in 0..PANEL {
            if i & half == 0 {
                let (upper, lower) = (rows[i], rows[i + half]);
                rows[i] = _mm512_permutex2var_ps(upper, left, lower);
                rows[i + half] = _mm512_permutex2var_ps(upper, right, lower);
            }
        }
    }
}

/// [`pack_transposed`] by squares in registers.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn pack_transposed_avx512(data: &[f32], row_stride: usize, width: usize, panel: &mut [f32]) {
    use std::arch::x86_64::{
        _MM_HINT_T0, _mm_prefetch, _mm512_maskz_loadu_ps, _mm512_setzero_ps, _mm512_storeu_ps,
    };
    for (block, panel) in panel.chunks_mut(PANEL * PANEL).enumerate() {
        let panel = panel.as_chunks_mut::<PANEL>().0;
        let mut rows = [_mm512_setzero_ps(); PANEL];
        for (j, row) in rows.iter_mut().enumerate().take(width) {
            let from = &data[j * row_stride + block * PANEL..][..panel.len()];
            // The same columns of the next panel, which begin so far away that the processor does not
            // foresee them.
            _mm_prefetch::<_MM_HINT_T0>(from.as_ptr().wrapping_add(PANEL * row_stride).cast());
            // SAFETY: only the numbers of the slice are read, at most sixteen.
            *row =
                unsafe { _mm512_maskz_loadu_ps(u16::MAX >> (PANEL - from.len()), from.as_ptr()) };
        }
        exchange(&mut rows);
        for (to, row) in panel.iter_mut().zip(rows) {
            // SAFETY: a row of a panel is sixteen numbers.
            unsafe { _mm512_storeu_ps(to.as_mut_ptr(), row) };
        }
    }
}

/// For quadrants of 8, 4, 2 and 1: which numbers of an upper and a lower row, counted on from the
/// upper, make the two rows after the exchange.
#[cfg(target_arch = "x86_64")]
const EXCHANGES: [[[i32; PANEL]; 2]; 4] = {
    let mut all = [[[0; PANEL]; 2]; 4];
    let mut round = 0;
    while round < 4 {
        let half = 8 >> round;
        let mut lane = 0;
        while lane < PANEL {
            let is_left = lane & half == 0;
            let (lane_of, lower) = (lane as i32, PANEL as i32);
            let half = half as i32;
            all[round][0][lane] = if is_left { lane_of } else { lower + lane_of - half };
            all[round][1][lane] = if is_left { lane_of + half } else { lower + lane_of };
            lane += 1;
        }
        round += 1;
    }
    all
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::gemm::{Lhs, Start, matmul};
    use crate::kernel::simd::{Level, at_level};
    use crate::testing::{check_same_bits, numbers};

    #[test]
    fn rows_that_lie_densely_are_not_copied_and_give_the_same_product() {
        for (k, n, room) in [(20, 33, 15), (20, 33, 0), (130, 64, 0), (1, 5, 11)] {
            let (x, mut data) = (numbers(1, 7 * k), numbers(2, k * n));
            data.extend(std::iter::repeat_n(f32::NAN, room));
            let times = |rhs: &Packed<'_>| {
                let mut out = vec![0.0; 7 * n];
                matmul(Lhs::rows(&x, k), 7, rhs, Start::Zero, &mut out, n);
                out
            };
            let once = Packed::rows_once(&data, n, k, n);
            let copied = matches!(once.data, Data::Own(_));
            assert_eq!(copied, room == 0 && n % PANEL > 0, "[{k}, {n}] and {room} more");
            check_same_bits("product", &times(&once), &times(&Packed::rows(&data, n, k, n)));
            let (below, beside) = (once.skip_rows(k / 2), once.skip_cols(n / PANEL * PANEL));
            let found = [below.n_rows(), below.n_cols(), beside.n_rows(), beside.n_cols()];
            assert_eq!(found, [k - k / 2, n, k, n % PANEL]);
        }
    }

    #[test]
    fn every_level_packs_a_transpose_alike() {
        for (k, n) in [(1, 1), (16, 16), (24, 40), (128, 257), (7, 3)] {
            let (row_stride, data) = (k + 3, numbers(1, n * (k + 3)));
            let entry = |i: usize, j: usize| if j < n { data[j * row_stride + i] } else { 0.0 };
            let panels = n.div_ceil(PANEL);
            let at = |at: usize| entry(at / PANEL % k, at / (PANEL * k) * PANEL + at % PANEL);
            let expected: Vec<f32> = (0..panels * PANEL * k).map(at).collect();
            for level in [Level::Portable, Level::Avx2, Level::Avx512] {
                let pack = || Packed::transposed(&data, row_stride, k, n).data.to_vec();
                if let Some(packed) = at_level(level, pack) {
                    check_same_bits("transpose", &packed, &expected);
                }
            }
        }
    }
}

//! Products of rounded factors on the tile registers of AMX, which multiply sixteen rows of 32 numbers of eight
//! significant bits by as many columns in one instruction.
//!
//! A factor is rounded to `bf16`, or is a sum of two such numbers, of which then three of the four products count; sums
//! are of single precision. Factors are laid out in [blocks](Blocks) first. Every entry of a product is one chain
//! over the inner index in ascending order, so its bits depend on its row and its column alone, as in
//! [`super::gemm`]; here the inner index is taken in pairs, which is another order than there.
//!
//! # Source
//!
//! Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, chapter 18 (tiles), volume 2 (TDPBF16PS).
//! Two pieces a factor: Henry, Tang, Heinecke, "Leveraging the bfloat16 Artificial Intelligence Datatype For Higher-Precision
//! Computations", 2019 (arXiv:1904.06376).

#![expect(unsafe_code, reason = "what only some processors do is behind a check of the processor")]

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(not(target_arch = "x86_64"))]
mod none;

use std::ops::Range;

use rayon::prelude::*;

use super::gemm::{Lhs, Start};
use super::packed::PANEL;
use super::scratch::Scratch;
use crate::device::Precision;
#[cfg(not(target_arch = "x86_64"))]
use none as amx;

pub(crate) use amx::available;

/// Rows of a block, and columns of one.
const LINES: usize = PANEL;

/// Numbers of the inner index in a block.
pub(super) const DEPTH: usize = 32;

/// Numbers of single precision that take the room of a block.
pub(super) const BLOCK_LEN: usize = LINES * DEPTH / 2;

/// Blocks of the inner index that are multiplied before the next columns come: as many as stay in the cache.
const MAX_STEPS: usize = 16;

/// Numbers from which on a right side is laid out by all threads: more than one that a task of a kernel makes.
const MANY: usize = 1 << 17;

/// How many rounded numbers a factor is the sum of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pieces {
    One,
    Two,
}

impl Pieces {
    /// What the precision of this thread asks for; none for single precision, and where the machine has no tiles.
    pub(crate) fn here() -> Option<Self> {
        let pieces = match Precision::here() {
            Precision::F32 => return None,
            Precision::Tf32 => Self::Two,
            Precision::Bf16 => Self::One,
        };
        available().then_some(pieces)
    }

    /// Blocks of a place and a step.
    pub(super) fn n(self) -> usize {
        match self {
            Self::One => 1,
            Self::Two => 2,
        }
    }
}

/// One side of a product: entry `(line, k)` is `data[line * line_stride + k * k_stride]`, where a line is a row of
/// the left side or a column of the right one. One of the strides is 1.
#[derive(Clone, Copy)]
#[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "there are no tiles to fill"))]
pub(super) struct Side<'a> {
    pub(super) data: &'a [f32],
    pub(super) line_stride: usize,
    pub(super) k_stride: usize,
    pub(super) n_lines: usize,
    pub(super) k: usize,
}

/// A side of a product in the order in which tiles are loaded: `[place][step][piece]` blocks, where a place is
/// [`LINES`] lines and a step [`DEPTH`] numbers of the inner index.
///
/// A block of the left side is `[line][pair]`, one of the right side `[pair][line]`, and each entry a pair of rounded
/// numbers that follow each other along the inner index. What lies outside of the side is 0.
pub(super) struct Blocks {
    room: Scratch,
    start: usize,
    n_steps: usize,
    pieces: Pieces,
}

impl std::ops::Deref for Blocks {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.room[self.start..]
    }
}

impl Blocks {
    /// # Arguments
    ///
    /// - `lead`: how many zeros come before the inner index.
    /// - `pairs_first`: whether a block is `[pair][line]`.
    pub(super) fn new(side: Side<'_>, lead: usize, pairs_first: bool, pieces: Pieces) -> Self {
        let n_steps = (lead + side.k).div_ceil(DEPTH);
        let n_places = side.n_lines.div_ceil(LINES);
        let len = n_places * n_steps * pieces.n() * BLOCK_LEN;
        // Blocks begin where lines of the cache do.
        let mut room = Scratch::new(len + LINES);
        let start = room.as_ptr().align_offset(64);
        let place_len = n_steps * pieces.n() * BLOCK_LEN;
        let fill_steps = |place: usize, steps: Range<usize>, blocks: &mut [f32]| {
            for (step, blocks) in steps.zip(blocks.chunks_exact_mut(pieces.n() * BLOCK_LEN)) {
                // SAFETY: there are `Pieces` only where the machine has the instructions.
                unsafe { amx::fill(side, place, step, lead, pairs_first, blocks) }
            }
        };
        let blocks = &mut room[start..start + len];
        if pairs_first && len >= MANY {
            let places = blocks.par_chunks_exact_mut(place_len).enumerate();
            places.for_each(|(place, blocks)| fill_steps(place, 0..n_steps, blocks));
        } else if side.k_stride == 1 {
            let places = blocks.chunks_exact_mut(place_len.max(1)).enumerate();
            places.for_each(|(place, blocks)| fill_steps(place, 0..n_steps, blocks));
        } else {
            // In the order in which such a side lies in memory.
            for step in 0..n_steps {
                let at = step * pieces.n() * BLOCK_LEN;
                for (place, blocks) in blocks.chunks_exact_mut(place_len).enumerate() {
                    fill_steps(place, step..step + 1, &mut blocks[at..]);
                }
            }
        }
        Self { room, start, n_steps, pieces }
    }

    /// Numbers between the blocks of a place and those of the next.
    pub(super) fn place_stride(&self) -> usize {
        self.n_steps * self.pieces.n() * BLOCK_LEN
    }
}

/// The right side of a product, or a part of one that begins at a place.
#[derive(Clone, Copy)]
pub(super) struct Right<'a> {
    pub(super) blocks: &'a [f32],
    pub(super) place_stride: usize,
    /// Rows before the first, in the first step.
    pub(super) lead: usize,
    pub(super) pieces: Pieces,
    pub(super) k: usize,
    pub(super) n: usize,
}

/// [`super::gemm::matmul`] of rounded factors. The sides have an inner index, rows and columns.
///
/// # Panics
///
/// If an operand ends too early.
#[track_caller]
pub(super) fn matmul(
    lhs: Lhs<'_>,
    n_rows: usize,
    right: Right<'_>,
    start: Start<'_>,
    out: &mut [f32],
    out_stride: usize,
) {
    let Right { lead, pieces, k, n, .. } = right;
    let side = Side {
        data: lhs.data,
        line_stride: lhs.row_stride,
        k_stride: lhs.col_stride,
        n_lines: n_rows,
        k,
    };
    let left = Blocks::new(side, lead, false, pieces);
    let (n_steps, step_len) = (left.n_steps, pieces.n() * BLOCK_LEN);
    let (n_places, n_panels) = (n_rows.div_ceil(LINES), n.div_ceil(LINES));
    // Tiles are loaded by address: everything that is touched is checked here.
    assert!(right.blocks.len() >= (n_panels - 1) * right.place_stride + n_steps * step_len);
    assert!(out.len() >= (n_rows - 1) * out_stride + n && (n_rows == 1 || out_stride >= n));
    let _tiles = amx::Configured::new();
    for first_step in (0..n_steps).step_by(MAX_STEPS) {
        let start = if first_step > 0 { Start::Keep } else { start };
        for panel in (0..n_panels).step_by(2) {
            for place in (0..n_places).step_by(2) {
                let square = Square {
                    left: [place, (place + 1).min(n_places - 1)]
                        .map(|place| &left[place * left.place_stride() + first_step * step_len..]),
                    right: [panel, (panel + 1).min(n_panels - 1)].map(|panel| {
                        &right.blocks[panel * right.place_stride + first_step * step_len..]
                    }),
                    n_steps: MAX_STEPS.min(n_steps - first_step),
                    pieces,
                };
                let (row, col) = (place * LINES, panel * LINES);
                let n_own = [n_rows - row, n - col].map(|left| left.min(2 * LINES));
                square.multiply(
                    n_own,
                    start.at(col),
                    &mut out[row * out_stride + col..],
                    out_stride,
                );
            }
        }
    }
}

impl<'a> Start<'a> {
    /// What the columns from `col` on are added to.
    fn at(self, col: usize) -> Self {
        match self {
            Self::Bias(bias) => Self::Bias(&bias[col..]),
            Self::Zero | Self::Keep => self,
        }
    }
}

/// Two places of rows by two of columns, and some steps of the inner index.
#[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "there are no tiles to fill"))]
struct Square<'a> {
    left: [&'a [f32]; 2],
    right: [&'a [f32]; 2],
    n_steps: usize,
    pieces: Pieces,
}

impl Square<'_> {
    /// `out = start + left right` for as many rows and columns as there are of the 32 of either.
    fn multiply(
        &self,
        [n_rows, n_cols]: [usize; 2],
        start: Start<'_>,
        out: &mut [f32],
        out_stride: usize,
    ) {
        const WHOLE: usize = 2 * LINES;
        static ZEROS: [f32; WHOLE] = [0.0; WHOLE];
        if [n_rows, n_cols] == [WHOLE; 2] {
            assert!(out.len() >= (WHOLE - 1) * out_stride + WHOLE);
            let to = out.as_mut_ptr();
            let (from, from_stride) = match start {
                Start::Zero => (ZEROS.as_ptr(), 0),
                Start::Keep => (to.cast_const(), out_stride),
                Start::Bias(bias) => (bias[..WHOLE].as_ptr(), 0),
            };
            // SAFETY: 32 rows of 32 numbers are there to be read and written.
            return unsafe { self.run(from, from_stride, to, out_stride) };
        }
        // At the edges the rows and columns that are there lie in a square of their own.
        let mut square = [[0.0_f32; WHOLE]; WHOLE];
        for (row, to) in square.iter_mut().enumerate().take(n_rows) {
            match start {
                Start::Zero => {}
                Start::Keep => to[..n_cols].copy_from_slice(&out[row * out_stride..][..n_cols]),
                Start::Bias(bias) => to[..n_cols].copy_from_slice(&bias[..n_cols]),
            }
        }
        let at = square.as_flattened_mut().as_mut_ptr();
        // SAFETY: the square has 32 rows of 32 numbers.
        unsafe { self.run(at, WHOLE, at, WHOLE) };
        for (row, from) in square.iter().enumerate().take(n_rows) {
            out[row * out_stride..][..n_cols].copy_from_slice(&from[..n_cols]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::gemm::{self, matmul_rows};
    use crate::kernel::packed::Packed;
    use crate::testing::{check_close, check_same_bits, numbers};

    const ROUNDED: [Precision; 2] = [Precision::Tf32, Precision::Bf16];

    /// The nearest number of eight significant bits, to even where two are as near.
    fn bf16(x: f32) -> f32 {
        let bits = x.to_bits();
        f32::from_bits((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff_0000)
    }

    /// What a factor becomes.
    fn rounded(x: f32, pieces: Pieces) -> f32 {
        match pieces {
            Pieces::One => bf16(x),
            Pieces::Two => bf16(x) + bf16(x - bf16(x)),
        }
    }

    /// The product of rounded factors, in `f64`; of two pieces without the product of both small ones.
    fn product(x: &[f32], w: &[f32], [m, k, n]: [usize; 3], pieces: Pieces) -> Vec<f32> {
        let small = |x: f32| f64::from(rounded(x, pieces) - bf16(x));
        let term = |x: f32, w: f32| {
            f64::from(rounded(x, pieces)) * f64::from(rounded(w, pieces)) - small(x) * small(w)
        };
        let entry =
            |i: usize, j: usize| -> f64 { (0..k).map(|l| term(x[i * k + l], w[l * n + j])).sum() };
        (0..m * n).map(|at| entry(at / n, at % n) as f32).collect()
    }

    fn transpose(x: &[f32], n_rows: usize, n_cols: usize) -> Vec<f32> {
        (0..x.len()).map(|at| x[at % n_rows * n_cols + at / n_rows]).collect()
    }

    #[test]
    fn products_of_odd_shapes_are_those_of_rounded_factors() {
        if !available() {
            return;
        }
        let shapes =
            [[1, 1, 1], [5, 3, 17], [6, 128, 64], [7, 129, 65], [33, 600, 5], [64, 31, 48]];
        for ([m, k, n], precision) in shapes.into_iter().flat_map(|it| ROUNDED.map(|p| (it, p))) {
            let (x, w, bias) = (numbers(1, m * k), numbers(2, k * n), numbers(3, n));
            precision.within(|| {
                let packed = Packed::rows(&w, n, k, n);
                let pieces = Pieces::here().unwrap();
                let expected = product(&x, &w, [m, k, n], pieces);
                let times = |lhs, packed: &Packed<'_>, start, mut out: Vec<f32>| {
                    gemm::matmul(lhs, m, packed, start, &mut out, n);
                    out
                };
                let none = vec![f32::NAN; m * n];
                let out = times(Lhs::rows(&x, k), &packed, Start::Zero, none.clone());
                check_close(&format!("{precision} [{m}, {k}, {n}]"), &out, &expected, 1e-6);
                let (x_t, w_t) = (transpose(&x, m, k), transpose(&w, k, n));
                let turned = Packed::transposed(&w_t, k, k, n);
                let again = times(Lhs::transposed(&x_t, m), &turned, Start::Zero, none.clone());
                check_same_bits("transposed", &again, &out);
                let once = Packed::rows_once(&w, n, k, n);
                let twice = times(Lhs::rows(&x, k), &once, Start::Keep, out);
                let expected_twice: Vec<f32> = expected.iter().map(|x| 2.0 * x).collect();
                check_close("kept", &twice, &expected_twice, 1e-6);
                let beside = times(Lhs::rows(&x, k), &packed, Start::Bias(&bias), none);
                let expected: Vec<f32> = (0..m * n).map(|at| expected[at] + bias[at % n]).collect();
                check_close("bias", &beside, &expected, 1e-6);
            });
        }
    }

    #[test]
    fn two_pieces_are_nearly_single_precision_and_one_is_not() {
        if !available() {
            return;
        }
        let (m, k, n) = (40, 500, 40);
        let (x, w) = (numbers(1, m * k), numbers(2, k * n));
        let exact = matmul_rows(&x, k, &Packed::rows(&w, n, k, n), None, m);
        let largest = exact.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        let off = ROUNDED.map(|precision| {
            let packed = precision.within(|| Packed::rows(&w, n, k, n));
            let got = matmul_rows(&x, k, &packed, None, m);
            let off = got.iter().zip(&exact).map(|(got, exact)| (got - exact).abs());
            off.fold(0.0_f32, f32::max) / largest
        });
        assert!(off[0] < 1e-5 && (1e-4..1e-2).contains(&off[1]), "{off:?}");
    }

    #[test]
    fn a_row_has_the_same_bits_whatever_the_other_rows_and_the_threads() {
        if !available() {
            return;
        }
        let (m, k, n) = (211, 200, 70);
        let (x, w, bias) = (numbers(1, m * k), numbers(2, k * n), numbers(3, n));
        for precision in ROUNDED {
            let packed = precision.within(|| Packed::rows(&w, n, k, n));
            let all = matmul_rows(&x, k, &packed, Some(&bias), m);
            let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
            let again = pool.install(|| matmul_rows(&x, k, &packed, Some(&bias), m));
            check_same_bits("threads", &again, &all);
            for n_rows in [1, 2, 17, 64] {
                let some = matmul_rows(&x[3 * k..], k, &packed, Some(&bias), n_rows);
                check_same_bits("rows", &some, &all[3 * n..(3 + n_rows) * n]);
            }
        }
    }

    #[test]
    fn a_part_of_a_rounded_operand_is_the_operand_of_the_part() {
        if !available() {
            return;
        }
        let (m, k, n) = (20, 100, 70);
        let (x, w) = (numbers(1, m * k), numbers(2, k * n));
        for (precision, [row, k_end, col, n_end]) in ROUNDED.into_iter().flat_map(|precision| {
            [[0, 21, 0, 33], [16, 100, 16, 70], [7, 90, 48, 50], [33, 34, 64, 70]]
                .map(|part| (precision, part))
        }) {
            precision.within(|| {
                let packed = Packed::rows(&w, n, k, n);
                let (first, k, n) = (packed.first(k_end, n_end), k_end - row, n_end - col);
                let mut got = vec![f32::NAN; m * n];
                let lhs = Lhs::rows(&x[row..], 100);
                let part = first.skip_rows(row / 2);
                let part = part.skip_rows(row - row / 2);
                gemm::matmul(lhs, m, &part.skip_cols(col), Start::Zero, &mut got, n);
                let x: Vec<f32> = (0..m * k).map(|at| x[at / k * 100 + row + at % k]).collect();
                let w: Vec<f32> =
                    (0..k * n).map(|at| w[(row + at / n) * 70 + col + at % n]).collect();
                let expected = product(&x, &w, [m, k, n], Pieces::here().unwrap());
                check_close(&format!("{precision} from {row}, {col}"), &got, &expected, 1e-6);
            });
        }
    }
}

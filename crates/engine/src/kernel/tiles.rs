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

#![expect(
    unsafe_code,
    reason = "tile registers have no safe form, nor have vectors of rounded numbers"
)]

use std::arch::asm;
use std::arch::x86_64::{
    __cpuid_count, __m512, __m512i, _MM_HINT_T0, _mm_prefetch, _mm512_castsi512_ps,
    _mm512_cvtne2ps_pbh, _mm512_cvtneps_pbh, _mm512_cvtpbh_ps, _mm512_loadu_epi16, _mm512_loadu_ps,
    _mm512_maskz_loadu_ps, _mm512_permutexvar_epi16, _mm512_setzero_ps, _mm512_storeu_epi32,
    _mm512_storeu_ps, _mm512_sub_ps,
};
use std::ops::Range;
use std::sync::OnceLock;

use rayon::prelude::*;

use super::gemm::{Lhs, Start};
use super::packed::{PANEL, exchange};
use super::scratch::Scratch;
use crate::device::Precision;

/// Rows of a block, and columns of one.
const LINES: usize = PANEL;

/// Numbers of the inner index in a block.
pub(super) const DEPTH: usize = 32;

/// Numbers of single precision that take the room of a block.
pub(super) const BLOCK_LEN: usize = LINES * DEPTH / 2;

/// Bytes of a block.
const BLOCK_BYTES: usize = BLOCK_LEN * 4;

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

/// Whether this machine has tiles of `bf16` and lets us use them, found once.
pub(crate) fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| has_instructions() && permitted())
}

fn has_instructions() -> bool {
    const AMX_BF16: u32 = 1 << 22;
    const AMX_TILE: u32 = 1 << 24;
    let tiles = AMX_BF16 | AMX_TILE;
    let vectors = is_x86_feature_detected!("avx512bf16")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq");
    // A processor with AVX-512 has a leaf 7.
    vectors && __cpuid_count(7, 0).edx & tiles == tiles
}

/// Asks the system for the right to use tiles, which it gives to the whole process or, being too old, not at all.
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XTILEDATA: libc::c_long = 18;
    // SAFETY: the call takes two numbers and touches no memory.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XTILEDATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

/// One side of a product: entry `(line, k)` is `data[line * line_stride + k * k_stride]`, where a line is a row of
/// the left side or a column of the right one. One of the strides is 1.
#[derive(Clone, Copy)]
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
        let start = room.as_ptr().align_offset(BLOCK_BYTES / LINES);
        let place_len = n_steps * pieces.n() * BLOCK_LEN;
        let fill_steps = |place: usize, steps: Range<usize>, blocks: &mut [f32]| {
            for (step, blocks) in steps.zip(blocks.chunks_exact_mut(pieces.n() * BLOCK_LEN)) {
                // SAFETY: there are `Pieces` only where the machine has the instructions.
                unsafe { fill(side, place, step, lead, pairs_first, blocks) }
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

/// The blocks of one place and one step, one of each piece.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
fn fill(
    side: Side<'_>,
    place: usize,
    step: usize,
    lead: usize,
    pairs_first: bool,
    blocks: &mut [f32],
) {
    let first = place * LINES;
    let n_lines = LINES.min(side.n_lines - first);
    let along_k = side.k_stride == 1;
    debug_assert!(along_k || side.line_stride == 1, "neither lines nor the inner index lie dense");
    // What of the side falls into these blocks.
    let k = (step * DEPTH).clamp(lead, lead + side.k)..(step * DEPTH + DEPTH).min(lead + side.k);
    let (rows, cols) = (k.start - step * DEPTH..k.end - step * DEPTH, 0..n_lines);
    let (lines, cols, stride, origin) = if along_k {
        (cols, rows, side.line_stride, first * side.line_stride + k.start - lead)
    } else {
        (rows, cols, side.k_stride, (k.start - lead) * side.k_stride + first)
    };
    let window = Window { data: &side.data[origin..], stride, lines, cols };
    let whole = n_lines == LINES && k.len() == DEPTH;
    let turn = along_k == pairs_first;
    for (piece, block) in blocks.chunks_exact_mut(BLOCK_LEN).enumerate() {
        let block = block.as_chunks_mut::<LINES>().0;
        match (along_k, whole) {
            (true, true) => fill_block::<true, true>(&window, piece, turn, block),
            (true, false) => fill_block::<true, false>(&window, piece, turn, block),
            (false, true) => fill_block::<false, true>(&window, piece, turn, block),
            (false, false) => fill_block::<false, false>(&window, piece, turn, block),
        }
    }
}

/// What of a side falls into a block: line `lines.start + i` of the block, at `cols`, begins at `data[i * stride]`.
///
/// The lines are those of the memory: sixteen with 32 numbers each along the inner index, or 32 with sixteen across it.
struct Window<'a> {
    data: &'a [f32],
    stride: usize,
    lines: Range<usize>,
    cols: Range<usize>,
}

impl Window<'_> {
    /// Numbers `col` to `col + 16` of a line.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn load<const WHOLE: bool>(&self, line: usize, col: usize, n_lines: usize) -> __m512 {
        if WHOLE {
            let numbers = &self.data[line * self.stride + col..][..LINES];
            // The same of the block that comes so many lines later, which is what the processor does not foresee.
            let later = numbers.as_ptr().wrapping_add(n_lines * self.stride);
            _mm_prefetch::<_MM_HINT_T0>(later.cast());
            // SAFETY: these are sixteen numbers.
            return unsafe { _mm512_loadu_ps(numbers.as_ptr()) };
        }
        let own = self.cols.start.max(col)..self.cols.end.min(col + LINES);
        if own.is_empty() || !self.lines.contains(&line) {
            return _mm512_setzero_ps();
        }
        let at = (line - self.lines.start) * self.stride + own.start - self.cols.start;
        let numbers = &self.data[at..][..own.len()];
        let mask = (u16::MAX >> (LINES - own.len())) << (own.start - col);
        // SAFETY: only the numbers of the slice are read; the address of lane 0 may lie before them.
        unsafe { _mm512_maskz_loadu_ps(mask, numbers.as_ptr().wrapping_sub(own.start - col)) }
    }

    /// Sixteen pairs: of a line along the inner index, or of two lines across it.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    fn pairs<const ALONG: bool, const WHOLE: bool>(&self, i: usize, piece: usize) -> __m512i {
        let (mut a, mut b) = if ALONG {
            (self.load::<WHOLE>(i, 0, LINES), self.load::<WHOLE>(i, LINES, LINES))
        } else {
            (self.load::<WHOLE>(2 * i, 0, DEPTH), self.load::<WHOLE>(2 * i + 1, 0, DEPTH))
        };
        if piece > 0 {
            (a, b) = (rest(a), rest(b));
        }
        round(a, b, ALONG)
    }
}

/// One piece of a block.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
fn fill_block<const ALONG: bool, const WHOLE: bool>(
    window: &Window<'_>,
    piece: usize,
    turn: bool,
    block: &mut [[f32; LINES]],
) {
    if turn {
        let mut rows = [_mm512_setzero_ps(); LINES];
        for (i, row) in rows.iter_mut().enumerate() {
            *row = _mm512_castsi512_ps(window.pairs::<ALONG, WHOLE>(i, piece));
        }
        exchange(&mut rows);
        for (to, row) in block.iter_mut().zip(rows) {
            // SAFETY: a row of a block has the room of sixteen numbers.
            unsafe { _mm512_storeu_ps(to.as_mut_ptr(), row) };
        }
        return;
    }
    for (i, to) in block.iter_mut().enumerate() {
        let row = window.pairs::<ALONG, WHOLE>(i, piece);
        // SAFETY: a row of a block has the room of sixteen numbers.
        unsafe { _mm512_storeu_epi32(to.as_mut_ptr().cast(), row) };
    }
}

/// Two vectors as rounded numbers: behind each other, or else each lane a pair of one number of either.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn round(a: __m512, b: __m512, behind: bool) -> __m512i {
    const INTERLEAVED: [i16; 2 * LINES] = {
        let mut lanes = [0; 2 * LINES];
        let mut i = 0;
        while i < 2 * LINES {
            lanes[i] = (i / 2 + i % 2 * LINES) as i16;
            i += 1;
        }
        lanes
    };
    // SAFETY: both types are 512 bits without meaning of their own.
    let rounded: __m512i = unsafe { std::mem::transmute(_mm512_cvtne2ps_pbh(b, a)) };
    if behind {
        return rounded;
    }
    // SAFETY: these are the 32 numbers that are read.
    _mm512_permutexvar_epi16(unsafe { _mm512_loadu_epi16(INTERLEAVED.as_ptr()) }, rounded)
}

/// What rounding takes away.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn rest(x: __m512) -> __m512 {
    _mm512_sub_ps(x, _mm512_cvtpbh_ps(_mm512_cvtneps_pbh(x)))
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
    let _tiles = Configured::new();
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
        const ZEROS: [f32; WHOLE] = [0.0; WHOLE];
        if [n_rows, n_cols] == [WHOLE; 2] {
            let (from, from_stride) = match start {
                Start::Zero => (ZEROS.as_ptr(), 0),
                Start::Keep => (out.as_ptr(), out_stride),
                Start::Bias(bias) => (bias[..WHOLE].as_ptr(), 0),
            };
            assert!(out.len() >= (WHOLE - 1) * out_stride + WHOLE);
            // SAFETY: 32 rows of 32 numbers are there to be read and written.
            return unsafe { self.run(from, from_stride, out.as_mut_ptr(), out_stride) };
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

    /// # Safety
    ///
    /// 32 rows of 32 numbers must be there to be read at `from` and to be written at `to`, so many numbers apart, and
    /// the tiles of this thread must be [`Configured`].
    unsafe fn run(&self, from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        let len = self.n_steps * self.pieces.n() * BLOCK_LEN;
        assert!(self.left.iter().chain(&self.right).all(|blocks| blocks.len() >= len));
        let ([a0, a1], [b0, b1]) =
            (self.left.map(<[f32]>::as_ptr), self.right.map(<[f32]>::as_ptr));
        let (from_below, to_below) =
            (from.wrapping_add(LINES * from_stride), to.wrapping_add(LINES * to_stride));
        // One block of assembly, since registers that hold tiles cannot be carried from one to another. A square of
        // four sums: of the left blocks in tmm4 and tmm5 with the right ones in tmm6 and tmm7.
        macro_rules! square {
            ($($step:literal),* $(,)?) => {
                // SAFETY: the blocks were checked above, the rest is the caller's promise.
                unsafe {
                    asm!(
                        "tileloadd tmm0, [{from} + {from_bytes}*1]",
                        "tileloadd tmm1, [{from} + {from_bytes}*1 + 64]",
                        "tileloadd tmm2, [{from_below} + {from_bytes}*1]",
                        "tileloadd tmm3, [{from_below} + {from_bytes}*1 + 64]",
                        "2:",
                        $($step,)*
                        "dec {n_steps}",
                        "jnz 2b",
                        "tilestored [{to} + {to_bytes}*1], tmm0",
                        "tilestored [{to} + {to_bytes}*1 + 64], tmm1",
                        "tilestored [{to_below} + {to_bytes}*1], tmm2",
                        "tilestored [{to_below} + {to_bytes}*1 + 64], tmm3",
                        from = in(reg) from,
                        from_below = in(reg) from_below,
                        from_bytes = in(reg) from_stride * 4,
                        to = in(reg) to,
                        to_below = in(reg) to_below,
                        to_bytes = in(reg) to_stride * 4,
                        n_steps = inout(reg) self.n_steps => _,
                        a0 = inout(reg) a0 => _,
                        a1 = inout(reg) a1 => _,
                        b0 = inout(reg) b0 => _,
                        b1 = inout(reg) b1 => _,
                        line = in(reg) BLOCK_BYTES / LINES,
                        out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                        out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                        options(nostack),
                    );
                }
            };
        }
        match self.pieces {
            Pieces::One => square!(
                "tileloadd tmm4, [{a0} + {line}*1]",
                "tileloadd tmm6, [{b0} + {line}*1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{b1} + {line}*1]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{a1} + {line}*1]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {a0}, 1024",
                "add {a1}, 1024",
                "add {b0}, 1024",
                "add {b1}, 1024",
            ),
            // The small products first: large with small, small with large, large with large.
            Pieces::Two => square!(
                "tileloadd tmm4, [{a0} + {line}*1]",
                "tileloadd tmm6, [{b0} + {line}*1 + 1024]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{b1} + {line}*1 + 1024]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{a1} + {line}*1]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "tileloadd tmm4, [{a0} + {line}*1 + 1024]",
                "tileloadd tmm6, [{b0} + {line}*1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{b1} + {line}*1]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{a1} + {line}*1 + 1024]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "tileloadd tmm4, [{a0} + {line}*1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{a1} + {line}*1]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {a0}, 2048",
                "add {a1}, 2048",
                "add {b0}, 2048",
                "add {b1}, 2048",
            ),
        }
    }
}

/// Tiles of sixteen rows of 64 bytes on this thread, given back when it is dropped.
struct Configured;

impl Configured {
    fn new() -> Self {
        #[repr(C, align(64))]
        struct Palette {
            number: u8,
            start_row: u8,
            reserved: [u8; 14],
            n_bytes: [u16; 16],
            n_rows: [u8; 16],
        }
        static PALETTE: Palette = {
            let (mut n_bytes, mut n_rows) = ([0; 16], [0; 16]);
            let mut tile = 0;
            while tile < 8 {
                (n_bytes[tile], n_rows[tile]) = ((BLOCK_BYTES / LINES) as u16, LINES as u8);
                tile += 1;
            }
            Palette { number: 1, start_row: 0, reserved: [0; 14], n_bytes, n_rows }
        };
        // SAFETY: the palette is as the manual has it; nothing else in this program uses tiles.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const PALETTE, options(nostack, readonly)) };
        Self
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        // SAFETY: tiles were configured on this thread, and nobody reads them any more.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
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

//! The instructions: vectors that are rounded, and tiles.

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

use super::{BLOCK_LEN, DEPTH, LINES, Pieces, Side, Square};
use crate::kernel::packed::exchange;

/// Bytes of a block.
const BLOCK_BYTES: usize = BLOCK_LEN * 4;

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

/// The blocks of one place and one step, one of each piece.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
pub(super) fn fill(
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

/// A square of four sums: of the left blocks in tmm4 and tmm5 with the right ones in tmm6 and tmm7.
///
/// One block of assembly, since registers that hold tiles cannot be carried from one to another.
macro_rules! square {
    (
        $n_steps:expr,
        $blocks:expr,
        ($from:expr, $from_stride:expr),
        ($to:expr, $to_stride:expr),
        $($step:literal),* $(,)?
    ) => {{
        let ([a0, a1], [b0, b1]) = $blocks;
        let (from, from_bytes): (*const f32, usize) = ($from, $from_stride * 4);
        let (to, to_bytes): (*mut f32, usize) = ($to, $to_stride * 4);
        // SAFETY: whoever uses this has checked the blocks and what is read and written.
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
                from_below = in(reg) from.wrapping_byte_add(LINES * from_bytes),
                from_bytes = in(reg) from_bytes,
                to = in(reg) to,
                to_below = in(reg) to.wrapping_byte_add(LINES * to_bytes),
                to_bytes = in(reg) to_bytes,
                n_steps = inout(reg) $n_steps => _,
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
    }};
}

impl Square<'_> {
    /// # Safety
    ///
    /// 32 rows of 32 numbers must be there to be read at `from` and to be written at `to`, so many numbers apart, and
    /// the tiles of this thread must be [`Configured`].
    pub(super) unsafe fn run(
        &self,
        from: *const f32,
        from_stride: usize,
        to: *mut f32,
        to_stride: usize,
    ) {
        let len = self.n_steps * self.pieces.n() * BLOCK_LEN;
        assert!(self.left.iter().chain(&self.right).all(|blocks| blocks.len() >= len));
        let blocks = (self.left.map(<[f32]>::as_ptr), self.right.map(<[f32]>::as_ptr));
        let n_steps = self.n_steps;
        match self.pieces {
            Pieces::One => square!(
                n_steps,
                blocks,
                (from, from_stride),
                (to, to_stride),
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
                n_steps,
                blocks,
                (from, from_stride),
                (to, to_stride),
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
pub(super) struct Configured;

impl Configured {
    pub(super) fn new() -> Self {
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
        unsafe {
            asm!(
                "ldtilecfg [{}]",
                in(reg) &raw const PALETTE,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, readonly),
            );
        };
        Self
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        // SAFETY: tiles were configured on this thread, and nobody reads them any more.
        unsafe {
            asm!(
                "tilerelease",
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, nomem),
            );
        };
    }
}

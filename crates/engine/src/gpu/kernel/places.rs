//! What depends on a token or on where a row stands: lookups, rotary positions, dropout.

use burn::tensor::DType;
use burn_cubecl::cubecl;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::prelude::*;

use super::rows::column_sums_each;
use super::{cubes, one_each, room};

#[cube(launch)]
fn embed_kernel(
    table: &Array<f32>,
    places: &Array<f32>,
    tokens: &Array<i32>,
    y: &mut Array<f32>,
    scale: f32,
    #[comptime] d: u32,
    n_pos: u32,
    per_member: u32,
    d_vocab: u32,
    #[comptime] placed: bool,
) {
    let i = ABSOLUTE_POS;
    if i < y.len() {
        let d = d as usize;
        let row = i / d;
        let column = i % d;
        let first = (row / per_member as usize) * d_vocab as usize;
        let mut sum = table[(first + tokens[row] as usize) * d + column];
        if placed {
            sum += scale * places[(row % n_pos as usize) * d + column];
        }
        y[i] = sum;
    }
}

/// Rows of `table: [members * d_vocab, d]`, one for each of `tokens: [batch, n_pos]`, plus `scale` times the row of their
/// place.
pub(crate) fn embed<R: CubeRuntime>(
    table: CubeTensor<R>,
    places: Option<(CubeTensor<R>, f64)>,
    tokens: CubeTensor<R>,
    [batch, n_pos, d]: [usize; 3],
    n_members: usize,
) -> CubeTensor<R> {
    let y = room(&table, [batch, n_pos, d], DType::F32);
    let (client, (count, dim)) = (table.client.clone(), one_each(batch * n_pos * d));
    let placed = places.is_some();
    let d_vocab = table.meta.shape()[0] / n_members;
    let (places, scale) = places.unwrap_or_else(|| (table.clone(), 0.0));
    embed_kernel::launch::<R>(
        &client,
        count,
        dim,
        table.into_array_arg(),
        places.into_array_arg(),
        tokens.into_array_arg(),
        y.clone().into_array_arg(),
        scale as f32,
        d as u32,
        n_pos as u32,
        (batch * n_pos / n_members).max(1) as u32,
        d_vocab as u32,
        placed,
    );
    y
}

/// Columns of a cube that collects the rows of a token.
const COLUMNS: u32 = 64;

#[cube(launch)]
fn collect_kernel(
    d_y: &Array<f32>,
    tokens: &Array<i32>,
    sums: &mut Array<f32>,
    d: u32,
    d_vocab: u32,
    per_chunk: u32,
    n_chunks: u32,
    per_member: u32,
) {
    let d = d as usize;
    let d_vocab = d_vocab as usize;
    let per_member = per_member as usize;
    let n_blocks = d.div_ceil(COLUMNS as usize);
    let column = (CUBE_POS % n_blocks) * COLUMNS as usize + UNIT_POS_X as usize;
    let token = (CUBE_POS / n_blocks) % d_vocab;
    let chunk = CUBE_POS / n_blocks / d_vocab;
    let at = (chunk * d_vocab + token) * d + column;
    if column < d && at < sums.len() {
        let start = (chunk / n_chunks as usize) * per_member;
        let within = (chunk % n_chunks as usize) * per_chunk as usize;
        let first = start + min(within, per_member);
        let past = start + min(within + per_chunk as usize, per_member);
        let mut sum = 0.0f32;
        for row in first..past {
            if tokens[row] as usize == token {
                sum += d_y[row * d + column];
            }
        }
        sums[at] = sum;
    }
}

/// For each member and each of its `d_vocab` tokens the sum of its rows of `d_y: [rows, d]` where the token stands.
///
/// Each unit goes through a chunk of the rows for one token and one column and reads only those that are the token's, so
/// the order of a sum is fixed, as it is not where units add to one number at once.
pub(crate) fn embed_backward<R: CubeRuntime>(
    tokens: CubeTensor<R>,
    d_y: CubeTensor<R>,
    d_vocab: usize,
    n_members: usize,
    [n_rows, d]: [usize; 2],
) -> CubeTensor<R> {
    let n_blocks = d.div_ceil(COLUMNS as usize);
    let per_member = n_rows / n_members;
    // Enough cubes to fill a device, and chunks long enough to be worth their sums.
    let n_cubes = (n_members * n_blocks * d_vocab).max(1);
    let n_chunks = (4096 / n_cubes).clamp(1, per_member.div_ceil(64).max(1));
    let per_chunk = per_member.div_ceil(n_chunks).max(1);
    let n_chunks = per_member.div_ceil(per_chunk).max(1);
    let sums = room(&d_y, [n_members * n_chunks * d_vocab * d], DType::F32);
    let client = d_y.client.clone();
    collect_kernel::launch::<R>(
        &client,
        cubes(n_members * n_chunks * d_vocab * n_blocks),
        CubeDim::new_1d(COLUMNS),
        d_y.into_array_arg(),
        tokens.into_array_arg(),
        sums.clone().into_array_arg(),
        d as u32,
        d_vocab as u32,
        per_chunk as u32,
        n_chunks as u32,
        per_member as u32,
    );
    if n_chunks == 1 { sums } else { column_sums_each(sums, [n_members, n_chunks, d_vocab * d]) }
}

#[cube(launch)]
fn places_kernel(
    d_y: &Array<f32>,
    d_places: &mut Array<f32>,
    scale: f32,
    batch: u32,
    per_example: u32,
) {
    let i = ABSOLUTE_POS;
    if i < d_places.len() {
        let per_example = per_example as usize;
        let mut sum = 0.0f32;
        if i < per_example {
            for example in 0..batch as usize {
                sum += d_y[example * per_example + i];
            }
        }
        d_places[i] = sum * scale;
    }
}

/// `scale` times the sum over examples of `d_y: [batch, pos, d]`, with zeros up to `n_ctx` places.
pub(crate) fn places_backward<R: CubeRuntime>(
    d_y: CubeTensor<R>,
    scale: f64,
    n_ctx: usize,
    [batch, n_pos, d]: [usize; 3],
) -> CubeTensor<R> {
    let d_places = room(&d_y, [n_ctx, d], DType::F32);
    let (client, (count, dim)) = (d_y.client.clone(), one_each(n_ctx * d));
    places_kernel::launch::<R>(
        &client,
        count,
        dim,
        d_y.into_array_arg(),
        d_places.clone().into_array_arg(),
        scale as f32,
        batch as u32,
        (n_pos * d) as u32,
    );
    d_places
}

#[cube(launch)]
fn rotary_kernel(
    x: &Array<f32>,
    rows: &Array<i32>,
    cos: &Array<f32>,
    sin: &Array<f32>,
    y: &mut Array<f32>,
    sign: f32,
    d: u32,
    d_head: u32,
    half: u32,
    n_turned: u32,
    seq_len: u32,
) {
    let i = ABSOLUTE_POS;
    if i < y.len() {
        let half = half as usize;
        let column = i % d as usize;
        let row = i / d as usize;
        let head = column / d_head as usize;
        let within = column % d_head as usize;
        let mut result = x[i];
        if head < n_turned as usize && within < 2 * half {
            let pos = rows[row] as usize % seq_len as usize;
            let angle = pos * half + within % half;
            if within < half {
                result = x[i] * cos[angle] - sign * x[i + half] * sin[angle];
            } else {
                result = x[i] * cos[angle] + sign * x[i - half] * sin[angle];
            }
        }
        y[i] = result;
    }
}

/// How heads are laid out in a row, and which are turned.
pub(crate) struct Turned {
    pub(crate) d_head: usize,
    /// Pairs of numbers that are turned.
    pub(crate) half: usize,
    pub(crate) n_turned: usize,
    pub(crate) seq_len: usize,
    /// 1 to turn, -1 to turn back.
    pub(crate) sign: f32,
}

/// Rows `x: [rows, d]` turned by the angles `[pos, half]` of the places `rows` stand at.
pub(crate) fn rotary<R: CubeRuntime>(
    x: CubeTensor<R>,
    rows: CubeTensor<R>,
    [cos, sin]: [CubeTensor<R>; 2],
    [n_rows, d]: [usize; 2],
    turned: &Turned,
) -> CubeTensor<R> {
    let y = room(&x, [n_rows, d], DType::F32);
    let (client, (count, dim)) = (x.client.clone(), one_each(n_rows * d));
    rotary_kernel::launch::<R>(
        &client,
        count,
        dim,
        x.into_array_arg(),
        rows.into_array_arg(),
        cos.into_array_arg(),
        sin.into_array_arg(),
        y.clone().into_array_arg(),
        turned.sign,
        d as u32,
        turned.d_head as u32,
        turned.half as u32,
        turned.n_turned as u32,
        turned.seq_len as u32,
    );
    y
}

#[cube(launch)]
fn scatter_kernel(d_y: &Array<f32>, rows: &Array<i32>, d_x: &mut Array<f32>, d: u32) {
    let i = ABSOLUTE_POS;
    if i < d_y.len() {
        let d = d as usize;
        let row = rows[i / d] as usize;
        d_x[row * d + i % d] = d_y[i];
    }
}

/// Rows `d_y: [n_queries, d]` written over those of `d_x: [rows, d]` at flat places `rows`, no two of which are the same.
pub(crate) fn scatter<R: CubeRuntime>(
    d_y: CubeTensor<R>,
    rows: CubeTensor<R>,
    d_x: &CubeTensor<R>,
    d: usize,
) {
    let (client, (count, dim)) = (d_y.client.clone(), one_each(d_y.meta.num_elements()));
    scatter_kernel::launch::<R>(
        &client,
        count,
        dim,
        d_y.into_array_arg(),
        rows.into_array_arg(),
        d_x.clone().into_array_arg(),
        d as u32,
    );
}

/// The two words of a row that is dropped from; `crate::dropout` is the format.
#[cube]
pub(super) fn dropout_words(
    keys: &Array<i32>,
    n_each: u32,
    example: u32,
    head: u32,
    pos: u32,
    #[comptime] version: u32,
) -> (u32, u32) {
    let member = (example / n_each) as usize;
    let mut c0 = example % n_each;
    let mut c1 = head;
    let mut c2 = pos;
    let mut c3 = version.runtime();
    let mut k0 = keys[2 * member] as u32;
    let mut k1 = keys[2 * member + 1] as u32;
    for _ in 0..10u32 {
        let high0 = u32::mul_hi(0xd251_1f53u32.runtime(), c0);
        let low0 = 0xd251_1f53u32 * c0;
        let high1 = u32::mul_hi(0xcd9e_8d57u32.runtime(), c2);
        let low1 = 0xcd9e_8d57u32 * c2;
        c0 = high1 ^ c1 ^ k0;
        c1 = low1;
        c2 = high0 ^ c3 ^ k1;
        c3 = low0;
        k0 += 0x9e37_79b9u32;
        k1 += 0xbb67_ae85u32;
    }
    (c0, c1)
}

/// By what the entry of a column is multiplied in a row of these words.
#[cube]
pub(super) fn dropout_factor(column: u32, word0: u32, word1: u32, bound: u32, kept: f32) -> f32 {
    let mut x = column + word0;
    x = (x ^ (x >> 17u32)) * 0xed5a_d4bbu32;
    x ^= word1;
    x = (x ^ (x >> 11u32)) * 0xac4c_1b51u32;
    x = (x ^ (x >> 15u32)) * 0x3184_8babu32;
    x = x ^ (x >> 14u32);
    if x < bound { 0.0f32.runtime() } else { kept }
}

#[cube(launch)]
fn dropout_kernel(
    x: &Array<f32>,
    rows: &Array<i32>,
    keys: &Array<i32>,
    y: &mut Array<f32>,
    d: u32,
    seq_len: u32,
    n_each: u32,
    bound: u32,
    kept: f32,
    #[comptime] version: u32,
) {
    let i = ABSOLUTE_POS;
    if i < y.len() {
        let row = rows[i / d as usize] as u32;
        let (word0, word1) =
            dropout_words(keys, n_each, row / seq_len, 0u32, row % seq_len, version);
        let column = (i % d as usize) as u32;
        y[i] = x[i] * dropout_factor(column, word0, word1, bound, kept);
    }
}

/// What a device needs to know of [`crate::Dropout`].
#[derive(Clone)]
pub(crate) struct Dropped<R: CubeRuntime> {
    /// The halves of each member's key.
    pub(crate) keys: CubeTensor<R>,
    /// Examples of each member.
    pub(crate) n_each: u32,
    pub(crate) bound: u32,
    pub(crate) kept: f32,
    pub(crate) version: u32,
}

/// Rows `x: [rows, d]` at flat places `rows`, some of their entries dropped.
pub(crate) fn dropout<R: CubeRuntime>(
    x: CubeTensor<R>,
    rows: CubeTensor<R>,
    seq_len: usize,
    [n_rows, d]: [usize; 2],
    dropped: Dropped<R>,
) -> CubeTensor<R> {
    let y = room(&x, [n_rows, d], DType::F32);
    let (client, (count, dim)) = (x.client.clone(), one_each(n_rows * d));
    dropout_kernel::launch::<R>(
        &client,
        count,
        dim,
        x.into_array_arg(),
        rows.into_array_arg(),
        dropped.keys.into_array_arg(),
        y.clone().into_array_arg(),
        d as u32,
        seq_len as u32,
        dropped.n_each,
        dropped.bound,
        dropped.kept,
        dropped.version,
    );
    y
}

//! Rows taken apart by heads, as products want them, and put together again.

use burn::tensor::DType;
use burn_cubecl::cubecl;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::prelude::*;

use super::{one_each, room};

/// Where a part of each row lies, and how it is cut into heads.
#[derive(Clone, Copy)]
pub(crate) struct Part {
    /// Width of a row, and of it where the part begins.
    pub(crate) width: usize,
    pub(crate) offset: usize,
    pub(crate) n_heads: usize,
    pub(crate) d_head: usize,
}

impl Part {
    /// Whether it is the whole of a row, and one head.
    pub(crate) fn is_whole(self) -> bool {
        self.n_heads == 1 && self.width == self.d_head
    }
}

#[cube(launch)]
fn split_kernel<I: Float, N: Float>(
    x: &Array<I>,
    index: &Array<i32>,
    heads: &mut Array<N>,
    width: u32,
    offset: u32,
    #[comptime] n_heads: u32,
    #[comptime] d_head: u32,
    n_there: u32,
    n_rows: u32,
    #[comptime] indexed: bool,
) {
    let i = ABSOLUTE_POS;
    if i < heads.len() {
        let d_head = d_head as usize;
        let column = i % d_head;
        let query = (i / d_head) % n_rows as usize;
        let head = (i / d_head / n_rows as usize) % n_heads as usize;
        let example = i / d_head / n_rows as usize / n_heads as usize;
        let at = offset as usize + head * d_head + column;
        let mut number = f32::new(0.0);
        if indexed {
            let row = index[example * n_rows as usize + query];
            if row >= 0i32 {
                number = f32::cast_from(x[row as usize * width as usize + at]);
            }
        } else if query < n_there as usize {
            number = f32::cast_from(x[(example * n_there as usize + query) * width as usize + at]);
        }
        heads[i] = N::cast_from(number);
    }
}

/// A part of rows `x: [_, width]` by heads: `[batch, head, row, d_head]`, as numbers of `dtype`.
///
/// An example has `n_there` rows, and zeros behind them up to `n_rows`. With `index: [batch, row]` a row is the one of `x`
/// that it names, or zeros where it names none (-1).
pub(crate) fn split<R: CubeRuntime>(
    x: &CubeTensor<R>,
    index: Option<&CubeTensor<R>>,
    [batch, n_there, n_rows]: [usize; 3],
    part: Part,
    dtype: DType,
) -> CubeTensor<R> {
    let heads = room(x, [batch, part.n_heads, n_rows, part.d_head], dtype);
    let (count, dim) = one_each(heads.meta.num_elements());
    let args = (
        x.clone().into_array_arg(),
        index.unwrap_or(x).clone().into_array_arg(),
        heads.clone().into_array_arg(),
    );
    let launch = match (x.dtype, dtype) {
        (DType::BF16, DType::BF16) => split_kernel::launch::<half::bf16, half::bf16, R>,
        (DType::BF16, _) => split_kernel::launch::<half::bf16, f32, R>,
        (_, DType::BF16) => split_kernel::launch::<f32, half::bf16, R>,
        _ => split_kernel::launch::<f32, f32, R>,
    };
    launch(
        &x.client,
        count,
        dim,
        args.0,
        args.1,
        args.2,
        part.width as u32,
        part.offset as u32,
        part.n_heads as u32,
        part.d_head as u32,
        n_there as u32,
        n_rows as u32,
        index.is_some(),
    );
    heads
}

#[cube(launch)]
fn unpack_kernel<I: Float, N: Float>(
    x: &Array<I>,
    first: &mut Array<N>,
    second: &mut Array<N>,
    third: &mut Array<N>,
    #[comptime] n_heads: u32,
    #[comptime] d_head: u32,
    n_there: u32,
    n_rows: u32,
    #[comptime] n_parts: u32,
) {
    let i = ABSOLUTE_POS;
    if i < first.len() {
        let (n_heads, d_head, n_parts) = (n_heads as usize, d_head as usize, n_parts as usize);
        let (n_there, n_rows) = (n_there as usize, n_rows as usize);
        let d = n_heads * d_head;
        let row = (i / d_head) % n_rows;
        let head = (i / d_head / n_rows) % n_heads;
        let example = i / d_head / n_rows / n_heads;
        let from = (example * n_there + row) * n_parts * d + head * d_head + i % d_head;
        let there = row < n_there;
        first[i] = if there { N::cast_from(x[from]) } else { N::cast_from(0.0f32) };
        second[i] = if there { N::cast_from(x[from + d]) } else { N::cast_from(0.0f32) };
        if comptime!(n_parts == 3) {
            third[i] = if there { N::cast_from(x[from + 2 * d]) } else { N::cast_from(0.0f32) };
        }
    }
}

/// [`split`] of each of the two or three parts that rows `x: [batch * n_there, N * n_heads * d_head]` consist of:
/// `[batch * head, row, d_head]`.
pub(crate) fn unpack<R: CubeRuntime, const N: usize>(
    x: &CubeTensor<R>,
    [batch, n_heads, n_there, n_rows, d_head]: [usize; 5],
    dtype: DType,
) -> [CubeTensor<R>; N] {
    const { assert!(N == 2 || N == 3, "the kernel knows two parts or three") };
    let parts = [(); N].map(|()| room(x, [batch * n_heads, n_rows, d_head], dtype));
    // What is not there is not written.
    let third = parts.get(2).cloned().unwrap_or_else(|| room(x, [1], dtype));
    let (count, dim) = one_each(parts[0].meta.num_elements());
    let launch = match (x.dtype, dtype) {
        (DType::BF16, DType::BF16) => unpack_kernel::launch::<half::bf16, half::bf16, R>,
        (DType::BF16, _) => unpack_kernel::launch::<half::bf16, f32, R>,
        (_, DType::BF16) => unpack_kernel::launch::<f32, half::bf16, R>,
        _ => unpack_kernel::launch::<f32, f32, R>,
    };
    launch(
        &x.client,
        count,
        dim,
        x.clone().into_array_arg(),
        parts[0].clone().into_array_arg(),
        parts[1].clone().into_array_arg(),
        third.into_array_arg(),
        n_heads as u32,
        d_head as u32,
        n_there as u32,
        n_rows as u32,
        N as u32,
    );
    parts
}

#[cube(launch)]
fn pack_kernel<N: Float>(
    first: &Array<f32>,
    second: &Array<f32>,
    third: &Array<f32>,
    x: &mut Array<N>,
    #[comptime] n_heads: u32,
    #[comptime] d_head: u32,
    n_there: u32,
    n_rows: u32,
    #[comptime] n_parts: u32,
) {
    let i = ABSOLUTE_POS;
    let (n_heads, d_head, n_parts) = (n_heads as usize, d_head as usize, n_parts as usize);
    if i * n_parts < x.len() {
        let (n_there, n_rows) = (n_there as usize, n_rows as usize);
        let d = n_heads * d_head;
        let row = i / d;
        let head = (row / n_there) * n_heads + (i % d) / d_head;
        let from = (head * n_rows + row % n_there) * d_head + i % d_head;
        let at = row * n_parts * d + i % d;
        x[at] = N::cast_from(first[from]);
        x[at + d] = N::cast_from(second[from]);
        if comptime!(n_parts == 3) {
            x[at + 2 * d] = N::cast_from(third[from]);
        }
    }
}

/// The inverse of [`unpack`], of the rows that are there, as numbers of
/// `dtype`: `[batch * n_there, N * n_heads * d_head]`.
pub(crate) fn pack<R: CubeRuntime, const N: usize>(
    parts: &[CubeTensor<R>; N],
    [batch, n_heads, n_there, n_rows, d_head]: [usize; 5],
    dtype: DType,
) -> CubeTensor<R> {
    const { assert!(N == 2 || N == 3, "the kernel knows two parts or three") };
    let x = room(&parts[0], [batch * n_there, N * n_heads * d_head], dtype);
    let (count, dim) = one_each(x.meta.num_elements() / N);
    let launch = match dtype {
        DType::BF16 => pack_kernel::launch::<half::bf16, R>,
        _ => pack_kernel::launch::<f32, R>,
    };
    launch(
        &x.client,
        count,
        dim,
        parts[0].clone().into_array_arg(),
        parts[1].clone().into_array_arg(),
        // What is not there is not read.
        parts.get(2).unwrap_or(&parts[1]).clone().into_array_arg(),
        x.clone().into_array_arg(),
        n_heads as u32,
        d_head as u32,
        n_there as u32,
        n_rows as u32,
        N as u32,
    );
    x
}

/// The place `example * n_rows + row` of a row that is written.
#[cube]
pub(super) fn place_of(
    row: usize,
    index: &Array<i32>,
    n_there: usize,
    n_rows: usize,
    #[comptime] indexed: bool,
) -> usize {
    if indexed { index[row] as usize } else { (row / n_there) * n_rows + row % n_there }
}

#[cube(launch)]
fn join_kernel<N: Float>(
    heads: &Array<f32>,
    index: &Array<i32>,
    x: &mut Array<N>,
    width: u32,
    offset: u32,
    #[comptime] n_heads: u32,
    #[comptime] d_head: u32,
    n_there: u32,
    n_rows: u32,
    n_written: u32,
    #[comptime] indexed: bool,
) {
    let i = ABSOLUTE_POS;
    if i < n_written as usize {
        let d_head = d_head as usize;
        let d = n_heads as usize * d_head;
        let n_rows = n_rows as usize;
        let row = i / d;
        let head = (i % d) / d_head;
        let place = place_of(row, index, n_there as usize, n_rows, indexed);
        let from = ((place / n_rows) * n_heads as usize + head) * n_rows + place % n_rows;
        let number = heads[from * d_head + i % d_head];
        x[row * width as usize + offset as usize + i % d] = N::cast_from(number);
    }
}

/// The inverse of [`split`]: heads `[batch, head, row, d_head]` into a part of the rows of `x: [n_written, width]`.
///
/// Of each example the first `n_there` rows are written. With `index: [n_written]` a row is the place
/// `example * n_rows + row` that it names.
pub(crate) fn join<R: CubeRuntime>(
    heads: CubeTensor<R>,
    index: Option<&CubeTensor<R>>,
    x: &CubeTensor<R>,
    [n_there, n_written]: [usize; 2],
    part: Part,
) {
    let n_rows = heads.meta.shape()[2];
    let n = n_written * part.n_heads * part.d_head;
    let (count, dim) = one_each(n);
    let index_or_any = index.unwrap_or(x).clone();
    let launch = match x.dtype {
        DType::BF16 => join_kernel::launch::<half::bf16, R>,
        _ => join_kernel::launch::<f32, R>,
    };
    launch(
        &x.client,
        count,
        dim,
        heads.into_array_arg(),
        index_or_any.into_array_arg(),
        x.clone().into_array_arg(),
        part.width as u32,
        part.offset as u32,
        part.n_heads as u32,
        part.d_head as u32,
        n_there as u32,
        n_rows as u32,
        n as u32,
        index.is_some(),
    );
}

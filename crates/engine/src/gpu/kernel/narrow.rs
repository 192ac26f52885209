//! Products with an axis of a few numbers, as of logits: nothing for tensor cores.

use burn::tensor::DType;
use burn_cubecl::cubecl;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::prelude::*;

use super::{UNITS, cubes, one_each, room, row_dim, sum_of_cube};

/// An axis of so many numbers is narrow.
const NARROW: usize = 16;

/// Sums of so many terms are added up by a cube each, if there are not many of them.
const LONG: usize = 64;
const FEW: usize = 1 << 13;

/// Whether a product that adds up `k` terms for each of `n` columns is one for [`product`].
pub(crate) fn is_narrow(k: usize, n: usize) -> bool {
    n <= NARROW || k <= NARROW
}

#[cube(launch)]
fn narrow_kernel<L: Float, R: Float>(
    lhs: &Array<L>,
    rhs: &Array<R>,
    out: &mut Array<f32>,
    m: u32,
    n: u32,
    k: u32,
    lhs_batch: u32,
    lhs_row: u32,
    lhs_column: u32,
    rhs_batch: u32,
    rhs_row: u32,
    rhs_column: u32,
    #[comptime] by_cube: bool,
) {
    let mut i = ABSOLUTE_POS;
    let mut first = 0usize;
    let mut step = 1usize;
    if by_cube {
        i = CUBE_POS;
        first = UNIT_POS_X as usize;
        step = UNITS as usize;
    }
    if i < out.len() {
        let (m, n, k) = (m as usize, n as usize, k as usize);
        let (row, column, batch) = ((i / n) % m, i % n, i / n / m);
        let left = batch * lhs_batch as usize + row * lhs_row as usize;
        let right = batch * rhs_batch as usize + column * rhs_column as usize;
        let mut sum = f32::new(0.0);
        let mut at = first;
        while at < k {
            let factor = f32::cast_from(lhs[left + at * lhs_column as usize]);
            sum += factor * f32::cast_from(rhs[right + at * rhs_row as usize]);
            at += step;
        }
        if by_cube {
            let mut shared = SharedMemory::<f32>::new(UNITS as usize);
            let total = sum_of_cube(&mut shared, sum);
            if UNIT_POS_X == 0 {
                out[i] = total;
            }
        } else {
            out[i] = sum;
        }
    }
}

/// `[.., m, k]` times `[.., k, n]`, with a unit or a cube for each number of the result; `None` where no axis is narrow.
///
/// Its kernel is the same for all shapes, where a kernel for tensor cores is another, and compiled anew, for many.
pub(crate) fn product<R: CubeRuntime>(
    lhs: &CubeTensor<R>,
    rhs: &CubeTensor<R>,
) -> Option<CubeTensor<R>> {
    let rank = lhs.meta.shape().num_dims();
    let [m, k] = [lhs.meta.shape()[rank - 2], lhs.meta.shape()[rank - 1]];
    let n = rhs.meta.shape()[rank - 1];
    if !is_narrow(k, n) {
        return None;
    }
    let out = if rank == 2 {
        room(lhs, [m, n], DType::F32)
    } else {
        room(lhs, [lhs.meta.shape()[0], m, n], DType::F32)
    };
    let strides = |matrix: &CubeTensor<R>| {
        let strides = matrix.meta.strides();
        let batch = if rank > 2 { strides[0] } else { 0 };
        [batch, strides[rank - 2], strides[rank - 1]].map(|stride| stride as u32)
    };
    let ([lhs_batch, lhs_row, lhs_column], [rhs_batch, rhs_row, rhs_column]) =
        (strides(lhs), strides(rhs));
    let launch = match (lhs.dtype, rhs.dtype) {
        (DType::BF16, DType::BF16) => narrow_kernel::launch::<half::bf16, half::bf16, R>,
        (DType::BF16, _) => narrow_kernel::launch::<half::bf16, f32, R>,
        (_, DType::BF16) => narrow_kernel::launch::<f32, half::bf16, R>,
        _ => narrow_kernel::launch::<f32, f32, R>,
    };
    let n_out = out.meta.num_elements();
    let by_cube = k >= LONG && n_out <= FEW;
    let (count, dim) = if by_cube { (cubes(n_out), row_dim()) } else { one_each(n_out) };
    launch(
        &out.client,
        count,
        dim,
        whole(lhs),
        whole(rhs),
        whole(&out),
        m as u32,
        n as u32,
        k as u32,
        lhs_batch,
        lhs_row,
        lhs_column,
        rhs_batch,
        rhs_row,
        rhs_column,
        by_cube,
    );
    Some(out)
}

/// The numbers of a tensor in the order of memory.
fn whole<R: CubeRuntime>(tensor: &CubeTensor<R>) -> ArrayArg<R> {
    let CubeTensor { client, handle, device, dtype, .. } = tensor.clone();
    let length = [tensor.meta.num_elements()].into();
    CubeTensor::new_contiguous(client, device, length, handle, dtype).into_array_arg()
}

//! Products of matrices, in the precision that a run asks for.

use std::cell::Cell;

use burn::tensor::{DType, Shape};
use burn_cubecl::kernel::cast;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubek::matmul::definition::{MatmulElems, MatmulGlobalElems};
use cubek::matmul::launch::{Strategy, launch_ref};
use cubek::std::InputBinding;

use super::kernel::{dense, room, rows::column_sums};
use crate::device::Precision;

thread_local! {
    /// In which precision this thread multiplies. A run computes on one thread from its beginning to its end, and
    /// Burn calls backward passes on the thread that asks for gradients.
    static PRECISION: Cell<Precision> = const { Cell::new(Precision::F32) };
}

/// Does `work` with products of this precision.
pub(crate) fn within<T>(precision: Precision, work: impl FnOnce() -> T) -> T {
    struct Before(Precision);
    impl Drop for Before {
        fn drop(&mut self) {
            PRECISION.set(self.0);
        }
    }
    let _before = Before(PRECISION.replace(precision));
    work()
}

/// The numbers that are multiplied: single precision, or what it is rounded to first.
pub(super) fn operand_type() -> DType {
    match PRECISION.get() {
        Precision::F32 | Precision::Tf32 => DType::F32,
        Precision::Bf16 => DType::BF16,
    }
}

/// A tensor as [`product`] wants it: dense, rounded if the precision says so.
pub(super) fn operand<R: CubeRuntime>(tensor: CubeTensor<R>) -> CubeTensor<R> {
    let dtype = operand_type();
    if tensor.dtype == dtype { dense(tensor) } else { dense(cast(tensor, dtype)) }
}

/// The same numbers in another shape.
pub(super) fn shaped<R: CubeRuntime, const D: usize>(
    tensor: CubeTensor<R>,
    shape: [usize; D],
) -> CubeTensor<R> {
    let CubeTensor { client, handle, device, dtype, .. } = dense(tensor);
    CubeTensor::new_contiguous(client, device, Shape::new(shape), handle, dtype)
}

/// A matrix, or each of a batch, with rows and columns exchanged; nothing is moved.
pub(super) fn transposed<R: CubeRuntime>(mut tensor: CubeTensor<R>) -> CubeTensor<R> {
    let rank = tensor.meta.shape().num_dims();
    tensor.meta.swap(rank - 2, rank - 1);
    tensor
}

/// `[.., m, k]` times `[.., k, n]` in single precision, of [`operand`]s of one batch.
pub(super) fn product<R: CubeRuntime>(lhs: CubeTensor<R>, rhs: CubeTensor<R>) -> CubeTensor<R> {
    let mut shape: Vec<usize> = lhs.meta.shape().iter().copied().collect();
    let rank = shape.len();
    let n_inner = shape[rank - 1];
    shape[rank - 1] = rhs.meta.shape()[rank - 1];
    let out = match shape[..] {
        [m, n] => room(&lhs, [m, n], DType::F32),
        [batch, m, n] => room(&lhs, [batch, m, n], DType::F32),
        _ => unreachable!("products are of two or three axes"),
    };
    if out.meta.num_elements() == 0 {
        return out;
    }
    assert!(n_inner > 0, "a sum of nothing");
    let client = lhs.client.clone();
    let mut elems = MatmulElems::from_globals(&MatmulGlobalElems {
        lhs: lhs.dtype.into(),
        rhs: rhs.dtype.into(),
        out: DType::F32.into(),
    });
    let (lhs_type, rhs_type) = (lhs.dtype.into(), rhs.dtype.into());
    let launched = launch_ref(
        &strategy(),
        &client,
        InputBinding::new(lhs.binding(), lhs_type),
        InputBinding::new(rhs.binding(), rhs_type),
        out.clone().binding(),
        &mut elems,
    );
    launched.unwrap_or_else(|refused| panic!("no kernel for a product of {shape:?}: {refused:?}"));
    out
}

/// Which of CubeK's routines multiplies. Its units add in single precision; its matrix instructions round factors of
/// single precision to tf32, and are not everywhere.
fn strategy() -> Strategy {
    match PRECISION.get() {
        Precision::F32 => Strategy::SimpleUnit(Default::default()),
        Precision::Tf32 | Precision::Bf16 => Strategy::Auto,
    }
}

/// The most parts that the rows of a gradient's sum are cut into.
const MOST_PARTS: usize = 16;
/// Tiles of the result with which a device is busy, and the width of one.
const ENOUGH_TILES: usize = 192;
const TILE: usize = 128;

/// `x^T d_y` of `[rows, m]` and `[rows, n]`: a small result of long sums. They are cut into parts that a device does
/// side by side, and the parts added up.
pub(super) fn product_over_rows<R: CubeRuntime>(
    x: CubeTensor<R>,
    d_y: CubeTensor<R>,
) -> CubeTensor<R> {
    let ([n_rows, m], [_, n]) = (dims(&x), dims(&d_y));
    if n_rows == 0 {
        return column_sums(room(&x, [0], DType::F32), [0, m * n]);
    }
    let n_tiles = m.div_ceil(TILE) * n.div_ceil(TILE);
    let mut n_parts = 1;
    while n_parts < MOST_PARTS
        && n_tiles * n_parts < ENOUGH_TILES
        && n_rows.is_multiple_of(2 * n_parts)
        && n_rows / (2 * n_parts) >= 2 * TILE
    {
        n_parts *= 2;
    }
    let per_part = n_rows / n_parts;
    let x = shaped(x, [n_parts, per_part, m]);
    let parts = product(transposed(x), shaped(d_y, [n_parts, per_part, n]));
    if n_parts == 1 {
        return shaped(parts, [m, n]);
    }
    shaped(column_sums(parts, [n_parts, m * n]), [m, n])
}

/// The two axes of a matrix.
pub(super) fn dims<R: CubeRuntime>(matrix: &CubeTensor<R>) -> [usize; 2] {
    let shape = matrix.meta.shape();
    [shape[0], shape[1]]
}

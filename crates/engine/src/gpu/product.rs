//! Products of matrices, in the precision that a run asks for.

use burn::tensor::{DType, Shape};
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubek::matmul::definition::{MatmulElems, MatmulGlobalElems};
use cubek::matmul::launch::{Strategy, launch_ref};
use cubek::matmul::routines::BlueprintStrategy;
use cubek::matmul::routines::simple::SimpleArgs;
use cubek::std::InputBinding;

use super::kernel::rows::{column_sums_each, in_type};
use super::kernel::{dense, narrow, room};
use crate::device::Precision;
use crate::factor::is_factor;

/// The type of numbers that are multiplied, for kernels that make them: single, or what that is rounded to first.
pub(super) fn operand_type() -> DType {
    match Precision::here() {
        Precision::F32 | Precision::Tf32 => DType::F32,
        Precision::Bf16 => DType::BF16,
    }
}

/// The type of a result: that of factors, if it will only ever be one.
pub(super) fn result_type() -> DType {
    if is_factor() { operand_type() } else { DType::F32 }
}

/// A tensor as products want it: rounded, if the precision says so and it is not yet.
pub(super) fn operand<R: CubeRuntime>(tensor: CubeTensor<R>) -> CubeTensor<R> {
    let dtype = operand_type();
    if tensor.dtype == dtype { tensor } else { in_type(tensor, dtype) }
}

/// The same numbers in another shape.
pub(super) fn shaped<R: CubeRuntime, const D: usize>(
    tensor: CubeTensor<R>,
    shape: [usize; D],
) -> CubeTensor<R> {
    let CubeTensor { client, handle, device, dtype, .. } = dense(tensor);
    CubeTensor::new_contiguous(client, device, Shape::new(shape), handle, dtype)
}

/// A matrix whose rows belong to `n_members`, as one matrix of each; that of one stays what it is.
pub(super) fn by_member<R: CubeRuntime>(matrix: CubeTensor<R>, n_members: usize) -> CubeTensor<R> {
    let [n_rows, n_columns] = dims(&matrix);
    assert!(n_rows.is_multiple_of(n_members), "{n_rows} rows are not of {n_members} members");
    if n_members == 1 { matrix } else { shaped(matrix, [n_members, n_rows / n_members, n_columns]) }
}

/// A matrix, or each of a batch, with rows and columns exchanged; nothing is moved.
pub(super) fn transposed<R: CubeRuntime>(mut tensor: CubeTensor<R>) -> CubeTensor<R> {
    let rank = tensor.meta.shape().num_dims();
    tensor.meta.swap(rank - 2, rank - 1);
    tensor
}

/// What a causal pattern spares a product, if its kernel knows how to spare it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Causal {
    /// Everything counts.
    All,
    /// What lies right of the result's diagonal is not looked at: scores, and gradients of a pattern.
    ToDiagonal,
    /// The left factor is 0 right of its diagonal: a pattern.
    LeftIsLower,
    /// The left factor is 0 left of its diagonal: a pattern with its axes exchanged.
    LeftIsUpper,
}

impl Causal {
    /// As the kernel in CUDA C++ knows it.
    #[cfg(feature = "cuda")]
    pub(super) fn number(self) -> u64 {
        match self {
            Self::All => 0,
            Self::ToDiagonal => 1,
            Self::LeftIsLower => 2,
            Self::LeftIsUpper => 3,
        }
    }
}

/// `[.., m, k]` times `[.., k, n]` in single precision; both are rounded as the precision says, if they are not yet.
///
/// A narrow product takes its factors as they come: it needs no tensor cores.
pub(super) fn product<R: CubeRuntime>(lhs: CubeTensor<R>, rhs: CubeTensor<R>) -> CubeTensor<R> {
    narrow::product(&lhs, &rhs).unwrap_or_else(|| causal_product(lhs, rhs, Causal::All))
}

/// [`product`], where what a causal pattern leaves out need not be computed.
pub(super) fn causal_product<R: CubeRuntime>(
    lhs: CubeTensor<R>,
    rhs: CubeTensor<R>,
    causal: Causal,
) -> CubeTensor<R> {
    let [lhs, rhs] = [lhs, rhs].map(operand);
    let out = room_for(&lhs, &rhs, DType::F32);
    if out.meta.num_elements() > 0 && !own_kernel([&lhs, &rhs], None, &out, causal) {
        by_cubek(&lhs, &rhs, &out);
    }
    out
}

/// A [`product`] as numbers of `dtype` and with `bias: [members * n]` added, if the kernel that multiplies can do both;
/// else in single precision and without it, which `false` says.
pub(super) fn layer_product<R: CubeRuntime>(
    lhs: CubeTensor<R>,
    rhs: CubeTensor<R>,
    bias: Option<&CubeTensor<R>>,
    dtype: DType,
) -> (CubeTensor<R>, bool) {
    if let Some(product) = narrow::product(&lhs, &rhs) {
        return (product, false);
    }
    let [lhs, rhs] = [lhs, rhs].map(operand);
    let out = room_for(&lhs, &rhs, dtype);
    if out.meta.num_elements() == 0 || own_kernel([&lhs, &rhs], bias, &out, Causal::All) {
        return (out, true);
    }
    let out = if dtype == DType::F32 { out } else { room_for(&lhs, &rhs, DType::F32) };
    by_cubek(&lhs, &rhs, &out);
    (out, false)
}

/// Where a product goes.
fn room_for<R: CubeRuntime>(
    lhs: &CubeTensor<R>,
    rhs: &CubeTensor<R>,
    dtype: DType,
) -> CubeTensor<R> {
    let (shape, n) = (lhs.meta.shape(), rhs.meta.shape()[rhs.meta.shape().num_dims() - 1]);
    match *shape.as_slice() {
        [m, _] => room(lhs, [m, n], dtype),
        [batch, m, _] => room(lhs, [batch, m, n], dtype),
        _ => unreachable!("products are of two or three axes"),
    }
}

/// Multiplies by the first of CubeK's routines that knows the shape and the device.
fn by_cubek<R: CubeRuntime>(lhs: &CubeTensor<R>, rhs: &CubeTensor<R>, out: &CubeTensor<R>) {
    let (shape, client) = (lhs.meta.shape(), lhs.client.clone());
    assert!(shape[shape.num_dims() - 1] > 0, "a sum of nothing");
    let mut refused = None;
    for strategy in strategies() {
        let mut elems = MatmulElems::from_globals(&MatmulGlobalElems {
            lhs: lhs.dtype.into(),
            rhs: rhs.dtype.into(),
            out: DType::F32.into(),
        });
        let [lhs, rhs] = [lhs, rhs].map(|x| InputBinding::new(x.clone().binding(), x.dtype.into()));
        match launch_ref(&strategy, &client, lhs, rhs, out.clone().binding(), &mut elems) {
            Ok(()) => return,
            Err(why) => refused = Some(why),
        }
    }
    panic!("no kernel for a product into {:?}: {refused:?}", out.meta.shape())
}

/// Multiplies by our kernel for bf16, where there is one and the shapes suit it, and says whether it did.
#[cfg(feature = "cuda")]
fn own_kernel<R: CubeRuntime>(
    [lhs, rhs]: [&CubeTensor<R>; 2],
    bias: Option<&CubeTensor<R>>,
    out: &CubeTensor<R>,
    causal: Causal,
) -> bool {
    use std::any::Any;
    type OnCuda = CubeTensor<burn_cubecl::cubecl::cuda::CudaRuntime>;
    let of = |tensor: &dyn Any| tensor.downcast_ref::<OnCuda>().cloned();
    let (Some(lhs), Some(rhs), Some(out)) = (of(lhs), of(rhs), of(out)) else { return false };
    let bias = bias.and_then(|bias| of(bias));
    super::cuda::gemm::multiply([&lhs, &rhs], bias.as_ref(), &out, causal)
}

#[cfg(not(feature = "cuda"))]
fn own_kernel<R: CubeRuntime>(
    _factors: [&CubeTensor<R>; 2],
    _bias: Option<&CubeTensor<R>>,
    _out: &CubeTensor<R>,
    _causal: Causal,
) -> bool {
    false
}

/// CubeK's routines to try, the first that knows the shape and the device multiplies. Its units add in single precision;
/// its matrix instructions cut factors of single precision to eleven significant bits, and are not everywhere.
fn strategies() -> Vec<Strategy> {
    let units = Strategy::SimpleUnit(Default::default());
    let rows = SimpleArgs { multi_rows: true, ..Default::default() };
    match Precision::here() {
        Precision::F32 => vec![units],
        Precision::Tf32 => {
            vec![
                Strategy::SimpleCyclicMma(BlueprintStrategy::Inferred(rows)),
                Strategy::Auto,
                units,
            ]
        }
        Precision::Bf16 => vec![Strategy::Auto, units],
    }
}

/// The most parts that the rows of a gradient's sum are cut into.
const MOST_PARTS: usize = 16;
/// Tiles of the result with which a device is busy, and the width of one.
const ENOUGH_TILES: usize = 192;
const TILE: usize = 128;

/// `x^T d_y` of `[rows, m]` and `[rows, n]`, of each member's rows: `[members * m, n]`, small results of long sums. They are
/// cut into parts that a device does side by side, and the parts added up.
pub(super) fn product_over_rows<R: CubeRuntime>(
    x: CubeTensor<R>,
    d_y: CubeTensor<R>,
    n_members: usize,
) -> CubeTensor<R> {
    let ([n_rows, m], [_, n]) = (dims(&x), dims(&d_y));
    if n_rows == 0 {
        return column_sums_each(room(&x, [0], DType::F32), [1, 0, n_members * m * n]);
    }
    let per_member = n_rows / n_members;
    let n_tiles = n_members * m.div_ceil(TILE) * n.div_ceil(TILE);
    let mut n_parts = 1;
    while n_parts < MOST_PARTS
        && n_tiles * n_parts < ENOUGH_TILES
        && per_member.is_multiple_of(2 * n_parts)
        && per_member / (2 * n_parts) >= 2 * TILE
    {
        n_parts *= 2;
    }
    let (n_all, per_part) = (n_members * n_parts, per_member / n_parts);
    let x = shaped(x, [n_all, per_part, m]);
    let parts = product(transposed(x), shaped(d_y, [n_all, per_part, n]));
    if n_parts == 1 {
        return shaped(parts, [n_members * m, n]);
    }
    shaped(column_sums_each(parts, [n_members, n_parts, m * n]), [n_members * m, n])
}

/// The two axes of a matrix.
pub(super) fn dims<R: CubeRuntime>(matrix: &CubeTensor<R>) -> [usize; 2] {
    let shape = matrix.meta.shape();
    [shape[0], shape[1]]
}

//! Layer normalisation, with and without its mean, and the gradients.

#![expect(unsafe_code, reason = "a check of every index is a third of a kernel's instructions")]

use burn::tensor::DType;
use burn_cubecl::cubecl;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::prelude::*;

use super::rows::column_sums_each;
use super::{UNITS, by_lanes, lanes, room, row_of_lanes, sum_of_row};

/// A unit's numbers of the row that begins at `start`, zeros where there are none; [`zeros`] has the room.
#[cube]
fn numbers_of(
    x: &Array<f32>,
    own: &mut Array<f32>,
    start: usize,
    d: usize,
    #[comptime] lanes: u32,
    #[comptime] per_unit: u32,
) {
    #[unroll]
    for i in 0..per_unit {
        let column = (i * lanes + UNIT_POS_X) as usize;
        own[i as usize] = if column < d { x[start + column] } else { 0.0f32.runtime() };
    }
}

/// The inverse of [`numbers_of`].
#[cube]
fn write_own(
    y: &mut Array<f32>,
    own: &Array<f32>,
    start: usize,
    d: usize,
    #[comptime] lanes: u32,
    #[comptime] per_unit: u32,
) {
    #[unroll]
    for i in 0..per_unit {
        let column = (i * lanes + UNIT_POS_X) as usize;
        if column < d {
            y[start + column] = own[i as usize];
        }
    }
}

/// The mean of a row (0 where it is not taken out) and one over the root of its variance.
#[cube]
fn moments(
    own: &Array<f32>,
    shared: &mut SharedMemory<f32>,
    d: usize,
    epsilon: f32,
    #[comptime] lanes: u32,
    #[comptime] per_unit: u32,
    #[comptime] centred: bool,
) -> (f32, f32) {
    let mut mean = 0.0f32;
    if centred {
        let mut sum = 0.0f32;
        #[unroll]
        for i in 0..per_unit {
            sum += own[i as usize];
        }
        mean = sum_of_row(shared, sum, lanes) / d as f32;
    }
    let mut squares = 0.0f32;
    #[unroll]
    for i in 0..per_unit {
        let column = (i * lanes + UNIT_POS_X) as usize;
        if column < d {
            let off = own[i as usize] - mean;
            squares += off * off;
        }
    }
    let variance = sum_of_row(shared, squares, lanes) / d as f32;
    (mean, 1.0f32 / f32::sqrt(variance + epsilon))
}

/// A unit's own zeros.
#[cube]
fn zeros(#[comptime] n: u32) -> Array<f32> {
    let mut zeros = Array::<f32>::new(n as usize);
    #[unroll]
    for i in 0..n {
        zeros[i as usize] = 0.0f32;
    }
    zeros
}

#[cube(launch_unchecked)]
fn norm_kernel<N: Float>(
    x: &Array<f32>,
    gain: &Array<f32>,
    bias: &Array<f32>,
    y: &mut Array<N>,
    epsilon: f32,
    d: u32,
    per_member: u32,
    #[comptime] lanes: u32,
    #[comptime] per_unit: u32,
    #[comptime] centred: bool,
) {
    let d = d as usize;
    let row = row_of_lanes(lanes);
    let start = row * d;
    if start < y.len() {
        let of_member = (row / per_member as usize) * d;
        let mut shared = SharedMemory::<f32>::new(UNITS as usize);
        let mut own = zeros(per_unit);
        numbers_of(x, &mut own, start, d, lanes, per_unit);
        let (mean, inverse) = moments(&own, &mut shared, d, epsilon, lanes, per_unit, centred);
        #[unroll]
        for i in 0..per_unit {
            let column = (i * lanes + UNIT_POS_X) as usize;
            if column < d {
                let mut normal = (own[i as usize] - mean) * inverse * gain[of_member + column];
                if centred {
                    normal += bias[of_member + column];
                }
                y[start + column] = N::cast_from(normal);
            }
        }
    }
}

/// Rows of `x: [rows, d]` normalised, `* gain + bias` of their member, `[members * d]`, as numbers of `dtype`; without a bias
/// the mean stays.
pub(crate) fn norm<R: CubeRuntime>(
    x: CubeTensor<R>,
    gain: CubeTensor<R>,
    bias: Option<CubeTensor<R>>,
    epsilon: f64,
    [n_rows, d]: [usize; 2],
    dtype: DType,
) -> CubeTensor<R> {
    let y = room(&x, [n_rows, d], dtype);
    let client = x.client.clone();
    let centred = bias.is_some();
    let bias = bias.unwrap_or_else(|| gain.clone());
    let n_members = gain.meta.num_elements() / d;
    assert!(n_rows.is_multiple_of(n_members), "{n_rows} rows are not of {n_members} members");
    let launch = match dtype {
        DType::BF16 => norm_kernel::launch_unchecked::<half::bf16, R>,
        _ => norm_kernel::launch_unchecked::<f32, R>,
    };
    let lanes = lanes(&client);
    let (count, dim) = by_lanes(n_rows, lanes);
    // SAFETY: a row is looked at only if it begins within `y`, which is of the size of `x`; columns end with it, and gain and
    // bias have as many for each member.
    unsafe {
        launch(
            &client,
            count,
            dim,
            x.into_array_arg(),
            gain.into_array_arg(),
            bias.into_array_arg(),
            y.clone().into_array_arg(),
            epsilon as f32,
            d as u32,
            (n_rows / n_members).max(1) as u32,
            lanes,
            (d as u32).div_ceil(lanes),
            centred,
        );
    }
    y
}

/// Rows that units of the backward pass take one after the other, so that what they give the gain and the bias is added up
/// before it is written.
const ROWS: usize = 4;

#[cube(launch_unchecked)]
fn norm_backward_kernel(
    x: &Array<f32>,
    gain: &Array<f32>,
    d_y: &Array<f32>,
    d_x: &mut Array<f32>,
    to_gain: &mut Array<f32>,
    to_bias: &mut Array<f32>,
    epsilon: f32,
    d: u32,
    n_rows: u32,
    n_chunks: u32,
    #[comptime] lanes: u32,
    #[comptime] per_unit: u32,
    #[comptime] centred: bool,
) {
    let (d, n_rows, n_chunks) = (d as usize, n_rows as usize, n_chunks as usize);
    let chunk = row_of_lanes(lanes);
    if chunk * d < to_gain.len() {
        let member = chunk / n_chunks;
        let within = (chunk % n_chunks) * ROWS;
        let mut shared = SharedMemory::<f32>::new(UNITS as usize);
        let mut own = zeros(per_unit);
        let mut pulls = zeros(per_unit);
        let mut of_gain = zeros(per_unit);
        let mut of_bias = zeros(per_unit);
        for row in within..min(within + ROWS, n_rows) {
            let start = (member * n_rows + row) * d;
            numbers_of(x, &mut own, start, d, lanes, per_unit);
            numbers_of(d_y, &mut pulls, start, d, lanes, per_unit);
            let (mean, inverse) = moments(&own, &mut shared, d, epsilon, lanes, per_unit, centred);
            let mut sum = 0.0f32;
            let mut along = 0.0f32;
            #[unroll]
            for i in 0..per_unit {
                let column = (i * lanes + UNIT_POS_X) as usize;
                if column < d {
                    let normal = (own[i as usize] - mean) * inverse;
                    let pull = pulls[i as usize];
                    of_gain[i as usize] += pull * normal;
                    of_bias[i as usize] += pull;
                    let grad = pull * gain[member * d + column];
                    sum += grad;
                    along += grad * normal;
                    own[i as usize] = normal;
                    pulls[i as usize] = grad;
                }
            }
            let along = sum_of_row(&mut shared, along, lanes) / d as f32;
            let mut level = 0.0f32;
            if centred {
                level = sum_of_row(&mut shared, sum, lanes) / d as f32;
            }
            #[unroll]
            for i in 0..per_unit {
                let column = (i * lanes + UNIT_POS_X) as usize;
                if column < d {
                    let grad = pulls[i as usize] - level - own[i as usize] * along;
                    d_x[start + column] = inverse * grad;
                }
            }
        }
        write_own(to_gain, &of_gain, chunk * d, d, lanes, per_unit);
        if centred {
            write_own(to_bias, &of_bias, chunk * d, d, lanes, per_unit);
        }
    }
}

/// The gradients of [`norm`] by `x` and gain, and by the bias where it is `centred`.
pub(crate) fn norm_backward<R: CubeRuntime>(
    x: CubeTensor<R>,
    gain: CubeTensor<R>,
    d_y: CubeTensor<R>,
    epsilon: f64,
    centred: bool,
    [n_rows, d]: [usize; 2],
) -> (CubeTensor<R>, CubeTensor<R>, Option<CubeTensor<R>>) {
    let d_x = room(&x, [n_rows, d], DType::F32);
    let n_members = gain.meta.num_elements() / d;
    assert!(n_rows.is_multiple_of(n_members), "{n_rows} rows are not of {n_members} members");
    let per_member = n_rows / n_members;
    let n_chunks = per_member.div_ceil(ROWS).max(1);
    let chunks = || room(&x, [n_members * n_chunks, d], DType::F32);
    let (to_gain, to_bias) = (chunks(), if centred { chunks() } else { room(&x, [1], DType::F32) });
    let client = x.client.clone();
    let lanes = lanes(&client);
    let (count, dim) = by_lanes(n_members * n_chunks, lanes);
    // SAFETY: a chunk is looked at only if it begins within `to_gain`; its rows end with those of its member, of `x`, `d_y` and
    // `d_x` alike, its columns with the row, and `to_bias` has as many where it is written.
    unsafe {
        norm_backward_kernel::launch_unchecked::<R>(
            &client,
            count,
            dim,
            x.into_array_arg(),
            gain.into_array_arg(),
            d_y.into_array_arg(),
            d_x.clone().into_array_arg(),
            to_gain.clone().into_array_arg(),
            to_bias.clone().into_array_arg(),
            epsilon as f32,
            d as u32,
            per_member as u32,
            n_chunks as u32,
            lanes,
            (d as u32).div_ceil(lanes),
            centred,
        );
    }
    let sums = |of_chunks| column_sums_each(of_chunks, [n_members, n_chunks, d]);
    (d_x, sums(to_gain), centred.then(|| sums(to_bias)))
}

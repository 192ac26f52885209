//! Layer normalisation, with and without its mean, and the gradients.

use burn::tensor::DType;
use burn_cubecl::cubecl;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::prelude::*;

use super::{UNITS, cubes, room, row_dim, rows::column_sums_each, sum_of_cube};

/// The mean of a row (0 where it is not taken out) and one over the root of its variance.
#[cube]
fn moments(
    x: &Array<f32>,
    shared: &mut SharedMemory<f32>,
    start: usize,
    d: usize,
    epsilon: f32,
    #[comptime] centred: bool,
) -> (f32, f32) {
    let unit = UNIT_POS_X as usize;
    let mut mean = 0.0f32;
    if centred {
        let mut sum = 0.0f32;
        let mut column = unit;
        while column < d {
            sum += x[start + column];
            column += UNITS as usize;
        }
        mean = sum_of_cube(shared, sum) / d as f32;
    }
    let mut squares = 0.0f32;
    let mut column = unit;
    while column < d {
        let off = x[start + column] - mean;
        squares += off * off;
        column += UNITS as usize;
    }
    let variance = sum_of_cube(shared, squares) / d as f32;
    (mean, 1.0f32 / f32::sqrt(variance + epsilon))
}

#[cube(launch)]
fn norm_kernel(
    x: &Array<f32>,
    gain: &Array<f32>,
    bias: &Array<f32>,
    y: &mut Array<f32>,
    epsilon: f32,
    d: u32,
    per_member: u32,
    #[comptime] centred: bool,
) {
    let d = d as usize;
    let start = CUBE_POS * d;
    if start < y.len() {
        let of_member = (CUBE_POS / per_member as usize) * d;
        let mut shared = SharedMemory::<f32>::new(UNITS as usize);
        let (mean, inverse) = moments(x, &mut shared, start, d, epsilon, centred);
        let mut column = UNIT_POS_X as usize;
        while column < d {
            let mut normal = (x[start + column] - mean) * inverse * gain[of_member + column];
            if centred {
                normal += bias[of_member + column];
            }
            y[start + column] = normal;
            column += UNITS as usize;
        }
    }
}

/// Rows of `x: [rows, d]` normalised, `* gain + bias` of their member, `[members * d]`; without a bias the mean stays.
pub(crate) fn norm<R: CubeRuntime>(
    x: CubeTensor<R>,
    gain: CubeTensor<R>,
    bias: Option<CubeTensor<R>>,
    epsilon: f64,
    [n_rows, d]: [usize; 2],
) -> CubeTensor<R> {
    let y = room(&x, [n_rows, d], DType::F32);
    let client = x.client.clone();
    let centred = bias.is_some();
    let bias = bias.unwrap_or_else(|| gain.clone());
    let n_members = gain.meta.num_elements() / d;
    norm_kernel::launch::<R>(
        &client,
        cubes(n_rows),
        row_dim(),
        x.into_array_arg(),
        gain.into_array_arg(),
        bias.into_array_arg(),
        y.clone().into_array_arg(),
        epsilon as f32,
        d as u32,
        (n_rows / n_members).max(1) as u32,
        centred,
    );
    y
}

#[cube(launch)]
fn norm_backward_kernel(
    x: &Array<f32>,
    gain: &Array<f32>,
    d_y: &Array<f32>,
    d_x: &mut Array<f32>,
    to_gain: &mut Array<f32>,
    epsilon: f32,
    d: u32,
    per_member: u32,
    #[comptime] centred: bool,
) {
    let d = d as usize;
    let start = CUBE_POS * d;
    if start < d_x.len() {
        let of_member = (CUBE_POS / per_member as usize) * d;
        let mut shared = SharedMemory::<f32>::new(UNITS as usize);
        let (mean, inverse) = moments(x, &mut shared, start, d, epsilon, centred);
        let mut sum = 0.0f32;
        let mut along = 0.0f32;
        let mut column = UNIT_POS_X as usize;
        while column < d {
            let normal = (x[start + column] - mean) * inverse;
            let grad = d_y[start + column] * gain[of_member + column];
            sum += grad;
            along += grad * normal;
            to_gain[start + column] = d_y[start + column] * normal;
            column += UNITS as usize;
        }
        let along = sum_of_cube(&mut shared, along) / d as f32;
        let mut level = 0.0f32;
        if centred {
            level = sum_of_cube(&mut shared, sum) / d as f32;
        }
        let mut column = UNIT_POS_X as usize;
        while column < d {
            let normal = (x[start + column] - mean) * inverse;
            let grad = d_y[start + column] * gain[of_member + column];
            d_x[start + column] = inverse * (grad - level - normal * along);
            column += UNITS as usize;
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
    let to_gain = room(&x, [n_rows, d], DType::F32);
    let client = x.client.clone();
    let n_members = gain.meta.num_elements() / d;
    norm_backward_kernel::launch::<R>(
        &client,
        cubes(n_rows),
        row_dim(),
        x.into_array_arg(),
        gain.into_array_arg(),
        d_y.clone().into_array_arg(),
        d_x.clone().into_array_arg(),
        to_gain.clone().into_array_arg(),
        epsilon as f32,
        d as u32,
        (n_rows / n_members).max(1) as u32,
        centred,
    );
    let of_members = [n_members, n_rows / n_members, d];
    let d_gain = column_sums_each(to_gain, of_members);
    let d_bias = centred.then(|| column_sums_each(d_y, of_members));
    (d_x, d_gain, d_bias)
}

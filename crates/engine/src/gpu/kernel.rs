//! Kernels of the GPU, in CubeCL: compiled for the device that runs them when they are first launched.
//!
//! Each launches on dense arrays and allocates what it writes. A sum is taken in an order that the shapes fix, so a
//! device gives the same bits each time. Where many numbers become few, [`lanes`] units take one row, or a *cube* of
//! [`UNITS`] units does, or a chunk of rows whose partial sums a second launch adds up. The units of a *plane* run in step.

pub(super) mod act;
pub(super) mod attention;
pub(super) mod heads;
pub(super) mod lookup;
pub(super) mod loss;
pub(super) mod lstm;
pub(super) mod narrow;
pub(super) mod norm;
pub(super) mod optim;
pub(super) mod places;
pub(super) mod rows;

use burn::tensor::{DType, Shape};
use burn_cubecl::cubecl;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::prelude::*;

/// Units of a cube that share the work on one row.
pub(super) const UNITS: u32 = 128;

/// Cubes along the first axis of a launch: devices take at least 65,535.
const MOST_CUBES: u32 = 32_768;

/// Room for numbers beside those of `like`.
pub(super) fn room<R: CubeRuntime, const D: usize>(
    like: &CubeTensor<R>,
    shape: [usize; D],
    dtype: DType,
) -> CubeTensor<R> {
    let (client, device) = (like.client.clone(), like.device.clone());
    empty_device_contiguous_dtype(client, device, Shape::new(shape), dtype)
}

/// Whole numbers on the device of `like`.
pub(super) fn ints<R: CubeRuntime>(ints: &[i32], like: &CubeTensor<R>) -> CubeTensor<R> {
    let (client, device) = (like.client.clone(), like.device.clone());
    let handle = client.create_from_slice(i32::as_bytes(ints));
    CubeTensor::new_contiguous(client, device, [ints.len()].into(), handle, DType::I32)
}

/// The numbers of a tensor in order, without gaps.
pub(super) fn dense<R: CubeRuntime>(tensor: CubeTensor<R>) -> CubeTensor<R> {
    into_contiguous(tensor)
}

/// A launch of `n` cubes, some more at the end: a kernel asks [`CUBE_POS`].
pub(super) fn cubes(n: usize) -> CubeCount {
    let n = u32::try_from(n).expect("a launch has fewer than 2^32 cubes").max(1);
    let across = n.min(MOST_CUBES);
    CubeCount::Static(across, n.div_ceil(across), 1)
}

/// A launch of one unit for each of `n` numbers, some more at the end: a kernel asks [`ABSOLUTE_POS`].
pub(super) fn one_each(n: usize) -> (CubeCount, CubeDim) {
    const DIM: u32 = 256;
    (cubes(n.div_ceil(DIM as usize)), CubeDim::new_1d(DIM))
}

/// The dimension of a cube that works on one row.
pub(super) fn row_dim() -> CubeDim {
    CubeDim::new_1d(UNITS)
}

/// Units that share a row: as many as surely run in step, for these need not wait for each other; where those are few, a
/// cube.
pub(super) fn lanes<R: CubeRuntime>(client: &ComputeClient<R>) -> u32 {
    match client.properties().hardware.plane_size_min {
        ..8 => UNITS,
        8..16 => 8,
        16..32 => 16,
        _ => 32,
    }
}

/// A launch in which [`lanes`] units take each of `n` rows, some more at the end: a kernel asks [`row_of_lanes`].
pub(super) fn by_lanes(n: usize, lanes: u32) -> (CubeCount, CubeDim) {
    let per_cube = UNITS / lanes;
    (cubes(n.div_ceil(per_cube as usize)), CubeDim::new_2d(lanes, per_cube))
}

/// The row of a unit.
#[cube]
pub(super) fn row_of_lanes(#[comptime] lanes: u32) -> usize {
    CUBE_POS * (UNITS / lanes) as usize + UNIT_POS_Y as usize
}

/// The sum over the units of a row of what each brings; every unit gets it.
#[cube]
pub(super) fn sum_of_row(shared: &mut SharedMemory<f32>, mine: f32, #[comptime] lanes: u32) -> f32 {
    if comptime!(lanes == UNITS) {
        sum_of_cube(shared, mine)
    } else {
        let mut sum = mine;
        #[unroll]
        for i in 0..comptime!(lanes.ilog2()) {
            sum += plane_shuffle_xor(sum, comptime!(1 << i));
        }
        sum
    }
}

/// The largest of what the units of a row bring; every unit gets it.
#[cube]
pub(super) fn max_of_row(shared: &mut SharedMemory<f32>, mine: f32, #[comptime] lanes: u32) -> f32 {
    if comptime!(lanes == UNITS) {
        max_of_cube(shared, mine)
    } else {
        let mut largest = mine;
        #[unroll]
        for i in 0..comptime!(lanes.ilog2()) {
            largest = max(largest, plane_shuffle_xor(largest, comptime!(1 << i)));
        }
        largest
    }
}

/// The sum over all units of a cube of what each brings; every unit gets it.
#[cube]
pub(super) fn sum_of_cube(shared: &mut SharedMemory<f32>, mine: f32) -> f32 {
    let of_plane = plane_sum(mine);
    if UNIT_POS_PLANE == 0 {
        shared[PLANE_POS as usize] = of_plane;
    }
    sync_cube();
    let mut total = f32::new(0.0);
    for plane in 0..UNITS / PLANE_DIM {
        total += shared[plane as usize];
    }
    sync_cube();
    total
}

/// The largest of what the units of a cube bring; every unit gets it.
#[cube]
fn max_of_cube(shared: &mut SharedMemory<f32>, mine: f32) -> f32 {
    let of_plane = plane_max(mine);
    if UNIT_POS_PLANE == 0 {
        shared[PLANE_POS as usize] = of_plane;
    }
    sync_cube();
    let mut largest = shared[0];
    for plane in 1..UNITS / PLANE_DIM {
        largest = max(largest, shared[plane as usize]);
    }
    sync_cube();
    largest
}

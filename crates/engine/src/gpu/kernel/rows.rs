//! Sums over rows, and numbers in another type.

use burn::tensor::DType;
use burn_cubecl::cubecl;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::prelude::*;

use super::{cubes, one_each, room};

/// Columns of a cube that adds up rows, and how many rows it reads at once.
const COLUMNS: u32 = 32;
const LANES: u32 = 8;
/// Rows of a chunk, unless there are many.
const ROWS: usize = 256;

#[cube(launch)]
fn sums_kernel(
    x: &Array<f32>,
    sums: &mut Array<f32>,
    d: u32,
    n_rows: u32,
    per_chunk: u32,
    n_chunks: u32,
) {
    let d = d as usize;
    let n_rows = n_rows as usize;
    let n_blocks = d.div_ceil(COLUMNS as usize);
    let chunk = CUBE_POS / n_blocks;
    let column = (CUBE_POS % n_blocks) * COLUMNS as usize + UNIT_POS_X as usize;
    let lane = UNIT_POS_Y as usize;
    let n_columns = COLUMNS as usize;
    let mut shared = SharedMemory::<f32>::new((COLUMNS * LANES) as usize);
    let there = column < d && chunk * d + column < sums.len();
    let mut sum = f32::new(0.0);
    if there {
        let first = (chunk / n_chunks as usize) * n_rows;
        let within = (chunk % n_chunks as usize) * per_chunk as usize;
        let past = first + min(within + per_chunk as usize, n_rows);
        let mut row = first + within + lane;
        while row < past {
            sum += x[row * d + column];
            row += LANES as usize;
        }
    }
    shared[lane * n_columns + UNIT_POS_X as usize] = sum;
    sync_cube();
    if there && lane == 0 {
        let mut total = f32::new(0.0);
        #[unroll]
        for other in 0..LANES {
            total += shared[other as usize * n_columns + UNIT_POS_X as usize];
        }
        sums[chunk * d + column] = total;
    }
}

/// The sum of each column of `[rows, d]`: `[d]`.
pub(crate) fn column_sums<R: CubeRuntime>(
    x: CubeTensor<R>,
    [n_rows, d]: [usize; 2],
) -> CubeTensor<R> {
    column_sums_each(x, [1, n_rows, d])
}

/// The sum of each column of each matrix of `[members, rows, d]`: `[members * d]`.
///
/// Many rows are added up in chunks, and then the sums of the chunks.
pub(crate) fn column_sums_each<R: CubeRuntime>(
    x: CubeTensor<R>,
    [n_members, n_rows, d]: [usize; 3],
) -> CubeTensor<R> {
    let per_chunk = n_rows.div_ceil(ROWS).clamp(ROWS, 1 << 20);
    let n_chunks = n_rows.div_ceil(per_chunk).max(1);
    let sums = room(&x, [n_members * n_chunks * d], DType::F32);
    let client = x.client.clone();
    sums_kernel::launch::<R>(
        &client,
        cubes(n_members * n_chunks * d.div_ceil(COLUMNS as usize)),
        CubeDim::new_2d(COLUMNS, LANES),
        x.into_array_arg(),
        sums.clone().into_array_arg(),
        d as u32,
        n_rows as u32,
        per_chunk as u32,
        n_chunks as u32,
    );
    if n_chunks == 1 { sums } else { column_sums_each(sums, [n_members, n_chunks, d]) }
}

/// Numbers that one unit converts.
const PER_UNIT: u32 = 4;

#[cube(launch)]
fn convert_kernel<I: Float, O: Float>(x: &Array<I>, y: &mut Array<O>, part: u32) {
    if ABSOLUTE_POS < part as usize {
        #[unroll]
        for i in 0..PER_UNIT {
            let at = i as usize * part as usize + ABSOLUTE_POS;
            if at < y.len() {
                y[at] = O::cast_from(x[at]);
            }
        }
    }
}

/// The same numbers as single ones or as bf16. They keep their order in memory, and with it the axes.
pub(crate) fn in_type<R: CubeRuntime>(x: CubeTensor<R>, dtype: DType) -> CubeTensor<R> {
    if x.dtype == dtype {
        return x;
    }
    let n = x.meta.num_elements();
    let part = n.div_ceil(PER_UNIT as usize);
    let y = room(&x, [n], dtype);
    let (client, (count, dim)) = (x.client.clone(), one_each(part));
    let (meta, device) = (x.meta.clone(), x.device.clone());
    let from_single = match (x.dtype, dtype) {
        (DType::F32, DType::BF16) => true,
        (DType::BF16, DType::F32) => false,
        (from, to) => panic!("no kernel that makes {to:?} of {from:?}"),
    };
    let launch = if from_single {
        convert_kernel::launch::<f32, half::bf16, R>
    } else {
        convert_kernel::launch::<half::bf16, f32, R>
    };
    let length = [n].into();
    let flat = CubeTensor::new_contiguous(x.client, x.device, length, x.handle, x.dtype);
    launch(&client, count, dim, flat.into_array_arg(), y.clone().into_array_arg(), part as u32);
    CubeTensor::new(client, y.handle, *meta, device, dtype)
}

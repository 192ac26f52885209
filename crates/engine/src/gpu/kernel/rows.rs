//! Sums over rows, and numbers in another type.

use burn::tensor::DType;
use burn_cubecl::cubecl;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::prelude::*;

use super::{cubes, room};

/// Columns of a cube that adds up rows.
const COLUMNS: u32 = 64;
/// The most rows that one unit adds up, unless there are more than the square of it.
const ROWS: usize = 256;

#[cube(launch)]
fn sums_kernel(x: &Array<f32>, sums: &mut Array<f32>, d: u32, n_rows: u32, per_chunk: u32) {
    let d = d as usize;
    let n_rows = n_rows as usize;
    let n_blocks = d.div_ceil(COLUMNS as usize);
    let chunk = CUBE_POS / n_blocks;
    let column = (CUBE_POS % n_blocks) * COLUMNS as usize + UNIT_POS_X as usize;
    if column < d && chunk * d + column < sums.len() {
        let first = chunk * per_chunk as usize;
        let past = min(first + per_chunk as usize, n_rows);
        let mut sum = 0.0f32;
        for row in first..past {
            sum += x[row * d + column];
        }
        sums[chunk * d + column] = sum;
    }
}

/// The sum of each column of `[rows, d]`: `[d]`.
///
/// Many rows are added up in chunks, and then the sums of the chunks.
pub(crate) fn column_sums<R: CubeRuntime>(
    x: CubeTensor<R>,
    [n_rows, d]: [usize; 2],
) -> CubeTensor<R> {
    let per_chunk = if n_rows <= ROWS { ROWS } else { n_rows.div_ceil(ROWS).max(32) };
    let n_chunks = n_rows.div_ceil(per_chunk).max(1);
    let sums = room(&x, [n_chunks * d], DType::F32);
    let client = x.client.clone();
    sums_kernel::launch::<R>(
        &client,
        cubes(n_chunks * d.div_ceil(COLUMNS as usize)),
        CubeDim::new_1d(COLUMNS),
        x.into_array_arg(),
        sums.clone().into_array_arg(),
        d as u32,
        n_rows as u32,
        per_chunk as u32,
    );
    if n_chunks == 1 { sums } else { column_sums(sums, [n_chunks, d]) }
}

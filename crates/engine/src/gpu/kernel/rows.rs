//! Sums over rows, and numbers in another type.

use burn::tensor::DType;
use burn_cubecl::cubecl;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::prelude::*;

use super::{cubes, one_each, room};

/// Columns of a cube that adds up rows, and how many rows it reads at once.
pub(super) const COLUMNS: u32 = 32;
pub(super) const AT_ONCE: u32 = 8;
/// Rows of a chunk, unless there are many.
const ROWS: usize = 256;

/// How the rows of each of several matrices are cut into chunks that cubes add up side by side.
#[derive(Clone, Copy)]
pub(super) struct Chunks {
    pub(super) per_chunk: usize,
    pub(super) n_chunks: usize,
}

impl Chunks {
    /// Of matrices of so many rows.
    pub(super) fn of(n_rows: usize) -> Self {
        let per_chunk = n_rows.div_ceil(ROWS).clamp(ROWS, 1 << 20);
        Self { per_chunk, n_chunks: n_rows.div_ceil(per_chunk).max(1) }
    }

    /// A launch over all chunks of `n_members` matrices of `d` columns.
    pub(super) fn launch(self, n_members: usize, d: usize) -> (CubeCount, CubeDim) {
        let n_blocks = d.div_ceil(COLUMNS as usize);
        (cubes(n_members * self.n_chunks * n_blocks), CubeDim::new_2d(COLUMNS, AT_ONCE))
    }
}

/// Where a unit of such a launch works: its chunk, its column, its first row, and the row behind its last one.
#[cube]
pub(super) fn where_in(
    d: usize,
    n_rows: u32,
    per_chunk: u32,
    n_chunks: u32,
) -> (usize, usize, usize, usize) {
    let (n_rows, n_chunks) = (n_rows as usize, n_chunks as usize);
    let n_blocks = d.div_ceil(COLUMNS as usize);
    let chunk = CUBE_POS / n_blocks;
    let column = (CUBE_POS % n_blocks) * COLUMNS as usize + UNIT_POS_X as usize;
    let first = (chunk / n_chunks) * n_rows;
    let within = (chunk % n_chunks) * per_chunk as usize;
    let past = first + min(within + per_chunk as usize, n_rows);
    (chunk, column, first + within + UNIT_POS_Y as usize, past)
}

/// The sum over the units of a column of what each brings; each of them gets it.
#[cube]
pub(super) fn sum_of_column(shared: &mut SharedMemory<f32>, mine: f32) -> f32 {
    let n_columns = COLUMNS as usize;
    shared[UNIT_POS_Y as usize * n_columns + UNIT_POS_X as usize] = mine;
    sync_cube();
    let mut total = f32::new(0.0);
    #[unroll]
    for row in 0..AT_ONCE {
        total += shared[row as usize * n_columns + UNIT_POS_X as usize];
    }
    sync_cube();
    total
}

#[cube(launch)]
fn sums_kernel<N: Float>(
    x: &Array<f32>,
    sums: &mut Array<f32>,
    converted: &mut Array<N>,
    d: u32,
    n_rows: u32,
    per_chunk: u32,
    n_chunks: u32,
    #[comptime] converts: bool,
) {
    let d = d as usize;
    let (chunk, column, first, past) = where_in(d, n_rows, per_chunk, n_chunks);
    let mut shared = SharedMemory::<f32>::new((COLUMNS * AT_ONCE) as usize);
    let there = column < d && chunk * d + column < sums.len();
    let mut sum = f32::new(0.0);
    if there {
        let mut row = first;
        while row < past {
            let number = x[row * d + column];
            if converts {
                converted[row * d + column] = N::cast_from(number);
            }
            sum += number;
            row += AT_ONCE as usize;
        }
    }
    let total = sum_of_column(&mut shared, sum);
    if there && UNIT_POS_Y == 0 {
        sums[chunk * d + column] = total;
    }
}

/// So few rows are added up by one unit a column.
const FEW: usize = 16;

#[cube(launch)]
fn few_rows_kernel(x: &Array<f32>, sums: &mut Array<f32>, d: u32, n_rows: u32) {
    let i = ABSOLUTE_POS;
    if i < sums.len() {
        let d = d as usize;
        let mut at = (i / d) * d * n_rows as usize + i % d;
        let mut sum = f32::new(0.0);
        for _ in 0..n_rows {
            sum += x[at];
            at += d;
        }
        sums[i] = sum;
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
    dims: [usize; 3],
) -> CubeTensor<R> {
    let [n_members, n_rows, d] = dims;
    if n_rows <= FEW {
        let sums = room(&x, [n_members * d], DType::F32);
        let (client, (count, dim)) = (x.client.clone(), one_each(n_members * d));
        let (x, into) = (x.into_array_arg(), sums.clone().into_array_arg());
        few_rows_kernel::launch::<R>(&client, count, dim, x, into, d as u32, n_rows as u32);
        return sums;
    }
    let unwritten = room(&x, [1], DType::F32);
    let (sums, n_chunks) = sums_of_chunks(x, dims, unwritten);
    sums_of_all(sums, dims, n_chunks)
}

/// [`column_sums_each`], and on the way the same numbers as `dtype`.
pub(crate) fn column_sums_and<R: CubeRuntime>(
    x: CubeTensor<R>,
    dims: [usize; 3],
    dtype: DType,
) -> (CubeTensor<R>, CubeTensor<R>) {
    if x.dtype == dtype {
        return (column_sums_each(x.clone(), dims), x);
    }
    let converted = room(&x, [dims[0] * dims[1], dims[2]], dtype);
    let (sums, n_chunks) = sums_of_chunks(x, dims, converted.clone());
    (sums_of_all(sums, dims, n_chunks), converted)
}

/// The sums of the columns of each chunk, `[members * chunks, d]`, and how many chunks a matrix has. If `converted` has room,
/// the numbers go there.
fn sums_of_chunks<R: CubeRuntime>(
    x: CubeTensor<R>,
    [n_members, n_rows, d]: [usize; 3],
    converted: CubeTensor<R>,
) -> (CubeTensor<R>, usize) {
    let chunks = Chunks::of(n_rows);
    let sums = room(&x, [n_members * chunks.n_chunks * d], DType::F32);
    let (client, (count, dim)) = (x.client.clone(), chunks.launch(n_members, d));
    let launch = match converted.dtype {
        DType::BF16 => sums_kernel::launch::<half::bf16, R>,
        _ => sums_kernel::launch::<f32, R>,
    };
    let converts = converted.dtype != DType::F32;
    launch(
        &client,
        count,
        dim,
        x.into_array_arg(),
        sums.clone().into_array_arg(),
        converted.into_array_arg(),
        d as u32,
        n_rows as u32,
        chunks.per_chunk as u32,
        chunks.n_chunks as u32,
        converts,
    );
    (sums, chunks.n_chunks)
}

/// The sums of `n_chunks` rows of each of several matrices `[members, n_chunks, d]`, where there is more than one.
pub(super) fn sums_of_all<R: CubeRuntime>(
    sums: CubeTensor<R>,
    [n_members, _, d]: [usize; 3],
    n_chunks: usize,
) -> CubeTensor<R> {
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

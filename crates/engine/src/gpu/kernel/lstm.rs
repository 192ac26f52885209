//! Long short-term memory: the whole scan over a sequence in one launch, a cube for each example.

use burn::tensor::DType;
use burn_cubecl::cubecl;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::prelude::*;

use super::act::{sigmoid, tanh_of};
use super::{cubes, room};

/// Units of a cube; the gates of a step are shared among them.
const UNITS: u32 = 512;

/// Examples, places, and the width of the state.
#[derive(Clone, Copy)]
pub(crate) struct Dims {
    pub(crate) batch: usize,
    pub(crate) seq_len: usize,
    pub(crate) d: usize,
    /// Of the batch, equally many examples of each.
    pub(crate) n_members: usize,
}

#[cube(launch)]
fn scan_kernel(
    gates_in: &Array<f32>,
    w_hh: &Array<f32>,
    h: &mut Array<f32>,
    h_before: &mut Array<f32>,
    gates: &mut Array<f32>,
    cells: &mut Array<f32>,
    seq_len: u32,
    per_member: u32,
    #[comptime] d: u32,
    #[comptime] kept: bool,
) {
    let example = CUBE_POS;
    let seq_len = seq_len as usize;
    let d = comptime!(d as usize);
    let of_member = (example / per_member as usize) * 4 * d * d;
    if example * seq_len * d < h.len() {
        let n_units = CUBE_DIM_X as usize;
        let unit = UNIT_POS_X as usize;
        let mut state = SharedMemory::<f32>::new(d);
        let mut cell = SharedMemory::<f32>::new(d);
        let mut here = SharedMemory::<f32>::new(4 * d);
        let mut i = unit;
        while i < d {
            state[i] = 0.0f32;
            cell[i] = 0.0f32;
            i += n_units;
        }
        sync_cube();
        for pos in 0..seq_len {
            let row = example * seq_len + pos;
            let mut column = unit;
            while column < 4 * d {
                let mut sum = gates_in[row * 4 * d + column];
                for k in 0..d {
                    sum += state[k] * w_hh[of_member + k * 4 * d + column];
                }
                let mut gate = sigmoid(sum);
                if column / d == 2 {
                    gate = tanh_of(sum);
                }
                here[column] = gate;
                if kept {
                    gates[row * 4 * d + column] = gate;
                }
                column += n_units;
            }
            sync_cube();
            let mut i = unit;
            while i < d {
                if kept {
                    h_before[row * d + i] = state[i];
                }
                let next = here[d + i] * cell[i] + here[i] * here[2 * d + i];
                let out = here[3 * d + i] * tanh_of(next);
                cell[i] = next;
                state[i] = out;
                h[row * d + i] = out;
                if kept {
                    cells[row * d + i] = next;
                }
                i += n_units;
            }
            sync_cube();
        }
    }
}

/// What a scan gave, and what its gradient needs.
pub(crate) struct Scanned<R: CubeRuntime> {
    /// `[batch, pos, d]`
    pub(crate) h: CubeTensor<R>,
    /// The state before each place `[batch, pos, d]`, the gates `[batch, pos, 4 d]` and the cells `[batch, pos, d]`;
    /// of no use unless they were to be kept.
    pub(crate) kept: [CubeTensor<R>; 3],
}

/// Scans `gates_in: [batch, pos, 4 d]` with `w_hh: [members * d, 4 d]`.
pub(crate) fn scan<R: CubeRuntime>(
    gates_in: CubeTensor<R>,
    w_hh: CubeTensor<R>,
    dims: Dims,
    keep: bool,
) -> Scanned<R> {
    let Dims { batch, seq_len, d, n_members } = dims;
    let h = room(&w_hh, [batch, seq_len, d], DType::F32);
    let widths = if keep { [d, 4 * d, d] } else { [0; 3] };
    let kept = widths.map(|width| room(&w_hh, [(batch * seq_len * width).max(1)], DType::F32));
    let client = w_hh.client.clone();
    scan_kernel::launch::<R>(
        &client,
        cubes(batch),
        CubeDim::new_1d(units(&client)),
        gates_in.into_array_arg(),
        w_hh.into_array_arg(),
        h.clone().into_array_arg(),
        kept[0].clone().into_array_arg(),
        kept[1].clone().into_array_arg(),
        kept[2].clone().into_array_arg(),
        seq_len as u32,
        (batch / n_members).max(1) as u32,
        d as u32,
        keep,
    );
    Scanned { h, kept }
}

fn units<R: CubeRuntime>(client: &ComputeClient<R>) -> u32 {
    UNITS.min(client.properties().hardware.max_cube_dim.0)
}

/// The gradients by what came into the gates of entry `i`, but for the last, from that by its cell.
#[cube]
fn through_gates(
    gates: &Array<f32>,
    here: &mut SharedMemory<f32>,
    at: usize,
    i: usize,
    d: usize,
    d_cell: f32,
    before: f32,
) {
    let gate_i = gates[at];
    let gate_f = gates[at + d];
    let gate_g = gates[at + 2 * d];
    here[i] = d_cell * gate_g * gate_i * (1.0f32 - gate_i);
    here[d + i] = d_cell * before * gate_f * (1.0f32 - gate_f);
    here[2 * d + i] = d_cell * gate_i * (1.0f32 - gate_g * gate_g);
}

#[cube(launch)]
fn scan_backward_kernel(
    w_hh_t: &Array<f32>,
    gates: &Array<f32>,
    cells: &Array<f32>,
    d_h: &Array<f32>,
    d_gates: &mut Array<f32>,
    seq_len: u32,
    per_member: u32,
    #[comptime] d: u32,
) {
    let example = CUBE_POS;
    let seq_len = seq_len as usize;
    let d = comptime!(d as usize);
    let of_member = (example / per_member as usize) * 4 * d * d;
    if example * seq_len * d < d_h.len() {
        let n_units = CUBE_DIM_X as usize;
        let unit = UNIT_POS_X as usize;
        let mut d_state = SharedMemory::<f32>::new(d);
        let mut d_cell = SharedMemory::<f32>::new(d);
        let mut here = SharedMemory::<f32>::new(4 * d);
        let mut partial = SharedMemory::<f32>::new(4 * d);
        let mut i = unit;
        while i < d {
            d_state[i] = 0.0f32;
            d_cell[i] = 0.0f32;
            i += n_units;
        }
        sync_cube();
        for back in 0..seq_len {
            let pos = seq_len - 1 - back;
            let row = example * seq_len + pos;
            let mut i = unit;
            while i < d {
                let mut before = f32::new(0.0);
                if pos > 0 {
                    before = cells[(row - 1) * d + i];
                }
                let d_out = d_h[row * d + i] + d_state[i];
                let squashed = tanh_of(cells[row * d + i]);
                let at = row * 4 * d + i;
                let gate_o = gates[at + 3 * d];
                let d_here = d_cell[i] + d_out * gate_o * (1.0f32 - squashed * squashed);
                through_gates(gates, &mut here, at, i, d, d_here, before);
                here[3 * d + i] = d_out * squashed * gate_o * (1.0f32 - gate_o);
                d_cell[i] = d_here * gates[at + d];
                i += n_units;
            }
            sync_cube();
            // Four parts of each sum side by side, one of each gate.
            let mut entry = unit;
            while entry < 4 * d {
                d_gates[row * 4 * d + entry] = here[entry];
                let first = (entry / d) * d;
                let mut sum = 0.0f32;
                for k in 0..d {
                    sum += here[first + k] * w_hh_t[of_member + (first + k) * d + entry % d];
                }
                partial[entry] = sum;
                entry += n_units;
            }
            sync_cube();
            let mut i = unit;
            while i < d {
                d_state[i] = partial[i] + partial[d + i] + partial[2 * d + i] + partial[3 * d + i];
                i += n_units;
            }
            sync_cube();
        }
    }
}

/// The gradient of [`scan`] by what came into the gates: `[batch, pos, 4 d]`.
///
/// `w_hh_t` is each member's `w_hh` with its axes exchanged, dense.
pub(crate) fn scan_backward<R: CubeRuntime>(
    w_hh_t: CubeTensor<R>,
    [gates, cells]: [CubeTensor<R>; 2],
    d_h: CubeTensor<R>,
    dims: Dims,
) -> CubeTensor<R> {
    let Dims { batch, seq_len, d, n_members } = dims;
    let d_gates = room(&d_h, [batch, seq_len, 4 * d], DType::F32);
    let client = d_h.client.clone();
    scan_backward_kernel::launch::<R>(
        &client,
        cubes(batch),
        CubeDim::new_1d(units(&client)),
        w_hh_t.into_array_arg(),
        gates.into_array_arg(),
        cells.into_array_arg(),
        d_h.into_array_arg(),
        d_gates.clone().into_array_arg(),
        seq_len as u32,
        (batch / n_members).max(1) as u32,
        d as u32,
    );
    d_gates
}

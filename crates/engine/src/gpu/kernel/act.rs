//! Activations behind a product, and their gradients.

#![expect(
    clippy::fn_params_excessive_bools,
    reason = "what a kernel is compiled for are its arguments"
)]

use burn::tensor::DType;
use burn_cubecl::cubecl;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::prelude::*;

use super::rows::{AT_ONCE, COLUMNS, Chunks, sum_of_column, sums_of_all, where_in};
use super::{one_each, room};
use crate::{Activation, Gate, Gelu};

/// The functions by the numbers that kernels know them by.
const RELU: u32 = 0;
const GELU_ERF: u32 = 1;
const GELU_TANH: u32 = 2;
const SIGMOID: u32 = 3;
const SILU: u32 = 4;

/// `sqrt(2 / pi)`, `1 / sqrt(2)`, and the density of a normal deviate of 0.
const ROOT_2_OVER_PI: f32 = 0.797_884_6;
const ROOT_HALF: f32 = std::f32::consts::FRAC_1_SQRT_2;
const PEAK: f32 = 0.398_942_3;

fn number(act: Activation) -> u32 {
    let of_gelu = |form| match form {
        Gelu::Erf => GELU_ERF,
        Gelu::Tanh => GELU_TANH,
    };
    match act {
        Activation::Relu | Activation::Gated(Gate::Relu) => RELU,
        Activation::Gelu(form) | Activation::Gated(Gate::Gelu(form)) => of_gelu(form),
        Activation::Gated(Gate::Sigmoid) => SIGMOID,
        Activation::Gated(Gate::Silu) => SILU,
    }
}

/// `1 / (1 + e^-x)`.
#[cube]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0f32 / (1.0f32 + f32::exp(-x))
}

/// `tanh` by one exponential that cannot overflow.
#[cube]
pub(super) fn tanh_of(x: f32) -> f32 {
    let small = f32::exp(-2.0f32 * f32::abs(x));
    let size = (1.0f32 - small) / (1.0f32 + small);
    if x < 0.0f32 { -size } else { size }
}

/// What is inside the hyperbolic tangent of GPT-2's GELU.
#[cube]
fn inner(x: f32) -> f32 {
    ROOT_2_OVER_PI * (x + 0.044_715f32 * x * x * x)
}

#[cube]
fn value(x: f32, #[comptime] which: u32) -> f32 {
    if comptime!(which == RELU) {
        max(x, 0.0f32)
    } else if comptime!(which == GELU_ERF) {
        0.5f32 * x * (1.0f32 + Erf::erf(x * ROOT_HALF))
    } else if comptime!(which == GELU_TANH) {
        0.5f32 * x * (1.0f32 + tanh_of(inner(x)))
    } else if comptime!(which == SIGMOID) {
        sigmoid(x)
    } else {
        x * sigmoid(x)
    }
}

#[cube]
fn slope(x: f32, #[comptime] which: u32) -> f32 {
    if comptime!(which == RELU) {
        if x > 0.0f32 { 1.0f32.runtime() } else { 0.0f32.runtime() }
    } else if comptime!(which == GELU_ERF) {
        let density = PEAK * f32::exp(-0.5f32 * x * x);
        0.5f32 * (1.0f32 + Erf::erf(x * ROOT_HALF)) + x * density
    } else if comptime!(which == GELU_TANH) {
        let gate = tanh_of(inner(x));
        let speed = ROOT_2_OVER_PI * (1.0f32 + 0.134_145f32 * x * x);
        0.5f32 * (1.0f32 + gate) + 0.5f32 * x * (1.0f32 - gate * gate) * speed
    } else if comptime!(which == SIGMOID) {
        let gate = sigmoid(x);
        gate * (1.0f32 - gate)
    } else {
        let gate = sigmoid(x);
        gate * (1.0f32 + x * (1.0f32 - gate))
    }
}

#[cube(launch)]
fn act_kernel<N: Float>(
    product: &mut Array<f32>,
    bias: &Array<f32>,
    y: &mut Array<N>,
    per_member: u32,
    #[comptime] d_out: u32,
    #[comptime] which: u32,
    #[comptime] gated: bool,
    #[comptime] biased: bool,
) {
    let i = ABSOLUTE_POS;
    if i < y.len() {
        let d_out = d_out as usize;
        let column = i % d_out;
        if gated {
            let at = (i / d_out) * 2 * d_out + column;
            let mut x = product[at];
            let mut gate = product[at + d_out];
            if biased {
                let of_member = (i / per_member as usize) * 2 * d_out + column;
                x += bias[of_member];
                gate += bias[of_member + d_out];
                product[at] = x;
                product[at + d_out] = gate;
            }
            y[i] = N::cast_from(x * value(gate, which));
        } else {
            let mut x = product[i];
            if biased {
                x += bias[(i / per_member as usize) * d_out + column];
                product[i] = x;
            }
            y[i] = N::cast_from(value(x, which));
        }
    }
}

/// The bias `[members * d_product]` is added to `product: [rows, d_product]` where it lies, and `[rows, d_out]` of
/// activations returned, as numbers of `dtype`.
pub(crate) fn act<R: CubeRuntime>(
    product: &CubeTensor<R>,
    bias: Option<CubeTensor<R>>,
    act: Activation,
    [n_rows, d_out]: [usize; 2],
    dtype: DType,
) -> CubeTensor<R> {
    let y = room(product, [n_rows, d_out], dtype);
    let (count, dim) = one_each(n_rows * d_out);
    let biased = bias.is_some();
    let n_members = bias.as_ref().map_or(1, |bias| bias.meta.num_elements() / act.d_product(d_out));
    // Without a bias the array is not read.
    let bias = bias.unwrap_or_else(|| room(product, [1], DType::F32));
    let launch = match dtype {
        DType::BF16 => act_kernel::launch::<half::bf16, R>,
        _ => act_kernel::launch::<f32, R>,
    };
    launch(
        &product.client,
        count,
        dim,
        product.clone().into_array_arg(),
        bias.into_array_arg(),
        y.clone().into_array_arg(),
        (n_rows * d_out / n_members).max(1) as u32,
        d_out as u32,
        number(act),
        act.gated(),
        biased,
    );
    y
}

#[cube(launch)]
fn act_backward_kernel<N: Float>(
    product: &Array<f32>,
    d_y: &Array<f32>,
    d_product: &mut Array<N>,
    sums: &mut Array<f32>,
    d_out: u32,
    n_rows: u32,
    per_chunk: u32,
    n_chunks: u32,
    #[comptime] which: u32,
    #[comptime] gated: bool,
) {
    let d_out = d_out as usize;
    let mut d_product_row = d_out;
    if gated {
        d_product_row *= 2;
    }
    let (chunk, column, first, past) = where_in(d_out, n_rows, per_chunk, n_chunks);
    let mut shared = SharedMemory::<f32>::new((COLUMNS * AT_ONCE) as usize);
    let to = chunk * d_product_row + column;
    let there = column < d_out && to < sums.len();
    let mut sum = f32::new(0.0);
    let mut sum_of_gate = f32::new(0.0);
    if there {
        let mut row = first;
        while row < past {
            let pull = d_y[row * d_out + column];
            let at = row * d_product_row + column;
            if gated {
                let gate = product[at + d_out];
                let by_x = pull * value(gate, which);
                let by_gate = pull * product[at] * slope(gate, which);
                d_product[at] = N::cast_from(by_x);
                d_product[at + d_out] = N::cast_from(by_gate);
                sum += by_x;
                sum_of_gate += by_gate;
            } else {
                let by_x = pull * slope(product[at], which);
                d_product[at] = N::cast_from(by_x);
                sum += by_x;
            }
            row += AT_ONCE as usize;
        }
    }
    let total = sum_of_column(&mut shared, sum);
    if there && UNIT_POS_Y == 0 {
        sums[to] = total;
    }
    if gated {
        let total = sum_of_column(&mut shared, sum_of_gate);
        if there && UNIT_POS_Y == 0 {
            sums[to + d_out] = total;
        }
    }
}

/// The gradient of [`act`] by `product`, which holds the bias already, as numbers of `dtype`.
pub(crate) struct ByProduct<R: CubeRuntime> {
    pub(crate) d_product: CubeTensor<R>,
    /// The sums of its columns over the rows of each chunk.
    sums: CubeTensor<R>,
    dims: [usize; 3],
}

impl<R: CubeRuntime> ByProduct<R> {
    /// The gradient by the bias: `[members * d_product]`.
    pub(crate) fn by_bias(self) -> CubeTensor<R> {
        let n_chunks = Chunks::of(self.dims[1]).n_chunks;
        sums_of_all(self.sums, self.dims, n_chunks)
    }
}

/// The gradient of [`act`] of `[members * rows, d_out]`.
pub(crate) fn act_backward<R: CubeRuntime>(
    product: CubeTensor<R>,
    d_y: CubeTensor<R>,
    act: Activation,
    [n_members, n_rows, d_out]: [usize; 3],
    dtype: DType,
) -> ByProduct<R> {
    let (chunks, d_product_row) = (Chunks::of(n_rows), act.d_product(d_out));
    let d_product = room(&d_y, [n_members * n_rows, d_product_row], dtype);
    let sums = room(&d_y, [n_members * chunks.n_chunks * d_product_row], DType::F32);
    let (client, (count, dim)) = (d_y.client.clone(), chunks.launch(n_members, d_out));
    let launch = match dtype {
        DType::BF16 => act_backward_kernel::launch::<half::bf16, R>,
        _ => act_backward_kernel::launch::<f32, R>,
    };
    launch(
        &client,
        count,
        dim,
        product.into_array_arg(),
        d_y.into_array_arg(),
        d_product.clone().into_array_arg(),
        sums.clone().into_array_arg(),
        d_out as u32,
        n_rows as u32,
        chunks.per_chunk as u32,
        chunks.n_chunks as u32,
        number(act),
        act.gated(),
    );
    ByProduct { d_product, sums, dims: [n_members, n_rows, d_product_row] }
}

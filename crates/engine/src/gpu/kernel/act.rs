//! Activations behind a product, and their gradients.

#![expect(
    clippy::fn_params_excessive_bools,
    reason = "what a kernel is compiled for are its arguments"
)]

use burn::tensor::DType;
use burn_cubecl::cubecl;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::prelude::*;

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
fn act_kernel(
    product: &mut Array<f32>,
    bias: &Array<f32>,
    y: &mut Array<f32>,
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
            y[i] = x * value(gate, which);
        } else {
            let mut x = product[i];
            if biased {
                x += bias[(i / per_member as usize) * d_out + column];
                product[i] = x;
            }
            y[i] = value(x, which);
        }
    }
}

/// The bias `[members * d_product]` is added to `product: [rows, d_product]` where it lies, and `[rows, d_out]` of
/// activations returned.
pub(crate) fn act<R: CubeRuntime>(
    product: &CubeTensor<R>,
    bias: Option<CubeTensor<R>>,
    act: Activation,
    [n_rows, d_out]: [usize; 2],
) -> CubeTensor<R> {
    let y = room(product, [n_rows, d_out], DType::F32);
    let (count, dim) = one_each(n_rows * d_out);
    let biased = bias.is_some();
    let n_members = bias.as_ref().map_or(1, |bias| bias.meta.num_elements() / act.d_product(d_out));
    // Without a bias the array is not read.
    let bias = bias.unwrap_or_else(|| room(product, [1], DType::F32));
    act_kernel::launch::<R>(
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
fn act_backward_kernel(
    product: &Array<f32>,
    d_y: &Array<f32>,
    d_product: &mut Array<f32>,
    #[comptime] d_out: u32,
    #[comptime] which: u32,
    #[comptime] gated: bool,
) {
    let i = ABSOLUTE_POS;
    if i < d_y.len() {
        if gated {
            let d_out = d_out as usize;
            let at = (i / d_out) * 2 * d_out + i % d_out;
            let x = product[at];
            let gate = product[at + d_out];
            d_product[at] = d_y[i] * value(gate, which);
            d_product[at + d_out] = d_y[i] * x * slope(gate, which);
        } else {
            d_product[i] = d_y[i] * slope(product[i], which);
        }
    }
}

/// The gradient of [`act`] by `product`, which holds the bias already.
pub(crate) fn act_backward<R: CubeRuntime>(
    product: CubeTensor<R>,
    d_y: CubeTensor<R>,
    act: Activation,
    [n_rows, d_out]: [usize; 2],
) -> CubeTensor<R> {
    let d_product = room(&d_y, [n_rows, act.d_product(d_out)], DType::F32);
    let (client, (count, dim)) = (d_y.client.clone(), one_each(n_rows * d_out));
    act_backward_kernel::launch::<R>(
        &client,
        count,
        dim,
        product.into_array_arg(),
        d_y.into_array_arg(),
        d_product.clone().into_array_arg(),
        d_out as u32,
        number(act),
        act.gated(),
    );
    d_product
}

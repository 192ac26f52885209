//! Activation functions: of each number, or of one half of a row as the gate of the other.
//!
//! Each is a curve, a function from a number to the value and the slope there. Everything is inlined
//! into loops, so whichever of the two a loop does not use is never computed.

use rayon::prelude::*;

use super::fresh::Fresh;
use super::math::{erf, exp};
use super::simd::{fma, multiversion};
use crate::{Activation, Gate, Gelu};

/// Numbers of one task.
const CHUNK: usize = 1 << 14;

/// `sqrt(2 / pi)` and the cubic coefficient of the tanh form of GELU.
const ROOT_2_PI: f32 = 0.797_884_6;
const CUBIC: f32 = 0.044_715;

/// `act` of every number, for one that is not gated.
pub(crate) fn forward(x: &[f32], act: Activation) -> Vec<f32> {
    let mut y = Fresh::new(x.len());
    y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| apply(act, x, y));
    y.finish()
}

/// From the gradient of `act` of every number to that of `x`, in place; not for gated ones.
pub(crate) fn backward(x: &[f32], act: Activation, d: &mut [f32]) {
    d.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(d, x)| pull(act, x, d));
}

/// The gradient of the product of a gated unit: `[rows, 2 d_out]` from `d_y: [rows, d_out]`.
pub(crate) fn backward_gated(
    product: &[f32],
    act: Activation,
    d_y: &[f32],
    d_out: usize,
) -> Vec<f32> {
    let n_rows = (CHUNK / d_out.max(1)).max(1);
    let size = (n_rows * d_out).max(1);
    let mut d_product = Fresh::new(product.len());
    d_product
        .par_chunks_mut(2 * size)
        .zip(product.par_chunks(2 * size).zip(d_y.par_chunks(size)))
        .for_each(|(d_product, (product, d_y))| pull_gated(act, product, d_y, d_out, d_product));
    d_product.finish()
}

multiversion! {
    /// `act` of each number on this thread, for one that is not gated.
    pub(crate) fn apply(act: Activation, x: &[f32], y: &mut [f32]) = apply_body;
}

multiversion! {
    /// [`apply`] in place.
    pub(crate) fn apply_in_place(act: Activation, y: &mut [f32]) = apply_in_place_body;
}

multiversion! {
    /// `value * act(gate)` of each row of `product: [rows, 2 d_out]` on this thread.
    pub(crate) fn apply_gated(act: Activation, product: &[f32], d_out: usize, y: &mut [f32])
        = apply_gated_body;
}

multiversion! {
    fn pull(act: Activation, x: &[f32], d: &mut [f32]) = pull_body;
}

multiversion! {
    fn pull_gated(
        act: Activation, product: &[f32], d_y: &[f32], d_out: usize, d_product: &mut [f32],
    ) = pull_gated_body;
}

/// Runs a loop with the curve of an activation: one choice for a whole slice.
macro_rules! with_curve {
    ($act:expr, $each:ident($($arg:expr),*)) => {
        match $act {
            Activation::Relu | Activation::Gated(Gate::Relu) => $each(relu, $($arg),*),
            Activation::Gelu(Gelu::Erf) | Activation::Gated(Gate::Gelu(Gelu::Erf)) => {
                $each(gelu_erf::<FMA>, $($arg),*);
            }
            Activation::Gelu(Gelu::Tanh) | Activation::Gated(Gate::Gelu(Gelu::Tanh)) => {
                $each(gelu_tanh::<FMA>, $($arg),*);
            }
            Activation::Gated(Gate::Sigmoid) => $each(sigmoid::<FMA>, $($arg),*),
            Activation::Gated(Gate::Silu) => $each(silu::<FMA>, $($arg),*),
        }
    };
}

#[inline(always)]
fn apply_body<const FMA: bool>(act: Activation, x: &[f32], y: &mut [f32]) {
    #[inline(always)]
    fn each(curve: impl Fn(f32) -> (f32, f32), x: &[f32], y: &mut [f32]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = curve(x).0;
        }
    }
    with_curve!(act, each(x, y));
}

#[inline(always)]
fn apply_in_place_body<const FMA: bool>(act: Activation, y: &mut [f32]) {
    #[inline(always)]
    fn each(curve: impl Fn(f32) -> (f32, f32), y: &mut [f32]) {
        for y in y {
            *y = curve(*y).0;
        }
    }
    with_curve!(act, each(y));
}

#[inline(always)]
fn apply_gated_body<const FMA: bool>(
    act: Activation,
    product: &[f32],
    d_out: usize,
    y: &mut [f32],
) {
    #[inline(always)]
    fn each(curve: impl Fn(f32) -> (f32, f32), product: &[f32], d_out: usize, y: &mut [f32]) {
        for (product, y) in product.chunks_exact(2 * d_out).zip(y.chunks_exact_mut(d_out)) {
            let (value, gate) = product.split_at(d_out);
            for ((y, &value), &gate) in y.iter_mut().zip(value).zip(gate) {
                *y = value * curve(gate).0;
            }
        }
    }
    with_curve!(act, each(product, d_out, y));
}

#[inline(always)]
fn pull_body<const FMA: bool>(act: Activation, x: &[f32], d: &mut [f32]) {
    #[inline(always)]
    fn each(curve: impl Fn(f32) -> (f32, f32), x: &[f32], d: &mut [f32]) {
        for (d, &x) in d.iter_mut().zip(x) {
            *d *= curve(x).1;
        }
    }
    with_curve!(act, each(x, d));
}

#[inline(always)]
fn pull_gated_body<const FMA: bool>(
    act: Activation,
    product: &[f32],
    d_y: &[f32],
    d_out: usize,
    d_product: &mut [f32],
) {
    #[inline(always)]
    fn each(
        curve: impl Fn(f32) -> (f32, f32),
        product: &[f32],
        d_y: &[f32],
        d_out: usize,
        d_product: &mut [f32],
    ) {
        let rows = product.chunks_exact(2 * d_out).zip(d_product.chunks_exact_mut(2 * d_out));
        for ((product, d_product), d_y) in rows.zip(d_y.chunks_exact(d_out)) {
            let (value, gate) = product.split_at(d_out);
            let (d_value, d_gate) = d_product.split_at_mut(d_out);
            let inputs = d_y.iter().zip(value.iter().zip(gate));
            let outputs = d_value.iter_mut().zip(d_gate);
            for ((&d_y, (&value, &gate)), (d_value, d_gate)) in inputs.zip(outputs) {
                let (at, slope) = curve(gate);
                *d_value = d_y * at;
                *d_gate = d_y * value * slope;
            }
        }
    }
    with_curve!(act, each(product, d_y, d_out, d_product));
}

/// `max(x, 0)`. A NaN stays one.
#[inline(always)]
fn relu(x: f32) -> (f32, f32) {
    if x <= 0.0 { (0.0, 0.0) } else { (x, 1.0) }
}

#[inline(always)]
fn sigmoid<const FMA: bool>(x: f32) -> (f32, f32) {
    let e = exp::<FMA>(-x);
    let below = 1.0 / (1.0 + e);
    (below, below * (e * below))
}

#[inline(always)]
fn silu<const FMA: bool>(x: f32) -> (f32, f32) {
    let e = exp::<FMA>(-x);
    let below = 1.0 / (1.0 + e);
    (x / (1.0 + e), fma::<FMA>(x * below, e * below, below))
}

#[inline(always)]
fn gelu_erf<const FMA: bool>(x: f32) -> (f32, f32) {
    /// `1 / sqrt(2 pi)`.
    const DENSITY: f32 = 0.398_942_3;
    let below = fma::<FMA>(erf::<FMA>(x * std::f32::consts::FRAC_1_SQRT_2), 0.5, 0.5);
    let density = DENSITY * exp::<FMA>(-0.5 * x * x);
    (x * below, fma::<FMA>(x, density, below))
}

/// With `u` the argument of the tanh, `(1 + tanh u) / 2 = 1 / (1 + e^-2u)`.
///
/// The right side keeps its relative precision where the left side is almost 0.
#[inline(always)]
fn gelu_tanh<const FMA: bool>(x: f32) -> (f32, f32) {
    let e = exp::<FMA>(-2.0 * ROOT_2_PI * fma::<FMA>(CUBIC * x, x * x, x));
    let below = 1.0 / (1.0 + e);
    let slope = 2.0 * ROOT_2_PI * fma::<FMA>(3.0 * CUBIC * x, x, 1.0);
    (x / (1.0 + e), fma::<FMA>(x * slope, below * (e * below), below))
}

/// The formulas in `f64`, for the tests of this and of other kernels.
#[cfg(test)]
pub(crate) mod scalar {
    use super::*;

    /// The curve of an activation.
    pub(crate) fn curve(act: Activation, x: f64) -> (f64, f64) {
        let root = (2.0 / std::f64::consts::PI).sqrt();
        let below = 1.0 / (1.0 + (-x).exp());
        match act {
            Activation::Relu | Activation::Gated(Gate::Relu) => {
                (x.max(0.0), f64::from(u8::from(x > 0.0)))
            }
            Activation::Gated(Gate::Sigmoid) => (below, below * (1.0 - below)),
            Activation::Gated(Gate::Silu) => (x * below, below + x * below * (1.0 - below)),
            Activation::Gelu(Gelu::Erf) | Activation::Gated(Gate::Gelu(Gelu::Erf)) => {
                let below = 0.5 * (1.0 + libm::erf(x / 2.0_f64.sqrt()));
                let density = (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
                (x * below, below + x * density)
            }
            Activation::Gelu(Gelu::Tanh) | Activation::Gated(Gate::Gelu(Gelu::Tanh)) => {
                let t = (root * (x + 0.044_715 * x.powi(3))).tanh();
                let slope = root * (1.0 + 3.0 * 0.044_715 * x * x);
                (0.5 * x * (1.0 + t), 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * slope)
            }
        }
    }

    /// `act` of rows of a product.
    pub(crate) fn activate(act: Activation, product: &[f64], d_out: usize) -> Vec<f64> {
        let row = |row: &[f64]| -> Vec<f64> {
            let first = |j: usize| if act.gated() { row[j] } else { 1.0 };
            let curved = &row[row.len() - d_out..];
            (0..d_out).map(|j| first(j) * curve(act, curved[j]).0).collect()
        };
        product.chunks_exact(act.d_product(d_out)).flat_map(row).collect()
    }

    /// The gradient of the product.
    pub(crate) fn d_product(
        act: Activation,
        product: &[f64],
        d_y: &[f64],
        d_out: usize,
    ) -> Vec<f64> {
        let rows = product.chunks_exact(act.d_product(d_out)).zip(d_y.chunks_exact(d_out));
        let row = |(row, d_y): (&[f64], &[f64])| -> Vec<f64> {
            let curves: Vec<_> = row[row.len() - d_out..].iter().map(|&x| curve(act, x)).collect();
            if !act.gated() {
                return std::iter::zip(d_y, curves).map(|(d_y, (_, slope))| d_y * slope).collect();
            }
            let d_value = std::iter::zip(d_y, &curves).map(|(d_y, (at, _))| d_y * at);
            let d_gate = (0..d_out).map(|j| d_y[j] * row[j] * curves[j].1);
            d_value.chain(d_gate).collect()
        };
        rows.flat_map(row).collect()
    }

    /// Every activation there is.
    pub(crate) const ALL: [Activation; 8] = [
        Activation::Relu,
        Activation::Gelu(Gelu::Erf),
        Activation::Gelu(Gelu::Tanh),
        Activation::Gated(Gate::Sigmoid),
        Activation::Gated(Gate::Relu),
        Activation::Gated(Gate::Gelu(Gelu::Erf)),
        Activation::Gated(Gate::Gelu(Gelu::Tanh)),
        Activation::Gated(Gate::Silu),
    ];
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::simd::{Level, at_level};
    use crate::testing::{check_close, check_grad, check_same_bits, numbers};

    fn wide(x: &[f32]) -> Vec<f64> {
        x.iter().map(|&x| f64::from(x)).collect()
    }

    fn narrow(x: &[f64]) -> Vec<f32> {
        x.iter().map(|&x| x as f32).collect()
    }

    #[test]
    fn the_scalar_gradients_agree_with_central_differences() {
        for act in scalar::ALL {
            let d_out = 5;
            let product: Vec<f64> =
                numbers(1, 10 * act.d_product(d_out)).iter().map(|&x| 4.0 * f64::from(x)).collect();
            check_grad(
                &product,
                |x| scalar::activate(act, x, d_out),
                |x, d_y| scalar::d_product(act, x, d_y, d_out),
            );
        }
    }

    #[test]
    fn kernel_and_scalar_agree() {
        for act in scalar::ALL {
            for (n_rows, d_out) in [(50, 1), (3, 37), (300, 64)] {
                let product: Vec<f32> =
                    numbers(1, n_rows * act.d_product(d_out)).iter().map(|x| x * 8.0).collect();
                let d_y = numbers(2, n_rows * d_out);
                let mut y = vec![f32::NAN; n_rows * d_out];
                let d_product = if act.gated() {
                    apply_gated(act, &product, d_out, &mut y);
                    backward_gated(&product, act, &d_y, d_out)
                } else {
                    y = forward(&product, act);
                    let mut d = d_y.clone();
                    backward(&product, act, &mut d);
                    d
                };
                let expected = narrow(&scalar::activate(act, &wide(&product), d_out));
                check_close(&format!("{act:?}"), &y, &expected, 1e-6);
                let expected = scalar::d_product(act, &wide(&product), &wide(&d_y), d_out);
                check_close(&format!("d {act:?}"), &d_product, &narrow(&expected), 2e-6);
            }
        }
    }

    #[test]
    fn a_number_has_the_same_bits_in_place_and_at_either_width_of_vectors() {
        let (n_rows, d_out) = (7, 37);
        for act in scalar::ALL {
            let product: Vec<f32> =
                numbers(1, n_rows * act.d_product(d_out)).iter().map(|x| x * 8.0).collect();
            let run = || {
                let mut y = vec![f32::NAN; n_rows * d_out];
                let mut d = vec![1.0; product.len()];
                if act.gated() {
                    apply_gated(act, &product, d_out, &mut y);
                    pull_gated(act, &product, &vec![1.0; n_rows * d_out], d_out, &mut d);
                } else {
                    apply(act, &product, &mut y);
                    pull(act, &product, &mut d);
                    let mut in_place = product.clone();
                    apply_in_place(act, &mut in_place);
                    check_same_bits("in place", &in_place, &y);
                }
                [y, d].concat()
            };
            let best = run();
            if let Some(avx2) = at_level(Level::Avx2, run) {
                check_same_bits("avx2", &avx2, &best);
            }
            check_close("portable", &at_level(Level::Portable, run).unwrap(), &best, 2e-6);
        }
    }

    #[test]
    fn a_number_that_is_none_is_passed_on() {
        for act in scalar::ALL {
            let mut y = [0.0];
            if act.gated() {
                apply_gated(act, &[1.0, f32::NAN], 1, &mut y);
            } else {
                apply(act, &[f32::NAN], &mut y);
            }
            assert!(y[0].is_nan(), "{act:?}");
        }
    }
}

//! The linear layer, with or without an activation behind it, and its gradients, as products of
//! [`super::gemm`].
//!
//! An activation is an epilogue: it is applied to each chunk of rows right after their product, which
//! is still in the cache then.

use rayon::prelude::*;

use super::activation::{apply, apply_gated, apply_in_place};
use super::fresh::Fresh;
use super::gemm::{ROWS, Span, matmul_chunk, matmul_chunk_over, matmul_rows, weight_grad};
use super::packed::Packed;
use crate::Activation;

/// Rows of one partial sum of a weight's gradient. The cut depends on the number of rows only.
const SEGMENT: usize = 1024;

/// `x weight + bias`: `[rows, d_in] [d_in, d_out]`.
pub(crate) fn forward(
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    d_in: usize,
    d_out: usize,
) -> Vec<f32> {
    let n_rows = x.len() / d_in.max(1);
    let packed = Packed::rows(weight, d_out, d_in, d_out);
    matmul_rows(x, d_in, &packed, bias, n_rows)
}

/// `act(x weight + bias)`, without keeping the product: `[rows, d_out]`.
pub(crate) fn forward_act(
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    [d_in, d_product]: [usize; 2],
    act: Activation,
) -> Vec<f32> {
    let (n_rows, d_out) = (x.len() / d_in.max(1), act.d_out(d_product));
    let packed = Packed::rows(weight, d_product, d_in, d_product);
    let mut y = Fresh::new(n_rows * d_out);
    let chunks = y.par_chunks(ROWS * d_out).enumerate();
    if act.gated() {
        chunks.for_each_init(Vec::new, |product, (chunk_idx, y)| {
            let y = y.cleared();
            product.resize(2 * y.len(), 0.0);
            matmul_chunk_over(x, d_in, chunk_idx, &packed, bias, product);
            apply_gated(act, product, d_out, y);
        });
    } else {
        chunks.for_each(|(chunk_idx, y)| {
            apply_in_place(act, matmul_chunk(x, d_in, chunk_idx, &packed, bias, y));
        });
    }
    y.finish()
}

/// [`forward_act`], and before it the product: `[rows, d_product]`.
pub(crate) fn forward_act_saved(
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    [d_in, d_product]: [usize; 2],
    act: Activation,
) -> (Vec<f32>, Vec<f32>) {
    let (n_rows, d_out) = (x.len() / d_in.max(1), act.d_out(d_product));
    let packed = Packed::rows(weight, d_product, d_in, d_product);
    let (mut product, mut y) = (Fresh::new(n_rows * d_product), Fresh::new(n_rows * d_out));
    product.par_chunks(ROWS * d_product).zip(y.par_chunks_mut(ROWS * d_out)).enumerate().for_each(
        |(chunk_idx, (product, y))| {
            let product = matmul_chunk(x, d_in, chunk_idx, &packed, bias, product);
            if act.gated() {
                apply_gated(act, product, d_out, y);
            } else {
                apply(act, product, y);
            }
        },
    );
    (product.finish(), y.finish())
}

/// `d_y weight^T`: `[rows, d_in]`.
pub(crate) fn d_x(d_y: &[f32], weight: &[f32], d_in: usize, d_out: usize) -> Vec<f32> {
    let n_rows = d_y.len() / d_out.max(1);
    let packed = Packed::transposed(weight, d_out, d_out, d_in);
    matmul_rows(d_y, d_out, &packed, None, n_rows)
}

/// `x^T d_y`: `[d_in, d_out]`.
pub(crate) fn d_weight(x: &[f32], d_y: &[f32], d_in: usize, d_out: usize) -> Vec<f32> {
    let n_rows = x.len() / d_in.max(1);
    // A partial sum is as large as the weight: few of them where the weight is large.
    let most = (1 << 22) / (d_in * d_out).max(1);
    let n_segments = n_rows.div_ceil(SEGMENT).min(most.max(1)).max(1);
    let segment = n_rows.div_ceil(n_segments).max(1);
    let groups: Vec<Vec<Span>> = (0..n_rows)
        .step_by(segment)
        .map(|row| vec![Span { x_row: row, y_row: row, n_rows: segment.min(n_rows - row) }])
        .collect();
    weight_grad(x, d_in, d_y, d_out, &groups)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::activation::{backward, backward_gated, scalar};
    use crate::kernel::rows::column_sums;
    use crate::testing::{check_close, check_grad, check_same_bits, numbers};

    /// The parts of `x: [rows, d_in]`, `weight: [d_in, d_product]` and bias behind each other.
    fn parts<T>(all: &[T], [n_rows, d_in, d_product]: [usize; 3]) -> (&[T], &[T], &[T]) {
        let (x, rest) = all.split_at(n_rows * d_in);
        let (weight, bias) = rest.split_at(d_in * d_product);
        (x, weight, bias)
    }

    fn scalar_product(all: &[f64], dims: [usize; 3]) -> Vec<f64> {
        let [n_rows, d_in, d_product] = dims;
        let (x, weight, bias) = parts(all, dims);
        let entry = |row: usize, j: usize| -> f64 {
            bias[j] + (0..d_in).map(|k| x[row * d_in + k] * weight[k * d_product + j]).sum::<f64>()
        };
        (0..n_rows * d_product).map(|at| entry(at / d_product, at % d_product)).collect()
    }

    fn scalar_backward(all: &[f64], dims: [usize; 3], act: Activation, d_y: &[f64]) -> Vec<f64> {
        let [n_rows, d_in, d_product] = dims;
        let (x, weight, _) = parts(all, dims);
        let product = scalar_product(all, dims);
        let d = scalar::d_product(act, &product, d_y, act.d_out(d_product));
        let mut grad = vec![0.0; all.len()];
        let (d_x, rest) = grad.split_at_mut(n_rows * d_in);
        let (d_weight, d_bias) = rest.split_at_mut(d_in * d_product);
        for (at, d) in d.iter().enumerate() {
            let (row, j) = (at / d_product, at % d_product);
            d_bias[j] += d;
            for k in 0..d_in {
                d_x[row * d_in + k] += d * weight[k * d_product + j];
                d_weight[k * d_product + j] += d * x[row * d_in + k];
            }
        }
        grad
    }

    fn narrow(x: &[f64]) -> Vec<f32> {
        x.iter().map(|&x| x as f32).collect()
    }

    #[test]
    fn the_scalar_gradient_agrees_with_central_differences() {
        for act in scalar::ALL {
            let d_out = 3;
            let dims = [2, 4, act.d_product(d_out)];
            let n = dims[0] * dims[1] + (dims[1] + 1) * dims[2];
            let all: Vec<f64> = numbers(1, n).iter().map(|&x| f64::from(x)).collect();
            check_grad(
                &all,
                |all| scalar::activate(act, &scalar_product(all, dims), d_out),
                |all, d_y| scalar_backward(all, dims, act, d_y),
            );
        }
    }

    #[test]
    fn kernel_and_scalar_agree_with_and_without_keeping_the_product() {
        for act in scalar::ALL {
            for (n_rows, d_in, d_out) in [(1, 1, 1), (9, 20, 33), (200, 7, 16)] {
                let d_product = act.d_product(d_out);
                let dims = [n_rows, d_in, d_product];
                let all = numbers(1, n_rows * d_in + (d_in + 1) * d_product);
                let wide: Vec<f64> = all.iter().map(|&x| f64::from(x)).collect();
                let (x, weight, bias) = parts(&all, dims);
                let y = forward_act(x, weight, Some(bias), [d_in, d_product], act);
                let (product, y_saved) =
                    forward_act_saved(x, weight, Some(bias), [d_in, d_product], act);
                check_same_bits("y", &y_saved, &y);
                check_same_bits(
                    "product",
                    &product,
                    &forward(x, weight, Some(bias), d_in, d_product),
                );
                let expected = scalar::activate(act, &scalar_product(&wide, dims), d_out);
                check_close(&format!("{act:?}"), &y, &narrow(&expected), 2e-6);
                let d_y = numbers(2, y.len());
                let d = if act.gated() {
                    backward_gated(&product, act, &d_y, d_out)
                } else {
                    let mut d = d_y.clone();
                    backward(&product, act, &mut d);
                    d
                };
                let got = [
                    d_x(&d, weight, d_in, d_product),
                    d_weight(x, &d, d_in, d_product),
                    column_sums(&d, d_product),
                ];
                let d_y: Vec<f64> = d_y.iter().map(|&x| f64::from(x)).collect();
                let expected = narrow(&scalar_backward(&wide, dims, act, &d_y));
                let (d_x, d_weight, d_bias) = parts(&expected, dims);
                for (got, expected) in got.iter().zip([d_x, d_weight, d_bias]) {
                    check_close(&format!("d {act:?}"), got, expected, 5e-6);
                }
            }
        }
    }
}

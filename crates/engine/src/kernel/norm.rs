//! Layer normalisation, forward and backward, a row at a time.

use rayon::prelude::*;

use super::rows::in_order;
use super::simd::{fma, multiversion, sum_of, sum_of_two};

/// Rows of one task and of one partial sum of the gradients of gain and bias.
const ROWS: usize = 128;

/// `(x - mean) / sqrt(variance + epsilon) * gain + bias` of each row.
pub(crate) fn forward(x: &[f32], gain: &[f32], bias: &[f32], epsilon: f32) -> Vec<f32> {
    let d = gain.len();
    let mut y = vec![0.0; x.len()];
    let size = (ROWS * d).max(1);
    y.par_chunks_mut(size).zip(x.par_chunks(size)).for_each(|(y, x)| {
        forward_rows(x, gain, bias, epsilon, y);
    });
    y
}

/// The gradients of `x`, gain and bias.
pub(crate) fn backward(
    x: &[f32],
    gain: &[f32],
    epsilon: f32,
    d_y: &[f32],
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let d = gain.len();
    let mut d_x = vec![0.0; x.len()];
    let size = (ROWS * d).max(1);
    let parts: Vec<Vec<f32>> = d_x
        .par_chunks_mut(size)
        .zip(x.par_chunks(size).zip(d_y.par_chunks(size)))
        .map(|(d_x, (x, d_y))| {
            let mut sums = vec![0.0; 2 * d];
            let (d_gain, d_bias) = sums.split_at_mut(d);
            backward_rows(Rows { x, d_y, gain, epsilon }, d_x, d_gain, d_bias);
            sums
        })
        .collect();
    let mut d_gain = in_order(&parts, 2 * d);
    let d_bias = d_gain.split_off(d);
    (d_x, d_gain, d_bias)
}

multiversion! {
    fn forward_rows(x: &[f32], gain: &[f32], bias: &[f32], epsilon: f32, y: &mut [f32])
        = forward_rows_body;
}

/// Mean and reciprocal deviation of a row.
#[inline(always)]
fn moments(x: &[f32], epsilon: f32) -> (f32, f32) {
    let n = x.len() as f32;
    let mean = sum_of(x, |x| x) / n;
    let variance = sum_of(x, |x| (x - mean) * (x - mean)) / n;
    (mean, (variance + epsilon).sqrt().recip())
}

#[inline(always)]
fn forward_rows_body<const FMA: bool>(
    x: &[f32],
    gain: &[f32],
    bias: &[f32],
    epsilon: f32,
    y: &mut [f32],
) {
    let d = gain.len();
    let bias = &bias[..d];
    for (x, y) in x.chunks_exact(d).zip(y.chunks_exact_mut(d)) {
        let (mean, scale) = moments(x, epsilon);
        for j in 0..d {
            y[j] = fma::<FMA>((x[j] - mean) * scale, gain[j], bias[j]);
        }
    }
}

/// The inputs of a backward pass over some rows.
#[derive(Clone, Copy)]
struct Rows<'a> {
    x: &'a [f32],
    d_y: &'a [f32],
    gain: &'a [f32],
    epsilon: f32,
}

multiversion! {
    fn backward_rows(rows: Rows<'_>, d_x: &mut [f32], d_gain: &mut [f32], d_bias: &mut [f32])
        = backward_rows_body;
}

#[inline(always)]
fn backward_rows_body<const FMA: bool>(
    Rows { x, d_y, gain, epsilon }: Rows<'_>,
    d_x: &mut [f32],
    d_gain: &mut [f32],
    d_bias: &mut [f32],
) {
    let d = gain.len();
    let (d_gain, d_bias) = (&mut d_gain[..d], &mut d_bias[..d]);
    let rows = x.chunks_exact(d).zip(d_y.chunks_exact(d)).zip(d_x.chunks_exact_mut(d));
    for ((x, d_y), d_x) in rows {
        let (mean, scale) = moments(x, epsilon);
        let n = d as f32;
        // With z the normalised row and e = d_y * gain: d_x = (e - mean(e) - z mean(e z)) * scale.
        // d_x holds e until its end.
        for j in 0..d {
            let z = (x[j] - mean) * scale;
            d_x[j] = d_y[j] * gain[j];
            d_gain[j] = fma::<FMA>(d_y[j], z, d_gain[j]);
            d_bias[j] += d_y[j];
        }
        let e_mean = sum_of(d_x, |e| e) / n;
        let e_z_mean = sum_of_two(d_x, x, |e, x| e * ((x - mean) * scale)) / n;
        for j in 0..d {
            let z = (x[j] - mean) * scale;
            d_x[j] = (d_x[j] - e_mean - z * e_z_mean) * scale;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_close, check_grad, numbers};

    const EPSILON: f64 = 1e-5;

    /// `x: [rows, d]`, gain and bias behind each other.
    fn scalar(all: &[f64], d: usize) -> Vec<f64> {
        let (x, affine) = all.split_at(all.len() - 2 * d);
        x.chunks_exact(d).flat_map(|x| scalar_row(x, affine)).collect()
    }

    fn scalar_row(x: &[f64], affine: &[f64]) -> Vec<f64> {
        let (mean, scale) = scalar_moments(x);
        let d = x.len();
        (0..d).map(|j| (x[j] - mean) * scale * affine[j] + affine[d + j]).collect()
    }

    fn scalar_moments(x: &[f64]) -> (f64, f64) {
        let n = x.len() as f64;
        let mean = x.iter().sum::<f64>() / n;
        let variance = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
        (mean, (variance + EPSILON).sqrt().recip())
    }

    fn scalar_backward(all: &[f64], d_y: &[f64], d: usize) -> Vec<f64> {
        let n_x = all.len() - 2 * d;
        let (x, gain) = (&all[..n_x], &all[n_x..n_x + d]);
        let mut grad = vec![0.0; all.len()];
        for (row, (x, d_y)) in x.chunks_exact(d).zip(d_y.chunks_exact(d)).enumerate() {
            let (mean, scale) = scalar_moments(x);
            let z: Vec<f64> = x.iter().map(|x| (x - mean) * scale).collect();
            let e: Vec<f64> = d_y.iter().zip(gain).map(|(d_y, gain)| d_y * gain).collect();
            let e_mean = e.iter().sum::<f64>() / d as f64;
            let e_z_mean = e.iter().zip(&z).map(|(e, z)| e * z).sum::<f64>() / d as f64;
            for j in 0..d {
                grad[row * d + j] = (e[j] - e_mean - z[j] * e_z_mean) * scale;
                grad[n_x + j] += d_y[j] * z[j];
                grad[n_x + d + j] += d_y[j];
            }
        }
        grad
    }

    #[test]
    fn the_scalar_gradient_agrees_with_central_differences() {
        let d = 7;
        let all: Vec<f64> = numbers(1, 3 * d + 2 * d).iter().map(|&x| f64::from(x)).collect();
        check_grad(&all, |x| scalar(x, d), |x, d_y| scalar_backward(x, d_y, d));
    }

    #[test]
    fn kernel_and_scalar_agree() {
        for (n_rows, d) in [(1, 16), (9, 5), (300, 33)] {
            let all = numbers(1, (n_rows + 2) * d);
            let wide: Vec<f64> = all.iter().map(|&x| f64::from(x)).collect();
            let (x, affine) = all.split_at(n_rows * d);
            let (gain, bias) = affine.split_at(d);
            let narrow = |x: &[f64]| x.iter().map(|&x| x as f32).collect::<Vec<_>>();
            let y = forward(x, gain, bias, EPSILON as f32);
            check_close("y", &y, &narrow(&scalar(&wide, d)), 2e-6);
            let d_y = numbers(2, n_rows * d);
            let d_y_wide: Vec<f64> = d_y.iter().map(|&x| f64::from(x)).collect();
            let (d_x, d_gain, d_bias) = backward(x, gain, EPSILON as f32, &d_y);
            let expected = narrow(&scalar_backward(&wide, &d_y_wide, d));
            check_close("d_x", &d_x, &expected[..n_rows * d], 5e-6);
            check_close("d_gain", &d_gain, &expected[n_rows * d..n_rows * d + d], 5e-6);
            check_close("d_bias", &d_bias, &expected[n_rows * d + d..], 5e-6);
        }
    }
}

//! Layer normalisation and RMSNorm, forward and backward, a row at a time.
//!
//! The two differ in the mean: layer normalisation takes it off a row and adds a bias, RMSNorm does
//! neither. With the mean at 0 they are the same formulas.

use rayon::prelude::*;

use super::fresh::Fresh;
use super::rows::in_order;
use super::simd::{fma, multiversion, sum_of, sum_of_two};

/// Rows of one task and of one partial sum of the gradients of gain and bias.
const ROWS: usize = 128;

/// `(x - mean) / sqrt(variance + epsilon) * gain + bias` of each row; without a bias
/// `x / sqrt(mean of x^2 + epsilon) * gain`.
pub(crate) fn forward(x: &[f32], gain: &[f32], bias: Option<&[f32]>, epsilon: f32) -> Vec<f32> {
    let d = gain.len();
    let mut y = Fresh::new(x.len());
    let size = (ROWS * d).max(1);
    y.par_chunks_mut(size).zip(x.par_chunks(size)).for_each(|(y, x)| {
        forward_rows(x, gain, bias, epsilon, y);
    });
    y.finish()
}

/// The gradients of `x`, gain and bias of layer normalisation.
pub(crate) fn layer_norm_backward(
    x: &[f32],
    gain: &[f32],
    epsilon: f32,
    d_y: &[f32],
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let (d_x, mut d_gain) = backward(Rows { x, d_y, gain, epsilon, centered: true });
    let d_bias = d_gain.split_off(gain.len());
    (d_x, d_gain, d_bias)
}

/// The gradients of `x` and gain of RMSNorm.
pub(crate) fn rms_norm_backward(
    x: &[f32],
    gain: &[f32],
    epsilon: f32,
    d_y: &[f32],
) -> (Vec<f32>, Vec<f32>) {
    backward(Rows { x, d_y, gain, epsilon, centered: false })
}

/// The gradient of `x`, and that of gain with, if the rows are centered, that of bias behind it.
fn backward(rows: Rows<'_>) -> (Vec<f32>, Vec<f32>) {
    let d = rows.gain.len();
    let n_sums = if rows.centered { 2 * d } else { d };
    let mut d_x = Fresh::new(rows.x.len());
    let size = (ROWS * d).max(1);
    let parts: Vec<Vec<f32>> = d_x
        .par_chunks_mut(size)
        .zip(rows.x.par_chunks(size).zip(rows.d_y.par_chunks(size)))
        .map(|(d_x, (x, d_y))| {
            let mut sums = vec![0.0; n_sums];
            let (d_gain, d_bias) = sums.split_at_mut(d);
            backward_rows(Rows { x, d_y, ..rows }, d_x, d_gain, d_bias);
            sums
        })
        .collect();
    (d_x.finish(), in_order(&parts, n_sums))
}

multiversion! {
    fn forward_rows(x: &[f32], gain: &[f32], bias: Option<&[f32]>, epsilon: f32, y: &mut [f32])
        = forward_rows_body;
}

/// Mean, taken as 0 where rows are not centered, and reciprocal deviation of a row.
#[inline(always)]
fn moments(x: &[f32], centered: bool, epsilon: f32) -> (f32, f32) {
    let n = x.len() as f32;
    let mean = if centered { sum_of(x, |x| x) / n } else { 0.0 };
    let variance = sum_of(x, |x| (x - mean) * (x - mean)) / n;
    (mean, (variance + epsilon).sqrt().recip())
}

#[inline(always)]
fn forward_rows_body<const FMA: bool>(
    x: &[f32],
    gain: &[f32],
    bias: Option<&[f32]>,
    epsilon: f32,
    y: &mut [f32],
) {
    let d = gain.len();
    let bias = bias.map(|bias| &bias[..d]);
    for (x, y) in x.chunks_exact(d).zip(y.chunks_exact_mut(d)) {
        let (mean, scale) = moments(x, bias.is_some(), epsilon);
        match bias {
            Some(bias) => {
                for j in 0..d {
                    y[j] = fma::<FMA>((x[j] - mean) * scale, gain[j], bias[j]);
                }
            }
            None => {
                for j in 0..d {
                    y[j] = x[j] * scale * gain[j];
                }
            }
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
    /// Whether the mean is taken off, and a bias added: layer normalisation.
    centered: bool,
}

multiversion! {
    fn backward_rows(rows: Rows<'_>, d_x: &mut [f32], d_gain: &mut [f32], d_bias: &mut [f32])
        = backward_rows_body;
}

#[inline(always)]
fn backward_rows_body<const FMA: bool>(
    Rows { x, d_y, gain, epsilon, centered }: Rows<'_>,
    d_x: &mut [f32],
    d_gain: &mut [f32],
    d_bias: &mut [f32],
) {
    let d = gain.len();
    let d_gain = &mut d_gain[..d];
    let rows = x.chunks_exact(d).zip(d_y.chunks_exact(d)).zip(d_x.chunks_exact_mut(d));
    for ((x, d_y), d_x) in rows {
        let (mean, scale) = moments(x, centered, epsilon);
        let n = d as f32;
        // With z the normalised row and e = d_y * gain: d_x = (e - mean(e) - z mean(e z)) * scale,
        // where mean(e) comes from centring. d_x holds e until its end.
        for j in 0..d {
            let z = (x[j] - mean) * scale;
            d_x[j] = d_y[j] * gain[j];
            d_gain[j] = fma::<FMA>(d_y[j], z, d_gain[j]);
        }
        // Empty where there is no bias.
        for (d_bias, d_y) in d_bias.iter_mut().zip(d_y) {
            *d_bias += d_y;
        }
        let e_mean = if centered { sum_of(d_x, |e| e) / n } else { 0.0 };
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
    use crate::kernel::simd::{Level, at_level};
    use crate::testing::{check_close, check_grad, check_same_bits, numbers};

    const EPSILON: f64 = 1e-5;

    /// Rows of length `d`, of layer normalisation if `centered` and else of RMSNorm.
    #[derive(Clone, Copy)]
    struct Norm {
        d: usize,
        centered: bool,
    }

    impl Norm {
        /// Numbers of gain and bias.
        fn n_affine(self) -> usize {
            if self.centered { 2 * self.d } else { self.d }
        }

        fn moments(self, x: &[f64]) -> (f64, f64) {
            let n = x.len() as f64;
            let mean = if self.centered { x.iter().sum::<f64>() / n } else { 0.0 };
            let variance = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
            (mean, (variance + EPSILON).sqrt().recip())
        }

        /// `x: [rows, d]`, gain and perhaps bias behind each other.
        fn scalar(self, all: &[f64]) -> Vec<f64> {
            let (x, affine) = all.split_at(all.len() - self.n_affine());
            let row = |x: &[f64]| -> Vec<f64> {
                let (mean, scale) = self.moments(x);
                let bias = |j: usize| affine.get(self.d + j).copied().unwrap_or(0.0);
                (0..self.d).map(|j| (x[j] - mean) * scale * affine[j] + bias(j)).collect()
            };
            x.chunks_exact(self.d).flat_map(row).collect()
        }

        fn scalar_backward(self, all: &[f64], d_y: &[f64]) -> Vec<f64> {
            let d = self.d;
            let n_x = all.len() - self.n_affine();
            let (x, gain) = (&all[..n_x], &all[n_x..n_x + d]);
            let mut grad = vec![0.0; all.len()];
            for (row, (x, d_y)) in x.chunks_exact(d).zip(d_y.chunks_exact(d)).enumerate() {
                let (mean, scale) = self.moments(x);
                let z: Vec<f64> = x.iter().map(|x| (x - mean) * scale).collect();
                let e: Vec<f64> = d_y.iter().zip(gain).map(|(d_y, gain)| d_y * gain).collect();
                let e_mean = if self.centered { e.iter().sum::<f64>() / d as f64 } else { 0.0 };
                let e_z_mean = e.iter().zip(&z).map(|(e, z)| e * z).sum::<f64>() / d as f64;
                for j in 0..d {
                    grad[row * d + j] = (e[j] - e_mean - z[j] * e_z_mean) * scale;
                    grad[n_x + j] += d_y[j] * z[j];
                    if self.centered {
                        grad[n_x + d + j] += d_y[j];
                    }
                }
            }
            grad
        }

        /// The kernels, all gradients behind each other.
        fn kernel(self, all: &[f32], d_y: &[f32]) -> (Vec<f32>, Vec<f32>) {
            let (x, affine) = all.split_at(all.len() - self.n_affine());
            let (gain, bias) = affine.split_at(self.d);
            let epsilon = EPSILON as f32;
            if self.centered {
                let (d_x, d_gain, d_bias) = layer_norm_backward(x, gain, epsilon, d_y);
                return (forward(x, gain, Some(bias), epsilon), [d_x, d_gain, d_bias].concat());
            }
            let (d_x, d_gain) = rms_norm_backward(x, gain, epsilon, d_y);
            (forward(x, gain, None, epsilon), [d_x, d_gain].concat())
        }
    }

    #[test]
    fn the_scalar_gradient_agrees_with_central_differences() {
        for centered in [false, true] {
            let norm = Norm { d: 7, centered };
            let n = 3 * norm.d + norm.n_affine();
            let all: Vec<f64> = numbers(1, n).iter().map(|&x| f64::from(x)).collect();
            check_grad(&all, |x| norm.scalar(x), |x, d_y| norm.scalar_backward(x, d_y));
        }
    }

    #[test]
    fn kernel_and_scalar_agree() {
        let narrow = |x: &[f64]| x.iter().map(|&x| x as f32).collect::<Vec<_>>();
        let wide = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
        for (n_rows, d) in [(1, 16), (9, 5), (300, 33)] {
            for centered in [false, true] {
                let norm = Norm { d, centered };
                let all = numbers(1, n_rows * d + norm.n_affine());
                let d_y = numbers(2, n_rows * d);
                let (y, grad) = norm.kernel(&all, &d_y);
                check_close("y", &y, &narrow(&norm.scalar(&wide(&all))), 2e-6);
                let expected = narrow(&norm.scalar_backward(&wide(&all), &wide(&d_y)));
                let parts = [("d_x", 0, n_rows), ("d_gain", n_rows, 1), ("d_bias", n_rows + 1, 1)];
                for (name, first, n) in parts.into_iter().take(if centered { 3 } else { 2 }) {
                    let part = first * d..(first + n) * d;
                    check_close(name, &grad[part.clone()], &expected[part], 5e-6);
                }
            }
        }
    }

    #[test]
    fn a_row_has_the_same_bits_at_either_width_of_vectors() {
        for centered in [false, true] {
            let norm = Norm { d: 37, centered };
            let n_rows = 5;
            let all = numbers(1, n_rows * norm.d + norm.n_affine());
            let (x, affine) = all.split_at(n_rows * norm.d);
            let (gain, bias) = affine.split_at(norm.d);
            let run = || {
                let mut y = vec![0.0; x.len()];
                forward_rows(x, gain, centered.then_some(bias), EPSILON as f32, &mut y);
                let (mut d_x, mut sums) = (vec![0.0; x.len()], vec![0.0; norm.n_affine()]);
                let rows = Rows { x, d_y: &y, gain, epsilon: EPSILON as f32, centered };
                let (d_gain, d_bias) = sums.split_at_mut(norm.d);
                backward_rows(rows, &mut d_x, d_gain, d_bias);
                [y, d_x, sums].concat()
            };
            let best = run();
            if let Some(avx2) = at_level(Level::Avx2, run) {
                check_same_bits("avx2", &avx2, &best);
            }
            check_close("portable", &at_level(Level::Portable, run).unwrap(), &best, 1e-5);
        }
    }
}

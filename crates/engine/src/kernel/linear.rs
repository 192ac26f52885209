//! The linear layer and its gradients, as products of [`super::gemm`].

use super::gemm::{Span, matmul_rows, weight_grad};
use super::packed::Packed;

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
    let mut y = vec![0.0; n_rows * d_out];
    matmul_rows(x, d_in, &packed, bias, &mut y);
    y
}

/// `d_y weight^T`: `[rows, d_in]`.
pub(crate) fn d_x(d_y: &[f32], weight: &[f32], d_in: usize, d_out: usize) -> Vec<f32> {
    let n_rows = d_y.len() / d_out.max(1);
    let packed = Packed::transposed(weight, d_out, d_out, d_in);
    let mut d_x = vec![0.0; n_rows * d_in];
    matmul_rows(d_y, d_out, &packed, None, &mut d_x);
    d_x
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

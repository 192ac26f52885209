//! Cross-entropy and its gradient.

use burn::tensor::DType;
use burn_cubecl::cubecl;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::prelude::*;

use super::{one_each, room};

/// The largest logit of a row, and the sum of `exp(logit - largest)`.
#[cube]
fn normaliser(logits: &Array<f32>, start: usize, d_vocab: usize) -> (f32, f32) {
    let mut largest = logits[start];
    for token in 1..d_vocab {
        largest = max(largest, logits[start + token]);
    }
    let mut sum = 0.0f32;
    for token in 0..d_vocab {
        sum += f32::exp(logits[start + token] - largest);
    }
    (largest, sum)
}

#[cube(launch)]
fn losses_kernel(
    logits: &Array<f32>,
    targets: &Array<i32>,
    weights: &Array<f32>,
    losses: &mut Array<f32>,
    d_vocab: u32,
    #[comptime] weighted: bool,
) {
    let row = ABSOLUTE_POS;
    if row < losses.len() {
        let start = row * d_vocab as usize;
        let (largest, sum) = normaliser(logits, start, d_vocab as usize);
        let mut loss = f32::ln(sum) + largest - logits[start + targets[row] as usize];
        if weighted {
            loss *= weights[row];
        }
        losses[row] = loss;
    }
}

/// `-ln softmax(logits)[target]` of each row of `[rows, d_vocab]`, times its weight if there are any.
pub(crate) fn losses<R: CubeRuntime>(
    logits: CubeTensor<R>,
    targets: CubeTensor<R>,
    weights: Option<CubeTensor<R>>,
    [n_rows, d_vocab]: [usize; 2],
) -> CubeTensor<R> {
    let losses = room(&logits, [n_rows], DType::F32);
    let weighted = weights.is_some();
    let (client, (count, dim)) = (logits.client.clone(), one_each(n_rows));
    losses_kernel::launch::<R>(
        &client,
        count,
        dim,
        logits.into_array_arg(),
        targets.into_array_arg(),
        weights.unwrap_or_else(|| losses.clone()).into_array_arg(),
        losses.clone().into_array_arg(),
        d_vocab as u32,
        weighted,
    );
    losses
}

#[cube(launch)]
fn losses_backward_kernel(
    logits: &Array<f32>,
    targets: &Array<i32>,
    weights: &Array<f32>,
    d_loss: &Array<f32>,
    d_logits: &mut Array<f32>,
    n_rows: u32,
    d_vocab: u32,
    #[comptime] weighted: bool,
) {
    let row = ABSOLUTE_POS;
    if row < targets.len() {
        let start = row * d_vocab as usize;
        let (largest, sum) = normaliser(logits, start, d_vocab as usize);
        let mut share = d_loss[0] / n_rows as f32;
        if weighted {
            share = d_loss[row] * weights[row];
        }
        for token in 0..d_vocab as usize {
            let mut off = f32::exp(logits[start + token] - largest) / sum;
            if token == targets[row] as usize {
                off -= 1.0f32;
            }
            d_logits[start + token] = off * share;
        }
    }
}

/// The gradient of [`losses`] by the logits: of their mean `[1]`, or of each `[rows]` where they have weights.
pub(crate) fn losses_backward<R: CubeRuntime>(
    logits: CubeTensor<R>,
    targets: CubeTensor<R>,
    weights: Option<CubeTensor<R>>,
    d_loss: CubeTensor<R>,
    [n_rows, d_vocab]: [usize; 2],
) -> CubeTensor<R> {
    let d_logits = room(&logits, [n_rows, d_vocab], DType::F32);
    let weighted = weights.is_some();
    let (client, (count, dim)) = (logits.client.clone(), one_each(n_rows));
    losses_backward_kernel::launch::<R>(
        &client,
        count,
        dim,
        logits.into_array_arg(),
        targets.into_array_arg(),
        weights.unwrap_or_else(|| d_loss.clone()).into_array_arg(),
        d_loss.into_array_arg(),
        d_logits.clone().into_array_arg(),
        n_rows as u32,
        d_vocab as u32,
        weighted,
    );
    d_logits
}

//! Operations that treat each number, or each small row, by itself: cross entropy, AdamW.

use rayon::prelude::*;

use super::math::exp;
use super::simd::{fma, multiversion};
use crate::optim::AdamWStep;

/// Numbers of one task.
const CHUNK: usize = 1 << 14;

/// The mean over rows of `-ln softmax(logits)[target]`, added in `f64` in the order of the rows.
pub(crate) fn cross_entropy(logits: &[f32], targets: &[u32], d_vocab: usize) -> f32 {
    let mut losses = vec![0.0_f32; targets.len()];
    const ROWS: usize = 256;
    losses
        .par_chunks_mut(ROWS)
        .zip(logits.par_chunks(ROWS * d_vocab).zip(targets.par_chunks(ROWS)))
        .for_each(|(losses, (logits, targets))| {
            let rows = logits.chunks_exact(d_vocab).zip(targets);
            for (loss, (logits, &target)) in losses.iter_mut().zip(rows) {
                let (max, sum) = exp_sum(logits);
                *loss = max + sum.ln() - logits[target as usize];
            }
        });
    let total: f64 = losses.iter().map(|&loss| f64::from(loss)).sum();
    (total / targets.len() as f64) as f32
}

/// The gradient of the logits: `(softmax - one-hot) * d_loss / rows`.
pub(crate) fn cross_entropy_backward(
    logits: &[f32],
    targets: &[u32],
    d_vocab: usize,
    d_loss: f32,
) -> Vec<f32> {
    const ROWS: usize = 256;
    let scale = d_loss / targets.len() as f32;
    let mut d_logits = logits.to_vec();
    d_logits.par_chunks_mut(ROWS * d_vocab).zip(targets.par_chunks(ROWS)).for_each(
        |(d_logits, targets)| {
            for (row, &target) in d_logits.chunks_exact_mut(d_vocab).zip(targets) {
                let (max, sum) = exp_sum(row);
                let to_p = scale / sum;
                row.iter_mut().for_each(|x| *x = exp_of(*x - max) * to_p);
                row[target as usize] -= scale;
            }
        },
    );
    d_logits
}

/// The largest entry, and the sum of `exp(x - max)` in order. A NaN is passed on by the sum.
fn exp_sum(row: &[f32]) -> (f32, f32) {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    (max, row.iter().map(|&x| exp_of(x - max)).sum())
}

/// The same `exp` on every machine; rows of logits are short, so it need not be fast.
fn exp_of(x: f32) -> f32 {
    exp::<false>(x)
}

/// The four arrays of a parameter and its optimiser.
#[derive(Debug)]
pub(crate) struct Param<'a> {
    pub(crate) param: &'a mut [f32],
    pub(crate) grad: &'a [f32],
    pub(crate) m: &'a mut [f32],
    pub(crate) v: &'a mut [f32],
}

/// One step of AdamW in one pass, in place.
pub(crate) fn adamw(all: Param<'_>, step: &AdamWStep) {
    let (correction1, correction2) = step.corrections();
    let rates = Rates {
        keep: (1.0 - step.lr * step.weight_decay) as f32,
        beta1: step.beta1 as f32,
        beta2: step.beta2 as f32,
        rest1: (1.0 - step.beta1) as f32,
        rest2: (1.0 - step.beta2) as f32,
        size: (step.lr / correction1) as f32,
        root: (1.0 / correction2.sqrt()) as f32,
        epsilon: step.epsilon as f32,
    };
    all.param
        .par_chunks_mut(CHUNK)
        .zip(all.grad.par_chunks(CHUNK))
        .zip(all.m.par_chunks_mut(CHUNK).zip(all.v.par_chunks_mut(CHUNK)))
        .for_each(|((param, grad), (m, v))| adamw_chunk(Param { param, grad, m, v }, rates));
}

/// The numbers of a step, in the parameters' precision.
#[derive(Clone, Copy)]
struct Rates {
    keep: f32,
    beta1: f32,
    beta2: f32,
    rest1: f32,
    rest2: f32,
    size: f32,
    root: f32,
    epsilon: f32,
}

multiversion! {
    fn adamw_chunk(all: Param<'_>, rates: Rates) = adamw_chunk_body;
}

#[inline(always)]
fn adamw_chunk_body<const FMA: bool>(all: Param<'_>, rates: Rates) {
    let Param { param, grad, m, v } = all;
    let n = param.len();
    let (grad, m, v) = (&grad[..n], &mut m[..n], &mut v[..n]);
    for i in 0..n {
        m[i] = fma::<FMA>(m[i], rates.beta1, grad[i] * rates.rest1);
        v[i] = fma::<FMA>(v[i], rates.beta2, grad[i] * grad[i] * rates.rest2);
        let update = m[i] / fma::<FMA>(v[i].sqrt(), rates.root, rates.epsilon);
        param[i] = fma::<FMA>(param[i], rates.keep, -rates.size * update);
    }
}

/// The sum of squares in `f64`: chunks side by side, their sums in order.
pub(crate) fn sum_squares(x: &[f32]) -> f64 {
    let parts: Vec<f64> = x
        .par_chunks(CHUNK)
        .map(|x| {
            let mut lanes = [0.0_f64; 8];
            let (blocks, tail) = x.as_chunks::<8>();
            for block in blocks {
                for (lane, &x) in lanes.iter_mut().zip(block) {
                    *lane += f64::from(x) * f64::from(x);
                }
            }
            let tail: f64 = tail.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
            lanes.iter().sum::<f64>() + tail
        })
        .collect();
    parts.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_close, check_grad, numbers};

    fn scalar_loss(logits: &[f64], targets: &[u32], d_vocab: usize) -> f64 {
        let rows = logits.chunks_exact(d_vocab).zip(targets);
        let loss = |(row, &target): (&[f64], &u32)| {
            row.iter().map(|x| x.exp()).sum::<f64>().ln() - row[target as usize]
        };
        rows.map(loss).sum::<f64>() / targets.len() as f64
    }

    #[test]
    fn cross_entropy_agrees_with_its_formula_and_its_gradient_with_differences() {
        let (targets, d_vocab) = ([0_u32, 4, 2, 2], 5);
        let logits: Vec<f32> = numbers(1, 20).iter().map(|x| x * 4.0).collect();
        let wide: Vec<f64> = logits.iter().map(|&x| f64::from(x)).collect();
        let got = cross_entropy(&logits, &targets, d_vocab);
        assert!((f64::from(got) - scalar_loss(&wide, &targets, d_vocab)).abs() < 1e-6);
        let gradient = |x: &[f64], d_loss: f64| -> Vec<f64> {
            let rows = x.chunks_exact(d_vocab).zip(&targets);
            rows.flat_map(|(row, &target)| {
                let sum: f64 = row.iter().map(|x| x.exp()).sum();
                let hot = move |j: usize| f64::from(u8::from(j == target as usize));
                let scale = d_loss / 4.0;
                row.iter().enumerate().map(move |(j, x)| (x.exp() / sum - hot(j)) * scale)
            })
            .collect()
        };
        check_grad(
            &wide,
            |x| vec![scalar_loss(x, &targets, d_vocab)],
            |x, d_y| gradient(x, d_y[0]),
        );
        let expected: Vec<f32> = gradient(&wide, 0.7).iter().map(|&x| x as f32).collect();
        check_close("d", &cross_entropy_backward(&logits, &targets, d_vocab, 0.7), &expected, 2e-6);
    }

    #[test]
    fn a_logit_that_is_not_a_number_makes_the_loss_one_too() {
        assert!(cross_entropy(&[0.0, f32::NAN], &[0], 2).is_nan());
        assert!(!cross_entropy(&[0.0, f32::INFINITY], &[0], 2).is_finite());
    }

    #[test]
    fn squares_are_summed_as_if_exactly() {
        let x = numbers(1, 50_000);
        let expected: f64 = x.iter().map(|&x| f64::from(x).powi(2)).sum();
        assert!((sum_squares(&x) - expected).abs() < 1e-9 * expected);
        assert!(!sum_squares(&[1.0, f32::NAN]).is_finite());
    }
}

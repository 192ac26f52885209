//! The passes over one row of scores: softmax, bias, dropout, statistics, and their gradients.
//!
//! What not every row needs is a pass of its own, or a second compilation of the softmax, so that the
//! plain one has no branch and no work more than its formula.

use crate::dropout::DropoutRow;
use crate::kernel::math::exp;
use crate::kernel::simd::{fma, fold, multiversion};

/// The least `ln p` a probability has: below, [`exp`] stays where it is, and `p ln p` is taken as 0.
const MIN_LN: f32 = -87.3;

/// What one query does with its scores.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    /// Keys at or before the query; the rest of a row counts as 0.
    pub(super) n_own: usize,
    pub(super) scale: f32,
    pub(super) stats: bool,
    /// What is added to each of its scaled scores.
    pub(super) bias: Option<&'a [f32]>,
    pub(super) dropout: Option<DropoutRow>,
}

/// What a row leaves besides its numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowResult {
    pub(super) sum: f32,
    pub(super) lse: f32,
    /// Entropy, norm, max.
    pub(super) stats: Option<[f32; 3]>,
}

/// What the backward pass of a row needs besides its scores.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowGrad {
    pub(super) lse: f32,
    /// `y . d_y`: the sum over keys of `p d_p`.
    pub(super) mean: f32,
    /// Each statistic with its gradient.
    pub(super) stats: Option<[(f32, f32); 3]>,
}

impl Row<'_> {
    /// From products of the query and the keys to the pattern times `sum`.
    pub(super) fn forward(&self, scores: &mut [f32], factors: &mut [f32]) -> RowResult {
        let scale = self.biased(scores);
        let n_own = self.n_own;
        let (max, sum, stats) = if self.stats {
            let Softmax { max, sum, first, second } = softmax_with_moments(scores, n_own, scale);
            // With x the scores below their max, p is e^x / sum and ln p is x - ln sum: both
            // terms of the entropy are above 0, and nothing cancels. The largest e^x is 1.
            let stats = [sum.ln() - first / sum, second.sqrt() / sum, sum.recip()];
            (max, sum, Some(stats))
        } else {
            let Softmax { max, sum, .. } = softmax(scores, n_own, scale);
            (max, sum, None)
        };
        if let Some(dropout) = self.dropout {
            let factors = &mut factors[..n_own];
            dropout_factors(dropout, factors);
            multiply(&mut scores[..n_own], factors);
        }
        RowResult { sum, lse: max * scale + sum.ln(), stats }
    }

    /// `p` from products to the pattern after dropout, `d_s` from the gradient of that pattern to
    /// the gradient of the products; what the bias gets is added to `d_bias`.
    pub(super) fn backward(
        &self,
        (p, d_s): (&mut [f32], &mut [f32]),
        grad: RowGrad,
        factors: &mut [f32],
        d_bias: &mut [f32],
    ) {
        let scale = self.biased(p);
        let n_own = self.n_own;
        let factors = self.dropout.map(|dropout| {
            let factors = &mut factors[..n_own];
            dropout_factors(dropout, factors);
            multiply(&mut d_s[..n_own], factors);
            &*factors
        });
        let RowGrad { lse, mean, stats } = grad;
        if let Some([(entropy, d_entropy), (norm, d_norm), (max, d_max)]) = stats {
            d_s[first_max(&p[..n_own])] += d_max;
            // The mean of d_p under p, as for y: of -ln p the entropy, of p / norm the norm.
            let mean = mean + d_entropy * entropy + d_norm * norm + d_max * max;
            let grad = Moments { d_entropy, d_norm: d_norm / norm };
            softmax_backward_with_moments(p, d_s, SoftmaxGrad { n_own, scale, lse, mean }, grad);
        } else {
            softmax_backward(p, d_s, SoftmaxGrad { n_own, scale, lse, mean });
        }
        if let Some(factors) = factors {
            multiply(&mut p[..n_own], factors);
        }
        if self.bias.is_some() {
            bias_backward(&mut d_s[..n_own], d_bias, self.scale);
        }
    }

    /// Adds the bias, if there is one, to the scaled scores; what remains to scale by.
    fn biased(&self, scores: &mut [f32]) -> f32 {
        let Some(bias) = self.bias else {
            return self.scale;
        };
        add_bias(&mut scores[..self.n_own], bias, self.scale);
        1.0
    }
}

multiversion! {
    /// `scale * score + bias`.
    fn add_bias(scores: &mut [f32], bias: &[f32], scale: f32) = add_bias_body;
}

#[inline(always)]
fn add_bias_body<const FMA: bool>(scores: &mut [f32], bias: &[f32], scale: f32) {
    for (score, &bias) in scores.iter_mut().zip(bias) {
        *score = fma::<FMA>(*score, scale, bias);
    }
}

multiversion! {
    /// Adds the gradient of a row's biased scores to `d_bias`, and scales it to that of the products.
    fn bias_backward(d_s: &mut [f32], d_bias: &mut [f32], scale: f32) = bias_backward_body;
}

#[inline(always)]
fn bias_backward_body<const FMA: bool>(d_s: &mut [f32], d_bias: &mut [f32], scale: f32) {
    for (d_s, d_bias) in d_s.iter_mut().zip(d_bias) {
        *d_bias += *d_s;
        *d_s *= scale;
    }
}

multiversion! {
    /// What dropout multiplies each key of a row by.
    fn dropout_factors(row: DropoutRow, factors: &mut [f32]) = dropout_factors_body;
}

#[inline(always)]
fn dropout_factors_body<const FMA: bool>(row: DropoutRow, factors: &mut [f32]) {
    for (factor, key_pos) in factors.iter_mut().zip(0_u32..) {
        *factor = row.factor(key_pos);
    }
}

multiversion! {
    fn multiply(x: &mut [f32], factors: &[f32]) = multiply_body;
}

#[inline(always)]
fn multiply_body<const FMA: bool>(x: &mut [f32], factors: &[f32]) {
    x.iter_mut().zip(factors).for_each(|(x, factor)| *x *= factor);
}

/// What one row of a softmax adds up to; `x` are its scaled scores below the largest.
#[derive(Clone, Copy, Debug)]
struct Softmax {
    /// The largest score, unscaled.
    max: f32,
    /// Of `e^x`.
    sum: f32,
    /// Of `x e^x`, if asked for.
    first: f32,
    /// Of `e^2x`, if asked for.
    second: f32,
}

multiversion! {
    /// `exp(scale * (score - max))` of the first `n_own` scores, 0 for the rest.
    fn softmax(scores: &mut [f32], n_own: usize, scale: f32) -> Softmax = softmax_plain;
}

multiversion! {
    /// [`softmax`] with its moments; the scores get the same bits.
    fn softmax_with_moments(scores: &mut [f32], n_own: usize, scale: f32) -> Softmax = softmax_moments;
}

#[inline(always)]
fn softmax_plain<const FMA: bool>(scores: &mut [f32], n_own: usize, scale: f32) -> Softmax {
    softmax_body::<FMA, false>(scores, n_own, scale)
}

#[inline(always)]
fn softmax_moments<const FMA: bool>(scores: &mut [f32], n_own: usize, scale: f32) -> Softmax {
    softmax_body::<FMA, true>(scores, n_own, scale)
}

#[inline(always)]
fn softmax_body<const FMA: bool, const MOMENTS: bool>(
    scores: &mut [f32],
    n_own: usize,
    scale: f32,
) -> Softmax {
    let (own, rest) = scores.split_at_mut(n_own);
    rest.fill(0.0);
    let max = max_body::<FMA>(own);
    let (mut sums, mut firsts, mut seconds) = ([0.0; 16], [0.0; 16], [0.0; 16]);
    let one = |score: &mut f32, sum: &mut f32, first: &mut f32, second: &mut f32| {
        let x = (*score - max) * scale;
        *score = exp::<FMA>(x);
        *sum += *score;
        if MOMENTS {
            let x = if x < MIN_LN { 0.0 } else { x };
            *first = fma::<FMA>(*score, x, *first);
            *second = fma::<FMA>(*score, *score, *second);
        }
    };
    let (blocks, tail) = own.as_chunks_mut::<16>();
    for block in blocks {
        let lanes = sums.iter_mut().zip(&mut firsts).zip(&mut seconds);
        for (score, ((sum, first), second)) in block.iter_mut().zip(lanes) {
            one(score, sum, first, second);
        }
    }
    let lanes = sums.iter_mut().zip(&mut firsts).zip(&mut seconds);
    for (score, ((sum, first), second)) in tail.iter_mut().zip(lanes) {
        one(score, sum, first, second);
    }
    Softmax { max, sum: fold(sums), first: fold(firsts), second: fold(seconds) }
}

multiversion! {
    fn max_of(x: &[f32]) -> f32 = max_body;
}

#[inline(always)]
fn max_body<const FMA: bool>(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 16];
    let (blocks, tail) = x.as_chunks::<16>();
    for block in blocks {
        for (max, &x) in lanes.iter_mut().zip(block) {
            *max = if x > *max { x } else { *max };
        }
    }
    for (max, &x) in lanes.iter_mut().zip(tail) {
        *max = if x > *max { x } else { *max };
    }
    lanes.into_iter().fold(f32::NEG_INFINITY, f32::max)
}

/// The first index of the largest; 0 where NaN leaves none.
fn first_max(x: &[f32]) -> usize {
    let max = max_of(x);
    x.iter().position(|&x| x >= max).unwrap_or(0)
}

/// What a softmax needs for its backward pass besides its scores.
#[derive(Clone, Copy)]
struct SoftmaxGrad {
    n_own: usize,
    scale: f32,
    lse: f32,
    /// The sum over keys of `p d_p`.
    mean: f32,
}

/// What entropy and norm add to `d_p`: `-ln p d_entropy + p d_norm`.
#[derive(Clone, Copy)]
struct Moments {
    d_entropy: f32,
    /// Over the norm.
    d_norm: f32,
}

multiversion! {
    /// `p` from scores to probabilities, `d_s` from their gradient to that of the scores.
    fn softmax_backward(p: &mut [f32], d_s: &mut [f32], row: SoftmaxGrad) = softmax_backward_body;
}

#[inline(always)]
fn softmax_backward_body<const FMA: bool>(p: &mut [f32], d_s: &mut [f32], row: SoftmaxGrad) {
    let (p, rest) = p.split_at_mut(row.n_own);
    rest.fill(0.0);
    let (d_s, rest) = d_s.split_at_mut(row.n_own);
    rest.fill(0.0);
    for (p, d_s) in p.iter_mut().zip(d_s) {
        *p = exp::<FMA>(fma::<FMA>(*p, row.scale, -row.lse));
        *d_s = *p * (*d_s - row.mean) * row.scale;
    }
}

multiversion! {
    /// [`softmax_backward`], with the gradients of entropy and norm.
    fn softmax_backward_with_moments(
        p: &mut [f32],
        d_s: &mut [f32],
        row: SoftmaxGrad,
        grad: Moments,
    ) = softmax_backward_moments_body;
}

#[inline(always)]
fn softmax_backward_moments_body<const FMA: bool>(
    p: &mut [f32],
    d_s: &mut [f32],
    row: SoftmaxGrad,
    grad: Moments,
) {
    let (p, rest) = p.split_at_mut(row.n_own);
    rest.fill(0.0);
    let (d_s, rest) = d_s.split_at_mut(row.n_own);
    rest.fill(0.0);
    for (p, d_s) in p.iter_mut().zip(d_s) {
        let ln_p = fma::<FMA>(*p, row.scale, -row.lse);
        let ln_p = if ln_p < MIN_LN { MIN_LN } else { ln_p };
        *p = exp::<FMA>(ln_p);
        let d_p = fma::<FMA>(*p, grad.d_norm, fma::<FMA>(-ln_p, grad.d_entropy, *d_s));
        *d_s = *p * (d_p - row.mean) * row.scale;
    }
}

//! Operations that treat each small row by itself: cross entropy.

use rayon::prelude::*;

use super::math::exp;
use super::simd::{multiversion, sum_of};

/// Logits of one task, few enough that they stay in the cache from one pass to the next.
const LOGITS: usize = 1 << 12;

/// The mean over rows of `-ln softmax(logits)[target]`, added in `f64` in the order of the rows.
pub(crate) fn cross_entropy(logits: &[f32], targets: &[u32], d_vocab: usize) -> f32 {
    let n_rows = (LOGITS / d_vocab).max(1);
    let mut losses = vec![0.0_f32; targets.len()];
    losses
        .par_chunks_mut(n_rows)
        .zip(logits.par_chunks(n_rows * d_vocab).zip(targets.par_chunks(n_rows)))
        .for_each(|(losses, (logits, targets))| {
            let totals = exp_rows(&mut logits.to_vec(), d_vocab);
            let rows = logits.chunks_exact(d_vocab).zip(targets).zip(totals);
            for (loss, ((logits, &target), (max, sum))) in losses.iter_mut().zip(rows) {
                *loss = max + sum.ln() - logits[target as usize];
            }
        });
    let total: f64 = losses.iter().map(|&loss| f64::from(loss)).sum();
    (total / targets.len() as f64) as f32
}

/// From logits to their gradient, in place: `(softmax - one-hot) * d_loss / rows`.
pub(crate) fn cross_entropy_backward(
    logits: &mut [f32],
    targets: &[u32],
    d_vocab: usize,
    d_loss: f32,
) {
    let n_rows = (LOGITS / d_vocab).max(1);
    let scale = d_loss / targets.len() as f32;
    logits.par_chunks_mut(n_rows * d_vocab).zip(targets.par_chunks(n_rows)).for_each(
        |(logits, targets)| {
            let totals = exp_rows(logits, d_vocab);
            let rows = logits.chunks_exact_mut(d_vocab).zip(targets).zip(totals);
            for ((row, &target), (_, sum)) in rows {
                let to_p = scale / sum;
                row.iter_mut().for_each(|x| *x *= to_p);
                row[target as usize] -= scale;
            }
        },
    );
}

multiversion! {
    /// Makes each entry `exp(x - max)` of its row; gives the largest entry and the sum of each row.
    ///
    /// A NaN is passed on by the sum.
    fn exp_rows(rows: &mut [f32], d_vocab: usize) -> Vec<(f32, f32)> = exp_rows_body;
}

/// The exponentials are taken without fused multiply-add, so this has the same bits on every machine.
#[inline(always)]
fn exp_rows_body<const FMA: bool>(rows: &mut [f32], d_vocab: usize) -> Vec<(f32, f32)> {
    let mut totals = Vec::with_capacity(rows.len() / d_vocab);
    for row in rows.chunks_exact_mut(d_vocab) {
        let max = max_of(row);
        for x in row {
            *x -= max;
        }
        totals.push((max, 0.0));
    }
    // In a pass of its own over all rows: the five symbols of one would not fill a vector.
    for x in &mut *rows {
        *x = exp::<false>(*x);
    }
    for (row, (_, sum)) in rows.chunks_exact(d_vocab).zip(&mut totals) {
        // Sixteen lanes are more work than a row that is shorter than they are.
        *sum = if d_vocab < 16 { row.iter().sum() } else { sum_of(row, |x| x) };
    }
    totals
}

/// The largest entry; a NaN is passed over.
#[inline(always)]
fn max_of(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 16];
    let (blocks, tail) = row.as_chunks::<16>();
    for block in blocks {
        for (lane, &x) in lanes.iter_mut().zip(block) {
            *lane = if x > *lane { x } else { *lane };
        }
    }
    let lanes = if blocks.is_empty() { &[][..] } else { &lanes[..] };
    let mut max = f32::NEG_INFINITY;
    for &x in lanes.iter().chain(tail) {
        max = if x > max { x } else { max };
    }
    max
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::simd::{Level, at_level, fold};
    use crate::testing::{check_close, check_grad, check_same_bits, numbers};

    fn scalar_loss(logits: &[f64], targets: &[u32], d_vocab: usize) -> f64 {
        let rows = logits.chunks_exact(d_vocab).zip(targets);
        let loss = |(row, &target): (&[f64], &u32)| {
            row.iter().map(|x| x.exp()).sum::<f64>().ln() - row[target as usize]
        };
        rows.map(loss).sum::<f64>() / targets.len() as f64
    }

    /// The gradient of [`scalar_loss`], times `d_loss`.
    fn scalar_gradient(logits: &[f64], targets: &[u32], d_vocab: usize, d_loss: f64) -> Vec<f64> {
        let scale = d_loss / targets.len() as f64;
        let row = |(row, &target): (&[f64], &u32)| -> Vec<f64> {
            let sum: f64 = row.iter().map(|x| x.exp()).sum();
            let hot = |j: usize| f64::from(u8::from(j == target as usize));
            row.iter().enumerate().map(|(j, x)| (x.exp() / sum - hot(j)) * scale).collect()
        };
        logits.chunks_exact(d_vocab).zip(targets).flat_map(row).collect()
    }

    #[test]
    fn cross_entropy_agrees_with_its_formula_and_its_gradient_with_differences() {
        for (n_rows, d_vocab) in [(4, 5), (3, 16), (130, 65)] {
            let targets: Vec<u32> = (0..n_rows).map(|i| i * 7 % d_vocab as u32).collect();
            let logits: Vec<f32> =
                numbers(1, n_rows as usize * d_vocab).iter().map(|x| x * 4.0).collect();
            let wide: Vec<f64> = logits.iter().map(|&x| f64::from(x)).collect();
            let got = cross_entropy(&logits, &targets, d_vocab);
            assert!((f64::from(got) - scalar_loss(&wide, &targets, d_vocab)).abs() < 1e-6);
            check_grad(
                &wide[..3 * d_vocab],
                |x| vec![scalar_loss(x, &targets[..3], d_vocab)],
                |x, d_y| scalar_gradient(x, &targets[..3], d_vocab, d_y[0]),
            );
            let gradient = scalar_gradient(&wide, &targets, d_vocab, 0.7);
            let expected: Vec<f32> = gradient.iter().map(|&x| x as f32).collect();
            let mut d_logits = logits;
            cross_entropy_backward(&mut d_logits, &targets, d_vocab, 0.7);
            check_close("d", &d_logits, &expected, 2e-6);
        }
    }

    /// The order of sums, spelt out: short rows in order, long ones in lanes.
    fn scalar_exp_row(row: &[f32]) -> (Vec<f32>, f32) {
        let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let powers: Vec<f32> = row.iter().map(|x| exp::<false>(x - max)).collect();
        if row.len() < 16 {
            let sum = powers.iter().sum();
            return (powers, sum);
        }
        let mut lanes = [0.0; 16];
        powers.iter().enumerate().for_each(|(j, x)| lanes[j % 16] += x);
        let sum = fold(lanes);
        (powers, sum)
    }

    #[test]
    fn a_row_of_logits_has_the_same_bits_on_every_machine_and_among_any_others() {
        for d_vocab in [1, 5, 15, 16, 17, 65, 300] {
            let logits: Vec<f32> = numbers(1, 9 * d_vocab).iter().map(|x| x * 20.0).collect();
            let rows: Vec<_> = logits.chunks_exact(d_vocab).map(scalar_exp_row).collect();
            let powers: Vec<f32> = rows.iter().flat_map(|(powers, _)| powers.clone()).collect();
            let sums: Vec<f32> = rows.iter().map(|(_, sum)| *sum).collect();
            for level in [Level::Portable, Level::Avx2, Level::Avx512] {
                for n_rows in [1, 9] {
                    let n = n_rows * d_vocab;
                    let Some((got, totals)) = at_level(level, || {
                        let mut got = logits[..n].to_vec();
                        let totals = exp_rows(&mut got, d_vocab);
                        (got, totals)
                    }) else {
                        continue;
                    };
                    check_same_bits("powers", &got, &powers[..n]);
                    let got: Vec<f32> = totals.iter().map(|(_, sum)| *sum).collect();
                    check_same_bits("sums", &got, &sums[..n_rows]);
                }
            }
        }
    }

    #[test]
    fn a_logit_that_is_not_a_number_makes_the_loss_one_too() {
        assert!(cross_entropy(&[0.0, f32::NAN], &[0], 2).is_nan());
        assert!(!cross_entropy(&[0.0, f32::INFINITY], &[0], 2).is_finite());
    }
}

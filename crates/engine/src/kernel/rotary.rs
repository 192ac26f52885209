//! Heads turned in place by the angles of their rows.

use rayon::prelude::*;

use super::simd::{fma, multiversion};
use crate::{QueryRows, Rotary};

/// Turns the first `n_turned` heads of the rows `x: [rows, d]`; `sign` is -1 to turn them back.
pub(crate) fn turn(
    x: &mut [f32],
    d: usize,
    n_turned: usize,
    rows: &QueryRows,
    rotary: &Rotary,
    sign: f32,
) {
    /// Rows of one task.
    const ROWS: usize = 64;
    x.par_chunks_mut((ROWS * d).max(1)).enumerate().for_each(|(chunk_idx, x)| {
        for (row, x) in x.chunks_exact_mut(d).enumerate() {
            let (_, pos) = rows.place(chunk_idx * ROWS + row);
            let (cos, sin) = (rotary.cos(pos as usize), rotary.sin(pos as usize));
            for head in x.chunks_exact_mut(rotary.d_head()).take(n_turned) {
                turn_head(head, cos, sin, sign);
            }
        }
    });
}

multiversion! {
    /// Turns the pairs of one head: `(a cos - b sin, b cos + a sin)`.
    fn turn_head(head: &mut [f32], cos: &[f32], sin: &[f32], sign: f32) = turn_head_body;
}

#[inline(always)]
fn turn_head_body<const FMA: bool>(head: &mut [f32], cos: &[f32], sin: &[f32], sign: f32) {
    let (first, second) = head.split_at_mut(cos.len());
    for ((a, b), (&cos, &sin)) in first.iter_mut().zip(second).zip(cos.iter().zip(sin)) {
        let sin = sin * sign;
        let turned = fma::<FMA>(*a, cos, -(*b * sin));
        *b = fma::<FMA>(*b, cos, *a * sin);
        *a = turned;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::simd::{Level, at_level};
    use crate::testing::{check_close, check_grad, check_same_bits, numbers};

    /// Heads of one row each at `pos`, by the formula, in `f64`.
    fn scalar(x: &[f64], d_head: usize, n_rotated: usize, pos: f64) -> Vec<f64> {
        let mut y = x.to_vec();
        let half = n_rotated / 2;
        for (y, x) in y.chunks_exact_mut(d_head).zip(x.chunks_exact(d_head)) {
            for i in 0..half {
                let angle = pos * 10_000_f64.powf(-2.0 * i as f64 / n_rotated as f64);
                y[i] = x[i] * angle.cos() - x[i + half] * angle.sin();
                y[i + half] = x[i + half] * angle.cos() + x[i] * angle.sin();
            }
        }
        y
    }

    #[test]
    fn the_gradient_turns_back() {
        let x: Vec<f64> = numbers(1, 14).iter().map(|&x| f64::from(x)).collect();
        let back = |_: &[f64], d_y: &[f64]| scalar(d_y, 7, 4, -9.0);
        check_grad(&x, |x| scalar(x, 7, 4, 9.0), back);
    }

    #[test]
    fn kernel_and_scalar_agree_and_a_turn_back_undoes_a_turn() {
        for (d_head, n_rotated, n_turned, rest) in [(2, 2, 1, 0), (24, 16, 3, 7), (64, 64, 2, 64)] {
            let d = n_turned * d_head + rest;
            let rows = QueryRows::new(600, (0..90).map(|i| (i / 30, i % 30 * 20 + 5)).collect());
            let rotary = Rotary::new(d_head, n_rotated, 10_000.0, 600);
            let x = numbers(1, rows.len() * d);
            let mut y = x.clone();
            turn(&mut y, d, n_turned, &rows, &rotary, 1.0);
            for (i, (y, x)) in y.chunks_exact(d).zip(x.chunks_exact(d)).enumerate() {
                let (heads, same) = x.split_at(n_turned * d_head);
                let heads: Vec<f64> = heads.iter().map(|&x| f64::from(x)).collect();
                let expected = scalar(&heads, d_head, n_rotated, f64::from(rows.place(i).1));
                let expected: Vec<f32> = expected.iter().map(|&y| y as f32).collect();
                check_close("y", &y[..n_turned * d_head], &expected, 2e-7);
                check_same_bits("rest", &y[n_turned * d_head..], same);
            }
            turn(&mut y, d, n_turned, &rows, &rotary, -1.0);
            check_close("turned back", &y, &x, 5e-7);
        }
    }

    #[test]
    fn the_vectors_do_not_change_the_bits() {
        let rotary = Rotary::new(24, 20, 10_000.0, 12);
        let head = || {
            let mut head = numbers(1, 24);
            turn_head(&mut head, rotary.cos(11), rotary.sin(11), 1.0);
            head
        };
        let best = head();
        if let Some(avx2) = at_level(Level::Avx2, head) {
            check_same_bits("avx2", &avx2, &best);
        }
        check_close("portable", &at_level(Level::Portable, head).unwrap(), &best, 2e-7);
    }
}

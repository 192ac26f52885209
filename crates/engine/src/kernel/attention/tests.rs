//! The kernels against plain formulas in `f64`, and against themselves at other places.

use super::row::{Row, RowGrad};
use super::*;
use crate::QueryRows;
use crate::kernel::simd::{Level, at_level};
use crate::testing::{check_close, check_grad, check_same_bits, numbers};

/// One head of one example by its formulas, in `f64`.
struct Scalar {
    n: usize,
    d: usize,
    temperature: f64,
    /// Whether a table of `n` biases stands behind the operands.
    biased: bool,
    dropout: Option<Dropout>,
}

impl Scalar {
    fn plain(n: usize, d: usize) -> Self {
        Self { n, d, temperature: 1.0, biased: false, dropout: None }
    }

    /// Everything at once.
    fn all(n: usize, d: usize) -> Self {
        let dropout = Some(Dropout::new(0.3, 99));
        Self { n, d, temperature: 1.5, biased: true, dropout }
    }

    fn attend(&self, stats: bool) -> Attend {
        Attend {
            temperature: self.temperature,
            dropout: self.dropout.clone(),
            stats,
            ..Attend::plain(1)
        }
    }

    fn n_inputs(&self) -> usize {
        3 * self.n * self.d + if self.biased { self.n } else { 0 }
    }

    /// Row `i` of the queries, keys or values, which stand behind each other in `x`.
    fn part<'a>(&self, x: &'a [f64], part: usize, i: usize) -> &'a [f64] {
        &x[(part * self.n + i) * self.d..][..self.d]
    }

    /// Row `i` of the pattern, and what dropout multiplies it by.
    fn pattern(&self, x: &[f64], i: usize) -> (Vec<f64>, Vec<f64>) {
        let bias = &x[3 * self.n * self.d..];
        let score = |j: usize| {
            let product: f64 =
                std::iter::zip(self.part(x, 0, i), self.part(x, 1, j)).map(|(q, k)| q * k).sum();
            let scaled = product / ((self.d as f64).sqrt() * self.temperature);
            scaled + if self.biased { bias[i - j] } else { 0.0 }
        };
        let exps: Vec<f64> = (0..=i).map(|j| score(j).exp()).collect();
        let sum: f64 = exps.iter().sum();
        let factor = |j: usize| {
            let dropout = self.dropout.as_ref();
            dropout.map_or(1.0, |dropout| f64::from(dropout.factor(0, 0, i as u32, j as u32)))
        };
        (exps.iter().map(|e| e / sum).collect(), (0..=i).map(factor).collect())
    }

    /// `[n, d + 3]`: each row with its entropy, norm and max.
    fn forward(&self, x: &[f64]) -> Vec<f64> {
        let mut out = Vec::new();
        for i in 0..self.n {
            let (p, factors) = self.pattern(x, i);
            let y =
                |c: usize| (0..=i).map(|j| p[j] * factors[j] * self.part(x, 2, j)[c]).sum::<f64>();
            out.extend((0..self.d).map(y));
            out.push(-p.iter().map(|p| p * p.ln()).sum::<f64>());
            out.push(p.iter().map(|p| p * p).sum::<f64>().sqrt());
            out.push(p.iter().copied().fold(0.0, f64::max));
        }
        out
    }

    fn backward(&self, x: &[f64], d_out: &[f64]) -> Vec<f64> {
        let (n, d) = (self.n, self.d);
        let mut grad = vec![0.0; x.len()];
        for i in 0..n {
            let (p, factors) = self.pattern(x, i);
            let (d_y, d_stats) = d_out[i * (d + 3)..][..d + 3].split_at(d);
            let norm = p.iter().map(|p| p * p).sum::<f64>().sqrt();
            let largest = (0..=i).fold(0, |max, j| if p[j] > p[max] { j } else { max });
            let d_p: Vec<f64> = (0..=i)
                .map(|j| {
                    let v = self.part(x, 2, j);
                    let d_kept: f64 = std::iter::zip(d_y, v).map(|(d_y, v)| d_y * v).sum();
                    let d_max = if j == largest { d_stats[2] } else { 0.0 };
                    let d_entropy = -(p[j].ln() + 1.0) * d_stats[0];
                    factors[j] * d_kept + d_entropy + d_stats[1] * p[j] / norm + d_max
                })
                .collect();
            let mean: f64 = d_p.iter().zip(&p).map(|(d_p, p)| d_p * p).sum();
            for j in 0..=i {
                let d_score = p[j] * (d_p[j] - mean);
                if self.biased {
                    grad[3 * n * d + i - j] += d_score;
                }
                let d_product = d_score / ((d as f64).sqrt() * self.temperature);
                for c in 0..d {
                    grad[(2 * n + j) * d + c] += p[j] * factors[j] * d_y[c];
                    grad[i * d + c] += d_product * x[(n + j) * d + c];
                    grad[(n + j) * d + c] += d_product * x[i * d + c];
                }
            }
        }
        grad
    }
}

fn wide(x: &[f32], scale: f64) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x) * scale).collect()
}

fn narrow(x: &[f64]) -> Vec<f32> {
    x.iter().map(|&x| x as f32).collect()
}

#[test]
fn the_scalar_gradient_agrees_with_central_differences() {
    for scalar in [Scalar::plain(5, 3), Scalar::all(6, 3)] {
        let x = wide(&numbers(1, scalar.n_inputs()), 1.0);
        check_grad(&x, |x| scalar.forward(x), |x, d_out| scalar.backward(x, d_out));
    }
}

/// From `[3, n, d]` to `[n, 3 d]`.
fn interleave(x: &[f64], n: usize, d: usize) -> Vec<f32> {
    (0..3 * n * d).map(|at| x[(at / d % 3 * n + at / (3 * d)) * d + at % d] as f32).collect()
}

/// Rows without their statistics.
fn without_stats(x: &[f32], d: usize) -> Vec<f32> {
    x.chunks_exact(d + 3).flat_map(|row| &row[..d]).copied().collect()
}

/// The kernel's `(y, d_qkv, d_bias)` of one example, on this thread.
fn run(
    qkv: &[f32],
    bias: Option<&[f32]>,
    dims: Dims,
    attend: &Attend,
    d_y: &[f32],
) -> [Vec<f32>; 3] {
    let bias = bias.map(|bias| reversed(bias, dims.seq_len));
    let form = Form::new(dims, attend, bias.as_deref());
    let (y, lse) = forward_all(qkv, form, true);
    let trace = Trace { y: &y, lse: &lse };
    let (d_qkv, d_bias) = backward_all(qkv, form, trace, d_y);
    [y, d_qkv, d_bias.unwrap_or_default()]
}

/// Everything against the scalar, with and without statistics.
fn check_scalar(scalar: &Scalar) {
    let &Scalar { n, d, biased, .. } = scalar;
    let x = wide(&numbers(1, scalar.n_inputs()), 2.0);
    let (qkv, bias) = (interleave(&x, n, d), narrow(&x[3 * n * d..]));
    let bias = biased.then_some(&bias[..]);
    let dims = Dims { seq_len: n, n_heads: 1, d_head: d, d_value: d };
    let d_out = numbers(2, n * (d + 3));
    for stats in [true, false] {
        let mut d_wide = wide(&d_out, 1.0);
        let (mut d_y, mut expected) = (d_out.clone(), narrow(&scalar.forward(&x)));
        if !stats {
            (d_y, expected) = (without_stats(&d_y, d), without_stats(&expected, d));
            d_wide.chunks_exact_mut(d + 3).for_each(|row| row[d..].fill(0.0));
        }
        let [y, d_qkv, d_bias] = run(&qkv, bias, dims, &scalar.attend(stats), &d_y);
        check_close("y", &y, &expected, 2e-6);
        let expected = scalar.backward(&x, &d_wide);
        check_close("d_qkv", &d_qkv, &interleave(&expected, n, d), 5e-6);
        check_close("d_bias", &d_bias, &narrow(&expected[3 * n * d..]), 1e-5);
    }
}

#[test]
fn kernel_and_scalar_agree_on_odd_shapes() {
    for (n, d) in [(1, 16), (65, 24), (511, 16), (130, 64), (20, 5)] {
        check_scalar(&Scalar::plain(n, d));
        check_scalar(&Scalar::all(n, d));
    }
}

#[test]
fn kernel_and_scalar_agree_on_each_part_alone() {
    let plain = || Scalar::plain(70, 9);
    check_scalar(&Scalar { temperature: 0.4, ..plain() });
    check_scalar(&Scalar { biased: true, ..plain() });
    check_scalar(&Scalar { dropout: Some(Dropout::new(0.5, 1)), ..plain() });
}

#[test]
fn what_changes_nothing_changes_no_bit() {
    let dims = Dims { seq_len: 90, n_heads: 1, d_head: 24, d_value: 24 };
    let (qkv, d_out) = (numbers(1, 90 * 3 * 24), numbers(2, 90 * 27));
    let mut d_packed = d_out.clone();
    d_packed.chunks_exact_mut(27).for_each(|row| row[24..].fill(0.0));
    let d_y = without_stats(&d_out, 24);
    let plain = Attend::plain(1);
    let expected = run(&qkv, None, dims, &plain, &d_y);
    let kept = Attend { dropout: Some(Dropout::new(0.0, 5)), ..plain.clone() };
    for (got, expected) in run(&qkv, None, dims, &kept, &d_y).iter().zip(&expected) {
        check_same_bits("dropout of nothing", got, expected);
    }
    let [y, d_qkv, _] = run(&qkv, None, dims, &Attend { stats: true, ..plain.clone() }, &d_packed);
    check_same_bits("y beside statistics", &without_stats(&y, 24), &expected[0]);
    check_close("d_qkv beside statistics", &d_qkv, &expected[1], 1e-6);
    let [y, d_qkv, _] = run(&qkv, Some(&[0.0; 90]), dims, &plain, &d_y);
    check_close("y with a bias of 0", &y, &expected[0], 1e-6);
    check_close("d_qkv with a bias of 0", &d_qkv, &expected[1], 1e-6);
}

#[test]
fn a_chosen_query_has_the_bits_it_has_among_all() {
    let dims = Dims { seq_len: 150, n_heads: 2, d_head: 24, d_value: 24 };
    let d = dims.d();
    let qkv = numbers(1, 2 * 150 * 3 * d);
    let bias = reversed(&numbers(3, 2 * 150), 150);
    let plain = Attend::plain(2);
    let all =
        Attend { temperature: 0.7, dropout: Some(Dropout::new(0.2, 3)), stats: true, ..plain };
    let query_pos = [0_u32, 3, 64, 65, 149];
    let part = |row: usize, cols: std::ops::Range<usize>| {
        qkv[row * 3 * d + cols.start..row * 3 * d + cols.end].to_vec()
    };
    // The queries are those of the second example: dropout must know which one it is.
    let q: Vec<f32> = query_pos.iter().flat_map(|&pos| part(150 + pos as usize, 0..d)).collect();
    let kv: Vec<f32> = (0..300).flat_map(|row| part(row, d..3 * d)).collect();
    let rows = QueryRows::new(150, query_pos.map(|pos| (1, pos)).to_vec());
    let places = &Places::of(&rows, 2);
    for (attend, bias) in [(plain, None), (all, Some(&bias[..]))] {
        let form = Form::new(dims, &attend, bias);
        let width = form.width();
        let (all, _) = forward_all(&qkv, form, false);
        let chosen = Chosen { q: &q, kv: &kv, places, form };
        let (some, _) = chosen.forward();
        for (i, pos) in query_pos.into_iter().enumerate() {
            let expected = &all[(150 + pos as usize) * width..][..width];
            check_same_bits("y", &some[i * width..][..width], expected);
        }
    }
}

/// One row forward and backward: its pattern, its gradient, that of the bias, and its statistics.
fn one_row(n_own: usize, dropout: &Dropout) -> Vec<f32> {
    let (n_keys, bias) = (n_own + 5, numbers(3, n_own));
    let row = Row {
        n_own,
        scale: 0.3,
        stats: true,
        bias: Some(&bias),
        dropout: Some(dropout.row(1, 2, n_own as u32 - 1)),
    };
    let scores: Vec<f32> = numbers(1, n_keys).iter().map(|x| x * 9.0).collect();
    let (mut pattern, mut factors) = (scores.clone(), vec![0.0; n_own]);
    let result = row.forward(&mut pattern, &mut factors);
    let (mut p, mut d_s, mut d_bias) = (scores, numbers(2, n_keys), vec![0.0; n_own]);
    let stats = result.stats.unwrap();
    let grad = RowGrad { lse: result.lse, mean: 0.1, stats: Some(stats.map(|stat| (stat, 0.2))) };
    row.backward((&mut p, &mut d_s), grad, &mut factors, &mut d_bias);
    [pattern, p, d_s, d_bias, stats.to_vec(), vec![result.sum, result.lse]].concat()
}

#[test]
fn the_vectors_do_not_change_the_bits_of_a_row() {
    for n_own in [1, 15, 16, 100, 257] {
        let dropout = Dropout::new(0.4, 8);
        let best = one_row(n_own, &dropout);
        if let Some(avx2) = at_level(Level::Avx2, || one_row(n_own, &dropout)) {
            check_same_bits("avx2", &avx2, &best);
        }
        let portable = at_level(Level::Portable, || one_row(n_own, &dropout)).unwrap();
        check_close("portable", &portable, &best, 2e-6);
    }
}

/// The statistics of a row of scores, and the gradient of the scores by all of them.
fn stats_of(scores: &[f32], bias: Option<&[f32]>) -> (Vec<f32>, Vec<f32>) {
    let row = Row { n_own: scores.len(), scale: 1.0, stats: true, bias, dropout: None };
    let mut pattern = scores.to_vec();
    let result = row.forward(&mut pattern, &mut []);
    let stats = result.stats.unwrap();
    let (mut p, mut d_s, mut d_bias) =
        (scores.to_vec(), vec![0.0; scores.len()], vec![0.0; scores.len()]);
    let grad = RowGrad { lse: result.lse, mean: 0.0, stats: Some(stats.map(|stat| (stat, 1.0))) };
    row.backward((&mut p, &mut d_s), grad, &mut [], &mut d_bias);
    (stats.to_vec(), d_s)
}

#[test]
fn statistics_at_their_ends_are_exact_and_finite() {
    let (stats, d_s) = stats_of(&[3.0], None);
    check_close("one key", &stats, &[0.0, 1.0, 1.0], 1e-7);
    check_same_bits("its gradient", &d_s, &[0.0]);
    let (stats, d_s) = stats_of(&[2.0; 4], None);
    check_close("alike", &stats, &[4_f32.ln(), 0.5, 0.25], 2e-7);
    // At equal entries entropy and norm have no slope; the first has the max: p (1 - p), -p p.
    check_close("alike, gradient", &d_s, &[0.1875, -0.0625, -0.0625, -0.0625], 1e-6);
    let (stats, d_s) = stats_of(&[0.0, 500.0, -1e30], None);
    check_close("one has all", &stats, &[0.0, 1.0, 1.0], 1e-7);
    assert!(d_s.iter().all(|d_s| d_s.abs() < 1e-6), "{d_s:?}");
    let closed = [0.0, f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY];
    let (stats, d_s) = stats_of(&[1.0; 4], Some(&closed));
    check_close("two are closed", &stats, &[2_f32.ln(), 0.5_f32.sqrt(), 0.5], 2e-7);
    check_close("two are closed, gradient", &d_s, &[0.25, 0.0, -0.25, 0.0], 1e-6);
}

#[test]
fn products_that_were_kept_give_the_bits_of_those_that_are_formed_again() {
    let (batch, seq_len, d, d_value) = (2, 37, 20, 9);
    let (dims, plain) = (Dims { seq_len, n_heads: 1, d_head: d, d_value }, Attend::plain(1));
    let rows = QueryRows::new(seq_len, vec![(0, 0), (0, 3), (0, 20), (0, 36), (1, 5)]);
    let everywhere = (Places::all(batch, seq_len), batch * seq_len);
    for (places, n_queries) in [everywhere, (Places::of(&rows, batch), rows.len())] {
        let (q, k) = (numbers(1, n_queries * d), numbers(2, batch * seq_len * d));
        let (v, d_y) = (numbers(3, batch * seq_len * d_value), numbers(4, n_queries * d_value));
        let form = Form::new(dims, &plain, None);
        let apart = Apart { qkv: [&q, &k, &v], places: &places, form };
        let ((y, lse, kept), (again, _, none)) = (apart.forward(true), apart.forward(false));
        assert!(kept.is_some() && none.is_none());
        check_same_bits("y", &y, &again);
        let grads = |kept| apart.backward(Trace { y: &y, lse: &lse }, kept, &d_y, [true; 3]);
        for (with, without) in grads(kept.as_deref()).into_iter().zip(grads(None)) {
            check_same_bits("gradient", &with.unwrap(), &without.unwrap());
        }
    }
    let wide = Form::new(Dims { d_head: 18, ..dims }, &plain, None);
    let none: [&[f32]; 3] = [&[]; 3];
    let places = Places::all(0, seq_len);
    let (_, _, kept) = Apart { qkv: none, places: &places, form: wide }.forward(true);
    assert!(kept.is_none(), "of a head narrower than half its keys nothing is kept");
}

//! Signal and noise: how wide a model must be, and how many examples a class needs.
//!
//! | memory | signal | variance of the noise |
//! |---|---|---|
//! | clean, `W = sum_k w_U(k) w_E(k)^T` | 1 | `2 / d + (N + 2) / d^2` |
//! | illustrative, `W = sum_k w_U(k) (w_E(k) - mean w_E)^T` asked at `p_t` | 1 | `(1 / d) (1 - 1 / N) (1 + (N + 1) / d)` |
//! | a class mean of bags of tokens, from `n_k` examples | `1 / T` | `Var(n_j) / (T^2 n_k)` |
//!
//! The first two are exact for embeddings with independent normal entries of variance `1 / d`: a
//! score is a sum of products of inner products, two of which share an index with the score and
//! carry the fourth moment `1 + 2 / d` of a norm. The paper has the leading order of either. The
//! third is the variance of a count in an example of [`crate::data::induction`], of which a mean of
//! `n_k` keeps one part in `n_k`: with it, recall grows with the number of batches as with width.
//!
//! Source: arXiv:2306.00802, appendices A and B.1; exact variances are derived here.

use mnemoscope_stats::mean::Mean;
use mnemoscope_stats::stream::Stream;
use ndarray::{Array2, Axis};

use crate::check::Check;
use crate::data::induction::Induction;
use crate::embedding::gaussian;
use crate::memory::Recall;

/// The variance of a score off the diagonal of a clean memory.
///
/// # Example
///
/// ```
/// use mnemoscope_theory::noise::clean_variance;
///
/// assert!((clean_variance(65, 1024).sqrt() - 0.045).abs() < 1e-3);
/// ```
#[must_use]
pub fn clean_variance(d_vocab: usize, d_model: usize) -> f64 {
    let (n, d) = (d_vocab as f64, d_model as f64);
    2.0 / d + (n + 2.0) / (d * d)
}

/// The variance that a position adds to each score of the illustrative example's first step, in
/// units of its signal.
#[must_use]
pub fn position_variance(d_vocab: usize, d_model: usize) -> f64 {
    let (n, d) = (d_vocab as f64, d_model as f64);
    (1.0 - 1.0 / n) * (1.0 + (n + 1.0) / d) / d
}

/// The variance of the number of occurrences of a token that is not the label.
///
/// It is the trigger, twice, with probability `(T - 2) / (T - 1) / (N - 1)`; else chance tokens fall
/// on it: `T - 3` of them beside a trigger and its output, `T - 2` beside a repeated trigger.
#[must_use]
pub fn count_variance(d_vocab: usize, seq_len: usize) -> f64 {
    let (t, p) = (seq_len as f64, 1.0 / (d_vocab as f64 - 1.0));
    let p_apart = (t - 2.0) / (t - 1.0);
    let moments = |n: f64| (n * p, n * p * (1.0 - p) + (n * p).powi(2));
    let mixture = [
        (p_apart * p, (2.0, 4.0)),
        (p_apart * (1.0 - p), moments(t - 3.0)),
        (1.0 - p_apart, moments(t - 2.0)),
    ];
    let first: f64 = mixture.iter().map(|(weight, (first, _))| weight * first).sum();
    let second: f64 = mixture.iter().map(|(weight, (_, second))| weight * second).sum();
    second - first * first
}

/// The mean number of those occurrences.
fn count_mean(d_vocab: usize, seq_len: usize) -> f64 {
    let (t, p) = (seq_len as f64, 1.0 / (d_vocab as f64 - 1.0));
    let p_apart = (t - 2.0) / (t - 1.0);
    p_apart * (2.0 * p + (1.0 - p) * (t - 3.0) * p) + (1.0 - p_apart) * (t - 2.0) * p
}

/// Clean memories of random embeddings: scores off the diagonal, and recall.
fn clean_checks(d_vocab: usize, d_model: usize, n_draws: u64, stream: &Stream) -> Vec<Check> {
    let (mut signal, mut noise, mut recall) = (Mean::default(), Mean::default(), Mean::default());
    for draw in 0..n_draws {
        let stream = stream.child(draw);
        let rows = |name| gaussian(&stream.derive(name), [d_vocab, d_model], 1.0 / d_model as f64);
        let (unembed, embed) = (rows("unembed"), rows("embed"));
        // [input, output]: E E^T U U^T.
        let scores = embed.dot(&embed.t()).dot(&unembed.dot(&unembed.t()));
        let on: f64 = scores.diag().iter().map(|score| score * score).sum();
        let all: f64 = scores.iter().map(|score| score * score).sum();
        signal.add(scores.diag().sum() / d_vocab as f64);
        noise.add((all - on) / (d_vocab * (d_vocab - 1)) as f64);
        recall.add(Recall::of_identity(scores.view()).share());
    }
    let at = format!("clean, N {d_vocab}, d {d_model}");
    vec![
        Check::mean(format!("{at}: diagonal"), 1.0, &signal),
        Check::mean(format!("{at}: variance off it"), clean_variance(d_vocab, d_model), &noise),
        Check::band(format!("{at}: recall"), 1.0, recall.mean(), [0.97, 1.0], n_draws),
    ]
}

/// The first step of the illustrative example: the noise of positions, and every answer there is.
fn position_checks(
    [d_vocab, seq_len]: [usize; 2],
    (d_model, published, band): (usize, f64, [f64; 2]),
    n_draws: u64,
    stream: &Stream,
) -> Vec<Check> {
    let (mut noise, mut right) = (Mean::default(), Mean::default());
    for draw in 0..n_draws {
        let stream = stream.child(draw);
        let rows = |name, n| gaussian(&stream.derive(name), [n, d_model], 1.0 / d_model as f64);
        let (unembed, embed) = (rows("unembed", d_vocab), rows("embed", d_vocab));
        let positions = rows("positions", seq_len);
        let centred = &embed - &(embed.sum_axis(Axis(0)) / d_vocab as f64);
        let outputs = unembed.dot(&unembed.t());
        // [input, output] of tokens and of positions.
        let of_tokens = embed.dot(&centred.t()).dot(&outputs);
        let of_positions = positions.dot(&centred.t()).dot(&outputs);
        noise.add(
            of_positions.iter().map(|score| score * score).sum::<f64>() / of_positions.len() as f64,
        );
        let shares = of_positions
            .rows()
            .into_iter()
            .map(|blur| Recall::of_identity((&of_tokens + &blur).view()).share());
        right.add(shares.sum::<f64>() / seq_len as f64);
    }
    let at = format!("illustrative, N {d_vocab}, d {d_model}");
    let predicted = position_variance(d_vocab, d_model);
    vec![
        Check::mean(format!("{at}: variance from positions"), predicted, &noise),
        Check::band(format!("{at}: right, T {seq_len}"), published, right.mean(), band, n_draws),
    ]
}

/// `n_k` times the squared error of class means of counts, over `T^2`: the same for any `n`.
fn class_mean_check(law: Induction, n_examples: u64, n_draws: u64, stream: &Stream) -> Check {
    let (d_vocab, seq_len) = (law.d_vocab(), law.seq_len());
    let expected = count_mean(d_vocab, seq_len);
    let mut errors = Mean::default();
    for draw in 0..n_draws {
        let stream = stream.child(draw);
        let mut sums = Array2::<f64>::zeros((d_vocab, d_vocab));
        let mut n_of_class = vec![0.0; d_vocab];
        for index in 0..n_examples {
            let example = law.generate(&mut stream.at(index));
            let class = usize::from(example.output);
            n_of_class[class] += 1.0;
            for token in example.tokens {
                sums[[class, usize::from(token)]] += 1.0;
            }
        }
        let (mut sum, mut n) = (0.0, 0.0);
        for ((class, token), count) in sums.indexed_iter() {
            if class != token && n_of_class[class] > 0.0 {
                sum += n_of_class[class] * (count / n_of_class[class] - expected).powi(2);
                n += 1.0;
            }
        }
        errors.add(sum / n);
    }
    let what = format!(
        "class means, N {d_vocab}, T {seq_len}, {} examples a class: variance times n_k",
        n_examples / d_vocab as u64
    );
    Check::mean(what, count_variance(d_vocab, seq_len), &errors)
}

/// The checks of this module.
///
/// # Arguments
///
/// - `widths`: widths, with the published share of right answers in the illustrative example and
///   its band.
#[must_use]
pub fn checks(widths: &[(usize, f64, [f64; 2])], n_draws: u64, stream: &Stream) -> Vec<Check> {
    let mut checks = Vec::new();
    for (width, index) in widths.iter().zip(0..) {
        checks.extend(clean_checks(65, width.0, n_draws, &stream.derive("clean").child(index)));
    }
    for (width, index) in widths.iter().zip(0..) {
        let stream = stream.derive("positions").child(index);
        checks.extend(position_checks([65, 256], *width, n_draws, &stream));
    }
    let law = Induction::new(65, 64);
    for (n_examples, index) in [650, 6_500].into_iter().zip(0..) {
        let stream = stream.derive("class means").child(index);
        checks.push(class_mean_check(law, n_examples, n_draws.min(10), &stream));
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Six intervals of 99.99 % from ten draws: one seed in 1,600 would fail.
    #[test]
    fn noise_has_the_predicted_variance() {
        for check in checks(&[(48, 0.8, [0.5, 0.95])], 10, &Stream::root(0)) {
            // Recall in so few dimensions is not what is predicted here.
            assert!(check.holds() || check.what.contains("recall"), "{check:?}");
        }
    }

    #[test]
    fn a_count_has_a_smaller_variance_without_triggers_among_it() {
        // Binomial(61, 1/64) has variance 0.938; the trigger adds to that.
        let variance = count_variance(65, 64);
        assert!((0.938..1.0).contains(&variance), "{variance}");
        assert!((count_mean(65, 64) - 62.0 / 64.0).abs() < 0.02);
    }
}

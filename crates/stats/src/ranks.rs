//! Whether one group of runs does better than another, from few runs: an exact test by ranks, and the
//! price of asking several questions at once.
//!
//! Error rates of trained models spread over orders of magnitude, and some are 0, so a mean is the word of one
//! run. Ranks ask only which run errs more often than which. If the two groups are of one kind, every split of
//! the runs into groups of these sizes is as likely as any other, and the share of splits that look at least
//! as different as the one seen is an exact p-value, whatever the rates' distribution.
//!
//! Three runs against three can reach 1/20 at best, four against four 1/70, five against five 1/252: with fewer
//! runs than a question needs, the answer is "undecided" and not "no".

use crate::special::{real, standard_normal_cdf};

/// One-sided p-values of [`rank_sum`]: small where the first group is smaller, or larger, than chance
/// would make it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RankTest {
    /// Of a first group at least so small.
    pub less: f64,
    /// Of a first group at least so large.
    pub greater: f64,
}

/// The rank-sum test of two independent groups, with equal numbers sharing their ranks.
///
/// Exact, also with ties, which runs without an error are and which the test of `statrs` is not exact for: the sum
/// of the first group's ranks is held against that of every split. Only where both groups have about a hundred
/// runs or more, the normal approximation with its correction for ties stands in, whose error is then far below
/// what matters. Either p-value is 1 if a group is empty.
///
/// # Panics
///
/// If a number is not a number.
///
/// # Source
///
/// Wilcoxon, "Individual comparisons by ranking methods", Biometrics Bulletin 1 (1945); Mann and Whitney,
/// Annals of Mathematical Statistics 18 (1947).
///
/// # Example
///
/// ```
/// use mnemoscope_stats::ranks::rank_sum;
///
/// // Each of five runs is better than each of five others: one split of 252.
/// let (a, b) = ([0.0, 0.0, 1e-6, 2e-6, 1e-5], [1e-4, 2e-3, 0.01, 0.05, 0.3]);
/// assert!((rank_sum(&a, &b).less - 1.0 / 252.0).abs() < 1e-12);
/// // Two against two cannot tell.
/// assert!((rank_sum(&a[..2], &b[..2]).less - 1.0 / 6.0).abs() < 1e-12);
/// ```
#[must_use]
#[track_caller]
pub fn rank_sum(a: &[f64], b: &[f64]) -> RankTest {
    assert!(a.iter().chain(b).all(|x| !x.is_nan()), "a rate is not a number");
    if a.is_empty() || b.is_empty() {
        return RankTest { less: 1.0, greater: 1.0 };
    }
    let ranks = doubled_ranks(a, b);
    let sum: usize = ranks[..a.len()].iter().sum();
    let all: usize = ranks.iter().sum();
    // The splits of the smaller group are as many, and quicker to count.
    let [less, greater] = if a.len() <= b.len() {
        tails(&ranks, a.len(), sum)
    } else {
        let [less, greater] = tails(&ranks, b.len(), all - sum);
        [greater, less]
    };
    RankTest { less, greater }
}

/// Twice the rank of each number among all, the first group first: whole numbers, also of ties.
fn doubled_ranks(a: &[f64], b: &[f64]) -> Vec<usize> {
    let all: Vec<f64> = a.iter().chain(b).copied().collect();
    let mut sorted = all.clone();
    sorted.sort_by(f64::total_cmp);
    // 0 and -0 are equal.
    let n_below = |x: f64| sorted.partition_point(|&y| y < x);
    let n_up_to = |x: f64| sorted.partition_point(|&y| y <= x);
    all.iter().map(|&x| n_below(x) + n_up_to(x) + 1).collect()
}

/// Shares of the splits with `n` items whose sum is at most, and at least, `sum`.
fn tails(ranks: &[usize], n: usize, sum: usize) -> [f64; 2] {
    /// Additions that are made at most to count splits.
    const MOST: usize = 400_000_000;
    let largest = 2 * ranks.len() * n;
    if ranks.len().saturating_mul(n).saturating_mul(largest) > MOST {
        return normal_tails(ranks, n, sum);
    }
    // How many choices of `k` items have each sum.
    let mut counts = vec![vec![0.0_f64; largest + 1]; n + 1];
    counts[0][0] = 1.0;
    for &rank in ranks {
        for k in (1..=n).rev() {
            let (fewer, more) = counts.split_at_mut(k);
            for (to, from) in more[0][rank..].iter_mut().zip(&fewer[k - 1]) {
                *to += from;
            }
        }
    }
    let (below, above) = counts[n].split_at(sum);
    let (below, at, above): (f64, f64, f64) =
        (below.iter().sum(), above[0], above[1..].iter().sum());
    let all = below + at + above;
    [(below + at) / all, (at + above) / all]
}

fn normal_tails(ranks: &[usize], n: usize, sum: usize) -> [f64; 2] {
    let (n_all, n) = (real(ranks.len() as u64), real(n as u64));
    let mean = ranks.iter().map(|&rank| real(rank as u64)).sum::<f64>() / n_all;
    let squares = ranks.iter().map(|&rank| (real(rank as u64) - mean).powi(2)).sum::<f64>();
    // Drawn without replacement.
    let sd = (n * squares / n_all * (n_all - n) / (n_all - 1.0)).sqrt();
    let z = |shift: f64| (real(sum as u64) + shift - n * mean) / sd;
    [standard_normal_cdf(z(0.5)), standard_normal_cdf(-z(-0.5))]
}

/// P-values of several questions, corrected so that the chance of even one wrong "yes" stays below the level
/// that each is then held against.
///
/// # Source
///
/// Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6 (1979).
///
/// # Example
///
/// ```
/// use mnemoscope_stats::ranks::holm;
///
/// assert_eq!(holm(&[0.01, 0.5, 0.02]), [0.03, 0.5, 0.04]);
/// ```
#[must_use]
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&i, &j| p_values[i].total_cmp(&p_values[j]));
    let mut corrected = vec![0.0; p_values.len()];
    let mut so_far = 0.0_f64;
    for (rank, i) in order.into_iter().enumerate() {
        let n_left = real((p_values.len() - rank) as u64);
        so_far = so_far.max((p_values[i] * n_left).min(1.0));
        corrected[i] = so_far;
    }
    corrected
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Stream;

    /// Every split, one by one.
    fn by_enumeration(a: &[f64], b: &[f64]) -> RankTest {
        let ranks = doubled_ranks(a, b);
        let sum: usize = ranks[..a.len()].iter().sum();
        let (mut n, mut n_less, mut n_greater) = (0.0, 0.0, 0.0);
        for split in 0_u32..1 << ranks.len() {
            if split.count_ones() as usize != a.len() {
                continue;
            }
            let of_split: usize =
                (0..ranks.len()).filter(|i| split >> i & 1 == 1).map(|i| ranks[i]).sum();
            n += 1.0;
            n_less += f64::from(u8::from(of_split <= sum));
            n_greater += f64::from(u8::from(of_split >= sum));
        }
        RankTest { less: n_less / n, greater: n_greater / n }
    }

    #[test]
    fn counting_agrees_with_every_split() {
        let mut draws = Stream::root(1).derive("ranks").at(0);
        for (n_a, n_b) in [(1, 1), (1, 5), (3, 3), (5, 2), (4, 6), (7, 5)] {
            for n_values in [2, 4, 1000] {
                let mut numbers = |n: usize| -> Vec<f64> {
                    (0..n).map(|_| f64::from(draws.below(n_values))).collect()
                };
                let (a, b) = (numbers(n_a), numbers(n_b));
                let (found, expected) = (rank_sum(&a, &b), by_enumeration(&a, &b));
                assert!((found.less - expected.less).abs() < 1e-12, "{a:?} {b:?}");
                assert!((found.greater - expected.greater).abs() < 1e-12, "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn groups_of_equals_tell_nothing_and_their_order_does_not_matter() {
        assert_eq!(rank_sum(&[0.0; 5], &[0.0; 7]), RankTest { less: 1.0, greater: 1.0 });
        assert_eq!(rank_sum(&[], &[1.0]), RankTest { less: 1.0, greater: 1.0 });
        assert_eq!(rank_sum(&[0.0, -0.0], &[-0.0]), RankTest { less: 1.0, greater: 1.0 });
        let (a, b) = ([0.1, 0.2, 0.7], [0.3, 0.4, 0.5, 0.9]);
        let (there, back) = (rank_sum(&a, &b), rank_sum(&b, &a));
        assert!((there.less - back.greater).abs() < 1e-12);
        assert!((there.greater - back.less).abs() < 1e-12);
    }

    /// Under the null hypothesis a p-value falls below a level at most so often; of 2,000 draws the
    /// share is within four standard errors with a chance above 0.9999.
    #[test]
    fn two_groups_of_one_kind_are_told_apart_no_more_often_than_the_level_says() {
        let mut draws = Stream::root(2).derive("ranks").at(0);
        let n_below = (0..2_000)
            .filter(|_| {
                let mut numbers =
                    || -> Vec<f64> { (0..5).map(|_| f64::from(draws.below(1 << 20))).collect() };
                rank_sum(&numbers(), &numbers()).less <= 0.05
            })
            .count();
        // 12 of the 252 sums' splits are at most 0.05: exactly 0.0476.
        assert!((57..134).contains(&n_below), "{n_below}");
    }

    #[test]
    fn the_approximation_joins_the_exact_test() {
        let ranks = doubled_ranks(
            &(0..60).map(|i| f64::from(i * 2)).collect::<Vec<_>>(),
            &(0..60).map(|i| f64::from(i * 2 + 13)).collect::<Vec<_>>(),
        );
        let sum: usize = ranks[..60].iter().sum();
        let (exact, normal) = (tails(&ranks, 60, sum), normal_tails(&ranks, 60, sum));
        assert!((exact[0] - normal[0]).abs() < 2e-3, "{exact:?} {normal:?}");
        assert!((exact[1] - normal[1]).abs() < 2e-3, "{exact:?} {normal:?}");
    }

    #[test]
    fn corrected_values_keep_their_order_and_stay_below_one() {
        assert_eq!(holm(&[]), [0.0; 0]);
        assert_eq!(holm(&[0.6, 0.7]), [1.0, 1.0]);
        // The second is held to the first's: a larger p-value is never the smaller one afterwards.
        assert_eq!(holm(&[0.020, 0.021]), [0.040, 0.040]);
    }
}

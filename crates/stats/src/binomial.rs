//! Exact draws from a binomial distribution, with the same bits on every platform.
//!
//! Written here and not taken from a crate for two reasons: the draws are part of stored numbers,
//! so they must not change with a dependency's release; and the logarithms must come from `libm`,
//! so that acceptance does not depend on the platform.
//!
//! Sources: Kachitvichyanukul and Schmeiser, "Binomial random variate generation",
//! Communications of the ACM 31 (1988), for the inversion of small means; Hörmann, "The
//! generation of binomial random variates", Journal of Statistical Computation and Simulation 46
//! (1993), algorithm BTRS, for the rest.

use crate::special::real;
use crate::stream::Draws;

/// Below this mean, counting up from zero is quicker than rejection.
const INVERSION_MEAN_MAX: f64 = 10.0;

/// With a mean below 10, more successes than this have probability below 10^-80.
const INVERSION_COUNT_MAX: u64 = 110;

/// The number of successes in `n` trials of the given `probability`.
///
/// # Randomness
///
/// An unbounded number of words, six or fewer on average; none if the outcome is certain.
#[track_caller]
pub(crate) fn binomial(draws: &mut Draws, n: u64, probability: f64) -> u64 {
    assert!((0.0..=1.0).contains(&probability), "probability {probability} is not in [0, 1]");
    if probability > 0.5 {
        return n - rarer_side(draws, n, 1.0 - probability);
    }
    rarer_side(draws, n, probability)
}

/// The same for a probability of at most 1/2.
fn rarer_side(draws: &mut Draws, n: u64, probability: f64) -> u64 {
    if n == 0 || probability <= 0.0 {
        0
    } else if real(n) * probability < INVERSION_MEAN_MAX {
        by_inversion(draws, n, probability)
    } else {
        by_rejection(draws, n, probability)
    }
}

/// Walks up the distribution until the drawn share is used up.
fn by_inversion(draws: &mut Draws, n: u64, probability: f64) -> u64 {
    let odds = probability / (1.0 - probability);
    let nothing = libm::exp(real(n) * libm::log1p(-probability));
    loop {
        let mut share = draws.uniform();
        let mut mass = nothing;
        for count in 0..=n.min(INVERSION_COUNT_MAX) {
            if share < mass {
                return count;
            }
            share -= mass;
            mass *= odds * real(n - count) / real(count + 1);
        }
        // The masses add up to one but for rounding: once in 10^15 draws nothing is left to walk.
    }
}

/// Transformed rejection: a table mountain that the distribution fits under, with a squeeze that
/// accepts most points at once.
fn by_rejection(draws: &mut Draws, n: u64, probability: f64) -> u64 {
    let trials = real(n);
    let odds = probability / (1.0 - probability);
    let spread = (trials * probability * (1.0 - probability)).sqrt();
    let b = 1.15 + 2.53 * spread;
    let a = -0.0873 + 0.0248 * b + 0.01 * probability;
    let centre = trials * probability + 0.5;
    let v_squeeze = 0.92 - 4.2 / b;
    let alpha = (2.83 + 5.1 / b) * spread;
    let mode = ((trials + 1.0) * probability).floor();
    let mode_term = (mode + 0.5) * libm::log((mode + 1.0) / (odds * (trials - mode + 1.0)))
        + stirling_rest(mode)
        + stirling_rest(trials - mode);
    loop {
        let u = draws.uniform() - 0.5;
        let v = draws.uniform();
        let us = 0.5 - u.abs();
        let count = ((2.0 * a / us + b) * u + centre).floor();
        if !(0.0..=trials).contains(&count) {
            continue;
        }
        if us >= 0.07 && v <= v_squeeze {
            return whole(count);
        }
        let height = libm::log(v * alpha / (a / (us * us) + b));
        let misses = trials - count;
        let log_mass = mode_term
            + (trials + 1.0) * libm::log((trials - mode + 1.0) / (misses + 1.0))
            + (count + 0.5) * libm::log(odds * (misses + 1.0) / (count + 1.0))
            - stirling_rest(count)
            - stirling_rest(misses);
        if height <= log_mass {
            return whole(count);
        }
    }
}

/// `ln k! - ((k + 1/2) ln(k + 1) - (k + 1) + ln(2 pi) / 2)`: what Stirling's formula leaves.
fn stirling_rest(k: f64) -> f64 {
    if k < 10.0 {
        let main = (k + 0.5) * libm::log(k + 1.0) - (k + 1.0);
        return libm::lgamma(k + 1.0) - main - 0.5 * libm::log(std::f64::consts::TAU);
    }
    let square = (k + 1.0) * (k + 1.0);
    (1.0 / 12.0 - (1.0 / 360.0 - 1.0 / 1260.0 / square) / square) / (k + 1.0)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a whole number between 0 and n"
)]
fn whole(count: f64) -> u64 {
    count as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Stream;

    /// Pearson's statistic over the counts around the mean, outer counts pooled, and its number
    /// of degrees of freedom.
    fn pearson(n: u64, probability: f64, n_draws: u32, stream: &Stream) -> (f64, f64) {
        let mut draws = stream.at(0);
        let mut seen = vec![0_u32; usize::try_from(n).unwrap() + 1];
        for _ in 0..n_draws {
            let count = binomial(&mut draws, n, probability);
            seen[usize::try_from(count).unwrap()] += 1;
        }
        let log_mass = |k: u64| {
            let (n, k) = (real(n), real(k));
            libm::lgamma(n + 1.0) - libm::lgamma(k + 1.0) - libm::lgamma(n - k + 1.0)
                + k * libm::log(probability)
                + (n - k) * libm::log1p(-probability)
        };
        let (mut statistic, mut n_cells) = (0.0, 0.0);
        let (mut expected, mut got) = (0.0, 0.0);
        for k in 0..=n {
            expected += f64::from(n_draws) * libm::exp(log_mass(k));
            got += f64::from(seen[usize::try_from(k).unwrap()]);
            if expected >= 10.0 {
                statistic += (got - expected) * (got - expected) / expected;
                n_cells += 1.0;
                (expected, got) = (0.0, 0.0);
            }
        }
        // What is left beyond the last full cell counts as a cell of at least one expected draw.
        statistic += (got - expected) * (got - expected) / expected.max(1.0);
        (statistic, n_cells)
    }

    /// Each of the 9 cases fails by chance with probability below 10^-6 (Wilson and Hilferty's
    /// approximation to the chi-square distribution, 5 standard deviations); the streams are fixed.
    #[test]
    fn draws_follow_the_binomial_distribution() {
        let cases = [
            (1, 0.3),
            (5, 0.5),
            (40, 0.02),
            (1000, 0.0099),
            (20, 0.5),
            (40, 0.3),
            (1000, 0.011),
            (1000, 0.4),
            (300, 0.97),
        ];
        for (idx, (n, probability)) in (0..).zip(cases) {
            let stream = Stream::root(0).derive("binomial").child(idx);
            let (statistic, d_freedom) = pearson(n, probability, 40_000, &stream);
            let part = 2.0 / (9.0 * d_freedom);
            let z = (libm::cbrt(statistic / d_freedom) - (1.0 - part)) / part.sqrt();
            assert!(z < 5.0, "n {n}, probability {probability}: {statistic} on {d_freedom}, z {z}");
        }
    }

    #[test]
    fn certain_outcomes_need_no_draws() {
        let mut draws = Stream::root(0).at(0);
        assert_eq!(binomial(&mut draws, 0, 0.3), 0);
        assert_eq!(binomial(&mut draws, 7, 0.0), 0);
        assert_eq!(binomial(&mut draws, 7, 1.0), 7);
        assert_eq!(draws.next_u32(), Stream::root(0).at(0).next_u32());
    }

    /// Stored intervals depend on these draws: a change here is a change of format.
    #[test]
    fn draws_are_pinned() {
        let stream = Stream::root(0).derive("pinned binomial");
        let got: Vec<u64> = (0..)
            .zip([(10, 0.3), (100_000, 1e-5), (100_000, 0.3), (1 << 40, 0.5)])
            .map(|(idx, (n, probability))| binomial(&mut stream.at(idx), n, probability))
            .collect();
        assert_eq!(got, [2, 0, 29_993, 549_755_740_631]);
    }

    #[test]
    fn the_series_beyond_ten_continues_the_exact_values() {
        for k in [10.0, 11.0, 20.0, 50.0] {
            let main =
                (k + 0.5) * libm::log(k + 1.0) - (k + 1.0) + 0.5 * libm::log(std::f64::consts::TAU);
            let expected = libm::lgamma(k + 1.0) - main;
            assert!((stirling_rest(k) - expected).abs() < 1e-10, "{k}");
        }
    }
}

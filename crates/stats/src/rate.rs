//! Intervals for error rates, exact down to zero observed errors.
//!
//! A rate without an interval is half a number: no error in a thousand reads and no error in a
//! million reads are both "0". All functions here take the count of errors and the count of trials
//! and assume that the trials are independent with one common rate. Reads of one sequence are not
//! quite that; [`crate::resample`] has the interval which allows for it.
//!
//! ```text
//! interval          errors 0, trials 3,000      when to use it
//! clopper_pearson   [0, 0.00123]                always: covers at least as often as it says
//! wilson            [0, 0.00128]                to compare with others; covers about as often
//! zero_error_upper      0.000998                one-sided, the answer to "zero, so how rare?"
//! ```

use serde::{Deserialize, Serialize};

use crate::special::{beta_quantile, normal_quantile, real};

/// The rates that the data leave plausible, from `low` to `high`, both included.
///
/// Serde writes it as the pair `[low, high]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "[f64; 2]", into = "[f64; 2]")]
pub struct Interval {
    /// The lower end, in errors per trial.
    pub low: f64,
    /// The upper end, in errors per trial.
    pub high: f64,
}

impl Interval {
    /// The interval that excludes nothing: what no trials tell.
    pub const EVERYTHING: Self = Self { low: 0.0, high: 1.0 };

    /// Whether `rate` is plausible.
    #[must_use]
    pub fn contains(&self, rate: f64) -> bool {
        self.low <= rate && rate <= self.high
    }

    /// The smallest interval that contains both.
    #[must_use]
    pub fn hull(&self, other: &Self) -> Self {
        Self { low: self.low.min(other.low), high: self.high.max(other.high) }
    }
}

impl From<[f64; 2]> for Interval {
    fn from([low, high]: [f64; 2]) -> Self {
        Self { low, high }
    }
}

impl From<Interval> for [f64; 2] {
    fn from(interval: Interval) -> Self {
        [interval.low, interval.high]
    }
}

/// The exact two-sided interval for an error rate.
///
/// Each end is the rate at which the observed count, or one further out, would have probability
/// `(1 - confidence) / 2`. The interval contains the true rate with at least the stated
/// probability for every rate and every number of trials; for rare errors it does so more often
/// (97 to 100 % where 95 % is asked), which is the price of never doing it less often.
///
/// # Arguments
///
/// - `n_errors`: scored positions answered wrong.
/// - `n_trials`: scored positions, drawn independently.
/// - `confidence`: the coverage wanted, in `(0, 1)`; `0.95` is customary. The ends are right to
///   seven digits for a confidence of at least 0.5 and up to 10^7 trials.
///
/// # Returns
///
/// Rates in errors per trial. With no errors the lower end is exactly 0, and the upper end is that
/// of the two-sided interval, higher than [`zero_error_upper`]. With errors only, the upper end is
/// exactly 1. No trials exclude nothing.
///
/// # Panics
///
/// If there are more errors than trials, or `confidence` is not strictly between 0 and 1.
///
/// # Source
///
/// Clopper and Pearson, "The use of confidence or fiducial limits", Biometrika 26 (1934).
///
/// # Example
///
/// ```
/// use mnemoscope_stats::rate::clopper_pearson;
///
/// // No error in the 26,508 reads of `val` still allows 1.4 errors per ten thousand reads.
/// let interval = clopper_pearson(0, 26_508, 0.95);
/// assert_eq!(interval.low, 0.0);
/// assert!((interval.high - 1.39e-4).abs() < 1e-6);
/// ```
#[must_use]
#[track_caller]
pub fn clopper_pearson(n_errors: u64, n_trials: u64, confidence: f64) -> Interval {
    check(n_errors, n_trials, confidence);
    clopper_pearson_real(real(n_errors), real(n_trials), confidence)
}

/// The same for counts that need not be whole, such as effective ones.
pub(crate) fn clopper_pearson_real(n_errors: f64, n_trials: f64, confidence: f64) -> Interval {
    if n_trials <= 0.0 {
        return Interval::EVERYTHING;
    }
    let tail = 0.5 * (1.0 - confidence);
    let n_right = n_trials - n_errors;
    // Beyond the outermost counts the beta distribution has no room; the ends are known.
    let low = if n_errors > 0.0 { beta_quantile(n_errors, n_right + 1.0, tail) } else { 0.0 };
    let high = if n_right <= 0.0 {
        1.0
    } else if n_errors > 0.0 {
        beta_quantile(n_errors + 1.0, n_right, 1.0 - tail)
    } else {
        -libm::expm1(libm::log(tail) / n_trials)
    };
    Interval { low, high }
}

/// Wilson's approximate two-sided interval for an error rate.
///
/// The rates from which the observed one is less than so many standard deviations away, with the
/// standard deviation taken at the candidate rate and not at the observed one. Its coverage
/// scatters around the stated one: near it on average over rates, but for errors so rare that one
/// is expected in six or so runs it drops to 84 % where 95 % is stated. So it is here to compare
/// with others; to judge rare errors take [`clopper_pearson`].
///
/// # Arguments
///
/// As for [`clopper_pearson`].
///
/// # Returns
///
/// Rates in errors per trial, within `[0, 1]`. No trials exclude nothing.
///
/// # Panics
///
/// If there are more errors than trials, or `confidence` is not strictly between 0 and 1.
///
/// # Source
///
/// Wilson, "Probable inference, the law of succession, and statistical inference", Journal of the
/// American Statistical Association 22 (1927). Brown, Cai and DasGupta, "Interval estimation for a
/// binomial proportion", Statistical Science 16 (2001), compare its coverage with others'.
///
/// # Example
///
/// ```
/// use mnemoscope_stats::rate::wilson;
///
/// let interval = wilson(10, 100, 0.95);
/// assert!((interval.low - 0.0552).abs() < 1e-4);
/// assert!((interval.high - 0.1744).abs() < 1e-4);
/// ```
#[must_use]
#[track_caller]
pub fn wilson(n_errors: u64, n_trials: u64, confidence: f64) -> Interval {
    check(n_errors, n_trials, confidence);
    if n_trials == 0 {
        return Interval::EVERYTHING;
    }
    let (errors, trials) = (real(n_errors), real(n_trials));
    let z = normal_quantile(0.5 * (1.0 + confidence));
    let rate = errors / trials;
    let pull = z * z / trials;
    let centre = (rate + 0.5 * pull) / (1.0 + pull);
    let reach = z * (rate * (1.0 - rate) / trials + 0.25 * pull / trials).sqrt() / (1.0 + pull);
    Interval {
        // Both ends meet the bounds exactly in theory and miss them by rounding.
        low: if n_errors == 0 { 0.0 } else { centre - reach },
        high: if n_errors == n_trials { 1.0 } else { centre + reach },
    }
}

/// The largest error rate that `n_trials` flawless trials leave plausible.
///
/// Zero errors do not mean a zero error rate. This is the upper end of the exact one-sided
/// interval for a binomial proportion with no observed event:
/// `1 - (1 - confidence)^(1 / n_trials)`. At this rate the flawless outcome had probability
/// `1 - confidence`.
///
/// # Arguments
///
/// - `n_trials`: scored positions, all answered right, drawn independently.
/// - `confidence`: the coverage wanted, in `(0, 1)`; `0.95` is customary.
///
/// # Returns
///
/// A rate in errors per trial, in `(0, 1]`. With no trials nothing is excluded: `1.0`.
///
/// # Panics
///
/// If `confidence` is not strictly between 0 and 1. That is a bug in the caller: a confidence
/// read from a spec is checked when the spec is resolved.
///
/// # Source
///
/// Clopper and Pearson, "The use of confidence or fiducial limits", Biometrika 26 (1934).
/// For 95 % it is close to the "rule of three", `3 / n_trials`.
///
/// # Example
///
/// ```
/// use mnemoscope_stats::rate::zero_error_upper;
///
/// // Three thousand reads without an error still allow almost one error per thousand.
/// let upper = zero_error_upper(3_000, 0.95);
/// assert!((upper - 9.98e-4).abs() < 1e-6);
/// ```
#[must_use]
#[track_caller]
pub fn zero_error_upper(n_trials: u64, confidence: f64) -> f64 {
    check(0, n_trials, confidence);
    if n_trials == 0 {
        return 1.0;
    }
    // `-expm1(ln(1 - c) / n)` keeps its digits where `1 - (1 - c).powf(1 / n)` cancels.
    -libm::expm1(libm::log1p(-confidence) / real(n_trials))
}

/// Stops the program on counts and confidences that no caller can mean.
#[track_caller]
pub(crate) fn check(n_errors: u64, n_trials: u64, confidence: f64) {
    assert!(n_errors <= n_trials, "{n_errors} errors in {n_trials} trials");
    assert!(0.0 < confidence && confidence < 1.0, "confidence {confidence} is not in (0, 1)");
}

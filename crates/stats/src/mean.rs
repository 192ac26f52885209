//! The mean of numbers, with its interval: for what is measured and not counted.
//!
//! An error rate is a count and has exact intervals in [`crate::rate`]. A coefficient, a norm or a
//! variance is a number for each trial, and all that is known is that the mean of many independent
//! ones is nearly normal. [`Mean::interval`] is Student's, and true to that extent.

use crate::rate::Interval;
use crate::special::{real, student_two_sided};

/// Numbers that were added one by one: how many, their mean, and how far they scatter.
///
/// Sums of squared deviations are updated with each number, so nothing cancels where the mean is
/// large beside the scatter.
///
/// # Source
///
/// Welford, "Note on a method for calculating corrected sums of squares and products",
/// Technometrics 4 (1962).
///
/// # Example
///
/// ```
/// use mnemoscope_stats::mean::Mean;
///
/// let heights: Mean = [1.0, 2.0, 3.0, 4.0].into_iter().collect();
/// assert_eq!((heights.n_trials(), heights.mean()), (4, 2.5));
/// assert!((heights.variance() - 5.0 / 3.0).abs() < 1e-15);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mean {
    n_trials: u64,
    mean: f64,
    squares: f64,
}

impl Mean {
    /// Takes one more number in.
    pub fn add(&mut self, value: f64) {
        self.n_trials += 1;
        let before = value - self.mean;
        self.mean += before / real(self.n_trials);
        self.squares += before * (value - self.mean);
    }

    /// How many numbers there were.
    #[must_use]
    pub fn n_trials(&self) -> u64 {
        self.n_trials
    }

    /// Their mean; 0 before there is one.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.mean
    }

    /// The variance of one number, estimated without bias; not a number below two of them.
    #[must_use]
    pub fn variance(&self) -> f64 {
        if self.n_trials < 2 { f64::NAN } else { self.squares / real(self.n_trials - 1) }
    }

    /// Student's two-sided interval for the mean.
    ///
    /// Exact for independent normal numbers; for others as good as the mean of so many of them is
    /// normal. Below two numbers nothing is excluded.
    ///
    /// # Arguments
    ///
    /// - `confidence`: the coverage wanted, in `(0, 1)`; `0.95` is customary.
    ///
    /// # Panics
    ///
    /// If `confidence` is not strictly between 0 and 1.
    ///
    /// # Source
    ///
    /// Student, "The probable error of a mean", Biometrika 6 (1908).
    ///
    /// # Example
    ///
    /// ```
    /// use mnemoscope_stats::mean::Mean;
    ///
    /// let trials: Mean = (0..10).map(f64::from).collect();
    /// let interval = trials.interval(0.95);
    /// // 4.5 and 2.262 standard errors of 0.957 to both sides.
    /// assert!((interval.low - 2.334).abs() < 1e-3 && (interval.high - 6.666).abs() < 1e-3);
    /// ```
    #[must_use]
    #[track_caller]
    pub fn interval(&self, confidence: f64) -> Interval {
        assert!(0.0 < confidence && confidence < 1.0, "confidence {confidence} is not in (0, 1)");
        if self.n_trials < 2 {
            return Interval { low: f64::NEG_INFINITY, high: f64::INFINITY };
        }
        let t = student_two_sided(real(self.n_trials - 1), confidence);
        let reach = t * (self.variance() / real(self.n_trials)).sqrt();
        Interval { low: self.mean - reach, high: self.mean + reach }
    }
}

impl FromIterator<f64> for Mean {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        let mut mean = Self::default();
        values.into_iter().for_each(|value| mean.add(value));
        mean
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Stream;

    #[test]
    fn a_large_mean_leaves_the_scatter_its_digits() {
        let mean: Mean = [1e9 + 1.0, 1e9 + 2.0, 1e9 + 3.0].into_iter().collect();
        assert!((mean.variance() - 1.0).abs() < 1e-9, "{}", mean.variance());
    }

    /// 2,000 intervals of 95 % from 8 normal numbers: 1,900 are expected to contain the mean, with
    /// a standard deviation of 9.7. Below 1,842 or above 1,958 once in 10^8 streams.
    #[test]
    fn the_interval_of_normal_numbers_covers_as_often_as_it_says() {
        let stream = Stream::root(0).derive("coverage of a mean");
        let covers = |index: &u64| {
            let mut draws = stream.at(*index);
            let mean: Mean = (0..8).map(|_| 3.0 + draws.normal()).collect();
            mean.interval(0.95).contains(3.0)
        };
        let n_covered = (0..2_000).filter(covers).count();
        assert!((1_842..=1_958).contains(&n_covered), "{n_covered}");
    }

    #[test]
    fn one_number_excludes_nothing() {
        let mean: Mean = [2.0].into_iter().collect();
        assert!(mean.interval(0.95).contains(-1e300) && mean.variance().is_nan());
    }
}

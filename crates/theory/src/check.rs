//! A check: what a formula predicts, what was measured, and how far the two may be apart.

use mnemoscope_stats::mean::Mean;
use mnemoscope_stats::rate::clopper_pearson;
use serde::Serialize;

/// The coverage of every interval of a check. With some fifty of them, one run in two hundred has
/// a prediction that is right and outside; a run repeats exactly, so it is one of the seeds.
pub const CONFIDENCE: f64 = 0.9999;

/// How far a measurement may be from what was predicted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Allowed {
    /// The measurement is one of chance; its interval must contain the prediction.
    Interval([f64; 2]),
    /// The two must agree to this absolute difference.
    Within(f64),
    /// The measurement must lie between these two, both included.
    Band([f64; 2]),
}

/// One line of the bench: a prediction beside its measurement.
///
/// # Example
///
/// ```
/// use mnemoscope_theory::{Allowed, Check};
///
/// let check = Check::within("one third in three digits", 1.0 / 3.0, 0.333, 1e-3, 1);
/// assert!(check.holds());
/// assert_eq!(check.allowed, Allowed::Within(1e-3));
/// // What is not a number holds nothing.
/// assert!(!Check { measured: f64::NAN, ..check }.holds());
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub what: String,
    /// What the formula says, or the value that was published.
    pub predicted: f64,
    /// What came out.
    pub measured: f64,
    /// How far the two may be apart.
    pub allowed: Allowed,
    /// Examples, draws or entries behind the measurement.
    pub n_trials: u64,
}

impl Check {
    /// A measurement that must agree to an absolute difference.
    #[must_use]
    pub fn within(
        what: impl Into<String>,
        predicted: f64,
        measured: f64,
        difference: f64,
        n_trials: u64,
    ) -> Self {
        let allowed = Allowed::Within(difference);
        Self { what: what.into(), predicted, measured, allowed, n_trials }
    }

    /// A measurement that must lie in a band around a published value.
    #[must_use]
    pub fn band(
        what: impl Into<String>,
        predicted: f64,
        measured: f64,
        band: [f64; 2],
        n_trials: u64,
    ) -> Self {
        Self { what: what.into(), predicted, measured, allowed: Allowed::Band(band), n_trials }
    }

    /// The mean of independent numbers, whose interval must contain the prediction.
    #[must_use]
    pub fn mean(what: impl Into<String>, predicted: f64, trials: &Mean) -> Self {
        let allowed = Allowed::Interval(trials.interval(CONFIDENCE).into());
        let n_trials = trials.n_trials();
        Self { what: what.into(), predicted, measured: trials.mean(), allowed, n_trials }
    }

    /// The share of independent trials answered right, whose exact interval must contain the
    /// prediction.
    #[must_use]
    pub fn share(what: impl Into<String>, predicted: f64, n_right: u64, n_trials: u64) -> Self {
        let allowed = Allowed::Interval(clopper_pearson(n_right, n_trials, CONFIDENCE).into());
        let measured = n_right as f64 / n_trials as f64;
        Self { what: what.into(), predicted, measured, allowed, n_trials }
    }

    /// Whether the measurement bears the prediction out.
    #[must_use]
    pub fn holds(&self) -> bool {
        match self.allowed {
            Allowed::Interval([low, high]) => low <= self.predicted && self.predicted <= high,
            Allowed::Within(difference) => (self.measured - self.predicted).abs() <= difference,
            Allowed::Band([low, high]) => low <= self.measured && self.measured <= high,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_fails_outside_of_what_is_allowed() {
        assert!(Check::band("", 0.5, 0.6, [0.4, 0.6], 1).holds());
        assert!(!Check::band("", 0.5, 0.61, [0.4, 0.6], 1).holds());
        assert!(!Check::within("", 1.0, 1.1, 0.05, 1).holds());
        assert!(!Check::within("", f64::NAN, 1.0, 0.05, 1).holds());
        let trials: Mean = [0.9, 1.0, 1.1, 1.0].into_iter().collect();
        assert!(Check::mean("", 1.0, &trials).holds());
        assert!(!Check::mean("", 9.0, &trials).holds());
        assert!(Check::share("", 0.5, 52, 100).holds());
        assert!(!Check::share("", 0.5, 90, 100).holds());
    }
}

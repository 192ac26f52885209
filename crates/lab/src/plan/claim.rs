//! What a study claims, in a form that a program can hold against a measurement.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A published sentence and the measurement that would bear it out.
///
/// # Example
///
/// ```
/// use mnemoscope_lab::plan::{About, Claim, Comparison, Expected, Measure, Runs, Verdict};
///
/// let claim = Claim {
///     text: "an LSTM makes no error on sparse strings".to_owned(),
///     source: "Liu et al. 2023, R2".to_owned(),
///     arm: "lstm".to_owned(),
///     about: About::Set { set: "val_sparse".to_owned(), measure: Measure::NErrors },
///     expected: Expected::Compared { op: Comparison::Equal, bound: 0.0 },
///     runs: Runs::Each,
/// };
/// assert_eq!(claim.expectation(), "n_errors == 0 in each run of lstm on val_sparse");
/// // One number for each run of the arm; a single failing seed is enough.
/// assert_eq!(claim.judge_alone(&[0.0, 0.0]), Some(Verdict::Held));
/// assert_eq!(claim.judge_alone(&[0.0, 3.0]), Some(Verdict::Failed));
/// assert_eq!(claim.judge_alone(&[]), Some(Verdict::Unmeasured));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// The claim in words.
    pub text: String,
    /// Who makes it, and where.
    pub source: String,
    /// The arm it is about.
    pub arm: String,
    /// What is measured.
    #[serde(flatten)]
    pub about: About,
    /// What is expected of it.
    #[serde(flatten)]
    pub expected: Expected,
    /// Of how many of the arm's runs it is claimed.
    pub runs: Runs,
}

/// What a claim is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum About {
    /// A number of the final evaluation.
    Set {
        /// The evaluation set.
        set: String,
        /// Which of its numbers.
        measure: Measure,
    },
    /// A number that was probed during training.
    Probe {
        /// Its path, such as `memory.w_o2`: see [`Probed::number`](crate::probe::Probed::number).
        probe: String,
        /// The published iteration, from 0: what is probed of step `iteration + 1`.
        iteration: u64,
    },
}

/// What a claim expects of a number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Expected {
    /// To stand so to a bound.
    Compared {
        /// How.
        op: Comparison,
        /// The bound.
        bound: f64,
    },
    /// To lie between two numbers, or to be one of them.
    Within {
        /// The lowest and the highest.
        within: [f64; 2],
    },
    /// To stand so, run by run, to what another arm measures. Judged by [`judge`](super::judge()), from the
    /// ranks of the runs.
    Beside {
        /// Which side: [`Comparison::Less`] or [`Comparison::More`].
        op: Comparison,
        /// The other arm.
        than: String,
        /// What the other arm's numbers are multiplied by: 0.1 for "a tenth of".
        factor: f64,
    },
}

/// Numbers that were published of a run, to be shown beside what is measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// The arm that repeats the run.
    pub arm: String,
    /// Where they were published, and how they were read off.
    pub source: String,
    /// The published iterations, from 0.
    pub iterations: Vec<u64>,
    /// By the path of the probe, one number an iteration; none at all of a curve that is published and
    /// could not be read off.
    pub values: BTreeMap<String, Vec<f64>>,
}

/// A number of an evaluation, by its name in the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Errors: a count.
    NErrors,
    /// Errors per trial.
    ErrorRate,
    /// The lower end of the error rate's interval.
    IntervalLow,
    /// The upper end of the error rate's interval.
    IntervalHigh,
}

/// How a measured number stands to a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Comparison {
    /// Equal.
    #[serde(rename = "==")]
    Equal,
    /// Smaller.
    #[serde(rename = "<")]
    Less,
    /// Smaller or equal.
    #[serde(rename = "<=")]
    AtMost,
    /// Larger.
    #[serde(rename = ">")]
    More,
    /// Larger or equal.
    #[serde(rename = ">=")]
    AtLeast,
}

/// Of how many runs of an arm something is claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Runs {
    /// Of every run.
    Each,
    /// Of at least one.
    Any,
}

/// What the measurement says about a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As claimed.
    Held,
    /// Not as claimed; of two arms, that the opposite is so.
    Failed,
    /// The runs of two arms are too few, or too much alike, to tell.
    Undecided,
    /// No run of the arm was measured on the set.
    Unmeasured,
}

impl Claim {
    /// Whether the numbers, one for each run of the arm, are as claimed; `None` of a claim about two arms.
    #[must_use]
    pub fn judge_alone(&self, measured: &[f64]) -> Option<Verdict> {
        let as_claimed = |&number: &f64| self.expected.holds(number);
        let held = match self.runs {
            _ if matches!(self.expected, Expected::Beside { .. }) => return None,
            _ if measured.is_empty() => return Some(Verdict::Unmeasured),
            Runs::Each => measured.iter().all(as_claimed),
            Runs::Any => measured.iter().any(as_claimed),
        };
        Some(if held { Verdict::Held } else { Verdict::Failed })
    }

    /// The arm it is compared with, if there is one.
    #[must_use]
    pub fn than(&self) -> Option<&str> {
        match &self.expected {
            Expected::Beside { than, .. } => Some(than),
            Expected::Compared { .. } | Expected::Within { .. } => None,
        }
    }

    /// What the claim expects, in one short line.
    #[must_use]
    pub fn expectation(&self) -> String {
        let Self { arm, about, expected, runs, .. } = self;
        let runs = match (expected, runs) {
            (Expected::Beside { .. }, _) => "the runs",
            (_, Runs::Each) => "each run",
            (_, Runs::Any) => "at least one run",
        };
        match about {
            About::Set { set, measure } => {
                format!("{measure} {expected} in {runs} of {arm} on {set}")
            }
            About::Probe { probe, iteration } => {
                format!("{probe} {expected} at iteration {iteration} in {runs} of {arm}")
            }
        }
    }
}

impl Expected {
    /// Whether a number is as expected; one that is not finite never is. No number by itself is more or
    /// less than another arm's.
    #[must_use]
    pub fn holds(&self, number: f64) -> bool {
        match *self {
            Self::Compared { op, bound } => op.holds(number, bound),
            Self::Within { within: [low, high] } => (low..=high).contains(&number),
            Self::Beside { .. } => false,
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compared { op, bound } => write!(f, "{op} {bound}"),
            Self::Within { within: [low, high] } => write!(f, "in [{low}, {high}]"),
            Self::Beside { op, than, factor } if (factor - 1.0).abs() > 0.0 => {
                write!(f, "{op} {factor} times that of {than}")
            }
            Self::Beside { op, than, .. } => write!(f, "{op} that of {than}"),
        }
    }
}

impl Comparison {
    /// All of them, by the sign a spec writes.
    pub(crate) const ALL: &[(&str, Self)] = &[
        ("==", Self::Equal),
        ("<", Self::Less),
        ("<=", Self::AtMost),
        (">", Self::More),
        (">=", Self::AtLeast),
    ];

    /// Those that one arm can be to another.
    pub(crate) const SIDES: &[(&str, Self)] = &[("<", Self::Less), (">", Self::More)];

    /// Whether `number` stands to `bound` in this way; a number that is not finite never does.
    #[must_use]
    #[expect(clippy::float_cmp, reason = "a count is claimed to be exactly equal to its bound")]
    pub fn holds(self, number: f64, bound: f64) -> bool {
        number.is_finite()
            && match self {
                Self::Equal => number == bound,
                Self::Less => number < bound,
                Self::AtMost => number <= bound,
                Self::More => number > bound,
                Self::AtLeast => number >= bound,
            }
    }
}

impl Measure {
    /// All of them, by their names in a spec and in a result.
    pub(crate) const ALL: &[(&str, Self)] = &[
        ("n_errors", Self::NErrors),
        ("error_rate", Self::ErrorRate),
        ("interval_low", Self::IntervalLow),
        ("interval_high", Self::IntervalHigh),
    ];
}

impl Runs {
    /// All of them, by their names in a spec.
    pub(crate) const ALL: &[(&str, Self)] = &[("each", Self::Each), ("any", Self::Any)];
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_name(f, self, Self::ALL)
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_name(f, self, Self::ALL)
    }
}

fn write_name<T: PartialEq>(f: &mut fmt::Formatter<'_>, of: &T, all: &[(&str, T)]) -> fmt::Result {
    let name = all.iter().find(|(_, one)| one == of).map_or("?", |(name, _)| name);
    f.write_str(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_a_spec_are_the_names_of_the_record() {
        for (name, measure) in Measure::ALL {
            assert_eq!(serde_json::to_value(measure).unwrap(), *name);
        }
        for (name, comparison) in Comparison::ALL {
            assert_eq!(serde_json::to_value(comparison).unwrap(), *name);
        }
        for (name, runs) in Runs::ALL {
            assert_eq!(serde_json::to_value(runs).unwrap(), *name);
        }
    }

    #[test]
    fn each_comparison_tells_its_three_sides_apart() {
        let sides = |comparison: Comparison| [1.0, 2.0, 3.0].map(|n| comparison.holds(n, 2.0));
        assert_eq!(sides(Comparison::Equal), [false, true, false]);
        assert_eq!(sides(Comparison::Less), [true, false, false]);
        assert_eq!(sides(Comparison::AtMost), [true, true, false]);
        assert_eq!(sides(Comparison::More), [false, false, true]);
        assert_eq!(sides(Comparison::AtLeast), [false, true, true]);
        assert!(!Comparison::AtLeast.holds(f64::INFINITY, 0.0));
    }

    #[test]
    fn any_needs_one_run_and_each_needs_all() {
        let claim = |runs| Claim {
            text: "errors occur".to_owned(),
            source: "a test".to_owned(),
            arm: "transformer".to_owned(),
            about: About::Set { set: "val".to_owned(), measure: Measure::NErrors },
            expected: Expected::Compared { op: Comparison::More, bound: 0.0 },
            runs,
        };
        assert_eq!(claim(Runs::Any).judge_alone(&[0.0, 7.0]), Some(Verdict::Held));
        assert_eq!(claim(Runs::Each).judge_alone(&[0.0, 7.0]), Some(Verdict::Failed));
        assert_eq!(claim(Runs::Any).judge_alone(&[0.0]), Some(Verdict::Failed));
        assert_eq!(claim(Runs::Any).judge_alone(&[f64::NAN]), Some(Verdict::Failed));
    }
}

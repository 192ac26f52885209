//! Verdicts on all claims of a study at once: a claim about two arms is a test, and each test more makes a
//! chance finding more likely.

use mnemoscope_stats::ranks::{RankTest, holm, rank_sum};
use serde::Serialize;

use super::claim::{Claim, Comparison, Expected, Verdict};

/// How unlikely chance must be for a claim about two arms to be decided, after correction.
pub const LEVEL: f64 = 0.05;

/// What was measured for a claim.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Numbers {
    /// One number for each run of its arm.
    pub measured: Vec<f64>,
    /// One for each run of the arm it is compared with.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub beside: Vec<f64>,
}

/// A verdict, and how it came about.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judgement {
    /// What the measurement says.
    pub verdict: Verdict,
    /// The test behind it, of a claim about two arms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<Test>,
}

/// A rank-sum test of the runs of two arms.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Test {
    /// How often chance alone looks at least so much like the claim, in `[0, 1]`.
    pub p: f64,
    /// The same after Holm's correction for all claims of the study that are about two arms.
    pub p_corrected: f64,
    /// How often chance alone looks at least so much like the opposite, corrected likewise.
    pub p_opposite_corrected: f64,
    /// Claims of the study that are about two arms and could be tested.
    pub n_tests: usize,
}

/// Judges all claims of a study.
///
/// A claim about one arm is judged by its numbers alone. One about two arms holds if the rank-sum test of
/// their runs, corrected for all such claims of the study, leaves chance less than [`LEVEL`]; it fails if the
/// test says so of the opposite; otherwise it is undecided.
///
/// # Example
///
/// ```
/// use mnemoscope_lab::plan::{
///     About, Claim, Comparison, Expected, Measure, Numbers, Runs, Verdict, judge,
/// };
///
/// let claim = Claim {
///     text: "long-tailed data helps".to_owned(),
///     source: "Liu et al. 2023, R4".to_owned(),
///     arm: "mixture".to_owned(),
///     about: About::Set { set: "val_sparse".to_owned(), measure: Measure::ErrorRate },
///     expected: Expected::Beside { op: Comparison::Less, than: "baseline".to_owned(), factor: 1.0 },
///     runs: Runs::Each,
/// };
/// let verdict = |measured: &[f64], beside: &[f64]| {
///     let numbers = Numbers { measured: measured.to_vec(), beside: beside.to_vec() };
///     judge(&[claim.clone()], &[numbers])[0].verdict
/// };
/// assert_eq!(verdict(&[0.0, 0.0, 1e-5, 0.0], &[0.1, 0.02, 0.3, 4e-3]), Verdict::Held);
/// // Two runs of each arm cannot tell, however far apart they are.
/// assert_eq!(verdict(&[0.0, 0.0], &[0.1, 0.3]), Verdict::Undecided);
/// ```
#[must_use]
pub fn judge(claims: &[Claim], numbers: &[Numbers]) -> Vec<Judgement> {
    let tested: Vec<Option<[f64; 2]>> = claims.iter().zip(numbers).map(as_claimed).collect();
    let family = |side: usize| {
        let p_values: Vec<f64> = tested.iter().flatten().map(|p| p[side]).collect();
        holm(&p_values).into_iter()
    };
    let (mut corrected, mut opposite) = (family(0), family(1));
    let n_tests = tested.iter().flatten().count();
    let judged = claims.iter().zip(numbers).zip(&tested).map(|((claim, numbers), tested)| {
        if let Some(verdict) = claim.judge_alone(&numbers.measured) {
            return Judgement { verdict, test: None };
        }
        let Some([p, _]) = *tested else {
            return Judgement { verdict: Verdict::Unmeasured, test: None };
        };
        let test = Test {
            p,
            p_corrected: corrected.next().unwrap_or(1.0),
            p_opposite_corrected: opposite.next().unwrap_or(1.0),
            n_tests,
        };
        let verdict = if test.p_corrected <= LEVEL {
            Verdict::Held
        } else if test.p_opposite_corrected <= LEVEL {
            Verdict::Failed
        } else {
            Verdict::Undecided
        };
        Judgement { verdict, test: Some(test) }
    });
    judged.collect()
}

/// P-values for the claim and for its opposite, if it is about two arms that were both measured.
fn as_claimed((claim, numbers): (&Claim, &Numbers)) -> Option<[f64; 2]> {
    let Expected::Beside { op, factor, .. } = &claim.expected else { return None };
    let finite = |numbers: &[f64]| !numbers.is_empty() && numbers.iter().all(|x| x.is_finite());
    if !finite(&numbers.measured) || !finite(&numbers.beside) {
        return None;
    }
    let beside: Vec<f64> = numbers.beside.iter().map(|x| x * factor).collect();
    let RankTest { less, greater } = rank_sum(&numbers.measured, &beside);
    Some(if *op == Comparison::Less { [less, greater] } else { [greater, less] })
}

#[cfg(test)]
mod tests {
    use super::super::claim::{About, Measure, Runs};
    use super::*;

    fn claim(op: Comparison, factor: f64) -> Claim {
        Claim {
            text: String::new(),
            source: String::new(),
            arm: "a".to_owned(),
            about: About::Set { set: "val".to_owned(), measure: Measure::ErrorRate },
            expected: Expected::Beside { op, than: "b".to_owned(), factor },
            runs: Runs::Each,
        }
    }

    fn numbers(measured: &[f64], beside: &[f64]) -> Numbers {
        Numbers { measured: measured.to_vec(), beside: beside.to_vec() }
    }

    const LOW: [f64; 5] = [0.01, 0.02, 0.03, 0.04, 0.05];
    const HIGH: [f64; 5] = [0.1, 0.2, 0.3, 0.4, 0.5];

    #[test]
    fn the_side_and_the_factor_decide() {
        let verdict = |op, factor| judge(&[claim(op, factor)], &[numbers(&LOW, &HIGH)])[0].verdict;
        assert_eq!(verdict(Comparison::Less, 1.0), Verdict::Held);
        assert_eq!(verdict(Comparison::More, 1.0), Verdict::Failed);
        // A tenth of the higher is about the lower: too close to tell.
        assert_eq!(verdict(Comparison::Less, 0.1), Verdict::Undecided);
        assert_eq!(verdict(Comparison::Less, 0.01), Verdict::Failed);
    }

    #[test]
    fn many_questions_ask_more_of_each_answer() {
        let one = numbers(&LOW[..4], &HIGH[..4]);
        let alike = numbers(&[0.1, 0.4, 0.2, 0.3], &[0.2, 0.1, 0.4, 0.3]);
        let alone = judge(&[claim(Comparison::Less, 1.0)], std::slice::from_ref(&one));
        assert_eq!(alone[0].verdict, Verdict::Held);
        // 1/70 by itself, and 5/70 among five.
        let claims = vec![claim(Comparison::Less, 1.0); 5];
        let five = [one, alike.clone(), alike.clone(), alike.clone(), alike];
        let judged = judge(&claims, &five);
        let test = judged[0].test.unwrap();
        assert_eq!((judged[0].verdict, test.n_tests), (Verdict::Undecided, 5));
        assert!(
            (test.p - 1.0 / 70.0).abs() < 1e-12 && (test.p_corrected - 5.0 / 70.0).abs() < 1e-12
        );
        // Claims about one arm do not count.
        let alone = Claim {
            expected: Expected::Compared { op: Comparison::Less, bound: 1.0 },
            ..claim(Comparison::Less, 1.0)
        };
        let judged = judge(&[alone, claim(Comparison::Less, 1.0)], &five);
        assert_eq!(judged[0], Judgement { verdict: Verdict::Held, test: None });
        assert_eq!(judged[1].test.unwrap().n_tests, 1);
    }

    #[test]
    fn an_arm_without_numbers_is_not_measured() {
        for (measured, beside) in [(&[][..], &HIGH[..]), (&LOW, &[]), (&[f64::NAN], &HIGH)] {
            let judged = judge(&[claim(Comparison::Less, 1.0)], &[numbers(measured, beside)]);
            assert_eq!(judged[0], Judgement { verdict: Verdict::Unmeasured, test: None });
        }
    }
}

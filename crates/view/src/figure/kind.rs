//! Kinds of figures, and why a set of runs has none of some kind.

use std::collections::BTreeSet;

use serde::Serialize;

use super::of_records::Source;
use super::{counts, swept};
use crate::number;

/// What a figure is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Error rates run by run, an arm a row.
    Errors,
    /// Runs by how many errors they make.
    Runs,
    /// Error rates on two sets against each other.
    Scatter,
    /// Error rates over two things that a sweep changed.
    Heat,
    /// Kept glitches by how far they are from what was written.
    Distance,
    /// Error rates while training.
    Curve,
    /// The best of them so far.
    Best,
    /// Losses while training.
    Loss,
    /// Shares that were probed while training.
    Probe,
    /// Norms of params and gradients while training.
    Norms,
    /// Where heads look.
    Attention,
}

impl Kind {
    /// All of them, in the order in which figures come.
    pub const ALL: [Self; 11] = [
        Self::Errors,
        Self::Runs,
        Self::Scatter,
        Self::Heat,
        Self::Distance,
        Self::Curve,
        Self::Best,
        Self::Loss,
        Self::Probe,
        Self::Norms,
        Self::Attention,
    ];

    /// The word for it, with which the names of its figures begin.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Errors => "errors",
            Self::Runs => "runs",
            Self::Scatter => "scatter",
            Self::Heat => "heat",
            Self::Distance => "distance",
            Self::Curve => "curve",
            Self::Best => "best",
            Self::Loss => "loss",
            Self::Probe => "probe",
            Self::Norms => "norms",
            Self::Attention => "attention",
        }
    }

    /// The kind of that word.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

/// Why these runs have no figure of a kind: one sentence that says what it would take.
///
/// # Example
///
/// ```
/// use mnemoscope_view::figure::{Kind, why_not};
///
/// assert_eq!(
///     why_not(Kind::Scatter, &[]),
///     "a scatter needs two runs or more that measured two sets; there are 0 runs, and sets: none"
/// );
/// ```
#[must_use]
pub fn why_not(kind: Kind, runs: &[Source]) -> String {
    let measured: Vec<&Source> = runs.iter().filter(|run| run.result().is_some()).collect();
    let n_measured = number::counted(measured.len() as u64, "run", "runs");
    let sets: BTreeSet<&String> =
        measured.iter().filter_map(|run| run.result()).flat_map(|it| it.eval.keys()).collect();
    let sets: Vec<&str> = sets.into_iter().map(String::as_str).collect();
    let sets = if sets.is_empty() { "none".to_owned() } else { sets.join(", ") };
    match kind {
        Kind::Errors => format!(
            "error rates run by run need two runs or more, and one that measured a set; measured: {n_measured}"
        ),
        Kind::Runs => format!(
            "runs by their errors need {} measured runs or more; there are {}",
            counts::RUNS_FROM,
            measured.len()
        ),
        Kind::Scatter => format!(
            "a scatter needs two runs or more that measured two sets; there are {}, and sets: {sets}",
            number::counted(runs.len() as u64, "run", "runs")
        ),
        Kind::Heat => swept::why_not(runs),
        Kind::Distance => {
            "no run kept a glitch that knows where its answer was written; `eval.max_glitches` is \
                           how many a run keeps of each set"
                .to_owned()
        }
        Kind::Curve | Kind::Best => {
            "no run recorded points of a learning curve; `curve_examples` of a set asks \
                                     for them"
                .to_owned()
        }
        Kind::Loss => "no run recorded a loss yet".to_owned(),
        Kind::Probe => {
            "no run was probed while it trained; `[probe]` in its spec asks for it".to_owned()
        }
        Kind::Norms => "no run recorded norms; `[probe]` in its spec asks for them".to_owned(),
        Kind::Attention => {
            "where heads look is drawn in a text of yours: name one run and `--text`".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_found_by_its_word() {
        for kind in Kind::ALL {
            assert_eq!(Kind::of_word(kind.word()), Some(kind));
            let why = why_not(kind, &[]);
            assert!(!why.is_empty() && !why.contains("  "), "{why}");
        }
        assert_eq!(Kind::of_word("pie"), None);
    }
}

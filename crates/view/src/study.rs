//! The table of a study: every run's errors with their intervals, its arms, its claims.

use mnemoscope_stats::rate::clopper_pearson;
use serde::Serialize;
use std::collections::BTreeMap;

use crate::groups::median;
use crate::number;
use crate::result::{RunResult, common, interval_heading};
use crate::table::{Align, Table};
use crate::text;

/// One run of a study.
#[derive(Clone, Debug)]
pub struct StudyRun {
    /// The arm it belongs to.
    pub arm: String,
    /// What it measured.
    pub result: RunResult,
    /// Where its record lies.
    pub path: String,
}

/// A claim of a study beside what was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// The claim, in words.
    pub claim: String,
    /// What it expects.
    pub expected: String,
    /// What came out.
    pub measured: String,
    /// What the measurement says of it.
    pub mark: Mark,
}

/// What a measurement says of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// As claimed.
    Holds,
    /// Not as claimed.
    Fails,
    /// Too few runs, or too much alike, to tell.
    Undecided,
    /// Nothing was measured to judge it by.
    Open,
}

/// The page of a study: runs, arms, claims, and where the records lie.
///
/// # Example
///
/// ```
/// use mnemoscope_view::study::{Mark, Verdict, page};
///
/// let verdict = Verdict {
///     claim: "the LSTM reads without an error".into(),
///     expected: "0".into(),
///     measured: "0 of 700000".into(),
///     mark: Mark::Holds,
/// };
/// assert!(page("lstm", Some("Does it?"), &[], &[verdict]).contains("holds"));
/// ```
#[must_use]
pub fn page(name: &str, question: Option<&str>, runs: &[StudyRun], verdicts: &[Verdict]) -> String {
    let mut page = head(name, question);
    if !runs.is_empty() {
        page += "\n";
        page += &runs_table(runs).to_string();
    }
    page += &arms_lines(runs);
    page += &verdict_lines(verdicts);
    page += &record_lines(runs);
    page
}

/// The page of a study of so many runs that a line for each would hide the rest: its arms and claims.
///
/// # Example
///
/// ```
/// use mnemoscope_view::study::page_of_arms;
///
/// assert_eq!(page_of_arms("sizes", None, &[], &[]), "sizes\n");
/// ```
#[must_use]
pub fn page_of_arms(
    name: &str,
    question: Option<&str>,
    runs: &[StudyRun],
    verdicts: &[Verdict],
) -> String {
    let mut page = head(name, question);
    page += &arms_lines(runs);
    page + &verdict_lines(verdicts)
}

fn head(name: &str, question: Option<&str>) -> String {
    let mut page = format!("{name}\n");
    if let Some(question) = question {
        page += &text::wrap(question, crate::WIDTH, "  ");
    }
    page
}

fn arms_lines(runs: &[StudyRun]) -> String {
    let arms = arms_table(runs);
    if arms.is_empty() {
        return String::new();
    }
    format!("\nArms: how many of their runs answer a whole set without an error\n{arms}")
}

/// Every run and set: trials, errors, rate and interval.
#[must_use]
pub fn runs_table(runs: &[StudyRun]) -> Table {
    let confidence =
        common(runs.iter().flat_map(|run| run.result.eval.values().map(|set| set.confidence)));
    let heading = interval_heading(confidence);
    let mut table = Table::new(&[
        ("arm", Align::Wrapped),
        ("seed", Align::Right),
        ("set", Align::Left),
        ("trials", Align::Right),
        ("errors", Align::Right),
        ("rate", Align::Right),
        (&heading, Align::Left),
    ]);
    let mut previous_arm = None;
    for run in runs {
        let mut arm = if previous_arm == Some(&run.arm) { "" } else { run.arm.as_str() };
        let mut seed = run.result.seeds.map_or_else(|| "-".to_owned(), |seeds| seeds.to_string());
        for (set, measured) in &run.result.eval {
            table.row([
                std::mem::take(&mut arm).to_owned(),
                std::mem::take(&mut seed),
                set.clone(),
                number::count(measured.n_trials),
                number::count(measured.n_errors),
                measured.error_rate.map_or_else(|| "-".to_owned(), number::rate),
                number::interval(measured.interval),
            ]);
        }
        previous_arm = Some(&run.arm);
    }
    table
}

/// For each arm of several runs and each set: runs without an error, and the spread of the rate.
///
/// Runs of one arm differ in kind, not only by chance (some seeds glitch, some never do), so
/// their errors are not added up. What is judged is the share of flawless runs, with the exact
/// interval over runs.
#[must_use]
pub fn arms_table(runs: &[StudyRun]) -> Table {
    let mut table = Table::new(&[
        ("arm", Align::Wrapped),
        ("set", Align::Left),
        ("flawless runs", Align::Right),
        ("95 % interval", Align::Left),
        ("median rate", Align::Right),
        ("highest", Align::Right),
    ]);
    let mut arms: Vec<(&str, BTreeMap<&str, Vec<f64>>)> = Vec::new();
    for run in runs {
        if arms.iter().all(|(arm, _)| *arm != run.arm) {
            arms.push((&run.arm, BTreeMap::new()));
        }
        let Some((_, sets)) = arms.iter_mut().find(|(arm, _)| *arm == run.arm) else { continue };
        for (set, measured) in &run.result.eval {
            sets.entry(set).or_default().extend(measured.error_rate);
        }
    }
    for (arm, sets) in arms {
        let mut arm_cell = arm;
        for (set, mut rates) in sets {
            if rates.len() < 2 {
                continue;
            }
            rates.sort_by(f64::total_cmp);
            let n_flawless = rates.iter().filter(|rate| **rate <= 0.0).count() as u64;
            let n_runs = rates.len() as u64;
            let interval = clopper_pearson(n_flawless, n_runs, 0.95);
            table.row([
                std::mem::take(&mut arm_cell).to_owned(),
                set.to_owned(),
                format!("{n_flawless} of {n_runs}"),
                number::interval([interval.low, interval.high]),
                number::rate(median(&rates)),
                number::rate(rates[rates.len() - 1]),
            ]);
        }
    }
    table
}

fn verdict_lines(verdicts: &[Verdict]) -> String {
    let mut page = String::new();
    if verdicts.is_empty() {
        return page;
    }
    page += "\nClaims\n";
    for verdict in verdicts {
        let mark = match verdict.mark {
            Mark::Holds => "holds",
            Mark::Fails => "FAILS",
            Mark::Undecided => "unsure",
            Mark::Open => "open",
        };
        let wrapped = text::wrap(&verdict.claim, crate::WIDTH, "          ");
        page += &format!("  {mark:6}  {}\n", wrapped.trim());
        page += &text::wrap(
            &format!("expected {}; measured {}", verdict.expected, verdict.measured),
            crate::WIDTH,
            "          ",
        );
    }
    page
}

fn record_lines(runs: &[StudyRun]) -> String {
    let mut page = String::new();
    for (idx, run) in runs.iter().enumerate() {
        page += if idx == 0 { "\nRecords\n" } else { "" };
        page += &format!("  {}\n", run.path);
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::Seeds;
    use crate::result::tests::result;
    use crate::text::assert_fits;

    fn run(arm: &str, seed: u64, errors: [u64; 3]) -> StudyRun {
        let id = format!("{seed:016x}");
        let mut result = result(&id, arm, errors);
        result.seeds = Some(Seeds { data: seed, model: seed });
        StudyRun { arm: arm.to_owned(), result, path: format!("./runs/{id}") }
    }

    #[test]
    fn a_study_of_two_arms() {
        let runs = [
            run("lstm", 0, [0, 0, 0]),
            run("lstm", 1, [0, 0, 0]),
            run("transformer-2L", 0, [0, 43_211, 17]),
            run("transformer-2L", 1, [3, 12, 345_000]),
        ];
        let verdicts = [
            Verdict {
                claim: "lstm: no error on val_sparse".to_owned(),
                expected: "rate 0".to_owned(),
                measured: "0 errors of 707 750 reads".to_owned(),
                mark: Mark::Holds,
            },
            Verdict {
                claim: "transformer-2L: errors on val_sparse, on every seed, and this claim is so \
                        long that it takes two lines"
                    .to_owned(),
                expected: "rate in [1e-4, 0.5]".to_owned(),
                measured: "3.39e-5".to_owned(),
                mark: Mark::Fails,
            },
        ];
        let page = page(
            "lstm-vs-transformer",
            Some(
                "Does a tiny LSTM read a carried bit without a single error where a Transformer errs?",
            ),
            &runs,
            &verdicts,
        );
        assert_fits(&page);
        insta::assert_snapshot!(page);
    }

    #[test]
    fn a_long_arm_name_does_not_push_the_interval_off_the_page() {
        let page =
            page("study", None, &[run(&"transformer-6L-512d-8H-".repeat(2), 0, [0, 1, 2])], &[]);
        assert_fits(&page);
        assert!(page.contains("[7.00e-7, 2.09e-5]\n"), "{page}");
    }

    #[test]
    fn one_run_is_no_arm_to_judge() {
        assert!(arms_table(&[run("lstm", 0, [0, 0, 0])]).is_empty());
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert!((median(&[0.0, 0.1, 0.3, 0.9]) - 0.2).abs() < 1e-12);
        assert!((median(&[0.0, 0.1, 0.9]) - 0.1).abs() < 1e-12);
    }
}

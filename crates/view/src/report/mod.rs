//! The report: everything about a study or some runs on one page that needs no network and no server.
//!
//! A report is put together once ([`Report::new`]) and set as HTML ([`Report::to_html`]) or Markdown
//! ([`Report::to_markdown`]). Its tables are those of the terminal, cell by cell, so a number cannot read
//! differently here. Whatever stands in a record is text: no name, token or spec can become markup.

mod html;
mod markdown;

pub(crate) use html::{body, figure, folded, rows};

use std::collections::BTreeSet;

use serde_json::Value;

use crate::figure::{Figure, Source};
use crate::number;
use crate::result::RunResult;
use crate::runs::date_of;
use crate::study::{Mark, StudyRun, Verdict, arms_table, runs_table};
use crate::table::{Align, Table};

/// What a report says.
///
/// # Example
///
/// ```
/// use mnemoscope_view::report::Report;
///
/// let mut report = Report::new("sizes <b>", &[], vec![]);
/// report.question = Some("Does size help?".into());
/// let page = report.to_html();
/// assert!(page.contains("<h1>sizes &lt;b&gt;</h1>") && page.contains("Does size help?"));
/// assert!(report.to_markdown("figures").starts_with("# sizes \\<b\\>\n"));
/// ```
#[derive(Clone, Debug)]
pub struct Report {
    /// The name of the study or of the runs.
    pub title: String,
    /// What is asked.
    pub question: Option<String>,
    /// Claims beside what was measured.
    pub verdicts: Vec<Verdict>,
    /// Anything a reader should know first, a sentence each: runs that are missing, damage.
    pub warnings: Vec<String>,
    /// What is drawn.
    pub figures: Vec<Figure>,
    /// Failing sequences worth looking at.
    pub glitches: Vec<Glitch>,
    /// The command that makes these runs again.
    pub again: Option<String>,
    /// The spec as it was written.
    pub spec: Option<String>,
    tables: Vec<(String, Table)>,
    plans: Vec<(String, Value)>,
    facts: Vec<(&'static str, String)>,
}

/// A failing sequence, seen again.
#[derive(Clone, Debug)]
pub struct Glitch {
    /// Where it comes from, in a few words.
    pub title: String,
    /// Its page, or why there is none.
    pub page: String,
    /// Where the heads looked, of a model that has heads.
    pub attention: Option<Figure>,
}

impl Report {
    /// A report of runs: their tables, plans, machines and releases. What a study adds is filled in by whoever
    /// knows it.
    #[must_use]
    pub fn new(title: &str, runs: &[Source], figures: Vec<Figure>) -> Self {
        let measured: Vec<StudyRun> = runs.iter().filter_map(study_run).collect();
        let mut tables = Vec::new();
        if !measured.is_empty() {
            tables.push(("Every run".to_owned(), runs_table(&measured)));
        }
        let arms = arms_table(&measured);
        if !arms.is_empty() {
            tables.push((
                "Arms: how many of their runs answer a whole set without an error".to_owned(),
                arms,
            ));
        }
        tables.push(("Records".to_owned(), records_table(runs)));
        let mut plans: Vec<(String, Value)> = Vec::new();
        for run in runs {
            if plans.iter().all(|(arm, _)| *arm != run.arm) {
                plans.push((run.arm.clone(), run.page.plan.clone()));
            }
        }
        Self {
            title: title.to_owned(),
            question: None,
            verdicts: Vec::new(),
            warnings: runs.iter().flat_map(warnings).collect(),
            figures,
            glitches: Vec::new(),
            again: None,
            spec: None,
            tables,
            plans,
            facts: facts(runs),
        }
    }

    /// The report as one HTML document that loads nothing and runs one script, that of its figures.
    #[must_use]
    pub fn to_html(&self) -> String {
        html::document(self)
    }

    /// The report as Markdown, its figures as files beside it.
    ///
    /// # Arguments
    ///
    /// - `folder`: where the figures are, seen from the document; [`Report::all_figures`] lists them, each to be
    ///   written as its name and `.svg`.
    #[must_use]
    pub fn to_markdown(&self, folder: &str) -> String {
        markdown::document(self, folder)
    }

    /// Every figure, those of glitches too.
    pub fn all_figures(&self) -> impl Iterator<Item = &Figure> {
        self.figures
            .iter()
            .chain(self.glitches.iter().filter_map(|glitch| glitch.attention.as_ref()))
    }
}

fn study_run(run: &Source) -> Option<StudyRun> {
    let result: &RunResult = run.page.result.as_ref()?.as_ref().ok()?;
    Some(StudyRun { arm: run.arm.clone(), result: result.clone(), path: run.page.path.clone() })
}

/// Every record and how it stands, also those without a result.
fn records_table(runs: &[Source]) -> Table {
    let mut table = Table::new(&[
        ("run", Align::Left),
        ("arm", Align::Wrapped),
        ("status", Align::Left),
        ("steps", Align::Right),
        ("parameters", Align::Right),
        ("training", Align::Right),
        ("began", Align::Left),
    ]);
    let or_dash = |cell: Option<String>| cell.unwrap_or_else(|| "-".to_owned());
    for run in runs {
        let result = study_run(run).map(|run| run.result);
        let steps = run.page.plan["train"]["n_steps"].as_u64();
        let n_params = result.as_ref().and_then(|it| it.model.as_ref()?.n_params);
        let secs = result.as_ref().and_then(|it| it.train.as_ref()?.wall_secs);
        table.row([
            run.page.id.clone(),
            run.arm.clone(),
            run.page.status.clone(),
            or_dash(steps.map(number::count)),
            or_dash(n_params.map(number::count)),
            or_dash(secs.map(number::secs)),
            or_dash(run.page.created_secs.map(date_of)),
        ]);
    }
    table
}

/// What is wrong with a run, or unfinished.
fn warnings(run: &Source) -> Vec<String> {
    let page = &run.page;
    let mut warnings = Vec::new();
    if page.status != "sealed" {
        let because = page.message.as_ref().map(|message| format!(": {message}"));
        warnings.push(format!(
            "Run {} of {} is {}{}.",
            page.id,
            run.arm,
            page.status,
            because.unwrap_or_default()
        ));
    }
    let unreadable = page.result.iter().filter_map(|result| result.as_ref().err());
    let damage = |problem: &String| format!("Run {}: {problem}.", page.id);
    warnings.extend(page.problems.iter().chain(unreadable).map(damage));
    warnings
}

/// Machines and releases, each once.
fn facts(runs: &[Source]) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    let each = |words: &dyn Fn(&Source) -> Option<String>| {
        let words: BTreeSet<String> = runs.iter().filter_map(words).collect();
        words.into_iter().collect::<Vec<_>>().join("; ")
    };
    let releases = each(&|run| Some(format!("mnemoscope {}", run.page.meta["version"].as_str()?)));
    let machines = each(&|run| machine_words(&run.page.meta["machine"]));
    let formats = each(&|run| Some(run.page.format.clone()));
    let commits = each(&|run| Some(run.page.meta["machine"]["commit"].as_str()?.to_owned()));
    for (name, words) in [
        ("release", releases),
        ("commit", commits),
        ("machine", machines),
        ("record format", formats),
    ] {
        if !words.is_empty() {
            facts.push((name, words));
        }
    }
    facts
}

fn machine_words(machine: &Value) -> Option<String> {
    let mut words = vec![machine["cpu"].as_str()?.to_owned()];
    words.extend(machine["n_cores"].as_u64().map(|n| number::counted(n, "core", "cores")));
    words.extend(machine["memory_bytes"].as_u64().map(number::bytes));
    for key in ["device", "arch", "os"] {
        words.extend(machine[key].as_str().map(str::to_owned));
    }
    Some(words.join(", "))
}

/// The word for what a measurement says of a claim.
fn mark_word(mark: Mark) -> &'static str {
    match mark {
        Mark::Holds => "holds",
        Mark::Fails => "fails",
        Mark::Undecided => "undecided",
        Mark::Open => "not measured",
    }
}

/// `26 claims: 22 hold, 4 fail.`
fn tally(verdicts: &[Verdict]) -> String {
    let count = |mark: Mark| verdicts.iter().filter(|verdict| verdict.mark == mark).count();
    let counts = [
        (count(Mark::Holds), "hold"),
        (count(Mark::Fails), "fail"),
        (count(Mark::Undecided), "undecided"),
        (count(Mark::Open), "not measured"),
    ];
    let counted: Vec<String> =
        counts.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}")).collect();
    let n = number::counted(verdicts.len() as u64, "claim", "claims");
    format!("{n}: {}.", counted.join(", "))
}

#[cfg(test)]
mod tests;

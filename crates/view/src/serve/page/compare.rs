//! Runs side by side: the figures and tables of a report, without what only a study has.

use super::{Live, Page};
use crate::figure::{Source, figures};
use crate::number;
use crate::report::Report;
use crate::serve::Board;
use crate::serve::lab::{Refusal, RefusalKind};
use crate::serve::web::{Query, Reply, revision};

/// Runs that are compared, at most.
const MOST_RUNS: usize = 200;

/// The page.
pub(in crate::serve) fn page(board: &Board, query: &Query) -> Result<Reply, Refusal> {
    let runs = chosen(query)?;
    let live = live_of(board, &runs, query, state(board, &runs)?)?;
    let title = format!("{} compared", number::counted(runs.len() as u64, "run", "runs"));
    Ok(Page { title, place: "/", head: String::new(), live }.reply(&board.name))
}

/// The part that changes.
pub(in crate::serve) fn live(board: &Board, query: &Query) -> Result<Reply, Refusal> {
    let runs = chosen(query)?;
    let now = state(board, &runs)?;
    if query.one("since") == Some(&now) {
        return Ok(Reply::unchanged(now));
    }
    Ok(live_of(board, &runs, query, now)?.reply(query))
}

/// The runs that are named, each once.
fn chosen(query: &Query) -> Result<Vec<&str>, Refusal> {
    let mut runs: Vec<&str> = Vec::new();
    for run in
        query.all("run").flat_map(|runs| runs.split([',', ' '])).filter(|run| !run.is_empty())
    {
        if !runs.contains(&run) {
            runs.push(run);
        }
    }
    let refuse = |words: String| Err(Refusal::new(RefusalKind::Asked, words));
    match runs.len() {
        0 => refuse("no run is chosen; tick some in the list of runs".to_owned()),
        n if n > MOST_RUNS => refuse(format!(
            "{n} runs are chosen and at most {MOST_RUNS} are compared; a study has no such limit"
        )),
        _ => Ok(runs),
    }
}

fn state(board: &Board, runs: &[&str]) -> Result<String, Refusal> {
    let states: Vec<String> =
        runs.iter().map(|run| board.state_of(run)).collect::<Result<_, _>>()?;
    Ok(revision(&states))
}

fn live_of(board: &Board, runs: &[&str], query: &Query, now: String) -> Result<Live, Refusal> {
    let sources: Vec<Source> = runs
        .iter()
        .map(|run| Ok(Source::read(&board.run(run)?, None)?))
        .collect::<Result<_, Refusal>>()?;
    let title = format!("{} compared", number::counted(runs.len() as u64, "run", "runs"));
    let report = Report::new(&title, &sources, figures(&sources, &[]));
    let source = format!("/live/compare{}", query.without("since").text());
    Ok(Live { source, revision: now, html: super::report(&report, &sources) })
}

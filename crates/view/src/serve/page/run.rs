//! The page of one run: how it stands, what it measured, its figures, its kept glitches, its plan.

use mnemoscope_store::{RunReader, Status};
use serde_json::json;

use super::{Live, Page, badge, cell, complaint, without_styles};
use crate::figure::{Source, escaped, figures};
use crate::number;
use crate::report::{figure, folded, rows};
use crate::result::RunResult;
use crate::run::{RunPage, doubts_table, methods, reads_table};
use crate::serve::Board;
use crate::serve::lab::{Refusal, RefusalKind};
use crate::serve::web::{Query, Reply, encoded, revision};

/// Glitches listed on the page of a run; a record may keep any number.
const MOST_GLITCHES: usize = 1_000;

/// The page.
pub(in crate::serve) fn page(board: &Board, run: &str) -> Result<Reply, Refusal> {
    let record = board.run(run)?;
    let live = live_of(board, &record)?;
    let title = format!("Run {}", record.id());
    let arm = record.meta()["arm"].as_str().filter(|arm| !arm.is_empty()).unwrap_or("-");
    let study = record.meta()["study"].as_str();
    let study = study.map(|study| {
        format!(" of <a href=\"/study?name={}\">{}</a>", encoded(study), cell(study, 60))
    });
    let head = format!(
        "<h1>Run <code>{}</code></h1>\n<p class=\"lead\">Arm {}{}.</p>\n",
        escaped(record.id()),
        cell(arm, 80),
        study.unwrap_or_default()
    );
    Ok(Page { title, place: "/", head, live }.reply(&board.name))
}

/// The part that changes; nothing, where the record is as it was.
pub(in crate::serve) fn live(board: &Board, run: &str, query: &Query) -> Result<Reply, Refusal> {
    let now = board.state_of(run)?;
    if query.one("since") == Some(&now) {
        return Ok(Reply::unchanged(now));
    }
    Ok(live_of(board, &board.run(run)?)?.reply(query))
}

/// The same as `show --json` says it.
pub(in crate::serve) fn data(board: &Board, run: &str) -> Result<Reply, Refusal> {
    Ok(Reply::json(&RunPage::read(&board.run(run)?)?.to_json()))
}

/// The figures of a run as `figure --json` says them.
pub(in crate::serve) fn figures_data(board: &Board, run: &str) -> Result<Reply, Refusal> {
    let source = Source::read(&board.run(run)?, None)?;
    Ok(Reply::json(&json!({"figures": figures(&[source], &[])})))
}

fn live_of(board: &Board, record: &RunReader) -> Result<Live, Refusal> {
    // Before the reading: what changes meanwhile is seen the next time.
    let state = board.state_of(record.id())?;
    let source = Source::read(record, None)?;
    let page = &source.page;
    let mut html = format!("<p>{}", badge(&page.status));
    if record.status() == Status::Running {
        html += &super::runs::progress(record).unwrap_or_default();
    }
    html += "</p>\n";
    for problem in page.problems.iter().chain(page.result.iter().filter_map(|it| it.as_ref().err()))
    {
        html += &complaint(problem);
    }
    html += &measured(page);
    let drawn = figures(std::slice::from_ref(&source), &[]);
    if !drawn.is_empty() {
        let drawn = without_styles(&drawn.iter().map(figure).collect::<String>());
        html += &format!(
            "<h2>Figures</h2>\n<p class=\"note\">Point at a mark to see its run, its count and its interval.</p>\n\
             <div class=\"figures\">\n{drawn}</div>\n"
        );
    }
    html += &glitches(page);
    html += &record_part(record, page);
    let address = format!("/live/run/{}", encoded(record.id()));
    Ok(Live { source: address, revision: state, html })
}

fn measured(page: &RunPage) -> String {
    let Some(Ok(RunResult { eval, .. })) = &page.result else { return String::new() };
    if eval.is_empty() {
        return String::new();
    }
    let mut html = format!(
        "<h2>Measured</h2>\n{}<p class=\"note\">{}</p>\n",
        rows(&reads_table(eval)),
        escaped(&methods(eval))
    );
    if eval.values().any(|set| set.cluster_interval.is_some()) {
        html += &format!(
            "<h3>Trials of one example are not independent</h3>\n{}",
            rows(&doubts_table(eval, &page.plan["task"]))
        );
    }
    html
}

/// What the name of a glitch's file says: set, example, place.
pub(super) fn named<'n>(name: &'n str) -> Option<(&'n str, &'n str, &'n str)> {
    let name = name.strip_prefix("glitches/")?.strip_suffix(".json")?;
    let (rest, query_pos) = name.rsplit_once('-')?;
    let (set, index) = rest.rsplit_once('-')?;
    let bare = |number: &'n str| match number.trim_start_matches('0') {
        "" => "0",
        digits => digits,
    };
    Some((set, bare(index), bare(query_pos)))
}

fn glitches(page: &RunPage) -> String {
    if page.glitches.is_empty() {
        return String::new();
    }
    let n = page.glitches.len();
    let id = encoded(&page.id);
    let mut html = format!(
        "<h2>Glitches</h2>\n<p class=\"note\">{} kept. Each is a sequence that can be answered again, token by token.</p>\n",
        number::counted(n as u64, "error is", "errors are")
    );
    let mut last_set = None;
    for (idx, name) in page.glitches.iter().enumerate().take(MOST_GLITCHES) {
        let (set, index, query_pos) = named(name).unwrap_or((name, "", ""));
        if last_set != Some(set) {
            html += if last_set.is_some() { "</ol>\n" } else { "" };
            html += &format!("<h3>{}</h3>\n<ol class=\"glitches\" start=\"0\">\n", cell(set, 60));
            last_set = Some(set);
        }
        html += &format!(
            "<li><a href=\"/run/{id}/glitch/{idx}\" id=\"glitch-{idx}\">example {}, place {}</a></li>\n",
            escaped(index),
            escaped(query_pos)
        );
    }
    html += "</ol>\n";
    if n > MOST_GLITCHES {
        html += &format!(
            "<p class=\"note\">{} more are in the record.</p>\n",
            number::count((n - MOST_GLITCHES) as u64)
        );
    }
    html
}

fn record_part(record: &RunReader, page: &RunPage) -> String {
    let mut html = "<h2>Record</h2>\n<dl>\n".to_owned();
    for (name, words) in page.facts() {
        html += &format!("<dt>{}</dt><dd>{}</dd>\n", escaped(name), escaped(&words));
    }
    let steps: Vec<String> =
        page.checkpoint_steps.iter().map(|&step| number::count(step)).collect();
    if page.status == "sealed" && !steps.is_empty() {
        html += &format!("<dt>checkpoints kept</dt><dd>at step {}</dd>\n", steps.join(", "));
    }
    html += "</dl>\n";
    html += &format!("<pre>mnemoscope show {}</pre>\n", escaped(&page.id));
    html += &folded("The plan", &format!("{:#}", page.plan));
    if let Ok(spec) = record.file("spec.toml") {
        html += &folded("The spec as it was written", &String::from_utf8_lossy(&spec));
    }
    html
}

impl Board {
    /// A number that changes when the record of a run does.
    ///
    /// # Errors
    ///
    /// A refusal, if there is no such run.
    pub(in crate::serve) fn state_of(&self, run: &str) -> Result<String, Refusal> {
        let folder = self.folder(run)?;
        let mut state = String::new();
        for name in ["record.json", "events.jsonl", "result.json", "glitches", "checkpoints"] {
            let Ok(metadata) = std::fs::symlink_metadata(folder.join(name)) else { continue };
            let modified = metadata.modified().ok();
            let since = modified.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
            state += &format!("{name} {} {:?} ", metadata.len(), since);
        }
        if state.is_empty() {
            return Err(Refusal::new(
                RefusalKind::NotFound,
                format!("there is no run `{run}`; the first page lists all there are"),
            ));
        }
        // A process that was killed changes no file.
        Ok(revision(&[state, self.store.is_running(run).to_string()]))
    }
}

#[cfg(test)]
mod tests {
    use super::named;

    #[test]
    fn the_name_of_a_glitch_says_where_it_is() {
        assert_eq!(
            named("glitches/val_sparse-000000012-0192.json"),
            Some(("val_sparse", "12", "192"))
        );
        assert_eq!(named("glitches/a-b-000000000-0000.json"), Some(("a-b", "0", "0")));
        assert_eq!(named("glitches/notes.txt"), None);
    }
}

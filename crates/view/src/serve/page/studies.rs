//! Studies and sweeps: how many of how many, and the report of a study by the code that writes reports.

use std::collections::BTreeMap;

use mnemoscope_store::{Filter, RunReader, Selection};
use serde_json::{Value, json};

use super::{Live, Page, badge, cell};
use crate::figure::{Source, escaped, figures};
use crate::number;
use crate::report::Report;
use crate::runs::date_of;
use crate::serve::Board;
use crate::serve::lab::{Judged, Refusal, RefusalKind, Waiting};
use crate::serve::web::{Query, Reply, encoded, revision};

/// How the runs of a study stand.
#[derive(Clone, Debug, Default)]
struct Standing {
    /// Their ids with how they stand, the oldest first.
    runs: Vec<(String, String)>,
    began_secs: Option<f64>,
}

impl Standing {
    fn n(&self, status: &str) -> usize {
        self.runs.iter().filter(|(_, it)| it == status).count()
    }

    /// `12 sealed, 1 failed`, the most wanted first.
    fn words(&self) -> String {
        let states = ["sealed", "running", "interrupted", "failed", "crashed", "damaged"];
        let counted = states.map(|state| (self.n(state), state));
        let badges = counted.iter().filter(|(n, _)| *n > 0);
        let badge =
            |(n, state): &(usize, &str)| format!("{} {}", number::count(*n as u64), badge(state));
        badges.map(badge).collect::<Vec<_>>().join(" ")
    }

    /// Sealed, ended badly, and left of so many.
    fn json(&self, n_plans: Option<usize>) -> Value {
        let n_failed = self.n("failed") + self.n("crashed");
        json!({
            "n_runs": self.runs.len(),
            "n_plans": n_plans,
            "n_sealed": self.n("sealed"),
            "n_running": self.n("running"),
            "n_failed": n_failed,
            "n_left": n_plans.map(|n| n.saturating_sub(self.n("sealed"))),
        })
    }
}

/// Every study of the store by its name.
fn studies(board: &Board) -> Result<BTreeMap<String, Standing>, Refusal> {
    let fields = ["meta.study", "id", "status", "created_secs"].map(str::to_owned);
    let mut studies: BTreeMap<String, Standing> = BTreeMap::new();
    for row in board.store.values(&Selection::default(), &fields)? {
        let [Value::String(study), Value::String(id), status, created] = &row[..] else { continue };
        let standing = studies.entry(study.clone()).or_default();
        standing.runs.push((id.clone(), status.as_str().unwrap_or("damaged").to_owned()));
        standing.began_secs = created.as_f64().or(standing.began_secs);
    }
    Ok(studies)
}

/// How many plans a study has, by the spec that its last run keeps; none where that cannot be said.
///
/// Runs of one name may come from several specs, or were begun with other values: then there is no one number.
fn n_plans(board: &Board, standing: &Standing, waiting: &Waiting) -> Option<usize> {
    let (id, _) = standing.runs.iter().rev().find(|(_, status)| status != "damaged")?;
    let plans = board.plans_of(id, waiting)?;
    standing.runs.iter().all(|(id, _)| plans.contains(id)).then_some(plans.len())
}

/// The page.
pub(in crate::serve) fn page(board: &Board, waiting: &Waiting) -> Result<Reply, Refusal> {
    let head = "<h1>Studies and sweeps</h1>\n".to_owned();
    let live = live(board, waiting)?;
    Ok(Page { title: "Studies".to_owned(), place: "/studies", head, live }.reply(&board.name))
}

/// The part that changes.
pub(in crate::serve) fn live(board: &Board, waiting: &Waiting) -> Result<Live, Refusal> {
    let studies = studies(board)?;
    let mut html = String::new();
    if studies.is_empty() {
        html += "<p class=\"empty\">No run belongs to a study yet. A spec with several plans, a question or a claim is one; \
                 `mnemoscope sweep STUDY` runs its plans side by side.</p>\n";
    } else {
        html += "<div class=\"scroll\"><table class=\"cards\"><thead><tr><th>study</th><th>last run began</th><th>done</th><th>runs</th>\
                 <th class=\"number\">left</th></tr></thead><tbody>\n";
    }
    for (name, standing) in &studies {
        let planned = n_plans(board, standing, waiting);
        let n_sealed = standing.n("sealed");
        let done = match planned {
            Some(n) => format!(
                "<progress max=\"{n}\" value=\"{n_sealed}\"></progress> {} of {}",
                number::count(n_sealed as u64),
                number::count(n as u64)
            ),
            None => number::count(n_sealed as u64),
        };
        let left = planned
            .map_or_else(|| "-".to_owned(), |n| number::count(n.saturating_sub(n_sealed) as u64));
        html += &format!(
            "<tr><td data-label=\"study\"><a id=\"study-{id}\" href=\"/study?name={id}\">{}</a></td>\
             <td data-label=\"last run began\">{}</td><td data-label=\"done\">{done}</td><td data-label=\"runs\">{}</td>\
             <td class=\"number\" data-label=\"left\">{left}</td></tr>\n",
            cell(name, 60),
            standing.began_secs.map_or_else(|| "-".to_owned(), date_of).replace(" UTC", ""),
            standing.words(),
            id = encoded(name),
        );
    }
    html += if studies.is_empty() { "" } else { "</tbody></table></div>\n" };
    html += &submitted(board)?;
    Ok(Live { source: "/live/studies".to_owned(), revision: revision(&[&html]), html })
}

/// The sweeps that were submitted to a cluster.
fn submitted(board: &Board) -> Result<String, Refusal> {
    let ids = board.store.sweeps()?;
    if ids.is_empty() {
        return Ok(String::new());
    }
    let mut html = "<h2>Submitted to a cluster</h2>\n<div class=\"scroll\"><table class=\"cards\"><thead><tr><th>sweep</th><th>study</th>\
                    <th>submitted</th><th>sealed</th></tr></thead><tbody>\n"
        .to_owned();
    for id in &ids {
        let row = match board.store.sweep(id) {
            Err(failure) => format!("<td colspan=\"3\">{}</td>", escaped(&failure.to_string())),
            Ok(sweep) => {
                let plans: Vec<&str> = sweep["plans"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                    .collect();
                let n_sealed = plans.iter().filter(|plan| board.is_sealed(plan)).count();
                let (n, secs) = (plans.len(), sweep["submitted_secs"].as_f64());
                format!(
                    "<td data-label=\"study\">{}</td><td data-label=\"submitted\">{}</td>\
                     <td data-label=\"sealed\"><progress max=\"{n}\" value=\"{n_sealed}\"></progress> {} of {}</td>",
                    cell(sweep["study"].as_str().unwrap_or("-"), 60),
                    secs.map_or_else(|| "-".to_owned(), date_of),
                    number::count(n_sealed as u64),
                    number::count(n as u64)
                )
            }
        };
        html +=
            &format!("<tr><td data-label=\"sweep\"><code>{}</code></td>{row}</tr>\n", cell(id, 20));
    }
    Ok(html + "</tbody></table></div>\n")
}

/// All studies as data.
pub(in crate::serve) fn data(board: &Board, waiting: &Waiting) -> Result<Reply, Refusal> {
    let studies: Vec<Value> = studies(board)?
        .iter()
        .map(|(name, standing)| {
            let mut said = standing.json(n_plans(board, standing, waiting));
            said["study"] = json!(name);
            said
        })
        .collect();
    Ok(Reply::json(&json!({"store": board.name, "studies": studies})))
}

/// The report of one study.
pub(in crate::serve) fn study(
    board: &Board,
    query: &Query,
    waiting: &Waiting,
) -> Result<Reply, Refusal> {
    let name = named(query)?;
    let live = study_live(board, name, waiting)?;
    Ok(Page { title: name.to_owned(), place: "/studies", head: String::new(), live }
        .reply(&board.name))
}

/// The part of it that changes: when a run begins or ends.
pub(in crate::serve) fn live_study(
    board: &Board,
    query: &Query,
    waiting: &Waiting,
) -> Result<Reply, Refusal> {
    let name = named(query)?;
    let now = revision(&[format!("{:?}", standing(board, name)?.runs)]);
    if query.one("since") == Some(&now) {
        return Ok(Reply::unchanged(now));
    }
    Ok(study_live(board, name, waiting)?.reply(query))
}

fn named(query: &Query) -> Result<&str, Refusal> {
    query.one("name").ok_or_else(|| {
        Refusal::new(RefusalKind::Asked, "no study is named; `/study?name=NAME` shows one")
    })
}

fn standing(board: &Board, name: &str) -> Result<Standing, Refusal> {
    let filter: Filter = format!("meta.study={}", json!(name)).parse()?;
    let selection = Selection { filters: vec![filter], ..Selection::default() };
    let rows = board.store.values(&selection, &["id", "status"].map(str::to_owned))?;
    let run = |row: &Vec<Value>| {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Some((text(&row[0])?, text(&row[1]).unwrap_or_else(|| "damaged".to_owned())))
    };
    let runs: Vec<(String, String)> = rows.iter().filter_map(run).collect();
    if runs.is_empty() {
        let shown = crate::figure::label(name, 60);
        return Err(Refusal::new(
            RefusalKind::NotFound,
            format!("no run belongs to a study {shown:?}"),
        ));
    }
    Ok(Standing { runs, began_secs: None })
}

fn study_live(board: &Board, name: &str, waiting: &Waiting) -> Result<Live, Refusal> {
    let standing = standing(board, name)?;
    let now = revision(&[format!("{:?}", standing.runs)]);
    let mut records: Vec<RunReader> = Vec::new();
    let mut warnings = Vec::new();
    for (id, _) in &standing.runs {
        match board.run(id) {
            Ok(record) => records.push(record),
            Err(refusal) => warnings.push(format!("Run {id}: {}.", refusal.message)),
        }
    }
    let sources: Vec<Source> =
        records.iter().map(|run| Source::read(run, None)).collect::<Result<_, _>>()?;
    let spec = records.iter().rev().find_map(|run| run.file("spec.toml").ok());
    let spec = spec.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let judged =
        spec.clone().map(|spec| board.desk.ask(waiting, move |lab| lab.judge(&spec, &records)));
    let judged = match judged {
        Some(Ok(judged)) => judged,
        Some(Err(refusal)) => {
            warnings.push(format!(
                "Its claims are not judged here: {}.",
                refusal.message.lines().next().unwrap_or_default()
            ));
            Judged::default()
        }
        None => Judged::default(),
    };
    let mut report = Report::new(name, &sources, figures(&sources, &judged.published));
    report.question = judged.question;
    report.verdicts = judged.verdicts;
    let n_missing =
        judged.plans.iter().filter(|plan| sources.iter().all(|run| run.page.id != **plan)).count();
    if n_missing > 0 {
        let missing = number::counted(n_missing as u64, "plan has", "plans have");
        warnings.push(format!("{missing} no run yet; claims are judged by what is there."));
    }
    warnings.append(&mut report.warnings);
    report.warnings = warnings;
    report.spec = spec;
    let source = format!("/live/study?name={}", encoded(name));
    Ok(Live { source, revision: now, html: super::report(&report, &sources) })
}

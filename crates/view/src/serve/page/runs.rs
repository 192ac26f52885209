//! The first page: every run, filtered, sorted, grouped, page by page.

use mnemoscope_store::{Listed, RunReader, Selection};
use serde_json::{Value, json};

use super::{Live, Page, badge, cell, complaint, run_link};
use crate::figure::escaped;
use crate::groups::{self, Group, short};
use crate::number;
use crate::query::{conditions, full_path, no_such_field, rates, unknown_field};
use crate::result::RunResult;
use crate::runs::{date_of, errors, seed};
use crate::serve::Board;
use crate::serve::lab::{Refusal, RefusalKind};
use crate::serve::web::{Query, Reply, encoded, revision};

/// Runs on a page, where nobody said how many.
const USUAL_PAGE: usize = 100;
/// Runs on a page, at most.
const MOST_ON_PAGE: usize = 500;
/// Runs that are being written whose progress is looked up, at most.
const MOST_FOLLOWED: usize = 32;
/// Characters of a condition, at most: an address holds no longer one.
const MOST_CONDITION: usize = 2_000;

/// What a question asks of the store.
struct Wanted {
    selection: Selection,
    by: Vec<String>,
    show: Vec<String>,
    page: usize,
}

impl Wanted {
    fn of(board: &Board, query: &Query) -> Result<Self, Refusal> {
        let texts: Vec<String> = query.all("where").map(str::to_owned).collect();
        if texts.iter().any(|text| text.len() > MOST_CONDITION) {
            let words = format!("a condition has at most {MOST_CONDITION} characters");
            return Err(Refusal::new(RefusalKind::Asked, words));
        }
        let filters = conditions(&texts)?;
        let fields =
            |key: &'static str| -> Vec<String> { query.all(key).flat_map(names).collect() };
        let (by, show) = (fields("by"), fields("show"));
        let sort = query.one("sort").map(full_path);
        let asked: Vec<String> = by.iter().chain(&show).chain(&sort).cloned().collect();
        if let Some(field) = unknown_field(&board.store, &asked)? {
            return Err(Refusal::new(RefusalKind::Asked, no_such_field(&field)));
        }
        let n = query.number("n")?.unwrap_or(USUAL_PAGE).clamp(1, MOST_ON_PAGE);
        let page: usize = query.number("page")?.unwrap_or(1).max(1);
        // What is new is what people look for; a field is read from its smallest value.
        let descending = match query.one("order") {
            Some("up") => false,
            Some("down") => true,
            None => sort.is_none(),
            Some(_) => return Err(Refusal::new(RefusalKind::Asked, "`order` is `up` or `down`")),
        };
        let skip = (page - 1).saturating_mul(n);
        let selection = Selection { filters, sort, descending, skip, most: Some(n) };
        Ok(Self { selection, by, show, page })
    }

    /// The same, all pages.
    fn all(&self) -> Selection {
        Selection { skip: 0, most: None, ..self.selection.clone() }
    }
}

/// Fields with commas or spaces between them.
fn names(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split([',', ' ']).filter(|name| !name.is_empty()).map(full_path)
}

/// The page.
pub(in crate::serve) fn page(board: &Board, query: &Query) -> Reply {
    let head = format!("<h1>Runs</h1>\n{}", form(query));
    match live(board, query) {
        Ok(live) => Page { title: "Runs".to_owned(), place: "/", head, live }.reply(&board.name),
        Err(refusal) => {
            let main = format!("{head}{}", complaint(&refusal.message));
            let status = crate::serve::web::status_of(refusal.kind);
            Reply::html(super::frame("Runs", "/", &main, &board.name)).with_status(status)
        }
    }
}

/// The part that changes.
pub(in crate::serve) fn live(board: &Board, query: &Query) -> Result<Live, Refusal> {
    let query = query.without("since");
    let wanted = Wanted::of(board, &query)?;
    let html = if wanted.by.is_empty() {
        listing(board, &query, &wanted)?
    } else {
        grouping(board, &query, &wanted)?
    };
    Ok(Live { source: format!("/live/runs{}", query.text()), revision: revision(&[&html]), html })
}

/// The same as `runs --json` says it.
pub(in crate::serve) fn data(board: &Board, query: &Query) -> Result<Reply, Refusal> {
    let wanted = Wanted::of(board, query)?;
    if !wanted.by.is_empty() {
        let (fields, groups) = grouped(board, &wanted)?;
        let said =
            json!({"store": board.name, "by": wanted.by, "fields": fields, "groups": groups});
        return Ok(Reply::json(&said));
    }
    let selected = board.store.select(&wanted.selection)?;
    let mut said = crate::runs::to_json(&board.name, &selected.runs);
    said["n_fit"] = json!(selected.n_fit);
    Ok(Reply::json(&said))
}

/// Every field there is to ask for.
pub(in crate::serve) fn fields(board: &Board) -> Result<Reply, Refusal> {
    Ok(Reply::json(&json!({"fields": board.store.fields()?})))
}

fn form(query: &Query) -> String {
    let value = |key: &'static str| escaped(&query.all(key).collect::<Vec<_>>().join(" "));
    let conditions: Vec<String> = query.all("where").map(|it| format!("({it})")).collect();
    let condition = match query.all("where").collect::<Vec<_>>()[..] {
        [only] => only.to_owned(),
        _ => conditions.join(" and "),
    };
    let option = |name: &str, word: &str| {
        let chosen = query.one("order").unwrap_or_default() == name;
        format!("<option value=\"{name}\"{}>{word}</option>", if chosen { " selected" } else { "" })
    };
    format!(
        "<form class=\"ask\" action=\"/\" method=\"get\" role=\"search\">\n\
         <label class=\"wide\">Where <input id=\"where\" name=\"where\" value=\"{}\" autocomplete=\"off\" \
         spellcheck=\"false\" placeholder=\"val_sparse.error_rate&gt;0 and model.n_layers&gt;=2\"></label>\n\
         <label>Sort by <input name=\"sort\" value=\"{}\" list=\"fields\" autocomplete=\"off\" spellcheck=\"false\" \
         placeholder=\"age\"></label>\n\
         <label>Order <select name=\"order\">{}{}{}</select></label>\n\
         <label>Show <input name=\"show\" value=\"{}\" list=\"fields\" autocomplete=\"off\" spellcheck=\"false\" \
         placeholder=\"the sets\"></label>\n\
         <label>Group by <input name=\"by\" value=\"{}\" list=\"fields\" autocomplete=\"off\" spellcheck=\"false\" \
         placeholder=\"arm\"></label>\n\
         <button>Ask</button> <a href=\"/\">Clear</a><datalist id=\"fields\"></datalist></form>\n",
        escaped(&condition),
        value("sort"),
        option("", "usual"),
        option("up", "smallest first"),
        option("down", "largest first"),
        value("show"),
        value("by"),
    )
}

/// `Runs 101 to 200 of 10 000`, and the ways to the pages beside.
fn pages(query: &Query, wanted: &Wanted, n_fit: usize, n_shown: usize) -> String {
    let count = |n: usize| number::count(n as u64);
    let Selection { skip, most, .. } = wanted.selection;
    let words = match n_shown {
        0 if n_fit == 0 => "No run fits.".to_owned(),
        0 => format!(
            "This page is behind the last of {}.",
            number::counted(n_fit as u64, "run", "runs")
        ),
        n if n == n_fit => format!("{}.", number::counted(n as u64, "run", "runs")),
        n => format!("Runs {} to {} of {}.", count(skip + 1), count(skip + n), count(n_fit)),
    };
    let link = |page: usize, word: &str, name: &str| {
        let address = escaped(&query.with("page", page).text());
        format!(" <a rel=\"{name}\" id=\"page-{name}\" href=\"/{address}\">{word}</a>")
    };
    let mut line = format!("<p class=\"pages\">{words}");
    if wanted.page > 1 {
        line += &link(wanted.page - 1, "Before", "prev");
    }
    if skip + most.unwrap_or(0) < n_fit {
        line += &link(wanted.page + 1, "Next", "next");
    }
    line + "</p>\n"
}

fn listing(board: &Board, query: &Query, wanted: &Wanted) -> Result<String, Refusal> {
    let selected = board.store.select(&wanted.selection)?;
    let runs = &selected.runs;
    if selected.n_fit == 0 {
        let asked: Vec<String> =
            wanted.selection.filters.iter().flat_map(|it| it.fields()).map(str::to_owned).collect();
        // Perhaps because a name is wrong.
        if let Some(field) = unknown_field(&board.store, &asked)? {
            return Err(Refusal::new(RefusalKind::Asked, no_such_field(&field)));
        }
        let empty = if wanted.selection.filters.is_empty() {
            "The store is empty. `mnemoscope demo` or `mnemoscope run STUDY` makes runs; they appear here as they begin."
        } else {
            "No run fits. Conditions are those of `mnemoscope runs --where`."
        };
        return Ok(format!("<p class=\"empty\">{empty}</p>\n"));
    }
    let columns = columns(wanted, runs);
    let mut html = format!(
        "<form id=\"chosen\" action=\"/compare\" method=\"get\">\n{}\
         <p class=\"choose\"><button>Compare the chosen</button> <span id=\"n-chosen\"></span></p>\n\
         <div class=\"scroll\"><table class=\"runs cards\"><thead><tr><th><span class=\"unseen\">choose</span></th>",
        pages(query, wanted, selected.n_fit, runs.len())
    );
    for column in &columns {
        html += &heading(query, column);
    }
    html += "</tr></thead><tbody>\n";
    let mut n_followed = 0;
    for run in runs {
        html += &row(board, run, &columns, &mut n_followed);
    }
    html += "</tbody></table></div>\n";
    html += &pages(query, wanted, selected.n_fit, runs.len());
    html += "<p class=\"note\">Errors are wrong answers of all sets together; a rate stands with its interval.</p>\n</form>\n";
    Ok(html)
}

/// A column of the listing.
enum Column {
    Id,
    Began,
    Status,
    Study,
    Arm,
    Seed,
    Errors,
    Set(String),
    Field(String),
}

impl Column {
    /// Its heading, and the field it is sorted by.
    fn words(&self) -> (String, Option<String>) {
        let (word, field) = match self {
            Self::Id => ("run", "id"),
            Self::Began => ("began", "created_secs"),
            Self::Status => ("status", "status"),
            Self::Study => ("study", "study"),
            Self::Arm => ("arm", "arm"),
            Self::Seed => ("seed", "seed"),
            Self::Errors => return ("errors".to_owned(), None),
            Self::Set(set) => return (set.clone(), Some(format!("result.eval.{set}.error_rate"))),
            Self::Field(field) => return (short(field).to_owned(), Some(field.clone())),
        };
        (word.to_owned(), Some(field.to_owned()))
    }

    fn class(&self) -> &'static str {
        match self {
            Self::Seed | Self::Errors => "number",
            Self::Set(_) => "rate",
            _ => "",
        }
    }
}

fn columns(wanted: &Wanted, runs: &[Listed]) -> Vec<Column> {
    let mut columns = vec![Column::Id, Column::Began, Column::Status];
    let has_study = runs.iter().any(|run| run.meta["study"].is_string());
    columns.extend(has_study.then_some(Column::Study));
    columns.extend([Column::Arm, Column::Seed]);
    if !wanted.show.is_empty() {
        columns.extend(wanted.show.iter().cloned().map(Column::Field));
        return columns;
    }
    columns.push(Column::Errors);
    let mut sets: Vec<&String> = Vec::new();
    for eval in runs.iter().filter_map(|run| run.result["eval"].as_object()) {
        for set in eval.keys() {
            if !sets.contains(&set) && sets.len() < 6 {
                sets.push(set);
            }
        }
    }
    sets.sort();
    columns.extend(sets.into_iter().cloned().map(Column::Set));
    columns
}

/// A heading that sorts by its column, and the other way round if it does so already.
fn heading(query: &Query, column: &Column) -> String {
    let (word, field) = column.words();
    let class = column.class();
    let Some(field) = field else {
        return format!("<th class=\"{class}\">{}</th>", escaped(&word));
    };
    let by_it = query.one("sort").map(full_path) == Some(full_path(&field));
    let up = by_it && query.one("order") != Some("down");
    let (order, aria) = match (by_it, up) {
        (true, true) => ("down", " aria-sort=\"ascending\""),
        (true, false) => ("up", " aria-sort=\"descending\""),
        (false, _) => ("up", ""),
    };
    let address = query.without("page").with("sort", &field).with("order", order).text();
    format!(
        "<th class=\"{class}\"{aria}><a id=\"by-{}\" href=\"/{}\">{}</a></th>",
        escaped(&encoded(&field)),
        escaped(&address),
        cell(&word, 40)
    )
}

fn row(board: &Board, run: &Listed, columns: &[Column], n_followed: &mut usize) -> String {
    let result = RunResult::from_json(&run.result).ok();
    // A run that is a link leads out of the store, and what is there is nobody's business.
    let is_link = board.is_link(&run.id);
    let status = match run.status {
        _ if is_link => "link".to_owned(),
        Some(status) => status.to_string(),
        None => "damaged".to_owned(),
    };
    let id = escaped(&run.id);
    let mut html = format!(
        "<tr><td class=\"pick\"><input type=\"checkbox\" name=\"run\" value=\"{id}\" id=\"pick-{id}\" aria-label=\"choose run \
         {id}\"{}></td>",
        if is_link || run.status.is_none() { " disabled" } else { "" }
    );
    for column in columns {
        let content = match column {
            Column::Id if is_link => format!("<code>{}</code>", cell(&run.id, 40)),
            Column::Id => run_link(&run.id),
            Column::Began => {
                run.created_secs.map_or_else(|| "-".to_owned(), date_of).replace(" UTC", "")
            }
            Column::Status => status_cell(board, run, &status, n_followed),
            Column::Study => word(&run.meta["study"]),
            Column::Arm => word(&run.meta["arm"]),
            Column::Seed => seed(&run.plan),
            Column::Errors => result.as_ref().map_or_else(|| "-".to_owned(), errors),
            Column::Set(set) => rate_cell(result.as_ref(), set),
            Column::Field(field) => value_cell(at(run, field)),
        };
        let (name, _) = column.words();
        html += &format!(
            "<td class=\"{}\" data-label=\"{}\">{content}</td>",
            column.class(),
            escaped(&name)
        );
    }
    html + "</tr>\n"
}

fn status_cell(board: &Board, run: &Listed, status: &str, n_followed: &mut usize) -> String {
    let mut html = badge(status);
    if let Some(problem) = &run.problem {
        html += &format!(" <span class=\"problem\">{}</span>", cell(problem, 60));
    }
    if status == "running" && *n_followed < MOST_FOLLOWED {
        *n_followed += 1;
        html += &board.run(&run.id).ok().and_then(|record| progress(&record)).unwrap_or_default();
    }
    html
}

/// How far a run has come: a bar and two numbers.
pub(super) fn progress(record: &RunReader) -> Option<String> {
    let steps = record.events().of_kind("loss").filter_map(|event| event.data["step"].as_u64());
    let (step, n_steps) = (steps.max().unwrap_or(0), record.plan()["train"]["n_steps"].as_u64()?);
    Some(format!(
        " <progress max=\"{n_steps}\" value=\"{step}\"></progress> <span class=\"steps\">step {} of {}</span>",
        number::count(step),
        number::count(n_steps)
    ))
}

fn rate_cell(result: Option<&RunResult>, set: &str) -> String {
    let measured = result.and_then(|result| result.eval.get(set));
    let Some(measured) = measured else { return "-".to_owned() };
    let rate = measured.error_rate.map_or_else(|| "-".to_owned(), number::rate);
    format!(
        "<span title=\"{} of {} wrong\">{rate}</span> <small>{}</small>",
        number::count(measured.n_errors),
        number::count(measured.n_trials),
        number::interval(measured.interval)
    )
}

/// What a path of a listed run leads to.
fn at(run: &Listed, path: &str) -> Value {
    let (first, rest) = path.split_once('.').unwrap_or((path, ""));
    let whole = match first {
        "id" => return json!(run.id),
        "created_secs" => return json!(run.created_secs),
        "status" => return json!(run.status),
        "problem" => return json!(run.problem),
        "plan" => &run.plan,
        "meta" => &run.meta,
        "result" => &run.result,
        _ => return Value::Null,
    };
    let step = |value: &Value, word: &str| match value {
        Value::Array(items) => word.parse::<usize>().ok().and_then(|idx| items.get(idx).cloned()),
        other => other.get(word).cloned(),
    };
    let words = rest.split('.').filter(|word| !word.is_empty());
    words.fold(whole.clone(), |value, word| step(&value, word).unwrap_or_default())
}

/// A label in a cell.
fn word(value: &Value) -> String {
    let text = value.as_str().filter(|text| !text.is_empty()).unwrap_or("-");
    cell(text, 48)
}

/// A value in a cell, as the table of the terminal sets it.
fn value_cell(value: Value) -> String {
    cell(&crate::runs::cell(&value), 48)
}

fn grouped(board: &Board, wanted: &Wanted) -> Result<(Vec<String>, Vec<Group>), Refusal> {
    let fields = if wanted.show.is_empty() { rates(&board.store)? } else { wanted.show.clone() };
    let rows = board.store.values(&wanted.all(), &[&wanted.by[..], &fields[..]].concat())?;
    Ok((fields, groups::group(&rows, wanted.by.len())))
}

fn grouping(board: &Board, query: &Query, wanted: &Wanted) -> Result<String, Refusal> {
    let (fields, groups) = grouped(board, wanted)?;
    let by: Vec<&str> = wanted.by.iter().map(|name| short(name)).collect();
    let mut html = format!(
        "<p class=\"pages\">{}; intervals are Student's, of the mean over runs.</p>\n\
         <div class=\"scroll\"><table><thead><tr><th>{}</th><th class=\"number\">runs</th><th>field</th>\
         <th class=\"number\">mean</th><th class=\"number\">median</th><th>95 % interval</th></tr></thead><tbody>\n",
        number::counted(groups.len() as u64, "group", "groups"),
        escaped(&by.join(", "))
    );
    let or_dash = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), number::rate);
    for group in &groups {
        let words: Vec<String> = group.by.iter().map(groups::word).collect();
        let address = query
            .without("by")
            .without("where")
            .without("page")
            .with("where", condition(query, wanted, group));
        let name = format!(
            "<a href=\"/{}\">{}</a>",
            escaped(&address.text()),
            cell(&words.join(", "), 60)
        );
        let mut first =
            format!("<td>{name}</td><td class=\"number\">{}</td>", number::count(group.n_runs));
        for (field, spread) in fields.iter().zip(&group.fields) {
            html += &format!(
                "<tr>{}<td>{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td><td>{}</td></tr>\n",
                std::mem::replace(&mut first, "<td></td><td></td>".to_owned()),
                cell(short(field), 60),
                or_dash(spread.mean),
                or_dash(spread.median),
                spread.interval.map_or_else(|| "-".to_owned(), number::interval)
            );
        }
        if fields.is_empty() {
            html += &format!("<tr>{first}<td></td><td></td><td></td><td></td></tr>\n");
        }
    }
    Ok(html + "</tbody></table></div>\n")
}

/// The condition that a run of a group fits.
fn condition(query: &Query, wanted: &Wanted, group: &Group) -> String {
    let asked = query.all("where").map(|it| format!("({it})"));
    // A value in quotes is read as JSON is, so any text can stand there.
    let is = wanted.by.iter().zip(&group.by).map(|(field, value)| format!("{field}={value}"));
    asked.chain(is).collect::<Vec<_>>().join(" and ")
}

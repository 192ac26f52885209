//! The list of runs in a store, one line each, damaged ones included.

use mnemoscope_store::Listed;
use serde_json::{Value, json};

use crate::groups::{short, word};
use crate::number;
use crate::result::RunResult;
use crate::sparkline;
use crate::table::{Align, Table};
use crate::text;

/// Sets of a run that the listing has room for.
const N_COLUMNS: usize = 6;

/// The page of a listing.
///
/// # Arguments
///
/// - `n_fit`: how many runs fit, of which these are the first.
///
/// # Example
///
/// ```
/// use mnemoscope_view::runs::page;
///
/// assert!(page("./runs", &[], 0).starts_with("No runs"));
/// ```
#[must_use]
pub fn page(store: &str, runs: &[Listed], n_fit: usize) -> String {
    if runs.is_empty() {
        return format!("No runs in {store} fit.\n");
    }
    let mut table = Table::new(&[
        ("run", Align::Left),
        ("created (UTC)", Align::Left),
        ("status", Align::Left),
        ("arm", Align::Wrapped),
        ("seed", Align::Right),
        ("errors", Align::Right),
        // No heading: a word would be wider than the three sets there usually are.
        ("", Align::Left),
    ]);
    let mut damaged = String::new();
    for run in runs {
        let result = RunResult::from_json(&run.result).ok();
        table.row([
            run.id.clone(),
            run.created_secs.map_or_else(|| "-".to_owned(), date_of).replace(" UTC", ""),
            run.status.map_or_else(|| "damaged".to_owned(), |status| status.to_string()),
            run.meta["arm"].as_str().filter(|arm| !arm.is_empty()).unwrap_or("-").to_owned(),
            seed(&run.plan),
            result.as_ref().map_or_else(|| "-".to_owned(), errors),
            result.as_ref().map_or_else(String::new, rates_line),
        ]);
        if let Some(problem) = &run.problem {
            damaged += &text::wrap(problem, crate::WIDTH, "  ");
        }
    }
    let mut page = table.to_string();
    let shown = shown_of(runs.len(), n_fit);
    let line = format!("{shown} in {store}; errors are wrong answers of all sets together");
    page += "\n";
    page += &text::wrap(&line, crate::WIDTH, "  ");
    page += &sets_words(runs);
    if !damaged.is_empty() {
        page += &format!("\nDamaged\n{damaged}");
    }
    page
}

/// How many runs are shown, and of how many.
fn shown_of(n_shown: usize, n_fit: usize) -> String {
    if n_shown == n_fit {
        return number::counted(n_fit as u64, "run", "runs");
    }
    format!(
        "the first {} of {}, `--limit` shows more,",
        number::count(n_shown as u64),
        number::counted(n_fit as u64, "run", "runs")
    )
}

/// The page of chosen fields, a line for each run.
///
/// # Arguments
///
/// - `fields`: the paths, the first the id.
/// - `rows`: as many values for each run.
/// - `n_fit`: how many runs fit, of which these are the first.
#[must_use]
pub fn table_page(store: &str, fields: &[String], rows: &[Vec<Value>], n_fit: usize) -> String {
    if rows.is_empty() {
        return format!("No runs in {store} fit.\n");
    }
    let columns: Vec<(&str, Align)> = fields
        .iter()
        .enumerate()
        .map(|(idx, field)| {
            let numbers = rows.iter().all(|row| row[idx].is_number() || row[idx].is_null());
            (short(field), if numbers { Align::Right } else { Align::Wrapped })
        })
        .collect();
    let mut table = Table::new(&columns);
    for row in rows {
        table.row(row.iter().map(cell));
    }
    format!("{table}\n  {} in {store}\n", shown_of(rows.len(), n_fit))
}

/// A value in a cell: of a number that is not whole, three digits.
pub(crate) fn cell(value: &Value) -> String {
    match value.as_f64() {
        Some(number) if !value.is_i64() && !value.is_u64() => number::rate(number),
        _ => word(value),
    }
}

/// The listing as JSON, with the fields of the table and the whole result of each sealed run.
#[must_use]
pub fn to_json(store: &str, runs: &[Listed]) -> Value {
    let runs: Vec<Value> = runs
        .iter()
        .map(|run| {
            json!({
                "run": run.id,
                "path": run.path,
                "status": run.status.map_or_else(|| "damaged".to_owned(), |s| s.to_string()),
                "created_secs": run.created_secs,
                "study": run.meta["study"],
                "arm": run.meta["arm"],
                "seeds": run.plan["seeds"],
                "eval": run.result["eval"],
                "problem": run.problem,
            })
        })
        .collect();
    json!({"store": store, "runs": runs})
}

pub(crate) fn seed(plan: &Value) -> String {
    plan["seeds"]["data"].as_u64().map_or_else(|| "-".to_owned(), |seed| seed.to_string())
}

/// Wrong answers of all sets together; a dash where nothing was measured.
pub(crate) fn errors(result: &RunResult) -> String {
    if result.eval.is_empty() {
        return "-".to_owned();
    }
    number::count(result.eval.values().map(|set| set.n_errors).sum())
}

/// A character a set for its error rate.
fn rates_line(result: &RunResult) -> String {
    let rates: Vec<f64> = result.eval.values().filter_map(|set| set.error_rate).collect();
    sparkline::log_rates(&rates, N_COLUMNS)
}

/// What the characters of [`rates_line`] stand for.
fn sets_words(runs: &[Listed]) -> String {
    let of_run = |run: &Listed| {
        let result = RunResult::from_json(&run.result).ok()?;
        (!result.eval.is_empty()).then(|| result.eval.into_keys().collect::<Vec<String>>())
    };
    let mut sets: Vec<Vec<String>> = runs.iter().filter_map(of_run).collect();
    sets.sort();
    sets.dedup();
    let which = match sets.as_slice() {
        [] => return String::new(),
        [only] if only.len() <= N_COLUMNS => {
            only.iter().map(|set| text::cut(set, 24)).collect::<Vec<_>>().join(", ")
        }
        _ => "sets in the order of their names".to_owned(),
    };
    text::wrap(
        &format!("right: error rates of {which}; {}", sparkline::LOG_LEGEND),
        crate::WIDTH,
        "  ",
    )
}

/// A stored time as a date.
pub(crate) fn date_of(unix_secs: f64) -> String {
    if !(0.0..=1e13).contains(&unix_secs) {
        return "-".to_owned();
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
    number::date(unix_secs as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::tests::result;
    use crate::text::assert_fits;
    use mnemoscope_store::Status;

    fn listed(id: &str, status: Option<Status>, arm: &str, errors: [u64; 3]) -> Listed {
        let sealed = status == Some(Status::Sealed);
        Listed {
            id: id.to_owned(),
            path: format!("./runs/{id}").into(),
            created_secs: Some(1_790_000_000.0),
            status,
            problem: status.is_none().then(|| {
                format!(
                    "./runs/{id}/events.jsonl is damaged at event 12: its checksum does not fit; \
                     restore it from a copy, or move the run away and run it again"
                )
            }),
            plan: json!({"seeds": {"data": 4, "model": 4}}),
            meta: json!({"study": "lstm-vs-transformer", "arm": arm}),
            result: match sealed {
                true => serde_json::to_value(result(id, arm, errors)).unwrap(),
                false => Value::Null,
            },
        }
    }

    #[test]
    fn a_listing_hides_no_damaged_run() {
        let runs = [
            listed("0123456789abcdef", Some(Status::Sealed), "lstm", [0, 0, 0]),
            listed("123456789abcdef0", Some(Status::Sealed), "transformer", [3, 12_000, 345_000]),
            listed("23456789abcdef01", Some(Status::Interrupted), "transformer", [0, 0, 0]),
            listed("3456789abcdef012", None, "", [0, 0, 0]),
        ];
        let page = page("./runs", &runs, 7_000);
        assert_fits(&page);
        insta::assert_snapshot!(page);
        let json = to_json("./runs", &runs);
        assert_eq!(json["runs"][3]["status"], "damaged");
        assert_eq!(json["runs"][1]["eval"]["val_sparse"]["n_errors"], 12_000);
    }

    #[test]
    fn a_time_that_is_none_is_not_shown_as_one() {
        assert_eq!(date_of(f64::NAN), "-");
        assert_eq!(date_of(-1.0), "-");
        assert_eq!(date_of(0.0), "1970-01-01 00:00 UTC");
    }
}

//! Many runs in a line each: what belongs together, with mean, median and interval over its runs.

use mnemoscope_stats::mean::Mean;
use serde::Serialize;
use serde_json::Value;

use crate::number;
use crate::table::{Align, Table};
use crate::text;

/// Confidence of the intervals.
const CONFIDENCE: f64 = 0.95;

/// Runs that agree in what they are grouped by.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Group {
    /// What they agree in, a value for each field.
    pub by: Vec<Value>,
    /// How many there are.
    pub n_runs: u64,
    /// Each field that was asked for.
    pub fields: Vec<Spread>,
}

/// How one number is spread over runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Runs that have the number.
    pub n: u64,
    /// Their mean; `None` if there is none.
    pub mean: Option<f64>,
    /// The one in the middle.
    pub median: Option<f64>,
    /// Student's interval of the mean, 95 %; `None` below two runs.
    pub interval: Option<[f64; 2]>,
}

/// Groups rows, each the values grouped by and then those of the fields, in the order in which groups first come.
///
/// # Example
///
/// ```
/// use mnemoscope_view::groups::group;
/// use serde_json::json;
///
/// let rows = [vec![json!("lstm"), json!(1.0)], vec![json!("gpt"), json!(5.0)], vec![json!("lstm"), json!(3.0)]];
/// let groups = group(&rows, 1);
/// assert_eq!((groups.len(), groups[0].n_runs, groups[0].fields[0].mean), (2, 2, Some(2.0)));
/// assert_eq!(groups[1].fields[0].interval, None);
/// ```
#[must_use]
pub fn group(rows: &[Vec<Value>], n_by: usize) -> Vec<Group> {
    let mut places = std::collections::BTreeMap::new();
    let mut collected: Vec<(Vec<Value>, Vec<&[Value]>)> = Vec::new();
    for row in rows {
        let (by, fields) = row.split_at(n_by);
        let key = serde_json::to_string(by).unwrap_or_default();
        let place = *places.entry(key).or_insert_with(|| {
            collected.push((by.to_vec(), Vec::new()));
            collected.len() - 1
        });
        collected[place].1.push(fields);
    }
    let of = |(by, rows): (Vec<Value>, Vec<&[Value]>)| {
        let n_fields = rows.first().map_or(0, |row| row.len());
        let field = |idx: usize| spread(rows.iter().filter_map(|row| row[idx].as_f64()).collect());
        Group { by, n_runs: rows.len() as u64, fields: (0..n_fields).map(field).collect() }
    };
    collected.into_iter().map(of).collect()
}

fn spread(mut numbers: Vec<f64>) -> Spread {
    numbers.sort_by(f64::total_cmp);
    let mean: Mean = numbers.iter().copied().collect();
    let n = mean.n_trials();
    let interval = (n > 1).then(|| mean.interval(CONFIDENCE));
    Spread {
        n,
        mean: (n > 0).then(|| mean.mean()),
        median: (n > 0).then(|| median(&numbers)),
        interval: interval.map(|interval| [interval.low, interval.high]),
    }
}

/// The middle of sorted values; of an even number, halfway between the two in the middle.
pub(crate) fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    } else {
        sorted[middle]
    }
}

/// The page of groups: a line for each group and field.
#[must_use]
pub fn page(by: &[String], fields: &[String], groups: &[Group]) -> String {
    let heading = by.join(", ");
    let mut table = Table::new(&[
        (&heading, Align::Wrapped),
        ("runs", Align::Right),
        ("field", Align::Left),
        ("mean", Align::Right),
        ("median", Align::Right),
        ("95 % interval", Align::Left),
    ]);
    let or_dash = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), number::rate);
    for group in groups {
        let words: Vec<String> = group.by.iter().map(word).collect();
        let mut first = words.join(", ");
        for (name, spread) in fields.iter().zip(&group.fields) {
            table.row([
                std::mem::take(&mut first),
                spread.n.to_string(),
                short(name).to_owned(),
                or_dash(spread.mean),
                or_dash(spread.median),
                spread.interval.map_or_else(|| "-".to_owned(), number::interval),
            ]);
        }
    }
    let groups = number::counted(groups.len() as u64, "group", "groups");
    let words = format!("{groups}; intervals are Student's, of the mean over runs");
    format!("{table}\n{}", text::wrap(&words, crate::WIDTH, "  "))
}

/// A value in a cell.
#[must_use]
pub fn word(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A field without what all fields of a result begin with.
pub(crate) fn short(name: &str) -> &str {
    let without = |prefix: &str| name.strip_prefix(prefix);
    without("result.eval.")
        .or_else(|| without("plan."))
        .or_else(|| without("meta."))
        .unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::assert_fits;
    use serde_json::json;

    #[test]
    fn groups_stand_in_order_with_mean_median_and_interval() {
        let row = |arm: &str, rate: Value, secs: f64| vec![json!(arm), rate, json!(secs)];
        let rows = [
            row("lstm", json!(0.0), 4.0),
            row("transformer with a long name", json!(0.25), 9.0),
            row("lstm", json!(0.0), 5.0),
            row("lstm", json!(3e-5), 9.0),
            row("transformer with a long name", json!(null), 9.5),
        ];
        let groups = group(&rows, 1);
        let fields =
            ["result.eval.val_sparse.error_rate", "result.train.wall_secs"].map(str::to_owned);
        let page = page(&["meta.arm".to_owned()], &fields, &groups);
        assert_fits(&page);
        insta::assert_snapshot!(page);
        assert_eq!(groups[1].fields[0], spread(vec![0.25]));
        assert_eq!(groups[1].fields[0].n, 1);
    }
}

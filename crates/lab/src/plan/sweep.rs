//! `[sweep]`: lists and ranges of values, and every combination of them.
//!
//! ```toml
//! [sweep]
//! seed = { count = 25 }                            # 0 to 24
//! "model.n_layers" = [1, 2, 4, 6]
//! train.n_steps = { from = 1_000, to = 5_000, step = 1_000 }
//! zip = [{ "model.d_model" = [64, 128], "train.lr" = [1e-3, 3e-4] }]
//! ```
//!
//! A range includes both its ends. What stands in one table of `zip` goes together, value by value, and is one axis.

use super::complaint::{Fault, Place};
use super::reader::{Allowed, Notes, Section, as_written, whole_of};
use super::section::TOP;
use super::tree::{self, Node, Table, Value};

/// More plans than this are a slip of the pen.
const MAX_PLANS: usize = 100_000;

/// Paths that may differ within an arm.
const SEEDS: [&str; 4] = ["seed", "data_seed", "model_seed", "eval_seed"];

/// Paths that move together, each with as many values; most axes have one path.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    columns: Vec<Column>,
}

/// One swept path with its values.
#[derive(Clone, Debug)]
struct Column {
    path: Vec<String>,
    key_place: Place,
    values: Vec<Node>,
}

/// One combination of values.
#[derive(Clone, Debug)]
pub(crate) struct Point {
    /// The values as a part of a spec.
    pub(crate) spec: Table,
    /// What tells this point's arm from the others; empty if only seeds are swept.
    pub(crate) label: String,
}

/// Reads the axes of a sweep, those of the slowest first: as written, seeds last.
pub(crate) fn read_axes(mut sweep: Section<'_, '_>, notes: &Notes<'_>) -> Vec<Axis> {
    let mut axes: Vec<Axis> = sweep
        .tables("zip")
        .unwrap_or_default()
        .iter()
        .filter_map(|zip| read_zip(zip, notes))
        .collect();
    let mut single = sweep.values().clone();
    single.remove("zip");
    let mut columns = Vec::new();
    collect(&single, "sweep", &[], notes, &mut columns);
    axes.extend(columns.into_iter().map(|column| Axis { columns: vec![column] }));
    axes.sort_by_key(|axis| (axis.is_seed(), axis.key_place()));
    let columns: Vec<&Column> = axes.iter().flat_map(|axis| &axis.columns).collect();
    for (idx, column) in columns.iter().enumerate() {
        if columns.iter().take(idx).any(|other| other.path == column.path) {
            let message = "swept twice; join the two lists".to_owned();
            let path = format!("sweep.{}", column.path.join("."));
            notes.complain(Fault::Together, &path, column.key_place, message);
        }
    }
    axes
}

/// Reads a table of paths that move together; `None` if it holds none, or lists of several lengths.
fn read_zip(zip: &Section<'_, '_>, notes: &Notes<'_>) -> Option<Axis> {
    let mut columns = Vec::new();
    collect(zip.values(), zip.path(), &[], notes, &mut columns);
    columns.sort_by_key(|column: &Column| column.key_place);
    let n_values = columns.first()?.values.len();
    let other = columns.iter().find(|column| column.values.len() != n_values);
    if let Some(other) = other {
        let (first, last) = (columns[0].path.join("."), other.path.join("."));
        let n_other = other.values.len();
        let message = format!(
            "{first} has {n_values} and {last} {n_other} values; what goes together has as many of each"
        );
        notes.complain(Fault::Together, zip.path(), zip.place(), message);
        return None;
    }
    Some(Axis { columns })
}

/// Finds the swept paths below `prefix`: a table is a range if its keys are those of a range, and a part
/// of a path otherwise.
fn collect(
    table: &Table,
    within: &str,
    prefix: &[String],
    notes: &Notes<'_>,
    columns: &mut Vec<Column>,
) {
    for (key, entry) in table {
        let mut path = prefix.to_vec();
        path.extend(key.split('.').map(str::to_owned));
        let spec_path = format!("{within}.{}", path.join("."));
        let complain = |fault, message| {
            notes.complain(fault, &spec_path, entry.node.place, message);
        };
        if path.first().is_some_and(|first| TOP.contains(&first.as_str())) {
            let message = "cannot be swept; swept are seeds and the values of task, model, train \
                           and eval";
            complain(Fault::Key, message.to_owned());
            continue;
        }
        let values = match &entry.node.value {
            Value::List(items) if items.is_empty() => {
                complain(Fault::Value, "found an empty list; give at least one value".to_owned());
                continue;
            }
            Value::List(items) => items.clone(),
            Value::Table(range) if is_range(range) => {
                let section = Section::new(spec_path.clone(), range, entry.node.place, notes);
                match read_range(section, entry.node.place) {
                    Ok(values) => values,
                    Err(message) => {
                        complain(Fault::Value, message);
                        continue;
                    }
                }
            }
            Value::Table(inner) => {
                collect(inner, within, &path, notes, columns);
                continue;
            }
            found => {
                let message = format!(
                    "found {found}; allowed: a list of values, {{ count = 25 }}, or \
                     {{ from = 1, to = 9, step = 2 }}"
                );
                complain(Fault::Value, message);
                continue;
            }
        };
        columns.push(Column { path, key_place: entry.key_place, values });
    }
}

/// Whether a table of a sweep is a range of values rather than a part of a path.
fn is_range(table: &Table) -> bool {
    let means_range = |key: &String| matches!(key.as_str(), "count" | "from" | "to" | "step");
    table.keys().any(means_range)
}

/// The values of `{ count, from }` or `{ from, to, step }`.
///
/// # Errors
///
/// What is wrong with the range as a whole; what is wrong with one number is noted.
fn read_range(mut range: Section<'_, '_>, place: Place) -> Result<Vec<Node>, String> {
    let of = |numbers: Vec<Value>| numbers.into_iter().map(|value| Node { value, place }).collect();
    if range.has("count") {
        let count = range.whole("count", 1, 1..=MAX_PLANS as u64);
        let from = range.whole("from", 0, 0..=u64::MAX - MAX_PLANS as u64);
        range.finish();
        return Ok(of((from..from + count).map(|n| Value::Whole(i128::from(n))).collect()));
    }
    let mut end = |key: &'static str, default: f64| {
        let whole = range
            .get(key)
            .map_or_else(|| whole_of(&Value::Real(default)), |node| whole_of(&node.value));
        (range.real(key, default, Allowed::ANY), whole)
    };
    let (from, whole_from) = end("from", 0.0);
    let (to, whole_to) = end("to", f64::NAN);
    let (step, whole_step) = end("step", 1.0);
    range.know("count");
    range.finish();
    if to.is_nan() {
        return Err("a range needs its end, such as { from = 1, to = 9, step = 2 }".to_owned());
    }
    if step.abs() <= 0.0 || (to - from) / step < 0.0 {
        return Err(format!("no step of {step} leads from {from} to {to}; turn its sign"));
    }
    // A hair beyond the end is the end: 0.1 + 0.2 must not lose the last value of a range.
    let n_steps = ((to - from) / step + 1e-9).floor();
    if n_steps >= MAX_PLANS as f64 {
        return Err(format!("more than {MAX_PLANS} values; take larger steps"));
    }
    let n_values = n_steps as usize + 1;
    Ok(of(match (whole_from, whole_to, whole_step) {
        (Some(from), Some(_), Some(step)) => {
            (0..n_values as i128).map(|idx| Value::Whole(from + idx * step)).collect()
        }
        _ => (0..n_values).map(|idx| Value::Real(as_written(from + idx as f64 * step))).collect(),
    }))
}

impl Axis {
    fn is_seed(&self) -> bool {
        self.columns.iter().all(Column::is_seed)
    }

    fn key_place(&self) -> Option<Place> {
        self.columns.iter().map(|column| column.key_place).min()
    }

    fn n_values(&self) -> usize {
        self.columns.first().map_or(1, |column| column.values.len())
    }

    /// What is left of the axis where `set`, a part of a spec, decides some of its paths.
    pub(crate) fn left_open_by(mut self, set: &Table) -> Option<Self> {
        self.columns.retain(|column| !column.is_decided_by(set));
        (!self.columns.is_empty()).then_some(self)
    }
}

impl Column {
    fn is_seed(&self) -> bool {
        matches!(self.path.as_slice(), [only] if SEEDS.contains(&only.as_str()))
    }

    /// Whether `set`, a part of a spec, says the swept value or a part of it.
    fn is_decided_by(&self, set: &Table) -> bool {
        let mut table = set;
        for name in &self.path {
            match table.get(name).map(|entry| &entry.node.value) {
                Some(Value::Table(inner)) => table = inner,
                Some(_) => return true,
                None => return false,
            }
        }
        true
    }

    /// The short name of the path among those of `axes`: its last word, unless two share it.
    fn short_name(&self, axes: &[Axis]) -> String {
        let last = self.path.last();
        let columns = axes.iter().flat_map(|axis| &axis.columns);
        let shared = columns.filter(|other| other.path.last() == last).count() > 1;
        match last {
            Some(last) if !shared => last.clone(),
            _ => self.path.join("."),
        }
    }
}

/// Every combination of the axes' values, the last axis fastest; one empty point if there is none.
///
/// # Errors
///
/// If there are more than anybody means to run.
pub(crate) fn points(axes: &[Axis], n_arms: usize) -> Result<Vec<Point>, String> {
    let n_points = axes
        .iter()
        .try_fold(1_usize, |n, axis| n.checked_mul(axis.n_values()))
        .filter(|n| n.checked_mul(n_arms.max(1)).is_some_and(|n| n <= MAX_PLANS));
    let Some(n_points) = n_points else {
        return Err(format!("the sweep makes more than {MAX_PLANS} plans; shorten its lists"));
    };
    let point = |mut rest: usize| {
        let mut spec = Table::new();
        let mut labels = Vec::new();
        let mut stride = n_points;
        for axis in axes {
            stride /= axis.n_values();
            let idx = rest / stride;
            rest %= stride;
            for column in &axis.columns {
                let node = &column.values[idx];
                tree::insert(&mut spec, &column.path, column.key_place, node.clone());
                if !column.is_seed() {
                    labels.push(format!("{}={}", column.short_name(axes), label(&node.value)));
                }
            }
        }
        Point { spec, label: labels.join(" ") }
    };
    Ok((0..n_points).map(point).collect())
}

/// A value as a part of an arm's name.
fn label(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        Value::Real(number) => format!("{number}"),
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(|item| label(&item.value)).collect();
            format!("[{}]", items.join(","))
        }
        Value::Table(table) => {
            let of = |(key, entry): (&String, &tree::Entry)| {
                format!("{key}={}", label(&entry.node.value))
            };
            let entries: Vec<String> = table.iter().map(of).collect();
            format!("{{{}}}", entries.join(","))
        }
        other => other.to_string(),
    }
}

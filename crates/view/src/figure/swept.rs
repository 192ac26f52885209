//! Which two things a sweep changed, and the error rates over them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::of_records::Source;
use super::spread::quantile;
use super::{Axis, Cell, Figure, Grid, Kind, Measured, Plot, Share, plain};

/// What differs between the plans of runs, run by run: paths that divide the runs alike are one thing.
struct Thing {
    path: String,
    /// Which of the values each run has.
    idx_of_run: Vec<usize>,
    values: Vec<String>,
}

/// The figure of a set, or nothing where the runs do not differ in two things.
pub(super) fn figures(runs: &[Source], sets: &[&str]) -> Vec<Figure> {
    match axes(runs) {
        Ok([x, y]) => sets.iter().filter_map(|set| figure(runs, set, &x, &y)).collect(),
        Err(_) => Vec::new(),
    }
}

/// Why there is no heat map of these runs.
pub(super) fn why_not(runs: &[Source]) -> String {
    let why = axes(runs).err().unwrap_or_else(|| "no run of these measured a set".to_owned());
    format!("a heat map needs runs whose plans differ in two things besides their seeds; {why}")
}

fn axes(runs: &[Source]) -> Result<[Thing; 2], String> {
    let mut things = things(runs);
    if things.len() < 2 {
        let words = match things.first() {
            None => "these differ in none".to_owned(),
            Some(thing) => format!("these differ in {} alone", thing.path),
        };
        return Err(words);
    }
    // A pair of which each leaves the other open, and which decides everything else; the smallest such grid.
    let mut best: Option<(usize, usize, usize)> = None;
    for one in 0..things.len() {
        for other in one + 1..things.len() {
            let (a, b) = (&things[one], &things[other]);
            let crossed = !decides(&[a], b) && !decides(&[b], a);
            let n_cells = a.values.len() * b.values.len();
            let decides_all = || things.iter().all(|thing| decides(&[a, b], thing));
            if crossed && best.is_none_or(|(_, _, n)| n_cells < n) && decides_all() {
                best = Some((one, other, n_cells));
            }
        }
    }
    let Some((one, other, _)) = best else {
        let paths: Vec<&str> = things.iter().map(|thing| thing.path.as_str()).take(6).collect();
        return Err(format!(
            "these differ in {}, and no two of them decide the rest",
            paths.join(", ")
        ));
    };
    let second = things.swap_remove(other);
    let first = things.swap_remove(one);
    // More columns than rows: pages are wider than tall.
    Ok(if first.values.len() >= second.values.len() { [first, second] } else { [second, first] })
}

/// Whether runs that agree in these things agree in `thing`.
fn decides(these: &[&Thing], thing: &Thing) -> bool {
    let mut seen: BTreeMap<Vec<usize>, usize> = BTreeMap::new();
    (0..thing.idx_of_run.len()).all(|run| {
        let key = these.iter().map(|it| it.idx_of_run[run]).collect();
        let idx = thing.idx_of_run[run];
        *seen.entry(key).or_insert(idx) == idx
    })
}

fn things(runs: &[Source]) -> Vec<Thing> {
    let leaves: Vec<BTreeMap<String, String>> = runs
        .iter()
        .map(|run| {
            let mut leaves = BTreeMap::new();
            collect(&run.page.plan, "", &mut leaves);
            leaves
        })
        .collect();
    let paths: BTreeSet<&String> = leaves.iter().flat_map(BTreeMap::keys).collect();
    let mut things: Vec<Thing> = Vec::new();
    for path in paths {
        let values: Vec<&str> =
            leaves.iter().map(|it| it.get(path).map_or("-", String::as_str)).collect();
        let distinct = in_order(&values);
        if distinct.len() < 2 {
            continue;
        }
        let place = |value: &&str| distinct.iter().position(|it| it == value).unwrap_or(0);
        let idx_of_run: Vec<usize> = values.iter().map(place).collect();
        let values: Vec<String> = distinct.into_iter().map(str::to_owned).collect();
        let thing = Thing { path: path.clone(), idx_of_run, values };
        match things.iter_mut().find(|known| decides(&[known], &thing) && decides(&[&thing], known))
        {
            None => things.push(thing),
            Some(known) if is_better(runs, &thing, known) => *known = thing,
            Some(_) => {}
        }
    }
    things
}

/// Of paths that divide runs alike, what the spec names says more than what follows from it; else the shorter one.
fn is_better(runs: &[Source], thing: &Thing, known: &Thing) -> bool {
    let named = |path: &str| {
        let last = path.rsplit('.').next().unwrap_or(path);
        runs.iter().any(|run| run.swept.iter().any(|it| it == path || it == last))
    };
    let rank = |thing: &Thing| (!named(&thing.path), thing.path.len());
    rank(thing) < rank(known)
}

/// Numbers by their size, words as they first come.
fn in_order<'a>(values: &[&'a str]) -> Vec<&'a str> {
    let mut distinct: Vec<&str> = Vec::new();
    for value in values {
        if !distinct.contains(value) {
            distinct.push(value);
        }
    }
    let number = |value: &str| value.parse::<f64>().ok();
    if distinct.iter().all(|value| number(value).is_some()) {
        distinct.sort_by(|a, b| number(a).unwrap_or(0.0).total_cmp(&number(b).unwrap_or(0.0)));
    }
    distinct
}

/// Every value of a plan by its path; seeds are what runs of one cell differ in.
fn collect(value: &Value, path: &str, leaves: &mut BTreeMap<String, String>) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Object(members) => {
            for (key, member) in
                members.iter().filter(|(key, _)| !path.is_empty() || *key != "seeds")
            {
                collect(member, &below(key), leaves);
            }
        }
        Value::Array(items) if items.iter().any(|it| it.is_object() || it.is_array()) => {
            for (idx, item) in items.iter().enumerate() {
                collect(item, &below(&idx.to_string()), leaves);
            }
        }
        Value::String(word) => drop(leaves.insert(path.to_owned(), word.clone())),
        other => drop(leaves.insert(path.to_owned(), other.to_string())),
    }
}

fn figure(runs: &[Source], set: &str, x: &Thing, y: &Thing) -> Option<Figure> {
    let mut cells: Vec<Cell> = Vec::new();
    for row in 0..y.values.len() {
        for column in 0..x.values.len() {
            let of_cell = runs.iter().enumerate();
            let of_cell = of_cell
                .filter(|(run, _)| (x.idx_of_run[*run], y.idx_of_run[*run]) == (column, row));
            let rates: Vec<Measured> = of_cell.filter_map(|(_, run)| run.measured(set)).collect();
            let mut sorted: Vec<f64> = rates.iter().map(|rate| rate.error_rate).collect();
            sorted.sort_by(f64::total_cmp);
            if !sorted.is_empty() {
                let n_flawless = rates.iter().filter(|rate| rate.n_errors == 0).count();
                let flawless = Share::of(n_flawless as u64, rates.len() as u64);
                cells.push(Cell { column, row, rates, median: quantile(&sorted, 0.5), flawless });
            }
        }
    }
    let axis = |thing: &Thing| Axis { path: thing.path.clone(), values: thing.values.clone() };
    (!cells.is_empty()).then(|| Figure {
        kind: Kind::Heat,
        name: format!("heat-{}", plain(set)),
        title: format!("Error rate on {set} by {} and {}", x.path, y.path),
        caption: "A cell for each pair of values: the median error rate of its runs, which differ in their seeds \
                  alone, the darker the higher. White: no error. Crossed out: no measured run. Counts and intervals \
                  where the mouse points."
            .to_owned(),
        plot: Plot::Grid(Grid { set: set.to_owned(), x: axis(x), y: axis(y), cells }),
    })
}

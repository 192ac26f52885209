//! Curves of what was probed while a run was trained: every share in its probe events, by its path.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::of_records::{Source, line_words};
use super::{Counted, Curves, Figure, Kind, Line, Plot, Point, Published, Scale, Share, plain};
use crate::number;
use crate::published;

/// Probed shares by their path, such as `memory.w_o2`, and then by step.
///
/// A share is an object with `n_right` and `n`; what else a record holds of mechanism is not a rate and has
/// no curve yet.
pub type Probes = BTreeMap<String, Vec<(u64, Share)>>;

/// Of no more paths than this a report has a figure, besides the published ones.
const MOST: usize = 24;

/// Reads the data of probe events.
pub(super) fn of<'a>(events: impl Iterator<Item = &'a Value>) -> Probes {
    let mut probes = Probes::new();
    for data in events {
        if let Some(step) = data["step"].as_u64() {
            collect(data, "", step, &mut probes);
        }
    }
    probes
}

fn collect(value: &Value, path: &str, step: u64, probes: &mut Probes) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Object(members) => {
            if let (Some(n_some), Some(n)) = (value["n_right"].as_u64(), value["n"].as_u64()) {
                if n > 0 {
                    probes.entry(path.to_owned()).or_default().push((step, Share::of(n_some, n)));
                }
                return;
            }
            for (key, member) in members {
                collect(member, &below(key), step, probes);
            }
        }
        Value::Array(items) => {
            for (idx, item) in items.iter().enumerate() {
                collect(item, &below(&idx.to_string()), step, probes);
            }
        }
        _ => {}
    }
}

/// A figure for each path, and whether something published stands beside it.
pub(super) fn figures(runs: &[Source], published: &[published::Curve]) -> Vec<(Figure, bool)> {
    let mut paths: BTreeSet<&str> = published.iter().map(|curve| curve.probe.as_str()).collect();
    let others = runs.iter().flat_map(|run| run.probes.keys()).map(String::as_str);
    let others: BTreeSet<&str> = others.filter(|path| !paths.contains(path)).collect();
    paths.extend(others.into_iter().take(MOST));
    paths.into_iter().filter_map(|path| figure(runs, published, path)).collect()
}

fn figure(runs: &[Source], published: &[published::Curve], path: &str) -> Option<(Figure, bool)> {
    let line = |run: &Source| -> Option<Line> {
        let points = run.probes.get(path)?.iter();
        let points: Vec<Point> =
            points.map(|(step, share)| share.at(number::to_f64(*step))).collect();
        let seed = run.page.plan["seeds"]["data"].as_u64().map(|seed| seed.to_string());
        let run_id = Some(run.page.id.clone());
        (!points.is_empty()).then(|| Line { arm: run.arm.clone(), run: run_id, seed, points })
    };
    let lines: Vec<Line> = runs.iter().filter_map(line).collect();
    let beside: Vec<Published> =
        published.iter().filter(|curve| curve.probe == path).filter_map(points_of).collect();
    if lines.is_empty() {
        return None;
    }
    let has_published = !beside.is_empty();
    let beside_words =
        if has_published { "Hollow marks: what was published, not measured here. " } else { "" };
    let figure = Figure {
        kind: Kind::Probe,
        name: format!("probe-{}", plain(path)),
        title: format!("{path} while training"),
        caption: format!(
            "{}{beside_words}Counts and intervals ({} %, Clopper-Pearson) where the mouse points.",
            line_words(&lines),
            super::CONFIDENCE * 100.0
        ),
        plot: Plot::Curves(Curves {
            published: beside,
            ..Curves::new(path, Scale::Share, Counted::Cases, lines)
        }),
    };
    Some((figure, has_published))
}

/// Published points at the steps they belong to: iteration `i` is what a run has at step `i + 1`.
fn points_of(curve: &published::Curve) -> Option<Published> {
    let point = |pair: &published::Pair| Some([number::to_f64(pair.at) + 1.0, pair.published?]);
    let points: Vec<[f64; 2]> = curve.pairs.iter().filter_map(point).collect();
    (!points.is_empty()).then(|| Published {
        arm: curve.arm.clone(),
        source: curve.source.clone(),
        points,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn shares_are_found_at_any_depth_and_empty_ones_left_out() {
        let events = [json!({
            "step": 1,
            "memory": {"w_o2": {"n_right": 3, "n": 65}},
            "reads": {"heads": [{"max": {"n_right": 1, "n": 4}}]},
            "attention": {"repeat": {"n_right": 0, "n": 0}},
            "norms": {"param": {"w": 6.5}},
        })];
        let probes = of(events.iter());
        let paths: Vec<&str> = probes.keys().map(String::as_str).collect();
        assert_eq!(paths, ["memory.w_o2", "reads.heads.0.max"]);
        assert_eq!(probes["memory.w_o2"], [(1, Share::of(3, 65))]);
    }
}

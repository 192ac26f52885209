//! Norms of params and gradients over training, from the probe events of records.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::of_records::{Source, arms};
use super::{Counted, Curves, Figure, Kind, Line, Plot, Point, Scale, plain};
use crate::number;

/// Norms by what they are of (`param` or `grad`), then by the name of the param, then by step.
pub type Norms = BTreeMap<String, BTreeMap<String, Vec<(u64, f64)>>>;

/// Params up to which each is a band of its own; of more, those of one name in all layers are.
const MOST_NAMES: usize = 6;
/// Params, or names in all layers, that a report has figures of where there are several arms.
const MOST_FIGURES: usize = 12;

/// Reads the data of probe events.
pub(super) fn of<'a>(events: impl Iterator<Item = &'a Value>) -> Norms {
    let mut norms = Norms::new();
    for data in events {
        let Some(step) = data["step"].as_u64() else { continue };
        for what in ["param", "grad"] {
            let Some(of) = data["norms"][what].as_object() else { continue };
            for (name, norm) in of {
                let Some(norm) = norm.as_f64().filter(|norm| norm.is_finite()) else { continue };
                let names = norms.entry(what.to_owned()).or_default();
                names.entry(name.clone()).or_default().push((step, norm));
            }
        }
    }
    norms
}

/// Of one arm a figure of all its params, of several a figure of each param with an arm beside the other.
pub(super) fn figures(runs: &[Source]) -> Vec<Figure> {
    let mut figures = Vec::new();
    for what in ["param", "grad"] {
        let with: Vec<&Source> = runs.iter().filter(|run| run.norms.contains_key(what)).collect();
        let names: BTreeSet<&str> =
            with.iter().flat_map(|run| run.norms[what].keys()).map(String::as_str).collect();
        let whole = names.len() <= MOST_NAMES;
        let group = |name: &str| if whole { name.to_owned() } else { in_all_layers(name) };
        match arms(runs).len() {
            _ if names.is_empty() => {}
            1 => figures.push(figure(what, None, lines(&with, what, &|_, name| Some(group(name))))),
            _ => {
                let groups: BTreeSet<String> = names.iter().map(|name| group(name)).collect();
                for chosen in groups.into_iter().take(MOST_FIGURES) {
                    let arm =
                        |run: &Source, name: &str| (group(name) == chosen).then(|| run.arm.clone());
                    figures.push(figure(what, Some(&chosen), lines(&with, what, &arm)));
                }
            }
        }
    }
    figures
}

/// A name with every number in it left open: `blocks.*.attn.qkv.weight`.
fn in_all_layers(name: &str) -> String {
    let part = |part: &str| match part.bytes().all(|byte| byte.is_ascii_digit()) {
        true => "*".to_owned(),
        false => part.to_owned(),
    };
    name.split('.').map(part).collect::<Vec<_>>().join(".")
}

/// A line for each run and param that `name_of` gives a name.
fn lines(
    runs: &[&Source],
    what: &str,
    name_of: &dyn Fn(&Source, &str) -> Option<String>,
) -> Vec<Line> {
    let mut lines = Vec::new();
    for run in runs {
        for (name, norms) in &run.norms[what] {
            let Some(arm) = name_of(run, name) else { continue };
            let point = |&(step, y): &(u64, f64)| Point {
                n: Some(1),
                ..Point::new(number::to_f64(step), y)
            };
            // Which param it is stands where other figures have the seed, if the name of the line leaves it open.
            let param = if arm == *name { None } else { Some(name.as_str()) };
            let seed = match (run.seed(), param) {
                (Some(seed), Some(param)) => Some(format!("{seed}, {param}")),
                (seed, param) => seed.or_else(|| param.map(str::to_owned)),
            };
            let points = norms.iter().map(point).collect();
            lines.push(Line { arm, run: Some(run.page.id.clone()), seed, points });
        }
    }
    lines
}

fn figure(what: &str, of: Option<&str>, lines: Vec<Line>) -> Figure {
    let (word, when) = match what {
        "grad" => ("gradient", "before the step and before clipping"),
        _ => ("parameter", "after the step"),
    };
    let one = |of: &str| (format!("-{}", plain(of)), format!(" of {of}"));
    let (in_name, in_title) = of.map(one).unwrap_or_default();
    Figure {
        kind: Kind::Norms,
        name: format!("norms-{what}{in_name}"),
        title: format!("Norms of {word}s{in_title} while training"),
        caption: format!(
            "Euclidean norm over all numbers of a {word}, {when}. A line a run and {word}; a star in a name is every \
             layer, and three lines of a name or more have their median and a band ({}; quartiles from {} lines on).",
            super::Spread::Range.words(),
            super::QUARTILES_FROM
        ),
        plot: Plot::Curves(Curves::new(
            &format!("norm of the {word}"),
            Scale::Wide,
            Counted::Norms,
            lines,
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn norms_are_read_by_param_and_step_and_others_left_out() {
        let events = [
            json!({"step": 1, "norms": {"param": {"w": 6.5, "v": null}, "grad": {"w": 0.5}}}),
            json!({"step": 6, "norms": {"param": {"w": 6.0}}}),
            json!({"norms": {"param": {"w": 7.0}}}),
        ];
        let norms = of(events.iter());
        assert_eq!(norms["param"]["w"], [(1, 6.5), (6, 6.0)]);
        assert_eq!(norms["grad"]["w"], [(1, 0.5)]);
        assert_eq!(norms["param"].len(), 1);
    }

    #[test]
    fn layers_of_a_name_stand_together() {
        assert_eq!(in_all_layers("blocks.10.attn.qkv.weight"), "blocks.*.attn.qkv.weight");
        assert_eq!(in_all_layers("embed.weight"), "embed.weight");
    }
}

//! From records to figures: which figures a set of runs has, and their points.

use std::collections::{BTreeMap, BTreeSet};

use mnemoscope_store::{Error, RunReader};

use super::probes::{self, Probes};
use super::{
    Counted, Curves, Figure, Line, Measured, Pair, Plot, Point, Scale, Scatter, Share, Strip,
    Strips, plain,
};
use crate::number;
use crate::published;
use crate::result::RunResult;
use crate::run::RunPage;

/// What figures need of one run.
#[derive(Clone, Debug)]
pub struct Source {
    /// The arm it belongs to.
    pub arm: String,
    /// The run as its own page shows it.
    pub page: RunPage,
    /// What was probed while it was trained.
    pub probes: Probes,
}

impl Source {
    /// Reads a record.
    ///
    /// # Arguments
    ///
    /// - `arm`: what to call the run's arm; where it is not given, the record's own word.
    ///
    /// # Errors
    ///
    /// [`mnemoscope_store::ErrorKind::Io`] if a part of the record cannot be listed.
    pub fn read(run: &RunReader, arm: Option<&str>) -> Result<Self, Error> {
        let page = RunPage::read(run)?;
        let own = page.meta["arm"].as_str().unwrap_or("run");
        Ok(Self {
            arm: arm.unwrap_or(own).to_owned(),
            probes: probes::of(run.events().of_kind("probe").map(|event| &event.data)),
            page,
        })
    }

    fn result(&self) -> Option<&RunResult> {
        self.page.result.as_ref()?.as_ref().ok()
    }

    fn seed(&self) -> Option<String> {
        let number = |key: &str| self.page.plan["seeds"][key].as_u64();
        let planned = number("data").zip(number("model"));
        let planned = planned.map(|(data, model)| crate::result::Seeds { data, model }.to_string());
        self.result().and_then(|result| result.seeds).map(|seeds| seeds.to_string()).or(planned)
    }

    fn measured(&self, set: &str) -> Option<Measured> {
        Measured::of(&self.page.id, self.seed(), self.result()?.eval.get(set)?)
    }

    fn line(&self, points: Vec<Point>) -> Option<Line> {
        let run = Some(self.page.id.clone());
        (!points.is_empty()).then(|| Line { arm: self.arm.clone(), run, seed: self.seed(), points })
    }
}

/// Every figure that the runs have something to show in.
///
/// Error rates by arm and against each other come first, then published probes, learning curves, losses and
/// the other probes.
#[must_use]
pub fn figures(runs: &[Source], published: &[published::Curve]) -> Vec<Figure> {
    let sets: BTreeSet<&str> = runs
        .iter()
        .filter_map(Source::result)
        .flat_map(|r| r.eval.keys())
        .map(String::as_str)
        .collect();
    let sets: Vec<&str> = sets.into_iter().collect();
    let mut figures = Vec::new();
    if runs.len() > 1 {
        figures.extend(sets.iter().filter_map(|set| strips(runs, set)));
        figures.extend(scatter(runs, &sets));
    }
    let (held_against, others): (Vec<_>, Vec<_>) =
        probes::figures(runs, published).into_iter().partition(|(_, published)| *published);
    figures.extend(held_against.into_iter().map(|(figure, _)| figure));
    figures.extend(learning_curves(runs));
    figures.extend(losses(runs));
    figures.extend(others.into_iter().map(|(figure, _)| figure));
    with_names_of_their_own(figures)
}

/// Two sets whose names differ in what files cannot hold still have two figures.
fn with_names_of_their_own(mut figures: Vec<Figure>) -> Vec<Figure> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for figure in &mut figures {
        let n_before = seen.entry(figure.name.clone()).or_default();
        *n_before += 1;
        if *n_before > 1 {
            figure.name += &format!("-{n_before}");
        }
    }
    figures
}

/// Arms in the order in which they first come.
pub(super) fn arms(runs: &[Source]) -> Vec<&str> {
    let mut arms: Vec<&str> = Vec::new();
    for run in runs {
        if !arms.contains(&run.arm.as_str()) {
            arms.push(&run.arm);
        }
    }
    arms
}

fn strips(runs: &[Source], set: &str) -> Option<Figure> {
    let strip = |arm: &str| {
        let of_arm = runs.iter().filter(|run| run.arm == arm);
        let rates: Vec<Measured> = of_arm.filter_map(|run| run.measured(set)).collect();
        let quartiles = quartiles(rates.iter().map(|rate| rate.error_rate).collect());
        (!rates.is_empty()).then(|| Strip { arm: arm.to_owned(), rates, quartiles })
    };
    let arms: Vec<Strip> = arms(runs).into_iter().filter_map(strip).collect();
    (!arms.is_empty()).then(|| Figure {
        name: format!("errors-{}", plain(set)),
        title: format!("Error rate on {set}, run by run"),
        caption: "A mark a run with the interval of its record, hollow where the run made no error; the line of \
                  zero stands apart from the logarithmic axis. Tall ticks: median and quartiles of five runs or \
                  more. Shading: density of eight runs with errors or more."
            .to_owned(),
        plot: Plot::Strips(Strips { set: set.to_owned(), arms }),
    })
}

/// The values that a quarter, a half and three quarters lie at or below, between neighbours where they fall
/// between.
fn quartiles(mut rates: Vec<f64>) -> Option<[f64; 3]> {
    rates.sort_by(f64::total_cmp);
    let last = rates.len().checked_sub(1).filter(|last| *last >= 4)?;
    let at = |quarter: usize| {
        let (whole, part) = (quarter * last / 4, (quarter * last % 4) as f64 / 4.0);
        let above = rates[(whole + 1).min(last)];
        rates[whole] + part * (above - rates[whole])
    };
    Some([at(1), at(2), at(3)])
}

/// The two tails of flip-flop where they are there, else the first two sets.
fn scatter(runs: &[Source], sets: &[&str]) -> Option<Figure> {
    let (x, y) = match sets {
        _ if sets.contains(&"val_sparse") && sets.contains(&"val_dense") => {
            ("val_sparse", "val_dense")
        }
        [x, y, ..] => (*x, *y),
        _ => return None,
    };
    let point = |run: &Source| {
        let (x, y) = run.measured(x).zip(run.measured(y))?;
        Some(Pair { arm: run.arm.clone(), x, y })
    };
    let points: Vec<Pair> = runs.iter().filter_map(point).collect();
    (!points.is_empty()).then(|| Figure {
        name: format!("scatter-{}-{}", plain(x), plain(y)),
        title: format!("Error rates on {x} and {y}"),
        caption: "A mark a run, with the intervals of its record. Lines beside the axes: exactly no error."
            .to_owned(),
        plot: Plot::Scatter(Scatter { x: x.to_owned(), y: y.to_owned(), points }),
    })
}

fn learning_curves(runs: &[Source]) -> Vec<Figure> {
    let sets: BTreeSet<&String> = runs.iter().flat_map(|run| run.page.curves.keys()).collect();
    let figure = |set: &String| {
        let line = |run: &Source| {
            let points = run.page.curves.get(set)?.iter().map(|point| {
                Share::of(point.n_errors, point.n_trials).at(number::to_f64(point.step))
            });
            run.line(points.collect())
        };
        Figure {
            name: format!("curve-{}", plain(set)),
            title: format!("Error rate on {set} while training"),
            caption: format!(
                "A line a run; those of an arm share colour, dash and mark. Rates at the lowest line are \
                 exactly zero. Intervals ({} %, \
                 Clopper-Pearson) where the mouse points.",
                super::CONFIDENCE * 100.0
            ),
            plot: Plot::Curves(Curves {
                x: "steps".to_owned(),
                y: "error rate".to_owned(),
                scale: Scale::Log,
                counted: Counted::Trials,
                lines: runs.iter().filter_map(line).collect(),
                published: Vec::new(),
            }),
        }
    };
    sets.into_iter().map(figure).collect()
}

fn losses(runs: &[Source]) -> Option<Figure> {
    let line = |run: &Source| {
        let n = run.page.plan["train"]["batch_size"].as_u64();
        let losses = run.page.losses.iter().filter(|(_, loss)| loss.is_finite());
        let point =
            |&(step, y): &(u64, f64)| Point { x: number::to_f64(step), y, n, interval: None };
        run.line(losses.map(point).collect())
    };
    let lines: Vec<Line> = runs.iter().filter_map(line).collect();
    (!lines.is_empty()).then(|| Figure {
        name: "loss".to_owned(),
        title: "Training loss".to_owned(),
        caption: "A line a run, each point the mean of one batch; of three runs of an arm or more a band from \
                  the lowest to the highest."
            .to_owned(),
        plot: Plot::Curves(Curves {
            x: "steps".to_owned(),
            y: "loss (nats)".to_owned(),
            scale: Scale::Linear,
            counted: Counted::Examples,
            lines,
            published: Vec::new(),
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::quartiles;

    #[test]
    fn quartiles_lie_between_neighbours() {
        assert_eq!(quartiles(vec![1.0, 2.0, 3.0, 4.0]), None);
        assert_eq!(quartiles(vec![4.0, 1.0, 2.0, 3.0, 0.0]), Some([1.0, 2.0, 3.0]));
        assert_eq!(quartiles(vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]), Some([1.25, 2.5, 3.75]));
    }
}

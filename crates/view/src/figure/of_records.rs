//! From records to figures: which figures a set of runs has, and their points.

use std::collections::{BTreeMap, BTreeSet};

use mnemoscope_store::{Error, RunReader};

use super::counts::{self, Kept};
use super::norms::{self, Norms};
use super::probes::{self, Probes};
use super::spread::quartiles;
use super::{
    Counted, Curves, Figure, Kind, Line, Measured, Pair, Plot, Point, Scale, Scatter, Share, Strip,
    Strips, plain, swept,
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
    /// Norms of its params and gradients while it was trained.
    pub norms: Norms,
    /// The first of the glitches it kept.
    pub kept: Vec<Kept>,
    /// Keys that its spec sweeps.
    pub swept: Vec<String>,
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
            norms: norms::of(run.events().of_kind("probe").map(|event| &event.data)),
            kept: counts::kept(run)?,
            swept: run.file("spec.toml").map(|spec| swept_keys(&spec)).unwrap_or_default(),
            page,
        })
    }

    pub(super) fn result(&self) -> Option<&RunResult> {
        self.page.result.as_ref()?.as_ref().ok()
    }

    pub(super) fn seed(&self) -> Option<String> {
        let number = |key: &str| self.page.plan["seeds"][key].as_u64();
        let planned = number("data").zip(number("model"));
        let planned = planned.map(|(data, model)| crate::result::Seeds { data, model }.to_string());
        self.result().and_then(|result| result.seeds).map(|seeds| seeds.to_string()).or(planned)
    }

    pub(super) fn measured(&self, set: &str) -> Option<Measured> {
        Measured::of(&self.page.id, self.seed(), self.result()?.eval.get(set)?)
    }

    fn line(&self, points: Vec<Point>) -> Option<Line> {
        let run = Some(self.page.id.clone());
        (!points.is_empty()).then(|| Line { arm: self.arm.clone(), run, seed: self.seed(), points })
    }
}

/// The keys that a spec sweeps, read off its text: a figure is labelled by them and nothing else depends on it.
fn swept_keys(spec: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(spec);
    let mut is_sweep = false;
    let mut keys = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(table) = line.strip_prefix('[') {
            is_sweep = table.starts_with("sweep");
        } else if is_sweep && !line.starts_with('#') {
            let key = |word: &str| word.contains('.').then(|| word.trim_matches('"').to_owned());
            keys.extend(line.split(['=', ' ', '{', '}', ',']).filter_map(key));
        }
    }
    keys
}

/// Every figure that the runs have something to show in.
///
/// Error rates by arm and against each other come first, then published probes, learning curves, losses,
/// the other probes, and norms.
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
        figures.extend(sets.iter().filter_map(|set| counts::of_runs(runs, set)));
        figures.extend(scatter(runs, &sets));
        figures.extend(swept::figures(runs, &sets));
    }
    figures.extend(sets.iter().filter_map(|set| counts::by_distance(runs, set)));
    let (held_against, others): (Vec<_>, Vec<_>) =
        probes::figures(runs, published).into_iter().partition(|(_, published)| *published);
    figures.extend(held_against.into_iter().map(|(figure, _)| figure));
    figures.extend(learning_curves(runs));
    figures.extend(losses(runs));
    figures.extend(others.into_iter().map(|(figure, _)| figure));
    figures.extend(norms::figures(runs));
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
        kind: Kind::Errors,
        name: format!("errors-{}", plain(set)),
        title: format!("Error rate on {set}, run by run"),
        caption: "A mark a run with the interval of its record, hollow where the run made no error; the line of \
                  zero stands apart from the logarithmic axis. Tall ticks: median and quartiles of five runs or \
                  more. Shading: density of eight runs with errors or more."
            .to_owned(),
        plot: Plot::Strips(Strips { set: set.to_owned(), arms }),
    })
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
        kind: Kind::Scatter,
        name: format!("scatter-{}-{}", plain(x), plain(y)),
        title: format!("Error rates on {x} and {y}"),
        caption: "A mark a run, with the intervals of its record. Lines beside the axes: exactly no error."
            .to_owned(),
        plot: Plot::Scatter(Scatter { x: x.to_owned(), y: y.to_owned(), points }),
    })
}

/// What lines and bands are, for captions; nothing of an only line.
pub(super) fn line_words(lines: &[Line]) -> String {
    if lines.len() < 2 {
        return String::new();
    }
    let words = "A line a run; those of an arm share colour and mark. ";
    if super::summaries(lines).is_empty() {
        return words.to_owned();
    }
    format!(
        "{words}Of {} runs of an arm or more a heavy line is their median, and the band reaches from the lowest to the \
         highest, from {} runs on from quartile to quartile; it is no interval of anything. ",
        super::BAND_FROM,
        super::QUARTILES_FROM
    )
}

/// Of each set its curve, and the best of it so far.
fn learning_curves(runs: &[Source]) -> Vec<Figure> {
    let sets: BTreeSet<&String> = runs.iter().flat_map(|run| run.page.curves.keys()).collect();
    let confidence = super::CONFIDENCE * 100.0;
    let lines = |set: &String| -> Vec<Line> {
        let line = |run: &Source| {
            let points = run.page.curves.get(set)?.iter().map(|point| {
                Share::of(point.n_errors, point.n_trials).at(number::to_f64(point.step))
            });
            run.line(points.collect())
        };
        runs.iter().filter_map(line).collect()
    };
    let figure = |set: &String, kind: Kind, lines: Vec<Line>| {
        let (title, what) = match kind {
            Kind::Best => (
                format!("Best error rate on {set} so far"),
                "The lowest rate that a run had up to a step; it was chosen for being low, so it flatters. ",
            ),
            _ => (format!("Error rate on {set} while training"), ""),
        };
        Figure {
            kind,
            name: format!("{}-{}", kind.word(), plain(set)),
            title,
            caption: format!(
                "{what}{}Rates at the lowest line are exactly zero. Intervals ({confidence} %, Clopper-Pearson) where \
                 the mouse points.",
                line_words(&lines)
            ),
            plot: Plot::Curves(Curves::new("error rate", Scale::Log, Counted::Trials, lines)),
        }
    };
    let both = |set| {
        let lines = lines(set);
        let best = |line: &Line| Line { points: best_so_far(&line.points), ..line.clone() };
        let best = lines.iter().map(best).collect();
        [figure(set, Kind::Curve, lines), figure(set, Kind::Best, best)]
    };
    sets.into_iter().flat_map(both).collect()
}

/// Each point replaced by the lowest up to it, with its count, its interval and the step it was measured at.
fn best_so_far(points: &[Point]) -> Vec<Point> {
    let mut best: Option<Point> = None;
    let so_far = |&point: &Point| {
        let lowest = best.filter(|best| best.y <= point.y).unwrap_or(point);
        best = Some(lowest);
        let measured_at = (lowest.x.to_bits() != point.x.to_bits()).then_some(lowest.x);
        Point { x: point.x, measured_at, ..lowest }
    };
    points.iter().map(so_far).collect()
}

fn losses(runs: &[Source]) -> Option<Figure> {
    let line = |run: &Source| {
        let n = run.page.plan["train"]["batch_size"].as_u64();
        let losses = run.page.losses.iter().filter(|(_, loss)| loss.is_finite());
        let point = |&(step, y): &(u64, f64)| Point { n, ..Point::new(number::to_f64(step), y) };
        run.line(losses.map(point).collect())
    };
    let lines: Vec<Line> = runs.iter().filter_map(line).collect();
    (!lines.is_empty()).then(|| Figure {
        kind: Kind::Loss,
        name: "loss".to_owned(),
        title: "Training loss".to_owned(),
        caption: format!("{}Each point is the mean of one batch.", line_words(&lines)),
        plot: Plot::Curves(Curves::new("loss (nats)", Scale::Linear, Counted::Examples, lines)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_so_far_never_rises_and_says_where_it_was() {
        let rates = [0.5, 0.2, 0.4, 0.2, 0.0].into_iter().enumerate();
        let points: Vec<Point> = rates.map(|(step, y)| Point::new(step as f64, y)).collect();
        let best = best_so_far(&points);
        let seen: Vec<(f64, Option<f64>)> = best.iter().map(|it| (it.y, it.measured_at)).collect();
        let expected = [(0.5, None), (0.2, None), (0.2, Some(1.0)), (0.2, Some(1.0)), (0.0, None)];
        assert_eq!(seen, expected);
        assert_eq!(best.iter().map(|it| it.x).collect::<Vec<_>>(), [0.0, 1.0, 2.0, 3.0, 4.0]);
    }

    #[test]
    fn a_caption_speaks_of_bands_only_where_there_are_any() {
        let points = vec![Point::new(0.0, 0.5), Point::new(1.0, 0.2)];
        let line = Line { arm: "a".to_owned(), run: None, seed: None, points };
        let words = |n: usize| line_words(&vec![line.clone(); n]);
        assert_eq!(words(1), "");
        assert!(words(2).starts_with("A line a run") && !words(2).contains("band"));
        assert!(words(3).contains("the band reaches"));
    }

    #[test]
    fn keys_of_a_sweep_are_read_off_its_table() {
        let spec = b"[train]\nlr = 1\n[sweep]\nseed = { count = 2 }\n\"train.lr\" = [1, 2]\n# \"a.b\" = [1]\n\
            zip = [{ \"model.d_model\" = [8], \"train.n_steps\" = [1] }]\n[eval.val]\nx.y = 2\n";
        assert_eq!(swept_keys(spec), ["train.lr", "model.d_model", "train.n_steps"]);
    }
}

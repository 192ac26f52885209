//! Figures as data: what is drawn, described once, with the run and the count behind every point.
//!
//! A [`Figure`] knows numbers and no colours. It is made from records ([`figures`]), serialises to JSON,
//! and is drawn as SVG ([`Figure::to_svg`]) or as pixels ([`Figure::to_png`]) by one description of its
//! shapes. Colours are those of Okabe and Ito, which people of every colour vision tell apart; arms differ in
//! their marks and dashes too, so that a print in grey can be read.
//!
//! A rate of zero has no place on a logarithmic axis and is the result that matters most: it stands on a
//! line of its own, at the edge, and its interval reaches from there to what the count can exclude.
//!
//! # Source
//!
//! Okabe and Ito, "Color Universal Design", 2008, for the colours.

mod bars;
mod counts;
mod curves;
mod draw;
mod frame;
mod grid;
mod kind;
mod layers;
mod map;
mod norms;
mod of_records;
mod png;
mod points;
mod probes;
mod script;
mod spread;
mod svg;
mod swept;

pub use counts::Kept;
pub use kind::{Kind, why_not};
pub use map::{attention_of, marks_of};
pub use norms::Norms;
pub use of_records::{Source, figures};
pub use probes::Probes;
pub use script::{SCRIPT, SCRIPT_HASH, STYLE};
pub use spread::{BAND_FROM, Middle, QUARTILES_FROM, Spread, Summary, summaries};
pub(crate) use svg::escaped;

use mnemoscope_stats::rate::clopper_pearson;
use serde::Serialize;

use crate::number;
use crate::result::SetResult;

/// Coverage of the intervals of what records hold as bare counts, such as points of a learning curve.
pub const CONFIDENCE: f64 = 0.95;

/// A figure: a name, words, and what is drawn.
///
/// # Example
///
/// ```
/// use mnemoscope_view::figure::{Counted, Curves, Figure, Kind, Line, Plot, Scale, Share};
///
/// let share = Share::of(3, 100);
/// let line = Line { arm: "lstm".into(), run: Some("3f2a".into()), seed: Some("0".into()),
///                   points: vec![share.at(10.0), Share::of(0, 100).at(20.0)] };
/// let figure = Figure {
///     kind: Kind::Curve,
///     name: "curve-val".into(),
///     title: "Error rate on val".into(),
///     caption: "A line a run.".into(),
///     plot: Plot::Curves(Curves::new("error rate", Scale::Log, Counted::Trials, vec![line])),
/// };
/// let svg = figure.to_svg();
/// assert!(svg.starts_with("<svg") && svg.contains("run 3f2a"));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// What it is a figure of.
    pub kind: Kind,
    /// A name that is also one of a file: letters, digits, `-`, `_` and `.` only.
    pub name: String,
    /// What it shows, in a few words.
    pub title: String,
    /// What its marks mean.
    pub caption: String,
    /// What is drawn.
    pub plot: Plot,
}

/// What is drawn.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Plot {
    /// Numbers over steps.
    Curves(Curves),
    /// Two error rates of each run against each other.
    Scatter(Scatter),
    /// Error rates of each run, arm by arm.
    Strips(Strips),
    /// How many fall where, arm beside arm.
    Bars(Bars),
    /// Error rates over two things that a sweep changed.
    Grid(Grid),
    /// Where heads look.
    Map(Map),
}

/// How an axis is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// From 0 to 1.
    Share,
    /// By powers of ten, with zero on a line of its own.
    Log,
    /// As wide as the numbers are, by powers of ten where they differ by more than a factor of thirty.
    Wide,
    /// As wide as the numbers are.
    Linear,
}

/// What the count of a point counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Counted {
    /// Scored targets.
    Trials,
    /// Whatever the share is a share of.
    Cases,
    /// Training examples of one step.
    Examples,
    /// Numbers of a param, all of them together.
    Norms,
}

impl Counted {
    fn words(self, n: u64) -> String {
        let (one, many) = match self {
            Self::Trials => ("trial", "trials"),
            Self::Cases => ("case", "cases"),
            Self::Examples => ("example", "examples"),
            Self::Norms => ("norm", "norms"),
        };
        number::counted(n, one, many)
    }
}

/// Numbers over steps.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Curves {
    /// What the horizontal axis counts.
    pub x: String,
    /// What the vertical axis measures, with its unit.
    pub y: String,
    /// How the vertical axis is divided.
    pub scale: Scale,
    /// What the points count.
    pub counted: Counted,
    /// A line a run; those of an arm look alike.
    pub lines: Vec<Line>,
    /// Medians and bands of arms of [`BAND_FROM`] runs or more.
    pub summaries: Vec<Summary>,
    /// Published points to hold them against.
    pub published: Vec<Published>,
}

impl Curves {
    /// Lines over steps, with the medians and bands of their arms and nothing published beside them.
    #[must_use]
    pub fn new(y: &str, scale: Scale, counted: Counted, lines: Vec<Line>) -> Self {
        Self {
            x: "steps".to_owned(),
            y: y.to_owned(),
            scale,
            counted,
            summaries: summaries(&lines),
            lines,
            published: Vec::new(),
        }
    }
}

/// The numbers of one run over its steps.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// The arm, which decides colour, dash and mark.
    pub arm: String,
    /// The run; none of a line that no single run made.
    pub run: Option<String>,
    /// Its seeds, as tables show them.
    pub seed: Option<String>,
    /// By step.
    pub points: Vec<Point>,
}

/// Published points of one arm.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Published {
    /// The arm they are held against.
    pub arm: String,
    /// Where they were published.
    pub source: String,
    /// Step, and number.
    pub points: Vec<[f64; 2]>,
}

/// A number at a step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    /// The step.
    pub x: f64,
    /// The number.
    pub y: f64,
    /// How much it was counted from; none where the record does not say.
    pub n: Option<u64>,
    /// Its interval; none of what is no rate.
    pub interval: Option<[f64; 2]>,
    /// The step it was measured at, where that is an earlier one: of the best so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measured_at: Option<f64>,
}

impl Point {
    /// A number that is no rate and has no count.
    #[must_use]
    pub fn new(x: f64, y: f64) -> Self {
        Self { x, y, n: None, interval: None, measured_at: None }
    }
}

/// Some of all, with the exact interval of their share at [`CONFIDENCE`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Share {
    /// How many.
    pub n_some: u64,
    /// Of how many.
    pub n: u64,
    /// One by the other, from 0 to 1.
    pub share: f64,
    /// Clopper and Pearson's interval.
    pub interval: [f64; 2],
}

impl Share {
    /// `n_some` of `n`. More than all, which only a damaged record can claim, counts as all; of none, the
    /// share is 0 and its interval everything.
    #[must_use]
    pub fn of(n_some: u64, n: u64) -> Self {
        let n_some = n_some.min(n);
        let interval = clopper_pearson(n_some, n, CONFIDENCE);
        Self {
            n_some,
            n,
            share: number::to_f64(n_some) / number::to_f64(n.max(1)),
            interval: [interval.low, interval.high],
        }
    }

    /// The share as a point of a curve.
    #[must_use]
    pub fn at(self, x: f64) -> Point {
        Point { n: Some(self.n), interval: Some(self.interval), ..Point::new(x, self.share) }
    }
}

/// Two error rates of each run against each other, both on logarithmic axes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scatter {
    /// The set of the horizontal axis.
    pub x: String,
    /// The set of the vertical axis.
    pub y: String,
    /// A point a run.
    pub points: Vec<Pair>,
}

/// One run by its error rates on two sets.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pair {
    /// The arm.
    pub arm: String,
    /// On the set of the horizontal axis.
    pub x: Measured,
    /// On that of the vertical one.
    pub y: Measured,
}

/// Error rates of each run, arm by arm.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Strips {
    /// The set.
    pub set: String,
    /// An arm a row.
    pub arms: Vec<Strip>,
}

/// The error rates of one arm.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Strip {
    /// The arm.
    pub arm: String,
    /// Its runs.
    pub rates: Vec<Measured>,
    /// Quarter, half and three quarters of the runs have a rate at most so high; none below five runs.
    pub quartiles: Option<[f64; 3]>,
}

/// The error rate of a run on a set, as its record has it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// The run.
    pub run: String,
    /// Its seeds, as tables show them.
    pub seed: Option<String>,
    /// Scored targets.
    pub n_trials: u64,
    /// Wrong answers among them.
    pub n_errors: u64,
    /// Errors per trial.
    pub error_rate: f64,
    /// The interval of the record.
    pub interval: [f64; 2],
    /// What it covers.
    pub confidence: f64,
}

impl Measured {
    /// The measurement of a run on one set; none where nothing was tried.
    #[must_use]
    pub fn of(run: &str, seed: Option<String>, set: &SetResult) -> Option<Self> {
        Some(Self {
            run: run.to_owned(),
            seed,
            n_trials: set.n_trials,
            n_errors: set.n_errors,
            error_rate: set.error_rate?,
            interval: set.interval,
            confidence: set.confidence,
        })
    }

    /// `12 of 353 875 wrong: 3.39e-5 [1.75e-5, 5.92e-5]`.
    fn words(&self) -> String {
        format!(
            "{} of {} wrong: {} {}",
            number::count(self.n_errors),
            number::counted(self.n_trials, "trial", "trials"),
            number::rate(self.error_rate),
            number::interval(self.interval)
        )
    }
}

/// How many fall where, arm beside arm.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bars {
    /// What the bins divide.
    pub x: String,
    /// What is counted.
    pub y: String,
    /// Names of the bins, from the lowest.
    pub bins: Vec<String>,
    /// The counts of each arm.
    pub arms: Vec<Heights>,
}

/// The counts of one arm, bin by bin.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Heights {
    /// The arm.
    pub arm: String,
    /// What was counted in all.
    pub n: u64,
    /// As many as there are bins.
    pub bars: Vec<Bar>,
}

/// What fell into one bin.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bar {
    /// How many.
    pub n: u64,
    /// Their share of all of the arm, with its exact interval at [`CONFIDENCE`].
    pub share: Share,
    /// The runs they come from.
    pub runs: Vec<String>,
}

/// Error rates on a set over two things that differ between the plans of runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Grid {
    /// The set.
    pub set: String,
    /// What the columns differ in.
    pub x: Axis,
    /// What the rows differ in.
    pub y: Axis,
    /// Those cells that have a measured run.
    pub cells: Vec<Cell>,
}

/// A thing that plans differ in.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Axis {
    /// Its path in a plan.
    pub path: String,
    /// What it is set to, from the lowest.
    pub values: Vec<String>,
}

/// The runs of one cell: they differ in their seeds alone.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cell {
    /// The column, from 0.
    pub column: usize,
    /// The row, from 0.
    pub row: usize,
    /// Each of its runs.
    pub rates: Vec<Measured>,
    /// The middle one of their rates.
    pub median: f64,
    /// Runs without an error among them, with the exact interval of their share.
    pub flawless: Share,
}

/// Where heads look: shares of attention, heads or queries down, keys across.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Map {
    /// Whose attention it is.
    pub run: String,
    /// The tokens looked at, in the order of the columns.
    pub keys: Vec<String>,
    /// What the rows are called.
    pub row_axis: String,
    /// Panels, each with a name and rows of shares as long as `keys`; shorter rows end in nothing.
    pub panels: Vec<Panel>,
    /// Columns that are marked, and with what.
    pub marks: Vec<Mark>,
    /// Rows at which the answer is wrong.
    pub wrong_rows: Vec<usize>,
}

/// Rows that belong together: all heads from one query, or one head from all queries.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Panel {
    /// What it is called.
    pub name: String,
    /// What its rows are called.
    pub rows: Vec<String>,
    /// Shares of attention, row by row.
    pub shares: Vec<Vec<f64>>,
}

/// A column that is marked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mark {
    /// Which one, from 0.
    pub key: usize,
    /// What it is: `write`, `read`.
    pub word: String,
}

impl Figure {
    /// The figure as an SVG document whose marks name their run, count and interval when pointed at.
    ///
    /// It names its font and does not carry it, which is right inside a page that does.
    #[must_use]
    pub fn to_svg(&self) -> String {
        svg::document(self, false)
    }

    /// [`Figure::to_svg`] with its font inside, for a file of its own: the same in every reader.
    #[must_use]
    pub fn to_svg_with_font(&self) -> String {
        svg::document(self, true)
    }

    /// The figure as a PNG image.
    ///
    /// # Arguments
    ///
    /// - `scale`: pixels for each unit of the SVG, such as 3 for print.
    ///
    /// # Panics
    ///
    /// If `scale` is not between 0.1 and 20.
    #[must_use]
    pub fn to_png(&self, scale: f32) -> Vec<u8> {
        png::image(self, scale)
    }
}

/// A name from a record as part of a file's name.
pub(crate) fn plain(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let name: String = name.chars().take(60).map(plain).collect();
    // `..` and hidden files are nobody's figure.
    name.replace("..", "_").trim_start_matches('.').to_owned()
}

/// Text from a record as a label: one line, nothing invisible, at most `width` characters.
pub(crate) fn label(text: &str, width: usize) -> String {
    let unseen = |c: char| c.is_control() || svg::turns_direction(c);
    let seen = |c: char| if unseen(c) { '\u{fffd}' } else { c };
    crate::text::cut(&text.chars().map(seen).collect::<String>(), width)
}

/// The CSS rule by which a document carries the figures' font; a page of many figures needs it once.
#[must_use]
pub fn font_face() -> String {
    svg::font_face()
}

#[cfg(test)]
pub(crate) mod tests;

//! Figures as scenes of shapes, laid out by `kuva`.

use std::collections::BTreeMap;

use kuva::plot::legend::{LegendEntry, LegendPosition, LegendShape};
use kuva::plot::scatter::MarkerShape;
use kuva::plot::{BandPlot, LinePlot, ScatterPlot};
use kuva::render::annotations::ReferenceLine;
use kuva::render::layout::{Layout, TickFormat};
use kuva::render::plots::Plot as Drawn;
use kuva::render::render::{Primitive, Scene, render_multiple};

use super::frame::{LogAxis, Look, NAME_WIDTH, shown, steps};
use super::{Curves, Figure, Line, Measured, Plot, Point, Scale, Scatter, Strips, map};
use crate::number;

/// Width of what is drawn, without a legend.
const WIDTH: f64 = 620.0;
/// Marks on a line, at most: they are there to be pointed at and to tell lines apart.
const MOST_MARKS: usize = 25;
/// Marks on all lines together, about; beyond it each line has fewer.
const ALL_MARKS: usize = 1500;
/// Points of all lines together, about; beyond it each line is drawn through fewer of them.
const ALL_POINTS: usize = 20_000;
/// Runs of an arm from which a band is drawn.
const BAND_FROM: usize = 3;
/// Where nothing else is said.
const GREY: &str = "#767676";

/// The shapes of a figure.
pub(super) fn scene(figure: &Figure) -> Scene {
    let mut scene = match &figure.plot {
        Plot::Curves(curves) => of_curves(curves),
        Plot::Scatter(scatter) => of_scatter(scatter),
        Plot::Strips(strips) => of_strips(strips),
        Plot::Map(map) => map::scene(map),
    };
    scene.font_family = Some(super::svg::FONTS.to_owned());
    for shape in &mut scene.elements {
        // A page holds many figures, and in a page a name means one thing.
        if let Primitive::ClipStart { id, .. } = shape {
            *id = format!("{}-{id}", figure.name);
        }
    }
    scene
}

/// `baseline, seed 1, run 3f2a`.
fn who(arm: &str, seed: Option<&str>, run: Option<&str>) -> String {
    let mut words = super::label(arm, 80);
    if let Some(seed) = seed {
        words += &format!(", seed {}", super::label(seed, 40));
    }
    if let Some(run) = run {
        words += &format!(", run {}", super::label(run, 40));
    }
    words
}

fn look_of<'a>(arms: &mut Vec<&'a str>, arm: &'a str) -> Look {
    let idx = arms.iter().position(|known| *known == arm).unwrap_or_else(|| {
        arms.push(arm);
        arms.len() - 1
    });
    Look::of(idx)
}

/// Names, colours and marks of arms; nothing where there is one arm and nothing to tell apart.
fn legend(layout: Layout, arms: &[&str], as_lines: bool, more: Option<LegendEntry>) -> Layout {
    if arms.len() < 2 && more.is_none() {
        return layout;
    }
    let entry = |(idx, arm): (usize, &&str)| {
        let look = Look::of(idx);
        let line = as_lines && idx < 4;
        LegendEntry {
            label: shown(arm, NAME_WIDTH),
            color: look.colour.to_owned(),
            shape: if line { LegendShape::Line } else { LegendShape::Marker(look.mark) },
            dasharray: line.then(|| dash_array(idx)).flatten(),
        }
    };
    let entries: Vec<LegendEntry> = arms.iter().enumerate().map(entry).chain(more).collect();
    layout
        .with_legend_entries(entries)
        .with_legend_position(LegendPosition::OutsideBottomColumns)
        .with_legend_box(false)
}

/// The dashes that [`Look::of`] asks for, as a legend has to be told them.
fn dash_array(idx: usize) -> Option<String> {
    ["", "8 4", "2 4", "8 4 2 4"].get(idx).filter(|it| !it.is_empty()).map(|it| (*it).to_owned())
}

/// Sizes and sizes of letters that all figures have in common.
fn framed(layout: Layout, width: f64, height: f64) -> Layout {
    layout
        .with_width(width)
        .with_height(height)
        .with_tick_size(11)
        .with_label_size(13)
        .with_body_size(12)
}

/// The vertical axis of curves: where a number stands, and how the axis is drawn.
enum Vertical {
    Log(LogAxis),
    Plain { range: [f64; 2] },
}

impl Vertical {
    fn of(curves: &Curves) -> Self {
        let numbers = || curves.lines.iter().flat_map(|line| &line.points).map(|point| point.y);
        let published = || curves.published.iter().flat_map(|it| &it.points).map(|point| point[1]);
        match curves.scale {
            Scale::Log => Self::Log(LogAxis::of(&numbers().collect::<Vec<_>>(), &[])),
            Scale::Share => Self::Plain { range: [-0.02, 1.03] },
            Scale::Linear => {
                let [low, high] = numbers()
                    .chain(published())
                    .fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], y| {
                        [low.min(y), high.max(y)]
                    });
                let low = if low > 0.0 && low < 0.6 * high { 0.0 } else { low };
                let room = ((high - low) * 0.05).max(1e-9);
                Self::Plain { range: [if low >= 0.0 { low } else { low - room }, high + room] }
            }
        }
    }

    fn place(&self, y: f64) -> f64 {
        match self {
            Self::Log(axis) => axis.place(y),
            Self::Plain { .. } => y,
        }
    }

    fn on(&self, layout: Layout) -> Layout {
        match self {
            Self::Log(axis) => {
                let [low, high] = axis.range();
                let layout = layout
                    .with_y_axis_min(low)
                    .with_y_axis_max(high)
                    .with_y_tick_step(axis.step())
                    .with_y_tick_format(axis.ticks());
                match axis.zero() {
                    Some(_) => layout.with_reference_line(
                        ReferenceLine::horizontal(axis.lowest() - 0.5)
                            .with_color(GREY)
                            .with_stroke_width(0.7)
                            .with_dasharray("1 3"),
                    ),
                    None => layout,
                }
            }
            Self::Plain { range: [low, high] } => {
                layout.with_y_axis_min(*low).with_y_axis_max(*high)
            }
        }
    }
}

fn of_curves(curves: &Curves) -> Scene {
    let vertical = Vertical::of(curves);
    let mut arms: Vec<&str> = Vec::new();
    let mut by_arm: BTreeMap<&str, Vec<&Line>> = BTreeMap::new();
    for line in &curves.lines {
        look_of(&mut arms, &line.arm);
        by_arm.entry(&line.arm).or_default().push(line);
    }
    let mut drawn: Vec<Drawn> = Vec::new();
    for arm in &arms {
        drawn.extend(band(&by_arm[arm], Look::of_arm(&arms, arm).colour, &vertical));
    }
    let last = curves.lines.iter().flat_map(|line| &line.points).map(|point| point.x);
    let last = last.fold(1.0, f64::max);
    for line in &curves.lines {
        let look = look_of(&mut arms, &line.arm);
        let thin = by_arm[line.arm.as_str()].len() > 1;
        drawn.extend(one_line(line, curves, &look, thin, &vertical));
    }
    let mut more = None;
    for published in &curves.published {
        let look = look_of(&mut arms, &published.arm);
        let tip = |point: &[f64; 2]| {
            format!(
                "{}, published: {} at step {}\n{}",
                super::label(&published.arm, 80),
                number::significant(point[1], 3),
                point[0],
                super::label(&published.source, 200)
            )
        };
        for point in &published.points {
            let place = (point[0], vertical.place(point[1]));
            let mark = ScatterPlot::new()
                .with_data([place])
                .with_color(look.colour)
                .with_marker(look.mark)
                .with_size(5.5)
                .with_tooltip_labels([tip(point)]);
            drawn.push(Drawn::Scatter(mark));
            drawn.push(hole(place, look.mark, 5.5, tip(point)));
        }
        more = Some(LegendEntry {
            label: "hollow: published".to_owned(),
            color: "#cccccc".to_owned(),
            shape: LegendShape::Circle,
            dasharray: None,
        });
    }
    let layout = Layout::new((0.0, last), (0.0, 1.0))
        .with_x_axis_min(0.0)
        .with_x_axis_max(last * 1.02)
        .with_x_tick_format(steps())
        .with_x_label(shown(&curves.x, 60))
        .with_y_label(shown(&curves.y, 48));
    let layout = framed(vertical.on(layout), WIDTH, 360.0);
    render_multiple(drawn, legend(layout, &arms, true, more))
}

impl Look {
    fn of_arm(arms: &[&str], arm: &str) -> Self {
        Self::of(arms.iter().position(|known| *known == arm).unwrap_or(0))
    }
}

/// From the lowest to the highest run of an arm, at the steps that all of them have.
fn band(lines: &[&Line], colour: &str, vertical: &Vertical) -> Option<Drawn> {
    // On a logarithmic axis with a line of zero, one run without an error makes a band of everything.
    if lines.len() < BAND_FROM || matches!(vertical, Vertical::Log(_)) {
        return None;
    }
    let mut at: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for point in lines.iter().flat_map(|line| &line.points) {
        at.entry(point.x.to_bits()).or_default().push(vertical.place(point.y));
    }
    let shared = at.iter().filter(|(_, ys)| ys.len() == lines.len());
    let edges: Vec<[f64; 3]> = shared
        .map(|(x, ys)| {
            let low = ys.iter().copied().fold(f64::INFINITY, f64::min);
            let high = ys.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            [f64::from_bits(*x), low, high]
        })
        .collect();
    let column = |idx: usize| edges.iter().map(move |edge| edge[idx]);
    let band = BandPlot::new(column(0), column(1), column(2)).with_color(colour).with_opacity(0.1);
    (edges.len() > 1).then_some(Drawn::Band(band))
}

/// Every so-manieth point, so that there are about `most`, and the last.
fn thinned(points: &[Point], most: usize) -> Vec<&Point> {
    let every = points.len().div_ceil(most.max(1)).max(1);
    let last = points.len().saturating_sub(1);
    let kept = |(idx, _): &(usize, &Point)| idx % every == 0 || *idx == last;
    points.iter().enumerate().filter(kept).map(|(_, point)| point).collect()
}

fn one_line(
    line: &Line,
    curves: &Curves,
    look: &Look,
    thin: bool,
    vertical: &Vertical,
) -> [Drawn; 2] {
    let place = |point: &Point| (point.x, vertical.place(point.y));
    let n_lines = curves.lines.len().max(1);
    let drawn = thinned(&line.points, (ALL_POINTS / n_lines).max(20));
    let path = LinePlot::new()
        .with_data(drawn.into_iter().map(place))
        .with_color(look.colour)
        .with_line_style(look.dash.clone())
        .with_stroke_width(if thin { 1.1 } else { 1.8 });
    let marked = thinned(&line.points, (ALL_MARKS / n_lines).clamp(2, MOST_MARKS));
    let tip = |point: &&Point| {
        let mut words = who(&line.arm, line.seed.as_deref(), line.run.as_deref());
        words += &format!("\nstep {}: {}", point.x, number::rate(point.y));
        if let Some(interval) = point.interval {
            words += &format!(" {}", number::interval(interval));
        }
        if let Some(n) = point.n {
            words += &format!("\nn = {}", curves.counted.words(n));
        }
        words
    };
    let marks = ScatterPlot::new()
        .with_data(marked.iter().map(|point| place(point)))
        .with_color(look.colour)
        .with_marker(look.mark)
        .with_size(if thin { 2.4 } else { 3.0 })
        .with_tooltip_labels(marked.iter().map(tip));
    [Drawn::Line(path), Drawn::Scatter(marks)]
}

/// What makes a mark of this size hollow; of marks the library leaves only circles empty.
fn hole(place: (f64, f64), mark: MarkerShape, size: f64, tip: String) -> Drawn {
    let hole = ScatterPlot::new()
        .with_data([place])
        .with_color("#ffffff")
        .with_marker(mark)
        .with_size(size * 0.55)
        .with_tooltip_labels([tip]);
    Drawn::Scatter(hole)
}

/// Runs from which intervals are no longer drawn, only told: they would hide the marks.
const MOST_INTERVALS: usize = 200;

/// How far an interval reaches from a rate on an axis, to either side; nowhere among too many of them.
fn reach(axis: &LogAxis, rate: &Measured, n_rates: usize) -> Option<(f64, f64)> {
    if n_rates > MOST_INTERVALS {
        return None;
    }
    let at = axis.place(rate.error_rate);
    let [low, high] = rate.interval.map(|end| axis.place(end));
    Some(((at - low).max(0.0), (high - at).max(0.0)))
}

fn log_axis<'a>(rates: impl Iterator<Item = &'a Measured> + Clone) -> LogAxis {
    let values: Vec<f64> = rates.clone().map(|rate| rate.error_rate).collect();
    LogAxis::of(&values, &rates.flat_map(|rate| rate.interval).collect::<Vec<_>>())
}

fn of_scatter(scatter: &Scatter) -> Scene {
    let x = log_axis(scatter.points.iter().map(|point| &point.x));
    let y = log_axis(scatter.points.iter().map(|point| &point.y));
    let mut arms: Vec<&str> = Vec::new();
    let mut drawn = Vec::new();
    let n_points = scatter.points.len();
    for point in &scatter.points {
        let look = look_of(&mut arms, &point.arm);
        let tip = format!(
            "{}\n{}: {}\n{}: {}",
            who(&point.arm, point.x.seed.as_deref(), Some(&point.x.run)),
            super::label(&scatter.x, 60),
            point.x.words(),
            super::label(&scatter.y, 60),
            point.y.words()
        );
        let mark = ScatterPlot::new()
            .with_data([(x.place(point.x.error_rate), y.place(point.y.error_rate))])
            .with_x_err_asymmetric(reach(&x, &point.x, n_points))
            .with_y_err_asymmetric(reach(&y, &point.y, n_points))
            .with_color(look.colour)
            .with_marker(look.mark)
            .with_size(5.0)
            .with_marker_opacity(0.75)
            .with_marker_stroke_width(0.8)
            .with_tooltip_labels([tip]);
        drawn.push(Drawn::Scatter(mark));
    }
    let ([x_low, x_high], [y_low, y_high]) = (x.range(), y.range());
    let layout = Layout::new((x_low, x_high), (y_low, y_high))
        .with_x_axis_min(x_low)
        .with_x_axis_max(x_high)
        .with_x_tick_step(x.step())
        .with_x_tick_format(x.ticks())
        .with_y_axis_min(y_low)
        .with_y_axis_max(y_high)
        .with_y_tick_step(y.step())
        .with_y_tick_format(y.ticks())
        .with_x_label(shown(&format!("error rate on {}", scatter.x), 60))
        .with_y_label(shown(&format!("error rate on {}", scatter.y), 48));
    let apart =
        |line: ReferenceLine| line.with_color(GREY).with_stroke_width(0.7).with_dasharray("1 3");
    let mut layout = framed(layout, 520.0, 480.0);
    if x.zero().is_some() {
        layout = layout.with_reference_line(apart(ReferenceLine::vertical(x.lowest() - 0.5)));
    }
    if y.zero().is_some() {
        layout = layout.with_reference_line(apart(ReferenceLine::horizontal(y.lowest() - 0.5)));
    }
    render_multiple(drawn, legend(layout, &arms, false, None))
}

/// Runs with errors from which their density is drawn.
const DENSITY_FROM: usize = 8;

fn of_strips(strips: &Strips) -> Scene {
    let axis = log_axis(strips.arms.iter().flat_map(|strip| &strip.rates));
    let n_arms = strips.arms.len();
    let n_all: usize = strips.arms.iter().map(|strip| strip.rates.len()).sum();
    // The first arm is the topmost row.
    let row = |idx: usize| (n_arms - idx) as f64;
    let (mut below, mut above) = (Vec::new(), Vec::new());
    for (idx, strip) in strips.arms.iter().enumerate() {
        let look = Look::of(idx);
        below.extend(
            density(strip, &axis, row(idx))
                .map(|band| Drawn::Band(band.with_color(look.colour).with_opacity(0.2))),
        );
        for (which, quartile) in strip.quartiles.iter().flatten().enumerate() {
            let (at, half) = (axis.place(*quartile), if which == 1 { 0.42 } else { 0.28 });
            let tick = LinePlot::new()
                .with_data([(at, row(idx) - half), (at, row(idx) + half)])
                .with_color("#000000")
                .with_stroke_width(if which == 1 { 2.0 } else { 1.0 });
            below.push(Drawn::Line(tick));
        }
        let n_rates = strip.rates.len();
        for (place, rate) in strip.rates.iter().enumerate() {
            // Beside each other in the order of the record, so that none hides another.
            let aside = (place as f64 + 0.5) / n_rates.max(1) as f64 - 0.5;
            let tip = format!(
                "{}\n{}",
                who(&strip.arm, rate.seed.as_deref(), Some(&rate.run)),
                rate.words()
            );
            let place_of = (axis.place(rate.error_rate), row(idx) - 0.6 * aside);
            let mark = ScatterPlot::new()
                .with_data([place_of])
                .with_x_err_asymmetric(reach(&axis, rate, n_all))
                .with_color(look.colour)
                .with_marker(look.mark)
                .with_size(4.0)
                .with_tooltip_labels([tip.clone()]);
            above.push(Drawn::Scatter(mark));
            above.extend((rate.n_errors == 0).then(|| hole(place_of, look.mark, 4.0, tip)));
        }
    }
    below.extend(above);
    let names: Vec<String> = strips.arms.iter().map(|arm| shown(&arm.arm, NAME_WIDTH)).collect();
    render_multiple(below, strip_layout(strips, &axis, names))
}

fn strip_layout(strips: &Strips, axis: &LogAxis, names: Vec<String>) -> Layout {
    let n_arms = names.len();
    let most_rates = strips.arms.iter().map(|strip| strip.rates.len()).max().unwrap_or(1);
    let row_height = (14.0 + 6.0 * most_rates.min(12) as f64).clamp(26.0, 86.0);
    let [low, high] = axis.range();
    let name = move |at: f64| {
        let idx = (n_arms as f64 - at).round();
        let whole = (n_arms as f64 - at - idx).abs() < 1e-6 && idx >= 0.0;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
        let name = whole.then(|| names.get(idx as usize)).flatten();
        name.cloned().unwrap_or_default()
    };
    let layout = Layout::new((low, high), (0.4, n_arms as f64 + 0.6))
        .with_x_axis_min(low)
        .with_x_axis_max(high)
        .with_x_tick_step(axis.step())
        .with_x_tick_format(axis.ticks())
        .with_y_axis_min(0.4)
        .with_y_axis_max(n_arms as f64 + 0.6)
        .with_y_tick_step(1.0)
        .with_y_tick_format(TickFormat::Custom(std::sync::Arc::new(name)))
        .with_x_label(shown(&format!("error rate on {}", strips.set), 60));
    let layout = framed(layout, WIDTH, 70.0 + row_height * n_arms as f64);
    match axis.zero() {
        None => layout,
        Some(_) => layout.with_reference_line(
            ReferenceLine::vertical(axis.lowest() - 0.5)
                .with_color(GREY)
                .with_stroke_width(0.7)
                .with_dasharray("1 3"),
        ),
    }
}

/// The density of the rates that are not zero, along the axis: Gaussians of Silverman's width.
fn density(strip: &super::Strip, axis: &LogAxis, row: f64) -> Option<BandPlot> {
    let places: Vec<f64> = strip
        .rates
        .iter()
        .filter(|rate| rate.error_rate > 0.0)
        .map(|rate| axis.place(rate.error_rate))
        .collect();
    if places.len() < DENSITY_FROM {
        return None;
    }
    let n = places.len() as f64;
    let mean = places.iter().sum::<f64>() / n;
    let spread = (places.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
    let width = (1.06 * spread * n.powf(-0.2)).max(0.05);
    let [low, high] = [axis.lowest(), axis.range()[1]];
    let at = |idx: u32| low + (high - low) * f64::from(idx) / 100.0;
    let height =
        |x: f64| places.iter().map(|at| (-0.5 * ((x - at) / width).powi(2)).exp()).sum::<f64>();
    let heights: Vec<f64> = (0..=100).map(|idx| height(at(idx))).collect();
    let highest = heights.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let edge = |sign: f64| {
        heights.iter().map(move |height| row + sign * 0.42 * height / highest).collect::<Vec<_>>()
    };
    Some(BandPlot::new((0..=100).map(at), edge(-1.0), edge(1.0)))
}

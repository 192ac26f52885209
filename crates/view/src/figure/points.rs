//! Error rates as points: of two sets against each other, and run by run.

use kuva::render::annotations::ReferenceLine;
use kuva::render::layout::{Layout, TickFormat};
use kuva::render::render::Scene;

use super::draw::{framed, who};
use super::frame::{GREY, LogAxis, Look, NAME_WIDTH, shown};
use super::layers::{Axis, Chart, Dot, Flow, Layer, Swatch, WIDTH};
use super::{Measured, Pair, Scatter, Strip, Strips};

/// Runs from which intervals are no longer drawn, only told: they would hide the marks.
const MOST_INTERVALS: usize = 200;
/// Width and height of the axes of a scatter.
const SCATTER: [f64; 2] = [560.0, 480.0];
/// Half the width of its marks.
const MARK: f64 = 4.2;
/// Rates that are not zero, from which a density is drawn.
const DENSITY_FROM: usize = 8;

/// Where the interval of a rate begins and ends on an axis; nowhere among too many of them.
fn reach(axis: &LogAxis, rate: &Measured, n_rates: usize) -> Option<[f64; 2]> {
    (n_rates <= MOST_INTERVALS).then(|| rate.interval.map(|end| axis.place(end)))
}

/// The axis of these rates, with room for their intervals if those are drawn.
fn log_axis<'a>(rates: impl Iterator<Item = &'a Measured> + Clone) -> LogAxis {
    let values: Vec<f64> = rates.clone().map(|rate| rate.error_rate).collect();
    let drawn = rates.filter(|_| values.len() <= MOST_INTERVALS);
    LogAxis::of(&values, &drawn.flat_map(|rate| rate.interval).collect::<Vec<_>>())
}

/// The line that stands between zero and the rest of an axis.
fn parting(axis: &LogAxis, across: fn(f64) -> ReferenceLine) -> Option<ReferenceLine> {
    axis.zero()?;
    let line = across(axis.lowest() - 0.5);
    Some(line.with_color(GREY).with_stroke_width(0.7).with_dasharray("1 3"))
}

pub(super) fn of_scatter(scatter: &Scatter) -> Scene {
    let x = log_axis(scatter.points.iter().map(|point| &point.x));
    let y = log_axis(scatter.points.iter().map(|point| &point.y));
    let mut arms: Vec<&str> = Vec::new();
    for point in &scatter.points {
        if !arms.contains(&point.arm.as_str()) {
            arms.push(&point.arm);
        }
    }
    let n_points = scatter.points.len();
    let places = places(&scatter.points, &x, &y);
    let layer = |(idx, arm): (usize, &&str)| {
        let mut layer = Layer { arm: idx, ..Layer::default() };
        for (point, at) in scatter.points.iter().zip(&places).filter(|it| it.0.arm == **arm) {
            push_pair(&mut layer, scatter, (point, *at), [&x, &y], n_points);
        }
        layer
    };
    let layers = arms.iter().enumerate().map(layer).collect();
    let ([x_low, x_high], [y_low, y_high]) = (x.range(), y.range());
    let mut layout = Layout::new((x_low, x_high), (y_low, y_high))
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
    let lines = [parting(&x, ReferenceLine::vertical), parting(&y, ReferenceLine::horizontal)];
    for line in lines.into_iter().flatten() {
        layout = layout.with_reference_line(line);
    }
    let several = arms.len() > 1;
    Chart {
        layout: framed(layout, SCATTER[0], SCATTER[1]),
        x: Axis::Log(x),
        y: Axis::Log(y),
        layers,
        legend: if several { arms.iter().map(|&arm| arm.to_owned()).collect() } else { Vec::new() },
        swatch: Swatch::Mark,
        note: note_of_zeros(&scatter.points),
    }
    .scene()
}

/// What hollow marks are, and how many stand around the corner.
fn note_of_zeros(points: &[Pair]) -> Option<String> {
    let n_zeros = |point: &Pair| [&point.x, &point.y].iter().filter(|it| it.n_errors == 0).count();
    let n_none = points.iter().filter(|point| n_zeros(point) == 2).count();
    let words = "hollow: no error on at least one of them";
    points.iter().any(|point| n_zeros(point) > 0).then(|| match n_none {
        0 | 1 => words.to_owned(),
        n => format!("{words}; {n} runs with none on either stand side by side"),
    })
}

/// Where each mark stands. Those of runs without an error on either set would all stand in one place: they
/// stand around it, in the order of the runs, as seeds of a sunflower do, within the corner that is zero on both axes.
fn places(points: &[Pair], x: &LogAxis, y: &LogAxis) -> Vec<(f64, f64)> {
    /// From one seed to the next, as a share of a turn.
    const TURN: f64 = 0.381_966_011_250_105;
    /// Half the room of the corner, in units of the axes.
    const ROOM: f64 = 0.3;
    let is_zero = |point: &Pair| point.x.n_errors == 0 && point.y.n_errors == 0;
    let n = points.iter().filter(|point| is_zero(point)).count();
    let reach = [(x, SCATTER[0]), (y, SCATTER[1])].map(|(axis, size)| {
        let [low, high] = axis.range();
        // As far apart as marks are wide, if there is room for that.
        let unit = (high - low) / size;
        (2.0 * MARK * unit).min(ROOM / (n as f64).sqrt())
    });
    let mut nth = 0;
    let place = |point: &Pair| {
        let at = (x.place(point.x.error_rate), y.place(point.y.error_rate));
        if !is_zero(point) {
            return at;
        }
        let (sin, cos) = (f64::from(nth) * TURN * std::f64::consts::TAU).sin_cos();
        let radius = f64::from(nth).sqrt();
        nth += 1;
        (at.0 + reach[0] * radius * cos, at.1 + reach[1] * radius * sin)
    };
    points.iter().map(place).collect()
}

fn push_pair(
    layer: &mut Layer,
    scatter: &Scatter,
    (point, at): (&Pair, (f64, f64)),
    [x, y]: [&LogAxis; 2],
    n: usize,
) {
    let look = Look::of(layer.arm);
    let across = reach(x, &point.x, n).map(|[from, to]| vec![(from, at.1), (to, at.1)]);
    let along = reach(y, &point.y, n).map(|[from, to]| vec![(at.0, from), (at.0, to)]);
    for points in across.into_iter().chain(along) {
        layer.flow.push(Flow::Line {
            points,
            colour: look.colour.to_owned(),
            width: 0.9,
            dash: None,
        });
    }
    layer.dots.push(Dot {
        at,
        size: MARK,
        colour: look.colour.to_owned(),
        look,
        hollow: point.x.n_errors == 0 || point.y.n_errors == 0,
        tip: format!(
            "{}\n{}: {}\n{}: {}",
            who(&point.arm, point.x.seed.as_deref(), Some(&point.x.run)),
            super::label(&scatter.x, 60),
            point.x.words(),
            super::label(&scatter.y, 60),
            point.y.words()
        ),
    });
}

pub(super) fn of_strips(strips: &Strips) -> Scene {
    let axis = log_axis(strips.arms.iter().flat_map(|strip| &strip.rates));
    let n_arms = strips.arms.len();
    let n_rates = strips.arms.iter().map(|strip| strip.rates.len()).sum();
    let layers = strips.arms.iter().enumerate();
    let layers = layers.map(|(idx, it)| strip((idx, it), n_arms, &axis, n_rates)).collect();
    let names: Vec<String> = strips.arms.iter().map(|arm| shown(&arm.arm, NAME_WIDTH)).collect();
    let has_quartiles = strips.arms.iter().any(|strip| strip.quartiles.is_some());
    let notes: Vec<&str> = [
        axis.zero().map(|_| "hollow: no error"),
        has_quartiles.then_some("tall ticks: median and quartiles"),
    ]
    .into_iter()
    .flatten()
    .collect();
    Chart {
        layout: strip_layout(strips, &axis, names),
        x: Axis::Log(axis),
        y: Axis::Names([0.4, n_arms as f64 + 0.6]),
        layers,
        legend: Vec::new(),
        swatch: Swatch::Mark,
        note: (!notes.is_empty()).then(|| notes.join("; ")),
    }
    .scene()
}

fn strip((idx, strip): (usize, &Strip), n_arms: usize, axis: &LogAxis, n_rates: usize) -> Layer {
    let (row, look) = ((n_arms - idx) as f64, Look::of(idx));
    let mut layer = Layer { arm: idx, ..Layer::default() };
    let colour = || look.colour.to_owned();
    layer.flow.extend(density(strip, axis, row).map(|edge| Flow::Band {
        edge,
        colour: colour(),
        opacity: 0.2,
    }));
    for (which, at) in strip.quartiles.iter().flatten().enumerate() {
        let half = if which == 1 { 0.42 } else { 0.28 };
        let place = axis.place(*at);
        layer.flow.push(Flow::Line {
            points: vec![(place, row - half), (place, row + half)],
            colour: "#000000".to_owned(),
            width: if which == 1 { 2.0 } else { 1.0 },
            dash: None,
        });
    }
    let n_of_arm = strip.rates.len();
    for (nth, rate) in strip.rates.iter().enumerate() {
        // Runs of an arm stand above each other, in the order of the records.
        let share = (nth as f64 + 0.5) / n_of_arm as f64 - 0.5;
        let y = row - 0.6 * share;
        let at = (axis.place(rate.error_rate), y);
        if let Some([from, to]) = reach(axis, rate, n_rates) {
            let points = vec![(from, y), (to, y)];
            layer.flow.push(Flow::Line { points, colour: colour(), width: 0.9, dash: None });
        }
        layer.dots.push(Dot {
            at,
            size: if n_of_arm > 12 { 2.6 } else { 3.6 },
            look: look.clone(),
            colour: colour(),
            hollow: rate.n_errors == 0,
            tip: format!(
                "{}\n{}",
                who(&strip.arm, rate.seed.as_deref(), Some(&rate.run)),
                rate.words()
            ),
        });
    }
    layer
}

fn strip_layout(strips: &Strips, axis: &LogAxis, names: Vec<String>) -> Layout {
    let n_arms = names.len();
    let most_rates = strips.arms.iter().map(|strip| strip.rates.len()).max().unwrap_or(1);
    let row_height = (14.0 + 6.0 * most_rates.min(12) as f64).clamp(26.0, 86.0);
    let [low, high] = axis.range();
    let name = move |at: f64| {
        let idx = (n_arms as f64 - at).round();
        let is_whole = (n_arms as f64 - at - idx).abs() < 1e-6 && idx >= 0.0;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
        let name = is_whole.then(|| names.get(idx as usize)).flatten();
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
    match parting(axis, ReferenceLine::vertical) {
        None => layout,
        Some(line) => layout.with_reference_line(line),
    }
}

/// The density of the rates that are not zero, along the axis: Gaussians of Silverman's width.
fn density(strip: &Strip, axis: &LogAxis, row: f64) -> Option<Vec<(f64, f64)>> {
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
    let heights: Vec<(f64, f64)> = (0..=100).map(|idx| (at(idx), height(at(idx)))).collect();
    let highest = heights.iter().map(|it| it.1).fold(f64::MIN_POSITIVE, f64::max);
    let edge =
        |sign: f64| move |&(x, height): &(f64, f64)| (x, row + sign * 0.42 * height / highest);
    Some(heights.iter().map(edge(1.0)).chain(heights.iter().rev().map(edge(-1.0))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(n_errors: u64) -> Measured {
        let error_rate = n_errors as f64 / 1000.0;
        let (run, interval) = ("00aa".to_owned(), [error_rate / 2.0, error_rate + 0.004]);
        Measured {
            run,
            seed: None,
            n_trials: 1000,
            n_errors,
            error_rate,
            interval,
            confidence: 0.95,
        }
    }

    #[test]
    fn runs_without_an_error_stand_side_by_side_in_their_corner_and_no_other_is_moved() {
        let pair = |x, y| Pair { arm: "arm".to_owned(), x: measured(x), y: measured(y) };
        for n in [1, 30, 500] {
            let zeros = (0..n).map(|_| pair(0, 0));
            let points: Vec<Pair> = zeros.chain([pair(0, 3), pair(3, 0), pair(3, 3)]).collect();
            let rates = || points.iter().flat_map(|point| [&point.x, &point.y]);
            let axis = log_axis(rates());
            let zero = axis.zero().unwrap();
            let at = places(&points, &axis, &axis);
            let three = 0.003_f64.log10();
            assert_eq!(at[n..], [(zero, three), (three, zero), (three, three)]);
            assert_eq!(at[0], (zero, zero));
            let apart = |a: (f64, f64), b: (f64, f64)| (a.0 - b.0).hypot(a.1 - b.1);
            assert!(at[..n].iter().all(|&it| apart(it, (zero, zero)) < 0.45), "{n}");
            let closest = (0..n).flat_map(|i| (0..i).map(move |j| (i, j)));
            let closest = closest.map(|(i, j)| apart(at[i], at[j])).fold(f64::INFINITY, f64::min);
            assert!(n == 1 || closest > 0.2 / (n as f64).sqrt(), "{n}: {closest}");
            let note = note_of_zeros(&points).unwrap();
            assert_eq!(note.contains(&format!("{n} runs with none on either")), n > 1, "{note}");
        }
        assert_eq!(note_of_zeros(&[pair(3, 3)]), None);
    }
}

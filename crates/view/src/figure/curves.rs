//! Curves: a line a run, of three runs of an arm or more their median and a band.

use std::collections::BTreeMap;

use kuva::render::annotations::ReferenceLine;
use kuva::render::layout::Layout;
use kuva::render::render::Scene;

use super::draw::{framed, who};
use super::frame::{GREY, LogAxis, Look, faint, shown, steps};
use super::layers::{Axis, Chart, Dot, Flow, Layer, Swatch, WIDTH};
use super::{Curves, Line, Point, Published, Scale, Summary};
use crate::number;

/// Marks on a line, at most: they are there to be pointed at and to tell lines apart.
const MOST_MARKS: usize = 25;
/// Marks on all lines together, about; beyond it each line has fewer.
const ALL_MARKS: usize = 1500;
/// Points of all lines together, about; beyond it each line is drawn through fewer of them.
const ALL_POINTS: usize = 20_000;
/// Points of all medians together, about.
const ALL_MIDDLES: usize = 2400;

/// From the least to the largest number from which an axis goes by powers of ten.
const WIDE_FROM: f64 = 30.0;

fn vertical(curves: &Curves) -> Axis {
    let lines = || curves.lines.iter().flat_map(|line| &line.points).map(|point| point.y);
    let published = || curves.published.iter().flat_map(|it| &it.points).map(|point| point[1]);
    let numbers: Vec<f64> = lines().chain(published()).filter(|y| y.is_finite()).collect();
    let ends = |numbers: &[f64]| {
        numbers
            .iter()
            .fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], y| [low.min(*y), high.max(*y)])
    };
    let plain = |[low, high]: [f64; 2]| {
        let low = if low > 0.0 && low < 0.6 * high { 0.0 } else { low };
        let room = ((high - low) * 0.05).max(1e-9);
        Axis::Plain([if low >= 0.0 { low } else { low - room }, high + room])
    };
    match curves.scale {
        Scale::Share => Axis::Plain([-0.02, 1.03]),
        _ if numbers.is_empty() => Axis::Plain([0.0, 1.0]),
        Scale::Log => Axis::Log(LogAxis::of(&numbers, &[])),
        Scale::Linear => plain(ends(&numbers)),
        Scale::Wide => match ends(&numbers) {
            [low, high] if low > 0.0 && high > WIDE_FROM * low => {
                Axis::Log(LogAxis::around(low, high))
            }
            [low, high] => plain([low, high]),
        },
    }
}

fn with_vertical(layout: Layout, axis: &Axis) -> Layout {
    let [low, high] = axis.range();
    let layout = layout.with_y_axis_min(low).with_y_axis_max(high);
    let Axis::Log(axis) = axis else { return layout };
    let layout = layout.with_y_tick_step(axis.step()).with_y_tick_format(axis.ticks());
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

pub(super) fn scene(curves: &Curves) -> Scene {
    let axis = vertical(curves);
    let mut arms: Vec<&str> = Vec::new();
    let mut n_lines: BTreeMap<&str, usize> = BTreeMap::new();
    let of_published = curves.published.iter().map(|it| it.arm.as_str());
    for arm in curves.lines.iter().map(|line| line.arm.as_str()).chain(of_published) {
        if !arms.contains(&arm) {
            arms.push(arm);
        }
    }
    for line in &curves.lines {
        *n_lines.entry(&line.arm).or_default() += 1;
    }
    let idx_of = |arm: &str| arms.iter().position(|known| *known == arm).unwrap_or(0);
    let mut layers: Vec<Layer> = Vec::new();
    let most = (ALL_MIDDLES / arms.len().max(1)).clamp(40, 600);
    for summary in &curves.summaries {
        layers.push(band(summary, idx_of(&summary.arm), &axis, most));
    }
    for line in &curves.lines {
        let n_alike = n_lines[line.arm.as_str()];
        let summed_up = curves.summaries.iter().any(|it| it.arm == line.arm);
        layers.push(one_line(line, curves, idx_of(&line.arm), (n_alike, summed_up), &axis));
    }
    for summary in &curves.summaries {
        layers.push(median(summary, curves, (idx_of(&summary.arm), arms.len()), &axis, most));
    }
    let published =
        curves.published.iter().map(|it| of_published_points(it, idx_of(&it.arm), &axis));
    layers.extend(published);
    let last = curves.lines.iter().flat_map(|line| &line.points).map(|point| point.x);
    let last = last.fold(1.0, f64::max);
    let layout = Layout::new((0.0, last * 1.02), (0.0, 1.0))
        .with_x_axis_min(0.0)
        .with_x_axis_max(last * 1.02)
        .with_x_tick_format(steps())
        .with_x_label(shown(&curves.x, 60))
        .with_y_label(shown(&curves.y, 48));
    let layout = framed(with_vertical(layout, &axis), WIDTH, 350.0);
    let several = arms.len() > 1;
    Chart {
        layout,
        x: Axis::Plain([0.0, last * 1.02]),
        y: axis,
        layers,
        legend: if several { arms.iter().map(|&arm| arm.to_owned()).collect() } else { Vec::new() },
        swatch: Swatch::Line,
        note: note(curves),
    }
    .scene()
}

/// What heavy lines, bands and hollow marks are.
fn note(curves: &Curves) -> Option<String> {
    let mut notes: Vec<String> = Vec::new();
    for spread in [super::Spread::Range, super::Spread::Quartiles] {
        if curves.summaries.iter().any(|it| it.spread == spread) {
            let runs = curves.summaries.iter().filter(|it| it.spread == spread);
            let most = runs.map(|it| it.n_runs).max().unwrap_or(0);
            notes.push(format!("heavy: median of up to {most} runs, band: {}", spread.words()));
        }
    }
    if !curves.published.is_empty() {
        notes.push("hollow: published".to_owned());
    }
    (!notes.is_empty()).then(|| notes.join("; "))
}

fn band(summary: &Summary, arm: usize, axis: &Axis, most: usize) -> Layer {
    let points: Vec<&super::Middle> = thinned(&summary.points, most, 0).collect();
    let high = points.iter().map(|at| (at.x, axis.place(at.high)));
    let low = points.iter().rev().map(|at| (at.x, axis.place(at.low)));
    let colour = Look::of(arm).colour.to_owned();
    // A band that reaches to the line of zero covers a good part of the figure, and so do those of other arms.
    let has_zero = matches!(axis, Axis::Log(axis) if axis.zero().is_some());
    let opacity = if has_zero { 0.07 } else { 0.13 };
    let band = Flow::Band { edge: high.chain(low).collect(), colour, opacity };
    Layer { arm, flow: vec![band], dots: Vec::new() }
}

fn median(
    summary: &Summary,
    curves: &Curves,
    (arm, n_arms): (usize, usize),
    axis: &Axis,
    most: usize,
) -> Layer {
    let look = Look::of(arm);
    let place = |at: &super::Middle| (at.x, axis.place(at.median));
    let line = Flow::Line {
        points: thinned(&summary.points, most, 0).map(place).collect(),
        colour: look.colour.to_owned(),
        width: 2.2,
        dash: look.dash,
    };
    let tip = |at: &super::Middle| {
        format!(
            "{}, median of {} at step {}\n{}: {}\n{} {}",
            super::label(&summary.arm, 80),
            number::counted(at.n_runs as u64, "run", "runs"),
            number::whole(at.x),
            curves.y,
            number::rate(at.median),
            summary.spread.words(),
            number::interval([at.low, at.high])
        )
    };
    // Marks of different arms begin at different points, so that they do not cover each other.
    let every = summary.points.len().div_ceil(MOST_MARKS / 2).max(1);
    let marked = thinned(&summary.points, MOST_MARKS / 2, arm * every / n_arms.max(1));
    let dot = |at: &super::Middle| Dot {
        at: place(at),
        size: 3.6,
        look: look.clone(),
        colour: look.colour.to_owned(),
        hollow: false,
        tip: tip(at),
    };
    Layer { arm, flow: vec![line], dots: marked.map(dot).collect() }
}

/// Every so-manieth, so that there are about `most`, beginning with the one at `from`, and the last.
fn thinned<T>(points: &[T], most: usize, from: usize) -> impl Iterator<Item = &T> {
    let every = points.len().div_ceil(most.max(1)).max(1);
    let last = points.len().saturating_sub(1);
    let kept = move |idx: usize| idx % every == from % every || idx == last;
    points.iter().enumerate().filter(move |(idx, _)| kept(*idx)).map(|(_, point)| point)
}

fn one_line(
    line: &Line,
    curves: &Curves,
    arm: usize,
    (n_alike, summed_up): (usize, bool),
    axis: &Axis,
) -> Layer {
    let look = Look::of(arm);
    let place = |point: &Point| (point.x, axis.place(point.y));
    let n_lines = curves.lines.len().max(1);
    let colour = if summed_up { faint(look.colour) } else { look.colour.to_owned() };
    let (width, size) = match (summed_up, n_alike > 1) {
        (true, _) => (0.8, 1.5),
        (false, true) => (1.1, 2.4),
        (false, false) => (1.8, 3.0),
    };
    let all_points = if summed_up { ALL_POINTS / 4 } else { ALL_POINTS };
    let path = Flow::Line {
        points: thinned(&line.points, (all_points / n_lines).max(12), 0).map(place).collect(),
        colour: colour.clone(),
        width,
        // Dashes of a jagged line that is not meant to be followed would only be noise.
        dash: look.dash.filter(|_| !summed_up),
    };
    // Of very many runs that are summed up, only where they end.
    let last = line.points.len().saturating_sub(1);
    let (most, from) = match ALL_MARKS / n_lines {
        0..=4 if summed_up => (1, last),
        most => (most.clamp(2, MOST_MARKS), 0),
    };
    let marked = thinned(&line.points, most, from);
    let dot = |point: &Point| Dot {
        at: place(point),
        size,
        look: look.clone(),
        colour: colour.clone(),
        hollow: false,
        tip: tip(line, curves, point),
    };
    Layer { arm, flow: vec![path], dots: marked.map(dot).collect() }
}

fn tip(line: &Line, curves: &Curves, point: &Point) -> String {
    let mut words = who(&line.arm, line.seed.as_deref(), line.run.as_deref());
    words += &format!("\nstep {}: {}", number::whole(point.x), number::rate(point.y));
    if let Some(interval) = point.interval {
        words += &format!(" {}", number::interval(interval));
    }
    if let Some(at) = point.measured_at {
        words += &format!("\nmeasured at step {}", number::whole(at));
    }
    if let Some(n) = point.n {
        words += &format!("\nn = {}", curves.counted.words(n));
    }
    words
}

fn of_published_points(published: &Published, arm: usize, axis: &Axis) -> Layer {
    let look = Look::of(arm);
    let dot = |point: &[f64; 2]| Dot {
        at: (point[0], axis.place(point[1])),
        size: 5.5,
        look: look.clone(),
        colour: look.colour.to_owned(),
        hollow: true,
        tip: format!(
            "{}, published: {} at step {}\n{}",
            super::label(&published.arm, 80),
            number::significant(point[1], 3),
            number::whole(point[0]),
            super::label(&published.source, 200)
        ),
    };
    Layer { arm, flow: Vec::new(), dots: published.points.iter().map(dot).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_the_last_and_begins_where_it_is_told() {
        let points: Vec<u32> = (0..10).collect();
        assert_eq!(thinned(&points, 4, 0).copied().collect::<Vec<_>>(), [0, 3, 6, 9]);
        assert_eq!(thinned(&points, 4, 1).copied().collect::<Vec<_>>(), [1, 4, 7, 9]);
        assert_eq!(thinned(&points, 99, 5).count(), 10);
        assert_eq!(thinned(&points[..0], 4, 0).count(), 0);
    }
}

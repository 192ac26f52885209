//! Heat maps: error rates over two things that a sweep changed, a cell for each combination.

use kuva::render::color::Color;
use kuva::render::render::{Primitive, Scene, TextAnchor};

use super::frame::{GREY, TICK_SIZE, shown, text_width};
use super::layers::{open, tip, words};
use super::{Cell, Grid};
use crate::number;

/// Sides of a cell.
const CELL: [f64; 2] = [64.0, 38.0];
const TOP: f64 = 14.0;
/// Size of the names of axes.
const NAME_SIZE: f64 = 13.0;
/// Runs that a cell names where the mouse points.
const MOST_RUNS: usize = 6;
/// Shades that the key shows, besides that of zero.
const N_SHADES: usize = 6;

pub(super) fn scene(grid: &Grid) -> Scene {
    let tick = f64::from(TICK_SIZE);
    let shades = Shades::of(grid.cells.iter().map(|cell| cell.median));
    let widest =
        grid.y.values.iter().map(|it| text_width(&shown(it, 18), tick)).fold(0.0, f64::max);
    let left = 44.0 + widest;
    let n_columns = grid.x.values.len();
    let widest =
        grid.x.values.iter().map(|it| text_width(&shown(it, 18), tick)).fold(0.0, f64::max);
    let cell_width = CELL[0].max((widest + 8.0).min(130.0));
    let size = [cell_width * n_columns as f64, CELL[1] * grid.y.values.len() as f64];
    let bottom = TOP + size[1];
    let mut scene = Scene::new((left + size[0] + 20.0).max(430.0), bottom + 112.0);
    for row in 0..grid.y.values.len() {
        for column in 0..n_columns {
            // The lowest value stands at the bottom, as on an axis.
            let y = bottom - CELL[1] * (row + 1) as f64;
            let place = [left + cell_width * column as f64, y, cell_width, CELL[1]];
            let cell = grid.cells.iter().find(|cell| (cell.column, cell.row) == (column, row));
            match cell {
                Some(cell) => draw_cell(&mut scene, grid, (cell, shades), place),
                None => draw_missing(&mut scene, grid, [column, row], place),
            }
        }
    }
    for (idx, value) in grid.x.values.iter().enumerate() {
        let x = left + cell_width * (idx as f64 + 0.5);
        scene.add(words(x, bottom + 15.0, shown(value, 18), TextAnchor::Middle, TICK_SIZE));
    }
    for (idx, value) in grid.y.values.iter().enumerate() {
        let y = bottom - CELL[1] * (idx as f64 + 0.5) + 4.0;
        scene.add(words(left - 7.0, y, shown(value, 18), TextAnchor::End, TICK_SIZE));
    }
    let x_words = fitting(&grid.x.path, scene.width - left);
    // In the middle of the columns where there is room, else from the first of them on.
    let (x, anchor) = match text_width(&x_words, NAME_SIZE) / 2.0 < size[0] / 2.0 + left {
        true => (left + size[0] / 2.0, TextAnchor::Middle),
        false => (left, TextAnchor::Start),
    };
    scene.add(words(x, bottom + 36.0, x_words, anchor, 13));
    let y_words = fitting(&grid.y.path, size[1] + 2.0 * TOP);
    let mut y_words = words(16.0, TOP + size[1] / 2.0, y_words, TextAnchor::Middle, 13);
    if let Primitive::Text { rotate, .. } = &mut y_words {
        *rotate = Some(-90.0);
    }
    scene.add(y_words);
    key(&mut scene, shades, left, bottom + 60.0);
    scene
}

/// The end of a path that has so much room: its last words say what it is.
fn fitting(path: &str, room: f64) -> String {
    let path = shown(path, 80);
    let mut rest = path.as_str();
    while let Some((_, shorter)) = rest.split_once('.') {
        if text_width(rest, NAME_SIZE) <= room {
            break;
        }
        rest = shorter;
    }
    if rest.len() == path.len() { path } else { format!("…{rest}") }
}

/// Which rate is how dark: by logarithms, from the lowest median that is not zero to the highest.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Shades {
    low: f64,
    high: f64,
}

impl Shades {
    fn of(medians: impl Iterator<Item = f64>) -> Self {
        let logs = medians.filter(|median| *median > 0.0).map(f64::log10);
        let ends = logs.fold(None, |ends: Option<(f64, f64)>, at| match ends {
            None => Some((at, at)),
            Some((low, high)) => Some((low.min(at), high.max(at))),
        });
        let (low, high) = ends.unwrap_or((-1.0, 0.0));
        // Rates that hardly differ are not made to look as if they did.
        let room = ((0.5 - (high - low)) / 2.0).max(0.0);
        Self { low: low - room, high: high + room }
    }

    /// From 0, as light as a rate that is not zero can be, to 1.
    fn darkness(self, rate: f64) -> f64 {
        let at = (rate.log10() - self.low) / (self.high - self.low);
        (0.1 + 0.9 * at).clamp(0.1, 1.0)
    }

    /// From white over blue to nearly black: the lightness falls all the way, so that a print in grey says the same.
    fn colour(self, rate: f64) -> Color {
        if rate <= 0.0 {
            return Color::Rgb(255, 255, 255);
        }
        let at = self.darkness(rate);
        let between = |from: [f64; 3], to: [f64; 3], share: f64| {
            let mix =
                |idx: usize| (from[idx] + share * (to[idx] - from[idx])).round().clamp(0.0, 255.0);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
            let mix = |idx: usize| mix(idx) as u8;
            Color::Rgb(mix(0), mix(1), mix(2))
        };
        let [light, blue, dark] = [[240.0, 246.0, 252.0], [0.0, 114.0, 178.0], [4.0, 24.0, 56.0]];
        match at < 0.6 {
            true => between(light, blue, at / 0.6),
            false => between(blue, dark, (at - 0.6) / 0.4),
        }
    }

    /// Rates of the key, from zero to the darkest.
    fn rates(self) -> Vec<f64> {
        let step = (self.high - self.low) / (N_SHADES - 1) as f64;
        let rate = |idx: usize| 10_f64.powf(self.low + step * idx as f64).min(1.0);
        std::iter::once(0.0).chain((0..N_SHADES).map(rate)).collect()
    }
}

fn square(scene: &mut Scene, [x, y, width, height]: [f64; 4], fill: Color) {
    let (stroke, stroke_width, opacity) = (Some(Color::from(GREY)), Some(0.7), None);
    scene.add(Primitive::Rect { x, y, width, height, fill, stroke, stroke_width, opacity });
}

fn draw_cell(
    scene: &mut Scene,
    grid: &Grid,
    (cell, shades): (&Cell, Shades),
    [x, y, width, height]: [f64; 4],
) {
    let mut said = format!("{}\n", where_is(grid, [cell.column, cell.row]));
    if cell.rates.len() > 1 {
        said += &format!(
            "median {} of {} runs, {} of them without an error {}\n",
            number::rate(cell.median),
            cell.rates.len(),
            cell.flawless.n_some,
            number::interval(cell.flawless.interval)
        );
    }
    let line =
        |rate: &super::Measured| format!("run {}: {}", super::label(&rate.run, 40), rate.words());
    let lines: Vec<String> = cell.rates.iter().take(MOST_RUNS).map(line).collect();
    said += &lines.join("\n");
    if cell.rates.len() > MOST_RUNS {
        said += &format!("\nand {} more", cell.rates.len() - MOST_RUNS);
    }
    tip(scene, (x + width / 2.0, y + height / 2.0), said);
    square(scene, [x, y, width, height], shades.colour(cell.median));
    let ink = if cell.median > 0.0 && shades.darkness(cell.median) > 0.42 {
        "#ffffff"
    } else {
        "#000000"
    };
    let mut say = |at: f64, text: String, size: u32| {
        let mut text = words(x + width / 2.0, y + at, text, TextAnchor::Middle, size);
        if let Primitive::Text { color, .. } = &mut text {
            *color = Some(Color::from(ink));
        }
        scene.add(text);
    };
    say(height / 2.0 + 1.0, number::rate(cell.median), TICK_SIZE);
    say(height / 2.0 + 13.0, number::counted(cell.rates.len() as u64, "run", "runs"), 9);
    scene.add(Primitive::GroupEnd);
}

/// A cell without a measured run: crossed out, in no shade of any rate.
fn draw_missing(scene: &mut Scene, grid: &Grid, at: [usize; 2], [x, y, width, height]: [f64; 4]) {
    let said = format!("{}\nno measured run", where_is(grid, at));
    tip(scene, (x + width / 2.0, y + height / 2.0), said);
    square(scene, [x, y, width, height], Color::from("#ffffff"));
    for (y1, y2) in [(y, y + height), (y + height, y)] {
        let (stroke, stroke_width) = (Color::from(GREY), 0.7);
        let stroke_dasharray = Some("2 3".to_owned());
        scene.add(Primitive::Line {
            x1: x,
            y1,
            x2: x + width,
            y2,
            stroke,
            stroke_width,
            stroke_dasharray,
        });
    }
    scene.add(Primitive::GroupEnd);
}

fn where_is(grid: &Grid, [column, row]: [usize; 2]) -> String {
    let one = |axis: &super::Axis, idx: usize| {
        let value = axis.values.get(idx).map_or("?", String::as_str);
        format!("{} = {}", super::label(&axis.path, 60), super::label(value, 40))
    };
    format!("{}, {}", one(&grid.x, column), one(&grid.y, row))
}

/// What the shades mean.
fn key(scene: &mut Scene, shades: Shades, left: f64, top: f64) {
    open(scene, "class=\"key\"");
    let title = "error rate, median of the runs".to_owned();
    scene.add(words(left, top + 4.0, title, TextAnchor::Start, TICK_SIZE));
    for (idx, rate) in shades.rates().into_iter().enumerate() {
        let x = left + 46.0 * idx as f64;
        square(scene, [x, top + 10.0, 46.0, 12.0], shades.colour(rate));
        scene.add(words(x + 23.0, top + 36.0, number::rate(rate), TextAnchor::Middle, 9));
    }
    scene.add(Primitive::GroupEnd);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_path_keeps_its_end() {
        assert_eq!(fitting("train.lr", 200.0), "train.lr");
        let cut = fitting("train.freeze.blocks.1.attn.k.weight.until", 110.0);
        assert_eq!(cut, "…k.weight.until");
        assert_eq!(fitting("verylongwithoutanypoint", 10.0), "verylongwithoutanypoint");
    }

    #[test]
    fn a_higher_rate_is_darker_in_colour_and_in_grey() {
        let shades = Shades::of([0.0, 1e-6, 0.5, 1e-3].into_iter());
        let grey = |rate: f64| match shades.colour(rate) {
            Color::Rgb(r, g, b) => {
                0.299 * f64::from(r) + 0.587 * f64::from(g) + 0.114 * f64::from(b)
            }
            _ => f64::NAN,
        };
        let rates = [0.0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 0.5];
        for two in rates.windows(2) {
            assert!(grey(two[0]) > grey(two[1]) + 4.0, "{two:?}");
        }
    }

    #[test]
    fn shades_reach_from_the_lowest_median_to_the_highest() {
        let shades = Shades::of([0.0, 0.01, 0.1].into_iter());
        assert!(
            (shades.darkness(0.01) - 0.1).abs() < 1e-9 && (shades.darkness(0.1) - 1.0).abs() < 1e-9
        );
        let rates = shades.rates();
        assert!(rates.len() == N_SHADES + 1 && rates[0] == 0.0 && (rates[6] - 0.1).abs() < 1e-12);
        // Nearly the same rates look nearly the same.
        let near = Shades::of([0.20, 0.21].into_iter());
        assert!(near.darkness(0.21) - near.darkness(0.20) < 0.1);
        assert_eq!(Shades::of(std::iter::empty()), Shades::of([0.0].into_iter()));
    }
}
